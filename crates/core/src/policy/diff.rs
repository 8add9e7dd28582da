//! What a policy would change against the one in force: its settings, and what they do to the fleet. Computed by the
//! very functions that choose policies, rate findings and open windows.

use super::settings::{Setting, settings};
use super::{Acceptance, Policy, choose};
use crate::finding::{Finding, FindingState};
use crate::host::Host;
use crate::{Digest, HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many openings of the windows are compared.
const OPENINGS: usize = 3;

/// A finding, and since when it is known: what its deadline may count from.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// As it was last judged.
    pub finding: Finding,
    /// When it was first seen on the host.
    pub first_seen: Timestamp,
}

/// Everything the difference is a function of.
#[derive(Debug, Clone, Copy)]
pub struct DiffInput<'a> {
    /// All policies in force.
    pub in_force: &'a [Policy],
    /// What would be put in force, in place of the one of its name.
    pub next: &'a Policy,
    /// The fleet. Of inventories only what selectors ask for is looked at.
    pub fleet: &'a [Host],
    /// What is known of each host that [is touched](is_touched); others may be left out.
    pub findings: &'a BTreeMap<HostId, Vec<Known>>,
    /// Now.
    pub now: Timestamp,
}

/// What a policy would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// Its name.
    pub policy: String,
    /// When it was compared.
    pub at: Timestamp,
    /// Digest of the text in force; `None`: none of that name is.
    pub from: Option<Digest>,
    /// Digest of the text that would be.
    pub to: Digest,
    /// Settings that differ. Empty also where none of that name is in force: then all of it is new.
    pub settings: Vec<Setting>,
    /// Hosts for which another policy, or another stage of this one, would count; by name.
    pub hosts: Vec<HostMove>,
    /// How many hosts it governs now.
    pub hosts_from: u64,
    /// How many it would govern.
    pub hosts_to: u64,
    /// The next times at which its hosts may be changed, as it is: from, and to (exclusive).
    pub windows_from: Vec<Opening>,
    /// The same, as it would be.
    pub windows_to: Vec<Opening>,
    /// What is owed by another date, in another class, or in another state than now.
    pub deadlines: Vec<DeadlineMove>,
    /// Findings (each host counts) that are late now.
    pub overdue_from: u64,
    /// Findings that would be late at once.
    pub overdue_to: u64,
}

/// From, and to (exclusive; `None`: for more than a year).
pub type Opening = (Timestamp, Option<Timestamp>);

/// Which policy counts for a host, and in which stage of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cover", rename_all = "kebab-case")]
pub enum Cover {
    /// This one.
    By {
        /// Its name.
        policy: String,
        /// The host's ring or pool; `None`: it is in none, and never patched.
        stage: Option<String>,
    },
    /// None.
    Nobody,
    /// Several of equal priority, so none: `policy apply` refuses that.
    Ambiguous {
        /// Their names.
        policies: Vec<String>,
    },
}

impl Cover {
    /// Which policy of these counts for the host.
    pub fn of(policies: &[Policy], host: &Host) -> Self {
        match choose(policies, host) {
            Ok(Some(policy)) => Self::By {
                policy: policy.name.clone(),
                stage: policy.stage_of(host).map(str::to_owned),
            },
            Ok(None) => Self::Nobody,
            Err(ambiguous) => Self::Ambiguous { policies: ambiguous.policies },
        }
    }

    /// The policy that counts.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::By { policy, .. } => Some(policy),
            Self::Nobody | Self::Ambiguous { .. } => None,
        }
    }
}

impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::By { policy, stage: Some(stage) } => write!(f, "{policy} ({stage})"),
            Self::By { policy, stage: None } => write!(f, "{policy} (no ring or pool)"),
            Self::Nobody => f.write_str("no policy"),
            Self::Ambiguous { policies } => {
                write!(f, "no policy ({} have equal priority)", policies.join(" and "))
            }
        }
    }
}

/// A host for which something else would count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMove {
    /// Which.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// What counts now.
    pub from: Cover,
    /// What would.
    pub to: Cover,
}

/// What is owed for a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owed {
    /// Where it stands: an acceptance that comes or goes changes it.
    pub state: FindingState,
    /// Its class; empty: none.
    pub class: String,
    /// By when; `None`: by no date.
    pub deadline: Option<Timestamp>,
}

/// A finding for which something else would be owed, on all hosts for which that is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlineMove {
    /// `CVE-2024-5535`.
    pub finding: String,
    /// Source package.
    pub source: String,
    /// What is owed now.
    pub from: Owed,
    /// What would be.
    pub to: Owed,
    /// On which hosts, by name.
    pub hosts: Vec<String>,
}

impl Policy {
    /// The acceptance that holds now for a finding. Whether it is accepted already makes no difference.
    pub fn accepts(&self, finding: &Finding, now: Timestamp) -> Option<&Acceptance> {
        let ranking = &finding.ranking;
        self.acceptances.iter().find(|a| {
            a.is_about(&finding.id, &finding.source)
                && a.holds(now, ranking.epss, ranking.kev.is_some())
        })
    }
}

/// What of this would be owed under a policy.
fn owed(policy: Option<&Policy>, known: &Known, now: Timestamp) -> Owed {
    let mut finding = known.finding.clone();
    let accepted = policy.is_some_and(|p| p.accepts(&finding, now).is_some());
    finding.state = match finding.state {
        FindingState::NotAffected | FindingState::Fixed => finding.state,
        _ if accepted => FindingState::Accepted,
        // What it would be without: the next judgement may know better (`pending-restart`), and says so then.
        FindingState::Accepted if finding.fixed_version.is_some() => FindingState::Open,
        FindingState::Accepted => FindingState::NoFixYet,
        other => other,
    };
    match policy {
        Some(policy) => policy.rate(&mut finding, known.first_seen),
        None => (finding.class, finding.deadline) = (String::new(), None),
    }
    Owed { state: finding.state, class: finding.class, deadline: finding.deadline }
}

/// The policies that would be in force with `next` in place of the one of its name.
pub fn with_next(in_force: &[Policy], next: &Policy) -> Vec<Policy> {
    let mut after: Vec<Policy> = in_force.iter().filter(|p| p.name != next.name).cloned().collect();
    after.push(next.clone());
    after
}

/// Can `next` change what is owed for this host? `after` is [`with_next`]: whoever stays with another policy owes what
/// it owed.
pub fn is_touched(in_force: &[Policy], after: &[Policy], next: &Policy, host: &Host) -> bool {
    touches(&Cover::of(in_force, host), &Cover::of(after, host), next)
}

fn touches(from: &Cover, to: &Cover, next: &Policy) -> bool {
    let is_ours = |cover: &Cover| cover.policy() == Some(&next.name);
    is_ours(from) || is_ours(to) || from != to
}

/// What `next` would change against what is in force.
pub fn diff(input: DiffInput<'_>) -> PolicyDiff {
    let DiffInput { in_force, next, fleet, now, .. } = input;
    let before = in_force.iter().find(|p| p.name == next.name);
    let after = with_next(in_force, next);
    let named = |policies: &'_ [Policy], name: Option<&str>| {
        name.and_then(|name| policies.iter().position(|p| p.name == name))
    };

    let mut out = PolicyDiff {
        policy: next.name.clone(),
        at: now,
        from: before.map(|p| p.digest),
        to: next.digest,
        settings: before.map(|p| settings(p, next)).unwrap_or_default(),
        hosts: Vec::new(),
        hosts_from: 0,
        hosts_to: 0,
        windows_from: before.map(|p| p.openings(now, OPENINGS)).unwrap_or_default(),
        windows_to: next.openings(now, OPENINGS),
        deadlines: Vec::new(),
        overdue_from: 0,
        overdue_to: 0,
    };
    let mut moves: BTreeMap<(&str, &str, Owed, Owed), BTreeSet<&str>> = BTreeMap::new();
    for host in fleet {
        let (from, to) = (Cover::of(in_force, host), Cover::of(&after, host));
        let is_ours = |cover: &Cover| cover.policy() == Some(&next.name);
        out.hosts_from += u64::from(is_ours(&from));
        out.hosts_to += u64::from(is_ours(&to));
        let old = named(in_force, from.policy()).map(|at| &in_force[at]);
        let new = named(&after, to.policy()).map(|at| &after[at]);
        if touches(&from, &to, next) {
            for known in input.findings.get(&host.id).into_iter().flatten() {
                let (was, will) = (owed(old, known, now), owed(new, known, now));
                let late = |owed: &Owed| {
                    owed.state == FindingState::Open && owed.deadline.is_some_and(|at| at < now)
                };
                out.overdue_from += u64::from(late(&was));
                out.overdue_to += u64::from(late(&will));
                if was != will {
                    let key = (known.finding.id.as_str(), known.finding.source.as_str(), was, will);
                    moves.entry(key).or_default().insert(&host.name);
                }
            }
        }
        if from != to {
            let (host, name) = (host.id.clone(), host.name.clone());
            out.hosts.push(HostMove { host, name, from, to });
        }
    }
    out.hosts.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
    let moves = moves.into_iter().map(|((finding, source, from, to), hosts)| DeadlineMove {
        finding: finding.to_owned(),
        source: source.to_owned(),
        from,
        to,
        hosts: hosts.into_iter().map(str::to_owned).collect(),
    });
    out.deadlines = moves.collect();
    out
}

#[cfg(test)]
mod tests;
