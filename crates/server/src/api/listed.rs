//! Hosts without an agent, by their bills of materials.

use super::{Answer, Asked, Asking, At, Failures, Upload, look};
use crate::access::Who;
use crate::listed::{self, Given};
use crate::views;
use fettle_wire::api::HostDetail;
use serde::Deserialize;
use utoipa::IntoParams;

/// Larger documents are refused: 64 MiB.
pub(crate) const MAX_SBOM_UPLOAD: usize = 64 << 20;

/// What the document does not say.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Of which system its packages are, `bookworm`, `almalinux:9`. Default: as the document says.
    release: Option<String>,
    /// `key=value`, several with commas between them, in place of those it has.
    labels: Option<String>,
}

/// Hand in a bill of materials (CycloneDX or SPDX 2, JSON) of something that has no agent: an image, an appliance. It becomes
/// a host that is judged and shown as any other, and that nothing is ever done to; of one that has been handed in before,
/// this is what it holds now.
#[utoipa::path(
    post, path = "/hosts/{host}/sbom", tag = "fleet",
    params(("host" = String, Path, description = "What it is to be called, or is"), ImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = HostDetail), Failures)
)]
pub(super) async fn import(
    app: Asked,
    who: Who,
    At(host): At<String>,
    Asking(query): Asking<ImportQuery>,
    bytes: Upload<MAX_SBOM_UPLOAD>,
) -> Answer<HostDetail> {
    let id = app
        .blocking(move |app| {
            let ImportQuery { release, labels } = query;
            let given = Given { name: &host, bytes: &bytes.0, release, labels };
            listed::import(app, &who, &given)
        })
        .await?;
    app.events.tell("host", id.as_str());
    look(&app, move |app, view| views::host(app, view, id.as_str())).await
}
