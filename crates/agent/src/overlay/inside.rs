//! What runs with the clone as its root.

use super::{Rehearsed, Spec, WayBack, WentBack};
use crate::command;
use crate::configuration_tests::{self, interpreters, units};
use crate::libraries;
use crate::transaction::dpkg;
use fettle_core::assignment::ConffileRule;
use rustix::thread::CapabilitySet;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The hidden subcommand: enters the clone, runs one part, writes what it found to standard output as JSON.
pub(super) fn main(part: &str, root: &Path, spec: &Path) -> io::Result<()> {
    let spec: Spec = serde_json::from_slice(&fs::read(spec)?)?;
    enter(root)?;
    let mut found = Rehearsed::default();
    match part {
        "tests" => {
            let ran = configuration_tests::run_all(&spec.tests, &spec.units);
            (found.passed, found.broken, found.untrusted) = (ran.passed, ran.broken, ran.untrusted);
            found.loads = interpreters::ask_all(&spec.packages);
        }
        "units" => (found.passed, found.broken) = units::run_all(&spec.units),
        "transaction" => transaction(&spec, &mut found)?,
        "libraries" => {
            found.libraries = libraries::check(&spec.programs, &spec.packages, &spec.sonames)
        }
        "way-back" => found.went_back = way_back(&spec)?,
        _ => return Err(io::Error::other(format!("`{part}` is no part of a rehearsal"))),
    }
    found.left_running.extend(end_others());
    serde_json::to_writer(io::stdout(), &found)?;
    Ok(())
}

/// Makes `root` the root and gives up what the clone has no use for.
fn enter(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    // The new root over the old one, which then lies on top and is taken away (`pivot_root(2)`, notes).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    for capability in [
        CapabilitySet::SYS_MODULE,
        CapabilitySet::SYS_BOOT,
        CapabilitySet::SYS_TIME,
        CapabilitySet::SYS_RAWIO,
        CapabilitySet::SYSLOG,
        CapabilitySet::MAC_ADMIN,
        CapabilitySet::BPF,
        CapabilitySet::PERFMON,
        CapabilitySet::SYS_ADMIN,
    ] {
        // One that the kernel does not know, or that a container has not, is not there to be used either.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    Ok(())
}

fn transaction(spec: &Spec, found: &mut Rehearsed) -> io::Result<()> {
    let Some((program, arguments)) = spec.argv.split_first() else {
        return Err(io::Error::other("the transaction has no program"));
    };
    let mut command = command::command(program);
    command.args(arguments).envs(&spec.env).env("PATH", super::path());
    let begun = Instant::now();
    let limit = Duration::from_secs(spec.limit_seconds.into());
    let output = command::run(&mut command, Some(limit))?;
    found.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    found.success = output.success();
    found.ending = output.ending();
    found.tail = output.tail(20);
    found.versions = crate::transaction::dpkg::versions(&spec.packages)?;
    found.audit = crate::transaction::dpkg::audit()?;
    found.verify = crate::transaction::dpkg::verify(&spec.packages)?;
    Ok(())
}

/// Installs the old archives over what the change has made, as the last rung before the preimage would.
fn way_back(spec: &Spec) -> io::Result<WentBack> {
    let Some(WayBack { archives, versions }) = &spec.way_back else {
        return Ok(WentBack::NotAsked);
    };
    let mut paths: Vec<_> = fs::read_dir(archives)?.flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "deb"));
    paths.sort();
    let changing = || {
        let mut dpkg = dpkg::changing(ConffileRule::Keep);
        dpkg.arg("--force-downgrade").env("PATH", super::path());
        dpkg
    };
    let limit = Duration::from_secs(spec.limit_seconds.into());
    let output = dpkg::install(changing, &paths, |dpkg| command::run(dpkg, Some(limit)), |e| e)?;
    let said = |what: String| {
        let why = format!("{what}; dpkg ended with {}: {}", output.ending(), output.tail(3));
        Ok(WentBack::No { why })
    };
    let audit = dpkg::audit()?;
    if !audit.is_empty() {
        return said(audit);
    }
    let now = dpkg::versions(&versions.keys().cloned().collect::<Vec<_>>())?;
    match versions.iter().find(|(name, version)| now.get(*name) != Some(version)) {
        None => Ok(WentBack::Yes),
        Some((name, version)) => {
            let is = now.get(name).map_or("not installed", String::as_str);
            said(format!("{name} is {is}, and was {version}"))
        }
    }
}

/// Ends every process of the clone but its init, this one, and the one between; gives their names.
fn end_others() -> Vec<String> {
    let own = std::process::id();
    let parent = rustix::process::getppid().map_or(1, |p| p.as_raw_nonzero().get().cast_unsigned());
    let mut names = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if pid == 1 || pid == own || pid == parent {
            continue;
        }
        let name =
            fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
        // What has ended and waits for its parent has no program any more.
        let ended = fs::read_link(entry.path().join("exe")).is_err();
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if !ended {
            names.insert(pid, name);
        }
    }
    names.into_values().collect()
}
