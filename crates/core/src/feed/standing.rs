//! How a feed stands: is what is in force young enough to judge hosts by?

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedStanding {
    /// Nothing is in force, and nobody asked for anything.
    Absent,
    /// Confirmed within its limit, and the last look went well.
    Fresh,
    /// Confirmed within its limit, but the last look failed or what it gave was refused.
    Failed,
    /// Not confirmed for longer than its limit, or never.
    Stale,
}

impl FeedStanding {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Fresh => "fresh",
            Self::Failed => "failed",
            Self::Stale => "stale",
        }
    }

    /// Does it call for a person?
    pub fn is_alarm(self) -> bool {
        matches!(self, Self::Failed | Self::Stale)
    }
}

impl fmt::Display for FeedStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is known of a feed's upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// As of when what is in force is known to be the vendor's word. `None`: nothing is in force.
    pub confirmed_at: Option<Timestamp>,
    /// The server fetches it.
    pub watched: bool,
    /// The last look failed, or what it gave was refused.
    pub failing: bool,
    /// So many seconds after it was confirmed it is stale.
    pub stale_after_seconds: u64,
}

impl Upkeep {
    /// How it stands now.
    pub fn standing(&self, now: Timestamp) -> FeedStanding {
        let Some(age) = self.age_seconds(now) else {
            return match (self.watched, self.failing) {
                (true, _) => FeedStanding::Stale,
                (false, true) => FeedStanding::Failed,
                (false, false) => FeedStanding::Absent,
            };
        };
        if age > self.stale_after_seconds {
            FeedStanding::Stale
        } else if self.failing {
            FeedStanding::Failed
        } else {
            FeedStanding::Fresh
        }
    }

    /// Seconds since what is in force was confirmed. A clock that was set back gives 0.
    pub fn age_seconds(&self, now: Timestamp) -> Option<u64> {
        let age = now.duration_since(self.confirmed_at?).as_secs();
        Some(u64::try_from(age).unwrap_or(0))
    }
}
