//! Ring 0: nothing is touched before its twin was.

use super::*;
use crate::testbed::{
    Mirror, Phase as Part, TestReport, TestState, TestbedRule, Tested, Verdict, Work,
};

fn tested(at: Timestamp, verdict: Verdict) -> Tested {
    let mirror = Mirror { wanted: 10, exact: 10, ..Mirror::default() };
    let report = TestReport { verdict, mirror, ..TestReport::not_tested("", "", "") };
    Tested { test: "test-1".into(), state: TestState::Ended { at, report: Box::new(report) } }
}

fn world() -> (World, Work) {
    let rule = TestbedRule { required: true, max_age_seconds: 3600, ..TestbedRule::default() };
    let plan = Plan { testbed: Some(rule), ..plan(&[&["a"], &["b"]], gate()) };
    let work = Work::of(&plan.hosts[&HostId::from("a")]);
    (World::new(plan), work)
}

#[test]
fn no_host_starts_before_its_twin_took_the_change_and_then_all_do() {
    let (mut w, work) = world();
    assert_eq!(w.look(), Vec::<String>::new());
    assert_eq!(w.waits_for().map(Hold::code), Some("not-tested"));
    let failed = Verdict::Failed { phase: Part::Patch, reason: "the service died".into() };
    w.seen.tests.insert(work, tested(w.now, failed));
    assert_eq!(w.pass(60), Vec::<String>::new());
    assert_eq!(w.waits_for().map(Hold::code), Some("test-failed"));
    assert_eq!(w.rollout.phase, Phase::Running, "a better test lets it go on");
    w.seen.tests.insert(work, tested(w.now, Verdict::Passed));
    assert_eq!(w.look(), ["tested", "granted a"]);
    assert_eq!(w.rollout.tested_at, Some(w.now));
}

#[test]
fn a_test_that_grows_old_before_the_first_host_starts_does_not_count_and_afterwards_it_stops_nobody()
 {
    let (mut w, work) = world();
    w.seen.tests.insert(work, tested(w.now, Verdict::Passed));
    assert_eq!(w.pass(3601), Vec::<String>::new());
    assert_eq!(w.waits_for().map(Hold::code), Some("not-tested"));
    w.seen.tests.insert(work, tested(w.now, Verdict::Passed));
    assert_eq!(w.look(), ["tested", "granted a"]);
    w.runs("a", Outcome::Patched);
    w.seen.tests.clear();
    w.look();
    w.pass(300);
    assert_eq!(w.rollout.wave, 1, "{:?}", w.holds);
    assert_eq!(w.pass(1000), ["granted b"]);
}

#[test]
fn a_plan_that_asks_for_no_test_waits_for_none() {
    let rule = TestbedRule::default();
    assert!(!rule.required);
    let mut w = World::new(Plan { testbed: Some(rule), ..plan(&[&["a"]], gate()) });
    assert_eq!(w.look(), ["granted a"]);
}

#[test]
fn a_grant_of_an_untested_plan_is_refused_whoever_decided_it() {
    let (mut w, _) = world();
    let grant = RolloutEvent::Granted {
        host: "a".into(),
        assignment: "ro-1/a/5".into(),
        generation: 5,
        expires_at: w.now,
    };
    let refused = w.rollout.apply(w.now, &grant).unwrap_err();
    assert!(refused.why.contains("not been tested"), "{refused}");
    let said = RolloutEvent::Tested { tests: vec![] };
    w.rollout.apply(w.now, &said).unwrap();
    assert!(w.rollout.apply(w.now, &said).is_err(), "once");
    assert!(w.rollout.apply(w.now, &grant).is_ok());
}

#[test]
fn a_rollout_whose_hosts_have_all_changed_ends_untested() {
    let (mut w, _) = world();
    for id in ["a", "b"] {
        w.host(id).cohort = Some(Digest::of(b"another"));
    }
    let said = w.look();
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:?}");
}

#[test]
fn what_only_hosts_that_have_ended_were_to_do_needs_no_test() {
    let rule = TestbedRule { required: true, ..TestbedRule::default() };
    let mut planned = Plan { testbed: Some(rule), ..plan(&[&["a"], &["b", "c"]], gate()) };
    planned.hosts.get_mut(&HostId::from("b")).unwrap().cohort = Digest::of(b"of its own");
    let own = Work::of(&planned.hosts[&HostId::from("b")]);
    let others = Work::of(&planned.hosts[&HostId::from("a")]);
    let mut w = World::new(planned);
    w.host("b").cohort = Some(own.cohort);
    w.seen.tests.insert(others, tested(w.now, Verdict::Passed));
    assert_eq!(w.look(), [""; 0]);
    assert!(matches!(w.waits_for(), Some(Hold::NotTested { cohorts: 1, of: 2, .. })));
    // Nobody can make a twin after it any more.
    w.host("b").cohort = Some(Digest::of(b"another"));
    assert_eq!(w.look(), ["cancelled b host-changed", "tested", "granted a"]);
}
