//! Arch Linux's version order: `[epoch:]pkgver-pkgrel`, as `vercmp(8)`, `PKGBUILD(5)` and `alpm_pkg_vercmp` of pacman
//! 6 and 7 have it.
//!
//! It began as rpm's and differs in detail. Epochs compare as numbers (a missing one is 0), then `pkgver`, then
//! `pkgrel`. Both are read segment by segment: a run of digits, compared as a number, or a run of letters, compared by
//! their bytes, with separators before it that count by their number only (`1.0` equals `1_0`, `1..0` is higher). At
//! the same place letters without a separator come before the end (`1.0rc1` before `1.0`), and the end before all
//! else. `~` and `^` are separators like others.
//!
//! Two things `vercmp` does are no order, and are decided here:
//!
//! * To `vercmp` a version without `pkgrel` equals the same one with any. Packages always have one and a strict
//!   [`Version`] must; in [`compare_lenient`] a missing one comes before every other.
//! * `vercmp` says `1.a` before `1.`, `1.` before `1.1`, `1.1` before `1..a`, and that before `1.` again. Here a
//!   separator at the end stands for one, which breaks the circle: versions that do not end in a separator compare
//!   exactly as `vercmp` has it.

use super::number::{Number, is_number, number, push_count, run};
use super::text::{epoch_version_release, scheme, shown, trimmed};
use std::cmp::Ordering;

/// Why a text is no pacman version. Each variant holds the text (at most its first 100 characters).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Nothing there but white space.
    #[error("a version must not be empty: write one such as `1.2.3-1`")]
    Empty,
    /// A colon with something other than a number before it, or nothing.
    #[error(
        "version `{0}` has an epoch that is not a number: only digits may stand before the colon"
    )]
    EpochNotNumber(String),
    /// Nothing before the hyphen.
    #[error("version `{0}` has no pkgver before its pkgrel")]
    EmptyPkgver(String),
    /// No hyphen.
    #[error("version `{0}` has no pkgrel: write it after a hyphen, as in `1.2.3-1`")]
    NoPkgrel(String),
    /// What follows the hyphen is no `integer[.integer]`.
    #[error("version `{0}` has a pkgrel that is not of the form integer or integer.integer")]
    BadPkgrel(String),
    /// A character that may not stand in `pkgver`.
    #[error(
        "version `{text}` holds {found:?}: pkgver is ASCII without colons, slashes, hyphens and white space"
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
    pkgver: &'a str,
    pkgrel: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Splits any text as libalpm's `parseEVR` does.
    fn lenient(text: &'a str) -> Self {
        let (epoch, pkgver, pkgrel) = epoch_version_release(trimmed(text));
        Self { epoch: Number::of(epoch.as_bytes()), pkgver, pkgrel }
    }

    /// Splits and checks as makepkg's `lint_pkgbuild` does.
    fn strict(text: &'a str) -> Result<Self, BadVersion> {
        let text = trimmed(text);
        let shown = || shown(text);
        if text.is_empty() {
            return Err(BadVersion::Empty);
        }
        if text.split_once(':').is_some_and(|(epoch, _)| !is_number(epoch)) {
            return Err(BadVersion::EpochNotNumber(shown()));
        }
        let parts = Self::lenient(text);
        let pkgrel = parts.pkgrel.ok_or_else(|| BadVersion::NoPkgrel(shown()))?;
        let (major, minor) = pkgrel.split_once('.').unwrap_or((pkgrel, "0"));
        if !is_number(major) || !is_number(minor) {
            return Err(BadVersion::BadPkgrel(shown()));
        }
        if parts.pkgver.is_empty() {
            return Err(BadVersion::EmptyPkgver(shown()));
        }
        let odd = |c: &char| !c.is_ascii() || ":/-".contains(*c) || is_space(*c);
        match parts.pkgver.chars().find(odd) {
            Some(found) => Err(BadVersion::Character { text: shown(), found }),
            None => Ok(parts),
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let pkgrel = |a: Option<&str>, b: Option<&str>| match (a, b) {
            (Some(a), Some(b)) => compare_part(a.as_bytes(), b.as_bytes()),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.pkgver.as_bytes(), other.pkgver.as_bytes()))
            .then_with(|| pkgrel(self.pkgrel, other.pkgrel))
    }

    fn key(&self) -> Vec<u8> {
        let length = self.pkgver.len() + self.pkgrel.map_or(0, str::len);
        let mut key = Vec::with_capacity(2 * length + 8);
        self.epoch.push(&mut key);
        push_part(&mut key, self.pkgver.as_bytes());
        key.push(u8::from(self.pkgrel.is_some()));
        if let Some(pkgrel) = self.pkgrel {
            push_part(&mut key, pkgrel.as_bytes());
        }
        key
    }
}

/// What C calls `isspace`.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// What stands at a place of `pkgver` or `pkgrel`, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    /// Letters with no separator before them.
    Letters(&'a [u8]),
    End,
    /// A number with no separator before it.
    Number(Number<'a>),
    /// That many separators, and what they lead to.
    Apart(usize, Rest<'a>),
}

/// What follows separators, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest<'a> {
    Letters(&'a [u8]),
    Nothing,
    Number(Number<'a>),
}

impl Segment<'_> {
    fn is_last(self) -> bool {
        matches!(self, Self::End | Self::Apart(_, Rest::Nothing))
    }
}

/// Takes the next segment off.
fn next<'a>(text: &mut &'a [u8]) -> Segment<'a> {
    let (separators, rest) = run(text, |b| !b.is_ascii_alphanumeric());
    let (segment, rest) = match rest.first() {
        None if separators.is_empty() => return Segment::End,
        // However many there are at the end, they stand for one.
        None => {
            *text = rest;
            return Segment::Apart(1, Rest::Nothing);
        }
        Some(b'0'..=b'9') => {
            let (number, rest) = number(rest);
            (Rest::Number(number), rest)
        }
        Some(_) => {
            let (letters, rest) = run(rest, |b| b.is_ascii_alphabetic());
            (Rest::Letters(letters), rest)
        }
    };
    *text = rest;
    match (separators.len(), segment) {
        (0, Rest::Letters(letters)) => Segment::Letters(letters),
        (0, Rest::Number(number)) => Segment::Number(number),
        (count, segment) => Segment::Apart(count, segment),
    }
}

/// libalpm's `rpmvercmp`.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (x, y) = (next(&mut a), next(&mut b));
        match x.cmp(&y) {
            Ordering::Equal if x.is_last() => return Ordering::Equal,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

fn push_part(key: &mut Vec<u8>, mut text: &[u8]) {
    let push_letters = |key: &mut Vec<u8>, letters: &[u8]| {
        key.push(1);
        key.extend(letters);
        key.push(0);
    };
    let push_number = |key: &mut Vec<u8>, number: Number<'_>| {
        key.push(3);
        number.push(key);
    };
    loop {
        let segment = next(&mut text);
        match segment {
            Segment::Letters(letters) => push_letters(key, letters),
            Segment::End => key.push(2),
            Segment::Number(number) => push_number(key, number),
            Segment::Apart(count, rest) => {
                key.push(4);
                push_count(key, count);
                match rest {
                    Rest::Letters(letters) => push_letters(key, letters),
                    Rest::Nothing => key.push(2),
                    Rest::Number(number) => push_number(key, number),
                }
            }
        }
        if segment.is_last() {
            return;
        }
    }
}

/// A byte string whose plain comparison is the version order: for all texts `a` and `b`,
/// `key_lenient(a).cmp(&key_lenient(b)) == compare_lenient(a, b)`.
///
/// Layout: epoch as a number, `pkgver`, 0 for no `pkgrel` or 1 and the `pkgrel`. Both are segments: 1, letters, 0; or
/// 3 and a number (its count of digits and these digits); before them, where there are separators, 4 and how many;
/// 2 at the end.
pub fn key_lenient(text: &str) -> Vec<u8> {
    Parts::lenient(text).key()
}

scheme! {
    /// A well-formed pacman version: what makepkg accepts as epoch, `pkgver` and `pkgrel`.
    ///
    /// Ordered and equal as pacman has it: `1.0-1` equals `0:1_00-1`. The text is kept as written; in JSON it is that
    /// text.
}

#[cfg(test)]
mod tests;
