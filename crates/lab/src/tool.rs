//! Runs programs of the machine, with errors that say what was wanted.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LabError;

/// One call of a program of the machine.
pub(crate) struct Tool {
    doing: String,
    program: &'static str,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    dir: Option<PathBuf>,
    group: Option<PathBuf>,
}

impl Tool {
    /// `doing` completes the sentence "while …" for the error message.
    pub(crate) fn new(program: &'static str, doing: impl Into<String>) -> Self {
        Self {
            doing: doing.into(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            dir: None,
            group: None,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub(crate) fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Runs it, and all it starts, in a control group, where `down` finds it.
    pub(crate) fn in_group(mut self, group: impl Into<PathBuf>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Runs it; what it printed, or an error with its last words.
    pub(crate) fn run(self) -> Result<String, LabError> {
        let command = self.shown();
        let fail = |how: String, stderr: String| LabError::Tool {
            doing: self.doing.clone(),
            command: command.clone(),
            how,
            stderr,
        };
        let mut process = match &self.group {
            Some(group) => entering(group, self.program),
            None => Command::new(self.program),
        };
        process.args(&self.args).env("LC_ALL", "C.UTF-8");
        process.envs(self.env.iter().map(|(key, value)| (key, value)));
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        process.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        if let Some(dir) = &self.dir {
            process.current_dir(dir);
        }
        let mut child = process.spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let next = "is not installed: `cargo xtask lab up` installs what the lab needs";
                fail(next.to_owned(), String::new())
            } else {
                fail(format!("could not be started ({error})"), String::new())
            }
        })?;
        if let (Some(bytes), Some(mut pipe)) = (&self.stdin, child.stdin.take()) {
            // What is written is small; a program that does not read it says so by its status.
            let _ = pipe.write_all(bytes);
        }
        let output = child
            .wait_with_output()
            .map_err(|error| fail(format!("could not be waited for ({error})"), String::new()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
            Err(fail(format!("ended with {}", output.status), last_lines(words, 12)))
        }
    }

    fn shown(&self) -> String {
        let mut shown = self.program.to_owned();
        for arg in &self.args {
            shown.push(' ');
            shown.push_str(&arg.to_string_lossy());
        }
        if shown.len() > 300 {
            let cut = shown.floor_char_boundary(300);
            shown.truncate(cut);
            shown.push('…');
        }
        shown
    }
}

/// A command that enters control group `group` and then becomes `program`.
pub(crate) fn entering(group: &Path, program: &str) -> Command {
    let mut command = Command::new("sh");
    let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
    command.args(["-c", script]).arg(group).arg(program);
    command
}

/// The last `count` lines of `bytes`.
pub(crate) fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether `program` is in one of the usual directories.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .any(|dir| dir.join(program).is_file())
}
