//! What somebody wants to know of a plan before they approve it: what it fixes, whom it may hurt and when, who tries it
//! first and for whom, and why the rest is left. By cohort, so that it can be read whatever the fleet's size.

use super::spent::{Expected, Spent};
use super::{HostPlan, NotDone, Plan, Wave, Work};
use crate::inventory::Filesystem;
use crate::policy::Policy;
use crate::{Digest, HostId, Timestamp, later};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod reach;

pub use reach::{GroupHit, NeededBy, Needs, ShortOfSpace, Space};

/// Hosts that are named as examples.
const NAMED: usize = 5;

/// Everything a report is a function of.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The policy by whose text it was made: whose windows count. `None`: it is not kept any more.
    pub policy: Option<&'a Policy>,
    /// What each host is for, where a label says so.
    pub roles: &'a BTreeMap<HostId, String>,
    /// Cohort → who needs what there, where a host of it has told.
    pub needs: &'a BTreeMap<Digest, Needs>,
    /// Room that each host has, where it has told.
    pub filesystems: &'a BTreeMap<HostId, Vec<Filesystem>>,
    /// Earlier changes that ended well.
    pub spent: &'a [Spent],
    /// Now: no wave begins earlier.
    pub now: Timestamp,
}

/// A plan, as it is put before those who approve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// As of when.
    pub at: Timestamp,
    /// What it fixes, on most hosts first.
    pub fixes: Vec<Fixed>,
    /// What becomes of what is owed.
    pub deadlines: Deadlines,
    /// Units that are likely to restart, on most hosts first.
    pub restarts: Vec<Restarted>,
    /// Hosts that are likely to reboot.
    pub reboots: u64,
    /// Of these, in the wave that has most of them.
    pub reboots_at_once: u64,
    /// Packages that ask for more care than others, by the policy's rules.
    #[serde(default)]
    pub risks: Vec<RiskHit>,
    /// Groups of hosts that stand in for each other, and what they lose.
    pub budgets: Vec<BudgetHit>,
    /// Hosts that are for the same, and what they lose.
    #[serde(default)]
    pub groups: Vec<GroupHit>,
    /// Which other packages need what is changed, most needed first. `None`: no host has told.
    #[serde(default)]
    pub needed_by: Option<Vec<NeededBy>>,
    /// Room on the hosts.
    #[serde(default)]
    pub space: Space,
    /// When each wave may begin, and what it is good for.
    pub waves: Vec<WaveLine>,
    /// The cohorts, largest first.
    pub cohorts: Vec<CohortLine>,
    /// What is left undone, by reason; on most hosts first.
    pub held: Vec<HeldLine>,
    /// What nobody can say from here, and who finds it out.
    pub unknown: Vec<String>,
}

/// A vulnerability that is fixed somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// `CVE-2024-5535`.
    pub finding: String,
    /// On how many hosts.
    pub hosts: u64,
    /// By which packages.
    pub packages: BTreeSet<String>,
}

/// Hosts by the deadline of the most urgent finding that is fixed there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// In time, if their wave begins as early as it may.
    pub kept: u64,
    /// Owed before their wave may begin.
    pub missed: u64,
    /// Late already.
    pub late: u64,
    /// Nothing is owed by a date.
    pub without: u64,
    /// The first one that can be kept.
    pub first: Option<Timestamp>,
}

/// A unit that is likely to restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// `nginx.service`.
    pub unit: String,
    /// On how many hosts.
    pub hosts: u64,
    /// Of these, in the wave that has most of them.
    pub at_once: u64,
}

/// A rule about packages that the plan changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskHit {
    /// What people call it.
    pub name: String,
    /// What it asks for: `bake = 24h, approvals = 2`.
    pub asks: String,
    /// The changed packages that it is about.
    pub packages: BTreeSet<String>,
    /// Hosts that get one of them.
    pub hosts: u64,
}

/// What a budget's hosts lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetHit {
    /// What people call it.
    pub name: String,
    /// Hosts that it counts.
    pub members: u64,
    /// Of these, hosts that the plan changes.
    pub hosts: u64,
    /// Most of them that may be disrupted at once, by this plan and everything else.
    pub limit: u64,
    /// Most of them that one wave holds.
    pub in_a_wave: u64,
}

/// A wave on the timetable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveLine {
    /// Its ring.
    pub ring: String,
    /// How many hosts.
    pub hosts: u64,
    /// Why these.
    pub why: String,
    /// What they are for, with how many of them.
    pub roles: BTreeMap<String, u64>,
    /// When it may begin at the earliest: bakes, soaks and windows before it counted, the changes themselves not. `None`:
    /// no window opens within a year.
    pub earliest: Option<Timestamp>,
    /// Cohorts in it.
    pub cohorts: u64,
    /// Of these, cohorts that some wave before it has tried.
    pub tried_cohorts: u64,
    /// Hosts of those cohorts.
    pub tried_hosts: u64,
    /// Changes (package, from, to) in it that no wave before it has tried.
    pub new_changes: u64,
    /// Hosts that get one of these.
    pub new_hosts: u64,
    /// How long its slowest kind of host may take. `None`: nothing was changed yet.
    #[serde(default)]
    pub takes: Option<Expected>,
    /// How long it may be at work, bake and soak not counted, in seconds.
    #[serde(default)]
    pub lasts_seconds: Option<u64>,
}

/// Hosts with the same packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortLine {
    /// Which cohort.
    pub cohort: Digest,
    /// Its hosts in the plan.
    pub hosts: u64,
    /// What they are for, with how many of them.
    pub roles: BTreeMap<String, u64>,
    /// Packages that are changed on one of them, at most.
    pub changes: u64,
    /// Vulnerabilities that are proved gone from one of them, at most.
    pub fixes: u64,
    /// Likely to reboot.
    pub reboots: u64,
    /// The wave that tries it first, counted from 0.
    pub first_wave: u32,
    /// Who is in that wave: the first few.
    pub tried_on: Vec<String>,
    /// The last wave that has one of them.
    pub last_wave: u32,
    /// The first deadline.
    pub due: Option<Timestamp>,
}

/// What is left undone for one kind of reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLine {
    /// The chain as programs know it, nearest reason first: `kept-in-step`, `package-held`.
    pub reasons: Vec<String>,
    /// One of these chains, in words.
    pub example: String,
    /// On how many hosts.
    pub hosts: u64,
    /// How many packages it is about; 0: whole hosts.
    pub packages: u64,
    /// How many vulnerabilities stay open.
    pub findings: u64,
    /// The first few hosts.
    pub names: Vec<String>,
}

/// Puts a plan into a report. Pure.
pub fn report(input: ReportInput<'_>) -> PlanReport {
    let ReportInput { plan, now, .. } = input;
    let waves = timetable(&input);
    let starts: Vec<Option<Timestamp>> = waves.iter().map(|wave| wave.earliest).collect();
    let (restarts, reboots_at_once) = restarts(plan);
    let (needed_by, space) = (reach::needed_by(&input), reach::space(&input));
    let mut unknown = Vec::new();
    if needed_by.is_none() {
        unknown.push("which packages need those that change: no host has told".to_owned());
    }
    unknown.push("which host calls which: no inventory tells".to_owned());
    if space.untold > 0 {
        unknown.push(format!(
            "room on {} of the hosts, which have not told: each looks before it changes anything",
            space.untold
        ));
    }
    if input.spent.is_empty() {
        unknown.push("how long the changes take: nothing was changed yet".to_owned());
    }
    PlanReport {
        at: now,
        fixes: fixes(plan),
        deadlines: deadlines(plan, &starts, now),
        restarts,
        reboots: plan.hosts.values().filter(|h| h.reboot_likely).count() as u64,
        reboots_at_once,
        risks: reach::risks(&input),
        budgets: budgets(plan),
        groups: reach::groups(&input),
        needed_by,
        space,
        waves,
        cohorts: cohorts(&input),
        held: held(plan),
        unknown,
    }
}

fn fixes(plan: &Plan) -> Vec<Fixed> {
    let mut found: BTreeMap<&str, (u64, BTreeSet<&str>)> = BTreeMap::new();
    for (work, hosts) in plan.works() {
        let mut here: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (package, ids) in &work.why {
            for id in ids {
                here.entry(id).or_default().insert(package);
            }
        }
        for (id, packages) in here {
            let (on, by) = found.entry(id).or_default();
            *on += u64::from(hosts);
            by.extend(packages);
        }
    }
    let fixed = |(finding, (hosts, packages)): (&str, (u64, BTreeSet<&str>))| Fixed {
        finding: finding.to_owned(),
        hosts,
        packages: packages.into_iter().map(str::to_owned).collect(),
    };
    let mut out: Vec<Fixed> = found.into_iter().map(fixed).collect();
    out.sort_by(|a, b| (Reverse(a.hosts), &a.finding).cmp(&(Reverse(b.hosts), &b.finding)));
    out
}

fn deadlines(plan: &Plan, starts: &[Option<Timestamp>], now: Timestamp) -> Deadlines {
    let mut out = Deadlines::default();
    for host in plan.hosts.values() {
        let start = starts.get(host.wave as usize).copied().flatten();
        match host.due {
            None => out.without += 1,
            Some(due) if due <= now => out.late += 1,
            Some(due) if start.is_none_or(|start| due <= start) => out.missed += 1,
            Some(due) => {
                out.kept += 1;
                out.first = out.first.into_iter().chain([due]).min();
            }
        }
    }
    out
}

/// Work → wave → hosts.
fn by_work(plan: &Plan) -> Vec<(&Arc<Work>, BTreeMap<u32, u64>)> {
    let mut places: BTreeMap<*const Work, usize> = BTreeMap::new();
    let mut out: Vec<(&Arc<Work>, BTreeMap<u32, u64>)> = Vec::new();
    for host in plan.hosts.values() {
        let place = *places.entry(Arc::as_ptr(&host.work)).or_insert(out.len());
        if place == out.len() {
            out.push((&host.work, BTreeMap::new()));
        }
        *out[place].1.entry(host.wave).or_default() += 1;
    }
    out
}

fn restarts(plan: &Plan) -> (Vec<Restarted>, u64) {
    let mut units: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut reboots: BTreeMap<u32, u64> = BTreeMap::new();
    for (work, waves) in by_work(plan) {
        for (&wave, &hosts) in &waves {
            for unit in &work.restarts {
                *units.entry(unit).or_default().entry(wave).or_default() += hosts;
            }
            if work.reboot_likely {
                *reboots.entry(wave).or_default() += hosts;
            }
        }
    }
    let most = |waves: &BTreeMap<u32, u64>| waves.values().copied().max().unwrap_or(0);
    let line = |(unit, waves): (&str, BTreeMap<u32, u64>)| Restarted {
        unit: unit.to_owned(),
        hosts: waves.values().sum(),
        at_once: most(&waves),
    };
    let mut out: Vec<Restarted> = units.into_iter().map(line).collect();
    out.sort_by(|a, b| (Reverse(a.hosts), &a.unit).cmp(&(Reverse(b.hosts), &b.unit)));
    (out, most(&reboots))
}

fn budgets(plan: &Plan) -> Vec<BudgetHit> {
    let hit = |budget: &super::Budget| {
        let mut waves: BTreeMap<u32, u64> = BTreeMap::new();
        for host in budget.hosts.iter().filter_map(|id| plan.hosts.get(id)) {
            *waves.entry(host.wave).or_default() += 1;
        }
        BudgetHit {
            name: budget.name.clone(),
            members: budget.hosts.len() as u64,
            hosts: waves.values().sum(),
            limit: u64::from(budget.max_unavailable),
            in_a_wave: waves.values().copied().max().unwrap_or(0),
        }
    };
    plan.budgets.iter().map(hit).collect()
}

/// What a change is tried as: package and version on either side.
type Change<'a> = (&'a str, &'a str, &'a str);

fn timetable(input: &ReportInput<'_>) -> Vec<WaveLine> {
    let ReportInput { plan, policy, roles, now, .. } = *input;
    let durations = reach::durations(input);
    let mut cohorts: BTreeSet<Digest> = BTreeSet::new();
    let mut changes: BTreeSet<Change<'_>> = BTreeSet::new();
    let mut known: BTreeSet<*const Work> = BTreeSet::new();
    let mut begin = Some(now);
    let mut out = Vec::new();
    for (wave, takes) in plan.waves.iter().zip(durations) {
        let hosts: Vec<&HostPlan> = wave.hosts.iter().filter_map(|id| plan.hosts.get(id)).collect();
        let opens = |at: Timestamp| {
            let all_urgent = !hosts.is_empty() && hosts.iter().all(|h| h.ignore_windows);
            match policy {
                // A step of the traffic waits for no window.
                Some(policy) if wave.traffic.is_none() => policy.next_opening_for(at, all_urgent),
                _ => Some(at),
            }
        };
        let begin_of_ring = later(now, wave.after_seconds);
        let earliest = begin.map(|at| at.max(begin_of_ring)).and_then(opens);
        let mut here: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut works: BTreeMap<*const Work, (&Work, u64)> = BTreeMap::new();
        for host in &hosts {
            *here.entry(host.cohort).or_default() += 1;
            let work = &*host.work;
            works.entry(Arc::as_ptr(&host.work)).or_insert((work, 0)).1 += 1;
        }
        let tried = here.iter().filter(|(cohort, _)| cohorts.contains(*cohort));
        let (tried_cohorts, tried_hosts) =
            tried.fold((0, 0), |(n, all), (_, hosts)| (n + 1, all + hosts));
        let mut new: BTreeSet<Change<'_>> = BTreeSet::new();
        let mut new_hosts = 0;
        for (place, (work, hosts)) in &works {
            if known.contains(place) {
                continue;
            }
            let of = work.order.changes.iter();
            let of = of.map(|c| (c.name.as_str(), c.from.as_str(), c.to.as_str()));
            let untried: Vec<Change<'_>> = of.filter(|change| !changes.contains(change)).collect();
            new_hosts += if untried.is_empty() { 0 } else { *hosts };
            new.extend(untried);
        }
        out.push(WaveLine {
            ring: wave.ring.clone(),
            hosts: hosts.len() as u64,
            why: wave.why.clone(),
            roles: counted(wave.hosts.iter(), roles),
            earliest,
            cohorts: here.len() as u64,
            tried_cohorts,
            tried_hosts,
            new_changes: new.len() as u64,
            new_hosts,
            takes,
            lasts_seconds: takes.map(|takes| reach::lasts(plan, wave, takes)),
        });
        cohorts.extend(here.into_keys());
        known.extend(works.into_keys());
        changes.extend(new);
        begin = earliest.and_then(|at| after(wave, at));
    }
    out
}

/// When the next wave may begin, where this one begins and ends then.
fn after(wave: &Wave, at: Timestamp) -> Option<Timestamp> {
    let seconds = wave.gate.bake_seconds.saturating_add(wave.soak_seconds);
    let rest = jiff::SignedDuration::from_secs(i64::try_from(seconds).ok()?);
    at.checked_add(rest).ok()
}

/// Roles, with how many of the hosts have each.
fn counted<'a>(
    hosts: impl Iterator<Item = &'a HostId>,
    roles: &BTreeMap<HostId, String>,
) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for role in hosts.filter_map(|id| roles.get(id)) {
        *out.entry(role.clone()).or_default() += 1;
    }
    out
}

fn cohorts(input: &ReportInput<'_>) -> Vec<CohortLine> {
    let ReportInput { plan, roles, .. } = *input;
    let mut members: BTreeMap<Digest, Vec<(&HostId, &HostPlan)>> = BTreeMap::new();
    for (id, host) in &plan.hosts {
        members.entry(host.cohort).or_default().push((id, host));
    }
    let line = |(cohort, hosts): (Digest, Vec<(&HostId, &HostPlan)>)| {
        let plans = || hosts.iter().map(|(_, host)| *host);
        let first_wave = plans().map(|h| h.wave).min().unwrap_or(0);
        let tried_on = plans().filter(|h| h.wave == first_wave).take(NAMED);
        CohortLine {
            cohort,
            hosts: hosts.len() as u64,
            roles: counted(hosts.iter().map(|(id, _)| *id), roles),
            changes: plans().map(|h| h.order.changes.len()).max().unwrap_or(0) as u64,
            fixes: plans().map(|h| h.order.fixes.len()).max().unwrap_or(0) as u64,
            reboots: plans().filter(|h| h.reboot_likely).count() as u64,
            first_wave,
            tried_on: tried_on.map(|h| h.name.clone()).collect(),
            last_wave: plans().map(|h| h.wave).max().unwrap_or(0),
            due: plans().filter_map(|h| h.due).min(),
        }
    };
    let mut out: Vec<CohortLine> = members.into_iter().map(line).collect();
    out.sort_by_key(|line| (Reverse(line.hosts), line.cohort));
    out
}

/// What is left undone for reasons of the same kinds.
#[derive(Default)]
struct Kept<'a> {
    example: Option<&'a NotDone>,
    hosts: BTreeMap<&'a HostId, &'a str>,
    packages: BTreeSet<&'a str>,
    findings: BTreeSet<&'a str>,
}

fn held(plan: &Plan) -> Vec<HeldLine> {
    let mut kinds: BTreeMap<Vec<&'static str>, Kept<'_>> = BTreeMap::new();
    for group in &plan.held {
        let mut here: BTreeSet<Vec<&'static str>> = BTreeSet::new();
        for what in &group.what {
            let codes: Vec<&'static str> = what.reasons.iter().map(|hold| hold.code()).collect();
            let kept = kinds.entry(codes.clone()).or_default();
            kept.example.get_or_insert(what);
            kept.findings.extend(what.findings.iter().map(String::as_str));
            if !what.package.is_empty() {
                kept.packages.insert(&what.package);
            }
            if here.insert(codes) {
                kept.hosts.extend(group.hosts.iter().map(|(id, name)| (id, name.as_str())));
            }
        }
    }
    let line = |(codes, kept): (Vec<&'static str>, Kept<'_>)| {
        let words = kept.example.map(|what| what.reasons.iter().map(ToString::to_string));
        HeldLine {
            reasons: codes.into_iter().map(str::to_owned).collect(),
            example: words.map(|all| all.collect::<Vec<_>>().join(" ← ")).unwrap_or_default(),
            hosts: kept.hosts.len() as u64,
            packages: kept.packages.len() as u64,
            findings: kept.findings.len() as u64,
            names: kept.hosts.values().take(NAMED).map(|name| (*name).to_owned()).collect(),
        }
    };
    let mut out: Vec<HeldLine> = kinds.into_iter().map(line).collect();
    out.sort_by(|a, b| (Reverse(a.hosts), &a.reasons).cmp(&(Reverse(b.hosts), &b.reasons)));
    out
}
