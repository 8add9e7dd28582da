//! A document that says, for a group of hosts, what is owed, by when and by which route.

use crate::assignment::{
    ConffileRule, HalfConfiguredRule, MissingSymbol, Probe, RebootRule, RestartRule,
};
use crate::finding::Severity;
use crate::testbed::TestbedRule;
use crate::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

mod calendar;
mod check;
mod classify;
mod cycle;
mod diff;
mod explain;
pub mod facts;
pub mod glob;
mod parse;
mod recurrence;
mod risk;
mod select;
mod selector;
mod settings;
mod strategy;
pub mod tags;
mod window;

pub use calendar::{WindowCalendar, WindowDay};
pub use check::{
    APPROVAL, CheckKind, CheckRule, EACH_WAVE, Expect, HOSTS, HostList, HostTest, PROOF,
    PerformanceRule, UndoRule,
};
pub use classify::{Counted, Deadline};
pub use cycle::{CycleRule, CycleStart, CycleWhen};
pub use diff::{
    Cover, DeadlineMove, DiffInput, HostMove, Known, Opening, Owed, PolicyDiff, diff, is_touched,
    with_next,
};
pub use explain::{
    AcceptanceOf, BudgetOf, ClassOf, Condition, Considered, ExclusionOf, ExplainInput, Explained,
    OwedFinding, PinOf, RiskOf, explain,
};
pub use facts::{FACTS, PACKAGE_VERSION};
pub(crate) use parse::check_address;
pub use parse::{MAX_POLICY_BYTES, PolicyError};
pub use recurrence::{Recurrence, RecurrenceError};
pub use risk::{PackageClass, RiskRule, means};
pub use select::{Ambiguous, choose};
pub use selector::{MAX_SELECTOR_BYTES, MAX_SELECTOR_DEPTH, SelectorError};
pub use settings::{Setting, settings};
pub use strategy::{EVERYBODY, Pool, Share, Strategy};
pub use window::WindowState;
pub(crate) use window::zone;

/// A policy, parsed and checked. Durations are whole seconds here; the text writes `30m`, `4h`, `7d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// `[a-z0-9-]+`, unique.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Where several policies select a host, the highest wins; equal ones are an error of `policy check`.
    pub priority: i32,
    /// Which hosts.
    pub select: Selector,
    /// Only upgrades that fix a known vulnerability or come from a security suite, or all of them.
    pub take: Take,
    /// Sources whose upgrades may be taken. Empty: every source configured on the host.
    pub sources: Vec<SourceRule>,
    /// First rule that matches a finding gives its class.
    pub classes: Vec<ClassRule>,
    /// What a plan has to keep to that changes certain packages.
    #[serde(default)]
    pub risks: Vec<RiskRule>,
    /// How hosts are led through a change.
    #[serde(default)]
    pub strategy: Strategy,
    /// Stages, in order; none, where the strategy does not go by rings.
    pub rings: Vec<RingRule>,
    /// When hosts may be changed. Empty: at any time.
    pub windows: Vec<Window>,
    /// Days when nothing is changed.
    pub blackouts: Vec<Blackout>,
    /// Packages left alone.
    pub exclusions: Vec<Exclusion>,
    /// Packages that are kept at certain versions.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Vulnerabilities that somebody decided to live with for a while.
    pub acceptances: Vec<Acceptance>,
    /// Restarts.
    pub restart: RestartRule,
    /// Hosts on which nothing is restarted, whatever `restart` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_exempt: Option<Selector>,
    /// Reboots.
    pub reboot: RebootRule,
    /// Hosts that are not rebooted, whatever `reboot` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_exempt: Option<Selector>,
    /// Configuration files changed on both sides.
    pub conffiles: ConffileRule,
    /// At most so many hosts disrupted at once.
    pub budgets: Vec<BudgetRule>,
    /// What must hold between waves.
    pub gate: GateRule,
    /// What must work before and after.
    pub probes: Vec<Probe>,
    /// See [`crate::assignment::ApplyOrder::latency_margin_percent`].
    pub latency_margin_percent: Option<u32>,
    /// See [`crate::assignment::ApplyOrder::deadman_seconds`].
    pub deadman_seconds: Option<u32>,
    /// See [`crate::assignment::ApplyOrder::hung_after_seconds`].
    pub hung_after_seconds: Option<u32>,
    /// See [`crate::assignment::ApplyOrder::half_configured`].
    pub half_configured: HalfConfiguredRule,
    /// Symbols that may be missing after a change.
    pub accept_missing: Vec<AcceptedMissing>,
    /// Ring 0: the test environment. `None`: plans are tested only where somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testbed: Option<TestbedRule>,
    /// How many operators must approve a plan.
    pub approvals: u32,
    /// How many must approve an emergency plan; `None`: as many as any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_approvals: Option<u32>,
    /// Who starts an emergency plan.
    #[serde(default)]
    pub emergency_start: CycleStart,
    /// When plans are made by the server itself.
    #[serde(default)]
    pub cycle: Option<CycleRule>,
    /// An inventory older than this is not planned on, in seconds.
    pub inventory_max_age_seconds: u64,
    /// Digest of the text it was parsed from.
    pub digest: Digest,
}

impl Policy {
    /// What holds where a document says nothing: every host, security updates, at any time, without rings. Its name is
    /// empty.
    pub fn bare(digest: Digest) -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            priority: 0,
            select: Selector::All,
            take: Take::default(),
            sources: Vec::new(),
            classes: Vec::new(),
            risks: Vec::new(),
            strategy: Strategy::default(),
            rings: Vec::new(),
            windows: Vec::new(),
            blackouts: Vec::new(),
            exclusions: Vec::new(),
            pins: Vec::new(),
            restart: RestartRule::default(),
            restart_exempt: None,
            reboot: RebootRule::default(),
            reboot_exempt: None,
            conffiles: ConffileRule::default(),
            budgets: Vec::new(),
            gate: GateRule::default(),
            probes: Vec::new(),
            latency_margin_percent: None,
            deadman_seconds: None,
            hung_after_seconds: None,
            half_configured: HalfConfiguredRule::default(),
            acceptances: Vec::new(),
            accept_missing: Vec::new(),
            testbed: None,
            approvals: 0,
            emergency_approvals: None,
            emergency_start: CycleStart::default(),
            cycle: None,
            inventory_max_age_seconds: 86_400,
            digest,
        }
    }
}

/// Which upgrades are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// Those that fix a finding or come from a security suite.
    #[default]
    Security,
    /// All that allowed sources offer.
    All,
    /// Only those that fix a finding, with what must go along with them.
    Fixes,
}

/// Fields of a repository's `Release` file; an absent field matches anything, `*` and `?` are globs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceRule {
    /// `Origin:`.
    pub origin: Option<String>,
    /// `Label:`.
    pub label: Option<String>,
    /// `Suite:`.
    pub suite: Option<String>,
}

/// When a finding falls into a class, and what the class owes. All given conditions must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClassRule {
    /// `critical`, `high`, ... any word.
    pub name: String,
    /// CVSS at or above.
    pub cvss_at_least: Option<f32>,
    /// EPSS at or above.
    pub epss_at_least: Option<f32>,
    /// Severity at or above.
    pub severity_at_least: Option<Severity>,
    /// Known to be exploited.
    pub kev: Option<bool>,
    /// Mapped by a process.
    pub in_use: Option<bool>,
    /// Mapped by a process that listens beyond loopback.
    pub exposed: Option<bool>,
    /// In one of these packages, by binary or source: `@kernel`, or names in which `*` and `?` are globs. Empty: in any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Time to fix from the vendor's publication (from the first sight where the vendor gives no date), in seconds.
    pub deadline_seconds: u64,
    /// Soak time is cut to this for plans that fix such a finding.
    pub soak_seconds: Option<u64>,
    /// Opens windows; canary, budget, gates and blackouts stay.
    pub emergency: bool,
}

/// One stage of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RingRule {
    /// `canary`, `early`, `broad`.
    pub name: String,
    /// Which hosts of the policy's; a host belongs to the first ring that matches.
    pub select: Selector,
    /// Hosts patched together at most, in percent of the ring, rounded up. 100: all at once.
    pub wave_percent: u32,
    /// Rest after the ring before the next one starts, in seconds.
    pub soak_seconds: u64,
    /// The ring begins no sooner than so long after the rollout did, in seconds: all rings count from that one moment,
    /// however long those before them took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_seconds: u64,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A maintenance window that recurs, in local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days it opens on; empty: every day. Monday is 1, Sunday 7 (ISO 8601).
    pub days: Vec<u8>,
    /// Days it opens on, by a rule in place of `days`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// It opens so many days after each of them.
    #[serde(default)]
    pub after_days: u8,
    /// Opens at: minutes after local midnight.
    pub start_minute: u32,
    /// Stays open for, in elapsed seconds (a change of the clock does not change it).
    pub duration_seconds: u64,
    /// IANA name: `Europe/Berlin`.
    pub time_zone: String,
}

/// Nothing is changed on these days, inclusive, in the time zone of the first window (else UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blackout {
    /// First day.
    pub from: jiff::civil::Date,
    /// Last day.
    pub to: jiff::civil::Date,
    /// Why.
    pub reason: String,
}

/// Packages left alone for a reason and a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Binary name, `*` and `?` are globs.
    pub package: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until (exclusive). Mandatory: an exclusion without an end is forgotten.
    pub until: Timestamp,
}

/// A package kept at certain versions for a reason and a time: upgrades to others are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Binary name, `*` and `?` are globs.
    pub package: String,
    /// Versions that it may have, `*` and `?` are globs.
    pub version: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until (exclusive).
    pub until: Timestamp,
}

impl Pin {
    /// Does it keep the package from that version now?
    pub fn bars(&self, package: &str, version: &str, now: Timestamp) -> bool {
        now < self.until
            && glob::matches(&self.package, package)
            && !glob::matches(&self.version, version)
    }
}

/// A vulnerability that somebody decided to live with, for a reason, a time, and as long as what is known of it stays as
/// harmless as it was when that was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// `CVE-2026-1234`.
    pub finding: String,
    /// Only in this source package; `None`: in all.
    pub source: Option<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until (exclusive).
    pub until: Timestamp,
    /// It holds while EPSS stays below this. Not scored counts as 0.
    pub epss_below: f32,
    /// It holds even when the vulnerability is known to be exploited.
    pub even_if_exploited: bool,
}

/// Does the source package that an acceptance names stand for what a finding is of? It does by its whole name, and by the plain
/// one that people know: `krb5` stands for `source/krb5`, `binary/krb5` and `nodejs:18/krb5` as well, which say only of what
/// kind the vendor's word is. A package of a language is another (`pypi/krb5`), and so is one in another root on the host.
pub fn names_source(named: &str, subject: &str) -> bool {
    // The stream of a module has a colon, an ecosystem's word has none.
    fn without_stream(subject: &str) -> &str {
        match subject.split_once('/') {
            Some((module, rest)) if module.contains(':') && !rest.starts_with('/') => rest,
            _ => subject,
        }
    }
    let plain = without_stream(subject);
    let plain =
        ["source/", "binary/"].iter().find_map(|kind| plain.strip_prefix(kind)).unwrap_or(plain);
    named == subject || named == plain
}

impl Acceptance {
    /// Is it about this vulnerability in this source package ([`names_source`])?
    pub fn is_about(&self, id: &str, source: &str) -> bool {
        self.finding == id && self.source.as_ref().is_none_or(|named| names_source(named, source))
    }

    /// Does it hold now, for a vulnerability that is ranked so?
    pub fn holds(&self, now: Timestamp, epss: Option<f32>, exploited: bool) -> bool {
        now < self.until
            && epss.unwrap_or(0.0) < self.epss_below
            && (self.even_if_exploited || !exploited)
    }
}

/// A symbol that changed files may lack, for a reason and a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedMissing {
    /// Which symbol, of which files.
    pub what: MissingSymbol,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until (exclusive).
    pub until: Timestamp,
}

/// What a group of hosts may lose at once. At least one of the two limits is given; the stricter one counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetRule {
    /// What people call it.
    pub name: String,
    /// Which hosts of the fleet.
    pub select: Selector,
    /// At most so many of them disrupted at once; a share is rounded down, but is never nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Share>,
    /// At least so many of them well at any time; a share is rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<Share>,
    /// Units that have to be active on a host, or it is not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

impl BudgetRule {
    /// How many of `size` hosts may be disrupted at once, as long as none of them leaves.
    pub fn limit(&self, size: usize) -> u32 {
        let by_loss = self.max_unavailable.map_or(u32::MAX, |share| share.of(size));
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        by_loss.min(size.saturating_sub(self.least_healthy(size as usize).unwrap_or(0)))
    }

    /// How many of `size` hosts have to be well, where the rule says so.
    pub fn least_healthy(&self, size: usize) -> Option<u32> {
        self.min_healthy.map(|share| share.at_least(size))
    }
}

/// What must hold before the next wave starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRule {
    /// Patched hosts are watched this long, in seconds.
    pub bake_seconds: u64,
    /// Hosts that may fail, fall silent or be undone, over all waves of the rollout.
    pub max_failures: u32,
    /// Hosts of the wave that must be patched and verified, in percent, rounded up.
    pub min_success_percent: u32,
    /// Hosts silent for longer than this count as failed, in seconds.
    pub silent_after_seconds: u64,
    /// On failure, undo the whole wave and not only the failed hosts. What an older policy says; see
    /// [`GateRule::undoes`].
    pub undo_wave: bool,
    /// On failure, undo these. `None`: as `undo_wave` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoRule>,
    /// The findings that a host's order fixes must be proved gone on each patched host, by an inventory taken after the
    /// patch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_proof: bool,
    /// Rings before whose first wave somebody has to say that it may begin, or [`EACH_WAVE`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approval: Vec<String>,
    /// What else is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckRule>,
}

impl Default for GateRule {
    /// One host at fault halts: a second failure would tell us nothing new.
    fn default() -> Self {
        Self {
            bake_seconds: 300,
            max_failures: 0,
            min_success_percent: 100,
            silent_after_seconds: 900,
            undo_wave: false,
            undo: None,
            require_proof: false,
            approval: Vec::new(),
            checks: Vec::new(),
        }
    }
}

/// How a version compares with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// It is older.
    #[serde(rename = "<")]
    Less,
    /// It is that one or older.
    #[serde(rename = "<=")]
    AtMost,
    /// It is newer.
    #[serde(rename = ">")]
    Greater,
    /// It is that one or newer.
    #[serde(rename = ">=")]
    AtLeast,
}

/// An expression over labels and facts: `env=prod and role in (web, api) and not os=debian-11`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Selector {
    /// Every host (`all`).
    All,
    /// The label or fact has one of these values; `*` and `?` are globs.
    In {
        /// Label, or fact with a dot in its name: one of [`FACTS`].
        key: String,
        /// Values.
        values: Vec<String>,
    },
    /// The label is there, whatever its value (`has key`).
    Has {
        /// Label.
        key: String,
    },
    /// Some installed version compares so with this one, by the order of the host's own package manager
    /// (`host.package.nginx < 1.22.1-9`).
    Version {
        /// `host.package.` and the name of a package; `*` and `?` are globs.
        key: String,
        /// How it compares.
        order: Order,
        /// With which version.
        value: String,
    },
    /// Does not hold.
    Not {
        /// What.
        of: Box<Selector>,
    },
    /// All hold.
    And {
        /// Which.
        of: Vec<Selector>,
    },
    /// One holds.
    Or {
        /// Which.
        of: Vec<Selector>,
    },
}
