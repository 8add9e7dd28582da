//! What operators and agents ask of a rollout.

use super::budget::Budgets;
use super::decide::MIN_GRANT_SECONDS;
use super::sight::{By, Index};
use super::state::illegal;
use super::{HostState, IllegalEvent, Observations, Rollout, RolloutEvent, TrafficState};
use crate::transaction::Fault;
use crate::{AssignmentId, Hold, HostId, Timestamp, later};

impl Rollout {
    /// The agent asks, right before it changes the host, whether its grant still stands. `Some`: persist and
    /// apply the event, then answer yes. `None`: it was redeemed before (or is an undo, which needs no grant);
    /// answer yes again.
    ///
    /// # Errors
    /// The [`Hold`] to answer with: paused, halted or aborted since, grant expired or withdrawn, version recalled, nobody
    /// has let its wave begin, window closed or too short for what the host has [foretold](Self::foretell), another rollout
    /// at work, budget used up by hosts that failed by themselves in the meantime. A host that has redeemed already goes on
    /// in every phase: it may be half changed.
    pub fn redeem(
        &self,
        now: Timestamp,
        host: &HostId,
        assignment: &AssignmentId,
        generation: u64,
        seen: &Observations,
    ) -> Result<Option<RolloutEvent>, Hold> {
        let answer = self.answer(now, host, assignment, generation, seen);
        // Else the host would take "not now" for "not so", and a failure be counted.
        debug_assert!(
            answer.as_ref().err().is_none_or(|hold| Fault::HOLDS.contains(&hold.code())),
            "{answer:?} is missing in Fault::HOLDS"
        );
        answer
    }

    fn answer(
        &self,
        now: Timestamp,
        host: &HostId,
        assignment: &AssignmentId,
        generation: u64,
        seen: &Observations,
    ) -> Result<Option<RolloutEvent>, Hold> {
        if let Some(told) = self.traffic.get(host).filter(|told| told.assignment == *assignment) {
            // Taken back, or followed by another: the host is told no.
            let stands = told.state == TrafficState::Asked && told.generation == generation;
            if !stands {
                return Err(Hold::GrantGone { grants: told.tries });
            }
            return self.late_traffic(host, seen).map_or(Ok(None), Err);
        }
        let run = self.hosts.get(host).ok_or(Hold::GrantGone { grants: 0 })?;
        let is_undo = |u: &&super::UndoRun| {
            u.outcome.is_none() && u.assignment == *assignment && u.generation == generation
        };
        if run.undo.as_ref().filter(is_undo).is_some() {
            return Ok(None);
        }
        let gone = Hold::GrantGone { grants: run.grants };
        if run.assignment.as_ref() != Some(assignment) || run.generation != Some(generation) {
            return Err(gone);
        }
        if run.state == HostState::Redeemed || run.silent {
            return Ok(None);
        }
        if let Some(hold) = self.phase.hold() {
            return Err(hold);
        }
        if run.state != HostState::Granted || run.expires_at.is_none_or(|at| now >= at) {
            return Err(gone);
        }
        // A failure that was reported a moment ago halts the rollout in a moment: do not slip in between.
        if let Some(hold) = self.too_many_failures() {
            return Err(hold);
        }
        // So is a recall.
        if let Some(hold) = self.stopped_by_recall(host, seen) {
            return Err(hold);
        }
        // It was granted by a server that asked for no word before a first wave.
        if self.lacks_word(run.wave) {
            return Err(self.approval_needed(run.wave));
        }
        let known = seen.hosts.get(host).ok_or(Hold::HostSilent { last_seen: None })?;
        if known.quarantined {
            return Err(Hold::Quarantined {
                reason: "it was quarantined before it was changed".to_owned(),
            });
        }
        if known.cohort.is_some() && known.cohort != self.plan.hosts.get(host).map(|h| h.cohort) {
            return Err(Hold::HostChanged);
        }
        if let Some(rollout) = known.busy.clone().filter(|r| *r != self.id) {
            return Err(Hold::Busy { rollout });
        }
        if let Some(hold) = known.window.clone() {
            return Err(hold);
        }
        let foretold = run.foretold.map_or(0, |it| u64::from(it.changing_seconds));
        let needs_seconds = MIN_GRANT_SECONDS.max(foretold);
        if let Some(closes_at) = known.closes_at.filter(|at| *at < later(now, needs_seconds)) {
            return Err(Hold::WindowTooShort { closes_at, needs_seconds });
        }
        // Hosts fail by themselves between grant and now. Unredeemed grants of others take no room here: else
        // two of them could refuse each other.
        let index = Index::of(self, seen);
        let disrupted = By::of(self, &index, now, true).disrupted();
        let watched = self.watched(now, seen, &index);
        let changing = &self.hosts.marks().changing;
        let budgets = Budgets::look(self, &index, &watched, disrupted.or(changing));
        if let Some(hold) = self.hosts.place(host).and_then(|place| budgets.full_for(place)) {
            return Err(hold);
        }
        Ok(Some(RolloutEvent::Redeemed { host: host.clone() }))
    }

    /// The agent says how long its change takes, when it asks for its grant. `Some`: persist and apply the event, then
    /// let it redeem. `None`: nobody waits for this word (the grant is gone, or the order is no change).
    pub fn foretell(
        &self,
        host: &HostId,
        assignment: &AssignmentId,
        generation: u64,
        changing_seconds: u64,
    ) -> Option<RolloutEvent> {
        let run = self.hosts.get(host)?;
        let asked = run.state == HostState::Granted
            && run.assignment.as_ref() == Some(assignment)
            && run.generation == Some(generation);
        let changing_seconds = u32::try_from(changing_seconds).unwrap_or(u32::MAX);
        asked.then(|| RolloutEvent::Foretold { host: host.clone(), changing_seconds })
    }

    /// No new host starts until somebody resumes.
    ///
    /// # Errors
    /// When the rollout is not running.
    pub fn pause(&self, by: &str, reason: &str) -> Result<RolloutEvent, IllegalEvent> {
        self.legal(RolloutEvent::Paused { by: by.to_owned(), reason: reason.to_owned() })
    }

    /// Goes on after a pause, or after a halt: then the failures so far are pardoned, and the gate of the wave
    /// at work asks only for its bake. Nothing but this clears a halt.
    ///
    /// # Errors
    /// When the rollout is neither paused nor halted.
    pub fn resume(&self, by: &str, reason: &str) -> Result<RolloutEvent, IllegalEvent> {
        self.legal(RolloutEvent::Resumed { by: by.to_owned(), reason: reason.to_owned() })
    }

    /// No new host starts, ever. Hosts at work end; then the rollout has ended.
    ///
    /// # Errors
    /// When the rollout has ended or was aborted before.
    pub fn abort(&self, by: &str, reason: &str) -> Result<RolloutEvent, IllegalEvent> {
        self.legal(RolloutEvent::Aborted { by: by.to_owned(), reason: reason.to_owned() })
    }

    /// Patched hosts are to be undone, in whatever phase the rollout is. Undo waits for no window, budget or
    /// gate: what it takes back is worse.
    ///
    /// # Errors
    /// When one of the hosts is not patched by this rollout, is being undone, is at work in another rollout (its
    /// order and this one would overtake each other), or has left the fleet: then none is.
    pub fn undo(
        &self,
        hosts: &[HostId],
        reason: &str,
        seen: &Observations,
    ) -> Result<Vec<RolloutEvent>, IllegalEvent> {
        let distinct: std::collections::BTreeSet<&HostId> = hosts.iter().collect();
        distinct.into_iter().map(|host| self.undo_event(host, reason, seen)).collect()
    }

    pub(super) fn undo_event(
        &self,
        host: &HostId,
        reason: &str,
        seen: &Observations,
    ) -> Result<RolloutEvent, IllegalEvent> {
        let run = self.hosts.get(host);
        let generation =
            seen.hosts.get(host).map_or(0, |h| h.generation).max(self.highest_generation(host)) + 1;
        let event = RolloutEvent::UndoAsked {
            host: host.clone(),
            assignment: self.assignment_id(host, generation),
            generation,
            reason: reason.to_owned(),
        };
        match run {
            _ if !seen.hosts.contains_key(host) => {
                Err(illegal(&event, &format!("host {host} has left the fleet")))
            }
            Some(run) if run.state != HostState::Patched => {
                let why = format!(
                    "host {host} is {}: only a patched host can be undone",
                    run.state.word()
                );
                Err(illegal(&event, &why))
            }
            Some(_)
                if seen
                    .hosts
                    .get(host)
                    .and_then(|h| h.busy.as_ref())
                    .is_some_and(|r| *r != self.id) =>
            {
                Err(illegal(
                    &event,
                    &format!("host {host} is at work in another rollout: wait for its end"),
                ))
            }
            _ if self.traffic_moves(host) => Err(illegal(
                &event,
                &format!("the traffic of host {host} is being set: wait for that"),
            )),
            Some(run) if run.undo_at_work() => {
                Err(illegal(&event, &format!("host {host} is being undone")))
            }
            Some(_) => Ok(event),
            None => Err(illegal(&event, &format!("host {host} is not in the plan"))),
        }
    }

    /// The event if this phase allows it. The one table is in `apply`; these three do not depend on a host.
    fn legal(&self, event: RolloutEvent) -> Result<RolloutEvent, IllegalEvent> {
        use super::Phase;
        let fits = match &event {
            RolloutEvent::Paused { .. } => self.phase == Phase::Running,
            RolloutEvent::Resumed { .. } => {
                matches!(self.phase, Phase::Paused { .. } | Phase::Halted { .. })
            }
            _ => !matches!(self.phase, Phase::Aborted { .. } | Phase::Done),
        };
        if fits {
            Ok(event)
        } else {
            Err(illegal(&event, &format!("the rollout is {}", self.phase.word())))
        }
    }
}
