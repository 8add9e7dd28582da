//! Room that a change of packages takes: what the host asks for before it changes anything, and what a plan can say of it
//! before that.

use crate::Shared;
use crate::assignment::PackageChange;
use crate::inventory::Filesystem;
use std::collections::BTreeMap;

/// Where the agent keeps what an undo needs, unless it was told another place.
pub const STATE: &str = "/var/lib/fettle-agent";
/// Everywhere that packages and the agent write.
pub const PLACES: [&str; 6] = ["/", "/usr", "/var", "/etc", "/boot", STATE];

/// An archive unpacks to so many times its size, with what dpkg keeps beside it meanwhile.
const UNPACKED: u64 = 5;
/// Room that stays free in any case, in bytes.
const MARGIN: u64 = 64 << 20;
/// A kernel with its initramfs, in bytes: the old ones stay.
const KERNEL: u64 = 150 << 20;

/// What is written at a place. Needs on one file system add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// An absolute path.
    pub place: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// A first estimate; after its rehearsal the host knows better and asks again.
pub fn needs(changes: &[Shared<PackageChange>]) -> Vec<Need> {
    let archives: u64 = changes.iter().fold(0, |sum, change| change.size.saturating_add(sum));
    let times = |factor: u64| archives.saturating_mul(factor).saturating_add(MARGIN);
    let need = |place, bytes, inodes| Need { place, bytes, inodes };
    // State: new and old archives, preimage. Elsewhere: what is unpacked beside what it replaces.
    let mut out = vec![
        need(STATE, times(2 + UNPACKED), 2000),
        need("/usr", times(UNPACKED), 2000),
        need("/var", times(1), 500),
        need("/etc", 1 << 20, 100),
    ];
    if changes.iter().any(|change| super::restarts::is_kernel_image(&change.name)) {
        out.push(need("/boot", KERNEL, 10));
    }
    out
}

/// A file system that has too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short<'a> {
    /// Where it is mounted.
    pub mount: &'a str,
    /// What is short: `bytes` or `inodes`.
    pub of: &'static str,
    /// How much it has, rounded down.
    pub free: u64,
    /// How much the change takes.
    pub needs: u64,
}

/// The first file system of a host on which the changes may find too little room. `None`: there is enough, as far as its
/// inventory tells.
pub fn short<'a>(needs: &[Need], filesystems: &'a [Filesystem]) -> Option<Short<'a>> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for need in needs {
        let Some(at) = home(need.place, filesystems) else { continue };
        let (bytes, inodes) = sums.entry(at).or_default();
        *bytes = bytes.saturating_add(need.bytes);
        *inodes = inodes.saturating_add(need.inodes);
    }
    sums.into_iter().find_map(|(at, (bytes, inodes))| {
        let it = &filesystems[at];
        let short = |of, free, needs| Short { mount: &it.mount, of, free, needs };
        if it.free < bytes {
            return Some(short("bytes", it.free, bytes));
        }
        it.inodes_free.filter(|free| *free < inodes).map(|free| short("inodes", free, inodes))
    })
}

/// The file system that a path is on: of those mounted above it, the nearest.
fn home(path: &str, filesystems: &[Filesystem]) -> Option<usize> {
    let above = |it: &Filesystem| {
        let mount = it.mount.trim_end_matches('/');
        path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let all = filesystems.iter().enumerate().filter(|(_, it)| above(it));
    all.max_by_key(|(_, it)| it.mount.trim_end_matches('/').len()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn change(name: &str, size: u64) -> Shared<PackageChange> {
        PackageChange {
            name: name.into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: "2".into(),
            sha256: Digest::of(b""),
            size,
        }
        .into()
    }

    fn disk(mount: &str, mebibytes: u64) -> Filesystem {
        Filesystem {
            mount: mount.into(),
            size: 1 << 40,
            free: mebibytes << 20,
            inodes_free: Some(100_000),
        }
    }

    #[test]
    fn needs_on_one_file_system_add_up_and_the_nearest_mount_counts() {
        let needs = needs(&[change("nginx", 10 << 20)]);
        // 70 + 50 + 10 MiB for the archives, 64 in each of three places, 1 for /etc.
        let all = 70 + 50 + 10 + 3 * 64 + 1;
        assert_eq!(short(&needs, &[disk("/", all)]), None);
        let found = [disk("/", all - 1)];
        let it = short(&needs, &found).unwrap();
        assert_eq!((it.mount, it.of, it.needs >> 20, it.free >> 20), ("/", "bytes", all, all - 1));
        // On its own, /var has to hold the state as well; `/variant` is another place.
        let var = 70 + 10 + 2 * 64;
        let parts = [disk("/", 115), disk("/var", var), disk("/variant", 0), disk("/boot", 0)];
        assert_eq!(short(&needs, &parts), None);
        let parts = [disk("/", 115), disk("/var", var - 1)];
        assert_eq!(short(&needs, &parts).unwrap().mount, "/var");
    }

    #[test]
    fn a_kernel_needs_room_in_boot_and_inodes_are_asked_for_as_well() {
        let needs = needs(&[change("linux-image-6.1.0-40-amd64", 1)]);
        let parts = [disk("/", 4000), disk("/boot", 149)];
        assert_eq!(short(&needs, &parts).unwrap().mount, "/boot");
        let few = Filesystem { inodes_free: Some(100), ..disk("/", 4000) };
        assert_eq!(short(&needs, &[few]).unwrap().of, "inodes");
        let uncounted = Filesystem { inodes_free: None, ..disk("/", 4000) };
        assert_eq!(short(&needs, &[uncounted]), None);
        assert_eq!(short(&needs, &[]), None, "nothing is known of it");
    }

    #[test]
    fn what_is_told_to_be_free_is_never_more_than_there_is_and_hardly_less() {
        for amount in [0, 1, 7, 8, 9, 15, 16, 17, 1000, (10 << 30) + 123_456, u64::MAX] {
            let told = Filesystem::rounded(amount);
            assert!(told <= amount && told >= amount / 8 * 7, "{amount} {told}");
            assert_eq!(Filesystem::rounded(told), told);
        }
    }
}
