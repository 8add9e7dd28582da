//! The first admin: made once, by who holds the secret, and never again.

use crate::access_ledger::kinds;
use crate::accounts::{FIRST, SECOND, encoded};
use crate::browser::{Browser, journey};
use crate::fleet::{Lab, quick};
use crate::http::{Answer, ask, tcp};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::operator::Role;
use fettle_server::Server;
use fettle_wire::api::{AccountRow, AddAccount, ApiProblem, Page, Secret, SetUp};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn secret(data: &Path) -> String {
    std::fs::read_to_string(data.join("setup.secret")).unwrap().trim().to_owned()
}

fn set_up(lab: &Lab, headers: &[(&str, &str)], secret: &str, name: &str) -> Answer {
    let password = encoded(FIRST);
    let body = format!("secret={secret}&name={name}&password={password}&again={password}");
    form(lab, "/setup", &[&[HERE], headers].concat(), &body)
}

fn shown(lab: &Lab) -> Answer {
    ask(tcp(lab.operator).unwrap(), "GET", "/setup", &[], b"").unwrap()
}

#[test]
fn the_secret_makes_one_admin_and_then_the_page_is_gone_for_good() {
    let mut lab = Lab::start();
    let file = lab.data().join("setup.secret");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(shown(&lab).status, 200);
    assert_eq!(set_up(&lab, &[], "not the secret", "anna").status, 401);
    let held = secret(&lab.data());
    // What does not pass leaves it open.
    let body = format!("secret={held}&name=anna&password=short&again=short");
    assert_eq!(form(&lab, "/setup", &[HERE], &body).status, 422);
    assert_eq!(set_up(&lab, &[], &held, "admin").status, 422);
    // A server that is killed before anybody came has the same secret afterwards.
    lab.restart();
    assert_eq!(secret(&lab.data()), held);
    let answer = set_up(&lab, &[], &held, "anna");
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(page(&lab, "/ledger", &cookie).status, 200);
    assert!(!file.exists(), "the secret is worth nothing any more");
    let closed = |lab: &Lab| {
        assert_eq!(shown(lab).status, 404);
        assert_eq!(set_up(lab, &[], &held, "eve").status, 404);
        let differ = format!("secret={held}&name=eve&password={}&again=x", encoded(FIRST));
        assert_eq!(form(lab, "/setup", &[HERE], &differ).status, 404);
        assert_eq!(set_up(lab, &[], &lab.token, "eve").status, 404);
    };
    closed(&lab);
    lab.restart();
    closed(&lab);
    assert!(!file.exists());
    // Also when nobody is left who could come.
    lab.post::<AccountRow>("/accounts/anna/disable", &());
    closed(&lab);
    lab.restart();
    closed(&lab);
    assert_eq!(lab.call("DELETE", "/operators/anna", b"").status, 204);
    lab.restart();
    closed(&lab);
    let all: Page<AccountRow> = lab.get("/accounts");
    assert_eq!(all.items.len(), 1);
    let told = kinds(&lab, &["account.", "session.begun", "setting.set"]);
    let told: Vec<_> = told.iter().filter(|(_, subject, _)| subject != "server-term").collect();
    let is = |kind: &str, subject: &str, by: &str| {
        told.iter().filter(|it| it.0 == kind && it.1 == subject && it.2 == by).count()
    };
    assert_eq!(is("account.added", "anna", "setup"), 1);
    assert_eq!(is("setting.set", "set-up-closed", "setup"), 1);
    assert_eq!(is("session.begun", "anna", "setup"), 1);
}

#[test]
fn of_many_who_set_up_at_once_one_makes_an_account() {
    let lab = Lab::start();
    let held = secret(&lab.data());
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let (lab, held) = (&lab, &held);
        let racers = (0..6)
            .map(|n| scope.spawn(move || set_up(lab, &[], held, &format!("racer-{n}")).status));
        let racers: Vec<_> = racers.collect();
        racers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 303).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| [303, 404].contains(s)), "{statuses:?}");
    let all: Page<AccountRow> = lab.get("/accounts");
    assert_eq!(all.items.len(), 1);
}

#[test]
fn the_servers_token_sets_up_from_its_own_machine_only() {
    let lab = Lab::start();
    let proxied = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(set_up(&lab, &proxied, &lab.token, "anna").status, 401);
    let vera = lab.add("vera", &[Role::Admin]);
    assert_eq!(set_up(&lab, &[], &vera, "anna").status, 401, "an operator's token is none");
    assert_eq!(set_up(&lab, &[], &lab.token, "vera").status, 409, "a name is one person's");
    assert_eq!(set_up(&lab, &[], &lab.token, "anna").status, 303);
}

#[test]
fn an_account_that_an_admin_adds_first_closes_the_set_up_too() {
    let lab = Lab::start();
    let held = secret(&lab.data());
    let password = Secret(SECOND.to_owned());
    let asked = AddAccount { name: "anna".into(), roles: [Role::Viewer].into(), password };
    lab.post::<AccountRow>("/accounts", &asked);
    assert_eq!(set_up(&lab, &[], &held, "eve").status, 404);
    assert!(!lab.data().join("setup.secret").exists());
}

/// Sets up as a program does.
fn call(lab: &Lab, headers: &[(&str, &str)], secret: &str, name: &str, password: &str) -> Answer {
    let asked = SetUp {
        secret: Secret(secret.to_owned()),
        name: name.to_owned(),
        password: Secret(password.to_owned()),
    };
    let body = serde_json::to_vec(&asked).unwrap();
    ask(tcp(lab.operator).unwrap(), "POST", "/api/v1/setup", headers, &body).unwrap()
}

#[test]
fn a_program_makes_the_first_admin_by_a_call_without_a_token_and_nobody_after_it() {
    let mut lab = Lab::start();
    let held = secret(&lab.data());
    let refused = |answer: Answer| (answer.status, answer.json::<ApiProblem>().code);
    let is = |status: u16, code: &str| (status, code.to_owned());
    let wrong = call(&lab, &[], "not the secret", "anna", FIRST);
    assert_eq!(wrong.header("www-authenticate").as_deref(), Some("Bearer"));
    assert_eq!(refused(wrong), is(401, "wrong-password"));
    assert_eq!(refused(call(&lab, &[], "", "anna", FIRST)), is(401, "wrong-password"));
    assert_eq!(refused(call(&lab, &[], &held, "anna", "short")), is(422, "bad-password"));
    assert_eq!(refused(call(&lab, &[], &held, "admin", FIRST)), is(422, "bad-name"));
    // A token beside it is not looked at: neither does it help, nor does it harm.
    let bearer = format!("Bearer {}", lab.token);
    let known = [("authorization", bearer.as_str()), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(refused(call(&lab, &known, "guessed", "anna", FIRST)), is(401, "wrong-password"));
    let made = call(&lab, &[("authorization", "Bearer nonsense")], &held, "anna", FIRST);
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.header("set-cookie").is_none(), "a program has no session");
    let row: AccountRow = made.json();
    assert_eq!((row.name.as_str(), &row.roles), ("anna", &[Role::Admin].into()));
    assert_eq!((row.sessions, row.has_token, row.state.as_str()), (0, false, "good"));
    assert!(!lab.data().join("setup.secret").exists());
    // She comes by what was set; the call and the page are closed, for good and for everybody.
    let login = format!("name=anna&password={}", encoded(FIRST));
    assert_eq!(form(&lab, "/login", &[HERE], &login).status, 303);
    for _ in 0..2 {
        for given in [&held, &lab.token] {
            assert_eq!(refused(call(&lab, &[], given, "eve", FIRST)), is(404, "setup-closed"));
        }
        assert_eq!(shown(&lab).status, 404);
        lab.restart();
    }
    let told = kinds(&lab, &["account.", "session.begun"]);
    let told: Vec<_> = told.iter().filter(|it| it.2 == "setup").map(|it| it.0.as_str()).collect();
    assert_eq!(told, ["account.added"]);
}

#[test]
fn whoever_guesses_the_secret_by_calls_or_pages_waits_and_nobody_else_does() {
    let lab = Lab::start();
    let stranger = [("x-forwarded-for", "192.0.2.66")];
    let guess = |n: usize| match n % 2 {
        0 => call(&lab, &stranger, "guessed", "eve", FIRST),
        _ => set_up(&lab, &stranger, "guessed", "eve"),
    };
    let slowed = (0..60).map(guess).find(|answer| answer.status == 429).expect("it is slowed");
    assert!(slowed.header("retry-after").is_some());
    let held = secret(&lab.data());
    let slowed = call(&lab, &stranger, &held, "eve", FIRST);
    assert_eq!(slowed.status, 429, "the right one is not heard either, else guessing went on");
    assert_eq!(slowed.json::<ApiProblem>().code, "too-many-tries");
    assert_eq!(call(&lab, &[], &held, "anna", FIRST).status, 201);
}

/// The database as the version before accounts left it.
fn without_accounts(data: &Path) {
    let raw = rusqlite::Connection::open(data.join("fettle.db")).unwrap();
    raw.execute_batch(
        "DROP TABLE sessions; DROP TABLE passwords;
         CREATE TABLE before (name TEXT PRIMARY KEY, roles TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE,
            created_at INTEGER NOT NULL, created_by TEXT NOT NULL, expires_at INTEGER, revoked_at INTEGER, revoked_by TEXT) STRICT;
         INSERT INTO before SELECT name, roles, token_hash, created_at, created_by, expires_at, revoked_at, revoked_by FROM operators;
         DROP TABLE operators; ALTER TABLE before RENAME TO operators;
         ALTER TABLE hosts DROP COLUMN likeness; ALTER TABLE hosts DROP COLUMN judged;
         DELETE FROM schema_version WHERE version > 10;",
    )
    .unwrap();
}

#[test]
fn a_data_directory_of_before_keeps_its_operators_and_can_be_set_up() {
    let mut lab = Lab::start();
    let (olga, rita) = (lab.add("olga", &[Role::Operator]), lab.add("rita", &[Role::Viewer]));
    assert_eq!(lab.call("DELETE", "/operators/rita", b"").status, 204);
    lab.kill();
    std::fs::remove_file(lab.data().join("setup.secret")).unwrap();
    without_accounts(&lab.data());
    lab.restart();
    assert_eq!(lab.call_as(&olga, "x", "GET", "/hosts", b"").status, 200);
    assert_eq!(lab.call_as(&rita, "x", "GET", "/hosts", b"").status, 401);
    assert_eq!(page(&lab, "/hosts", &log_in_as(&lab, &olga)).status, 200);
    let all: Page<AccountRow> = lab.get("/accounts");
    let states: Vec<_> = all
        .items
        .iter()
        .map(|it| (it.name.as_str(), it.state.as_str(), it.has_token, it.password_set_at))
        .collect();
    assert_eq!(states, [("olga", "good", true, None), ("rita", "revoked", true, None)]);
    assert_eq!(set_up(&lab, &[], &secret(&lab.data()), "anna").status, 303);
    // And the ledger still holds from its first entry.
    let verified: serde_json::Value = lab.get("/ledger/verify");
    assert_eq!(verified["broken"], serde_json::Value::Null);
}

#[test]
fn a_set_up_secret_that_is_none_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("setup.secret"), "short\n").unwrap();
    let problem = Server::start(quick(dir.path())).err().unwrap();
    assert!(problem.code == "key-unusable" && problem.message.contains("setup.secret"));
}

#[test]
fn the_first_admin_sets_the_server_up_and_comes_back_by_name_and_password() {
    journey(first_admin);
}

fn first_admin(browser: &mut Browser) {
    let lab = Lab::start();
    let site = format!("http://{}", lab.operator);
    browser.go(&site);
    browser.see("Nobody has an account here yet");
    browser.click("a", "Set up the first one");
    browser.arrive("/setup");
    browser.see("cat /var/lib/fettle/setup.secret");
    let fill = |browser: &mut Browser, secret: &str, name: &str, password: &str, again: &str| {
        browser.eval("document.querySelectorAll('form input').forEach(it => it.value = '')");
        for (field, text) in
            [("#secret", secret), ("#name", name), ("#password", password), ("#again", again)]
        {
            browser.fill(field, text);
        }
        browser.click("button", "Make the first account");
    };
    fill(browser, "guessed", "anna", FIRST, FIRST);
    browser.see("this is not the set-up secret");
    assert_eq!(browser.eval("document.querySelector('#name').value"), "anna");
    let held = secret(&lab.data());
    fill(browser, &held, "anna", FIRST, SECOND);
    browser.see("are not the same");
    fill(browser, &held, "anna", "Password1234", "Password1234");
    browser.see("one of those that are tried first");
    fill(browser, &held, "anna", FIRST, FIRST);
    browser.see("Log out");
    assert_eq!(browser.path(), "/");
    // The page is gone, and the login says nothing of it any more.
    browser.go(&format!("{site}/setup"));
    browser.see("the first set-up is over");
    browser.go(&site);
    browser.click("button", "Log out");
    browser.see("Your token");
    assert!(!browser.text().contains("Nobody has an account"));
    browser.fill("#name", "anna");
    browser.fill("#password", SECOND);
    browser.click("button", "Log in");
    browser.see("do not belong together");
    browser.fill("#name", "anna");
    browser.fill("#password", FIRST);
    browser.click("button", "Log in");
    browser.see("Log out");
    // Her own account: another password, and the one before is none.
    browser.click("a.who", "anna");
    browser.arrive("/account");
    browser.see("this one");
    for (field, text) in [("#current", FIRST), ("#new", SECOND), ("#again", SECOND)] {
        browser.fill(field, text);
    }
    browser.click("button", "Change password");
    browser.see("The password is changed");
    // A colleague is added, disabled on the page of settings, and cannot come.
    let password = Secret(FIRST.to_owned());
    let asked = AddAccount { name: "vera".into(), roles: [Role::Viewer].into(), password };
    lab.post::<AccountRow>("/accounts", &asked);
    browser.go(&format!("{site}/settings"));
    browser.click("form[action='/settings/accounts/vera/disable'] button", "Disable");
    browser.see("disabled");
    browser.click("button", "Log out");
    browser.see("Your token");
    browser.fill("#name", "vera");
    browser.fill("#password", FIRST);
    browser.click("button", "Log in");
    browser.see("the account of vera is disabled");
}
