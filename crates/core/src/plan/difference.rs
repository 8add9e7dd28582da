//! What one plan does that another does not: the question of whoever has read the one and is shown the other.

use super::{Plan, Work};
use crate::{Digest, HostId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Hosts that are named as examples.
const NAMED: usize = 5;

/// What differs between two plans.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanDiff {
    /// Number of the one.
    pub from: u64,
    /// Number of the other.
    pub to: u64,
    /// Names of their policies, where these are two.
    pub policies: Option<(String, String)>,
    /// Digests of the texts that they were made by, where these are two.
    pub policy_texts: Option<(Digest, Digest)>,
    /// Hosts that only the other one changes.
    pub hosts_in: SomeHosts,
    /// Hosts that only the one changes.
    pub hosts_out: SomeHosts,
    /// Changes that differ on hosts of both, those of most hosts first.
    pub packages: Vec<PackageMove>,
    /// Hosts of both to which the same packages are done by other rules: restarts, reboots, probes, what must be proved.
    pub rules: SomeHosts,
    /// Hosts of both that go in another wave or ring.
    pub waves: Vec<WaveMove>,
    /// How many waves there are, in the one and in the other, where that differs.
    pub wave_counts: Option<(u64, u64)>,
    /// Waves whose gate, soak or kind differs, counted from 0.
    pub wave_rules: Vec<u32>,
    /// Budgets that differ: name, and most hosts that may be disrupted at once, in the one and in the other. `None`: it
    /// has no such budget.
    pub budgets: Vec<(String, Option<u32>, Option<u32>)>,
    /// What neither of these tells: whom budgets count, which hosts are in the pools, what is asked of tests, who comes
    /// first within a wave. In words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub besides: Vec<String>,
    /// Approvals they need, where that differs.
    pub approvals: Option<(u32, u32)>,
    /// What only the other one leaves undone, or for another reason.
    pub held_in: Vec<ReasonMove>,
    /// What only the one leaves undone, or for another reason.
    pub held_out: Vec<ReasonMove>,
}

/// How many hosts, and the first few of them by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SomeHosts {
    /// How many.
    pub count: u64,
    /// The first few.
    pub names: Vec<String>,
}

/// A change that is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageMove {
    /// Binary package.
    pub package: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// What the one plan brings. `None`: it leaves the package alone.
    pub from: Option<Brings>,
    /// What the other brings.
    pub to: Option<Brings>,
    /// Where.
    pub hosts: SomeHosts,
}

/// A version, and which archive it comes in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Brings {
    /// Version that is there before; empty: none.
    pub before: String,
    /// Version that is there afterwards.
    pub version: String,
    /// SHA-256 of the archive.
    pub sha256: Digest,
}

/// Hosts that go in another wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveMove {
    /// Ring and wave (counted from 0) in the one.
    pub from: (String, u32),
    /// And in the other.
    pub to: (String, u32),
    /// Which.
    pub hosts: SomeHosts,
}

/// Something that is left undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonMove {
    /// Which package; empty: the whole host.
    pub package: String,
    /// The chain as programs know it, nearest reason first.
    pub reasons: Vec<String>,
    /// In words, of one of the hosts.
    pub example: String,
    /// Where.
    pub hosts: SomeHosts,
}

impl SomeHosts {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(name.to_owned());
        }
    }
}

impl PlanDiff {
    /// Does nothing differ, but for number, parent and when they were made?
    pub fn is_empty(&self) -> bool {
        *self == Self { from: self.from, to: self.to, ..Self::default() }
    }
}

/// What differs. Pure.
pub fn diff(from: &Plan, to: &Plan) -> PlanDiff {
    let mut out = PlanDiff {
        from: from.number,
        to: to.number,
        policies: differ(&from.policy, &to.policy),
        policy_texts: differ(&from.policy_digest, &to.policy_digest),
        wave_counts: differ(&(from.waves.len() as u64), &(to.waves.len() as u64)),
        approvals: differ(&from.approvals_needed, &to.approvals_needed),
        budgets: budgets(from, to),
        besides: besides(from, to),
        held_in: reasons(to, from),
        held_out: reasons(from, to),
        ..PlanDiff::default()
    };
    for (number, (one, other)) in from.waves.iter().zip(&to.waves).enumerate() {
        let rules = |w: &super::Wave| {
            (w.gate.clone(), w.soak_seconds, w.after_seconds, w.rolling, w.traffic)
        };
        if rules(one) != rules(other) {
            out.wave_rules.push(number as u32);
        }
    }
    for (id, host) in &from.hosts {
        if !to.hosts.contains_key(id) {
            out.hosts_out.add(&host.name);
        }
    }
    let mut pairs = Pairs::default();
    type Place<'p> = (&'p str, u32);
    let mut waves: BTreeMap<(Place<'_>, Place<'_>), SomeHosts> = BTreeMap::new();
    for (id, host) in &to.hosts {
        let Some(before) = from.hosts.get(id) else {
            out.hosts_in.add(&host.name);
            continue;
        };
        if (&before.ring, before.wave) != (&host.ring, host.wave) {
            let key = ((before.ring.as_str(), before.wave), (host.ring.as_str(), host.wave));
            waves.entry(key).or_default().add(&host.name);
        }
        if pairs.add(&before.work, &host.work, &host.name) {
            out.rules.add(&host.name);
        }
    }
    let place = |(ring, wave): (&str, u32)| (ring.to_owned(), wave);
    out.waves = waves
        .into_iter()
        .map(|((from, to), hosts)| WaveMove { from: place(from), to: place(to), hosts })
        .collect();
    out.packages = pairs.into_moves();
    out
}

fn differ<T: PartialEq + Clone>(from: &T, to: &T) -> Option<(T, T)> {
    (from != to).then(|| (from.clone(), to.clone()))
}

/// What hosts of both have to do, pair by pair: most hosts share one with many others.
#[derive(Default)]
struct Pairs<'a> {
    known: BTreeMap<(*const Work, *const Work), Pair<'a>>,
}

struct Pair<'a> {
    moves: Vec<Move<'a>>,
    rules: bool,
    hosts: SomeHosts,
}

/// Package, architecture, and what either plan brings.
type Move<'a> = ((&'a str, &'a str), Option<Brings>, Option<Brings>);

impl<'a> Pairs<'a> {
    /// Says whether only the rules differ.
    fn add(&mut self, from: &'a Arc<Work>, to: &'a Arc<Work>, name: &str) -> bool {
        let key = (Arc::as_ptr(from), Arc::as_ptr(to));
        let pair = self.known.entry(key).or_insert_with(|| {
            let moves = moves(from, to);
            // The deadline of what is fixed is told by the report, and moves with each judgement.
            let rules = moves.is_empty()
                && (&from.order, &from.restarts, from.reboot_likely, from.ignore_windows)
                    != (&to.order, &to.restarts, to.reboot_likely, to.ignore_windows);
            Pair { moves, rules, hosts: SomeHosts::default() }
        });
        pair.hosts.add(name);
        pair.rules
    }

    fn into_moves(self) -> Vec<PackageMove> {
        let mut all: BTreeMap<Move<'a>, SomeHosts> = BTreeMap::new();
        for pair in self.known.into_values() {
            for it in pair.moves {
                let hosts = all.entry(it).or_default();
                hosts.count += pair.hosts.count;
                hosts.names.extend(pair.hosts.names.iter().cloned());
            }
        }
        let line = |(((package, architecture), from, to), mut hosts): (Move<'a>, SomeHosts)| {
            // Pairs come in no order that means anything.
            hosts.names.sort();
            hosts.names.truncate(NAMED);
            let (package, architecture) = (package.to_owned(), architecture.to_owned());
            PackageMove { package, architecture, from, to, hosts }
        };
        let mut out: Vec<PackageMove> = all.into_iter().map(line).collect();
        out.sort_by_key(|it| Reverse(it.hosts.count));
        out
    }
}

fn moves<'a>(from: &'a Work, to: &'a Work) -> Vec<Move<'a>> {
    if from.order.changes == to.order.changes {
        return Vec::new();
    }
    let mut all: BTreeMap<(&str, &str), [Option<Brings>; 2]> = BTreeMap::new();
    for (side, work) in [from, to].into_iter().enumerate() {
        for change in &work.order.changes {
            let key = (change.name.as_str(), change.architecture.as_str());
            all.entry(key).or_default()[side] = Some(Brings {
                before: change.from.clone(),
                version: change.to.clone(),
                sha256: change.sha256,
            });
        }
    }
    let differing = all.into_iter().filter(|(_, [from, to])| from != to);
    differing.map(|(key, [from, to])| (key, from, to)).collect()
}

fn budgets(from: &Plan, to: &Plan) -> Vec<(String, Option<u32>, Option<u32>)> {
    let limit = |plan: &Plan, name: &str| {
        plan.budgets.iter().find(|b| b.name == name).map(|b| b.max_unavailable)
    };
    let names: BTreeSet<&str> =
        from.budgets.iter().chain(&to.budgets).map(|b| b.name.as_str()).collect();
    names
        .into_iter()
        .map(|name| (name.to_owned(), limit(from, name), limit(to, name)))
        .filter(|(_, from, to)| from != to)
        .collect()
}

/// What is told in words: it is seldom, and has many parts.
fn besides(from: &Plan, to: &Plan) -> Vec<String> {
    let mut out = Vec::new();
    for budget in &from.budgets {
        let other = to.budgets.iter().find(|other| other.name == budget.name);
        let members = |hosts: &[HostId]| hosts.iter().cloned().collect::<BTreeSet<_>>();
        let Some(other) = other else { continue };
        let (one, two, name) = (members(&budget.hosts), members(&other.hosts), &budget.name);
        let (comes, goes) = (two.difference(&one).count(), one.difference(&two).count());
        if comes + goes > 0 {
            out.push(format!("budget `{name}` counts {comes} more hosts, and {goes} no longer"));
        }
        if budget.min_healthy != other.min_healthy {
            let well =
                |limit: Option<u32>| limit.map_or("any number".to_owned(), |n| n.to_string());
            let (before, now) = (well(budget.min_healthy), well(other.min_healthy));
            out.push(format!("budget `{name}`: hosts that have to be well: {before} → {now}"));
        }
        if budget.services != other.services {
            let units = |units: &[String]| match units {
                [] => "none".to_owned(),
                units => units.join(", "),
            };
            let (before, now) = (units(&budget.services), units(&other.services));
            out.push(format!("budget `{name}`: units that have to be active: {before} → {now}"));
        }
    }
    if from.pools != to.pools {
        out.push("the pools: which of them is idle, who is in them, or how much they carry".into());
    }
    if from.testbed != to.testbed {
        let asks = |plan: &Plan| match &plan.testbed {
            Some(rule) if rule.required => "each change has to be tested on a twin",
            Some(_) => "changes may be tested on twins",
            None => "no tests are asked for",
        };
        out.push(match (asks(from), asks(to)) {
            (one, other) if one == other => format!("{one}, by other rules"),
            (one, other) => format!("{one} → {other}"),
        });
    }
    for (number, (one, other)) in from.waves.iter().zip(&to.waves).enumerate() {
        let (mine, theirs): (BTreeSet<_>, BTreeSet<_>) =
            (one.hosts.iter().collect(), other.hosts.iter().collect());
        // Who comes into the wave or leaves it is told as such.
        let stays = one.hosts.iter().filter(|id| theirs.contains(id));
        if !stays.eq(other.hosts.iter().filter(|id| mine.contains(id))) {
            out.push(format!("wave {}: its hosts start in another order", number + 1));
        }
    }
    out
}

/// Package, and the kinds of the reasons. When a host was last heard of, or how much space it has, is no other reason.
type Reason<'a> = (&'a str, Vec<&'static str>);

/// Reason → hosts, with what one of them is told.
fn by_reason(plan: &Plan) -> BTreeMap<Reason<'_>, (String, BTreeMap<&HostId, &str>)> {
    let mut out: BTreeMap<Reason<'_>, (String, BTreeMap<&HostId, &str>)> = BTreeMap::new();
    for group in &plan.held {
        for what in &group.what {
            let codes = what.reasons.iter().map(|hold| hold.code()).collect();
            let (example, hosts) = out.entry((what.package.as_str(), codes)).or_default();
            if example.is_empty() {
                let words: Vec<String> = what.reasons.iter().map(ToString::to_string).collect();
                *example = words.join(" ← ");
            }
            hosts.extend(group.hosts.iter().map(|(id, name)| (id, name.as_str())));
        }
    }
    out
}

/// What `of` leaves undone and `other` does not.
fn reasons(of: &Plan, other: &Plan) -> Vec<ReasonMove> {
    let known = by_reason(other);
    let mut out = Vec::new();
    for ((package, codes), (example, on)) in by_reason(of) {
        let there = known.get(&(package, codes.clone())).map(|(_, hosts)| hosts);
        let mut hosts = SomeHosts::default();
        for (_, name) in on.iter().filter(|(id, _)| there.is_none_or(|t| !t.contains_key(*id))) {
            hosts.add(name);
        }
        if hosts.count > 0 {
            let reasons = codes.into_iter().map(str::to_owned).collect();
            out.push(ReasonMove { package: package.to_owned(), reasons, example, hosts });
        }
    }
    out.sort_by_key(|it| Reverse(it.hosts.count));
    out
}
