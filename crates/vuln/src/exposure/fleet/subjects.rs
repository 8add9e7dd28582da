//! Subjects: one source package as some hosts have it, judged once for all of them.

use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::SourceFacts;
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
}

/// All subjects, each distinct one once.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    list: Vec<Option<Subject>>,
    /// Only looked up, never walked: its order would be no order.
    places: HashMap<(Arc<str>, Arc<SourceFacts>), u32>,
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
        let key = (release.clone(), facts.clone());
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => {
                let subject = Subject {
                    release: release.clone(),
                    facts: facts.clone(),
                    hits: hits(catalogue, release, facts).into(),
                    hosts: RoaringBitmap::new(),
                };
                let place = self.free.pop().unwrap_or(self.list.len() as u32);
                for hit in &subject.hits {
                    self.by_vulnerability[catalogue.at(hit.statement).vulnerability as usize]
                        .insert(place);
                }
                if place as usize == self.list.len() {
                    self.list.push(None);
                }
                self.list[place as usize] = Some(subject);
                self.places.insert(key, place);
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
            self.places.remove(&(gone.release, gone.facts));
            self.free.push(place);
        }
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
        }
        changed
    }
}
