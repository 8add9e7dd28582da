//! A look at the file alone: is it whole, and of which schema?

use crate::cohorts::Cohorts;
use crate::error::BUSY_SECONDS;
use crate::store::{check, connect};
use crate::{StoreError, View, migrations};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// Its schema.
    pub schema: u32,
    /// The schema that this program writes.
    pub known: u32,
}

/// Looks through the whole file for damage. Changes nothing: it is not brought to another schema, and none is made.
///
/// # Errors
/// [`StoreError`]: there is none, it cannot be opened, is damaged, or is of a later version.
pub fn examine(path: &Path) -> Result<Examined, StoreError> {
    let connection = open(path)?;
    check(&connection)?;
    let schema = migrations::current(&connection)?;
    if schema > migrations::SCHEMA {
        return Err(StoreError::NewerSchema { found: schema, known: migrations::SCHEMA });
    }
    Ok(Examined { schema, known: migrations::SCHEMA })
}

/// Looks at one consistent state of a database whose server may run or not. Changes nothing: what stands in its log (WAL)
/// stays there. The schema must be the one that this program writes: see [`examine`].
///
/// # Errors
/// What `look` gives, or [`StoreError`] of the database.
pub fn look_at<T, E: From<StoreError>>(
    path: &Path,
    look: impl FnOnce(&View<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut connection = open(path)?;
    let sql = connection.transaction().map_err(|e| E::from(e.into()))?;
    look(&View::new(&sql, &Cohorts::default()))
}

/// A connection that only reads.
fn open(path: &Path) -> Result<Connection, StoreError> {
    connect(path, Duration::from_secs(BUSY_SECONDS), OpenFlags::SQLITE_OPEN_READ_ONLY)
}
