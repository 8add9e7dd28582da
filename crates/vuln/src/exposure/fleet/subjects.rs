//! Subjects: one source package as some hosts have it, judged once for all of them.

use super::risk::{self, Risk};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::{Known, SourceFacts, Told};
use crate::exposure::judge::{Hit, hits};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// One source package of one release, as some hosts have it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) release: Arc<str>,
    pub(super) facts: Arc<SourceFacts>,
    /// Sorted by vulnerability.
    pub(super) hits: Box<[Hit]>,
    /// Slots of the hosts.
    pub(super) hosts: RoaringBitmap,
    /// What it adds to the risk of each of them.
    pub(super) risk: Risk,
}

/// All subjects, each distinct one once.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    list: Vec<Option<Subject>>,
    /// By [`Told::number`]: the subjects with this number. Only looked up, never walked: its order would be no order.
    places: HashMap<u64, Vec<u32>>,
    free: Vec<u32>,
    /// By place of the vulnerability in the catalogue: the subjects that have it.
    by_vulnerability: Vec<RoaringBitmap>,
}

impl Subjects {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let by_vulnerability = vec![RoaringBitmap::new(); catalogue.vulnerability_count()];
        Self { by_vulnerability, ..Self::default() }
    }

    /// Puts a host into the subject with these facts, judging it where it is new.
    pub(super) fn join(
        &mut self,
        catalogue: &Catalogue,
        release: &Arc<str>,
        facts: &Arc<SourceFacts>,
        slot: u32,
    ) -> u32 {
        let number = Told::number_of(facts);
        let its = |place: &&u32| {
            self.get(**place).is_some_and(|subject| {
                let same = Arc::ptr_eq(&subject.facts, facts) || subject.facts == *facts;
                subject.release == *release && same
            })
        };
        let known = self.places.get(&number).and_then(|places| places.iter().find(its)).copied();
        let place = match known {
            Some(place) => place,
            None => {
                let mut subject = Subject {
                    release: release.clone(),
                    facts: facts.clone(),
                    hits: hits(catalogue, release, facts).into(),
                    hosts: RoaringBitmap::new(),
                    risk: Risk::default(),
                };
                subject.risk = risk::of_subject(catalogue, &subject);
                let place = self.free.pop().unwrap_or(self.list.len() as u32);
                for hit in &subject.hits {
                    self.by_vulnerability[catalogue.at(hit.statement).vulnerability as usize]
                        .insert(place);
                }
                if place as usize == self.list.len() {
                    self.list.push(None);
                }
                self.list[place as usize] = Some(subject);
                self.places.entry(number).or_default().push(place);
                place
            }
        };
        if let Some(subject) = &mut self.list[place as usize] {
            subject.hosts.insert(slot);
        }
        place
    }

    /// Takes a host out. A subject without hosts is forgotten.
    pub(super) fn leave(&mut self, catalogue: &Catalogue, place: u32, slot: u32) {
        let Some(Some(subject)) = self.list.get_mut(place as usize) else { return };
        subject.hosts.remove(slot);
        if !subject.hosts.is_empty() {
            return;
        }
        if let Some(gone) = self.list[place as usize].take() {
            for hit in &gone.hits {
                self.by_vulnerability[catalogue.at(hit.statement).vulnerability as usize]
                    .remove(place);
            }
            let number = Told::number_of(&gone.facts);
            if let Some(places) = self.places.get_mut(&number) {
                places.retain(|other| *other != place);
                if places.is_empty() {
                    self.places.remove(&number);
                }
            }
            self.free.push(place);
        }
    }

    /// The facts that were made before of what a host of this release says of a source package. Those of another release
    /// may have versions in another order.
    fn known(&self, release: &str, told: &Told<'_>) -> Option<&Arc<SourceFacts>> {
        let places = self.places.get(&told.number())?;
        let subjects = places.iter().filter_map(|place| self.get(*place));
        let same = subjects.filter(|subject| *subject.release == *release);
        same.map(|subject| &subject.facts).find(|facts| told.says(facts))
    }

    /// A subject that some host is in.
    pub(super) fn get(&self, place: u32) -> Option<&Subject> {
        self.list.get(place as usize)?.as_ref()
    }

    /// All subjects, by place.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Subject)> {
        self.list.iter().enumerate().filter_map(|(i, s)| Some((i as u32, s.as_ref()?)))
    }

    /// Subjects that have a vulnerability, by its place in the catalogue.
    pub(super) fn with_vulnerability(&self, place: usize) -> impl Iterator<Item = &Subject> {
        self.by_vulnerability.get(place).into_iter().flatten().filter_map(|p| self.get(p))
    }

    /// Judges every subject again, by another catalogue. Returns the places of those whose hits read differently.
    pub(super) fn judge_again(&mut self, old: &Catalogue, new: &Catalogue) -> RoaringBitmap {
        let mut changed = RoaringBitmap::new();
        self.by_vulnerability = vec![RoaringBitmap::new(); new.vulnerability_count()];
        for (place, subject) in self.list.iter_mut().enumerate() {
            let Some(subject) = subject else { continue };
            let hits: Box<[Hit]> = hits(new, &subject.release, &subject.facts).into();
            let same = hits.len() == subject.hits.len()
                && hits.iter().zip(&subject.hits).all(|(now, before)| {
                    let (said, says) = (old.at(before.statement), new.at(now.statement));
                    Hit { statement: 0, ..*now } == Hit { statement: 0, ..*before }
                        && (&said.id, said.severity) == (&says.id, says.severity)
                });
            if !same {
                changed.insert(place as u32);
            }
            for hit in &hits {
                self.by_vulnerability[new.at(hit.statement).vulnerability as usize]
                    .insert(place as u32);
            }
            subject.hits = hits;
            let before = std::mem::take(&mut subject.risk);
            subject.risk = risk::of_subject(new, subject);
            if subject.risk != before {
                changed.insert(place as u32);
            }
        }
        changed
    }
}

/// Facts that hosts of a release share.
pub(super) struct Sharing<'s> {
    pub(super) subjects: &'s Subjects,
    pub(super) release: &'s str,
}

impl Known for Sharing<'_> {
    fn known(&mut self, told: &Told<'_>) -> Option<Arc<SourceFacts>> {
        self.subjects.known(self.release, told).cloned()
    }
}
