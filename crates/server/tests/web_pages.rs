//! The pages in a real browser: what they say is there, nothing on them is inline, nothing written by a
//! host becomes markup, and an open page follows the server.
//!
//! Where Chromium is absent the browser's part says so and is left out. With `FETTLE_WEB_GALLERY=DIR` every
//! page is kept there as HTML, and as pictures in light and dark, wide and narrow.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so by a panic

#[path = "web_pages/fleet.rs"]
mod fleet;

use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_server::web::pages::{self, CveFilter, FindingFilter, HostFilter, PackageFilter};
use fettle_server::web::{CONTENT_SECURITY_POLICY, Span, User, View, assets};
use fettle_wire::api::Page;
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
    View { now: fleet::now(), path, user: Some(User { name, roles }) }
}

const SPAN: Span = Span { offset: 0, limit: 50 };

/// Every page with made-up values: name, path, HTML.
fn all_pages() -> Vec<(&'static str, &'static str, String)> {
    let none = HostFilter::default();
    let (entries, verified) = fleet::ledger();
    let open = FindingFilter { state: Some("open"), ..FindingFilter::default() };
    let problem = Problem::new(
        ProblemKind::NotFound,
        "host-unknown",
        "there is no host `web-9`",
        "fettle host list",
    );
    let rows = fleet::policies();
    let plan = fleet::plan();
    let pages = [
        ("overview", "/", pages::overview(&view("/"), &fleet::overview())),
        ("overview-empty", "/first", pages::overview(&view("/"), &fleet::overview_empty())),
        (
            "hosts",
            "/hosts",
            pages::hosts(&view("/hosts"), &fleet::hosts(), &fleet::hosts_by_state(), none, SPAN),
        ),
        (
            "hosts-narrowed",
            "/hosts?package=openssl%3D3.0.14-1&select=env%3Dprod&sort=-open",
            pages::hosts(
                &view("/hosts?package=openssl%3D3.0.14-1&select=env%3Dprod&sort=-open"),
                &fleet::hosts(),
                &fleet::hosts_by_state(),
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
                none,
                SPAN,
            ),
        ),
        ("host", "/hosts/web-2", pages::host(&view("/hosts/web-2"), &fleet::host())),
        (
            "host-hostile",
            "/hosts/hostile",
            pages::host(&view("/hosts/hostile"), &fleet::hostile_host()),
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
        ("rollouts", "/rollouts", pages::rollouts(&view("/rollouts"), &fleet::rollouts())),
        (
            "rollout-running",
            "/rollouts/ro-7",
            pages::rollout(&view("/rollouts/ro-7"), &fleet::rollout_running()),
        ),
        (
            "rollout-halted",
            "/rollouts/ro-6",
            pages::rollout(&view("/rollouts/ro-6"), &fleet::rollout_halted()),
        ),
        ("policies", "/policies", pages::policies(&view("/policies"), &rows)),
        ("policy", "/policies/production", pages::policy(&view("/policies/production"), &rows[0])),
        ("feeds", "/feeds", pages::feeds(&view("/feeds"), &fleet::feeds())),
        (
            "ledger",
            "/ledger",
            pages::ledger(&view("/ledger"), &entries, Some(&verified), None, None),
        ),
        (
            "login",
            "/login",
            pages::login(&View { user: None, ..view("/login") }, Some("that is not the token")),
        ),
        ("problem", "/nowhere", pages::problem(&view("/nowhere"), &problem)),
    ];
    pages.map(|(name, path, page)| (name, path, page.into_string())).into()
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
    let html = pages::host(&view("/hosts/x"), &fleet::hostile_host()).into_string();
    assert!(html.contains("&lt;script&gt;"));
    for raw in ["<script>", "<img"] {
        assert!(!html.contains(raw), "{raw} got through");
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
    let html = pages::rollout(&view("/rollouts/ro-6"), &fleet::rollout_halted()).into_string();
    assert!(
        html.contains("action=\"/rollouts/ro-6/resume\"")
            && html.contains("action=\"/rollouts/ro-6/abort\"")
    );
    assert!(
        !html.contains("/pause") && !html.contains("/undo"),
        "nothing is patched, nothing runs"
    );
    let running = pages::rollout(&view("/rollouts/ro-7"), &fleet::rollout_running()).into_string();
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
    let html = pages::rollout(&view("/rollouts/ro-7"), &it).into_string();
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
        pages::rollout(&vera("/rollouts/ro-7"), &fleet::rollout_running()),
        pages::policy(&vera("/policies/production"), &fleet::policies()[0]),
    ];
    for html in pages.map(maud::PreEscaped::into_string) {
        let forms = html.matches("method=\"post\"").count();
        assert_eq!(forms, 1, "only the log-out: {html}");
        assert!(html.contains("title=\"viewer\">vera<"), "who is logged in: {html}");
    }
}

// ---- in the browser ----

/// Serves fixed pages on a port of its own, with the headers the server sends.
struct Site {
    address: SocketAddr,
    /// Paths asked for, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// `page` gives the HTML of a path; `events` what `/events` says.
    fn serve(
        page: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        events: &'static str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let page = Arc::new(page);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (page, seen) = (page.clone(), seen.clone());
                std::thread::spawn(move || {
                    let _ = answer(stream, &*page, events, &seen);
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(
    mut stream: TcpStream,
    page: &dyn Fn(&str) -> Option<String>,
    events: &str,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines
        .next()
        .transpose()?
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let asset = path.strip_prefix("/assets/").and_then(assets::get);
    asked.lock().unwrap().push(path.clone());
    let (status, kind, body) = if path == "/events" {
        ("200 OK", "text/event-stream", format!("retry: 60000\n\n{events}").into_bytes())
    } else if let Some(asset) = asset {
        ("200 OK", asset.content_type, asset.bytes.to_vec())
    } else if let Some(text) = page(&path) {
        let script = path.ends_with(".js");
        let kind =
            if script { "text/javascript; charset=utf-8" } else { "text/html; charset=utf-8" };
        ("200 OK", kind, text.into_bytes())
    } else {
        ("404 Not Found", "text/plain", Vec::new())
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Content-Security-Policy: {CONTENT_SECURITY_POLICY}\r\nX-Content-Type-Options: nosniff\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

/// Where Chromium is, if it is.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| {
            ["chromium", "chromium-browser", "google-chrome"].map(|name| dir.join(name))
        })
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no Chromium on this machine, so no page was opened in a browser");
    }
    found
}

/// Runs Chromium without a window; gives what it printed on both streams.
fn browse(browser: &Path, arguments: &[String]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let (out, err) = (profile.path().join("out"), profile.path().join("err"));
    let mut child = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ])
        .arg("--enable-logging=stderr")
        .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("Chromium did not end within 60 s: {}", std::fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap())
}

/// The page after its script ran, and what the browser had to complain about.
fn opened(browser: &Path, url: &str) -> (String, Vec<String>) {
    let (dom, log) =
        browse(browser, &["--virtual-time-budget=2000".into(), "--dump-dom".into(), url.into()]);
    let complaints = log.lines().filter(|l| l.contains("CONSOLE")).map(str::to_owned).collect();
    (dom, complaints)
}

fn site() -> Site {
    let pages: BTreeMap<String, String> =
        all_pages().into_iter().map(|(_, path, html)| (path.to_owned(), html)).collect();
    Site::serve(move |path| pages.get(path).cloned(), "")
}

#[test]
fn every_page_opens_in_chromium_without_an_error_or_a_csp_violation() {
    let Some(browser) = chromium() else { return };
    let site = site();
    let pages = all_pages();
    // Two browsers at once: each waits more than it works.
    std::thread::scope(|scope| {
        for half in pages.chunks(pages.len().div_ceil(2)) {
            let (browser, site) = (&browser, &site);
            scope.spawn(move || {
                for (name, path, _) in half {
                    let (dom, complaints) = opened(browser, &site.url(path));
                    assert_eq!(complaints, Vec::<String>::new(), "{name}");
                    assert!(
                        dom.contains("<main id=\"main\"") && dom.contains("As of "),
                        "{name}: {dom}"
                    );
                }
            });
        }
    });
    let asked = site.asked.lock().unwrap();
    assert!(
        asked.iter().any(|p| p == "/assets/style.css") && asked.iter().any(|p| p == "/events"),
        "{asked:?}"
    );
}

/// The page with a script of the test's own at its end, which writes what it finds into the page.
fn audited(html: &str) -> String {
    html.replace("</body>", "<script src=\"/audit.js\"></script></body>")
}

/// What the audit of the pages says, a line each: one browser goes from page to page.
fn audit(browser: &Path, pages: BTreeMap<String, String>, options: &[&str]) -> Vec<String> {
    let pages: BTreeMap<String, String> =
        pages.into_iter().map(|(path, html)| (path, audited(&html))).collect();
    let paths: Vec<&String> = pages.keys().collect();
    let list = format!("const PATHS = {};\n", serde_json::to_string(&paths).unwrap());
    let first = paths[0].clone();
    let script = list + include_str!("web_pages/audit.js");
    let site = Site::serve(
        move |path| match path {
            "/audit.js" => Some(script.clone()),
            path => pages.get(path).cloned(),
        },
        "",
    );
    let mut arguments: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
    arguments.push("--virtual-time-budget=60000".into());
    arguments.extend(["--dump-dom".into(), site.url(&first)]);
    let (dom, _) = browse(browser, &arguments);
    let said = dom.split_once("<pre id=\"audit\">").and_then(|(_, said)| said.split_once("</pre>"));
    said.unwrap_or_else(|| panic!("no audit: {dom}")).0.lines().map(str::to_owned).collect()
}

#[test]
fn every_page_can_be_read_by_everybody_in_light_and_dark_wide_and_narrow() {
    let Some(browser) = chromium() else { return };
    let pages: BTreeMap<String, String> =
        all_pages().into_iter().map(|(_, path, html)| (path.to_owned(), html)).collect();
    let dark = "--blink-settings=preferredColorScheme=0";
    for look in [
        vec!["--window-size=1440,900"],
        vec!["--window-size=1440,900", dark],
        vec!["--window-size=500,900"],
    ] {
        let said = audit(&browser, pages.clone(), &look);
        let (looked, faults): (Vec<_>, Vec<_>) =
            said.iter().partition(|l| l.ends_with(": looked at"));
        assert!(faults.is_empty(), "{look:?}: {faults:#?}");
        assert_eq!(looked.len(), pages.len(), "every page was looked at");
    }
}

#[test]
fn the_audit_finds_what_it_looks_for() {
    let Some(browser) = chromium() else { return };
    let bad = "<!DOCTYPE html><html><body><h1>a</h1><h3>b</h3><input id=x><a href=/></a><svg></svg><p id=x>c</p><details><summary>d <a href=/>e</a></summary></details>\
               <main></main></body></html>";
    // Soft text on the ground of a button that is brand-coloured: nobody could read that.
    let pale = "<!DOCTYPE html><html lang=en><head><link rel=stylesheet href=/assets/style.css></head><body>\
                <main><h1>a</h1><button class=primary><span class=quiet>pale</span></button></main></body></html>";
    let pages =
        BTreeMap::from([("/a".to_owned(), bad.to_owned()), ("/b".to_owned(), pale.to_owned())]);
    let said = audit(&browser, pages, &["--window-size=500,900"]).join("\n");
    for fault in [
        "/a: heading h3 after h1",
        "/a: no label: input#x",
        "/a: no name",
        "says nothing",
        "/a: two elements are #x",
        "/a: no language",
        "/a: a link within",
        "/b: contrast",
    ] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
}

#[test]
fn the_slash_goes_to_the_box_and_the_arrows_through_what_was_found() {
    let Some(browser) = chromium() else { return };
    let script = "addEventListener('load', () => {
        const press = (key) => (document.activeElement || document.body)
            .dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
        const at = [];
        for (const key of ['/', 'ArrowDown', 'ArrowDown', 'ArrowUp', 'ArrowUp', 'ArrowUp']) {
            press(key);
            at.push(document.activeElement.id || document.activeElement.textContent);
        }
        const said = document.createElement('p');
        said.id = 'said';
        said.textContent = at.join(' ');
        document.body.append(said);
    });";
    let page = pages::search(&view("/search?q=open"), &fleet::found()).into_string();
    let page = audited(&page);
    let site = Site::serve(
        move |path| match path {
            "/search" => Some(page.clone()),
            "/audit.js" => Some(script.to_owned()),
            _ => None,
        },
        "",
    );
    let (dom, complaints) = opened(&browser, &site.url("/search"));
    assert_eq!(complaints, Vec::<String>::new());
    let (_, said) = dom.split_once("<p id=\"said\">").unwrap();
    assert!(said.starts_with("q open-1 openssh-server open-1 q q</p>"), "{said}");
}

#[test]
fn the_browser_would_have_told_of_a_violation() {
    let Some(browser) = chromium() else { return };
    let site = Site::serve(
        |path| {
            (path == "/").then(|| "<p style='color:red' onclick='x()'>x<script>1</script>".into())
        },
        "",
    );
    let (_, complaints) = opened(&browser, &site.url("/"));
    assert!(complaints.iter().any(|c| c.contains("Content Security Policy")), "{complaints:?}");
}

#[test]
fn a_hostile_host_name_is_shown_and_not_run() {
    let Some(browser) = chromium() else { return };
    let site = site();
    let (dom, complaints) = opened(&browser, &site.url("/hosts/hostile"));
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(dom.matches("<script").count(), 1, "only our own script");
    assert!(!dom.contains("<img") && !dom.contains("<title>owned"), "{dom}");
    assert!(dom.contains("&lt;script&gt;document.title='owned'&lt;/script&gt;"));
}

#[test]
fn an_open_page_follows_the_server() {
    let Some(browser) = chromium() else { return };
    let visits = AtomicU32::new(0);
    let site = Site::serve(
        move |path| {
            let rollout = match (
                path,
                visits.fetch_add(u32::from(path == "/rollouts/ro-7"), Ordering::SeqCst),
            ) {
                ("/rollouts/ro-7", 0) => fleet::rollout_running(),
                ("/rollouts/ro-7", _) => fleet::rollout_halted(),
                _ => return None,
            };
            Some(pages::rollout(&view("/rollouts/ro-7"), &rollout).into_string())
        },
        "event: rollout\ndata: {}\n\n",
    );
    let (dom, complaints) = opened(&browser, &site.url("/rollouts/ro-7"));
    assert_eq!(complaints, Vec::<String>::new());
    assert!(
        dom.contains("Halted: the gate after wave 1 failed"),
        "the page was not fetched again: {dom}"
    );
    assert_eq!(dom.matches("<main").count(), 1, "the old part is gone");
}

#[test]
fn the_gallery_is_kept_where_it_is_asked_for() {
    let Some(dir) = std::env::var_os("FETTLE_WEB_GALLERY").map(PathBuf::from) else {
        eprintln!("skipped: FETTLE_WEB_GALLERY names no directory");
        return;
    };
    std::fs::create_dir_all(&dir).unwrap();
    let site = site();
    let browser = chromium();
    let only = std::env::var("FETTLE_WEB_GALLERY_ONLY").unwrap_or_default();
    for (name, path, html) in all_pages() {
        std::fs::write(dir.join(format!("{name}.html")), html).unwrap();
        let Some(browser) = &browser else { continue };
        if !only.is_empty() && !only.split(',').any(|o| o == name) {
            continue;
        }
        for (look, size, dark) in [
            ("light", "1440,1500", false),
            ("dark", "1440,1500", true),
            ("narrow", "500,1400", false),
            ("wide", "2200,1300", false),
        ] {
            let picture = dir.join(format!("{name}-{look}.png"));
            let mut arguments = vec![
                format!("--window-size={size}"),
                format!("--screenshot={}", picture.display()),
            ];
            if dark {
                arguments.push("--blink-settings=preferredColorScheme=0".into());
            }
            arguments.push(site.url(path));
            browse(browser, &arguments);
            assert!(picture.is_file(), "{name}-{look}");
        }
    }
}
