//! Room and writability of every file system that the change writes to.

use crate::overlay::{Mount, holding, mounts};
use crate::transaction::fault;
use fettle_core::transaction::Fault;
use rustix::fs::StatVfsMountFlags;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What will be written at a place. Needs on one file system add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transaction) struct Need {
    /// Where; the nearest directory that is there tells the file system.
    pub(in crate::transaction) path: PathBuf,
    /// Bytes.
    pub(in crate::transaction) bytes: u64,
    /// Files and directories.
    pub(in crate::transaction) inodes: u64,
}

impl Need {
    pub(in crate::transaction) fn new(path: &Path, bytes: u64, inodes: u64) -> Self {
        Self { path: path.to_owned(), bytes, inodes }
    }
}

/// A file system, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// Tells file systems apart.
    pub(super) device: String,
    /// Bytes free for root's own use are not counted.
    pub(super) bytes: u64,
    /// Inodes free. `None`: it does not count them (btrfs says 0 of 0).
    pub(super) inodes: Option<u64>,
    /// Mounted read-only, or made so after an error.
    pub(super) read_only: bool,
}

/// Refuses when a file system cannot be written, has too little room, or too few inodes.
pub(in crate::transaction) fn check(needs: &[Need]) -> Result<(), Fault> {
    // Where nobody says what is mounted, each device is one.
    let mounts = mounts().unwrap_or_default();
    judge(needs, |path| look(&mounts, path))
}

/// The file system at a path, or at the nearest directory above it that is there.
fn look(mounts: &[Mount], path: &Path) -> Option<Disk> {
    let (near, found) = path.ancestors().find_map(|p| Some((p, p.metadata().ok()?)))?;
    let fs = rustix::fs::statvfs(near).ok()?;
    let mount = near.canonicalize().ok().and_then(|near| holding(mounts, &near));
    Some(Disk {
        device: mount.map_or_else(|| found.dev().to_string(), |mount| mount.device.clone()),
        bytes: fs.f_bavail.saturating_mul(fs.f_frsize),
        inodes: (fs.f_files > 0).then_some(fs.f_favail),
        read_only: fs.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// The same, of a given sight of the file systems.
pub(super) fn judge(needs: &[Need], look: impl Fn(&Path) -> Option<Disk>) -> Result<(), Fault> {
    let mut sums: BTreeMap<String, (Vec<&Path>, u64, u64, Disk)> = BTreeMap::new();
    for need in needs {
        let Some(disk) = look(&need.path) else { continue };
        let sum = sums.entry(disk.device.clone()).or_insert_with(|| (Vec::new(), 0, 0, disk));
        sum.0.push(&need.path);
        sum.1 = sum.1.saturating_add(need.bytes);
        sum.2 = sum.2.saturating_add(need.inodes);
    }
    for (mut paths, bytes, inodes, disk) in sums.into_values() {
        paths.dedup();
        let more = paths.len().saturating_sub(3);
        let mut shown: Vec<String> =
            paths.iter().take(3).map(|p| p.display().to_string()).collect();
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        let shown = format!("the file system of {}", shown.join(", "));
        let hint = "free some space, or enlarge the file system, then try again";
        if disk.read_only {
            return Err(fault(
                "read-only",
                format!("{shown} is read-only"),
                "if nobody mounted it so, the kernel did after an error: look at `dmesg` before anything else",
            ));
        }
        if disk.bytes < bytes {
            let message =
                format!("{shown} has {} bytes free, the change needs {bytes}", disk.bytes);
            return Err(fault("no-space", message, hint));
        }
        if let Some(free) = disk.inodes.filter(|free| *free < inodes) {
            let message = format!("{shown} has {free} inodes free, the change needs {inodes}");
            return Err(fault("no-inodes", message, hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn disk(path: &Path) -> Option<Disk> {
        let apart =
            ["/boot", "/home", "/opt", "/var/apart"].into_iter().find(|p| path.starts_with(p));
        Some(Disk {
            device: apart.unwrap_or("/").into(),
            bytes: 1000,
            inodes: Some(10),
            read_only: path.starts_with("/boot/ro"),
        })
    }

    #[test]
    fn what_is_needed_on_one_file_system_adds_up_and_each_is_judged_by_itself() {
        let need = |path: &str, bytes, inodes| Need::new(Path::new(path), bytes, inodes);
        assert_eq!(judge(&[need("/usr", 600, 5), need("/boot", 600, 5)], disk), Ok(()));
        let refused = judge(&[need("/usr", 600, 5), need("/var/lib", 401, 1)], disk).unwrap_err();
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            (
                "no-space",
                "the file system of /usr, /var/lib has 1000 bytes free, the change needs 1001"
            )
        );
        assert!(!refused.hint.is_empty());
        let refused = judge(&[need("/usr", 1, 5), need("/boot", 1, 11)], disk).unwrap_err();
        assert_eq!(refused.code, "no-inodes");
        assert!(refused.message.contains("/boot has 10 inodes free"), "{}", refused.message);
        let uncounted = |path: &Path| disk(path).map(|d| Disk { inodes: None, ..d });
        assert_eq!(judge(&[need("/usr", 1, 1 << 40)], uncounted), Ok(()));
        let refused = judge(&[need("/boot/ro/x", 0, 0)], disk).unwrap_err();
        assert_eq!(refused.code, "read-only");
        for place in ["/opt/vendor", "/home/app", "/var/apart"] {
            let all = [need("/usr", 900, 5), need("/boot", 900, 5), need(place, 1001, 1)];
            let refused = judge(&all, disk).unwrap_err();
            assert_eq!(refused.code, "no-space");
            assert!(refused.message.contains(place), "{}", refused.message);
        }
        // Nobody can write to what nobody can look at: apply tells.
        assert_eq!(judge(&[need("/usr", 1 << 40, 0)], |_| None), Ok(()));
    }

    #[test]
    fn subvolumes_of_one_file_system_share_its_room() {
        // As on a host whose `/` and `/var` are subvolumes of one btrfs: each with a device of its own, by `stat(2)`.
        let mount = |point: &str, device: &str| Mount {
            point: point.into(),
            part: "/@".into(),
            kind: "btrfs".into(),
            source: "/dev/vda2".into(),
            read_only: false,
            device: device.into(),
        };
        let device = |mounts: &[Mount], path: &str| look(mounts, Path::new(path)).unwrap().device;
        let shared = [mount("/", "0:31"), mount("/var", "0:31"), mount("/etc", "8:1")];
        assert_eq!(device(&shared, "/usr"), device(&shared, "/var/not/there/yet"));
        assert_ne!(device(&shared, "/usr"), device(&shared, "/etc"));
        let found = Path::new("/usr").metadata().unwrap().dev().to_string();
        assert_eq!(device(&[], "/usr"), found, "nobody says what is mounted");
    }

    #[test]
    fn a_full_a_crowded_and_a_read_only_file_system_are_seen_as_they_are() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting a small file system needs root");
            return;
        }
        struct Mounted(tempfile::TempDir);
        impl Drop for Mounted {
            fn drop(&mut self) {
                let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
            }
        }
        let mount = |options: &str, at: &Path| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(at);
            assert!(mount.status().unwrap().success());
        };
        let here = Mounted(tempfile::tempdir().unwrap());
        mount("size=1m,nr_inodes=20", here.0.path());
        let deep = here.0.path().join("not/there/yet");
        let code = |bytes, inodes| check(&[Need::new(&deep, bytes, inodes)]).map_err(|f| f.code);
        assert_eq!(code(500_000, 5), Ok(()));
        assert_eq!(code(2 << 20, 5), Err("no-space".into()));
        assert_eq!(code(0, 21), Err("no-inodes".into()));
        // Filled meanwhile: the same question has another answer.
        std::fs::write(here.0.path().join("fills"), vec![1; 900_000]).unwrap();
        assert_eq!(code(500_000, 5), Err("no-space".into()));
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(here.0.path()).status();
        assert!(remount.unwrap().success());
        assert_eq!(code(0, 0), Err("read-only".into()));
    }
}
