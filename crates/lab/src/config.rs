//! Where a lab lives and how its parts are named.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::LabError;

/// The directory a lab lives in unless `FETTLE_LAB_DIR` says otherwise.
pub const DEFAULT_DIR: &str = "/var/tmp/fettle-lab";
const DEFAULT_PREFIX: &str = "fettle-lab";
const DEFAULT_SUBNET: Subnet = Subnet([10, 197, 0]);

/// The lab's network: a /24; `.1` is the machine, hosts start at `.11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet([u8; 3]);

impl Subnet {
    /// Reads `a.b.c.0/24`.
    pub fn parse(text: &str) -> Result<Self, LabError> {
        let bad = || LabError::Setting {
            setting: "FETTLE_LAB_SUBNET",
            value: text.to_owned(),
            why: "write a private /24 network, such as 10.198.0.0/24".to_owned(),
        };
        let address: Ipv4Addr =
            text.strip_suffix("/24").ok_or_else(bad)?.parse().map_err(|_| bad())?;
        let [a, b, c, d] = address.octets();
        if d == 0 && address.is_private() { Ok(Self([a, b, c])) } else { Err(bad()) }
    }

    /// Address number `n` of the network.
    pub fn address(self, n: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, n)
    }

    /// The machine's own address on the lab's bridge.
    pub fn gateway(self) -> Ipv4Addr {
        self.address(1)
    }

    /// Whether `address` is in this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.octets()[..3] == self.0
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/24", self.address(0))
    }
}

/// How a lab is set up. Every artefact is under `dir` or carries `prefix` in its name.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Everything on disk is in here.
    pub dir: PathBuf,
    /// Names of bridge, NAT table, control group and containers start with this.
    pub prefix: String,
    /// The hosts' network.
    pub subnet: Subnet,
    /// Debian release of the hosts, by codename.
    pub suite: String,
    /// A base older than this is built anew, so that what is pending stays true.
    pub base_max_age: Duration,
    /// Size of the sparse disk image the hosts share, in MiB.
    pub disk_mib: u64,
    /// Make host roots as snapshots on that image; otherwise as plain copies.
    pub copy_on_write: bool,
    /// Packages to install in the base in addition to the usual ones.
    pub extra_packages: Vec<String>,
    /// Package sources to use instead of the machine's: a file in deb822 format.
    pub sources: Option<PathBuf>,
}

impl LabConfig {
    /// A lab in `dir`. Outside the default directory, prefix and network are derived from the
    /// directory's name, so labs in two directories do not meet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        let (prefix, subnet) = if dir == Path::new(DEFAULT_DIR) {
            (DEFAULT_PREFIX.to_owned(), DEFAULT_SUBNET)
        } else {
            let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
            let prefix = format!("fl-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2]);
            (prefix, Subnet([10, 198 + hash[3] % 32, hash[4]]))
        };
        Self {
            dir,
            prefix,
            subnet,
            suite: "bookworm".to_owned(),
            base_max_age: Duration::from_secs(24 * 3600),
            disk_mib: 32 * 1024,
            copy_on_write: true,
            extra_packages: Vec::new(),
            sources: None,
        }
    }

    /// The lab this environment asks for: `FETTLE_LAB_DIR`, `FETTLE_LAB_PREFIX`,
    /// `FETTLE_LAB_SUBNET`, `FETTLE_LAB_SOURCES`, `FETTLE_LAB_SUITE`, each optional.
    pub fn from_env() -> Result<Self, LabError> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut config = Self::at(var("FETTLE_LAB_DIR").unwrap_or_else(|| DEFAULT_DIR.into()));
        if let Some(prefix) = var("FETTLE_LAB_PREFIX") {
            config.prefix = prefix.to_string_lossy().into_owned();
        }
        if let Some(subnet) = var("FETTLE_LAB_SUBNET") {
            config.subnet = Subnet::parse(&subnet.to_string_lossy())?;
        }
        config.sources = var("FETTLE_LAB_SOURCES").map(PathBuf::from);
        if let Some(suite) = var("FETTLE_LAB_SUITE") {
            config.suite = suite.to_string_lossy().into_owned();
        }
        config.check()?;
        Ok(config)
    }

    /// The lab for tests: as [`LabConfig::from_env`], but in a directory of its own by default, so
    /// that tests do not take down a lab someone is looking at.
    pub fn for_tests() -> Result<Self, LabError> {
        if std::env::var_os("FETTLE_LAB_DIR").is_some_and(|dir| !dir.is_empty()) {
            return Self::from_env();
        }
        Ok(Self { sources: Self::from_env()?.sources, ..Self::at(format!("{DEFAULT_DIR}-test")) })
    }

    /// Whether the settings can be used.
    pub fn check(&self) -> Result<(), LabError> {
        if !self.dir.is_absolute() || self.dir == Path::new("/") {
            return Err(LabError::Setting {
                setting: "FETTLE_LAB_DIR",
                value: self.dir.display().to_string(),
                why: format!("write an absolute path, such as {DEFAULT_DIR}"),
            });
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !self.suite.starts_with(|c: char| c.is_ascii_lowercase())
            || !self.suite.chars().all(plain)
        {
            return Err(LabError::Setting {
                setting: "FETTLE_LAB_SUITE",
                value: self.suite.clone(),
                why: "write the codename of a Debian release, such as bookworm".to_owned(),
            });
        }
        let starts = self.prefix.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || self.prefix.len() > 11 || !self.prefix.chars().all(plain) {
            return Err(LabError::Setting {
                setting: "FETTLE_LAB_PREFIX",
                value: self.prefix.clone(),
                why: "write 1 to 11 characters of a-z, 0-9 and -, a letter first (it becomes part of \
                      network interface names, which are short)"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Name of the network bridge.
    pub fn bridge(&self) -> String {
        format!("{}-br0", self.prefix)
    }

    /// Name of the container that runs host `name`.
    pub(crate) fn machine(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    pub(crate) fn host_roots(&self) -> PathBuf {
        self.disk().join("hosts")
    }

    pub(crate) fn host_images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(crate) fn consoles(&self) -> PathBuf {
        self.dir.join("console")
    }

    pub(crate) fn vendors(&self) -> PathBuf {
        self.dir.join("vendors")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_in_two_directories_do_not_meet() {
        let a = LabConfig::at("/var/tmp/lab-a");
        let b = LabConfig::at("/var/tmp/lab-b");
        assert_ne!(a.prefix, b.prefix);
        assert_ne!(a.subnet, b.subnet);
        a.check().unwrap();
        LabConfig::at(DEFAULT_DIR).check().unwrap();
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_the_remedy() {
        for bad in ["", "Fettle", "a-very-long-prefix", "-x", "a b"] {
            let config = LabConfig { prefix: bad.to_owned(), ..LabConfig::at(DEFAULT_DIR) };
            assert!(config.check().unwrap_err().to_string().contains("FETTLE_LAB_PREFIX"));
        }
        for bad in ["", "Bookworm", "--help", "a b"] {
            let config = LabConfig { suite: bad.to_owned(), ..LabConfig::at(DEFAULT_DIR) };
            assert!(config.check().unwrap_err().to_string().contains("FETTLE_LAB_SUITE"));
        }
        assert!(LabConfig::at("relative").check().is_err());
        assert!(LabConfig::at("/").check().is_err());
    }

    #[test]
    fn a_subnet_is_a_private_slash_24() {
        assert_eq!(Subnet::parse("10.4.5.0/24").unwrap().gateway(), Ipv4Addr::new(10, 4, 5, 1));
        for bad in ["10.4.5.0", "10.4.5.1/24", "8.8.8.0/24", "10.4.5.0/16", "x/24"] {
            assert!(Subnet::parse(bad).is_err(), "{bad}");
        }
    }
}
