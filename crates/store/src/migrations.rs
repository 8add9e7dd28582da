//! Numbered migrations, embedded. Each runs once, in a transaction of its own.

use crate::StoreError;
use rusqlite::Connection;

const MIGRATIONS: [&str; 13] = [
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
    include_str!("../migrations/0005.sql"),
    include_str!("../migrations/0006.sql"),
    include_str!("../migrations/0007.sql"),
    include_str!("../migrations/0008.sql"),
    include_str!("../migrations/0009.sql"),
    include_str!("../migrations/0010.sql"),
    include_str!("../migrations/0011.sql"),
    include_str!("../migrations/0012.sql"),
    include_str!("../migrations/0013.sql"),
];

/// The schema this program writes.
pub(crate) const SCHEMA: u32 = MIGRATIONS.len() as u32;

pub(crate) fn current(connection: &Connection) -> Result<u32, StoreError> {
    let there: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_version')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(0);
    }
    Ok(connection
        .query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))?)
}

/// Brings the file to [`SCHEMA`]. Killed at any point, it goes on where it stood.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = current(connection)?;
    if found > SCHEMA {
        return Err(StoreError::NewerSchema { found, known: SCHEMA });
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY) STRICT",
        )?;
        tx.execute_batch(sql)?;
        tx.execute("INSERT INTO schema_version (version) VALUES ($1)", [index as i64 + 1])?;
        tx.commit()?;
    }
    Ok(())
}
