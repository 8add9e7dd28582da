//! Feeds that the server fetches by itself, from a vendor's machine with every way to misbehave.

use crate::fleet::{Lab, TRACKER, until};
use crate::vendor::{Act, Done, Vendor, answer, head};
use fettle_core::Timestamp;
use fettle_core::feed::{FeedSource, FeedStanding};
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::{FeedRow, Overview, Page};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// A catalogue of exploited vulnerabilities with so many entries.
pub(crate) fn kev(count: usize) -> Vec<u8> {
    let entry = |n: usize| {
        format!(
            r#"{{"cveID":"CVE-2024-{n}","dateAdded":"2024-05-01","dueDate":"2024-05-22","knownRansomwareCampaignUse":"Unknown"}}"#
        )
    };
    let entries: Vec<String> = (1..=count).map(entry).collect();
    format!(r#"{{"count":{count},"vulnerabilities":[{}]}}"#, entries.join(",")).into_bytes()
}

pub(crate) fn set(lab: &Lab, name: &str, source: &FeedSource) -> FeedRow {
    let body = serde_json::to_vec(source).unwrap();
    let answer = lab.call("PUT", &format!("/feeds/{name}/source"), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

pub(crate) fn row(lab: &Lab, name: &str) -> FeedRow {
    let page: Page<FeedRow> = lab.get("/feeds");
    page.items.into_iter().find(|f| f.name == name).unwrap()
}

/// The feed after the look that the server takes by itself as soon as it knows where.
pub(crate) fn looked(lab: &Lab, name: &str, source: &FeedSource) -> FeedRow {
    set(lab, name, source);
    until("a look", || {
        Some(row(lab, name)).filter(|f| f.source.as_ref().is_some_and(|s| s.tried_at.is_some()))
    })
}

/// What went wrong with the look that a person asks for.
pub(crate) fn failing(lab: &Lab, name: &str) -> String {
    let (_, problem) = lab.refused("POST", &format!("/feeds/sync?name={name}"), b"");
    problem.message
}

pub(crate) fn sync(lab: &Lab, name: &str) -> FeedRow {
    lab.post_bytes(&format!("/feeds/sync?name={name}"), b"");
    row(lab, name)
}

/// A server with 3 entries in force, whose vendor then does as the script says; the row after a look, and the vendor.
fn misbehaving(
    change: impl FnOnce(&Vendor, FeedSource) -> FeedSource,
    script: impl FnMut(&Done) -> Vec<Act> + Send + 'static,
) -> (Lab, Vendor, FeedRow) {
    let lab = Lab::start();
    lab.post_bytes("/feeds/kev", &kev(3));
    let vendor = Vendor::new(script);
    let source = change(&vendor, FeedSource::at(vendor.url("/kev.json")));
    let row = looked(&lab, "kev", &source);
    assert_eq!(row.records, 3, "the one before stays in force: {row:?}");
    assert_eq!(row.standing, FeedStanding::Failed, "{row:?}");
    (lab, vendor, row)
}

fn plain(_: &Vendor, source: FeedSource) -> FeedSource {
    source
}

pub(crate) fn told(row: &FeedRow, what: &str) {
    let error = row.last_error.clone().unwrap_or_default();
    assert!(error.contains(what), "{error}");
}

/// The one request, once it has ended.
pub(crate) fn ended(vendor: &Vendor) -> Done {
    until("the end of the request", || vendor.done().into_iter().next())
}

#[test]
fn a_vendor_that_hangs_before_its_answer_is_left_and_holds_nobody_up() {
    let lab = Lab::start();
    let hanging = Vendor::new(|_| vec![Act::Hang]);
    set(&lab, "epss", &FeedSource::at(hanging.url("/epss.csv")));
    let good = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
    let begun = Instant::now();
    let row = looked(&lab, "kev", &FeedSource::at(good.url("/kev.json")));
    assert_eq!((row.records, row.standing), (3, FeedStanding::Fresh), "{row:?}");
    let _: Overview = lab.get("/overview");
    assert!(hanging.done().is_empty(), "it still hangs after {:?}", begun.elapsed());
    let row = until("the end of patience", || {
        Some(self::row(&lab, "epss")).filter(|f| f.last_error.is_some())
    });
    told(&row, "no answer within 2 s");
    let done = ended(&hanging);
    assert!(done.left && done.sent == 0, "{done:?}");
}

#[test]
fn a_vendor_that_hangs_in_the_body_is_left() {
    let begin = head("200 OK", &[], Some(100_000));
    let (_lab, vendor, row) = misbehaving(plain, move |_| {
        vec![Act::Bytes(begin.clone()), Act::Bytes(vec![b'{'; 10]), Act::Hang]
    });
    told(&row, "fell silent for 2 s after 10 bytes");
    assert!(ended(&vendor).left);
}

#[test]
fn a_vendor_that_drips_is_too_slow() {
    let begin = head("200 OK", &[], Some(100_000));
    let (_lab, vendor, row) = misbehaving(plain, move |_| {
        vec![Act::Bytes(begin.clone()), Act::Drip(Duration::from_millis(10))]
    });
    told(&row, "too slow");
    let done = ended(&vendor);
    assert!(done.left && done.sent > 20, "{done:?}");
}

#[test]
fn a_body_that_is_shorter_than_it_says_is_cut_off() {
    let whole = kev(3);
    let mut bytes = head("200 OK", &[], Some(whole.len() + 1));
    bytes.extend_from_slice(&whole);
    let (_lab, vendor, row) = misbehaving(plain, move |_| vec![Act::Bytes(bytes.clone())]);
    told(&row, "cut off");
    assert_eq!(ended(&vendor).header("accept-encoding").as_deref(), Some("gzip, identity"));
}

#[test]
fn a_body_that_is_longer_than_it_says_is_no_feed() {
    let whole = kev(4);
    let mut bytes = head("200 OK", &[], Some(whole.len() - 20));
    bytes.extend_from_slice(&whole);
    let (_lab, _vendor, row) = misbehaving(plain, move |_| vec![Act::Bytes(bytes.clone())]);
    told(&row, "cut off");
}

#[test]
fn chunks_that_break_off_are_cut_off() {
    let mut bytes = head("200 OK", &[("transfer-encoding", "chunked")], None);
    bytes.extend_from_slice(b"a\r\n{\"count\":1");
    let (_lab, _vendor, row) = misbehaving(plain, move |_| vec![Act::Bytes(bytes.clone())]);
    told(&row, "cut off");
}

#[test]
fn a_body_without_an_end_is_read_up_to_its_limit() {
    let begin = head("200 OK", &[], None);
    let small = |_: &Vendor, source| FeedSource { max_bytes: 1 << 20, ..source };
    let (_lab, vendor, row) =
        misbehaving(small, move |_| vec![Act::Bytes(begin.clone()), Act::Endless]);
    told(&row, "more than 1048576 bytes");
    let done = ended(&vendor);
    assert!(done.left && done.sent >= 1 << 20, "{done:?}");
}

#[test]
fn a_body_that_says_it_is_too_large_is_not_read() {
    let begin = head("200 OK", &[], Some(2 << 20));
    let small = |_: &Vendor, source| FeedSource { max_bytes: 1 << 20, ..source };
    let (_lab, vendor, row) =
        misbehaving(small, move |_| vec![Act::Bytes(begin.clone()), Act::Hang]);
    told(&row, "more than 1048576 bytes");
    assert!(ended(&vendor).sent < 1000);
}

#[test]
fn redirects_in_a_circle_end() {
    let (_lab, vendor, row) =
        misbehaving(plain, |_| answer("302 Found", &[("location", "/again")], b""));
    told(&row, "redirects more than 5 times");
    let asked = until("all requests", || Some(vendor.done()).filter(|d| d.len() == 6));
    // Each connection has a thread of its own, so that the last one may be done before the first.
    let again = asked.iter().filter(|d| d.target() == "/again");
    assert_eq!(again.count(), 5, "{asked:?}");
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| {
        answer("301 Moved", &[("location", "http://elsewhere.example/kev.json")], b"")
    });
    told(&row, "elsewhere.example, another host");
}

#[test]
fn a_redirect_into_this_network_is_not_followed_even_where_its_name_is_allowed() {
    let inside = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
    let to = format!("http://localhost:{}/kev.json", inside.address.port());
    let allow =
        |_: &Vendor, source| FeedSource { redirect_hosts: vec!["localhost".into()], ..source };
    let (lab, vendor, row) =
        misbehaving(allow, move |_| answer("302 Found", &[("location", to.as_str())], b""));
    told(&row, "an address of this network");
    assert!(inside.done().is_empty(), "nobody was asked there");
    // Another port of the very host that was named is another place, too.
    let to = inside.url("/kev.json");
    vendor.now(move |_| answer("302 Found", &[("location", to.as_str())], b""));
    assert!(failing(&lab, "kev").contains("an address of this network"));
    assert!(inside.done().is_empty());
}

#[test]
fn a_redirect_on_the_same_host_is_followed() {
    let lab = Lab::start();
    let vendor = Vendor::new(|asked| match asked.target() {
        "/kev.json" => answer("302 Found", &[("location", "files/today.json")], b""),
        _ => answer("200 OK", &[], &kev(3)),
    });
    let row = looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    assert_eq!((row.records, row.last_error.as_deref()), (3, None));
    let asked: Vec<_> = vendor.done().iter().map(|d| d.target().to_owned()).collect();
    assert_eq!(asked, ["/kev.json", "/files/today.json"]);
}

#[test]
fn nothing_new_means_nothing_where_nothing_was_asked() {
    let lab = Lab::start();
    let vendor = Vendor::new(|_| answer("304 Not Modified", &[("etag", "\"1\"")], b""));
    let row = looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    told(&row, "nothing is new, and was not asked so");
    assert_eq!((row.records, row.standing), (0, FeedStanding::Stale));
    assert_eq!(ended(&vendor).header("if-none-match"), None);
}

#[test]
fn a_vendor_in_trouble_is_given_the_time_it_asks_for() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| {
        answer("503 Service Unavailable", &[("retry-after", "1800")], b"later")
    });
    told(&row, "HTTP status 503");
    let next = row.source.unwrap().next_at.unwrap();
    let left = next.duration_since(Timestamp::now()).as_secs();
    assert!((1700..=1800).contains(&left), "{left}");
}

#[test]
fn a_vendor_in_trouble_that_asks_for_nothing_is_asked_again_soon() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| answer("500 Oh", &[], b""));
    let source = row.source.unwrap();
    let left = source.next_at.unwrap().duration_since(Timestamp::now()).as_secs();
    assert!((40..=66).contains(&left) && source.failures == 1, "{left}");
}

#[test]
fn a_web_page_is_no_feed() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| {
        answer("200 OK", &[("content-type", "text/html")], b"\n<!DOCTYPE html><html>Log in</html>")
    });
    told(&row, "a web page (HTML), not a feed");
}

#[test]
fn a_bomb_is_not_unpacked_to_its_end() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = gz.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let (_lab, _vendor, row) = misbehaving(plain, move |_| answer("200 OK", &[], &bomb));
    told(&row, "times its size");
}

#[test]
fn garbage_is_refused_and_asked_for_again_soon() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| answer("200 OK", &[], b"{\"count\":3}"));
    told(&row, "malformed");
    let source = row.source.unwrap();
    let left = source.next_at.unwrap().duration_since(Timestamp::now()).as_secs();
    assert!(left < 100 && source.failures == 1, "{left} {source:?}");
}

#[test]
fn an_answer_without_a_head_is_no_answer() {
    let (_lab, _vendor, row) = misbehaving(plain, |_| vec![Act::Bytes(b"SSH-2.0-x\r\n".to_vec())]);
    told(&row, "nothing answers");
}

#[test]
fn nothing_new_renews_the_age_and_takes_nothing_in() {
    let lab = Lab::start();
    let modified = "Fri, 20 Nov 2026 06:00:00 GMT";
    let vendor = Vendor::new(move |asked| {
        let known = asked.header("if-none-match").as_deref() == Some("\"v1\"");
        assert_eq!(known, asked.header("if-modified-since").as_deref() == Some(modified));
        let headers = [("etag", "\"v1\""), ("last-modified", modified)];
        if known {
            answer("304 Not Modified", &headers, b"")
        } else {
            answer("200 OK", &headers, &kev(3))
        }
    });
    let first = looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    assert_eq!((first.records, first.date.as_str()), (3, "2026-11-20"));
    let entries = ledger(&lab).len();
    let second = sync(&lab, "kev");
    assert_eq!(vendor.done().len(), 2);
    assert!(second.confirmed_at > first.confirmed_at, "{second:?}");
    assert_eq!((second.imported_at, second.standing), (first.imported_at, FeedStanding::Fresh));
    assert_eq!(ledger(&lab).len(), entries, "nothing was decided");
}

#[test]
fn an_etag_that_lies_takes_the_same_bytes_in_once() {
    let lab = Lab::start();
    let mut n = 0;
    let vendor = Vendor::new(move |_| {
        n += 1;
        answer("200 OK", &[("etag", &format!("\"{n}\""))], &kev(3))
    });
    let first = looked(&lab, "kev", &FeedSource::at(vendor.url("/kev.json")));
    let entries = ledger(&lab).len();
    let second = sync(&lab, "kev");
    let third = sync(&lab, "kev");
    let asked: Vec<_> = vendor.done().iter().map(|d| d.header("if-none-match")).collect();
    assert_eq!(asked, [None, Some("\"1\"".into()), Some("\"2\"".into())]);
    assert_eq!(third.imported_at, first.imported_at);
    assert!(third.confirmed_at > second.confirmed_at);
    assert_eq!(ledger(&lab).len(), entries);
}

#[test]
fn the_next_mirror_gives_what_the_first_one_does_not() {
    let good = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
    let bad = Vendor::new(|asked| match asked.target() {
        "/hangs" => vec![Act::Hang],
        "/garbage" => answer("200 OK", &[], b"no feed at all"),
        "/unasked" => answer("304 Not Modified", &[], b""),
        _ => answer("500 Oh", &[], b""),
    });
    for path in ["/broken", "/garbage", "/unasked", "/hangs"] {
        let lab = Lab::start();
        let mut source = FeedSource::at(bad.url(path));
        source.urls.push(good.url("/kev.json"));
        set(&lab, "kev", &source);
        let row = until("the feed", || Some(row(&lab, "kev")).filter(|f| f.records == 3));
        assert_eq!((row.last_error, row.standing), (None, FeedStanding::Fresh), "{path}");
        assert!(row.origin.ends_with("/kev.json"), "{}", row.origin);
        assert!(bad.done().iter().any(|d| d.target() == path), "{path} was asked first");
    }
    let lab = Lab::start();
    let mut source = FeedSource::at(bad.url("/broken"));
    source.urls.push(bad.url("/broken-too"));
    let row = looked(&lab, "kev", &source);
    told(&row, "/broken: HTTP status 500; ");
    told(&row, "/broken-too: HTTP status 500");
}

#[test]
fn tls_is_believed_by_its_authority_and_never_left_again() {
    let lab = Lab::start();
    let vendor = Vendor::over_tls(|asked| match asked.target() {
        "/away" => answer("302 Found", &[("location", "http://127.0.0.1/kev.json")], b""),
        _ => answer("200 OK", &[], &kev(3)),
    });
    let source = FeedSource::at(vendor.url("/kev.json"));
    told(&looked(&lab, "kev", &source), "TLS: invalid peer certificate");
    assert!(vendor.done().is_empty(), "nothing was asked of who is not believed");
    let ca = lab.dir.path().join("vendor-ca.pem");
    std::fs::write(&ca, &vendor.ca).unwrap();
    let believed = FeedSource { ca_file: Some(ca.display().to_string()), ..source };
    set(&lab, "kev", &believed);
    until("the feed", || Some(row(&lab, "kev")).filter(|f| f.records == 3));
    set(&lab, "kev", &FeedSource { urls: vec![vendor.url("/away")], ..believed.clone() });
    assert!(failing(&lab, "kev").contains("without TLS"));
    std::fs::write(&ca, "no certificate").unwrap();
    set(&lab, "kev", &believed);
    assert!(failing(&lab, "kev").contains("holds no certificate in PEM"));
}

#[test]
fn credentials_go_to_their_own_host_and_are_shown_to_nobody() {
    let lab = Lab::start();
    let file = lab.dir.path().join("credentials");
    std::fs::write(&file, "fettle:geheim\n").unwrap();
    let vendor = Vendor::new(|_| answer("200 OK", &[], &kev(3)));
    let source = FeedSource {
        credentials_file: Some(file.display().to_string()),
        ..FeedSource::at(vendor.url("/kev.json?token=geheim"))
    };
    looked(&lab, "kev", &source);
    let done = ended(&vendor);
    assert_eq!(done.header("authorization").as_deref(), Some("Basic ZmV0dGxlOmdlaGVpbQ=="));
    assert_eq!(done.target(), "/kev.json?token=geheim");
    let all =
        [format!("{:?}", row(&lab, "kev")), format!("{:?}", ledger(&lab)), page(&lab, "/metrics")];
    assert!(all.iter().all(|text| !text.contains("geheim")), "{all:?}");
    let body = serde_json::to_vec(&FeedSource::at("https://me:geheim@vendor.example/")).unwrap();
    let (status, problem) = lab.refused("PUT", "/feeds/kev/source", &body);
    assert_eq!((status, problem.code.as_str()), (422, "bad-feed-source"));
    assert!(!problem.message.contains("geheim"));
}

#[test]
fn a_server_killed_in_the_middle_of_a_fetch_takes_half_of_nothing_and_fetches_again() {
    let mut lab = Lab::furnished();
    let before = row(&lab, "debian-tracker");
    let begin = head("200 OK", &[], Some(TRACKER.len()));
    let half = TRACKER.as_bytes()[..200].to_vec();
    let vendor =
        Vendor::new(move |_| vec![Act::Bytes(begin.clone()), Act::Bytes(half.clone()), Act::Hang]);
    set(&lab, "debian-tracker", &FeedSource::at(vendor.url("/tracker.json")));
    until("the begin of the fetch", || (vendor.begun() > 0).then_some(()));
    lab.kill();
    assert!(ended(&vendor).left, "the server was in the middle of it");
    let news = TRACKER.replace("CVE-2024-0001", "CVE-2024-0002");
    vendor.now(move |_| answer("200 OK", &[], news.as_bytes()));
    lab.restart();
    let after = until("the fetch after the start", || {
        Some(row(&lab, "debian-tracker"))
            .filter(|f| f.source.as_ref().is_some_and(|s| s.tried_at.is_some()))
    });
    assert_eq!(after.last_error, None);
    assert!(after.imported_at > before.imported_at);
}

#[test]
fn through_a_proxy_the_names_are_not_looked_up_here() {
    let vendor = Vendor::over_tls(|_| answer("200 OK", &[], &kev(3)));
    let to = vendor.address;
    let proxy = Vendor::new(move |asked| {
        if asked.head.starts_with("CONNECT ") {
            return vec![Act::Bytes(b"HTTP/1.1 200 Go\r\n\r\n".to_vec()), Act::Tunnel(to)];
        }
        answer("200 OK", &[], &kev(2))
    });
    let lab = Lab::with(|options| {
        let url = format!("http://me:secret@{}", proxy.address);
        for name in ["http_proxy", "https_proxy"] {
            options.feeds.proxies.insert(name.into(), url.clone());
        }
    });
    let ca = lab.dir.path().join("vendor-ca.pem");
    std::fs::write(&ca, &vendor.ca).unwrap();
    let row = looked(&lab, "kev", &FeedSource::at("http://vendor.invalid/kev.json"));
    assert_eq!((row.records, row.last_error), (2, None));
    let asked = ended(&proxy);
    assert_eq!(asked.target(), "http://vendor.invalid/kev.json");
    assert_eq!(asked.header("proxy-authorization").as_deref(), Some("Basic bWU6c2VjcmV0"));
    let source = FeedSource {
        ca_file: Some(ca.display().to_string()),
        ..FeedSource::at(format!("https://localhost:{}/kev.json", to.port()))
    };
    set(&lab, "kev", &source);
    until("the feed through the tunnel", || {
        Some(self::row(&lab, "kev")).filter(|f| f.records == 3)
    });
    let tunnel = until("the tunnel's end", || {
        proxy.done().into_iter().find(|d| d.head.starts_with("CONNECT "))
    });
    assert_eq!(tunnel.target(), format!("localhost:{}", to.port()));
    proxy.now(|_| answer("407 Proxy Authentication Required", &[], b""));
    assert!(failing(&lab, "kev").contains("it answered `HTTP/1.1 407"));
}

#[test]
fn old_data_is_told_on_the_overview_and_in_the_metrics() {
    let lab = Lab::start();
    lab.post_bytes("/feeds/kev?date=2024-01-01", &kev(3));
    let vendor = Vendor::new(|_| answer("500 Oh", &[], b""));
    looked(&lab, "epss", &FeedSource::at(vendor.url("/epss.csv")));
    let rows: Overview = lab.get("/overview");
    let standing = |name: &str| rows.feeds.iter().find(|f| f.name == name).unwrap().standing;
    assert_eq!(standing("kev"), FeedStanding::Stale, "nobody has confirmed it since its date");
    assert_eq!(standing("epss"), FeedStanding::Stale, "it never came");
    assert_eq!(standing("cvss"), FeedStanding::Absent);
    let metrics = page(&lab, "/metrics");
    for line in [
        "fettle_feed_standing{feed=\"kev\",standing=\"stale\"} 1",
        "fettle_feed_standing{feed=\"kev\",standing=\"fresh\"} 0",
        "fettle_feed_refused{feed=\"epss\"} 1",
        "fettle_feed_stale_after_seconds{feed=\"epss\"} 172800",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(
        metrics.contains("fettle_feed_last_success_timestamp_seconds{feed=\"kev\"} 1704153600"),
        "{metrics}"
    );
    assert!(
        metrics.contains("fettle_feed_last_error_timestamp_seconds{feed=\"epss\"} "),
        "{metrics}"
    );
}

/// What the ledger has of feeds.
pub(crate) fn ledger(lab: &Lab) -> Vec<LedgerEntry> {
    let mut entries = lab.get::<Page<LedgerEntry>>("/ledger?limit=1000").items;
    entries.retain(|entry| entry.kind.starts_with("feed."));
    entries
}

pub(crate) fn page(lab: &Lab, path: &str) -> String {
    let bearer = format!("Bearer {}", lab.token);
    let stream = crate::http::tcp(lab.operator).unwrap();
    crate::http::ask(stream, "GET", path, &[("authorization", &bearer)], b"").unwrap().text()
}
