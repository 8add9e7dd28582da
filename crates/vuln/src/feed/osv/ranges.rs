//! The events of a range, as the stretches of versions that they come to (<https://ossf.github.io/osv-schema/#evaluation>).

use super::{Event, Range};
use crate::feed::MAX_VERSION;
use fettle_core::advisory::VersionRange;
use fettle_core::version::Scheme;
use std::cmp::Ordering;

/// More ranges and single versions are not kept of one package. A package of which every version was malicious has a few
/// hundred.
pub(super) const MAX_RANGES: usize = 2_000;

/// From where on, up to where without it, up to where with it.
enum Bound<'a> {
    Introduced(&'a str),
    Fixed(&'a str),
    Last(&'a str),
}

impl<'a> Bound<'a> {
    fn of(scheme: Scheme, event: &'a Event<'_>) -> Result<Self, String> {
        let (bound, version) = match event {
            Event { introduced: Some(v), fixed: None, last_affected: None } => {
                (Self::Introduced(v), v)
            }
            Event { introduced: None, fixed: Some(v), last_affected: None } => (Self::Fixed(v), v),
            Event { introduced: None, fixed: None, last_affected: Some(v) } => (Self::Last(v), v),
            _ => {
                return Err(
                    "an event that is not one of `introduced`, `fixed`, `last_affected`".to_owned()
                );
            }
        };
        let name = bound.name();
        if version.len() > MAX_VERSION {
            return Err(format!("`{name}` has {} bytes, more than {MAX_VERSION}", version.len()));
        }
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("`{name}` is no version"));
        }
        // Two numbers, or four, are met where three should be: their order is clear all the same.
        let short = scheme == Scheme::Semver && version.starts_with(|c: char| c.is_ascii_digit());
        if version != "0" && !short {
            scheme.check(version).map_err(|e| format!("`{name}`: {e}"))?;
        }
        Ok(bound)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Introduced(_) => "introduced",
            Self::Fixed(_) => "fixed",
            Self::Last(_) => "last_affected",
        }
    }

    fn version(&self) -> &'a str {
        match self {
            Self::Introduced(version) | Self::Fixed(version) | Self::Last(version) => version,
        }
    }
}

/// 0 is before every version.
fn compare(scheme: Scheme, a: &str, b: &str) -> Ordering {
    match (a, b) {
        ("0", "0") => Ordering::Equal,
        ("0", _) => Ordering::Less,
        (_, "0") => Ordering::Greater,
        _ => scheme.compare_lenient(a, b),
    }
}

pub(super) fn holds(scheme: Scheme, range: &VersionRange, version: &str) -> bool {
    let VersionRange { introduced, fixed, last } = range;
    (introduced == "0" || scheme.compare_lenient(introduced, version).is_le())
        && fixed.as_ref().is_none_or(|fixed| scheme.compare_lenient(version, fixed).is_lt())
        && last.as_ref().is_none_or(|last| scheme.compare_lenient(version, last).is_le())
}

/// The stretches that the events of a range come to, whatever their order in the record.
pub(super) fn intervals(scheme: Scheme, range: &Range<'_>) -> Result<Vec<VersionRange>, String> {
    if range.events.len() > MAX_RANGES {
        return Err(format!("a range of more than {MAX_RANGES} events"));
    }
    let mut bounds = Vec::with_capacity(range.events.len());
    for event in &range.events {
        bounds.push(Bound::of(scheme, event)?);
    }
    bounds.sort_by(|a, b| {
        let at = compare(scheme, a.version(), b.version());
        // What begins and ends with the first version holds none, in whichever order it is written.
        let is_end = |bound: &Bound<'_>| !matches!(bound, Bound::Introduced(_));
        at.then_with(|| match a.version() {
            "0" => is_end(a).cmp(&is_end(b)),
            _ => Ordering::Equal,
        })
    });
    let (mut from, mut found): (Option<&str>, Vec<VersionRange>) = (None, Vec::new());
    for bound in &bounds {
        match (bound, from) {
            (Bound::Introduced(version), None) => from = Some(version),
            (Bound::Fixed(version), Some(start)) => {
                let (introduced, fixed) = (start.to_owned(), Some((*version).to_owned()));
                found.push(VersionRange { introduced, fixed, last: None });
                from = None;
            }
            (Bound::Last(version), Some(start)) => {
                let (introduced, last) = (start.to_owned(), Some((*version).to_owned()));
                found.push(VersionRange { introduced, fixed: None, last });
                from = None;
            }
            _ => {}
        }
    }
    if let Some(start) = from {
        found.push(VersionRange { introduced: start.to_owned(), fixed: None, last: None });
    }
    if found.is_empty() {
        return Err("a range without `introduced`".to_owned());
    }
    Ok(found)
}
