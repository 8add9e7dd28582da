//! Policies: compared before they are applied, kept in every version, explained for a host.

use crate::fleet::{CVE, Lab, NEW, POLICY};
use fettle_core::Hold;
use fettle_core::policy::{Counted, Cover, Explained, PolicyDiff};
use fettle_wire::api::{
    MakePlan, Page, PlanDetail, PolicyRow, PolicyVersion, RolloutDetail, StartRollout,
};

#[test]
fn a_policy_is_compared_before_it_is_applied_and_applied_only_over_what_it_was_compared_with() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let next = POLICY.replace("7d", "30d").replace("ring=canary", "ring=early");
    let answer = lab.post_bytes("/policy-diffs", next.as_bytes());
    let told: PolicyDiff = answer.json();
    let one: PolicyRow = lab.get("/policies/web");
    assert_eq!((told.from, told.hosts_from, told.hosts_to), (Some(one.digest), 1, 1));
    let what: Vec<_> = told.settings.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(what, ["class all.deadline", "ring canary.select"]);
    let by = |stage: &str| Cover::By { policy: "web".into(), stage: Some(stage.into()) };
    assert_eq!((&told.hosts[0].from, &told.hosts[0].to), (&by("canary"), &by("broad")));
    let moved = told.deadlines.iter().find(|m| m.finding == CVE).unwrap();
    let (from, to) = (moved.from.deadline.unwrap(), moved.to.deadline.unwrap());
    assert_eq!(to.duration_since(from).as_hours(), 23 * 24);
    // Nothing was applied by asking.
    assert_eq!(lab.get::<PolicyRow>("/policies/web").version, 1);
    // What was predicted is what is there once it is applied.
    let path = format!("/policies?if={}", one.digest);
    lab.post_bytes(&path, next.as_bytes());
    let explained: Explained = lab.get("/hosts/web-1/policy");
    let owed = explained.owed.iter().find(|o| o.finding == CVE).unwrap();
    assert_eq!((owed.deadline, explained.stage.as_deref()), (Some(to), Some("broad")));
    assert!(matches!(owed.counted, Some(Counted::FirstSeen { .. })), "{:?}", owed.counted);
    // Who compared with what was in force before comes too late; and each version stays.
    let (status, problem) = lab.refused("POST", &path, POLICY.as_bytes());
    assert_eq!((status, problem.code.as_str()), (409, "policy-changed"));
    assert!(problem.message.contains("version 2"), "{}", problem.message);
    assert_eq!(lab.refused("POST", "/policies?if=none", POLICY.as_bytes()).0, 409);
    assert_eq!(lab.refused("POST", "/policies?if=x", POLICY.as_bytes()).1.code, "bad-digest");
    let versions: Page<PolicyVersion> = lab.get("/policies/web/versions");
    let told: Vec<_> = versions.items.iter().map(|v| (v.version, v.in_force)).collect();
    assert_eq!(told, [(2, true), (1, false)]);
    assert_eq!((versions.items[1].digest, versions.items[1].text.as_str()), (one.digest, POLICY));
    assert_eq!(lab.refused("GET", "/policies/none/versions", b"").0, 404);
}

#[test]
fn a_host_is_told_which_policy_counts_what_is_owed_and_what_stands_in_the_way() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    agent.checkin(&lab);
    let it: Explained = lab.get("/hosts/web-1/policy");
    assert_eq!((it.policy.as_deref(), it.stage.as_deref()), (Some("web"), Some("canary")));
    assert!(it.policies[0].counts && it.stages[0].counts);
    assert_eq!(it.stages[0].conditions[0].found.as_deref(), Some("canary"));
    assert!(it.changes.iter().any(|c| c.to == NEW), "{:?}", it.changes);
    assert_eq!(it.holds, []);
    // At work, it is busy: what the plan would say, this says.
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
    let _: RolloutDetail = lab.post("/rollouts", &StartRollout { plan: plan.number, digest: None });
    let it: Explained = lab.get("/hosts/web-1/policy");
    assert!(it.holds.iter().any(|h| matches!(h, Hold::Busy { .. })), "{:?}", it.holds);
}
