//! Small facts about the fleet as a whole.

use crate::{StoreError, Tx, View};
use rusqlite::params;
use serde_json::json;

/// The value of a setting.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, key: &str) -> Result<Option<String>, StoreError> {
    view.one("SELECT value FROM settings WHERE key = $1", [key], |row| Ok(row.get(0)?))
}

/// Sets a setting.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set(tx: &mut Tx<'_>, key: &str, value: &str) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![key, value],
    )?;
    tx.record("setting.set", key, json!({ "value": value }));
    Ok(())
}
