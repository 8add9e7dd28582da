//! Which path leads where on the operators' port, and who may go there.

use crate::app::App;
use crate::trust::same_secret;
use crate::{api, site};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use fettle_core::{Problem, ProblemKind};
use std::sync::Arc;

/// Who asks, for the ledger. There is one token; its holder says by a header who uses it.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) name: String,
}

impl Operator {
    /// As the ledger names it.
    pub(crate) fn actor(&self) -> String {
        format!("operator:{}", self.name)
    }

    /// The name given by `X-Fettle-Operator`, as far as it is one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given =
            headers.get("x-fettle-operator").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        let good = (1..=64).contains(&given.len()) && given.chars().all(fits);
        Self { name: if good { given.to_owned() } else { "operator".to_owned() } }
    }
}

/// Everything on the operators' port.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = api::router(app.clone()).layer(from_fn_with_state(app.clone(), authenticate));
    let metrics = Router::new()
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(app.clone(), authenticate))
        .with_state(app.clone());
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(app.clone());
    Router::new()
        .nest("/api/v1", api)
        .merge(metrics)
        .merge(open)
        .merge(site::router(app))
        .layer(from_fn(same_headers))
}

/// Headers of every answer. None of them costs anything, each closes a door.
async fn same_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, crate::web::CONTENT_SECURITY_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn no_token() -> Problem {
    Problem::new(
        ProblemKind::Forbidden,
        "no-token",
        "this call needs the operator's token",
        "send `Authorization: Bearer TOKEN`; the token is in DATA/operator.token on the server",
    )
}

/// Lets a request through that carries the operator's token; one that only reads also with a page's session.
async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bearer =
        headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
    let known = match bearer {
        Some(token) if same_secret(token.trim_ascii(), app.trust.operator_token.as_bytes()) => {
            Ok(())
        }
        Some(_) => Err(Problem::new(
            ProblemKind::Forbidden,
            "bad-token",
            "this is not the operator's token",
            "the token is in DATA/operator.token on the server",
        )),
        // A cookie goes along with whatever another site makes a browser send: it may look, not change.
        None if *request.method() == Method::GET && crate::session::of(&app, headers).is_some() => {
            Ok(())
        }
        None => Err(no_token()),
    };
    match known {
        Ok(()) => {
            let operator = Operator::of(headers);
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(problem) => {
            let mut response = api::Failure(problem).into_response();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// It has loaded what the store holds, and the store answers.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = *app.ready.borrow();
    let store = app
        .blocking(|app| app.store.read::<_, Problem>(|view| Ok(fettle_store::ledger::len(view)?)))
        .await;
    match (ready, store) {
        (true, Ok(_)) => "ready\n".into_response(),
        (false, Ok(_)) => (StatusCode::SERVICE_UNAVAILABLE, "loading\n").into_response(),
        (_, Err(problem)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response()
        }
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.blocking(crate::metrics::text).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(problem) => api::Failure(problem).into_response(),
    }
}
