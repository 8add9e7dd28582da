//! What agents ask, over mTLS: a host can speak for itself only.

mod checkin;
mod enroll;
mod redeem;

pub(crate) use enroll::check_name;

use crate::app::{App, now};
use crate::trust::Peer;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_wire::agent::MAX_BODY;
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a body may take: slow ones hold memory. Who has not proved to be a host gets a minute for all of it.
const STRANGER: Patience =
    Patience { stall: Duration::from_secs(60), whole: Duration::from_secs(60) };
/// A host may sit behind a bad line: what moves is waited for.
const HOST: Patience = Patience { stall: Duration::from_secs(60), whole: Duration::from_secs(900) };

/// How long what is not wanted is read before the connection is closed.
const FAREWELL: Duration = Duration::from_secs(2);

type Asked = State<Arc<App>>;

/// The agents' routes. Everything else on their port is 404.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/agent/v1/enroll", post(enroll))
        .route("/agent/v1/checkin", post(checkin))
        .route("/agent/v1/redeem", post(redeem))
        .route("/agent/v1/renew", post(renew))
        .route("/agent/v1/tested", post(tested))
        .route("/agent/v1/here", post(here))
        .fallback(async || {
            refusal(&Problem::new(
                ProblemKind::NotFound,
                "no-such-call",
                "agents have no such call",
                "upgrade the agent",
            ))
        })
        .method_not_allowed_fallback(async || {
            let problem =
                Problem::new(ProblemKind::Usage, "method", "agents use POST", "upgrade the agent");
            let mut response = refusal(&problem);
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        })
        .with_state(app)
}

async fn enroll(State(app): Asked, request: Request) -> Response {
    let asked = read(request, STRANGER).await;
    let out = match asked {
        Ok(asked) => app.blocking(move |app| enroll::enroll(app, &asked)).await,
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

async fn checkin(State(app): Asked, request: Request) -> Response {
    let out = match proved(request).await {
        Ok((host, peer, asked)) => {
            app.blocking(move |app| checkin::checkin(app, &host, &peer, asked)).await
        }
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

async fn redeem(State(app): Asked, request: Request) -> Response {
    let out = match proved(request).await {
        Ok((host, _, asked)) => app.blocking(move |app| redeem::redeem(app, &host, &asked)).await,
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

async fn renew(State(app): Asked, request: Request) -> Response {
    let out = match certified(request).await {
        Ok((host, peer, asked)) => {
            app.blocking(move |app| enroll::renew(app, &host, &peer, &asked)).await
        }
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

async fn tested(State(app): Asked, request: Request) -> Response {
    let out = match proved(request).await {
        Ok((host, _, told)) => {
            app.blocking(move |app| crate::testbed::tested(app, &host, &told)).await
        }
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

/// Asked by a host that may have lost its server by a change: any answer will do, and nothing is looked up for it.
async fn here(State(app): Asked, request: Request) -> Response {
    let out = proved::<serde::de::IgnoredAny>(request).await;
    answer(&app, out.map(|_| serde_json::json!({})))
}

/// Who asks, by a certificate that is in force, and what. Without one nothing of the body is read.
async fn proved<T: DeserializeOwned>(request: Request) -> Result<(HostId, Peer, T), Problem> {
    let late = request.extensions().get::<Peer>().filter(|peer| peer.is_late(now()));
    if let Some((_, ended)) = late.and_then(|peer| peer.life) {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "certificate-ended",
            format!("the host's certificate ended at {ended}"),
            "the agent asks for a new one by itself; if it does not, upgrade it or enrol the host anew",
        ));
    }
    certified(request).await
}

/// Who asks, by a certificate that may have ended lately, and what.
async fn certified<T: DeserializeOwned>(request: Request) -> Result<(HostId, Peer, T), Problem> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let host = peer.host.clone().ok_or_else(|| {
        Problem::new(
            ProblemKind::Forbidden,
            "no-certificate",
            "this call needs the certificate of an enrolled host",
            "enrol first: `fettle token create` on the server, `fettle-agent enroll` on the host",
        )
    })?;
    Ok((host, peer, read(request, HOST).await?))
}

async fn read<T: DeserializeOwned>(request: Request, patience: Patience) -> Result<T, Problem> {
    let packed = request.headers().get(header::CONTENT_ENCODING).is_some_and(|e| e == "gzip");
    let mut body = whole_body(request.into_body(), MAX_BODY, patience).await?;
    if packed {
        body = unpacked(&body, MAX_BODY)?;
    }
    serde_json::from_slice(&body).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        ProblemKind::BadInput,
        "bad-message",
        format!("the message cannot be read: {error}"),
        "agent and server are of versions that do not understand each other: upgrade the older one",
    )
}

/// What was compressed (gzip, RFC 1952), up to `limit` bytes of it.
fn unpacked(body: &[u8], limit: usize) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    let mut bounded = GzDecoder::new(body).take(limit as u64 + 1);
    bounded.read_to_end(&mut out).map_err(unreadable)?;
    if out.len() > limit { Err(too_long(limit)) } else { Ok(out) }
}

/// How long a body is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For its next bytes.
    pub(crate) stall: Duration,
    /// For all of it.
    pub(crate) whole: Duration,
}

impl Patience {
    /// So long for all of it, however it comes.
    pub(crate) const fn within(whole: Duration) -> Self {
        Self { stall: whole, whole }
    }
}

fn too_long(limit: usize) -> Problem {
    let message = format!("the body has more than {limit} bytes");
    Problem::new(ProblemKind::Usage, TOO_LARGE, message, "send less")
}

fn too_slow(waited: &str, time: Duration) -> Problem {
    let message = format!("{waited} within {} s", time.as_secs());
    Problem::new(ProblemKind::Usage, TOO_SLOW, message, "send it again over a faster line")
}

/// Reads a body up to `limit` bytes.
pub(crate) async fn whole_body(
    mut body: Body,
    limit: usize,
    patience: Patience,
) -> Result<Vec<u8>, Problem> {
    // One that announces too much is not kept. A little of it is read all the same: closing on somebody who
    // still sends would destroy the answer on its way.
    if body.size_hint().lower() > limit as u64 {
        let _ = tokio::time::timeout(FAREWELL, discard(body, 2 * limit)).await;
        return Err(too_long(limit));
    }
    let end = tokio::time::Instant::now() + patience.whole;
    let mut bytes = Vec::new();
    loop {
        let stall = tokio::time::Instant::now() + patience.stall;
        let frame = match tokio::time::timeout_at(stall.min(end), body.frame()).await {
            Err(_) if end <= stall => {
                return Err(too_slow("the body was not here", patience.whole));
            }
            Err(_) => return Err(too_slow("no more of the body came", patience.stall)),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => {
                let message = format!("the body broke off: {error}");
                return Err(Problem::new(ProblemKind::Usage, "body", message, "send it again"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > limit {
                return Err(too_long(limit));
            }
            bytes.extend_from_slice(data);
        }
    }
}

async fn discard(mut body: Body, most: usize) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |d| d.len());
        if read > most {
            return;
        }
    }
}

const TOO_LARGE: &str = "too-large";
const TOO_SLOW: &str = "too-slow";

/// The HTTP status of a problem (RFC 9110): finer than its kind where HTTP has a word of its own for it.
pub(crate) fn status_of(problem: &Problem) -> StatusCode {
    match problem.code.as_str() {
        TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        TOO_SLOW => StatusCode::REQUEST_TIMEOUT,
        "no-token" | "bad-token" | "token-expired" | "token-revoked" | "account-disabled"
        | "wrong-password" => StatusCode::UNAUTHORIZED,
        "too-many-tries" => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::from_u16(problem.kind.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn answer<T: Serialize>(app: &App, out: Result<T, Problem>) -> Response {
    match out {
        Ok(value) => axum::Json(value).into_response(),
        Err(problem) => {
            app.counters.agent_refusals.inc();
            tracing::warn!(code = problem.code, "an agent was refused: {problem}");
            refusal(&problem)
        }
    }
}

fn refusal(problem: &Problem) -> Response {
    let body = axum::Json(problem);
    (status_of(problem), [(header::CONNECTION, "close")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const LIMIT: usize = 100;

    /// What becomes of a body that comes so many bytes at a time, each `every` seconds.
    async fn read_in_pieces(bytes: usize, pieces: u32, every: u64, patience: Patience) -> String {
        let pieces = futures_util::stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(every)).await;
            Some((Ok::<_, Infallible>(vec![b'x'; bytes]), sent + 1))
        });
        match whole_body(Body::from_stream(pieces), LIMIT, patience).await {
            Ok(body) => body.len().to_string(),
            Err(problem) => problem.code,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_on_a_slow_line_is_heard_out_and_a_dead_or_endless_one_is_not() {
        for (what, pieces, every, patience, becomes) in [
            ("a slow host", 14, 50, HOST, "14"),
            ("a stranger as slow", 14, 50, STRANGER, TOO_SLOW),
            ("a host that falls silent", 3, 61, HOST, TOO_SLOW),
            ("a host that never ends", 90, 20, HOST, TOO_SLOW),
            ("a quick stranger", 3, 1, STRANGER, "3"),
        ] {
            assert_eq!(read_in_pieces(1, pieces, every, patience).await, becomes, "{what}");
        }
        assert_eq!(read_in_pieces(60, 2, 1, HOST).await, TOO_LARGE);
    }
}
