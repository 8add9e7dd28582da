//! The Debian security tracker's JSON: `{source: {CVE: {releases: {codename: {status, fixed_version, urgency,
//! nodsa, nodsa_reason, ...}}}}}`. Published by Debian at <https://security-tracker.debian.org/tracker/data/json>.
//!
//! | tracker | here |
//! |---|---|
//! | `resolved`, `fixed_version` `0` (`<not-affected>`) | [`AdvisoryStatus::NotAffected`] |
//! | `resolved`, `fixed_version` V | [`AdvisoryStatus::Fixed`] |
//! | `open` | [`AdvisoryStatus::Open`], with `<end-of-life>`, `<no-dsa>`, `<ignored>` or `<postponed>` as reason |
//! | `undetermined` | [`AdvisoryStatus::Undetermined`] |

use super::document::{Document, each_entry, record_error};
use super::{Feed, FeedError, MAX_VERSION, Parsed, check_package, check_vulnerability, clean_text};
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::deb;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What [`Advisory::evidence`] says of statements read here.
pub const EVIDENCE: &str = "Debian security tracker";

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    releases: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Release<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    fixed_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    urgency: Option<Cow<'a, str>>,
    #[serde(borrow)]
    nodsa: Option<Cow<'a, str>>,
    #[serde(borrow)]
    nodsa_reason: Option<Cow<'a, str>>,
}

/// Parses the tracker's JSON. One record is one release of one CVE of one source package.
///
/// # Errors
/// [`FeedError`] where the document as a whole is no such JSON, is cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<Advisory>, FeedError> {
    let mut document = Document::open(Feed::DebianTracker, bytes)?;
    let mut sources = BTreeSet::new();
    each_entry(bytes, |source, packages| {
        if let Err(what) = check_package("source package", &source) {
            document.reject(packages, || shown(&source), what);
        } else if sources.contains(&source) {
            document.reject(
                packages,
                || source.clone(),
                "the source package is named twice: the first entry counts",
            );
        } else {
            read_source(&mut document, &source, packages);
            sources.insert(source);
        }
    })
    .map_err(|e| document_error(bytes, &e))?;
    document.close()
}

fn document_error(bytes: &[u8], error: &serde_json::Error) -> FeedError {
    match Document::<Advisory>::open(Feed::DebianTracker, bytes) {
        Ok(document) => document.json_error(error),
        Err(error) => error,
    }
}

/// A name that may be anything, for an error.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

fn read_source<'a>(document: &mut Document<'a, Advisory>, source: &str, json: &'a str) {
    let mut seen = BTreeSet::new();
    let read = each_entry(json.as_bytes(), |id, record| {
        let place = || format!("{source} {}", shown(&id));
        if let Err(what) = check_vulnerability(&id) {
            return document.reject(record, place, what);
        }
        if seen.contains(&id) {
            return document.reject(
                record,
                place,
                "the vulnerability is named twice: the first entry counts",
            );
        }
        match serde_json::from_str::<Record<'a>>(record) {
            Err(e) => document.reject(record, place, record_error(&e)),
            Ok(Record { releases: None }) => {
                document.reject(record, place, "`releases` is missing or null")
            }
            Ok(Record { releases: Some(releases) }) => {
                read_releases(document, source, &id, releases.get())
            }
        }
        seen.insert(id);
    });
    if let Err(e) = read {
        document.reject(json, || source.to_owned(), record_error(&e));
    }
}

fn read_releases<'a>(document: &mut Document<'a, Advisory>, source: &str, id: &str, json: &'a str) {
    let mut seen = BTreeSet::new();
    let read = each_entry(json.as_bytes(), |release, statement| {
        let place = || format!("{source} {id} {}", shown(&release));
        if let Err(what) = check_package("release", &release) {
            return document.reject(statement, place, what);
        }
        if seen.contains(&release) {
            return document.reject(
                statement,
                place,
                "the release is named twice: the first entry counts",
            );
        }
        let read = serde_json::from_str::<Release<'a>>(statement).map_err(|e| record_error(&e));
        match read.and_then(|r| Ok((status(&r)?, clean_text(&r.urgency.unwrap_or_default())))) {
            Err(what) => document.reject(statement, place, what),
            Ok((status, urgency)) => document.keep(Advisory {
                id: id.to_owned(),
                source: source.to_owned(),
                release: release.clone(),
                status,
                urgency,
                evidence: EVIDENCE.to_owned(),
            }),
        }
        seen.insert(release);
    });
    if let Err(e) = read {
        document.reject(
            json,
            || format!("{source} {id}"),
            format!("`releases`: {}", record_error(&e)),
        );
    }
}

fn status(release: &Release<'_>) -> Result<AdvisoryStatus, String> {
    match release.status.as_ref() {
        "resolved" => {
            let version =
                release.fixed_version.as_deref().ok_or("`resolved` without `fixed_version`")?;
            if version == "0" {
                return Ok(AdvisoryStatus::NotAffected);
            }
            if version.len() > MAX_VERSION {
                return Err(format!(
                    "`fixed_version` has {} bytes, more than {MAX_VERSION}",
                    version.len()
                ));
            }
            deb::Version::parse(version).map_err(|e| format!("`fixed_version`: {e}"))?;
            Ok(AdvisoryStatus::Fixed { version: version.to_owned() })
        }
        "open" => {
            let word = match release.nodsa_reason.as_deref() {
                Some("ignored") => "<ignored>",
                Some("postponed") => "<postponed>",
                Some(_) => "<no-dsa>",
                None if release.nodsa.is_some() => "<no-dsa>",
                None if release.urgency.as_deref() == Some("end-of-life") => "<end-of-life>",
                None => "",
            };
            let why = release.nodsa.as_deref().map(clean_text).unwrap_or_default();
            Ok(AdvisoryStatus::Open {
                reason: format!("{word} {why}").trim().to_owned(),
                elsewhere: None,
            })
        }
        "undetermined" => Ok(AdvisoryStatus::Undetermined),
        other => Err(format!(
            "unknown status {:?}: expected resolved, open or undetermined",
            shown(other)
        )),
    }
}
