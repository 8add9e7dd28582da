//! Which release a document speaks of: by tests of the package that is the release, by files that name it, by the
//! platforms that a definition lists.

use super::OvalVendor;
use crate::feed::{check_package, debian_codename};

/// A package that tells what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// A system that a host can be.
    Of(System),
    /// Something else of the vendor's: a management server, a desktop's extension.
    Other,
}

/// A system whose releases are told by the version of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// By its major version, under this name.
    Major(&'static str),
    /// SUSE's: by the whole version.
    Sles,
    /// openSUSE's: numbered ones, and the one that rolls.
    OpenSuse,
}

/// What a package tells by being installed; `None` where it is a package as any other.
pub(super) fn of_package(vendor: OvalVendor, name: &str) -> Option<Product> {
    let system = match (vendor, name) {
        (OvalVendor::AlmaLinux, "almalinux-release") => System::Major("almalinux"),
        (OvalVendor::Oracle, "oraclelinux-release") => System::Major("ol"),
        (OvalVendor::RedHat, "redhat-release") => System::Major("rhel"),
        (OvalVendor::Suse, "openSUSE-release") => System::OpenSuse,
        (OvalVendor::Suse, "sles-release") => System::Sles,
        // A host that has a server's modules has their packages at the versions of its service pack.
        (OvalVendor::Suse, name) => match name.strip_suffix("-release")? {
            module if module.starts_with("sle-module-") => System::Sles,
            _ => return Some(Product::Other),
        },
        _ => return None,
    };
    Some(Product::Of(system))
}

impl System {
    /// The release whose package has a version like this.
    pub(super) fn release(self, operation: &str, version: &str) -> Result<String, String> {
        let unread = || format!("`version` {operation} {version:?} tells no release");
        let number = match operation {
            "equals" => version,
            "pattern match" => {
                // `^9[^\d]`, `^8`: a major version, and nothing of the minor one.
                let rest = version.strip_prefix('^').ok_or_else(unread)?;
                let number = rest.trim_end_matches(r"[^\d]").trim_end_matches(r"\.");
                if self == Self::Sles || number.contains('.') {
                    return Err(unread());
                }
                number
            }
            // Tumbleweed's versions are days: `0:20210101-0`.
            "greater than or equal" if self == Self::OpenSuse => {
                let day = version.trim_start_matches("0:").split('-').next().unwrap_or_default();
                let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
                return is_day.then(|| "opensuse-tumbleweed".to_owned()).ok_or_else(unread);
            }
            _ => return Err(unread()),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let mut parts = number.split('.');
        let major = parts.next().filter(|m| digits(m) && m.len() <= 3).ok_or_else(unread)?;
        if !parts.all(|minor| digits(minor) && minor.len() <= 3) {
            return Err(unread());
        }
        Ok(match self {
            Self::Major(name) => format!("{name}:{major}"),
            Self::Sles => format!("sles:{number}"),
            // 13.2 was followed by Leap 42.1.
            Self::OpenSuse if matches!(major, "10" | "11" | "12" | "13") => {
                format!("opensuse:{number}")
            }
            // Leap Micro has numbers of its own.
            Self::OpenSuse if major.len() == 1 => format!("opensuse-leap-micro:{number}"),
            Self::OpenSuse => format!("opensuse-leap:{number}"),
        })
    }
}

/// `11` is `bullseye`.
pub(super) fn of_debian(number: &str) -> Result<String, String> {
    let codename = debian_codename(number);
    codename.map(str::to_owned).ok_or_else(|| format!("Debian {number:?} is no known release"))
}

/// `jammy` is `ubuntu:22.04`.
pub(super) fn of_ubuntu_codename(codename: &str) -> Result<String, String> {
    let number = match codename {
        "trusty" => "14.04",
        "xenial" => "16.04",
        "bionic" => "18.04",
        "focal" => "20.04",
        "jammy" => "22.04",
        "noble" => "24.04",
        "oracular" => "24.10",
        "plucky" => "25.04",
        "questing" => "25.10",
        _ => return Err(format!("Ubuntu {codename:?} is no known release")),
    };
    Ok(format!("ubuntu:{number}"))
}

/// The release that a platform is; `None` where it is no system of this vendor's that a host can be.
///
/// | platform | release |
/// |---|---|
/// | `Debian GNU/Linux 11` | `bullseye` |
/// | `Ubuntu 22.04 LTS` | `ubuntu:22.04` |
/// | `Ubuntu Pro FIPS-updates 22.04 LTS` | `ubuntu-pro-fips-updates:22.04` |
pub(super) fn of_platform(vendor: OvalVendor, platform: &str) -> Option<String> {
    match vendor {
        OvalVendor::Debian => {
            let number = platform.strip_prefix("Debian GNU/Linux ")?;
            debian_codename(number).map(str::to_owned)
        }
        OvalVendor::Ubuntu => {
            let words: Vec<&str> = platform.strip_prefix("Ubuntu ")?.split(' ').collect();
            let at = words.iter().position(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
            let variant: String =
                words[..at].iter().map(|w| format!("-{}", w.to_ascii_lowercase())).collect();
            check_package("release", &format!("ubuntu{variant}{}", words[at])).ok()?;
            Some(format!("ubuntu{variant}:{}", words[at]))
        }
        // Theirs is told by a test in every definition.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_told_by_the_version_of_its_package_and_nothing_less_certain() {
        let rhel = System::Major("rhel");
        for (system, operation, version, release) in [
            (rhel, "pattern match", r"^9[^\d]", Some("rhel:9")),
            (rhel, "pattern match", "^8", Some("rhel:8")),
            (rhel, "equals", "8.6", Some("rhel:8")),
            (rhel, "pattern match", r"^8\.6", None),
            (rhel, "pattern match", "9", None),
            (rhel, "pattern match", "^[89]", None),
            (rhel, "greater than or equal", "20260101", None),
            (System::Sles, "equals", "15.5", Some("sles:15.5")),
            (System::Sles, "pattern match", "^15", None),
            (System::OpenSuse, "equals", "13.2", Some("opensuse:13.2")),
            (System::OpenSuse, "equals", "15.2", Some("opensuse-leap:15.2")),
            (
                System::OpenSuse,
                "greater than or equal",
                "0:20210101-0",
                Some("opensuse-tumbleweed"),
            ),
            (System::OpenSuse, "equals", "5.2", Some("opensuse-leap-micro:5.2")),
            (System::OpenSuse, "equals", "", None),
        ] {
            let found = system.release(operation, version);
            assert_eq!(found.as_deref().ok(), release, "{operation} {version}");
        }
    }

    #[test]
    fn platforms_are_releases_where_a_host_can_be_of_them() {
        let of = |vendor, platform| of_platform(vendor, platform);
        assert_eq!(of(OvalVendor::Debian, "Debian GNU/Linux 11").as_deref(), Some("bullseye"));
        assert_eq!(of(OvalVendor::Debian, "Debian GNU/Hurd 11"), None);
        assert_eq!(of(OvalVendor::Ubuntu, "Ubuntu 22.04 LTS").as_deref(), Some("ubuntu:22.04"));
        let pro = of(OvalVendor::Ubuntu, "Ubuntu Pro FIPS-updates 22.04 LTS");
        assert_eq!(pro.as_deref(), Some("ubuntu-pro-fips-updates:22.04"));
        assert_eq!(of(OvalVendor::Ubuntu, "Ubuntu Core"), None);
        assert_eq!(of(OvalVendor::RedHat, "Red Hat Enterprise Linux 9"), None);
    }
}
