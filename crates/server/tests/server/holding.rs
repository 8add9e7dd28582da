//! What holds a rollout back that was approved before: a freeze, a window that is too short, hosts that are not well.

use crate::fleet::{Agent, Lab, POLICY, finished, rollout, start, until};
use fettle_core::assignment::Assignment;
use fettle_core::inventory::Service;
use fettle_core::rollout::HostState;
use fettle_core::transaction::{Fault, Outcome, Step, TxEvent};
use fettle_core::{Hold, Timestamp};
use fettle_wire::agent::{Redeem, RedeemReply};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

fn fleet(lab: &Lab) -> Vec<Agent> {
    vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad"), lab.host("web-2", "broad")]
}

fn apply(lab: &Lab, sections: &str) {
    lab.post_bytes("/policies", format!("{POLICY}\n{sections}").as_bytes());
}

fn given(lab: &Lab, agent: &mut Agent) -> Assignment {
    until("an assignment", || {
        agent.checkin(lab);
        agent.at_work()
    })
}

/// Gives the order back, as an agent does that was told "not now".
fn give_back(lab: &Lab, agent: &mut Agent, assignment: &Assignment, hold: &Hold) {
    let fault = Fault {
        code: hold.code().into(),
        message: hold.to_string(),
        hint: "it is asked again".into(),
    };
    agent.note(assignment, TxEvent::Failed { step: Step::Snapshot, fault: fault.clone() });
    agent.note(assignment, TxEvent::Ended { outcome: Outcome::Refused { fault } });
    agent.checkin(lab);
}

fn waits(lab: &Lab, code: &str) -> Hold {
    until("the hold", || {
        let waiting = rollout(lab).waiting;
        waiting.into_iter().map(|w| w.hold).find(|hold| hold.code() == code)
    })
}

#[test]
fn a_freeze_declared_in_the_middle_of_a_rollout_holds_it_until_it_is_lifted() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    let assignment = given(&lab, &mut agents[0]);
    agents[0].prepare(&assignment);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (from, to) = (today.checked_sub(1.day()).unwrap(), today.checked_add(2.days()).unwrap());
    apply(&lab, &format!("[[blackout]]\nfrom = {from}\nto = {to}\nreason = \"freeze\"\n"));
    let RedeemReply::Stop { hold } = agents[0].redeem(&lab, &assignment) else {
        panic!("it was let begin")
    };
    assert!(matches!(&hold, Hold::Blackout { reason, .. } if reason == "freeze"), "{hold}");
    give_back(&lab, &mut agents[0], &assignment, &hold);
    assert_eq!(waits(&lab, "blackout"), hold);
    assert!(agents[0].checkin(&lab).assignment.is_none());
    assert_eq!(rollout(&lab).row.hosts_by_state.get("pending"), Some(&3));
    // Lifted: nothing else of the newer text counts for what was approved before.
    apply(
        &lab,
        "[[exclude]]\npackage = \"*\"\nreason = \"x\"\nowner = \"x\"\nuntil = 2099-01-01\n",
    );
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&3));
}

/// A window that is open now, and for so many minutes yet.
fn open_for(minutes: i64) -> String {
    let begun = Timestamp::now() - SignedDuration::from_mins(5);
    let start = begun.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    let duration = minutes + 6;
    format!("[[window]]\nstart = \"{start}\"\nduration = \"{duration}m\"\ntime-zone = \"UTC\"\n")
}

#[test]
fn a_change_that_takes_longer_than_the_window_is_open_waits_and_is_not_given_out_again() {
    let lab = Lab::furnished();
    apply(&lab, &open_for(20));
    let mut agents = [lab.host("canary-1", "canary")];
    start(&lab);
    let assignment = given(&lab, &mut agents[0]);
    agents[0].prepare(&assignment);
    let ask = |needs_seconds| Redeem {
        assignment: assignment.id.clone(),
        generation: assignment.generation,
        needs_seconds: Some(needs_seconds),
    };
    let answer: RedeemReply = agents[0].call(&lab, "redeem", &ask(3600)).unwrap();
    let RedeemReply::Stop { hold } = answer else { panic!("it was let begin") };
    assert!(matches!(hold, Hold::WindowTooShort { needs_seconds: 3600, .. }), "{hold}");
    give_back(&lab, &mut agents[0], &assignment, &hold);
    let Hold::WindowTooShort { needs_seconds, .. } = waits(&lab, "window-too-short") else {
        panic!()
    };
    assert!(needs_seconds >= 3600, "{needs_seconds}");
    for _ in 0..3 {
        assert!(agents[0].checkin(&lab).assignment.is_none());
    }
    let detail = rollout(&lab);
    assert_eq!((detail.hosts[0].run.grants, &detail.hosts[0].run.state), (1, &HostState::Pending));
}

#[test]
fn where_a_service_is_down_on_one_host_the_others_are_not_patched_below_what_must_be_well() {
    let lab = Lab::furnished();
    apply(
        &lab,
        "[[budget]]\nname = \"web\"\nselect = \"all\"\nmin-healthy = 2\nservices = [\"nginx.service\"]\n",
    );
    let mut agents = fleet(&lab);
    let nginx = |agents: &mut [Agent], number: usize, active: &str| {
        let service = Service {
            unit: "nginx.service".into(),
            active: active.into(),
            sub: String::new(),
            enabled: "enabled".into(),
        };
        agents[number].inventory.services = vec![service];
        agents[number].checkin(&lab);
    };
    for number in 0..3 {
        nginx(&mut agents, number, if number == 2 { "failed" } else { "active" });
    }
    start(&lab);
    let Hold::BudgetUsed { budget, limit, disrupted } = waits(&lab, "budget-used") else {
        panic!()
    };
    assert_eq!((budget.as_str(), limit), ("web", 1));
    assert_eq!(disrupted, std::slice::from_ref(&agents[2].id));
    assert!(agents[0].checkin(&lab).assignment.is_none());
    // Somebody has seen to it.
    nginx(&mut agents, 2, "active");
    given(&lab, &mut agents[0]);
}
