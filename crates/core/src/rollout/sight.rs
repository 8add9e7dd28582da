//! Observations, with what every decision needs of them looked up beforehand: a decision then goes through those hosts
//! only that are at work or stand out.

use super::bits::Bits;
use super::roster::Roster;
use super::{HostObservation, Observations, Rollout};
use crate::Timestamp;
use std::sync::Arc;

/// What is observed of the fleet, as [`Rollout::next`] decides by it.
#[derive(Debug, Clone)]
pub struct Sight {
    seen: Observations,
    index: Index,
    /// By whose places the index goes.
    roster: Arc<Roster>,
}

impl Sight {
    /// As this rollout looks at it.
    pub fn of(rollout: &Rollout, seen: Observations) -> Self {
        let index = Index::of(rollout, &seen);
        Self { seen, index, roster: rollout.roster().clone() }
    }

    /// What is observed.
    pub(super) fn seen(&self) -> &Observations {
        &self.seen
    }

    /// The index, for a rollout that it was made for.
    pub(super) fn index(&self, rollout: &Rollout) -> Option<&Index> {
        Arc::ptr_eq(&self.roster, rollout.roster()).then_some(&self.index)
    }
}

/// Who stands out, by place.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// The rollout's version when it was made: what depends on where hosts stand holds for that one only.
    version: u64,
    /// Of the fleet.
    pub(super) there: Bits,
    pub(super) quarantined: Bits,
    /// Patched, and heard of since.
    spoke: Bits,
    /// Patched in a rolling wave, and heard of after it was watched: it does well for good.
    well: Bits,
    /// Would be cancelled before it starts: left, quarantined, or changed since the plan.
    pub(super) cancels: Bits,
    /// Quarantined, or at work in another rollout.
    pub(super) away: Bits,
    /// Budget → those of its hosts on which a unit that it asks for is not active.
    pub(super) unwell: Vec<Bits>,
    /// Outside its window.
    pub(super) closed: Bits,
    /// When the next of the closed windows may open.
    pub(super) opens_at: Option<Timestamp>,
    /// When it was last heard of, in nanoseconds since 1970; whoever was never heard of comes before everybody, whoever
    /// is not there after.
    heard: Vec<i64>,
    /// The earliest of each [`RUN`] of them: who has spoken lately is passed over in one look.
    earliest: Vec<i64>,
}

/// Hosts that are passed over together.
const RUN: usize = 64;

impl Index {
    pub(super) fn of(rollout: &Rollout, seen: &Observations) -> Self {
        let roster = rollout.roster();
        let mut out = Self {
            version: rollout.version,
            unwell: vec![Bits::default(); rollout.plan.budgets.len()],
            heard: vec![i64::MAX; roster.len()],
            ..Self::default()
        };
        for (first, ids) in roster.parts() {
            // Both are sorted: gone through side by side.
            let mut observed = seen.hosts.iter().peekable();
            for (place, id) in (first..).zip(ids) {
                while observed.next_if(|(other, _)| *other < id).is_some() {}
                let host = observed.next_if(|(other, _)| *other == id).map(|(_, host)| host);
                out.put(rollout, place, host);
            }
        }
        let earliest = |run: &[i64]| run.iter().copied().min().unwrap_or(i64::MAX);
        out.earliest = out.heard.chunks(RUN).map(earliest).collect();
        out
    }

    fn put(&mut self, rollout: &Rollout, place: usize, host: Option<&HostObservation>) {
        // Who is not of the plan is only counted.
        let planned = rollout.roster().cohort(place);
        let cancels = planned.is_some() && Rollout::stands_out(planned, host).is_some();
        self.cancels.put(place, cancels);
        let busy = |h: &HostObservation| h.busy.as_ref().is_some_and(|r| *r != rollout.id);
        self.away.put(place, host.is_some_and(|h| h.quarantined || busy(h)));
        self.there.put(place, host.is_some());
        if let Some(host) = host.filter(|h| !h.down.is_empty()) {
            for &number in rollout.roster().budgets_of(place) {
                let services = &rollout.plan.budgets[number].services;
                let unwell = services.iter().any(|unit| host.down.contains(unit));
                self.unwell[number].put(place, unwell);
            }
        }
        let quarantined = host.is_some_and(|h| h.quarantined);
        self.quarantined.put(place, quarantined);
        if let Some(host) = host.filter(|_| rollout.hosts.marks().patched.has(place)) {
            let run = rollout.hosts.at(place);
            let spoke = host.last_seen > run.ended_at;
            self.spoke.put(place, spoke);
            self.well.put(place, spoke && !quarantined && rollout.was_watched(run, host.last_seen));
        }
        let window = host.and_then(|h| h.window.as_ref());
        self.closed.put(place, window.is_some());
        self.opens_at = self.opens_at.into_iter().chain(window.and_then(|w| w.ends_at())).min();
        let heard = host.map_or(i64::MAX, |h| h.last_seen.map_or(i64::MIN, nanoseconds));
        if let Some(known) = self.heard.get_mut(place) {
            *known = heard;
        }
    }

    /// Patched hosts that were heard of since they ended.
    pub(super) fn spoke(&self, rollout: &Rollout) -> Bits {
        if self.version == rollout.version {
            return self.spoke.clone();
        }
        let since = |place: &usize| self.heard(*place) > rollout.hosts.at(*place).ended_at;
        rollout.hosts.marks().patched.clone().and(&self.there).iter().filter(since).collect()
    }

    /// Patched hosts of rolling waves that have to be looked at: all but those that have shown that they do well.
    pub(super) fn watched(&self, rollout: &Rollout) -> Bits {
        let roster = rollout.roster();
        let all = rollout.hosts.marks().patched.clone().and(&roster.rolling).and(&self.there);
        if self.version != rollout.version {
            return all;
        }
        // In a wave that an operator's resume excused, the bake alone counts.
        let excused = rollout.excused_wave.map(|wave| roster.wave(wave)).unwrap_or_default();
        all.without(&self.well.clone().without(&excused))
    }

    /// When the host in this place was last heard of.
    pub(super) fn heard(&self, place: usize) -> Option<Timestamp> {
        let at = self.heard.get(place).filter(|at| !matches!(**at, i64::MIN | i64::MAX))?;
        Timestamp::from_nanosecond(i128::from(*at)).ok()
    }

    /// There, and not heard of for longer than the wave at work allows.
    pub(super) fn unheard(&self, rollout: &Rollout, now: Timestamp) -> Bits {
        // As `is_unheard` has it: more than so many whole seconds.
        let seconds = rollout.silent_after().checked_add(1);
        let limit = seconds.map(jiff::SignedDuration::from_secs);
        let limit = limit.and_then(|silent| now.checked_sub(silent).ok()).map(nanoseconds);
        let limit = limit.unwrap_or(i64::MIN);
        let mut out = Bits::default();
        let runs = self.heard.chunks(RUN).zip(&self.earliest).enumerate();
        for (run, (heard, _)) in runs.filter(|(_, (_, earliest))| **earliest <= limit) {
            for (at, _) in heard.iter().enumerate().filter(|(_, heard)| **heard <= limit) {
                out.put(run * RUN + at, true);
            }
        }
        out
    }
}

/// What one decision is made by.
pub(super) struct By<'a> {
    pub(super) index: &'a Index,
    /// There, and not heard of for too long.
    pub(super) unheard: Bits,
    /// What each host waits for is told as well.
    pub(super) tell: bool,
}

impl<'a> By<'a> {
    pub(super) fn of(rollout: &Rollout, index: &'a Index, now: Timestamp, tell: bool) -> Self {
        Self { index, unheard: index.unheard(rollout, now), tell }
    }

    /// Disrupted, whatever this rollout does: quarantined, at work elsewhere, or not heard of.
    pub(super) fn disrupted(&self) -> Bits {
        self.index.away.clone().or(&self.unheard)
    }
}

/// Kept within what an `i64` holds, which lasts until 2262.
fn nanoseconds(at: Timestamp) -> i64 {
    let at = at.as_nanosecond();
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX - 1 })
}
