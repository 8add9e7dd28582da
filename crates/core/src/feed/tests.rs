use super::*;
use proptest::prelude::*;

fn http(tls: bool, host: &str, port: u16, target: &str) -> FeedAddress {
    FeedAddress::Http { tls, host: host.into(), port, target: target.into() }
}

#[test]
fn addresses_are_read_as_they_are_written() {
    for (text, expected) in [
        ("https://vendor.example/a/b.json", http(true, "vendor.example", 443, "/a/b.json")),
        ("HTTP://Vendor.Example:8080", http(false, "vendor.example", 8080, "/")),
        ("http://vendor.example?x=1#part", http(false, "vendor.example", 80, "/?x=1")),
        ("https://[2001:db8::1]:444/x", http(true, "2001:db8::1", 444, "/x")),
        (
            "file:///srv/my%20feeds/kev.json",
            FeedAddress::File { path: "/srv/my feeds/kev.json".into() },
        ),
        ("file:/srv/feeds", FeedAddress::File { path: "/srv/feeds".into() }),
    ] {
        assert_eq!(FeedAddress::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_address_is_told_so_without_repeating_secrets() {
    for bad in [
        "",
        "vendor.example/x",
        "ftp://vendor.example/x",
        "https:///x",
        "https://host:0/",
        "https://host:70000/",
        "https://ho st/",
        "https://h\u{f6}st/",
        "https://[::1",
        "https://[nonsense]/",
        "file://relative",
        "file:///%zz",
        "file:///a%00b",
        "https://a:b:c/",
        "//vendor.example/",
    ] {
        let error = FeedAddress::parse(bad).expect_err(bad);
        assert!(!error.hint().is_empty());
    }
    let error =
        FeedAddress::parse("https://alice:geheim@vendor.example/x?token=geheim").unwrap_err();
    assert_eq!(error, AddressError::Credentials("vendor.example".into()));
    let error =
        FeedAddress::parse("gopher://vendor.example/?token=geheim").unwrap_err().to_string();
    assert!(!error.contains("geheim"), "{error}");
    let shown = FeedAddress::parse("https://vendor.example/x?token=geheim").unwrap().to_string();
    assert_eq!(shown, "https://vendor.example/x?…");
}

#[test]
fn a_redirect_leads_where_its_location_says() {
    let from = FeedAddress::parse("https://vendor.example:8443/feeds/kev.json?x=1").unwrap();
    for (location, expected) in [
        ("/other", "https://vendor.example:8443/other"),
        ("next.json", "https://vendor.example:8443/feeds/next.json"),
        ("?y=2", "https://vendor.example:8443/feeds/kev.json?…"),
        ("//cdn.example/k", "https://cdn.example/k"),
        ("http://cdn.example/k", "http://cdn.example/k"),
    ] {
        assert_eq!(from.join(location).unwrap().to_string(), expected, "{location}");
    }
    assert!(from.join("javascript:alert(1)").is_err());
    assert_eq!(
        from.beside(".sha256").to_string(),
        "https://vendor.example:8443/feeds/kev.json.sha256?…"
    );
}

#[test]
fn addresses_of_this_machine_and_its_neighbours_are_not_public() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.113.9",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "::7f00:1",
        "2001::1",
        "100::1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    for public in [
        "8.8.8.8",
        "151.101.1.140",
        "2a04:4e42::644",
        "::ffff:8.8.8.8",
        "2606:4700::1111",
        "172.32.0.1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn a_source_that_cannot_work_is_refused_with_what_to_write() {
    let good = FeedSource::at("https://vendor.example/kev.json");
    assert_eq!(good.check(), Ok(()));
    let bad = [
        FeedSource { urls: vec![], ..good.clone() },
        FeedSource { urls: vec!["https://vendor.example/".into(); MAX_URLS + 1], ..good.clone() },
        FeedSource::at("kev.json"),
        FeedSource::at("https://me:geheim@vendor.example/"),
        FeedSource { every_seconds: 1, ..good.clone() },
        FeedSource { every_seconds: 7200, stale_after_seconds: 3600, ..good.clone() },
        FeedSource { redirect_hosts: vec!["https://x".into()], ..good.clone() },
        FeedSource { redirect_hosts: vec!["x/y".into()], ..good.clone() },
        FeedSource { ca_file: Some("ca.pem".into()), ..good.clone() },
        FeedSource { credentials_file: Some("secret".into()), ..good.clone() },
        FeedSource { max_bytes: 0, ..good.clone() },
        FeedSource { max_bytes: MAX_BYTES + 1, ..good },
    ];
    for source in bad {
        let problem = source.check().expect_err(&format!("{source:?}"));
        assert!(!problem.hint.is_empty() && !problem.message.contains("geheim"), "{problem:?}");
    }
}

#[test]
fn failures_in_a_row_are_answered_by_longer_pauses_up_to_the_interval() {
    let source = FeedSource::at("https://vendor.example/");
    let now = Timestamp::UNIX_EPOCH;
    let pause = |failures, patience| {
        source.next_try(now, failures, patience, 7).duration_since(now).as_secs()
    };
    assert!((54..=66).contains(&pause(1, None)));
    assert!((216..=264).contains(&pause(3, None)));
    assert!((3240..=3960).contains(&pause(30, None)));
    assert_eq!(pause(1, Some(7200)), 7200, "the vendor asked for it");
    assert_eq!(pause(1, Some(10_000_000)), 86_400, "but not for ever");
}

#[test]
fn a_feed_is_fresh_then_stale_and_failed_in_between_where_the_last_look_went_wrong() {
    let at = |s| Timestamp::from_second(s).unwrap();
    let upkeep = Upkeep {
        confirmed_at: Some(at(1000)),
        watched: true,
        failing: false,
        stale_after_seconds: 100,
    };
    assert_eq!(upkeep.standing(at(1100)), FeedStanding::Fresh);
    assert_eq!(upkeep.standing(at(1101)), FeedStanding::Stale);
    assert_eq!(Upkeep { failing: true, ..upkeep }.standing(at(1100)), FeedStanding::Failed);
    assert_eq!(Upkeep { failing: true, ..upkeep }.standing(at(1101)), FeedStanding::Stale);
    let none = Upkeep { confirmed_at: None, ..upkeep };
    assert_eq!(none.standing(at(0)), FeedStanding::Stale);
    assert_eq!(Upkeep { watched: false, ..none }.standing(at(0)), FeedStanding::Absent);
    assert_eq!(upkeep.age_seconds(at(0)), Some(0), "a clock that was set back");
}

proptest! {
    #[test]
    fn no_text_panics_and_every_address_that_is_read_is_read_again_from_its_parts(text in "\\PC{0,60}|https?://[a-z0-9.:\\[\\]@/?#%-]{0,40}") {
        if let Ok(FeedAddress::Http { tls, host, port, target }) = FeedAddress::parse(&text) {
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let again = format!("{}://{bracketed}:{port}{target}", if tls { "https" } else { "http" });
            prop_assert_eq!(FeedAddress::parse(&again), Ok(FeedAddress::Http { tls, host, port, target }));
        }
    }

    #[test]
    fn looks_are_spread_around_the_interval(every in 60u64..2_592_000, seed: u64) {
        let source = FeedSource { every_seconds: every, ..FeedSource::at("https://vendor.example/") };
        let pause = source.next_look(Timestamp::UNIX_EPOCH, seed).as_second() as u64;
        prop_assert!(pause >= every - every / 10 && pause <= every + every / 10);
    }
}
