//! What works are put together from, kept once while many of them are made: most hosts get most of the same changes.

use super::make::Barred;
use super::restarts::is_kernel_image;
use crate::assignment::PackageChange;
use crate::finding::Finding;
use crate::inventory::Upgrade;
use crate::policy::{Policy, glob};
use crate::recall::Recall;
use crate::{Hold, Shared, Timestamp};
use std::collections::BTreeMap;

/// Parts by where what they follow from is kept: only ever asked for, never gone through. What is kept twice gives two
/// parts that are equal.
///
/// They follow from a policy, the recalls and now as well: hosts that are decided about by others have parts of their
/// own.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// By number.
    changes: Vec<Part<'a>>,
    known: BTreeMap<*const Upgrade, usize>,
    /// What stood in each place at the host before: mostly, it is the same.
    before: Vec<usize>,
    fixes: BTreeMap<Vec<*const Finding>, Shared<Vec<String>>>,
    /// To ask with, so that no question needs room of its own.
    asked: Vec<*const Finding>,
}

/// An upgrade, with what is the same of it on every host.
pub(super) struct Part<'a> {
    pub(super) upgrade: &'a Upgrade,
    /// The change that it stands for, and the name of its package.
    pub(super) change: Shared<PackageChange>,
    pub(super) name: Shared<String>,
    /// From a security suite?
    pub(super) suite: bool,
    pub(super) kernel: bool,
    /// Policy excludes it, or pins it to other versions.
    pub(super) excluded: Vec<Hold>,
    /// Policy does not take it from there.
    pub(super) source: Option<Hold>,
    /// Nobody is to get it.
    pub(super) recalled: Vec<Hold>,
}

impl<'a> Part<'a> {
    fn of(upgrade: &'a Upgrade, policy: &Policy, recalls: &[Recall], now: Timestamp) -> Self {
        let name = &upgrade.name;
        let exclusions = policy.exclusions.iter();
        let pinned = policy.pins.iter().filter(|pin| pin.bars(name, &upgrade.to, now));
        let excluded = exclusions
            .filter(|x| now < x.until && glob::matches(&x.package, name))
            .map(|x| Hold::Excluded {
                package: name.clone(),
                reason: x.reason.clone(),
                until: Some(x.until),
            })
            .chain(pinned.map(|pin| Hold::Pinned {
                package: name.clone(),
                version: upgrade.to.clone(),
                to: pin.version.clone(),
                reason: pin.reason.clone(),
                until: pin.until,
            }))
            .collect();
        let source = (!policy.allows(&upgrade.origin)).then(|| {
            let origin = format!("{} {}", upgrade.origin.label, upgrade.origin.suite);
            Hold::SourceNotAllowed { package: name.clone(), origin: origin.trim().to_owned() }
        });
        let recalled = recalls.iter().filter(|recall| recall.hits(name, &upgrade.to));
        Self {
            upgrade,
            change: PackageChange::from(upgrade).into(),
            name: name.clone().into(),
            suite: upgrade.origin.is_security(),
            kernel: is_kernel_image(name),
            excluded,
            source,
            recalled: recalled.map(|recall| recall.hold(name)).collect(),
        }
    }

    /// What of it keeps every host from it, and what keeps this one, in their order.
    pub(super) fn holds(
        &self,
        held: bool,
        barred: &[&Barred],
        more: [Option<Hold>; 2],
    ) -> Vec<Hold> {
        let name = &self.upgrade.name;
        let mut holds = self.excluded.clone();
        holds.extend(held.then(|| Hold::PackageHeld { package: name.clone() }));
        holds.extend(self.source.clone());
        holds.extend(self.recalled.iter().cloned());
        let is_barred = |b: &&&Barred| b.package == *name && b.version == self.upgrade.to;
        holds.extend(barred.iter().filter(is_barred).map(|bar| Hold::VersionBarred {
            package: name.clone(),
            version: bar.version.clone(),
            reason: bar.reason.clone(),
        }));
        holds.extend(more.into_iter().flatten());
        holds.dedup();
        holds
    }
}

impl<'a> Parts<'a> {
    /// The number of the upgrade that stands in this place of a host's.
    pub(super) fn number(
        &mut self,
        place: usize,
        upgrade: &'a Upgrade,
        (policy, recalls, now): (&Policy, &[Recall], Timestamp),
    ) -> usize {
        let same = |number: &&usize| {
            self.changes.get(**number).is_some_and(|part| std::ptr::eq(part.upgrade, upgrade))
        };
        if let Some(number) = self.before.get(place).filter(same) {
            return *number;
        }
        let next = self.changes.len();
        let number = *self.known.entry(std::ptr::from_ref(upgrade)).or_insert(next);
        if number == next {
            self.changes.push(Part::of(upgrade, policy, recalls, now));
        }
        if self.before.len() <= place {
            self.before.resize(place + 1, number);
        }
        self.before[place] = number;
        number
    }

    /// The part of this number.
    pub(super) fn part(&self, number: usize) -> &Part<'a> {
        &self.changes[number]
    }

    /// All upgrades, by number.
    pub(super) fn upgrades(&self) -> impl Iterator<Item = &'a Upgrade> {
        self.changes.iter().map(|part| part.upgrade)
    }

    /// What these findings are about: each vulnerability once, sorted.
    pub(super) fn fixes(&mut self, findings: &[&Finding]) -> Shared<Vec<String>> {
        self.asked.clear();
        self.asked.extend(findings.iter().map(|finding| std::ptr::from_ref(*finding)));
        if let Some(known) = self.fixes.get(&self.asked) {
            return known.clone();
        }
        let mut ids: Vec<String> = findings.iter().map(|finding| finding.id.clone()).collect();
        ids.sort();
        ids.dedup();
        let ids = Shared::from(ids);
        self.fixes.insert(self.asked.clone(), ids.clone());
        ids
    }
}
