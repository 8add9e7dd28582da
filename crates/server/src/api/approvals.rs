//! Approvals: given by somebody else than the plan's maker, taken back until the rollout starts.

use super::{Asked, At, Body, Failure, Failures};
use crate::access::Who;
use crate::app::{App, now};
use crate::views;
use axum::http::StatusCode;
use fettle_core::plan::approval::{ApprovalVerdict, NotTaken};
use fettle_core::{Problem, ProblemKind};
use fettle_store::{approvals as stored, emergencies};
use fettle_wire::api::{ApprovePlan, PlanDetail};

/// Longest comment, in characters.
const MAX_COMMENT: usize = 500;

/// Approve a plan that somebody else made, exactly as it was seen. Given again, it is renewed.
#[utoipa::path(
    post, path = "/plans/{number}/approvals", tag = "plans", request_body = ApprovePlan,
    params(("number" = u64, Path, description = "Its number")),
    responses((status = 201, body = PlanDetail), Failures)
)]
pub(super) async fn approve(
    app: Asked,
    who: Who,
    At(number): At<u64>,
    Body(asked): Body<ApprovePlan>,
) -> Result<(StatusCode, axum::Json<PlanDetail>), Failure> {
    let detail = app.blocking(move |app| approve_now(app, &who, number, &asked)).await?;
    Ok((StatusCode::CREATED, axum::Json(detail)))
}

/// Take back one's own approval.
#[utoipa::path(
    delete, path = "/plans/{number}/approvals", tag = "plans",
    params(("number" = u64, Path, description = "Its number")),
    responses((status = 204, description = "It is taken back"), Failures)
)]
pub(super) async fn withdraw(
    app: Asked,
    who: Who,
    At(number): At<u64>,
) -> Result<StatusCode, Failure> {
    app.blocking(move |app| withdraw_now(app, &who, number)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps an approval, if the plan takes one from them.
pub(crate) fn approve_now(
    app: &App,
    who: &Who,
    number: u64,
    asked: &ApprovePlan,
) -> Result<PlanDetail, Problem> {
    let comment = asked.comment.trim();
    if comment.chars().count() > MAX_COMMENT || comment.chars().any(char::is_control) {
        let message = format!("a comment is one line of at most {MAX_COMMENT} characters");
        let hint = "say it shorter, and keep the rest where your changes are discussed";
        return Err(Problem::new(ProblemKind::BadInput, "bad-comment", message, hint));
    }
    app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        let it = views::plan_line(tx, number)?;
        if asked.digest != it.digest {
            let message = format!(
                "plan {number} has digest {}, not {}",
                it.digest.short(),
                asked.digest.short()
            );
            let hint = format!("look at it again: `fettle plan show {number}`");
            return Err(Problem::new(ProblemKind::Conflict, "other-plan", message, hint));
        }
        let declarers = emergencies::declarers(tx, number)?;
        for maker in declarers.iter().chain([&it.made_by]) {
            it.approvals.takes(maker, &who.principal).map_err(|why| not_taken(why, &it))?;
        }
        Ok(stored::give(tx, number, it.digest, &who.principal, comment)?)
    })?;
    told(app, number)
}

/// Takes back an approval, as long as it could still be given.
pub(crate) fn withdraw_now(app: &App, who: &Who, number: u64) -> Result<PlanDetail, Problem> {
    app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        let it = views::plan_line(tx, number)?;
        it.approvals.is_open().map_err(|why| not_taken(why, &it))?;
        Ok(stored::withdraw(tx, number, &who.principal)?)
    })?;
    told(app, number)
}

fn told(app: &App, number: u64) -> Result<PlanDetail, Problem> {
    app.events.tell("plan", &number.to_string());
    app.planning.notify_one();
    app.store.read(|view| views::plan(app, view, number))
}

fn not_taken(why: NotTaken, it: &PlanDetail) -> Problem {
    let PlanDetail { number, made_by, plan, .. } = it;
    let (kind, code, hint) = match why {
        NotTaken::OwnPlan => (
            ProblemKind::Forbidden,
            "own-plan",
            format!("somebody else than {made_by} has to: `fettle plan approve {number}`"),
        ),
        NotTaken::Superseded => (
            ProblemKind::Conflict,
            "plan-superseded",
            format!("make a new one: `fettle plan make {}`", plan.policy),
        ),
        NotTaken::Started => (
            ProblemKind::Conflict,
            "rollout-started",
            "to stop what has begun: `fettle rollout abort ID`".to_owned(),
        ),
        NotTaken::NoneNeeded => (
            ProblemKind::Conflict,
            "no-approval-needed",
            format!("start it: `fettle rollout start {number}`"),
        ),
    };
    Problem::new(kind, code, format!("plan {number}: {why}"), hint)
}

/// What to do about a plan that is not approved: who does not count, and who could.
pub(super) fn not_approved(verdict: &ApprovalVerdict, number: u64, made_by: &str) -> String {
    let missing = verdict.needed.saturating_sub(verdict.given);
    let people = if missing == 1 { "one more".to_owned() } else { format!("{missing} more") };
    let mut hint = format!(
        "{people} with the role approver, none of them {made_by} who made it: `fettle plan approve {number}`"
    );
    for it in &verdict.discounted {
        hint.push_str(&format!("; {} does not count: {}", it.approval.by, it.discount));
    }
    hint
}
