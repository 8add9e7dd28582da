//! The command line as a terminal shows it: standard output, standard error and exit code together.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::Timestamp;
use fettle_core::ledger::LedgerEntry;
use insta::assert_snapshot;
use std::path::Path;
use std::process::Command;

/// Runs `fettle` in an empty environment inside `dir`, and freezes all it says.
fn fettle(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fettle"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .output()
        .unwrap();
    format!(
        "{}{}[exit code {}]",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap_or(-1)
    )
}

fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn a_well_formed_policy_is_said_to_be_so() {
    let dir = dir_with(&[("demo.toml", include_str!("../../../examples/policies/demo.toml"))]);
    let said = fettle(dir.path(), &["policy", "check", "demo.toml"]);
    assert!(
        said.starts_with("demo.toml: policy `demo`, 3 rings") && said.ends_with("[exit code 0]"),
        "{said}"
    );
}

#[test]
fn a_policy_file_that_is_not_there_is_told_with_the_next_step() {
    let dir = dir_with(&[]);
    assert_snapshot!(fettle(dir.path(), &["policy", "check", "none.toml"]), @r"
    error[policy-unreadable]: none.toml cannot be read: No such file or directory (os error 2)
    → name a TOML file; examples are in examples/policies/
    [exit code 5]
    ");
}

#[test]
fn the_next_openings_of_a_policys_windows_are_shown_in_their_own_zone_and_without_a_server() {
    let monthly = "[policy]\nname = \"web\"\nselect = \"all\"\n[[ring]]\nname = \"all\"\n[[window]]\nstart = \"22:00\"\n\
                   duration = \"4h\"\ntime-zone = \"Europe/Berlin\"\nrrule = \"FREQ=MONTHLY;BYDAY=2SA\"\n";
    let dir = dir_with(&[("web.toml", monthly), ("bad.toml", "[policy]\n")]);
    let preview = |more: &[&str]| {
        let mut line = vec!["window", "preview"];
        line.extend(more);
        fettle(dir.path(), &line)
    };
    let three = preview(&["web.toml", "--count", "3", "--from", "2027-02-01T00:00:00Z"]);
    assert_snapshot!(three, @r"
    policy `web`, times of Europe/Berlin
     OPENS                 CLOSES                FOR         OPENS (UTC)
     Sat 2027-02-13 22:00  Sun 2027-02-14 02:00  4 h 00 min  2027-02-13T21:00:00Z
     Sat 2027-03-13 22:00  Sun 2027-03-14 02:00  4 h 00 min  2027-03-13T21:00:00Z
     Sat 2027-04-10 22:00  Sun 2027-04-11 02:00  4 h 00 min  2027-04-10T20:00:00Z
    [exit code 0]
    ");
    assert_snapshot!(preview(&["bad.toml"]), @r"
    error[policy-malformed]: bad.toml is no policy as it stands
    → fettle policy check bad.toml says what is wrong with it
    [exit code 5]
    ");
    let json =
        preview(&["web.toml", "--count", "1", "--from", "2027-02-01T00:00:00Z", "-o", "json"]);
    assert!(json.contains("\"from\": \"2027-02-13T21:00:00Z\""), "{json}");
}

#[test]
fn a_server_that_is_not_there_is_told_with_the_next_step() {
    let dir = dir_with(&[("token", "secret\n")]);
    // Port 9 (discard) on loopback: nothing listens there.
    let said = fettle(
        dir.path(),
        &["--server", "http://127.0.0.1:9", "--token-file", "token", "host", "list"],
    );
    assert!(
        said.starts_with("error[server-unreachable]: no server answers at http://127.0.0.1:9: "),
        "{said}"
    );
    assert!(
        said.contains("→ start one with `fettle server`, or name another with --server"),
        "{said}"
    );
    assert!(said.ends_with("[exit code 8]"), "{said}");
}

#[test]
fn a_token_that_cannot_be_read_is_told_before_anything_is_sent() {
    let dir = dir_with(&[]);
    assert_snapshot!(fettle(dir.path(), &["--token-file", "none", "host", "list"]), @r"
    error[token-file]: your token cannot be read from none: No such file or directory (os error 2)
    → name the file with --token-file or FETTLE_TOKEN_FILE; the server writes the first admin's to DATA/operator.token
    [exit code 6]
    ");
}

#[test]
fn an_error_is_json_where_json_was_asked_for() {
    let dir = dir_with(&[]);
    let said = fettle(dir.path(), &["-o", "json", "--token-file", "none", "host", "list"]);
    assert!(said.starts_with(r#"{"kind":"forbidden","code":"token-file","#), "{said}");
}

#[test]
fn a_label_without_an_equals_sign_is_refused_before_anything_is_sent() {
    let dir = dir_with(&[("token", "secret\n")]);
    assert_snapshot!(fettle(dir.path(), &["--token-file", "token", "token", "create", "--label", "canary"]), @r"
    error[label]: label `canary` has no `=`: write key=value, for example ring=canary
    → for example: fettle token create --label ring=canary
    [exit code 2]
    ");
}

fn ledger(change: impl Fn(&mut LedgerEntry)) -> String {
    let mut entries: Vec<LedgerEntry> = Vec::new();
    for n in 0..4 {
        let at = Timestamp::from_second(1_790_000_000 + n).unwrap();
        entries.push(LedgerEntry::after(entries.last(), at, "server", "test", "x", n.into()));
    }
    change(&mut entries[2]);
    entries.iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect()
}

#[test]
fn an_exported_ledger_is_verified_without_a_server_and_an_edited_one_is_found_out() {
    let dir = dir_with(&[
        ("good.jsonl", &ledger(|_| {})),
        ("edited.jsonl", &ledger(|e| e.actor = "mallory".into())),
        ("cut.jsonl", "{\"index\":1"),
    ]);
    let said = fettle(dir.path(), &["audit", "verify", "--file", "good.jsonl"]);
    assert!(
        said.starts_with("4 entries hold, head sha256:") && said.ends_with("[exit code 0]"),
        "{said}"
    );
    assert_snapshot!(fettle(dir.path(), &["audit", "verify", "--file", "edited.jsonl"]), @r"
    error[ledger-broken]: the ledger does not hold: entry 3 was changed after it was written
    → keep the server's data directory as it is, and compare with your last `fettle audit export`
    [exit code 7]
    ");
    let said = fettle(dir.path(), &["audit", "verify", "--file", "cut.jsonl"]);
    assert!(
        said.starts_with("error[ledger-unreadable]: cut.jsonl cannot be read: line 1: ")
            && said.ends_with("[exit code 5]"),
        "{said}"
    );
}

#[test]
fn every_shell_gets_completions() {
    let dir = dir_with(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let said = fettle(dir.path(), &["completions", shell]);
        assert!(said.contains("rollout") && said.ends_with("[exit code 0]"), "{shell}");
    }
}

#[test]
fn a_server_refuses_an_address_that_is_not_loopback_without_tls() {
    let dir = dir_with(&[]);
    let args = [
        "server",
        "--data",
        "data",
        "--operator-listen",
        "0.0.0.0:18499",
        "--agents-listen",
        "127.0.0.1:0",
    ];
    let said = fettle(dir.path(), &args);
    assert!(said.contains("→ ") && !said.ends_with("[exit code 0]"), "{said}");
}

#[test]
fn a_server_that_is_asked_to_logs_json_lines_and_an_odd_format_is_refused() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let dir = dir_with(&[]);
    let mut server = Command::new(env!("CARGO_BIN_EXE_fettle"))
        .args(["server", "--data", "data", "--log-format", "json"])
        .args(["--operator-listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"])
        .current_dir(dir.path())
        .env_clear()
        .env("FETTLE_LOG", "debug")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Read while it runs: a full pipe would hold it up.
    let mut log = server.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("http://")), "it says when it is ready");
    let pid = server.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    assert!(server.wait().unwrap().success());
    let text = log.join().unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        let it: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(it["time"].is_string() && it["level"].is_string(), "{line}");
        assert!(it["message"].is_string() && it["target"].is_string(), "{line}");
    }
    let said = fettle(dir.path(), &["server", "--data", "data", "--log-format", "xml"]);
    assert!(said.contains("text, json") && said.ends_with("[exit code 2]"), "{said}");
}
