//! Accounts and sessions, as the store keeps them.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use fettle_core::login::Way;
use fettle_core::operator::Role;
use fettle_core::{Digest, Timestamp};
use fettle_store::sessions::Session;
use fettle_store::{Store, StoreError, accounts, operators, sessions};
use std::collections::BTreeSet;
use std::path::Path;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn session(n: i64, principal: &str, second: i64) -> Session {
    Session {
        id: Digest::of(&n.to_be_bytes()),
        principal: principal.to_owned(),
        way: Way::Password,
        credential: "1".to_owned(),
        secure: false,
        began_at: at(second),
        seen_at: at(second),
        address: "192.0.2.1".to_owned(),
        browser: "a browser".to_owned(),
    }
}

fn begin(store: &Store, it: &Session) {
    let by = format!("operator:{}", it.principal);
    store.write::<_, StoreError>(&by, it.began_at, |tx| sessions::begin(tx, it)).unwrap();
}

fn open(store: &Store, principal: &str, second: i64) -> usize {
    store.read(|view| sessions::of(view, Some(principal), at(second))).unwrap().len()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fettle.db")).unwrap();
    let roles = BTreeSet::from([Role::Viewer]);
    for name in ["vera", "olga"] {
        store
            .write::<_, StoreError>("operator:admin", at(0), |tx| {
                accounts::add(tx, name, &roles, "$argon2id$1")
            })
            .unwrap();
    }
    (dir, store)
}

#[test]
fn another_password_and_a_disabling_end_the_sessions_of_that_person_and_of_nobody_else() {
    let (_dir, store) = store();
    let change =
        |second: i64, what: &dyn Fn(&mut fettle_store::Tx<'_>) -> Result<(), StoreError>| {
            store.write::<_, StoreError>("operator:admin", at(second), |tx| what(tx))
        };
    for n in 0..3 {
        begin(&store, &session(n, "vera", 1));
    }
    begin(&store, &session(9, "olga", 1));
    let before = store.read(|view| accounts::password(view, "vera")).unwrap().unwrap();
    change(2, &|tx| accounts::set_password(tx, "vera", "$argon2id$2")).unwrap();
    assert_eq!((open(&store, "vera", 2), open(&store, "olga", 2)), (0, 1));
    let after = store.read(|view| accounts::password(view, "vera")).unwrap().unwrap();
    assert!(after.set_at > before.set_at && after.phc == "$argon2id$2");
    assert!(!format!("{after:?}").contains("argon2id"));
    // Two in the same moment are two, and hashing the same one anew is none.
    change(2, &|tx| accounts::set_password(tx, "vera", "$argon2id$3")).unwrap();
    let third = store.read(|view| accounts::password(view, "vera")).unwrap().unwrap();
    assert!(third.set_at > after.set_at);
    change(3, &|tx| accounts::rehashed(tx, "vera", &after, "$argon2id$late")).unwrap();
    change(3, &|tx| accounts::rehashed(tx, "vera", &third, "$argon2id$4")).unwrap();
    let fourth = store.read(|view| accounts::password(view, "vera")).unwrap().unwrap();
    assert_eq!((fourth.phc.as_str(), fourth.set_at), ("$argon2id$4", third.set_at));
    begin(&store, &session(4, "vera", 4));
    change(5, &|tx| accounts::disable(tx, "vera")).unwrap();
    assert_eq!((open(&store, "vera", 5), open(&store, "olga", 5)), (0, 1));
    assert!(matches!(change(6, &|tx| accounts::disable(tx, "vera")), Err(StoreError::Conflict(_))));
    change(6, &|tx| accounts::enable(tx, "vera")).unwrap();
    assert!(matches!(change(6, &|tx| accounts::enable(tx, "vera")), Err(StoreError::Conflict(_))));
    change(7, &|tx| operators::revoke(tx, "vera")).unwrap();
    assert_eq!(store.read(|view| accounts::password(view, "vera")).unwrap(), None);
    let set = change(8, &|tx| accounts::set_password(tx, "vera", "$argon2id$5"));
    assert!(matches!(set, Err(StoreError::Conflict(_))));
}

#[test]
fn a_session_that_is_past_its_time_is_not_listed_and_goes_with_the_next_log_in() {
    let (_dir, store) = store();
    begin(&store, &session(1, "vera", 0));
    let seen = |second: i64| {
        store
            .write::<_, StoreError>("server", at(second), |tx| {
                sessions::seen(tx, Digest::of(&1_i64.to_be_bytes()))
            })
            .unwrap();
    };
    let hour = 3600;
    seen(hour);
    assert_eq!((open(&store, "vera", 3 * hour - 1), open(&store, "vera", 3 * hour)), (1, 0));
    for hours in 2..12 {
        seen(hours * hour);
    }
    assert_eq!((open(&store, "vera", 12 * hour - 1), open(&store, "vera", 12 * hour)), (1, 0));
    let id = Digest::of(&1_i64.to_be_bytes());
    assert!(store.read(|view| sessions::get(view, id)).unwrap().is_some());
    begin(&store, &session(2, "olga", 12 * hour));
    assert!(store.read(|view| sessions::get(view, id)).unwrap().is_none());
}

#[test]
fn a_person_has_so_many_sessions_and_the_one_used_least_lately_goes() {
    let (_dir, store) = store();
    for n in 0..60 {
        begin(&store, &session(n, "vera", n));
    }
    assert_eq!(open(&store, "vera", 60), 50);
    let first = Digest::of(&0_i64.to_be_bytes());
    assert!(store.read(|view| sessions::get(view, first)).unwrap().is_none());
}

/// A database as the version before accounts left it, with an operator in it.
fn old_database(path: &Path) {
    let raw = support::database_of(path, 10);
    raw.execute(
        "INSERT INTO operators (name, roles, token_hash, created_at, created_by, expires_at) \
         VALUES ('olga', '[\"operator\"]', $1, 5, 'operator:admin', 9)",
        [Digest::of(b"a token").to_string()],
    )
    .unwrap();
}

#[test]
fn operators_of_before_keep_their_tokens_and_the_first_account_closes_the_set_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fettle.db");
    old_database(&path);
    let store = Store::open(&path).unwrap();
    let olga = store.read(|view| operators::by_token(view, Digest::of(b"a token"))).unwrap();
    assert_eq!(olga.unwrap().name, "olga");
    let account = store.read(|view| accounts::get(view, "olga")).unwrap().unwrap();
    assert_eq!((account.has_token, account.password_set_at, account.came_at), (true, None, None));
    let is_open = |store: &Store| store.read(accounts::set_up_is_open).unwrap();
    assert!(is_open(&store));
    store
        .write::<_, StoreError>("setup", at(0), |tx| {
            accounts::set_password(tx, "olga", "$argon2id$")
        })
        .unwrap();
    assert!(!is_open(&store));
    // Who has a password is not gone with an expired token.
    let person = store.read(|view| operators::get(view, "olga")).unwrap().unwrap();
    let by_token = store.read(|view| operators::with_token(view, "olga")).unwrap().unwrap();
    assert!(person.expires_at.is_none() && by_token.expires_at.is_some());
    store.write::<_, StoreError>("x", at(1), |tx| operators::revoke(tx, "olga")).unwrap();
    drop(store);
    assert!(!is_open(&Store::open(&path).unwrap()), "for good");
}
