//! Who is exposed to what, and why.
//!
//! The rules, which are Debian's own (`security_tracker` manual, "installed package → vulnerability"); what is different
//! with other vendors stands in `vendor`:
//!
//! * A statement is about a *source* package of a *release*. So an installed binary counts by its source's name
//!   and version, never by its own version (they differ for binNMUs, `bpftool`, samba's `libldb2`, ...).
//! * Signed packages are built from another source and say so only in their name: `linux-signed-amd64`
//!   `6.1.123+1` is `linux` `6.1.123-1` ([`vendor_source`]).
//! * Fixed in V: affected where the installed version is below V. No fix: affected whatever the version.
//!   `fixed_version` 0: never affected. Undetermined: neither; listed apart as [`Doubt`].
//! * A kernel image counts only while it *runs*. Images that are installed and do not run make no finding of their
//!   own; a fixed one among them turns `open` into `pending-reboot`. Where the running kernel is none of the host's
//!   packages (a container), no kernel image is judged, and [`KernelCoverage::NotThisHosts`] says so. Everything else
//!   that is built from the kernel's source (`linux-libc-dev`, `linux-perf`) counts by its installed version.
//! * Fixed on disk is not yet gone: see [`HostView::previous`].

use fettle_core::Timestamp;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Os};
use fettle_core::language::Ecosystem;
use fettle_core::policy::names_source;
use fettle_core::{HostId, advisory::AdvisoryStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod anew;
mod carry;
mod catalogue;
mod explain;
mod facts;
mod fleet;
mod guard;
mod input;
mod judge;
mod own;
mod part;
mod pockets;
mod roots;
mod signed;
mod slices;
mod vendor;

pub use anew::{Changed, Concern};
pub(crate) use catalogue::KeyedRange;
pub use catalogue::{Catalogue, Cvss, Publication, Statement};
pub use explain::{Explanation, Reason, Topic};
pub use fleet::{
    CatalogueChange, CatalogueWithdrawal, FindingDelta, FleetIndex, HostChange, Risk, Totals,
    Touched, Unusable, Worst,
};
pub use guard::Sudden;
pub use input::CatalogueInput;
pub(crate) use part::{CompactPart, CompactStatement, CompactVulnerability, Wanted};
pub(crate) use pockets::PRO;
pub use signed::vendor_source;
pub use vendor::release_name;
pub(crate) use vendor::{Rules, binary_subject, is_modular, scheme_of, source_subject};

/// An inventory's gap (`Inventory::gaps`) that begins with one of these says that processes could not be looked
/// at. Then an empty list of stale processes proves nothing, and a finding that is fixed on disk stays
/// `pending-restart`.
pub const MEMORY_GAPS: [&str; 2] = ["processes", "files that processes map"];

/// An inventory's gap that begins with this says that the package database could not be read. Then, as with a
/// list without any package, nothing is judged anew and what was found before stays as it was.
pub const PACKAGES_GAP: &str = "installed packages";

/// An inventory's gap that begins with this says that only packages are known, of a file that lists them. Then nothing was
/// looked at that runs, and no source that could offer a fix.
pub const ONLY_PACKAGES_GAP: &str = "what runs, which kernel, what is offered";

/// Is no more known of a system than its packages ([`ONLY_PACKAGES_GAP`])?
pub fn is_packages_alone(inventory: &Inventory) -> bool {
    inventory.gaps.iter().any(|gap| gap.starts_with(ONLY_PACKAGES_GAP))
}

/// An inventory's gap that begins with this says that not every place of packages of languages could be looked at. Then one
/// that is not listed is not taken for removed.
pub const LANGUAGES_GAP: &str = "packages of languages";

/// One host as it is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct HostView<'a> {
    /// The host.
    pub host: &'a HostId,
    /// What it reported.
    pub inventory: &'a Inventory,
    /// What was found before (any state), from the last judgement. A finding that was vulnerable and is fixed on
    /// disk now becomes `pending-restart` while a process still maps replaced files of its packages, and `fixed`
    /// once none does. A finding that was never known before and is fixed on disk is no finding.
    pub previous: &'a [Finding],
    /// Source package → version that ran before the last change, where that is known. With it, findings that were
    /// never judged while open (a host that enrolled after its upgrade) become `pending-restart` too.
    pub ran_before: &'a BTreeMap<String, String>,
    /// Exceptions that hold for this host now.
    pub accepted: &'a [Exception],
}

/// A vulnerability that somebody decided to live with for a while. Whether it still holds, and for which
/// hosts, is decided before it is handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// `CVE-2024-5535`.
    pub id: String,
    /// Only in this source package; `None`: in all.
    pub source: Option<String>,
    /// Who decided.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
    /// What was decided.
    #[serde(default)]
    pub verdict: Verdict,
}

/// What somebody decided about a vulnerability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The host is affected, and that is lived with: `accepted`.
    #[default]
    Accepted,
    /// The host is not affected, by one's own statement (VEX): `not-affected`.
    NotAffected,
}

impl Exception {
    /// Does it cover this vulnerability in this source package? What is lived with may be named by the plain name of its
    /// package ([`fettle_core::policy::names_source`]); one's own statement is about what it names and nothing else.
    pub fn covers(&self, id: &str, source: &str) -> bool {
        let names = |named: &str| match self.verdict {
            Verdict::Accepted => names_source(named, source),
            Verdict::NotAffected => named == source,
        };
        self.id == id && self.source.as_deref().is_none_or(names)
    }
}

/// What judging a host gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What could be judged at all. Look here first: without coverage, no findings mean nothing.
    pub coverage: Coverage,
    /// What of each root on the host could be judged, by [`fettle_core::root::Root::id`].
    pub roots: BTreeMap<String, Coverage>,
    /// What of its packages of languages could not be judged: ecosystems that no data is loaded of.
    pub languages: BTreeMap<Ecosystem, Coverage>,
    /// By source package, then vulnerability; those in roots under their names there
    /// ([`fettle_core::root::subject`]). Class and deadline are empty: policy fills them in.
    pub findings: Vec<Finding>,
    /// Findings of before that went without anything on the host having fixed them.
    pub withdrawn: Vec<Withdrawn>,
    /// Statements about installed packages that the vendor has not decided.
    pub doubts: Vec<Doubt>,
}

/// What of a host could be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "coverage", rename_all = "kebab-case")]
pub enum Coverage {
    /// The vendor's data covers the host's release.
    Release {
        /// Its name ([`release_name`]).
        release: String,
        /// How the kernel was judged.
        kernel: KernelCoverage,
        /// `name version` of packages whose version is not well-formed, so that its order is a guess; and of packages of
        /// a module, which are not judged, because the host does not say of which stream.
        odd_versions: Vec<String>,
    },
    /// The host could not say which packages it has. What was found before stays as it was.
    NoPackages {
        /// Its release.
        release: String,
        /// What the host says about it: the gaps of its inventory.
        gaps: Vec<String>,
    },
    /// No data for the host's distribution or release: nothing is known about its vulnerabilities.
    UnknownRelease {
        /// What the host says it is.
        os: Os,
        /// Releases there is data for.
        known: Vec<String>,
    },
    /// No data for packages of this language: nothing is known about their vulnerabilities.
    UnknownEcosystem {
        /// Whose packages.
        ecosystem: Ecosystem,
        /// How many the host has.
        packages: usize,
    },
}

impl Coverage {
    /// For people: what is not covered and what to do, or `None` where all is well.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::UnknownRelease { os, known } => Some(format!(
                "no vulnerability data for {} (ID {:?}, codename {:?}): nothing is known about this host's \
                 vulnerabilities. Data is loaded for {}; load a feed for this distribution with \
                 `fettle feed import`, or correct /etc/os-release if it is wrong",
                if os.pretty.is_empty() { "a system without a name" } else { &os.pretty },
                os.id,
                os.codename,
                if known.is_empty() { "nothing yet".to_owned() } else { known.join(", ") },
            )),
            Self::UnknownEcosystem { ecosystem, packages } => Some(format!(
                "no vulnerability data for packages of {ecosystem}: nothing is known about the vulnerabilities of {packages} \
                 that are installed. Load the feed osv-{}",
                ecosystem.word(),
            )),
            Self::NoPackages { gaps, .. } => Some(format!(
                "the host reported no installed packages ({}): nothing was judged anew, and what was found before stays. \
                 Run `fettle-agent inventory` there as root and mend what it complains about",
                if gaps.is_empty() { "and did not say why".to_owned() } else { gaps.join("; ") },
            )),
            Self::Release { kernel: KernelCoverage::Unknown { running }, .. } => Some(format!(
                "the running kernel {running:?} could not be matched to a package version: its vulnerabilities are \
                 not judged. Reinstall the kernel package that runs, or reboot into an installed one"
            )),
            Self::Release { .. } => None,
        }
    }
}

/// How a host's kernel was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kernel", rename_all = "kebab-case")]
pub enum KernelCoverage {
    /// The running kernel was judged by this version of its source package.
    Running {
        /// Source package: `linux`.
        source: String,
        /// Its version: `6.1.119-1`.
        version: String,
    },
    /// The running kernel is not this host's (a container): it is judged on the machine that owns it.
    NotThisHosts,
    /// It should be this host's, but its version could not be told.
    Unknown {
        /// `uname -r`.
        running: String,
    },
}

/// A finding that went although nothing on the host fixed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Withdrawn {
    /// The vulnerability.
    pub id: String,
    /// Source package.
    pub source: String,
    /// The state it had.
    pub before: FindingState,
    /// Why it is not a finding any more.
    pub why: Withdrawal,
}

/// Why a finding went without a fix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Withdrawal {
    /// The vendor's data has no statement about it any more.
    StatementGone,
    /// The vendor says something else now.
    StatementChanged {
        /// What it says.
        now: AdvisoryStatus,
    },
    /// The host's release is not covered any more.
    NotCovered,
    /// The running kernel can no longer be judged.
    KernelNotJudged,
}

/// A statement the vendor has not decided, about a package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The vulnerability.
    pub id: String,
    /// Source package.
    pub source: String,
}
