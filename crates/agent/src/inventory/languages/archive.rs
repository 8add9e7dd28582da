//! What Maven put into jar, war and ear files, and into those inside of them: zip archives (APPNOTE.TXT 6.3), of which only
//! the directory and the few files that are wanted are read.

use super::metadata;
use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::time::Instant;

/// How much of one archive is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of one `pom.properties`.
    pub(super) metadata: u64,
    /// Bytes of one archive inside.
    pub(super) inner: u64,
    /// Nothing is begun any more from then on.
    pub(super) until: Instant,
}

/// Bytes of the directory of an archive. The largest of Java's own has about 3 MB.
const MAX_DIRECTORY: u64 = 32 << 20;
/// Length of the record at the end, and of the longest remark behind it.
const END: u64 = 22;
const REMARK: u64 = 65_535;

/// A file in an archive.
struct Entry {
    name: String,
    method: u16,
    packed: u64,
    header: u64,
}

/// Where inside (`!/WEB-INF/lib/a.jar`, or empty), name and version of each package in an archive.
pub(super) fn packages(file: File, limits: Limits) -> io::Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    let mut outer = io::BufReader::new(file);
    for entry in directory(&mut outer)? {
        if is_properties(&entry.name) {
            let said = read(&mut outer, &entry, limits.metadata).ok();
            if let Some((name, version)) = said.and_then(|bytes| metadata::maven(&bytes)) {
                found.push((String::new(), name, version));
            }
        } else if entry.name.ends_with(".jar") && Instant::now() < limits.until {
            let Ok(bytes) = read(&mut outer, &entry, limits.inner) else { continue };
            let mut inner = Cursor::new(bytes);
            for within in directory(&mut inner).unwrap_or_default() {
                if !is_properties(&within.name) {
                    continue;
                }
                let said = read(&mut inner, &within, limits.metadata).ok();
                if let Some((name, version)) = said.and_then(|bytes| metadata::maven(&bytes)) {
                    found.push((format!("!/{}", entry.name), name, version));
                }
            }
        }
    }
    Ok(found)
}

/// `META-INF/maven/GROUP/ARTIFACT/pom.properties`.
fn is_properties(name: &str) -> bool {
    name.strip_prefix("META-INF/maven/")
        .is_some_and(|rest| rest.ends_with("/pom.properties") && rest.matches('/').count() == 2)
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)))
}

/// The wanted files of an archive. One of more than 4 GiB (zip64) is none.
fn directory(archive: &mut (impl Read + Seek)) -> io::Result<Vec<Entry>> {
    let length = archive.seek(SeekFrom::End(0))?;
    let tail = length.min(END + REMARK);
    archive.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    archive.by_ref().take(tail).read_to_end(&mut bytes)?;
    let at = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").ok_or(broken("no end record"))?;
    let (size, start) = u32_at(&bytes, at + 12)
        .zip(u32_at(&bytes, at + 16))
        .ok_or(broken("the end record is cut off"))?;
    // A program may stand before the archive: places count from where it begins.
    let end = length - tail + at as u64;
    let begins = end.checked_sub(size + start).ok_or(broken("the directory is outside"))?;
    if size > MAX_DIRECTORY {
        return Err(broken("the directory is beyond reason"));
    }
    archive.seek(SeekFrom::Start(begins + start))?;
    bytes.clear();
    archive.by_ref().take(size).read_to_end(&mut bytes)?;
    let mut found = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.starts_with(b"PK\x01\x02") {
        let fields = (|| {
            let lengths = [28, 30, 32].map(|at| u16_at(rest, at).map(usize::from));
            let [Some(name), Some(extra), Some(remark)] = lengths else { return None };
            let entry = Entry {
                name: String::from_utf8_lossy(rest.get(46..46 + name)?).into_owned(),
                method: u16_at(rest, 10)?,
                packed: u32_at(rest, 20)?,
                header: begins + u32_at(rest, 42)?,
            };
            Some((entry, rest.get(46 + name + extra + remark..)?))
        })();
        let Some((entry, next)) = fields else { break };
        if is_properties(&entry.name) || entry.name.ends_with(".jar") {
            found.push(entry);
        }
        rest = next;
    }
    Ok(found)
}

/// The bytes of a file, at most so many.
fn read(archive: &mut (impl Read + Seek), entry: &Entry, most: u64) -> io::Result<Vec<u8>> {
    if entry.packed > most {
        return Err(broken("a file beyond reason"));
    }
    let mut header = [0; 30];
    archive.seek(SeekFrom::Start(entry.header))?;
    archive.read_exact(&mut header)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(broken("no file where the directory says one is"));
    }
    let lengths = u16_at(&header, 26).zip(u16_at(&header, 28)).unwrap_or_default();
    archive.seek(SeekFrom::Current(i64::from(lengths.0) + i64::from(lengths.1)))?;
    let packed = archive.by_ref().take(entry.packed);
    let mut bytes = Vec::new();
    match entry.method {
        0 => packed.take(most + 1).read_to_end(&mut bytes)?,
        8 => DeflateDecoder::new(packed).take(most + 1).read_to_end(&mut bytes)?,
        _ => return Err(broken("a method that Java does not know either")),
    };
    if bytes.len() as u64 > most {
        return Err(broken("a file beyond reason"));
    }
    Ok(bytes)
}
