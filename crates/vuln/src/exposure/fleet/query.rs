//! Questions to the fleet.

use super::change::Part;
use super::subjects::Subject;
use super::{FleetIndex, HostRecord};
use crate::exposure::Coverage;
use crate::exposure::carry::Carried;
use crate::exposure::catalogue::Catalogue;
use crate::exposure::judge::{Hit, carried_finding, finding, state_with};
use crate::exposure::roots::named;
use crate::exposure::vendor::release_name;
use fettle_core::HostId;
use fettle_core::advisory::Ranking;
use fettle_core::finding::{Finding, FindingState, Severity};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many findings there are, by severity and state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals(BTreeMap<(Severity, FindingState), u64>);

impl Totals {
    /// Findings of this severity in this state.
    pub fn of(&self, severity: Severity, state: FindingState) -> u64 {
        self.0.get(&(severity, state)).copied().unwrap_or(0)
    }

    /// Findings in this state, of any severity.
    pub fn in_state(&self, state: FindingState) -> u64 {
        self.0.iter().filter(|((_, s), _)| *s == state).map(|(_, n)| n).sum()
    }

    /// All that are not 0, in the order of severity and state.
    pub fn iter(&self) -> impl Iterator<Item = (Severity, FindingState, u64)> {
        self.0.iter().map(|(&(severity, state), &n)| (severity, state, n))
    }

    pub(super) fn add(&mut self, part: &Part) {
        for &(state, severity) in part.values() {
            *self.0.entry((severity, state)).or_default() += 1;
        }
    }

    pub(super) fn subtract(&mut self, part: &Part) {
        for &(state, severity) in part.values() {
            if let Some(n) = self.0.get_mut(&(severity, state)) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    self.0.remove(&(severity, state));
                }
            }
        }
    }
}

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

impl FleetIndex {
    /// The catalogue in use.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Slots of hosts: a root on a host stands for the host.
    fn of_hosts(&self, mut slots: RoaringBitmap) -> RoaringBitmap {
        let roots = &slots & &self.roots;
        if !roots.is_empty() {
            slots -= &roots;
            let owner = |slot| Some(self.hosts.get(slot as usize)?.as_ref()?.owner);
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
        self.subjects.all().count()
    }

    /// The host in a slot of a bitmap.
    pub fn host_at(&self, slot: u32) -> Option<&HostId> {
        Some(&self.hosts.get(slot as usize)?.as_ref()?.id)
    }

    /// What of a host can be judged; `None` where it is not known.
    pub fn coverage_of(&self, host: &HostId) -> Option<Coverage> {
        let record = self.record(host)?;
        Some(self.catalogue.coverage(&record.os, &record.facts))
    }

    /// Findings of the whole fleet, counted.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// One host's findings, counted; `None` where it is not known.
    pub fn totals_of(&self, host: &HostId) -> Option<Totals> {
        let mut totals = Totals::default();
        totals.add(&self.part_of(self.record(host)?));
        for (_, slot) in self.roots_of(host) {
            if let Some(root) = self.hosts.get(slot as usize).and_then(Option::as_ref) {
                totals.add(&self.part_of(root));
            }
        }
        Some(totals)
    }

    /// Slots of the hosts that have a vulnerability in any vulnerable state (exceptions included).
    pub fn who_has(&self, id: &str) -> RoaringBitmap {
        let mut hosts = RoaringBitmap::new();
        let found = self.catalogue.vulnerabilities().binary_search_by(|v| v.id.as_ref().cmp(id));
        for subject in found.into_iter().flat_map(|place| self.subjects.with_vulnerability(place)) {
            hosts |= &subject.hosts;
        }
        for slot in &hosts & &self.excepted {
            let record = self.hosts.get(slot as usize).and_then(Option::as_ref);
            if record.is_some_and(|r| self.is_ruled_out(r, id)) {
                hosts.remove(slot);
            }
        }
        for (slot, record) in self.hosts.iter().enumerate() {
            let Some(record) = record else { continue };
            let vulnerable = |c: &&Carried| {
                c.id.as_ref() == id
                    && state_with(c.state, id, &c.source, &record.accepted).is_vulnerable()
            };
            if record.carried.iter().any(|c| vulnerable(&c)) {
                hosts.insert(slot as u32);
            }
        }
        self.of_hosts(hosts)
    }

    /// Is a vulnerability ruled out in every source package of a host that has it?
    fn is_ruled_out(&self, record: &HostRecord, id: &str) -> bool {
        let subjects = record.subjects.iter().filter_map(|&p| self.subjects.get(p));
        subjects.filter(|s| self.hits_about(s, id).next().is_some()).all(|s| {
            let state = state_with(FindingState::Open, id, &s.facts.source, &record.accepted);
            !state.is_vulnerable()
        })
    }

    /// The findings of one vulnerability on all hosts, proved fixed ones included. By host, then source.
    pub fn findings_about(&self, id: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let place = self.catalogue.vulnerabilities().binary_search_by(|v| v.id.as_ref().cmp(id));
        for subject in place.into_iter().flat_map(|place| self.subjects.with_vulnerability(place)) {
            for record in
                subject.hosts.iter().filter_map(|slot| self.hosts.get(slot as usize)?.as_ref())
            {
                found.extend(self.hits_about(subject, id).map(|hit| {
                    record.named(finding(
                        &self.catalogue,
                        &record.id,
                        &subject.facts,
                        hit,
                        &record.accepted,
                    ))
                }));
            }
        }
        for record in self.hosts.iter().flatten() {
            let release = release_name(&record.os);
            let about = record.carried.iter().filter(|c| c.id.as_ref() == id);
            found.extend(about.map(|c| {
                let (id, accepted) = (&record.id, &record.accepted);
                record.named(carried_finding(&self.catalogue, &release, id, c, accepted))
            }));
        }
        found.sort_by(|a, b| (&a.host, &a.source).cmp(&(&b.host, &b.source)));
        found
    }

    fn hits_about<'a>(&'a self, subject: &'a Subject, id: &str) -> impl Iterator<Item = &'a Hit> {
        let found =
            subject.hits.binary_search_by(|h| self.catalogue.at(h.statement).id.as_ref().cmp(id));
        found.ok().into_iter().map(|i| &subject.hits[i])
    }

    /// The `n` worst vulnerabilities of the fleet, worst first: by exploited, severity, exposed, EPSS, CVSS, in use,
    /// then by how many hosts have them. Accepted ones are left out where every host accepts them.
    pub fn worst(&self, n: usize) -> Vec<Worst> {
        #[derive(Default)]
        struct Sum {
            hosts: RoaringBitmap,
            in_use: RoaringBitmap,
            exposed: RoaringBitmap,
            fixable: RoaringBitmap,
        }
        // Bitmaps are made of those alone that can be among the worst by what is known of them without.
        let mut seen: Vec<Option<(bool, bool)>> = vec![None; self.catalogue.len()];
        for (_, subject) in self.subjects.all() {
            let all_accept = |hit: &Hit| {
                !self.excepted.is_empty() && self.not_accepting(subject, hit.statement).is_empty()
            };
            for hit in subject.hits.iter().filter(|hit| !all_accept(hit)) {
                let (in_use, exposed) = seen[hit.statement as usize].get_or_insert_default();
                *in_use |= hit.in_use;
                *exposed |= hit.exposed;
            }
        }
        let mil = |x: Option<f32>| (x.unwrap_or(0.0).max(0.0) * 1000.0) as u32;
        let rank = |place: u32, (in_use, exposed): (bool, bool)| {
            let statement = self.catalogue.at(place);
            let (epss, cvss) = self.catalogue.scores(statement);
            let exploited = self.catalogue.is_exploited(statement);
            Reverse((exploited, statement.severity, exposed, mil(epss), mil(cvss), in_use))
        };
        let ranked = seen.iter().enumerate().filter_map(|(place, flags)| {
            let place = place as u32;
            Some((rank(place, (*flags)?), place))
        });
        let mut ranked: Vec<_> = ranked.collect();
        if let Some(last) = n.checked_sub(1).filter(|last| *last < ranked.len()) {
            // What is as bad as the last of them may have more hosts.
            let bound = ranked.select_nth_unstable(last).1.0;
            ranked.retain(|(rank, _)| *rank <= bound);
        }
        let mut order = Vec::with_capacity(ranked.len());
        for (rank, place) in ranked {
            let vulnerability = self.catalogue.at(place).vulnerability as usize;
            let mut sum = Sum::default();
            for subject in self.subjects.with_vulnerability(vulnerability) {
                let found = subject.hits.binary_search_by_key(&place, |hit| hit.statement);
                let Some(hit) = found.ok().map(|at| &subject.hits[at]) else { continue };
                // Of other releases and sources the same vulnerability is another statement.
                let hosts = self.not_accepting(subject, place);
                if hit.in_use {
                    sum.in_use |= &*hosts;
                }
                if hit.exposed {
                    sum.exposed |= &*hosts;
                }
                if hit.offered && hit.state == FindingState::Open {
                    sum.fixable |= &*hosts;
                }
                sum.hosts |= &*hosts;
            }
            for slots in [&mut sum.hosts, &mut sum.in_use, &mut sum.exposed, &mut sum.fixable] {
                *slots = self.of_hosts(std::mem::take(slots));
            }
            order.push((rank, Reverse(sum.hosts.len()), place, sum));
        }
        order.sort_unstable_by_key(|it| (it.0, it.1, it.2));
        let order = order.into_iter().map(|(_, _, place, sum)| (place, sum));
        let top = order.take(n);
        top.filter_map(|(place, sum)| {
            let statement = self.catalogue.at(place);
            Some(Worst {
                id: statement.id.to_string(),
                source: statement.source.to_string(),
                severity: statement.severity,
                ranking: self.catalogue.ranking(statement),
                hosts: sum.hosts.len(),
                in_use: sum.in_use.len(),
                exposed: sum.exposed.len(),
                fixable_now: sum.fixable.len(),
                example: self
                    .host_at(sum.exposed.min().or(sum.in_use.min()).or(sum.hosts.min())?)?
                    .clone(),
            })
        })
        .collect()
    }

    /// Hosts of a subject without an exception for a statement.
    fn not_accepting<'a>(&self, subject: &'a Subject, statement: u32) -> Cow<'a, RoaringBitmap> {
        let statement = self.catalogue.at(statement);
        let accepts = |slot: &u32| {
            let record = self.hosts.get(*slot as usize).and_then(Option::as_ref);
            record.is_some_and(|r| {
                state_with(FindingState::Open, &statement.id, &statement.source, &r.accepted)
                    != FindingState::Open
            })
        };
        let accepting: RoaringBitmap =
            (&subject.hosts & &self.excepted).iter().filter(accepts).collect();
        if accepting.is_empty() {
            return Cow::Borrowed(&subject.hosts);
        }
        Cow::Owned(&subject.hosts - accepting)
    }

    fn record(&self, host: &HostId) -> Option<&HostRecord> {
        self.hosts.get(*self.slots.get(host)? as usize)?.as_ref()
    }

    pub(super) fn findings_in(&self, record: &HostRecord) -> Vec<Finding> {
        let release = release_name(&record.os);
        let subjects = record.subjects.iter().filter_map(|&p| self.subjects.get(p));
        let hits = subjects.flat_map(|s| {
            s.hits
                .iter()
                .map(|h| finding(&self.catalogue, &record.id, &s.facts, h, &record.accepted))
        });
        let mut findings: Vec<Finding> = hits.collect();
        let carried = record.carried.iter();
        findings.extend(
            carried.map(|c| {
                carried_finding(&self.catalogue, &release, &record.id, c, &record.accepted)
            }),
        );
        findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        findings.into_iter().map(|f| record.named(f)).collect()
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
