//! Recalls: versions that nobody is to get.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, look};
use crate::access::Who;
use crate::recalls;
use axum::http::StatusCode;
use fettle_wire::api::{MakeRecall, Page, RecallDetail, RecallRow};
use serde::Deserialize;
use utoipa::IntoParams;

/// All recalls that stand, newest first.
#[utoipa::path(get, path = "/recalls", tag = "recalls", responses((status = 200, body = Page<RecallRow>), Failures))]
pub(super) async fn list(app: Asked) -> Answer<Page<RecallRow>> {
    look(&app, |app, view| {
        let items = recalls::rows(app, view)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// Recall a version: no plan takes it, rollouts that would bring it are halted, whoever has it is named.
#[utoipa::path(
    post, path = "/recalls", tag = "recalls", request_body = MakeRecall,
    responses((status = 201, body = RecallDetail), Failures)
)]
pub(super) async fn add(
    app: Asked,
    who: Who,
    Body(asked): Body<MakeRecall>,
) -> Result<(StatusCode, axum::Json<RecallDetail>), Failure> {
    let recall =
        move |app: &crate::app::App| recalls::recall_now(app, &who.name, &who.actor(), &asked);
    Ok((StatusCode::CREATED, axum::Json(app.blocking(recall).await?)))
}

/// One recall, with the hosts that have the version and the rollouts that were to bring it.
#[utoipa::path(
    get, path = "/recalls/{package}/{version}", tag = "recalls",
    params(
        ("package" = String, Path, description = "As it was recalled, globs and all"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 200, body = RecallDetail), Failures)
)]
pub(super) async fn one(
    app: Asked,
    At((package, version)): At<(String, String)>,
) -> Answer<RecallDetail> {
    look(&app, move |app, view| recalls::one(app, view, &package, &version)).await
}

/// Why a recall is lifted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LiftQuery {
    /// In a few words; goes to the ledger.
    #[serde(default)]
    reason: String,
}

/// Lift a recall. What it halted stays halted until somebody resumes it.
#[utoipa::path(
    delete, path = "/recalls/{package}/{version}", tag = "recalls",
    params(
        ("package" = String, Path, description = "As it was recalled, globs and all"),
        ("version" = String, Path, description = "The version"),
        LiftQuery
    ),
    responses((status = 204, description = "It is lifted"), Failures)
)]
pub(super) async fn lift(
    app: Asked,
    who: Who,
    At((package, version)): At<(String, String)>,
    Asking(query): Asking<LiftQuery>,
) -> Result<StatusCode, Failure> {
    app.blocking(move |app| {
        recalls::lift_now(app, &who.name, &who.actor(), &package, &version, &query.reason)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
