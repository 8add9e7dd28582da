//! One table of the document: its keys read one by one, each with its own complaint.

use super::super::{Selector, Share, window};
use super::{Errors, duration, nearest, read};
use crate::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys of a section, each with an example of how it is written.
pub(super) type Keys = &'static [(&'static str, &'static str)];

/// A table of the document.
pub(super) struct Section<'t, 'i> {
    /// As the document writes it: `[[ring]]`.
    pub(super) title: &'static str,
    /// Where it begins.
    pub(super) at: usize,
    table: &'t DeTable<'i>,
    keys: Keys,
}

impl<'t, 'i> Section<'t, 'i> {
    /// Opens a table; keys that it does not have are complained about.
    pub(super) fn open(
        e: &mut Errors<'_>,
        title: &'static str,
        keys: Keys,
        table: &'t Spanned<DeValue<'i>>,
    ) -> Option<Self> {
        let DeValue::Table(inner) = table.get_ref() else {
            e.at(
                table.span().start,
                format!("{title} must be a table"),
                format!("write `{title}` on a line of its own"),
            );
            return None;
        };
        let section = Self { title, at: table.span().start, table: inner, keys };
        for key in inner.keys() {
            let name = key.get_ref().as_ref();
            if !keys.iter().any(|(k, _)| *k == name) {
                let names: Vec<&str> = keys.iter().map(|(k, _)| *k).collect();
                let shown: String = name.chars().take(60).collect();
                e.at(
                    key.span().start,
                    format!("{title} has no key `{shown}`"),
                    read::where_belongs(name, &names),
                );
            }
        }
        Some(section)
    }

    fn get(&self, key: &str) -> Option<(&'t DeValue<'i>, Range<usize>)> {
        self.table.get(key).map(|v| (v.get_ref(), v.span()))
    }

    /// Is the key there, well written or not?
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of a key begins; the section, where it is not there.
    pub(super) fn place(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |(_, span)| span.start)
    }

    /// Where a key is written; the section, where it is not there.
    pub(super) fn key_place(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.at, |(k, _)| k.span().start)
    }

    fn example(&self, key: &str) -> String {
        let example = self.keys.iter().find(|(k, _)| *k == key).map_or("", |(_, example)| example);
        format!("`{key} = {example}`")
    }

    /// Complains where the key is missing.
    pub(super) fn needs(&self, e: &mut Errors<'_>, keys: &[&str]) {
        for key in keys.iter().filter(|k| !self.has(k)) {
            e.at(
                self.at,
                format!("{} has no `{key}`", self.title),
                format!("add {}", self.example(key)),
            );
        }
    }

    fn wrong(&self, e: &mut Errors<'_>, key: &str, at: usize, found: &DeValue<'_>, wanted: &str) {
        let kind = match found.type_str() {
            kind @ ("integer" | "array") => format!("an {kind}"),
            kind => format!("a {kind}"),
        };
        e.at(
            at,
            format!("`{key}` must be {wanted}, not {kind}"),
            format!("write {}", self.example(key)),
        );
    }

    /// A text and where its literal stands.
    pub(super) fn text_at(&self, e: &mut Errors<'_>, key: &str) -> Option<(&'t str, Range<usize>)> {
        let (value, span) = self.get(key)?;
        match value {
            DeValue::String(text) => Some((text.as_ref(), span)),
            other => {
                self.wrong(e, key, span.start, other, "a text in quotes");
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, e: &mut Errors<'_>, key: &str) -> Option<String> {
        let (text, span) = self.text_at(e, key)?;
        if text.trim().is_empty() {
            e.at(span.start, format!("`{key}` is empty"), format!("write {}", self.example(key)));
            return None;
        }
        if let Some(odd) = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t') {
            e.at(
                span.start,
                format!("`{key}` holds the control character {odd:?}"),
                "take it away",
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// A name: small letters, digits and hyphens, at most 63.
    pub(super) fn name(&self, e: &mut Errors<'_>, key: &str) -> Option<String> {
        let (text, span) = self.text_at(e, key)?;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > 63 || !text.chars().all(allowed) {
            let message = format!("`{key}` must be 1 to 63 small letters, digits and hyphens");
            e.at(span.start, message, format!("write one such as {}", self.example(key)));
            return None;
        }
        Some(text.to_owned())
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &self,
        e: &mut Errors<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let (text, span) = self.text_at(e, key)?;
        let found = words.iter().find(|(w, _)| *w == text);
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(w, _)| format!("\"{w}\"")).collect();
            let shown: String = text.chars().take(60).collect();
            e.at(
                span.start,
                format!("`{key}` cannot be \"{shown}\""),
                format!("write one of {}", all.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, e: &mut Errors<'_>, key: &str) -> Option<bool> {
        let (value, span) = self.get(key)?;
        let found = value.as_bool();
        if found.is_none() {
            self.wrong(e, key, span.start, value, "true or false");
        }
        found
    }

    /// A whole number in a range.
    pub(super) fn integer(
        &self,
        e: &mut Errors<'_>,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let (value, span) = self.get(key)?;
        let Some(number) = value.as_integer() else {
            self.wrong(e, key, span.start, value, "a whole number");
            return None;
        };
        let found =
            i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        if found.is_none() {
            let message = format!("`{key}` must be from {} to {}", range.start(), range.end());
            e.at(span.start, message, format!("write one such as {}", self.example(key)));
        }
        found
    }

    /// The same, where the range is not negative and fits.
    pub(super) fn count(
        &self,
        e: &mut Errors<'_>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let found = self.integer(e, key, i64::from(*range.start())..=i64::from(*range.end()))?;
        u32::try_from(found).ok()
    }

    /// A number in a range.
    pub(super) fn number(
        &self,
        e: &mut Errors<'_>,
        key: &str,
        range: RangeInclusive<f32>,
    ) -> Option<f32> {
        let (value, span) = self.get(key)?;
        let found = match value {
            DeValue::Float(f) => f.as_str().parse::<f32>().ok(),
            DeValue::Integer(i) => {
                i64::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f32)
            }
            other => {
                self.wrong(e, key, span.start, other, "a number");
                return None;
            }
        };
        let found = found.filter(|n| range.contains(n));
        if found.is_none() {
            let message =
                format!("`{key}` must be from {:.1} to {:.1}", range.start(), range.end());
            e.at(span.start, message, format!("write one such as {}", self.example(key)));
        }
        found
    }

    /// A number that is one, of either sign.
    pub(super) fn real(&self, e: &mut Errors<'_>, key: &str) -> Option<f64> {
        let (value, span) = self.get(key)?;
        let found = match value {
            DeValue::Float(f) => f.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(i) => {
                i64::from_str_radix(i.as_str(), i.radix()).ok().map(|n| n as f64)
            }
            other => {
                self.wrong(e, key, span.start, other, "a number");
                return None;
            }
        };
        let found = found.filter(|n| n.is_finite());
        if found.is_none() {
            let message = format!("`{key}` must be a number");
            e.at(span.start, message, format!("write one such as {}", self.example(key)));
        }
        found
    }

    /// One text or a list of them, each with its place.
    pub(super) fn text_or_texts(
        &self,
        e: &mut Errors<'_>,
        key: &str,
    ) -> Option<Vec<(&'t str, usize)>> {
        let (value, _) = self.get(key)?;
        if value.is_array() {
            return self.texts(e, key);
        }
        self.text_at(e, key).map(|(text, span)| vec![(text, span.start)])
    }

    /// A duration, in seconds, in a range.
    pub(super) fn duration(
        &self,
        e: &mut Errors<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let (value, span) = self.get(key)?;
        if let Some(number) = value.as_integer() {
            let n = number.as_str();
            e.at(
                span.start,
                format!("`{key}` has a number without a unit"),
                format!("write `{key} = \"{n}s\"` or `{key} = \"{n}m\"`"),
            );
            return None;
        }
        let (text, span) = self.text_at(e, key)?;
        match duration::seconds(text) {
            Ok(seconds) if seconds < *range.start() && *range.start() == 1 => {
                e.at(
                    span.start,
                    format!("`{key}` must be longer than nothing"),
                    format!("write {}", self.example(key)),
                );
                None
            }
            Ok(seconds) if !range.contains(&seconds) => {
                let (low, high) = (duration::text(*range.start()), duration::text(*range.end()));
                let message = format!("`{key}` must be from {low} to {high}");
                e.at(span.start, message, format!("write one such as {}", self.example(key)));
                None
            }
            Ok(seconds) => Some(seconds),
            Err((message, hint)) => {
                let shown: String = message.chars().take(120).collect();
                e.at(span.start, shown, hint.chars().take(200).collect::<String>());
                None
            }
        }
    }

    /// A selector; what is wrong in it is shown at its own place.
    pub(super) fn selector(&self, e: &mut Errors<'_>, key: &str) -> Option<Selector> {
        let (text, span) = self.text_at(e, key)?;
        Selector::parse(text)
            .map_err(|error| match e.inside(&span, text) {
                Some(inside) => e.at(inside + error.offset, error.message, error.hint),
                None => e.at(
                    span.start,
                    format!("character {}: {}", error.position, error.message),
                    error.hint,
                ),
            })
            .ok()
    }

    /// Is there a selector that parses?
    pub(super) fn is_selector(&self, key: &str) -> bool {
        self.get(key)
            .and_then(|(v, _)| v.as_str())
            .is_some_and(|text| Selector::parse(text).is_ok())
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(&self, e: &mut Errors<'_>, key: &str) -> Option<Vec<(&'t str, usize)>> {
        let (value, span) = self.get(key)?;
        let Some(items) = value.as_array() else {
            self.wrong(e, key, span.start, value, "a list of texts");
            return None;
        };
        let mut out = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => out.push((text, item.span().start)),
                None => self.wrong(e, key, item.span().start, item.get_ref(), "a list of texts"),
            }
        }
        Some(out)
    }

    /// A list of shares in percent, 1 to 100, each with its place.
    pub(super) fn percents(&self, e: &mut Errors<'_>, key: &str) -> Option<Vec<(u32, usize)>> {
        let (value, span) = self.get(key)?;
        let Some(items) = value.as_array() else {
            self.wrong(e, key, span.start, value, "a list of shares in percent");
            return None;
        };
        let mut out = Vec::new();
        for item in items {
            let number = item
                .get_ref()
                .as_integer()
                .and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
            match number.filter(|n| (1..=100).contains(n)) {
                Some(share) => out.push((share, item.span().start)),
                None => {
                    let message = format!("`{key}` holds whole numbers from 1 to 100");
                    e.at(item.span().start, message, format!("write {}", self.example(key)));
                    return None;
                }
            }
        }
        Some(out)
    }

    /// So many hosts (`2`), or a share of them (`"25%"`).
    pub(super) fn share(&self, e: &mut Errors<'_>, key: &str) -> Option<Share> {
        let (value, span) = self.get(key)?;
        if value.as_integer().is_some() {
            return self.count(e, key, 1..=1_000_000).map(Share::Hosts);
        }
        let percent = value
            .as_str()
            .and_then(|text| text.strip_suffix('%')?.trim_end().parse::<u32>().ok())
            .filter(|n| (1..=100).contains(n));
        if percent.is_none() {
            let message = format!("`{key}` must be a number of hosts, or a share of them");
            e.at(span.start, message, format!("write `{key} = 2` or {}", self.example(key)));
        }
        percent.map(Share::Percent)
    }

    /// A day.
    pub(super) fn date(&self, e: &mut Errors<'_>, key: &str) -> Option<Date> {
        let (value, span) = self.get(key)?;
        let found = match value {
            DeValue::Datetime(d) if d.time.is_none() => d.to_string().parse().ok(),
            DeValue::String(text) => text.parse().ok(),
            _ => None,
        };
        if found.is_none() {
            e.at(
                span.start,
                format!("`{key}` must be a day of the calendar"),
                format!("write {}", self.example(key)),
            );
        }
        found
    }

    /// A day (its first instant, UTC) or an instant with its offset from UTC.
    pub(super) fn instant(&self, e: &mut Errors<'_>, key: &str) -> Option<Timestamp> {
        let (value, span) = self.get(key)?;
        let text = match value {
            DeValue::Datetime(d) => d.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let day = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
        // A time without an offset would also parse as a day: refuse it, nobody knows where it is meant.
        let found = if text.len() <= 10 { day() } else { text.parse::<Timestamp>().ok() };
        if found.is_none() {
            let hint = format!(
                "write {} or, with its offset, `{key} = 2027-01-31T06:00:00Z`",
                self.example(key)
            );
            e.at(span.start, format!("`{key}` must be a day or an instant"), hint);
        }
        found
    }

    /// A time of day, in minutes after midnight.
    pub(super) fn time_of_day(&self, e: &mut Errors<'_>, key: &str) -> Option<u32> {
        let (value, span) = self.get(key)?;
        let text = match value {
            DeValue::Datetime(d) if d.date.is_none() && d.offset.is_none() => d.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let short = text.strip_suffix(":00").filter(|t| t.contains(':')).unwrap_or(&text);
        let two = |part: &str, below: u32| {
            let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok().filter(|n| *n < below)).flatten()
        };
        let found = short
            .split_once(':')
            .and_then(|(h, m)| Some(two(h, 24)? * 60 + two(m, 60).filter(|_| m.len() == 2)?));
        if found.is_none() {
            let message = format!("`{key}` must be a time of day from 00:00 to 23:59");
            e.at(span.start, message, format!("write {}", self.example(key)));
        }
        found
    }

    /// An IANA time zone.
    pub(super) fn time_zone(&self, e: &mut Errors<'_>, key: &str) -> Option<String> {
        let (text, span) = self.text_at(e, key)?;
        if let Some(zone) = window::zone(text) {
            return Some(zone.iana_name().unwrap_or(text).to_owned());
        }
        let known = window::zone_names();
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let city = |name: &&&str| {
            name.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(text))
        };
        let hint = match names.iter().find(city).copied().or_else(|| nearest(text, &names)) {
            Some(name) => format!("did you mean `{key} = \"{name}\"`?"),
            None => format!("write an IANA name such as {}", self.example(key)),
        };
        let shown: String = text.chars().take(60).collect();
        e.at(span.start, format!("time zone `{shown}` is not known"), hint);
        None
    }
}
