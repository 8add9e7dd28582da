//! Tables and random histories of the fold and of what comes next.

use super::*;
use crate::assignment::{ApplyOrder, Order};
use proptest::prelude::*;

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second as i64).unwrap()
}

fn assignment(order: Order) -> Assignment {
    Assignment {
        schema: 1,
        id: "ro-1/h-1/7".into(),
        host: "h-1".into(),
        generation: 7,
        rollout: "ro-1".into(),
        plan: Digest::of(b"plan"),
        issued_at: at(0),
        not_before: at(0),
        expires_at: at(3600),
        order,
    }
}

fn apply_order() -> TxEvent {
    TxEvent::Begun { assignment: assignment(Order::Apply(ApplyOrder::default())) }
}

fn undo_order() -> TxEvent {
    let order = Order::Undo { assignment: "ro-1/h-1/6".into(), reason: "asked".into() };
    TxEvent::Begun { assignment: assignment(order) }
}

fn fault(code: &str) -> Fault {
    Fault { code: code.into(), message: "it broke".into(), hint: "mend it".into() }
}

fn started(step: Step) -> TxEvent {
    TxEvent::Started { step }
}
fn finished(step: Step) -> TxEvent {
    TxEvent::Finished { step, facts: StepFacts::default() }
}
fn failed(step: Step) -> TxEvent {
    TxEvent::Failed { step, fault: fault("broken") }
}
fn undo_started() -> TxEvent {
    TxEvent::UndoStarted { reason: "why".into() }
}
fn undo_finished(differing: &[&str]) -> TxEvent {
    let differing = differing.iter().map(|s| (*s).to_owned()).collect();
    TxEvent::UndoFinished { facts: UndoFacts { differing, ..UndoFacts::default() } }
}
fn ended(outcome: Outcome) -> TxEvent {
    TxEvent::Ended { outcome }
}

/// `begun`, then all steps up to and including `last`, finished.
fn through(last: Step) -> Vec<TxEvent> {
    let steps =
        Step::ALL.into_iter().filter(|s| *s <= last).flat_map(|s| [started(s), finished(s)]);
    std::iter::once(apply_order()).chain(steps).collect()
}

fn journal(events: &[TxEvent]) -> Vec<Entry> {
    let entry = |(i, event): (usize, &TxEvent)| Entry {
        sequence: i as u64,
        at: at(i as u64),
        event: event.clone(),
    };
    events.iter().enumerate().map(entry).collect()
}

fn fold(events: &[TxEvent]) -> Result<Option<Progress>, IllegalEntry> {
    Progress::fold(&journal(events))
}

fn next(events: &[TxEvent]) -> Next {
    fold(events).unwrap().unwrap().next()
}

fn with(mut events: Vec<TxEvent>, more: &[TxEvent]) -> Vec<TxEvent> {
    events.extend_from_slice(more);
    events
}

#[test]
fn an_empty_journal_is_no_transaction() {
    assert_eq!(Progress::fold(&[]), Ok(None));
}

#[test]
fn steps_are_run_in_their_order_and_end_as_patched() {
    assert_eq!(next(&[apply_order()]), Next::Run(Step::Preflight));
    for pair in Step::ALL.windows(2) {
        assert_eq!(next(&through(pair[0])), Next::Run(pair[1]));
    }
    assert_eq!(next(&through(Step::Commit)), Next::End(Outcome::Patched));
    assert_eq!(next(&with(through(Step::Commit), &[ended(Outcome::Patched)])), Next::Nothing);
}

#[test]
fn an_order_about_traffic_has_one_step_that_may_always_be_run_again() {
    for (share, step) in [(0, Step::Drain), (10, Step::Commit)] {
        let begun = TxEvent::Begun { assignment: assignment(Order::Traffic { share }) };
        let events = vec![begun];
        assert_eq!(next(&events), Next::Run(step));
        let events = with(events, &[started(step)]);
        assert_eq!(next(&events), Next::Run(step), "interrupted");
        let again = with(events.clone(), &vec![started(step); STEP_ATTEMPTS as usize - 1]);
        let given_up = next(&again);
        assert!(matches!(given_up, Next::End(Outcome::Refused { .. })), "{given_up:?}");
        let refused = next(&with(events.clone(), &[failed(step)]));
        assert!(matches!(refused, Next::End(Outcome::Refused { .. })), "{refused:?}");
        let done = with(events, &[started(step), finished(step)]);
        assert_eq!(next(&done), Next::End(Outcome::Switched));
        assert!(fold(&with(done.clone(), &[ended(Outcome::Patched)])).is_err());
        assert_eq!(next(&with(done, &[ended(Outcome::Switched)])), Next::Nothing);
        assert!(fold(&with(vec![again[0].clone()], &[started(Step::Apply)])).is_err());
    }
    assert!(fold(&with(through(Step::Commit), &[ended(Outcome::Switched)])).is_err());
}

#[test]
fn an_interrupted_step_is_run_again_before_drain_and_recovered_from_drain_on() {
    for step in Step::ALL {
        let before = Step::ALL.into_iter().rfind(|s| *s < step);
        let events = with(before.map_or(vec![apply_order()], through), &[started(step)]);
        let expected = if step < Step::Drain { Next::Run(step) } else { Next::Recover(step) };
        assert_eq!(next(&events), expected, "{}", step.word());
        let again = fold(&with(events, &[started(step)]));
        assert_eq!(again.is_ok(), step < Step::Drain, "starting {} a second time", step.word());
    }
}

#[test]
fn a_failure_before_apply_refuses_and_a_failure_from_apply_on_undoes() {
    for step in Step::ALL {
        let before = Step::ALL.into_iter().rfind(|s| *s < step);
        let events =
            with(before.map_or(vec![apply_order()], through), &[started(step), failed(step)]);
        match next(&events) {
            Next::End(Outcome::Refused { fault }) => {
                assert!(step < Step::Apply);
                assert_eq!(fault.code, "broken");
            }
            Next::Undo { reason } => {
                assert!(step >= Step::Apply);
                assert_eq!(reason, format!("{} failed: it broke", step.word()));
            }
            other => panic!("{}: {other:?}", step.word()),
        }
    }
}

#[test]
fn a_grant_refused_right_before_apply_touches_nothing_and_refuses() {
    let refused = TxEvent::Failed { step: Step::Apply, fault: fault(Fault::GRANT_REFUSED) };
    let events = with(through(Step::Drain), &[refused]);
    assert!(matches!(next(&events), Next::End(Outcome::Refused { fault }) if fault.is_not_now()));
}

#[test]
fn an_undo_is_done_again_after_a_crash_but_not_for_ever() {
    let mut events = with(through(Step::Drain), &[started(Step::Apply), failed(Step::Apply)]);
    for _ in 0..UNDO_ATTEMPTS {
        assert!(matches!(next(&events), Next::Undo { .. }));
        events.push(undo_started());
    }
    assert!(
        matches!(next(&events), Next::End(Outcome::Quarantined { reason }) if reason.contains("5 times"))
    );
}

#[test]
fn a_step_that_is_interrupted_each_time_is_refused_in_the_end() {
    let mut events = vec![apply_order()];
    for _ in 0..STEP_ATTEMPTS {
        assert_eq!(next(&events), Next::Run(Step::Preflight));
        events.push(started(Step::Preflight));
    }
    let Next::End(outcome) = next(&events) else { panic!("it would be run for ever") };
    assert!(
        matches!(&outcome, Outcome::Refused { fault } if fault.code == "interrupted-too-often")
    );
    assert_eq!(next(&with(events, &[ended(outcome)])), Next::Nothing);
}

#[test]
fn an_undo_that_leaves_nothing_differing_ends_as_undone_and_any_other_in_quarantine() {
    let broken = with(
        through(Step::Activate),
        &[started(Step::Verify), failed(Step::Verify), undo_started()],
    );
    let clean = with(broken.clone(), &[undo_finished(&[])]);
    assert_eq!(next(&clean), Next::End(Outcome::Undone { reason: "why".into() }));
    let dirty = with(broken, &[undo_finished(&["/etc/a", "/etc/b"])]);
    let Next::End(Outcome::Quarantined { reason }) = next(&dirty) else { panic!() };
    assert!(reason.contains("2 of the files") && reason.contains("/etc/a"), "{reason}");
    assert!(fold(&with(dirty, &[ended(Outcome::Undone { reason: "why".into() })])).is_err());
}

#[test]
fn an_undo_order_begins_undoes_and_ends() {
    assert_eq!(next(&[undo_order()]), Next::Undo { reason: "asked".into() });
    let undone = [undo_order(), undo_started(), undo_finished(&[])];
    assert_eq!(next(&undone), Next::End(Outcome::Undone { reason: "why".into() }));
    let gone = [undo_order(), failed(Step::Preflight)];
    assert!(matches!(next(&gone), Next::End(Outcome::Refused { .. })));
    assert!(fold(&[undo_order(), started(Step::Preflight)]).is_err());
    assert!(fold(&[undo_order(), started(Step::Apply)]).is_err());
}

#[test]
fn quarantine_may_be_declared_once_the_host_was_touched_and_not_before() {
    let q = || ended(Outcome::Quarantined { reason: "disk".into() });
    assert!(fold(&with(through(Step::Drain), &[started(Step::Apply), q()])).is_ok());
    assert!(fold(&with(through(Step::Drain), &[q()])).is_err());
    assert!(fold(&[undo_order(), q()]).is_err());
    assert!(fold(&[undo_order(), undo_started(), q()]).is_ok());
}

#[test]
fn records_out_of_place_are_refused_and_change_nothing() {
    let table: Vec<(&str, Vec<TxEvent>, TxEvent)> = vec![
        ("begun twice", vec![apply_order()], apply_order()),
        ("a step too early", vec![apply_order()], started(Step::Stage)),
        ("finished without started", vec![apply_order()], finished(Step::Preflight)),
        (
            "another step finished",
            vec![apply_order(), started(Step::Preflight)],
            finished(Step::Stage),
        ),
        ("undo without a failure", through(Step::Apply), undo_started()),
        ("undo of an untouched host", vec![apply_order(), failed(Step::Preflight)], undo_started()),
        ("undo finished, not started", through(Step::Apply), undo_finished(&[])),
        ("patched before commit", through(Step::Verify), ended(Outcome::Patched)),
        (
            "refused after apply",
            through(Step::Apply),
            ended(Outcome::Refused { fault: fault("x") }),
        ),
        (
            "a step after a failure",
            vec![apply_order(), failed(Step::Preflight)],
            started(Step::Preflight),
        ),
        (
            "anything after the end",
            with(through(Step::Commit), &[ended(Outcome::Patched)]),
            ended(Outcome::Patched),
        ),
        (
            "a step after the end",
            with(through(Step::Commit), &[ended(Outcome::Patched)]),
            started(Step::Commit),
        ),
    ];
    for (what, before, odd) in table {
        let mut progress = fold(&before).unwrap().unwrap();
        let kept = progress.clone();
        let entry = Entry { sequence: progress.last + 1, at: at(99), event: odd };
        assert!(progress.push(&entry).is_err(), "{what}");
        assert_eq!(progress, kept, "{what}");
    }
}

#[test]
fn a_gap_and_a_doubled_number_are_refused_with_the_number() {
    let mut entries = journal(&through(Step::Stage));
    entries.remove(2);
    assert_eq!(Progress::fold(&entries), Err(IllegalEntry::Gap { expected: 2, found: 3 }));
    let mut entries = journal(&through(Step::Stage));
    let doubled = entries[1].clone();
    entries.insert(2, doubled);
    assert_eq!(Progress::fold(&entries), Err(IllegalEntry::Gap { expected: 2, found: 1 }));
    assert_eq!(
        Progress::fold(&journal(&[started(Step::Stage)])),
        Err(IllegalEntry::Begin { sequence: 0 })
    );
}

/// Carries a journal on as an executor does, each choice taken from `luck`; a crash is a record not written.
fn live(order: TxEvent, luck: &[u8]) -> Vec<TxEvent> {
    let mut events = vec![order];
    let mut luck = luck.iter().copied();
    while let Some(roll) = luck.next() {
        let event = match next(&events) {
            Next::Nothing => break,
            Next::End(outcome) => ended(outcome),
            Next::Undo { .. } => undo_started(),
            Next::Run(step) => match roll % 8 {
                0 => failed(step),
                _ => started(step),
            },
            Next::Recover(step) => match roll % 4 {
                0 => failed(step),
                _ => finished(step),
            },
        };
        let (step, undoing) = match &event {
            TxEvent::Started { step } => (Some(*step), false),
            TxEvent::UndoStarted { .. } => (None, true),
            _ => (None, false),
        };
        events.push(event);
        // Unless the crash comes here, what was started is carried to its end.
        match (luck.next().unwrap_or(0) % 5, step, undoing) {
            (0, ..) => {}
            (1, Some(step), _) => events.push(failed(step)),
            (_, Some(step), _) => events.push(finished(step)),
            (1, None, true) => events.push(undo_finished(&["/etc/x"])),
            (_, None, true) => events.push(undo_finished(&[])),
            _ => {}
        }
    }
    events
}

proptest! {
    #[test]
    fn a_crash_at_any_point_of_a_legal_history_leaves_what_comes_next_to_the_journal_alone(
        undo in any::<bool>(),
        luck in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let events = live(if undo { undo_order() } else { apply_order() }, &luck);
        let entries = journal(&events);
        let mut progress = Progress::fold(&entries[..1]).unwrap().unwrap();
        for (i, entry) in entries.iter().enumerate().skip(1) {
            prop_assert_eq!(progress.push(entry), Ok(()));
            let refolded = Progress::fold(&entries[..=i]).unwrap().unwrap();
            prop_assert_eq!(&refolded, &progress);
            prop_assert_eq!(refolded.next(), progress.next());
        }
        let applies = events.iter().filter(|e| **e == started(Step::Apply)).count();
        prop_assert!(applies <= 1, "apply was started {} times", applies);
        let ends = events.iter().filter(|e| matches!(e, TxEvent::Ended { .. })).count();
        prop_assert!(ends <= 1);
        if ends == 1 {
            prop_assert_eq!(progress.next(), Next::Nothing);
            let last = matches!(events.last(), Some(TxEvent::Ended { .. }));
            prop_assert!(last, "an end is final");
        }
        // Touched means changed: such a host never ends as refused.
        if applies == 1 {
            let refused = matches!(&progress.outcome, Some(Outcome::Refused { .. }));
            prop_assert!(!refused);
        }
    }

    #[test]
    fn an_executor_that_is_left_alone_comes_to_an_end(
        undo in any::<bool>(),
        luck in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut events = live(if undo { undo_order() } else { apply_order() }, &luck);
        for _ in 0..40 {
            match next(&events) {
                Next::Nothing => break,
                Next::Run(step) => events.extend([started(step), finished(step)]),
                Next::Recover(step) => events.push(finished(step)),
                Next::Undo { .. } => events.extend([undo_started(), undo_finished(&[])]),
                Next::End(outcome) => events.push(ended(outcome)),
            }
        }
        prop_assert_eq!(next(&events), Next::Nothing);
    }
}
