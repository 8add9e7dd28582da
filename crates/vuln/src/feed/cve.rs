//! What the world says about a vulnerability, from its own records: CVE JSON 5 (<https://github.com/CVEProject/cve-schema>),
//! which carry the scores of the numbering authority and, as CISA's Vulnrichment publishes them, of CISA with its SSVC
//! decision; and NVD's (<https://nvd.nist.gov/developers/vulnerabilities>, version 2.0).
//!
//! Only for ranking. What is affected their version ranges say for upstream, not for a distribution's packages, and is not
//! read. Records that were rejected say nothing.

use super::cvss::{CvssScore, base_score};
use super::document::{Document, record_error};
use super::{Feed, FeedError, Parsed, check_vulnerability, clean_text};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CveFacts {
    /// `CVE-2024-3094`.
    pub id: String,
    /// Scores, as issued.
    pub scores: Vec<CvssScore>,
    /// CISA's decision.
    pub ssvc: Option<Ssvc>,
}

/// Stakeholder-Specific Vulnerability Categorization, as CISA's Vulnrichment decides it
/// (<https://www.cisa.gov/stakeholder-specific-vulnerability-categorization-ssvc>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ssvc {
    /// What is known of exploits.
    pub exploitation: Exploitation,
    /// Can the first four steps of an attack be automated?
    pub automatable: bool,
    /// Does an attacker get the whole of it?
    pub total: bool,
}

/// What is known of exploits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exploitation {
    /// Nothing.
    None,
    /// How it is done is public.
    Poc,
    /// It is done.
    Active,
}

impl Exploitation {
    /// The word, as SSVC writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Poc => "poc",
            Self::Active => "active",
        }
    }
}

type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    cve_metadata: Metadata<'a>,
    #[serde(borrow)]
    containers: Containers<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    cve_id: Text<'a>,
    #[serde(borrow, default)]
    state: Text<'a>,
}

#[derive(Deserialize)]
struct Containers<'a> {
    #[serde(borrow)]
    cna: Option<Container<'a>>,
    #[serde(borrow, default)]
    adp: Vec<Container<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow)]
    provider_metadata: Option<Provider<'a>>,
    #[serde(borrow, default)]
    metrics: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider<'a> {
    #[serde(borrow, default)]
    short_name: Text<'a>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow, rename = "cvssV2_0")]
    v2: Option<Cvss<'a>>,
    #[serde(borrow, rename = "cvssV3_0")]
    v30: Option<Cvss<'a>>,
    #[serde(borrow, rename = "cvssV3_1")]
    v31: Option<Cvss<'a>>,
    #[serde(borrow, rename = "cvssV4_0")]
    v4: Option<Cvss<'a>>,
    #[serde(borrow)]
    other: Option<Other<'a>>,
}

#[derive(Deserialize)]
struct Cvss<'a> {
    #[serde(borrow, rename = "vectorString")]
    vector: Text<'a>,
    #[serde(rename = "baseScore")]
    score: Option<f32>,
}

#[derive(Deserialize)]
struct Other<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Decision<'a> {
    #[serde(borrow, default)]
    options: Vec<BTreeMap<Text<'a>, Text<'a>>>,
}

/// Parses CVE records, one after the other. A record is a record; a score of it that cannot be read is named and left out.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no JSON, is cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<CveFacts>, FeedError> {
    let mut document = Document::open(Feed::CveRecords, bytes)?;
    document.text()?;
    for raw in serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>() {
        let raw = raw.map_err(|e| document.json_error(&e))?.get();
        let record = match serde_json::from_str::<Record<'_>>(raw).map_err(|e| record_error(&e)) {
            Ok(record) => record,
            Err(what) => {
                document.reject(raw, || "record".to_owned(), what);
                continue;
            }
        };
        let id = &record.cve_metadata.cve_id;
        if let Err(what) = check_vulnerability(id) {
            document.reject(raw, || clean_text(id), what);
            continue;
        }
        if record.cve_metadata.state == "REJECTED" {
            continue;
        }
        let mut facts = CveFacts { id: id.to_string(), ..CveFacts::default() };
        let own = record.containers.cna.iter().map(|c| (c, "cna".to_owned()));
        let others = record.containers.adp.iter().map(|c| {
            let name = c.provider_metadata.as_ref().map_or("", |p| p.short_name.as_ref());
            (c, clean_text(&format!("adp:{name}")))
        });
        for (container, issuer) in own.chain(others) {
            for metric in &container.metrics {
                if let Err(what) = take(&mut facts, &issuer, metric.get()) {
                    document.reject(metric.get(), || id.to_string(), what);
                }
            }
        }
        document.keep(facts);
    }
    document.close()
}

fn take(facts: &mut CveFacts, issuer: &str, metric: &str) -> Result<(), String> {
    let metric: Metric<'_> = serde_json::from_str(metric).map_err(|e| record_error(&e))?;
    for cvss in [metric.v4, metric.v31, metric.v30, metric.v2].into_iter().flatten() {
        facts.scores.push(score(&facts.id, issuer, &cvss.vector, cvss.score)?);
    }
    let Some(content) = metric.other.filter(|o| o.kind == "ssvc").and_then(|o| o.content) else {
        return Ok(());
    };
    let decision: Decision<'_> =
        serde_json::from_str(content.get()).map_err(|e| record_error(&e))?;
    let option = |name: &str| decision.options.iter().find_map(|o| o.get(name)).map(|t| &**t);
    let unknown = |name: &str| format!("SSVC {name:?} is missing or unknown");
    facts.ssvc = Some(Ssvc {
        exploitation: match option("Exploitation") {
            Some(word) if word.eq_ignore_ascii_case("none") => Exploitation::None,
            Some(word) if word.eq_ignore_ascii_case("poc") => Exploitation::Poc,
            Some(word) if word.eq_ignore_ascii_case("active") => Exploitation::Active,
            _ => return Err(unknown("Exploitation")),
        },
        automatable: match option("Automatable") {
            Some(word) if word.eq_ignore_ascii_case("yes") => true,
            Some(word) if word.eq_ignore_ascii_case("no") => false,
            _ => return Err(unknown("Automatable")),
        },
        total: match option("Technical Impact") {
            Some(word) if word.eq_ignore_ascii_case("total") => true,
            Some(word) if word.eq_ignore_ascii_case("partial") => false,
            _ => return Err(unknown("Technical Impact")),
        },
    });
    Ok(())
}

fn score(id: &str, issuer: &str, vector: &str, issued: Option<f32>) -> Result<CvssScore, String> {
    let (version, computed) = base_score(vector)?;
    let score = issued.unwrap_or(computed);
    if !(0.0..=10.0).contains(&score) {
        return Err(format!("score {score} is not from 0 to 10"));
    }
    Ok(CvssScore {
        id: id.to_owned(),
        version,
        vector: vector.to_owned(),
        score,
        computed,
        issuer: issuer.to_owned(),
    })
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    vulnerabilities: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    cve: NvdCve<'a>,
}

#[derive(Deserialize)]
struct NvdCve<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, rename = "vulnStatus", default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    metrics: BTreeMap<Text<'a>, &'a RawValue>,
}

#[derive(Deserialize)]
struct NvdMetric<'a> {
    #[serde(borrow, default)]
    source: Text<'a>,
    #[serde(borrow, rename = "cvssData")]
    cvss: Cvss<'a>,
}

/// Parses pages of NVD's answers, one after the other, or single vulnerabilities of it (`{"id": …, "metrics": …}`). A record
/// is a vulnerability.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no JSON, is cut off, or holds nothing usable.
pub fn parse_nvd(bytes: &[u8]) -> Result<Parsed<CveFacts>, FeedError> {
    let mut document = Document::open(Feed::Nvd, bytes)?;
    document.text()?;
    for raw in serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>() {
        let raw = raw.map_err(|e| document.json_error(&e))?.get();
        let cves = match serde_json::from_str::<Page<'_>>(raw) {
            Ok(page) => page.vulnerabilities.into_iter().map(|item| (item.get(), true)).collect(),
            Err(_) => vec![(raw, false)],
        };
        for (raw, wrapped) in cves {
            let cve = match wrapped {
                true => serde_json::from_str::<Item<'_>>(raw).map(|item| item.cve),
                false => serde_json::from_str::<NvdCve<'_>>(raw),
            };
            match cve
                .map_err(|e| record_error(&e))
                .and_then(|c| check_vulnerability(&c.id).map(|()| c))
            {
                Err(what) => document.reject(raw, || "vulnerability".to_owned(), what),
                Ok(cve) if cve.status == "Rejected" => {}
                Ok(cve) => read_nvd(&mut document, &cve),
            }
        }
    }
    document.close()
}

fn read_nvd<'a>(document: &mut Document<'a, CveFacts>, cve: &NvdCve<'a>) {
    let mut facts = CveFacts { id: cve.id.to_string(), ..CveFacts::default() };
    for (kind, raw) in &cve.metrics {
        if !kind.starts_with("cvssMetric") {
            continue;
        }
        let metrics = match serde_json::from_str::<Vec<NvdMetric<'_>>>(raw.get()) {
            Ok(metrics) => metrics,
            Err(e) => {
                document.reject(raw.get(), || cve.id.to_string(), record_error(&e));
                continue;
            }
        };
        for metric in metrics {
            let issuer = match metric.source.as_ref() {
                "nvd@nist.gov" => "nvd".to_owned(),
                other => clean_text(&format!("nvd:{other}")),
            };
            match score(&facts.id, &issuer, &metric.cvss.vector, metric.cvss.score) {
                Ok(score) => facts.scores.push(score),
                Err(what) => document.reject(raw.get(), || cve.id.to_string(), what),
            }
        }
    }
    document.keep(facts);
}
