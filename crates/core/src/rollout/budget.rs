//! Who is disrupted now, and does one more fit?
//!
//! A host is disrupted while it holds a grant, is being undone, was quarantined by this rollout, is
//! quarantined or silent, or another rollout is at work on it. A host that was undone, or refused, has
//! spoken and is as it was: it is not. A host that left the fleet counts no more. In a rolling wave, a patched host
//! counts until it was watched.

use super::gate::Watch;
use super::{HostRun, HostState, Observations, Rollout};
use crate::{Hold, HostId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A hold names at most so many hosts: with a large fleet every waiting host would else name every disrupted one.
const NAMED: usize = 10;

/// The budgets of a plan with the hosts disrupted now.
pub(super) struct Budgets<'a> {
    rollout: &'a Rollout,
    disrupted: Vec<BTreeSet<&'a HostId>>,
    /// Host → the budgets that count it.
    counted_in: BTreeMap<&'a HostId, Vec<usize>>,
}

impl<'a> Budgets<'a> {
    /// Looks at every host of every budget, once. `counts` says whether a host at work in this rollout counts.
    pub(super) fn look(
        rollout: &'a Rollout,
        now: Timestamp,
        seen: &Observations,
        counts: impl Fn(&HostRun) -> bool,
    ) -> Self {
        let mut counted_in: BTreeMap<&HostId, Vec<usize>> = BTreeMap::new();
        let mut disrupted = Vec::new();
        for (index, budget) in rollout.plan.budgets.iter().enumerate() {
            disrupted.push(BTreeSet::new());
            for id in &budget.hosts {
                let budgets = counted_in.entry(id).or_default();
                if budgets.last() != Some(&index) {
                    budgets.push(index);
                }
                let by_rollout = rollout.hosts.get(id).is_some_and(&counts);
                let watched = matches!(
                    rollout.watch(id, now, seen),
                    Some(Watch::Until(_) | Watch::Mute(_) | Watch::Failed(_))
                );
                if by_rollout || watched || rollout.is_disrupted_by_itself(id, now, seen) {
                    disrupted[index].insert(id);
                }
            }
        }
        Self { rollout, disrupted, counted_in }
    }

    /// The budget that has no room for this host, if one has not.
    pub(super) fn full_for(&self, host: &HostId) -> Option<Hold> {
        let indices = self.counted_in.get(host)?;
        indices.iter().find_map(|&index| {
            let budget = &self.rollout.plan.budgets[index];
            let disrupted = &self.disrupted[index];
            let others = disrupted.len() - usize::from(disrupted.contains(host));
            (others >= budget.max_unavailable as usize).then(|| Hold::BudgetUsed {
                budget: budget.name.clone(),
                limit: budget.max_unavailable,
                disrupted: disrupted
                    .iter()
                    .filter(|id| **id != host)
                    .take(NAMED)
                    .map(|id| (*id).clone())
                    .collect(),
            })
        })
    }

    /// The host was granted: it counts from now on.
    pub(super) fn take(&mut self, host: &'a HostId) {
        for &index in self.counted_in.get(host).into_iter().flatten() {
            self.disrupted[index].insert(host);
        }
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

    fn is_disrupted_by_itself(&self, host: &HostId, now: Timestamp, seen: &Observations) -> bool {
        seen.hosts.get(host).is_some_and(|o| {
            o.quarantined
                || o.busy.as_ref().is_some_and(|r| *r != self.id)
                || self.is_unheard(o.last_seen, now)
        })
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
