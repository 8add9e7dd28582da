//! Lists of hosts that somebody wants to see again, for themselves or for all.

use crate::view::{from_micros, micros};
use crate::{StoreError, Tx, View};
use fettle_core::Timestamp;
use rusqlite::{Row, params};
use serde_json::json;

/// Views of one account at most.
pub const MOST_VIEWS: u64 = 100;

/// A saved view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedView {
    /// Whose it is.
    pub owner: String,
    /// What they call it.
    pub name: String,
    /// The query of the list: `state=exposed&label=env%3Dprod`.
    pub query: String,
    /// Does everybody see it?
    pub shared: bool,
    /// When it was saved.
    pub saved_at: Timestamp,
}

fn saved(row: &Row<'_>) -> Result<SavedView, StoreError> {
    Ok(SavedView {
        owner: row.get(0)?,
        name: row.get(1)?,
        query: row.get(2)?,
        shared: row.get(3)?,
        saved_at: from_micros(row.get(4)?),
    })
}

/// What this account sees: its own views, then those that others share, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn seen_by(view: &View<'_>, account: &str) -> Result<Vec<SavedView>, StoreError> {
    view.all(
        "SELECT owner, name, query, shared, saved_at FROM saved_views WHERE owner = $1 OR shared \
         ORDER BY owner <> $1, name, owner",
        [account],
        saved,
    )
}

/// Saves a view, in place of the account's own of that name. The ledger has those that all see.
///
/// # Errors
/// [`StoreError::Conflict`] when the account has as many as it may.
pub fn save(tx: &mut Tx<'_>, it: &SavedView) -> Result<(), StoreError> {
    let before = get(tx, &it.owner, &it.name)?;
    let many = tx.count("SELECT count(*) FROM saved_views WHERE owner = $1", [&it.owner])?;
    if before.is_none() && many >= MOST_VIEWS {
        let message = format!("{} has {MOST_VIEWS} saved views already", it.owner);
        return Err(StoreError::Conflict(message));
    }
    let now = micros(tx.now());
    tx.execute_unrecorded(
        "INSERT INTO saved_views (owner, name, query, shared, saved_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (owner, name) DO UPDATE SET query = excluded.query, shared = excluded.shared, \
         saved_at = excluded.saved_at",
        params![it.owner, it.name, it.query, it.shared, now],
    )?;
    if it.shared || before.is_some_and(|before| before.shared) {
        let body = json!({ "owner": it.owner, "query": it.query, "shared": it.shared });
        tx.record("view.saved", &it.name, body);
    }
    Ok(())
}

fn get(view: &View<'_>, owner: &str, name: &str) -> Result<Option<SavedView>, StoreError> {
    view.one(
        "SELECT owner, name, query, shared, saved_at FROM saved_views WHERE owner = $1 AND name = $2",
        [owner, name],
        saved,
    )
}

/// Takes a view away.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn remove(tx: &mut Tx<'_>, owner: &str, name: &str) -> Result<(), StoreError> {
    let Some(it) = get(tx, owner, name)? else {
        return Err(StoreError::Missing { what: "saved view", name: name.to_owned() });
    };
    tx.execute_unrecorded("DELETE FROM saved_views WHERE owner = $1 AND name = $2", [owner, name])?;
    if it.shared {
        tx.record("view.removed", name, json!({ "owner": owner }));
    }
    Ok(())
}
