//! What a new catalogue makes happen to findings, put together for all hosts where it happens alike.

use super::again::{CatalogueChange, CatalogueWithdrawal};
use super::change::FindingDelta;
use crate::exposure::Withdrawn;
use crate::exposure::roots::named;
use fettle_core::finding::FindingState;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// What happens to findings: of which root, which vulnerability, from and to which state, and to which group of systems.
pub(super) type Event =
    (Option<Arc<str>>, Arc<str>, Option<FindingState>, Option<FindingState>, usize);

/// Groups of systems to which the same happens, and what.
#[derive(Default)]
pub(super) struct Events {
    pub(super) groups: Vec<RoaringBitmap>,
    changes: Vec<Event>,
    withdrawn: Vec<(Withdrawn, usize)>,
}

/// Systems that are hosts themselves, or the same root on hosts, and the place of their hosts among the groups.
pub(super) type Group = (Option<Arc<str>>, usize);

impl Events {
    pub(super) fn happen(
        &mut self,
        groups: &[Group],
        id: Arc<str>,
        before: Option<FindingState>,
        after: Option<FindingState>,
    ) {
        let of = |(root, group): &Group| (root.clone(), id.clone(), before, after, *group);
        self.changes.extend(groups.iter().map(of));
    }

    pub(super) fn withdraw(&mut self, groups: &[Group], withdrawn: Withdrawn) {
        for (root, group) in groups {
            let source = named(root.as_deref(), &withdrawn.source);
            self.withdrawn.push((Withdrawn { source, ..withdrawn.clone() }, *group));
        }
    }

    /// Puts together what happens alike.
    pub(super) fn tell(
        mut self,
        source: &Arc<str>,
    ) -> (Vec<CatalogueChange>, Vec<CatalogueWithdrawal>) {
        let (mut changes, mut withdrawn) = (Vec::new(), Vec::new());
        self.changes.sort_unstable();
        for same in self.changes.chunk_by(|a, b| (&a.0, &a.1, a.2, a.3) == (&b.0, &b.1, b.2, b.3)) {
            let (root, id, before, after, _) = same[0].clone();
            let source = match root {
                None => source.clone(),
                root => named(root.as_deref(), source).into(),
            };
            let hosts = self.united(same.iter().map(|event| event.4));
            let delta = FindingDelta { source, id, before, after };
            changes.push(CatalogueChange { delta, hosts });
        }
        self.withdrawn.sort_unstable();
        for same in self.withdrawn.chunk_by(|a, b| a.0 == b.0) {
            let hosts = self.united(same.iter().map(|(_, group)| *group));
            withdrawn.push(CatalogueWithdrawal { withdrawn: same[0].0.clone(), hosts });
        }
        (changes, withdrawn)
    }

    fn united(&self, mut groups: impl Iterator<Item = usize>) -> RoaringBitmap {
        let mut hosts = groups.next().map(|first| self.groups[first].clone()).unwrap_or_default();
        for group in groups {
            hosts |= &self.groups[group];
        }
        hosts
    }
}
