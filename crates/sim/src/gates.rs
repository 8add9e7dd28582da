//! What gates ask of others, and whoever answers: well, badly, never, by turns, or about something else.

use crate::random::Random;
use crate::server::Store;
use fettle_core::finding::FindingState;
use fettle_core::plan::Plan;
use fettle_core::policy::{CheckKind, CheckRule, EACH_WAVE, Expect, GateRule, PROOF, UndoRule};
use fettle_core::rollout::{
    Answer, GateEvidence, HostProof, Observations, Question, Reading, Rollout, Word,
};
use fettle_core::{RolloutId, Timestamp};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// The vulnerability that every plan fixes.
pub(crate) const CVE: &str = "CVE-2026-1";

/// How an evaluator behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All is well, and it says so.
    Good,
    /// It is not, and it says so.
    Bad,
    /// It is asked and never answers.
    Silent,
    /// It cannot be asked.
    Errs,
    /// Well and not, by turns.
    Flaps,
    /// It answered once, long ago.
    Old,
    /// It answers for another wave.
    Elsewhere,
    /// Its clock is ahead.
    Tomorrow,
}

/// One answer that was truly given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    pub(crate) rollout: RolloutId,
    pub(crate) evidence: GateEvidence,
    /// All was well, for this very wave, at that very time.
    pub(crate) good: bool,
}

/// What a plan's gates ask beside what every gate asks.
pub(crate) fn extras(random: &mut Random, gate: &mut GateRule) {
    gate.undo = random
        .permille(300)
        .then(|| *random.pick(&[UndoRule::Failed, UndoRule::All]).unwrap_or(&UndoRule::All));
    gate.require_proof = random.permille(300);
    if random.permille(250) {
        gate.approval =
            vec![(*random.pick(&[EACH_WAVE, "broad"]).unwrap_or(&EACH_WAVE)).to_owned()];
    }
    let patience = random.permille(500).then_some(1800);
    if random.permille(300) {
        let asks = CheckKind::Prometheus {
            url: "http://127.0.0.1:9090".to_owned(),
            query: "errors".to_owned(),
            expect: Expect::Below(0.5),
            for_seconds: *random.pick(&[0, 120]).unwrap_or(&0),
        };
        let rule = CheckRule { name: "errors".to_owned(), asks, fail_after_seconds: patience };
        gate.checks.push(rule);
    }
    if random.permille(200) {
        let asks = CheckKind::Webhook { url: "http://127.0.0.1/gate".to_owned() };
        gate.checks.push(CheckRule {
            name: "suite".to_owned(),
            asks,
            fail_after_seconds: patience,
        });
    }
}

/// How each evaluator of a plan behaves.
pub(crate) fn moods(random: &mut Random, plan: &Plan) -> BTreeMap<String, Mood> {
    let all = [
        Mood::Good,
        Mood::Good,
        Mood::Good,
        Mood::Good,
        Mood::Bad,
        Mood::Silent,
        Mood::Errs,
        Mood::Flaps,
        Mood::Old,
        Mood::Elsewhere,
        Mood::Tomorrow,
    ];
    let checks = plan.waves.first().map(|w| &w.gate.checks);
    checks
        .into_iter()
        .flatten()
        .map(|check| (check.name.clone(), *random.pick(&all).unwrap_or(&Mood::Good)))
        .collect()
}

/// What an evaluator in that mood answers now, and whether it is true and good. `None`: nothing.
pub(crate) fn answer(
    random: &mut Random,
    mood: Mood,
    question: &Question,
    now: Timestamp,
) -> Option<(GateEvidence, bool)> {
    let ago = |seconds: i64| now - SignedDuration::from_secs(seconds);
    let well = match mood {
        Mood::Good | Mood::Old | Mood::Elsewhere | Mood::Tomorrow => true,
        Mood::Flaps => random.permille(600),
        Mood::Bad => false,
        Mood::Silent | Mood::Errs => return (mood == Mood::Errs).then(|| error(question, now)),
    };
    let (wave, asked_at) = match mood {
        Mood::Old => (question.wave, question.since - SignedDuration::from_secs(3600)),
        Mood::Elsewhere => (question.wave + 1, now),
        Mood::Tomorrow => (question.wave, now + SignedDuration::from_hours(24)),
        _ => (question.wave, now),
    };
    let answer = match &question.check.asks {
        CheckKind::Prometheus { .. } => {
            let value = if well { 0.1 } else { 0.9 };
            // A server keeps its numbers: those of the last minutes come with each answer.
            let readings = (0..10).rev().map(|n| Reading { at: ago(n * 30), value }).collect();
            Answer::Readings { step_seconds: 30, readings }
        }
        CheckKind::Webhook { .. } => Answer::Word {
            word: if well { Word::Pass } else { *random.pick(&[Word::Fail, Word::Wait])? },
            reason: "the tests".to_owned(),
        },
    };
    let evidence = GateEvidence { check: question.check.name.clone(), wave, asked_at, answer };
    Some((evidence, well && matches!(mood, Mood::Good | Mood::Flaps)))
}

fn error(question: &Question, now: Timestamp) -> (GateEvidence, bool) {
    let answer = Answer::None { error: "connection refused".to_owned(), since: now };
    let check = question.check.name.clone();
    (GateEvidence { check, wave: question.wave, asked_at: now, answer }, false)
}

/// Where the findings of the wave's hosts stand, by what they last reported.
pub(crate) fn proof(store: &Store, state: &Rollout, now: Timestamp) -> Option<GateEvidence> {
    if !state.asks_for_proof(now) {
        return None;
    }
    let wave = state.plan.waves.get(state.wave as usize)?;
    let proof = |id: &fettle_core::HostId| {
        let row = store.hosts.get(id)?;
        let gone = row.cohort == target(state, id);
        let left = if gone { None } else { Some((CVE.to_owned(), FindingState::Open)) };
        let left = left.into_iter().collect();
        let inventory_at = row.last_seen;
        Some((id.clone(), HostProof { inventory_at, left, stale_units: Vec::new() }))
    };
    let hosts = wave.hosts.iter().filter_map(proof).collect();
    Some(GateEvidence {
        check: PROOF.to_owned(),
        wave: state.wave,
        asked_at: now,
        answer: Answer::Findings { hosts },
    })
}

/// The cohort of a host that runs what the plan gives it.
pub(crate) fn target(state: &Rollout, host: &fettle_core::HostId) -> Option<fettle_core::Digest> {
    let change = state.plan.hosts.get(host)?.order.changes.first()?;
    Some(crate::fleet::cohort(&change.to))
}

/// Whoever judges is shown an answer where there is none: the guard "no data never passes" is off.
pub(crate) fn make_up(state: &Rollout, seen: &mut Observations, now: Timestamp) {
    for question in state.questions() {
        let good = |random: &mut Random| answer(random, Mood::Good, &question, now);
        if let Some((evidence, _)) = good(&mut Random::new(0)) {
            let real = seen.gate.get(&evidence.check);
            if !real.is_some_and(|e| e.wave == question.wave && e.asked_at == now) {
                seen.gate.insert(evidence.check.clone(), evidence);
            }
        }
    }
}

/// Whoever judges takes each answer for one of now, about this wave.
pub(crate) fn restamp(state: &Rollout, seen: &mut Observations, now: Timestamp) {
    for evidence in seen.gate.values_mut() {
        evidence.wave = state.wave;
        evidence.asked_at = now;
    }
}
