//! The pages in a real Chromium.

use super::*;

/// Serves fixed pages on a port of its own, with the headers the server sends.
pub(super) struct Site {
    address: SocketAddr,
    /// Paths asked for, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// `page` gives the HTML of a path; `events` what `/events` says.
    pub(super) fn serve(
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

    pub(super) fn url(&self, path: &str) -> String {
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
    let (status, kind, body) = if path == "/events?since=1" {
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
    let pages = by_path();
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
        asked.iter().any(|p| p == "/assets/style.css")
            && asked.iter().any(|p| p == "/events?since=1"),
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
    let script = list + include_str!("audit.js");
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
    let pages = by_path();
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
            Some(rollout_page(&view("/rollouts/ro-7"), &rollout).into_string())
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
        let name = name.trim_start_matches('/').replace(['/', '?', '='], "-");
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
