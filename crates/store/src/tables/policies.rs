//! Policies: every version that was ever applied.

use crate::view::{from_micros, int, micros, to_digest};
use crate::{StoreError, Tx, View};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;

/// A version of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its name.
    pub name: String,
    /// 1, 2, 3, ...
    pub version: u64,
    /// Digest of the text.
    pub digest: Digest,
    /// The TOML text.
    pub text: String,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
}

const COLUMNS: &str = "name, version, digest, text, applied_at, applied_by";

fn record(row: &Row<'_>) -> Result<PolicyRecord, StoreError> {
    Ok(PolicyRecord {
        name: row.get(0)?,
        version: row.get::<_, i64>(1)? as u64,
        digest: to_digest("policy", &row.get::<_, String>(2)?)?,
        text: row.get(3)?,
        applied_at: from_micros(row.get(4)?),
        applied_by: row.get(5)?,
    })
}

/// The version in force of each policy, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn current(view: &View<'_>) -> Result<Vec<PolicyRecord>, StoreError> {
    view.all(
        &format!(
            "SELECT {COLUMNS} FROM policies p WHERE version = (SELECT max(version) FROM policies q WHERE q.name = p.name) \
             ORDER BY name"
        ),
        [],
        record,
    )
}

/// The version in force of one policy.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn get(view: &View<'_>, name: &str) -> Result<PolicyRecord, StoreError> {
    view.one(
        &format!("SELECT {COLUMNS} FROM policies WHERE name = $1 ORDER BY version DESC LIMIT 1"),
        [name],
        record,
    )?
    .ok_or_else(|| StoreError::Missing { what: "policy", name: name.to_owned() })
}

/// Every version of one policy, newest first.
///
/// # Errors
/// [`StoreError::Missing`] when none was ever applied.
pub fn history(view: &View<'_>, name: &str) -> Result<Vec<PolicyRecord>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM policies WHERE name = $1 ORDER BY version DESC");
    let all = view.all(&query, [name], record)?;
    match all.is_empty() {
        true => Err(StoreError::Missing { what: "policy", name: name.to_owned() }),
        false => Ok(all),
    }
}

/// The text a plan was made by, whatever was applied since.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn by_digest(
    view: &View<'_>,
    name: &str,
    digest: Digest,
) -> Result<Option<PolicyRecord>, StoreError> {
    view.one(
        &format!("SELECT {COLUMNS} FROM policies WHERE name = $1 AND digest = $2 ORDER BY version DESC LIMIT 1"),
        params![name, digest.to_string()],
        record,
    )
}

/// Puts a policy in force. The same text again changes nothing.
///
/// With `in_force`, only while exactly that is: the digest of the version in force, or `None` for none of the name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn apply(
    tx: &mut Tx<'_>,
    name: &str,
    digest: Digest,
    text: &str,
    in_force: Option<Option<Digest>>,
) -> Result<PolicyRecord, StoreError> {
    let found = match get(tx, name) {
        Ok(found) => Some(found),
        Err(StoreError::Missing { .. }) => None,
        Err(other) => return Err(other),
    };
    if let Some(expected) = in_force
        && expected != found.as_ref().map(|f| f.digest)
    {
        let is = match &found {
            Some(f) => format!("version {} by {} is ({})", f.version, f.applied_by, f.digest),
            None => "none of that name is".to_owned(),
        };
        let said = expected.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        return Err(StoreError::Conflict(format!(
            "policy `{name}` was said to be in force as {said}, and {is}"
        )));
    }
    let before = match found {
        Some(found) if found.digest == digest && found.text == text => return Ok(found),
        Some(found) => found.version,
        None => 0,
    };
    let record = PolicyRecord {
        name: name.to_owned(),
        version: before + 1,
        digest,
        text: text.to_owned(),
        applied_at: tx.now(),
        applied_by: tx.actor().to_owned(),
    };
    tx.execute(
        "INSERT INTO policies (name, version, digest, text, applied_at, applied_by) VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            name,
            int(record.version),
            digest.to_string(),
            text,
            micros(record.applied_at),
            record.applied_by.as_str()
        ],
    )?;
    tx.record("policy.applied", name, json!({ "version": record.version, "digest": digest }));
    Ok(record)
}
