//! Programs of the host, run without a shell, without a terminal and with an environment of our own.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error, in the order they came.
    pub text: String,
    /// It was still running at the deadline and was killed with its process group.
    pub timed_out: bool,
}

impl Output {
    /// Did it end by itself with 0?
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }
    /// `exit code 1`, `killed by signal 9`, `no answer in time`.
    pub fn ending(&self) -> String {
        ending(self.status, self.timed_out)
    }
    /// The last lines, at most `lines`, for a person.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.text, lines)
    }
}

/// How a program ended, in words.
pub fn ending(status: ExitStatus, timed_out: bool) -> String {
    match (timed_out, status.code(), status.signal()) {
        (true, ..) => "no answer in time".to_owned(),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, None, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended in an unknown way".to_owned(),
    }
}

/// The last non-empty lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A command with a scrubbed environment, no input, C locale.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end or to the deadline, whichever comes first, and gives all it said.
///
/// # Errors
/// When it cannot be started or its output not be kept.
pub fn run(command: &mut Command, deadline: Option<Duration>) -> io::Result<Output> {
    use std::os::unix::process::CommandExt as _;
    // A file, not a pipe: a daemon that inherits it cannot make us wait for the end of its output.
    let mut output = scratch()?;
    let mut child =
        command.process_group(0).stdout(output.try_clone()?).stderr(output.try_clone()?).spawn()?;
    let (status, timed_out) = wait(&mut child, deadline)?;
    output.seek(io::SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    output.take(8 << 20).read_to_end(&mut bytes)?;
    Ok(Output { status, text: String::from_utf8_lossy(&bytes).into_owned(), timed_out })
}

fn scratch() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("fettle-output", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// Waits for a child that leads a process group; kills the group at the deadline.
///
/// # Errors
/// When the child cannot be waited for.
pub fn wait(child: &mut Child, deadline: Option<Duration>) -> io::Result<(ExitStatus, bool)> {
    let Some(deadline) = deadline else { return Ok((child.wait()?, false)) };
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if Instant::now() >= end {
            if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                // It may end on its own meanwhile; waiting below tells.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            return Ok((child.wait()?, true));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Is there a program of that name on [`PATH`] below `root`?
pub fn find(root: &std::path::Path, program: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    PATH.split(':').map(|dir| std::path::Path::new(dir).join(program)).find(|path| {
        let inside = root.join(path.strip_prefix("/").unwrap_or(path));
        inside.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children_at_the_deadline() {
        let begun = Instant::now();
        let mut shell = command("sh");
        shell.args(["-c", "echo before; sleep 60 & wait"]);
        let output = run(&mut shell, Some(Duration::from_millis(200))).unwrap();
        assert!(output.timed_out);
        assert_eq!(output.text, "before\n");
        assert_eq!(output.ending(), "no answer in time");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn both_outputs_come_in_order_and_the_ending_is_told() {
        let mut shell = command("sh");
        shell.args(["-c", "echo a; echo b >&2; echo c; exit 3"]);
        let output = run(&mut shell, None).unwrap();
        assert_eq!((output.text.as_str(), output.ending().as_str()), ("a\nb\nc\n", "exit code 3"));
        assert_eq!(output.tail(2), "b\nc");
    }
}
