//! The tree over a plan's orders: by the recursive definition of RFC 9162, section 2.1.1, and by those who cheat.

use super::fleet::*;
use crate::plan::{OrderProof, OrderTree, Plan, leaf};
use crate::{Digest, HostId};
use proptest::prelude::*;

/// MTH as the standard defines it: split at the largest power of two below the number of leaves.
fn mth(leaves: &[Digest]) -> Digest {
    if let [one] = leaves {
        return *one;
    }
    let mut k = 1;
    while k * 2 < leaves.len() {
        k *= 2;
    }
    let mut bytes = vec![1];
    bytes.extend(mth(&leaves[..k]).0);
    bytes.extend(mth(&leaves[k..]).0);
    Digest::of(&bytes)
}

/// So many hosts, each with an order of its own.
fn plan(hosts: usize) -> Plan {
    let fleet = (0..hosts).map(|n| {
        let mut h = host(&format!("h{n:03}"), &[]);
        let i = inventory(&mut h);
        i.packages = vec![package("p", "s", "1")].into();
        i.upgrades = vec![upgrade("p", "1", &format!("2.{n}"))];
        h
    });
    World::new(policy("take = \"all\""), fleet.collect()).plan()
}

fn leaves(plan: &Plan) -> Vec<(HostId, Digest)> {
    let order = |id: &HostId| {
        let host = &plan.hosts[id];
        let order = crate::assignment::Order::Apply(host.order.clone());
        leaf(id, host.wave, Digest::of_json(&order))
    };
    plan.hosts.keys().map(|id| (id.clone(), order(id))).collect()
}

#[test]
fn the_root_is_that_of_the_standard_and_each_host_is_led_to_it() {
    for size in 1..40 {
        let plan = plan(size);
        assert_eq!(plan.hosts.len(), size);
        let (tree, leaves) = (OrderTree::of(&plan), leaves(&plan));
        let all: Vec<Digest> = leaves.iter().map(|(_, leaf)| *leaf).collect();
        assert_eq!(tree.root(), mth(&all), "{size}");
        for (id, leaf) in &leaves {
            let proof = tree.proof(id).unwrap();
            assert_eq!(proof.root_of(*leaf), Some(tree.root()), "{id} of {size}");
        }
        assert_eq!(tree.proof(&HostId::from("stranger")), None);
    }
}

#[test]
fn another_order_wave_or_host_hangs_from_another_root() {
    let plan = plan(9);
    let tree = OrderTree::of(&plan);
    let id = HostId::from("h004");
    let order = |id: &HostId| {
        Digest::of_json(&crate::assignment::Order::Apply(plan.hosts[id].order.clone()))
    };
    let proof = tree.proof(&id).unwrap();
    let leads = |leaf| proof.root_of(leaf) == Some(tree.root());
    let wave = plan.hosts[&id].wave;
    assert!(leads(leaf(&id, wave, order(&id))));
    assert!(!leads(leaf(&id, wave + 1, order(&id))));
    assert!(!leads(leaf(&HostId::from("h005"), wave, order(&id))));
    assert!(!leads(leaf(&id, wave, order(&HostId::from("h005")))));
    // A node is no leaf.
    assert!(!leads(proof.path[0]));
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_path_leads_nowhere(
        size in 2usize..30, at in 0usize..30, index in 0u64..40, other in 0u64..40,
        cut in 0usize..6, flip in prop::option::of((0usize..6, 0usize..32)),
    ) {
        let plan = plan(size);
        let tree = OrderTree::of(&plan);
        let (id, leaf) = leaves(&plan).swap_remove(at % size);
        let right = tree.proof(&id).unwrap();
        let mut wrong = OrderProof { index, size: other, path: right.path.clone() };
        wrong.path.truncate(right.path.len().saturating_sub(cut));
        if let Some((step, byte)) = flip && let Some(digest) = wrong.path.get_mut(step) {
            digest.0[byte] ^= 1;
        }
        let leads = wrong.root_of(leaf) == Some(tree.root());
        // Only the right steps lead there; the numbers beside them are checked against what was signed.
        prop_assert!(!leads || wrong.path == right.path, "{:?}", wrong);
    }
}
