//! What follows from a rollout's plan alone, by number; worked out once for all copies of the state.

use super::bits::Bits;
use super::{Rollout, Runs};
use crate::plan::{Plan, Work};
use crate::recall::{self, Recall};
use crate::{Digest, Hold, HostId};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The same as sets.
    pub(super) waves: Vec<Bits>,
    /// Place → its place in the order of its wave.
    ranks: Vec<u32>,
    /// Those whose waves go one after another.
    pub(super) rolling: Bits,
    /// Once a recall asks for it.
    carried: OnceLock<Carried>,
}

/// Who gets which versions.
#[derive(Debug)]
pub(super) struct Carried {
    /// Each work once, with the places that get it.
    works: Vec<(Arc<Work>, Bits)>,
    /// Version → works that bring some package to it.
    by_version: BTreeMap<String, Vec<usize>>,
}

impl Carried {
    fn of(plan: &Plan) -> Self {
        let mut known: BTreeMap<*const Work, usize> = BTreeMap::new();
        let mut works: Vec<(Arc<Work>, Bits)> = Vec::new();
        let mut by_version: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, host) in plan.hosts.values().enumerate() {
            let number = *known.entry(Arc::as_ptr(&host.work)).or_insert(works.len());
            if number == works.len() {
                works.push((host.work.clone(), Bits::default()));
                for change in &host.work.order.changes {
                    let brings = by_version.entry(change.to.clone()).or_default();
                    if brings.last() != Some(&number) {
                        brings.push(number);
                    }
                }
            }
            works[number].1.put(place, true);
        }
        Self { works, by_version }
    }

    /// The places that get a recalled version, by place, with the hold that stops them.
    pub(super) fn stopped(&self, recalls: &[Recall]) -> BTreeMap<usize, Hold> {
        let works: BTreeSet<usize> = recalls
            .iter()
            .filter_map(|r| self.by_version.get(&r.version))
            .flatten()
            .copied()
            .collect();
        let mut out = BTreeMap::new();
        for number in works {
            let (work, places) = &self.works[number];
            if let Some(hold) = recall::stops(recalls, &work.order.changes) {
                out.extend(places.iter().map(|place| (place, hold.clone())));
            }
        }
        out
    }
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
            waves: Vec::new(),
            ranks: vec![u32::MAX; runs.len()],
            rolling: Bits::default(),
            carried: OnceLock::new(),
        };
        let places =
            |ids: &[HostId]| ids.iter().filter_map(|id| out.place(id)).collect::<Vec<usize>>();
        let orders: Vec<Vec<usize>> = plan.waves.iter().map(|wave| places(&wave.hosts)).collect();
        let members: Vec<Bits> =
            plan.budgets.iter().map(|b| places(&b.hosts).into_iter().collect()).collect();
        out.budgets_of = vec![Vec::new(); out.len()];
        for (budget, members) in members.iter().enumerate() {
            for place in members.iter() {
                out.budgets_of[place].push(budget);
            }
        }
        for order in &orders {
            for (rank, place) in (0..).zip(order) {
                if let Some(known) = out.ranks.get_mut(*place) {
                    *known = rank;
                }
            }
        }
        let waves: Vec<Bits> = orders.iter().map(|order| order.iter().copied().collect()).collect();
        let rolling = plan.waves.iter().zip(&waves).filter(|(wave, _)| wave.rolling);
        let rolling = rolling.fold(Bits::default(), |all, (_, wave)| all.or(wave));
        Self { members, orders, waves, rolling, ..out }
    }

    /// The place's place in the order of its wave.
    pub(super) fn rank(&self, place: usize) -> u32 {
        self.ranks.get(place).copied().unwrap_or(u32::MAX)
    }

    /// The places, in the order in which they start.
    pub(super) fn in_order(&self, places: &Bits) -> Vec<usize> {
        let mut out: Vec<usize> = places.iter().collect();
        out.sort_unstable_by_key(|place| self.rank(*place));
        out
    }

    /// The first of the places to start.
    pub(super) fn first(&self, places: &Bits) -> Option<usize> {
        places.iter().min_by_key(|place| self.rank(*place))
    }

    /// The places of a wave.
    pub(super) fn wave(&self, number: u32) -> Bits {
        self.waves.get(number as usize).cloned().unwrap_or_default()
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

    /// Who gets which versions.
    pub(super) fn carried(&self) -> &Carried {
        self.roster().carried.get_or_init(|| Carried::of(&self.plan))
    }

    /// The plan, to be changed; for those who try what happens when a guard is gone. No rollout changes its plan.
    pub fn plan_mut(&mut self) -> &mut Plan {
        self.roster = Derived::default();
        Arc::make_mut(&mut self.plan)
    }
}
