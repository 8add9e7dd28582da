//! Ring 0 with scripted workers.

use crate::fleet::{Agent, Lab, POLICY, finished, plan, rollout, start, until};
use fettle_core::assignment::{Assignment, Order};
use fettle_core::rollout::Phase;
use fettle_core::testbed::{Mirror, Phase as Part, TestOrder, TestReport, Verdict};
use fettle_core::{Hold, Problem};
use fettle_wire::agent::{Tested, TestedReply};
use fettle_wire::api::{
    ApiProblem, LedgerVerified, Page, PlanDetail, PlanTests, RunTests, TestRow,
};

/// Hosts of two rings, a worker in neither, and a policy that requires tests.
fn furnished() -> (Lab, Vec<Agent>, Agent) {
    let lab = Lab::furnished();
    let text = POLICY
        .replace("select = \"all\"", "select = \"not ring=worker\"")
        .replace("[gate]", "[testbed]\nrequired = true\nworker = \"ring=worker\"\n\n[gate]");
    lab.post_bytes("/policies", text.as_bytes());
    let hosts = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    let worker = lab.host("worker-1", "worker");
    (lab, hosts, worker)
}

/// Lets the worker speak until it is told to test something.
fn told(lab: &Lab, worker: &mut Agent) -> (Assignment, TestOrder) {
    until("a test for the worker", || {
        let signed = worker.checkin(lab).assignment?;
        let assignment = signed.open(&worker.assignment_key).unwrap();
        match &assignment.order {
            Order::Test(order) => Some((assignment.clone(), (**order).clone())),
            _ => None,
        }
    })
}

fn report(verdict: Verdict) -> TestReport {
    let mirror = Mirror { wanted: 2, exact: 2, other: vec![], same_cohort: true };
    TestReport { verdict, mirror, ..TestReport::not_tested("", "", "") }
}

fn tells(
    lab: &Lab,
    worker: &Agent,
    assignment: &Assignment,
    verdict: Verdict,
) -> Result<TestedReply, (u16, Problem)> {
    let tested = Tested {
        assignment: assignment.id.clone(),
        generation: assignment.generation,
        report: report(verdict),
    };
    worker.call(lab, "tested", &tested)
}

#[test]
fn a_rollout_waits_for_its_twin_and_goes_when_it_took_the_change() {
    let (lab, mut hosts, mut worker) = furnished();
    let made = plan(&lab);
    let tests = made.tests.clone().unwrap();
    assert!(tests.required);
    assert_eq!((tests.cohorts, tests.cohorts_tested, tests.hosts, tests.percent), (1, 0, 2, 0));
    start(&lab);
    let held = until("the hold", || {
        let waiting = rollout(&lab).waiting;
        waiting.into_iter().find(|w| w.hold.code() == "not-tested")
    });
    assert_eq!(held.host, None);
    for host in &mut hosts {
        assert!(host.checkin(&lab).assignment.is_none(), "no host is told anything");
    }
    let (assignment, order) = told(&lab, &mut worker);
    // The first of the hosts by id, which is drawn by lot.
    assert!(["canary-1", "web-1"].contains(&order.like.as_str()), "{}", order.like);
    assert_eq!(order.packages.len(), 2);
    assert_eq!(order.order.changes, made.plan.hosts[&hosts[0].id].order.changes);
    let kept = tells(&lab, &worker, &assignment, Verdict::Passed).unwrap();
    assert!(kept.kept);
    assert!(tells(&lab, &worker, &assignment, Verdict::Passed).unwrap().kept, "said again");
    let done = finished(&lab, &mut hosts);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&2));
    let tests: PlanTests = lab.get(&format!("/plans/{}/tests", made.number));
    assert_eq!((tests.cohorts_tested, tests.hosts_covered, tests.percent), (1, 2, 100));
    assert_eq!(tests.hold, None);
    assert!(worker.checkin(&lab).assignment.is_none(), "the worker is free");
    let ledger: LedgerVerified = lab.get("/ledger/verify");
    assert_eq!(ledger.broken, None);
}

#[test]
fn a_failed_twin_holds_the_rollout_bars_the_versions_and_a_better_test_lets_it_go() {
    let (lab, mut hosts, mut worker) = furnished();
    let made = plan(&lab);
    start(&lab);
    let (assignment, _) = told(&lab, &mut worker);
    let bad = Verdict::Failed { phase: Part::Patch, reason: "nginx.service has failed".into() };
    tells(&lab, &worker, &assignment, bad).unwrap();
    let held = until("the hold", || {
        let waiting = rollout(&lab).waiting;
        waiting.into_iter().find(|w| w.hold.code() == "test-failed")
    });
    let Hold::TestFailed { like, reason } = &held.hold else { panic!("{held:?}") };
    assert!(["canary-1", "web-1"].contains(&like.as_str()), "{like}");
    assert_eq!(reason, "patch: nginx.service has failed");
    assert_eq!(rollout(&lab).row.phase, Phase::Running);
    for host in &mut hosts {
        assert!(host.checkin(&lab).assignment.is_none());
    }
    // It is not tested again by itself.
    let all: Page<TestRow> = lab.get("/tests");
    assert_eq!(all.total, 1);
    let tests: PlanTests =
        lab.post(&format!("/plans/{}/tests", made.number), &RunTests { again: false });
    assert_eq!(tests.tests.len(), 1);
    assert_eq!(tests.tests[0].number, 1);
    let again = RunTests { again: true };
    let _: PlanTests = lab.post(&format!("/plans/{}/tests", made.number), &again);
    let (assignment, _) = told(&lab, &mut worker);
    tells(&lab, &worker, &assignment, Verdict::Passed).unwrap();
    finished(&lab, &mut hosts);
    // What a twin showed binds later plans of the cohort.
    let barred: Vec<_> = {
        let late = lab.host("late-1", "broad");
        let next = plan(&lab);
        assert!(!next.plan.hosts.contains_key(&late.id));
        next.plan.held().flat_map(|h| h.reasons.clone()).collect()
    };
    assert!(barred.iter().any(|r| r.code() == "version-barred"), "{barred:?}");
}

#[test]
fn a_test_survives_the_server_and_is_told_of_by_nobody_else() {
    let (mut lab, mut hosts, mut worker) = furnished();
    plan(&lab);
    let (assignment, order) = told(&lab, &mut worker);
    lab.restart();
    let (again, same) = told(&lab, &mut worker);
    assert_eq!((&again, &same), (&assignment, &order), "the very same order");
    let (status, problem) = tells(&lab, &hosts[0], &assignment, Verdict::Passed).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "not-yours"));
    let unclear = TestReport::not_tested("not-booted", "the twin did not boot", "look").verdict;
    tells(&lab, &worker, &assignment, unclear).unwrap();
    let row: TestRow = lab.get("/tests/1");
    assert_eq!(row.state.word(), "not-tested");
    // The server that came up has heard of nobody yet.
    for host in &mut hosts {
        host.checkin(&lab);
    }
    start(&lab);
    until("the hold", || rollout(&lab).waiting.into_iter().find(|w| w.hold.code() == "not-tested"));
    for host in &mut hosts {
        assert!(host.checkin(&lab).assignment.is_none());
    }
}

#[test]
fn one_host_is_tested_by_what_its_policy_means_for_it_now() {
    let (lab, _hosts, mut worker) = furnished();
    let ask = |host: &str, again| lab.post(&format!("/hosts/{host}/tests"), &RunTests { again });
    // No plan means a change for it yet: one for it alone is kept.
    let row: TestRow = ask("web-1", false);
    assert_eq!((row.number, row.plan, row.like.as_str()), (1, 1, "web-1"));
    assert!(row.state.is_open());
    let made: PlanDetail = lab.get("/plans/1");
    assert_eq!(made.plan.hosts.len(), 1);
    let row: TestRow = ask("web-1", true);
    assert_eq!((row.number, row.plan), (1, 1), "one test of the same is enough");
    let (assignment, order) = told(&lab, &mut worker);
    assert_eq!(order.like, "web-1");
    let made_order = made.plan.hosts.values().next().map(|host| host.order.changes.clone());
    assert_eq!(Some(order.order.changes), made_order);
    let bad = Verdict::NotTested { code: "x".into(), message: "no room".into(), hint: "h".into() };
    tells(&lab, &worker, &assignment, bad).unwrap();
    let row: TestRow = ask("web-1", false);
    assert_eq!((row.number, row.state.word()), (1, "not-tested"), "only when asked again");
    // Both hosts are of one cohort: the plan of all of them means the same for this one, and has the test.
    let all = plan(&lab);
    let row: TestRow = ask("canary-1", true);
    assert_eq!((row.number, row.plan, row.like.as_str()), (2, all.number, "canary-1"));
    let (assignment, _) = told(&lab, &mut worker);
    tells(&lab, &worker, &assignment, Verdict::Passed).unwrap();
    let row: TestRow = ask("web-1", true);
    assert_eq!((row.number, row.state.word()), (2, "passed"), "a good test of its cohort counts");
    let plans: Page<PlanDetail> = lab.get("/plans");
    assert_eq!(plans.total, 2, "asking keeps no plan that is not needed");
    // Whom no policy governs, and who has nothing pending, say so.
    let none = lab.call("POST", "/hosts/worker-1/tests", b"{}");
    assert_eq!((none.status, none.json::<ApiProblem>().code.as_str()), (409, "no-policy"));
}

#[test]
fn without_a_worker_the_reason_is_told() {
    let lab = Lab::furnished();
    let text = POLICY.replace("[gate]", "[testbed]\nrequired = true\n\n[gate]");
    lab.post_bytes("/policies", text.as_bytes());
    lab.host("canary-1", "canary");
    let tests = plan(&lab).tests.unwrap();
    let hold = tests.hold.unwrap().to_string();
    assert!(hold.contains("no host is a worker (`fettle.worker=true`)"), "{hold}");
}

#[test]
fn nobody_ends_a_change_of_a_host_by_telling_of_a_test() {
    let lab = Lab::furnished();
    let mut host = lab.host("canary-1", "canary");
    plan(&lab);
    start(&lab);
    let assignment = until("a change for the host", || {
        let signed = host.checkin(&lab).assignment?;
        Some(signed.open(&host.assignment_key).unwrap())
    });
    assert!(matches!(assignment.order, Order::Apply(_)));
    let (status, problem) = tells(&lab, &host, &assignment, Verdict::Passed).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (422, "no-test"));
    let again = host.checkin(&lab).assignment.expect("its order stands");
    assert_eq!(again.open(&host.assignment_key).unwrap().id, assignment.id);
}

#[test]
fn an_interrupted_test_is_asked_again_by_itself_three_times_and_says_why() {
    let (lab, _hosts, mut worker) = furnished();
    let made = plan(&lab);
    let why = "something else was wanted of its worker";
    let interrupted = TestReport::not_tested("interrupted", why, "ask for the test again").verdict;
    for time in 1..=4 {
        let (assignment, _) = told(&lab, &mut worker);
        tells(&lab, &worker, &assignment, interrupted.clone()).unwrap();
        tells(&lab, &worker, &assignment, interrupted.clone()).unwrap();
        let all: Page<TestRow> = lab.get("/tests");
        assert_eq!(all.total, u64::min(time + 1, 4), "once for each end, said twice or not");
    }
    assert!(worker.checkin(&lab).assignment.is_none(), "now a person decides");
    let tests: PlanTests = lab.get(&format!("/plans/{}/tests", made.number));
    let hold = tests.hold.unwrap().to_string();
    assert!(hold.contains(why), "{hold}");
    // Who asks again begins anew, and is told why it waits.
    let again = RunTests { again: true };
    let asked: PlanTests = lab.post(&format!("/plans/{}/tests", made.number), &again);
    let fettle_core::testbed::TestState::Waiting { why: said } = &asked.tests[0].state else {
        panic!("{:?}", asked.tests)
    };
    assert!(said.contains(why), "{said}");
    let (assignment, _) = told(&lab, &mut worker);
    tells(&lab, &worker, &assignment, Verdict::Passed).unwrap();
    let tests: PlanTests = lab.get(&format!("/plans/{}/tests", made.number));
    assert_eq!((tests.percent, tests.hold), (100, None));
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}
