//! Who takes up a transaction whose agent died, or whose host lost its power.
//!
//! A host with a server has an agent that systemd starts again, also after a boot. On a host without one, `patch` may
//! die with the terminal it was typed into, and nothing is started at boot: from the moment that the host is about to
//! be changed until the transaction has ended, systemd is asked to see to it.

use crate::settings::Settings;
use crate::unit;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Asks again and again while the host is up.
const TAKE_UP: &str = "fettle-agent-resume";
/// The same after a boot: timers do not outlive it.
const AT_BOOT: &str = "fettle-agent-resume-at-boot";
/// How long after the agent was killed it is taken up, in seconds.
const TAKE_UP_SECONDS: u32 = 20;
const ETC: &str = "/etc";

/// Has systemd ask every few seconds, and at every boot, whether a transaction was left alone. While somebody carries it
/// on, its journal is locked, and asking does nothing. Asking for it twice is harmless.
pub(super) fn stand(settings: &Settings) {
    if !unit::booted() || !matches!(crate::identity::load(settings), Ok(None)) {
        return;
    }
    let description = "Fettle: takes up a transaction whose agent died";
    let program = crate::overlay::installed_program();
    let armed = unit::repeat(TAKE_UP, description, TAKE_UP_SECONDS, &program, &["resume"]);
    if let Err(error) = armed {
        eprintln!("<4>nobody takes this transaction up if its agent dies: {error}");
    }
    if let Err(error) = guard_boot(settings) {
        eprintln!("<4>nobody takes this transaction up if the power fails: {error}");
    }
}

/// The part of it that outlives a boot. A reboot that the transaction makes itself is not made without it.
pub(crate) fn guard_boot(settings: &Settings) -> io::Result<()> {
    if !matches!(crate::identity::load(settings), Ok(None)) {
        return Ok(());
    }
    let description = "Fettle: takes up a transaction after a boot";
    let program = crate::overlay::installed_program();
    unit::at_boot(Path::new(ETC), AT_BOOT, description, &program, &["resume"])
}

/// The transaction has ended.
pub(super) fn away() {
    if unit::booted() {
        unit::stop_repeating(TAKE_UP);
        unit::not_at_boot(Path::new(ETC), AT_BOOT);
    }
}

/// Where the host is still booting, waits until it has come up.
pub(super) fn wait_started() {
    if unit::booted() {
        unit::wait_started();
    }
}

/// Is it one of the files that this module writes below `/etc` for the time of a transaction? They are neither part of
/// what a change did nor put back by an undo.
pub(crate) fn is_own(path: &Path) -> bool {
    let is_named = |name: &OsStr| name.as_bytes().starts_with(AT_BOOT.as_bytes());
    path.starts_with("/etc/systemd/system") && path.file_name().is_some_and(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_guard_is_no_part_of_what_is_kept_for_the_way_back_and_its_neighbours_are() {
        let units = Path::new("/etc/systemd/system");
        for own in [
            "fettle-agent-resume-at-boot.service",
            "fettle-agent-resume-at-boot.service.new",
            "multi-user.target.wants/fettle-agent-resume-at-boot.service",
        ] {
            assert!(crate::preimage::excluded(&units.join(own)), "{own}");
        }
        for other in ["fettle-agent.service", "multi-user.target.wants/ssh.service", ""] {
            assert!(!crate::preimage::excluded(&units.join(other)), "{other}");
        }
    }
}
