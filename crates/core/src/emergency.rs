//! What cannot wait for the next cycle: open findings of an emergency class, or of a vulnerability that an operator has
//! declared one. Pure.

use crate::plan::{HostPlan, Plan};
use crate::policy::{ClassRule, CycleStart, Policy, Take};
use crate::{Digest, Hold, HostId, RolloutId, Timestamp};
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
    /// Whom their token speaks for: a plan that is made for this is made at their word, and not theirs to approve.
    /// Empty: kept before this was noted; then it is who said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub principal: String,
    /// When.
    pub at: Timestamp,
    /// Until when it holds (exclusive).
    pub until: Timestamp,
}

impl Declared {
    /// The principal who declared it.
    pub fn declarer(&self) -> &str {
        if self.principal.is_empty() { &self.by } else { &self.principal }
    }
}

/// At whose word a plan for these findings is made: the principals who declared one of them.
pub fn declarers(declared: &[Declared], findings: &BTreeSet<String>) -> BTreeSet<String> {
    let named = declared.iter().filter(|it| findings.contains(&it.finding));
    named.map(|it| it.declarer().to_owned()).collect()
}

/// What calls: for each host the vulnerabilities that cannot wait, are open, and have a fix that it is offered.
pub type Calls = BTreeMap<HostId, BTreeSet<String>>;

impl Policy {
    /// How many approvals an emergency plan of this policy needs.
    pub fn approvals_in_emergency(&self) -> u32 {
        self.emergency_approvals.unwrap_or(self.approvals)
    }

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
        let mut risks = self.risks.clone();
        risks.iter_mut().for_each(|risk| risk.approvals = None);
        Self {
            take: Take::Fixes,
            classes: vec![class],
            risks,
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
    /// At whose word it was made: those who declared what called. None of them can approve it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub declared_by: BTreeSet<String>,
    /// What it does, host by host: the digest of each host's cohort and changes. What is covered by it is not planned
    /// again.
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

/// What a plan does on each of its hosts: the same changes to a host that is another by now are not the same.
pub fn covers(plan: &Plan) -> BTreeMap<HostId, Digest> {
    covered_by(&plan.hosts)
}

fn covered_by(hosts: &BTreeMap<HostId, HostPlan>) -> BTreeMap<HostId, Digest> {
    let each = hosts.iter();
    each.map(|(id, host)| {
        let mut changes = host.order.changes.clone();
        changes.sort();
        (id.clone(), Digest::of_json(&(&host.cohort, &changes)))
    })
    .collect()
}

/// What a plan does, as older servers noted it: the changes only, in whatever order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoveredBefore(BTreeMap<HostId, [Digest; 2]>);

/// What a plan does on each of its hosts, as an older server would have noted it. Good for knowing again what one has
/// planned; what is planned now is noted by [`covers`].
pub fn covered_before(plan: &Plan) -> CoveredBefore {
    covered_before_by(&plan.hosts)
}

fn covered_before_by(hosts: &BTreeMap<HostId, HostPlan>) -> CoveredBefore {
    let each = hosts.iter().map(|(id, host)| {
        let mut changes = host.order.changes.clone();
        let as_they_come = Digest::of_json(&changes);
        changes.sort();
        (id.clone(), [as_they_come, Digest::of_json(&changes)])
    });
    CoveredBefore(each.collect())
}

/// Does this plan have anything that the plans before it do not have? `once`: the same plan, as older servers noted
/// what one does: an upgrade of the server makes nothing new.
///
/// What a plan that is open or was started covers is not planned again: it waits there, is done there, or went wrong
/// there and needs a person. What was overtaken covers nothing.
pub fn is_news(
    covers: &BTreeMap<HostId, Digest>,
    once: &CoveredBefore,
    before: &[EmergencyPlan],
) -> bool {
    let standing: Vec<_> =
        before.iter().filter(|plan| plan.state != EmergencyState::Overtaken).collect();
    covers.iter().any(|(host, changes)| {
        let once = once.0.get(host);
        let is_same =
            |known: &Digest| known == changes || once.is_some_and(|once| once.contains(known));
        !standing.iter().any(|plan| plan.covers.get(host).is_some_and(is_same))
    })
}

/// Those at whose word a plan was made that an older server kept without them: who had declared what it is for by then.
/// Empty where they are kept with it, or where nobody had.
pub fn declarers_of_older(it: &EmergencyPlan, declared: &[Declared]) -> BTreeSet<String> {
    if !it.declared_by.is_empty() {
        return BTreeSet::new();
    }
    let by_then: Vec<Declared> = declared.iter().filter(|word| word.at <= it.at).cloned().collect();
    declarers(&by_then, &it.findings)
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

/// What calls as before is planned for again after this, in seconds: a host that was silent or busy may be there now.
const AGAIN_SECONDS: i64 = 60;
/// Each time that gave no plan doubles that, up to so often.
const DOUBLED: u32 = 4;

/// How long after a plan was made, or was no news, what calls as before is planned for again.
pub fn again_after(without_news: u32) -> SignedDuration {
    SignedDuration::from_secs(AGAIN_SECONDS << without_news.min(DOUBLED))
}

/// Is the plan to be started by the server now? `Err`: why not.
///
/// # Errors
/// A person is to start it, it lacks approvals, or the server starts nothing by itself (`restored`).
pub fn may_start(
    start: CycleStart,
    plan: u64,
    lacking: Option<&Hold>,
    restored: Option<&Hold>,
) -> Result<(), Hold> {
    if let Some(hold) = lacking {
        return Err(hold.clone());
    }
    match (start, restored) {
        (CycleStart::Propose, _) => Err(Hold::NotStarted { plan }),
        (CycleStart::Automatic, Some(hold)) => Err(hold.clone()),
        (CycleStart::Automatic, None) => Ok(()),
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
            declared_by: BTreeSet::new(),
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

    fn hosts(cohort: &str, changes: &[(&str, &str)]) -> BTreeMap<HostId, HostPlan> {
        use crate::assignment::{ApplyOrder, PackageChange};
        use crate::plan::Work;
        let change = |(name, to): &(&str, &str)| PackageChange {
            name: (*name).into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: (*to).into(),
            sha256: Digest::of(to.as_bytes()),
            size: 1,
        };
        let changes = changes.iter().map(change).map(crate::Shared::from).collect();
        let work = Work {
            order: ApplyOrder { changes, ..ApplyOrder::default() },
            why: BTreeMap::new(),
            restarts: vec![],
            reboot_likely: false,
            due: None,
            ignore_windows: false,
        };
        let host = HostPlan {
            name: "a".into(),
            cohort: Digest::of(cohort.as_bytes()),
            ring: "all".into(),
            wave: 0,
            work: work.into(),
        };
        [(HostId::from("a"), host)].into()
    }

    #[test]
    fn a_plan_covers_the_very_changes_on_the_very_state_of_a_host() {
        let covered = |cohort: &str, changes: &[(&str, &str)]| covered_by(&hosts(cohort, changes));
        let it = covered("c", &[("libssl3", "2"), ("openssl", "2")]);
        assert_eq!(it, covered("c", &[("openssl", "2"), ("libssl3", "2")]), "order is nothing");
        assert_ne!(it, covered("c", &[("libssl3", "2")]));
        assert_ne!(it, covered("c", &[("libssl3", "2"), ("openssl", "3")]));
        assert_ne!(it, covered("other", &[("libssl3", "2"), ("openssl", "2")]), "another host");
    }

    #[test]
    fn what_an_older_server_planned_is_not_planned_again_after_an_upgrade() {
        let same = hosts("c", &[("openssl", "2"), ("libssl3", "2")]);
        let other = hosts("c", &[("openssl", "3"), ("libssl3", "2")]);
        for state in [EmergencyState::Open, EmergencyState::Started { rollout: "ro-1".into() }] {
            let mut old = plan(1, &[], state);
            // As it was noted then.
            let noted = |id: &HostId| (id.clone(), Digest::of_json(&same[id].order.changes));
            old.covers = same.keys().map(noted).collect();
            let news = |it: &BTreeMap<_, _>| {
                is_news(&covered_by(it), &covered_before_by(it), std::slice::from_ref(&old))
            };
            assert!(!news(&same));
            assert!(news(&other), "another change is another plan");
        }
    }

    #[test]
    fn a_plan_of_an_older_server_is_at_the_word_of_who_had_declared_what_it_is_for() {
        let word = |finding: &str, by: &str, when| Declared {
            finding: finding.into(),
            reason: String::new(),
            by: by.into(),
            principal: String::new(),
            at: at(when),
            until: at(99),
        };
        let all = [word("CVE-1", "ann", -5), word("CVE-2", "bob", 5), word("CVE-3", "eve", -5)];
        let mut old = plan(1, &[("a", "x")], EmergencyState::Open);
        old.findings = ["CVE-1".to_owned(), "CVE-2".to_owned()].into();
        assert_eq!(declarers_of_older(&old, &all), ["ann".to_owned()].into(), "bob came later");
        old.declared_by = ["eve".to_owned()].into();
        assert_eq!(declarers_of_older(&old, &all), BTreeSet::new(), "it is known");
    }

    #[test]
    fn what_another_plan_covers_is_not_planned_again() {
        let no = CoveredBefore::default();
        let open = [plan(1, &[("a", "x"), ("b", "x")], EmergencyState::Open)];
        assert!(!is_news(&covering(&[("a", "x")]), &no, &open), "a host less is no news");
        assert!(is_news(&covering(&[("a", "x"), ("c", "x")]), &no, &open), "a host more is");
        assert!(is_news(&covering(&[("a", "y")]), &no, &open), "and so is another change");
        let went = EmergencyState::Started { rollout: "ro-1".into() };
        assert!(!is_news(&covering(&[("a", "x")]), &no, &[plan(1, &[("a", "x")], went)]));
        let overtaken = [plan(1, &[("a", "x")], EmergencyState::Overtaken)];
        assert!(is_news(&covering(&[("a", "x")]), &no, &overtaken));
        assert!(!is_news(&BTreeMap::new(), &no, &[]), "nothing to do is no news");
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
        let restored = Hold::Restored { from: at(0) };
        let start = |start, lacking, restored| may_start(start, 3, lacking, restored);
        let (automatic, propose) = (CycleStart::Automatic, CycleStart::Propose);
        assert_eq!(start(automatic, Some(&lacking), Some(&restored)), Err(lacking.clone()));
        assert_eq!(start(automatic, None, None), Ok(()));
        assert_eq!(start(automatic, None, Some(&restored)), Err(restored.clone()));
        assert_eq!(start(propose, None, None), Err(Hold::NotStarted { plan: 3 }));
    }

    #[test]
    fn what_is_no_news_is_planned_for_less_and_less_often_but_never_given_up() {
        let seconds: Vec<i64> = (0..6).map(|n| again_after(n).as_secs()).collect();
        assert_eq!(seconds, [60, 120, 240, 480, 960, 960]);
        assert_eq!(again_after(u32::MAX).as_secs(), 960);
    }

    #[test]
    fn whoever_declared_what_a_plan_is_for_is_known_by_their_principal() {
        let said = |finding: &str, by: &str, principal: &str| Declared {
            finding: finding.into(),
            reason: String::new(),
            by: by.into(),
            principal: principal.into(),
            at: at(0),
            until: at(1),
        };
        let all = [
            said("CVE-1", "alice", "admin"),
            said("CVE-2", "bob", ""),
            said("CVE-3", "eve", "eve"),
        ];
        let named = declarers(&all, &["CVE-1".to_owned(), "CVE-2".to_owned()].into());
        assert_eq!(named, ["admin".to_owned(), "bob".to_owned()].into());
        let text = r#"{"finding":"CVE-1","reason":"r","by":"bob","at":"2026-11-01T00:00:00Z","until":"2026-11-02T00:00:00Z"}"#;
        let old: Declared = serde_json::from_str(text).unwrap();
        assert_eq!(old.declarer(), "bob");
        assert!(!serde_json::to_string(&old).unwrap().contains("principal"));
    }
}
