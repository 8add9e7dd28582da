//! What of a host is to be judged anew where the vendors' data is another.
//!
//! A feed that is fetched again says of most source packages what it said before: what a host has of those stays as it was
//! judged, and only what has changed is held against the host's packages. Judging the rest too would come to the same.

use super::catalogue::{Catalogue, Statement};
use super::vendor::release_of;
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

    /// Is something else told of this source package of a release, both as statements name them?
    pub(super) fn is_of(&self, release: &str, source: &str) -> bool {
        self.0.get(release).is_some_and(|sources| sources.contains(source))
    }

    /// Is something else told of this source package to a system of this release?
    fn has(&self, release: &str, source: &str) -> bool {
        self.is_of(release_of(release, source), source)
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

impl<'c> Concern<'c> {
    /// Of a host of this release, with roots of these.
    pub(super) fn by_releases(
        changed: &'c Changed,
        release: String,
        roots: BTreeMap<String, String>,
    ) -> Self {
        Self { changed, release, roots }
    }

    /// Can a finding in this source package be another? `source` as findings name it, with its root. Of a root that nobody
    /// knows none can.
    pub fn has(&self, source: &str) -> bool {
        match of_subject(source) {
            (None, source) => self.changed.has(&self.release, source),
            (Some(root), source) => {
                self.roots.get(root).is_some_and(|release| self.changed.has(release, source))
            }
        }
    }
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
}
