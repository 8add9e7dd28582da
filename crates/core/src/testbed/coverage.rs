//! What tests are worth to a plan.

use super::{TestState, TestbedRule, Tests, Verdict, Work};
use crate::plan::{HostPlan, Plan};
use crate::{AssignmentId, Digest, Hold, HostId, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// How much of a plan was tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Each work of the plan, the one with the most hosts first.
    pub works: Vec<Covered>,
}

/// One work of a plan, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Covered {
    /// Which.
    pub work: Work,
    /// Hosts of the plan it stands for.
    pub hosts: Vec<HostId>,
    /// What people call the first of them: the twin is made after it.
    pub like: String,
    /// Distinct packages that change.
    pub changes: u32,
    /// What its newest test is worth.
    pub standing: Standing,
    /// Share of the packages that the twin had exactly, in percent, where one was built.
    pub mirrored_percent: Option<u32>,
    /// The newest test, where there is one.
    pub test: Option<AssignmentId>,
}

/// What the newest test of some work is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum Standing {
    /// It passed, on a twin that was near enough, not too long ago.
    Good {
        /// When.
        at: Timestamp,
    },
    /// The change failed in the twin.
    Failed {
        /// Where and how.
        reason: String,
    },
    /// It ended, and says too little.
    Inconclusive {
        /// Why.
        reason: String,
    },
    /// It passed too long ago.
    Old {
        /// When.
        at: Timestamp,
    },
    /// It has not ended.
    Open {
        /// What it waits for.
        what: String,
    },
    /// Nobody has asked for one.
    Untested,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good { at } => write!(f, "passed at {at}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Inconclusive { reason } => write!(f, "says too little: {reason}"),
            Self::Old { at } => write!(f, "passed too long ago, at {at}"),
            Self::Open { what } => write!(f, "{what}"),
            Self::Untested => write!(f, "not tested"),
        }
    }
}

/// Judges the tests of a plan's works. What is not known is never taken for good.
pub fn coverage(plan: &Plan, rule: &TestbedRule, tests: &Tests, now: Timestamp) -> Coverage {
    let mut hosts: BTreeMap<Work, Vec<HostId>> = BTreeMap::new();
    // By where the plan keeps what is done: only ever asked for.
    let mut known: BTreeMap<(Digest, *const crate::plan::Work), Work> = BTreeMap::new();
    for (id, host) in &plan.hosts {
        let place = (host.cohort, Arc::as_ptr(&host.work));
        let work = *known.entry(place).or_insert_with(|| Work::of(host));
        hosts.entry(work).or_default().push(id.clone());
    }
    let mut works: Vec<Covered> = hosts
        .into_iter()
        .map(|(work, hosts)| {
            let first = hosts.first().and_then(|id| plan.hosts.get(id));
            let test = tests.get(&work);
            let report = test.and_then(|t| match &t.state {
                TestState::Ended { report, .. } => Some(report),
                _ => None,
            });
            Covered {
                work,
                like: first.map(|h| h.name.clone()).unwrap_or_default(),
                changes: first.map_or(0, |h| h.order.changes.len() as u32),
                standing: test.map_or(Standing::Untested, |t| standing(first, rule, t, now)),
                mirrored_percent: report
                    .filter(|r| r.mirror.wanted > 0)
                    .map(|r| r.mirror.percent()),
                test: test.map(|t| t.test.clone()),
                hosts,
            }
        })
        .collect();
    works.sort_by(|a, b| b.hosts.len().cmp(&a.hosts.len()).then(a.work.cmp(&b.work)));
    Coverage { works }
}

/// `like`: one of the hosts of the work; they get the same changes.
fn standing(
    like: Option<&HostPlan>,
    rule: &TestbedRule,
    tested: &super::Tested,
    now: Timestamp,
) -> Standing {
    let (at, report) = match &tested.state {
        TestState::Waiting { why } => return Standing::Open { what: why.clone() },
        TestState::Running { worker, since } => {
            return Standing::Open { what: format!("being tested on {worker} since {since}") };
        }
        TestState::Ended { at, report } => (*at, report),
    };
    match &report.verdict {
        Verdict::Failed { phase, reason } => {
            return Standing::Failed { reason: format!("{}: {reason}", phase.word()) };
        }
        Verdict::NotTested { message, .. } => {
            return Standing::Inconclusive { reason: message.clone() };
        }
        Verdict::Passed => {}
    }
    let mirror = &report.mirror;
    if mirror.percent() < rule.mirrored_percent {
        let reason = format!(
            "{} of {} packages were mirrored exactly, {} % are asked for",
            mirror.exact, mirror.wanted, rule.mirrored_percent
        );
        return Standing::Inconclusive { reason };
    }
    // What changes must have been there as it is on the host, or another change was tested.
    let changes = like.into_iter().flat_map(|h| &h.order.changes);
    let changed: BTreeSet<&str> = changes.map(|c| c.name.as_str()).collect();
    if let Some(other) = mirror.other.iter().find(|o| changed.contains(o.package.name.as_str())) {
        return Standing::Inconclusive { reason: format!("could not mirror: {other}") };
    }
    let age = SignedDuration::from_secs(i64::try_from(rule.max_age_seconds).unwrap_or(i64::MAX));
    if now.duration_since(at) > age {
        return Standing::Old { at };
    }
    Standing::Good { at }
}

impl Coverage {
    /// Works, and how many of them have a good test.
    pub fn works(&self) -> (u32, u32) {
        let good = self.works.iter().filter(|w| w.is_good()).count();
        (self.works.len() as u32, good as u32)
    }

    /// Hosts of the plan, and how many of them are of a work with a good test.
    pub fn hosts(&self) -> (u32, u32) {
        let all: usize = self.works.iter().map(|w| w.hosts.len()).sum();
        let good: usize = self.works.iter().filter(|w| w.is_good()).map(|w| w.hosts.len()).sum();
        (all as u32, good as u32)
    }

    /// Share of the hosts that are covered, in percent, rounded down: 100 means all. A plan without hosts is covered.
    pub fn percent(&self) -> u32 {
        match self.hosts() {
            (0, _) => 100,
            (all, good) => (u64::from(good) * 100 / u64::from(all)) as u32,
        }
    }

    /// Why no host of the plan may be touched. `None`: every work has a good test.
    pub fn hold(&self) -> Option<Hold> {
        let failed = self.works.iter().find_map(|w| match &w.standing {
            Standing::Failed { reason } => {
                Some(Hold::TestFailed { like: w.like.clone(), reason: reason.clone() })
            }
            _ => None,
        });
        failed.or_else(|| {
            let first = self.works.iter().find(|w| !w.is_good())?;
            let (all, good) = self.works();
            let first = format!("{}: {}", first.like, first.standing);
            Some(Hold::NotTested { cohorts: all - good, of: all, first })
        })
    }

    /// The tests that a plan rests on.
    pub fn evidence(&self) -> Vec<AssignmentId> {
        self.works.iter().filter(|w| w.is_good()).filter_map(|w| w.test.clone()).collect()
    }
}

impl Covered {
    /// Its newest test counts.
    pub fn is_good(&self) -> bool {
        matches!(self.standing, Standing::Good { .. })
    }
}
