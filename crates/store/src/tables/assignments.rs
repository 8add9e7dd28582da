//! Signed assignments, one current at most for each host.

use crate::view::{from_json, int, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::assignment::Assignment;
use fettle_core::{AssignmentId, HostId, RolloutId};
use fettle_wire::sign::SignedAssignment;
use rusqlite::params;
use serde_json::json;

/// Keeps a signed assignment for the host's next check-in. The same one again changes nothing.
///
/// # Errors
/// [`StoreError::GenerationTaken`] when the host already has that generation with another content.
pub fn insert(
    tx: &mut Tx<'_>,
    assignment: &Assignment,
    signed: &SignedAssignment,
) -> Result<(), StoreError> {
    match by_generation(tx, &assignment.host, assignment.generation)? {
        Some(id) if id == assignment.id => return Ok(()),
        Some(id) => {
            return Err(StoreError::GenerationTaken {
                host: assignment.host.to_string(),
                generation: assignment.generation,
                by: id.to_string(),
            });
        }
        None => {}
    }
    let now = micros(tx.now());
    tx.execute(
        "UPDATE assignments SET status = 'withdrawn' WHERE host = $1 AND status = 'current'",
        [assignment.host.as_str()],
    )?;
    tx.execute(
        "INSERT INTO assignments (id, host, generation, rollout, status, signed, created_at) \
         VALUES ($1, $2, $3, $4, 'current', $5, $6)",
        params![
            assignment.id.as_str(),
            assignment.host.as_str(),
            int(assignment.generation),
            assignment.rollout.as_str(),
            to_json("assignment", signed)?,
            now
        ],
    )?;
    tx.execute(
        "UPDATE hosts SET generation = max(generation, $1) WHERE id = $2",
        params![int(assignment.generation), assignment.host.as_str()],
    )?;
    tx.record(
        "assignment.signed",
        assignment.id.as_str(),
        json!({
            "host": assignment.host, "generation": assignment.generation, "plan": assignment.plan,
            "expires_at": assignment.expires_at, "payload": fettle_core::Digest::of(signed.payload.as_bytes()),
        }),
    );
    Ok(())
}

/// The assignment that holds this generation of a host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn by_generation(
    view: &View<'_>,
    host: &HostId,
    generation: u64,
) -> Result<Option<AssignmentId>, StoreError> {
    view.one(
        "SELECT id FROM assignments WHERE host = $1 AND generation = $2",
        params![host.as_str(), int(generation)],
        |row| Ok(AssignmentId(row.get(0)?)),
    )
}

/// The current assignment of a host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn current(
    view: &View<'_>,
    host: &HostId,
) -> Result<Option<(AssignmentId, SignedAssignment)>, StoreError> {
    view.one(
        "SELECT id, signed FROM assignments WHERE host = $1 AND status = 'current' ORDER BY generation DESC LIMIT 1",
        [host.as_str()],
        |row| {
            Ok((AssignmentId(row.get(0)?), from_json("assignment", &row.get::<_, String>(1)?)?))
        },
    )
}

/// An order as it was signed, whatever became of it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn signed(view: &View<'_>, id: &AssignmentId) -> Result<Option<SignedAssignment>, StoreError> {
    view.one("SELECT signed FROM assignments WHERE id = $1", [id.as_str()], |row| {
        from_json("assignment", &row.get::<_, String>(0)?)
    })
}

/// Whose assignment it is, and of which rollout.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn owner(
    view: &View<'_>,
    id: &AssignmentId,
) -> Result<Option<(HostId, RolloutId)>, StoreError> {
    view.one("SELECT host, rollout FROM assignments WHERE id = $1", [id.as_str()], |row| {
        Ok((HostId(row.get(0)?), RolloutId(row.get(1)?)))
    })
}

/// The rollouts that have a current assignment, by host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn at_work(view: &View<'_>) -> Result<Vec<(HostId, RolloutId)>, StoreError> {
    view.all("SELECT host, rollout FROM assignments WHERE status = 'current'", [], |row| {
        Ok((HostId(row.get(0)?), RolloutId(row.get(1)?)))
    })
}

/// It was not redeemed and must not be any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn withdraw(tx: &mut Tx<'_>, id: &AssignmentId) -> Result<(), StoreError> {
    set_status(tx, id, "withdrawn")
}

/// The host reported its end.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn end(tx: &mut Tx<'_>, id: &AssignmentId) -> Result<(), StoreError> {
    set_status(tx, id, "ended")
}

fn set_status(tx: &mut Tx<'_>, id: &AssignmentId, status: &str) -> Result<(), StoreError> {
    let moved = tx.execute_unrecorded(
        "UPDATE assignments SET status = $1 WHERE id = $2 AND status = 'current'",
        params![status, id.as_str()],
    )?;
    if moved > 0 {
        tx.record(&format!("assignment.{status}"), id.as_str(), json!({}));
    }
    Ok(())
}
