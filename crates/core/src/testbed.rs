//! Ring 0: the very change, tried on a twin before any host of the plan is touched.
//!
//! A *twin* is a booted container that has the release and the exact packages of a cohort. A *worker* builds it, patches
//! it by the transaction of the product, takes the patch back, and reports. One test stands for one [`Work`]: these
//! changes, on hosts of that cohort. What a test is worth to a plan is decided here, by [`coverage()`].

use crate::assignment::{ApplyOrder, PackageChange, RebootRule};
use crate::inventory::{Inventory, Os, Package};
use crate::plan::{HostPlan, Plan};
use crate::policy::Selector;
use crate::transaction::Step;
use crate::{AssignmentId, Digest, HostId, Shared, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

mod coverage;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Covered, Standing, coverage};

/// The label that makes a host a worker where a policy does not say otherwise: `fettle.worker=true`.
pub const WORKER_LABEL: (&str, &str) = ("fettle.worker", "true");

/// Code of a test that was ended because something else was wanted of its worker: it says nothing about the change.
pub const INTERRUPTED: &str = "interrupted";

/// A test that was interrupted is asked for again by itself, so often in a row; then a person decides.
pub const ASKED_AGAIN: u32 = 3;

/// What a policy asks of the test environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestbedRule {
    /// No host of a plan is touched before a twin of each of its cohorts passed.
    pub required: bool,
    /// Which hosts are workers, by their labels.
    pub worker: Selector,
    /// A test older than this does not count, in seconds.
    pub max_age_seconds: u64,
    /// At least so much of a cohort's packages must have been mirrored exactly, in percent, for its test to count.
    pub mirrored_percent: u32,
}

impl Default for TestbedRule {
    fn default() -> Self {
        Self {
            required: false,
            worker: Selector::In {
                key: WORKER_LABEL.0.to_owned(),
                values: vec![WORKER_LABEL.1.to_owned()],
            },
            max_age_seconds: 7 * 86_400,
            mirrored_percent: 90,
        }
    }
}

/// What one test is about: these changes, on hosts of that cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Work {
    /// Which hosts.
    pub cohort: Digest,
    /// Digest of everything that is done to them and asked of them.
    pub changes: Digest,
}

impl Work {
    /// The work that a plan means for a host: two hosts of a cohort with the same changes, the same rules for
    /// configuration files, restarts and what is half-configured, and the same probes and margin for them, are the same
    /// work. What a twin is not told ([`TestOrder::of`]), how long is waited for a package manager, and why it is done,
    /// make no difference.
    pub fn of(host: &HostPlan) -> Self {
        let order = &host.order;
        let asked = (
            sorted(&order.changes),
            order.conffiles,
            &order.probes,
            &order.accept_missing,
            &order.restart,
            order.half_configured,
            order.latency_margin_percent,
        );
        Self { cohort: host.cohort, changes: Digest::of_json(&asked) }
    }

    /// Is it this host's work, as it is called now, or as older servers called it, to whom it was the same whatever services
    /// are restarted? Good for finding out what an older test was about, not for letting it count.
    pub fn is_or_was_of(&self, host: &HostPlan) -> bool {
        let order = &host.order;
        let then = (sorted(&order.changes), order.conffiles, &order.probes, &order.accept_missing);
        self.cohort == host.cohort
            && (self.changes == Self::of(host).changes || self.changes == Digest::of_json(&then))
    }
}

fn sorted(changes: &[Shared<PackageChange>]) -> Vec<Shared<PackageChange>> {
    let mut changes = changes.to_vec();
    changes.sort();
    changes
}

/// A package that a twin is to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TwinPackage {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Exact version.
    pub version: String,
}

impl From<&Package> for TwinPackage {
    fn from(package: &Package) -> Self {
        Self {
            name: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
        }
    }
}

/// What a worker is told: build this twin, do this to it. Travels signed, in an [`Order`](crate::assignment::Order).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestOrder {
    /// What is tested.
    pub work: Work,
    /// What people call the host that the twin is made after.
    pub like: String,
    /// Its release.
    pub os: Os,
    /// Its architecture.
    pub architecture: String,
    /// Every package it has.
    pub packages: Vec<TwinPackage>,
    /// Packages its administrator holds.
    pub held: Vec<String>,
    /// Units that are enabled on it.
    pub enabled: Vec<String>,
    /// The change, as the host will be told it. Written as `change`: beside it, an assignment says in `order` which
    /// order it is.
    #[serde(rename = "change", alias = "order")]
    pub order: ApplyOrder,
}

impl TestOrder {
    /// The test of what a plan means for a host. `None`: the host is no longer what the plan was made for.
    ///
    /// The order is the host's own but for what a container has not or nobody is there for: it does not reboot, no
    /// server has to be reached from it, nobody confirms it.
    pub fn of(host: &HostPlan, inventory: &Inventory) -> Option<Self> {
        if inventory.cohort() != host.cohort {
            return None;
        }
        let enabled = inventory.services.iter().filter(|s| s.enabled == "enabled");
        Some(Self {
            work: Work::of(host),
            like: host.name.clone(),
            os: inventory.os.clone(),
            architecture: inventory.architecture.clone(),
            packages: inventory.packages.iter().map(|p| TwinPackage::from(&**p)).collect(),
            held: inventory.held.clone(),
            enabled: enabled.map(|s| s.unit.clone()).collect(),
            order: ApplyOrder {
                reboot: RebootRule::Never,
                deadman_seconds: None,
                confirm_seconds: None,
                ..host.order.clone()
            },
        })
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// What came of it.
    pub verdict: Verdict,
    /// How much of the host the twin was.
    pub mirror: Mirror,
    /// What no test of this kind shows, as far as this one is concerned.
    pub limits: Vec<Limit>,
    /// What was done, in order, with how long it took, in milliseconds.
    pub times: Vec<(Phase, u64)>,
    /// Steps of the transaction in the twin, with how long each took, in milliseconds.
    pub steps: Vec<(Step, u64)>,
    /// Files that the change touched.
    pub delta_files: Option<u64>,
    /// Units that were restarted.
    pub restarted: Vec<String>,
    /// Files and other entries compared before the patch and after the undo.
    pub compared: u64,
}

impl TestReport {
    /// A report of a test that did not come to its end: it says nothing about the change.
    pub fn not_tested(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NotTested {
                code: code.to_owned(),
                message: message.into(),
                hint: hint.into(),
            },
            mirror: Mirror::default(),
            limits: Vec::new(),
            times: Vec::new(),
            steps: Vec::new(),
            delta_files: None,
            restarted: Vec::new(),
            compared: 0,
        }
    }

    /// Why it was ended before it had come to its end, where something else was wanted of its worker.
    pub fn interruption(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::NotTested { code, message, .. } if code == INTERRUPTED => Some(message),
            _ => None,
        }
    }

    /// Is its work asked for again by itself, where with it so many tests in a row were interrupted? One that was says
    /// nothing about the change; but not for ever.
    pub fn is_asked_again(&self, interrupted: u32) -> bool {
        self.interruption().is_some() && interrupted <= ASKED_AGAIN
    }
}

/// A part of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The twin's root was made.
    Build,
    /// It booted.
    Boot,
    /// It was patched and verified.
    Patch,
    /// The patch was taken back.
    Undo,
    /// Every file was compared.
    Compare,
}

impl Phase {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Boot => "boot",
            Self::Patch => "patch",
            Self::Undo => "undo",
            Self::Compare => "compare",
        }
    }
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Patched and verified, then undone, and every file as it was.
    Passed,
    /// The change does harm, or cannot be taken back.
    Failed {
        /// Where.
        phase: Phase,
        /// What happened.
        reason: String,
    },
    /// No twin, or it would not take the change for a reason that says nothing about the change.
    NotTested {
        /// A stable word: `not-mirrored`, `not-booted`, ...
        code: String,
        /// What, where.
        message: String,
        /// What to do next.
        hint: String,
    },
}

impl Verdict {
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed { .. } => "failed",
            Self::NotTested { .. } => "not-tested",
        }
    }
}

/// How much of a host its twin was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mirror {
    /// Packages of the host.
    pub wanted: u32,
    /// Of those, the ones that the twin had in exactly that version.
    pub exact: u32,
    /// The others.
    pub other: Vec<NotMirrored>,
    /// The twin's cohort was the host's: not a package more, less or other.
    pub same_cohort: bool,
}

impl Mirror {
    /// Share of the packages that were mirrored exactly, in percent, rounded down: 100 means all.
    pub fn percent(&self) -> u32 {
        match u64::from(self.wanted) {
            0 => 0,
            wanted => (u64::from(self.exact) * 100 / wanted) as u32,
        }
    }
}

/// A package that the twin had not, or not so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotMirrored {
    /// Which, as the host has it.
    pub package: TwinPackage,
    /// The twin's version. `None`: it was not there.
    pub twin: Option<String>,
}

impl fmt::Display for NotMirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package.name, self.package.version)?;
        match &self.twin {
            Some(twin) => write!(f, " (the twin had {twin})"),
            None => write!(f, " (the twin had none)"),
        }
    }
}

/// What a test did not show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "limit", rename_all = "kebab-case")]
pub enum Limit {
    /// Configuration files were the vendor's, and the worker's own: those of hosts do not leave them.
    Configuration,
    /// A container has the worker's kernel: a new one was installed and not booted.
    Kernel,
    /// The twin had no network but its own loopback.
    Network,
    /// These units are enabled on the host and could not be in the twin.
    Units {
        /// Which.
        units: Vec<String>,
    },
    /// These probes were answered wrongly before the patch already, and were not asked of it.
    Probes {
        /// Which, as they are asked.
        probes: Vec<String>,
    },
    /// These units of the twin had failed before the patch.
    Failed {
        /// Which.
        units: Vec<String>,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => write!(f, "the configuration of the hosts was not mirrored"),
            Self::Kernel => write!(f, "the new kernel was installed and not booted"),
            Self::Network => write!(f, "the twin had no network but its own loopback"),
            Self::Units { units } => {
                write!(f, "could not be enabled in the twin: {}", units.join(", "))
            }
            Self::Probes { probes } => {
                write!(
                    f,
                    "answered wrongly in the twin before the patch already: {}",
                    probes.join(", ")
                )
            }
            Self::Failed { units } => {
                write!(f, "had failed in the twin before the patch: {}", units.join(", "))
            }
        }
    }
}

/// The newest test of some work, as the server knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Its name: that of the worker's assignment, or of the wish for it.
    pub test: AssignmentId,
    /// Where it stands.
    pub state: TestState,
}

/// Where a test stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TestState {
    /// Wished for; no worker has it yet.
    Waiting {
        /// Why not, where that is known.
        why: String,
    },
    /// A worker was told.
    Running {
        /// What people call the worker.
        worker: String,
        /// Since when.
        since: Timestamp,
    },
    /// It has ended.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        report: Box<TestReport>,
    },
}

impl TestState {
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running { .. } => "running",
            Self::Ended { report, .. } => report.verdict.word(),
        }
    }
    /// It has not ended.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Ended { .. })
    }
}

/// The newest test of each work.
pub type Tests = BTreeMap<Work, Tested>;

/// Work that a plan has and that nobody tests: what to order, each with the host that the twin is made after (the first of
/// its cohort). `again`: also what has been tested with another end than a good one.
pub fn due<'p>(
    plan: &'p Plan,
    rule: &TestbedRule,
    tests: &Tests,
    again: bool,
    now: Timestamp,
) -> Vec<(Work, &'p HostId)> {
    let covered = coverage(plan, rule, tests, now);
    let due = covered.works.into_iter().filter(|covered| match covered.standing {
        Standing::Untested | Standing::Old { .. } => true,
        Standing::Good { .. } | Standing::Open { .. } => false,
        Standing::Failed { .. } | Standing::Inconclusive { .. } => again,
    });
    // Invariant: coverage has a host for each work.
    due.filter_map(|covered| {
        let id = covered.hosts.first()?;
        plan.hosts.get_key_value(id).map(|(id, _)| (covered.work, id))
    })
    .collect()
}
