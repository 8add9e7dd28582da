//! The delta: what the upper layers say has changed. Upper layer format: kernel documentation,
//! `filesystems/overlayfs.rst`, "whiteouts and opaque directories".

use super::clone_root::Layer;
use crate::durable;
use crate::host_path::HostPath;
use crate::preimage::{Made, contents, excluded};
use fettle_core::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It was not there.
    New,
    /// It was there: content, attributes or kind change.
    Changed,
    /// It will not be there.
    Gone,
}

/// A path that the change touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which path.
    pub path: HostPath,
    /// What happens to it.
    pub change: ChangeKind,
    /// Afterwards it is a directory.
    pub directory: bool,
    /// Bytes of the regular file afterwards.
    pub bytes: u64,
    /// SHA-256 of the regular file afterwards, or of what a link says. An agent before did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// What the rehearsal made of each path that is there afterwards.
pub fn made(changes: &[Change]) -> Made {
    let there = changes.iter().filter(|c| c.change != ChangeKind::Gone && !c.directory);
    there.map(|c| (c.path.clone(), c.sha256)).collect()
}

/// Path → how it changes, and where what it becomes can be read.
type Found = BTreeMap<HostPath, (Change, Option<PathBuf>)>;

/// Walks the upper layers of the clone.
///
/// # Errors
/// When a directory of a layer cannot be read.
pub(super) fn walk(layers: &[Layer]) -> io::Result<Vec<Change>> {
    let mut out = BTreeMap::new();
    for layer in layers {
        directory(layer, Path::new(""), &mut out)?;
    }
    let (mut changes, places): (Vec<Change>, Vec<Option<PathBuf>>) = out.into_values().unzip();
    let (there, places): (Vec<usize>, Vec<PathBuf>) =
        places.into_iter().enumerate().filter_map(|(n, place)| Some((n, place?))).unzip();
    for (n, found) in there.into_iter().zip(contents(&places)) {
        changes[n].sha256 = found?;
    }
    Ok(changes)
}

fn directory(layer: &Layer, inside: &Path, out: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(layer.upper.join(inside))? {
        let entry = entry?;
        let inside = inside.join(entry.file_name());
        let path = HostPath(layer.point.join(&inside));
        if excluded(path.as_path()) || layer.ours.contains(&path) {
            continue;
        }
        let lower = layer.lower.join(&inside);
        let before = fs::symlink_metadata(&lower).ok();
        let now = fs::symlink_metadata(entry.path())?;
        let mut note = |change, directory: bool, bytes| {
            let place = (change != ChangeKind::Gone && !directory).then(|| entry.path());
            let change = Change { path: path.clone(), change, directory, bytes, sha256: None };
            out.insert(path.clone(), (change, place));
        };
        if now.file_type().is_char_device() && now.rdev() == 0 {
            // A whiteout of something that the transaction itself had made is no change.
            if let Some(before) = before {
                note(ChangeKind::Gone, false, 0);
                if before.is_dir() {
                    gone(layer, &inside, out)?;
                }
            }
            continue;
        }
        let change = if before.is_some() { ChangeKind::Changed } else { ChangeKind::New };
        note(change, now.is_dir(), if now.is_file() { now.len() } else { 0 });
        if now.is_dir() {
            if before.as_ref().is_some_and(fs::Metadata::is_dir) && opaque(&entry.path()) {
                gone(layer, &inside, out)?; // what is there again is noted over it below
            }
            directory(layer, &inside, out)?;
        } else if before.is_some_and(|b| b.is_dir()) {
            gone(layer, &inside, out)?;
        }
    }
    Ok(())
}

/// Everything below a directory of the lower layer.
fn gone(layer: &Layer, inside: &Path, out: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(layer.lower.join(inside))? {
        let entry = entry?;
        let inside = inside.join(entry.file_name());
        let path = HostPath(layer.point.join(&inside));
        if excluded(path.as_path()) {
            continue;
        }
        let change = ChangeKind::Gone;
        let change =
            Change { path: path.clone(), change, directory: false, bytes: 0, sha256: None };
        out.insert(path, (change, None));
        if entry.file_type()?.is_dir() {
            gone(layer, &inside, out)?;
        }
    }
    Ok(())
}

fn opaque(directory: &Path) -> bool {
    let mut value = [0u8; 4];
    matches!(rustix::fs::lgetxattr(directory, "trusted.overlay.opaque", &mut value[..]), Ok(1) if value[0] == b'y')
}

/// Writes a delta, one JSON line a path, durably.
///
/// # Errors
/// When it cannot be written.
pub fn write_delta(path: &Path, changes: &[Change]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(changes.len() * 100);
    for change in changes {
        serde_json::to_writer(&mut bytes, change)?;
        bytes.push(b'\n');
    }
    durable::replace(path, &bytes)
}

/// Reads what [`write_delta`] wrote.
///
/// # Errors
/// When it cannot be read.
pub fn read_delta(path: &Path) -> io::Result<Vec<Change>> {
    let bytes = fs::read(path)?;
    bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| Ok(serde_json::from_slice(l)?))
        .collect()
}
