//! What a server says of itself, and what its data say when it does not run.

use crate::fleet::{Lab, quick, until};
use fettle_server::{Server, ServerOptions, doctor};
use fettle_wire::api::{Health, Level, Symptom};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn of<'a>(health: &'a Health, part: &str) -> Vec<&'a Symptom> {
    health.symptoms.iter().filter(|s| s.part == part).collect()
}

fn good(health: &Health, part: &str) -> bool {
    let found = of(health, part);
    !found.is_empty() && found.iter().all(|s| s.level == Level::Good)
}

#[test]
fn a_server_at_work_says_how_it_is_and_names_what_stands_still() {
    let lab = Lab::furnished();
    let health: Health = lab.get("/doctor");
    for part in ["data", "disk", "database", "ledger", "certificates", "clock", "listeners"] {
        assert!(good(&health, part), "{part}: {health:?}");
    }
    let hosts = of(&health, "hosts");
    assert_eq!(hosts[0].hint, "fettle token create", "{hosts:?}");

    let agents = [lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    until("the hosts", || Some(()).filter(|()| good(&lab.get("/doctor"), "hosts")));
    drop(agents);
    // A key that others can read is told with what to type.
    let key = lab.data().join("keys/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let health: Health = lab.get("/doctor");
    assert_eq!(health.symptoms[0].level, Level::Bad);
    assert_eq!(health.symptoms[0].hint, format!("chmod go= {}", key.display()));
}

#[test]
fn the_data_of_a_server_that_is_down_are_looked_at_without_it_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backups) = (dir.path().join("data"), dir.path().join("backups"));
    // Nothing at all is told, and nothing is made.
    let health = doctor::offline(&data, &backups);
    assert_eq!(health.symptoms[0].level, Level::Bad, "{health:?}");
    assert!(!data.exists());

    Server::start(ServerOptions { ..quick(&data) }).unwrap().stop();
    let before = fs::read(data.join("fettle.db")).unwrap();
    let health = doctor::offline(&data, &backups);
    assert!(of(&health, "listeners")[0].what.contains("no server runs"), "{health:?}");
    for part in ["data", "database", "ledger", "certificates", "clock"] {
        assert!(good(&health, part), "{part}: {health:?}");
    }
    assert!(before == fs::read(data.join("fettle.db")).unwrap(), "the database is as it was");
    // A backup is found by its age, whoever made it.
    fs::create_dir(&backups).unwrap();
    fs::write(backups.join("fettle-20261129T010203Z.tar.gz"), b"").unwrap();
    assert!(good(&doctor::offline(&data, &backups), "backups"));
    // A server that runs is seen by its lock.
    let running = Server::start(quick(&data)).unwrap();
    assert!(good(&doctor::offline(&data, &backups), "listeners"));
    running.stop();

    // A file that something else was written into, and whose log is gone.
    for log in ["fettle.db-wal", "fettle.db-shm"] {
        let _ = fs::remove_file(data.join(log));
    }
    fs::write(
        data.join("fettle.db"),
        "something else, and long enough to have a header".repeat(200),
    )
    .unwrap();
    let health = doctor::offline(&data, &backups);
    assert_eq!(of(&health, "database")[0].level, Level::Bad, "{health:?}");
    assert!(of(&health, "ledger").is_empty(), "nothing is said of what was not seen");
}
