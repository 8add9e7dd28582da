use super::fleet::*;
use crate::inventory::Filesystem;
use crate::plan::spent::{Spent, work_key};
use crate::plan::{Needs, PlanReport, ReportInput, report};
use crate::policy::Policy;
use crate::{Digest, HostId, Timestamp};
use std::collections::BTreeMap;

const RINGS: &str = "[[class]]\nname = \"all\"\ndeadline = \"7d\"\n\
    [[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nsoak = \"1d\"\n[[ring]]\nname = \"broad\"\n\
    [[budget]]\nname = \"all\"\nselect = \"all\"\nmax-unavailable = 1\n[gate]\nbake = \"1h\"\n";

fn learned(world: &World, spent: &[Spent]) -> PlanReport {
    let mut roles: BTreeMap<HostId, String> = BTreeMap::new();
    for host in &world.fleet {
        roles.extend(host.labels.get("role").map(|role| (host.id.clone(), role.clone())));
    }
    let (plan, policy) = (&world.plan(), Some(&world.policy));
    let mut filesystems: BTreeMap<HostId, Vec<Filesystem>> = BTreeMap::new();
    let mut needs: BTreeMap<Digest, Needs> = BTreeMap::new();
    for host in &world.fleet {
        let inventory = host.inventory.as_ref().unwrap();
        filesystems.insert(host.id.clone(), inventory.filesystems.clone());
        let in_use = inventory.in_use.iter().cloned().collect();
        if let Some(dependents) = inventory.dependents.clone() {
            needs.insert(inventory.cohort(), Needs { dependents, in_use });
        }
    }
    let (needs, filesystems) = (&needs, &filesystems);
    let roles = &roles;
    report(ReportInput { plan, policy, roles, needs, filesystems, spent, now: at(NOW) })
}

pub(super) fn of(world: &World) -> PlanReport {
    learned(world, &[])
}

/// A canary and two hosts like it, one of them with another nginx.
fn world(policy: Policy) -> World {
    let mut other = host("c", &[("role", "db")]);
    inventory(&mut other).packages[3].version = "1.22.0".into();
    inventory(&mut other).upgrades[1].from = "1.22.0".into();
    let fleet = vec![
        host("a", &[("ring", "canary"), ("role", "web")]),
        host("b", &[("role", "web")]),
        other,
    ];
    let bug = |host| finding(host, "CVE-1", "nginx", &["nginx"], Some("1.22.2"));
    World::new(policy, fleet).with(bug("a")).with(bug("b")).with(bug("c"))
}

#[test]
fn a_report_says_what_is_fixed_what_restarts_and_how_much_of_it_at_once() {
    let report = of(&world(policy(RINGS)));
    assert_eq!(report.fixes.len(), 1);
    assert_eq!((report.fixes[0].finding.as_str(), report.fixes[0].hosts), ("CVE-1", 3));
    assert!(report.fixes[0].packages.contains("nginx"));
    let nginx = report.restarts.iter().find(|r| r.unit == "nginx.service").unwrap();
    assert_eq!((nginx.hosts, nginx.at_once), (3, 1));
    let budget = &report.budgets[0];
    assert_eq!((budget.members, budget.hosts, budget.limit), (3, 3, 1));
    assert_eq!(report.reboots, 0);
    assert!(report.unknown.iter().any(|what| what.contains("which host calls which")));
}

#[test]
fn the_timetable_counts_bake_soak_and_windows_and_says_who_was_tried_before() {
    let windows = format!(
        "{RINGS}[[window]]\ndays = [\"tue\"]\nstart = \"02:00\"\nduration = \"4h\"\ntime-zone = \"UTC\"\n"
    );
    let report = of(&world(policy(&windows)));
    let starts: Vec<Option<Timestamp>> = report.waves.iter().map(|w| w.earliest).collect();
    // 23 November 2026 is a Monday: the canary goes on Tuesday, the bake and a day's soak end after that window.
    assert_eq!(starts[0], Some(at("2026-11-24T02:00:00Z")));
    assert_eq!(starts[1], Some(at("2026-12-01T02:00:00Z")));
    assert!(starts.iter().all(Option::is_some));
    let tried: u64 = report.waves[1..].iter().map(|w| w.tried_hosts).sum();
    assert_eq!(tried, 1, "only the one like the canary was stood for");
    assert_eq!(report.waves[0].new_changes, 3);
    assert_eq!(report.waves[1..].iter().map(|w| w.new_changes).sum::<u64>(), 1, "the other nginx");
    assert_eq!(report.waves[0].roles, BTreeMap::from([("web".to_owned(), 1)]));
}

#[test]
fn without_windows_the_first_wave_may_begin_at_once() {
    let report = of(&world(policy(RINGS)));
    assert_eq!(report.waves[0].earliest, Some(at(NOW)));
    assert_eq!(
        report.waves[1].earliest,
        Some(at("2026-11-24T13:00:00Z")),
        "an hour's bake, a day's soak"
    );
}

#[test]
fn deadlines_are_kept_missed_or_late() {
    let mut world = world(policy(RINGS));
    let due = ["2026-11-23T13:00:00Z", "2026-11-23T13:00:00Z", "2026-11-20T00:00:00Z"];
    for (findings, due) in world.findings.values_mut().zip(due) {
        findings[0].deadline = Some(at(due));
    }
    let deadlines = of(&world).deadlines;
    // The canary begins now; the other ring soaks until it is too late; the third was late before.
    assert_eq!((deadlines.kept, deadlines.missed, deadlines.late, deadlines.without), (1, 1, 1, 0));
    assert_eq!(deadlines.first, Some(at(due[0])));
}

#[test]
fn cohorts_are_told_with_who_tries_them_first() {
    let report = of(&world(policy(RINGS)));
    assert_eq!(report.cohorts.len(), 2);
    let large = &report.cohorts[0];
    assert_eq!((large.hosts, large.first_wave, large.last_wave > 0), (2, 0, true));
    assert_eq!(large.tried_on, ["a.example.org"]);
    assert_eq!(large.changes, 3);
    assert!(report.cohorts[1].first_wave > 0, "nobody tries it before its own ring");
}

#[test]
fn what_is_left_undone_is_counted_by_reason_and_not_host_by_host() {
    let mut world = world(policy(RINGS));
    for n in 0..100 {
        let mut silent = host(&format!("s{n:03}"), &[]);
        silent.last_seen = Some(at("2026-11-23T11:00:00Z") + jiff::SignedDuration::from_secs(n));
        world.fleet.push(silent);
    }
    let report = of(&world);
    assert_eq!(report.held.len(), 1, "{:?}", report.held);
    let silent = &report.held[0];
    assert_eq!((silent.reasons.as_slice(), silent.hosts), (&["host-silent".to_owned()][..], 100));
    assert_eq!((silent.packages, silent.names.len()), (0, 5));
}

#[test]
fn a_report_says_who_needs_what_changes_and_that_nobody_has_told_where_nobody_has() {
    let mut world = world(policy(RINGS));
    let report = of(&world);
    assert_eq!(report.needed_by, None);
    assert!(report.unknown.iter().any(|what| what.contains("no host has told")));
    for host in &mut world.fleet {
        let by = if host.id == "c".into() { vec!["curl"] } else { vec!["nginx", "postfix"] };
        let by = by.into_iter().map(str::to_owned).collect();
        inventory(host).dependents = Some(BTreeMap::from([
            ("libssl3".to_owned(), by),
            ("bash".to_owned(), vec!["everything".to_owned()]),
        ]));
    }
    let needed = of(&world).needed_by.unwrap();
    assert_eq!(needed.len(), 1, "bash does not change: {needed:?}");
    assert_eq!(
        (needed[0].package.as_str(), needed[0].hosts, needed[0].dependents),
        ("libssl3", 3, 3)
    );
    assert_eq!(
        (needed[0].names.join(" "), needed[0].in_use.join(" ")),
        ("curl nginx postfix".into(), "nginx".into())
    );
}

#[test]
fn hosts_that_are_for_the_same_are_a_group_and_one_that_goes_as_a_whole_is_told() {
    let all = "[[ring]]\nname = \"all\"\n";
    let fleet = || {
        let mut fleet: Vec<_> =
            (0..3).map(|n| host(&format!("w{n}"), &[("role", "web")])).collect();
        let mut db = host("db", &[("role", "db")]);
        inventory(&mut db).upgrades.clear();
        fleet.extend([db, host("mail", &[("role", "mail")])]);
        fleet
    };
    let of_policy = |more: &str| of(&World::new(policy(&format!("{more}{all}")), fleet())).groups;
    let groups = of_policy("");
    let roles: Vec<&str> = groups.iter().map(|group| group.role.as_str()).collect();
    assert_eq!(roles, ["web", "mail"], "nothing is done to db");
    let web = &groups[0];
    assert_eq!((web.members, web.hosts, web.in_a_wave, web.at_once), (3, 3, 3, 3));
    assert!(web.is_whole() && !web.has_budget);
    assert_eq!(web.restarts[0], ("nginx.service".to_owned(), 3));
    assert!(!groups[1].is_whole(), "it is the only one: nobody could stand in");
    let budget = "[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 1\n";
    let web = &of_policy(budget)[0];
    assert_eq!((web.at_once, web.has_budget, web.is_whole()), (1, true, false));
}

#[test]
fn hosts_short_of_space_are_named_and_those_that_do_not_tell_are_counted() {
    let mut world = world(policy(RINGS));
    let disk = |free: u64| {
        vec![Filesystem { mount: "/".into(), size: 1 << 40, free, inodes_free: Some(1 << 20) }]
    };
    inventory(&mut world.fleet[0]).filesystems = disk(1 << 20);
    inventory(&mut world.fleet[1]).filesystems = disk(10 << 30);
    let report = of(&world);
    assert_eq!(report.space.untold, 1);
    assert!(report.unknown.iter().any(|what| what.contains("room on 1 of the hosts")));
    let short: Vec<_> =
        report.space.short.iter().map(|it| (it.name.as_str(), it.mount.as_str())).collect();
    assert_eq!(short, [("a.example.org", "/")]);
    assert!(report.space.short[0].needs > report.space.short[0].free);
}

#[test]
fn how_long_a_wave_lasts_is_learned_from_earlier_changes_and_unknown_without() {
    let world = world(policy(RINGS));
    let report = of(&world);
    assert!(report.waves.iter().all(|wave| wave.takes.is_none() && wave.lasts_seconds.is_none()));
    assert!(report.unknown.iter().any(|what| what.contains("nothing was changed yet")));
    let plan = world.plan();
    let work = work_key(&plan.hosts[&"a".into()].order.changes);
    let spent: Vec<Spent> = [20, 40, 30].map(|seconds| Spent { seconds, packages: 3, work }).into();
    let report = learned(&world, &spent);
    let first = report.waves[0].takes.unwrap();
    assert_eq!((first.usual_seconds, first.long_seconds, first.same_change), (30, 40, true));
    assert_eq!(report.waves[0].lasts_seconds, Some(30));
    // The other nginx is another change; its time is that of the nearest.
    assert!(report.waves.iter().any(|wave| wave.takes.is_some_and(|it| !it.same_change)));
    assert!(!report.unknown.iter().any(|what| what.contains("nothing was changed yet")));
}
