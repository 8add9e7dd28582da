//! What is wrong with this server, and what to do.

use super::{Answer, Asked, Failures};
use crate::doctor;
use fettle_wire::api::Health;

/// Data directory, room, database, ledger, certificates, clock, listeners, feeds, hosts, rollouts, backups: what is wrong,
/// and what to do. Reads the whole database.
#[utoipa::path(get, path = "/doctor", tag = "server", responses((status = 200, body = Health), Failures))]
pub(super) async fn doctor(app: Asked) -> Answer<Health> {
    Ok(axum::Json(app.reporting(doctor::online).await?))
}
