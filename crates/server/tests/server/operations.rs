//! Starting, stopping, and what stands in the way of it.

use crate::fleet::{Lab, quick};
use crate::http::{ask, tcp};
use fettle_core::{Problem, ProblemKind};
use fettle_server::{Server, ServerOptions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

fn refused(options: ServerOptions) -> Problem {
    Server::start(options).err().expect("the server must not start")
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_names_the_first() {
    let lab = Lab::start();
    let problem = refused(quick(&lab.data()));
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Unavailable, "data-dir-in-use")
    );
    assert!(problem.message.contains(&std::process::id().to_string()), "{problem}");
}

#[test]
fn a_taken_port_is_told_with_the_option_to_choose_another() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (options, option) in [
        (ServerOptions { operator: address, ..quick(dir.path()) }, "--operator-listen"),
        (ServerOptions { agents: address, ..quick(dir.path()) }, "--agents-listen"),
    ] {
        let problem = refused(options);
        assert_eq!((problem.kind, problem.code.as_str()), (ProblemKind::Unavailable, "port-taken"));
        assert!(problem.hint.contains(option), "{}", problem.hint);
    }
}

#[test]
fn plain_http_does_not_leave_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ServerOptions { operator: SocketAddr::from(([0, 0, 0, 0], 0)), ..quick(dir.path()) };
    assert_eq!(refused(options).code, "operator-not-loopback");
}

#[test]
fn a_data_directory_that_is_a_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    std::fs::write(&file, b"").unwrap();
    let problem = refused(quick(&file));
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Environment, "data-dir-not-writable")
    );
}

#[test]
fn secrets_are_readable_by_their_owner_only() {
    let lab = Lab::start();
    for file in ["operator.token", "keys/ca.key", "keys/assignment.key", "keys/session.key"] {
        let mode = std::fs::metadata(lab.data().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(
        std::fs::metadata(lab.data().join("keys")).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn keys_that_are_lost_or_exchanged_are_not_silently_replaced() {
    let mut lab = Lab::start();
    lab.host("web-1", "canary");
    lab.kill();
    let keys = lab.data().join("keys");
    let lost = std::fs::read(keys.join("ca.key")).unwrap();
    std::fs::remove_file(keys.join("ca.key")).unwrap();
    assert_eq!(refused(quick(&lab.data())).code, "key-unusable");
    std::fs::write(keys.join("ca.key"), lost).unwrap();
    std::fs::remove_file(keys.join("assignment.key")).unwrap();
    assert_eq!(refused(quick(&lab.data())).code, "other-keys");
}

#[test]
fn a_database_that_is_locked_damaged_or_newer_is_told() {
    let mut lab = Lab::start();
    lab.kill();
    let path = lab.data().join("fettle.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("INSERT INTO schema_version (version) VALUES (99)", []).unwrap();
    drop(raw);
    let problem = refused(quick(&lab.data()));
    assert_eq!((problem.kind, problem.code.as_str()), (ProblemKind::Environment, "database-newer"));
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(lab.data().join(format!("fettle.db{end}")));
    }
    std::fs::write(&path, vec![0x41; 8192]).unwrap();
    assert_eq!(refused(quick(&lab.data())).code, "database-damaged");
}

#[test]
fn a_locked_database_fails_the_write_and_not_the_server() {
    let lab = Lab::start();
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, problem) = lab.refused("POST", "/tokens", br#"{"ttl_seconds":600}"#);
    assert_eq!((status, problem.code.as_str()), (503, "database-locked"));
    // Looking goes on meanwhile.
    assert_eq!(lab.call("GET", "/hosts", b"").status, 200);
    raw.execute_batch("ROLLBACK").unwrap();
    lab.secret("canary");
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    lab.running.as_ref().unwrap().wait_ready();
    let open = |path: &str| ask(tcp(lab.operator).unwrap(), "GET", path, &[], b"").unwrap();
    assert_eq!((open("/healthz").status, open("/readyz").status), (200, 200));
    let bearer = format!("Bearer {}", lab.token);
    let answer =
        ask(tcp(lab.operator).unwrap(), "GET", "/metrics", &[("authorization", &bearer)], b"")
            .unwrap();
    let text = answer.text();
    for line in [
        "fettle_hosts{state=\"exposed\"} 1",
        "fettle_open_findings{severity=\"medium\"} 1",
        "fettle_overdue_findings 0",
        "fettle_checkins_total 2",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("web-1"), "host names are no labels");
}

#[test]
fn a_stopped_server_has_written_down_whom_it_heard() {
    let mut lab = Lab::start();
    lab.host("web-1", "canary");
    lab.running.take().unwrap().stop();
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    let heard: Option<i64> =
        raw.query_row("SELECT last_seen FROM hosts", [], |row| row.get(0)).unwrap();
    assert!(heard.is_some());
    lab.restart();
}
