//! The fleet index against the judge of single hosts: the same findings, whatever happened in whatever order.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

#[path = "fleet/happens.rs"]
mod happens;
mod support;

use fettle_core::HostId;
use fettle_core::finding::{FindingState::*, Severity};
use fettle_core::inventory::Inventory;
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Exception, FindingDelta, FleetIndex, HostChange, HostView, Totals,
};
use fettle_vuln::feed::cvss::CvssScore;
use fettle_vuln::feed::epss::EpssScore;
use fettle_vuln::feed::kev::KevEntry;
use happens::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::*;

fn set(
    fleet: &mut FleetIndex,
    host: &str,
    inventory: &Inventory,
    accepted: &[Exception],
) -> HostChange {
    let host = HostId::new(host);
    fleet.set_host(&HostView {
        host: &host,
        inventory,
        previous: &[],
        ran_before: &BTreeMap::new(),
        accepted,
    })
}

fn fleet(statements: &[(&str, &str, &str, &str)]) -> FleetIndex {
    FleetIndex::new(Arc::new(catalogue(statements)))
}

fn delta(
    id: &str,
    source: &str,
    before: Option<fettle_core::finding::FindingState>,
    after: Option<fettle_core::finding::FindingState>,
) -> FindingDelta {
    FindingDelta { id: id.into(), source: source.into(), before, after }
}

fn hosts_with(fleet: &FleetIndex, id: &str) -> Vec<String> {
    let mut names: Vec<String> =
        fleet.who_has(id).iter().map(|slot| fleet.host_at(slot).unwrap().to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_host_that_is_patched_restarted_and_removed_gives_each_delta_once() {
    let mut fleet = fleet(&[
        ("openssl", "CVE-1", "2-1", ""),
        ("openssl", "CVE-2", "", ""),
        ("zlib", "CVE-3", "", ""),
    ]);
    let ssl = |v: &str| built("libssl3", v, "openssl", v);
    let old = with(&[ssl("1-1"), package("zlib", "1-1")]);
    assert_eq!(
        set(&mut fleet, "a", &old, &[]).deltas,
        [
            delta("CVE-1", "openssl", None, Some(Open)),
            delta("CVE-2", "openssl", None, Some(NoFixYet)),
            delta("CVE-3", "zlib", None, Some(NoFixYet))
        ]
    );
    assert_eq!(set(&mut fleet, "a", &old, &[]).deltas, []);

    let mut new = with(&[ssl("2-1"), package("zlib", "1-1")]);
    new.stale = vec![stale("nginx", "libssl3")];
    assert_eq!(
        set(&mut fleet, "a", &new, &[]).deltas,
        [delta("CVE-1", "openssl", Some(Open), Some(PendingRestart))]
    );
    assert_eq!(hosts_with(&fleet, "CVE-1"), ["a"]);
    new.stale.clear();
    assert_eq!(
        set(&mut fleet, "a", &new, &[]).deltas,
        [delta("CVE-1", "openssl", Some(PendingRestart), Some(Fixed))]
    );
    assert_eq!(hosts_with(&fleet, "CVE-1"), [""; 0]);
    assert_eq!((fleet.totals().in_state(Fixed), fleet.totals().in_state(NoFixYet)), (1, 2));
    assert_eq!(fleet.findings_about("CVE-1").iter().map(|f| f.state).collect::<Vec<_>>(), [Fixed]);

    let gone = fleet.remove_host(&"a".into()).unwrap();
    assert_eq!((gone.len(), gone.iter().all(|d| d.after.is_none())), (3, true));
    assert_eq!(
        (fleet.host_count(), fleet.subject_count(), fleet.totals()),
        (0, 0, &Totals::default())
    );
    assert_eq!((fleet.remove_host(&"a".into()), fleet.findings_of(&"a".into())), (None, None));
}

#[test]
fn equal_packages_on_many_hosts_are_judged_once() {
    let mut fleet = fleet(&[("p", "CVE-1", "2-1", "")]);
    for i in 0..1000 {
        set(
            &mut fleet,
            &format!("h{i}"),
            &with(&[package("p", "1-1"), package("q", &format!("{}-1", i % 10))]),
            &[],
        );
    }
    assert_eq!((fleet.host_count(), fleet.subject_count()), (1000, 1 + 10));
    assert_eq!(
        (fleet.who_has("CVE-1").len(), fleet.totals().of(Severity::Medium, Open)),
        (1000, 1000)
    );
}

#[test]
fn a_fleet_that_is_rebuilt_from_the_store_reports_only_what_changed_meanwhile() {
    let mut fleet = fleet(&[("p", "CVE-1", "2-1", ""), ("p", "CVE-2", "", "")]);
    set(&mut fleet, "a", &with(&[package("p", "1-1")]), &[]);
    let stored = fleet.findings_of(&"a".into()).unwrap();
    let mut again = FleetIndex::new(fleet.catalogue().clone());
    let patched = with(&[package("p", "2-1")]);
    let host = HostId::new("a");
    let view = HostView {
        host: &host,
        inventory: &patched,
        previous: &stored,
        ran_before: &BTreeMap::new(),
        accepted: &[],
    };
    assert_eq!(again.set_host(&view).deltas, [delta("CVE-1", "p", Some(Open), Some(Fixed))]);
    assert_eq!(again.totals().in_state(Fixed), 1);
}

#[test]
fn the_worst_come_first_and_an_accepted_one_only_counts_where_it_is_not_accepted() {
    let ids = ["CVE-kev", "CVE-likely", "CVE-plain"];
    let input = CatalogueInput {
        advisories: ids.iter().map(|id| advisory("bookworm", ("p", id, "2-1", ""))).collect(),
        kev: vec![KevEntry {
            id: "CVE-kev".into(),
            kev: fettle_core::advisory::Kev {
                date_added: "2026-01-01".parse().unwrap(),
                due_date: "2026-01-22".parse().unwrap(),
                ransomware: false,
            },
        }],
        epss: vec![EpssScore { id: "CVE-likely".into(), probability: 0.5, percentile: 0.9 }],
        ..CatalogueInput::default()
    };
    let mut fleet = FleetIndex::new(Arc::new(Catalogue::build(input)));
    let mut host = with(&[package("p", "1-1")]);
    set(&mut fleet, "a", &host, &[]);
    host.in_use = vec!["p".into()];
    host.upgrades = vec![upgrade("p", "1-1", "2-1", "2-1")];
    set(&mut fleet, "b", &host, &[exception("CVE-kev", None)]);
    let worst = fleet.worst(10);
    assert_eq!(worst.iter().map(|w| w.id.as_str()).collect::<Vec<_>>(), ids);
    assert_eq!(
        worst.iter().map(|w| (w.hosts, w.in_use, w.fixable_now)).collect::<Vec<_>>(),
        [(1, 0, 0), (2, 1, 1), (2, 1, 1)]
    );
    assert_eq!((worst[0].example.as_str(), worst[1].example.as_str()), ("a", "b"));
    assert_eq!(fleet.worst(1).len(), 1);
    let deltas = fleet.set_exceptions(&"a".into(), vec![exception("CVE-kev", Some("p"))]).unwrap();
    assert_eq!(deltas, [delta("CVE-kev", "p", Some(Open), Some(Accepted))]);
    assert_eq!(fleet.worst(10).len(), 2);
    assert_eq!(
        (hosts_with(&fleet, "CVE-kev").len(), fleet.totals().of(Severity::Critical, Accepted)),
        (2, 2)
    );
}

#[test]
fn that_something_critical_is_exploited_now_counts_though_no_finding_changes_its_state() {
    let score = || CvssScore {
        id: "CVE-1".into(),
        version: 31,
        vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H".into(),
        score: 9.8,
        computed: 9.8,
        issuer: "cna".into(),
    };
    let entry = || KevEntry {
        id: "CVE-1".into(),
        kev: fettle_core::advisory::Kev {
            date_added: "2026-01-01".parse().unwrap(),
            due_date: "2026-01-22".parse().unwrap(),
            ransomware: false,
        },
    };
    let catalogue = |exploited: bool| {
        Arc::new(Catalogue::build(CatalogueInput {
            advisories: vec![advisory("bookworm", ("p", "CVE-1", "2-1", ""))],
            cvss: vec![score()],
            kev: exploited.then(entry).into_iter().collect(),
            ..CatalogueInput::default()
        }))
    };
    let mut fleet = FleetIndex::new(catalogue(false));
    set(&mut fleet, "a", &with(&[package("p", "1-1")]), &[]);
    let risk = |fleet: &FleetIndex| fleet.riskiest(1)[0].1;
    assert_eq!((risk(&fleet).critical, risk(&fleet).exploited), (1, 0));
    let (changes, withdrawn) = fleet.replace_catalogue(catalogue(true));
    assert_eq!((changes.len(), withdrawn.len()), (0, 0));
    assert_eq!((risk(&fleet).critical, risk(&fleet).exploited), (1, 1));
}

#[test]
fn a_new_catalogue_gives_one_change_for_all_hosts_it_changes_alike() {
    let mut fleet = fleet(&[("p", "CVE-1", "2-1", ""), ("q", "CVE-2", "", "")]);
    for host in ["a", "b", "c"] {
        set(&mut fleet, host, &with(&[package("p", "1-1"), package("q", "1-1")]), &[]);
    }
    set(&mut fleet, "d", &with(&[package("q", "1-1")]), &[]);
    let (changes, withdrawn) = fleet.replace_catalogue(Arc::new(catalogue(&[
        ("p", "CVE-1", "2-1", ""),
        ("p", "CVE-3", "", ""),
        ("q", "CVE-2", "2-1", ""),
    ])));
    let told: Vec<_> = changes.iter().map(|c| (c.delta.clone(), c.hosts.len())).collect();
    assert_eq!(
        told,
        [
            (delta("CVE-3", "p", None, Some(NoFixYet)), 3),
            (delta("CVE-2", "q", Some(NoFixYet), Some(Open)), 4)
        ]
    );
    assert_eq!(withdrawn, []);
    let (changes, withdrawn) = fleet.replace_catalogue(Arc::new(catalogue(&[
        ("p", "CVE-1", "2-1", ""),
        ("q", "CVE-2", "2-1", ""),
    ])));
    assert_eq!(
        changes.iter().map(|c| (c.delta.clone(), c.hosts.len())).collect::<Vec<_>>(),
        [(delta("CVE-3", "p", Some(NoFixYet), None), 3)]
    );
    assert_eq!(withdrawn.iter().map(|w| w.hosts.len()).collect::<Vec<_>>(), [3]);
    assert_eq!(fleet.totals().in_state(Open), 7);
}

#[test]
fn a_release_that_gets_its_data_later_is_judged_then() {
    let mut fleet = fleet(&[("p", "CVE-1", "", "")]);
    let host = Inventory { os: os("debian", "13", "trixie"), ..with(&[package("p", "1-1")]) };
    assert!(set(&mut fleet, "a", &host, &[]).coverage.warning().is_some());
    let advisories = vec![advisory("trixie", ("p", "CVE-1", "", ""))];
    let (changes, _) = fleet.replace_catalogue(Arc::new(Catalogue::build(CatalogueInput {
        advisories,
        ..CatalogueInput::default()
    })));
    assert_eq!((changes.len(), &changes[0].delta), (1, &delta("CVE-1", "p", None, Some(NoFixYet))));
    assert_eq!(fleet.coverage_of(&"a".into()).unwrap().warning(), None);
}

#[test]
fn what_a_new_catalogue_puts_before_in_between_and_after_leaves_the_rest_where_it_is() {
    let said = [("b", "CVE-1", "2-1", ""), ("d", "CVE-2", "", ""), ("d", "CVE-4", "2-1", "")];
    let host = with(&["a", "b", "c", "d", "e"].map(|name| package(name, "1-1")));
    let mut fleet = fleet(&said);
    set(&mut fleet, "h", &host, &[]);
    // More of another source, of a new one, of one that goes again, and of the very source: first, last and in between.
    let turns: [&[(&str, &str, &str, &str)]; 6] = [
        &[("a", "CVE-9", "", "")],
        &[("c", "CVE-8", "2-1", ""), ("c", "CVE-9", "", "")],
        &[("d", "CVE-3", "2-1", "")],
        &[("d", "CVE-1", "", ""), ("e", "CVE-7", "", "")],
        &[("d", "CVE-5", "1-0", "")],
        &[],
    ];
    for more in turns {
        let new = catalogue(&[&said[..], more].concat());
        fleet.replace_catalogue(Arc::new(new.clone()));
        let mut alone = FleetIndex::new(Arc::new(new));
        set(&mut alone, "h", &host, &[]);
        assert_eq!(fleet.findings_of(&"h".into()), alone.findings_of(&"h".into()), "{more:?}");
        assert_eq!(fleet.totals(), alone.totals());
        for id in 1..10 {
            let id = format!("CVE-{id}");
            assert_eq!(hosts_with(&fleet, &id), hosts_with(&alone, &id), "{id} with {more:?}");
        }
    }
}

/// How many cases each property is tried with: more where `PROPTEST_CASES` says so.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(400))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_happens_the_index_says_what_judging_each_host_alone_says(
        first in feed(),
        events in prop::collection::vec(event(), 1..20),
    ) {
        happens(first, events)?;
    }

    #[test]
    fn whatever_happens_in_containers_the_index_says_what_judging_each_host_alone_says(
        first in feed(),
        events in prop::collection::vec(
            prop_oneof![6 => report_with_roots(), 4 => other_event()],
            1..12,
        ),
    ) {
        happens(first, events)?;
    }
}
