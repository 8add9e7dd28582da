//! Writing.

use super::{LAYOUT, MAGIC, PREFIX, checksum};
use crate::exposure::{Catalogue, Publication, Statement};
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::Severity;
use jiff::civil::Date;
use std::collections::BTreeMap;

/// Nothing there.
pub(super) const NONE: u32 = u32::MAX;

/// Texts, each once.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    places: BTreeMap<Vec<u8>, u32>,
}

impl Texts {
    /// Place and length of a text, 6 bytes.
    fn put(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        // Names, versions and free texts are bounded by the parsers, far below this.
        let text = &text[..text.len().min(usize::from(u16::MAX))];
        let place = match self.places.get(text) {
            Some(&place) => place,
            None => {
                let place = self.bytes.len() as u32;
                self.bytes.extend(text);
                self.places.insert(text.to_vec(), place);
                place
            }
        };
        out.extend(place.to_le_bytes());
        out.extend((text.len() as u16).to_le_bytes());
    }
}

/// A text with its length before it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn extent(out: &mut Vec<u8>, offset: usize, part: &[u8]) {
    out.extend((offset as u64).to_le_bytes());
    out.extend((part.len() as u64).to_le_bytes());
    out.extend(checksum::xxh64(part).to_le_bytes());
}

/// A day as a number that reads like one: 20261129.
pub(super) fn day(date: Date) -> i32 {
    i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day())
}

/// The whole file.
pub fn write(catalogue: &Catalogue, stamp: &str) -> Vec<u8> {
    let parts: Vec<(&str, Vec<u8>)> =
        catalogue.releases().map(|release| (release, section(catalogue, release))).collect();
    // What cannot be written as JSON there is none of: texts, days and numbers.
    let own = serde_json::to_vec(catalogue.own()).unwrap_or_default();

    let mut lead = Vec::new();
    text(&mut lead, stamp);
    lead.extend((catalogue.as_of().len() as u32).to_le_bytes());
    for (feed, date) in catalogue.as_of() {
        text(&mut lead, feed.word());
        text(&mut lead, &date.to_string());
    }
    lead.extend((parts.len() as u32).to_le_bytes());
    const EXTENT: usize = 24;
    let table: usize = parts.iter().map(|(name, _)| 4 + name.len() + EXTENT).sum();
    let mut offset = PREFIX + lead.len() + table + EXTENT;
    for (release, part) in &parts {
        text(&mut lead, release);
        extent(&mut lead, offset, part);
        offset += part.len();
    }
    extent(&mut lead, offset, &own);

    let mut file = MAGIC.to_vec();
    file.extend(LAYOUT.to_le_bytes());
    file.extend(((PREFIX + lead.len()) as u32).to_le_bytes());
    file.extend(checksum::xxh64(&lead).to_le_bytes());
    file.extend(lead);
    for (_, part) in parts {
        file.extend(part);
    }
    file.extend(own);
    file
}

/// Everything about one release.
fn section(catalogue: &Catalogue, release: &str) -> Vec<u8> {
    let statements = catalogue.statements_of(release);
    let mut texts = Texts::default();
    let mut used: Vec<u32> = statements.iter().map(|s| s.vulnerability).collect();
    used.sort_unstable();
    used.dedup();

    let mut sources = Vec::new();
    let mut publications: Vec<&Publication> = Vec::new();
    let mut known: BTreeMap<(&str, Date), u32> = BTreeMap::new();
    let mut said = Vec::new();
    let (mut count, mut first) = (0u32, 0u32);
    for of_source in statements.chunk_by(|a, b| a.source == b.source) {
        texts.put(&mut sources, of_source[0].source.as_bytes());
        sources.extend(first.to_le_bytes());
        sources.extend((of_source.len() as u32).to_le_bytes());
        first += of_source.len() as u32;
        count += 1;
        for statement in of_source {
            let publication = statement.publication.as_ref().map_or(NONE, |p| {
                *known.entry((&p.advisory, p.date)).or_insert_with(|| {
                    publications.push(p);
                    publications.len() as u32 - 1
                })
            });
            // Invariant: `used` was made from these very statements.
            let place = used.binary_search(&statement.vulnerability).unwrap_or_default() as u32;
            put(&mut said, &mut texts, statement, place, publication);
        }
    }
    let (mut vulnerabilities, mut scores, mut score_count) = (Vec::new(), Vec::new(), 0u32);
    for &place in &used {
        let facts = &catalogue.vulnerabilities()[place as usize];
        texts.put(&mut vulnerabilities, facts.id.as_bytes());
        vulnerabilities.extend(facts.epss.unwrap_or(f32::NAN).to_le_bytes());
        let score = facts.cvss.as_ref().map_or(NONE, |cvss| {
            scores.push(cvss.version);
            scores.extend(cvss.score.to_le_bytes());
            scores.extend(cvss.computed.to_le_bytes());
            texts.put(&mut scores, cvss.vector.as_bytes());
            texts.put(&mut scores, cvss.issuer.as_bytes());
            score_count += 1;
            score_count - 1
        });
        vulnerabilities.extend(score.to_le_bytes());
        let (added, due, flags) = match &facts.kev {
            None => (0, 0, 0u8),
            Some(kev) => (day(kev.date_added), day(kev.due_date), 1 + u8::from(kev.ransomware)),
        };
        vulnerabilities.extend(added.to_le_bytes());
        vulnerabilities.extend(due.to_le_bytes());
        vulnerabilities.push(flags);
        vulnerabilities.push(facts.ssvc.map_or(0, |s| {
            1 | ((s.exploitation as u8) << 1)
                | (u8::from(s.automatable) << 3)
                | (u8::from(s.total) << 4)
        }));
    }
    let mut published = Vec::new();
    for publication in &publications {
        texts.put(&mut published, publication.advisory.as_bytes());
        published.extend(day(publication.date).to_le_bytes());
    }
    let mut out = Vec::new();
    let counts = [
        count,
        statements.len() as u32,
        used.len() as u32,
        score_count,
        publications.len() as u32,
        texts.bytes.len() as u32,
    ];
    counts.into_iter().for_each(|n| out.extend(n.to_le_bytes()));
    for table in [sources, said, vulnerabilities, scores, published, texts.bytes] {
        out.extend(table);
    }
    out
}

fn put(
    out: &mut Vec<u8>,
    texts: &mut Texts,
    statement: &Statement,
    vulnerability: u32,
    publication: u32,
) {
    let ranges;
    let (kind, version, reason) = match &statement.status {
        AdvisoryStatus::Ranges { ranges: listed } => {
            // Texts alone: nothing of it cannot be written. Its length is bounded by the parser.
            ranges = serde_json::to_string(listed).unwrap_or_default();
            (5, ranges.as_str(), "")
        }
        AdvisoryStatus::NotAffected => (0u8, "", ""),
        AdvisoryStatus::Undetermined => (1, "", ""),
        AdvisoryStatus::Fixed { version } => (2, version.as_str(), ""),
        AdvisoryStatus::Open { reason, elsewhere: None } => (3, "", reason.as_str()),
        AdvisoryStatus::Open { reason, elsewhere: Some(version) } => {
            (4, version.as_str(), reason.as_str())
        }
    };
    let severity = Severity::ALL.iter().position(|s| *s == statement.severity).unwrap_or_default();
    out.extend(vulnerability.to_le_bytes());
    out.extend([kind, severity as u8]);
    texts.put(out, &statement.fixed_key);
    texts.put(out, version.as_bytes());
    texts.put(out, reason.as_bytes());
    texts.put(out, statement.urgency.as_bytes());
    texts.put(out, statement.evidence.as_bytes());
    out.extend(publication.to_le_bytes());
}
