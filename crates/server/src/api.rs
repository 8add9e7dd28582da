//! The operator's API below `/api/v1`: JSON, described by OpenAPI, every failure a typed problem.

mod accounts;
mod approvals;
mod doctor;
mod events;
mod evidence;
mod feeds;
mod fleet;
mod listed;
pub(crate) mod operators;
mod plan_keys;
mod planning;
mod plans;
mod policies;
mod recalls;
pub(crate) mod report;
mod rollouts;
mod saved_views;
mod sbom;
mod schedules;
mod testbed;

pub(crate) use approvals::{approve_now, withdraw_now};
pub(crate) use events::{last_seen, stream};
pub(crate) use fleet::{CveQuery, FindingQuery, HostQuery, PackageQuery, SearchQuery, given};
pub(crate) use planning::reason;
pub(crate) use plans::{ATTEMPTS, barred_now, keep_plan, make_now, plan_by, plan_now, told_plan};
pub(crate) use rollouts::{Wish, approve_wave_now, start_in, start_now, wish_now};

use crate::access::{Identified, Rule, guard};
use crate::agents::{Patience, status_of, whole_body};
use crate::app::App;
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::{Method, StatusCode, header, request::Parts};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::ApiProblem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ContentBuilder, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

/// Where the API is.
pub(crate) const BASE: &str = "/api/v1";
/// Largest JSON body an operator sends, in bytes.
const MAX_JSON: usize = 1 << 20;
const BODY_TIME: Duration = Duration::from_secs(30);
/// Feeds are large, and lines are slow.
const UPLOAD_TIME: Duration = Duration::from_secs(600);

type Asked = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fettle",
        description = "Keeps a fleet of Linux hosts patched, and can prove it. Every call but the first set-up \
                       needs an operator's bearer token, and the role that its security requirement names (`admin` does \
                       for all of them); every \
                       failure is a problem (RFC 9457) with a kind, a code, a message and a hint; its `type` is a page of \
                       the server about the code."
    ),
    servers((url = "/api/v1")),
    components(schemas(ApiProblem, crate::views::HostsShown)),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// A call, and the role it needs.
type Call = (Role, UtoipaMethodRouter<Arc<App>>);

/// Every call with the role it needs: what is served, described and guarded is made from this one list. One call each:
/// what looks and what changes on the same path need different roles.
fn calls() -> Vec<Call> {
    use Role::{Admin, Approver, Auditor, Operator, Viewer};
    vec![
        (Viewer, routes!(fleet::overview)),
        (Viewer, routes!(fleet::hosts)),
        (Viewer, routes!(fleet::host)),
        (Viewer, routes!(fleet::sbom)),
        (Viewer, routes!(sbom::fleet)),
        (Operator, routes!(listed::import)),
        (Operator, routes!(fleet::retire_host)),
        (Operator, routes!(fleet::release_host)),
        (Viewer, routes!(saved_views::list)),
        // One's own: a bookmark that the server keeps. To share one needs more, which it looks at itself.
        (Viewer, routes!(saved_views::save)),
        (Viewer, routes!(saved_views::remove)),
        (Viewer, routes!(fleet::findings)),
        (Viewer, routes!(fleet::finding)),
        (Viewer, routes!(fleet::cves)),
        (Viewer, routes!(fleet::cve)),
        (Viewer, routes!(fleet::packages)),
        (Viewer, routes!(fleet::package)),
        (Viewer, routes!(fleet::search)),
        (Viewer, routes!(policies::list)),
        (Admin, routes!(policies::apply)),
        (Viewer, routes!(policies::one)),
        (Viewer, routes!(policies::versions)),
        (Viewer, routes!(policies::diff)),
        (Viewer, routes!(policies::explain)),
        (Viewer, routes!(plans::list)),
        (Operator, routes!(plans::make)),
        (Viewer, routes!(plans::one)),
        (Viewer, routes!(plans::diff)),
        (Approver, routes!(approvals::approve)),
        (Approver, routes!(approvals::withdraw)),
        (Approver, routes!(plan_keys::sign)),
        (Viewer, routes!(plan_keys::show)),
        (Admin, routes!(plan_keys::publish)),
        (Viewer, routes!(testbed::of_plan)),
        (Operator, routes!(testbed::run)),
        (Operator, routes!(testbed::run_host)),
        (Viewer, routes!(testbed::list)),
        (Viewer, routes!(testbed::one)),
        (Viewer, routes!(rollouts::list)),
        (Operator, routes!(rollouts::start)),
        (Viewer, routes!(rollouts::one)),
        (Operator, routes!(rollouts::pause)),
        (Operator, routes!(rollouts::resume)),
        (Operator, routes!(rollouts::abort)),
        (Operator, routes!(rollouts::undo)),
        (Viewer, routes!(recalls::list)),
        // Stopping is cheap, going on is not: whoever may start may stop, and somebody who approves lifts it.
        (Operator, routes!(recalls::add)),
        (Viewer, routes!(recalls::one)),
        (Approver, routes!(recalls::lift)),
        (Approver, routes!(rollouts::approve)),
        (Viewer, routes!(report::report)),
        (Viewer, routes!(report::as_csv)),
        (Viewer, routes!(report::as_html)),
        (Viewer, routes!(schedules::list)),
        // It says where the server sends what it knows.
        (Admin, routes!(schedules::set)),
        (Admin, routes!(schedules::remove)),
        (Operator, routes!(schedules::run)),
        (Viewer, routes!(schedules::deliveries)),
        (Operator, routes!(schedules::resend)),
        (Operator, routes!(schedules::drop_it)),
        (Auditor, routes!(evidence::export)),
        (Viewer, routes!(evidence::key)),
        (Viewer, routes!(feeds::list)),
        (Operator, routes!(feeds::import_bundled)),
        (Operator, routes!(feeds::import)),
        (Operator, routes!(feeds::sync)),
        (Operator, routes!(feeds::accept)),
        (Admin, routes!(feeds::set_source)),
        (Admin, routes!(feeds::remove_source)),
        (Operator, routes!(feeds::export_bundle)),
        (Operator, routes!(feeds::import_bundle)),
        (Viewer, routes!(feeds::bundle_keys)),
        (Admin, routes!(feeds::trust_bundle_key)),
        (Viewer, routes!(planning::cycles)),
        (Operator, routes!(planning::resume)),
        (Operator, routes!(planning::release)),
        (Viewer, routes!(planning::emergencies)),
        (Operator, routes!(planning::declare)),
        (Operator, routes!(planning::end)),
        (Operator, routes!(fleet::make_token)),
        (Auditor, routes!(accounts::list)),
        (Admin, routes!(accounts::add)),
        (Admin, routes!(accounts::set_password)),
        (Admin, routes!(accounts::disable)),
        (Admin, routes!(accounts::enable)),
        // One's own.
        (Viewer, routes!(accounts::own)),
        (Viewer, routes!(accounts::change_own)),
        (Viewer, routes!(accounts::end_sessions)),
        (Viewer, routes!(operators::list)),
        (Admin, routes!(operators::add)),
        (Admin, routes!(operators::renew)),
        (Admin, routes!(operators::revoke)),
        (Auditor, routes!(fleet::ledger)),
        (Auditor, routes!(fleet::verify_ledger)),
        (Viewer, routes!(doctor::doctor)),
        (Viewer, routes!(events::events)),
        (Viewer, routes!(openapi)),
    ]
}

/// Calls of those who have no token yet: what they ask for in its place is in their body.
fn open_calls() -> Vec<UtoipaMethodRouter<Arc<App>>> {
    vec![routes!(accounts::set_up)]
}

/// What each call needs.
pub(crate) fn rules() -> Vec<Rule> {
    let guarded = calls().into_iter().map(|(needs, call)| (Some(needs), call));
    let open = open_calls().into_iter().map(|call| (None, call));
    let mut rules = Vec::new();
    for (needs, (_, mut paths, _)) in guarded.chain(open) {
        for (path, item) in &mut paths.paths {
            for (method, _) in operations(item) {
                rules.push(Rule { method, path: format!("{BASE}{path}"), needs });
            }
        }
    }
    rules
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> Vec<(Method, &mut Operation)> {
    let PathItem { get, put, post, delete, options, head, patch, .. } = item;
    [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::OPTIONS, options),
        (Method::HEAD, head),
        (Method::PATCH, patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
    .collect()
}

/// A call, described as one that asks for these.
fn asks(
    (schemas, mut paths, served): UtoipaMethodRouter<Arc<App>>,
    security: &[SecurityRequirement],
) -> UtoipaMethodRouter<Arc<App>> {
    for item in paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            operation.security = Some(security.to_vec());
        }
    }
    (schemas, paths, served)
}

/// The routes with a guard before each, and their description.
fn guarded() -> OpenApiRouter<Arc<App>> {
    let empty = OpenApiRouter::with_openapi(Description::openapi());
    calls().into_iter().fold(empty, |router, (needs, call)| {
        let bearer = SecurityRequirement::new("bearer", [needs.word()]);
        let (schemas, paths, served) = asks(call, &[bearer]);
        let guarded = from_fn(move |request, next| guard(needs, refuse, request, next));
        router.routes((schemas, paths, served.route_layer(guarded)))
    })
}

/// The routes that no guard stands before, and their description.
fn open() -> OpenApiRouter<Arc<App>> {
    open_calls()
        .into_iter()
        .fold(OpenApiRouter::new(), |router, call| router.routes(asks(call, &[])))
}

/// All that there is to describe.
fn described() -> OpenApiRouter<Arc<App>> {
    guarded().merge(open())
}

/// How a call is refused to who lacks the role.
pub(crate) fn refuse(_: &Request, _: &Identified, problem: Problem) -> Response {
    Failure(problem).into_response()
}

/// The API's routes. The router puts before them who asks.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (router, _) = guarded().split_for_parts();
    router
        .fallback(async || Failure(no_such_call()))
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
}

/// Those of its routes that nobody has to be known for.
pub(crate) fn open_router(app: Arc<App>) -> Router {
    let (router, _) = open().split_for_parts();
    router.method_not_allowed_fallback(no_such_method).with_state(app)
}

async fn no_such_method() -> Failure {
    let message = "this path does not have that method";
    let hint = "/api/v1/openapi.json names the methods of each path";
    Failure(Problem::new(ProblemKind::Usage, "method-not-allowed", message, hint))
}

fn no_such_call() -> Problem {
    let hint = "/api/v1/openapi.json names all paths";
    Problem::new(ProblemKind::NotFound, "no-such-call", "the API has no such path", hint)
}

/// The description of this API.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, body = Object), Failures))]
async fn openapi() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(described().into_openapi())
}

/// What an answer refuses, for whoever keeps the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Refused(pub(crate) Problem);

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = if problem.code == "method-not-allowed" {
            StatusCode::METHOD_NOT_ALLOWED
        } else {
            status_of(&problem)
        };
        if status.is_server_error() {
            tracing::error!(code = problem.code, "{problem}");
        }
        let kind =
            serde_json::to_value(problem.kind).ok().and_then(|v| v.as_str().map(str::to_owned));
        let body = ApiProblem {
            about: fettle_wire::errors::address(&problem.code),
            kind: kind.unwrap_or_default(),
            code: problem.code.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        };
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], axum::Json(body))
                .into_response_with_type();
        if status == StatusCode::UNAUTHORIZED {
            let value = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response.extensions_mut().insert(Refused(problem));
        response
    }
}

trait WithType {
    fn into_response_with_type(self) -> Response;
}

impl<T: Serialize> WithType
    for (StatusCode, [(header::HeaderName, &'static str); 1], axum::Json<T>)
{
    /// The header after the body's own, so that it stays.
    fn into_response_with_type(self) -> Response {
        let (status, [(name, value)], body) = self;
        let mut response = (status, body).into_response();
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
        response
    }
}

/// The failures any call may have.
struct Failures;

impl IntoResponses for Failures {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let each = [
            (400, "not understood"),
            (
                401,
                "the bearer token is missing or wrong, or the password or secret that is asked for",
            ),
            (403, "not allowed"),
            (404, "not there"),
            (408, "the body came too slowly"),
            (409, "the state does not allow it, or changed meanwhile"),
            (413, "the body is too large"),
            (422, "a document is malformed"),
            (429, "too many tries failed: `Retry-After` says how long to wait"),
            (500, "a defect of Fettle"),
            (503, "something needed is not there right now"),
            (507, "the machine lacks something"),
        ];
        let content = || -> Content {
            ContentBuilder::new().schema(Some(Ref::from_schema_name("ApiProblem"))).build()
        };
        each.into_iter()
            .map(|(status, text)| {
                let response = ResponseBuilder::new()
                    .description(text)
                    .content("application/problem+json", content());
                (status.to_string(), RefOr::T(response.build()))
            })
            .collect()
    }
}

/// What a call gives.
type Answer<T> = Result<axum::Json<T>, Failure>;

/// Looks something up on a blocking thread.
async fn look<T: Send + 'static>(
    app: &Arc<App>,
    look: impl FnOnce(&App, &fettle_store::View<'_>) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    Ok(axum::Json(app.blocking(move |app| app.store.read(|view| look(app, view))).await?))
}

/// A part of a path.
struct At<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let at = Path::<T>::from_request_parts(parts, app).await;
        at.map(|Path(at)| Self(at)).map_err(|e: PathRejection| usage("bad-path", &e.body_text()))
    }
}

/// The query.
struct Asking<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Asking<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let asking = Query::<T>::from_request_parts(parts, app).await;
        asking
            .map(|Query(asking)| Self(asking))
            .map_err(|e: QueryRejection| usage("bad-query", &e.body_text()))
    }
}

/// A JSON body.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Failure> {
        let bytes = whole_body(request.into_body(), MAX_JSON, Patience::within(BODY_TIME)).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            if error.is_data() {
                let hint = "/api/v1/openapi.json describes the body of each call";
                Failure(Problem::new(
                    ProblemKind::BadInput,
                    "bad-body",
                    format!("the body does not fit: {error}"),
                    hint,
                ))
            } else {
                usage("bad-json", &format!("the body is no JSON: {error}"))
            }
        })
    }
}

/// A body as it stands.
struct Upload<const LIMIT: usize>(Vec<u8>);

impl<const LIMIT: usize> FromRequest<Arc<App>> for Upload<LIMIT> {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Failure> {
        Ok(Self(whole_body(request.into_body(), LIMIT, Patience::within(UPLOAD_TIME)).await?))
    }
}

fn usage(code: &str, message: &str) -> Failure {
    Failure(Problem::new(
        ProblemKind::Usage,
        code,
        message,
        "/api/v1/openapi.json describes each call",
    ))
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Part {
    /// At most so many, 1 to 100,000. Default 100.
    #[serde(default = "hundred")]
    limit: u64,
    /// Leave out so many first.
    #[serde(default)]
    offset: u64,
}

fn hundred() -> u64 {
    100
}

impl Part {
    fn limit(&self) -> u64 {
        self.limit.clamp(1, 100_000)
    }

    fn of<T>(&self, items: Vec<T>) -> fettle_wire::api::Page<T> {
        let total = items.len() as u64;
        let items =
            items.into_iter().skip(self.offset as usize).take(self.limit() as usize).collect();
        fettle_wire::api::Page { total, items }
    }
}

#[cfg(test)]
mod tests;
