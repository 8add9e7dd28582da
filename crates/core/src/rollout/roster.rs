//! What follows from a rollout's plan alone, by number; worked out once for all copies of the state.

use super::bits::Bits;
use super::{Rollout, Runs};
use crate::plan::Plan;
use crate::{Digest, HostId};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Everybody whom a rollout looks at: hosts of its plan, in the places they have in [`Runs`], then those that only its
/// budgets count.
#[derive(Debug)]
pub(super) struct Roster {
    planned: Arc<[HostId]>,
    /// Place → what a host of the plan was when that was made.
    cohorts: Vec<Digest>,
    others: Vec<HostId>,
    /// Place → the budgets that count it.
    budgets_of: Vec<Vec<usize>>,
    /// Budget → places.
    pub(super) members: Vec<Bits>,
    /// Wave → places, in the order in which they start.
    pub(super) orders: Vec<Vec<usize>>,
}

impl Roster {
    fn of(plan: &Plan, runs: &Runs) -> Self {
        let counted = plan.budgets.iter().flat_map(|b| &b.hosts);
        let others: BTreeSet<&HostId> = counted.filter(|id| !runs.contains_key(id)).collect();
        let mut out = Self {
            planned: runs.ids().clone(),
            // Both are sorted by id, and have the same hosts.
            cohorts: plan.hosts.values().map(|host| host.cohort).collect(),
            others: others.into_iter().cloned().collect(),
            budgets_of: Vec::new(),
            members: Vec::new(),
            orders: Vec::new(),
        };
        let places =
            |ids: &[HostId]| ids.iter().filter_map(|id| out.place(id)).collect::<Vec<usize>>();
        let orders = plan.waves.iter().map(|wave| places(&wave.hosts)).collect();
        let members: Vec<Bits> =
            plan.budgets.iter().map(|b| places(&b.hosts).into_iter().collect()).collect();
        out.budgets_of = vec![Vec::new(); out.len()];
        for (budget, members) in members.iter().enumerate() {
            for place in members.iter() {
                out.budgets_of[place].push(budget);
            }
        }
        Self { members, orders, ..out }
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len() + self.others.len()
    }

    pub(super) fn place(&self, id: &HostId) -> Option<usize> {
        let planned = self.planned.binary_search(id).ok();
        let other = || self.others.binary_search(id).ok().map(|place| self.planned.len() + place);
        planned.or_else(other)
    }

    pub(super) fn id(&self, place: usize) -> &HostId {
        self.planned.get(place).unwrap_or_else(|| &self.others[place - self.planned.len()])
    }

    /// The cohort that the host in this place had when the plan was made. `None`: only budgets count it.
    pub(super) fn cohort(&self, place: usize) -> Option<Digest> {
        self.cohorts.get(place).copied()
    }

    /// The two parts, each sorted, with the place of its first.
    pub(super) fn parts(&self) -> [(usize, &[HostId]); 2] {
        [(0, &self.planned), (self.planned.len(), &self.others)]
    }

    pub(super) fn budgets_of(&self, place: usize) -> &[usize] {
        self.budgets_of.get(place).map_or(&[], Vec::as_slice)
    }
}

/// A roster, once somebody asked for it. States that differ in nothing else are equal.
#[derive(Debug, Clone, Default)]
pub(super) struct Derived(OnceLock<Arc<Roster>>);

impl PartialEq for Derived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Rollout {
    pub(super) fn roster(&self) -> &Arc<Roster> {
        self.roster.0.get_or_init(|| Arc::new(Roster::of(&self.plan, &self.hosts)))
    }

    /// The plan, to be changed; for those who try what happens when a guard is gone. No rollout changes its plan.
    pub fn plan_mut(&mut self) -> &mut Plan {
        self.roster = Derived::default();
        Arc::make_mut(&mut self.plan)
    }
}
