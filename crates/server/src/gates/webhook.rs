//! Asks a program of the operator's: a signed POST that says which wave of which rollout, and a verdict comes back.
//! Signed as everything that webhooks are sent.

use super::call::call;
use crate::webhooks;
use fettle_core::rollout::{Answer, Question, Rollout, Word};
use fettle_core::{Digest, Timestamp};
use serde::Deserialize;
use serde_json::json;

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;

/// What comes back.
#[derive(Deserialize)]
struct Verdict {
    verdict: Word,
    #[serde(default)]
    reason: String,
}

/// Asks.
///
/// # Errors
/// In words, why there is no verdict.
pub(super) fn ask(
    url: &str,
    secret: &[u8],
    rollout: &Rollout,
    question: &Question,
    now: Timestamp,
) -> Result<Answer, String> {
    let body = body(rollout, question, now).to_string();
    let id = message_id(rollout, question, now);
    let headers = webhooks::headers(secret, &id, now, body.as_bytes());
    let reply = call(url, &headers, Some(body.as_bytes()))?;
    if reply.status != 200 {
        return Err(format!("status {}, and 200 with a verdict is needed", reply.status));
    }
    let said: Verdict = serde_json::from_slice(&reply.body).map_err(|_| {
        "the answer is no verdict: `{\"verdict\": \"pass\" | \"wait\" | \"fail\", \"reason\": \"…\"}`"
    })?;
    let reason = said.reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Ok(Answer::Word { word: said.verdict, reason })
}

fn body(rollout: &Rollout, question: &Question, now: Timestamp) -> serde_json::Value {
    let plan = &rollout.plan;
    let name = |id| plan.hosts.get(id).map_or("", |h| h.name.as_str());
    let hosts: Vec<_> =
        question.hosts.iter().map(|id| json!({ "id": id, "name": name(id) })).collect();
    json!({
        "type": "gate.asked",
        "timestamp": now,
        "data": {
            "check": question.check.name,
            "rollout": rollout.id,
            "policy": plan.policy,
            "plan": plan.number,
            "plan_digest": rollout.plan_digest,
            "wave": question.wave,
            "waves": plan.waves.len(),
            "ring": plan.waves.get(question.wave as usize).map_or("", |w| w.ring.as_str()),
            "hosts": hosts,
            "ended_at": question.since,
            "bakes_until": question.until,
        },
    })
}

fn message_id(rollout: &Rollout, question: &Question, now: Timestamp) -> String {
    // The same for the same question asked at the same time, and another for every other.
    let asked = format!("{}/{}/{}/{now}", rollout.id, question.wave, question.check.name);
    format!("msg_{}", &Digest::of(asked.as_bytes()).to_string()[..32])
}
