//! A part of a catalogue: what it says of one host, and nothing else.

use super::catalogue::{Catalogue, Cvss, Publication, Statement, Vulnerability};
use super::facts::{HostFacts, SourceFacts};
use super::{HostView, Judgement};
use crate::feed::Feed;
use crate::feed::cve::Ssvc;
use crate::feed::vex::VexStatement;
use fettle_core::advisory::{AdvisoryStatus, Kev};
use fettle_core::finding::Severity;
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a catalogue is wanted to judge a host.
pub(crate) struct Wanted {
    facts: HostFacts,
    /// Installed ones, and those something was found in before. Sorted, each once.
    sources: Vec<Arc<str>>,
    everything: bool,
}

impl Wanted {
    pub(crate) fn of(view: &HostView<'_>) -> Self {
        let everything = !view.previous.is_empty() || !view.ran_before.is_empty();
        let facts = HostFacts::read(view.inventory);
        let mut sources: Vec<Arc<str>> = facts.sources.iter().map(|s| s.source.clone()).collect();
        if everything {
            sources.extend(view.previous.iter().map(|f| Arc::from(f.source.as_str())));
            sources.extend(view.ran_before.keys().map(|source| Arc::from(source.as_str())));
            sources.sort_unstable();
            sources.dedup();
        }
        Self { facts, sources, everything }
    }

    /// Sources by name, in order.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(AsRef::as_ref)
    }

    /// Are statements wanted that no installed version is affected by?
    pub(crate) fn everything(&self) -> bool {
        self.everything
    }

    /// Is some version of this source, installed or running, below the one with this key?
    pub(crate) fn is_below(&self, source: &str, key: &[u8]) -> bool {
        let lowest = |s: &SourceFacts| {
            let installed = s.groups.first().is_some_and(|g| *g.version.key < *key);
            installed || s.kernel.as_ref().is_some_and(|k| *k.version.key < *key)
        };
        self.facts.source(source).is_some_and(lowest)
    }

    pub(crate) fn judge(&self, catalogue: &Catalogue, view: &HostView<'_>) -> Judgement {
        catalogue.judge_by(&self.facts, view)
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
    /// Puts together what is said of one release: statements by source and vulnerability, vulnerabilities by id and place.
    pub(crate) fn of_release<'r>(
        release: &Arc<str>,
        statements: Vec<CompactStatement>,
        vulnerabilities: Vec<CompactVulnerability>,
        own: Vec<VexStatement>,
        as_of: BTreeMap<Feed, Date>,
        releases: impl Iterator<Item = &'r String>,
    ) -> Self {
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); vulnerabilities.len()];
        let known: Vec<u32> = vulnerabilities.iter().map(|v| v.place).collect();
        let mut kept = Vec::with_capacity(statements.len());
        for said in statements {
            let Ok(vulnerability) = known.binary_search(&said.vulnerability) else { continue };
            places[vulnerability].push(kept.len() as u32);
            kept.push(Statement {
                id: vulnerabilities[vulnerability].id.clone(),
                source: said.source,
                release: release.clone(),
                status: said.status,
                urgency: said.urgency,
                evidence: said.evidence,
                publication: said.publication,
                severity: said.severity,
                fixed_key: said.key,
                vulnerability: vulnerability as u32,
            });
        }
        let of = |(v, statements): (CompactVulnerability, Vec<u32>)| Vulnerability {
            id: v.id,
            cvss: v.cvss,
            epss: v.epss,
            kev: v.kev,
            ssvc: v.ssvc,
            statements,
        };
        let vulnerabilities = vulnerabilities.into_iter().zip(places).map(of).collect();
        let releases = releases.map(|r| r.as_str().into());
        Self::of_parts(releases.collect(), kept, vulnerabilities, own, as_of)
    }
}
