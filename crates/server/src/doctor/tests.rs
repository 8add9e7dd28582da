//! What is made of each thing that can be wrong.

use super::*;
use fettle_core::{Digest, Hold, ProblemKind};
use fettle_wire::api::FeedHeldRow;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-29T12:00:00Z";

fn feed(standing: FeedStanding) -> FeedRow {
    FeedRow {
        name: "debian-tracker".into(),
        records: 10,
        errors: 0,
        date: "2026-11-20".into(),
        imported_at: Some(at("2026-11-20T00:00:00Z")),
        origin: "file".into(),
        last_error: (standing == FeedStanding::Failed).then(|| "no such address".into()),
        failed_at: None,
        standing,
        confirmed_at: Some(at("2026-11-20T00:00:00Z")),
        age_seconds: Some(9 * 86_400),
        stale_after_seconds: 7 * 86_400,
        source: None,
        held: None,
    }
}

/// A server that lacks nothing.
fn well() -> Sight {
    let kept = |path: &str, mode: u32| Kept { path: path.into(), mode, owner: 104 };
    Sight {
        data: "/var/lib/fettle".into(),
        runs: true,
        files: Ok(vec![kept("/var/lib/fettle", 0o700), kept("/var/lib/fettle/keys/ca.key", 0o600)]),
        room: Some(Room { free: 40 << 30, inodes: Some(1 << 20), read_only: false }),
        database: Ok(Database { bytes: 1 << 30, schema: 6, known: 6 }),
        told: Some(Told {
            feeds: vec![feed(FeedStanding::Fresh)],
            ledger: Some(LedgerVerified { entries: 7, head: Digest::of(b"7"), broken: None }),
            newest_entry: Some(at("2026-11-29T11:59:00Z")),
            hosts: 3,
            unread_policies: Vec::new(),
            in_need: BTreeMap::new(),
            rollouts: Vec::new(),
        }),
        authority_ends: Ok(at("2046-11-29T00:00:00Z")),
        certificate_ends: Some(at("2027-11-29T00:00:00Z")),
        agents: Some(Ok(())),
        backups: Backups {
            directory: "/var/backups/fettle".into(),
            newest: Ok(Some(at("2026-11-29T01:00:00Z"))),
        },
    }
}

fn told(sight: &mut Sight) -> &mut Told {
    sight.told.as_mut().unwrap()
}

fn in_need(sight: &mut Sight, state: &'static str) {
    let some = InNeed { count: 2, some: vec!["web-1".into()] };
    told(sight).in_need.insert(state, some);
}

fn rollout(sight: &mut Sight, phase: Phase, since: &str) {
    let waiting = vec![Waiting { host: None, hold: Hold::OnlyRehearsed }];
    told(sight).rollouts.push(Standing { id: "ro-1".into(), phase, since: at(since), waiting });
}

fn held(sight: &mut Sight) {
    told(sight).feeds[0].held = Some(FeedHeldRow {
        digest: Digest::of(b"held"),
        origin: "https://vendor.example".into(),
        code: "feed-shrank".into(),
        reason: "half of it is gone".into(),
        held_at: at(NOW),
    });
}

#[test]
fn a_server_that_lacks_nothing_is_told_part_by_part_and_none_of_it_is_wrong() {
    let health = judge(&well(), at(NOW));
    assert!(
        health.symptoms.iter().all(|s| s.level == Level::Good && s.hint.is_empty()),
        "{health:?}"
    );
    let mut parts: Vec<&str> = health.symptoms.iter().map(|s| s.part.as_str()).collect();
    parts.sort_unstable();
    parts.dedup();
    let all = [
        "backups",
        "certificates",
        "clock",
        "data",
        "database",
        "disk",
        "feeds",
        "hosts",
        "ledger",
        "listeners",
        "rollouts",
    ];
    assert_eq!(parts, all);
}

/// What is done to a server that was well, and what must be said of it.
type Case = (fn(&mut Sight), Level, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        |s| told(s).unread_policies.push(("web".into(), "line 3: no such fact".into())),
        Level::Bad,
        "policies",
        "`web` is in force and cannot be read, so nothing is planned: line 3",
        "fettle policy show web",
    ),
    (|s| s.runs = false, Level::Bad, "listeners", "no server runs", "systemctl start fettle"),
    (|s| s.agents = Some(Err("refused".into())), Level::Bad, "listeners", "refused", "restart"),
    (
        |s| s.files = Err("permission denied".into()),
        Level::Bad,
        "data",
        "permission denied",
        "sudo",
    ),
    (
        |s| s.files.as_mut().unwrap()[1].mode = 0o640,
        Level::Bad,
        "data",
        "ca.key is open to others (mode 0640)",
        "chmod go= /var/lib/fettle/keys/ca.key",
    ),
    (
        |s| s.files.as_mut().unwrap()[1].owner = 0,
        Level::Bad,
        "data",
        "another user",
        "chown --reference=/var/lib/fettle /var/lib/fettle/keys/ca.key",
    ),
    (|s| s.room.as_mut().unwrap().free = 100 << 20, Level::Bad, "disk", "100 MiB", "make room"),
    (|s| s.room.as_mut().unwrap().free = 1 << 30, Level::Odd, "disk", "1024 MiB", "backup"),
    (|s| s.room.as_mut().unwrap().read_only = true, Level::Bad, "disk", "read-only", "dmesg"),
    (|s| s.room.as_mut().unwrap().inodes = Some(7), Level::Bad, "disk", "7 inodes", "small files"),
    (
        |s| {
            s.database = Err(Problem::new(
                ProblemKind::Environment,
                "database-damaged",
                "torn",
                "restore it",
            ))
        },
        Level::Bad,
        "database",
        "torn",
        "restore it",
    ),
    (
        |s| s.database = Ok(Database { bytes: 1, schema: 5, known: 6 }),
        Level::Odd,
        "database",
        "schema 5",
        "start the server",
    ),
    (
        |s| told(s).ledger.as_mut().unwrap().broken = Some("entry 8 was edited".into()),
        Level::Bad,
        "ledger",
        "entry 8 was edited",
        "fettle audit verify",
    ),
    (
        |s| told(s).newest_entry = Some(at("2026-11-29T12:05:00Z")),
        Level::Bad,
        "clock",
        "2026-11-29T12:05:00Z",
        "timedatectl",
    ),
    (
        |s| s.authority_ends = Ok(at("2026-12-09T00:00:00Z")),
        Level::Bad,
        "certificates",
        "no agent is heard",
        "enrol every host",
    ),
    (
        |s| s.authority_ends = Ok(at("2027-06-01T00:00:00Z")),
        Level::Odd,
        "certificates",
        "2027-06-01",
        "plan to enrol",
    ),
    (
        |s| s.authority_ends = Err("ca.pem: gone".into()),
        Level::Bad,
        "certificates",
        "gone",
        "backup keys",
    ),
    (
        |s| s.certificate_ends = Some(at("2026-12-09T00:00:00Z")),
        Level::Bad,
        "certificates",
        "2026-12-09",
        "restart",
    ),
    (
        |s| told(s).feeds[0] = feed(FeedStanding::Stale),
        Level::Bad,
        "feeds",
        "debian-tracker is 9 days old",
        "fettle feed import debian-tracker",
    ),
    (
        // As they came, and nobody has tried to have them newer: one warning for all of them.
        |s| {
            let bundled = || FeedRow {
                origin: format!("{BUNDLED_ORIGIN}: debian"),
                confirmed_at: Some(at("2026-11-19T00:00:00Z")),
                ..feed(FeedStanding::Stale)
            };
            told(s).feeds = vec![bundled(), bundled(), feed(FeedStanding::Fresh)];
        },
        Level::Odd,
        "feeds",
        "2 are as they came with Fettle, the oldest of 2026-11-20",
        "fettle feed sync",
    ),
    (
        // They were fetched since, and then went stale.
        |s| {
            told(s).feeds[0] = FeedRow {
                origin: format!("{BUNDLED_ORIGIN}: debian"),
                confirmed_at: Some(at("2026-11-21T00:00:00Z")),
                ..feed(FeedStanding::Stale)
            };
        },
        Level::Bad,
        "feeds",
        "debian-tracker is 9 days old",
        "fettle feed import debian-tracker",
    ),
    (
        |s| told(s).feeds[0] = feed(FeedStanding::Failed),
        Level::Odd,
        "feeds",
        "no such address",
        "fettle feed import debian-tracker",
    ),
    (|s| told(s).feeds.clear(), Level::Bad, "feeds", "no vulnerability data", "--bundled"),
    (held, Level::Bad, "feeds", "half of it is gone", "fettle feed accept debian-tracker"),
    (|s| told(s).hosts = 0, Level::Odd, "hosts", "none is enrolled", "fettle token create"),
    (
        |s| in_need(s, "quarantined"),
        Level::Bad,
        "hosts",
        "2 of 3 are quarantined: web-1, …",
        "release",
    ),
    (|s| in_need(s, "silent"), Level::Odd, "hosts", "2 of 3 are silent", "fettle-agent doctor"),
    (|s| in_need(s, "no-policy"), Level::Odd, "hosts", "no-policy", "fettle policy explain"),
    (
        |s| rollout(s, Phase::Halted { hold: Hold::OnlyRehearsed }, "2026-11-29T11:00:00Z"),
        Level::Bad,
        "rollouts",
        "ro-1 is halted",
        "fettle rollout show ro-1",
    ),
    (
        |s| {
            let phase = Phase::Paused { by: "alice".into(), reason: "lunch".into() };
            rollout(s, phase, "2026-11-27T11:00:00Z");
        },
        Level::Odd,
        "rollouts",
        "paused by alice",
        "fettle rollout resume ro-1",
    ),
    (
        |s| rollout(s, Phase::Running, "2026-11-28T10:00:00Z"),
        Level::Odd,
        "rollouts",
        "has not moved for 26 h",
        "fettle rollout show ro-1",
    ),
    (
        |s| s.backups.newest = Ok(None),
        Level::Odd,
        "backups",
        "there is none",
        "fettle-backup.timer",
    ),
    (
        |s| s.backups.newest = Err("no such directory".into()),
        Level::Odd,
        "backups",
        "no such",
        "--backups",
    ),
    (
        |s| s.backups.newest = Ok(Some(at("2026-11-26T11:00:00Z"))),
        Level::Odd,
        "backups",
        "2026-11-26",
        "systemctl status",
    ),
];

#[test]
fn whatever_is_wrong_is_told_first_with_what_to_do() {
    for (number, (harm, level, part, what, hint)) in CASES.iter().enumerate() {
        let mut sight = well();
        harm(&mut sight);
        let health = judge(&sight, at(NOW));
        let first = &health.symptoms[0];
        let told = (first.level, first.part.as_str());
        assert_eq!(told, (*level, *part), "case {number}: {health:?}");
        assert!(first.what.contains(what), "case {number}: {first:?}");
        assert!(first.hint.contains(hint), "case {number}: {first:?}");
        let wrong = health.symptoms.iter().filter(|s| s.level != Level::Good).count();
        assert_eq!(wrong, 1, "one thing is wrong, case {number}: {health:?}");
    }
}

#[test]
fn a_rollout_that_moves_or_was_paused_lately_is_not_stuck() {
    for phase in [Phase::Running, Phase::Paused { by: "a".into(), reason: "b".into() }] {
        let mut sight = well();
        rollout(&mut sight, phase, "2026-11-29T11:00:00Z");
        let health = judge(&sight, at(NOW));
        assert!(health.symptoms.iter().all(|s| s.level == Level::Good), "{health:?}");
    }
}
