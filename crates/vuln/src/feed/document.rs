//! What the parsers share: bounds, positions, and walking JSON record by record without building a tree.

use super::{Feed, FeedError, MAX_ERRORS_KEPT, MAX_FEED_BYTES, Parsed, RecordError, clean_text};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A document while it is read.
pub(super) struct Document<'a, T> {
    feed: Feed,
    bytes: &'a [u8],
    parsed: Parsed<T>,
    /// Where lines were last counted to, and the line there.
    counted: (usize, usize),
}

impl<'a, T> Document<'a, T> {
    /// Checks the bounds.
    pub(super) fn open(feed: Feed, bytes: &'a [u8]) -> Result<Self, FeedError> {
        if bytes.len() > MAX_FEED_BYTES {
            return Err(FeedError::TooLarge { feed, bytes: bytes.len() });
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(FeedError::Empty { feed });
        }
        let parsed = Parsed { records: Vec::new(), errors: Vec::new(), errors_not_kept: 0 };
        Ok(Self { feed, bytes, parsed, counted: (0, 1) })
    }

    /// A usable record.
    pub(super) fn keep(&mut self, record: T) {
        self.parsed.records.push(record);
    }

    /// A record that is left out. `at` is a slice of the document where it stands.
    pub(super) fn reject(
        &mut self,
        at: &str,
        place: impl FnOnce() -> String,
        what: impl fmt::Display,
    ) {
        if self.parsed.errors.len() >= MAX_ERRORS_KEPT {
            self.parsed.errors_not_kept += 1;
            return;
        }
        let line = self.line_of(at);
        let (place, what) = (clean_text(&place()), clean_text(&what.to_string()));
        self.parsed.errors.push(RecordError { place, line, what });
    }

    /// The line of a slice of the document, from 1. Cheap when asked in the document's order.
    fn line_of(&mut self, at: &str) -> usize {
        let offset = (at.as_ptr() as usize)
            .saturating_sub(self.bytes.as_ptr() as usize)
            .min(self.bytes.len());
        if offset < self.counted.0 {
            self.counted = (0, 1);
        }
        let (from, line) = self.counted;
        self.counted =
            (offset, line + self.bytes[from..offset].iter().filter(|&&b| b == b'\n').count());
        self.counted.1
    }

    /// Line and column of a byte of the document.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.bytes[..offset.min(self.bytes.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
        (before.iter().filter(|&&b| b == b'\n').count() + 1, before.len() - line_start + 1)
    }

    /// The whole document as text.
    pub(super) fn text(&self) -> Result<&'a str, FeedError> {
        std::str::from_utf8(self.bytes).map_err(|e| {
            let (line, column) = self.position(e.valid_up_to());
            self.malformed(line, column, "a byte that is not UTF-8")
        })
    }

    pub(super) fn malformed(
        &self,
        line: usize,
        column: usize,
        what: impl fmt::Display,
    ) -> FeedError {
        let what = || clean_text(&what.to_string());
        let malformed = |what| FeedError::Malformed { feed: self.feed, line, column, what };
        self.of_another_format().unwrap_or_else(|| malformed(what()))
    }

    /// Where it cannot be used because it is another feed, or no feed at all: that, and not what follows from it.
    fn of_another_format(&self) -> Option<FeedError> {
        let head = &self.bytes[..self.bytes.len().min(4096)];
        let has = |what: &str| head.windows(what.len()).any(|w| w == what.as_bytes());
        let other = match () {
            () if has("\"catalogVersion\"") => {
                (Some(Feed::Kev), "CISA's list of what is exploited (kev)")
            }
            () if has("cve,epss,percentile") => (Some(Feed::Epss), "FIRST's EPSS scores (epss)"),
            () if has("\"bomFormat\"") || has("\"spdxVersion\"") => (None, "a bill of materials"),
            () if head.starts_with(b"Package: ") => (None, "dpkg's status file"),
            () => return None,
        };
        let what = format!("not this format: it looks like {}", other.1);
        let malformed = FeedError::Malformed { feed: self.feed, line: 1, column: 1, what };
        (other.0 != Some(self.feed)).then_some(malformed)
    }

    /// The document ends too early.
    pub(super) fn truncated(&self, what: impl fmt::Display) -> FeedError {
        let (line, column) = self.position(self.bytes.len());
        let what = || clean_text(&what.to_string());
        let truncated = |what| FeedError::Truncated { feed: self.feed, line, column, what };
        self.of_another_format().unwrap_or_else(|| truncated(what()))
    }

    /// A JSON error of the document as a whole.
    pub(super) fn json_error(&self, error: &serde_json::Error) -> FeedError {
        let message = error.to_string();
        let what = message.split(" at line ").next().unwrap_or(&message);
        // A number that is cut off is none, to whoever does not know that it is cut.
        let (last, column) = self.position(self.bytes.len());
        let at_end = error.line() == last && error.column() + 1 >= column;
        if error.is_eof() || (at_end && what == "invalid number") {
            return self.truncated(what);
        }
        self.malformed(error.line(), error.column(), what)
    }

    /// Lines of a text whose every line ends in a newline; a last line without one is a cut.
    pub(super) fn lines(&self) -> Result<impl Iterator<Item = &'a str> + use<'a, T>, FeedError> {
        let text = self.text()?;
        if !text.ends_with('\n') {
            return Err(self.truncated("the last line has no end"));
        }
        Ok(text.lines())
    }

    /// The result; an error where nothing was usable.
    pub(super) fn close(self) -> Result<Parsed<T>, FeedError> {
        if self.parsed.records.is_empty() {
            if let Some(error) = self.of_another_format() {
                return Err(error);
            }
            let first = self.parsed.errors.first();
            return Err(FeedError::NothingUsable {
                feed: self.feed,
                rejected: self.parsed.rejected(),
                first: first.map_or(String::new(), |e| format!(", the first at {e}")),
            });
        }
        Ok(self.parsed)
    }
}

/// Calls `each` for every entry of a JSON object, in its order, doubled keys included. The value is handed on
/// unparsed (its syntax is checked), as a slice of `json`.
pub(super) fn each_entry<'a>(
    json: &'a [u8],
    each: impl FnMut(String, &'a str),
) -> Result<(), serde_json::Error> {
    struct Walk<F>(F);
    impl<'a, F: FnMut(String, &'a str)> Visitor<'a> for Walk<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<String, &'a RawValue>()? {
                (self.0)(key, value.get());
            }
            Ok(())
        }
    }
    let mut json = serde_json::Deserializer::from_slice(json);
    json.deserialize_map(Walk(each))?;
    json.end()
}

/// A JSON error of one record, without its position inside the record.
pub(super) fn record_error(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}
