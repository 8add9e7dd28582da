//! Feeds as they were given: the last one that could be read is in force.

use crate::tables::feed_sources;
use crate::view::{from_micros, int, micros};
use crate::{StoreError, Tx, View};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;

/// What is known of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRecord {
    /// Its name.
    pub name: String,
    /// Records held.
    pub records: u64,
    /// Records that could not be read.
    pub errors: u64,
    /// The vendor's date, or the snapshot's.
    pub date: String,
    /// Where it came from.
    pub origin: String,
    /// When it was taken in.
    pub imported_at: Option<Timestamp>,
    /// When the vendor last confirmed it: by giving it, or by saying that nothing is new.
    pub confirmed_at: Option<Timestamp>,
    /// Why the last look or import went wrong. `None`: it went well.
    pub last_error: Option<String>,
    /// When that was.
    pub failed_at: Option<Timestamp>,
}

fn record(row: &Row<'_>) -> Result<FeedRecord, StoreError> {
    Ok(FeedRecord {
        name: row.get(0)?,
        records: row.get::<_, i64>(1)? as u64,
        errors: row.get::<_, i64>(2)? as u64,
        date: row.get(3)?,
        origin: row.get(4)?,
        imported_at: row.get::<_, Option<i64>>(5)?.map(from_micros),
        last_error: row.get(6)?,
        confirmed_at: row.get::<_, Option<i64>>(7)?.map(from_micros),
        failed_at: row.get::<_, Option<i64>>(8)?.map(from_micros),
    })
}

/// All feeds that were ever given, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<FeedRecord>, StoreError> {
    view.all(
        "SELECT name, records, errors, date, origin, imported_at, last_error, confirmed_at, failed_at FROM feeds ORDER BY name",
        [],
        record,
    )
}

/// The bytes of a feed in force, as they were given.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn body(view: &View<'_>, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(view
        .one("SELECT body FROM feeds WHERE name = $1", [name], |row| {
            Ok(row.get::<_, Option<Vec<u8>>>(0)?)
        })?
        .flatten())
}

/// Digest of each feed in force, by name: two servers with equal ones judge alike.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn digests(view: &View<'_>) -> Result<Vec<(String, String)>, StoreError> {
    view.all("SELECT name, digest FROM feeds WHERE digest IS NOT NULL ORDER BY name", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// A feed that was read without fault.
#[derive(Debug, Clone)]
pub struct NewFeed<'a> {
    /// Its name.
    pub name: &'a str,
    /// The bytes as given.
    pub body: &'a [u8],
    /// Records held.
    pub records: u64,
    /// Records that could not be read.
    pub errors: u64,
    /// The vendor's date, or the snapshot's.
    pub date: &'a str,
    /// Where it came from.
    pub origin: &'a str,
    /// As of when it is known to be the vendor's word; `None`: nobody says.
    pub confirmed_at: Option<Timestamp>,
}

/// Puts a feed in force. Gives `false` when the very bytes were in force already.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn take_in(tx: &mut Tx<'_>, feed: &NewFeed<'_>) -> Result<bool, StoreError> {
    let digest = Digest::of(feed.body);
    let before: Option<Option<String>> =
        tx.one("SELECT digest FROM feeds WHERE name = $1", [feed.name], |row| Ok(row.get(0)?))?;
    let new = before.flatten() != Some(digest.to_string());
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO feeds (name, body, digest, records, errors, date, origin, imported_at, confirmed_at, last_error) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL) \
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, digest = excluded.digest, records = excluded.records, \
         errors = excluded.errors, date = excluded.date, origin = excluded.origin, \
         imported_at = excluded.imported_at, confirmed_at = excluded.confirmed_at, last_error = NULL, failed_at = NULL",
        params![
            feed.name,
            feed.body,
            digest.to_string(),
            int(feed.records),
            int(feed.errors),
            feed.date,
            feed.origin,
            now,
            feed.confirmed_at.map(micros)
        ],
    )?;
    // "Not modified" would speak of other bytes now.
    tx.execute_unrecorded(
        "UPDATE feed_fetches SET validators = NULL WHERE name = $1",
        [feed.name],
    )?;
    feed_sources::drop_held(tx, feed.name, "another was taken in")?;
    tx.record(
        "feed.imported",
        feed.name,
        json!({ "digest": digest, "records": feed.records, "errors": feed.errors, "date": feed.date, "origin": feed.origin }),
    );
    Ok(new)
}

/// The vendor confirmed what is in force, just now. Not in the ledger: nothing was decided.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn confirm(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute_unrecorded(
        "UPDATE feeds SET confirmed_at = $1, last_error = NULL, failed_at = NULL WHERE name = $2",
        params![now, name],
    )?;
    Ok(())
}

/// A look or an import went wrong; the feed before stays in force. The same again is not written into the ledger once
/// more: a vendor who is away for a week would fill it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn refuse(tx: &mut Tx<'_>, name: &str, error: &str) -> Result<(), StoreError> {
    let sql = "SELECT last_error FROM feeds WHERE name = $1";
    let before: Option<Option<String>> = tx.one(sql, [name], |row| Ok(row.get(0)?))?;
    let now = micros(tx.now());
    tx.execute_unrecorded(
        "INSERT INTO feeds (name, records, errors, date, origin, last_error, failed_at) VALUES ($1, 0, 0, '', '', $2, $3) \
         ON CONFLICT (name) DO UPDATE SET last_error = excluded.last_error, failed_at = excluded.failed_at",
        params![name, error, now],
    )?;
    if before.flatten().as_deref() != Some(error) {
        tx.record("feed.refused", name, json!({ "error": error }));
    }
    Ok(())
}
