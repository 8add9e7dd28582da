//! The words of patching, as pure types and decisions.
//!
//! Nothing here reads a clock, a file, the network or a random number: time, seed and observations are
//! handed in, and functions return values that say what happened. That is what lets the same planner,
//! rollout and transaction code run in the product, in the simulator and in the model checker.
//!
//! | word | where |
//! |---|---|
//! | host, label | [`host`] |
//! | inventory, cohort | [`inventory`] |
//! | packages of languages | [`language`] |
//! | other roots on a host: containers, machines, chroots | [`root`] |
//! | advisory | [`advisory`] |
//! | finding | [`finding`] |
//! | policy, selector, window | [`policy`] |
//! | plan | [`plan`] |
//! | rollout, ring, wave, gate | [`rollout`] |
//! | assignment, order | [`assignment`] |
//! | transaction, step | [`transaction`] |
//! | twin, worker, test | [`testbed`] |
//! | hold | [`hold`] |
//! | code: of an error, of a hold | [`code`] |
//! | recall | [`recall`] |
//! | operator, role | [`operator`] |
//! | ledger | [`ledger`] |
//! | cycle: what is done by itself, and when | [`cycle`] |
//! | emergency | [`emergency`] |
//! | feed: where from, when again, how old | [`feed`] |
//! | report: what a period was like | [`report`] |
//! | what many hosts have in common, kept once | [`shared`] |

pub mod advisory;
pub mod assignment;
pub mod code;
pub mod cycle;
pub mod digest;
pub mod emergency;
pub mod feed;
pub mod finding;
pub mod hold;
pub mod host;
pub mod id;
pub mod inventory;
pub mod language;
pub mod ledger;
pub mod login;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod recall;
pub mod report;
pub mod rollout;
pub mod root;
pub mod shared;
pub mod testbed;
pub mod transaction;
pub mod version;

pub use digest::Digest;
pub use hold::Hold;
pub use id::{AssignmentId, HostId, RolloutId, TransactionId};
pub use jiff::Timestamp;
pub use problem::{Problem, ProblemKind};
pub use shared::Shared;

/// `at` and so many seconds; the end of time where that is beyond it.
pub(crate) fn later(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
