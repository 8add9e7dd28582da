//! What changed on the host without the rehearsal having foreseen it.

use super::{Transaction, baseline, io_fault};
use crate::data_paths;
use crate::host_path::HostPath;
use crate::preimage::{self, Manifest, Scope, subvolume};
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

/// A walk by change time: what changed since the baseline and is not in the preimage. What was removed can be seen only
/// where there is a snapshot.
pub(super) fn unforeseen(
    tx: &Transaction<'_>,
    manifest: &Manifest,
) -> Result<BTreeSet<HostPath>, Fault> {
    let since = baseline::read(&tx.directory)?.at;
    let then = SystemTime::from(since);
    let snapshot = tx.snapshot();
    let data = data_paths::declared(tx.settings);
    let scope = Scope::whole_but(&data);
    // On another file system than the root the snapshot has but an empty place.
    let root = fs::metadata("/").ok().filter(|_| subvolume::is_one(&snapshot)).map(|m| m.dev());
    let since = (since.as_second(), i64::from(since.subsec_nanosecond()));
    let mut out = BTreeSet::new();
    let mut open: Vec<std::path::PathBuf> = PACKAGED.iter().map(Into::into).collect();
    while let Some(path) = open.pop() {
        if scope.excludes(&path) || path.starts_with(&tx.settings.state_dir) {
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
            if (found.ctime(), found.ctime_nsec()) > since && root == Some(found.dev()) {
                gone(&snapshot, &path, scope, manifest, &mut out);
            }
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    Ok(out)
}

/// What the snapshot has in a directory and the host has no more, with all that is below it.
fn gone(
    snapshot: &Path,
    directory: &Path,
    scope: Scope<'_>,
    manifest: &Manifest,
    out: &mut BTreeSet<HostPath>,
) {
    let then = HostPath::from(directory).below(snapshot);
    for entry in fs::read_dir(then).into_iter().flatten().flatten() {
        let path = directory.join(entry.file_name());
        let is_there = fs::symlink_metadata(&path).is_ok();
        if is_there || scope.excludes(&path) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gone(snapshot, &path, scope, manifest, out);
        }
        let path = HostPath(path);
        if !manifest.contains_key(&path) {
            out.insert(path);
        }
    }
}

/// Adds to the preimage what stood at these paths, where a snapshot of the root still has it; gives how many that
/// were. Without a snapshot nobody knows, and they are told and left as they are.
pub(super) fn keep(tx: &Transaction<'_>, paths: &BTreeSet<HostPath>) -> Result<u64, Fault> {
    let snapshot = tx.snapshot();
    if paths.is_empty() || !subvolume::is_one(&snapshot) {
        return Ok(0);
    }
    let root = fs::metadata("/").map_err(io_fault("look at /"))?.dev();
    // On another file system the snapshot has but an empty place, which says nothing of what was there. A directory that
    // went with all that was in it is judged by the nearest one that is left.
    let in_snapshot = |path: &&HostPath| {
        let mut above = path.0.ancestors().skip(1).filter_map(|a| fs::symlink_metadata(a).ok());
        above.next().is_some_and(|left| left.dev() == root)
    };
    let mut paths: BTreeSet<HostPath> = paths.iter().filter(in_snapshot).cloned().collect();
    let parents: BTreeSet<HostPath> =
        paths.iter().flat_map(|p| p.0.ancestors().skip(1)).map(HostPath::from).collect();
    paths.extend(parents);
    preimage::extend(&snapshot, &tx.preimage(), &paths).map_err(super::snapshot::preimage_fault)
}
