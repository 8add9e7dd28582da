//! How long changes took, and how long others may take then.

use crate::assignment::PackageChange;
use crate::{Digest, Shared};
use serde::{Deserialize, Serialize};

/// A change that ended well, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// From the host's first record to its last.
    pub seconds: u64,
    /// Packages that it changed.
    pub packages: u64,
    /// Which change: [`work_key`] of what was done.
    pub work: Digest,
}

/// How long one host may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Half of those it is learned from took no longer, in seconds.
    pub usual_seconds: u64,
    /// Nine in ten took no longer, in seconds.
    pub long_seconds: u64,
    /// From so many changes.
    pub learned_from: u64,
    /// They were this very change, and not only changes of as many packages.
    pub same_change: bool,
}

/// As many of the nearest are learned from.
const NEAREST: usize = 50;
/// Of the very same change so many are enough.
const ENOUGH: usize = 3;

/// A reboot with all that comes up after it takes about so long, in seconds.
const REBOOT_SECONDS: u64 = 300;

/// How long a change may take with its way back. An undo takes about a tenth of what it undoes; where it has to unpack the
/// old archives as well, a quarter.
pub fn with_way_back(seconds: u64) -> u64 {
    seconds.saturating_add(seconds.div_ceil(4))
}

/// How long a host is at work once its grant is redeemed, its way back included, in seconds: by how long the package manager
/// takes. Preimage, restarts and checks take a quarter of that at most.
pub fn changing_seconds(apply_seconds: f64, reboots: bool) -> u64 {
    // A negative one, and what is no number, comes out as 0.
    let apply = apply_seconds.ceil() as u64;
    let reboot = if reboots { REBOOT_SECONDS } else { 0 };
    with_way_back(apply.saturating_add(apply.div_ceil(4)).saturating_add(reboot))
}

/// What tells one change from another: packages and versions on either side.
pub fn work_key(changes: &[Shared<PackageChange>]) -> Digest {
    let all: Vec<_> = changes.iter().map(|c| (&c.name, &c.from, &c.to)).collect();
    Digest::of_json(&all)
}

/// Learns from the very same change where it was made often enough, else from the changes that are nearest in their
/// number of packages. `None`: nothing was changed yet.
pub fn expected(spent: &[Spent], packages: u64, work: Digest) -> Option<Expected> {
    let same: Vec<u64> = spent.iter().filter(|it| it.work == work).map(|it| it.seconds).collect();
    let same_change = same.len() >= ENOUGH;
    let mut seconds = if same_change {
        same
    } else {
        let mut all: Vec<&Spent> = spent.iter().collect();
        all.sort_by_key(|it| it.packages.abs_diff(packages));
        all.into_iter().take(NEAREST).map(|it| it.seconds).collect()
    };
    seconds.sort_unstable();
    let last = seconds.len().checked_sub(1)?;
    Some(Expected {
        usual_seconds: seconds[last / 2],
        // The nearest rank: of ten, the ninth.
        long_seconds: seconds[(seconds.len() * 9).div_ceil(10).max(1) - 1],
        learned_from: seconds.len() as u64,
        same_change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(seconds: u64, packages: u64, work: &str) -> Spent {
        Spent { seconds, packages, work: Digest::of(work.as_bytes()) }
    }

    #[test]
    fn a_change_needs_room_for_its_way_back_and_for_a_reboot_where_one_is_owed() {
        assert_eq!(with_way_back(100), 125);
        assert_eq!(changing_seconds(80.2, false), 128, "81, 21 for what is around it, 26 back");
        assert_eq!(changing_seconds(80.2, true), 503);
        for odd in [-1.0, 0.0, f64::NAN] {
            assert_eq!(changing_seconds(odd, false), 0, "{odd}");
        }
        assert_eq!(changing_seconds(f64::INFINITY, true), u64::MAX);
    }

    #[test]
    fn nothing_is_expected_of_what_was_never_seen() {
        assert_eq!(expected(&[], 10, Digest::of(b"a")), None);
    }

    #[test]
    fn the_very_change_counts_where_it_was_made_often_enough_and_else_those_like_it() {
        let mut all: Vec<Spent> = (1..=60).map(|n| spent(n, 100, "other")).collect();
        all.extend((1..=30).map(|n| spent(1000 + n, 5, "small")));
        let few = expected(&all, 6, Digest::of(b"new")).unwrap();
        // 30 of five packages, and of the others the first twenty.
        assert_eq!((few.learned_from, few.same_change), (50, false));
        assert_eq!((few.usual_seconds, few.long_seconds), (1005, 1025));
        all.extend([10, 30, 20].map(|seconds| spent(seconds, 6, "new")));
        let known = expected(&all, 6, Digest::of(b"new")).unwrap();
        assert_eq!(
            known,
            Expected { usual_seconds: 20, long_seconds: 30, learned_from: 3, same_change: true }
        );
    }
}
