//! Two pools behind a balancer: who has the requests when, and the way back.

use super::*;
use crate::plan::{PoolHost, PoolHosts, Pools};

const BLUE: [&str; 2] = ["b1", "b2"];
const GREEN: [&str; 2] = ["g1", "g2"];

fn pool(name: &str, hosts: &[&str]) -> PoolHosts {
    let member =
        |id: &&str| (HostId::from(*id), PoolHost { name: format!("name-of-{id}"), fit: true });
    PoolHosts { name: name.into(), hosts: hosts.iter().map(member).collect() }
}

/// Blue has the requests. Waves: make sure of it, patch green, the steps, patch blue.
pub(super) fn world(steps: &[u32], rule: GateRule) -> World {
    let mut waves: Vec<(&[&str], Option<u32>)> = vec![(&[], Some(0)), (&GREEN, None)];
    waves.extend(steps.iter().map(|step| (&[][..], Some(*step))));
    waves.push((&BLUE, None));
    let hosts: Vec<&[&str]> = waves.iter().map(|(hosts, _)| *hosts).collect();
    let mut plan = plan(&hosts, rule);
    for (wave, (_, traffic)) in plan.waves.iter_mut().zip(&waves) {
        (wave.traffic, wave.soak_seconds) = (*traffic, 0);
    }
    plan.pools = Some(Pools {
        idle: pool("green", &GREEN),
        serving: pool("blue", &BLUE),
        capacity_percent: 100,
    });
    World::new(plan)
}

impl World {
    /// Every host that was told something about its traffic says that it is so; gives who was told what.
    pub(super) fn traffic(&mut self) -> Vec<String> {
        let asked: Vec<(HostId, TrafficRun)> = self
            .rollout
            .traffic
            .iter()
            .filter(|(_, run)| run.state == TrafficState::Asked)
            .map(|(id, run)| (id.clone(), run.clone()))
            .collect();
        for (id, run) in &asked {
            let ended = TxEvent::Ended { outcome: Outcome::Switched };
            self.report(id.as_str(), &run.assignment, vec![ended]);
        }
        asked.iter().map(|(id, run)| format!("{id} {}", run.share)).collect()
    }

    /// The host cannot do what it was told.
    fn refuses_traffic(&mut self, id: &str) {
        self.refuses_traffic_as(id, "balancer");
    }

    fn refuses_traffic_as(&mut self, id: &str, code: &str) {
        let assignment = self.rollout.traffic[&HostId::from(id)].assignment.clone();
        self.report(id, &assignment, vec![TxEvent::Ended { outcome: refused(code) }]);
    }

    /// Everybody is told again what they were told, and says that it is so; gives what follows.
    fn made_sure(&mut self) -> Vec<String> {
        assert_eq!(self.traffic(), ["g1 100", "g2 100"], "nobody is out before somebody is in");
        assert_eq!(self.look(), ["traffic-asked", "traffic-asked"]);
        assert_eq!(self.traffic(), ["b1 0", "b2 0"]);
        self.look()
    }

    /// Up to green being patched and watched.
    fn patch_green(&mut self) {
        self.look();
        assert_eq!(self.traffic(), ["b1 100", "b2 100"]);
        self.look();
        assert_eq!(self.traffic(), ["g1 0", "g2 0"]);
        assert_eq!(self.look(), ["wave-ended 0", "gate-passed 0", "granted g1", "granted g2"]);
        GREEN.iter().for_each(|id| self.runs(id, Outcome::Patched));
        self.look();
        self.pass(301);
    }
}

#[test]
fn green_is_patched_then_gets_the_requests_in_steps_and_blue_is_the_way_back_until_they_have_baked()
{
    let mut w = world(&[10, 100], gate());
    w.patch_green();
    assert_eq!(w.traffic(), ["b1 90", "b2 90", "g1 10", "g2 10"]);
    assert_eq!(w.look(), ["wave-ended 2"]);
    assert!(matches!(w.waits_for(), Some(Hold::Bake { .. })));
    assert_eq!(w.pass(300), ["gate-passed 2", "traffic-asked", "traffic-asked"]);
    assert_eq!(w.traffic(), ["g1 100", "g2 100"], "blue serves until green has said that it does");
    w.look();
    assert_eq!(w.traffic(), ["b1 0", "b2 0"]);
    assert_eq!(w.look(), ["wave-ended 3"]);
    assert_eq!(w.word("b1"), "pending");
    assert_eq!(w.pass(300), ["gate-passed 3", "traffic-asked", "traffic-asked"]);
    assert_eq!(w.made_sure(), ["granted b1", "granted b2"]);
    assert!(!w.rollout.way_back_stands());
    BLUE.iter().for_each(|id| w.runs(id, Outcome::Patched));
    assert_eq!(w.look(), ["done"]);
    assert_eq!(w.rollout.traffic_aim(), Some(100));
}

#[test]
fn a_green_host_that_does_badly_under_traffic_turns_it_back_at_once_and_is_undone_where_the_policy_says_so()
 {
    for (undo_wave, then) in [(false, vec![]), (true, vec!["undo-asked g1", "undo-asked g2"])] {
        let mut w = world(&[50, 100], GateRule { undo_wave, ..gate() });
        w.patch_green();
        w.traffic();
        w.look();
        w.host("g1").quarantined = true;
        let turned = w.look();
        assert_eq!(turned[0], "halted gate-failed");
        assert_eq!(w.traffic(), ["b1 100", "b2 100"], "first those who take over");
        assert_eq!(w.look(), ["traffic-asked", "traffic-asked"]);
        assert_eq!(w.look(), [""; 0], "nobody is undone while it has requests");
        assert_eq!(w.traffic(), ["g1 0", "g2 0"]);
        assert_eq!(w.look(), then, "undo-wave = {undo_wave}");
        assert_eq!(w.word("b1"), "pending");
    }
}

#[test]
fn nobody_is_taken_out_while_those_who_take_over_have_not_said_so() {
    let mut w = world(&[100], gate());
    w.patch_green();
    let asked: Vec<&HostId> =
        w.rollout.traffic.keys().filter(|id| w.rollout.traffic_moves(id)).collect();
    assert_eq!(asked, ["g1", "g2"].map(HostId::from).iter().collect::<Vec<_>>());
    assert_eq!(w.look(), [""; 0]);
    let g1 = w.rollout.traffic[&HostId::from("g1")].assignment.clone();
    w.report("g1", &g1, vec![TxEvent::Ended { outcome: Outcome::Switched }]);
    assert_eq!(w.look(), [""; 0], "one of two is not all");
    w.traffic();
    assert_eq!(w.look(), ["traffic-asked", "traffic-asked"]);
}

#[test]
fn a_host_that_was_not_proved_gets_no_requests_and_too_few_proved_ones_halt() {
    for (capacity_percent, then) in [(100, "halted gate-failed"), (50, "traffic-asked")] {
        let rule = GateRule { max_failures: 1, min_success_percent: 50, ..gate() };
        let mut w = world(&[100], rule);
        w.rollout.plan_mut().pools.as_mut().unwrap().capacity_percent = capacity_percent;
        w.look();
        w.traffic();
        w.look();
        w.traffic();
        w.look();
        w.runs("g1", undone());
        w.runs("g2", Outcome::Patched);
        w.look();
        assert!(w.pass(301).contains(&then.to_owned()), "{capacity_percent} %");
        assert!(w.traffic().iter().all(|told| told != "g1 100"), "{capacity_percent} %");
    }
}

#[test]
fn an_order_that_fails_is_given_three_times_then_the_traffic_turns_back() {
    let mut w = world(&[100], gate());
    w.patch_green();
    for _ in 1..TRAFFIC_TRIES {
        w.refuses_traffic("g1");
        assert_eq!(w.look(), ["traffic-asked"]);
    }
    w.refuses_traffic("g1");
    assert_eq!(w.pass(1)[0], "halted gate-failed");
    // Blue has had it all the time, as far as is known; what g2 was told before is still on its way.
    assert_eq!(w.traffic(), ["b1 100", "b2 100", "g2 100"]);
    w.look();
    assert_eq!(w.traffic(), ["g1 0", "g2 0"]);
    let resume = w.rollout.resume("alice", "the balancer is mended").unwrap();
    w.take(&resume);
    w.look();
    assert_eq!(w.traffic(), ["g1 100", "g2 100"], "the step is gone again");
}

#[test]
fn a_host_that_asks_too_late_was_told_not_now_which_is_no_try_and_forgets_none() {
    let mut w = world(&[100], gate());
    w.patch_green();
    let opens = w.now + jiff::SignedDuration::from_secs(600);
    let shut = |w: &mut World, hold: Option<Hold>| {
        w.seen.hosts.values_mut().for_each(|host| host.window = hold.clone());
    };
    let closed = Hold::WindowClosed { opens_at: Some(opens) };
    w.refuses_traffic("g1");
    assert_eq!(w.look(), ["traffic-asked"]);
    // The window closes each time before it asks, more often than an order may fail.
    for _ in 0..=TRAFFIC_TRIES {
        shut(&mut w, Some(closed.clone()));
        let told = w.rollout.traffic[&HostId::from("g1")].clone();
        let answer =
            w.rollout.redeem(w.now, &"g1".into(), &told.assignment, told.generation, &w.seen);
        let hold = answer.unwrap_err();
        let ended = TxEvent::Ended { outcome: refused(hold.code()) };
        assert_eq!(w.report("g1", &told.assignment, vec![ended]), ["traffic-deferred"]);
        assert_eq!(w.look(), [""; 0], "it waits for the window");
        assert!(w.holds.iter().any(|it| it.host == Some("g1".into()) && it.hold == closed));
        shut(&mut w, None);
        assert_eq!(w.look(), ["traffic-asked"]);
    }
    // What did fail before is remembered.
    for _ in 2..TRAFFIC_TRIES {
        w.refuses_traffic("g1");
        assert_eq!(w.look(), ["traffic-asked"]);
    }
    w.refuses_traffic("g1");
    assert_eq!(w.pass(1)[0], "halted gate-failed");
}

#[test]
fn an_abort_takes_the_traffic_back_and_a_pause_leaves_it_where_it_is() {
    let mut w = world(&[50, 100], gate());
    w.patch_green();
    let pause = w.rollout.pause("alice", "lunch").unwrap();
    w.take(&pause);
    w.traffic();
    assert_eq!(w.pass(1000), [""; 0]);
    let abort = w.rollout.abort("alice", "enough").unwrap();
    w.take(&abort);
    w.look();
    assert_eq!(w.traffic(), ["b1 100", "b2 100"]);
    w.look();
    assert_eq!(w.traffic(), ["g1 0", "g2 0"]);
    assert_eq!(w.look(), ["done"]);
    assert!(w.rollout.is_settled());
}

#[test]
fn a_step_waits_for_the_window_and_says_so_and_the_way_back_waits_for_none() {
    let mut w = world(&[50, 100], gate());
    // Before anybody would be silent.
    let opens = w.now + jiff::SignedDuration::from_secs(600);
    let shut = |w: &mut World, hold: Option<Hold>| {
        w.seen.hosts.values_mut().for_each(|host| host.window = hold.clone());
    };
    let closed = Hold::WindowClosed { opens_at: Some(opens) };
    shut(&mut w, Some(closed.clone()));
    assert_eq!(w.look(), [""; 0], "nobody is told even what is so");
    let told: Vec<_> = w.holds.iter().map(|w| (w.host.clone(), w.hold.clone())).collect();
    assert_eq!(told, BLUE.map(|id| (Some(id.into()), closed.clone())));
    assert_eq!(w.wake_at, Some(opens));
    shut(&mut w, None);
    w.patch_green();
    // The window closes while the step is under way: who was told in time does it, who asks too late does not.
    shut(&mut w, Some(closed.clone()));
    let asks = |w: &World, id: &str| {
        let told = &w.rollout.traffic[&HostId::from(id)];
        w.rollout.redeem(w.now, &id.into(), &told.assignment, told.generation, &w.seen)
    };
    assert_eq!(asks(&w, "g1"), Err(closed.clone()));
    w.refuses_traffic_as("g1", "window-closed");
    assert_eq!(w.look(), [""; 0], "it is told again when the window opens");
    shut(&mut w, None);
    assert_eq!(w.look(), ["traffic-asked"]);
    w.traffic();
    assert_eq!(w.look(), ["wave-ended 2"]);
    shut(&mut w, Some(closed));
    assert_eq!(w.pass(300), ["gate-passed 2"], "half of the requests stay where they are");
    // Too little of the window is left to begin.
    shut(&mut w, None);
    let closes = w.now + jiff::SignedDuration::from_secs(59);
    w.seen.hosts.values_mut().for_each(|host| host.closes_at = Some(closes));
    assert_eq!(w.look(), [""; 0]);
    assert!(w.holds.iter().any(|w| matches!(w.hold, Hold::WindowTooShort { .. })));
    // What goes wrong is taken back at once, whatever the hour.
    shut(&mut w, Some(Hold::WindowClosed { opens_at: None }));
    w.host("g1").quarantined = true;
    assert_eq!(w.look()[0], "halted gate-failed");
    assert_eq!(asks(&w, "b1"), Ok(None));
    assert_eq!(w.traffic(), ["b1 100", "b2 100"]);
    w.look();
    assert_eq!(w.traffic(), ["g1 0", "g2 0"]);
}

#[test]
fn once_blue_is_being_patched_there_is_no_way_back_and_green_keeps_the_traffic() {
    let mut w = world(&[100], gate());
    w.patch_green();
    w.traffic();
    w.look();
    w.traffic();
    w.look();
    w.pass(300);
    w.made_sure();
    w.runs("b1", undone());
    assert_eq!(w.look(), ["halted too-many-failures"]);
    assert_eq!(w.rollout.traffic_aim(), Some(100));
    assert_eq!(w.look(), [""; 0]);
}

#[test]
fn a_rollout_leads_no_traffic_while_an_earlier_one_leads_it() {
    let mut w = world(&[100], gate());
    for (phase, to_do) in [
        ("running", "begins when that one has ended"),
        ("halted", "fettle rollout abort ro-0 --reason WHY"),
        ("paused", "fettle rollout resume ro-0 --reason WHY"),
        ("aborted", "has given the requests back"),
    ] {
        w.seen.pools_busy = Some(Leader { rollout: "ro-0".into(), phase });
        assert_eq!(w.look(), [""; 0]);
        let hold = w.waits_for().unwrap();
        assert_eq!(hold.code(), "traffic-led");
        let said = hold.to_string();
        assert!(said.contains("ro-0") && said.contains(phase) && said.contains(to_do), "{said}");
    }
    w.seen.pools_busy = None;
    assert_eq!(w.look(), ["traffic-asked", "traffic-asked"]);
}

#[test]
fn an_order_about_traffic_stands_until_another_follows_and_a_host_that_asks_late_is_told_no() {
    let mut w = world(&[10, 100], gate());
    w.patch_green();
    let late = w.rollout.traffic[&HostId::from("g1")].clone();
    let asks = |w: &World| {
        w.rollout.redeem(w.now, &"g1".into(), &late.assignment, late.generation, &w.seen)
    };
    assert_eq!(asks(&w), Ok(None));
    w.host("g2").quarantined = true;
    w.look();
    w.traffic();
    w.look();
    assert!(matches!(asks(&w), Err(Hold::GrantGone { .. })));
    let undo = w.rollout.undo(&["g1".into()], "slow", &w.seen);
    assert!(undo.is_err(), "its traffic is being set");
}

#[test]
fn nobody_is_blamed_for_an_outage_of_the_server_in_the_middle_of_a_step() {
    let mut w = world(&[50, 100], gate());
    w.patch_green();
    w.traffic();
    w.look();
    w.now += jiff::SignedDuration::from_secs(HOUR);
    w.seen.listening_since = Some(w.now);
    assert_eq!(w.look(), [] as [&str; 0], "nobody has spoken yet, and nobody is silent");
    assert_eq!(w.waits_for().map(Hold::code), Some("no-data"));
    assert_eq!(w.pass(1), ["gate-passed 2", "traffic-asked", "traffic-asked"]);
}

#[test]
fn a_blue_host_that_falls_silent_before_it_answered_keeps_nobody_waiting_and_is_not_patched_under_its_order()
 {
    let mut w = world(&[100], gate());
    w.look();
    w.mute.push("b1".into());
    let b2 = w.rollout.traffic[&HostId::from("b2")].assignment.clone();
    w.report("b2", &b2, vec![TxEvent::Ended { outcome: Outcome::Switched }]);
    assert_eq!(w.pass(1000), ["traffic-asked", "traffic-asked"], "b1 is left as it is");
    for host in GREEN {
        let told = w.rollout.traffic[&HostId::from(host)].assignment.clone();
        w.report(host, &told, vec![TxEvent::Ended { outcome: Outcome::Switched }]);
    }
    assert_eq!(w.look(), ["wave-ended 0", "gate-passed 0", "granted g1", "granted g2"]);
    assert!(w.rollout.traffic_moves(&"b1".into()));
}

#[test]
fn an_abort_stays_open_for_a_silent_host_that_has_requests_and_ends_where_nobody_can_take_them_back()
 {
    let under_way = || {
        let mut w = world(&[50, 100], gate());
        w.patch_green();
        w.traffic();
        w.look();
        w
    };
    let mut w = under_way();
    w.mute.push("g1".into());
    w.pass(1000);
    w.traffic();
    let abort = w.rollout.abort("alice", "enough").unwrap();
    w.take(&abort);
    w.look();
    w.traffic();
    w.pass(1000);
    assert!(w.rollout.ended_at.is_none(), "g1 may have requests, and cannot be told");
    assert_eq!(w.held("g1").map(Hold::code), Some("host-silent"));
    w.mute.clear();
    assert_eq!(w.pass(1), ["traffic-asked"]);
    assert_eq!(w.traffic(), ["g1 0"]);
    assert_eq!(w.look(), ["done"]);

    let mut w = under_way();
    BLUE.iter().for_each(|id| w.host(id).quarantined = true);
    let abort = w.rollout.abort("alice", "enough").unwrap();
    w.take(&abort);
    let said = w.look();
    assert!(said.contains(&"done".to_owned()), "{said:?}");
    assert!(!said.contains(&"traffic-asked".to_owned()), "green serves: nobody else is there");
}

#[test]
fn a_step_makes_sure_of_what_was_set_before_for_a_balancer_forgets_it_when_it_is_reloaded() {
    let mut w = world(&[100], gate());
    w.patch_green();
    assert_eq!(w.traffic(), ["g1 100", "g2 100"]);
    w.look();
    assert_eq!(w.traffic(), ["b1 0", "b2 0"]);
    assert_eq!(w.look(), ["wave-ended 2"]);
    // While it baked, the balancer may have been reloaded: blue is not patched before it is out for sure.
    let said = w.pass(301);
    assert_eq!(said, ["gate-passed 2", "traffic-asked", "traffic-asked"]);
    assert_eq!(w.made_sure(), ["granted b1", "granted b2"]);
    // Each host once: who is at work is not told again.
    w.runs("b1", Outcome::Patched);
    assert_eq!(w.look(), [""; 0]);
    w.runs("b2", Outcome::Patched);
    assert_eq!(w.look(), ["done"]);
}

#[test]
fn after_a_halt_whoever_has_had_the_requests_all_the_time_is_told_so_again() {
    let mut w = world(&[100], gate());
    w.look();
    w.traffic();
    w.look();
    w.traffic();
    w.look();
    w.try_redeem("g2").unwrap();
    w.runs("g1", undone());
    let said = w.pass(1);
    assert_eq!(said.last().map(String::as_str), Some("traffic-asked"), "{said:?}");
    assert_eq!(w.traffic(), ["b1 100", "b2 100"]);
    w.look();
    // The one that is still at work is left alone until it has ended.
    assert_eq!(w.traffic(), ["g1 0"]);
    w.runs("g2", Outcome::Patched);
    w.look();
    assert_eq!(w.traffic(), ["g2 0"]);
    assert_eq!(w.look(), [""; 0]);
    let phase = w.rollout.phase.clone();
    assert!(matches!(phase, Phase::Halted { .. }), "{phase:?}");
}

#[test]
fn a_host_that_did_what_it_was_told_and_fell_silent_keeps_nobody_waiting() {
    let mut w = world(&[100], gate());
    w.patch_green();
    w.traffic();
    w.look();
    w.traffic();
    w.look();
    w.mute.push("b2".into());
    let said = w.pass(1301);
    assert!(said.contains(&"gate-passed 2".to_owned()), "{said:?}");
    w.traffic();
    w.look();
    assert_eq!(w.traffic(), ["b1 0"], "b2 was out when it fell silent");
    assert_eq!(w.look(), ["granted b1"]);
}
