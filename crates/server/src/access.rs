//! Who asks, and may they? Every route is declared together with the role it needs (in `api`, `site` and `router`);
//! [`table`] is read from those very declarations, and there is no other way to add a route.
//!
//! A request is *identified* first (a token, or a page's session), then the route's own guard looks at the role, and
//! only the guard lets `Who` through to a handler. A route without a guard cannot act in anybody's name.

use crate::api::{Failure, Refused};
use crate::app::{App, now};
use crate::session::by_session;
use crate::trust::same_secret;
use crate::{api, router, site};
use axum::extract::{FromRequestParts, Request};
use axum::http::{HeaderMap, Method, StatusCode, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fettle_core::login::Way;
use fettle_core::operator::{BOOTSTRAP, Operator, Role, Standing, listed};
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::{View, operators};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The server's own token was used in somebody else's name.
const NAME_TAKEN: &str = "name-taken";

/// What one route needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `GET`, `POST` or `DELETE`.
    pub method: Method,
    /// As it is routed: `/api/v1/plans/{number}`.
    pub path: String,
    /// The role; `None`: open to everyone who reaches the port.
    pub needs: Option<Role>,
}

/// Every route on the operators' port, with what it needs.
pub fn table() -> Vec<Rule> {
    [api::rules(), site::rules(), router::rules()].concat()
}

/// Who asks, as far as the guard of a route has let them through.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// For the ledger.
    pub(crate) name: String,
    /// Whom the token speaks for: the operator's name, or [`BOOTSTRAP`] whatever name its holder gave. Approvals and
    /// the makers of plans are told apart by this one.
    pub(crate) principal: String,
    /// What they may do.
    pub(crate) roles: BTreeSet<Role>,
    /// Until when.
    pub(crate) until: Option<Timestamp>,
    /// What vouched for them.
    pub(crate) way: Way,
    /// The session of the web pages that they come with, if it is one.
    pub(crate) session: Option<Digest>,
}

/// Who asks, before any guard has looked.
#[derive(Debug, Clone)]
pub(crate) struct Identified(pub(crate) Who);

impl Who {
    /// As the ledger names it.
    pub(crate) fn actor(&self) -> String {
        format!("operator:{}", self.name)
    }

    /// The operator, who came by this way.
    pub(crate) fn is(operator: Operator, way: Way) -> Self {
        let Operator { name, roles, expires_at, .. } = operator;
        Self { principal: name.clone(), name, roles, until: expires_at, way, session: None }
    }

    /// May they do what needs this role?
    pub(crate) fn may(&self, needs: Role) -> Result<(), Problem> {
        if needs.is_given_by(&self.roles) {
            return Ok(());
        }
        let message =
            format!("this needs the role {needs}; {} has {}", self.name, listed(&self.roles));
        let hint = format!(
            "ask someone with that role (`fettle operator list`), or an admin for one of your own: `fettle operator add NAME --role {needs}`"
        );
        Err(Problem::new(ProblemKind::Forbidden, "role-needed", message, hint))
    }
}

impl FromRequestParts<Arc<App>> for Who {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Failure> {
        // Invariant: the route's guard put it there; without a guard nobody gets here.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Failure(no_token()))
    }
}

pub(crate) fn no_token() -> Problem {
    Problem::new(
        ProblemKind::Forbidden,
        "no-token",
        "this call needs an operator's token",
        "send `Authorization: Bearer TOKEN`; `fettle operator add NAME --role ROLE` makes one, the first is in DATA/operator.token on the server",
    )
}

fn bad_token(code: &str, message: impl std::fmt::Display) -> Problem {
    let hint = "ask an admin for another: `fettle operator add NAME --role ROLE`; the first is in DATA/operator.token on the server";
    Problem::new(ProblemKind::Forbidden, code, message, hint)
}

/// An account that an admin has disabled.
pub(crate) fn disabled(name: &str, since: Timestamp) -> Problem {
    let message = format!("the account of {name} is disabled since {since}");
    let hint = format!("ask an admin to enable it: `fettle account enable {name}`");
    Problem::new(ProblemKind::Forbidden, "account-disabled", message, hint)
}

/// The name given by `X-Fettle-Operator`, as far as it is one.
fn given_name(headers: &HeaderMap) -> Option<String> {
    let given = headers.get("x-fettle-operator").and_then(|v| v.to_str().ok())?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    ((1..=64).contains(&given.len()) && given.chars().all(fits)).then(|| given.to_owned())
}

/// Who comes with this token. The header's name is heard only with the server's own token.
pub(crate) async fn by_token(
    app: &Arc<App>,
    token: &[u8],
    headers: Option<&HeaderMap>,
) -> Result<Who, Problem> {
    if same_secret(token, app.trust.operator_token.as_bytes()) {
        let mut who = Who::is(Operator::bootstrap(), Way::ServerToken);
        if let Some(name) = headers.and_then(given_name).filter(|name| name != BOOTSTRAP) {
            who.name = app.blocking(move |app| app.store.read(|view| free(view, name))).await?;
        }
        return Ok(who);
    }
    let hash = Digest::of(token);
    let found = app
        .blocking(move |app| {
            app.store.read::<_, Problem>(|view| Ok(operators::by_token(view, hash)?))
        })
        .await?;
    let operator = found
        .ok_or_else(|| bad_token("bad-token", "this token is nobody's: it was not made here"))?;
    let at = now();
    match operator.standing(at) {
        Standing::Good => match operator.disabled_since(at) {
            Some(since) => Err(disabled(&operator.name, since)),
            None => Ok(Who::is(operator, Way::Token)),
        },
        Standing::Expired { since } => {
            let message = format!("the token of {} expired at {since}", operator.name);
            Err(bad_token("token-expired", message))
        }
        Standing::Revoked { since } => {
            let message = format!("the token of {} was revoked at {since}", operator.name);
            Err(bad_token("token-revoked", message))
        }
    }
}

/// Nobody speaks in the name of somebody who has a token of their own.
fn free(view: &View<'_>, name: String) -> Result<String, Problem> {
    if operators::get(view, &name.to_ascii_lowercase())?.is_none() {
        return Ok(name);
    }
    let message = format!("`{name}` is an operator with a token of their own");
    let hint = "use that token, or give another name in X-Fettle-Operator";
    Err(Problem::new(ProblemKind::Forbidden, NAME_TAKEN, message, hint))
}

/// Identifies a call of the API: by its bearer token; one that only reads also by a page's session.
pub(crate) async fn identify(
    axum::extract::State(app): axum::extract::State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let bearer =
        headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
    let who = match bearer {
        Some(token) => by_token(&app, token.trim_ascii(), Some(headers)).await,
        // A cookie goes along with whatever another site makes a browser send: it may look, not change.
        None if *request.method() == Method::GET => {
            by_session(&app, headers).await.and_then(|who| who.ok_or_else(no_token))
        }
        None => Err(no_token()),
    };
    match who {
        Ok(who) => go_on(app, who, request, next).await,
        Err(problem) => {
            if let (NAME_TAKEN, Some(change)) = (problem.code.as_str(), Change::of(&request)) {
                let actor = Who::is(Operator::bootstrap(), Way::ServerToken).actor();
                change.refused(&app, actor, problem.clone()).await;
            }
            Failure(problem).into_response()
        }
    }
}

/// Goes on as `who`, and writes it down when they are refused something that would have changed something.
pub(crate) async fn go_on(app: Arc<App>, who: Who, mut request: Request, next: Next) -> Response {
    let change = Change::of(&request);
    let actor = who.actor();
    request.extensions_mut().insert(Identified(who));
    let response = next.run(request).await;
    // Unauthorized: they come by a good token, and did not show the password that this asks for beside it.
    let refused = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&response.status());
    if let Some(change) = change.filter(|_| refused)
        && let Some(Refused(problem)) = response.extensions().get::<Refused>().cloned()
    {
        change.refused(&app, actor, problem).await;
    }
    response
}

/// A request that would change something.
struct Change {
    method: String,
    path: String,
}

impl Change {
    fn of(request: &Request) -> Option<Self> {
        let method = request.method();
        let path = request.uri().path().chars().take(200).collect();
        (!method.is_safe()).then(|| Self { method: method.to_string(), path })
    }

    /// Writes down that somebody was refused it.
    async fn refused(self, app: &Arc<App>, actor: String, problem: Problem) {
        let Self { method, path } = self;
        tracing::warn!(actor, method, path, code = problem.code, "refused: {problem}");
        // Whoever asks in a loop does not fill the disk; the log has them all.
        if !app.refusals.allow() {
            return;
        }
        let noted = app.blocking(move |app| {
            app.store.write::<_, Problem>(&actor, now(), |tx| {
                let body = serde_json::json!({
                    "method": method, "code": problem.code, "message": problem.message,
                });
                tx.record("access.refused", &path, body);
                Ok(())
            })
        });
        if let Err(error) = noted.await {
            tracing::error!(code = error.code, "a refusal is not in the ledger: {error}");
        }
    }
}

/// The guard of one route: whoever lacks the role is told so by `refuse`.
pub(crate) async fn guard(
    needs: Role,
    refuse: fn(&Request, &Identified, Problem) -> Response,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(identified) = request.extensions().get::<Identified>().cloned() else {
        return Failure(no_token()).into_response();
    };
    match identified.0.may(needs) {
        Ok(()) => {
            request.extensions_mut().insert(identified.0);
            next.run(request).await
        }
        Err(problem) => refuse(&request, &identified, problem),
    }
}
