//! Versions that nobody is to get, until somebody lifts the recall.

use crate::view::{from_micros, micros};
use crate::{StoreError, Tx, View};
use fettle_core::recall::Recall;
use rusqlite::params;
use serde_json::json;

/// All recalls that stand, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<Recall>, StoreError> {
    view.all(
        "SELECT package, version, reason, by, at, undo FROM recalls ORDER BY at DESC, package, version",
        [],
        |row| {
            Ok(Recall {
                package: row.get(0)?,
                version: row.get(1)?,
                reason: row.get(2)?,
                by: row.get(3)?,
                at: from_micros(row.get(4)?),
                undo: row.get(5)?,
            })
        },
    )
}

/// Recalls a version. Recalled again it has the new reason; who first recalled it and when stays in the ledger, and who is
/// to be taken back is not forgotten by it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn add(
    tx: &mut Tx<'_>,
    package: &str,
    version: &str,
    by: &str,
    reason: &str,
    undo: bool,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO recalls (package, version, reason, by, at, undo) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (package, version) DO UPDATE SET reason = excluded.reason, by = excluded.by, at = excluded.at, \
         undo = max(undo, excluded.undo)",
        params![package, version, reason, by, now, undo],
    )?;
    let body = json!({
        "package": package, "version": version, "by": by, "reason": reason, "undo": undo,
    });
    tx.record("version.recalled", &format!("{package}={version}"), body);
    Ok(())
}

/// Lifts a recall.
///
/// # Errors
/// [`StoreError::Missing`] when there is none.
pub fn lift(
    tx: &mut Tx<'_>,
    package: &str,
    version: &str,
    by: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let name = format!("{package}={version}");
    let gone = tx.execute(
        "DELETE FROM recalls WHERE package = $1 AND version = $2",
        params![package, version],
    )?;
    if gone == 0 {
        return Err(StoreError::Missing { what: "recall", name });
    }
    tx.record("version.recall-lifted", &name, json!({ "by": by, "reason": reason }));
    Ok(())
}
