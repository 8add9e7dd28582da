//! Roots on hosts: those that are listed, and those that are not any more.

use super::change::{FindingDelta, Short, deltas, named, risk_of};
use super::numbers::number_of_gone;
use super::records::shown;
use super::shapes::Shape;
use super::{FleetIndex, HostRecord, Presence};
use crate::exposure::HostView;
use crate::exposure::carry::{Carried, Known, kept};
use crate::exposure::catalogue::Catalogue;
use crate::exposure::roots::{accepted, roots_unknown};
use crate::exposure::vendor::release_name;
use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::Os;
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
            let catalogue = self.catalogue.clone();
            let slot = self.slot(view.host, Some(&root));
            let owner = self.slot(view.host, None);
            let old = self.hosts[slot as usize].take();
            let its: Vec<Finding> = match &old {
                Some(_) => Vec::new(),
                None => {
                    let its = view.previous.iter().filter(|f| f.root() == Some(&*root));
                    its.map(|f| Finding { source: f.package().to_owned(), ..f.clone() }).collect()
                }
            };
            let told = named(&its);
            let (os, known, mut before) = match &old {
                Some(old) => {
                    let os = self.shapes.get(old.shape).map(|shape| shape.os.clone());
                    let known = self.all_known(&catalogue, old);
                    (os.unwrap_or_default(), known, self.shorts(&catalogue, old))
                }
                None => {
                    let known = its.iter().map(Known::from).collect();
                    (Os::default(), known, told.iter().map(Short::of_told).collect())
                }
            };
            let carried = with_its_root(presence, &known);
            let release = release_name(&os);
            let after = carried
                .iter()
                .map(|c| Short::of_carried(c, catalogue.weight(&release, c), &accepted));
            let mut after: Vec<Short<'_>> = after.collect();
            let deltas = deltas(&mut before, &mut after);
            // What the store told of a host was not counted here.
            let counted = if old.is_some() { &before[..] } else { &[] };
            let (less, more) = (risk_of(counted), risk_of(&after));
            self.totals.replace(counted, &after);
            drop((before, after));
            self.risks[slot as usize].change(less, more);
            let mut record = match old {
                None => HostRecord::new(view.host, Some(&root), owner),
                Some(mut old) => {
                    self.leave_all(slot, &mut old);
                    old
                }
            };
            let number = number_of_gone(&self.secret, &os);
            record.shape = self.shapes.take(number, || Shape::of_nothing(number, os));
            record.presence = presence;
            let (from, to) = (("", Vec::new()), (&*release, carried));
            self.carry_in_place_of(slot, &mut record, from, to);
            self.except(slot, &mut record, accepted);
            self.hosts[slot as usize] = Some(record);
            all.push((root, deltas));
        }
        all
    }

    /// Everything that is known of a system's findings.
    fn all_known(&self, catalogue: &Catalogue, record: &HostRecord) -> Vec<Known> {
        let outline = self.outline(Some(record.shape));
        let mut known = Vec::new();
        for subject in outline.subjects.iter().filter_map(|place| self.subjects.get(*place)) {
            let Some(book) = self.books.get(subject.book) else { continue };
            let of = |hit| book.lines.known(catalogue, hit, &subject.facts, &record.accepted);
            known.extend(subject.hits.iter().map(|hit| of(*hit)));
        }
        known.extend(record.carried.iter().map(|carried| shown(carried, &record.accepted)));
        known
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
