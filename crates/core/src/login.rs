//! Logging in: by which way somebody came, what a password has to be, how long a session lives, and how those who try
//! again and again are slowed down. Pure: what was tried and *now* are handed in.

mod password;

pub use password::{BadPassword, PASSWORD_LONGEST, PASSWORD_SHORTEST, check_password};

use crate::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What vouched for a principal. Whoever comes is the same person by any of them: roles, approvals and the ledger know
/// the name only. Another source of identity is another variant here, and every place that has to know it will say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The token that the server wrote into its data directory.
    ServerToken,
    /// A token that was made for them.
    Token,
    /// Their name and password.
    Password,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ServerToken, Self::Token, Self::Password];

    /// The word, as the store and the API have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ServerToken => "server-token",
            Self::Token => "token",
            Self::Password => "password",
        }
    }

    /// The way with that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.word() == word)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A session ends so long after it began, whatever happens: a working day.
pub const SESSION_LONGEST: SignedDuration = SignedDuration::from_hours(12);
/// A session ends when no page was asked for in so long.
pub const SESSION_IDLE: SignedDuration = SignedDuration::from_hours(2);

/// When a session ends that began then and was last used then.
pub fn session_end(began_at: Timestamp, seen_at: Timestamp) -> Timestamp {
    let after = |at: Timestamp, by| at.checked_add(by).unwrap_or(Timestamp::MAX);
    after(began_at, SESSION_LONGEST).min(after(seen_at, SESSION_IDLE))
}

/// How patient one is with failed tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So many failures cost no time.
    pub free: usize,
    /// Each one more doubles the wait, and it is never longer than this, in seconds. That is what keeps a stranger from
    /// locking anybody out.
    pub longest: i64,
}

/// Failures are forgotten after this.
pub const FORGOTTEN: SignedDuration = SignedDuration::from_mins(15);
/// Against one account, from wherever the person has not logged in before.
pub const OF_ACCOUNT: Pace = Pace { free: 5, longest: 60 };
/// From one address, against whatever account.
pub const OF_ADDRESS: Pace = Pace { free: 20, longest: 60 };
/// From one network of very many addresses, as everybody is given with IPv6.
pub const OF_NETWORK: Pace = Pace { free: 100, longest: 60 };
/// So many tries against an account are heard from each network, whatever others have tried from elsewhere.
pub const FREE_HERE: usize = 3;
/// From the browsers in which this very account was logged in before, by its password as it is now. They are asked in place of
/// the others, so what strangers do elsewhere costs them nothing.
pub const OF_BROWSER: Pace = Pace { free: 10, longest: 60 };

/// When those of these failures were that count still. A clock that was set back makes none lie in the future.
fn counting(failed: &[Timestamp], now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let since = now.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
    failed.iter().map(move |at| (*at).min(now)).filter(move |at| *at > since)
}

/// How many of these failures count still.
pub fn lately(failed: &[Timestamp], now: Timestamp) -> usize {
    counting(failed, now).count()
}

/// How long somebody has to wait before the next try, given when the last ones failed, in any order. `None`: not at all.
pub fn wait(pace: Pace, failed: &[Timestamp], now: Timestamp) -> Option<SignedDuration> {
    let more = lately(failed, now).checked_sub(pace.free)?;
    let doubled = 1_i64.checked_shl(u32::try_from(more).unwrap_or(u32::MAX)).filter(|s| *s > 0);
    let seconds = doubled.unwrap_or(pace.longest).min(pace.longest);
    let last = counting(failed, now).max()?;
    let until = last.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    let left = until.duration_since(now);
    left.is_positive().then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn seconds(pace: Pace, failed: &[i64], now: i64) -> Option<i64> {
        let failed: Vec<_> = failed.iter().map(|s| at(*s)).collect();
        wait(pace, &failed, at(now)).map(|left| left.as_secs())
    }

    #[test]
    fn the_first_tries_are_free_and_each_further_one_doubles_the_wait() {
        let pace = Pace { free: 3, longest: 60 };
        for (failed, now, expected) in [
            (&[][..], 0, None),
            (&[0, 0], 0, None),
            (&[0, 0, 0], 0, Some(1)),
            (&[0, 0, 0], 1, None),
            (&[0, 0, 0, 0], 0, Some(2)),
            (&[0, 0, 0, 0, 0, 0], 0, Some(8)),
            (&[0, 0, 0, 0, 0, 0], 5, Some(3)),
            (&[0; 9], 0, Some(60)),
            (&[0; 200], 0, Some(60)),
            (&[0; 200], 60, None),
            // A quarter of an hour later it is as if nothing had been.
            (&[0; 200], 900, None),
            (&[0, 0, 0, 0, 900], 900, None),
            // The clock was set back.
            (&[500; 9], 0, Some(60)),
        ] {
            assert_eq!(seconds(pace, failed, now), expected, "{failed:?} at {now}");
        }
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_the_longest_whatever_strangers_do(
            failed in prop::collection::vec(-2000_i64..2000, 0..60), now in -2000_i64..2000
        ) {
            for pace in [OF_ACCOUNT, OF_ADDRESS, OF_BROWSER] {
                let left = seconds(pace, &failed, now).unwrap_or(0);
                prop_assert!((0..=pace.longest).contains(&left), "{left}");
                if failed.len() < pace.free {
                    prop_assert_eq!(left, 0);
                }
                // Whoever waits as long as they were told is let through.
                prop_assert_eq!(seconds(pace, &failed.iter().map(|s| (*s).min(now)).collect::<Vec<_>>(), now + left + 1), None);
            }
        }

        #[test]
        fn one_more_failure_never_makes_the_wait_shorter(
            mut failed in prop::collection::vec(0_i64..900, 0..40), now in 0_i64..900, more in 0_i64..900
        ) {
            let before = seconds(OF_ACCOUNT, &failed, now);
            failed.push(more.min(now));
            prop_assert!(seconds(OF_ACCOUNT, &failed, now) >= before);
        }
    }

    #[test]
    fn a_session_ends_by_not_being_used_and_at_the_end_of_the_day() {
        let hour = 3600;
        assert_eq!(session_end(at(0), at(0)), at(2 * hour));
        assert_eq!(session_end(at(0), at(9 * hour)), at(11 * hour));
        assert_eq!(session_end(at(0), at(11 * hour)), at(12 * hour));
    }

    #[test]
    fn a_way_prints_and_parses_to_itself() {
        for way in Way::ALL {
            assert_eq!(Way::named(way.word()), Some(way));
            assert_eq!(serde_json::to_value(way).unwrap(), way.word());
        }
        assert_eq!(Way::named("hearsay"), None);
    }
}
