//! The twin as a running machine: `systemd-nspawn(1)` in a transient unit, `nsenter(1)` into it.

use super::{Stopped, inside};
use crate::command::{self, command};
use crate::unit;
use fettle_core::testbed::TestReport;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The unit the twin runs in.
const UNIT: &str = "fettle-twin.service";
/// What systemd-nspawn calls it.
const MACHINE: &str = "fettle-twin";
/// A twin is up by then.
const BOOTS: Duration = Duration::from_secs(240);
/// Patch, undo and comparison are done by then.
const WORKS: Duration = Duration::from_secs(2 * 3600);

/// A twin that runs. Dropped, it is ended.
pub(super) struct Container {
    leader: String,
}

impl Container {
    /// Boots the twin and waits until systemd in it says that booting is finished.
    pub(super) fn boot(root: &Path, name: &str) -> Result<Self, Stopped> {
        let mut run = command("systemd-run");
        run.args(["--quiet", "--collect", "--no-ask-password"])
            .arg(format!("--unit={UNIT}"))
            .arg(format!("--description=Fettle: the twin of {name}"))
            .args(["--property=Delegate=yes", "--property=KillMode=mixed"])
            .args(["--property=TimeoutStopSec=20", "--property=UMask=0022", "--nice=10"])
            // A pure cgroup2 tree, whatever the worker has.
            .args(["--setenv=SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "--"])
            .args(["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"])
            .args(["--private-network", "--console=read-only", "--resolv-conf=off"])
            .args(["--timezone=off", "--link-journal=no", "--system-call-filter=@known"])
            .arg(format!("--directory={}", root.display()))
            .arg(format!("--machine={MACHINE}"))
            .arg(format!("--hostname={name}"));
        let said = command::run(&mut run, Some(Duration::from_secs(90)))
            .map_err(Stopped::io("boot", root))?;
        if !said.success() {
            return Err(not_booted(said.tail(3)));
        }
        // From here on it ends with this value.
        let mut container = Self { leader: String::new() };
        let begun = Instant::now();
        let mut state = "nothing yet".to_owned();
        loop {
            if let Some(leader) = leader() {
                container.leader = leader;
                let mut ask = container.enter(&["systemctl", "is-system-running", "--wait"]);
                state = match command::run(&mut ask, Some(Duration::from_secs(60))) {
                    Ok(said) => said.text.trim().to_owned(),
                    Err(error) => error.to_string(),
                };
                if matches!(state.lines().last(), Some("running" | "degraded")) {
                    return Ok(container);
                }
            } else if unit::active_state(UNIT).is_ok_and(|s| s != "active" && s != "activating") {
                return Err(not_booted("systemd-nspawn has ended".to_owned()));
            }
            if begun.elapsed() > BOOTS {
                let waited = BOOTS.as_secs();
                return Err(not_booted(format!("after {waited} s systemd in it says: {state}")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn enter(&self, words: &[&str]) -> Command {
        let mut enter = command("nsenter");
        enter.arg(format!("--target={}", self.leader));
        enter.args([
            "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--",
        ]);
        enter.args(words);
        enter
    }

    /// Has the agent in the twin do its part.
    pub(super) fn test(&self) -> Result<TestReport, Stopped> {
        let lost = |e: std::io::Error| Stopped::new("twin-lost", e, "ask for the test again");
        let mut enter = self.enter(&["/usr/bin/fettle-agent", inside::HIDDEN]);
        let said = command::run(&mut enter, Some(WORKS)).map_err(lost)?;
        // The report is the last line; others may have spoken before.
        let report = said.text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        report.ok_or_else(|| {
            let message = format!("the twin did not report: {} ({})", said.tail(3), said.ending());
            Stopped::new("twin-lost", message, "ask for the test again")
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        stop();
    }
}

/// Ends a twin, whoever left it.
pub(super) fn stop() {
    let _ = unit::systemctl(&["kill", "--signal=SIGKILL", "--", UNIT]);
    let _ = unit::systemctl(&["stop", "--", UNIT]);
    let _ = fs::remove_dir_all(format!("/run/systemd/nspawn/propagate/{MACHINE}"));
}

fn not_booted(why: String) -> Stopped {
    Stopped::new(
        "not-booted",
        format!("the twin did not boot: {why}"),
        "on the worker: journalctl -u fettle-twin",
    )
}

/// The first process of the container, as the worker counts: the child of the one that systemd started.
fn leader() -> Option<String> {
    let shown = unit::systemctl(&["show", "--property=MainPID", "--value", "--", UNIT]).ok()?;
    let main = shown.trim();
    let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).ok()?;
    let is_init = |pid: &&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.is_some_and(|ids| ids.split_whitespace().next_back() == Some("1"))
    };
    children.split_whitespace().find(is_init).map(str::to_owned)
}
