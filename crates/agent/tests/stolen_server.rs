//! Somebody has the server: its key for orders, its database, every byte it ever sent, and one of two plan keys. What can
//! they make a host do that holds on to two operators' keys?

#![allow(clippy::unwrap_used)]

use fettle_agent::orders::{Accepted, Disobeyed, Ledger, Signed, judge};
use fettle_agent::plan_keys::{Pinned, PinnedBy, learn, pin, read};
use fettle_agent::settings::Settings;
use fettle_core::assignment::{ApplyOrder, Assignment, Order, PackageChange};
use fettle_core::plan::{OrderProof, leaf};
use fettle_core::{Digest, HostId, Timestamp};
use fettle_wire::plan_key::{
    KeySet, NotFollowed, NotSigned, PlanKey, PlanProof, PlanStatement, SignedKeySet, SignedPlan,
};
use fettle_wire::sign::Signer;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn signer() -> Signer {
    Signer::from_pem(&Signer::generate_pem().unwrap()).unwrap()
}

fn set(version: u64, threshold: u32, keys: &[(&str, &Signer)]) -> KeySet {
    let key =
        |(name, key): &(&str, &Signer)| PlanKey { name: (*name).into(), key: key.public_key() };
    KeySet::new(version, threshold, keys.iter().map(key).collect()).unwrap()
}

fn signed_set(set: &KeySet, by: &[&Signer]) -> SignedKeySet {
    let mut signed = SignedKeySet::unsigned(set);
    for key in by {
        signed.sign(key).unwrap();
    }
    signed
}

fn apply(package: &str, to: &str) -> Order {
    let change = PackageChange {
        name: package.into(),
        architecture: "amd64".into(),
        from: "1".into(),
        to: to.into(),
        sha256: Digest::of(to.as_bytes()),
        size: 1,
    };
    Order::Apply(ApplyOrder { changes: vec![change.into()], ..ApplyOrder::default() })
}

/// A plan of two hosts in two waves, as far as signatures go.
struct Plan {
    digest: Digest,
    orders: [Order; 2],
    leaves: [Digest; 2],
}

const HOSTS: [&str; 2] = ["h-1", "h-2"];

impl Plan {
    fn of(name: &str, orders: [Order; 2]) -> Self {
        let one = |n: usize| leaf(&HOSTS[n].into(), n as u32, Digest::of_json(&orders[n]));
        let leaves = [one(0), one(1)];
        Self { digest: Digest::of(name.as_bytes()), orders, leaves }
    }
    fn proof(&self, n: usize) -> OrderProof {
        OrderProof { index: n as u64, size: 2, path: vec![self.leaves[1 - n]] }
    }
    /// As an operator signs it: the second wave not before a thousand seconds have passed.
    fn statement(&self) -> PlanStatement {
        PlanStatement {
            schema: 1,
            plan: 7,
            digest: self.digest,
            orders: self.proof(0).root_of(self.leaves[0]).unwrap(),
            hosts: 2,
            waves: vec![at(0), at(1000)],
            signed_at: at(0),
            expires_at: at(86_400),
        }
    }
    fn assignment(&self, n: usize) -> Assignment {
        Assignment {
            schema: 1,
            id: "ro-1/h/3".into(),
            host: HOSTS[n].into(),
            generation: 3,
            rollout: "ro-1".into(),
            plan: self.digest,
            issued_at: at(0),
            not_before: at(0),
            expires_at: at(20_000_000),
            order: self.orders[n].clone(),
        }
    }
}

/// Who is who.
struct World {
    server: Signer,
    alice: Signer,
    bob: Signer,
    keys: KeySet,
    good: Plan,
}

impl World {
    fn new() -> Self {
        let (server, alice, bob) = (signer(), signer(), signer());
        let keys = set(1, 2, &[("alice", &alice), ("bob", &bob)]);
        let good = Plan::of("good", [apply("nginx", "2"), apply("nginx", "3")]);
        Self { server, alice, bob, keys, good }
    }
    fn by(&self, signers: &[&Signer], statement: &PlanStatement) -> Vec<SignedPlan> {
        signers.iter().map(|key| SignedPlan::seal(key, statement)).collect()
    }
    fn approved(&self, n: usize) -> PlanProof {
        let signatures = self.by(&[&self.alice, &self.bob], &self.good.statement());
        PlanProof { wave: n as u32, proof: self.good.proof(n), signatures }
    }
    fn host(
        &self,
        assignment: &Assignment,
        proof: Option<&PlanProof>,
        second: i64,
    ) -> Result<Accepted, Disobeyed> {
        let signed = self.server.sign(assignment);
        let (host, key) = (HostId::from(HOSTS[0]), self.server.public_key());
        let host = if assignment.host == host { host } else { HOSTS[1].into() };
        let by = Signed { keys: Some(&self.keys), proof, stopped: false };
        judge(&signed, &host, &key, by, Ledger { generation: 2, content: None }, at(second))
    }
}

#[test]
fn what_two_operators_signed_is_carried_out_each_wave_at_its_time_and_stopping_needs_nobody() {
    let w = World::new();
    assert!(w.host(&w.good.assignment(0), Some(&w.approved(0)), 10).is_ok());
    let early = w.host(&w.good.assignment(1), Some(&w.approved(1)), 999).unwrap_err();
    assert_eq!(early, Disobeyed::NotSigned(NotSigned::Early { wave: 2, until: at(1000) }));
    assert!(w.host(&w.good.assignment(1), Some(&w.approved(1)), 1000).is_ok());
    for order in [
        Order::Undo { assignment: "ro-1/h/2".into(), reason: "bad".into() },
        Order::Traffic { share: 0 },
    ] {
        let stop = Assignment { order, ..w.good.assignment(0) };
        assert!(w.host(&stop, None, 10).is_ok(), "{:?}", stop.order);
    }
}

#[test]
fn a_stolen_server_with_one_of_two_plan_keys_starts_nothing_that_two_did_not_sign() {
    let w = World::new();
    let thief = &w.alice;
    let own = signer();
    let evil = Plan::of("evil", [apply("backdoor", "1"), apply("backdoor", "1")]);
    let late = |statement: PlanStatement| PlanStatement { expires_at: at(10_000_000), ..statement };
    let proof = |plan: &Plan, n: usize, signatures| PlanProof {
        wave: n as u32,
        proof: plan.proof(n),
        signatures,
    };
    let good = w.approved(0);
    let evil_statement = evil.statement();
    let mut both_in_one = SignedPlan::seal(thief, &evil_statement);
    both_in_one.signatures.extend(SignedPlan::seal(&own, &evil_statement).signatures);
    let mut named_bob = SignedPlan::seal(&own, &evil_statement);
    named_bob.signatures[0].keyid = w.bob.public_key();
    let mut borrowed = SignedPlan::seal(thief, &evil_statement);
    borrowed.signatures = good.signatures[1].signatures.clone();
    let as_set = signed_set(&set(2, 1, &[("thief", &own)]), &[&own]);
    let retyped = SignedPlan {
        payload_type: as_set.payload_type.clone(),
        payload: as_set.payload.clone(),
        signatures: as_set.signatures.clone(),
    };
    let order_of = |order: Order| Assignment { order, ..w.good.assignment(0) };
    let mut more = w.good.orders[0].clone();
    if let Order::Apply(order) = &mut more {
        order.hung_after_seconds = Some(1);
    }
    let stranger = Assignment { plan: w.good.digest, ..evil.assignment(0) };
    let next_wave = PlanProof { wave: 0, ..w.approved(1) };
    let longer = PlanProof { proof: OrderProof { size: 3, ..w.good.proof(0) }, ..good.clone() };
    let nowhere =
        PlanProof { proof: OrderProof { path: vec![], ..w.good.proof(0) }, ..good.clone() };
    let two =
        || vec![SignedPlan::seal(thief, &evil_statement), SignedPlan::seal(&own, &evil_statement)];
    let twice = vec![
        SignedPlan::seal(thief, &evil_statement),
        SignedPlan::seal(thief, &late(evil.statement())),
    ];
    let many = std::iter::repeat_n(SignedPlan::seal(thief, &evil_statement), 500).collect();
    let expired = 86_400;
    let tries: Vec<(&str, Assignment, Option<PlanProof>, i64)> = vec![
        ("nothing with it", evil.assignment(0), None, 10),
        ("no signature", evil.assignment(0), Some(proof(&evil, 0, vec![])), 10),
        ("one key", evil.assignment(0), Some(proof(&evil, 0, w.by(&[thief], &evil_statement))), 10),
        ("one key and a key of one's own", evil.assignment(0), Some(proof(&evil, 0, two())), 10),
        ("one key twice", evil.assignment(0), Some(proof(&evil, 0, twice)), 10),
        ("one key five hundred times", evil.assignment(0), Some(proof(&evil, 0, many)), 10),
        ("two signatures in one", evil.assignment(0), Some(proof(&evil, 0, vec![both_in_one])), 10),
        (
            "another's name on it",
            evil.assignment(0),
            Some(proof(&evil, 0, [w.by(&[thief], &evil_statement), vec![named_bob]].concat())),
            10,
        ),
        (
            "another's signature of another plan on it",
            evil.assignment(0),
            Some(proof(&evil, 0, [w.by(&[thief], &evil_statement), vec![borrowed]].concat())),
            10,
        ),
        (
            "a key set for a plan",
            evil.assignment(0),
            Some(proof(&evil, 0, [w.by(&[thief], &evil_statement), vec![retyped]].concat())),
            10,
        ),
        ("signatures of another plan", evil.assignment(0), Some(good.clone()), 10),
        ("another order under the plan's digest", stranger, Some(good.clone()), 10),
        (
            "another order, its path with the good plan's signatures",
            Assignment { plan: w.good.digest, ..evil.assignment(0) },
            Some(proof(&evil, 0, good.signatures.clone())),
            10,
        ),
        ("a rule of the order changed", order_of(more), Some(good.clone()), 10),
        ("the other host's order", order_of(w.good.orders[1].clone()), Some(good.clone()), 10),
        ("the second wave as the first", w.good.assignment(1), Some(next_wave), 10),
        ("the second wave too early", w.good.assignment(1), Some(w.approved(1)), 10),
        ("a tree of another size", w.good.assignment(0), Some(longer), 10),
        ("a path that ends early", w.good.assignment(0), Some(nowhere), 10),
        ("after it expired", w.good.assignment(0), Some(good.clone()), expired),
        (
            "after it expired, one signature made longer",
            w.good.assignment(0),
            Some(PlanProof {
                signatures: [w.by(&[thief], &late(w.good.statement())), good.signatures.clone()]
                    .concat(),
                ..good.clone()
            }),
            expired,
        ),
    ];
    let tried = tries.len();
    let mut accepted = Vec::new();
    for (what, assignment, proof, second) in tries {
        match w.host(&assignment, proof.as_ref(), second) {
            Err(Disobeyed::NotSigned(_)) => {}
            other => accepted.push(format!("{what}: {other:?}")),
        }
    }
    println!("attacks accepted/tried: {}/{tried}", accepted.len());
    assert_eq!(accepted, Vec::<String>::new());
    // They are refused for what they are, and not because nothing is ever carried out.
    assert!(w.host(&w.good.assignment(0), Some(&good), 10).is_ok());
}

#[test]
fn keys_that_do_not_follow_are_not_taken_and_those_that_do_are_one_by_one() {
    let w = World::new();
    let (own, carol) = (signer(), signer());
    let known = Pinned { keys: w.keys.clone(), by: PinnedBy::Root };
    let both = [&w.alice, &w.bob];
    let next = set(2, 2, &[("alice", &w.alice), ("carol", &carol)]);
    let third = set(3, 1, &[("carol", &carol)]);
    let refused = |sets: &[SignedKeySet]| learn(Some(&known), sets).0;
    let theirs = set(2, 1, &[("thief", &own)]);
    let attacks = [
        ("signed by itself alone", signed_set(&theirs, &[&own])),
        ("and by one of two", signed_set(&theirs, &[&own, &w.alice])),
        ("the old ones, not by those it names", signed_set(&set(2, 1, &[("bob", &own)]), &both)),
        ("a leap", signed_set(&set(3, 1, &[("thief", &own)]), &[&own, &w.alice, &w.bob])),
        (
            "the same version again",
            signed_set(&set(1, 1, &[("thief", &own)]), &[&own, &w.alice, &w.bob]),
        ),
        ("one old key twice", {
            let mut twice = signed_set(&theirs, &[&own, &w.alice]);
            twice.signatures.push(twice.signatures[1].clone());
            twice
        }),
    ];
    let tried = attacks.len();
    for (what, attack) in attacks {
        assert_eq!(refused(&[attack]), None, "{what}");
    }
    println!("attacks accepted/tried: 0/{tried}");
    // In their order, each by those before it; what comes after one that does not follow is not looked at.
    let second = signed_set(&next, &[&w.alice, &w.bob, &carol]);
    let last = signed_set(&third, &[&w.alice, &carol]);
    let (taken, all) = learn(Some(&known), &[second.clone(), last.clone()]);
    assert_eq!((taken.map(|it| (it.keys, it.by)), all), (Some((third, PinnedBy::Root)), Ok(())));
    let (taken, wrong) = learn(Some(&known), &[last, second]);
    assert_eq!((taken, wrong), (None, Err(NotFollowed::Version { given: 3, wanted: 2 })));
}

#[test]
fn a_host_without_keys_takes_the_first_set_that_its_server_names_and_says_so_ever_after() {
    let w = World::new();
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { state_dir: dir.path().to_owned(), ..Settings::default() };
    assert_eq!(read(&settings).unwrap(), None);
    let first = signed_set(&w.keys, &[&w.alice, &w.bob]);
    let (taken, all) = learn(None, &[first]);
    let pinned = Pinned { keys: w.keys.clone(), by: PinnedBy::Server };
    assert_eq!((taken.as_ref(), all), (Some(&pinned), Ok(())));
    pin(&settings, &pinned).unwrap();
    assert_eq!(read(&settings).unwrap(), Some(pinned));
    std::fs::write(settings.plan_keys_path(), "{").unwrap();
    assert!(read(&settings).is_err(), "what cannot be read is not taken for nothing");
}

#[test]
fn a_file_that_root_puts_there_stops_what_everybody_signed_and_nothing_that_takes_back() {
    let w = World::new();
    let proof = w.approved(0);
    let by = Signed { keys: Some(&w.keys), proof: Some(&proof), stopped: true };
    let key = w.server.public_key();
    let ledger = Ledger { generation: 2, content: None };
    let judged = |order: Order| {
        let signed = w.server.sign(&Assignment { order, ..w.good.assignment(0) });
        judge(&signed, &HOSTS[0].into(), &key, by, ledger, at(10)).map(|_| ())
    };
    assert_eq!(judged(w.good.orders[0].clone()), Err(Disobeyed::Stopped));
    let undo = Order::Undo { assignment: "ro-1/h/2".into(), reason: "bad".into() };
    assert_eq!(judged(undo), Ok(()));
}

#[test]
fn one_key_of_one_is_labelled_as_weaker() {
    let alice = signer();
    assert_eq!(set(1, 1, &[("alice", &alice)]).label(), "1 of 1 (weaker: one key is enough)");
    let w = World::new();
    assert_eq!(w.keys.label(), "2 of 2");
}
