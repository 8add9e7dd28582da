//! Which scheme a version is written in, and every scheme by one name.

use super::{apk, deb, gem, maven, pacman, pep440, rpm, semver};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// A version scheme. What compares versions of several ecosystems holds one of these beside the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Debian, Ubuntu and everything else with dpkg: [`deb`].
    Deb,
    /// Red Hat, Fedora, SUSE and everything else with rpm: [`rpm`].
    Rpm,
    /// Alpine, Wolfi: [`apk`].
    Apk,
    /// Arch Linux: [`pacman`].
    Pacman,
    /// Semantic Versioning: [`semver`].
    Semver,
    /// Python packages: [`pep440`].
    Pep440,
    /// Ruby's packages: [`gem`].
    Gem,
    /// Java's packages: [`maven`].
    Maven,
}

/// Why a text is no version of its scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// Of [`Scheme::Deb`].
    #[error(transparent)]
    Deb(#[from] deb::BadVersion),
    /// Of [`Scheme::Rpm`].
    #[error(transparent)]
    Rpm(#[from] rpm::BadVersion),
    /// Of [`Scheme::Apk`].
    #[error(transparent)]
    Apk(#[from] apk::BadVersion),
    /// Of [`Scheme::Pacman`].
    #[error(transparent)]
    Pacman(#[from] pacman::BadVersion),
    /// Of [`Scheme::Semver`].
    #[error(transparent)]
    Semver(#[from] semver::BadVersion),
    /// Of [`Scheme::Pep440`].
    #[error(transparent)]
    Pep440(#[from] pep440::BadVersion),
    /// Of [`Scheme::Gem`].
    #[error(transparent)]
    Gem(#[from] gem::BadVersion),
    /// Of [`Scheme::Maven`].
    #[error(transparent)]
    Maven(#[from] maven::BadVersion),
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Deb,
        Self::Rpm,
        Self::Apk,
        Self::Pacman,
        Self::Semver,
        Self::Pep440,
        Self::Gem,
        Self::Maven,
    ];

    /// The scheme of a system's packages, by `ID` of its `os-release(5)`. `None` where it is not known: to guess would
    /// be to judge by the wrong order.
    pub fn of_os(id: &str) -> Option<Self> {
        Some(match id {
            "debian" | "ubuntu" | "raspbian" | "devuan" | "kali" | "linuxmint" | "pop" => Self::Deb,
            "rhel" | "centos" | "rocky" | "almalinux" | "fedora" | "amzn" | "ol" | "mageia"
            | "openEuler" | "azurelinux" | "mariner" | "photon" | "sles" | "sles_sap" | "sled"
            | "sle-micro" | "sl-micro" => Self::Rpm,
            id if id == "opensuse" || id.starts_with("opensuse-") => Self::Rpm,
            "alpine" | "wolfi" | "chainguard" => Self::Apk,
            "arch" | "archarm" => Self::Pacman,
            _ => return None,
        })
    }

    /// The scheme of an ecosystem, by its name in the OSV schema
    /// (<https://ossf.github.io/osv-schema/#affectedpackage-field>), with or without what follows its first colon.
    /// `None` where it is not known or has no scheme of its own.
    pub fn of_osv(ecosystem: &str) -> Option<Self> {
        Some(match ecosystem.split(':').next().unwrap_or_default() {
            "Debian" | "Ubuntu" => Self::Deb,
            "AlmaLinux" | "Rocky Linux" | "Red Hat" | "SUSE" | "openSUSE" | "Mageia"
            | "openEuler" | "Azure Linux" | "Photon OS" => Self::Rpm,
            "Alpine"
            | "Wolfi"
            | "Chainguard"
            | "Alpaquita"
            | "BellSoft Hardened Containers"
            | "MinimOS" => Self::Apk,
            // Not of the schema; so the converters of Arch's advisories name it.
            "Arch Linux" => Self::Pacman,
            "npm" | "crates.io" | "Go" | "Hex" | "Pub" | "SwiftURL" => Self::Semver,
            "PyPI" => Self::Pep440,
            "RubyGems" => Self::Gem,
            "Maven" => Self::Maven,
            _ => return None,
        })
    }

    /// Is this a well-formed version of the scheme?
    ///
    /// # Errors
    /// [`BadVersion`] names the rule that is broken.
    pub fn check(self, version: &str) -> Result<(), BadVersion> {
        match self {
            Self::Deb => drop(deb::Version::parse(version)?),
            Self::Rpm => drop(rpm::Version::parse(version)?),
            Self::Apk => drop(apk::Version::parse(version)?),
            Self::Pacman => drop(pacman::Version::parse(version)?),
            Self::Semver => drop(semver::Version::parse(version)?),
            Self::Pep440 => drop(pep440::Version::parse(version)?),
            Self::Gem => drop(gem::Version::parse(version)?),
            Self::Maven => drop(maven::Version::parse(version)?),
        }
        Ok(())
    }

    /// Compares two well-formed versions.
    ///
    /// # Errors
    /// [`BadVersion`] of the first of the two that is not well-formed.
    pub fn compare(self, a: &str, b: &str) -> Result<Ordering, BadVersion> {
        Ok(match self {
            Self::Deb => deb::compare(a, b)?,
            Self::Rpm => rpm::compare(a, b)?,
            Self::Apk => apk::compare(a, b)?,
            Self::Pacman => pacman::compare(a, b)?,
            Self::Semver => semver::compare(a, b)?,
            Self::Pep440 => pep440::compare(a, b)?,
            Self::Gem => gem::compare(a, b)?,
            Self::Maven => maven::compare(a, b)?,
        })
    }

    /// Compares any two texts by the scheme's rules: a total order, equal to [`Scheme::compare`] where both are
    /// well-formed.
    pub fn compare_lenient(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Deb => deb::compare_lenient(a, b),
            Self::Rpm => rpm::compare_lenient(a, b),
            Self::Apk => apk::compare_lenient(a, b),
            Self::Pacman => pacman::compare_lenient(a, b),
            Self::Semver => semver::compare_lenient(a, b),
            Self::Pep440 => pep440::compare_lenient(a, b),
            Self::Gem => gem::compare_lenient(a, b),
            Self::Maven => maven::compare_lenient(a, b),
        }
    }

    /// A byte string whose plain comparison is the order of [`Scheme::compare_lenient`]. Keys of different schemes have
    /// nothing to say to each other.
    pub fn key(self, version: &str) -> Vec<u8> {
        match self {
            Self::Deb => deb::key_lenient(version),
            Self::Rpm => rpm::key_lenient(version),
            Self::Apk => apk::key_lenient(version),
            Self::Pacman => pacman::key_lenient(version),
            Self::Semver => semver::key_lenient(version),
            Self::Pep440 => pep440::key_lenient(version),
            Self::Gem => gem::key_lenient(version),
            Self::Maven => maven::key_lenient(version),
        }
    }

    /// Whose order this is, for explanations: `dpkg`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deb => "dpkg",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
            Self::Pacman => "pacman",
            Self::Semver => "Semantic Versioning",
            Self::Pep440 => "Python",
            Self::Gem => "RubyGems",
            Self::Maven => "Maven",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_the_project_knows_has_its_scheme_and_an_unknown_one_has_none() {
        for (ids, scheme) in [
            ("debian ubuntu", Some(Scheme::Deb)),
            ("rhel rocky almalinux fedora amzn sles opensuse opensuse-leap ol", Some(Scheme::Rpm)),
            ("alpine wolfi", Some(Scheme::Apk)),
            ("arch", Some(Scheme::Pacman)),
            ("gentoo nixos Debian opensusex", None),
        ] {
            for id in ids.split(' ') {
                assert_eq!(Scheme::of_os(id), scheme, "{id}");
            }
        }
        assert_eq!(Scheme::of_os(""), None);
    }

    #[test]
    fn an_ecosystem_has_its_scheme_whatever_release_follows_its_name() {
        for (ecosystem, scheme) in [
            ("Debian:12", Some(Scheme::Deb)),
            ("Ubuntu:Pro:22.04:LTS", Some(Scheme::Deb)),
            ("AlmaLinux:9", Some(Scheme::Rpm)),
            ("Rocky Linux:9", Some(Scheme::Rpm)),
            ("Red Hat:enterprise_linux:9::baseos", Some(Scheme::Rpm)),
            ("SUSE:Linux Enterprise Server 15 SP5", Some(Scheme::Rpm)),
            ("openSUSE:Leap 15.5", Some(Scheme::Rpm)),
            ("Alpine:v3.18", Some(Scheme::Apk)),
            ("Wolfi", Some(Scheme::Apk)),
            ("npm", Some(Scheme::Semver)),
            ("PyPI", Some(Scheme::Pep440)),
            ("RubyGems", Some(Scheme::Gem)),
            ("Maven", Some(Scheme::Maven)),
            ("NuGet", None),
            ("", None),
        ] {
            assert_eq!(Scheme::of_osv(ecosystem), scheme, "{ecosystem}");
        }
    }

    #[test]
    fn each_scheme_compares_by_its_own_rules_and_says_whose_they_are() {
        // By dpkg and rpm a tilde comes before the end; to pacman it is a separator; Python does not read it.
        for (scheme, a, b, order) in [
            (Scheme::Deb, "1.0~1", "1.0", Ordering::Less),
            (Scheme::Rpm, "1.0^1", "1.0", Ordering::Greater),
            (Scheme::Apk, "1.02-r0", "1.1-r0", Ordering::Less),
            (Scheme::Pacman, "1.0~1-1", "1.0-1", Ordering::Greater),
            (Scheme::Semver, "1.0.0-1", "1.0.0", Ordering::Less),
            (Scheme::Pep440, "1.0-1", "1.0", Ordering::Greater),
            (Scheme::Gem, "1.0-1", "1.0", Ordering::Less),
            (Scheme::Maven, "1.0-1", "1.0", Ordering::Greater),
        ] {
            assert_eq!(scheme.compare(a, b), Ok(order), "{scheme}");
            assert_eq!(scheme.compare_lenient(a, b), order, "{scheme}");
            assert_eq!(scheme.key(a).cmp(&scheme.key(b)), order, "{scheme}");
        }
        for scheme in Scheme::ALL {
            assert_eq!(scheme.check("1.0 !"), scheme.compare("1.0 !", "1").map(drop), "{scheme}");
            assert!(scheme.check("").is_err(), "{scheme}");
        }
    }
}
