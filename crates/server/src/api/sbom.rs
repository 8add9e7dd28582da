//! Bills of materials of many hosts, sent as they are written.

use super::{Asked, Asking, Failure, Failures};
use crate::app::now;
use crate::fleet::HostFilter;
use crate::views;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fettle_vuln::export::FleetBill;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::io::{self, Write};
use tokio::sync::mpsc;
use utoipa::IntoParams;

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait to be sent: whoever reads slowly is waited for.
const WAITING: usize = 4;

/// Of which hosts.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BillQuery {
    /// A selector over labels and facts, as policies have them: `env=prod and os.codename=bookworm`. Without one, all hosts.
    select: Option<String>,
}

/// What a group of hosts has, or all of them, and what was found there: CycloneDX 1.6, an SBOM that carries VEX. Each component
/// is listed once, with how many hosts have it; `dependencies` say which.
#[utoipa::path(
    get, path = "/sbom", tag = "fleet", params(BillQuery),
    responses((status = 200, body = Object, description = "CycloneDX 1.6"), Failures)
)]
pub(super) async fn fleet(
    app: Asked,
    Asking(query): Asking<BillQuery>,
) -> Result<Response, Failure> {
    let select = query.select.as_deref().map(HostFilter::checked_select).transpose()?;
    let called = query.select.unwrap_or_else(|| "all hosts".to_owned());
    let look = move |app: &crate::app::App| views::fleet_bill(app, select.as_ref());
    let bill = app.reporting(look).await?;
    let (to, pieces) = mpsc::channel(WAITING);
    // Ends where nobody reads any more.
    tokio::task::spawn_blocking(move || written(&bill, &called, to));
    let pieces = stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((Ok::<Bytes, Infallible>(piece), pieces))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response())
}

fn written(bill: &FleetBill, called: &str, to: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut out = Pieces { to, piece: Vec::with_capacity(PIECE) };
    bill.write(called, now(), ("fettle", env!("CARGO_PKG_VERSION")), &mut out)?;
    out.flush()
}

/// What is written goes out in pieces.
struct Pieces {
    to: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.to.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
