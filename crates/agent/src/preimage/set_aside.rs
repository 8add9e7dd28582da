//! What an undo takes away or overwrites although no rehearsal had shown it: a copy stays beside the preimage, since it
//! may be somebody's work.
//!
//! While a change is made nobody can tell its writes from an administrator's. What the rehearsal made of a path can be
//! told: what has another content, and not the old one either, was written by a person, or by a script that did on the
//! host what it did not do on the clone.

use super::content::copy_sparse;
use super::held::Held;
use super::look::Look;
use super::state::{Kind, State};
use super::{Made, Manifest, Record};
use crate::durable;
use crate::host_path::HostPath;
use fettle_core::Digest;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where in a preimage the copies lie, each below its own path.
pub const PLACE: &str = "set-aside";
/// A copy that is not whole yet.
const HALF: &str = ".half";

/// What is known, at the time of an undo, of what the change itself had made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// What each path was when the change had ended. What differs from it was changed by somebody else, later.
    pub after: Option<&'a Manifest>,
    /// What the rehearsal made of each path that it changed. What differs from it is set aside.
    pub made: Option<&'a Made>,
}

/// Which paths are set aside before they are taken away or overwritten.
pub(super) struct Doubtful<'a> {
    /// New, and in the trees that are kept whole.
    pub(super) unforeseen: BTreeSet<HostPath>,
    /// As in [`Known`].
    pub(super) made: Option<&'a Made>,
}

impl Doubtful<'_> {
    /// Might what stands there be somebody's work?
    pub(super) fn is(&self, record: &Record, now: Option<&State>) -> bool {
        if self.unforeseen.contains(&record.path) {
            return true;
        }
        let Some((made, stands)) = self.made.zip(now.and_then(|now| content(&now.kind))) else {
            return false;
        };
        let before = record.was.as_ref().and_then(|was| content(&was.kind));
        if before == Some(stands) || is_generated(record.path.as_path()) {
            return false;
        }
        match made.get(&record.path) {
            Some(Some(then)) => *then != stands,
            // An agent before did not note the content: then the change is believed to have made it.
            Some(None) => false,
            None => true,
        }
    }
}

/// Content that can be told from another: bytes of a file, words of a link.
fn content(kind: &Kind) -> Option<Digest> {
    match kind {
        Kind::File { sha256, .. } => Some(*sha256),
        Kind::Symlink { target } => Some(Digest::of(target.0.as_os_str().as_bytes())),
        _ => None,
    }
}

/// The same of what stands at a path. `None`: neither file nor link.
///
/// # Errors
/// When it cannot be read.
pub(super) fn content_at(path: &Path) -> io::Result<Option<Digest>> {
    Ok(super::observe(path)?.and_then(|state| content(&state.kind)))
}

/// Written by programs, and another time otherwise though nobody has touched them: books of the package manager,
/// caches, images for the boot, and GRUB's menu, which a rehearsal has no disks to write.
pub(super) fn is_generated(path: &Path) -> bool {
    const PLACES: [&str; 4] = ["/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/boot/grub"];
    PLACES.iter().any(|place| path.starts_with(place))
        || path.to_string_lossy().starts_with("/boot/initrd.img")
        || is_litter(path)
}

/// What dpkg leaves beside a file.
pub(super) fn is_litter(path: &Path) -> bool {
    path.to_string_lossy().contains(".dpkg-")
}

/// Copies a file or a link of the host below `root` into the preimage in `directory`. `false`: there is none. Copies that
/// are there already stay: an undo may be done again.
///
/// # Errors
/// When the copy cannot be made; then nothing may be overwritten.
pub(super) fn keep(root: &Path, directory: &Path, path: &HostPath) -> io::Result<bool> {
    let Some(held) = Look::below(root).hold(path)? else { return Ok(false) };
    let found = held.metadata();
    if !found.is_file() && !found.is_symlink() {
        return Ok(false);
    }
    let first = path.below(&directory.join(PLACE));
    let parent = first.parent().unwrap_or(directory);
    durable::create_directory(parent)?;
    let mine = content(&State::of(&held)?.kind);
    let mut to = first.clone();
    for number in 1.. {
        match content_at(&to)? {
            None if Held::of(&to)?.is_none() => break,
            there if there == mine => return Ok(true),
            _ => {}
        }
        let mut name = first.clone().into_os_string();
        name.push(format!(".~{number}~"));
        to = PathBuf::from(name);
    }
    if found.is_symlink() {
        std::os::unix::fs::symlink(held.target()?, &to)?;
    } else {
        let half = parent.join(HALF);
        let copy = File::create(&half)?;
        copy_sparse(&held.open()?, &copy)?;
        copy.set_permissions(found.permissions())?;
        copy.sync_all()?;
        fs::rename(&half, &to)?;
    }
    durable::sync_directory(parent)?;
    Ok(true)
}

/// Every path that was set aside in the preimage in `directory`, by this undo or one before that did not come to its end.
pub fn all(directory: &Path) -> Vec<HostPath> {
    let place = directory.join(PLACE);
    let (mut open, mut out) = (vec![place.clone()], Vec::new());
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else if entry.file_name() != HALF {
                out.extend(path.strip_prefix(&place).map(|p| HostPath(Path::new("/").join(p))));
            }
        }
    }
    out.sort();
    out
}
