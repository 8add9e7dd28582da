//! What changed on the host without the rehearsal having foreseen it.

use super::{Transaction, baseline, io_fault};
use crate::host_path::HostPath;
use crate::preimage::{self, Manifest, subvolume};
use fettle_core::transaction::Fault;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// Where packages put their files: a path that changed here without having been foreseen is a fault of the
/// rehearsal. Data, logs and homes change by themselves.
const PACKAGED: [&str; 6] = [
    "/usr",
    "/etc",
    "/boot",
    "/opt",
    "/var/lib/dpkg",
    "/var/lib/systemd/deb-systemd-helper-enabled",
];

/// A walk by change time: what changed since the baseline and is not in the preimage.
pub(super) fn unforeseen(
    tx: &Transaction<'_>,
    manifest: &Manifest,
) -> Result<BTreeSet<HostPath>, Fault> {
    let since = baseline::read(&tx.directory)?.at;
    let then = SystemTime::from(since);
    let since = (since.as_second(), i64::from(since.subsec_nanosecond()));
    let mut out = BTreeSet::new();
    let mut open: Vec<std::path::PathBuf> = PACKAGED.iter().map(Into::into).collect();
    while let Some(path) = open.pop() {
        if preimage::excluded(&path) || path.starts_with(&tx.settings.state_dir) {
            continue;
        }
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let changed = match found.is_dir() {
            // Its own time changes with its entries, which are looked at; new is one that was made since.
            true => found.created().is_ok_and(|at| at > then),
            false => (found.ctime(), found.ctime_nsec()) > since,
        };
        if changed && !manifest.contains_key(&path.as_path().into()) {
            out.insert(HostPath(path.clone()));
        }
        if found.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    Ok(out)
}

/// Adds to the preimage what stood at these paths, where a snapshot of the root still has it; gives how many that
/// were. Without a snapshot nobody knows, and they are told and left as they are.
pub(super) fn keep(tx: &Transaction<'_>, paths: &BTreeSet<HostPath>) -> Result<u64, Fault> {
    let snapshot = tx.snapshot();
    if paths.is_empty() || !subvolume::is_one(&snapshot) {
        return Ok(0);
    }
    let root = fs::metadata("/").map_err(io_fault("look at /"))?.dev();
    // On another file system the snapshot has but an empty place, which says nothing of what was there.
    let in_snapshot = |path: &&HostPath| {
        fs::symlink_metadata(path.0.parent().unwrap_or(Path::new("/")))
            .is_ok_and(|parent| parent.dev() == root)
    };
    let mut paths: BTreeSet<HostPath> = paths.iter().filter(in_snapshot).cloned().collect();
    let parents: BTreeSet<HostPath> =
        paths.iter().flat_map(|p| p.0.ancestors().skip(1)).map(HostPath::from).collect();
    paths.extend(parents);
    preimage::extend(&snapshot, &tx.preimage(), &paths).map_err(super::snapshot::preimage_fault)
}
