//! What differs from vendor to vendor: how a release is named, what statements are about, and whose order versions
//! have.

use super::signed::vendor_source;
use crate::feed::{Publisher, debian_codename};
use fettle_core::inventory::{Os, Package, Upgrade};
use fettle_core::language::Ecosystem;
use fettle_core::version::Scheme;
use std::borrow::Cow;

/// The release a host runs, as statements name it.
///
/// Debian's codename. A derivative that borrows Debian's codename is not Debian, because its packages differ: it is
/// named `id:codename`, or `id:version` where it has none. Where statements go by part of the version, that part only:
///
/// | host | release |
/// |---|---|
/// | Debian 12 | `bookworm`, by its number where it tells no codename |
/// | Ubuntu 22.04 | `ubuntu:22.04` |
/// | AlmaLinux 9.4 (Rocky, RHEL, CentOS, Oracle, Amazon likewise) | `almalinux:9` |
/// | Alpine 3.19.0, 3.22.0_alpha20250108 | `alpine:3.19`, `alpine:edge` |
/// | SLES 15 SP5 (for SAP, and SLED, likewise), openSUSE Leap 15.5 | `sles:15.5`, `opensuse-leap:15.5` |
/// | SLED 12 SP5, SLE Micro 5.5, SL Micro 6.0 | `sles-desktop:12.5`, `sles-micro:5.5`, `sles-linux-micro:6.0` |
/// | Wolfi, Chainguard, openSUSE Tumbleweed | `wolfi`, `chainguard`, `opensuse-tumbleweed` |
pub fn release_name(os: &Os) -> String {
    let part = |dots: usize| os.version.split('.').take(dots).collect::<Vec<_>>().join(".");
    match (os.id.as_str(), os.codename.as_str()) {
        ("debian", codename) if !codename.is_empty() => codename.to_owned(),
        // Older releases, and images made without a shell, say their number alone.
        ("debian", _) => match debian_codename(&os.version).or(debian_codename(&part(1))) {
            Some(codename) => codename.to_owned(),
            None => format!("debian:{}", os.version),
        },
        ("ubuntu", _) => format!("ubuntu:{}", os.version),
        (id @ ("almalinux" | "rocky" | "rhel" | "centos" | "ol" | "amzn"), _) => {
            format!("{id}:{}", part(1))
        }
        // What rolls calls itself by the release that it will be: `3.22.0_alpha20250108`.
        ("alpine", _) if os.version.contains("_alpha") => "alpine:edge".to_owned(),
        ("alpine", _) => format!("alpine:{}", part(2)),
        (id @ ("wolfi" | "chainguard" | "opensuse-tumbleweed"), _) => id.to_owned(),
        // They have a server's modules, of which each package is the same everywhere.
        ("sles_sap", _) => format!("sles:{}", os.version),
        ("sled", _) if part(1) != "12" => format!("sles:{}", os.version),
        ("sled", _) => format!("sles-desktop:{}", os.version),
        ("sle-micro", _) => format!("sles-micro:{}", os.version),
        ("sl-micro", _) => format!("sles-linux-micro:{}", os.version),
        (id, "") => format!("{id}:{}", os.version),
        (id, codename) => format!("{id}:{codename}"),
    }
}

/// Whose order the versions of a release have ([`release_name`]). Releases without a vendor in front are Debian's.
pub(crate) fn scheme_of(release: &str) -> Scheme {
    if let Some(ecosystem) = Ecosystem::from_word(release) {
        return ecosystem.scheme();
    }
    let vendor = release.split(':').next().unwrap_or_default();
    // `rhel-eus:9.2` is a release of `rhel`.
    let family = vendor.split('-').next().unwrap_or_default();
    Scheme::of_os(vendor).or_else(|| Scheme::of_os(family)).unwrap_or(Scheme::Deb)
}

/// Where statements about a package of a host of this release are kept: those about packages of a language in a release of
/// their own, which has the ecosystem's word for a name.
pub(crate) fn release_of<'a>(release: &'a str, source: &str) -> &'a str {
    Ecosystem::of_subject(source).map_or(release, |(ecosystem, _)| ecosystem.word())
}

/// Whose order the versions of a package have, on a host whose distribution's have the order of `own`.
pub(crate) fn scheme_for(own: Scheme, source: &str) -> Scheme {
    Ecosystem::of_subject(source).map_or(own, |(ecosystem, _)| ecosystem.scheme())
}

/// Whose OSV feed speaks of a release ([`release_name`]).
pub(crate) fn publisher_of(release: &str) -> Option<Publisher> {
    if let Some(ecosystem) = Ecosystem::from_word(release) {
        return Some(Publisher::of(ecosystem));
    }
    let Some((vendor, _)) = release.split_once(':') else {
        return Some(match release {
            "wolfi" | "chainguard" => Publisher::Chainguard,
            "opensuse-tumbleweed" => Publisher::Suse,
            _ => Publisher::Debian,
        });
    };
    Some(match vendor.split('-').next().unwrap_or_default() {
        "almalinux" => Publisher::AlmaLinux,
        "alpine" => Publisher::Alpine,
        "rhel" => Publisher::RedHat,
        "rocky" => Publisher::Rocky,
        "sles" | "opensuse" => Publisher::Suse,
        "ubuntu" => Publisher::Ubuntu,
        _ => return None,
    })
}

/// What a vendor's statements are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Source packages: one statement for all that is built from one source.
    Sources,
    /// Installed packages by their own name.
    Binaries,
}

/// How the packages of one host are held against statements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) scheme: Scheme,
    pub(crate) subjects: Subjects,
    /// Ubuntu's signed kernels come from sources of their own with the versions of those they sign.
    signed_linux: bool,
    /// What some of the vendor's statements are about beside these.
    beside: Option<Subjects>,
}

/// What statements about installed packages are kept under where the vendor's others are about sources: SUSE's in OVAL.
pub(crate) fn binary_subject(name: &str) -> String {
    format!("{BINARY}{name}")
}

/// What statements about sources are kept under where the vendor's others are about installed packages: Red Hat's about what
/// has no fix yet, which name a source and none of what is built from it.
pub(crate) fn source_subject(name: &str) -> String {
    format!("{SOURCE}{name}")
}

/// Before the name of an installed package that is a subject of its own.
const BINARY: &str = "binary/";
/// Before the name of a source that is one.
const SOURCE: &str = "source/";

/// The subject without the stream of its module.
fn without_stream(subject: &str) -> &str {
    match subject.split_once('/') {
        Some((module, rest)) if module.contains(':') => rest,
        _ => subject,
    }
}

impl Rules {
    /// The rules of a host's vendor.
    pub(crate) fn of(os: &Os) -> Self {
        let subjects = match os.id.as_str() {
            "almalinux" | "rhel" | "amzn" | "fedora" | "ol" | "wolfi" | "chainguard" => {
                Subjects::Binaries
            }
            _ => Subjects::Sources,
        };
        let scheme = Scheme::of_os(&os.id).unwrap_or(Scheme::Deb);
        let beside = match os.id.as_str() {
            "rhel" => Some(Subjects::Sources),
            id if id.starts_with("sle") || id.starts_with("opensuse") || id == "sl-micro" => {
                Some(Subjects::Binaries)
            }
            _ => None,
        };
        Self { scheme, subjects, signed_linux: os.id == "ubuntu", beside }
    }

    /// Are some of the vendor's statements about another kind of subject ([`Rules::beside`])?
    pub(crate) fn has_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// What a subject is.
    pub(crate) fn kind(&self, subject: &str) -> Subjects {
        match without_stream(subject) {
            of if of.starts_with(SOURCE) => Subjects::Sources,
            of if of.starts_with(BINARY) => Subjects::Binaries,
            _ => self.subjects,
        }
    }

    /// Name and version under which the vendor's statements know an installed package. One of a module counts within its
    /// stream alone.
    pub(crate) fn subject<'a>(&self, package: &'a Package) -> (Cow<'a, str>, Cow<'a, str>) {
        let (name, version) = match (self.subjects, self.scheme) {
            (Subjects::Binaries, _) => {
                (package.name.as_str().into(), package.version.as_str().into())
            }
            (Subjects::Sources, Scheme::Deb) => {
                match package.source.strip_prefix("linux-signed").filter(|_| self.signed_linux) {
                    Some(flavour) => {
                        (format!("linux{flavour}").into(), package.source_version.as_str().into())
                    }
                    None => vendor_source(&package.source, &package.source_version),
                }
            }
            (Subjects::Sources, _) => {
                (package.source.as_str().into(), package.source_version.as_str().into())
            }
        };
        match package.module.as_str() {
            "" => (name, version),
            module => (format!("{module}/{name}").into(), version),
        }
    }

    /// The second subject that a package counts under, and at which version, where the vendor has statements about such.
    pub(crate) fn beside<'a>(&self, package: &'a Package) -> Option<(String, &'a str)> {
        let (name, version) = match self.beside? {
            Subjects::Binaries => (binary_subject(&package.name), package.version.as_str()),
            Subjects::Sources => (source_subject(&package.source), package.source_version.as_str()),
        };
        let name = match package.module.as_str() {
            "" => name,
            module => format!("{module}/{name}"),
        };
        Some((name, version))
    }

    /// Are statements about this subject about the package?
    pub(crate) fn is_subject(&self, package: &Package, subject: &str) -> bool {
        self.subject(package).0 == subject
            || self.beside(package).is_some_and(|(beside, _)| beside == subject)
    }

    /// The version of a package's subject that an upgrade brings.
    pub(crate) fn offered<'a>(
        &self,
        package: &'a Package,
        to: &'a str,
        source_version: &'a str,
    ) -> Cow<'a, str> {
        match (self.subjects, self.scheme) {
            (Subjects::Binaries, _) => to.into(),
            (Subjects::Sources, Scheme::Deb) => vendor_source(&package.source, source_version).1,
            (Subjects::Sources, _) => source_version.into(),
        }
    }

    /// The version of its second subject that an upgrade brings.
    pub(crate) fn offered_beside<'a>(&self, upgrade: &'a Upgrade) -> &'a str {
        match self.beside {
            Some(Subjects::Sources) => &upgrade.source_version,
            _ => &upgrade.to,
        }
    }

    /// What to type on a host to see which versions of a package are offered, and why.
    pub(crate) fn look(&self) -> &'static str {
        match self.scheme {
            Scheme::Rpm => "dnf list --showduplicates",
            Scheme::Apk => "apk policy",
            Scheme::Pacman => "pacman -Si",
            _ => "apt-cache policy",
        }
    }

    /// Is the package part of a module, of which several streams with versions of their own are published side by
    /// side, and the host does not say of which? Its release says only that it is (`1.module_el9.1.0+16+91bc168f`).
    pub(crate) fn is_of_unknown_stream(&self, package: &Package) -> bool {
        self.scheme == Scheme::Rpm && is_modular(&package.version) && package.module.is_empty()
    }
}

/// Does an rpm version say that it is part of a module?
pub(crate) fn is_modular(version: &str) -> bool {
    let mut parts = version.split('.').skip(1);
    parts.any(|part| part.starts_with("module_") || part.starts_with("module+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(id: &str, version: &str, codename: &str) -> Os {
        Os { id: id.into(), version: version.into(), codename: codename.into(), ..Os::default() }
    }

    #[test]
    fn releases_are_named_as_statements_name_them_and_each_has_its_version_order() {
        for (id, version, codename, release, scheme) in [
            ("debian", "12", "bookworm", "bookworm", Scheme::Deb),
            ("raspbian", "12", "bookworm", "raspbian:bookworm", Scheme::Deb),
            ("ubuntu", "22.04", "jammy", "ubuntu:22.04", Scheme::Deb),
            ("almalinux", "9.4", "", "almalinux:9", Scheme::Rpm),
            ("rocky", "10", "", "rocky:10", Scheme::Rpm),
            ("rhel", "8.10", "", "rhel:8", Scheme::Rpm),
            ("alpine", "3.19.0", "", "alpine:3.19", Scheme::Apk),
            ("alpine", "3.22.0_alpha20250108", "", "alpine:edge", Scheme::Apk),
            ("alpine", "3.20.0_rc1", "", "alpine:3.20", Scheme::Apk),
            ("debian", "8", "", "jessie", Scheme::Deb),
            ("debian", "12.5", "", "bookworm", Scheme::Deb),
            ("debian", "6.0", "", "squeeze", Scheme::Deb),
            ("debian", "", "", "debian:", Scheme::Deb),
            ("wolfi", "20230201", "", "wolfi", Scheme::Apk),
            ("sles", "15.5", "", "sles:15.5", Scheme::Rpm),
            ("sles_sap", "15.5", "", "sles:15.5", Scheme::Rpm),
            ("sled", "15.5", "", "sles:15.5", Scheme::Rpm),
            ("sled", "12.5", "", "sles-desktop:12.5", Scheme::Rpm),
            ("sle-micro", "5.5", "", "sles-micro:5.5", Scheme::Rpm),
            ("sl-micro", "6.0", "", "sles-linux-micro:6.0", Scheme::Rpm),
            ("opensuse-tumbleweed", "20260101", "", "opensuse-tumbleweed", Scheme::Rpm),
            ("arch", "", "", "arch:", Scheme::Pacman),
        ] {
            assert_eq!(release_name(&os(id, version, codename)), release);
            assert_eq!(scheme_of(release), scheme, "{release}");
        }
        for (release, publisher) in [
            ("bookworm", Some(Publisher::Debian)),
            ("wolfi", Some(Publisher::Chainguard)),
            ("rhel-eus:9.2", Some(Publisher::RedHat)),
            ("opensuse-leap:15.5", Some(Publisher::Suse)),
            ("opensuse-tumbleweed", Some(Publisher::Suse)),
            ("arch:", None),
        ] {
            assert_eq!(publisher_of(release), publisher, "{release}");
        }
        assert_eq!(scheme_of("rhel-eus:9.2"), Scheme::Rpm);
        assert_eq!(scheme_of("ubuntu-pro:16.04"), Scheme::Deb);
        assert_eq!(scheme_of("sles-package-hub:12"), Scheme::Rpm);
        assert_eq!(scheme_of("opensuse-leap:15.5"), Scheme::Rpm);
    }
}
