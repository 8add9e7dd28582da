//! Plans, and which one is in force.

use crate::view::{from_json, from_micros, int, micros, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::plan::Plan;
use fettle_core::{Digest, Timestamp};
use rusqlite::params;
use serde_json::json;

/// The number the next plan gets.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn next_number(view: &View<'_>) -> Result<u64, StoreError> {
    Ok(view.count("SELECT coalesce(max(number), 0) FROM plans", [])? + 1)
}

/// Keeps a plan. Its number must be the next one, so that of two made at once one loses cleanly. `maker` is the
/// principal who made it: the one who cannot approve it.
///
/// # Errors
/// [`StoreError::Conflict`].
pub fn insert(tx: &mut Tx<'_>, plan: &Plan, maker: &str) -> Result<Digest, StoreError> {
    if plan.number != next_number(tx)? {
        return Err(StoreError::Conflict(format!(
            "plan {} was made by somebody else meanwhile",
            plan.number
        )));
    }
    let digest = plan.digest();
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO plans (number, digest, parent, policy, made_at, made_by, maker, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            int(plan.number),
            digest.to_string(),
            plan.parent.map(|p| p.to_string()),
            plan.policy,
            now,
            actor,
            maker,
            to_json("plan", plan)?
        ],
    )?;
    tx.record(
        "plan.made",
        &plan.number.to_string(),
        json!({
            "digest": digest, "parent": plan.parent, "policy": plan.policy, "policy_digest": plan.policy_digest,
            "maker": maker, "approvals_needed": plan.approvals_needed,
            "hosts": plan.hosts.len(), "waves": plan.waves.len(), "held": plan.held_count(),
        }),
    );
    Ok(digest)
}

/// A plan by its number.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn get(view: &View<'_>, number: u64) -> Result<Plan, StoreError> {
    let body: Option<String> =
        view.one("SELECT body FROM plans WHERE number = $1", [int(number)], |row| Ok(row.get(0)?))?;
    from_json(
        "plan",
        &body.ok_or_else(|| StoreError::Missing { what: "plan", name: number.to_string() })?,
    )
}

/// The principal who made a plan.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn maker(view: &View<'_>, number: u64) -> Result<String, StoreError> {
    view.one("SELECT maker FROM plans WHERE number = $1", [int(number)], |row| Ok(row.get(0)?))?
        .ok_or_else(|| StoreError::Missing { what: "plan", name: number.to_string() })
}

/// When the rollout of a plan was started; `None`: it was not.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn started_at(view: &View<'_>, number: u64) -> Result<Option<Timestamp>, StoreError> {
    view.one(
        "SELECT created_at FROM rollouts WHERE plan = $1 ORDER BY number LIMIT 1",
        [int(number)],
        |row| Ok(from_micros(row.get(0)?)),
    )
}

/// A line of the list of plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanLine {
    /// Its number.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its policy.
    pub policy: String,
    /// When it was made.
    pub made_at: Timestamp,
}

/// The newest plans first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn latest(view: &View<'_>, limit: u64) -> Result<Vec<PlanLine>, StoreError> {
    view.all(
        "SELECT number, digest, policy, made_at FROM plans ORDER BY number DESC LIMIT $1",
        [int(limit)],
        |row| {
            Ok(PlanLine {
                number: row.get::<_, i64>(0)? as u64,
                digest: to_digest("plan", &row.get::<_, String>(1)?)?,
                policy: row.get(2)?,
                made_at: from_micros(row.get(3)?),
            })
        },
    )
}

/// The newest plan of a policy that was made for all that it owes, whether it is in force or not: an emergency's plan
/// has only the hosts that something called on.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn newest_of(view: &View<'_>, policy: &str) -> Result<Option<u64>, StoreError> {
    view.one(
        "SELECT max(number) FROM plans WHERE policy = $1 AND number NOT IN (SELECT plan FROM emergency_plans)",
        [policy],
        |row| Ok(row.get::<_, Option<i64>>(0)?.map(|n| n as u64)),
    )
    .map(Option::flatten)
}

/// Emergency plans of a policy that are newer than a plan and that no other was put in the place of, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn emergencies_after(
    view: &View<'_>,
    policy: &str,
    number: u64,
) -> Result<Vec<u64>, StoreError> {
    view.all(
        "SELECT plan FROM emergency_plans WHERE policy = $1 AND plan > $2 \
         AND body ->> '$.state.state' <> 'overtaken' ORDER BY plan DESC",
        params![policy, int(number)],
        |row| Ok(row.get::<_, i64>(0)? as u64),
    )
}

/// The plan in force for a policy.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn current(view: &View<'_>, policy: &str) -> Result<Option<Digest>, StoreError> {
    view.one("SELECT digest FROM current_plans WHERE policy = $1", [policy], |row| {
        to_digest("plan", &row.get::<_, String>(0)?)
    })?
    .map_or(Ok(None), |d| Ok(Some(d)))
}

/// Puts a plan in force, if the plan it names as parent still is.
///
/// # Errors
/// [`StoreError::Conflict`] when another plan took effect since it was made.
pub fn take_effect(tx: &mut Tx<'_>, plan: &Plan) -> Result<(), StoreError> {
    let now = current(tx, &plan.policy)?;
    if now != plan.parent {
        return Err(StoreError::Conflict(format!(
            "plan {} was made before another plan of policy `{}` took effect",
            plan.number, plan.policy
        )));
    }
    let digest = plan.digest();
    tx.execute(
        "INSERT INTO current_plans (policy, digest) VALUES ($1, $2) ON CONFLICT (policy) DO UPDATE SET digest = excluded.digest",
        params![plan.policy, digest.to_string()],
    )?;
    tx.record(
        "plan.in-force",
        &plan.number.to_string(),
        json!({ "digest": digest, "policy": plan.policy }),
    );
    Ok(())
}
