//! What a period was like: was what is owed done in time, how long did it take, what moved and what went wrong, and who
//! decided to live with what.
//!
//! A report is a function of findings, rollouts and policies as they are now, of a period and of `now`: made again of
//! the same, it is the same. Of a period that has passed it says what can still be known: findings whose host has left,
//! or that the vendor has withdrawn, are in no report any more, and a finding that is accepted today counts as accepted
//! for all of the period.

mod exceptions;
mod rollouts;
pub mod schedule;

pub use exceptions::{ExceptionKind, ExceptionLine, Standing, exceptions};
pub use rollouts::{RolloutSummary, RolloutTotals, summarise};

use crate::finding::{FindingState, Severity};
use crate::{Problem, ProblemKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Points of the trend at most.
const POINTS: i64 = 60;
/// Lines of the list of what is overdue at most; the rest is counted.
pub const MAX_OVERDUE: usize = 500;
const DAY: i64 = 86_400;

/// A span of time: `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its first moment.
    pub from: Timestamp,
    /// The moment after its last.
    pub to: Timestamp,
}

impl Period {
    /// From what somebody asked for. Without a beginning it is 30 days long; without an end, or with one that is still
    /// to come, it ends now.
    ///
    /// # Errors
    /// [`ProblemKind::BadInput`] if nothing is between the two.
    pub fn asked(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let to = to.unwrap_or(now).min(now);
        let month = jiff::SignedDuration::from_secs(30 * DAY);
        let from = from.unwrap_or_else(|| to.saturating_sub(month).unwrap_or(Timestamp::MIN));
        if from >= to {
            return Err(Problem::new(
                ProblemKind::BadInput,
                "bad-period",
                format!("the period from {from} to {to} is empty"),
                "give a `from` that is before `to` and has passed, as in 2026-01-01T00:00:00Z",
            ));
        }
        Ok(Self { from, to })
    }

    /// Is the moment in it?
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

/// A finding, as a report looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The host's policy; empty without one.
    pub policy: &'a str,
    /// Its class in that policy; empty without one.
    pub class: &'a str,
    /// The host.
    pub host: &'a str,
    /// The vulnerability.
    pub id: &'a str,
    /// Source package.
    pub source: &'a str,
    /// How bad.
    pub severity: Severity,
    /// Where it stands now.
    pub state: FindingState,
    /// When the server first saw it on the host.
    pub first_seen: Timestamp,
    /// By when it is owed.
    pub deadline: Option<Timestamp>,
    /// When it was proved gone.
    pub fixed_at: Option<Timestamp>,
    /// Do the host's own sources offer a fix?
    pub offered: bool,
}

/// How long the patching took: from the first sight of a finding on a host to its proof that it is gone, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeToPatch {
    /// Findings that it is counted over.
    pub fixed: u64,
    /// Half of them took at most so long (nearest rank).
    pub median_seconds: u64,
    /// Nine of ten took at most so long (nearest rank).
    pub p90_seconds: u64,
    /// The longest.
    pub worst_seconds: u64,
}

impl TimeToPatch {
    fn of(mut took: Vec<u32>) -> Self {
        took.sort_unstable();
        // Nearest rank: the smallest value that so many of a hundred do not exceed.
        let rank = |percent: usize| {
            let at = (took.len() * percent).div_ceil(100).max(1) - 1;
            took.get(at).copied().map_or(0, u64::from)
        };
        Self {
            fixed: took.len() as u64,
            median_seconds: rank(50),
            p90_seconds: rank(90),
            worst_seconds: rank(100),
        }
    }
}

/// How what is owed stands, of one class of one policy or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compliance {
    /// The policy; empty: hosts that no policy covers.
    pub policy: String,
    /// The class; empty: findings that no class of the policy matches, for which nothing is owed by a date.
    pub class: String,
    /// Hosts with a finding of the class at the end of the period.
    pub hosts: u64,
    /// Of those, hosts with one that was overdue then.
    pub hosts_late: u64,
    /// Proved gone in the period and by their deadline.
    pub in_time: u64,
    /// Proved gone in the period and after their deadline.
    pub late: u64,
    /// Not proved gone at the end of the period, with the deadline passed.
    pub overdue: u64,
    /// Not proved gone at the end of the period, with a deadline to come.
    pub due: u64,
    /// Of a deadline there is none: proved gone in the period.
    pub fixed_undated: u64,
    /// Of a deadline there is none: not proved gone at the end of the period.
    pub open_undated: u64,
    /// The vendor has no fix yet.
    pub no_fix_yet: u64,
    /// Accepted by somebody, for a reason and a time.
    pub accepted: u64,
    /// Share of what was owed by the end of the period that was done in time, in thousandths. `None`: nothing was owed.
    pub in_time_permille: Option<u32>,
    /// How long it took, over all that was proved gone in the period.
    pub time_to_patch: TimeToPatch,
}

/// What is overdue: one vulnerability in one class, on all hosts where the same stands in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverdueLine {
    /// The policy.
    pub policy: String,
    /// The class.
    pub class: String,
    /// The vulnerability.
    pub id: String,
    /// Source package.
    pub source: String,
    /// How bad.
    pub severity: Severity,
    /// The earliest deadline that was missed.
    pub deadline: Timestamp,
    /// On how many hosts.
    pub hosts: u64,
    /// One of them, by name: the first in the alphabet.
    pub example: String,
    /// What stands in the way.
    pub why: String,
}

/// How much was vulnerable at one moment, by class of the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendPoint {
    /// When.
    pub at: Timestamp,
    /// Findings that were known and not proved gone, by class word; empty: without a class.
    pub open: BTreeMap<String, u64>,
    /// Of those, findings past their deadline.
    pub overdue: u64,
    /// The same by class word: they add up to `overdue`.
    #[serde(default)]
    pub overdue_by_class: BTreeMap<String, u64>,
}

/// What a report says of the findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Over everything: policy and class are empty.
    pub total: Compliance,
    /// By policy and class.
    pub lines: Vec<Compliance>,
    /// What is overdue at the end of the period, longest first; at most [`MAX_OVERDUE`] lines.
    pub overdue: Vec<OverdueLine>,
    /// Lines that were left out of it.
    pub overdue_left_out: u64,
    /// Exposure over the period; first and last point are its ends.
    pub trend: Vec<TrendPoint>,
}

/// What one class of one policy has collected.
#[derive(Debug, Default)]
struct Line {
    counts: Compliance,
    hosts: BTreeSet<u32>,
    hosts_late: BTreeSet<u32>,
    took: Vec<u32>,
    /// By point of the trend: how many more findings are open than at the point before.
    steps: Vec<i64>,
    /// The same of findings that are overdue.
    overdue_steps: Vec<i64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LateKey {
    policy: String,
    class: String,
    id: String,
    source: String,
    why: String,
}

#[derive(Debug)]
struct Late {
    severity: Severity,
    deadline: Timestamp,
    hosts: u64,
    example: String,
}

/// Takes in findings one by one. What it keeps grows with classes, hosts and what is overdue, not with all findings;
/// four bytes for each that was fixed in the period.
#[derive(Debug)]
pub struct Count {
    period: Period,
    points: Vec<Timestamp>,
    lines: BTreeMap<(String, String), Line>,
    hosts: BTreeMap<String, u32>,
    late: BTreeMap<LateKey, Late>,
}

impl Count {
    /// Nothing yet.
    pub fn new(period: Period) -> Self {
        Self {
            period,
            points: points(period),
            lines: BTreeMap::new(),
            hosts: BTreeMap::new(),
            late: BTreeMap::new(),
        }
    }

    /// Takes in a finding. What stands in the way of one that is overdue and open is asked of `why`.
    pub fn take(&mut self, seen: &Seen<'_>, why: impl FnOnce() -> String) {
        let Period { from, to } = self.period;
        if seen.first_seen >= to || seen.state == FindingState::NotAffected {
            return;
        }
        let gone = seen.fixed_at.filter(|_| seen.state == FindingState::Fixed);
        if gone.is_some_and(|at| at < from) {
            return;
        }
        let key = (seen.policy.to_owned(), seen.class.to_owned());
        let steps = self.points.len() + 1;
        let line = self.lines.entry(key).or_insert_with(|| Line {
            steps: vec![0; steps],
            overdue_steps: vec![0; steps],
            ..Line::default()
        });
        if seen.state != FindingState::Accepted {
            span(&mut line.steps, &self.points, seen.first_seen, gone);
        }
        // Nothing is owed while the vendor has nothing to give.
        let owed = seen
            .deadline
            .filter(|_| !matches!(seen.state, FindingState::Accepted | FindingState::NoFixYet));
        if let Some(deadline) = owed {
            // A deadline is missed from the moment itself on; before the first sight nobody could keep it.
            let missed = deadline.max(seen.first_seen);
            if gone.is_none_or(|at| at > missed) {
                span(&mut line.overdue_steps, &self.points, missed, gone);
            }
        }
        let counts = &mut line.counts;
        if let Some(at) = gone.filter(|at| *at < to) {
            let took = at.duration_since(seen.first_seen).as_secs();
            line.took.push(u32::try_from(took.max(0)).unwrap_or(u32::MAX));
            match seen.deadline {
                Some(deadline) if at <= deadline => counts.in_time += 1,
                Some(_) => counts.late += 1,
                None => counts.fixed_undated += 1,
            }
            return;
        }
        let next = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let host = match self.hosts.get(seen.host) {
            Some(number) => *number,
            None => *self.hosts.entry(seen.host.to_owned()).or_insert(next),
        };
        line.hosts.insert(host);
        match seen.state {
            FindingState::Accepted => counts.accepted += 1,
            FindingState::NoFixYet => counts.no_fix_yet += 1,
            _ => match seen.deadline {
                Some(deadline) if deadline < to => {
                    counts.overdue += 1;
                    line.hosts_late.insert(host);
                    self.late(seen, deadline, gone, why);
                }
                Some(_) => counts.due += 1,
                None => counts.open_undated += 1,
            },
        }
    }

    fn late(
        &mut self,
        seen: &Seen<'_>,
        deadline: Timestamp,
        gone: Option<Timestamp>,
        why: impl FnOnce() -> String,
    ) {
        let why = match (gone, seen.state) {
            // Not when: each host has a moment of its own, and what is the same reason would fall apart into as many lines.
            (Some(_), _) => "was proved gone after the period".to_owned(),
            (None, FindingState::PendingRestart) => {
                "fixed on disk; a process still runs the old code: restart it".to_owned()
            }
            (None, FindingState::PendingReboot) => {
                "fixed on disk; the old kernel still runs: reboot".to_owned()
            }
            (None, _) => why(),
        };
        let key = LateKey {
            policy: seen.policy.to_owned(),
            class: seen.class.to_owned(),
            id: seen.id.to_owned(),
            source: seen.source.to_owned(),
            why,
        };
        let late = self.late.entry(key).or_insert_with(|| Late {
            severity: seen.severity,
            deadline,
            hosts: 0,
            example: seen.host.to_owned(),
        });
        late.severity = late.severity.max(seen.severity);
        late.deadline = late.deadline.min(deadline);
        late.hosts += 1;
        if seen.host < late.example.as_str() {
            seen.host.clone_into(&mut late.example);
        }
    }

    /// What it comes to.
    pub fn finish(self) -> Owed {
        let mut total = Compliance::default();
        let (mut hosts, mut hosts_late) = (BTreeSet::new(), BTreeSet::new());
        let mut took = Vec::new();
        let mut open: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut late: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut lines = Vec::with_capacity(self.lines.len());
        for ((policy, class), line) in self.lines {
            for (all, steps) in [(&mut open, &line.steps), (&mut late, &line.overdue_steps)] {
                let sum = all.entry(class.clone()).or_insert_with(|| vec![0; steps.len()]);
                sum.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
            }
            total.add(&line.counts);
            took.extend_from_slice(&line.took);
            let mut counts = line.counts;
            (counts.policy, counts.class) = (policy, class);
            counts.hosts = line.hosts.len() as u64;
            counts.hosts_late = line.hosts_late.len() as u64;
            counts.close(line.took);
            hosts.extend(line.hosts);
            hosts_late.extend(line.hosts_late);
            lines.push(counts);
        }
        total.hosts = hosts.len() as u64;
        total.hosts_late = hosts_late.len() as u64;
        total.close(took);
        let mut overdue: Vec<OverdueLine> = self.late.into_iter().map(line_of).collect();
        overdue.sort_by(|a, b| (a.deadline, &a.id).cmp(&(b.deadline, &b.id)));
        let left_out = overdue.len().saturating_sub(MAX_OVERDUE) as u64;
        overdue.truncate(MAX_OVERDUE);
        let trend = trend(&self.points, &open, &late);
        Owed { total, lines, overdue, overdue_left_out: left_out, trend }
    }
}

impl Compliance {
    fn add(&mut self, other: &Self) {
        self.in_time += other.in_time;
        self.late += other.late;
        self.overdue += other.overdue;
        self.due += other.due;
        self.fixed_undated += other.fixed_undated;
        self.open_undated += other.open_undated;
        self.no_fix_yet += other.no_fix_yet;
        self.accepted += other.accepted;
    }

    fn close(&mut self, took: Vec<u32>) {
        let owed = self.in_time + self.late + self.overdue;
        // Rounded down: what was not all in time is never called all.
        self.in_time_permille =
            (owed > 0).then(|| u32::try_from(self.in_time * 1000 / owed).unwrap_or(1000));
        self.time_to_patch = TimeToPatch::of(took);
    }
}

fn line_of((key, late): (LateKey, Late)) -> OverdueLine {
    OverdueLine {
        policy: key.policy,
        class: key.class,
        id: key.id,
        source: key.source,
        severity: late.severity,
        deadline: late.deadline,
        hosts: late.hosts,
        example: late.example,
        why: key.why,
    }
}

/// Evenly over the period, both ends among them: one a day where that is few enough, else as many as are drawn.
fn points(period: Period) -> Vec<Timestamp> {
    let length = period.to.duration_since(period.from).as_secs().max(1);
    let spans = (length / DAY).clamp(1, POINTS - 1);
    let at = |n: i64| {
        let past = i128::from(length) * i128::from(n) / i128::from(spans);
        let past = jiff::SignedDuration::from_secs(i64::try_from(past).unwrap_or(i64::MAX));
        if n == spans { period.to } else { period.from.saturating_add(past).unwrap_or(period.to) }
    };
    (0..=spans).map(at).collect()
}

/// One more from the first point at or after `from` on, one less from the first at or after `to` on.
fn span(steps: &mut [i64], points: &[Timestamp], from: Timestamp, to: Option<Timestamp>) {
    let first = |moment: Timestamp| points.partition_point(|at| *at < moment);
    steps[first(from)] += 1;
    if let Some(to) = to {
        steps[first(to)] -= 1;
    }
}

fn trend(
    points: &[Timestamp],
    open: &BTreeMap<String, Vec<i64>>,
    overdue: &BTreeMap<String, Vec<i64>>,
) -> Vec<TrendPoint> {
    let (mut now, mut late) = (BTreeMap::new(), BTreeMap::new());
    let point = |(n, at): (usize, &Timestamp)| {
        let open = stepped(&mut now, open, n);
        let overdue_by_class = stepped(&mut late, overdue, n);
        TrendPoint { at: *at, open, overdue: overdue_by_class.values().sum(), overdue_by_class }
    };
    points.iter().enumerate().map(point).collect()
}

/// Takes the next step of each class, and gives how many there are of each now.
fn stepped<'a>(
    now: &mut BTreeMap<&'a str, i64>,
    all: &'a BTreeMap<String, Vec<i64>>,
    point: usize,
) -> BTreeMap<String, u64> {
    for (class, steps) in all {
        *now.entry(class).or_default() += steps[point];
    }
    let some = now.iter().filter(|(_, sum)| **sum > 0);
    some.map(|(class, sum)| ((*class).to_owned(), sum.unsigned_abs())).collect()
}

#[cfg(test)]
mod tests;
