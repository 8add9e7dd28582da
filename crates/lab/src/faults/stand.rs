//! The host that faults are done to, and who judges what became of it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Report, Row};
use crate::host::{HostCommand, Output, RootFs, Running};
use crate::repo::{ACME_PORT, AcmeWeb, Serve, Vendor, acme_web};
use crate::tree::{self, Tree};
use crate::{HostSpec, Lab, LabError, LabHost, Say};

/// Not compared: logs, the agent's own journal, what the package manager caches, what systemd makes anew with each
/// boot, and our own tools.
pub(super) const EXCLUDED: &[&str] = &[
    "/var/log",
    "/var/lib/fettle-agent",
    "/var/cache/apt",
    "/var/lib/apt/lists",
    "/var/tmp",
    "/root",
];
/// What is no part of a host's files, where they are looked at from inside.
const MOUNTED: &[&str] = &["/proc", "/sys", "/dev", "/run", "/tmp"];
/// The version that a fresh host has.
const FROM: &str = "1.0";
/// How long a service may take to answer after everything is over.
const SETTLE: Duration = Duration::from_secs(10);
/// A transaction that was done a fault to may take so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// How a run ended, judged from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The new version is installed, whole, and answers.
    Patched,
    /// The host had been touched, and every file is as before.
    Undone,
    /// The agent refused, and every file is as before.
    Refused,
    /// The agent says that a person must come.
    Quarantined,
}

/// A booted host with `acme-web` 1.0 and the agent, and a vendor that offers other versions.
pub struct Stand<'l> {
    lab: &'l Lab,
    say: Say<'l>,
    agent: PathBuf,
    host: LabHost,
    root: RootFs,
    vendor: Vendor,
    number: u32,
    /// The version that every run begins with.
    from: String,
    /// Points that are tried; empty: all.
    points: Vec<String>,
    /// Nobody types `resume`.
    alone: Cell<bool>,
    /// The last words of the command that a fault was done to.
    said: RefCell<String>,
    report: Report,
    /// When the row was.
    begun: Instant,
    good: &'static [End],
    /// Every file, as it was found at the end of the last run, where nothing has touched the host since.
    known: Option<Tree>,
}

impl<'l> Stand<'l> {
    pub(super) fn new(
        lab: &'l Lab,
        programs: &Path,
        root: RootFs,
        say: Say<'l>,
    ) -> Result<Self, LabError> {
        let agent = programs.join("fettle-agent");
        if !agent.is_file() {
            return Err(LabError::Fleet {
                what: format!("{} is not there: build it with `cargo build`", agent.display()),
            });
        }
        let mut vendor = Vendor::new(lab, "acme", Serve::Files)?;
        vendor.publish(&[acme_web(FROM, AcmeWeb::Good)])?;
        let host = raise(lab, &agent, &mut vendor, root)?;
        let (points, report) = (Vec::new(), Report::default());
        let (number, good, known) = (0, &[] as &[End], None);
        let from = FROM.to_owned();
        let begun = Instant::now();
        Ok(Self {
            lab,
            say,
            agent,
            host,
            root,
            vendor,
            number,
            from,
            points,
            alone: Cell::new(false),
            said: RefCell::default(),
            report,
            begun,
            good,
            known,
        })
    }

    /// The lab, for rows that need another kind of host.
    pub(super) fn lab(&self) -> &'l Lab {
        self.lab
    }

    /// The agent's program on this machine.
    pub(super) fn agent(&self) -> &Path {
        &self.agent
    }

    /// A run on another host than this one, which `end` was judged of.
    pub(super) fn record(&mut self, what: &str, fired: bool, end: Result<End, String>) {
        self.report.runs += 1;
        self.report.fired += u32::from(fired);
        match end {
            Ok(end) if self.good.contains(&end) => self.count(end),
            Ok(end) => self.unknown(format!("{what}: ended as {end:?}, which it may not")),
            Err(why) => self.unknown(format!("{what}: {why}")),
        }
        self.tell(what);
    }

    /// How far the row has come: a battery that is stopped has still shown so much.
    fn tell(&self, what: &str) {
        let Report { row, unknown, differing, .. } = &self.report;
        let id = row.split(' ').next().unwrap_or_default();
        let how = |(count, word): &(u32, &str)| (*count > 0).then(|| format!("{count} {word}"));
        let ends = [
            (self.report.runs, "runs"),
            (self.report.fired, "fired"),
            (self.report.patched_verified, "patched"),
            (self.report.rolled_back_verified, "undone"),
            (self.report.refused_untouched, "refused"),
            (self.report.quarantined, "quarantined"),
        ];
        let ends = ends.iter().filter_map(how).collect::<Vec<_>>().join(", ");
        let seconds = self.begun.elapsed().as_secs();
        (self.say)(&format!(
            "  {id} after {what}: {ends}, {unknown} unknown, {differing} differ, {seconds} s"
        ));
    }

    fn count(&mut self, end: End) {
        match end {
            End::Patched => self.report.patched_verified += 1,
            End::Undone => self.report.rolled_back_verified += 1,
            End::Refused => self.report.refused_untouched += 1,
            End::Quarantined => self.report.quarantined += 1,
        }
    }

    fn unknown(&mut self, detail: String) {
        self.report.unknown += 1;
        self.report.details.push(detail);
    }

    /// From now on only points with one of these texts in their names are tried; none: all.
    pub(super) fn only(&mut self, points: &[String]) {
        self.points = points.to_vec();
    }

    /// The fault must be done so often, or the row does not hold; unless only some points are tried.
    pub(super) fn promise(&mut self, faults: u32) {
        if self.points.is_empty() {
            self.report.promised = faults;
        }
    }

    pub(super) fn is_tried(&self, what: &str) -> bool {
        self.points.is_empty() || self.points.iter().any(|point| what.contains(point))
    }

    pub(super) fn begin(&mut self, row: &Row) -> Result<(), LabError> {
        self.report = Report { row: format!("{} {}", row.id, row.what), ..Report::default() };
        self.begun = Instant::now();
        self.good = row.good;
        self.leave_alone(false);
        self.touched();
        if self.root != row.root {
            self.root = row.root;
            self.renew()?;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Report {
        let seconds = self.begun.elapsed().as_secs_f64();
        Report { seconds, ..std::mem::take(&mut self.report) }
    }

    /// The host.
    pub fn host(&self) -> &LabHost {
        &self.host
    }

    /// The host was changed between two runs: what its files were is no longer known.
    pub(super) fn touched(&mut self) {
        self.known = None;
    }

    /// A fresh host in place of this one.
    pub(super) fn renew(&mut self) -> Result<(), LabError> {
        self.touched();
        self.host.destroy()?;
        self.host = raise(self.lab, &self.agent, &mut self.vendor, self.root)?;
        self.from = FROM.to_owned();
        Ok(())
    }

    /// The host was given this version: runs begin with it from now on. Gives way to [`FROM`] with a fresh host.
    pub(super) fn goes_on_from(&mut self, version: &str) {
        self.touched();
        self.from = version.to_owned();
    }

    /// Publishes a new version that behaves so; the host is offered it. Gives the version.
    pub fn offer(&mut self, behaviour: AcmeWeb) -> Result<String, LabError> {
        let version = self.next_version();
        self.vendor.publish(&[acme_web(&version, behaviour)])?;
        self.host.sh("apt-get update -qq && sync")?.ok()?;
        Ok(version)
    }

    /// A version later than all before, for a vendor of the row's own.
    pub(super) fn next_version(&mut self) -> String {
        self.touched();
        self.number += 1;
        format!("1.1.{}", self.number)
    }

    /// The vendor's index is good for so many seconds from now on; `None`: for ever. The host asks for it.
    pub(super) fn good_for(&mut self, seconds: Option<u32>) -> Result<(), LabError> {
        self.touched();
        self.vendor.good_for(seconds)?;
        self.host.sh("apt-get update -qq && sync")?.ok().map(drop)
    }

    /// The vendor makes a new index, good for ever, which the host does not ask for.
    pub(super) fn renew_index(&mut self) -> Result<(), LabError> {
        self.touched();
        self.vendor.good_for(None)
    }

    /// `fettle-agent patch acme-web`, with these variables.
    pub fn patch(&self, more: &[&str], environment: &[(&str, &str)]) -> Result<Output, LabError> {
        self.patching(environment).args(more).run()
    }

    /// The same, not waited for.
    pub fn start_patch(&self, environment: &[(&str, &str)]) -> Result<Running, LabError> {
        self.patching(environment).spawn()
    }

    /// The same, with these arguments.
    pub fn start_patch_with(&self, more: &[&str]) -> Result<Running, LabError> {
        self.patching(&[]).args(more).spawn()
    }

    /// Does the host's address answer at all? A port that nobody listens at is an answer.
    pub fn is_reached(&self) -> bool {
        let address = std::net::SocketAddr::from((self.host.ip(), ACME_PORT));
        match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        }
    }

    fn patching(&self, environment: &[(&str, &str)]) -> HostCommand<'_> {
        let command =
            self.host.command("fettle-agent").args(["patch", "acme-web"]).timeout(PATIENCE);
        environment.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// The agent is let go to this place and stands still there; then `fault` is done, and it goes on. Gives
    /// whether the place was reached.
    pub fn patch_with_fault_at(
        &self,
        place: &str,
        fault: impl FnOnce(&LabHost) -> Result<(), LabError>,
    ) -> Result<bool, LabError> {
        self.run_with_fault_at(self.patching(&[]), place, fault)
    }

    /// The same, with another command of the agent.
    pub(super) fn run_with_fault_at(
        &self,
        command: HostCommand<'_>,
        place: &str,
        fault: impl FnOnce(&LabHost) -> Result<(), LabError>,
    ) -> Result<bool, LabError> {
        const WAITING: &str = "/run/fettle-agent/waiting";
        let mut running = command.env("FETTLE_WAIT_AT", place).timeout(PATIENCE).spawn()?;
        let deadline = Instant::now() + PATIENCE;
        // `/run` of a host is not seen from outside.
        while !self.host.exec(&["test", "-e", WAITING])?.success() {
            if !running.is_running() || Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        fault(&self.host)?;
        if self.host.is_running() {
            self.host.exec(&["rm", "-f", WAITING])?;
            let output = running.wait(PATIENCE)?;
            let words = format!("{}{}", output.stdout, output.stderr);
            self.said.replace(crate::tool::last_lines(words.as_bytes(), 6));
        }
        Ok(true)
    }

    /// One run: `act` does the transaction with its fault and says whether that fired; then what was interrupted is
    /// taken up, the end is judged, and the host is made as it was.
    pub fn run(
        &mut self,
        to: &str,
        what: &str,
        act: impl FnOnce(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let fired = self.run_if(to, what, act)?;
        if !fired && self.is_tried(what) {
            self.report.runs += 1;
            self.report.details.push(format!("{what}: the fault did not fire"));
            self.tell(what);
        }
        Ok(())
    }

    /// As [`Stand::run`], for a fault at a point that a transaction need not come to: then it was no run. Gives
    /// whether it fired.
    pub fn run_if(
        &mut self,
        to: &str,
        what: &str,
        act: impl FnOnce(&Self) -> Result<bool, LabError>,
    ) -> Result<bool, LabError> {
        if !self.is_tried(what) {
            return Ok(false);
        }
        let before = match self.known.take() {
            Some(known) => known,
            None => self.tree()?,
        };
        let last = self.status()?["last"]["id"].clone();
        self.said.take();
        let fired = act(self)?;
        if !fired {
            self.take_back(before, what)?;
            self.report.unreached += 1;
            return Ok(false);
        }
        self.report.runs += 1;
        self.report.fired += 1;
        let resumed = match self.alone.get() {
            true => self.wait_unstuck()?,
            false => self.resume()?,
        };
        let spoiled = match self.judge(to, &before, &last) {
            Ok(end) if self.good.contains(&end) => {
                self.count(end);
                end == End::Quarantined
            }
            other => {
                let why = match other {
                    Ok(end) => format!("ended as {end:?}, which it may not"),
                    Err(why) => why,
                };
                let before = self.said.take();
                let said = crate::tool::last_lines(resumed.as_bytes(), 6);
                let room = self.lab.room().unwrap_or_default() >> 20;
                self.unknown(format!(
                    "{what}: {why}; it said: {before}; resume said: {said}; the lab has {room} MiB left"
                ));
                true
            }
        };
        if spoiled {
            self.renew()?
        } else {
            self.take_back(before, what)?
        }
        self.tell(what);
        Ok(true)
    }

    /// From now on, until the row ends, nobody types `resume`: the host takes up by itself what was interrupted.
    pub(super) fn leave_alone(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// Takes up what was interrupted. The host may be at it by itself: then that is waited for.
    pub(super) fn resume(&self) -> Result<String, LabError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.host.command("fettle-agent").arg("resume").timeout(PATIENCE).run()?;
            let others = said.stdout.contains("another fettle-agent carries it on");
            if !others || Instant::now() >= deadline {
                return Ok(format!("{}{}", said.stdout, said.stderr));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until the host has taken up by itself what was interrupted.
    fn wait_unstuck(&self) -> Result<String, LabError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status()?;
            let open = |t: &serde_json::Value| t["outcome"].is_null();
            let waits =
                status["needs_attention"].as_array().is_some_and(|all| all.iter().any(open));
            if !waits && status["under_way"].is_null() {
                return Ok(String::from("nobody typed it"));
            }
            if Instant::now() >= deadline {
                return Ok(format!(
                    "the host did not take it up by itself: {}",
                    status["under_way"]
                ));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Undoes what was patched, and compares every file.
    fn take_back(&mut self, before: Tree, what: &str) -> Result<(), LabError> {
        if self.version()? == self.from {
            return Ok(());
        }
        let undone = self.host.command("fettle-agent").arg("undo").timeout(PATIENCE).run()?;
        let differing = tree::diff(&before, &self.tree()?);
        if !undone.success() || !differing.is_empty() {
            self.report.differing += u32::try_from(differing.len()).unwrap_or(u32::MAX).max(1);
            let first = differing.first().map(ToString::to_string).unwrap_or_default();
            self.report.details.push(format!(
                "{what}: undo ended with {}; {} files differ, first {first}: {}",
                undone.status,
                differing.len(),
                undone.stderr.trim()
            ));
            return self.renew();
        }
        self.known = Some(before);
        Ok(())
    }

    /// Every file, as hashes.
    pub fn tree(&self) -> Result<Tree, LabError> {
        match self.root {
            RootFs::Separate => {
                let excluded: Vec<&str> = EXCLUDED.iter().chain(MOUNTED).copied().collect();
                tree::snapshot(&self.host.live_root()?, &excluded)
            }
            _ => tree::snapshot(&self.host.root(), EXCLUDED),
        }
    }

    /// What the agent says of itself: which transaction was the last, and whether a person must come.
    pub fn status(&self) -> Result<serde_json::Value, LabError> {
        let said = self.host.exec(&["fettle-agent", "-o", "json", "status"])?.ok()?;
        serde_json::from_str(&said).map_err(|e| LabError::Fleet {
            what: format!("`fettle-agent status` is no JSON ({e}): {said}"),
        })
    }

    /// Is there a transaction that has not ended, or one that a person must look at?
    pub fn is_stuck(&self) -> Result<bool, LabError> {
        let status = self.status()?;
        let waits = status["needs_attention"].as_array().is_some_and(|all| !all.is_empty());
        Ok(waits || !status["under_way"].is_null())
    }

    fn version(&self) -> Result<String, LabError> {
        let shown = ["dpkg-query", "-W", "-f", "${Version}", "acme-web"];
        Ok(self.host.exec(&shown)?.stdout)
    }

    /// What became of the host. `Err`: nothing that may be, and why.
    fn judge(&self, to: &str, before: &Tree, last: &serde_json::Value) -> Result<End, String> {
        let text = |e: LabError| e.to_string();
        let status = self.status().map_err(text)?;
        if let Some(lost) = status["unreadable"].as_array().and_then(|all| all.first()) {
            return Err(format!("a journal cannot be read: {lost}"));
        }
        let stuck = status["needs_attention"].as_array().cloned().unwrap_or_default();
        if let Some(first) = stuck.first() {
            return match first["outcome"]["outcome"].as_str() {
                Some("quarantined") => Ok(End::Quarantined),
                _ => Err("a transaction has not ended".to_owned()),
            };
        }
        let mounted = self.host.sh("grep fettle /proc/mounts || true").map_err(text)?.stdout;
        if !mounted.is_empty() {
            return Err(format!("a rehearsal is left mounted: {mounted}"));
        }
        let audit = self.host.sh("dpkg --audit").map_err(text)?.stdout;
        if !audit.is_empty() {
            return Err(format!("dpkg --audit: {audit}"));
        }
        let version = self.version().map_err(text)?;
        self.answers(&version)?;
        if version == to {
            let verify = self.host.sh("dpkg --verify acme-web").map_err(text)?.stdout;
            let broken: Vec<&str> = verify.lines().filter(|l| !l.contains(" c ")).collect();
            return match broken.first() {
                None => Ok(End::Patched),
                Some(line) => Err(format!("dpkg --verify: {line}")),
            };
        }
        if version != self.from {
            return Err(format!("acme-web is at {version}"));
        }
        let differing = tree::diff(before, &self.tree().map_err(text)?);
        if let Some(first) = differing.first() {
            return Err(format!("{} files differ, first {first}", differing.len()));
        }
        match status["last"]["outcome"]["outcome"].as_str() {
            Some("undone") if status["last"]["id"] != *last => Ok(End::Undone),
            _ => Ok(End::Refused),
        }
    }

    /// The version that is installed is the one that answers.
    fn answers(&self, version: &str) -> Result<(), String> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let asked = self
                .host
                .sh("curl -s --max-time 5 http://127.0.0.1:8080/")
                .map_err(|e| e.to_string())?;
            if asked.stdout.contains(&format!("acme-web {version}\n")) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{version} is installed, and the service answers `{}`",
                    asked.stdout.trim()
                ));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A new host with the vendor's package and the agent, which may be done harm to.
fn raise(lab: &Lab, agent: &Path, vendor: &mut Vendor, root: RootFs) -> Result<LabHost, LabError> {
    let spec = HostSpec { root, ..HostSpec::default() };
    let host = lab.up(&["victim"], &spec, &|_| {})?.remove(0);
    vendor.install_on(&host)?;
    host.sh(&format!("apt-get update -qq && apt-get install -y -qq acme-web={FROM}"))?.ok()?;
    host.copy_in(agent, "/usr/bin/fettle-agent")?;
    host.sh(
        // What was there before a fault is on the disk: a power cut takes none of it.
        "chmod 755 /usr/bin/fettle-agent; mkdir -p /etc/fettle; touch /etc/fettle/allow-failpoints; sync",
    )?
    .ok()?;
    Ok(host)
}
