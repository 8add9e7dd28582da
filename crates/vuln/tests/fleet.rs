//! The fleet index against the judge of single hosts: the same findings, whatever happened in whatever order.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState::*, Severity};
use fettle_core::inventory::{Inventory, Kernel};
use fettle_core::root::{Root, RootKind};
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Exception, FindingDelta, FleetIndex, HostChange, HostView, Risk,
    Totals, Verdict, Withdrawn,
};
use fettle_vuln::feed::epss::EpssScore;
use fettle_vuln::feed::kev::KevEntry;
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
    assert_eq!(withdrawn.len(), 3);
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

/// What one host's history gives when each report is judged alone, with the findings of the one before.
#[derive(Default, Clone)]
struct Alone {
    inventory: Option<Inventory>,
    accepted: Vec<Exception>,
    findings: Vec<Finding>,
}

impl Alone {
    fn judge(&mut self, host: &HostId, catalogue: &Catalogue) -> Vec<Withdrawn> {
        let Some(inventory) = &self.inventory else { return vec![] };
        let view = HostView {
            host,
            inventory,
            previous: &self.findings,
            ran_before: &BTreeMap::new(),
            accepted: &self.accepted,
        };
        let judgement = catalogue.judge(&view);
        self.findings = judgement.findings;
        judgement.withdrawn
    }
}

impl Alone {
    /// The index remembers which release a root had that is not listed any more, and tells what was found there in the
    /// vendor's words of today; a judge of single reports can only repeat the words of then.
    fn words_of_today(&mut self, told: &[Finding]) {
        let listed: Vec<String> =
            self.inventory.iter().flat_map(|i| &i.roots).map(Root::id).collect();
        let left = |f: &&mut Finding| f.root().is_some_and(|r| !listed.iter().any(|l| l == r));
        for finding in self.findings.iter_mut().filter(left) {
            let same = |f: &&Finding| (&f.source, &f.id) == (&finding.source, &finding.id);
            if let Some(told) = told.iter().find(same) {
                finding.urgency.clone_from(&told.urgency);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Report(usize, Inventory, Vec<Exception>),
    Exceptions(usize, Vec<Exception>),
    Remove(usize),
    Feed(Vec<(usize, usize, usize, bool)>),
}

const SOURCES: [&str; 3] = ["p", "q", "linux"];
const VERSIONS: [&str; 4] = ["1-1", "1-2", "2-1", "3-1"];
const STATUSES: [&str; 7] = ["0", "?", "", "1-2", "2-1", "3-1", "^2-1"];
const IDS: [&str; 4] = ["CVE-1", "CVE-2", "CVE-3", "CVE-4"];

fn inventory() -> impl Strategy<Value = Inventory> {
    let versions = prop::collection::vec(prop::option::of(0..VERSIONS.len()), 6);
    (
        versions,
        any::<[bool; 8]>(),
        prop::option::of(0..VERSIONS.len()),
        prop::sample::select(vec!["bookworm", "bookworm", "bookworm", "trixie"]),
    )
        .prop_map(|(versions, flags, offered, codename)| {
            let mut packages = Vec::new();
            for (i, version) in versions.iter().enumerate() {
                let Some(version) = version.map(|v| VERSIONS[v]) else { continue };
                let (name, source) = [
                    ("p", "p"),
                    ("libp", "p"),
                    ("q", "q"),
                    ("linux-libc-dev", "linux"),
                    ("linux-image-a", "linux"),
                    ("linux-image-b", "linux"),
                ][i];
                packages.push(built(name, version, source, version));
            }
            let mut host = Inventory { os: os("debian", "x", codename), ..with(&packages) };
            let named = |flag: bool, name: &str| if flag { vec![name.to_owned()] } else { vec![] };
            host.in_use = named(flags[0], "p");
            host.exposed = named(flags[0] && flags[1], "p");
            host.stale = if flags[2] { vec![stale("x", "libp")] } else { vec![] };
            host.gaps = named(flags[3] && flags[4], "processes: not readable");
            if flags[7] && !flags[3] && !flags[2] {
                host.packages.clear();
                host.gaps = vec!["installed packages: not readable".into()];
            }
            host.kernel = Kernel {
                running: if flags[5] { "a" } else { "b" }.into(),
                from_package: flags[6],
                ..Kernel::default()
            };
            if let Some(offered) = offered {
                host.upgrades = vec![upgrade("p", "1-1", VERSIONS[offered], VERSIONS[offered])];
            }
            host
        })
}

fn exceptions() -> impl Strategy<Value = Vec<Exception>> {
    let one = (0..IDS.len(), prop::option::of(0..SOURCES.len()), any::<bool>());
    prop::collection::vec(one, 0..3).prop_map(|list| {
        list.into_iter()
            .map(|(id, source, ruled_out)| Exception {
                verdict: if ruled_out { Verdict::NotAffected } else { Verdict::Accepted },
                ..exception(IDS[id], source.map(|s| SOURCES[s]))
            })
            .collect()
    })
}

fn statements() -> impl Strategy<Value = Vec<(usize, usize, usize, bool)>> {
    prop::collection::vec((0..SOURCES.len(), 0..IDS.len(), 0..STATUSES.len(), any::<bool>()), 0..10)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3usize, inventory(), exceptions()).prop_map(|(h, i, e)| Event::Report(h, i, e)),
        1 => (0..3usize, exceptions()).prop_map(|(h, e)| Event::Exceptions(h, e)),
        1 => (0..3usize).prop_map(Event::Remove),
        2 => statements().prop_map(Event::Feed),
    ]
}

fn built_from(statements: &[(usize, usize, usize, bool)]) -> Arc<Catalogue> {
    let advisories = statements
        .iter()
        .map(|&(source, id, status, trixie)| {
            let urgency = ["", "low", "unimportant"][id % 3];
            advisory(
                if trixie { "trixie" } else { "bookworm" },
                (SOURCES[source], IDS[id], STATUSES[status], urgency),
            )
        })
        .collect();
    Arc::new(Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() }))
}

fn apply(
    states: &mut BTreeMap<(String, String), fettle_core::finding::FindingState>,
    deltas: &[FindingDelta],
) {
    for d in deltas {
        let key = (d.source.clone(), d.id.clone());
        assert_eq!(states.get(&key).copied(), d.before, "{d:?}");
        match d.after {
            Some(state) => states.insert(key, state),
            None => states.remove(&key),
        };
    }
}

/// The risk of a host by its findings.
fn risk(findings: &[Finding]) -> Risk {
    let mut risk = Risk::default();
    for f in findings.iter().filter(|f| f.state.is_vulnerable() && f.state != Accepted) {
        risk.exploited += u32::from(f.ranking.kev.is_some());
        risk.exposed += u32::from(f.exposed && f.severity() >= Severity::High);
        *match f.severity() {
            Severity::Critical => &mut risk.critical,
            Severity::High => &mut risk.high,
            Severity::Medium => &mut risk.medium,
            Severity::Low | Severity::Negligible => &mut risk.low,
        } += 1;
    }
    risk
}

/// Lets all of it happen, and compares after each event.
fn happens(first: &[(usize, usize, usize, bool)], events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut catalogue = built_from(first);
    let mut fleet = FleetIndex::new(catalogue.clone());
    let names: Vec<HostId> = ["a", "b", "c"].map(HostId::new).to_vec();
    let mut alone = vec![Alone::default(); 3];
    let mut followed = vec![BTreeMap::new(); 3];
    for event in events {
        match event {
            Event::Report(h, inventory, accepted) => {
                let change = set(&mut fleet, names[h].as_str(), &inventory, &accepted);
                alone[h].inventory = Some(inventory);
                alone[h].accepted = accepted;
                let withdrawn = alone[h].judge(&names[h], &catalogue);
                prop_assert_eq!(&change.withdrawn, &withdrawn);
                apply(&mut followed[h], &change.deltas);
            }
            Event::Exceptions(h, accepted) => {
                if let Some(deltas) = fleet.set_exceptions(&names[h], accepted.clone()) {
                    alone[h].accepted = accepted;
                    alone[h].judge(&names[h], &catalogue);
                    apply(&mut followed[h], &deltas);
                }
            }
            Event::Remove(h) => {
                if let Some(deltas) = fleet.remove_host(&names[h]) {
                    apply(&mut followed[h], &deltas);
                }
                alone[h] = Alone::default();
            }
            Event::Feed(statements) => {
                catalogue = built_from(&statements);
                let (changes, mut withdrawn) = fleet.replace_catalogue(catalogue.clone());
                let mut expected = Vec::new();
                for (h, name) in names.iter().enumerate() {
                    expected.extend(
                        alone[h].judge(name, &catalogue).into_iter().map(|w| (name.clone(), w)),
                    );
                }
                for list in [&mut withdrawn, &mut expected] {
                    list.sort_by(|a, b| {
                        (&a.0, &a.1.source, &a.1.id).cmp(&(&b.0, &b.1.source, &b.1.id))
                    });
                }
                prop_assert_eq!(withdrawn, expected);
                for change in &changes {
                    for slot in &change.hosts {
                        let h = names.iter().position(|n| Some(n) == fleet.host_at(slot)).unwrap();
                        apply(&mut followed[h], std::slice::from_ref(&change.delta));
                    }
                }
            }
        }
        let mut totals = BTreeMap::new();
        for (h, name) in names.iter().enumerate() {
            let findings = fleet.findings_of(name).unwrap_or_default();
            alone[h].words_of_today(&findings);
            prop_assert_eq!(&findings, &alone[h].findings);
            let states: BTreeMap<_, _> =
                findings.iter().map(|f| ((f.source.clone(), f.id.clone()), f.state)).collect();
            prop_assert_eq!(&states, &followed[h], "deltas do not add up");
            for f in &findings {
                *totals.entry((f.severity(), f.state)).or_insert(0u64) += 1;
            }
        }
        let counted: BTreeMap<_, _> =
            fleet.totals().iter().map(|(severity, state, n)| ((severity, state), n)).collect();
        prop_assert_eq!(counted, totals);
        let by_risk: BTreeMap<HostId, Risk> = fleet.riskiest(3).into_iter().collect();
        for (h, name) in names.iter().enumerate() {
            let expected = risk(&alone[h].findings);
            prop_assert_eq!(by_risk.get(name).copied().unwrap_or_default(), expected);
        }
        for id in IDS {
            let has = |a: &Alone| a.findings.iter().any(|f| f.id == id && f.state.is_vulnerable());
            let expected: Vec<String> =
                (0..3).filter(|&h| has(&alone[h])).map(|h| names[h].to_string()).collect();
            prop_assert_eq!(hosts_with(&fleet, id), expected);
            let mut about: Vec<Finding> =
                alone.iter().flat_map(|a| &a.findings).filter(|f| f.id == id).cloned().collect();
            about.sort_by(|a, b| (&a.host, &a.source).cmp(&(&b.host, &b.source)));
            prop_assert_eq!(fleet.findings_about(id), about);
        }
    }
    Ok(())
}

/// A report of a host with containers on it: one of its own release, one of another.
fn report_with_roots() -> impl Strategy<Value = Event> {
    let root = || prop::option::weighted(0.6, (0..VERSIONS.len(), any::<bool>()));
    (0..3usize, inventory(), exceptions(), root(), root(), 0..8u8).prop_map(
        |(h, mut host, accepted, web, db, gap)| {
            for (name, root) in [("db", db), ("web", web)] {
                let Some((version, trixie)) = root else { continue };
                let version = VERSIONS[version];
                host.roots.push(Root {
                    kind: RootKind::Docker,
                    name: name.into(),
                    image: String::new(),
                    location: String::new(),
                    running: true,
                    os: os("debian", "x", if trixie { "trixie" } else { "bookworm" }),
                    architecture: "amd64".into(),
                    packages: vec![
                        built("p", version, "p", version),
                        built("q", "1-2", "q", "1-2"),
                    ],
                    gaps: if gap == 1 { vec!["processes: 1 of 1".into()] } else { vec![] },
                });
            }
            if gap == 0 {
                host.gaps.push("other roots: not all".into());
            }
            Event::Report(h, host, accepted)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_index_says_what_judging_each_host_alone_says(
        first in statements(),
        events in prop::collection::vec(event(), 1..20),
    ) {
        happens(&first, events)?;
    }

    #[test]
    fn whatever_happens_in_containers_the_index_says_what_judging_each_host_alone_says(
        first in statements(),
        events in prop::collection::vec(
            prop_oneof![
                6 => report_with_roots(),
                1 => (0..3usize, exceptions()).prop_map(|(h, e)| Event::Exceptions(h, e)),
                1 => (0..3usize).prop_map(Event::Remove),
                2 => statements().prop_map(Event::Feed),
            ],
            1..12,
        ),
    ) {
        happens(&first, events)?;
    }
}
