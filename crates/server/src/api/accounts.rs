//! Accounts: people who come by a password. Passwords come in and never go out.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::now;
use crate::login::Denied;
use crate::session::Came;
use crate::{accounts, setup};
use axum::Json;
use axum::http::StatusCode;
use fettle_wire::api::{
    AccountRow, AddAccount, ChangePassword, OwnAccount, Page, SetPassword, SetUp,
};

/// All accounts, the disabled and revoked ones too, by name, with how they come and when they last did.
#[utoipa::path(
    get, path = "/accounts", tag = "accounts", params(Part),
    responses((status = 200, body = Page<AccountRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<AccountRow>> {
    look(&app, move |_, view| Ok(part.of(accounts::rows(view, now())?))).await
}

/// Add somebody who comes by a name and a password.
#[utoipa::path(
    post, path = "/accounts", tag = "accounts", request_body = AddAccount,
    responses((status = 201, body = AccountRow), Failures)
)]
pub(super) async fn add(
    app: Asked,
    who: Who,
    Body(asked): Body<AddAccount>,
) -> Result<(StatusCode, Json<AccountRow>), Failure> {
    Ok((StatusCode::CREATED, Json(accounts::add(&app, who, asked).await?)))
}

/// Give somebody a password: their first, or one in place of another. All their sessions end.
#[utoipa::path(
    put, path = "/accounts/{name}/password", tag = "accounts", request_body = SetPassword,
    params(("name" = String, Path, description = "The name")),
    responses((status = 200, body = AccountRow), Failures)
)]
pub(super) async fn set_password(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Body(asked): Body<SetPassword>,
) -> Answer<AccountRow> {
    Ok(Json(accounts::set_password(&app, who, name, asked).await?))
}

/// Disable an account: neither password nor token opens anything, all its sessions end, its approvals do not count.
#[utoipa::path(
    post, path = "/accounts/{name}/disable", tag = "accounts",
    params(("name" = String, Path, description = "The name")),
    responses((status = 200, body = AccountRow), Failures)
)]
pub(super) async fn disable(app: Asked, who: Who, At(name): At<String>) -> Answer<AccountRow> {
    let row = app.blocking(move |app| accounts::set_disabled(app, &who, &name, true)).await?;
    Ok(Json(row))
}

/// Enable an account that was disabled.
#[utoipa::path(
    post, path = "/accounts/{name}/enable", tag = "accounts",
    params(("name" = String, Path, description = "The name")),
    responses((status = 200, body = AccountRow), Failures)
)]
pub(super) async fn enable(app: Asked, who: Who, At(name): At<String>) -> Answer<AccountRow> {
    let row = app.blocking(move |app| accounts::set_disabled(app, &who, &name, false)).await?;
    Ok(Json(row))
}

/// Make the first account, an admin's, on a server that never had one. In place of a token it asks for the set-up secret, which
/// the server keeps in its data directory until then; afterwards, and for good, the answer is 404.
#[utoipa::path(
    post, path = "/setup", tag = "accounts", request_body = SetUp,
    responses((status = 201, body = AccountRow), Failures)
)]
pub(super) async fn set_up(
    app: Asked,
    came: Came,
    Body(asked): Body<SetUp>,
) -> Result<(StatusCode, Json<AccountRow>), Denied> {
    Ok((StatusCode::CREATED, Json(setup::by_call(&app, &came, asked).await?)))
}

/// Who asks: what they may do, how they come, and their sessions.
#[utoipa::path(
    get, path = "/account", tag = "accounts",
    responses((status = 200, body = OwnAccount), Failures)
)]
pub(super) async fn own(app: Asked, who: Who) -> Answer<OwnAccount> {
    look(&app, move |_, view| accounts::own(view, &who, now())).await
}

/// Change one's own password. All one's sessions end.
#[utoipa::path(
    put, path = "/account/password", tag = "accounts", request_body = ChangePassword,
    responses((status = 204, description = "The password is changed"), Failures)
)]
pub(super) async fn change_own(
    app: Asked,
    who: Who,
    came: Came,
    Body(asked): Body<ChangePassword>,
) -> Result<StatusCode, Denied> {
    accounts::change_own(&app, who, came, asked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End all one's own sessions of the web pages.
#[utoipa::path(
    delete, path = "/account/sessions", tag = "accounts",
    responses((status = 204, description = "They have ended"), Failures)
)]
pub(super) async fn end_sessions(app: Asked, who: Who) -> Result<StatusCode, Failure> {
    app.blocking(move |app| accounts::end_own(app, &who, None)).await?;
    Ok(StatusCode::NO_CONTENT)
}
