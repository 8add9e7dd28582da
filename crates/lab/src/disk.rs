//! Host roots on disk.
//!
//! Normally all roots are btrfs subvolumes on one sparse image: a host is a snapshot of the base,
//! made in milliseconds, and inside the host `/` is a plain btrfs root, so overlays can be mounted
//! over it without stacking. Where btrfs or loop devices are not to be had, roots are plain copies.
//! A host can also have an ext4 or xfs root of its own, of a size one can fill up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::host::RootFs;
use crate::process::poll_until;
use crate::requirements::Requirement;
use crate::tool::Tool;
use crate::{LabConfig, LabError, requirements};

/// How host roots are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Snapshots on a btrfs image.
    Snapshots,
    /// Plain copies, which take longer and more space.
    Copies {
        /// Why no snapshots.
        why: String,
    },
}

/// Mounts the lab's disk, making it first if needed.
pub(crate) fn up(config: &LabConfig) -> Result<Storage, LabError> {
    let disk = config.disk();
    fs::create_dir_all(&disk).map_err(LabError::io("make", &disk))?;
    let storage = if mounted_at(&disk) {
        Storage::Snapshots
    } else if !config.copy_on_write {
        Storage::Copies { why: "the lab is set up so".to_owned() }
    } else {
        match mount_image(config) {
            Ok(()) => Storage::Snapshots,
            Err(error) => {
                let _ = fs::remove_file(config.image());
                Storage::Copies { why: error.to_string() }
            }
        }
    };
    let roots = config.host_roots();
    fs::create_dir_all(&roots).map_err(LabError::io("make", &roots))?;
    Ok(storage)
}

fn mount_image(config: &LabConfig) -> Result<(), LabError> {
    let image = config.image();
    let mount = || {
        Tool::new("mount", "mounting the lab's disk")
            .args(["-t", "btrfs", "-o", "loop,noatime"])
            .args([&image, &config.disk()])
            .run()
            .map(|_| ())
    };
    if image.is_file() && mount().is_ok() {
        return Ok(());
    }
    // None yet, or one that a crash of the machine left unusable: it only holds what can be rebuilt.
    let file = fs::File::create(&image).map_err(LabError::io("make", &image))?;
    file.set_len(config.disk_mib * 1024 * 1024).map_err(LabError::io("size", &image))?;
    drop(file);
    Tool::new("mkfs.btrfs", "formatting the lab's disk")
        .args(["-q", "-m", "single"])
        .arg(&image)
        .run()?;
    mount()
}

/// Whether roots are btrfs subvolumes.
fn snapshots(config: &LabConfig) -> bool {
    mounted_at(&config.disk())
}

/// An empty root to build a base in.
pub(crate) fn create_empty(config: &LabConfig, root: &Path) -> Result<(), LabError> {
    if snapshots(config) {
        btrfs("making a subvolume", &["subvolume", "create"], &[root])
    } else {
        fs::create_dir(root).map_err(LabError::io("make", root))
    }
}

/// Copies `base` to a new host root.
pub(crate) fn create_root(
    config: &LabConfig,
    base: &Path,
    name: &str,
    kind: RootFs,
) -> Result<PathBuf, LabError> {
    let root = config.host_roots().join(name);
    match kind {
        RootFs::Separate if !snapshots(config) => {
            return Err(LabError::Setting {
                setting: "root file system",
                value: root.display().to_string(),
                why: "file systems of their own need a lab on btrfs".to_owned(),
            });
        }
        RootFs::CopyOnWrite | RootFs::Separate if snapshots(config) => {
            btrfs("copying the base", &["subvolume", "snapshot"], &[base, &root])?;
        }
        RootFs::CopyOnWrite | RootFs::Separate => {
            Tool::new("cp", "copying the base")
                .args(["-a", "--reflink=auto"])
                .args([base, &root])
                .run()?;
        }
        RootFs::Ext4 { mib } => {
            let image = empty_image(config, name, mib)?;
            Tool::new("mkfs.ext4", "copying the base to an ext4 image")
                .args(["-q", "-F", "-d"])
                .args([base, &image])
                .run()?;
            mount_root(&image, &root)?;
        }
        RootFs::Xfs { mib } => {
            requirements::ensure(XFS, &|_| {})?;
            let image = empty_image(config, name, mib)?;
            Tool::new("mkfs.xfs", "making an xfs image").args(["-q", "-f"]).arg(&image).run()?;
            mount_root(&image, &root)?;
            Tool::new("cp", "copying the base to an xfs image")
                .arg("-a")
                .args([&base.join("."), &root])
                .run()?;
        }
    }
    Ok(root)
}

/// What hosts on xfs need beside what all hosts need.
const XFS: &[Requirement] =
    &[Requirement { program: "mkfs.xfs", package: "xfsprogs", reason: "makes host roots on xfs" }];

/// The file that a root of its own is in.
fn image(config: &LabConfig, name: &str) -> PathBuf {
    config.host_images().join(format!("{name}.img"))
}

fn empty_image(config: &LabConfig, name: &str, mib: u32) -> Result<PathBuf, LabError> {
    let images = config.host_images();
    fs::create_dir_all(&images).map_err(LabError::io("make", &images))?;
    let image = image(config, name);
    let file = fs::File::create(&image).map_err(LabError::io("make", &image))?;
    file.set_len(u64::from(mib) * 1024 * 1024).map_err(LabError::io("size", &image))?;
    Ok(image)
}

fn mount_root(image: &Path, root: &Path) -> Result<(), LabError> {
    fs::create_dir_all(root).map_err(LabError::io("make", root))?;
    let mount = Tool::new("mount", "mounting the host's own root").args(["-o", "loop"]);
    mount.args([image, root]).run().map(drop)
}

/// What a host with [`RootFs::Separate`] has on file systems of its own.
const PARTS: [&str; 4] = ["usr", "var", "boot", "home"];

/// The file system of a part: `NAME+usr` beside the root, a subvolume, which has a device number of its own.
fn part(root: &Path, name: &str) -> PathBuf {
    let host = root.file_name().unwrap_or_default().to_string_lossy();
    root.with_file_name(format!("{host}+{name}"))
}

/// What is mounted where when the host boots: file system, and place in the host.
pub(crate) fn parts(root: &Path) -> Vec<(PathBuf, String)> {
    let all = PARTS.iter().map(|name| (part(root, name), format!("/{name}")));
    all.filter(|(part, _)| part.is_dir()).collect()
}

/// Moves the parts of a host's root to file systems of their own.
pub(crate) fn separate(root: &Path) -> Result<(), LabError> {
    for name in PARTS {
        let (from, to) = (root.join(name), part(root, name));
        btrfs("making a subvolume", &["subvolume", "create"], &[&to])?;
        Tool::new("cp", "moving a part of the root")
            .args(["-a", "--reflink=auto"])
            .args([&from.join("."), &to])
            .run()?;
        fs::remove_dir_all(&from).map_err(LabError::io("remove", &from))?;
        fs::create_dir(&from).map_err(LabError::io("make", &from))?;
    }
    // By it systemd-nspawn knows a root directory before anything is mounted.
    let (from, to) = (part(root, "usr").join("lib/os-release"), root.join("usr/lib/os-release"));
    fs::create_dir(root.join("usr/lib")).map_err(LabError::io("make", &to))?;
    fs::copy(&from, &to).map(drop).map_err(LabError::io("copy", &from))
}

/// Shuts a root on an image down as a power cut does: nothing reaches its disk any more, not even its log
/// (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`; xfs has the same under the same numbers).
pub(crate) fn cut(config: &LabConfig, root: &Path) -> Result<(), LabError> {
    image_of(config, root)?;
    const SHUTDOWN: &str = "open(my $d, '<', $ARGV[0]) or die $!; my $flags = pack('L', 2); ioctl($d, 0x8004587d, $flags) or die $!;";
    Tool::new("perl", "cutting the power").args(["-e", SHUTDOWN]).arg(root).run().map(drop)
}

/// Mounts such a root anew, as a boot after a power cut does: its log is replayed.
pub(crate) fn mount_again(config: &LabConfig, root: &Path) -> Result<(), LabError> {
    let image = image_of(config, root)?;
    for mount in mounts_under(root).into_iter().rev() {
        unmount(&mount)?;
    }
    // Another mount namespace, of a process that is about to end, may still hold it: mounted now it would be the very
    // file system that was shut down.
    let waited = Duration::from_secs(60);
    let is_free = || loops(&config.host_images()).iter().all(|(_, file)| *file != image);
    if !poll_until(Instant::now() + waited, is_free) {
        let what = format!("the disk {}", image.display());
        return Err(LabError::Stuck { what, waited, detail: "it is still mounted".to_owned() });
    }
    mount_root(&image, root)
}

fn image_of(config: &LabConfig, root: &Path) -> Result<PathBuf, LabError> {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let image = image(config, &name);
    match image.is_file() {
        true => Ok(image),
        false => Err(LabError::Setting {
            setting: "root file system",
            value: root.display().to_string(),
            why: "the power can only be cut of a host with a root of its own (ext4, xfs)"
                .to_owned(),
        }),
    }
}

/// Removes a host root, and subvolumes and mounts that are inside it. Harmless when it is gone.
pub(crate) fn remove_root(config: &LabConfig, root: &Path) -> Result<(), LabError> {
    for (part, _) in parts(root) {
        remove_root(config, &part)?;
    }
    for mount in mounts_under(root).into_iter().rev() {
        unmount(&mount)?;
    }
    if let Some(name) = root.file_name() {
        let image = image(config, &name.to_string_lossy());
        if image.is_file() {
            fs::remove_file(&image).map_err(LabError::io("remove", &image))?;
        }
    }
    if !root.exists() {
        return Ok(());
    }
    if snapshots(config) {
        let below = root.strip_prefix(config.disk()).unwrap_or(root);
        let list = Tool::new("btrfs", "listing subvolumes")
            .args(["subvolume", "list"])
            .arg(config.disk())
            .run()?;
        let mut inside: Vec<PathBuf> = list
            .lines()
            .filter_map(|line| line.split_once(" path ").map(|(_, path)| PathBuf::from(path)))
            .filter(|path| path.starts_with(below))
            .collect();
        inside.sort();
        for path in inside.into_iter().rev() {
            btrfs("removing a subvolume", &["subvolume", "delete"], &[&config.disk().join(path)])?;
        }
    }
    if root.exists() {
        fs::remove_dir_all(root).map_err(LabError::io("remove", root))?;
    }
    Ok(())
}

/// Marks a finished base as never to be changed.
pub(crate) fn seal(config: &LabConfig, root: &Path) -> Result<(), LabError> {
    if !snapshots(config) {
        return Ok(());
    }
    Tool::new("btrfs", "sealing the base")
        .args(["property", "set"])
        .arg(root)
        .args(["ro", "true"])
        .run()
        .map(|_| ())
}

/// Removes all host roots and unmounts the disk; the base stays in its image.
pub(crate) fn down(config: &LabConfig) -> Result<(), LabError> {
    let roots = config.host_roots();
    if let Ok(entries) = fs::read_dir(&roots) {
        for entry in entries.flatten() {
            let path = entry.path();
            // The parts of a host go with it.
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_root(config, &path)?;
            } else {
                fs::remove_file(&path).map_err(LabError::io("remove", &path))?;
            }
        }
    }
    for mount in mounts_under(&config.dir).into_iter().rev() {
        unmount(&mount)?;
    }
    let images = config.host_images();
    if images.is_dir() {
        fs::remove_dir_all(&images).map_err(LabError::io("remove", &images))?;
    }
    // A loop device whose mount failed half-way has no mount that would release it.
    for (device, _) in loops(&config.dir) {
        Tool::new("losetup", "releasing a loop device").arg("-d").arg(device).run()?;
    }
    let waited = Duration::from_secs(60);
    if poll_until(Instant::now() + waited, || loops(&config.dir).is_empty()) {
        return Ok(());
    }
    Err(LabError::Stuck {
        what: "the lab's loop device".to_owned(),
        waited,
        detail: format!("{:?}; another mount namespace may hold it", loops(&config.dir)),
    })
}

fn unmount(target: &Path) -> Result<(), LabError> {
    let mut last = Ok(String::new());
    let done = poll_until(Instant::now() + Duration::from_secs(20), || {
        last = Tool::new("umount", "unmounting").arg(target).run();
        last.is_ok() || !mounted_at(target)
    });
    if done { Ok(()) } else { last.map(|_| ()) }
}

fn btrfs(doing: &str, verb: &[&str], paths: &[&Path]) -> Result<(), LabError> {
    Tool::new("btrfs", doing).args(verb).args(paths).run().map(|_| ())
}

fn mounted_at(target: &Path) -> bool {
    mounts_under(target).iter().any(|mount| mount == target)
}

/// Mounts at `dir` and below, in the order in which they were made.
pub(crate) fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|target| target.starts_with(dir))
        .collect()
}

/// `mountinfo` writes blanks and the like as `\040`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if bytes[at] == b'\\' => {
                out.push(byte);
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// Loop devices backed by files in `dir`, with these files.
pub(crate) fn loops(dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let file = PathBuf::from(file.trim_end().trim_end_matches(" (deleted)"));
            let device = Path::new("/dev").join(entry.file_name());
            file.starts_with(dir).then_some((device, file))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(r"/plain\0"), Path::new(r"/plain\0"));
    }

    #[test]
    fn the_root_of_this_machine_is_a_mount() {
        assert!(mounted_at(Path::new("/")));
        assert!(!mounted_at(Path::new("/no/such/place")));
    }
}
