//! The host's transaction: preflight → stage → rehearse → snapshot → drain → apply → activate → verify → commit,
//! or undo. One file a step; what does beside what undoes.
//!
//! Each step is a function of what lies on disk. It may be run again from its start after a crash, or
//! (`Step::Drain` and later) has a recovery beside it that finds out how far it came. No step decides what
//! comes next: that is [`fettle_core::transaction::Progress::next`] over the journal.

pub mod activate;
pub mod apply;
mod balancer;
pub mod baseline;
mod boot_area;
pub mod commit;
pub mod confirm;
pub(crate) mod deadman;
mod detached;
pub mod dpkg;
pub mod drain;
pub mod forecast;
mod gentle;
pub mod preflight;
pub mod progress;
mod reboot;
pub mod recover;
pub mod rehearse;
pub(crate) mod reserve;
pub mod snapshot;
pub mod stage;
mod surprise;
mod trial;
mod turns;
pub mod undo;
pub mod units;
pub mod verify;

use crate::durable;
use crate::packages::{CommandLine, Driver, apt};
use crate::settings::Settings;
use fettle_core::assignment::{ApplyOrder, Assignment, PackageChange};
use fettle_core::transaction::{Fault, StepFacts};
use fettle_core::{Shared, TransactionId};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The hidden subcommands' entry: the agent's own helpers, started by itself. `arguments` are those after the
/// program's name; `None`: none of them. Call it before anything else is parsed or opened.
pub fn hidden(arguments: &[String]) -> Option<std::process::ExitCode> {
    crate::overlay::hidden(arguments).or_else(|| detached::hidden(arguments))
}

/// What a step gives: what it found, or why it did not succeed.
pub type StepResult = Result<StepFacts, Fault>;

/// A fault with its code, message and hint.
pub fn fault(code: &str, message: impl Display, hint: impl Display) -> Fault {
    debug_assert!(
        fettle_core::code::is_known(code),
        "`{code}` is no code of core::code: add it, and its page"
    );
    Fault { code: code.to_owned(), message: message.to_string(), hint: hint.to_string() }
}

/// A fault of the agent's own files or of a program it needs.
pub(crate) fn io_fault(what: &str) -> impl FnOnce(std::io::Error) -> Fault + '_ {
    move |e| {
        let hint = match e.kind() {
            std::io::ErrorKind::StorageFull => "free some space and try again",
            std::io::ErrorKind::ReadOnlyFilesystem => {
                "the file system is read-only: look at `dmesg` before anything else"
            }
            _ => "look at the message; `fettle-agent status` tells what state the host is in",
        };
        fault("host-io", format!("cannot {what}: {e}"), hint)
    }
}

/// One transaction's order and its place on disk.
pub struct Transaction<'a> {
    /// Where the agent keeps things.
    pub settings: &'a Settings,
    /// The package manager.
    pub driver: &'a dyn Driver,
    /// The order for this host.
    pub assignment: &'a Assignment,
    /// What to change; empty for an undo order.
    pub order: &'a ApplyOrder,
    /// The directory of journal, archives, preimage.
    pub directory: PathBuf,
}

impl Transaction<'_> {
    /// Its name.
    pub fn id(&self) -> TransactionId {
        self.assignment.transaction()
    }
    /// The new archives.
    pub fn new_archives(&self) -> PathBuf {
        self.directory.join("archives/new")
    }
    /// The archives of the versions that are installed now.
    pub fn old_archives(&self) -> PathBuf {
        self.directory.join("archives/old")
    }
    /// The preimage.
    pub fn preimage(&self) -> PathBuf {
        self.directory.join("preimage")
    }
    /// The snapshot of the root, where that is a btrfs subvolume.
    pub fn snapshot(&self) -> PathBuf {
        self.directory.join("snapshot")
    }
    /// The changes, as the plan names them.
    pub fn changes(&self) -> &[Shared<PackageChange>] {
        &self.order.changes
    }
    /// `name:architecture` of every change, as dpkg understands it.
    pub fn package_names(&self) -> Vec<String> {
        self.changes().iter().map(|c| format!("{}:{}", c.name, c.architecture)).collect()
    }
    /// Versions before or after, by `name:architecture`. A package that is new is not there before.
    pub fn versions(&self, after: bool) -> BTreeMap<String, String> {
        let version = |c: &PackageChange| if after { c.to.clone() } else { c.from.clone() };
        self.changes()
            .iter()
            .map(|c| (format!("{}:{}", c.name, c.architecture), version(c)))
            .filter(|(_, v)| !v.is_empty())
            .collect()
    }
    /// The package manager's command, which the rehearsal and apply both run.
    pub(crate) fn command(&self) -> Result<CommandLine, Fault> {
        let mut line = self
            .driver
            .apply_command(self.changes(), self.order.conffiles, &self.new_archives())
            .map_err(preflight::packages)?;
        if line.program.ends_with("/apt-get") {
            // Before anything else: behind `--` they would be packages. Somebody may have taken the lock since
            // preflight looked.
            let mut options = apt::caches(self.settings).to_vec();
            options.extend(["-o", "DPkg::Lock::Timeout=60"].map(str::to_owned));
            line.arguments.splice(0..0, options);
        }
        Ok(line)
    }
    /// Keeps a finding for later steps, durably.
    pub(crate) fn keep<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Fault> {
        let text =
            serde_json::to_vec(value).map_err(|e| io_fault("write down a finding")(e.into()))?;
        durable::replace(&self.directory.join(name), &text)
            .map_err(io_fault("write down a finding"))
    }
    /// A finding of an earlier step. `None`: it was not kept, or cannot be read any more.
    pub(crate) fn kept<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read_kept(&self.directory, name)
    }
}

pub(crate) fn read_kept<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(directory.join(name)).ok()?).ok()
}

/// Does a shell glob (`*`, `?`) match?
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| glob(rest, &text[i..]))
        }
        (Some('?'), Some(c)) => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

/// An assignment that orders this, of nobody in particular.
#[cfg(test)]
pub(crate) fn an_assignment(order: ApplyOrder) -> Assignment {
    use fettle_core::{Timestamp, assignment::Order};
    Assignment {
        schema: 1,
        id: "a".into(),
        host: "h".into(),
        generation: 1,
        rollout: "r".into(),
        plan: fettle_core::Digest::of(b""),
        issued_at: Timestamp::UNIX_EPOCH,
        not_before: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::UNIX_EPOCH,
        order: Order::Apply(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, matches) in [
            ("postgresql@*.service", "postgresql@15-main.service", true),
            ("postgresql@*.service", "postgresql.service", false),
            ("*", "", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("nginx", "nginx.service", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
