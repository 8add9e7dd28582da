//! What a test is worth, as sentences.

use super::*;
use crate::assignment::{ConffileRule, HalfConfiguredRule, PackageChange, Probe};
use crate::inventory::{Kernel, Service};
use crate::plan::SCHEMA;
use std::sync::Arc;

fn t0() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn later(seconds: i64) -> Timestamp {
    t0() + jiff::SignedDuration::from_secs(seconds)
}

fn change(to: &str) -> Shared<PackageChange> {
    PackageChange {
        name: "nginx".into(),
        architecture: "amd64".into(),
        from: "1.0".into(),
        to: to.into(),
        sha256: Digest::of(b"archive"),
        size: 1,
    }
    .into()
}

fn host(name: &str, cohort: &str, to: &str) -> (HostId, HostPlan) {
    let plan = HostPlan {
        name: name.into(),
        cohort: Digest::of(cohort.as_bytes()),
        ring: "all".into(),
        wave: 0,
        work: Arc::new(crate::plan::Work {
            order: ApplyOrder { changes: vec![change(to)], ..ApplyOrder::default() },
            why: BTreeMap::new(),
            restarts: vec![],
            reboot_likely: false,
            due: None,
            ignore_windows: false,
        }),
    };
    (HostId::from(name), plan)
}

fn plan(hosts: &[(&str, &str, &str)]) -> Plan {
    Plan {
        schema: SCHEMA,
        number: 1,
        parent: None,
        policy: "all".into(),
        policy_digest: Digest::of(b"policy"),
        made_at: t0(),
        seed: 0,
        hosts: hosts.iter().map(|(name, cohort, to)| host(name, cohort, to)).collect(),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: Some(rule()),
        approvals_needed: 0,
        held: vec![],
    }
}

fn rule() -> TestbedRule {
    TestbedRule { required: true, max_age_seconds: 3600, ..TestbedRule::default() }
}

fn ended(at: Timestamp, verdict: Verdict, exact: u32, other: &[&str]) -> Tested {
    let other = other.iter().map(|name| NotMirrored {
        package: TwinPackage {
            name: (*name).into(),
            architecture: "amd64".into(),
            version: "1.0".into(),
        },
        twin: None,
    });
    let mirror = Mirror { wanted: 100, exact, other: other.collect(), same_cohort: exact == 100 };
    let report = TestReport { verdict, mirror, ..TestReport::not_tested("", "", "") };
    Tested { test: "t-1".into(), state: TestState::Ended { at, report: Box::new(report) } }
}

fn of(plan: &Plan, name: &str) -> Work {
    Work::of(&plan.hosts[&HostId::from(name)])
}

#[test]
fn hosts_of_one_cohort_with_one_change_are_one_work_and_any_difference_makes_two() {
    let plan = plan(&[("a", "x", "1.1"), ("b", "x", "1.1"), ("c", "x", "1.2"), ("d", "y", "1.1")]);
    assert_eq!(of(&plan, "a"), of(&plan, "b"));
    assert_ne!(of(&plan, "a"), of(&plan, "c"), "another version");
    assert_ne!(of(&plan, "a"), of(&plan, "d"), "another cohort");
    let (_, mut probed) = host("a", "x", "1.1");
    Arc::make_mut(&mut probed.work)
        .order
        .probes
        .push(Probe::Tcp { address: "127.0.0.1:22".into() });
    assert_ne!(of(&plan, "a"), Work::of(&probed), "asked something else");
    let (_, mut due) = host("a", "x", "1.1");
    let changed = Arc::make_mut(&mut due.work);
    changed.due = Some(t0());
    changed.order.fixes = vec!["CVE-2026-1".into()];
    assert_eq!(of(&plan, "a"), Work::of(&due), "why it is done changes nothing that is done");
}

#[test]
fn a_test_counts_for_no_order_that_restarts_repairs_or_asks_for_something_else() {
    type Change = fn(&mut ApplyOrder);
    let (_, usual) = host("a", "x", "1.1");
    let work = |change: Change| {
        let mut other = usual.clone();
        change(&mut Arc::make_mut(&mut other.work).order);
        (Work::of(&other), other)
    };
    let table: [(&str, Change, bool); 10] = [
        ("conffiles", |o| o.conffiles = ConffileRule::Replace, true),
        ("restart never", |o| o.restart.never = true, true),
        ("restart spares", |o| o.restart.spare = vec!["nginx.service".into()], true),
        ("half-configured", |o| o.half_configured = HalfConfiguredRule::Repair, true),
        ("latency", |o| o.latency_margin_percent = Some(50), true),
        // No twin is told of these: it has no server, nobody is there, and it does not reboot.
        ("reboot", |o| o.reboot = RebootRule::WhenNeeded, false),
        ("deadman", |o| o.deadman_seconds = Some(60), false),
        ("confirm", |o| o.confirm_seconds = Some(60), false),
        ("hung", |o| o.hung_after_seconds = Some(60), false),
        ("fixes", |o| o.fixes = vec!["CVE-2026-1".into()], false),
    ];
    for (what, change, differs) in table {
        let (work, other) = work(change);
        assert_eq!(work != Work::of(&usual), differs, "{what}");
        assert!(work.is_or_was_of(&other), "{what}");
        assert_eq!(work.is_or_was_of(&usual), !differs, "{what}");
    }
    // As older servers called it: found again, and not counted.
    let order = &usual.order;
    let then = (&order.changes, order.conffiles, &order.probes, &order.accept_missing);
    let then = Work { cohort: usual.cohort, changes: Digest::of_json(&then) };
    assert!(then.is_or_was_of(&usual) && then != Work::of(&usual));
    assert!(
        !then.is_or_was_of(&host("a", "x", "1.2").1)
            && !then.is_or_was_of(&host("a", "y", "1.1").1)
    );
}

#[test]
fn only_a_passed_test_of_this_work_on_a_near_twin_that_is_not_old_counts() {
    let plan = plan(&[("a", "x", "1.1")]);
    let work = of(&plan, "a");
    let failed = Verdict::Failed { phase: Phase::Patch, reason: "it died".into() };
    let unsure = TestReport::not_tested("not-booted", "the twin did not boot", "").verdict;
    let passed = Verdict::Passed;
    let waiting = TestState::Waiting { why: "no worker".into() };
    let running = TestState::Running { worker: "w".into(), since: t0() };
    let open = |state: TestState| Tested { test: "t-1".into(), state };
    for (tested, expected) in [
        (None, "1 of 1 cohorts have no good test on a twin: a: not tested"),
        (Some(open(waiting)), "1 of 1 cohorts have no good test on a twin: a: no worker"),
        (
            Some(open(running)),
            "1 of 1 cohorts have no good test on a twin: a: being tested on w since 2026-11-18T11:06:40Z",
        ),
        (
            Some(ended(t0(), failed, 100, &[])),
            "the twin of a did not take the change: patch: it died",
        ),
        (
            Some(ended(t0(), unsure, 100, &[])),
            "1 of 1 cohorts have no good test on a twin: a: says too little: the twin did not boot",
        ),
        (
            Some(ended(t0(), passed.clone(), 89, &[])),
            "1 of 1 cohorts have no good test on a twin: a: says too little: 89 of 100 packages were mirrored exactly, 90 % are asked for",
        ),
        (
            Some(ended(t0(), passed.clone(), 99, &["nginx"])),
            "1 of 1 cohorts have no good test on a twin: a: says too little: could not mirror: nginx 1.0 (the twin had none)",
        ),
        (
            Some(ended(later(-3601), passed.clone(), 100, &[])),
            "1 of 1 cohorts have no good test on a twin: a: passed too long ago, at 2026-11-18T10:06:39Z",
        ),
        (Some(ended(later(-3600), passed.clone(), 90, &["less"])), ""),
        (Some(ended(t0(), passed, 100, &[])), ""),
    ] {
        let tests: Tests = tested.map(|t| (work, t)).into_iter().collect();
        let hold = coverage(&plan, &rule(), &tests, t0()).hold();
        assert_eq!(hold.map(|h| h.to_string()).unwrap_or_default(), expected);
    }
}

#[test]
fn coverage_counts_cohorts_and_hosts_and_the_largest_comes_first() {
    let plan = plan(&[("a", "x", "1.1"), ("b", "y", "1.1"), ("c", "y", "1.1")]);
    let tests: Tests = [(of(&plan, "b"), ended(t0(), Verdict::Passed, 100, &[]))].into();
    let covered = coverage(&plan, &rule(), &tests, t0());
    assert_eq!((covered.works(), covered.hosts(), covered.percent()), ((2, 1), (3, 2), 66));
    assert_eq!(covered.works[0].hosts.len(), 2);
    assert_eq!(covered.works[0].mirrored_percent, Some(100));
    assert_eq!(covered.evidence(), vec![AssignmentId::from("t-1")]);
    let nobody = coverage(&Plan { hosts: BTreeMap::new(), ..plan }, &rule(), &tests, t0());
    assert_eq!((nobody.percent(), nobody.hold()), (100, None));
}

#[test]
fn what_nobody_tests_is_due_and_what_ended_badly_only_when_asked_for_again() {
    let plan = plan(&[("a", "x", "1.1"), ("b", "y", "1.1"), ("c", "z", "1.1"), ("d", "v", "1.1")]);
    let failed = Verdict::Failed { phase: Phase::Undo, reason: "a file differs".into() };
    let tests: Tests = [
        (of(&plan, "a"), ended(t0(), Verdict::Passed, 100, &[])),
        (of(&plan, "b"), ended(t0(), failed, 100, &[])),
        (
            of(&plan, "c"),
            Tested {
                test: "t-2".into(),
                state: TestState::Running { worker: "w".into(), since: t0() },
            },
        ),
    ]
    .into();
    let names = |again, now| -> Vec<String> {
        let mut names: Vec<String> = due(&plan, &rule(), &tests, again, now)
            .into_iter()
            .map(|(_, host)| host.to_string())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(false, t0()), ["d"]);
    assert_eq!(names(true, t0()), ["b", "d"]);
    assert_eq!(names(false, later(3601)), ["a", "d"], "it grew too old");
}

#[test]
fn a_twin_is_told_what_its_host_is_and_nothing_that_a_container_has_not() {
    let package = |version: &str| Package {
        name: "nginx".into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: "nginx".into(),
        source_version: version.into(),
        healthy: true,
        module: String::new(),
    };
    let service = |unit: &str, enabled: &str| Service {
        unit: unit.into(),
        active: "active".into(),
        sub: "running".into(),
        enabled: enabled.into(),
    };
    let inventory = Inventory {
        schema: 1,
        os: Os { id: "debian".into(), version: "12".into(), ..Os::default() },
        architecture: "amd64".into(),
        kernel: Kernel::default(),
        boot_id: String::new(),
        packages: vec![package("1.0").into()].into(),
        languages: vec![],
        upgrades: vec![],
        services: vec![service("nginx.service", "enabled"), service("dbus.service", "static")],
        listeners: vec![],
        stale: vec![],
        in_use: vec![],
        exposed: vec![],
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec!["less".into()],
        ..Inventory::default()
    };
    let (_, mut plan) = host("a", "x", "1.1");
    assert_eq!(TestOrder::of(&plan, &inventory), None, "the host has changed since");
    plan.cohort = inventory.cohort();
    let asked = &mut Arc::make_mut(&mut plan.work).order;
    asked.reboot = RebootRule::WhenNeeded;
    asked.deadman_seconds = Some(60);
    asked.confirm_seconds = Some(60);
    let order = TestOrder::of(&plan, &inventory).unwrap();
    let told = crate::assignment::Order::Test(Box::new(order.clone()));
    let written = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<crate::assignment::Order>(&written).unwrap(), told);
    assert_eq!(order.work, Work::of(&plan));
    assert_eq!((order.enabled, order.held), (vec!["nginx.service".into()], vec!["less".into()]));
    assert_eq!(order.order.changes, plan.order.changes);
    assert_eq!(order.order.reboot, RebootRule::Never);
    assert_eq!((order.order.deadman_seconds, order.order.confirm_seconds), (None, None));
}

#[test]
fn a_mirror_is_whole_only_when_every_package_is() {
    let mirror = |wanted, exact| Mirror { wanted, exact, ..Mirror::default() }.percent();
    assert_eq!((mirror(3, 3), mirror(1000, 999), mirror(3, 2), mirror(0, 0)), (100, 99, 66, 0));
}
