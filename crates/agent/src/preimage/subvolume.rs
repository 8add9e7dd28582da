//! Where the root is a btrfs subvolume: a read-only snapshot of it for as long as a change is under way.
//!
//! The preimage holds what the rehearsal foresaw. A maintainer script may behave otherwise on the host than on its
//! clone, and write where nobody expected it; the snapshot then still has what stood there. It goes when the change
//! has ended well, for it pins every block of the root that is written after it; what is needed of it is in the
//! preimage by then ([`super::extend`]).

use crate::command::{self, command};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Number of the root directory's inode in every subvolume (`btrfs(5)`: `BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_ROOT: u64 = 256;
/// `f_type` of `statfs(2)`.
const BTRFS: i64 = 0x9123_683e;

/// Is `path` the root of a btrfs subvolume?
pub fn is_one(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| found.is_dir() && found.ino() == SUBVOLUME_ROOT)
        && rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == BTRFS)
}

/// Takes a snapshot of the subvolume at `root`, at `at`, in place of one that was begun there. `false`: `root` is no
/// subvolume, or lies on another file system than `at`, or the host has no `btrfs` program.
///
/// # Errors
/// What `btrfs` says, where it could be expected to work.
pub fn take(root: &Path, at: &Path) -> io::Result<bool> {
    remove(at)?;
    let beside = at.parent().unwrap_or(Path::new("/"));
    let same = || Ok::<_, io::Error>(fs::metadata(root)?.dev() == fs::metadata(beside)?.dev());
    if !is_one(root) || !same()? {
        return Ok(false);
    }
    let mut snapshot = command("btrfs");
    snapshot.args(["subvolume", "snapshot", "-r", "--"]).args([root, at]);
    match command::run(&mut snapshot, None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(output) if output.success() => {
            rustix::fs::syncfs(fs::File::open(beside)?)?;
            Ok(true)
        }
        Ok(output) => Err(io::Error::other(output.tail(2))),
        Err(error) => Err(error),
    }
}

/// Removes the snapshot at `at`, if there is one.
///
/// # Errors
/// What `btrfs` says.
pub fn remove(at: &Path) -> io::Result<()> {
    if !is_one(at) {
        return Ok(());
    }
    let mut delete = command("btrfs");
    let output = command::run(delete.args(["subvolume", "delete", "--"]).arg(at), None)?;
    if output.success() { Ok(()) } else { Err(io::Error::other(output.tail(2))) }
}
