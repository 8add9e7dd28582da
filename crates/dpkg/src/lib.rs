//! What dpkg keeps on disk, read straight from its files: control files in general, `status` and the `updates` that a
//! killed dpkg left in particular.
//!
//! The format is that of `deb-control(5)` and `dpkg(1)`: paragraphs of `Field: value` lines, continuation lines
//! beginning with a blank, paragraphs apart by an empty line. Nothing is copied until a field is asked for.
//!
//! A crate of its own because every inventory goes through a megabyte of this: the agent is built to be small, this
//! to be fast.

use memchr::{memchr, memchr2};

mod status;

pub use status::{Database, Status, parse_status};

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

#[cfg(test)]
mod tests;
