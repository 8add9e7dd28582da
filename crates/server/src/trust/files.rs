//! Files that only the server's user may read, and the lock on the data directory.

use fettle_core::{Problem, ProblemKind};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a directory that only its owner may enter.
pub(super) fn private_dir(path: &Path) -> Result<(), Problem> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| unwritable(path, &e))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| unwritable(path, &e))
}

/// Reads a secret, or makes it. A crash leaves either no file or a whole one.
pub(crate) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, Problem>,
) -> Result<Vec<u8>, Problem> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let bytes = make()?;
            write_private(path, &bytes).map_err(|e| unwritable(path, &e))?;
            Ok(bytes)
        }
        Err(e) => Err(Problem::new(
            ProblemKind::Environment,
            "key-unreadable",
            format!("{} cannot be read: {e}", path.display()),
            "run the server as the user who owns the data directory",
        )),
    }
}

/// Writes a file that nobody else reads: as it was, or whole, however the machine goes down.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Makes the data directory and takes it for this process. The lock goes with the process, however it ends.
pub(crate) fn claim_data_dir(data: &Path) -> Result<File, Problem> {
    private_dir(data)?;
    let path = data.join("server.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| unwritable(&path, &e))?;
    match file.try_lock() {
        Ok(()) => {
            let named = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()));
            named.map_err(|e| unwritable(&path, &e))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let who = if pid.trim().is_empty() {
                String::new()
            } else {
                format!(" (process {})", pid.trim())
            };
            Err(Problem::new(
                ProblemKind::Unavailable,
                "data-dir-in-use",
                format!("another fettle server{who} uses {}", data.display()),
                "stop it first, or give this one a data directory of its own with --data",
            ))
        }
        Err(TryLockError::Error(e)) => Err(unwritable(&path, &e)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "data-dir-not-writable",
        format!("{} cannot be written: {error}", path.display()),
        "give the server a data directory it owns: --data DIR, or chown the one it has",
    )
}
