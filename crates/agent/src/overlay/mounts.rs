//! Which file systems are mounted where (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Tells file systems apart, as the kernel does: `254:1`. All mounts of one have the same, also where each is of another
    /// subvolume of it; what `stat(2)` says is not (btrfs).
    pub device: String,
    /// Which directory or file of the file system is mounted there: `/` unless it is a part.
    pub part: PathBuf,
    /// `ext4`, `btrfs`, `tmpfs`, ...
    pub kind: String,
    /// What is mounted: `/dev/vda1`.
    pub source: String,
    /// Mounted or made read-only.
    pub read_only: bool,
}

/// The mounts of this process, in the order they were made; those hidden under a later one of the same place
/// are left out.
///
/// # Errors
/// When `/proc/self/mountinfo` cannot be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    let mut out: Vec<Mount> = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let Some(dash) = fields.iter().position(|f| *f == b"-") else { continue };
        if let [_, _, device, part, point, options, ..] = fields[..dash]
            && let Some(kind) = fields.get(dash + 1)
        {
            let point = unescape(point);
            out.retain(|m| m.point != point);
            let read_only = |options: &[u8]| options.split(|b| *b == b',').any(|o| o == b"ro");
            out.push(Mount {
                point,
                device: String::from_utf8_lossy(device).into_owned(),
                part: unescape(part),
                kind: String::from_utf8_lossy(kind).into_owned(),
                source: fields
                    .get(dash + 2)
                    .map(|s| unescape(s).to_string_lossy().into_owned())
                    .unwrap_or_default(),
                read_only: read_only(options) || fields.get(dash + 3).is_some_and(|o| read_only(o)),
            });
        }
    }
    out
}

/// The mount that a path lies on, which has no links in it. `None`: none of these.
pub fn holding<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// `\040` and its like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal =
            |b: &[u8]| b.iter().try_fold(0u32, |n, d| (*d as char).to_digit(8).map(|d| n * 8 + d));
        match tail.get(..3).and_then(octal) {
            Some(value) if byte == b'\\' => {
                bytes.push(value as u8);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Kernel and memory file systems, which hold no files that a package owns.
const VIRTUAL: [&str; 24] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "pstore",
    "bpf",
    "mqueue",
    "hugetlbfs",
    "efivarfs",
    "fusectl",
    "binfmt_misc",
    "autofs",
    "nsfs",
    "rpc_pipefs",
    "selinuxfs",
    "fuse.lxcfs",
];

impl Mount {
    /// May files of packages lie on it? `/` itself is not asked for.
    pub fn holds_files(&self) -> bool {
        let system = ["/proc", "/sys", "/dev", "/run"].iter().any(|p| self.point.starts_with(p));
        !system && self.point != Path::new("/") && !VIRTUAL.contains(&self.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_its_escapes_and_the_topmost_mount_of_a_place_counts() {
        let text = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            23 22 0:21 / /proc rw - proc proc rw\n\
            24 22 8:1 /a\\040b /mnt/c\\134d ro,nosuid master:3 - xfs /dev/sda1 rw\n\
            25 22 8:2 / /var rw - ext4 /dev/sdb rw\n\
            26 25 8:3 / /var rw - btrfs /dev/sdc ro\nrubbish\n";
        let found = parse(text);
        let points: Vec<_> = found.iter().map(|m| m.point.to_str().unwrap()).collect();
        assert_eq!(points, ["/", "/proc", "/mnt/c\\d", "/var"]);
        assert_eq!(found[2].part, Path::new("/a b"));
        assert!(found[2].read_only && found[3].read_only && !found[0].read_only);
        assert_eq!(found[3].kind, "btrfs");
        assert_eq!(found.iter().filter(|m| m.holds_files()).count(), 2);
        assert_eq!(found[2].device, "8:1");
        let on = |path: &str| holding(&found, Path::new(path)).unwrap().device.as_str();
        assert_eq!(
            ["/", "/variant", "/var", "/var/lib/x"].map(on),
            ["254:0", "254:0", "8:3", "8:3"]
        );
        assert_eq!(holding(&found[1..], Path::new("/srv")), None);
    }
}
