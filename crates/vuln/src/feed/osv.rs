//! The OSV format (<https://ossf.github.io/osv-schema/>, to version 1.7), as Linux distributions publish their advisories
//! in it: one record a line. What each vendor makes of it:
//!
//! | vendor | a package is | vulnerabilities stand in | severity |
//! |---|---|---|---|
//! | Debian | a source | `upstream`, `aliases` | `ecosystem_specific.urgency` |
//! | Ubuntu | a source | `upstream`; by release in `database_specific.cves_map` | `severity` of type `Ubuntu` |
//! | AlmaLinux | an installed package | `related` | first word of `summary` |
//! | Rocky Linux | a source | `upstream`, `related` | first word of `summary` |
//! | Red Hat | an installed package | `related` | |
//! | Alpine | a source | `upstream` | |
//! | Wolfi, Chainguard | an installed package | `related` | |
//! | SUSE, openSUSE | a source | `related` | |
//! | crates.io, Maven, npm, PyPI, RubyGems | a package of that name | `aliases`, `upstream` | `severity`, `database_specific.severity` |
//!
//! * A range without `fixed` is open: affected, and no fix. `fixed` 0 says never affected.
//! * A record that names no CVE counts under its own name.
//! * Packages of a module stand under `stream/package` (`nodejs:18/nodejs`), as `summary` names the stream: versions of
//!   different streams have nothing to say to each other.
//! * Ubuntu's fixes for subscribers stand under releases of their own (`ubuntu-pro:20.04`).
//! * Nothing is made of withdrawn records, of bug fixes and enhancements (`ALBA`, `ALEA`, `RLBA`, `RLEA`), and of live
//!   patches (`LSN`), which no package's version shows.
//! * A feed speaks for its own publisher's releases: what it says of another's is refused and named.
//! * Ranges that begin elsewhere than at 0, end with `last_affected` or have several parts are read as they are; most of
//!   distributions say no more than from where on there is a fix.

use super::cvss::CvssScore;
use super::document::{Document, record_error};
use super::dsa::{DebianAdvisory, DebianAdvisoryRelease};
use super::{Feed, FeedError, Parsed, Publisher, check_package, check_vulnerability, clean_text};
use crate::exposure::{is_modular, scheme_of};
use fettle_core::advisory::{Advisory, AdvisoryStatus, VersionRange};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;

mod language;
mod ranges;
mod release;

use release::release;
pub(crate) use release::{debian_codename, debian_number};

/// More statements are not made of one record. The largest in use, a kernel's, gives about 20,000.
pub const MAX_STATEMENTS: usize = 200_000;

/// What one record says. Advisories in other formats are read into the same.
#[derive(Debug, Clone, PartialEq)]
pub struct OsvRecord {
    /// Its name: `ALSA-2023:7465`, `DEBIAN-CVE-2024-0853`.
    pub id: String,
    /// Day of publication, in UTC.
    pub published: Option<Date>,
    /// One for each vulnerability and affected package. [`Advisory::source`] is the package as the vendor names it.
    pub statements: Vec<Advisory>,
    /// Scores that stand in it.
    pub scores: Vec<CvssScore>,
}

impl OsvRecord {
    /// The publication of the fixes it brings, where it is the vendor's advisory and not the page of a vulnerability:
    /// what deadlines count from.
    pub fn publication(&self) -> Option<DebianAdvisory> {
        // Wolfi's and Chainguard's are pages under a name of their own.
        if is_page(&self.id) || self.id.starts_with("CGA-") {
            return None;
        }
        let cves: BTreeSet<&String> = self.statements.iter().map(|s| &s.id).collect();
        let fixes: BTreeSet<(&String, &String, &String)> = self
            .statements
            .iter()
            .filter_map(|s| match &s.status {
                AdvisoryStatus::Fixed { version } => Some((&s.release, &s.source, version)),
                AdvisoryStatus::Ranges { ranges } => {
                    let fixed = ranges.iter().find_map(|range| range.fixed.as_ref())?;
                    Some((&s.release, &s.source, fixed))
                }
                _ => None,
            })
            .collect();
        let release =
            |(release, package, version): (&String, &String, &String)| DebianAdvisoryRelease {
                release: release.clone(),
                package: package.clone(),
                fixed_version: Some(version.clone()),
            };
        Some(DebianAdvisory {
            id: self.id.clone(),
            date: self.published?,
            cves: cves.into_iter().cloned().collect(),
            releases: fixes.into_iter().map(release).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    withdrawn: Option<serde::de::IgnoredAny>,
    published: Option<Timestamp>,
    #[serde(borrow, default)]
    summary: Cow<'a, str>,
    #[serde(borrow, default)]
    aliases: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    upstream: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    related: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    severity: Vec<Severity<'a>>,
    #[serde(borrow, default)]
    affected: Vec<&'a RawValue>,
    #[serde(borrow)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Severity<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    score: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Affected<'a> {
    #[serde(borrow)]
    package: Option<Package<'a>>,
    #[serde(borrow, default)]
    ranges: Vec<Range<'a>>,
    /// Affected versions one by one.
    #[serde(borrow)]
    versions: Option<&'a RawValue>,
    #[serde(borrow)]
    ecosystem_specific: Option<EcosystemSpecific<'a>>,
    #[serde(borrow)]
    database_specific: Option<DatabaseSpecific<'a>>,
}

#[derive(Deserialize)]
struct Package<'a> {
    #[serde(borrow)]
    ecosystem: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Range<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    introduced: Option<Cow<'a, str>>,
    #[serde(borrow)]
    fixed: Option<Cow<'a, str>>,
    #[serde(borrow)]
    last_affected: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct EcosystemSpecific<'a> {
    #[serde(borrow)]
    urgency: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct DatabaseSpecific<'a> {
    #[serde(borrow)]
    cves_map: Option<CvesMap<'a>>,
    /// RustSec's word for what is no vulnerability: `unmaintained`.
    #[serde(borrow)]
    informational: Option<Cow<'a, str>>,
}

/// Which of an Ubuntu notice's vulnerabilities are about this package in this release.
#[derive(Deserialize)]
struct CvesMap<'a> {
    #[serde(borrow)]
    cves: Vec<MappedCve<'a>>,
}

#[derive(Deserialize)]
struct MappedCve<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    severity: Vec<Severity<'a>>,
}

/// Parses records, one a line.
///
/// An affected package that cannot be understood, or is not the publisher's to speak of, is left out and named like a
/// record; the record's others count.
///
/// # Errors
/// [`FeedError`] where the document is empty, not text, cut off, or holds nothing usable.
pub fn parse(publisher: Publisher, bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    read_document(publisher, publisher.ecosystems(), bytes)
}

/// `ecosystems`: first words of those that may be spoken of.
fn read_document(
    publisher: Publisher,
    ecosystems: &[&str],
    bytes: &[u8],
) -> Result<Parsed<OsvRecord>, FeedError> {
    let mut document = Document::open(Feed::Osv(publisher), bytes)?;
    for line in document.lines()?.filter(|l| !l.trim().is_empty()) {
        match serde_json::from_str::<Record<'_>>(line) {
            Err(e) => document.reject(line, || "record".to_owned(), record_error(&e)),
            Ok(record) => read(&mut document, (publisher, ecosystems), line, &record),
        }
    }
    document.close()
}

/// Records that are about something else than the security of packages.
fn is_other(id: &str) -> bool {
    ["ALBA-", "ALEA-", "RLBA-", "RLEA-", "LSN-"].iter().any(|prefix| id.starts_with(prefix))
}

fn read<'a>(
    document: &mut Document<'a, OsvRecord>,
    (publisher, ecosystems): (Publisher, &[&str]),
    line: &'a str,
    record: &Record<'a>,
) {
    let place = || record.id.chars().take(60).collect::<String>();
    if let Err(what) = check_record_id(&record.id) {
        return document.reject(line, place, what);
    }
    if record.withdrawn.is_some() || is_other(&record.id) {
        return;
    }
    let vulnerabilities = match vulnerabilities(publisher, record) {
        Ok(found) => found,
        Err(what) => return document.reject(line, place, what),
    };
    if record.affected.len().saturating_mul(vulnerabilities.len()) > MAX_STATEMENTS {
        let what = format!(
            "{} packages and {} vulnerabilities make more than {MAX_STATEMENTS} statements",
            record.affected.len(),
            vulnerabilities.len()
        );
        return document.reject(line, place, what);
    }
    let mut statements = Vec::new();
    for affected in &record.affected {
        let read = serde_json::from_str::<Affected<'a>>(affected.get())
            .map_err(|e| (String::new(), record_error(&e)));
        let said = read.and_then(|a| {
            let name = a.package.as_ref().map(|p| p.name.to_string()).unwrap_or_default();
            self::statements((publisher, ecosystems), record, &vulnerabilities, &a)
                .map_err(|what| (name, what))
        });
        match said {
            Ok(said) => statements.extend(said),
            Err((name, what)) => {
                document.reject(
                    affected.get(),
                    || format!("{} {name}", place()).trim().to_owned(),
                    what,
                );
            }
        }
    }
    if !statements.is_empty() {
        let published = record.published.map(|t| t.to_zoned(TimeZone::UTC).date());
        let id = record.id.to_string();
        let scores = match publisher {
            Publisher::Language(_) => language::scores(record, &vulnerabilities),
            _ => Vec::new(),
        };
        document.keep(OsvRecord { id, published, statements, scores });
    }
}

/// Red Hat and those that follow it have a colon in their names: `RHSA-2024:8709`.
fn check_record_id(id: &str) -> Result<(), String> {
    check_vulnerability(&id.replace(':', "-"))
}

/// Severity words that begin a summary: `Important: firefox security update`.
fn summary_word(summary: &str) -> Option<&str> {
    let (word, _) = summary.split_once(": ")?;
    let known = ["critical", "important", "moderate", "low"];
    known.into_iter().find(|k| word.eq_ignore_ascii_case(k))
}

/// Streams that a summary names: `nodejs:18` in `Moderate: nodejs:18 security update`. More than one where two modules
/// are updated together.
fn streams(summary: &str) -> Vec<&str> {
    let is_word = |word: &str| !word.is_empty() && check_package("module", word).is_ok();
    let is_stream = |word: &&str| {
        word.split_once(':').is_some_and(|(module, stream)| is_word(module) && is_word(stream))
    };
    summary.split([' ', ',']).filter(is_stream).take(4).collect()
}

/// Is a record the page of one vulnerability (`DEBIAN-CVE-2024-0853`), and not an advisory that brings fixes?
fn is_page(id: &str) -> bool {
    id.contains("CVE-")
}

/// The CVEs a record is about, or its own name. `related` counts in advisories, many of which have their CVEs there; in
/// the page of a vulnerability it names what is merely near.
fn vulnerabilities<'r>(
    publisher: Publisher,
    record: &'r Record<'_>,
) -> Result<BTreeSet<&'r str>, String> {
    let related = !is_page(&record.id) && !matches!(publisher, Publisher::Language(_));
    let named = record.aliases.iter().chain(&record.upstream);
    let named = named.chain(record.related.iter().filter(|_| related)).map(AsRef::as_ref);
    let own = record.id.find("CVE-").map_or(record.id.as_ref(), |at| &record.id[at..]);
    let mut found: BTreeSet<&str> =
        named.chain([own]).filter(|id: &&str| id.starts_with("CVE-")).collect();
    if found.is_empty() {
        found.insert(own);
    }
    found.iter().try_for_each(|id| check_record_id(id))?;
    Ok(found)
}

/// Statements about one affected package.
fn statements(
    (publisher, ecosystems): (Publisher, &[&str]),
    record: &Record<'_>,
    vulnerabilities: &BTreeSet<&str>,
    affected: &Affected<'_>,
) -> Result<Vec<Advisory>, String> {
    let package = affected.package.as_ref().ok_or("`package` is missing")?;
    let vendor = package.ecosystem.split(':').next().unwrap_or_default();
    let others = || {
        let own = ecosystems.join(", ");
        format!("this feed does not speak for {}: it does for {own}", clean_text(vendor))
    };
    let is_own = ecosystems.contains(&vendor);
    if let Publisher::Language(ecosystem) = publisher {
        if !is_own {
            return Err(others());
        }
        return language::statements(ecosystem, record, vulnerabilities, affected);
    }
    check_package("package", &package.name)?;
    let release = release(&package.ecosystem)?;
    if !is_own {
        return Err(others());
    }
    let ubuntu = |list: &[Severity<'_>]| {
        list.iter().find(|s| s.kind == "Ubuntu").map(|s| s.score.to_string())
    };
    let urgency = affected
        .ecosystem_specific
        .as_ref()
        .and_then(|e| e.urgency.as_deref())
        .map(str::to_owned)
        .or_else(|| ubuntu(&record.severity))
        .or_else(|| summary_word(&record.summary).map(str::to_owned))
        .unwrap_or_default();
    let status = match status(&release, &urgency, &affected.ranges)? {
        AdvisoryStatus::Fixed { version } if publisher == Publisher::Rocky => {
            AdvisoryStatus::Fixed { version: super::lines::of_rocky(&version).to_owned() }
        }
        status => status,
    };
    let sources: Vec<String> = match modular_version(&status) {
        Some(version) => {
            let streams = streams(&record.summary);
            if streams.is_empty() {
                return Err(format!(
                    "`fixed` {version} is of a module, and `summary` does not name its stream"
                ));
            }
            streams.iter().map(|stream| format!("{stream}/{}", package.name)).collect()
        }
        None => vec![package.name.to_string()],
    };
    let mapped = affected.database_specific.as_ref().and_then(|d| d.cves_map.as_ref());
    let about: Vec<(&str, String)> = match mapped {
        Some(map) => {
            map.cves.iter().try_for_each(|cve| check_vulnerability(&cve.id))?;
            let own = |cve: &MappedCve<'_>| ubuntu(&cve.severity).unwrap_or(urgency.clone());
            map.cves.iter().map(|cve| (cve.id.as_ref(), own(cve))).collect()
        }
        None => vulnerabilities.iter().map(|id| (*id, urgency.clone())).collect(),
    };
    let mut said = Vec::with_capacity(about.len() * sources.len());
    for (id, urgency) in about {
        for source in &sources {
            said.push(Advisory {
                id: id.to_owned(),
                source: source.clone(),
                release: release.clone(),
                status: status.clone(),
                urgency: clean_text(&urgency),
                evidence: format!("OSV record {}", record.id),
            });
        }
    }
    Ok(said)
}

/// What the ranges of an affected package come to: affected is what any of them holds.
fn status(release: &str, urgency: &str, ranges: &[Range<'_>]) -> Result<AdvisoryStatus, String> {
    let scheme = scheme_of(release);
    let (mut found, mut never) = (Vec::new(), false);
    for range in ranges.iter().filter(|r| r.kind != "GIT") {
        if range.kind != "ECOSYSTEM" {
            return Err(format!("a range of type {:?}: expected ECOSYSTEM", range.kind));
        }
        found.extend(ranges::intervals(scheme, range)?);
    }
    // 0 is below whatever is installed, but no version of every scheme.
    found.retain(|range: &VersionRange| {
        let nothing = range.fixed.as_deref() == Some("0");
        never |= nothing;
        !nothing
    });
    let from_first = |range: &VersionRange| range.introduced == "0" && range.last.is_none();
    if found.iter().any(|range| from_first(range) && range.fixed.is_none()) {
        let reason = if urgency == "end-of-life" { "<end-of-life>" } else { "" };
        return Ok(AdvisoryStatus::Open { reason: reason.to_owned(), elsewhere: None });
    }
    if !found.iter().all(from_first) {
        found.sort();
        found.dedup();
        if found.len() > ranges::MAX_RANGES {
            return Err(format!("more than {} ranges", ranges::MAX_RANGES));
        }
        return Ok(AdvisoryStatus::Ranges { ranges: found });
    }
    let fixes = found.into_iter().filter_map(|range| range.fixed);
    match fixes.max_by(|a, b| scheme.compare_lenient(a, b)) {
        Some(version) => Ok(AdvisoryStatus::Fixed { version }),
        None if never => Ok(AdvisoryStatus::NotAffected),
        None => Err("no range of versions".to_owned()),
    }
}

/// A version of a module among those that a status names.
fn modular_version(status: &AdvisoryStatus) -> Option<&str> {
    let named: Vec<&str> = match status {
        AdvisoryStatus::Fixed { version } => vec![version],
        AdvisoryStatus::Ranges { ranges } => {
            ranges.iter().filter_map(|r| r.fixed.as_deref().or(r.last.as_deref())).collect()
        }
        _ => Vec::new(),
    };
    named.into_iter().find(|version| is_modular(version))
}

#[cfg(test)]
mod tests;
