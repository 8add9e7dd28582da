//! A copy-on-write clone of the host's own root, in namespaces of its own, for the rehearsal.
//!
//! The agent starts `unshare … fettle-agent __rehearse SPEC`. That process is the init of a process namespace:
//! when it ends, or when the agent dies (its standard input closes), the kernel ends everything in it and the
//! mounts go with it, so nothing is left behind whatever happens. It builds the clone (`clone_root`), runs each
//! part of the rehearsal in a child whose root is the clone (`inside`), and writes down what the upper layers
//! say (`delta`).
//!
//! Nothing in the clone can reach the host: no network, no real `/run` (no sockets of the host's services), no
//! block devices, `/proc/sys` read-only, and no capability for modules, reboot, clock, raw I/O or mounts.

mod clone_root;
mod delta;
mod inside;
mod mounts;

pub use delta::{Change, ChangeKind, made, read_delta, write_delta};
pub use mounts::{Mount, holding, mounts};

use crate::command;
use crate::configuration_tests::interpreters::{self, Loads};
use crate::configuration_tests::units;
use crate::host_path::HostPath;
use crate::libraries::{Resolution, newly_missing, unchecked};
use fettle_core::assignment::MissingSymbol;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the hidden subcommand that is the init of the namespaces.
pub const OUTER: &str = "__rehearse";
/// Name of the hidden subcommand that runs with the clone as its root.
pub const INNER: &str = "__rehearse-inside";

/// What to rehearse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// This agent's program, which is started again inside the namespaces.
    pub program: PathBuf,
    /// Empty directory for the clone; outcome and delta are written here.
    pub scratch: PathBuf,
    /// Upper layers in memory, at most so many bytes; `None`: on disk, in `scratch`.
    pub memory: Option<u64>,
    /// Hidden from the clone: the agent's own state.
    pub hidden: PathBuf,
    /// Seen in the clone at the same path: the archives. What the clone writes there is thrown away.
    pub shown: Vec<PathBuf>,
    /// Program and arguments of the transaction.
    pub argv: Vec<String>,
    /// Its environment, on top of a scrubbed one.
    pub env: BTreeMap<String, String>,
    /// Seconds after which it counts as hung and is ended.
    pub limit_seconds: u32,
    /// The packages it changes, for the checks afterwards.
    pub packages: Vec<String>,
    /// Units that are active on the host: what `systemctl is-active` answers in the clone.
    pub active: Vec<String>,
    /// The operator's own tests: every executable file in it.
    pub tests: PathBuf,
    /// Executables of running services, for the check of their libraries.
    pub programs: Vec<HostPath>,
    /// How the old versions go back on the clone, in the end. `None`: nobody asks.
    #[serde(default)]
    pub way_back: Option<WayBack>,
    /// The host's network is the clone's, since its administrator says so. Else the clone has none but a loopback of its own.
    #[serde(default)]
    pub online: bool,
    /// Symbols that may be missing afterwards.
    #[serde(default)]
    pub accept_missing: Vec<MissingSymbol>,
    /// Units to verify: those that the change touched. Filled in after it.
    #[serde(default)]
    pub units: Vec<String>,
    /// Libraries that changed packages had before. Filled in before the change.
    #[serde(default)]
    pub sonames: BTreeSet<String>,
}

/// Archives of the old versions, some of which were made from what is installed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WayBack {
    /// Where they lie; it must be [shown](Spec::shown).
    pub archives: PathBuf,
    /// Package → version that must be there afterwards.
    pub versions: BTreeMap<String, String>,
}

/// Can the old versions be installed again over the new ones?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WentBack {
    /// Every old archive is the vendor's own: nobody tried.
    #[default]
    NotAsked,
    /// They were installed on the clone, after the change.
    Yes,
    /// They were not.
    No {
        /// What the package manager, or the package database, said.
        why: String,
    },
}

/// What the rehearsal found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rehearsed {
    /// How the transaction ended: `exit code 0`.
    pub ending: String,
    /// It ended well.
    pub success: bool,
    /// Last lines of what it said.
    pub tail: String,
    /// How long the transaction itself took, in milliseconds.
    pub milliseconds: u64,
    /// Package → version afterwards.
    pub versions: BTreeMap<String, String>,
    /// What `dpkg --audit` says afterwards.
    pub audit: String,
    /// Lines of `dpkg --verify` afterwards: what is normal on this host after this change.
    pub verify: Vec<String>,
    /// What the change wanted restarted or reloaded: `nginx.service restart`.
    pub wanted: Vec<String>,
    /// Disks that GRUB is installed on by the change.
    pub boot_devices: Vec<String>,
    /// Tests that hold before and after.
    pub passed: Vec<String>,
    /// Tests that held before and do not hold after: name → what they said.
    pub broken: BTreeMap<String, String>,
    /// Tests of the operator's that were not run, before or after, since others than root may have a hand in them:
    /// name → why.
    pub untrusted: BTreeMap<String, String>,
    /// Tests that did not hold before either.
    pub failing_before: Vec<String>,
    /// What each interpreter loads.
    pub loads: BTreeMap<String, Loads>,
    /// Programs or libraries that no longer resolve: path → what is missing.
    pub unresolved: BTreeMap<String, String>,
    /// Programs or libraries that nobody has looked at: path → why.
    pub unchecked: BTreeMap<String, String>,
    /// What is missing and was accepted: `FILE: SYMBOL`.
    pub accepted: Vec<String>,
    /// How that was found out.
    pub libraries: Resolution,
    /// Do the old archives go back?
    pub went_back: WentBack,
    /// Processes that the change left running in the clone.
    pub left_running: Vec<String>,
    /// Mount points that could not be cloned and are missing or read-only in it.
    pub gaps: Vec<String>,
}

/// Why a rehearsal could not be held.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// `unshare` or the clone's init could not be started, or their files not be written.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The clone could not be built.
    #[error("the clone of the host's root could not be built ({ending}): {said}")]
    Clone {
        /// How the init of the namespaces ended.
        ending: String,
        /// What it said.
        said: String,
    },
}

/// Where programs are looked for in the clone: its own `systemctl` and the like come before the host's.
pub(crate) fn path() -> String {
    format!("{}/bin:{}", clone_root::TOOLS, command::PATH)
}

/// The agent's own program, also after its file was replaced by an upgrade.
pub fn own_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from(format!("/proc/{}/exe", std::process::id())),
    }
}

/// Where the agent's program is installed: what systemd is to start when this process, and this boot, are gone. After an
/// upgrade of the agent that is the new one.
pub fn installed_program() -> PathBuf {
    installed(std::env::current_exe().ok()).unwrap_or_else(own_program)
}

/// What stands now where this process's program was installed, where that was replaced: by an upgrade, or by an undo.
pub fn replaced_by() -> Option<PathBuf> {
    let running = std::fs::read_link("/proc/self/exe").ok()?;
    running.to_str()?.ends_with(DELETED).then(|| installed(Some(running.clone()))).flatten()
}

/// The kernel calls a file that was replaced so (`proc_pid_exe(5)`).
const DELETED: &str = " (deleted)";

fn installed(running: Option<PathBuf>) -> Option<PathBuf> {
    let running = running?;
    let text = running.to_str()?;
    let path = PathBuf::from(text.strip_suffix(DELETED).unwrap_or(text));
    path.is_file().then_some(path)
}

/// What the clone has of its own in any case.
const NAMESPACES: [&str; 8] =
    ["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--propagation", "private"];

/// Holds the rehearsal. Blocks until it has ended; the host is as it was.
///
/// # Errors
/// [`RehearsalError`] when it could not be held at all; that the change failed in it is in [`Rehearsed`].
pub fn rehearse(spec: &Spec) -> Result<Rehearsed, RehearsalError> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |source| RehearsalError::Io { what, source }
    };
    let text =
        serde_json::to_vec(spec).map_err(|e| fail("write the rehearsal's order")(e.into()))?;
    std::fs::write(spec.scratch.join("spec.json"), text)
        .map_err(fail("write the rehearsal's order"))?;
    let said = spec.scratch.join("said");
    let log = std::fs::File::create(&said).map_err(fail("create the rehearsal's log"))?;
    let log_too = log.try_clone().map_err(fail("create the rehearsal's log"))?;
    let mut child = command::command("unshare")
        .args(NAMESPACES)
        .args((!spec.online).then_some("--net"))
        .arg("--")
        .arg(&spec.program)
        .arg(OUTER)
        .arg(spec.scratch.join("spec.json"))
        // Held open for as long as this process lives: its end is the clone's end.
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(log_too)
        .spawn()
        .map_err(fail("start `unshare` (package util-linux)"))?;
    let lifeline = child.stdin.take();
    let status = child.wait().map_err(fail("wait for the rehearsal"))?;
    drop(lifeline);
    if !status.success() {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        return Err(RehearsalError::Clone {
            ending: command::ending(status, false),
            said: command::tail(&said, 5),
        });
    }
    let outcome = std::fs::read(spec.scratch.join("outcome.json"))
        .map_err(fail("read what the rehearsal found"))?;
    serde_json::from_slice(&outcome).map_err(|e| fail("read what the rehearsal found")(e.into()))
}

/// The hidden subcommands' entry: `arguments` are those after the program's name. `None`: not one of them.
pub fn hidden(arguments: &[String]) -> Option<std::process::ExitCode> {
    let done = match arguments {
        [word, spec] if word == OUTER => outer(Path::new(spec)),
        [word, part, root, spec] if word == INNER => {
            inside::main(part, Path::new(root), Path::new(spec))
        }
        _ => return None,
    };
    Some(match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    })
}

/// The init of the namespaces.
fn outer(spec_path: &Path) -> io::Result<()> {
    // The agent's end of this pipe closes when the agent dies.
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(9);
    });
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(spec_path)?)?;
    let (root, layers, gaps) = clone_root::build(&spec)?;
    let before = part(&spec, "tests", &root)?;
    let libraries = part(&spec, "libraries", &root)?.libraries;
    let mut outcome = part(&spec, "transaction", &root)?;
    let changes = delta::walk(&layers)?;
    write_delta(&spec.scratch.join("delta"), &changes)?;
    outcome.wanted = clone_root::wanted(&root);
    outcome.boot_devices = clone_root::boot_devices(&root);
    outcome.gaps = gaps;
    outcome.untrusted = before.untrusted;
    if outcome.success {
        spec.units = units::changed(changes.iter().map(|c| c.path.as_path()));
        let after = part(&spec, "tests", &root)?;
        outcome.untrusted.extend(after.untrusted);
        let mut broken_before = before.broken;
        broken_before.extend(units_before(&spec, after.broken.keys())?);
        for (name, said) in after.broken {
            if broken_before.contains_key(&name) {
                outcome.failing_before.push(name);
            } else {
                outcome.broken.insert(name, said);
            }
        }
        let (good, lost) = interpreters::compare(&before.loads, &after.loads);
        outcome.passed = after.passed;
        outcome.passed.extend(good);
        outcome.broken.extend(lost);
        spec.sonames = libraries.sonames.clone();
        outcome.libraries = part(&spec, "libraries", &root)?.libraries;
        // What did not resolve before either is not the change's fault.
        let lost = std::mem::take(&mut outcome.libraries.unresolved);
        let is_new = |path: &str| !Path::new(path).exists();
        (outcome.unresolved, outcome.accepted) =
            newly_missing(&libraries.unresolved, &lost, is_new, &spec.accept_missing);
        let accepted;
        (outcome.unchecked, accepted) =
            unchecked(&libraries, &outcome.libraries, &spec.accept_missing);
        outcome.accepted.extend(accepted);
        if spec.way_back.is_some() {
            outcome.went_back = part(&spec, "way-back", &root)?.went_back;
        }
    }
    let text = serde_json::to_vec(&outcome)?;
    std::fs::write(spec.scratch.join("outcome.json"), text)
}

/// Which units a change touches is known only after it: those that do not verify then are asked for in a second
/// clone, which nothing has changed.
fn units_before<'a>(
    spec: &Spec,
    broken: impl Iterator<Item = &'a String>,
) -> io::Result<BTreeMap<String, String>> {
    let units = units::named(broken);
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    let untouched = Spec { scratch: spec.scratch.join("untouched"), units, ..spec.clone() };
    std::fs::create_dir_all(&untouched.scratch)?;
    let (root, ..) = clone_root::build(&untouched)?;
    Ok(part(&untouched, "units", &root)?.broken)
}

/// Runs one part of the rehearsal in a child whose root is the clone.
fn part(spec: &Spec, part: &str, root: &Path) -> io::Result<Rehearsed> {
    let path = spec.scratch.join("part.json");
    std::fs::write(&path, serde_json::to_vec(spec)?)?;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(&spec.program)
        .args([INNER, part])
        .args([root, &path])
        .env("PATH", command::PATH)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "the {part} part ended with {}",
            command::ending(output.status, false)
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_whose_program_was_replaced_is_found_where_the_new_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("fettle-agent");
        let replaced = PathBuf::from(format!("{}{DELETED}", program.display()));
        assert_eq!(installed(Some(replaced.clone())), None, "it was removed, not replaced");
        std::fs::write(&program, "").unwrap();
        assert_eq!(installed(Some(replaced)), Some(program.clone()));
        assert_eq!(installed(Some(program.clone())), Some(program));
        assert_eq!(replaced_by(), None, "nobody has replaced this one");
    }
}
