//! Changes in, deltas out.

use super::roots::with_its_root;
use super::subjects::{Sharing, Subject, Subjects};
use super::{FleetIndex, HostRecord, Presence, Risk, Totals};
use crate::exposure::carry::{Carried, Known, carry};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::HostFacts;
use crate::exposure::judge::{Hit, finding, has_hit, state_with};
use crate::exposure::roots::{self, named, systems};
use crate::exposure::vendor::release_name;
use crate::exposure::{Coverage, Exception, HostView, Withdrawn};
use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState, Severity};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A finding that appeared, changed its state, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingDelta {
    /// The vulnerability.
    pub id: String,
    /// Source package.
    pub source: String,
    /// State before; `None`: it is new.
    pub before: Option<FindingState>,
    /// State now; `None`: it is gone without proof (see [`HostChange::withdrawn`]), or its host is.
    pub after: Option<FindingState>,
}

/// What a host's report changed.
#[derive(Debug, Clone, PartialEq)]
pub struct HostChange {
    /// What of the host can be judged.
    pub coverage: Coverage,
    /// What of each root on it, by [`fettle_core::root::Root::id`].
    pub roots: BTreeMap<String, Coverage>,
    /// By source package, then vulnerability.
    pub deltas: Vec<FindingDelta>,
    /// Findings that went without a fix, and why.
    pub withdrawn: Vec<Withdrawn>,
}

/// What a new catalogue changed, for all hosts it changed alike.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueChange {
    /// What became of the finding.
    pub delta: FindingDelta,
    /// Slots of the hosts: [`FleetIndex::host_at`].
    pub hosts: RoaringBitmap,
}

/// Source and vulnerability → state and severity.
pub(super) type Part = BTreeMap<(Arc<str>, Arc<str>), (FindingState, Severity)>;

/// Hits of a subject: all of them, or those that another subject does not have alike.
pub(super) struct Hits<'a> {
    subject: &'a Subject,
    hits: Cow<'a, [Hit]>,
}

impl<'a> Hits<'a> {
    pub(super) fn all(subject: &'a Subject) -> Self {
        Self { subject, hits: Cow::Borrowed(&subject.hits) }
    }

    /// Takes away what two subjects of the same source have alike: most of what a package had it has after its upgrade.
    fn without_same(&mut self, other: &mut Hits<'a>) {
        let (mut mine, mut its) = (Vec::new(), Vec::new());
        let mut theirs = other.hits.iter().peekable();
        for hit in self.hits.iter() {
            while let Some(before) = theirs.next_if(|h| h.statement < hit.statement) {
                its.push(*before);
            }
            match theirs.next_if(|h| h.statement == hit.statement) {
                Some(same) if same.state == hit.state => {}
                Some(changed) => {
                    its.push(*changed);
                    mine.push(*hit);
                }
                None => mine.push(*hit),
            }
        }
        its.extend(theirs);
        self.hits = mine.into();
        other.hits = its.into();
    }
}

/// Takes away what stays as it was, source by source.
fn without_same<'a>(was: &mut [Hits<'a>], is: &mut [Hits<'a>]) {
    let by = |hits: &Hits<'_>| (hits.subject.release.clone(), hits.subject.facts.source.clone());
    let places: BTreeMap<(Arc<str>, Arc<str>), usize> =
        is.iter().enumerate().map(|(place, hits)| (by(hits), place)).collect();
    for was in was {
        if let Some(place) = places.get(&by(was)) {
            was.without_same(&mut is[*place]);
        }
    }
}

/// The findings of some subjects and of what is carried over.
pub(super) fn part<'a>(
    catalogue: &Catalogue,
    subjects: impl Iterator<Item = &'a Subject>,
    release: &str,
    carried: &[Carried],
    accepted: &[Exception],
) -> Part {
    let subjects: Vec<Hits<'_>> = subjects.map(Hits::all).collect();
    part_by(catalogue, &subjects, release, carried, accepted)
}

fn part_by(
    catalogue: &Catalogue,
    subjects: &[Hits<'_>],
    release: &str,
    carried: &[Carried],
    accepted: &[Exception],
) -> Part {
    let mut part = Part::new();
    for carried in carried {
        let severity = catalogue
            .statement(release, &carried.source, &carried.id)
            .map_or(Severity::Medium, |s| s.severity);
        let state = state_with(carried.state, &carried.id, &carried.source, accepted);
        part.insert((carried.source.clone(), carried.id.clone()), (state, severity));
    }
    for subject in subjects {
        for hit in subject.hits.iter() {
            let statement = catalogue.at(hit.statement);
            let state = state_with(hit.state, &statement.id, &statement.source, accepted);
            part.insert(
                (statement.source.clone(), statement.id.clone()),
                (state, statement.severity),
            );
        }
    }
    part
}

impl HostChange {
    /// Adds what changed in a root.
    fn absorb(&mut self, root: &str, change: HostChange) {
        self.roots.insert(root.to_owned(), change.coverage);
        self.deltas.extend(named_deltas(root, change.deltas));
        let withdrawn = change.withdrawn.into_iter();
        self.withdrawn.extend(withdrawn.map(|w| {
            let source = named(Some(root), &w.source);
            Withdrawn { source, ..w }
        }));
    }
}

/// Under the names that they have on the host.
fn named_deltas(root: &str, deltas: Vec<FindingDelta>) -> impl Iterator<Item = FindingDelta> {
    deltas.into_iter().map(move |d| {
        let source = named(Some(root), &d.source);
        FindingDelta { source, ..d }
    })
}

pub(super) fn deltas(before: &Part, after: &Part) -> Vec<FindingDelta> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let state = |part: &Part, key| part.get(key).map(|(state, _)| *state);
    keys.into_iter()
        .filter(|key| state(before, key) != state(after, key))
        .map(|key| FindingDelta {
            id: key.1.to_string(),
            source: key.0.to_string(),
            before: state(before, key),
            after: state(after, key),
        })
        .collect()
}

/// What is known of a host's findings in these subjects.
pub(super) fn known(
    catalogue: &Catalogue,
    record: &HostRecord,
    subjects: &[Hits<'_>],
) -> Vec<Known> {
    let of = |s: &Hits<'_>, hit| {
        Known::from(&finding(catalogue, &record.id, &s.subject.facts, hit, &record.accepted))
    };
    let mut known: Vec<Known> =
        subjects.iter().flat_map(|s| s.hits.iter().map(|h| of(s, h))).collect();
    known.extend(record.carried.iter().map(|carried| {
        let state = state_with(carried.state, &carried.id, &carried.source, &record.accepted);
        Known { state, ..Known::from(carried) }
    }));
    known
}

impl FleetIndex {
    /// An index without hosts.
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            subjects: Subjects::new(&catalogue),
            catalogue,
            hosts: Vec::new(),
            slots: BTreeMap::new(),
            root_slots: BTreeMap::new(),
            roots: RoaringBitmap::new(),
            free: Vec::new(),
            excepted: RoaringBitmap::new(),
            totals: Totals::default(),
        }
    }

    /// Takes a host's inventory. Findings known to the index from its last report count as known before;
    /// [`HostView::previous`] is for hosts the index does not know yet (at start, from the store). Its exceptions
    /// replace the ones of before.
    pub fn set_host(&mut self, view: &HostView<'_>) -> HostChange {
        let nothing = BTreeMap::new();
        let mut whole: Option<HostChange> = None;
        let mut listed: BTreeSet<Arc<str>> = BTreeSet::new();
        for system in systems(view) {
            let root: Option<Arc<str>> = system.root.as_deref().map(Into::into);
            let change = self.set_system(root.as_ref(), &system.view(view, &nothing));
            match (&mut whole, root) {
                (Some(whole), Some(root)) => {
                    whole.absorb(&root, change);
                    listed.insert(root);
                }
                _ => whole = Some(change),
            }
        }
        let Some(mut whole) = whole else {
            // Invariant: the host itself is among its systems.
            return self.set_system(None, view);
        };
        for (root, deltas) in self.leave_roots(view, &listed) {
            let coverage = Coverage::NoPackages { release: String::new(), gaps: Vec::new() };
            let roots = BTreeMap::new();
            let change = HostChange { coverage, roots, deltas, withdrawn: Vec::new() };
            whole.absorb(&root, change);
            whole.roots.remove(root.as_ref());
        }
        whole.deltas.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        whole
    }

    /// Takes the inventory of one system: a host without its roots, or a root.
    fn set_system(&mut self, root: Option<&Arc<str>>, view: &HostView<'_>) -> HostChange {
        let catalogue = self.catalogue.clone();
        let release: Arc<str> = release_name(&view.inventory.os).into();
        let mut sharing = Sharing { subjects: &self.subjects, release: &release };
        let facts = HostFacts::read_by(view.inventory, &mut sharing);
        let owner = self.slot(view.host, None);
        let slot = self.slot(view.host, root);
        let old = self.hosts[slot as usize].take();

        // Join first and leave later, so that a subject that only this host has is not judged again.
        let joined: Vec<u32> = facts
            .sources
            .iter()
            .map(|s| self.subjects.join(&catalogue, &release, s, slot))
            .collect();
        let old_places: BTreeSet<u32> = old.iter().flat_map(|o| &o.subjects).copied().collect();
        let new_places: BTreeSet<u32> = joined.iter().copied().collect();
        let same_exceptions = old.as_ref().is_some_and(|o| o.accepted == view.accepted);
        // An exception may reach into any subject.
        let differs = |mine: &BTreeSet<u32>, other: &BTreeSet<u32>| -> Vec<u32> {
            mine.iter().filter(|p| !same_exceptions || !other.contains(p)).copied().collect()
        };
        let hits = |places: Vec<u32>| -> Vec<Hits<'_>> {
            places.into_iter().filter_map(|p| self.subjects.get(p)).map(Hits::all).collect()
        };
        let mut was = hits(differs(&old_places, &new_places));
        let mut is = hits(differs(&new_places, &old_places));
        if same_exceptions {
            without_same(&mut was, &mut is);
        }

        let (mut before, mut known_before) = (Part::new(), Vec::new());
        if let Some(old) = &old {
            let release = release_name(&old.os);
            before = part_by(&catalogue, &was, &release, &old.carried, &old.accepted);
            known_before = known(&catalogue, old, &was);
            self.totals.subtract(&before);
        } else {
            known_before.extend(view.previous.iter().map(Known::from));
            for f in view.previous {
                before.insert(
                    (f.source.as_str().into(), f.id.as_str().into()),
                    (f.state, f.severity()),
                );
            }
        }
        let is_hit = |source: &str, id: &str| {
            let found = facts.sources.binary_search_by(|s| s.source.as_ref().cmp(source)).ok();
            let subject = found.and_then(|i| self.subjects.get(joined[i]));
            subject.is_some_and(|s| has_hit(&catalogue, &s.hits, id))
        };
        let (carried, withdrawn) =
            carry(&catalogue, &release, &facts, known_before, view.ran_before, is_hit);
        let after = part_by(&catalogue, &is, &release, &carried, view.accepted);
        self.totals.add(&after);
        for &place in old_places.difference(&new_places) {
            self.subjects.leave(&catalogue, place, slot);
        }
        let coverage = catalogue.coverage(&view.inventory.os, &facts);
        self.note_exceptions(slot, !view.accepted.is_empty());
        self.keep(
            slot,
            HostRecord {
                id: view.host.clone(),
                root: root.cloned(),
                owner,
                presence: Presence::Here,
                os: view.inventory.os.clone(),
                facts: self.shared(facts, &joined),
                subjects: joined,
                carried,
                accepted: view.accepted.to_vec(),
                risk: Risk::default(),
            },
        );
        let deltas = deltas(&before, &after);
        HostChange { coverage, roots: BTreeMap::new(), deltas, withdrawn }
    }

    /// Puts a record into its slot, with its risk.
    pub(super) fn keep(&mut self, slot: u32, mut record: HostRecord) {
        record.risk = self.risk_of(&record);
        self.hosts[slot as usize] = Some(record);
    }

    /// Replaces a host's facts by the equal ones its subjects hold.
    fn shared(&self, mut facts: HostFacts, places: &[u32]) -> HostFacts {
        for (source, &place) in facts.sources.iter_mut().zip(places) {
            if let Some(subject) = self.subjects.get(place) {
                *source = subject.facts.clone();
            }
        }
        facts
    }

    pub(super) fn note_exceptions(&mut self, slot: u32, any: bool) {
        if any {
            self.excepted.insert(slot);
        } else {
            self.excepted.remove(slot);
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
        let old = self.hosts[slot as usize].take()?;
        self.free.push(slot);
        self.excepted.remove(slot);
        let before = self.part_of(&old);
        self.totals.subtract(&before);
        let catalogue = self.catalogue.clone();
        for &place in &old.subjects {
            self.subjects.leave(&catalogue, place, slot);
        }
        Some(deltas(&before, &Part::new()))
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
        let before = self.part_of(&record);
        // As if its last report came once more: what an exception covered is not known any more.
        let known = known(&self.catalogue, &record, &[]);
        (record.carried, _) = self.carry_again(&self.catalogue, &record, known);
        record.accepted = accepted;
        self.note_exceptions(slot, !record.accepted.is_empty());
        let after = self.part_of(&record);
        self.keep(slot, record);
        self.totals.subtract(&before);
        self.totals.add(&after);
        Some(deltas(&before, &after))
    }

    /// Decides anew about what is known of a system, which says what it said before.
    fn carry_again(
        &self,
        catalogue: &Catalogue,
        record: &HostRecord,
        known: Vec<Known>,
    ) -> (Vec<Carried>, Vec<Withdrawn>) {
        if record.presence != Presence::Here {
            return (with_its_root(record.presence, &known), Vec::new());
        }
        let sources = &record.facts.sources;
        let is_hit = |source: &str, id: &str| {
            let found = sources.binary_search_by(|s| s.source.as_ref().cmp(source)).ok();
            let subject = found.and_then(|i| self.subjects.get(record.subjects[i]));
            subject.is_some_and(|s| has_hit(catalogue, &s.hits, id))
        };
        carry(catalogue, &release_name(&record.os), &record.facts, known, &BTreeMap::new(), is_hit)
    }

    /// All findings of a host, in short.
    pub(super) fn part_of(&self, record: &HostRecord) -> Part {
        let subjects = record.subjects.iter().filter_map(|&p| self.subjects.get(p));
        part(
            &self.catalogue,
            subjects,
            &release_name(&record.os),
            &record.carried,
            &record.accepted,
        )
    }

    /// Judges all hosts by another catalogue: each distinct subject once. Returns what changed, by source package and
    /// vulnerability, and for each host the findings that went because of what vendors say now.
    pub fn replace_catalogue(
        &mut self,
        new: Arc<Catalogue>,
    ) -> (Vec<CatalogueChange>, Vec<(HostId, Withdrawn)>) {
        let old = std::mem::replace(&mut self.catalogue, new.clone());
        let previous = self.subjects.clone();
        let changed = self.subjects.judge_again(&old, &new);
        let mut grouped: BTreeMap<
            (String, String, Option<FindingState>, Option<FindingState>),
            RoaringBitmap,
        > = BTreeMap::new();
        let mut all_withdrawn = Vec::new();
        for slot in 0..self.hosts.len() as u32 {
            let Some(mut record) = self.hosts[slot as usize].take() else { continue };
            let places: Vec<u32> =
                record.subjects.iter().copied().filter(|&p| changed.contains(p)).collect();
            let release = release_name(&record.os);
            let was = places.iter().filter_map(|&p| previous.get(p));
            let was: Vec<Hits<'_>> = was.map(Hits::all).collect();
            let before = part_by(&old, &was, &release, &record.carried, &record.accepted);
            let known_before = known(&old, &record, &was);
            let (carried, withdrawn) = self.carry_again(&new, &record, known_before);
            let is = places.iter().filter_map(|&p| self.subjects.get(p));
            let after = part(&new, is, &release, &carried, &record.accepted);
            let root = record.root.as_deref();
            all_withdrawn.extend(withdrawn.into_iter().map(|w| {
                let source = named(root, &w.source);
                (record.id.clone(), Withdrawn { source, ..w })
            }));
            for d in deltas(&before, &after) {
                let key = (named(root, &d.source), d.id, d.before, d.after);
                grouped.entry(key).or_default().insert(record.owner);
            }
            let same = places.is_empty() && carried == record.carried && carried.is_empty();
            record.carried = carried;
            match same {
                true => self.hosts[slot as usize] = Some(record),
                false => self.keep(slot, record),
            }
        }
        self.totals = self.recount();
        let changes = grouped.into_iter().map(|((source, id, before, after), hosts)| {
            CatalogueChange { delta: FindingDelta { id, source, before, after }, hosts }
        });
        (changes.collect(), all_withdrawn)
    }

    /// Counts from nothing. What the running totals must equal at any time.
    pub(crate) fn recount(&self) -> Totals {
        let mut totals = Totals::default();
        for record in self.hosts.iter().flatten() {
            totals.add(&self.part_of(record));
        }
        totals
    }

    /// A host's findings as they stand, by source package and vulnerability; `None` where it is not known.
    pub fn findings_of(&self, host: &HostId) -> Option<Vec<Finding>> {
        let record = self.hosts[*self.slots.get(host)? as usize].as_ref()?;
        let mut findings = self.findings_in(record);
        let roots = self.roots_of(host).into_iter();
        let roots = roots.filter_map(|(_, slot)| self.hosts[slot as usize].as_ref());
        findings.extend(roots.flat_map(|root| self.findings_in(root)));
        findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        Some(findings)
    }
}
