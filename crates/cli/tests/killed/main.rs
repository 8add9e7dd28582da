//! The server's own process, killed, stopped and doubled in the middle of rollouts, with scripted agents over TLS.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

// The scripted agents are those of the server's own tests, which need more of them than these.
#[allow(dead_code)]
#[path = "../../../server/tests/server/fleet.rs"]
mod fleet;
#[allow(dead_code)]
#[path = "../../../server/tests/server/http.rs"]
mod http;
mod two;
mod watch;
mod world;

use world::{Kill, World};

/// Waves, undo, and the same once more with another version: the plain story that no death may change.
fn story(world: &mut World) {
    for cycle in 1..=2 {
        world.offer(&format!("3.0.15-1~deb12u{cycle}"));
        let id = world.start();
        world.until(&id, |r| r.row.ended_at.is_some());
        world.undo(&id);
        world.until(&id, |r| r.row.hosts_by_state.get("undone") == Some(&3));
    }
}

/// As long as at least `kills` have fired: in each world anew, so that each story can be compared with the plain one.
fn killed_so_often(kills: usize) {
    let mut plain = World::new(Vec::new());
    story(&mut plain);
    let wanted = plain.account();
    assert_eq!(plain.broken(), Vec::<String>::new());
    let (mut fired, mut worlds, mut kinds) = (0, 0, std::collections::BTreeMap::new());
    while fired < kills {
        worlds += 1;
        let mut world = World::new(Kill::some(worlds));
        story(&mut world);
        assert_eq!(world.broken(), Vec::<String>::new(), "world {worlds}");
        let account = world.account();
        assert_eq!(account, wanted, "world {worlds}: it ended otherwise than without a death");
        assert!(!world.fired.is_empty(), "world {worlds}: nobody was killed");
        fired += world.fired.len();
        for kind in &world.fired {
            *kinds.entry(kind.clone()).or_insert(0) += 1;
        }
    }
    println!("S1 {fired} kills in {worlds} worlds of two rollouts, done and taken back: {kinds:?}");
}

#[test]
fn killed_at_any_write_or_instant_the_server_ends_each_rollout_as_if_it_had_not_been() {
    killed_so_often(40);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn killed_three_hundred_times_it_still_does() {
    killed_so_often(300);
}
