//! A part of a catalogue: what it says of one host, and nothing else.

use super::catalogue::{Catalogue, Cvss, KeyedRange, Publication, Statement, Vulnerability};
use super::facts::{HostFacts, SourceFacts};
use super::roots::{System, systems, together};
use super::vendor::{release_name, release_of};
use super::{HostView, Judgement};
use crate::feed::Feed;
use crate::feed::cve::Ssvc;
use crate::feed::vex::VexStatement;
use fettle_core::advisory::{AdvisoryStatus, Kev};
use fettle_core::finding::Severity;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a catalogue is wanted to judge a host and the roots on it.
pub(crate) struct Wanted<'a> {
    systems: Vec<(System<'a>, WantedOf)>,
}

/// What is wanted of it for one system.
struct WantedOf {
    release: String,
    facts: HostFacts,
    /// Installed ones, and those something was found in before. Sorted, each once.
    sources: Vec<Arc<str>>,
    everything: bool,
}

impl WantedOf {
    fn of(view: &HostView<'_>) -> Self {
        let everything = !view.previous.is_empty() || !view.ran_before.is_empty();
        let facts = HostFacts::read(view.inventory);
        let mut sources: Vec<Arc<str>> = facts.sources.iter().map(|s| s.source.clone()).collect();
        if everything {
            sources.extend(view.previous.iter().map(|f| Arc::from(f.source.as_str())));
            sources.extend(view.ran_before.keys().map(|source| Arc::from(source.as_str())));
            sources.sort_unstable();
            sources.dedup();
        }
        Self { release: release_name(&view.inventory.os), facts, sources, everything }
    }

    /// Is what a release says of a source about this system?
    fn asks(&self, release: &str, source: &str) -> bool {
        release_of(&self.release, source) == release
    }

    fn is_below(&self, source: &str, key: &[u8]) -> bool {
        let lowest = |s: &SourceFacts| {
            let installed = s.groups.first().is_some_and(|g| *g.version.key < *key);
            installed || s.kernel.as_ref().is_some_and(|k| *k.version.key < *key)
        };
        self.facts.source(source).is_some_and(lowest)
    }

    fn is_within(&self, source: &str, ranges: &[KeyedRange]) -> bool {
        let holds = |key: &[u8]| ranges.iter().any(|range| range.holds(key));
        let installed = |s: &SourceFacts| s.groups.iter().any(|g| holds(&g.version.key));
        let running = |s: &SourceFacts| s.kernel.as_ref().is_some_and(|k| holds(&k.version.key));
        self.facts.source(source).is_some_and(|s| installed(s) || running(s))
    }
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(view: &HostView<'a>) -> Self {
        let nothing = BTreeMap::new();
        let with = |system: System<'a>| {
            let wanted = WantedOf::of(&system.view(view, &nothing));
            (system, wanted)
        };
        Self { systems: systems(view).into_iter().map(with).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &WantedOf> {
        self.systems.iter().map(|(_, wanted)| wanted)
    }

    /// Sources of a release by name, in order.
    pub(crate) fn sources<'s>(&'s self, release: &str) -> BTreeSet<&'s str> {
        let of = |w: &'s WantedOf| {
            let sources = w.sources.iter().map(AsRef::as_ref);
            sources.filter(|source| w.asks(release, source)).collect::<Vec<_>>()
        };
        self.all().flat_map(of).collect()
    }

    /// Are statements wanted that no installed version is affected by?
    pub(crate) fn everything(&self) -> bool {
        self.all().any(|w| w.everything)
    }

    /// Is some version of this source, installed or running where the release counts, below the one with this key?
    pub(crate) fn is_below(&self, release: &str, source: &str, key: &[u8]) -> bool {
        self.all().any(|w| w.asks(release, source) && w.is_below(source, key))
    }

    /// Is some installed version of this source in one of these ranges?
    pub(crate) fn is_within(&self, release: &str, source: &str, ranges: &[KeyedRange]) -> bool {
        self.all().any(|w| w.asks(release, source) && w.is_within(source, ranges))
    }

    pub(crate) fn judge(self, catalogue: &Catalogue, view: &HostView<'_>) -> Judgement {
        let nothing = BTreeMap::new();
        let judged = self.systems.into_iter().map(|(system, wanted)| {
            let judgement = catalogue.judge_by(&wanted.facts, &system.view(view, &nothing));
            (system.root.map(Into::into), judgement)
        });
        // Invariant: the host itself is among its systems.
        together(view, judged.collect::<Vec<_>>()).unwrap_or_else(|| catalogue.judge(view))
    }
}

/// A statement of a release.
pub(crate) struct CompactStatement {
    /// Its vulnerability, as [`CompactVulnerability::place`].
    pub(crate) vulnerability: u32,
    pub(crate) source: Arc<str>,
    pub(crate) status: AdvisoryStatus,
    pub(crate) urgency: Arc<str>,
    pub(crate) evidence: Arc<str>,
    pub(crate) publication: Option<Publication>,
    pub(crate) severity: Severity,
    /// Of the version from which on nothing is affected.
    pub(crate) key: Box<[u8]>,
    pub(crate) ranges: Box<[KeyedRange]>,
}

/// What is said of some sources of one release, and of the vulnerabilities that are spoken of.
pub(crate) struct CompactPart {
    pub(crate) release: Arc<str>,
    /// By source and vulnerability.
    pub(crate) statements: Vec<CompactStatement>,
    /// By id and place.
    pub(crate) vulnerabilities: Vec<CompactVulnerability>,
}

/// What the world says of a vulnerability.
pub(crate) struct CompactVulnerability {
    pub(crate) place: u32,
    pub(crate) id: Arc<str>,
    pub(crate) cvss: Option<Cvss>,
    pub(crate) epss: Option<f32>,
    pub(crate) kev: Option<Kev>,
    pub(crate) ssvc: Option<Ssvc>,
}

impl Catalogue {
    /// Puts together what is said of some releases. What is known of a vulnerability is the same in each.
    pub(crate) fn of_some<'r>(
        mut parts: Vec<CompactPart>,
        own: Vec<VexStatement>,
        as_of: BTreeMap<Feed, Date>,
        releases: impl Iterator<Item = &'r String>,
    ) -> Self {
        parts.sort_by(|a, b| a.release.cmp(&b.release));
        let ids = parts.iter().flat_map(|part| part.vulnerabilities.iter().map(|v| v.id.clone()));
        let mut ids: Vec<Arc<str>> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let mut vulnerabilities: Vec<Option<Vulnerability>> = vec![None; ids.len()];
        let mut kept = Vec::with_capacity(parts.iter().map(|part| part.statements.len()).sum());
        for part in parts {
            let known: Vec<u32> = part.vulnerabilities.iter().map(|v| v.place).collect();
            // Invariant: `ids` was made from these very vulnerabilities.
            let at = |v: &CompactVulnerability| ids.binary_search(&v.id).unwrap_or_default();
            let places: Vec<usize> = part.vulnerabilities.iter().map(at).collect();
            for (place, v) in places.iter().zip(part.vulnerabilities) {
                vulnerabilities[*place].get_or_insert_with(|| Vulnerability {
                    id: v.id,
                    cvss: v.cvss,
                    epss: v.epss,
                    kev: v.kev,
                    ssvc: v.ssvc,
                    statements: Vec::new(),
                });
            }
            for said in part.statements {
                let Ok(found) = known.binary_search(&said.vulnerability) else { continue };
                let Some(vulnerability) = &mut vulnerabilities[places[found]] else { continue };
                vulnerability.statements.push(kept.len() as u32);
                kept.push(Statement {
                    id: vulnerability.id.clone(),
                    source: said.source,
                    release: part.release.clone(),
                    status: said.status,
                    urgency: said.urgency,
                    evidence: said.evidence,
                    publication: said.publication,
                    severity: said.severity,
                    fixed_key: said.key,
                    ranges: said.ranges,
                    vulnerability: places[found] as u32,
                });
            }
        }
        let vulnerabilities = vulnerabilities.into_iter().flatten().collect();
        let releases = releases.map(|r| r.as_str().into());
        Self::of_parts(releases.collect(), kept, vulnerabilities, own, as_of)
    }
}
