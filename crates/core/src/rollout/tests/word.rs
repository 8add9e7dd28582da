//! Somebody's word before a ring begins, where no gate stands before it. Where one does: `gates`.

use super::blue_green::world as pools;
use super::*;
use crate::policy::EACH_WAVE;

fn asks(word: &str) -> GateRule {
    GateRule { approval: vec![word.into()], ..gate() }
}

/// Two waves of ring `broad`: nobody in the rings before it had anything to do.
fn broad_only(word: &str) -> World {
    let mut planned = plan(&[&["a"], &["b"]], asks(word));
    planned.waves[0].ring = "broad".into();
    planned.waves[0].soak_seconds = 0;
    World::new(planned)
}

fn says(w: &mut World, wave: u32) {
    let word = w.rollout.approve_wave(wave, "bob", "bob", "").unwrap();
    w.take(&word);
}

/// The wave that waits for a word.
fn waits(w: &World) -> Option<u32> {
    match w.waits_for() {
        Some(Hold::WaveNotApproved { wave, .. }) => Some(*wave),
        _ => None,
    }
}

#[test]
fn a_ring_that_comes_first_in_its_rollout_waits_for_the_word_as_well_and_once() {
    let mut w = broad_only("broad");
    assert_eq!(w.look(), [""; 0]);
    assert_eq!(waits(&w), Some(0), "{:?}", w.holds);
    let hold = w.waits_for().unwrap().to_string();
    assert!(hold.contains("(ring `broad`)") && hold.ends_with("--wave 1"), "{hold}");
    assert_eq!(w.pass(HOUR), [""; 0], "it waits as long as it takes");
    let no = |wave, by| w.rollout.approve_wave(wave, by, by, "").unwrap_err();
    assert_eq!(no(0, "alice"), NoWord::OwnRollout);
    assert_eq!(no(1, "bob"), NoWord::NotNext { next: 0 });
    says(&mut w, 0);
    let no = |wave, by| w.rollout.approve_wave(wave, by, by, "").unwrap_err();
    assert_eq!(no(0, "carol"), NoWord::Given { by: "bob".into() });
    assert_eq!(w.look(), ["granted a"]);
    w.runs("a", Outcome::Patched);
    w.look();
    assert_eq!(w.pass(300), ["gate-passed 0", "granted b"], "the ring has begun");
}

#[test]
fn each_wave_is_the_first_wave_too() {
    let mut w = World::new(plan(&[&["a"], &["b"]], asks(EACH_WAVE)));
    assert_eq!(w.look(), [""; 0]);
    assert_eq!(waits(&w), Some(0), "{:?}", w.holds);
    says(&mut w, 0);
    assert_eq!(w.look(), ["granted a"]);
    w.runs("a", Outcome::Patched);
    w.look();
    w.pass(300);
    assert_eq!(waits(&w), Some(1), "{:?}", w.holds);
}

#[test]
fn where_there_are_pools_each_wave_that_begins_something_waits_for_its_word() {
    let mut w = pools(&[100], asks(EACH_WAVE));
    w.look();
    w.traffic();
    w.look();
    w.traffic();
    assert_eq!(w.look(), ["wave-ended 0"], "that blue serves is made sure of without a word");
    assert_eq!(waits(&w), Some(1), "{:?}", w.holds);
    assert_eq!(w.pass(HOUR), [""; 0]);
    says(&mut w, 1);
    assert_eq!(w.look(), ["gate-passed 0", "granted g1", "granted g2"]);
    ["g1", "g2"].iter().for_each(|id| w.runs(id, Outcome::Patched));
    w.look();
    w.pass(301);
    assert_eq!(waits(&w), Some(2), "{:?}", w.holds);
    says(&mut w, 2);
    w.look();
    assert_eq!(w.traffic(), ["g1 100", "g2 100"]);
}

#[test]
fn a_word_is_taken_while_the_rollout_is_paused_and_outlives_that() {
    let mut w = broad_only("broad");
    w.look();
    let paused = w.rollout.pause("alice", "lunch").unwrap();
    w.take(&paused);
    says(&mut w, 0);
    assert_eq!(w.look(), [""; 0]);
    let resumed = w.rollout.resume("alice", "back").unwrap();
    w.take(&resumed);
    assert_eq!(w.look(), ["granted a"]);
}

#[test]
fn what_an_older_server_granted_without_a_word_is_still_read_and_not_redeemed() {
    let mut w = broad_only("broad");
    let grant = RolloutEvent::Granted {
        host: "a".into(),
        assignment: "ro-1/a/5".into(),
        generation: 5,
        expires_at: w.now + jiff::SignedDuration::from_secs(HOUR),
    };
    w.take(&grant);
    let hold = w.try_redeem("a").unwrap_err();
    assert!(matches!(hold, Hold::WaveNotApproved { wave: 0, .. }), "{hold:?}");
    says(&mut w, 0);
    w.try_redeem("a").unwrap();
}

#[test]
fn a_rollout_whose_hosts_have_all_changed_waits_for_nobodys_word() {
    let mut w = broad_only(EACH_WAVE);
    for id in ["a", "b"] {
        w.host(id).cohort = Some(Digest::of(b"another"));
    }
    let said = w.look();
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:?}");
}
