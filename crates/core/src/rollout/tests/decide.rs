//! Waves, gates, budgets, windows, silence, halts.

use super::*;

fn two_waves() -> World {
    World::new(plan(&[&["a"], &["b", "c"]], gate()))
}

#[test]
fn a_rollout_goes_through_its_waves_gates_and_soaks_and_is_done() {
    let mut w = two_waves();
    assert_eq!(w.look(), ["granted a"]);
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.wake_at, Some(later(w.now, GRANT_SECONDS)));
    w.runs("a", Outcome::Patched);
    assert_eq!(w.look(), ["wave-ended 0"]);
    assert_eq!(w.waits_for().map(Hold::code), Some("bake"));
    assert_eq!(w.wake_at, Some(later(w.now, 300)));
    assert_eq!(w.pass(299), [] as [&str; 0]);
    assert_eq!(w.pass(1), ["gate-passed 0"]);
    assert!(matches!(w.waits_for(), Some(Hold::Soak { ring, .. }) if ring == "canary"));
    assert_eq!(w.wake_at, Some(later(w.now, 1000)));
    assert_eq!(w.pass(999), [] as [&str; 0]);
    assert_eq!(w.pass(1), ["granted b", "granted c"]);
    w.runs("b", Outcome::Patched);
    assert_eq!(w.look(), [] as [&str; 0]);
    assert!(matches!(w.waits_for(), Some(Hold::WaveRunning { wave: 1, unfinished: 1 })));
    w.runs("c", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
    assert_eq!(w.rollout.phase, Phase::Done);
    assert_eq!(w.rollout.ended_at, Some(w.now));
    assert!(w.rollout.is_settled());
    assert_eq!(w.rollout.counts(), BTreeMap::from([("patched", 3)]));
    assert_eq!(w.pass(HOUR), [] as [&str; 0]);
}

#[test]
fn a_ring_waits_for_its_time_after_the_rollout_and_for_the_soak_whichever_is_longer() {
    let mut planned = plan(&[&["a"], &["b"]], gate());
    planned.waves[0].after_seconds = 50;
    planned.waves[1].after_seconds = 5000;
    let mut w = World::new(planned);
    let start = w.rollout.created_at;
    assert_eq!(w.look(), [] as [&str; 0]);
    let until = later(start, 50);
    assert_eq!(w.waits_for(), Some(&Hold::RingNotYet { ring: "canary".into(), until }));
    assert_eq!(w.wake_at, Some(until));
    assert_eq!(w.pass(50), ["granted a"]);
    w.runs("a", Outcome::Patched);
    assert_eq!(w.look(), ["wave-ended 0"]);
    assert_eq!(w.pass(300), ["gate-passed 0"]);
    // The soak ends earlier: it is not what is waited for.
    let until = later(start, 5000);
    assert_eq!(w.waits_for().map(Hold::code), Some("ring-not-yet"));
    assert_eq!(w.wake_at, Some(until));
    let left = until.duration_since(w.now).as_secs();
    assert_eq!(w.pass(left - 1), [] as [&str; 0]);
    assert_eq!(w.pass(1), ["granted b"]);
}

#[test]
fn one_undone_host_halts_bars_its_version_everywhere_and_nobody_else_is_touched() {
    let mut w = two_waves();
    w.look();
    w.try_redeem("a").unwrap();
    assert_eq!(w.ends("a", undone()), ["a undone", "barred"]);
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert_eq!(w.pass(100 * HOUR), [] as [&str; 0]);
    assert_eq!((w.word("b"), w.word("c")), ("pending", "pending"));
    let RolloutEvent::Barred { versions, cohorts, reason } = &w.log[w.log.len() - 2].1 else {
        panic!()
    };
    assert_eq!(versions, &[("nginx".to_owned(), "1.1".to_owned())]);
    assert_eq!(cohorts, &[Digest::of(b"cohort")]);
    assert_eq!(reason, "name-of-a: service-not-back");
}

#[test]
fn a_version_is_barred_for_every_cohort_of_the_plan_and_once() {
    let mut plan = plan(&[&["a", "b"]], GateRule { max_failures: 9, ..gate() });
    plan.hosts.get_mut(&HostId::from("b")).unwrap().cohort = Digest::of(b"other");
    let mut w = World::new(plan);
    w.host("b").cohort = Some(Digest::of(b"other"));
    w.look();
    w.try_redeem("a").unwrap();
    w.try_redeem("b").unwrap();
    assert_eq!(w.ends("a", undone()), ["a undone", "barred"]);
    assert!(
        matches!(&w.log.last().unwrap().1, RolloutEvent::Barred { cohorts, .. } if cohorts.len() == 2)
    );
    assert_eq!(w.ends("b", undone()), ["b undone"]);
}

#[test]
fn a_bar_that_a_crash_swallowed_is_said_by_the_next_look() {
    let mut w = two_waves();
    w.look();
    w.try_redeem("a").unwrap();
    w.take(&RolloutEvent::Ended { host: "a".into(), outcome: quarantined() });
    assert_eq!(w.look(), ["barred", "halted too-many-failures"]);
}

#[test]
fn a_refusal_counts_as_a_failure_and_bars_nothing() {
    let mut w = two_waves();
    w.look();
    assert_eq!(w.ends("a", refused("lock-held")), ["a refused"]);
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert!(w.rollout.barred.is_empty());
}

#[test]
fn a_change_that_a_rehearsal_has_shown_to_be_bad_is_barred_like_one_that_was_undone() {
    let mut w = two_waves();
    w.look();
    assert_eq!(w.ends("a", refused("rehearsal-failed")), ["a refused", "barred"]);
    assert_eq!(w.look(), ["halted too-many-failures"]);
    let nginx = ("nginx".to_owned(), "1.1".to_owned());
    assert_eq!(w.rollout.barred.iter().collect::<Vec<_>>(), [&nginx]);
    // A crash between the two events loses nothing.
    let mut w = two_waves();
    w.look();
    w.take(&RolloutEvent::Ended { host: "a".into(), outcome: refused("rehearsal-failed") });
    assert_eq!(w.look(), ["barred", "halted too-many-failures"]);
}

#[test]
fn a_host_that_was_only_told_not_now_is_pending_again_and_no_failure() {
    for code in [Fault::GRANT_REFUSED, Fault::EXPIRED] {
        let mut w = two_waves();
        w.look();
        assert_eq!(w.ends("a", refused(code)), ["a refused"]);
        assert_eq!((w.word("a"), w.rollout.failures), ("pending", 0));
        assert_eq!(w.look(), ["granted a"]);
        assert_eq!(w.run("a").generation, Some(6));
    }
}

#[test]
fn failures_have_memory_across_waves() {
    let lenient = GateRule { max_failures: 1, min_success_percent: 50, bake_seconds: 0, ..gate() };
    let mut w = World::new(plan(&[&["a", "b"], &["c", "d"]], lenient));
    w.look();
    w.runs("a", undone());
    w.runs("b", Outcome::Patched);
    w.look();
    w.pass(1);
    assert_eq!(w.pass(1000), ["granted c", "granted d"]);
    w.runs("c", refused("lock-held"));
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert_eq!(w.word("d"), "pending", "its unredeemed grant died with the halt");
}

#[test]
fn a_gate_fails_when_too_few_of_the_started_hosts_are_patched() {
    let strict = GateRule { max_failures: 5, min_success_percent: 67, bake_seconds: 0, ..gate() };
    let mut w = World::new(plan(&[&["a", "b", "c"], &["d"]], strict));
    w.look();
    w.runs("a", Outcome::Patched);
    w.runs("b", Outcome::Patched);
    w.runs("c", undone());
    assert_eq!(w.look(), ["wave-ended 0", "halted gate-failed"]);
    assert!(matches!(&w.rollout.phase, Phase::Halted { hold: Hold::GateFailed { reason, .. } }
        if reason == "2 of 3 hosts are patched and verified, 67 percent are needed"));
}

#[test]
fn no_data_never_passes_a_gate_and_silence_after_the_patch_fails_it() {
    let mut w = two_waves();
    w.look();
    w.runs("a", Outcome::Patched);
    w.mute = vec!["a".into()];
    w.look();
    assert_eq!(w.pass(600), [] as [&str; 0]);
    assert_eq!(w.waits_for().map(Hold::code), Some("no-data"));
    assert_eq!(w.wake_at, Some(later(t0(), 901)));
    assert_eq!(w.pass(301), ["halted gate-failed"]);
}

#[test]
fn one_word_after_the_patch_is_enough_for_the_gate() {
    let mut w = two_waves();
    w.look();
    w.runs("a", Outcome::Patched);
    w.look();
    w.pass(10);
    w.mute = vec!["a".into()];
    assert_eq!(w.pass(290), ["gate-passed 0"]);
}

#[test]
fn a_wave_without_a_single_patched_host_is_no_evidence() {
    let mut w = two_waves();
    w.host("a").cohort = Some(Digest::of(b"moved on"));
    assert_eq!(w.look(), ["cancelled a host-changed", "wave-ended 0"]);
    assert_eq!(w.pass(300), ["halted no-data"]);
}

#[test]
fn a_host_that_left_changed_or_is_quarantined_is_cancelled_before_it_starts() {
    let mut w = World::new(plan(&[&["a", "b", "c", "d"]], gate()));
    w.seen.hosts.remove(&HostId::from("a"));
    w.host("b").cohort = Some(Digest::of(b"moved on"));
    w.host("c").quarantined = true;
    let said = [
        "cancelled a host-silent",
        "cancelled b host-changed",
        "cancelled c quarantined",
        "granted d",
    ];
    assert_eq!(w.look(), said);
    // The host that holds a grant already, too: and the assignment is withdrawn.
    w.host("d").cohort = Some(Digest::of(b"moved on"));
    assert_eq!(w.look(), ["cancelled d host-changed", "done"]);
    let (at, event) = &w.log[w.log.len() - 2];
    let id = w.run("d").assignment.clone().unwrap();
    assert_eq!(effects(&w.rollout, *at, event), [Effect::Withdraw(id)]);
}

#[test]
fn a_host_whose_packages_are_unknown_waits() {
    let mut w = two_waves();
    w.host("a").cohort = None;
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a"), Some(&Hold::NoInventory));
}

#[test]
fn a_closed_window_holds_and_says_when_to_look_again() {
    let mut w = two_waves();
    let opens_at = Some(later(t0(), 5000));
    w.host("a").window = Some(Hold::WindowClosed { opens_at });
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a"), Some(&Hold::WindowClosed { opens_at }));
    assert_eq!(w.wake_at, opens_at);
}

#[test]
fn a_grant_dies_with_the_window_or_after_an_hour_and_is_given_again() {
    let mut w = two_waves();
    w.host("a").closes_at = Some(later(t0(), 600));
    assert_eq!(w.look(), ["granted a"]);
    let first = w.run("a").assignment.clone().unwrap();
    assert_eq!(w.run("a").expires_at, Some(later(t0(), 600)));
    w.host("a").closes_at = None;
    assert_eq!(w.pass(600), ["grant-expired a", "granted a"]);
    assert_eq!(w.run("a").generation, Some(6));
    // The old assignment is worth nothing any more.
    let old = w.rollout.redeem(w.now, &"a".into(), &first, 5, &w.seen);
    assert_eq!(old, Err(Hold::GrantGone { grants: 2 }));
    assert_eq!(w.rollout.report(&"a".into(), &first, &[]), []);
    assert_eq!(w.pass(3600), ["grant-expired a", "granted a"]);
}

#[test]
fn nothing_is_granted_into_the_last_minute_of_a_window() {
    let mut w = two_waves();
    w.host("a").closes_at = Some(later(t0(), 59));
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a").map(Hold::code), Some("window-too-short"));
}

#[test]
fn a_host_that_lets_every_grant_die_is_cancelled() {
    let mut w = two_waves();
    w.look();
    for _ in 1..MAX_GRANTS {
        assert_eq!(w.pass(3600), ["grant-expired a", "granted a"]);
    }
    assert_eq!(w.pass(3600), ["grant-expired a", "cancelled a grant-gone", "wave-ended 0"]);
}

#[test]
fn a_budget_holds_back_who_would_be_one_too_many() {
    let mut plan = plan(&[&["a", "b", "c"]], gate());
    plan.budgets = vec![budget(&["a", "b", "c"], 2)];
    let mut w = World::new(plan);
    assert_eq!(w.look(), ["granted a", "granted b"]);
    let Some(Hold::BudgetUsed { limit: 2, disrupted, .. }) = w.held("c") else { panic!() };
    assert_eq!(disrupted, &[HostId::from("a"), HostId::from("b")]);
    w.runs("b", Outcome::Patched);
    assert_eq!(w.look(), ["granted c"]);
}

#[test]
fn hosts_outside_the_plan_that_fail_by_themselves_use_up_the_budget_too() {
    type Ails = fn(&mut HostObservation);
    let table: [(&str, Ails); 4] = [
        ("silent", |h| h.last_seen = Some(t0() - jiff::SignedDuration::from_secs(901))),
        ("never heard of", |h| h.last_seen = None),
        ("quarantined", |h| h.quarantined = true),
        ("at work elsewhere", |h| h.busy = Some("ro-9".into())),
    ];
    for (what, ails) in table {
        let mut plan = plan(&[&["a"]], gate());
        plan.budgets = vec![budget(&["a", "other"], 1)];
        let mut w = World::new(plan);
        ails(w.host("other"));
        assert_eq!(w.look(), [] as [&str; 0], "{what}");
        assert!(
            matches!(w.held("a"), Some(Hold::BudgetUsed { disrupted, .. }) if disrupted == &["other".into()])
        );
        *w.host("other") = HostObservation { last_seen: Some(t0()), ..HostObservation::default() };
        assert_eq!(w.look(), ["granted a"], "{what}");
    }
}

#[test]
fn every_budget_that_counts_the_host_must_have_room() {
    let mut plan = plan(&[&["a", "b", "c"]], gate());
    plan.budgets = vec![budget(&["a", "b", "c"], 3), budget(&["a", "c"], 1)];
    let mut w = World::new(plan);
    assert_eq!(w.look(), ["granted a", "granted b"]);
    assert_eq!(w.held("c").map(Hold::code), Some("budget-used"));
}

#[test]
fn a_host_busy_in_another_rollout_waits() {
    let mut w = two_waves();
    w.host("a").busy = Some("ro-9".into());
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a"), Some(&Hold::Busy { rollout: "ro-9".into() }));
    w.host("a").busy = Some("ro-1".into());
    assert_eq!(w.look(), ["granted a"]);
}

#[test]
fn a_host_that_falls_silent_at_work_fails_and_its_true_end_is_taken_once_when_it_comes_back() {
    let lenient = GateRule { max_failures: 1, min_success_percent: 0, ..gate() };
    for (outcome, word, barred) in [
        (Outcome::Patched, "patched", 0),
        (undone(), "undone", 1),
        (quarantined(), "quarantined", 1),
    ] {
        let mut w = World::new(plan(&[&["a", "b"], &["c"]], lenient.clone()));
        w.look();
        w.try_redeem("a").unwrap();
        w.runs("b", Outcome::Patched);
        w.mute = vec!["a".into()];
        assert_eq!(w.wake_at, Some(later(t0(), GRANT_SECONDS)));
        w.look();
        assert_eq!(w.wake_at, Some(later(t0(), 901)));
        assert_eq!(w.pass(901), ["silent a", "wave-ended 0"]);
        assert_eq!((w.word("a"), w.rollout.failures), ("quarantined", 1));
        assert!(w.run("a").silent);
        w.mute.clear();
        w.ends("a", outcome);
        assert_eq!((w.word("a"), w.rollout.failures), (word, 1), "counted once, and for good");
        assert_eq!(w.rollout.barred.len(), barred);
        assert!(!w.run("a").silent);
        // And only once.
        assert_eq!(w.ends("a", Outcome::Patched), [] as [&str; 0]);
    }
}

#[test]
fn the_late_end_of_a_silent_host_has_to_bake_as_well() {
    let lenient = GateRule { max_failures: 1, min_success_percent: 0, ..gate() };
    let mut w = World::new(plan(&[&["a", "b"], &["c"]], lenient));
    w.look();
    w.try_redeem("a").unwrap();
    w.runs("b", Outcome::Patched);
    w.mute = vec!["a".into()];
    w.pass(901);
    w.mute.clear();
    w.pass(200);
    w.ends("a", Outcome::Patched);
    assert_eq!(w.pass(100), [] as [&str; 0]);
    assert_eq!(w.pass(200), ["gate-passed 0"]);
}

#[test]
fn nobody_is_blamed_for_silence_while_the_server_was_down() {
    let mut w = two_waves();
    w.look();
    w.try_redeem("a").unwrap();
    w.mute = vec!["a".into(), "b".into(), "c".into()];
    w.now += jiff::SignedDuration::from_secs(5 * HOUR);
    w.seen.listening_since = Some(w.now);
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.wake_at, Some(later(w.now, 901)));
    assert_eq!(w.pass(900), [] as [&str; 0]);
    assert_eq!(w.pass(1), ["silent a", "halted too-many-failures"]);
}

#[test]
fn after_a_restart_nothing_starts_on_a_host_that_has_not_spoken_yet() {
    let mut w = two_waves();
    w.now += jiff::SignedDuration::from_secs(5 * HOUR);
    w.seen.listening_since = Some(w.now);
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a").map(Hold::code), Some("host-silent"));
    assert_eq!(w.pass(1), ["granted a"]);
}

#[test]
fn a_wave_ends_without_silent_hosts_that_were_never_started_once_the_others_have_ended() {
    let mut w = World::new(plan(&[&["a", "b"]], gate()));
    w.host("b").last_seen = None;
    assert_eq!(w.look(), ["granted a"]);
    assert_eq!(w.held("b").map(Hold::code), Some("host-silent"));
    w.runs("a", Outcome::Patched);
    assert_eq!(w.look(), ["cancelled b host-silent", "done"]);
}

#[test]
fn a_gate_may_undo_its_whole_wave_and_asks_each_host_once() {
    let rule = GateRule { undo_wave: true, ..gate() };
    let mut w = World::new(plan(&[&["a", "b", "c"], &["d"]], rule));
    w.look();
    w.runs("a", Outcome::Patched);
    w.try_redeem("b").unwrap();
    w.runs("c", undone());
    assert_eq!(w.look(), ["halted too-many-failures", "undo-asked a"]);
    // Who is patched after the halt is undone as well.
    w.ends("b", Outcome::Patched);
    assert_eq!(w.look(), ["undo-asked b"]);
    let undo = w.run("a").undo.clone().unwrap();
    assert_eq!(
        w.report("a", &undo.assignment, vec![TxEvent::Ended { outcome: undone() }]),
        ["a undone"]
    );
    let undo = w.run("b").undo.clone().unwrap();
    w.report("b", &undo.assignment, vec![TxEvent::Ended { outcome: refused("preimage-gone") }]);
    assert_eq!((w.word("a"), w.word("b")), ("undone", "patched"));
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.rollout.failures, 1, "an undo that was asked for is no failure");
}

#[test]
fn ten_thousand_hosts_are_decided_on_without_naming_all_of_them_to_each_of_them() {
    let names: Vec<String> = (0..10_000).map(|i| format!("h{i:05}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = plan(&[&ids], gate());
    plan.budgets = vec![budget(&ids, 5_000)];
    let w = World::new(plan);
    let decision = w.rollout.decide(w.now, &w.seen);
    assert_eq!(decision.events.len(), 5_000);
    let names = decision.holds.iter().map(|waiting| match &waiting.hold {
        Hold::BudgetUsed { disrupted, .. } => disrupted.len(),
        other => panic!("{other}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), vec![10; 5_000]);
}

#[test]
fn a_window_that_has_opened_since_it_was_looked_at_hides_no_later_one() {
    let mut w = World::new(plan(&[&["a", "b"]], gate()));
    let closed = |opens_at| Some(Hold::WindowClosed { opens_at: Some(opens_at) });
    let (stale, next) = (later(w.now, 60), later(w.now, 3600));
    (w.host("a").window, w.host("b").window) = (closed(stale), closed(next));
    w.look();
    assert_eq!(w.wake_at, Some(stale));
    w.now = later(w.now, 61);
    // That both ways of looking say so is asserted with each look.
    w.look();
    assert_eq!(w.wake_at, Some(stale), "it is over: look again at once");
}

fn later(at: Timestamp, seconds: u64) -> Timestamp {
    crate::later(at, seconds)
}
