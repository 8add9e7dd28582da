//! Where feeds come from: what waits for a person's word, what came between, files, and sources that go.

use crate::fleet::Lab;
use crate::http::{ask, tcp};
use crate::vendor::{Act, Vendor, answer};
use crate::watched::{ended, failing, kev, ledger, looked, page, row, set, sync, told};
use fettle_core::feed::{FeedSource, FeedStanding};
use fettle_wire::api::FeedRow;
use std::time::Duration;

#[test]
fn what_changed_suddenly_waits_for_a_person_and_is_taken_at_their_word() {
    let mut lab = Lab::start();
    let vendor = Vendor::new(|_| answer("200 OK", &[("etag", "\"1\"")], &kev(200)));
    let row = looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    assert_eq!(row.records, 200);
    vendor.now(|_| answer("200 OK", &[("etag", "\"2\"")], &kev(20)));
    assert!(failing(&lab, "kev").contains("it has 20 records, the one in force has 200"));
    let row = self::row(&lab, "kev");
    let held = row.held.clone().expect("it waits");
    assert_eq!((row.records, held.code.as_str()), (200, "feed-shrunk"));
    let source = row.source.unwrap();
    assert_eq!(source.failures, 0, "the vendor has spoken");
    // The same again is not told again, and is asked for whole: what waits is not in force.
    let entries = ledger(&lab).len();
    failing(&lab, "kev");
    assert_eq!(ledger(&lab).len(), entries);
    assert_eq!(vendor.done().last().unwrap().header("if-none-match"), None);
    let overview = page(&lab, "/metrics");
    assert!(overview.contains("fettle_feed_held{feed=\"kev\"} 1"), "{overview}");
    lab.restart();
    let (status, problem) =
        lab.refused("POST", &format!("/feeds/kev/accept?digest={}", "0".repeat(64)), b"");
    assert_eq!((status, problem.code.as_str()), (409, "other-feed-held"));
    let taken = lab.post_bytes(&format!("/feeds/kev/accept?digest={}", held.digest.hex()), b"");
    let row: FeedRow = taken.json();
    assert_eq!((row.records, row.held, row.last_error), (20, None, None));
    assert_eq!(row.standing, FeedStanding::Fresh);
    let (status, problem) = lab.refused("POST", "/feeds/kev/accept", b"");
    assert_eq!((status, problem.code.as_str()), (404, "nothing-held"));
    // It is in force with its validators.
    vendor.now(|_| answer("304 Not Modified", &[], b""));
    sync(&lab, "kev");
    assert_eq!(vendor.done().last().unwrap().header("if-none-match").as_deref(), Some("\"2\""));
}

#[test]
fn what_waits_is_forgotten_when_the_vendor_goes_back() {
    let lab = Lab::start();
    let vendor = Vendor::new(|_| answer("200 OK", &[], &kev(200)));
    looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    vendor.now(|_| answer("200 OK", &[], &kev(20)));
    failing(&lab, "kev");
    assert!(row(&lab, "kev").held.is_some());
    vendor.now(|_| answer("200 OK", &[], &kev(200)));
    let row = sync(&lab, "kev");
    assert_eq!((row.held, row.last_error), (None, None));
    assert!(ledger(&lab).iter().any(|e| e.kind == "feed.held-dropped"));
}

#[test]
fn a_digest_beside_the_feed_is_held_to() {
    let lab = Lab::start();
    let digest = fettle_core::Digest::of(&kev(3)).hex();
    let vendor = Vendor::new(move |asked| match asked.target() {
        "/kev.json.sha256" => answer("200 OK", &[], format!("{digest}  kev.json\n").as_bytes()),
        _ => answer("200 OK", &[], &kev(3)),
    });
    let source = FeedSource { sha256: true, ..FeedSource::at(vendor.url("/kev.json")) };
    let row = looked(&lab, "kev", &source);
    assert_eq!((row.records, row.last_error), (3, None));
    let first = ended(&vendor);
    assert_eq!(first.header("accept-encoding").as_deref(), Some("identity"));
    for (beside, why) in [
        (answer("200 OK", &[], "0".repeat(64).as_bytes()), "beside it stands 0000"),
        (answer("404 Not Found", &[], b""), "HTTP status 404"),
        (answer("200 OK", &[], b"<html>"), "not a SHA-256 digest"),
    ] {
        vendor.now(move |asked| match asked.target() {
            "/kev.json.sha256" => beside.clone(),
            _ => answer("200 OK", &[], &kev(4)),
        });
        let message = failing(&lab, "kev");
        assert!(message.contains(why), "{message}");
        assert_eq!(self::row(&lab, "kev").records, 3);
    }
}

#[test]
fn the_newest_file_of_a_directory_is_taken_and_what_is_being_written_is_not() {
    let lab = Lab::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let source = FeedSource::at(format!("file://{}", dir.path().display()));
    told(&looked(&lab, "kev", &source), "holds no file `kev.…`");
    std::fs::write(at("kev.1.json"), kev(3)).unwrap();
    std::fs::write(at("kev.2.json.part"), kev(4)).unwrap();
    std::fs::write(at("epss.csv"), "x").unwrap();
    let first = sync(&lab, "kev");
    assert_eq!((first.records, first.last_error), (3, None));
    assert!(first.origin.ends_with("/kev.1.json"), "{}", first.origin);
    let second = sync(&lab, "kev");
    assert!(second.confirmed_at > first.confirmed_at);
    assert_eq!(second.imported_at, first.imported_at);
    std::fs::rename(at("kev.2.json.part"), at("kev.2.json")).unwrap();
    let later = std::fs::File::options().append(true).open(at("kev.2.json")).unwrap();
    later.set_modified(std::time::SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(sync(&lab, "kev").records, 4);
    // A pipe would be waited for, for ever.
    make_pipe(&at("pipe"));
    set(&lab, "kev", &FeedSource::at(format!("file://{}", at("pipe").display())));
    assert!(failing(&lab, "kev").contains("is no file"));
}

fn make_pipe(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_source_that_is_removed_is_asked_no_more_and_its_feed_stays() {
    let lab = Lab::start();
    let vendor = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
    looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    assert_eq!(lab.call("DELETE", "/feeds/kev/source", b"").status, 204);
    let row = row(&lab, "kev");
    assert_eq!((row.records, row.source), (3, None));
    let (status, problem) = lab.refused("POST", "/feeds/sync?name=kev", b"");
    assert_eq!((status, problem.code.as_str()), (404, "no-feed-source"));
    assert_eq!(lab.refused("DELETE", "/feeds/kev/source", b"").0, 404);
    assert_eq!(lab.refused("POST", "/feeds/sync?name=nonsense", b"").0, 404);
}

/// Calls the API as the lab does, from a thread of a vendor.
fn caller(lab: &Lab) -> impl Fn(&str, &str, &[u8]) + Send + use<> {
    let (operator, bearer) = (lab.operator, format!("Bearer {}", lab.token));
    move |method, path, body| {
        let headers = [("authorization", bearer.as_str())];
        let path = format!("/api/v1{path}");
        let answer = ask(tcp(operator).unwrap(), method, &path, &headers, body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

/// Does one thing with the first request, and answers all of them in the same way.
fn first(mut once: impl FnMut() + Send, acts: Vec<Act>) -> impl FnMut() -> Vec<Act> + Send {
    let mut asked = 0;
    move || {
        asked += 1;
        if asked == 1 {
            once();
        }
        acts.clone()
    }
}

#[test]
fn a_look_confirms_no_bytes_that_somebody_imported_while_it_was_under_way() {
    let whole = |status: &str| match status {
        "304" => answer("304 Not Modified", &[], b""),
        _ => answer("200 OK", &[("etag", "\"1\"")], &kev(3)),
    };
    for status in ["304", "200"] {
        let lab = Lab::start();
        let vendor = Vendor::new(move |_| whole("200"));
        looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
        let call = caller(&lab);
        let between = move || call("POST", "/feeds/kev?date=2024-01-01", &kev(5));
        let mut acts = first(between, whole(status));
        vendor.now(move |asked| match asked.header("if-none-match") {
            None => {
                acts();
                whole("200")
            }
            Some(_) => acts(),
        });
        let row = sync(&lab, "kev");
        assert_eq!((row.records, row.standing), (3, FeedStanding::Fresh), "{status}: {row:?}");
        assert_eq!(vendor.done().len(), 3, "{status}: it was looked at again, whole");
    }
}

#[test]
fn a_source_that_is_replaced_during_a_look_is_believed_no_more() {
    for old in [answer("200 OK", &[], &kev(5)), answer("500 Oh", &[], b"")] {
        let lab = Lab::start();
        let good = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
        let vendor = Vendor::new(|_| answer("200 OK", &[], &kev(4)));
        looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
        let call = caller(&lab);
        let source = serde_json::to_vec(&FeedSource::at(good.url("/kev.json"))).unwrap();
        let between = move || call("PUT", "/feeds/kev/source", &source);
        let mut acts = first(between, old);
        vendor.now(move |_| acts());
        let row = sync(&lab, "kev");
        assert_eq!((row.records, row.last_error), (3, None));
        assert_eq!(row.origin, good.url("/kev.json"));
    }
}

#[test]
fn what_is_accepted_is_as_old_as_its_fetch_and_goes_with_its_source() {
    let lab = Lab::start();
    let vendor = Vendor::new(|_| answer("200 OK", &[], &kev(200)));
    looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    vendor.now(|_| answer("200 OK", &[], &kev(2000)));
    failing(&lab, "kev");
    let held = row(&lab, "kev").held.unwrap();
    let taken: FeedRow = lab.post_bytes("/feeds/kev/accept", b"").json();
    assert_eq!(taken.confirmed_at, Some(held.held_at), "nobody has confirmed it since");
    vendor.now(|_| answer("200 OK", &[], &kev(200)));
    assert!(failing(&lab, "kev").contains("it has 200 records"));
    assert_eq!(lab.call("DELETE", "/feeds/kev/source", b"").status, 204);
    assert_eq!(row(&lab, "kev").held, None, "nobody vouches for it any more");
    assert_eq!(lab.refused("POST", "/feeds/kev/accept", b"").1.code, "nothing-held");
}
