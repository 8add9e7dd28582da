//! The reboot that a change may need to be of use. The journal is carried across it: the agent that starts afterwards
//! finds activate interrupted and looks again. And the reboot back, where the kernel that runs was taken away again.

use super::{Transaction, fault, io_fault, read_kept, trial};
use crate::inventory::kernel::{self, Running};
use crate::unit;
use fettle_core::Timestamp;
use fettle_core::assignment::RebootRule;
use fettle_core::transaction::{Fault, StepFacts};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Name of the file that counts the tries; on disk, so it outlives them.
const TRIES: &str = "reboots.json";
/// A host that still owes the reboot after so many does not get another.
const MAX_TRIES: u32 = 3;
/// A host that came up with the old kernel so often when a new one was on trial does not get another.
const MAX_TRIALS: u32 = 2;
/// A machine that was told to reboot is gone by then.
const PATIENCE: Duration = Duration::from_secs(600);

/// The tries so far.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tries {
    count: u32,
    /// Of those, how many with a new kernel on trial.
    trials: u32,
    /// The kernel that ran before the first.
    before: Running,
    /// Reboots to get back to it.
    back: u32,
}

/// What to do about a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// None is owed.
    NotOwed,
    /// One is owed and will not be made now: why.
    Left(&'static str),
    /// Now.
    Reboot,
    /// It was tried as often as is sensible.
    GiveUp,
}

fn decide(owed: bool, rule: RebootRule, booted: bool, open: bool, tries: &Tries) -> Decision {
    let in_vain = tries.count >= MAX_TRIES || tries.trials >= MAX_TRIALS;
    match rule {
        _ if !owed => Decision::NotOwed,
        RebootRule::Never => Decision::Left("the policy reboots nothing"),
        RebootRule::WhenNeeded if !booted => Decision::Left("systemd does not run here"),
        RebootRule::WhenNeeded if in_vain => Decision::GiveUp,
        RebootRule::WhenNeeded if !open => Decision::Left("the assignment's window has closed"),
        RebootRule::WhenNeeded => Decision::Reboot,
    }
}

/// Reboots the host if it owes a reboot and the order allows it; then it does not come back from here.
///
/// # Errors
/// When the reboot does not happen, or was made as often as is sensible and is still owed.
pub(super) fn where_owed(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let owed = kernel::owed(tx.settings);
    let why = owed.join(", ");
    let tries = tx.kept::<Tries>(TRIES).unwrap_or_default();
    if tries.count > 0 {
        unit::wait_started();
        facts.notes.push(format!("rebooted {} times for this change", tries.count));
    }
    let open = Timestamp::now() < tx.assignment.expires_at;
    match decide(!owed.is_empty(), tx.order.reboot, unit::booted(), open, &tries) {
        Decision::NotOwed => {
            if trial::clear(tx)? {
                facts.notes.push(format!("the host came up with {}", kernel::running().release));
            }
            Ok(())
        }
        Decision::Left(reason) => {
            facts.notes.push(format!("a reboot is owed ({why}) and was not made: {reason}"));
            Ok(())
        }
        Decision::GiveUp => Err(fault(
            "reboot-in-vain",
            format!("after {} reboots another one is still owed: {why}", tries.count),
            match tries.trials {
                0 => "it is being undone; see whether the boot loader starts the new kernel",
                _ => {
                    "it is being undone; the new kernel was tried, and the host came up with the old one: see `journalctl -b -1` and the console"
                }
            },
        )),
        Decision::Reboot => {
            let mut tries = tries;
            if tries.count == 0 {
                tries.before = kernel::running();
            }
            tries.count += 1;
            let new = kernel::pending(tx.settings);
            match new.map(|new| trial::arrange(tx, &tries.before.release, &new)).transpose()? {
                Some(Ok(())) => tries.trials += 1,
                Some(Err(why)) => {
                    facts.notes.push(format!("the new kernel is not tried first: {why}"))
                }
                None => {}
            }
            reboot(tx, &tries)
        }
    }
}

/// After an undo of the change in `directory`: reboots into the kernel that ran before, where the one that runs came
/// with the change and is gone. Then it does not come back from here, and the undo, taken up after the boot, finds
/// nothing left to do.
///
/// # Errors
/// When the host did not come up with that kernel.
pub(super) fn back(tx: &Transaction<'_>, directory: &Path) -> Result<Option<String>, Fault> {
    let Some(then) = made(directory) else { return Ok(None) };
    let (running, own) = (kernel::running(), tx.kept::<Tries>(TRIES).unwrap_or_default());
    if running == then.before || !unit::booted() || kernel::is_installed(tx.settings) {
        let note = || format!("rebooted into {}, which ran before", running.release);
        return Ok((own.back > 0).then(note));
    }
    if own.back >= MAX_TRIES {
        let (running, before) = (running.release, then.before.release);
        return Err(fault(
            "reboot-in-vain",
            format!("the host runs {running}, whose package is gone, and not {before}"),
            "choose the old kernel in the boot loader's menu",
        ));
    }
    reboot(tx, &Tries { back: own.back + 1, ..own }).map(|()| None)
}

/// Waits for the boot to end, where the change in `directory` has rebooted the host.
pub(super) fn settle(directory: &Path) {
    if made(directory).is_some() {
        unit::wait_started();
    }
}

/// The reboots that the change in `directory` made, if any.
fn made(directory: &Path) -> Option<Tries> {
    read_kept::<Tries>(directory, TRIES).filter(|tries| tries.count > 0)
}

fn reboot(tx: &Transaction<'_>, tries: &Tries) -> Result<(), Fault> {
    // What is in the runtime directory does not outlive the boot: an agent that is started again before the
    // machine goes down waits with the first.
    let asked = tx.settings.runtime_dir.join("reboot-asked");
    if !asked.exists() {
        tx.keep(TRIES, tries)?;
        crate::executor::guard_boot(tx.settings)
            .map_err(io_fault("have the transaction taken up after the reboot"))?;
        std::fs::create_dir_all(&tx.settings.runtime_dir)
            .and_then(|()| std::fs::write(&asked, tx.id().as_str()))
            .map_err(io_fault("note the reboot"))?;
        unit::systemctl(&["reboot"]).map_err(io_fault("reboot"))?;
    }
    std::thread::sleep(PATIENCE);
    let _ = std::fs::remove_file(&asked);
    Err(fault(
        "reboot-failed",
        format!("the host was told to reboot and was still there after {} s", PATIENCE.as_secs()),
        "it is being undone; see what holds the shutdown: systemctl list-jobs",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RebootRule::{Never, WhenNeeded};

    #[test]
    fn a_reboot_is_made_only_where_it_is_owed_allowed_and_not_in_vain() {
        let tried = |count, trials| Tries { count, trials, ..Tries::default() };
        for (owed, rule, booted, open, (count, trials), expected) in [
            (false, WhenNeeded, true, true, (0, 0), Decision::NotOwed),
            (false, WhenNeeded, true, true, (3, 0), Decision::NotOwed),
            (true, Never, true, true, (0, 0), Decision::Left("the policy reboots nothing")),
            (true, WhenNeeded, true, true, (0, 0), Decision::Reboot),
            (true, WhenNeeded, true, true, (2, 0), Decision::Reboot),
            (true, WhenNeeded, true, true, (1, 1), Decision::Reboot),
            (true, WhenNeeded, true, true, (2, 2), Decision::GiveUp),
            (true, WhenNeeded, true, true, (3, 0), Decision::GiveUp),
            (
                true,
                WhenNeeded,
                true,
                false,
                (0, 0),
                Decision::Left("the assignment's window has closed"),
            ),
            (true, WhenNeeded, true, false, (3, 0), Decision::GiveUp),
            (true, WhenNeeded, false, true, (0, 0), Decision::Left("systemd does not run here")),
        ] {
            assert_eq!(decide(owed, rule, booted, open, &tried(count, trials)), expected);
        }
    }
}
