//! Accounts: coming by name and password, and what ends that.

use crate::access_ledger::kinds;
use crate::fleet::Lab;
use crate::http::{Answer, ask, tcp};
use crate::site::{HERE, form, log_in_as, page};
use argon2::PasswordHasher as _;
use fettle_core::operator::Role;
use fettle_wire::api::{
    AccountRow, AddAccount, ApiProblem, ApprovePlan, ChangePassword, MakePlan, OwnAccount, Page,
    PlanDetail, Secret, SetPassword,
};
use serde_json::Value;

pub(crate) const FIRST: &str = "a quiet river at dawn";
pub(crate) const SECOND: &str = "seven grey herons & a boat";

/// Adds an account with the password [`FIRST`].
pub(crate) fn add(lab: &Lab, name: &str, roles: &[Role]) -> AccountRow {
    let password = Secret(FIRST.to_owned());
    let asked =
        AddAccount { name: name.to_owned(), roles: roles.iter().copied().collect(), password };
    lab.post("/accounts", &asked)
}

pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Tries to log in, with headers.
pub(crate) fn tried(lab: &Lab, headers: &[(&str, &str)], name: &str, password: &str) -> Answer {
    let headers = [&[HERE], headers].concat();
    form(lab, "/login", &headers, &format!("name={name}&password={}", encoded(password)))
}

/// All cookies of an answer, as a browser would send them.
pub(crate) fn cookies(answer: &Answer) -> String {
    let set = answer.head.lines().filter_map(|l| l.split_once(": "));
    let set = set.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.map(|(_, value)| value.split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
}

pub(crate) fn log_in(lab: &Lab, name: &str, password: &str) -> String {
    let answer = tried(lab, &[], name, password);
    assert_eq!(answer.status, 303, "{}", answer.text());
    cookies(&answer)
}

pub(crate) fn sent(lab: &Lab, path: &str, cookie: &str, body: &str) -> Answer {
    form(lab, path, &[HERE, ("cookie", cookie)], body)
}

#[test]
fn a_name_and_its_password_let_in_and_the_same_person_comes_by_a_token() {
    let lab = Lab::start();
    let row = add(&lab, "vera", &[Role::Viewer]);
    assert_eq!((row.state.as_str(), row.has_token, row.last_log_in_at), ("good", false, None));
    for (name, password) in [("vera", SECOND), ("vera", ""), ("nobody", FIRST), (FIRST, FIRST)] {
        let answer = tried(&lab, &[], &encoded(name), password);
        assert_eq!(answer.status, 401);
        assert!(answer.text().contains("name and password do not belong together"));
        assert!(answer.header("set-cookie").is_none() && !answer.text().contains(FIRST));
    }
    let cookie = log_in(&lab, "Vera", FIRST);
    assert_eq!(page(&lab, "/hosts", &cookie).status, 200);
    let token: Value = lab.post("/operators/vera/token", &serde_json::json!({}));
    let token = token["token"].as_str().unwrap();
    let by_token = page(&lab, "/account", &log_in_as(&lab, token)).text();
    assert!(by_token.contains("vera") && by_token.contains("End all others"), "{by_token}");
    let own: OwnAccount = lab.call_as(token, "x", "GET", "/account", b"").json();
    let ways: Vec<_> = own.sessions.iter().map(|it| it.way.word()).collect();
    assert_eq!((own.name.as_str(), ways), ("vera", vec!["token", "password"]));
    assert!(own.account.unwrap().last_log_in_at.is_some());
}

#[test]
fn whoever_comes_by_password_may_what_the_role_says_and_no_more() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let cookie = log_in(&lab, "vera", FIRST);
    let answer = sent(&lab, "/plans", &cookie, "policy=web");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("needs the role operator"), "{}", answer.text());
    assert_eq!(page(&lab, "/ledger", &cookie).status, 403);
    assert!(!page(&lab, "/settings", &cookie).text().contains("id=\"accounts\""));
    // The API takes a session for looking only.
    let headers = [("cookie", cookie.as_str()), HERE];
    let asked = |method, path, body: &[u8]| {
        ask(tcp(lab.operator).unwrap(), method, path, &headers, body).unwrap().status
    };
    assert_eq!(asked("GET", "/api/v1/account", b""), 200);
    assert_eq!(asked("GET", "/api/v1/accounts", b""), 403);
    assert_eq!(asked("DELETE", "/api/v1/account/sessions", b""), 401);
}

#[test]
fn a_changed_password_ends_every_session_but_the_one_that_changed_it_gets_another() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let (here, there) = (log_in(&lab, "vera", FIRST), log_in(&lab, "vera", FIRST));
    let change = |current: &str, new: &str, again: &str| {
        let (current, new, again) = (encoded(current), encoded(new), encoded(again));
        sent(
            &lab,
            "/account/password",
            &here,
            &format!("current={current}&new={new}&again={again}"),
        )
    };
    for (current, new, again, told) in [
        (SECOND, SECOND, SECOND, "do not belong together"),
        (FIRST, SECOND, "something else", "not the same"),
        (FIRST, "too short", "too short", "needs at least 12"),
        (FIRST, "vera is my name", "vera is my name", "holds the name"),
        (FIRST, "Password1234", "Password1234", "tried first"),
    ] {
        let answer = change(current, new, again);
        assert!((400..500).contains(&answer.status), "{told}: {}", answer.status);
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert!(!answer.text().contains(new), "a password is on the page");
    }
    assert_eq!(page(&lab, "/hosts", &there).status, 200);
    let answer = change(FIRST, SECOND, SECOND);
    assert_eq!(answer.status, 303, "{}", answer.text());
    let new = cookies(&answer);
    assert_eq!(page(&lab, "/hosts", &new).status, 200);
    for old in [&here, &there] {
        assert_eq!(page(&lab, "/hosts", old).status, 303, "it has ended");
    }
    assert_eq!(tried(&lab, &[], "vera", FIRST).status, 401);
    log_in(&lab, "vera", SECOND);
}

#[test]
fn an_admins_reset_and_a_disabling_end_everything_at_once() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let token: Value = lab.post("/operators/vera/token", &serde_json::json!({}));
    let token = token["token"].as_str().unwrap();
    let both = || [log_in(&lab, "vera", SECOND), log_in_as(&lab, token)];
    let old = log_in(&lab, "vera", FIRST);
    let set = SetPassword { password: Secret(SECOND.to_owned()) };
    let body = serde_json::to_vec(&set).unwrap();
    assert_eq!(lab.call("PUT", "/accounts/vera/password", &body).status, 200);
    assert_eq!(page(&lab, "/hosts", &old).status, 303);
    let open = both();
    let row: AccountRow = lab.post("/accounts/vera/disable", &());
    assert_eq!((row.state.as_str(), row.sessions), ("disabled", 0));
    for cookie in &open {
        assert_eq!(page(&lab, "/hosts", cookie).status, 303);
    }
    let answer = lab.call_as(token, "x", "GET", "/hosts", b"");
    assert_eq!(
        (answer.status, answer.json::<ApiProblem>().code.as_str()),
        (401, "account-disabled")
    );
    // Only who knows the password is told that the account is there, and disabled.
    let told = tried(&lab, &[], "vera", SECOND);
    assert!(told.status == 401 && told.text().contains("disabled"), "{}", told.text());
    assert!(!tried(&lab, &[], "vera", FIRST).text().contains("disabled"));
    assert_eq!(form(&lab, "/login", &[HERE], &format!("token={token}")).status, 401);
    assert_eq!(lab.refused("POST", "/accounts/vera/disable", b"").0, 409);
    let listed: Value = lab.get("/operators");
    assert_eq!(listed["items"][0]["state"], "disabled");
    let row: AccountRow = lab.post("/accounts/vera/enable", &());
    assert_eq!(row.state, "good");
    for cookie in &open {
        assert_eq!(page(&lab, "/hosts", cookie).status, 303, "what has ended stays so");
    }
    for cookie in both() {
        assert_eq!(page(&lab, "/hosts", &cookie).status, 200);
    }
    assert_eq!(lab.refused("POST", "/accounts/vera/enable", b"").0, 409);
    assert_eq!(lab.refused("POST", "/accounts/nobody/disable", b"").0, 404);
    // Whoever is revoked has no password any more, and nobody gives them one.
    assert_eq!(lab.call("DELETE", "/operators/vera", b"").status, 204);
    assert_eq!(tried(&lab, &[], "vera", SECOND).status, 401);
    assert_eq!(lab.refused("PUT", "/accounts/vera/password", &body).0, 409);
}

#[test]
fn approvals_of_who_is_disabled_do_not_count_and_an_expired_token_takes_no_password_away() {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", crate::fleet::TRACKER.as_bytes());
    let policy = crate::fleet::POLICY.replace("name = \"web\"", "name = \"web\"\napprovals = 1");
    lab.post_bytes("/policies", policy.as_bytes());
    lab.host("web-1", "canary");
    let token = lab.add("paul", &[Role::Approver]);
    let set = serde_json::to_vec(&SetPassword { password: Secret(FIRST.to_owned()) }).unwrap();
    assert_eq!(lab.call("PUT", "/accounts/paul/password", &set).status, 200);
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
    let asked = ApprovePlan { digest: plan.digest, comment: String::new() };
    let body = serde_json::to_vec(&asked).unwrap();
    let path = format!("/plans/{}/approvals", plan.number);
    assert_eq!(lab.call_as(&token, "x", "POST", &path, &body).status, 201);
    let given = || lab.get::<PlanDetail>(&format!("/plans/{}", plan.number)).approvals.given;
    assert_eq!(given(), 1);
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.execute("UPDATE operators SET expires_at = 5 WHERE name = 'paul'", []).unwrap();
    assert_eq!(given(), 1, "he is still here");
    assert_eq!(page(&lab, "/hosts", &log_in(&lab, "paul", FIRST)).status, 200);
    assert_eq!(lab.call_as(&token, "x", "GET", "/hosts", b"").status, 401);
    lab.post::<AccountRow>("/accounts/paul/disable", &());
    assert_eq!(given(), 0);
    lab.post::<AccountRow>("/accounts/paul/enable", &());
    assert_eq!(given(), 1);
}

#[test]
fn guessing_is_slowed_with_a_time_to_come_back_and_never_for_a_browser_that_is_known() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    add(&lab, "olga", &[Role::Operator]);
    let hers = log_in(&lab, "vera", FIRST);
    let stranger = [("x-forwarded-for", "192.0.2.66")];
    let mut tries = (0..12).map(|_| tried(&lab, &stranger, "vera", "not her password"));
    let slowed = tries.find(|answer| answer.status == 429).expect("it is slowed");
    let seconds: i64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(slowed.text().contains("the next is heard in"), "{}", slowed.text());
    // Nor is the right password heard from there: else guessing went on.
    assert_eq!(tried(&lab, &stranger, "vera", FIRST).status, 429);
    let elsewhere = [("x-forwarded-for", "198.51.100.1")];
    // Her own browser is known, and somebody else is somebody else.
    let known = [("cookie", hers.as_str())];
    assert_eq!(tried(&lab, &known, "vera", FIRST).status, 303);
    assert_eq!(tried(&lab, &elsewhere, "olga", FIRST).status, 303);
    // Her mark is worth nothing for another account.
    for _ in 0..6 {
        tried(&lab, &known, "olga", "not her password");
    }
    assert_eq!(tried(&lab, &known, "olga", FIRST).status, 429);
    // The API, too, slows down who guesses what the person has to know.
    let token: Value = lab.post("/operators/olga/token", &serde_json::json!({}));
    let change = ChangePassword { current: Secret("wrong".into()), new: Secret(SECOND.into()) };
    let body = serde_json::to_vec(&change).unwrap();
    let asked =
        || lab.call_as(token["token"].as_str().unwrap(), "x", "PUT", "/account/password", &body);
    let refused = asked();
    let code = refused.json::<ApiProblem>().code;
    assert_eq!((refused.status, code.as_str()), (401, "wrong-password"));
    assert_eq!(refused.header("www-authenticate").as_deref(), Some("Bearer"));
    // Whoever has her token and not her password is in the ledger.
    let told = kinds(&lab, &["access.refused"]);
    let told: Vec<_> = told.iter().map(|it| (it.1.as_str(), it.2.as_str())).collect();
    assert_eq!(told, [("/api/v1/account/password", "operator:olga")]);
    let slowed = (0..12).map(|_| asked()).find(|answer| answer.status == 429).unwrap();
    assert_eq!(slowed.json::<ApiProblem>().code, "too-many-tries");
    assert!(slowed.header("retry-after").is_some());
}

#[test]
fn a_person_sees_their_sessions_and_ends_the_others() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let agent = [("user-agent", "Some Browser 1"), ("x-forwarded-for", "192.0.2.7")];
    let (here, there) = (cookies(&tried(&lab, &agent, "vera", FIRST)), log_in(&lab, "vera", FIRST));
    let text = page(&lab, "/account", &here).text();
    assert!(text.contains("Some Browser 1") && text.contains("192.0.2.7"), "{text}");
    assert_eq!(sent(&lab, "/account/sessions/end", &here, "").status, 303);
    assert_eq!(page(&lab, "/account", &here).status, 200);
    assert_eq!(page(&lab, "/account", &there).status, 303);
    assert!(!page(&lab, "/account", &here).text().contains("End all others"));
}

#[test]
fn a_session_ends_when_it_is_not_used_and_when_its_day_is_over() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    let earlier = |column: &str, hours: i64| {
        let micros = hours * 3_600_000_000;
        raw.execute(&format!("UPDATE sessions SET {column} = {column} - {micros}"), []).unwrap();
    };
    let cookie = log_in(&lab, "vera", FIRST);
    earlier("seen_at", 1);
    assert_eq!(page(&lab, "/hosts", &cookie).status, 200);
    // It was used, which is written down.
    earlier("seen_at", 1);
    assert_eq!(page(&lab, "/hosts", &cookie).status, 200);
    earlier("seen_at", 2);
    assert_eq!(page(&lab, "/hosts", &cookie).status, 303);
    let cookie = log_in(&lab, "vera", FIRST);
    earlier("began_at", 12);
    assert_eq!(page(&lab, "/hosts", &cookie).status, 303);
}

#[test]
fn a_session_outlives_a_restart_and_by_tls_its_cookie_is_the_hosts_own() {
    let mut lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let cookie = log_in(&lab, "vera", FIRST);
    assert!(cookie.starts_with("fettle-session="), "{cookie}");
    lab.restart();
    assert_eq!(page(&lab, "/hosts", &cookie).status, 200);
    let by_tls = [("x-forwarded-proto", "https")];
    let headers = [&[("origin", "https://localhost")], &by_tls[..]].concat();
    let body = format!("name=vera&password={}", encoded(FIRST));
    let answer = form(&lab, "/login", &headers, &body);
    for (name, value) in answer.head.lines().filter_map(|l| l.split_once(": ")) {
        if name.eq_ignore_ascii_case("set-cookie") {
            assert!(value.starts_with("__Host-fettle-") && value.ends_with("; Secure"), "{value}");
            assert!(value.contains("HttpOnly") && value.contains("SameSite=Strict"), "{value}");
        }
    }
    let secure = cookies(&answer);
    assert_eq!(page(&lab, "/hosts", &secure).status, 200);
    // Where a neighbour planted another, the host's own counts.
    let planted = format!("{}; {secure}", cookie.replace("fettle-session=", "fettle-session=0"));
    assert_eq!(page(&lab, "/hosts", &planted).status, 200);
    assert_eq!(page(&lab, "/hosts", &secure.replace("__Host-", "")).status, 303);
}

#[test]
fn a_password_that_was_hashed_with_other_parameters_is_hashed_anew_at_the_next_log_in() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    let kept =
        || -> String { raw.query_row("SELECT phc FROM passwords", [], |row| row.get(0)).unwrap() };
    assert!(kept().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", kept());
    // `FIRST`, as a version before might have kept it.
    let params = argon2::Params::new(8 * 1024, 1, 1, None).unwrap();
    let hasher = argon2::Argon2::new(Default::default(), Default::default(), params);
    let old = hasher.hash_password_with_salt(FIRST.as_bytes(), &[7; 16]).unwrap();
    raw.execute("UPDATE passwords SET phc = $1", [old.to_string()]).unwrap();
    let cookie = log_in(&lab, "vera", FIRST);
    assert!(kept().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", kept());
    assert_eq!(page(&lab, "/hosts", &cookie).status, 200, "the password is the same");
    log_in(&lab, "vera", FIRST);
}

#[test]
fn the_ledger_says_what_was_done_to_accounts_and_never_a_password() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let cookie = log_in(&lab, "vera", FIRST);
    tried(&lab, &[], "vera", SECOND);
    let refused = || kinds(&lab, &["session.refused"]).len() == 1;
    crate::fleet::until("what was refused", || refused().then_some(()));
    tried(&lab, &[], "nobody-here", SECOND);
    let set = serde_json::to_vec(&SetPassword { password: Secret(SECOND.to_owned()) }).unwrap();
    assert_eq!(lab.call("PUT", "/accounts/vera/password", &set).status, 200);
    let own = log_in(&lab, "vera", SECOND);
    sent(&lab, "/logout", &own, "");
    lab.post::<AccountRow>("/accounts/vera/disable", &());
    lab.post::<AccountRow>("/accounts/vera/enable", &());
    let told = kinds(&lab, &["account.", "session."]);
    let expected = [
        ("account.added", "vera", "operator:alice"),
        ("session.begun", "vera", "operator:vera"),
        ("session.refused", "vera", "server"),
        ("account.password-set", "vera", "operator:alice"),
        ("session.begun", "vera", "operator:vera"),
        ("session.ended", "vera", "operator:vera"),
        ("account.disabled", "vera", "operator:alice"),
        ("account.enabled", "vera", "operator:alice"),
    ];
    let told: Vec<_> = told
        .iter()
        .map(|(kind, subject, by)| (kind.as_str(), subject.as_str(), by.as_str()))
        .collect();
    assert_eq!(told, expected);
    let all = lab.call("GET", "/ledger?limit=10000", b"").text();
    let secret = cookie.split(['=', ';']).nth(1).unwrap();
    for never in [FIRST, SECOND, "argon2id", secret, "nobody-here"] {
        assert!(!all.contains(never), "{never}");
    }
    for file in std::fs::read_dir(lab.data()).unwrap().map(|f| f.unwrap().path()) {
        let bytes = if file.is_file() { std::fs::read(&file).unwrap() } else { vec![] };
        for never in [FIRST, SECOND, secret] {
            let found = crate::http::find(&bytes, never.as_bytes());
            assert_eq!(found, None, "in {}", file.display());
        }
    }
}

#[test]
fn odd_accounts_are_refused_with_what_to_write_instead() {
    let lab = Lab::start();
    add(&lab, "olga", &[Role::Operator]);
    for (body, status, code) in [
        (
            r#"{"name":"Olga","roles":["viewer"],"password":"a quiet river at dawn"}"#,
            422,
            "bad-name",
        ),
        (
            r#"{"name":"admin","roles":["viewer"],"password":"a quiet river at dawn"}"#,
            422,
            "bad-name",
        ),
        (r#"{"name":"vera","roles":[],"password":"a quiet river at dawn"}"#, 422, "no-role"),
        (r#"{"name":"vera","roles":["viewer"],"password":"short"}"#, 422, "bad-password"),
        (
            r#"{"name":"vera","roles":["viewer"],"password":"vera, vera, vera"}"#,
            422,
            "bad-password",
        ),
        (r#"{"name":"vera","roles":["viewer"]}"#, 422, "bad-body"),
        (
            r#"{"name":"olga","roles":["viewer"],"password":"a quiet river at dawn"}"#,
            409,
            "already-there",
        ),
    ] {
        let (got, problem) = lab.refused("POST", "/accounts", body.as_bytes());
        assert_eq!((got, problem.code.as_str()), (status, code), "{body}");
        assert!(!problem.message.contains("river") && !problem.hint.is_empty());
    }
    // The holder of the server's own token has no password to change.
    let change = ChangePassword { current: Secret(FIRST.into()), new: Secret(SECOND.into()) };
    let body = serde_json::to_vec(&change).unwrap();
    let (got, problem) = lab.refused("PUT", "/account/password", &body);
    assert_eq!((got, problem.code.as_str()), (409, "no-password"));
    assert_eq!(format!("{change:?}"), "ChangePassword { current: Secret, new: Secret }");
}

#[test]
fn a_person_makes_themself_a_token_by_their_password_and_sees_it_once() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let cookie = log_in(&lab, "vera", FIRST);
    let asked = |password: &str| {
        sent(&lab, "/account/token", &cookie, &format!("current={}&days=30", encoded(password)))
    };
    assert_eq!(asked(SECOND).status, 401);
    let text = asked(FIRST).text();
    let token = text.split("fettle-operator1.").nth(1).unwrap();
    let token: String = token.chars().take_while(char::is_ascii_hexdigit).collect();
    let token = format!("fettle-operator1.{token}");
    let own: OwnAccount = lab.call_as(&token, "x", "GET", "/account", b"").json();
    assert!(own.name == "vera" && own.account.unwrap().token_expires_at.is_some());
    assert!(!page(&lab, "/account", &cookie).text().contains(&token));
    let all: Page<AccountRow> = lab.get("/accounts");
    assert!(all.items[0].has_token);
}

#[test]
fn a_flood_of_log_ins_leaves_the_server_answering() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    std::thread::scope(|scope| {
        for n in 0..24 {
            let lab = &lab;
            scope.spawn(move || {
                let from = format!("192.0.2.{n}");
                let from = [("x-forwarded-for", from.as_str())];
                let status = tried(lab, &from, &format!("name-{n}"), FIRST).status;
                assert!([401, 429, 503].contains(&status), "{status}");
            });
        }
        // Whoever is in goes on meanwhile.
        for _ in 0..20 {
            assert_eq!(lab.call("GET", "/hosts", b"").status, 200);
        }
    });
}
