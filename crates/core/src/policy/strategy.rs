//! How the hosts of a policy are led through a change: ring by ring, by shares, or one after another.

use super::{Policy, Selector};
use crate::host::Host;
use serde::{Deserialize, Serialize};

/// The stage of every host where a policy has no rings.
pub const EVERYBODY: &str = "all";

/// How the hosts of a policy are led through a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Strategy {
    /// The policy's rings, in order.
    #[default]
    Rings,
    /// Waves that grow: after each, so many of the plan's hosts have been patched.
    Percentage {
        /// Percent of the plan's hosts, growing, the last one 100. A wave that would add nobody is left out.
        waves: Vec<u32>,
        /// Rest after each wave's gate before the next one starts, in seconds.
        soak_seconds: u64,
    },
    /// One after another: as one host has ended and was watched, the next one begins. No gate stands between them;
    /// the failures that the gate allows hold for all of them together.
    Rolling {
        /// Hosts of the policy that may be disrupted or watched at once.
        max_unavailable: Share,
    },
    /// Two pools behind a balancer. The idle one is patched and proved, then it gets the requests in steps; the other one
    /// is the way back until the last step has baked, and is patched then.
    BlueGreen {
        /// The one pool.
        blue: Selector,
        /// The other.
        green: Selector,
        /// Percent of the requests that the patched pool gets, step by step; growing, the last one 100.
        traffic: Vec<u32>,
        /// So many hosts must be proved before they get requests, in percent of the pool that has them.
        capacity_percent: u32,
    },
}

/// One of two pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Blue.
    Blue,
    /// Green.
    Green,
}

impl Pool {
    /// The word, as policies, CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

/// So many hosts, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Hosts.
    Hosts(u32),
    /// Percent of the hosts.
    Percent(u32),
}

impl Share {
    /// How many of `size` hosts. A share is rounded down, since it is a limit; but one host may always go, or
    /// nobody ever would.
    pub fn of(self, size: usize) -> u32 {
        (self.hundredths_of(size) / 100).try_into().unwrap_or(u32::MAX).max(1)
    }

    /// How many of `size` hosts that is at least: a share is rounded up.
    pub fn at_least(self, size: usize) -> u32 {
        self.hundredths_of(size).div_ceil(100).try_into().unwrap_or(u32::MAX)
    }

    /// How many hundredths of a host.
    fn hundredths_of(self, size: usize) -> u64 {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        match self {
            Self::Hosts(hosts) => u64::from(hosts) * 100,
            Self::Percent(percent) => size.saturating_mul(u64::from(percent)),
        }
    }
}

impl Policy {
    /// The stage a host goes through its change in: its ring, where the policy has rings. `None`: no stage is the
    /// host's, and it is never patched.
    pub fn stage_of(&self, host: &Host) -> Option<&str> {
        match &self.strategy {
            Strategy::Rings => self.ring_of(host).map(|ring| ring.name.as_str()),
            Strategy::Percentage { .. } | Strategy::Rolling { .. } => Some(EVERYBODY),
            // In both pools a host would have to be patched and serve at once.
            Strategy::BlueGreen { blue, green, .. } => {
                match (blue.matches(host), green.matches(host)) {
                    (true, false) => Some(Pool::Blue.word()),
                    (false, true) => Some(Pool::Green.word()),
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_never_nobody() {
        for (share, of, hosts) in [
            (Share::Hosts(2), 10, 2),
            (Share::Hosts(20), 10, 20),
            (Share::Percent(25), 10, 2),
            (Share::Percent(25), 3, 1),
            (Share::Percent(100), 3, 3),
            (Share::Percent(1), 0, 1),
        ] {
            assert_eq!(share.of(of), hosts, "{share:?} of {of}");
        }
    }

    #[test]
    fn a_share_that_must_be_there_is_rounded_up() {
        for (share, of, hosts) in [
            (Share::Hosts(2), 10, 2),
            (Share::Percent(75), 10, 8),
            (Share::Percent(50), 3, 2),
            (Share::Percent(100), 3, 3),
            (Share::Percent(50), 0, 0),
        ] {
            assert_eq!(share.at_least(of), hosts, "{share:?} of {of}");
        }
    }
}
