//! Rollouts: started from a plan, paused, resumed, aborted, undone.

use super::approvals::not_approved;
use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::{App, now};
use crate::plan_keys;
use crate::rollouts::{amend, not_now, observe, settled};
use crate::views::{self, HostsShown, judged};
use axum::http::StatusCode;
use fettle_core::plan::Plan;
use fettle_core::plan::approval::Stage;
use fettle_core::rollout::{HostState, IllegalEvent, NoWord, Observations, Rollout, RolloutEvent};
use fettle_core::{HostId, Problem, ProblemKind, RolloutId};
use fettle_store::{Tx, emergencies, hosts, plans, rollouts as stored};
use fettle_wire::api::{ApproveWave, Because, Page, RolloutDetail, RolloutRow, StartRollout};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// All rollouts, newest first.
#[utoipa::path(
    get, path = "/rollouts", tag = "rollouts", params(Part),
    responses((status = 200, body = Page<RolloutRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<RolloutRow>> {
    look(&app, move |app, view| Ok(part.of(views::rollouts(app, view)?))).await
}

/// Which hosts are shown.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Shown {
    /// `all` (default), or `moving`: those at work and those that ended in another way than patched.
    #[serde(default)]
    hosts: HostsShown,
}

/// A rollout with what it waits for.
#[utoipa::path(
    get, path = "/rollouts/{id}", tag = "rollouts",
    params(("id" = String, Path, description = "`ro-1`"), Shown),
    responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn one(
    app: Asked,
    At(id): At<String>,
    Asking(query): Asking<Shown>,
) -> Answer<RolloutDetail> {
    look(&app, move |app, view| views::rollout(app, view, &RolloutId(id), query.hosts)).await
}

/// Start a rollout of a plan.
#[utoipa::path(
    post, path = "/rollouts", tag = "rollouts", request_body = StartRollout,
    responses((status = 201, body = RolloutDetail), Failures)
)]
pub(super) async fn start(
    app: Asked,
    who: Who,
    Body(asked): Body<StartRollout>,
) -> Result<(StatusCode, axum::Json<RolloutDetail>), Failure> {
    let detail = app.blocking(move |app| start_now(app, &who, &asked)).await?;
    Ok((StatusCode::CREATED, axum::Json(detail)))
}

/// Starts a rollout, if the plan is the one that was seen, still follows the one in force, and is approved.
pub(crate) fn start_now(
    app: &App,
    who: &Who,
    asked: &StartRollout,
) -> Result<RolloutDetail, Problem> {
    let state = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        let plan = plans::get(tx, asked.plan)?;
        let digest = plan.digest();
        if let Some(seen) = asked.digest.filter(|seen| *seen != digest) {
            let message =
                format!("plan {} has digest {}, not {}", plan.number, digest.short(), seen.short());
            let hint = format!("look at it again: `fettle plan show {}`", plan.number);
            return Err(Problem::new(ProblemKind::Conflict, "other-plan", message, hint));
        }
        start_in(tx, plan, (&who.name, &who.principal))
    })?;
    settled(app, &state);
    app.store.read(|view| views::rollout(app, view, &state.id, HostsShown::All))
}

/// Starts the rollout of a plan, if it still follows the one in force and is approved.
pub(crate) fn start_in(
    tx: &mut Tx<'_>,
    plan: Plan,
    by: (&str, &str),
) -> Result<Arc<Rollout>, Problem> {
    if plan.hosts.is_empty() {
        let message = format!("plan {} changes no host", plan.number);
        let hint = format!("`fettle plan show {}` says why", plan.number);
        return Err(Problem::new(ProblemKind::Refused, "nothing-to-do", message, hint));
    }
    // Whether it follows the plan in force comes first: nobody need approve one that was overtaken.
    plans::take_effect(tx, &plan).map_err(|e| {
        let mut problem = Problem::from(e);
        problem.hint = format!("make a new one: `fettle plan make {}`", plan.policy);
        problem
    })?;
    let made_by = plans::maker(tx, plan.number)?;
    let verdict = judged(tx, &plan, Stage::Open, tx.now())?;
    if let Some(hold) = verdict.hold() {
        let message = format!("plan {}: {hold}", plan.number);
        let hint = not_approved(&verdict, plan.number, &made_by);
        return Err(Problem::new(ProblemKind::Refused, hold.code(), message, hint));
    }
    let signing = plan_keys::standing(tx, plan.number, plan.digest(), tx.now())?;
    if let Some(hold) = plan_keys::hold(signing.as_ref()) {
        let message = format!("plan {}: {hold}", plan.number);
        let hint = format!(
            "hosts would refuse it; each with a plan key of their own: `fettle plan sign {} --key KEYFILE`",
            plan.number
        );
        return Err(Problem::new(ProblemKind::Refused, hold.code(), message, hint));
    }
    let (number, id) = stored::next_id(tx)?;
    let event = Rollout::create_approved(&id, plan, by, verdict.counted);
    let state = Rollout::begin(&id, tx.now(), &event).map_err(|e| not_now(&e))?;
    stored::create(tx, number, &state, &event)?;
    Ok(Arc::new(state))
}

/// What an operator may ask of a rollout.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Pause,
    Resume,
    Abort,
    Undo,
}

/// No new host starts until somebody resumes; hosts at work end.
#[utoipa::path(
    post, path = "/rollouts/{id}/pause", tag = "rollouts", params(("id" = String, Path, description = "`ro-1`")),
    request_body = Because, responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn pause(
    app: Asked,
    who: Who,
    At(id): At<String>,
    Body(why): Body<Because>,
) -> Answer<RolloutDetail> {
    wish(app, who, id, why, Wish::Pause).await
}

/// Go on after a pause or a halt.
#[utoipa::path(
    post, path = "/rollouts/{id}/resume", tag = "rollouts", params(("id" = String, Path, description = "`ro-1`")),
    request_body = Because, responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn resume(
    app: Asked,
    who: Who,
    At(id): At<String>,
    Body(why): Body<Because>,
) -> Answer<RolloutDetail> {
    wish(app, who, id, why, Wish::Resume).await
}

/// No new host starts, ever; hosts at work end.
#[utoipa::path(
    post, path = "/rollouts/{id}/abort", tag = "rollouts", params(("id" = String, Path, description = "`ro-1`")),
    request_body = Because, responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn abort(
    app: Asked,
    who: Who,
    At(id): At<String>,
    Body(why): Body<Because>,
) -> Answer<RolloutDetail> {
    wish(app, who, id, why, Wish::Abort).await
}

/// Take patched hosts back: those named, those of a wave, or all.
#[utoipa::path(
    post, path = "/rollouts/{id}/undo", tag = "rollouts", params(("id" = String, Path, description = "`ro-1`")),
    request_body = Because, responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn undo(
    app: Asked,
    who: Who,
    At(id): At<String>,
    Body(why): Body<Because>,
) -> Answer<RolloutDetail> {
    wish(app, who, id, why, Wish::Undo).await
}

/// Let the next wave begin, where the policy asks for somebody's word: anybody's with this role but the starter's.
#[utoipa::path(
    post, path = "/rollouts/{id}/approve", tag = "rollouts", params(("id" = String, Path, description = "`ro-1`")),
    request_body = ApproveWave, responses((status = 200, body = RolloutDetail), Failures)
)]
pub(super) async fn approve(
    app: Asked,
    who: Who,
    At(id): At<String>,
    Body(asked): Body<ApproveWave>,
) -> Answer<RolloutDetail> {
    let approved = move |app: &App| approve_wave_now(app, &who, &RolloutId(id), &asked);
    Ok(axum::Json(app.blocking(approved).await?))
}

/// Keeps somebody's word that a wave may begin, if it is taken from them.
pub(crate) fn approve_wave_now(
    app: &App,
    who: &Who,
    id: &RolloutId,
    asked: &ApproveWave,
) -> Result<RolloutDetail, Problem> {
    let comment = asked.comment.trim();
    amend(app, &who.actor(), id, |view, state| {
        let word = state.approve_wave(asked.wave, &who.name, &who.principal, comment);
        // It was started at the word of each of them.
        let own = emergencies::declarers(view, state.plan.number)?.contains(&who.principal);
        let word = if own { word.and(Err(NoWord::OwnRollout)) } else { word };
        Ok(vec![word.map_err(|why| no_word(state, asked.wave, &why))?])
    })?;
    app.store.read(|view| views::rollout(app, view, id, HostsShown::All))
}

fn no_word(state: &Rollout, wave: u32, why: &NoWord) -> Problem {
    let id = &state.id;
    let (kind, code, hint) = match why {
        NoWord::OwnRollout => (
            ProblemKind::Forbidden,
            "own-rollout",
            format!(
                "somebody else with the role approver has to: `fettle rollout approve {id} --wave {}`",
                wave + 1
            ),
        ),
        NoWord::NotNeeded | NoWord::Given { .. } => {
            (ProblemKind::Conflict, "no-approval-needed", format!("fettle rollout show {id}"))
        }
        NoWord::Stands(_) | NoWord::TooEarly { .. } | NoWord::NotNext { .. } => {
            (ProblemKind::Conflict, "rollout-state", format!("fettle rollout show {id}"))
        }
    };
    Problem::new(kind, code, format!("wave {} of {id}: {why}", wave + 1), hint)
}

async fn wish(app: Asked, who: Who, id: String, why: Because, wish: Wish) -> Answer<RolloutDetail> {
    Ok(axum::Json(app.blocking(move |app| wish_now(app, &who, &RolloutId(id), &why, wish)).await?))
}

/// Does what an operator asks of a rollout.
pub(crate) fn wish_now(
    app: &App,
    who: &Who,
    id: &RolloutId,
    why: &Because,
    wish: Wish,
) -> Result<RolloutDetail, Problem> {
    amend(app, &who.actor(), id, |view, state| {
        let named = why.hosts.iter().map(|host| Ok(hosts::find(view, host)?.host.id));
        let named = named.collect::<Result<Vec<HostId>, Problem>>()?;
        let seen = observe(app, view, state)?;
        let events = wished(state, who, why, &named, &seen, wish).map_err(|e| not_now(&e))?;
        if events.is_empty() {
            let hint = format!("look at it with `fettle rollout show {id}`");
            let of = why.wave.map_or("this rollout".to_owned(), |w| format!("wave {}", w + 1));
            let message = format!("no host of {of} is patched, so there is nothing to undo");
            return Err(Problem::new(ProblemKind::Refused, "nothing-to-undo", message, hint));
        }
        Ok(events)
    })?;
    app.store.read(|view| views::rollout(app, view, id, HostsShown::All))
}

fn wished(
    state: &Rollout,
    who: &Who,
    why: &Because,
    named: &[HostId],
    seen: &Observations,
    wish: Wish,
) -> Result<Vec<RolloutEvent>, IllegalEvent> {
    let reason = &why.reason;
    match wish {
        Wish::Pause => Ok(vec![state.pause(&who.name, reason)?]),
        Wish::Resume => Ok(vec![state.resume(&who.name, reason)?]),
        Wish::Abort => Ok(vec![state.abort(&who.name, reason)?]),
        Wish::Undo if !named.is_empty() => state.undo(named, reason, seen),
        Wish::Undo => {
            let patched = state.hosts.iter().filter(|(id, run)| {
                run.state == HostState::Patched
                    && !run.undo_at_work()
                    && seen.hosts.contains_key(*id)
                    && why.wave.is_none_or(|wave| wave == run.wave)
            });
            let patched: Vec<HostId> = patched.map(|(id, _)| id.clone()).collect();
            state.undo(&patched, reason, seen)
        }
    }
}
