use super::*;
use crate::policy::{CycleRule, Policy};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Tuesdays at six, Berlin; half a day to catch up.
fn rule(more: &str) -> CycleRule {
    let text = format!(
        "[policy]\nname = \"p\"\nselect = \"all\"\n[[class]]\nname = \"all\"\ndeadline = \"7d\"\n[[ring]]\nname = \"all\"\n\
         [cycle]\ndays = [\"tue\"]\nat = \"06:00\"\ntime-zone = \"Europe/Berlin\"\n{more}"
    );
    Policy::parse(&text).unwrap().cycle.unwrap()
}

const SINCE: &str = "2026-11-01T00:00:00Z";
/// The first and the second time it comes due.
const FIRST: &str = "2026-11-03T05:00:00Z";
const SECOND: &str = "2026-11-10T05:00:00Z";

fn owing() -> CycleSeen {
    CycleSeen { owed: 3, offered: 5, ..CycleSeen::default() }
}

fn decided(
    rule: &CycleRule,
    last: Option<&CycleRun>,
    seen: &CycleSeen,
    now: &str,
) -> CycleDecision {
    decide(&CycleInput { rule, since: at(SINCE), last, seen, now: at(now) })
}

fn run(due: &str, state: CycleState) -> CycleRun {
    CycleRun { due: at(due), seen_at: at(due), skipped: 0, state }
}

fn kept(decision: &CycleDecision) -> &CycleRun {
    match &decision.step {
        Some(CycleStep::Keep(run)) => run,
        other => panic!("{other:?}"),
    }
}

fn outcome(decision: &CycleDecision) -> &CycleOutcome {
    match &kept(decision).state {
        CycleState::Ended { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_happens_before_the_cycle_comes_due_and_it_is_known_when_it_does() {
    let decision = decided(&rule(""), None, &owing(), "2026-11-03T04:59:59Z");
    assert_eq!((decision.step, decision.holds), (None, vec![]));
    assert_eq!(decision.next_due, Some(at(FIRST)));
}

#[test]
fn when_it_comes_due_a_plan_is_made_once() {
    let rule = rule("");
    let decision = decided(&rule, None, &owing(), FIRST);
    let Some(CycleStep::MakePlan(due)) = &decision.step else { panic!("{decision:?}") };
    assert_eq!((due.due, due.skipped), (at(FIRST), 0));
    assert_eq!(decision.next_due, Some(at(SECOND)));
    let done = planned(due, &rule, 7, false, at(FIRST));
    let CycleState::Ended { outcome, .. } = &done.state else { panic!("{done:?}") };
    assert_eq!(*outcome, CycleOutcome::Proposed { plan: 7 });
    let after = decided(&rule, Some(&done), &owing(), "2026-11-09T00:00:00Z");
    assert_eq!((after.step, after.holds), (None, vec![]));
}

#[test]
fn an_automatic_cycle_starts_when_its_plan_is_approved() {
    let rule = rule("start = \"automatic\"");
    let due = run(FIRST, CycleState::Held { holds: vec![] });
    let waiting = planned(&due, &rule, 7, false, at(FIRST));
    assert_eq!(waiting.state, CycleState::Planned { plan: 7 });
    let lacking = Hold::NotApproved { given: 0, needed: 1 };
    let seen = |standing| CycleSeen { plan: Some(standing), ..owing() };
    let decide = |seen: &CycleSeen, now| decided(&rule, Some(&waiting), seen, now);
    let held = decide(&seen(PlanStanding::Lacking(lacking.clone())), "2026-11-04T00:00:00Z");
    assert_eq!((held.step, held.holds), (None, vec![lacking.clone()]));
    let go = decide(&seen(PlanStanding::Approved), "2026-11-04T00:00:00Z");
    assert_eq!(go.step, Some(CycleStep::Start { run: waiting.clone(), plan: 7 }));
    let busy = CycleSeen { under_way: Some("ro-1".into()), ..seen(PlanStanding::Approved) };
    assert_eq!(
        decide(&busy, "2026-11-04T00:00:00Z").holds,
        [Hold::PolicyBusy { rollout: "ro-1".into() }]
    );
    let theirs = decide(&seen(PlanStanding::Started("ro-2".into())), "2026-11-04T00:00:00Z");
    assert_eq!(kept(&theirs).state, CycleState::Started { plan: 7, rollout: "ro-2".into() });
    let gone = decide(&seen(PlanStanding::Overtaken), "2026-11-04T00:00:00Z");
    assert_eq!(*outcome(&gone), CycleOutcome::Overtaken { plan: 7 });
    let late = decide(&seen(PlanStanding::Lacking(lacking)), SECOND);
    assert_eq!(*outcome(&late), CycleOutcome::NotApproved { plan: 7 });
    let empty = planned(&due, &rule, 7, true, at(FIRST));
    assert!(matches!(
        empty.state,
        CycleState::Ended { outcome: CycleOutcome::AllHeld { plan: 7 }, .. }
    ));
}

#[test]
fn an_approved_run_that_something_else_held_to_its_end_is_missed_and_says_what_held_it() {
    let due = run(FIRST, CycleState::Planned { plan: 7 });
    let approved = CycleSeen { plan: Some(PlanStanding::Approved), ..owing() };
    let busy = Hold::PolicyBusy { rollout: "ro-1".into() };
    let restored = Hold::Restored { from: at(SINCE) };
    let under_way = CycleSeen { under_way: Some("ro-1".into()), ..approved.clone() };
    let both = CycleSeen { restored: Some(restored.clone()), ..under_way.clone() };
    for (start, seen, holds) in [
        ("automatic", &under_way, vec![busy.clone()]),
        ("automatic", &both, vec![busy, restored]),
        ("propose", &approved, vec![Hold::NotStarted { plan: 7 }]),
        // Nobody was there between the last approval and now.
        ("automatic", &approved, vec![]),
    ] {
        let rule = rule(&format!("start = \"{start}\""));
        let before = decided(&rule, Some(&due), seen, "2026-11-04T00:00:00Z");
        assert_eq!(before.holds, holds);
        let late = decided(&rule, Some(&due), seen, SECOND);
        assert_eq!(*outcome(&late), CycleOutcome::Missed { holds });
    }
}

#[test]
fn a_restored_server_makes_plans_and_starts_none_until_somebody_lets_it() {
    let rule = rule("start = \"automatic\"");
    let restored = Hold::Restored { from: at(SINCE) };
    let seen = CycleSeen { restored: Some(restored.clone()), ..owing() };
    assert!(matches!(decided(&rule, None, &seen, FIRST).step, Some(CycleStep::MakePlan(_))));
    let due = run(FIRST, CycleState::Planned { plan: 7 });
    let seen = CycleSeen { plan: Some(PlanStanding::Approved), ..seen };
    let held = decided(&rule, Some(&due), &seen, FIRST);
    assert_eq!((held.step, held.holds), (None, vec![restored]));
    let let_go = CycleSeen { restored: None, ..seen };
    let step = decided(&rule, Some(&due), &let_go, FIRST).step;
    assert_eq!(step, Some(CycleStep::Start { run: due, plan: 7 }));
}

#[test]
fn with_nothing_to_do_it_does_nothing_and_says_so() {
    let nothing = CycleSeen { offered: 5, ..CycleSeen::default() };
    let decision = decided(&rule(""), None, &nothing, FIRST);
    assert_eq!(*outcome(&decision), CycleOutcome::NothingOwed);
    let all = decided(&rule("when = \"offered\""), None, &nothing, FIRST);
    assert!(matches!(all.step, Some(CycleStep::MakePlan(_))));
}

#[test]
fn every_reason_against_it_is_told_and_it_goes_on_when_they_are_gone() {
    let rule = rule("");
    let blackout = Hold::Blackout { reason: "closing".into(), until: at(SECOND) };
    let seen = CycleSeen {
        under_way: Some("ro-1".into()),
        blackout: Some(blackout.clone()),
        stale_feeds: vec!["debian-tracker".into()],
        failed: Some(("ro-1".into(), "two hosts were undone".into())),
        unheard: Some(Hold::NoData { what: "hosts".into() }),
        ..owing()
    };
    let decision = decided(&rule, None, &seen, FIRST);
    let codes: Vec<_> = decision.holds.iter().map(Hold::code).collect();
    assert_eq!(codes, ["feeds-stale", "cycle-failed", "policy-busy", "blackout", "no-data"]);
    let held = kept(&decision).clone();
    assert_eq!(held.state, CycleState::Held { holds: decision.holds.clone() });
    // The same again is not kept again.
    let again = decided(&rule, Some(&held), &seen, "2026-11-03T06:00:00Z");
    assert_eq!((again.step, again.holds), (None, decision.holds.clone()));
    let free = decided(&rule, Some(&held), &owing(), "2026-11-03T07:00:00Z");
    assert!(matches!(free.step, Some(CycleStep::MakePlan(run)) if run.due == at(FIRST)));
    let late = decided(&rule, Some(&held), &seen, "2026-11-03T17:00:00Z");
    assert_eq!(*outcome(&late), CycleOutcome::Missed { holds: decision.holds });
}

#[test]
fn stale_data_is_no_proof_that_nothing_is_owed() {
    let seen = CycleSeen { stale_feeds: vec!["kev".into()], ..CycleSeen::default() };
    let decision = decided(&rule(""), None, &seen, FIRST);
    assert_eq!(decision.holds, [Hold::FeedsStale { feeds: vec!["kev".into()] }]);
}

#[test]
fn what_was_missed_is_caught_up_with_once_and_not_for_ever() {
    let rule = rule("");
    let done = run(FIRST, CycleState::Ended { outcome: CycleOutcome::NothingOwed, at: at(FIRST) });
    // Three weeks without a server, back an hour after the third.
    let decision = decided(&rule, Some(&done), &owing(), "2026-11-24T06:00:00Z");
    let Some(CycleStep::MakePlan(run)) = &decision.step else { panic!("{decision:?}") };
    assert_eq!((run.due, run.skipped), (at("2026-11-24T05:00:00Z"), 2));
    let decision = decided(&rule, Some(&done), &owing(), "2026-11-24T17:00:00Z");
    assert_eq!(*outcome(&decision), CycleOutcome::Missed { holds: vec![] });
    assert_eq!(kept(&decision).skipped, 2);
    let first = decided(&rule, None, &owing(), "2026-11-24T06:00:00Z");
    assert!(matches!(first.step, Some(CycleStep::MakePlan(run)) if run.skipped == 3));
}

#[test]
fn what_came_due_before_the_rule_was_there_is_none_of_its_business() {
    let input = CycleInput {
        rule: &rule(""),
        since: at("2026-11-03T05:00:01Z"),
        last: None,
        seen: &owing(),
        now: at("2026-11-03T06:00:00Z"),
    };
    assert_eq!(decide(&input).step, None);
}

#[test]
fn a_rollout_that_goes_wrong_ends_the_run_so() {
    let rule = rule("");
    let state = CycleState::Started { plan: 7, rollout: "ro-1".into() };
    let under_way = run(FIRST, state);
    let seen = |standing| CycleSeen { rollout: Some(standing), ..owing() };
    let decide = |standing| decided(&rule, Some(&under_way), &seen(standing), SECOND);
    assert_eq!(
        decide(RolloutStanding::UnderWay).holds,
        [Hold::PolicyBusy { rollout: "ro-1".into() }]
    );
    assert_eq!(
        *outcome(&decide(RolloutStanding::Done)),
        CycleOutcome::Done { rollout: "ro-1".into() }
    );
    let failed = decide(RolloutStanding::Failed("halted".into()));
    assert_eq!(
        *outcome(&failed),
        CycleOutcome::Failed { rollout: "ro-1".into(), reason: "halted".into() }
    );
}

#[test]
fn a_time_that_the_clock_jumps_over_comes_at_the_jump_and_one_it_shows_twice_comes_once() {
    let daily = |time: &str| {
        let mut rule = rule("");
        rule.days.clear();
        rule.at_minute = time
            .split_once(':')
            .map(|(h, m)| h.parse::<u32>().unwrap() * 60 + m.parse::<u32>().unwrap())
            .unwrap();
        rule
    };
    let spring = daily("02:30");
    assert_eq!(spring.next_due(at("2027-03-28T00:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
    assert_eq!(spring.last_due(at("2027-03-28T12:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
    let autumn = daily("02:30");
    let first = at("2026-10-25T00:30:00Z");
    assert_eq!(autumn.next_due(at("2026-10-24T12:00:00Z")), Some(first));
    assert_eq!(autumn.next_due(first), Some(at("2026-10-26T01:30:00Z")));
    assert_eq!(autumn.last_due(at("2026-10-25T12:00:00Z")), Some(first));
}

/// A server that keeps each step and looks again, as the real one does: the plans it made, by run.
fn live(rule: &CycleRule, looks: &[(i64, u8)]) -> Vec<Timestamp> {
    let mut made = Vec::new();
    let mut last: Option<CycleRun> = None;
    let mut now = at(SINCE);
    for (pause, weather) in looks {
        now = now.checked_add(SignedDuration::from_secs(*pause)).unwrap();
        let seen = CycleSeen {
            owed: u64::from(weather & 1),
            under_way: (weather & 2 != 0).then(|| "ro-9".into()),
            stale_feeds: if weather & 4 != 0 { vec!["kev".into()] } else { vec![] },
            plan: Some(if weather & 8 != 0 {
                PlanStanding::Approved
            } else {
                PlanStanding::Lacking(Hold::NotApproved { given: 0, needed: 1 })
            }),
            rollout: Some(if weather & 16 != 0 {
                RolloutStanding::Done
            } else {
                RolloutStanding::UnderWay
            }),
            ..CycleSeen::default()
        };
        for round in 0.. {
            assert!(round < 10, "it does not settle");
            let input =
                CycleInput { rule, since: at(SINCE), last: last.as_ref(), seen: &seen, now };
            match decide(&input).step {
                None => break,
                Some(CycleStep::Keep(run)) => last = Some(run),
                Some(CycleStep::MakePlan(run)) => {
                    made.push(run.due);
                    last = Some(planned(&run, rule, made.len() as u64, false, now));
                }
                Some(CycleStep::Start { run, plan }) => {
                    last = Some(started(&run, plan, "ro-1".into()))
                }
            }
        }
    }
    made
}

proptest! {
    #[test]
    fn no_time_that_comes_due_gets_two_plans_whatever_happens(
        automatic: bool,
        looks in prop::collection::vec((0i64..500_000, 0u8..32), 1..60),
    ) {
        let rule = rule(if automatic { "start = \"automatic\"" } else { "" });
        let made = live(&rule, &looks);
        prop_assert!(made.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
        for due in made {
            prop_assert_eq!(rule.last_due(due), Some(due));
        }
    }
}
