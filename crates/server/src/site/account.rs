//! Coming and going, the first set-up, and the page of one's own account.

use super::form::Form;
use super::forms::act;
use super::{Asked, Visit, html, path_of, refusal, user};
use crate::access::{Who, by_token};
use crate::agents::status_of;
use crate::api::operators::{expiry, give_another};
use crate::app::{App, now};
use crate::login::{self, Counted, Denied};
use crate::session::{self, Came, with_cookie};
use crate::web::View;
use crate::web::pages::{self, AccountNotes};
use crate::{accounts, setup as first};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{ChangePassword, Secret, SetUp};
use maud::Markup;
use serde::Deserialize;
use std::sync::Arc;

/// What a page says to nobody in particular.
fn nobody(uri: &Uri) -> View<'_> {
    View { now: now(), path: path_of(uri), news: None, user: None }
}

pub(super) async fn login(State(app): Asked, uri: Uri) -> Response {
    html(StatusCode::OK, pages::login(&nobody(&uri), None, first::secret(&app).is_some()))
}

/// By name and password, or by a token.
#[derive(Deserialize)]
pub(super) struct LoginForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
}

pub(super) async fn log_in(
    State(app): Asked,
    uri: Uri,
    came: Came,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    let LoginForm { name, password, token } = form;
    let let_in = if token.trim().is_empty() {
        login::by_password(&app, &came, &headers, &name, password).await
    } else {
        with_token(&app, &came, token.trim().as_bytes()).await
    };
    match let_in {
        Ok(it) => {
            let answer = Redirect::to("/").into_response();
            it.cookies.iter().fold(answer, |answer, cookie| with_cookie(answer, cookie))
        }
        Err(denied) => {
            let page = |wrong: &str| {
                pages::login(&nobody(&uri), Some(wrong), first::secret(&app).is_some())
            };
            not_let_in(&uri, None, denied, page)
        }
    }
}

/// A token that is right is let in however many are tried beside it: nobody guesses one.
async fn with_token(app: &Arc<App>, came: &Came, token: &[u8]) -> Result<login::LetIn, Denied> {
    match by_token(app, token, None).await {
        Ok(who) => login::by_token(app, came, &who, token).await,
        Err(problem) if status_of(&problem) == StatusCode::UNAUTHORIZED => {
            let by = Counted::from_where(came);
            app.throttle.begin(&by, now()).map_err(Denied::Wait)?;
            Err(problem.into())
        }
        Err(problem) => Err(problem.into()),
    }
}

/// The form again, with what was wrong; or the problem, where another try does not help.
fn not_let_in(
    uri: &Uri,
    who: Option<&Who>,
    denied: Denied,
    page: impl FnOnce(&str) -> Markup,
) -> Response {
    let told = |seconds: Option<i64>, problem: Problem| {
        let status = status_of(&problem);
        let again = seconds.is_some()
            || matches!(problem.kind, ProblemKind::BadInput)
            || status == StatusCode::UNAUTHORIZED
            || problem.code == "already-there";
        if !again {
            return refusal(uri, who, problem);
        }
        html(status, page(&format!("Not let in: {}. {}.", problem.message, upper(&problem.hint))))
    };
    match denied.seconds() {
        None => told(None, denied.problem()),
        Some(seconds) => {
            let wait = Denied::Wait(jiff::SignedDuration::from_secs(seconds));
            wait.told(told(Some(seconds), denied.problem()))
        }
    }
}

/// The hint as a sentence of its own.
fn upper(hint: &str) -> String {
    let mut chars = hint.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

pub(super) async fn logout(visit: Visit, came: Came) -> Response {
    let Visit { app, who, uri, .. } = visit;
    if let Err(problem) = app.blocking(move |app| accounts::log_out(app, &who)).await {
        return refusal(&uri, None, problem);
    }
    let answer = Redirect::to("/login").into_response();
    session::gone(&came).iter().fold(answer, |answer, cookie| with_cookie(answer, cookie))
}

pub(super) async fn setup(State(app): Asked, uri: Uri) -> Response {
    match first::is_open(&app).await {
        Ok(true) => html(StatusCode::OK, pages::setup(&nobody(&uri), "", None)),
        Ok(false) => refusal(&uri, None, first::closed()),
        Err(problem) => refusal(&uri, None, problem),
    }
}

#[derive(Deserialize)]
pub(super) struct SetUpForm {
    secret: String,
    name: String,
    password: String,
    again: String,
}

pub(super) async fn set_up(
    State(app): Asked,
    uri: Uri,
    came: Came,
    Form(form): Form<SetUpForm>,
) -> Response {
    match first::is_open(&app).await {
        Ok(true) => {}
        Ok(false) => return refusal(&uri, None, first::closed()),
        Err(problem) => return refusal(&uri, None, problem),
    }
    let SetUpForm { secret, name, password, again } = form;
    let made = match alike(&password, &again) {
        Ok(()) => {
            let (secret, password) = (Secret(secret), Secret(password));
            let asked = SetUp { secret, name: name.clone(), password };
            first::with_session(&app, &came, asked).await
        }
        Err(problem) => Err(problem.into()),
    };
    match made {
        Ok(cookie) => with_cookie(Redirect::to("/").into_response(), &cookie),
        Err(denied) => {
            let page = |wrong: &str| pages::setup(&nobody(&uri), &name, Some(wrong));
            not_let_in(&uri, None, denied, page)
        }
    }
}

/// What was typed twice was typed the same.
fn alike(password: &str, again: &str) -> Result<(), Problem> {
    if password == again {
        return Ok(());
    }
    let message = "the two new passwords are not the same";
    Err(Problem::new(ProblemKind::BadInput, "bad-password", message, "type it twice, the same"))
}

pub(super) async fn page(visit: Visit) -> Response {
    shown(visit, StatusCode::OK, AccountNotes::default()).await
}

/// The page of one's own account, with what there is to say.
async fn shown(visit: Visit, status: StatusCode, notes: AccountNotes<'_>) -> Response {
    let Visit { app, who, uri, news } = visit;
    let asker = who.clone();
    let own = app
        .blocking(move |app| app.store.read(|stored| accounts::own(stored, &asker, now())))
        .await;
    match own {
        Ok(own) => {
            let view = View {
                now: now(),
                path: path_of(&uri),
                // A page with a token on it is not loaded anew by itself.
                news: notes.token.is_none().then_some(news),
                user: Some(user(&who)),
            };
            html(status, pages::account(&view, &own, &notes))
        }
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

/// The page again, with why it was not done.
async fn not_done(visit: Visit, denied: Denied) -> Response {
    let wait = denied.seconds();
    let problem = denied.problem();
    if wait.is_none() && problem.kind == ProblemKind::Internal {
        return refusal(&visit.uri, Some(&visit.who), problem);
    }
    let status = status_of(&problem);
    let wrong = format!("Not done: {}. {}.", problem.message, upper(&problem.hint));
    let notes = AccountNotes { wrong: Some(&wrong), ..AccountNotes::default() };
    let answer = shown(visit, status, notes).await;
    match wait {
        Some(seconds) => Denied::Wait(jiff::SignedDuration::from_secs(seconds)).told(answer),
        None => answer,
    }
}

#[derive(Deserialize)]
pub(super) struct PasswordForm {
    current: String,
    new: String,
    again: String,
}

pub(super) async fn change_password(
    visit: Visit,
    came: Came,
    Form(form): Form<PasswordForm>,
) -> Response {
    let PasswordForm { current, new, again } = form;
    if let Err(problem) = alike(&new, &again) {
        return not_done(visit, problem.into()).await;
    }
    let asked = ChangePassword { current: Secret(current), new: Secret(new) };
    match accounts::change_own(&visit.app, visit.who.clone(), came, asked).await {
        Ok(Some(cookie)) => with_cookie(Redirect::to("/account?changed").into_response(), &cookie),
        Ok(None) => Redirect::to("/login").into_response(),
        Err(denied) => not_done(visit, denied).await,
    }
}

pub(super) async fn end_others(visit: Visit) -> Response {
    act(visit, |app, who| {
        accounts::end_own(app, who, who.session)?;
        Ok("/account".to_owned())
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct TokenForm {
    current: String,
    days: u64,
}

/// A new token for oneself. Whoever found an open page gets none: the password is asked for.
pub(super) async fn new_token(visit: Visit, Form(form): Form<TokenForm>) -> Response {
    match own_token(&visit, form).await {
        Ok(token) => {
            let notes = AccountNotes { token: Some(&token), ..AccountNotes::default() };
            shown(visit, StatusCode::OK, notes).await
        }
        Err(denied) => not_done(visit, denied).await,
    }
}

async fn own_token(visit: &Visit, form: TokenForm) -> Result<String, Denied> {
    let TokenForm { current, days } = form;
    let expires_at = expiry(Some(days.saturating_mul(86_400)))?;
    let who = visit.who.clone();
    accounts::shown(&visit.app, &who, current).await?;
    let given = visit.app.blocking(move |app| give_another(app, &who, &who.principal, expires_at));
    Ok(given.await?.1)
}

pub(super) async fn disable(visit: Visit, Path(name): Path<String>) -> Response {
    act(visit, move |app, who| {
        accounts::set_disabled(app, who, &name, true)?;
        Ok("/settings#accounts".to_owned())
    })
    .await
}

pub(super) async fn enable(visit: Visit, Path(name): Path<String>) -> Response {
    act(visit, move |app, who| {
        accounts::set_disabled(app, who, &name, false)?;
        Ok("/settings#accounts".to_owned())
    })
    .await
}
