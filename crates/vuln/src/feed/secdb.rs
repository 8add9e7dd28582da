//! Alpine's security database, as published for each repository of each release (`v3.19/main.json`): source package →
//! version → the vulnerabilities that it was the first without. A file holds one document or several, one after the other.
//!
//! * Version `0` says that the package never was affected.
//! * It names fixes only: what is open it does not say.

use super::document::{Document, each_entry, record_error};
use super::{Feed, FeedError, MAX_VERSION, Parsed, check_package, check_vulnerability};
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::apk;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What [`Advisory::evidence`] says of statements read here.
pub const EVIDENCE: &str = "Alpine secdb";
/// More documents are not read from one file.
const MAX_DOCUMENTS: usize = 1000;

#[derive(Deserialize)]
struct Repository<'a> {
    #[serde(borrow)]
    distroversion: Cow<'a, str>,
    #[serde(borrow)]
    packages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    pkg: Package<'a>,
}

#[derive(Deserialize)]
struct Package<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    secfixes: &'a RawValue,
}

/// Parses the documents. A record is one vulnerability of one package.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no JSON, is cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<Advisory>, FeedError> {
    let mut document = Document::open(Feed::AlpineSecdb, bytes)?;
    document.text()?;
    let mut repositories = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    for number in 1.. {
        let raw = match repositories.next() {
            None => break,
            Some(Err(e)) => return Err(document.json_error(&e)),
            Some(Ok(raw)) => raw.get(),
        };
        if number > MAX_DOCUMENTS {
            let what =
                format!("more than {MAX_DOCUMENTS} documents: this and what follows is not read");
            document.reject(raw, || format!("document {number}"), what);
            break;
        }
        let read = serde_json::from_str::<Repository<'_>>(raw).map_err(|e| record_error(&e));
        match read.and_then(|r| Ok((release(&r.distroversion)?, r.packages))) {
            Err(what) => document.reject(raw, || format!("document {number}"), what),
            Ok((release, packages)) => {
                for package in packages {
                    read_package(&mut document, &release, package.get());
                }
            }
        }
    }
    document.close()
}

/// `v3.19` → `alpine:3.19`.
fn release(version: &str) -> Result<String, String> {
    let number = version.strip_prefix('v').unwrap_or(version);
    check_package("release", number)?;
    Ok(format!("alpine:{number}"))
}

fn read_package<'a>(document: &mut Document<'a, Advisory>, release: &str, raw: &'a str) {
    let package = match serde_json::from_str::<Entry<'a>>(raw) {
        Ok(entry) => entry.pkg,
        Err(e) => return document.reject(raw, || "package".to_owned(), record_error(&e)),
    };
    let name = package.name.to_string();
    if let Err(what) = check_package("package", &name) {
        return document.reject(raw, || name, what);
    }
    let fixes = package.secfixes.get();
    let read = each_entry(fixes.as_bytes(), |version, list| {
        let place = || format!("{name} {}", version.chars().take(60).collect::<String>());
        let status = match status(&version) {
            Ok(status) => status,
            Err(what) => return document.reject(list, place, what),
        };
        let ids = match serde_json::from_str::<Vec<Cow<'_, str>>>(list) {
            Ok(ids) => ids,
            Err(e) => return document.reject(list, place, record_error(&e)),
        };
        // `CVE-2017-2616 (+ regression fix)`, `CVE-2019-1 XSA-1`.
        for id in ids.iter().flat_map(|id| id.split_ascii_whitespace()) {
            let id = id.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let is_name = id.starts_with(|c: char| c.is_ascii_uppercase())
                && id.contains('-')
                && id.ends_with(|c: char| c.is_ascii_alphanumeric());
            if !is_name || check_vulnerability(id).is_err() {
                continue;
            }
            document.keep(Advisory {
                id: id.to_owned(),
                source: name.clone(),
                release: release.to_owned(),
                status: status.clone(),
                urgency: String::new(),
                evidence: EVIDENCE.to_owned(),
            });
        }
    });
    if let Err(e) = read {
        document.reject(fixes, || name.clone(), record_error(&e));
    }
}

fn status(version: &str) -> Result<AdvisoryStatus, String> {
    if version == "0" {
        return Ok(AdvisoryStatus::NotAffected);
    }
    if version.len() > MAX_VERSION {
        return Err(format!("the version has {} bytes, more than {MAX_VERSION}", version.len()));
    }
    apk::Version::parse(version).map_err(|e| e.to_string())?;
    Ok(AdvisoryStatus::Fixed { version: version.to_owned() })
}
