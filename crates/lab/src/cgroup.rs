//! The lab's control groups. Each host runs in one of its own, so that a whole host, or one command
//! in it, can be killed at once and nothing else is hit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::LabError;
use crate::process::{ProcessId, poll_until};

/// Where the machine's control groups are mounted.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    /// The unified hierarchy.
    unified: PathBuf,
    /// The named hierarchy that a hybrid machine has besides, which systemd-nspawn fills too.
    named: Option<PathBuf>,
    prefix: String,
}

impl Cgroups {
    pub(crate) fn find(prefix: &str) -> Result<Self, LabError> {
        let mounts = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(mounts).map_err(LabError::io("read", mounts))?;
        Self::parse(&text, prefix).ok_or_else(|| LabError::Machine {
            what: "no cgroup2 hierarchy is mounted".to_owned(),
            next: "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)".to_owned(),
        })
    }

    fn parse(mountinfo: &str, prefix: &str) -> Option<Self> {
        let mut unified = None;
        let mut named = None;
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(target) = before.split(' ').nth(4) else { continue };
            match after.split(' ').next() {
                Some("cgroup2") if unified.is_none() => unified = Some(PathBuf::from(target)),
                Some("cgroup") if after.contains("name=systemd") => {
                    named = Some(PathBuf::from(target));
                }
                _ => {}
            }
        }
        Some(Self { unified: unified?, named, prefix: prefix.to_owned() })
    }

    /// The lab's own group.
    pub(crate) fn lab(&self) -> PathBuf {
        self.unified.join(&self.prefix)
    }

    /// The group of one host.
    pub(crate) fn host(&self, name: &str) -> PathBuf {
        self.lab().join(name)
    }

    /// Where the group is that `/proc/PID/cgroup` calls `path`.
    pub(crate) fn at(&self, path: &Path) -> PathBuf {
        self.unified.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes the group of a host.
    pub(crate) fn create(&self, name: &str) -> Result<PathBuf, LabError> {
        let group = self.host(name);
        fs::create_dir_all(&group).map_err(LabError::io("make the control group", &group))?;
        Ok(group)
    }

    /// Kills everything in a host's group and removes the group.
    pub(crate) fn clear_host(&self, name: &str) -> Result<(), LabError> {
        self.clear(Path::new(&self.prefix).join(name))
    }

    /// Kills everything in the lab's group and removes the group.
    pub(crate) fn clear_all(&self) -> Result<(), LabError> {
        self.clear(PathBuf::from(&self.prefix))
    }

    fn clear(&self, below: PathBuf) -> Result<(), LabError> {
        kill(&self.unified.join(&below))?;
        for root in [Some(&self.unified), self.named.as_ref()].into_iter().flatten() {
            let group = root.join(&below);
            // A group can be removed a moment after its last process is gone, not at once.
            let deadline = Instant::now() + Duration::from_secs(10);
            if !poll_until(deadline, || remove(&group)) {
                return Err(LabError::Stuck {
                    what: format!("control group {}", group.display()),
                    waited: Duration::from_secs(10),
                    detail: format!("processes in it: {:?}", processes(&group)),
                });
            }
        }
        Ok(())
    }

    /// Groups of the lab that are there.
    pub(crate) fn existing(&self) -> Vec<PathBuf> {
        [Some(&self.unified), self.named.as_ref()]
            .into_iter()
            .flatten()
            .map(|root| root.join(&self.prefix))
            .filter(|group| group.is_dir())
            .collect()
    }
}

/// All processes in `group` and below.
pub(crate) fn processes(group: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for dir in tree(group) {
        let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0),
        );
    }
    found
}

/// Kills everything in `group` and below, and waits until it is gone.
pub(crate) fn kill(group: &Path) -> Result<(), LabError> {
    if !group.is_dir() {
        return Ok(());
    }
    let waited = Duration::from_secs(20);
    let at_once = fs::write(group.join("cgroup.kill"), "1").is_ok();
    let gone = poll_until(Instant::now() + waited, || {
        let left = processes(group);
        if !at_once {
            // Before Linux 5.14: one by one, again until none is left.
            for id in left.iter().filter_map(|pid| ProcessId::of(*pid)) {
                let _ = id.kill();
            }
        }
        left.is_empty()
    });
    if gone {
        return Ok(());
    }
    Err(LabError::Stuck {
        what: format!("processes in {}", group.display()),
        waited,
        detail: format!("{:?}; see /proc/PID/stack of them", processes(group)),
    })
}

/// Removes `group` and all below; whether it is gone.
pub(crate) fn remove(group: &Path) -> bool {
    for dir in tree(group).iter().rev() {
        let _ = fs::remove_dir(dir);
    }
    !group.is_dir()
}

/// `group` and all groups below, parents first.
fn tree(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_has_its_unified_and_its_named_hierarchy_found() {
        let text = "25 21 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    26 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    27 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = Cgroups::parse(text, "x").unwrap();
        assert_eq!(found.lab(), Path::new("/sys/fs/cgroup/unified/x"));
        assert_eq!(found.named.as_deref(), Some(Path::new("/sys/fs/cgroup/systemd")));
    }

    #[test]
    fn a_machine_without_cgroup2_is_recognised() {
        assert!(Cgroups::parse("26 25 0:23 / /a rw - cgroup cgroup rw,memory\n", "x").is_none());
    }
}
