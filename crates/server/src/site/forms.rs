//! What forms do: make and approve plans, start and stop rollouts, and what else is changed by hand.

use super::form::Form;
use super::{Visit, refusal};
use crate::access::Who;
use crate::app::App;
use crate::reports::schedules;
use crate::web::encoded as escape;
use crate::{api, cycles, feeds, recalls, saved_views, webhooks};
use axum::extract::Path;
use axum::response::{IntoResponse as _, Redirect, Response};
use fettle_core::{Digest, Problem, ProblemKind, RolloutId};
use fettle_wire::api::{
    ApprovePlan, ApproveWave, Because, MakePlan, MakeRecall, SaveView, StartRollout,
};
use serde::Deserialize;

/// Does something and leads to the page that shows it (303), or shows the problem.
pub(super) async fn act(
    visit: Visit,
    act: impl FnOnce(&App, &Who) -> Result<String, Problem> + Send + 'static,
) -> Response {
    let Visit { app, who, uri, .. } = visit;
    let by = who.clone();
    match app.blocking(move |app| act(app, &by)).await {
        Ok(to) => Redirect::to(&to).into_response(),
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

/// The digest that a form carries: of what was seen on the page.
fn seen(digest: &str) -> Result<Digest, Problem> {
    digest.parse().map_err(|e| {
        let hint = "open the plan's page again and go on from there";
        Problem::new(ProblemKind::Usage, "bad-digest", e, hint)
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct PlanForm {
    policy: String,
}

pub(super) async fn make_plan(visit: Visit, Form(form): Form<PlanForm>) -> Response {
    let asked = MakePlan { policy: form.policy, hosts: Vec::new() };
    act(visit, move |app, who| Ok(format!("/plans/{}", api::make_now(app, who, &asked)?.number)))
        .await
}

#[derive(Debug, Deserialize)]
pub(super) struct ApproveForm {
    digest: String,
    #[serde(default)]
    comment: String,
}

pub(super) async fn approve(
    visit: Visit,
    Path(number): Path<u64>,
    Form(form): Form<ApproveForm>,
) -> Response {
    act(visit, move |app, who| {
        let asked = ApprovePlan { digest: seen(&form.digest)?, comment: form.comment };
        Ok(format!("/plans/{}", api::approve_now(app, who, number, &asked)?.number))
    })
    .await
}

pub(super) async fn withdraw(visit: Visit, Path(number): Path<u64>) -> Response {
    act(visit, move |app, who| {
        Ok(format!("/plans/{}", api::withdraw_now(app, who, number)?.number))
    })
    .await
}

/// What nobody tested well yet is tested, again where it was tested.
pub(super) async fn test_plan(visit: Visit, Path(number): Path<u64>) -> Response {
    act(visit, move |app, who| {
        let tests = crate::testbed::run(app, &who.actor(), number, true)?;
        Ok(format!("/plans/{}", tests.plan))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct StartForm {
    plan: u64,
    digest: String,
}

pub(super) async fn start_rollout(visit: Visit, Form(form): Form<StartForm>) -> Response {
    act(visit, move |app, who| {
        let asked = StartRollout { plan: form.plan, digest: Some(seen(&form.digest)?) };
        Ok(format!("/rollouts/{}", api::start_now(app, who, &asked)?.row.id))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct WishForm {
    #[serde(default)]
    reason: String,
    /// For `undo`: `host ID`, `wave N` (counted from 0), or nothing for all.
    #[serde(default)]
    what: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApproveWaveForm {
    wave: u32,
    #[serde(default)]
    comment: String,
}

pub(super) async fn approve_wave(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<ApproveWaveForm>,
) -> Response {
    act(visit, move |app, who| {
        let asked = ApproveWave { wave: form.wave, comment: form.comment };
        api::approve_wave_now(app, who, &RolloutId(id.clone()), &asked)?;
        Ok(format!("/rollouts/{}", escape(&id)))
    })
    .await
}

pub(super) async fn wish(
    visit: Visit,
    Path((id, wish)): Path<(String, String)>,
    Form(form): Form<WishForm>,
) -> Response {
    let wish = match wish.as_str() {
        "pause" => api::Wish::Pause,
        "resume" => api::Wish::Resume,
        "abort" => api::Wish::Abort,
        "undo" => api::Wish::Undo,
        _ => {
            let hint = "pause, resume, abort or undo";
            let problem =
                Problem::new(ProblemKind::NotFound, "no-such-page", "there is no such wish", hint);
            return refusal(&visit.uri, Some(&visit.who), problem);
        }
    };
    let hosts = form.what.strip_prefix("host ").map(str::to_owned).into_iter().collect();
    let wave = form.what.strip_prefix("wave ").map(str::parse).transpose();
    let (Ok(wave), true) = (wave, form.what.is_empty() || form.what.contains(' ')) else {
        let hint = "choose one of those the page offers";
        let problem =
            Problem::new(ProblemKind::Usage, "bad-undo", "it is not said what to undo", hint);
        return refusal(&visit.uri, Some(&visit.who), problem);
    };
    let why = Because { reason: form.reason, hosts, wave };
    act(visit, move |app, who| {
        api::wish_now(app, who, &RolloutId(id.clone()), &why, wish)?;
        Ok(format!("/rollouts/{}", escape(&id)))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct RecallForm {
    package: String,
    version: String,
    reason: String,
    /// The box is ticked.
    #[serde(default)]
    undo: Option<String>,
}

fn recall_page(package: &str, version: &str) -> String {
    format!("/recalls/{}/{}", escape(package), escape(version))
}

pub(super) async fn recall(visit: Visit, Form(form): Form<RecallForm>) -> Response {
    let asked = MakeRecall {
        package: form.package.trim().to_owned(),
        version: form.version.trim().to_owned(),
        reason: form.reason,
        undo: form.undo.is_some(),
    };
    act(visit, move |app, who| {
        recalls::recall_now(app, &who.name, &who.actor(), &asked)?;
        Ok(recall_page(&asked.package, &asked.version))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct LiftForm {
    package: String,
    version: String,
    reason: String,
}

pub(super) async fn lift_recall(visit: Visit, Form(form): Form<LiftForm>) -> Response {
    act(visit, move |app, who| {
        let (package, version) = (&form.package, &form.version);
        recalls::lift_now(app, &who.name, &who.actor(), package, version, &form.reason)?;
        Ok("/recalls".to_owned())
    })
    .await
}

/// Looks at all sources; what went wrong stands on the page.
pub(super) async fn sync_feeds(visit: Visit) -> Response {
    let Visit { app, who, uri, .. } = visit;
    match feeds::sync_all(&app, &who.actor()).await {
        Ok(()) => Redirect::to("/feeds").into_response(),
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct AcceptForm {
    digest: String,
}

pub(super) async fn accept_feed(
    visit: Visit,
    Path(name): Path<String>,
    Form(form): Form<AcceptForm>,
) -> Response {
    act(visit, move |app, who| {
        feeds::accept(app, &who.actor(), feeds::named(&name)?, Some(seen(&form.digest)?))?;
        app.ask_judging();
        Ok("/feeds".to_owned())
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct ReasonForm {
    #[serde(default)]
    reason: String,
}

pub(super) async fn resume_cycle(
    visit: Visit,
    Path(name): Path<String>,
    Form(form): Form<ReasonForm>,
) -> Response {
    act(visit, move |app, who| {
        cycles::resume(app, &who.actor(), &name, &api::reason(&form.reason)?)?;
        Ok(format!("/policies/{}", escape(&name)))
    })
    .await
}

/// Makes a report of a schedule now.
pub(super) async fn run_schedule(visit: Visit, Path(name): Path<String>) -> Response {
    let Visit { app, who, uri, .. } = visit;
    match schedules::run_now(&app, name).await {
        Ok(_) => Redirect::to("/settings").into_response(),
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

pub(super) async fn resend(visit: Visit, Path(id): Path<String>) -> Response {
    act(visit, move |app, who| {
        webhooks::resend(app, &who.actor(), &id)?;
        Ok("/settings".to_owned())
    })
    .await
}

pub(super) async fn drop_delivery(visit: Visit, Path(id): Path<String>) -> Response {
    act(visit, move |app, who| {
        webhooks::drop_it(app, &who.actor(), &id)?;
        Ok("/settings".to_owned())
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct SaveViewForm {
    name: String,
    query: String,
    /// The box is ticked.
    #[serde(default)]
    shared: Option<String>,
}

pub(super) async fn save_view(visit: Visit, Form(form): Form<SaveViewForm>) -> Response {
    act(visit, move |app, who| {
        let asked = SaveView { query: form.query, shared: form.shared.is_some() };
        let saved = saved_views::save(app, who, &form.name, &asked)?;
        Ok(format!("/hosts?{}", saved.query))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct RemoveViewForm {
    name: String,
    owner: String,
}

pub(super) async fn remove_view(visit: Visit, Form(form): Form<RemoveViewForm>) -> Response {
    act(visit, move |app, who| {
        saved_views::remove(app, who, &form.name, Some(&form.owner))?;
        Ok("/settings".to_owned())
    })
    .await
}
