//! State, observations and now → what happens next. Makes no choice that the plan has not made.

use super::bits::Bits;
use super::budget::Budgets;
use super::gate::{Judged, Verdict, Watch};
use super::sight::{By, Index, Sight};
use super::traffic::Turned;
use super::{
    Decision, Foretold, HostObservation, HostRun, HostState, Observations, Phase, Rollout,
    RolloutEvent, Waiting,
};
use crate::recall::{self, Recall};
use crate::{AssignmentId, Digest, Hold, HostId, Timestamp, later};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A grant dies after so many seconds unless it is redeemed; sooner when the host's window closes sooner.
/// Long enough for preflight, staging and a rehearsal, short enough that a host which went away does not hold
/// its budget for long.
pub const GRANT_SECONDS: u64 = 3600;

/// Nothing is granted or redeemed in a window that closes within so many seconds, however quick the change is.
pub const MIN_GRANT_SECONDS: u64 = 60;

/// A host that let so many grants die is cancelled.
pub const MAX_GRANTS: u32 = 10;

impl Rollout {
    /// Looks at everything once and says what follows.
    ///
    /// Persist and apply the events in order, then look again at once: a decision says one thing at a time (a
    /// wave ended; its gate passed; hosts are granted), and `wake_at` is `now` while there is more to say. No
    /// events: everything stands still until a report, an operator, or `wake_at`. Deciding again on the same
    /// facts never repeats an event that was applied.
    ///
    /// Rules, in this order:
    /// 1. Versions of hosts that were undone or quarantined, or that a rehearsal has shown to be bad, are
    ///    barred, for every cohort of the plan: the cohorts of one plan get the same archives, and one bad host
    ///    is enough to think again. It binds later plans; this one goes on within the failures its gate allows.
    /// 2. Unredeemed grants expire; hosts at work that fell silent count as failed; hosts that left, changed
    ///    or are quarantined are cancelled before they start.
    /// 3. Paused, halted or aborted: nothing starts. A halt by failure undoes what the policy says.
    /// 4. A version that a host has still to get was recalled, or more failures than the gate of the wave at work allows,
    ///    over all waves: halted.
    ///    Ring 0: nothing starts before each work of the plan has a good test, where the plan asks for that. Nor before
    ///    somebody has let the wave begin, where its policy asks for that and no gate before it did.
    /// 5. All hosts of the wave ended: bake, gate, soak, next wave. A step of the traffic ends when every host of both
    ///    pools has what it should; after a halt or an abort the traffic goes back, as long as there is a way back. Before
    ///    each step, and before hosts of a pool are started, hosts are told again what they were told: a balancer that
    ///    was reloaded since has forgotten it.
    /// 6. Otherwise the wave's hosts are granted, in the plan's order, as windows and budgets allow. In a rolling wave,
    ///    a patched host keeps its place until it was watched; one that does badly meanwhile halts the rollout.
    pub fn decide(&self, now: Timestamp, seen: &Observations) -> Decision {
        self.look(now, seen, &By::of(self, &Index::of(self, seen), now, true))
    }

    /// The same events as [`Self::decide`], for whoever carries them out: it does not say what each host waits for, and
    /// takes no longer for hosts that have ended or wait.
    pub fn next(&self, now: Timestamp, sight: &Sight) -> Decision {
        match sight.index(self) {
            Some(index) => self.look(now, sight.seen(), &By::of(self, index, now, false)),
            // It was made for another plan.
            None => {
                let index = Index::of(self, sight.seen());
                self.look(now, sight.seen(), &By::of(self, &index, now, false))
            }
        }
    }

    fn look(&self, now: Timestamp, seen: &Observations, by: &By<'_>) -> Decision {
        let mut decision = Decision { events: self.bars_due(None), ..Decision::default() };
        if self.is_settled() {
            return decision;
        }
        let marks = self.hosts.marks();
        let cancels = by.index.cancels.clone().or(&marks.spent).and(&marks.pending);
        for place in cancels.or(&marks.at_work).iter() {
            let (id, run) = (&self.hosts.ids()[place], self.hosts.at(place));
            if !by.tell
                && let Some(at) = self.goes_on(place, run, now, by)
            {
                wake(&mut decision.wake_at, Some(at));
                continue;
            }
            decision.events.extend(self.mind_host(id, run, now, seen, &mut decision.wake_at));
        }
        let mut owed = false;
        if decision.events.is_empty() {
            owed = self.take_back_recalled(seen, &mut decision);
        }
        if decision.events.is_empty() {
            match &self.phase {
                Phase::Running => self.advance(now, seen, by, &mut decision),
                Phase::Halted { hold } => {
                    decision.wait(None, hold.clone());
                    let turned = self.turn_back(now, seen, &mut decision);
                    if matches!(turned, Turned::Back | Turned::AllButSilent) {
                        self.undo_red(hold, seen, &mut decision);
                    }
                }
                Phase::Paused { .. } | Phase::Aborted { .. } | Phase::Done => {
                    decision
                        .holds
                        .extend(self.phase.hold().map(|hold| Waiting { host: None, hold }));
                    if self.ended_at.is_none()
                        && !matches!(self.phase, Phase::Paused { .. })
                        // Whoever has requests that nobody proved it fit for keeps it open until it is told, or leaves.
                        && matches!(
                            self.turn_back(now, seen, &mut decision),
                            Turned::Back | Turned::Nowhere
                        )
                        && self.all_over()
                    {
                        decision.events.push(RolloutEvent::Done);
                    }
                }
            }
        }
        if owed {
            // It has not ended as long as somebody is to be taken back.
            decision.events.retain(|event| *event != RolloutEvent::Done);
        }
        if !decision.events.is_empty() {
            decision.wake_at = Some(now);
        }
        decision
    }

    /// Rule 4: whoever was patched with a version that was recalled, to be taken back, is asked for the undo; so is who was
    /// at work then. Once: an undo that a host refuses is for a person. Gives whether somebody cannot be asked yet.
    fn take_back_recalled(&self, seen: &Observations, decision: &mut Decision) -> bool {
        let undone: Vec<Recall> = seen.recalls.iter().filter(|r| r.undo).cloned().collect();
        if undone.is_empty() {
            return false;
        }
        let mut owed = false;
        let patched = &self.hosts.marks().patched;
        for (place, hold) in self.carried().stopped(&undone) {
            let (id, Hold::Recalled { reason, .. }) = (&self.hosts.ids()[place], hold) else {
                continue;
            };
            if !patched.has(place)
                || self.hosts.at(place).undo_asked.is_some()
                || !seen.hosts.contains_key(id)
            {
                continue;
            }
            match self.undo_event(id, &format!("recalled: {reason}"), seen) {
                Ok(event) => decision.events.push(event),
                Err(_) => owed = true,
            }
        }
        owed
    }

    /// Every host has ended.
    pub(super) fn all_over(&self) -> bool {
        self.hosts.marks().open.is_empty()
    }

    /// Whose versions are barred need not be looked at again.
    pub(super) fn excuse_barred(&mut self) {
        for place in self.hosts.marks().at_fault.iter().collect::<Vec<_>>() {
            let host = self.plan.hosts.get(&self.hosts.ids()[place]);
            let changes = host.into_iter().flat_map(|h| &h.order.changes);
            let mut versions = changes.map(|c| (c.name.clone(), c.to.clone()));
            if versions.all(|version| self.barred.contains(&version)) {
                self.hosts.excuse(place);
            }
        }
    }

    /// Rule 1. `plus`: a host about to be undone or quarantined by an event not yet applied.
    pub(super) fn bars_due(&self, plus: Option<(&HostId, &str)>) -> Vec<RolloutEvent> {
        let bad = self.hosts.marks().at_fault.iter().filter_map(|place| {
            let reason = self.hosts.at(place).fault()?;
            Some((self.hosts.ids()[place].clone(), reason.to_owned()))
        });
        let failed = bad.chain(plus.map(|(id, r)| (id.clone(), r.to_owned())));
        let mut known: BTreeSet<(String, String)> = BTreeSet::new();
        let mut events = Vec::new();
        for (id, reason) in failed {
            let Some(host) = self.plan.hosts.get(&id) else { continue };
            let versions: Vec<(String, String)> = host
                .order
                .changes
                .iter()
                .map(|change| (change.name.clone(), change.to.clone()))
                .filter(|version| !self.barred.contains(version) && known.insert(version.clone()))
                .collect();
            if !versions.is_empty() {
                let cohorts: BTreeSet<Digest> =
                    self.plan.hosts.values().map(|h| h.cohort).collect();
                events.push(RolloutEvent::Barred {
                    versions,
                    cohorts: cohorts.into_iter().collect(),
                    reason: format!("{}: {reason}", host.name),
                });
            }
        }
        events
    }

    /// A host at work that nothing is to be done about: not before then, at the earliest.
    fn goes_on(
        &self,
        place: usize,
        run: &HostRun,
        now: Timestamp,
        by: &By<'_>,
    ) -> Option<Timestamp> {
        match run.state {
            HostState::Granted => {
                run.expires_at.filter(|at| now < *at && !by.index.cancels.has(place))
            }
            HostState::Redeemed | HostState::Patched if !by.unheard.has(place) => {
                let silent = u64::try_from(self.silent_after()).unwrap_or(u64::MAX);
                Some(later(by.index.heard(place)?, silent.saturating_add(1)))
            }
            _ => None,
        }
    }

    /// Rule 2.
    fn mind_host(
        &self,
        id: &HostId,
        run: &HostRun,
        now: Timestamp,
        seen: &Observations,
        wake_at: &mut Option<Timestamp>,
    ) -> Option<RolloutEvent> {
        let host = seen.hosts.get(id);
        match run.state {
            HostState::Redeemed | HostState::Patched
                if run.state == HostState::Redeemed || run.undo_at_work() =>
            {
                let asked_at = run.undo.as_ref().map(|undo| undo.asked_at);
                let last_seen = host.and_then(|h| h.last_seen).max(run.reported_at).max(asked_at);
                if self.is_silent(last_seen, now, seen) {
                    return Some(RolloutEvent::Silent { host: id.clone(), last_seen });
                }
                let silent_after = u64::try_from(self.silent_after()).unwrap_or(u64::MAX);
                wake(
                    wake_at,
                    last_seen
                        .max(seen.listening_since)
                        .map(|t| later(t, silent_after.saturating_add(1))),
                );
                None
            }
            HostState::Granted if run.expires_at.is_some_and(|at| now >= at) => {
                Some(RolloutEvent::GrantExpired { host: id.clone() })
            }
            HostState::Pending | HostState::Granted => {
                if run.state == HostState::Granted {
                    wake(wake_at, run.expires_at);
                }
                let hold = self.cancels(id, run, host)?;
                Some(RolloutEvent::Cancelled { host: id.clone(), hold })
            }
            _ => None,
        }
    }

    /// Why a host that was not started never will be.
    fn cancels(&self, id: &HostId, run: &HostRun, host: Option<&HostObservation>) -> Option<Hold> {
        let spent = run.state == HostState::Pending && run.grants >= MAX_GRANTS;
        let planned = self.plan.hosts.get(id).map(|h| h.cohort);
        Self::stands_out(planned, host).or(spent.then_some(Hold::GrantGone { grants: run.grants }))
    }

    /// Why a host that was not started never will be, as far as it depends on what is observed of it.
    /// `planned`: its cohort when the plan was made.
    pub(super) fn stands_out(
        planned: Option<Digest>,
        host: Option<&HostObservation>,
    ) -> Option<Hold> {
        let Some(host) = host else { return Some(Hold::HostSilent { last_seen: None }) };
        if host.quarantined {
            return Some(Hold::Quarantined {
                reason: "it was quarantined before this rollout reached it".to_owned(),
            });
        }
        if host.cohort.is_some() && host.cohort != planned {
            return Some(Hold::HostChanged);
        }
        None
    }

    /// Rules 4 to 6.
    fn advance(&self, now: Timestamp, seen: &Observations, by: &By<'_>, decision: &mut Decision) {
        let wave = self.plan.waves.get(self.wave as usize);
        if let Some(hold) = self.recalled(seen).or_else(|| self.too_many_failures()) {
            return decision.events.push(Verdict::halts(hold, Vec::new()));
        }
        if self.awaits_tests() && !self.all_over() {
            return self.await_tests(now, seen, decision);
        }
        // The gate before it has asked already, where one stands before it.
        if self.lacks_word(self.wave) && !self.all_over() {
            return decision.wait(None, self.approval_needed(self.wave));
        }
        if let (Some(pools), Some(aim)) = (&self.plan.pools, wave.and_then(|w| w.traffic)) {
            return self.advance_traffic(pools, aim, now, seen, decision);
        }
        if self.all_over() && !self.way_back_stands() {
            return decision.events.push(RolloutEvent::Done);
        }
        if let Some(pools) = &self.plan.pools
            && self.unfinished(self.wave) > 0
            && self.is_untouched(self.wave)
            && self.wave_not_before.is_none_or(|at| now >= at)
        {
            match self.confirm(pools, now, seen, decision) {
                Ok(true) => {}
                Ok(false) => return,
                Err(hold) => return decision.events.push(Verdict::halts(hold, Vec::new())),
            }
        }
        let unfinished = self.unfinished(self.wave);
        if unfinished > 0 {
            return self.start_hosts(unfinished, now, seen, by, decision);
        }
        if self.wave as usize + 1 >= self.plan.waves.len() {
            // Only undos of earlier waves are left.
            return decision.wait(
                None,
                Hold::WaveRunning { wave: self.wave, unfinished: self.undos_at_work() },
            );
        }
        let Some(ended_at) = self.wave_ended_at else {
            return decision.events.push(RolloutEvent::WaveEnded { wave: self.wave });
        };
        match self.judge_gate(ended_at, now, seen, by) {
            Verdict::Passes(judged) => {
                let soak = wave.map_or(0, |w| w.soak_seconds);
                let (wave, next_not_before) = (self.wave, later(now, soak));
                decision.events.push(RolloutEvent::GatePassed { wave, next_not_before, judged });
            }
            Verdict::Fails(hold, judged) => decision.events.push(Verdict::halts(hold, judged)),
            Verdict::Waits { hold, wake: at } => {
                wake(&mut decision.wake_at, at);
                decision.wait(None, hold);
            }
        }
    }

    /// Rule 4.
    pub(super) fn too_many_failures(&self) -> Option<Hold> {
        let allowed = self.plan.waves.get(self.wave as usize).map_or(0, |w| w.gate.max_failures);
        let failed = self.failures.saturating_sub(self.pardoned);
        (failed > allowed).then_some(Hold::TooManyFailures { failed, allowed })
    }

    /// Rule 4: the first recalled version that a host has still to get.
    fn recalled(&self, seen: &Observations) -> Option<Hold> {
        if seen.recalls.is_empty() {
            return None;
        }
        let waits = |(_, run): &(&HostId, &HostRun)| {
            matches!(run.state, HostState::Pending | HostState::Granted)
        };
        // What is the same for many hosts is asked once; by where it is kept, and only ever asked for.
        let mut known = BTreeSet::new();
        let waiting = self.hosts.open().filter(waits).map(|(id, _)| id);
        waiting
            .filter(|id| {
                self.plan.hosts.get(id).is_some_and(|h| known.insert(Arc::as_ptr(&h.work)))
            })
            .find_map(|id| self.stopped_by_recall(id, seen))
    }

    /// The recalled version that this host would get.
    pub(super) fn stopped_by_recall(&self, id: &HostId, seen: &Observations) -> Option<Hold> {
        recall::stops(&seen.recalls, &self.plan.hosts.get(id)?.order.changes)
    }

    fn undos_at_work(&self) -> u32 {
        let at_work = self.hosts.marks().at_work.iter().map(|place| self.hosts.at(place));
        at_work.filter(|run| run.undo_at_work()).count() as u32
    }

    /// Rule 6.
    fn start_hosts(
        &self,
        unfinished: u32,
        now: Timestamp,
        seen: &Observations,
        by: &By<'_>,
        decision: &mut Decision,
    ) {
        let Some(wave) = self.plan.waves.get(self.wave as usize) else { return };
        if let Some(until) = self.begins(self.wave).filter(|at| now < *at) {
            wake(&mut decision.wake_at, Some(until));
            let before = self.wave.checked_sub(1).and_then(|w| self.plan.waves.get(w as usize));
            let hold = match before.filter(|_| self.wave_not_before == Some(until)) {
                Some(before) => Hold::Soak { ring: before.ring.clone(), until },
                None => Hold::RingNotYet { ring: wave.ring.clone(), until },
            };
            return decision.wait(None, hold);
        }
        let watched = self.watched(now, seen, by.index);
        if wave.rolling
            && let Some((hold, judged)) = self.watch_all(&watched, by, decision)
        {
            return decision.events.push(Verdict::halts(hold, vec![judged]));
        }
        let marks = self.hosts.marks();
        let disrupted = by.disrupted().or(&marks.disrupted);
        let mut budgets = Budgets::look(self, by.index, &watched, disrupted);
        let roster = self.roster();
        let pending = roster.wave(self.wave).and(&marks.pending);
        let at_work = unfinished as usize - pending.len();
        let silent = if self.is_unheard(seen.listening_since, now) {
            pending.clone().and(&by.unheard).and(&by.index.there)
        } else {
            // Nobody is to blame for silence while nobody listened.
            Bits::default()
        };
        let mut left = pending;
        if !by.tell {
            // Of those who cannot start only who is silent counts. Somebody's window that has opened since it was looked
            // at is no reason to sleep through it and the others.
            let closed = left.clone().without(&by.unheard).and(&by.index.closed);
            if !closed.is_empty() {
                wake(&mut decision.wake_at, by.index.opens_at);
            }
            let away = by.unheard.clone().or(&by.index.closed).or(&budgets.full_for_whom());
            left = left.without(&away);
        }
        let mut missing = left.len();
        let order = roster.orders.get(self.wave as usize).map_or(&[][..], Vec::as_slice);
        for &place in order {
            if missing == 0 {
                break;
            }
            if !left.has(place) {
                continue;
            }
            left.put(place, false);
            missing -= 1;
            let id = roster.id(place);
            let Some(host) = seen.hosts.get(id) else { continue };
            match self.may_start(id, place, host, now, &budgets) {
                Ok(expires_at) => {
                    let generation = host.generation.max(self.highest_generation(id)) + 1;
                    let assignment = self.assignment_id(id, generation);
                    decision.events.push(RolloutEvent::Granted {
                        host: id.clone(),
                        assignment,
                        generation,
                        expires_at,
                    });
                    if budgets.take(place) && !by.tell {
                        left = left.without(&budgets.full_for_whom());
                        missing = left.len();
                    }
                }
                Err(hold) => {
                    wake(&mut decision.wake_at, hold.ends_at());
                    if by.tell {
                        decision.wait(Some(id), hold);
                    }
                }
            }
        }
        if silent.len() == unfinished as usize {
            // Nobody else is left to wait for: the wave ends without them, and a later plan finds them.
            decision.events.extend(roster.in_order(&silent).into_iter().map(|place| {
                let id = roster.id(place);
                let last_seen = seen.hosts.get(id).and_then(|host| host.last_seen);
                RolloutEvent::Cancelled { host: id.clone(), hold: Hold::HostSilent { last_seen } }
            }));
        } else if at_work > 0 {
            decision.wait(None, Hold::WaveRunning { wave: self.wave, unfinished });
        }
    }

    /// Rule 6 in a rolling wave: waits for whoever is watched. Gives why it cannot go on.
    fn watch_all(
        &self,
        watched: &[(usize, Watch)],
        by: &By<'_>,
        decision: &mut Decision,
    ) -> Option<(Hold, Judged)> {
        let roster = self.roster();
        let wave = roster.waves.get(self.wave as usize)?;
        let mut here: Vec<&(usize, Watch)> =
            watched.iter().filter(|(place, _)| wave.has(*place)).collect();
        here.sort_unstable_by_key(|(place, _)| roster.rank(*place));
        for (place, watch) in here {
            let id = roster.id(*place);
            let hold = match watch {
                Watch::Well => continue,
                Watch::Failed(reason) => {
                    let (judged, reason) = (Judged::of_host(id, reason), reason.clone());
                    return Some((Hold::GateFailed { wave: self.wave, reason }, judged));
                }
                Watch::Until(until) => {
                    wake(&mut decision.wake_at, Some(*until));
                    Hold::Bake { wave: self.wave, until: *until }
                }
                Watch::Mute(silent_at) => {
                    wake(&mut decision.wake_at, *silent_at);
                    Hold::NoData { what: "a word from this host since it was watched".to_owned() }
                }
            };
            if by.tell {
                decision.wait(Some(id), hold);
            }
        }
        None
    }

    /// May this pending host of the wave at work start now? Until when, or why not.
    fn may_start(
        &self,
        id: &HostId,
        place: usize,
        host: &HostObservation,
        now: Timestamp,
        budgets: &Budgets<'_>,
    ) -> Result<Timestamp, Hold> {
        if self.is_unheard(host.last_seen, now) {
            return Err(Hold::HostSilent { last_seen: host.last_seen });
        }
        if host.cohort.is_none() {
            return Err(Hold::NoInventory);
        }
        if let Some(rollout) = host.busy.clone().filter(|r| *r != self.id) {
            return Err(Hold::Busy { rollout });
        }
        // It was silent when the others were led; what it was told still stands.
        if let Some(told) = self.traffic.get(id).filter(|_| self.traffic_moves(id)) {
            return Err(Hold::Traffic { share: told.share });
        }
        if let Some(hold) = host.window.clone() {
            return Err(hold);
        }
        // What its own rehearsal has foretold counts before what was learned of others.
        let foretold = self.hosts.at(place).foretold.map(Foretold::whole_seconds);
        let needs_seconds = MIN_GRANT_SECONDS.max(foretold.unwrap_or(host.takes_seconds));
        if let Some(closes_at) = host.closes_at.filter(|at| *at < later(now, needs_seconds)) {
            return Err(Hold::WindowTooShort { closes_at, needs_seconds });
        }
        if let Some(hold) = budgets.full_for(place) {
            return Err(hold);
        }
        let dies = later(now, GRANT_SECONDS);
        Ok(host.closes_at.map_or(dies, |closes| closes.min(dies)))
    }

    pub(super) fn assignment_id(&self, host: &HostId, generation: u64) -> AssignmentId {
        AssignmentId(format!("{}/{host}/{generation}", self.id))
    }
}

impl Decision {
    /// Look again at this time at the latest.
    pub(super) fn wake(&mut self, at: Option<Timestamp>) {
        wake(&mut self.wake_at, at);
    }

    pub(super) fn wait(&mut self, host: Option<&HostId>, hold: Hold) {
        self.holds.push(Waiting { host: host.cloned(), hold });
    }
}

impl Hold {
    /// When it ends by itself, where that is known.
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::WindowClosed { opens_at } => *opens_at,
            Self::WindowTooShort { closes_at, .. } => Some(*closes_at),
            Self::Blackout { until, .. }
            | Self::RingNotYet { until, .. }
            | Self::Soak { until, .. }
            | Self::Bake { until, .. } => Some(*until),
            _ => None,
        }
    }
}

/// The earlier of the two.
fn wake(at: &mut Option<Timestamp>, also: Option<Timestamp>) {
    *at = match (*at, also) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}
