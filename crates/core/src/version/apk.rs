//! Alpine's version order: `digits{.digits}{letter}{_suffix{digits}}{~hash}{-rdigits}`, as `apk-package(5)` and
//! `apk_version_compare` of apk-tools 3 have it. It grew from Gentoo's (PMS, section 3.3).
//!
//! Read from the left, part by part; the first difference decides. The first number and those of suffixes and
//! revision compare as numbers. A later number compares as text where one of the two starts with 0, so that `1.01`
//! comes before `1.1` and `1.02` after `1.010`. Suffixes: `_alpha` `_beta` `_pre` `_rc`, then none, then `_cvs`
//! `_svn` `_git` `_hg` `_p`. Where one version goes on and the other does something else, a pre-release suffix comes
//! first, then the end, then `-r`, `~`, a suffix's number, a suffix, a letter, another number. So `1.0` comes before
//! `1.0-r0`; they are not equal.
//!
//! apk-tools 2 differs in two odd cases: there fewer leading zeros come after more (`1.0` after `1.00`), and past the
//! zeros digits count as a number (`1.010` after `1.02`). Numbers above 64 bits wrap in apk and are exact here.

use super::number::{Number, number, run};
use super::text::{scheme, shown, trimmed};
use std::cmp::Ordering;

/// Why a text is no apk version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3-r0`")]
    Empty,
    /// It does not start with a digit.
    #[error("version `{0}` does not start with a digit")]
    NoDigitFirst(String),
    /// What `apk version --check` refuses.
    #[error(
        "version `{text}` cannot be read from `{rest}` on: a version is written digits{{.digits}}{{letter}}{{_suffix{{digits}}}}{{~hash}}{{-rdigits}}"
    )]
    Malformed {
        /// The version.
        text: String,
        /// What could not be read.
        rest: String,
    },
}

/// A version; its parts are read when it is compared.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    text: &'a str,
}

impl<'a> Parts<'a> {
    fn lenient(text: &'a str) -> Self {
        Self { text: trimmed(text) }
    }

    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let parts = Self::lenient(text);
        if parts.text.is_empty() {
            return Err(BadVersion::Empty);
        }
        if !parts.text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(BadVersion::NoDigitFirst(shown(parts.text)));
        }
        let mut reader = Reader::new(parts.text);
        loop {
            let rest = reader.rest;
            match reader.next() {
                Token::End => return Ok(parts),
                Token::Invalid => {
                    let rest = shown(&String::from_utf8_lossy(rest));
                    return Err(BadVersion::Malformed { text: shown(parts.text), rest });
                }
                _ => {}
            }
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (Reader::new(self.text), Reader::new(other.text));
        loop {
            let (x, y) = (a.next(), b.next());
            match x.cmp(&y) {
                Ordering::Equal if matches!(x, Token::End | Token::Invalid) => {
                    return Ordering::Equal;
                }
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(2 * self.text.len() + 2);
        let mut reader = Reader::new(self.text);
        loop {
            let token = reader.next();
            token.push(&mut key);
            if matches!(token, Token::End | Token::Invalid) {
                return key;
            }
        }
    }
}

/// The suffixes before which a version without suffix comes.
const AFTER: [&[u8]; 5] = [b"cvs", b"svn", b"git", b"hg", b"p"];
/// The suffixes that come before a version without suffix.
const BEFORE: [&[u8]; 4] = [b"alpha", b"beta", b"pre", b"rc"];

/// What stands at a place of a version, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    /// Place in [`BEFORE`].
    Before(u8),
    /// Nothing that may stand here. What follows is not read: all such texts are equal from here on.
    Invalid,
    End,
    Revision(Number<'a>),
    Hash(&'a [u8]),
    SuffixNumber(Number<'a>),
    /// Place in [`AFTER`].
    After(u8),
    Letter(u8),
    /// A later number that starts with 0, as text: below all others, because they start with a higher digit.
    Zeros(&'a [u8]),
    Number(Number<'a>),
}

impl Token<'_> {
    fn push(self, key: &mut Vec<u8>) {
        match self {
            Self::Before(place) => key.extend([1, place]),
            Self::Invalid => key.push(2),
            Self::End => key.push(3),
            Self::Revision(number) => {
                key.push(4);
                number.push(key);
            }
            Self::Hash(digits) => {
                key.push(5);
                key.extend(digits);
                key.push(0);
            }
            Self::SuffixNumber(number) => {
                key.push(6);
                number.push(key);
            }
            Self::After(place) => key.extend([7, place]),
            Self::Letter(letter) => key.extend([8, letter]),
            Self::Zeros(digits) => {
                key.push(9);
                key.extend(digits);
                key.push(0);
            }
            Self::Number(number) => {
                key.push(10);
                number.push(key);
            }
        }
    }
}

/// How far a version was read: what was read last decides what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Start,
    Number,
    Letter,
    Suffix,
    SuffixNumber,
    Hash,
    Revision,
}

struct Reader<'a> {
    rest: &'a [u8],
    state: State,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes(), state: State::Start }
    }

    fn next(&mut self) -> Token<'a> {
        match self.read() {
            Some((token, state, rest)) => {
                (self.state, self.rest) = (state, rest);
                token
            }
            None if self.rest.is_empty() && self.state != State::Start => Token::End,
            None => Token::Invalid,
        }
    }

    /// The next token, what it makes of the state, and what follows it.
    fn read(&self) -> Option<(Token<'a>, State, &'a [u8])> {
        let (&first, after) = self.rest.split_first()?;
        let digits = |text: &'a [u8]| text.first()?.is_ascii_digit().then(|| number(text));
        match (first, self.state) {
            (_, State::Start) => {
                let (number, rest) = digits(self.rest)?;
                Some((Token::Number(number), State::Number, rest))
            }
            (b'a'..=b'z', State::Number) => Some((Token::Letter(first), State::Letter, after)),
            (b'.', State::Number) => {
                let (number, rest) = digits(after)?;
                let token = match after[0] {
                    b'0' => Token::Zeros(&after[..after.len() - rest.len()]),
                    _ => Token::Number(number),
                };
                Some((token, State::Number, rest))
            }
            (b'0'..=b'9', State::Suffix) => {
                let (number, rest) = number(self.rest);
                Some((Token::SuffixNumber(number), State::SuffixNumber, rest))
            }
            (b'_', state) if state <= State::SuffixNumber => {
                let (word, rest) = run(after, |b| b.is_ascii_lowercase());
                let place = |words: &[&[u8]]| Some(words.iter().position(|w| *w == word)? as u8);
                let token = match place(&BEFORE) {
                    Some(place) => Token::Before(place),
                    None => Token::After(place(&AFTER)?),
                };
                Some((token, State::Suffix, rest))
            }
            (b'~', state) if state < State::Hash => {
                let (hash, rest) = run(after, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                (!hash.is_empty()).then_some((Token::Hash(hash), State::Hash, rest))
            }
            (b'-', state) if state < State::Revision => {
                let (number, rest) = digits(after.strip_prefix(b"r")?)?;
                Some((Token::Revision(number), State::Revision, rest))
            }
            _ => None,
        }
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: part by part, each a byte for its kind in the order above and its content: the place of a suffix, a letter,
/// a number as its count of digits and these digits, a hash and a number with leading zeros as text ended by 0.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed apk version: what `apk version --check` accepts.
    ///
    /// Ordered and equal as apk has it: `1.2-r1` equals `1.2-r01`, not `1.02-r1`. The text is kept as written; in JSON
    /// it is that text.
}

#[cfg(test)]
mod tests;
