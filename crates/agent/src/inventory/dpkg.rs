//! dpkg's database, read straight from its files: `status` (and the `updates` a killed dpkg left), file lists.
//!
//! The format is that of `deb-control(5)` and `dpkg(1)`: paragraphs of `Field: value` lines, continuation lines
//! beginning with a blank, paragraphs apart by an empty line. Nothing is copied until a field is asked for.

use crate::settings::Settings;
use fettle_core::inventory::Package;
use memchr::{memchr, memchr2};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// One paragraph of a control file.
#[derive(Debug, Clone, Copy)]
pub struct Paragraph<'a>(&'a [u8]);

/// Paragraphs of a control file, in order. Empty ones are skipped.
pub fn paragraphs(bytes: &[u8]) -> impl Iterator<Item = Paragraph<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // Lines of blanks only also end a paragraph (deb-control(5) tells parsers to accept them).
        while let Some((line, tail)) = first_line(rest) {
            if !is_blank(line) {
                break;
            }
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let whole = rest;
        let mut length = 0;
        while let Some((line, tail)) = first_line(rest) {
            rest = tail;
            if is_blank(line) {
                break;
            }
            length = whole.len() - tail.len();
        }
        Some(Paragraph(&whole[..length]))
    })
}

fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    Some(match memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    })
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| b" \t\r".contains(b))
}

impl<'a> Paragraph<'a> {
    /// A paragraph whose bytes are known to be one.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The paragraph's own bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Fields in order: name, and value with its continuation lines, outer blanks removed.
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let (line, mut tail) = first_line(rest)?;
                let start = rest;
                // The value goes on as long as lines begin with a blank.
                while tail.first().is_some_and(|b| b" \t".contains(b)) {
                    match first_line(tail) {
                        Some((_, next)) => tail = next,
                        None => break,
                    }
                }
                rest = tail;
                // A line that is no field at all is skipped, not guessed at.
                let Some(colon) = memchr2(b':', b' ', line) else { continue };
                if line[colon] != b':' || colon == 0 {
                    continue;
                }
                let value = &start[colon + 1..start.len() - tail.len()];
                return Some((&line[..colon], value.trim_ascii()));
            }
        })
    }

    /// The value of a field; names are compared without regard to case.
    pub fn field(self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// [`Paragraph::field`] as text; bytes that are no UTF-8 are replaced.
    pub fn text(self, name: &str) -> Option<String> {
        self.field(name).map(lossy)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

impl<'a> Record<'a> {
    /// `None` where dpkg has nothing on disk: never installed, removed, or no proper record.
    fn of(paragraph: Paragraph<'a>) -> Option<Self> {
        let mut record = Record {
            name: &[],
            architecture: &[],
            version: &[],
            source: &[],
            // Without a `Status` dpkg takes a package for one that is not installed, and so do we.
            want: b"unknown",
            flag: b"ok",
            state: b"not-installed",
        };
        for (name, value) in paragraph.fields() {
            match name.len() {
                7 if name.eq_ignore_ascii_case(b"Package") => record.name = value,
                7 if name.eq_ignore_ascii_case(b"Version") => record.version = value,
                6 if name.eq_ignore_ascii_case(b"Source") => record.source = value,
                12 if name.eq_ignore_ascii_case(b"Architecture") => record.architecture = value,
                6 if name.eq_ignore_ascii_case(b"Status") => {
                    let mut words = value.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
                    record.want = words.next()?;
                    record.flag = words.next()?;
                    record.state = words.next()?;
                }
                _ => {}
            }
        }
        Some(record)
    }

    fn is_present(&self) -> bool {
        !self.name.is_empty()
            && !self.version.is_empty()
            && !matches!(self.state, b"not-installed" | b"config-files")
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
        }
    }
}

/// The package of a `Status`-bearing paragraph, where it is installed.
pub fn installed(paragraph: Paragraph<'_>) -> Option<Package> {
    Record::of(paragraph).filter(Record::is_present).map(|r| r.package())
}

/// Installed packages of a dpkg `status` file, sorted. Total: paragraphs that make no sense are skipped; of two
/// about the same package the later counts, as dpkg has it.
pub fn parse_status(bytes: &[u8]) -> Vec<Package> {
    collect(paragraphs(bytes)).0
}

/// Installed packages, and the names of those that the administrator holds.
fn collect<'a>(paragraphs: impl Iterator<Item = Paragraph<'a>>) -> (Vec<Package>, Vec<String>) {
    let mut records: Vec<Record<'a>> =
        paragraphs.filter_map(Record::of).filter(|r| !r.name.is_empty()).collect();
    // Stable, so that the last record of a package stays the last.
    records.sort_by(|a, b| (a.name, a.architecture).cmp(&(b.name, b.architecture)));
    let last = |i: usize| {
        let next: Option<&Record<'_>> = records.get(i + 1);
        next.is_none_or(|n| (n.name, n.architecture) != (records[i].name, records[i].architecture))
    };
    let mut held = Vec::new();
    let mut packages = Vec::with_capacity(records.len());
    for (i, record) in records.iter().enumerate() {
        if record.is_present() && last(i) {
            packages.push(record.package());
            if record.want == b"hold" {
                held.push(lossy(record.name));
            }
        }
    }
    held.dedup();
    (packages, held)
}

/// dpkg's database of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    /// Installed packages, by name and architecture.
    pub packages: Vec<Package>,
    /// Binary names that the administrator holds.
    pub held: Vec<String>,
    /// A dpkg was killed and its journal (`updates/`) not merged yet: the number of its records.
    pub unmerged: usize,
}

impl Database {
    /// Reads the host's database, a killed dpkg's journal included.
    ///
    /// # Errors
    /// When `status` cannot be read.
    pub fn read(settings: &Settings) -> io::Result<Self> {
        let mut bytes = fs::read(settings.host("var/lib/dpkg/status"))?;
        let updates = updates(&settings.host("var/lib/dpkg/updates"));
        for update in &updates {
            // dpkg merges them in this order at its next start; each holds whole paragraphs.
            bytes.extend_from_slice(b"\n\n");
            bytes.extend_from_slice(&fs::read(update)?);
        }
        let (packages, held) = collect(paragraphs(&bytes));
        Ok(Self { packages, held, unmerged: updates.len() })
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

/// The file that lists what a package owns: `info/NAME:ARCH.list` for co-installable ones, else `info/NAME.list`.
pub fn info_file(
    settings: &Settings,
    name: &str,
    architecture: &str,
    suffix: &str,
) -> Option<PathBuf> {
    let info = settings.host("var/lib/dpkg/info");
    [format!("{name}:{architecture}.{suffix}"), format!("{name}.{suffix}")]
        .into_iter()
        .map(|file| info.join(file))
        .find(|path| path.exists())
}

/// Which packages own some paths.
///
/// One pass over dpkg's file lists with the paths wanted in hand, since a map of every path of a host would
/// take tens of megabytes.
#[derive(Debug, Default)]
pub struct Owners {
    /// [`unmerged`] path → binary names, sorted.
    owners: HashMap<Vec<u8>, Vec<String>>,
}

impl Owners {
    /// Finds the owners of `wanted`.
    ///
    /// # Errors
    /// When dpkg's `info` directory cannot be read.
    pub fn find<'p>(
        settings: &Settings,
        wanted: impl IntoIterator<Item = &'p [u8]>,
    ) -> io::Result<Self> {
        let mut owners: HashMap<Vec<u8>, Vec<String>> =
            wanted.into_iter().map(|path| (unmerged(path).to_vec(), Vec::new())).collect();
        if owners.is_empty() {
            return Ok(Self { owners });
        }
        let mut buffer = Vec::new();
        for entry in fs::read_dir(settings.host("var/lib/dpkg/info"))? {
            let entry = entry?;
            let file = entry.file_name();
            let Some(package) = file.to_str().and_then(|f| f.strip_suffix(".list")) else {
                continue;
            };
            let name = package.split(':').next().unwrap_or(package);
            buffer.clear();
            // A package that is removed at this very moment is not worth failing for.
            let Ok(mut list) = fs::File::open(entry.path()) else { continue };
            list.read_to_end(&mut buffer)?;
            let mut rest = buffer.as_slice();
            while let Some((line, tail)) = first_line(rest) {
                rest = tail;
                if let Some(found) = owners.get_mut(unmerged(line))
                    && !found.iter().any(|f| f == name)
                {
                    found.push(name.to_owned());
                }
            }
        }
        owners.values_mut().for_each(|names| names.sort());
        Ok(Self { owners })
    }

    /// Binary names of the packages that own a path; more than one for diverted and shared files.
    pub fn of(&self, path: &[u8]) -> &[String] {
        self.owners.get(unmerged(path)).map_or(&[], Vec::as_slice)
    }
}

/// One name for a file that has two where `/lib` is a link to `/usr/lib` (merged `/usr`): the kernel says
/// `/usr/lib/x`, the package's list may still say `/lib/x`.
fn unmerged(path: &[u8]) -> &[u8] {
    let short = path.strip_prefix(b"/usr".as_slice()).unwrap_or(path);
    let merged = [b"/lib".as_slice(), b"/bin/", b"/sbin/"].iter().any(|d| short.starts_with(d));
    if merged { short } else { path }
}

#[cfg(test)]
mod tests;
