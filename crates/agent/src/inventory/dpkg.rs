//! dpkg's database, read straight from its files: `status` (and the `updates` a killed dpkg left), file lists.
//!
//! The format is that of `deb-control(5)` and `dpkg(1)`: paragraphs of `Field: value` lines, continuation lines
//! beginning with a blank, paragraphs apart by an empty line. Nothing is copied until a field is asked for.

use crate::settings::Settings;
use memchr::{memchr, memchr2};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

mod status;

pub use status::{Database, parse_status};

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
    line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'))
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
    // Nearly all is plain text, which is looked at many bytes at a time.
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
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
