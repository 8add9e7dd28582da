//! CVSS scores: vectors of v2.0, v3.0, v3.1 and v4.0 as their issuers published them.
//!
//! A compact JSON-lines form, one score a line: `{"id":"CVE-2024-3094","vector":"CVSS:3.1/AV:N/...","score":10.0,
//! "issuer":"cna"}`. `score` is what the issuer published; [`CvssScore::computed`] is what the specification's
//! formula gives for the vector. They differ for some records, and the issuer's is shown.

use super::document::{Document, record_error};
use super::{Feed, FeedError, Parsed, check_vulnerability, clean_text};
use serde::Deserialize;
use std::str::FromStr;

/// One score.
#[derive(Debug, Clone, PartialEq)]
pub struct CvssScore {
    /// `CVE-2024-3094`.
    pub id: String,
    /// Version of CVSS in tenths: 20, 30, 31, 40.
    pub version: u8,
    /// The vector as published.
    pub vector: String,
    /// Base score as published, 0.0 to 10.0.
    pub score: f32,
    /// Score by the formula, 0.0 to 10.0.
    pub computed: f32,
    /// Who published it: `cna` (the vulnerability's own authority), `adp:CISA-ADP`, ...
    pub issuer: String,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    vector: String,
    score: Option<f32>,
    #[serde(default)]
    issuer: String,
}

/// Parses the JSON lines.
///
/// # Errors
/// [`FeedError`] where the document is empty, not text, cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<CvssScore>, FeedError> {
    let mut document = Document::open(Feed::Cvss, bytes)?;
    for line in document.lines()?.filter(|l| !l.trim().is_empty()) {
        let read = serde_json::from_str::<Line>(line).map_err(|e| record_error(&e));
        match read.and_then(score) {
            Ok(score) => document.keep(score),
            Err(what) => document.reject(line, || line.chars().take(60).collect(), what),
        }
    }
    document.close()
}

fn score(line: Line) -> Result<CvssScore, String> {
    check_vulnerability(&line.id)?;
    let (version, computed) = base_score(&line.vector)?;
    let score = line.score.unwrap_or(computed);
    if !(0.0..=10.0).contains(&score) {
        return Err(format!("score {score} is not from 0 to 10"));
    }
    Ok(CvssScore {
        id: line.id,
        version,
        vector: line.vector,
        score,
        computed,
        issuer: clean_text(&line.issuer),
    })
}

/// Version in tenths and base score of a CVSS vector, by the formula of its own version (v2 vectors have no prefix;
/// v4.0 has one score only, which counts threat and environment where the vector names them).
///
/// # Errors
/// What is wrong with the vector.
pub fn base_score(vector: &str) -> Result<(u8, f32), String> {
    if vector.len() > 512 {
        return Err(format!("the vector has {} bytes, more than 512", vector.len()));
    }
    let parsed = cvss::Cvss::from_str(vector).map_err(|e| format!("vector {vector:?}: {e}"))?;
    let version = match parsed {
        cvss::Cvss::CvssV20(_) => 20,
        cvss::Cvss::CvssV30(_) => 30,
        cvss::Cvss::CvssV31(_) => 31,
        _ => 40,
    };
    Ok((version, parsed.score() as f32))
}
