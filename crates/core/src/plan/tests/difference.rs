use super::fleet::*;
use super::properties::world as any_world;
use crate::Digest;
use crate::plan::{Plan, PlanDiff, PoolHosts, Pools, diff};
use crate::testbed::TestbedRule;
use proptest::prelude::*;

const RINGS: &str =
    "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"broad\"\n";

fn world() -> World {
    World::new(
        policy(RINGS),
        vec![host("a", &[("ring", "canary")]), host("b", &[]), host("c", &[])],
    )
}

fn between(one: &World, other: &World) -> PlanDiff {
    diff(&one.plan(), &Plan { number: 2, ..other.plan() })
}

#[test]
fn a_plan_differs_in_nothing_from_itself_whenever_it_is_made() {
    let plan = world().plan();
    let later = Plan { number: 9, made_at: at("2027-01-01T00:00:00Z"), ..plan.clone() };
    assert!(diff(&plan, &later).is_empty());
}

#[test]
fn hosts_that_come_and_go_are_told() {
    let mut other = world();
    other.fleet[2].quarantined = quarantine();
    let there = between(&world(), &other);
    assert_eq!(
        (there.hosts_out.count, there.hosts_out.names),
        (1, vec!["c.example.org".to_owned()])
    );
    assert_eq!(there.hosts_in.count, 0);
    // And why: it is held now.
    assert_eq!(there.held_in[0].reasons, ["quarantined"]);
    assert!(there.held_in[0].example.contains("undo failed"));
    let back = between(&other, &world());
    assert_eq!((back.hosts_in.count, back.hosts_out.count), (1, 0));
    assert_eq!(back.held_out, there.held_in);
}

#[test]
fn versions_and_archives_are_told_apart() {
    let mut newer = world();
    for host in &mut newer.fleet {
        inventory(host).upgrades[1].to = "1.22.3".into();
    }
    let it = between(&world(), &newer);
    assert_eq!(it.packages.len(), 1);
    let nginx = &it.packages[0];
    assert_eq!((nginx.package.as_str(), nginx.hosts.count), ("nginx", 3));
    let (from, to) = (nginx.from.clone().unwrap(), nginx.to.clone().unwrap());
    assert_eq!((from.version.as_str(), to.version.as_str()), ("1.22.2", "1.22.3"));

    let mut swapped = world();
    inventory(&mut swapped.fleet[1]).upgrades[1].sha256 = Digest::of(b"other bits");
    let it = between(&world(), &swapped);
    let (from, to) = (it.packages[0].from.clone().unwrap(), it.packages[0].to.clone().unwrap());
    assert_eq!((from.version == to.version, from.sha256 == to.sha256), (true, false));
    assert_eq!(it.packages[0].hosts.names, ["b.example.org"]);

    let mut held = world();
    inventory(&mut held.fleet[1]).held.push("nginx".into());
    let it = between(&world(), &held);
    assert_eq!(
        (it.packages[0].to.clone(), it.held_in[0].reasons[0].as_str()),
        (None, "package-held")
    );
}

#[test]
fn moves_between_waves_and_new_rules_are_told() {
    let mut other = world();
    other.fleet[1].labels.insert("ring".into(), "canary".into());
    let it = between(&world(), &other);
    let moved = it.waves.iter().find(|w| w.hosts.names.contains(&"b.example.org".to_owned()));
    let moved = moved.unwrap();
    assert_eq!((moved.from.0.as_str(), moved.to.0.as_str()), ("broad", "canary"));

    let mut other = world();
    other.policy =
        policy(&format!("{RINGS}[[probe]]\ntcp = \"127.0.0.1:22\"\n[gate]\nbake = \"2h\"\n"));
    let it = between(&world(), &other);
    assert_eq!((it.rules.count, it.packages.len()), (3, 0));
    assert_eq!(it.wave_rules, [0, 1]);
    assert!(it.policy_texts.is_some() && it.policies.is_none());
}

#[test]
fn whatever_else_plans_do_otherwise_is_told_too() {
    let budgeted = |rules: &str| {
        let mut world = world();
        let budget = "[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 1\n";
        world.policy = policy(&format!("{RINGS}{budget}{rules}"));
        world.plan()
    };
    let one = Plan { policy_digest: Digest::of(b"same"), ..budgeted("") };
    let told = |change: &dyn Fn(&mut Plan)| {
        let mut other = one.clone();
        change(&mut other);
        let it = diff(&one, &other);
        assert!(!it.is_empty(), "{:?}", it.besides);
        it.besides.join("; ")
    };
    assert_eq!(
        told(&|other| other.budgets[0].hosts.push("z".into())),
        "budget `web` counts 1 more hosts, and 0 no longer"
    );
    let rule = |required| TestbedRule { required, ..TestbedRule::default() };
    assert_eq!(
        told(&|other| other.testbed = Some(rule(true))),
        "no tests are asked for → each change has to be tested on a twin"
    );
    let pool = |name: &str| PoolHosts { name: name.into(), hosts: Default::default() };
    let pools = Pools { idle: pool("green"), serving: pool("blue"), capacity_percent: 100 };
    assert!(told(&|other| other.pools = Some(pools.clone())).contains("the pools"));
    assert_eq!(
        told(&|other| other.waves[1].hosts.reverse()),
        "wave 2: its hosts start in another order"
    );
    assert_eq!(one.waves[1].hosts.len(), 2, "there is an order to turn");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_comes_in_one_way_goes_out_the_other(one in any_world(), other in any_world()) {
        let (one, other) = (one.plan(), other.plan());
        let (there, back) = (diff(&one, &other), diff(&other, &one));
        prop_assert_eq!(&there.hosts_in, &back.hosts_out);
        prop_assert_eq!(&there.hosts_out, &back.hosts_in);
        prop_assert_eq!(&there.held_in, &back.held_out);
        let moves = |it: &PlanDiff, turn: bool| {
            let side = |m: &crate::plan::PackageMove| {
                let (from, to) = (m.from.clone(), m.to.clone());
                let (from, to) = if turn { (to, from) } else { (from, to) };
                (m.package.clone(), from, to, m.hosts.count)
            };
            let mut all: Vec<_> = it.packages.iter().map(side).collect();
            all.sort();
            all
        };
        prop_assert_eq!(moves(&there, false), moves(&back, true));
        prop_assert!(diff(&one, &one).is_empty());
    }
}
