//! The web pages' routes: values as the API gives them, rendered by [`crate::web`].

mod account;
mod form;
mod forms;
mod ledger;
mod lists;
mod report;

use crate::access::{Identified, Rule, Who, go_on, guard};
use crate::accounts;
use crate::agents::status_of;
use crate::api::{self, Refused};
use crate::app::{App, now};
use crate::reports::schedules;
use crate::saved_views;
use crate::session::{by_session, is_secure};
use crate::views;
use crate::web::pages::{self, PlanPart, PolicyAround};
use crate::web::{User, View, assets};
use crate::webhooks;
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind, RolloutId};
use fettle_store::View as Stored;
use fettle_wire::api::Page;
use maud::Markup;
use serde::Deserialize;
use std::sync::Arc;

type Asked = State<Arc<App>>;

/// Rows of a list on one page.
const ROWS: u64 = 100;
/// Findings on the page of a vulnerability.
const SHOWN: u64 = 50;
/// Fields of a form, in bytes.
const MAX_FORM: usize = 64 << 10;

/// A route with the role it needs.
struct Place {
    rule: Rule,
    serve: MethodRouter<Arc<App>>,
}

fn place(method: Method, path: &str, needs: Option<Role>, serve: MethodRouter<Arc<App>>) -> Place {
    Place { rule: Rule { method, path: path.to_owned(), needs }, serve }
}

/// A page that is looked at.
fn page<H: Handler<T, Arc<App>>, T: 'static>(path: &str, handler: H) -> Place {
    place(Method::GET, path, Some(Role::Viewer), get(handler))
}

/// A form that is sent.
fn form<H: Handler<T, Arc<App>>, T: 'static>(path: &str, needs: Role, handler: H) -> Place {
    place(Method::POST, path, Some(needs), post(handler))
}

/// Every page and form behind the login, with the role it needs: what is served and what is guarded is made from
/// this one list.
fn inside() -> Vec<Place> {
    use Role::{Admin, Approver, Auditor, Operator, Viewer};
    let mut places = vec![
        page("/", overview),
        page("/wall", wall),
        page("/hosts", lists::hosts),
        page("/hosts/{host}", host),
        page("/hosts/{host}/packages", lists::host_packages),
        page("/packages", lists::packages),
        page("/packages/{name}", package),
        page("/findings", lists::findings),
        page("/findings/{host}/{id}/{source}", finding),
        page("/cves", lists::cves),
        page("/cves/{id}", cve),
        page("/plans", plans),
        form("/plans", Operator, forms::make_plan),
        page("/plans/{number}", plan),
        page("/plans/{number}/diff/{to}", plan_diff),
        form("/plans/{number}/approve", Approver, forms::approve),
        form("/plans/{number}/withdraw", Approver, forms::withdraw),
        form("/plans/{number}/tests", Operator, forms::test_plan),
        page("/rollouts", rollouts),
        form("/rollouts", Operator, forms::start_rollout),
        page("/rollouts/{id}", rollout),
        form("/rollouts/{id}/approve", Approver, forms::approve_wave),
        form("/rollouts/{id}/{wish}", Operator, forms::wish),
        page("/recalls", recalls),
        form("/recalls", Operator, forms::recall),
        form("/recalls/lift", Approver, forms::lift_recall),
        page("/recalls/{package}/{version}", recall),
        page("/policies", policies),
        page("/policies/{name}", policy),
        page("/policies/{name}/diff/{from}/{to}", policy_diff),
        form("/policies/{name}/cycle/resume", Operator, forms::resume_cycle),
        page("/reports", report::page),
        page("/reports.csv", report::as_csv),
        page("/reports.html", report::as_html),
        page("/feeds", feeds),
        form("/feeds/sync", Operator, forms::sync_feeds),
        form("/feeds/{name}/accept", Operator, forms::accept_feed),
        place(Method::GET, "/ledger", Some(Auditor), get(ledger::page)),
        form("/views", Viewer, forms::save_view),
        form("/views/remove", Viewer, forms::remove_view),
        page("/settings", settings),
        form("/settings/schedules/{name}/run", Operator, forms::run_schedule),
        form("/settings/deliveries/{id}/resend", Operator, forms::resend),
        form("/settings/deliveries/{id}/drop", Operator, forms::drop_delivery),
        page("/search", lists::search),
        page("/events", events),
        form("/settings/accounts/{name}/disable", Admin, account::disable),
        form("/settings/accounts/{name}/enable", Admin, account::enable),
        // One's own.
        page("/account", account::page),
        form("/account/password", Viewer, account::change_password),
        form("/account/sessions/end", Viewer, account::end_others),
        form("/account/token", Viewer, account::new_token),
        form("/logout", Viewer, account::logout),
    ];
    places.extend(PlanPart::ALL.map(|part| {
        let path = format!("/plans/{{number}}/{}", part.word());
        page(&path, move |visit, number, query| lists::plan_part(visit, number, query, part))
    }));
    places
}

/// The login, the first set-up, and what codes of errors mean, which everybody reaches.
fn outside() -> Vec<Place> {
    vec![
        place(Method::GET, "/login", None, get(account::login)),
        place(Method::POST, "/login", None, post(account::log_in)),
        // Open until there is an account, and closed for good from then on.
        place(Method::GET, "/setup", None, get(account::setup)),
        place(Method::POST, "/setup", None, post(account::set_up)),
        // What problems of the API link to: a program that has no token yet is told so, too.
        place(Method::GET, "/errors", None, get(errors)),
        place(Method::GET, "/errors/{code}", None, get(error)),
    ]
}

/// What is the same for all.
fn files() -> Vec<Place> {
    vec![place(Method::GET, "/assets/{name}", None, get(asset))]
}

/// What each page needs.
pub(crate) fn rules() -> Vec<Rule> {
    let all = inside().into_iter().chain(outside()).chain(files());
    all.map(|place| place.rule).collect()
}

fn routed(places: Vec<Place>) -> Router<Arc<App>> {
    places.into_iter().fold(Router::new(), |router, Place { rule, serve }| {
        let serve = match rule.needs {
            Some(needs) => serve.route_layer(from_fn(move |request, next| {
                guard(
                    needs,
                    |request, who, it| refusal(request.uri(), Some(&who.0), it),
                    request,
                    next,
                )
            })),
            None => serve,
        };
        router.route(&rule.path, serve)
    })
}

/// The pages' routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let behind =
        routed(inside()).fallback(no_such_page).layer(from_fn_with_state(app.clone(), logged_in));
    routed(outside())
        .merge(behind)
        .layer(from_fn(same_origin))
        .merge(routed(files()))
        .with_state(app)
}

async fn no_such_page(request: Request) -> Response {
    let message = format!("there is no page {}", request.uri().path());
    let hint = "start from the overview";
    let problem = Problem::new(ProblemKind::NotFound, "no-such-page", message, hint);
    let who = request.extensions().get::<Identified>();
    refusal(request.uri(), who.map(|who| &who.0), problem)
}

/// Forms are taken from this server's own pages only: another site's form would come with the visitor's cookie.
async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if request.method().is_safe() || is_same_origin(headers) {
        return next.run(request).await;
    }
    let uri = request.uri().clone();
    let hint = "open the page on this server and send the form from there";
    let message = "the form came from another site";
    refusal(&uri, None, Problem::new(ProblemKind::Forbidden, "other-origin", message, hint))
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match text("origin") {
        // A proxy may speak TLS before us: host and port decide, and where it did, that the page came by TLS too.
        Some(origin) => origin.split_once("://").is_some_and(|(scheme, authority)| {
            let by = scheme == "https" || (scheme == "http" && !is_secure(headers));
            by && Some(authority) == text("host")
        }),
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

async fn logged_in(State(app): Asked, request: Request, next: Next) -> Response {
    match by_session(&app, request.headers()).await {
        Ok(Some(who)) => go_on(app, who, request, next).await,
        // A page that is still open when its session ends asks for news again: this ends it, and a page in its place would not.
        Ok(None) if is_for_news(request.headers()) => StatusCode::NO_CONTENT.into_response(),
        Ok(None) => Redirect::to("/login").into_response(),
        Err(problem) => refusal(request.uri(), None, problem),
    }
}

/// Is it an `EventSource` that asks? It takes 204 for the end, and asks no more (HTML, section 9.2).
fn is_for_news(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream")
}

fn html(status: StatusCode, markup: Markup) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], markup.into_string())
        .into_response()
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |p| p.as_str())
}

fn refusal(uri: &Uri, who: Option<&Who>, problem: Problem) -> Response {
    let view = View { now: now(), path: path_of(uri), news: None, user: who.map(user) };
    let mut response = html(status_of(&problem), pages::problem(&view, &problem));
    response.extensions_mut().insert(Refused(problem));
    response
}

fn user(who: &Who) -> User<'_> {
    User { name: &who.principal, roles: &who.roles }
}

/// Who looks, and at what.
struct Visit {
    app: Arc<App>,
    who: Who,
    uri: Uri,
    /// The last news when it began.
    news: u64,
}

/// The page for a visit, as of now.
fn view<'a>(uri: &'a Uri, who: &'a Who, news: u64) -> View<'a> {
    View { now: now(), path: path_of(uri), news: Some(news), user: Some(user(who)) }
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let who = Who::from_request_parts(parts, app).await;
        let who = who.map_err(|api::Failure(problem)| refusal(&parts.uri, None, problem))?;
        Ok(Self { news: app.events.last(), app: app.clone(), who, uri: parts.uri.clone() })
    }
}

/// Looks something up and renders it, or the problem.
async fn show<T: Send + 'static>(
    visit: Visit,
    look: impl FnOnce(&App, &Stored<'_>) -> Result<T, Problem> + Send + 'static,
    render: impl FnOnce(&View<'_>, &T) -> Markup,
) -> Response {
    let Visit { app, who, uri, news } = visit;
    match app.blocking(move |app| app.store.read(|stored| look(app, stored))).await {
        Ok(value) => html(StatusCode::OK, render(&view(&uri, &who, news), &value)),
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

async fn overview(visit: Visit) -> Response {
    show(visit, views::overview, pages::overview).await
}

async fn wall(visit: Visit) -> Response {
    show(visit, views::wall, |view, (it, rollouts)| pages::wall(view, it, rollouts)).await
}

async fn host(visit: Visit, Path(host): Path<String>) -> Response {
    let look = move |app: &App, stored: &Stored<'_>| {
        Ok((views::host(app, stored, &host)?, views::next(app, stored, &host)?))
    };
    show(visit, look, |view, (host, next)| pages::host(view, host, Some(next))).await
}

async fn finding(
    visit: Visit,
    Path((host, id, source)): Path<(String, String, String)>,
) -> Response {
    show(visit, move |app, stored| views::explain(app, stored, &host, &id, &source), pages::finding)
        .await
}

async fn cve(visit: Visit, Path(id): Path<String>) -> Response {
    show(visit, move |app, stored| views::cve(app, stored, &id, SHOWN), pages::cve).await
}

async fn package(visit: Visit, Path(name): Path<String>) -> Response {
    show(visit, move |app, _| views::package(app, &name), pages::package).await
}

async fn plans(visit: Visit) -> Response {
    show(visit, |_, stored| views::plans(stored, ROWS, 0), pages::plans).await
}

async fn plan(visit: Visit, Path(number): Path<u64>) -> Response {
    show(
        visit,
        move |app, stored| views::plan_tested(app, stored, number),
        |view, it| pages::plan(view, it),
    )
    .await
}

async fn plan_diff(visit: Visit, Path((from, to)): Path<(String, String)>) -> Response {
    show(visit, move |_, stored| views::plan_diff(stored, &from, &to), pages::plan_diff).await
}

async fn rollouts(visit: Visit) -> Response {
    let look = |app: &App, stored: &Stored<'_>| {
        let items = views::rollouts(app, stored)?;
        Ok(Page { total: items.len() as u64, items })
    };
    show(visit, look, pages::rollouts).await
}

async fn rollout(visit: Visit, Path(id): Path<String>) -> Response {
    let look =
        move |app: &App, stored: &Stored<'_>| views::rollout_shown(app, stored, &RolloutId(id));
    show(visit, look, |view, (it, names)| pages::rollout(view, it, names)).await
}

/// What the form of a recall is filled with.
#[derive(Debug, Deserialize)]
struct RecallQuery {
    #[serde(default)]
    package: String,
    #[serde(default)]
    version: String,
}

async fn recalls(visit: Visit, Query(query): Query<RecallQuery>) -> Response {
    show(visit, crate::recalls::rows, |view, rows| {
        pages::recalls(view, rows, &query.package, &query.version)
    })
    .await
}

async fn recall(visit: Visit, Path((package, version)): Path<(String, String)>) -> Response {
    let look =
        move |app: &App, stored: &Stored<'_>| crate::recalls::one(app, stored, &package, &version);
    show(visit, look, pages::recall).await
}

async fn policies(visit: Visit) -> Response {
    show(visit, |app, _| views::policies(app), |view, rows| pages::policies(view, rows)).await
}

async fn policy(visit: Visit, Path(name): Path<String>) -> Response {
    let look = move |app: &App, stored: &Stored<'_>| {
        let row = views::policy(app, &name)?;
        let cycles = views::cycle_rows(app, stored)?;
        let cycle = cycles.into_iter().find(|row| row.policy == name);
        let calendar = views::policy_calendar(app, &name);
        let stages = views::policy_stages(app, &name)?;
        Ok((row, cycle, calendar, stages, views::policy_versions(stored, &name)?))
    };
    show(visit, look, |view, (row, cycle, calendar, stages, versions)| {
        let around =
            PolicyAround { cycle: cycle.as_ref(), calendar: calendar.as_ref(), stages, versions };
        pages::policy(view, row, around)
    })
    .await
}

async fn policy_diff(visit: Visit, Path((name, from, to)): Path<(String, u64, u64)>) -> Response {
    let look =
        move |_: &App, stored: &Stored<'_>| views::policy_versions_between(stored, &name, from, to);
    show(visit, look, pages::policy_diff).await
}

async fn feeds(visit: Visit) -> Response {
    show(visit, |_, stored| views::feed_rows(stored), |view, rows| pages::feeds(view, rows)).await
}

async fn settings(visit: Visit) -> Response {
    let account = visit.who.principal.clone();
    let may_see = visit.who.may(Role::Auditor).is_ok();
    let look = move |app: &App, stored: &Stored<'_>| {
        let views = saved_views::rows(stored, &account)?;
        let accounts = if may_see { Some(accounts::rows(stored, now())?) } else { None };
        Ok((schedules::rows(app, stored)?, webhooks::rows(stored)?, views, accounts))
    };
    show(visit, look, |view, (schedules, deliveries, views, accounts)| {
        pages::settings(view, schedules, deliveries, views, accounts.as_deref())
    })
    .await
}

/// Since when a page listens that had no news yet.
#[derive(Deserialize)]
struct Since {
    since: Option<u64>,
}

async fn events(
    State(app): Asked,
    who: Who,
    Query(since): Query<Since>,
    headers: HeaderMap,
) -> Response {
    api::stream(&app, &who, api::last_seen(&headers).or(since.since)).into_response()
}

async fn errors(uri: Uri) -> Response {
    let view = View { now: now(), path: path_of(&uri), news: None, user: None };
    html(StatusCode::OK, pages::errors(&view))
}

async fn error(uri: Uri, Path(code): Path<String>) -> Response {
    match fettle_wire::errors::page(&code) {
        Some(page) => {
            let view = View { now: now(), path: path_of(&uri), news: None, user: None };
            html(StatusCode::OK, pages::error(&view, page))
        }
        None => {
            let hint = "/errors lists those there are";
            let message = "no error has that code";
            refusal(&uri, None, Problem::new(ProblemKind::NotFound, "not-found", message, hint))
        }
    }
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
