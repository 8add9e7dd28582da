//! Debian's version order: `[epoch:]upstream[-revision]`, as `deb-version(7)` and dpkg have it.
//!
//! Epochs compare as numbers, then upstream versions, then revisions. The latter two are read in turns:
//! a run of non-digits, compared character by character (`~` before the end, the end before letters,
//! letters before everything else), then a run of digits, compared as a number. A missing number is 0
//! and a missing revision is empty, so that `1`, `1-0` and `0:1` are equal.

use super::number::{Number, is_number, number, run};
use super::text::{scheme, shown, trimmed};
use std::cmp::Ordering;

/// The largest epoch dpkg accepts.
pub const MAX_EPOCH: u32 = i32::MAX as u32;

/// Why a text is no Debian version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2-3`")]
    Empty,
    /// White space inside.
    #[error("version `{0}` has white space inside: write it without")]
    Space(String),
    /// A colon with nothing before it.
    #[error(
        "version `{0}` has an empty epoch: write a number before the colon or leave the colon away"
    )]
    EmptyEpoch(String),
    /// Something other than digits before the first colon.
    #[error(
        "version `{0}` has an epoch that is not a number: only digits may stand before the first colon"
    )]
    EpochNotNumber(String),
    /// Epoch above [`MAX_EPOCH`].
    #[error("version `{0}` has an epoch above {MAX_EPOCH}")]
    EpochTooBig(String),
    /// Nothing after the epoch.
    #[error("version `{0}` ends after its epoch: write a version after the colon")]
    NothingAfterEpoch(String),
    /// Nothing before the last hyphen.
    #[error("version `{0}` has no upstream version before its revision")]
    EmptyUpstream(String),
    /// Nothing after the last hyphen.
    #[error(
        "version `{0}` has an empty revision: write it after the last hyphen or leave the hyphen away"
    )]
    EmptyRevision(String),
    /// The upstream version starts with something other than a digit.
    #[error("version `{0}` does not start with a digit (after the epoch)")]
    NoDigitFirst(String),
    /// A character that may not stand in an upstream version.
    #[error(
        "version `{text}` holds {found:?}: an upstream version is made of letters, digits and `. + - ~ :`"
    )]
    UpstreamCharacter {
        /// The version.
        text: String,
        /// The first character at fault.
        found: char,
    },
    /// A character that may not stand in a revision.
    #[error(
        "version `{text}` has {found:?} in its revision: a revision is made of letters, digits and `. + ~`"
    )]
    RevisionCharacter {
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
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits any text, well-formed or not. What stands before the first colon is an epoch only where it is
    /// a number; an empty revision is a missing one.
    fn lenient(text: &'a str) -> Self {
        let text = trimmed(text);
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if is_number(unsigned(epoch)) => (unsigned(epoch), rest),
            _ => ("", text),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch: Number::of(epoch.as_bytes()), upstream, revision }
    }

    /// Splits and checks as `dpkg --validate-version` does.
    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        let shown = || shown(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        if text.contains(|c: char| c.is_ascii_whitespace()) {
            return Err(BadVersion::Space(shown()));
        }
        if let Some((epoch, rest)) = text.split_once(':') {
            if epoch.is_empty() {
                return Err(BadVersion::EmptyEpoch(shown()));
            }
            let epoch = unsigned(epoch);
            if !is_number(epoch) {
                return Err(BadVersion::EpochNotNumber(shown()));
            }
            if Number::of(epoch.as_bytes()).value().is_none_or(|e| e > MAX_EPOCH) {
                return Err(BadVersion::EpochTooBig(shown()));
            }
            if rest.is_empty() {
                return Err(BadVersion::NothingAfterEpoch(shown()));
            }
        }
        let parts = Self::lenient(text);
        if text.ends_with('-') {
            return Err(BadVersion::EmptyRevision(shown()));
        }
        if parts.upstream.is_empty() {
            return Err(BadVersion::EmptyUpstream(shown()));
        }
        if !parts.upstream.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(BadVersion::NoDigitFirst(shown()));
        }
        let odd = |part: &str, also: &str| {
            part.chars().find(|c| !c.is_ascii_alphanumeric() && !also.contains(*c))
        };
        if let Some(found) = odd(parts.upstream, ".+-~:") {
            return Err(BadVersion::UpstreamCharacter { text: shown(), found });
        }
        if let Some(found) = odd(parts.revision, ".+~") {
            return Err(BadVersion::RevisionCharacter { text: shown(), found });
        }
        Ok(parts)
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream.as_bytes(), other.upstream.as_bytes()))
            .then_with(|| compare_part(self.revision.as_bytes(), other.revision.as_bytes()))
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(2 * (self.upstream.len() + self.revision.len()) + 8);
        self.epoch.push(&mut key);
        push_part(&mut key, self.upstream.as_bytes());
        push_part(&mut key, self.revision.as_bytes());
        key
    }
}

/// An epoch without its sign. dpkg reads it with `strtol`, which takes one, and refuses what is below 0.
fn unsigned(epoch: &str) -> &str {
    match epoch.strip_prefix('-') {
        Some(zeros) if zeros.bytes().all(|b| b == b'0') => zeros,
        _ => epoch.strip_prefix('+').unwrap_or(epoch),
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: epoch as a number, upstream version, revision. A number is its count of digits without leading
/// zeros (one byte; 255 announces eight bytes, big-endian) and these digits. The other two are, in turns,
/// the weights of a run of non-digits, a 2, a number; and a 2 at the end, where another version's next run of
/// non-digits would begin. Weights: `~` is 1, letters follow from 3, then bytes above 127, then all else.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

/// What ends a run of non-digits, and a part. Above `~`, below everything else.
const END: u8 = 2;

/// A non-digit's place in the order, as dpkg's `order()`; never [`END`], never 0.
fn weight(byte: u8) -> u8 {
    match byte {
        b'~' => 1,
        b'A'..=b'Z' => byte - b'A' + 3,
        b'a'..=b'z' => byte - b'a' + 29,
        // dpkg adds 256 to a signed char: above the letters, below ASCII punctuation.
        128.. => byte - 128 + 55,
        // The rest of ASCII in its own order, moved together over the gaps of digits, letters and `~`.
        0..=b'/' => byte + 183,
        b':'..=b'@' => byte - b':' + 231,
        b'['..=b'`' => byte - b'[' + 238,
        b'{'..=b'}' => byte - b'{' + 244,
        127 => 247,
        b'0'..=b'9' => END,
    }
}

/// dpkg's `verrevcmp`.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        loop {
            let weight_of = |text: &[u8]| text.first().map_or(END, |&byte| weight(byte));
            let (wa, wb) = (weight_of(a), weight_of(b));
            if wa != wb {
                return wa.cmp(&wb);
            }
            if wa == END {
                break;
            }
            (a, b) = (&a[1..], &b[1..]);
        }
        let ((na, ra), (nb, rb)) = (number(a), number(b));
        match na.cmp(&nb) {
            Ordering::Equal => (a, b) = (ra, rb),
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn push_part(key: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (letters, rest) = run(text, |b| !b.is_ascii_digit());
        key.extend(letters.iter().map(|&b| weight(b)));
        key.push(END);
        let (digits, rest) = number(rest);
        digits.push(key);
        text = rest;
        if text.is_empty() {
            break;
        }
    }
    key.push(END);
}

scheme! {
    /// A well-formed Debian version: what `dpkg --validate-version` accepts.
    ///
    /// Ordered and equal as dpkg has it: `1.0` equals `1.00` and `0:1.0-0`. The text is kept as written; in JSON it
    /// is that text.
}

impl Version {
    /// The epoch; 0 where none is written.
    pub fn epoch(&self) -> u32 {
        self.parts().epoch.value().unwrap_or(0)
    }

    /// The upstream version: `3.0.15` of `1:3.0.15-1~deb12u1`.
    pub fn upstream(&self) -> &str {
        self.parts().upstream
    }

    /// The Debian revision: `1~deb12u1` of `1:3.0.15-1~deb12u1`; empty where there is none.
    pub fn revision(&self) -> &str {
        self.parts().revision
    }
}

#[cfg(test)]
mod tests;
