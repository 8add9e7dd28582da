//! What holds for any fleet.

use super::fleet::*;
use crate::host::Host;
use crate::plan::{Barred, Plan};
use crate::{Digest, Hold, HostId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const RULES: &str = "take = \"all\"\n[[exclude]]\npackage = \"p3\"\nreason = \"r\"\nowner = \"o\"\nuntil = 2027-01-01\n\
    [[source]]\norigin = \"Debian\"\n[[class]]\nname = \"k\"\nin-use = true\nemergency = true\ndeadline = \"1d\"\n\
    [[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nwave-percent = 50\nsoak = \"1h\"\n\
    [[ring]]\nname = \"early\"\nselect = \"ring=early\"\nwave-percent = 30\n[[ring]]\nname = \"broad\"\nselect = \"has ring\"\n\
    [[budget]]\nname = \"all\"\nselect = \"all\"\nmax-unavailable = 1\n";

/// Ten packages of five sources; which are installed, offered, held, what they bring and remove is drawn.
fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let upgrade_of = (0usize..10, 0u8..3, prop::option::of(0usize..10), 0u8..20, any::<bool>());
    let one = (
        prop::sample::select(vec!["canary", "early", "early", "broad", "broad", "broad", ""]),
        prop::collection::btree_set(0usize..10, 0..8),
        prop::collection::vec(upgrade_of, 0..8),
        prop::option::of(0usize..10),
        0u8..20,
    );
    prop::collection::vec(one, 0..12).prop_map(|drawn| {
        drawn
            .into_iter()
            .enumerate()
            .map(|(n, (ring, installed, offered, held, state))| {
                let labels: &[(&str, &str)] = if ring.is_empty() { &[] } else { &[("ring", ring)] };
                let mut h = host(&format!("h{n}"), labels);
                let i = inventory(&mut h);
                i.packages = installed
                    .iter()
                    .map(|p| package(&format!("p{p}"), &format!("s{}", p / 2), "1"))
                    .collect();
                let offered: BTreeMap<usize, _> = offered.into_iter().map(|u| (u.0, u)).collect();
                i.upgrades = offered
                    .values()
                    .map(|(p, version, brings, removes, debian_suite)| {
                        let from = if installed.contains(p) { "1" } else { "" };
                        let mut u = upgrade(&format!("p{p}"), from, &format!("2.{version}"));
                        u.brings = brings.iter().map(|b| format!("p{b}")).collect();
                        if *removes == 0 {
                            u.removes.push("p0".into());
                        }
                        if *removes == 1 {
                            u.origin.origin = "Elsewhere".into();
                        }
                        if *debian_suite {
                            u.origin = debian(false);
                        }
                        u
                    })
                    .collect();
                i.held = held.iter().map(|p| format!("p{p}")).collect();
                match state {
                    0 => h.quarantined = quarantine(),
                    1 => h.last_seen = None,
                    2 => h.inventory = None,
                    _ => {}
                }
                h
            })
            .collect()
    })
}

pub(super) fn world() -> impl Strategy<Value = World> {
    (
        hosts(),
        prop::collection::vec((0usize..12, 0usize..10, 0u8..3, any::<bool>()), 0..20),
        any::<u64>(),
    )
        .prop_map(|(fleet, bugs, seed)| {
            let mut world = World::new(policy(RULES), fleet);
            world.seed = seed;
            for (n, (h, p, version, fixed)) in bugs.into_iter().enumerate() {
                let (id, version) = (format!("CVE-{n}"), format!("2.{version}"));
                let name = format!("p{p}");
                let bug = finding(
                    &format!("h{h}"),
                    &id,
                    &format!("s{}", p / 2),
                    &[&name],
                    fixed.then_some(version.as_str()),
                );
                world = world.with(bug);
            }
            for inventory in world.fleet.iter().filter_map(|h| h.inventory.as_ref()).step_by(2) {
                let (package, version, reason) = ("p1".into(), "2.0".into(), "undone".into());
                world.barred.push(Barred { package, version, cohort: inventory.cohort(), reason });
            }
            world
        })
}

fn check(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    // Each planned host is in exactly one wave, of its own ring, in ring order.
    let placed: Vec<&HostId> = plan.waves.iter().flat_map(|w| &w.hosts).collect();
    prop_assert_eq!(
        placed.iter().copied().collect::<BTreeSet<_>>(),
        plan.hosts.keys().collect::<BTreeSet<_>>()
    );
    prop_assert_eq!(placed.len(), plan.hosts.len());
    let places: Vec<_> = plan
        .waves
        .iter()
        .map(|w| world.policy.rings.iter().position(|r| r.name == w.ring))
        .collect();
    prop_assert!(places.is_sorted());
    prop_assert_eq!(plan.waves.last().map_or(0, |w| w.soak_seconds), 0);
    for wave in &plan.waves {
        prop_assert!(!wave.hosts.is_empty() && !wave.why.is_empty());
        let ring = world.policy.rings.iter().find(|r| r.name == wave.ring).unwrap();
        let in_ring = world
            .fleet
            .iter()
            .filter(|h| world.policy.ring_of(h).is_some_and(|r| r.name == ring.name))
            .count();
        prop_assert!(wave.hosts.len() <= (in_ring * ring.wave_percent as usize).div_ceil(100));
    }
    for host in &world.fleet {
        let held: Vec<_> = plan.held().filter(|h| *h.host == host.id).collect();
        prop_assert!(held.iter().all(|h| !h.reasons.is_empty()));
        let Some(planned) = plan.hosts.get(&host.id) else {
            prop_assert!(!held.is_empty(), "{} is neither planned nor held", host.name);
            continue;
        };
        prop_assert!(!planned.order.changes.is_empty());
        prop_assert!(
            held.iter().all(|h| !h.package.is_empty()),
            "a host at work is not held as a whole"
        );
        prop_assert!(host.quarantined.is_none() && host.last_seen.is_some());
        check_host(world, host, planned)?;
    }
    Ok(())
}

fn check_host(
    world: &World,
    host: &Host,
    planned: &crate::plan::HostPlan,
) -> Result<(), TestCaseError> {
    let inventory = host.inventory.as_ref().unwrap();
    let changed: BTreeSet<&str> = planned.order.changes.iter().map(|c| c.name.as_str()).collect();
    prop_assert_eq!(planned.cohort, inventory.cohort());
    let why: BTreeSet<&str> = planned.why.keys().map(|name| name.as_str()).collect();
    prop_assert_eq!(&why, &changed);
    let installed: BTreeMap<&str, &str> =
        inventory.packages.iter().map(|p| (p.name.as_str(), p.source.as_str())).collect();
    let mut brought = BTreeSet::new();
    for change in &planned.order.changes {
        let offer = inventory.upgrades.iter().find(|u| {
            (&u.name, &u.from, &u.to, u.sha256)
                == (&change.name, &change.from, &change.to, change.sha256)
        });
        prop_assert!(offer.is_some(), "only what is offered is ordered");
        let offer = offer.unwrap();
        prop_assert!(
            offer.removes.is_empty()
                && change.name != "p3"
                && !inventory.held.contains(&change.name)
        );
        prop_assert!(world.policy.allows(&offer.origin));
        let same = |b: &Barred| {
            (&b.package, &b.version, b.cohort) == (&change.name, &change.to, planned.cohort)
        };
        prop_assert!(!world.barred.iter().any(same));
        for b in &offer.brings {
            prop_assert!(
                changed.contains(b.as_str()) || installed.contains_key(b.as_str()),
                "{b} comes with it"
            );
            brought.insert(b.as_str());
        }
        // An installed binary of the same source that has an offer goes along.
        for other in inventory.upgrades.iter().filter(|u| installed.contains_key(u.name.as_str())) {
            if installed.get(other.name.as_str()) == installed.get(change.name.as_str()) {
                prop_assert!(
                    changed.contains(other.name.as_str()),
                    "{} without {}",
                    change.name,
                    other.name
                );
            }
        }
    }
    for change in planned.order.changes.iter().filter(|c| c.from.is_empty()) {
        prop_assert!(
            brought.contains(change.name.as_str()),
            "{} was asked for by nobody",
            change.name
        );
    }
    Ok(())
}

/// Findings that are owed are fixed by the plan or in its report.
fn check_findings(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    for (host, findings) in &world.findings {
        if !world.fleet.iter().any(|h| h.id == *host) {
            continue;
        }
        for finding in findings {
            let planned = plan.hosts.get(host);
            let fixed =
                planned.is_some_and(|h| h.why.values().flatten().any(|id| *id == finding.id));
            let reported = plan.held().any(|h| h.host == host && h.findings.contains(&finding.id));
            prop_assert!(fixed || reported, "{} on {host} is lost", finding.id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_keeps_the_rules(world in world()) {
        let plan = world.plan();
        check(&world, &plan)?;
        check_findings(&world, &plan)?;
    }

    #[test]
    fn equal_input_gives_an_equal_plan_whatever_its_order(world in world(), shuffle in any::<u64>()) {
        let plan = world.plan();
        prop_assert_eq!(world.plan().digest(), plan.digest());
        let mut other = world.clone();
        let lot = |text: String| Digest::of_json(&(shuffle, text));
        other.fleet.sort_by_key(|h| lot(h.id.to_string()));
        for findings in other.findings.values_mut() {
            findings.sort_by_key(|f| lot(f.id.clone()));
        }
        other.barred.sort_by_key(|b| lot(b.package.clone()));
        prop_assert_eq!(other.plan().digest(), plan.digest());
    }

    #[test]
    fn a_plan_for_some_hosts_changes_what_the_whole_plan_changes_on_them(world in world(), some in any::<u16>()) {
        let whole = world.plan();
        let mut part = world.clone();
        let chosen = world.fleet.iter().enumerate().filter(|(n, _)| some >> n & 1 == 1).map(|(_, h)| h.id.clone());
        part.only = Some(chosen.collect());
        let part_plan = part.plan();
        check_findings(&World { findings: BTreeMap::new(), ..part.clone() }, &part_plan)?;
        for (id, host) in &part_plan.hosts {
            prop_assert_eq!(&host.order, &whole.hosts[id].order);
        }
        prop_assert!(part_plan.hosts.keys().all(|id| part.only.as_ref().unwrap().contains(id)));
    }

    #[test]
    fn json_keeps_a_plan_and_its_digest(world in world()) {
        let plan = world.plan();
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        prop_assert_eq!(again.digest(), plan.digest());
        prop_assert_eq!(again, plan);
    }
}

#[test]
fn the_drawn_fleets_show_what_the_rules_are_about() {
    // A test that draws nothing of interest proves nothing.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..300 {
        let plan = world().new_tree(&mut runner).unwrap().current().plan();
        for hold in plan.held().flat_map(|h| h.what.reasons.iter()) {
            *seen.entry(Hold::code(hold)).or_default() += 1;
        }
        *seen.entry("new").or_default() += plan
            .hosts
            .values()
            .flat_map(|h| &h.order.changes)
            .filter(|c| c.from.is_empty())
            .count() as u32;
        *seen.entry("ahead").or_default() +=
            plan.waves.iter().filter(|w| w.why.starts_with("goes ahead")).count() as u32;
        *seen.entry("emergency").or_default() +=
            plan.hosts.values().filter(|h| h.ignore_windows).count() as u32;
    }
    for code in [
        "excluded",
        "package-held",
        "source-not-allowed",
        "version-barred",
        "would-remove",
        "would-bring",
        "kept-in-step",
        "no-fix",
        "fix-not-offered",
        "quarantined",
        "host-silent",
        "no-inventory",
        "no-ring",
        "nothing-to-do",
        "new",
        "ahead",
        "emergency",
    ] {
        assert!(seen.get(code).is_some_and(|n| *n >= 5), "{code}: {seen:?}");
    }
}
