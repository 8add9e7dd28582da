//! Files that are either as they were or wholly new, whatever happens: write, fsync, rename, fsync the directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes the directory's entries durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces `path` by `bytes`, mode 0600. A reader sees the old content or the new, never a part; after the
/// call the new one survives a power cut.
///
/// # Errors
/// When a file of the directory cannot be written; the old content then still stands.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(directory)
    })();
    if written.is_err() {
        // What could not be finished only takes space; the error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates a directory of mode 0700 and makes its entry in the parent durable. An existing one is fine.
///
/// # Errors
/// When it can neither be created nor is a directory.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    directory.parent().map_or(Ok(()), sync_directory)
}

/// Removes a file that may be there; its absence is durable afterwards.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Err(_) => Ok(()),
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
    }
}
