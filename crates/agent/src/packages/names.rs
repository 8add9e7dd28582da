//! What may stand in a package name, an architecture and a version, so that nothing an order says can be taken
//! for an option, a path, a pattern or another package by a program it is handed to.

use super::PackagesError;
use fettle_core::Shared;
use fettle_core::assignment::PackageChange;

/// Debian Policy 5.6.7: lower-case letters, digits, `+`, `-`, `.`; at least two; begins with a letter or digit.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (2..=200).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        // apt-get reads a `+` or `-` behind a name as "install" or "remove" where no such package exists; it
        // comes behind `:ARCH=VERSION` in all we write, so these names stay usable (g++, libstdc++).
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(b))
}

/// `dpkg-architecture(1)` names: `amd64`, `kfreebsd-amd64`, `all`.
pub fn is_architecture(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=40).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// `deb-version(7)`: alphanumerics and `. + - : ~`, beginning with a digit.
pub fn is_version(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=200).contains(&bytes.len())
        && bytes[0].is_ascii_digit()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b".+-:~".contains(b))
}

/// Refuses the first field that is not what it should be.
///
/// # Errors
/// [`PackagesError::Field`].
pub fn check(name: &str, architecture: &str, version: &str) -> Result<(), PackagesError> {
    let bad = |what, value: &str| {
        Err(PackagesError::Field { what, value: value.chars().take(80).collect() })
    };
    match () {
        () if !is_name(name) => bad("package name", name),
        () if !is_architecture(architecture) => bad("architecture", architecture),
        () if !is_version(version) => bad("version", version),
        () => Ok(()),
    }
}

/// [`check`] for every change, `from` included where there is one.
///
/// # Errors
/// [`PackagesError::Field`].
pub fn check_changes(changes: &[Shared<PackageChange>]) -> Result<(), PackagesError> {
    changes.iter().try_for_each(|c| {
        check(&c.name, &c.architecture, &c.to)?;
        if c.from.is_empty() { Ok(()) } else { check(&c.name, &c.architecture, &c.from) }
    })
}

/// The file name apt gives an archive in its cache: `NAME_VERSION_ARCH.deb`, a `:` of the version as `%3a`.
pub fn archive_file(name: &str, version: &str, architecture: &str) -> String {
    format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_debian_policy_allows_passes() {
        for good in ["g++", "libstdc++6", "0ad", "linux-image-6.1.0-28-amd64", "libc6.1"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "-oDpkg::Pre-Invoke=x",
            "+x",
            ".x",
            "a b",
            "a;rm",
            "A1",
            "a/b",
            "a*",
            "a=1",
            "a:b",
            "nä",
            "a\n",
            "a\0",
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
        for good in ["1:9.2p1-2+deb12u3", "0~rc1", "1.0", "5.36.0-7+deb12u4"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "-1", "x1", "1 2", "1/2", "1;2", "1*", "1\n", "~1"] {
            assert!(!is_version(bad), "{bad:?}");
        }
        assert!(is_architecture("amd64") && is_architecture("kfreebsd-amd64"));
        assert!(!is_architecture("") && !is_architecture("-x") && !is_architecture("a=b"));
    }

    #[test]
    fn archive_names_are_those_of_the_apt_cache() {
        assert_eq!(
            archive_file("openssh-server", "1:9.2p1-2+deb12u3", "amd64"),
            "openssh-server_1%3a9.2p1-2+deb12u3_amd64.deb"
        );
    }
}
