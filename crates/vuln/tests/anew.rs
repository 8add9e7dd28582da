//! What is to be judged anew when the vendors' data is another. That it comes to the same as judging everything is shown by
//! the property in `fleet.rs`.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::HostId;
use fettle_core::advisory::Advisory;
use fettle_core::inventory::Inventory;
use fettle_core::root::{Root, RootKind};
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Changed, FleetIndex, HostView};
use fettle_vuln::feed::epss::EpssScore;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::*;

/// Of bookworm, then of trixie: source, vulnerability, status, urgency.
type Said<'s> = (&'s str, &'s str, &'s str, &'s str);

const BOOKWORM: [Said<'_>; 3] = [
    ("openssl", "CVE-1", "2-1", "high"),
    ("openssl", "CVE-2", "", "low"),
    ("nginx", "CVE-2", "3-1", "low"),
];
const TRIXIE: [Said<'_>; 1] = [("openssl", "CVE-1", "2-1", "high")];

fn input(bookworm: &[Said<'_>], trixie: &[Said<'_>]) -> CatalogueInput {
    let of = |release: &'static str| move |said: &Said<'_>| advisory(release, *said);
    let advisories: Vec<Advisory> =
        bookworm.iter().map(of("bookworm")).chain(trixie.iter().map(of("trixie"))).collect();
    CatalogueInput { advisories, ..CatalogueInput::default() }
}

fn before() -> Catalogue {
    Catalogue::build(input(&BOOKWORM, &TRIXIE))
}

fn host(codename: &str) -> Inventory {
    Inventory {
        os: os("debian", "x", codename),
        ..with(&[package("nginx", "1-1"), package("openssl", "1-1")])
    }
}

/// An index with a host that has reported this.
fn index(inventory: &Inventory) -> (FleetIndex, HostId) {
    let (mut index, host) = (FleetIndex::new(Arc::new(before())), HostId::new("h"));
    let (previous, accepted) = (&[], &[]);
    let ran_before = &BTreeMap::new();
    index.set_host(&HostView { host: &host, inventory, previous, ran_before, accepted });
    (index, host)
}

fn concerns(changed: &Changed, inventory: &Inventory) -> Vec<&'static str> {
    let (index, host) = index(inventory);
    let concern = index.concern_of(&host, changed).unwrap();
    ["nginx", "openssl", "curl"].into_iter().filter(|source| concern.has(source)).collect()
}

#[test]
fn a_feed_that_says_the_same_again_concerns_nobody() {
    let mut again = BOOKWORM;
    again.reverse();
    let again = Catalogue::build(input(&again, &TRIXIE));
    assert!(again.changed_since(&before()).unwrap().is_empty());
}

#[test]
fn another_word_on_a_package_concerns_that_package_on_hosts_of_that_release() {
    for (place, other) in [
        (1, ("openssl", "CVE-2", "4-1", "low")),
        (1, ("openssl", "CVE-2", "", "high")),
        (1, ("openssl", "CVE-3", "", "low")),
    ] {
        let mut said = BOOKWORM;
        said[place] = other;
        let changed = Catalogue::build(input(&said, &TRIXIE)).changed_since(&before()).unwrap();
        assert_eq!(concerns(&changed, &host("bookworm")), ["openssl"], "{other:?}");
        assert_eq!(concerns(&changed, &host("trixie")), [""; 0], "{other:?}");
    }
    // One package less is told of, and one more.
    for said in [&BOOKWORM[..2], &[&BOOKWORM[..], &[("curl", "CVE-9", "", "")]].concat()] {
        let changed = Catalogue::build(input(said, &TRIXIE)).changed_since(&before()).unwrap();
        let expected = if said.len() == 2 { "nginx" } else { "curl" };
        assert_eq!(concerns(&changed, &host("bookworm")), [expected]);
    }
}

#[test]
fn a_score_of_a_vulnerability_concerns_every_package_that_has_it() {
    let epss = EpssScore { id: "CVE-2".into(), probability: 0.5, percentile: 0.9 };
    let scored = CatalogueInput { epss: vec![epss], ..input(&BOOKWORM, &TRIXIE) };
    let changed = Catalogue::build(scored).changed_since(&before()).unwrap();
    assert_eq!(concerns(&changed, &host("bookworm")), ["nginx", "openssl"]);
    assert_eq!(concerns(&changed, &host("trixie")), [""; 0]);
}

#[test]
fn a_release_that_is_covered_now_or_no_more_concerns_everything() {
    let less = Catalogue::build(input(&BOOKWORM, &[]));
    assert_eq!(less.changed_since(&before()), None);
    assert_eq!(before().changed_since(&less), None);
}

#[test]
fn a_container_is_concerned_by_what_is_said_of_its_own_release() {
    let mut host = host("bookworm");
    host.roots.push(Root {
        kind: RootKind::Docker,
        name: "web".into(),
        image: String::new(),
        location: String::new(),
        running: true,
        os: os("debian", "x", "trixie"),
        architecture: "amd64".into(),
        packages: vec![package("openssl", "1-1")].into(),
        gaps: vec![],
    });
    let changed = Catalogue::build(input(&BOOKWORM, &[("openssl", "CVE-1", "9-1", "high")]))
        .changed_since(&before())
        .unwrap();
    let (index, id) = index(&host);
    let concern = index.concern_of(&id, &changed).unwrap();
    let of_root = fettle_core::root::subject(&host.roots[0].id(), "openssl");
    assert!(concern.has(&of_root) && !concern.has("openssl"));
    // What was found in one that is gone stays as it was.
    let gone = fettle_core::root::subject("docker:gone", "openssl");
    assert!(!concern.has(&gone));
}
