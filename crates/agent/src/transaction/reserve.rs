//! Room that is kept for the way back while a host is changed: whoever fills the disk meanwhile takes what is left, and an
//! undo still has where to write a file before it takes its name.

use super::Transaction;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A file is written whole before it takes its name, and its space is free again only when nobody runs it any more.
const MOST: u64 = 64 << 20;
const LEAST: u64 = 1 << 20;

/// Bytes to keep for a preimage of so many.
pub(super) fn bytes(preimage: u64) -> u64 {
    preimage.clamp(LEAST, MOST)
}

fn file(directory: &Path) -> PathBuf {
    directory.join("reserve")
}

/// Takes the room, on the file system of the agent's state. `Some`: why there is none, which is no reason to refuse.
pub(super) fn take(tx: &Transaction<'_>, preimage: u64) -> Option<String> {
    let (path, bytes) = (file(&tx.directory), bytes(preimage));
    let taken = File::create(&path)
        .and_then(|file| Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?));
    let error = taken.err()?;
    release(&tx.directory);
    // Not every file system can promise room.
    let is_unknown = Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP);
    (!is_unknown).then(|| format!("no room of {bytes} bytes is kept for the way back: {error}"))
}

/// Gives it back; what is not there any more is as good.
pub(crate) fn release(directory: &Path) {
    // Nothing depends on it: it is tried again when the transaction is tidied up.
    let _ = fs::remove_file(file(directory));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_with_the_way_back_within_bounds() {
        let sizes = [0, 5 << 20, 900 << 20].map(bytes);
        assert_eq!(sizes, [1 << 20, 5 << 20, 64 << 20]);
    }
}
