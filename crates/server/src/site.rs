//! The web pages' routes: values as the API gives them, rendered by [`crate::web`].

use crate::agents::status_of;
use crate::api;
use crate::app::{App, now};
use crate::router::Operator;
use crate::trust::same_secret;
use crate::web::pages::{self, FindingFilter, HostFilter};
use crate::web::{Span, View, assets};
use crate::{session, views};
use axum::Router;
use axum::extract::{Form, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use fettle_core::{Problem, ProblemKind, RolloutId};
use fettle_store::{View as Stored, ledger as stored_ledger};
use fettle_wire::api::{Because, MakePlan, Page, StartRollout};
use maud::Markup;
use serde::Deserialize;
use std::sync::Arc;

type Asked = State<Arc<App>>;

/// Rows of a list on one page.
const ROWS: u64 = 100;
/// A longer ledger is verified by `fettle audit verify`, not by whoever opens the page.
const VERIFIED_ON_SIGHT: u64 = 50_000;
/// Who acts through the pages, for the ledger.
const WEB_USER: &str = "operator";
/// Fields of a form, in bytes.
const MAX_FORM: usize = 64 << 10;

/// The pages' routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let inside = Router::new()
        .route("/", get(overview))
        .route("/hosts", get(hosts))
        .route("/hosts/{host}", get(host))
        .route("/findings", get(findings))
        .route("/findings/{host}/{id}/{source}", get(finding))
        .route("/cves/{id}", get(cve))
        .route("/plans", get(plans).post(make_plan))
        .route("/plans/{number}", get(plan))
        .route("/rollouts", get(rollouts).post(start_rollout))
        .route("/rollouts/{id}", get(rollout))
        .route("/rollouts/{id}/{wish}", post(wish))
        .route("/policies", get(policies))
        .route("/policies/{name}", get(policy))
        .route("/feeds", get(feeds))
        .route("/ledger", get(ledger))
        .route("/search", get(search))
        .route("/events", get(events))
        .route("/logout", post(logout))
        .fallback(async |uri: Uri| {
            let message = format!("there is no page {}", uri.path());
            refusal(
                &uri,
                Some(WEB_USER),
                &Problem::new(
                    ProblemKind::NotFound,
                    "no-such-page",
                    message,
                    "start from the overview",
                ),
            )
        })
        .layer(from_fn_with_state(app.clone(), logged_in));
    Router::new()
        .route("/login", get(login).post(log_in))
        .merge(inside)
        .layer(from_fn(same_origin))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_FORM))
        .route("/assets/{name}", get(asset))
        .with_state(app)
}

/// Forms are taken from this server's own pages only: another site's form would come with the visitor's cookie.
async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if request.method().is_safe() || is_same_origin(headers) {
        return next.run(request).await;
    }
    let uri = request.uri().clone();
    let hint = "open the page on this server and send the form from there";
    refusal(
        &uri,
        None,
        &Problem::new(
            ProblemKind::Forbidden,
            "other-origin",
            "the form came from another site",
            hint,
        ),
    )
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match text("origin") {
        // A proxy may speak TLS before us: host and port decide.
        Some(origin) => {
            origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == text("host"))
        }
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

async fn logged_in(State(app): Asked, request: Request, next: Next) -> Response {
    if session::of(&app, request.headers()).is_some() {
        return next.run(request).await;
    }
    Redirect::to("/login").into_response()
}

fn html(status: StatusCode, markup: Markup) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], markup.into_string())
        .into_response()
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |p| p.as_str())
}

fn refusal(uri: &Uri, user: Option<&str>, problem: &Problem) -> Response {
    let view = View { now: now(), path: path_of(uri), user };
    html(status_of(problem), pages::problem(&view, problem))
}

/// Looks something up and renders it, or the problem.
async fn show<T: Send + 'static>(
    app: Arc<App>,
    uri: Uri,
    look: impl FnOnce(&App, &Stored<'_>) -> Result<T, Problem> + Send + 'static,
    render: impl FnOnce(&View<'_>, &T) -> Markup,
) -> Response {
    match app.blocking(move |app| app.store.read(|stored| look(app, stored))).await {
        Ok(value) => {
            let view = View { now: now(), path: path_of(&uri), user: Some(WEB_USER) };
            html(StatusCode::OK, render(&view, &value))
        }
        Err(problem) => refusal(&uri, Some(WEB_USER), &problem),
    }
}

async fn overview(State(app): Asked, uri: Uri) -> Response {
    show(app, uri, views::overview, pages::overview).await
}

#[derive(Debug, Clone, Deserialize)]
struct HostQuery {
    state: Option<String>,
    label: Option<String>,
    q: Option<String>,
    limit: Option<u64>,
    offset: Option<u64>,
}

async fn hosts(State(app): Asked, uri: Uri, Query(query): Query<HostQuery>) -> Response {
    let span = Span {
        offset: query.offset.unwrap_or(0),
        limit: query.limit.unwrap_or(ROWS).clamp(1, 1000),
    };
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let (state, label, q) = (given(&query.state), given(&query.label), given(&query.q));
    let wanted = (state.clone(), label.clone(), q.as_ref().map(|q| q.to_lowercase()));
    let look = move |app: &App, stored: &Stored<'_>| {
        let (state, label, q) = wanted;
        let mut rows = views::hosts(app, stored)?;
        rows.retain(|row| {
            let has = |label: &String| {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                row.labels.get(key).is_some_and(|v| v == value)
            };
            state.as_ref().is_none_or(|s| *s == row.state)
                && label.as_ref().is_none_or(has)
                && q.as_ref().is_none_or(|q| row.name.to_lowercase().contains(q.as_str()))
        });
        let total = rows.len() as u64;
        let items = rows.into_iter().skip(span.offset as usize).take(span.limit as usize).collect();
        Ok(Page { total, items })
    };
    show(app, uri, look, |view, page| {
        let filter =
            HostFilter { state: state.as_deref(), label: label.as_deref(), q: q.as_deref() };
        pages::hosts(view, page, filter, span)
    })
    .await
}

async fn host(State(app): Asked, uri: Uri, Path(host): Path<String>) -> Response {
    show(app, uri, move |app, stored| views::host(app, stored, &host), pages::host).await
}

async fn findings(State(app): Asked, uri: Uri, Query(query): Query<api::FindingQuery>) -> Response {
    let span = Span { offset: query.offset.unwrap_or(0), limit: query.limit().min(1000) };
    let asked = query.clone();
    let look = move |_: &App, stored: &Stored<'_>| {
        let filter = asked.filter(stored)?;
        views::findings(stored, &filter, span.limit, span.offset)
    };
    show(app, uri, look, |view, page| {
        fn given(text: &Option<String>) -> Option<&str> {
            text.as_deref().filter(|t| !t.is_empty())
        }
        let filter = FindingFilter {
            host: given(&query.host),
            id: given(&query.id),
            state: given(&query.state),
            severity: given(&query.severity),
            due: given(&query.due),
        };
        pages::findings(view, page, filter, span)
    })
    .await
}

async fn finding(
    State(app): Asked,
    uri: Uri,
    Path((host, id, source)): Path<(String, String, String)>,
) -> Response {
    show(
        app,
        uri,
        move |app, stored| views::explain(app, stored, &host, &id, &source),
        pages::finding,
    )
    .await
}

async fn cve(State(app): Asked, uri: Uri, Path(id): Path<String>) -> Response {
    show(app, uri, move |app, stored| views::cve(app, stored, &id), pages::cve).await
}

async fn plans(State(app): Asked, uri: Uri) -> Response {
    show(app, uri, |_, stored| views::plans(stored, ROWS, 0), pages::plans).await
}

async fn plan(State(app): Asked, uri: Uri, Path(number): Path<u64>) -> Response {
    show(app, uri, move |_, stored| views::plan(stored, number), pages::plan).await
}

async fn rollouts(State(app): Asked, uri: Uri) -> Response {
    let look = |app: &App, stored: &Stored<'_>| {
        let items = views::rollouts(app, stored)?;
        Ok(Page { total: items.len() as u64, items })
    };
    show(app, uri, look, pages::rollouts).await
}

async fn rollout(State(app): Asked, uri: Uri, Path(id): Path<String>) -> Response {
    show(app, uri, move |app, stored| views::rollout(app, stored, &RolloutId(id)), pages::rollout)
        .await
}

async fn policies(State(app): Asked, uri: Uri) -> Response {
    show(app, uri, views::policies, |view, rows| pages::policies(view, rows)).await
}

async fn policy(State(app): Asked, uri: Uri, Path(name): Path<String>) -> Response {
    show(app, uri, move |app, stored| views::policy(app, stored, &name), pages::policy).await
}

async fn feeds(State(app): Asked, uri: Uri) -> Response {
    show(app, uri, |_, stored| views::feed_rows(stored), |view, rows| pages::feeds(view, rows))
        .await
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct LedgerQuery {
    after: Option<u64>,
}

async fn ledger(State(app): Asked, uri: Uri, Query(query): Query<LedgerQuery>) -> Response {
    let look = move |_: &App, stored: &Stored<'_>| {
        let len = stored_ledger::len(stored)?;
        let after = query.after.unwrap_or(len.saturating_sub(ROWS));
        let mut entries = stored_ledger::after(stored, after, ROWS)?;
        entries.reverse();
        let newest = query.after.is_none() && len <= VERIFIED_ON_SIGHT;
        let verified = if newest { Some(views::ledger_verified(stored)?) } else { None };
        let older = (after > 0).then(|| after.saturating_sub(ROWS));
        let newer = (after + ROWS < len).then_some(after + ROWS);
        Ok((entries, verified, older, newer))
    };
    show(app, uri, look, |view, (entries, verified, older, newer)| {
        pages::ledger(view, entries, verified.as_ref(), *older, *newer)
    })
    .await
}

#[derive(Debug, Clone, Deserialize)]
struct SearchQuery {
    #[serde(default)]
    q: String,
}

/// Leads to the best match: a vulnerability, a host by its whole name, else hosts whose name has the text in it.
async fn search(State(app): Asked, uri: Uri, Query(query): Query<SearchQuery>) -> Response {
    let q = query.q.trim().to_owned();
    let found = app.blocking(move |app| {
        app.store.read::<_, Problem>(|stored| {
            let upper = q.to_uppercase();
            if ["CVE-", "TEMP-", "DSA-", "DLA-"].iter().any(|p| upper.starts_with(p)) {
                let known = views::cve(app, stored, &upper).is_ok();
                let (at, key) = if known {
                    ("/cves/", String::new())
                } else {
                    ("/findings?id=", String::new())
                };
                return Ok(format!("{at}{key}{}", escape(&upper)));
            }
            Ok(match fettle_store::hosts::find(stored, &q) {
                Ok(_) => format!("/hosts/{}", escape(&q)),
                Err(_) => format!("/hosts?q={}", escape(&q)),
            })
        })
    });
    match found.await {
        Ok(to) => Redirect::to(&to).into_response(),
        Err(problem) => refusal(&uri, Some(WEB_USER), &problem),
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

async fn events(State(app): Asked, headers: HeaderMap) -> Response {
    api::stream(&app, &headers).into_response()
}

async fn asset(Path(name): Path<String>) -> Response {
    match assets::get(&name) {
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.content_type),
                (header::CACHE_CONTROL, "public, max-age=300"),
            ];
            (headers, asset.bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn login(uri: Uri) -> Response {
    html(StatusCode::OK, pages::login(&View { now: now(), path: path_of(&uri), user: None }, None))
}

#[derive(Deserialize)]
struct LoginForm {
    token: String,
}

async fn log_in(State(app): Asked, uri: Uri, Form(form): Form<LoginForm>) -> Response {
    let view = View { now: now(), path: path_of(&uri), user: None };
    if !app.tries.allow() {
        let wrong = "Too many tries: wait a minute.";
        return html(StatusCode::TOO_MANY_REQUESTS, pages::login(&view, Some(wrong)));
    }
    if !same_secret(form.token.trim().as_bytes(), app.trust.operator_token.as_bytes()) {
        let wrong = "This is not the operator's token. It is in operator.token in the server's data directory.";
        return html(StatusCode::UNAUTHORIZED, pages::login(&view, Some(wrong)));
    }
    match session::begin(&app) {
        Ok(cookie) => with_cookie(Redirect::to("/").into_response(), &cookie),
        Err(problem) => refusal(&uri, None, &problem),
    }
}

async fn logout() -> Response {
    with_cookie(Redirect::to("/login").into_response(), &session::end())
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // Invariant: the cookie is digits, hexadecimal digits and attributes.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn web_operator() -> Operator {
    Operator { name: WEB_USER.to_owned() }
}

/// Does something and leads to the page that shows it (303), or shows the problem.
async fn act(
    app: Arc<App>,
    uri: Uri,
    act: impl FnOnce(&App) -> Result<String, Problem> + Send + 'static,
) -> Response {
    match app.blocking(act).await {
        Ok(to) => Redirect::to(&to).into_response(),
        Err(problem) => refusal(&uri, Some(WEB_USER), &problem),
    }
}

#[derive(Debug, Deserialize)]
struct PlanForm {
    policy: String,
}

async fn make_plan(State(app): Asked, uri: Uri, Form(form): Form<PlanForm>) -> Response {
    let asked = MakePlan { policy: form.policy, hosts: Vec::new() };
    act(app, uri, move |app| {
        Ok(format!("/plans/{}", api::make_now(app, &web_operator(), &asked)?.number))
    })
    .await
}

#[derive(Debug, Deserialize)]
struct StartForm {
    plan: u64,
    digest: String,
}

async fn start_rollout(State(app): Asked, uri: Uri, Form(form): Form<StartForm>) -> Response {
    let start = move |app: &App| {
        let digest = form.digest.parse().map_err(|e| {
            Problem::new(
                ProblemKind::Usage,
                "bad-digest",
                e,
                "open the plan's page again and start from there",
            )
        })?;
        let asked = StartRollout { plan: form.plan, digest: Some(digest) };
        Ok(format!("/rollouts/{}", api::start_now(app, &web_operator(), &asked)?.row.id))
    };
    act(app, uri, start).await
}

#[derive(Debug, Deserialize)]
struct WishForm {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    host: String,
}

async fn wish(
    State(app): Asked,
    uri: Uri,
    Path((id, wish)): Path<(String, String)>,
    Form(form): Form<WishForm>,
) -> Response {
    let wish = match wish.as_str() {
        "pause" => api::Wish::Pause,
        "resume" => api::Wish::Resume,
        "abort" => api::Wish::Abort,
        "undo" => api::Wish::Undo,
        _ => {
            let hint = "pause, resume, abort or undo";
            let problem =
                Problem::new(ProblemKind::NotFound, "no-such-page", "there is no such wish", hint);
            return refusal(&uri, Some(WEB_USER), &problem);
        }
    };
    let hosts = if form.host.is_empty() { Vec::new() } else { vec![form.host] };
    let why = Because { reason: form.reason, hosts };
    let done = move |app: &App| {
        api::wish_now(app, &web_operator(), &RolloutId(id.clone()), &why, wish)?;
        Ok(format!("/rollouts/{}", escape(&id)))
    };
    act(app, uri, done).await
}
