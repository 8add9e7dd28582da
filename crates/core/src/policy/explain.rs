//! Which policy counts for a host and why, what it asks for, what is owed, and everything that stands in the way.
//! What a plan would do and not do is found out by making one.

use super::classify::Counted;
use super::diff::{Known, Opening};
use super::{
    Acceptance, AcceptedMissing, Blackout, BudgetRule, ClassRule, Exclusion, Pin, Policy, Pool,
    RiskRule, Selector, Strategy, choose, glob,
};
use crate::assignment::PackageChange;
use crate::finding::{Finding, FindingState};
use crate::host::{Host, Labels};
use crate::plan::{Barred, Held, HeldOn, PlanInput, make};
use crate::recall::Recall;
use crate::{Digest, Hold, HostId, RolloutId, Shared, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many openings of the windows are told.
const OPENINGS: usize = 3;

/// Everything the explanation is a function of.
#[derive(Debug, Clone, Copy)]
pub struct ExplainInput<'a> {
    /// The host, with its whole inventory.
    pub host: &'a Host,
    /// All policies in force.
    pub policies: &'a [Policy],
    /// The fleet: budgets count its hosts. Of inventories only what selectors ask for is looked at.
    pub fleet: &'a [Host],
    /// What the host is exposed to, as it was last judged. Class and deadline are reckoned anew.
    pub findings: &'a [Known],
    /// Versions not to be given.
    pub barred: &'a [Barred],
    /// Versions that nobody is to get.
    pub recalls: &'a [Recall],
    /// The rollout that is at work on the host.
    pub busy: Option<&'a RolloutId>,
    /// What rollouts wait for on this host.
    pub waiting: &'a [Hold],
    /// See [`PlanInput::serving`].
    pub serving: Option<Pool>,
    /// See [`PlanInput::silent_after_seconds`].
    pub silent_after_seconds: u64,
    /// Now.
    pub now: Timestamp,
}

/// Which policy counts for a host and why, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// What selectors look at.
    pub labels: Labels,
    /// As of when.
    pub at: Timestamp,
    /// Policies in force, those that select the host first, then by priority.
    pub policies: Vec<Considered>,
    /// The policy that counts. `None`: none; the first of `holds` says why.
    pub policy: Option<String>,
    /// Digest of its text.
    pub digest: Option<Digest>,
    /// How its hosts are led through a change: `rings`, `percentage`, `rolling`, `blue-green`.
    pub strategy: String,
    /// Its rings or pools, in order. Of rings, the first that selects the host is the host's.
    pub stages: Vec<Considered>,
    /// The host's ring or pool.
    pub stage: Option<String>,
    /// The next times at which the host may be changed, `at` included: from, and to (exclusive).
    pub openings: Vec<Opening>,
    /// Blackouts that have not ended.
    pub blackouts: Vec<Blackout>,
    /// Classes, in order, with what falls into them here.
    pub classes: Vec<ClassOf>,
    /// Rules about packages, as the text has them.
    #[serde(default)]
    pub risks: Vec<RiskOf>,
    /// Budgets that count this host, of whatever policy.
    pub budgets: Vec<BudgetOf>,
    /// Exclusions, with the packages of this host that they mean.
    pub exclusions: Vec<ExclusionOf>,
    /// Pins, with the packages of this host that they mean.
    #[serde(default)]
    pub pins: Vec<PinOf>,
    /// What the policy restarts and reboots on others and not on this host.
    #[serde(default)]
    pub exempt: Vec<String>,
    /// Acceptances, with the findings of this host that they cover.
    pub acceptances: Vec<AcceptanceOf>,
    /// Symbols that may be missing after a change, as long as that holds.
    pub accept_missing: Vec<AcceptedMissing>,
    /// How many must approve a plan.
    pub approvals: u32,
    /// What is owed, what is due first at the head.
    pub owed: Vec<OwedFinding>,
    /// What a plan made now would change.
    pub changes: Vec<Shared<PackageChange>>,
    /// Vulnerabilities that it would fix.
    pub fixes: Vec<String>,
    /// Units that would probably restart.
    pub restarts: Vec<String>,
    /// The host would probably reboot.
    pub reboot_likely: bool,
    /// Everything that stops progress on the whole host now.
    pub holds: Vec<Hold>,
    /// What a plan made now would leave out, and why.
    pub held: Vec<Held>,
}

/// A selector, and whether it means the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Of which policy, ring or pool.
    pub name: String,
    /// Of a policy: of those that select a host the highest counts.
    pub priority: Option<i32>,
    /// The selector.
    pub select: String,
    /// Does it mean the host?
    pub selects: bool,
    /// Does this one count?
    pub counts: bool,
    /// What it asks for, piece by piece.
    pub conditions: Vec<Condition>,
}

/// A piece of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `env=prod`, `not role=db`.
    pub text: String,
    /// Does it hold?
    pub holds: bool,
    /// What the host has for the label or fact asked for.
    pub found: Option<String>,
}

/// A class, and what of the host falls into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassOf {
    /// The rule.
    pub rule: ClassRule,
    /// Owed findings that fall into it.
    pub findings: u64,
    /// The first deadline among them.
    pub due: Option<Timestamp>,
    /// How many of them are open and late.
    pub overdue: u64,
}

/// A rule about packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskOf {
    /// Its name.
    pub name: String,
    /// Which packages: `@kernel`, `nginx*`.
    pub packages: Vec<String>,
    /// What a plan has to keep to that changes one of them.
    pub asks: String,
}

/// A budget that counts the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetOf {
    /// Its name.
    pub name: String,
    /// Whom it counts.
    pub select: String,
    /// How many hosts that is.
    pub hosts: u64,
    /// How many may be disrupted at once.
    pub max_unavailable: u32,
    /// How many have to be well at any time, where the policy says so.
    #[serde(default)]
    pub min_healthy: Option<u32>,
    /// Units that have to be active on a host, or it is not well.
    #[serde(default)]
    pub services: Vec<String>,
}

/// An exclusion, and what of the host it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExclusionOf {
    /// The rule, with reason, owner and end.
    pub rule: Exclusion,
    /// Does it hold now?
    pub in_force: bool,
    /// Packages installed or offered that it means.
    pub packages: Vec<String>,
}

/// A pin, and what of the host it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinOf {
    /// The rule, with reason, owner and end.
    pub rule: Pin,
    /// Does it hold now?
    pub in_force: bool,
    /// Packages installed or offered that it means.
    pub packages: Vec<String>,
}

/// An acceptance, and what of the host it covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcceptanceOf {
    /// The rule, with reason, owner and end.
    pub rule: Acceptance,
    /// Has it ended?
    pub ended: bool,
    /// Source packages in which it covers the vulnerability on this host. Empty though it has not ended: the host
    /// does not have it, or its threat has grown beyond what was accepted.
    pub sources: Vec<String>,
}

/// A finding that something is owed for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwedFinding {
    /// By when. Those without a date come last.
    pub deadline: Option<Timestamp>,
    /// `CVE-2024-5535`.
    pub finding: String,
    /// Source package.
    pub source: String,
    /// Where it stands.
    pub state: FindingState,
    /// Its class; empty: none.
    pub class: String,
    /// What the deadline is counted from.
    pub counted: Option<Counted>,
}

/// Says which policy counts for the host and why, and what follows from it now.
pub fn explain(input: ExplainInput<'_>) -> Explained {
    let ExplainInput { host, policies, now, .. } = input;
    let chosen = choose(policies, host);
    let policy = chosen.as_ref().ok().copied().flatten();
    let mut out = Explained {
        host: host.id.clone(),
        name: host.name.clone(),
        labels: host.labels.clone(),
        at: now,
        policies: considered(policies, host, policy),
        policy: policy.map(|p| p.name.clone()),
        digest: policy.map(|p| p.digest),
        strategy: String::new(),
        stages: Vec::new(),
        stage: None,
        openings: Vec::new(),
        blackouts: Vec::new(),
        classes: Vec::new(),
        risks: Vec::new(),
        budgets: Vec::new(),
        exclusions: Vec::new(),
        pins: Vec::new(),
        exempt: Vec::new(),
        acceptances: Vec::new(),
        accept_missing: Vec::new(),
        approvals: 0,
        owed: owed(policy, input.findings),
        changes: Vec::new(),
        fixes: Vec::new(),
        restarts: Vec::new(),
        reboot_likely: false,
        holds: Vec::new(),
        held: Vec::new(),
    };
    match chosen {
        Ok(Some(policy)) => rules(&mut out, policy, &input),
        Ok(None) => out.holds.push(Hold::NoPolicy),
        Err(ambiguous) => out.holds.push(Hold::PolicyAmbiguous { policies: ambiguous.policies }),
    }
    out.holds.extend(input.waiting.iter().cloned());
    let mut told = BTreeSet::new();
    out.holds.retain(|hold| told.insert(hold.clone()));
    out
}

/// What the policy asks for, and what a plan by it would be.
fn rules(out: &mut Explained, policy: &Policy, input: &ExplainInput<'_>) {
    let ExplainInput { host, now, .. } = *input;
    (out.strategy, out.stages) = stages(policy, host);
    out.stage = policy.stage_of(host).map(str::to_owned);
    out.approvals = policy.approvals;
    out.openings = policy.openings(now, OPENINGS);
    // A blackout's days are of its policy's zone: one that may still last somewhere is told.
    let yesterday = now.to_zoned(jiff::tz::TimeZone::UTC).date().yesterday().ok();
    let lasts = |b: &&Blackout| yesterday.is_none_or(|day| b.to >= day);
    out.blackouts = policy.blackouts.iter().filter(lasts).cloned().collect();
    out.classes = policy.classes.iter().map(|rule| class(rule, &out.owed, now)).collect();
    let risk = |rule: &RiskRule| RiskOf {
        name: rule.name.clone(),
        packages: rule.packages.clone(),
        asks: rule.to_string(),
    };
    out.risks = policy.risks.iter().map(risk).collect();
    out.budgets = budgets(policy, input);
    out.exclusions = policy.exclusions.iter().map(|rule| exclusion(rule, host, now)).collect();
    out.pins = policy.pins.iter().map(|rule| pin(rule, host, now)).collect();
    let exempts =
        [("restart", &policy.restart_exempt), ("reboot", &policy.reboot_exempt)].into_iter();
    let mine = exempts.filter_map(|(what, who)| Some((what, who.as_ref()?)));
    out.exempt = mine
        .filter(|(_, who)| who.matches(host))
        .map(|(what, who)| format!("{what}: `{who}` selects it"))
        .collect();
    out.acceptances =
        policy.acceptances.iter().map(|rule| acceptance(rule, policy, input)).collect();
    out.accept_missing = policy.accept_missing.iter().filter(|a| now < a.until).cloned().collect();

    let only = BTreeSet::from([host.id.clone()]);
    let known = input.findings.iter().map(|known| Shared::from(known.finding.clone()));
    let findings: BTreeMap<HostId, Arc<[Shared<Finding>]>> =
        BTreeMap::from([(host.id.clone(), known.collect())]);
    let busy = input.busy.map(|id| (host.id.clone(), id.clone())).into_iter().collect();
    let plan = make(PlanInput {
        number: 0,
        parent: None,
        policy,
        policies: input.policies,
        fleet: std::slice::from_ref(host),
        only: Some(&only),
        findings: &findings,
        barred: input.barred,
        recalls: input.recalls,
        busy: &busy,
        serving: input.serving,
        silent_after_seconds: input.silent_after_seconds,
        now,
        seed: 0,
    });
    let mut ignore_windows = false;
    if let Some(planned) = plan.hosts.get(&host.id) {
        out.changes = planned.order.changes.clone();
        let fixes: BTreeSet<&String> = planned.why.values().flatten().collect();
        out.fixes = fixes.into_iter().cloned().collect();
        out.restarts = planned.restarts.clone();
        out.reboot_likely = planned.reboot_likely;
        ignore_windows = planned.ignore_windows;
    }
    let (whole, packages): (Vec<Held>, Vec<Held>) =
        plan.held().map(HeldOn::to_held).partition(|held| held.package.is_empty());
    out.held = packages;
    out.holds.extend(whole.into_iter().flat_map(|held| held.reasons));
    out.holds.extend(policy.window_for(now, ignore_windows).hold);
}

fn considered(policies: &[Policy], host: &Host, chosen: Option<&Policy>) -> Vec<Considered> {
    let mut out: Vec<Considered> = policies
        .iter()
        .map(|policy| Considered {
            priority: Some(policy.priority),
            counts: chosen.is_some_and(|chosen| chosen.name == policy.name),
            ..selection(&policy.name, &policy.select, host)
        })
        .collect();
    out.sort_by(|a, b| {
        (!a.counts, !a.selects, std::cmp::Reverse(a.priority), &a.name).cmp(&(
            !b.counts,
            !b.selects,
            std::cmp::Reverse(b.priority),
            &b.name,
        ))
    });
    out
}

fn stages(policy: &Policy, host: &Host) -> (String, Vec<Considered>) {
    let stage = policy.stage_of(host);
    let one = |name: &str, select: &Selector| Considered {
        counts: stage == Some(name),
        ..selection(name, select, host)
    };
    match &policy.strategy {
        Strategy::Rings => {
            let rings = policy.rings.iter().map(|ring| one(&ring.name, &ring.select));
            ("rings".to_owned(), rings.collect())
        }
        Strategy::Percentage { .. } => ("percentage".to_owned(), Vec::new()),
        Strategy::Rolling { .. } => ("rolling".to_owned(), Vec::new()),
        Strategy::BlueGreen { blue, green, .. } => {
            let pools = [one(Pool::Blue.word(), blue), one(Pool::Green.word(), green)];
            ("blue-green".to_owned(), pools.into())
        }
    }
}

fn selection(name: &str, select: &Selector, host: &Host) -> Considered {
    let mut conditions = Vec::new();
    pieces(select, host, &mut conditions);
    Considered {
        name: name.to_owned(),
        priority: None,
        select: select.to_string(),
        selects: select.matches(host),
        counts: false,
        conditions,
    }
}

/// The pieces of a selector between its `and` and `or`.
fn pieces(select: &Selector, host: &Host, out: &mut Vec<Condition>) {
    match select {
        Selector::And { of } | Selector::Or { of } => {
            of.iter().for_each(|piece| pieces(piece, host, out));
        }
        Selector::Not { of } => out.push(Condition {
            text: select.to_string(),
            holds: select.matches(host),
            found: of.found(host),
        }),
        Selector::All | Selector::In { .. } | Selector::Has { .. } | Selector::Version { .. } => {
            out.push(Condition {
                text: select.to_string(),
                holds: select.matches(host),
                found: select.found(host),
            })
        }
    }
}

fn owed(policy: Option<&Policy>, findings: &[Known]) -> Vec<OwedFinding> {
    let one = |known: &Known| {
        let finding = &known.finding;
        let (class, deadline) = match policy.and_then(|p| p.owes(finding, known.first_seen)) {
            Some((class, deadline)) => (class.name.clone(), deadline),
            None => (String::new(), None),
        };
        OwedFinding {
            deadline: deadline.map(|d| d.at),
            finding: finding.id.clone(),
            source: finding.source.clone(),
            state: finding.state,
            class,
            counted: deadline.map(|d| d.counted),
        }
    };
    let mut out: Vec<OwedFinding> =
        findings.iter().filter(|known| known.finding.state.is_owed()).map(one).collect();
    out.sort_by(|a, b| (a.deadline.is_none(), a).cmp(&(b.deadline.is_none(), b)));
    out
}

fn class(rule: &ClassRule, owed: &[OwedFinding], now: Timestamp) -> ClassOf {
    let mine = || owed.iter().filter(|owed| owed.class == rule.name);
    let late = |owed: &&OwedFinding| {
        owed.state == FindingState::Open && owed.deadline.is_some_and(|deadline| deadline < now)
    };
    ClassOf {
        rule: rule.clone(),
        findings: mine().count() as u64,
        due: mine().filter_map(|owed| owed.deadline).min(),
        overdue: mine().filter(late).count() as u64,
    }
}

fn budgets(policy: &Policy, input: &ExplainInput<'_>) -> Vec<BudgetOf> {
    // As a plan counts them: what has no agent is part of no budget.
    let served = || input.fleet.iter().filter(|host| host.listed.is_none());
    let ours = |host: &&Host| matches!(choose(input.policies, host), Ok(Some(chosen)) if chosen.name == policy.name);
    let of = |policy: &Policy, others: bool| -> Vec<BudgetOf> {
        let rules = policy.budgets.iter().filter(|rule| rule.select.matches(input.host));
        let one = |rule: &BudgetRule| {
            let hosts = served().filter(|h| rule.select.matches(h)).count();
            BudgetOf {
                name: match others {
                    true => format!("{} of {}", rule.name, policy.name),
                    false => rule.name.clone(),
                },
                select: rule.select.to_string(),
                hosts: hosts as u64,
                max_unavailable: rule.limit(hosts),
                min_healthy: rule.least_healthy(hosts),
                services: rule.services.clone(),
            }
        };
        rules.map(one).collect()
    };
    let mut out = of(policy, false);
    if let Strategy::Rolling { max_unavailable } = &policy.strategy {
        let hosts = served().filter(ours).count();
        out.push(BudgetOf {
            name: format!("rolling {}", policy.name),
            select: policy.select.to_string(),
            hosts: hosts as u64,
            max_unavailable: max_unavailable.of(hosts),
            min_healthy: None,
            services: Vec::new(),
        });
    }
    // A budget binds every change of its hosts, by whichever policy it comes.
    let others = input.policies.iter().filter(|other| other.name != policy.name);
    out.extend(others.flat_map(|other| of(other, true)));
    out
}

fn exclusion(rule: &Exclusion, host: &Host, now: Timestamp) -> ExclusionOf {
    let packages = meant(&rule.package, host);
    ExclusionOf { rule: rule.clone(), in_force: now < rule.until, packages }
}

fn pin(rule: &Pin, host: &Host, now: Timestamp) -> PinOf {
    let packages = meant(&rule.package, host);
    PinOf { rule: rule.clone(), in_force: now < rule.until, packages }
}

/// Packages of that name, installed or offered.
fn meant(pattern: &str, host: &Host) -> Vec<String> {
    let inventory = host.inventory.as_ref();
    let installed = inventory.into_iter().flat_map(|i| &i.packages).map(|p| &p.name);
    let offered = inventory.into_iter().flat_map(|i| &i.upgrades).map(|u| &u.name);
    let packages: BTreeSet<&String> =
        installed.chain(offered).filter(|name| glob::matches(pattern, name)).collect();
    packages.into_iter().cloned().collect()
}

fn acceptance(rule: &Acceptance, policy: &Policy, input: &ExplainInput<'_>) -> AcceptanceOf {
    let covered = |f: &&Finding| {
        f.state.is_vulnerable() && policy.accepts(f, input.now).is_some_and(|a| a == rule)
    };
    let sources: BTreeSet<&String> = input
        .findings
        .iter()
        .map(|known| &known.finding)
        .filter(covered)
        .map(|f| &f.source)
        .collect();
    AcceptanceOf {
        rule: rule.clone(),
        ended: rule.until <= input.now,
        sources: sources.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
