//! The agent protocol: HTTP/1.1 with JSON bodies over mTLS, the agent always being the client.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /agent/v1/enroll` (TLS, no client certificate) | [`Enroll`] | [`Enrolled`] |
//! | `POST /agent/v1/checkin` | [`CheckIn`] | [`CheckInReply`] |
//! | `POST /agent/v1/redeem` | [`Redeem`] | [`RedeemReply`] |
//! | `POST /agent/v1/renew` | [`Renew`] | [`Renewed`] |
//! | `POST /agent/v1/here` | `{}` | `{}`: the server is there |
//! | `POST /agent/v1/tested` (a worker) | [`Tested`] | [`TestedReply`] |
//!
//! Errors are [`fettle_core::Problem`] as JSON with a 4xx or 5xx status.

use crate::plan_key::{PlanProof, SignedKeySet};
use crate::sign::SignedAssignment;
use fettle_core::{
    AssignmentId, Digest, Hold, HostId, Timestamp, TransactionId,
    assignment::Probe,
    inventory::Inventory,
    rollout::{Came, HostAsk},
    testbed::TestReport,
    transaction::TransactionReport,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest body the server takes from an agent, in bytes.
pub const MAX_BODY: usize = 32 << 20;

/// As many tests are asked of a host at once, and answered by it.
pub const MOST_ASKS: usize = 16;
/// A host measures so many things at once.
pub const MOST_WATCHES: usize = 8;

/// A host asks to join the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enroll {
    /// The secret part of the one-time token ([`crate::token::EnrolToken`]).
    pub token: String,
    /// PKCS#10 certificate request, PEM. The key was made on the host and stays there; names in it are ignored.
    pub csr: String,
    /// The machine's host name.
    pub name: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// The host has joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its name from now on.
    pub host: HostId,
    /// Client certificate, PEM. Its common name is the host id.
    pub certificate: String,
    /// The fleet's certificate authority, PEM.
    pub ca: String,
    /// Ed25519 public key (base64, 32 bytes) that signs assignments.
    pub assignment_key: String,
}

/// An agent speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckIn {
    /// Version of the agent.
    pub agent_version: String,
    /// Digest of the inventory as it is now; always given, the inventory itself only when the server lacks it.
    pub inventory_digest: Option<Digest>,
    /// The inventory, when it changed or the server asked for it.
    pub inventory: Option<Inventory>,
    /// Journal records the server has not acknowledged.
    pub reports: Vec<TransactionReport>,
    /// Highest generation the agent has ever accepted: a server restored from an old backup learns it here.
    pub generation: u64,
    /// Chosen at random when the agent starts. Two that take turns are two machines with one identity.
    #[serde(default)]
    pub session: Option<String>,
    /// What came of the tests that the server asked for ([`CheckInReply::asks`]): the last run of each, with every
    /// check-in for as long as it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ran: Vec<RanReport>,
    /// What it measured ([`CheckInReply::watches`]), as far as the server wants it and lacks it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<MeasuredReport>,
    /// What the host's clock says, in milliseconds since 1970: by it the times of `measured` are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<i64>,
    /// Version of the plan keys that the host asks for; 0: it knows none. An older agent asks for none, and does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_keys: Option<u64>,
    /// The assignment that it does not carry out as it stands, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedOrder>,
}

/// An assignment that a host does not carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOrder {
    /// Which.
    pub assignment: AssignmentId,
    /// Why.
    pub why: String,
}

/// What a host found when it asked itself something again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredReport {
    /// [`Watch::id`].
    pub id: String,
    /// Its number, one more than that of the sample before; when it was asked, by the host's clock in milliseconds since
    /// 1970; and after how many microseconds a good answer came; `None`: there was none, or a wrong one. By their
    /// numbers: a clock may be set back, a count is not.
    pub samples: Vec<(u64, i64, Option<u32>)>,
}

/// A probe that a host asks itself every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Stands for the probe.
    pub id: String,
    /// What is asked: of the host itself and of nobody else.
    pub probe: Probe,
    /// When the host was last to be changed: what was before is kept apart from what was after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Timestamp>,
    /// Tell what was found.
    #[serde(default)]
    pub send: bool,
    /// From the sample on that follows the one with this number. A host that has not come so far has begun to count anew,
    /// and tells all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// What came of a test that the host ran because the server asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanReport {
    /// [`HostAsk::ask`], as it was asked: the run began after that.
    pub ask: String,
    /// How long ago it began, by a clock that nobody sets, in milliseconds.
    pub began_ms_ago: u64,
    /// How long ago it ended.
    pub ended_ms_ago: u64,
    /// What came of it.
    #[serde(flatten)]
    pub came: Came,
}

/// The server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckInReply {
    /// The server's clock, for the agent's sanity check.
    pub server_time: Timestamp,
    /// Come back after this many seconds (spread by the server; sooner in a rollout).
    pub next_checkin_seconds: u32,
    /// The server does not have the inventory of the digest given: send it at once.
    pub want_inventory: bool,
    /// Transaction → first sequence number the server does not have yet. Durable: survives any crash of the server.
    pub acknowledged: BTreeMap<TransactionId, u64>,
    /// The current assignment for this host, until it is ended or withdrawn.
    pub assignment: Option<SignedAssignment>,
    /// The certificate is two thirds through its life: call `renew`.
    #[serde(default)]
    pub renew: bool,
    /// The server takes bodies compressed with gzip (`Content-Encoding`, RFC 9110). An older one does not, and does not
    /// say so.
    #[serde(default)]
    pub takes_packed: bool,
    /// Another one than last time: the server was restored from a backup, and may have forgotten what it acknowledged.
    /// The agent sends all its journals again.
    #[serde(default)]
    pub epoch: Option<String>,
    /// Tests of the host's own lists, each by its name, that a gate wants to be run now and again while it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<HostAsk>,
    /// What the host is to measure, for gates that compare before and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watches: Vec<Watch>,
    /// The sets of plan keys that follow the one the host knows, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan_keys: Vec<SignedKeySet>,
    /// Shows that operators signed the plan of the assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_proof: Option<PlanProof>,
}

/// Right before a host is changed: does the grant still stand?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redeem {
    /// The assignment.
    pub assignment: AssignmentId,
    /// Its generation.
    pub generation: u64,
    /// How long the host will be at work from now, its way back included, as its rehearsal foretells; in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_seconds: Option<u64>,
}

/// The answer to [`Redeem`]. Asking twice gives the same answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum RedeemReply {
    /// Go on.
    Go,
    /// Do not: the rollout was paused, halted or aborted, or the grant expired.
    Stop {
        /// Why.
        hold: Hold,
    },
}

/// A new certificate before the old one ends, with a new key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Renew {
    /// PKCS#10 certificate request, PEM.
    pub csr: String,
}

/// The new certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Renewed {
    /// Client certificate, PEM.
    pub certificate: String,
}

/// A worker says what came of a test on a twin. Sent until it is acknowledged; said again, it changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The assignment that ordered it.
    pub assignment: AssignmentId,
    /// Its generation.
    pub generation: u64,
    /// What came of it.
    pub report: TestReport,
}

/// The answer to [`Tested`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestedReply {
    /// The server keeps it, or needs it no more: the worker may forget it.
    pub kept: bool,
}
