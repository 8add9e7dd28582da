//! Which findings pass a filter, worst first.

use super::{Fleet, Mark};
use fettle_core::HostId;
use fettle_core::finding::FindingState;
use fettle_store::findings::Filter;
use std::cmp::{Ordering, Reverse};

/// Where a finding is: enough to read it from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: HostId,
    pub(crate) host_name: String,
    pub(crate) id: String,
    pub(crate) source: String,
}

/// A finding that passes, with the place of its host in the order of names.
#[derive(Clone, Copy)]
struct Found<'a> {
    mark: &'a Mark,
    host: u32,
    place: u32,
}

impl Fleet {
    /// Findings that pass, worst first (those not fixed before the fixed, then by rank, vulnerability and host's
    /// name), and how many there are in all.
    pub(crate) fn findings<'f>(
        &'f self,
        filter: &Filter,
        limit: u64,
        offset: u64,
    ) -> (u64, Vec<Place>) {
        let due = filter.due_before.map(|at| super::seconds(Some(at)));
        let passes = |mark: &&Mark| {
            filter.state.is_none_or(|s| s == mark.state)
                && filter.severity.is_none_or(|s| s == mark.severity)
                && due.is_none_or(|due| {
                    mark.state == FindingState::Open && mark.deadline > 0 && mark.deadline < due
                })
        };
        let id = match &filter.id {
            Some(id) => match self.ids.find(id) {
                Some(number) => Some(number),
                None => return (0, Vec::new()),
            },
            None => None,
        };
        let worse = |a: &Found<'_>, b: &Found<'_>| -> Ordering {
            let key = |f: &Found<'_>| (f.mark.state == FindingState::Fixed, Reverse(f.mark.rank));
            key(a)
                .cmp(&key(b))
                .then_with(|| match a.mark.id == b.mark.id {
                    true => Ordering::Equal,
                    false => self.ids.text(a.mark.id).cmp(self.ids.text(b.mark.id)),
                })
                .then_with(|| a.place.cmp(&b.place))
                .then_with(|| a.mark.source.cmp(&b.mark.source))
        };
        let keep = usize::try_from(limit.saturating_add(offset)).unwrap_or(usize::MAX);
        // Of the open ones alone a glance at a host tells how many there are, and how bad the worst of them.
        let glanced = filter.state == Some(FindingState::Open)
            && filter.host.is_none()
            && id.is_none()
            && filter.severity.is_none()
            && due.is_none();
        let mut total = 0_u64;
        // Never more than twice what is asked for is held, whatever passes.
        let mut kept: Vec<Found<'f>> = Vec::new();
        let mut bound: Option<Found<'f>> = None;
        let mut look = |host: u32| {
            let Some(&place) = self.places.get(host as usize) else { return };
            if glanced {
                let glance = &self.glances[host as usize];
                total += u64::from(glance.counts[FindingState::Open as usize]);
                if bound.as_ref().is_some_and(|bound| glance.worst < bound.mark.rank) {
                    return;
                }
            }
            let marks = match id {
                Some(id) => self.marks.about(host, id),
                None => self.marks.of(host),
            };
            for mark in marks.iter().filter(passes) {
                total += u64::from(!glanced);
                let found = Found { mark, host, place };
                if bound.as_ref().is_some_and(|bound| worse(&found, bound).is_ge()) {
                    continue;
                }
                kept.push(found);
                if kept.len() >= keep.saturating_mul(2).max(64) && keep > 0 {
                    kept.select_nth_unstable_by(keep - 1, worse);
                    kept.truncate(keep);
                    bound = kept.last().copied();
                }
            }
        };
        let may_pass = |host: &u32| {
            let counts = &self.glances[*host as usize].counts;
            filter.state.is_none_or(|state| counts[state as usize] > 0)
        };
        match (&filter.host, id) {
            (Some(host), _) => self.by_id.get(host).copied().into_iter().for_each(look),
            (None, Some(id)) => self.with(id).into_iter().flatten().for_each(look),
            (None, None) => self.order.iter().copied().filter(may_pass).for_each(&mut look),
        }
        kept.sort_unstable_by(worse);
        let asked = kept.into_iter().take(keep).skip(offset as usize);
        let places = asked.filter_map(|found| {
            let host = &self.known(found.host)?.record.host;
            Some(Place {
                host: host.id.clone(),
                host_name: host.name.clone(),
                id: self.ids.text(found.mark.id).to_owned(),
                source: self.sources.text(found.mark.source).to_owned(),
            })
        });
        (total, places.collect())
    }
}
