//! Versions that were undone and are not offered to a cohort again.

use crate::view::{micros, to_digest};
use crate::{StoreError, Tx, View};
use fettle_core::{Digest, RolloutId};
use rusqlite::params;
use serde_json::json;

/// A version barred for a cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarredRecord {
    /// Binary package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The cohort.
    pub cohort: Digest,
    /// Why.
    pub reason: String,
}

/// All barred versions.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<BarredRecord>, StoreError> {
    view.all(
        "SELECT package, version, cohort, reason FROM barred ORDER BY package, version, cohort",
        [],
        |row| {
            Ok(BarredRecord {
                package: row.get(0)?,
                version: row.get(1)?,
                cohort: to_digest("barred version", &row.get::<_, String>(2)?)?,
                reason: row.get(3)?,
            })
        },
    )
}

/// Bars versions for cohorts. What is barred already stays as it is.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn bar(
    tx: &mut Tx<'_>,
    rollout: &RolloutId,
    versions: &[(String, String)],
    cohorts: &[Digest],
    reason: &str,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    let mut new = 0;
    for (package, version) in versions {
        for cohort in cohorts {
            new += tx.execute_unrecorded(
                "INSERT INTO barred (package, version, cohort, reason, rollout, at) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (package, version, cohort) DO NOTHING",
                params![package, version, cohort.to_string(), reason, rollout.as_str(), now],
            )?;
        }
    }
    if new > 0 {
        let body = json!({ "versions": versions, "cohorts": cohorts, "reason": reason });
        tx.record("version.barred", rollout.as_str(), body);
    }
    Ok(())
}
