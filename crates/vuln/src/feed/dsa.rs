//! Debian's advisories (DSA, and DLA for releases in long-term support) with the day each was published.
//!
//! A compact JSON-lines form of Debian's `data/DSA/list` and `data/DLA/list`, one advisory a line:
//! `{"id":"DSA-5123-1","date":"2022-04-20","cves":["CVE-..."],"releases":[{"release":"bookworm",
//! "package":"openssl","fixed_version":"1.2-3"}]}`. The tracker decides who is affected; this says since when
//! the fix has been out, which is what deadlines count from.

use super::document::{Document, record_error};
use super::{Feed, FeedError, Parsed, check_package, check_vulnerability};
use jiff::civil::Date;
use serde::Deserialize;

/// [`DebianAdvisory::id`] of fixes that no advisory names, dated by the changelog of the fixed version.
pub const CHANGELOG: &str = "changelog";

/// One advisory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DebianAdvisory {
    /// `DSA-5123-1`, `DLA-4021-1`, or [`CHANGELOG`].
    pub id: String,
    /// Day of publication.
    pub date: Date,
    /// The vulnerabilities it names; none for some regression updates.
    pub cves: Vec<String>,
    /// What it fixes where.
    pub releases: Vec<DebianAdvisoryRelease>,
}

/// A fix an advisory brings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DebianAdvisoryRelease {
    /// Codename.
    pub release: String,
    /// Source package.
    pub package: String,
    /// The fixed version; absent where the advisory says `<not-affected>` or `<end-of-life>`.
    pub fixed_version: Option<String>,
}

/// Parses the JSON lines.
///
/// # Errors
/// [`FeedError`] where the document is empty, not text, cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<DebianAdvisory>, FeedError> {
    let mut document = Document::open(Feed::DebianAdvisories, bytes)?;
    for line in document.lines()?.filter(|l| !l.trim().is_empty()) {
        let read = serde_json::from_str::<DebianAdvisory>(line).map_err(|e| record_error(&e));
        match read.and_then(|a| check(&a).map(|()| a)) {
            Ok(advisory) => document.keep(advisory),
            Err(what) => document.reject(line, || "advisory".to_owned(), what),
        }
    }
    document.close()
}

fn check(advisory: &DebianAdvisory) -> Result<(), String> {
    check_vulnerability(&advisory.id)?;
    advisory.cves.iter().try_for_each(|id| check_vulnerability(id))?;
    advisory.releases.iter().try_for_each(|r| {
        check_package("release", &r.release)?;
        check_package("source package", &r.package)
    })
}
