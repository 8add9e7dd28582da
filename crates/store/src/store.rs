//! Opening the file, one writer, some readers.

use crate::cohorts::Cohorts;
use crate::error::BUSY_SECONDS;
use crate::tables::settings;
use crate::view::{Tx, View};
use crate::{StoreError, migrations};
use fettle_core::{HostId, Timestamp};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Oldest SQLite that is safe: before it, a race in the WAL could corrupt the file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Look through the whole file for damage first (`PRAGMA quick_check`).
    pub check: bool,
    /// How long a writer waits for another program, in milliseconds.
    pub busy_milliseconds: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { check: true, busy_milliseconds: BUSY_SECONDS * 1000 }
    }
}

/// The database of one server: one connection that writes, others that read beside it (WAL).
///
/// All methods block; asynchronous callers hand them to a blocking thread.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    busy: Duration,
    writer: Mutex<Connection>,
    /// Connections at rest. A reader takes one or opens another, and puts it back.
    readers: Mutex<Vec<Connection>>,
    /// Hosts changed by commits since they were last asked for.
    touched: Mutex<BTreeSet<HostId>>,
    cohorts: Cohorts,
    /// The term that this server was given; 0: it has not asked for one, and is no server.
    term: AtomicU64,
}

/// Setting: how often a server has taken the database. Whoever does so last may write.
const TERM: &str = "server-term";

/// Readers kept at rest; more are opened when more are needed.
const READERS_KEPT: usize = 4;

impl Store {
    /// Opens the file, makes it where there is none, and brings it to this program's schema.
    ///
    /// # Errors
    /// [`StoreError`] says why not: no permission, damaged, written by a later version, locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// [`Store::open`] with options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(StoreError::OldSqlite { found: rusqlite::version().to_owned() });
        }
        let busy = Duration::from_millis(options.busy_milliseconds);
        let mut writer =
            connect(path, busy, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        if options.check {
            check(&writer)?;
        }
        // Before the file is touched: a file of a later version stays as it is.
        let found = migrations::current(&writer)?;
        if found > migrations::SCHEMA {
            return Err(StoreError::NewerSchema { found, known: migrations::SCHEMA });
        }
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        migrations::migrate(&mut writer)?;
        Ok(Self {
            path: path.to_owned(),
            busy,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            touched: Mutex::default(),
            cohorts: Cohorts::default(),
            term: AtomicU64::new(0),
        })
    }

    /// From now on this process is the server of the database: whoever was it before writes nothing any more, however
    /// late it wakes. The lock on the data directory keeps two servers apart where file locks hold; this holds also
    /// where they do not, and for a process that was stopped while another took its place.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn take(&self, now: Timestamp) -> Result<u64, StoreError> {
        let term = self.write::<_, StoreError>("server", now, |tx| {
            let term = term_of(tx)? + 1;
            settings::set(tx, TERM, &term.to_string())?;
            Ok(term)
        })?;
        self.term.store(term, Ordering::SeqCst);
        Ok(term)
    }

    /// Is this process still the one that took the database last?
    ///
    /// # Errors
    /// [`StoreError::Superseded`] when it is not; or of the database.
    pub fn is_mine(&self) -> Result<(), StoreError> {
        self.read(|view| self.fence(view))
    }

    fn fence(&self, view: &View<'_>) -> Result<(), StoreError> {
        match self.term.load(Ordering::SeqCst) {
            0 => Ok(()),
            mine => match term_of(view)? {
                term if term == mine => Ok(()),
                term => Err(StoreError::Superseded { mine, term }),
            },
        }
    }

    /// Runs one transaction. `actor` (`operator:alice`, `host:ID`, `server`) and `now` go into the ledger.
    /// When `change` fails, or the process dies before the commit, nothing happened.
    ///
    /// # Errors
    /// What `change` gives, or [`StoreError`] of the database.
    pub fn write<T, E: From<StoreError>>(
        &self,
        actor: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = lock(&self.writer);
        let sql = writer
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| E::from(e.into()))?;
        let mut tx = Tx::new(View::new(&sql, &self.cohorts), actor, now);
        self.fence(&tx).map_err(E::from)?;
        let out = change(&mut tx)?;
        tx.seal()?;
        let touched = std::mem::take(&mut tx.touched);
        sql.commit().map_err(|e| E::from(e.into()))?;
        // After the commit: whoever takes the list and then looks sees what was changed.
        self.touch(touched);
        Ok(out)
    }

    /// Looks at one consistent state of the database. Never waits for the writer, and never makes it wait.
    ///
    /// # Errors
    /// What `look` gives, or [`StoreError`] of the database.
    pub fn read<T, E: From<StoreError>>(
        &self,
        look: impl FnOnce(&View<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = lock(&self.readers).pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => {
                connect(&self.path, self.busy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(E::from)?
            }
        };
        let out = {
            let sql = reader.transaction().map_err(|e| E::from(e.into()))?;
            look(&View::new(&sql, &self.cohorts))
        };
        let mut kept = lock(&self.readers);
        if kept.len() < READERS_KEPT {
            kept.push(reader);
        }
        out
    }

    /// Closes it, with everything in the one file: nothing is left in its log (WAL).
    ///
    /// # Errors
    /// When another program still reads it, or it cannot be written.
    pub fn close(self) -> Result<(), StoreError> {
        lock(&self.readers).clear();
        let writer = lock(&self.writer);
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = writer.query_row(sql, [], |row| row.get(0))?;
        match busy {
            0 => Ok(()),
            _ => Err(StoreError::Locked { waited_seconds: self.busy.as_secs() }),
        }
    }

    /// Hosts whose row, labels, inventory or findings were changed by commits since the last call. A look begun
    /// after this call sees those changes. When a host was last heard does not count.
    pub fn take_touched(&self) -> BTreeSet<HostId> {
        std::mem::take(&mut *lock(&self.touched))
    }

    /// Is there nothing for [`Store::take_touched`] to give?
    pub fn is_untouched(&self) -> bool {
        lock(&self.touched).is_empty()
    }

    /// Gives back hosts that were taken and could not be looked at.
    pub fn touch(&self, hosts: BTreeSet<HostId>) {
        lock(&self.touched).extend(hosts);
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn term_of(view: &View<'_>) -> Result<u64, StoreError> {
    let known = settings::get(view, TERM)?;
    Ok(known.and_then(|term| term.parse().ok()).unwrap_or(0))
}

/// A panic in a transaction rolled it back, so what the lock guards is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn connect(
    path: &Path,
    busy: Duration,
    flags: OpenFlags,
) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|e| match StoreError::from(e) {
            StoreError::Sql(e) => StoreError::Open { path: path.to_owned(), detail: e.to_string() },
            other => other,
        })?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

pub(crate) fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Corrupt { detail: verdict }) }
}
