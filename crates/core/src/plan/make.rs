//! From fleet, exposure, policy and now to a plan. Pure: equal input gives an equal plan, whatever the order of
//! hosts and findings in it.

use super::host::{Unwanted, Verdict, decide, wish_of};
use super::order::Candidate;
use super::strategy::{budget_of, lay_out, pools_of};
use super::{Budget, Held, HostPlan, Plan};
use crate::finding::Finding;
use crate::host::Host;
use crate::policy::{Policy, Pool, Strategy, choose};
use crate::recall::Recall;
use crate::{Digest, Hold, HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// What each host is exposed to, with class and deadline filled in ([`Policy::rate`]).
    pub findings: &'a BTreeMap<HostId, Vec<Finding>>,
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
/// reason. Whatever is owed and not done is in [`Plan::held`].
pub fn make(input: PlanInput<'_>) -> Plan {
    let PlanInput { policy, now, seed, .. } = input;
    let fleet: BTreeMap<&HostId, &Host> = input.fleet.iter().map(|h| (&h.id, h)).collect();
    let mut barred: BTreeMap<Digest, Vec<&Barred>> = BTreeMap::new();
    for bar in input.barred {
        barred.entry(bar.cohort).or_default().push(bar);
    }
    let mut held = Vec::new();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut candidates: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    let mut soak_cap: Option<u64> = None;
    for host in fleet.values() {
        let asked = input.only.is_none_or(|only| only.contains(&host.id));
        let governed = governs(&input, host);
        let stage = policy.stage_of(host);
        if governed.is_ok()
            && let Some(stage) = stage
        {
            // The size of a wave is a share of the ring, not of those who happen to need something.
            *sizes.entry(stage).or_default() += 1;
        }
        if !asked {
            continue;
        }
        if let Err(hold) = governed {
            if input.only.is_some() || matches!(hold, Hold::PolicyAmbiguous { .. }) {
                held.push(whole(host, Vec::new(), vec![hold]));
            }
            continue;
        }
        let findings = sorted(input.findings.get(&host.id));
        let reasons = holds(&input, host);
        let (Some(inventory), Some(stage), true) = (&host.inventory, stage, reasons.is_empty())
        else {
            let open = findings.iter().filter(|f| f.state.is_owed()).map(|f| f.id.clone());
            held.push(whole(host, open.collect::<BTreeSet<_>>().into_iter().collect(), reasons));
            continue;
        };
        let cohort = inventory.cohort();
        let bars = barred.get(&cohort).map_or(&[][..], Vec::as_slice);
        let unwanted = Unwanted { barred: bars, recalls: input.recalls };
        let Verdict { plan, held: not_done, soak_cap: cap, .. } =
            decide(policy, host, inventory, &findings, unwanted, now, &wish_of(policy));
        soak_cap = soak_cap.into_iter().chain(cap).min();
        if plan.order.changes.is_empty() {
            if !not_done.iter().any(Held::is_of_an_upgrade) {
                held.push(whole(host, Vec::new(), vec![Hold::NothingToDo]));
            }
        } else {
            let plan = HostPlan { cohort, ring: stage.to_owned(), ..plan };
            candidates.entry(stage).or_default().push(Candidate { id: &host.id, plan });
        }
        held.extend(not_done);
    }
    let (waves, hosts) = lay_out(policy, candidates, &sizes, soak_cap, input.serving, seed);
    let governed = || fleet.values().copied().filter(|h| governs(&input, h).is_ok());
    let mut budgets = budgets(policy, &fleet);
    budgets.extend(budget_of(policy, governed()));
    let fit = |host: &Host| holds(&input, host).is_empty();
    let pools = pools_of(policy, governed(), input.serving, fit).filter(|_| !waves.is_empty());
    held.sort_by(|a, b| (&a.host, &a.package, &a.reasons).cmp(&(&b.host, &b.package, &b.reasons)));
    Plan {
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
        held,
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
fn holds(input: &PlanInput<'_>, host: &Host) -> Vec<Hold> {
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
    if input.policy.stage_of(host).is_none() {
        let pools = matches!(input.policy.strategy, Strategy::BlueGreen { .. });
        out.push(if pools { Hold::NoPool } else { Hold::NoRing });
    }
    out
}

fn whole(host: &Host, findings: Vec<String>, reasons: Vec<Hold>) -> Held {
    Held {
        host: host.id.clone(),
        name: host.name.clone(),
        package: String::new(),
        findings,
        reasons,
    }
}

fn sorted(findings: Option<&Vec<Finding>>) -> Vec<&Finding> {
    let mut out: Vec<&Finding> = findings.into_iter().flatten().collect();
    out.sort_by(|a, b| (&a.source, &a.id, &a.installed).cmp(&(&b.source, &b.id, &b.installed)));
    out
}

fn budgets(policy: &Policy, fleet: &BTreeMap<&HostId, &Host>) -> Vec<Budget> {
    let of = |rule: &crate::policy::BudgetRule| Budget {
        name: rule.name.clone(),
        hosts: fleet.values().filter(|h| rule.select.matches(h)).map(|h| h.id.clone()).collect(),
        max_unavailable: rule.max_unavailable,
    };
    policy.budgets.iter().map(of).collect()
}
