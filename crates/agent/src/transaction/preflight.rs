//! Preflight: everything that can be refused without touching the host is refused here.

use super::{StepResult, Transaction, fault, io_fault};
use crate::command::{self, command};
use crate::packages::{PackagesError, Resolution, apt};
use fettle_core::Timestamp;
use fettle_core::transaction::{Fault, StepFacts};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Another package manager is waited for so long, then the host refuses.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// The host's clock may be behind the signer's by so much, in seconds.
const CLOCK_SLACK: i64 = 300;
/// An archive unpacks to so many times its size, with what dpkg keeps beside it meanwhile.
const UNPACKED: u64 = 5;
/// Room that stays free in any case, in bytes.
const MARGIN: u64 = 64 << 20;

/// Runs the step.
///
/// # Errors
/// The first reason to refuse.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    if !rustix::process::geteuid().is_root() {
        return Err(fault("not-root", "changing packages needs root", "run fettle-agent as root"));
    }
    if tx.changes().is_empty() {
        return Err(fault("nothing-to-do", "the order names no package", "make a new plan"));
    }
    clock(tx, Timestamp::now())?;
    clean(tx)?;
    lock(tx, &mut facts)?;
    held(tx)?;
    let differences = resolve(tx, &mut facts)?.differences(tx.changes());
    if !differences.is_empty() {
        return Err(fault(
            "plan-differs",
            format!(
                "the package manager would not do exactly what the plan says: {}",
                differences.join("; ")
            ),
            "the host changed since the plan was made: make a new plan",
        ));
    }
    space(tx, &mut facts)?;
    unsafe_io(&mut facts);
    other_tools(&mut facts);
    Ok(facts)
}

fn clock(tx: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    let order = tx.assignment;
    if now.as_second() < order.issued_at.as_second() - CLOCK_SLACK {
        return Err(fault(
            "clock",
            format!("the order was signed at {}, this host's clock says {now}", order.issued_at),
            "set the clock (timedatectl), then try again",
        ));
    }
    if now < order.not_before {
        return Err(fault(
            "too-early",
            format!("not to be started before {}", order.not_before),
            "wait for the window",
        ));
    }
    if now > order.expires_at {
        return Err(fault(
            "expired",
            format!("not to be started after {}", order.expires_at),
            "plan it again",
        ));
    }
    Ok(())
}

fn clean(tx: &Transaction<'_>) -> Result<(), Fault> {
    match tx.driver.audit() {
        Ok(lines) if lines.is_empty() => Ok(()),
        Ok(lines) => Err(fault(
            "half-configured",
            format!("packages were half-configured before anything was done: {}", lines.join("; ")),
            "repair them (dpkg --configure -a), look at `dpkg --audit`, then try again",
        )),
        Err(e) => Err(packages(e)),
    }
}

pub(super) fn packages(e: PackagesError) -> Fault {
    let hint = match &e {
        PackagesError::Field { .. } => "the order is malformed: nothing was done",
        PackagesError::Unresolvable { .. } => {
            "look at `apt-get install --simulate` for these packages"
        }
        PackagesError::NoArchive { .. } | PackagesError::WrongArchive { .. } => {
            "refresh the package lists (apt-get update) and plan again"
        }
        _ => "look at the package manager's own words above",
    };
    fault("package-manager", e, hint)
}

/// Waits for the package manager's locks, with patience, never by removing one.
pub(super) fn lock(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        let Some(holder) = tx.driver.lock_holder().map_err(packages)? else {
            if begun.elapsed() > Duration::from_secs(1) {
                facts.notes.push(format!(
                    "waited {} s for another package manager",
                    begun.elapsed().as_secs()
                ));
            }
            return Ok(());
        };
        if begun.elapsed() > LOCK_PATIENCE {
            return Err(fault(
                "lock-held",
                format!(
                    "{} is held by {} (process {})",
                    holder.lock.display(),
                    holder.process,
                    holder.pid
                ),
                "wait for it to end, then try again; never remove the lock",
            ));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn held(tx: &Transaction<'_>) -> Result<(), Fault> {
    let held =
        super::dpkg::held(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    match held.first() {
        Some(name) => Err(fault(
            "package-held",
            format!("{name} is held on this host"),
            format!("leave it out of the plan, or release it: apt-mark unhold {name}"),
        )),
        None => Ok(()),
    }
}

/// What the package manager would do. Its lists may be older than the plan: then they are refreshed, once.
fn resolve(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<Resolution, Fault> {
    match tx.driver.simulate(tx.changes()) {
        Err(PackagesError::Unresolvable { .. }) => {
            let update = command::run(
                command("apt-get").args(["update", "-q"]).args(apt::caches(tx.settings)),
                None,
            )
            .map_err(io_fault("run apt-get"))?;
            facts.notes.push(format!(
                "package lists were older than the plan and were refreshed ({})",
                update.ending()
            ));
            tx.driver.simulate(tx.changes()).map_err(packages)
        }
        other => other.map_err(packages),
    }
}

/// A first estimate; the snapshot step asks again with what the rehearsal measured.
fn space(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let archives: u64 = tx.changes().iter().map(|c| c.size).sum();
    // State: new and old archives, preimage. Elsewhere: what is unpacked beside what it replaces.
    for (path, needs) in [
        (tx.settings.state_dir.as_path(), archives * (2 + UNPACKED) + MARGIN),
        (Path::new("/usr"), archives * UNPACKED + MARGIN),
        (Path::new("/var"), archives + MARGIN),
        (Path::new("/etc"), 1 << 20),
    ] {
        room(path, needs, 2000)?;
    }
    if tx.changes().iter().any(|c| c.name.starts_with("linux-image-")) {
        // A kernel with its initramfs: the old ones stay.
        room(Path::new("/boot"), 150 << 20, 10)?;
    }
    facts.notes.push(format!("{} packages, {archives} bytes of archives", tx.changes().len()));
    Ok(())
}

/// Refuses when a file system has too little room or too few inodes.
pub(super) fn room(path: &Path, needs: u64, inodes: u64) -> Result<(), Fault> {
    let Ok(fs) = rustix::fs::statvfs(path) else { return Ok(()) }; // not there: nothing goes there
    let free = fs.f_bavail * fs.f_frsize;
    let hint = "free some space, or enlarge the file system, then try again";
    if free < needs {
        let message = format!("{} has {free} bytes free, the change needs {needs}", path.display());
        return Err(fault("no-space", message, hint));
    }
    // btrfs counts no inodes: it says 0 of 0.
    if fs.f_files > 0 && fs.f_favail < inodes {
        let message = format!(
            "{} has {} inodes free, the change needs {inodes}",
            path.display(),
            fs.f_favail
        );
        return Err(fault("no-inodes", message, hint));
    }
    Ok(())
}

fn unsafe_io(facts: &mut StepFacts) {
    let mut files: Vec<_> = fs::read_dir("/etc/dpkg/dpkg.cfg.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    files.push("/etc/dpkg/dpkg.cfg".into());
    for file in files {
        if fs::read_to_string(&file).is_ok_and(|t| {
            t.lines().any(|l| l.trim().trim_start_matches("--") == "force-unsafe-io")
        }) {
            facts.notes.push(format!(
                "{} sets force-unsafe-io: a power cut may lose files dpkg wrote",
                file.display()
            ));
        }
    }
}

fn other_tools(facts: &mut StepFacts) {
    if !crate::unit::booted() {
        facts.notes.push(
            "systemd does not run here: the package manager runs as a plain child of the agent"
                .into(),
        );
        return;
    }
    for unit in ["apt-daily-upgrade.timer", "unattended-upgrades.service", "packagekit.service"] {
        if crate::unit::active_state(unit).is_ok_and(|s| s == "active") {
            facts.notes.push(format!("{unit} is active and may change packages on its own"));
        }
    }
}
