//! A look at the file alone: is it whole, and of which schema?

use crate::error::BUSY_SECONDS;
use crate::store::{check, connect};
use crate::{StoreError, migrations};
use rusqlite::OpenFlags;
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
    // Not read-only: whoever reads beside a writer writes down where (the `-shm` file).
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = connect(path, Duration::from_secs(BUSY_SECONDS), flags)?;
    check(&connection)?;
    let schema = migrations::current(&connection)?;
    if schema > migrations::SCHEMA {
        return Err(StoreError::NewerSchema { found: schema, known: migrations::SCHEMA });
    }
    Ok(Examined { schema, known: migrations::SCHEMA })
}
