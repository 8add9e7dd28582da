//! Containers, machines and chroots on a host: inventories of their own, judged by the data of their own release.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::{Finding, FindingState::*};
use fettle_core::inventory::{Inventory, Package};
use fettle_core::root::{ROOTS_GAP, Root, RootKind};
use fettle_core::{HostId, Shared};
use fettle_vuln::compact::{self, Head, Section};
use fettle_vuln::export::{Subject, cyclonedx};
use fettle_vuln::exposure::{Catalogue, FleetIndex, HostView};
use fettle_vuln::sbom;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::*;

fn root(kind: RootKind, name: &str, image: &str, packages: &[Shared<Package>]) -> Root {
    Root {
        kind,
        name: name.into(),
        image: image.into(),
        location: String::new(),
        running: kind != RootKind::Chroot,
        os: os("debian", "12", "bookworm"),
        architecture: "amd64".into(),
        packages: packages.to_vec().into(),
        gaps: vec![],
    }
}

/// A patched host with an old container and an old Alpine machine.
fn host() -> Inventory {
    let mut alpine = root(RootKind::Nspawn, "edge", "", &[package("musl", "1.2.4-r1")]);
    alpine.os = os("alpine", "3.19.1", "");
    Inventory {
        roots: vec![
            root(
                RootKind::Docker,
                "web",
                "example/web:1",
                &[built("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1")],
            ),
            alpine,
        ],
        ..with(&[built("libssl3", "3.0.15-1", "openssl", "3.0.15-1"), package("perl", "5.36-7")])
    }
}

fn vendors() -> Catalogue {
    let mut said = vec![
        advisory("bookworm", ("openssl", "CVE-2024-1", "3.0.15-1", "high")),
        advisory("bookworm", ("perl", "CVE-2024-2", "", "low")),
        advisory("alpine:3.19", ("musl", "CVE-2024-3", "1.2.4-r2", "")),
        // Of a release that nobody here has.
        advisory("trixie", ("openssl", "CVE-2024-4", "9", "")),
    ];
    said.reverse();
    catalogue_of(said)
}

fn found(findings: &[Finding]) -> Vec<(&str, &str, fettle_core::finding::FindingState)> {
    findings.iter().map(|f| (f.source.as_str(), f.id.as_str(), f.state)).collect()
}

const WEB: (&str, &str) = ("docker:web//openssl", "CVE-2024-1");

#[test]
fn what_is_in_a_root_is_judged_by_its_own_release_and_told_under_its_name() {
    let judged = judge(&vendors(), &host());
    assert_eq!(
        found(&judged.findings),
        [
            (WEB.0, WEB.1, Open),
            ("nspawn:edge//musl", "CVE-2024-3", Open),
            ("perl", "CVE-2024-2", NoFixYet),
        ]
    );
    let web = &judged.findings[0];
    assert_eq!((web.root(), web.package()), (Some("docker:web"), "openssl"));
    assert_eq!(
        (web.installed.as_str(), &web.binaries[..]),
        ("3.0.11-1", &["libssl3".to_owned()][..])
    );
    // The host's own upgrades are no offer to a container.
    assert!(!web.offered);
    assert_eq!(judged.roots.keys().collect::<Vec<_>>(), ["docker:web", "nspawn:edge"]);
    assert!(judged.roots.values().all(|c| c.warning().is_none()));
}

#[test]
fn a_patch_of_the_host_leaves_what_is_in_the_container_open() {
    let mut old = host();
    old.packages[0] = built("libssl3", "3.0.11-1", "openssl", "3.0.11-1");
    let before = judge(&vendors(), &old).findings;
    assert_eq!(found(&before)[2], ("openssl", "CVE-2024-1", Open));
    let after = judge_after(&vendors(), &host(), &before).findings;
    assert_eq!(found(&after)[0], (WEB.0, WEB.1, Open));
    assert_eq!(found(&after)[2], ("openssl", "CVE-2024-1", Fixed));
}

#[test]
fn a_rebuilt_container_is_fixed_and_so_is_one_that_is_gone() {
    let before = judge(&vendors(), &host()).findings;
    let mut rebuilt = host();
    rebuilt.roots[0].packages[0] = built("libssl3", "3.0.15-1", "openssl", "3.0.15-1");
    let after = judge_after(&vendors(), &rebuilt, &before).findings;
    assert_eq!(found(&after)[0], (WEB.0, WEB.1, Fixed));
    assert_eq!(after[0].installed, "3.0.15-1");

    let mut gone = host();
    gone.roots.remove(0);
    let after = judge_after(&vendors(), &gone, &before);
    assert_eq!(found(&after.findings)[0], (WEB.0, WEB.1, Fixed));
    assert_eq!((after.findings[0].installed.as_str(), after.withdrawn.len()), ("", 0));
}

#[test]
fn a_root_that_could_not_be_looked_for_is_not_taken_for_gone() {
    let before = judge(&vendors(), &host()).findings;
    let mut unseen = host();
    unseen.roots.clear();
    unseen.gaps.push(format!("{ROOTS_GAP}: /var/lib/docker could not be read"));
    let after = judge_after(&vendors(), &unseen, &before).findings;
    assert_eq!(found(&after), found(&before));
    // Nor is one whose packages could not be read.
    let mut unread = host();
    unread.roots[0].packages.clear();
    let after = judge_after(&vendors(), &unread, &before);
    assert_eq!(found(&after.findings), found(&before));
    assert!(after.roots["docker:web"].warning().is_some());
}

#[test]
fn processes_in_a_root_that_run_replaced_code_hold_back_the_proof() {
    let before = judge(&vendors(), &host()).findings;
    let mut upgraded = host();
    upgraded.roots[0].packages[0] = built("libssl3", "3.0.15-1", "openssl", "3.0.15-1");
    upgraded.roots[0].gaps = vec!["processes: 1 of it still runs replaced code".into()];
    let after = judge_after(&vendors(), &upgraded, &before).findings;
    assert_eq!(found(&after)[0], (WEB.0, WEB.1, PendingRestart));
    let after = judge_after(
        &vendors(),
        &{
            upgraded.roots[0].gaps.clear();
            upgraded
        },
        &after,
    );
    assert_eq!(found(&after.findings)[0], (WEB.0, WEB.1, Fixed));
}

#[test]
fn an_exception_for_a_source_holds_where_it_says_and_one_for_all_everywhere() {
    let state = |source: Option<&str>| {
        let accepted = [exception("CVE-2024-1", source)];
        judge_with(&vendors(), &host(), &[], &accepted).findings[0].state
    };
    assert_eq!(state(Some("openssl")), Open);
    assert_eq!(state(Some("docker:other//openssl")), Open);
    assert_eq!(state(Some("docker:web//openssl")), Accepted);
    assert_eq!(state(None), Accepted);
}

#[test]
fn a_root_of_a_release_without_data_says_so() {
    let mut host = host();
    host.roots[1].os = os("gentoo", "", "");
    let judged = judge(&vendors(), &host);
    assert_eq!(judged.findings.len(), 2);
    let warning = judged.roots["nspawn:edge"].warning().unwrap();
    assert!(warning.contains("no vulnerability data for gentoo"), "{warning}");
}

#[test]
fn it_is_explained_which_root_it_is_and_that_its_image_is_to_be_rebuilt() {
    let catalogue = vendors();
    let judged = judge(&catalogue, &host());
    let text = |finding: &Finding, host: &Inventory| {
        let explained = catalogue.explain(finding, host);
        let reasons =
            explained.reasons.into_iter().map(|r| format!("{}: {}", r.topic.word(), r.text));
        format!("{}\n{}", explained.headline, reasons.collect::<Vec<_>>().join("\n"))
    };
    insta::assert_snapshot!(text(&judged.findings[0], &host()), @r"
    CVE-2024-1 in openssl 3.0.11-1 is open (high), in container web of image example/web:1
    vendor: test: openssl is fixed in bookworm from 3.0.15-1 on. Its urgency: high.
    versions: libssl3: built from source package openssl 3.0.11-1; the source's version is what counts, not the binary's.
    versions: In dpkg's order 3.0.11-1 is lower than the fixed version 3.0.15-1.
    running: In container web of image example/web:1 (debian 12), not in the host's own packages. It runs; what of it is in use was not looked at.
    ranking: No CVSS score at hand: taken as medium unless the vendor or KEV says otherwise.
    remedy: No plan of the host reaches into it: rebuild the image, and start the container anew from it, with openssl 3.0.15-1 or newer.
    ");
    let machine = text(&judged.findings[1], &host());
    assert!(machine.contains("is open (medium), in machine edge\n"), "{machine}");
    assert!(machine.ends_with(
        "upgrade it from the inside, with its own package manager, with musl 1.2.4-r2 or newer."
    ));
    let mut gone = host();
    gone.roots.clear();
    insta::assert_snapshot!(text(&judged.findings[0], &gone), @r"
    CVE-2024-1 in openssl 3.0.11-1 is open (high), in container web
    running: There is no container web on the host any more.
    ranking: No CVSS score at hand: taken as medium unless the vendor or KEV says otherwise.
    ");
}

#[test]
fn the_compact_file_judges_roots_as_the_catalogue_it_was_made_of() {
    let catalogue = vendors();
    let file = catalogue.compact("");
    let head = Head::parse(&file).unwrap();
    let before = judge(&catalogue, &host()).findings;
    let mut changed = host();
    changed.roots.remove(0);
    changed.roots[0].packages[0] = package("musl", "1.2.4-r2");
    for (inventory, previous) in [(host(), &[][..]), (host(), &before), (changed, &before)] {
        let (id, none) = (HostId::new("h1"), BTreeMap::new());
        let view = HostView {
            host: &id,
            inventory: &inventory,
            previous,
            ran_before: &none,
            accepted: &[],
        };
        let releases = compact::releases(&view);
        let sections: Vec<(&str, Section<'_>)> = releases
            .iter()
            .filter_map(|release| head.releases.get_key_value(release))
            .map(|(name, at)| {
                let bytes = &file[at.offset as usize..(at.offset + at.length) as usize];
                (name.as_str(), Section::open(bytes).unwrap())
            })
            .collect();
        assert!(sections.iter().all(|(name, _)| *name != "trixie"));
        let (by_file, part) = compact::judge(&sections, &head, vec![], &view).unwrap();
        assert_eq!(by_file, catalogue.judge(&view));
        for finding in &by_file.findings {
            assert_eq!(part.explain(finding, &inventory), catalogue.explain(finding, &inventory));
        }
    }
}

#[test]
fn the_fleet_counts_a_host_once_however_many_of_its_roots_have_it() {
    let mut fleet = FleetIndex::new(Arc::new(vendors()));
    let none = BTreeMap::new();
    let set = |fleet: &mut FleetIndex, id: &str, inventory: &Inventory| {
        let host = HostId::new(id);
        let view =
            HostView { host: &host, inventory, previous: &[], ran_before: &none, accepted: &[] };
        fleet.set_host(&view)
    };
    let mut old = host();
    old.packages[0] = built("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1");
    old.roots.push(root(RootKind::Docker, "b", "", &old.roots[0].packages.clone()));
    let change = set(&mut fleet, "a", &old);
    assert_eq!(change.deltas.len(), 5);
    assert_eq!(change.roots.len(), 3);
    set(&mut fleet, "b", &with(&[package("perl", "5.36-7")]));
    assert_eq!((fleet.host_count(), fleet.who_has("CVE-2024-1").len()), (2, 1));
    assert_eq!(fleet.findings_about("CVE-2024-1").len(), 3);
    let worst = fleet.worst(10);
    let openssl = worst.iter().find(|w| w.id == "CVE-2024-1").unwrap();
    assert_eq!((openssl.hosts, openssl.example.as_str()), (1, "a"));

    // The host is patched: only its own goes.
    let change = set(&mut fleet, "a", &Inventory { packages: host().packages, ..old.clone() });
    assert_eq!(change.deltas.len(), 1);
    assert_eq!((&*change.deltas[0].source, change.deltas[0].after), ("openssl", Some(Fixed)));
    assert_eq!(fleet.who_has("CVE-2024-1").len(), 1);
    // A container goes, the other stays.
    let mut less = Inventory { packages: host().packages, ..old };
    less.roots.retain(|root| root.name != "web");
    let change = set(&mut fleet, "a", &less);
    assert_eq!(change.deltas.len(), 1);
    assert_eq!((&*change.deltas[0].source, change.deltas[0].after), (WEB.0, Some(Fixed)));
    less.roots.clear();
    set(&mut fleet, "a", &less);
    assert_eq!(fleet.who_has("CVE-2024-1").len(), 0);
    assert_eq!(fleet.remove_host(&"a".into()).unwrap().len(), 5);
    assert_eq!(fleet.totals().iter().map(|(_, _, n)| n).sum::<u64>(), 1);
}

#[test]
fn a_bill_of_materials_holds_the_roots_and_is_read_back_so() {
    let host = host();
    let judged = judge(&vendors(), &host);
    let findings: Vec<_> = judged.findings.into_iter().map(|f| (f, vec![])).collect();
    let document = cyclonedx(&Subject {
        name: "h1",
        inventory: &host,
        findings: &findings,
        read_from: None,
        at: "2026-01-01T00:00:00Z".parse().unwrap(),
        tool: "t",
        version: "1",
    });
    let affected = |id: &str| {
        let all = document["vulnerabilities"].as_array().unwrap();
        let it = all.iter().find(|v| v["id"] == id).unwrap();
        it["affects"][0]["ref"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        affected("CVE-2024-1"),
        "docker:web#pkg:deb/debian/libssl3@3.0.11-1%2Bb1?arch=amd64&distro=debian-12"
    );
    // Each reference is some component's.
    fn references(component: &serde_json::Value, all: &mut Vec<String>) {
        all.extend(component["bom-ref"].as_str().map(str::to_owned));
        for below in component["components"].as_array().into_iter().flatten() {
            references(below, all);
        }
    }
    let mut all = Vec::new();
    references(&document, &mut all);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "references are unique");
    for id in ["CVE-2024-1", "CVE-2024-2", "CVE-2024-3"] {
        assert!(all.contains(&affected(id)), "{id}");
    }
    let read = sbom::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!(read.packages.len(), 2, "the host's own");
    let mut expected = host.roots.clone();
    for root in &mut expected {
        root.os.pretty = format!("{} {}", root.os.id, root.os.version);
    }
    assert_eq!(read.roots, expected);
}
