//! What evaluators found, and what a gate made of it.
//!
//! An evaluator stands at the server's edge. It is handed [`Question`]s and can do one thing: say what it found, when,
//! for which wave. It cannot pass a gate, fail it, or act on a host; [`Judged`] is the core's.

use crate::finding::FindingState;
use crate::policy::{CheckRule, HOSTS, HostTest};
use crate::{HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What somebody outside says of an older moment than this no longer counts, in seconds.
pub const EVIDENCE_STANDS_SECONDS: u64 = 120;

/// What a gate asks of somebody outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// The wave whose gate asks, counted from 0.
    pub wave: u32,
    /// What is asked.
    pub check: CheckRule,
    /// The patched hosts of the wave.
    pub hosts: Vec<HostId>,
    /// When the wave's last host ended: nothing from before it says anything about the patch.
    pub since: Timestamp,
    /// When the bake ends: from then on answers count.
    pub until: Timestamp,
}

/// What an evaluator found when it asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateEvidence {
    /// Which check, by its name.
    pub check: String,
    /// For the gate after which wave.
    pub wave: u32,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing that can be judged: it could not be asked, or answered with what makes no sense.
    None {
        /// What went wrong.
        error: String,
        /// Since when it has been so.
        since: Timestamp,
    },
    /// A number over time, oldest first.
    Readings {
        /// Two that are further apart than twice this have a gap between them, in seconds.
        step_seconds: u64,
        /// The numbers. At most some hundreds.
        readings: Vec<Reading>,
    },
    /// Somebody's word.
    Word {
        /// Which.
        word: Word,
        /// In their words.
        reason: String,
    },
    /// Where the findings stand that the hosts' orders fix.
    Findings {
        /// Host → what its last inventory says.
        hosts: BTreeMap<HostId, HostProof>,
    },
    /// What came of the program that each of the wave's hosts was asked to run.
    Ran {
        /// Host → what it last said, where it has said something.
        hosts: BTreeMap<HostId, HostRan>,
    },
    /// What hosts measured, the wave's own and others.
    Measured {
        /// Host → its samples, oldest first.
        hosts: BTreeMap<HostId, Vec<Sample>>,
    },
}

/// One answer of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was asked, by the server's clock.
    pub at: Timestamp,
    /// How long a good answer took. `None`: there was none, or a wrong one.
    pub microseconds: Option<u32>,
}

/// What a gate asks of a host itself: to run a program of its own list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAsk {
    /// Of this gate and check and of no other: an answer says it again.
    pub ask: String,
    /// Which program.
    pub test: HostTest,
}

/// What a host says of a program that it was asked to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRan {
    /// When it was started, by the server's clock.
    pub began_at: Timestamp,
    /// When it ended, by the server's clock.
    pub ended_at: Timestamp,
    /// What came of it.
    #[serde(flatten)]
    pub came: Came,
}

/// What came of a host's own test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub enum Came {
    /// It ended well.
    Well,
    /// It ended badly.
    Badly {
        /// How it ended, and the last line that it wrote.
        said: String,
    },
    /// The host has no such program, or could not run it.
    Lacks {
        /// In words.
        why: String,
    },
}

/// A number at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// What.
    pub value: f64,
}

/// What somebody outside says of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Go on.
    Pass,
    /// Not yet.
    Wait,
    /// No.
    Fail,
}

/// What is known of a patched host's findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProof {
    /// When the inventory came that they were judged by. `None`: there is none.
    pub inventory_at: Option<Timestamp>,
    /// Those that its order fixes and that are not proved gone.
    pub left: BTreeMap<String, FindingState>,
    /// Units of its processes that still map replaced files.
    pub stale_units: Vec<String>,
}

/// What a gate made of one thing it asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The check's name; `hosts`, `proof` and `approval` are the gate's own.
    pub check: String,
    /// Which kind of check.
    pub kind: String,
    /// What it means for the gate.
    pub says: Says,
    /// By which figures, in words.
    pub why: String,
    /// Since when it has been so, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Hosts that it found fault with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<HostId>,
    /// What it was judged by, where somebody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<GateEvidence>,
}

impl Judged {
    /// A patched host that does badly.
    pub(in crate::rollout) fn of_host(host: &HostId, why: &str) -> Self {
        Self {
            check: HOSTS.to_owned(),
            kind: HOSTS.to_owned(),
            says: Says::Fails,
            why: why.to_owned(),
            since: None,
            bad: vec![host.clone()],
            evidence: None,
        }
    }
}

/// What a check means for its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It may pass.
    Passes,
    /// Not yet: there is no data, or not enough.
    Waits,
    /// It must not.
    Fails,
}

impl Says {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Waits => "waits",
            Self::Fails => "fails",
        }
    }
}

impl HostRan {
    /// Did it come out as it should?
    pub fn is_well(&self) -> bool {
        self.came == Came::Well
    }
}

/// As many hosts and readings of an answer are kept with a gate's event.
const KEPT: usize = 50;
/// And so many of what each host measured.
const KEPT_SAMPLES: usize = 20;

impl Answer {
    /// The answer as it is kept with an event: what makes up its length is cut, the newest and what was found stays.
    pub(super) fn kept(mut self) -> Self {
        match &mut self {
            Self::Readings { readings, .. } => {
                let surplus = readings.len().saturating_sub(KEPT);
                readings.drain(..surplus);
            }
            Self::Findings { hosts } => {
                if hosts.len() > KEPT {
                    let clean: Vec<HostId> = hosts
                        .iter()
                        .filter(|(_, proof)| proof.left.is_empty())
                        .map(|(id, _)| id.clone())
                        .take(hosts.len() - KEPT)
                        .collect();
                    clean.iter().for_each(|id| drop(hosts.remove(id)));
                }
            }
            Self::Ran { hosts } => {
                if hosts.len() > KEPT {
                    let surplus = hosts.len() - KEPT;
                    let well = hosts.iter().filter(|(_, ran)| ran.is_well()).map(|(id, _)| id);
                    let well: Vec<HostId> = well.take(surplus).cloned().collect();
                    well.iter().for_each(|id| drop(hosts.remove(id)));
                }
            }
            // What they amount to is in the words of the judgement.
            Self::Measured { hosts } => {
                while hosts.len() > KEPT {
                    hosts.pop_last();
                }
                for samples in hosts.values_mut() {
                    let surplus = samples.len().saturating_sub(KEPT_SAMPLES);
                    samples.drain(..surplus);
                }
            }
            Self::Word { reason, .. } => {
                *reason = reason.chars().take(1000).collect();
            }
            Self::None { error, .. } => *error = error.chars().take(1000).collect(),
        }
        self
    }
}
