//! Approvals: k distinct people, none the maker, of the exact plan, in time.

use crate::fleet::{Lab, POLICY, TRACKER};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::Role;
use fettle_core::plan::approval::{Discount, Stage};
use fettle_core::rollout::RolloutEvent;
use fettle_core::{Digest, Timestamp};
use fettle_wire::api::{
    ApiProblem, ApprovePlan, LedgerVerified, MakePlan, Page, PlanDetail, RolloutDetail,
    StartRollout,
};

/// A fleet of one host whose policy asks for so many approvals, and people.
struct Office {
    lab: Lab,
    olga: String,
    bob: String,
    carol: String,
}

fn office(approvals: u32) -> Office {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    let select = "select = \"all\"\ndescription";
    let asks = format!("select = \"all\"\napprovals = {approvals}\ndescription");
    assert!(POLICY.contains(select));
    lab.post_bytes("/policies", POLICY.replacen(select, &asks, 1).as_bytes());
    lab.host("web-1", "canary");
    let olga = lab.add("olga", &[Role::Operator, Role::Approver]);
    let bob = lab.add("bob", &[Role::Approver]);
    let carol = lab.add("carol", &[Role::Approver]);
    Office { lab, olga, bob, carol }
}

impl Office {
    /// A plan, made with this token.
    fn plan(&self, token: &str) -> PlanDetail {
        let body = serde_json::to_vec(&MakePlan { policy: "web".into(), hosts: vec![] }).unwrap();
        let answer = self.lab.call_as(token, "alice", "POST", "/plans", &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    fn show(&self, plan: &PlanDetail) -> PlanDetail {
        self.lab.get(&format!("/plans/{}", plan.number))
    }

    /// Status and, where it was refused, the code.
    fn approve(&self, token: &str, name: &str, plan: &PlanDetail) -> (u16, String) {
        self.approve_seen(token, name, plan, plan.digest)
    }

    fn approve_seen(
        &self,
        token: &str,
        name: &str,
        plan: &PlanDetail,
        digest: Digest,
    ) -> (u16, String) {
        let body = serde_json::to_vec(&ApprovePlan { digest, comment: "read it".into() }).unwrap();
        let path = format!("/plans/{}/approvals", plan.number);
        let answer = self.lab.call_as(token, name, "POST", &path, &body);
        (
            answer.status,
            if answer.status < 300 { String::new() } else { answer.json::<ApiProblem>().code },
        )
    }

    fn start(&self, plan: &PlanDetail) -> Result<RolloutDetail, ApiProblem> {
        let asked = StartRollout { plan: plan.number, digest: Some(plan.digest) };
        let answer = self.lab.call("POST", "/rollouts", &serde_json::to_vec(&asked).unwrap());
        if answer.status == 201 { Ok(answer.json()) } else { Err(answer.json()) }
    }

    fn ledger(&self, kind: &str) -> Vec<LedgerEntry> {
        let page: Page<LedgerEntry> = self.lab.get("/ledger?limit=10000");
        page.items.into_iter().filter(|e| e.kind == kind).collect()
    }
}

fn said(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_plan_starts_when_two_others_have_approved_it_and_the_record_says_who() {
    let it = office(2);
    let plan = it.plan(&it.olga);
    assert_eq!((plan.made_by.as_str(), plan.approvals.needed), ("olga", 2));
    let problem = it.start(&plan).unwrap_err();
    assert_eq!((problem.kind.as_str(), problem.code.as_str()), ("refused", "not-approved"));
    assert!(problem.message.contains("0 of 2 approvals given"), "{}", problem.message);
    assert!(problem.hint.contains("fettle plan approve 1"), "{}", problem.hint);
    assert_eq!(it.approve(&it.bob, "bob", &plan), said(201, ""));
    let problem = it.start(&plan).unwrap_err();
    assert!(problem.message.contains("1 of 2 approvals given"), "{}", problem.message);
    assert_eq!(it.approve(&it.carol, "carol", &plan), said(201, ""));
    let rollout = it.start(&plan).unwrap();
    let who: Vec<&str> = rollout.approvals.iter().map(|a| a.by.as_str()).collect();
    assert_eq!(who, ["bob", "carol"]);
    let RolloutEvent::Created { approvals, .. } = &rollout.events[0].event else { panic!() };
    assert_eq!(*approvals, rollout.approvals);
    let approved = it.ledger("plan.approved");
    let actors: Vec<&str> = approved.iter().map(|e| e.actor.as_str()).collect();
    assert_eq!(actors, ["operator:bob", "operator:carol"]);
    for entry in &approved {
        assert_eq!((entry.subject.as_str(), &entry.body["comment"]), ("1", &"read it".into()));
        assert_eq!(entry.body["digest"], plan.digest.to_string());
    }
    let begun = it.ledger("rollout.event");
    assert_eq!(begun[0].body["event"]["approvals"][1]["by"], "carol");
    // What has begun is settled.
    assert_eq!(it.approve(&it.bob, "bob", &plan), said(409, "rollout-started"));
    let path = format!("/plans/{}/approvals", plan.number);
    let answer = it.lab.call_as(&it.bob, "bob", "DELETE", &path, b"");
    assert_eq!(
        (answer.status, answer.json::<ApiProblem>().code.as_str()),
        (409, "rollout-started")
    );
    let shown = it.show(&plan);
    assert!(matches!(shown.approvals.stage, Stage::Started { .. }) && shown.approvals.is_enough());
    assert_eq!(it.lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn whoever_made_a_plan_cannot_approve_it_under_any_name() {
    let it = office(1);
    let plan = it.plan(&it.olga);
    assert_eq!(it.approve(&it.olga, "zoe", &plan), said(403, "own-plan"));
    let refused = it.ledger("access.refused");
    assert_eq!(refused.last().map(|e| e.actor.as_str()), Some("operator:olga"));
    assert_eq!(refused.last().map(|e| &e.body["code"]), Some(&"own-plan".into()));
    // The server's own token, by which `alice` makes a plan, is one principal whatever its holder is called.
    let plan = it.plan(&it.lab.token);
    assert_eq!(plan.made_by, "admin");
    for name in ["alice", "zoe", "admin", ""] {
        assert_eq!(it.approve(&it.lab.token, name, &plan), said(403, "own-plan"), "{name}");
    }
    assert_eq!(it.show(&plan).approvals.given, 0);
    assert_eq!(it.approve(&it.bob, "", &plan), said(201, ""));
    it.start(&plan).unwrap();
}

#[test]
fn one_token_is_never_two_approvers() {
    let it = office(2);
    let plan = it.plan(&it.olga);
    for name in ["alice", "zoe", "admin"] {
        assert_eq!(it.approve(&it.lab.token, name, &plan), said(201, ""), "{name}");
    }
    assert_eq!(it.approve(&it.bob, "x", &plan), said(201, ""));
    assert_eq!(it.approve(&it.bob, "y", &plan), said(201, ""));
    let verdict = it.show(&plan).approvals;
    let who: Vec<&str> = verdict.counted.iter().map(|a| a.by.as_str()).collect();
    assert_eq!((who, verdict.given), (vec!["admin", "bob"], 2));
    // The ledger has the name that was given, and whose token it was.
    let first = &it.ledger("plan.approved")[0];
    assert_eq!((first.actor.as_str(), &first.body["by"]), ("operator:alice", &"admin".into()));
}

#[test]
fn what_was_revoked_withdrawn_or_given_too_long_ago_does_not_count() {
    let it = office(1);
    let plan = it.plan(&it.olga);
    let path = format!("/plans/{}/approvals", plan.number);
    assert_eq!(it.approve(&it.bob, "bob", &plan), said(201, ""));
    assert!(it.show(&plan).approvals.is_enough());
    // Only one's own can be taken back.
    assert_eq!(it.lab.call_as(&it.carol, "carol", "DELETE", &path, b"").status, 404);
    assert_eq!(it.lab.call_as(&it.bob, "bob", "DELETE", &path, b"").status, 204);
    assert_eq!(it.start(&plan).unwrap_err().code, "not-approved");
    assert_eq!(it.ledger("plan.approval-withdrawn")[0].actor, "operator:bob");
    // Revoked.
    assert_eq!(it.approve(&it.bob, "bob", &plan), said(201, ""));
    assert_eq!(it.lab.call("DELETE", "/operators/bob", b"").status, 204);
    let problem = it.start(&plan).unwrap_err();
    assert_eq!(problem.code, "not-approved");
    assert!(problem.hint.contains("bob does not count: revoked at"), "{}", problem.hint);
    // A day old: renewed by approving again.
    assert_eq!(it.approve(&it.carol, "carol", &plan), said(201, ""));
    let raw = rusqlite::Connection::open(it.lab.data().join("fettle.db")).unwrap();
    let old = Timestamp::now().as_microsecond() - 24 * 3600 * 1_000_000;
    raw.execute("UPDATE approvals SET at = $1 WHERE operator = 'carol'", [old]).unwrap();
    let verdict = it.show(&plan).approvals;
    let carol = verdict.discounted.iter().find(|d| d.approval.by == "carol").unwrap();
    assert!(matches!(carol.discount, Discount::TooOld { .. }), "{carol:?}");
    assert_eq!(it.start(&plan).unwrap_err().code, "not-approved");
    assert_eq!(it.approve(&it.carol, "carol", &plan), said(201, ""));
    it.start(&plan).unwrap();
}

#[test]
fn a_plan_is_approved_only_as_it_was_seen_only_while_it_can_start_and_only_where_it_need_be() {
    let it = office(1);
    let (first, rival) = (it.plan(&it.olga), it.plan(&it.olga));
    let other = Digest::of(b"edited");
    assert_eq!(it.approve_seen(&it.bob, "bob", &first, other), said(409, "other-plan"));
    assert_eq!(it.approve(&it.bob, "bob", &first), said(201, ""));
    assert_eq!(it.approve(&it.bob, "bob", &rival), said(201, ""));
    it.start(&first).unwrap();
    // Approved before, and overtaken since.
    assert_eq!(it.show(&rival).approvals.stage, Stage::Superseded);
    assert_eq!(it.start(&rival).unwrap_err().code, "changed-meanwhile");
    assert_eq!(it.approve(&it.carol, "carol", &rival), said(409, "plan-superseded"));
    let it = office(0);
    let free = it.plan(&it.olga);
    assert_eq!(it.approve(&it.bob, "bob", &free), said(409, "no-approval-needed"));
    it.start(&free).unwrap();
}

#[test]
fn approvals_and_what_they_were_worth_outlive_the_server() {
    let mut it = office(1);
    let plan = it.plan(&it.olga);
    assert_eq!(it.approve(&it.bob, "bob", &plan), said(201, ""));
    let before = it.show(&plan).approvals;
    it.lab.restart();
    assert_eq!(it.show(&plan).approvals, before);
    it.start(&plan).unwrap();
    it.lab.restart();
    let rollout: RolloutDetail = it.lab.get("/rollouts/ro-1");
    assert_eq!(rollout.approvals, before.counted);
}

#[test]
fn an_approver_approves_on_the_page_and_a_viewer_is_told_what_role_it_takes() {
    let it = office(1);
    let plan = it.plan(&it.olga);
    let vera = it.lab.add("vera", &[Role::Viewer]);
    let [bob, olga, vera] = [&it.bob, &it.olga, &vera].map(|token| log_in_as(&it.lab, token));
    let approve = format!("/plans/{}/approve", plan.number);
    let withdraw = format!("/plans/{}/withdraw", plan.number);
    let seen = |cookie: &str| page(&it.lab, &format!("/plans/{}", plan.number), cookie).text();
    let send = |path: &str, cookie: &str, origin: (&str, &str)| {
        let body = format!("digest={}&comment=looks+right", plan.digest);
        form(&it.lab, path, &[origin, ("cookie", cookie)], &body)
    };
    assert!(seen(&bob).contains(&format!("action=\"{approve}\"")) && seen(&bob).contains(">bob<"));
    assert!(!seen(&olga).contains(&format!("action=\"{approve}\"")));
    assert!(!seen(&vera).contains(&format!("action=\"{approve}\"")));
    let answer = send(&approve, &vera, HERE);
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("this needs the role approver; vera has viewer"));
    let answer = send(&approve, &olga, HERE);
    assert!(
        answer.status == 403 && answer.text().contains("whoever made a plan cannot approve it")
    );
    assert_eq!(send(&approve, &bob, ("origin", "http://evil.example")).status, 403);
    assert_eq!(it.show(&plan).approvals.given, 0);
    let answer = send(&approve, &bob, HERE);
    assert_eq!(
        answer.header("location"),
        Some(format!("/plans/{}", plan.number)),
        "{}",
        answer.text()
    );
    let text = seen(&olga);
    assert!(text.contains("looks right") && text.contains("1 of 1 approval"), "{text}");
    assert_eq!(send(&withdraw, &bob, HERE).status, 303);
    assert_eq!(it.show(&plan).approvals.given, 0);
    let codes = it.ledger("access.refused").into_iter().map(|e| e.body["code"].clone());
    assert_eq!(codes.collect::<Vec<_>>(), ["role-needed", "own-plan"]);
}
