//! systemd, asked and told by its own tools: `systemctl(1)`, `systemd-run(1)`.

use crate::command::{self, command};
use crate::durable;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Asking takes no longer than this; restarting has systemd's own time-outs.
const DEADLINE: Duration = Duration::from_secs(90);

/// A boot may take so long.
const BOOTS: Duration = Duration::from_secs(300);
/// The administrator's units (`systemd.unit(5)`), below `/etc`.
const UNITS: &str = "systemd/system";
/// What is started at boot, below [`UNITS`].
const WANTED_BY: &str = "multi-user.target.wants";

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

/// Has systemd run a program once at the next boot, and every one after, until [`not_at_boot`]. Below `etc`, which is
/// `/etc` but for tests, only these files are different afterwards.
///
/// # Errors
/// When the unit cannot be written.
pub fn at_boot(
    etc: &Path,
    unit: &str,
    description: &str,
    program: &Path,
    arguments: &[&str],
) -> io::Result<()> {
    let words: Vec<String> = std::iter::once(program.display().to_string())
        .chain(arguments.iter().map(|a| (*a).to_owned()))
        .collect();
    let text = format!(
        "# Written by fettle-agent, which takes it away again.\n[Unit]\nDescription={description}\n\n[Service]\n\
         ExecStart={}\nKillMode=process\n",
        words.join(" ")
    );
    let [file, _, link] = at_boot_paths(etc, unit);
    if std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) && link.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(link.parent().unwrap_or(etc))?;
    leaving_times(&file, || durable::replace(&file, text.as_bytes()))?;
    leaving_times(&link, || {
        let target = Path::new("/etc").join(UNITS).join(format!("{unit}.service"));
        match std::os::unix::fs::symlink(target, &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => durable::sync_directory(link.parent().unwrap_or(etc)),
        }
    })
}

/// Takes away what [`at_boot`] wrote; what is not there any more is as good.
pub fn not_at_boot(etc: &Path, unit: &str) {
    for path in at_boot_paths(etc, unit).iter().rev().filter(|p| p.symlink_metadata().is_ok()) {
        let _ = leaving_times(path, || durable::remove(path));
    }
}

/// What [`at_boot`] writes: the unit, that file while it is written, and what has it started.
fn at_boot_paths(etc: &Path, unit: &str) -> [PathBuf; 3] {
    let units = etc.join(UNITS);
    let name = format!("{unit}.service");
    [units.join(&name), units.join(format!("{name}.new")), units.join(WANTED_BY).join(&name)]
}

/// Does something to an entry of a directory whose own time stays as it was: the administrator has changed nothing in it.
fn leaving_times(path: &Path, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let before = directory.metadata()?.modified()?;
    act()?;
    directory.set_modified(before)
}

/// Waits until the boot has come to its end: until then services that are not there may only be late.
pub fn wait_started() {
    let asked = ["is-system-running", "--wait"];
    // Whether it came up well is told by the baseline, not by this.
    let _ = command::run(command("systemctl").args(asked), Some(BOOTS));
}

/// Runs a `systemd-run`; an error tells what it said.
fn started(run: &mut std::process::Command) -> io::Result<()> {
    let output = command::run(run, Some(DEADLINE))?;
    if output.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("systemd-run: {} ({})", output.tail(2), output.ending())))
}

/// A value of a block of `systemctl show`.
pub fn value<'t>(block: &'t str, key: &str) -> Option<&'t str> {
    block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_unit_for_the_next_boot_comes_and_goes_and_the_directories_around_it_are_as_old_as_before()
    {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path();
        let wants = etc.join(UNITS).join(WANTED_BY);
        std::fs::create_dir_all(&wants).unwrap();
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let directories = [etc.join(UNITS), wants];
        for directory in &directories {
            File::open(directory).unwrap().set_modified(then).unwrap();
        }
        let program = Path::new("/usr/bin/fettle-agent");
        let is_as_old =
            || directories.iter().all(|d| d.metadata().unwrap().modified().unwrap() == then);
        for _ in 0..2 {
            at_boot(etc, "again", "Takes it up", program, &["resume"]).unwrap();
            assert!(is_as_old());
        }
        let [file, _, link] = at_boot_paths(etc, "again");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/fettle-agent resume\n"), "{text}");
        let target = std::fs::read_link(&link).unwrap();
        assert_eq!(target, Path::new("/etc/systemd/system/again.service"));
        for _ in 0..2 {
            not_at_boot(etc, "again");
            assert!(is_as_old());
        }
        let left = |d: &PathBuf| std::fs::read_dir(d).unwrap().count();
        assert_eq!(directories.iter().map(left).collect::<Vec<_>>(), [1, 0]);
    }
}
