//! "Not now", as data. Everything that stops progress is one of these; CLI, API and web print it from
//! this one type, and tests assert the reason instead of the absence of an effect.

use crate::{HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

mod words;

/// Why something does not happen now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "kebab-case")]
pub enum Hold {
    /// No policy selects the host.
    NoPolicy,
    /// Several policies of equal priority select the host: none governs it.
    PolicyAmbiguous {
        /// Their names.
        policies: Vec<String>,
    },
    /// The host belongs to no ring of its policy.
    NoRing,
    /// The host is in neither pool of its policy, or in both.
    NoPool,
    /// The host has no agent: what it holds is known by a bill of materials, and nothing can be done to it from here.
    NoAgent {
        /// When that was handed in.
        listed_at: Timestamp,
    },
    /// The host has not reported what it runs.
    NoInventory,
    /// The last report is too old to plan on.
    InventoryStale {
        /// When it last spoke.
        last_seen: Timestamp,
    },
    /// The host is quarantined.
    Quarantined {
        /// What could not be undone.
        reason: String,
    },
    /// The maintenance window is closed.
    WindowClosed {
        /// When it opens next; `None`: never, within a year.
        opens_at: Option<Timestamp>,
    },
    /// The window is open but closes before the transaction could end.
    WindowTooShort {
        /// When it closes.
        closes_at: Timestamp,
        /// How long the transaction takes, in seconds, its undo included.
        needs_seconds: u64,
    },
    /// A blackout date of the policy.
    Blackout {
        /// The policy's reason.
        reason: String,
        /// When it ends.
        until: Timestamp,
    },
    /// The policy excludes the package.
    Excluded {
        /// Binary package.
        package: String,
        /// The policy's reason.
        reason: String,
        /// When the exclusion ends.
        until: Option<Timestamp>,
    },
    /// The policy pins the package to other versions.
    Pinned {
        /// Binary package.
        package: String,
        /// Version on offer.
        version: String,
        /// Versions that it is pinned to, `*` and `?` are globs.
        to: String,
        /// The policy's reason.
        reason: String,
        /// When the pin ends.
        until: Timestamp,
    },
    /// The administrator of the host holds the package.
    PackageHeld {
        /// Binary package.
        package: String,
    },
    /// The administrator of the host pins the package, and its sources offer no newer version so.
    PackagePinned {
        /// Binary package.
        package: String,
        /// What the pin says.
        pin: String,
    },
    /// The policy does not allow the source that offers it.
    SourceNotAllowed {
        /// Binary package.
        package: String,
        /// Where it comes from.
        origin: String,
    },
    /// Only security updates were asked for on the host, and this is none.
    NotSecurity {
        /// Binary package.
        package: String,
        /// Where it comes from.
        origin: String,
    },
    /// The version was undone on this cohort.
    VersionBarred {
        /// Binary package.
        package: String,
        /// The barred version.
        version: String,
        /// Why.
        reason: String,
    },
    /// The version was recalled: no host is to get it.
    Recalled {
        /// Binary package.
        package: String,
        /// The recalled version.
        version: String,
        /// Who recalled it.
        by: String,
        /// Why.
        reason: String,
    },
    /// The upgrade would remove packages, which no policy allows unasked.
    WouldRemove {
        /// Binary package.
        package: String,
        /// What it would remove.
        removes: Vec<String>,
    },
    /// The upgrade would install packages that are new on the host and that its sources do not offer by hash.
    WouldBring {
        /// Binary package.
        package: String,
        /// What it would install beside itself.
        brings: Vec<String>,
    },
    /// The package is changed only together with another one (of the same source, or one that it needs), which is
    /// held for the reasons that follow.
    KeptInStep {
        /// Binary package.
        package: String,
        /// The one that is held.
        with: String,
    },
    /// The vendor has no fix for this release.
    NoFix {
        /// The vulnerability.
        finding: String,
    },
    /// A fix exists, but none of the host's sources offers it.
    FixNotOffered {
        /// The vulnerability.
        finding: String,
        /// First fixed version.
        fixed_version: String,
    },
    /// What is affected is in another root on the host, a container say, which no plan reaches into.
    InRoot {
        /// The vulnerability.
        finding: String,
        /// Which root: [`crate::root::Root::id`].
        root: String,
        /// The image it was made of; empty where it has none.
        image: String,
        /// First fixed version.
        fixed_version: String,
    },
    /// Too little space.
    NoSpace {
        /// Mount point.
        mount: String,
        /// Bytes needed.
        needs: u64,
        /// Bytes free.
        free: u64,
    },
    /// The disruption budget is used up.
    BudgetUsed {
        /// Which budget.
        budget: String,
        /// How many hosts may be disrupted at once.
        limit: u32,
        /// Hosts disrupted now, the first ten of them.
        disrupted: Vec<HostId>,
    },
    /// The ring begins so long after the rollout.
    RingNotYet {
        /// Ring.
        ring: String,
        /// When it begins at the earliest.
        until: Timestamp,
    },
    /// The ring before has to rest first.
    Soak {
        /// Which ring rests.
        ring: String,
        /// Until when.
        until: Timestamp,
    },
    /// The gate after a wave bakes: the patched hosts are watched.
    Bake {
        /// Wave, counted from 0.
        wave: u32,
        /// Until when.
        until: Timestamp,
    },
    /// Hosts of the wave are still at work.
    WaveRunning {
        /// Wave, counted from 0.
        wave: u32,
        /// How many have not ended.
        unfinished: u32,
    },
    /// The gate's evidence is not there. No data never passes.
    NoData {
        /// What is missing.
        what: String,
    },
    /// A check of the gate has no answer that lets it pass. No data never passes.
    CheckWaits {
        /// Wave, counted from 0.
        wave: u32,
        /// The check's name in the policy.
        check: String,
        /// What it lacks.
        why: String,
        /// Since when.
        since: Timestamp,
    },
    /// The next ring begins when somebody with the role approver says so.
    WaveNotApproved {
        /// Which rollout.
        rollout: RolloutId,
        /// The wave that would begin, counted from 0.
        wave: u32,
        /// Its ring.
        ring: String,
        /// Who cannot say so: they started the rollout.
        not: String,
    },
    /// The gate failed.
    GateFailed {
        /// Wave, counted from 0.
        wave: u32,
        /// What did not hold.
        reason: String,
    },
    /// Too many hosts failed.
    TooManyFailures {
        /// How many failed or fell silent, over all waves.
        failed: u32,
        /// How many the policy allows.
        allowed: u32,
    },
    /// The plan is not approved yet.
    NotApproved {
        /// Approvals given.
        given: u32,
        /// Approvals needed.
        needed: u32,
    },
    /// Hosts ask for operators' signatures, and the plan does not have enough of them.
    NotSigned {
        /// Signatures that hold.
        given: u32,
        /// Signatures needed.
        needed: u32,
    },
    /// The host does not carry out what the server ordered.
    OrderRefused {
        /// Why, in the host's words.
        why: String,
    },
    /// Ring 0: works of the plan (changes on a cohort) have no good test on a twin. No data never passes.
    NotTested {
        /// How many.
        cohorts: u32,
        /// Of how many.
        of: u32,
        /// The first of them: a host that it stands for, and what is known of its test.
        first: String,
    },
    /// Ring 0: the change failed on a twin.
    TestFailed {
        /// The host that the twin was made after.
        like: String,
        /// Where and how.
        reason: String,
    },
    /// An operator paused the rollout.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// An operator aborted the rollout.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Another rollout is at work on the host.
    Busy {
        /// Which one.
        rollout: RolloutId,
    },
    /// Another rollout leads the traffic of the same hosts, and was there first.
    TrafficLed {
        /// Which one.
        rollout: RolloutId,
        /// The word of its phase: `running`, `paused`, `halted`, `aborted`.
        phase: String,
    },
    /// The host left the fleet or is silent.
    HostSilent {
        /// When it last spoke.
        last_seen: Option<Timestamp>,
    },
    /// The host's packages are no longer what the plan was made for.
    HostChanged,
    /// The grant expired or was withdrawn before it was redeemed; the host is given a new one in its turn.
    GrantGone {
        /// Grants the host was given so far.
        grants: u32,
    },
    /// The host was told how much of the traffic to take, and has not said yet that it is so.
    Traffic {
        /// Percent of its weight in its balancers; 0: out of them.
        share: u32,
    },
    /// Only a rehearsal was asked for on the host.
    OnlyRehearsed,
    /// Vulnerability data that decide what is owed are stale.
    FeedsStale {
        /// Which feeds.
        feeds: Vec<String>,
    },
    /// A rollout of the policy is under way.
    PolicyBusy {
        /// Which one.
        rollout: RolloutId,
    },
    /// What the server did by itself last time went wrong, and no person has said that it may go on.
    CycleFailed {
        /// The rollout that went wrong.
        rollout: RolloutId,
        /// How.
        reason: String,
    },
    /// The server comes from a backup, and starts nothing by itself until a person lets it.
    Restored {
        /// When the backup was made: what happened since is forgotten.
        from: Timestamp,
    },
    /// A person is to start it.
    NotStarted {
        /// The plan that waits.
        plan: u64,
    },
    /// A report on a schedule is not due yet.
    NotDue {
        /// When it is; `None`: not within a year.
        at: Option<Timestamp>,
    },
    /// A report that is due could not be made or written.
    ReportNotMade {
        /// Why.
        why: String,
        /// Times it was tried.
        tries: u32,
        /// When it is tried again.
        again_at: Timestamp,
    },
    /// A report was made without one of its formats.
    FormatNotMade {
        /// Which one: `pdf`.
        format: String,
        /// Why.
        why: String,
    },
    /// What was sent to a webhook has not arrived.
    NotDelivered {
        /// The delivery's id.
        delivery: String,
        /// Where it goes, without what may be secret in it.
        to: String,
        /// Times it was tried.
        tries: u32,
        /// Why the last try failed; empty before the first.
        why: String,
        /// When it is tried again; `None`: only when a person sends it.
        again_at: Option<Timestamp>,
    },
    /// Nothing is owed.
    NothingToDo,
}

impl Hold {
    /// Code of [`Hold::OnlyRehearsed`].
    pub const ONLY_REHEARSED: &'static str = "only-rehearsed";

    /// Of an entry of an inventory's pins.
    pub fn pinned((package, pin): (&String, &String)) -> Self {
        Self::PackagePinned { package: package.clone(), pin: pin.clone() }
    }

    /// A stable word for programs: `window-closed`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no-policy",
            Self::PolicyAmbiguous { .. } => "policy-ambiguous",
            Self::NoRing => "no-ring",
            Self::NoPool => "no-pool",
            Self::NoAgent { .. } => "no-agent",
            Self::NoInventory => "no-inventory",
            Self::InventoryStale { .. } => "inventory-stale",
            Self::Quarantined { .. } => "quarantined",
            Self::WindowClosed { .. } => "window-closed",
            Self::WindowTooShort { .. } => "window-too-short",
            Self::Blackout { .. } => "blackout",
            Self::Excluded { .. } => "excluded",
            Self::Pinned { .. } => "pinned",
            Self::PackageHeld { .. } => "package-held",
            Self::PackagePinned { .. } => "package-pinned",
            Self::SourceNotAllowed { .. } => "source-not-allowed",
            Self::NotSecurity { .. } => "not-security",
            Self::VersionBarred { .. } => "version-barred",
            Self::Recalled { .. } => "recalled",
            Self::WouldRemove { .. } => "would-remove",
            Self::WouldBring { .. } => "would-bring",
            Self::KeptInStep { .. } => "kept-in-step",
            Self::NoFix { .. } => "no-fix",
            Self::FixNotOffered { .. } => "fix-not-offered",
            Self::InRoot { .. } => "in-root",
            Self::NoSpace { .. } => "no-space",
            Self::BudgetUsed { .. } => "budget-used",
            Self::RingNotYet { .. } => "ring-not-yet",
            Self::Soak { .. } => "soak",
            Self::Bake { .. } => "bake",
            Self::WaveRunning { .. } => "wave-running",
            Self::NoData { .. } => "no-data",
            Self::CheckWaits { .. } => "check-waits",
            Self::WaveNotApproved { .. } => "wave-not-approved",
            Self::GateFailed { .. } => "gate-failed",
            Self::TooManyFailures { .. } => "too-many-failures",
            Self::NotApproved { .. } => "not-approved",
            Self::NotSigned { .. } => "not-signed",
            Self::OrderRefused { .. } => "order-refused",
            Self::NotTested { .. } => "not-tested",
            Self::TestFailed { .. } => "test-failed",
            Self::Paused { .. } => "paused",
            Self::Aborted { .. } => "aborted",
            Self::Busy { .. } => "busy",
            Self::TrafficLed { .. } => "traffic-led",
            Self::HostSilent { .. } => "host-silent",
            Self::HostChanged => "host-changed",
            Self::GrantGone { .. } => "grant-gone",
            Self::Traffic { .. } => "traffic",
            Self::OnlyRehearsed => Self::ONLY_REHEARSED,
            Self::FeedsStale { .. } => "feeds-stale",
            Self::PolicyBusy { .. } => "policy-busy",
            Self::CycleFailed { .. } => "cycle-failed",
            Self::Restored { .. } => "restored",
            Self::NotStarted { .. } => "not-started",
            Self::NotDue { .. } => "not-due",
            Self::ReportNotMade { .. } => "report-not-made",
            Self::FormatNotMade { .. } => "format-not-made",
            Self::NotDelivered { .. } => "not-delivered",
            Self::NothingToDo => "nothing-to-do",
        }
    }
}
