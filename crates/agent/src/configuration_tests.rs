//! Configuration tests: does what is installed still accept its configuration, and do the interpreters still
//! load their modules? Chosen by what is installed. Run in the clone only: no network, no standard input, a
//! scrubbed environment, a time limit.

mod choose;
mod cron;
pub mod interpreters;
mod table;
pub mod units;

use crate::command::{self, command};
use crate::trusted;
use choose::What;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A test may take so long. One that needs more counts as one that does not hold.
const DEADLINE: Duration = Duration::from_secs(60);

/// What came of the tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// Names of those that hold.
    pub passed: Vec<String>,
    /// Those that do not hold: name → what they said.
    pub broken: BTreeMap<String, String>,
    /// Those of the operator's that were not run, since others than root may have a hand in them: name → why.
    pub untrusted: BTreeMap<String, String>,
}

/// Runs every test that applies, and verifies `changed_units`.
pub fn run_all(operators: &Path, changed_units: &[String]) -> Ran {
    let (root, mut ran) = (Path::new("/"), Ran::default());
    // Somebody may have taken one away: nobody knows what should be in it.
    if let Err(why) = trusted::directory(operators) {
        ran.untrusted.insert("tests.d".to_owned(), why.to_string());
    }
    for test in choose::choose(root, operators) {
        if let What::Own(program) = &test.what
            && let Err(why) = trusted::program(program)
        {
            ran.untrusted.insert(test.name, why.to_string());
            continue;
        }
        match run(root, &test.what, DEADLINE) {
            Ok(()) => ran.passed.push(test.name),
            Err(said) => {
                ran.broken.insert(test.name, said);
            }
        }
    }
    units::verify(root, changed_units, &mut ran.passed, &mut ran.broken);
    ran
}

/// Runs one test; an error is what it said.
fn run(root: &Path, what: &What, deadline: Duration) -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    match what {
        What::CronTables => {
            let complaints = cron::complaints(root);
            if complaints.is_empty() {
                return Ok(());
            }
            Err(complaints.into_iter().take(3).collect::<Vec<_>>().join("; "))
        }
        What::Own(program) => start(command(&program.to_string_lossy()), program, deadline),
        What::Run { program, arguments, user } => {
            let mut command = command(&program.to_string_lossy());
            command.args(arguments);
            if let Some((user, group)) = user {
                command.uid(*user).gid(*group).env("HOME", "/");
            }
            start(command, program, deadline)
        }
    }
}

fn start(mut command: Command, program: &Path, deadline: Duration) -> Result<(), String> {
    match command::run(command.current_dir("/"), Some(deadline)) {
        Ok(output) if output.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", output.ending(), output.tail(3))),
        Err(e) => Err(format!("{} cannot be run: {e}", program.display())),
    }
}

/// The executable files of a directory, by name. None where there is no such directory.
pub fn executables(directory: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    use std::os::unix::fs::PermissionsExt as _;
    files(directory)
        .into_iter()
        .filter(|(_, p)| p.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0))
}

/// The regular files of a directory, by name.
fn files(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().metadata().is_ok_and(|m| m.is_file()))
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests;
