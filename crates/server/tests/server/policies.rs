//! Policies: compared before they are applied, kept in every version, explained for a host.

use crate::fleet::{CVE, Lab, NEW, POLICY};
use fettle_core::Hold;
use fettle_core::policy::{Counted, Cover, Explained, PolicyDiff};
use fettle_wire::api::{
    Health, HostRow, MakePlan, Page, PlanDetail, PolicyRow, PolicyVersion, RolloutDetail,
    StartRollout,
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

#[test]
fn a_policy_governs_hosts_by_what_they_have_installed_and_counts_and_plans_and_explains_alike() {
    let lab = Lab::furnished();
    let mut web = lab.host("web-1", "canary");
    let mut behind = lab.host("web-2", "canary");
    behind.inventory.packages[0].version = "3.0.11-1".into();
    behind.checkin(&lab);
    let package = web.inventory.packages[0].name.clone();
    let older = format!("host.package.{package} < 3.0.12-1");
    let rest = format!(
        "[policy]\nname = \"old\"\nselect = \"{older}\"\npriority = 5\ntake = \"all\"\n\
         [[ring]]\nname = \"all\"\n[[budget]]\nname = \"old\"\nselect = \"host.package={package}\"\n\
         max-unavailable = 1\n"
    );
    let told: PolicyDiff = lab.post_bytes("/policy-diffs", rest.as_bytes()).json();
    assert_eq!(told.hosts_to, 1);
    lab.post_bytes("/policies", rest.as_bytes());
    let governed = |policy: &str| -> Vec<String> {
        let page: Page<HostRow> = lab.get(&format!("/hosts?policy={policy}"));
        page.items.into_iter().map(|row| row.name).collect()
    };
    assert_eq!((governed("old"), governed("web")), (vec!["web-2".into()], vec!["web-1".into()]));
    let it: Explained = lab.get("/hosts/web-2/policy");
    assert_eq!(it.policy.as_deref(), Some("old"));
    let seen = it.policies.iter().find(|p| p.name == "old").unwrap();
    assert_eq!(
        (seen.conditions[0].text.as_str(), seen.conditions[0].holds),
        (older.as_str(), true)
    );
    assert_eq!(seen.conditions[0].found.as_deref(), Some("3.0.11-1"));
    // What is planned is planned for the hosts that are shown, and the budget counts both hosts.
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "old".into(), hosts: vec![] });
    assert_eq!(plan.plan.hosts.len(), 1);
    assert_eq!(plan.plan.budgets[0].hosts.len(), 2);
    // Once it has the newer version it is another policy's, and nothing was asked of it but what it tells anyway.
    behind.inventory.packages[0].version = "3.0.13-1".into();
    behind.checkin(&lab);
    web.checkin(&lab);
    assert_eq!((governed("old"), governed("web").len()), (vec![], 2));
    // What is wrong in such a selector is told with its place in the file.
    let wrong = rest.replace("< 3.0.12-1", "< 3.*");
    let (_, problem) = lab.refused("POST", "/policies", wrong.as_bytes());
    assert!(problem.message.contains("line 3, column"), "{}", problem.message);
    assert!(problem.message.contains("not one version"), "{}", problem.message);
}

#[test]
fn a_policy_in_force_that_cannot_be_read_stops_all_planning_and_says_so_until_it_is_corrected() {
    let mut lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    let everything =
        "[policy]\nname = \"rest\"\nselect = \"all\"\npriority = -1\n[[ring]]\nname = \"all\"\n";
    lab.post_bytes("/policies", everything.as_bytes());
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    let sql =
        "UPDATE policies SET text = text || char(10) || '[of-a-later-version]' WHERE name = 'web'";
    assert_eq!(raw.execute(sql, []).unwrap(), 1);
    drop(raw);
    lab.restart();
    // The host is web's: by the other policy it must not be changed, however plainly that one selects it.
    for policy in ["rest", "web"] {
        let asked = MakePlan { policy: policy.into(), hosts: vec![] };
        let (_, problem) = lab.refused("POST", "/plans", &serde_json::to_vec(&asked).unwrap());
        assert_eq!(problem.code, "policy-not-read", "{policy}: {}", problem.message);
    }
    let rows: Page<PolicyRow> = lab.get("/policies");
    let unread: Vec<_> = rows.items.iter().filter(|row| row.unread.is_some()).collect();
    assert_eq!(unread.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["web"]);
    assert!(unread[0].unread.as_ref().is_some_and(|why| why.contains("of-a-later-version")));
    let health: Health = lab.get("/doctor");
    let told = health.symptoms.iter().find(|symptom| symptom.part == "policies").unwrap();
    assert!(told.what.contains("nothing is planned"), "{}", told.what);
    // Its successor follows what is in force, and everything goes on.
    let diff: PolicyDiff = lab.post_bytes("/policy-diffs", POLICY.as_bytes()).json();
    assert_eq!(diff.from, Some(unread[0].digest));
    lab.post_bytes(&format!("/policies?if={}", unread[0].digest), POLICY.as_bytes());
    agent.checkin(&lab);
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
    assert_eq!(plan.plan.hosts.len(), 1);
}
