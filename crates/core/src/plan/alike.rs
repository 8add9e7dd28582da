//! What is alike is kept once.

use super::Work;
use crate::finding::Finding;
use crate::inventory::{Inventory, Package, Upgrade};
use crate::{Digest, HostId, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keeps what plans are made from once for all hosts that are alike, so that a fleet fits into memory, and is
/// decided about once for each kind of host.
///
/// Plans come out the same without it; they only take longer.
#[derive(Debug, Default)]
pub struct Alike {
    inventories: BTreeMap<Digest, Arc<Inventory>>,
    findings: BTreeMap<Digest, Arc<[Shared<Finding>]>>,
    /// What inventories of different kinds have in common: most of their packages.
    packages: BTreeSet<Shared<Package>>,
    upgrades: BTreeSet<Shared<Upgrade>>,
    /// By vulnerability.
    each: BTreeMap<String, Vec<Shared<Finding>>>,
}

impl Alike {
    /// The inventory as plans look at it.
    pub fn inventory(&mut self, inventory: Inventory) -> Arc<Inventory> {
        self.keep(Seen::of(inventory))
    }

    /// The same, where somebody has looked already.
    pub fn keep(&mut self, Seen { mut inventory, likeness }: Seen) -> Arc<Inventory> {
        let (packages, upgrades) = (&mut self.packages, &mut self.upgrades);
        let new = || {
            inventory.packages.iter_mut().for_each(|it| once(packages, it));
            inventory.upgrades.iter_mut().for_each(|it| once(upgrades, it));
            Arc::new(inventory)
        };
        self.inventories.entry(likeness).or_insert_with(new).clone()
    }

    /// The findings of a host, without the host: plans know whose they are.
    pub fn findings(&mut self, mut findings: Vec<Finding>) -> Arc<[Shared<Finding>]> {
        for finding in &mut findings {
            finding.host = HostId::new("");
        }
        let digest = Digest::of_json(&findings);
        let each = &mut self.each;
        let mut one = |finding: Finding| {
            let alike = each.entry(finding.id.clone()).or_default();
            let known = alike.iter().find(|known| ***known == finding).cloned();
            known.unwrap_or_else(|| {
                alike.push(finding.into());
                alike[alike.len() - 1].clone()
            })
        };
        let new = || findings.into_iter().map(&mut one).collect();
        self.findings.entry(digest).or_insert_with(new).clone()
    }
}

/// An inventory as plans look at it: without what differs from host to host and changes no plan (the boot's id, stale
/// processes, configuration, gaps, reasons to reboot, room, who depends on what, packages of languages and in other roots,
/// at which of its addresses a host listens).
#[derive(Debug, Clone)]
pub struct Seen {
    inventory: Inventory,
    likeness: Digest,
}

impl Seen {
    /// Looks at an inventory.
    pub fn of(mut inventory: Inventory) -> Self {
        inventory.boot_id.clear();
        inventory.stale.clear();
        inventory.configuration.clear();
        inventory.gaps.clear();
        inventory.reboot_needed.clear();
        inventory.filesystems.clear();
        inventory.dependents = None;
        inventory.languages.clear();
        for root in &mut inventory.roots {
            root.packages = Shared::default();
            root.gaps.clear();
        }
        for listener in &mut inventory.listeners {
            let address = if listener.is_loopback() { "127.0.0.1" } else { "" };
            address.clone_into(&mut listener.address);
        }
        inventory.listeners.sort_unstable();
        inventory.listeners.dedup();
        let likeness = Digest::of_json(&inventory);
        Self { inventory, likeness }
    }

    /// Stands for all that plans look at: hosts with the same likeness are the same to them.
    ///
    /// It is written down beside inventories. Whoever has it cover more, because plans look at more, has those that were
    /// written down made anew (`fettle_store::summaries`).
    pub fn likeness(&self) -> Digest {
        self.likeness
    }
}

/// Puts the one that is kept in the place of an equal one.
fn once<T: Ord>(kept: &mut BTreeSet<Shared<T>>, it: &mut Shared<T>) {
    match kept.get(it) {
        Some(known) => *it = known.clone(),
        None => {
            kept.insert(it.clone());
        }
    }
}

/// Works, each once.
#[derive(Default)]
pub(super) struct Works {
    list: Vec<Arc<Work>>,
    /// By a number that equal works have in common.
    by_look: BTreeMap<u64, Vec<usize>>,
}

impl Works {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The work that is kept in its place.
    pub(super) fn keep(&mut self, work: Work) -> Arc<Work> {
        let place = self.place(&Arc::new(work));
        self.list[place].clone()
    }

    /// Where it is kept.
    pub(super) fn place(&mut self, work: &Arc<Work>) -> usize {
        let alike = self.by_look.entry(look(work)).or_default();
        if let Some(&known) = alike.iter().find(|&&i| self.list[i] == *work) {
            return known;
        }
        alike.push(self.list.len());
        self.list.push(work.clone());
        self.list.len() - 1
    }
}

/// FNV-1a (64 bits) over what tells works apart in most cases.
fn look(work: &Work) -> u64 {
    let mut out = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            out = (out ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for change in &work.order.changes {
        // The archive stands for name, architecture and version.
        add(&change.sha256.0[..8]);
        add(change.from.as_bytes());
    }
    for id in &work.order.fixes {
        add(id.as_bytes());
    }
    for unit in &work.restarts {
        add(unit.as_bytes());
    }
    out
}
