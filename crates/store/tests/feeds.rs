//! Feeds, their sources, and what waits for a person.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::feed::FeedSource;
use fettle_core::{Digest, Timestamp};
use fettle_store::feed_sources::{self, HeldRecord, Validators};
use fettle_store::feeds::{self, NewFeed};
use fettle_store::{Store, StoreError, Tx, ledger};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fettle.db")).unwrap();
    (dir, store)
}

fn write(store: &Store, second: i64, change: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError>) {
    store.write("server", at(second), change).unwrap();
}

fn take_in(store: &Store, second: i64, body: &[u8]) {
    write(store, second, |tx| {
        let feed = NewFeed {
            name: "kev",
            body,
            records: 3,
            errors: 0,
            date: "2026-11-20",
            origin: "here",
            confirmed_at: None,
        };
        feeds::take_in(tx, &feed).map(drop)
    });
}

fn validators() -> Validators {
    Validators {
        url: "https://a.example/k".into(),
        etag: Some("\"1\"".into()),
        last_modified: None,
    }
}

fn kinds(store: &Store) -> Vec<String> {
    store.read(|v| ledger::after(v, 0, 100)).unwrap().into_iter().map(|e| e.kind).collect()
}

#[test]
fn the_same_refusal_again_is_in_the_ledger_once_and_a_confirmation_ends_it() {
    let (_dir, store) = store();
    take_in(&store, 0, b"{}");
    for second in 1..5 {
        write(&store, second, |tx| feeds::refuse(tx, "kev", "no answer"));
    }
    write(&store, 5, |tx| feeds::refuse(tx, "kev", "another"));
    assert_eq!(kinds(&store), ["feed.imported", "feed.refused", "feed.refused"]);
    let row = store.read(feeds::all).unwrap().remove(0);
    assert_eq!((row.last_error.as_deref(), row.failed_at), (Some("another"), Some(at(5))));
    write(&store, 6, |tx| feeds::confirm(tx, "kev"));
    let row = store.read(feeds::all).unwrap().remove(0);
    assert_eq!((row.last_error, row.failed_at, row.confirmed_at), (None, None, Some(at(6))));
    assert_eq!((row.records, row.imported_at), (3, Some(at(0))));
}

#[test]
fn validators_speak_of_what_is_in_force_and_go_with_it() {
    let (_dir, store) = store();
    let source = FeedSource::at("https://a.example/k?token=geheim");
    write(&store, 0, |tx| feed_sources::set(tx, "kev", &source));
    take_in(&store, 1, b"{}");
    write(&store, 1, |tx| feed_sources::confirmed(tx, "kev", at(60), Some(&validators()), true));
    let fetch = store.read(feed_sources::fetches).unwrap().remove(0);
    assert_eq!(fetch.validators, Some(validators()));
    assert_eq!((fetch.whole_at, fetch.next_at, fetch.failures), (Some(at(1)), at(60), 0));
    write(&store, 2, |tx| feed_sources::confirmed(tx, "kev", at(70), Some(&validators()), false));
    assert_eq!(store.read(feed_sources::fetches).unwrap()[0].whole_at, Some(at(1)));
    // Somebody imports another file by hand.
    take_in(&store, 3, b"{ }");
    assert_eq!(store.read(feed_sources::fetches).unwrap()[0].validators, None);
    let told = store.read(|v| ledger::after(v, 0, 100)).unwrap();
    assert!(!format!("{told:?}").contains("geheim"), "{told:?}");
    write(&store, 4, |tx| feed_sources::remove(tx, "kev"));
    assert_eq!(store.read(feed_sources::fetches).unwrap(), []);
    let again = store.write("server", at(5), |tx| feed_sources::remove(tx, "kev"));
    assert!(matches!(again, Err(StoreError::Missing { .. })));
}

#[test]
fn what_is_held_stays_until_it_is_taken_or_overtaken() {
    let (_dir, store) = store();
    take_in(&store, 0, b"{}");
    let held = HeldRecord {
        name: "kev".into(),
        digest: Digest::of(b"{1}"),
        date: "2026-11-21".into(),
        origin: "there".into(),
        code: "feed-shrunk".into(),
        reason: "half is gone".into(),
        held_at: at(1),
    };
    write(&store, 1, |tx| feed_sources::hold(tx, &held, b"{1}", Some(&validators())));
    assert_eq!(store.read(feed_sources::held).unwrap(), std::slice::from_ref(&held));
    let body = store.read(|v| feed_sources::held_body(v, "kev")).unwrap();
    assert_eq!(body, Some((b"{1}".to_vec(), Some(validators()))));
    take_in(&store, 2, b"{2}");
    assert_eq!(store.read(feed_sources::held).unwrap(), []);
    assert_eq!(kinds(&store), ["feed.imported", "feed.held", "feed.held-dropped", "feed.imported"]);
}
