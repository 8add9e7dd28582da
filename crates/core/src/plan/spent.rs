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
