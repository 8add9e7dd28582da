//! Shapes: what hosts alike have in common, kept once.

use super::books::Books;
use super::numbers::{ByNumber, NONE, Numbers};
use super::subjects::{Sharing, Subjects};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::{HostFacts, SystemFacts};
use crate::exposure::vendor::release_name;
use fettle_core::inventory::{Inventory, Os};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A system as it says it is.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// [`Numbers::whole`] of what it says.
    pub(super) number: u128,
    pub(super) os: Os,
    pub(super) release: Arc<str>,
    pub(super) system: Arc<SystemFacts>,
    /// Places of its subjects, sorted by their books.
    pub(super) subjects: Arc<[u32]>,
    /// How many systems are so.
    count: u32,
}

/// All shapes, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    list: Vec<Option<Shape>>,
    places: ByNumber<u32>,
    free: Vec<u32>,
}

impl Shapes {
    pub(super) fn get(&self, place: u32) -> Option<&Shape> {
        self.list.get(place as usize)?.as_ref()
    }

    /// The shape with this number, or one that is made now, taken by one system more.
    pub(super) fn take(&mut self, number: u128, make: impl FnOnce() -> Shape) -> u32 {
        let place = match self.places.get(&number) {
            Some(place) => *place,
            None => {
                let place = self.free.pop().unwrap_or(self.list.len() as u32);
                if place as usize == self.list.len() {
                    self.list.push(None);
                }
                self.list[place as usize] = Some(make());
                self.places.insert(number, place);
                place
            }
        };
        if let Some(shape) = &mut self.list[place as usize] {
            shape.count += 1;
        }
        place
    }

    /// Puts shapes where they were, taken by nobody.
    pub(super) fn restore(&mut self, list: Vec<Option<Shape>>) {
        let places = || (0..).zip(&list);
        self.places = places().filter_map(|(at, s)| Some((s.as_ref()?.number, at))).collect();
        self.free = places().filter_map(|(at, s)| s.is_none().then_some(at)).collect();
        self.list = list;
    }

    /// The shape at this place, taken by one system more.
    pub(super) fn taken(&mut self, place: u32) -> Option<&Shape> {
        let shape = self.list.get_mut(place as usize)?.as_mut()?;
        shape.count += 1;
        Some(shape)
    }

    /// All shapes, by place, and how many places there are.
    pub(super) fn all(&self) -> (usize, impl Iterator<Item = (u32, &Shape)>) {
        let there = (0..).zip(&self.list).filter_map(|(at, shape)| Some((at, shape.as_ref()?)));
        (self.list.len(), there)
    }

    /// One system is not so any more. A shape that no system has is forgotten.
    pub(super) fn leave(&mut self, place: u32) {
        let Some(Some(shape)) = self.list.get_mut(place as usize) else { return };
        shape.count -= 1;
        if shape.count == 0 {
            self.places.remove(&shape.number);
            self.list[place as usize] = None;
            self.free.push(place);
        }
    }
}

impl Shape {
    /// Of a system that says nothing of what it has.
    pub(super) fn of_nothing(number: u128, os: Os) -> Self {
        let release = release_name(&os).into();
        let system = Arc::new(HostFacts::read(&Inventory::default()).system);
        Self { number, os, release, system, subjects: Arc::default(), count: 0 }
    }

    /// As it was, taken by nobody.
    pub(super) fn of_parts(
        number: u128,
        os: Os,
        system: Arc<SystemFacts>,
        subjects: Arc<[u32]>,
    ) -> Self {
        let release = release_name(&os).into();
        Self { number, os, release, system, subjects, count: 0 }
    }

    /// Reads an inventory: of what its numbers say was read before, nothing.
    pub(super) fn of(
        catalogue: &Catalogue,
        subjects: &mut Subjects,
        books: &mut Books,
        numbers: &Numbers<'_>,
        inventory: &Inventory,
    ) -> Self {
        let release: Arc<str> = release_name(&inventory.os).into();
        let known: Vec<Option<u32>> = numbers
            .sources
            .iter()
            .map(|source| Some(source.number).filter(|_| !source.of_kernel))
            .map(|number| number.and_then(|number| subjects.told(number)))
            .collect();
        let wanted =
            |list: &[u32], at: usize| list[at] != NONE && known[list[at] as usize].is_none();
        let read = HostFacts::read_some(
            inventory,
            &mut Sharing { subjects, books, release: &release },
            |at| wanted(&numbers.packages, at),
            |at| wanted(&numbers.languages, at),
        );
        let mut unknown: Vec<(&str, u128)> = numbers
            .sources
            .iter()
            .zip(&known)
            .filter(|(source, known)| known.is_none() && !source.of_kernel)
            .map(|(source, _)| (source.name.as_ref(), source.number))
            .collect();
        unknown.sort_unstable();
        let mut unknown = unknown.into_iter().peekable();
        let mut places: Vec<u32> = known.iter().flatten().copied().collect();
        // Both are sorted by name.
        for facts in read.sources {
            let told = unknown.next_if(|(name, _)| *name == &*facts.source);
            let place = subjects.place_of(catalogue, books, &release, facts);
            if let Some((_, number)) = told {
                subjects.remember(number, place);
            }
            places.push(place);
        }
        places.sort_unstable_by_key(|place| subjects.book(*place));
        let mut system = read.system;
        let mut odd: BTreeSet<String> = system.odd_versions.drain(..).collect();
        for subject in subjects.odd(&places) {
            odd.extend(subject.facts.odd.iter().map(|odd| odd.to_string()));
        }
        system.odd_versions = odd.into_iter().collect();
        Self {
            number: numbers.whole,
            os: inventory.os.clone(),
            release,
            system: Arc::new(system),
            subjects: places.into(),
            count: 0,
        }
    }
}
