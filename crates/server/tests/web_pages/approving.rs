//! What is put before those who approve, with the worst that hosts, workers and evaluators may have written into it.

use super::*;
use fettle_core::plan::{PlanDiff, diff};
use fettle_core::rollout::{Answer, GateEvidence, Judged, Says};
use fettle_core::testbed::{
    Covered, Mirror, Phase as Part, Standing, TestReport, TestState, Verdict, Work as Tested,
};

/// The plan, with what of it was tried on twins: one passed, one failed, one waits.
pub(crate) fn plan_tested() -> PlanDetail {
    let it = plan_to_approve();
    let work = |n: u8| Tested { cohort: Digest::of(&[n]), changes: Digest::of(b"changes") };
    let covered = |n: u8, standing| Covered {
        work: work(n),
        hosts: vec![id("web-1"), id("web-2")],
        like: HOSTILE_ATTRIBUTE.into(),
        changes: 3,
        standing,
        mirrored_percent: Some(98),
        test: Some(AssignmentId(format!("test-{n}"))),
    };
    let test = |n: u8, state| TestRow {
        number: n.into(),
        work: work(n),
        plan: it.number,
        like: HOSTILE.into(),
        asked_at: ago(900),
        asked_by: "server".into(),
        worker: Some(HOSTILE.into()),
        state,
    };
    let ended = |verdict| {
        let mirror = Mirror { wanted: 400, exact: 392, other: vec![], same_cohort: false };
        let report = TestReport { verdict, mirror, ..TestReport::not_tested("", "", "") };
        TestState::Ended { at: ago(300), report: Box::new(report) }
    };
    let tests = PlanTests {
        plan: it.number,
        required: true,
        cohorts: 3,
        cohorts_tested: 1,
        hosts: 6,
        hosts_covered: 2,
        percent: 33,
        hold: Some(Hold::TestFailed { like: HOSTILE.into(), reason: HOSTILE.into() }),
        works: vec![
            covered(1, Standing::Good { at: ago(300) }),
            covered(2, Standing::Failed { reason: HOSTILE.into() }),
            covered(3, Standing::Open { what: HOSTILE_ATTRIBUTE.into() }),
        ],
        tests: vec![
            test(1, ended(Verdict::Passed)),
            test(2, ended(Verdict::Failed { phase: Part::Patch, reason: HOSTILE.into() })),
            test(3, TestState::Waiting { why: HOSTILE.into() }),
        ],
    };
    PlanDetail { report: plan().report, tests: Some(tests), ..it }
}

/// From the plan to one for other hosts, with other names.
pub(crate) fn plan_diff() -> PlanDiff {
    let from = plan().plan;
    let mut to = Plan { number: 13, policy: HOSTILE.into(), ..from.clone() };
    to.hosts.pop_first();
    for (n, host) in to.hosts.values_mut().enumerate() {
        host.name = if n % 2 == 0 { HOSTILE.into() } else { HOSTILE_ATTRIBUTE.into() };
        host.wave = 0;
    }
    let others = from.hosts.into_iter().take(1);
    to.hosts.extend(others.map(|(_, host)| {
        (HostId::from("new-1"), HostPlan { name: HOSTILE_ATTRIBUTE.into(), ..host })
    }));
    diff(&plan().plan, &to)
}

/// The second wave is done and its gate judged; the third waits for somebody's word.
pub(crate) fn rollout_to_approve() -> RolloutDetail {
    let it = rollout_running();
    let judged = |check: &str, says, why: &str| Judged {
        check: check.into(),
        kind: "webhook".into(),
        says,
        why: why.into(),
        since: Some(ago(200)),
        bad: vec![id("web-2")],
        evidence: Some(GateEvidence {
            check: check.into(),
            wave: 1,
            asked_at: ago(30),
            answer: Answer::None { error: HOSTILE.into(), since: ago(200) },
        }),
    };
    let hold = Hold::WaveNotApproved {
        rollout: "ro-7".into(),
        wave: 2,
        ring: HOSTILE_ATTRIBUTE.into(),
        not: HOSTILE.into(),
    };
    RolloutDetail {
        gate: vec![
            judged("hosts", Says::Passes, "2 of 2 hosts are patched"),
            judged(HOSTILE, Says::Waits, HOSTILE_ATTRIBUTE),
            judged(HOSTILE_ATTRIBUTE, Says::Fails, HOSTILE),
        ],
        waiting: vec![Waiting { host: None, hold }],
        ..it
    }
}
