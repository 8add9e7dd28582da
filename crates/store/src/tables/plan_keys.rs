//! Plan keys, by version, and what operators signed of plans with them.

use crate::view::{from_json, int, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_wire::plan_key::{KeySet, PlanStatement, SignedKeySet, SignedPlan};
use rusqlite::params;
use serde_json::json;

/// The set in force.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn current(view: &View<'_>) -> Result<Option<SignedKeySet>, StoreError> {
    view.one("SELECT body FROM plan_keys ORDER BY version DESC LIMIT 1", [], |row| {
        from_json("plan keys", &row.get::<_, String>(0)?)
    })
}

/// The sets that follow this version, in their order; at most so many.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn after(view: &View<'_>, version: u64, limit: u64) -> Result<Vec<SignedKeySet>, StoreError> {
    view.all(
        "SELECT body FROM plan_keys WHERE version > $1 ORDER BY version LIMIT $2",
        params![int(version), int(limit)],
        |row| from_json("plan keys", &row.get::<_, String>(0)?),
    )
}

/// Puts a set in force. Whether it follows the one before it is the caller's to judge.
///
/// # Errors
/// [`StoreError::Exists`] when there is one of this version.
pub fn publish(tx: &mut Tx<'_>, set: &KeySet, signed: &SignedKeySet) -> Result<(), StoreError> {
    let version = int(set.version);
    if tx.count("SELECT count(*) FROM plan_keys WHERE version >= $1", [version])? > 0 {
        return Err(StoreError::Exists(format!("plan keys of version {}", set.version)));
    }
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO plan_keys (version, at, by, body) VALUES ($1, $2, $3, $4)",
        params![version, now, actor, to_json("plan keys", signed)?],
    )?;
    tx.record(
        "plan-keys.published",
        &set.version.to_string(),
        json!({ "threshold": set.threshold, "keys": set.keys }),
    );
    Ok(())
}

/// Keeps what an operator signed of a plan, with this key. Whether it holds is the caller's to judge.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn sign(
    tx: &mut Tx<'_>,
    key: &str,
    statement: &PlanStatement,
    signed: &SignedPlan,
) -> Result<(), StoreError> {
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO plan_signatures (plan, key, at, by, body) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (plan, key) DO UPDATE SET at = excluded.at, by = excluded.by, body = excluded.body",
        params![int(statement.plan), key, now, actor, to_json("plan signature", signed)?],
    )?;
    tx.record(
        "plan.signed",
        &statement.plan.to_string(),
        json!({ "key": key, "digest": statement.digest, "expires_at": statement.expires_at }),
    );
    Ok(())
}

/// What was signed of a plan, by key.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_plan(view: &View<'_>, plan: u64) -> Result<Vec<SignedPlan>, StoreError> {
    view.all("SELECT body FROM plan_signatures WHERE plan = $1 ORDER BY key", [int(plan)], |row| {
        from_json("plan signature", &row.get::<_, String>(0)?)
    })
}
