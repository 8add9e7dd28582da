//! Which findings a change may have made others than they were: what the store has of the rest is as it is here.

use super::{FleetIndex, HostRecord, Presence};
use crate::exposure::Exception;
use crate::exposure::anew::{Changed, Concern};
use crate::exposure::roots::named;
use fettle_core::HostId;
use fettle_core::finding::Finding;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The source packages of a host whose findings a report may have changed, as findings name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Any.
    All,
    /// These alone.
    In(BTreeSet<String>),
}

impl Touched {
    /// None.
    pub fn nothing() -> Self {
        Self::In(BTreeSet::new())
    }

    /// May a finding in this source package be another?
    pub fn has(&self, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::In(sources) => sources.contains(source),
        }
    }

    /// May none?
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::In(sources) if sources.is_empty())
    }

    /// Adds those of a root.
    pub(super) fn absorb(&mut self, root: &str, other: Self) {
        match (&mut *self, other) {
            (Self::In(sources), Self::In(others)) => {
                sources.extend(others.iter().map(|source| named(Some(root), source)));
            }
            _ => *self = Self::All,
        }
    }
}

impl FleetIndex {
    /// The hosts it knows, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.slots.keys()
    }

    /// Does it know the host?
    pub fn has_host(&self, host: &HostId) -> bool {
        self.slots.contains_key(host)
    }

    /// Did the host's last report list this root ([`fettle_core::root::Root::id`])?
    pub fn lists_root(&self, host: &HostId, root: &str) -> bool {
        self.presences(host).get(root).is_some_and(|presence| *presence == Presence::Here)
    }

    /// The exceptions that hold for a host.
    pub fn exceptions_of(&self, host: &HostId) -> &[Exception] {
        self.record(host).map_or(&[], |record| &record.accepted)
    }

    /// A host's findings in those source packages that are wanted, named as findings name them; as [`FleetIndex::findings_of`]
    /// has them. `None` where the host is not known.
    pub fn findings_in(
        &self,
        host: &HostId,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<Vec<Finding>> {
        let mut findings = Vec::new();
        for record in self.systems_of(host)? {
            let wanted = |source: &str| wanted(&named(record.root.as_deref(), source));
            self.collect(record, wanted, &mut findings);
        }
        findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        Some(findings)
    }

    /// The host itself first, then its roots.
    pub(super) fn systems_of(&self, host: &HostId) -> Option<Vec<&HostRecord>> {
        let roots = self.roots_of(host).into_iter().filter_map(|(_, slot)| self.at(slot));
        Some(std::iter::once(self.record(host)?).chain(roots).collect())
    }

    /// What of a host is judged otherwise where vendors' data changed so.
    pub fn concern_of<'c>(&self, host: &HostId, changed: &'c Changed) -> Option<Concern<'c>> {
        let release = |record: &HostRecord| {
            self.shapes.get(record.shape).map_or_else(String::new, |s| s.release.to_string())
        };
        let mut systems = self.systems_of(host)?.into_iter();
        let own = systems.next().map(release)?;
        // What was found in a root that is not listed any more is told in the vendor's words of today, too.
        let roots = systems.filter_map(|r| Some((r.root.as_deref()?.to_owned(), release(r))));
        Some(Concern::by_releases(changed, own, roots.collect()))
    }

    /// Slots of the hosts that have, or carry, something of a source package of which vendors' data says something else.
    pub fn concerned_by(&self, changed: &Changed) -> RoaringBitmap {
        let mut slots = RoaringBitmap::new();
        for (_, book) in self.books.all().1 {
            if changed.is_of(&book.release, &book.source) {
                slots |= &book.carriers;
                for subject in book.subjects.iter().filter_map(|place| self.subjects.get(place)) {
                    slots |= &subject.hosts;
                }
            }
        }
        self.of_hosts(slots)
    }

    /// In which presence each root of a host is.
    pub(super) fn presences(&self, host: &HostId) -> BTreeMap<Arc<str>, Presence> {
        let roots = self.roots_of(host).into_iter();
        roots.filter_map(|(root, slot)| Some((root, self.at(slot)?.presence))).collect()
    }
}
