//! Persisted event → what is done outside.

use super::{Effect, HostRun, HostState, Rollout, RolloutEvent};
use crate::assignment::{Assignment, Order};
use crate::{AssignmentId, HostId, Timestamp, later};

/// An undo is exempt from expiry; its order carries a date all the same, so many seconds ahead. So does one about traffic:
/// a newer one makes it void, and the host asks before it obeys.
const UNDO_ORDER_SECONDS: u64 = 30 * 86_400;

/// What follows from an event that was persisted at `at` and applied: `rollout` is the state after it.
///
/// Safe to do again at any time, after a crash for example: the effect of an event that later events have
/// overtaken is none. A withdrawal names assignments only, and withdrawing twice changes nothing.
///
/// Pause, halt and abort withdraw every unredeemed grant. When a host ends, its assignment is simply no longer
/// [`HostRun::standing_assignment`].
pub fn effects(rollout: &Rollout, at: Timestamp, event: &RolloutEvent) -> Vec<Effect> {
    match event {
        RolloutEvent::Granted { host, assignment, generation, expires_at } => {
            let Some(plan) = rollout.plan.hosts.get(host) else { return Vec::new() };
            let order = Order::Apply(plan.order.clone());
            assign(rollout, at, host, assignment, *generation, *expires_at, order)
        }
        RolloutEvent::UndoAsked { host, assignment, generation, reason } => {
            let Some(undoes) = rollout.hosts.get(host).and_then(|run| run.assignment.clone())
            else {
                return Vec::new();
            };
            let order = Order::Undo { assignment: undoes, reason: reason.clone() };
            assign(rollout, at, host, assignment, *generation, later(at, UNDO_ORDER_SECONDS), order)
        }
        RolloutEvent::GrantExpired { host }
        | RolloutEvent::Cancelled { host, .. }
        | RolloutEvent::Ended { host, .. } => {
            rollout.hosts.get(host).into_iter().filter_map(withdrawn).collect()
        }
        RolloutEvent::Paused { .. }
        | RolloutEvent::Halted { .. }
        | RolloutEvent::Aborted { .. } => rollout.hosts.values().filter_map(withdrawn).collect(),
        RolloutEvent::Barred { versions, cohorts, reason } => vec![Effect::Bar {
            versions: versions.clone(),
            cohorts: cohorts.clone(),
            reason: reason.clone(),
        }],
        RolloutEvent::TrafficAsked { host, assignment, generation, share } => {
            let order = Order::Traffic { share: *share };
            let expires_at = later(at, UNDO_ORDER_SECONDS);
            assign(rollout, at, host, assignment, *generation, expires_at, order)
        }
        RolloutEvent::TrafficSet { .. }
        | RolloutEvent::TrafficFailed { .. }
        | RolloutEvent::TrafficDeferred { .. }
        | RolloutEvent::Created { .. }
        | RolloutEvent::Tested { .. }
        | RolloutEvent::Foretold { .. }
        | RolloutEvent::Redeemed { .. }
        | RolloutEvent::Stepped { .. }
        | RolloutEvent::Silent { .. }
        | RolloutEvent::WaveEnded { .. }
        | RolloutEvent::GatePassed { .. }
        | RolloutEvent::WaveApproved { .. }
        | RolloutEvent::Resumed { .. }
        | RolloutEvent::Done => Vec::new(),
    }
}

/// The assignment of a grant that died unredeemed.
fn withdrawn(run: &HostRun) -> Option<Effect> {
    let dead = matches!(run.state, HostState::Pending | HostState::Cancelled { .. });
    run.assignment.clone().filter(|_| dead).map(Effect::Withdraw)
}

fn assign(
    rollout: &Rollout,
    at: Timestamp,
    host: &HostId,
    assignment: &AssignmentId,
    generation: u64,
    expires_at: Timestamp,
    order: Order,
) -> Vec<Effect> {
    let stands = rollout.standing_assignment(host) == Some(assignment);
    if !stands {
        return Vec::new();
    }
    vec![Effect::Assign(Box::new(Assignment {
        schema: 1,
        id: assignment.clone(),
        host: host.clone(),
        generation,
        rollout: rollout.id.clone(),
        plan: rollout.plan_digest,
        issued_at: at,
        not_before: at,
        expires_at,
        order,
    }))]
}
