//! Findings in short, as many as a change concerns, and what it comes to.

use super::Risk;
use super::books::{Hit, Lines};
use crate::exposure::Exception;
use crate::exposure::carry::Carried;
use crate::exposure::catalogue::Catalogue;
use crate::exposure::judge::state_with;
use fettle_core::finding::{Finding, FindingState, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A finding that appeared, changed its state, or went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingDelta {
    /// Source package.
    pub source: Arc<str>,
    /// The vulnerability.
    pub id: Arc<str>,
    /// State before; `None`: it is new.
    pub before: Option<FindingState>,
    /// State now; `None`: it is gone without proof (see [`super::HostChange::withdrawn`]), or its host is.
    pub after: Option<FindingState>,
}

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

    pub(super) fn add(&mut self, severity: Severity, state: FindingState, by: i64) {
        let n = self.0.entry((severity, state)).or_default();
        *n = n.saturating_add_signed(by);
        if *n == 0 {
            self.0.remove(&(severity, state));
        }
    }

    /// Counts these in place of those.
    pub(super) fn replace(&mut self, before: &[Short<'_>], after: &[Short<'_>]) {
        for (findings, by) in [(after, 1), (before, -1)] {
            for finding in findings {
                self.add(finding.severity, finding.state, by);
            }
        }
    }
}

/// A finding in short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short<'a> {
    pub(super) source: &'a Arc<str>,
    pub(super) id: &'a Arc<str>,
    pub(super) state: FindingState,
    pub(super) severity: Severity,
    pub(super) exploited: bool,
    pub(super) exposed: bool,
}

impl<'a> Short<'a> {
    /// What the store has told, under the names that the catalogue has for it.
    pub(super) fn of_told((source, id, finding): &'a (Arc<str>, Arc<str>, &Finding)) -> Self {
        Self {
            source,
            id,
            state: finding.state,
            severity: finding.severity(),
            exploited: false,
            exposed: false,
        }
    }

    /// What a hit is on a host.
    pub(super) fn of_hit(
        catalogue: &'a Catalogue,
        lines: &Lines,
        hit: Hit,
        accepted: &[Exception],
    ) -> Self {
        let statement = lines.statement(catalogue, hit.rank);
        let line = lines.line(hit);
        Self {
            source: &statement.source,
            id: &statement.id,
            state: state_with(hit.state, &statement.id, &statement.source, accepted),
            severity: line.severity,
            exploited: line.exploited,
            exposed: hit.exposed(),
        }
    }

    /// What something carried over is.
    pub(super) fn of_carried(
        carried: &'a Carried,
        (severity, exploited): (Severity, bool),
        accepted: &[Exception],
    ) -> Self {
        Self {
            source: &carried.source,
            id: &carried.id,
            state: state_with(carried.state, &carried.id, &carried.source, accepted),
            severity,
            exploited,
            exposed: carried.exposed,
        }
    }

    fn key(&self) -> (&'a str, &'a str) {
        (self.source, self.id)
    }

    /// What it adds to the risk of its host.
    fn risk(&self, risk: &mut Risk) {
        if self.state.is_vulnerable() && self.state != FindingState::Accepted {
            risk.take(self.severity, self.exploited, self.exposed);
        }
    }
}

/// Findings that the index was told of, each once, under names that can be borrowed.
pub(super) fn named(findings: &[Finding]) -> Vec<(Arc<str>, Arc<str>, &Finding)> {
    let each: BTreeMap<(&str, &str), &Finding> =
        findings.iter().map(|f| ((f.source.as_str(), f.id.as_str()), f)).collect();
    each.into_iter().map(|((source, id), f)| (source.into(), id.into(), f)).collect()
}

/// The risk of these.
pub(super) fn risk_of(findings: &[Short<'_>]) -> Risk {
    let mut risk = Risk::default();
    findings.iter().for_each(|finding| finding.risk(&mut risk));
    risk
}

/// What the one list has and the other has not, by source and vulnerability. Sorts both.
pub(super) fn deltas(before: &mut [Short<'_>], after: &mut [Short<'_>]) -> Vec<FindingDelta> {
    before.sort_by_key(Short::key);
    after.sort_by_key(Short::key);
    let mut deltas = Vec::with_capacity(after.len());
    let mut tell = |of: &Short<'_>, before, after| {
        if before != after {
            let (source, id) = (of.source.clone(), of.id.clone());
            deltas.push(FindingDelta { source, id, before, after });
        }
    };
    let mut was = before.iter().peekable();
    for now in after.iter() {
        while let Some(gone) = was.next_if(|was| was.key() < now.key()) {
            tell(gone, Some(gone.state), None);
        }
        let same = was.next_if(|was| was.key() == now.key());
        tell(now, same.map(|was| was.state), Some(now.state));
    }
    for gone in was {
        tell(gone, Some(gone.state), None);
    }
    deltas
}
