//! Gates: what passes one (3, 31, 32, 34, 35), and what a red one undoes (33).

use super::Checker;
use crate::fleet::after;
use crate::server::Store;
use fettle_core::plan::Wave;
use fettle_core::policy::{CheckKind, EACH_WAVE, UndoRule};
use fettle_core::rollout::{HostState, Judged, Phase, Rollout, RolloutEvent};
use fettle_core::transaction::Outcome;
use fettle_core::{HostId, Timestamp};
use std::collections::BTreeSet;

impl Checker {
    pub(super) fn gate(&mut self, at: Timestamp, was: &Rollout, wave: u32, store: &Store) {
        let rule = &was.plan.waves[wave as usize].gate;
        if let Some(aim) = was.plan.waves[wave as usize].traffic {
            let rests = if aim == 0 { 0 } else { rule.bake_seconds };
            let baked = was.wave_ended_at.is_some_and(|t| after(t, rests) <= at);
            return self.must(baked, at, "3 gate", || format!("step {wave} has not baked"));
        }
        let runs: Vec<_> = was.hosts.iter().filter(|(_, run)| run.wave == wave).collect();
        let ended = runs.iter().all(|(_, run)| run.state.is_terminal());
        self.must(ended, at, "3 gate", || format!("wave {wave} has not ended"));
        let patched = || runs.iter().filter(|(_, run)| run.state == HostState::Patched);
        let last = patched().filter_map(|(_, run)| run.ended_at).chain(was.wave_ended_at).max();
        let baked = last.is_some_and(|t| after(t, rule.bake_seconds) <= at);
        self.must(baked, at, "3 gate", || format!("wave {wave} has not baked"));
        let failures = store.rollouts.get(&was.id).map_or(0, |row| failures(&row.events));
        self.must(failures <= rule.max_failures, at, "3 gate", || format!("{failures} failures"));
        if was.excused_wave == Some(wave) {
            return;
        }
        let started = runs
            .iter()
            .filter(|(_, run)| !matches!(run.state, HostState::Cancelled { .. }))
            .count();
        let enough = patched().count() * 100 >= started * rule.min_success_percent as usize
            && patched().count() > 0;
        self.must(enough, at, "3 gate", || format!("{} of {started} patched", patched().count()));
        for (id, run) in patched() {
            let spoke = store.hosts.get(*id).is_none_or(|row| row.last_seen > run.ended_at);
            self.must(spoke, at, "3 gate", || format!("no word from {id} since it was patched"));
        }
    }

    /// A gate is about to be passed: where proof is asked for, its hosts said last that they run what fixes the findings.
    pub(crate) fn proved(&mut self, at: Timestamp, was: &Rollout, wave: u32, store: &Store) {
        let planned = &was.plan.waves[wave as usize];
        let excused = was.excused_wave == Some(wave) || planned.traffic == Some(0);
        if excused || !planned.gate.require_proof {
            return;
        }
        let runs = was.hosts.iter().filter(|(_, run)| run.wave == wave);
        for (id, _) in runs.filter(|(_, run)| run.state == HostState::Patched) {
            let Some(holding) = store.hosts.get(id).and_then(|row| row.holding) else { continue };
            let fixes = &was.plan.hosts[id].order.fixes;
            let left =
                store.feed.truly(&holding).find(|(cve, ..)| fixes.iter().any(|id| id == cve));
            self.must(left.is_none(), at, "34 proved", || format!("{id} has {left:?} still"));
            self.sometimes("proof passed");
        }
    }

    /// What the gate asks of others was truly answered, and well.
    pub(super) fn asked(
        &mut self,
        at: Timestamp,
        was: &Rollout,
        wave: u32,
        judged: &[Judged],
        store: &Store,
    ) {
        let planned = &was.plan.waves[wave as usize];
        if was.excused_wave == Some(wave) || planned.traffic == Some(0) {
            return;
        }
        let runs = was.hosts.iter().filter(|(_, run)| run.wave == wave);
        let patched: Vec<_> = runs.filter(|(_, run)| run.state == HostState::Patched).collect();
        let last =
            patched.iter().filter_map(|(_, run)| run.ended_at).chain(was.wave_ended_at).max();
        let baked = last.map(|t| after(t, planned.gate.bake_seconds));
        for check in &planned.gate.checks {
            if let CheckKind::Host { min_percent, .. } = check.asks {
                if planned.hosts.is_empty() {
                    continue;
                }
                let (begins, ends) = (format!("{}/{wave}/", was.id), format!("/{}", check.name));
                let truly_well = |host: &HostId| {
                    store.ran.iter().any(|ran| {
                        ran.host == *host
                            && ran.well
                            && ran.ask.starts_with(&begins)
                            && ran.ask.ends_with(&ends)
                            && Some(ran.at) >= baked
                            // As below; and what it said may have been long under way.
                            && after(ran.at, 2400 + 121 + 600) >= at
                    })
                };
                // Who has left since is not asked any more, and what it said counted.
                let asked = patched.iter().filter(|(id, _)| store.hosts.contains_key(*id)).count();
                let well = patched.iter().filter(|(id, _)| truly_well(id)).count();
                let enough = well > 0 && well * 100 >= asked * min_percent as usize;
                self.must(enough, at, "31 asked", || {
                    let name = &check.name;
                    format!("wave {wave} of {}: `{name}` passed by {well} of {asked}", was.id)
                });
                self.sometimes("hosts' test passed");
                continue;
            }
            if let CheckKind::Performance(_) = check.asks {
                for (id, _) in patched.iter().filter(|(id, _)| store.hosts.contains_key(*id)) {
                    let truly_well = store.truly_measured.iter().any(|it| {
                        it.host == **id
                            && it.good
                            && Some(it.at) >= last
                            && after(it.at, 2400 + 121 + 600) >= at
                    });
                    self.must(truly_well || planned.hosts.is_empty(), at, "31 asked", || {
                        let name = &check.name;
                        format!("wave {wave} of {}: `{name}` passed, and {id} did not", was.id)
                    });
                }
                self.sometimes("measures passed");
                continue;
            }
            let told = judged.iter().find(|j| j.check == check.name);
            let told = told.and_then(|j| j.evidence.as_ref());
            let truly = told.is_some_and(|evidence| {
                store.given.iter().any(|given| {
                    given.rollout == was.id
                        && given.good
                        && given.evidence.check == check.name
                        && given.evidence.wave == wave
                        && given.evidence.asked_at == evidence.asked_at
                        && Some(evidence.asked_at) >= baked
                        // A stopped process may write what it decided much later; nothing came between.
                        && after(evidence.asked_at, 2400 + 121) >= at
                })
            });
            self.must(truly, at, "31 asked", || {
                format!("wave {wave} of {}: `{}` passed by {told:?}", was.id, check.name)
            });
            self.sometimes("check passed");
        }
    }

    /// A host of a ring that somebody has to let begin.
    pub(super) fn let_begin(&mut self, at: Timestamp, was: &Rollout, host: &HostId) {
        self.word_given(at, was, was.hosts[host].wave, host.as_str());
    }

    /// The ring before has had its rest, and it is the ring's time.
    pub(super) fn rested(&mut self, at: Timestamp, was: &Rollout, host: &HostId) {
        let number = was.hosts[host].wave;
        let begins = after(was.created_at, was.plan.waves[number as usize].after_seconds);
        self.must(begins <= at, at, "35 rest", || format!("{host} starts, its ring {begins}"));
        if let Some(before) = number.checked_sub(1) {
            let soak = was.plan.waves[before as usize].soak_seconds;
            let rested = was.gates.get(&before).is_some_and(|passed| after(*passed, soak) <= at);
            self.must(rested, at, "35 rest", || format!("{host} starts, wave {before} rests"));
        }
    }

    /// A step of the traffic begins when its gate is passed, and has no hosts that start.
    pub(super) fn let_step(&mut self, at: Timestamp, was: &Rollout, wave: u32) {
        self.word_given(at, was, wave, "a step of the traffic");
    }

    /// Whatever else is in the plan: where each wave waits for a word, this wave has its own; where a ring does, its
    /// first wave has one, be it the first of the rollout.
    fn word_given(&mut self, at: Timestamp, was: &Rollout, wave: u32, what: &str) {
        let waves = &was.plan.waves;
        let Wave { ring, gate, .. } = &waves[wave as usize];
        let first_of_ring = waves.iter().position(|other| other.ring == *ring);
        for asked in &gate.approval {
            let needed = match asked.as_str() {
                EACH_WAVE => Some(wave),
                named if named == ring => first_of_ring.map(|first| first as u32),
                _ => None,
            };
            // Where the ring begins with the step that makes sure of what was there, nothing begins by that.
            let Some(needed) = needed.filter(|n| waves[*n as usize].traffic != Some(0)) else {
                continue;
            };
            self.must(store_word(was, needed), at, "32 word", || {
                format!("{what} starts, and nobody let wave {needed} begin")
            });
            if needed == 0 {
                self.sometimes("first wave let begin");
            }
        }
    }

    /// A red gate has undone what its policy says: all of it that can be.
    pub(crate) fn red_undone(&mut self, at: Timestamp, store: &Store) {
        for row in store.rollouts.values() {
            let state = &row.state;
            if !matches!(state.phase, Phase::Halted { .. }) {
                continue;
            }
            for host in red_hosts(state).iter().filter(|id| store.hosts.contains_key(*id)) {
                let run = &state.hosts[host];
                let done = run.state != HostState::Patched || run.undo_asked.is_some();
                self.must(done, at, "33 red undone", || {
                    format!("{host} of {} is still patched", state.id)
                });
            }
        }
    }
}

/// Why the simulated operators undo; whatever else is undone after the patch, a red gate undoes.
pub(crate) const OPERATORS_REASON: &str = "slow since";

/// The hosts that the policy of the wave at work has undone after a halt. Written against the policy's words, not as the
/// core finds them.
pub(super) fn red_hosts(state: &Rollout) -> BTreeSet<HostId> {
    let Phase::Halted { hold } = &state.phase else { return BTreeSet::new() };
    let gate = &state.plan.waves[state.wave as usize].gate;
    let traffic = state.plan.waves[state.wave as usize].traffic.is_some();
    if !matches!(hold.code(), "gate-failed" | "too-many-failures") {
        return BTreeSet::new();
    }
    let of_wave = |wave: u32| if traffic { wave < state.wave } else { wave == state.wave };
    let runs = state.hosts.iter();
    match (gate.undo, gate.undo_wave) {
        (Some(UndoRule::All), _) => {
            runs.filter(|(_, run)| run.wave <= state.wave).map(|(id, _)| id.clone()).collect()
        }
        (Some(UndoRule::Failed), _) => runs
            .filter(|(id, run)| of_wave(run.wave) && state.faulted.contains(*id))
            .map(|(id, _)| id.clone())
            .collect(),
        (Some(UndoRule::Wave), _) | (None, true) => {
            runs.filter(|(_, run)| of_wave(run.wave)).map(|(id, _)| id.clone()).collect()
        }
        (Some(UndoRule::None), _) | (None, false) => BTreeSet::new(),
    }
}

/// Somebody who did not start the rollout let the wave begin.
fn store_word(was: &Rollout, wave: u32) -> bool {
    was.approved.get(&wave).is_some_and(|word| word.by != was.created_by)
}

/// Failures since the last resume of a halt, counted from the log and not as the core counts them.
fn failures(events: &[(Timestamp, RolloutEvent)]) -> u32 {
    let (mut count, mut pardoned, mut halted) = (0, 0, false);
    let (mut silent, mut undoing) = (BTreeSet::new(), BTreeSet::new());
    for (_, event) in events {
        match event {
            RolloutEvent::Silent { host, .. } => count += u32::from(silent.insert(host)),
            RolloutEvent::UndoAsked { host, .. } => drop(undoing.insert(host)),
            RolloutEvent::Ended { host, outcome } => {
                let failed = match outcome {
                    Outcome::Patched | Outcome::Switched => false,
                    Outcome::Refused { fault } => !fault.is_not_now() && !undoing.contains(host),
                    Outcome::Undone { .. } => !undoing.contains(host),
                    Outcome::Quarantined { .. } => true,
                };
                undoing.remove(host);
                // Who fell silent was counted then.
                count += u32::from(!silent.remove(host) && failed);
            }
            RolloutEvent::Halted { .. } => halted = true,
            RolloutEvent::Resumed { .. } if halted => (pardoned, halted) = (count, false),
            _ => {}
        }
    }
    count - pardoned
}
