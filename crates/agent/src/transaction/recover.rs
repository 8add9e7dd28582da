//! Recovery: an interrupted step at or after drain. How far did it come? Seen from outside, never assumed.

use super::apply::{self, Verdict, judge};
use super::{StepResult, Transaction, activate, commit, detached, drain, fault, verify};
use crate::executor::Grant;
use fettle_core::transaction::{Step, StepFacts};

/// Finds out how far `step` came, and finishes it or gives its fault.
///
/// # Errors
/// The step's fault.
pub fn run(tx: &Transaction<'_>, step: Step, grant: &dyn Grant) -> StepResult {
    match step {
        // Draining twice, restarting what is stale, looking again, undraining twice: all harmless.
        Step::Drain => drain::run(tx),
        Step::Apply => apply(tx),
        Step::Activate => activate::run(tx),
        Step::Verify => verify::run(tx, grant),
        Step::Commit => commit::run(tx),
        Step::Preflight | Step::Stage | Step::Rehearse | Step::Snapshot => Err(fault(
            "interrupted",
            format!("{} was interrupted", step.word()),
            "nothing was touched: plan it again",
        )),
    }
}

/// The package manager may have ended, may still be at work, may have died, or may never have been started.
pub(super) fn apply(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    if !tx.directory.join("apply.json").exists() {
        return match judge(tx)? {
            Verdict::Old => Err(fault(
                "interrupted",
                "the agent died before it started the package manager",
                "nothing was changed; plan it again",
            )),
            Verdict::New => Err(fault(
                "host-changed",
                "somebody else changed the packages while the agent was dead",
                "see /var/log/dpkg.log",
            )),
            Verdict::Mixed(why) => Err(fault(
                "host-changed",
                format!("somebody else changed packages: {why}"),
                "see /var/log/dpkg.log",
            )),
        };
    }
    facts.notes.push("attached again after the agent was restarted".into());
    let waited = apply::wait(tx)?;
    // It may have been on a rung of the ladder.
    detached::settle(tx, &tx.directory)?;
    apply::finish(tx, &waited, facts)
}
