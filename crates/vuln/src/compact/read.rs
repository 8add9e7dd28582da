//! Reading, and judging a host by what was read. Every place in the file is checked before it is followed.

use super::write::NONE;
use super::{Extent, Head, Unusable};
use crate::exposure::{
    Catalogue, CompactPart, CompactStatement, CompactVulnerability, Cvss, HostView, Judgement,
    KeyedRange, Publication, Wanted, release_name, scheme_of,
};
use crate::feed::cve::{Exploitation, Ssvc};
use crate::feed::vex::VexStatement;
use fettle_core::advisory::{AdvisoryStatus, Kev};
use fettle_core::finding::Severity;
use fettle_core::language::Ecosystem;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reads numbers and texts one after the other.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Unusable> {
        let (part, rest) =
            self.0.split_at_checked(length).ok_or(Unusable::Damaged("it is cut off"))?;
        self.0 = rest;
        Ok(part)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        let (part, rest) = self.0.split_first_chunk().ok_or(Unusable::Damaged("it is cut off"))?;
        self.0 = rest;
        Ok(*part)
    }
    pub(super) fn u8(&mut self) -> Result<u8, Unusable> {
        self.array::<1>().map(|[b]| b)
    }
    fn u16(&mut self) -> Result<u16, Unusable> {
        self.array().map(u16::from_le_bytes)
    }
    pub(super) fn u32(&mut self) -> Result<u32, Unusable> {
        self.array().map(u32::from_le_bytes)
    }
    fn f32(&mut self) -> Result<f32, Unusable> {
        self.array().map(f32::from_le_bytes)
    }
    pub(super) fn u64(&mut self) -> Result<u64, Unusable> {
        self.array().map(u64::from_le_bytes)
    }
    pub(super) fn text(&mut self) -> Result<&'a str, Unusable> {
        let length = self.u32()? as usize;
        utf8(self.take(length)?)
    }
    pub(super) fn extent(&mut self) -> Result<Extent, Unusable> {
        Ok(Extent { offset: self.u64()?, length: self.u64()?, checksum: self.u64()? })
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Unusable> {
    std::str::from_utf8(bytes).map_err(|_| Unusable::Damaged("a text is no UTF-8"))
}

fn date(number: u32) -> Result<Date, Unusable> {
    let number = number.cast_signed();
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    Date::new(year as i16, month as i8, day as i8).map_err(|_| Unusable::Damaged("a day is none"))
}

/// Records of one length.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Table<'a> {
    fn len(self) -> usize {
        self.bytes.len() / self.width
    }
    fn at(self, place: usize) -> Result<Cursor<'a>, Unusable> {
        let start = place.saturating_mul(self.width);
        let record = self.bytes.get(start..start.saturating_add(self.width));
        record.map(Cursor).ok_or(Unusable::Damaged("a place is outside of its table"))
    }
}

/// Everything about one release, as bytes.
pub struct Section<'a> {
    sources: Table<'a>,
    statements: Table<'a>,
    vulnerabilities: Table<'a>,
    scores: Table<'a>,
    publications: Table<'a>,
    texts: &'a [u8],
}

const SOURCE: usize = 6 + 4 + 4;
const STATEMENT: usize = 4 + 2 + 5 * 6 + 4;
const VULNERABILITY: usize = 6 + 4 + 4 + 4 + 4 + 1 + 1;
const SCORE: usize = 1 + 4 + 4 + 6 + 6;
const PUBLICATION: usize = 6 + 4;

/// The releases whose sections are wanted: a host's own, those of the roots on it, and those of the languages it has
/// packages of or something was found in before.
pub fn releases(view: &HostView<'_>) -> BTreeSet<String> {
    let inventory = view.inventory;
    let systems = inventory.roots.iter().map(|root| &root.os).chain([&inventory.os]);
    let installed = inventory.languages.iter().map(|p| p.ecosystem);
    let known = view.previous.iter().filter_map(|f| Some(Ecosystem::of_subject(f.package())?.0));
    let languages = installed.chain(known).map(|ecosystem| ecosystem.word().to_owned());
    systems.map(release_name).chain(languages).collect()
}

/// Judges a host and the roots on it by the sections of its [`releases`], and gives the part of the
/// catalogue that says something of it, to explain by. The same as judging by the whole catalogue.
///
/// # Errors
/// [`Unusable::Damaged`].
pub fn judge(
    sections: &[(&str, Section<'_>)],
    head: &Head,
    own: Vec<VexStatement>,
    view: &HostView<'_>,
) -> Result<(Judgement, Catalogue), Unusable> {
    let wanted = Wanted::of(view);
    let parts = sections.iter().map(|(release, section)| section.wanted(release, &wanted));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let catalogue = Catalogue::of_some(parts, own, head.as_of.clone(), head.releases.keys());
    let judgement = wanted.judge(&catalogue, view);
    Ok((judgement, catalogue))
}

/// Texts that come again and again, each once.
#[derive(Default)]
struct Shared(BTreeMap<(u32, u16), Arc<str>>);

impl<'a> Section<'a> {
    /// The section in these bytes, whose checksum was verified.
    ///
    /// # Errors
    /// [`Unusable::Damaged`] where the tables do not fill it.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Unusable> {
        let mut at = Cursor(bytes);
        let mut counts = [0; 6];
        for count in &mut counts {
            *count = at.u32()? as usize;
        }
        let mut table = |count: usize, width: usize| {
            at.take(count.saturating_mul(width)).map(|bytes| Table { bytes, width })
        };
        let section = Self {
            sources: table(counts[0], SOURCE)?,
            statements: table(counts[1], STATEMENT)?,
            vulnerabilities: table(counts[2], VULNERABILITY)?,
            scores: table(counts[3], SCORE)?,
            publications: table(counts[4], PUBLICATION)?,
            texts: table(counts[5], 1)?.bytes,
        };
        match at.0 {
            [] => Ok(section),
            _ => Err(Unusable::Damaged("something follows its last table")),
        }
    }

    /// How many statements it holds.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it says of the sources that are wanted of its release, by source and vulnerability.
    fn wanted(&self, release: &str, wanted: &Wanted<'_>) -> Result<CompactPart, Unusable> {
        let mut statements = Vec::new();
        let mut shared = Shared::default();
        for name in wanted.sources(release) {
            let Some((first, count)) = self.source(name)? else { continue };
            let source: Arc<str> = name.into();
            for place in first..first.saturating_add(count) {
                let mut record = self.statements.at(place)?;
                let vulnerability = record.u32()?;
                let (kind, severity) = (record.u8()?, record.u8()?);
                let key = self.bytes(&mut record)?;
                let says = match kind {
                    // With what was found before, every word counts: it may take something back.
                    _ if wanted.everything() => true,
                    0 => false,
                    2 | 4 => wanted.is_below(release, name, key),
                    _ => true,
                };
                if !says {
                    continue;
                }
                let version = self.text(&mut record)?;
                let reason = self.text(&mut record)?;
                let status = match kind {
                    0 => AdvisoryStatus::NotAffected,
                    1 => AdvisoryStatus::Undetermined,
                    2 => AdvisoryStatus::Fixed { version: version.to_owned() },
                    3 => AdvisoryStatus::Open { reason: reason.to_owned(), elsewhere: None },
                    4 => AdvisoryStatus::Open {
                        reason: reason.to_owned(),
                        elsewhere: Some(version.to_owned()),
                    },
                    5 => {
                        let ranges = serde_json::from_str(version);
                        let none = |_| Unusable::Damaged("a list of ranges is none");
                        AdvisoryStatus::Ranges { ranges: ranges.map_err(none)? }
                    }
                    _ => return Err(Unusable::Damaged("a status is none")),
                };
                let ranges = KeyedRange::of(scheme_of(release), &status);
                if !ranges.is_empty()
                    && !wanted.everything()
                    && !wanted.is_within(release, name, &ranges)
                {
                    continue;
                }
                let urgency = self.shared(&mut record, &mut shared)?;
                let evidence = self.shared(&mut record, &mut shared)?;
                let publication = match record.u32()? {
                    NONE => None,
                    place => Some(self.publication(place, &mut shared)?),
                };
                let severity = Severity::ALL.get(usize::from(severity));
                statements.push(CompactStatement {
                    vulnerability,
                    source: source.clone(),
                    status,
                    urgency,
                    evidence,
                    publication,
                    severity: *severity.ok_or(Unusable::Damaged("a severity is none"))?,
                    key: key.into(),
                    ranges,
                });
            }
        }
        let mut used: Vec<u32> = statements.iter().map(|s| s.vulnerability).collect();
        used.sort_unstable();
        used.dedup();
        let mut vulnerabilities = Vec::with_capacity(used.len());
        for place in used {
            vulnerabilities.push(self.vulnerability(place, &mut shared)?);
        }
        Ok(CompactPart { release: release.into(), statements, vulnerabilities })
    }

    /// Places of the statements about a source.
    fn source(&self, name: &str) -> Result<Option<(usize, usize)>, Unusable> {
        let (mut low, mut high) = (0, self.sources.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let mut record = self.sources.at(middle)?;
            match self.bytes(&mut record)?.cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Ok(Some((record.u32()? as usize, record.u32()? as usize)));
                }
            }
        }
        Ok(None)
    }

    fn bytes(&self, record: &mut Cursor<'_>) -> Result<&'a [u8], Unusable> {
        let (start, length) = (record.u32()? as usize, usize::from(record.u16()?));
        self.texts.get(start..start + length).ok_or(Unusable::Damaged("a text is outside"))
    }

    fn text(&self, record: &mut Cursor<'_>) -> Result<&'a str, Unusable> {
        utf8(self.bytes(record)?)
    }

    fn shared(&self, record: &mut Cursor<'_>, shared: &mut Shared) -> Result<Arc<str>, Unusable> {
        let mut look = Cursor(record.0);
        let place = (look.u32()?, look.u16()?);
        let text = self.text(record)?;
        Ok(shared.0.entry(place).or_insert_with(|| text.into()).clone())
    }

    fn publication(&self, place: u32, shared: &mut Shared) -> Result<Publication, Unusable> {
        let mut record = self.publications.at(place as usize)?;
        let advisory = self.shared(&mut record, shared)?;
        Ok(Publication { advisory, date: date(record.u32()?)? })
    }

    fn vulnerability(
        &self,
        place: u32,
        shared: &mut Shared,
    ) -> Result<CompactVulnerability, Unusable> {
        let mut record = self.vulnerabilities.at(place as usize)?;
        let id = self.text(&mut record)?.into();
        let epss = Some(record.f32()?).filter(|e| !e.is_nan());
        let cvss = match record.u32()? {
            NONE => None,
            place => {
                let mut score = self.scores.at(place as usize)?;
                Some(Cvss {
                    version: score.u8()?,
                    score: score.f32()?,
                    computed: score.f32()?,
                    vector: self.text(&mut score)?.to_owned(),
                    issuer: self.shared(&mut score, shared)?,
                })
            }
        };
        let (added, due, flags) = (record.u32()?, record.u32()?, record.u8()?);
        let kev = match flags {
            0 => None,
            _ => {
                Some(Kev { date_added: date(added)?, due_date: date(due)?, ransomware: flags > 1 })
            }
        };
        let ssvc = match record.u8()? {
            0 => None,
            bits => Some(Ssvc {
                exploitation: match (bits >> 1) & 3 {
                    0 => Exploitation::None,
                    1 => Exploitation::Poc,
                    _ => Exploitation::Active,
                },
                automatable: bits & 8 != 0,
                total: bits & 16 != 0,
            }),
        };
        Ok(CompactVulnerability { place, id, cvss, epss, kev, ssvc })
    }
}
