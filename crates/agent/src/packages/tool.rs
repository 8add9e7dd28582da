//! Running the package manager's programs: no shell, a clean environment, no question asked.

use super::PackagesError;
use crate::command;
use std::path::Path;
use std::process::Output;

/// Environment of every program of the package manager that may run maintainer scripts.
pub(super) const QUIET: [(&str, &str); 7] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("APT_LISTBUGS_FRONTEND", "none"),
    ("NEEDRESTART_SUSPEND", "fettle"),
    ("UCF_FORCE_CONFFOLD", "1"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
];

/// Runs a program to its end, in a directory, both streams apart.
pub(super) fn output(
    program: &str,
    arguments: &[String],
    directory: &Path,
) -> Result<Output, PackagesError> {
    command::command(program)
        .args(arguments)
        .envs(QUIET)
        .current_dir(directory)
        .output()
        .map_err(|source| PackagesError::Run { program: program.to_owned(), source })
}

/// Standard output of a program that succeeded.
pub(super) fn stdout(
    program: &str,
    arguments: &[String],
    directory: &Path,
) -> Result<String, PackagesError> {
    let output = output(program, arguments, directory)?;
    if !output.status.success() {
        return Err(PackagesError::Failed {
            program: program.to_owned(),
            ending: command::ending(output.status, false),
            said: said(&output),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program's last words.
pub(super) fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    command::tail(&String::from_utf8_lossy(&both), 6)
}

/// Strings out of string slices, for argument lists.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}
