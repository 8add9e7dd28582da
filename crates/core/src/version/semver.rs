//! Semantic Versioning 2.0.0 (<https://semver.org/spec/v2.0.0.html>): `major.minor.patch[-prerelease][+build]`.
//!
//! Three numbers, then the pre-release, identifier by identifier: numbers as numbers and below words, words by their
//! bytes, fewer identifiers before more; a version with a pre-release comes before the one without. Build metadata
//! counts for nothing (section 10), so `1.0.0+a` equals `1.0.0+b`.
//!
//! [`compare_lenient`] also takes what is often met: a `v` before it, fewer or more than three numbers (a missing one
//! is 0), leading zeros.

use super::number::{Number, is_number};
use super::text::{scheme, shown, trimmed};
use std::cmp::Ordering;

/// Why a text is no semantic version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3`")]
    Empty,
    /// Not three numbers before the first `-` or `+`.
    #[error("version `{0}` does not start with three numbers: write major.minor.patch")]
    NotThreeNumbers(String),
    /// A number with a leading zero.
    #[error("version `{0}` has a number with a leading zero: write it without")]
    LeadingZero(String),
    /// Nothing between two dots, or after `-` or `+`.
    #[error("version `{0}` has an empty identifier in its pre-release or build metadata")]
    EmptyIdentifier(String),
    /// A character that may not stand in an identifier.
    #[error("version `{text}` holds {found:?}: identifiers are made of letters, digits and `-`")]
    Character {
        /// The version.
        text: String,
        /// The first character at fault.
        found: char,
    },
}

/// What stands between dots, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    Number(Number<'a>),
    Word(&'a str),
}

impl<'a> Identifier<'a> {
    fn of(text: &'a str) -> Self {
        if is_number(text) { Self::Number(Number::of(text.as_bytes())) } else { Self::Word(text) }
    }

    fn is_zero(self) -> bool {
        matches!(self, Self::Number(n) if n.value() == Some(0))
    }
}

/// The parts of a version that count.
#[derive(Debug, Clone)]
struct Parts<'a> {
    /// Without zeros at the end, because a missing number is 0.
    core: Vec<Identifier<'a>>,
    prerelease: Option<Vec<Identifier<'a>>>,
}

impl<'a> Parts<'a> {
    fn lenient(text: &'a str) -> Self {
        let text = trimmed(text);
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(before, _)| before);
        let (core, prerelease) = match text.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (text, None),
        };
        let identifiers = |text: &'a str| text.split('.').map(Identifier::of).collect::<Vec<_>>();
        let mut core = if core.is_empty() { Vec::new() } else { identifiers(core) };
        while core.last().is_some_and(|last| last.is_zero()) {
            core.pop();
        }
        Self { core, prerelease: prerelease.map(identifiers) }
    }

    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        let shown = || shown(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        let (rest, build) = match text.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (text, None),
        };
        let (core, prerelease) = match rest.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (rest, None),
        };
        let zeros = |number: &str| number.len() > 1 && number.starts_with('0') && is_number(number);
        if core.split('.').count() != 3 || !core.split('.').all(is_number) {
            return Err(BadVersion::NotThreeNumbers(shown()));
        }
        for identifier in [prerelease, build].into_iter().flatten().flat_map(|part| part.split('.'))
        {
            if identifier.is_empty() {
                return Err(BadVersion::EmptyIdentifier(shown()));
            }
            let odd = |c: &char| !c.is_ascii_alphanumeric() && *c != '-';
            if let Some(found) = identifier.chars().find(odd) {
                return Err(BadVersion::Character { text: shown(), found });
            }
        }
        // Build metadata may have them: section 10.
        if core.split('.').chain(prerelease.into_iter().flat_map(|p| p.split('.'))).any(zeros) {
            return Err(BadVersion::LeadingZero(shown()));
        }
        Ok(Self::lenient(text))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.core.cmp(&other.core).then_with(|| match (&self.prerelease, &other.prerelease) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        })
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        push_list(&mut key, &self.core);
        match &self.prerelease {
            Some(prerelease) => {
                key.push(1);
                push_list(&mut key, prerelease);
            }
            None => key.push(2),
        }
        key
    }
}

fn push_list(key: &mut Vec<u8>, list: &[Identifier<'_>]) {
    for identifier in list {
        match identifier {
            Identifier::Number(number) => {
                key.push(2);
                number.push(key);
            }
            Identifier::Word(word) => {
                key.push(3);
                // No byte of UTF-8 is above 0xF4.
                key.extend(word.bytes().map(|b| b + 1));
                key.push(0);
            }
        }
    }
    key.push(1);
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: the numbers without zeros at the end, 1, and 2 for no pre-release or 1, the pre-release and 1. A number is 2,
/// its count of digits and these digits; a word is 3, its bytes raised by one and 0.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed semantic version.
    ///
    /// Ordered and equal as the standard's section 11 has it: `1.0.0+a` equals `1.0.0`. The text is kept as written; in
    /// JSON it is that text.
}

#[cfg(test)]
mod tests;
