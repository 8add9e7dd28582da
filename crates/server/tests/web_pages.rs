//! The pages in a real browser: what they say is there, nothing on them is inline, nothing written by a
//! host becomes markup, and an open page follows the server.
//!
//! Where Chromium is absent the browser's part says so and is left out. With `FETTLE_WEB_GALLERY=DIR` every
//! page is kept there as HTML, and as pictures in light and dark, wide and narrow.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so by a panic

#[path = "web_pages/axe.rs"]
mod axe;
#[path = "web_pages/browser.rs"]
mod browser;
#[path = "server/browser.rs"]
#[allow(dead_code)] // journeys on a real server need more of it
mod devtools;
#[path = "web_pages/fleet.rs"]
mod fleet;

use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_server::web::pages::{
    self, AccountNotes, ChainSeen, CveFilter, FindingFilter, HostFilter, LedgerPart, PackageFilter,
    PlanPart, PolicyAround,
};
use fettle_server::web::{CONTENT_SECURITY_POLICY, Span, User, View, assets};
use fettle_wire::api::{Page, RolloutDetail};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn view(path: &str) -> View<'_> {
    as_one_of(path, "admin", &[Role::Admin])
}

/// The page as somebody with these roles sees it.
fn as_one_of<'a>(path: &'a str, name: &'a str, roles: &[Role]) -> View<'a> {
    let roles = Box::leak(Box::new(roles.iter().copied().collect()));
    View { now: fleet::now(), path, news: Some(1), user: Some(User { name, roles }) }
}

/// The page of a rollout all of whose hosts are shown.
fn rollout_page(view: &View<'_>, it: &RolloutDetail) -> maud::Markup {
    pages::rollout(view, it, &BTreeMap::new())
}

/// A part of the ledger in which nothing is searched for.
fn ledger_part<'a>(entries: &'a [LedgerEntry], chain: Option<&'a ChainSeen>) -> LedgerPart<'a> {
    LedgerPart { entries, chain, q: "", older: None, newer: None, key: "a2V5" }
}

const SPAN: Span = Span { offset: 0, limit: 50 };

/// Every page with made-up values: name, path, HTML.
fn all_pages() -> Vec<(&'static str, &'static str, String)> {
    let none = HostFilter::default();
    let (entries, verified) = fleet::ledger();
    let open = FindingFilter { state: Some("open"), ..FindingFilter::default() };
    let problem = Problem::new(
        ProblemKind::NotFound,
        "not-found",
        "there is no host `web-9`",
        "fettle host list",
    );
    let rows = fleet::policies();
    let plan = fleet::plan();
    let large = fleet::large_plan();
    let pages = [
        ("overview", "/", pages::overview(&view("/"), &fleet::overview())),
        // `docs/overview.png` is a picture of it, from the gallery.
        ("overview-shown", "/shown", pages::overview(&view("/"), &fleet::overview_shown())),
        (
            "wall",
            "/wall",
            pages::wall(
                &view("/wall"),
                &fleet::overview(),
                &[fleet::rollout_running(), fleet::rollout_halted()],
            ),
        ),
        ("overview-empty", "/first", pages::overview(&view("/"), &fleet::overview_empty())),
        (
            "hosts",
            "/hosts",
            pages::hosts(
                &view("/hosts"),
                &fleet::hosts(),
                &fleet::hosts_by_state(),
                &[],
                none,
                SPAN,
            ),
        ),
        (
            "hosts-many",
            "/hosts?sort=-open",
            pages::hosts(
                &view("/hosts?sort=-open"),
                &fleet::many_hosts(),
                &fleet::hosts_by_state(),
                &[],
                HostFilter { sort: Some("-open"), ..none },
                Span { offset: 0, limit: 80 },
            ),
        ),
        (
            "hosts-narrowed",
            "/hosts?package=openssl%3D3.0.14-1&select=env%3Dprod&sort=-open",
            pages::hosts(
                &view("/hosts?package=openssl%3D3.0.14-1&select=env%3Dprod&sort=-open"),
                &fleet::hosts(),
                &fleet::hosts_by_state(),
                &fleet::saved_views(),
                HostFilter {
                    package: Some("openssl=3.0.14-1"),
                    select: Some("env=prod and os.version=12"),
                    sort: Some("-open"),
                    ..none
                },
                Span { offset: 0, limit: 5 },
            ),
        ),
        (
            "packages",
            "/packages",
            pages::packages(&view("/packages"), &fleet::packages(), PackageFilter::default(), SPAN),
        ),
        (
            "package",
            "/packages/libssl3",
            pages::package(&view("/packages/libssl3"), &fleet::package()),
        ),
        (
            "recalls",
            "/recalls",
            pages::recalls(&view("/recalls"), &[fleet::recall().row], "openssl", "3.0.15"),
        ),
        ("recalls-empty", "/recalls-empty", pages::recalls(&view("/recalls"), &[], "", "")),
        (
            "recall",
            "/recalls/openssl/3",
            pages::recall(&view("/recalls/openssl/3"), &fleet::recall()),
        ),
        (
            "report",
            "/reports?policy=web",
            pages::report(
                &view("/reports?policy=web"),
                &fleet::month(),
                &["web".to_owned(), fleet::HOSTILE_ATTRIBUTE.to_owned()],
            ),
        ),
        ("report-empty", "/reports", pages::report(&view("/reports"), &fleet::month_empty(), &[])),
        (
            "cves",
            "/cves?fixable=true",
            pages::cves(
                &view("/cves?fixable=true"),
                &fleet::cves(),
                &["critical".to_owned(), "standard".to_owned()],
                CveFilter { fixable: true, ..CveFilter::default() },
                SPAN,
            ),
        ),
        (
            "settings",
            "/settings",
            pages::settings(
                &view("/settings"),
                &fleet::schedules(),
                &fleet::deliveries(),
                &fleet::saved_views(),
                Some(&fleet::accounts()),
            ),
        ),
        (
            "settings-empty",
            "/settings-empty",
            pages::settings(&view("/settings"), &[], &[], &[], None),
        ),
        (
            "account",
            "/account",
            pages::account(&view("/account"), &fleet::own_account(), &AccountNotes::default()),
        ),
        (
            "account-token",
            "/account/token",
            pages::account(
                &view("/account/token"),
                &fleet::own_account(),
                &AccountNotes {
                    wrong: None,
                    token: Some("fettle-operator1.0123456789abcdef0123456789abcdef"),
                },
            ),
        ),
        (
            "account-wrong",
            "/account/password",
            pages::account(
                &view("/account/password"),
                &fleet::nobodys_account(),
                &AccountNotes { wrong: Some("Not done: that is not it."), token: None },
            ),
        ),
        (
            "error",
            "/errors/not-delivered",
            pages::error(
                &view("/errors/not-delivered"),
                fettle_wire::errors::page("not-delivered").unwrap(),
            ),
        ),
        ("errors", "/errors", pages::errors(&view("/errors"))),
        ("search", "/search?q=open", pages::search(&view("/search?q=open"), &fleet::found())),
        (
            "search-nothing",
            "/search?q=zzz",
            pages::search(&view("/search?q=zzz"), &fleet::found_nothing()),
        ),
        (
            "hosts-empty",
            "/hosts-empty",
            pages::hosts(
                &view("/hosts"),
                &Page { total: 0, items: vec![] },
                &BTreeMap::new(),
                &[],
                none,
                SPAN,
            ),
        ),
        (
            "host",
            "/hosts/web-2",
            pages::host(&view("/hosts/web-2"), &fleet::host(), Some(&fleet::next())),
        ),
        (
            "host-packages",
            "/hosts/web-2/packages?q=lib",
            pages::host_packages(
                &view("/hosts/web-2/packages?q=lib"),
                &fleet::host_packages(),
                "lib",
                Span { offset: 0, limit: 3 },
            ),
        ),
        (
            "host-large",
            "/hosts/large",
            pages::host(&view("/hosts/large"), &fleet::large_host(), Some(&fleet::next())),
        ),
        (
            "host-hostile",
            "/hosts/hostile",
            pages::host(&view("/hosts/hostile"), &fleet::hostile_host(), Some(&fleet::next())),
        ),
        (
            "findings",
            "/findings?state=open",
            pages::findings(&view("/findings?state=open"), &fleet::findings(), open, SPAN),
        ),
        (
            "finding",
            "/findings/web-2/CVE-2024-5535/openssl",
            pages::finding(&view("/findings/web-2/x/y"), &fleet::explained()),
        ),
        ("cve", "/cves/CVE-2024-5535", pages::cve(&view("/cves/CVE-2024-5535"), &fleet::cve())),
        (
            "plans",
            "/plans",
            pages::plans(&view("/plans"), &Page { total: 1, items: vec![plan.clone()] }),
        ),
        ("plan", "/plans/12", pages::plan(&view("/plans/12"), &plan)),
        (
            "plan-to-approve",
            "/plans/13",
            pages::plan(&view("/plans/13"), &fleet::plan_to_approve()),
        ),
        ("plan-tested", "/plans/tested", pages::plan(&view("/plans/13"), &fleet::plan_tested())),
        ("plan-large", "/plans/large", pages::plan(&view("/plans/13"), &large)),
        (
            "plan-diff",
            "/plans/12/diff/13",
            pages::plan_diff(&view("/plans/12/diff/13"), &fleet::plan_diff()),
        ),
        (
            "rollout-to-approve",
            "/rollouts/to-approve",
            rollout_page(&view("/rollouts/ro-7"), &fleet::rollout_to_approve()),
        ),
        ("rollouts", "/rollouts", pages::rollouts(&view("/rollouts"), &fleet::rollouts())),
        (
            "rollout-running",
            "/rollouts/ro-7",
            rollout_page(&view("/rollouts/ro-7"), &fleet::rollout_running()),
        ),
        (
            "rollout-halted",
            "/rollouts/ro-6",
            rollout_page(&view("/rollouts/ro-6"), &fleet::rollout_halted()),
        ),
        ("policies", "/policies", pages::policies(&view("/policies"), &rows)),
        (
            "policy",
            "/policies/production",
            pages::policy(
                &view("/policies/production"),
                &rows[0],
                PolicyAround {
                    cycle: Some(&fleet::cycles()[0]),
                    calendar: Some(&fleet::calendar()),
                    stages: &fleet::stages(),
                    versions: &fleet::policy_versions(),
                },
            ),
        ),
        (
            "policy-diff",
            "/policies/production/diff/1/3",
            pages::policy_diff(&view("/policies/production/diff/1/3"), &fleet::policy_difference()),
        ),
        (
            "rollout-large",
            "/rollouts/large",
            pages::rollout(
                &view("/rollouts/large"),
                &fleet::large_rollout(),
                &fleet::large_names(),
            ),
        ),
        ("feeds", "/feeds", pages::feeds(&view("/feeds"), &fleet::feeds())),
        (
            "ledger",
            "/ledger",
            pages::ledger(&view("/ledger"), ledger_part(&entries, Some(&verified))),
        ),
        (
            "ledger-searched",
            "/ledger?q=stepped",
            pages::ledger(
                &view("/ledger?q=stepped"),
                LedgerPart {
                    q: "stepped",
                    older: Some("?q=stepped&before=7"),
                    newer: Some("?q=stepped"),
                    ..ledger_part(&fleet::large_ledger(), None)
                },
            ),
        ),
        (
            "login",
            "/login",
            pages::login(
                &View { user: None, ..view("/login") },
                Some("that is not the token"),
                false,
            ),
        ),
        (
            "login-first",
            "/login-first",
            pages::login(&View { user: None, ..view("/login") }, None, true),
        ),
        (
            "setup",
            "/setup",
            pages::setup(&View { user: None, ..view("/setup") }, "alice", Some("Not let in: no.")),
        ),
        ("problem", "/nowhere", pages::problem(&view("/nowhere"), &problem)),
    ];
    let mut pages: Vec<_> = pages.map(|(name, path, page)| (name, path, page.into_string())).into();
    // What a plan's page shows the head of, in the middle.
    let span = Span { offset: 80, limit: 80 };
    pages.extend(PlanPart::ALL.map(|part| {
        let path: &str = Box::leak(format!("/plans/13/{}?offset=80", part.word()).into_boxed_str());
        (path, path, pages::plan_part(&view(path), &large, part, span).into_string())
    }));
    pages
}

/// The pages by path, none lost: where two had one path, only the later would be looked at.
fn by_path() -> BTreeMap<String, String> {
    let all = all_pages();
    let count = all.len();
    let by_path: BTreeMap<String, String> =
        all.into_iter().map(|(_, path, html)| (path.to_owned(), html)).collect();
    assert_eq!(by_path.len(), count, "two pages have one path");
    by_path
}

#[test]
fn every_page_states_when_it_was_made_and_has_nothing_inline() {
    for (name, _, html) in all_pages() {
        assert!(html.starts_with("<!DOCTYPE html>"), "{name}");
        assert!(
            html.contains("As of ") && html.contains("2026-11-23 08:42:10 UTC"),
            "{name} says when it was made"
        );
        assert_eq!(html.matches("<h1").count(), 1, "{name} has one title");
        assert!(!html.contains(" style=") && !html.contains("<style"), "{name} has inline style");
        assert!(
            !html.contains(" onclick=") && !html.contains("javascript:"),
            "{name} has inline script"
        );
        for (at, _) in html.match_indices("<script") {
            assert!(
                html[at..].starts_with("<script src=\"/assets/live.js\" defer></script>"),
                "{name}: a script of its own"
            );
        }
    }
}

/// HTML knows no self-closing SVG elements: one without an end tag would swallow what follows it.
#[test]
fn every_element_of_a_chart_is_closed() {
    for (name, _, html) in all_pages() {
        for element in ["svg", "symbol", "rect", "path", "circle", "line", "use", "text"] {
            let opened = html.matches(&format!("<{element} ")).count();
            assert_eq!(
                opened,
                html.matches(&format!("</{element}>")).count(),
                "{name}: <{element}>"
            );
        }
    }
}

#[test]
fn no_page_weighs_more_than_150_kilobytes_at_first_load() {
    let assets: usize = ["style.css", "live.js", "icon.svg"]
        .iter()
        .map(|n| assets::get(n).unwrap().bytes.len())
        .sum();
    for (name, _, html) in all_pages() {
        let weight = html.len() + assets;
        assert!(weight < 150_000, "{name} weighs {weight} bytes");
    }
}

#[test]
fn what_hosts_write_stays_text() {
    let html = pages::host(&view("/hosts/x"), &fleet::hostile_host(), None).into_string();
    assert!(html.contains("&lt;script&gt;"));
    for raw in ["<script>", "<img"] {
        assert!(!html.contains(raw), "{raw} got through");
    }
}

#[test]
fn what_is_put_before_an_approver_stays_text_and_says_what_there_is_to_know() {
    let carol = |path| as_one_of(path, "carol", &[Role::Approver]);
    let rollout = rollout_page(&carol("/rollouts/ro-7"), &fleet::rollout_to_approve());
    let pages = [
        (pages::plan(&carol("/plans/13"), &fleet::plan_tested()), "1 of 3 cohorts"),
        (pages::plan_diff(&carol("/plans/12/diff/13"), &fleet::plan_diff()), "&lt;script&gt;"),
        (rollout, "action=\"/rollouts/ro-7/approve\""),
    ];
    for (html, words) in pages.map(|(html, words)| (html.into_string(), words)) {
        assert!(html.contains(words), "{words}: {html}");
        assert!(html.contains("&lt;script&gt;") && html.contains("&lt;img"), "{words}: {html}");
        assert!(!html.contains("<script>") && !html.contains("<img"), "{words}: it got through");
    }
}

#[test]
fn every_figure_of_the_overview_leads_to_its_list() {
    let html = pages::overview(&view("/"), &fleet::overview()).into_string();
    for href in [
        "/findings?state=open",
        "/findings?state=open&amp;severity=critical",
        "/hosts?state=exposed",
        "/hosts?state=quarantined",
        "/rollouts/ro-6",
        "/rollouts/ro-7",
        "/hosts/web-2",
        "/feeds",
    ] {
        assert!(html.contains(&format!("href=\"{href}\"")), "{href}");
    }
    assert!(
        html.contains("web-1 was undone: acme-web.service did not come back"),
        "why it is stuck"
    );
}

#[test]
fn an_empty_server_says_what_to_do_first() {
    let html = pages::overview(&view("/"), &fleet::overview_empty()).into_string();
    for command in ["fettle token create", "fettle-agent enroll"] {
        assert!(html.contains(command), "{command}");
    }
}

#[test]
fn a_halted_rollout_offers_resume_abort_and_no_pause() {
    let html = rollout_page(&view("/rollouts/ro-6"), &fleet::rollout_halted()).into_string();
    assert!(
        html.contains("action=\"/rollouts/ro-6/resume\"")
            && html.contains("action=\"/rollouts/ro-6/abort\"")
    );
    assert!(
        !html.contains("/pause") && !html.contains("/undo"),
        "nothing is patched, nothing runs"
    );
    let running = rollout_page(&view("/rollouts/ro-7"), &fleet::rollout_running()).into_string();
    assert!(running.contains("/rollouts/ro-7/pause") && running.contains("/rollouts/ro-7/undo"));
}

#[test]
fn a_step_of_the_traffic_is_a_lane_with_the_hosts_of_both_pools_and_their_shares() {
    let mut it = fleet::rollout_running();
    it.waves[1].traffic = Some(10);
    it.traffic = [("web-9", "blue", 90, "set"), ("web-8", "green", 10, "asked")]
        .map(|(name, pool, share, state)| fettle_wire::api::RolloutTraffic {
            name: name.into(),
            pool: pool.into(),
            share: Some(share),
            state: state.into(),
        })
        .into();
    let html = rollout_page(&view("/rollouts/ro-7"), &it).into_string();
    for words in
        ["a step of the traffic", "web-8", "10 % of its weight: asked", "90 % of its weight: set"]
    {
        assert!(html.contains(words), "{words}: {html}");
    }
}

#[test]
fn the_start_form_of_a_plan_carries_the_digest_that_was_seen() {
    let plan = fleet::plan();
    let html = pages::plan(&view("/plans/12"), &plan).into_string();
    assert!(html.contains(&format!("name=\"digest\" value=\"{}\"", plan.digest)));
}

#[test]
fn a_plans_page_tells_who_approved_it_and_why_one_does_not_count() {
    let html = pages::plan(&view("/plans/13"), &fleet::plan_to_approve()).into_string();
    for words in [
        "made by alice",
        "Cannot start yet: 1 of 2 approvals given",
        "1 of 2 approvals",
        "looked at the waves",
        "no: does not have the role approver",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(!html.contains("action=\"/rollouts\""), "what is not approved has no start button");
}

#[test]
fn a_plan_that_too_few_have_signed_says_so_and_has_no_start_button() {
    let plan = fleet::plan();
    let signing = fleet::plan_to_approve().signing;
    let unsigned = fettle_wire::api::PlanDetail { signing: signing.clone(), ..plan.clone() };
    let html = pages::plan(&view("/plans/12"), &unsigned).into_string();
    for words in [
        "Cannot start yet: 1 of 2 operators' signatures given",
        "plan keys of version 2, 2 of 3",
        "fettle plan sign 12 --key KEYFILE",
        "no: it has expired",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(!html.contains("action=\"/rollouts\""), "hosts would refuse it");
    let signing = signing.map(|it| fettle_wire::api::PlanSigning { given: 2, ..it });
    let signed = fettle_wire::api::PlanDetail { signing, ..plan };
    assert!(
        pages::plan(&view("/plans/12"), &signed).into_string().contains("action=\"/rollouts\"")
    );
}

#[test]
fn only_an_approver_who_did_not_make_the_plan_is_offered_to_approve_it() {
    let plan = fleet::plan_to_approve();
    let shown = |name, roles: &[Role]| {
        pages::plan(&as_one_of("/plans/13", name, roles), &plan).into_string()
    };
    let form = "action=\"/plans/13/approve\"";
    let carol = shown("carol", &[Role::Approver]);
    assert!(carol.contains(form) && carol.contains(&plan.digest.to_string()));
    assert!(!carol.contains("/plans/13/withdraw"), "she has given none");
    assert!(shown("bob", &[Role::Approver]).contains("/plans/13/withdraw"), "he has");
    let maker = shown("alice", &[Role::Approver]);
    assert!(!maker.contains(form) && maker.contains("whoever made a plan cannot approve it"));
    let viewer = shown("vera", &[Role::Viewer]);
    assert!(!viewer.contains(form) && viewer.contains("Approving needs the role approver"));
}

#[test]
fn who_may_only_look_is_offered_nothing_to_do() {
    let vera = |path| as_one_of(path, "vera", &[Role::Viewer]);
    let pages = [
        pages::plan(&vera("/plans/12"), &fleet::plan()),
        rollout_page(&vera("/rollouts/ro-7"), &fleet::rollout_running()),
        pages::policy(
            &vera("/policies/production"),
            &fleet::policies()[0],
            PolicyAround { cycle: Some(&fleet::cycles()[0]), ..PolicyAround::default() },
        ),
    ];
    for html in pages.map(maud::PreEscaped::into_string) {
        let forms = html.matches("method=\"post\"").count();
        assert_eq!(forms, 1, "only the log-out: {html}");
        assert!(html.contains("title=\"viewer\">vera<"), "who is logged in: {html}");
    }
}
