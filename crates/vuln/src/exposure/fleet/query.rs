//! Questions to the fleet.

use super::books::{Book, Hit};
use super::change::Totals;
use super::subjects::Subject;
use super::{FleetIndex, HostRecord};
use crate::exposure::Coverage;
use crate::exposure::carry::Carried;
use crate::exposure::catalogue::Catalogue;
use crate::exposure::judge::{carried_finding, state_with};
use crate::exposure::roots::named;
use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState};
use roaring::RoaringBitmap;
use std::ops::Not;
use std::sync::Arc;

impl FleetIndex {
    /// The catalogue in use.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Slots of hosts: a root on a host stands for the host.
    pub(super) fn of_hosts(&self, mut slots: RoaringBitmap) -> RoaringBitmap {
        let roots = &slots & &self.roots;
        if !roots.is_empty() {
            slots -= &roots;
            let owner = |slot| Some(self.at(slot)?.owner);
            slots.extend(roots.iter().filter_map(owner));
        }
        slots
    }

    /// How many hosts there are.
    pub fn host_count(&self) -> usize {
        self.slots.len()
    }

    /// How many distinct subjects were judged.
    pub fn subject_count(&self) -> usize {
        self.subjects.count()
    }

    /// The host in a slot of a bitmap.
    pub fn host_at(&self, slot: u32) -> Option<&HostId> {
        Some(&self.at(slot)?.id)
    }

    /// What of a host can be judged; `None` where it is not known.
    pub fn coverage_of(&self, host: &HostId) -> Option<Coverage> {
        let record = self.record(host)?;
        let shape = self.shapes.get(record.shape)?;
        Some(self.catalogue.coverage(&shape.os, &shape.system))
    }

    /// Findings of the whole fleet, counted.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// One host's findings, counted; `None` where it is not known.
    pub fn totals_of(&self, host: &HostId) -> Option<Totals> {
        let mut totals = Totals::default();
        totals.replace(&[], &self.shorts(&self.catalogue, self.record(host)?));
        for root in self.roots_of(host).into_iter().filter_map(|(_, slot)| self.at(slot)) {
            totals.replace(&[], &self.shorts(&self.catalogue, root));
        }
        Some(totals)
    }

    /// Slots of the hosts that have a vulnerability in any vulnerable state (exceptions included).
    pub fn who_has(&self, id: &str) -> RoaringBitmap {
        let mut hosts = RoaringBitmap::new();
        for (_, subject, _) in self.hits_about(id) {
            hosts |= &subject.hosts;
        }
        if let Some(excepted) = self.excepted.get(id) {
            for slot in &hosts & excepted {
                if self.at(slot).is_some_and(|record| self.is_ruled_out(record, id)) {
                    hosts.remove(slot);
                }
            }
        }
        for (carried, slots) in self.carrying.about(id) {
            let accepted = |slot: &u32| self.at(*slot).map_or(&[][..], |r| &r.accepted);
            let vulnerable = |slot: &u32| {
                state_with(carried.state, id, &carried.source, accepted(slot)).is_vulnerable()
            };
            if !carried.state.is_vulnerable() {
                continue;
            }
            match self.excepted.get(id) {
                None => hosts |= slots,
                Some(excepted) => {
                    hosts |= slots - excepted;
                    hosts.extend((slots & excepted).iter().filter(vulnerable));
                }
            }
        }
        self.of_hosts(hosts)
    }

    /// Is a vulnerability ruled out in every source package of a host that has it?
    fn is_ruled_out(&self, record: &HostRecord, id: &str) -> bool {
        let outline = self.outline(Some(record.shape));
        self.hits_about(id)
            .filter(|(_, subject, _)| {
                let its = self.subjects.about(&outline.subjects, subject.book);
                its.is_some_and(|its| std::ptr::eq(its, *subject))
            })
            .all(|(_, subject, _)| {
                let source = &subject.facts.source;
                state_with(FindingState::Open, id, source, &record.accepted).is_vulnerable().not()
            })
    }

    /// Hits of a vulnerability, with the subjects that have them.
    fn hits_about(&self, id: &str) -> impl Iterator<Item = (&Book, &Subject, Hit)> {
        let said = self.catalogue.statements_about(id);
        let books = said.filter_map(|s| Some(self.books.find(&s.release, &s.source)?.1));
        books.flat_map(move |book| {
            let rank = book.lines.rank(&self.catalogue, id);
            rank.into_iter().flat_map(move |rank| self.hits_of(book, rank))
        })
    }

    /// Hits of a statement of a book.
    pub(super) fn hits_of<'a>(
        &'a self,
        book: &'a Book,
        rank: u32,
    ) -> impl Iterator<Item = (&'a Book, &'a Subject, Hit)> {
        let subjects = book.subjects.iter().filter_map(|place| self.subjects.get(place));
        subjects.filter_map(move |subject| {
            let at = subject.hits.binary_search_by_key(&rank, |hit| hit.rank).ok()?;
            Some((book, subject, subject.hits[at]))
        })
    }

    /// The findings of one vulnerability on all hosts, proved fixed ones included. By host, then source.
    pub fn findings_about(&self, id: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        for (book, subject, hit) in self.hits_about(id) {
            for record in subject.hosts.iter().filter_map(|slot| self.at(slot)) {
                let (host, accepted) = (&record.id, &record.accepted);
                let of = &subject.facts;
                found.push(record.named(book.lines.finding(
                    &self.catalogue,
                    hit,
                    of,
                    host,
                    accepted,
                )));
            }
        }
        for (carried, slots) in self.carrying.about(id) {
            for record in slots.iter().filter_map(|slot| self.at(slot)) {
                found.push(record.named(self.carried_finding(record, carried)));
            }
        }
        found.sort_by(|a, b| (&a.host, &a.source).cmp(&(&b.host, &b.source)));
        found
    }

    fn carried_finding(&self, record: &HostRecord, carried: &Carried) -> Finding {
        let release = self.shapes.get(record.shape).map_or("", |shape| &shape.release);
        carried_finding(&self.catalogue, release, &record.id, carried, &record.accepted)
    }

    pub(super) fn record(&self, host: &HostId) -> Option<&HostRecord> {
        self.at(*self.slots.get(host)?)
    }

    /// A host's findings as they stand, by source package and vulnerability; `None` where it is not known.
    pub fn findings_of(&self, host: &HostId) -> Option<Vec<Finding>> {
        self.findings_in(host, |_| true)
    }

    /// Adds the findings of a system in those of its source packages that are wanted.
    pub(super) fn collect(
        &self,
        record: &HostRecord,
        wanted: impl Fn(&str) -> bool,
        findings: &mut Vec<Finding>,
    ) {
        let outline = self.outline(Some(record.shape));
        let subjects = outline.subjects.iter().filter_map(|place| self.subjects.get(*place));
        for subject in subjects.filter(|subject| wanted(&subject.facts.source)) {
            let Some(book) = self.books.get(subject.book) else { continue };
            findings.extend(subject.hits.iter().map(|hit| {
                let (host, accepted) = (&record.id, &record.accepted);
                let of = &subject.facts;
                record.named(book.lines.finding(&self.catalogue, *hit, of, host, accepted))
            }));
        }
        let carried = record.carried.iter().filter(|carried| wanted(&carried.source));
        findings.extend(carried.map(|c| record.named(self.carried_finding(record, c))));
    }
}

impl HostRecord {
    /// A finding under the name that it has on the host.
    fn named(&self, finding: Finding) -> Finding {
        match self.root.as_deref() {
            None => finding,
            root => Finding { source: named(root, &finding.source), ..finding },
        }
    }
}
