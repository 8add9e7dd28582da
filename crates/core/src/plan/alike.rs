//! What is alike is kept once.

use super::Work;
use crate::finding::Finding;
use crate::inventory::Inventory;
use crate::{Digest, HostId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keeps what plans are made from once for all hosts that are alike, so that a fleet fits into memory, and is
/// decided about once for each kind of host.
///
/// Plans come out the same without it; they only take longer.
#[derive(Debug, Default)]
pub struct Alike {
    inventories: BTreeMap<Digest, Arc<Inventory>>,
    findings: BTreeMap<Digest, Arc<[Finding]>>,
}

impl Alike {
    /// The inventory as plans look at it: without what differs from host to host and changes no plan (the boot's id,
    /// stale processes, configuration, gaps, reasons to reboot).
    pub fn inventory(&mut self, mut inventory: Inventory) -> Arc<Inventory> {
        inventory.boot_id.clear();
        inventory.stale.clear();
        inventory.configuration.clear();
        inventory.gaps.clear();
        inventory.reboot_needed.clear();
        let digest = Digest::of_json(&inventory);
        self.inventories.entry(digest).or_insert_with(|| Arc::new(inventory)).clone()
    }

    /// The findings of a host, without the host: plans know whose they are.
    pub fn findings(&mut self, mut findings: Vec<Finding>) -> Arc<[Finding]> {
        for finding in &mut findings {
            finding.host = HostId::new("");
        }
        let digest = Digest::of_json(&findings);
        self.findings.entry(digest).or_insert_with(|| findings.into()).clone()
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
