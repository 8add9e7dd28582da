//! The last question before a host is changed: does the grant still stand?

use super::checkin::two_machines;
use super::enroll::known;
use crate::app::{App, now};
use crate::rollouts::{advance, load, observe, settled};
use fettle_core::{Hold, HostId, Problem, ProblemKind};
use fettle_store::assignments;
use fettle_wire::agent::{Redeem, RedeemReply};

/// Another event may come between look and write; after so many times something else is wrong.
const ATTEMPTS: u32 = 8;

pub(super) fn redeem(app: &App, host: &HostId, asked: &Redeem) -> Result<RedeemReply, Problem> {
    let record = known(app, host)?;
    app.heard(host, now(), &record.host.agent_version);
    app.counters.redeems.inc();
    if app.sessions.is_shared(host) {
        return Err(two_machines(app, &record.host)?);
    }
    for _ in 0..ATTEMPTS {
        match attempt(app, host, asked) {
            Err(problem) if problem.kind == ProblemKind::Conflict => continue,
            out => return out,
        }
    }
    Err(Problem::new(
        ProblemKind::Unavailable,
        "busy",
        "the rollout changes faster than the grant could be redeemed",
        "ask again in a moment",
    ))
}

fn attempt(app: &App, host: &HostId, asked: &Redeem) -> Result<RedeemReply, Problem> {
    // Look and write in one transaction: an abort comes before it or after it, never in between.
    let (reply, next) = app.store.write::<_, Problem>(&format!("host:{host}"), now(), |tx| {
        let rollout = match assignments::owner(tx, &asked.assignment)? {
            Some((owner, rollout)) if owner == *host => rollout,
            Some(_) => {
                return Err(Problem::new(
                    ProblemKind::Forbidden,
                    "not-yours",
                    format!("assignment {} is another host's", asked.assignment),
                    "this agent has a state directory that was copied from another host: enrol it anew",
                ));
            }
            None => return Ok((RedeemReply::Stop { hold: Hold::GrantGone { grants: 0 } }, None)),
        };
        let (mut state, mut changed) = (load(app, tx, &rollout)?, false);
        // Kept whatever the answer is: who is told no is not granted again into a window as short as this one.
        let foretold = asked.needs_seconds.and_then(|seconds| {
            state.foretell(host, &asked.assignment, asked.generation, seconds)
        });
        if let Some(event) = foretold {
            (state, changed) = (advance(app, tx, &state, &[event])?, true);
        }
        let seen = observe(app, tx, &state)?;
        let reply = match state.redeem(now(), host, &asked.assignment, asked.generation, &seen) {
            Err(hold) => RedeemReply::Stop { hold },
            Ok(None) => RedeemReply::Go,
            Ok(Some(event)) => {
                (state, changed) = (advance(app, tx, &state, &[event])?, true);
                RedeemReply::Go
            }
        };
        Ok((reply, changed.then_some(state)))
    })?;
    if let Some(next) = next {
        settled(app, &next);
    }
    Ok(reply)
}
