//! rpm's version order: `[epoch:]version[-release]`, as `rpm-version(7)` and `rpmverCmp`/`rpmvercmp` of rpm 4.15 and
//! later have it.
//!
//! Epochs compare as numbers (a missing one is 0), then versions, then releases; a missing release comes before
//! every other (rpm's label compare; it is only in *dependencies* that a missing release means any). Versions and
//! releases are read segment by segment: a run of digits, compared as a number, or a run of letters, compared by
//! their bytes; everything else separates segments and counts for nothing, however much of it there is. At the same
//! place `~` comes before the end, the end before `^`, that before letters, letters before a number.

use super::number::{Number, number, run};
use super::text::{epoch_version_release, scheme, shown, trimmed};
use std::cmp::Ordering;

/// The largest epoch rpm accepts.
pub const MAX_EPOCH: u32 = u32::MAX;

/// Why a text is no rpm version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2-3.el9`")]
    Empty,
    /// A colon with something other than a number before it, or nothing.
    #[error(
        "version `{0}` has an epoch that is not a number: only digits may stand before the colon"
    )]
    EpochNotNumber(String),
    /// Epoch above [`MAX_EPOCH`].
    #[error("version `{0}` has an epoch above {MAX_EPOCH}")]
    EpochTooBig(String),
    /// Nothing between epoch and release.
    #[error("version `{0}` has nothing between its epoch and its release")]
    EmptyVersion(String),
    /// Nothing after the hyphen.
    #[error(
        "version `{0}` has an empty release: write it after the hyphen or leave the hyphen away"
    )]
    EmptyRelease(String),
    /// Two dots in a row.
    #[error("version `{0}` holds `..`, which rpm refuses: write one dot")]
    TwoDots(String),
    /// A character that may not stand there.
    #[error(
        "version `{text}` holds {found:?}: version and release are made of letters, digits and `. _ + ~ ^`, with one `-` between them"
    )]
    Character {
        /// The version.
        text: String,
        /// The first character at fault.
        found: char,
    },
}

/// A version's three parts, borrowed.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    epoch: Number<'a>,
    version: &'a str,
    release: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Splits any text as rpm's `parseEVR` does: digits (or nothing) before the first colon are the epoch, what
    /// follows the last hyphen is the release.
    fn lenient(text: &'a str) -> Self {
        let (epoch, version, release) = epoch_version_release(trimmed(text));
        Self { epoch: Number::of(epoch.as_bytes()), version, release }
    }

    /// Splits and checks as rpmbuild checks `Epoch`, `Version` and `Release`.
    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        let shown = || shown(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        if let Some((epoch, _)) = text.split_once(':') {
            if epoch.is_empty() || !epoch.bytes().all(|b| b.is_ascii_digit()) {
                return Err(BadVersion::EpochNotNumber(shown()));
            }
            if Number::of(epoch.as_bytes()).value().is_none() {
                return Err(BadVersion::EpochTooBig(shown()));
            }
        }
        let parts = Self::lenient(text);
        if parts.version.is_empty() {
            return Err(BadVersion::EmptyVersion(shown()));
        }
        if parts.release == Some("") {
            return Err(BadVersion::EmptyRelease(shown()));
        }
        for part in [Some(parts.version), parts.release].into_iter().flatten() {
            let odd = |c: &char| !c.is_ascii_alphanumeric() && !"._+~^".contains(*c);
            if let Some(found) = part.chars().find(odd) {
                return Err(BadVersion::Character { text: shown(), found });
            }
            if part.contains("..") {
                return Err(BadVersion::TwoDots(shown()));
            }
        }
        Ok(parts)
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let release = |a: Option<&str>, b: Option<&str>| match (a, b) {
            (Some(a), Some(b)) => compare_part(a.as_bytes(), b.as_bytes()),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.version.as_bytes(), other.version.as_bytes()))
            .then_with(|| release(self.release, other.release))
    }

    fn key(&self) -> Vec<u8> {
        let length = self.version.len() + self.release.map_or(0, str::len);
        let mut key = Vec::with_capacity(2 * length + 8);
        self.epoch.push(&mut key);
        push_part(&mut key, self.version.as_bytes());
        key.push(u8::from(self.release.is_some()));
        if let Some(release) = self.release {
            push_part(&mut key, release.as_bytes());
        }
        key
    }
}

/// What stands at a place of a version or release, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    Tilde,
    End,
    Caret,
    Letters(&'a [u8]),
    Number(Number<'a>),
}

/// Takes the next segment off.
fn next<'a>(text: &mut &'a [u8]) -> Segment<'a> {
    let counts = |b: u8| b.is_ascii_alphanumeric() || b == b'~' || b == b'^';
    let rest = run(text, |b| !counts(b)).1;
    let (segment, rest) = match rest.first() {
        None => (Segment::End, rest),
        Some(b'~') => (Segment::Tilde, &rest[1..]),
        Some(b'^') => (Segment::Caret, &rest[1..]),
        Some(b'0'..=b'9') => {
            let (number, rest) = number(rest);
            (Segment::Number(number), rest)
        }
        Some(_) => {
            let (letters, rest) = run(rest, |b| b.is_ascii_alphabetic());
            (Segment::Letters(letters), rest)
        }
    };
    *text = rest;
    segment
}

/// rpm's `rpmvercmp`.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (x, y) = (next(&mut a), next(&mut b));
        match x.cmp(&y) {
            Ordering::Equal if x == Segment::End => return Ordering::Equal,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

fn push_part(key: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        match next(&mut text) {
            Segment::Tilde => key.push(1),
            Segment::End => return key.push(2),
            Segment::Caret => key.push(3),
            Segment::Letters(letters) => {
                key.push(4);
                key.extend(letters);
                key.push(0);
            }
            Segment::Number(number) => {
                key.push(5);
                number.push(key);
            }
        }
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: epoch as a number, version, 0 for no release or 1 and the release. Version and release are segments, each
/// a byte for its kind in the order above (1 to 5) and its content: letters ended by 0, a number as its count of
/// digits and these digits.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed rpm version: what rpmbuild accepts as epoch, version and release.
    ///
    /// Ordered and equal as rpm has it: `1.0` equals `0:1_00`. The text is kept as written; in JSON it is that text.
}

impl Version {
    /// The epoch; 0 where none is written.
    pub fn epoch(&self) -> u32 {
        self.parts().epoch.value().unwrap_or(0)
    }

    /// The version proper: `3.0.7` of `1:3.0.7-27.el9`.
    pub fn version(&self) -> &str {
        self.parts().version
    }

    /// The release: `27.el9` of `1:3.0.7-27.el9`.
    pub fn release(&self) -> Option<&str> {
        self.parts().release
    }
}

#[cfg(test)]
mod tests;
