//! The program against a real server: what an operator types in the first five minutes, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod desk;

use desk::Desk;
use std::process::Command;

/// A tracker with this many vulnerabilities of one package.
fn tracker(count: usize) -> String {
    let one = |n: usize| {
        format!(
            r#""CVE-2024-{n:04}": {{"releases": {{"bookworm": {{"status": "open", "urgency": "low",
            "repositories": {{"bookworm": "3.0.15-1~deb12u1"}}}}}}}}"#
        )
    };
    format!(r#"{{"openssl": {{{}}}}}"#, (1..=count).map(one).collect::<Vec<_>>().join(","))
}

fn desk() -> Desk {
    let desk = desk::start();
    for (name, count) in [("many.json", 400), ("few.json", 2)] {
        std::fs::write(desk.dir.path().join(name), tracker(count)).unwrap();
    }
    let policy = include_str!("../../../examples/policies/web-production.toml");
    std::fs::write(desk.dir.path().join("policy.toml"), policy).unwrap();
    desk
}

impl Desk {
    /// What was said, both streams, and the exit code.
    fn fettle(&self, args: &[&str]) -> (String, i32) {
        self.fettle_as("data/operator.token", args)
    }

    /// As [`Desk::fettle`], with somebody's token.
    fn fettle_as(&self, token_file: &str, args: &[&str]) -> (String, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["--server", &format!("http://{}", self.running.operator_addr)])
            .args(["--token-file", token_file])
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code().unwrap())
    }
}

#[test]
fn an_operators_first_commands_work_against_a_fresh_server() {
    let desk = desk();
    for (args, code, words) in [
        (&["host", "list"][..], 0, "fettle token create"),
        (&["feed", "import", "debian-tracker", "many.json"], 0, "debian-tracker"),
        (&["feed", "list"], 0, "debian-tracker"),
        (&["policy", "diff", "policy.toml"], 0, "--if none"),
        (&["policy", "apply", "policy.toml", "--if", "none"], 0, "fettle plan make"),
        (&["policy", "apply", "policy.toml", "--if", "none"], 4, "version 1"),
        (&["policy", "apply", "policy.toml", "--if", "yes"], 2, "SHA-256"),
        (&["policy", "diff", "policy.toml"], 0, "exactly this text"),
        (&["policy", "apply", "policy.toml"], 0, "exactly this text"),
        (&["policy", "history", "web-production"], 0, "in force"),
        (&["policy", "show", "web-production", "1"], 0, "[policy]"),
        (&["policy", "show", "web-production", "2"], 3, "no version 2"),
        (&["policy", "explain", "nobody"], 3, "nobody"),
        (&["policy", "list"], 0, "web-production"),
        (&["token", "create", "--label", "ring=canary"], 0, "fettle-agent enroll"),
        (&["finding", "list", "--due", "overdue"], 0, ""),
        (&["audit", "verify"], 0, "entries hold"),
        (&["host", "show", "nobody"], 3, "nobody"),
        (&["host", "retire", "nobody", "--confirm", "nobody"], 3, "nobody"),
        (&["host", "release", "nobody", "--reason", "x"], 3, "nobody"),
        (&["recall", "list"], 0, "nothing is recalled"),
        (&["recall", "add", "openssl", "--reason", "x"], 2, "names no version"),
        (&["recall", "add", "openssl=1.2", "--reason", "eats files"], 0, "0 hosts have it"),
        (&["recall", "list"], 0, "eats files"),
        (&["recall", "show", "openssl=1.2"], 0, "no plan takes it"),
        (&["recall", "lift", "openssl=1.2", "--reason", "was wrong"], 0, "may be planned again"),
        (&["recall", "lift", "openssl=1.2", "--reason", "again"], 3, "openssl=1.2"),
        (&["plan", "show", "7"], 3, "7"),
        (&["rollout", "show", "ro-7"], 3, "ro-7"),
    ] {
        let (said, ended) = desk.fettle(args);
        assert_eq!(ended, code, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        if code != 0 {
            let last = said.lines().last().unwrap();
            assert!(last.starts_with("→ "), "{args:?}: the last line says what to do: {said}");
        }
    }
}

/// An image with this version of openssl, and the tracker that says which one is fixed.
fn image(desk: &Desk, version: &str) {
    let purl = format!(
        "pkg:deb/debian/libssl3@{version}?arch=amd64&distro=debian-12&upstream=openssl%40{version}"
    );
    let sbom = serde_json::json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6",
        "components": [
            {"type": "operating-system", "name": "debian", "version": "12"},
            {"type": "library", "name": "libssl3", "version": version, "purl": purl},
        ],
    });
    std::fs::write(desk.dir.path().join("image.json"), sbom.to_string()).unwrap();
    let (said, ended) = desk.fettle(&["sbom", "import", "shop-image", "image.json"]);
    assert_eq!(ended, 0, "{said}");
}

#[test]
fn a_gate_is_green_or_red_by_what_is_open_and_refuses_where_nobody_can_say() {
    let desk = desk();
    let fixed = r#"{"openssl": {"CVE-2024-5535": {"releases": {"bookworm": {"status": "resolved",
        "repositories": {"bookworm": "3.0.15-1~deb12u1"}, "urgency": "not yet assigned",
        "fixed_version": "3.0.15-1~deb12u1"}}}}}"#;
    std::fs::write(desk.dir.path().join("fixed.json"), fixed).unwrap();
    let gate = |args: &[&str], code: i32, words: &str| {
        let (said, ended) = desk.fettle(&[&["exposure"], args].concat());
        assert_eq!(ended, code, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    gate(&[], 10, "no host is enrolled");
    assert_eq!(desk.fettle(&["feed", "import", "debian-tracker", "fixed.json"]).1, 0);
    gate(&[], 10, "error[no-data]");
    image(&desk, "3.0.15-1~deb12u1");
    gate(&[], 0, "nothing of that kind is open");
    gate(&["--kev"], 10, "(kev) is missing or too old");
    gate(&["--due", "overdue"], 10, "no policy governs a host");
    image(&desk, "3.0.11-1~deb12u2");
    gate(&[], 7, "1 open in the fleet, and 0 allowed");
    gate(&["--allow", "1"], 0, "CVE-2024-5535");
    // The same host by data of long ago: what is open since then nobody has looked at.
    let address = desk.running.operator_addr;
    let token = std::fs::read_to_string(desk.dir.path().join("data/operator.token")).unwrap();
    let old = format!("http://{address}/api/v1/feeds/debian-tracker?date=2024-01-01&force=true");
    let sent = ureq::post(&old)
        .header("authorization", &format!("Bearer {}", token.trim()))
        .send(fixed.as_bytes())
        .unwrap();
    assert!(sent.status().is_success(), "{sent:?}");
    gate(&[], 10, "on debian is too old (debian-tracker, ");
    gate(&["--allow", "1"], 10, "error[no-data]");
}

#[test]
fn what_is_data_goes_to_standard_output_and_what_is_said_about_it_does_not() {
    let desk = desk();
    for (args, beside) in [
        (&["evidence", "key"][..], "by another way than the pack"),
        (&["token", "create"], "good once"),
        (&["operator", "add", "olga", "--role", "viewer"], "shown this once"),
        (&["key", "new", "key.pem"], "fettle key propose"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["--server", &format!("http://{}", desk.running.operator_addr)])
            .args(["--token-file", "data/operator.token"])
            .args(args)
            .current_dir(desk.dir.path())
            .env_clear()
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(out.lines().count(), 1, "{args:?}: {out}");
        assert_eq!(out.split_whitespace().count(), 1, "{args:?}: {out}");
        assert!(err.contains(beside), "{args:?}: {err}");
    }
}

#[test]
fn what_a_schedule_lacks_is_told_by_the_options_it_has() {
    let desk = desk();
    let set = |args: &[&str]| {
        desk.fettle(&[&["schedule", "set", "monthly", "--recurrence"], args].concat())
    };
    for (args, hint) in [
        (&["FREQ=DAILY;BYHOUR=6", "--keep", "3"][..], "→ say at what time of the day: --at 06:00"),
        (&["FREQ=DAILY"], "--keep 12"),
        (&["FREQ=DAILY", "--keep", "0"], "--keep 12"),
    ] {
        let (said, ended) = set(args);
        assert!(ended != 0 && said.contains(hint), "{args:?}: {said}");
        assert!(!said.contains("start =") && !said.contains("window"), "{args:?}: {said}");
    }
    assert_eq!(set(&["FREQ=DAILY", "--keep", "3"]).1, 0);
}

#[test]
fn a_feed_that_lost_most_of_its_records_is_taken_only_by_force() {
    let desk = desk();
    assert_eq!(desk.fettle(&["feed", "import", "debian-tracker", "many.json"]).1, 0);
    let (said, ended) = desk.fettle(&["feed", "import", "debian-tracker", "few.json"]);
    assert_ne!(ended, 0, "{said}");
    assert!(said.contains("--force"), "the refusal says how to take it all the same: {said}");
    let records = || {
        let (said, _) = desk.fettle(&["-o", "json", "feed", "list"]);
        let page: serde_json::Value = serde_json::from_str(&said).unwrap();
        let tracker = page["items"].as_array().unwrap().iter();
        let tracker = tracker.into_iter().find(|f| f["name"] == "debian-tracker").unwrap();
        tracker["records"].as_u64().unwrap()
    };
    assert_eq!(records(), 400, "the last good one stays");
    let (said, ended) = desk.fettle(&["feed", "import", "debian-tracker", "few.json", "--force"]);
    assert_eq!(ended, 0, "{said}");
    assert_eq!(records(), 2);
}

#[test]
fn operators_are_added_listed_and_revoked_and_each_may_only_what_the_role_says() {
    let desk = desk();
    let (said, ended) = desk.fettle(&["operator", "list"]);
    assert!(ended == 0 && said.contains("fettle operator add"), "{said}");
    for (name, role) in [("olga", "operator,approver"), ("vera", "viewer")] {
        let (said, ended) =
            desk.fettle(&["operator", "add", name, "--role", role, "--expires", "90d"]);
        assert!(ended == 0 && said.contains("; it expires in "), "{said}");
        let token = said.lines().next().unwrap();
        assert!(token.starts_with("fettle-operator1."), "{said}");
        std::fs::write(desk.dir.path().join(name), token).unwrap();
    }
    let (said, _) = desk.fettle_as("vera", &["operator", "list"]);
    for words in ["olga", "operator, approver", "vera", "good", "operator:admin"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let create = ["token", "create"];
    assert_eq!(desk.fettle_as("olga", &create).1, 0);
    let (said, ended) = desk.fettle_as("vera", &create);
    assert_eq!(ended, 6, "{said}");
    assert!(said.contains("this needs the role operator; vera has viewer"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("→ "), "{said}");
    let (said, ended) = desk.fettle_as("olga", &["policy", "apply", "policy.toml"]);
    assert!(ended == 6 && said.contains("needs the role admin"), "{said}");
    for args in [&["operator", "revoke", "vera"][..], &["-o", "json", "operator", "revoke", "olga"]]
    {
        assert_eq!(desk.fettle(args).1, 0);
    }
    let (said, ended) = desk.fettle_as("vera", &["host", "list"]);
    assert!(ended == 6 && said.contains("was revoked at"), "{said}");
    let (said, _) = desk.fettle(&["-o", "json", "operator", "list"]);
    let page: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&page["total"], &page["items"][1]["state"]), (&2.into(), &"revoked".into()));
}

#[test]
fn odd_roles_and_durations_are_refused_before_anything_is_asked() {
    let desk = desk();
    let add = |more: &[&str]| desk.fettle(&[&["operator", "add", "alice"], more].concat());
    for (more, words) in [
        (&["--role", "root"][..], "viewer, auditor, operator, approver, admin"),
        (&[], "--role"),
        (&["--role", "viewer", "--expires", "soon"], "write 12h or 90d"),
    ] {
        let (said, ended) = add(more);
        assert!(ended == 2 && said.contains(words), "{more:?}: {said}");
    }
    let (said, ended) = desk.fettle(&["operator", "add", "Alice", "--role", "viewer"]);
    assert!(ended == 5 && said.contains("holds 'A'"), "{said}");
}

#[test]
fn a_plan_is_approved_shown_with_its_approvals_and_the_approval_taken_back() {
    let desk = desk();
    assert_eq!(desk.fettle(&["policy", "apply", "policy.toml"]).1, 0);
    for (name, role) in [("olga", "operator,approver"), ("bob", "approver")] {
        let (said, _) = desk.fettle(&["operator", "add", name, "--role", role]);
        std::fs::write(desk.dir.path().join(name), said.lines().next().unwrap()).unwrap();
    }
    assert_eq!(desk.fettle_as("olga", &["plan", "make", "web-production"]).1, 0);
    let (said, ended) = desk.fettle_as("olga", &["plan", "approve", "1"]);
    assert!(ended == 6 && said.contains("whoever made a plan cannot approve it"), "{said}");
    let other = "0".repeat(64);
    let (said, ended) = desk.fettle_as("bob", &["plan", "approve", "1", "--digest", &other]);
    assert!(ended == 4 && said.contains("fettle plan show 1"), "{said}");
    let approve = ["plan", "approve", "1", "--comment", "read it"];
    let (said, ended) = desk.fettle_as("bob", &approve);
    assert!(ended == 0 && said.contains("1 of 1 approvals given"), "{said}");
    assert!(said.contains("→ fettle rollout start 1"), "{said}");
    let (said, _) = desk.fettle(&["plan", "show", "1"]);
    for words in [" by olga\n", "1 of 1 approvals given", "    bob at ", "“read it”"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (said, ended) = desk.fettle_as("bob", &["plan", "withdraw", "1"]);
    assert!(ended == 0 && said.contains("taken back"), "{said}");
    let (said, ended) = desk.fettle_as("bob", &["plan", "withdraw", "1"]);
    assert!(ended == 3 && said.lines().last().unwrap().starts_with("→ "), "{said}");
    assert!(desk.fettle(&["plan", "show", "1"]).0.contains("0 of 1 approvals given"));
}

#[test]
fn feeds_cycles_and_emergencies_are_led_from_the_command_line() {
    let (desk, other) = (desk(), desk());
    let many = format!("file://{}", desk.dir.path().join("many.json").display());
    let with_password = "https://me:geheim@vendor.example/tracker.json";
    for (args, code, words) in [
        (&["feed", "source", "list"][..], 0, "fettle feed source add"),
        (&["feed", "sync"], 3, "fettle feed source add"),
        (
            &["feed", "source", "add", "debian-tracker", "--url", with_password],
            5,
            "--credentials-file",
        ),
        (
            &["feed", "source", "add", "debian-tracker", "--url", "tracker.json"],
            5,
            "write https://",
        ),
        (&["feed", "source", "add", "nonsense", "--url", &many], 3, "the feeds are"),
        (
            &["feed", "source", "add", "debian-tracker", "--url", &many, "--every", "often"],
            2,
            "--every",
        ),
        (&["feed", "source", "add", "debian-tracker", "--url", &many], 0, "fettle feed sync"),
        (&["feed", "sync", "debian-tracker"], 0, "fresh"),
        (&["feed", "list"], 0, "400"),
        (&["feed", "accept", "debian-tracker"], 3, "nothing of debian-tracker waits"),
        (&["feed", "source", "remove", "debian-tracker"], 0, "what is in force stays"),
        (
            &["feed", "source", "add", "kev", "--url", "file:///no/such/kev.json"],
            0,
            "feed sync kev",
        ),
        (&["feed", "sync", "kev"], 8, "fettle feed list"),
        (&["feed", "list"], 0, "→ fettle feed sync kev"),
        (&["feed", "bundle", "key"], 0, "fettle feed bundle trust"),
        (&["feed", "bundle", "export", "feeds.tar"], 0, "fettle feed bundle import feeds.tar"),
        (&["feed", "bundle", "export", "feeds.tar"], 5, "feeds.tar"),
        (&["cycle", "list"], 0, "no policy in force has a [cycle]"),
        (&["policy", "apply", "policy.toml"], 0, "fettle plan make"),
        (&["cycle", "list"], 0, "web-production"),
        (&["cycle", "show", "web-production"], 0, "started a person"),
        (&["cycle", "resume", "web-production", "--reason", "looked"], 3, "fettle cycle list"),
        (&["cycle", "release", "--reason", "looked"], 4, "comes from no backup"),
        (
            &["emergency", "declare", "CVE-2024-0001", "--reason", "seen", "--for", "1d"],
            0,
            "nothing calls",
        ),
        (&["emergency", "list"], 0, "CVE-2024-0001, seen"),
        (&["emergency", "end", "CVE-2024-0001"], 0, "nothing calls"),
    ] {
        let (said, ended) = desk.fettle(args);
        assert_eq!(ended, code, "{args:?}: {said}");
        assert!(said.contains(words) && !said.contains("geheim"), "{args:?}: {said}");
    }
    let (key, _) = desk.fettle(&["-o", "json", "feed", "bundle", "key"]);
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    std::fs::copy(desk.dir.path().join("feeds.tar"), other.dir.path().join("feeds.tar")).unwrap();
    let (said, ended) = other.fettle(&["feed", "bundle", "import", "feeds.tar"]);
    assert_eq!(ended, 7, "{said}");
    assert!(said.contains("fettle feed bundle trust"), "{said}");
    let own = key["own"].as_str().unwrap();
    let (said, ended) = other.fettle(&["feed", "bundle", "import", "feeds.tar", "--key", own]);
    assert_eq!(ended, 0, "{said}");
    assert!(said.contains("bundle of "), "{said}");
}

#[test]
fn the_doctor_says_what_to_type_to_people_and_to_programs_with_or_without_a_server() {
    let desk = desk();
    let (said, ended) = desk.fettle(&["doctor"]);
    assert_eq!(ended, 9, "{said}");
    assert!(said.starts_with("✗ feeds"), "what is wrong comes first: {said}");
    assert!(said.ends_with("→ fettle feed import --bundled\n"), "{said}");
    assert_eq!(desk.fettle(&["feed", "import", "debian-tracker", "many.json"]).1, 0);
    let (said, ended) = desk.fettle(&["doctor"]);
    assert_eq!(ended, 0, "what is only odd is no failure: {said}");
    assert!(said.contains("✓ ledger") && said.contains("! hosts"), "{said}");
    let (said, ended) = desk.fettle(&["doctor", "-o", "json"]);
    let health: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(ended, 0, "{said}");
    assert!(health["symptoms"].as_array().unwrap().len() >= 10, "{said}");
    // Beside it, without its token.
    let (said, ended) = desk.fettle_as("nowhere", &["doctor", "--data", "data"]);
    assert_eq!(ended, 0, "{said}");
    assert!(said.contains("a server runs on these data"), "{said}");
    let Desk { dir, running } = desk;
    let address = running.operator_addr;
    running.stop();
    let desk = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["--server", &format!("http://{address}"), "--token-file", "data/operator.token"])
            .args(args)
            .current_dir(dir.path())
            .env_clear()
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code().unwrap())
    };
    let (said, ended) = desk(&["doctor"]);
    assert_eq!(ended, 8, "{said}");
    assert!(
        said.ends_with("→ on the server: sudo fettle doctor --data /var/lib/fettle\n"),
        "{said}"
    );
    let (said, ended) = desk(&["doctor", "--data", "data"]);
    assert_eq!(ended, 9, "{said}");
    assert!(said.contains("systemctl start fettle"), "{said}");
}

/// As [`Desk::fettle_as`], with something on standard input.
fn told(desk: &Desk, token_file: &str, args: &[&str], stdin: &str) -> (String, i32) {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_fettle"))
        .args(["--server", &format!("http://{}", desk.running.operator_addr)])
        .args(["--token-file", token_file])
        .args(args)
        .current_dir(desk.dir.path())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.code().unwrap())
}

#[test]
fn the_first_account_is_made_by_the_secret_of_the_data_directory_and_by_nothing_else() {
    let desk = desk::start();
    // Whoever sets up has no token, and needs none.
    let none = "no-such-file";
    let file = desk.dir.path().join("data/setup.secret");
    let held = std::fs::read_to_string(&file).unwrap();
    let named = file.to_str().unwrap();
    let set_up = ["setup", "anna", "--secret-file", named, "--password-stdin"];
    let by_stdin = ["setup", "anna", "--secret-file", "-", "--password-stdin"];
    let missing = ["setup", "anna", "--secret-file", "/nonexistent", "--password-stdin"];
    let both = format!("{held}a quiet river at dawn\n");
    for (args, stdin, code, words) in [
        (&missing, "", 6, "secret-file"),
        (&set_up, "", 2, "fewer than 1 lines"),
        (&by_stdin, held.as_str(), 2, "fewer than 2 lines"),
        (&by_stdin, "guessed\na quiet river at dawn\n", 6, "wrong-password"),
        (&set_up, "short\n", 5, "needs at least 12"),
        (&by_stdin, both.as_str(), 0, "anna is the first admin"),
        (&by_stdin, both.as_str(), 3, "setup-closed"),
        (&set_up, "", 6, "secret-file"),
    ] {
        let (said, ended) = told(&desk, none, args, stdin);
        assert_eq!(ended, code, "{args:?} {said}");
        assert!(said.contains(words) && !said.contains("river"), "{said}");
        assert!(!said.contains(held.trim()), "{said}");
    }
}

#[test]
fn the_bill_of_materials_of_hosts_is_written_to_a_file_or_to_standard_output() {
    let desk = desk::start();
    let own = "data/operator.token";
    let (said, ended) = told(&desk, own, &["sbom", "fleet"], "");
    let all: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((ended, &all["bomFormat"]), (0, &"CycloneDX".into()));
    let some = ["sbom", "fleet", "bill.json", "--select", "env=nowhere"];
    let (said, ended) = told(&desk, own, &some, "");
    assert!(ended == 0 && said.starts_with("bill.json: "), "{said}");
    let written = std::fs::read(desk.dir.path().join("bill.json")).unwrap();
    let some: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(some["metadata"]["component"]["name"], "env=nowhere");
    let (said, ended) = told(&desk, own, &["sbom", "fleet", "--select", "env="], "");
    assert!(ended == 2 && said.contains("bad-query"), "{said}");
}

#[test]
fn accounts_are_added_listed_disabled_and_given_passwords_that_no_argument_holds() {
    let desk = desk::start();
    let own = "data/operator.token";
    let (said, ended) = told(&desk, own, &["account", "list"], "");
    assert!(ended == 0 && said.contains("fettle account add"), "{said}");
    let add = ["account", "add", "vera", "--role", "viewer", "--password-stdin"];
    for (stdin, code, words) in [
        ("", 2, "fewer than 1 lines"),
        ("short\n", 5, "needs at least 12"),
        ("vera and her name\n", 5, "holds the name"),
        ("a quiet river at dawn\n", 0, "comes by name and password"),
        ("a quiet river at dawn\n", 4, "already"),
    ] {
        let (said, ended) = told(&desk, own, &add, stdin);
        assert_eq!(ended, code, "{said}");
        assert!(said.contains(words) && !said.contains("river"), "{said}");
    }
    // Nobody is there who could type it.
    let (said, ended) = told(&desk, own, &add[..5], "");
    assert!(ended == 2 && said.contains("--password-stdin"), "{said}");
    // She gets a token, too, and changes her own password with the one until now.
    let (said, _) = desk.fettle(&["operator", "renew", "vera"]);
    std::fs::write(desk.dir.path().join("vera"), said.lines().next().unwrap()).unwrap();
    let change = ["account", "password", "--password-stdin"];
    let (said, ended) = told(&desk, "vera", &change, "wrong\nseven grey herons and a boat\n");
    assert!(ended == 6 && said.contains("wrong-password"), "{said}");
    let (said, ended) =
        told(&desk, "vera", &change, "a quiet river at dawn\nseven grey herons and a boat\n");
    assert!(ended == 0 && said.contains("your password is changed"), "{said}");
    let (said, ended) = told(&desk, own, &change, "one line of it\nand another one of it\n");
    assert!(ended == 4 && said.contains("no-password"), "{said}");
    let (said, ended) = told(&desk, "vera", &["account", "show"], "");
    assert!(
        ended == 0 && said.contains("vera: viewer") && said.contains("password, token"),
        "{said}"
    );
    let set = ["account", "password", "vera", "--password-stdin"];
    let (said, ended) = told(&desk, "vera", &set, "eight grey herons and a boat\n");
    assert!(ended == 6 && said.contains("role-needed"), "{said}");
    let (said, ended) = told(&desk, own, &set, "eight grey herons and a boat\n");
    assert!(ended == 0 && said.contains("another password"), "{said}");
    for (args, code, words) in [
        (&["account", "disable", "vera"][..], 0, "may do nothing"),
        (&["account", "disable", "vera"], 4, "disabled since"),
        (&["account", "list"], 0, "disabled"),
        (&["operator", "list"], 0, "disabled"),
        (&["account", "enable", "vera"], 0, "may come again"),
        (&["account", "log-out"], 0, "have ended"),
    ] {
        if args[1] == "enable" {
            let (said, ended) = desk.fettle_as("vera", &["host", "list"]);
            assert!(ended == 6 && said.contains("account-disabled"), "{said}");
        }
        let (said, ended) = told(&desk, own, args, "");
        assert!(ended == code && said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(desk.fettle_as("vera", &["host", "list"]).1, 0);
}
