//! One vendor's statement about one vulnerability in one source package for one release.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A vendor's statement, with what others say about the same vulnerability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advisory {
    /// The vulnerability: `CVE-2024-5535`, or the vendor's own name where there is no CVE (`TEMP-0000000-1A2B3C`).
    pub id: String,
    /// Source package the statement is about.
    pub source: String,
    /// Release the statement is about: `bookworm`.
    pub release: String,
    /// What the vendor says.
    pub status: AdvisoryStatus,
    /// The vendor's own urgency or severity word, as it stands.
    pub urgency: String,
    /// Where the statement was read: feed name and date, for `explain`.
    pub evidence: String,
}

/// What a vendor says of a vulnerability in a source package of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum AdvisoryStatus {
    /// Versions below `version` are affected, from `version` on they are not.
    Fixed {
        /// First version of the source package without the vulnerability.
        version: String,
    },
    /// Affected, and no fixed version exists in this release.
    Open {
        /// Why not, in the vendor's words (`<no-dsa>`, `<postponed>`, `<ignored>`, `<end-of-life>`), else empty.
        reason: String,
        /// First version without the vulnerability outside this release (Debian: in unstable), where the vendor names one.
        /// Whoever has it is not affected; to whom it is offered, for them there is a fix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elsewhere: Option<String>,
    },
    /// Versions in any of these ranges are affected, others are not: what is said of packages of languages, of which
    /// several lines are kept up side by side.
    Ranges {
        /// Each by itself; they may overlap.
        ranges: Vec<VersionRange>,
    },
    /// The release never was affected (Debian writes `fixed_version` `0`).
    NotAffected,
    /// The vendor has not decided.
    Undetermined,
}

/// Versions from one to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionRange {
    /// First affected version. `0`: from the beginning.
    pub introduced: String,
    /// First version that is not affected any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// Last affected version, where no fixed one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { introduced, fixed, last } = self;
        match (introduced.as_str(), fixed, last) {
            ("0", None, None) => write!(f, "all versions"),
            (from, None, None) => write!(f, "from {from} on"),
            ("0", Some(fixed), _) => write!(f, "below {fixed}"),
            (from, Some(fixed), _) => write!(f, "from {from} to below {fixed}"),
            ("0", None, Some(last)) => write!(f, "up to {last}"),
            (from, None, Some(last)) if from == last => write!(f, "{from}"),
            (from, None, Some(last)) => write!(f, "from {from} to {last}"),
        }
    }
}

/// What the world says about a vulnerability: only for ranking, never for deciding who is affected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranking {
    /// CVSS base score, 0.0 to 10.0, highest version at hand.
    pub cvss: Option<f32>,
    /// The CVSS vector that gave it.
    pub cvss_vector: Option<String>,
    /// EPSS: probability of exploitation in the next 30 days, 0.0 to 1.0 (FIRST).
    pub epss: Option<f32>,
    /// On CISA's list of vulnerabilities known to be exploited.
    pub kev: Option<Kev>,
    /// When the vendor published its fix or statement; deadlines count from here.
    pub published: Option<Date>,
}

/// An entry of CISA's Known Exploited Vulnerabilities catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kev {
    /// Day it was added.
    pub date_added: Date,
    /// Day by which US federal agencies must act.
    pub due_date: Date,
    /// Used by ransomware campaigns?
    pub ransomware: bool,
}
