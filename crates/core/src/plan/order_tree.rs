//! One digest over what a plan orders on which host, from which each host can be shown its own part.
//!
//! A host is told its order, and not the plan of the whole fleet; those who sign a plan sign the root of this tree, and
//! a path of a few digests shows to a host that its order hangs from it. Merkle Tree Hash and inclusion proof of RFC
//! 9162 (sections 2.1.1 and 2.1.3), with SHA-256; the leaves are in the order of the hosts' ids.

use super::Plan;
use crate::assignment::{ApplyOrder, Order};
use crate::{Digest, HostId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest path that is looked at: a tree of 2^40 hosts.
const LONGEST: usize = 40;

/// The tree over the hosts of one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTree {
    places: BTreeMap<HostId, usize>,
    /// From the leaves to the root.
    levels: Vec<Vec<Digest>>,
}

/// Shows that one leaf hangs from a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderProof {
    /// The leaf's place, counted from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// The siblings on the way up.
    pub path: Vec<Digest>,
}

/// What an order is called in a tree: the digest of its JSON, as it stands in an assignment. A host takes it from the very
/// bytes it was sent, so that a field that a newer server writes makes no other order of it.
fn name_of(order: &ApplyOrder) -> Digest {
    Digest::of_json(&Order::Apply(order.clone()))
}

/// What the tree says of one host: the order of this digest, in this wave (counted from 0).
pub fn leaf(host: &HostId, wave: u32, order: Digest) -> Digest {
    // A leaf can be taken for no node, nor the other way round: they begin otherwise.
    let mut bytes = vec![0];
    bytes.extend_from_slice(&order.0);
    bytes.extend_from_slice(&wave.to_be_bytes());
    bytes.extend_from_slice(host.as_str().as_bytes());
    Digest::of(&bytes)
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Digest::of(&bytes)
}

impl OrderTree {
    /// Over every host of the plan.
    pub fn of(plan: &Plan) -> Self {
        // A work is looked at once, however many hosts share it.
        let mut known: BTreeMap<*const super::Work, Digest> = BTreeMap::new();
        let leaves = plan.hosts.iter().map(|(id, host)| {
            let order =
                *known.entry(Arc::as_ptr(&host.work)).or_insert_with(|| name_of(&host.work.order));
            leaf(id, host.wave, order)
        });
        let mut levels = vec![leaves.collect::<Vec<Digest>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let pair = |pair: &[Digest]| match *pair {
                [left, right] => node(left, right),
                // Whoever has no sibling goes up as it is.
                _ => pair[0],
            };
            levels.push(below.chunks(2).map(pair).collect());
        }
        let places = plan.hosts.keys().enumerate().map(|(place, id)| (id.clone(), place)).collect();
        Self { places, levels }
    }

    /// What is signed. Of no host at all: the digest of nothing.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Digest::of(b""))
    }

    /// Shows that the host's order hangs from the root. `None`: the plan does not have the host.
    pub fn proof(&self, host: &HostId) -> Option<OrderProof> {
        let mut place = *self.places.get(host)?;
        let (index, size) = (place as u64, self.places.len() as u64);
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(place ^ 1));
            place /= 2;
        }
        Some(OrderProof { index, size, path })
    }
}

impl OrderProof {
    /// The root that the leaf hangs from, if the path is one at all.
    pub fn root_of(&self, leaf: Digest) -> Option<Digest> {
        if self.index >= self.size || self.path.len() > LONGEST {
            return None;
        }
        let (mut place, mut last) = (self.index, self.size - 1);
        let mut at = leaf;
        for &sibling in &self.path {
            if last == 0 {
                return None;
            }
            if place % 2 == 1 || place == last {
                at = node(sibling, at);
                while place % 2 == 0 && place != 0 {
                    (place, last) = (place / 2, last / 2);
                }
            } else {
                at = node(at, sibling);
            }
            (place, last) = (place / 2, last / 2);
        }
        (last == 0).then_some(at)
    }
}
