//! What a migration works out of what older versions left.

#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::Timestamp;
use fettle_core::assignment::{ApplyOrder, PackageChange};
use fettle_core::host::Labels;
use fettle_core::inventory::{Inventory, Service};
use fettle_core::plan::{HostPlan, Plan, SCHEMA, Work};
use fettle_core::policy::Selector;
use fettle_core::rollout::Rollout;
use fettle_core::{Digest, HostId, RolloutId};
use fettle_store::hosts::NewHost;
use fettle_store::{Store, StoreError, Tx, hosts, rollouts, summaries};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A plan, written as `schema` has it, that brings a host these versions.
fn plan(number: u64, schema: u32, brings: &[(&str, &str)]) -> Plan {
    let change = |(name, to): &(&str, &str)| PackageChange {
        name: (*name).into(),
        architecture: "amd64".into(),
        from: "1".into(),
        to: (*to).into(),
        sha256: Digest::of(to.as_bytes()),
        size: 1,
    };
    let changes = brings.iter().map(change).map(Into::into).collect();
    let work = Arc::new(Work {
        order: ApplyOrder { changes, ..ApplyOrder::default() },
        why: BTreeMap::new(),
        restarts: vec![],
        reboot_likely: false,
        due: None,
        ignore_windows: false,
    });
    let host = |id: &str| {
        let it = HostPlan {
            name: id.into(),
            cohort: Digest::of(b"c"),
            ring: "all".into(),
            wave: 0,
            work: work.clone(),
        };
        (id.into(), it)
    };
    Plan {
        schema,
        number,
        parent: None,
        policy: "web".into(),
        policy_digest: Digest::of(b"policy"),
        made_at: Timestamp::UNIX_EPOCH,
        seed: 1,
        hosts: BTreeMap::from([host("h-1"), host("h-2")]),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![],
    }
}

/// A database as version 6 left it, with a rollout of each plan.
fn old_database(path: &Path, plans: Vec<Plan>) {
    let raw = support::database_of(path, 6);
    for plan in plans {
        let number = plan.number as i64;
        let id = format!("ro-{number}");
        raw.execute(
            "INSERT INTO plans (number, digest, policy, made_at, made_by, body) VALUES ($1, $2, 'web', 0, 'a', $3)",
            rusqlite::params![number, plan.digest().to_string(), serde_json::to_string(&plan).unwrap()],
        )
        .unwrap();
        raw.execute(
            "INSERT INTO rollouts (id, number, plan, policy, version, phase, finished, created_at) \
             VALUES ($1, $2, $2, 'web', 1, 'running', 0, 0)",
            rusqlite::params![id, number],
        )
        .unwrap();
        let event = Rollout::create(&RolloutId::from(id.as_str()), plan, "alice");
        raw.execute(
            "INSERT INTO rollout_events (rollout, version, at, event) VALUES ($1, 1, 0, $2)",
            rusqlite::params![id, serde_json::to_string(&event).unwrap()],
        )
        .unwrap();
    }
}

#[test]
fn who_was_given_which_version_is_worked_out_of_plans_of_either_schema() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    let plans = vec![
        plan(1, 1, &[("openssl", "3.0.17"), ("nginx", "1.22")]),
        plan(2, SCHEMA, &[("openssl", "3.0.17"), ("linux-image-6.1", "6.1.64")]),
        plan(3, SCHEMA, &[("openssl", "3.0.18")]),
    ];
    old_database(&path, plans);
    let store = Store::open(&path).unwrap();
    let bring = |package: &str, version: &str| -> Vec<String> {
        let found = store.read(|view| rollouts::that_bring(view, package, version)).unwrap();
        found.into_iter().map(|it| it.to_string()).collect()
    };
    assert_eq!(bring("openssl", "3.0.17"), ["ro-2", "ro-1"]);
    assert_eq!(bring("openssl", "3.0.18"), ["ro-3"]);
    assert_eq!(bring("nginx", "1.22"), ["ro-1"]);
    assert_eq!(bring("linux-image-*", "6.1.64"), ["ro-2"]);
    // What a plan changes from is brought to nobody.
    assert_eq!(bring("openssl", "1"), Vec::<String>::new());
}

#[test]
fn summaries_that_an_older_server_made_are_made_anew_once_and_nobody_needs_to_report_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    let store = Store::open(&path).unwrap();
    let at = Timestamp::UNIX_EPOCH;
    let ids: Vec<HostId> = (0..250).map(|n| HostId(format!("h-{n:03}"))).collect();
    for id in &ids {
        let inventory = Inventory {
            services: vec![Service {
                unit: "nginx.service".into(),
                active: "active".into(),
                sub: "running".into(),
                enabled: "enabled".into(),
            }],
            ..Inventory::default()
        };
        let new = NewHost { id, name: id.as_str(), labels: &Labels::new(), agent_version: "" };
        let write = |tx: &mut Tx<'_>| {
            hosts::enrol(tx, &new)?;
            hosts::set_inventory(tx, id, &inventory)
        };
        store.write::<_, StoreError>("test", at, write).unwrap();
    }
    let tagged = |store: &Store| {
        let web = Selector::parse("host.tag=web-server").unwrap();
        let all = store.read(hosts::all).unwrap();
        all.iter().filter(|record| web.matches(&record.host)).count()
    };
    assert_eq!(tagged(&store), ids.len());
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let before =
        "UPDATE hosts SET likeness = NULL, summary = replace(summary, 'nginx.service', 'x')";
    raw.execute(before, []).unwrap();
    drop(raw);
    let store = Store::open(&path).unwrap();
    assert_eq!(tagged(&store), 0);
    let told = std::cell::Cell::new(0);
    let tell = || told.set(told.get() + 1);
    assert_eq!(summaries::renew(&store, "server", at, tell).unwrap(), ids.len() as u64);
    assert_eq!(told.get(), 2, "some at a time");
    assert_eq!(tagged(&store), ids.len());
    let raw = rusqlite::Connection::open(&path).unwrap();
    let alike = "SELECT count(likeness), count(DISTINCT likeness) FROM hosts";
    let counts = raw.query_row(alike, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(counts, (250, 1), "what plans look at of them is the same");
    assert_eq!(summaries::renew(&store, "server", at, || {}).unwrap(), 0, "once");
}
