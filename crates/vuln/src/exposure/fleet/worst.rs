//! The worst vulnerabilities of the fleet.
//!
//! Each book counts how many systems have each of its statements' hits, so that what is worst is found in numbers that are at
//! hand. Bitmaps are made of what numbers cannot tell alone: hosts that are there with several roots, or have an exception.

use super::FleetIndex;
use super::books::{Book, Tally};
use crate::exposure::catalogue::Statement;
use crate::exposure::judge::state_with;
use fettle_core::HostId;
use fettle_core::advisory::Ranking;
use fettle_core::finding::{FindingState, Severity};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One vulnerability of one source package across the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// The vulnerability.
    pub id: String,
    /// Source package.
    pub source: String,
    /// How bad.
    pub severity: Severity,
    /// CVSS, EPSS, KEV, date.
    pub ranking: Ranking,
    /// Hosts that have it in any vulnerable state.
    pub hosts: u64,
    /// Of these, in a process or as running kernel.
    pub in_use: u64,
    /// Of these, in a process that listens beyond loopback.
    pub exposed: u64,
    /// Of these, open with a fix that the host's own sources offer.
    pub fixable_now: u64,
    /// One of the hosts, to look at and explain.
    pub example: HostId,
}

/// A statement of a book, by rank.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    book: &'a Book,
    rank: u32,
    tally: Tally,
}

/// Who has a hit.
#[derive(Default)]
struct Sum {
    hosts: RoaringBitmap,
    in_use: RoaringBitmap,
    exposed: RoaringBitmap,
    fixable: RoaringBitmap,
}

/// What counts of a vulnerability first, and is at hand where statements are gone through: exploited, how bad, exposed.
type First = (bool, Severity, bool);

fn first(place: &Place<'_>) -> First {
    let line = place.book.lines.lines[place.rank as usize];
    (line.exploited, line.severity, place.tally.exposed > 0)
}

impl FleetIndex {
    /// The `n` worst vulnerabilities of the fleet, worst first: by exploited, severity, exposed, EPSS, CVSS, in use,
    /// then by how many hosts have them. Accepted ones are left out where every host accepts them.
    pub fn worst(&self, n: usize) -> Vec<Worst> {
        let mil = |x: Option<f32>| (x.unwrap_or(0.0).max(0.0) * 1000.0) as u32;
        let rank = |place: &Place<'_>| {
            let statement = self.statement(place);
            let (epss, cvss) = self.catalogue.scores(statement);
            let (exploited, severity, exposed) = first(place);
            let (epss, cvss) = (mil(epss), mil(cvss));
            Reverse((exploited, severity, exposed, epss, cvss, place.tally.in_use > 0))
        };
        let mut ranked: Vec<_> =
            self.candidates(n).into_iter().map(|place| (rank(&place), place)).collect();
        if let Some(last) = n.checked_sub(1).filter(|last| *last < ranked.len()) {
            // What is as bad as the last of them may have more hosts.
            let bound = ranked.select_nth_unstable_by_key(last, |(rank, _)| *rank).1.0;
            ranked.retain(|(rank, _)| *rank <= bound);
        }
        let hosts = |place: &Place<'_>| match self.is_by_numbers(place.book) {
            true => place.tally.hosts,
            false => self.sum(place).hosts.len() as u32,
        };
        let mut order: Vec<_> = ranked
            .into_iter()
            .map(|(rank, place)| (rank, Reverse(hosts(&place)), self.number(&place), place))
            .collect();
        order.sort_unstable_by_key(|(rank, hosts, number, _)| (*rank, *hosts, *number));
        order.into_iter().take(n).filter_map(|(.., place)| self.tell(&place)).collect()
    }

    /// Statements with hits, as many of those that come first that the worst are among them.
    fn candidates(&self, n: usize) -> Vec<Place<'_>> {
        let mut tiers: BTreeMap<Reverse<First>, Vec<Place<'_>>> = BTreeMap::new();
        let with_exceptions: BTreeSet<u32> =
            self.excepted.keys().flat_map(|id| self.catalogue.places_about(id)).copied().collect();
        for (_, book) in self.books.all().1 {
            for (rank, tally) in book.tallies.iter().enumerate() {
                if tally.hosts == 0 {
                    continue;
                }
                let mut place = Place { book, rank: rank as u32, tally: *tally };
                if with_exceptions.contains(&self.number(&place)) {
                    let sum = self.sum(&place);
                    place.tally = Tally {
                        hosts: sum.hosts.len() as u32,
                        in_use: sum.in_use.len() as u32,
                        exposed: sum.exposed.len() as u32,
                    };
                    if place.tally.hosts == 0 {
                        continue;
                    }
                }
                tiers.entry(Reverse(first(&place))).or_default().push(place);
            }
        }
        let mut candidates = Vec::new();
        for tier in tiers.into_values() {
            if candidates.len() >= n {
                break;
            }
            candidates.extend(tier);
        }
        candidates
    }

    /// Are systems hosts in this book?
    fn is_by_numbers(&self, book: &Book) -> bool {
        let with_roots =
            |place| self.subjects.get(place).is_some_and(|s| !s.hosts.is_disjoint(&self.roots));
        self.roots.is_empty() || !book.subjects.iter().any(with_roots)
    }

    fn statement(&self, place: &Place<'_>) -> &Statement {
        place.book.lines.statement(&self.catalogue, place.rank)
    }

    /// Its place in the catalogue.
    fn number(&self, place: &Place<'_>) -> u32 {
        place.book.lines.start + place.rank
    }

    fn sum(&self, place: &Place<'_>) -> Sum {
        let statement = self.statement(place);
        let excepted = self.excepted.get(&*statement.id);
        let accepts = |slot: &u32| {
            self.at(*slot).is_some_and(|r| {
                state_with(FindingState::Open, &statement.id, &statement.source, &r.accepted)
                    != FindingState::Open
            })
        };
        let mut sum = Sum::default();
        for (_, subject, hit) in self.hits_of(place.book, place.rank) {
            let accepting = excepted.map(|slots| &subject.hosts & slots).unwrap_or_default();
            let accepting: RoaringBitmap = accepting.iter().filter(accepts).collect();
            let hosts = &subject.hosts - accepting;
            if hit.in_use() {
                sum.in_use |= &hosts;
            }
            if hit.exposed() {
                sum.exposed |= &hosts;
            }
            if hit.offered() && hit.state == FindingState::Open {
                sum.fixable |= &hosts;
            }
            sum.hosts |= hosts;
        }
        for slots in [&mut sum.hosts, &mut sum.in_use, &mut sum.exposed, &mut sum.fixable] {
            *slots = self.of_hosts(std::mem::take(slots));
        }
        sum
    }

    fn tell(&self, place: &Place<'_>) -> Option<Worst> {
        let statement = self.statement(place);
        let (numbers, example) = if self.is_by_numbers(place.book)
            && !self.excepted.contains_key(&*statement.id)
        {
            let mut fixable = 0;
            // What is exposed comes first, then what is in use.
            let mut example: Option<(u8, u32)> = None;
            for (_, subject, hit) in self.hits_of(place.book, place.rank) {
                if hit.offered() && hit.state == FindingState::Open {
                    fixable += subject.hosts.len();
                }
                let class = if hit.exposed() { 0 } else { 2 - u8::from(hit.in_use()) };
                let its = subject.hosts.min().map(|slot| (class, slot));
                example = example.into_iter().chain(its).min();
            }
            let Tally { hosts, in_use, exposed } = place.tally;
            ([hosts.into(), in_use.into(), exposed.into(), fixable], example.map(|(_, slot)| slot))
        } else {
            let sum = self.sum(place);
            let example = sum.exposed.min().or(sum.in_use.min()).or(sum.hosts.min());
            ([sum.hosts, sum.in_use, sum.exposed, sum.fixable].map(|slots| slots.len()), example)
        };
        let [hosts, in_use, exposed, fixable_now] = numbers;
        Some(Worst {
            id: statement.id.to_string(),
            source: statement.source.to_string(),
            severity: statement.severity,
            ranking: self.catalogue.ranking(statement),
            hosts,
            in_use,
            exposed,
            fixable_now,
            example: self.host_at(example?)?.clone(),
        })
    }
}
