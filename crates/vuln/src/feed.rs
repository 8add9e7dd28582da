//! Feeds: bytes of a vendor's publication in, typed records and per-record errors out.
//!
//! Every parser here holds to the same rules. A document that cannot be understood as a whole is a
//! [`FeedError`], and the last good one stays in use. A record that cannot be understood is left out and named
//! in [`Parsed::errors`] with its line; the others count. Fields this crate does not know are ignored. Names and
//! versions are bounded and checked before they get anywhere else. Nothing panics, whatever the bytes.

pub mod csaf;
pub mod cve;
pub mod cvss;
pub mod debian;
pub mod debian_list;
pub mod dsa;
pub mod epss;
pub mod kev;
pub mod osv;
pub mod oval;
pub mod purl;
pub mod secdb;
pub mod updateinfo;
pub mod vex;

mod document;
mod lines;
mod xml;

use debian_list::List;
use fettle_core::language::Ecosystem;
use jiff::civil::Date;
pub(crate) use osv::{debian_codename, debian_number};
use oval::OvalVendor;
use serde::{Deserialize, Serialize};
use std::fmt;
use updateinfo::RpmVendor;

/// Larger documents are refused unread: 512 MiB. The largest vendor feed in use has about 70 MB.
pub const MAX_FEED_BYTES: usize = 512 << 20;
/// At most that many [`RecordError`]s are kept; the rest are counted.
pub const MAX_ERRORS_KEPT: usize = 200;
/// Longest name (package, release, vulnerability), in bytes.
pub const MAX_NAME: usize = 128;
/// Longest name of a package of a language, in bytes.
pub const MAX_LANGUAGE_NAME: usize = 214;
/// Longest version, in bytes.
pub const MAX_VERSION: usize = 256;
/// Longest free text that is kept, in bytes; more is cut.
pub const MAX_TEXT: usize = 1000;

/// The feeds there are. In words: `debian-tracker`, `kev`, `osv-almalinux`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Feed {
    /// Debian security tracker, JSON.
    DebianTracker,
    /// Debian's advisories (DSA, DLA) with their dates, JSON lines.
    DebianAdvisories,
    /// One of the tracker's own text files.
    DebianList(debian_list::List),
    /// CISA Known Exploited Vulnerabilities, JSON.
    Kev,
    /// FIRST EPSS scores, CSV.
    Epss,
    /// CVSS scores, JSON lines.
    Cvss,
    /// CVE records, JSON 5, with CISA's SSVC where they carry it.
    CveRecords,
    /// NVD's records, JSON.
    Nvd,
    /// One's own statements, OpenVEX or CSAF.
    Vex,
    /// Alpine's security database, JSON.
    AlpineSecdb,
    /// Red Hat's advisories and pages of vulnerabilities, CSAF.
    RedHatCsaf,
    /// One vendor's `updateinfo.xml`.
    UpdateInfo(RpmVendor),
    /// One publisher's advisories in the OSV format, JSON lines.
    Osv(Publisher),
    /// One vendor's OVAL definitions, XML.
    Oval(OvalVendor),
}

/// Whose advisories an OSV feed holds. A feed speaks of its publisher's releases only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Publisher {
    /// AlmaLinux.
    AlmaLinux,
    /// Alpine.
    Alpine,
    /// Chainguard, and Wolfi, which stands in the same records.
    Chainguard,
    /// Debian.
    Debian,
    /// Red Hat.
    RedHat,
    /// Rocky Linux.
    Rocky,
    /// SUSE, and openSUSE, which stands in the same records.
    Suse,
    /// Ubuntu.
    Ubuntu,
    /// All who publish about packages of a language: GitHub, PyPA, RustSec and others.
    Language(Ecosystem),
}

impl Publisher {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AlmaLinux,
        Self::Alpine,
        Self::Chainguard,
        Self::Debian,
        Self::RedHat,
        Self::Rocky,
        Self::Suse,
        Self::Ubuntu,
        Self::Language(Ecosystem::Cargo),
        Self::Language(Ecosystem::Gem),
        Self::Language(Ecosystem::Maven),
        Self::Language(Ecosystem::Npm),
        Self::Language(Ecosystem::Pypi),
    ];

    /// Who speaks of packages of a language.
    pub fn of(ecosystem: Ecosystem) -> Self {
        Self::Language(ecosystem)
    }

    /// First words of the OSV ecosystems it speaks of.
    pub fn ecosystems(self) -> &'static [&'static str] {
        match self {
            Self::AlmaLinux => &["AlmaLinux"],
            Self::Alpine => &["Alpine"],
            Self::Chainguard => &["Chainguard", "Wolfi"],
            Self::Debian => &["Debian"],
            Self::RedHat => &["Red Hat"],
            Self::Rocky => &["Rocky Linux"],
            Self::Suse => &["SUSE", "openSUSE"],
            Self::Ubuntu => &["Ubuntu"],
            Self::Language(Ecosystem::Cargo) => &["crates.io"],
            Self::Language(Ecosystem::Gem) => &["RubyGems"],
            Self::Language(Ecosystem::Maven) => &["Maven"],
            Self::Language(Ecosystem::Npm) => &["npm"],
            Self::Language(Ecosystem::Pypi) => &["PyPI"],
        }
    }
}

impl Feed {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::DebianTracker,
        Self::DebianAdvisories,
        Self::DebianList(List::Cve),
        Self::DebianList(List::Dsa),
        Self::DebianList(List::Dla),
        Self::Kev,
        Self::Epss,
        Self::Cvss,
        Self::CveRecords,
        Self::Nvd,
        Self::Vex,
        Self::AlpineSecdb,
        Self::RedHatCsaf,
        Self::UpdateInfo(RpmVendor::AlmaLinux),
        Self::UpdateInfo(RpmVendor::Amazon),
        Self::UpdateInfo(RpmVendor::Fedora),
        Self::UpdateInfo(RpmVendor::Oracle),
        Self::UpdateInfo(RpmVendor::RedHat),
        Self::UpdateInfo(RpmVendor::Rocky),
        Self::Osv(Publisher::AlmaLinux),
        Self::Osv(Publisher::Alpine),
        Self::Osv(Publisher::Chainguard),
        Self::Osv(Publisher::Debian),
        Self::Osv(Publisher::RedHat),
        Self::Osv(Publisher::Rocky),
        Self::Osv(Publisher::Suse),
        Self::Osv(Publisher::Ubuntu),
        Self::Osv(Publisher::Language(Ecosystem::Cargo)),
        Self::Osv(Publisher::Language(Ecosystem::Gem)),
        Self::Osv(Publisher::Language(Ecosystem::Maven)),
        Self::Osv(Publisher::Language(Ecosystem::Npm)),
        Self::Osv(Publisher::Language(Ecosystem::Pypi)),
        Self::Oval(OvalVendor::AlmaLinux),
        Self::Oval(OvalVendor::Debian),
        Self::Oval(OvalVendor::Oracle),
        Self::Oval(OvalVendor::RedHat),
        Self::Oval(OvalVendor::Suse),
        Self::Oval(OvalVendor::Ubuntu),
    ];

    /// The word, as CLI, API and manifests write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::DebianTracker => "debian-tracker",
            Self::DebianAdvisories => "debian-advisories",
            Self::DebianList(List::Cve) => "debian-cve-list",
            Self::DebianList(List::Dsa) => "debian-dsa-list",
            Self::DebianList(List::Dla) => "debian-dla-list",
            Self::Kev => "kev",
            Self::Epss => "epss",
            Self::Cvss => "cvss",
            Self::CveRecords => "cve-records",
            Self::Nvd => "nvd",
            Self::Vex => "vex",
            Self::AlpineSecdb => "alpine-secdb",
            Self::RedHatCsaf => "csaf-redhat",
            Self::UpdateInfo(RpmVendor::AlmaLinux) => "updateinfo-almalinux",
            Self::UpdateInfo(RpmVendor::Amazon) => "updateinfo-amazon",
            Self::UpdateInfo(RpmVendor::Fedora) => "updateinfo-fedora",
            Self::UpdateInfo(RpmVendor::Oracle) => "updateinfo-oracle",
            Self::UpdateInfo(RpmVendor::RedHat) => "updateinfo-redhat",
            Self::UpdateInfo(RpmVendor::Rocky) => "updateinfo-rocky",
            Self::Osv(Publisher::AlmaLinux) => "osv-almalinux",
            Self::Osv(Publisher::Alpine) => "osv-alpine",
            Self::Osv(Publisher::Chainguard) => "osv-chainguard",
            Self::Osv(Publisher::Debian) => "osv-debian",
            Self::Osv(Publisher::RedHat) => "osv-redhat",
            Self::Osv(Publisher::Rocky) => "osv-rocky",
            Self::Osv(Publisher::Suse) => "osv-suse",
            Self::Osv(Publisher::Ubuntu) => "osv-ubuntu",
            Self::Osv(Publisher::Language(Ecosystem::Cargo)) => "osv-cargo",
            Self::Osv(Publisher::Language(Ecosystem::Gem)) => "osv-gem",
            Self::Osv(Publisher::Language(Ecosystem::Maven)) => "osv-maven",
            Self::Osv(Publisher::Language(Ecosystem::Npm)) => "osv-npm",
            Self::Osv(Publisher::Language(Ecosystem::Pypi)) => "osv-pypi",
            Self::Oval(OvalVendor::AlmaLinux) => "oval-almalinux",
            Self::Oval(OvalVendor::Debian) => "oval-debian",
            Self::Oval(OvalVendor::Oracle) => "oval-oracle",
            Self::Oval(OvalVendor::RedHat) => "oval-redhat",
            Self::Oval(OvalVendor::Suse) => "oval-suse",
            Self::Oval(OvalVendor::Ubuntu) => "oval-ubuntu",
        }
    }

    /// The feed of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feed| feed.word() == word)
    }

    /// Is one of this kind among the data that goes with Fettle? The others are listed once they were imported.
    pub fn goes_with_fettle(self) -> bool {
        use Feed::{Cvss, DebianAdvisories, DebianTracker, Epss, Kev};
        matches!(self, DebianTracker | DebianAdvisories | Kev | Epss | Cvss)
    }

    /// Does it say who is affected? The others only rank and date.
    pub fn says_who_is_affected(self) -> bool {
        use Feed::{AlpineSecdb, DebianList, DebianTracker, Osv, Oval, RedHatCsaf, UpdateInfo};
        matches!(
            self,
            DebianTracker
                | DebianList(List::Cve)
                | AlpineSecdb
                | RedHatCsaf
                | UpdateInfo(_)
                | Osv(_)
                | Oval(_)
        )
    }
}

impl From<Feed> for &'static str {
    fn from(feed: Feed) -> Self {
        feed.word()
    }
}

impl TryFrom<String> for Feed {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        Self::from_word(&word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|f| f.word()).collect();
            format!("there is no feed `{}`: one of {}", clean_text(&word), known.join(", "))
        })
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DebianTracker => "Debian security tracker feed",
            Self::DebianAdvisories => "Debian advisories feed",
            Self::DebianList(List::Cve) => "Debian CVE list",
            Self::DebianList(List::Dsa) => "Debian DSA list",
            Self::DebianList(List::Dla) => "Debian DLA list",
            Self::Kev => "KEV feed",
            Self::Epss => "EPSS feed",
            Self::Cvss => "CVSS feed",
            Self::CveRecords => "feed of CVE records",
            Self::Nvd => "NVD feed",
            Self::Vex => "feed of own VEX statements",
            Self::AlpineSecdb => "Alpine secdb feed",
            Self::RedHatCsaf => "Red Hat CSAF feed",
            Self::UpdateInfo(RpmVendor::AlmaLinux) => "AlmaLinux updateinfo feed",
            Self::UpdateInfo(RpmVendor::Amazon) => "Amazon Linux updateinfo feed",
            Self::UpdateInfo(RpmVendor::Fedora) => "Fedora updateinfo feed",
            Self::UpdateInfo(RpmVendor::Oracle) => "Oracle Linux updateinfo feed",
            Self::UpdateInfo(RpmVendor::RedHat) => "Red Hat updateinfo feed",
            Self::UpdateInfo(RpmVendor::Rocky) => "Rocky Linux updateinfo feed",
            Self::Osv(Publisher::AlmaLinux) => "AlmaLinux OSV feed",
            Self::Osv(Publisher::Alpine) => "Alpine OSV feed",
            Self::Osv(Publisher::Chainguard) => "Chainguard OSV feed",
            Self::Osv(Publisher::Debian) => "Debian OSV feed",
            Self::Osv(Publisher::RedHat) => "Red Hat OSV feed",
            Self::Osv(Publisher::Rocky) => "Rocky Linux OSV feed",
            Self::Osv(Publisher::Suse) => "SUSE OSV feed",
            Self::Osv(Publisher::Ubuntu) => "Ubuntu OSV feed",
            Self::Osv(Publisher::Language(Ecosystem::Cargo)) => "crates.io OSV feed",
            Self::Osv(Publisher::Language(Ecosystem::Gem)) => "RubyGems OSV feed",
            Self::Osv(Publisher::Language(Ecosystem::Maven)) => "Maven OSV feed",
            Self::Osv(Publisher::Language(Ecosystem::Npm)) => "npm OSV feed",
            Self::Osv(Publisher::Language(Ecosystem::Pypi)) => "PyPI OSV feed",
            Self::Oval(OvalVendor::AlmaLinux) => "AlmaLinux OVAL feed",
            Self::Oval(OvalVendor::Debian) => "Debian OVAL feed",
            Self::Oval(OvalVendor::Oracle) => "Oracle Linux OVAL feed",
            Self::Oval(OvalVendor::RedHat) => "Red Hat OVAL feed",
            Self::Oval(OvalVendor::Suse) => "SUSE OVAL feed",
            Self::Oval(OvalVendor::Ubuntu) => "Ubuntu OVAL feed",
        })
    }
}

/// Why a document as a whole cannot be used. The caller keeps the last good one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// No bytes, or only white space.
    #[error("the {feed} is empty: fetch it again; the last good one stays in use")]
    Empty {
        /// Which feed.
        feed: Feed,
    },
    /// More than [`MAX_FEED_BYTES`].
    #[error(
        "the {feed} has {bytes} bytes, more than the {MAX_FEED_BYTES} that are read: check its source"
    )]
    TooLarge {
        /// Which feed.
        feed: Feed,
        /// Its size.
        bytes: usize,
    },
    /// It ends in the middle of something, or has fewer records than it says.
    #[error(
        "the {feed} is cut off at line {line}, column {column} ({what}): fetch it again; the last good one stays in use"
    )]
    Truncated {
        /// Which feed.
        feed: Feed,
        /// Line of the end, from 1.
        line: usize,
        /// Column of the end, from 1.
        column: usize,
        /// How it shows.
        what: String,
    },
    /// Not the format it should be.
    #[error(
        "the {feed} is malformed at line {line}, column {column}: {what}. Is it the right file, decompressed?"
    )]
    Malformed {
        /// Which feed.
        feed: Feed,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// Well-formed, but not one record in it can be used.
    #[error(
        "the {feed} holds no usable record ({rejected} rejected{first}): is it the right file?"
    )]
    NothingUsable {
        /// Which feed.
        feed: Feed,
        /// How many records were rejected.
        rejected: usize,
        /// `, the first at line N: why`, or empty.
        first: String,
    },
}

impl FeedError {
    /// Which feed it is about.
    pub fn feed(&self) -> Feed {
        match self {
            Self::Empty { feed }
            | Self::TooLarge { feed, .. }
            | Self::Truncated { feed, .. }
            | Self::Malformed { feed, .. }
            | Self::NothingUsable { feed, .. } => *feed,
        }
    }
}

/// Why one record of a document was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {place}: {what}")]
pub struct RecordError {
    /// Which record, in the feed's own terms: `openssl CVE-2024-5535 bookworm`.
    pub place: String,
    /// Line in the document, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// What a document gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The usable records, in the document's order.
    pub records: Vec<T>,
    /// The first [`MAX_ERRORS_KEPT`] records that were left out, in the document's order.
    pub errors: Vec<RecordError>,
    /// How many more were left out.
    pub errors_not_kept: usize,
}

impl<T> Parsed<T> {
    /// How many records were left out.
    pub fn rejected(&self) -> usize {
        self.errors.len() + self.errors_not_kept
    }
}

/// The day that stands in a feed's document, as its publisher dates it: KEV's `dateReleased`, EPSS's `score_date`. The others
/// do not say.
pub fn date_of(feed: Feed, bytes: &[u8]) -> Option<Date> {
    match feed {
        Feed::Kev => kev::date(bytes),
        Feed::Epss => epss::date(bytes),
        _ => None,
    }
}

/// How many records of a feed can be used, and how many were left out.
///
/// # Errors
/// [`FeedError`] where the document as a whole cannot be used.
pub fn count(feed: Feed, bytes: &[u8]) -> Result<(usize, usize), FeedError> {
    fn both<T>(parsed: &Parsed<T>) -> (usize, usize) {
        (parsed.records.len(), parsed.rejected())
    }
    Ok(match feed {
        Feed::DebianTracker => both(&debian::parse(bytes)?),
        Feed::DebianAdvisories => both(&dsa::parse(bytes)?),
        Feed::DebianList(list) => both(&debian_list::parse(list, bytes)?),
        Feed::Kev => both(&kev::parse(bytes)?),
        Feed::Epss => both(&epss::parse(bytes)?),
        Feed::Cvss => both(&cvss::parse(bytes)?),
        Feed::CveRecords => both(&cve::parse(bytes)?),
        Feed::Nvd => both(&cve::parse_nvd(bytes)?),
        Feed::Vex => both(&vex::parse(bytes)?),
        Feed::AlpineSecdb => both(&secdb::parse(bytes)?),
        Feed::RedHatCsaf => both(&csaf::redhat::parse(bytes)?),
        Feed::UpdateInfo(vendor) => both(&updateinfo::parse(vendor, bytes)?),
        Feed::Osv(publisher) => both(&osv::parse(publisher, bytes)?),
        Feed::Oval(vendor) => both(&oval::parse(vendor, bytes)?),
    })
}

/// Is this a vulnerability's name: `CVE-2024-5535`, `TEMP-0000000-A2EB44`, `DSA-1234-1`?
pub(crate) fn check_vulnerability(id: &str) -> Result<(), String> {
    check_name("vulnerability", id, |c| c.is_ascii_alphanumeric() || c == '-')
}

/// Is this a source package or release name?
pub(crate) fn check_package(kind: &str, name: &str) -> Result<(), String> {
    check_name(kind, name, |c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

/// Is this the name of a package of a language? npm's are the longest, with 214 characters.
pub(crate) fn check_language_package(ecosystem: Ecosystem, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_LANGUAGE_NAME {
        return Err(format!("a package name of {} bytes", name.len()));
    }
    if let Some(odd) = name.chars().find(|c| !c.is_ascii_graphic() || "\"\\<>".contains(*c)) {
        return Err(format!("the package name holds {odd:?}"));
    }
    if ecosystem == Ecosystem::Maven && name.split(':').filter(|part| !part.is_empty()).count() != 2
    {
        return Err("the package name is no `group:artifact`".to_owned());
    }
    Ok(())
}

fn check_name(kind: &str, name: &str, allowed: impl Fn(char) -> bool) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("the {kind} name is empty"));
    }
    if name.len() > MAX_NAME {
        return Err(format!("the {kind} name has {} bytes, more than {MAX_NAME}", name.len()));
    }
    match name.chars().find(|&c| !allowed(c)) {
        Some(c) => Err(format!("the {kind} name holds {c:?}")),
        None => Ok(()),
    }
}

/// Cuts free text to [`MAX_TEXT`] bytes and replaces control characters by spaces.
pub(crate) fn clean_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
