//! What policies do by themselves, kept so that it is done once.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::cycle::{CycleOutcome, CycleRun, CycleState};
use fettle_core::{RolloutId, Timestamp};
use fettle_store::{Store, StoreError, cycles, ledger};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fettle.db")).unwrap();
    (dir, store)
}

fn put(store: &Store, before: Option<&CycleRun>, run: &CycleRun) -> Result<(), StoreError> {
    store.write("server", at(9), |tx| cycles::put(tx, "web", before, run))
}

fn run(due: i64, state: CycleState) -> CycleRun {
    CycleRun { due: at(due), seen_at: at(due), skipped: 0, state }
}

#[test]
fn of_two_servers_that_saw_the_same_one_takes_the_step() {
    let (_dir, store) = store();
    let planned = run(0, CycleState::Planned { plan: 1 });
    put(&store, None, &planned).unwrap();
    assert!(matches!(put(&store, None, &planned), Err(StoreError::Conflict(_))));
    let started = run(0, CycleState::Started { plan: 1, rollout: "ro-1".into() });
    put(&store, Some(&planned), &started).unwrap();
    assert!(matches!(put(&store, Some(&planned), &started), Err(StoreError::Conflict(_))));
    // The next time it comes due is another run, whatever the one before is.
    let next = run(100, CycleState::Held { holds: vec![] });
    put(&store, Some(&started), &next).unwrap();
    assert_eq!(store.read(|v| cycles::latest(v, "web", 10)).unwrap(), [next, started]);
    let kinds: Vec<_> =
        store.read(|v| ledger::after(v, 0, 10)).unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["cycle.planned", "cycle.started", "cycle.held"]);
}

#[test]
fn what_went_wrong_stands_until_a_person_or_a_good_run_ends_it() {
    let (_dir, store) = store();
    let failed = |rollout: &str| CycleState::Ended {
        outcome: CycleOutcome::Failed { rollout: rollout.into(), reason: "aborted".into() },
        at: at(9),
    };
    let open = || store.read(|v| cycles::failed(v, "web")).unwrap();
    assert_eq!(open(), None);
    put(&store, None, &run(0, failed("ro-1"))).unwrap();
    // One that had nothing to do is no proof that it is well again.
    let nothing = CycleState::Ended { outcome: CycleOutcome::NothingOwed, at: at(9) };
    put(&store, None, &run(1, nothing)).unwrap();
    assert_eq!(open(), Some((RolloutId::from("ro-1"), "aborted".to_owned())));
    let pardon = || store.write("operator:alice", at(10), |tx| cycles::pardon(tx, "web", "looked"));
    assert_eq!(pardon().unwrap(), RolloutId::from("ro-1"));
    assert_eq!(open(), None);
    assert!(matches!(pardon(), Err(StoreError::Missing { .. })));
    put(&store, None, &run(2, failed("ro-2"))).unwrap();
    assert!(open().is_some());
    let done = CycleOutcome::Done { rollout: "ro-3".into() };
    put(&store, None, &run(3, CycleState::Ended { outcome: done, at: at(9) })).unwrap();
    assert_eq!(open(), None);
}
