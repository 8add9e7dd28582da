//! Reports that the server makes by itself, and what became of them.

use crate::view::{from_json, from_micros, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::Timestamp;
use fettle_core::report::schedule::{Run, Schedule, State};
use rusqlite::{Row, params};
use serde_json::json;

/// A schedule with who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Its name.
    pub name: String,
    /// What it says.
    pub schedule: Schedule,
    /// What became of it.
    pub state: State,
    /// When it was set: what came due before is none of its business.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
}

const COLUMNS: &str = "name, body, state, set_at, set_by";

fn record(row: &Row<'_>) -> Result<ScheduleRecord, StoreError> {
    Ok(ScheduleRecord {
        name: row.get(0)?,
        schedule: from_json("report schedule", &row.get::<_, String>(1)?)?,
        state: from_json("report schedule", &row.get::<_, String>(2)?)?,
        set_at: from_micros(row.get(3)?),
        set_by: row.get(4)?,
    })
}

/// All schedules, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<ScheduleRecord>, StoreError> {
    view.all(&format!("SELECT {COLUMNS} FROM report_schedules ORDER BY name"), [], record)
}

/// One schedule.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn get(view: &View<'_>, name: &str) -> Result<ScheduleRecord, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM report_schedules WHERE name = $1");
    view.one(&sql, [name], record)?
        .ok_or_else(|| StoreError::Missing { what: "report schedule", name: name.to_owned() })
}

/// Sets a schedule, in place of the one of its name. What was made stays noted; what was being tried is not.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set(tx: &mut Tx<'_>, name: &str, schedule: &Schedule) -> Result<(), StoreError> {
    let (now, by) = (micros(tx.now()), tx.actor().to_owned());
    let last = match get(tx, name) {
        Ok(known) => known.state.last,
        Err(StoreError::Missing { .. }) => None,
        Err(error) => return Err(error),
    };
    let state = State { last, trying: None };
    tx.execute(
        "INSERT INTO report_schedules (name, body, state, set_at, set_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, state = excluded.state, \
         set_at = excluded.set_at, set_by = excluded.set_by",
        params![
            name,
            to_json("report schedule", schedule)?,
            to_json("report schedule", &state)?,
            now,
            by
        ],
    )?;
    // The address may hold a secret: the ledger says that there is one.
    let told = Schedule {
        webhook: schedule.webhook.as_ref().map(|_| "…".to_owned()),
        ..schedule.clone()
    };
    tx.record("report.schedule-set", name, json!(told));
    Ok(())
}

/// No more reports by that name. What was written and sent stays.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    get(tx, name)?;
    tx.execute("DELETE FROM report_schedules WHERE name = $1", [name])?;
    tx.record("report.schedule-removed", name, json!({}));
    Ok(())
}

/// A run was made, on the condition that the schedule stands as `before` does: of two servers, or of one that was killed
/// and started again, one notes it.
///
/// # Errors
/// [`StoreError::Conflict`].
pub fn made(tx: &mut Tx<'_>, before: &ScheduleRecord, run: &Run) -> Result<(), StoreError> {
    unchanged(tx, before)?;
    let state = State { last: Some(run.clone()), trying: None };
    tx.execute(
        "UPDATE report_schedules SET state = $1 WHERE name = $2",
        params![to_json("report schedule", &state)?, before.name],
    )?;
    tx.record("report.made", &before.name, json!(run));
    Ok(())
}

/// A run could not be made: the state says when it is tried again. Not in the ledger, which its last word is for.
///
/// # Errors
/// [`StoreError::Conflict`].
pub fn failed(tx: &mut Tx<'_>, before: &ScheduleRecord, state: &State) -> Result<(), StoreError> {
    unchanged(tx, before)?;
    tx.execute_unrecorded(
        "UPDATE report_schedules SET state = $1 WHERE name = $2",
        params![to_json("report schedule", state)?, before.name],
    )?;
    Ok(())
}

fn unchanged(view: &View<'_>, before: &ScheduleRecord) -> Result<(), StoreError> {
    if get(view, &before.name)? == *before {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "the report schedule `{}` was changed meanwhile",
        before.name
    )))
}
