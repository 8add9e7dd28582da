//! Accounts: what admins do with everybody's, and everybody with their own. The API and the pages do it by these.

use crate::access::Who;
use crate::app::{App, now};
use crate::login::{Denied, still_them};
use crate::session::{self, Came};
use crate::{passwords, setup};
use fettle_core::login::{Way, session_end};
use fettle_core::operator::{BOOTSTRAP, Standing, check_name};
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::accounts::Account;
use fettle_store::sessions::Session;
use fettle_store::{View, accounts, sessions};
use fettle_wire::api::{
    AccountRow, AddAccount, ChangePassword, OwnAccount, SessionRow, SetPassword,
};
use std::sync::Arc;

/// Can this be somebody's name and password?
pub(crate) fn checked(name: &str, password: &str) -> Result<(), Problem> {
    check_name(name).map_err(|e| {
        let hint = "for example `fettle account add alice --role viewer`";
        Problem::new(ProblemKind::BadInput, "bad-name", e, hint)
    })?;
    passwords::allowed(name, password)
}

fn row(it: Account, sessions: &[Session], at: Timestamp) -> AccountRow {
    let Account { operator, has_token, password_set_at, came_at } = it;
    let (state, state_since, state_by) = match operator.standing(at) {
        Standing::Revoked { since } => ("revoked", Some(since), operator.revoked_by),
        Standing::Good | Standing::Expired { .. } => match operator.disabled_since(at) {
            Some(since) => ("disabled", Some(since), operator.disabled_by),
            None => ("good", None, None),
        },
    };
    AccountRow {
        sessions: sessions.iter().filter(|it| it.principal == operator.name).count() as u64,
        name: operator.name,
        roles: operator.roles,
        state: state.to_owned(),
        state_since,
        state_by,
        password_set_at,
        has_token,
        token_expires_at: operator.expires_at,
        last_log_in_at: came_at,
        created_at: operator.created_at,
        created_by: operator.created_by,
    }
}

/// All accounts, the revoked ones too, by name.
pub(crate) fn rows(view: &View<'_>, at: Timestamp) -> Result<Vec<AccountRow>, Problem> {
    let sessions = sessions::of(view, None, at)?;
    Ok(accounts::all(view)?.into_iter().map(|it| row(it, &sessions, at)).collect())
}

/// One of them.
pub(crate) fn one(view: &View<'_>, name: &str, at: Timestamp) -> Result<AccountRow, Problem> {
    let sessions = sessions::of(view, Some(name), at)?;
    let found = accounts::get(view, name)?.map(|it| row(it, &sessions, at));
    found.ok_or_else(|| {
        let message = format!("there is no account `{name}`");
        Problem::new(ProblemKind::NotFound, "not-found", message, "`fettle account list` names all")
    })
}

/// Who asks, and how they come.
pub(crate) fn own(view: &View<'_>, who: &Who, at: Timestamp) -> Result<OwnAccount, Problem> {
    let account =
        if who.principal == BOOTSTRAP { None } else { Some(one(view, &who.principal, at)?) };
    let sessions = sessions::of(view, Some(&who.principal), at)?.into_iter().map(|it| SessionRow {
        way: it.way,
        began_at: it.began_at,
        seen_at: it.seen_at,
        ends_at: session_end(it.began_at, it.seen_at),
        address: it.address,
        browser: it.browser,
        this: who.session == Some(it.id),
    });
    Ok(OwnAccount {
        name: who.principal.clone(),
        roles: who.roles.clone(),
        account,
        sessions: sessions.collect(),
    })
}

/// Adds somebody who comes by a password.
pub(crate) async fn add(
    app: &Arc<App>,
    who: Who,
    asked: AddAccount,
) -> Result<AccountRow, Problem> {
    let AddAccount { name, roles, password } = asked;
    checked(&name, &password.0)?;
    if roles.is_empty() {
        let message = format!("{name} has no role, and could do nothing");
        let hint = "give viewer, auditor, operator, approver or admin";
        return Err(Problem::new(ProblemKind::BadInput, "no-role", message, hint));
    }
    let phc = app.hashing(move || passwords::hash(&password.0)).await?;
    app.blocking(move |app| {
        let row = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            accounts::add(tx, &name, &roles, &phc)?;
            one(tx, &name, tx.now())
        })?;
        setup::close(app);
        app.events.tell("operator", &name);
        Ok(row)
    })
    .await
}

/// Gives somebody a password, their first or another one.
pub(crate) async fn set_password(
    app: &Arc<App>,
    who: Who,
    name: String,
    asked: SetPassword,
) -> Result<AccountRow, Problem> {
    passwords::allowed(&name, &asked.password.0)?;
    let phc = app.hashing(move || passwords::hash(&asked.password.0)).await?;
    app.blocking(move |app| {
        let row = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            accounts::set_password(tx, &name, &phc)?;
            one(tx, &name, tx.now())
        })?;
        setup::close(app);
        ended(app, &name);
        Ok(row)
    })
    .await
}

/// What somebody has open ends, and whoever still may comes back.
fn ended(app: &App, name: &str) {
    app.revoked.send_modify(|times| *times += 1);
    app.events.tell("operator", name);
}

/// Disables an account, or enables it again.
pub(crate) fn set_disabled(
    app: &App,
    who: &Who,
    name: &str,
    disabled: bool,
) -> Result<AccountRow, Problem> {
    let row = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        if disabled {
            accounts::disable(tx, name)?;
        } else {
            accounts::enable(tx, name)?;
        }
        one(tx, name, tx.now())
    })?;
    ended(app, name);
    Ok(row)
}

/// Somebody shows once more that it is them, by their password.
pub(crate) async fn shown(
    app: &Arc<App>,
    who: &Who,
    password: String,
) -> Result<accounts::Password, Denied> {
    let name = who.principal.clone();
    let asked = name.clone();
    let has = app
        .blocking(move |app| {
            app.store.read::<_, Problem>(|view| Ok(accounts::password(view, &asked)?.is_some()))
        })
        .await?;
    if !has {
        let message = format!("{name} has no password");
        let hint = "ask an admin to set one: `fettle account password NAME`; with the server's own token: `fettle account add NAME --role admin`";
        return Err(Problem::new(ProblemKind::Conflict, "no-password", message, hint).into());
    }
    still_them(app, &name, password).await
}

/// Changes one's own password. All sessions end; who came by one gets another: the cookie.
pub(crate) async fn change_own(
    app: &Arc<App>,
    who: Who,
    came: Came,
    asked: ChangePassword,
) -> Result<Option<String>, Denied> {
    let ChangePassword { current, new } = asked;
    let before = shown(app, &who, current.0).await?;
    passwords::allowed(&who.principal, &new.0)?;
    let phc = app.hashing(move || passwords::hash(&new.0)).await?;
    let cookie = app
        .blocking(move |app| {
            let name = &who.principal;
            let cookie = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                // Another one was set while this one was looked at.
                if accounts::password(tx, name)?.is_none_or(|it| it.set_at != before.set_at) {
                    let message = "the password was changed a moment ago";
                    let hint = "log in with the new one";
                    let kind = ProblemKind::Conflict;
                    return Err(Problem::new(kind, "changed-meanwhile", message, hint));
                }
                accounts::set_password(tx, name, &phc)?;
                if who.session.is_none() {
                    return Ok(None);
                }
                let set_at = accounts::password(tx, name)?.map(|it| session::mark_set(it.set_at));
                let mark = set_at.unwrap_or_default();
                let (cookie, session) = session::fresh(&came, name, Way::Password, mark)?;
                session::begin(app, tx, &session)?;
                Ok(Some(cookie))
            })?;
            ended(app, name);
            Ok(cookie)
        })
        .await?;
    Ok(cookie)
}

/// Ends one's own sessions, but for one.
pub(crate) fn end_own(app: &App, who: &Who, but: Option<Digest>) -> Result<(), Problem> {
    app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        let ended = sessions::end_all(tx, &who.principal, but)?;
        tx.record("session.ended", &who.principal, serde_json::json!({ "sessions": ended }));
        Ok(())
    })?;
    app.revoked.send_modify(|times| *times += 1);
    Ok(())
}

/// Logs out: ends the session that somebody came with.
pub(crate) fn log_out(app: &App, who: &Who) -> Result<(), Problem> {
    let Some(id) = who.session else { return Ok(()) };
    app.store.write::<_, Problem>(&who.actor(), now(), |tx| Ok(sessions::end(tx, id)?))?;
    app.revoked.send_modify(|times| *times += 1);
    Ok(())
}
