//! File systems that somebody else may make wait: those of networks, and those that a process serves. Nobody looks for
//! anything there.

use rustix::fs::StatFs;

/// By their numbers: NFS, CIFS, SMB 2 and 3, FUSE, Ceph, AFS (statfs(2), `linux/magic.h`).
const NUMBERS: [u64; 6] = [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x00C3_6400, 0x5346_414F];
/// As they are called in proc_pid_mountinfo(5), without what follows a dot.
const NAMES: [&str; 9] = ["fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "9p"];

/// Is what was asked about on one of them?
pub(super) fn is_type(of: &StatFs) -> bool {
    NUMBERS.contains(&(of.f_type as u64 & 0xFFFF_FFFF))
}

/// Is this the name of one of them? `fuse.sshfs` is.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.contains(&name.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_or_a_network_serves_is_told_from_a_disk() {
        for (name, distant) in
            [("fuse.sshfs", true), ("nfs4", true), ("9p", true), ("ext4", false), ("fuseblk", true)]
        {
            assert_eq!(is_name(name), distant, "{name}");
        }
        assert!(!is_type(&rustix::fs::statfs("/proc").unwrap()));
    }
}
