//! The reboot that a change may need to be of use. The journal is carried across it: the agent that starts afterwards
//! finds activate interrupted and looks again: at the kernel that runs, and at the boot's own name, since an agent that is
//! started again before the machine went down has come back from nothing. And the reboot back, where the kernel that runs was taken away again.

use super::{Transaction, fault, io_fault, read_kept, trial};
use crate::durable;
use crate::inventory::kernel::{self, Running};
use crate::unit;
use fettle_core::Timestamp;
use fettle_core::assignment::RebootRule;
use fettle_core::transaction::{Fault, StepFacts};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tries {
    count: u32,
    /// Of those, how many with a new kernel on trial.
    trials: u32,
    /// The kernel that ran before the first.
    before: Running,
    /// Reboots to get back to it.
    back: u32,
    /// The boot in which the last was asked for. Records of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked_in: Option<String>,
    /// How often a reboot that had been noted was asked for again.
    #[serde(default, skip_serializing_if = "is_none")]
    again: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands in a reference
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// What became of the reboot that was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// None was asked for, or the host has come up since.
    Over,
    /// It was noted and not asked for: whoever did died in between.
    Noted,
    /// The host is about to go down.
    Pending,
}

/// `boot`: the boot that is now; `told`: was the host told to go down, and has no boot come since?
fn asked(tries: &Tries, boot: Option<&str>, told: bool) -> Asked {
    match (tries.asked_in.as_deref(), boot) {
        (Some(then), Some(now)) if then != now => Asked::Over,
        (Some(_), Some(_)) if !told => Asked::Noted,
        (Some(_), Some(_)) => Asked::Pending,
        // Without the boots' names, what was told counts: it is forgotten with the boot.
        _ if told && tries.count + tries.back > 0 => Asked::Pending,
        _ => Asked::Over,
    }
}

/// What to do about a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// None is owed.
    NotOwed,
    /// One is owed and will not be made now: why.
    Left(&'static str),
    /// Now: one more try.
    Reboot,
    /// Now: the try that is counted already.
    AskAgain,
    /// It is under way.
    Wait,
    /// It was tried as often as is sensible.
    GiveUp,
}

fn decide(
    owed: bool,
    rule: RebootRule,
    booted: bool,
    open: bool,
    tries: &Tries,
    asked: Asked,
) -> Decision {
    let in_vain = match asked {
        // A try that was not made was not in vain. But where every boot has the same name (a container that has none of
        // its own) this must end as well.
        Asked::Noted => tries.again >= MAX_TRIES,
        _ => tries.count >= MAX_TRIES || tries.trials >= MAX_TRIALS,
    };
    match (rule, asked) {
        // Whatever else holds by now: the host goes down, and what it is afterwards is looked at then.
        (RebootRule::WhenNeeded, Asked::Pending) if booted => Decision::Wait,
        _ if !owed => Decision::NotOwed,
        (RebootRule::Never, _) => Decision::Left("the policy reboots nothing"),
        (RebootRule::WhenNeeded, _) if !booted => Decision::Left("systemd does not run here"),
        (RebootRule::WhenNeeded, _) if in_vain => Decision::GiveUp,
        (RebootRule::WhenNeeded, _) if !open => {
            Decision::Left("the assignment's window has closed")
        }
        (RebootRule::WhenNeeded, Asked::Over) => Decision::Reboot,
        (RebootRule::WhenNeeded, _) => Decision::AskAgain,
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
    let asked = asked(&tries, boot().as_deref(), told(tx).exists());
    if tries.count > 0 && asked == Asked::Over {
        unit::wait_started();
        facts.notes.push(format!("rebooted {} times for this change", tries.count));
    }
    let open = Timestamp::now() < tx.assignment.expires_at;
    match decide(!owed.is_empty(), tx.order.reboot, unit::booted(), open, &tries, asked) {
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
        Decision::Wait => wait(tx),
        decision @ (Decision::Reboot | Decision::AskAgain) => {
            let mut tries = tries;
            let is_new = decision == Decision::Reboot;
            if is_new && tries.count == 0 {
                tries.before = kernel::running();
            }
            tries.count += u32::from(is_new);
            tries.again += u32::from(!is_new);
            let new = kernel::pending(tx.settings);
            match new.map(|new| trial::arrange(tx, &tries.before.release, &new)).transpose()? {
                Some(Ok(())) => tries.trials += u32::from(is_new),
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
    let asked = match own.back {
        0 => Asked::Over,
        _ => asked(&own, boot().as_deref(), told(tx).exists()),
    };
    if asked == Asked::Pending && unit::booted() {
        return wait(tx).map(|()| None);
    }
    if running == then.before || !unit::booted() || kernel::is_installed(tx.settings) {
        let note = || format!("rebooted into {}, which ran before", running.release);
        return Ok((own.back > 0).then(note));
    }
    let is_new = asked == Asked::Over;
    if (is_new && own.back >= MAX_TRIES) || (!is_new && own.again >= 2 * MAX_TRIES) {
        let (running, before) = (running.release, then.before.release);
        return Err(fault(
            "reboot-in-vain",
            format!("the host runs {running}, whose package is gone, and not {before}"),
            "choose the old kernel in the boot loader's menu",
        ));
    }
    let (back, again) = (own.back + u32::from(is_new), own.again + u32::from(!is_new));
    reboot(tx, &Tries { back, again, ..own }).map(|()| None)
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

/// The name that the kernel gave this boot.
fn boot() -> Option<String> {
    kernel::boot_id().ok().filter(|boot| !boot.is_empty())
}

/// The file that says that the host was told to go down. What is in the runtime directory does not outlive the boot.
fn told(tx: &Transaction<'_>) -> PathBuf {
    tx.settings.runtime_dir.join("reboot-asked")
}

fn reboot(tx: &Transaction<'_>, tries: &Tries) -> Result<(), Fault> {
    // Where that directory does outlive it, the file is of an earlier boot.
    durable::remove(&told(tx)).map_err(io_fault("note the reboot"))?;
    tx.keep(TRIES, &Tries { asked_in: boot(), ..tries.clone() })?;
    crate::executor::guard_boot(tx.settings)
        .map_err(io_fault("have the transaction taken up after the reboot"))?;
    std::fs::create_dir_all(&tx.settings.runtime_dir)
        .and_then(|()| std::fs::write(told(tx), tx.id().as_str()))
        .map_err(io_fault("note the reboot"))?;
    unit::systemctl(&["reboot"]).map_err(io_fault("reboot"))?;
    wait(tx)
}

/// Waits for the host to go down. An agent that is started again before it does waits here, too.
fn wait(tx: &Transaction<'_>) -> Result<(), Fault> {
    std::thread::sleep(PATIENCE);
    let _ = std::fs::remove_file(told(tx));
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
        let closed = || Decision::Left("the assignment's window has closed");
        for (owed, rule, booted, open, (count, trials), expected) in [
            (false, WhenNeeded, true, true, (0, 0), Decision::NotOwed),
            (false, WhenNeeded, true, true, (3, 0), Decision::NotOwed),
            (true, Never, true, true, (0, 0), Decision::Left("the policy reboots nothing")),
            (true, WhenNeeded, true, true, (0, 0), Decision::Reboot),
            (true, WhenNeeded, true, true, (2, 0), Decision::Reboot),
            (true, WhenNeeded, true, true, (1, 1), Decision::Reboot),
            (true, WhenNeeded, true, true, (2, 2), Decision::GiveUp),
            (true, WhenNeeded, true, true, (3, 0), Decision::GiveUp),
            (true, WhenNeeded, true, false, (0, 0), closed()),
            (true, WhenNeeded, true, false, (3, 0), Decision::GiveUp),
            (true, WhenNeeded, false, true, (0, 0), Decision::Left("systemd does not run here")),
        ] {
            let tries = tried(count, trials);
            assert_eq!(decide(owed, rule, booted, open, &tries, Asked::Over), expected);
        }
        let again = Tries { again: 3, ..tried(1, 0) };
        let decided = decide(true, WhenNeeded, true, true, &again, Asked::Noted);
        assert_eq!(decided, Decision::GiveUp, "where every boot has the same name");
        for (asked, owed, rule, booted, open, (count, trials), expected) in [
            // Not counted as come back, however often it was tried.
            (Asked::Pending, true, WhenNeeded, true, true, (1, 0), Decision::Wait),
            (Asked::Pending, true, WhenNeeded, true, true, (3, 0), Decision::Wait),
            (Asked::Pending, true, WhenNeeded, true, false, (2, 2), Decision::Wait),
            (Asked::Pending, false, WhenNeeded, true, true, (1, 1), Decision::Wait),
            (Asked::Noted, true, WhenNeeded, true, true, (1, 0), Decision::AskAgain),
            (Asked::Noted, true, WhenNeeded, true, true, (3, 0), Decision::AskAgain),
            (Asked::Noted, true, WhenNeeded, true, true, (2, 2), Decision::AskAgain),
            (Asked::Noted, true, WhenNeeded, true, false, (1, 0), closed()),
            (Asked::Noted, false, WhenNeeded, true, true, (1, 0), Decision::NotOwed),
            (
                Asked::Noted,
                true,
                WhenNeeded,
                false,
                true,
                (1, 0),
                Decision::Left("systemd does not run here"),
            ),
        ] {
            let tries = tried(count, trials);
            assert_eq!(decide(owed, rule, booted, open, &tries, asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn the_same_boot_is_no_reboot() {
        for (count, asked_in, boot, told, expected) in [
            (0, None, Some("a"), false, Asked::Over),
            (1, Some("a"), Some("b"), false, Asked::Over),
            // What should have gone with the boot and did not.
            (1, Some("a"), Some("b"), true, Asked::Over),
            (1, Some("a"), Some("a"), true, Asked::Pending),
            (1, Some("a"), Some("a"), false, Asked::Noted),
            (1, None, Some("a"), true, Asked::Pending),
            (1, None, Some("a"), false, Asked::Over),
            (1, Some("a"), None, true, Asked::Pending),
            (1, Some("a"), None, false, Asked::Over),
            (0, None, None, true, Asked::Over),
        ] {
            let tries = Tries { count, asked_in: asked_in.map(str::to_owned), ..Tries::default() };
            assert_eq!(asked(&tries, boot, told), expected, "{asked_in:?} {boot:?} {told}");
        }
    }

    #[test]
    fn what_earlier_versions_noted_is_still_read() {
        let old = r#"{"count":2,"trials":1,"before":{"release":"6.1.0-27-amd64","version":"v"},"back":0}"#;
        let tries: Tries = serde_json::from_str(old).unwrap();
        assert_eq!((tries.count, tries.trials, &tries.asked_in), (2, 1, &None));
        assert_eq!(serde_json::to_string(&tries).unwrap(), old);
    }
}
