//! Where feeds are fetched from, what came of it, and what waits for a person's word.

use crate::tables::feeds;
use crate::view::{from_json, from_micros, int, micros, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::feed::{FeedAddress, FeedSource};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A source with who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// The feed.
    pub name: String,
    /// Where it comes from.
    pub source: FeedSource,
    /// When it was set.
    pub added_at: Timestamp,
    /// By whom.
    pub added_by: String,
}

/// By what a vendor says that nothing has changed (RFC 9110, section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The address that gave them.
    pub url: String,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What came of looking at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRecord {
    /// The feed.
    pub name: String,
    /// Last look, whatever it gave.
    pub tried_at: Option<Timestamp>,
    /// Looks that failed since one that did not.
    pub failures: u32,
    /// When to look again.
    pub next_at: Timestamp,
    /// Of what is in force, where it was fetched.
    pub validators: Option<Validators>,
    /// When all of it was last fetched.
    pub whole_at: Option<Timestamp>,
}

/// What waits for a person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRecord {
    /// The feed.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Day the vendor gives it.
    pub date: String,
    /// Where it came from.
    pub origin: String,
    /// `feed-shrunk`, `feed-grew`, `feed-reworded`, `feed-cleared`, `feed-reranked`.
    pub code: String,
    /// Why it was not taken.
    pub reason: String,
    /// Since when.
    pub held_at: Timestamp,
}

fn source(row: &Row<'_>) -> Result<SourceRecord, StoreError> {
    Ok(SourceRecord {
        name: row.get(0)?,
        source: from_json("feed source", &row.get::<_, String>(1)?)?,
        added_at: from_micros(row.get(2)?),
        added_by: row.get(3)?,
    })
}

/// All sources, by feed.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn sources(view: &View<'_>) -> Result<Vec<SourceRecord>, StoreError> {
    view.all("SELECT name, body, added_at, added_by FROM feed_sources ORDER BY name", [], source)
}

/// The source of one feed.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, name: &str) -> Result<Option<SourceRecord>, StoreError> {
    view.one(
        "SELECT name, body, added_at, added_by FROM feed_sources WHERE name = $1",
        [name],
        source,
    )
}

/// Sets where a feed is fetched from. It is looked at next at once, and all of it is fetched then.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set(tx: &mut Tx<'_>, name: &str, source: &FeedSource) -> Result<(), StoreError> {
    let now = micros(tx.now());
    let actor = tx.actor().to_owned();
    tx.execute(
        "INSERT INTO feed_sources (name, body, added_at, added_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, added_at = excluded.added_at, added_by = excluded.added_by",
        params![name, to_json("feed source", source)?, now, actor],
    )?;
    tx.execute(
        "INSERT INTO feed_fetches (name, next_at) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at, failures = 0, validators = NULL",
        params![name, now],
    )?;
    let shown: Vec<String> = source.urls.iter().map(|url| shown(url)).collect();
    tx.record(
        "feed.source-set",
        name,
        json!({ "urls": shown, "every_seconds": source.every_seconds }),
    );
    Ok(())
}

/// An address as lists and the ledger may show it.
pub fn shown(url: &str) -> String {
    FeedAddress::parse(url).map_or_else(|e| e.to_string(), |address| address.to_string())
}

/// A feed is fetched no more. What is in force stays; what came from there and waits is forgotten.
///
/// # Errors
/// [`StoreError::Missing`] where it had no source.
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    if tx.execute("DELETE FROM feed_sources WHERE name = $1", [name])? == 0 {
        return Err(StoreError::Missing { what: "feed source", name: name.to_owned() });
    }
    tx.record("feed.source-removed", name, json!({}));
    drop_held(tx, name, "its source was removed")
}

fn fetch(row: &Row<'_>) -> Result<FetchRecord, StoreError> {
    let validators: Option<String> = row.get(4)?;
    Ok(FetchRecord {
        name: row.get(0)?,
        tried_at: row.get::<_, Option<i64>>(1)?.map(from_micros),
        failures: row.get(2)?,
        next_at: from_micros(row.get(3)?),
        validators: validators.map(|text| from_json("validators", &text)).transpose()?,
        whole_at: row.get::<_, Option<i64>>(5)?.map(from_micros),
    })
}

/// What came of looking at each source, by feed.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn fetches(view: &View<'_>) -> Result<Vec<FetchRecord>, StoreError> {
    view.all(
        "SELECT name, tried_at, failures, next_at, validators, whole_at FROM feed_fetches ORDER BY name",
        [],
        fetch,
    )
}

/// A look gave what was in force already, or the vendor said that nothing is new. Not in the ledger: nothing was decided.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn confirmed(
    tx: &mut Tx<'_>,
    name: &str,
    next_at: Timestamp,
    validators: Option<&Validators>,
    whole: bool,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    feeds::confirm(tx, name)?;
    let validators = validators.map(|v| to_json("validators", v)).transpose()?;
    tx.execute_unrecorded(
        "UPDATE feed_fetches SET tried_at = $1, failures = 0, next_at = $2, validators = $3, \
         whole_at = CASE WHEN $4 THEN $1 ELSE whole_at END WHERE name = $5",
        params![now, micros(next_at), validators, whole, name],
    )?;
    drop_held(tx, name, "the vendor's word is what is in force")
}

/// What waited was taken at a person's word: it is in force as of when it was fetched, with its validators. When to look
/// again stays as it was.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn accepted(
    tx: &mut Tx<'_>,
    name: &str,
    fetched_at: Timestamp,
    validators: Option<&Validators>,
) -> Result<(), StoreError> {
    let validators = validators.map(|v| to_json("validators", v)).transpose()?;
    tx.execute_unrecorded(
        "UPDATE feed_fetches SET failures = 0, validators = $1, whole_at = $2 WHERE name = $3",
        params![validators, micros(fetched_at), name],
    )?;
    Ok(())
}

/// A look failed, or gave what was refused. `failures`: in a row, this one counted; 0 where the vendor was reached and
/// its word waits for a person.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn failed(
    tx: &mut Tx<'_>,
    name: &str,
    next_at: Timestamp,
    failures: u32,
    error: &str,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute_unrecorded(
        "UPDATE feed_fetches SET tried_at = $1, failures = $2, next_at = $3 WHERE name = $4",
        params![now, failures, micros(next_at), name],
    )?;
    feeds::refuse(tx, name, error)
}

/// Keeps what was fetched for a person to look at.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn hold(
    tx: &mut Tx<'_>,
    held: &HeldRecord,
    body: &[u8],
    validators: Option<&Validators>,
) -> Result<(), StoreError> {
    let validators = validators.map(|v| to_json("validators", v)).transpose()?;
    tx.execute(
        "INSERT INTO feed_held (name, body, digest, date, origin, code, reason, held_at, validators) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO UPDATE SET body = excluded.body, \
         digest = excluded.digest, date = excluded.date, origin = excluded.origin, code = excluded.code, \
         reason = excluded.reason, held_at = excluded.held_at, validators = excluded.validators",
        params![
            held.name,
            body,
            held.digest.to_string(),
            held.date,
            held.origin,
            held.code,
            held.reason,
            micros(held.held_at),
            validators
        ],
    )?;
    let body = json!({ "digest": held.digest, "code": held.code, "reason": held.reason, "bytes": int(body.len() as u64) });
    tx.record("feed.held", &held.name, body);
    Ok(())
}

/// What waits for a person, by feed.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn held(view: &View<'_>) -> Result<Vec<HeldRecord>, StoreError> {
    view.all(
        "SELECT name, digest, date, origin, code, reason, held_at FROM feed_held ORDER BY name",
        [],
        |row| {
            Ok(HeldRecord {
                name: row.get(0)?,
                digest: to_digest("held feed", &row.get::<_, String>(1)?)?,
                date: row.get(2)?,
                origin: row.get(3)?,
                code: row.get(4)?,
                reason: row.get(5)?,
                held_at: from_micros(row.get(6)?),
            })
        },
    )
}

/// The bytes of what waits, with its validators.
pub type HeldBody = (Vec<u8>, Option<Validators>);

/// The bytes of what waits, with its validators.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn held_body(view: &View<'_>, name: &str) -> Result<Option<HeldBody>, StoreError> {
    view.one("SELECT body, validators FROM feed_held WHERE name = $1", [name], |row| {
        let validators: Option<String> = row.get(1)?;
        let validators = validators.map(|text| from_json("validators", &text)).transpose()?;
        Ok((row.get(0)?, validators))
    })
}

/// Forgets what waits: it was taken, or overtaken.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn drop_held(tx: &mut Tx<'_>, name: &str, why: &str) -> Result<(), StoreError> {
    if tx.execute_unrecorded("DELETE FROM feed_held WHERE name = $1", [name])? > 0 {
        tx.record("feed.held-dropped", name, json!({ "why": why }));
    }
    Ok(())
}
