//! Databases that versions of before have left.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// An empty database as the program left it that wrote this schema.
pub(crate) fn database_of(path: &Path, schema: usize) -> Connection {
    let raw = Connection::open(path).unwrap();
    raw.execute_batch("CREATE TABLE schema_version (version INTEGER PRIMARY KEY) STRICT").unwrap();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    assert!(schema < files.len(), "that is no schema of before");
    for (number, file) in (1..).zip(&files[..schema]) {
        raw.execute_batch(&std::fs::read_to_string(file).unwrap()).unwrap();
        raw.execute("INSERT INTO schema_version (version) VALUES ($1)", [number]).unwrap();
    }
    raw
}
