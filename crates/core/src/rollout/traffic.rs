//! Blue/green: whose requests go where.
//!
//! A host is told a state ("30 % of your weight"), never a change of one, by a signed order with its generation: an order
//! that is lost is given again, one that comes twice changes nothing, and one that comes late is older than the next and
//! refused. Two rules keep requests served whatever fails: nobody is taken out before those who take over have said that
//! their balancer sends to them, and only a host that was proved is given any.

use super::gate::Verdict;
use super::state::illegal;
use super::{
    Decision, HostObservation, HostRun, HostState, IllegalEvent, MIN_GRANT_SECONDS, Observations,
    Phase, Rollout, RolloutEvent,
};
use crate::plan::{PoolHost, Pools};
use crate::transaction::{Entry, Outcome, TxEvent};
use crate::{AssignmentId, Hold, HostId, Timestamp, later};
use serde::{Deserialize, Serialize};

/// How often an order to take or give up traffic is given before it counts as failed.
pub const TRAFFIC_TRIES: u32 = 3;

/// What a host was last told about its traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficRun {
    /// Percent of its weight in its balancers; 0: out of them.
    pub share: u32,
    /// The order's assignment.
    pub assignment: AssignmentId,
    /// Its generation.
    pub generation: u64,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How often this share was asked for in a row. Without those times when the host was told "not now".
    pub tries: u32,
    /// What came of it.
    pub state: TrafficState,
}

/// What came of an order about traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TrafficState {
    /// The host has not said yet.
    Asked,
    /// It is so, and the balancer's own check agrees.
    Set,
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
    /// The host asked too late and was told "not now": it is asked again when it may.
    Deferred {
        /// Why.
        reason: String,
    },
}

impl TrafficState {
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Set => "set",
            Self::Failed { .. } => "failed",
            Self::Deferred { .. } => "deferred",
        }
    }

    /// It is not as the host was told, and nobody waits for the host to say more.
    pub(super) fn is_undone(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Deferred { .. })
    }
}

/// How far the traffic is from where it should be.
enum Steered {
    Reached,
    /// But for hosts that are silent, and were given requests by this rollout.
    ReachedButSilent,
    Moving,
    Stuck(Hold),
}

/// How far the traffic has gone back after a halt or an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// All of it, or there was nothing to take back.
    Back,
    /// All but that of hosts that are silent: they are told when they speak again.
    AllButSilent,
    /// Not yet.
    OnItsWay,
    /// Nobody is there to take it: it stays with those who have it.
    Nowhere,
}

/// How far one host is.
enum Led {
    There,
    Moving,
    Failed(String),
    Mute,
}

/// Why the host's requests may not be moved now: its window is shut, or about to be. The way back waits for no window:
/// what it takes back is worse.
fn closed(host: &HostObservation, now: Timestamp) -> Option<Hold> {
    let needs_seconds = MIN_GRANT_SECONDS;
    let ends = host.closes_at.filter(|at| *at < later(now, needs_seconds));
    let short = ends.map(|closes_at| Hold::WindowTooShort { closes_at, needs_seconds });
    host.window.clone().or(short)
}

impl Rollout {
    /// Why a host that was told a share, and asks only now, may not do it any more: its window has closed meanwhile, and
    /// it is not the way back.
    pub(super) fn late_traffic(&self, host: &HostId, seen: &Observations) -> Option<Hold> {
        let forward = !matches!(self.phase, Phase::Halted { .. } | Phase::Aborted { .. });
        seen.hosts.get(host).filter(|_| forward)?.window.clone()
    }

    /// Traffic may go back to the pool that had it: until the last step has baked.
    pub fn way_back_stands(&self) -> bool {
        let last = self.plan.waves.iter().rposition(|wave| wave.traffic.is_some());
        last.is_some_and(|last| self.wave as usize <= last)
    }

    /// Percent of the requests that the pool which was idle should get now. `None`: the plan has no pools.
    pub fn traffic_aim(&self) -> Option<u32> {
        self.plan.pools.as_ref()?;
        match self.phase {
            Phase::Halted { .. } | Phase::Aborted { .. } if self.way_back_stands() => Some(0),
            _ => self.plan.waves.iter().take(self.wave as usize + 1).rev().find_map(|w| w.traffic),
        }
    }

    /// An order about the host's traffic was given, and the host has not said yet what came of it.
    pub fn traffic_moves(&self, host: &HostId) -> bool {
        self.traffic.get(host).is_some_and(|run| run.state == TrafficState::Asked)
    }

    /// May this host of the idle pool be given requests? It was patched and proved here, or had nothing to do, and is
    /// well. Whoever was not heard of while nobody listened has to answer before anything counts on it.
    fn may_serve(&self, pools: &Pools, id: &HostId, now: Timestamp, seen: &Observations) -> bool {
        let proved = |run: &HostRun| run.state == HostState::Patched && !run.undo_at_work();
        pools.idle.hosts.get(id).is_some_and(|member| self.is_well(id, member, now, seen))
            && self.hosts.get(id).is_none_or(proved)
    }

    fn is_well(&self, id: &HostId, member: &PoolHost, now: Timestamp, seen: &Observations) -> bool {
        member.fit
            && seen
                .hosts
                .get(id)
                .is_some_and(|host| !host.quarantined && !self.is_silent(host.last_seen, now, seen))
    }

    /// What each host should have, where the idle pool should get `aim` percent.
    fn shares<'a>(
        &'a self,
        pools: &'a Pools,
        aim: u32,
        now: Timestamp,
        seen: &Observations,
    ) -> Vec<(&'a HostId, u32)> {
        let idle = pools
            .idle
            .hosts
            .keys()
            .filter(|id| seen.hosts.contains_key(*id))
            .map(|id| (id, if self.may_serve(pools, id, now, seen) { aim } else { 0 }));
        // Whoever is not well is left as the balancer has it; but nobody keeps requests in the end.
        let serving = pools
            .serving
            .hosts
            .iter()
            .filter(|(id, _)| seen.hosts.contains_key(*id))
            .filter(|(id, member)| aim == 100 || self.is_well(id, member, now, seen))
            .map(|(id, _)| (id, 100 - aim));
        idle.chain(serving).collect()
    }

    /// Brings the traffic to `aim`: first everybody who is to have some, then everybody who is to have none. `back`: to
    /// the pool that had it, for something went wrong; who cannot be led is then left behind.
    fn steer(
        &self,
        pools: &Pools,
        aim: u32,
        back: bool,
        now: Timestamp,
        seen: &Observations,
        decision: &mut Decision,
    ) -> Steered {
        if let Some(leader) = &seen.pools_busy {
            let (rollout, phase) = (leader.rollout.clone(), leader.phase.to_owned());
            decision.wait(None, Hold::TrafficLed { rollout, phase });
            return Steered::Moving;
        }
        let shares = self.shares(pools, aim, now, seen);
        let (give, take): (Vec<_>, Vec<_>) = shares.into_iter().partition(|(_, share)| *share > 0);
        let mut there = 0;
        let mut moving = false;
        for (id, share) in give {
            match self.lead(id, (share, back), now, seen, decision) {
                Led::There => there += 1,
                Led::Moving => moving = true,
                Led::Failed(_) | Led::Mute if back => {}
                Led::Mute => moving = true,
                Led::Failed(reason) => return Steered::Stuck(self.traffic_failed(id, &reason)),
            }
        }
        if moving {
            return Steered::Moving;
        }
        if there == 0 {
            let what = "a single host that takes the requests".to_owned();
            return Steered::Stuck(Hold::NoData { what });
        }
        let steps = self.plan.waves.iter().take(self.wave as usize + 1);
        let gave = steps.filter_map(|wave| wave.traffic).any(|aim| aim > 0);
        let mut silent = false;
        for (id, share) in take {
            match self.lead(id, (share, back), now, seen, decision) {
                Led::There => {}
                Led::Moving => moving = true,
                Led::Failed(_) if back => {}
                Led::Mute if back => silent |= gave && self.traffic.contains_key(id),
                Led::Mute => moving = true,
                Led::Failed(reason) => return Steered::Stuck(self.traffic_failed(id, &reason)),
            }
        }
        match (moving, silent) {
            (true, _) => Steered::Moving,
            (false, true) => Steered::ReachedButSilent,
            (false, false) => Steered::Reached,
        }
    }

    /// Has no host of the wave been started yet?
    pub(super) fn is_untouched(&self, wave: u32) -> bool {
        let hosts = self.plan.waves.get(wave as usize).map(|w| &w.hosts);
        hosts.into_iter().flatten().filter_map(|id| self.hosts.get(id)).all(|run| run.grants == 0)
    }

    /// Before hosts of a pool are started: the requests are where the last step has brought them. `false`: hosts were told
    /// so again, and have not answered.
    ///
    /// # Errors
    /// Why the traffic cannot be set.
    pub(super) fn confirm(
        &self,
        pools: &Pools,
        now: Timestamp,
        seen: &Observations,
        decision: &mut Decision,
    ) -> Result<bool, Hold> {
        let Some(aim) = self.traffic_aim().filter(|_| !self.traffic.is_empty()) else {
            return Ok(true);
        };
        match self.steer(pools, aim, false, now, seen, decision) {
            Steered::Reached | Steered::ReachedButSilent => Ok(true),
            Steered::Moving => Ok(false),
            Steered::Stuck(hold) => Err(hold),
        }
    }

    /// Both lead the traffic of some host.
    pub fn leads_with(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (&self.plan.pools, &other.plan.pools) else {
            return false;
        };
        ours.hosts().any(|host| theirs.has(host))
    }

    fn traffic_failed(&self, id: &HostId, reason: &str) -> Hold {
        let reason = format!("the traffic of host {} cannot be set: {reason}", self.name_of(id));
        Hold::GateFailed { wave: self.wave, reason }
    }

    fn lead(
        &self,
        id: &HostId,
        (share, back): (u32, bool),
        now: Timestamp,
        seen: &Observations,
        decision: &mut Decision,
    ) -> Led {
        let host = seen.hosts.get(id);
        let heard = host.and_then(|h| h.last_seen);
        let told = self.traffic.get(id).filter(|run| run.share == share);
        let set = told.is_some_and(|run| run.state == TrafficState::Set);
        let asked_at = told.map(|run| run.asked_at);
        // Who fell silent at work may be at it still: an order beside that would overtake its end.
        let may_work = self.hosts.get(id).is_some_and(|run| run.silent);
        if set && (may_work || asked_at >= self.shares_from) {
            return Led::There;
        }
        if self.is_silent(heard.max(asked_at), now, seen) {
            // It had done what it was told, and cannot be told again.
            if set {
                return Led::There;
            }
            decision.wait(Some(id), Hold::HostSilent { last_seen: heard });
            return Led::Mute;
        }
        let silent_after = u64::try_from(self.silent_after()).unwrap_or(u64::MAX);
        let silent_at = heard.max(asked_at).max(seen.listening_since);
        decision.wake(silent_at.map(|at| later(at, silent_after.saturating_add(1))));
        match told.map(|run| (&run.state, run.tries)) {
            Some((TrafficState::Asked, _)) => {
                decision.wait(Some(id), Hold::Traffic { share });
                return Led::Moving;
            }
            Some((TrafficState::Failed { reason }, tries)) if tries >= TRAFFIC_TRIES => {
                return Led::Failed(reason.clone());
            }
            _ => {}
        }
        let busy = host.and_then(|h| h.busy.clone()).filter(|r| *r != self.id);
        let changing = self.hosts.get(id).is_some_and(|run| run.at_work() || run.undo_at_work());
        if let Some(rollout) = busy.or_else(|| changing.then(|| self.id.clone())) {
            decision.wait(Some(id), Hold::Busy { rollout });
            return Led::Moving;
        }
        if let Some(hold) = host.filter(|_| !back).and_then(|host| closed(host, now)) {
            decision.wake(hold.ends_at());
            decision.wait(Some(id), hold);
            return Led::Moving;
        }
        let generation = host.map_or(0, |h| h.generation).max(self.highest_generation(id)) + 1;
        decision.events.push(RolloutEvent::TrafficAsked {
            host: id.clone(),
            assignment: self.assignment_id(id, generation),
            generation,
            share,
        });
        Led::Moving
    }

    /// Highest generation this rollout gave the host, for whatever.
    pub(super) fn highest_generation(&self, id: &HostId) -> u64 {
        let patching = self.hosts.get(id).map_or(0, HostRun::highest_generation);
        patching.max(self.traffic.get(id).map_or(0, |run| run.generation))
    }

    /// The gate before each look at a step: nobody who has requests does badly, and those who may have some can bear
    /// the load. Gives what does not hold.
    fn overburdened(&self, pools: &Pools, now: Timestamp, seen: &Observations) -> Option<Hold> {
        let fails = |reason| Some(Hold::GateFailed { wave: self.wave, reason });
        for id in pools.idle.hosts.keys() {
            let Some(host) = seen.hosts.get(id) else { continue };
            let has_some = self.traffic.get(id).is_some_and(|run| run.share > 0);
            let name = self.name_of(id);
            if has_some && host.quarantined {
                return fails(format!("host {name} was quarantined while it had requests"));
            }
            if has_some && self.is_silent(host.last_seen, now, seen) {
                return fails(format!("host {name} fell silent while it had requests"));
            }
        }
        let able =
            pools.idle.hosts.keys().filter(|id| self.may_serve(pools, id, now, seen)).count();
        let there = pools.serving.hosts.keys().filter(|id| seen.hosts.contains_key(*id)).count();
        let needed = (there * pools.capacity_percent as usize).div_ceil(100).max(1);
        if able >= needed {
            return None;
        }
        let name = &pools.idle.name;
        fails(format!("{able} hosts of pool {name} may take requests, {needed} are needed"))
    }

    /// Rule 5 for a step of the traffic.
    pub(super) fn advance_traffic(
        &self,
        pools: &Pools,
        aim: u32,
        now: Timestamp,
        seen: &Observations,
        decision: &mut Decision,
    ) {
        if aim > 0
            && let Some(hold) = self.overburdened(pools, now, seen)
        {
            return decision.events.push(Verdict::halts(hold, Vec::new()));
        }
        match self.steer(pools, aim, false, now, seen, decision) {
            Steered::Reached | Steered::ReachedButSilent => {}
            Steered::Moving => return,
            Steered::Stuck(hold) => return decision.events.push(Verdict::halts(hold, Vec::new())),
        }
        let Some(ended_at) = self.wave_ended_at else {
            return decision.events.push(RolloutEvent::WaveEnded { wave: self.wave });
        };
        match self.judge_traffic(pools, aim, ended_at, now, seen) {
            Verdict::Waits { hold, wake } => {
                decision.wake(wake);
                decision.wait(None, hold);
            }
            Verdict::Fails(hold, judged) => decision.events.push(Verdict::halts(hold, judged)),
            Verdict::Passes(judged) if self.wave as usize + 1 < self.plan.waves.len() => {
                let (wave, next_not_before) = (self.wave, now);
                decision.events.push(RolloutEvent::GatePassed { wave, next_not_before, judged });
            }
            Verdict::Passes(_) if self.all_over() => {
                decision.events.push(RolloutEvent::Done);
            }
            Verdict::Passes(_) => {
                decision.wait(None, Hold::WaveRunning { wave: self.wave, unfinished: 1 });
            }
        }
    }

    /// The gate after a step: it has baked, and everybody who got requests has spoken since. The first step only makes
    /// sure of what was there, and needs none.
    fn judge_traffic(
        &self,
        pools: &Pools,
        aim: u32,
        ended_at: Timestamp,
        now: Timestamp,
        seen: &Observations,
    ) -> Verdict {
        let gate = self.plan.waves.get(self.wave as usize).map(|w| &w.gate);
        // What begins after it may wait for somebody's word all the same.
        let Some(gate) = gate.filter(|_| aim > 0) else {
            return self.judge_first_step(ended_at, now);
        };
        let until = later(ended_at, gate.bake_seconds);
        if now < until {
            let hold = Hold::Bake { wave: self.wave, until };
            return Verdict::Waits { hold, wake: Some(until) };
        }
        let has_some = |id: &&HostId| self.traffic.get(*id).is_some_and(|run| run.share > 0);
        for id in pools.idle.hosts.keys().filter(has_some) {
            let Some(host) = seen.hosts.get(id) else { continue };
            if host.last_seen <= Some(ended_at) {
                let what = format!("a word from host {} since it got requests", self.name_of(id));
                let silent = gate.silent_after_seconds.saturating_add(1);
                let heard = host.last_seen.max(seen.listening_since);
                return Verdict::Waits {
                    hold: Hold::NoData { what },
                    wake: heard.map(|at| later(at, silent)),
                };
            }
        }
        self.judge_step(ended_at, now, seen)
    }

    /// Rule 3 where there are pools: after a halt or an abort the requests go back at once, as long as there is a way
    /// back.
    pub(super) fn turn_back(
        &self,
        now: Timestamp,
        seen: &Observations,
        decision: &mut Decision,
    ) -> Turned {
        let Some(pools) = &self.plan.pools else { return Turned::Back };
        if self.traffic.is_empty() || !self.way_back_stands() {
            return Turned::Back;
        }
        match self.steer(pools, 0, true, now, seen, decision) {
            Steered::Reached => Turned::Back,
            Steered::ReachedButSilent => Turned::AllButSilent,
            Steered::Moving => Turned::OnItsWay,
            Steered::Stuck(hold) => {
                decision.wait(None, hold);
                Turned::Nowhere
            }
        }
    }

    /// Folds one of the events about traffic.
    pub(super) fn apply_traffic(
        &mut self,
        at: Timestamp,
        event: &RolloutEvent,
    ) -> Result<(), IllegalEvent> {
        let refuse = |why: &str| Err(illegal(event, why));
        match event {
            RolloutEvent::TrafficAsked { host, assignment, generation, share } => {
                if self.ended_at.is_some() || matches!(self.phase, Phase::Paused { .. }) {
                    return refuse("the rollout is paused or has ended");
                }
                let pools = self.plan.pools.as_ref();
                if !pools.is_some_and(|p| p.has(host)) || *share > 100 {
                    return refuse("the host is in no pool of the plan, or the share is none");
                }
                if self.hosts.get(host).is_some_and(|run| run.at_work() || run.undo_at_work()) {
                    return refuse("the host is being changed");
                }
                if self.highest_generation(host) >= *generation {
                    return refuse("the generation does not grow");
                }
                let again = |run: &&TrafficRun| run.share == *share && run.state.is_undone();
                let before = self.traffic.get(host).filter(again);
                let run = TrafficRun {
                    share: *share,
                    assignment: assignment.clone(),
                    generation: *generation,
                    asked_at: at,
                    tries: before.map_or(0, |run| run.tries) + 1,
                    state: TrafficState::Asked,
                };
                self.traffic.insert(host.clone(), run);
                self.wave_ended_at = None;
            }
            RolloutEvent::TrafficSet { host, assignment }
            | RolloutEvent::TrafficFailed { host, assignment, .. }
            | RolloutEvent::TrafficDeferred { host, assignment, .. } => {
                let asked = self.traffic.get_mut(host).filter(|run| {
                    run.assignment == *assignment && run.state == TrafficState::Asked
                });
                let Some(run) = asked else { return refuse("nobody waits for that order") };
                run.state = match event {
                    RolloutEvent::TrafficFailed { reason, .. } => {
                        TrafficState::Failed { reason: reason.clone() }
                    }
                    RolloutEvent::TrafficDeferred { reason, .. } => {
                        run.tries = run.tries.saturating_sub(1);
                        TrafficState::Deferred { reason: reason.clone() }
                    }
                    _ => TrafficState::Set,
                };
            }
            _ => return refuse("it is not about traffic"),
        }
        Ok(())
    }

    /// What a host's journal says of an order about its traffic. `None`: it is about something else.
    pub(super) fn report_traffic(
        &self,
        host: &HostId,
        assignment: &AssignmentId,
        entries: &[Entry],
    ) -> Option<RolloutEvent> {
        let run = self.traffic.get(host).filter(|run| run.assignment == *assignment)?;
        if run.state != TrafficState::Asked {
            return None;
        }
        let (host, assignment) = (host.clone(), assignment.clone());
        entries.iter().find_map(|entry| match &entry.event {
            TxEvent::Ended { outcome: Outcome::Switched } => Some(RolloutEvent::TrafficSet {
                host: host.clone(),
                assignment: assignment.clone(),
            }),
            TxEvent::Ended { outcome: Outcome::Refused { fault } } => {
                let (host, assignment) = (host.clone(), assignment.clone());
                let reason = format!("{}: {}", fault.code, fault.message);
                Some(match fault.is_not_now() {
                    true => RolloutEvent::TrafficDeferred { host, assignment, reason },
                    false => RolloutEvent::TrafficFailed { host, assignment, reason },
                })
            }
            _ => None,
        })
    }
}
