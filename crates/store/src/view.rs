//! A consistent look at the database, and a transaction that changes it.

use crate::StoreError;
use crate::cohorts::Cohorts;
use crate::tables::ledger;
use fettle_core::{Digest, HostId, Timestamp};
use rusqlite::{Connection, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

/// One consistent state of the database, to look at.
pub struct View<'c> {
    connection: &'c Connection,
    /// What cohorts have installed, as far as somebody looked.
    pub(crate) cohorts: &'c Cohorts,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

impl<'c> View<'c> {
    pub(crate) fn new(connection: &'c Connection, cohorts: &'c Cohorts) -> Self {
        Self { connection, cohorts }
    }

    /// The first row, if any.
    pub(crate) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(map).transpose()
    }

    /// All rows.
    pub(crate) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            out.push(map(row)?);
        }
        Ok(out)
    }

    /// A single number.
    pub(crate) fn count(&self, sql: &str, params: impl Params) -> Result<u64, StoreError> {
        Ok(self.one(sql, params, |row| Ok(row.get::<_, i64>(0)?))?.unwrap_or(0) as u64)
    }
}

/// A transaction that changes the database. Reads see its own changes.
pub struct Tx<'c> {
    view: View<'c>,
    actor: String,
    now: Timestamp,
    changed: bool,
    entries: Vec<(String, String, serde_json::Value)>,
    /// Hosts whose row, labels, inventory or findings it changed.
    pub(crate) touched: BTreeSet<HostId>,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx(by {}, {} entries)", self.actor, self.entries.len())
    }
}

impl<'c> Deref for Tx<'c> {
    type Target = View<'c>;
    fn deref(&self) -> &View<'c> {
        &self.view
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(view: View<'c>, actor: &str, now: Timestamp) -> Self {
        // The columns hold microseconds: what is written must be what is read back.
        let now = from_micros(micros(now));
        Self {
            view,
            actor: actor.to_owned(),
            now,
            changed: false,
            entries: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The time of this transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who makes it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Adds an entry to the ledger, in this transaction. `kind` is `noun.verb`, `subject` an id.
    pub fn record(&mut self, kind: &str, subject: &str, body: serde_json::Value) {
        self.entries.push((kind.to_owned(), subject.to_owned(), body));
    }

    /// Whoever keeps the fleet in memory has to look at this host again after the commit.
    pub(crate) fn touch(&mut self, host: &HostId) {
        if !self.touched.contains(host) {
            self.touched.insert(host.clone());
        }
    }

    /// A change by decision: the transaction is refused at commit unless something was recorded.
    pub(crate) fn execute(&mut self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        self.changed = true;
        self.execute_unrecorded(sql, params)
    }

    /// A change that is no decision and would drown the ledger (a host was heard, a feed's error text).
    pub(crate) fn execute_unrecorded(
        &mut self,
        sql: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        Ok(self.view.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// Lets the file grow no further than `pages` beyond nothing: how tests make a disk full.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    #[doc(hidden)]
    pub fn limit_pages_for_test(tx: &mut Tx<'_>, pages: u32) -> Result<(), StoreError> {
        tx.view.connection.pragma_update(None, "max_page_count", pages)?;
        Ok(())
    }

    /// Writes the ledger entries; the last thing before the commit.
    pub(crate) fn seal(&mut self) -> Result<(), StoreError> {
        if self.changed && self.entries.is_empty() {
            return Err(StoreError::Unrecorded);
        }
        for (kind, subject, body) in std::mem::take(&mut self.entries) {
            ledger::append(self, &kind, &subject, body)?;
        }
        Ok(())
    }
}

pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Document { what, detail: e.to_string() })
}

pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Document { what, detail: e.to_string() })
}

pub(crate) fn to_digest(what: &'static str, text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|e: fettle_core::digest::BadDigest| StoreError::Document {
        what,
        detail: e.to_string(),
    })
}

/// SQLite's integers are signed; counts and sequence numbers stay far below the edge.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_change_that_nobody_recorded_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("fettle.db")).unwrap();
        let insert = "INSERT INTO settings (key, value) VALUES ('a', 'b')";
        let out = store
            .write::<_, StoreError>("server", Timestamp::UNIX_EPOCH, |tx| tx.execute(insert, []));
        assert!(matches!(out, Err(StoreError::Unrecorded)), "{out:?}");
        let left =
            store.read::<_, StoreError>(|v| v.count("SELECT count(*) FROM settings", [])).unwrap();
        assert_eq!(left, 0);
    }
}
