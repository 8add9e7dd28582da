//! Which hosts are worst off.
//!
//! Each subject says once what it adds to the risk of a host that has it, so a host's is a sum, kept by slot and changed by
//! what changes. Hosts are then compared by a few numbers, however many findings they have.

use super::FleetIndex;
use fettle_core::HostId;
use fettle_core::finding::Severity;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cmp::Reverse;

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
    fn each(&mut self, other: Self, of: impl Fn(u32, u32) -> u32) {
        self.exploited = of(self.exploited, other.exploited);
        self.exposed = of(self.exposed, other.exposed);
        self.critical = of(self.critical, other.critical);
        self.high = of(self.high, other.high);
        self.medium = of(self.medium, other.medium);
        self.low = of(self.low, other.low);
    }

    /// With this in it in place of that. What it has in it was put there: what is taken out is never more.
    pub(super) fn change(&mut self, less: Self, more: Self) {
        self.each(more, u32::wrapping_add);
        self.each(less, u32::wrapping_sub);
    }

    pub(super) fn take(&mut self, severity: Severity, exploited: bool, exposed: bool) {
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

impl FleetIndex {
    /// The `n` hosts that are worst off, worst first, with what is on them in other roots; those at no risk are left out.
    pub fn riskiest(&self, n: usize) -> Vec<(HostId, Risk)> {
        let mut risks = Cow::Borrowed(&self.risks);
        for slot in &self.roots {
            if let Some(record) = self.at(slot) {
                let its = self.risks[slot as usize];
                risks.to_mut()[record.owner as usize].change(Risk::default(), its);
            }
        }
        let hosts = self.hosts.iter().zip(risks.iter()).filter_map(|(record, risk)| {
            let record = record.as_ref().filter(|r| r.root.is_none())?;
            (*risk != Risk::default()).then_some((Reverse(*risk), &record.id))
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
