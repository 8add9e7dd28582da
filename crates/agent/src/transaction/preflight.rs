//! Preflight: everything that can be refused without touching the host is refused here.

mod clock;
mod host;
pub(super) mod room;

use super::detached::{CONFIGURE, Job};
use super::{StepResult, Transaction, fault, io_fault};
use crate::command::{self, command};
use crate::packages::{Apt, Driver, PackagesError, Resolution, apt, index};
use crate::preimage::{self, Scope};
use crate::settings::Settings;
use crate::trusted::Untrusted;
use fettle_core::assignment::{HalfConfiguredRule, PackageChange};
use fettle_core::plan::space;
use fettle_core::transaction::{Fault, StepFacts};
use fettle_core::{Shared, Timestamp};
use room::Need;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Another package manager is waited for so long, then the host refuses.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// And asked for again after so long.
const LOCK_PAUSE: Duration = Duration::from_millis(250);

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
    let data = crate::data_paths::check(tx.settings).map_err(|message| {
        let hint = "mend that line, or take it away; what is declared there is never put back";
        fault("data-paths", message, hint)
    })?;
    // What is kept whatever the change touches: told here, it costs nobody a rehearsal.
    preimage::needs(Path::new("/"), &BTreeSet::new(), Scope::whole_but(&data))
        .map_err(super::snapshot::preimage_fault)?;
    host::programs(&tx.settings.config_dir, &tx.order.probes).map_err(untrusted)?;
    let newest = index::read(&tx.settings.host(index::LISTS)).newest();
    let odd = clock::judge(tx.assignment, newest, Timestamp::now())?;
    facts.notes.extend(odd);
    lock(tx, &mut facts)?;
    clean(tx, &mut facts)?;
    held(tx)?;
    facts.notes.extend(host::pinned(tx.settings, tx.changes())?);
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
    facts.notes.extend(host::unsafe_io(tx.settings));
    if crate::unit::booted() {
        let active = |unit: &str| crate::unit::active_state(unit).is_ok_and(|s| s == "active");
        facts.notes.extend(host::other_tools(active));
    } else {
        let note =
            "systemd does not run here: the package manager runs as a plain child of the agent";
        facts.notes.push(note.into());
    }
    Ok(facts)
}

/// What preflight would stumble over whatever the order: for `doctor`.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    /// Packages that somebody left half done, or why that cannot be asked.
    pub(crate) half_done: Result<Vec<String>, String>,
    /// Who holds the package manager's locks.
    pub(crate) lock: Result<Option<String>, String>,
    /// What is odd, and no reason to refuse.
    pub(crate) notes: Vec<String>,
}

/// Looks, and touches nothing.
pub(crate) fn look(settings: &Settings) -> Sight {
    let apt = Apt::new(settings);
    let half_done = apt.audit().map(|mut wrong| {
        let interrupted = host::interrupted(settings);
        if !interrupted.is_empty() {
            wrong.push(format!("dpkg was interrupted (updates {})", interrupted.join(", ")));
        }
        wrong
    });
    let mut notes = host::unsafe_io(settings);
    if crate::unit::booted() {
        let active = |unit: &str| crate::unit::active_state(unit).is_ok_and(|s| s == "active");
        notes.extend(host::other_tools(active));
    }
    Sight {
        half_done: half_done.map_err(|e| e.to_string()),
        lock: apt
            .lock_holder()
            .map(|held| held.map(|h| format!("{} (process {})", h.process, h.pid)))
            .map_err(|e| e.to_string()),
        notes,
    }
}

/// The repair that was asked for did not suffice: the one refusal before which something was changed.
pub(crate) const NOT_REPAIRED: &str = "not-repaired";

/// Refuses where somebody left packages half done, or repairs that first, if the order says so.
fn clean(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let wrong = half_done(tx)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let refused = |code, what: String| {
        let hint = "repair them (dpkg --configure -a), look at `dpkg --audit`, then try again";
        Err(fault(code, what, hint))
    };
    if tx.order.half_configured == HalfConfiguredRule::Refuse {
        return refused(
            "half-configured",
            format!("packages were half-configured before anything was done: {}", wrong.join("; ")),
        );
    }
    let mut dpkg = super::dpkg::changing(tx.order.conffiles);
    // The agent's own unit may do less than dpkg needs, and may be restarted.
    let output = Job::new(tx, &tx.directory, CONFIGURE)
        .run(dpkg.args(["--configure", "-a"]), super::apply::hung_after(tx))?;
    let left = half_done(tx)?;
    if !left.is_empty() {
        return refused(
            NOT_REPAIRED,
            format!(
                "packages were half-configured before anything was done, and dpkg --configure -a ({}) left: {}; it said: {}",
                output.ending(),
                left.join("; "),
                output.tail(3)
            ),
        );
    }
    facts.notes.push(format!("repaired by dpkg --configure -a: {}", wrong.join("; ")));
    Ok(())
}

fn half_done(tx: &Transaction<'_>) -> Result<Vec<String>, Fault> {
    let mut wrong = tx.driver.audit().map_err(packages)?;
    let interrupted = host::interrupted(tx.settings);
    if !interrupted.is_empty() {
        wrong.push(format!("dpkg was interrupted (updates {})", interrupted.join(", ")));
    }
    Ok(wrong)
}

/// A program that root would have to run and does not.
pub(super) fn untrusted(why: Untrusted) -> Fault {
    let hint = format!("{}, and look at what it holds; or take it away", why.mend);
    let message = format!("root does not run what others may change: {}", why.reason());
    fault("program-untrusted", message, hint)
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
    facts.notes.extend(wait_for_lock(tx.driver, LOCK_PATIENCE)?);
    Ok(())
}

/// Gives a line for people where it had to wait.
fn wait_for_lock(driver: &dyn Driver, patience: Duration) -> Result<Option<String>, Fault> {
    let begun = Instant::now();
    let mut last = None;
    loop {
        let Some(holder) = driver.lock_holder().map_err(packages)? else {
            return Ok(last
                .map(|holder| format!("waited {} ms for {holder}", begun.elapsed().as_millis())));
        };
        let who = match (holder.process.as_str(), holder.pid) {
            (_, 0) => "a process outside of this host's view".to_owned(),
            ("", pid) => format!("process {pid}"),
            (name, pid) => format!("{name} (process {pid})"),
        };
        if begun.elapsed() > patience {
            return Err(fault(
                "lock-held",
                format!(
                    "{} is held by {who}, for more than {} s",
                    holder.lock.display(),
                    patience.as_secs()
                ),
                "wait for it to end, then try again; never remove the lock",
            ));
        }
        last = Some(who);
        std::thread::sleep(LOCK_PAUSE);
    }
}

fn held(tx: &Transaction<'_>) -> Result<(), Fault> {
    let held =
        super::dpkg::held(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    if held.is_empty() {
        return Ok(());
    }
    Err(fault(
        "package-held",
        format!("held on this host: {}", held.join(", ")),
        format!("leave them out of the plan, or release them: apt-mark unhold {}", held.join(" ")),
    ))
}

/// What the package manager would do. Its lists may be older than the plan, or have expired: then they are refreshed,
/// once.
fn resolve(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<Resolution, Fault> {
    let why = match tx.driver.simulate(tx.changes()) {
        Ok(resolution) if expired(tx, &resolution).is_none() => return Ok(resolution),
        Ok(_) => "had expired",
        Err(PackagesError::Unresolvable { .. }) => "were older than the plan",
        Err(other) => return Err(packages(other)),
    };
    let update = command::run(
        command("apt-get").args(["update", "-q"]).args(apt::caches(tx.settings)),
        None,
    )
    .map_err(io_fault("run apt-get"))?;
    facts.notes.push(format!("package lists {why} and were refreshed ({})", update.ending()));
    let resolution = tx.driver.simulate(tx.changes()).map_err(packages)?;
    match expired(tx, &resolution) {
        None => Ok(resolution),
        Some(message) => Err(fault(
            "index-expired",
            message,
            "its mirror is stale, or held back by somebody: see what `apt-get update` says, and use another mirror",
        )),
    }
}

/// What is planned and offered only by an index that must no longer be used: whoever holds a mirror back could keep
/// a host at versions that are known to be bad.
fn expired(tx: &Transaction<'_>, resolution: &Resolution) -> Option<String> {
    let indexes = index::read(&tx.settings.host(index::LISTS));
    let now = Timestamp::now();
    resolution.steps.iter().filter(|s| !s.to.is_empty()).find_map(|step| {
        let release = indexes.expired(&step.releases, now)?;
        Some(format!(
            "{} {} is offered only by an index that has expired: {release}",
            step.name, step.to
        ))
    })
}

/// A first estimate; the snapshot step asks again with what the rehearsal measured.
fn space(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let archives: u64 = tx.changes().iter().map(|c| c.size).sum();
    room::check(&estimate(tx.changes(), &tx.settings.state_dir))?;
    facts.notes.push(format!("{} packages, {archives} bytes of archives", tx.changes().len()));
    Ok(())
}

/// Every place that a change of packages writes to.
fn estimate(changes: &[Shared<PackageChange>], state: &Path) -> Vec<Need> {
    let need = |it: space::Need| {
        let path = if it.place == space::STATE { state } else { Path::new(it.place) };
        Need::new(path, it.bytes, it.inodes)
    };
    space::needs(changes).into_iter().map(need).collect()
}

#[cfg(test)]
mod tests;
