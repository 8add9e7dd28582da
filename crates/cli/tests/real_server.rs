//! The program against a real server: what an operator types in the first five minutes, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_server::{Running, Server, ServerOptions};
use std::net::SocketAddr;
use std::process::Command;

struct Desk {
    dir: tempfile::TempDir,
    running: Running,
}

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
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = Server::start(ServerOptions {
        data_dir: dir.path().join("data"),
        operator: any,
        agents: any,
        bundled_feeds: false,
        announce: false,
        ..ServerOptions::default()
    })
    .unwrap();
    for (name, count) in [("many.json", 400), ("few.json", 2)] {
        std::fs::write(dir.path().join(name), tracker(count)).unwrap();
    }
    let policy = include_str!("../../../examples/policies/web-production.toml");
    std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
    Desk { dir, running }
}

impl Desk {
    /// What was said, both streams, and the exit code.
    fn fettle(&self, args: &[&str]) -> (String, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["--server", &format!("http://{}", self.running.operator_addr)])
            .args(["--token-file", "data/operator.token"])
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
        (&["policy", "apply", "policy.toml"], 0, "fettle plan make"),
        (&["policy", "list"], 0, "web-production"),
        (&["token", "create", "--label", "ring=canary"], 0, "fettle-agent enroll"),
        (&["finding", "list", "--due", "overdue"], 0, ""),
        (&["audit", "verify"], 0, "entries hold"),
        (&["host", "show", "nobody"], 3, "nobody"),
        (&["host", "retire", "nobody", "--confirm", "nobody"], 3, "nobody"),
        (&["host", "release", "nobody", "--reason", "x"], 3, "nobody"),
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
