//! Snapshot: the way back, on disk and fsynced, and the baseline the host is judged by afterwards.

use super::preflight::room;
use super::{StepResult, Transaction, baseline, fault, io_fault, rehearse};
use crate::host_path::HostPath;
use crate::overlay::{self, Change};
use crate::preimage::{self, PreimageError, WHOLE};
use fettle_core::transaction::{Fault, StepFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
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
    space_for(&changes)?;
    let taken = baseline::take(tx)?;
    let mut paths: BTreeSet<HostPath> = changes.into_iter().map(|c| c.path).collect();
    paths.extend(ALSO.map(HostPath::from));
    let captured = preimage::capture(Path::new("/"), &tx.preimage(), &paths, &WHOLE)
        .map_err(preimage_fault)?;
    let mut facts = StepFacts { preimage_bytes: Some(captured.bytes), ..StepFacts::default() };
    facts.notes.push(format!("preimage: {} paths, {} bytes", captured.paths, captured.bytes));
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
        _ => fault(
            "preimage",
            e,
            "look at the message; the host is untouched unless apply had begun",
        ),
    }
}

/// By the rehearsal's own figures: dpkg unpacks every file beside the one it replaces.
fn space_for(changes: &[Change]) -> Result<(), Fault> {
    let mut needs: BTreeMap<u64, (PathBuf, u64, u64)> = BTreeMap::new();
    for change in changes {
        // The nearest directory that is there tells the file system.
        let near = change.path.0.ancestors().skip(1).find_map(|p| Some((p, p.metadata().ok()?)));
        if let Some((path, found)) = near {
            let entry = needs.entry(found.dev()).or_insert_with(|| (path.to_owned(), 0, 0));
            entry.1 += change.bytes.next_multiple_of(4096);
            entry.2 += 1;
        }
    }
    needs
        .values()
        .try_for_each(|(path, bytes, inodes)| room(path, bytes + (16 << 20), inodes + 100))
}
