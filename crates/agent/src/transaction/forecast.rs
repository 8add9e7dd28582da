//! What a rehearsal tells of the change to come: by package, unit and place; what restarts, whether a reboot will be
//! owed, how long it takes and how much room it needs.

use super::{Transaction, activate, read_kept, rehearse};
use crate::data_paths;
use crate::host_path::HostPath;
use crate::inventory::{dpkg, processes};
use crate::journal;
use crate::overlay::{Change, ChangeKind, Rehearsed};
use crate::preimage::{self, Scope};
use fettle_core::assignment::RebootRule;
use fettle_core::plan::spent::changing_seconds;
use fettle_core::transaction::{Progress, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Name of the file that keeps it.
pub const FILE: &str = "forecast.json";
/// How many times longer the package manager takes on the host than on the clone, which waits for no disk, where this
/// host has not been changed before. Seen on Debian 12 with 28 packages: 13.7 s on the clone, 23.4 s on the host.
const SLOWER: f64 = 1.75;

/// Files of one package that change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Other content, attributes or kind.
    pub changed: u64,
    /// Were not there.
    pub new: u64,
    /// Will not be there.
    pub gone: u64,
    /// Bytes afterwards.
    pub bytes: u64,
}

/// What is to be expected of the change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// By binary package, as the host's package database lists its files now. Under the empty name: files that no
    /// package lists yet, and those that maintainer scripts make.
    pub packages: BTreeMap<String, Files>,
    /// Paths below `/etc` that change.
    pub configuration: Vec<String>,
    /// Units whose own files change.
    pub units: Vec<String>,
    /// Units that will be restarted, since they run what is replaced.
    pub restarts: Vec<String>,
    /// What runs replaced code and is left alone: unit, why.
    pub spared: Vec<(String, String)>,
    /// Why a reboot will be owed; empty: none will.
    pub reboot: Vec<String>,
    /// Seconds of the package manager on this host.
    pub apply_seconds: f64,
    /// Bytes of what changes, which stand beside the old files for a moment.
    pub bytes: u64,
    /// Bytes of the way back, at most: file systems that share blocks need less.
    pub preimage_bytes: u64,
}

impl Forecast {
    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "the package manager will take about {:.0} s here; {:.1} MB change, the way back needs at most {:.1} MB",
            self.apply_seconds,
            self.bytes as f64 / 1e6,
            self.preimage_bytes as f64 / 1e6
        )];
        let mut list = |what: &str, names: &[String]| {
            if !names.is_empty() {
                lines.push(format!("{what}: {}", names.join(", ")));
            }
        };
        list("will be restarted", &self.restarts);
        list("units whose files change", &self.units);
        list("a reboot will be owed", &self.reboot);
        let spared = self.spared.iter().map(|(unit, why)| format!("{unit} ({why})"));
        list("will go on with replaced code", &spared.collect::<Vec<_>>());
        lines
    }
}

/// How long the host will be at work from the moment its grant is redeemed, its way back included, in seconds. `None`: no
/// rehearsal has foretold it.
pub fn needs(tx: &Transaction<'_>) -> Option<u64> {
    let forecast = read_kept::<Forecast>(&tx.directory, FILE)?;
    let reboots = tx.order.reboot == RebootRule::WhenNeeded && !forecast.reboot.is_empty();
    Some(changing_seconds(forecast.apply_seconds, reboots))
}

/// Of a rehearsal that went well.
///
/// # Errors
/// When the package database or the processes cannot be read.
pub(super) fn of(
    tx: &Transaction<'_>,
    changes: &[Change],
    found: &Rehearsed,
) -> io::Result<Forecast> {
    let files: Vec<&Change> = changes.iter().filter(|c| !c.directory).collect();
    let paths = files.iter().map(|c| c.path.0.as_os_str().as_bytes());
    let owners = dpkg::Owners::find(tx.settings, paths)?;
    let owner = |path: &Path| owners.of(path.as_os_str().as_bytes()).first().cloned();
    let packages = by_package(&files, |path| owner(path).unwrap_or_default());
    let replaced: BTreeSet<&str> = files
        .iter()
        .filter(|c| c.change != ChangeKind::New)
        .filter_map(|c| c.path.0.to_str())
        .collect();
    let stale = processes::that_map(|path| replaced.contains(path))?;
    let restarts = activate::decide(&stale, &tx.order.restart);
    let all: BTreeSet<HostPath> = changes.iter().map(|c| c.path.clone()).collect();
    let data = data_paths::declared(tx.settings);
    let needs = preimage::needs(Path::new("/"), &all, Scope::whole_but(&data));
    let preimage_bytes = needs.map_err(io::Error::other)?.0;
    let reexec = restarts.reexec.then(|| "init.scope".to_owned());
    Ok(Forecast {
        packages,
        configuration: configuration(&files),
        units: units(&files),
        reboot: reboot(&files),
        restarts: restarts.now.into_iter().chain(restarts.last).chain(reexec).collect(),
        spared: restarts.spared.into_iter().map(|(unit, why)| (unit, why.to_owned())).collect(),
        apply_seconds: found.milliseconds as f64 / 1000.0 * slower(tx),
        bytes: files.iter().map(|c| c.bytes).sum(),
        preimage_bytes,
    })
}

/// How many times longer the package manager took here than in its rehearsals, by this host's own history.
fn slower(tx: &Transaction<'_>) -> f64 {
    let directories = std::fs::read_dir(tx.settings.transactions_dir()).into_iter().flatten();
    let mut seen: Vec<f64> = directories.flatten().filter_map(|d| ratio(&d.path())).collect();
    seen.sort_by(f64::total_cmp);
    seen.get(seen.len() / 2).copied().unwrap_or(SLOWER)
}

fn ratio(directory: &Path) -> Option<f64> {
    let rehearsed = read_kept::<Rehearsed>(directory, rehearse::FILE)?.milliseconds;
    let progress = Progress::fold(&journal::read(directory).ok()?.entries).ok()??;
    let applied = progress.finished.get(&Step::Apply)?.milliseconds;
    (rehearsed > 0).then(|| applied as f64 / rehearsed as f64)
}

fn by_package(files: &[&Change], owner: impl Fn(&Path) -> String) -> BTreeMap<String, Files> {
    let mut out: BTreeMap<String, Files> = BTreeMap::new();
    for file in files {
        let sum = out.entry(owner(file.path.as_path())).or_default();
        match file.change {
            ChangeKind::Changed => sum.changed += 1,
            ChangeKind::New => sum.new += 1,
            ChangeKind::Gone => sum.gone += 1,
        }
        sum.bytes += file.bytes;
    }
    out
}

fn configuration(files: &[&Change]) -> Vec<String> {
    let below = files.iter().filter(|c| c.path.0.starts_with("/etc"));
    below.map(|c| c.path.to_string()).collect()
}

/// Names of units that have files of their own among these.
fn units(files: &[&Change]) -> Vec<String> {
    let name = |change: &&Change| {
        let mut parts = change.path.0.components().rev();
        let (name, place) = (parts.next()?, parts.next()?);
        let systemd = parts.next()?.as_os_str() == "systemd" && place.as_os_str() == "system";
        systemd.then(|| name.as_os_str().to_string_lossy().into_owned())
    };
    let names: BTreeSet<String> = files.iter().filter_map(name).collect();
    names.into_iter().filter(|name| name.contains('.')).collect()
}

/// A kernel that is new on disk is of use after a reboot only.
fn reboot(files: &[&Change]) -> Vec<String> {
    let kernel = |change: &&&Change| {
        let path = change.path.0.to_string_lossy();
        change.change != ChangeKind::Gone && path.starts_with("/boot/vmlinuz")
    };
    files.iter().filter(kernel).map(|c| format!("{} is another kernel", c.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_package_unit_and_place() {
        let change = |path: &str, change, bytes| Change {
            path: path.into(),
            change,
            directory: false,
            bytes,
            sha256: None,
        };
        let all = [
            change("/usr/sbin/nginx", ChangeKind::Changed, 100),
            change("/usr/share/nginx/new", ChangeKind::New, 5),
            change("/usr/share/nginx/old", ChangeKind::Gone, 0),
            change("/etc/nginx/mime.types", ChangeKind::Changed, 7),
            change("/usr/lib/systemd/system/nginx.service", ChangeKind::Changed, 1),
            change("/etc/systemd/system/multi-user.target.wants/x", ChangeKind::New, 0),
            change("/boot/vmlinuz-6.1.0-40-amd64", ChangeKind::New, 8000),
            change("/boot/vmlinuz-6.1.0-10-amd64", ChangeKind::Gone, 0),
        ];
        let files: Vec<&Change> = all.iter().collect();
        let owned = |path: &Path| match path.starts_with("/usr") {
            true => "nginx".to_owned(),
            false => String::new(),
        };
        let packages = by_package(&files, owned);
        assert_eq!(packages["nginx"], Files { changed: 2, new: 1, gone: 1, bytes: 106 });
        assert_eq!(packages[""], Files { changed: 1, new: 2, gone: 1, bytes: 8007 });
        assert_eq!(units(&files), ["nginx.service"]);
        assert_eq!(reboot(&files), ["/boot/vmlinuz-6.1.0-40-amd64 is another kernel"]);
        assert_eq!(
            configuration(&files),
            ["/etc/nginx/mime.types", "/etc/systemd/system/multi-user.target.wants/x"]
        );
    }
}
