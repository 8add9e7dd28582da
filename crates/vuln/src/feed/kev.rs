//! CISA's Known Exploited Vulnerabilities catalogue, JSON (`known_exploited_vulnerabilities.json`, CC0).
//!
//! Joined by CVE alone: its vendor and product are no package names.

use super::document::{Document, record_error};
use super::{Feed, FeedError, Parsed, check_vulnerability};
use fettle_core::advisory::Kev;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One entry, with the vulnerability it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KevEntry {
    /// `CVE-2024-3094`.
    pub id: String,
    /// What the catalogue says.
    pub kev: Kev,
}

#[derive(Deserialize)]
struct Catalogue<'a> {
    count: Option<usize>,
    #[serde(borrow)]
    vulnerabilities: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "cveID")]
    cve_id: String,
    date_added: Date,
    due_date: Date,
    known_ransomware_campaign_use: Option<String>,
}

/// Day of the catalogue: `dateReleased`.
pub(super) fn date(bytes: &[u8]) -> Option<Date> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dated {
        date_released: String,
    }
    let dated: Dated = serde_json::from_slice(bytes).ok()?;
    dated.date_released.get(..10)?.parse().ok()
}

/// Parses the catalogue.
///
/// # Errors
/// [`FeedError`] where the document as a whole is no such JSON, is cut off (fewer entries than its `count`
/// says), or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<KevEntry>, FeedError> {
    let mut document = Document::open(Feed::Kev, bytes)?;
    let catalogue: Catalogue<'_> =
        serde_json::from_slice(bytes).map_err(|e| document.json_error(&e))?;
    if let Some(count) = catalogue.count
        && count > catalogue.vulnerabilities.len()
    {
        return Err(document.truncated(format!(
            "{} entries where `count` says {count}",
            catalogue.vulnerabilities.len()
        )));
    }
    for raw in catalogue.vulnerabilities {
        let read = serde_json::from_str::<Entry>(raw.get()).map_err(|e| record_error(&e));
        match read.and_then(|e| check_vulnerability(&e.cve_id).map(|()| e)) {
            Err(what) => document.reject(raw.get(), || "entry".to_owned(), what),
            Ok(e) => document.keep(KevEntry {
                id: e.cve_id,
                kev: Kev {
                    date_added: e.date_added,
                    due_date: e.due_date,
                    ransomware: e
                        .known_ransomware_campaign_use
                        .is_some_and(|u| u.eq_ignore_ascii_case("known")),
                },
            }),
        }
    }
    document.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_says_of_which_day_it_is() {
        let text =
            br#"{"title":"x","dateReleased":"2026-08-07T16:45:47.0648Z","vulnerabilities":[]}"#;
        assert_eq!(date(text), Some(jiff::civil::date(2026, 8, 7)));
        for other in [&b"{}"[..], b"{\"dateReleased\":\"soon\"}", b"[]", b""] {
            assert_eq!(date(other), None);
        }
    }
}
