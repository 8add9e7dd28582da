//! Another catalogue: what it says differently, judged anew.
//!
//! Book by book, and within a book subject by subject: what becomes of a subject's hits becomes of them on each of its hosts.
//! Each book is decided about by itself, from what is kept, before any change is made: so several are at once.

use super::books::{Book, Hit, Lines};
use super::change::{FindingDelta, Short, deltas, risk_of};
use super::events::{Events, Group};
use super::numbers::NONE;
use super::records::{of_source, shown};
use super::subjects::Subject;
use super::{FleetIndex, HostRecord, Risk};
use crate::exposure::Withdrawn;
use crate::exposure::carry::{Carried, Said, decide, withdraw};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::SystemFacts;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::version::Scheme;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a new catalogue changed, for all hosts it changed alike.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueChange {
    /// What became of the finding.
    pub delta: FindingDelta,
    /// Slots of the hosts: [`FleetIndex::host_at`].
    pub hosts: RoaringBitmap,
}

/// A finding that went because of what a new catalogue says, on all hosts where it went alike.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueWithdrawal {
    /// The finding, and why it went.
    pub withdrawn: Withdrawn,
    /// Slots of the hosts: [`FleetIndex::host_at`].
    pub hosts: RoaringBitmap,
}

/// What becomes of one book, and of whom it concerns.
struct Again {
    book: u32,
    lines: Lines,
    /// Of each subject, by place.
    hits: Vec<(u32, Box<[Hit]>)>,
    changes: Vec<CatalogueChange>,
    withdrawn: Vec<CatalogueWithdrawal>,
    /// What is carried from now on, by all of these.
    carried: Vec<(Carried, RoaringBitmap)>,
    /// What single systems carry from now on, in place of what they carried.
    alone: Vec<(u32, Vec<Arc<Carried>>, Vec<Carried>)>,
    /// What is taken out of the risk of systems, and what comes into it.
    risks: Vec<(Whose, Risk, Risk)>,
    totals: BTreeMap<(Severity, FindingState), i64>,
}

/// Whose risk changes.
enum Whose {
    /// That of all hosts of the subject at this place.
    Subject(u32),
    Systems(RoaringBitmap),
}

/// Two statements of a book, old and new, side by side.
struct Sides<'a> {
    book: &'a Book,
    old: &'a Catalogue,
    new: &'a Catalogue,
    lines: Lines,
    /// The new rank of each old statement that is still there, else [`NONE`].
    moved: Vec<u32>,
    /// Likewise of those alone that make the same hits as before.
    stayed: Vec<u32>,
    /// Ranks of the new statements that make others: these alone are judged.
    fresh: Vec<u32>,
}

/// What became of a hit.
enum Became {
    Gone(Hit),
    Stayed(Hit, Hit),
    Came(Hit),
}

impl<'a> Sides<'a> {
    fn of(book: &'a Book, old: &'a Catalogue, new: &'a Catalogue, lines: Lines) -> Self {
        let moved = moved((old, &book.lines), (new, &lines));
        let mut fresh: Vec<u32> = Vec::new();
        let mut next = 0;
        let stays = |(was, is): (u32, u32)| is != NONE && lines.decides_as(is, &book.lines, was);
        let stayed = (0..).zip(&moved).map(|(was, &is)| {
            if !stays((was, is)) {
                return NONE;
            }
            fresh.extend(next..is);
            next = is + 1;
            is
        });
        let stayed = stayed.collect();
        fresh.extend(next..lines.lines.len() as u32);
        Self { book, old, new, lines, moved, stayed, fresh }
    }

    /// The hits of a subject by what is said now: those of before stand where what makes them does.
    fn judge(&self, subject: &Subject) -> Box<[Hit]> {
        let fresh = self.fresh.iter().copied();
        let mut came =
            self.lines.judge_these(self.new, &subject.facts, fresh).into_iter().peekable();
        let mut hits = Vec::with_capacity(subject.hits.len() + came.len());
        for hit in &subject.hits {
            let rank = self.stayed[hit.rank as usize];
            if rank != NONE {
                hits.extend(std::iter::from_fn(|| came.next_if(|came| came.rank < rank)));
                hits.push(hit.at(rank));
            }
        }
        hits.extend(came);
        hits.into()
    }

    /// What is said now of a hit of before.
    fn said_now(&self, was: Hit) -> Said<'a> {
        let rank = Some(self.moved[was.rank as usize]).filter(|rank| *rank != NONE);
        Said {
            covered: self.new.covers(&self.book.release),
            statement: rank.map(|rank| self.lines.statement(self.new, rank)),
        }
    }

    /// The hits of before beside those of now, by vulnerability.
    fn compare(&self, was: &[Hit], is: &[Hit], mut each: impl FnMut(Became)) {
        let mut now = is.iter().copied().peekable();
        for &hit in was {
            let rank = self.moved[hit.rank as usize];
            if rank == NONE {
                each(Became::Gone(hit));
                continue;
            }
            while let Some(came) = now.next_if(|now| now.rank < rank) {
                each(Became::Came(came));
            }
            match now.next_if(|now| now.rank == rank) {
                Some(now) => each(Became::Stayed(hit, now)),
                None => each(Became::Gone(hit)),
            }
        }
        now.for_each(|hit| each(Became::Came(hit)));
    }
}

/// The new rank of each old statement of a book that is still there.
fn moved<'c>(old: (&'c Catalogue, &'c Lines), new: (&'c Catalogue, &'c Lines)) -> Vec<u32> {
    let ids = |(catalogue, lines)| Lines::ids(lines, catalogue);
    let mut next = (0..).zip(ids(new)).peekable();
    let of = |was: &Arc<str>| {
        while next.next_if(|(_, is)| *is < was).is_some() {}
        next.next_if(|(_, is)| *is == was).map_or(NONE, |(rank, _)| rank)
    };
    ids(old).map(of).collect()
}

impl FleetIndex {
    /// Judges all hosts by another catalogue: of each distinct subject about which it says something else what it says.
    /// Returns what changed, by source package and vulnerability, and the findings that went because of what vendors say now,
    /// likewise.
    pub fn replace_catalogue(
        &mut self,
        new: Arc<Catalogue>,
    ) -> (Vec<CatalogueChange>, Vec<CatalogueWithdrawal>) {
        let old = std::mem::replace(&mut self.catalogue, new.clone());
        let changed = self.books.turn_to(&old, &new);
        let excepted = self.books_with_exceptions(&old, &new);
        let decided = self.decide_all(&changed, &excepted, &old, &new);
        let (mut changes, mut withdrawn) = (Vec::new(), Vec::new());
        let mut with_more = RoaringBitmap::new();
        for again in decided {
            self.apply(again, &mut changes, &mut withdrawn, &mut with_more);
        }
        for slot in with_more {
            if let Some(Some(record)) = self.hosts.get_mut(slot as usize) {
                record.carried.sort();
            }
        }
        // Books of several releases may be of one source.
        changes.sort_by(|a: &CatalogueChange, b| a.delta.cmp(&b.delta));
        changes.dedup_by(|b, a| {
            let same = a.delta == b.delta;
            if same {
                a.hosts |= std::mem::take(&mut b.hosts);
            }
            same
        });
        let key = |w: &CatalogueWithdrawal| {
            (w.withdrawn.source.clone(), w.withdrawn.id.clone(), w.withdrawn.clone())
        };
        withdrawn.sort_by_cached_key(key);
        withdrawn.dedup_by(|b, a| {
            let same = a.withdrawn == b.withdrawn;
            if same {
                a.hosts |= std::mem::take(&mut b.hosts);
            }
            same
        });
        (changes, withdrawn)
    }

    /// Books that say something, or did, of vulnerabilities that there are exceptions for; and the systems with these.
    fn books_with_exceptions(
        &self,
        old: &Catalogue,
        new: &Catalogue,
    ) -> BTreeMap<u32, RoaringBitmap> {
        let mut books: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        for (id, slots) in &self.excepted {
            for statement in old.statements_about(id).chain(new.statements_about(id)) {
                if let Some((book, _)) = self.books.find(&statement.release, &statement.source) {
                    *books.entry(book).or_default() |= slots;
                }
            }
        }
        books
    }

    /// Decides about books, on all processors where there is enough to do. In the order of the books.
    fn decide_all(
        &self,
        books: &[u32],
        excepted: &BTreeMap<u32, RoaringBitmap>,
        old: &Catalogue,
        new: &Catalogue,
    ) -> Vec<Again> {
        const ENOUGH: usize = 64;
        let decide = |at: &u32| self.decide_book(*at, excepted.get(at), old, new);
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        if books.len() < ENOUGH || processors == 1 {
            return books.iter().filter_map(decide).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(book) = books.get(at) else { return done };
                done.extend(decide(book).map(|again| (at, again)));
            }
        };
        let mut decided: Vec<(usize, Again)> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..processors).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                // Invariant: it panics only where this one would.
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        decided.sort_unstable_by_key(|(at, _)| *at);
        decided.into_iter().map(|(_, again)| again).collect()
    }

    fn decide_book(
        &self,
        at: u32,
        excepted: Option<&RoaringBitmap>,
        old: &Catalogue,
        new: &Catalogue,
    ) -> Option<Again> {
        let book = self.books.get(at)?;
        let slice = new.slices(&book.release).and_then(|sources| sources.get(&book.source));
        let lines = Lines::of(new, slice);
        let sides = Sides::of(book, old, new, lines);
        let mut again = Again {
            book: at,
            lines: Lines::of(new, None),
            hits: Vec::new(),
            changes: Vec::new(),
            withdrawn: Vec::new(),
            carried: Vec::new(),
            alone: Vec::new(),
            risks: Vec::new(),
            totals: BTreeMap::new(),
        };
        let mut events = Events::default();
        // Who carries something of it is a case of its own, and so is who has an exception for something in it.
        let mut alone = book.carriers.clone();
        if let Some(excepted) = excepted {
            alone |= excepted;
        }
        for place in &book.subjects {
            let Some(subject) = self.subjects.get(place) else { continue };
            let hits = sides.judge(subject);
            self.decide_subject(&sides, place, &hits, &alone, &mut again, &mut events);
            again.hits.push((place, hits));
        }
        for slot in &alone {
            if let Some(record) = self.at(slot) {
                self.decide_alone(&sides, slot, record, &mut again, &mut events);
            }
        }
        again.lines = sides.lines;
        (again.changes, again.withdrawn) = events.tell(&book.source);
        Some(again)
    }

    /// Decides about all hosts of a subject to which the same happens: all but those that are a case of their own.
    fn decide_subject(
        &self,
        sides: &Sides<'_>,
        place: u32,
        hits: &[Hit],
        alone: &RoaringBitmap,
        again: &mut Again,
        events: &mut Events,
    ) {
        let Some(subject) = self.subjects.get(place) else { return };
        let (mut gone, mut others) = (Vec::new(), Vec::new());
        sides.compare(&subject.hits, hits, |became| match became {
            Became::Gone(hit) => gone.push(hit),
            other => others.push(other),
        });
        let all = alone.is_disjoint(&subject.hosts);
        let hosts = match all {
            true => Cow::Borrowed(&subject.hosts),
            false => Cow::Owned(&subject.hosts - alone),
        };
        if hosts.is_empty() {
            return;
        }
        let (old_lines, new_lines) = (&sides.book.lines, &sides.lines);
        let id =
            |hit: Hit, lines: &Lines, catalogue| lines.statement(catalogue, hit.rank).id.clone();
        let weigh = |hit: Hit, lines: &Lines| (lines.line(hit).severity, hit.state);
        let count = hosts.len() as i64;
        let mut groups = None;
        for became in others {
            let (was, is) = match became {
                Became::Gone(_) => continue,
                Became::Stayed(was, is) => (Some(was), is),
                Became::Came(is) => (None, is),
            };
            let (before, after) = (was.map(|was| weigh(was, old_lines)), weigh(is, new_lines));
            if before == Some(after) {
                continue;
            }
            again.count(after, count);
            if let Some(before) = before {
                again.count(before, -count);
            }
            let state = was.map(|was| was.state);
            if state != Some(is.state) {
                let groups = groups.get_or_insert_with(|| self.by_root(&hosts, events));
                events.happen(groups, id(is, new_lines, sides.new), state, Some(is.state));
            }
        }
        let risk = (old_lines.risk(&subject.hits), new_lines.risk(hits));
        if !gone.is_empty() {
            for (hosts, system) in self.by_knowledge(&hosts) {
                let groups = self.by_root(&hosts, events);
                let count = hosts.len() as i64;
                for &hit in &gone {
                    again.count(weigh(hit, old_lines), -count);
                    let known = old_lines.known(sides.old, hit, &subject.facts, &[]);
                    let facts = Some(&*subject.facts);
                    let said = sides.said_now(hit);
                    match decide(said, &system, facts, &known) {
                        Ok(carried) => {
                            let weight = sides.new.weight_of(said.statement);
                            let (before, after) = (Some(hit.state), Some(carried.state));
                            again.count((weight.0, carried.state), count);
                            let risk = risk_of(&[Short::of_carried(&carried, weight, &[])]);
                            if risk != Risk::default() {
                                let whose = Whose::Systems(hosts.clone());
                                again.risks.push((whose, Risk::default(), risk));
                            }
                            if before != after {
                                events.happen(&groups, carried.id.clone(), before, after);
                            }
                            again.carried.push((carried, hosts.clone()));
                        }
                        Err(why) => {
                            let id = id(hit, old_lines, sides.old);
                            events.happen(&groups, id, Some(hit.state), None);
                            if let Some(withdrawn) = withdraw(&known, why) {
                                events.withdraw(&groups, withdrawn);
                            }
                        }
                    }
                }
            }
        }
        if risk.0 != risk.1 {
            let whose = match all {
                true => Whose::Subject(place),
                false => Whose::Systems(hosts.into_owned()),
            };
            again.risks.push((whose, risk.0, risk.1));
        }
    }

    /// Hosts that know the same of what decides about hits that are gone by what a catalogue says. They have installed what they
    /// had, so nothing is proved or waits for a restart, and what processes map makes no difference; whether they could list
    /// their packages does.
    fn by_knowledge(&self, hosts: &RoaringBitmap) -> Vec<(RoaringBitmap, SystemFacts)> {
        let shape = hosts.min().and_then(|slot| self.shapes.get(self.at(slot)?.shape));
        // Invariant: each host of a subject has a shape. All are of one release, and so of one scheme.
        let scheme = shape.map_or(Scheme::Deb, |shape| shape.system.scheme);
        let unknown = hosts & &self.packages_unknown;
        let classes = [(hosts - &unknown, true), (unknown, false)];
        let classes = classes.into_iter().filter(|(hosts, _)| !hosts.is_empty());
        classes.map(|(hosts, known)| (hosts, SystemFacts::of_packages(scheme, known))).collect()
    }

    /// The hosts of these systems, by the root that they are. Makes groups of them.
    fn by_root(&self, slots: &RoaringBitmap, events: &mut Events) -> Vec<Group> {
        let mut hosts: BTreeMap<Option<Arc<str>>, RoaringBitmap> = BTreeMap::new();
        let mut plain = slots.clone();
        if !slots.is_disjoint(&self.roots) {
            plain -= &self.roots;
            for record in (slots & &self.roots).iter().filter_map(|slot| self.at(slot)) {
                hosts.entry(record.root.clone()).or_default().insert(record.owner);
            }
        }
        if !plain.is_empty() {
            hosts.insert(None, plain);
        }
        let group = |(root, hosts)| {
            events.groups.push(hosts);
            (root, events.groups.len() - 1)
        };
        hosts.into_iter().map(group).collect()
    }

    /// Decides about what one system has of a book.
    fn decide_alone(
        &self,
        sides: &Sides<'_>,
        slot: u32,
        record: &HostRecord,
        again: &mut Again,
        events: &mut Events,
    ) {
        let (book, accepted) = (sides.book, &record.accepted);
        let outline = self.outline(Some(record.shape));
        let subject = self.subjects.about(&outline.subjects, again.book);
        // A system's own release may have the same name for its source in another book.
        let is_its =
            self.books.find(&outline.release, &book.source).is_some_and(|f| f.0 == again.book);
        let dropped = match is_its {
            true => of_source(&record.carried, &book.source),
            false => &[],
        };
        let hits: Box<[Hit]> = subject.map(|s| sides.judge(s)).unwrap_or_default();
        let (mut before, mut after, mut known) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(subject) = subject {
            let old = |hit| Short::of_hit(sides.old, &book.lines, hit, accepted);
            let new = |hit| Short::of_hit(sides.new, &sides.lines, hit, accepted);
            sides.compare(&subject.hits, &hits, |became| match became {
                Became::Came(is) => after.push(new(is)),
                Became::Stayed(was, is) => {
                    before.push(old(was));
                    after.push(new(is));
                }
                Became::Gone(was) => {
                    before.push(old(was));
                    known.push(book.lines.known(sides.old, was, &subject.facts, accepted));
                }
            });
        }
        let weigh = |catalogue: &Catalogue, c| catalogue.weight(&outline.release, c);
        before.extend(dropped.iter().map(|c| Short::of_carried(c, weigh(sides.old, c), accepted)));
        let is_hit = |id: &str| {
            let rank = sides.lines.rank(sides.new, id);
            rank.is_some_and(|rank| hits.binary_search_by_key(&rank, |hit| hit.rank).is_ok())
        };
        let mut carried = Vec::new();
        let listed = dropped.iter().map(|c| shown(c, accepted));
        if record.presence == super::Presence::Here {
            known.extend(listed.filter(|known| !is_hit(&known.id)));
            let facts = subject.map(|subject| &*subject.facts);
            for known in known {
                let said = Said::of(sides.new, &outline.release, &known);
                match decide(said, &outline.system, facts, &known) {
                    Ok(found) => carried.push(found),
                    Err(why) => {
                        if let Some(withdrawn) = withdraw(&known, why) {
                            let groups = self.by_root(&RoaringBitmap::from([slot]), events);
                            events.withdraw(&groups, withdrawn);
                        }
                    }
                }
            }
        } else {
            let listed: Vec<_> = listed.collect();
            carried = super::roots::with_its_root(record.presence, &listed);
        }
        after.extend(carried.iter().map(|c| Short::of_carried(c, weigh(sides.new, c), accepted)));
        for delta in deltas(&mut before, &mut after) {
            let groups = self.by_root(&RoaringBitmap::from([slot]), events);
            events.happen(&groups, delta.id, delta.before, delta.after);
        }
        for (list, by) in [(&before, -1), (&after, 1)] {
            list.iter().for_each(|short| again.count((short.severity, short.state), by));
        }
        let (less, more) = (risk_of(&before), risk_of(&after));
        if less != more {
            again.risks.push((Whose::Systems(RoaringBitmap::from([slot])), less, more));
        }
        if !dropped.is_empty() || !carried.is_empty() {
            again.alone.push((slot, dropped.to_vec(), carried));
        }
    }

    /// Makes it so.
    fn apply(
        &mut self,
        again: Again,
        changes: &mut Vec<CatalogueChange>,
        withdrawn: &mut Vec<CatalogueWithdrawal>,
        with_more: &mut RoaringBitmap,
    ) {
        changes.extend(again.changes);
        withdrawn.extend(again.withdrawn);
        for ((severity, state), by) in again.totals {
            self.totals.add(severity, state, by);
        }
        for (whose, less, more) in again.risks {
            let slots = match &whose {
                Whose::Subject(place) => self.subjects.get(*place).map(|subject| &subject.hosts),
                Whose::Systems(slots) => Some(slots),
            };
            for slot in slots.into_iter().flatten() {
                self.risks[slot as usize].change(less, more);
            }
        }
        let Some(book) = self.books.get_mut(again.book) else { return };
        book.lines = again.lines;
        for (place, hits) in again.hits {
            if let Some(subject) = self.subjects.get_mut(place) {
                subject.risk = book.lines.risk(&hits);
                subject.hits = hits;
            }
        }
        book.recount(&self.subjects);
        let release = book.release.clone();
        for (carried, slots) in again.carried {
            book.carriers |= &slots;
            let shared = self.carrying.add_all(&slots, carried);
            for slot in &slots {
                if let Some(Some(record)) = self.hosts.get_mut(slot as usize) {
                    record.carried.push(shared.clone());
                }
            }
            *with_more |= slots;
        }
        for (slot, dropped, carried) in again.alone {
            if let Some(mut record) = self.hosts[slot as usize].take() {
                // In order again for what looks for its sources here.
                record.carried.sort();
                let (from, to) = ((&*release, dropped), (&*release, carried));
                self.carry_in_place_of(slot, &mut record, from, to);
                self.hosts[slot as usize] = Some(record);
            }
        }
    }
}

impl Again {
    fn count(&mut self, what: (Severity, FindingState), by: i64) {
        *self.totals.entry(what).or_default() += by;
    }
}
