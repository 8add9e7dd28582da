//! One journaled change on one host: its steps, its journal, and what comes next.
//!
//! The journal is a list of [`Entry`]s. [`Progress`] is the fold over it, and [`Progress::next`] is a pure
//! function of that fold: live running and recovery after a crash take the same road.

use crate::assignment::{Assignment, PackageChange};
use crate::{AssignmentId, Digest, Shared, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod fold;
mod next;

pub use next::{STEP_ATTEMPTS, UNDO_ATTEMPTS};

/// A step of the transaction, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Everything that can be refused without touching the host is refused here.
    Preflight,
    /// New and old archives on disk, verified.
    Stage,
    /// The very transaction, run on a copy-on-write clone of the host's root.
    Rehearse,
    /// The way back, on disk and fsynced.
    Snapshot,
    /// Out of the load balancer.
    Drain,
    /// The package manager itself.
    Apply,
    /// Restart what still maps replaced files.
    Activate,
    /// Against the host's own baseline.
    Verify,
    /// Back into the load balancer; done.
    Commit,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 9] = [
        Step::Preflight,
        Step::Stage,
        Step::Rehearse,
        Step::Snapshot,
        Step::Drain,
        Step::Apply,
        Step::Activate,
        Step::Verify,
        Step::Commit,
    ];
    /// The word, as journal, CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Stage => "stage",
            Self::Rehearse => "rehearse",
            Self::Snapshot => "snapshot",
            Self::Drain => "drain",
            Self::Apply => "apply",
            Self::Activate => "activate",
            Self::Verify => "verify",
            Self::Commit => "commit",
        }
    }
    /// The step that follows.
    pub fn next(self) -> Option<Step> {
        Self::ALL.iter().copied().find(|s| *s > self)
    }
}

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// 0, 1, 2, ... without gaps.
    pub sequence: u64,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What happened.
    pub event: TxEvent,
}

/// What happened in a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TxEvent {
    /// First record: the order as it was believed.
    Begun {
        /// The assignment. A transaction started on the host itself has rollout `local`.
        assignment: Assignment,
    },
    /// Written before a step does anything.
    Started {
        /// Which step.
        step: Step,
    },
    /// Written after a step did everything, durably.
    Finished {
        /// Which step.
        step: Step,
        /// What it found: goes to the server with the report.
        facts: StepFacts,
    },
    /// The step did not succeed, or (without `started` before it) was not let begin: the server said stop,
    /// the assignment expired.
    Failed {
        /// Which step.
        step: Step,
        /// Why.
        fault: Fault,
    },
    /// Written before undo does anything. `reason` for people.
    UndoStarted {
        /// Why it is undone.
        reason: String,
    },
    /// Everything is as it was, verified by hash, or it is not.
    UndoFinished {
        /// Facts of the undo.
        facts: UndoFacts,
    },
    /// Last record.
    Ended {
        /// How it ended.
        outcome: Outcome,
    },
}

/// What steps found. One type for all, so that reports can be read without knowing the step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepFacts {
    /// How long the step took, in milliseconds, by a monotonic clock.
    pub milliseconds: u64,
    /// Lines for people: what was checked, found, done.
    pub notes: Vec<String>,
    /// Rehearsal: files the change touches (changed, new, gone).
    pub delta_files: Option<u64>,
    /// Rehearsal: bytes of the delta.
    pub delta_bytes: Option<u64>,
    /// Snapshot: bytes of the preimage.
    pub preimage_bytes: Option<u64>,
    /// Apply: paths that changed without having been foreseen by the rehearsal.
    pub unforeseen: Vec<String>,
    /// Activate: units restarted.
    pub restarted: Vec<String>,
    /// Activate: units that still map replaced files because policy spares them.
    pub spared: Vec<String>,
    /// Apply, verify: package → version now.
    pub versions: BTreeMap<String, String>,
    /// Anything else a step needs to find again after a crash (unit names, directories).
    pub marks: BTreeMap<String, String>,
}

/// What an undo found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UndoFacts {
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Files restored or removed.
    pub files_restored: u64,
    /// Files whose hash, mode, owner or kind still differs from the preimage. Empty, or the host is quarantined.
    pub differing: Vec<String>,
    /// Files that somebody else changed since; they were kept.
    pub kept: Vec<String>,
    /// Files that were as no rehearsal had shown them, and so may have been somebody's work: put back or removed, and a
    /// copy is in the transaction's `preimage/set-aside`.
    pub set_aside: Vec<String>,
    /// Lines for people.
    pub notes: Vec<String>,
}

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A stable word: `lock-held`, `rehearsal-failed`, `service-not-back`, `probe-failed`, ...
    pub code: String,
    /// What, where.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

impl Fault {
    /// Code of a fault that says "not now" and not "not so": the server refused to redeem the grant. The code
    /// of the [`Hold`](crate::Hold) that it answered with says the same, more exactly.
    pub const GRANT_REFUSED: &'static str = "grant-refused";
    /// Code of a fault that says "not now" and not "not so": the assignment expired before it was redeemed.
    pub const EXPIRED: &'static str = "expired";

    /// Every answer but yes that a host gets when it redeems its grant ([`redeem`](crate::rollout::Rollout::redeem)).
    pub(crate) const HOLDS: [&str; 17] = [
        "aborted",
        "blackout",
        "budget-used",
        "busy",
        "gate-failed",
        "grant-gone",
        "host-changed",
        "host-silent",
        "no-data",
        "nothing-to-do",
        "paused",
        "quarantined",
        "recalled",
        "too-many-failures",
        "wave-not-approved",
        "window-closed",
        "window-too-short",
    ];

    /// Nothing is wrong with the change or the host; it only may not begin now. A rollout gives such a host
    /// another grant later, and does not count a failure.
    pub fn is_not_now(&self) -> bool {
        self.code == Self::GRANT_REFUSED
            || self.code == Self::EXPIRED
            || Self::HOLDS.contains(&self.code.as_str())
    }

    /// The rehearsal has shown that the change itself does harm: it would fail, break a configuration or leave
    /// programs without their libraries. As bad as an undo, seen in time.
    pub fn blames_change(&self) -> bool {
        const SHOWN: [&str; 5] = [
            "configuration-test-failed",
            "libraries-unresolved",
            "rehearsal-failed",
            "rehearsal-unclean",
            "rehearsal-version",
        ];
        SHOWN.contains(&self.code.as_str())
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Patched and verified.
    Patched,
    /// Its traffic is as it was ordered, and its balancers' own checks agree. The host itself was not touched.
    Switched,
    /// Undone, and verified to be as it was.
    Undone {
        /// Why it was undone.
        reason: String,
    },
    /// Refused before anything was touched.
    Refused {
        /// Why.
        fault: Fault,
    },
    /// Neither as it was nor patched and verified: a person must come.
    Quarantined {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// The word, as CLI, API and web print it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Switched => "switched",
            Self::Undone { .. } => "undone",
            Self::Refused { .. } => "refused",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// The fold over a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The transaction.
    pub id: TransactionId,
    /// The order.
    pub assignment: Assignment,
    /// When it began.
    pub begun_at: Timestamp,
    /// Steps finished, with what they found.
    pub finished: BTreeMap<Step, StepFacts>,
    /// A step that was started and neither finished nor failed: interrupted, if nobody runs it now.
    pub running: Option<Step>,
    /// How often the running step was started.
    #[serde(default)]
    pub attempts: u32,
    /// [`Step::Apply`] was started: the host may no longer be as it was.
    #[serde(default)]
    pub touched: bool,
    /// The step that failed, and why.
    pub failed: Option<(Step, Fault)>,
    /// The undo, where one was started: its reason, and its facts when it finished.
    pub undo: Option<(String, Option<UndoFacts>)>,
    /// How often the undo was started.
    #[serde(default)]
    pub undo_attempts: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Sequence number of the last record.
    pub last: u64,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run the step from its start. Every step before [`Step::Drain`] can be run again from its start.
    Run(Step),
    /// The step was interrupted: find out how far it came, and finish it or fail it.
    Recover(Step),
    /// Put everything back. Can be run again from its start.
    Undo {
        /// Why.
        reason: String,
    },
    /// Write the end.
    End(Outcome),
    /// Nothing: it has ended.
    Nothing,
}

/// A summary of a transaction for the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionReport {
    /// The transaction.
    pub id: TransactionId,
    /// The assignment it carries out.
    pub assignment: AssignmentId,
    /// Generation of that assignment.
    pub generation: u64,
    /// Digest of the plan.
    pub plan: Digest,
    /// The journal's records from `from` on.
    pub entries: Vec<Entry>,
}

/// Why a record does not fit a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEntry {
    /// The first record must be `begun`, number 0, and only the first.
    #[error("record {sequence} is out of place: a journal begins with `begun`, once")]
    Begin {
        /// The record.
        sequence: u64,
    },
    /// Sequence numbers have a gap.
    #[error("record {expected} is missing: found {found}")]
    Gap {
        /// What should come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The record cannot follow what came before.
    #[error("record {sequence} ({event}) cannot follow what came before")]
    Order {
        /// The record.
        sequence: u64,
        /// Its event.
        event: String,
    },
}

/// Kept here so that planner and agent agree on what "the same change" is.
pub fn same_changes(a: &[Shared<PackageChange>], b: &[Shared<PackageChange>]) -> bool {
    let sorted = |list: &[Shared<PackageChange>]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests;
