//! Agents' journals → events.

use super::*;

fn started(step: Step) -> TxEvent {
    TxEvent::Started { step }
}

#[test]
fn each_step_is_said_once_whatever_is_sent_again() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    w.look();
    let id = w.run("a").assignment.clone().unwrap();
    assert_eq!(
        w.report("a", &id, vec![started(Step::Preflight), started(Step::Stage)]),
        ["a preflight", "a stage"]
    );
    // Interrupted and started again: nothing new. All from the start: only what is new.
    assert_eq!(w.report("a", &id, vec![started(Step::Stage)]), [] as [&str; 0]);
    let all = Step::ALL.into_iter().map(started).collect();
    assert_eq!(w.report("a", &id, all).len(), 7);
    assert_eq!(w.run("a").step, Some(Step::Commit));
}

#[test]
fn the_records_of_another_assignment_say_nothing() {
    let mut w = World::new(plan(&[&["a", "b"]], gate()));
    w.look();
    let entries =
        [Entry { sequence: 0, at: t0(), event: TxEvent::Ended { outcome: Outcome::Patched } }];
    let of_b = w.run("b").assignment.clone().unwrap();
    assert_eq!(w.rollout.report(&"a".into(), &of_b, &entries), []);
    assert_eq!(w.rollout.report(&"a".into(), &"ro-1/a/4".into(), &entries), []);
    assert_eq!(w.rollout.report(&"nobody".into(), &of_b, &entries), []);
}

#[test]
fn an_undo_that_claims_to_have_patched_is_not_believed() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    w.look();
    w.runs("a", Outcome::Patched);
    let events = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap();
    w.take(&events[0]);
    let id = w.run("a").undo.clone().unwrap().assignment;
    assert_eq!(
        w.report("a", &id, vec![TxEvent::Ended { outcome: Outcome::Patched }]),
        [] as [&str; 0]
    );
    assert!(w.run("a").undo_at_work());
}

#[test]
fn a_silent_host_that_works_on_says_its_steps_and_stays_quarantined_until_it_ends() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    w.look();
    w.try_redeem("a").unwrap();
    w.mute = vec!["a".into()];
    w.pass(901);
    w.mute.clear();
    let id = w.run("a").assignment.clone().unwrap();
    assert_eq!(w.report("a", &id, vec![started(Step::Verify)]), ["a verify"]);
    assert_eq!(w.word("a"), "quarantined");
    // It asks again whether it may go on: it redeemed before, so it may.
    w.try_redeem("a").unwrap();
    assert_eq!(w.ends("a", Outcome::Patched), ["a patched"]);
}
