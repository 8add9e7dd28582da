//! A copy of the database beside a server that goes on writing.

use crate::error::BUSY_SECONDS;
use crate::store::connect;
use crate::{StoreError, migrations};
use rusqlite::OpenFlags;
use std::path::Path;
use std::time::Duration;

/// Copies one consistent state of the database to a new file, without what was deleted (`VACUUM INTO`). A server that
/// runs on it is not kept waiting.
///
/// # Errors
/// [`StoreError`]: there is no such database, it is of a later version, or the copy cannot be written (`to` must not
/// exist).
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let busy = Duration::from_secs(BUSY_SECONDS);
    // Not read-only: whoever reads beside a writer writes down where (the `-shm` file).
    let source = connect(from, busy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = migrations::current(&source)?;
    if found > migrations::SCHEMA {
        return Err(StoreError::NewerSchema { found, known: migrations::SCHEMA });
    }
    let to = to.to_str().ok_or_else(|| StoreError::Open {
        path: to.to_owned(),
        detail: "the path is no UTF-8".to_owned(),
    })?;
    source.execute("VACUUM INTO $1", [to])?;
    Ok(())
}
