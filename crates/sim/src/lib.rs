//! Development only: the product's own planner, rollout and transaction code, run against a simulated fleet.
//!
//! A vendor that releases, corrects and takes back; a server that judges hosts by its feed, plans by its policies, by
//! itself ([`fettle_core::cycle`]) and when somebody asks, crashes and refolds its events; two executors that race (one of
//! them often stale), agents that crash anywhere and recover by the real journal fold, hosts that join, leave, come back
//! and are copied, clocks that step, a network that loses, doubles, delays and reorders, operators who edit policies,
//! approve, start, pause, resume, abort and undo, windows, blackouts, silent hosts, drift, and packages that are bad in
//! several ways. Everything follows from one seed; a virtual clock makes hours take microseconds.
//!
//! After every plan, every persisted event and every journal record the named invariants are checked ([`check`]). In the
//! end the faults stop and everything must come to rest (the liveness epilogue).
//!
//! What is real: [`fettle_vuln::exposure`], [`fettle_core::policy`], [`fettle_core::plan`], [`fettle_core::cycle`],
//! [`fettle_core::rollout`], [`fettle_core::transaction`]. What is modelled: the store (versioned rows, unique
//! generations), the network, the agent's ledger of generations, package managers. What is not there: two machines with
//! one identity, which the server's edge tells apart by their sessions.

mod agent;
mod campaign;
pub mod check;
mod fleet;
mod gates;
mod packages;
mod policies;
mod random;
mod server;
mod twins;
mod upstream;
mod world;

pub use campaign::{MUST_COME_UP, Summary, campaign, campaign_with};

use fettle_core::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run may be told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keep a line for everything that happens.
    pub story: bool,
    /// Switch one guard off, to see that the checker notices.
    pub sabotage: Option<Sabotage>,
    /// So many hosts at first. `None`: three to eight, as the seed says.
    pub hosts: Option<usize>,
}

/// A guard that is switched off around the core, never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// Executors see plans without budgets.
    IgnoreBudget,
    /// Nobody sees which services are not active.
    ForgetHealth,
    /// What hosts foretell of their changes is not written down.
    ForgetForetold,
    /// Executors see no failures.
    ForgetFailures,
    /// A gate is passed as soon as its wave has ended.
    SkipGate,
    /// Rings do not rest, and begin whenever those before them have ended.
    SkipRest,
    /// Two rollouts do not see each other, and the store takes any generation.
    DoubleGrant,
    /// The store takes writes whatever version they were decided on.
    AcceptStale,
    /// The server answers every request to redeem with yes.
    RedeemBlindly,
    /// Agents do not ask whether the grant still stands.
    NeverRedeem,
    /// A restarted server forgets its last events.
    LoseEvents,
    /// Windows are never seen closed.
    IgnoreWindows,
    /// A restarted agent forgets that it had begun to apply.
    ForgetJournal,
    /// The newest assignment wins even if its generation is older.
    IgnoreGenerations,
    /// A patched host of a rolling wave gives its place away unwatched.
    RollUnwatched,
    /// Blue/green: any host of the idle pool counts as proved.
    ServeUnproved,
    /// Blue/green: nobody waits for those who take over before others are taken out.
    TakeBeforeGive,
    /// Blue/green: after a halt the traffic stays where it is.
    StayRed,
    /// Blue/green: two rollouts lead the same traffic at once.
    LeadTogether,
    /// Ring 0: whatever a twin's test said, and even where there was none, it counts as passed.
    SkipTests,
    /// Executors do not see what was recalled.
    ForgetRecalls,
    /// A gate takes silence for a good answer.
    TrustSilence,
    /// A gate takes an old answer, or one about another wave, for one of now.
    TrustTheOld,
    /// Gates ask nobody.
    AskNobody,
    /// Gates do not look whether the findings are gone.
    ForgetProof,
    /// Nobody's word is waited for.
    ForgetApproval,
    /// Nobody's word is waited for where no host was started before: the first ring of a rollout begins unasked.
    BeginUnasked,
    /// The server takes anybody's word in anybody's name.
    ApproveOwn,
    /// What a red gate says is to be undone is not.
    KeepRed,
    /// A red gate undoes more than the policy says.
    UndoWider,
    /// The planner sees neither exclusions nor pins.
    PlanExcluded,
    /// The planner does not see which packages hosts hold.
    PlanHeld,
    /// The planner does not see which versions are barred.
    PlanBarred,
    /// The planner does not see what was recalled.
    PlanRecalled,
    /// The planner does not see where rollouts are at work.
    PlanBusy,
    /// The planner sees no policy but the one it plans by.
    PlanOthers,
    /// The planner is not shown what is found on half of the hosts.
    PlanUnseen,
    /// The planner takes every host for one that has just spoken.
    PlanSilent,
    /// A plan does not say what it does not do.
    HideHeld,
    /// Everybody goes with the first wave.
    SkipCanaries,
    /// A plan takes effect though another has since it was made.
    StartOvertaken,
    /// A plan starts with whatever approvals it was given.
    StartUnapproved,
    /// Orders hold more than the plan has for the host.
    SwapOrders,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 43] = [
        Self::IgnoreBudget,
        Self::ForgetHealth,
        Self::ForgetForetold,
        Self::ForgetFailures,
        Self::SkipGate,
        Self::SkipRest,
        Self::DoubleGrant,
        Self::AcceptStale,
        Self::RedeemBlindly,
        Self::NeverRedeem,
        Self::LoseEvents,
        Self::IgnoreWindows,
        Self::ForgetJournal,
        Self::IgnoreGenerations,
        Self::RollUnwatched,
        Self::ServeUnproved,
        Self::TakeBeforeGive,
        Self::StayRed,
        Self::LeadTogether,
        Self::SkipTests,
        Self::ForgetRecalls,
        Self::TrustSilence,
        Self::TrustTheOld,
        Self::AskNobody,
        Self::ForgetProof,
        Self::ForgetApproval,
        Self::BeginUnasked,
        Self::ApproveOwn,
        Self::KeepRed,
        Self::UndoWider,
        Self::PlanExcluded,
        Self::PlanHeld,
        Self::PlanBarred,
        Self::PlanRecalled,
        Self::PlanBusy,
        Self::PlanOthers,
        Self::PlanUnseen,
        Self::PlanSilent,
        Self::HideHeld,
        Self::SkipCanaries,
        Self::StartOvertaken,
        Self::StartUnapproved,
        Self::SwapOrders,
    ];
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// Its number and name: `1 budget`.
    pub invariant: String,
    /// When, on the virtual clock.
    pub at: Timestamp,
    /// What was found.
    pub detail: String,
}

/// What a run gave.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Things that happened: messages, steps, crashes, decisions.
    pub events: u64,
    /// Invariants that did not hold; empty is the aim. At most 20 are kept.
    pub violations: Vec<Violation>,
    /// Chances taken by operators and faults.
    pub actions: u64,
    /// Of those, the ones that did not fit the moment and did nothing.
    pub skipped: u64,
    /// Seconds of virtual time, times hosts.
    pub host_seconds: u64,
    /// Interesting situation → how often it came up. Shows that the checks are not vacuous.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// What happened, line by line, if asked for.
    pub story: Vec<String>,
}

/// Runs one seed to its end.
pub fn run(seed: u64, options: &Options) -> Report {
    world::World::new(seed, options.clone()).run()
}
