//! Which path leads where on the operators' port.

use crate::access::{self, Rule, guard, identify};
use crate::app::App;
use crate::session::is_secure;
use crate::{api, site};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use fettle_core::Problem;
use fettle_core::operator::Role;
use std::sync::Arc;

const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
/// Who scrapes metrics needs a token that can do nothing else.
const METRICS_NEED: Role = Role::Viewer;

/// What the routes of this module need.
pub(crate) fn rules() -> Vec<Rule> {
    [(METRICS, Some(METRICS_NEED)), (HEALTHZ, None), (READYZ, None)]
        .map(|(path, needs)| Rule { method: Method::GET, path: path.to_owned(), needs })
        .into()
}

/// Everything on the operators' port.
pub(crate) fn router(app: Arc<App>) -> Router {
    let identified = from_fn_with_state(app.clone(), identify);
    let guarded = from_fn(|request, next| guard(METRICS_NEED, api::refuse, request, next));
    let metrics =
        Router::new().route(METRICS, get(metrics).route_layer(guarded)).with_state(app.clone());
    // Around the nest, not in it: the ledger is to have the whole path.
    let by_token =
        Router::new().nest(api::BASE, api::router(app.clone())).merge(metrics).layer(identified);
    let open = Router::new()
        .route(HEALTHZ, get(healthz))
        .route(READYZ, get(readyz))
        .with_state(app.clone())
        .nest(api::BASE, api::open_router(app.clone()));
    by_token.merge(open).merge(site::router(app)).layer(from_fn(same_headers))
}

/// Headers of every answer. None of them costs anything, each closes a door.
async fn same_headers(request: Request, next: Next) -> Response {
    let secure = is_secure(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if secure {
        let for_a_year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, for_a_year);
    }
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

async fn metrics(State(app): State<Arc<App>>, _: access::Who) -> Response {
    match app.blocking(crate::metrics::text).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(problem) => api::Failure(problem).into_response(),
    }
}
