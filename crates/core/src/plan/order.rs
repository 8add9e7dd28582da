//! Who goes when: waves by ring, canaries chosen so that they stand for the rest.
//!
//! Hosts of one kind (of one cohort, with the same to be done) stand for each other, so what is counted is counted by
//! kind, and only who of a kind goes first is a question about hosts.

use super::{HostPlan, Wave};
use crate::policy::{GateRule, Policy, RingRule};
use crate::{Digest, HostId, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// A host with something to do, not yet in a wave.
pub(super) struct Candidate<'a> {
    pub(super) id: &'a HostId,
    pub(super) plan: HostPlan,
    /// Number of its kind.
    pub(super) kind: usize,
    /// Number of its role among what hosts are for.
    pub(super) role: Option<usize>,
    /// Its place among equals.
    pub(super) lot: Digest,
}

/// A host's place among equals: looks random, and is the same for the same seed.
pub(super) fn lot(seed: u64, id: &HostId) -> Digest {
    Digest::of_json(&(seed, id))
}

/// The kinds of hosts as waves look at them, everything by its number.
pub(super) struct Laid {
    /// How many there are.
    cohorts: usize,
    changes: usize,
    /// What hosts are for, in words.
    duties: Vec<String>,
    kinds: Vec<LaidKind>,
}

struct LaidKind {
    cohort: usize,
    /// A change as its risk is known: package and version on either side. Tried once, it is tried for all.
    changes: Arc<[usize]>,
    /// The services that it offers.
    duties: Arc<[usize]>,
}

impl Laid {
    /// `changes`: how many there are; `duties`: by number.
    pub(super) fn new(
        kinds: impl Iterator<Item = (Digest, Arc<[usize]>, Arc<[usize]>)>,
        changes: usize,
        duties: Vec<String>,
    ) -> Self {
        let mut cohorts: BTreeMap<Digest, usize> = BTreeMap::new();
        let laid = kinds.map(|(cohort, changes, duties)| {
            let next = cohorts.len();
            let cohort = *cohorts.entry(cohort).or_insert(next);
            LaidKind { cohort, changes, duties }
        });
        let kinds = laid.collect();
        let cohorts = cohorts.len();
        Self { cohorts, changes, duties, kinds }
    }

    fn cohort(&self, kind: usize) -> usize {
        self.kinds[kind].cohort
    }

    fn changes(&self, kind: usize) -> &[usize] {
        &self.kinds[kind].changes
    }

    /// How many of the hosts are of each kind.
    fn count<'c, 'a: 'c>(&self, hosts: impl IntoIterator<Item = &'c Candidate<'a>>) -> Crowd {
        let mut of = vec![0; self.kinds.len()];
        let mut duties = vec![0; self.duties.len()];
        for host in hosts {
            of[host.kind] += 1;
            if let Some(role) = host.role {
                duties[role] += 1;
            }
        }
        for (kind, hosts) in of.iter().enumerate().filter(|(_, hosts)| **hosts > 0) {
            self.kinds[kind].duties.iter().for_each(|duty| duties[*duty] += hosts);
        }
        Crowd { of, duties }
    }

    /// What a host of the kind and role is for.
    fn duties_of(&self, kind: usize, role: Option<usize>) -> impl Iterator<Item = usize> {
        self.kinds[kind].duties.iter().copied().chain(role)
    }
}

/// Hosts, as how many there are of each kind.
#[derive(Clone)]
struct Crowd {
    of: Vec<usize>,
    /// How many of them are for what.
    duties: Vec<usize>,
}

impl Crowd {
    /// The kinds that are there, with their hosts.
    fn kinds(&self) -> impl Iterator<Item = (usize, usize)> {
        self.of.iter().copied().enumerate().filter(|(_, hosts)| *hosts > 0)
    }

    fn hosts(&self) -> usize {
        self.of.iter().sum()
    }

    fn minus(&self, other: &Self) -> Self {
        let less =
            |all: &[usize], other: &[usize]| all.iter().zip(other).map(|(a, b)| a - b).collect();
        Self { of: less(&self.of, &other.of), duties: less(&self.duties, &other.duties) }
    }
}

/// Puts hosts into waves. `sizes` is how many hosts each ring has, with those that need nothing; `soak_cap` cuts
/// every soak.
///
/// In the policy's first ring, hosts come in the order in which they stand for most of the others. In later rings
/// the most urgent come first; but where they change something that no ring before them tried (be it that the
/// canaries had nothing to do), the fewest hosts that try all of it go ahead as a wave of their own.
pub(super) fn by_rings(
    policy: &Policy,
    laid: &Laid,
    mut candidates: BTreeMap<&str, Vec<Candidate<'_>>>,
    sizes: &BTreeMap<&str, usize>,
    soak_cap: Option<u64>,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let rings: Vec<(&RingRule, Vec<Candidate<'_>>)> = policy
        .rings
        .iter()
        .filter_map(|r| Some((r, candidates.remove(r.name.as_str())?)))
        .collect();
    let last = rings.len().saturating_sub(1);
    let gate = gate_of(policy, &rings.iter().map(|(r, _)| r.name.as_str()).collect::<Vec<_>>());
    let canaries = policy.rings.first().map(|r| r.name.as_str());

    let mut out: Vec<Wave> = Vec::new();
    let mut tried = Tried::new(laid);
    let mut waves: Vec<Vec<u32>> = rings.iter().map(|(_, hosts)| vec![0; hosts.len()]).collect();
    let mut others = laid.count(rings.iter().flat_map(|(_, hosts)| hosts));
    for (n, (ring, hosts)) in rings.iter().enumerate() {
        let share = |size: usize| (size * ring.wave_percent as usize).div_ceil(100).max(1);
        let limit = share(sizes.get(ring.name.as_str()).copied().unwrap_or(0).max(hosts.len()));
        let everyone = others.clone();
        others = others.minus(&laid.count(hosts));
        let first = canaries == Some(&ring.name);
        let (order, adds, scouts) = if first {
            let (order, adds) = by_cover(hosts, &everyone, &Tried::new(laid));
            (order, adds, 0)
        } else {
            let (order, scouts) = ahead_then_urgent(hosts, &tried);
            (order, Vec::new(), scouts)
        };
        let batches = batches(&order, scouts, limit);
        let batch_count = batches.len();
        for (b, batch) in batches.into_iter().enumerate() {
            let members = || batch.iter().map(|&i| &hosts[i]);
            let crowd = laid.count(members());
            let new = tried.new_changes(&crowd);
            tried.add(&crowd);
            let why = if first {
                let begin = (b * limit).min(adds.len());
                let mine = begin..(begin + limit).min(adds.len());
                let chosen = chosen(laid, hosts, &order[mine.clone()], &adds[mine]);
                tried.report(b, &others, new) + &chosen
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
            for &i in batch {
                waves[n][i] = out.len() as u32;
            }
            out.push(Wave {
                ring: ring.name.clone(),
                hosts: members().map(|c| c.id.clone()).collect(),
                why,
                gate: gate.clone(),
                soak_seconds: soak,
                // What is urgent enough to cut soaks cuts these as well.
                after_seconds: ring.after_seconds.min(soak_cap.unwrap_or(u64::MAX)),
                rolling: false,
                traffic: None,
            });
        }
    }
    let placed =
        rings.into_iter().zip(waves).flat_map(|((_, hosts), waves)| hosts.into_iter().zip(waves));
    let numbered = placed.map(|(c, wave)| (c.id.clone(), HostPlan { wave, ..c.plan }));
    (out, numbered.collect())
}

/// The policy's gate, as the plan's waves have it. A ring in which nobody has anything to do begins nothing that could
/// wait for somebody's word: the next ring of the plan waits for it.
fn gate_of(policy: &Policy, present: &[&str]) -> GateRule {
    let mut gate = policy.gate.clone();
    for asked in &mut gate.approval {
        let stands_in = policy
            .rings
            .iter()
            .skip_while(|ring| ring.name != *asked)
            .find(|ring| present.contains(&ring.name.as_str()));
        if let Some(ring) = stands_in {
            asked.clone_from(&ring.name);
        }
    }
    gate.approval.sort();
    gate.approval.dedup();
    gate
}

/// Cuts an order into waves. `ahead` hosts at its head are kept apart from the rest.
fn batches(order: &[usize], ahead: usize, limit: usize) -> Vec<&[usize]> {
    let (ahead, rest) = order.split_at(ahead.min(order.len()));
    ahead.chunks(limit).chain(rest.chunks(limit)).collect()
}

/// What earlier waves have been through.
#[derive(Clone)]
pub(super) struct Tried<'k> {
    laid: &'k Laid,
    cohorts: Vec<bool>,
    changes: Vec<bool>,
    duties: Vec<bool>,
}

impl<'k> Tried<'k> {
    pub(super) fn new(laid: &'k Laid) -> Self {
        Self {
            laid,
            cohorts: vec![false; laid.cohorts],
            changes: vec![false; laid.changes],
            duties: vec![false; laid.duties.len()],
        }
    }

    fn add(&mut self, crowd: &Crowd) {
        for (kind, _) in crowd.kinds() {
            self.add_kind(kind);
        }
        for (known, _) in self.duties.iter_mut().zip(&crowd.duties).filter(|(_, hosts)| **hosts > 0)
        {
            *known = true;
        }
    }

    fn add_kind(&mut self, kind: usize) {
        self.cohorts[self.laid.cohort(kind)] = true;
        for &change in self.laid.changes(kind) {
            self.changes[change] = true;
        }
    }

    /// Changes of the crowd's that nobody has tried.
    fn new_changes(&self, crowd: &Crowd) -> usize {
        self.untried(crowd.kinds().map(|(kind, _)| kind))
    }

    fn untried(&self, kinds: impl Iterator<Item = usize>) -> usize {
        let mut told = self.changes.clone();
        let mut new = 0;
        for change in kinds.flat_map(|kind| self.laid.changes(kind)) {
            new += usize::from(!std::mem::replace(&mut told[*change], true));
        }
        new
    }

    /// As [`Self::new_changes`] and [`Self::add`], of hosts.
    pub(super) fn add_hosts<'c, 'a: 'c>(
        &mut self,
        hosts: impl IntoIterator<Item = &'c Candidate<'a>>,
    ) -> usize {
        let crowd = self.laid.count(hosts);
        let new = self.new_changes(&crowd);
        self.add(&crowd);
        new
    }

    /// For whom the hosts up to wave `number` stand in, among those of later rings.
    fn report(&self, number: usize, others: &Crowd, new: usize) -> String {
        let total = others.hosts();
        if total == 0 {
            return format!("no ring after this one; tries {} first", count(new, "change"));
        }
        let duties = self.duties_told(others);
        let mut cohorts: BTreeMap<usize, usize> = BTreeMap::new();
        for (kind, hosts) in others.kinds() {
            *cohorts.entry(self.laid.cohort(kind)).or_default() += hosts;
        }
        type Cohorts = BTreeMap<usize, usize>;
        let all = cohorts.len();
        let (yes, no): (Cohorts, Cohorts) =
            cohorts.into_iter().partition(|(cohort, _)| self.cohorts[*cohort]);
        let stood_for: usize = yes.values().sum();
        let mut text = format!(
            "{}stands for {} of {} of later rings ({} of {})",
            if number > 0 { "with the waves before it " } else { "" },
            yes.len(),
            count(all, "cohort"),
            stood_for,
            count(total, "host"),
        );
        if !no.is_empty() {
            let is_theirs = |kind: &usize| !self.cohorts[self.laid.cohort(*kind)];
            let untried = self.untried(others.kinds().map(|(kind, _)| kind).filter(is_theirs));
            let hosts: usize = no.values().sum();
            text += &format!("; not for {} of them ({})", no.len(), count(hosts, "host"));
            text += &match untried {
                0 => ", whose changes are tried here all the same".to_owned(),
                n => format!(
                    ", of whose changes {n} {} not tried here",
                    if n == 1 { "is" } else { "are" }
                ),
            };
        }
        text + &duties
    }

    /// For which of their roles and services.
    fn duties_told(&self, others: &Crowd) -> String {
        let theirs = others.duties.iter().enumerate().filter(|(_, hosts)| **hosts > 0);
        let (yes, no): (Vec<_>, Vec<_>) = theirs.partition(|(duty, _)| self.duties[*duty]);
        let all = yes.len() + no.len();
        if all == 0 {
            return String::new();
        }
        let mut text = format!(
            "; for {} of their {}",
            yes.len(),
            if all == 1 {
                "1 role or service".to_owned()
            } else {
                format!("{all} roles and services")
            }
        );
        if !no.is_empty() {
            let one = |(duty, hosts): &(usize, &usize)| {
                format!("{} ({})", self.laid.duties[*duty], count(**hosts, "host"))
            };
            let mut named: Vec<String> = no.iter().take(SHOWN).map(one).collect();
            if no.len() > SHOWN {
                named.push(format!("{} more", no.len() - SHOWN));
            }
            text += &format!(", not for {}", named.join(", "));
        }
        text
    }
}

/// As many are named in one sentence; who stands for which cohort, the plan's report has in a table.
const SHOWN: usize = 2;

/// For what each of these was chosen.
fn chosen(laid: &Laid, hosts: &[Candidate<'_>], order: &[usize], adds: &[Adds]) -> String {
    let one = |(&i, adds): (&usize, &Adds)| {
        let mut what = Vec::new();
        if let Some(hosts) = adds.cohort {
            what.push(format!("{} like it", count(hosts, "host")));
        }
        let duty = |(duty, hosts): &(usize, usize)| {
            format!("{} ({})", laid.duties[*duty], count(*hosts, "host"))
        };
        what.extend(adds.duties.iter().take(SHOWN).map(duty));
        if adds.duties.len() > SHOWN {
            what.push(format!("{} more", adds.duties.len() - SHOWN));
        }
        if adds.changes > 0 {
            what.push(count(adds.changes, "change"));
        }
        format!("{} for {}", hosts[i].plan.name, what.join(", "))
    };
    let mut told: Vec<String> = order.iter().zip(adds).take(SHOWN).map(one).collect();
    if adds.len() > SHOWN {
        told.push(format!("{} more", adds.len() - SHOWN));
    }
    if told.is_empty() { String::new() } else { format!("; chosen: {}", told.join("; ")) }
}

pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How much a host adds: hosts in cohorts not yet stood for and hosts that are for what none before it is, then hosts
/// with changes not yet tried.
type Gain = (usize, usize);

/// What a host adds to those before it.
pub(super) struct Adds {
    /// How many hosts are of its cohort, where it is the first of that.
    cohort: Option<usize>,
    /// What it is for, with how many hosts are for the same; most of them first.
    duties: Vec<(usize, usize)>,
    /// Changes that nobody before it tries.
    changes: usize,
}

/// Hosts that each add something to what those before them stand for, the one that adds most first: the greedy answer
/// to set cover, which is never worse than ln(n) times the best. Gains only fall as others are chosen, so one whose
/// gain, looked at again, is still on top of the heap is the best one (Minoux's lazy greedy). Of a kind, only the
/// first by lot can be among them: once it is chosen, the others add nothing. Nor does what a host is for count where only
/// changes do.
fn who_adds(
    hosts: &[Candidate<'_>],
    everyone: &Crowd,
    already: &Tried<'_>,
    only_changes: bool,
) -> Vec<(usize, Adds)> {
    let laid = already.laid;
    let mut cohorts = vec![0; laid.cohorts];
    let mut wanted = vec![0; laid.changes];
    let mut duties = everyone.duties.clone();
    for (hosts, _) in duties.iter_mut().zip(&already.duties).filter(|(_, is)| only_changes || **is)
    {
        *hosts = 0;
    }
    for (kind, hosts) in everyone.kinds() {
        let cohort = laid.cohort(kind);
        if !already.cohorts[cohort] {
            cohorts[cohort] += hosts;
        }
        for &change in laid.changes(kind).iter().filter(|c| !already.changes[**c]) {
            wanted[change] += hosts;
        }
    }
    // Of those who are alike in all that counts.
    let role = |host: &Candidate<'_>| host.role.filter(|_| !only_changes);
    let mut first: BTreeMap<(usize, Option<usize>), usize> = BTreeMap::new();
    for (i, host) in hosts.iter().enumerate() {
        let known = first.entry((host.kind, role(host))).or_insert(i);
        if host.lot < hosts[*known].lot {
            *known = i;
        }
    }
    let gain = |i: usize, cohorts: &[usize], wanted: &[usize], duties: &[usize]| -> Gain {
        let kind = hosts[i].kind;
        let is_for: usize = laid.duties_of(kind, role(&hosts[i])).map(|duty| duties[duty]).sum();
        let tries = laid.changes(kind).iter().map(|c| wanted[*c]).sum();
        (cohorts[laid.cohort(kind)] + is_for, tries)
    };
    let mut heap: BinaryHeap<(Gain, Reverse<Digest>, usize)> = first
        .into_values()
        .map(|i| (gain(i, &cohorts, &wanted, &duties), Reverse(hosts[i].lot), i))
        .collect();
    let mut out = Vec::new();
    while let Some((then, lot, i)) = heap.pop() {
        let kind = hosts[i].kind;
        let now = gain(i, &cohorts, &wanted, &duties);
        if now == (0, 0) {
            if then == now {
                // So it is with everybody who is left.
                break;
            }
            continue;
        }
        if now != then {
            heap.push((now, lot, i));
            continue;
        }
        let cohort = laid.cohort(kind);
        let stands = Some(std::mem::take(&mut cohorts[cohort])).filter(|hosts| *hosts > 0);
        let mut adds = Adds { cohort: stands, duties: Vec::new(), changes: 0 };
        for duty in laid.duties_of(kind, role(&hosts[i])) {
            let others = std::mem::take(&mut duties[duty]);
            adds.duties.extend((others > 0).then_some((duty, others)));
        }
        adds.duties.sort_unstable_by_key(|(duty, hosts)| (Reverse(*hosts), *duty));
        for &change in laid.changes(kind) {
            adds.changes += usize::from(std::mem::take(&mut wanted[change]) > 0);
        }
        out.push((i, adds));
    }
    out
}

/// First [who adds](who_adds) something, then the others by lot.
fn by_cover(
    hosts: &[Candidate<'_>],
    everyone: &Crowd,
    already: &Tried<'_>,
) -> (Vec<usize>, Vec<Adds>) {
    let (mut out, adds): (Vec<usize>, Vec<Adds>) =
        who_adds(hosts, everyone, already, false).into_iter().unzip();
    let chosen: BTreeSet<usize> = out.iter().copied().collect();
    let mut rest: Vec<usize> = (0..hosts.len()).filter(|i| !chosen.contains(i)).collect();
    rest.sort_unstable_by_key(|&i| (hosts[i].lot, Reverse(i)));
    out.extend(rest);
    (out, adds)
}

/// The first so many hosts of those who stand for most of the others, and for what they were chosen.
pub(super) fn stand_for_most(
    laid: &Laid,
    hosts: &[Candidate<'_>],
    size: usize,
) -> (Vec<usize>, String) {
    let (mut out, mut adds) = by_cover(hosts, &laid.count(hosts), &Tried::new(laid));
    out.truncate(size);
    adds.truncate(size);
    let chosen = chosen(laid, hosts, &out, &adds);
    (out, chosen)
}

/// First the fewest hosts that try every change not tried before (and how many these are), then the others as
/// they are due.
pub(super) fn ahead_then_urgent(hosts: &[Candidate<'_>], tried: &Tried<'_>) -> (Vec<usize>, usize) {
    let everyone = tried.laid.count(hosts);
    let mut missing = tried.new_changes(&everyone);
    let mut then = tried.clone();
    let mut ahead = Vec::new();
    for (i, _) in who_adds(hosts, &everyone, tried, true) {
        if missing == 0 {
            break;
        }
        let new = then.untried(std::iter::once(hosts[i].kind));
        if new > 0 {
            then.add_kind(hosts[i].kind);
            missing -= new;
            ahead.push(i);
        }
    }
    // Where they are all of them, nobody goes ahead of anybody.
    if ahead.len() == hosts.len() {
        ahead.clear();
    }
    let scouts = ahead.len();
    let chosen: BTreeSet<usize> = ahead.iter().copied().collect();
    let mut rest: Vec<usize> = (0..hosts.len()).filter(|i| !chosen.contains(i)).collect();
    rest.sort_by_key(|&i| {
        let plan = &hosts[i].plan;
        (!plan.ignore_windows, plan.due.unwrap_or(Timestamp::MAX), hosts[i].lot)
    });
    ahead.extend(rest);
    (ahead, scouts)
}
