//! A host's report in, what it changed out.

use super::books::Hit;
use super::change::{FindingDelta, Short, deltas, named, risk_of};
use super::concerned::Touched;
use super::numbers::Numbers;
use super::records::{Outline, Weight, named_deltas, of_source, shown};
use super::shapes::Shape;
use super::{FleetIndex, HostRecord, Presence};
use crate::exposure::carry::{Carried, Known, Said, carry, decide, withdraw};
use crate::exposure::catalogue::{Catalogue, Statement};
use crate::exposure::facts::SourceFacts;
use crate::exposure::roots::{named as in_root, systems};
use crate::exposure::{Coverage, Exception, HostView, Withdrawn};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// Which findings may be others than before, in whatever they tell: those that are not touched tell what they told.
    pub touched: Touched,
}

impl HostChange {
    /// Adds what changed in a root.
    fn absorb(&mut self, root: &str, change: HostChange) {
        self.roots.insert(root.to_owned(), change.coverage);
        self.deltas.extend(named_deltas(root, change.deltas));
        self.touched.absorb(root, change.touched);
        let withdrawn = change.withdrawn.into_iter();
        self.withdrawn.extend(withdrawn.map(|w| {
            let source = in_root(Some(root), &w.source);
            Withdrawn { source, ..w }
        }));
    }
}

/// Two subjects of one book: the one that a system was in, and the one that it is in.
pub(super) type Pair = (Option<u32>, Option<u32>);

/// What a report makes of a system's findings, those alone that it may change.
#[derive(Default)]
struct Turn<'c> {
    before: Vec<Short<'c>>,
    after: Vec<Short<'c>>,
    /// Hits that were known and are none any more, and what is said of them.
    gone: Vec<(Known, &'c Statement)>,
}

impl FleetIndex {
    /// Takes a host's inventory. Findings known to the index from its last report count as known before;
    /// [`HostView::previous`] is for hosts the index does not know yet (at start, from the store). Its exceptions
    /// replace the ones of before.
    pub fn set_host(&mut self, view: &HostView<'_>) -> HostChange {
        let nothing = BTreeMap::new();
        let presences = self.presences(view.host);
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
            let (roots, touched) = (BTreeMap::new(), Touched::nothing());
            let change = HostChange { coverage, roots, deltas, withdrawn: Vec::new(), touched };
            whole.absorb(&root, change);
            whole.roots.remove(root.as_ref());
        }
        if !listed.is_empty() || !self.root_slots.is_empty() {
            whole.deltas.sort();
        }
        if presences != self.presences(view.host) {
            whole.touched = Touched::All;
        }
        whole
    }

    /// Takes the inventory of one system: a host without its roots, or a root.
    fn set_system(&mut self, root: Option<&Arc<str>>, view: &HostView<'_>) -> HostChange {
        let catalogue = self.catalogue.clone();
        let owner = self.slot(view.host, None);
        let slot = self.slot(view.host, root);
        let numbers = Numbers::of(&self.secret, view.inventory);
        if let Some(coverage) = self.says_the_same(slot, numbers.whole, view) {
            let (deltas, withdrawn) = (Vec::new(), Vec::new());
            let (roots, touched) = (BTreeMap::new(), Touched::nothing());
            return HostChange { coverage, roots, deltas, withdrawn, touched };
        }
        let old = self.hosts[slot as usize].take();
        let place = self.shapes.take(numbers.whole, || {
            let (subjects, books) = (&mut self.subjects, &mut self.books);
            Shape::of(&catalogue, subjects, books, &numbers, view.inventory)
        });
        let is = self.outline(Some(place));
        let was = self.outline(old.as_ref().map(|old| old.shape));
        let accepted = (old.as_ref().map_or(&[][..], |old| &old.accepted), view.accepted);
        let carried_before = old.as_ref().map_or(&[][..], |old| &old.carried);
        let pairs = self.pairs(&was.subjects, &is.subjects, accepted.0 != accepted.1);

        // Join first and leave later, so that a subject that only this host has is not judged again.
        for place in pairs.iter().filter(|(was, is)| was != is).filter_map(|(_, is)| *is) {
            self.subjects.join(&mut self.books, place, slot);
        }
        let mut turn = self.turn(&catalogue, &pairs, accepted);
        // Does nothing but its packages say something else about what became of its findings?
        let narrow = old.as_ref().is_some_and(|old| old.presence == Presence::Here)
            && is_quiet(accepted, carried_before, view)
            && was.release == is.release
            && self.decide_alike(old.as_ref().map(|old| old.shape), place);
        let touched = match narrow {
            true => Touched::In(self.sources_of(&pairs).map(|source| source.to_string()).collect()),
            false => Touched::All,
        };
        let told = named(if old.is_none() { view.previous } else { &[] });
        let (dropped, outcome) = if narrow {
            let concerned = self.carried_in(&pairs, carried_before);
            let known = concerned.iter().map(|c| shown(c, accepted.0)).collect();
            let outcome = self.decide_about(&catalogue, &is, std::mem::take(&mut turn.gone), known);
            (concerned, outcome)
        } else {
            let mut known: Vec<Known> =
                std::mem::take(&mut turn.gone).into_iter().map(|(known, _)| known).collect();
            known.extend(told.iter().map(|(.., finding)| Known::from(*finding)));
            known.extend(carried_before.iter().map(|c| shown(c, accepted.0)));
            let facts = |source: &str| self.subject_of(&is, source).map(|s| &*s.facts);
            let is_hit = |source: &str, id: &str| self.is_hit(&catalogue, &is, source, id);
            let ran = view.ran_before;
            let (carried, withdrawn) =
                carry(&catalogue, &is.release, &is.system, facts, known, ran, is_hit);
            let weigh = |c: Carried| (catalogue.weight(&is.release, &c), c);
            let carried = carried.into_iter().map(weigh).collect();
            (carried_before.to_vec(), (carried, withdrawn))
        };
        let (carried, mut withdrawn) = outcome;
        withdrawn.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));

        turn.before.extend(told.iter().map(Short::of_told));
        turn.before.extend(
            dropped
                .iter()
                .map(|c| Short::of_carried(c, catalogue.weight(&was.release, c), accepted.0)),
        );
        turn.after
            .extend(carried.iter().map(|(weight, c)| Short::of_carried(c, *weight, accepted.1)));
        let deltas = deltas(&mut turn.before, &mut turn.after);
        // What the store told of a host was not counted here.
        let counted = if old.is_some() { &turn.before[..] } else { &[] };
        self.totals.replace(counted, &turn.after);
        self.risks[slot as usize].change(risk_of(counted), risk_of(&turn.after));
        drop(turn);

        for place in pairs.iter().filter(|(was, is)| was != is).filter_map(|(was, _)| *was) {
            self.subjects.leave(&mut self.books, place, slot);
        }
        let coverage = catalogue.coverage(&view.inventory.os, &is.system);
        let before = old.as_ref().map(|old| old.shape);
        let mut record = old.unwrap_or_else(|| HostRecord::new(view.host, root, owner));
        (record.shape, record.presence) = (place, Presence::Here);
        let carried = carried.into_iter().map(|(_, carried)| carried).collect();
        let (from, to) = ((&*was.release, dropped), (&*is.release, carried));
        self.carry_in_place_of(slot, &mut record, from, to);
        self.except(slot, &mut record, view.accepted.to_vec());
        self.note(slot, Some(&is.system));
        if let Some(before) = before {
            self.shapes.leave(before);
        }
        self.hosts[slot as usize] = Some(record);
        HostChange { coverage, roots: BTreeMap::new(), deltas, withdrawn, touched }
    }

    /// The source packages that these are about.
    fn sources_of<'a>(&'a self, pairs: &'a [Pair]) -> impl Iterator<Item = &'a Arc<str>> {
        let place = pairs.iter().filter_map(|(was, is)| was.or(*is));
        place.filter_map(|place| Some(&self.subjects.get(place)?.facts.source))
    }

    /// What of a system is covered that says what it said before, so that nothing is to be done.
    fn says_the_same(&self, slot: u32, number: u128, view: &HostView<'_>) -> Option<Coverage> {
        let record = self.hosts[slot as usize].as_ref()?;
        let shape = self.shapes.get(record.shape).filter(|shape| shape.number == number)?;
        let quiet = is_quiet((&record.accepted, view.accepted), &record.carried, view);
        let same = quiet && record.presence == Presence::Here;
        same.then(|| self.catalogue.coverage(&shape.os, &shape.system))
    }

    /// Do two shapes say the same of what becomes of findings?
    fn decide_alike(&self, one: Option<u32>, other: u32) -> bool {
        let shapes = one.and_then(|one| self.shapes.get(one)).zip(self.shapes.get(other));
        shapes.is_some_and(|(one, other)| one.system.decides_as(&other.system))
    }

    /// Subjects of one book that a system was and is in, where they are not the same, or all. By source, so that what is told
    /// of them one after the other is in order.
    fn pairs(&self, was: &[u32], is: &[u32], all: bool) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let (mut was, mut is) = (was.iter().copied().peekable(), is.iter().copied().peekable());
        loop {
            match (was.peek().copied(), is.peek().copied()) {
                (None, None) => break,
                (Some(one), Some(other)) if one == other => {
                    let pair = (was.next(), is.next());
                    pairs.extend(all.then_some(pair));
                }
                (Some(one), Some(other)) => {
                    match self.subjects.book(one).cmp(&self.subjects.book(other)) {
                        Ordering::Less => pairs.push((was.next(), None)),
                        Ordering::Equal => pairs.push((was.next(), is.next())),
                        Ordering::Greater => pairs.push((None, is.next())),
                    }
                }
                (Some(_), None) => pairs.push((was.next(), None)),
                (None, Some(_)) => pairs.push((None, is.next())),
            }
        }
        let source = |(was, is): &Pair| {
            let subject = was.or(*is).and_then(|place| self.subjects.get(place));
            subject.map(|subject| &subject.facts.source)
        };
        pairs.sort_by_key(source);
        pairs
    }

    /// What changes with the subjects and exceptions of a system: most of what a package had it has after its upgrade.
    fn turn<'c>(
        &self,
        catalogue: &'c Catalogue,
        pairs: &[Pair],
        (before, now): (&[Exception], &[Exception]),
    ) -> Turn<'c> {
        let mut turn = Turn::default();
        let same_exceptions = before == now;
        for (was, is) in pairs {
            let get = |place: &Option<u32>| place.and_then(|place| self.subjects.get(place));
            let (was, is) = (get(was), get(is));
            let Some(book) = was.or(is).and_then(|s| self.books.get(s.book)) else { continue };
            let lines = &book.lines;
            let hits = (was.map_or(&[][..], |s| &*s.hits), is.map_or(&[][..], |s| &*s.hits));
            let mut old = hits.0.iter().copied().peekable();
            let gone = |hit: Hit, turn: &mut Turn<'c>| {
                turn.before.push(Short::of_hit(catalogue, lines, hit, before));
                if let Some(was) = was {
                    let known = lines.known(catalogue, hit, &was.facts, before);
                    turn.gone.push((known, lines.statement(catalogue, hit.rank)));
                }
            };
            for &hit in hits.1 {
                while let Some(hit) = old.next_if(|old| old.rank < hit.rank) {
                    gone(hit, &mut turn);
                }
                let same = old.next_if(|old| old.rank == hit.rank);
                let says = |hit: Hit| (hit.state, hit.exposed());
                if same.is_some_and(|old| same_exceptions && says(old) == says(hit)) {
                    continue;
                }
                let same = same.map(|old| Short::of_hit(catalogue, lines, old, before));
                turn.before.extend(same);
                turn.after.push(Short::of_hit(catalogue, lines, hit, now));
            }
            old.for_each(|hit| gone(hit, &mut turn));
        }
        turn
    }

    /// What a system carries over of the books of these subjects.
    fn carried_in(&self, pairs: &[Pair], carried: &[Arc<Carried>]) -> Vec<Arc<Carried>> {
        let mut found = Vec::new();
        for (was, is) in pairs.iter().filter(|_| !carried.is_empty()) {
            let subject = was.or(*is).and_then(|place| self.subjects.get(place));
            let source = subject.map_or("", |subject| &subject.facts.source);
            found.extend_from_slice(of_source(carried, source));
        }
        found
    }

    /// Decides about hits that are gone, and about what was carried over and may be a hit again.
    fn decide_about(
        &self,
        catalogue: &Catalogue,
        is: &Outline,
        gone: Vec<(Known, &Statement)>,
        carried: Vec<Known>,
    ) -> (Vec<(Weight, Carried)>, Vec<Withdrawn>) {
        let (mut kept, mut withdrawn) = (Vec::with_capacity(gone.len()), Vec::new());
        let gone = gone.into_iter().map(|(known, statement)| {
            // Invariant: where there is a statement, its release is covered.
            (known, Said { covered: true, statement: Some(statement) })
        });
        let hit = |known: &Known| self.is_hit(catalogue, is, &known.source, &known.id);
        let carried = carried.into_iter().filter(|known| !hit(known)).map(|known| {
            let said = Said::of(catalogue, &is.release, &known);
            (known, said)
        });
        // What is of one source comes one after the other.
        let mut here: Option<(Arc<str>, Option<&SourceFacts>)> = None;
        for (known, said) in gone.chain(carried) {
            let facts = match &here {
                Some((source, facts)) if *source == known.source => *facts,
                _ => {
                    let facts = self.subject_of(is, &known.source).map(|s| &*s.facts);
                    here = Some((known.source.clone(), facts));
                    facts
                }
            };
            match decide(said, &is.system, facts, &known) {
                Ok(carried) => kept.push((catalogue.weight_of(said.statement), carried)),
                Err(why) => withdrawn.extend(withdraw(&known, why)),
            }
        }
        (kept, withdrawn)
    }
}

/// Is nothing but the packages of a system another? What an exception covers is decided about by what shows of it, and so is
/// not as it was.
fn is_quiet(
    (before, now): (&[Exception], &[Exception]),
    carried: &[Arc<Carried>],
    view: &HostView<'_>,
) -> bool {
    view.ran_before.is_empty() && before == now && (now.is_empty() || carried.is_empty())
}
