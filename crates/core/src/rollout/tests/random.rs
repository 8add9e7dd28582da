//! Random histories: refolding, idempotence, and the rules that no history may break.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Pass(i64),
    Mute(usize, bool),
    Redeem(usize),
    End(usize, u8),
    EndUndo(usize, u8),
    Pause,
    Resume,
    Abort,
    Undo(usize),
    Drift(usize),
    Window(usize, bool),
}

const HOSTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn act() -> impl Strategy<Value = Act> {
    let host = 0..HOSTS.len();
    prop_oneof![
        6 => prop_oneof![Just(1i64), Just(300), Just(1000), Just(4000)].prop_map(Act::Pass),
        8 => host.clone().prop_map(Act::Redeem),
        8 => (host.clone(), any::<u8>()).prop_map(|(h, r)| Act::End(h, r)),
        2 => (host.clone(), any::<u8>()).prop_map(|(h, r)| Act::EndUndo(h, r)),
        1 => (host.clone(), any::<bool>()).prop_map(|(h, m)| Act::Mute(h, m)),
        1 => Just(Act::Pause),
        3 => Just(Act::Resume),
        1 => host.clone().prop_map(Act::Undo),
        1 => host.clone().prop_map(Act::Drift),
        1 => (host, any::<bool>()).prop_map(|(h, o)| Act::Window(h, o)),
    ]
}

fn outcome(roll: u8) -> Outcome {
    match roll % 8 {
        0 => undone(),
        1 => refused("lock-held"),
        2 => quarantined(),
        3 => refused(Fault::GRANT_REFUSED),
        _ => Outcome::Patched,
    }
}

fn perform(w: &mut World, act: &Act) {
    let one = |r: Result<RolloutEvent, IllegalEvent>| r.into_iter().collect::<Vec<_>>();
    let events = match act {
        Act::Pass(seconds) => return drop(w.pass(*seconds)),
        Act::Redeem(i) => {
            return if w.run(HOSTS[*i]).assignment.is_some() {
                drop(w.try_redeem(HOSTS[*i]))
            };
        }
        Act::End(i, roll) => {
            if w.run(HOSTS[*i]).assignment.is_some() {
                w.ends(HOSTS[*i], outcome(*roll));
            }
            return;
        }
        Act::EndUndo(i, roll) => {
            if let Some(undo) = w.run(HOSTS[*i]).undo.clone() {
                w.report(
                    HOSTS[*i],
                    &undo.assignment,
                    vec![TxEvent::Ended { outcome: outcome(*roll) }],
                );
            }
            return;
        }
        Act::Mute(i, true) => return w.mute.push(HOSTS[*i].into()),
        Act::Mute(i, false) => return w.mute.retain(|h| h.as_str() != HOSTS[*i]),
        Act::Drift(i) => return w.host(HOSTS[*i]).cohort = Some(Digest::of(b"drifted")),
        Act::Window(i, open) => {
            return w.host(HOSTS[*i]).window =
                (!open).then_some(Hold::WindowClosed { opens_at: None });
        }
        Act::Pause => one(w.rollout.pause("alice", "x")),
        Act::Resume => one(w.rollout.resume("alice", "x")),
        Act::Abort => one(w.rollout.abort("alice", "x")),
        Act::Undo(i) => w.rollout.undo(&[HOSTS[*i].into()], "x", &w.seen).unwrap_or_default(),
    };
    for event in &events {
        w.take(event);
    }
}

/// What must hold between two versions of a rollout.
fn check_step(
    before: &Rollout,
    after: &Rollout,
    event: &RolloutEvent,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(after.version, before.version + 1);
    prop_assert_eq!(after.hosts.len(), after.plan.hosts.len(), "19. conservation");
    for (id, run) in &after.hosts {
        let was = &before.hosts[id];
        if was.state.is_terminal() && was.state != run.state {
            prop_assert!(
                was.silent || was.undo_at_work(),
                "9. {id} changed after its end by {event:?}"
            );
            prop_assert!(run.state.is_terminal(), "9. {id} came back from its end by {event:?}");
        }
        prop_assert!(run.highest_generation() >= was.highest_generation(), "12. generations grow");
    }
    if let RolloutEvent::Granted { host, .. } = event {
        prop_assert_eq!(&before.phase, &Phase::Running, "6. granted while not running");
        prop_assert!(
            before.wave == 0 || before.gates.contains_key(&(before.wave - 1)),
            "2. {host} before the gate"
        );
        for wave in &before.plan.waves[..before.wave as usize] {
            let all = wave.hosts.iter().all(|h| before.hosts[h].state.is_terminal());
            prop_assert!(all, "2. {host} while an earlier wave is at work");
        }
    }
    for wave in 0..after.plan.waves.len() as u32 {
        let of_wave = || after.hosts.values().filter(|run| run.wave == wave);
        let count =
            |is: fn(&HostState) -> bool| of_wave().filter(|run| is(&run.state)).count() as u32;
        let patched = |state: &HostState| *state == HostState::Patched;
        prop_assert_eq!(after.hosts.patched(wave), count(patched));
        let cancelled = |state: &HostState| matches!(state, HostState::Cancelled { .. });
        prop_assert_eq!(after.hosts.cancelled(wave), count(cancelled));
        let ends = of_wave().filter(|run| patched(&run.state)).filter_map(|run| run.ended_at);
        prop_assert_eq!(after.hosts.last_end(wave), ends.max());
    }
    if matches!(before.phase, Phase::Halted { .. }) && after.phase == Phase::Running {
        let resumed = matches!(event, RolloutEvent::Resumed { .. });
        prop_assert!(resumed, "7. a halt cleared by {event:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_history_breaks_a_rule_and_refolding_any_of_it_gives_the_same_rollout(
        acts in proptest::collection::vec(act(), 1..80),
        max_failures in 0u32..3,
        undo_wave in any::<bool>(),
        max_unavailable in 1u32..4,
        aborts in any::<bool>(),
    ) {
        let rule = GateRule { max_failures, undo_wave, min_success_percent: 40, ..gate() };
        let mut plan = plan(&[&["a"], &["b", "c"], &["d", "e", "f"]], rule);
        plan.budgets = vec![budget(&HOSTS, max_unavailable)];
        let mut w = World::new(plan);
        for act in &acts {
            w.look();
            perform(&mut w, act);
        }
        if aborts {
            w.look();
            perform(&mut w, &Act::Abort);
        }
        w.look();
        prop_assert_eq!(w.look(), Vec::<String>::new(), "deciding again says nothing");

        let (first, rest) = w.log.split_first().unwrap();
        let mut folded = Rollout::begin(&"ro-1".into(), first.0, &first.1).unwrap();
        for (at, event) in rest {
            let before = folded.clone();
            folded.apply(*at, event).unwrap();
            check_step(&before, &folded, event)?;
        }
        prop_assert_eq!(&folded, &w.rollout);
        let text = serde_json::to_string(&w.rollout).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Rollout>(&text).unwrap(), &w.rollout, "it is kept as JSON");
        let events: Vec<&RolloutEvent> = w.log.iter().map(|(_, e)| e).collect();
        let text = serde_json::to_string(&events).unwrap();
        let read: Vec<RolloutEvent> = serde_json::from_str(&text).unwrap();
        prop_assert!(read.iter().eq(events));
    }

    #[test]
    fn when_every_host_behaves_every_rollout_comes_to_done_or_halted(
        acts in proptest::collection::vec(act(), 0..40),
        max_failures in 0u32..3,
    ) {
        let rule = GateRule { max_failures, min_success_percent: 40, ..gate() };
        let mut plan = plan(&[&["a"], &["b", "c"], &["d", "e", "f"]], rule);
        plan.budgets = vec![budget(&HOSTS, 3)];
        let mut w = World::new(plan);
        for act in &acts {
            w.look();
            perform(&mut w, act);
        }
        w.mute.clear();
        for host in w.seen.hosts.values_mut() {
            host.window = None;
        }
        if matches!(w.rollout.phase, Phase::Paused { .. }) {
            perform(&mut w, &Act::Resume);
        }
        for _ in 0..40 {
            w.pass(500);
            for host in HOSTS {
                if w.run(host).at_work() {
                    // Refused when the budget is full or the rollout halted: asked again later.
                    drop(w.try_redeem(host));
                }
                if w.run(host).state == HostState::Redeemed || w.run(host).silent {
                    w.ends(host, Outcome::Patched);
                }
                perform(&mut w, &Act::EndUndo(HOSTS.iter().position(|h| *h == host).unwrap(), 0));
            }
        }
        let over = w.rollout.ended_at.is_some() || matches!(w.rollout.phase, Phase::Halted { .. });
        // A host that was quarantined keeps its place in the budget: that may stop a rollout without ending it.
        let stuck = w.holds.iter().any(|h| h.hold.code() == "budget-used");
        prop_assert!(over || stuck, "{:?} {:?}", w.rollout.phase, w.holds);
    }
}
