//! What changes packages, each time in a transient unit of its own: neither the end of the agent nor what its own unit
//! may not do reaches it, and a restarted agent attaches to it again.
//!
//! ```text
//! NAME.json    the command, written before the unit starts: without it nothing was started
//! NAME.log     what it says
//! NAME.lock    held while the wrapper lives
//! NAME-status  how it ended, written by the wrapper; durable
//! ```

use super::preflight::packages;
use super::{Transaction, io_fault, progress, read_kept};
use crate::command::Output;
use crate::inventory::kernel::uptime;
use crate::overlay::own_program;
use crate::{command, durable, unit};
use fettle_core::transaction::Fault;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

/// Name of the hidden subcommand that wraps the program.
const WRAPPER: &str = "__apply";
/// The change itself; the wrapper of an agent before knew no other.
pub(super) const APPLY: &str = "apply";
/// Configures what somebody, or the change, left half done.
pub(super) const CONFIGURE: &str = "configure";
/// Unpacks archives again: the new ones, or the old.
pub(super) const UNPACK: &str = "unpack";
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What the wrapper runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// How long the host had been up when this was written down. An agent before did not say.
    #[serde(default)]
    begun: Option<Duration>,
}

impl From<crate::packages::CommandLine> for Line {
    fn from(line: crate::packages::CommandLine) -> Self {
        let environment = line.environment.into_iter().collect();
        Self { program: line.program, arguments: line.arguments, environment, begun: None }
    }
}

impl From<&std::process::Command> for Line {
    fn from(command: &std::process::Command) -> Self {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let environment = command.get_envs();
        Self {
            program: text(command.get_program()),
            arguments: command.get_args().map(text).collect(),
            environment: environment.filter_map(|(k, v)| Some((text(k), text(v?)))).collect(),
            begun: None,
        }
    }
}

/// How the program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
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

/// What was seen while it was waited for.
#[derive(Debug, Default)]
pub(super) struct Waited {
    /// `None`: the wrapper is gone and left no word.
    pub(super) ended: Option<Ended>,
    /// It made no progress for long, for people.
    pub(super) quiet: Option<String>,
    /// It took longer than it may, and was killed.
    pub(super) hung: bool,
}

/// A program that changes packages for a transaction.
pub(super) struct Job<'t> {
    tx: &'t Transaction<'t>,
    /// Where its files lie.
    directory: &'t Path,
    name: &'static str,
}

impl<'t> Job<'t> {
    /// `directory`: the transaction's own, or that of the one it takes back.
    pub(super) fn new(tx: &'t Transaction<'t>, directory: &'t Path, name: &'static str) -> Self {
        Self { tx, directory, name }
    }

    fn file(&self, end: &str) -> PathBuf {
        self.directory.join(format!("{}{end}", self.name))
    }

    /// Was its command written down?
    pub(super) fn was_ordered(&self) -> bool {
        self.file(".json").exists()
    }

    /// The unit it runs in.
    pub(super) fn unit(&self) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
        let id = self.tx.id();
        let id: String = id.as_str().chars().map(safe).collect();
        format!("fettle-{}-{id}.service", self.name)
    }

    /// Everything it said.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file(".log")).unwrap_or_default()).into_owned()
    }

    /// Writes the command down, then starts it. `false`: there is no systemd, and it ran as a plain child, to its end or
    /// to the limit.
    pub(super) fn start(&self, line: Line, limit: Option<Duration>) -> Result<bool, Fault> {
        let begun = Some(uptime().map_err(io_fault("read the host's uptime"))?);
        // The one before may have said how it ended, and its unit still be there.
        while self.lives() {
            std::thread::sleep(PAUSE);
        }
        let text = serde_json::to_vec(&Line { begun, ..line }).map_err(io::Error::from);
        durable::remove(&self.file("-status"))
            .and_then(|()| durable::replace(&self.file(".json"), &text?))
            .map_err(io_fault("write down what is to be run"))?;
        let mut arguments: Vec<OsString> = vec![WRAPPER.into(), self.directory.into()];
        if self.name != APPLY {
            arguments.push(self.name.into());
        }
        if unit::booted() {
            let description = format!("Fettle: packages of {} ({})", self.tx.id(), self.name);
            return unit::run_detached(&self.unit(), &description, &own_program(), &arguments)
                .map(|()| true)
                .map_err(io_fault("start the package manager's unit"));
        }
        let mut wrapper = std::process::Command::new(own_program());
        wrapper
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = wrapper.spawn().map_err(io_fault("start the package manager"))?;
        command::wait(&mut child, limit)
            .map(|_| false)
            .map_err(io_fault("wait for the package manager"))
    }

    fn ended(&self) -> Option<Ended> {
        ended(self.directory, self.name)
    }

    /// Is there a wrapper, or what it started? The lock tells without starting a program; systemd is asked when it is
    /// free: before, and after the end.
    fn lives(&self) -> bool {
        let state = || unit::active_state(&self.unit());
        locked(&self.file(".lock"))
            || (unit::booted()
                && matches!(
                    state().as_deref(),
                    Ok("active" | "activating" | "deactivating" | "reloading")
                ))
    }

    /// How long ago the command was written down: by the time since boot, which no step of the clock changes and which
    /// survives the agent. After a reboot nothing runs any more. What cannot be read has only just begun.
    pub(super) fn running_for(&self) -> Duration {
        let line = read_kept::<Line>(self.directory, &format!("{}.json", self.name));
        let begun = line.and_then(|line| line.begun);
        begun.zip(uptime().ok()).map_or(Duration::ZERO, |(begun, now)| now.saturating_sub(begun))
    }

    /// Waits for its end. It is never killed, unless it takes longer than `limit`.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Result<Waited, Fault> {
        let (settings, id) = (self.tx.settings, self.tx.id());
        let mut watch = progress::Watch::new(settings, id.as_str(), self.directory, self.name);
        let mut hung = false;
        loop {
            if let ended @ Some(_) = self.ended() {
                return Ok(Waited { ended, quiet: watch.quiet(), hung });
            }
            if !self.lives() {
                break;
            }
            if limit.is_some_and(|limit| self.running_for() > limit) {
                hung = true;
                self.kill();
            }
            watch.look(&self.unit());
            std::thread::sleep(PAUSE);
        }
        // It may have written its word between the two looks.
        let ended = self.ended();
        // Else the wrapper was killed; what it started may still be at work.
        while ended.is_none() && self.tx.driver.lock_holder().map_err(packages)?.is_some() {
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok(Waited { ended, quiet: watch.quiet(), hung })
    }

    /// Ends what runs in its own unit, and nothing else. Without systemd there is no such unit, and it is waited for.
    fn kill(&self) {
        if unit::booted() {
            // It may have ended by itself just now; the next look tells.
            let _ = unit::systemctl(&["kill", "--signal=KILL", "--", &self.unit()]);
        }
    }

    /// Runs a program to its end and gives what it said. `limit` as for [`Job::wait`].
    pub(super) fn run(
        &self,
        command: &std::process::Command,
        limit: Option<Duration>,
    ) -> Result<Output, Fault> {
        let said_before = self.log().len();
        self.start(command.into(), limit)?;
        let waited = self.wait(limit)?;
        progress::clear(self.tx.settings);
        let text = self.log().get(said_before..).unwrap_or_default().to_owned();
        let status = match waited.ended {
            Some(Ended { code: Some(code), .. }) => code << 8,
            Some(Ended { signal: Some(signal), .. }) => signal,
            _ => 9,
        };
        let late = waited.hung || limit.is_some_and(|limit| self.running_for() > limit);
        let timed_out = late && status & 0x7f != 0;
        Ok(Output { status: ExitStatus::from_raw(status), text, timed_out })
    }
}

/// Waits for what an agent that died left running beside the change itself: until that has ended nobody can say what the
/// host is.
pub(super) fn settle(tx: &Transaction<'_>, directory: &Path) -> Result<(), Fault> {
    for name in [CONFIGURE, UNPACK] {
        let job = Job::new(tx, directory, name);
        if job.was_ordered() && job.ended().is_none() {
            job.wait(super::apply::hung_after(tx))?;
        }
    }
    Ok(())
}

/// How a program ended, if its wrapper lived to say so.
fn ended(directory: &Path, name: &str) -> Option<Ended> {
    read_kept(directory, &format!("{name}-status"))
}

fn locked(lock: &Path) -> bool {
    let Ok(lock) = File::open(lock) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// The hidden subcommand's entry: runs the command, writes how it ended. `None`: not this one.
pub(super) fn hidden(arguments: &[String]) -> Option<std::process::ExitCode> {
    let (word, rest) = arguments.split_first()?;
    let (directory, name) = match (word == WRAPPER, rest) {
        (true, [directory]) => (directory, APPLY),
        (true, [directory, name]) => (directory, name.as_str()),
        _ => return None,
    };
    Some(match wrapper(Path::new(directory), name) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    })
}

fn wrapper(directory: &Path, name: &str) -> io::Result<()> {
    let lock = File::create(directory.join(format!("{name}.lock")))?;
    // Two wrappers of one command never run at once; one that comes second has nothing to do.
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
        || ended(directory, name).is_some()
    {
        return Ok(());
    }
    let mut line: Line = read_kept(directory, &format!("{name}.json"))
        .ok_or_else(|| io::Error::other(format!("there is no {name}.json")))?;
    let status = progress::descriptor(directory)?;
    if line.program.ends_with("/apt-get") {
        line.arguments.splice(0..0, progress::options(&status));
    }
    let log = directory.join(format!("{name}.log"));
    let log = File::options().create(true).append(true).open(log)?;
    let status = std::process::Command::new(&line.program)
        .args(&line.arguments)
        .env_clear()
        .envs(&line.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    let ended = Ended { code: status.code(), signal: status.signal() };
    durable::replace(&directory.join(format!("{name}-status")), &serde_json::to_vec(&ended)?)
}

#[cfg(test)]
mod tests;
