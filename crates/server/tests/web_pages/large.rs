//! The same fleet where it is at its largest: pages that show all of something have to end somewhere.

use super::*;
use fettle_core::testbed::{Covered, NotMirrored, TestState, TwinPackage, Work as Tested};

/// A host that has everything, and more of it than any page can show.
pub(crate) fn large_host() -> HostDetail {
    let mut it = host();
    it.findings = FindingState::ALL
        .iter()
        .flat_map(|state| (0..300).map(|n| finding(n, "web-2", *state)))
        .collect();
    it.transactions = (0..50)
        .map(|n| match n % 2 {
            0 => progress(&format!("web-{n}"), 6, Some(undone())),
            _ => progress(&format!("web-{n}"), 9, Some(Outcome::Patched)),
        })
        .collect();
    let inventory = it.inventory.as_mut().unwrap();
    let packages: Vec<_> = inventory.packages.iter().cycle().take(6000).cloned().collect();
    inventory.packages = packages.into_iter().collect();
    let upgrades: Vec<_> = inventory.upgrades.iter().cycle().take(900).cloned().collect();
    inventory.upgrades = upgrades.into_iter().collect();
    inventory.languages = languages().into_iter().cycle().take(2000).collect();
    inventory.services = inventory.services.iter().cycle().take(400).cloned().collect();
    inventory.listeners = inventory.listeners.iter().cycle().take(400).cloned().collect();
    inventory.stale = inventory.stale.iter().cycle().take(400).cloned().collect();
    it
}

/// As many hosts as a list shows at once, with everything that a row can have.
pub(crate) fn many_hosts() -> Page<HostRow> {
    let row = |n: usize| {
        let mut row = host_row(6);
        row.name = format!("web-{n:05}.production.example.net");
        row.labels.insert("ring".into(), "broad".into());
        (row.pending, row.fixed, row.overdue) = (12, 1_234, 34);
        row
    };
    Page { total: 100_000, items: (0..80).map(row).collect() }
}

/// A rollout of ten thousand hosts as its page is given it: some hosts of each wave, all of them counted.
pub(crate) fn large_rollout() -> RolloutDetail {
    let mut it = rollout_running();
    let wave = it.waves[2].clone();
    it.waves = (0..10).map(|_| Wave { hosts: vec![], ..wave.clone() }).collect();
    it.row.waves = 10;
    it.row.wave = 5;
    it.row.hosts_by_state =
        counts(&[("patched", 4_000), ("undone", 900), ("redeemed", 300), ("pending", 4_800)]);
    let lane = |hosts_by_state| RolloutLane { hosts_by_state, begins: None, passed_at: None };
    it.lanes = (0..10)
        .map(|n| match n {
            0..4 => counts(&[("patched", 1_000)]),
            4 => counts(&[("undone", 900), ("redeemed", 100)]),
            5 => counts(&[("redeemed", 200), ("pending", 800)]),
            _ => counts(&[("pending", 1_000)]),
        })
        .map(lane)
        .collect();
    it.hosts = (0..30)
        .map(|n| {
            let name = format!("web-{n:05}.production.example.net");
            let end = Some(progress(&name, 6, Some(undone())));
            run_host(
                &name,
                4,
                HostState::Undone { reason: "acme-web.service did not come back".into() },
                end,
            )
        })
        .chain((30..60).map(|n| {
            let name = format!("web-{n:05}.production.example.net");
            let at_work = Some(progress(&name, 5, None));
            run_host(&name, 5, HostState::Redeemed, at_work)
        }))
        .collect();
    let stepped = |n: u64| {
        let host = id(&format!("other-{n}"));
        event(n + 9_000, 600 - n as i64, RolloutEvent::Stepped { host, step: Step::Apply })
    };
    it.events = (0..100).map(stepped).collect();
    let waits = |n: u64| Waiting {
        host: Some(id(&format!("other-{n}"))),
        hold: Hold::BudgetUsed {
            budget: "role=web".into(),
            limit: 1,
            disrupted: vec![id("web-2")],
        },
    };
    it.waiting = (0..30).map(waits).collect();
    it
}

/// What hosts that are only told of are called.
pub(crate) fn large_names() -> BTreeMap<HostId, String> {
    (0..150).map(|n| (id(&format!("other-{n}")), format!("other-{n}.example.net"))).collect()
}

/// A part of the ledger whose entries are as long as they come.
pub(crate) fn large_ledger() -> Vec<LedgerEntry> {
    let long = "host:".to_owned() + &"x".repeat(60);
    let mut all: Vec<LedgerEntry> = Vec::new();
    for n in 0..100 {
        let body = serde_json::json!({ "event": "stepped", "text": "y".repeat(900), "n": n });
        all.push(LedgerEntry::after(
            all.last(),
            ago(3000 - n),
            &long,
            "rollout.event",
            &long,
            body,
        ));
    }
    all.reverse();
    all
}

fn large_name(n: usize) -> String {
    format!("web-{n:05}.production.example.net")
}

/// A plan for a thousand hosts no two of which are alike, in two hundred waves, with much to say of each; ring 0 is asked
/// for and has tried half of them.
pub(crate) fn large_plan() -> PlanDetail {
    const HOSTS: usize = 1_000;
    let it = plan_tested();
    let cves =
        |n: usize| (0..12).map(|k| format!("CVE-2026-{:05}", n * 12 + k)).collect::<Vec<_>>();
    let host = |n: usize| {
        let change = |k: usize| PackageChange {
            name: format!("library-of-some-length-{n}-{k}"),
            ..(*order(1).changes[0]).clone()
        };
        let changes: Vec<PackageChange> = (0..7).map(change).collect();
        let why = changes.iter().map(|c| (c.name.clone().into(), cves(n).into())).collect();
        let order = ApplyOrder {
            changes: changes.into_iter().map(Into::into).collect(),
            fixes: cves(n).into_iter().collect(),
            ..ApplyOrder::default()
        };
        let work = Work {
            why,
            order,
            restarts: (0..40).map(|k| format!("service-{n}-{k}.service")).collect(),
            reboot_likely: true,
            due: Some(ago(-86_400)),
            ignore_windows: false,
        };
        let host = HostPlan {
            name: large_name(n),
            cohort: Digest::of(&n.to_be_bytes()),
            ring: "broad".into(),
            wave: (n / 5) as u32,
            work: Arc::new(work),
        };
        (id(&host.name), host)
    };
    let hosts: BTreeMap<HostId, HostPlan> = (0..HOSTS).map(host).collect();
    let why = "with the waves before it stands for 812 of 994 cohorts of later rings (812 of 994 hosts); \
               not for 182 of them (182 hosts), of whose changes 1274 are not tried here; for 12 of their \
               17 roles and services, not for role web (7 hosts), role db (5 hosts), 3 more";
    let waves = (0..HOSTS / 5).map(|w| Wave {
        hosts: (w * 5..w * 5 + 5).map(|n| id(&large_name(n))).collect(),
        why: why.into(),
        ..it.plan.waves[2].clone()
    });
    let held = (0..HOSTS).map(|n| HeldHosts {
        hosts: (0..30).map(|k| (id(&large_name(n + k)), large_name(n + k))).collect(),
        what: vec![Arc::new(NotDone {
            package: format!("library-of-some-length-{n}"),
            findings: cves(n).into_iter().collect(),
            reasons: vec![
                Hold::PackageHeld { package: format!("library-of-some-length-{n}") },
                Hold::WindowClosed { opens_at: Some(ago(-40_000)) },
            ],
        })],
    });
    let budget = |n: usize| Budget { name: format!("role=web-{n}"), ..it.plan.budgets[0].clone() };
    let plan = Plan {
        hosts,
        waves: waves.collect(),
        held: held.collect(),
        budgets: (0..100).map(budget).collect(),
        ..it.plan.clone()
    };
    let roles = plan.hosts.keys().map(|host| (host.clone(), format!("role-of-{host}"))).collect();
    let report = report(ReportInput {
        plan: &plan,
        policy: None,
        roles: &roles,
        needs: &BTreeMap::new(),
        filesystems: &BTreeMap::new(),
        spent: &[],
        now: now(),
    });
    let tests = large_tests(it.tests.clone().unwrap(), HOSTS);
    PlanDetail { plan, report: Some(report), tests: Some(tests), ..it }
}

/// As many cohorts as hosts, each tried on a twin that could not mirror everything.
fn large_tests(it: PlanTests, cohorts: usize) -> PlanTests {
    let mut out = PlanTests { works: Vec::new(), tests: Vec::new(), ..it.clone() };
    for n in 0..cohorts {
        let cohort = Digest::of(&n.to_be_bytes());
        let work = Tested { cohort, ..it.works[0].work };
        let mut test = it.tests[0].clone();
        if let TestState::Ended { report, .. } = &mut test.state {
            let other = |k: usize| NotMirrored {
                package: TwinPackage {
                    name: format!("library-of-some-length-{k}"),
                    architecture: "amd64".into(),
                    version: "1:2.3.4-5+deb12u6".into(),
                },
                twin: None,
            };
            report.mirror.other = (0..40).map(other).collect();
        }
        out.tests.push(TestRow { work, like: large_name(n), ..test });
        out.works.push(Covered { work, like: large_name(n), ..it.works[0].clone() });
    }
    out
}
