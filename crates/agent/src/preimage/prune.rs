//! Which preimages are no longer needed: a decision, of values.

use fettle_core::transaction::Outcome;
use fettle_core::{Timestamp, TransactionId};

/// The last transactions whose preimages are kept whatever their age.
pub const KEEP_LAST: usize = 5;
/// Preimages younger than so many days are kept however many there are.
pub const KEEP_DAYS: u32 = 30;

/// A transaction that has a preimage.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Which.
    pub id: TransactionId,
    /// How it ended, and when. `None`: it has not ended, or its journal does not tell.
    pub ended: Option<(Timestamp, Outcome)>,
}

/// The transactions whose preimages may go: all but the `last` that ended last and those that ended less than
/// `days` ago. Never that of one that has not ended, or whose host is quarantined: somebody still needs it.
pub fn may_go(all: &[Past], last: usize, days: u32, now: Timestamp) -> Vec<TransactionId> {
    let mut ended: Vec<(Timestamp, &Past)> =
        all.iter().filter_map(|p| Some((p.ended.as_ref()?.0, p))).collect();
    // Newest first; the name decides between two of one instant, so that the answer is always the same.
    ended.sort_by(|(a, p), (b, q)| b.cmp(a).then_with(|| q.id.as_str().cmp(p.id.as_str())));
    let age = |at: Timestamp| now.as_second().saturating_sub(at.as_second());
    let quarantined = |p: &Past| matches!(p.ended, Some((_, Outcome::Quarantined { .. })));
    ended
        .into_iter()
        .skip(last)
        .filter(|(at, p)| age(*at) >= i64::from(days) * 86_400 && !quarantined(p))
        .map(|(_, p)| p.id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn past(name: &str, days_ago: Option<i64>, outcome: Outcome) -> Past {
        let at = |days: i64| Timestamp::from_second(1_795_000_000 - days * DAY).unwrap();
        Past { id: TransactionId::new(name), ended: days_ago.map(|d| (at(d), outcome)) }
    }
    fn now() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }
    fn quarantined() -> Outcome {
        Outcome::Quarantined { reason: "x".into() }
    }

    #[test]
    fn old_ones_beyond_the_last_go_and_no_other() {
        let all = [
            past("tx-old", Some(90), Outcome::Patched),
            past("tx-older", Some(91), Outcome::Undone { reason: "x".into() }),
            past("tx-stuck", Some(400), quarantined()),
            past("tx-open", None, Outcome::Patched),
            past("tx-30", Some(30), Outcome::Patched),
            past("tx-29", Some(29), Outcome::Patched),
            past("tx-1", Some(1), Outcome::Patched),
        ];
        let names = |last, days| {
            let ids = may_go(&all, last, days, now());
            ids.iter().map(|i| i.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(2, 30), ["tx-30", "tx-old", "tx-older"]);
        assert_eq!(names(KEEP_LAST, KEEP_DAYS), Vec::<String>::new());
        assert_eq!(names(4, 30), ["tx-older"]);
        assert_eq!(names(0, 0), ["tx-1", "tx-29", "tx-30", "tx-old", "tx-older"]);
        // A clock set back makes nothing old.
        assert!(may_go(&all, 0, 30, Timestamp::from_second(1_000_000_000).unwrap()).is_empty());
    }

    proptest! {
        #[test]
        fn what_must_be_kept_is_kept_whatever_else_there_is(
            ages in proptest::collection::vec((proptest::option::of(0i64..100), any::<bool>()), 0..20),
            last in 0usize..8,
            days in 0u32..60,
        ) {
            let all: Vec<Past> = ages
                .iter()
                .enumerate()
                .map(|(n, (age, stuck))| {
                    past(&format!("tx-{n:02}"), *age, if *stuck { quarantined() } else { Outcome::Patched })
                })
                .collect();
            let go = may_go(&all, last, days, now());
            for id in &go {
                let p = all.iter().find(|p| p.id == *id).unwrap();
                let (at, outcome) = p.ended.as_ref().unwrap();
                prop_assert_eq!(outcome, &Outcome::Patched);
                prop_assert!(now().as_second() - at.as_second() >= i64::from(days) * DAY);
                let newer = all.iter().filter(|q| q.ended.as_ref().is_some_and(|(t, _)| t > at)).count();
                let level = all.iter().filter(|q| q.ended.as_ref().is_some_and(|(t, _)| t >= at)).count();
                prop_assert!(newer >= last || level > last);
            }
            let ended = all.iter().filter(|p| p.ended.is_some()).count();
            prop_assert!(ended - go.len() >= last.min(ended));
        }
    }
}
