//! The journal: one file a transaction, one line a record, each record durable before the next thing happens.
//!
//! ```text
//! fettle-journal 1
//! <16 hexadecimal digits: first half of SHA-256 over the JSON> <JSON of one Entry>
//! ```
//!
//! A crash can tear the last record: it is cut off. Anything else that does not read back (a flipped byte, a
//! record that does not fit its number) is [`Damage`]: the records before it are given, those still readable
//! after it as well, and the caller decides, never this file.

use crate::durable;
use fettle_core::transaction::{Entry, TxEvent};
use fettle_core::{Digest, Timestamp};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const HEADER: &[u8] = b"fettle-journal 1\n";
/// Room taken in advance, in bytes, so that a disk that fills up later does not keep the end from being
/// written. A transaction of 2,000 packages needs less.
const ROOM: u64 = 256 << 10;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("cannot {what} the journal {}: {source}", .path.display())]
    Io {
        /// `read`, `write`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the journal {} is in use by another fettle-agent: wait for it, or look with `fettle-agent status`", .0.display())]
    InUse(PathBuf),
    /// Written by a later version.
    #[error("the journal {} has layout `{found}`, this agent knows `fettle-journal 1`: run the newer fettle-agent", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// First line of the file.
        found: String,
    },
    /// Too large to be a record, or no JSON.
    #[error("a record for the journal {} does not serialise: {source}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Part of a journal does not read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Damage {
    /// Where the first unreadable byte range begins.
    pub offset: u64,
    /// Records that are readable after it.
    pub after: Vec<Entry>,
}

/// What a journal's bytes say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// The longest readable beginning, numbered 0, 1, 2, ...
    pub entries: Vec<Entry>,
    /// Length of that beginning in bytes: a torn tail lies behind it.
    pub readable: u64,
    /// Set when more than a torn tail is missing.
    pub damage: Option<Damage>,
    /// The header line names another version.
    pub version: Option<String>,
}

/// Reads a journal's bytes. Total: every input gives an answer.
pub fn parse(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    if bytes.len() < HEADER.len() {
        return contents; // torn while it was created: nothing can have happened yet
    }
    let mut offset = HEADER.len();
    if bytes[..offset] != *HEADER {
        let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let number = first.strip_prefix(b"fettle-journal ").unwrap_or_default();
        if !number.is_empty() && number.iter().all(u8::is_ascii_digit) {
            contents.version = Some(String::from_utf8_lossy(first).into_owned());
            return contents;
        }
        // A flipped bit in the header must not hide records, each of which carries its own checksum.
    }
    contents.readable = offset as u64;
    while offset < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[offset..]).map(|i| offset + i + 1);
        let next = end.unwrap_or(bytes.len());
        let line = &bytes[offset..end.map_or(next, |end| end - 1)];
        let entry = end.and_then(|_| record(line));
        // A line break that was flipped joins a good record to a bad one.
        let joined = if entry.is_none() && end.is_some() { joined(line) } else { None };
        match (entry, &mut contents.damage) {
            (Some(entry), None) if entry.sequence == contents.entries.len() as u64 => {
                contents.entries.push(entry);
                contents.readable = next as u64;
            }
            (Some(entry), None) => {
                contents.damage = Some(Damage { offset: offset as u64, after: vec![entry] });
            }
            (Some(entry), Some(damage)) => damage.after.push(entry),
            (None, damage) if joined.is_some() => {
                let damage =
                    damage.get_or_insert(Damage { offset: offset as u64, after: Vec::new() });
                damage.after.extend(joined);
            }
            // The last bytes of the file: a torn record.
            (None, None) if next == bytes.len() || bytes[next..].iter().all(|b| *b == 0) => break,
            (None, None) => {
                contents.damage = Some(Damage { offset: offset as u64, after: Vec::new() })
            }
            (None, Some(_)) => {}
        }
        offset = next;
    }
    contents
}

fn record(line: &[u8]) -> Option<Entry> {
    let (checksum, json) = line.split_at_checked(16)?;
    let json = json.strip_prefix(b" ")?;
    (Digest::of(json).hex().as_bytes()[..16] == *checksum)
        .then(|| serde_json::from_slice(json).ok())?
}

/// A whole record at the end of a line that is none.
fn joined(line: &[u8]) -> Option<Entry> {
    memchr::memmem::find_iter(line, b" {\"sequence\"")
        .filter(|at| *at > 16)
        .find_map(|at| record(&line[at - 16..]))
}

/// Takes [`ROOM`]. Not every file system can; then the disk may fill up, which [`Journal::append`] reports.
fn keep_room(file: &File) {
    let _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, ROOM);
}

/// The line that stands for a record.
fn line(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(entry)?;
    let mut line = Digest::of(&json).hex().into_bytes();
    line.truncate(16);
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// A journal, open and locked: no second process can write to it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole records: where the next one goes.
    length: u64,
    next: u64,
}

impl Journal {
    /// Creates a journal in `directory` (made if missing), durable with its directory entry. A journal that is
    /// there is opened instead, so that doing it twice is harmless.
    ///
    /// # Errors
    /// [`JournalError`]; nothing half-made counts as a journal.
    pub fn create(directory: &Path) -> Result<(Self, Contents), JournalError> {
        let path = directory.join("journal");
        let fail = |what| {
            let path = path.clone();
            move |source| JournalError::Io { what, path, source }
        };
        durable::create_directory(directory).map_err(fail("create"))?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail("create"))?;
        durable::sync_directory(directory).map_err(fail("create"))?;
        Self::with(path, file)
    }

    /// Opens the journal in `directory`, cutting off a torn tail.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(directory: &Path) -> Result<(Self, Contents), JournalError> {
        let path = directory.join("journal");
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| JournalError::Io { what: "open", path: path.clone(), source })?;
        Self::with(path, file)
    }

    fn with(path: PathBuf, mut file: File) -> Result<(Self, Contents), JournalError> {
        let fail = |what| {
            let path = path.clone();
            move |source| JournalError::Io { what, path, source }
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(JournalError::InUse(path)),
            Err(e) => return Err(fail("lock")(e.into())),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("read"))?;
        let mut contents = parse(&bytes);
        if let Some(found) = contents.version.take() {
            return Err(JournalError::Version { path, found });
        }
        if contents.damage.is_some() {
            // What was there is evidence; the readable beginning goes on.
            let mut name = path.clone().into_os_string();
            name.push(".damaged");
            durable::replace(Path::new(&name), &bytes).map_err(fail("keep a copy of"))?;
        }
        if !bytes.starts_with(HEADER) {
            file.seek(io::SeekFrom::Start(0)).map_err(fail("write"))?;
            file.write_all(HEADER).map_err(fail("write"))?;
            contents.readable = contents.readable.max(HEADER.len() as u64);
        }
        // Only a torn tail is cut off: to cut a file at its own length gives its room away (ext4), and on a full disk
        // somebody else takes it.
        if contents.readable != bytes.len().max(HEADER.len()) as u64 {
            file.set_len(contents.readable).map_err(fail("write"))?;
        }
        keep_room(&file);
        file.sync_all().map_err(fail("sync"))?;
        let journal =
            Self { length: contents.readable, next: contents.entries.len() as u64, path, file };
        Ok((journal, contents))
    }

    /// Writes a record and makes it durable. After an error the journal holds what it held before.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&mut self, at: Timestamp, event: TxEvent) -> Result<Entry, JournalError> {
        let entry = Entry { sequence: self.next, at, event };
        let line = line(&entry)
            .map_err(|source| JournalError::Record { path: self.path.clone(), source })?;
        let written = (|| {
            self.file.seek(io::SeekFrom::Start(self.length))?;
            self.file.write_all(&line)?;
            self.file.sync_data()
        })();
        if let Err(source) = written {
            // A part of a record must not stand before the next one.
            let _ = self.file.set_len(self.length);
            keep_room(&self.file);
            return Err(JournalError::Io { what: "write", path: self.path.clone(), source });
        }
        self.length += line.len() as u64;
        self.next += 1;
        Ok(entry)
    }

    /// The number the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }
}

/// Reads the journal in `directory` without locking or mending it: for those who only look.
///
/// # Errors
/// When the file cannot be read or has another version.
pub fn read(directory: &Path) -> Result<Contents, JournalError> {
    let path = directory.join("journal");
    let bytes = fs::read(&path).map_err(|source| JournalError::Io {
        what: "read",
        path: path.clone(),
        source,
    })?;
    let contents = parse(&bytes);
    match contents.version {
        Some(found) => Err(JournalError::Version { path, found }),
        None => Ok(contents),
    }
}

#[cfg(test)]
mod tests;
