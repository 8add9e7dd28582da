//! What dpkg has installed: its `status` file, and the `updates` of a dpkg that was killed.
//!
//! A status file is a megabyte of text of which a few hundred bytes a package are wanted. It is read through one
//! small buffer that stays in the processor's cache, and each line is looked at once.

use super::{is_blank, lossy};
use fettle_core::inventory::Package;
use memchr::{memchr, memchr_iter};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The buffer at the start. It grows only for a paragraph that does not fit.
const BUFFER: usize = 64 << 10;
/// Bytes of a record, as most have at least.
const USUAL_RECORD: u64 = 640;
/// Room is made for no more records than these before they are read.
const MOST_EXPECTED: usize = 4096;

/// dpkg's database of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    /// Installed packages, by name and architecture.
    pub packages: Vec<Package>,
    /// Binary names that the administrator holds.
    pub held: Vec<String>,
    /// A dpkg was killed and its journal (`updates/`) not merged yet: the number of its records.
    pub unmerged: usize,
    /// The status file ends within the record of this package: what stood behind is not known.
    pub cut_at: Option<String>,
}

/// A `status` file by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Installed packages, by name and architecture.
    pub packages: Vec<Package>,
    /// Records of packages, installed or not.
    pub records: usize,
    /// It ends within the record of this package: what stood behind is not known. dpkg ends each record with an empty line.
    pub cut_at: Option<String>,
}

impl Database {
    /// Reads the database in dpkg's administrative directory (`/var/lib/dpkg`), a killed dpkg's journal included.
    ///
    /// # Errors
    /// When one of its files cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut known = Known::default();
        let status = File::open(directory.join("status"))?;
        known.make_room(status.metadata()?.len());
        known.read(status)?;
        // The records of the journal stand each by itself, and have no line behind them.
        let cut_at = known.unended.take();
        let updates = updates(&directory.join("updates"));
        for update in &updates {
            // dpkg merges them in this order at its next start; each holds whole paragraphs.
            known.read(File::open(update)?)?;
        }
        let (packages, held) = known.installed();
        Ok(Self { packages, held, unmerged: updates.len(), cut_at })
    }
}

/// Files of dpkg's journal, in order. dpkg names them by numbers only; `tmp.i` is not part of it.
fn updates(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .map(|e| e.path())
        .collect();
    files.sort();
    files
}

/// Installed packages of a dpkg `status` file, sorted. Total: paragraphs that make no sense are skipped; of two
/// about the same package the later counts, as dpkg has it.
pub fn parse_status(bytes: &[u8]) -> Vec<Package> {
    Status::parse(bytes).packages
}

impl Status {
    /// Reads a `status` file. Total, as [`parse_status`] is.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut known = Known::default();
        each_record(bytes, true, |record, ended| known.add(&record, ended));
        let records = known.packages.len();
        let cut_at = known.unended.take();
        Self { packages: known.installed().0, records, cut_at }
    }
}

/// All that was read so far, in the order of reading.
#[derive(Default)]
struct Known {
    packages: Vec<Package>,
    /// One for each package.
    marks: Vec<Mark>,
    /// The package that the last record is of, where no empty line ends it.
    unended: Option<String>,
}

/// What becomes of a record.
#[derive(Clone, Copy)]
struct Mark {
    present: bool,
    held: bool,
}

impl Known {
    /// Makes room for as many records as a file of this length usually has.
    fn make_room(&mut self, length: u64) {
        let records = usize::try_from(length / USUAL_RECORD).unwrap_or_default().min(MOST_EXPECTED);
        self.packages.reserve(records);
        self.marks.reserve(records);
    }

    fn add(&mut self, record: &Record<'_>, ended: bool) {
        // It is told to people, and may be anything.
        let plain = |name: String| name.chars().filter(char::is_ascii_graphic).take(100).collect();
        self.unended = (!ended).then(|| plain(lossy(record.name)));
        if !record.name.is_empty() {
            self.packages.push(record.package());
            self.marks.push(Mark { present: record.is_present(), held: record.want == b"hold" });
        }
    }

    /// Reads a file of paragraphs to its end.
    fn read(&mut self, mut file: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut filled = 0;
        loop {
            let read = match file.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            filled += read;
            let used = each_record(&buffer[..filled], read == 0, |record, ended| {
                self.add(&record, ended);
            });
            if read == 0 {
                return Ok(());
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
        }
    }

    /// Installed packages, and the names of those that the administrator holds.
    fn installed(self) -> (Vec<Package>, Vec<String>) {
        let Self { mut packages, mut marks, .. } = self;
        // dpkg writes them in order; what it left in its journal comes after them.
        if !packages.is_sorted_by(|a, b| key(a) < key(b)) {
            let mut both: Vec<(Package, Mark)> = packages.into_iter().zip(marks).collect();
            // Of two about one package the later counts: it comes first now, and stays so.
            both.reverse();
            both.sort_by(|(a, _), (b, _)| key(a).cmp(&key(b)));
            both.dedup_by(|(a, _), (b, _)| key(a) == key(b));
            (packages, marks) = both.into_iter().unzip();
        }
        let mut marks = marks.into_iter();
        let mut held = Vec::new();
        packages.retain(|package| {
            // Invariant: there is one for each package.
            let mark = marks.next().unwrap_or(Mark { present: false, held: false });
            if mark.present && mark.held {
                held.push(package.name.clone());
            }
            mark.present
        });
        held.dedup();
        (packages, held)
    }
}

fn key(package: &Package) -> (&str, &str) {
    (&package.name, &package.architecture)
}

/// What dpkg knows of a package, borrowed.
#[derive(Debug, Clone, Copy)]
struct Record<'a> {
    name: &'a [u8],
    architecture: &'a [u8],
    version: &'a [u8],
    source: &'a [u8],
    /// `hold`, `install`, `deinstall`, ...
    want: &'a [u8],
    /// `ok` or `reinstreq`.
    flag: &'a [u8],
    /// `installed`, `half-configured`, ...
    state: &'a [u8],
}

/// Without a `Status` dpkg takes a package for one that is not installed, and so do we.
const NOTHING: Record<'_> = Record {
    name: &[],
    architecture: &[],
    version: &[],
    source: &[],
    want: b"unknown",
    flag: b"ok",
    state: b"not-installed",
};

/// Hands out the record of each paragraph of `bytes`, with whether an empty line ends it, and says how many bytes that were.
/// A paragraph that has no end yet is left for the next call, unless these bytes are the `last`.
fn each_record(bytes: &[u8], last: bool, mut each: impl FnMut(Record<'_>, bool)) -> usize {
    let (mut record, mut begun) = (NOTHING, false);
    let (mut at, mut used) = (0, 0);
    let mut ends = memchr_iter(b'\n', bytes);
    while at < bytes.len() {
        let (line, next) = match ends.next() {
            Some(end) => (&bytes[at..end], end + 1),
            None if last => (&bytes[at..], bytes.len()),
            None => break,
        };
        at = next;
        match line.first() {
            // Lines of blanks only also end a paragraph (deb-control(5) tells parsers to accept them).
            None => {}
            Some(b' ' | b'\t' | b'\r') if is_blank(line) => {}
            // Long descriptions and lists of conffiles: nothing that is wanted goes over several lines.
            Some(b' ' | b'\t' | b'\r') => continue,
            Some(_) => {
                record.take(line);
                begun = true;
                continue;
            }
        }
        if begun {
            each(record, true);
        }
        (record, begun, used) = (NOTHING, false, at);
    }
    if last {
        if begun {
            each(record, false);
        }
        used = bytes.len();
    }
    used
}

impl<'a> Record<'a> {
    /// Takes what a field says, where it is one of those wanted. Of a field that stands twice the later counts.
    fn take(&mut self, line: &'a [u8]) {
        // Most lines are of fields that nobody wants, and there are twenty of them to a package.
        let wanted: &[u8] = match (line[0] | 0x20, line.get(1).map(|b| b | 0x20)) {
            (b'p', _) => b"Package",
            (b'v', _) => b"Version",
            (b'a', _) => b"Architecture",
            (b's', Some(b'o')) => b"Source",
            (b's', Some(b't')) => b"Status",
            _ => return,
        };
        if line.get(wanted.len()) != Some(&b':') {
            return;
        }
        let (name, value) = (&line[..wanted.len()], line[wanted.len() + 1..].trim_ascii());
        if name != wanted && !name.eq_ignore_ascii_case(wanted) {
            return;
        }
        match wanted {
            b"Package" => self.name = value,
            b"Version" => self.version = value,
            b"Architecture" => self.architecture = value,
            b"Source" => self.source = value,
            _ => {
                let mut words = value.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
                let mut word = || words.next().unwrap_or_default();
                (self.want, self.flag, self.state) = (word(), word(), word());
            }
        }
    }

    fn is_present(&self) -> bool {
        !self.version.is_empty() && !matches!(self.state, b"" | b"not-installed" | b"config-files")
    }

    fn is_healthy(&self) -> bool {
        self.flag == b"ok"
            && matches!(self.state, b"installed" | b"triggers-pending" | b"triggers-awaited")
    }

    /// `Source: name (version)`; version in parentheses only where it differs.
    fn source(&self) -> (String, String) {
        let source = if self.source.is_empty() { self.name } else { self.source };
        match memchr(b'(', source) {
            Some(open) => {
                let version = source[open + 1..].split(|b| *b == b')').next().unwrap_or_default();
                (lossy(source[..open].trim_ascii()), lossy(version.trim_ascii()))
            }
            None => (lossy(source), lossy(self.version)),
        }
    }

    fn package(&self) -> Package {
        let (source, source_version) = self.source();
        Package {
            name: lossy(self.name),
            architecture: lossy(self.architecture),
            version: lossy(self.version),
            source,
            source_version,
            healthy: self.is_healthy(),
            module: String::new(),
        }
    }
}
