//! Plan keys: published, followed, signed with; and what a host is shown of it.

use crate::fleet::{Agent, Lab, POLICY, TRACKER, until};
use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::Role;
use fettle_core::plan::OrderTree;
use fettle_core::{Hold, Timestamp};
use fettle_wire::agent::{CheckIn, CheckInReply, RefusedOrder};
use fettle_wire::api::{
    ApiProblem, MakePlan, Page, PlanDetail, PlanKeys, RolloutDetail, StartRollout,
};
use fettle_wire::plan_key::{
    KeySet, NotSigned, PlanKey, PlanStatement, SignedKeySet, SignedPlan, judge,
};
use fettle_wire::sign::Signer;

fn signer() -> Signer {
    Signer::from_pem(&Signer::generate_pem().unwrap()).unwrap()
}

fn signed_set(
    version: u64,
    threshold: u32,
    keys: &[(&str, &Signer)],
    by: &[&Signer],
) -> SignedKeySet {
    let key =
        |(name, key): &(&str, &Signer)| PlanKey { name: (*name).into(), key: key.public_key() };
    let set = KeySet::new(version, threshold, keys.iter().map(key).collect()).unwrap();
    let mut signed = SignedKeySet::unsigned(&set);
    for key in by {
        signed.sign(key).unwrap();
    }
    signed
}

struct Office {
    lab: Lab,
    agent: Agent,
    alice: Signer,
    bob: Signer,
}

/// A fleet of one host, and two people with a plan key each.
fn office() -> Office {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    lab.post_bytes("/policies", POLICY.as_bytes());
    let agent = lab.host("web-1", "canary");
    Office { lab, agent, alice: signer(), bob: signer() }
}

impl Office {
    fn try_post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ApiProblem> {
        let answer = self.lab.call("POST", path, &serde_json::to_vec(body).unwrap());
        if answer.status < 300 { Ok(answer.json()) } else { Err(answer.json()) }
    }
    fn publish(&self, set: &SignedKeySet) -> Result<PlanKeys, ApiProblem> {
        self.try_post("/plan-keys", set)
    }
    fn plan(&self) -> PlanDetail {
        self.try_post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] }).unwrap()
    }
    fn sign(&self, by: &Signer, statement: &PlanStatement) -> Result<PlanDetail, ApiProblem> {
        let path = format!("/plans/{}/signatures", statement.plan);
        self.try_post(&path, &SignedPlan::seal(by, statement))
    }
    fn start(&self, plan: &PlanDetail) -> Result<RolloutDetail, ApiProblem> {
        self.try_post("/rollouts", &StartRollout { plan: plan.number, digest: Some(plan.digest) })
    }
    fn says(&self, version: u64, refused: Option<RefusedOrder>) -> CheckInReply {
        let said = CheckIn { plan_keys: Some(version), refused, ..self.agent.says(false) };
        self.agent.call(&self.lab, "checkin", &said).unwrap()
    }
}

fn statement(plan: &PlanDetail) -> PlanStatement {
    let now = Timestamp::now();
    PlanStatement {
        schema: 1,
        plan: plan.number,
        digest: plan.plan.digest(),
        orders: OrderTree::of(&plan.plan).root(),
        hosts: plan.plan.hosts.len() as u64,
        waves: plan.plan.earliest(now),
        signed_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(24),
    }
}

#[test]
fn sets_follow_one_another_only_when_enough_of_both_have_signed() {
    let it = office();
    let (alice, bob, thief) = (&it.alice, &it.bob, signer());
    let none: PlanKeys = it.lab.get("/plan-keys");
    assert_eq!((none.version, none.keys.len()), (0, 0));
    let two = [("alice", alice), ("bob", bob)];
    let refused = |set: &SignedKeySet| it.publish(set).unwrap_err().code;
    assert_eq!(refused(&signed_set(1, 2, &two, &[alice])), "plan-keys-refused");
    assert_eq!(refused(&signed_set(2, 2, &two, &[alice, bob])), "plan-keys-refused");
    let first = it.publish(&signed_set(1, 2, &two, &[alice, bob])).unwrap();
    assert_eq!((first.version, first.label.as_str()), (1, "2 of 2"));
    let theirs = [("thief", &thief)];
    assert_eq!(refused(&signed_set(2, 1, &theirs, &[&thief])), "plan-keys-refused");
    assert_eq!(refused(&signed_set(2, 1, &theirs, &[&thief, alice])), "plan-keys-refused");
    let alone = it.publish(&signed_set(2, 1, &[("alice", alice)], &[alice, bob])).unwrap();
    assert_eq!((alone.version, alone.label.as_str()), (2, "1 of 1 (weaker: one key is enough)"));
    let ledger: Page<LedgerEntry> = it.lab.get("/ledger?limit=1000");
    let published = ledger.items.iter().filter(|e| e.kind == "plan-keys.published");
    assert_eq!(published.map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    // A host that knows the first hears of the second, one that knows neither of both.
    assert_eq!(it.says(1, None).plan_keys.len(), 1);
    assert_eq!(it.says(0, None).plan_keys.len(), 2);
    // An older agent hears of none.
    let said = it.agent.says(false);
    let reply: CheckInReply = it.agent.call(&it.lab, "checkin", &said).unwrap();
    assert_eq!((reply.plan_keys, reply.plan_proof), (vec![], None));
    // Who publishes is an admin, who signs approves.
    let olga = it.lab.add("olga", &[Role::Operator]);
    let body = serde_json::to_vec(&signed_set(3, 1, &theirs, &[&thief])).unwrap();
    assert_eq!(it.lab.call_as(&olga, "olga", "POST", "/plan-keys", &body).status, 403);
}

#[test]
fn a_plan_starts_when_enough_have_signed_it_and_its_hosts_can_see_that() {
    let mut it = office();
    let before = it.plan();
    assert_eq!(before.signing, None);
    let none = it.sign(&it.alice, &statement(&before)).unwrap_err();
    assert_eq!(none.code, "no-plan-keys");
    let two = [("alice", &it.alice), ("bob", &it.bob)];
    let set = signed_set(1, 2, &two, &[&it.alice, &it.bob]);
    it.publish(&set).unwrap();
    let plan = it.plan();
    let refused = it.start(&plan).unwrap_err();
    assert_eq!(refused.code, "not-signed");
    assert!(refused.message.contains("0 of 2 operators' signatures given"), "{}", refused.message);
    // What is not quite this plan is not taken, nor by whom it is not.
    let good = statement(&plan);
    let now = Timestamp::now();
    let wrong = [
        PlanStatement { digest: before.digest, ..good.clone() },
        PlanStatement { orders: before.digest, ..good.clone() },
        PlanStatement { hosts: 2, ..good.clone() },
        PlanStatement { waves: vec![], ..good.clone() },
        PlanStatement { expires_at: now, ..good.clone() },
        PlanStatement {
            expires_at: now + jiff::SignedDuration::from_hours(31 * 24),
            ..good.clone()
        },
    ];
    for statement in wrong {
        assert_eq!(it.sign(&it.alice, &statement).unwrap_err().code, "signature-refused");
    }
    assert_eq!(it.sign(&signer(), &good).unwrap_err().code, "signature-refused");
    it.sign(&it.alice, &good).unwrap();
    let again = it.sign(&it.alice, &good).unwrap().signing.unwrap();
    assert_eq!((again.given, again.needed), (1, 2), "one key is one signature");
    assert_eq!(it.start(&plan).unwrap_err().code, "not-signed");
    let signing = it.sign(&it.bob, &good).unwrap().signing.unwrap();
    let mut names: Vec<&str> = signing.signatures.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((signing.given, names), (2, vec!["alice", "bob"]));
    let rollout = it.start(&plan).unwrap();
    until("an assignment", || it.says(1, None).assignment);
    let reply = it.says(1, None);
    let signed = reply.assignment.unwrap();
    let assignment = signed.open(&it.agent.assignment_key).unwrap();
    let (keys, order) = (set.open().unwrap(), signed.order_digest().unwrap());
    let proof = reply.plan_proof.unwrap();
    let by = judge(&keys, &assignment, order, Some(&proof), Timestamp::now());
    assert_eq!(by, Ok(vec!["alice".to_owned(), "bob".to_owned()]));
    let mut other = proof.clone();
    other.signatures.pop();
    let few = judge(&keys, &assignment, order, Some(&other), Timestamp::now());
    assert!(matches!(few, Err(NotSigned::TooFew { given: 1, needed: 2, .. })), "{few:?}");
    // A host that refuses is seen to, once in the ledger, until it refuses no more.
    let why = "operators' signatures are wanted here".to_owned();
    let no = RefusedOrder { assignment: assignment.id.clone(), why: why.clone() };
    it.says(1, Some(no.clone()));
    it.says(1, Some(RefusedOrder { why: "another reason each time".into(), ..no.clone() }));
    it.says(1, Some(RefusedOrder { assignment: "nobody's".into(), ..no.clone() }));
    it.says(1, None);
    it.says(1, Some(no.clone()));
    it.says(1, Some(no));
    let refusals = |it: &Office| {
        let seen: RolloutDetail = it.lab.get(&format!("/rollouts/{}", rollout.row.id));
        seen.waiting.iter().filter(|w| w.hold == Hold::OrderRefused { why: why.clone() }).count()
    };
    assert_eq!(refusals(&it), 1);
    let ledger: Page<LedgerEntry> = it.lab.get("/ledger?limit=1000");
    assert_eq!(ledger.items.iter().filter(|e| e.kind == "assignment.refused").count(), 1);
    it.says(1, None);
    assert_eq!(refusals(&it), 0);
    it.agent.checkin(&it.lab);
}
