//! What a policy leaves alone, keeps, or lives with: each for a reason, by somebody, until a day.

use super::super::*;
use super::Errors;
use super::section::{Keys, Section};
use crate::Timestamp;
use crate::assignment::MissingSymbol;

pub(super) const EXCLUDE: Keys = &[
    ("package", "\"postgresql-*\""),
    ("reason", "\"the driver is not certified for the new version\""),
    ("owner", "\"dba@example.org\""),
    ("until", "2027-01-31"),
];
pub(super) const PIN: Keys = &[
    ("package", "\"postgresql-15\""),
    ("version", "\"15.6-*\""),
    ("reason", "\"15.7 changes the planner: tested until then\""),
    ("owner", "\"dba@example.org\""),
    ("until", "2027-01-31"),
];
pub(super) const ACCEPT: Keys = &[
    ("finding", "\"CVE-2026-1234\""),
    ("source", "\"openssl\""),
    ("reason", "\"the parser is not reachable: uploads are off\""),
    ("owner", "\"web-team@example.org\""),
    ("until", "2027-01-31"),
    ("epss-below", "0.1"),
    ("even-if-exploited", "true"),
];
pub(super) const ACCEPT_MISSING: Keys = &[
    ("symbol", "\"GetMagickUTCTime\""),
    ("file", "\"*/coders/mat.so\""),
    ("reason", "\"the vendor's plug-in has always lacked it\""),
    ("owner", "\"media-team@example.org\""),
    ("until", "2027-01-31"),
];

/// A binary package's name, with globs.
fn package(e: &mut Errors<'_>, s: &Section<'_, '_>) -> String {
    let package = s.text(e, "package").unwrap_or_default();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.*?".contains(c);
    if let Some(odd) = package.chars().find(|c| !allowed(*c)) {
        let hint = "write a binary package's name; `*` and `?` are globs";
        e.at(s.place("package"), format!("{odd:?} is in no package's name"), hint);
    }
    package
}

pub(super) fn exclusion(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Exclusion {
    s.needs(e, &["package", "reason", "owner", "until"]);
    Exclusion {
        package: package(e, s),
        reason: s.text(e, "reason").unwrap_or_default(),
        owner: s.text(e, "owner").unwrap_or_default(),
        until: s.instant(e, "until").unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

pub(super) fn pin(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Pin {
    s.needs(e, &["package", "version", "reason", "owner", "until"]);
    let version = s.text(e, "version").unwrap_or_default();
    // deb-version(7), with globs.
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-~:*?".contains(c);
    if let Some(odd) = version.chars().find(|c| !allowed(*c)) {
        let hint = "write a version such as \"15.6-0+deb12u1\"; `*` and `?` are globs";
        e.at(s.place("version"), format!("{odd:?} is in no version"), hint);
    } else if !version.is_empty() && version.chars().all(|c| c == '*') {
        let hint = "write the versions that it may have, or take the section away";
        e.at(s.place("version"), "the pin allows every version", hint);
    }
    Pin {
        package: package(e, s),
        version,
        reason: s.text(e, "reason").unwrap_or_default(),
        owner: s.text(e, "owner").unwrap_or_default(),
        until: s.instant(e, "until").unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

pub(super) fn acceptance(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Acceptance {
    s.needs(e, &["finding", "reason", "owner", "until", "epss-below"]);
    let finding = s.text(e, "finding").unwrap_or_default();
    if finding.contains(|c: char| c.is_whitespace() || "*?,".contains(c)) {
        let hint = "write one [[accept]] for each vulnerability, by its whole name";
        e.at(s.place("finding"), "an acceptance is for one vulnerability", hint);
    }
    Acceptance {
        finding,
        source: s.text(e, "source"),
        reason: s.text(e, "reason").unwrap_or_default(),
        owner: s.text(e, "owner").unwrap_or_default(),
        until: s.instant(e, "until").unwrap_or(Timestamp::UNIX_EPOCH),
        epss_below: s.number(e, "epss-below", 0.0..=1.0).unwrap_or(0.0),
        even_if_exploited: s.flag(e, "even-if-exploited").unwrap_or(false),
    }
}

pub(super) fn missing(e: &mut Errors<'_>, s: &Section<'_, '_>) -> AcceptedMissing {
    s.needs(e, &["symbol", "file", "reason", "owner", "until"]);
    let what = MissingSymbol {
        symbol: s.text(e, "symbol").unwrap_or_default(),
        file: s.text(e, "file").unwrap_or_default(),
    };
    if what.symbol.chars().all(|c| "*?".contains(c)) && !what.symbol.is_empty() {
        let hint = "name the symbol that the rehearsal named";
        e.at(s.place("symbol"), "every symbol would be accepted", hint);
    }
    if !what.file.is_empty() && !what.file.starts_with(['/', '*']) {
        let hint = format!("write \"/usr/lib/…/{0}\" or \"*/{0}\"", what.file);
        e.at(s.place("file"), "`file` is matched against an absolute path", hint);
    }
    AcceptedMissing {
        what,
        reason: s.text(e, "reason").unwrap_or_default(),
        owner: s.text(e, "owner").unwrap_or_default(),
        until: s.instant(e, "until").unwrap_or(Timestamp::UNIX_EPOCH),
    }
}
