//! Who is disrupted now, and does one more fit?
//!
//! A host is disrupted while it holds a grant, is being undone, was quarantined by this rollout, is
//! quarantined or silent, or another rollout is at work on it; for a budget that asks for units to be active, also while
//! one of them is not. A host that was undone, or refused, has spoken and is as it was: it is not. A host that left the
//! fleet counts no more, but for a budget that asks for so many to be well. In a rolling wave, a patched host counts until
//! it was watched.

use super::bits::Bits;
use super::gate::Watch;
use super::roster::Roster;
use super::sight::Index;
use super::{HostRun, HostState, Observations, Rollout};
use crate::plan::Budget;
use crate::{Hold, HostId, Timestamp};
use std::cell::OnceCell;

/// A hold names at most so many hosts: with a large fleet every waiting host would else name every disrupted one.
const NAMED: usize = 10;

/// The budgets of a plan with the hosts disrupted now.
pub(super) struct Budgets<'a> {
    rollout: &'a Rollout,
    roster: &'a Roster,
    /// Budget → how many may be disrupted.
    limits: Vec<usize>,
    disrupted: Vec<Bits>,
    used: Vec<usize>,
    /// The first of the disrupted by name, once somebody has to be told.
    first: Vec<OnceCell<Vec<&'a HostId>>>,
}

impl<'a> Budgets<'a> {
    /// `watched`: who is looked after in a rolling wave; `all`: everybody else who is disrupted.
    pub(super) fn look(
        rollout: &'a Rollout,
        index: &Index,
        watched: &[(usize, Watch)],
        mut all: Bits,
    ) -> Self {
        let roster = rollout.roster();
        for (place, _) in watched {
            all.put(*place, true);
        }
        let members = roster.members.iter().zip(&index.unwell);
        let disrupted: Vec<Bits> =
            members.map(|(members, unwell)| members.clone().and(&all).or(unwell)).collect();
        let there = |members: &Bits| members.clone().and(&index.there).len();
        let budgets = rollout.plan.budgets.iter().zip(&roster.members);
        // Who is there need not be counted where nobody has to be.
        let limit = |(budget, members): (&Budget, &Bits)| match budget.min_healthy {
            Some(_) => budget.limit(there(members)) as usize,
            None => budget.max_unavailable as usize,
        };
        let limits = budgets.map(limit).collect();
        let used = disrupted.iter().map(Bits::len).collect();
        let first = disrupted.iter().map(|_| OnceCell::new()).collect();
        Self { rollout, roster, limits, disrupted, used, first }
    }

    /// A budget that has no room for this host.
    fn full(&self, place: usize) -> Option<usize> {
        self.roster.budgets_of(place).iter().copied().find(|&budget| {
            let others = self.used[budget] - usize::from(self.disrupted[budget].has(place));
            others >= self.limits[budget]
        })
    }

    /// All for whom some budget has no room.
    pub(super) fn full_for_whom(&self) -> Bits {
        let mut out = Bits::default();
        for (number, (&limit, &used)) in self.limits.iter().zip(&self.used).enumerate() {
            let members = &self.roster.members[number];
            // Whoever is disrupted already takes no more room than it has.
            out = match used {
                used if used > limit => out.or(members),
                used if used == limit => out.or(&members.clone().without(&self.disrupted[number])),
                _ => out,
            };
        }
        out
    }

    /// The budget that has no room for this host, if one has not.
    pub(super) fn full_for(&self, place: usize) -> Option<Hold> {
        let budget = self.full(place)?;
        let host = self.roster.id(place);
        let first = self.first[budget].get_or_init(|| {
            let mut all: Vec<&HostId> =
                self.disrupted[budget].iter().map(|place| self.roster.id(place)).collect();
            all.sort_unstable();
            all.truncate(NAMED + 1);
            all
        });
        let others = first.iter().filter(|id| **id != host).take(NAMED);
        Some(Hold::BudgetUsed {
            budget: self.rollout.plan.budgets[budget].name.clone(),
            limit: u32::try_from(self.limits[budget]).unwrap_or(u32::MAX),
            disrupted: others.map(|id| (*id).clone()).collect(),
        })
    }

    /// The host was granted: it counts from now on. Gives whether a budget has no room any more.
    pub(super) fn take(&mut self, place: usize) -> bool {
        let mut is_full = false;
        for &budget in self.roster.budgets_of(place) {
            self.used[budget] += usize::from(!self.disrupted[budget].has(place));
            is_full |= self.used[budget] >= self.limits[budget];
            self.disrupted[budget].put(place, true);
            self.first[budget] = OnceCell::new();
        }
        is_full
    }
}

impl Rollout {
    /// Seconds without a word after which a host is silent: the rule of the wave at work.
    pub(super) fn silent_after(&self) -> i64 {
        let wave = self.plan.waves.get(self.wave as usize);
        wave.map_or(i64::MAX, |w| i64::try_from(w.gate.silent_after_seconds).unwrap_or(i64::MAX))
    }

    /// Not heard of for longer than the wave at work allows, whoever is to blame. Never heard of: unheard.
    pub(super) fn is_unheard(&self, last_heard: Option<Timestamp>, now: Timestamp) -> bool {
        last_heard.is_none_or(|at| now.duration_since(at).as_secs() > self.silent_after())
    }

    /// Unheard although the server was listening all that time: the host is to blame.
    pub(super) fn is_silent(
        &self,
        last_heard: Option<Timestamp>,
        now: Timestamp,
        seen: &Observations,
    ) -> bool {
        self.is_unheard(last_heard.max(seen.listening_since), now)
    }
}

impl HostRun {
    /// Holds a grant, is being undone, or was quarantined here.
    pub(super) fn is_disrupted(&self) -> bool {
        self.at_work() || self.may_be_changing()
    }

    /// As [`Self::is_disrupted`], leaving out grants that nobody has redeemed.
    pub(super) fn may_be_changing(&self) -> bool {
        matches!(self.state, HostState::Redeemed | HostState::Quarantined { .. })
            || self.undo_at_work()
    }
}
