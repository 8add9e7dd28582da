//! The reboot that a change may need to be of use. The journal is carried across it: the agent that starts afterwards
//! finds activate interrupted and looks again.

use super::{Transaction, fault, io_fault};
use crate::unit;
use fettle_core::Timestamp;
use fettle_core::assignment::RebootRule;
use fettle_core::transaction::{Fault, StepFacts};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Name of the file that counts the tries; on disk, so it outlives them.
const TRIES: &str = "reboots.json";
/// A host that still owes the reboot after so many does not get another.
const MAX_TRIES: u32 = 3;
/// A machine that was told to reboot is gone by then.
const PATIENCE: Duration = Duration::from_secs(600);

/// The tries so far.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tries {
    count: u32,
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

fn decide(owed: bool, rule: RebootRule, booted: bool, open: bool, tries: u32) -> Decision {
    match rule {
        _ if !owed => Decision::NotOwed,
        RebootRule::Never => Decision::Left("the policy reboots nothing"),
        RebootRule::WhenNeeded if !booted => Decision::Left("systemd does not run here"),
        RebootRule::WhenNeeded if tries >= MAX_TRIES => Decision::GiveUp,
        RebootRule::WhenNeeded if !open => Decision::Left("the assignment's window has closed"),
        RebootRule::WhenNeeded => Decision::Reboot,
    }
}

/// Reboots the host if it owes a reboot and the order allows it; then it does not come back from here.
///
/// # Errors
/// When the reboot does not happen, or was made [`MAX_TRIES`] times and is still owed.
pub(super) fn where_owed(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let owed = crate::inventory::kernel::owed(tx.settings);
    let why = owed.join(", ");
    let tries = tx.kept::<Tries>(TRIES).unwrap_or_default().count;
    if tries > 0 {
        facts.notes.push(format!("rebooted {tries} times for this change"));
    }
    let open = Timestamp::now() < tx.assignment.expires_at;
    match decide(!owed.is_empty(), tx.order.reboot, unit::booted(), open, tries) {
        Decision::NotOwed => Ok(()),
        Decision::Left(reason) => {
            facts.notes.push(format!("a reboot is owed ({why}) and was not made: {reason}"));
            Ok(())
        }
        Decision::GiveUp => Err(fault(
            "reboot-in-vain",
            format!("after {tries} reboots another one is still owed: {why}"),
            "it is being undone; see whether the boot loader starts the new kernel",
        )),
        Decision::Reboot => reboot(tx, tries),
    }
}

fn reboot(tx: &Transaction<'_>, tries: u32) -> Result<(), Fault> {
    // What is in the runtime directory does not outlive the boot: an agent that is started again before the
    // machine goes down waits with the first.
    let asked = tx.settings.runtime_dir.join("reboot-asked");
    if !asked.exists() {
        tx.keep(TRIES, &Tries { count: tries + 1 })?;
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
        for (owed, rule, booted, open, tries, expected) in [
            (false, WhenNeeded, true, true, 0, Decision::NotOwed),
            (false, WhenNeeded, true, true, 3, Decision::NotOwed),
            (true, Never, true, true, 0, Decision::Left("the policy reboots nothing")),
            (true, WhenNeeded, true, true, 0, Decision::Reboot),
            (true, WhenNeeded, true, true, 2, Decision::Reboot),
            (true, WhenNeeded, true, true, 3, Decision::GiveUp),
            (
                true,
                WhenNeeded,
                true,
                false,
                0,
                Decision::Left("the assignment's window has closed"),
            ),
            (true, WhenNeeded, true, false, 3, Decision::GiveUp),
            (true, WhenNeeded, false, true, 0, Decision::Left("systemd does not run here")),
        ] {
            assert_eq!(decide(owed, rule, booted, open, tries), expected);
        }
    }
}
