//! What a policy does by itself, and when: one run for each time its cycle comes due.
//!
//! Pure: [`decide`] looks at the newest run, at what is observed and at *now*, and gives the one step that comes next,
//! or why there is none. Each step is kept under the key of its run (the policy, and the time it came due) before
//! anything follows from it, so that a server that is killed anywhere does none of them twice.

use crate::policy::{CycleRule, CycleStart, CycleWhen};
use crate::{Hold, RolloutId, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Times that came due unseen are counted up to this.
const MOST_SKIPPED: u32 = 1000;

/// One run of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleRun {
    /// When it came due: with the policy, the key of the run.
    pub due: Timestamp,
    /// When it was first seen to be due.
    pub seen_at: Timestamp,
    /// How many that came due before it were passed over, because nobody was there to see them.
    #[serde(default)]
    pub skipped: u32,
    /// Where it stands.
    pub state: CycleState,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum CycleState {
    /// It is due, and held.
    Held {
        /// Why.
        holds: Vec<Hold>,
    },
    /// Its plan is made, and waits for its approvals.
    Planned {
        /// The plan.
        plan: u64,
    },
    /// Its rollout was started.
    Started {
        /// The plan.
        plan: u64,
        /// The rollout.
        rollout: RolloutId,
    },
    /// Nothing more follows from it.
    Ended {
        /// How it ended.
        outcome: CycleOutcome,
        /// When.
        at: Timestamp,
    },
}

impl CycleState {
    /// Does nothing more follow from it?
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum CycleOutcome {
    /// There was nothing to do.
    NothingOwed,
    /// Everything that is owed is held: the plan says why, host by host.
    AllHeld {
        /// The plan.
        plan: u64,
    },
    /// The plan was left for a person.
    Proposed {
        /// The plan.
        plan: u64,
    },
    /// It could not be done in its time.
    Missed {
        /// What held it; empty: nobody was there.
        holds: Vec<Hold>,
    },
    /// Another plan of the policy took effect before this one was approved.
    Overtaken {
        /// The plan.
        plan: u64,
    },
    /// It was not approved before the next came due.
    NotApproved {
        /// The plan.
        plan: u64,
    },
    /// The rollout did what was planned.
    Done {
        /// The rollout.
        rollout: RolloutId,
    },
    /// The rollout went wrong.
    Failed {
        /// The rollout.
        rollout: RolloutId,
        /// How.
        reason: String,
    },
}

impl CycleOutcome {
    /// A stable word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NothingOwed => "nothing-owed",
            Self::AllHeld { .. } => "all-held",
            Self::Proposed { .. } => "proposed",
            Self::Missed { .. } => "missed",
            Self::Overtaken { .. } => "overtaken",
            Self::NotApproved { .. } => "not-approved",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for CycleOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingOwed => write!(f, "nothing was owed"),
            Self::AllHeld { plan } => write!(f, "everything owed is held; plan {plan} says why"),
            Self::Proposed { plan } => write!(f, "plan {plan} was left for a person"),
            Self::Missed { holds } if holds.is_empty() => write!(f, "missed: no server was there"),
            Self::Missed { holds } => write!(f, "missed: {}", chain(holds)),
            Self::Overtaken { plan } => {
                write!(f, "plan {plan} was overtaken by another plan of the policy")
            }
            Self::NotApproved { plan } => {
                write!(f, "plan {plan} was not approved before the next came due")
            }
            Self::Done { rollout } => write!(f, "rollout {rollout} is done"),
            Self::Failed { rollout, reason } => write!(f, "rollout {rollout} went wrong: {reason}"),
        }
    }
}

impl fmt::Display for CycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { holds } => write!(f, "held: {}", chain(holds)),
            Self::Planned { plan } => write!(f, "plan {plan} waits for approval"),
            Self::Started { rollout, .. } => write!(f, "rollout {rollout} is under way"),
            Self::Ended { outcome, .. } => write!(f, "{outcome}"),
        }
    }
}

fn chain(holds: &[Hold]) -> String {
    holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What is observed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CycleSeen {
    /// Open findings on the policy's hosts, with a fix that their sources offer.
    pub owed: u64,
    /// Upgrades that the policy's hosts are offered.
    pub offered: u64,
    /// A rollout of the policy is under way.
    pub under_way: Option<RolloutId>,
    /// A blackout of the policy is on.
    pub blackout: Option<Hold>,
    /// Feeds that say who is affected, and are stale.
    pub stale_feeds: Vec<String>,
    /// What has to be known before anything begins by itself and is not. The server has not listened for long enough since its
    /// start: hosts that it has not heard yet would seem silent. Or a policy in force cannot be read.
    pub unheard: Option<Hold>,
    /// What an earlier run did wrong, where nobody has said yet that it may go on.
    pub failed: Option<(RolloutId, String)>,
    /// The server comes from a backup, and nobody has said yet that it may start rollouts by itself.
    pub restored: Option<Hold>,
    /// How the plan of the run stands, where it has one.
    pub plan: Option<PlanStanding>,
    /// How the rollout of the run stands, where it has one.
    pub rollout: Option<RolloutStanding>,
}

/// How a run's plan stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanStanding {
    /// It lacks approvals.
    Lacking(Hold),
    /// It may be started.
    Approved,
    /// Somebody has started it.
    Started(RolloutId),
    /// Another plan took effect.
    Overtaken,
}

/// How a run's rollout stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStanding {
    /// It is under way, or waits for a person.
    UnderWay,
    /// It did what was planned.
    Done,
    /// It ended otherwise.
    Failed(String),
}

/// Everything a decision is a function of.
#[derive(Debug, Clone, Copy)]
pub struct CycleInput<'a> {
    /// The policy's rule.
    pub rule: &'a CycleRule,
    /// Since when the policy has such a rule: what came due before is none of its business.
    pub since: Timestamp,
    /// The newest run.
    pub last: Option<&'a CycleRun>,
    /// What is observed.
    pub seen: &'a CycleSeen,
    /// Now.
    pub now: Timestamp,
}

/// What comes next for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CycleStep {
    /// Keep the run as it stands now.
    Keep(CycleRun),
    /// Make a plan, and keep the run with it: [`planned`] says how.
    MakePlan(CycleRun),
    /// Start the plan's rollout, and keep the run with it.
    Start {
        /// The run as it stands.
        run: CycleRun,
        /// Its plan.
        plan: u64,
    },
}

/// What is to be done now, and if nothing, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleDecision {
    /// The one step that comes next. It is kept, and then decided again.
    pub step: Option<CycleStep>,
    /// What the run at hand waits for. Empty: no run is at hand, or it has just taken a step.
    pub holds: Vec<Hold>,
    /// When the cycle comes due next.
    pub next_due: Option<Timestamp>,
}

/// Decides.
pub fn decide(input: &CycleInput<'_>) -> CycleDecision {
    let (step, holds) = next(input);
    CycleDecision { step, holds, next_due: input.rule.next_due(input.now.max(input.since)) }
}

fn next(input: &CycleInput<'_>) -> (Option<CycleStep>, Vec<Hold>) {
    let CycleInput { rule, seen, now, .. } = *input;
    let newest = newest_due(input);
    if let Some(run) = input.last.filter(|run| !run.state.is_over()) {
        let another = newest.is_some_and(|due| due > run.due);
        let end = |outcome| (Some(CycleStep::Keep(ended(run, outcome, now))), Vec::new());
        match (&run.state, &seen.plan, &seen.rollout) {
            (CycleState::Started { rollout, .. }, _, standing) => {
                return match standing {
                    Some(RolloutStanding::Done) => {
                        end(CycleOutcome::Done { rollout: rollout.clone() })
                    }
                    Some(RolloutStanding::Failed(reason)) => {
                        let (rollout, reason) = (rollout.clone(), reason.clone());
                        end(CycleOutcome::Failed { rollout, reason })
                    }
                    // Another that comes due meanwhile waits for its end, or is missed.
                    Some(RolloutStanding::UnderWay) | None => {
                        (None, vec![Hold::PolicyBusy { rollout: rollout.clone() }])
                    }
                };
            }
            (CycleState::Planned { plan }, standing, _) => {
                let plan = *plan;
                return match standing {
                    Some(PlanStanding::Started(rollout)) => {
                        let state = CycleState::Started { plan, rollout: rollout.clone() };
                        (Some(CycleStep::Keep(CycleRun { state, ..run.clone() })), Vec::new())
                    }
                    Some(PlanStanding::Overtaken) => end(CycleOutcome::Overtaken { plan }),
                    Some(PlanStanding::Approved) => match unstarted(input, plan) {
                        // Approvals were not what it lacked.
                        holds if another => end(CycleOutcome::Missed { holds }),
                        holds if holds.is_empty() => {
                            (Some(CycleStep::Start { run: run.clone(), plan }), Vec::new())
                        }
                        holds => (None, holds),
                    },
                    _ if another => end(CycleOutcome::NotApproved { plan }),
                    Some(PlanStanding::Lacking(hold)) => (None, vec![hold.clone()]),
                    None => (None, vec![Hold::NoData { what: format!("plan {plan}") }]),
                };
            }
            (CycleState::Held { holds }, _, _) if another => {
                return end(CycleOutcome::Missed { holds: holds.clone() });
            }
            (CycleState::Held { holds }, _, _) if is_late(rule, run.due, now) => {
                return end(CycleOutcome::Missed { holds: holds.clone() });
            }
            (CycleState::Held { .. }, _, _) => return due(input, run.clone()),
            (CycleState::Ended { .. }, _, _) => {}
        }
    }
    let Some(at) = newest.filter(|at| input.last.is_none_or(|run| *at > run.due)) else {
        return (None, Vec::new());
    };
    let state = CycleState::Held { holds: Vec::new() };
    let run = CycleRun { due: at, seen_at: now, skipped: skipped(input, at), state };
    if is_late(rule, at, now) {
        let outcome = CycleOutcome::Missed { holds: Vec::new() };
        return (Some(CycleStep::Keep(ended(&run, outcome, now))), Vec::new());
    }
    due(input, run)
}

/// Why an approved plan is not started now. Empty: nothing is in its way.
fn unstarted(input: &CycleInput<'_>, plan: u64) -> Vec<Hold> {
    let CycleInput { rule, seen, .. } = *input;
    // A rule that was changed to `propose` meanwhile takes the start back.
    if rule.start != CycleStart::Automatic {
        return vec![Hold::NotStarted { plan }];
    }
    let busy = seen.under_way.clone().map(|rollout| Hold::PolicyBusy { rollout });
    busy.into_iter().chain(seen.restored.clone()).collect()
}

/// What a run that is due does: it is held, has nothing to do, or gets its plan.
fn due(input: &CycleInput<'_>, run: CycleRun) -> (Option<CycleStep>, Vec<Hold>) {
    let CycleInput { rule, seen, now, .. } = *input;
    let mut holds = Vec::new();
    if !seen.stale_feeds.is_empty() {
        // What is owed is not known: neither "nothing" nor a plan would be right.
        holds.push(Hold::FeedsStale { feeds: seen.stale_feeds.clone() });
    } else if seen.owed == 0 && (rule.when == CycleWhen::Owed || seen.offered == 0) {
        let step = CycleStep::Keep(ended(&run, CycleOutcome::NothingOwed, now));
        return (Some(step), Vec::new());
    }
    if let Some((rollout, reason)) = &seen.failed {
        holds.push(Hold::CycleFailed { rollout: rollout.clone(), reason: reason.clone() });
    }
    if let Some(rollout) = &seen.under_way {
        holds.push(Hold::PolicyBusy { rollout: rollout.clone() });
    }
    holds.extend(seen.blackout.clone());
    holds.extend(seen.unheard.clone());
    if holds.is_empty() {
        return (Some(CycleStep::MakePlan(run)), Vec::new());
    }
    let held = CycleState::Held { holds: holds.clone() };
    let known = input.last.is_some_and(|last| last.due == run.due) && run.state == held;
    let step = (!known).then_some(CycleStep::Keep(CycleRun { state: held, ..run }));
    (step, holds)
}

/// The run with its plan. `empty`: the plan changes no host.
pub fn planned(
    run: &CycleRun,
    rule: &CycleRule,
    plan: u64,
    empty: bool,
    now: Timestamp,
) -> CycleRun {
    let outcome = match (empty, rule.start) {
        (true, _) => CycleOutcome::AllHeld { plan },
        (false, CycleStart::Propose) => CycleOutcome::Proposed { plan },
        (false, CycleStart::Automatic) => {
            return CycleRun { state: CycleState::Planned { plan }, ..run.clone() };
        }
    };
    ended(run, outcome, now)
}

/// The run with its rollout.
pub fn started(run: &CycleRun, plan: u64, rollout: RolloutId) -> CycleRun {
    CycleRun { state: CycleState::Started { plan, rollout }, ..run.clone() }
}

fn ended(run: &CycleRun, outcome: CycleOutcome, at: Timestamp) -> CycleRun {
    CycleRun { state: CycleState::Ended { outcome, at }, ..run.clone() }
}

/// The last time the cycle came due since it was there.
fn newest_due(input: &CycleInput<'_>) -> Option<Timestamp> {
    input.rule.last_due(input.now).filter(|due| *due >= input.since)
}

/// Is it too late to be caught up with?
fn is_late(rule: &CycleRule, due: Timestamp, now: Timestamp) -> bool {
    let seconds = i64::try_from(rule.catch_up_seconds).unwrap_or(i64::MAX);
    due.checked_add(SignedDuration::from_secs(seconds)).is_ok_and(|until| now >= until)
}

/// How many came due after the run before and before this one.
fn skipped(input: &CycleInput<'_>, due: Timestamp) -> u32 {
    let mut at = match input.last {
        Some(last) => last.due,
        // The first that could have come due counts, too.
        None => input.since.checked_sub(SignedDuration::from_secs(1)).unwrap_or(input.since),
    };
    let mut count = 0;
    while count < MOST_SKIPPED
        && let Some(next) = input.rule.next_due(at).filter(|next| *next < due)
    {
        count += 1;
        at = next;
    }
    count
}

#[cfg(test)]
mod tests;
