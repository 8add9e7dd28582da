//! A plan carried out in waves. Event-sourced: [`decide`](crate::rollout) looks at state, observations and
//! now and returns events; each event is persisted, then [`Rollout::apply`] folds it into the state, and
//! only then [`effects()`] of the event go out. A crash anywhere loses nothing and repeats nothing.

use crate::plan::Plan;
use crate::plan::approval::Approval;
use crate::recall::Recall;
use crate::testbed::Tests;
use crate::transaction::{Outcome, Step};
use crate::{AssignmentId, Digest, Hold, HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod begin;
mod bits;
mod budget;
mod decide;
mod effects;
mod gate;
mod operate;
mod report;
mod roster;
mod runs;
mod sight;
mod state;
mod tested;
mod traffic;

pub use decide::{GRANT_SECONDS, MAX_GRANTS, MIN_GRANT_SECONDS};
pub use effects::effects;
pub use gate::{
    Answer, Came, EVIDENCE_STANDS_SECONDS, GateEvidence, HostAsk, HostProof, HostRan, Judged,
    Measured, NoWord, Question, Reading, Sample, Says, TESTS_AT_ONCE, WaveApproval, Word,
};
pub use runs::Runs;
pub use sight::Sight;
pub use traffic::{TRAFFIC_TRIES, TrafficRun, TrafficState};

/// A rollout's state: the fold over its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its name.
    pub id: RolloutId,
    /// The plan, whole: what was approved is what is done.
    pub plan: Arc<Plan>,
    /// Digest of the plan.
    pub plan_digest: Digest,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who started it.
    pub created_by: String,
    /// The one whom the starter's token speaks for. Empty: an older rollout, whose starter is known by name only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started_by: String,
    /// Who had approved the plan when it was started, and counted.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Number of events applied: the version every write is conditional on.
    pub version: u64,
    /// Where it stands.
    pub phase: Phase,
    /// The wave at work, counted from 0.
    pub wave: u32,
    /// When the current wave's last host ended: the bake counts from here.
    pub wave_ended_at: Option<Timestamp>,
    /// When the current wave may start at the earliest (soak of the ring before).
    pub wave_not_before: Option<Timestamp>,
    /// Each host of the plan in exactly one state.
    pub hosts: Runs,
    /// Hosts that failed, were undone by fault, fell silent or are quarantined, over all waves.
    pub failures: u32,
    /// Blue/green: what hosts were told before may have been forgotten by their balancers, and is told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_from: Option<Timestamp>,
    /// Blue/green: what each host was last told about its traffic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<HostId, TrafficRun>,
    /// Failures there were when an operator last resumed the halted rollout: the limit counts from here.
    #[serde(default)]
    pub pardoned: u32,
    /// The wave that was at work when an operator last resumed the halted rollout: its gate asks only that
    /// its hosts have ended and baked.
    #[serde(default)]
    pub excused_wave: Option<u32>,
    /// Versions this rollout barred, as `(package, version)`.
    #[serde(default)]
    pub barred: BTreeSet<(String, String)>,
    /// Ring 0: when each work of the plan was seen to have a good test. `None`: not yet, or not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_at: Option<Timestamp>,
    /// Gates passed so far: wave → when.
    pub gates: BTreeMap<u32, Timestamp>,
    /// Waves that somebody let begin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approved: BTreeMap<u32, WaveApproval>,
    /// Patched hosts that the gate of the last halt found fault with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub faulted: BTreeSet<HostId>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What follows from the plan.
    #[serde(skip)]
    roster: roster::Derived,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Going on.
    Running,
    /// An operator said pause: hosts at work go on, no new one starts.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A gate failed or too many hosts did: no new host starts; only an operator's resume clears it.
    Halted {
        /// Why.
        hold: Hold,
    },
    /// An operator said abort: no new host starts, ever.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Every host ended.
    Done,
}

/// One host of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRun {
    /// Its wave.
    pub wave: u32,
    /// Where it stands.
    pub state: HostState,
    /// The assignment it was last given; [`HostState`] says whether it still stands.
    pub assignment: Option<AssignmentId>,
    /// Generation of that assignment.
    pub generation: Option<u64>,
    /// When it was granted.
    pub granted_at: Option<Timestamp>,
    /// When that grant dies unless it is redeemed.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Grants given so far.
    #[serde(default)]
    pub grants: u32,
    /// How long its change takes, as the host's own rehearsal has last foretold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foretold: Option<Foretold>,
    /// Quarantined only because it fell silent at work: its true end replaces that, once, when it speaks again.
    #[serde(default)]
    pub silent: bool,
    /// The step it last reported.
    pub step: Option<Step>,
    /// When it last reported.
    pub reported_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The undo asked for by an operator or the gate, after it was patched.
    pub undo_asked: Option<String>,
    /// That undo's order.
    #[serde(default)]
    pub undo: Option<UndoRun>,
}

/// How long a change takes on one host, as its rehearsal has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foretold {
    /// From the moment the grant is redeemed to the end of a way back, in seconds.
    pub changing_seconds: u32,
    /// From the grant until it was redeemed or refused: staged and rehearsed, in seconds.
    pub preparing_seconds: u32,
}

impl Foretold {
    /// From the grant to the end of a way back, in seconds.
    pub fn whole_seconds(self) -> u64 {
        u64::from(self.changing_seconds) + u64::from(self.preparing_seconds)
    }
}

/// The undo of a host that was patched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoRun {
    /// The undo's assignment.
    pub assignment: AssignmentId,
    /// Its generation.
    pub generation: u64,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How it ended. `None`: still at work.
    pub outcome: Option<Outcome>,
}

/// State of a host in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum HostState {
    /// Not yet.
    Pending,
    /// The assignment is signed; the agent has not redeemed it.
    Granted,
    /// The agent redeemed the grant and may change the host.
    Redeemed,
    /// Patched and verified.
    Patched,
    /// Undone and verified.
    Undone {
        /// Why.
        reason: String,
    },
    /// Refused by the host before anything was touched.
    Refused {
        /// Why.
        reason: String,
        /// The rehearsal has shown that the change itself is bad ([`Fault::blames_change`]).
        ///
        /// [`Fault::blames_change`]: crate::transaction::Fault::blames_change
        #[serde(default)]
        change_at_fault: bool,
    },
    /// Neither: a person must come.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Not started, and will not be: the rollout ended, the host left or changed.
    Cancelled {
        /// Why.
        hold: Hold,
    },
}

impl HostState {
    /// Ended: will not change any more in this rollout, except by an undo asked for afterwards, and (once) by
    /// the true end of a host that was quarantined for its silence.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Pending | Self::Granted | Self::Redeemed)
    }
    /// Counts against the failure limit.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Undone { .. } | Self::Refused { .. } | Self::Quarantined { .. })
    }
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Redeemed => "redeemed",
            Self::Patched => "patched",
            Self::Undone { .. } => "undone",
            Self::Refused { .. } => "refused",
            Self::Quarantined { .. } => "quarantined",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// What happened, persisted before anything follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RolloutEvent {
    /// The first event.
    Created {
        /// Who started it.
        by: String,
        /// The plan.
        plan: Arc<Plan>,
        /// The approvals that counted when it was started.
        #[serde(default)]
        approvals: Vec<Approval>,
        /// The one whom the starter's token speaks for, whatever name its holder gave.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        principal: String,
    },
    /// Ring 0 passed: each work of the plan has a good test on a twin.
    Tested {
        /// Which tests it rests on.
        tests: Vec<AssignmentId>,
    },
    /// The host is given its assignment (effect: it is signed and handed to the agent).
    Granted {
        /// Which host.
        host: HostId,
        /// The assignment's name.
        assignment: AssignmentId,
        /// The host's next generation.
        generation: u64,
        /// The assignment must be started before this.
        expires_at: Timestamp,
    },
    /// A grant nobody redeemed died: the host is pending again (effect: the assignment is withdrawn).
    GrantExpired {
        /// Which host.
        host: HostId,
    },
    /// The agent has rehearsed the change and says how long it takes; it asks for its grant now.
    Foretold {
        /// Which host.
        host: HostId,
        /// From now to the end of a way back, in seconds.
        changing_seconds: u32,
    },
    /// The agent asked right before changing the host, and was told yes.
    Redeemed {
        /// Which host.
        host: HostId,
    },
    /// The agent reported a step.
    Stepped {
        /// Which host.
        host: HostId,
        /// Which step it is in.
        step: Step,
    },
    /// The agent reported the end.
    Ended {
        /// Which host.
        host: HostId,
        /// How.
        outcome: Outcome,
    },
    /// A host at work (its undo included) fell silent for longer than the gate allows: quarantined until it speaks.
    Silent {
        /// Which host.
        host: HostId,
        /// When it last spoke.
        last_seen: Option<Timestamp>,
    },
    /// The host will not be started.
    Cancelled {
        /// Which host.
        host: HostId,
        /// Why.
        hold: Hold,
    },
    /// The wave's last host ended: the bake begins.
    WaveEnded {
        /// Which wave.
        wave: u32,
    },
    /// The gate after the wave passed.
    GatePassed {
        /// Which wave.
        wave: u32,
        /// The next wave may start at the earliest.
        next_not_before: Timestamp,
        /// What it was judged by.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        judged: Vec<Judged>,
    },
    /// Somebody with the role approver let a wave begin, having seen how the one before it did.
    WaveApproved {
        /// Which wave may begin.
        wave: u32,
        /// Who.
        by: String,
        /// The one whom their token speaks for.
        principal: String,
        /// In their words; may be empty.
        comment: String,
    },
    /// No new host starts until an operator resumes; unredeemed grants die.
    Halted {
        /// Why.
        hold: Hold,
        /// What the gate was judged by, where it was a gate that said so.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        judged: Vec<Judged>,
    },
    /// Versions of a failed change are barred for these cohorts.
    Barred {
        /// `(package, version)`.
        versions: Vec<(String, String)>,
        /// Cohorts.
        cohorts: Vec<Digest>,
        /// Why.
        reason: String,
    },
    /// An operator.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// An operator.
    Resumed {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// An operator.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A patched host is to be undone (by an operator, or by a gate that undoes its wave).
    UndoAsked {
        /// Which host.
        host: HostId,
        /// The undo's assignment.
        assignment: AssignmentId,
        /// The host's next generation.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// A host of a pool is to have so much of the traffic (effect: the order is signed and handed to its agent).
    TrafficAsked {
        /// Which host.
        host: HostId,
        /// The order's assignment.
        assignment: AssignmentId,
        /// The host's next generation.
        generation: u64,
        /// Percent of its weight in its balancers; 0: out of them.
        share: u32,
    },
    /// It is so, and the balancers' own checks agree.
    TrafficSet {
        /// Which host.
        host: HostId,
        /// By which order.
        assignment: AssignmentId,
    },
    /// It could not be done.
    TrafficFailed {
        /// Which host.
        host: HostId,
        /// By which order.
        assignment: AssignmentId,
        /// Why.
        reason: String,
    },
    /// The host asked too late whether it may, and was told "not now": no try, and no failure.
    TrafficDeferred {
        /// Which host.
        host: HostId,
        /// By which order.
        assignment: AssignmentId,
        /// Why.
        reason: String,
    },
    /// Every host ended.
    Done,
}

/// What follows from a persisted event, in the world outside. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Sign the assignment and keep it for the host's next check-in.
    Assign(Box<crate::assignment::Assignment>),
    /// Withdraw an assignment that was not redeemed.
    Withdraw(AssignmentId),
    /// Bar these versions for these cohorts.
    Bar {
        /// `(package, version)`.
        versions: Vec<(String, String)>,
        /// Cohorts.
        cohorts: Vec<Digest>,
        /// Why.
        reason: String,
    },
}

/// What is observed of the fleet when a rollout decides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observations {
    /// Hosts of the plan and of its budgets, as they are now. A host that is missing has left the fleet.
    pub hosts: BTreeMap<HostId, HostObservation>,
    /// Since when the server has been listening without a break. A host is not blamed for silence while
    /// nobody listened; but until it has spoken again nothing is started on it and no gate passes by it.
    /// `None`: always.
    pub listening_since: Option<Timestamp>,
    /// Blue/green: a rollout that was created before this one, has not ended, and leads the traffic of some of the same
    /// hosts. Two that lead at once could each take out what the other relies on.
    pub pools_busy: Option<Leader>,
    /// Ring 0: the newest test of each work. Needed only while a plan that asks for tests has not been seen tested.
    pub tests: Tests,
    /// Versions that nobody is to get.
    pub recalls: Vec<Recall>,
    /// What evaluators found last, by the check's name.
    pub gate: BTreeMap<String, GateEvidence>,
}

/// A rollout that leads the traffic of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Which.
    pub rollout: RolloutId,
    /// The word of its phase.
    pub phase: &'static str,
}

/// One host, as it is now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostObservation {
    /// When it last spoke.
    pub last_seen: Option<Timestamp>,
    /// Its cohort now.
    pub cohort: Option<Digest>,
    /// Highest generation ever given to it, over all rollouts.
    pub generation: u64,
    /// Quarantined: counts as disrupted.
    pub quarantined: bool,
    /// Another rollout is at work on it.
    pub busy: Option<RolloutId>,
    /// Its window: `None` when it may be changed now, else the hold (window closed, blackout).
    pub window: Option<Hold>,
    /// When the window that is open now closes. `None`: never.
    pub closes_at: Option<Timestamp>,
    /// How long its change may take, from the grant to the end of a way back, by what others took; in seconds. 0: nothing
    /// is known yet.
    pub takes_seconds: u64,
    /// Units that a budget asks for and that are not active on it.
    pub down: BTreeSet<String>,
}

/// What a look at a rollout gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// To be persisted and applied, in order.
    pub events: Vec<RolloutEvent>,
    /// What it waits for, and why.
    pub holds: Vec<Waiting>,
    /// Look again at this time even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// Something a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which host; `None`: the whole rollout.
    pub host: Option<HostId>,
    /// Why.
    pub hold: Hold,
}

/// Why an event does not fit a rollout's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event `{event}` is not legal here: {why}")]
pub struct IllegalEvent {
    /// The event's word.
    pub event: String,
    /// Why not.
    pub why: String,
}

#[cfg(test)]
pub(crate) mod tests;
