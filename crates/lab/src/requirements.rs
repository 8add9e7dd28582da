//! Debian packages that the lab and the tests need on the machine they run on.

use crate::tool::{Tool, installed};
use crate::{LabError, Say};

/// A program that is called, the package that has it, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the program.
    pub program: &'static str,
    /// Debian package it is in.
    pub package: &'static str,
    /// What is done with it.
    pub reason: &'static str,
}

/// A program, its package, and what is done with it.
pub const fn needs(
    program: &'static str,
    package: &'static str,
    reason: &'static str,
) -> Requirement {
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

/// What of these this machine lacks.
pub fn missing(all: &[Requirement]) -> Vec<Requirement> {
    all.iter().copied().filter(|need| !installed(need.program)).collect()
}

/// Installs what of these is missing, and says what and why. Nothing that is on the machine is removed for it.
///
/// # Errors
/// [`LabError::Missing`]: what cannot be installed, why, and what to do.
pub fn ensure(all: &[Requirement], say: Say<'_>) -> Result<(), LabError> {
    let missing = missing(all);
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
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    Tool::new("apt-get", "installing what is missing")
        .args(["-q", "-y", "--no-install-recommends", "--no-remove", "install"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
        .map_err(|error| LabError::Missing {
            missing: listed,
            next: format!(
                "{error}\n`apt-get install {}` shows what that would do to this machine; nothing is removed from it \
                 unasked",
                packages.join(" ")
            ),
        })?;
    let still = self::missing(all);
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
