//! Package managers behind one trait: what a change would do, getting its archives, and the command that does it.
//!
//! A driver never changes the host by itself: [`Driver::apply_command`] gives the command, the executor runs it.

use fettle_core::assignment::{ConffileRule, PackageChange};
use fettle_core::{Digest, Shared};
use std::path::{Path, PathBuf};

pub mod apt;
mod fetch;
pub mod index;
pub mod names;
pub mod pins;
pub mod repack;
pub(crate) mod simulation;
mod tool;

pub use apt::Apt;

/// A package manager.
pub trait Driver {
    /// What the package manager would do if it were asked for exactly `changes`. Touches nothing.
    ///
    /// # Errors
    /// When it cannot resolve them; [`PackagesError::Unresolvable`] holds its own words.
    fn simulate(&self, changes: &[Shared<PackageChange>]) -> Result<Resolution, PackagesError>;

    /// Puts the archives of `changes` into `directory`, named as [`Driver::apply_command`] wants them, each
    /// verified by size and SHA-256 against the change. Those already there and right are kept: doing it
    /// twice is harmless.
    ///
    /// # Errors
    /// When one cannot be fetched or is not what the plan names; a wrong file is removed.
    fn download(
        &self,
        changes: &[Shared<PackageChange>],
        directory: &Path,
    ) -> Result<Vec<Archive>, PackagesError>;

    /// Puts the archives of the versions that are installed (`from` of each change) into `directory`: from the
    /// package manager's cache, from its sources, else rebuilt from what is installed. One answer for each change,
    /// in their order.
    ///
    /// # Errors
    /// When a field is malformed or the directory cannot be used. An archive that none of the three ways gives is
    /// the error in its place.
    fn fetch_old(
        &self,
        changes: &[Shared<PackageChange>],
        directory: &Path,
    ) -> Result<Vec<Result<Archive, PackagesError>>, PackagesError>;

    /// What the package manager finds wrong with its own state, one line each. Empty: clean.
    ///
    /// # Errors
    /// When the check itself cannot be run.
    fn audit(&self) -> Result<Vec<String>, PackagesError>;

    /// Is each changed package installed, whole, in exactly the version `to`? Gives those that are not.
    ///
    /// # Errors
    /// When the package database cannot be read.
    fn verify_installed(
        &self,
        changes: &[Shared<PackageChange>],
    ) -> Result<Vec<Mismatch>, PackagesError>;

    /// Who holds one of the package manager's locks now.
    ///
    /// # Errors
    /// When a lock file cannot be examined.
    fn lock_holder(&self) -> Result<Option<LockHolder>, PackagesError>;

    /// The command that carries out `changes` from the archives in `archives`: exact versions, no question
    /// asked, nothing downloaded, nothing removed.
    ///
    /// # Errors
    /// When a name, architecture or version could be taken for anything else by the package manager.
    fn apply_command(
        &self,
        changes: &[Shared<PackageChange>],
        conffiles: ConffileRule,
        archives: &Path,
    ) -> Result<CommandLine, PackagesError>;
}

/// A package's archive on disk, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Version.
    pub version: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Digest of the bytes on disk.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Where it came from.
    pub provenance: Provenance,
}

/// Where an archive came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// It was in `directory` already.
    Kept,
    /// From the package manager's own cache.
    Cache,
    /// From the host's sources.
    Source,
    /// Rebuilt from what is installed: same files, scripts and fields, not the vendor's bytes.
    Rebuilt,
}

/// What the package manager would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Every package it would touch, by name and architecture.
    pub steps: Vec<ResolvedChange>,
}

/// One package in a [`Resolution`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedChange {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Version now; empty when it is not installed.
    pub from: String,
    /// Version afterwards; empty when it would be removed.
    pub to: String,
    /// Releases that offer `to`, in the package manager's words. Empty for removals.
    pub releases: String,
}

impl Resolution {
    /// Where the resolution is not exactly `changes`, in words: extra packages, removals, other versions, and
    /// changes it would not make. A change whose `to` is installed already counts as made. Empty: exact.
    pub fn differences(&self, changes: &[Shared<PackageChange>]) -> Vec<String> {
        let mut differences = Vec::new();
        for step in &self.steps {
            let named =
                changes.iter().find(|c| c.name == step.name && c.architecture == step.architecture);
            let label = format!("{}:{}", step.name, step.architecture);
            match named {
                _ if step.to.is_empty() => {
                    differences.push(format!("would remove {label} {}", step.from))
                }
                None if step.from.is_empty() => {
                    differences.push(format!("would add {label} {}", step.to))
                }
                None => {
                    differences.push(format!("would change {label} {} to {}", step.from, step.to))
                }
                Some(c) if c.to != step.to => {
                    differences.push(format!(
                        "would change {label} to {}, the plan says {}",
                        step.to, c.to
                    ));
                }
                Some(c) if c.from != step.from => differences.push(format!(
                    "{label} is at {}, the plan was made for {}",
                    or_absent(&step.from),
                    or_absent(&c.from)
                )),
                Some(_) => {}
            }
        }
        for change in changes {
            let made =
                |s: &ResolvedChange| s.name == change.name && s.architecture == change.architecture;
            if !self.steps.iter().any(made) {
                differences.push(format!(
                    "would leave {}:{} as it is, the plan says {}",
                    change.name, change.architecture, change.to
                ));
            }
        }
        differences
    }
}

fn or_absent(version: &str) -> &str {
    if version.is_empty() { "absent" } else { version }
}

/// A package that is not as a change wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Version wanted.
    pub wanted: String,
    /// Version found; empty when it is not installed.
    pub found: String,
    /// Status found, where the package is not whole: `half-configured`.
    pub status: String,
}

/// A process that holds a lock of the package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The lock file.
    pub lock: PathBuf,
    /// Process id; 0 when the kernel does not tell (another pid namespace).
    pub pid: u32,
    /// Process name, empty where it could not be read.
    pub process: String,
}

/// A program with its arguments and the only environment it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Program, by absolute path.
    pub program: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Environment, whole.
    pub environment: Vec<(String, String)>,
}

/// Why the package manager could not be asked, or what it said no to.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// A field that goes into a command is not what Debian policy allows.
    #[error(
        "{what} `{value}` is not one that the package manager could have: the order is refused"
    )]
    Field {
        /// `package name`, `architecture`, `version`.
        what: &'static str,
        /// As given, shortened.
        value: String,
    },
    /// A program cannot be started or read.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed ({ending}): {said}")]
    Failed {
        /// Program.
        program: String,
        /// `exit code 100`.
        ending: String,
        /// Its last words.
        said: String,
    },
    /// The package manager cannot resolve the change.
    #[error("the package manager cannot make this change: {said}")]
    Unresolvable {
        /// Its own words.
        said: String,
    },
    /// A line of a program's output has a form that is not known.
    #[error("{program} printed a line that is not understood: `{line}`")]
    Output {
        /// Program.
        program: String,
        /// The line, shortened.
        line: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        /// `read`, `write`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An archive is not the one the plan names.
    #[error(
        "the archive of {name} {version} is not the one the plan names: expected {expected}, found {found}"
    )]
    WrongArchive {
        /// Binary name.
        name: String,
        /// Version.
        version: String,
        /// Digest and size expected.
        expected: String,
        /// Digest and size found.
        found: String,
    },
    /// No way gives an archive.
    #[error("no archive of {name} {version} can be had: {why}")]
    NoArchive {
        /// Binary name.
        name: String,
        /// Version.
        version: String,
        /// Each way, and why it failed.
        why: String,
    },
}
