//! A real server, real agents, real hosts, real updates: what Fettle is for, from end to end.
//!
//! These tests need root, and the programs in `FETTLE_BIN_DIR` (`cargo xtask test` builds them). Without either
//! they say so and do nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use fettle_core::finding::FindingState;
use fettle_core::hold::Hold;
use fettle_core::host::Labels;
use fettle_core::rollout::Phase;
use fettle_lab::repo::{AcmeWeb, Serve, Vendor, acme_web};
use fettle_lab::{Fleet, HostSpec, Lab, LabHost, tree};
use fettle_wire::api::{
    FindingRow, HostDetail, HostRow, LedgerVerified, Page, PlanDetail, RolloutDetail,
};
use std::path::Path;
use std::time::Duration;
use support::{in_a_lab, say};

/// Not compared after an undo: logs, the agent's own journal, and what the package manager caches.
const EXCLUDED: &[&str] =
    &["/var/log", "/var/lib/fettle-agent", "/var/cache/apt", "/var/lib/apt/lists"];
const PATIENCE: Duration = Duration::from_secs(300);

/// A policy like the demo's, and quicker.
const POLICY: &str = include_str!("../../../examples/policies/demo.toml");

struct Setup {
    fleet: Fleet,
    hosts: Vec<LabHost>,
    vendor: Vendor,
}

/// Hosts with acme-web 1.0, enrolled into rings canary, early, broad, with policy and feeds in force.
fn fleet(lab: &Lab, bins: &Path, count: usize) -> Setup {
    let names: Vec<String> = (1..=count).map(|n| format!("host{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hosts = lab.up(&names, &HostSpec::default(), &say).unwrap();
    let mut vendor = Vendor::new(lab, "acme", Serve::Files).unwrap();
    vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
    let mut fleet = Fleet::start(lab, bins).unwrap();
    for (n, host) in hosts.iter().enumerate() {
        vendor.install_on(host).unwrap();
        host.sh("apt-get update -qq && apt-get install -y -qq acme-web").unwrap().ok().unwrap();
        let ring = ["canary", "early"].get(n).copied().unwrap_or("broad");
        let labels = [("env", "demo"), ("role", "web"), ("ring", ring)];
        let labels: Labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        fleet.enroll(host, &labels).unwrap();
    }
    fleet.wait_inventories(Duration::from_secs(120)).unwrap();
    fleet.run(&["feed", "import", "--bundled"]).unwrap().ok().unwrap();
    let file = fleet.data().join("policy.toml");
    std::fs::write(&file, POLICY).unwrap();
    fleet.run(&["policy", "apply", &file.to_string_lossy()]).unwrap().ok().unwrap();
    Setup { fleet, hosts, vendor }
}

impl Setup {
    /// Publishes a version and waits until the server knows that every host is offered it.
    fn publish(&mut self, version: &str, behaviour: AcmeWeb) {
        self.vendor.publish(&[acme_web(version, behaviour)]).unwrap();
        for host in &self.hosts {
            host.sh("apt-get update -qq").unwrap().ok().unwrap();
        }
        let offered = || {
            let mut all = true;
            for host in &self.hosts {
                let detail: HostDetail = self.fleet.json(&["host", "show", host.name()])?;
                let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
                all &= upgrades.iter().any(|u| u.name == "acme-web" && u.to == version);
            }
            Ok(all.then_some(()))
        };
        self.fleet
            .wait("the update to be offered everywhere", Duration::from_secs(90), offered)
            .unwrap();
    }

    /// Makes everything but acme-web stay as it is, so that a transaction is small and quick.
    fn hold_the_rest(&self) {
        for host in &self.hosts {
            let script =
                "apt-mark hold $(dpkg-query -W -f '${Package}\\n' | grep -v acme-web) >/dev/null";
            host.sh(script).unwrap().ok().unwrap();
        }
    }

    fn start(&self) -> String {
        let plan: PlanDetail = self.fleet.json(&["plan", "make", "demo"]).unwrap();
        assert!(!plan.plan.hosts.is_empty(), "nothing to do: {:?}", plan.plan.held);
        let rollout: RolloutDetail =
            self.fleet.json(&["rollout", "start", &plan.number.to_string()]).unwrap();
        rollout.row.id.to_string()
    }
}

fn version(host: &LabHost, package: &str) -> String {
    host.exec(&["dpkg-query", "-W", "-f", "${Version}", package]).unwrap().ok().unwrap()
}

fn states(rollout: &RolloutDetail) -> Vec<&'static str> {
    rollout.hosts.iter().map(|h| h.run.state.word()).collect()
}

#[test]
fn real_updates_travel_by_rings_are_proved_gone_and_can_be_undone_byte_for_byte() {
    in_a_lab(|lab, bins| {
        let setup = fleet(lab, bins, 3);
        let findings = || -> Vec<FindingRow> {
            setup
                .fleet
                .json::<Page<FindingRow>>(&["finding", "list", "--limit", "1000000"])
                .unwrap()
                .items
        };
        let open = |rows: &[FindingRow]| {
            rows.iter()
                .filter(|r| r.finding.state == FindingState::Open && r.finding.offered)
                .count()
        };
        let before = findings();
        assert!(open(&before) > 0, "the hosts have real findings with a fix");
        let tree_before = tree::snapshot(&setup.hosts[2].root(), EXCLUDED).unwrap();

        let id = setup.start();
        let rollout = setup.fleet.wait_rollout(&id, 2 * PATIENCE).unwrap();
        assert_eq!(rollout.row.phase, Phase::Done, "{:#?}", rollout.hosts);
        assert_eq!(states(&rollout), ["patched"; 3]);
        for host in &setup.hosts {
            assert_eq!(host.sh("dpkg --audit").unwrap().ok().unwrap(), "");
            let web = host.sh("curl -sf http://127.0.0.1/").unwrap().ok().unwrap();
            assert!(web.contains(host.name()), "{web}");
        }
        let after = setup
            .fleet
            .wait("findings to be proved gone", PATIENCE, || {
                let rows = findings();
                Ok((open(&rows) == 0).then_some(rows))
            })
            .unwrap();
        // What nobody can restart without cutting off log-ins (PID 1, the bus) stays pending, and says so.
        let gone = |state| after.iter().filter(|r| r.finding.state == state).count();
        let (fixed, pending) = (gone(FindingState::Fixed), gone(FindingState::PendingRestart));
        assert!(
            fixed > pending && fixed + pending >= open(&before),
            "{fixed} fixed, {pending} pending"
        );

        setup
            .fleet
            .run(&["rollout", "undo", &id, "--host", "host3", "--reason", "test"])
            .unwrap()
            .ok()
            .unwrap();
        setup
            .fleet
            .wait("host3 to be undone", PATIENCE, || {
                let rollout: RolloutDetail = setup.fleet.json(&["rollout", "show", &id])?;
                let host =
                    rollout.hosts.iter().find(|h| h.name == "host3").map(|h| h.run.state.word());
                Ok((host == Some("undone")).then_some(()))
            })
            .unwrap();
        let tree_after = tree::snapshot(&setup.hosts[2].root(), EXCLUDED).unwrap();
        let differing: Vec<String> =
            tree::diff(&tree_before, &tree_after).iter().map(ToString::to_string).collect();
        assert_eq!(differing, Vec::<String>::new(), "files that differ after the undo");
        assert_eq!(setup.hosts[2].sh("dpkg --audit").unwrap().ok().unwrap(), "");

        let ledger: LedgerVerified = setup.fleet.json(&["audit", "verify"]).unwrap();
        assert!(ledger.broken.is_none() && ledger.entries > 10, "{ledger:?}");
    });
}

#[test]
fn a_bad_patch_hits_the_canary_only_is_undone_byte_for_byte_and_barred() {
    in_a_lab(|lab, bins| {
        let mut setup = fleet(lab, bins, 3);
        setup.hold_the_rest();
        for (bad_version, behaviour) in
            [("1.2", AcmeWeb::ServiceDies), ("1.3", AcmeWeb::PostinstFails)]
        {
            setup.publish(bad_version, behaviour);
            let tree_before = tree::snapshot(&setup.hosts[0].root(), EXCLUDED).unwrap();
            let id = setup.start();
            let rollout = setup.fleet.wait_rollout(&id, PATIENCE).unwrap();
            assert!(
                matches!(rollout.row.phase, Phase::Halted { .. }),
                "{bad_version}: {:?}",
                rollout.row.phase
            );
            let canary = rollout.hosts.iter().find(|h| h.name == "host1").unwrap();
            assert!(
                matches!(canary.run.state.word(), "undone" | "refused"),
                "{bad_version}: {:?}",
                canary.run.state
            );
            let touched = rollout.hosts.iter().filter(|h| h.run.generation.is_some()).count();
            assert_eq!(touched, 1, "{bad_version}: only the canary was ever given an assignment");
            for host in &setup.hosts {
                assert_eq!(version(host, "acme-web"), "1.0", "{bad_version} on {}", host.name());
            }
            let tree_after = tree::snapshot(&setup.hosts[0].root(), EXCLUDED).unwrap();
            let differing: Vec<_> =
                tree::diff(&tree_before, &tree_after).iter().map(ToString::to_string).collect();
            assert_eq!(
                differing,
                Vec::<String>::new(),
                "{bad_version}: files that differ after the undo"
            );
            let answer =
                setup.hosts[0].sh("curl -sf http://127.0.0.1:8080/").unwrap().ok().unwrap();
            assert!(
                answer.contains("1.0"),
                "{bad_version}: the old service answers again: {answer}"
            );

            let plan: PlanDetail = setup.fleet.json(&["plan", "make", "demo"]).unwrap();
            let barred = plan.plan.held().flat_map(|h| h.what.reasons.iter()).any(
                |r| matches!(r, Hold::VersionBarred { version, .. } if version == bad_version),
            );
            assert!(barred, "{bad_version} is barred: {:?}", plan.plan.held);
            setup.fleet.run(&["rollout", "abort", &id, "--reason", "test"]).unwrap().ok().unwrap();
        }
    });
}

#[test]
fn the_next_ring_waits_for_the_test_that_the_canary_has_of_its_own_and_runs_it_after_the_patch() {
    in_a_lab(|lab, bins| {
        let mut setup = fleet(lab, bins, 2);
        setup.hold_the_rest();
        setup.publish("1.1", AcmeWeb::Good);
        let file = setup.fleet.data().join("asking.toml");
        let check = "\n[[check]]\nname = \"shop-answers\"\nkind = \"host\"\ntest = \"shop\"\n";
        std::fs::write(&file, format!("{POLICY}{check}")).unwrap();
        setup.fleet.run(&["policy", "apply", &file.to_string_lossy()]).unwrap().ok().unwrap();
        let id = setup.start();
        // The canary is patched and has no such test: that is no data, and it is said.
        let lacking = || {
            let it: RolloutDetail = setup.fleet.json(&["rollout", "show", &id])?;
            let why = it.gate.iter().find(|j| j.check == "shop-answers").map(|j| j.why.clone());
            Ok(why.filter(|why| why.contains("it has no program `shop`")))
        };
        setup.fleet.wait("the canary to say that it lacks the test", PATIENCE, lacking).unwrap();
        assert_eq!(version(&setup.hosts[0], "acme-web"), "1.1");
        assert_eq!(version(&setup.hosts[1], "acme-web"), "1.0", "its ring waits");
        let test =
            "#!/bin/sh\ncurl -sf http://127.0.0.1:8080/ | grep 1.1 && echo ran >>/root/shop-ran\n";
        let give = format!(
            "install -d /etc/fettle/tests.d && printf '{}' >/etc/fettle/tests.d/shop && chmod 755 /etc/fettle/tests.d/shop",
            test.replace('\n', "\\n")
        );
        setup.hosts[0].sh(&give).unwrap().ok().unwrap();
        let done = setup.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert_eq!(states(&done), ["patched", "patched"], "{:?}", done.row.phase);
        setup.hosts[0].sh("grep -q ran /root/shop-ran").unwrap().ok().unwrap();
        assert!(setup.hosts[1].sh("test -e /root/shop-ran").unwrap().ok().is_err(), "not asked");
    });
}

#[test]
fn a_server_killed_in_the_middle_of_a_rollout_resumes_it_and_repeats_nothing() {
    in_a_lab(|lab, bins| {
        let mut setup = fleet(lab, bins, 3);
        setup.hold_the_rest();
        setup.publish("1.1", AcmeWeb::Good);
        let id = setup.start();
        // Three times, whenever the rollout has come further.
        let mut versions = Vec::new();
        for _ in 0..3 {
            let seen = versions.last().copied().unwrap_or(0);
            let now: u64 = setup
                .fleet
                .wait("the rollout to come further", PATIENCE, || {
                    let rollout: RolloutDetail = setup.fleet.json(&["rollout", "show", &id])?;
                    let last = rollout.events.last().map_or(0, |e| e.version);
                    Ok((last > seen + 1).then_some(last))
                })
                .unwrap();
            versions.push(now);
            setup.fleet.kill_server();
            setup.fleet.start_server().unwrap();
        }
        let rollout = setup.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert_eq!(rollout.row.phase, Phase::Done, "{:#?}", rollout.hosts);
        assert_eq!(states(&rollout), ["patched"; 3]);
        for host in &setup.hosts {
            assert_eq!(version(host, "acme-web"), "1.1");
            let transactions =
                host.sh("ls /var/lib/fettle-agent/transactions | wc -l").unwrap().ok().unwrap();
            assert_eq!(transactions.trim(), "1", "{} did it once", host.name());
        }
        let ledger: LedgerVerified = setup.fleet.json(&["audit", "verify"]).unwrap();
        assert_eq!(ledger.broken, None);
    });
}

#[test]
fn a_change_typed_on_an_enrolled_host_is_carried_on_by_the_agent_when_its_terminal_goes_away() {
    in_a_lab(|lab, bins| {
        let mut setup = fleet(lab, bins, 1);
        setup.publish("1.1", AcmeWeb::Good);
        let host = &setup.hosts[0];
        host.sh("mkdir -p /etc/fettle; touch /etc/fettle/allow-failpoints").unwrap().ok().unwrap();
        let typed = host.command("fettle-agent").args(["patch", "acme-web"]);
        let killed = typed.env("FETTLE_CRASH_AT", "apply:after").timeout(PATIENCE).run().unwrap();
        assert!(!killed.success(), "{}", killed.stdout);
        setup
            .fleet
            .wait("the agent to carry it on", PATIENCE, || {
                let said = host.exec(&["fettle-agent", "-o", "json", "status"])?.ok()?;
                let status: serde_json::Value = serde_json::from_str(&said).unwrap();
                Ok((status["last"]["outcome"]["outcome"] == "patched").then_some(()))
            })
            .unwrap();
        assert_eq!(version(host, "acme-web"), "1.1");
    });
}

#[test]
fn a_host_that_owes_a_reboot_is_rebooted_where_the_policy_allows_and_carries_on() {
    in_a_lab(|lab, bins| {
        let mut setup = fleet(lab, bins, 1);
        setup.hold_the_rest();
        let file = setup.fleet.data().join("reboot.toml");
        std::fs::write(&file, format!("{POLICY}\n[reboot]\nwhen = \"needed\"\n")).unwrap();
        setup.fleet.run(&["policy", "apply", &file.to_string_lossy()]).unwrap().ok().unwrap();
        setup.publish("1.1", AcmeWeb::WantsReboot);
        let leader = setup.hosts[0].leader_pid();
        let id = setup.start();
        let rollout = setup.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert_eq!(rollout.row.phase, Phase::Done, "{:#?}", rollout.hosts);
        assert_eq!(states(&rollout), ["patched"]);
        assert_ne!(setup.hosts[0].leader_pid(), leader, "it has booted anew");
        let notes: Vec<&String> =
            rollout.hosts[0].steps.values().flat_map(|facts| &facts.notes).collect();
        assert!(notes.iter().any(|n| n.contains("rebooted 1 times")), "{notes:?}");
        assert_eq!(version(&setup.hosts[0], "acme-web"), "1.1");
        let owed = setup.hosts[0].sh("test ! -e /run/reboot-required").unwrap();
        assert!(owed.success(), "no reboot is owed any more");
    });
}

#[test]
fn forged_replayed_misdirected_and_expired_assignments_are_refused_by_the_host() {
    use fettle_core::assignment::{ApplyOrder, Assignment, Order};
    use fettle_core::{Digest, Timestamp};
    use fettle_wire::sign::Signer;
    in_a_lab(|lab, bins| {
        let host = lab.up(&["host1"], &HostSpec::default(), &say).unwrap().remove(0);
        let mut fleet = Fleet::start(lab, bins).unwrap();
        fleet.enroll(&host, &Labels::new()).unwrap();
        let rows = fleet.wait_inventories(Duration::from_secs(120)).unwrap();

        // Somebody stole the fleet's own key: what else is wrong with an order must be found all the same.
        let key = std::fs::read_dir(fleet.data().join("keys"))
            .unwrap()
            .flatten()
            .find_map(|e| Signer::from_pkcs8(&std::fs::read(e.path()).ok()?).ok())
            .expect("the server keeps its assignment key as PKCS#8");
        let now = Timestamp::now().as_second();
        let at = |second: i64| Timestamp::from_second(now + second).unwrap();
        let good = Assignment {
            schema: 1,
            id: "ro-9/x/5".into(),
            host: rows[0].id.clone(),
            generation: 5,
            rollout: "ro-9".into(),
            plan: Digest::of(b"plan"),
            issued_at: at(-10),
            not_before: at(-10),
            expires_at: at(3600),
            order: Order::Apply(ApplyOrder::default()),
        };
        let judge = |signer: &Signer, assignment: &Assignment| {
            let text = serde_json::to_vec(&signer.sign(assignment)).unwrap();
            host.write_file("/root/order.json", text).unwrap();
            let said = host.exec(&["fettle-agent", "check-order", "/root/order.json"]).unwrap();
            (said.status.code(), format!("{}{}", said.stdout, said.stderr))
        };
        let (code, said) = judge(&key, &good);
        assert_eq!(code, Some(0), "the good one would be obeyed: {said}");
        host.write_file("/var/lib/fettle-agent/ledger", "{\"generation\":5,\"content\":null}")
            .unwrap();
        let forger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let next = Assignment { generation: 6, ..good.clone() };
        for (what, signer, order, reason) in [
            ("forged", &forger, next.clone(), "no valid signature"),
            ("replayed", &key, Assignment { generation: 4, ..good.clone() }, "older than 5"),
            ("same number, other content", &key, good, "accepted before with other content"),
            (
                "for another host",
                &key,
                Assignment { host: "h-0".into(), ..next.clone() },
                "for host h-0",
            ),
            ("expired", &key, Assignment { expires_at: at(-5), ..next.clone() }, "expired"),
            (
                "too early",
                &key,
                Assignment { not_before: at(600), ..next.clone() },
                "not to be started before",
            ),
            ("leaping", &key, Assignment { generation: u64::MAX, ..next }, "leaps too far"),
        ] {
            let (code, said) = judge(signer, &order);
            assert_eq!(code, Some(7), "{what}: {said}");
            assert!(said.contains(reason), "{what}: {said}");
        }
        // A host that has left is believed no more.
        let left = fleet.run(&["host", "retire", "host1", "--confirm", "host1"]).unwrap();
        assert_eq!(left.code, 0, "{}{}", left.stdout, left.stderr);
        let gone: Page<HostRow> = fleet.json(&["host", "list"]).unwrap();
        assert_eq!(gone.total, 0);
        let refused = || {
            Ok(host
                .sh("journalctl -u fettle-agent")?
                .stdout
                .contains("not of this fleet any more")
                .then_some(()))
        };
        fleet.wait("the agent to be turned away", Duration::from_secs(60), refused).unwrap();
        // And a token works once.
        let again = host.exec(&[
            "fettle-agent",
            "enroll",
            "--force",
            "--server",
            &fleet.agents_url(),
            "--token",
            "x",
        ]);
        assert_eq!(again.unwrap().status.code(), Some(2), "a malformed token is a usage error");
    });
}
