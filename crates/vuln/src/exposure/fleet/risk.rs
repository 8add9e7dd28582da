//! Which hosts are worst off.
//!
//! Each subject says once what it adds to the risk of a host that has it, so a host's is a sum, kept beside it. Hosts are then
//! compared by a few numbers, however many findings they have.

use super::subjects::Subject;
use super::{FleetIndex, HostRecord};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::judge::state_with;
use fettle_core::HostId;
use fettle_core::finding::{FindingState, Severity};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What speaks for looking at a host first, in the order in which it counts. Only what is vulnerable and not accepted counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Risk {
    /// Known to be exploited.
    pub exploited: u32,
    /// Critical or high, in a process that listens beyond loopback.
    pub exposed: u32,
    /// Critical.
    pub critical: u32,
    /// High.
    pub high: u32,
    /// Medium.
    pub medium: u32,
    /// Low and negligible.
    pub low: u32,
}

impl Risk {
    fn add(&mut self, other: Self) {
        self.exploited += other.exploited;
        self.exposed += other.exposed;
        self.critical += other.critical;
        self.high += other.high;
        self.medium += other.medium;
        self.low += other.low;
    }

    fn take(&mut self, severity: Severity, exploited: bool, exposed: bool) {
        self.exploited += u32::from(exploited);
        let bad = severity >= Severity::High;
        self.exposed += u32::from(exposed && bad);
        match severity {
            Severity::Critical => self.critical += 1,
            Severity::High => self.high += 1,
            Severity::Medium => self.medium += 1,
            Severity::Low | Severity::Negligible => self.low += 1,
        }
    }
}

/// What a subject adds to the risk of each of its hosts.
pub(super) fn of_subject(catalogue: &Catalogue, subject: &Subject) -> Risk {
    of_hits(catalogue, subject, |_| true)
}

fn of_hits(catalogue: &Catalogue, subject: &Subject, counts: impl Fn(&str) -> bool) -> Risk {
    let mut risk = Risk::default();
    for hit in &subject.hits {
        let statement = catalogue.at(hit.statement);
        if counts(&statement.id) {
            risk.take(statement.severity, catalogue.is_exploited(statement), hit.exposed);
        }
    }
    risk
}

impl FleetIndex {
    /// The risk of a system, summed up.
    pub(super) fn risk_of(&self, record: &HostRecord) -> Risk {
        let mut risk = Risk::default();
        for subject in record.subjects.iter().filter_map(|&p| self.subjects.get(p)) {
            if record.accepted.is_empty() {
                risk.add(subject.risk);
                continue;
            }
            let source = &subject.facts.source;
            risk.add(of_hits(&self.catalogue, subject, |id| {
                state_with(FindingState::Open, id, source, &record.accepted) == FindingState::Open
            }));
        }
        let release = crate::exposure::vendor::release_name(&record.os);
        for carried in &record.carried {
            let state = state_with(carried.state, &carried.id, &carried.source, &record.accepted);
            if !state.is_vulnerable() || state == FindingState::Accepted {
                continue;
            }
            let statement = self.catalogue.statement(&release, &carried.source, &carried.id);
            let exploited = statement.is_some_and(|s| self.catalogue.is_exploited(s));
            let severity = statement.map_or(Severity::Medium, |s| s.severity);
            risk.take(severity, exploited, carried.exposed);
        }
        risk
    }

    /// The `n` hosts that are worst off, worst first, with what is on them in other roots; those at no risk are left out.
    pub fn riskiest(&self, n: usize) -> Vec<(HostId, Risk)> {
        let mut with_roots: BTreeMap<u32, Risk> = BTreeMap::new();
        for slot in &self.roots {
            let Some(record) = self.hosts.get(slot as usize).and_then(Option::as_ref) else {
                continue;
            };
            let own = || self.hosts.get(record.owner as usize)?.as_ref().map(|host| host.risk);
            with_roots
                .entry(record.owner)
                .or_insert_with(|| own().unwrap_or_default())
                .add(record.risk);
        }
        let hosts = self.hosts.iter().enumerate().filter_map(|(slot, record)| {
            let record = record.as_ref().filter(|r| r.root.is_none())?;
            let risk = with_roots.get(&(slot as u32)).copied().unwrap_or(record.risk);
            (risk != Risk::default()).then_some((Reverse(risk), &record.id))
        });
        let mut worst: Vec<(Reverse<Risk>, &HostId)> = hosts.collect();
        if n < worst.len() {
            worst.select_nth_unstable(n);
            worst.truncate(n);
        }
        worst.sort_unstable();
        worst.into_iter().map(|(Reverse(risk), id)| (id.clone(), risk)).collect()
    }
}
