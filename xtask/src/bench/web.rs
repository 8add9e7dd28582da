//! The web pages over a fleet of 100,000 hosts that never was: time in the server, and weight of a first visit.

use super::Figure;
use crate::build::{cargo, run, target};
use crate::lab::say;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Visits of each page; the first, which may find caches cold, counts too.
const VISITS: usize = 60;
/// A page's time at the 95th percentile, in ms.
const SLOWEST: f64 = 50.0;
/// Page, style sheet, script and icon together, in kB.
const HEAVIEST: f64 = 150.0;

const POLICY: &str = r#"
[policy]
name = "production"
select = "env=prod"
description = "Everything, canary first"

[[class]]
name = "all"
deadline = "7d"

[[ring]]
name = "canary"
select = "ring=canary"

[[ring]]
name = "early"
select = "ring=early"

[[ring]]
name = "broad"
"#;

/// What is opened.
const PAGES: [&str; 34] = [
    "/",
    "/wall",
    "/hosts",
    "/hosts?state=exposed&sort=-overdue",
    "/hosts?q=web-77&offset=100",
    "/hosts?package=lib-0&select=ring%3Dcanary%20and%20os.version%3D12",
    "/hosts?select=role%3Dweb%20and%20not%20ring%3Dcanary",
    "/hosts?cve=CVE-2026-10194&sort=-seen",
    "/hosts?sort=-seen",
    "/hosts/web-1000",
    "/packages",
    "/packages?sort=-exposed",
    "/packages/lib-0",
    "/cves",
    "/cves?fixable=true&kev=true&sort=-hosts",
    "/cves/CVE-2026-10194",
    "/findings?state=open",
    "/findings?due=overdue&severity=high&offset=1000",
    "/search?q=web-7",
    "/plans",
    "/plans/1",
    "/plans/1/hosts?offset=400",
    "/plans/1/changes",
    "/plans/1/held",
    "/rollouts",
    "/rollouts/ro-1",
    "/policies",
    "/policies/production",
    "/recalls",
    "/feeds",
    "/ledger",
    "/reports",
    "/reports?policy=production",
    "/settings",
];

/// What programs ask for again and again.
const LISTS: [&str; 9] = [
    "/overview",
    "/hosts?select=role%3Dweb",
    "/hosts?package=lib-0&sort=-open",
    "/hosts?sort=-overdue&limit=1000",
    "/findings?state=open",
    "/cves",
    "/packages",
    "/search?q=lib-1",
    "/rollouts",
];

pub(super) fn measure(hosts: usize) -> Result<Vec<Figure>> {
    in_a_directory("web", |dir| within(dir, hosts))
}

/// Builds the server and what fills its store, and measures in a directory that is gone afterwards.
pub(super) fn in_a_directory(
    name: &str,
    measure: impl FnOnce(&Path) -> Result<Vec<Figure>>,
) -> Result<Vec<Figure>> {
    run(&mut cargo(&["build", "--profile", "demo", "--bin", "fettle"]))?;
    let filler =
        ["build", "--profile", "demo", "--package", "fettle-store", "--example", "big_fleet"];
    run(&mut cargo(&filler))?;
    let dir = std::env::temp_dir().join(format!("fettle-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn within(dir: &Path, hosts: usize) -> Result<Vec<Figure>> {
    let programs = target().join("demo");
    // Feeds and a policy first, so that the second start finds everything judged by them.
    let server = Server::start(&programs, dir)?;
    let token = std::fs::read_to_string(dir.join("operator.token"))?.trim().to_owned();
    let bearer = format!("authorization: Bearer {token}\r\n");
    server.ask("POST", "/api/v1/policies", &bearer, POLICY)?.ok()?;
    drop(server);
    say(&format!("filling a store with {hosts} hosts"));
    let began = Instant::now();
    run(Command::new(programs.join("examples/big_fleet")).arg(dir).arg(hosts.to_string()))?;
    say(&format!("filled in {:.0} s", began.elapsed().as_secs_f64()));

    let began = Instant::now();
    let server = Server::start(&programs, dir)?;
    let started = began.elapsed();
    let login = format!("token={token}");
    let form = format!(
        "content-type: application/x-www-form-urlencoded\r\norigin: http://{}\r\n",
        server.address
    );
    let answer = server.ask("POST", "/login", &form, &login)?;
    let cookie = answer.header("set-cookie").context("no session")?;
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap_or_default());
    let began = Instant::now();
    server.ask("GET", "/", &cookie, "")?.ok()?;
    let mut figures = vec![
        Figure::plain("hosts", hosts as f64, "hosts"),
        Figure::plain("load of the machine before the visits", load()?, "processes"),
        Figure::plain("start until ready", started.as_secs_f64(), "s"),
        Figure::plain(
            "first page after the start: reads the fleet",
            began.elapsed().as_secs_f64(),
            "s",
        ),
    ];
    // The page of a plan asks inventories and journals: it is measured with one for the whole fleet.
    let json = format!("{bearer}content-type: application/json\r\n");
    let began = Instant::now();
    server.ask("POST", "/api/v1/plans", &json, "{\"policy\":\"production\",\"hosts\":[]}")?.ok()?;
    let took = began.elapsed().as_secs_f64();
    figures.push(Figure::plain("a plan for the whole fleet, made and answered", took, "s"));
    // And the page of a rollout goes through its hosts.
    let began = Instant::now();
    server.ask("POST", "/api/v1/rollouts", &json, "{\"plan\":1}")?.ok()?;
    let took = began.elapsed().as_secs_f64();
    figures.push(Figure::plain("a rollout of the whole fleet, started and answered", took, "s"));
    let began = Instant::now();
    server.ask("GET", "/reports", &cookie, "")?.ok()?;
    figures.push(Figure::plain("a report of 30 days, made", began.elapsed().as_secs_f64(), "s"));
    // What the page of the ledger builds on: from here on it verifies what is new.
    let began = Instant::now();
    server.ask("GET", "/api/v1/ledger/verify", &bearer, "")?.ok()?;
    let took = began.elapsed().as_secs_f64();
    figures.push(Figure::plain("the whole ledger, verified", took, "s"));
    let mut assets = 0;
    for asset in ["style.css", "live.js", "icon.svg"] {
        assets += server.ask("GET", &format!("/assets/{asset}"), "", "")?.ok()?.body.len();
    }
    let mut static_page = Vec::new();
    for path in PAGES {
        let body = visited(&server, path, &cookie, &mut figures)?;
        let weight = (body.len() + assets) as f64 / 1000.0;
        figures.push(Figure::at_most(&format!("{path} first visit"), weight, "kB", HEAVIEST));
        if path == "/hosts" {
            static_page = body;
        }
    }
    for list in LISTS {
        visited(&server, &format!("/api/v1{list}"), &bearer, &mut figures)?;
    }
    figures.push(Figure::plain("server's resident set", server.resident()?, "MiB"));
    figures.push(Figure::plain("load of the machine after them", load()?, "processes"));
    drop(server);
    figures.extend(beside_nginx(dir, &static_page)?);
    Ok(figures)
}

/// Asks for it again and again; gives the last answer.
fn visited(
    server: &Server,
    path: &str,
    headers: &str,
    figures: &mut Vec<Figure>,
) -> Result<Vec<u8>> {
    let mut times = Vec::with_capacity(VISITS);
    let mut body = Vec::new();
    for _ in 0..VISITS {
        let began = Instant::now();
        body = server.ask("GET", path, headers, "")?.ok()?.body;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    figures.push(Figure::plain(&format!("{path} p50"), at(&mut times, 50), "ms"));
    figures.push(Figure::at_most(&format!("{path} p95"), at(&mut times, 95), "ms", SLOWEST));
    Ok(body)
}

/// How many processes wanted a processor, over the last minute: what else ran beside the figures.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// The value at a percentile, by nearest rank.
fn at(times: &mut [f64], percentile: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * percentile).div_ceil(100).saturating_sub(1)]
}

/// The list of hosts as a plain file from nginx: what the least possible work takes on this machine.
fn beside_nginx(dir: &Path, page: &[u8]) -> Result<Vec<Figure>> {
    let Ok(version) = Command::new("nginx").arg("-v").output() else {
        say("nginx is not installed: no static page beside these");
        return Ok(vec![]);
    };
    if !version.status.success() {
        bail!("nginx -v ended with {}", version.status);
    }
    std::fs::write(dir.join("hosts.html"), page)?;
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?.to_string()
    };
    let at_dir = dir.display();
    let configuration = format!(
        "daemon off; pid {at_dir}/nginx.pid; error_log {at_dir}/nginx.log; events {{}}\n\
         http {{ access_log off; server {{ listen {address}; root {at_dir}; }} }}\n"
    );
    std::fs::write(dir.join("nginx.conf"), configuration)?;
    let nginx = Command::new("nginx").arg("-c").arg(dir.join("nginx.conf")).spawn()?;
    let server = Server { process: nginx, address };
    let until = Instant::now() + Duration::from_secs(10);
    while server.ask("GET", "/hosts.html", "", "").is_err() {
        if Instant::now() > until {
            bail!("nginx does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut times = Vec::with_capacity(VISITS);
    for _ in 0..VISITS {
        let began = Instant::now();
        server.ask("GET", "/hosts.html", "", "")?.ok()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Figure::plain("the same list as a file from nginx p50", at(&mut times, 50), "ms"),
        Figure::plain("the same list as a file from nginx p95", at(&mut times, 95), "ms"),
    ])
}

/// A server of our own; ended when dropped.
pub(super) struct Server {
    process: Child,
    address: String,
}

pub(super) struct Answer {
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn ok(self) -> Result<Self> {
        let status = self.head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("the server answers: {}", self.head.lines().next().unwrap_or_default());
        }
        Ok(self)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Server {
    pub(super) fn start(programs: &Path, dir: &Path) -> Result<Self> {
        let program: PathBuf = programs.join("fettle");
        let mut process = Command::new(program)
            .args(["server", "--operator-listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let out = process.stdout.take().context("no output")?;
        // It says so when it is ready.
        let mut lines = BufReader::new(out).lines();
        while let Some(line) = lines.next().transpose()? {
            if let Some((_, address)) = line.split_once("http://") {
                return Ok(Self { process, address: address.trim().to_owned() });
            }
        }
        let ended = process.wait()?;
        bail!("the server ended with {ended}")
    }

    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let cut = all.windows(4).position(|w| w == b"\r\n\r\n").context("no answer")?;
        let body = all.split_off(cut + 4);
        Ok(Answer { head: String::from_utf8_lossy(&all).into_owned(), body })
    }

    pub(super) fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS")).context("no VmRSS")?;
        let kib: String = line.chars().filter(char::is_ascii_digit).collect();
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that it writes down what is only in memory.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
