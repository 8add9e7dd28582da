//! Feeds in files: one file, or the newest in a directory that is named for the feed.

use super::{Answer, FetchError};
use fettle_store::feed_sources::Validators;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Reads the file at `path`, or in that directory the newest `NAME.…`. `None`: it is the one that is known.
pub(super) async fn read(
    name: String,
    path: String,
    most: u64,
    known: Option<Validators>,
) -> Result<Option<Answer>, FetchError> {
    // A thread of its own: a file system that hangs holds nobody else up.
    let read = tokio::task::spawn_blocking(move || read_now(&name, Path::new(&path), most, known));
    read.await.unwrap_or_else(|e| Err(FetchError::File(format!("it could not be read: {e}"))))
}

fn read_now(
    name: &str,
    path: &Path,
    most: u64,
    known: Option<Validators>,
) -> Result<Option<Answer>, FetchError> {
    let cannot = |path: &Path, e: &dyn std::fmt::Display| {
        FetchError::File(format!("{} cannot be read: {e}", path.display()))
    };
    let found = fs::metadata(path).map_err(|e| cannot(path, &e))?;
    let (path, found, listed) = if found.is_dir() {
        let newest = newest(name, path).map_err(|e| cannot(path, &e))?;
        let (path, found) = newest.ok_or_else(|| {
            FetchError::File(format!("{} holds no file `{name}.…`", path.display()))
        })?;
        (path, found, true)
    } else {
        (path.to_owned(), found, false)
    };
    // A pipe or a device would be waited for, for ever.
    if !found.is_file() {
        return Err(FetchError::File(format!("{} is no file", path.display())));
    }
    if found.len() > most {
        return Err(FetchError::TooLarge(most));
    }
    let mark = format!(
        "{}:{}:{}.{}:{}",
        path.display(),
        found.ino(),
        found.mtime(),
        found.mtime_nsec(),
        found.len()
    );
    if known.and_then(|known| known.etag).is_some_and(|etag| etag == mark) {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    let file = fs::File::open(&path).map_err(|e| cannot(&path, &e))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| cannot(&path, &e))?;
    if bytes.len() as u64 > most {
        return Err(FetchError::TooLarge(most));
    }
    if bytes.len() as u64 != found.len() {
        let why = "it is being written: write beside it, and rename it when it is whole".to_owned();
        return Err(FetchError::CutOff { bytes: bytes.len() as u64, why });
    }
    let path = listed.then(|| path.display().to_string());
    Ok(Some(Answer { bytes, etag: Some(mark), last_modified: None, path }))
}

/// The newest file of the directory that is named for the feed; the last by name of several as new. What is being
/// written (`….part`, `….tmp`), and digests, are none.
fn newest(name: &str, directory: &Path) -> std::io::Result<Option<(PathBuf, Metadata)>> {
    let mut best: Option<(i64, i64, PathBuf, Metadata)> = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|f| f.to_str()).unwrap_or_default();
        let rest = file.strip_prefix(name).filter(|rest| rest.starts_with('.'));
        let unfit = [".part", ".tmp", ".sha256"].iter().any(|end| file.ends_with(end));
        if rest.is_none() || unfit {
            continue;
        }
        let found = fs::metadata(&path)?;
        let newer = |(s, n, p, _): &(i64, i64, PathBuf, Metadata)| {
            (found.mtime(), found.mtime_nsec(), &path) > (*s, *n, p)
        };
        if found.is_file() && best.as_ref().is_none_or(newer) {
            best = Some((found.mtime(), found.mtime_nsec(), path, found));
        }
    }
    Ok(best.map(|(_, _, path, found)| (path, found)))
}
