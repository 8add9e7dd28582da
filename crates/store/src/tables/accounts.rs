//! Accounts: operators as people who have a password, may be disabled for a while, and were last here at some time. What a
//! password is hashed to is kept here; the ledger says that there is another one, and never which.

use super::operators::{operator, unrevoked};
use super::{sessions, settings};
use crate::view::{from_micros, micros};
use crate::{StoreError, Tx, View};
use fettle_core::Timestamp;
use fettle_core::operator::{Operator, Role};
use rusqlite::params;
use serde_json::json;
use std::collections::BTreeSet;

/// Setting: since when the first set-up is closed. It is written once and never taken away.
const SET_UP: &str = "set-up-closed";

/// An operator with everything that concerns how they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As their token makes them.
    pub operator: Operator,
    /// Do they have a token, good or not?
    pub has_token: bool,
    /// When their password was set; `None`: they have none.
    pub password_set_at: Option<Timestamp>,
    /// When they last began a session.
    pub came_at: Option<Timestamp>,
}

/// What a password was hashed to.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// The string that names algorithm, parameters and salt.
    pub phc: String,
    /// When it was set: what tells one from the next.
    pub set_at: Timestamp,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password(set at {})", self.set_at)
    }
}

const SELECT: &str = "SELECT o.name, o.roles, o.created_at, o.created_by, o.expires_at, o.revoked_at, \
     o.revoked_by, o.disabled_at, o.disabled_by, o.token_hash IS NOT NULL, p.set_at, o.came_at \
     FROM operators o LEFT JOIN passwords p ON p.operator = o.name";

fn account(row: &rusqlite::Row<'_>) -> Result<Account, StoreError> {
    let time = |micros: Option<i64>| micros.map(from_micros);
    Ok(Account {
        operator: operator(row)?,
        has_token: row.get(9)?,
        password_set_at: time(row.get(10)?),
        came_at: time(row.get(11)?),
    })
}

/// All operators, the revoked ones too, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<Account>, StoreError> {
    view.all(&format!("{SELECT} ORDER BY o.name"), [], account)
}

/// The account of that name, if there is or was one.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, name: &str) -> Result<Option<Account>, StoreError> {
    view.one(&format!("{SELECT} WHERE o.name = $1"), [name], account)
}

/// The operator's password, if they have one.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn password(view: &View<'_>, name: &str) -> Result<Option<Password>, StoreError> {
    view.one("SELECT phc, set_at FROM passwords WHERE operator = $1", [name], |row| {
        Ok(Password { phc: row.get(0)?, set_at: from_micros(row.get(1)?) })
    })
}

/// Adds an operator who comes by a password and has no token.
///
/// # Errors
/// [`StoreError::Exists`] when somebody has or had the name.
pub fn add(
    tx: &mut Tx<'_>,
    name: &str,
    roles: &BTreeSet<Role>,
    phc: &str,
) -> Result<(), StoreError> {
    super::operators::insert(tx, name, roles, None, None)?;
    put(tx, name, phc)?;
    tx.record("account.added", name, json!({ "roles": roles }));
    close_set_up(tx)
}

/// Gives an operator a password in place of the one they have, if any. All their sessions end with this transaction.
///
/// # Errors
/// [`StoreError::Missing`] when there is none, [`StoreError::Conflict`] when they were revoked.
pub fn set_password(tx: &mut Tx<'_>, name: &str, phc: &str) -> Result<(), StoreError> {
    unrevoked(tx, name)?;
    put(tx, name, phc)?;
    let ended = sessions::end_all(tx, name, None)?;
    tx.record("account.password-set", name, json!({ "sessions_ended": ended }));
    close_set_up(tx)
}

fn put(tx: &mut Tx<'_>, name: &str, phc: &str) -> Result<(), StoreError> {
    let (actor, before) = (tx.actor().to_owned(), password(tx, name)?);
    // Two in the same microsecond are two all the same.
    let after = before.map_or(i64::MIN, |before| micros(before.set_at) + 1);
    let now = micros(tx.now()).max(after);
    tx.execute(
        "INSERT INTO passwords (operator, phc, set_at, set_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (operator) DO UPDATE SET phc = excluded.phc, set_at = excluded.set_at, set_by = excluded.set_by",
        params![name, phc, now, actor],
    )?;
    Ok(())
}

/// Keeps the same password hashed anew, unless there is another one by now.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn rehashed(
    tx: &mut Tx<'_>,
    name: &str,
    before: &Password,
    phc: &str,
) -> Result<(), StoreError> {
    tx.execute_unrecorded(
        "UPDATE passwords SET phc = $1 WHERE operator = $2 AND phc = $3",
        params![phc, name, before.phc],
    )?;
    Ok(())
}

/// From now on the operator may do nothing, until somebody enables them. All their sessions end with this transaction.
///
/// # Errors
/// [`StoreError::Missing`] when there is none, [`StoreError::Conflict`] when they were revoked or are disabled.
pub fn disable(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    if let Some(at) = unrevoked(tx, name)?.disabled_at {
        return Err(StoreError::Conflict(format!("`{name}` is disabled since {at}")));
    }
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "UPDATE operators SET disabled_at = $1, disabled_by = $2 WHERE name = $3",
        params![now, actor, name],
    )?;
    let ended = sessions::end_all(tx, name, None)?;
    tx.record("account.disabled", name, json!({ "sessions_ended": ended }));
    Ok(())
}

/// The operator may again what their roles allow.
///
/// # Errors
/// [`StoreError::Missing`] when there is none, [`StoreError::Conflict`] when they were revoked or are not disabled.
pub fn enable(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    if unrevoked(tx, name)?.disabled_at.is_none() {
        return Err(StoreError::Conflict(format!("`{name}` is not disabled")));
    }
    tx.execute(
        "UPDATE operators SET disabled_at = NULL, disabled_by = NULL WHERE name = $1",
        [name],
    )?;
    tx.record("account.enabled", name, json!({}));
    Ok(())
}

/// May a first admin still be made by who holds the set-up secret? Once somebody has had a password, never again: also
/// when that account is disabled or revoked later.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set_up_is_open(view: &View<'_>) -> Result<bool, StoreError> {
    Ok(settings::get(view, SET_UP)?.is_none())
}

fn close_set_up(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if set_up_is_open(tx)? {
        let now = tx.now().to_string();
        settings::set(tx, SET_UP, &now)?;
    }
    Ok(())
}
