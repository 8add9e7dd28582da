//! Recalls: a version is stopped wherever it is under way, whoever has it is named, and it is taken back where asked.

use crate::fleet::{Agent, Lab, NEW, OLD, finished, inventory, plan, rollout, start, until};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::Hold;
use fettle_core::rollout::Phase;
use fettle_core::transaction::{Fault, Outcome, TxEvent};
use fettle_wire::agent::RedeemReply;
use fettle_wire::api::{
    Because, LedgerVerified, MakeRecall, Page, PlanDetail, RecallDetail, RecallRow, RolloutDetail,
};
use std::time::{Duration, Instant};

fn recall(reason: &str, undo: bool) -> MakeRecall {
    MakeRecall { package: "openssl".into(), version: NEW.into(), reason: reason.into(), undo }
}

fn fleet(lab: &Lab) -> Vec<Agent> {
    vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad"), lab.host("web-2", "broad")]
}

/// What the plan leaves out because it is recalled. It takes nothing.
fn recalled(plan: &PlanDetail) -> Vec<String> {
    assert!(plan.plan.hosts.is_empty(), "{:?}", plan.plan.hosts.keys());
    let said = |hold: &Hold| matches!(hold, Hold::Recalled { version, .. } if version == NEW);
    let held = plan.plan.held().filter(|h| h.reasons.first().is_some_and(said));
    held.map(|h| format!("{} {}", h.name, h.package)).collect()
}

fn one(lab: &Lab) -> RecallDetail {
    lab.get(&format!("/recalls/openssl/{NEW}"))
}

#[test]
fn a_recall_halts_the_rollout_before_it_answers_and_stops_who_has_not_begun() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    until("an assignment", || {
        agents[0].checkin(&lab);
        agents[0].at_work()
    });
    let assignment = agents[0].at_work().unwrap();
    let begun = Instant::now();
    let answered: RecallDetail = lab.post("/recalls", &recall("answers 500 to everybody", false));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((answered.row.hosts, answered.row.offered), (0, 3));
    let stopped = &answered.rollouts[0];
    assert_eq!((stopped.id.as_str(), stopped.waiting), ("ro-1", 3));
    assert!(
        matches!(&stopped.phase, Phase::Halted { hold: Hold::Recalled { package, by, .. } } if package == "openssl" && by == "alice"),
        "{:?}",
        stopped.phase
    );
    let RedeemReply::Stop { hold } = agents[0].redeem(&lab, &assignment) else {
        panic!("a host was let go on")
    };
    assert!(hold.to_string().contains("recalled"), "{hold}");
    let fault = Fault { code: hold.code().into(), message: hold.to_string(), hint: String::new() };
    agents[0].note(&assignment, TxEvent::Ended { outcome: Outcome::Refused { fault } });
    for agent in &mut agents {
        assert!(agent.checkin(&lab).assignment.is_none(), "orders are withdrawn");
    }
    // No plan takes it, nor what is kept in step with it, and says why.
    lab.host("late", "broad");
    assert_eq!(recalled(&plan(&lab)), ["late openssl"]);
    let _: RolloutDetail = lab.post(
        "/rollouts/ro-1/resume",
        &Because { reason: "try".into(), hosts: vec![], wave: None },
    );
    until("the halt once more", || {
        Some(rollout(&lab)).filter(|r| matches!(r.row.phase, Phase::Halted { .. }))
    });
    // Lifted, it goes on when somebody says so, to the end.
    let path = format!("/recalls/openssl/{NEW}?reason=the%20vendor%20was%20wrong");
    assert_eq!(lab.call("DELETE", &path, b"").status, 204);
    assert_eq!(lab.get::<Page<RecallRow>>("/recalls").total, 0);
    let _: RolloutDetail = lab.post(
        "/rollouts/ro-1/resume",
        &Because { reason: "lifted".into(), hosts: vec![], wave: None },
    );
    assert_eq!(finished(&lab, &mut agents).row.hosts_by_state.get("patched"), Some(&3));
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn a_recall_names_who_has_the_version_and_takes_it_back_where_a_rollout_brought_it() {
    let lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    finished(&lab, &mut agents);
    // This one got it by hand.
    let mut other = lab.host("by-hand", "broad");
    other.inventory = inventory(NEW);
    other.checkin(&lab);
    let told: RecallDetail = lab.post("/recalls", &recall("leaks memory", false));
    let names: Vec<_> = told.hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["by-hand", "canary-1", "web-1", "web-2"]);
    assert!(told.hosts.iter().all(|h| h.packages == ["openssl"] && !h.undoing));
    let brought: Vec<_> = told.hosts.iter().map(|h| h.rollout.is_some()).collect();
    assert_eq!(brought, [false, true, true, true]);
    let told: RecallDetail = lab.post("/recalls", &recall("leaks memory", true));
    let undoing: Vec<_> = told.hosts.iter().map(|h| h.undoing).collect();
    assert_eq!(undoing, [false, true, true, true]);
    assert!(told.hosts[0].not_undone.is_some(), "why not is told");
    until("the undo", || {
        for agent in &mut agents {
            agent.checkin(&lab);
            agent.work(&lab, true);
        }
        Some(rollout(&lab)).filter(|r| r.row.hosts_by_state.get("undone") == Some(&3))
    });
    for agent in &mut agents {
        assert_eq!(
            agent.inventory.packages.iter().find(|p| p.name == "openssl").unwrap().version,
            OLD
        );
        agent.checkin(&lab);
    }
    let left = one(&lab);
    assert_eq!((left.row.hosts, left.hosts[0].name.as_str()), (1, "by-hand"));
    let kinds: Page<serde_json::Value> = lab.get("/ledger?limit=1000");
    let recalled = kinds.items.iter().filter(|e| e["kind"] == "version.recalled");
    assert_eq!(recalled.count(), 2);
}

#[test]
fn what_cannot_be_recalled_is_refused_with_what_to_write() {
    let lab = Lab::furnished();
    let with = |change: &dyn Fn(&mut MakeRecall)| {
        let mut asked = recall("because", false);
        change(&mut asked);
        lab.refused("POST", "/recalls", &serde_json::to_vec(&asked).unwrap())
    };
    let bad: [&dyn Fn(&mut MakeRecall); 5] = [
        &|r| r.package = "*".into(),
        &|r| r.package = "open ssl".into(),
        &|r| r.version = String::new(),
        &|r| r.version = "1;rm".into(),
        &|r| r.reason = "  ".into(),
    ];
    for change in bad {
        let (status, problem) = with(change);
        assert_eq!((status, problem.code.as_str()), (422, "bad-recall"), "{}", problem.message);
        assert!(!problem.hint.is_empty());
    }
    assert_eq!(lab.get::<Page<RecallRow>>("/recalls").total, 0);
    let (status, problem) = lab.refused("GET", "/recalls/openssl/9", b"");
    assert_eq!((status, problem.code.as_str()), (404, "no-such-recall"));
    assert_eq!(lab.refused("DELETE", "/recalls/openssl/9?reason=x", b"").0, 404);
}

#[test]
fn a_recall_outlives_the_server_and_is_made_and_lifted_by_the_pages_too() {
    let mut lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    let cookie = log_in_as(&lab, &lab.token);
    let headers = [HERE, ("cookie", cookie.as_str())];
    let body = format!("package=openss*&version={NEW}&reason=leaks");
    let to = form(&lab, "/recalls", &headers, &body).header("location").unwrap();
    assert_eq!(to, format!("/recalls/openss%2A/{NEW}"));
    assert!(page(&lab, &to, &cookie).text().contains("leaks"));
    lab.restart();
    let cookie = log_in_as(&lab, &lab.token);
    assert!(page(&lab, "/recalls", &cookie).text().contains("openss*"));
    assert!(page(&lab, "/", &cookie).text().contains("openss*"), "the overview tells of it");
    agent.checkin(&lab);
    assert_eq!(recalled(&plan(&lab)), ["web-1 openssl"]);
    let headers = [HERE, ("cookie", cookie.as_str())];
    let lifted =
        form(&lab, "/recalls/lift", &headers, &format!("package=openss*&version={NEW}&reason=ok"));
    assert_eq!(lifted.header("location").as_deref(), Some("/recalls"), "{}", lifted.text());
    assert!(page(&lab, "/recalls", &cookie).text().contains("Nothing is recalled"));
    assert_eq!(plan(&lab).plan.hosts.len(), 1);
}

#[test]
fn a_host_that_was_at_work_when_the_version_was_recalled_is_taken_back_when_it_has_ended() {
    let mut lab = Lab::furnished();
    let mut agents = fleet(&lab);
    start(&lab);
    until("an assignment", || {
        agents[0].checkin(&lab);
        agents[0].at_work()
    });
    let assignment = agents[0].at_work().unwrap();
    agents[0].prepare(&assignment);
    assert_eq!(agents[0].redeem(&lab, &assignment), RedeemReply::Go);
    let told: RecallDetail = lab.post("/recalls", &recall("eats files", true));
    assert!(told.row.recall.undo, "it stands for those who have not ended too");
    assert_eq!(told.rollouts[0].at_work, 1);
    lab.restart();
    agents[0].patch(&assignment);
    agents[0].checkin(&lab);
    let undone = until("the undo", || {
        for agent in &mut agents {
            agent.checkin(&lab);
            agent.work(&lab, true);
        }
        Some(rollout(&lab)).filter(|r| r.row.hosts_by_state.get("undone") == Some(&1))
    });
    assert!(matches!(undone.row.phase, Phase::Halted { hold: Hold::Recalled { .. } }));
    let asked = undone.hosts.iter().find_map(|h| h.run.undo_asked.clone());
    assert_eq!(asked.as_deref(), Some("recalled: eats files"));
    assert_eq!(one(&lab).row.hosts, 0);
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}
