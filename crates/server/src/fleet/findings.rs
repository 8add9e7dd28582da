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
        let mut total = 0;
        // Never more than twice what is asked for is held, whatever passes.
        let mut kept: Vec<Found<'f>> = Vec::new();
        let mut bound: Option<Found<'f>> = None;
        let mut take = |found: Found<'f>| {
            total += 1;
            if bound.as_ref().is_some_and(|bound| worse(&found, bound).is_ge()) {
                return;
            }
            kept.push(found);
            if kept.len() >= keep.saturating_mul(2).max(64) && keep > 0 {
                kept.select_nth_unstable_by(keep - 1, worse);
                kept.truncate(keep);
                bound = kept.last().copied();
            }
        };
        let one = filter.host.as_ref().map(|host| self.by_id.get(host).copied());
        let hosts = (0..).zip(self.by_name.values().copied());
        for (place, host) in hosts.filter(|(_, at)| one.is_none_or(|only| only == Some(*at))) {
            let Some(known) = self.known(host) else { continue };
            let marks = match id {
                Some(id) => {
                    let from = known.marks.partition_point(|m| m.id < id);
                    let to = known.marks[from..].partition_point(|m| m.id == id);
                    &known.marks[from..from + to]
                }
                None => &known.marks[..],
            };
            marks.iter().filter(passes).for_each(|mark| take(Found { mark, host, place }));
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
