//! Approvals of plans. One a principal and plan: who approves again renews it.

use crate::view::{from_micros, int, micros, to_digest};
use crate::{StoreError, Tx, View};
use fettle_core::Digest;
use fettle_core::plan::approval::Approval;
use rusqlite::params;
use serde_json::json;

/// Keeps an approval. Whether it may be given is the caller's to judge.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn give(
    tx: &mut Tx<'_>,
    plan: u64,
    digest: Digest,
    by: &str,
    comment: &str,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO approvals (plan, operator, digest, at, comment) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (plan, operator) DO UPDATE \
         SET digest = excluded.digest, at = excluded.at, comment = excluded.comment",
        params![int(plan), by, digest.to_string(), now, comment],
    )?;
    let body = json!({ "digest": digest, "by": by, "comment": comment });
    tx.record("plan.approved", &plan.to_string(), body);
    Ok(())
}

/// Takes back the approval of a principal.
///
/// # Errors
/// [`StoreError::Missing`] when there is none.
pub fn withdraw(tx: &mut Tx<'_>, plan: u64, by: &str) -> Result<(), StoreError> {
    let taken = tx.execute(
        "DELETE FROM approvals WHERE plan = $1 AND operator = $2",
        params![int(plan), by],
    )?;
    if taken == 0 {
        let name = format!("of plan {plan} by {by}");
        return Err(StoreError::Missing { what: "approval", name });
    }
    tx.record("plan.approval-withdrawn", &plan.to_string(), json!({ "by": by }));
    Ok(())
}

/// The approvals of a plan, oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_plan(view: &View<'_>, plan: u64) -> Result<Vec<Approval>, StoreError> {
    view.all(
        "SELECT at, operator, digest, comment FROM approvals WHERE plan = $1 ORDER BY at, operator",
        [int(plan)],
        |row| {
            Ok(Approval {
                at: from_micros(row.get(0)?),
                by: row.get(1)?,
                digest: to_digest("approval", &row.get::<_, String>(2)?)?,
                comment: row.get(3)?,
            })
        },
    )
}
