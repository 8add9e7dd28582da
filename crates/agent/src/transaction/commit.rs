//! Commit: back into the load balancer, and away with what only the transaction needed.

use super::{StepResult, Transaction, drain};
use fettle_core::transaction::StepFacts;

/// Runs the step. The preimage stays: it is the way back, later.
///
/// # Errors
/// When the host cannot be put back into its load balancer: then it is of no use patched, and is undone.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    if let Some(said) = drain::undo(tx)? {
        facts.notes.push(format!("undrained: {said}"));
    }
    tidy(tx);
    Ok(facts)
}

/// Removes the new archives and the rehearsal's remains; the old archives stay with the preimage.
pub(super) fn tidy(tx: &Transaction<'_>) {
    // What cannot be removed takes space and does no harm.
    let _ = std::fs::remove_dir_all(tx.new_archives());
    let _ = super::rehearse::clear(tx);
}
