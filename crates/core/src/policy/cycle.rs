//! `[cycle]`: when a policy carries out by itself what it owes.

use super::{Recurrence, Window};
use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// When a plan is made for what a policy owes, and who starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleRule {
    /// Days it comes due on; empty: every day. Monday is 1, Sunday 7 (ISO 8601).
    pub days: Vec<u8>,
    /// Days it comes due on, by a rule in place of `days`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// It comes due so many days after each of them.
    #[serde(default)]
    pub after_days: u8,
    /// At: minutes after local midnight.
    pub at_minute: u32,
    /// IANA name: `Europe/Berlin`.
    pub time_zone: String,
    /// So long after it came due it is still carried out, in seconds: what was missed while the server was down, or
    /// held. Later it is left to the next one.
    pub catch_up_seconds: u64,
    /// Who starts the rollout.
    pub start: CycleStart,
    /// Whether anything is to be done.
    pub when: CycleWhen,
}

/// Who starts the rollout of a cycle's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CycleStart {
    /// A person: the plan is left for them.
    #[default]
    Propose,
    /// The server, once the plan has the approvals that the policy asks for.
    Automatic,
}

/// When a cycle has anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CycleWhen {
    /// When a host of the policy has an open finding that its sources offer the fix for.
    #[default]
    Owed,
    /// Also when hosts are only offered upgrades that fix nothing known here.
    Offered,
}

impl CycleRule {
    /// Its days and times as a window: open from the time it comes due for as long as it is caught up with.
    fn window(&self) -> Window {
        Window {
            days: self.days.clone(),
            recurrence: self.recurrence.clone(),
            after_days: self.after_days,
            start_minute: self.at_minute,
            duration_seconds: self.catch_up_seconds,
            time_zone: self.time_zone.clone(),
        }
    }

    /// The last time it came due, at `now` or before. `None`: not within a year. A change of the clock is taken as for
    /// windows: a time that does not exist comes at the jump, one that exists twice comes once.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.window().last_start(now)
    }

    /// The next time it comes due, after `now`. `None`: not within a year.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.window().next_start(now)
    }
}
