//! Undo: everything as it was, from the preimage, and verified: files by hash, services by the baseline.

mod services;

use super::activate::{self, Manager};
use super::baseline::{self, Baseline};
use super::detached::{self, Job, UNPACK};
use super::{Transaction, apply, boot_area, dpkg, drain, fault, reboot, reserve, surprise, trial};
use crate::command;
use crate::data_paths;
use crate::journal;
use crate::overlay;
use crate::preimage::{self, Known, Made, Manifest, Restored, Scope, set_aside, subvolume};
use crate::settings::Settings;
use crate::unit;
use fettle_core::TransactionId;
use fettle_core::assignment::{ConffileRule, Order, RestartRule};
use fettle_core::transaction::{Fault, Outcome, Progress, StepFacts, UndoFacts};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Name of the file that marks a transaction taken back by a later order.
const UNDONE: &str = "undone.json";

/// Was the transaction taken back by a later order?
pub fn undone(settings: &Settings, id: &TransactionId) -> bool {
    settings.transactions_dir().join(id.as_str()).join(UNDONE).exists()
}

/// The directory whose preimage an order undoes: its own, or that of the transaction the order names.
///
/// # Errors
/// Why an earlier transaction cannot be taken back. Nothing was touched.
pub fn target(tx: &Transaction<'_>) -> Result<PathBuf, Fault> {
    let Order::Undo { assignment, .. } = &tx.assignment.order else {
        return Ok(tx.directory.clone());
    };
    let mut named = tx.assignment.clone();
    named.id = assignment.clone();
    let directory = tx.settings.transactions_dir().join(named.transaction().as_str());
    let progress =
        journal::read(&directory).ok().and_then(|c| Progress::fold(&c.entries).ok().flatten());
    let Some(progress) = progress else {
        let message = format!("this host knows no transaction of assignment {assignment}");
        return Err(fault("nothing-to-undo", message, "see `fettle-agent history`"));
    };
    if progress.outcome != Some(Outcome::Patched) {
        let how = progress.outcome.as_ref().map_or("has not ended", Outcome::word);
        let message = format!("{} {how}: only what was patched can be taken back", progress.id);
        return Err(fault("nothing-to-undo", message, "see `fettle-agent history`"));
    }
    let begun = begun_by(&directory);
    if begun == Some(tx.id().0) {
        return Ok(directory); // this very order, interrupted
    }
    if undone(tx.settings, &progress.id) {
        return Err(fault(
            "already-undone",
            format!("{} was taken back already", progress.id),
            "nothing is to be done",
        ));
    }
    if !directory.join("preimage/manifest").exists() {
        let message = format!("the preimage of {} is gone", progress.id);
        return Err(fault(
            "preimage-gone",
            message,
            "install the old versions by hand, or from a backup",
        ));
    }
    later(tx, &progress, &directory)?;
    untouched_since(&directory, &progress, begun.is_some())?;
    Ok(directory)
}

fn begun_by(directory: &Path) -> Option<String> {
    super::read_kept(directory, "undo-begun.json")
}

/// Two changes are taken back in reverse order only: each preimage is of what the one before left.
fn later(tx: &Transaction<'_>, progress: &Progress, own: &Path) -> Result<(), Fault> {
    let mut newer = Vec::new();
    for entry in fs::read_dir(tx.settings.transactions_dir()).into_iter().flatten().flatten() {
        let directory = entry.path();
        if directory == own || directory == tx.directory || directory.join(UNDONE).exists() {
            continue;
        }
        let other =
            journal::read(&directory).ok().and_then(|c| Progress::fold(&c.entries).ok().flatten());
        if let Some(other) = other
            && other.outcome == Some(Outcome::Patched)
            && other.begun_at > progress.begun_at
        {
            newer.push(other.id.to_string());
        }
    }
    if newer.is_empty() {
        return Ok(());
    }
    newer.sort();
    let message = format!("later changes stand on {}: {}", progress.id, newer.join(", "));
    Err(fault("later-transaction", message, "undo those first, the latest one first"))
}

/// The package database must be what the change left: else packages that came later would lose their entries. Or, where
/// an undo was `begun` that did not succeed, what it was before the change.
fn untouched_since(directory: &Path, progress: &Progress, begun: bool) -> Result<(), Fault> {
    let status = Path::new("/var/lib/dpkg/status");
    let now = preimage::observe(status).map_err(super::io_fault("read the package database"))?;
    let known =
        [Some(directory.join(apply::AFTER)), begun.then(|| directory.join("preimage/manifest"))];
    for manifest in known.into_iter().flatten() {
        let then = preimage::read_record(&manifest, &status.into())
            .map_err(super::snapshot::preimage_fault)?
            .and_then(|record| record.was);
        if then.zip(now.as_ref()).is_some_and(|(then, now)| then.kind == now.kind) {
            return Ok(());
        }
    }
    Err(fault(
        "packages-changed-since",
        format!("packages were changed by somebody else since {}", progress.id),
        "see /var/log/dpkg.log; install the old versions with apt-get install PACKAGE=VERSION instead",
    ))
}

/// Puts everything back. May be killed at any point and run again. What is not as it was is in `differing`.
pub fn run(tx: &Transaction<'_>, directory: &Path) -> UndoFacts {
    let begun = Instant::now();
    let mut facts = UndoFacts::default();
    if let Err(fault) = put_back(tx, directory, &mut facts) {
        facts.differing.push(format!("{} ({})", fault.message, fault.hint));
    }
    facts.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    facts
}

fn put_back(tx: &Transaction<'_>, directory: &Path, facts: &mut UndoFacts) -> Result<(), Fault> {
    let other = directory != tx.directory;
    if other {
        crate::durable::replace(
            &directory.join("undo-begun.json"),
            format!("{:?}", tx.id().as_str()).as_bytes(),
        )
        .map_err(super::io_fault("note the undo"))?;
    }
    // The package manager may still be at work; it is waited for, never fought.
    if !other && directory.join("apply.json").exists() {
        apply::wait(tx)?;
    }
    detached::settle(tx, directory)?;
    super::preflight::lock(tx, &mut StepFacts::default())?;
    reserve::release(directory);
    reboot::settle(directory);
    if other && let Err(fault) = drain::run(tx) {
        // The host is to be as it was, balancer or not.
        facts.notes.push(format!("not drained: {}", fault.message));
    }
    let before = baseline::read(directory)?;
    services::stop_new(directory, &before, facts);
    if !other {
        trial::clear(tx)?;
        foresee(tx, facts)?;
    }
    // Only a walk that was finished says what the change itself had made.
    let after = preimage::read_manifest(&directory.join(apply::AFTER)).ok();
    let data = data_paths::declared(tx.settings);
    let scope = Scope::whole_but(&data);
    let made = made(directory);
    let known = Known { after: after.as_ref(), made: made.as_ref() };
    let (restored, sight, mut manager) = restore_beside(directory, scope, known);
    let (mut restored, sight) = (restored?, sight?);
    if !restored.differing.is_empty() {
        // What it executes by now is not yet all that there was.
        manager = None;
        // The rung before the last: dpkg itself goes back to the old archives, then the preimage once more.
        old_archives(tx, directory, facts);
        let after = after.map(|after| made_since(after, scope, &restored.kept)).transpose()?;
        let mut overwritten = std::mem::take(&mut restored.set_aside);
        let known = Known { after: after.as_ref(), made: made.as_ref() };
        restored = preimage::restore(Path::new("/"), &directory.join("preimage"), scope, known)
            .map_err(super::snapshot::preimage_fault)?;
        restored.set_aside.append(&mut overwritten);
    }
    facts.files_restored = restored.files;
    facts.differing = std::mem::take(&mut restored.differing);
    facts.kept = std::mem::take(&mut restored.kept);
    let boot = boot_area::put_back(directory);
    facts.notes.extend(boot.notes);
    facts.kept.extend(boot.kept);
    facts.differing.extend(boot.differing);
    // Those of an undo before, which did not come to its end, too.
    let aside = set_aside::all(&directory.join("preimage"));
    facts.set_aside = aside.iter().map(ToString::to_string).collect();
    if !aside.is_empty() {
        let place = directory.join("preimage").join(set_aside::PLACE);
        facts.notes.push(format!(
            "kept in {}: {} files that no rehearsal had shown so; they may be somebody's work",
            place.display(),
            aside.len()
        ));
    }
    if unit::booted() {
        network_back(directory, &restored.set_aside, facts);
    }
    let kept: BTreeSet<PathBuf> = facts.kept.iter().map(PathBuf::from).collect();
    // What is somebody else's now is not as its package has it, and need not be.
    let is_excused = |path: &Path| {
        let physical = preimage::physical(Path::new("/"), &path.into());
        scope.is_data(path) || kept.contains(path) || kept.contains(physical.as_path())
    };
    // The package database is looked at while the services come back.
    let (packages, services) = std::thread::scope(|threads| {
        let packages = threads.spawn(|| packages_back(directory, &before, &is_excused));
        let known = services::Known { sight, manager };
        let services = services::back(directory, &before, other, known, facts);
        (packages.join(), services)
    });
    services?;
    match packages {
        Ok(differing) => facts.differing.extend(differing?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    if let Some(said) = reboot::back(tx, directory)? {
        facts.notes.push(said);
    }
    if let Some(said) = drain::undo(tx)? {
        facts.notes.push(format!("undrained: {said}"));
    }
    // Whoever looks at a quarantined host may want it.
    if !other
        && facts.differing.is_empty()
        && let Err(e) = subvolume::remove(&tx.snapshot())
    {
        let at = tx.snapshot();
        facts.notes.push(format!("the snapshot {} is still there: {e}", at.display()));
    }
    if other && facts.differing.is_empty() {
        crate::durable::replace(
            &directory.join(UNDONE),
            format!("{:?}", tx.id().as_str()).as_bytes(),
        )
        .map_err(super::io_fault("note the undo"))?;
    }
    Ok(())
}

/// A change that failed in the middle was not looked at for surprises: now it is.
fn foresee(tx: &Transaction<'_>, facts: &mut UndoFacts) -> Result<(), Fault> {
    if !subvolume::is_one(&tx.snapshot()) || tx.directory.join(apply::AFTER).exists() {
        return Ok(());
    }
    let manifest = preimage::read_manifest(&tx.preimage().join("manifest"))
        .map_err(super::snapshot::preimage_fault)?;
    let kept = surprise::keep(tx, &surprise::unforeseen(tx, &manifest)?)?;
    if kept > 0 {
        facts.notes.push(format!("{kept} paths that nobody foresaw come back from the snapshot"));
    }
    Ok(())
}

/// Files come back while systemd is asked what runs; then, while they are looked at again, systemd comes to run those that
/// are its own. It is asked before that: whoever asks one that executes itself anew is cut off.
fn restore_beside(
    directory: &Path,
    scope: Scope<'_>,
    known: Known<'_>,
) -> (Result<Restored, Fault>, Result<services::Sight, Fault>, Option<Manager>) {
    let (sight, manager) = (OnceLock::new(), OnceLock::new());
    let placed = || {
        sight.get_or_init(services::look);
        // Where that cannot be told, it is done again.
        if let Ok(renewed) = activate::renew_manager(&RestartRule::default()) {
            manager.get_or_init(|| renewed);
        }
    };
    let restored = std::thread::scope(|threads| {
        let look = || {
            sight.get_or_init(services::look);
        };
        // A thread that cannot be had is none: it is asked afterwards.
        let _ = std::thread::Builder::new().spawn_scoped(threads, look);
        preimage::restore_and(Path::new("/"), &directory.join("preimage"), scope, known, placed)
    });
    let sight = sight.into_inner().unwrap_or_else(services::look);
    (restored.map_err(super::snapshot::preimage_fault), sight, manager.into_inner())
}

/// What the rehearsal made of each path. `None`: it cannot be read any more, and everything would look like somebody's.
fn made(directory: &Path) -> Option<Made> {
    let changes = overlay::read_delta(&directory.join(super::rehearse::DELTA)).ok()?;
    Some(overlay::made(&changes))
}

/// What our own hands have made of the paths by now, the old archives unpacked again: nobody else did that. What was
/// `kept` before is still somebody else's.
fn made_since(after: Manifest, scope: Scope<'_>, kept: &[String]) -> Result<Manifest, Fault> {
    let paths = after.keys().cloned().collect();
    let mut now = preimage::observe_all(Path::new("/"), &paths, scope)
        .map_err(super::snapshot::preimage_fault)?;
    let theirs = after.into_iter().filter(|(path, _)| kept.contains(&path.to_string()));
    now.extend(theirs);
    Ok(now)
}

/// Whoever configures the network may take so long to read its files.
const READS: Duration = Duration::from_secs(60);

/// Has whoever configures the network read its files again, where some of them were put back or taken away: without
/// the network nobody else can.
fn network_back(directory: &Path, taken_away: &[String], facts: &mut UndoFacts) {
    const READERS: [(&str, &str, &[&str]); 3] = [
        ("/etc/systemd/network", "systemd-networkd.service", &["networkctl", "reload"]),
        ("/etc/NetworkManager", "NetworkManager.service", &["nmcli", "general", "reload"]),
        ("/etc/network", "networking.service", &["systemctl", "try-restart", "networking.service"]),
    ];
    let delta = overlay::read_delta(&directory.join(super::rehearse::DELTA)).unwrap_or_default();
    for (place, reader, line) in READERS {
        let here = |path: &Path| path.starts_with(place);
        let touched = delta.iter().any(|c| !c.directory && here(c.path.as_path()))
            || taken_away.iter().any(|path| here(Path::new(path)));
        if !touched || !unit::active_state(reader).is_ok_and(|state| state == "active") {
            continue;
        }
        let said = command::run(command::command(line[0]).args(&line[1..]), Some(READS));
        facts.notes.push(match said {
            Ok(output) if output.success() => format!("{reader} reads {place} again"),
            Ok(output) => format!("{reader} does not read {place} again: {}", output.tail(1)),
            Err(e) => format!("{reader} does not read {place} again: {e}"),
        });
    }
}

fn old_archives(tx: &Transaction<'_>, directory: &Path, facts: &mut UndoFacts) {
    let Ok(archives) = apply::dpkg_archives(&directory.join("archives/old")) else { return };
    if archives.is_empty() {
        return;
    }
    let changing = || {
        let mut dpkg = dpkg::changing(ConffileRule::Keep);
        dpkg.arg("--force-downgrade");
        dpkg
    };
    let job = Job::new(tx, directory, UNPACK);
    let run = |dpkg: &mut std::process::Command| job.run(dpkg, None);
    match dpkg::install(changing, &archives, run, |e| super::io_fault("run dpkg")(e)) {
        Ok(output) => {
            facts.notes.push(format!("the old archives were unpacked again ({})", output.ending()))
        }
        Err(fault) => {
            facts.notes.push(format!("the old archives could not be unpacked: {}", fault.message))
        }
    }
}

/// The package database must be whole and name the old versions. Gives what is not so.
fn packages_back(
    directory: &Path,
    before: &Baseline,
    is_excused: &(dyn Fn(&Path) -> bool + Sync),
) -> Result<Vec<String>, Fault> {
    let progress =
        journal::read(directory).ok().and_then(|c| Progress::fold(&c.entries).ok().flatten());
    let Some(Order::Apply(order)) = progress.map(|p| p.assignment.order) else {
        return Ok(vec!["the journal of the change to undo cannot be read".into()]);
    };
    let mut differing = Vec::new();
    let names: Vec<String> =
        order.changes.iter().map(|c| format!("{}:{}", c.name, c.architecture)).collect();
    let audit = dpkg::audit().map_err(super::io_fault("run dpkg --audit"))?;
    if !audit.is_empty() {
        differing.push(format!("dpkg --audit: {}", command::tail(&audit, 2)));
    }
    let now = dpkg::versions(&names).map_err(super::io_fault("ask the package database"))?;
    for change in &order.changes {
        let name = format!("{}:{}", change.name, change.architecture);
        let is = now.get(&name).map_or("", String::as_str);
        if is != change.from {
            differing.push(format!("{name} is at `{is}`, it was at `{}`", change.from));
        }
    }
    let lines = dpkg::verify(&names).map_err(super::io_fault("run dpkg --verify"))?;
    differing.extend(complaints(lines, &before.verify, is_excused));
    Ok(differing)
}

/// What `dpkg --verify` complains of now and did not before, but for what is excused.
fn complaints(
    lines: Vec<String>,
    before: &[String],
    is_excused: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    // `??5??????   /usr/bin/x`
    let excused = |line: &str| line.find('/').is_some_and(|at| is_excused(Path::new(&line[at..])));
    let new = lines.into_iter().filter(|line| !before.contains(line) && !excused(line));
    new.map(|line| format!("dpkg --verify: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_somebody_has_edited_since_is_no_complaint_about_the_undo() {
        let lines =
            ["??5??????   /usr/share/a", "??5??????   /usr/share/b", "missing     /usr/share/c"];
        let lines = || lines.map(str::to_owned).to_vec();
        let before = ["missing     /usr/share/c".to_owned()];
        let told = complaints(lines(), &before, &|path| path == Path::new("/usr/share/a"));
        assert_eq!(told, ["dpkg --verify: ??5??????   /usr/share/b"]);
        assert_eq!(complaints(lines(), &[], &|_| false).len(), 3);
    }
}
