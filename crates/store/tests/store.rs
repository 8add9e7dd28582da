//! The store under bad weather: crashes, tampering, locks, damage.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::Labels;
use fettle_core::plan::{Plan, SCHEMA};
use fettle_core::rollout::{Rollout, RolloutEvent};
use fettle_core::{Digest, HostId, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_store::{
    Store, StoreError, StoreOptions, Tx, findings, hosts, judged, ledger, plans, rollouts,
    settings, tokens,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn store() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    let store = Store::open(&path).unwrap();
    (dir, path, store)
}

fn enrol(store: &Store, id: &str, name: &str) -> Result<(), StoreError> {
    store.write("server", at(0), |tx| {
        let labels = Labels::from([("ring".to_owned(), "canary".to_owned())]);
        hosts::enrol(
            tx,
            &hosts::NewHost {
                id: &HostId::from(id),
                name,
                labels: &labels,
                agent_version: "0.1.0",
            },
        )
    })
}

fn entries(store: &Store) -> u64 {
    store.read(ledger::len).unwrap()
}

#[test]
fn a_change_and_its_ledger_entry_are_there_together_after_reopening() {
    let (_dir, path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let host = store.read(|v| hosts::find(v, "web-1")).unwrap();
    assert_eq!(host.host.labels.get("ring").map(String::as_str), Some("canary"));
    let entries = store.read(|v| ledger::after(v, 0, 10)).unwrap();
    assert_eq!(entries.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["host.enrolled"]);
    assert_eq!(store.read(ledger::verify).unwrap().broken, None);
}

#[test]
fn a_transaction_that_dies_before_its_commit_leaves_neither_change_nor_entry() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write::<(), StoreError>("server", at(1), |tx| {
            settings::set(tx, "fleet", "x")?;
            panic!("the process dies here");
        })
    }));
    assert!(died.is_err());
    assert_eq!(store.read(|v| settings::get(v, "fleet")).unwrap(), None);
    assert_eq!(entries(&store), 1);
    // And the store still works.
    enrol(&store, "h2", "web-2").unwrap();
    assert_eq!(entries(&store), 2);
}

#[test]
fn a_failed_step_takes_the_whole_transaction_back() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let out = store.write::<(), StoreError>("server", at(1), |tx| {
        settings::set(tx, "fleet", "x")?;
        hosts::retire(tx, &HostId::from("nobody"))
    });
    assert!(matches!(out, Err(StoreError::Missing { .. })), "{out:?}");
    assert_eq!(store.read(|v| settings::get(v, "fleet")).unwrap(), None);
    assert_eq!(entries(&store), 1);
}

#[test]
fn being_heard_is_kept_without_a_ledger_entry() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let id = HostId::from("h1");
    store
        .write::<(), StoreError>("server", at(5), |tx| {
            hosts::heard(tx, [(&id, at(5), "0.1.0"), (&id, at(3), "0.1.0")])
        })
        .unwrap();
    assert_eq!(store.read(|v| hosts::get(v, &id)).unwrap().unwrap().host.last_seen, Some(at(5)));
    assert_eq!(entries(&store), 1);
}

#[test]
fn two_hosts_cannot_have_one_name() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    assert!(matches!(enrol(&store, "h2", "web-1"), Err(StoreError::Exists(_))));
    assert_eq!(entries(&store), 1);
}

#[test]
fn one_flipped_byte_in_any_column_of_the_ledger_is_found_at_its_entry() {
    for (column, sql) in [
        ("body", "UPDATE ledger SET body = replace(body, 'web-3', 'web-4') WHERE idx = 3"),
        ("actor", "UPDATE ledger SET actor = 'operator:mallory' WHERE idx = 3"),
        ("at", "UPDATE ledger SET at = '2020-01-01T00:00:00Z' WHERE idx = 3"),
        (
            "hash",
            "UPDATE ledger SET hash = 'sha256:' || replace(substr(hash, 8), '0', '1') WHERE idx = 3",
        ),
        ("unreadable", "UPDATE ledger SET body = '{' WHERE idx = 3"),
        ("deleted", "DELETE FROM ledger WHERE idx = 3"),
    ] {
        let (_dir, path, store) = store();
        for n in 1..=5 {
            enrol(&store, &format!("h{n}"), &format!("web-{n}")).unwrap();
        }
        assert_eq!(store.read(ledger::verify).unwrap().entries, 5);
        let raw = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(raw.execute(sql, []).unwrap(), 1, "{column}: the edit must have happened");
        let verdict = store.read(ledger::verify).unwrap();
        assert_eq!(verdict.entries, 2, "{column}");
        assert!(
            verdict.broken.as_deref().unwrap_or_default().contains("entry 3"),
            "{column}: {:?}",
            verdict.broken
        );
    }
}

#[test]
fn a_token_is_used_once_and_not_after_its_time() {
    let (_dir, _path, store) = store();
    let (good, late) = (Digest::of(b"good"), Digest::of(b"late"));
    store
        .write::<_, StoreError>("operator:a", at(0), |tx| {
            tokens::insert(tx, good, &Labels::new(), at(60))?;
            tokens::insert(tx, late, &Labels::new(), at(10))
        })
        .unwrap();
    let take = |hash, now| {
        store
            .write::<_, StoreError>("server", now, |tx| tokens::take(tx, hash, &HostId::from("h")))
            .unwrap()
    };
    assert_eq!(take(Digest::of(b"guess"), at(1)), tokens::Used::Unknown);
    assert_eq!(take(good, at(30)), tokens::Used::Labels(Labels::new()));
    assert_eq!(take(good, at(31)), tokens::Used::Already { at: at(30) });
    assert_eq!(take(late, at(10)), tokens::Used::Expired { at: at(10) });
}

fn plan(number: u64, parent: Option<Digest>) -> Plan {
    Plan {
        schema: SCHEMA,
        number,
        parent,
        policy: "web".into(),
        policy_digest: Digest::of(b"p"),
        made_at: at(0),
        seed: 1,
        hosts: BTreeMap::new(),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![],
    }
}

fn rollout(plan: &Plan, version: u64) -> Rollout {
    let id = RolloutId::from("ro-1");
    let begun = Rollout::create(&id, plan.clone(), "a");
    let mut rollout = Rollout::begin(&id, at(0), &begun).unwrap();
    rollout.version = version;
    rollout
}

#[test]
fn of_two_drivers_that_race_one_loses_cleanly() {
    let (_dir, _path, store) = store();
    let plan = plan(1, None);
    let created = RolloutEvent::Created {
        by: "a".into(),
        plan: plan.clone().into(),
        approvals: vec![],
        principal: String::new(),
    };
    store
        .write::<_, StoreError>("operator:a", at(0), |tx| {
            plans::insert(tx, &plan, "alice")?;
            plans::take_effect(tx, &plan)?;
            rollouts::create(tx, 1, &rollout(&plan, 1), &created)
        })
        .unwrap();
    let before = entries(&store);
    let append = |event: RolloutEvent| {
        store.write::<_, StoreError>("server", at(1), |tx| {
            rollouts::append(tx, &rollout(&plan, 2), &[event])
        })
    };
    append(RolloutEvent::WaveEnded { wave: 0 }).unwrap();
    let lost = append(RolloutEvent::Done);
    assert!(matches!(lost, Err(StoreError::Conflict(_))), "{lost:?}");
    let events = store.read(|v| rollouts::events(v, &RolloutId::from("ro-1"), 0)).unwrap();
    assert_eq!(events.iter().map(|e| e.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[1].event, RolloutEvent::WaveEnded { wave: 0 });
    assert_eq!(entries(&store), before + 1);
}

#[test]
fn a_plan_takes_effect_only_while_its_parent_is_in_force() {
    let (_dir, _path, store) = store();
    let (first, rival) = (plan(1, None), plan(2, None));
    let go = |plan: &Plan| {
        store.write::<_, StoreError>("operator:a", at(1), |tx| plans::take_effect(tx, plan))
    };
    store
        .write::<_, StoreError>("operator:a", at(0), |tx| {
            plans::insert(tx, &first, "alice")?;
            plans::insert(tx, &rival, "bob")
        })
        .unwrap();
    go(&first).unwrap();
    assert!(matches!(go(&rival), Err(StoreError::Conflict(_))));
    assert!(matches!(go(&first), Err(StoreError::Conflict(_))), "a plan takes effect once");
    go(&plan(3, Some(first.digest()))).unwrap();
}

fn finding(id: &str, state: FindingState) -> Finding {
    Finding {
        host: HostId::from("h1"),
        id: id.into(),
        source: "openssl".into(),
        installed: "3.0.15-1".into(),
        binaries: vec!["libssl3".into()],
        state,
        fixed_version: Some("3.0.16-1".into()),
        offered: true,
        in_use: true,
        exposed: false,
        urgency: String::new(),
        ranking: fettle_core::advisory::Ranking {
            cvss: Some(7.5),
            epss: Some(0.123_45),
            ..Default::default()
        },
        class: String::new(),
        deadline: None,
    }
}

#[test]
fn findings_keep_their_first_sight_and_are_written_only_when_they_change() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let id = HostId::from("h1");
    let update = |now, list: Vec<Finding>| {
        store
            .write::<_, StoreError>("server", now, |tx| findings::update(tx, &id, list, |_, _| {}))
            .unwrap()
    };
    let open =
        || vec![finding("CVE-1", FindingState::Open), finding("CVE-2", FindingState::NoFixYet)];
    assert_eq!(
        update(at(10), open()),
        findings::Changed { new: 2, written: 2, ..Default::default() }
    );
    let before = entries(&store);
    assert_eq!(update(at(20), open()), findings::Changed::default());
    assert_eq!(entries(&store), before, "nothing changed, nothing recorded");

    // CVE-1 is judged fixed, CVE-2 was taken back.
    let fixed = vec![finding("CVE-1", FindingState::Fixed)];
    assert_eq!(
        update(at(30), fixed.clone()),
        findings::Changed { moved: 1, fixed: 1, withdrawn: 1, written: 2, ..Default::default() }
    );
    assert_eq!(update(at(40), fixed), findings::Changed::default());
    let known = store.read(|v| findings::of_host(v, &id)).unwrap();
    assert_eq!(known.len(), 1, "what is withdrawn is not fixed");
    for record in known.values() {
        assert_eq!(
            (record.first_seen, record.since, record.fixed_at),
            (at(10), at(30), Some(at(30)))
        );
    }
    let totals = store.read(|v| findings::totals(v, at(50), at(60))).unwrap();
    assert_eq!(totals.by_state, BTreeMap::from([("fixed".to_owned(), 1)]));
    // It comes back: open again, first seen when it was first seen.
    update(at(50), open());
    let known = store.read(|v| findings::of_host(v, &id)).unwrap();
    let back = &known[&("CVE-1".to_owned(), "openssl".to_owned())];
    assert_eq!((back.first_seen, back.since, back.fixed_at), (at(10), at(50), None));
}

#[test]
fn findings_of_a_host_that_are_forgotten_are_another_judgement_than_anybody_knows() {
    let (_dir, _path, store) = store();
    let (one, other) = (HostId::from("h1"), HostId::from("h2"));
    for (id, name, state) in
        [(&one, "web-1", FindingState::Fixed), (&other, "web-2", FindingState::Open)]
    {
        enrol(&store, id.as_str(), name).unwrap();
        for state in [FindingState::Open, state] {
            let found = || vec![Finding { host: id.clone(), ..finding("CVE-1", state) }];
            let keep = |tx: &mut Tx<'_>| {
                findings::update(tx, id, found(), |_, _| {})?;
                judged::set(tx, id, 7)
            };
            store.write::<_, StoreError>("server", at(10), keep).unwrap();
        }
    }
    let stands = |id| store.read(|view| judged::of_host(view, id)).unwrap().unwrap().judged;
    let forget = |before| {
        let change = |tx: &mut Tx<'_>| findings::forget_fixed(tx, at(before));
        store.write::<_, StoreError>("server", at(20), change).unwrap()
    };
    assert_eq!((forget(5), stands(&one)), (0, Some(7)));
    assert_eq!(forget(15), 1);
    assert_ne!(stands(&one), Some(7));
    assert_eq!(stands(&other), Some(7), "nothing of it was forgotten");
    let all = store.read(judged::of_all).unwrap();
    assert_eq!(all.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&one, &other]);
    let nobody = HostId::from("h3");
    assert_eq!(store.read(|view| judged::of_host(view, &nobody)).unwrap(), None);
}

#[test]
fn what_comes_back_after_it_was_fixed_counts_anew_from_then_on() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let id = HostId::from("h1");
    let judge = |now, state| {
        let mut counted_from = None;
        let change = |tx: &mut Tx<'_>| {
            findings::update(tx, &id, vec![finding("CVE-1", state)], |_, from| {
                counted_from = Some(from);
            })
        };
        store.write::<_, StoreError>("server", at(now), change).unwrap();
        counted_from
    };
    let dated = |from, to| {
        let mut all = Vec::new();
        let take = |d: findings::Dated<'_>| all.push((d.first_seen, d.mark.fixed_at));
        store.read(|v| findings::each_between(v, at(from), at(to), take)).unwrap();
        all
    };
    assert_eq!(judge(10, FindingState::Open), Some(at(10)));
    assert_eq!(judge(20, FindingState::Fixed), Some(at(10)));
    assert_eq!(dated(0, 100), [(at(10), Some(at(20)))]);
    // Ten months later an undo brings it back: what was done in time then stays done, and this is new.
    assert_eq!(judge(300, FindingState::Open), Some(at(300)));
    assert_eq!(dated(250, 400), [(at(300), None)]);
    assert_eq!(dated(0, 300), [], "it is no part of the time before");
    assert_eq!(judge(301, FindingState::PendingRestart), Some(at(300)), "it went on");
    judge(302, FindingState::Fixed);
    assert_eq!(dated(250, 400), [(at(300), Some(at(302)))]);
    let known = store.read(|v| findings::of_host(v, &id)).unwrap();
    let record = known.values().next().unwrap();
    assert_eq!((record.first_seen, record.counts_from()), (at(10), at(300)));
    judge(500, FindingState::Open);
    assert_eq!(dated(250, 600), [(at(500), None)]);
}

#[test]
fn a_report_is_told_the_binaries_of_what_is_open_and_owed_and_of_nothing_else() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let id = HostId::from("h1");
    let owed = |cve: &str, state, by| {
        let binaries = vec!["libssl3".to_owned(), "openssl".to_owned()];
        Finding { deadline: Some(at(by)), binaries, ..finding(cve, state) }
    };
    let all = vec![
        owed("CVE-1", FindingState::Open, 50),
        owed("CVE-2", FindingState::Open, 100),
        owed("CVE-3", FindingState::PendingRestart, 50),
    ];
    let change = |tx: &mut Tx<'_>| findings::update(tx, &id, all, |_, _| {});
    store.write::<_, StoreError>("server", at(10), change).unwrap();
    let mut told = Vec::new();
    let take = |d: findings::Dated<'_>| told.push((d.mark.id.to_owned(), d.binaries.to_owned()));
    store.read(|v| findings::each_between(v, at(0), at(100), take)).unwrap();
    told.sort();
    let told: Vec<_> = told.iter().map(|(id, it)| (id.as_str(), it.as_str())).collect();
    let named = r#"["libssl3","openssl"]"#;
    assert_eq!(told, [("CVE-1", named), ("CVE-2", ""), ("CVE-3", "")]);
}

#[test]
fn a_locked_database_is_named_with_what_to_do() {
    let (_dir, path, store) = store();
    drop(store);
    let options = StoreOptions { busy_milliseconds: 50, ..StoreOptions::default() };
    let store = Store::open_with(&path, options).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .write::<_, StoreError>("server", at(0), |tx| settings::set(tx, "a", "b"))
        .unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    let problem = Problem::from(error);
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Unavailable, "database-locked")
    );
    // Readers do not wait for it.
    assert_eq!(store.read(|v| settings::get(v, "a")).unwrap(), None);
    other.execute_batch("ROLLBACK").unwrap();
    store.write::<_, StoreError>("server", at(0), |tx| settings::set(tx, "a", "b")).unwrap();
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let (_dir, path, store) = store();
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("INSERT INTO schema_version (version) VALUES (99)", []).unwrap();
    drop(raw);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }), "{error:?}");
    assert_eq!(Problem::from(error).code, "database-newer");
}

#[test]
fn a_damaged_file_is_refused_at_the_start() {
    let (_dir, path, store) = store();
    for n in 0..200 {
        enrol(&store, &format!("h{n}"), &format!("web-{n}")).unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // Fill everything after the schema's pages with noise: some of it is a b-tree page in use.
    let from = 4096 * 30;
    assert!(
        bytes.len() > from + 4096,
        "the file must be big enough for the injection: {}",
        bytes.len()
    );
    bytes[from..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!(Problem::from(error).code, "database-damaged");

    std::fs::write(&path, b"this is no database, but it is long enough to be looked at as if it were one......................").unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Corrupt { .. }));
}

#[test]
fn a_missing_directory_says_which_file_could_not_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("no/such/fettle.db")).unwrap_err();
    assert!(
        matches!(&error, StoreError::Open { path, .. } if path.ends_with("no/such/fettle.db")),
        "{error:?}"
    );
}

#[test]
fn a_full_disk_is_told_apart_and_nothing_half_is_kept() {
    let (_dir, path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    // SQLite's own limit stands in for the disk's: same result code.
    let error = store
        .write::<_, StoreError>("server", at(0), |tx| {
            fettle_store::Tx::limit_pages_for_test(tx, 1)?;
            settings::set(tx, "big", &"x".repeat(1 << 20))
        })
        .unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert_eq!(store.read(|v| settings::get(v, "big")).unwrap(), None);
    assert_eq!(entries(&store), 1);
}

#[test]
fn hosts_that_a_commit_changed_are_named_once_and_those_of_a_failed_one_never() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    assert!(!store.is_untouched());
    assert_eq!(store.take_touched(), [HostId::new("h1")].into());
    assert!(store.is_untouched() && store.take_touched().is_empty());

    let id = HostId::new("h1");
    let failed = store.write::<(), StoreError>("server", at(1), |tx| {
        hosts::set_quarantine(tx, &id, Some("x"))?;
        Err(StoreError::Exists("no".into()))
    });
    assert!(failed.is_err() && store.is_untouched());
    let heard = |tx: &mut Tx<'_>| hosts::heard(tx, [(&id, at(2), "0.1.0")]);
    store.write::<_, StoreError>("server", at(2), heard).unwrap();
    assert!(store.is_untouched(), "being heard is no news for lists");

    let judged = || vec![finding("CVE-1", FindingState::Open)];
    let update = |second| {
        let change = |tx: &mut Tx<'_>| findings::update(tx, &id, judged(), |_, _| {});
        store.write::<_, StoreError>("server", at(second), change).unwrap();
        store.take_touched()
    };
    assert_eq!(update(3), [id.clone()].into());
    assert!(update(4).is_empty(), "judged again, nothing changed");
    store.write::<_, StoreError>("server", at(5), |tx| hosts::retire(tx, &id)).unwrap();
    assert_eq!(store.take_touched(), [id.clone()].into());
}

#[test]
fn a_finding_in_a_few_words_says_the_same_as_the_whole() {
    let (_dir, _path, store) = store();
    enrol(&store, "h1", "web-1").unwrap();
    let id = HostId::new("h1");
    let mut whole = finding("CVE-1", FindingState::Open);
    whole.exposed = true;
    whole.ranking.epss = Some(0.943);
    whole.ranking.cvss = Some(9.8);
    whole.class = "urgent".into();
    whole.deadline = Some(at(900));
    let judged = vec![whole.clone(), finding("CVE-2", FindingState::NoFixYet)];
    let change = |tx: &mut Tx<'_>| findings::update(tx, &id, judged, |_, _| {});
    store.write::<_, StoreError>("server", at(3), change).unwrap();
    let mut seen = Vec::new();
    store
        .read(|view| {
            findings::each_mark(view, None, |mark| {
                seen.push((mark.id.to_owned(), mark.state, mark.severity, mark.class.to_owned()));
                if mark.id == "CVE-1" {
                    assert_eq!((mark.host, mark.source), ("h1", whole.source.as_str()));
                    assert_eq!((mark.deadline, mark.fixed_at), (Some(at(900)), None));
                    let rank = mark.rank;
                    let said = (rank.kev(), rank.exposed(), rank.epss(), rank.cvss());
                    assert_eq!(said, (false, true, 943, 9800));
                }
            })
        })
        .unwrap();
    let words = |f: &Finding| (f.id.clone(), f.state, f.severity(), f.class.clone());
    assert_eq!(seen, [words(&whole), words(&finding("CVE-2", FindingState::NoFixYet))]);
    let got = store.read(|v| findings::get(v, &id, "CVE-1", &whole.source)).unwrap();
    assert_eq!(got.map(|r| r.finding), Some(whole));
}

#[test]
fn a_server_that_another_has_superseded_reads_on_and_writes_nothing() {
    let (_dir, path, first) = store();
    assert_eq!(first.take(at(1)).unwrap(), 1);
    enrol(&first, "h1", "web-1").unwrap();
    first.is_mine().unwrap();
    let second = Store::open(&path).unwrap();
    // Looking at the database, or repairing it, takes it from nobody.
    enrol(&first, "h2", "web-2").unwrap();
    assert_eq!(second.take(at(2)).unwrap(), 2);
    let before = entries(&first);
    for late in [enrol(&first, "h3", "web-3"), first.is_mine()] {
        assert!(matches!(late, Err(StoreError::Superseded { mine: 1, term: 2 })), "{late:?}");
    }
    assert_eq!(entries(&first), before);
    assert!(first.read(|v| hosts::find(v, "web-1")).is_ok());
    enrol(&second, "h3", "web-3").unwrap();
    // Whoever is superseded can come back only as a new one.
    assert_eq!(
        first.take(at(3)).map_err(|e| e.to_string()).unwrap_err().split(' ').next(),
        Some("another")
    );
    assert_eq!(Store::open(&path).unwrap().take(at(3)).unwrap(), 3);
    let ledger = second.read(ledger::verify).unwrap();
    assert_eq!(ledger.broken, None);
}
