//! Verify: against the host's own baseline, and that no process maps a replaced file any more.

use super::apply::{Verdict, judge};
use super::{
    StepResult, Transaction, activate, baseline, confirm, deadman, dpkg, fault, io_fault, progress,
};
use crate::executor::Grant;
use crate::unit;
use fettle_core::transaction::{Fault, StepFacts};
use std::time::{Duration, Instant};

/// Services have so long to come back.
pub(super) const SETTLE: Duration = Duration::from_secs(30);
/// What is good must stay good for so long: a service that dies at once was up for a moment.
const STEADY: Duration = Duration::from_secs(2);
/// Pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

/// Runs the step.
///
/// # Errors
/// The first thing that is not as before, or not as planned.
pub fn run(tx: &Transaction<'_>, grant: &dyn Grant) -> StepResult {
    let mut facts = StepFacts::default();
    match judge(tx)? {
        Verdict::New => {}
        Verdict::Old => return Err(differs("the packages are at their old versions".into())),
        Verdict::Mixed(why) => return Err(differs(why)),
    }
    facts.versions =
        dpkg::versions(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    settle(tx, &mut facts)?;
    memory(tx, &mut facts)?;
    deadman::wait(tx, grant, &mut facts)?;
    let confirmed = confirm::wait(tx, &mut facts);
    progress::clear(tx.settings);
    confirmed?;
    Ok(facts)
}

fn differs(why: String) -> Fault {
    fault("package-database", why, "it is being undone; see /var/log/dpkg.log")
}

/// Looks until everything is as before and stays so, or patience ends.
fn settle(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let before = baseline::read(&tx.directory)?.sight;
    let commands = tx.settings.config_dir.join("probes.d");
    let begun = Instant::now();
    let mut good_since: Option<Instant> = None;
    loop {
        let now = baseline::look(&tx.order.probes, &commands)?;
        let worse = baseline::worse(&before, &now, tx.order.latency_margin_percent);
        if worse.is_empty() {
            let since = *good_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= STEADY {
                let active = now.services.iter().filter(|s| s.active == "active").count();
                facts.notes.push(format!(
                    "{active} services active, {} sockets listening, as before",
                    now.listeners.len()
                ));
                for answer in now.answers.iter().filter(|a| a.wrong.is_none()) {
                    facts.notes.push(format!(
                        "probe `{}`: good, {} ms",
                        answer.question,
                        answer.microseconds / 1000
                    ));
                }
                return Ok(());
            }
        } else {
            good_since = None;
            // A unit that has failed for good does not come back by waiting; one that restarts may.
            let hopeless =
                worse.iter().any(|w| w.ends_with("is failed") || w.ends_with("has failed"));
            if begun.elapsed() > SETTLE || (hopeless && begun.elapsed() > STEADY * 3) {
                let probe = worse.iter().any(|w| w.starts_with("probe"));
                let unit = worse.iter().any(|w| !w.starts_with("probe"));
                let code = if probe && !unit { "probe-failed" } else { "service-not-back" };
                return Err(fault(
                    code,
                    worse.join("; "),
                    "it is being undone; see `journalctl -b -u UNIT`",
                ));
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// No process maps a replaced file, but those that were spared.
fn memory(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        let stale = crate::inventory::processes::stale()
            .map_err(io_fault("look for processes that map replaced files"))?;
        let left = activate::decide(&stale, &tx.order.restart);
        let due: Vec<String> = left.now.into_iter().chain(left.last).collect();
        if due.is_empty() || !unit::booted() {
            facts.spared =
                left.spared.into_iter().map(|(unit, _)| unit).filter(|u| !u.is_empty()).collect();
            facts.notes.push(if stale.is_empty() {
                "no process maps a replaced file".into()
            } else {
                format!("{} processes still map replaced files, all of them spared", stale.len())
            });
            return Ok(());
        }
        if begun.elapsed() > STEADY * 5 {
            return Err(fault(
                "still-mapped",
                format!("replaced files are still mapped after the restart of {}", due.join(", ")),
                "it is being undone; these units ignore a restart, or start others that do: spare them in the policy",
            ));
        }
        std::thread::sleep(PAUSE);
    }
}
