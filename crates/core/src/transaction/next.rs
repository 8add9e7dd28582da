//! State → what to do next. Live running and recovery ask the same question.

use super::{Fault, Next, Outcome, Progress, Step, UndoFacts};
use crate::assignment::Order;

/// How often a step before [`Step::Drain`] is started, interruptions included, before the host refuses.
/// A step that takes the agent down with it each time would otherwise be run for ever.
pub const STEP_ATTEMPTS: u32 = 5;

/// How often an undo is started, interruptions included, before the host is quarantined. Never a silent retry.
pub const UNDO_ATTEMPTS: u32 = 5;

impl Progress {
    /// What to do next, by the journal alone.
    ///
    /// - Nothing interrupted: run the next step.
    /// - Interrupted before [`Step::Drain`]: run the step again from its start. Interrupted at or after it:
    ///   recover, that is find out how far it came, and write `finished` or `failed`.
    /// - Failed before [`Step::Apply`] was started: nothing was touched, so it ends as refused. Where
    ///   [`Step::Drain`] was begun, whoever writes that end first puts the host back into its load balancer.
    /// - Failed afterwards: undo; again from its start when it was interrupted, [`UNDO_ATTEMPTS`] times at most.
    /// - The undo left nothing that differs: undone. Otherwise: quarantined.
    /// - An order about traffic has one step, [`Step::Drain`] or [`Step::Commit`], which may always be run again.
    pub fn next(&self) -> Next {
        if self.outcome.is_some() {
            return Next::Nothing;
        }
        if let Some((reason, found)) = &self.undo {
            return match found {
                None if self.undo_attempts >= UNDO_ATTEMPTS => Next::End(Outcome::Quarantined {
                    reason: format!("the undo was interrupted {UNDO_ATTEMPTS} times ({reason})"),
                }),
                None => Next::Undo { reason: reason.clone() },
                Some(facts) => Next::End(end_of_undo(reason, facts)),
            };
        }
        if let Some((step, fault)) = &self.failed {
            return if self.touched {
                Next::Undo { reason: format!("{} failed: {}", step.word(), fault.message) }
            } else {
                Next::End(Outcome::Refused { fault: fault.clone() })
            };
        }
        if let Some(step) = self.traffic_step() {
            // It orders a state: doing it again is harmless, however far it came.
            return if self.finished.contains_key(&step) {
                Next::End(Outcome::Switched)
            } else if self.running.is_some() && self.attempts >= STEP_ATTEMPTS {
                Next::End(Outcome::Refused { fault: interrupted_too_often(step) })
            } else {
                Next::Run(step)
            };
        }
        if let Some(step) = self.running {
            return if !step.can_run_again() {
                Next::Recover(step)
            } else if self.attempts >= STEP_ATTEMPTS {
                Next::End(Outcome::Refused { fault: interrupted_too_often(step) })
            } else {
                Next::Run(step)
            };
        }
        match &self.assignment.order {
            Order::Undo { reason, .. } => return Next::Undo { reason: reason.clone() },
            // Whoever takes it for one has touched nothing.
            Order::Test(_) => return Next::End(Outcome::Refused { fault: no_transaction() }),
            Order::Apply(_) | Order::Traffic { .. } => {}
        }
        match self.finished.last_key_value() {
            None => Next::Run(Step::Preflight),
            Some((last, _)) => last.next().map_or(Next::End(Outcome::Patched), Next::Run),
        }
    }
}

impl Progress {
    /// The one step of an order about traffic: out of the balancers, or into them.
    pub(super) fn traffic_step(&self) -> Option<Step> {
        match self.assignment.order {
            Order::Traffic { share: 0 } => Some(Step::Drain),
            Order::Traffic { .. } => Some(Step::Commit),
            Order::Apply(_) | Order::Undo { .. } | Order::Test(_) => None,
        }
    }
}

fn end_of_undo(reason: &str, facts: &UndoFacts) -> Outcome {
    match facts.differing.as_slice() {
        [] => Outcome::Undone { reason: reason.to_owned() },
        [first, rest @ ..] => Outcome::Quarantined {
            reason: format!(
                "after the undo {} of the files still differ, first {first} ({reason})",
                1 + rest.len()
            ),
        },
    }
}

fn no_transaction() -> Fault {
    Fault {
        code: "no-transaction".to_owned(),
        message: "a test on a twin is no transaction of this host".to_owned(),
        hint: "only a worker carries it out, beside its transactions".to_owned(),
    }
}

fn interrupted_too_often(step: Step) -> Fault {
    Fault {
        code: "interrupted-too-often".to_owned(),
        message: format!("{} was started {STEP_ATTEMPTS} times and interrupted each time", step.word()),
        hint: "see why the agent is killed in this step (memory, power, `journalctl -u fettle-agent`), then plan again"
            .to_owned(),
    }
}
