//! Events → state. Two tables: what may happen to the rollout in which phase, and to a host in which state.
//! A stale writer's event that no longer fits is refused here, whatever it was decided on.

use super::runs::RunMut;
use super::{
    Foretold, HostRun, HostState, IllegalEvent, Phase, Rollout, RolloutEvent, TrafficState,
    UndoRun, WaveApproval,
};
use crate::transaction::Outcome;
use crate::{AssignmentId, Hold, HostId, RolloutId, Timestamp, later};
use std::collections::BTreeMap;

impl Rollout {
    /// Folds all events of a rollout, oldest first. `None`: there are none.
    ///
    /// # Errors
    /// [`IllegalEvent`] at the first event that does not fit.
    pub fn replay<'a>(
        id: &RolloutId,
        events: impl IntoIterator<Item = (Timestamp, &'a RolloutEvent)>,
    ) -> Result<Option<Self>, IllegalEvent> {
        let mut events = events.into_iter();
        let Some((at, first)) = events.next() else { return Ok(None) };
        let mut rollout = Self::begin(id, at, first)?;
        events.try_for_each(|(at, event)| rollout.apply(at, event))?;
        Ok(Some(rollout))
    }

    /// Folds an event. `at` is when it was persisted.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the event does not fit; `self` is then unchanged.
    pub fn apply(&mut self, at: Timestamp, event: &RolloutEvent) -> Result<(), IllegalEvent> {
        let refuse = |why: &str| Err(illegal(event, why));
        match (&self.phase, event) {
            (_, RolloutEvent::Created { .. }) => return refuse("a rollout is created once"),

            (
                Phase::Running,
                RolloutEvent::Granted { host, assignment, generation, expires_at },
            ) => {
                let wave = self.wave;
                if self.traffic_moves(host) {
                    return refuse("its traffic is being set");
                }
                if self.awaits_tests() {
                    return refuse("its plan has not been tested");
                }
                let mut run = self.run_mut(host, event)?;
                if run.state != HostState::Pending {
                    return refuse("the host is not pending");
                }
                if run.wave != wave {
                    return refuse("its wave is not at work");
                }
                if run.generation.is_some_and(|g| g >= *generation) {
                    return refuse("the generation does not grow");
                }
                run.state = HostState::Granted;
                run.assignment = Some(assignment.clone());
                run.generation = Some(*generation);
                run.granted_at = Some(at);
                run.expires_at = Some(*expires_at);
                run.grants += 1;
                run.step = None;
                run.reported_at = None;
            }
            (_, RolloutEvent::Granted { .. }) => {
                return refuse("no host starts unless the rollout is running");
            }
            (Phase::Running, RolloutEvent::Tested { .. }) => {
                if !self.awaits_tests() {
                    return refuse("its plan was tested before, or asks for no test");
                }
                self.tested_at = Some(at);
            }
            (_, RolloutEvent::GrantExpired { host }) => {
                let mut run = self.run_mut(host, event)?;
                if run.state != HostState::Granted {
                    return refuse("the host holds no unredeemed grant");
                }
                run.state = HostState::Pending;
            }
            (_, RolloutEvent::Foretold { host, changing_seconds }) => {
                let mut run = self.run_mut(host, event)?;
                if run.state != HostState::Granted {
                    return refuse("the host holds no unredeemed grant");
                }
                let preparing =
                    run.granted_at.map_or(0, |granted| at.duration_since(granted).as_secs());
                run.foretold = Some(Foretold {
                    changing_seconds: *changing_seconds,
                    preparing_seconds: u32::try_from(preparing).unwrap_or(0),
                });
            }
            (Phase::Running, RolloutEvent::Redeemed { host }) => {
                let mut run = self.run_mut(host, event)?;
                if run.state != HostState::Granted {
                    return refuse("the host holds no unredeemed grant");
                }
                run.state = HostState::Redeemed;
                run.reported_at = Some(at);
            }
            (_, RolloutEvent::Redeemed { .. }) => {
                return refuse("no grant is redeemed unless the rollout is running");
            }
            (_, RolloutEvent::Stepped { host, step }) => {
                let mut run = self.run_mut(host, event)?;
                if !run.at_work() && !run.silent {
                    return refuse("the host is not at work");
                }
                run.step = Some(*step);
                run.reported_at = Some(at);
            }
            (_, RolloutEvent::Ended { host, outcome }) => {
                self.host_ended(at, host, outcome, event)?
            }
            (_, RolloutEvent::Silent { host, last_seen }) => {
                let mut run = self.run_mut(host, event)?;
                if run.silent || !(run.state == HostState::Redeemed || run.undo_at_work()) {
                    return refuse(
                        "only a host that redeemed its grant or is being undone can fall silent at work",
                    );
                }
                let since = last_seen.map_or("it was granted".to_owned(), |t| t.to_string());
                run.state = HostState::Quarantined {
                    reason: format!("fell silent at work: not heard of since {since}"),
                };
                run.silent = true;
                run.ended_at = Some(at);
                drop(run);
                self.failures += 1;
            }
            (_, RolloutEvent::Cancelled { host, hold }) => {
                let mut run = self.run_mut(host, event)?;
                if !matches!(run.state, HostState::Pending | HostState::Granted) {
                    return refuse("the host redeemed its grant or has ended");
                }
                run.cancel(at, hold);
            }
            (Phase::Running, RolloutEvent::WaveEnded { wave }) => {
                if *wave != self.wave || self.wave_ended_at.is_some() || !self.wave_is_over(*wave) {
                    return refuse(
                        "the wave is not at work, has ended before, or has hosts that have not ended",
                    );
                }
                self.wave_ended_at = Some(at);
            }
            (Phase::Running, RolloutEvent::GatePassed { wave, next_not_before, .. }) => {
                let last = *wave as usize + 1 >= self.plan.waves.len();
                if *wave != self.wave
                    || self.wave_ended_at.is_none()
                    || last
                    || !self.wave_is_over(*wave)
                {
                    return refuse(
                        "the wave is not the one at work, has not ended, or is the last",
                    );
                }
                self.gates.insert(*wave, at);
                // The first step has no bake: what was told in it was told a moment ago.
                if self.plan.waves.get(*wave as usize).is_none_or(|w| w.traffic != Some(0)) {
                    self.forget_shares(at);
                }
                // Whoever decided it may have been stopped before it was written: the rest counts from the latter.
                let soak = self.plan.waves.get(*wave as usize).map_or(0, |w| w.soak_seconds);
                self.wave += 1;
                self.wave_ended_at = None;
                self.wave_not_before = Some(later(at, soak).max(*next_not_before));
            }
            (_, RolloutEvent::WaveApproved { wave, by, principal, comment }) => {
                if let Err(why) = self.takes_word(*wave, by, principal) {
                    return refuse(&why.to_string());
                }
                let (by, principal, comment) = (by.clone(), principal.clone(), comment.clone());
                self.approved.insert(*wave, WaveApproval { at, by, principal, comment });
            }
            (Phase::Running, RolloutEvent::Halted { hold, judged }) => {
                self.phase = Phase::Halted { hold: hold.clone() };
                self.faulted = judged.iter().flat_map(|j| j.bad.iter().cloned()).collect();
                // What somebody had seen when they let the next ring begin was not this.
                self.approved.remove(&(self.wave + 1));
                self.withdraw_grants();
                self.forget_shares(at);
                // A step of the traffic is taken back, and has to be gone again.
                if self.plan.waves.get(self.wave as usize).is_some_and(|w| w.traffic.is_some()) {
                    self.wave_ended_at = None;
                }
            }
            (_, RolloutEvent::Barred { versions, .. }) => {
                self.barred.extend(versions.iter().cloned());
            }
            (Phase::Running, RolloutEvent::Paused { by, reason }) => {
                self.phase = Phase::Paused { by: by.clone(), reason: reason.clone() };
                self.withdraw_grants();
            }
            (Phase::Paused { .. }, RolloutEvent::Resumed { .. }) => {
                self.phase = Phase::Running;
                self.forget_shares(at);
            }
            (Phase::Halted { hold }, RolloutEvent::Resumed { .. }) => {
                // A recall that was lifted says nothing about the wave: its gate judges as ever.
                if !matches!(hold, Hold::Recalled { .. }) {
                    self.pardoned = self.failures;
                    self.excused_wave = Some(self.wave);
                }
                self.phase = Phase::Running;
                self.forget_shares(at);
                self.faulted.clear();
                // Somebody has seen to it: what could not be done is tried again.
                self.traffic.retain(|_, run| !run.state.is_undone());
            }
            (
                Phase::Running | Phase::Paused { .. } | Phase::Halted { .. },
                RolloutEvent::Aborted { by, reason },
            ) => {
                let hold = Hold::Aborted { by: by.clone(), reason: reason.clone() };
                self.phase = Phase::Aborted { by: by.clone(), reason: reason.clone() };
                self.forget_shares(at);
                let waiting = |(_, run): &(usize, &HostRun)| {
                    matches!(run.state, HostState::Pending | HostState::Granted)
                };
                for place in self.hosts.open_places(waiting) {
                    self.hosts.at_mut(place).cancel(at, &hold);
                }
            }
            (
                _,
                RolloutEvent::TrafficAsked { .. }
                | RolloutEvent::TrafficSet { .. }
                | RolloutEvent::TrafficFailed { .. }
                | RolloutEvent::TrafficDeferred { .. },
            ) => self.apply_traffic(at, event)?,
            (_, RolloutEvent::UndoAsked { host, assignment, generation, reason }) => {
                if self.traffic_moves(host) {
                    return refuse("its traffic is being set");
                }
                let mut run = self.run_mut(host, event)?;
                if run.state != HostState::Patched || run.undo_at_work() {
                    return refuse("the host is not patched, or its undo is at work");
                }
                if run.highest_generation() >= *generation {
                    return refuse("the generation does not grow");
                }
                run.undo_asked = Some(reason.clone());
                run.undo = Some(UndoRun {
                    assignment: assignment.clone(),
                    generation: *generation,
                    asked_at: at,
                    outcome: None,
                });
            }
            (Phase::Running | Phase::Aborted { .. }, RolloutEvent::Done) => {
                if self.ended_at.is_some() || !self.all_over() {
                    return refuse("it has ended before, or has hosts that have not ended");
                }
                if self.phase == Phase::Running {
                    self.phase = Phase::Done;
                }
                self.ended_at = Some(at);
            }
            (phase, _) => return refuse(&format!("the rollout is {}", phase.word())),
        }
        self.version += 1;
        self.excuse_barred();
        Ok(())
    }

    /// Has it ended, with no undo still at work? Then nothing more comes of looking at it.
    pub fn is_settled(&self) -> bool {
        self.ended_at.is_some() && self.all_over()
    }

    /// The assignment that stands for this host, if one does: to change it, to undo it, or about its traffic.
    pub fn standing_assignment(&self, host: &HostId) -> Option<&AssignmentId> {
        let moving = self.traffic.get(host).filter(|run| run.state == TrafficState::Asked);
        let changing = self.hosts.get(host).and_then(HostRun::standing_assignment);
        changing.or(moving.map(|run| &run.assignment))
    }

    /// State word → number of hosts. The numbers add up to the hosts of the plan.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        let mut counts = BTreeMap::new();
        for run in self.hosts.values() {
            *counts.entry(run.state.word()).or_insert(0) += 1;
        }
        counts
    }

    /// Before when the wave does not begin, as far as is known: the rest of the one before, and its ring's own time. `None`:
    /// nothing is known to keep it, it is behind, or the rollout has ended.
    pub fn begins(&self, wave: u32) -> Option<Timestamp> {
        let after = self.plan.waves.get(wave as usize)?.after_seconds;
        let own = (after > 0).then(|| later(self.created_at, after));
        let rested = self.wave_not_before.filter(|_| wave == self.wave);
        let ahead = wave >= self.wave && self.ended_at.is_none();
        own.into_iter().chain(rested).max().filter(|_| ahead)
    }

    /// Every host of the wave has ended, undos included.
    pub(super) fn wave_is_over(&self, wave: u32) -> bool {
        self.unfinished(wave) == 0
    }

    pub(super) fn unfinished(&self, wave: u32) -> u32 {
        self.hosts.unfinished(wave)
    }

    fn run_mut(&mut self, host: &HostId, event: &RolloutEvent) -> Result<RunMut<'_>, IllegalEvent> {
        self.hosts
            .get_mut(host)
            .ok_or_else(|| illegal(event, &format!("host {host} is not in the plan")))
    }

    /// What hosts were told about their traffic before is told again before it is built on.
    fn forget_shares(&mut self, at: Timestamp) {
        if self.plan.pools.is_some() {
            self.shares_from = Some(at);
        }
    }

    /// Stopping is cheap: unredeemed grants die with pause and halt, and are given anew when it goes on.
    fn withdraw_grants(&mut self) {
        for place in self.hosts.open_places(|(_, run)| run.state == HostState::Granted) {
            self.hosts.at_mut(place).state = HostState::Pending;
        }
    }

    fn host_ended(
        &mut self,
        at: Timestamp,
        host: &HostId,
        outcome: &Outcome,
        event: &RolloutEvent,
    ) -> Result<(), IllegalEvent> {
        let never_again = self.phase.hold().filter(|_| matches!(self.phase, Phase::Aborted { .. }));
        let mut run = self.run_mut(host, event)?;
        let known_failure = run.state.is_failure();
        if run.undo_at_work() {
            run.state = match outcome {
                Outcome::Undone { .. } | Outcome::Quarantined { .. } => HostState::from(outcome),
                // The undo touched nothing: the host is what it was, patched.
                Outcome::Refused { .. } => HostState::Patched,
                Outcome::Patched | Outcome::Switched => {
                    return Err(illegal(event, "an undo does not end so"));
                }
            };
            run.silent = false;
            if let Some(undo) = &mut run.undo {
                undo.outcome = Some(outcome.clone());
            }
            // An undo that was asked for is no failure; one that could not be completed is.
            let failed = matches!(run.state, HostState::Quarantined { .. }) && !known_failure;
            run.reported_at = Some(at);
            if run.state != HostState::Patched {
                run.ended_at = Some(at);
            }
            drop(run);
            self.failures += u32::from(failed);
            return Ok(());
        }
        if *outcome == Outcome::Switched {
            return Err(illegal(event, "a change does not end as switched"));
        }
        let may_end = run.silent || matches!(run.state, HostState::Granted | HostState::Redeemed);
        if !may_end {
            return Err(illegal(event, "the host is not at work"));
        }
        run.reported_at = Some(at);
        run.step = None;
        if let Outcome::Refused { fault } = outcome
            && fault.is_not_now()
            && !run.silent
        {
            run.state = HostState::Pending;
            // Its turn never comes again: nobody waits for it.
            if let Some(hold) = never_again {
                run.cancel(at, &hold);
            }
            return Ok(());
        }
        run.state = HostState::from(outcome);
        run.silent = false;
        run.ended_at = Some(at);
        // A host that fell silent was counted then, and stays counted: failures have memory.
        let failed = run.state.is_failure() && !known_failure;
        drop(run);
        self.failures += u32::from(failed);
        Ok(())
    }
}

impl HostRun {
    /// Why the change itself is bad, where its end says so.
    pub(super) fn fault(&self) -> Option<&str> {
        match &self.state {
            HostState::Undone { reason } | HostState::Refused { reason, change_at_fault: true } => {
                Some(reason)
            }
            HostState::Quarantined { reason } if !self.silent => Some(reason),
            _ => None,
        }
    }

    pub(super) fn pending(wave: u32) -> Self {
        Self {
            wave,
            state: HostState::Pending,
            assignment: None,
            generation: None,
            granted_at: None,
            expires_at: None,
            grants: 0,
            foretold: None,
            silent: false,
            step: None,
            reported_at: None,
            ended_at: None,
            undo_asked: None,
            undo: None,
        }
    }

    /// Holds a grant, redeemed or not.
    pub fn at_work(&self) -> bool {
        matches!(self.state, HostState::Granted | HostState::Redeemed)
    }

    /// An undo was asked for and has not ended.
    pub fn undo_at_work(&self) -> bool {
        self.undo.as_ref().is_some_and(|undo| undo.outcome.is_none())
    }

    /// Has ended, and no undo is at work, or nothing was heard of it for too long.
    pub fn is_over(&self) -> bool {
        self.state.is_terminal() && (self.silent || !self.undo_at_work())
    }

    /// Highest generation this rollout gave the host.
    pub fn highest_generation(&self) -> u64 {
        self.generation.max(self.undo.as_ref().map(|undo| undo.generation)).unwrap_or(0)
    }

    /// Does this assignment of the rollout still stand, so that the host may work on it? The one to hand
    /// out at the host's check-in.
    pub fn standing_assignment(&self) -> Option<&AssignmentId> {
        match &self.undo {
            Some(undo) if undo.outcome.is_none() => Some(&undo.assignment),
            _ if self.at_work() || self.silent => self.assignment.as_ref(),
            _ => None,
        }
    }

    fn cancel(&mut self, at: Timestamp, hold: &Hold) {
        self.state = HostState::Cancelled { hold: hold.clone() };
        self.ended_at = Some(at);
    }
}

impl From<&Outcome> for HostState {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            // Only an order about traffic ends as switched; `host_ended` refuses it of any other.
            Outcome::Patched | Outcome::Switched => Self::Patched,
            Outcome::Undone { reason } => Self::Undone { reason: reason.clone() },
            Outcome::Refused { fault } => Self::Refused {
                reason: format!("{}: {}", fault.code, fault.message),
                change_at_fault: fault.blames_change(),
            },
            Outcome::Quarantined { reason } => Self::Quarantined { reason: reason.clone() },
        }
    }
}

impl Phase {
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Aborted { .. } => "aborted",
            Self::Done => "done",
        }
    }

    /// Why no new host starts; `None` while it is running.
    pub fn hold(&self) -> Option<Hold> {
        match self {
            Self::Running => None,
            Self::Paused { by, reason } => {
                Some(Hold::Paused { by: by.clone(), reason: reason.clone() })
            }
            Self::Halted { hold } => Some(hold.clone()),
            Self::Aborted { by, reason } => {
                Some(Hold::Aborted { by: by.clone(), reason: reason.clone() })
            }
            Self::Done => Some(Hold::NothingToDo),
        }
    }
}

impl RolloutEvent {
    /// The host that it is about, where it is about one.
    pub fn host(&self) -> Option<&HostId> {
        match self {
            Self::Granted { host, .. }
            | Self::GrantExpired { host }
            | Self::Foretold { host, .. }
            | Self::Redeemed { host }
            | Self::Stepped { host, .. }
            | Self::Ended { host, .. }
            | Self::Silent { host, .. }
            | Self::Cancelled { host, .. }
            | Self::UndoAsked { host, .. }
            | Self::TrafficAsked { host, .. }
            | Self::TrafficSet { host, .. }
            | Self::TrafficFailed { host, .. }
            | Self::TrafficDeferred { host, .. } => Some(host),
            Self::Created { .. }
            | Self::Tested { .. }
            | Self::WaveEnded { .. }
            | Self::GatePassed { .. }
            | Self::WaveApproved { .. }
            | Self::Halted { .. }
            | Self::Barred { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Aborted { .. }
            | Self::Done => None,
        }
    }

    /// The word, as ledger, CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Tested { .. } => "tested",
            Self::Granted { .. } => "granted",
            Self::GrantExpired { .. } => "grant-expired",
            Self::Foretold { .. } => "foretold",
            Self::Redeemed { .. } => "redeemed",
            Self::Stepped { .. } => "stepped",
            Self::Ended { .. } => "ended",
            Self::Silent { .. } => "silent",
            Self::Cancelled { .. } => "cancelled",
            Self::WaveEnded { .. } => "wave-ended",
            Self::GatePassed { .. } => "gate-passed",
            Self::WaveApproved { .. } => "wave-approved",
            Self::Halted { .. } => "halted",
            Self::Barred { .. } => "barred",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::Aborted { .. } => "aborted",
            Self::UndoAsked { .. } => "undo-asked",
            Self::TrafficAsked { .. } => "traffic-asked",
            Self::TrafficSet { .. } => "traffic-set",
            Self::TrafficFailed { .. } => "traffic-failed",
            Self::TrafficDeferred { .. } => "traffic-deferred",
            Self::Done => "done",
        }
    }
}

pub(super) fn illegal(event: &RolloutEvent, why: &str) -> IllegalEvent {
    IllegalEvent { event: event.word().to_owned(), why: why.to_owned() }
}
