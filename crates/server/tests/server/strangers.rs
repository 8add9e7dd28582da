//! What strangers at the operators' port cannot do, and those who found a token.

use crate::access_ledger::kinds;
use crate::accounts::{FIRST, SECOND, add, cookies, encoded, log_in, sent, tried};
use crate::fleet::{Lab, until};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::operator::Role;
use fettle_wire::api::{Secret, SetPassword};
use serde_json::Value;

fn token(lab: &Lab, name: &str) -> String {
    let made: Value = lab.post(&format!("/operators/{name}/token"), &serde_json::json!({}));
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_wrong_password_is_in_the_ledger_however_much_else_is_refused() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let viewer = log_in_as(&lab, &token(&lab, "vera"));
    for _ in 0..130 {
        assert_eq!(sent(&lab, "/feeds/sync", &viewer, "").status, 403);
    }
    tried(&lab, &[], "vera", SECOND);
    until("the refusal", || (kinds(&lab, &["session.refused"]).len() == 1).then_some(()));
}

#[test]
fn a_form_from_plain_http_is_refused_where_the_page_came_by_tls() {
    let lab = Lab::start();
    let by_tls = ("x-forwarded-proto", "https");
    let log_in = |origin: &str, more: &[(&str, &str)]| {
        let headers = [&[("origin", origin)], more].concat();
        form(&lab, "/login", &headers, &format!("token={}", lab.token))
    };
    let answer = log_in("https://localhost", &[by_tls]);
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(answer.header("strict-transport-security").unwrap().contains("max-age="));
    let cookie = cookies(&answer);
    let with = ("cookie", cookie.as_str());
    assert_eq!(log_in("http://localhost", &[by_tls]).status, 403);
    for (origin, more, expected) in [
        ("http://localhost", &[with, by_tls][..], 403),
        ("http://localhost", &[with], 403),
        ("ftp://localhost", &[], 403),
        ("https://localhost", &[with, by_tls], 303),
        ("https://localhost", &[with], 303),
    ] {
        let headers = [&[("origin", origin)], more].concat();
        let status = form(&lab, "/account/sessions/end", &headers, "").status;
        assert_eq!(status, expected, "{origin} {more:?}");
    }
    assert!(log_in("http://localhost", &[]).header("strict-transport-security").is_none());
}

#[test]
fn who_has_a_token_guesses_the_password_no_faster_by_logging_in_again() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let token = token(&lab, "vera");
    let guess = |cookie: &str| {
        let (wrong, new) = (encoded("not her password"), encoded(SECOND));
        let body = format!("current={wrong}&new={new}&again={new}");
        sent(&lab, "/account/password", cookie, &body).status
    };
    let first = log_in_as(&lab, &token);
    let slowed = (0..12).map(|_| guess(&first)).position(|status| status == 429);
    assert!(slowed.is_some(), "it is slowed");
    let again = log_in_as(&lab, &token);
    assert!((0..3).any(|_| guess(&again) == 429), "another session is the same person");
}

#[test]
fn only_a_password_makes_a_browser_known_and_the_next_password_makes_none_of_it() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    let by_token = form(&lab, "/login", &[HERE], &format!("token={}", token(&lab, "vera")));
    assert!(!cookies(&by_token).contains("fettle-known"), "{}", cookies(&by_token));
    let (mine, other) = (log_in(&lab, "vera", FIRST), log_in(&lab, "vera", FIRST));
    let spend = |headers: &[(&str, &str)]| {
        let mut tries = (0..12).map(|_| tried(&lab, headers, "vera", "not her password").status);
        assert!(tries.any(|status| status == 429));
    };
    let here = [("x-forwarded-for", "192.0.2.9")];
    let mut strangers = 0..;
    let mut spent = || {
        let address = format!("203.0.113.{}", strangers.next().unwrap());
        spend(&[("x-forwarded-for", &address)]);
        spend(&here);
    };
    spent();
    assert_eq!(tried(&lab, &here, "vera", FIRST).status, 429);
    let known = |cookie| [("x-forwarded-for", "192.0.2.9"), ("cookie", cookie)];
    assert_eq!(tried(&lab, &known(&mine), "vera", FIRST).status, 303);
    // All browsers that are known have their tries together.
    spend(&known(&other));
    assert_eq!(tried(&lab, &known(&mine), "vera", FIRST).status, 429);
    let set = serde_json::to_vec(&SetPassword { password: Secret(SECOND.to_owned()) }).unwrap();
    assert_eq!(lab.call("PUT", "/accounts/vera/password", &set).status, 200);
    spent();
    assert_eq!(tried(&lab, &known(&mine), "vera", SECOND).status, 429, "the mark is worth nothing");
}

#[test]
fn a_stranger_elsewhere_leaves_a_new_browser_some_tries_of_its_own() {
    let lab = Lab::start();
    add(&lab, "vera", &[Role::Viewer]);
    for n in 0..3 {
        let address = format!("203.0.113.{n}");
        for _ in 0..5 {
            tried(&lab, &[("x-forwarded-for", &address)], "vera", "not her password");
        }
    }
    let hers = [("x-forwarded-for", "198.51.100.1")];
    assert_eq!(tried(&lab, &hers, "vera", "a slip of hers").status, 401);
    assert_eq!(tried(&lab, &hers, "vera", FIRST).status, 303);
    // Of IPv6 whoever has a network has all of it: it is one.
    let mut statuses = (0..12).map(|n| {
        let address = format!("2001:db8:1:{n}::1");
        tried(&lab, &[("x-forwarded-for", &address)], "vera", "not her password").status
    });
    assert!(statuses.any(|status| status == 429));
    assert_eq!(page(&lab, "/login", "").status, 200);
}

#[test]
fn whoever_finds_too_many_strangers_before_them_is_told_when_to_come_back() {
    let lab = Lab::start();
    // So many at once that there is no place for all of them to wait, each from an address of their own.
    let full = until("a queue that is full", || {
        let all = (0..64).map(|n| {
            let lab = &lab;
            move || {
                let address = format!("198.51.{n}.1");
                let headers = [("x-forwarded-for", address.as_str())];
                tried(lab, &headers, &format!("nobody-{n}"), "no password of anybody")
            }
        });
        std::thread::scope(|scope| {
            let all: Vec<_> = all.map(|one| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap()).find(|answer| answer.status == 429)
        })
    });
    let seconds: i64 = full.header("retry-after").expect("when to come back").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let text = full.text();
    assert!(
        text.contains("too many log in at once") && text.contains("name=\"password\""),
        "{text}"
    );
}
