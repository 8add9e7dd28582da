//! What may happen to a fleet, and the judge of single hosts beside it: after each event both must say the same.

#[path = "worst.rs"]
mod worst;

use crate::hosts_with;
use crate::support::*;
use fettle_core::advisory::{Advisory, AdvisoryStatus, Kev, VersionRange};
use fettle_core::finding::{Finding, FindingState, FindingState::*, Severity};
use fettle_core::inventory::{Inventory, Kernel};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::root::{Root, RootKind};
use fettle_core::{HostId, Shared};
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Coverage, Exception, FindingDelta, FleetIndex, HostView, Risk,
    Verdict, Withdrawn,
};
use fettle_vuln::feed::epss::EpssScore;
use fettle_vuln::feed::kev::KevEntry;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use worst::worst;

/// Hosts that there may be.
const HOSTS: usize = 5;
pub(crate) const SOURCES: [&str; 4] = ["p", "q", "linux", "npm/x"];
pub(crate) const VERSIONS: [&str; 4] = ["1-1", "1-2", "2-1", "3-1"];
const STATUSES: [&str; 7] = ["0", "?", "", "1-2", "2-1", "3-1", "^2-1"];
const URGENCIES: [&str; 4] = ["", "critical", "unimportant", "high"];
pub(crate) const IDS: [&str; 4] = ["CVE-1", "CVE-2", "CVE-3", "CVE-4"];
const OF_LANGUAGE: [&str; 4] = ["1.0.0", "1.1.0", "2.0.0", "3.0.0"];

/// What one host's history gives when each report is judged alone, with the findings of the one before.
#[derive(Default, Clone)]
struct Alone {
    inventory: Option<Inventory>,
    accepted: Vec<Exception>,
    findings: Vec<Finding>,
    coverage: Option<Coverage>,
}

impl Alone {
    fn judge(
        &mut self,
        host: &HostId,
        catalogue: &Catalogue,
        ran_before: &BTreeMap<String, String>,
    ) -> Vec<Withdrawn> {
        let Some(inventory) = &self.inventory else { return vec![] };
        let (previous, accepted) = (&self.findings, &self.accepted);
        let view = HostView { host, inventory, previous, ran_before, accepted };
        let judgement = catalogue.judge(&view);
        self.findings = judgement.findings;
        self.coverage = Some(judgement.coverage);
        judgement.withdrawn
    }

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
                finding.ranking.clone_from(&told.ranking);
            }
        }
    }
}

/// A statement of a feed: source, vulnerability, status, urgency, of trixie.
pub(crate) type Said = (usize, usize, usize, usize, bool);

/// A feed: statements, and which vulnerabilities are exploited, and which are likely to be.
#[derive(Debug, Clone)]
pub(crate) struct Fed {
    said: Vec<Said>,
    exploited: [bool; 2],
    likely: [bool; 2],
}

/// Something about a host is another: a version, or a flag.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Version(usize, usize),
    InUse(bool, bool),
    Stale(bool),
    Offered(Option<usize>),
    /// What runs, and whether it is of a package.
    Kernel(bool, bool),
    /// The package of another architecture and source comes or goes.
    Foreign,
    Nothing,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Hosts that are alike report, some of them with exceptions.
    Reports([bool; HOSTS], [bool; HOSTS], Box<Inventory>, Vec<Exception>),
    /// One reports what it did before, but for what is stale or not even for that, and it is known what ran before.
    Ran(usize, Option<bool>, usize),
    /// Hosts report what they did before but for one thing.
    Steps([bool; HOSTS], Step),
    Exceptions(usize, Vec<Exception>),
    Remove(usize),
    Feed(Fed),
    /// One statement that was there is dropped, or says something else; or one is added.
    Moved(Said, usize),
}

pub(crate) fn inventory() -> impl Strategy<Value = Inventory> {
    (
        prop::collection::vec(prop::option::of(0..VERSIONS.len()), 8),
        any::<[bool; 9]>(),
        prop::option::of(0..VERSIONS.len()),
        prop::sample::select(vec!["bookworm", "bookworm", "bookworm", "trixie"]),
        prop::collection::vec((0..OF_LANGUAGE.len(), 0..2usize), 0..3),
    )
        .prop_map(|(versions, flags, offered, codename, languages)| {
            let mut packages = Vec::new();
            for (i, version) in versions.iter().enumerate() {
                let Some(version) = version.map(|v| VERSIONS[v]) else { continue };
                let (name, source) = [
                    ("libp", "p"),
                    ("linux-image-a", "linux"),
                    ("linux-image-b", "linux"),
                    ("linux-libc-dev", "linux"),
                    ("p", "p"),
                    // Of another architecture, and there from another source.
                    ("p", "q"),
                    ("q", "q"),
                    ("r", "q"),
                ][i];
                // One version is not well-formed.
                let version = if name == "q" && version == "3-1" { "3_1" } else { version };
                let mut package = built(name, version, source, version);
                if i == 5 {
                    package.architecture = "i386".into();
                }
                packages.push(package);
            }
            let mut host = Inventory { os: os("debian", "x", codename), ..with(&packages) };
            let named = |flag: bool, name: &str| if flag { vec![name.to_owned()] } else { vec![] };
            host.in_use = named(flags[0], "p");
            host.exposed = named(flags[0] && flags[1], "p");
            host.stale = if flags[2] { vec![stale("x", "libp")] } else { vec![] };
            host.gaps = named(flags[3] && flags[4], "processes: not readable");
            let place = |(version, place): (usize, usize)| LanguagePackage {
                ecosystem: Ecosystem::Npm,
                name: "x".into(),
                version: OF_LANGUAGE[version].into(),
                location: ["/a", "/b"][place].into(),
            };
            // Where processes cannot be looked at, what waits for a restart under an exception is taken for what it was.
            if host.gaps.is_empty() {
                host.languages = languages.into_iter().map(place).collect();
            } else if flags[8] {
                host.gaps.push("packages of languages: not all".into());
            }
            if flags[7] && !flags[3] && !flags[2] {
                host.packages.clear();
                host.gaps = vec!["installed packages: not readable".into()];
            }
            host.kernel = Kernel {
                running: if flags[5] { "a" } else { "b" }.into(),
                // It may tell its version itself, and then is judged also where packages cannot be listed.
                running_version: if flags[1] != flags[8] { "1-2" } else { "" }.into(),
                from_package: flags[6],
                ..Kernel::default()
            };
            offer(&mut host, offered);
            host
        })
}

fn offer(host: &mut Inventory, offered: Option<usize>) {
    let of = |version: usize| upgrade("p", "1-1", VERSIONS[version], VERSIONS[version]);
    host.upgrades = offered.map(of).into_iter().collect();
}

impl Step {
    fn take(&self, host: &mut Inventory) {
        let named = |flag: bool, name: &str| if flag { vec![name.to_owned()] } else { vec![] };
        match *self {
            Self::Version(package, version) => {
                let count = host.packages.len().max(1);
                if let Some(package) = host.packages.get_mut(package % count) {
                    package.version = VERSIONS[version].into();
                    package.source_version = VERSIONS[version].into();
                } else if let Some(package) = host.languages.first_mut() {
                    package.version = OF_LANGUAGE[version].into();
                }
            }
            Self::InUse(in_use, exposed) => {
                host.in_use = named(in_use, "libp");
                host.exposed = named(in_use && exposed, "libp");
            }
            Self::Stale(is) => host.stale = if is { vec![stale("x", "p")] } else { vec![] },
            Self::Offered(offered) => offer(host, offered),
            Self::Kernel(a, from_package) => {
                host.kernel.running = if a { "a" } else { "b" }.into();
                host.kernel.from_package = from_package;
            }
            Self::Foreign => {
                let count = host.packages.len();
                host.packages.retain(|package| package.architecture != "i386");
                if count == host.packages.len() {
                    let mut foreign = (*built("p", "1-2", "q", "1-2")).clone();
                    foreign.architecture = "i386".into();
                    let after = host.packages.iter().position(|p| *p.name > *"p");
                    host.packages.insert(after.unwrap_or(count), foreign.into());
                }
            }
            Self::Nothing => {}
        }
    }
}

pub(crate) fn exceptions() -> impl Strategy<Value = Vec<Exception>> {
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

fn said() -> impl Strategy<Value = Said> {
    let (sources, ids) = (0..SOURCES.len(), 0..IDS.len());
    (sources, ids, 0..STATUSES.len(), 0..URGENCIES.len(), any::<bool>())
}

pub(crate) fn feed() -> impl Strategy<Value = Fed> {
    (prop::collection::vec(said(), 0..12), any::<[bool; 2]>(), any::<[bool; 2]>())
        .prop_map(|(said, exploited, likely)| Fed { said, exploited, likely })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8usize, 0..VERSIONS.len()).prop_map(|(p, v)| Step::Version(p, v)),
        1 => any::<(bool, bool)>().prop_map(|(u, e)| Step::InUse(u, e)),
        1 => any::<bool>().prop_map(Step::Stale),
        1 => prop::option::of(0..VERSIONS.len()).prop_map(Step::Offered),
        1 => any::<(bool, bool)>().prop_map(|(a, of)| Step::Kernel(a, of)),
        1 => Just(Step::Foreign),
        1 => Just(Step::Nothing),
    ]
}

/// What happens beside reports.
pub(crate) fn other_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (any::<[bool; HOSTS]>(), step()).prop_map(|(h, s)| Event::Steps(h, s)),
        1 => (0..HOSTS, exceptions()).prop_map(|(h, e)| Event::Exceptions(h, e)),
        1 => (0..HOSTS).prop_map(Event::Remove),
        1 => feed().prop_map(Event::Feed),
        2 => (said(), 0..12usize).prop_map(|(s, place)| Event::Moved(s, place)),
    ]
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let alike = (any::<[bool; HOSTS]>(), any::<[bool; HOSTS]>(), inventory(), exceptions());
    prop_oneof![
        4 => alike.prop_map(|(h, x, i, e)| Event::Reports(h, x, Box::new(i), e)),
        2 => (0..HOSTS, any::<Option<bool>>(), 0..VERSIONS.len())
            .prop_map(|(h, stale, v)| Event::Ran(h, stale, v)),
        6 => other_event(),
    ]
}

/// A report of a host with containers on it: one of its own release, one of another.
pub(crate) fn report_with_roots() -> impl Strategy<Value = Event> {
    let root = || prop::option::weighted(0.6, (0..VERSIONS.len(), any::<bool>()));
    let hosts = (any::<[bool; HOSTS]>(), any::<[bool; HOSTS]>());
    (hosts, inventory(), exceptions(), root(), root(), 0..8u8).prop_map(
        |((hosts, excepted), mut host, accepted, web, db, gap)| {
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
                    ]
                    .into(),
                    gaps: if gap == 1 { vec!["processes: 1 of 1".into()] } else { vec![] },
                });
            }
            if gap == 0 {
                host.gaps.push("other roots: not all".into());
            }
            Event::Reports(hosts, excepted, Box::new(host), accepted)
        },
    )
}

/// Ranges of a package of a language, as many as there are statuses.
fn ranges(status: usize) -> AdvisoryStatus {
    let range = |introduced: &str, fixed: Option<&str>, last: Option<&str>| VersionRange {
        introduced: introduced.into(),
        fixed: fixed.map(Into::into),
        last: last.map(Into::into),
    };
    let ranges = match status {
        0 => return AdvisoryStatus::NotAffected,
        1 => vec![range("0", None, None)],
        2 => vec![range("0", Some("1.1.0"), None)],
        3 => vec![range("0", Some("1.1.0"), None), range("2.0.0", Some("3.0.0"), None)],
        4 => vec![range("0", None, Some("2.0.0"))],
        5 => vec![range("1.1.0", Some("3.0.0"), None)],
        _ => vec![range("3.0.0", None, None)],
    };
    AdvisoryStatus::Ranges { ranges }
}

fn built_from(feed: &Fed) -> Arc<Catalogue> {
    let of = |&(source, id, status, urgency, trixie): &Said| {
        let release = if trixie { "trixie" } else { "bookworm" };
        let words = (SOURCES[source], IDS[id], STATUSES[status], URGENCIES[urgency]);
        let plain = advisory(release, words);
        match SOURCES[source].split_once('/') {
            None => plain,
            Some((language, _)) => {
                Advisory { release: language.into(), status: ranges(status), ..plain }
            }
        }
    };
    let kev = |id: &str| KevEntry {
        id: id.into(),
        kev: Kev {
            date_added: "2026-01-01".parse().unwrap(),
            due_date: "2026-01-22".parse().unwrap(),
            ransomware: false,
        },
    };
    let listed = |flags: [bool; 2]| IDS.iter().zip(flags).filter(|(_, is)| *is).map(|(id, _)| *id);
    let epss = |id: &str| EpssScore { id: id.into(), probability: 0.5, percentile: 0.9 };
    Arc::new(Catalogue::build(CatalogueInput {
        advisories: feed.said.iter().map(of).collect(),
        kev: listed(feed.exploited).map(kev).collect(),
        epss: listed(feed.likely).map(epss).collect(),
        ..CatalogueInput::default()
    }))
}

fn apply(states: &mut BTreeMap<(String, String), FindingState>, deltas: &[FindingDelta]) {
    for d in deltas {
        let key = (d.source.to_string(), d.id.to_string());
        assert_eq!(states.get(&key).copied(), d.before, "{d:?}");
        assert_ne!(d.before, d.after, "{d:?}");
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

/// Two fleets side by side.
struct Both {
    names: Vec<HostId>,
    feed: Fed,
    catalogue: Arc<Catalogue>,
    fleet: FleetIndex,
    alone: Vec<Alone>,
    /// What the deltas add up to.
    followed: Vec<BTreeMap<(String, String), FindingState>>,
}

impl Both {
    fn report(
        &mut self,
        h: usize,
        inventory: Inventory,
        accepted: Vec<Exception>,
        ran_before: &BTreeMap<String, String>,
    ) -> Result<(), TestCaseError> {
        let before = self.told(&self.names[h]);
        let change = self.fleet.set_host(&HostView {
            host: &self.names[h],
            inventory: &inventory,
            previous: &[],
            ran_before,
            accepted: &accepted,
        });
        let after = self.told(&self.names[h]);
        for key in before.keys().chain(after.keys()) {
            let same = before.get(key) == after.get(key);
            prop_assert!(same || change.touched.has(&key.0), "{:?} changed untouched", key);
        }
        let touched = self.fleet.findings_in(&self.names[h], |source| change.touched.has(source));
        let mut expected = self.fleet.findings_of(&self.names[h]).unwrap();
        expected.retain(|f| change.touched.has(&f.source));
        prop_assert_eq!(touched, Some(expected));
        self.alone[h].inventory = Some(inventory);
        self.alone[h].accepted = accepted;
        let withdrawn = self.alone[h].judge(&self.names[h], &self.catalogue, ran_before);
        prop_assert_eq!(&change.withdrawn, &withdrawn);
        prop_assert_eq!(Some(&change.coverage), self.alone[h].coverage.as_ref());
        apply(&mut self.followed[h], &change.deltas);
        Ok(())
    }

    fn feed(&mut self) -> Result<(), TestCaseError> {
        let before = std::mem::replace(&mut self.catalogue, built_from(&self.feed));
        let changed = self.catalogue.changed_since(&before);
        let all = |both: &Self| both.names.iter().map(|name| both.told(name)).collect::<Vec<_>>();
        let told = all(self);
        let concerned = changed.as_ref().map(|changed| self.fleet.concerned_by(changed));
        let (changes, withdrawn) = self.fleet.replace_catalogue(self.catalogue.clone());
        if let Some((changed, concerned)) = changed.as_ref().zip(concerned) {
            let concerned: Vec<&HostId> =
                concerned.iter().map(|slot| self.fleet.host_at(slot).unwrap()).collect();
            for ((name, was), is) in self.names.iter().zip(&told).zip(&all(self)) {
                let concern = self.fleet.concern_of(name, changed);
                for key in was.keys().chain(is.keys()) {
                    let same = was.get(key) == is.get(key);
                    let may = concerned.contains(&name)
                        && concern.as_ref().is_some_and(|concern| concern.has(&key.0));
                    prop_assert!(same || may, "{:?} of {} changed unconcerned", key, name);
                }
            }
        }
        let name = |slot| self.fleet.host_at(slot).unwrap().clone();
        let each = |w: &fettle_vuln::exposure::CatalogueWithdrawal| {
            let of = w.withdrawn.clone();
            w.hosts.iter().map(|slot| (name(slot), of.clone())).collect::<Vec<_>>()
        };
        let mut withdrawn: Vec<(HostId, Withdrawn)> = withdrawn.iter().flat_map(each).collect();
        let nothing = BTreeMap::new();
        let mut expected = Vec::new();
        for (name, alone) in self.names.iter().zip(&mut self.alone) {
            let gone = alone.judge(name, &self.catalogue, &nothing);
            expected.extend(gone.into_iter().map(|w| (name.clone(), w)));
        }
        withdrawn.sort();
        expected.sort();
        prop_assert_eq!(withdrawn, expected);
        prop_assert!(changes.is_sorted_by(|a, b| a.delta < b.delta), "each once, in order");
        for change in &changes {
            for slot in &change.hosts {
                let host = self.fleet.host_at(slot);
                let h = self.names.iter().position(|n| Some(n) == host).unwrap();
                apply(&mut self.followed[h], std::slice::from_ref(&change.delta));
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), TestCaseError> {
        let nothing = BTreeMap::new();
        match event {
            Event::Reports(hosts, excepted, inventory, accepted) => {
                for h in (0..HOSTS).filter(|h| hosts[*h]) {
                    let accepted = if excepted[h] { accepted.clone() } else { vec![] };
                    self.report(h, (*inventory).clone(), accepted, &nothing)?;
                }
            }
            Event::Ran(h, stale, version) => {
                let Some(mut inventory) = self.alone[h].inventory.clone() else { return Ok(()) };
                stale.map_or(Step::Nothing, Step::Stale).take(&mut inventory);
                let ran = [("p".to_owned(), VERSIONS[version].to_owned())].into();
                let accepted = self.alone[h].accepted.clone();
                self.report(h, inventory, accepted, &ran)?;
            }
            Event::Steps(hosts, step) => {
                for h in (0..HOSTS).filter(|h| hosts[*h]) {
                    let Some(mut inventory) = self.alone[h].inventory.clone() else { continue };
                    step.take(&mut inventory);
                    // Of copies of its own, as each report is read by itself.
                    for package in inventory.packages.iter_mut() {
                        *package = Shared::from((**package).clone());
                    }
                    let accepted = self.alone[h].accepted.clone();
                    self.report(h, inventory, accepted, &nothing)?;
                }
            }
            Event::Exceptions(h, accepted) => {
                let set = self.fleet.set_exceptions(&self.names[h], accepted.clone());
                if let Some(deltas) = set {
                    self.alone[h].accepted = accepted;
                    self.alone[h].judge(&self.names[h], &self.catalogue, &nothing);
                    apply(&mut self.followed[h], &deltas);
                }
            }
            Event::Remove(h) => {
                if let Some(deltas) = self.fleet.remove_host(&self.names[h]) {
                    apply(&mut self.followed[h], &deltas);
                }
                self.alone[h] = Alone::default();
            }
            Event::Feed(feed) => {
                self.feed = feed;
                self.feed()?;
            }
            Event::Moved(said, place) => {
                match self.feed.said.get_mut(place) {
                    None => self.feed.said.push(said),
                    Some(_) if said.4 => drop(self.feed.said.remove(place)),
                    Some(known) => known.2 = said.2,
                }
                self.feed()?;
            }
        }
        Ok(())
    }

    /// What the index tells of a host, by source package and vulnerability.
    fn told(&self, name: &HostId) -> BTreeMap<(String, String), Finding> {
        let key = |f: Finding| ((f.source.clone(), f.id.clone()), f);
        self.fleet.findings_of(name).unwrap_or_default().into_iter().map(key).collect()
    }

    /// Goes on with what the index is after it was packed.
    fn restart(&mut self) -> Result<(), TestCaseError> {
        let packed = self.fleet.pack(b"beside");
        let (back, beside) = FleetIndex::unpack(&packed, self.catalogue.clone()).unwrap();
        prop_assert_eq!(beside, b"beside");
        prop_assert!(back.pack(b"beside") == packed, "packed again it is another");
        self.fleet = back;
        Ok(())
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let fleet = &self.fleet;
        let mut totals = BTreeMap::new();
        let by_risk: BTreeMap<HostId, Risk> = fleet.riskiest(HOSTS).into_iter().collect();
        for (h, name) in self.names.iter().enumerate() {
            let findings = fleet.findings_of(name).unwrap_or_default();
            let alone = &mut self.alone[h];
            alone.words_of_today(&findings);
            prop_assert_eq!(&findings, &alone.findings);
            prop_assert_eq!(&fleet.coverage_of(name), &alone.coverage);
            let states: BTreeMap<_, _> =
                findings.iter().map(|f| ((f.source.clone(), f.id.clone()), f.state)).collect();
            prop_assert_eq!(&states, &self.followed[h], "deltas do not add up");
            for f in &findings {
                *totals.entry((f.severity(), f.state)).or_insert(0u64) += 1;
            }
            let at_risk = by_risk.get(name).copied().unwrap_or_default();
            prop_assert_eq!(at_risk, risk(&alone.findings));
        }
        let counted: BTreeMap<_, _> =
            fleet.totals().iter().map(|(severity, state, n)| ((severity, state), n)).collect();
        prop_assert_eq!(counted, totals);
        for id in IDS {
            let has = |a: &Alone| a.findings.iter().any(|f| f.id == id && f.state.is_vulnerable());
            let with = self.names.iter().zip(&self.alone).filter(|(_, alone)| has(alone));
            let expected: Vec<String> = with.map(|(name, _)| name.to_string()).collect();
            prop_assert_eq!(hosts_with(fleet, id), expected);
            let all = self.alone.iter().flat_map(|a| &a.findings);
            let mut about: Vec<Finding> = all.filter(|f| f.id == id).cloned().collect();
            about.sort_by(|a, b| (&a.host, &a.source).cmp(&(&b.host, &b.source)));
            prop_assert_eq!(fleet.findings_about(id), about);
        }
        let expected = worst(&self.names, &self.alone, &self.catalogue);
        for n in [2, 100] {
            let told = fleet.worst(n);
            prop_assert_eq!(told.len(), expected.len().min(n));
            for (told, (_, source, id, severity, numbers)) in told.iter().zip(&expected) {
                prop_assert_eq!((&told.source, &told.id), (source, id));
                let its = [told.hosts, told.in_use, told.exposed, told.fixable_now];
                prop_assert_eq!((told.severity, its), (*severity, *numbers));
                let shown = self.names.iter().position(|name| *name == told.example).unwrap();
                prop_assert!(self.alone[shown].findings.iter().any(|f| f.id == *id));
            }
        }
        Ok(())
    }
}

/// Lets all of it happen, and compares after each event.
pub(crate) fn happens(first: Fed, events: Vec<Event>) -> Result<(), TestCaseError> {
    let catalogue = built_from(&first);
    let mut both = Both {
        names: ["a", "b", "c", "d", "e"].map(HostId::new).to_vec(),
        fleet: FleetIndex::new(catalogue.clone()),
        feed: first,
        catalogue,
        alone: vec![Alone::default(); HOSTS],
        followed: vec![BTreeMap::new(); HOSTS],
    };
    for (n, event) in events.into_iter().enumerate() {
        both.happen(event)?;
        both.compare()?;
        if n % 3 == 2 {
            both.restart()?;
            both.compare()?;
        }
    }
    Ok(())
}
