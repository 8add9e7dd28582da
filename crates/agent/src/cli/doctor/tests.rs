use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A host with nothing wrong.
fn well() -> Sight {
    let lists = tempfile::tempdir().unwrap();
    let release =
        "Origin: Debian\nLabel: Debian\nSuite: stable\nDate: Tue, 24 Nov 2026 08:00:00 UTC\n";
    std::fs::write(lists.path().join("mirror_dists_stable_InRelease"), release).unwrap();
    Sight {
        root: true,
        systemd: true,
        overlay: true,
        service: Some(true),
        identity: Ok(Some(("h-1".into(), "https://fettle.example.net:8441".into()))),
        server: Some(Ok(())),
        indexes: index::read(lists.path()),
        preflight: preflight::Sight { half_done: Ok(vec![]), lock: Ok(None), notes: vec![] },
        rooms: vec![Room { path: "/", free: 9 << 30, inodes: Some(1 << 20), read_only: false }],
        quarantined: vec![],
        interrupted: vec![],
        unreadable: vec![],
        dead_probes: vec![],
        untrusted: vec![],
    }
}

/// What is said of a directory of hooks in which everybody may write.
fn anybodys() -> Vec<Untrusted> {
    use std::os::unix::fs::PermissionsExt as _;
    let config = tempfile::tempdir().unwrap();
    let hooks = config.path().join("hooks.d");
    std::fs::create_dir(&hooks).unwrap();
    std::fs::set_permissions(&hooks, std::fs::Permissions::from_mode(0o777)).unwrap();
    untrusted(config.path())
}

#[test]
fn a_host_that_is_well_is_said_to_be_and_what_was_looked_at() {
    let all = judge(&well(), now());
    assert!(all.iter().all(|s| s.level == Level::Good && s.hint.is_empty()), "{all:?}");
    let parts: Vec<&str> = all.iter().map(|s| s.part).collect();
    assert_eq!(parts, ["server", "packages", "package lists", "disk"]);
}

#[test]
fn each_thing_that_is_wrong_is_named_with_what_to_do_and_the_worst_comes_first() {
    type Harm = fn(&mut Sight);
    let room = |free, inodes, read_only| vec![Room { path: "/boot", free, inodes, read_only }];
    let rooms = [
        (room(1 << 20, None, false), Level::Bad, "1 MiB"),
        (room(9 << 30, Some(5), false), Level::Bad, "5 inodes"),
        (room(9 << 30, None, true), Level::Bad, "read-only"),
        (room(200 << 20, None, false), Level::Good, "200 MiB"),
    ];
    for (rooms, level, words) in rooms {
        let all = judge(&Sight { rooms, ..well() }, now());
        let disk = all.iter().find(|s| s.part == "disk").unwrap();
        assert!(disk.level == level && disk.what.contains(words), "{disk:?}");
    }
    let harms: [(Harm, &str, Level, &str); 13] = [
        (|s| s.root = false, "user", Level::Odd, "sudo"),
        (|s| s.server = Some(Err("refused".into())), "server", Level::Bad, "port"),
        (|s| s.identity = Err("torn".into()), "server", Level::Bad, "enroll --force"),
        (|s| s.service = Some(false), "service", Level::Bad, "systemctl enable --now"),
        (|s| s.systemd = false, "systemd", Level::Odd, "looks on"),
        (|s| s.overlay = false, "rehearsal", Level::Bad, "modprobe overlay"),
        (|s| s.preflight.half_done = Ok(vec!["nginx".into()]), "packages", Level::Bad, "--repair"),
        (|s| s.preflight.notes = vec!["apt-daily".into()], "packages", Level::Odd, "meant so"),
        (|s| s.indexes = Indexes::default(), "package lists", Level::Bad, "apt-get update"),
        (|s| s.quarantined = vec!["tx-1".into()], "transactions", Level::Bad, "quarantine"),
        (|s| s.interrupted = vec!["tx-1".into()], "transactions", Level::Bad, "resume"),
        (|s| s.dead_probes = vec!["web".into()], "probes", Level::Odd, "chmod 755"),
        (|s| s.untrusted = anybodys(), "programs", Level::Bad, "chmod go-w"),
    ];
    for (harm, part, level, hint) in harms {
        let mut sight = well();
        harm(&mut sight);
        let all = judge(&sight, now());
        let found = |s: &&Symptom| s.part == part && s.level == level && s.hint.contains(hint);
        assert!(all.iter().any(|s| found(&s)), "{part}: {all:?}");
        assert!(all.windows(2).all(|pair| pair[0].level >= pair[1].level), "{all:?}");
    }
    let early = judge(&well(), "2025-11-24T12:00:00Z".parse().unwrap());
    assert!(early.iter().any(|s| s.part == "clock" && s.level == Level::Bad), "{early:?}");
}
