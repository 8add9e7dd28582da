//! RubyGems' version order, as `Gem::Version` of RubyGems 3 has it (`lib/rubygems/version.rb`).
//!
//! A version is read as runs of digits and runs of letters; what stands between them counts for nothing, except that a
//! hyphen means `.pre.`. Zeros before the first letters and at the end are dropped, so that `1.0` equals `1` and `1.0.a`
//! equals `1.a`. Then runs compare one after the other: digits as numbers, letters by their bytes (capitals first), letters
//! below digits. The shorter one goes on with zeros, so that any letters make a version an earlier one: `1.a` comes before
//! `1`.
//!
//! [`compare_lenient`] takes any text by the same rules.

use super::number::{Number, number, push_count, run};
use super::text::{scheme, shown, trimmed};
use std::cmp::{Ordering, Reverse};

/// Why a text is no gem version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3`")]
    Empty,
    /// It does not begin with a digit.
    #[error("version `{0}` does not begin with a number: write it as `1.2.3` or `1.2.3.pre1`")]
    NoNumber(String),
    /// Nothing between two dots, or after the last one.
    #[error("version `{0}` has nothing between two dots, or after its last one")]
    EmptySegment(String),
    /// A character that may not stand there.
    #[error(
        "version `{text}` holds {found:?}: letters, digits, dots and hyphens make a gem's version"
    )]
    Character {
        /// The version.
        text: String,
        /// The first character at fault.
        found: char,
    },
}

/// What counts at a place, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    /// Letters, that many zeros before them.
    Letters(usize, &'a [u8]),
    /// Zeros without end.
    End,
    /// A number other than 0. The more zeros before it, the lower.
    Number(Reverse<usize>, Number<'a>),
}

/// The segments that count, and the end.
#[derive(Debug, Clone)]
struct Parts<'a>(Vec<Segment<'a>>);

impl<'a> Parts<'a> {
    fn lenient(text: &'a str) -> Self {
        let mut rest = trimmed(text).as_bytes();
        let mut segments = Vec::new();
        // Zeros that are not told yet, and whether letters came before.
        let (mut zeros, mut lettered) = (0, false);
        let letters =
            |segments: &mut Vec<Segment<'a>>, zeros: &mut usize, lettered: &mut bool, word| {
                // Those before the first letters are dropped.
                let before = if *lettered { *zeros } else { 0 };
                segments.push(Segment::Letters(before, word));
                (*zeros, *lettered) = (0, true);
            };
        while let Some(&first) = rest.first() {
            if first.is_ascii_digit() {
                let (number, after) = number(rest);
                rest = after;
                if number.value() == Some(0) {
                    zeros += 1;
                } else {
                    segments.push(Segment::Number(Reverse(zeros), number));
                    zeros = 0;
                }
            } else if first.is_ascii_alphabetic() {
                let (word, after) = run(rest, |b| b.is_ascii_alphabetic());
                rest = after;
                letters(&mut segments, &mut zeros, &mut lettered, word);
            } else {
                rest = &rest[1..];
                if first == b'-' {
                    letters(&mut segments, &mut zeros, &mut lettered, b"pre");
                }
            }
        }
        segments.push(Segment::End);
        Self(segments)
    }

    /// Checks as `Gem::Version::VERSION_PATTERN` has it. (An empty version, which RubyGems takes for 0, is refused.)
    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        let shown = || shown(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        let (release, rest) = match text.split_once('-') {
            Some((release, rest)) => (release, Some(rest)),
            None => (text, None),
        };
        let odd = |c: &char| !c.is_ascii_alphanumeric() && !".-".contains(*c);
        if let Some(found) = text.chars().find(odd) {
            return Err(BadVersion::Character { text: shown(), found });
        }
        if !release.split('.').next().is_some_and(super::number::is_number) {
            return Err(BadVersion::NoNumber(shown()));
        }
        if release.split('.').chain(rest.into_iter().flat_map(|r| r.split('.'))).any(str::is_empty)
        {
            return Err(BadVersion::EmptySegment(shown()));
        }
        Ok(Self::lenient(text))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(4 * self.0.len());
        for segment in &self.0 {
            match segment {
                Segment::Letters(zeros, letters) => {
                    key.push(1);
                    push_count(&mut key, *zeros);
                    key.extend(*letters);
                    key.push(0);
                }
                Segment::End => key.push(2),
                Segment::Number(Reverse(zeros), number) => {
                    key.push(3);
                    push_fewer_first(&mut key, *zeros);
                    number.push(&mut key);
                }
            }
        }
        key
    }
}

/// Appends a count so that bytes compare as counts do, the other way round.
pub(super) fn push_fewer_first(key: &mut Vec<u8>, count: usize) {
    let start = key.len();
    push_count(key, count);
    key[start..].iter_mut().for_each(|b| *b = !*b);
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: segments and 2. Letters are 1, how many zeros stand before them, they themselves and 0; a number is 3, how many
/// zeros stand before it (all bits turned), its count of digits and these digits.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed gem version.
    ///
    /// Ordered and equal as RubyGems has it: `1.0` equals `1`. The text is kept as written; in JSON it is that text.
}

#[cfg(test)]
mod tests;
