//! The feeds of a directory as they are published: which files they are, and what is in them.

use fettle_core::{Problem, ProblemKind};
use fettle_vuln::exposure::Catalogue;
use fettle_vuln::feed::{self, Feed, MAX_FEED_BYTES};
use fettle_vuln::snapshot::{self, Feeds, SnapshotError};
use fettle_vuln::unpack;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// What a feed's file may end in, before what it is packed with. Anything else beside it is a copy, or not there as a whole
/// yet.
const ENDINGS: [&str; 6] = ["json", "jsonl", "ndjson", "txt", "csv", "xml"];

/// A feed's file, with its size and the time of its last change in seconds and nanoseconds.
pub(super) type Kept = (String, u64, i64, i64);

/// The feeds of a directory: `debian-tracker.json`, `debian-cve-list.txt`, `kev.json.gz`, `osv-almalinux.jsonl`, `osv-pypi.zip`
/// and the like. Of two files of one feed the one that was changed last.
pub(super) fn files(directory: &Path) -> Result<BTreeMap<Feed, Kept>, Problem> {
    let mut known: BTreeMap<Feed, Kept> = BTreeMap::new();
    let listed = std::fs::read_dir(directory).map_err(|e| {
        let message = format!("{}: {}", directory.display(), told(&e));
        let hint = "make it and put vendors' files into it, or name another: --feeds DIR";
        Problem::new(ProblemKind::BadInput, "feed-unreadable", message, hint)
    })?;
    for entry in listed.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let word = name.split('.').next().unwrap_or_default();
        let Some(feed) = Feed::from_word(word) else { continue };
        let plain = match name.rsplit_once('.') {
            Some((plain, packed)) if unpack::ENDINGS.contains(&packed) => plain,
            _ => &name,
        };
        if plain.rsplit_once('.').is_some_and(|(_, ending)| !ENDINGS.contains(&ending)) {
            continue;
        }
        let meta = std::fs::metadata(entry.path()).map_err(|e| unreadable(&name, &e))?;
        let kept = (name, meta.size(), meta.mtime(), meta.mtime_nsec());
        let age = |(name, _, seconds, nanoseconds): &Kept| (*seconds, *nanoseconds, name.clone());
        if known.get(&feed).is_none_or(|other| age(other) < age(&kept)) {
            known.insert(feed, kept);
        }
    }
    Ok(known)
}

/// What was wrong, without the number that the system has for it.
fn told(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "there is no such directory".to_owned(),
        io::ErrorKind::NotADirectory => "it is no directory".to_owned(),
        _ => e.to_string(),
    }
}

fn unreadable(name: &str, e: &io::Error) -> Problem {
    let message = format!("{name}: {e}");
    Problem::new(ProblemKind::BadInput, "feed-unreadable", message, "may this user read it?")
}

/// There is no feed in a directory that says who is affected.
pub(super) fn nothing(directory: &Path) -> Problem {
    unusable(
        &SnapshotError::NothingSaysWho,
        format!(
            "put the vendor's file into {}, plain or packed: debian-tracker.json, or OSV records as osv-ubuntu.jsonl",
            directory.display()
        ),
    )
}

fn unusable(what: &dyn std::fmt::Display, hint: String) -> Problem {
    Problem::new(ProblemKind::BadInput, "feed-unusable", what, hint)
}

/// Feeds that were parsed.
pub(super) struct Parsed {
    pub(super) catalogue: Catalogue,
    /// Feeds that only rank and cannot be used: it was made without them.
    pub(super) broken: Vec<Problem>,
}

/// Parses the feeds. One that says who is affected must be there, and all that do must be whole.
pub(super) fn parse(directory: &Path, known: &BTreeMap<Feed, Kept>) -> Result<Parsed, Problem> {
    let mut broken = Vec::new();
    // Without data of who is affected, no findings would mean nothing.
    let mut without = |feed: Feed, problem: Problem| {
        if feed.says_who_is_affected() || feed == Feed::Vex {
            return Err(problem);
        }
        broken.push(problem);
        Ok(())
    };
    let mut kept = BTreeMap::new();
    let mut as_of = BTreeMap::new();
    for (feed, file) in known {
        match read(directory, &file.0) {
            Ok(bytes) => {
                as_of.extend(day(*feed, &bytes, file).map(|day| (*feed, day)));
                kept.insert(*feed, bytes);
            }
            Err(problem) => without(*feed, problem)?,
        }
    }
    // Each turn leaves out one feed, so there are few.
    loop {
        let bytes = kept.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
        match snapshot::load(&Feeds { bytes, as_of: as_of.clone() }) {
            Ok(loaded) => return Ok(Parsed { catalogue: loaded.catalogue, broken }),
            Err(SnapshotError::Feed(error)) => {
                let feed = error.feed();
                let name = known.get(&feed).map_or(feed.word(), |(name, ..)| name);
                let hint = format!(
                    "fetch {} again: the vendor's own file, plain or packed",
                    directory.join(name).display()
                );
                without(feed, unusable(&format!("{name}: {error}"), hint))?;
                kept.remove(&feed);
                as_of.remove(&feed);
            }
            Err(_) => return Err(nothing(directory)),
        }
    }
}

/// A feed, unpacked.
fn read(directory: &Path, name: &str) -> Result<Vec<u8>, Problem> {
    let bytes = read_bounded(&directory.join(name), MAX_FEED_BYTES as u64)
        .map_err(|e| unreadable(name, &e))?;
    match unpack::unpack(&bytes) {
        // What is plain is not copied: it may be all the memory there is.
        Ok(std::borrow::Cow::Borrowed(_)) => Ok(bytes),
        Ok(std::borrow::Cow::Owned(unpacked)) => Ok(unpacked),
        Err(why) => {
            let path = directory.join(name);
            Err(unusable(&format!("{name}: {why}"), format!("fetch {} again", path.display())))
        }
    }
}

/// Of which day a feed is: as it says itself, or as old as its file.
fn day(feed: Feed, bytes: &[u8], (_, _, seconds, _): &Kept) -> Option<Date> {
    let changed = || Some(Timestamp::from_second(*seconds).ok()?.to_zoned(TimeZone::UTC).date());
    feed::date_of(feed, bytes).or_else(changed)
}

/// All of a file that is not larger than that, in bytes. Of a pipe as well, of a device nothing.
///
/// # Errors
/// Where it cannot be read, is a directory or a device, or has more.
pub(in crate::cli) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let kind = meta.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        return Err(invalid("it is a device, and no file".to_owned()));
    }
    let larger = || invalid(format!("it has more than the {most} bytes that are read"));
    if meta.len() > most {
        return Err(larger());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(larger()) } else { Ok(bytes) }
}
