//! What policies owe by themselves: counts for cycles, and what cannot wait.

use super::Fleet;
use fettle_core::emergency::Calls;
use fettle_core::finding::FindingState;
use std::collections::{BTreeMap, BTreeSet};

/// What the hosts of one policy have open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Open findings.
    pub(crate) open: u64,
    /// Upgrades that their sources offer.
    pub(crate) offered: u64,
}

impl Fleet {
    /// What the hosts of each policy have open.
    pub(crate) fn owed_by_policy(&self) -> BTreeMap<String, Owed> {
        let mut out: BTreeMap<String, Owed> = BTreeMap::new();
        for (at, known) in self.each() {
            let Some(policy) = self.stage(at).policy.as_deref() else { continue };
            let owed = match out.get_mut(policy) {
                Some(owed) => owed,
                None => out.entry(policy.to_owned()).or_default(),
            };
            owed.open += u64::from(self.glances[at as usize].counts[FindingState::Open as usize]);
            owed.offered += known.record.upgrades;
        }
        out
    }

    /// The systems that the hosts of a policy run, by `ID` of os-release(5).
    pub(crate) fn systems_of(&self, policy: &str) -> BTreeSet<String> {
        let theirs = |at: u32| self.stage(at).policy.as_deref() == Some(policy);
        let hosts = self.each().filter(|(at, _)| theirs(*at));
        hosts
            .filter_map(|(_, known)| Some(known.record.host.inventory.as_ref()?.os.id.clone()))
            .collect()
    }

    /// The same of all hosts.
    pub(crate) fn systems(&self) -> BTreeSet<String> {
        let hosts = self.each();
        hosts
            .filter_map(|(_, known)| Some(known.record.host.inventory.as_ref()?.os.id.clone()))
            .collect()
    }

    /// What calls, by policy: open findings of one of its emergency classes, or of a vulnerability that was declared one.
    pub(crate) fn calls(
        &self,
        classes: &BTreeMap<&str, BTreeSet<&str>>,
        declared: &BTreeSet<&str>,
    ) -> BTreeMap<String, Calls> {
        let declared: BTreeSet<u32> = declared.iter().filter_map(|id| self.ids.find(id)).collect();
        let numbers: BTreeMap<&str, BTreeSet<u16>> = classes
            .iter()
            .map(|(policy, words)| {
                let number = |word: &&str| u16::try_from(self.classes.find(word)? + 1).ok();
                (*policy, words.iter().filter_map(number).collect())
            })
            .collect();
        let mut out: BTreeMap<String, Calls> = BTreeMap::new();
        if declared.is_empty() && numbers.values().all(BTreeSet::is_empty) {
            return out;
        }
        let open = |at: u32| self.glances[at as usize].counts[FindingState::Open as usize] > 0;
        for (at, known) in self.each().filter(|(at, _)| open(*at)) {
            let Some(policy) = self.stage(at).policy.as_deref() else { continue };
            let urgent = numbers.get(policy);
            for mark in self.marks.of(at).iter().filter(|m| m.state == FindingState::Open) {
                let of_class = urgent.is_some_and(|urgent| urgent.contains(&mark.class));
                if of_class || declared.contains(&mark.id) {
                    let calls = out.entry(policy.to_owned()).or_default();
                    let host = calls.entry(known.record.host.id.clone()).or_default();
                    host.insert(self.ids.text(mark.id).to_owned());
                }
            }
        }
        out
    }
}
