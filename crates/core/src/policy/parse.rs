//! A policy's text: TOML, with errors that say where, what, and what to write instead.

use super::Policy;
pub(crate) use gate::check_address;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use toml::de::DeTable;

mod checks;
mod cycle;
mod duration;
mod exceptions;
mod gate;
mod read;
mod restart;
mod section;
mod spelling;
mod strategy;

pub(super) use duration::text as duration_text;
pub(super) use spelling::nearest;

/// Longest policy text, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// One thing wrong in a policy's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}
impl std::error::Error for PolicyError {}

/// What was found wrong so far.
struct Errors<'a> {
    text: &'a str,
    found: Vec<(usize, PolicyError)>,
}

impl Errors<'_> {
    /// Notes an error at a byte of the text.
    fn at(&mut self, offset: usize, message: impl Into<String>, hint: impl Into<String>) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let error = PolicyError {
            line: before.bytes().filter(|b| *b == b'\n').count() as u32 + 1,
            column: before[line_start..].chars().count() as u32 + 1,
            message: message.into(),
            hint: hint.into(),
        };
        self.found.push((offset, error));
    }

    /// The quotes' inside, where the literal at `span` is written as the text it means: then a place in the text
    /// is a place in the document.
    fn inside(&self, span: &Range<usize>, meant: &str) -> Option<usize> {
        let literal = self.text.get(span.clone())?;
        let quotes = literal.len().checked_sub(meant.len())? / 2;
        (literal.get(quotes..quotes + meant.len()) == Some(meant)).then_some(span.start + quotes)
    }

    fn into_sorted(mut self) -> Vec<PolicyError> {
        self.found.sort_by(|(a, x), (b, y)| (a, &x.message).cmp(&(b, &y.message)));
        self.found.dedup();
        self.found.into_iter().map(|(_, e)| e).collect()
    }
}

impl Policy {
    /// Parses and checks a policy's text. The policies in `examples/policies` show what may stand in it.
    ///
    /// # Errors
    /// Every error of the text, in its order. Where the text is no TOML (v1.1), these are the places where it is
    /// not; what it means is checked once it is.
    pub fn parse(text: &str) -> Result<Self, Vec<PolicyError>> {
        let mut errors = Errors { text, found: Vec::new() };
        if text.len() > MAX_POLICY_BYTES {
            let message =
                format!("the policy has {} bytes, at most {MAX_POLICY_BYTES} are read", text.len());
            errors.at(0, message, "split it into several policies with a `select` each");
            return Err(errors.into_sorted());
        }
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            let at = error.span().map_or(text.len(), |s| s.start);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            errors.at(
                at,
                format!("this is not TOML: {message}"),
                syntax_hint(text, at, error.message()),
            );
        }
        if !syntax.is_empty() {
            return Err(errors.into_sorted());
        }
        let policy = read::policy(&mut errors, root.get_ref());
        if errors.found.is_empty() { Ok(policy) } else { Err(errors.into_sorted()) }
    }
}

fn syntax_hint(text: &str, at: usize, message: &str) -> &'static str {
    if message.contains("duplicate") {
        return "take one of them away";
    }
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    if line.trim_start().starts_with('[') {
        "sections are written `[gate]` or, where there may be several, `[[ring]]`"
    } else if line.contains('=') {
        "texts, times and durations stand in quotes: `soak = \"30m\"`"
    } else {
        "write `key = value`, a section header, or a comment after `#`"
    }
}

#[cfg(test)]
mod tests;
