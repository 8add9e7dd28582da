//! What a file holds: hashed and copied without reading its holes.
//!
//! The digest of content is a function of its bytes alone; a hole is the zeros that reading it gives, and a file that comes
//! back with other holes is the same file.
//!
//! * Less than [`VAST`] bytes: their SHA-256, as `sha256sum` prints it.
//! * More: SHA-256 of [`TITLE`], the length, and, one after the other, place and bytes of each [`BLOCK`] that is not all
//!   zeros. So a file of 1 TiB that holds one word costs one block, where the SHA-256 of its bytes costs an hour; and what is
//!   skipped because the file system says that it is a hole, is what would be skipped had it been read.

use fettle_core::Digest;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// From so many bytes on zeros are left out; what is smaller takes a second or two, holes or not, and its digest is the one
/// that everybody else would call it.
pub(super) const VAST: u64 = 1 << 30;
/// What is read at once, and is left out where it is all zeros. Part of what a digest is: it must not change.
const BLOCK: usize = 32 << 10;
/// Begins what a vast file's digest is of, so that it is not that of any other bytes by chance.
const TITLE: &[u8] = b"fettle: content of a vast file, without its zeros\n";

/// Length and digest of all that is in `source`; each piece goes to `sink` as well, with its place. Blocks of zeros in vast
/// content do not.
///
/// # Errors
/// Those of reading and of the sink; and where the file grows beyond [`VAST`] under our hands.
pub(super) fn hash(
    source: &File,
    sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<(u64, Digest)> {
    thread_local! {
        /// There are thousands of files: asked for and given back with each, it would cost more than most of them.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
    }
    let length = source.metadata()?.len();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let size = BUFFER.with_borrow_mut(|buffer| match length < VAST {
        true => plain(source, &mut context, buffer, sink),
        false => vast(source, length, &mut context, buffer, sink),
    })?;
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((size, Digest(digest)))
}

fn plain(
    source: &File,
    context: &mut ring::digest::Context,
    buffer: &mut [u8],
    mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut at = 0;
    loop {
        let n = read(source, buffer, at)?;
        if n == 0 {
            return Ok(at);
        }
        if at + n as u64 >= VAST {
            // Its digest would be of the other kind.
            return Err(io::Error::other("it grows while it is read"));
        }
        context.update(&buffer[..n]);
        sink(at, &buffer[..n])?;
        at += n as u64;
    }
}

fn vast(
    source: &File,
    length: u64,
    context: &mut ring::digest::Context,
    buffer: &mut [u8],
    mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let block = BLOCK as u64;
    context.update(TITLE);
    context.update(&length.to_le_bytes());
    let mut at = 0;
    while let Some((from, to)) = data(source, at, length)? {
        at = from - from % block;
        while at < to {
            let n = usize::try_from(length - at).unwrap_or(BLOCK).min(BLOCK);
            let piece = &mut buffer[..n];
            whole(source, piece, at)?;
            if !is_zeros(piece) {
                context.update(&at.to_le_bytes());
                context.update(piece);
                sink(at, piece)?;
            }
            at += n as u64;
        }
    }
    Ok(length)
}

/// Fills the buffer; a file that has become shorter meanwhile holds zeros there, as its copy will.
fn whole(source: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(source, &mut buffer[filled..], at + filled as u64)? {
            0 => {
                buffer[filled..].fill(0);
                return Ok(());
            }
            n => filled += n,
        }
    }
    Ok(())
}

fn read(source: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match source.read_at(buffer, at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    // Each byte is the one before it: one comparison of memory.
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

/// The next run of data at or after a place: where it begins and ends. `None`: there are but zeros. A file system that knows
/// no holes has one run.
fn data(source: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let from = match seek(source, SeekFrom::Data(at)) {
        Ok(from) if from < length => from.max(at),
        // NXIO: no data up to the end (`lseek(2)`).
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, length))),
        Err(e) => return Err(e.into()),
    };
    // Changed under our hands, it may have none any more.
    let to = seek(source, SeekFrom::Hole(from)).unwrap_or(length);
    Ok(Some((from, to.clamp(from + 1, length))))
}

/// Bytes of data in a file, as far as its file system tells data from holes. Not counted further than just above `most`.
///
/// # Errors
/// When it cannot be asked.
pub(super) fn held(source: &File, most: u64) -> io::Result<u64> {
    let length = source.metadata()?.len();
    let (mut at, mut sum) = (0, 0);
    while let Some((from, to)) = data(source, at, length)? {
        sum += to - from;
        at = to;
        if sum > most {
            break;
        }
    }
    Ok(sum)
}

/// Copies all of `source`, leaving holes where whole blocks are zero. Gives length and digest of what was read.
///
/// # Errors
/// Those of reading and writing.
pub(super) fn copy_sparse(source: &File, target: &File) -> io::Result<(u64, Digest)> {
    let (size, sha256) = hash(source, |at, piece| write_sparse(target, piece, at).map(drop))?;
    target.set_len(size)?;
    Ok((size, sha256))
}

/// Writes what is not zero, whole runs of blocks at once. Gives where the last run ended.
///
/// # Errors
/// Those of writing.
pub(super) fn write_sparse(target: &File, bytes: &[u8], at: u64) -> io::Result<u64> {
    const PAGE: usize = 4096;
    let zero = |block: &[u8]| block.iter().all(|b| *b == 0);
    let (mut start, mut written) = (0, at);
    while start < bytes.len() {
        let hole = zero(&bytes[start..bytes.len().min(start + PAGE)]);
        let mut end = start;
        while end < bytes.len() && zero(&bytes[end..bytes.len().min(end + PAGE)]) == hole {
            end = bytes.len().min(end + PAGE);
        }
        if !hole {
            target.write_all_at(&bytes[start..end], at + start as u64)?;
            written = at + end as u64;
        }
        start = end;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64, holds: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        for (at, bytes) in holds {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    fn digest(file: &File) -> Digest {
        hash(file, |_, _| Ok(())).unwrap().1
    }

    #[test]
    fn below_the_bound_the_digest_is_the_sha256_of_the_bytes_with_holes_as_zeros() {
        let sparse = file(200_000, &[(150_000, b"word")]);
        let mut bytes = vec![0; 200_000];
        bytes[150_000..150_004].copy_from_slice(b"word");
        assert_eq!(hash(&sparse, |_, _| Ok(())).unwrap(), (200_000, Digest::of(&bytes)));
        let empty = Digest::of(b"");
        assert_eq!(hash(&file(0, &[]), |_, _| Ok(())).unwrap(), (0, empty));
    }

    #[test]
    fn above_it_the_digest_tells_contents_apart_and_does_not_care_where_holes_are() {
        let (length, word) = (VAST + 5, b"word".as_slice());
        let sparse = file(length, &[(1 << 20, word)]);
        // The same bytes, with zeros that were written.
        let dense = file(length, &[(0, &vec![0; 3 << 20]), (1 << 20, word)]);
        let more = held(&dense, u64::MAX).unwrap() > held(&sparse, u64::MAX).unwrap();
        assert!(more, "one of them has holes where the other has none");
        assert_eq!(digest(&sparse), digest(&dense));
        let others = [
            file(length, &[]),
            file(length + 1, &[(1 << 20, word)]),
            file(length, &[((1 << 20) + 1, word)]),
            file(length, &[(2 << 20, word)]),
            file(length, &[(1 << 20, b"ward")]),
            file(length, &[(1 << 20, word), (length - 1, b"x")]),
        ];
        let mut all: Vec<Digest> = others.iter().map(digest).collect();
        all.push(digest(&sparse));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7, "no two of them hold the same");
    }

    #[test]
    fn what_a_vast_digest_is_does_not_change() {
        let it = file(VAST, &[(5, b"a"), (VAST - 1, b"z")]);
        let mut record = TITLE.to_vec();
        record.extend(VAST.to_le_bytes());
        for (at, place, byte) in [(0, 5, b'a'), (VAST - 32768, 32767, b'z')] {
            let mut block = vec![0; 32768];
            block[place] = byte;
            record.extend(u64::to_le_bytes(at));
            record.extend(block);
        }
        assert_eq!(digest(&it), Digest::of(&record));
    }

    #[test]
    fn a_copy_holds_the_same_in_as_little_room() {
        for length in [0, 1, 4096, 300_000, VAST + 1] {
            let mut source = file(length, &[]);
            if length > 0 {
                source = file(length, &[(length / 2, b"m"), (length - 1, b"e")]);
            }
            let target = tempfile::tempfile().unwrap();
            let copied = copy_sparse(&source, &target).unwrap();
            assert_eq!(copied, (length, digest(&source)));
            assert_eq!(hash(&target, |_, _| Ok(())).unwrap(), copied);
            assert!(held(&target, u64::MAX).unwrap() <= 1 << 18);
        }
        let full = file(1 << 20, &[(0, &vec![1; 1 << 20])]);
        assert_eq!(held(&full, u64::MAX).unwrap(), 1 << 20);
    }
}
