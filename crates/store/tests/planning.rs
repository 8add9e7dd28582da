//! What policies do by themselves, kept so that it is done once.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::cycle::{CycleOutcome, CycleRun, CycleState};
use fettle_core::emergency::{EmergencyPlan, EmergencyState};
use fettle_core::plan::{Plan, SCHEMA};
use fettle_core::rollout::{Rollout, RolloutEvent};
use fettle_core::{Digest, Hold, HostId, RolloutId, Timestamp};
use fettle_store::{Store, StoreError, cycles, emergencies, ledger, plans, rollouts};

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

fn plan(number: u64) -> Plan {
    Plan {
        schema: SCHEMA,
        number,
        parent: None,
        policy: "web".into(),
        policy_digest: Digest::of(b"p"),
        made_at: at(0),
        seed: 1,
        hosts: [].into(),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![],
    }
}

#[test]
fn an_emergencys_plan_is_not_the_newest_of_its_policy_and_is_told_apart_until_it_is_overtaken() {
    let (_dir, store) = store();
    let newest = || {
        store.read(|v| {
            let newest = plans::newest_of(v, "web")?;
            Ok::<_, StoreError>((newest, plans::emergencies_after(v, "web", newest.unwrap_or(0))?))
        })
    };
    let keep = |number, replaces: Option<Option<u64>>| {
        store
            .write::<_, StoreError>("server", at(1), |tx| {
                plans::insert(tx, &plan(number), "server")?;
                let Some(replaces) = replaces else { return Ok(()) };
                let it = EmergencyPlan {
                    plan: number,
                    policy: "web".into(),
                    at: at(1),
                    findings: [].into(),
                    declared_by: [].into(),
                    covers: [].into(),
                    called_at: at(1),
                    replaces,
                    state: EmergencyState::Open,
                };
                emergencies::insert(tx, &it)
            })
            .unwrap();
    };
    keep(1, Some(None));
    assert_eq!(newest().unwrap(), (None, vec![1]));
    keep(2, None);
    assert_eq!(newest().unwrap(), (Some(2), vec![]));
    keep(3, Some(Some(1)));
    keep(4, Some(Some(3)));
    assert_eq!(newest().unwrap(), (Some(2), vec![4]), "4 was put in the place of 3");
    keep(5, None);
    assert_eq!(newest().unwrap(), (Some(5), vec![]));
}

#[test]
fn events_of_harm_are_those_that_a_report_counts_and_no_others() {
    let (_dir, store) = store();
    let (plan, id) = (plan(1), RolloutId::from("ro-1"));
    let created = Rollout::create(&id, plan.clone(), "a");
    let mut state = Rollout::begin(&id, at(0), &created).unwrap();
    let host = HostId::from("h1");
    let hold = Hold::Paused { by: String::new(), reason: String::new() };
    let events = [
        RolloutEvent::Redeemed { host: host.clone() },
        RolloutEvent::WaveEnded { wave: 0 },
        RolloutEvent::Silent { host: host.clone(), last_seen: None },
        RolloutEvent::Halted { hold, judged: vec![] },
        RolloutEvent::UndoAsked {
            host: host.clone(),
            assignment: "as".into(),
            generation: 2,
            reason: String::new(),
        },
        RolloutEvent::Ended { host, outcome: fettle_core::transaction::Outcome::Patched },
        RolloutEvent::Done,
    ];
    store
        .write::<_, StoreError>("operator:a", at(0), |tx| {
            plans::insert(tx, &plan, "alice")?;
            state.version = 1;
            rollouts::create(tx, 1, &state, &created)?;
            state.version += events.len() as u64;
            rollouts::append(tx, &state, &events)
        })
        .unwrap();
    let told = store.read(|v| rollouts::events_of_harm(v, &id)).unwrap();
    let told: Vec<_> = told.into_iter().map(|it| (it.version, it.event)).collect();
    let wanted = [2_u64, 4, 5, 6, 7].map(|version| (version, events[version as usize - 2].clone()));
    assert_eq!(told, wanted);
}
