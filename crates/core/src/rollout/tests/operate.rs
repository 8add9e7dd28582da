//! Operators, redeeming, effects, illegal events.

use super::*;
use crate::policy::EACH_WAVE;

fn world() -> World {
    let mut w = World::new(plan(&[&["a", "b"], &["c"]], gate()));
    w.look();
    w
}

fn act(w: &mut World, event: Result<RolloutEvent, IllegalEvent>) {
    w.take(&event.unwrap());
}

#[test]
fn a_pause_lets_hosts_at_work_go_on_and_stops_everyone_else_until_resumed() {
    let mut w = world();
    w.try_redeem("a").unwrap();
    let pause = w.rollout.pause("alice", "lunch");
    act(&mut w, pause);
    assert_eq!((w.word("a"), w.word("b")), ("redeemed", "pending"));
    w.try_redeem("a").unwrap();
    let stop = w.try_redeem("b").unwrap_err();
    assert_eq!(stop, Hold::Paused { by: "alice".into(), reason: "lunch".into() });
    assert_eq!(w.look(), [] as [&str; 0]);
    w.ends("a", Outcome::Patched);
    let resume = w.rollout.resume("alice", "back");
    act(&mut w, resume);
    assert_eq!(w.look(), ["granted b"]);
}

#[test]
fn only_a_resume_clears_a_halt_and_it_pardons_what_was() {
    let mut w = World::new(plan(&[&["a"], &["b"], &["c"]], gate()));
    w.look();
    w.runs("a", undone());
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert!(w.rollout.pause("alice", "x").is_err());
    assert_eq!(w.pass(1000 * HOUR), [] as [&str; 0]);
    let resume = w.rollout.resume("alice", "the host had a full disk");
    act(&mut w, resume);
    assert_eq!(w.look(), ["wave-ended 0"]);
    assert_eq!(w.pass(300), ["gate-passed 0"]);
    assert_eq!(w.pass(1000), ["granted b"]);
    // The next failure halts again: the pardon was for the past.
    w.runs("b", undone());
    assert_eq!(w.look(), ["halted too-many-failures"]);
}

#[test]
fn an_abort_cancels_who_has_not_begun_and_ends_when_the_others_have() {
    let mut w = world();
    w.try_redeem("a").unwrap();
    let abort = w.rollout.abort("alice", "wrong plan");
    act(&mut w, abort);
    assert_eq!((w.word("a"), w.word("b"), w.word("c")), ("redeemed", "cancelled", "cancelled"));
    assert_eq!(w.look(), [] as [&str; 0]);
    w.ends("a", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
    assert!(matches!(w.rollout.phase, Phase::Aborted { .. }));
    assert!(w.rollout.is_settled());
}

#[test]
fn a_host_that_is_told_not_now_after_the_abort_is_cancelled_and_waits_for_nobody() {
    let mut w = world();
    w.try_redeem("a").unwrap();
    let abort = w.rollout.abort("alice", "wrong plan");
    act(&mut w, abort);
    w.ends("a", refused(Fault::EXPIRED));
    assert_eq!(w.word("a"), "cancelled");
    assert_eq!(w.look(), ["done"]);
}

#[test]
fn abort_is_reachable_from_every_phase_that_has_not_ended() {
    let mut running = world();
    let pause = running.rollout.pause("a", "b");
    let mut paused = world();
    act(&mut paused, pause);
    let mut halted = world();
    halted.runs("a", undone());
    halted.look();
    for w in [&mut running, &mut paused, &mut halted] {
        let abort = w.rollout.abort("alice", "enough");
        act(w, abort);
        assert!(w.rollout.abort("alice", "again").is_err());
        assert!(w.rollout.resume("alice", "no").is_err());
    }
}

#[test]
fn stopping_withdraws_every_unredeemed_grant() {
    type Stop = fn(&Rollout) -> Result<RolloutEvent, IllegalEvent>;
    let table: [Stop; 3] = [
        |r| r.pause("alice", "x"),
        |r| r.abort("alice", "x"),
        |_| {
            Ok(RolloutEvent::Halted {
                hold: Hold::TooManyFailures { failed: 1, allowed: 0 },
                judged: vec![],
            })
        },
    ];
    for stop in table {
        let mut w = world();
        w.try_redeem("a").unwrap();
        let event = stop(&w.rollout).unwrap();
        w.take(&event);
        let id = w.run("b").assignment.clone().unwrap();
        assert_eq!(effects(&w.rollout, w.now, &event), [Effect::Withdraw(id)]);
        assert_eq!(w.run("b").standing_assignment(), None);
        assert!(w.run("a").standing_assignment().is_some());
    }
}

#[test]
fn redeeming_twice_is_answered_yes_twice_and_happens_once() {
    let mut w = world();
    w.try_redeem("a").unwrap();
    let version = w.rollout.version;
    w.try_redeem("a").unwrap();
    assert_eq!(w.rollout.version, version);
}

#[test]
fn a_grant_is_not_redeemed_when_something_came_between() {
    type Between = fn(&mut World);
    let table: [(&str, Between, &str); 8] = [
        ("expired", |w| w.now += jiff::SignedDuration::from_secs(HOUR), "grant-gone"),
        (
            "window closed",
            |w| w.host("b").window = Some(Hold::WindowClosed { opens_at: None }),
            "window-closed",
        ),
        ("window over", |w| w.host("b").closes_at = Some(w.now), "window-too-short"),
        ("another rollout", |w| w.host("b").busy = Some("ro-9".into()), "busy"),
        ("packages changed", |w| w.host("b").cohort = Some(Digest::of(b"x")), "host-changed"),
        ("quarantined", |w| w.host("b").quarantined = true, "quarantined"),
        ("left", |w| drop(w.seen.hosts.remove(&HostId::from("b"))), "host-silent"),
        ("another host failed", |w| w.runs("a", undone()), "too-many-failures"),
    ];
    for (what, between, code) in table {
        let mut w = world();
        between(&mut w);
        assert_eq!(w.try_redeem("b").unwrap_err().code(), code, "{what}");
        assert_eq!(w.word("b"), "granted");
    }
}

#[test]
fn redeeming_checks_the_budget_again_since_hosts_fail_by_themselves() {
    let mut plan = plan(&[&["a", "b"]], gate());
    plan.budgets = vec![budget(&["a", "b", "other"], 2)];
    let mut w = World::new(plan);
    assert_eq!(w.look(), ["granted a", "granted b"]);
    w.host("other").quarantined = true;
    w.try_redeem("a").unwrap();
    assert_eq!(w.try_redeem("b").unwrap_err().code(), "budget-used");
    w.ends("a", Outcome::Patched);
    w.try_redeem("b").unwrap();
}

#[test]
fn whatever_a_host_is_answered_but_yes_is_not_now_and_no_failure_and_nothing_else_is() {
    fn halted(w: &mut World, hold: Hold) {
        w.take(&RolloutEvent::Halted { hold, judged: vec![] });
    }
    fn recall() -> Recall {
        Recall {
            package: "nginx".into(),
            version: "1.1".into(),
            reason: "it eats files".into(),
            by: "alice".into(),
            at: t0(),
            undo: false,
        }
    }
    fn closed(w: &mut World, hold: Hold) {
        w.host("b").window = Some(hold);
    }
    type Between = fn(&mut World);
    let table: [Between; 17] = [
        |w| w.take(&w.rollout.abort("alice", "x").unwrap()),
        |w| closed(w, Hold::Blackout { reason: "feast".into(), until: t0() }),
        |w| {
            let plan = w.rollout.plan_mut();
            plan.budgets = vec![budget(&["a", "b"], 1)];
            w.try_redeem("a").unwrap();
        },
        |w| w.host("b").busy = Some("ro-9".into()),
        |w| halted(w, Hold::GateFailed { wave: 0, reason: "x".into() }),
        |w| w.now += jiff::SignedDuration::from_secs(HOUR),
        |w| w.host("b").cohort = Some(Digest::of(b"x")),
        |w| drop(w.seen.hosts.remove(&HostId::from("b"))),
        |w| halted(w, Hold::NoData { what: "x".into() }),
        |w| {
            w.runs("a", Outcome::Patched);
            w.take(&RolloutEvent::Cancelled { host: "b".into(), hold: Hold::HostChanged });
            w.take(&RolloutEvent::Cancelled { host: "c".into(), hold: Hold::HostChanged });
            w.take(&RolloutEvent::Done);
        },
        |w| w.take(&w.rollout.pause("alice", "x").unwrap()),
        |w| w.host("b").quarantined = true,
        |w| w.seen.recalls = vec![recall()],
        |w| w.runs("a", undone()),
        |w| w.rollout.plan_mut().waves[0].gate.approval = vec![EACH_WAVE.into()],
        |w| closed(w, Hold::WindowClosed { opens_at: None }),
        |w| w.host("b").closes_at = Some(w.now),
    ];
    let mut answers = BTreeSet::new();
    for between in table {
        let mut w = world();
        between(&mut w);
        let hold = w.try_redeem("b").unwrap_err();
        assert!(answers.insert(hold.code()), "{hold} comes twice");
        let fault = |code: &str| Fault { code: code.into(), message: "".into(), hint: "".into() };
        assert!(fault(hold.code()).is_not_now(), "{hold}");
        // The host says so, where its rollout still listens.
        let failures = w.rollout.failures;
        if w.seen.hosts.contains_key(&HostId::from("b")) {
            w.ends("b", refused(hold.code()));
        }
        assert_eq!(w.rollout.failures, failures, "{hold}");
    }
    assert_eq!(answers, BTreeSet::from(Fault::HOLDS));
}

#[test]
fn a_wrong_assignment_or_generation_is_not_redeemed() {
    let w = world();
    let run = w.run("a");
    let (id, generation) = (run.assignment.clone().unwrap(), run.generation.unwrap());
    let redeem = |host: &str, id: &AssignmentId, generation| {
        w.rollout.redeem(w.now, &host.into(), id, generation, &w.seen)
    };
    assert!(redeem("a", &id, generation).is_ok());
    assert!(redeem("a", &id, generation + 1).is_err());
    assert!(redeem("b", &id, generation).is_err());
    assert!(redeem("nobody", &id, generation).is_err());
    assert!(redeem("a", &"ro-1/a/4".into(), generation).is_err());
}

#[test]
fn patched_hosts_are_undone_on_request_even_after_the_rollout_is_done() {
    let mut w = World::new(plan(&[&["a", "b"]], gate()));
    w.look();
    w.runs("a", Outcome::Patched);
    w.runs("b", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
    let events = w.rollout.undo(&["a".into(), "a".into()], "slow since", &w.seen).unwrap();
    assert_eq!(events.len(), 1);
    let [Effect::Assign(order)] = &{
        w.take(&events[0]);
        effects(&w.rollout, w.now, &events[0])
    }[..] else {
        panic!()
    };
    assert_eq!(order.generation, 6);
    assert_eq!(
        order.order,
        Order::Undo { assignment: "ro-1/a/5".into(), reason: "slow since".into() }
    );
    assert!(!w.rollout.is_settled());
    assert!(w.rollout.undo(&["a".into()], "again", &w.seen).is_err());
    assert_eq!(w.rollout.redeem(w.now, &"a".into(), &order.id, 6, &w.seen), Ok(None));
    // What the host says late about the patch itself changes nothing.
    assert_eq!(w.ends("a", Outcome::Patched), [] as [&str; 0]);
    let said = w.report("a", &order.id, vec![TxEvent::Ended { outcome: undone() }]);
    assert_eq!(said, ["a undone", "barred"]);
    assert!(w.rollout.is_settled());
    assert_eq!(w.look(), [] as [&str; 0]);
}

#[test]
fn an_undo_of_one_host_that_cannot_be_undone_undoes_none() {
    let mut w = world();
    w.runs("a", Outcome::Patched);
    for (bad, why) in [("b", "only a patched host"), ("nobody", "left the fleet")] {
        let refusal = w.rollout.undo(&["a".into(), bad.into()], "x", &w.seen).unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
}

#[test]
fn a_host_at_work_in_another_rollout_is_not_undone_now() {
    let mut w = world();
    w.runs("a", Outcome::Patched);
    w.host("a").busy = Some("ro-2".into());
    let refusal = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap_err();
    assert!(refusal.to_string().contains("another rollout"), "{refusal}");
}

#[test]
fn an_undo_that_cannot_be_completed_quarantines_and_counts() {
    let mut w = world();
    w.runs("a", Outcome::Patched);
    let events = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap();
    w.take(&events[0]);
    let id = w.run("a").undo.clone().unwrap().assignment;
    w.report("a", &id, vec![TxEvent::Ended { outcome: quarantined() }]);
    assert_eq!((w.word("a"), w.rollout.failures), ("quarantined", 1));
    assert_eq!(w.look(), ["halted too-many-failures"]);
}

#[test]
fn a_gate_waits_for_an_undo_in_its_wave() {
    let mut w = World::new(plan(
        &[&["a"], &["b"]],
        GateRule { min_success_percent: 0, max_failures: 3, ..gate() },
    ));
    w.look();
    w.runs("a", Outcome::Patched);
    w.look();
    let events = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap();
    w.take(&events[0]);
    assert_eq!(w.pass(HOUR), [] as [&str; 0]);
    assert_eq!(w.rollout.wave, 0);
}

#[test]
fn the_assignment_carries_the_plans_order_and_is_made_again_the_same() {
    let w = world();
    let (at, event) = w.log.iter().find(|(_, e)| e.word() == "granted").unwrap();
    let [Effect::Assign(assignment)] = &effects(&w.rollout, *at, event)[..] else { panic!() };
    let expected = Assignment {
        schema: 1,
        id: "ro-1/a/5".into(),
        host: "a".into(),
        generation: 5,
        rollout: "ro-1".into(),
        plan: w.rollout.plan.digest(),
        issued_at: t0(),
        not_before: t0(),
        expires_at: t0() + jiff::SignedDuration::from_secs(HOUR),
        order: Order::Apply(w.rollout.plan.hosts[&HostId::from("a")].order.clone()),
    };
    assert_eq!(**assignment, expected);
    assert_eq!(effects(&w.rollout, *at, event), effects(&w.rollout, *at, event));
}

#[test]
fn effects_of_an_event_that_was_overtaken_are_none() {
    let mut w = world();
    let (at, event) = w.log.iter().find(|(_, e)| e.word() == "granted").cloned().unwrap();
    w.pass(HOUR);
    assert_eq!(w.run("a").grants, 2);
    assert_eq!(effects(&w.rollout, at, &event), [], "the expired grant is not handed out again");
}

#[test]
fn events_that_do_not_fit_are_refused_and_change_nothing() {
    let table: Vec<(&str, RolloutEvent)> = vec![
        ("created twice", w_created()),
        ("a wave that is not at work", granted("c", 99)),
        ("granted twice", granted("a", 99)),
        ("an unknown host", granted("zz", 99)),
        ("expiry without a grant", RolloutEvent::GrantExpired { host: "c".into() }),
        ("redeemed without a grant", RolloutEvent::Redeemed { host: "c".into() }),
        ("a step of a pending host", RolloutEvent::Stepped { host: "c".into(), step: Step::Apply }),
        (
            "an end of a pending host",
            RolloutEvent::Ended { host: "c".into(), outcome: Outcome::Patched },
        ),
        ("silence before redeeming", RolloutEvent::Silent { host: "a".into(), last_seen: None }),
        ("the wave has not ended", RolloutEvent::WaveEnded { wave: 0 }),
        (
            "a gate before the wave's end",
            RolloutEvent::GatePassed { wave: 0, next_not_before: t0(), judged: vec![] },
        ),
        ("resumed while running", RolloutEvent::Resumed { by: "x".into(), reason: String::new() }),
        ("undo of a pending host", undo_asked("c")),
        ("done before the hosts", RolloutEvent::Done),
    ];
    for (what, event) in table {
        let mut w = world();
        let before = w.rollout.clone();
        assert!(w.rollout.apply(w.now, &event).is_err(), "{what}");
        assert_eq!(w.rollout, before, "{what}");
    }
}

fn w_created() -> RolloutEvent {
    Rollout::create(&"ro-1".into(), plan(&[&["a"]], gate()), "x")
}
fn granted(host: &str, generation: u64) -> RolloutEvent {
    RolloutEvent::Granted {
        host: host.into(),
        assignment: "x".into(),
        generation,
        expires_at: t0(),
    }
}
fn undo_asked(host: &str) -> RolloutEvent {
    RolloutEvent::UndoAsked {
        host: host.into(),
        assignment: "x".into(),
        generation: 99,
        reason: String::new(),
    }
}

#[test]
fn nothing_is_granted_or_redeemed_unless_the_rollout_is_running_whoever_says_so() {
    let mut w = world();
    let pause = w.rollout.pause("x", "y");
    act(&mut w, pause);
    assert!(w.rollout.apply(w.now, &granted("a", 99)).is_err());
    assert!(w.rollout.apply(w.now, &RolloutEvent::Redeemed { host: "a".into() }).is_err());
}

#[test]
fn a_plan_whose_waves_and_hosts_disagree_is_refused() {
    type Spoil = fn(&mut Plan);
    let table: [(&str, Spoil); 4] = [
        ("a host in no wave", |p| p.waves[1].hosts.clear()),
        ("a host in two waves", |p| p.waves[0].hosts.push("c".into())),
        ("a host twice", |p| p.waves[0].hosts.push("a".into())),
        ("a host the plan lacks", |p| p.waves[0].hosts.push("zz".into())),
    ];
    for (what, spoil) in table {
        let mut bad = plan(&[&["a", "b"], &["c"]], gate());
        spoil(&mut bad);
        let event = Rollout::create(&"ro-1".into(), bad, "x");
        assert!(Rollout::begin(&"ro-1".into(), t0(), &event).is_err(), "{what}");
    }
    assert!(Rollout::begin(&"ro-1".into(), t0(), &RolloutEvent::Done).is_err());
}

#[test]
fn a_plan_without_hosts_is_done_at_once() {
    let mut w = World::new(plan(&[], gate()));
    assert_eq!(w.look(), ["done"]);
}

#[test]
fn a_host_that_falls_silent_in_its_undo_is_quarantined_until_it_says_how_it_ended() {
    for (outcome, word) in [
        (undone(), "undone"),
        (quarantined(), "quarantined"),
        (refused("preimage-gone"), "patched"),
    ] {
        let mut w = World::new(plan(&[&["a"]], gate()));
        w.look();
        w.runs("a", Outcome::Patched);
        w.look();
        let events = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap();
        w.take(&events[0]);
        w.mute = vec!["a".into()];
        assert_eq!(w.pass(901), ["silent a"]);
        assert!(w.rollout.is_settled());
        let id = w.run("a").undo.clone().unwrap().assignment;
        assert_eq!(w.run("a").standing_assignment(), Some(&id));
        w.report("a", &id, vec![TxEvent::Ended { outcome }]);
        assert_eq!((w.word("a"), w.rollout.failures), (word, 1));
    }
}

#[test]
fn a_host_that_leaves_the_fleet_in_its_undo_holds_nobody_up() {
    let mut w = world();
    w.runs("a", Outcome::Patched);
    let events = w.rollout.undo(&["a".into()], "x", &w.seen).unwrap();
    w.take(&events[0]);
    w.seen.hosts.remove(&HostId::from("a"));
    assert!(w.pass(901).contains(&"silent a".to_owned()));
}

#[test]
fn a_rollout_does_not_begin_without_the_approvals_its_plan_needs() {
    let plan = Plan { approvals_needed: 2, ..plan(&[&["a"]], gate()) };
    let id = RolloutId::from("ro-1");
    let by = |by: &str, digest: Digest| Approval {
        by: by.into(),
        digest,
        at: t0(),
        comment: String::new(),
    };
    let (this, other) = (plan.digest(), Digest::of(b"other"));
    for (approvals, begins) in [
        (vec![], false),
        (vec![by("bob", this)], false),
        (vec![by("bob", this), by("bob", this)], false),
        (vec![by("bob", this), by("carol", other)], false),
        (vec![by("bob", this), by("carol", this)], true),
    ] {
        let event =
            Rollout::create_approved(&id, plan.clone(), ("alice", "admin"), approvals.clone());
        let begun = Rollout::begin(&id, t0(), &event);
        assert_eq!(begun.is_ok(), begins, "{approvals:?}");
        assert!(begun.is_err() || begun.is_ok_and(|r| r.approvals == approvals));
    }
}

fn recall(version: &str) -> Recall {
    Recall {
        package: "nginx".into(),
        version: version.into(),
        reason: "answers 500".into(),
        by: "bob".into(),
        at: t0(),
        undo: false,
    }
}

#[test]
fn a_recall_halts_every_rollout_that_would_still_bring_the_version_to_a_host() {
    let mut w = world();
    w.try_redeem("a").unwrap();
    w.seen.recalls = vec![recall("1.0"), recall("1.2")];
    assert_eq!(w.look(), [] as [&str; 0], "other versions are nobody's business here");
    w.seen.recalls.push(recall("1.1"));
    let stop = w.try_redeem("b").unwrap_err();
    assert_eq!(stop, w.seen.recalls[2].hold("nginx"), "before anybody has looked");
    assert_eq!(w.look(), ["halted recalled"]);
    assert_eq!((w.word("a"), w.word("b"), w.word("c")), ("redeemed", "pending", "pending"));
    w.ends("a", Outcome::Patched);
    assert_eq!(w.look(), [] as [&str; 0]);
    // A resume changes nothing as long as it stands.
    let resume = w.rollout.resume("alice", "it looks well to me");
    act(&mut w, resume);
    assert_eq!(w.look(), ["halted recalled"]);
    w.seen.recalls.pop();
    let resume = w.rollout.resume("alice", "the vendor took it back");
    act(&mut w, resume);
    assert_eq!(w.look(), ["granted b"]);
    assert_eq!(w.rollout.excused_wave, None, "a recall excuses nobody from the gate");
}

#[test]
fn a_recall_leaves_a_rollout_alone_whose_hosts_all_have_the_version() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    w.look();
    w.try_redeem("a").unwrap();
    w.seen.recalls = vec![recall("1.1")];
    assert_eq!(w.look(), [] as [&str; 0]);
    w.ends("a", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
}

#[test]
fn a_recall_that_takes_back_reaches_who_was_at_work_once_and_keeps_the_rollout_open_for_it() {
    let taken_back = || Recall { undo: true, ..recall("1.1") };
    let mut w = World::new(plan(&[&["a"]], gate()));
    w.look();
    w.try_redeem("a").unwrap();
    w.seen.recalls = vec![Recall { undo: true, ..recall("1.2") }, taken_back()];
    assert_eq!(w.look(), [] as [&str; 0], "it is never left half changed");
    w.ends("a", Outcome::Patched);
    // Somebody else is at work on it for a moment: the rollout stays open.
    w.host("a").busy = Some("ro-9".into());
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.rollout.ended_at, None);
    w.host("a").busy = None;
    assert_eq!(w.look(), ["undo-asked a"]);
    assert_eq!(w.run("a").undo_asked.as_deref(), Some("recalled: answers 500"));
    // It touched nothing, and says so: it is not asked again.
    let undo = w.run("a").undo.clone().unwrap().assignment;
    w.report("a", &undo, vec![TxEvent::Ended { outcome: refused("no-space") }]);
    assert_eq!(w.look(), ["done"]);
    assert_eq!(w.word("a"), "patched");

    // Where others wait, it halts as ever; a host that has left is nobody to take back.
    let mut w = world();
    w.try_redeem("a").unwrap();
    w.seen.recalls = vec![taken_back()];
    assert_eq!(w.look(), ["halted recalled"]);
    w.ends("a", Outcome::Patched);
    w.seen.hosts.remove(&HostId::from("a"));
    assert_eq!(w.look(), [] as [&str; 0]);
}
