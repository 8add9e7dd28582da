//! One host after another: no gate between them, and still nobody begins before those before it did well.

use super::*;

fn rolling(hosts: &[&str], at_once: u32, gate: GateRule) -> World {
    let mut plan = plan(&[hosts], gate);
    plan.waves[0].rolling = true;
    plan.waves[0].soak_seconds = 0;
    plan.budgets = vec![budget(hosts, at_once)];
    World::new(plan)
}

#[test]
fn as_one_host_was_watched_the_next_begins_and_nobody_waits_for_the_slowest() {
    let mut w = rolling(&["a", "b", "c", "d"], 2, gate());
    assert_eq!(w.look(), ["granted a", "granted b"]);
    w.runs("a", Outcome::Patched);
    w.try_redeem("b").unwrap();
    assert!(w.look().is_empty(), "a is watched first");
    assert!(matches!(w.held("a"), Some(Hold::Bake { .. })));
    assert_eq!(w.held("c").map(Hold::code), Some("budget-used"));
    assert_eq!(w.wake_at, Some(w.now + jiff::SignedDuration::from_secs(300)));
    assert_eq!(w.pass(300), ["granted c"], "though b is at work");
    w.runs("c", Outcome::Patched);
    w.ends("b", Outcome::Patched);
    assert_eq!(w.pass(300), ["granted d"]);
    w.runs("d", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
}

#[test]
fn a_patched_host_that_says_nothing_keeps_its_place_and_then_halts_the_rollout() {
    let mut w = rolling(&["a", "b"], 1, gate());
    w.look();
    w.runs("a", Outcome::Patched);
    w.mute.push("a".into());
    assert!(w.pass(400).is_empty());
    assert_eq!(w.held("a").map(Hold::code), Some("no-data"));
    assert_eq!(w.held("b").map(Hold::code), Some("budget-used"));
    assert_eq!(w.pass(501), ["halted gate-failed"]);
}

#[test]
fn a_host_that_is_quarantined_while_it_is_watched_halts_the_rollout_until_somebody_resumes() {
    let mut w = rolling(&["a", "b"], 1, gate());
    w.look();
    w.runs("a", Outcome::Patched);
    w.host("a").quarantined = true;
    assert_eq!(w.look(), ["halted gate-failed"]);
    let event = w.rollout.resume("alice", "seen to").unwrap();
    w.take(&event);
    assert!(w.pass(400).is_empty(), "a quarantined host keeps its place");
    w.host("a").quarantined = false;
    assert_eq!(w.look(), ["granted b"]);
}

#[test]
fn failures_have_memory_over_all_hosts_of_a_rolling_wave() {
    let rule = GateRule { max_failures: 1, ..gate() };
    let mut w = rolling(&["a", "b", "c", "d"], 1, rule);
    w.look();
    w.runs("a", undone());
    assert_eq!(w.look(), ["granted b"], "one is allowed, and is as it was");
    w.runs("b", Outcome::Patched);
    assert_eq!(w.pass(400), ["granted c"]);
    w.runs("c", refused("lock-held"));
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert_eq!(w.word("d"), "pending");
}

#[test]
fn a_rolling_wave_that_failed_is_undone_as_a_whole_where_the_policy_says_so() {
    let mut w = rolling(&["a", "b", "c"], 1, GateRule { undo_wave: true, ..gate() });
    w.look();
    w.runs("a", Outcome::Patched);
    w.pass(400);
    w.runs("b", undone());
    assert_eq!(w.look(), ["halted too-many-failures", "undo-asked a"]);
}

#[test]
fn a_silent_host_takes_a_place_whether_it_is_in_the_plan_or_not() {
    let mut w = rolling(&["a", "b"], 1, gate());
    w.rollout.plan_mut().budgets[0].hosts.push("elsewhere".into());
    let quiet = HostObservation { last_seen: None, ..HostObservation::default() };
    w.seen.hosts.insert("elsewhere".into(), quiet);
    assert!(w.look().is_empty());
    assert_eq!(w.held("a").map(Hold::code), Some("budget-used"));
}
