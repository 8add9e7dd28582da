//! Plain files in a tar archive: what bundles of feeds and evidence packs are made of.

use fettle_core::Timestamp;
use std::io::{self, Read, Write};

/// Why an entry of an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// A directory, a link, a sparse file, a header that belongs to the next entry.
    #[error("it is no plain file")]
    Kind,
    /// It says so of itself.
    #[error("it has more than {0} bytes")]
    Large(u64),
    /// The archive cannot be read on.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

/// Appends a file of these bytes, as of that moment.
///
/// # Errors
/// Of the writer, or a name that no tar archive holds.
pub(crate) fn put(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: &[u8],
    made_at: Timestamp,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(made_at.as_second()).unwrap_or(0));
    tar.append_data(&mut header, name, bytes)
}

/// The bytes of a plain file, at most so many: a sparse one, or a header that lies, is not what fills the memory.
///
/// # Errors
/// [`NotTaken`].
pub(crate) fn take(entry: tar::Entry<'_, impl Read>, most: u64) -> Result<Vec<u8>, NotTaken> {
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err(NotTaken::Kind);
    }
    if entry.size() > most {
        return Err(NotTaken::Large(most));
    }
    let mut bytes = Vec::new();
    entry.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
