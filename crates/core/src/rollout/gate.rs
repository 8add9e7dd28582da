//! What must hold before the next wave starts. A gate fails closed: no data never passes.

use super::bits::Bits;
use super::sight::{By, Index};
use super::{HostRun, Observations, Rollout, RolloutEvent};
use crate::policy::HOSTS;
use crate::{Hold, HostId, Timestamp, later};

mod approve;
mod ask;
mod evidence;
mod performance;
mod ran;
mod statistics;
mod undo;

pub use approve::{NoWord, WaveApproval};
use ask::Gate;
pub use evidence::{
    Answer, Came, EVIDENCE_STANDS_SECONDS, GateEvidence, HostAsk, HostProof, HostRan, Judged,
    Question, Reading, Sample, Says, Word,
};
pub use performance::Measured;
pub use ran::TESTS_AT_ONCE;

/// What the gate of the wave at work says.
pub(super) enum Verdict {
    /// Go on; judged by these.
    Passes(Vec<Judged>),
    /// Not yet; `wake` is when to ask again even if nothing happens.
    Waits { hold: Hold, wake: Option<Timestamp> },
    /// No: halt; judged by these.
    Fails(Hold, Vec<Judged>),
}

impl Verdict {
    /// The halt that follows from it.
    pub(super) fn halts(hold: Hold, judged: Vec<Judged>) -> RolloutEvent {
        RolloutEvent::Halted { hold, judged }
    }
}

/// How a patched host of a rolling wave is doing.
pub(super) enum Watch {
    /// It bakes until then.
    Until(Timestamp),
    /// It has baked, and has not spoken since. It is silent from then on.
    Mute(Option<Timestamp>),
    /// What its patch did to it.
    Failed(String),
    /// It does well: its place is free.
    Well,
}

impl Rollout {
    /// Was a host of a rolling wave that was patched heard of after its bake?
    pub(super) fn was_watched(&self, run: &HostRun, last_seen: Option<Timestamp>) -> bool {
        let wave = self.plan.waves.get(run.wave as usize).filter(|wave| wave.rolling);
        let until = wave.zip(run.ended_at).map(|(wave, at)| later(at, wave.gate.bake_seconds));
        until.is_some_and(|until| last_seen > run.ended_at && last_seen >= Some(until))
    }

    /// Looks after one host of a rolling wave, where no gate waits for the others. `None`: there is nothing to watch,
    /// or a gate watches it. A host that has spoken after its bake has done well for good. In a wave that an
    /// operator's resume excused, the bake alone counts.
    pub(super) fn watch(
        &self,
        place: usize,
        now: Timestamp,
        seen: &Observations,
        index: &Index,
    ) -> Option<Watch> {
        let there = index.there.has(place) && self.hosts.marks().patched.has(place);
        let run = there.then(|| self.hosts.at(place))?;
        let wave = self.plan.waves.get(run.wave as usize).filter(|wave| wave.rolling)?;
        let last_seen = index.heard(place);
        let until = run.ended_at.map_or(now, |at| later(at, wave.gate.bake_seconds));
        let failed = |what: &str| {
            let name = self.name_of(self.roster().id(place));
            Watch::Failed(format!("host {name} {what} after it was patched"))
        };
        if self.excused_wave == Some(run.wave) {
            return Some(if now < until { Watch::Until(until) } else { Watch::Well });
        }
        Some(if index.quarantined.has(place) {
            failed("was quarantined")
        } else if last_seen > run.ended_at && last_seen.is_some_and(|at| at >= until) {
            Watch::Well
        } else if self.is_silent(last_seen, now, seen) {
            failed("fell silent")
        } else if now < until {
            Watch::Until(until)
        } else {
            let heard = last_seen.max(seen.listening_since);
            let silent = wave.gate.silent_after_seconds.saturating_add(1);
            Watch::Mute(heard.map(|at| later(at, silent)))
        })
    }

    /// Every patched host of a rolling wave that has still to show that it does well, or has shown that it does not; by
    /// place.
    pub(super) fn watched(
        &self,
        now: Timestamp,
        seen: &Observations,
        index: &Index,
    ) -> Vec<(usize, Watch)> {
        let all = index.watched(self);
        let each = all.iter().filter_map(|place| {
            let watch = self.watch(place, now, seen, index)?;
            (!matches!(watch, Watch::Well)).then_some((place, watch))
        });
        each.collect()
    }

    /// Judges the gate after the wave at work, all of whose hosts have ended at `ended_at`.
    ///
    /// In order: the bake has elapsed; the patched share of the hosts that were started is enough (hosts that
    /// were cancelled do not count, but a wave without a single patched host is no evidence and fails); each
    /// patched host has spoken since it ended and is not silent or quarantined now. A patched host that has
    /// left the fleet says nothing either way. In a wave that an operator's resume excused, the bake alone
    /// counts.
    pub(super) fn judge_gate(
        &self,
        ended_at: Timestamp,
        now: Timestamp,
        seen: &Observations,
        by: &By<'_>,
    ) -> Verdict {
        let number = self.wave;
        if self.plan.waves.get(number as usize).is_none_or(|w| w.hosts.is_empty()) {
            return Verdict::Passes(Vec::new());
        }
        let (since, until) = self.bake_of(number, ended_at);
        if now < until {
            return Verdict::Waits { hold: Hold::Bake { wave: number, until }, wake: Some(until) };
        }
        let gate = Gate { wave: number, since, until, now };
        if self.excused_wave == Some(number) {
            // A resume says that the wave's failure was seen to; it is nobody's word for the next ring.
            return self.sum_up(&gate, Vec::new());
        }
        match self.judge_hosts(number, now, seen, by) {
            Err(other) => *other,
            Ok(hosts) => {
                let mut judged = vec![hosts];
                judged.extend(self.judge_checks(&gate, seen));
                self.sum_up(&gate, judged)
            }
        }
    }

    /// What the gate at work makes of everything it asks, as it stands: for people to look at. Empty while it has not
    /// come to that.
    pub fn judgements(&self, now: Timestamp, seen: &Observations) -> Vec<Judged> {
        let (Some(wave), Some(ended_at)) =
            (self.plan.waves.get(self.wave as usize), self.wave_ended_at)
        else {
            return Vec::new();
        };
        if self.wave as usize + 1 >= self.plan.waves.len() || self.ended_at.is_some() {
            return Vec::new();
        }
        let (since, until) = self.bake_of(self.wave, ended_at);
        // While it bakes nothing counts yet; how it looks so far is shown all the same.
        let until = if now < until { since } else { until };
        let gate = Gate { wave: self.wave, since, until, now };
        let mut judged = Vec::new();
        if self.excused_wave != Some(self.wave) && (wave.traffic.is_none_or(|aim| aim > 0)) {
            judged = self.judge_checks(&gate, seen);
        }
        judged.extend(self.judge_approval(self.wave));
        judged
    }

    /// The verdict of a gate whose hosts do well, or that has none: the first check that fails, else the first that
    /// waits, else it passes.
    fn sum_up(&self, gate: &Gate, mut judged: Vec<Judged>) -> Verdict {
        judged.extend(self.judge_approval(gate.wave));
        if let Some(bad) = judged.iter().find(|j| j.says == Says::Fails) {
            let reason = format!("check `{}`: {}", bad.check, bad.why);
            return Verdict::Fails(Hold::GateFailed { wave: gate.wave, reason }, judged);
        }
        let Some(open) = judged.iter().find(|j| j.says == Says::Waits) else {
            return Verdict::Passes(judged);
        };
        if open.check == crate::policy::APPROVAL {
            return Verdict::Waits { hold: self.approval_needed(gate.wave + 1), wake: None };
        }
        let hold = Hold::CheckWaits {
            wave: gate.wave,
            check: open.check.clone(),
            why: open.why.clone(),
            since: open.since.unwrap_or(gate.until),
        };
        let checks = self.plan.waves.get(gate.wave as usize).map(|w| &w.gate.checks);
        let patience = checks.into_iter().flatten().filter_map(|c| c.fail_after_seconds);
        // That of a check that has passed may be over already.
        let wake = patience.map(|s| later(gate.until, s)).filter(|at| *at > gate.now).min();
        Verdict::Waits { hold, wake }
    }

    /// The gate after a step of the traffic, which has no hosts of its own: what is asked of others, and whose word it
    /// waits for.
    pub(super) fn judge_step(
        &self,
        ended_at: Timestamp,
        now: Timestamp,
        seen: &Observations,
    ) -> Verdict {
        let (since, until) = self.bake_of(self.wave, ended_at);
        let gate = Gate { wave: self.wave, since, until, now };
        let excused = self.excused_wave == Some(self.wave);
        let judged = if excused { Vec::new() } else { self.judge_checks(&gate, seen) };
        self.sum_up(&gate, judged)
    }

    /// The gate after the first step of the traffic, which makes sure of what was there: it asks for nothing but the word
    /// for what begins after it.
    pub(super) fn judge_first_step(&self, ended_at: Timestamp, now: Timestamp) -> Verdict {
        let gate = Gate { wave: self.wave, since: ended_at, until: ended_at, now };
        self.sum_up(&gate, Vec::new())
    }

    /// The wave's own hosts: enough of them are patched, and each has spoken since and does well.
    fn judge_hosts(
        &self,
        number: u32,
        now: Timestamp,
        seen: &Observations,
        by: &By<'_>,
    ) -> Result<Judged, Box<Verdict>> {
        let own = |says, why: String, bad: Vec<HostId>| Judged {
            check: HOSTS.to_owned(),
            kind: HOSTS.to_owned(),
            says,
            why,
            since: None,
            bad,
            evidence: None,
        };
        let fails = |reason: String, bad: Vec<HostId>| {
            let judged = own(Says::Fails, reason.clone(), bad);
            let hold = Hold::GateFailed { wave: number, reason };
            Err(Box::new(Verdict::Fails(hold, vec![judged])))
        };
        let Some(wave) = self.plan.waves.get(number as usize) else {
            return fails("the plan has no such wave".to_owned(), Vec::new());
        };
        let roster = self.roster();
        let here = roster.wave(number);
        let started = here.len() as u64 - u64::from(self.hosts.cancelled(number));
        let patched = u64::from(self.hosts.patched(number));
        let needed = u64::from(wave.gate.min_success_percent);
        let counted = format!(
            "{patched} of {started} hosts are patched and verified, {needed} percent are needed"
        );
        if patched * 100 < started * needed {
            return fails(counted, Vec::new());
        }
        // Who has left the fleet says nothing either way.
        let here = here.and(&self.hosts.marks().patched).and(&by.index.there);
        let quarantined = here.clone().and(&by.index.quarantined);
        // Nobody is to blame for silence while nobody listened.
        let listened = self.is_unheard(seen.listening_since, now);
        let unheard = here.clone().and(&by.unheard);
        let silent = if listened { unheard.clone() } else { Bits::default() };
        if let Some(place) = roster.first(&quarantined.clone().or(&silent)) {
            let (id, is_quarantined) = (roster.id(place), quarantined.has(place));
            let what = if is_quarantined { "was quarantined" } else { "fell silent" };
            let why = format!("host {} {what} after it was patched", self.name_of(id));
            return fails(why, vec![id.clone()]);
        }
        let spoke = by.index.spoke(self).without(&unheard);
        let mute = here.clone().without(&spoke);
        let witnesses = here.and(&spoke).len();
        if let Some(first) = roster.first(&mute) {
            let what = format!(
                "a word from {} host(s) since they were patched, first of them {}",
                mute.len(),
                self.name_of(roster.id(first))
            );
            // Whoever stays mute becomes silent: look again then.
            let heard = mute.iter().map(|place| by.index.heard(place).max(seen.listening_since));
            let wake = heard
                .flatten()
                .min()
                .map(|at| later(at, wave.gate.silent_after_seconds.saturating_add(1)));
            return Err(Box::new(Verdict::Waits { hold: Hold::NoData { what }, wake }));
        }
        if witnesses == 0 {
            let what = format!(
                "a single patched host in wave {number}: every host was cancelled or has left"
            );
            let judged = own(Says::Fails, format!("no data: {what}"), Vec::new());
            return Err(Box::new(Verdict::Fails(Hold::NoData { what }, vec![judged])));
        }
        let why = format!("{counted}; each has spoken since and does well");
        Ok(own(Says::Passes, why, Vec::new()))
    }

    pub(super) fn name_of<'a>(&'a self, host: &'a HostId) -> &'a str {
        let member = || self.plan.pools.as_ref().and_then(|pools| pools.member(host));
        let planned = self.plan.hosts.get(host).map(|h| h.name.as_str());
        planned.or_else(|| member().map(|m| m.name.as_str())).unwrap_or(host.as_str())
    }
}
