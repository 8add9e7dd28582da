//! Advisory × host: is this host exposed to this vulnerability, and what is known about it.

use crate::{HostId, Timestamp, advisory::Ranking, root};
use serde::{Deserialize, Serialize};

/// One vulnerability on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The host.
    pub host: HostId,
    /// The vulnerability: `CVE-2024-5535`.
    pub id: String,
    /// Source package. In another root on the host with that before it: [`root::subject`].
    pub source: String,
    /// Installed version of the source package that was judged (for kernels: the running one).
    pub installed: String,
    /// Installed binary packages built from that source.
    pub binaries: Vec<String>,
    /// Where it stands.
    pub state: FindingState,
    /// First version without the vulnerability, where the vendor names one.
    pub fixed_version: Option<String>,
    /// Do the host's own sources offer a version that is fixed? `false` with a fixed version means: mirror lag,
    /// a source that is not configured, or a held package.
    pub offered: bool,
    /// Some process maps a file of the package.
    pub in_use: bool,
    /// Such a process listens beyond loopback.
    pub exposed: bool,
    /// Vendor's urgency word.
    pub urgency: String,
    /// CVSS, EPSS, KEV, date.
    pub ranking: Ranking,
    /// Which class of the host's policy it falls into. Empty without a policy.
    pub class: String,
    /// By when that policy owes the fix.
    pub deadline: Option<Timestamp>,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingState {
    /// A fix exists and is not installed.
    Open,
    /// Affected, and the vendor has no fix for this release.
    NoFixYet,
    /// Fixed on disk; a process still maps the old file.
    PendingRestart,
    /// Fixed on disk; the running kernel is the old one.
    PendingReboot,
    /// An exception with owner, reason and expiry.
    Accepted,
    /// By one's own statement (VEX) this host is not affected.
    NotAffected,
    /// Proved gone, on disk and in memory.
    Fixed,
}

impl FindingState {
    /// All of them, what calls for attention first.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::NoFixYet,
        Self::PendingRestart,
        Self::PendingReboot,
        Self::Accepted,
        Self::NotAffected,
        Self::Fixed,
    ];

    /// Does the host still run vulnerable code?
    pub fn is_vulnerable(self) -> bool {
        !matches!(self, Self::NotAffected | Self::Fixed)
    }
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NoFixYet => "no-fix-yet",
            Self::PendingRestart => "pending-restart",
            Self::PendingReboot => "pending-reboot",
            Self::Accepted => "accepted",
            Self::NotAffected => "not-affected",
            Self::Fixed => "fixed",
        }
    }
}

/// How bad, in four words that people use. Derived from KEV, CVSS and the vendor's urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The vendor calls it negligible or unimportant.
    Negligible,
    /// CVSS below 4.0.
    Low,
    /// CVSS 4.0 to 6.9, or nothing known.
    Medium,
    /// CVSS 7.0 to 8.9.
    High,
    /// CVSS from 9.0, or known to be exploited.
    Critical,
}

impl Severity {
    /// All of them, worst first.
    pub const ALL: [Self; 5] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Negligible];

    /// CVSS v3.1 section 5 bands; KEV makes it critical; Debian's `unimportant` and Ubuntu's `negligible` make it
    /// negligible. Without a score the vendor's word counts, in lower case: Debian's, Ubuntu's, Red Hat's.
    pub fn judge(ranking: &Ranking, urgency: &str) -> Self {
        if ranking.kev.is_some() {
            return Self::Critical;
        }
        if matches!(urgency, "unimportant" | "negligible") {
            return Self::Negligible;
        }
        match (ranking.cvss, urgency) {
            (Some(s), _) if s >= 9.0 => Self::Critical,
            (Some(s), _) if s >= 7.0 => Self::High,
            (Some(s), _) if s >= 4.0 => Self::Medium,
            (Some(_), _) => Self::Low,
            (None, "critical") => Self::Critical,
            (None, "high" | "important") => Self::High,
            (None, "low") => Self::Low,
            (None, _) => Self::Medium,
        }
    }
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Finding {
    /// The root on the host that it is in ([`root::Root::id`]); `None`: the host itself.
    pub fn root(&self) -> Option<&str> {
        root::of_subject(&self.source).0
    }

    /// Its source package, by the plain name.
    pub fn package(&self) -> &str {
        root::of_subject(&self.source).1
    }

    /// How bad.
    pub fn severity(&self) -> Severity {
        Severity::judge(&self.ranking, &self.urgency)
    }

    /// Sort key, worst first when sorted descending: KEV, exposed, severity, EPSS, CVSS (in thousandths), in use.
    pub fn rank(&self) -> (bool, Severity, bool, u32, u32, bool) {
        let mil = |x: Option<f32>| (x.unwrap_or(0.0).max(0.0) * 1000.0) as u32;
        (
            self.ranking.kev.is_some(),
            self.severity(),
            self.exposed,
            mil(self.ranking.epss),
            mil(self.ranking.cvss),
            self.in_use,
        )
    }
}
