//! What a gate asks of others, and what it makes of their answers.

use super::evidence::{
    Answer, EVIDENCE_STANDS_SECONDS, GateEvidence, HostProof, Judged, Question, Reading, Says, Word,
};
use super::later;
use crate::assignment::{ApplyOrder, RebootRule};
use crate::finding::FindingState;
use crate::plan::Wave;
use crate::policy::{APPROVAL, CheckKind, CheckRule, Expect, PROOF, glob};
use crate::rollout::{Observations, Phase, Rollout};
use crate::{HostId, Timestamp};

/// As many hosts are named in one sentence.
const NAMED: usize = 5;

/// The gate that is being judged.
pub(super) struct Gate {
    pub(super) wave: u32,
    /// When the wave's last host ended.
    pub(super) since: Timestamp,
    /// When its bake has ended.
    pub(super) until: Timestamp,
    pub(super) now: Timestamp,
}

/// What was made of an answer, before it is put on record.
pub(super) struct Finding {
    pub(super) says: Says,
    pub(super) why: String,
    pub(super) since: Option<Timestamp>,
    pub(super) bad: Vec<HostId>,
}

pub(super) fn found(says: Says, why: impl Into<String>) -> Finding {
    Finding { says, why: why.into(), since: None, bad: Vec::new() }
}

/// No data, since then.
pub(super) fn nothing(why: impl Into<String>, since: Timestamp) -> Finding {
    Finding { since: Some(since), ..found(Says::Waits, why) }
}

impl Rollout {
    /// The wave whose gate asks now, since when it has ended and until when it bakes: none before it has ended, nor while
    /// the rollout stands still, nor after an operator has excused it.
    pub(super) fn asking(&self) -> Option<(&Wave, Timestamp, Timestamp)> {
        let wave = self.plan.waves.get(self.wave as usize)?;
        let ended_at = self.wave_ended_at?;
        // After the last wave of hosts nothing begins; after the last step of the traffic the way back ends, so its gate is
        // judged. The first step only makes sure of what was there.
        let last = self.wave as usize + 1 >= self.plan.waves.len();
        let none = (last && wave.traffic.is_none()) || wave.traffic == Some(0);
        if self.phase != Phase::Running || none || self.excused_wave == Some(self.wave) {
            return None;
        }
        let (since, until) = self.bake_of(self.wave, ended_at);
        Some((wave, since, until))
    }

    /// What the gate at work asks now of somebody outside the fleet. What it asks of the wave's own hosts is
    /// [`Rollout::asks_of`] and [`Rollout::measures`].
    pub fn questions(&self) -> Vec<Question> {
        let Some((wave, since, until)) = self.asking() else { return Vec::new() };
        let hosts: Vec<HostId> = self.patched_in(self.wave).map(|(id, _)| id.clone()).collect();
        let ask = |check: &CheckRule| Question {
            wave: self.wave,
            check: check.clone(),
            hosts: hosts.clone(),
            since,
            until,
        };
        let outside = |check: &&CheckRule| !check.asks.is_of_hosts();
        wave.gate.checks.iter().filter(outside).map(ask).collect()
    }

    /// Does the gate at work want to know where its hosts' findings stand? From the end of its bake on.
    pub fn asks_for_proof(&self, now: Timestamp) -> bool {
        let wave = self.plan.waves.get(self.wave as usize);
        let baked = self.wave_ended_at.is_some_and(|at| now >= self.bake_of(self.wave, at).1);
        wave.is_some_and(|w| w.gate.require_proof && !w.hosts.is_empty())
            && baked
            && self.phase == Phase::Running
    }

    /// Since when the wave's hosts have all ended, and until when they bake. The true end of a host that had fallen
    /// silent may come after the wave's: it has to bake as well.
    pub(super) fn bake_of(&self, wave: u32, ended_at: Timestamp) -> (Timestamp, Timestamp) {
        let since = self.hosts.last_end(wave).map_or(ended_at, |at| at.max(ended_at));
        let bake = self.plan.waves.get(wave as usize).map_or(0, |w| w.gate.bake_seconds);
        (since, later(since, bake))
    }

    /// The patched hosts of a wave.
    pub(super) fn patched_in(
        &self,
        wave: u32,
    ) -> impl Iterator<Item = (&HostId, &crate::rollout::HostRun)> {
        let order = self.roster().orders.get(wave as usize).map_or(&[][..], Vec::as_slice);
        let patched = order.iter().filter(|place| self.hosts.marks().patched.has(**place));
        patched.map(|place| (&self.hosts.ids()[*place], self.hosts.at(*place)))
    }

    /// Everything that this gate asks of others, judged. Proof is asked of the wave's hosts, where there are some.
    pub(super) fn judge_checks(&self, gate: &Gate, seen: &Observations) -> Vec<Judged> {
        let Some(wave) = self.plan.waves.get(gate.wave as usize) else { return Vec::new() };
        let mut out = Vec::new();
        if wave.gate.require_proof && !wave.hosts.is_empty() {
            let evidence = fresh(PROOF, gate, seen);
            let finding = self.judge_proof(gate, evidence, seen);
            out.push(record(PROOF, PROOF, finding, evidence));
        }
        // While the wave bakes everything is shown, and nobody's patience is at an end.
        let baked = self.wave_ended_at.map_or(gate.until, |at| self.bake_of(gate.wave, at).1);
        for check in &wave.gate.checks {
            let evidence = fresh(&check.name, gate, seen);
            let stale = seen.gate.get(&check.name).filter(|e| e.wave == gate.wave);
            let finding = match &check.asks {
                // A step of the traffic has no hosts of its own that could run something.
                kind if kind.is_of_hosts() && wave.hosts.is_empty() => continue,
                CheckKind::Host { test, min_percent } => {
                    self.judge_ran(test, *min_percent, gate, evidence, seen)
                }
                CheckKind::Performance(rule) => self.judge_performance(rule, gate, evidence, seen),
                _ => judge_check(check, gate, evidence, stale),
            };
            let finding = patience(check, baked, gate.now, finding);
            out.push(record(&check.name, check.asks.word(), finding, evidence.or(stale)));
        }
        out
    }

    /// Has somebody let the next ring begin, where the policy asks for that?
    pub(super) fn judge_approval(&self, wave: u32) -> Option<Judged> {
        if !self.asks_for_word(wave + 1) {
            return None;
        }
        let next = self.plan.waves.get(wave as usize + 1)?;
        let finding = match self.approved.get(&(wave + 1)) {
            Some(word) => Finding {
                since: Some(word.at),
                ..found(Says::Passes, format!("{} let ring {} begin", word.by, next.ring))
            },
            None => found(Says::Waits, format!("nobody has let ring {} begin", next.ring)),
        };
        Some(record(APPROVAL, APPROVAL, finding, None))
    }

    /// By an inventory taken after the patch, none of the findings that a host's order fixes is left on it.
    fn judge_proof(
        &self,
        gate: &Gate,
        evidence: Option<&GateEvidence>,
        seen: &Observations,
    ) -> Finding {
        let Some(Answer::Findings { hosts }) = evidence.map(|e| &e.answer) else {
            return nothing("where the findings stand has not been looked up yet", gate.until);
        };
        let (mut without, mut bad, mut left, mut proved) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (id, run) in self.patched_in(gate.wave) {
            // Who has left the fleet says nothing either way.
            if !seen.hosts.contains_key(id) {
                continue;
            }
            let Some(order) = self.plan.hosts.get(id).map(|h| &h.order) else { continue };
            match hosts.get(id) {
                Some(proof) if proof.inventory_at >= run.ended_at && run.ended_at.is_some() => {
                    let open = still_owed(order, proof);
                    if open.is_empty() {
                        proved += 1;
                    } else {
                        left.push(format!("{} on {}", open.join(", "), self.name_of(id)));
                        bad.push(id.clone());
                    }
                }
                _ => without.push(self.name_of(id)),
            }
        }
        if !bad.is_empty() {
            let why = format!("not proved gone: {}", few(&left));
            return Finding { bad, ..found(Says::Fails, why) };
        }
        if !without.is_empty() {
            let why = format!("no inventory since the patch of {}", few(&without));
            return nothing(why, gate.since);
        }
        if proved == 0 {
            return nothing("not a single patched host that could be looked at", gate.until);
        }
        found(Says::Passes, format!("the findings of {proved} host(s) are proved gone"))
    }
}

/// The findings left that the policy does not leave on purpose, with their states.
fn still_owed(order: &ApplyOrder, proof: &HostProof) -> Vec<String> {
    // Whatever still maps replaced files is what the policy spares, and there is something that does.
    let spared = order.restart.never
        || (!proof.stale_units.is_empty()
            && proof
                .stale_units
                .iter()
                .all(|unit| order.restart.spare.iter().any(|glob| glob::matches(glob, unit))));
    let on_purpose = |state: FindingState| match state {
        FindingState::Fixed | FindingState::Accepted | FindingState::NotAffected => true,
        FindingState::PendingRestart => spared,
        FindingState::PendingReboot => order.reboot == RebootRule::Never,
        FindingState::Open | FindingState::NoFixYet => false,
    };
    let owed = proof.left.iter().filter(|(_, state)| !on_purpose(**state));
    owed.map(|(id, state)| format!("{id} ({})", state.word())).collect()
}

/// What was asked for this gate, not too long ago and not too early. What comes from the future is of no clock of ours.
fn fresh<'e>(check: &str, gate: &Gate, seen: &'e Observations) -> Option<&'e GateEvidence> {
    seen.gate.get(check).filter(|evidence| {
        evidence.check == check
            && evidence.wave == gate.wave
            && evidence.asked_at >= gate.until
            && evidence.asked_at <= gate.now
            && later(evidence.asked_at, EVIDENCE_STANDS_SECONDS) >= gate.now
    })
}

fn record(check: &str, kind: &str, finding: Finding, evidence: Option<&GateEvidence>) -> Judged {
    let Finding { says, why, since, bad } = finding;
    let evidence = evidence.cloned().map(|e| GateEvidence { answer: e.answer.kept(), ..e });
    Judged { check: check.to_owned(), kind: kind.to_owned(), says, why, since, bad, evidence }
}

/// What waits for longer than the policy has patience after the bake fails.
fn patience(check: &CheckRule, baked: Timestamp, now: Timestamp, finding: Finding) -> Finding {
    let Some(limit) = check.fail_after_seconds else { return finding };
    if finding.says != Says::Waits || now < later(baked, limit) {
        return finding;
    }
    let why = format!("{}, and the policy waits {limit} s for it", finding.why);
    Finding { says: Says::Fails, why, ..finding }
}

fn judge_check(
    check: &CheckRule,
    gate: &Gate,
    evidence: Option<&GateEvidence>,
    stale: Option<&GateEvidence>,
) -> Finding {
    let Some(evidence) = evidence else {
        return match stale {
            Some(old) if old.asked_at < gate.until => {
                nothing("it was not asked since the bake ended", gate.until)
            }
            Some(old) => nothing("it was not asked lately", old.asked_at),
            None => nothing("it has not been asked", gate.until),
        };
    };
    match (&check.asks, &evidence.answer) {
        (_, Answer::None { error, since }) => nothing(error.clone(), *since),
        (
            CheckKind::Prometheus { expect, for_seconds, .. },
            Answer::Readings { step_seconds, readings },
        ) => judge_readings(gate, *expect, *for_seconds, *step_seconds, readings),
        (CheckKind::Webhook { .. }, Answer::Word { word, reason }) => {
            let reason = if reason.is_empty() { "no reason was given" } else { reason };
            match word {
                Word::Pass => found(Says::Passes, reason),
                Word::Wait => found(Says::Waits, reason),
                Word::Fail => found(Says::Fails, reason),
            }
        }
        _ => nothing("the answer is to another question", evidence.asked_at),
    }
}

/// The last number is where it should be, and has been for long enough, without a gap, all of that after the wave.
fn judge_readings(
    gate: &Gate,
    expect: Expect,
    for_seconds: u64,
    step_seconds: u64,
    readings: &[Reading],
) -> Finding {
    let after: Vec<&Reading> = readings.iter().filter(|r| r.at >= gate.since).collect();
    let Some(last) = after.last().filter(|r| r.at >= gate.until) else {
        return nothing("not a single number since the bake ended", gate.until);
    };
    if !expect.holds(last.value) {
        let why = format!("it is {}, and has to be {expect}", last.value);
        return Finding { since: Some(last.at), ..found(Says::Fails, why) };
    }
    let gap = step_seconds.max(1).saturating_mul(2);
    let mut held_since = last.at;
    for reading in after.iter().rev().skip(1) {
        if !expect.holds(reading.value) || later(reading.at, gap) < held_since {
            break;
        }
        held_since = reading.at;
    }
    let held = (last.at.as_second() - held_since.as_second()).max(0).unsigned_abs();
    let why = format!("it is {}, {expect} for {held} s", last.value);
    if held < for_seconds {
        let why = format!("{why}; {for_seconds} s are needed");
        return Finding { since: Some(held_since), ..found(Says::Waits, why) };
    }
    Finding { since: Some(held_since), ..found(Says::Passes, why) }
}

/// The first few, and how many more there are.
pub(super) fn few<T: AsRef<str>>(all: &[T]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}
