//! Apply: the package manager itself, in a transient unit of its own, never killed.
//!
//! ```text
//! apply.json     the command, written before the unit starts: without it nothing was started
//! apply.log      what it says
//! apply-progress how far it is, by apt's own word
//! apply.lock     held while the wrapper lives
//! apply-status   how it ended, written by the wrapper; durable
//! ```

use super::preflight::packages;
use super::{
    StepResult, Transaction, baseline, boot_area, dpkg, fault, io_fault, progress, read_kept,
    rehearse, surprise,
};
use crate::command::{self, command};
use crate::data_paths;
use crate::inventory::kernel::uptime;
use crate::overlay::{Rehearsed, own_program};
use crate::packages::apt;
use crate::preimage::{self, Scope};
use crate::{durable, unit};
use fettle_core::transaction::{Fault, StepFacts};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Name of the hidden subcommand that wraps the package manager.
pub const WRAPPER: &str = "__apply";
/// Name of the file that says what each path was after the change.
pub const AFTER: &str = "after";

/// Paths that nobody foresaw and that are told by name, at most.
const TOLD: usize = 200;

/// What the wrapper runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// How long the host had been up when this was written down. An agent before did not say.
    #[serde(default)]
    begun: Option<Duration>,
}

/// How the package manager ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code; `None`: killed.
    pub code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(signal)) => write!(f, "killed by signal {signal}"),
            _ => write!(f, "ended in an unknown way"),
        }
    }
}

/// Runs the step.
///
/// # Errors
/// When the host is not, afterwards, exactly what the plan says.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    if tx.directory.join("apply.json").exists() {
        // A journal that lost its last record must not start it a second time.
        return super::recover::apply(tx);
    }
    rehearse::still_true(tx)?;
    let mut facts = StepFacts::default();
    start(tx, &mut facts)?;
    let ended = wait(tx)?;
    finish(tx, ended.as_ref(), facts)
}

/// Writes the command down, then starts it in its own unit.
fn start(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let line = tx.command()?;
    let line = Command {
        program: line.program,
        arguments: line.arguments,
        environment: line.environment.into_iter().collect(),
        begun: Some(uptime().map_err(io_fault("read the host's uptime"))?),
    };
    tx.keep("apply.json", &line)?;
    let unit = unit_name(tx);
    facts.marks.insert("unit".into(), unit.clone());
    let arguments = [WRAPPER.into(), tx.directory.clone().into_os_string()];
    if unit::booted() {
        let description = format!("Fettle: packages of {}", tx.id());
        unit::run_detached(&unit, &description, &own_program(), &arguments)
            .map_err(io_fault("start the package manager's unit"))
    } else {
        facts.notes.push(
            "systemd does not run here: the package manager ran as a plain child of the agent"
                .into(),
        );
        use std::os::unix::process::CommandExt as _;
        let mut wrapper = std::process::Command::new(own_program());
        wrapper
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = wrapper.spawn().map_err(io_fault("start the package manager"))?;
        child.wait().map(drop).map_err(io_fault("wait for the package manager"))
    }
}

/// The unit the package manager runs in.
pub(super) fn unit_name(tx: &Transaction<'_>) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    format!("fettle-apply-{}.service", tx.id().as_str().chars().map(safe).collect::<String>())
}

/// The hidden subcommand's entry: runs the command, writes how it ended. `None`: not this one.
pub fn hidden(arguments: &[String]) -> Option<std::process::ExitCode> {
    let [word, directory] = arguments else { return None };
    if word != WRAPPER {
        return None;
    }
    Some(match wrapper(Path::new(directory)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    })
}

fn wrapper(directory: &Path) -> io::Result<()> {
    let lock = File::create(directory.join("apply.lock"))?;
    // Two wrappers of one transaction never run at once; one that comes second has nothing to do.
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
        || ended(directory).is_some()
    {
        return Ok(());
    }
    let mut line: Command = read_kept(directory, "apply.json")
        .ok_or_else(|| io::Error::other("there is no apply.json"))?;
    let status = progress::descriptor(directory)?;
    if line.program.ends_with("/apt-get") {
        line.arguments.splice(0..0, progress::options(&status));
    }
    let log = File::options().create(true).append(true).open(directory.join("apply.log"))?;
    let status = std::process::Command::new(&line.program)
        .args(&line.arguments)
        .env_clear()
        .envs(&line.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    let ended = Ended { code: status.code(), signal: status.signal() };
    durable::replace(&directory.join("apply-status"), &serde_json::to_vec(&ended)?)
}

/// How the package manager ended, if the wrapper lived to say so.
pub(super) fn ended(directory: &Path) -> Option<Ended> {
    read_kept(directory, "apply-status")
}

/// Waits for the wrapper's end. The package manager is never killed, unless the order says after how long it counts
/// as hung. `None`: the wrapper is gone and left no word.
pub(super) fn wait(tx: &Transaction<'_>) -> Result<Option<Ended>, Fault> {
    let unit = unit_name(tx);
    loop {
        if let Some(ended) = ended(&tx.directory) {
            return Ok(Some(ended));
        }
        // The lock tells without starting a program; systemd is asked when it is free: before, and after the end.
        let lives = || {
            unit::booted()
                && matches!(
                    unit::active_state(&unit).as_deref(),
                    Ok("active" | "activating" | "deactivating" | "reloading")
                )
        };
        if !locked(&tx.directory) && !lives() {
            break;
        }
        if let Some(limit) = hung_after(tx)
            && running_for(&tx.directory) > limit
        {
            kill(&unit);
        }
        progress::tell(tx.settings, tx.id().as_str(), &tx.directory);
        std::thread::sleep(Duration::from_millis(100));
    }
    // It may have written its word between the two looks.
    if let Some(ended) = ended(&tx.directory) {
        return Ok(Some(ended));
    }
    // The wrapper was killed; what it started may still be at work.
    while tx.driver.lock_holder().map_err(packages)?.is_some() {
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(None)
}

/// After how long the package manager counts as hung, if the order says so.
pub(super) fn hung_after(tx: &Transaction<'_>) -> Option<Duration> {
    tx.order.hung_after_seconds.map(|s| Duration::from_secs(s.into()))
}

/// How long ago the command was written down: by the time since boot, which no step of the clock changes and which
/// survives the agent. After a reboot nothing runs any more. What cannot be read has only just begun.
fn running_for(directory: &Path) -> Duration {
    let begun = read_kept::<Command>(directory, "apply.json").and_then(|command| command.begun);
    begun.zip(uptime().ok()).map_or(Duration::ZERO, |(begun, now)| now.saturating_sub(begun))
}

/// Ends what runs in the transaction's own unit, and nothing else. Without systemd there is no such unit, and it is
/// waited for.
fn kill(unit: &str) {
    if unit::booted() {
        // It may have ended by itself just now; the next look tells.
        let _ = unit::systemctl(&["kill", "--signal=KILL", "--", unit]);
    }
}

fn locked(directory: &Path) -> bool {
    let Ok(lock) = File::open(directory.join("apply.lock")) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// What the host is, judged from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly what the plan says.
    New,
    /// Exactly what it was.
    Old,
    /// Neither: why.
    Mixed(String),
}

/// Judges by `dpkg --audit`, exact versions and `dpkg --verify`, never by an exit code.
///
/// # Errors
/// When dpkg cannot be asked.
pub fn judge(tx: &Transaction<'_>) -> Result<Verdict, Fault> {
    let names = tx.package_names();
    let audit = dpkg::audit().map_err(io_fault("run dpkg --audit"))?;
    if !audit.is_empty() {
        return Ok(Verdict::Mixed(command::tail(&audit, 3)));
    }
    let now = dpkg::versions(&names).map_err(io_fault("ask the package database"))?;
    let (verdict, normal) = if now == tx.versions(true) {
        // What `dpkg --verify` said after the rehearsal is what it says after a good change on this host.
        (Verdict::New, tx.kept::<Rehearsed>(rehearse::FILE).map(|r| r.verify).unwrap_or_default())
    } else if now == tx.versions(false) {
        (Verdict::Old, baseline::read(&tx.directory)?.verify)
    } else {
        let wrong =
            tx.versions(true).into_iter().find(|(name, version)| now.get(name) != Some(version));
        let (name, version) = wrong.unwrap_or_default();
        let is = now.get(&name).map_or("not installed", String::as_str);
        return Ok(Verdict::Mixed(format!("{name} is {is}, the plan says {version}")));
    };
    let lines = dpkg::verify(&names).map_err(io_fault("run dpkg --verify"))?;
    match lines.iter().find(|line| !normal.contains(line)) {
        Some(line) => Ok(Verdict::Mixed(format!("dpkg --verify: {line}"))),
        None => Ok(verdict),
    }
}

/// Judges, and notes what really changed.
pub(super) fn finish(
    tx: &Transaction<'_>,
    ended: Option<&Ended>,
    mut facts: StepFacts,
) -> StepResult {
    let ending = ended.map_or_else(|| "killed, with its wrapper".to_owned(), Ended::to_string);
    let log = fs::read(tx.directory.join("apply.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    progress::clear(tx.settings);
    let hung = ended.is_none_or(|e| e.signal.is_some())
        && hung_after(tx).is_some_and(|limit| running_for(&tx.directory) > limit);
    if let Verdict::Old | Verdict::Mixed(_) = judge(tx)? {
        if hung {
            return Err(fault(
                "apply-hung",
                format!(
                    "the package manager had not ended after {} s and was ended; it said: {}",
                    tx.order.hung_after_seconds.unwrap_or_default(),
                    command::tail(&log, 3)
                ),
                "what it did is being undone; see which maintainer script hangs in apply.log",
            ));
        }
        let why = climb(tx, &mut facts)?;
        if let Some(why) = why {
            return Err(fault(
                "apply-failed",
                format!(
                    "the package manager ended with {ending}; {why}; it said: {}",
                    command::tail(&log, 8)
                ),
                "what it did is being undone; the whole log is in the transaction's apply.log",
            ));
        }
    } else if ended.is_none_or(|e| e.code != Some(0)) {
        facts.notes.push(format!(
            "the package manager ended with {ending}, but everything is as the plan says"
        ));
    }
    keep_marks(tx)?;
    facts.versions =
        dpkg::versions(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    let manifest = manifest_of(tx)?;
    let unforeseen = surprise::unforeseen(tx, &manifest)?;
    let kept = surprise::keep(tx, &unforeseen)?;
    if kept > 0 {
        facts.notes.push(format!(
            "{kept} paths that nobody foresaw were added to the preimage, from the snapshot"
        ));
    }
    facts.unforeseen = unforeseen.iter().take(TOLD).map(ToString::to_string).collect();
    let manifest = if kept > 0 { manifest_of(tx)? } else { manifest };
    // What maintainer scripts write is synced by nobody. A power cut after the next record would take it away, and an
    // undo would take what is left for somebody else's change.
    preimage::sync(Path::new("/"), &manifest).map_err(io_fault("make the change durable"))?;
    let paths = manifest.into_keys().collect();
    let data = data_paths::declared(tx.settings);
    let after = preimage::observe_all(Path::new("/"), &paths, Scope::whole_but(&data))
        .map_err(super::snapshot::preimage_fault)?;
    preimage::write_manifest(&tx.directory.join(AFTER), &after)
        .map_err(super::snapshot::preimage_fault)?;
    boot_area::note_after(tx)?;
    Ok(facts)
}

fn manifest_of(tx: &Transaction<'_>) -> Result<preimage::Manifest, Fault> {
    preimage::read_manifest(&tx.preimage().join("manifest"))
        .map_err(super::snapshot::preimage_fault)
}

/// The forward rungs of the recovery ladder, each judged from outside. `None`: the host is what the plan says.
/// `Some`: it is not, and why.
fn climb(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<Option<String>, Fault> {
    let archives = dpkg_archives(&tx.new_archives())?;
    let dpkg = || dpkg::changing(tx.order.conffiles);
    let mut last = String::new();
    for rung in ["dpkg --configure -a", "the new archives unpacked again"] {
        let output = match rung {
            "dpkg --configure -a" => {
                command::run(dpkg().args(["--configure", "-a"]), hung_after(tx))
            }
            _ => dpkg::install(dpkg, &archives, hung_after(tx)),
        };
        let output = output.map_err(io_fault("run dpkg"))?;
        match judge(tx)? {
            Verdict::New => {
                facts.notes.push(format!("recovered by {rung}"));
                return Ok(None);
            }
            Verdict::Old => last = "no package was changed".into(),
            Verdict::Mixed(why) => last = format!("{why} (after {rung}: {})", output.tail(2)),
        }
    }
    Ok(Some(last))
}

pub(super) fn dpkg_archives(directory: &Path) -> Result<Vec<std::path::PathBuf>, Fault> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_fault("list the archives"))? {
        let path = entry.map_err(io_fault("list the archives"))?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// Naming a package to apt marks it as wanted by a person; what was automatic stays so.
fn keep_marks(tx: &Transaction<'_>) -> Result<(), Fault> {
    let before = baseline::read(&tx.directory)?.automatic;
    let now = dpkg::automatic(&tx.package_names()).map_err(io_fault("read apt's marks"))?;
    let lost: Vec<&String> = before.iter().filter(|name| !now.contains(name)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    command::run(command("apt-mark").args(apt::caches(tx.settings)).arg("auto").args(lost), None)
        .map(drop)
        .map_err(io_fault("run apt-mark"))
}
