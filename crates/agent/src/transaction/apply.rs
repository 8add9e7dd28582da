//! Apply: the package manager itself, in a transient unit of its own (`detached.rs`), never killed. Beside it
//! `apply-progress` says how far it is, by apt's own word.

use super::detached::{APPLY, CONFIGURE, Ended, Job, UNPACK, Waited};
use super::{
    StepResult, Transaction, baseline, boot_area, dpkg, fault, io_fault, progress, rehearse,
    surprise,
};
use crate::command::{self, command};
use crate::data_paths;
use crate::overlay::Rehearsed;
use crate::packages::apt;
use crate::preimage::{self, Scope};
use fettle_core::transaction::{Fault, StepFacts};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Name of the file that says what each path was after the change.
pub const AFTER: &str = "after";

/// Paths that nobody foresaw and that are told by name, at most.
const TOLD: usize = 200;

/// Runs the step.
///
/// # Errors
/// When the host is not, afterwards, exactly what the plan says.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let job = job(tx);
    if job.was_ordered() {
        // A journal that lost its last record must not start it a second time.
        return super::recover::apply(tx);
    }
    rehearse::still_true(tx)?;
    let mut facts = StepFacts::default();
    facts.marks.insert("unit".into(), job.unit());
    // Where there is no unit to end, it is waited for, whatever the order says.
    if !job.start(tx.command()?.into(), None)? {
        facts.notes.push(
            "systemd does not run here: the package manager ran as a plain child of the agent"
                .into(),
        );
    }
    finish(tx, &wait(tx)?, facts)
}

fn job<'t>(tx: &'t Transaction<'t>) -> Job<'t> {
    Job::new(tx, &tx.directory, APPLY)
}

/// Waits for the wrapper's end. The package manager is never killed, unless the order says after how long it counts
/// as hung.
pub(super) fn wait(tx: &Transaction<'_>) -> Result<Waited, Fault> {
    job(tx).wait(hung_after(tx))
}

/// After how long the package manager counts as hung, if the order says so.
pub(super) fn hung_after(tx: &Transaction<'_>) -> Option<Duration> {
    tx.order.hung_after_seconds.map(|s| Duration::from_secs(s.into()))
}

/// What the host is, judged from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly what the plan says.
    New,
    /// Exactly what it was.
    Old,
    /// Neither: why.
    Mixed(String),
}

/// Judges by `dpkg --audit`, exact versions and `dpkg --verify`, never by an exit code.
///
/// # Errors
/// When dpkg cannot be asked.
pub fn judge(tx: &Transaction<'_>) -> Result<Verdict, Fault> {
    let names = tx.package_names();
    let audit = dpkg::audit().map_err(io_fault("run dpkg --audit"))?;
    if !audit.is_empty() {
        return Ok(Verdict::Mixed(command::tail(&audit, 3)));
    }
    let now = dpkg::versions(&names).map_err(io_fault("ask the package database"))?;
    let (verdict, normal) = if now == tx.versions(true) {
        // What `dpkg --verify` said after the rehearsal is what it says after a good change on this host.
        (Verdict::New, tx.kept::<Rehearsed>(rehearse::FILE).map(|r| r.verify).unwrap_or_default())
    } else if now == tx.versions(false) {
        (Verdict::Old, baseline::read(&tx.directory)?.verify)
    } else {
        let wrong =
            tx.versions(true).into_iter().find(|(name, version)| now.get(name) != Some(version));
        let (name, version) = wrong.unwrap_or_default();
        let is = now.get(&name).map_or("not installed", String::as_str);
        return Ok(Verdict::Mixed(format!("{name} is {is}, the plan says {version}")));
    };
    let lines = dpkg::verify(&names).map_err(io_fault("run dpkg --verify"))?;
    match lines.iter().find(|line| !normal.contains(line)) {
        Some(line) => Ok(Verdict::Mixed(format!("dpkg --verify: {line}"))),
        None => Ok(verdict),
    }
}

/// Judges, and notes what really changed.
pub(super) fn finish(tx: &Transaction<'_>, waited: &Waited, mut facts: StepFacts) -> StepResult {
    let ended = waited.ended.as_ref();
    facts.notes.extend(waited.quiet.clone());
    let ending = ended.map_or_else(|| "killed, with its wrapper".to_owned(), Ended::to_string);
    let log = job(tx).log();
    progress::clear(tx.settings);
    let hung = ended.is_none_or(|e| e.signal.is_some())
        && hung_after(tx).is_some_and(|limit| job(tx).running_for() > limit);
    if let Verdict::Old | Verdict::Mixed(_) = judge(tx)? {
        if hung {
            return Err(fault(
                "apply-hung",
                format!(
                    "the package manager had not ended after {} s and was ended; it said: {}",
                    tx.order.hung_after_seconds.unwrap_or_default(),
                    command::tail(&log, 3)
                ),
                "what it did is being undone; see which maintainer script hangs in apply.log",
            ));
        }
        let why = climb(tx, &mut facts)?;
        if let Some(why) = why {
            return Err(fault(
                "apply-failed",
                format!(
                    "the package manager ended with {ending}; {why}; it said: {}",
                    command::tail(&log, 8)
                ),
                "what it did is being undone; the whole log is in the transaction's apply.log",
            ));
        }
    } else if ended.is_none_or(|e| e.code != Some(0)) {
        facts.notes.push(format!(
            "the package manager ended with {ending}, but everything is as the plan says"
        ));
    }
    keep_marks(tx)?;
    facts.versions =
        dpkg::versions(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    let manifest = manifest_of(tx)?;
    let unforeseen = surprise::unforeseen(tx, &manifest)?;
    let kept = surprise::keep(tx, &unforeseen)?;
    if kept > 0 {
        facts.notes.push(format!(
            "{kept} paths that nobody foresaw were added to the preimage, from the snapshot"
        ));
    }
    facts.unforeseen = unforeseen.iter().take(TOLD).map(ToString::to_string).collect();
    let manifest = if kept > 0 { manifest_of(tx)? } else { manifest };
    // What maintainer scripts write is synced by nobody. A power cut after the next record would take it away, and an
    // undo would take what is left for somebody else's change.
    preimage::sync(Path::new("/"), &manifest).map_err(io_fault("make the change durable"))?;
    let paths = manifest.into_keys().collect();
    let data = data_paths::declared(tx.settings);
    let after = preimage::observe_all(Path::new("/"), &paths, Scope::whole_but(&data))
        .map_err(super::snapshot::preimage_fault)?;
    preimage::write_manifest(&tx.directory.join(AFTER), &after)
        .map_err(super::snapshot::preimage_fault)?;
    boot_area::note_after(tx)?;
    Ok(facts)
}

fn manifest_of(tx: &Transaction<'_>) -> Result<preimage::Manifest, Fault> {
    preimage::read_manifest(&tx.preimage().join("manifest"))
        .map_err(super::snapshot::preimage_fault)
}

/// The forward rungs of the recovery ladder, each judged from outside. `None`: the host is what the plan says.
/// `Some`: it is not, and why.
fn climb(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<Option<String>, Fault> {
    let archives = dpkg_archives(&tx.new_archives())?;
    let dpkg = || dpkg::changing(tx.order.conffiles);
    let mut last = String::new();
    for rung in ["dpkg --configure -a", "the new archives unpacked again"] {
        let run = |name| {
            move |dpkg: &mut std::process::Command| {
                Job::new(tx, &tx.directory, name).run(dpkg, hung_after(tx))
            }
        };
        let output = match rung {
            "dpkg --configure -a" => run(CONFIGURE)(dpkg().args(["--configure", "-a"]))?,
            _ => dpkg::install(dpkg, &archives, run(UNPACK), |e| io_fault("run dpkg")(e))?,
        };
        match judge(tx)? {
            Verdict::New => {
                facts.notes.push(format!("recovered by {rung}"));
                return Ok(None);
            }
            Verdict::Old => last = "no package was changed".into(),
            Verdict::Mixed(why) => last = format!("{why} (after {rung}: {})", output.tail(2)),
        }
    }
    Ok(Some(last))
}

pub(super) fn dpkg_archives(directory: &Path) -> Result<Vec<std::path::PathBuf>, Fault> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_fault("list the archives"))? {
        let path = entry.map_err(io_fault("list the archives"))?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

/// Naming a package to apt marks it as wanted by a person; what was automatic stays so.
fn keep_marks(tx: &Transaction<'_>) -> Result<(), Fault> {
    let before = baseline::read(&tx.directory)?.automatic;
    let now = dpkg::automatic(&tx.package_names()).map_err(io_fault("read apt's marks"))?;
    let lost: Vec<&String> = before.iter().filter(|name| !now.contains(name)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    command::run(command("apt-mark").args(apt::caches(tx.settings)).arg("auto").args(lost), None)
        .map(drop)
        .map_err(io_fault("run apt-mark"))
}
