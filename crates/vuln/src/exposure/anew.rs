//! What of a host is to be judged anew where the vendors' data is another.
//!
//! A feed that is fetched again says of most source packages what it said before: what a host has of those stays as it was
//! judged, and only what has changed is held against the host's packages. Judging the rest too would come to the same.

use super::catalogue::{Catalogue, Statement};
use super::facts::HostFacts;
use super::roots::{named, systems};
use super::vendor::{release_name, release_of};
use super::{HostView, Withdrawn};
use fettle_core::finding::Finding;
use fettle_core::inventory::Inventory;
use fettle_core::root::of_subject;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The source packages of which one catalogue tells something else than another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed(BTreeMap<Arc<str>, BTreeSet<Arc<str>>>);

impl Changed {
    /// Is nothing told differently?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many source packages of releases there are.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Is something else told of this source package to a system of this release?
    fn has(&self, release: &str, source: &str) -> bool {
        self.0.get(release_of(release, source)).is_some_and(|sources| sources.contains(source))
    }

    /// What of a host with this inventory is to be judged anew.
    pub fn of<'c>(&'c self, inventory: &Inventory) -> Concern<'c> {
        let of_roots = inventory.roots.iter().map(|root| (root.id(), release_name(&root.os)));
        Concern { changed: self, release: release_name(&inventory.os), roots: of_roots.collect() }
    }
}

/// Which findings of one host can be others than before.
#[derive(Debug)]
pub struct Concern<'c> {
    changed: &'c Changed,
    release: String,
    /// By [`fettle_core::root::Root::id`].
    roots: BTreeMap<String, String>,
}

impl Concern<'_> {
    /// Can a finding in this source package be another? `source` as findings name it, with its root. What was found in a
    /// root that is not there any more stays as it is.
    pub fn has(&self, source: &str) -> bool {
        match of_subject(source) {
            (None, source) => self.changed.has(&self.release, source),
            (Some(root), source) => {
                self.roots.get(root).is_some_and(|release| self.changed.has(release, source))
            }
        }
    }
}

/// What judging anew what changed came to.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedAnew {
    /// All findings of the host in the source packages that are concerned ([`Concern::has`]), by source package, then
    /// vulnerability.
    pub findings: Vec<Finding>,
    /// Those of before that went without anything on the host having fixed them.
    pub withdrawn: Vec<Withdrawn>,
}

impl Catalogue {
    /// The source packages of which findings can be others than by the catalogue before. `None`: of all of them, because other
    /// releases are covered, or one's own statements are others, which go by what else is installed.
    pub fn changed_since(&self, before: &Catalogue) -> Option<Changed> {
        if self.own() != before.own() || !self.releases().eq(before.releases()) {
            return None;
        }
        let mut changed = Changed::default();
        for release in self.releases() {
            let (was, is) = (before.slices(release), self.slices(release));
            let (Some(was), Some(is)) = (was, is) else { return None };
            let sources: BTreeSet<&Arc<str>> = was.keys().chain(is.keys()).collect();
            let differs = |source: &&Arc<str>| {
                let was = was.get(*source).map_or(0..0, |slice| slice.places.clone());
                let is = is.get(*source).map_or(0..0, |slice| slice.places.clone());
                let (was, is) = (before.slice(was), self.slice(is));
                was.len() != is.len()
                    || !was.iter().zip(is).all(|(was, is)| self.tells_as(is, before, was))
            };
            let others: BTreeSet<Arc<str>> = sources.into_iter().filter(differs).cloned().collect();
            if !others.is_empty() {
                changed.0.insert(release.into(), others);
            }
        }
        Some(changed)
    }

    /// Do findings by a statement tell the same as by that one of another catalogue, of the same source package? Where it was
    /// read is told when it is asked for, and in no finding.
    fn tells_as(&self, is: &Statement, before: &Catalogue, was: &Statement) -> bool {
        let day = |statement: &Statement| statement.publication.as_ref().map(|p| p.date);
        is.id == was.id
            && is.status == was.status
            && is.urgency == was.urgency
            && is.severity == was.severity
            && day(is) == day(was)
            && self.vulnerability_of(is).ranks_as(before.vulnerability_of(was))
    }

    /// Judges what of a host is concerned: what [`Catalogue::judge`] comes to of it. [`HostView::previous`] has the findings of
    /// before that are concerned, and no others.
    pub fn judge_anew(&self, view: &HostView<'_>, concern: &Concern<'_>) -> JudgedAnew {
        let nothing = BTreeMap::new();
        let mut anew = JudgedAnew { findings: Vec::new(), withdrawn: Vec::new() };
        for system in systems(view) {
            let root = system.root.as_deref();
            let view = system.view(view, &nothing);
            let release = release_name(&view.inventory.os);
            let mut facts = HostFacts::read(view.inventory);
            facts.sources.retain(|source| concern.changed.has(&release, &source.source));
            if facts.sources.is_empty() && view.previous.is_empty() {
                continue;
            }
            let judged = self.judge_by(&facts, &view);
            let name = |source: String| named(root, &source);
            let findings = judged.findings.into_iter();
            anew.findings.extend(findings.map(|f| Finding { source: name(f.source), ..f }));
            let withdrawn = judged.withdrawn.into_iter();
            anew.withdrawn.extend(withdrawn.map(|w| Withdrawn { source: name(w.source), ..w }));
        }
        anew.findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        anew
    }
}
