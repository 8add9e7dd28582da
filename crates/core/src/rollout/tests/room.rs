//! Room that budgets leave, and time that windows leave.

use super::*;
use crate::rollout::Foretold;

#[test]
fn a_host_on_which_a_unit_is_not_active_uses_up_the_budget_that_asks_for_it() {
    let mut plan = plan(&[&["a"]], gate());
    let asks = Budget { services: vec!["web.service".into()], ..budget(&["a", "other"], 1) };
    plan.budgets = vec![asks];
    let mut w = World::new(plan.clone());
    w.host("other").down.insert("web.service".into());
    assert_eq!(w.look(), [] as [&str; 0]);
    let Some(Hold::BudgetUsed { limit: 1, disrupted, .. }) = w.held("a") else { panic!() };
    assert_eq!(disrupted, &[HostId::from("other")]);
    w.host("other").down.clear();
    assert_eq!(w.look(), ["granted a"]);
    // It stops between grant and redeem.
    w.host("other").down.insert("web.service".into());
    assert_eq!(w.try_redeem("a").unwrap_err().code(), "budget-used");

    // Who is to be patched may be the one that is not well: it takes no more room than it has.
    let mut w = World::new(plan.clone());
    w.host("a").down.insert("web.service".into());
    assert_eq!(w.look(), ["granted a"]);

    // Another budget asks for nothing.
    plan.budgets = vec![budget(&["a", "other"], 1)];
    let mut w = World::new(plan);
    w.host("other").down.insert("web.service".into());
    assert_eq!(w.look(), ["granted a"]);
}

#[test]
fn where_so_many_have_to_be_well_a_host_that_leaves_takes_room_with_it() {
    let mut plan = plan(&[&["a", "b"]], gate());
    plan.budgets = vec![Budget { min_healthy: Some(2), ..budget(&["a", "b", "c", "d"], 2) }];
    let mut w = World::new(plan.clone());
    assert_eq!(w.look(), ["granted a", "granted b"]);
    let mut w = World::new(plan.clone());
    w.seen.hosts.remove(&HostId::from("d"));
    assert_eq!(w.look(), ["granted a"]);
    assert!(matches!(w.held("b"), Some(Hold::BudgetUsed { limit: 1, .. })));
    let mut w = World::new(plan);
    for gone in ["c", "d"] {
        w.seen.hosts.remove(&HostId::from(gone));
    }
    assert_eq!(w.look(), [] as [&str; 0]);
    assert!(matches!(w.held("a"), Some(Hold::BudgetUsed { limit: 0, .. })));
}

fn in_seconds(w: &World, seconds: i64) -> Timestamp {
    w.now + jiff::SignedDuration::from_secs(seconds)
}

#[test]
fn nothing_is_granted_into_a_window_that_closes_before_the_change_could_be_taken_back() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    let closes_at = in_seconds(&w, 899);
    w.host("a").closes_at = Some(closes_at);
    w.host("a").takes_seconds = 900;
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a"), Some(&Hold::WindowTooShort { closes_at, needs_seconds: 900 }));
    assert_eq!(w.wake_at, Some(closes_at), "it is looked at again when the next window may open");
    let closes_at = in_seconds(&w, 900);
    w.host("a").closes_at = Some(closes_at);
    assert_eq!(w.look(), ["granted a"]);
}

#[test]
fn what_a_rehearsal_foretells_counts_when_the_grant_is_redeemed_and_ever_after() {
    let mut w = World::new(plan(&[&["a"]], gate()));
    let closes_at = in_seconds(&w, 600);
    w.host("a").closes_at = Some(closes_at);
    assert_eq!(w.look(), ["granted a"], "nothing is known of it yet");
    assert_eq!(w.pass(60), [] as [&str; 0]);
    let run = w.run("a").clone();
    let (order, generation) = (run.assignment.unwrap(), run.generation.unwrap());
    let foretell = |w: &World, generation| w.rollout.foretell(&"a".into(), &order, generation, 541);
    assert_eq!(foretell(&w, generation + 1), None, "of another grant");
    let said = foretell(&w, generation).unwrap();
    w.take(&said);
    let short = Hold::WindowTooShort { closes_at, needs_seconds: 541 };
    assert_eq!(w.try_redeem("a"), Err(short));
    let foretold = Foretold { changing_seconds: 541, preparing_seconds: 60 };
    assert_eq!(w.run("a").foretold, Some(foretold));

    // The host gives the order back; into what is left of this window it is not granted again.
    let fault = Fault {
        code: "window-too-short".into(),
        message: "541 s".into(),
        hint: "wait for the next window".into(),
    };
    w.ends("a", Outcome::Refused { fault });
    assert_eq!(w.look(), [] as [&str; 0]);
    assert_eq!(w.held("a"), Some(&Hold::WindowTooShort { closes_at, needs_seconds: 601 }));
    assert_eq!(w.rollout.failures, 0);

    // Into the next one it is; what others took is not asked any more.
    let closes_at = in_seconds(&w, 601);
    w.host("a").closes_at = Some(closes_at);
    w.host("a").takes_seconds = 9000;
    assert_eq!(w.look(), ["granted a"]);
    w.try_redeem("a").unwrap();
}
