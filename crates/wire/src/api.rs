//! The operator's API under `/api/v1`, as CLI and programs use it. Described by OpenAPI at `/api/v1/openapi.json`.
//!
//! | call | answer |
//! |---|---|
//! | `GET /overview` | [`Overview`] |
//! | `GET /hosts?q=&state=&label=&select=&policy=&ring=&package=&cve=&sort=&limit=&offset=`, `GET /hosts/{host}` | [`Page`] of [`HostRow`], [`HostDetail`] |
//! | `GET /hosts/{host}/sbom`, `GET /sbom?select=` | CycloneDX 1.6 of a host, of many |
//! | `POST /hosts/{host}/sbom` | a bill of materials of something without an agent → [`HostDetail`] |
//! | `GET /views`, `PUT /views/{name}` [`SaveView`], `DELETE` it | [`Page`] of [`SavedViewRow`], [`SavedViewRow`], nothing |
//! | `GET /findings?host=&id=&state=&severity=&limit=&offset=` | [`Page`] of [`FindingRow`] |
//! | `GET /findings/{host}/{id}/{source}` | [`FindingExplained`] |
//! | `GET /packages?q=&exposed=&sort=`, `GET /packages/{name}` | [`Page`] of [`PackageRow`], [`PackageDetail`] |
//! | `GET /cves?q=&class=&severity=&state=&kev=&fixable=&due=&sort=` | [`Page`] of [`CveRow`] |
//! | `GET /cves/{id}` | [`CveDetail`] |
//! | `GET /search?q=` | [`Found`] |
//! | `GET /policies`, `POST /policies?if=` (TOML text), `GET /policies/{name}` | [`PolicyRow`] |
//! | `GET /policies/{name}/versions` | [`Page`] of [`PolicyVersion`] |
//! | `POST /policy-diffs` (TOML text) | [`PolicyDiff`](fettle_core::policy::PolicyDiff) |
//! | `GET /hosts/{host}/policy` | [`Explained`](fettle_core::policy::Explained) |
//! | `POST /plans` [`MakePlan`], `GET /plans/{number}` | [`PlanDetail`] |
//! | `GET /plans/{number}/diff/{to}` | [`PlanDiff`](fettle_core::plan::PlanDiff) |
//! | `POST /plans/{number}/approvals` [`ApprovePlan`], `DELETE` one's own | [`PlanDetail`], nothing |
//! | `GET /plan-keys`, `POST` a [`SignedKeySet`](crate::plan_key::SignedKeySet) | [`PlanKeys`], nothing |
//! | `POST /plans/{number}/signatures` [`SignedPlan`](crate::plan_key::SignedPlan) | [`PlanDetail`] |
//! | `GET /plans/{number}/tests`, `POST` [`RunTests`] | [`PlanTests`] |
//! | `POST /hosts/{host}/tests` [`RunTests`] | [`TestRow`] |
//! | `GET /tests?plan=&limit=`, `GET /tests/{number}` | [`Page`] of [`TestRow`], [`TestRow`] |
//! | `POST /rollouts` [`StartRollout`], `GET /rollouts`, `GET /rollouts/{id}` | [`RolloutRow`], [`RolloutDetail`] |
//! | `POST /rollouts/{id}/{pause,resume,abort,undo}` [`Because`] | [`RolloutDetail`] |
//! | `GET /recalls`, `POST /recalls` [`MakeRecall`] | [`Page`] of [`RecallRow`], [`RecallDetail`] |
//! | `GET /recalls/{package}/{version}`, `DELETE …?reason=` | [`RecallDetail`], nothing |
//! | `GET /report?from=&to=&policy=`, `GET /report.csv?table=`, `GET /report.html` | [`Report`], as CSV, as a page of its own |
//! | `GET /report-schedules`, `PUT /report-schedules/{name}`, `DELETE` it | [`Page`] of [`ScheduleRow`], [`ScheduleRow`], nothing |
//! | `POST /report-schedules/{name}/run` | [`ScheduleRow`] |
//! | `GET /deliveries`, `POST /deliveries/{id}/resend`, `DELETE /deliveries/{id}` | [`Page`] of [`DeliveryRow`], [`DeliveryRow`], nothing |
//! | `GET /evidence?from=&to=`, `GET /evidence/key` | a signed archive, [`EvidenceKey`] |
//! | `POST /rollouts/{id}/approve` [`ApproveWave`] | [`RolloutDetail`] |
//! | `GET /feeds`, `POST /feeds/{name}` (bytes), `POST /feeds/sync?name=`, `POST /feeds/{name}/accept?digest=` | [`FeedRow`] |
//! | `PUT /feeds/{name}/source` [`SetFeedSource`], `DELETE` it | [`FeedRow`], nothing |
//! | `GET /feeds/bundle`, `POST` it (bytes), `GET /feeds/bundle/key`, `PUT` it [`TrustBundleKey`] | bytes, [`FeedRow`], [`BundleKeys`] |
//! | `GET /cycles`, `POST /cycles/{name}/resume` [`Because`] | [`Page`] of [`CycleRow`], [`CycleRow`] |
//! | `GET /emergencies`, `POST /emergencies` [`DeclareEmergency`], `DELETE /emergencies/{id}?reason=` | [`Emergencies`] |
//! | `POST /tokens` [`MakeToken`] | [`TokenMade`] |
//! | `GET /accounts`, `POST /accounts` [`AddAccount`], `PUT /accounts/{name}/password` [`SetPassword`], `POST /accounts/{name}/disable`, `…/enable` | [`AccountRow`] |
//! | `POST /setup` [`SetUp`], once, without a token | [`AccountRow`] |
//! | `GET /account`, `PUT /account/password` [`ChangePassword`], `DELETE /account/sessions` | [`OwnAccount`], nothing |
//! | `GET /operators`, `POST /operators` [`AddOperator`], `DELETE /operators/{name}` | [`OperatorRow`], [`OperatorAdded`], nothing |
//! | `POST /operators/{name}/token` [`RenewOperator`] | [`OperatorAdded`] |
//! | `GET /doctor` | [`Health`] |
//! | `GET /ledger?after=&limit=` , `GET /ledger/verify` | entries, [`LedgerVerified`] |
//!
//! Hosts are named by id or by name wherever a `{host}` stands. Errors are [`ApiProblem`].

use fettle_core::finding::{Finding, Severity};
use fettle_core::host::Labels;
use fettle_core::report::TrendPoint;
use fettle_core::transaction::Progress;
use fettle_core::{Digest, Hold, HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

macro_rules! dto {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(feature = "openapi", derive(ToSchema))]
            pub struct $name { $($(#[$fmeta])* pub $field : $ty,)* }
        )*
    };
}

mod account;
mod doctor;
mod feeds;
mod operator;
mod plan;
mod planning;
mod recall;
mod report;
mod rollout;

pub use account::{
    AccountRow, AddAccount, ChangePassword, OwnAccount, Secret, SessionRow, SetPassword, SetUp,
};
pub use doctor::{Health, Level, Symptom};
pub use feeds::{BundleKeys, FeedHeldRow, FeedRow, FeedSourceRow, SetFeedSource, TrustBundleKey};
pub use operator::{
    AddOperator, LedgerVerified, MakeToken, OperatorAdded, OperatorRow, RenewOperator, TokenMade,
};
pub use plan::{
    ApprovePlan, MakePlan, PlanDetail, PlanKeys, PlanSignatureRow, PlanSigning, PlanTests,
    RunTests, TestRow,
};
pub use planning::{CallRow, CycleRow, DeclareEmergency, Emergencies, EmergencyPlanRow};
pub use recall::{MakeRecall, RecallDetail, RecallRow, RecalledHost, RecalledRollout};
pub use report::{DeliveryRow, EvidenceKey, Report, ReportRun, ScheduleRow};
pub use rollout::{
    ApproveWave, Because, RolloutDetail, RolloutEventRow, RolloutHost, RolloutLane, RolloutRow,
    RolloutTraffic, StartRollout,
};

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Page<T> {
    /// How many there are in all.
    pub total: u64,
    /// Those asked for.
    pub items: Vec<T>,
}

dto! {
    /// An error: RFC 9457 problem details with Fettle's kind, code and hint.
    pub struct ApiProblem {
        /// Where the server says what the code means: `/errors/not-found`.
        #[serde(rename = "type", default)]
        pub about: String,
        /// Short, stable word of the kind: `not-found`.
        pub kind: String,
        /// Stable word of the exact problem: `policy-unknown-key`.
        pub code: String,
        /// What failed, where.
        pub message: String,
        /// What to do next.
        pub hint: String,
    }

    /// A list of hosts under a name.
    pub struct SavedViewRow {
        /// What it is called.
        pub name: String,
        /// Whose it is.
        pub owner: String,
        /// Is it one's own?
        pub mine: bool,
        /// The query of `GET /hosts`: `state=exposed&label=env%3Dprod`.
        pub query: String,
        /// Does everybody see it?
        pub shared: bool,
        /// When it was saved.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub saved_at: Timestamp,
    }

    /// Save a list of hosts.
    pub struct SaveView {
        /// The query of `GET /hosts`, without `limit` and `offset`.
        pub query: String,
        /// Everybody is to see it.
        #[serde(default)]
        pub shared: bool,
    }

    /// The fleet on one screen.
    pub struct Overview {
        /// When it was made.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub at: Timestamp,
        /// Hosts enrolled.
        pub hosts: u64,
        /// Hosts by state word: `up-to-date`, `exposed`, `pending-restart`, `pending-reboot`, `no-fix-yet`, `quarantined`, `silent`, `no-policy`, `no-inventory`.
        pub hosts_by_state: BTreeMap<String, u64>,
        /// Findings by state word.
        pub findings_by_state: BTreeMap<String, u64>,
        /// Open findings by severity word.
        pub open_by_severity: BTreeMap<String, u64>,
        /// Open findings past their deadline.
        pub overdue: u64,
        /// Open findings due within 24 hours.
        pub due_soon: u64,
        /// Distinct vulnerabilities open somewhere.
        pub open_cves: u64,
        /// Open findings known to be exploited.
        pub open_kev: u64,
        /// Open findings by class word; those without a class under the empty word.
        #[serde(default)]
        pub open_by_class: BTreeMap<String, u64>,
        /// Findings that were known and not proved gone over the last 30 days, by class. Counted when somebody looks, and
        /// empty until that is done.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        #[serde(default)]
        pub trend: Vec<TrendPoint>,
        /// Where something is overdue or due within 24 hours, the most overdue first.
        #[serde(default)]
        pub late: Vec<LateRow>,
        /// When hosts may be changed, by policy.
        #[serde(default)]
        pub windows: Vec<WindowRow>,
        /// What policies do by themselves.
        #[serde(default)]
        pub cycles: Vec<CycleRow>,
        /// What cannot wait.
        #[serde(default)]
        pub emergencies: Emergencies,
        /// Rollouts that are not done, newest first.
        pub rollouts: Vec<RolloutRow>,
        /// Feeds.
        pub feeds: Vec<FeedRow>,
        /// Why the numbers above say nothing of the fleet's exposure, a sentence each: no host is judged, or what decides
        /// who is affected is too old. Empty: they say something. `None`: the server is too old to tell.
        #[serde(default)]
        pub no_data: Option<Vec<String>>,
        /// The ten worst open findings.
        pub worst: Vec<FindingRow>,
        /// Versions that nobody is to get, newest recall first.
        #[serde(default)]
        pub recalls: Vec<RecallRow>,
    }

    /// What is late in a ring of a policy.
    pub struct LateRow {
        /// Policy.
        pub policy: String,
        /// Ring of that policy; empty for hosts that no ring takes.
        pub ring: String,
        /// Open findings past their deadline.
        pub overdue: u64,
        /// Open findings due within 24 hours.
        pub due_soon: u64,
    }

    /// When the hosts of a policy may be changed.
    pub struct WindowRow {
        /// Policy.
        pub policy: String,
        /// Hosts it selects.
        pub hosts: u64,
        /// Why not now, if not now.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub hold: Option<Hold>,
        /// When that ends. `None`: not within a year, or they may be changed now.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub opens_at: Option<Timestamp>,
        /// When the time they may be changed in ends. `None`: not within a year.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub closes_at: Option<Timestamp>,
    }

    /// A host in a list.
    pub struct HostRow {
        /// Id.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub id: HostId,
        /// Name.
        pub name: String,
        /// Labels.
        pub labels: Labels,
        /// `Debian GNU/Linux 12 (bookworm)`.
        pub os: String,
        /// Running kernel.
        pub kernel: String,
        /// State word, as in [`Overview::hosts_by_state`].
        pub state: String,
        /// Short digest of the cohort.
        pub cohort: String,
        /// Policy that selects it, if any.
        pub policy: Option<String>,
        /// Ring of that policy, if any.
        pub ring: Option<String>,
        /// Open findings (fix exists).
        pub open: u64,
        /// Of those, past their deadline.
        #[serde(default)]
        pub overdue: u64,
        /// Findings without a fix.
        pub no_fix: u64,
        /// Findings fixed on disk only.
        pub pending: u64,
        /// Findings proved gone since enrolment.
        pub fixed: u64,
        /// Upgrades the host's sources offer.
        pub upgrades: u64,
        /// When it last spoke.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub last_seen: Option<Timestamp>,
        /// It has no agent, and nothing is ever done to it: when the bill of materials was handed in that tells what it holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub listed_at: Option<Timestamp>,
    }

    /// A host, whole.
    pub struct HostDetail {
        /// As in the list.
        pub row: HostRow,
        /// What it reported.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub inventory: Option<fettle_core::inventory::Inventory>,
        /// Its findings, worst first.
        pub findings: Vec<FindingRow>,
        /// Its transactions, newest first.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub transactions: Vec<Progress>,
        /// What holds it now.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub holds: Vec<Hold>,
        /// Why it is quarantined.
        pub quarantined: Option<String>,
    }

    /// A finding in a list.
    pub struct FindingRow {
        /// Host name.
        pub host_name: String,
        /// Severity word.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub severity: Severity,
        /// The finding.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        #[serde(flatten)]
        pub finding: Finding,
        /// One line: why it counts, and what to do.
        pub reason: String,
    }

    /// A finding with its reasons.
    pub struct FindingExplained {
        /// As in the list.
        pub row: FindingRow,
        /// The reasons, one a line, in the order a person would ask.
        pub lines: Vec<String>,
    }

    /// One vulnerability over the fleet.
    pub struct CveDetail {
        /// `CVE-2024-5535`.
        pub id: String,
        /// Severity word.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub severity: Severity,
        /// CVSS, EPSS, KEV, date.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub ranking: fettle_core::advisory::Ranking,
        /// The vendor's statements for releases that hosts here run.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub advisories: Vec<fettle_core::advisory::Advisory>,
        /// Findings of it, worst first: the first thousand. `/findings?id=` has them all.
        pub findings: Vec<FindingRow>,
        /// Counts over the fleet; nothing where no host has or had it.
        #[serde(default)]
        pub fleet: Option<CveRow>,
        /// When it was first proved gone from a host.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        #[serde(default)]
        pub first_fixed: Option<Timestamp>,
        /// When it was last proved gone from a host.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        #[serde(default)]
        pub last_fixed: Option<Timestamp>,
        /// Findings by state word.
        pub by_state: BTreeMap<String, u64>,
    }

    /// A vulnerability in a list, counted over the fleet.
    pub struct CveRow {
        /// `CVE-2024-5535`.
        pub id: String,
        /// The highest severity it has on a host.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub severity: Severity,
        /// Known to be exploited.
        pub kev: bool,
        /// Probability that it is exploited within 30 days.
        pub epss: Option<f32>,
        /// CVSS score.
        pub cvss: Option<f32>,
        /// Source packages that it is in.
        pub sources: Vec<String>,
        /// Classes that policies put it in.
        pub classes: Vec<String>,
        /// Hosts that still run vulnerable code.
        pub hosts: u64,
        /// Of those, hosts where a process that listens beyond loopback runs it.
        pub reachable: u64,
        /// Findings with a fix that is not installed.
        pub open: u64,
        /// Findings without a fix.
        pub no_fix: u64,
        /// Findings fixed on disk only.
        pub pending: u64,
        /// Findings that a policy accepts.
        pub accepted: u64,
        /// Findings proved gone.
        pub fixed: u64,
        /// Open findings past their deadline.
        pub overdue: u64,
    }

    /// A package in a list, counted over the fleet.
    pub struct PackageRow {
        /// Binary name.
        pub name: String,
        /// Source package.
        pub source: String,
        /// Hosts that have it.
        pub hosts: u64,
        /// Distinct versions installed.
        pub versions: u64,
        /// Hosts with an open finding in its source package.
        pub exposed: u64,
        /// Hosts whose sources offer an upgrade.
        pub upgradable: u64,
    }

    /// A version of a package, counted over the fleet.
    pub struct PackageVersion {
        /// The version.
        pub version: String,
        /// Hosts that have it.
        pub hosts: u64,
        /// Of those, hosts that are offered another.
        pub upgradable: u64,
        /// Hosts that are offered it.
        pub offered: u64,
    }

    /// A package over the fleet.
    pub struct PackageDetail {
        /// As in the list.
        pub row: PackageRow,
        /// Its versions, newest first.
        pub versions: Vec<PackageVersion>,
        /// Vulnerabilities that hosts have or had in its source package, worst first.
        pub cves: Vec<CveRow>,
    }

    /// Something that a search found.
    pub struct Hit {
        /// `host`, `package`, `cve`, `policy`, `plan`, `rollout`.
        pub kind: String,
        /// What it is called.
        pub name: String,
        /// One line about it.
        pub about: String,
        /// Its page.
        pub path: String,
    }

    /// What a search found.
    pub struct Found {
        /// The text.
        pub q: String,
        /// The page of the one thing that is called exactly so.
        pub exact: Option<String>,
        /// Of each kind the first few.
        pub hits: Vec<Hit>,
        /// How many of each kind there are.
        pub totals: BTreeMap<String, u64>,
    }

    /// A policy in a list.
    pub struct PolicyRow {
        /// Name.
        pub name: String,
        /// 1, 2, 3, ...
        pub version: u64,
        /// One line.
        pub description: String,
        /// Digest of the text.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub digest: Digest,
        /// When it was applied.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub applied_at: Timestamp,
        /// By whom.
        pub applied_by: String,
        /// Hosts it selects now.
        pub hosts: u64,
        /// Why this version of Fettle cannot read its text; nothing is planned meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub unread: Option<String>,
        /// The TOML text.
        pub text: String,
    }

    /// A version of a policy.
    pub struct PolicyVersion {
        /// 1, 2, 3, ...
        pub version: u64,
        /// Digest of the text.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub digest: Digest,
        /// When it was applied.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub applied_at: Timestamp,
        /// By whom.
        pub applied_by: String,
        /// Is it the one in force?
        pub in_force: bool,
        /// The TOML text.
        pub text: String,
    }
}

/// Host states in the order in which they call for attention.
pub const HOST_STATES: [&str; 10] = [
    "quarantined",
    "exposed",
    "pending-restart",
    "pending-reboot",
    "silent",
    "no-inventory",
    "not-judged",
    "no-policy",
    "no-fix-yet",
    "up-to-date",
];
