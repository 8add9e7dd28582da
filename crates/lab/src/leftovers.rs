//! What of a lab is on the machine: found by directory and prefix, not by what was recorded.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::{self, Cgroups};
use crate::state::State;
use crate::{LabConfig, LabError, disk, network, process};

/// What kind of thing was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftoverKind {
    /// A process of a host, or one the lab started.
    Process,
    /// A file system.
    Mount,
    /// A loop device.
    Loop,
    /// A network interface: the bridge, or one of a host.
    Interface,
    /// A NAT table.
    NatTable,
    /// A control group.
    ControlGroup,
    /// A file outside of the lab's directory.
    File,
    /// A setting of the machine that the lab changed.
    Setting,
}

/// One thing of a lab that is still there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Which one.
    pub what: String,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            LeftoverKind::Process => "process",
            LeftoverKind::Mount => "mount",
            LeftoverKind::Loop => "loop device",
            LeftoverKind::Interface => "network interface",
            LeftoverKind::NatTable => "NAT table",
            LeftoverKind::ControlGroup => "control group",
            LeftoverKind::File => "file",
            LeftoverKind::Setting => "setting",
        };
        write!(f, "{kind} {}", self.what)
    }
}

pub(crate) fn find(config: &LabConfig, groups: &Cgroups) -> Result<Vec<Leftover>, LabError> {
    let mut found = BTreeSet::new();
    let mut add = |kind, what: String| {
        found.insert(Leftover { kind, what });
    };
    let shown = |pid: u32| {
        let words = process::arguments(pid).join(" ");
        let line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{pid} ({})", line.chars().take(120).collect::<String>())
    };
    for group in groups.existing() {
        for pid in cgroup::processes(&group) {
            add(LeftoverKind::Process, shown(pid));
        }
        add(LeftoverKind::ControlGroup, group.display().to_string());
    }
    for (id, _) in process::supervisors(&config.host_roots()) {
        add(LeftoverKind::Process, shown(id.pid));
    }
    for mount in disk::mounts_under(&config.dir) {
        add(LeftoverKind::Mount, mount.display().to_string());
    }
    for (device, file) in disk::loops(&config.dir) {
        add(LeftoverKind::Loop, format!("{} on {}", device.display(), file.display()));
    }
    for link in network::links(config) {
        add(LeftoverKind::Interface, link);
    }
    if network::tables(config)? > 0 {
        add(LeftoverKind::NatTable, format!("ip {}", config.prefix));
    }
    for file in runtime_files(config) {
        add(LeftoverKind::File, file.display().to_string());
    }
    for (path, (before, _)) in State::load(&config.state_file()).unwrap_or_default().settings {
        add(LeftoverKind::Setting, format!("{}, which was {before}", path.display()));
    }
    Ok(found.into_iter().collect())
}

/// What systemd-nspawn keeps about the lab's containers outside of the lab's directory.
fn runtime_files(config: &LabConfig) -> Vec<PathBuf> {
    let prefix = config.machine("");
    let mut files = Vec::new();
    for dir in ["propagate", "unix-export", "locks"] {
        let dir = Path::new("/run/systemd/nspawn").join(dir);
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        files.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                .map(|entry| entry.path()),
        );
    }
    files
}

pub(crate) fn remove_runtime_files(config: &LabConfig) -> Result<(), LabError> {
    for path in runtime_files(config) {
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(LabError::io("remove", &path))?;
    }
    Ok(())
}
