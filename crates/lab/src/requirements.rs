//! Debian packages the lab needs on the machine it runs on.

use crate::tool::{Tool, installed};
use crate::{LabError, Say};

/// A program the lab calls, the package that has it, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the program.
    pub program: &'static str,
    /// Debian package it is in.
    pub package: &'static str,
    /// What the lab does with it.
    pub reason: &'static str,
}

const fn needs(program: &'static str, package: &'static str, reason: &'static str) -> Requirement {
    Requirement { program, package, reason }
}

/// Everything the lab calls that not every Debian has.
pub const REQUIREMENTS: &[Requirement] = &[
    needs("mmdebstrap", "mmdebstrap", "builds the base system of the hosts"),
    needs("systemd-nspawn", "systemd-container", "boots the hosts"),
    needs("ip", "iproute2", "makes the network bridge"),
    needs("nft", "nftables", "gives the hosts access to the package sources (NAT)"),
    needs("mkfs.btrfs", "btrfs-progs", "makes host roots copy-on-write"),
    needs("mkfs.ext4", "e2fsprogs", "makes host roots on ext4"),
    needs("nsenter", "util-linux", "runs commands in the hosts"),
    needs("losetup", "mount", "mounts the disk image"),
    needs("dpkg-deb", "dpkg", "builds the test vendor's packages"),
    needs("apt-ftparchive", "apt-utils", "indexes the test vendor's archive"),
    needs("gpg", "gnupg", "signs the test vendor's archive"),
];

/// What of it this machine lacks.
pub fn missing() -> Vec<Requirement> {
    missing_of(REQUIREMENTS)
}

fn missing_of(all: &[Requirement]) -> Vec<Requirement> {
    all.iter().copied().filter(|need| !installed(need.program)).collect()
}

/// Installs what is missing, and says what and why.
pub(crate) fn ensure(say: Say<'_>) -> Result<(), LabError> {
    ensure_these(REQUIREMENTS, say)
}

/// The same for other programs.
pub(crate) fn ensure_these(all: &[Requirement], say: Say<'_>) -> Result<(), LabError> {
    let missing = missing_of(all);
    if missing.is_empty() {
        return Ok(());
    }
    let listed = missing
        .iter()
        .map(|need| format!("{} ({})", need.package, need.reason))
        .collect::<Vec<_>>()
        .join(", ");
    if !installed("apt-get") {
        return Err(LabError::Missing {
            missing: listed,
            next: "this machine has no apt-get: install them with its own package manager"
                .to_owned(),
        });
    }
    for need in &missing {
        say(&format!("installing {}: {}", need.package, need.reason));
    }
    Tool::new("apt-get", "fetching the package lists").args(["-q", "update"]).run()?;
    Tool::new("apt-get", "installing what the lab needs")
        // It is somebody's machine: what is on it stays.
        .args(["-q", "-y", "--no-install-recommends", "--no-remove", "install"])
        .args(missing.iter().map(|need| need.package))
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    let still = missing_of(all);
    if still.is_empty() {
        return Ok(());
    }
    let programs = still.iter().map(|need| need.program).collect::<Vec<_>>().join(", ");
    Err(LabError::Missing {
        missing: programs,
        next: "the packages were installed but these programs are not in PATH: check PATH"
            .to_owned(),
    })
}
