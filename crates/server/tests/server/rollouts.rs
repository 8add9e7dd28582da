//! Rollouts with scripted agents, and crashes in the middle of them.

use crate::fleet::{Agent, CVE, Lab, OLD, finished, inventory, plan, rollout, start, until};
use fettle_core::rollout::{HostState, Phase};
use fettle_core::transaction::Step;
use fettle_core::{Digest, Hold};
use fettle_wire::agent::{CheckInReply, Redeem, RedeemReply};
use fettle_wire::api::{
    Because, FindingRow, HostDetail, LedgerVerified, Page, PlanDetail, RolloutDetail, StartRollout,
};

fn because(reason: &str) -> Because {
    Because { reason: reason.into(), hosts: vec![], wave: None }
}

/// Lets the agents speak until one of them has something to do; gives which.
fn next_at_work(lab: &Lab, agents: &mut [Agent]) -> usize {
    until("an assignment", || {
        agents.iter_mut().position(|agent| {
            agent.checkin(lab);
            agent.at_work().is_some()
        })
    })
}

fn fleet(lab: &Lab) -> Vec<Agent> {
    vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad"), lab.host("web-2", "broad")]
}

#[test]
fn a_rollout_goes_through_canary_and_gate_to_proved_fixes() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    let plan = plan(&lab);
    assert_eq!((plan.plan.hosts.len(), plan.plan.waves.len()), (3, 2));
    let detail: RolloutDetail =
        lab.post("/rollouts", &StartRollout { plan: plan.number, digest: Some(plan.digest) });
    assert_eq!(detail.row.phase, Phase::Running);
    assert_eq!(next_at_work(&lab, &mut agents), 0, "the canary comes first");
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&3));
    assert!(done.hosts.iter().all(|h| h.transaction.is_some() && h.steps.len() == Step::ALL.len()));
    let open: Page<FindingRow> = lab.get("/findings?state=open");
    assert_eq!(open.total, 0);
    let fixed: Page<FindingRow> = lab.get(&format!("/findings?state=fixed&id={CVE}"));
    assert_eq!(fixed.total, 3);
    let ledger: LedgerVerified = lab.get("/ledger/verify");
    assert_eq!(ledger.broken, None);
}

#[test]
fn a_bad_patch_hits_the_canary_only_halts_and_is_barred() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    assert_eq!(next_at_work(&lab, &mut agents), 0);
    agents[0].work(&lab, false);
    let halted = until("the halt", || {
        Some(rollout(&lab)).filter(|r| matches!(r.row.phase, Phase::Halted { .. }))
    });
    assert!(matches!(
        &halted.row.phase,
        Phase::Halted { hold: Hold::TooManyFailures { failed: 1, allowed: 0 } }
    ));
    for agent in &mut agents {
        assert!(agent.checkin(&lab).assignment.is_none());
    }
    let states: Vec<_> =
        halted.hosts.iter().map(|h| (h.name.as_str(), h.run.state.word())).collect();
    assert_eq!(states, [("canary-1", "undone"), ("web-1", "pending"), ("web-2", "pending")]);
    // Who only watches is told of those that move or went wrong, and how far each wave is.
    let watched: RolloutDetail = lab.get("/rollouts/ro-1?hosts=moving");
    assert_eq!(watched.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["canary-1"]);
    assert!(watched.waves.iter().all(|wave| wave.hosts.is_empty()));
    let lanes: Vec<_> = watched.lanes.iter().map(|lane| &lane.hosts_by_state).collect();
    assert_eq!(lanes, [&[("undone".to_owned(), 1)].into(), &[("pending".to_owned(), 2)].into()]);
    // The next plan does not offer it again.
    let next = plan(&lab);
    assert!(next.plan.hosts.is_empty(), "{:?}", next.plan.hosts.keys());
    let barred = next
        .plan
        .held()
        .flat_map(|h| h.what.reasons.iter())
        .filter(|r| matches!(r, Hold::VersionBarred { .. }));
    assert!(barred.count() > 0);
}

#[test]
fn killed_at_every_stage_the_server_goes_on_where_it_stood() {
    let mut lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    lab.restart();
    let canary = next_at_work(&lab, &mut agents);
    assert_eq!(canary, 0);
    let assignment = agents[0].at_work().unwrap();
    lab.restart();
    // The very same assignment, not another one.
    let reply = agents[0].checkin(&lab);
    let again = reply.assignment.unwrap().open(&agents[0].assignment_key).unwrap();
    assert_eq!(again, assignment);
    agents[0].prepare(&assignment);
    assert_eq!(agents[0].redeem(&lab, &assignment), RedeemReply::Go);
    lab.restart();
    assert_eq!(
        agents[0].redeem(&lab, &assignment),
        RedeemReply::Go,
        "redeemed once, answered the same for ever"
    );
    agents[0].patch(&assignment);
    let entries = agents[0].journals[0].1.len() as u64;
    let reply: CheckInReply = agents[0].call(&lab, "checkin", &agents[0].says(false)).unwrap();
    assert_eq!(reply.acknowledged.get(&assignment.transaction()), Some(&entries));
    lab.restart();
    // Acknowledged means kept.
    let detail: HostDetail = lab.get("/hosts/canary-1");
    assert_eq!(detail.transactions[0].last + 1, entries);
    let versions: Vec<u64> = rollout(&lab).events.iter().map(|e| e.version).collect();
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&3));
    let granted = done
        .events
        .iter()
        .filter(|e| matches!(e.event, fettle_core::rollout::RolloutEvent::Granted { .. }));
    assert_eq!(granted.count(), 3, "nobody was told twice");
    let after: Vec<u64> = done.events.iter().map(|e| e.version).collect();
    assert_eq!(after[..versions.len()], versions[..]);
    assert_eq!(after, (1..=after.len() as u64).collect::<Vec<_>>());
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn a_report_sent_twice_or_in_pieces_counts_once() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    next_at_work(&lab, &mut agents);
    let assignment = agents[0].at_work().unwrap();
    agents[0].prepare(&assignment);
    let whole = agents[0].says(false);
    let reply: CheckInReply = agents[0].call(&lab, "checkin", &whole).unwrap();
    let again: CheckInReply = agents[0].call(&lab, "checkin", &whole).unwrap();
    assert_eq!(reply.acknowledged, again.acknowledged);
    // Only the tail, and a tail with a gap before it.
    let mut tail = whole.clone();
    tail.reports[0].entries.drain(..3);
    let again: CheckInReply = agents[0].call(&lab, "checkin", &tail).unwrap();
    assert_eq!(reply.acknowledged, again.acknowledged);
    assert_eq!(agents[0].redeem(&lab, &assignment), RedeemReply::Go);
    agents[0].patch(&assignment);
    let mut gap = agents[0].says(false);
    let known = reply.acknowledged[&assignment.transaction()] as usize;
    gap.reports[0].entries.drain(..known + 2);
    let again: CheckInReply = agents[0].call(&lab, "checkin", &gap).unwrap();
    assert_eq!(reply.acknowledged, again.acknowledged, "what comes after a gap is not taken");
    let before = lab.get::<Page<serde_json::Value>>("/ledger?limit=1").total;
    agents[0].checkin(&lab);
    assert!(lab.get::<Page<serde_json::Value>>("/ledger?limit=1").total > before);
}

#[test]
fn a_host_can_neither_redeem_nor_report_for_another() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    next_at_work(&lab, &mut agents);
    let assignment = agents[0].at_work().unwrap();
    let asked = Redeem {
        assignment: assignment.id.clone(),
        generation: assignment.generation,
        needs_seconds: None,
    };
    let (status, problem) = agents[1].call::<RedeemReply>(&lab, "redeem", &asked).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "not-yours"));
    agents[0].prepare(&assignment);
    agents[0].patch(&assignment);
    let mut forged = agents[1].says(false);
    forged.reports = agents[0].says(false).reports;
    let (status, problem) = agents[1].call::<CheckInReply>(&lab, "checkin", &forged).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "not-yours"));
    let canary = rollout(&lab).hosts.into_iter().find(|h| h.name == "canary-1").unwrap();
    assert_eq!(canary.run.state, HostState::Granted);
}

#[test]
fn after_pause_or_abort_no_grant_is_redeemed() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    next_at_work(&lab, &mut agents);
    let assignment = agents[0].at_work().unwrap();
    agents[0].prepare(&assignment);
    let paused: RolloutDetail = lab.post("/rollouts/ro-1/pause", &because("lunch"));
    assert!(
        matches!(&paused.row.phase, Phase::Paused { by, reason } if by == "alice" && reason == "lunch")
    );
    assert!(matches!(agents[0].redeem(&lab, &assignment), RedeemReply::Stop { .. }));
    assert!(agents[0].checkin(&lab).assignment.is_none(), "it is withdrawn");
    let (status, problem) = lab.refused("POST", "/rollouts/ro-1/pause", br#"{"reason":"again"}"#);
    assert_eq!((status, problem.code.as_str()), (409, "rollout-state"));
    let _: RolloutDetail = lab.post("/rollouts/ro-1/abort", &because("enough"));
    let ended = until("the end", || Some(rollout(&lab)).filter(|r| r.row.ended_at.is_some()));
    assert!(matches!(ended.row.phase, Phase::Aborted { .. }) || ended.row.phase == Phase::Done);
    assert!(matches!(agents[0].redeem(&lab, &assignment), RedeemReply::Stop { .. }));
    for agent in &mut agents {
        assert!(agent.checkin(&lab).assignment.is_none());
    }
}

#[test]
fn an_operator_takes_a_finished_rollout_back() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    finished(&lab, &mut agents);
    let detail: RolloutDetail = lab.post("/rollouts/ro-1/undo", &because("customers complain"));
    assert!(detail.hosts.iter().all(|h| h.run.undo_asked.is_some()));
    let undone = until("the undo", || {
        for agent in &mut agents {
            agent.checkin(&lab);
            agent.work(&lab, true);
        }
        Some(rollout(&lab)).filter(|r| r.row.hosts_by_state.get("undone") == Some(&3))
    });
    assert_eq!(undone.row.hosts_by_state.get("patched").copied().unwrap_or(0), 0);
    let open: Page<FindingRow> = lab.get(&format!("/findings?state=open&id={CVE}"));
    assert_eq!(open.total, 3);
    let (status, problem) = lab.refused("POST", "/rollouts/ro-1/undo", b"{}");
    assert_eq!((status, problem.code.as_str()), (409, "nothing-to-undo"));
}

#[test]
fn a_plan_is_started_only_as_it_was_seen_and_only_while_its_parent_is_in_force() {
    let lab = Lab::furnished();
    let _agents = fleet(&lab);
    let (first, rival) = (plan(&lab), plan(&lab));
    let wrong = StartRollout { plan: first.number, digest: Some(Digest::of(b"x")) };
    let (status, problem) = lab.refused("POST", "/rollouts", &serde_json::to_vec(&wrong).unwrap());
    assert_eq!((status, problem.code.as_str()), (409, "other-plan"));
    let go = |plan: &PlanDetail| {
        serde_json::to_vec(&StartRollout { plan: plan.number, digest: Some(plan.digest) }).unwrap()
    };
    assert_eq!(lab.call("POST", "/rollouts", &go(&first)).status, 201);
    for late in [&rival, &first] {
        let (status, problem) = lab.refused("POST", "/rollouts", &go(late));
        assert_eq!((status, problem.code.as_str()), (409, "changed-meanwhile"));
    }
    // Made now, it follows the one in force; but every host is busy.
    let next = plan(&lab);
    assert_eq!(next.plan.parent, Some(first.digest));
    let (status, problem) = lab.refused("POST", "/rollouts", &go(&next));
    assert_eq!((status, problem.code.as_str()), (409, "nothing-to-do"));
}

#[test]
fn a_host_that_changed_since_the_plan_is_left_alone() {
    let lab = Lab::furnished();
    let mut agents = [lab.host("canary-1", "canary")];
    let plan = plan(&lab);
    agents[0].inventory.packages[1].version = "3.0.14-2".into();
    agents[0].checkin(&lab);
    let _: RolloutDetail = lab.post("/rollouts", &StartRollout { plan: plan.number, digest: None });
    let ended = until("the end", || Some(rollout(&lab)).filter(|r| r.row.ended_at.is_some()));
    assert!(matches!(ended.hosts[0].run.state, HostState::Cancelled { hold: Hold::HostChanged }));
    assert!(agents[0].checkin(&lab).assignment.is_none());
}

#[test]
fn a_server_restored_from_an_old_backup_does_not_give_a_generation_twice() {
    let lab = Lab::furnished();
    let mut agents = [lab.host("canary-1", "canary")];
    agents[0].generation = 41;
    agents[0].checkin(&lab);
    start(&lab);
    next_at_work(&lab, &mut agents);
    assert_eq!(agents[0].at_work().unwrap().generation, 42);
    agents[0].inventory = inventory(OLD);
}

#[test]
fn checking_in_without_news_writes_nothing_to_the_ledger_or_the_findings() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    let entries = |lab: &Lab| lab.get::<Page<serde_json::Value>>("/ledger?limit=1").total;
    let before = entries(&lab);
    for _ in 0..20 {
        agent.checkin(&lab);
        // The whole inventory again, unasked: still no news.
        let _: CheckInReply = agent.call(&lab, "checkin", &agent.says(true)).unwrap();
    }
    assert_eq!(entries(&lab), before);
}

#[test]
fn two_pools_change_places_though_the_server_dies_before_every_order() {
    let mut lab = Lab::furnished();
    let policy = crate::fleet::POLICY.split("[[ring]]").next().unwrap().to_owned()
        + "[strategy]\nkind = \"blue-green\"\nblue = \"ring=blue\"\ngreen = \"ring=green\"\ntraffic = [50, 100]\n\
           [gate]\nbake = \"1s\"\nsilent-after = \"1h\"\n";
    lab.post_bytes("/policies", policy.as_bytes());
    let mut agents = vec![lab.host("blue-1", "blue"), lab.host("green-1", "green")];
    start(&lab);
    let mut told = Vec::new();
    for _ in 0..10 {
        let at = next_at_work(&lab, &mut agents);
        let assignment = agents[at].at_work().unwrap();
        lab.restart();
        let reply = agents[at].checkin(&lab);
        let again = reply.assignment.unwrap().open(&agents[at].assignment_key).unwrap();
        assert_eq!(again, assignment, "the very same order, not another one");
        told.push(match &assignment.order {
            fettle_core::assignment::Order::Traffic { share } => format!("{at}: {share} %"),
            _ => format!("{at}: patch"),
        });
        agents[at].work(&lab, true);
        agents[at].checkin(&lab);
    }
    // In one step, the two hosts are told at once and answer in any order.
    told[3..5].sort();
    assert_eq!(
        told,
        [
            "0: 100 %", "1: 0 %", "1: patch", "0: 50 %", "1: 50 %", "1: 100 %", "0: 0 %",
            // Whatever the balancer has forgotten while the step baked is set again before blue is touched.
            "1: 100 %", "0: 0 %", "0: patch"
        ]
    );
    let done = finished(&lab, &mut agents);
    let last: Vec<_> = done.traffic.iter().map(|t| (t.pool.as_str(), t.share)).collect();
    assert_eq!(last, [("blue", Some(0)), ("green", Some(100))]);
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
    // What the traffic was left with is what the next plan goes by.
    agents[0].inventory = inventory(OLD);
    agents[0].checkin(&lab);
    let next = plan(&lab);
    assert_eq!(next.plan.pools.unwrap().idle.name, "blue");
}
