//! A set of feeds that belong together, such as the one in the repository's `data/`: a manifest that says what each
//! file is, where it is from and of which day; and the way from their bytes to a [`Catalogue`].

use crate::exposure::{Catalogue, CatalogueInput};
use crate::feed::debian_list::{List, Lists};
use crate::feed::oval::OvalVendor;
use crate::feed::updateinfo::RpmVendor;
use crate::feed::{self, Feed, FeedError, Parsed, Publisher, RecordError};
use fettle_core::Digest;
use jiff::civil::Date;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Bytes of the feeds, decompressed.
#[derive(Debug, Clone, Default)]
pub struct Feeds<'a> {
    /// Feed → its bytes. One that says who is affected must be there; what ranks may be missing.
    pub bytes: BTreeMap<Feed, &'a [u8]>,
    /// Feed → day, as its publisher dates it. For explanations.
    pub as_of: BTreeMap<Feed, Date>,
}

impl Feeds<'_> {
    /// Is there one among them that says who is affected?
    pub fn say_who_is_affected(&self) -> bool {
        self.bytes.keys().any(|feed| feed.says_who_is_affected())
    }
}

/// What a set of feeds gave.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Vendors' statements, ranked.
    pub catalogue: Catalogue,
    /// What each feed gave.
    pub feeds: Vec<FeedOutcome>,
}

/// What one feed gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedOutcome {
    /// Which.
    pub feed: Feed,
    /// Usable records.
    pub records: usize,
    /// Records left out.
    pub rejected: usize,
    /// The first of these, and why.
    pub errors: Vec<RecordError>,
}

/// Why a set of feeds cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// One of its documents cannot be used.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Nothing says who is affected.
    #[error(
        "the set of feeds has none that says who is affected: add debian-tracker, osv-VENDOR (osv-almalinux, osv-ubuntu), oval-VENDOR, updateinfo-VENDOR, csaf-redhat or alpine-secdb"
    )]
    NothingSaysWho,
    /// The manifest cannot be read.
    #[error("the snapshot's manifest is malformed: {0}. Build the snapshot anew or fetch it again")]
    Manifest(String),
    /// The manifest names a feed twice.
    #[error("the snapshot's manifest names the {0} twice: keep one of the two")]
    Twice(Feed),
    /// A file is not the one the manifest was written for.
    #[error(
        "{file} of the snapshot has digest {found}, the manifest says {expected}: fetch the snapshot again"
    )]
    Digest {
        /// File name.
        file: String,
        /// Digest of its bytes.
        found: Digest,
        /// What the manifest says.
        expected: Digest,
    },
}

/// Parses all feeds and builds the catalogue.
///
/// # Errors
/// [`SnapshotError`] where one of the documents as a whole cannot be used. Single records that cannot are left
/// out and listed in [`Loaded::feeds`].
pub fn load(feeds: &Feeds<'_>) -> Result<Loaded, SnapshotError> {
    if !feeds.say_who_is_affected() {
        return Err(SnapshotError::NothingSaysWho);
    }
    let mut outcomes = Vec::new();
    let mut input = CatalogueInput { as_of: feeds.as_of.clone(), ..CatalogueInput::default() };
    if let Some(bytes) = feeds.bytes.get(&Feed::DebianTracker) {
        input.advisories = note(&mut outcomes, Feed::DebianTracker, feed::debian::parse(bytes)?);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::DebianAdvisories) {
        input.debian_advisories =
            note(&mut outcomes, Feed::DebianAdvisories, feed::dsa::parse(bytes)?);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::Kev) {
        input.kev = note(&mut outcomes, Feed::Kev, feed::kev::parse(bytes)?);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::Epss) {
        input.epss = note(&mut outcomes, Feed::Epss, feed::epss::parse(bytes)?);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::Cvss) {
        input.cvss = note(&mut outcomes, Feed::Cvss, feed::cvss::parse(bytes)?);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::CveRecords) {
        input.add_cve(note(&mut outcomes, Feed::CveRecords, feed::cve::parse(bytes)?));
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::Nvd) {
        input.add_cve(note(&mut outcomes, Feed::Nvd, feed::cve::parse_nvd(bytes)?));
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::AlpineSecdb) {
        let statements = note(&mut outcomes, Feed::AlpineSecdb, feed::secdb::parse(bytes)?);
        input.advisories.extend(statements);
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::RedHatCsaf) {
        let records = feed::csaf::redhat::parse(bytes)?;
        input.add_osv(note(&mut outcomes, Feed::RedHatCsaf, records));
    }
    for vendor in RpmVendor::ALL {
        let feed = Feed::UpdateInfo(vendor);
        if let Some(bytes) = feeds.bytes.get(&feed) {
            input.add_osv(note(&mut outcomes, feed, feed::updateinfo::parse(vendor, bytes)?));
        }
    }
    if let Some(bytes) = feeds.bytes.get(&Feed::Vex) {
        input.vex = note(&mut outcomes, Feed::Vex, feed::vex::parse(bytes)?);
    }
    let mut lists = Lists::default();
    for (list, entries) in
        [(List::Cve, &mut lists.cve), (List::Dsa, &mut lists.dsa), (List::Dla, &mut lists.dla)]
    {
        let feed = Feed::DebianList(list);
        if let Some(bytes) = feeds.bytes.get(&feed) {
            *entries = note(&mut outcomes, feed, feed::debian_list::parse(list, bytes)?);
        }
    }
    let mut resolved = feed::debian_list::resolve(&lists);
    if lists.cve.is_empty() {
        // Advisories alone know what was fixed, not what is open: they only date.
        resolved.statements.clear();
    }
    input.add_debian_lists(resolved);
    // After the tracker, whose releases are its own.
    for publisher in Publisher::ALL {
        let feed = Feed::Osv(publisher);
        if let Some(bytes) = feeds.bytes.get(&feed) {
            input.add_osv(note(&mut outcomes, feed, feed::osv::parse(publisher, bytes)?));
        }
    }
    // After all that speak of the same releases by their sources.
    for vendor in OvalVendor::ALL {
        let feed = Feed::Oval(vendor);
        if let Some(bytes) = feeds.bytes.get(&feed) {
            input.add_oval(note(&mut outcomes, feed, feed::oval::parse(vendor, bytes)?));
        }
    }
    Ok(Loaded { catalogue: Catalogue::build(input), feeds: outcomes })
}

fn note<T>(outcomes: &mut Vec<FeedOutcome>, feed: Feed, parsed: Parsed<T>) -> Vec<T> {
    let (records, rejected) = (parsed.records.len(), parsed.rejected());
    outcomes.push(FeedOutcome { feed, records, rejected, errors: parsed.errors });
    parsed.records
}

/// `SNAPSHOT.toml`: what the files of a snapshot are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// One for each feed.
    pub file: Vec<ManifestFile>,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestFile {
    /// Its name, beside the manifest. Compressed with Zstandard.
    pub name: String,
    /// Which feed it is.
    pub feed: Feed,
    /// Day of the data.
    #[serde(deserialize_with = "date")]
    pub as_of: Date,
    /// Where it is from and what was done to it.
    pub origin: String,
    /// Under which terms, and to whom credit is due.
    pub licence: String,
    /// Digest of the compressed file.
    pub sha256: Digest,
}

fn date<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Date, D::Error> {
    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
}

impl Manifest {
    /// Parses `SNAPSHOT.toml`.
    ///
    /// # Errors
    /// [`SnapshotError::Manifest`] with line and cause, [`SnapshotError::Twice`].
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        let manifest: Self =
            toml::from_str(text).map_err(|e| SnapshotError::Manifest(e.to_string()))?;
        for (i, file) in manifest.file.iter().enumerate() {
            if manifest.file[..i].iter().any(|f| f.feed == file.feed) {
                return Err(SnapshotError::Twice(file.feed));
            }
        }
        Ok(manifest)
    }

    /// Day of each feed.
    pub fn as_of(&self) -> BTreeMap<Feed, Date> {
        self.file.iter().map(|f| (f.feed, f.as_of)).collect()
    }
}

impl ManifestFile {
    /// Is this the file the manifest was written for?
    ///
    /// # Errors
    /// [`SnapshotError::Digest`] where it is not.
    pub fn verify(&self, compressed: &[u8]) -> Result<(), SnapshotError> {
        let found = Digest::of(compressed);
        if found == self.sha256 {
            return Ok(());
        }
        Err(SnapshotError::Digest { file: self.name.clone(), found, expected: self.sha256 })
    }
}
