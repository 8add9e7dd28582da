//! Operators. Only the hashes of their tokens are kept; their passwords are in [`accounts`](crate::accounts).

use crate::view::{from_json, from_micros, micros, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::operator::{Operator, Role};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;
use std::collections::BTreeSet;

const COLUMNS: &str = "name, roles, created_at, created_by, expires_at, revoked_at, revoked_by, disabled_at, disabled_by";

pub(super) fn operator(row: &Row<'_>) -> Result<Operator, StoreError> {
    let time = |micros: Option<i64>| micros.map(from_micros);
    Ok(Operator {
        name: row.get(0)?,
        roles: from_json("roles", &row.get::<_, String>(1)?)?,
        created_at: from_micros(row.get(2)?),
        created_by: row.get(3)?,
        expires_at: time(row.get(4)?),
        revoked_at: time(row.get(5)?),
        revoked_by: row.get(6)?,
        disabled_at: time(row.get(7)?),
        disabled_by: row.get(8)?,
    })
}

/// Adds an operator with the hash of a new token.
///
/// # Errors
/// [`StoreError::Exists`] when somebody has or had the name.
pub fn add(
    tx: &mut Tx<'_>,
    name: &str,
    roles: &BTreeSet<Role>,
    token_hash: Digest,
    expires_at: Option<Timestamp>,
) -> Result<Operator, StoreError> {
    insert(tx, name, roles, Some(token_hash), expires_at)?;
    tx.record("operator.added", name, json!({ "roles": roles, "expires_at": expires_at }));
    known(tx, name)
}

/// A row for a name that nobody has or had.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    name: &str,
    roles: &BTreeSet<Role>,
    token_hash: Option<Digest>,
    expires_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    if let Some(known) = with_token(tx, name)? {
        let how = if known.revoked_at.is_some() { "was once" } else { "is already" };
        return Err(StoreError::Exists(format!("`{name}` {how} an operator's name")));
    }
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO operators (name, roles, token_hash, created_at, created_by, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            name,
            to_json("roles", roles)?,
            token_hash.map(|hash| hash.to_string()),
            now,
            actor,
            expires_at.map(micros)
        ],
    )?;
    Ok(())
}

/// All operators, the revoked ones too, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<Operator>, StoreError> {
    view.all(&format!("SELECT {COLUMNS} FROM operators ORDER BY name"), [], operator)
}

/// The person of that name, if there is or was one. When their token expires is not said where they have a password: they
/// are not gone with it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, name: &str) -> Result<Option<Operator>, StoreError> {
    let Some(found) = with_token(view, name)? else { return Ok(None) };
    let sql = "SELECT count(*) FROM passwords WHERE operator = $1";
    let expires_at = if view.count(sql, [name])? > 0 { None } else { found.expires_at };
    Ok(Some(Operator { expires_at, ..found }))
}

/// The operator of that name as their token makes them, if there is or was one.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn with_token(view: &View<'_>, name: &str) -> Result<Option<Operator>, StoreError> {
    view.one(&format!("SELECT {COLUMNS} FROM operators WHERE name = $1"), [name], operator)
}

pub(super) fn known(view: &View<'_>, name: &str) -> Result<Operator, StoreError> {
    with_token(view, name)?
        .ok_or_else(|| StoreError::Missing { what: "operator", name: name.to_owned() })
}

/// The operator whose token has that hash, whether it is still good or not.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn by_token(view: &View<'_>, hash: Digest) -> Result<Option<Operator>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM operators WHERE token_hash = $1");
    view.one(&sql, [hash.to_string()], operator)
}

/// The hash of the operator's token. `None`: there is no such operator, or they have none.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn token_hash(view: &View<'_>, name: &str) -> Result<Option<Digest>, StoreError> {
    let found = view.one("SELECT token_hash FROM operators WHERE name = $1", [name], |row| {
        let hash: Option<String> = row.get(0)?;
        hash.map(|hash| to_digest("operator", &hash)).transpose()
    })?;
    Ok(found.flatten())
}

/// Gives an operator a new token with a time of its own; the one before is worth nothing. Who was revoked stays so.
///
/// # Errors
/// [`StoreError::Missing`] when there is none, [`StoreError::Conflict`] when they were revoked.
pub fn renew(
    tx: &mut Tx<'_>,
    name: &str,
    token_hash: Digest,
    expires_at: Option<Timestamp>,
) -> Result<Operator, StoreError> {
    let known = unrevoked(tx, name)?;
    tx.execute(
        "UPDATE operators SET token_hash = $1, expires_at = $2 WHERE name = $3",
        params![token_hash.to_string(), expires_at.map(micros), name],
    )?;
    tx.record("operator.renewed", name, json!({ "expires_at": expires_at }));
    Ok(Operator { expires_at, ..known })
}

pub(super) fn unrevoked(view: &View<'_>, name: &str) -> Result<Operator, StoreError> {
    let known = known(view, name)?;
    match known.revoked_at {
        Some(at) => Err(StoreError::Conflict(format!("operator `{name}` was revoked at {at}"))),
        None => Ok(known),
    }
}

/// From now on the operator may do nothing, their sessions have ended, and their approvals count no more.
///
/// # Errors
/// [`StoreError::Missing`] when there is none, [`StoreError::Conflict`] when they were revoked before.
pub fn revoke(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    unrevoked(tx, name)?;
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "UPDATE operators SET revoked_at = $1, revoked_by = $2 WHERE name = $3",
        params![now, actor, name],
    )?;
    tx.execute("DELETE FROM sessions WHERE principal = $1", [name])?;
    tx.execute("DELETE FROM passwords WHERE operator = $1", [name])?;
    tx.record("operator.revoked", name, json!({}));
    Ok(())
}
