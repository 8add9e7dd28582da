//! What cannot wait: vulnerabilities that operators declared emergencies, and the plans made for what called.

use crate::view::{from_json, int, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::emergency::{Declared, EmergencyPlan, EmergencyState};
use rusqlite::params;
use serde_json::json;
use std::collections::BTreeSet;

/// Everything that is declared, by vulnerability; also what has run out and is not forgotten yet.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn declared(view: &View<'_>) -> Result<Vec<Declared>, StoreError> {
    view.all("SELECT body FROM emergencies ORDER BY finding", [], |row| {
        from_json("emergency", &row.get::<_, String>(0)?)
    })
}

/// Declares an emergency, or renews one.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn declare(tx: &mut Tx<'_>, it: &Declared) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO emergencies (finding, body) VALUES ($1, $2) \
         ON CONFLICT (finding) DO UPDATE SET body = excluded.body",
        params![it.finding, to_json("emergency", it)?],
    )?;
    tx.record("emergency.declared", &it.finding, json!({ "reason": it.reason, "until": it.until }));
    Ok(())
}

/// It is one no more. Plans that were made for it stay.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn end(tx: &mut Tx<'_>, finding: &str, reason: &str) -> Result<(), StoreError> {
    if tx.execute("DELETE FROM emergencies WHERE finding = $1", [finding])? == 0 {
        return Err(StoreError::Missing { what: "declared emergency", name: finding.to_owned() });
    }
    tx.record("emergency.ended", finding, json!({ "reason": reason }));
    Ok(())
}

/// Forgets what has run out. Not in the ledger: it holds when each was to end.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn forget(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let over = declared(tx)?.into_iter().filter(|it| it.until <= tx.now());
    for it in over.collect::<Vec<_>>() {
        tx.execute_unrecorded("DELETE FROM emergencies WHERE finding = $1", [&it.finding])?;
    }
    Ok(())
}

/// At whose word a plan was made: those who declared what called. Nobody where it is no emergency's.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn declarers(view: &View<'_>, plan: u64) -> Result<BTreeSet<String>, StoreError> {
    let sql = "SELECT body FROM emergency_plans WHERE plan = $1";
    let it: Option<EmergencyPlan> =
        view.one(sql, [int(plan)], |row| from_json("emergency plan", &row.get::<_, String>(0)?))?;
    Ok(it.map(|it| it.declared_by).unwrap_or_default())
}

/// The newest emergency plans, of one policy or of all, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn plans(
    view: &View<'_>,
    policy: Option<&str>,
    limit: u32,
) -> Result<Vec<EmergencyPlan>, StoreError> {
    view.all(
        "SELECT body FROM emergency_plans WHERE ($1 IS NULL OR policy = $1) ORDER BY plan DESC LIMIT $2",
        params![policy, limit],
        |row| from_json("emergency plan", &row.get::<_, String>(0)?),
    )
}

/// Keeps what an emergency plan is for. The one it replaces must still be open: of two that would replace it, one loses.
///
/// # Errors
/// [`StoreError::Conflict`].
pub fn insert(tx: &mut Tx<'_>, it: &EmergencyPlan) -> Result<(), StoreError> {
    let newest = plans(tx, Some(&it.policy), 1)?.into_iter().next();
    let open = newest.filter(|plan| plan.state == EmergencyState::Open);
    if open.as_ref().map(|plan| plan.plan) != it.replaces {
        return Err(StoreError::Conflict(format!(
            "another emergency plan of `{}` was made meanwhile",
            it.policy
        )));
    }
    if let Some(mut before) = open {
        before.state = EmergencyState::Overtaken;
        set(tx, &before)?;
    }
    tx.execute(
        "INSERT INTO emergency_plans (plan, policy, body) VALUES ($1, $2, $3)",
        params![int(it.plan), it.policy, to_json("emergency plan", it)?],
    )?;
    tx.record(
        "emergency.planned",
        &it.plan.to_string(),
        json!({ "policy": it.policy, "findings": it.findings, "hosts": it.covers.len(), "replaces": it.replaces,
                "called_at": it.called_at }),
    );
    Ok(())
}

/// An emergency plan stands elsewhere now.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set(tx: &mut Tx<'_>, it: &EmergencyPlan) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE emergency_plans SET body = $1 WHERE plan = $2",
        params![to_json("emergency plan", it)?, int(it.plan)],
    )?;
    tx.record("emergency.stands", &it.plan.to_string(), json!(it.state));
    Ok(())
}
