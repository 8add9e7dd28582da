//! What gates ask of others, and whoever answers: well, badly, never, by turns, or about something else.

use crate::random::Random;
use crate::server::Store;
use fettle_core::assignment::Probe;
use fettle_core::finding::Finding;
use fettle_core::plan::Plan;
use fettle_core::policy::{
    CheckKind, CheckRule, EACH_WAVE, Expect, GateRule, HostList, HostTest, PROOF, PerformanceRule,
    UndoRule,
};
use fettle_core::rollout::{
    Answer, Came, GateEvidence, HostProof, HostRan, Measured, Observations, Question, Reading,
    Rollout, Sample, Word,
};
use fettle_core::{HostId, RolloutId, Shared, Timestamp};
use jiff::SignedDuration;
use std::collections::BTreeMap;

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

/// What a host says of a test that it was asked to run: how long ago it began and ended, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) ask: String,
    pub(crate) began_ago: i64,
    pub(crate) ended_ago: i64,
    pub(crate) came: Came,
}

/// A test that truly ran on a host: for the checker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrulyRan {
    pub(crate) host: HostId,
    pub(crate) ask: String,
    pub(crate) at: Timestamp,
    pub(crate) well: bool,
}

/// A host that was truly measured, and how it did: for the checker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrulyMeasured {
    pub(crate) host: HostId,
    pub(crate) at: Timestamp,
    pub(crate) good: bool,
}

/// A host tells what it measured, for one rollout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) rollout: RolloutId,
    pub(crate) samples: Vec<Sample>,
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
    if random.permille(300) {
        let probe = Probe::Command { name: "shop".to_owned() };
        let rule = PerformanceRule { probe, margin_percent: 20, min_samples: 20, confidence: 0.99 };
        gate.checks.push(CheckRule {
            name: "speed".to_owned(),
            asks: CheckKind::Performance(rule),
            fail_after_seconds: patience,
        });
    }
    if random.permille(300) {
        let test = HostTest { list: HostList::Tests, name: "shop".to_owned() };
        let min_percent = *random.pick(&[50, 100]).unwrap_or(&100);
        let asks = CheckKind::Host { test, min_percent };
        gate.checks.push(CheckRule { name: "shop".to_owned(), asks, fail_after_seconds: patience });
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
        // Asked of the hosts: [`ran`].
        CheckKind::Host { .. } | CheckKind::Performance(_) => return None,
    };
    let evidence = GateEvidence { check: question.check.name.clone(), wave, asked_at, answer };
    Some((evidence, well && matches!(mood, Mood::Good | Mood::Flaps)))
}

fn error(question: &Question, now: Timestamp) -> (GateEvidence, bool) {
    let answer = Answer::None { error: "connection refused".to_owned(), since: now };
    let check = question.check.name.clone();
    (GateEvidence { check, wave: question.wave, asked_at: now, answer }, false)
}

/// How this host behaves where hosts are in that mood: some of them are, the others do well.
pub(crate) fn mood_of(host: &HostId, mood: Mood) -> Mood {
    let odd = host.as_str().bytes().map(u32::from).sum::<u32>() % 3 == 0;
    if odd { mood } else { Mood::Good }
}

/// What comes of a test on a host in that mood. `None`: it is not run.
pub(crate) fn came(random: &mut Random, mood: Mood) -> Option<Came> {
    let badly = || Came::Badly { said: "exit code 1: 2 orders lost".to_owned() };
    Some(match mood {
        Mood::Silent => return None,
        Mood::Errs => Came::Lacks { why: "it has no program `shop`".to_owned() },
        Mood::Bad => badly(),
        Mood::Flaps if random.permille(400) => badly(),
        // These have run nothing, and lie about it.
        Mood::Old | Mood::Elsewhere | Mood::Tomorrow | Mood::Flaps | Mood::Good => Came::Well,
    })
}

/// What a host in that mood says of a run that began and ended so many seconds ago.
pub(crate) fn said(mood: Mood, ask: &str, ago: i64, came: Came) -> Said {
    let (began_ago, ended_ago) = match mood {
        Mood::Old => (ago + 86_400, ago + 86_400),
        Mood::Tomorrow => (ago - 86_400, ago - 86_400),
        _ => (ago, ago),
    };
    let ask = if mood == Mood::Elsewhere { format!("{ask}/another") } else { ask.to_owned() };
    Said { ask, began_ago, ended_ago, came }
}

/// What a host in that mood measured, once each ten seconds: `began` is when its wave began to be changed. `None`: nothing.
pub(crate) fn samples(mood: Mood, began: Timestamp, now: Timestamp) -> Option<Vec<Sample>> {
    let slow = match mood {
        Mood::Silent | Mood::Errs => return None,
        Mood::Bad => true,
        // By turns of ten minutes.
        Mood::Flaps => now.as_second() / 600 % 2 == 0,
        Mood::Good | Mood::Old | Mood::Elsewhere | Mood::Tomorrow => false,
    };
    let lie = match mood {
        Mood::Old | Mood::Elsewhere => -86_400,
        Mood::Tomorrow => 86_400,
        _ => 0,
    };
    let before = (1..=40).rev().map(|n| (began - SignedDuration::from_secs(n * 10), 10_000));
    let took = if slow { 30_000 } else { 10_000 };
    let ends = |n: i64| now - SignedDuration::from_secs(n * 10 - lie);
    let after = (0..60).rev().map(ends).map(|at| (at, took));
    let all = before.chain(after.filter(|(at, _)| *at > began));
    let jitter = |(n, (at, took)): (u32, (Timestamp, u32))| Sample {
        at,
        microseconds: Some(took + n * 37 % 500),
    };
    Some((0..).zip(all).map(jitter).collect())
}

/// What hosts measured that a gate compares.
pub(crate) fn measured(store: &Store, state: &Rollout, now: Timestamp) -> Vec<GateEvidence> {
    let of = |measured: Measured<'_>| {
        let told = |id: &&HostId| {
            let samples = store.measured.get(&(state.id.clone(), (*id).clone()))?;
            Some(((*id).clone(), samples.clone()))
        };
        let hosts = measured.patched.iter().chain(&measured.controls).filter_map(told).collect();
        let (check, answer) = (measured.check.to_owned(), Answer::Measured { hosts });
        GateEvidence { check, wave: state.wave, asked_at: now, answer }
    };
    state.measures().into_iter().map(of).collect()
}

/// What the wave's hosts say of the tests that its gate makes them run.
pub(crate) fn ran(store: &Store, state: &Rollout, now: Timestamp) -> Vec<GateEvidence> {
    let asks = state.asks_of_hosts(now).into_iter();
    asks.map(|(check, ask, hosts)| {
        let said = |id: &HostId| Some((id.clone(), store.said.get(id)?.get(&ask.ask)?.clone()));
        let hosts = hosts.into_iter().filter_map(said).collect();
        GateEvidence { check, wave: state.wave, asked_at: now, answer: Answer::Ran { hosts } }
    })
    .collect()
}

/// Where the findings of the wave's hosts stand, by what they last reported.
pub(crate) fn proof(store: &Store, state: &Rollout, now: Timestamp) -> Option<GateEvidence> {
    if !state.asks_for_proof(now) {
        return None;
    }
    let wave = state.plan.waves.get(state.wave as usize)?;
    let proof = |id: &fettle_core::HostId| {
        let row = store.hosts.get(id)?;
        let fixes = &state.plan.hosts.get(id)?.order.fixes;
        let found = store.found(row.holding.as_ref()?);
        let stays = |f: &&Shared<Finding>| f.state.is_vulnerable() && fixes.contains(&f.id);
        let left = found.iter().filter(stays).map(|f| (f.id.clone(), f.state)).collect();
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
    make_up_samples(state, seen, now);
    for (check, _, hosts) in state.asks_of_hosts(now) {
        let well = HostRan { began_at: now, ended_at: now, came: Came::Well };
        let hosts = hosts.into_iter().map(|id| (id.clone(), well.clone())).collect();
        let answer = Answer::Ran { hosts };
        let evidence =
            GateEvidence { check: check.clone(), wave: state.wave, asked_at: now, answer };
        seen.gate.insert(check, evidence);
    }
}

/// Whoever judges is shown that every host is as quick as ever.
fn make_up_samples(state: &Rollout, seen: &mut Observations, now: Timestamp) {
    for measured in state.measures() {
        let began = state.changing_since().unwrap_or(now);
        let good = |id: &&HostId| Some(((*id).clone(), samples(Mood::Good, began, now)?));
        let hosts = measured.patched.iter().chain(&measured.controls).filter_map(good).collect();
        let (check, answer) = (measured.check.to_owned(), Answer::Measured { hosts });
        let evidence =
            GateEvidence { check: check.clone(), wave: state.wave, asked_at: now, answer };
        seen.gate.insert(check, evidence);
    }
}

/// Whoever judges takes each answer for one of now, about this wave.
pub(crate) fn restamp(state: &Rollout, seen: &mut Observations, now: Timestamp) {
    for evidence in seen.gate.values_mut() {
        evidence.wave = state.wave;
        evidence.asked_at = now;
        if let Answer::Ran { hosts } = &mut evidence.answer {
            hosts.values_mut().for_each(|ran| (ran.began_at, ran.ended_at) = (now, now));
        }
    }
}
