//! The waves of each strategy.

use super::order::{Candidate, Laid, Tried, ahead_then_urgent, by_rings, count, stand_for_most};
use super::{Budget, HostPlan, PoolHost, PoolHosts, Pools, Wave};
use crate::HostId;
use crate::host::Host;
use crate::policy::{EVERYBODY, Policy, Pool, Strategy};
use std::collections::BTreeMap;

/// Puts hosts into waves as the policy's strategy says. `sizes` is how many hosts each stage has, with those that need
/// nothing; `soak_cap` cuts every soak.
pub(super) fn lay_out(
    policy: &Policy,
    laid: &Laid,
    mut candidates: BTreeMap<&str, Vec<Candidate<'_>>>,
    sizes: &BTreeMap<&str, usize>,
    soak_cap: Option<u64>,
    serving: Option<Pool>,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let mut all = || candidates.remove(EVERYBODY).unwrap_or_default();
    match &policy.strategy {
        Strategy::Rings => by_rings(policy, laid, candidates, sizes, soak_cap),
        Strategy::Percentage { waves, soak_seconds } => {
            let soak = (*soak_seconds).min(soak_cap.unwrap_or(u64::MAX));
            by_shares(policy, laid, all(), waves, soak)
        }
        Strategy::Rolling { max_unavailable } => {
            let size = sizes.get(EVERYBODY).copied().unwrap_or(0);
            one_after_another(policy, laid, all(), max_unavailable.of(size))
        }
        Strategy::BlueGreen { traffic, .. } => {
            let serving = serving.unwrap_or(Pool::Blue);
            let mut of = |pool: Pool| candidates.remove(pool.word()).unwrap_or_default();
            let (idle, had) = (of(serving.other()), of(serving));
            pool_by_pool(policy, laid, serving, idle, had, traffic)
        }
    }
}

/// What a rolling policy's hosts may lose at once, whichever of them are in the plan.
pub(super) fn budget_of<'a>(
    policy: &Policy,
    governed: impl Iterator<Item = &'a Host>,
) -> Option<Budget> {
    let Strategy::Rolling { max_unavailable } = &policy.strategy else { return None };
    let hosts: Vec<HostId> = governed.map(|h| h.id.clone()).collect();
    let max_unavailable = max_unavailable.of(hosts.len());
    let name = format!("rolling {}", policy.name);
    Some(Budget { name, hosts, max_unavailable, ..Budget::default() })
}

/// Waves that grow: after wave n at most `shares[n]` percent of these hosts have been in one, rounded up.
///
/// The first wave holds those who stand for most of the others. Where it cannot hold everything that is to be changed,
/// the fewest hosts that try the rest go ahead as a wave of their own; then the most urgent come first.
fn by_shares(
    policy: &Policy,
    laid: &Laid,
    hosts: Vec<Candidate<'_>>,
    shares: &[u32],
    soak: u64,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let total = hosts.len();
    let end_of = |share: u32| (total * share as usize).div_ceil(100);
    let size = end_of(shares.first().copied().unwrap_or(100));
    let mut places: Vec<Option<usize>> = vec![None; total];
    let (standing, chosen) = stand_for_most(laid, &hosts, size);
    for (place, i) in standing.into_iter().enumerate() {
        places[i] = Some(place);
    }
    let mut first = Vec::new();
    let mut rest = Vec::new();
    for (host, place) in hosts.into_iter().zip(places) {
        match place {
            Some(place) => first.push((place, host)),
            None => rest.push(host),
        }
    }
    first.sort_by_key(|(place, _)| *place);
    let first: Vec<Candidate<'_>> = first.into_iter().map(|(_, host)| host).collect();

    let mut waves = Vec::new();
    let mut tried = Tried::new(laid);
    let mut add = |batch: &[&Candidate<'_>], why: String| {
        waves.push(Wave {
            ring: EVERYBODY.to_owned(),
            hosts: batch.iter().map(|c| c.id.clone()).collect(),
            why,
            gate: policy.gate.clone(),
            soak_seconds: soak,
            after_seconds: 0,
            rolling: false,
            traffic: None,
        });
    };
    let begin: Vec<&Candidate<'_>> = first.iter().collect();
    tried.add_hosts(&first);
    let (order, scouts) = ahead_then_urgent(&rest, &tried);
    let order: Vec<&Candidate<'_>> = order.into_iter().map(|i| &rest[i]).collect();
    let (mut ahead, mut others) = order.split_at(scouts);
    let mut placed = begin.len();
    if !begin.is_empty() {
        let share = shares.first().copied().unwrap_or(100);
        let stand = if rest.is_empty() {
            String::new()
        } else {
            format!("; they stand for most of the others{chosen}")
        };
        add(&begin, format!("the first {share} % of {}{stand}", count(total, "host")));
    }
    for &share in shares.iter().skip(1) {
        let mut room = end_of(share).saturating_sub(placed);
        if !ahead.is_empty() && room > 0 {
            let (batch, left) = ahead.split_at(room.min(ahead.len()));
            let new = tried.add_hosts(batch.iter().copied());
            add(batch, format!("goes ahead: tries {} that nobody has", count(new, "change")));
            (ahead, placed, room) = (left, placed + batch.len(), room - batch.len());
        }
        // Whoever only gets what others try waits for all of it to be tried.
        if room > 0 && ahead.is_empty() && !others.is_empty() {
            let (batch, left) = others.split_at(room.min(others.len()));
            add(batch, format!("up to {share} % of {}, most urgent first", count(total, "host")));
            (others, placed) = (left, placed + batch.len());
        }
    }
    if let Some(last) = waves.last_mut() {
        last.soak_seconds = 0;
    }
    with_numbers(waves, first.into_iter().chain(rest))
}

/// One wave of all hosts: first the fewest that try everything, then the most urgent.
fn one_after_another(
    policy: &Policy,
    laid: &Laid,
    hosts: Vec<Candidate<'_>>,
    at_once: u32,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let (order, scouts) = ahead_then_urgent(&hosts, &Tried::new(laid));
    let begin = match scouts {
        0 => String::new(),
        n => format!("; the first {} between them try all that is changed", count(n, "host")),
    };
    let wave = Wave {
        ring: EVERYBODY.to_owned(),
        hosts: order.iter().map(|&i| hosts[i].id.clone()).collect(),
        why: format!(
            "one after another, at most {at_once} of {} at once; each is watched before the next takes its place{begin}",
            count(hosts.len(), "host")
        ),
        gate: policy.gate.clone(),
        soak_seconds: 0,
        after_seconds: 0,
        rolling: true,
        traffic: None,
    };
    let waves = if hosts.is_empty() { Vec::new() } else { vec![wave] };
    with_numbers(waves, hosts.into_iter())
}

/// The two pools of a blue/green policy. `fit`: nothing keeps the whole host out.
pub(super) fn pools_of<'a>(
    policy: &Policy,
    governed: impl Iterator<Item = &'a Host>,
    serving: Option<Pool>,
    fit: impl Fn(&Host) -> bool,
) -> Option<Pools> {
    let Strategy::BlueGreen { capacity_percent, .. } = &policy.strategy else { return None };
    let serving = serving.unwrap_or(Pool::Blue);
    let pool = |pool: Pool| PoolHosts { name: pool.word().to_owned(), hosts: BTreeMap::new() };
    let (mut idle, mut had) = (pool(serving.other()), pool(serving));
    for host in governed {
        let member = PoolHost { name: host.name.clone(), fit: fit(host) };
        match policy.stage_of(host) {
            Some(word) if word == serving.word() => had.hosts.insert(host.id.clone(), member),
            Some(_) => idle.hosts.insert(host.id.clone(), member),
            None => None,
        };
    }
    Some(Pools { idle, serving: had, capacity_percent: *capacity_percent })
}

/// The idle pool, the steps of the traffic, then the pool that had it.
fn pool_by_pool(
    policy: &Policy,
    laid: &Laid,
    serving: Pool,
    idle: Vec<Candidate<'_>>,
    had: Vec<Candidate<'_>>,
    steps: &[u32],
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let (new, old) = (serving.other().word(), serving.word());
    let wave = |pool: &str, hosts: Vec<HostId>, traffic: Option<u32>, why: String| Wave {
        ring: pool.to_owned(),
        hosts,
        why,
        gate: policy.gate.clone(),
        soak_seconds: 0,
        after_seconds: 0,
        rolling: false,
        traffic,
    };
    let in_order = |hosts: &[Candidate<'_>]| -> Vec<HostId> {
        let (order, _) = ahead_then_urgent(hosts, &Tried::new(laid));
        order.into_iter().map(|i| hosts[i].id.clone()).collect()
    };
    let mut waves = Vec::new();
    if !(idle.is_empty() && had.is_empty()) {
        let why = format!("every request goes to {old}, none to {new}");
        waves.push(wave(old, Vec::new(), Some(0), why));
        if !idle.is_empty() {
            let why = format!("{new} is idle: it is patched and proved before it gets a request");
            waves.push(wave(new, in_order(&idle), None, why));
        }
        for &step in steps {
            let why = if step == 100 {
                format!("every request goes to {new}; {old} stays as it is, and is the way back")
            } else {
                format!("{step} % of the requests go to {new}, the others to {old}")
            };
            waves.push(wave(new, Vec::new(), Some(step), why));
        }
        if !had.is_empty() {
            let why = format!("{old} gets no requests any more, and is patched as well");
            waves.push(wave(old, in_order(&had), None, why));
        }
    }
    with_numbers(waves, idle.into_iter().chain(had))
}

/// The hosts' plans, each with the number of its wave.
fn with_numbers<'a>(
    waves: Vec<Wave>,
    hosts: impl Iterator<Item = Candidate<'a>>,
) -> (Vec<Wave>, BTreeMap<HostId, HostPlan>) {
    let numbers: BTreeMap<&HostId, u32> =
        (0u32..).zip(&waves).flat_map(|(n, w)| w.hosts.iter().map(move |id| (id, n))).collect();
    let numbered = hosts.map(|c| {
        let wave = numbers.get(c.id).copied().unwrap_or(0);
        (c.id.clone(), HostPlan { wave, ..c.plan })
    });
    let hosts = numbered.collect();
    (waves, hosts)
}
