//! Rollouts as lists of events. Every write is conditional on the number of events before it.

use crate::view::{from_json, from_micros, int, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::policy::glob;
use fettle_core::rollout::{Rollout, RolloutEvent};
use fettle_core::{RolloutId, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;
use std::collections::BTreeSet;

/// An event with its place and time.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// 1, 2, 3, ...
    pub version: u64,
    /// When it was persisted.
    pub at: Timestamp,
    /// What happened.
    pub event: RolloutEvent,
}

/// The id the next rollout gets.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn next_id(view: &View<'_>) -> Result<(u64, RolloutId), StoreError> {
    let number = view.count("SELECT coalesce(max(number), 0) FROM rollouts", [])? + 1;
    Ok((number, RolloutId(format!("ro-{number}"))))
}

/// A line of the list of rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutLine {
    /// Its id.
    pub id: RolloutId,
    /// How many events it has.
    pub version: u64,
    /// Did every host end?
    pub finished: bool,
}

fn line(row: &Row<'_>) -> Result<RolloutLine, StoreError> {
    Ok(RolloutLine {
        id: RolloutId(row.get(0)?),
        version: row.get::<_, i64>(1)? as u64,
        finished: row.get(2)?,
    })
}

fn event(row: &Row<'_>) -> Result<EventRecord, StoreError> {
    Ok(EventRecord {
        version: row.get::<_, i64>(0)? as u64,
        at: from_micros(row.get(1)?),
        event: from_json("rollout event", &row.get::<_, String>(2)?)?,
    })
}

/// All rollouts, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<RolloutLine>, StoreError> {
    view.all("SELECT id, version, finished FROM rollouts ORDER BY number DESC", [], line)
}

/// Rollouts that were under way in a span of time, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn between(
    view: &View<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<RolloutLine>, StoreError> {
    view.all(
        "SELECT id, version, finished FROM rollouts \
         WHERE created_at < $1 AND (ended_at IS NULL OR ended_at >= $2) ORDER BY number DESC",
        [micros(to), micros(from)],
        line,
    )
}

/// Rollouts that have not ended, oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn unfinished(view: &View<'_>) -> Result<Vec<RolloutLine>, StoreError> {
    view.all(
        "SELECT id, version, finished FROM rollouts WHERE finished = 0 ORDER BY number",
        [],
        line,
    )
}

/// The rollout of a plan; the first, if somebody managed to start several.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_plan(view: &View<'_>, plan: u64) -> Result<Option<RolloutId>, StoreError> {
    view.one(
        "SELECT id FROM rollouts WHERE plan = $1 ORDER BY number LIMIT 1",
        [int(plan)],
        |row| Ok(RolloutId(row.get(0)?)),
    )
}

/// One rollout's line.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn get(view: &View<'_>, id: &RolloutId) -> Result<RolloutLine, StoreError> {
    view.one("SELECT id, version, finished FROM rollouts WHERE id = $1", [id.as_str()], line)?
        .ok_or_else(|| StoreError::Missing { what: "rollout", name: id.to_string() })
}

/// Its events after version `after`, oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn events(view: &View<'_>, id: &RolloutId, after: u64) -> Result<Vec<EventRecord>, StoreError> {
    view.all(
        "SELECT version, at, event FROM rollout_events WHERE rollout = $1 AND version > $2 ORDER BY version",
        params![id.as_str(), int(after)],
        event,
    )
}

/// Those of its events that tell of harm and of halts, oldest first: of a large rollout most tell of neither, and the
/// first one is as large as its plan.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn events_of_harm(view: &View<'_>, id: &RolloutId) -> Result<Vec<EventRecord>, StoreError> {
    view.all(
        "SELECT version, at, event FROM rollout_events WHERE rollout = $1 AND event ->> '$.event' \
         IN ('redeemed', 'ended', 'silent', 'undo-asked', 'halted') ORDER BY version",
        [id.as_str()],
        event,
    )
}

/// Keeps the first event of a rollout. `state` is the fold over it.
///
/// # Errors
/// [`StoreError::Conflict`] when the number was taken meanwhile.
pub fn create(
    tx: &mut Tx<'_>,
    number: u64,
    state: &Rollout,
    event: &RolloutEvent,
) -> Result<(), StoreError> {
    if next_id(tx)?.0 != number {
        return Err(StoreError::Conflict(format!(
            "rollout {} was started by somebody else meanwhile",
            state.id
        )));
    }
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO rollouts (id, number, plan, policy, version, phase, finished, created_at) \
         VALUES ($1, $2, $3, $4, 0, '', 0, $5)",
        params![state.id.as_str(), int(number), int(state.plan.number), state.plan.policy, now],
    )?;
    let changes = state.plan.hosts.values().flat_map(|host| &host.order.changes);
    let versions: BTreeSet<(&str, &str)> =
        changes.map(|change| (change.to.as_str(), change.name.as_str())).collect();
    for (version, package) in versions {
        tx.execute(
            "INSERT OR IGNORE INTO rollout_versions (version, package, rollout) VALUES ($1, $2, $3)",
            params![version, package, state.id.as_str()],
        )?;
    }
    append(tx, state, std::slice::from_ref(event))
}

/// Rollouts that bring a version of one of these packages (a glob), newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn that_bring(
    view: &View<'_>,
    packages: &str,
    version: &str,
) -> Result<Vec<RolloutId>, StoreError> {
    let found = view.all(
        "SELECT package, rollout FROM rollout_versions JOIN rollouts ON rollouts.id = rollout \
         WHERE rollout_versions.version = $1 ORDER BY rollouts.number DESC, package",
        [version],
        |row| Ok((row.get::<_, String>(0)?, RolloutId(row.get(1)?))),
    )?;
    let mut ids: Vec<RolloutId> = found
        .into_iter()
        .filter(|(package, _)| glob::matches(packages, package))
        .map(|(_, id)| id)
        .collect();
    ids.dedup();
    Ok(ids)
}

/// Keeps events. `state` is the fold *with* them; the rollout must stand where they were decided on.
///
/// # Errors
/// [`StoreError::Conflict`] when another event came first: nothing is written.
pub fn append(tx: &mut Tx<'_>, state: &Rollout, events: &[RolloutEvent]) -> Result<(), StoreError> {
    let before = state.version - events.len() as u64;
    let finished = state.is_settled();
    let moved = tx.execute(
        "UPDATE rollouts SET version = $1, phase = $2, finished = $3, ended_at = $4 WHERE id = $5 AND version = $6",
        params![
            int(state.version),
            state.phase.word(),
            finished,
            state.ended_at.map(micros),
            state.id.as_str(),
            int(before)
        ],
    )?;
    if moved != 1 {
        return Err(StoreError::Conflict(format!("rollout {} went on meanwhile", state.id)));
    }
    let now = micros(tx.now());
    for (version, event) in (before + 1..).zip(events) {
        tx.execute(
            "INSERT INTO rollout_events (rollout, version, at, event) VALUES ($1, $2, $3, $4)",
            params![state.id.as_str(), int(version), now, to_json("rollout event", event)?],
        )?;
        tx.record("rollout.event", state.id.as_str(), ledger_body(version, event)?);
    }
    Ok(())
}

/// The event as the ledger keeps it: the plan by its digest, for the plan is in the ledger already.
fn ledger_body(version: u64, event: &RolloutEvent) -> Result<serde_json::Value, StoreError> {
    let body = match event {
        RolloutEvent::Created { by, plan, approvals, principal } => {
            json!({
                "event": "created", "by": by, "principal": principal, "plan": plan.number, "digest": plan.digest(),
                "approvals": approvals,
            })
        }
        other => serde_json::to_value(other)
            .map_err(|e| StoreError::Document { what: "rollout event", detail: e.to_string() })?,
    };
    Ok(json!({ "version": version, "event": body }))
}
