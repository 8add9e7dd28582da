//! Commands in a host.
//!
//! A command enters all namespaces of the host and a control group of its own inside the host's,
//! with a clean environment, so that it is to the host as if started in it. When its time is up it
//! is killed with everything it started; units it asked the host's systemd to run are not.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::LabHost;
use crate::LabError;
use crate::cgroup;
use crate::process::poll_until;
use crate::tool::last_lines;

/// Time a command has unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(300);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ENTER: &str = r#"
group=$0 leader=$1; shift
echo $$ > "$group/cgroup.procs" && exec nsenter --all --target "$leader" -- "$@"
"#;

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed. Bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    host: String,
    command: String,
}

impl Output {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// What it printed, or an error with its last words when it failed.
    pub fn ok(self) -> Result<String, LabError> {
        if self.success() {
            return Ok(self.stdout);
        }
        let words = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        Err(LabError::Exec {
            how: format!("ended with {}", self.status),
            output: last_lines(words.as_bytes(), 15),
            host: self.host,
            command: self.command,
        })
    }
}

/// A command to be run in a host.
#[derive(Debug, Clone)]
#[must_use = "a command does nothing until it is run"]
pub struct HostCommand<'h> {
    host: &'h LabHost,
    argv: Vec<OsString>,
    env: Vec<OsString>,
    dir: String,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

impl LabHost {
    /// A command to be run in the host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> HostCommand<'_> {
        HostCommand {
            host: self,
            argv: vec![program.as_ref().to_owned()],
            env: vec![PATH.into(), "HOME=/root".into(), "USER=root".into(), "LANG=C.UTF-8".into()],
            dir: "/".to_owned(),
            stdin: None,
            timeout: PATIENCE,
        }
    }

    /// Runs a command to its end.
    pub fn exec(&self, argv: &[&str]) -> Result<Output, LabError> {
        let (program, args) = argv.split_first().unwrap_or((&"true", &[]));
        self.command(program).args(args).run()
    }

    /// Runs a shell script to its end.
    pub fn sh(&self, script: &str) -> Result<Output, LabError> {
        self.command("sh").args(["-c", script]).run()
    }

    /// Starts a command and does not wait for it.
    pub fn spawn(&self, argv: &[&str]) -> Result<Running, LabError> {
        let (program, args) = argv.split_first().unwrap_or((&"true", &[]));
        self.command(program).args(args).spawn()
    }
}

impl HostCommand<'_> {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; there are only `PATH`, `HOME`, `USER` and `LANG` otherwise.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut pair = OsString::from(format!("{name}="));
        pair.push(value);
        self.env.push(pair);
        self
    }

    /// Runs it in this directory of the host, not in `/`.
    pub fn current_dir(mut self, dir: &str) -> Self {
        dir.clone_into(&mut self.dir);
        self
    }

    /// Gives it something to read; nothing otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// The time it has; five minutes otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Output, LabError> {
        let timeout = self.timeout;
        self.spawn()?.wait(timeout)
    }

    /// Starts it.
    pub fn spawn(self) -> Result<Running, LabError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let host = self.host;
        let not_running =
            || LabError::NotRunning { host: host.name.clone(), console: host.console() };
        let leader = host.leader_pid().ok_or_else(not_running)?;
        let payload = LabHost::payload(leader).ok_or_else(not_running)?;
        let payload = host.inner.groups.at(&payload);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let group = payload.join("lab-exec").join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&group).map_err(LabError::io("make the control group", &group))?;

        let mut command = Command::new("sh");
        command.args(["-c", ENTER]).arg(&group).arg(leader.to_string());
        command.args(["env", "-i", "-C"]).arg(&self.dir).args(&self.env).args(&self.argv);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(LabError::io("start a command in", &host.root()))?;
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // A command that does not read all it is given may end before.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        Ok(Running {
            stdout: Collector::of(child.stdout.take()),
            stderr: Collector::of(child.stderr.take()),
            child,
            group,
            started: Instant::now(),
            host: host.name.clone(),
            command: words.join(" "),
        })
    }
}

/// A command that runs in a host. Dropping the value leaves it running.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collector,
    stderr: Collector,
    group: PathBuf,
    started: Instant,
    host: String,
    command: String,
}

impl Running {
    /// What it printed until now.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// What it complained until now.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with everything it started in the host.
    pub fn kill(&mut self) -> Result<(), LabError> {
        cgroup::kill(&self.group)?;
        self.child.wait().map_err(LabError::io("wait for a command of", &self.group))?;
        cgroup::remove(&self.group);
        Ok(())
    }

    /// Waits until it ends; kills it after `timeout`.
    pub fn wait(mut self, timeout: Duration) -> Result<Output, LabError> {
        let mut status = None;
        poll_until(Instant::now() + timeout, || {
            status = self.child.try_wait().transpose();
            status.is_some()
        });
        let Some(status) = status else {
            self.kill()?;
            let words = format!("{}{}", self.stdout.text(), self.stderr.text());
            return Err(LabError::ExecTimeout {
                host: self.host,
                command: self.command,
                after: timeout,
                output: last_lines(words.as_bytes(), 15),
            });
        };
        let took = self.started.elapsed();
        let status = status.map_err(LabError::io("wait for a command of", &self.group))?;
        // What it left running in the background may hold its output open: that is not waited for.
        let grace = Instant::now() + Duration::from_millis(500);
        poll_until(grace, || self.stdout.finished() && self.stderr.finished());
        cgroup::remove(&self.group);
        Ok(Output {
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            took,
            host: self.host,
            command: self.command,
        })
    }
}

/// Reads a stream to its end beside whatever else goes on.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = stream.map(|mut stream| {
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                    sink.extend_from_slice(&buffer[..count]);
                }
            })
        });
        Self { bytes, thread }
    }

    fn finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
