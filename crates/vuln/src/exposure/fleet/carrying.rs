//! What hosts carry over from before: findings that no package on disk shows any more. Those that are the same on several
//! hosts are kept once, with the hosts beside them.

use crate::exposure::carry::Carried;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// By vulnerability: each distinct finding, and the slots of the systems that carry it. Only looked up, never walked: its
/// order would be no order.
#[derive(Debug, Clone, Default)]
pub(super) struct Carrying(HashMap<Arc<str>, Vec<(Arc<Carried>, RoaringBitmap)>>);

impl Carrying {
    /// One system more carries it.
    pub(super) fn add(&mut self, slot: u32, carried: Carried) -> Arc<Carried> {
        let its = self.0.entry(carried.id.clone()).or_default();
        if let Some((known, slots)) = its.iter_mut().find(|(known, _)| **known == carried) {
            slots.insert(slot);
            return known.clone();
        }
        let new = Arc::new(carried);
        its.push((new.clone(), RoaringBitmap::from([slot])));
        new
    }

    /// All of these systems carry it from now on.
    pub(super) fn add_all(&mut self, slots: &RoaringBitmap, carried: Carried) -> Arc<Carried> {
        let its = self.0.entry(carried.id.clone()).or_default();
        if let Some((known, its)) = its.iter_mut().find(|(known, _)| **known == carried) {
            *its |= slots;
            return known.clone();
        }
        let new = Arc::new(carried);
        its.push((new.clone(), slots.clone()));
        new
    }

    /// One system less carries it.
    pub(super) fn remove(&mut self, slot: u32, carried: &Arc<Carried>) {
        let Some(its) = self.0.get_mut(&carried.id) else { return };
        if let Some(at) = its.iter().position(|(known, _)| Arc::ptr_eq(known, carried)) {
            its[at].1.remove(slot);
            if its[at].1.is_empty() {
                its.swap_remove(at);
            }
        }
        if its.is_empty() {
            self.0.remove(&carried.id);
        }
    }

    /// What is carried of a vulnerability, and by whom.
    pub(super) fn about(&self, id: &str) -> impl Iterator<Item = &(Arc<Carried>, RoaringBitmap)> {
        self.0.get(id).into_iter().flatten()
    }

    /// Everything that is carried, and by whom. In no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &(Arc<Carried>, RoaringBitmap)> {
        self.0.values().flatten()
    }
}
