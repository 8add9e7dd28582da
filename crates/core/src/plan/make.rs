//! From fleet, exposure, policy and now to a plan. Pure: equal input gives an equal plan, whatever the order of
//! hosts and findings in it.

use super::alike::Works;
use super::host::{Exempt, Unwanted, Verdict, decide, wish_of};
use super::order::{Candidate, Laid, lot};
use super::parts::Parts;
use super::strategy::{budget_of, lay_out, pools_of};
use super::{Budget, HeldHosts, HostPlan, NotDone, Plan, SCHEMA, Work};
use crate::finding::Finding;
use crate::host::Host;
use crate::inventory::{Inventory, Upgrade};
use crate::policy::{BudgetRule, Policy, Pool, Strategy, choose};
use crate::recall::Recall;
use crate::{Digest, Hold, HostId, RolloutId, Shared, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

/// A version that is not given to hosts of a cohort: it was undone on one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Barred {
    /// Binary package.
    pub package: String,
    /// The version.
    pub version: String,
    /// For which hosts.
    pub cohort: Digest,
    /// Why.
    pub reason: String,
}

/// Everything a plan is a function of.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The plan's number.
    pub number: u64,
    /// Digest of the plan that is current now.
    pub parent: Option<Digest>,
    /// The policy to carry out.
    pub policy: &'a Policy,
    /// All policies in force, to see which of them governs a host. Empty: `policy` is the only one.
    pub policies: &'a [Policy],
    /// The whole fleet: budgets count hosts of every policy.
    pub fleet: &'a [Host],
    /// Plan for these hosts only. `None`: all that the policy governs.
    pub only: Option<&'a BTreeSet<HostId>>,
    /// What each host is exposed to, with class and deadline filled in ([`Policy::rate`]). Hosts that are alike may
    /// share a list: [`Finding::host`] is not looked at.
    pub findings: &'a BTreeMap<HostId, Arc<[Shared<Finding>]>>,
    /// Versions not to be given.
    pub barred: &'a [Barred],
    /// Versions that nobody is to get.
    pub recalls: &'a [Recall],
    /// Hosts on which a rollout is at work.
    pub busy: &'a BTreeMap<HostId, RolloutId>,
    /// Blue/green: the pool that has the requests now. `None`: nobody has told yet; blue is taken for it.
    pub serving: Option<Pool>,
    /// A host that has not spoken for longer is silent, in seconds.
    pub silent_after_seconds: u64,
    /// Now.
    pub now: Timestamp,
    /// Breaks ties among hosts that are equally good.
    pub seed: u64,
}

/// Makes the plan.
///
/// Hosts that the policy does not govern are not in it, unless `only` asks for them: then they are held, with the
/// reason. Whatever is owed and not done is in [`Plan::held()`].
pub fn make(input: PlanInput<'_>) -> Plan {
    let PlanInput { policy, now, seed, .. } = input;
    let mut fleet: Vec<&Host> = input.fleet.iter().collect();
    fleet.sort_by(|a, b| a.id.cmp(&b.id));
    fleet.dedup_by(|a, b| a.id == b.id);
    let mut kinds = Kinds::new(&input);
    let mut report = Report::default();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut candidates: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    let mut governed: Vec<&Host> = Vec::with_capacity(fleet.len());
    // Both are sorted by id: they are gone through side by side.
    let mut known = input.findings.iter().peekable();
    let mut fit: Vec<Fit<'_>> = Vec::with_capacity(fleet.len());
    for &host in &fleet {
        while known.next_if(|(id, _)| **id < host.id).is_some() {}
        let findings = known.next_if(|(id, _)| **id == host.id).map(|(_, findings)| findings);
        let asked = input.only.is_none_or(|only| only.contains(&host.id));
        let is_ours = governs(&input, host);
        let stage = policy.stage_of(host);
        if is_ours.is_ok() {
            governed.push(host);
            // The size of a wave is a share of the ring, not of those who happen to need something.
            if let Some(stage) = stage {
                *sizes.entry(stage).or_default() += 1;
            }
        }
        if !asked {
            continue;
        }
        if let Err(hold) = is_ours {
            if input.only.is_some() || matches!(hold, Hold::PolicyAmbiguous { .. }) {
                report.add(host, [NotDone::whole(Vec::new(), vec![hold])]);
            }
            continue;
        }
        let reasons = holds(&input, host, stage);
        let (Some(inventory), Some(stage), true) = (&host.inventory, stage, reasons.is_empty())
        else {
            let owed = findings.into_iter().flat_map(|all| all.iter());
            let open = owed.filter(|f| f.state.is_owed()).map(|f| f.id.clone());
            let open = open.collect::<BTreeSet<_>>().into_iter().collect();
            report.add(host, [NotDone::whole(open, reasons)]);
            continue;
        };
        let kind = kinds.of(inventory, findings, Exempt::of(policy, host));
        let role = host.labels.get(ROLE).map(|role| kinds.role(role));
        fit.push(Fit { host, stage, kind, role });
    }
    kinds.decide(now, &mut report);
    let mut soak_cap: Option<u64> = None;
    for Fit { host, stage, kind: number, role } in fit {
        let kind = &kinds.list[number];
        soak_cap = soak_cap.into_iter().chain(kind.soak_cap).min();
        if !kind.work.order.changes.is_empty() {
            let plan = HostPlan {
                name: host.name.clone(),
                cohort: kind.cohort,
                ring: stage.to_owned(),
                wave: 0,
                work: kind.work.clone(),
            };
            let candidate =
                Candidate { id: &host.id, plan, kind: number, role, lot: lot(seed, &host.id) };
            let room = || Vec::with_capacity(sizes.get(stage).copied().unwrap_or(0));
            candidates.entry(stage).or_insert_with(room).push(candidate);
        }
        report.add_to(kind.group, host);
    }
    let careful = with_care(policy, candidates.values().flatten());
    let policy = careful.as_ref();
    let laid = kinds.laid();
    let (waves, hosts) = lay_out(policy, &laid, candidates, &sizes, soak_cap, input.serving);
    // What has no agent is never taken out of service from here: it is no part of what a budget is a share of.
    let has_agent = |host: &&Host| host.listed.is_none();
    let served: Vec<&Host> = fleet.iter().copied().filter(has_agent).collect();
    let mut budgets = budgets(policy, &served);
    budgets.extend(budget_of(policy, governed.iter().copied().filter(has_agent)));
    budgets.extend(budgets_of_others(&input, &served, &hosts));
    let fit = |host: &Host| holds(&input, host, policy.stage_of(host)).is_empty();
    let pools = pools_of(policy, governed.into_iter(), input.serving, fit);
    let pools = pools.filter(|_| !waves.is_empty());
    Plan {
        schema: SCHEMA,
        number: input.number,
        parent: input.parent,
        policy: policy.name.clone(),
        policy_digest: policy.digest,
        made_at: now,
        seed,
        hosts,
        waves,
        budgets,
        pools,
        testbed: policy.testbed.clone(),
        approvals_needed: policy.approvals,
        held: report.held(),
    }
}

/// The policy with the care that the packages ask for which somebody gets.
fn with_care<'p, 'c>(
    policy: &'p Policy,
    candidates: impl Iterator<Item = &'c Candidate<'c>>,
) -> Cow<'p, Policy> {
    if policy.risks.is_empty() {
        return Cow::Borrowed(policy);
    }
    // By where it is kept: only ever asked for.
    let mut known: BTreeSet<*const Work> = BTreeSet::new();
    let mut changed: BTreeSet<&str> = BTreeSet::new();
    for work in candidates.map(|candidate| &candidate.plan.work) {
        if known.insert(Arc::as_ptr(work)) {
            changed.extend(work.order.changes.iter().map(|change| change.name.as_str()));
        }
    }
    policy.with_care(changed.iter().copied())
}

/// A host that nothing keeps out as a whole.
struct Fit<'a> {
    host: &'a Host,
    stage: &'a str,
    kind: usize,
    role: Option<usize>,
}

/// What hosts of a kind have in common: what is decided about.
struct Alike<'a> {
    inventory: &'a Inventory,
    exempt: Exempt,
    findings: Option<&'a Arc<[Shared<Finding>]>>,
}

/// What is decided about hosts with the very same inventory and findings, once for all of them.
struct Kind {
    cohort: Digest,
    /// Without changes: nothing happens.
    work: Arc<Work>,
    soak_cap: Option<u64>,
    /// In the report: the group of hosts on which the same is not done.
    group: usize,
    /// Numbers of what it changes, as its risk is known: package and version on either side.
    changes: Arc<[usize]>,
    /// Numbers of the services that it offers.
    duties: Arc<[usize]>,
}

/// Fewer kinds are decided about one after another.
const WORTH_THREADS: usize = 64;
/// Else in so many parts at once.
const THREADS: usize = 4;

/// The label that says what a host is for.
pub const ROLE: &str = "role";

struct Kinds<'a> {
    policy: &'a Policy,
    recalls: &'a [Recall],
    barred: BTreeMap<Digest, Vec<&'a Barred>>,
    /// By number.
    alike: Vec<Alike<'a>>,
    /// The same, once it is decided about.
    list: Vec<Kind>,
    /// By where inventory and findings are kept: only ever asked for, never gone through. What is alike and kept
    /// twice is decided about twice, and comes out the same.
    known: BTreeMap<(*const Inventory, *const Shared<Finding>, Exempt), usize>,
    works: Works,
    changes: BTreeMap<(&'a str, &'a str, &'a str), usize>,
    duties: BTreeMap<Duty<'a>, usize>,
}

impl<'a> Kinds<'a> {
    fn new(input: &PlanInput<'a>) -> Self {
        let mut barred: BTreeMap<Digest, Vec<&Barred>> = BTreeMap::new();
        for bar in input.barred {
            barred.entry(bar.cohort).or_default().push(bar);
        }
        Self {
            policy: input.policy,
            recalls: input.recalls,
            barred,
            alike: Vec::new(),
            list: Vec::new(),
            known: BTreeMap::new(),
            works: Works::default(),
            changes: BTreeMap::new(),
            duties: BTreeMap::new(),
        }
    }

    /// The number of a role.
    fn role(&mut self, role: &'a str) -> usize {
        let next = self.duties.len();
        *self.duties.entry(Duty::Role(role)).or_insert(next)
    }

    /// The number of a change.
    fn change(&mut self, upgrade: &'a Upgrade) -> usize {
        let Upgrade { name, from, to, .. } = upgrade;
        let next = self.changes.len();
        *self.changes.entry((name, from, to)).or_insert(next)
    }

    /// The numbers of the services that wait for peers on hosts of this kind.
    fn services(&mut self, inventory: &'a Inventory) -> Arc<[usize]> {
        let units = inventory.listeners.iter().map(|listener| listener.unit.as_str());
        let units: BTreeSet<&str> = units.filter(|unit| !unit.is_empty()).collect();
        let duties = &mut self.duties;
        let number = |unit| {
            let next = duties.len();
            *duties.entry(Duty::Service(unit)).or_insert(next)
        };
        units.into_iter().map(number).collect()
    }

    /// The number of the host's kind.
    fn of(
        &mut self,
        inventory: &'a Arc<Inventory>,
        findings: Option<&'a Arc<[Shared<Finding>]>>,
        exempt: Exempt,
    ) -> usize {
        let place = findings.map_or(std::ptr::null(), |all| all.as_ptr());
        let key = (Arc::as_ptr(inventory), place, exempt);
        // Where nothing is found, the place is nobody's own.
        let has_some = findings.is_some_and(|all| !all.is_empty());
        let key = if has_some { key } else { (key.0, std::ptr::null(), exempt) };
        let next = self.alike.len();
        let number = *self.known.entry(key).or_insert(next);
        if number == next {
            self.alike.push(Alike { inventory, exempt, findings });
        }
        number
    }

    /// Decides about every kind. Each is decided about by itself, so several are at once.
    fn decide(&mut self, now: Timestamp, report: &mut Report<'_>) {
        let (policy, recalls, barred) = (self.policy, self.recalls, &self.barred);
        let one = |alike: &Alike<'a>, cohort: Digest, parts: &mut Parts<'a>| {
            let barred = barred.get(&cohort).map_or(&[][..], Vec::as_slice);
            let unwanted = Unwanted { barred, recalls };
            let (findings, wish) = (sorted(alike.findings), wish_of(policy));
            let of = (alike.inventory, alike.exempt);
            (cohort, decide(policy, of, &findings, unwanted, now, &wish, parts))
        };
        // With the upgrades by the numbers that the verdicts have for them.
        let all = |some: &[Alike<'a>]| -> (Vec<(Digest, Verdict)>, Vec<&'a Upgrade>) {
            let mut parts = Parts::default();
            // By where the inventory is kept: only ever asked for. Many kinds differ in their findings alone.
            let mut cohorts: BTreeMap<*const Inventory, Digest> = BTreeMap::new();
            let mut decided = |alike: &Alike<'a>| {
                let cohort = cohorts.entry(std::ptr::from_ref(alike.inventory));
                let cohort = *cohort.or_insert_with(|| alike.inventory.cohort());
                one(alike, cohort, &mut parts)
            };
            let verdicts = some.iter().map(&mut decided).collect();
            (verdicts, parts.upgrades().collect())
        };
        let decided: Vec<_> = if self.alike.len() < WORTH_THREADS {
            vec![all(&self.alike)]
        } else {
            let (size, all) = (self.alike.len().div_ceil(THREADS), &all);
            std::thread::scope(|scope| {
                let parts: Vec<_> =
                    self.alike.chunks(size).map(|part| scope.spawn(move || all(part))).collect();
                // What one of them panics at, all of it panics at.
                parts
                    .into_iter()
                    .map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
                    .collect()
            })
        };
        let numbered = decided.into_iter().flat_map(|(verdicts, upgrades)| {
            let numbers: Arc<[usize]> = upgrades.into_iter().map(|it| self.change(it)).collect();
            verdicts.into_iter().map(move |(cohort, verdict)| (cohort, verdict, numbers.clone()))
        });
        let numbered: Vec<_> = numbered.collect();
        for (number, (cohort, verdict, numbers)) in numbered.into_iter().enumerate() {
            let Verdict { taken, work, mut not_done, soak_cap, .. } = verdict;
            if work.order.changes.is_empty() && !not_done.iter().any(NotDone::is_of_an_upgrade) {
                not_done.push(NotDone::whole(Vec::new(), vec![Hold::NothingToDo]));
            }
            let group = report.group(not_done);
            let changes = taken.into_iter().map(|it| numbers[it]).collect();
            let duties = self.services(self.alike[number].inventory);
            let work = self.works.keep(work);
            self.list.push(Kind { cohort, work, soak_cap, group, changes, duties });
        }
    }

    /// As waves are laid out by them.
    fn laid(&self) -> Laid {
        let kinds = self.list.iter();
        let kinds = kinds.map(|kind| (kind.cohort, kind.changes.clone(), kind.duties.clone()));
        let mut duties: Vec<(usize, String)> =
            self.duties.iter().map(|(duty, number)| (*number, duty.to_string())).collect();
        duties.sort_unstable();
        let duties = duties.into_iter().map(|(_, duty)| duty).collect();
        Laid::new(kinds, self.changes.len(), duties)
    }
}

/// What is not done, while it is being found out.
#[derive(Default)]
struct Report<'a> {
    things: BTreeMap<NotDone, usize>,
    groups: BTreeMap<Vec<usize>, usize>,
    hosts: Vec<Vec<&'a Host>>,
}

impl<'a> Report<'a> {
    /// The number of the group in which just this is not done.
    fn group(&mut self, not_done: impl IntoIterator<Item = NotDone>) -> usize {
        let mut what = Vec::new();
        for it in not_done {
            let next = self.things.len();
            what.push(*self.things.entry(it).or_insert(next));
        }
        what.sort_unstable();
        let next = self.hosts.len();
        let group = *self.groups.entry(what).or_insert(next);
        if group == next {
            self.hosts.push(Vec::new());
        }
        group
    }

    fn add_to(&mut self, group: usize, host: &'a Host) {
        self.hosts[group].push(host);
    }

    fn add(&mut self, host: &'a Host, not_done: impl IntoIterator<Item = NotDone>) {
        let group = self.group(not_done);
        self.add_to(group, host);
    }

    /// Each thing once, in an order that does not depend on who came first.
    fn held(self) -> Vec<HeldHosts> {
        let mut places = vec![0; self.things.len()];
        let mut things = Vec::with_capacity(self.things.len());
        for (place, (thing, number)) in self.things.into_iter().enumerate() {
            places[number] = place;
            things.push(Arc::new(thing));
        }
        let named =
            |hosts: &[&Host]| hosts.iter().map(|h| (h.id.clone(), h.name.clone())).collect();
        let mut groups: Vec<(Vec<usize>, usize)> = self
            .groups
            .into_iter()
            .map(|(what, group)| {
                let mut what: Vec<usize> = what.into_iter().map(|it| places[it]).collect();
                what.sort_unstable();
                (what, group)
            })
            .filter(|(what, group)| !what.is_empty() && !self.hosts[*group].is_empty())
            .collect();
        groups.sort_unstable();
        groups
            .into_iter()
            .map(|(what, group)| HeldHosts {
                hosts: named(&self.hosts[group]),
                what: what.into_iter().map(|it| things[it].clone()).collect(),
            })
            .collect()
    }
}

/// Is the host this policy's?
fn governs(input: &PlanInput<'_>, host: &Host) -> Result<(), Hold> {
    if !input.policy.select.matches(host) {
        return Err(Hold::NoPolicy);
    }
    if input.policies.is_empty() {
        return Ok(());
    }
    match choose(input.policies, host) {
        Ok(Some(chosen)) if chosen.name == input.policy.name => Ok(()),
        // Another policy of higher priority governs it: not ours.
        Ok(_) => Err(Hold::NoPolicy),
        Err(ambiguous) => Err(Hold::PolicyAmbiguous { policies: ambiguous.policies }),
    }
}

/// What keeps the whole host out. Empty: nothing.
fn holds(input: &PlanInput<'_>, host: &Host, stage: Option<&str>) -> Vec<Hold> {
    if let Some(listed) = &host.listed {
        return vec![Hold::NoAgent { listed_at: listed.at }];
    }
    let mut out = Vec::new();
    let silent_for = host.last_seen.map(|at| input.now.duration_since(at).as_secs());
    let beyond =
        |limit: u64| silent_for.is_some_and(|s| s > i64::try_from(limit).unwrap_or(i64::MAX));
    if let Some(quarantine) = &host.quarantined {
        out.push(Hold::Quarantined { reason: quarantine.reason.clone() });
    }
    if let Some(rollout) = input.busy.get(&host.id) {
        out.push(Hold::Busy { rollout: rollout.clone() });
    }
    if silent_for.is_none() || beyond(input.silent_after_seconds) {
        out.push(Hold::HostSilent { last_seen: host.last_seen });
    }
    match (&host.inventory, host.last_seen) {
        (None, _) => out.push(Hold::NoInventory),
        // Each word of an agent confirms its inventory by digest: it is as old as the last word.
        (Some(_), Some(last_seen)) if beyond(input.policy.inventory_max_age_seconds) => {
            out.push(Hold::InventoryStale { last_seen });
        }
        _ => {}
    }
    if stage.is_none() {
        let pools = matches!(input.policy.strategy, Strategy::BlueGreen { .. });
        out.push(if pools { Hold::NoPool } else { Hold::NoRing });
    }
    out
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Duty<'a> {
    /// What its label says.
    Role(&'a str),
    /// A unit that waits for peers.
    Service(&'a str),
}

impl fmt::Display for Duty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "role {role}"),
            Self::Service(unit) => f.write_str(unit),
        }
    }
}

fn sorted(findings: Option<&Arc<[Shared<Finding>]>>) -> Vec<&Finding> {
    let all = findings.into_iter().flat_map(|all| all.iter());
    let mut out: Vec<&Finding> = all.map(|finding| &**finding).collect();
    out.sort_by(|a, b| (&a.source, &a.id, &a.installed).cmp(&(&b.source, &b.id, &b.installed)));
    out
}

fn budgets(policy: &Policy, fleet: &[&Host]) -> Vec<Budget> {
    let of = |rule: &BudgetRule| budget(rule, rule.name.clone(), fleet);
    policy.budgets.iter().map(of).collect()
}

fn budget(rule: &BudgetRule, name: String, fleet: &[&Host]) -> Budget {
    let hosts: Vec<HostId> =
        fleet.iter().filter(|h| rule.select.matches(h)).map(|h| h.id.clone()).collect();
    Budget {
        name,
        max_unavailable: rule.limit(hosts.len()),
        min_healthy: rule.least_healthy(hosts.len()),
        services: rule.services.clone(),
        hosts,
    }
}

/// What other policies let no more hosts go than, where the plan changes some of these: whoever wrote a budget meant every
/// change, by whichever policy it comes.
fn budgets_of_others(
    input: &PlanInput<'_>,
    fleet: &[&Host],
    planned: &BTreeMap<HostId, HostPlan>,
) -> Vec<Budget> {
    let others = input.policies.iter().filter(|other| other.name != input.policy.name);
    let rules = others.flat_map(|other| other.budgets.iter().map(move |rule| (other, rule)));
    let all = rules.map(|(other, rule)| {
        let name = format!("{} of {}", rule.name, other.name);
        budget(rule, name, fleet)
    });
    all.filter(|budget| budget.hosts.iter().any(|host| planned.contains_key(host))).collect()
}
