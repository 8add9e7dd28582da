//! The exact change decided for a set of hosts: what, where, when, why, and why not the rest.

use crate::assignment::{ApplyOrder, PackageChange};
use crate::policy::GateRule;
use crate::testbed::TestbedRule;
use crate::{Digest, HostId, Shared, Timestamp, later};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

mod alike;
mod alone;
pub mod approval;
mod difference;
mod document;
mod held;
mod host;
mod make;
mod order;
mod order_tree;
mod parts;
mod report;
mod restarts;
pub mod space;
pub mod spent;
mod strategy;
#[cfg(test)]
pub(crate) mod tests;

pub use alike::{Alike, Seen};
pub use alone::{AloneInput, AlonePlan, Asked, LeftOut, alone};
pub use difference::{Brings, PackageMove, PlanDiff, ReasonMove, SomeHosts, WaveMove, diff};
pub use document::SCHEMA;
pub use held::{Held, HeldHosts, HeldOn, NotDone};
pub use make::{Barred, PlanInput, ROLE, make};
pub use order_tree::{OrderProof, OrderTree, leaf};
pub use report::{
    BudgetHit, CohortLine, Deadlines, Fixed, GroupHit, HeldLine, NeededBy, Needs, PlanReport,
    ReportInput, Restarted, ShortOfSpace, Space, WaveLine, report,
};

/// An immutable, numbered plan. Its digest is over everything in it.
///
/// What hosts that are alike have in common is kept once, in memory and in the document: a plan grows with the kinds
/// of hosts, and hardly with their number.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How it is written down: [`SCHEMA`], or 1, where each host has all of its work beside it. A plan that was kept
    /// is written back as it was, byte for byte, so that its digest stays what was approved.
    pub schema: u32,
    /// 1, 2, 3, ... as the server counts.
    pub number: u64,
    /// Digest of the plan that was current when this one was made: it takes effect only while that still is.
    pub parent: Option<Digest>,
    /// The policy it carries out.
    pub policy: String,
    /// Digest of that policy's text: a later change of the policy does not change the plan.
    pub policy_digest: Digest,
    /// The `now` it was made with.
    pub made_at: Timestamp,
    /// The seed it was made with: breaks ties.
    pub seed: u64,
    /// What happens on each host.
    pub hosts: BTreeMap<HostId, HostPlan>,
    /// In which order.
    pub waves: Vec<Wave>,
    /// How many hosts may be disrupted at once.
    pub budgets: Vec<Budget>,
    /// Blue/green: between whom the traffic goes.
    pub pools: Option<Pools>,
    /// Ring 0: what is asked of the test environment before the first host is touched.
    pub testbed: Option<TestbedRule>,
    /// Approvals it needs before it may start.
    pub approvals_needed: u32,
    /// What is not done, and why; [`Plan::held()`] goes through it host by host.
    pub held: Vec<HeldHosts>,
}

/// What happens on one host. It reads as its [`Work`].
#[derive(Debug, Clone, PartialEq)]
pub struct HostPlan {
    /// What people call the host.
    pub name: String,
    /// Its cohort when the plan was made. A host that changed since is held.
    pub cohort: Digest,
    /// Its ring.
    pub ring: String,
    /// Its wave, counted from 0.
    pub wave: u32,
    /// What is done, shared by all hosts on which the same is done.
    pub work: Arc<Work>,
}

/// What is done on each of the hosts that are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// What they are told.
    pub order: ApplyOrder,
    /// Why each package is in: package → vulnerabilities it fixes (empty: an update without a known CVE).
    pub why: Reasons,
    /// Services that run code of the packages now and are likely to restart.
    pub restarts: Vec<String>,
    /// A kernel is among the packages.
    pub reboot_likely: bool,
    /// Deadline of the most urgent finding it fixes.
    pub due: Option<Timestamp>,
    /// It fixes a finding of an emergency class: a closed maintenance window does not hold it (a blackout does).
    pub ignore_windows: bool,
}

/// Package → vulnerabilities that its change fixes, each list once for all works that have it.
pub type Reasons = BTreeMap<Shared<String>, Shared<Vec<String>>>;

impl Deref for HostPlan {
    type Target = Work;
    fn deref(&self) -> &Work {
        &self.work
    }
}

/// Hosts patched together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// The ring it belongs to.
    pub ring: String,
    /// Which hosts, in the order they are started.
    pub hosts: Vec<HostId>,
    /// Why these: for canaries, which cohorts they stand for.
    pub why: String,
    /// What must hold before the next wave.
    pub gate: GateRule,
    /// Seconds to rest after the gate's bake before the next ring starts. 0 within a ring.
    pub soak_seconds: u64,
    /// It begins no sooner than so many seconds after the rollout.
    #[serde(default, skip_serializing_if = "crate::policy::is_zero")]
    pub after_seconds: u64,
    /// One after another, as budgets allow: a patched host keeps its place in them until it was watched for the gate's
    /// bake and has spoken. `false`: all of them together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolling: bool,
    /// A step of the traffic and not of the patching: it has no hosts, and after it the pool that was idle gets so many
    /// percent of the requests. The first one, with 0, makes sure of what the plan takes for granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<u32>,
}

/// Two pools behind a balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// The one that is patched first and gets the requests then.
    pub idle: PoolHosts,
    /// The one that has the requests now: the way back.
    pub serving: PoolHosts,
    /// So many hosts of the idle pool must be proved before they get requests, in percent of the serving pool.
    pub capacity_percent: u32,
}

/// The hosts of a pool, in the plan or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHosts {
    /// `blue`, `green`.
    pub name: String,
    /// Its hosts.
    pub hosts: BTreeMap<HostId, PoolHost>,
}

/// A host of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHost {
    /// What people call the host.
    pub name: String,
    /// Nothing kept the whole host out of the plan: it was heard of and well.
    pub fit: bool,
}

impl Pools {
    /// Is the host in one of them?
    pub fn has(&self, host: &HostId) -> bool {
        self.member(host).is_some()
    }
    /// The host, as one of them has it.
    pub fn member(&self, host: &HostId) -> Option<&PoolHost> {
        self.idle.hosts.get(host).or_else(|| self.serving.hosts.get(host))
    }
    /// Every host of both.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.idle.hosts.keys().chain(self.serving.hosts.keys())
    }
}

/// At most so many of these hosts disrupted at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// What people call it: `role=web`. Of another policy than the plan's: `role=web of NAME`.
    pub name: String,
    /// Who counts: every host of the fleet that the budget's selector matches, in the plan or not.
    pub hosts: Vec<HostId>,
    /// How many may be disrupted (being patched, failed, silent, quarantined, not well) at once.
    pub max_unavailable: u32,
    /// How many have to be well at any time, of those that have not left the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<u32>,
    /// Units that have to be active on a host, or it is not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

impl Budget {
    /// How many may be disrupted at once while so many of its hosts are there.
    pub fn limit(&self, there: usize) -> u32 {
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        self.max_unavailable.min(there.saturating_sub(self.min_healthy.unwrap_or(0)))
    }
}

impl Plan {
    /// Stands for everything in the plan.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
    /// When each wave may begin at the earliest, if the rollout begins then: before each lie the bakes and soaks of those
    /// before it, and none begins before its time.
    pub fn earliest(&self, begin: Timestamp) -> Vec<Timestamp> {
        let mut at = begin;
        let mut one = |wave: &Wave| {
            let begins = at.max(later(begin, wave.after_seconds));
            let rests = wave.gate.bake_seconds.saturating_add(wave.soak_seconds);
            at = later(begins, rests);
            begins
        };
        self.waves.iter().map(&mut one).collect()
    }
    /// Each work once, with the number of hosts on which it is done; in the order of their first hosts.
    pub fn works(&self) -> Vec<(&Arc<Work>, u32)> {
        let mut numbers: BTreeMap<*const Work, usize> = BTreeMap::new();
        let mut out: Vec<(&Arc<Work>, u32)> = Vec::new();
        for host in self.hosts.values() {
            let number = *numbers.entry(Arc::as_ptr(&host.work)).or_insert(out.len());
            match out.get_mut(number) {
                Some((_, hosts)) => *hosts += 1,
                None => out.push((&host.work, 1)),
            }
        }
        out
    }
    /// Distinct vulnerabilities the plan fixes somewhere.
    pub fn fixes(&self) -> BTreeSet<&str> {
        let works = self.works();
        works
            .into_iter()
            .flat_map(|(work, _)| work.order.fixes.iter().map(String::as_str))
            .collect()
    }
    /// Distinct changes, as (name, from, to) → number of hosts.
    pub fn changes(&self) -> BTreeMap<(&str, &str, &str), u32> {
        let mut out = BTreeMap::new();
        for (work, hosts) in self.works() {
            for change in &work.order.changes {
                let PackageChange { name, from, to, .. } = &**change;
                *out.entry((name.as_str(), from.as_str(), to.as_str())).or_insert(0) += hosts;
            }
        }
        out
    }
    /// What is not done, one by one: host, thing, reasons.
    pub fn held(&self) -> impl Iterator<Item = HeldOn<'_>> {
        self.held.iter().flat_map(HeldHosts::each)
    }
    /// How many things are not done: each counts on each host.
    pub fn held_count(&self) -> usize {
        self.held.iter().map(|group| group.hosts.len() * group.what.len()).sum()
    }
}
