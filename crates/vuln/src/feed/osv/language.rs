//! What is said of packages of languages: ranges of versions as they are written, of which several may be affected beside
//! each other, and versions named one by one (<https://ossf.github.io/osv-schema/#evaluation>).

use super::ranges::{MAX_RANGES, holds, intervals};
use super::{Affected, Package, Record};
use crate::feed::cvss::{CvssScore, base_score};
use crate::feed::{MAX_VERSION, check_language_package, clean_text};
use fettle_core::advisory::{Advisory, AdvisoryStatus, VersionRange};
use fettle_core::language::Ecosystem;
use fettle_core::version::Scheme;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// More text of ranges and single versions is not kept of one package, in bytes.
const MAX_RANGES_TEXT: usize = 40_000;

/// `database_specific` of a whole record.
#[derive(Deserialize)]
struct Specific<'a> {
    /// GitHub's word: `CRITICAL`, `HIGH`, `MODERATE`, `LOW`.
    #[serde(borrow)]
    severity: Option<Cow<'a, str>>,
}

/// Statements about one affected package. None where the record is no vulnerability (RustSec's `unmaintained`).
pub(super) fn statements(
    ecosystem: Ecosystem,
    record: &Record<'_>,
    vulnerabilities: &BTreeSet<&str>,
    affected: &Affected<'_>,
) -> Result<Vec<Advisory>, String> {
    let Some(Package { name, .. }) = &affected.package else {
        return Err("`package` is missing".to_owned());
    };
    let informational =
        affected.database_specific.as_ref().and_then(|d| d.informational.as_deref());
    if informational.is_some_and(|word| word != "unsound") {
        return Ok(Vec::new());
    }
    check_language_package(ecosystem, name)?;
    let status = AdvisoryStatus::Ranges { ranges: ranges(ecosystem.scheme(), affected)? };
    let said = |id: &&str| Advisory {
        id: (*id).to_owned(),
        source: ecosystem.subject(name),
        release: ecosystem.word().to_owned(),
        status: status.clone(),
        urgency: urgency(record),
        evidence: format!("OSV record {}", record.id),
    };
    Ok(vulnerabilities.iter().map(said).collect())
}

/// Severity in a word, lower case. What is there to do harm is critical.
fn urgency(record: &Record<'_>) -> String {
    if record.id.starts_with("MAL-") {
        return "critical".to_owned();
    }
    let specific =
        record.database_specific.map(|raw| serde_json::from_str::<Specific<'_>>(raw.get()));
    let word = specific.and_then(Result::ok).and_then(|s| s.severity).unwrap_or_default();
    clean_text(&word.to_ascii_lowercase())
}

/// Scores that stand in the record, for each of its vulnerabilities. A vector that is none ranks nothing.
pub(super) fn scores(record: &Record<'_>, vulnerabilities: &BTreeSet<&str>) -> Vec<CvssScore> {
    let issuer = match record.id.split('-').next().unwrap_or_default() {
        "GHSA" => "GitHub",
        other => other,
    };
    let read = |vector: &str| base_score(vector).ok().map(|known| (vector.to_owned(), known));
    let vectors = record.severity.iter().filter(|s| s.kind.starts_with("CVSS_V"));
    let known: Vec<_> = vectors.filter_map(|s| read(&s.score)).take(8).collect();
    let of = |id: &&str| {
        let id = (*id).to_owned();
        let score = move |(vector, (version, score)): &(String, (u8, f32))| CvssScore {
            id: id.clone(),
            version: *version,
            vector: vector.clone(),
            score: *score,
            computed: *score,
            issuer: clean_text(issuer),
        };
        known.iter().map(score).collect::<Vec<_>>()
    };
    vulnerabilities.iter().flat_map(of).collect()
}

/// All versions that are affected.
fn ranges(scheme: Scheme, affected: &Affected<'_>) -> Result<Vec<VersionRange>, String> {
    let mut found = Vec::new();
    for range in affected.ranges.iter().filter(|r| r.kind != "GIT") {
        if range.kind != "ECOSYSTEM" && range.kind != "SEMVER" {
            return Err(format!("a range of type {:?}: expected SEMVER or ECOSYSTEM", range.kind));
        }
        found.extend(intervals(scheme, range)?);
    }
    let single: Vec<Cow<'_, str>> = match affected.versions {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|e| format!("`versions`: {e}"))?,
        None => Vec::new(),
    };
    let (stretches, mut text) = (found.len(), 0);
    for version in single {
        if version.is_empty() || version.len() > MAX_VERSION || version.contains(char::is_control) {
            return Err("one of `versions` is none".to_owned());
        }
        // Most are in one of the ranges, too.
        if found[..stretches].iter().any(|range| holds(scheme, range, &version)) {
            continue;
        }
        let version = version.into_owned();
        found.push(VersionRange { introduced: version.clone(), fixed: None, last: Some(version) });
        if found.len() > MAX_RANGES {
            return Err(format!("more than {MAX_RANGES} ranges and versions"));
        }
    }
    for range in &found {
        text += range.introduced.len()
            + range.fixed.as_ref().or(range.last.as_ref()).map_or(0, String::len);
    }
    if text > MAX_RANGES_TEXT {
        return Err(format!("ranges and versions of {text} bytes, more than {MAX_RANGES_TEXT}"));
    }
    if found.is_empty() {
        return Err("no range of versions".to_owned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests;
