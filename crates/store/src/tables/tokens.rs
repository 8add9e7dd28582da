//! One-time enrolment tokens. Only the hash of the secret is kept.

use crate::view::{from_json, from_micros, micros, to_json};
use crate::{StoreError, Tx};
use fettle_core::host::Labels;
use fettle_core::{Digest, HostId, Timestamp};
use rusqlite::params;
use serde_json::json;

/// Keeps a new token.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn insert(
    tx: &mut Tx<'_>,
    hash: Digest,
    labels: &Labels,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO tokens (hash, labels, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        params![hash.to_string(), to_json("labels", labels)?, now, micros(expires_at)],
    )?;
    tx.record("token.made", &hash.short(), json!({ "labels": labels, "expires_at": expires_at }));
    Ok(())
}

/// What using a token gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// It held; the host gets these labels.
    Labels(Labels),
    /// No token has that hash.
    Unknown,
    /// It was used before.
    Already {
        /// When.
        at: Timestamp,
    },
    /// It is past its time.
    Expired {
        /// Since when.
        at: Timestamp,
    },
}

/// Uses a token up, in the transaction that enrols the host: both happen or none.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn take(tx: &mut Tx<'_>, hash: Digest, host: &HostId) -> Result<Used, StoreError> {
    type Row = (String, i64, Option<i64>);
    let found: Option<Row> = tx.one(
        "SELECT labels, expires_at, used_at FROM tokens WHERE hash = $1",
        [hash.to_string()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let Some((labels, expires_at, used_at)) = found else { return Ok(Used::Unknown) };
    if let Some(at) = used_at {
        return Ok(Used::Already { at: from_micros(at) });
    }
    let now = tx.now();
    if from_micros(expires_at) <= now {
        return Ok(Used::Expired { at: from_micros(expires_at) });
    }
    tx.execute(
        "UPDATE tokens SET used_at = $1, used_by = $2 WHERE hash = $3 AND used_at IS NULL",
        params![micros(now), host.as_str(), hash.to_string()],
    )?;
    tx.record("token.used", &hash.short(), json!({ "host": host }));
    Ok(Used::Labels(from_json("labels", &labels)?))
}

/// Forgets tokens that expired before `before`.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn forget_expired(tx: &mut Tx<'_>, before: Timestamp) -> Result<usize, StoreError> {
    tx.execute_unrecorded("DELETE FROM tokens WHERE expires_at < $1", [micros(before)])
}
