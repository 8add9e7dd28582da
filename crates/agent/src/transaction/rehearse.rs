//! Rehearse: the very transaction on a copy-on-write clone of the host's own root. The host is not touched.

use super::{StepResult, Transaction, baseline, dpkg, fault, forecast, io_fault, stage};
use crate::data_paths;
use crate::overlay::{self, ChangeKind, Rehearsed, Spec, WayBack, WentBack};
use crate::preimage::Scope;
use crate::{durable, libraries};
use fettle_core::transaction::{Fault, StepFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Name of the file that keeps what was found.
pub const FILE: &str = "rehearsed.json";
/// Name of the file that keeps the delta.
pub const DELTA: &str = "delta";
/// The clone's changes are kept in memory if they need at most this share of what is available.
const MEMORY_SHARE: u64 = 3;
/// A rehearsal that has not ended by then hangs: nothing waits for it on the clone.
const PATIENCE_SECONDS: u32 = 1800;

/// Runs the step.
///
/// # Errors
/// When the clone cannot be built, or the change does not hold in it.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let scratch = tx.directory.join("rehearsal");
    clear(tx)?;
    durable::create_directory(&scratch).map_err(io_fault("create the rehearsal's directory"))?;
    let mut line = tx.command()?;
    if line.program.ends_with("/apt-get") {
        // apt gives dpkg, and so all maintainer scripts, a PATH of its own (apt.conf(5), DPkg::Path).
        let path = format!("DPkg::Path={}", overlay::path());
        line.arguments.splice(0..0, ["-o".to_owned(), path]);
    }
    let active = if crate::unit::booted() {
        let services =
            crate::inventory::units::services().map_err(io_fault("list the services"))?;
        services.into_iter().filter(|s| s.active == "active").map(|s| s.unit).collect()
    } else {
        Vec::new()
    };
    tx.keep("rehearsed-database.json", &baseline::database()?)?;
    let rebuilt = tx.kept::<Vec<String>>(stage::REBUILT).unwrap_or_default();
    let way_back = (!rebuilt.is_empty())
        .then(|| WayBack { archives: tx.old_archives(), versions: tx.versions(false) });
    let spec = Spec {
        program: overlay::own_program(),
        memory: memory(tx),
        hidden: tx.settings.state_dir.clone(),
        shown: vec![tx.new_archives(), tx.old_archives()],
        way_back,
        argv: std::iter::once(line.program).chain(line.arguments).collect(),
        env: line.environment.into_iter().collect(),
        limit_seconds: tx.order.hung_after_seconds.unwrap_or(PATIENCE_SECONDS),
        packages: tx.package_names(),
        active,
        tests: tx.settings.config_dir.join("tests.d"),
        programs: libraries::running_programs(),
        units: Vec::new(),
        sonames: BTreeSet::new(),
        accept_missing: tx.order.accept_missing.clone(),
        online: online(tx),
        scratch: scratch.clone(),
    };
    let found = overlay::rehearse(&spec).map_err(|e| {
        fault(
            "rehearsal-impossible",
            e,
            "look at the message: overlayfs and namespaces are needed; nothing was touched",
        )
    })?;
    judge(tx, &found)?;
    let mut changes =
        overlay::read_delta(&scratch.join(DELTA)).map_err(io_fault("read the delta"))?;
    let data = data_paths::declared(tx.settings);
    let all = changes.len();
    changes.retain(|c| !Scope::whole_but(&data).is_data(c.path.as_path()));
    let data_changes = all - changes.len();
    overlay::write_delta(&tx.directory.join(DELTA), &changes)
        .map_err(io_fault("keep the delta"))?;
    tx.keep(FILE, &found)?;
    let forecast = forecast::of(tx, &changes, &found);
    if let Ok(forecast) = &forecast {
        tx.keep(forecast::FILE, forecast)?;
    }
    clear(tx)?;

    let files: Vec<_> = changes.iter().filter(|c| !c.directory).collect();
    let count = |kind| files.iter().filter(|c| c.change == kind).count();
    let mut facts = StepFacts {
        delta_files: Some(files.len() as u64),
        delta_bytes: Some(files.iter().map(|c| c.bytes).sum()),
        versions: found.versions.clone(),
        ..StepFacts::default()
    };
    facts.notes.push(format!(
        "{} files change, {} are new, {} go; the package manager took {} ms",
        count(ChangeKind::Changed),
        count(ChangeKind::New),
        count(ChangeKind::Gone),
        found.milliseconds
    ));
    if spec.online {
        facts.notes.push("the clone had the host's network, as was asked for".into());
    }
    if !found.passed.is_empty() {
        facts.notes.push(format!("tests that hold: {}", found.passed.join(", ")));
    }
    if !found.failing_before.is_empty() {
        facts.notes.push(format!(
            "tests that did not hold before either: {}",
            found.failing_before.join(", ")
        ));
    }
    facts.notes.push(found.libraries.note());
    if !found.accepted.is_empty() {
        facts.notes.push(format!("missing, and accepted: {}", found.accepted.join(", ")));
    }
    if data_changes > 0 {
        facts.notes.push(format!(
            "{data_changes} paths that change are declared data: they are neither kept nor put back"
        ));
    }
    facts.notes.extend(match &found.went_back {
        WentBack::NotAsked => None,
        WentBack::Yes => Some("the old archives go back on the clone, the rebuilt ones too".into()),
        WentBack::No { why } => {
            Some(format!("the old archives do not go back, the preimage is the way back: {why}"))
        }
    });
    if !found.boot_devices.is_empty() {
        let devices = found.boot_devices.join(", ");
        facts.notes.push(format!("installs GRUB on {devices}, outside of every file system"));
    }
    if !found.wanted.is_empty() {
        facts.notes.push(format!("wants: {}", found.wanted.join(", ")));
    }
    if !found.left_running.is_empty() {
        facts.notes.push(format!("left running, and ended: {}", found.left_running.join(", ")));
    }
    facts.notes.extend(found.gaps.iter().map(|g| format!("not cloned: {g}")));
    // It is for people, and refuses nothing.
    facts.notes.extend(match forecast {
        Ok(forecast) => forecast.lines(),
        Err(e) => vec![format!("what the change will do could not be told: {e}")],
    });
    Ok(facts)
}

/// Has the clone the host's network? Only where somebody has asked for it: the order, or the host's administrator.
fn online(tx: &Transaction<'_>) -> bool {
    tx.order.rehearse_online || tx.settings.online_path().exists()
}

/// Takes away what a rehearsal left on disk. Its mounts and processes went with their namespaces.
///
/// # Errors
/// When a file cannot be removed.
pub fn clear(tx: &Transaction<'_>) -> Result<(), Fault> {
    match fs::remove_dir_all(tx.directory.join("rehearsal")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(io_fault("clear the rehearsal")(e))
        }
        _ => Ok(()),
    }
}

/// In memory where it fits well, else on disk. An overlay cannot be the upper layer of another.
fn memory(tx: &Transaction<'_>) -> Option<u64> {
    let archives: u64 = tx.changes().iter().map(|c| c.size).sum();
    let needs = archives * 8 + (256 << 20);
    let available = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|t| {
            let line = t.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()
        })
        .unwrap_or(0)
        << 10;
    let disk = overlay::mounts().is_ok_and(|all| {
        let under = all
            .iter()
            .filter(|m| tx.directory.starts_with(&m.point))
            .max_by_key(|m| m.point.as_os_str().len());
        under.is_some_and(|m| {
            !["overlay", "nfs", "nfs4", "fuse", "9p", "vfat"].contains(&m.kind.as_str())
        })
    });
    (needs <= available / MEMORY_SHARE || !disk).then(|| needs.max(available / 2))
}

fn judge(tx: &Transaction<'_>, found: &Rehearsed) -> Result<(), Fault> {
    let hint = "the host was not touched; look at the package, or leave it out of the plan";
    let list = |map: &BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k} ({v})")).collect::<Vec<_>>().join("; ")
    };
    if !found.success {
        let message = format!(
            "the change failed on the clone of this host ({}): {}",
            found.ending, found.tail
        );
        let hint = match online(tx) {
            true => hint.to_owned(),
            false => format!(
                "{hint}. The clone has no network: where its scripts load things from there, ask for one with --network, or touch {}",
                tx.settings.online_path().display()
            ),
        };
        return Err(fault("rehearsal-failed", message, hint));
    }
    if !found.audit.is_empty() {
        let message =
            format!("the change left the clone's package database unclean: {}", found.audit);
        return Err(fault("rehearsal-unclean", message, hint));
    }
    let wanted = tx.versions(true);
    if let Some((name, version)) =
        wanted.iter().find(|(name, version)| found.versions.get(*name) != Some(version))
    {
        let is = found.versions.get(name).map_or("not installed", String::as_str);
        return Err(fault(
            "rehearsal-version",
            format!("on the clone {name} became {is}, not {version}"),
            hint,
        ));
    }
    if !found.untrusted.is_empty() {
        return Err(fault(
            "program-untrusted",
            format!("root does not run {}", list(&found.untrusted)),
            "see that only root can write it, and what it holds; or take it away",
        ));
    }
    if !found.broken.is_empty() {
        let message = format!(
            "configuration tests that held before do not hold after: {}",
            list(&found.broken)
        );
        return Err(fault(
            "configuration-test-failed",
            message,
            "mend the configuration for the new version first",
        ));
    }
    if !found.unresolved.is_empty() {
        let message =
            format!("programs no longer find what they link to: {}", list(&found.unresolved));
        let hint = "the host was not touched; where nobody needs that symbol, accept it: \
                    `patch --accept-missing SYMBOL@FILE`, or [[accept-missing]] in the policy";
        return Err(fault("libraries-unresolved", message, hint));
    }
    if let Some((first, why)) = found.unchecked.first_key_value() {
        let more = match found.unchecked.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let message = format!(
            "nobody knows whether all programs still find what they link to: not looked at are {first} ({why}){more}"
        );
        let hint = "the host was not touched; where that does not matter, accept it: \
                    `patch --accept-missing '*@FILE'`, or [[accept-missing]] in the policy";
        return Err(fault("libraries-unchecked", message, hint));
    }
    Ok(())
}

/// Checks that what the rehearsal was made of is what will be changed.
///
/// # Errors
/// When somebody else changed packages since.
pub fn still_true(tx: &Transaction<'_>) -> Result<(), Fault> {
    if tx.kept("rehearsed-database.json") == Some(baseline::database()?) {
        return dpkg_free(tx);
    }
    Err(fault(
        "host-changed",
        "somebody else changed packages since the rehearsal",
        "make a new plan; see /var/log/dpkg.log for what happened",
    ))
}

fn dpkg_free(tx: &Transaction<'_>) -> Result<(), Fault> {
    super::preflight::lock(tx, &mut StepFacts::default())?;
    let now = dpkg::versions(&tx.package_names()).map_err(io_fault("ask the package database"))?;
    match tx.versions(false).iter().find(|(name, version)| now.get(*name) != Some(version)) {
        Some((name, version)) => Err(fault(
            "host-changed",
            format!("{name} is no longer at {version}"),
            "make a new plan",
        )),
        None => Ok(()),
    }
}
