//! Roots on hosts: those that are listed, and those that are not any more.

use super::change::{FindingDelta, Hits, deltas, known, part};
use super::{FleetIndex, HostRecord, Presence, Risk};
use crate::exposure::HostView;
use crate::exposure::carry::{Carried, Known, kept};
use crate::exposure::facts::HostFacts;
use crate::exposure::roots::{accepted, roots_unknown};
use crate::exposure::vendor::release_name;
use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Os};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What becomes of what was found in a root that is not listed any more.
pub(super) fn with_its_root(presence: Presence, known: &[Known]) -> Vec<Carried> {
    let of = |known: &Known| match presence {
        Presence::Gone => Carried {
            state: FindingState::Fixed,
            installed: "".into(),
            in_use: false,
            exposed: false,
            ..kept(known)
        },
        Presence::Here | Presence::Unseen => kept(known),
    };
    let mut carried: Vec<Carried> = known.iter().map(of).collect();
    carried.sort();
    carried
}

impl FleetIndex {
    /// What was found in roots that are not listed any more: gone with them, or, where they could not be looked for, as it
    /// was.
    pub(super) fn leave_roots(
        &mut self,
        view: &HostView<'_>,
        listed: &BTreeSet<Arc<str>>,
    ) -> Vec<(Arc<str>, Vec<FindingDelta>)> {
        let presence = match roots_unknown(view.inventory) {
            true => Presence::Unseen,
            false => Presence::Gone,
        };
        let kept = self.roots_of(view.host).into_iter().map(|(root, _)| root);
        let told = view.previous.iter().filter_map(|f| f.root().map(Arc::from));
        let gone: BTreeSet<Arc<str>> = kept.chain(told).filter(|r| !listed.contains(r)).collect();
        let mut all = Vec::new();
        for root in gone {
            let accepted = accepted(&root, view.accepted);
            let slot = self.slot(view.host, Some(&root));
            let old = self.hosts[slot as usize].take();
            let (os, known, before) = match &old {
                Some(old) => {
                    let subjects = old.subjects.iter().filter_map(|&p| self.subjects.get(p));
                    let subjects: Vec<Hits<'_>> = subjects.map(Hits::all).collect();
                    let before = self.part_of(old);
                    self.totals.subtract(&before);
                    (old.os.clone(), known(&self.catalogue, old, &subjects), before)
                }
                None => {
                    let its = view.previous.iter().filter(|f| f.root() == Some(&*root));
                    let its: Vec<Finding> = its
                        .map(|f| Finding { source: f.package().to_owned(), ..f.clone() })
                        .collect();
                    let before = its.iter().map(|f| {
                        ((f.source.as_str().into(), f.id.as_str().into()), (f.state, f.severity()))
                    });
                    (Os::default(), its.iter().map(Known::from).collect(), before.collect())
                }
            };
            let carried = with_its_root(presence, &known);
            let catalogue = self.catalogue.clone();
            for &place in old.iter().flat_map(|old| &old.subjects) {
                self.subjects.leave(&catalogue, place, slot);
            }
            let release = release_name(&os);
            let after = part(&catalogue, std::iter::empty(), &release, &carried, &accepted);
            self.totals.add(&after);
            self.note_exceptions(slot, !accepted.is_empty());
            let owner = self.slot(view.host, None);
            self.keep(
                slot,
                HostRecord {
                    id: view.host.clone(),
                    root: Some(root.clone()),
                    owner,
                    presence,
                    os,
                    facts: HostFacts::read(&Inventory::default()),
                    subjects: Vec::new(),
                    carried,
                    accepted,
                    risk: Risk::default(),
                },
            );
            all.push((root, deltas(&before, &after)));
        }
        all
    }

    /// Roots of a host that the index knows, with their slots.
    pub(super) fn roots_of(&self, host: &HostId) -> Vec<(Arc<str>, u32)> {
        if self.root_slots.is_empty() {
            return Vec::new();
        }
        let from = (host.clone(), Arc::from(""));
        let its = self.root_slots.range(from..).take_while(|((id, _), _)| id == host);
        its.map(|((_, root), slot)| (root.clone(), *slot)).collect()
    }
}
