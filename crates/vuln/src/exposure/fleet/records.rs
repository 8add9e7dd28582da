//! Records of hosts, and what is kept beside them by slot.

use super::books::Hit;
use super::change::{FindingDelta, Short, Totals, deltas, risk_of};
use super::numbers::Secret;
use super::subjects::Subject;
use super::{FleetIndex, HostRecord, Presence, Risk};
use crate::exposure::carry::{Carried, Known, carry};
use crate::exposure::catalogue::{Catalogue, Statement};
use crate::exposure::facts::{HostFacts, SystemFacts};
use crate::exposure::judge::state_with;
use crate::exposure::roots::{self, named};
use crate::exposure::vendor::release_of;
use crate::exposure::{Exception, Withdrawn};
use fettle_core::HostId;
use fettle_core::finding::Severity;
use fettle_core::inventory::Inventory;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A shape, as what is decided about its hosts goes by it.
pub(super) struct Outline {
    pub(super) release: Arc<str>,
    pub(super) system: Arc<SystemFacts>,
    pub(super) subjects: Arc<[u32]>,
}

/// Under the names that they have on the host.
pub(super) fn named_deltas(
    root: &str,
    deltas: Vec<FindingDelta>,
) -> impl Iterator<Item = FindingDelta> {
    deltas.into_iter().map(move |d| {
        let source = named(Some(root), &d.source).into();
        FindingDelta { source, ..d }
    })
}

/// What is known of a finding that is carried over.
pub(super) fn shown(carried: &Carried, accepted: &[Exception]) -> Known {
    let state = state_with(carried.state, &carried.id, &carried.source, accepted);
    Known { state, ..Known::from(carried) }
}

/// What is carried over of one source package, of all that is in order.
pub(super) fn of_source<'c>(carried: &'c [Arc<Carried>], source: &str) -> &'c [Arc<Carried>] {
    let start = carried.partition_point(|c| *c.source < *source);
    let length = carried[start..].partition_point(|c| *c.source == *source);
    &carried[start..start + length]
}

impl Catalogue {
    /// How bad something that is carried over is, and whether it is known to be exploited.
    pub(super) fn weight(&self, release: &str, carried: &Carried) -> Weight {
        self.weight_of(self.statement(release, &carried.source, &carried.id))
    }

    /// The same by what is said of it.
    pub(super) fn weight_of(&self, statement: Option<&Statement>) -> Weight {
        statement.map_or((Severity::Medium, false), |s| (s.severity, self.is_exploited(s)))
    }
}

/// How bad a finding is, and whether it is known to be exploited.
pub(super) type Weight = (Severity, bool);

impl HostRecord {
    /// A record that says nothing yet.
    pub(super) fn new(host: &HostId, root: Option<&Arc<str>>, owner: u32) -> Self {
        Self {
            id: host.clone(),
            root: root.cloned(),
            owner,
            presence: Presence::Here,
            shape: 0,
            carried: Vec::new(),
            accepted: Vec::new(),
        }
    }
}

impl FleetIndex {
    /// An index without hosts.
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            catalogue,
            hosts: Vec::new(),
            risks: Vec::new(),
            slots: BTreeMap::new(),
            root_slots: BTreeMap::new(),
            roots: RoaringBitmap::new(),
            free: Vec::new(),
            subjects: Default::default(),
            books: Default::default(),
            shapes: Default::default(),
            carrying: Default::default(),
            excepted: BTreeMap::new(),
            packages_unknown: RoaringBitmap::new(),
            secret: Secret::draw(),
            totals: Totals::default(),
        }
    }

    pub(super) fn slot(&mut self, host: &HostId, root: Option<&Arc<str>>) -> u32 {
        let known = match root {
            None => self.slots.get(host),
            Some(root) => self.root_slots.get(&(host.clone(), root.clone())),
        };
        if let Some(&slot) = known {
            return slot;
        }
        let slot = self.free.pop().unwrap_or(self.hosts.len() as u32);
        if slot as usize == self.hosts.len() {
            self.hosts.push(None);
            self.risks.push(Risk::default());
        }
        match root {
            None => {
                self.slots.insert(host.clone(), slot);
            }
            Some(root) => {
                self.root_slots.insert((host.clone(), root.clone()), slot);
                self.roots.insert(slot);
            }
        }
        slot
    }

    pub(super) fn at(&self, slot: u32) -> Option<&HostRecord> {
        self.hosts.get(slot as usize)?.as_ref()
    }

    /// A shape by its place; without one that of a system of which nothing is known.
    pub(super) fn outline(&self, shape: Option<u32>) -> Outline {
        match shape.and_then(|place| self.shapes.get(place)) {
            Some(shape) => Outline {
                release: shape.release.clone(),
                system: shape.system.clone(),
                subjects: shape.subjects.clone(),
            },
            None => Outline {
                release: "".into(),
                system: Arc::new(HostFacts::read(&Inventory::default()).system),
                subjects: Arc::default(),
            },
        }
    }

    /// The subject of a system about a source package.
    pub(super) fn subject_of(&self, outline: &Outline, source: &str) -> Option<&Subject> {
        let (book, _) = self.books.find(&outline.release, source)?;
        self.subjects.about(&outline.subjects, book)
    }

    /// The hit of a system, where it has one, of a vulnerability in a source package.
    pub(super) fn hit_of(
        &self,
        catalogue: &Catalogue,
        outline: &Outline,
        source: &str,
        id: &str,
    ) -> Option<(&Subject, Hit)> {
        let (at, book) = self.books.find(&outline.release, source)?;
        let subject = self.subjects.about(&outline.subjects, at)?;
        let rank = book.lines.rank(catalogue, id)?;
        let found = subject.hits.binary_search_by_key(&rank, |hit| hit.rank).ok()?;
        Some((subject, subject.hits[found]))
    }

    pub(super) fn is_hit(
        &self,
        catalogue: &Catalogue,
        outline: &Outline,
        source: &str,
        id: &str,
    ) -> bool {
        self.hit_of(catalogue, outline, source, id).is_some()
    }

    /// All findings of a system, in short.
    pub(super) fn shorts<'a>(
        &self,
        catalogue: &'a Catalogue,
        record: &'a HostRecord,
    ) -> Vec<Short<'a>> {
        let outline = self.outline(Some(record.shape));
        let accepted = &record.accepted;
        let mut all = Vec::new();
        for subject in outline.subjects.iter().filter_map(|place| self.subjects.get(*place)) {
            let Some(book) = self.books.get(subject.book) else { continue };
            let hits = subject.hits.iter();
            all.extend(hits.map(|h| Short::of_hit(catalogue, &book.lines, *h, accepted)));
        }
        all.extend(record.carried.iter().map(|carried| {
            let weight = catalogue.weight(&outline.release, carried);
            Short::of_carried(carried, weight, accepted)
        }));
        all
    }

    /// Lets a system carry these in place of those. Of a source package all that it carries is given up, or nothing.
    pub(super) fn carry_in_place_of(
        &mut self,
        slot: u32,
        record: &mut HostRecord,
        (release_before, dropped): (&str, Vec<Arc<Carried>>),
        (release, carried): (&str, Vec<Carried>),
    ) {
        if dropped.is_empty() && carried.is_empty() {
            return;
        }
        let mut left = Vec::new();
        for carried in &dropped {
            self.carrying.remove(slot, carried);
            if left.last() != Some(&carried.source) {
                left.push(carried.source.clone());
            }
        }
        if !left.is_empty() {
            let sources: BTreeSet<&Arc<str>> = left.iter().collect();
            record.carried.retain(|carried| !sources.contains(&carried.source));
        }
        for source in &left {
            if let Some((book, _)) = self.books.find(release_before, source)
                && let Some(book) = self.books.get_mut(book)
            {
                book.carriers.remove(slot);
            }
        }
        let catalogue = self.catalogue.clone();
        let mut last: Option<Arc<str>> = None;
        for carried in carried {
            if last.as_ref() != Some(&carried.source) {
                let book = self.books.open(&catalogue, release, &carried.source);
                if let Some(book) = self.books.get_mut(book) {
                    book.carriers.insert(slot);
                }
                last = Some(carried.source.clone());
            }
            record.carried.push(self.carrying.add(slot, carried));
        }
        for source in &left {
            if let Some((book, _)) = self.books.find(release_before, source) {
                self.books.close(book);
            }
        }
        record.carried.sort();
    }

    /// Notes the exceptions that hold for a system.
    pub(super) fn except(&mut self, slot: u32, record: &mut HostRecord, accepted: Vec<Exception>) {
        if record.accepted == accepted {
            return;
        }
        for exception in &record.accepted {
            if let Some(slots) = self.excepted.get_mut(&exception.id) {
                slots.remove(slot);
                if slots.is_empty() {
                    self.excepted.remove(&exception.id);
                }
            }
        }
        for exception in &accepted {
            self.excepted.entry(exception.id.clone()).or_default().insert(slot);
        }
        record.accepted = accepted;
    }

    /// Notes whether a system that is here could list its packages.
    pub(super) fn note(&mut self, slot: u32, system: Option<&SystemFacts>) {
        if system.is_some_and(|system| !system.packages_known) {
            self.packages_unknown.insert(slot);
        } else {
            self.packages_unknown.remove(slot);
        }
    }

    /// Forgets a host. Its findings, as they were, come back with nothing after; `None` where it is not known.
    pub fn remove_host(&mut self, host: &HostId) -> Option<Vec<FindingDelta>> {
        let slot = self.slots.remove(host)?;
        let mut gone = self.remove_system(slot)?;
        for (root, slot) in self.roots_of(host) {
            self.root_slots.remove(&(host.clone(), root.clone()));
            self.roots.remove(slot);
            gone.extend(named_deltas(&root, self.remove_system(slot).unwrap_or_default()));
        }
        Some(gone)
    }

    fn remove_system(&mut self, slot: u32) -> Option<Vec<FindingDelta>> {
        let mut old = self.hosts[slot as usize].take()?;
        let catalogue = self.catalogue.clone();
        let mut before = self.shorts(&catalogue, &old);
        self.totals.replace(&before, &[]);
        let deltas = deltas(&mut before, &mut []);
        drop(before);
        self.leave_all(slot, &mut old);
        self.except(slot, &mut old, Vec::new());
        self.risks[slot as usize] = Risk::default();
        self.free.push(slot);
        Some(deltas)
    }

    /// Takes a system out of its shape and subjects, and from it what it carries.
    pub(super) fn leave_all(&mut self, slot: u32, record: &mut HostRecord) {
        let outline = self.outline(Some(record.shape));
        let dropped = record.carried.clone();
        self.carry_in_place_of(slot, record, (&outline.release, dropped), ("", Vec::new()));
        for place in outline.subjects.iter() {
            self.subjects.leave(&mut self.books, *place, slot);
        }
        self.note(slot, None);
        self.shapes.leave(record.shape);
    }

    /// Replaces the exceptions that hold for a host; `None` where it is not known.
    pub fn set_exceptions(
        &mut self,
        host: &HostId,
        accepted: Vec<Exception>,
    ) -> Option<Vec<FindingDelta>> {
        let slot = *self.slots.get(host)?;
        let roots = self.roots_of(host).into_iter().map(|(root, slot)| {
            let accepted = roots::accepted(&root, &accepted);
            let changed = self.set_exceptions_of(slot, accepted).unwrap_or_default();
            named_deltas(&root, changed).collect::<Vec<_>>()
        });
        let of_roots: Vec<FindingDelta> = roots.flatten().collect();
        let mut changed = self.set_exceptions_of(slot, accepted)?;
        changed.extend(of_roots);
        Some(changed)
    }

    fn set_exceptions_of(
        &mut self,
        slot: u32,
        accepted: Vec<Exception>,
    ) -> Option<Vec<FindingDelta>> {
        let mut record = self.hosts[slot as usize].take()?;
        let catalogue = self.catalogue.clone();
        let outline = self.outline(Some(record.shape));
        // Nothing but what the one list or the other names can change.
        let ids: BTreeSet<&str> =
            record.accepted.iter().chain(&accepted).map(|e| e.id.as_str()).collect();
        let said = ids.iter().flat_map(|id| catalogue.statements_about(id));
        let said = said.filter(|s| *s.release == *release_of(&outline.release, &s.source));
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for statement in said {
            let found = self.hit_of(&catalogue, &outline, &statement.source, &statement.id);
            let Some((subject, hit)) = found else { continue };
            let Some(book) = self.books.get(subject.book) else { continue };
            before.push(Short::of_hit(&catalogue, &book.lines, hit, &record.accepted));
            after.push(Short::of_hit(&catalogue, &book.lines, hit, &accepted));
        }
        // As if its last report came once more: what an exception covered is not known any more.
        let sources: BTreeSet<Arc<str>> = record
            .carried
            .iter()
            .filter(|c| ids.contains(&*c.id))
            .map(|c| c.source.clone())
            .collect();
        let dropped: Vec<Arc<Carried>> =
            record.carried.iter().filter(|c| sources.contains(&c.source)).cloned().collect();
        let known = dropped.iter().map(|c| shown(c, &record.accepted)).collect();
        let (carried, _) = self.decide_again(&catalogue, record.presence, &outline, known);
        let short =
            |c, accepted| Short::of_carried(c, catalogue.weight(&outline.release, c), accepted);
        before.extend(dropped.iter().map(|c| short(c, &record.accepted)));
        after.extend(carried.iter().map(|c| short(c, &accepted)));
        let changed = deltas(&mut before, &mut after);
        self.totals.replace(&before, &after);
        self.risks[slot as usize].change(risk_of(&before), risk_of(&after));
        drop((before, after));
        let (from, to) = ((&*outline.release, dropped), (&*outline.release, carried));
        self.carry_in_place_of(slot, &mut record, from, to);
        self.except(slot, &mut record, accepted);
        self.hosts[slot as usize] = Some(record);
        Some(changed)
    }

    /// Decides anew about what is known of a system, which says what it said before.
    pub(super) fn decide_again(
        &self,
        catalogue: &Catalogue,
        presence: Presence,
        outline: &Outline,
        known: Vec<Known>,
    ) -> (Vec<Carried>, Vec<Withdrawn>) {
        if presence != Presence::Here {
            return (super::roots::with_its_root(presence, &known), Vec::new());
        }
        carry(
            catalogue,
            &outline.release,
            &outline.system,
            |source| self.subject_of(outline, source).map(|s| &*s.facts),
            known,
            &BTreeMap::new(),
            |source, id| self.is_hit(catalogue, outline, source, id),
        )
    }
}
