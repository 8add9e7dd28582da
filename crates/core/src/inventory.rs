//! What a host reports about itself.

use crate::language::LanguagePackage;
use crate::root::Root;
use crate::{Digest, Shared};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything Fettle knows of a host from the host itself. Lists are sorted by their first fields, so
/// that equal hosts give equal bytes and [`Inventory::digest`] can stand for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Layout version, 1. Unknown fields of later versions are ignored.
    pub schema: u32,
    /// Operating system, from `os-release(5)`.
    pub os: Os,
    /// Debian architecture name of the host (`amd64`).
    pub architecture: String,
    /// Which kernel runs and which are installed.
    pub kernel: Kernel,
    /// Changes at every boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Installed packages, by name and architecture. Hosts of a cohort may share the whole list.
    pub packages: Shared<Vec<Shared<Package>>>,
    /// Packages of languages that no package of the distribution owns, by ecosystem, name and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<LanguagePackage>,
    /// Other roots on the host, by kind and name: what is installed in containers, machines and chroots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<Root>,
    /// Upgrades that the host's own sources offer now, by name and architecture.
    pub upgrades: Vec<Shared<Upgrade>>,
    /// systemd services that are active, failed or enabled, by name.
    pub services: Vec<Service>,
    /// Sockets that wait for peers.
    pub listeners: Vec<Listener>,
    /// Processes that still map or run files since replaced: patched on disk, not yet in memory.
    pub stale: Vec<StaleProcess>,
    /// Names of installed packages of which some file is mapped by a running process. Binary names; of packages of
    /// languages their locations.
    pub in_use: Vec<String>,
    /// Names of installed packages mapped by a process that listens beyond loopback. Subset of `in_use`.
    pub exposed: Vec<String>,
    /// Why a reboot is needed, empty when it is not.
    pub reboot_needed: Vec<String>,
    /// Digests of watched configuration files, path → content.
    pub configuration: BTreeMap<String, Digest>,
    /// Packages the administrator holds (`apt-mark hold`). Binary names.
    pub held: Vec<String>,
    /// Installed packages that the administrator's preferences name (`apt_preferences(5)`), and what these say. Binary
    /// names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<String, String>,
    /// What the agent could not find out, in words. Absence of data is told, never guessed.
    pub gaps: Vec<String>,
    /// File systems that package changes write to, by mount point. Empty: the agent does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Package with an upgrade → installed packages whose `Depends` or `Pre-Depends` name it (deb-control(5)). Binary
    /// names. `None`: the agent does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependents: Option<BTreeMap<String, Vec<String>>>,
}

/// A file system, and what is free on it: statvfs(3), rounded down so that an inventory does not change with every log
/// line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Filesystem {
    /// Where it is mounted: `/`, `/var`.
    pub mount: String,
    /// Bytes that it has.
    pub size: u64,
    /// Bytes free for everybody, as [`Filesystem::rounded`] has them.
    pub free: u64,
    /// Inodes free, rounded alike. `None`: it does not count them (btrfs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes_free: Option<u64>,
}

impl Filesystem {
    /// Rounds down to an eighth of the power of two that it lies above: never more than there is, and at least seven
    /// eighths of it.
    pub fn rounded(amount: u64) -> u64 {
        let eighth = amount.checked_ilog2().map_or(1, |power| 1 << power.saturating_sub(3));
        amount - amount % eighth
    }
}

/// Operating system, as `os-release(5)` names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Os {
    /// `ID`: `debian`.
    pub id: String,
    /// `VERSION_ID`: `12`. Empty for rolling releases.
    pub version: String,
    /// `VERSION_CODENAME`: `bookworm`. Empty where the vendor has none.
    pub codename: String,
    /// `PRETTY_NAME`.
    pub pretty: String,
}

/// Kernels of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`: `6.1.0-28-amd64`.
    pub running: String,
    /// The package version of the running kernel where the kernel tells it (Debian writes it into
    /// `uname -v`: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)`), else empty.
    pub running_version: String,
    /// Is the running kernel one of this host's packages? Not so in a container.
    pub from_package: bool,
    /// Installed kernel image packages, name → version.
    pub installed: BTreeMap<String, String>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Installed version.
    pub version: String,
    /// Source package; the binary's own name where the package manager names none.
    pub source: String,
    /// Version of the source package; the binary's own where the package manager names none.
    pub source_version: String,
    /// Neither half-installed nor half-configured.
    pub healthy: bool,
    /// Module and stream that it is part of (rpm): `nodejs:18`. Empty where there is none, or the package manager does not
    /// say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
}

/// An upgrade offered by the host's own sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Upgrade {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Installed version; empty when the package would be new.
    pub from: String,
    /// Offered version.
    pub to: String,
    /// Where it comes from.
    pub origin: Origin,
    /// SHA-256 of the archive, from the signed index.
    pub sha256: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
    /// Version of the source package of `to`.
    pub source_version: String,
    /// Does taking this upgrade pull in packages that are not installed, or remove some? Binary names.
    #[serde(default)]
    pub brings: Vec<String>,
    /// Binary names that would be removed.
    #[serde(default)]
    pub removes: Vec<String>,
}

impl Upgrade {
    /// Is this what a person calls it: `name`, or `name:architecture`?
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name
            || name.split_once(':').is_some_and(|(n, a)| n == self.name && a == self.architecture)
    }
}

/// Where an upgrade comes from: fields of the repository's `Release` file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Origin {
    /// `Origin:`, e.g. `Debian`.
    pub origin: String,
    /// `Label:`, e.g. `Debian-Security`.
    pub label: String,
    /// `Suite:`, e.g. `stable-security`.
    pub suite: String,
    /// `Codename:`, e.g. `bookworm-security`.
    pub codename: String,
}

impl Origin {
    /// Does the vendor call this a security suite? Debian and Ubuntu do so in label or suite name.
    pub fn is_security(&self) -> bool {
        let says = |text: &str| text.to_ascii_lowercase().ends_with("-security");
        says(&self.label) || says(&self.suite) || says(&self.codename)
    }
}

/// A systemd service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// Unit name: `nginx.service`.
    pub unit: String,
    /// `active`, `inactive`, `failed`, `activating`, ... (`ActiveState`).
    pub active: String,
    /// `running`, `exited`, `dead`, ... (`SubState`).
    pub sub: String,
    /// `enabled`, `disabled`, `static`, ... (`UnitFileState`), empty where unknown.
    pub enabled: String,
}

/// A socket that waits for peers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// `tcp`, `tcp6`, `udp`, `udp6`.
    pub protocol: String,
    /// Address in text.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Process name, empty where it could not be read.
    pub process: String,
    /// The unit the process belongs to, empty where none.
    pub unit: String,
}

impl Listener {
    /// Can it be reached only from the host itself?
    pub fn is_loopback(&self) -> bool {
        self.address.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    }
}

/// A process that still maps or runs files that have been replaced since it started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StaleProcess {
    /// The unit it belongs to, empty where none.
    pub unit: String,
    /// Process name.
    pub process: String,
    /// Process id.
    pub pid: u32,
    /// The replaced files it maps.
    pub files: Vec<String>,
    /// Binary packages that own those files.
    pub packages: Vec<String>,
}

impl Inventory {
    /// Stands for the whole inventory: equal digests, equal inventories.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Which cohort the host belongs to: release, architecture and every installed package with its
    /// version. What is tested on one host of a cohort is tested for all of them.
    pub fn cohort(&self) -> Digest {
        let packages: Vec<_> = self
            .packages
            .iter()
            .map(|p| (&p.name, &p.architecture, &p.version, p.healthy))
            .collect();
        Digest::of_json(&(&self.os.id, &self.os.version, &self.architecture, packages))
    }

    /// The installed package of that binary name (the host's own architecture first).
    pub fn package(&self, name: &str) -> Option<&Package> {
        let mut found = self.packages.iter().map(|p| &**p).filter(|p| p.name == name);
        let first = found.next()?;
        if first.architecture == self.architecture {
            return Some(first);
        }
        found.find(|p| p.architecture == self.architecture).or(Some(first))
    }
}
