//! What a policy's gate asks besides what every gate asks: `[[check]]`, proof, approval, and what a red gate undoes.
//!
//! These are questions only. Whoever answers them stands at the server's edge and can say nothing but what was found;
//! what follows from an answer is judged by [`crate::rollout`].

use super::GateRule;
use crate::assignment::Probe;
use serde::{Deserialize, Serialize};

/// Name under which a gate keeps what it found about findings proved gone: no `[[check]]` may have it.
pub const PROOF: &str = "proof";
/// Name under which a gate keeps what it found about the wave's hosts themselves.
pub const HOSTS: &str = "hosts";
/// Name under which a gate keeps who let the next ring begin.
pub const APPROVAL: &str = "approval";

/// What `approval` says where every wave waits for somebody's word, and not only the first of some rings.
pub const EACH_WAVE: &str = "each-wave";

/// A question that the gate after each wave asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRule {
    /// What people call it; unique in its policy.
    pub name: String,
    /// Which question.
    #[serde(flatten)]
    pub asks: CheckKind,
    /// The gate waits so long after the bake for an answer that lets it pass, in seconds, and then fails. `None`: it
    /// waits until somebody decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_after_seconds: Option<u64>,
}

/// The kinds of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CheckKind {
    /// The server asks a Prometheus server; its one number has to be where it should.
    Prometheus {
        /// Base address: `https://prometheus.example.org`.
        url: String,
        /// PromQL that gives one number.
        query: String,
        /// Where the number has to be.
        expect: Expect,
        /// For so long without a break, after the wave, in seconds.
        for_seconds: u64,
    },
    /// The server asks a program of the operator's by HTTP; its word counts.
    Webhook {
        /// Where.
        url: String,
    },
    /// Each patched host of the wave runs a program of its own list; it has to come out well.
    Host {
        /// Which.
        test: HostTest,
        /// On so many of them, in percent.
        min_percent: u32,
    },
    /// The wave's patched hosts may answer no worse than before, and than others that were not patched yet.
    Performance(PerformanceRule),
}

/// What is measured, and how much worse it may become.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerformanceRule {
    /// What each host asks itself, again and again.
    pub probe: Probe,
    /// So much longer, and so much more often wrongly, a host may answer, in percent of what it did.
    pub margin_percent: u32,
    /// Fewer answers than this say nothing.
    pub min_samples: u32,
    /// A host counts as worse when it would look so by chance less often than one minus this.
    pub confidence: f64,
}

/// A program that a host's administrator lets be run by name. The name is all that ever goes to the host, and a host
/// that has no such file runs nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostTest {
    /// On which of the host's lists it stands.
    pub list: HostList,
    /// File name, no slash.
    pub name: String,
}

/// The lists of a host, below its `/etc/fettle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostList {
    /// `tests.d`: does what is installed fit together?
    #[serde(rename = "tests.d")]
    Tests,
    /// `probes.d`: does the host do its work?
    #[serde(rename = "probes.d")]
    Probes,
}

impl HostList {
    /// Its directory's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tests => "tests.d",
            Self::Probes => "probes.d",
        }
    }
}

impl std::fmt::Display for HostTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.list.word(), self.name)
    }
}

impl CheckKind {
    /// Is it asked of the hosts themselves, and not of somebody outside the fleet?
    pub fn is_of_hosts(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Performance(_))
    }

    /// The word, as policy, CLI, API and web write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Prometheus { .. } => "prometheus",
            Self::Webhook { .. } => "webhook",
            Self::Host { .. } => "host",
            Self::Performance(_) => "performance",
        }
    }
}

/// Where a number has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", content = "than", rename_all = "kebab-case")]
pub enum Expect {
    /// Less than this.
    Below(f64),
    /// More than this.
    Above(f64),
    /// Exactly this.
    Equals(f64),
}

impl Expect {
    /// Is it there? What is no number is nowhere.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::Above(limit) => value > limit,
            // Counts and flags are what one compares so: they come as exact numbers.
            #[allow(clippy::float_cmp)]
            Self::Equals(wanted) => value == wanted,
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Below(limit) => write!(f, "below {limit}"),
            Self::Above(limit) => write!(f, "above {limit}"),
            Self::Equals(wanted) => write!(f, "equal to {wanted}"),
        }
    }
}

/// Which patched hosts a gate that failed takes back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoRule {
    /// None: somebody decides.
    None,
    /// Those of the wave that the gate found fault with.
    Failed,
    /// Every patched host of the wave.
    Wave,
    /// Every patched host of the rollout.
    All,
}

impl UndoRule {
    /// The word, as the policy writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Failed => "failed",
            Self::Wave => "wave",
            Self::All => "all",
        }
    }
}

impl GateRule {
    /// What a red gate undoes.
    pub fn undoes(&self) -> UndoRule {
        match self.undo {
            Some(rule) => rule,
            None if self.undo_wave => UndoRule::Wave,
            None => UndoRule::None,
        }
    }

    /// Does the gate between these two rings wait for somebody's word? `after` and `next` are the rings of the wave
    /// that has ended and of the one that would begin.
    pub fn waits_for_approval(&self, after: &str, next: &str) -> bool {
        self.approval.iter().any(|ring| ring == EACH_WAVE || (ring == next && after != next))
    }

    /// Does a rollout whose first wave is of this ring wait for somebody's word before it begins? Where the rings before
    /// it have nothing to do, nobody has seen anything either: the word is asked for all the same.
    pub fn waits_at_first(&self, ring: &str) -> bool {
        self.approval.iter().any(|asked| asked == EACH_WAVE || asked == ring)
    }
}
