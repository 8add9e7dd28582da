//! Maven's version order, as the POM reference specifies it
//! (<https://maven.apache.org/pom.html#Version_Order_Specification>).
//!
//! A version is cut at dots, at hyphens and wherever digits meet other characters, which counts as a hyphen. A token is a
//! number or a qualifier; an empty one is 0. What says nothing (0, `ga`, `final`, `release`) is dropped at the end and
//! before each hyphen and qualifier: `1.0.0` equals `1`, and `1.0-rc` equals `1-rc`. Then tokens compare one after the
//! other:
//!
//! * `alpha` < `beta` < `milestone` < `rc` = `cr` < `snapshot` < nothing at all < `sp` < any other qualifier, by its
//!   letters < a number after a hyphen < a number after a dot. Case does not matter. `a`, `b` and `m` right before a
//!   number are `alpha`, `beta` and `milestone`.
//! * Numbers compare as numbers. Where a version has ended, a number after a dot is compared with 0.
//!
//! `ComparableVersion` of Maven differs from it, and from one release of Maven to the next, where a version has several
//! qualifiers in a row or one that says nothing in its middle; the specification decides here.

use super::gem::push_fewer_first;
use super::number::{Number, run};
use super::text::{scheme, shown, trimmed};
use std::cmp::{Ordering, Reverse};

/// Why a text is no Maven version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3`")]
    Empty,
    /// A character that Maven refuses in versions.
    #[error(
        "version `{text}` holds {found:?}: white space and any of \\/:\"<>|?*[](){{}}, may not stand in a version"
    )]
    Character {
        /// The version.
        text: String,
        /// The first character at fault.
        found: char,
    },
}

/// What counts at a place, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    /// A known qualifier of what comes before a release, by its place among them.
    Early(u8),
    /// Nothing, or what says as much.
    End,
    /// A qualifier that says nothing, and a number after a dot as in [`Token::Dot`].
    Nothing(Reverse<usize>, Digits),
    /// `sp`.
    ServicePack,
    /// Any other qualifier.
    Other(String),
    /// A number after a hyphen.
    Hyphen(Digits),
    /// A number other than 0 after a dot. The more zeros before it, the lower.
    Dot(Reverse<usize>, Digits),
}

/// A number of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Digits(String);

impl Digits {
    fn number(&self) -> Number<'_> {
        Number::of(self.0.as_bytes())
    }
    fn is_zero(&self) -> bool {
        self.number().value() == Some(0)
    }
}
impl Ord for Digits {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}
impl PartialOrd for Digits {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As it is read, before what says nothing is dropped.
enum Read {
    Qualifier(Token),
    Number { hyphen: bool, digits: Digits },
}

impl Read {
    fn says_nothing(&self) -> bool {
        match self {
            Self::Qualifier(token) => *token == Token::End,
            Self::Number { digits, .. } => digits.is_zero(),
        }
    }
}

/// The tokens that count, and the end.
#[derive(Debug, Clone)]
struct Parts<'a> {
    tokens: Vec<Token>,
    text: std::marker::PhantomData<&'a str>,
}

fn qualifier(word: &str, before_number: bool) -> Token {
    match word {
        "a" if before_number => Token::Early(0),
        "b" if before_number => Token::Early(1),
        "m" if before_number => Token::Early(2),
        "alpha" => Token::Early(0),
        "beta" => Token::Early(1),
        "milestone" => Token::Early(2),
        "rc" | "cr" => Token::Early(3),
        "snapshot" => Token::Early(4),
        "ga" | "final" | "release" => Token::End,
        "sp" => Token::ServicePack,
        other => Token::Other(other.to_owned()),
    }
}

/// Drops what says nothing at the end.
fn trim(read: &mut Vec<Read>) {
    while read.last().is_some_and(Read::says_nothing) {
        read.pop();
    }
}

impl<'a> Parts<'a> {
    fn lenient(text: &'a str) -> Self {
        let lower = trimmed(text).to_lowercase();
        let mut read: Vec<Read> = Vec::new();
        let mut rest = lower.as_bytes();
        let mut hyphen = false;
        loop {
            let (digits, after) = run(rest, |b| b.is_ascii_digit());
            let (word, after) = match digits {
                [] => run(rest, |b| !b.is_ascii_digit() && b != b'.' && b != b'-'),
                _ => (&[][..], after),
            };
            if word.is_empty() {
                // Digits, or nothing, which is 0.
                let digits = Digits(String::from_utf8_lossy(digits).into_owned());
                if hyphen {
                    trim(&mut read);
                }
                read.push(Read::Number { hyphen, digits });
            } else {
                trim(&mut read);
                let before_number = after.first().is_some_and(u8::is_ascii_digit);
                // Cut where ASCII meets: whole characters stay whole.
                let word = String::from_utf8_lossy(word);
                read.push(Read::Qualifier(qualifier(&word, before_number)));
            }
            match after.first() {
                None => break,
                Some(&separator @ (b'.' | b'-')) => {
                    hyphen = separator == b'-';
                    rest = &after[1..];
                }
                Some(_) => {
                    hyphen = true;
                    rest = after;
                }
            }
        }
        trim(&mut read);
        let mut tokens = Vec::with_capacity(read.len() + 1);
        let (mut zeros, mut nothing) = (0, false);
        for token in read {
            match token {
                // Only numbers after dots follow: before all else it was dropped.
                Read::Qualifier(Token::End) => {
                    nothing = true;
                    continue;
                }
                Read::Qualifier(token) => tokens.push(token),
                Read::Number { hyphen: true, digits } => tokens.push(Token::Hyphen(digits)),
                Read::Number { digits, .. } if digits.is_zero() => {
                    zeros += 1;
                    continue;
                }
                Read::Number { digits, .. } if nothing => {
                    tokens.push(Token::Nothing(Reverse(zeros), digits));
                }
                Read::Number { digits, .. } => tokens.push(Token::Dot(Reverse(zeros), digits)),
            }
            (zeros, nothing) = (0, false);
        }
        tokens.push(Token::End);
        Self { tokens, text: std::marker::PhantomData }
    }

    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        let odd =
            |c: &char| c.is_whitespace() || c.is_control() || "\\/:\"<>|?*[](){},".contains(*c);
        match text.chars().find(odd) {
            Some(found) => Err(BadVersion::Character { text: shown(text), found }),
            None => Ok(Self::lenient(text)),
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.tokens.cmp(&other.tokens)
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(4 * self.tokens.len());
        for token in &self.tokens {
            let (tag, zeros, digits) = match token {
                Token::Early(rank) => {
                    key.extend([1, *rank]);
                    continue;
                }
                Token::Other(word) => {
                    key.push(5);
                    // No byte of UTF-8 is above 0xF4.
                    key.extend(word.bytes().map(|b| b + 1));
                    key.push(0);
                    continue;
                }
                Token::End => (2, None, None),
                Token::Nothing(Reverse(zeros), digits) => (3, Some(zeros), Some(digits)),
                Token::ServicePack => (4, None, None),
                Token::Hyphen(digits) => (6, None, Some(digits)),
                Token::Dot(Reverse(zeros), digits) => (7, Some(zeros), Some(digits)),
            };
            key.push(tag);
            if let Some(zeros) = zeros {
                push_fewer_first(&mut key, *zeros);
            }
            if let Some(digits) = digits {
                digits.number().push(&mut key);
            }
        }
        key
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: tokens and 2. 1 and a rank before releases; 4 for `sp`; 5, a qualifier's bytes raised by one and 0; 6 and a number
/// after a hyphen; 7 (3 after a qualifier that says nothing), how many zeros stand before it (all bits turned) and a number
/// after a dot. A number is its count of digits and these digits.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A version that Maven accepts.
    ///
    /// Ordered and equal as the POM reference has it: `1.0` equals `1-ga`. The text is kept as written; in JSON it is that
    /// text.
}

#[cfg(test)]
mod tests;
