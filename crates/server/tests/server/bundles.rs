//! Feeds in one signed file, from a server that reaches the vendors to one that does not.

use crate::fleet::{Lab, TRACKER};
use fettle_core::Timestamp;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::{ApiProblem, BundleKeys, FeedRow, Page, TrustBundleKey};
use jiff::SignedDuration;

fn day(ago: i64) -> String {
    let at = Timestamp::now() - SignedDuration::from_hours(24 * ago);
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

const KEV: &str = r#"{"count":1,"vulnerabilities":[{"cveID":"CVE-2024-5535","dateAdded":"2026-11-01","dueDate":"2026-11-22"}]}"#;

/// A server with feeds of that many days ago.
fn outside(ago: i64) -> Lab {
    let lab = Lab::start();
    let date = day(ago);
    lab.post_bytes(
        &format!("/feeds/debian-tracker?date={date}&origin=the%20vendor"),
        TRACKER.as_bytes(),
    );
    lab.post_bytes(&format!("/feeds/kev?date={date}"), KEV.as_bytes());
    lab
}

fn keys(lab: &Lab) -> BundleKeys {
    lab.get("/feeds/bundle/key")
}

fn trust(lab: &Lab, key: &str) {
    let body = serde_json::to_vec(&TrustBundleKey { key: key.to_owned() }).unwrap();
    let answer = lab.call("PUT", "/feeds/bundle/key", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn export(lab: &Lab) -> Vec<u8> {
    let answer = lab.call("GET", "/feeds/bundle", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

fn refused(lab: &Lab, query: &str, bundle: &[u8]) -> ApiProblem {
    let before = rows(lab);
    let (_, problem) = lab.refused("POST", &format!("/feeds/bundle{query}"), bundle);
    assert_eq!(rows(lab), before, "nothing was taken in");
    problem
}

/// Name and records of what is in force.
fn rows(lab: &Lab) -> Vec<(String, u64)> {
    let page: Page<FeedRow> = lab.get("/feeds");
    page.items.into_iter().filter(|f| f.records > 0).map(|f| (f.name, f.records)).collect()
}

#[test]
fn a_bundle_carries_every_feed_with_its_age_to_a_server_that_trusts_its_maker() {
    let (outside, inside) = (outside(2), Lab::start());
    let bundle = export(&outside);
    let problem = refused(&inside, "", &bundle);
    assert_eq!(problem.code, "no-bundle-key");
    trust(&inside, &keys(&outside).own);
    inside.post_bytes("/feeds/bundle", &bundle);
    assert_eq!(rows(&inside), rows(&outside));
    let of = |lab: &Lab| {
        let page: Page<FeedRow> = lab.get("/feeds");
        page.items.into_iter().find(|f| f.name == "debian-tracker").unwrap()
    };
    let (there, here) = (of(&outside), of(&inside));
    assert_eq!(
        (here.date, here.confirmed_at),
        (there.date, there.confirmed_at),
        "it is no younger here"
    );
    assert!(
        here.origin.starts_with("bundle of ") && here.origin.ends_with(": the vendor"),
        "{}",
        here.origin
    );
    let ledger: Page<LedgerEntry> = inside.get("/ledger?limit=1000");
    assert!(ledger.items.iter().any(|e| e.kind == "setting.set" && e.subject == "feed-bundle-key"));
    // The same again changes nothing, and is no rollback.
    inside.post_bytes("/feeds/bundle", &bundle);
}

#[test]
fn a_bundle_of_somebody_else_or_changed_on_its_way_is_refused_whole() {
    let (outside, inside) = (outside(2), Lab::start());
    trust(&inside, &keys(&inside).own);
    let bundle = export(&outside);
    assert_eq!(refused(&inside, "", &bundle).code, "bundle-not-believed");
    trust(&inside, &keys(&outside).own);
    // Each byte of the first feed, of the manifest and of the headers is one that may be hit on the way.
    let at = |needle: &[u8]| crate::http::find(&bundle, needle).unwrap();
    for place in [at(b"CVE-2024-5535"), at(b"payload\": \"") + 20, at(b"feeds/kev"), 0] {
        let mut changed = bundle.clone();
        changed[place] ^= 1;
        let problem = refused(&inside, "", &changed);
        assert!(problem.code.starts_with("bundle-"), "{place}: {problem:?}");
    }
    for length in [0, 100, 512, bundle.len() / 2, at(b"feeds/kev")] {
        let problem = refused(&inside, "", &bundle[..length]);
        assert!(problem.code.starts_with("bundle-"), "{length}: {problem:?}");
    }
    assert_eq!(refused(&inside, "", KEV.as_bytes()).code, "bundle-damaged");
    assert_eq!(refused(&inside, "?key=short", &bundle).code, "bad-key");
    let body = serde_json::to_vec(&TrustBundleKey { key: "short".into() }).unwrap();
    assert_eq!(inside.refused("PUT", "/feeds/bundle/key", &body).1.code, "bad-key");
}

#[test]
fn a_bundle_that_is_older_than_what_is_in_force_is_refused_unless_it_is_meant() {
    let (old, new, inside) = (outside(5), outside(1), Lab::start());
    let key = |lab: &Lab| keys(lab).own.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    inside.post_bytes(&format!("/feeds/bundle?key={}", key(&new)), &export(&new));
    let query = format!("?key={}", key(&old));
    let problem = refused(&inside, &query, &export(&old));
    assert_eq!(problem.code, "bundle-older");
    assert!(
        problem.message.contains("debian-tracker") && problem.message.contains("kev"),
        "{problem:?}"
    );
    inside.post_bytes(&format!("/feeds/bundle{query}&force=true"), &export(&old));
    let page: Page<FeedRow> = inside.get("/feeds");
    assert!(page.items.iter().filter(|f| f.records > 0).all(|f| f.date == day(5)));
}

#[test]
fn a_server_without_feeds_has_no_bundle_to_give() {
    let (_, problem) = Lab::start().refused("GET", "/feeds/bundle", b"");
    assert_eq!(problem.code, "no-feeds");
}
