//! System calls that fail as they do on a disk that dies: the agent's own, and dpkg's.

use super::kills::{self, AtCall};
use super::{Extent, Stand};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost};

/// In the words of `strace(1)`: a call that is not made, and is said to have failed for the disk.
const EIO: &str = "error=EIO";

/// The agent's own calls fail, one at a time: of a change, and of an undo.
pub(super) fn of_agent(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let (of_patch, of_undo) = match extent {
        Extent::Short => (4, 2),
        Extent::Full => (60, 24),
    };
    kills::at_own_calls(stand, of_patch, of_undo, failed_at)
}

/// Runs a command of the agent, one of whose calls fails. `false`: it was not made.
fn failed_at(host: &LabHost, command: &str, call: &str, when: u32) -> Result<bool, LabError> {
    let script = format!(
        "strace -o /root/error.log -e trace={call} -e inject={call}:{EIO}:when={when} {command}; \
         grep -c '(INJECTED)' /root/error.log"
    );
    Ok(host.sh(&script)?.stdout.trim_end().ends_with('1'))
}

/// Calls of dpkg, and of what it starts, fail, one at a time in each process.
pub(super) fn of_dpkg(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let most = match extent {
        Extent::Short => 2,
        Extent::Full => 60,
    };
    AtCall::prepare(stand.host())?;
    let to = stand.offer(AcmeWeb::Good)?;
    for point in AtCall::all(stand, &to, most)? {
        stand.run_if(&to, &point.to_string(), |s| {
            point.arm(s.host(), EIO)?;
            s.patch(&[], &[])?;
            AtCall::fired(s.host(), "(INJECTED)")
        })?;
    }
    Ok(())
}
