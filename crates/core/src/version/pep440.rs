//! Python's version order: `[N!]N(.N)*[{a|b|rc}N][.postN][.devN][+local]`, as the packaging specification "Version
//! specifiers" has it (<https://packaging.python.org/en/latest/specifications/version-specifiers/>, once PEP 440).
//!
//! Epoch, release (zeros at its end count for nothing), then: development releases of what follows, `a`, `b`, `rc`, the
//! release itself, post-releases; within each its own `.dev` releases first. A local version comes after the same
//! without; its segments compare as numbers, above words, words without regard to case.
//!
//! Other spellings are read as the specification normalises them: `v` in front, any case, `alpha` `beta` `c` `pre`
//! `preview` `rev` `r`, `-` `_` or nothing for `.`, a missing number for 0, and `1.0-1` for `1.0.post1`.

use super::number::{Number, is_number, number, run};
use super::text::{scheme, shown, trimmed};

/// Why a text is no version by the specification. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3`")]
    Empty,
    /// No number where the release should be.
    #[error("version `{0}` has no release number: write one such as `1.2.3`")]
    NoRelease(String),
    /// The local version has an empty segment or a character other than a letter or digit.
    #[error(
        "version `{0}` has a malformed local version: letters and digits, with single `.` between"
    )]
    BadLocal(String),
    /// Something follows that is no part of a version.
    #[error(
        "version `{text}` cannot be read from `{rest}` on: expected a, b, rc, post, dev or +local"
    )]
    Trailing {
        /// The version.
        text: String,
        /// What could not be read.
        rest: String,
    },
}

/// A pre-release, lowest first. Where there is none, what follows decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre<'a> {
    /// Only `.dev`: before all pre-releases.
    Development,
    Alpha(Number<'a>),
    Beta(Number<'a>),
    Candidate(Number<'a>),
    Final,
}

/// A development release comes before what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dev<'a> {
    Of(Number<'a>),
    None,
}

/// A segment of a local version, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Local<'a> {
    /// In lower case.
    Word(String),
    Number(Number<'a>),
}

/// The parts of a version, in the order in which they count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Release<'a> {
    epoch: Number<'a>,
    /// Without zeros at its end.
    numbers: Vec<Number<'a>>,
    pre: Pre<'a>,
    post: Option<Number<'a>>,
    dev: Dev<'a>,
    local: Option<Vec<Local<'a>>>,
}

/// A text, read. What is no version comes before all that is, by its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Parts<'a> {
    Unreadable(&'a str),
    Release(Release<'a>),
}

impl<'a> Parts<'a> {
    fn lenient(text: &'a str) -> Self {
        Self::strict(text).unwrap_or_else(|_| Self::Unreadable(trimmed(text)))
    }

    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        Reader { text, rest: text.as_bytes() }.read().map(Self::Release)
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Self::Unreadable(text) => std::iter::once(0).chain(text.bytes()).collect(),
            Self::Release(release) => release.key(),
        }
    }
}

impl Release<'_> {
    fn key(&self) -> Vec<u8> {
        let mut key = vec![1];
        let with = |key: &mut Vec<u8>, kind: u8, number: Number<'_>| {
            key.push(kind);
            number.push(key);
        };
        self.epoch.push(&mut key);
        self.numbers.iter().for_each(|&n| with(&mut key, 2, n));
        key.push(1);
        match self.pre {
            Pre::Development => key.push(1),
            Pre::Alpha(n) => with(&mut key, 2, n),
            Pre::Beta(n) => with(&mut key, 3, n),
            Pre::Candidate(n) => with(&mut key, 4, n),
            Pre::Final => key.push(5),
        }
        match self.post {
            None => key.push(1),
            Some(n) => with(&mut key, 2, n),
        }
        match self.dev {
            Dev::Of(n) => with(&mut key, 1, n),
            Dev::None => key.push(2),
        }
        if let Some(local) = &self.local {
            key.push(1);
            for segment in local {
                match segment {
                    Local::Word(word) => {
                        key.push(2);
                        key.extend(word.bytes());
                        key.push(0);
                    }
                    Local::Number(n) => with(&mut key, 3, *n),
                }
            }
        }
        // Below what begins a local version, and below its next segment.
        key.push(0);
        key
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Release<'a>, BadVersion> {
        self.word(&["v"]);
        let no_release = || BadVersion::NoRelease(shown(self.text));
        let mut first = self.number().ok_or_else(no_release)?;
        let mut epoch = Number::of(b"");
        if let Some(rest) = self.rest.strip_prefix(b"!") {
            self.rest = rest;
            epoch = first;
            first = self.number().ok_or_else(|| BadVersion::NoRelease(shown(self.text)))?;
        }
        let mut numbers = vec![first];
        while let [b'.', b'0'..=b'9', ..] = self.rest {
            self.rest = &self.rest[1..];
            numbers.extend(self.number());
        }
        while numbers.last().is_some_and(|n| n.value() == Some(0)) {
            numbers.pop();
        }
        let pre = self.marked(&["alpha", "a", "beta", "b", "preview", "pre", "c", "rc"]);
        let post = match self.rest {
            [b'-', b'0'..=b'9', ..] => {
                self.rest = &self.rest[1..];
                self.number()
            }
            _ => self.marked(&["post", "rev", "r"]).map(|(_, n)| n),
        };
        let dev = self.marked(&["dev"]).map_or(Dev::None, |(_, n)| Dev::Of(n));
        let pre = match pre {
            Some(("alpha" | "a", n)) => Pre::Alpha(n),
            Some(("beta" | "b", n)) => Pre::Beta(n),
            Some((_, n)) => Pre::Candidate(n),
            None if post.is_none() && dev != Dev::None => Pre::Development,
            None => Pre::Final,
        };
        let local = self.local()?;
        if !self.rest.is_empty() {
            let rest = shown(&String::from_utf8_lossy(self.rest));
            return Err(BadVersion::Trailing { text: shown(self.text), rest });
        }
        Ok(Release { epoch, numbers, pre, post, dev, local })
    }

    /// One digit or more.
    fn number(&mut self) -> Option<Number<'a>> {
        self.rest.first().filter(|b| b.is_ascii_digit())?;
        let (number, rest) = number(self.rest);
        self.rest = rest;
        Some(number)
    }

    /// The first of these words that stands here, in any case.
    fn word(&mut self, words: &[&'static str]) -> Option<&'static str> {
        let here = |word: &&&str| {
            self.rest.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()))
        };
        let found = *words.iter().find(here)?;
        self.rest = &self.rest[found.len()..];
        Some(found)
    }

    fn separator(&mut self) {
        if let [b'-' | b'_' | b'.', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// A word and its number, with single separators before each. Where the word is not there, nothing is taken.
    fn marked(&mut self, words: &[&'static str]) -> Option<(&'static str, Number<'a>)> {
        let before = self.rest;
        self.separator();
        let Some(word) = self.word(words) else {
            self.rest = before;
            return None;
        };
        self.separator();
        Some((word, self.number().unwrap_or(Number::of(b""))))
    }

    fn local(&mut self) -> Result<Option<Vec<Local<'a>>>, BadVersion> {
        let Some(rest) = self.rest.strip_prefix(b"+") else { return Ok(None) };
        let mut segments = Vec::new();
        let mut rest = rest;
        loop {
            let (segment, after) = run(rest, |b| b.is_ascii_alphanumeric());
            // Letters and digits are text.
            let word = std::str::from_utf8(segment).unwrap_or_default();
            if word.is_empty() {
                return Err(BadVersion::BadLocal(shown(self.text)));
            }
            segments.push(if is_number(word) {
                Local::Number(Number::of(segment))
            } else {
                Local::Word(word.to_ascii_lowercase())
            });
            match after {
                [] => break,
                [b'-' | b'_' | b'.', after @ ..] => rest = after,
                _ => return Err(BadVersion::BadLocal(shown(self.text))),
            }
        }
        self.rest = b"";
        Ok(Some(segments))
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: 0 and the text where it is no version. Else 1, the epoch, the numbers of the release (each after a 2) and 1,
/// a byte for the kind of pre-release and its number, likewise post and dev, the local version's segments, 0. A number
/// is its count of digits and these digits.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed Python version, normalised or not.
    ///
    /// Ordered and equal as the specification has it: `1.0a1` equals `v1-ALPHA.1`. The text is kept as written; in JSON
    /// it is that text.
}

#[cfg(test)]
mod tests;
