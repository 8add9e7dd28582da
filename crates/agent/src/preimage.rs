//! The preimage: the exact files, as they were, that the change will touch. What undo restores.
//!
//! ```text
//! preimage/manifest   one JSON line a path, closed by `end <records> <SHA-256 of the lines before>`
//! preimage/pack       contents of small files, one after the other
//! preimage/N          content of one large file (a reflink where the file system can)
//! preimage/set-aside  what an undo overwrote or removed and no rehearsal had shown
//! ```
//!
//! Kept are: every path of the delta with its parent directories, and whole [`WHOLE`] trees, which are small
//! and in which a surprise hurts most. Left alone, before and after, is what [`excluded`] names.

mod capture;
mod content;
mod held;
mod look;
pub mod prune;
mod restore;
pub mod set_aside;
mod state;
pub mod subvolume;

pub use capture::{Captured, capture, extend, list_trees, needs, observe_all};
pub(crate) use held::Held;
pub use restore::{Restored, restore, restore_and, sync};
pub use set_aside::Known;
pub use state::{Attributes, Kind, State, observe, physical};

use crate::durable;
use crate::host_path::HostPath;
use fettle_core::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Trees kept whole in every preimage: configuration, the package database, and what maintainer scripts keep books in
/// (`deb-systemd-helper(1p)`, `ucf(1)`, `pam-auth-update(8)`). A script that is killed leaves its litter in them.
pub const WHOLE: [&str; 7] = [
    "/etc",
    "/var/lib/dpkg",
    "/var/lib/systemd/deb-systemd-helper-enabled",
    "/var/lib/systemd/deb-systemd-helper-masked",
    "/var/lib/systemd/deb-systemd-user-helper-enabled",
    "/var/lib/ucf",
    "/var/lib/pam",
];

/// Never part of delta, preimage or undo: logs, caches and lists that the package manager makes anew,
/// scratch space, kernel file systems, and the agent's own state.
pub const EXCLUDED: [&str; 14] = [
    "/var/log",
    "/var/cache/apt",
    "/var/lib/apt/lists",
    "/var/lib/fettle-agent",
    "/var/lib/systemd/random-seed",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/tmp",
    "/var/tmp",
    "/run",
    "/var/run",
    "/proc",
    "/sys",
    "/dev",
];

/// Is a path left alone, whatever the administrator has declared?
pub fn excluded(path: &Path) -> bool {
    EXCLUDED.iter().any(|e| path.starts_with(e)) || crate::executor::is_guard(path)
}

/// What a preimage is of, besides the paths of a change.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Trees kept whole.
    trees: &'a [&'a str],
    /// Declared data ([`crate::data_paths`]): left alone, before and after.
    data: &'a [PathBuf],
}

impl<'a> Scope<'a> {
    /// [`WHOLE`], without `data`.
    pub fn whole_but(data: &'a [PathBuf]) -> Self {
        Self { trees: &WHOLE, data }
    }
    /// Is a path left alone?
    pub fn excludes(&self, path: &Path) -> bool {
        excluded(path) || self.is_data(path)
    }
    /// Is it declared data?
    pub fn is_data(&self, path: &Path) -> bool {
        self.data.iter().any(|data| path.starts_with(data))
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Scope<'a> {
    fn from(trees: &'a [&'a str; N]) -> Self {
        Self { trees, data: &[] }
    }
}

/// Why a preimage cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum PreimageError {
    /// A file of the host or of the preimage cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// `read`, `copy`, ...
        what: &'static str,
        /// Which file.
        path: HostPath,
        /// Why.
        source: io::Error,
    },
    /// Too little room for it.
    #[error("the preimage needs {needs} bytes in {}, {free} are free", .directory.display())]
    NoSpace {
        /// Where it would go.
        directory: PathBuf,
        /// Bytes needed.
        needs: u64,
        /// Bytes free.
        free: u64,
    },
    /// Too few inodes for it.
    #[error("the preimage needs {needs} inodes in {}, {free} are free", .directory.display())]
    NoInodes {
        /// Where it would go.
        directory: PathBuf,
        /// Inodes needed.
        needs: u64,
        /// Inodes free.
        free: u64,
    },
    /// A file that is kept because of where it stands holds more than anything that belongs there.
    #[error("{path} holds more than {} GiB: it stands where everything is kept before each change", .most >> 30)]
    Vast {
        /// Which file.
        path: HostPath,
        /// Bytes that would do.
        most: u64,
    },
    /// The manifest does not read back as it was written.
    #[error("the manifest {} is damaged: {what}", .path.display())]
    Damaged {
        /// Which manifest.
        path: PathBuf,
        /// How.
        what: String,
    },
}

impl PreimageError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}

/// Where a regular file's content is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// In `pack`, from this byte on.
    Packed(u64),
    /// In the file of this number.
    Own(u64),
    /// It is the same inode as another path of the preimage.
    HardLink(HostPath),
}

/// What stood at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The path.
    pub path: HostPath,
    /// What stood there. `None`: nothing, the path is new.
    pub was: Option<State>,
    /// Its content, where it was a regular file and the manifest is that of a preimage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// What stood at which path.
pub type Manifest = BTreeMap<HostPath, Record>;

/// Path → content that the rehearsal made of it: digest of the bytes of a file, or of what a link says. `None`: it was
/// not noted.
pub type Made = BTreeMap<HostPath, Option<Digest>>;

/// Digest of what each of these paths holds: the bytes of a file (`content.rs`), or what a link says.
pub fn contents(paths: &[PathBuf]) -> Vec<io::Result<Option<Digest>>> {
    look::side_by_side(paths, |_, paths| paths.iter().map(|p| set_aside::content_at(p)).collect())
}

/// Writes a manifest, durably.
///
/// # Errors
/// When it cannot be written.
pub fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), PreimageError> {
    let mut bytes = Vec::with_capacity(manifest.len() * 200);
    for record in manifest.values() {
        serde_json::to_writer(&mut bytes, record)
            .map_err(|e| PreimageError::Damaged { path: path.to_owned(), what: e.to_string() })?;
        bytes.push(b'\n');
    }
    let end = format!("end {} {}\n", manifest.len(), Digest::of(&bytes).hex());
    bytes.extend_from_slice(end.as_bytes());
    durable::replace(path, &bytes).map_err(PreimageError::io("write", path))
}

/// Reads a manifest and checks it against its last line.
///
/// # Errors
/// [`PreimageError::Damaged`] names what does not hold.
pub fn read_manifest(path: &Path) -> Result<Manifest, PreimageError> {
    let mut manifest = Manifest::new();
    read_records(path, |_| true, |record| drop(manifest.insert(record.path.clone(), record)))?;
    Ok(manifest)
}

/// What a manifest says of one path. `None`: it does not name it.
///
/// # Errors
/// As [`read_manifest`].
pub fn read_record(manifest: &Path, path: &HostPath) -> Result<Option<Record>, PreimageError> {
    let damaged = |e: serde_json::Error| PreimageError::Damaged {
        path: manifest.to_owned(),
        what: e.to_string(),
    };
    let name = serde_json::to_vec(path).map_err(damaged)?;
    let finder = memchr::memmem::Finder::new(&name);
    let mut found = None;
    let may_name = |line: &[u8]| finder.find(line).is_some();
    read_records(manifest, may_name, |record| {
        if record.path == *path {
            found = Some(record);
        }
    })?;
    Ok(found)
}

/// Checks a manifest against its last line, and reads those lines that are `wanted`.
fn read_records(
    path: &Path,
    wanted: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(Record),
) -> Result<(), PreimageError> {
    let bytes = fs::read(path).map_err(PreimageError::io("read", path))?;
    let damaged = |what: String| PreimageError::Damaged { path: path.to_owned(), what };
    let body =
        bytes.strip_suffix(b"\n").ok_or_else(|| damaged("the last line is cut off".into()))?;
    let split = memchr::memrchr(b'\n', body).map_or(0, |i| i + 1);
    let (lines, end) = (&bytes[..split], &body[split..]);
    let count = memchr::memchr_iter(b'\n', lines).count();
    if end != format!("end {count} {}", Digest::of(lines).hex()).as_bytes() {
        return Err(damaged("its last line does not fit what stands before it".into()));
    }
    for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty() && wanted(l)) {
        take(serde_json::from_slice(line).map_err(|e| damaged(e.to_string()))?);
    }
    Ok(())
}

#[cfg(test)]
mod random_trees;
#[cfg(test)]
mod swapped;
#[cfg(test)]
mod tests;
