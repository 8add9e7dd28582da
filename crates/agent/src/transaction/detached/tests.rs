use super::*;
use crate::packages::Apt;
use crate::settings::Settings;
use crate::transaction::an_assignment;
use fettle_core::assignment::ApplyOrder;
use std::time::Instant;

#[test]
fn what_an_agent_before_wrote_down_of_its_command_is_still_read() {
    let old = r#"{"program":"/usr/bin/apt-get","arguments":["install"],"environment":{"A":"b"}}"#;
    let line: Line = serde_json::from_str(old).unwrap();
    assert_eq!((line.program.as_str(), line.begun), ("/usr/bin/apt-get", None));
}

#[test]
fn the_wrapper_runs_what_was_written_down_once_and_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = crate::command::command("sh");
    shell.args(["-c", "echo said $LC_ALL; exit 3"]);
    let text = serde_json::to_vec(&Line::from(&shell)).unwrap();
    fs::write(dir.path().join("configure.json"), text).unwrap();
    wrapper(dir.path(), CONFIGURE).unwrap();
    let expected = Ended { code: Some(3), signal: None };
    assert_eq!(ended(dir.path(), CONFIGURE), Some(expected));
    wrapper(dir.path(), CONFIGURE).unwrap();
    let said = fs::read_to_string(dir.path().join("configure.log")).unwrap();
    assert_eq!(said, "said C.UTF-8\n", "it ran once, with its own environment");
}

#[test]
fn two_wrappers_of_one_command_do_not_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let lock = File::create(dir.path().join("unpack.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(locked(&dir.path().join("unpack.lock")));
    // There is nothing to run, and it does not come to look for it.
    wrapper(dir.path(), UNPACK).unwrap();
    drop(lock);
    assert!(wrapper(dir.path(), UNPACK).is_err());
}

#[test]
fn whoever_comes_after_a_dead_agent_waits_for_the_rung_that_it_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let order = ApplyOrder::default();
    let assignment = an_assignment(order.clone());
    let settings = Settings { runtime_dir: dir.path().join("run"), ..Settings::default() };
    let tx = Transaction {
        settings: &settings,
        driver: &Apt::new(&settings),
        assignment: &assignment,
        order: &order,
        directory: dir.path().to_owned(),
    };
    settle(&tx, dir.path()).unwrap();
    let mut shell = crate::command::command("sh");
    shell.args(["-c", "true"]);
    let text = serde_json::to_vec(&Line::from(&shell)).unwrap();
    fs::write(dir.path().join("unpack.json"), text).unwrap();
    let lock = File::create(dir.path().join("unpack.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let (directory, begun) = (dir.path().to_owned(), Instant::now());
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        durable::replace(&directory.join("unpack-status"), br#"{"code":0,"signal":null}"#).unwrap();
        drop(lock);
    });
    settle(&tx, dir.path()).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "it was not waited for");
    ends.join().unwrap();
}
