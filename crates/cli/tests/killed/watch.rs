//! What was promised to somebody outside, to be held against what there is afterwards.

use fettle_core::assignment::{Assignment, Order};
use fettle_core::rollout::RolloutEvent;
use fettle_core::transaction::Outcome;
use fettle_core::{AssignmentId, HostId, TransactionId};
use fettle_wire::api::RolloutDetail;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What does not hold.
    pub(crate) broken: Vec<String>,
    /// Journal records that the server said it keeps.
    acknowledged: BTreeMap<TransactionId, u64>,
    /// Orders as they were first seen.
    orders: BTreeMap<AssignmentId, Assignment>,
    /// Changes and undos that a host was let go on with, by rollout and host.
    went: BTreeMap<(String, HostId, bool), BTreeSet<AssignmentId>>,
    /// Events as they were first shown, by rollout.
    shown: BTreeMap<String, Vec<String>>,
}

impl Watch {
    /// A host has got this order: the same name is the same order for ever.
    pub(crate) fn told(&mut self, assignment: &Assignment) {
        let first = self.orders.entry(assignment.id.clone()).or_insert_with(|| assignment.clone());
        if first != assignment {
            self.broken.push(format!("order {} has changed", assignment.id));
        }
    }

    /// A host goes on to change something. Invariant 4: once for each order; invariant 9: not again after its end.
    pub(crate) fn went(&mut self, assignment: &Assignment) {
        let undo = matches!(assignment.order, Order::Undo { .. });
        let key = (assignment.rollout.to_string(), assignment.host.clone(), undo);
        let orders = self.went.entry(key).or_default();
        orders.insert(assignment.id.clone());
        if orders.len() > 1 {
            self.broken.push(format!("applied twice: {orders:?}"));
        }
    }

    /// Invariant 18, by what agents are told.
    pub(crate) fn acknowledged(&mut self, said: &BTreeMap<TransactionId, u64>) {
        for (id, next) in said {
            let known = self.acknowledged.entry(id.clone()).or_default();
            if next < known {
                self.broken.push(format!("{id}: {known} records were kept, now {next}"));
            }
            *known = (*known).max(*next);
        }
    }

    /// Invariant 18, by what operators are shown: every event that was ever shown is there for ever.
    pub(crate) fn promised(&mut self, detail: &RolloutDetail) {
        let id = detail.row.id.to_string();
        let now: Vec<String> =
            detail.events.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let shown = self.shown.entry(id.clone()).or_default();
        let common = shown.len().min(now.len());
        if shown[..common] != now[..common] {
            self.broken.push(format!("{id}: what had happened is another thing now"));
        }
        if now.len() < shown.len() {
            self.broken.push(format!("{id}: {} events were shown, now {}", shown.len(), now.len()));
        } else {
            *shown = now;
        }
    }

    pub(crate) fn rollouts(&self) -> Vec<String> {
        self.shown.keys().cloned().collect()
    }

    /// Ends that no host has reported, hosts that ended twice, and hosts that were let go without a word of it.
    pub(crate) fn unfounded(&self, detail: &RolloutDetail) -> Vec<String> {
        let id = detail.row.id.to_string();
        let mut broken = Vec::new();
        let (mut redeemed, mut ended) = (BTreeSet::new(), BTreeMap::new());
        for record in &detail.events {
            match &record.event {
                RolloutEvent::Redeemed { host } if !redeemed.insert(host.clone()) => {
                    broken.push(format!("{id}: {host} redeemed twice"));
                }
                RolloutEvent::Ended { host, outcome } => {
                    let undo = matches!(outcome, Outcome::Undone { .. });
                    *ended.entry((host.clone(), undo)).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        for ((host, undo), times) in &ended {
            if *times > 1 {
                broken.push(format!("{id}: {host} ended {times} times"));
            }
            if !self.went.contains_key(&(id.clone(), host.clone(), *undo)) {
                broken.push(format!("{id}: {host} has ended and never began"));
            }
        }
        for (rollout, host, undo) in self.went.keys().filter(|(rollout, ..)| *rollout == id) {
            if !undo && !redeemed.contains(host) {
                broken.push(format!("{rollout}: {host} was let go, and nobody knows it"));
            }
            if !ended.contains_key(&(host.clone(), *undo)) {
                broken.push(format!("{rollout}: the end of {host} was lost"));
            }
        }
        broken
    }
}
