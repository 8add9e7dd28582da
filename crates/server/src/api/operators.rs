//! Operators: added with a token that is shown once, revoked for good.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::{App, now};
use crate::trust::{hex, random};
use crate::views::operator_row;
use axum::http::StatusCode;
use fettle_core::operator::{Operator, check_name};
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::operators as stored;
use fettle_wire::api::{AddOperator, OperatorAdded, OperatorRow, Page, RenewOperator};

/// What a token begins with, so that a scanner of leaked secrets can know one.
const PREFIX: &str = "fettle-operator1.";
/// A token lives from a minute to ten years.
const LIVES: std::ops::RangeInclusive<u64> = 60..=315_360_000;

/// All operators, the revoked ones too, by name.
#[utoipa::path(
    get, path = "/operators", tag = "operators", params(Part),
    responses((status = 200, body = Page<OperatorRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<OperatorRow>> {
    look(&app, move |_, view| {
        let at = now();
        let rows = stored::all(view)?.into_iter().map(|it| operator_row(it, at));
        Ok(part.of(rows.collect()))
    })
    .await
}

/// Add an operator. The token is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/operators", tag = "operators", request_body = AddOperator,
    responses((status = 201, body = OperatorAdded), Failures)
)]
pub(super) async fn add(
    app: Asked,
    who: Who,
    Body(asked): Body<AddOperator>,
) -> Result<(StatusCode, axum::Json<OperatorAdded>), Failure> {
    let added = app
        .blocking(move |app| {
            let wrong = |code: &str, message: String, hint: &str| {
                Problem::new(ProblemKind::BadInput, code, message, hint)
            };
            check_name(&asked.name).map_err(|e| {
                wrong(
                    "bad-name",
                    e.to_string(),
                    "for example `fettle operator add alice --role viewer`",
                )
            })?;
            if asked.roles.is_empty() {
                let message = format!("{} has no role, and could do nothing", asked.name);
                return Err(wrong("no-role", message, "give viewer, operator, approver or admin"));
            }
            let expires_at = expiry(asked.expires_seconds)?;
            let (token, hash) = fresh()?;
            let operator = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                Ok(stored::add(tx, &asked.name, &asked.roles, hash, expires_at)?)
            })?;
            app.events.tell("operator", &asked.name);
            Ok(OperatorAdded { operator: operator_row(operator, now()), token })
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(added)))
}

/// When a token expires that lives so long.
pub(crate) fn expiry(seconds: Option<u64>) -> Result<Option<Timestamp>, Problem> {
    let Some(seconds) = seconds else { return Ok(None) };
    if !LIVES.contains(&seconds) {
        let message = format!("a token cannot live for {seconds} s");
        let hint = "give 60 to 315,360,000 seconds";
        return Err(Problem::new(ProblemKind::BadInput, "bad-ttl", message, hint));
    }
    Ok(Some(now() + jiff::SignedDuration::from_secs(seconds as i64)))
}

/// Gives `name` another token, good until then, at the word of `who`: what the one before had opened ends at once.
pub(crate) fn give_another(
    app: &App,
    who: &Who,
    name: &str,
    expires_at: Option<Timestamp>,
) -> Result<(Operator, String), Problem> {
    let (token, hash) = fresh()?;
    let operator = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        Ok(stored::renew(tx, name, hash, expires_at)?)
    })?;
    app.revoked.send_modify(|times| *times += 1);
    app.events.tell("operator", name);
    Ok((operator, token))
}

/// A new token and its hash.
fn fresh() -> Result<(String, Digest), Problem> {
    let token = format!("{PREFIX}{}", hex(&random::<32>()?));
    let hash = Digest::of(token.as_bytes());
    Ok((token, hash))
}

/// Give an operator a new token: the one before expires, or is lost. That one is worth nothing from now on, and so are
/// its sessions; name, roles and approvals stay.
#[utoipa::path(
    post, path = "/operators/{name}/token", tag = "operators", request_body = RenewOperator,
    params(("name" = String, Path, description = "The name")),
    responses((status = 201, body = OperatorAdded), Failures)
)]
pub(super) async fn renew(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Body(asked): Body<RenewOperator>,
) -> Result<(StatusCode, axum::Json<OperatorAdded>), Failure> {
    let given = app
        .blocking(move |app| {
            let expires_at = expiry(asked.expires_seconds)?;
            let (operator, token) = give_another(app, &who, &name, expires_at)?;
            Ok(OperatorAdded { operator: operator_row(operator, now()), token })
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(given)))
}

/// The operator may do nothing from now on: the token is worth nothing, sessions end, approvals count no more.
#[utoipa::path(
    delete, path = "/operators/{name}", tag = "operators", params(("name" = String, Path, description = "The name")),
    responses((status = 204, description = "The operator is revoked"), Failures)
)]
pub(super) async fn revoke(
    app: Asked,
    who: Who,
    At(name): At<String>,
) -> Result<StatusCode, Failure> {
    let revoked = name.clone();
    app.blocking(move |app| {
        app.store.write::<_, Problem>(&who.actor(), now(), |tx| Ok(stored::revoke(tx, &revoked)?))
    })
    .await?;
    app.revoked.send_modify(|times| *times += 1);
    app.events.tell("operator", &name);
    Ok(StatusCode::NO_CONTENT)
}
