//! Saved views of the list of hosts.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures};
use crate::access::Who;
use crate::saved_views;
use axum::http::StatusCode;
use fettle_core::Problem;
use fettle_wire::api::{Page, SaveView, SavedViewRow};
use serde::Deserialize;
use utoipa::IntoParams;

/// One's own views, and those that others share.
#[utoipa::path(get, path = "/views", tag = "fleet", responses((status = 200, body = Page<SavedViewRow>), Failures))]
pub(super) async fn list(app: Asked, who: Who) -> Answer<Page<SavedViewRow>> {
    let look = move |app: &crate::app::App| {
        app.store.read::<_, Problem>(|view| saved_views::rows(view, &who.principal))
    };
    let items = app.blocking(look).await?;
    Ok(axum::Json(Page { total: items.len() as u64, items }))
}

/// Save a view, in place of one's own of that name. To share it with all needs the role operator.
#[utoipa::path(
    put, path = "/views/{name}", tag = "fleet",
    params(("name" = String, Path, description = "What it is to be called")),
    request_body = SaveView, responses((status = 200, body = SavedViewRow), Failures)
)]
pub(super) async fn save(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Body(asked): Body<SaveView>,
) -> Answer<SavedViewRow> {
    let saved = app.blocking(move |app| saved_views::save(app, &who, &name, &asked)).await?;
    Ok(axum::Json(saved))
}

/// Whose it is.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OwnerQuery {
    /// Somebody else, for an admin. Default: one's own.
    owner: Option<String>,
}

/// Take a view away.
#[utoipa::path(
    delete, path = "/views/{name}", tag = "fleet",
    params(("name" = String, Path, description = "As in the list"), OwnerQuery),
    responses((status = 204, description = "It is gone"), Failures)
)]
pub(super) async fn remove(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Asking(query): Asking<OwnerQuery>,
) -> Result<StatusCode, Failure> {
    app.blocking(move |app| saved_views::remove(app, &who, &name, query.owner.as_deref())).await?;
    Ok(StatusCode::NO_CONTENT)
}
