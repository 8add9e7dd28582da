//! What policies do by themselves: the runs of their cycles.

use crate::view::{from_json, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::cycle::{CycleOutcome, CycleRun, CycleState};
use fettle_core::{RolloutId, Timestamp};
use rusqlite::params;
use serde_json::json;

/// The newest runs of a policy, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn latest(view: &View<'_>, policy: &str, limit: u32) -> Result<Vec<CycleRun>, StoreError> {
    view.all(
        "SELECT body FROM cycle_runs WHERE policy = $1 ORDER BY due DESC LIMIT $2",
        params![policy, limit],
        |row| from_json("cycle run", &row.get::<_, String>(0)?),
    )
}

/// Keeps a run as it stands now, on the condition that it stands as `before` does (`None`: it is not there yet). Of two
/// servers, or of one that was killed and started again, one does each step.
///
/// # Errors
/// [`StoreError::Conflict`].
pub fn put(
    tx: &mut Tx<'_>,
    policy: &str,
    before: Option<&CycleRun>,
    run: &CycleRun,
) -> Result<(), StoreError> {
    let due = micros(run.due);
    let there: Option<CycleRun> = tx.one(
        "SELECT body FROM cycle_runs WHERE policy = $1 AND due = $2",
        params![policy, due],
        |row| from_json("cycle run", &row.get::<_, String>(0)?),
    )?;
    if there.as_ref() != before.filter(|before| before.due == run.due) {
        return Err(StoreError::Conflict(format!(
            "the cycle of `{policy}` that came due at {} has gone on meanwhile",
            run.due
        )));
    }
    tx.execute(
        "INSERT INTO cycle_runs (policy, due, body) VALUES ($1, $2, $3) \
         ON CONFLICT (policy, due) DO UPDATE SET body = excluded.body",
        params![policy, due, to_json("cycle run", run)?],
    )?;
    let kind = match &run.state {
        CycleState::Held { .. } => "cycle.held",
        CycleState::Planned { .. } => "cycle.planned",
        CycleState::Started { .. } => "cycle.started",
        CycleState::Ended { .. } => "cycle.ended",
    };
    tx.record(kind, policy, json!(run));
    Ok(())
}

/// The newest run that went wrong, where none after it went well and no person has looked after it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn failed(view: &View<'_>, policy: &str) -> Result<Option<(RolloutId, String)>, StoreError> {
    for run in latest(view, policy, 100)? {
        match run.state {
            CycleState::Ended { outcome: CycleOutcome::Done { .. }, .. } => return Ok(None),
            CycleState::Ended { outcome: CycleOutcome::Failed { rollout, reason }, .. } => {
                let sql = "SELECT count(*) FROM cycle_pardons WHERE policy = $1 AND rollout = $2";
                let pardoned = view.count(sql, params![policy, rollout.as_str()])? > 0;
                return Ok((!pardoned).then_some((rollout, reason)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A person has looked after what went wrong: the cycle may go on. Gives the rollout that it was about.
///
/// # Errors
/// [`StoreError::Missing`] where nothing went wrong.
pub fn pardon(tx: &mut Tx<'_>, policy: &str, reason: &str) -> Result<RolloutId, StoreError> {
    let Some((rollout, _)) = failed(tx, policy)? else {
        return Err(StoreError::Missing {
            what: "failed cycle of policy",
            name: policy.to_owned(),
        });
    };
    let (now, by) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO cycle_pardons (policy, rollout, reason, by, at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (policy, rollout) DO NOTHING",
        params![policy, rollout.as_str(), reason, by, now],
    )?;
    tx.record("cycle.resumed", policy, json!({ "rollout": rollout, "reason": reason }));
    Ok(rollout)
}

/// Forgets runs that came due before that time.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn forget(tx: &mut Tx<'_>, before: Timestamp) -> Result<(), StoreError> {
    tx.execute_unrecorded("DELETE FROM cycle_runs WHERE due < $1", [micros(before)])?;
    Ok(())
}
