//! Books: what a catalogue says of one source package of one release, made ready to be held against many facts, and who of
//! the fleet is concerned.
//!
//! A hit is kept as the rank of its statement within the book. So hits stay as they are where a new catalogue has another
//! place for the book but the same statements in it.

use super::Risk;
use super::subjects::Subjects;
use crate::exposure::Exception;
use crate::exposure::carry::Known;
use crate::exposure::catalogue::{Catalogue, Statement};
use crate::exposure::facts::{Group, Keyed, SourceFacts};
use crate::exposure::judge;
use crate::exposure::slices::Slice;
use crate::exposure::vendor::release_of;
use fettle_core::HostId;
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::{Finding, FindingState, Severity};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// One vulnerability of one source package, as it stands for every host of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    /// Rank of the statement in its book.
    pub(super) rank: u32,
    /// `Open`, `NoFixYet` or `PendingReboot`.
    pub(super) state: FindingState,
    flags: u8,
}

impl Hit {
    /// The same by a statement of this rank, which makes the same hits.
    pub(super) fn at(self, rank: u32) -> Self {
        Self { rank, ..self }
    }

    const KERNEL: u8 = 1;
    const OFFERED: u8 = 2;
    const IN_USE: u8 = 4;
    const EXPOSED: u8 = 8;

    fn new(rank: u32, state: FindingState, [kernel, offered, in_use, exposed]: [bool; 4]) -> Self {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(kernel, Self::KERNEL)
            | flag(offered, Self::OFFERED)
            | flag(in_use, Self::IN_USE)
            | flag(exposed, Self::EXPOSED);
        Self { rank, state, flags }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What [`Hit::of_parts`] makes one of again, beside rank and state.
    pub(super) fn flags(self) -> u8 {
        self.flags
    }

    /// As it was.
    pub(super) fn of_parts(rank: u32, state: FindingState, flags: u8) -> Self {
        Self { rank, state, flags }
    }

    /// Do the host's own sources offer a fixed version?
    pub(super) fn offered(self) -> bool {
        self.has(Self::OFFERED)
    }

    /// Does something of what is affected run?
    pub(super) fn in_use(self) -> bool {
        self.has(Self::IN_USE)
    }

    /// Does it listen beyond loopback?
    pub(super) fn exposed(self) -> bool {
        self.has(Self::EXPOSED)
    }

    /// As it is judged for one host.
    fn whole(self, place: u32, statement: &Statement, facts: &SourceFacts) -> judge::Hit {
        judge::Hit {
            statement: place,
            state: self.state,
            groups: judge::groups_of(statement, facts),
            kernel: self.has(Self::KERNEL),
            offered: self.offered(),
            in_use: self.in_use(),
            exposed: self.exposed(),
        }
    }
}

/// How a statement is held against a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Never,
    Always,
    /// Below the fixed version.
    Fixed,
    /// Likewise; but it is a fix only to whom it is offered.
    Elsewhere,
    Ranges,
}

/// A statement as far as it decides, small: the statements of a book are gone through for each of its subjects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Place of the fixed version among the keys.
    fix: u32,
    kind: Kind,
    pub(super) severity: Severity,
    pub(super) exploited: bool,
}

/// The statements of a book.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// Place of the first in the catalogue.
    pub(super) start: u32,
    pub(super) lines: Box<[Line]>,
    /// Fixed versions, lowest first, each once.
    keys: Box<[Box<[u8]>]>,
}

/// Where versions stand among the keys: how many of these are not above them. A version is below a fix of a place exactly
/// where that is not more than the place.
struct Standing {
    groups: Vec<u32>,
    kernel: Option<u32>,
    newest: u32,
    offered: u32,
    in_use: u32,
    exposed: u32,
}

impl Lines {
    pub(super) fn of(catalogue: &Catalogue, slice: Option<&Slice>) -> Self {
        let places = slice.map_or(0..0, |slice| slice.places.clone());
        let start = places.start as u32;
        let statements = catalogue.slice(places);
        let mut keys: Vec<&[u8]> = statements
            .iter()
            .filter(|s| s.unaffected_from().is_some())
            .map(|s| s.fixed_key.as_ref())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let line = |statement: &Statement| {
            let kind = match &statement.status {
                AdvisoryStatus::NotAffected | AdvisoryStatus::Undetermined => Kind::Never,
                AdvisoryStatus::Open { elsewhere: None, .. } => Kind::Always,
                AdvisoryStatus::Open { elsewhere: Some(_), .. } => Kind::Elsewhere,
                AdvisoryStatus::Fixed { .. } => Kind::Fixed,
                AdvisoryStatus::Ranges { .. } => Kind::Ranges,
            };
            Line {
                fix: keys.binary_search(&statement.fixed_key.as_ref()).unwrap_or(0) as u32,
                kind,
                severity: statement.severity,
                exploited: catalogue.is_exploited(statement),
            }
        };
        Self {
            start,
            lines: statements.iter().map(line).collect(),
            keys: keys.iter().map(|key| Box::from(*key)).collect(),
        }
    }

    fn standing(&self, facts: &SourceFacts) -> Standing {
        let of = |version: &Keyed| self.keys.partition_point(|key| *key <= version.key) as u32;
        let first = |is: &dyn Fn(&Group) -> bool, groups: &[u32]| {
            facts.groups.iter().position(is).map_or(u32::MAX, |at| groups[at])
        };
        let groups: Vec<u32> = facts.groups.iter().map(|g| of(&g.version)).collect();
        let newest = facts.kernel.as_ref().and_then(|k| k.newest.as_ref());
        Standing {
            in_use: first(&|g| g.in_use, &groups),
            exposed: first(&|g| g.exposed, &groups),
            groups,
            kernel: facts.kernel.as_ref().map(|k| of(&k.version)),
            newest: newest.map_or(0, of),
            offered: facts.offered.as_ref().map_or(0, of),
        }
    }

    /// Judges the statements against facts: what [`judge::hits`] comes to, with versions compared once each and not once a
    /// statement.
    pub(super) fn judge(&self, catalogue: &Catalogue, facts: &SourceFacts) -> Box<[Hit]> {
        self.judge_these(catalogue, facts, 0..self.lines.len() as u32).into()
    }

    /// The same of the statements of these ranks.
    pub(super) fn judge_these(
        &self,
        catalogue: &Catalogue,
        facts: &SourceFacts,
        ranks: impl ExactSizeIterator<Item = u32>,
    ) -> Vec<Hit> {
        if ranks.len() == 0 {
            return Vec::new();
        }
        let standing = self.standing(facts);
        let any = |is: fn(&Group) -> bool| facts.groups.iter().any(is);
        let (in_use, exposed) = (any(|g| g.in_use), any(|g| g.exposed));
        let lowest = standing.groups.first().copied().unwrap_or(u32::MAX);
        let here = lowest != u32::MAX || standing.kernel.is_some();
        let mut hits = Vec::new();
        for rank in ranks {
            let line = &self.lines[rank as usize];
            let hit = match line.kind {
                Kind::Never => continue,
                Kind::Always if !here => continue,
                Kind::Always => {
                    let kernel = standing.kernel.is_some();
                    let flags = [kernel, false, kernel || in_use, exposed];
                    Hit::new(rank, FindingState::NoFixYet, flags)
                }
                Kind::Fixed | Kind::Elsewhere => {
                    let fix = line.fix;
                    let kernel = standing.kernel.is_some_and(|kernel| kernel <= fix);
                    if lowest > fix && !kernel {
                        continue;
                    }
                    let offered = standing.offered > fix;
                    let state = if lowest > fix && standing.newest > fix {
                        FindingState::PendingReboot
                    } else if line.kind == Kind::Fixed || offered {
                        FindingState::Open
                    } else {
                        FindingState::NoFixYet
                    };
                    let flags = [
                        kernel,
                        offered,
                        kernel || standing.in_use <= fix,
                        standing.exposed <= fix,
                    ];
                    Hit::new(rank, state, flags)
                }
                Kind::Ranges => {
                    let place = self.start + rank;
                    let Some(hit) = judge::hit(catalogue.at(place), place, facts) else { continue };
                    let flags = [hit.kernel, hit.offered, hit.in_use, hit.exposed];
                    Hit::new(rank, hit.state, flags)
                }
            };
            hits.push(hit);
        }
        hits
    }

    /// Does the statement of this rank make the same hits as that one of others? Of ranges that is not known.
    pub(super) fn decides_as(&self, rank: u32, others: &Self, other: u32) -> bool {
        let (one, other) = (&self.lines[rank as usize], &others.lines[other as usize]);
        one.kind == other.kind
            && match one.kind {
                Kind::Never | Kind::Always => true,
                Kind::Fixed | Kind::Elsewhere => {
                    self.keys[one.fix as usize] == others.keys[other.fix as usize]
                }
                Kind::Ranges => false,
            }
    }

    pub(super) fn line(&self, hit: Hit) -> Line {
        self.lines[hit.rank as usize]
    }

    pub(super) fn statement<'c>(&self, catalogue: &'c Catalogue, rank: u32) -> &'c Statement {
        catalogue.at(self.start + rank)
    }

    /// What is known of a hit later, when it is none any more.
    pub(super) fn known(
        &self,
        catalogue: &Catalogue,
        hit: Hit,
        facts: &SourceFacts,
        accepted: &[Exception],
    ) -> Known {
        let statement = self.statement(catalogue, hit.rank);
        judge::known(
            statement,
            facts,
            &hit.whole(self.start + hit.rank, statement, facts),
            accepted,
        )
    }

    /// The finding that a hit is on a host.
    pub(super) fn finding(
        &self,
        catalogue: &Catalogue,
        hit: Hit,
        facts: &SourceFacts,
        host: &HostId,
        accepted: &[Exception],
    ) -> Finding {
        let statement = self.statement(catalogue, hit.rank);
        let hit = hit.whole(self.start + hit.rank, statement, facts);
        judge::finding(catalogue, host, facts, &hit, accepted)
    }

    /// The vulnerabilities of the statements, by rank.
    pub(super) fn ids<'c>(&self, catalogue: &'c Catalogue) -> impl Iterator<Item = &'c Arc<str>> {
        let places = self.start as usize..self.start as usize + self.lines.len();
        catalogue.slice(places).iter().map(|statement| &statement.id)
    }

    /// The rank of a vulnerability.
    pub(super) fn rank(&self, catalogue: &Catalogue, id: &str) -> Option<u32> {
        let places = self.start as usize..self.start as usize + self.lines.len();
        let found = catalogue.slice(places).binary_search_by(|s| s.id.as_ref().cmp(id));
        found.ok().map(|rank| rank as u32)
    }

    /// What hits add to the risk of a host that has them.
    pub(super) fn risk(&self, hits: &[Hit]) -> Risk {
        let mut risk = Risk::default();
        for hit in hits {
            let line = self.line(*hit);
            risk.take(line.severity, line.exploited, hit.exposed());
        }
        risk
    }
}

/// How many systems have a statement's hit. Each is in one subject of a book at most, so that nothing is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) hosts: u32,
    pub(super) in_use: u32,
    pub(super) exposed: u32,
}

/// One source package of one release.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) release: Arc<str>,
    pub(super) source: Arc<str>,
    pub(super) lines: Lines,
    /// By rank.
    pub(super) tallies: Box<[Tally]>,
    /// Places of the subjects.
    pub(super) subjects: RoaringBitmap,
    /// Slots of the systems that carry something of it.
    pub(super) carriers: RoaringBitmap,
}

impl Book {
    /// Counts one more, or one less, system with these hits.
    pub(super) fn count(&mut self, hits: &[Hit], one: i32) {
        for hit in hits {
            let tally = &mut self.tallies[hit.rank as usize];
            let add = |n: &mut u32, is: bool| *n = n.wrapping_add_signed(one * i32::from(is));
            add(&mut tally.hosts, true);
            add(&mut tally.in_use, hit.in_use());
            add(&mut tally.exposed, hit.exposed());
        }
    }

    /// Counts from nothing.
    pub(super) fn recount(&mut self, subjects: &Subjects) {
        self.tallies = vec![Tally::default(); self.lines.lines.len()].into();
        for subject in self.subjects.iter().filter_map(|place| subjects.get(place)) {
            let hosts = subject.hosts.len() as u32;
            for hit in &subject.hits {
                let tally = &mut self.tallies[hit.rank as usize];
                tally.hosts += hosts;
                tally.in_use += hosts * u32::from(hit.in_use());
                tally.exposed += hosts * u32::from(hit.exposed());
            }
        }
    }
}

/// All books.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    list: Vec<Option<Book>>,
    /// By release and source.
    places: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u32>>,
    free: Vec<u32>,
}

impl Books {
    /// The book about a source package of a host of this release.
    pub(super) fn open(&mut self, catalogue: &Catalogue, release: &str, source: &Arc<str>) -> u32 {
        let release = release_of(release, source);
        if let Some(place) = self.place(release, source) {
            return place;
        }
        let known = self.places.get_key_value(release).map(|(known, _)| known.clone());
        let release = known.unwrap_or_else(|| release.into());
        let slice = catalogue.slices(&release).and_then(|sources| sources.get(source));
        let lines = Lines::of(catalogue, slice);
        let place = self.free.pop().unwrap_or(self.list.len() as u32);
        if place as usize == self.list.len() {
            self.list.push(None);
        }
        self.places.entry(release.clone()).or_default().insert(source.clone(), place);
        self.list[place as usize] = Some(Book {
            release,
            source: source.clone(),
            tallies: vec![Tally::default(); lines.lines.len()].into(),
            lines,
            subjects: RoaringBitmap::new(),
            carriers: RoaringBitmap::new(),
        });
        place
    }

    fn place(&self, release: &str, source: &str) -> Option<u32> {
        self.places.get(release)?.get(source).copied()
    }

    /// The book about a source package of a host of this release, where there is one.
    pub(super) fn find(&self, release: &str, source: &str) -> Option<(u32, &Book)> {
        let place = self.place(release_of(release, source), source)?;
        Some((place, self.get(place)?))
    }

    pub(super) fn get(&self, place: u32) -> Option<&Book> {
        self.list.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Book> {
        self.list.get_mut(place as usize)?.as_mut()
    }

    /// Forgets a book that nobody is concerned by.
    pub(super) fn close(&mut self, place: u32) {
        let unused = |book: &Book| book.subjects.is_empty() && book.carriers.is_empty();
        let Some(book) = self.get(place).filter(|book| unused(book)) else { return };
        let (release, source) = (book.release.clone(), book.source.clone());
        if let Some(sources) = self.places.get_mut(&release) {
            sources.remove(&source);
            if sources.is_empty() {
                self.places.remove(&release);
            }
        }
        self.list[place as usize] = None;
        self.free.push(place);
    }

    /// Opens books at the places where they were.
    pub(super) fn restore(
        &mut self,
        catalogue: &Catalogue,
        names: Vec<Option<(Arc<str>, Arc<str>)>>,
    ) {
        // Taken from the end: those of the list come into their places one after the other.
        let holes = names.iter().filter(|name| name.is_none()).count();
        self.list.reserve(names.len());
        self.free.reserve(holes);
        for name in names {
            match name {
                // No place is free as long as there are none but these.
                Some((release, source)) => {
                    let free = std::mem::take(&mut self.free);
                    self.open(catalogue, &release, &source);
                    self.free = free;
                }
                None => {
                    self.free.push(self.list.len() as u32);
                    self.list.push(None);
                }
            }
        }
    }

    /// Counts all of them from nothing.
    pub(super) fn recount(&mut self, subjects: &Subjects) {
        self.list.iter_mut().flatten().for_each(|book| book.recount(subjects));
    }

    /// All books, by place, and how many places there are.
    pub(super) fn all(&self) -> (usize, impl Iterator<Item = (u32, &Book)>) {
        let there = (0..).zip(&self.list).filter_map(|(at, book)| Some((at, book.as_ref()?)));
        (self.list.len(), there)
    }

    /// Takes another catalogue: finds of which books it says something else, and where it says what it said of the others.
    /// Returns the places of the former, by release and source. A release that is not covered any more, or is now, says
    /// something else of what is carried.
    pub(super) fn turn_to(&mut self, old: &Catalogue, new: &Catalogue) -> Vec<u32> {
        let mut changed = Vec::new();
        for (release, places) in &self.places {
            let found = new.differences(old, release);
            if old.covers(release) == new.covers(release) {
                changed.extend(found.changed.iter().filter_map(|source| places.get(*source)));
            } else {
                let mut sources = found.changed.iter().peekable();
                changed.extend(places.iter().filter_map(|(source, place)| {
                    while sources.next_if(|other| **other < source).is_some() {}
                    let says_else = sources.next_if(|other| **other == source).is_some();
                    let book = self.list[*place as usize].as_ref();
                    let carried = book.is_some_and(|book| !book.carriers.is_empty());
                    (says_else || carried).then_some(*place)
                }));
            }
            // Of what changed the old lines are still to be read where they were.
            let stays: RoaringBitmap = match found.moved.is_empty() {
                true => RoaringBitmap::new(),
                false => found.changed.iter().filter_map(|source| places.get(*source)).collect(),
            };
            for (at, (source, by)) in found.moved.iter().enumerate() {
                let end = found.moved.get(at + 1).map(|(source, _)| Bound::Excluded(*source));
                let range = (Bound::Included(*source), end.unwrap_or(Bound::Unbounded));
                for (_, &place) in places.range::<Arc<str>, _>(range) {
                    let Some(Some(book)) = self.list.get_mut(place as usize) else { continue };
                    // Without lines it is nowhere.
                    if *by != 0 && !book.lines.lines.is_empty() && !stays.contains(place) {
                        let start = i64::from(book.lines.start) + by;
                        // Invariant: it is where the slice of the new catalogue begins.
                        book.lines.start = start as u32;
                    }
                }
            }
        }
        changed
    }
}
