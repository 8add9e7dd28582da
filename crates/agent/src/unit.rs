//! systemd, asked and told by its own tools: `systemctl(1)`, `systemd-run(1)`.

use crate::command::{self, command};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Asking takes no longer than this; restarting has systemd's own time-outs.
const DEADLINE: Duration = Duration::from_secs(90);

/// Is systemd the init of this host (`sd_booted(3)`)?
pub fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs `systemctl`; an error tells what it said.
///
/// # Errors
/// When it cannot be run or ends with an error.
pub fn systemctl(arguments: &[&str]) -> io::Result<String> {
    let output = command::run(command("systemctl").arg("--no-ask-password").args(arguments), None)?;
    if output.success() {
        return Ok(output.text);
    }
    let said = if output.text.trim().is_empty() { output.ending() } else { output.tail(3) };
    Err(io::Error::other(format!("systemctl {}: {said}", arguments.join(" "))))
}

/// `ActiveState` of a unit: `active`, `failed`, `inactive`, ... A unit that nobody knows is `inactive`.
///
/// # Errors
/// When `systemctl` cannot be run.
pub fn active_state(unit: &str) -> io::Result<String> {
    let arguments = ["show", "--property=ActiveState", "--value", "--", unit];
    let output = command::run(command("systemctl").args(arguments), Some(DEADLINE))?;
    Ok(output.text.trim().to_owned())
}

/// Starts a program in a transient unit of its own: it lives on when this process is stopped or killed.
///
/// # Errors
/// When systemd does not start it.
pub fn run_detached(
    unit: &str,
    description: &str,
    program: &Path,
    arguments: &[OsString],
) -> io::Result<()> {
    let mut run = command("systemd-run");
    run.args(["--quiet", "--collect", "--no-ask-password", "--service-type=exec"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--description={description}"))
        // Stopping the unit or the machine asks this process; the package manager below it is left to finish.
        .args([
            "--property=KillMode=process",
            "--property=SendSIGKILL=no",
            "--property=TimeoutStopSec=infinity",
        ])
        .args(["--property=OOMScoreAdjust=-900", "--property=IgnoreSIGPIPE=no"])
        .arg("--")
        .arg(program)
        .args(arguments);
    started(&mut run)
}

/// Has systemd run a program again and again, `seconds` apart, until [`stop_repeating`] or the next boot. Asking for
/// what is there already is harmless.
///
/// # Errors
/// When systemd does not take it.
pub fn repeat(
    unit: &str,
    description: &str,
    seconds: u32,
    program: &Path,
    arguments: &[&str],
) -> io::Result<()> {
    if active_state(&format!("{unit}.timer"))? == "active" {
        return Ok(());
    }
    let mut run = command("systemd-run");
    run.args(["--quiet", "--collect", "--no-ask-password"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--description={description}"))
        .arg(format!("--on-active={seconds}"))
        .arg(format!("--on-unit-inactive={seconds}"))
        .args(["--timer-property=AccuracySec=1s", "--property=KillMode=process", "--"])
        .arg(program)
        .args(arguments);
    started(&mut run)
}

/// Ends what [`repeat`] began; a run that is under way is left to its end.
pub fn stop_repeating(unit: &str) {
    // Not there any more is as good.
    let _ = systemctl(&["stop", "--", &format!("{unit}.timer")]);
}

/// Runs a `systemd-run`; an error tells what it said.
fn started(run: &mut std::process::Command) -> io::Result<()> {
    let output = command::run(run, Some(DEADLINE))?;
    if output.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("systemd-run: {} ({})", output.tail(2), output.ending())))
}
