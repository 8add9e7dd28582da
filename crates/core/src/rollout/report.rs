//! What an agent's journal says → events.

use super::{Rollout, RolloutEvent};
use crate::transaction::{Entry, Outcome, TxEvent};
use crate::{AssignmentId, HostId};

impl Rollout {
    /// Turns journal records of one transaction into events. Records that were sent before, or that belong to
    /// an assignment that no longer counts, give none: sending again is harmless.
    ///
    /// `assignment` is the one the transaction carries out, as its report names it.
    ///
    /// The end of a host that fell silent replaces the quarantine for its silence, once. An end by undo or
    /// quarantine bars the versions in the same breath, whatever the rollout's phase.
    pub fn report(
        &self,
        host: &HostId,
        assignment: &AssignmentId,
        entries: &[Entry],
    ) -> Vec<RolloutEvent> {
        if self.traffic.get(host).is_some_and(|run| run.assignment == *assignment) {
            return self.report_traffic(host, assignment, entries).into_iter().collect();
        }
        let Some(run) = self.hosts.get(host) else { return Vec::new() };
        let undo = run.undo.as_ref().is_some_and(|undo| undo.assignment == *assignment);
        let listens = if undo {
            run.undo_at_work()
        } else {
            run.assignment.as_ref() == Some(assignment)
                && (run.at_work() || (run.silent && !run.undo_at_work()))
        };
        if !listens {
            return Vec::new();
        }
        let mut events = Vec::new();
        let mut step = run.step;
        for entry in entries {
            match &entry.event {
                TxEvent::Started { step: now }
                    if !undo && step.is_none_or(|before| before < *now) =>
                {
                    step = Some(*now);
                    events.push(RolloutEvent::Stepped { host: host.clone(), step: *now });
                }
                TxEvent::Ended { outcome } if is_believable(undo, outcome) => {
                    events
                        .push(RolloutEvent::Ended { host: host.clone(), outcome: outcome.clone() });
                    events.extend(self.bars_after(host, outcome));
                    break;
                }
                _ => {}
            }
        }
        events
    }

    fn bars_after(&self, host: &HostId, outcome: &Outcome) -> Vec<RolloutEvent> {
        match outcome {
            Outcome::Undone { reason } | Outcome::Quarantined { reason } => {
                self.bars_due(Some((host, reason)))
            }
            Outcome::Refused { fault } if fault.blames_change() => {
                let reason = format!("{}: {}", fault.code, fault.message);
                self.bars_due(Some((host, &reason)))
            }
            Outcome::Patched | Outcome::Switched | Outcome::Refused { .. } => Vec::new(),
        }
    }
}

/// An undo cannot end as patched, nor a change as switched: an agent that says so is not believed.
fn is_believable(undo: bool, outcome: &Outcome) -> bool {
    *outcome != Outcome::Switched && !(undo && *outcome == Outcome::Patched)
}
