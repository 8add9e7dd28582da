//! Whom a plan may hurt beyond the packages it changes: who needs them, which hosts stand in for each other, who has too
//! little room, and how long it takes.

use super::{NAMED, ReportInput, RiskHit, by_work};
use crate::plan::space::{needs, short};
use crate::plan::spent::{Expected, expected, work_key};
use crate::plan::{HostPlan, Plan, Wave, Work};
use crate::policy::RiskRule;
use crate::{Digest, HostId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A changed package that others need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededBy {
    /// Binary package.
    pub package: String,
    /// On how many hosts it is changed, of those whose dependencies are known.
    pub hosts: u64,
    /// Installed packages that name it in `Depends` or `Pre-Depends`, on one of these hosts at least: how many.
    pub dependents: u64,
    /// The first few of them.
    pub names: Vec<String>,
    /// Of these, packages with code in use somewhere, where that is known.
    pub in_use: Vec<String>,
}

/// Who needs what, on the hosts of a cohort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Package with an upgrade → who needs it.
    pub dependents: BTreeMap<String, Vec<String>>,
    /// Packages of which some process maps a file.
    pub in_use: BTreeSet<String>,
}

/// Hosts that stand in for each other: those that are for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHit {
    /// What they are for.
    pub role: String,
    /// How many of them there are in the fleet.
    pub members: u64,
    /// Of these, hosts that the plan changes.
    pub hosts: u64,
    /// Most of them that one wave holds.
    pub in_a_wave: u64,
    /// Units that restart on some of them, most hosts first, with how many.
    pub restarts: Vec<(String, u64)>,
    /// Most of them that are changed at once: what their budgets let go, or all that a wave holds.
    pub at_once: u64,
    /// A budget counts each of them that the plan changes.
    pub has_budget: bool,
}

impl GroupHit {
    /// All of them may be disrupted at the same time, and nobody is left to stand in.
    pub fn is_whole(&self) -> bool {
        self.members > 1 && self.at_once >= self.members
    }
}

/// A host that may have too little room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortOfSpace {
    /// Which host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Its wave, counted from 0.
    pub wave: u32,
    /// Mount point of the file system.
    pub mount: String,
    /// What is short: `bytes` or `inodes`.
    pub of: String,
    /// How much there is, rounded down.
    pub free: u64,
    /// How much the change may take.
    pub needs: u64,
}

/// Room on the hosts of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Hosts that may refuse for lack of it.
    pub short: Vec<ShortOfSpace>,
    /// Hosts that do not tell how much they have.
    pub untold: u64,
}

/// Most needed first. `None`: no host of the plan has told.
pub(super) fn needed_by(input: &ReportInput<'_>) -> Option<Vec<NeededBy>> {
    let mut hosts_of: BTreeMap<(Digest, *const Work), (&Arc<Work>, u64)> = BTreeMap::new();
    for host in input.plan.hosts.values() {
        let key = (host.cohort, Arc::as_ptr(&host.work));
        hosts_of.entry(key).or_insert((&host.work, 0)).1 += 1;
    }
    #[derive(Default)]
    struct Found<'a> {
        hosts: u64,
        by: BTreeSet<&'a str>,
        in_use: BTreeSet<&'a str>,
    }
    let mut found: BTreeMap<&str, Found<'_>> = BTreeMap::new();
    let mut told = false;
    for ((cohort, _), (work, hosts)) in &hosts_of {
        let Some(needs) = input.needs.get(cohort) else { continue };
        told = true;
        for change in &work.order.changes {
            let Some(by) = needs.dependents.get(&change.name) else { continue };
            let it = found.entry(&change.name).or_default();
            it.hosts += hosts;
            it.by.extend(by.iter().map(String::as_str));
            let in_use = by.iter().filter(|name| needs.in_use.contains(*name));
            it.in_use.extend(in_use.map(String::as_str));
        }
    }
    let owned = |names: &BTreeSet<&str>| -> Vec<String> {
        names.iter().take(NAMED).map(|name| (*name).to_owned()).collect()
    };
    let line = |(package, it): (&str, Found<'_>)| NeededBy {
        package: package.to_owned(),
        hosts: it.hosts,
        dependents: it.by.len() as u64,
        names: owned(&it.by),
        in_use: owned(&it.in_use),
    };
    let mut out: Vec<NeededBy> = found.into_iter().map(line).collect();
    out.sort_by(|a, b| {
        (Reverse(a.dependents), &a.package).cmp(&(Reverse(b.dependents), &b.package))
    });
    told.then_some(out)
}

/// Most hosts first.
pub(super) fn groups(input: &ReportInput<'_>) -> Vec<GroupHit> {
    let ReportInput { plan, roles, .. } = *input;
    let mut members: BTreeMap<&str, u64> = BTreeMap::new();
    for role in roles.values() {
        *members.entry(role).or_default() += 1;
    }
    let mut changed: BTreeMap<&str, Vec<(&HostId, &HostPlan)>> = BTreeMap::new();
    for (id, host) in &plan.hosts {
        if let Some(role) = roles.get(id) {
            changed.entry(role).or_default().push((id, host));
        }
    }
    let counted: Vec<(u64, BTreeSet<&HostId>)> = plan
        .budgets
        .iter()
        .map(|budget| (u64::from(budget.max_unavailable), budget.hosts.iter().collect()))
        .collect();
    let line = |(role, hosts): (&str, Vec<(&HostId, &HostPlan)>)| {
        let mut waves: BTreeMap<u32, u64> = BTreeMap::new();
        let mut units: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, host) in &hosts {
            *waves.entry(host.wave).or_default() += 1;
            for unit in &host.restarts {
                *units.entry(unit).or_default() += 1;
            }
        }
        let in_a_wave = waves.values().copied().max().unwrap_or(0);
        let covers = |of: &BTreeSet<&HostId>| hosts.iter().all(|(id, _)| of.contains(id));
        let limits = counted.iter().filter(|(_, of)| covers(of)).map(|(limit, _)| *limit);
        let limit = limits.min();
        let mut restarts: Vec<(String, u64)> =
            units.into_iter().map(|(unit, hosts)| (unit.to_owned(), hosts)).collect();
        restarts.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
        GroupHit {
            role: role.to_owned(),
            members: members.get(role).copied().unwrap_or(0),
            hosts: hosts.len() as u64,
            in_a_wave,
            restarts,
            at_once: limit.map_or(in_a_wave, |limit| limit.min(in_a_wave)),
            has_budget: limit.is_some(),
        }
    };
    let mut out: Vec<GroupHit> = changed.into_iter().map(line).collect();
    out.sort_by(|a, b| (Reverse(a.hosts), &a.role).cmp(&(Reverse(b.hosts), &b.role)));
    out
}

/// Which of the policy's rules about packages the plan keeps to, and for whose sake.
pub(super) fn risks(input: &ReportInput<'_>) -> Vec<RiskHit> {
    let rules = input.policy.map_or(&[][..], |policy| &policy.risks);
    let hit = |rule: &RiskRule| {
        let (mut packages, mut hosts) = (BTreeSet::new(), 0);
        for (work, of) in input.plan.works() {
            let names = work.order.changes.iter().map(|change| change.name.as_str());
            let here: BTreeSet<&str> = names.filter(|name| rule.is_about(name)).collect();
            if !here.is_empty() {
                hosts += u64::from(of);
                packages.extend(here.into_iter().map(str::to_owned));
            }
        }
        RiskHit { name: rule.name.clone(), asks: rule.to_string(), packages, hosts }
    };
    rules.iter().map(hit).filter(|hit| hit.hosts > 0).collect()
}

/// By wave.
pub(super) fn space(input: &ReportInput<'_>) -> Space {
    let mut known: BTreeMap<*const Work, _> = BTreeMap::new();
    let mut out = Space::default();
    for (id, host) in &input.plan.hosts {
        let Some(filesystems) = input.filesystems.get(id).filter(|all| !all.is_empty()) else {
            out.untold += 1;
            continue;
        };
        let needs =
            known.entry(Arc::as_ptr(&host.work)).or_insert_with(|| needs(&host.order.changes));
        if let Some(it) = short(needs, filesystems) {
            out.short.push(ShortOfSpace {
                host: id.clone(),
                name: host.name.clone(),
                wave: host.wave,
                mount: it.mount.to_owned(),
                of: it.of.to_owned(),
                free: it.free,
                needs: it.needs,
            });
        }
    }
    out.short.sort_by_key(|it| it.wave);
    out
}

/// How long a host of each wave may take: the one that takes longest. `None`: nothing was changed yet.
pub(super) fn durations(input: &ReportInput<'_>) -> Vec<Option<Expected>> {
    let mut out: Vec<Option<Expected>> = vec![None; input.plan.waves.len()];
    if input.spent.is_empty() {
        return out;
    }
    for (work, waves) in by_work(input.plan) {
        let changes = &work.order.changes;
        let it = expected(input.spent, changes.len() as u64, work_key(changes));
        for wave in waves.keys() {
            let Some(known) = out.get_mut(*wave as usize) else { continue };
            *known = [*known, it].into_iter().flatten().max_by_key(|it| it.long_seconds);
        }
    }
    out
}

/// How long a wave may be at work, its bake not counted: its hosts go together as far as budgets let them, and in a
/// rolling wave each is watched before the next takes its place.
pub(super) fn lasts(plan: &Plan, wave: &Wave, takes: Expected) -> u64 {
    let hosts: BTreeSet<&HostId> = wave.hosts.iter().collect();
    let rounds = plan.budgets.iter().map(|budget| {
        let counted = budget.hosts.iter().filter(|id| hosts.contains(id)).count() as u64;
        counted.div_ceil(u64::from(budget.max_unavailable).max(1))
    });
    let rounds = rounds.max().unwrap_or(1).max(1);
    let watched = if wave.rolling { wave.gate.bake_seconds } else { 0 };
    takes.usual_seconds.saturating_add(watched).saturating_mul(rounds)
}
