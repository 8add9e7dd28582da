//! What policies do by themselves: cycles at their time, emergencies at once.

use crate::fleet::{Agent, CVE, Lab, NEW, POLICY, TRACKER, finished, inventory, until};
use fettle_core::cycle::{CycleOutcome, CycleState};
use fettle_core::emergency::EmergencyState;
use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::Role;
use fettle_core::rollout::Phase;
use fettle_core::{Hold, Timestamp};
use fettle_server::backup::{backup, backup_keys, restore};
use fettle_wire::api::{
    ApiProblem, ApprovePlan, ApproveWave, Because, CycleRow, DeclareEmergency, Emergencies,
    LedgerVerified, Overview, Page, PlanDetail, PlanTests, RolloutDetail, RolloutRow,
};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::time::{Duration, Instant};

/// The usual policy with a cycle that came due five minutes ago, every day.
fn cycle(more: &str) -> String {
    let due = Timestamp::now() - SignedDuration::from_mins(5);
    let time = due.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    format!("{POLICY}\n[cycle]\nat = \"{time}\"\ntime-zone = \"UTC\"\n{more}\n")
}

/// Applies a policy as if that had been an hour ago, and starts a server after the cycle has come due: it was down.
fn come_due(lab: &mut Lab, agents: &mut [Agent], text: &str) {
    lab.post_bytes("/policies", text.as_bytes());
    lab.kill();
    an_hour_ago(lab);
    lab.restart();
    agents.iter_mut().for_each(|agent| drop(agent.checkin(lab)));
}

/// Policies are as if they had been applied an hour earlier than they were.
fn an_hour_ago(lab: &Lab) {
    let hour = 3_600_000_000_i64;
    let database = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute("UPDATE policies SET applied_at = applied_at - $1", [hour]).unwrap();
}

fn row(lab: &Lab) -> CycleRow {
    lab.get::<Page<CycleRow>>("/cycles").items.remove(0)
}

/// The cycle once its newest run is so.
fn run(lab: &Lab, what: &str, done: impl Fn(&CycleState) -> bool) -> CycleRow {
    until(what, || Some(row(lab)).filter(|row| row.runs.first().is_some_and(|r| done(&r.state))))
}

fn ended(state: &CycleState) -> Option<&CycleOutcome> {
    match state {
        CycleState::Ended { outcome, .. } => Some(outcome),
        _ => None,
    }
}

fn plans(lab: &Lab) -> Page<PlanDetail> {
    lab.get("/plans")
}

#[test]
fn a_cycle_that_came_due_while_the_server_was_down_is_caught_up_with_once() {
    let mut lab = Lab::furnished();
    let mut agents = [lab.host("web-1", "canary")];
    come_due(&mut lab, &mut agents, &cycle(""));
    let it = run(&lab, "the plan", |state| ended(state).is_some());
    let last = &it.runs[0];
    assert_eq!(ended(&last.state), Some(&CycleOutcome::Proposed { plan: 1 }));
    assert!(it.next_due.unwrap() > Timestamp::now() && it.holds.is_empty());
    let made = plans(&lab);
    assert_eq!((made.total, made.items[0].made_by.as_str()), (1, "server"));
    assert_eq!(made.items[0].plan.hosts.len(), 1);
    // Whoever starts again finds it done.
    lab.restart();
    run(&lab, "the same run", |state| ended(state).is_some());
    let overview: Overview = lab.get("/overview");
    assert_eq!((overview.cycles.len(), overview.cycles[0].runs.len()), (1, 1));
    assert_eq!(plans(&lab).total, 1);
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn with_nothing_owed_a_cycle_makes_no_plan_and_says_so() {
    let mut lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    agent.inventory = inventory(NEW);
    agent.checkin(&lab);
    come_due(&mut lab, &mut [agent], &cycle(""));
    let it = run(&lab, "the end", |state| ended(state).is_some());
    assert_eq!(ended(&it.runs[0].state), Some(&CycleOutcome::NothingOwed));
    assert_eq!(plans(&lab).total, 0);
}

#[test]
fn an_automatic_cycle_starts_its_rollout_once_somebody_approved() {
    let mut lab = Lab::furnished();
    let mut agents = vec![lab.host("web-1", "canary")];
    let text = cycle("start = \"automatic\"");
    let text = text.replace("description = ", "approvals = 1\ndescription = ");
    come_due(&mut lab, &mut agents, &text);
    let it = run(&lab, "the plan", |state| matches!(state, CycleState::Planned { plan: 1 }));
    assert_eq!(it.holds, [Hold::NotApproved { given: 0, needed: 1 }]);
    assert_eq!(lab.get::<Page<RolloutRow>>("/rollouts").total, 0);
    let bob = lab.add("bob", &[Role::Approver]);
    let digest = plans(&lab).items[0].digest;
    let asked = serde_json::to_vec(&ApprovePlan { digest, comment: String::new() }).unwrap();
    assert_eq!(lab.call_as(&bob, "bob", "POST", "/plans/1/approvals", &asked).status, 201);
    let it = run(&lab, "the start", |state| matches!(state, CycleState::Started { .. }));
    assert_eq!(it.holds, [Hold::PolicyBusy { rollout: "ro-1".into() }]);
    let rollout: RolloutDetail = lab.get("/rollouts/ro-1");
    assert_eq!(rollout.row.created_by, "server");
    assert_eq!(rollout.approvals.len(), 1);
    finished(&lab, &mut agents);
    let it = run(&lab, "the end", |state| ended(state).is_some());
    assert_eq!(ended(&it.runs[0].state), Some(&CycleOutcome::Done { rollout: "ro-1".into() }));
}

#[test]
fn a_cycle_whose_rollout_was_aborted_waits_for_a_person() {
    let mut lab = Lab::furnished();
    let mut agents = [lab.host("web-1", "canary")];
    come_due(&mut lab, &mut agents, &cycle("start = \"automatic\""));
    run(&lab, "the start", |state| matches!(state, CycleState::Started { .. }));
    let why = Because { reason: "the database is being moved".into(), hosts: vec![], wave: None };
    let _: RolloutDetail = lab.post("/rollouts/ro-1/abort", &why);
    let it = run(&lab, "the end", |state| ended(state).is_some());
    assert!(matches!(ended(&it.runs[0].state), Some(CycleOutcome::Failed { .. })), "{it:?}");
    assert!(it.failed.unwrap().contains("the database is being moved"));
    let body =
        serde_json::to_vec(&Because { reason: String::new(), hosts: vec![], wave: None }).unwrap();
    assert_eq!(lab.refused("POST", "/cycles/web/resume", &body).1.code, "bad-reason");
    let why = Because { reason: "it has been moved".into(), hosts: vec![], wave: None };
    let after: CycleRow = lab.post("/cycles/web/resume", &why);
    assert_eq!(after.failed, None);
    let body = serde_json::to_vec(&why).unwrap();
    assert_eq!(lab.refused("POST", "/cycles/web/resume", &body).0, 404);
    assert_eq!(lab.refused("POST", "/cycles/nobody/resume", &body).0, 404);
}

#[test]
fn a_cycle_waits_for_data_that_are_young_enough() {
    let mut lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker?date=2024-01-01", TRACKER.as_bytes());
    lab.post_bytes("/policies", POLICY.as_bytes());
    let mut agents = [lab.host("web-1", "canary")];
    come_due(&mut lab, &mut agents, &cycle(""));
    let stale = [Hold::FeedsStale { feeds: vec!["debian-tracker".into()] }];
    let it = until("the hold", || Some(row(&lab)).filter(|row| row.holds == stale));
    assert!(matches!(it.runs[0].state, CycleState::Held { .. }));
    assert_eq!(plans(&lab).total, 0);
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    let it = run(&lab, "the plan", |state| ended(state).is_some());
    assert_eq!(ended(&it.runs[0].state), Some(&CycleOutcome::Proposed { plan: 1 }));
}

/// Windows that are closed now: open for a minute, twelve hours from now.
fn closed_window() -> String {
    let far = (Timestamp::now() + SignedDuration::from_hours(12)).to_zoned(TimeZone::UTC);
    let time = far.strftime("%H:%M").to_string();
    format!("[[window]]\nstart = \"{time}\"\nduration = \"1m\"\ntime-zone = \"UTC\"\n")
}

const KEV: &str = r#"{"count":1,"vulnerabilities":[{"cveID":"CVE-2024-5535","dateAdded":"2026-11-01","dueDate":"2026-11-22","knownRansomwareCampaignUse":"Unknown"}]}"#;

/// Known to be exploited cannot wait; everything else can.
fn urgent(head: &str) -> String {
    let class = "[[class]]\nname = \"kev\"\nkev = true\ndeadline = \"1d\"\nemergency = true\n\n[[class]]\nname = \"all\"";
    let text = POLICY.replace("[[class]]\nname = \"all\"", class);
    format!(
        "{}\n{}",
        text.replace("description = ", &format!("{head}\ndescription = ")),
        closed_window()
    )
}

fn emergencies(lab: &Lab) -> Emergencies {
    lab.get("/emergencies")
}

#[test]
fn what_becomes_known_to_be_exploited_is_planned_and_started_at_once_canary_first() {
    let lab = Lab::furnished();
    lab.post_bytes("/policies", urgent("emergency-start = \"automatic\"").as_bytes());
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    assert_eq!(emergencies(&lab).calling, []);
    lab.post_bytes("/feeds/kev", KEV.as_bytes());
    let it = until("the rollout", || {
        Some(emergencies(&lab)).filter(|it| {
            it.plans.first().is_some_and(|p| matches!(p.plan.state, EmergencyState::Started { .. }))
        })
    });
    assert_eq!((it.calling[0].hosts, it.plans.len()), (2, 1));
    assert!(it.calling[0].findings.contains(CVE));
    let plan: PlanDetail = lab.get("/plans/1");
    assert_eq!((plan.made_by.as_str(), plan.plan.waves.len()), ("server", 2));
    assert!(plan.plan.hosts.values().all(|host| host.ignore_windows), "windows open for it");
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.created_by, "server");
    let it = until("calm", || Some(emergencies(&lab)).filter(|it| it.calling.is_empty()));
    assert_eq!(it.plans.len(), 1);
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn an_operators_word_makes_a_plan_for_exactly_those_hosts_with_its_own_number_of_approvals() {
    let lab = Lab::furnished();
    let head = "approvals = 2\nemergency-approvals = 1\nemergency-start = \"automatic\"";
    lab.post_bytes("/policies", urgent(head).as_bytes());
    lab.host("canary-1", "canary");
    let mut fixed = lab.host("web-1", "broad");
    fixed.inventory = inventory(NEW);
    fixed.checkin(&lab);
    let asked =
        DeclareEmergency { finding: CVE.into(), reason: "seen in the wild".into(), seconds: 3600 };
    let told: Emergencies = lab.post("/emergencies", &asked);
    assert_eq!((told.declared.len(), told.calling[0].hosts), (1, 1));
    let it = until("the plan", || Some(emergencies(&lab)).filter(|it| !it.plans.is_empty()));
    let plan = &it.plans[0];
    assert_eq!(plan.waiting, Some(Hold::NotApproved { given: 0, needed: 1 }));
    assert_eq!((plan.plan.covers.len(), plan.plan.findings.contains(CVE)), (1, true));
    let detail: PlanDetail = lab.get("/plans/1");
    assert_eq!(detail.plan.approvals_needed, 1);
    let bob = lab.add("bob", &[Role::Approver]);
    let digest = detail.digest;
    let body = serde_json::to_vec(&ApprovePlan { digest, comment: String::new() }).unwrap();
    assert_eq!(lab.call_as(&bob, "bob", "POST", "/plans/1/approvals", &body).status, 201);
    until("the start", || {
        let it = emergencies(&lab);
        matches!(it.plans[0].plan.state, EmergencyState::Started { .. }).then_some(())
    });
    let rollout: RolloutDetail = lab.get("/rollouts/ro-1");
    assert_eq!((rollout.row.phase, rollout.hosts.len()), (Phase::Running, 1));
    let left = lab.call("DELETE", &format!("/emergencies/{CVE}?reason=over"), b"");
    assert_eq!(left.json::<Emergencies>().declared, []);
    assert_eq!(lab.refused("DELETE", &format!("/emergencies/{CVE}"), b"").0, 404);
    for bad in [
        DeclareEmergency { finding: "two words".into(), ..asked.clone() },
        DeclareEmergency { seconds: 1, ..asked.clone() },
        DeclareEmergency { reason: " ".into(), ..asked },
    ] {
        let body = serde_json::to_vec(&bad).unwrap();
        assert_eq!(lab.refused("POST", "/emergencies", &body).0, 422, "{bad:?}");
    }
}

/// The tracker with a second vulnerability that the same version fixes.
fn two_fixed() -> String {
    let second = r#""CVE-2024-5536": {"releases": {"bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.15-1~deb12u1"},
      "urgency": "not yet assigned", "fixed_version": "3.0.15-1~deb12u1"}}},
    "CVE-2024-0001""#;
    TRACKER.replace("\"CVE-2024-0001\"", second)
}

#[test]
fn nobody_at_whose_word_an_emergency_plan_was_made_approves_it_or_its_waves() {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", two_fixed().as_bytes());
    let head = "approvals = 1\nemergency-start = \"automatic\"";
    let policy =
        urgent(head).replace("bake = \"1s\"", "bake = \"1s\"\napproval = \"before:broad\"");
    lab.post_bytes("/policies", policy.as_bytes());
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    let roles = [Role::Operator, Role::Approver];
    let declare = |token: &str, name: &str, finding: &str| {
        let asked = DeclareEmergency {
            finding: finding.into(),
            reason: "seen in the wild".into(),
            seconds: 3600,
        };
        let body = serde_json::to_vec(&asked).unwrap();
        assert_eq!(lab.call_as(token, name, "POST", "/emergencies", &body).status, 200);
    };
    let [carol, dave, bob] = ["carol", "dave", "bob"].map(|name| (name, lab.add(name, &roles)));
    declare(&carol.1, carol.0, CVE);
    declare(&dave.1, dave.0, "CVE-2024-5536");
    let both = |it: &Emergencies| it.plans.first().is_some_and(|p| p.plan.findings.len() == 2);
    let it = until("the plan", || Some(emergencies(&lab)).filter(&both));
    let number = it.plans[0].plan.plan;
    let plan: PlanDetail = lab.get(&format!("/plans/{number}"));
    assert_eq!(plan.made_by, "carol");
    let digest = plan.digest;
    let body = serde_json::to_vec(&ApprovePlan { digest, comment: String::new() }).unwrap();
    let approve = |who: &(&str, String)| {
        lab.call_as(&who.1, who.0, "POST", &format!("/plans/{number}/approvals"), &body)
    };
    for declarer in [&carol, &dave] {
        let answer = approve(declarer);
        assert_eq!((answer.status, answer.json::<ApiProblem>().code.as_str()), (403, "own-plan"));
    }
    assert_eq!(approve(&bob).status, 201);
    until("the start", || {
        let plan = emergencies(&lab).plans.into_iter().find(|p| p.plan.plan == number)?;
        matches!(plan.plan.state, EmergencyState::Started { .. }).then_some(())
    });
    // The first wave begins by itself, the second at somebody's word.
    until("the second wave", || {
        for agent in &mut agents {
            agent.checkin(&lab);
            agent.work(&lab, true);
        }
        let it: RolloutDetail = lab.get("/rollouts/ro-1");
        it.waiting.into_iter().find(|w| w.hold.code() == "wave-not-approved")
    });
    let body = serde_json::to_vec(&ApproveWave { wave: 1, comment: String::new() }).unwrap();
    for declarer in [&carol, &dave] {
        let path = "/rollouts/ro-1/approve";
        let answer = lab.call_as(&declarer.1, declarer.0, "POST", path, &body);
        assert_eq!(
            (answer.status, answer.json::<ApiProblem>().code.as_str()),
            (403, "own-rollout")
        );
    }
    assert_eq!(lab.call_as(&bob.1, bob.0, "POST", "/rollouts/ro-1/approve", &body).status, 200);
    finished(&lab, &mut agents);
    until("the end of it", || emergencies(&lab).plans[0].waiting.is_none().then_some(()));
}

#[test]
fn a_plan_that_an_older_server_kept_is_still_not_approved_by_whoever_declared_what_it_is_for() {
    let lab = Lab::furnished();
    lab.post_bytes("/policies", urgent("approvals = 1").as_bytes());
    lab.host("web-1", "broad");
    let carol = lab.add("carol", &[Role::Operator, Role::Approver]);
    let declare = |finding: &str| {
        let reason = "seen in the wild".to_owned();
        let asked = DeclareEmergency { finding: finding.into(), reason, seconds: 3600 };
        let body = serde_json::to_vec(&asked).unwrap();
        assert_eq!(lab.call_as(&carol, "carol", "POST", "/emergencies", &body).status, 200);
    };
    declare(CVE);
    until("the plan", || Some(()).filter(|()| !emergencies(&lab).plans.is_empty()));
    // As an older server kept it.
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let older = "UPDATE emergency_plans SET body = json_remove(body, '$.declared_by'); \
                 UPDATE plans SET maker = 'server';";
    raw.execute_batch(older).unwrap();
    assert!(emergencies(&lab).plans[0].plan.declared_by.is_empty());
    // Whatever happens next has it looked at.
    declare("CVE-2099-1");
    let word = std::collections::BTreeSet::from(["carol".to_owned()]);
    until("the declarer", || {
        emergencies(&lab).plans.iter().all(|it| it.plan.declared_by == word).then_some(())
    });
    let plan: PlanDetail = lab.get("/plans/1");
    let approval = ApprovePlan { digest: plan.digest, comment: String::new() };
    let body = serde_json::to_vec(&approval).unwrap();
    let answer = lab.call_as(&carol, "carol", "POST", "/plans/1/approvals", &body);
    assert_eq!((answer.status, answer.json::<ApiProblem>().code.as_str()), (403, "own-plan"));
}

/// The same policy, with every change to be tested on a twin first.
fn tested(policy: &str) -> String {
    policy.replace("[gate]", "[testbed]\nrequired = true\n\n[gate]")
}

#[test]
fn plans_that_the_server_makes_by_itself_are_tested_as_those_that_people_make() {
    let mut lab = Lab::furnished();
    let mut agents = [lab.host("web-1", "canary")];
    come_due(&mut lab, &mut agents, &tested(&cycle("")));
    run(&lab, "the plan", |state| ended(state).is_some());
    let tests: PlanTests = lab.get("/plans/1/tests");
    assert_eq!((tests.required, tests.tests.len()), (true, 1), "{tests:?}");

    let lab = Lab::furnished();
    lab.post_bytes("/policies", tested(&urgent("")).as_bytes());
    lab.host("canary-1", "canary");
    lab.post_bytes("/feeds/kev", KEV.as_bytes());
    until("the plan", || Some(emergencies(&lab)).filter(|it| !it.plans.is_empty()));
    let tests: PlanTests = lab.get("/plans/1/tests");
    assert_eq!((tests.required, tests.tests.len()), (true, 1), "{tests:?}");
}

/// The server's machine is lost; another one is made from a backup of it, as it stands.
fn restored(mut lab: Lab) -> Lab {
    let (out, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, keys) = (out.path().join("backup.tar.gz"), out.path().join("keys.tar.gz"));
    backup(&lab.data(), &file).unwrap();
    backup_keys(&lab.data(), &keys).unwrap();
    lab.kill();
    restore(&file, &keys, fresh.path()).unwrap();
    lab.move_to(fresh);
    lab
}

fn release(lab: &Lab) -> u16 {
    let why = Because { reason: "all have reported".into(), hosts: vec![], wave: None };
    lab.call("POST", "/cycles/release", &serde_json::to_vec(&why).unwrap()).status
}

#[test]
fn a_restored_server_starts_no_cycle_by_itself_until_somebody_lets_it() {
    let mut lab = Lab::furnished();
    let mut agents = [lab.host("web-1", "canary")];
    lab.post_bytes("/policies", cycle("start = \"automatic\"").as_bytes());
    assert_eq!(release(&lab), 409, "it comes from no backup");
    lab.kill();
    an_hour_ago(&lab);
    let lab = restored(lab);
    agents.iter_mut().for_each(|agent| drop(agent.checkin(&lab)));
    let it = until("the hold", || {
        Some(row(&lab)).filter(|row| {
            let planned = row.runs.first().map(|run| &run.state);
            !row.holds.is_empty() && matches!(planned, Some(CycleState::Planned { .. }))
        })
    });
    assert!(matches!(it.holds[..], [Hold::Restored { .. }]), "{it:?}");
    assert_eq!(lab.get::<Page<RolloutRow>>("/rollouts").total, 0);
    let nothing = serde_json::to_vec(&Because { reason: String::new(), hosts: vec![], wave: None });
    assert_eq!(lab.refused("POST", "/cycles/release", &nothing.unwrap()).1.code, "bad-reason");
    assert_eq!(release(&lab), 200);
    run(&lab, "the start", |state| matches!(state, CycleState::Started { .. }));
    assert_eq!(release(&lab), 409, "once is enough");
    let ledger: Page<LedgerEntry> = lab.get("/ledger?limit=1000");
    assert!(ledger.items.iter().any(|e| e.kind == "cycle.released"));
}

#[test]
fn a_restored_server_plans_for_an_emergency_and_starts_nothing_until_somebody_lets_it() {
    let lab = Lab::furnished();
    lab.post_bytes("/policies", urgent("emergency-start = \"automatic\"").as_bytes());
    let mut canary = lab.host("canary-1", "canary");
    let mut lab = restored(lab);
    canary.checkin(&lab);
    lab.post_bytes("/feeds/kev", KEV.as_bytes());
    let waits = |lab: &Lab| emergencies(lab).plans.first().and_then(|p| p.waiting.clone());
    let hold = until("the plan", || waits(&lab));
    assert!(matches!(hold, Hold::Restored { .. }), "{hold:?}");
    lab.restart();
    canary.checkin(&lab);
    assert_eq!(waits(&lab), Some(hold), "a restart does not lift it");
    assert_eq!(release(&lab), 200);
    until("the start", || {
        let it = emergencies(&lab);
        matches!(it.plans[0].plan.state, EmergencyState::Started { .. }).then_some(())
    });
}

#[test]
fn a_host_more_gets_a_plan_in_the_place_of_the_open_one_and_a_restart_makes_none() {
    let mut lab = Lab::furnished();
    lab.post_bytes("/policies", urgent("").as_bytes());
    let mut canary = lab.host("canary-1", "canary");
    lab.post_bytes("/feeds/kev", KEV.as_bytes());
    let it = until("the plan", || Some(emergencies(&lab)).filter(|it| !it.plans.is_empty()));
    assert_eq!(it.plans[0].waiting, Some(Hold::NotStarted { plan: 1 }), "a person starts it");
    lab.restart();
    canary.checkin(&lab);
    lab.host("web-1", "broad");
    let it = until("the next plan", || Some(emergencies(&lab)).filter(|it| it.plans.len() > 1));
    assert_eq!((it.plans.len(), it.plans[0].plan.covers.len()), (2, 2));
    assert_eq!((it.plans[0].plan.plan, it.plans[0].plan.replaces), (2, Some(1)));
    assert_eq!(it.plans[1].plan.state, EmergencyState::Overtaken);
    assert_eq!(plans(&lab).total, 2);
}

#[test]
fn from_the_vendors_real_data_to_a_plan_in_force_it_takes_seconds() {
    let lab = Lab::start();
    let text = urgent("emergency-start = \"automatic\"")
        .replace("kev = true", "severity-at-least = \"negligible\"");
    lab.post_bytes("/policies", text.as_bytes());
    let _agents: Vec<Agent> = (0..10).map(|n| lab.host(&format!("web-{n}"), "canary")).collect();
    // A server that has just started listens before it plans, two check-ins and five seconds: some of that is in the figure.
    let begun = Instant::now();
    lab.post_bytes("/feeds/bundled", b"");
    let imported = begun.elapsed();
    let it = until("the plan in force", || {
        Some(emergencies(&lab)).filter(|it| {
            it.plans.first().is_some_and(|p| matches!(p.plan.state, EmergencyState::Started { .. }))
        })
    });
    let took = begun.elapsed();
    println!(
        "real tracker, {} hosts: imported and judged in {imported:?}, plan {} in force {took:?} after the import began",
        it.plans[0].plan.covers.len(),
        it.plans[0].plan.plan
    );
    assert_eq!(it.plans[0].plan.covers.len(), 10);
    assert!(it.plans[0].plan.findings.contains(CVE), "{it:?}");
    assert!(took.as_secs() < 60, "{took:?}");
}
