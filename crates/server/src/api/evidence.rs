//! Evidence packs: what happened in a period, to be checked by somebody who has no access to this server.

use super::report::ReportQuery;
use super::{Answer, Asked, Asking, Failure, Failures};
use crate::app::App;
use crate::evidence;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fettle_wire::api::EvidenceKey;

/// What happened in a period, signed: report, part of the ledger, rollouts with their plans, orders and journals, proofs.
#[utoipa::path(
    get, path = "/evidence", tag = "report", params(ReportQuery),
    responses((status = 200, body = [u8], content_type = "application/gzip"), Failures)
)]
pub(super) async fn export(
    app: Asked,
    Asking(query): Asking<ReportQuery>,
) -> Result<Response, Failure> {
    let wanted = query.wanted()?;
    let pack = app.reporting(move |app| evidence::export(app, &wanted)).await?;
    let kept = "attachment; filename=\"fettle-evidence.tar.gz\"";
    let headers = [(header::CONTENT_TYPE, "application/gzip"), (header::CONTENT_DISPOSITION, kept)];
    Ok((headers, pack).into_response())
}

/// The key that packs of this server are signed with.
#[utoipa::path(
    get, path = "/evidence/key", tag = "report",
    responses((status = 200, body = EvidenceKey), Failures)
)]
pub(super) async fn key(app: Asked) -> Answer<EvidenceKey> {
    let key = app.blocking(|app: &App| Ok(evidence::own_key(app))).await?;
    Ok(axum::Json(EvidenceKey { key }))
}
