//! Server processes: executors that decide, handlers that serve agents, crashes.

use super::{Happening, Reply, Request, World};
use crate::Sabotage;
use crate::gates::{self, Given, Mood};
use crate::server::NotWritten;
use fettle_core::plan::Wave;
use fettle_core::policy::{GateRule, UndoRule};
use fettle_core::rollout::{
    HostState, Phase, Question, Rollout, RolloutEvent, TrafficState, WaveApproval, effects,
};
use fettle_core::{AssignmentId, Hold, HostId, RolloutId, Timestamp};
use std::borrow::Cow;

impl World {
    /// Something changed: every process looks.
    pub(super) fn signal(&mut self) {
        self.look_soon(0);
        self.look_soon(1);
    }

    pub(super) fn look_soon(&mut self, process: usize) {
        let delay = self.random.between(0, 3);
        self.look_in(process, delay);
    }

    fn look_in(&mut self, process: usize, seconds: u64) {
        let at = crate::fleet::after(self.now, seconds);
        let p = &mut self.processes[process];
        if p.up && p.look_at > at {
            p.token += 1;
            p.look_at = at;
            let token = p.token;
            self.due(seconds, Happening::Look { process, token });
        }
    }

    /// Decides on every rollout; what follows is written a moment later, or, by a process that is stopped just
    /// then, much later.
    pub(super) fn look(&mut self, process: usize) {
        if !self.processes[process].up {
            return;
        }
        self.processes[process].look_at = Timestamp::MAX;
        let stopped = self.random.permille(self.faults.stale_executor);
        let pause = if stopped { self.random.between(60, 2400) } else { self.random.between(0, 2) };
        let mut next_look = self.random.between(300, 900);
        let open = self.store.rollouts.iter().filter(|(_, row)| row.is_to_be_looked_at());
        let ids: Vec<RolloutId> = open.map(|(id, _)| id.clone()).collect();
        for rollout in ids {
            let (version, events, wake_at) = self.decide(process, &rollout);
            if let Some(at) = wake_at {
                next_look =
                    next_look.min((at.as_second() - self.now.as_second()).max(0).unsigned_abs());
            }
            if !events.is_empty() {
                let boot = self.processes[process].boot;
                self.due(pause, Happening::Write { process, boot, rollout, version, events });
            }
        }
        self.look_in(process, pause + next_look.max(1));
    }

    fn decide(
        &mut self,
        process: usize,
        id: &RolloutId,
    ) -> (u64, Vec<RolloutEvent>, Option<Timestamp>) {
        let since = Some(self.processes[process].started_at);
        let seen = self.store.observe(self.now, id, since, self.options.sabotage);
        let Some(row) = self.store.rollouts.get(id) else { return (0, Vec::new(), None) };
        let mut decision = blinded(&row.state, self.options.sabotage).decide(self.now, &seen);
        let bakes =
            decision.holds.iter().any(|w| w.host.is_none() && matches!(w.hold, Hold::Bake { .. }));
        if self.sabotaged(Sabotage::StayRed) && !matches!(row.state.phase, Phase::Running) {
            decision.events.retain(|e| !matches!(e, RolloutEvent::TrafficAsked { .. }));
        }
        if self.sabotaged(Sabotage::SkipGate) && bakes {
            decision.events = vec![RolloutEvent::GatePassed {
                wave: row.state.wave,
                next_not_before: self.now,
                judged: Vec::new(),
            }];
        }
        if self.sabotaged(Sabotage::KeepRed) && matches!(row.state.phase, Phase::Halted { .. }) {
            decision.events.retain(|e| !matches!(e, RolloutEvent::UndoAsked { .. }));
        }
        for event in &decision.events {
            if let RolloutEvent::GatePassed { wave, .. } = event {
                self.checker.proved(self.now, &row.state, *wave, &self.store);
            }
        }
        let version = row.state.version;
        // Nothing may follow twice from the same facts.
        if !decision.events.is_empty() {
            let mut next = row.state.clone();
            if decision.events.iter().all(|e| next.apply(self.now, e).is_ok()) {
                let again = next.decide(self.now, &seen);
                if again.events.iter().any(|e| decision.events.contains(e)) {
                    self.checker.violated(
                        self.now,
                        "4 at most once",
                        format!("decided again: {:?}", again.events),
                    );
                }
            }
        }
        for waiting in &decision.holds {
            self.checker.sometimes(match waiting.hold {
                Hold::Bake { .. } if waiting.host.is_some() => "host watched",
                Hold::BudgetUsed { .. } => "budget reached",
                Hold::WindowClosed { .. } => "window held",
                Hold::TrafficLed { .. } => "pools busy",
                Hold::Busy { .. } => "busy elsewhere",
                Hold::NoData { .. } => "no data yet",
                Hold::NotTested { .. } => "no good test yet",
                Hold::TestFailed { .. } => "a twin failed",
                Hold::CheckWaits { .. } => "check waited for",
                Hold::WaveNotApproved { .. } => "word waited for",
                Hold::Soak { .. } => "soak",
                Hold::RingNotYet { .. } => "ring not yet",
                Hold::HostSilent { .. } => "silent host held",
                _ => "another hold",
            });
        }
        (version, decision.events, decision.wake_at)
    }

    pub(super) fn write_decision(
        &mut self,
        process: usize,
        id: &RolloutId,
        version: u64,
        events: &[RolloutEvent],
    ) {
        if self.write(id, version, events, &format!("process {process}")) {
            self.look_in(process, 0);
        }
        if self.random.permille(self.faults.server_crash) {
            self.crash_process(process);
        }
    }

    /// One transaction on a rollout, and the checks after it.
    pub(super) fn write(
        &mut self,
        id: &RolloutId,
        version: u64,
        events: &[RolloutEvent],
        who: &str,
    ) -> bool {
        let Some(before) = self.store.rollouts.get(id).map(|row| row.state.clone()) else {
            return false;
        };
        match self.store.write(self.now, id, version, events, self.options.sabotage) {
            Ok(()) => {
                for event in events {
                    self.tell(|_| format!("{who}: {id} {}", line(event)));
                }
                self.checker.written(self.now, &before, events, &self.store);
                true
            }
            Err(why) => {
                self.tell(|_| match &why {
                    NotWritten::Stale => format!("{who}: {id} has moved on, nothing written"),
                    NotWritten::GenerationTaken => {
                        format!("{who}: {id} a generation was taken, nothing written")
                    }
                    NotWritten::Illegal(error) => format!("{who}: {id} {error}"),
                });
                self.checker.sometimes(match why {
                    NotWritten::Stale => "stale executor refused",
                    NotWritten::GenerationTaken => "generation taken",
                    NotWritten::Illegal(_) => "illegal event refused",
                });
                false
            }
        }
    }

    /// Every evaluator is asked what the gates want to know, and answers as it is.
    pub(super) fn ask_evaluators(&mut self) {
        self.due(45, Happening::Ask);
        let now = self.now;
        let open: Vec<(RolloutId, Question)> = (self.store.rollouts.iter())
            .flat_map(|(id, row)| row.state.questions().into_iter().map(|q| (id.clone(), q)))
            .collect();
        let mut news = false;
        for (id, question) in open {
            let check = question.check.name.clone();
            let mood = self.moods.get(&(id.clone(), check.clone())).copied().unwrap_or(Mood::Good);
            let Some((evidence, good)) = gates::answer(&mut self.random, mood, &question, now)
            else {
                continue;
            };
            self.checker.sometimes(match mood {
                Mood::Good => "good answer",
                Mood::Bad => "bad answer",
                Mood::Flaps => "answer by turns",
                Mood::Old | Mood::Elsewhere | Mood::Tomorrow => "answer to no question",
                Mood::Errs | Mood::Silent => "no answer",
            });
            let given = Given { rollout: id.clone(), evidence: evidence.clone(), good };
            self.store.given.push(given);
            self.store.evidence.insert((id, check), evidence);
            news = true;
        }
        if news {
            self.signal();
        }
    }

    pub(super) fn crash_process(&mut self, process: usize) {
        self.tell(|_| format!("process {process} crashes"));
        // What evaluators said was in its memory.
        self.store.evidence.clear();
        self.store.said.clear();
        self.store.measured.clear();
        let p = &mut self.processes[process];
        p.up = false;
        p.boot += 1;
        p.look_at = Timestamp::MAX;
        let down = self.random.between(5, 2400);
        self.due(down, Happening::StartProcess { process });
    }

    /// A process starts: it folds every rollout anew and does all effects again, since it cannot know which
    /// of them were done.
    pub(super) fn start_process(&mut self, process: usize) {
        if self.processes[process].up {
            return;
        }
        self.tell(|_| format!("process {process} starts"));
        self.checker.sometimes("server restarted");
        if self.sabotaged(Sabotage::LoseEvents) {
            for row in self.store.rollouts.values_mut().filter(|row| row.events.len() > 3) {
                row.events.truncate(row.events.len() - 2);
            }
        }
        for (id, folded) in self.store.refold() {
            let kept = self.store.rollouts.get(&id).map(|row| &row.state);
            if folded.as_ref() != kept {
                self.checker.violated(
                    self.now,
                    "18 nothing lost",
                    format!("{id} is another after refolding"),
                );
            }
        }
        let standing = |w: &Self| -> Vec<AssignmentId> {
            w.store
                .assignments
                .iter()
                .filter(|(_, row)| row.stands)
                .map(|(id, _)| id.clone())
                .collect()
        };
        let before = (standing(self), self.store.barred.clone());
        let mut again = Vec::new();
        for row in self.store.rollouts.values() {
            again.extend(row.events.iter().flat_map(|(at, event)| effects(&row.state, *at, event)));
        }
        again.iter().for_each(|effect| self.store.follow(effect));
        if before != (standing(self), self.store.barred.clone()) {
            let now = standing(self);
            self.checker.violated(
                self.now,
                "4 at most once",
                format!("effects done again: {:?} became {now:?}", before.0),
            );
        }
        let now = self.now;
        let p = &mut self.processes[process];
        p.up = true;
        p.started_at = now;
        self.look_soon(process);
    }

    /// An agent's request reaches a process that is up.
    pub(super) fn serve(&mut self, request: Request) {
        let Some(process) = self.processes.iter().position(|p| p.up) else { return };
        match request {
            Request::CheckIn { host, holding, reports, said, told } => {
                let now = self.now;
                let Some(row) = self.store.hosts.get_mut(&host) else { return };
                row.last_seen = Some(now);
                if row.holding != Some(holding) {
                    let (inventory, cohort) = self.store.kinds.of(&holding, &self.upstream);
                    row.holding = Some(holding);
                    (row.inventory, row.cohort) = (Some(inventory), Some(cohort));
                }
                let mut acknowledged = Vec::new();
                for (assignment, entries) in reports {
                    let count = self.store.take_report(&assignment, &entries);
                    self.believe(&host, &assignment);
                    acknowledged.push((assignment, count));
                }
                if self.random.permille(self.faults.server_crash) {
                    return self.crash_process(process);
                }
                let assignment = self.store.assignment_of(&host).cloned();
                let asks = self.store.ask(&host, said, now);
                let looked = self.store.measure(&host, told);
                if !asks.is_empty() || !looked.is_empty() {
                    self.signal();
                }
                let reply = Reply::CheckedIn { acknowledged, assignment, asks, looked };
                self.send(|| Happening::ToAgent {
                    host: host.clone(),
                    reply: Box::new(reply.clone()),
                });
            }
            Request::Redeem { host, assignment, generation, needs_seconds } => {
                if let Some(row) = self.store.hosts.get_mut(&host) {
                    row.last_seen = Some(self.now);
                }
                self.foretell(&host, &assignment, generation, needs_seconds);
                let answer = self.redeem(process, &host, &assignment, generation);
                if let Err(hold) = &answer {
                    self.tell(|_| format!("{assignment} may not go on: {hold}"));
                    self.checker.sometimes("redeem refused");
                }
                if self.random.permille(self.faults.server_crash) {
                    return self.crash_process(process);
                }
                let reply = Reply::Redeemed { assignment, answer };
                self.send(|| Happening::ToAgent {
                    host: host.clone(),
                    reply: Box::new(reply.clone()),
                });
            }
        }
    }

    /// The whole journal as the store has it → events.
    fn believe(&mut self, host: &HostId, assignment: &AssignmentId) {
        let Some(id) =
            self.store.assignments.get(assignment).map(|row| row.assignment.rollout.clone())
        else {
            return;
        };
        let Some(journal) = self.store.journals.get(assignment) else { return };
        let Some(row) = self.store.rollouts.get(&id) else { return };
        let was_silent = row.state.hosts.get(host).is_some_and(|run| run.silent);
        let (version, events) = (row.state.version, row.state.report(host, assignment, journal));
        if events.is_empty() {
            return;
        }
        if was_silent && events.iter().any(|e| matches!(e, RolloutEvent::Ended { .. })) {
            self.checker.sometimes("silent host came back");
        }
        if self.write(&id, version, &events, &host.to_string()) {
            self.signal();
        } else if self.options.sabotage.is_none() {
            self.checker.violated(
                self.now,
                "18 nothing lost",
                format!("a report was refused: {events:?}"),
            );
        }
    }

    /// What the agent says of its change when it asks for its grant.
    fn foretell(
        &mut self,
        host: &HostId,
        assignment: &AssignmentId,
        generation: u64,
        seconds: u64,
    ) {
        self.store.foretold.insert(host.clone(), seconds);
        if self.sabotaged(Sabotage::ForgetForetold) {
            return;
        }
        let row = self.store.assignments.get(assignment);
        let row = row.and_then(|row| self.store.rollouts.get(&row.assignment.rollout));
        let Some(state) = row.map(|row| &row.state) else { return };
        let said = state.foretell(host, assignment, generation, seconds);
        let (id, version) = (state.id.clone(), state.version);
        if let Some(event) = said {
            self.write(&id, version, &[event], &host.to_string());
        }
    }

    fn redeem(
        &mut self,
        process: usize,
        host: &HostId,
        assignment: &AssignmentId,
        generation: u64,
    ) -> Result<(), Hold> {
        let gone = Hold::GrantGone { grants: 0 };
        let Some(id) =
            self.store.assignments.get(assignment).map(|row| row.assignment.rollout.clone())
        else {
            return Err(gone);
        };
        let since = Some(self.processes[process].started_at);
        let seen = self.store.observe(self.now, &id, since, self.options.sabotage);
        let Some(row) = self.store.rollouts.get(&id) else { return Err(gone) };
        let version = row.state.version;
        let shown = blinded(&row.state, self.options.sabotage);
        let answer = shown.redeem(self.now, host, assignment, generation, &seen);
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(event)) => {
                let written = self.write(&id, version, &[event], &host.to_string());
                self.signal();
                if written { Ok(()) } else { Err(gone) }
            }
            Err(_) if self.sabotaged(Sabotage::RedeemBlindly) => Ok(()),
            Err(hold) => Err(hold),
        }
    }
}

/// The state as it is shown to an executor whose guard is switched off.
fn blinded(state: &Rollout, sabotage: Option<Sabotage>) -> Cow<'_, Rollout> {
    let mut shown = Cow::Borrowed(state);
    match sabotage {
        Some(Sabotage::IgnoreBudget) => shown.to_mut().plan_mut().budgets.clear(),
        Some(Sabotage::ForgetFailures) => shown.to_mut().failures = 0,
        Some(Sabotage::ServeUnproved) => {
            let state = shown.to_mut();
            state.hosts.change_each(|run| {
                if run.state.is_terminal() {
                    run.state = HostState::Patched;
                }
            });
        }
        Some(Sabotage::TakeBeforeGive) => {
            let given = shown.to_mut().traffic.values_mut().filter(|run| run.share > 0);
            given.for_each(|run| run.state = TrafficState::Set);
        }
        Some(Sabotage::RollUnwatched) => {
            shown.to_mut().plan_mut().waves.iter_mut().for_each(|w| w.rolling = false);
        }
        Some(Sabotage::SkipRest) => {
            let state = shown.to_mut();
            state.wave_not_before = None;
            for wave in &mut state.plan_mut().waves {
                (wave.soak_seconds, wave.after_seconds) = (0, 0);
            }
        }
        Some(Sabotage::AskNobody) => gates_of(shown.to_mut()).for_each(|g| g.checks.clear()),
        Some(Sabotage::ForgetProof) => {
            gates_of(shown.to_mut()).for_each(|g| g.require_proof = false);
        }
        Some(Sabotage::ForgetApproval) => {
            gates_of(shown.to_mut()).for_each(|g| g.approval.clear());
        }
        Some(Sabotage::BeginUnasked) => {
            let state = shown.to_mut();
            let somebody = |wave: &Wave| !wave.hosts.is_empty();
            let first = state.plan.waves.iter().position(somebody).unwrap_or(0) as u32;
            let word = WaveApproval {
                at: state.created_at,
                by: "nobody".to_owned(),
                principal: "nobody".to_owned(),
                comment: String::new(),
            };
            state.approved.entry(first).or_insert(word);
        }
        Some(Sabotage::UndoWider) => {
            gates_of(shown.to_mut()).for_each(|g| g.undo = Some(UndoRule::All));
        }
        _ => {}
    }
    shown
}

fn gates_of(state: &mut Rollout) -> impl Iterator<Item = &mut GateRule> {
    state.plan_mut().waves.iter_mut().map(|wave| &mut wave.gate)
}

/// One event as a line of the story.
fn line(event: &RolloutEvent) -> String {
    match event {
        RolloutEvent::Granted { host, generation, .. } => {
            format!("grants {host} generation {generation}")
        }
        RolloutEvent::Stepped { host, step } => format!("{host} {}", step.word()),
        RolloutEvent::Ended { host, outcome } => format!("{host} ended: {}", outcome.word()),
        RolloutEvent::Redeemed { host }
        | RolloutEvent::Foretold { host, .. }
        | RolloutEvent::GrantExpired { host }
        | RolloutEvent::Silent { host, .. } => {
            format!("{host} {}", event.word())
        }
        RolloutEvent::Cancelled { host, hold } => format!("{host} cancelled: {hold}"),
        RolloutEvent::Halted { hold, .. } => format!("halted: {hold}"),
        RolloutEvent::WaveEnded { wave } | RolloutEvent::GatePassed { wave, .. } => {
            format!("{} {wave}", event.word())
        }
        RolloutEvent::TrafficAsked { host, share, .. } => format!("asks {host} for {share} %"),
        RolloutEvent::TrafficSet { host, .. }
        | RolloutEvent::TrafficFailed { host, .. }
        | RolloutEvent::TrafficDeferred { host, .. } => {
            format!("{host} {}", event.word())
        }
        RolloutEvent::UndoAsked { host, reason, .. } => format!("undo of {host} asked: {reason}"),
        other => other.word().to_owned(),
    }
}
