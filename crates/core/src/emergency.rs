//! What cannot wait for the next cycle: open findings of an emergency class, or of a vulnerability that an operator has
//! declared one. Pure.

use crate::policy::{ClassRule, CycleStart, Policy, Take};
use crate::{Digest, Hold, HostId, RolloutId, Timestamp, plan::Plan};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// After the last change nothing is planned for so long, in milliseconds: hosts tell of one vulnerability together.
pub const QUIET_MILLISECONDS: i64 = 2_000;
/// But after the first one no longer than this is waited.
pub const LONGEST_MILLISECONDS: i64 = 15_000;

/// An operator's word that a vulnerability cannot wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// `CVE-2024-3094`.
    pub finding: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when it holds (exclusive).
    pub until: Timestamp,
}

/// What calls: for each host the vulnerabilities that cannot wait, are open, and have a fix that it is offered.
pub type Calls = BTreeMap<HostId, BTreeSet<String>>;

impl Policy {
    /// This policy as it counts for an emergency plan: only what fixes the findings that call, at once. Windows open
    /// where a class of the policy says that they do in an emergency; rings, canaries, budgets, gates and blackouts stay.
    pub fn in_emergency(&self) -> Self {
        let opens = self.classes.iter().any(|class| class.emergency);
        let soaks = self.classes.iter().filter(|class| class.emergency);
        let class = ClassRule {
            name: "emergency".to_owned(),
            soak_seconds: Some(soaks.filter_map(|class| class.soak_seconds).min().unwrap_or(0)),
            emergency: opens,
            ..ClassRule::default()
        };
        Self {
            take: Take::Fixes,
            classes: vec![class],
            approvals: self.approvals_in_emergency(),
            ..self.clone()
        }
    }
}

/// An emergency plan that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyPlan {
    /// The plan.
    pub plan: u64,
    /// The policy.
    pub policy: String,
    /// When it was made.
    pub at: Timestamp,
    /// What called.
    pub findings: BTreeSet<String>,
    /// What it does, host by host: the digest of each host's changes. What is covered by it is not planned again.
    pub covers: BTreeMap<HostId, Digest>,
    /// When what it answers arrived: an advisory, an inventory, a word.
    pub called_at: Timestamp,
    /// The plan it was put in the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
    /// Where it stands.
    pub state: EmergencyState,
}

/// Where an emergency plan stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum EmergencyState {
    /// It waits for approvals or a start.
    Open,
    /// Its rollout was started.
    Started {
        /// The rollout.
        rollout: RolloutId,
    },
    /// Another plan was put in its place, or took effect before it.
    Overtaken,
}

/// What a plan does on each of its hosts.
pub fn covers(plan: &Plan) -> BTreeMap<HostId, Digest> {
    let each = plan.hosts.iter();
    each.map(|(id, host)| (id.clone(), Digest::of_json(&host.order.changes))).collect()
}

/// Does this plan have anything that the plans before it do not have?
///
/// What a plan that is open or was started covers is not planned again: it waits there, is done there, or went wrong
/// there and needs a person. What was overtaken covers nothing.
pub fn is_news(covers: &BTreeMap<HostId, Digest>, before: &[EmergencyPlan]) -> bool {
    let standing: Vec<_> =
        before.iter().filter(|plan| plan.state != EmergencyState::Overtaken).collect();
    covers
        .iter()
        .any(|(host, changes)| !standing.iter().any(|plan| plan.covers.get(host) == Some(changes)))
}

/// When to plan after calls changed. `None`: now.
pub fn wait_until(
    first_change: Timestamp,
    last_change: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let after = |at: Timestamp, milliseconds| {
        at.checked_add(SignedDuration::from_millis(milliseconds)).unwrap_or(Timestamp::MAX)
    };
    let until =
        after(last_change, QUIET_MILLISECONDS).min(after(first_change, LONGEST_MILLISECONDS));
    (now < until).then_some(until)
}

/// Is the plan to be started by the server now? `Err`: why not.
///
/// # Errors
/// A person is to start it, or it lacks approvals.
pub fn may_start(start: CycleStart, plan: u64, lacking: Option<&Hold>) -> Result<(), Hold> {
    if let Some(hold) = lacking {
        return Err(hold.clone());
    }
    match start {
        CycleStart::Automatic => Ok(()),
        CycleStart::Propose => Err(Hold::NotStarted { plan }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + milliseconds).unwrap()
    }

    fn plan(number: u64, hosts: &[(&str, &str)], state: EmergencyState) -> EmergencyPlan {
        EmergencyPlan {
            plan: number,
            policy: "web".into(),
            at: at(0),
            findings: BTreeSet::new(),
            covers: covering(hosts),
            called_at: at(0),
            replaces: None,
            state,
        }
    }

    fn covering(hosts: &[(&str, &str)]) -> BTreeMap<HostId, Digest> {
        let one =
            |(host, change): &(&str, &str)| (HostId::from(*host), Digest::of(change.as_bytes()));
        hosts.iter().map(one).collect()
    }

    #[test]
    fn what_another_plan_covers_is_not_planned_again() {
        let open = [plan(1, &[("a", "x"), ("b", "x")], EmergencyState::Open)];
        assert!(!is_news(&covering(&[("a", "x")]), &open), "a host less is no news");
        assert!(is_news(&covering(&[("a", "x"), ("c", "x")]), &open), "a host more is");
        assert!(is_news(&covering(&[("a", "y")]), &open), "and so is another change");
        let went = EmergencyState::Started { rollout: "ro-1".into() };
        assert!(!is_news(&covering(&[("a", "x")]), &[plan(1, &[("a", "x")], went)]));
        let overtaken = [plan(1, &[("a", "x")], EmergencyState::Overtaken)];
        assert!(is_news(&covering(&[("a", "x")]), &overtaken));
        assert!(!is_news(&BTreeMap::new(), &[]), "nothing to do is no news");
    }

    #[test]
    fn hosts_that_tell_one_after_another_get_one_plan_and_wait_not_for_ever() {
        assert_eq!(wait_until(at(0), at(0), at(500)), Some(at(2_000)));
        assert_eq!(wait_until(at(0), at(1_500), at(2_100)), Some(at(3_500)));
        assert_eq!(wait_until(at(0), at(14_900), at(15_000)), None);
        assert_eq!(wait_until(at(0), at(0), at(2_000)), None);
    }

    #[test]
    fn a_policy_in_an_emergency_keeps_its_guards_and_cuts_its_soak() {
        let text = "[policy]\nname = \"p\"\nselect = \"all\"\ntake = \"all\"\napprovals = 2\nemergency-approvals = 1\n\
                    [[class]]\nname = \"kev\"\nkev = true\ndeadline = \"1d\"\nsoak = \"10m\"\nemergency = true\n\
                    [[class]]\nname = \"rest\"\ndeadline = \"30d\"\n\
                    [[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\nsoak = \"4h\"\n[[ring]]\nname = \"broad\"\n\
                    [gate]\nbake = \"5m\"\n[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 1\n";
        let policy = Policy::parse(text).unwrap();
        let it = policy.in_emergency();
        assert_eq!((it.take, it.approvals), (Take::Fixes, 1));
        assert_eq!((it.classes[0].soak_seconds, it.classes[0].emergency), (Some(600), true));
        assert_eq!(
            (&it.rings, &it.gate, &it.budgets),
            (&policy.rings, &policy.gate, &policy.budgets)
        );
        assert_eq!(it.digest, policy.digest, "it is the same policy");
        let calm = Policy::parse(&text.replace("emergency = true\n", "")).unwrap().in_emergency();
        assert!(!calm.classes[0].emergency, "no class opens windows, so a word does not either");
        assert_eq!(calm.classes[0].soak_seconds, Some(0));
    }

    #[test]
    fn a_plan_is_started_by_the_server_only_where_the_policy_says_so_and_it_is_approved() {
        let lacking = Hold::NotApproved { given: 0, needed: 1 };
        assert_eq!(may_start(CycleStart::Automatic, 3, Some(&lacking)), Err(lacking));
        assert_eq!(may_start(CycleStart::Automatic, 3, None), Ok(()));
        assert_eq!(may_start(CycleStart::Propose, 3, None), Err(Hold::NotStarted { plan: 3 }));
    }
}
