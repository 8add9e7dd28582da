use super::fleet::*;
use crate::HostId;
use crate::host::Host;
use crate::plan::Plan;

const RINGS: &str = "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nsoak = \"1h\"\n\
                     [[ring]]\nname = \"early\"\nselect = \"ring=early\"\nwave-percent = 50\nsoak = \"2h\"\n\
                     [[ring]]\nname = \"broad\"\n";

/// A host that differs from others by a package.
fn odd(id: &str, ring: &str, package_of_its_own: &str) -> Host {
    let mut h = host(id, &[("ring", ring)]);
    if !package_of_its_own.is_empty() {
        inventory(&mut h).packages.push(package(package_of_its_own, package_of_its_own, "1"));
    }
    h
}

/// The same, where that package has an upgrade.
fn odd_change(id: &str, ring: &str, name: &str) -> Host {
    let mut h = odd(id, ring, name);
    inventory(&mut h).upgrades.push(upgrade(name, "1", "2"));
    h
}

fn shape(plan: &Plan) -> Vec<String> {
    let wave = |w: &crate::plan::Wave| {
        let hosts: Vec<&str> = w.hosts.iter().map(HostId::as_str).collect();
        format!("{}: {} ({} s)", w.ring, hosts.join(" "), w.soak_seconds)
    };
    plan.waves.iter().map(wave).collect()
}

#[test]
fn waves_follow_the_rings_in_shares_of_the_ring_with_soak_between_rings() {
    let mut fleet = vec![odd("c", "canary", "")];
    fleet.extend((1..=5).map(|n| odd(&format!("e{n}"), "early", "")));
    fleet.extend((1..=3).map(|n| odd(&format!("b{n}"), "broad", "")));
    // Two of the five need nothing: the share is of the ring all the same.
    for h in &mut fleet[4..6] {
        inventory(h).upgrades.clear();
    }
    let plan = World::new(policy(RINGS), fleet).plan();
    let sizes: Vec<_> =
        plan.waves.iter().map(|w| (w.ring.as_str(), w.hosts.len(), w.soak_seconds)).collect();
    assert_eq!(sizes, [("canary", 1, 3600), ("early", 3, 7200), ("broad", 3, 0)]);
    for (n, wave) in plan.waves.iter().enumerate() {
        for id in &wave.hosts {
            assert_eq!((plan.hosts[id].wave, &plan.hosts[id].ring), (n as u32, &wave.ring));
        }
    }
}

#[test]
fn soak_within_a_ring_is_nothing_and_at_its_end_its_own() {
    let mut fleet = vec![odd("c", "canary", "")];
    fleet.extend((1..=4).map(|n| odd(&format!("e{n}"), "early", "")));
    fleet.push(odd("b", "broad", ""));
    let plan = World::new(policy(RINGS), fleet).plan();
    let soaks: Vec<_> =
        plan.waves.iter().map(|w| (w.ring.as_str(), w.hosts.len(), w.soak_seconds)).collect();
    assert_eq!(soaks, [("canary", 1, 3600), ("early", 2, 0), ("early", 2, 7200), ("broad", 1, 0)]);
}

#[test]
fn rings_begin_so_long_after_the_rollout_and_an_urgent_class_cuts_that_too() {
    let rings = "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nsoak = \"1h\"\n\
                 [[ring]]\nname = \"broad\"\nwave-percent = 50\nafter = \"3d\"\n";
    let fleet = || vec![odd("c", "canary", ""), odd("a", "", ""), odd("b", "", "")];
    let plan = World::new(policy(rings), fleet()).plan();
    let afters = |plan: &Plan| plan.waves.iter().map(|w| w.after_seconds).collect::<Vec<_>>();
    assert_eq!(afters(&plan), [0, 3 * 86_400, 3 * 86_400]);
    let begin = at("2026-12-01T00:00:00Z");
    let earliest: Vec<String> = plan.earliest(begin).iter().map(ToString::to_string).collect();
    let bake = plan.waves[0].gate.bake_seconds;
    assert_eq!(earliest[..2], ["2026-12-01T00:00:00Z", "2026-12-04T00:00:00Z"]);
    assert_eq!(earliest[2], crate::later(at("2026-12-04T00:00:00Z"), bake).to_string());

    let urgent = "[[class]]\nname = \"bad\"\nkev = true\nsoak = \"10m\"\ndeadline = \"1d\"\n";
    let mut bad = finding("c", "CVE-1", "nginx", &["nginx"], Some("1.1"));
    let day = "2026-11-01".parse().unwrap();
    bad.ranking.kev =
        Some(crate::advisory::Kev { date_added: day, due_date: day, ransomware: false });
    let plan = World::new(policy(&format!("{rings}{urgent}")), fleet()).with(bad).plan();
    assert_eq!(afters(&plan), [0, 600, 600]);
}

#[test]
fn a_class_of_a_fixed_finding_cuts_the_soak() {
    let rules = format!("[[class]]\nname = \"bad\"\nsoak = \"10m\"\ndeadline = \"1d\"\n{RINGS}");
    let fleet = vec![odd("c", "canary", ""), odd("b", "broad", "")];
    let world = World::new(policy(&rules), fleet).with(finding(
        "b",
        "CVE-1",
        "nginx",
        &["nginx"],
        Some("1.22.2"),
    ));
    assert_eq!(shape(&world.plan()), ["canary: c (600 s)", "broad: b (0 s)"]);
}

#[test]
fn canaries_come_in_the_order_in_which_they_stand_for_most_of_the_rest() {
    let rules = "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nwave-percent = 25\n[[ring]]\nname = \"broad\"\n";
    let mut fleet = vec![
        odd_change("c1", "canary", "curl"),
        odd_change("c2", "canary", "curl"),
        odd_change("c3", "canary", "vim"),
        odd_change("c4", "canary", "git"),
    ];
    fleet.extend((1..=5).map(|n| odd_change(&format!("v{n}"), "broad", "vim")));
    fleet.extend((1..=3).map(|n| odd_change(&format!("k{n}"), "broad", "curl")));
    fleet.push(odd_change("z", "broad", "bash"));
    for seed in 0..20 {
        let mut world = World::new(policy(rules), fleet.clone());
        world.seed = seed;
        let plan = world.plan();
        let order: Vec<&str> = plan.waves[..4].iter().map(|w| w.hosts[0].as_str()).collect();
        assert_eq!(order[0], "c3", "five others are like it");
        assert!(order[1] == "c1" || order[1] == "c2", "three others are like them");
        assert_eq!(
            order[2], "c4",
            "one of its changes is new, the other curl host tries nothing new"
        );
    }
    let mut world = World::new(policy(rules), fleet);
    world.seed = 1;
    let plan = world.plan();
    let before = |w: &crate::plan::Wave| w.why.split("; chosen: ").next().unwrap().to_owned();
    let why: Vec<String> =
        plan.waves.iter().map(|w| format!("{}: {}", w.ring, before(w))).collect();
    let first = "; chosen: c3.example.org for 6 hosts like it, nginx.service (13 hosts), ssh.service (13 hosts), \
                 4 changes";
    assert!(plan.waves[0].why.ends_with(first), "{}", plan.waves[0].why);
    assert!(!plan.waves[3].why.contains("chosen"), "it adds nothing: {}", plan.waves[3].why);
    insta::assert_snapshot!(why.join("\n"), @r#"
canary: stands for 1 of 3 cohorts of later rings (5 of 9 hosts); not for 2 of them (4 hosts), of whose changes 2 are not tried here; for 2 of their 2 roles and services
canary: with the waves before it stands for 2 of 3 cohorts of later rings (8 of 9 hosts); not for 1 of them (1 host), of whose changes 1 is not tried here; for 2 of their 2 roles and services
canary: with the waves before it stands for 2 of 3 cohorts of later rings (8 of 9 hosts); not for 1 of them (1 host), of whose changes 1 is not tried here; for 2 of their 2 roles and services
canary: with the waves before it stands for 2 of 3 cohorts of later rings (8 of 9 hosts); not for 1 of them (1 host), of whose changes 1 is not tried here; for 2 of their 2 roles and services
broad: goes ahead of ring broad: tries 1 change that no ring before did
broad: most urgent first
"#);
}

#[test]
fn however_many_cohorts_there_are_a_wave_is_explained_in_a_sentence() {
    let mut fleet: Vec<Host> =
        (0..40).map(|n| odd_change(&format!("c{n}"), "canary", &format!("package-{n}"))).collect();
    fleet.extend((0..400).map(|n| odd_change(&format!("b{n}"), "broad", &format!("package-{n}"))));
    let plan = World::new(policy(RINGS), fleet).plan();
    let why = &plan.waves[0].why;
    assert!(why.contains("of 400 cohorts of later rings") && why.contains("of 400 hosts"), "{why}");
    assert!(plan.waves.iter().all(|wave| wave.why.len() < 400), "{why}");
}

#[test]
fn what_no_earlier_ring_tried_goes_ahead_in_a_wave_of_its_own() {
    let mut fleet = vec![odd("c", "canary", "")];
    fleet.extend((1..=4).map(|n| odd(&format!("b{n}"), "broad", "")));
    fleet.extend((1..=3).map(|n| odd_change(&format!("v{n}"), "broad", "vim")));
    let plan = World::new(policy(RINGS), fleet).plan();
    assert_eq!(plan.waves.len(), 3);
    assert_eq!(plan.waves[1].hosts.len(), 1, "one of three tries it for all");
    assert!(plan.waves[1].hosts[0].as_str().starts_with('v'));
    assert_eq!(plan.waves[2].hosts.len(), 6);
    insta::assert_snapshot!(plan.waves[1].why, @r#"goes ahead of ring broad: tries 1 change that no ring before did"#);
}

#[test]
fn where_the_canaries_need_nothing_somebody_goes_ahead_all_the_same() {
    let mut fleet = vec![odd("c", "canary", "")];
    inventory(&mut fleet[0]).upgrades.clear();
    fleet.extend((1..=4).map(|n| odd(&format!("b{n}"), "broad", "")));
    let plan = World::new(policy(RINGS), fleet).plan();
    insta::assert_snapshot!(shape(&plan).join("\n") + "\n" + &plan.waves[0].why, @r#"
broad: b4 (0 s)
broad: b1 b2 b3 (0 s)
goes ahead of ring broad: tries 3 changes that no ring before did
"#);
}

#[test]
fn the_most_urgent_of_a_ring_go_first() {
    let rules = "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"broad\"\nwave-percent = 1\n";
    let mut fleet = vec![odd("c", "canary", "")];
    fleet.extend((1..=3).map(|n| odd(&format!("b{n}"), "broad", "")));
    let mut world = World::new(policy(rules), fleet);
    for (host, day) in [("b1", "03"), ("b2", "01"), ("b3", "02")] {
        let mut f = finding(host, "CVE-1", "nginx", &["nginx"], Some("1.22.2"));
        f.deadline = Some(at(&format!("2026-12-{day}T00:00:00Z")));
        world = world.with(f);
    }
    assert_eq!(
        shape(&world.plan()),
        ["canary: c (0 s)", "broad: b2 (0 s)", "broad: b3 (0 s)", "broad: b1 (0 s)"]
    );
}

#[test]
fn budgets_count_the_whole_fleet_in_the_plan_or_not() {
    let rules = "[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 2\n";
    let mut mine = policy(rules);
    mine.select = crate::policy::Selector::parse("env=prod").unwrap();
    let fleet = vec![
        host("b", &[("env", "prod"), ("role", "web")]),
        host("a", &[("env", "test"), ("role", "web")]),
        host("c", &[("env", "prod"), ("role", "db")]),
    ];
    let mut world = World::new(mine, fleet);
    world.only = Some(["c".into()].into());
    let plan = world.plan();
    assert_eq!(plan.budgets[0].hosts, ["a".into(), "b".into()] as [HostId; 2]);
    assert_eq!((plan.budgets[0].max_unavailable, plan.hosts.len()), (2, 1));
}

#[test]
fn what_another_policy_says_of_hosts_that_the_plan_changes_binds_it_too() {
    let mine = policy("");
    // They govern none of these hosts, and yet have a word about them.
    let named = |name: &str, rules: &str| crate::policy::Policy {
        name: name.into(),
        select: crate::policy::Selector::parse("env=elsewhere").unwrap(),
        ..policy(rules)
    };
    let web = "[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmin-healthy = \"75%\"\n\
               services = [\"nginx.service\"]\n";
    let db = "[[budget]]\nname = \"db\"\nselect = \"role=db\"\nmax-unavailable = 1\n";
    let fleet: Vec<_> =
        ["a", "b", "c", "d", "e"].iter().map(|name| host(name, &[("role", "web")])).collect();
    let mut world = World::new(mine.clone(), fleet);
    world.policies = vec![mine, named("theirs", web), named("others", db)];
    let plan = world.plan();
    let [budget] = &plan.budgets[..] else { panic!("{:?}", plan.budgets) };
    // Three quarters of five are four, rounded up.
    assert_eq!((budget.name.as_str(), budget.hosts.len()), ("web of theirs", 5));
    assert_eq!((budget.max_unavailable, budget.min_healthy), (1, Some(4)));
    assert_eq!(budget.services, ["nginx.service"]);
}

#[test]
fn a_plan_keeps_to_what_the_policy_asks_of_the_packages_that_it_changes_and_says_so() {
    let risk = "[[risk]]\nname = \"front\"\npackages = [\"nginx*\", \"@kernel\"]\nbake = \"1d\"\n\
                wave-percent = 25\napprovals = 2\n";
    let rules = policy(&format!("[gate]\nbake = \"5m\"\n{risk}"));
    let fleet = |names: &[&str]| names.iter().map(|name| host(name, &[])).collect::<Vec<_>>();
    let look = |plan: &Plan| {
        let sizes: Vec<usize> = plan.waves.iter().map(|wave| wave.hosts.len()).collect();
        (plan.waves[0].gate.bake_seconds, sizes, plan.approvals_needed)
    };
    let mut world = World::new(rules, fleet(&["a", "b", "c", "d"]));
    let plan = world.plan();
    assert_eq!(look(&plan), (86_400, vec![1, 1, 1, 1], 2));
    let report = super::report::of(&world);
    let [hit] = &report.risks[..] else { panic!("{:?}", report.risks) };
    assert_eq!((hit.name.as_str(), hit.hosts), ("front", 4));
    assert_eq!(hit.packages, ["nginx".to_owned()].into());
    assert_eq!(hit.asks, "bake = 1d, wave-percent = 25, approvals = 2");

    // In an emergency the number of approvals is the emergency's own.
    let approvals = world.policy.in_emergency().with_care(["nginx"].into_iter()).approvals;
    assert_eq!(approvals, 0);

    // Where nobody gets one of them, nothing is asked for: the kernel is installed, and not changed.
    for host in &mut world.fleet {
        inventory(host).upgrades.retain(|upgrade| upgrade.name != "nginx");
    }
    assert_eq!(look(&world.plan()), (300, vec![4], 0));
}

#[test]
fn a_ring_in_which_nobody_has_anything_to_do_hands_the_word_it_waits_for_on_to_the_next() {
    let asks = |word: &str, rings: &[&str]| {
        let fleet = rings.iter().map(|ring| odd(ring, ring, "")).collect();
        let rules = format!("[gate]\napproval = [{word}]\n{RINGS}");
        let plan = World::new(policy(&rules), fleet).plan();
        let one = &plan.waves[0].gate.approval;
        assert!(plan.waves.iter().all(|wave| wave.gate.approval == *one));
        one.join(" ")
    };
    let early = "\"before:early\"";
    assert_eq!(asks(early, &["canary", "early", "broad"]), "early");
    assert_eq!(asks(early, &["canary", "broad"]), "broad", "what comes after it does not slip by");
    assert_eq!(asks(early, &["broad"]), "broad");
    assert_eq!(asks(early, &["canary"]), "early", "nothing comes after it");
    assert_eq!(asks("\"before:early\", \"before:broad\"", &["canary", "broad"]), "broad");
    assert_eq!(asks("\"each-wave\"", &["broad"]), "each-wave");
}

#[test]
fn canaries_stand_for_roles_and_services_as_well_as_for_cohorts() {
    let rules = "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nwave-percent = 25\n[[ring]]\nname = \"broad\"\n";
    let serving = |id: &str, ring: &str, role: &str, unit: &str| {
        let mut h = host(id, &[("ring", ring), ("role", role)]);
        inventory(&mut h).listeners = vec![listener(unit, "x", "0.0.0.0")];
        h
    };
    // All of one cohort: by their packages, one would stand for everybody.
    let mut fleet = vec![
        serving("c1", "canary", "web", "nginx.service"),
        serving("c2", "canary", "web", "nginx.service"),
        serving("c3", "canary", "db", "postgres.service"),
        serving("c4", "canary", "mail", "nginx.service"),
    ];
    fleet.extend((0..5).map(|n| serving(&format!("w{n}"), "broad", "web", "nginx.service")));
    fleet.extend((0..3).map(|n| serving(&format!("d{n}"), "broad", "db", "postgres.service")));
    fleet.extend([serving("m", "broad", "mail", "nginx.service")]);
    fleet.push(serving("x", "broad", "cache", "redis.service"));
    for seed in 0..10 {
        let mut world = World::new(policy(rules), fleet.clone());
        world.seed = seed;
        let plan = world.plan();
        let order: Vec<&str> = plan.waves[..4].iter().map(|w| w.hosts[0].as_str()).collect();
        assert!(order[0] == "c1" || order[0] == "c2", "most others are web: {order:?}");
        assert_eq!((order[1], order[2]), ("c3", "c4"), "the other web host adds nothing");
    }
    let mut world = World::new(policy(rules), fleet);
    world.seed = 1;
    let why: Vec<String> = world.plan().waves[..4].iter().map(|w| w.why.clone()).collect();
    assert!(why[0].contains("role web (7 hosts)"), "{}", why[0]);
    assert!(
        why[1].contains("c3.example.org for ") && why[1].contains("role db (4 hosts)"),
        "{}",
        why[1]
    );
    assert!(why[2].contains("c4.example.org for role mail (2 hosts)"), "{}", why[2]);
    assert!(
        why[3].contains("not for redis.service (1 host)")
            || why[3].contains("not for role cache (1 host)"),
        "{}",
        why[3]
    );
}
