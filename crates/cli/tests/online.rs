//! Commands that ask a server: what is sent, what is printed, how it ends. The server's answers are canned here; real
//! servers are asked by the same program in the lab.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread::JoinHandle;

/// A server that gives one answer, and tells what it was asked.
struct Canned {
    address: SocketAddr,
    asked: JoinHandle<String>,
}

fn canned(status: &str, body: &str) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length, mut token) = (String::new(), 0, String::new());
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
            if lower.starts_with("authorization:") {
                token = line.trim().to_owned();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        assert_eq!(token.to_ascii_lowercase(), "authorization: bearer secret");
        format!("{} {}", first.trim_end_matches(" HTTP/1.1\r\n"), String::from_utf8_lossy(&body))
    });
    Canned { address, asked }
}

/// Runs `fettle` against it: what was asked, what was said, how it ended.
fn fettle(server: Canned, args: &[&str]) -> (String, String, i32) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "secret\n").unwrap();
    std::fs::write(dir.path().join("tracker.json"), "{}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
        .args(["--server", &format!("http://{}", server.address), "--token-file", "token"])
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (server.asked.join().unwrap().trim_end().to_owned(), said, output.status.code().unwrap())
}

fn problem(kind: &str, code: &str) -> String {
    format!(r#"{{"kind":"{kind}","code":"{code}","message":"it is so","hint":"do that"}}"#)
}

#[test]
fn what_the_server_refuses_is_printed_with_its_hint_and_ends_with_the_code_of_its_kind() {
    for (status, kind, code) in [
        ("400 Bad Request", "usage", 2),
        ("404 Not Found", "not-found", 3),
        ("409 Conflict", "conflict", 4),
        ("422 Unprocessable Content", "bad-input", 5),
        ("403 Forbidden", "forbidden", 6),
        ("409 Conflict", "refused", 7),
        ("503 Service Unavailable", "unavailable", 8),
    ] {
        let (_, said, ended) =
            fettle(canned(status, &problem(kind, "not-found")), &["host", "show", "web-1"]);
        assert_eq!(ended, code, "{kind}: {said}");
        assert_eq!(said, "error[not-found]: it is so\n→ do that\n", "{kind}");
    }
}

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn each_command_asks_the_route_it_is_for() {
    for (args, asked) in [
        (&["host", "list"][..], "GET /api/v1/hosts?limit=100000"),
        (&["host", "show", "a b/c"], "GET /api/v1/hosts/a%20b%2Fc"),
        (
            &["host", "release", "web-1", "--reason", "mended"],
            r#"POST /api/v1/hosts/web-1/release {"reason":"mended","hosts":[]}"#,
        ),
        (&["host", "retire", "web-1", "--confirm", "web-1"], "DELETE /api/v1/hosts/web-1"),
        (
            &["finding", "list", "--severity", "high", "--due", "overdue", "--limit", "5"],
            "GET /api/v1/findings?limit=5&severity=high&due=overdue",
        ),
        (&["cve", "CVE-2024-5535"], "GET /api/v1/cves/CVE-2024-5535"),
        (&["policy", "list"], "GET /api/v1/policies"),
        (&["policy", "show", "web"], "GET /api/v1/policies/web"),
        (&["policy", "history", "web"], "GET /api/v1/policies/web/versions?limit=100000"),
        (&["policy", "explain", "a b/c"], "GET /api/v1/hosts/a%20b%2Fc/policy"),
        (&["plan", "make", "web"], r#"POST /api/v1/plans {"policy":"web","hosts":[]}"#),
        (&["plan", "show", "3"], "GET /api/v1/plans/3"),
        // Without the digest that was seen it is asked for first.
        (&["plan", "approve", "3"], "GET /api/v1/plans/3"),
        (
            &["plan", "approve", "3", "--digest", DIGEST, "--comment", "read it"],
            concat!(
                r#"POST /api/v1/plans/3/approvals {"digest":"sha256:"#,
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                r#"","comment":"read it"}"#
            ),
        ),
        (&["plan", "withdraw", "3"], "DELETE /api/v1/plans/3/approvals"),
        (
            &["operator", "add", "alice", "--role", "operator,approver", "--expires", "90d"],
            r#"POST /api/v1/operators {"name":"alice","roles":["operator","approver"],"expires_seconds":7776000}"#,
        ),
        (
            &["operator", "renew", "alice", "--expires", "1d"],
            r#"POST /api/v1/operators/alice/token {"expires_seconds":86400}"#,
        ),
        (&["operator", "list"], "GET /api/v1/operators?limit=100000"),
        (&["account", "list"], "GET /api/v1/accounts?limit=100000"),
        (&["account", "show"], "GET /api/v1/account"),
        (&["account", "disable", "a b/c"], "POST /api/v1/accounts/a%20b%2Fc/disable null"),
        (&["account", "enable", "alice"], "POST /api/v1/accounts/alice/enable null"),
        (&["account", "log-out"], "DELETE /api/v1/account/sessions"),
        (&["operator", "revoke", "a b/c"], "DELETE /api/v1/operators/a%20b%2Fc"),
        (&["rollout", "list"], "GET /api/v1/rollouts"),
        (&["rollout", "show", "ro-1"], "GET /api/v1/rollouts/ro-1"),
        (
            &["rollout", "pause", "ro-1", "--reason", "lunch"],
            r#"POST /api/v1/rollouts/ro-1/pause {"reason":"lunch","hosts":[]}"#,
        ),
        (
            &["rollout", "undo", "ro-1", "--host", "web-1"],
            r#"POST /api/v1/rollouts/ro-1/undo {"reason":"","hosts":["web-1"]}"#,
        ),
        (&["feed", "list"], "GET /api/v1/feeds"),
        (&["feed", "import", "--bundled"], "POST /api/v1/feeds/bundled"),
        (
            &["feed", "import", "debian-tracker", "tracker.json"],
            "POST /api/v1/feeds/debian-tracker {}",
        ),
        (
            &["feed", "import", "debian-tracker", "tracker.json", "--force"],
            "POST /api/v1/feeds/debian-tracker?force=true {}",
        ),
        (
            &["feed", "import", "kev", "tracker.json", "--force", "--date", "2026-11-20"],
            "POST /api/v1/feeds/kev?force=true&date=2026-11-20 {}",
        ),
        (&["audit", "verify"], "GET /api/v1/ledger/verify"),
    ] {
        let refused = canned("404 Not Found", &problem("not-found", "x"));
        let (was, said, ended) = fettle(refused, args);
        assert_eq!(was, asked, "{args:?}: {said}");
        assert_eq!(ended, 3, "{args:?}: {said}");
    }
}

#[test]
fn a_host_that_has_left_is_said_with_what_is_left_to_do() {
    let (_, said, ended) =
        fettle(canned("204 No Content", ""), &["host", "retire", "web-1", "--confirm", "web-1"]);
    assert_eq!(
        (said.as_str(), ended),
        ("web-1 has left the fleet\n→ on the host: systemctl disable --now fettle-agent\n", 0)
    );
}

#[test]
fn a_host_is_not_retired_when_another_name_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
        .args(["--token-file", "none", "host", "retire", "web-1", "--confirm", "web-2"])
        .current_dir(dir.path())
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`web-1` is to be retired, and `web-2` was confirmed"), "{said}");
    assert!(said.trim_end().ends_with("→ fettle host retire web-1 --confirm web-1"), "{said}");
}

#[test]
fn an_answer_that_is_no_fettle_servers_is_told_as_such() {
    for (status, body, ended, words) in [
        ("200 OK", "<html>", 1, "is not what this program knows"),
        ("502 Bad Gateway", "<html>", 8, "not as a Fettle server does"),
        ("200 OK", r#"{"items":[]}"#, 1, "is not what this program knows"),
    ] {
        let (_, said, code) = fettle(canned(status, body), &["host", "list"]);
        assert_eq!(code, ended, "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn lists_are_tables_for_people_and_the_apis_value_for_programs() {
    let page = r#"{"total":0,"items":[]}"#;
    let (_, said, ended) = fettle(canned("200 OK", page), &["-o", "json", "rollout", "list"]);
    assert_eq!(ended, 0, "{said}");
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(value, serde_json::json!({"total": 0, "items": []}));
    let (_, said, ended) = fettle(canned("200 OK", page), &["rollout", "list"]);
    assert_eq!(ended, 0, "{said}");
    assert!(!said.contains('{') && said.contains("→"), "an empty list says what to do: {said}");
}
