//! The vendors' data on this host: a directory of feeds as they are published, and beside them one file made of all of them
//! that is read and not parsed ([`fettle_vuln::compact`]).
//!
//! The file says what it was made of: names, sizes and times of the feeds. Where these are others now, or the file is of
//! another version of this program or damaged, it is made anew from the feeds. Where it cannot be written, the feeds are
//! parsed each time: slower, the same findings.

use super::{Words, scan};
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_vuln::compact::{self, Extent, Head, PREFIX, Section, Unusable};
use fettle_vuln::exposure::{Catalogue, HostView, Judgement};
use fettle_vuln::feed::Feed;
use fettle_vuln::feed::vex::VexStatement;
use files::{Kept, Parsed, files, nothing, parse};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

mod files;

pub(super) use files::read_bounded;

/// Name of the file made of all feeds of a directory.
const COMPILED: &str = "compiled.fettle";
/// The same while it is written.
const UNFINISHED: &str = "compiled.fettle.new";

/// The feeds of a directory, ready to judge by.
pub(super) struct Opened {
    data: Data,
    /// Feeds that cannot be used, which are done without.
    broken: Vec<Problem>,
}

/// What there is to judge by.
enum Data {
    /// Read when asked, part by part.
    File {
        /// The file.
        file: File,
        /// What it holds.
        head: Head,
        /// Where it is.
        path: PathBuf,
        /// What there is beside it: parsed where it turns out to be damaged.
        known: BTreeMap<Feed, Kept>,
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
    // Whoever asks for it wants it whole.
    let catalogue = match parse(directory, &known)? {
        Parsed { broken, .. } if !broken.is_empty() => {
            return Err(broken.into_iter().next().unwrap_or_else(|| nothing(directory)));
        }
        Parsed { catalogue, .. } => catalogue,
    };
    let bytes = catalogue.compact(&stamp(&known));
    let path = directory.join(COMPILED);
    write(directory, &bytes).map_err(|e| {
        let message = format!("{}: {e}", path.display());
        let hint = "as root? is the disk full? does the directory belong to somebody else?";
        Problem::new(ProblemKind::Environment, "feeds-not-written", message, hint)
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

/// Writes what everybody may read: it is vendors' data. But whoever writes it may be root, and the directory anybody's: it
/// is written only where nobody else can put something in the way.
fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    use rustix::fs::{AtFlags, Mode, OFlags};
    let how = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is looked at and what is written to is one and the same, whatever its name leads to meanwhile.
    let place = rustix::fs::open(directory, how, Mode::empty())?;
    let stat = rustix::fs::fstat(&place)?;
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own || stat.st_mode & 0o022 != 0 {
        let said =
            "the directory is another user's, or others may write into it: chown, chmod go-w";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    match rustix::fs::unlinkat(&place, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let how = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let written = (|| {
        let mut file = File::from(rustix::fs::openat(&place, UNFINISHED, how, Mode::from(0o644))?);
        file.write_all(bytes)?;
        rustix::fs::fchmod(&file, Mode::from(0o644))?;
        file.sync_all()?;
        rustix::fs::renameat(&place, UNFINISHED, &place, COMPILED)?;
        Ok(rustix::fs::fsync(&place)?)
    })();
    if written.is_err() {
        // What could not be finished only takes space; the error is the one to report.
        let _ = rustix::fs::unlinkat(&place, UNFINISHED, AtFlags::empty());
    }
    written
}

/// Opens the feeds of a directory. Where one of them cannot be read, what was made of all of them before stays in use; where
/// there is nothing of the kind, one that only ranks is done without. Either is told.
///
/// # Errors
/// Where there are none that can be used.
pub(super) fn open(directory: &Path) -> Result<Opened, Problem> {
    let known = files(directory)?;
    let path = directory.join(COMPILED);
    let stamp = stamp(&known);
    let compiled = head(&path).ok();
    if let Some((file, head)) = compiled.as_ref().filter(|(_, head)| head.stamp == stamp)
        && let Ok(file) = file.try_clone()
    {
        let data = Data::File { file, head: head.clone(), path, known };
        return Ok(Opened { data, broken: Vec::new() });
    }
    let own = version();
    let before = compiled.filter(|(_, head)| head.stamp.starts_with(&own));
    let (broken, parsed) = match anew(directory, &known) {
        Ok(Parsed { catalogue, broken }) if broken.is_empty() || before.is_none() => {
            return Ok(Opened { data: Data::Whole(catalogue), broken });
        }
        Ok(Parsed { catalogue, broken }) => (broken, Some(catalogue)),
        Err(problem) => (vec![problem], None),
    };
    match (before, parsed) {
        (Some((file, head)), _) if !known.is_empty() => {
            let made = file.metadata().and_then(|m| m.modified()).ok();
            let made = made.and_then(|at| Timestamp::try_from(at).ok());
            let of = made.map_or(String::new(), |at| format!(" on {}", at.strftime("%F %T UTC")));
            let told = |problem: Problem| Problem {
                message: format!(
                    "{}; what was made of the feeds{of} stays in use",
                    problem.message
                ),
                ..problem
            };
            let broken = broken.into_iter().map(told).collect();
            Ok(Opened { data: Data::File { file, head, path, known }, broken })
        }
        (_, Some(catalogue)) => Ok(Opened { data: Data::Whole(catalogue), broken }),
        (_, None) => Err(broken.into_iter().next().unwrap_or_else(|| nothing(directory))),
    }
}

/// Parses the feeds, and keeps the file that is made of them, if it is made of all.
fn anew(directory: &Path, known: &BTreeMap<Feed, Kept>) -> Result<Parsed, Problem> {
    let parsed = parse(directory, known)?;
    if parsed.broken.is_empty() {
        // For the next time; without it that is only slower.
        let _ = write(directory, &parsed.catalogue.compact(&stamp(known)));
    }
    Ok(parsed)
}

fn head(path: &Path) -> io::Result<(File, Head)> {
    use rustix::fs::{Mode, OFlags};
    // No link, and no pipe that nobody writes to.
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, how, Mode::empty())?);
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
    /// Judges a host, with one's own statements that hold now. A file that is damaged is made anew. The third: the feeds
    /// that could not be used.
    ///
    /// # Errors
    /// Where the feeds cannot be used.
    pub(super) fn judge(
        self,
        view: &HostView<'_>,
        name: &str,
        now: Timestamp,
    ) -> Result<(Judgement, Catalogue, Vec<Problem>), Problem> {
        let mut broken = self.broken;
        let ruled_out = |catalogue: &Catalogue| {
            let mut accepted = view.accepted.to_vec();
            accepted.extend(catalogue.ruled_out(&[name], view.inventory, now));
            accepted
        };
        let by_file = |file: &File, head: &Head| -> io::Result<(Judgement, Catalogue)> {
            let damaged = |e: Unusable| io::Error::new(io::ErrorKind::InvalidData, e);
            let own: Vec<VexStatement> = serde_json::from_slice(&part(file, &head.own)?)?;
            let of_own = Catalogue::of_own(own, head.releases.keys());
            let accepted = ruled_out(&of_own);
            let view = HostView { accepted: &accepted, ..*view };
            let mut parts = Vec::new();
            for release in compact::releases(&view) {
                if let Some((release, extent)) = head.releases.get_key_value(&release) {
                    parts.push((release.as_str(), part(file, extent)?));
                }
            }
            let mut sections = Vec::with_capacity(parts.len());
            for (release, bytes) in &parts {
                sections.push((*release, Section::open(bytes).map_err(damaged)?));
            }
            compact::judge(&sections, head, of_own.own().to_vec(), &view).map_err(damaged)
        };
        let catalogue = match self.data {
            Data::File { file, head, path, known } => match by_file(&file, &head) {
                Ok((judgement, catalogue)) => return Ok((judgement, catalogue, broken)),
                Err(e) => {
                    err!("<4>{}: {e}; it is made anew", path.display());
                    let parsed = anew(path.parent().unwrap_or(Path::new("/")), &known)?;
                    broken = parsed.broken;
                    parsed.catalogue
                }
            },
            Data::Whole(catalogue) => catalogue,
        };
        let accepted = ruled_out(&catalogue);
        let judgement = catalogue.judge(&HostView { accepted: &accepted, ..*view });
        Ok((judgement, catalogue, broken))
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

/// What a compiled file is made of, in words, and by which version: another one may read more in the same feeds.
fn stamp(known: &BTreeMap<Feed, Kept>) -> String {
    let mut text = version();
    for (name, size, seconds, nanoseconds) in known.values() {
        // What goes into a text cannot fail.
        let _ = writeln!(text, "{name} {size} {seconds}.{nanoseconds}");
    }
    text
}

/// First line of every stamp of this version of the program.
fn version() -> String {
    format!("fettle-agent {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::time::{Duration, SystemTime};

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let tracker = r#"{"openssl":{"CVE-2024-1":{"releases":{"bookworm":{"status":"resolved",
            "repositories":{"bookworm":"3.0.11-1"},"fixed_version":"3.0.15-1","urgency":"medium"}}}}}"#;
        fs::write(dir.path().join("debian-tracker.json"), tracker).unwrap();
        dir
    }

    fn host() -> fettle_core::inventory::Inventory {
        let os = fettle_core::inventory::Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            ..Default::default()
        };
        let openssl = serde_json::json!({
            "name": "openssl", "version": "3.0.11-1", "architecture": "amd64", "source": "openssl",
            "source_version": "3.0.11-1", "healthy": true, "automatic": false
        });
        let packages = vec![serde_json::from_value(openssl).unwrap()];
        crate::inventory::of_packages(os, packages, "nothing else")
    }

    fn found(opened: Opened) -> usize {
        let (name, none) = (fettle_core::HostId::new("local"), BTreeMap::new());
        let inventory = host();
        let view = HostView {
            host: &name,
            inventory: &inventory,
            previous: &[],
            ran_before: &none,
            accepted: &[],
        };
        opened.judge(&view, "local", Timestamp::now()).unwrap().0.findings.len()
    }

    #[test]
    fn a_compiled_file_that_is_damaged_is_made_anew_and_judged_without() {
        let dir = directory();
        assert_eq!(found(open(dir.path()).unwrap()), 1);
        let path = dir.path().join(COMPILED);
        let whole = fs::read(&path).unwrap();
        assert!(matches!(open(dir.path()).unwrap().data, Data::File { .. }));
        let mut spoilt = whole.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        fs::write(&path, &spoilt).unwrap();
        assert!(matches!(open(dir.path()).unwrap().data, Data::File { .. }), "its head is whole");
        assert_eq!(found(open(dir.path()).unwrap()), 1);
        assert!(fs::read(&path).unwrap() == whole, "it was made anew");
    }

    #[test]
    fn what_another_version_compiled_is_made_anew() {
        let dir = directory();
        let known = files(dir.path()).unwrap();
        let own = stamp(&known);
        assert!(own.starts_with(&format!("fettle-agent {}\n", env!("CARGO_PKG_VERSION"))), "{own}");
        let of_other = own.split_once('\n').unwrap().1;
        write(dir.path(), &parse(dir.path(), &known).unwrap().catalogue.compact(of_other)).unwrap();
        assert!(matches!(open(dir.path()).unwrap().data, Data::Whole(_)));
        assert!(matches!(open(dir.path()).unwrap().data, Data::File { .. }));
    }

    #[test]
    fn nothing_is_written_where_others_may_write_or_through_a_link() {
        let dir = directory();
        let outside = tempfile::tempdir().unwrap();
        for mode in [0o775, 0o757, 0o777, 0o1777] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let refused = write(dir.path(), b"x").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
            assert_eq!(found(open(dir.path()).unwrap()), 1, "it is parsed each time");
            assert!(!dir.path().join(COMPILED).exists());
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let link = outside.path().join("feeds");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(write(&link, b"x").is_err());
        let target = outside.path().join("target");
        fs::write(&target, "theirs").unwrap();
        for name in [COMPILED, UNFINISHED] {
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
        }
        assert!(head(&dir.path().join(COMPILED)).is_err(), "no link is read");
        write(dir.path(), b"ours").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert_eq!(fs::read(dir.path().join(COMPILED)).unwrap(), b"ours");
        let mode = dir.path().join(COMPILED).symlink_metadata().unwrap().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert!(!dir.path().join(UNFINISHED).exists());
    }

    #[test]
    fn only_a_whole_file_is_a_feed_and_of_two_the_newer() {
        let dir = directory();
        let later = |name: &str, seconds: u64| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
        };
        for beside in ["debian-tracker.json.part", "debian-tracker.bak", "debian-tracker.json~"] {
            later(beside, 60);
        }
        later("notes.txt", 60);
        let names = || -> Vec<String> {
            files(dir.path()).unwrap().into_values().map(|(name, ..)| name).collect()
        };
        assert_eq!(names(), ["debian-tracker.json"]);
        later("debian-tracker", 30);
        assert_eq!(names(), ["debian-tracker"]);
        later("debian-tracker.jsonl", 20);
        assert_eq!(names(), ["debian-tracker"]);
    }
}
