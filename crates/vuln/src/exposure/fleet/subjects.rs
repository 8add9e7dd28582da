//! Subjects: one source package as some hosts have it, judged once for all of them.

use super::Risk;
use super::books::{Books, Hit};
use super::numbers::ByNumber;
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::{Keyed, Known, SourceFacts, Told};
use roaring::RoaringBitmap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One source package of one release, as some hosts have it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// What is said of it.
    pub(super) book: u32,
    pub(super) facts: Arc<SourceFacts>,
    /// Sorted by rank, and so by vulnerability.
    pub(super) hits: Box<[Hit]>,
    /// Slots of the hosts.
    pub(super) hosts: RoaringBitmap,
    /// What it adds to the risk of each of them.
    pub(super) risk: Risk,
    /// Which subject at this place it is.
    serial: u32,
    /// Another subject with the same number of its facts.
    next: Option<u32>,
}

/// A subject as it was kept: its book, its facts, its hits, its hosts.
pub(super) type Kept = (u32, SourceFacts, Vec<Hit>, RoaringBitmap);

/// All subjects, each distinct one once.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    list: Vec<Option<Subject>>,
    /// The book of each place: hosts' lists are sorted by it.
    books: Vec<u32>,
    /// By [`Told::number`] and book: the first of the subjects with this number. Only looked up, never walked: its order would
    /// be no order.
    places: HashMap<(u32, u64), u32>,
    /// By the number of what inventories say: place and serial of the subject that was made of it.
    told: ByNumber<(u32, u32)>,
    /// Entries above which those of subjects that are gone are looked for.
    told_limit: usize,
    /// Subjects some of whose versions are not well-formed.
    odd: RoaringBitmap,
    words: Words,
    free: Vec<u32>,
    serial: u32,
}

/// One shared copy of each text.
#[derive(Debug, Clone, Default)]
struct Words {
    known: HashSet<Arc<str>>,
    limit: usize,
}

impl Words {
    fn share(&mut self, text: &mut Arc<str>) {
        match self.known.get(text) {
            Some(known) => *text = known.clone(),
            None => {
                self.known.insert(text.clone());
            }
        }
    }

    /// Forgets what nobody holds any more, when there may be as much of it as of the rest.
    fn tidy(&mut self) {
        if self.known.len() > self.limit {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.limit = 2 * self.known.len() + 1024;
        }
    }
}

impl Subjects {
    /// The place of the subject with these facts; where there is none, it is made, and judged.
    pub(super) fn place_of(
        &mut self,
        catalogue: &Catalogue,
        books: &mut Books,
        release: &str,
        facts: Arc<SourceFacts>,
    ) -> u32 {
        let at = books.open(catalogue, release, &facts.source);
        let key = (at, Told::number_of(&facts));
        let same = |facts: &Arc<SourceFacts>, other: &Arc<SourceFacts>| {
            Arc::ptr_eq(facts, other) || facts == other
        };
        let first = self.places.get(&key).copied();
        let known = self.chain(first).find(|(_, s)| same(&s.facts, &facts)).map(|(at, _)| at);
        if let Some(known) = known {
            return known;
        }
        let place = self.free.pop().unwrap_or(self.list.len() as u32);
        if place as usize == self.list.len() {
            self.list.push(None);
            self.books.push(0);
        }
        let facts = self.with_shared_words(facts);
        self.serial = self.serial.wrapping_add(1);
        let mut subject = Subject {
            book: at,
            hits: Box::default(),
            hosts: RoaringBitmap::new(),
            risk: Risk::default(),
            serial: self.serial,
            next: first,
            facts,
        };
        if let Some(book) = books.get_mut(at) {
            subject.hits = book.lines.judge(catalogue, &subject.facts);
            subject.risk = book.lines.risk(&subject.hits);
            book.subjects.insert(place);
        }
        if !subject.facts.odd.is_empty() {
            self.odd.insert(place);
        }
        self.places.insert(key, place);
        self.books[place as usize] = at;
        self.list[place as usize] = Some(subject);
        place
    }

    fn chain(&self, first: Option<u32>) -> impl Iterator<Item = (u32, &Subject)> {
        let with = |at: u32| self.get(at).map(|subject| (at, subject));
        std::iter::successors(first.and_then(with), move |(_, s)| s.next.and_then(with))
    }

    fn with_shared_words(&mut self, facts: Arc<SourceFacts>) -> Arc<SourceFacts> {
        let mut facts = Arc::unwrap_or_clone(facts);
        let words = &mut self.words;
        let share = |version: &mut Keyed, words: &mut Words| words.share(&mut version.text);
        words.share(&mut facts.source);
        for group in &mut facts.groups {
            share(&mut group.version, words);
            group.binaries.shrink_to_fit();
            group.binaries.iter_mut().for_each(|name| words.share(name));
        }
        facts.groups.shrink_to_fit();
        if let Some(kernel) = &mut facts.kernel {
            share(&mut kernel.version, words);
            words.share(&mut kernel.binary);
        }
        if let Some(offered) = &mut facts.offered {
            share(offered, words);
        }
        Arc::new(facts)
    }

    /// Puts a host into a subject.
    pub(super) fn join(&mut self, books: &mut Books, place: u32, slot: u32) {
        let Some(Some(subject)) = self.list.get_mut(place as usize) else { return };
        if subject.hosts.insert(slot)
            && let Some(book) = books.get_mut(subject.book)
        {
            book.count(&subject.hits, 1);
        }
    }

    /// Takes a host out. A subject without hosts is forgotten.
    pub(super) fn leave(&mut self, books: &mut Books, place: u32, slot: u32) {
        let Some(Some(subject)) = self.list.get_mut(place as usize) else { return };
        if subject.hosts.remove(slot)
            && let Some(book) = books.get_mut(subject.book)
        {
            book.count(&subject.hits, -1);
        }
        if !subject.hosts.is_empty() {
            return;
        }
        let key = (subject.book, Told::number_of(&subject.facts));
        let next = subject.next;
        match self.places.get(&key).copied() {
            Some(first) if first == place => match next {
                Some(next) => drop(self.places.insert(key, next)),
                None => drop(self.places.remove(&key)),
            },
            first => {
                let before = self.chain(first).find(|(_, s)| s.next == Some(place));
                if let Some(before) = before.map(|(at, _)| at)
                    && let Some(before) = &mut self.list[before as usize]
                {
                    before.next = next;
                }
            }
        }
        if let Some(book) = books.get_mut(key.0) {
            book.subjects.remove(place);
        }
        books.close(key.0);
        self.odd.remove(place);
        self.list[place as usize] = None;
        self.free.push(place);
        self.words.tidy();
    }

    /// The subject that was made of what an inventory says with this number.
    pub(super) fn told(&self, number: u128) -> Option<u32> {
        let (place, serial) = *self.told.get(&number)?;
        self.get(place).is_some_and(|subject| subject.serial == serial).then_some(place)
    }

    /// Remembers of which subject an inventory tells by this number.
    pub(super) fn remember(&mut self, number: u128, place: u32) {
        let Some(serial) = self.get(place).map(|subject| subject.serial) else { return };
        self.told.insert(number, (place, serial));
        if self.told.len() > self.told_limit {
            let list = &self.list;
            self.told.retain(|_, (place, serial)| {
                let there = list.get(*place as usize).and_then(Option::as_ref);
                there.is_some_and(|subject| subject.serial == *serial)
            });
            self.told_limit = 2 * self.told.len() + 1024;
        }
    }

    /// The facts that were made before of what a host of this release says of a source package. Those of another release
    /// may have versions in another order.
    fn known(&self, books: &Books, release: &str, told: &Told<'_>) -> Option<&Arc<SourceFacts>> {
        let (book, _) = books.find(release, told.source())?;
        let first = self.places.get(&(book, told.number())).copied();
        self.chain(first).map(|(_, subject)| &subject.facts).find(|facts| told.says(facts))
    }

    /// A subject that some host is in.
    pub(super) fn get(&self, place: u32) -> Option<&Subject> {
        self.list.get(place as usize)?.as_ref()
    }

    /// Likewise, to be changed.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Subject> {
        self.list.get_mut(place as usize)?.as_mut()
    }

    /// The book of the subject at a place.
    pub(super) fn book(&self, place: u32) -> u32 {
        self.books[place as usize]
    }

    /// The subject about a book in a list that is sorted by book.
    pub(super) fn about(&self, places: &[u32], book: u32) -> Option<&Subject> {
        let found = places.binary_search_by_key(&book, |place| self.book(*place)).ok()?;
        self.get(places[found])
    }

    /// Those of these subjects some of whose versions are not well-formed.
    pub(super) fn odd(&self, places: &[u32]) -> impl Iterator<Item = &Subject> {
        let places = places.iter().filter(|_| !self.odd.is_empty());
        places.filter(|place| self.odd.contains(**place)).filter_map(|place| self.get(*place))
    }

    /// Puts subjects where they were, each with its book, facts, hits and hosts. `None`: they are of no such book, or have
    /// hits of statements that it does not have.
    pub(super) fn restore(&mut self, books: &mut Books, list: Vec<Option<Kept>>) -> Option<()> {
        for (place, kept) in (0..).zip(list) {
            let Some((at, facts, hits, hosts)) = kept else {
                self.free.push(place);
                self.list.push(None);
                self.books.push(0);
                continue;
            };
            let book = books.get_mut(at)?;
            let fits = |hit: &Hit| (hit.rank as usize) < book.lines.lines.len();
            if !hits.iter().all(fits) || !hits.is_sorted_by(|a, b| a.rank < b.rank) {
                return None;
            }
            book.subjects.insert(place);
            if !facts.odd.is_empty() {
                self.odd.insert(place);
            }
            self.serial += 1;
            let next = self.places.insert((at, Told::number_of(&facts)), place);
            let (risk, serial) = (book.lines.risk(&hits), self.serial);
            let (facts, hits) = (self.with_shared_words(facts.into()), hits.into());
            self.books.push(at);
            self.list.push(Some(Subject { book: at, facts, hits, hosts, risk, serial, next }));
        }
        Some(())
    }

    /// All subjects, by place, and how many places there are.
    pub(super) fn all(&self) -> (usize, impl Iterator<Item = (u32, &Subject)>) {
        let there = (0..).zip(&self.list).filter_map(|(at, one)| Some((at, one.as_ref()?)));
        (self.list.len(), there)
    }

    /// Which inventories' words are known, by their numbers, and to tell of the subject at which place. Sorted.
    pub(super) fn all_told(&self) -> Vec<(u128, u32)> {
        let told = self.told.iter().map(|(number, (place, serial))| (*number, *place, *serial));
        let is_there = |&(_, place, serial): &(u128, u32, u32)| {
            self.get(place).is_some_and(|subject| subject.serial == serial)
        };
        let mut told: Vec<_> = told.filter(is_there).map(|(n, place, _)| (n, place)).collect();
        told.sort_unstable();
        told
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.list.len() - self.free.len()
    }
}

/// Facts that hosts of a release share.
pub(super) struct Sharing<'s> {
    pub(super) subjects: &'s Subjects,
    pub(super) books: &'s Books,
    pub(super) release: &'s str,
}

impl Known for Sharing<'_> {
    fn known(&mut self, told: &Told<'_>) -> Option<Arc<SourceFacts>> {
        self.subjects.known(self.books, self.release, told).cloned()
    }
}
