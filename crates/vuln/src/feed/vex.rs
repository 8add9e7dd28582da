//! One's own word on vulnerabilities: OpenVEX (<https://github.com/openvex/spec>, v0.2.0) and CSAF 2.0 in its profile VEX.
//! A file holds one document or several, one after the other.
//!
//! | product | means |
//! |---|---|
//! | `pkg:deb/debian/openssl`, `…?arch=source`, `…@3.0.11-1` | that source package, or that version of it |
//! | `pkg:deb/debian/libssl3?arch=amd64` | that installed package |
//! | `pkg:rpm/redhat/openssl-libs@3.0.7-25.el9?epoch=1&distro=rhel-9` | that package of that system |
//! | `openssl` | a package of that name on any host |
//! | `fettle:host/web-*` with `subcomponents` of the kinds above | these on hosts whose name fits; without: all packages |
//!
//! In CSAF a product is its package URL or, without one, the name of its `product_name` branch at the version of its
//! `product_version` branch.
//!
//! A statement holds until it expires: `expires` beside `timestamp` in OpenVEX (of a statement, or of all in the document),
//! a note titled `expires` in CSAF. Neither standard has a field for it.

use super::document::Document;
use super::purl::Purl;
use super::{Feed, FeedError, MAX_NAME, Parsed, check_package, check_vulnerability, clean_text};
use fettle_core::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod csaf;
mod openvex;

/// More documents are not read from one file.
const MAX_DOCUMENTS: usize = 10_000;
/// More products than this in one statement are refused.
const MAX_PRODUCTS: usize = 10_000;

/// How one document begins: `fettle:host/web-*`.
pub const HOST: &str = "fettle:host/";

/// One statement on one vulnerability.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VexStatement {
    /// The vulnerability: `CVE-2024-5535`.
    pub id: String,
    /// When it was made.
    pub issued: Timestamp,
    /// What it says.
    pub status: VexStatus,
    /// Why, in the standard's word: `vulnerable_code_not_in_execute_path`. Empty where none is given.
    pub justification: String,
    /// Why, or what to do, in the author's words.
    pub words: String,
    /// Who made it.
    pub author: String,
    /// Which document it stands in.
    pub document: String,
    /// Until when it holds; `None`: until another says otherwise.
    pub expires: Option<Timestamp>,
    /// What it is about. Never empty.
    pub products: Vec<Selector>,
}

/// What a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VexStatus {
    /// Not affected.
    NotAffected,
    /// Affected once, and the fix is in.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
    /// Affected.
    Affected,
}

impl VexStatus {
    /// The word, as OpenVEX writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAffected => "not_affected",
            Self::Fixed => "fixed",
            Self::UnderInvestigation => "under_investigation",
            Self::Affected => "affected",
        }
    }

    /// Does it rule the vulnerability out?
    pub fn rules_out(self) -> bool {
        matches!(self, Self::NotAffected | Self::Fixed)
    }
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selector {
    /// Only hosts whose name fits, `*` standing for anything; `None`: all.
    pub host: Option<String>,
    /// Only these packages; `None`: all.
    pub package: Option<PackageSelector>,
}

/// Which packages a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PackageSelector {
    /// By package URL.
    Purl(Purl),
    /// By name, at a version or at any.
    Name {
        /// Of the installed package or its source.
        name: String,
        /// Version, or empty.
        version: String,
    },
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    #[serde(borrow)]
    statements: Option<&'a RawValue>,
}

/// Parses the documents. A record is a statement; a document that cannot be read, or that breaks one of its standard's own
/// tests, is named and left out.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no JSON, is cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<VexStatement>, FeedError> {
    let mut document = Document::open(Feed::Vex, bytes)?;
    document.text()?;
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    for number in 1.. {
        let raw = match documents.next() {
            None => break,
            Some(Err(e)) => return Err(document.json_error(&e)),
            Some(Ok(raw)) => raw.get(),
        };
        let place = || format!("document {number}");
        if number > MAX_DOCUMENTS {
            document.reject(raw, place, format!("more than {MAX_DOCUMENTS} documents"));
            break;
        }
        let kind = serde_json::from_str::<Kind<'_>>(raw);
        let read = match kind.map_err(|e| super::document::record_error(&e)) {
            Err(what) => Err(what),
            Ok(Kind { document: Some(_), .. }) => csaf::read(raw),
            Ok(Kind { statements: Some(_), .. }) => openvex::read(raw),
            Ok(_) => Err("neither OpenVEX (`statements`) nor CSAF (`document`)".to_owned()),
        };
        match read {
            Err(what) => document.reject(raw, place, what),
            Ok(outcomes) => {
                for outcome in outcomes {
                    match outcome {
                        Ok(statement) => document.keep(statement),
                        Err((about, what)) => document.reject(raw, || about, what),
                    }
                }
            }
        }
    }
    document.close()
}

/// A statement, or which one it is and why it cannot be used.
type Outcome = Result<VexStatement, (String, String)>;

/// A moment, as RFC 3339 writes it; in the wild also without a zone, or a day alone.
fn moment(text: &str) -> Result<Timestamp, String> {
    let civil = |at: DateTime| at.to_zoned(TimeZone::UTC).map(|z| z.timestamp());
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(civil))
        .or_else(|_| {
            text.parse::<Date>().and_then(|d| civil(d.to_datetime(jiff::civil::Time::midnight())))
        })
        .map_err(|_| format!("{:?} is no moment such as 2026-11-29T12:00:00Z", clean_text(text)))
}

/// Checks a statement as a whole.
fn checked(statement: VexStatement) -> Outcome {
    let about = statement.id.clone();
    let bad = |what: String| (clean_text(&about), what);
    check_vulnerability(&statement.id).map_err(bad)?;
    if statement.products.is_empty() {
        return Err(bad("it names no product".to_owned()));
    }
    if statement.products.len() > MAX_PRODUCTS {
        return Err(bad(format!("it names more than {MAX_PRODUCTS} products")));
    }
    if statement.expires.is_some_and(|until| until <= statement.issued) {
        return Err(bad("it expires before it is made".to_owned()));
    }
    Ok(statement)
}

/// Which packages a name or package URL means.
fn package(text: &str) -> Result<PackageSelector, String> {
    if text.starts_with("pkg:") {
        return Purl::parse(text).map(PackageSelector::Purl);
    }
    check_package("package", text)?;
    Ok(PackageSelector::Name { name: text.to_owned(), version: String::new() })
}

/// Which hosts `fettle:host/web-*` means.
fn host(text: &str) -> Result<Option<String>, String> {
    let Some(pattern) = text.strip_prefix(HOST) else { return Ok(None) };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:*".contains(c);
    if pattern.is_empty() || pattern.len() > MAX_NAME || !pattern.chars().all(fits) {
        return Err(format!("{:?} names no host", clean_text(text)));
    }
    Ok(Some(pattern.to_owned()))
}

#[cfg(test)]
mod tests;
