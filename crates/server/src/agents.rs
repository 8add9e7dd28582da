//! What agents ask, over mTLS: a host can speak for itself only.

mod checkin;
mod enroll;
mod redeem;

use crate::app::App;
use crate::trust::Peer;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_wire::agent::MAX_BODY;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// A whole body must be here within this time: slow ones would hold memory.
const BODY_TIME: Duration = Duration::from_secs(60);

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
    let asked = read(request).await;
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
    let out = match proved(request).await {
        Ok((host, _, asked)) => app.blocking(move |app| enroll::renew(app, &host, &asked)).await,
        Err(problem) => Err(problem),
    };
    answer(&app, out)
}

/// Who asks, by certificate, and what. Without a certificate nothing of the body is read.
async fn proved<T: DeserializeOwned>(request: Request) -> Result<(HostId, Peer, T), Problem> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let host = peer.host.clone().ok_or_else(|| {
        Problem::new(
            ProblemKind::Forbidden,
            "no-certificate",
            "this call needs the certificate of an enrolled host",
            "enrol first: `fettle token create` on the server, `fettle-agent enroll` on the host",
        )
    })?;
    Ok((host, peer, read(request).await?))
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let body = whole_body(request.into_body(), MAX_BODY, BODY_TIME).await?;
    serde_json::from_slice(&body).map_err(|e| {
        Problem::new(
            ProblemKind::BadInput,
            "bad-message",
            format!("the message cannot be read: {e}"),
            "agent and server are of versions that do not understand each other: upgrade the older one",
        )
    })
}

/// Reads a body up to `limit` bytes, within `time`.
pub(crate) async fn whole_body(
    body: Body,
    limit: usize,
    time: Duration,
) -> Result<Vec<u8>, Problem> {
    let too_long = || {
        Problem::new(
            ProblemKind::Usage,
            TOO_LARGE,
            format!("the body has more than {limit} bytes"),
            "send less",
        )
    };
    // One that announces too much is not kept. A little of it is read all the same: closing on somebody who
    // still sends would destroy the answer on its way.
    if body.size_hint().lower() > limit as u64 {
        let _ = tokio::time::timeout(FAREWELL, discard(body, 2 * limit)).await;
        return Err(too_long());
    }
    let read = tokio::time::timeout(time, axum::body::to_bytes(body, limit));
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(error)) => {
            use std::error::Error as _;
            if error.source().is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) {
                return Err(too_long());
            }
            let message = format!("the body broke off: {error}");
            Err(Problem::new(ProblemKind::Usage, "body", message, "send it again"))
        }
        Err(_) => Err(Problem::new(
            ProblemKind::Usage,
            TOO_SLOW,
            format!("the body was not here within {} s", time.as_secs()),
            "send it again over a faster line",
        )),
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
        "no-token" | "bad-token" | "token-expired" | "token-revoked" => StatusCode::UNAUTHORIZED,
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
