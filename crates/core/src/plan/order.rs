//! Who goes when: waves by ring, canaries chosen so that they stand for the rest.

use super::{HostPlan, Wave};
use crate::policy::{Policy, RingRule};
use crate::{Digest, HostId, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A host with something to do, not yet in a wave.
pub(super) struct Candidate<'a> {
    pub(super) id: &'a HostId,
    pub(super) plan: HostPlan,
}

/// A change as its risk is known: package and version on either side. Tried once, it is tried for all.
type Change<'a> = (&'a str, &'a str, &'a str);

fn changes<'a>(candidate: &'a Candidate<'_>) -> impl Iterator<Item = Change<'a>> {
    candidate.plan.order.changes.iter().map(|c| (c.name.as_str(), c.from.as_str(), c.to.as_str()))
}

/// Puts hosts into waves. `sizes` is how many hosts each ring has, with those that need nothing; `soak_cap` cuts
/// every soak.
///
/// In the policy's first ring, hosts come in the order in which they stand for most of the others. In later rings
/// the most urgent come first; but where they change something that no ring before them tried (be it that the
/// canaries had nothing to do), the fewest hosts that try all of it go ahead as a wave of their own.
pub(super) fn by_rings(
    policy: &Policy,
    mut candidates: BTreeMap<&str, Vec<Candidate<'_>>>,
    sizes: &BTreeMap<&str, usize>,
    soak_cap: Option<u64>,
    seed: u64,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let rings: Vec<(&RingRule, Vec<Candidate<'_>>)> = policy
        .rings
        .iter()
        .filter_map(|r| Some((r, candidates.remove(r.name.as_str())?)))
        .collect();
    let last = rings.len().saturating_sub(1);
    let canaries = policy.rings.first().map(|r| r.name.as_str());

    let mut out: Vec<Wave> = Vec::new();
    let mut tried = Tried::default();
    let mut placed: Vec<(&HostId, u32)> = Vec::new();
    for (n, (ring, hosts)) in rings.iter().enumerate() {
        let share = |size: usize| (size * ring.wave_percent as usize).div_ceil(100).max(1);
        let limit = share(sizes.get(ring.name.as_str()).copied().unwrap_or(0).max(hosts.len()));
        let others: Vec<&Candidate<'_>> = rings[n + 1..].iter().flat_map(|(_, c)| c).collect();
        let everyone: Vec<&Candidate<'_>> = hosts.iter().chain(others.iter().copied()).collect();
        let first = canaries == Some(&ring.name);
        let (order, scouts) = if first {
            (by_cover(hosts, &everyone, &Tried::default(), seed), 0)
        } else {
            ahead_then_urgent(hosts, &tried, seed)
        };
        let batches = batches(&order, scouts, limit);
        let batch_count = batches.len();
        for (b, batch) in batches.into_iter().enumerate() {
            let new = tried.new_changes(&batch);
            tried.add(&batch);
            let why = if first {
                tried.report(b, &others, new)
            } else if b * limit < scouts {
                format!(
                    "goes ahead of ring {}: tries {} that no ring before did",
                    ring.name,
                    count(new, "change")
                )
            } else if new == 0 {
                "most urgent first".to_owned()
            } else {
                format!("most urgent first; {} new to the rollout", count(new, "change"))
            };
            let soak = if b + 1 == batch_count && n < last {
                ring.soak_seconds.min(soak_cap.unwrap_or(u64::MAX))
            } else {
                0
            };
            placed.extend(batch.iter().map(|c| (c.id, out.len() as u32)));
            let ids = batch.iter().map(|c| c.id.clone()).collect();
            out.push(Wave {
                ring: ring.name.clone(),
                hosts: ids,
                why,
                gate: policy.gate.clone(),
                soak_seconds: soak,
                rolling: false,
                traffic: None,
            });
        }
    }
    let numbers: BTreeMap<&HostId, u32> = placed.into_iter().collect();
    let hosts = numbered(rings.iter().flat_map(|(_, c)| c), &numbers);
    (out, hosts)
}

/// The hosts' plans, each with the number of its wave.
pub(super) fn numbered<'c, 'a: 'c>(
    all: impl Iterator<Item = &'c Candidate<'a>>,
    numbers: &BTreeMap<&HostId, u32>,
) -> BTreeMap<HostId, HostPlan> {
    all.map(|c| {
        let wave = numbers.get(c.id).copied().unwrap_or(0);
        (c.id.clone(), HostPlan { wave, ..c.plan.clone() })
    })
    .collect()
}

/// Cuts an order into waves. `ahead` hosts at its head are kept apart from the rest.
fn batches<'c, 'a>(
    order: &[&'c Candidate<'a>],
    ahead: usize,
    limit: usize,
) -> Vec<Vec<&'c Candidate<'a>>> {
    let (ahead, rest) = order.split_at(ahead.min(order.len()));
    ahead.chunks(limit).chain(rest.chunks(limit)).map(<[_]>::to_vec).collect()
}

/// What earlier waves have been through.
#[derive(Default)]
pub(super) struct Tried<'c> {
    cohorts: BTreeSet<Digest>,
    changes: BTreeSet<Change<'c>>,
}

impl<'c> Tried<'c> {
    pub(super) fn add(&mut self, hosts: &[&'c Candidate<'_>]) {
        for host in hosts {
            self.cohorts.insert(host.plan.cohort);
            self.changes.extend(changes(host));
        }
    }

    pub(super) fn new_changes(&self, hosts: &[&Candidate<'_>]) -> usize {
        hosts
            .iter()
            .flat_map(|h| changes(h))
            .filter(|c| !self.changes.contains(c))
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// For whom the hosts up to wave `number` stand in, among those of later rings.
    fn report(&self, number: usize, others: &[&Candidate<'_>], new: usize) -> String {
        if others.is_empty() {
            return format!("no ring after this one; tries {} first", count(new, "change"));
        }
        let mut cohorts: BTreeMap<Digest, Vec<&Candidate<'_>>> = BTreeMap::new();
        for &other in others {
            cohorts.entry(other.plan.cohort).or_default().push(other);
        }
        let (yes, no): (Vec<_>, Vec<_>) =
            cohorts.iter().partition(|(cohort, _)| self.cohorts.contains(cohort));
        let stood_for: usize = yes.iter().map(|(_, hosts)| hosts.len()).sum();
        let mut text = format!(
            "{}stands for {} of {} of later rings ({} of {})",
            if number > 0 { "with the waves before it " } else { "" },
            yes.len(),
            count(cohorts.len(), "cohort"),
            stood_for,
            count(others.len(), "host"),
        );
        if !yes.is_empty() {
            text += &format!(": {}", listed(&yes));
        }
        if !no.is_empty() {
            let theirs = no.iter().flat_map(|(_, hosts)| hosts.iter()).flat_map(|h| changes(h));
            let untried: BTreeSet<Change<'_>> =
                theirs.filter(|c| !self.changes.contains(c)).collect();
            text += &format!("; not for {}", listed(&no));
            text += &match untried.len() {
                0 => ", whose changes are tried here all the same".to_owned(),
                n => format!(
                    ", of whose changes {n} {} not tried here",
                    if n == 1 { "is" } else { "are" }
                ),
            };
        }
        text
    }
}

/// Cohorts with their number of hosts; the first few of them.
fn listed(cohorts: &[(&Digest, &Vec<&Candidate<'_>>)]) -> String {
    const SHOWN: usize = 5;
    let one = |(digest, hosts): &(&Digest, &Vec<_>)| {
        format!("{} ({})", digest.short(), count(hosts.len(), "host"))
    };
    let mut out: Vec<String> = cohorts.iter().take(SHOWN).map(one).collect();
    if cohorts.len() > SHOWN {
        out.push(format!("{} more", cohorts.len() - SHOWN));
    }
    out.join(", ")
}

pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A host's place among equals: looks random, and is the same for the same seed.
fn lot(seed: u64, id: &HostId) -> Digest {
    Digest::of_json(&(seed, id))
}

/// How much a host adds: hosts in cohorts not yet stood for, then hosts with changes not yet tried.
type Gain = (usize, usize);

/// Hosts in the order in which each adds most to what those before it stand for: the greedy answer to set cover,
/// which is never worse than ln(n) times the best. Gains only fall as others are chosen, so a host whose gain,
/// looked at again, is still on top of the heap is the best one (Minoux's lazy greedy).
pub(super) fn by_cover<'c, 'a>(
    hosts: &'c [Candidate<'a>],
    everyone: &[&'c Candidate<'a>],
    already: &Tried<'_>,
    seed: u64,
) -> Vec<&'c Candidate<'a>> {
    let mut cohorts: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<Change<'c>, usize> = BTreeMap::new();
    for &host in everyone {
        *cohorts.entry(host.plan.cohort).or_default() += 1;
        for change in changes(host) {
            *wanted.entry(change).or_default() += 1;
        }
    }
    cohorts.retain(|c, _| !already.cohorts.contains(c));
    wanted.retain(|c, _| !already.changes.contains(c));
    let gain = |i: usize,
                cohorts: &BTreeMap<Digest, usize>,
                wanted: &BTreeMap<Change<'c>, usize>|
     -> Gain {
        let cohort = cohorts.get(&hosts[i].plan.cohort).copied().unwrap_or(0);
        (cohort, changes(&hosts[i]).filter_map(|c| wanted.get(&c)).sum())
    };
    let mut heap: BinaryHeap<(Gain, Reverse<Digest>, usize)> = (0..hosts.len())
        .map(|i| (gain(i, &cohorts, &wanted), Reverse(lot(seed, hosts[i].id)), i))
        .collect();
    let mut out = Vec::with_capacity(hosts.len());
    while let Some((then, lot, i)) = heap.pop() {
        let now = gain(i, &cohorts, &wanted);
        if now != then {
            heap.push((now, lot, i));
            continue;
        }
        cohorts.remove(&hosts[i].plan.cohort);
        for change in changes(&hosts[i]) {
            wanted.remove(&change);
        }
        out.push(&hosts[i]);
    }
    out
}

/// First the fewest hosts that try every change not tried before (and how many these are), then the others as
/// they are due.
pub(super) fn ahead_then_urgent<'c, 'a>(
    hosts: &'c [Candidate<'a>],
    tried: &Tried<'_>,
    seed: u64,
) -> (Vec<&'c Candidate<'a>>, usize) {
    let everyone: Vec<&Candidate<'_>> = hosts.iter().collect();
    let mut missing: BTreeSet<Change<'_>> =
        hosts.iter().flat_map(changes).filter(|c| !tried.changes.contains(c)).collect();
    let mut ahead = Vec::new();
    for host in by_cover(hosts, &everyone, tried, seed) {
        if missing.is_empty() {
            break;
        }
        let before = missing.len();
        missing.retain(|m| !changes(host).any(|c| c == *m));
        if missing.len() < before {
            ahead.push(host);
        }
    }
    // Where they are all of them, nobody goes ahead of anybody.
    if ahead.len() == hosts.len() {
        ahead.clear();
    }
    let scouts = ahead.len();
    let chosen: BTreeSet<&HostId> = ahead.iter().map(|c| c.id).collect();
    let mut rest: Vec<&Candidate<'_>> = hosts.iter().filter(|c| !chosen.contains(c.id)).collect();
    rest.sort_by_key(|c| {
        (!c.plan.ignore_windows, c.plan.due.unwrap_or(Timestamp::MAX), lot(seed, c.id))
    });
    ahead.extend(rest);
    (ahead, scouts)
}
