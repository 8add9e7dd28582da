//! Commit: back into the load balancer, and away with what only the transaction needed.

use super::{StepResult, Transaction, drain, units};
use crate::journal;
use crate::preimage::{prune, subvolume};
use fettle_core::transaction::{Entry, StepFacts, TxEvent};
use fettle_core::{Timestamp, TransactionId};

/// Runs the step. The preimage stays: it is the way back, later.
///
/// # Errors
/// When the host cannot be put back into its load balancer: then it is of no use patched, and is undone.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    if let Some(said) = drain::undo(tx)? {
        facts.notes.push(format!("undrained: {said}"));
    }
    match units::note_started(tx) {
        Ok(started) if started.is_empty() => {}
        Ok(started) => facts
            .notes
            .push(format!("running now, and not before the change: {}", started.join(", "))),
        // An undo would leave them running, no more.
        Err(e) => facts.notes.push(format!("which units it has started is not known: {e}")),
    }
    tidy(tx);
    if let Err(e) = subvolume::remove(&tx.snapshot()) {
        facts.notes.push(format!(
            "the snapshot {} is still there and holds space: {e}",
            tx.snapshot().display()
        ));
    }
    let gone = prune(tx);
    if !gone.is_empty() {
        facts.notes.push(format!("old preimages that went: {}", gone.join(", ")));
    }
    Ok(facts)
}

/// Removes preimages that are old enough ([`prune::may_go`]); gives the names of their transactions. Journals stay.
fn prune(tx: &Transaction<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(tx.settings.transactions_dir()).into_iter().flatten().flatten() {
        if !entry.path().join("preimage").exists() {
            continue;
        }
        let journal = journal::read(&entry.path()).ok().filter(|c| c.damage.is_none());
        let ended = journal.and_then(|c| match c.entries.last().cloned() {
            Some(Entry { at, event: TxEvent::Ended { outcome }, .. }) => Some((at, outcome)),
            _ => None,
        });
        let id = TransactionId::new(entry.file_name().to_string_lossy());
        all.push(prune::Past { id, ended });
    }
    let old = prune::may_go(&all, prune::KEEP_LAST, prune::KEEP_DAYS, Timestamp::now());
    let removed = old.into_iter().filter(|id| {
        let directory = tx.settings.transactions_dir().join(id.as_str());
        // What cannot be removed takes space and does no harm; the next change tries again.
        let _ = std::fs::remove_dir_all(directory.join("archives"));
        let _ = subvolume::remove(&directory.join("snapshot"));
        std::fs::remove_dir_all(directory.join("preimage")).is_ok()
    });
    removed.map(|id| id.to_string()).collect()
}

/// Removes the new archives and the rehearsal's remains; the old archives stay with the preimage.
pub(super) fn tidy(tx: &Transaction<'_>) {
    // What cannot be removed takes space and does no harm.
    super::reserve::release(&tx.directory);
    let _ = std::fs::remove_dir_all(tx.new_archives());
    let _ = super::rehearse::clear(tx);
}
