//! Numbers in versions: runs of ASCII digits of any length.

use std::cmp::Ordering;

/// Digits without leading zeros, compared as the number they write. Empty is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number<'a>(&'a [u8]);

impl<'a> Number<'a> {
    /// Of digits, leading zeros or not.
    pub(super) fn of(digits: &'a [u8]) -> Self {
        Self(run(digits, |b| b == b'0').1)
    }

    /// Appends bytes whose comparison is that of the numbers: how many digits (one byte; 255 announces eight bytes,
    /// big-endian), and these digits.
    pub(super) fn push(self, key: &mut Vec<u8>) {
        push_count(key, self.0.len());
        key.extend(self.0);
    }

    /// Its value; `None` where it does not fit.
    pub(super) fn value(self) -> Option<u32> {
        self.0.iter().try_fold(0u32, |n, &b| n.checked_mul(10)?.checked_add(u32::from(b - b'0')))
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(other.0))
    }
}
impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Appends a count so that bytes compare as counts do: one byte; 255 announces eight, big-endian.
pub(super) fn push_count(key: &mut Vec<u8>, count: usize) {
    match u8::try_from(count) {
        Ok(short) if short < u8::MAX => key.push(short),
        _ => {
            key.push(u8::MAX);
            key.extend((count as u64).to_be_bytes());
        }
    }
}

/// Splits off the leading run of bytes for which `is` holds.
pub(super) fn run(text: &[u8], is: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&b| !is(b)).unwrap_or(text.len()))
}

/// Splits off the leading run of digits.
pub(super) fn number(text: &[u8]) -> (Number<'_>, &[u8]) {
    let (digits, rest) = run(text, |b| b.is_ascii_digit());
    (Number::of(digits), rest)
}

/// Is this one digit or more, and nothing else?
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
