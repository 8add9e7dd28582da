//! Operators and approvals, as the store keeps them.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use fettle_core::operator::{Role, Standing};
use fettle_core::plan::{Plan, SCHEMA};
use fettle_core::{Digest, Timestamp};
use fettle_store::{Store, StoreError, approvals, ledger, operators, plans};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn store() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    let store = Store::open(&path).unwrap();
    (dir, path, store)
}

fn plan() -> Plan {
    Plan {
        schema: SCHEMA,
        number: 1,
        parent: None,
        policy: "web".into(),
        policy_digest: Digest::of(b"p"),
        made_at: at(0),
        seed: 1,
        hosts: BTreeMap::new(),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 1,
        held: vec![],
    }
}

fn add(store: &Store, name: &str, token: &[u8]) -> Result<(), StoreError> {
    let roles = BTreeSet::from([Role::Operator, Role::Approver]);
    store.write("operator:admin", at(1), |tx| {
        operators::add(tx, name, &roles, Digest::of(token), Some(at(100))).map(drop)
    })
}

#[test]
fn an_operator_is_found_by_the_hash_of_the_token_and_the_token_is_kept_nowhere() {
    let (dir, path, store) = store();
    add(&store, "alice", b"a very secret token").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let found =
        |token: &[u8]| store.read(|view| operators::by_token(view, Digest::of(token))).unwrap();
    let alice = found(b"a very secret token").unwrap();
    assert_eq!((alice.name.as_str(), alice.created_by.as_str()), ("alice", "operator:admin"));
    assert_eq!(alice.roles, BTreeSet::from([Role::Operator, Role::Approver]));
    assert_eq!((alice.created_at, alice.standing(at(99))), (at(1), Standing::Good));
    assert_eq!(alice.standing(at(100)), Standing::Expired { since: at(100) });
    assert_eq!(found(b"another token"), None);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(19).any(|w| w == b"a very secret token"));
    }
}

#[test]
fn a_name_is_given_once_and_never_again() {
    let (_dir, _path, store) = store();
    add(&store, "alice", b"1").unwrap();
    assert!(matches!(add(&store, "alice", b"2"), Err(StoreError::Exists(_))));
    let revoke = |name: &str| {
        store.write::<_, StoreError>("operator:admin", at(9), |tx| operators::revoke(tx, name))
    };
    revoke("alice").unwrap();
    assert!(matches!(revoke("alice"), Err(StoreError::Conflict(_))));
    assert!(matches!(revoke("bob"), Err(StoreError::Missing { .. })));
    assert!(matches!(add(&store, "alice", b"3"), Err(StoreError::Exists(_))));
    let alice = store.read(|view| operators::get(view, "alice")).unwrap().unwrap();
    assert_eq!(alice.standing(at(9)), Standing::Revoked { since: at(9) });
    assert_eq!(alice.revoked_by.as_deref(), Some("operator:admin"));
    let kinds = store.read(|view| ledger::after(view, 0, 10)).unwrap();
    let kinds: Vec<&str> = kinds.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["operator.added", "operator.revoked"]);
}

#[test]
fn a_renewed_token_takes_the_place_of_the_one_before_and_the_name_stays() {
    let (_dir, _path, store) = store();
    add(&store, "alice", b"1").unwrap();
    let renew = |name: &str, token: &[u8]| {
        let hash = Digest::of(token);
        store.write::<_, StoreError>("operator:admin", at(150), |tx| {
            operators::renew(tx, name, hash, Some(at(300)))
        })
    };
    let found = |token: &[u8]| store.read(|v| operators::by_token(v, Digest::of(token))).unwrap();
    assert!(matches!(found(b"1").unwrap().standing(at(150)), Standing::Expired { .. }));
    assert_eq!(renew("alice", b"2").unwrap().standing(at(150)), Standing::Good);
    assert_eq!(found(b"1"), None);
    let alice = found(b"2").unwrap();
    assert_eq!((alice.name.as_str(), alice.expires_at), ("alice", Some(at(300))));
    assert_eq!(alice.created_at, at(1));
    assert!(matches!(renew("bob", b"3"), Err(StoreError::Missing { .. })));
    store
        .write::<_, StoreError>("operator:admin", at(160), |tx| operators::revoke(tx, "alice"))
        .unwrap();
    assert!(matches!(renew("alice", b"4"), Err(StoreError::Conflict(_))));
}

#[test]
fn an_approval_is_kept_with_its_digest_renewed_by_the_same_one_and_taken_back() {
    let (_dir, _path, store) = store();
    let plan = plan();
    let digest = plan.digest();
    store.write("operator:x", at(1), |tx| plans::insert(tx, &plan, "alice")).unwrap();
    assert_eq!(store.read(|view| plans::maker(view, 1)).unwrap(), "alice");
    let give = |by: &str, second: i64, comment: &str| {
        store
            .write::<_, StoreError>(&format!("operator:{by}"), at(second), |tx| {
                approvals::give(tx, 1, digest, by, comment)
            })
            .unwrap();
    };
    let given = || store.read(|view| approvals::of_plan(view, 1)).unwrap();
    give("bob", 2, "");
    give("carol", 3, "looked at the waves");
    give("bob", 4, "again");
    let all: Vec<_> = given().into_iter().map(|a| (a.by, a.at, a.digest, a.comment)).collect();
    assert_eq!(
        all,
        [
            ("carol".into(), at(3), digest, "looked at the waves".into()),
            ("bob".into(), at(4), digest, "again".into())
        ]
    );
    let withdraw = |by: &str| {
        store.write::<_, StoreError>("operator:x", at(5), |tx| approvals::withdraw(tx, 1, by))
    };
    withdraw("bob").unwrap();
    assert!(matches!(withdraw("bob"), Err(StoreError::Missing { .. })));
    assert_eq!(given().len(), 1);
    let entries = store.read(|view| ledger::after(view, 1, 10)).unwrap();
    let told: Vec<_> = entries.iter().map(|e| (e.kind.as_str(), e.subject.as_str())).collect();
    let approved = ("plan.approved", "1");
    assert_eq!(told, [approved, approved, approved, ("plan.approval-withdrawn", "1")]);
    assert!(entries[..3].iter().all(|e| e.body["digest"] == digest.to_string()));
}

/// A database as the version before operators left it, with one plan in it.
fn old_database(path: &Path) {
    let raw = support::database_of(path, 1);
    let plan = plan();
    raw.execute(
        "INSERT INTO plans (number, digest, policy, made_at, made_by, body) VALUES (1, $1, 'web', 0, 'operator:alice', $2)",
        rusqlite::params![plan.digest().to_string(), serde_json::to_string(&plan).unwrap()],
    )
    .unwrap();
}

#[test]
fn a_plan_made_before_there_were_operators_is_the_servers_own_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    old_database(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.read(|view| plans::maker(view, 1)).unwrap(), "admin");
    assert_eq!(store.read(|view| plans::get(view, 1)).unwrap(), plan());
    assert_eq!(store.read(operators::all).unwrap(), []);
}
