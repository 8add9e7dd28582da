//! Clocks that are wrong, and clocks that step: on an emulated machine, which has one of its own.

use super::machines::{PATIENCE, SHORT, on_machine, wait_ended};
use super::{End, Extent, Stand};
use crate::{LabError, Machine};
use std::time::Duration;

/// Small, and nobody runs it.
const PACKAGE: &str = "unzip";

/// A year too early, a year too late, and a step back by two hours in the middle of a change.
pub(super) fn wrong(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, PACKAGE, "a year behind", "", |m, was| {
        refused(m, was, "-1 year", "clock says")
    })?;
    on_machine(stand, PACKAGE, "a year ahead", "", |m, was| {
        refused(m, was, "+1 year", "has expired")
    })?;
    on_machine(stand, PACKAGE, "two hours back in the middle", "", |m, was| {
        let wait = "systemd-run --quiet --collect --no-block -E FETTLE_WAIT_AT=apply:after fettle-agent patch";
        m.sh(&format!("touch /etc/fettle/allow-failpoints; {wait} {PACKAGE}"), SHORT)?;
        let reached = "for n in $(seq 1200); do [ -e /run/fettle-agent/waiting ] && exit 0; sleep 1; done; exit 1";
        m.sh(reached, PATIENCE)?;
        let fired = step(m, "-2 hours")?;
        m.sh("rm /run/fettle-agent/waiting", SHORT)?;
        wait_ended(m, 1, |_| Ok(()))?;
        // No timer is left that would undo it in two hours.
        let timers = m.sh("systemctl list-timers --all | grep -c fettle || true", SHORT)?;
        let end = was.judge(m, End::Patched)?;
        Ok((
            fired,
            match timers.trim() {
                "0" => end,
                left => Err(format!("{left} timers are left")),
            },
        ))
    })
}

/// Sets the machine's clock; by its time since boot, which does not step, it says whether the clock is where it was put.
fn step(machine: &Machine, by: &str) -> Result<bool, LabError> {
    let base = "$(( $(date +%s) - $(cut -d. -f1 /proc/uptime) ))";
    let script = format!("a={base}; date -s '{by}' > /dev/null; b={base}; echo $(( b - a ))");
    let moved: i64 = machine.sh(&script, SHORT)?.trim().parse().unwrap_or(0);
    const HOUR: i64 = 3600;
    Ok(moved.abs() > HOUR && (moved < 0) == by.starts_with('-'))
}

/// The agent refuses with these words, and nothing is changed.
fn refused(
    machine: &Machine,
    was: &super::machines::Was,
    step: &str,
    words: &str,
) -> Result<super::machines::Judged, LabError> {
    let fired = self::step(machine, step)?;
    let patience = Duration::from_secs(600);
    let line = format!("fettle-agent patch {PACKAGE} 2>&1 || true");
    let said = machine.sh(&line, patience)?;
    let end = was.judge(machine, End::Refused)?;
    Ok((
        fired,
        match said.contains(words) {
            true => end,
            false => Err(format!("it did not say `{words}`: {said}")),
        },
    ))
}
