//! Processes of this machine, told apart by pid *and* start time, so that a reused pid is never
//! taken for one of ours.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How often something that has a deadline is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(15);

/// One process, for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot.
    pub(crate) started: u64,
}

struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may hold anything: fields start behind the last `)`.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, started })
}

impl ProcessId {
    /// The process that has `pid` now; `None` when there is none, or only a zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        Some(Self { pid, started: stat.started })
    }

    pub(crate) fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends SIGKILL, to exactly this process.
    pub(crate) fn kill(self) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        // The handle is of whoever has the pid now; only then is it known whether that is ours.
        if !self.alive() {
            return Ok(());
        }
        match pidfd_send_signal(handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// All pids there are.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Arguments of a process; empty when it is gone.
pub(crate) fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The container's first process: the grandchild of `keeper` that is pid 1 in its own namespace.
pub(crate) fn container_init(keeper: u32) -> Option<u32> {
    let parents: Vec<(u32, u32)> = all()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?)))
        .map(|(pid, stat)| (pid, stat.parent))
        .collect();
    let children =
        |of: u32| parents.iter().filter(move |(_, parent)| *parent == of).map(|(pid, _)| *pid);
    children(keeper).flat_map(children).find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            line.is_some_and(|ids| ids.split_whitespace().next_back() == Some("1"))
        })
    })
}

/// Container supervisors whose host root is under `roots`, with the name of that host.
pub(crate) fn supervisors(roots: &Path) -> Vec<(ProcessId, String)> {
    let wanted = format!("--directory={}/", roots.display());
    let host = |argument: &String| argument.strip_prefix(&wanted).map(str::to_owned);
    all()
        .into_iter()
        .filter_map(|pid| {
            let arguments = arguments(pid);
            let program = Path::new(arguments.first()?).file_name()?.to_str()?.to_owned();
            if program != "systemd-nspawn" {
                return None;
            }
            Some((ProcessId::of(pid)?, arguments.iter().find_map(host)?))
        })
        .collect()
}

/// Looks again and again until `done` or the deadline; whether it was done.
pub(crate) fn poll_until(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_alive_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.alive());
        id.kill().unwrap();
        // Not waited for yet: a zombie counts as gone.
        assert!(poll_until(Instant::now() + Duration::from_secs(10), || !id.alive()));
        child.wait().unwrap();
        id.kill().unwrap();
    }

    #[test]
    fn a_process_that_only_has_the_same_pid_is_left_alone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        let older = ProcessId { started: id.started - 1, ..id };
        older.kill().unwrap();
        assert!(!older.alive() && id.alive());
        id.kill().unwrap();
        child.wait().unwrap();
    }
}
