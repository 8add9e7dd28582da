//! What can go wrong in the lab, each with the next step.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of the lab. Each message says where, what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The lab mounts, boots and bridges; that needs root.
    #[error("the lab needs root (it mounts file systems and boots containers): run it as root")]
    NotRoot,

    /// Another process holds the lab directory.
    #[error(
        "the lab in {dir} is in use by {holder}: wait for it, or set FETTLE_LAB_DIR to another directory"
    )]
    Busy {
        /// The lab directory.
        dir: PathBuf,
        /// Who holds the lock, as far as known.
        holder: String,
    },

    /// A changing call on a lab opened with `attach`.
    #[error("{what} changes the lab in {dir}, but it was attached to, not opened: use Lab::open")]
    NotOwner {
        /// What was asked.
        what: &'static str,
        /// The lab directory.
        dir: PathBuf,
    },

    /// The name prefix belongs to a lab in another directory.
    #[error(
        "the network bridge {bridge} belongs to {owner}: take that lab down first \
         (FETTLE_LAB_DIR=… cargo xtask lab down), or set FETTLE_LAB_PREFIX to another prefix"
    )]
    PrefixTaken {
        /// The bridge that exists already.
        bridge: String,
        /// What its mark says.
        owner: String,
    },

    /// The lab's addresses are used by the machine.
    #[error(
        "the machine has {address} on {link}, inside the lab's network {subnet}: \
         set FETTLE_LAB_SUBNET to a free one, such as 10.198.0.0/24"
    )]
    SubnetTaken {
        /// The lab's network.
        subnet: String,
        /// The address in the way.
        address: String,
        /// The interface that has it.
        link: String,
    },

    /// A setting that cannot be used.
    #[error("{setting} = {value:?}: {why}")]
    Setting {
        /// Name of the setting or environment variable.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what to write instead.
        why: String,
    },

    /// Programs are missing and cannot be installed.
    #[error("missing on this machine: {missing}; {next}")]
    Missing {
        /// The missing packages with reasons.
        missing: String,
        /// What to do.
        next: String,
    },

    /// The fleet (server, agents, command line) did not do what was asked.
    #[error("{what}")]
    Fleet {
        /// What happened, with what was said.
        what: String,
    },

    /// A program of the machine failed.
    #[error("{doing}: `{command}` {how}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Tool {
        /// What the lab wanted.
        doing: String,
        /// The command line.
        command: String,
        /// How it ended.
        how: String,
        /// Its last words.
        stderr: String,
    },

    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// The machine's package sources cannot be read.
    #[error("{file}:{line}: {why}")]
    Source {
        /// The file.
        file: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },

    /// The machine's package sources do not offer the wanted release.
    #[error(
        "none of this machine's package sources offers Debian {suite} main ({looked} looked at): add one under \
         /etc/apt/sources.list.d, or name a file in deb822 format with FETTLE_LAB_SOURCES"
    )]
    NoSource {
        /// The release.
        suite: String,
        /// How many sources there were.
        looked: usize,
    },

    /// The lab's own record cannot be understood.
    #[error(
        "{path} cannot be understood ({why}): run `cargo xtask lab down`, which does not need it"
    )]
    State {
        /// The record.
        path: PathBuf,
        /// Why.
        why: String,
    },

    /// A host of that name does not exist.
    #[error("no host {name:?} in the lab in {dir}; there are: {known}")]
    NoHost {
        /// Name asked for.
        name: String,
        /// The lab directory.
        dir: PathBuf,
        /// The names there are.
        known: String,
    },

    /// A host of that name exists already.
    #[error("the lab has a host {name:?} already: destroy it first, or choose another name")]
    HostExists {
        /// The name.
        name: String,
    },

    /// The base was not built before a host was asked for.
    #[error(
        "there is no base system in {dir} yet: call Lab::ensure_base first (`cargo xtask lab up` does)"
    )]
    NoBase {
        /// The lab directory.
        dir: PathBuf,
    },

    /// All addresses of the lab's network are taken.
    #[error("no address left in {subnet}: destroy a host first")]
    NoAddress {
        /// The network.
        subnet: String,
    },

    /// The host does not run (or died).
    #[error("host {host} is not running{}{console}", if console.is_empty() { "" } else { "; its console ended with:\n" })]
    NotRunning {
        /// The host.
        host: String,
        /// Last lines of its console.
        console: String,
    },

    /// The host did not come up in time.
    #[error(
        "host {host} was not up after {waited:.0?} (systemd says {state}); its console ended with:\n{console}"
    )]
    BootTimeout {
        /// The host.
        host: String,
        /// How long was waited.
        waited: Duration,
        /// What systemd said last.
        state: String,
        /// Last lines of its console.
        console: String,
    },

    /// A command in a host did not end in time; it was killed.
    #[error(
        "on {host}, `{command}` did not end within {after:.0?} and was killed; it had said:\n{output}"
    )]
    ExecTimeout {
        /// The host.
        host: String,
        /// The command.
        command: String,
        /// The time it had.
        after: Duration,
        /// The end of its output.
        output: String,
    },

    /// A command in a host failed.
    #[error("on {host}, `{command}` {how}: {output}")]
    Exec {
        /// The host.
        host: String,
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// The end of its output.
        output: String,
    },

    /// Something stays alive or mounted although it was told to go.
    #[error("{what} is still there after {waited:.0?}: {detail}")]
    Stuck {
        /// What was to go.
        what: String,
        /// How long was waited.
        waited: Duration,
        /// What is known about it.
        detail: String,
    },

    /// The machine lacks something the lab cannot do without.
    #[error("{what}: {next}")]
    Machine {
        /// What is missing.
        what: String,
        /// What to do.
        next: String,
    },
}

impl LabError {
    /// For `map_err`: a file operation failed.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// For `map_err` on rustix calls.
    pub(crate) fn errno(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.to_path_buf();
        move |errno| Self::Io { doing, path, source: errno.into() }
    }
}
