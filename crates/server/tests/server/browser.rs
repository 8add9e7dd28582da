//! A real Chromium that is told what to do as a person would: DevTools protocol over a WebSocket (RFC 6455), as little
//! of both as journeys need.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What judges whether everybody can read and use a page.
const AXE: &str = include_str!("../axe/axe.min.js");
/// A line for each rule that is broken and each element that breaks it. What is folded up is judged as well.
const JUDGED: &str = "(async () => {
    document.querySelectorAll('details').forEach((it) => { it.open = true; });
    const said = await axe.run(document, { resultTypes: ['violations'] });
    return said.violations.flatMap((broken) => broken.nodes.map((node) => {
        const todo = (node.failureSummary ?? broken.help).replace(/\\s+/g, ' ');
        return `${broken.id} (${broken.impact}) at ${node.target.flat().join(' ')}: ${todo} In ${node.html.slice(0, 160)}`;
    }));
})()";

/// As Chromium says that the addresses of the machine are others than before.
const NETWORK_CHANGED: &str = "net::ERR_NETWORK_CHANGED";
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    socket: BufReader<TcpStream>,
    next: u64,
    pub(crate) dir: tempfile::TempDir,
    /// What the browser complained about: errors of scripts, violations of the content security policy.
    pub(crate) complaints: Vec<String>,
    /// The addresses of the machine changed, and Chromium dropped what was under way.
    cut_off: bool,
}

/// Goes on a journey, with a new browser and all anew where hosts of other tests, which come and go on this machine, had
/// Chromium drop its connections in the middle of it.
pub(crate) fn journey(go: impl Fn(&mut Browser)) {
    for left in (0..10).rev() {
        // None is installed here; `cargo xtask test` installs it.
        let Some(mut browser) = Browser::open() else { return };
        match catch_unwind(AssertUnwindSafe(|| go(&mut browser))) {
            Ok(()) => return assert_eq!(browser.complaints, Vec::<String>::new()),
            Err(_) if browser.cut_off && left > 0 => {}
            Err(why) => resume_unwind(why),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| ["chromium", "chromium-browser", "google-chrome"].map(|n| dir.join(n)))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no Chromium on this machine, so nobody went on a journey");
    }
    found
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(out) = done() {
            return out;
        }
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Browser {
    fn open() -> Option<Self> {
        let program = chromium()?;
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("profile");
        let child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--remote-debugging-port=0", "--window-size=1300,1000"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port: u16 = until("Chromium's port", || {
            let said = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            said.lines().next()?.parse().ok()
        });
        let path = until("a page", || {
            let list: Value = serde_json::from_slice(&listed(port)?).ok()?;
            let page = list.as_array()?.iter().find(|it| it["type"] == "page")?;
            let url = page["webSocketDebuggerUrl"].as_str()?;
            Some(format!("/{}", url.splitn(4, '/').nth(3)?))
        });
        let mut browser = Self {
            child,
            socket: shaken(port, &path),
            next: 0,
            dir,
            complaints: Vec::new(),
            cut_off: false,
        };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.next += 1;
        let id = self.next;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.get_mut().write_all(&frame(text.as_bytes())).unwrap();
        loop {
            let said: Value = serde_json::from_slice(&self.message()).unwrap();
            self.note(&said);
            if said["id"] == id {
                return match said.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(said["result"].clone()),
                };
            }
        }
    }

    fn note(&mut self, said: &Value) {
        let entry = &said["params"]["entry"];
        match said["method"].as_str() {
            // An answer of the server that refuses is a page like any other.
            Some("Log.entryAdded") if entry["source"] != "network" && entry["level"] == "error" => {
                self.complaints.push(entry["text"].to_string());
            }
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(said["params"]["exceptionDetails"].to_string());
            }
            _ => {}
        }
    }

    /// One message; the browser's frames are not masked, and none is larger than is read here.
    fn message(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head).unwrap();
            let length = match head[1] & 0x7f {
                126 => {
                    let mut bytes = [0; 2];
                    self.socket.read_exact(&mut bytes).unwrap();
                    u64::from(u16::from_be_bytes(bytes))
                }
                127 => {
                    let mut bytes = [0; 8];
                    self.socket.read_exact(&mut bytes).unwrap();
                    u64::from_be_bytes(bytes)
                }
                length => u64::from(length),
            };
            let mut part = vec![0; usize::try_from(length).unwrap()];
            self.socket.read_exact(&mut part).unwrap();
            // Text, or a part that follows; pings are not answered in the time of a test.
            if matches!(head[0] & 0x0f, 0 | 1) {
                whole.append(&mut part);
                if head[0] & 0x80 != 0 {
                    return whole;
                }
            }
        }
    }

    /// What an expression of JavaScript comes to.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let deadline = Instant::now() + PATIENCE;
        let said = loop {
            match self.try_call("Runtime.evaluate", asked.clone()) {
                Ok(said) => break said,
                // The page was left in that very moment: the next one is asked.
                Err(error) if error.contains("navigated") || error.contains("context") => {
                    assert!(Instant::now() < deadline, "{expression}: {error}");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{expression}: {error}"),
            }
        };
        assert!(said.get("exceptionDetails").is_none(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Shows pages from now on in a window of this width, as somebody asked for who likes it light or dark.
    pub(crate) fn look(&mut self, width: u32, dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What axe-core finds wrong with the page, a line each. It is put in by the browser, past the content security policy,
    /// which is what it is without it.
    pub(crate) fn axe(&mut self) -> Vec<String> {
        self.eval(&format!("if (typeof axe !== 'object') {{ {AXE} }}"));
        let asked = json!({ "expression": JUDGED, "returnByValue": true, "awaitPromise": true });
        let said = self.call("Runtime.evaluate", asked);
        assert!(said.get("exceptionDetails").is_none(), "{said}");
        serde_json::from_value(said["result"]["value"].clone()).unwrap()
    }

    /// Everybody can read and use the page as it is now, in light and dark, at a desk and on a small telephone.
    pub(crate) fn good_for_everybody(&mut self) {
        for (width, dark) in [(360, false), (360, true), (1300, true), (1300, false)] {
            self.look(width, dark);
            let wrong = self.axe();
            assert!(wrong.is_empty(), "dark: {dark}, {width} px:\n{}", wrong.join("\n"));
        }
    }

    /// Plugs the page's network in, or pulls it out.
    pub(crate) fn connected(&mut self, plugged: bool) {
        self.call("Network.enable", json!({}));
        let asked = json!({ "offline": !plugged, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        self.call("Network.emulateNetworkConditions", asked);
    }

    /// Types an address.
    pub(crate) fn go(&mut self, url: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.call("Page.navigate", json!({ "url": url }));
            match said["errorText"].as_str() {
                None => return self.loaded(),
                // Hosts of other tests come and go on this machine, and Chromium drops its connections when they do.
                Some(NETWORK_CHANGED) if Instant::now() < deadline => {}
                Some(error) => panic!("{url}: {error}"),
            }
        }
    }

    fn loaded(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval("document.readyState") != "complete" {
            assert!(Instant::now() < deadline, "the page does not end to load");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a person reads on the page.
    pub(crate) fn text(&mut self) -> String {
        let text = self.eval("document.body ? document.body.innerText : ''");
        let text = text.as_str().unwrap().to_owned();
        self.cut_off |= text.contains("ERR_NETWORK_CHANGED");
        assert!(!self.cut_off, "the machine's network changed in the middle of it");
        text
    }

    /// Where the page is.
    pub(crate) fn path(&mut self) -> String {
        self.eval("location.pathname + location.search").as_str().unwrap().to_owned()
    }

    /// Waits until all of this can be read, without doing anything.
    pub(crate) fn see(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        // A style may write words in capitals.
        let wanted = what.to_lowercase();
        loop {
            let text = self.text();
            if text.to_lowercase().contains(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "`{what}` is not to be seen on:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the page is there.
    pub(crate) fn arrive(&mut self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.path() != path {
            let at = self.path();
            assert!(Instant::now() < deadline, "{path} is not where it led to: {at}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.loaded();
    }

    /// Clicks with the mouse on the visible element that this selects and that has this text.
    pub(crate) fn click(&mut self, selector: &str, text: &str) {
        let place = format!(
            "(() => {{ const it = [...document.querySelectorAll({})].find(e => e.checkVisibility() && (e.innerText ?? e.textContent).trim() === {});
               if (!it) return null; it.scrollIntoView({{block: 'center'}}); const r = it.getBoundingClientRect();
               return [r.x + Math.min(r.width / 2, 60), r.y + r.height / 2]; }})()",
            json!(selector),
            json!(text)
        );
        let deadline = Instant::now() + PATIENCE;
        let at = loop {
            let at = self.eval(&place);
            if at.is_array() {
                break at;
            }
            let seen = if Instant::now() > deadline { self.text() } else { String::new() };
            assert!(Instant::now() < deadline, "no {selector} `{text}` to click on:\n{seen}");
            std::thread::sleep(Duration::from_millis(50));
        };
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Types into the field.
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let focus = format!("document.querySelector({}).focus()", json!(selector));
        self.eval(&focus);
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str, text: &str) {
        let code = if key == "Enter" { 13 } else { 0 };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Logs in on the page for it; whoever was logged in is forgotten.
    pub(crate) fn log_in(&mut self, site: &str, token: &str) {
        self.call("Network.clearBrowserCookies", json!({}));
        self.go(&format!("{site}/"));
        self.see("Your token");
        self.fill("#token", token);
        self.click("button", "Log in with the token");
        self.see("Log out");
    }

    /// Files that are given to be kept land here.
    pub(crate) fn keep_files(&mut self) -> PathBuf {
        let kept = self.dir.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        let asked = json!({ "behavior": "allow", "downloadPath": kept });
        self.call("Browser.setDownloadBehavior", asked);
        kept
    }
}

/// The first file that is wholly in a directory.
pub(crate) fn kept_file(dir: &Path) -> PathBuf {
    until("the file", || {
        let all: Vec<PathBuf> =
            std::fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path()).collect();
        let whole = |path: &&PathBuf| path.extension().is_none_or(|end| end != "crdownload");
        all.iter().find(whole).filter(|_| all.len() == 1).cloned()
    })
}

/// What Chromium says which pages it has open. It keeps the connection, so the length counts.
fn listed(port: u16) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let (mut reader, mut length) = (BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// A WebSocket to the page.
fn shaken(port: u16, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let key = BASE64.encode([7; 16]);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.contains(" 101 "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            return reader;
        }
    }
}

/// A text in one frame, masked as a client has to.
fn frame(text: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut out = vec![0x81];
    match text.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(text.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
    out
}
