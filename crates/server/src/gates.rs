//! Evaluators: they are handed what gates ask ([`Rollout::questions`]), ask it of somebody outside, and keep the answer
//! in memory for whoever decides. They can pass nothing, fail nothing and touch no host; a server that restarts has no
//! answers and asks again.

pub(crate) mod call;
#[cfg(any(test, feature = "otlp"))]
pub(crate) use call::call_within;
pub(crate) mod host_tests;
pub(crate) mod measured;
mod prometheus;
mod webhook;

use crate::app::{App, now};
use crate::rollouts::load;
use fettle_core::finding::FindingState;
use fettle_core::policy::{CheckKind, PROOF};
use fettle_core::rollout::{Answer, GateEvidence, HostProof, Question, Rollout};
use fettle_core::{HostId, Problem, RolloutId, Timestamp};
use fettle_store::{View, findings, hosts, rollouts as stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// As many are asked at once: each may keep a thread for as long as [`call`] is patient.
const AT_ONCE: usize = 8;

/// What evaluators found last.
#[derive(Default)]
pub(crate) struct Found {
    answers: Mutex<BTreeMap<(RolloutId, String), GateEvidence>>,
    /// What hosts said of the tests that gates made them run.
    pub(crate) ran: host_tests::Ran,
    /// What hosts measured.
    pub(crate) samples: measured::Samples,
}

impl Found {
    /// Of one rollout, by the check's name.
    pub(crate) fn of(&self, rollout: &RolloutId) -> BTreeMap<String, GateEvidence> {
        let found = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = found.iter().filter(|((id, _), _)| id == rollout);
        of_it.map(|((_, check), evidence)| (check.clone(), evidence.clone())).collect()
    }

    /// Keeps an answer. That there is none has been so since it first was.
    fn keep(&self, rollout: &RolloutId, mut evidence: GateEvidence) {
        let mut found = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (rollout.clone(), evidence.check.clone());
        if let Answer::None { since, .. } = &mut evidence.answer
            && let Some(before) = found.get(&key).filter(|before| before.wave == evidence.wave)
            && let Answer::None { since: first, .. } = &before.answer
        {
            *since = *first;
        }
        found.insert(key, evidence);
    }

    /// Forgets what nobody asks any more.
    fn only(&self, asked: &BTreeSet<(RolloutId, String)>) {
        let mut found = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|key, _| asked.contains(key));
    }
}

/// A question with what an evaluator may tell of the rollout that asks.
struct Asked {
    rollout: Arc<Rollout>,
    question: Question,
}

/// Asks everything that gates want to know now, each answer kept as it comes. Gives how many were asked.
pub(crate) async fn ask_all(app: &Arc<App>) -> Result<usize, Problem> {
    let asked = app.blocking(|app| app.store.read(|view| open_questions(app, view))).await?;
    let name = |a: &Asked| (a.rollout.id.clone(), a.question.check.name.clone());
    app.gates.only(&asked.iter().map(name).collect());
    let many = asked.len();
    let mut at_work = JoinSet::new();
    for one in asked {
        while at_work.len() >= AT_ONCE {
            at_work.join_next().await;
        }
        let app = app.clone();
        at_work.spawn_blocking(move || {
            let (asked_at, question) = (now(), &one.question);
            let answer = ask(&app, &one, asked_at).unwrap_or_else(|error| {
                tracing::info!(
                    rollout = %one.rollout.id, check = question.check.name, error, "a gate has no answer"
                );
                Answer::None { error, since: asked_at }
            });
            let check = question.check.name.clone();
            let evidence = GateEvidence { check, wave: question.wave, asked_at, answer };
            app.gates.keep(&one.rollout.id, evidence);
            app.drive.notify_one();
        });
    }
    while at_work.join_next().await.is_some() {}
    Ok(many)
}

fn open_questions(app: &App, view: &View<'_>) -> Result<Vec<Asked>, Problem> {
    let mut out = Vec::new();
    let lines = stored::unfinished(view)?.into_iter();
    let rollouts = lines.map(|line| load(app, view, &line.id)).collect::<Result<Vec<_>, _>>()?;
    let hosts = rollouts.iter().flat_map(|rollout| rollout.plan.hosts.keys()).collect();
    app.gates.ran.only(&hosts);
    app.gates.samples.only(&hosts);
    for rollout in &rollouts {
        let questions = rollout.questions();
        out.extend(
            questions.into_iter().map(|question| Asked { rollout: rollout.clone(), question }),
        );
    }
    Ok(out)
}

fn ask(app: &App, asked: &Asked, now: Timestamp) -> Result<Answer, String> {
    match &asked.question.check.asks {
        CheckKind::Prometheus { url, query, for_seconds, .. } => {
            prometheus::ask(url, query, *for_seconds, now)
        }
        CheckKind::Webhook { url } => {
            webhook::ask(url, &app.trust.webhook_secret, &asked.rollout, &asked.question, now)
        }
        // The hosts are asked when they check in.
        CheckKind::Host { .. } | CheckKind::Performance(_) => {
            Err("it is asked of the hosts themselves".to_owned())
        }
    }
}

/// Where the findings stand that the orders of the wave's hosts fix, by what each host last reported. `None`: no gate
/// wants to know.
pub(crate) fn proof(
    view: &View<'_>,
    state: &Rollout,
    now: Timestamp,
) -> Result<Option<GateEvidence>, Problem> {
    if !state.asks_for_proof(now) {
        return Ok(None);
    }
    let wave = state.plan.waves.get(state.wave as usize);
    let mut hosts = BTreeMap::new();
    for id in wave.iter().flat_map(|w| &w.hosts) {
        if let Some(proof) = proof_of(view, state, id)? {
            hosts.insert(id.clone(), proof);
        }
    }
    let answer = Answer::Findings { hosts };
    Ok(Some(GateEvidence { check: PROOF.to_owned(), wave: state.wave, asked_at: now, answer }))
}

fn proof_of(view: &View<'_>, state: &Rollout, id: &HostId) -> Result<Option<HostProof>, Problem> {
    let Some(planned) = state.plan.hosts.get(id) else { return Ok(None) };
    let mut proof =
        HostProof { inventory_at: hosts::inventory_at(view, id)?, ..HostProof::default() };
    for fixed in planned.order.fixes.iter().collect::<BTreeSet<_>>() {
        for record in findings::of_host_by_id(view, id, fixed)? {
            let it = record.finding;
            // The same vulnerability in a package that the order leaves alone is not the order's to fix.
            let is_fixed_here = planned.why.iter().any(|(package, ids)| {
                ids.contains(fixed)
                    && it.root().is_none()
                    && (it.binaries.contains(package) || it.source == **package)
            });
            let is_gone = it.state == FindingState::Fixed;
            if is_fixed_here && !is_gone {
                let worst = proof.left.entry(it.id).or_insert(it.state);
                *worst = (*worst).min(it.state);
            }
        }
    }
    if proof.left.values().any(|s| *s == FindingState::PendingRestart)
        && let Some(inventory) = hosts::inventory(view, id)?
    {
        let units = inventory.stale.into_iter().map(|process| process.unit);
        proof.stale_units = units.collect::<BTreeSet<_>>().into_iter().collect();
    }
    Ok(Some(proof))
}

/// How long until it is asked again, after so many were.
pub(crate) fn pause(app: &App, many: usize) -> Duration {
    let often = Duration::from_secs(u64::from(app.options.ask_gates_seconds.max(1)));
    if many > 0 { often } else { often.min(Duration::from_secs(5)) }
}
