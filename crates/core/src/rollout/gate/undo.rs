//! What a red gate takes back by itself.

use crate::policy::UndoRule;
use crate::rollout::{Decision, Observations, Rollout};
use crate::{Hold, HostId};

impl Rollout {
    /// The hosts that a halt for this reason takes back, as the policy of the wave at work says, patched or not.
    fn undone_by(&self, hold: &Hold) -> Vec<&HostId> {
        let red = matches!(hold, Hold::TooManyFailures { .. } | Hold::GateFailed { .. });
        let number = self.wave as usize;
        let Some(wave) = self.plan.waves.get(number).filter(|_| red) else { return Vec::new() };
        // A step of the traffic has no hosts: what failed are those it was to go to.
        let own = wave.traffic.map_or(number..number + 1, |_| 0..number);
        let (waves, only_bad) = match wave.gate.undoes() {
            UndoRule::None => return Vec::new(),
            UndoRule::Failed => (own, true),
            UndoRule::Wave => (own, false),
            UndoRule::All => (0..number + 1, false),
        };
        let hosts = self.plan.waves.get(waves).into_iter().flatten().flat_map(|w| &w.hosts);
        hosts.filter(|id| !only_bad || self.faulted.contains(*id)).collect()
    }

    /// Rule 3: after a halt by failure the policy's hosts are undone, each asked once.
    pub(in crate::rollout) fn undo_red(
        &self,
        hold: &Hold,
        seen: &Observations,
        decision: &mut Decision,
    ) {
        for id in self.undone_by(hold) {
            let asked = self.hosts.get(id).is_none_or(|run| run.undo_asked.is_some());
            if !asked && let Ok(event) = self.undo_event(id, &hold.to_string(), seen) {
                decision.events.push(event);
            }
        }
    }
}
