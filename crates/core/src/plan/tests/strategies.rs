//! Waves of the strategies that do not go by rings.

use super::fleet::*;
use crate::host::Host;
use crate::plan::Plan;
use crate::policy::Pool;
use crate::{Hold, HostId};
use std::collections::BTreeSet;

const SHARES: &str = "[strategy]\nkind = \"percentage\"\nwaves = [1, 5, 25, 100]\nsoak = \"1h\"\n";

fn fleet(hosts: usize) -> Vec<Host> {
    (0..hosts).map(|n| host(&format!("h{n:03}"), &[])).collect()
}

/// A host with an upgrade that the others do not have.
fn odd(id: &str, package_of_its_own: &str) -> Host {
    let mut h = host(id, &[]);
    inventory(&mut h).packages.push(package(package_of_its_own, package_of_its_own, "1"));
    inventory(&mut h).upgrades.push(upgrade(package_of_its_own, "1", "2"));
    h
}

fn sizes(plan: &Plan) -> Vec<usize> {
    plan.waves.iter().map(|w| w.hosts.len()).collect()
}

#[test]
fn percentage_waves_grow_and_those_that_would_add_nobody_are_left_out() {
    for (hosts, waves) in [
        (0, vec![]),
        (1, vec![1]),
        (3, vec![1, 2]),
        (8, vec![1, 1, 6]),
        (100, vec![1, 4, 20, 75]),
        (201, vec![3, 8, 40, 150]),
    ] {
        let plan = World::new(policy(SHARES), fleet(hosts)).plan();
        assert_eq!(sizes(&plan), waves, "{hosts} hosts");
        let soaks: Vec<u64> = plan.waves.iter().map(|w| w.soak_seconds).collect();
        let (last, before) = soaks.split_last().unwrap_or((&0, &[]));
        assert!(*last == 0 && before.iter().all(|s| *s == 3600), "{soaks:?}");
        let placed: BTreeSet<&HostId> = plan.waves.iter().flat_map(|w| &w.hosts).collect();
        assert_eq!(placed, plan.hosts.keys().collect());
        for (n, wave) in plan.waves.iter().enumerate() {
            assert!(wave.hosts.iter().all(|id| plan.hosts[id].wave == n as u32));
        }
    }
}

#[test]
fn a_share_is_of_the_hosts_that_have_something_to_do() {
    let mut hosts = fleet(100);
    for h in &mut hosts[10..] {
        inventory(h).upgrades.clear();
    }
    assert_eq!(sizes(&World::new(policy(SHARES), hosts).plan()), [1, 2, 7]);
}

#[test]
fn what_the_first_share_does_not_try_goes_ahead_before_others_get_it() {
    let mut hosts = fleet(20);
    hosts.extend([odd("x1", "exim"), odd("x2", "exim"), odd("x3", "exim"), odd("y1", "redis")]);
    let plan = World::new(policy(SHARES), hosts).plan();
    assert_eq!(sizes(&plan), [1, 1, 1, 3, 18], "the share of each wave still holds");
    insta::assert_snapshot!(
        plan.waves.iter().map(|w| w.why.split("; chosen: ").next().unwrap()).collect::<Vec<_>>().join("\n"),
        @r#"
the first 1 % of 24 hosts; they stand for most of the others
goes ahead: tries 1 change that nobody has
goes ahead: tries 1 change that nobody has
up to 25 % of 24 hosts, most urgent first
up to 100 % of 24 hosts, most urgent first
"#
    );
    let mut tried: BTreeSet<String> = BTreeSet::new();
    for wave in &plan.waves {
        let changes = || wave.hosts.iter().flat_map(|id| changed(&plan, id.as_str()));
        if wave.why.starts_with("up to") {
            assert!(changes().all(|c| tried.contains(&c)), "{}", wave.why);
        }
        tried.extend(changes());
    }
}

#[test]
fn a_rolling_policy_has_one_wave_and_a_budget_over_all_its_hosts() {
    let rules = "[strategy]\nkind = \"rolling\"\nmax-unavailable = \"30%\"\n\
                 [[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 1\n";
    let mut hosts = fleet(9);
    hosts.push(odd("x", "exim"));
    // It needs nothing, and counts all the same.
    inventory(&mut hosts[0]).upgrades.clear();
    let plan = World::new(policy(rules), hosts).plan();
    assert_eq!(sizes(&plan), [9]);
    assert!(plan.waves[0].rolling);
    assert!(
        plan.waves[0].hosts[..2].iter().any(|id| id.as_str() == "x"),
        "what is odd is tried early"
    );
    insta::assert_snapshot!(plan.waves[0].why, @r#"one after another, at most 3 of 9 hosts at once; each is watched before the next takes its place; the first 2 hosts between them try all that is changed"#);
    let budget = &plan.budgets[1];
    assert_eq!(
        (budget.name.as_str(), budget.hosts.len(), budget.max_unavailable),
        ("rolling p", 10, 3)
    );
    assert!(World::new(policy(rules), vec![]).plan().waves.is_empty());
}

const POOLS: &str = "[strategy]\nkind = \"blue-green\"\nblue = \"pool=blue\"\ngreen = \"pool=green\"\ntraffic = [10, 100]\n";

fn pools() -> Vec<Host> {
    let pool = |id: &str, pool: &str| host(id, &[("pool", pool)]);
    vec![pool("b1", "blue"), pool("b2", "blue"), pool("g1", "green"), pool("g2", "green")]
}

fn steps(plan: &Plan) -> String {
    let step = |w: &crate::plan::Wave| {
        let hosts: Vec<&str> = w.hosts.iter().map(HostId::as_str).collect();
        let traffic = w.traffic.map_or(String::new(), |aim| format!("{aim} %"));
        format!("{} [{}]{traffic}: {}", w.ring, hosts.join(" "), w.why)
    };
    plan.waves.iter().map(step).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_blue_green_plan_patches_the_idle_pool_moves_the_traffic_and_patches_the_other() {
    let mut world = World::new(policy(POOLS), pools());
    insta::assert_snapshot!(steps(&world.plan()), @r#"
blue []0 %: every request goes to blue, none to green
green [g2 g1]: green is idle: it is patched and proved before it gets a request
green []10 %: 10 % of the requests go to green, the others to blue
green []100 %: every request goes to green; blue stays as it is, and is the way back
blue [b1 b2]: blue gets no requests any more, and is patched as well
"#);
    world.serving = Some(Pool::Green);
    let plan = world.plan();
    let first = plan.waves.iter().find(|w| !w.hosts.is_empty()).unwrap();
    assert_eq!(first.ring, "blue", "green has the requests now");
    let pools = plan.pools.unwrap();
    assert_eq!((pools.idle.name.as_str(), pools.serving.name.as_str()), ("blue", "green"));
}

#[test]
fn a_host_of_no_pool_is_held_and_one_that_nobody_hears_of_is_not_fit_to_serve() {
    let mut fleet = pools();
    fleet.push(host("x", &[]));
    fleet[3].quarantined = quarantine();
    let plan = World::new(policy(POOLS), fleet).plan();
    assert!(plan.held().any(|h| h.host.as_str() == "x" && h.reasons == [Hold::NoPool]));
    let pools = plan.pools.unwrap();
    let fit: Vec<(&str, bool)> =
        pools.idle.hosts.iter().map(|(id, m)| (id.as_str(), m.fit)).collect();
    assert_eq!(fit, [("g1", true), ("g2", false)]);
}

#[test]
fn pools_with_nothing_to_do_keep_their_traffic() {
    let mut fleet = pools();
    fleet.iter_mut().for_each(|h| inventory(h).upgrades.clear());
    let plan = World::new(policy(POOLS), fleet).plan();
    assert!(plan.waves.is_empty() && plan.pools.is_none());
}
