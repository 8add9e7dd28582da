//! The vendors' data on this host: a directory of feeds as they are published, and beside them one file made of all of them
//! that is read and not parsed ([`fettle_vuln::compact`]).
//!
//! The file says what it was made of: names, sizes and times of the feeds. Where these are others now, or the file is of
//! another version of this program or damaged, it is made anew from the feeds. Where it cannot be written, the feeds are
//! parsed each time: slower, the same findings.

use super::{Words, scan};
use crate::durable;
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_vuln::compact::{Extent, Head, PREFIX, Section, Unusable};
use fettle_vuln::exposure::{Catalogue, HostView, Judgement, release_name};
use fettle_vuln::feed::Feed;
use fettle_vuln::feed::vex::VexStatement;
use fettle_vuln::snapshot::{self, Feeds};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the file made of all feeds of a directory.
const COMPILED: &str = "compiled.fettle";

/// The feeds of a directory, ready to judge by.
pub(super) enum Opened {
    /// Read when asked, part by part.
    File {
        /// The file.
        file: File,
        /// What it holds.
        head: Head,
        /// Where it is.
        path: PathBuf,
    },
    /// Parsed.
    Whole(Catalogue),
}

/// `feeds compile [DIR]`.
pub(super) fn run(mut words: Words) -> Result<(), Problem> {
    let json = words.json;
    if words.words.first().map(String::as_str) != Some("compile") {
        return Err(super::usage("feeds compile [DIR]".into()));
    }
    words.words.remove(0);
    let directory = words.at_most_one("directory")?.unwrap_or_else(|| scan::FEEDS.to_owned());
    let directory = Path::new(&directory);
    let known = files(directory)?;
    let catalogue = parse(directory, &known)?;
    let bytes = catalogue.compact(&stamp(&known));
    let path = directory.join(COMPILED);
    write(&path, &bytes).map_err(|e| {
        let message = format!("{}: {e}", path.display());
        Problem::new(
            ProblemKind::Environment,
            "feeds-not-written",
            message,
            "as root? is the disk full?",
        )
    })?;
    let (statements, releases, size) = (catalogue.len(), catalogue.releases().count(), bytes.len());
    if json {
        let told = serde_json::json!({
            "file": path, "bytes": size, "statements": statements, "releases": releases
        });
        out!("{told:#}");
    } else {
        let file = path.display();
        out!("{file}: {statements} statements about {releases} releases, {size} bytes");
    }
    Ok(())
}

/// What everybody may read: it is vendors' data.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    durable::replace(path, bytes)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Opens the feeds of a directory.
///
/// # Errors
/// Where there are none that can be used.
pub(super) fn open(directory: &Path) -> Result<Opened, Problem> {
    let known = files(directory)?;
    let path = directory.join(COMPILED);
    let stamp = stamp(&known);
    if let Ok((file, head)) = head(&path)
        && head.stamp == stamp
    {
        return Ok(Opened::File { file, head, path });
    }
    let catalogue = parse(directory, &known)?;
    // For the next time; without it that is only slower.
    let _ = write(&path, &catalogue.compact(&stamp));
    Ok(Opened::Whole(catalogue))
}

fn head(path: &Path) -> io::Result<(File, Head)> {
    let file = File::open(path)?;
    // Nearly always the whole head, in one call.
    let mut bytes = vec![0; 16 << 10];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let unusable = |e: Unusable| io::Error::new(io::ErrorKind::InvalidData, e);
    let length = Head::length(bytes.get(..PREFIX).unwrap_or(&bytes)).map_err(unusable)?;
    if length > bytes.len() {
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes, 0)?;
    }
    Ok((file, Head::parse(&bytes).map_err(unusable)?))
}

impl Opened {
    /// Judges a host, with one's own statements that hold now.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub(super) fn judge(
        self,
        view: &HostView<'_>,
        name: &str,
        now: Timestamp,
    ) -> Result<(Judgement, Catalogue), Problem> {
        let ruled_out = |catalogue: &Catalogue| {
            let mut accepted = view.accepted.to_vec();
            accepted.extend(catalogue.ruled_out(&[name], view.inventory, now));
            accepted
        };
        let (file, head, path) = match self {
            Self::File { file, head, path } => (file, head, path),
            Self::Whole(catalogue) => {
                let accepted = ruled_out(&catalogue);
                let judgement = catalogue.judge(&HostView { accepted: &accepted, ..*view });
                return Ok((judgement, catalogue));
            }
        };
        let damaged = |e: &dyn std::fmt::Display| {
            let message = format!("{}: {e}", path.display());
            let hint = "fettle-agent feeds compile DIR makes it anew";
            Problem::new(ProblemKind::BadInput, "feeds-damaged", message, hint)
        };
        let own = part(&file, &head.own).map_err(|e| damaged(&e))?;
        let own: Vec<VexStatement> = serde_json::from_slice(&own).map_err(|e| damaged(&e))?;
        let of_own = Catalogue::of_own(own, head.releases.keys());
        let accepted = ruled_out(&of_own);
        let view = HostView { accepted: &accepted, ..*view };
        let release = release_name(&view.inventory.os);
        let Some(extent) = head.releases.get(&release) else {
            return Ok((of_own.judge(&view), of_own));
        };
        let bytes = part(&file, extent).map_err(|e| damaged(&e))?;
        let section = Section::open(&bytes).map_err(|e| damaged(&e))?;
        let own = of_own.own().to_vec();
        section.judge(&head, &release, own, &view).map_err(|e| damaged(&e))
    }
}

fn part(file: &File, extent: &Extent) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A length that is none is an error, and no abort.
    bytes
        .try_reserve_exact(extent.length as usize)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.resize(extent.length as usize, 0);
    file.read_exact_at(&mut bytes, extent.offset)?;
    extent.verify(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(bytes)
}

/// A feed's file, with its size and the time of its last change in seconds and nanoseconds.
type Kept = (String, u64, i64, i64);

/// The feeds of a directory: `debian-tracker.json`, `debian-cve-list.txt`, `kev.json`, `osv-almalinux.jsonl` and the like.
fn files(directory: &Path) -> Result<BTreeMap<Feed, Kept>, Problem> {
    let mut known = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let word = name.split('.').next().unwrap_or_default();
        let Some(feed) = Feed::from_word(word) else { continue };
        let meta = std::fs::metadata(entry.path()).map_err(|e| unreadable(&name, &e))?;
        known.insert(feed, (name, meta.size(), meta.mtime(), meta.mtime_nsec()));
    }
    Ok(known)
}

fn unreadable(name: &str, e: &io::Error) -> Problem {
    let message = format!("{name}: {e}");
    Problem::new(ProblemKind::BadInput, "feed-unreadable", message, "may this user read it?")
}

/// What a compiled file is made of, in words.
fn stamp(known: &BTreeMap<Feed, Kept>) -> String {
    let mut text = String::new();
    for (name, size, seconds, nanoseconds) in known.values() {
        // What goes into a text cannot fail.
        let _ = writeln!(text, "{name} {size} {seconds}.{nanoseconds}");
    }
    text
}

/// Parses the feeds. One that says who is affected must be there.
fn parse(directory: &Path, known: &BTreeMap<Feed, Kept>) -> Result<Catalogue, Problem> {
    let mut kept = BTreeMap::new();
    for (feed, (name, ..)) in known {
        let bytes = std::fs::read(directory.join(name)).map_err(|e| unreadable(name, &e))?;
        kept.insert(*feed, bytes);
    }
    let bytes = kept.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
    let loaded = snapshot::load(&Feeds { bytes, as_of: BTreeMap::new() }).map_err(|error| {
        let hint = format!(
            "put the vendor's file into {}, uncompressed: debian-tracker.json, or OSV records as osv-ubuntu.jsonl",
            directory.display()
        );
        Problem::new(ProblemKind::BadInput, "feed-unusable", error, hint)
    })?;
    Ok(loaded.catalogue)
}
