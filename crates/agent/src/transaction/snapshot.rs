//! Snapshot: the way back, on disk and fsynced, and the baseline the host is judged by afterwards.

use super::preflight::room::{self, Need};
use super::{StepResult, Transaction, baseline, boot_area, fault, io_fault, rehearse, reserve};
use crate::data_paths;
use crate::host_path::HostPath;
use crate::overlay::{self, Change, Rehearsed};
use crate::preimage::{self, PreimageError, Scope, subvolume};
use fettle_core::transaction::{Fault, StepFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Small files of the package manager that are kept whatever the delta says.
const ALSO: [&str; 2] = ["/var/lib/apt/extended_states", "/var/lib/dpkg/status"];

/// Runs the step.
///
/// # Errors
/// When the host changed since the rehearsal, or there is too little room. Nothing was touched.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    rehearse::still_true(tx)?;
    let changes = overlay::read_delta(&tx.directory.join(rehearse::DELTA))
        .map_err(io_fault("read the delta"))?;
    let mut paths: BTreeSet<HostPath> = changes.iter().map(|c| c.path.clone()).collect();
    paths.extend(ALSO.map(|p| preimage::physical(Path::new("/"), &p.into())));
    let data = data_paths::declared(tx.settings);
    let scope = Scope::whole_but(&data);
    let preimage = preimage::needs(Path::new("/"), &paths, scope).map_err(preimage_fault)?;
    room::check(&needs(&changes, &tx.directory, preimage))?;
    let taken = baseline::take(tx)?;
    let captured =
        preimage::capture(Path::new("/"), &tx.preimage(), &paths, scope).map_err(preimage_fault)?;
    let mut facts = StepFacts { preimage_bytes: Some(captured.bytes), ..StepFacts::default() };
    facts.notes.push(format!("preimage: {} paths, {} bytes", captured.paths, captured.bytes));
    let devices = tx.kept::<Rehearsed>(rehearse::FILE).unwrap_or_default().boot_devices;
    facts.notes.extend(boot_area::keep(tx, &devices)?);
    facts.notes.extend(reserve::take(tx, captured.bytes));
    // It only adds to the way back, so it stands in nobody's way.
    match subvolume::take(Path::new("/"), &tx.snapshot()) {
        Ok(true) => facts
            .notes
            .push("snapshot: the root's subvolume, until the change has ended well".to_owned()),
        Ok(false) => {}
        Err(e) => facts.notes.push(format!("there is no snapshot of the root's subvolume: {e}")),
    }
    let active = taken.sight.services.iter().filter(|s| s.active == "active").count();
    facts.notes.push(format!(
        "baseline: {active} active services, {} listening sockets",
        taken.sight.listeners.len()
    ));
    for answer in &taken.sight.answers {
        facts.notes.push(match &answer.wrong {
            None => format!("probe `{}`: good, {} ms", answer.question, answer.microseconds / 1000),
            Some(wrong) => format!(
                "probe `{}` is not good before the change and is not judged: {wrong}",
                answer.question
            ),
        });
    }
    Ok(facts)
}

pub(super) fn preimage_fault(e: PreimageError) -> Fault {
    match &e {
        PreimageError::NoSpace { .. } | PreimageError::NoInodes { .. } => {
            fault("no-space", e, "free some space where the agent keeps its state, then try again")
        }
        PreimageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            fault("no-space", e, "free some space where the agent keeps its state, then try again")
        }
        PreimageError::Vast { .. } => fault(
            "preimage",
            e,
            "move it elsewhere, or declare it as data in /etc/fettle/data.d: then it is neither kept nor put back",
        ),
        _ => fault(
            "preimage",
            e,
            "look at the message; the host is untouched unless apply had begun",
        ),
    }
}

/// By the rehearsal's own figures, for every file system: dpkg unpacks every file beside the one it replaces, and
/// the preimage may lie on one of those file systems as well.
fn needs(changes: &[Change], directory: &Path, preimage: (u64, u64)) -> Vec<Need> {
    let kept = preimage.0 + reserve::bytes(preimage.0) + (16 << 20);
    let mut needs = vec![Need::new(directory, kept, preimage.1 + 100)];
    let mut parents: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    for change in changes {
        let parent = change.path.0.parent().unwrap_or(Path::new("/"));
        let sum = parents.entry(parent.to_owned()).or_default();
        sum.0 += change.bytes.next_multiple_of(4096);
        sum.1 += 1;
    }
    needs.extend(parents.into_iter().map(|(path, (bytes, inodes))| Need { path, bytes, inodes }));
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::ChangeKind;

    #[test]
    fn every_place_of_the_delta_and_the_preimage_is_asked_for_room() {
        let change = |path: &str, bytes| Change {
            path: path.into(),
            change: ChangeKind::New,
            directory: false,
            bytes,
            sha256: None,
        };
        let delta = [
            change("/boot/initrd.img-6", 5000),
            change("/boot/vmlinuz-6", 1),
            change("/usr/bin/x", 0),
            change("/opt/vendor/x", 7),
            change("/home/app/x", 4097),
        ];
        let found = needs(&delta, Path::new("/var/lib/fettle-agent"), (1000, 3));
        assert_eq!(
            found,
            [
                Need::new(Path::new("/var/lib/fettle-agent"), 1000 + (17 << 20), 103),
                Need::new(Path::new("/boot"), 8192 + 4096, 2),
                Need::new(Path::new("/home/app"), 8192, 1),
                Need::new(Path::new("/opt/vendor"), 4096, 1),
                Need::new(Path::new("/usr/bin"), 0, 1),
            ]
        );
    }
}
