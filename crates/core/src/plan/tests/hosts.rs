use super::fleet::*;
use crate::assignment::RebootRule;
use crate::finding::FindingState;
use crate::plan::Barred;
use crate::recall::Recall;
use crate::{Digest, Hold, Timestamp};

const CLASSES: &str = "[[class]]\nname = \"bad\"\nkev = true\nsoak = \"10m\"\nemergency = true\ndeadline = \"1d\"\n\
                       [[class]]\nname = \"rest\"\ndeadline = \"30d\"\n";

#[test]
fn security_upgrades_and_what_fixes_a_finding_are_taken_and_the_rest_is_not() {
    let world = World::one(policy(""), |h| {
        let i = inventory(h);
        i.packages.push(package("tzdata", "tzdata", "1"));
        i.packages.push(package("vim", "vim", "1"));
        i.upgrades.push(upgrade("tzdata", "1", "2"));
        i.upgrades.push(upgrade("vim", "1", "2"));
        for u in i.upgrades.iter_mut().filter(|u| u.name != "nginx") {
            u.origin = debian(false);
        }
    });
    assert_eq!(changed(&world.plan(), "h"), ["nginx"], "from the security suite");
    let world = world.with(finding("h", "CVE-1", "vim", &["vim"], Some("2")));
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["nginx", "vim"], "fixes a finding");
    let host = &plan.hosts[&"h".into()];
    assert_eq!(*host.why["vim"], ["CVE-1"]);
    assert!(host.why["nginx"].is_empty());
    assert_eq!(host.order.fixes, ["CVE-1"]);
    assert!(plan.held.is_empty(), "{:?}", plan.held);
}

#[test]
fn a_policy_that_takes_all_takes_all_that_its_sources_offer() {
    let mut world = World::one(policy("take = \"all\"\n[[source]]\nlabel = \"Debian\"\n"), |h| {
        for u in inventory(h).upgrades.iter_mut().filter(|u| u.name != "nginx") {
            u.origin = debian(false);
        }
    });
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    let origin = "Debian-Security stable-security".to_owned();
    assert_eq!(held(&plan, "nginx"), [Hold::SourceNotAllowed { package: "nginx".into(), origin }]);
    world.policy.take = crate::policy::Take::Security;
    let plan = world.plan();
    assert!(plan.hosts.is_empty());
    assert_eq!(held(&plan, "").len(), 0, "the held upgrade is the reason");
}

#[test]
fn the_order_names_exact_versions_and_hashes() {
    let plan =
        World::one(policy("conffiles = \"replace\"\n[[probe]]\ntcp = \"127.0.0.1:22\"\n"), |_| {})
            .plan();
    let order = &plan.hosts[&"h".into()].order;
    let first = &order.changes[0];
    assert_eq!(
        (first.name.as_str(), first.from.as_str(), first.to.as_str()),
        ("libssl3", "3.0.1", "3.0.2")
    );
    assert_eq!((first.sha256, first.size), (Digest::of(b"libssl3 3.0.2"), 1000));
    assert_eq!(order.conffiles, crate::assignment::ConffileRule::Replace);
    assert_eq!(order.probes.len(), 1);
}

#[test]
fn an_exclusion_holds_until_it_ends() {
    let exclude = |until: &str| {
        format!(
            "[[exclude]]\npackage = \"ngin?\"\nreason = \"slow\"\nowner = \"me\"\nuntil = {until}\n"
        )
    };
    let plan = World::one(policy(&exclude("2026-11-23T12:00:01Z")), |_| {}).plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    let until = Some(at("2026-11-23T12:00:01Z"));
    assert_eq!(
        held(&plan, "nginx"),
        [Hold::Excluded { package: "nginx".into(), reason: "slow".into(), until }]
    );
    let plan = World::one(policy(&exclude("2026-11-23T12:00:00Z")), |_| {}).plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "nginx", "openssl"]);
}

#[test]
fn a_pin_lets_through_only_the_versions_that_it_names() {
    let pin = |version: &str, until: &str| {
        format!(
            "[[pin]]\npackage = \"nginx\"\nversion = \"{version}\"\nreason = \"slow\"\nowner = \"me\"\nuntil = {until}\n"
        )
    };
    let offered = |text: &str| World::one(policy(text), |_| {}).plan();
    let all = ["libssl3", "nginx", "openssl"];
    let to = {
        let plan = offered("");
        assert_eq!(changed(&plan, "h"), all);
        plan.hosts[&"h".into()].order.changes.iter().find(|c| c.name == "nginx").unwrap().to.clone()
    };
    assert_eq!(changed(&offered(&pin(&to, "2027-01-01T00:00:00Z")), "h"), all);
    assert_eq!(changed(&offered(&pin("0.9.*", "2026-11-23T12:00:00Z")), "h"), all, "it has ended");
    let plan = offered(&pin("0.9.*", "2027-01-01T00:00:00Z"));
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    let (package, until) = ("nginx".into(), at("2027-01-01T00:00:00Z"));
    assert_eq!(
        held(&plan, "nginx"),
        [Hold::Pinned { package, version: to, to: "0.9.*".into(), reason: "slow".into(), until }]
    );
}

#[test]
fn exempt_hosts_are_patched_and_neither_restarted_nor_rebooted_nor_promised_what_needs_it() {
    let text = "[restart]\norder = [\"nginx.service\"]\nexempt = \"role=db\"\n\
                [reboot]\nwhen = \"needed\"\nexempt = \"role=db\"\n";
    let hosts = [host("w", &[("role", "web")]), host("d", &[("role", "db")])];
    let mut world = World::new(policy(text), hosts.to_vec());
    // Both share one inventory, and are decided about apart all the same.
    let shared = world.fleet[0].inventory.clone();
    world.fleet[1].inventory = shared;
    for id in ["w", "d"] {
        let mut found = finding(id, "CVE-1", "nginx", &["nginx"], Some("1.1"));
        found.in_use = true;
        world = world.with(found);
    }
    let plan = world.plan();
    let order = |id: &str| &plan.hosts[&id.into()].order;
    assert_eq!(order("w").changes, order("d").changes);
    assert_eq!((order("w").restart.never, order("d").restart.never), (false, true));
    assert_eq!(order("w").restart.order, ["nginx.service"]);
    assert_eq!((order("w").reboot, order("d").reboot), (RebootRule::WhenNeeded, RebootRule::Never));
    assert_eq!((order("w").fixes.len(), order("d").fixes.len()), (1, 0));
}

#[test]
fn binaries_of_one_source_are_held_together_and_the_chain_says_why() {
    let world = World::one(policy(""), |h| inventory(h).held.push("libssl3".into())).with(finding(
        "h",
        "CVE-9",
        "openssl",
        &["libssl3", "openssl"],
        Some("3.0.2"),
    ));
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["nginx"]);
    let own = Hold::PackageHeld { package: "libssl3".into() };
    assert_eq!(held(&plan, "libssl3"), std::slice::from_ref(&own));
    let step = Hold::KeptInStep { package: "openssl".into(), with: "libssl3".into() };
    assert_eq!(held(&plan, "openssl"), [step, own]);
    let of_openssl = plan.held().find(|h| h.package == "openssl").unwrap();
    assert_eq!(of_openssl.findings, ["CVE-9"], "what stays open for it");
}

#[test]
fn a_barred_version_is_held_for_its_cohort_and_no_other() {
    let mut world = World::one(policy(""), |_| {});
    let cohort = world.fleet[0].inventory.as_ref().unwrap().cohort();
    let bar = |version: &str, cohort| Barred {
        package: "nginx".into(),
        version: version.into(),
        cohort,
        reason: "undone on a".into(),
    };
    for harmless in [bar("1.22.2", Digest::of(b"other")), bar("1.22.9", cohort)] {
        world.barred = vec![harmless];
        assert_eq!(changed(&world.plan(), "h").len(), 3);
    }
    world.barred = vec![bar("1.22.2", cohort)];
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    let (version, reason) = ("1.22.2".to_owned(), "undone on a".to_owned());
    assert_eq!(
        held(&plan, "nginx"),
        [Hold::VersionBarred { package: "nginx".into(), version, reason }]
    );
}

#[test]
fn a_recalled_version_is_held_for_every_cohort_and_says_who_recalled_it() {
    let mut world = World::one(policy(""), |_| {});
    let recall = |package: &str, version: &str| Recall {
        package: package.into(),
        version: version.into(),
        reason: "answers 500".into(),
        by: "alice".into(),
        at: at(NOW),
        undo: false,
    };
    for harmless in [recall("nginx", "1.22.9"), recall("nginx-common", "1.22.2")] {
        world.recalls = vec![harmless];
        assert_eq!(changed(&world.plan(), "h").len(), 3);
    }
    world.recalls = vec![recall("ngin?", "1.22.2")];
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    assert_eq!(held(&plan, "nginx"), [world.recalls[0].hold("nginx")]);
    // One binary of a source is enough: the others are kept in step with it.
    world.recalls = vec![recall("libssl3", "3.0.2")];
    let plan = world.plan();
    assert_eq!(changed(&plan, "h"), ["nginx"]);
    assert_eq!(held(&plan, "openssl")[1], world.recalls[0].hold("libssl3"));
}

#[test]
fn a_recall_holds_for_each_of_the_hosts_that_are_decided_about_once() {
    let mut world = World::one(policy(""), |_| {});
    let mut alike = world.fleet[0].clone();
    (alike.id, alike.name) = ("i".into(), "i.example.org".into());
    world.fleet.push(alike);
    world.recalls = vec![Recall {
        package: "nginx".into(),
        version: "1.22.2".into(),
        reason: "answers 500".into(),
        by: "alice".into(),
        at: at(NOW),
        undo: false,
    }];
    let plan = world.plan();
    for host in ["h", "i"] {
        assert_eq!(changed(&plan, host), ["libssl3", "openssl"], "{host}");
        let held = plan.held().find(|it| it.host.as_str() == host && it.package == "nginx");
        assert_eq!(held.unwrap().reasons, [world.recalls[0].hold("nginx")], "{host}");
    }
    assert_eq!(plan.works().len(), 1);
}

#[test]
fn an_upgrade_that_would_remove_packages_is_held() {
    let plan =
        World::one(policy(""), |h| inventory(h).upgrades[1].removes.push("apache2".into())).plan();
    assert_eq!(
        held(&plan, "nginx"),
        [Hold::WouldRemove { package: "nginx".into(), removes: vec!["apache2".into()] }]
    );
}

#[test]
fn packages_that_an_upgrade_brings_come_with_it_where_they_are_offered() {
    let kernel = |with_image: bool| {
        World::one(policy("[reboot]\nwhen = \"needed\"\n"), |h| {
            let mut meta = upgrade("linux-image-amd64", "6.1.119+1", "6.1.123+1");
            meta.brings.push("linux-image-6.1.0-30-amd64".into());
            let upgrades = &mut inventory(h).upgrades;
            upgrades.push(meta);
            if with_image {
                upgrades.push(upgrade("linux-image-6.1.0-30-amd64", "", "6.1.123+1"));
            }
        })
        .with(finding(
            "h",
            "CVE-K",
            "linux",
            &["linux-image-6.1.0-28-amd64"],
            Some("6.1.123-1"),
        ))
    };
    let plan = kernel(true).plan();
    assert_eq!(
        changed(&plan, "h"),
        ["libssl3", "linux-image-6.1.0-30-amd64", "linux-image-amd64", "nginx", "openssl"]
    );
    let host = &plan.hosts[&"h".into()];
    assert!(host.reboot_likely);
    assert_eq!(host.order.changes[1].from, "");
    assert_eq!(host.order.fixes, ["CVE-K"]);
    let plan = kernel(false).plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "nginx", "openssl"]);
    let brings = vec!["linux-image-6.1.0-30-amd64".to_owned()];
    assert_eq!(
        held(&plan, "linux-image-amd64"),
        [Hold::WouldBring { package: "linux-image-amd64".into(), brings }]
    );
}

#[test]
fn a_new_package_is_held_with_whoever_brings_it_and_not_taken_alone() {
    let world = |held_image: bool| {
        World::one(policy(""), |h| {
            let i = inventory(h);
            i.upgrades[1].brings.push("nginx-common".into());
            i.upgrades.push(upgrade("nginx-common", "", "1.22.2"));
            i.held.push(if held_image { "nginx-common" } else { "nginx" }.to_owned());
        })
        .plan()
    };
    let plan = world(true);
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    let chain = held(&plan, "nginx");
    assert_eq!(chain[0], Hold::KeptInStep { package: "nginx".into(), with: "nginx-common".into() });
    assert_eq!(chain[1], Hold::PackageHeld { package: "nginx-common".into() });
    let plan = world(false);
    assert_eq!(changed(&plan, "h"), ["libssl3", "openssl"]);
    assert_eq!(held(&plan, "nginx-common"), [], "nobody asks for it any more");
}

#[test]
fn a_fixed_package_that_nobody_brings_is_no_fix() {
    let plan = World::one(policy(""), |h| {
        inventory(h).upgrades.push(upgrade("linux-image-6.1.0-30-amd64", "", "6.1.123+1"));
    })
    .with(finding("h", "CVE-K", "linux", &["linux-image-6.1.0-28-amd64"], Some("6.1.123-1")))
    .plan();
    assert_eq!(changed(&plan, "h"), ["libssl3", "nginx", "openssl"]);
    let hold = Hold::FixNotOffered { finding: "CVE-K".into(), fixed_version: "6.1.123-1".into() };
    assert_eq!(held(&plan, "linux"), [hold]);
}

#[test]
fn a_kernel_that_may_not_reboot_is_installed_and_nothing_is_promised() {
    let plan = World::one(policy(""), |h| {
        inventory(h).upgrades.push(upgrade("linux-image-amd64", "6.1.119+1", "6.1.123+1"));
    })
    .with(finding("h", "CVE-K", "linux", &["linux-image-6.1.0-28-amd64"], Some("6.1.123-1")))
    .plan();
    let host = &plan.hosts[&"h".into()];
    assert_eq!(*host.why["linux-image-amd64"], ["CVE-K"]);
    assert!(!host.reboot_likely && host.order.fixes.is_empty());
}

#[test]
fn a_finding_is_promised_only_where_every_affected_binary_is_changed() {
    let half = |h: &mut crate::host::Host| inventory(h).upgrades.retain(|u| u.name != "openssl");
    let bug = || finding("h", "CVE-2", "openssl", &["libssl3", "openssl"], Some("3.0.2"));
    let plan = World::one(policy(""), half).with(bug()).plan();
    let host = &plan.hosts[&"h".into()];
    assert_eq!((&*host.why["libssl3"], &host.order.fixes), (&vec!["CVE-2".to_owned()], &vec![]));
    let plan = World::one(policy(""), |_| {}).with(bug()).plan();
    assert_eq!(plan.hosts[&"h".into()].order.fixes, ["CVE-2"]);
    let plan = World::one(policy("[restart]\nnever = true\n"), |_| {}).with(bug()).plan();
    assert!(plan.hosts[&"h".into()].order.fixes.is_empty(), "what is in use stays in memory");
}

#[test]
fn an_offer_older_than_the_fix_fixes_nothing() {
    let mut late = finding("h", "CVE-3", "nginx", &["nginx"], Some("1.22.3"));
    late.offered = false;
    let plan = World::one(policy(""), |_| {}).with(late).plan();
    assert!(plan.hosts[&"h".into()].why["nginx"].is_empty());
    let hold = Hold::FixNotOffered { finding: "CVE-3".into(), fixed_version: "1.22.3".into() };
    assert_eq!(held(&plan, "nginx"), [hold]);
}

#[test]
fn what_is_in_a_container_is_no_finding_that_an_upgrade_of_the_host_fixes() {
    let mut inside = finding("h", "CVE-3", "docker:web//nginx", &["nginx"], Some("1.22.2"));
    let expected = Hold::InRoot {
        finding: "CVE-3".into(),
        root: "docker:web".into(),
        image: "example/web:1".into(),
        fixed_version: "1.22.2".into(),
    };
    assert_eq!(
        expected.to_string(),
        "CVE-3: in container web of image example/web:1, fixed in 1.22.2: rebuild the image, and start the container \
         anew from it"
    );
    // Whatever is said of an offer.
    for offered in [false, true] {
        inside.offered = offered;
        let plan = World::one(policy(""), |h| {
            inventory(h).roots.push(crate::root::Root {
                kind: crate::root::RootKind::Docker,
                name: "web".into(),
                image: "example/web:1".into(),
                location: String::new(),
                running: true,
                os: Default::default(),
                architecture: "amd64".into(),
                packages: vec![].into(),
                gaps: vec![],
            });
        })
        .with(inside.clone())
        .plan();
        let host = &plan.hosts[&"h".into()];
        assert!(host.why["nginx"].is_empty() && host.order.fixes.is_empty());
        assert_eq!(held(&plan, "docker:web//nginx"), std::slice::from_ref(&expected));
    }
}

#[test]
fn a_held_package_is_named_where_its_fix_is_not_offered() {
    let mut late = finding("h", "CVE-3", "vim", &["vim", "vim-tiny"], Some("9"));
    late.offered = false;
    let plan =
        World::one(policy(""), |h| inventory(h).held.push("vim-tiny".into())).with(late).plan();
    let reasons = held(&plan, "vim");
    assert_eq!(reasons[0], Hold::PackageHeld { package: "vim-tiny".into() });
    assert!(matches!(reasons[1], Hold::FixNotOffered { .. }));
}

#[test]
fn a_pinned_package_is_named_with_its_pin_where_its_fix_is_not_offered() {
    let mut late = finding("h", "CVE-3", "vim", &["vim", "vim-tiny"], Some("9"));
    late.offered = false;
    let pin = ("vim-tiny".to_owned(), "Pin: version 8.*, priority 1001".to_owned());
    let pinned = |h: &mut crate::host::Host| {
        inventory(h).pinned.extend([pin.clone(), ("other".into(), "Pin: version 1".into())]);
    };
    let plan = World::one(policy(""), pinned).with(late).plan();
    let reasons = held(&plan, "vim");
    assert_eq!(reasons[0], Hold::PackagePinned { package: pin.0.clone(), pin: pin.1.clone() });
    assert!(matches!(reasons[1], Hold::FixNotOffered { .. }));
    assert_eq!(reasons.len(), 2);
}

#[test]
fn what_has_no_fix_is_in_the_report_once_for_its_source() {
    let plan = World::one(policy(""), |h| inventory(h).upgrades.clear())
        .with(finding("h", "CVE-5", "glibc", &["libc6"], None))
        .with(finding("h", "CVE-4", "glibc", &["libc6"], None))
        .plan();
    assert_eq!(held(&plan, "glibc"), [Hold::NoFix { finding: "CVE-4".into() }]);
    assert_eq!(plan.held().find(|h| h.package == "glibc").unwrap().findings, ["CVE-4", "CVE-5"]);
    assert_eq!(held(&plan, ""), [Hold::NothingToDo]);
    assert!(plan.hosts.is_empty() && plan.waves.is_empty());
}

#[test]
fn accepted_ruled_out_and_fixed_findings_are_not_owed() {
    for state in [FindingState::Accepted, FindingState::NotAffected, FindingState::Fixed] {
        let mut f = finding("h", "CVE-1", "vim", &["vim"], Some("2"));
        f.state = state;
        let plan = World::one(policy(""), |_| {}).with(f).plan();
        assert_eq!(plan.held, [], "{state:?}");
    }
}

#[test]
fn a_host_that_cannot_be_planned_for_is_held_with_every_reason() {
    let long_ago: Timestamp = at("2026-11-01T00:00:00Z");
    let bug = finding("h", "CVE-1", "vim", &["vim"], Some("2"));
    let mut world = World::one(policy(""), |h| {
        h.quarantined = quarantine();
        h.last_seen = Some(long_ago);
    })
    .with(bug);
    world.busy.insert("h".into(), crate::RolloutId::from("ro-1"));
    let plan = world.plan();
    assert_eq!(
        held(&plan, ""),
        [
            Hold::Quarantined { reason: "undo failed".into() },
            Hold::Busy { rollout: "ro-1".into() },
            Hold::HostSilent { last_seen: Some(long_ago) },
            Hold::InventoryStale { last_seen: long_ago },
        ]
    );
    assert_eq!(plan.held().next().unwrap().findings, ["CVE-1"]);
    assert!(plan.hosts.is_empty());
    let plan = World::one(policy(""), |h| {
        h.inventory = None;
        h.last_seen = None;
    })
    .plan();
    assert_eq!(held(&plan, ""), [Hold::HostSilent { last_seen: None }, Hold::NoInventory]);
    let plan = World::one(policy("[[ring]]\nname = \"x\"\nselect = \"ring=x\"\n"), |_| {}).plan();
    assert_eq!(held(&plan, ""), [Hold::NoRing]);
}

#[test]
fn what_has_no_agent_is_held_for_that_alone_and_is_no_part_of_a_budget() {
    let listed_at = at("2026-10-01T00:00:00Z");
    let budget = "[[budget]]\nname = \"all\"\nselect = \"all\"\nmax-unavailable = 1\n";
    let plan = World::one(policy(budget), |h| {
        h.last_seen = None;
        h.listed = Some(crate::host::Listed {
            at: listed_at,
            by: "alice".into(),
            of: "example/shop".into(),
            document: Digest::of(b"document"),
        });
    })
    .plan();
    assert_eq!(held(&plan, ""), [Hold::NoAgent { listed_at }]);
    assert!(plan.hosts.is_empty());
    assert!(plan.budgets.iter().all(|budget| budget.hosts.is_empty()), "{:?}", plan.budgets);
}

#[test]
fn a_silent_host_is_held_though_its_inventory_is_young_enough() {
    let seen = at("2026-11-23T11:44:59Z");
    let plan = World::one(policy(""), |h| h.last_seen = Some(seen)).plan();
    assert_eq!(held(&plan, ""), [Hold::HostSilent { last_seen: Some(seen) }]);
    let plan = World::one(policy(""), |h| h.last_seen = Some(at("2026-11-23T11:45:00Z"))).plan();
    assert_eq!(plan.hosts.len(), 1);
}

#[test]
fn hosts_of_other_policies_are_left_out_or_held_where_asked_for() {
    let mut mine = policy("");
    mine.select = crate::policy::Selector::parse("env=prod").unwrap();
    let mut world = World::new(mine, vec![host("a", &[("env", "prod")]), host("b", &[])]);
    let plan = world.plan();
    assert_eq!((plan.hosts.len(), plan.held_count()), (1, 0));
    world.only = Some(["b".into()].into());
    let plan = world.plan();
    assert!(plan.hosts.is_empty());
    assert_eq!(held(&plan, ""), [Hold::NoPolicy]);

    world.only = None;
    let mut other = world.policy.clone();
    (other.name, other.priority) = ("q".into(), 1);
    world.policies = vec![world.policy.clone(), other.clone()];
    assert!(world.plan().hosts.is_empty(), "another policy has the higher priority");
    world.policies[1].priority = 0;
    let ambiguous = Hold::PolicyAmbiguous { policies: vec!["p".into(), "q".into()] };
    assert_eq!(held(&world.plan(), ""), [ambiguous]);
    world.policies[1].priority = -1;
    assert_eq!(world.plan().hosts.len(), 1);
}

#[test]
fn due_date_emergency_and_soak_come_from_the_findings_that_are_fixed() {
    let mut bad = finding("h", "CVE-1", "nginx", &["nginx"], Some("1.22.2"));
    bad.deadline = Some(at("2026-11-25T00:00:00Z"));
    let mut worse = finding("h", "CVE-2", "glibc", &["libc6"], None);
    worse.deadline = Some(at("2026-11-24T00:00:00Z"));
    let world = |kev: bool| {
        let mut bad = bad.clone();
        let day = "2026-11-01".parse().unwrap();
        bad.ranking.kev = kev.then_some(crate::advisory::Kev {
            date_added: day,
            due_date: day,
            ransomware: false,
        });
        World::one(policy(CLASSES), |_| {}).with(bad).with(worse.clone()).plan()
    };
    let host = &world(true).hosts[&"h".into()];
    assert_eq!(host.due, Some(at("2026-11-25T00:00:00Z")));
    assert!(host.ignore_windows);
    assert!(!world(false).hosts[&"h".into()].ignore_windows);
}

#[test]
fn restarts_are_foretold_from_names_sockets_and_libraries() {
    let foretold = |change: &dyn Fn(&mut crate::inventory::Inventory), policy_text: &str| {
        let plan = World::one(policy(policy_text), |h| change(inventory(h))).plan();
        plan.hosts[&"h".into()].restarts.clone()
    };
    assert_eq!(foretold(&|_| {}, ""), ["nginx.service"]);
    let expose = |i: &mut crate::inventory::Inventory| i.exposed.push("libssl3".into());
    assert_eq!(
        foretold(&expose, ""),
        ["nginx.service", "ssh.service"],
        "either may map the library"
    );
    let ssh = |i: &mut crate::inventory::Inventory| {
        i.packages.push(package("openssh-server", "openssh", "9"));
        i.in_use = vec!["openssh-server".into()];
        i.upgrades = vec![upgrade("openssh-server", "9", "9.1")];
    };
    assert_eq!(foretold(&ssh, ""), ["ssh.service"]);
    let libc = |i: &mut crate::inventory::Inventory| {
        i.packages.push(package("libc6", "glibc", "2"));
        i.in_use = vec!["libc6".into()];
        i.upgrades = vec![upgrade("libc6", "2", "2.1")];
    };
    assert_eq!(foretold(&libc, ""), ["cron.service", "nginx.service", "ssh.service"]);
    assert_eq!(
        foretold(&libc, "[restart]\nspare = [\"ssh*\"]\n"),
        ["cron.service", "nginx.service"]
    );
    assert!(foretold(&libc, "[restart]\nnever = true\n").is_empty());
    let idle = |i: &mut crate::inventory::Inventory| i.in_use.clear();
    assert!(foretold(&idle, "").is_empty(), "nothing runs it");
}

#[test]
fn a_container_has_no_kernel_to_reboot_into() {
    let plan = World::one(policy("[reboot]\nwhen = \"needed\"\n"), |h| {
        inventory(h).kernel.from_package = false;
        inventory(h).upgrades.push(upgrade("linux-image-amd64", "6.1.119+1", "6.1.123+1"));
    })
    .plan();
    assert!(!plan.hosts[&"h".into()].reboot_likely);
}

#[test]
fn kinds_that_are_decided_about_at_once_get_what_each_gets_alone() {
    let fleet: Vec<_> = (0..100)
        .map(|n| {
            let mut h = host(&format!("h{n:03}"), &[]);
            let name = format!("p{n}");
            inventory(&mut h).packages.push(package(&name, &name, "1"));
            inventory(&mut h).upgrades.push(upgrade(&name, "1", "2"));
            inventory(&mut h).held.extend((n % 3 == 0).then(|| name.clone()));
            h
        })
        .collect();
    let together = World::new(policy(""), fleet.clone()).plan();
    assert_eq!(together.works().len(), 67, "those that hold the odd one do the same");
    for h in fleet {
        let alone = World::new(policy(""), vec![h.clone()]).plan();
        assert_eq!(together.hosts[&h.id].work, alone.hosts[&h.id].work);
        let held = |plan: &crate::plan::Plan| -> Vec<_> {
            plan.held().filter(|it| *it.host == h.id).map(|it| it.what.clone()).collect()
        };
        assert_eq!(held(&together), held(&alone));
    }
}
