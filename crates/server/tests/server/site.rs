//! The pages: login, origin, headers.

use crate::fleet::{CVE, Lab, POLICY};
use crate::http::{Answer, ask, tcp};
use fettle_wire::api::{MakePlan, PlanDetail};
use std::io::{BufRead as _, BufReader, Write as _};

pub(crate) fn page(lab: &Lab, path: &str, cookie: &str) -> Answer {
    ask(tcp(lab.operator).unwrap(), "GET", path, &[("cookie", cookie)], b"").unwrap()
}

pub(crate) fn form(lab: &Lab, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    ask(tcp(lab.operator).unwrap(), "POST", path, &all, body.as_bytes()).unwrap()
}

pub(crate) const HERE: (&str, &str) = ("origin", "http://localhost");

#[test]
fn a_page_whose_session_has_ended_is_told_to_ask_for_no_more_news() {
    let lab = Lab::start();
    for (headers, status) in
        [(&[("accept", "text/event-stream")][..], 204), (&[("accept", "*/*")], 303), (&[], 303)]
    {
        let told = ask(tcp(lab.operator).unwrap(), "GET", "/events", headers, b"").unwrap();
        assert_eq!(told.status, status, "{headers:?}");
    }
}

fn log_in(lab: &Lab) -> String {
    log_in_as(lab, &lab.token)
}

/// Logs in with somebody's token; gives the cookie.
pub(crate) fn log_in_as(lab: &Lab, token: &str) -> String {
    let answer = form(lab, "/login", &[HERE], &format!("token={token}"));
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(token));
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn what_happens_before_a_page_begins_to_listen_is_told_to_it_then() {
    let lab = Lab::start();
    let cookie = log_in(&lab);
    let shown = page(&lab, "/hosts", &cookie).text().to_owned();
    let since = shown.split("data-news=\"").nth(1).unwrap().split('"').next().unwrap();
    lab.post_bytes("/policies", POLICY.as_bytes());
    let mut stream = tcp(lab.operator).unwrap();
    let asked = format!(
        "GET /events?since={since} HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).unwrap();
    let mut told = BufReader::new(stream).lines().map_while(Result::ok);
    let first = told.find(|line| line.starts_with("event: "));
    assert_eq!(first.as_deref(), Some("event: policy"));
    // What says how it stays listens to nothing.
    assert!(!page(&lab, "/hosts/nobody", &cookie).text().contains("data-news"));
}

#[test]
fn every_page_needs_a_login_and_is_shown_with_one() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
    let cookie = log_in(&lab);
    let start = format!("plan={}&digest={}", plan.number, plan.digest);
    let started = form(&lab, "/rollouts", &[HERE, ("cookie", &cookie)], &start);
    assert_eq!(started.header("location").as_deref(), Some("/rollouts/ro-1"), "{}", started.text());
    let finding = format!("/findings/web-1/{CVE}/openssl");
    let cve = format!("/cves/{CVE}");
    for path in [
        "/",
        "/hosts",
        "/hosts?state=exposed&q=web",
        "/hosts/web-1",
        "/hosts?package=openssl&sort=-open&select=ring%3Dcanary",
        "/packages",
        "/packages?q=ssl&exposed=true&sort=-hosts",
        "/packages/libssl3",
        "/cves",
        "/cves?fixable=true&state=open&sort=-hosts",
        "/search",
        "/search?q=ss",
        "/findings",
        "/findings?state=open",
        &finding,
        &cve,
        "/plans",
        "/plans/1",
        "/plans/1/diff/latest",
        "/rollouts",
        "/rollouts/ro-1",
        "/policies",
        "/policies/web",
        "/policies/web/diff/1/1",
        "/wall",
        "/feeds",
        "/recalls",
        "/recalls?package=openssl&version=1",
        "/ledger",
        "/ledger?q=policy.applied",
    ] {
        let out = ask(tcp(lab.operator).unwrap(), "GET", path, &[], b"").unwrap();
        assert_eq!(
            (out.status, out.header("location").as_deref()),
            (303, Some("/login")),
            "{path}"
        );
        let answer = page(&lab, path, &cookie);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"));
        let text = answer.text();
        assert!(
            !text.contains("<script>")
                && !text.contains(" style=\"")
                && !text.contains(" onclick="),
            "{path}"
        );
    }
    assert_eq!(page(&lab, "/nowhere", &cookie).status, 404);
    assert_eq!(page(&lab, "/hosts/nobody", &cookie).status, 404);
    for asset in ["style.css", "live.js"] {
        let answer =
            ask(tcp(lab.operator).unwrap(), "GET", &format!("/assets/{asset}"), &[], b"").unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(page(&lab, "/assets/../operator.token", &cookie).status, 404);
    let to = |q: &str| page(&lab, &format!("/search?q={q}"), &cookie).header("location").unwrap();
    assert_eq!(to("web-1"), "/hosts/web-1");
    assert_eq!(to("cve-2024-5535"), "/cves/CVE-2024-5535");
    assert_eq!(to("WEB-1"), "/hosts/web-1");
    assert_eq!(to("libssl3"), "/packages/libssl3");
    assert_eq!(to("ro-1"), "/rollouts/ro-1");
    assert_eq!(to("plan%201"), "/plans/1");
    assert_eq!(to("web"), "/policies/web");
    let found = page(&lab, "/search?q=we", &cookie);
    assert_eq!(found.status, 200);
    for href in ["/hosts/web-1", "/policies/web", "/plans/1", "/rollouts/ro-1", "/hosts?q=we"] {
        assert!(found.text().contains(&format!("href=\"{href}\"")), "{href}: {}", found.text());
    }
    for wrong in
        ["/hosts?state=rosy", "/hosts?select=env%3D", "/hosts?sort=colour", "/cves?severity=x"]
    {
        let answer = page(&lab, wrong, &cookie);
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
}

#[test]
fn forms_of_other_sites_and_forged_sessions_do_nothing() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let cookie = log_in(&lab);
    for headers in [
        vec![("cookie", cookie.as_str()), ("origin", "http://evil.example")],
        vec![("cookie", cookie.as_str()), ("origin", "null")],
        vec![("cookie", cookie.as_str())],
        vec![("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(form(&lab, "/plans", &headers, "policy=web").status, 403, "{headers:?}");
    }
    // The API takes a session for looking only.
    let headers = [("cookie", cookie.as_str()), HERE];
    assert_eq!(
        ask(tcp(lab.operator).unwrap(), "GET", "/api/v1/hosts", &headers, b"").unwrap().status,
        200
    );
    assert_eq!(
        ask(tcp(lab.operator).unwrap(), "POST", "/api/v1/feeds/bundled", &headers, b"")
            .unwrap()
            .status,
        401
    );
    let (name, value) = cookie.split_once('=').unwrap();
    let other = value.chars().rev().collect::<String>();
    for forged in [other, "1.2.3".into(), String::new(), format!("{value}0")] {
        let answer = page(&lab, "/hosts", &format!("{name}={forged}"));
        assert_eq!(answer.status, 303, "{forged}");
    }
    // Nor is it good under the name that only TLS gives.
    assert_eq!(page(&lab, "/hosts", &format!("__Host-{name}={value}")).status, 303);
    let out = form(&lab, "/logout", &[HERE, ("cookie", &cookie)], "");
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(
        page(&lab, "/hosts", &cookie).status,
        303,
        "the session is over, not only forgotten"
    );
}

#[test]
fn a_wrong_token_does_not_log_in_and_guessing_is_slowed() {
    let lab = Lab::start();
    let answer = form(&lab, "/login", &[HERE], "token=wrong");
    assert_eq!(answer.status, 401);
    assert!(answer.header("set-cookie").is_none());
    let slowed = (0..60)
        .map(|_| form(&lab, "/login", &[HERE], "token=wrong").status)
        .filter(|s| *s == 429)
        .count();
    assert!(slowed > 0, "{slowed}");
    // Nobody guesses a token: whoever has one is not made to wait for those who do not.
    log_in(&lab);
}
