//! What is to be sent to webhooks, and what could not be delivered: the dead letters.

use crate::view::{from_micros, int, micros};
use crate::{StoreError, Tx, View};
use fettle_core::Timestamp;
use rusqlite::{Row, params};
use serde_json::json;

/// Dead letters kept at most; of more, the oldest go.
pub const MOST_DEAD: u64 = 200;
/// What waits to be delivered at most; of more, the oldest die.
pub const MOST_WAITING: u64 = 1000;

/// A delivery, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id (`webhook-id`).
    pub id: String,
    /// Type of the message: `report.made`.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Where it goes.
    pub url: String,
    /// Size of the body, in bytes.
    pub bytes: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Times it was tried.
    pub tries: u32,
    /// When it is tried again. `None`: it is dead.
    pub next_at: Option<Timestamp>,
    /// Since when it is dead.
    pub dead_at: Option<Timestamp>,
    /// Why the last try failed.
    pub error: Option<String>,
}

const COLUMNS: &str =
    "id, kind, subject, url, length(body), made_at, tries, next_at, dead_at, error";

fn delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let time = |micros: Option<i64>| micros.map(from_micros);
    Ok(Delivery {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        url: row.get(3)?,
        bytes: row.get::<_, i64>(4)?.unsigned_abs(),
        made_at: from_micros(row.get(5)?),
        tries: row.get(6)?,
        next_at: time(row.get(7)?),
        dead_at: time(row.get(8)?),
        error: row.get(9)?,
    })
}

/// A new message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its id: the same message again is not a second one.
    pub id: &'a str,
    /// Type of the message.
    pub kind: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// Where it goes.
    pub url: &'a str,
    /// What is sent.
    pub body: &'a [u8],
}

/// Puts a message in the queue, to be sent at once. One with the same id that is there already stays as it is.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn queue(tx: &mut Tx<'_>, it: &Message<'_>) -> Result<(), StoreError> {
    let now = micros(tx.now());
    let added = tx.execute_unrecorded(
        "INSERT INTO deliveries (id, kind, subject, url, body, made_at, next_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (id) DO NOTHING",
        params![it.id, it.kind, it.subject, it.url, it.body, now],
    )?;
    if added > 0 {
        tx.record("webhook.queued", it.id, json!({ "type": it.kind, "subject": it.subject }));
        crowd_out(tx)?;
    }
    Ok(())
}

/// All that has not arrived, the oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<Delivery>, StoreError> {
    view.all(&format!("SELECT {COLUMNS} FROM deliveries ORDER BY made_at, id"), [], delivery)
}

/// One of them. `None`: it arrived, was dropped, or never was.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, id: &str) -> Result<Option<Delivery>, StoreError> {
    view.one(&format!("SELECT {COLUMNS} FROM deliveries WHERE id = $1"), [id], delivery)
}

/// What is to be sent now, the one that waits longest first, at most `limit`; and its body.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn due(
    view: &View<'_>,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(Delivery, Vec<u8>)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, body FROM deliveries WHERE next_at <= $1 ORDER BY next_at, id LIMIT $2"
    );
    view.all(&sql, params![micros(now), limit], |row| Ok((delivery(row)?, row.get(10)?)))
}

/// When the next is to be sent.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn next_at(view: &View<'_>) -> Result<Option<Timestamp>, StoreError> {
    view.one("SELECT min(next_at) FROM deliveries", [], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.map(from_micros))
    })
    .map(Option::flatten)
}

/// The receiver took it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn arrived(tx: &mut Tx<'_>, it: &Delivery) -> Result<(), StoreError> {
    if tx.execute_unrecorded("DELETE FROM deliveries WHERE id = $1", [&it.id])? > 0 {
        tx.record(
            "webhook.delivered",
            &it.id,
            json!({ "type": it.kind, "subject": it.subject, "tries": it.tries + 1 }),
        );
    }
    Ok(())
}

/// The try failed. `next_at`: it is tried again then; `None`: it is dead.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn failed(
    tx: &mut Tx<'_>,
    it: &Delivery,
    error: &str,
    next_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let dead_at = next_at.is_none().then(|| micros(tx.now()));
    // A person may have sent it again meanwhile: then its tries count anew.
    let changed = tx.execute_unrecorded(
        "UPDATE deliveries SET tries = $1, next_at = $2, dead_at = $3, error = $4 WHERE id = $5 AND tries = $6",
        params![it.tries + 1, next_at.map(micros), dead_at, error, it.id, it.tries],
    )?;
    if changed > 0 && next_at.is_none() {
        let body = json!({ "type": it.kind, "subject": it.subject, "tries": it.tries + 1, "error": error });
        tx.record("webhook.dead", &it.id, body);
        crowd_out(tx)?;
    }
    Ok(())
}

/// Of too many that wait the oldest die, of too many dead ones the oldest go.
fn crowd_out(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let now = micros(tx.now());
    let waiting = tx.count("SELECT count(*) FROM deliveries WHERE next_at IS NOT NULL", [])?;
    if waiting > MOST_WAITING {
        tx.execute_unrecorded(
            "UPDATE deliveries SET next_at = NULL, dead_at = $1, error = coalesce(error, 'too many wait') WHERE id IN \
             (SELECT id FROM deliveries WHERE next_at IS NOT NULL ORDER BY made_at, id LIMIT $2)",
            params![now, int(waiting - MOST_WAITING)],
        )?;
    }
    let dead = tx.count("SELECT count(*) FROM deliveries WHERE next_at IS NULL", [])?;
    if dead > MOST_DEAD {
        let gone = dead - MOST_DEAD;
        tx.execute_unrecorded(
            "DELETE FROM deliveries WHERE id IN \
             (SELECT id FROM deliveries WHERE next_at IS NULL ORDER BY dead_at, made_at, id LIMIT $1)",
            [int(gone)],
        )?;
        tx.record("webhook.forgotten", "dead letters", json!({ "letters": gone }));
    }
    Ok(())
}

/// A person has it sent again, at once and with all its tries.
///
/// # Errors
/// [`StoreError::Missing`] when it arrived or was dropped.
pub fn resend(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    let now = micros(tx.now());
    let changed = tx.execute_unrecorded(
        "UPDATE deliveries SET tries = 0, next_at = $1, dead_at = NULL WHERE id = $2",
        params![now, id],
    )?;
    if changed == 0 {
        return Err(missing(id));
    }
    tx.record("webhook.resent", id, json!({}));
    Ok(())
}

/// A person lets it go.
///
/// # Errors
/// [`StoreError::Missing`] when it is not there.
pub fn drop_it(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    if tx.execute("DELETE FROM deliveries WHERE id = $1", [id])? == 0 {
        return Err(missing(id));
    }
    tx.record("webhook.dropped", id, json!({}));
    Ok(())
}

fn missing(id: &str) -> StoreError {
    StoreError::Missing { what: "undelivered message", name: id.to_owned() }
}
