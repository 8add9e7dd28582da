//! Sessions of the web pages. What the cookie holds is not here, only its hash: a copy of the database opens no page.

use crate::view::{from_micros, micros, to_digest};
use crate::{StoreError, Tx, View};
use fettle_core::login::{SESSION_IDLE, SESSION_LONGEST, Way};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;

/// A person has no more than this many: with one more the one that was used least lately ends.
const MOST: i64 = 50;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of what the cookie holds.
    pub id: Digest,
    /// Whose it is.
    pub principal: String,
    /// How they came.
    pub way: Way,
    /// What it was begun with; it ends when that is no more.
    pub credential: String,
    /// The page came by TLS.
    pub secure: bool,
    /// When it began.
    pub began_at: Timestamp,
    /// When it was last used, to a minute.
    pub seen_at: Timestamp,
    /// From where it was begun.
    pub address: String,
    /// What the browser said that it is.
    pub browser: String,
}

const SELECT: &str = "SELECT id, principal, way, credential, secure, began_at, seen_at, address, browser FROM sessions";

fn session(row: &Row<'_>) -> Result<Session, StoreError> {
    let way: String = row.get(2)?;
    Ok(Session {
        id: to_digest("session", &row.get::<_, String>(0)?)?,
        principal: row.get(1)?,
        way: Way::named(&way).ok_or_else(|| StoreError::Document {
            what: "session",
            detail: format!("`{way}` is no way to log in"),
        })?,
        credential: row.get(3)?,
        secure: row.get(4)?,
        began_at: from_micros(row.get(5)?),
        seen_at: from_micros(row.get(6)?),
        address: row.get(7)?,
        browser: row.get(8)?,
    })
}

/// The session with that id, whether it is past its time or not.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, id: Digest) -> Result<Option<Session>, StoreError> {
    view.one(&format!("{SELECT} WHERE id = $1"), [id.to_string()], session)
}

/// All sessions, or those of one principal, the newest first; those past their time are left out.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of(
    view: &View<'_>,
    principal: Option<&str>,
    now: Timestamp,
) -> Result<Vec<Session>, StoreError> {
    let (began, seen) = ends(now);
    view.all(
        &format!(
            "{SELECT} WHERE ($1 IS NULL OR principal = $1) AND began_at > $2 AND seen_at > $3 ORDER BY began_at DESC, id"
        ),
        params![principal, began, seen],
        session,
    )
}

/// What began or was seen no later than this has ended.
fn ends(now: Timestamp) -> (i64, i64) {
    let before = |by| micros(now.checked_sub(by).unwrap_or(Timestamp::MIN));
    (before(SESSION_LONGEST), before(SESSION_IDLE))
}

/// Begins a session, and writes down that its principal came. Those past their time go.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn begin(tx: &mut Tx<'_>, it: &Session) -> Result<(), StoreError> {
    let (now, (began, seen)) = (micros(tx.now()), ends(tx.now()));
    tx.execute("DELETE FROM sessions WHERE began_at <= $1 OR seen_at <= $2", params![began, seen])?;
    tx.execute(
        "INSERT INTO sessions (id, principal, way, credential, secure, began_at, seen_at, address, browser) \
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)",
        params![
            it.id.to_string(),
            it.principal,
            it.way.word(),
            it.credential,
            it.secure,
            now,
            it.address,
            it.browser
        ],
    )?;
    tx.execute(
        "DELETE FROM sessions WHERE id IN \
         (SELECT id FROM sessions WHERE principal = $1 ORDER BY seen_at DESC, id LIMIT -1 OFFSET $2)",
        params![it.principal, MOST],
    )?;
    tx.execute("UPDATE operators SET came_at = $1 WHERE name = $2", params![now, it.principal])?;
    tx.record("session.begun", &it.principal, json!({ "way": it.way, "address": it.address }));
    Ok(())
}

/// A session was used: it goes on.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn seen(tx: &mut Tx<'_>, id: Digest) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute_unrecorded(
        "UPDATE sessions SET seen_at = $1 WHERE id = $2 AND seen_at < $1",
        params![now, id.to_string()],
    )?;
    Ok(())
}

/// Ends a session. One that has ended is no error.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn end(tx: &mut Tx<'_>, id: Digest) -> Result<(), StoreError> {
    let Some(it) = get(tx, id)? else { return Ok(()) };
    tx.execute("DELETE FROM sessions WHERE id = $1", [id.to_string()])?;
    tx.record("session.ended", &it.principal, json!({ "sessions": 1 }));
    Ok(())
}

/// Ends all sessions of a principal, but for one; gives how many.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn end_all(tx: &mut Tx<'_>, principal: &str, but: Option<Digest>) -> Result<usize, StoreError> {
    let but = but.map(|id| id.to_string());
    tx.execute(
        "DELETE FROM sessions WHERE principal = $1 AND id IS NOT $2",
        params![principal, but],
    )
}

/// Ends everybody's: nobody knows who was to be out by now.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn end_everybodys(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let ended = tx.execute("DELETE FROM sessions", [])?;
    tx.record("session.ended", "everybody", json!({ "sessions": ended }));
    Ok(())
}
