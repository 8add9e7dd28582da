//! Ring 0 on real hosts: a worker builds a twin of a host, tries the very change on it and takes it back, before the host
//! is touched; and a change that breaks only where it is really applied never reaches the host.
//!
//! This test needs root, and the programs in `FETTLE_BIN_DIR` (`cargo xtask test` builds them). Without either it says so
//! and does nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use fettle_core::host::Labels;
use fettle_core::rollout::Phase;
use fettle_core::testbed::{TestState, Verdict};
use fettle_lab::repo::{AcmeWeb, Serve, Vendor, acme_web};
use fettle_lab::{Fleet, HostSpec, LabHost};
use fettle_wire::api::{HostDetail, Page, PlanDetail, PlanTests, RolloutDetail, TestRow};
use std::time::{Duration, Instant};
use support::{in_a_lab, say};

/// One package by one source, so that the change is small; the twin is whole all the same.
const POLICY: &str = r#"
[policy]
name = "all"
select = "not fettle.worker=true"
take = "all"

[[source]]
origin = "Acme*"

[[ring]]
name = "all"

[gate]
bake = "1s"

[testbed]
required = true
mirrored-percent = 100

[[probe]]
http = "http://127.0.0.1:8080/"
"#;
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn no_host_is_touched_before_its_twin_took_the_change_and_a_bad_one_stops_there() {
    in_a_lab(|lab, bins| {
        let hosts = lab.up(&["host1", "worker"], &HostSpec::default(), &say).unwrap();
        let (host, worker) = (&hosts[0], &hosts[1]);
        let mut vendor = Vendor::new(lab, "acme", Serve::Http).unwrap();
        vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
        for one in &hosts {
            vendor.install_on(one).unwrap();
            one.sh("apt-get update -qq").unwrap().ok().unwrap();
        }
        host.sh("apt-get install -y -qq acme-web").unwrap().ok().unwrap();
        let tools = "apt-get install -y -qq --no-install-recommends mmdebstrap systemd-container";
        worker.sh(tools).unwrap().ok().unwrap();
        let mut fleet = Fleet::start(lab, bins).unwrap();
        fleet.enroll(host, &Labels::new()).unwrap();
        let label = [("fettle.worker".to_owned(), "true".to_owned())];
        fleet.enroll(worker, &label.into()).unwrap();
        worker.exec(&["fettle-agent", "testbed", "on"]).unwrap().ok().unwrap();
        fleet.wait_inventories(Duration::from_secs(120)).unwrap();
        let file = fleet.data().join("policy.toml");
        std::fs::write(&file, POLICY).unwrap();
        fleet.run(&["policy", "apply", &file.to_string_lossy()]).unwrap().ok().unwrap();

        // A good one: its twin takes it, and the rollout goes.
        vendor.publish(&[acme_web("1.1", AcmeWeb::Good)]).unwrap();
        let begun = Instant::now();
        let (plan, rollout) = start(&fleet, host, "1.1");
        let done = fleet.wait_rollout(&rollout, PATIENCE).unwrap();
        say(&format!("the first twin and the rollout: {:.0} s", begun.elapsed().as_secs_f64()));
        say(&fleet.run(&["testbed", "show", "1"]).unwrap().ok().unwrap());
        let tests: PlanTests =
            fleet.json(&["testbed", "coverage", &plan.number.to_string()]).unwrap();
        assert_eq!(done.row.phase, Phase::Done, "{tests:#?}");
        assert_eq!((tests.cohorts, tests.cohorts_tested, tests.percent), (1, 1, 100));
        assert_eq!(tests.hold, None);
        let TestState::Ended { report, .. } = &tests.tests[0].state else { panic!("{tests:?}") };
        assert_eq!(report.verdict, Verdict::Passed);
        assert_eq!(report.mirror.percent(), 100, "{:?}", report.mirror.other);
        assert!(report.compared > 5_000, "{} files were compared", report.compared);
        let place = |word| done.events.iter().position(|e| e.event.word() == word).unwrap();
        assert!(place("tested") < place("granted"));
        assert_eq!(version(host), "1.1");

        // One that breaks only where services are started: no rehearsal can see it, its twin does.
        vendor.publish(&[acme_web("1.2", AcmeWeb::ServiceDies)]).unwrap();
        let begun = Instant::now();
        let (_, rollout) = start(&fleet, host, "1.2");
        let failed = || {
            let rollout: RolloutDetail = fleet.json(&["rollout", "show", &rollout])?;
            let failed = rollout.waiting.iter().any(|w| w.hold.code() == "test-failed");
            Ok(failed.then_some(rollout))
        };
        let held = fleet.wait("the twin to fail", PATIENCE, failed).unwrap();
        say(&format!("the second twin: {:.0} s", begun.elapsed().as_secs_f64()));
        say(&fleet.run(&["testbed", "list"]).unwrap().ok().unwrap());
        assert!(held.hosts.iter().all(|h| h.run.grants == 0), "the host was given nothing");
        assert_eq!(version(host), "1.1", "the host was never touched");
        let all: Page<TestRow> = fleet.json(&["testbed", "list"]).unwrap();
        assert_eq!(all.items[0].state.word(), "failed");
        // And no later plan offers it to the cohort.
        let abort = ["rollout", "abort", &rollout, "--reason", "the twin did not take it"];
        fleet.run(&abort).unwrap().ok().unwrap();
        let next: PlanDetail = fleet.json(&["plan", "make", "all"]).unwrap();
        assert!(next.plan.hosts.is_empty());
        let reasons: Vec<&str> =
            next.plan.held().flat_map(|h| h.what.reasons.iter()).map(|r| r.code()).collect();
        assert!(reasons.contains(&"version-barred"), "{reasons:?}");

        // Nothing of a twin is left on the worker.
        let left = "ls -d /var/lib/fettle-agent/testbed/twin /run/systemd/nspawn/propagate/* 2>/dev/null; \
                    systemctl list-units --all --plain --no-legend 'fettle-twin*'";
        assert_eq!(worker.sh(left).unwrap().stdout.trim(), "");
    });
}

/// A rollout of the plan that takes the host to this version, as soon as the server knows that it is offered.
fn start(fleet: &Fleet, host: &LabHost, version: &str) -> (PlanDetail, String) {
    host.sh("apt-get update -qq").unwrap().ok().unwrap();
    let offered = || {
        let detail: HostDetail = fleet.json(&["host", "show", host.name()])?;
        let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
        Ok(upgrades.iter().any(|u| u.name == "acme-web" && u.to == version).then_some(()))
    };
    fleet.wait("the update to be offered", Duration::from_secs(90), offered).unwrap();
    let plan: PlanDetail = fleet.json(&["plan", "make", "all"]).unwrap();
    assert_eq!(plan.plan.hosts.len(), 1, "{:?}", plan.plan.held);
    let number = plan.number.to_string();
    let rollout: RolloutDetail = fleet.json(&["rollout", "start", &number]).unwrap();
    (plan, rollout.row.id.to_string())
}

fn version(host: &LabHost) -> String {
    host.exec(&["dpkg-query", "-W", "-f", "${Version}", "acme-web"]).unwrap().ok().unwrap()
}
