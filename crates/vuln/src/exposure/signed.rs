//! Signed packages: built by Debian's signing service from another source, under a name of their own.

use std::borrow::Cow;

/// Debian's architectures with signed boot packages, as they stand in those packages' names.
const ARCHITECTURES: [&str; 5] = ["amd64", "arm64", "armhf", "i386", "ia32"];

/// Source name and version under which the vendor's data knows a source package.
///
/// Debian signs boot code in source packages of their own, whose version is the original one with its last
/// hyphen turned into `+` (grub and shim put `1+` in front):
///
/// | installed | vendor's |
/// |---|---|
/// | `linux-signed-amd64` `6.1.123+1` | `linux` `6.1.123-1` |
/// | `linux-signed-6.12-amd64` `6.12.9+1~deb12u1` | `linux-6.12` `6.12.9-1~deb12u1` |
/// | `grub-efi-amd64-signed` `1+2.06+13+deb12u1` | `grub2` `2.06-13+deb12u1` |
/// | `shim-helpers-amd64-signed` `1+15.8+1~deb12u1` | `shim` `15.8-1~deb12u1` |
/// | `fwupd-amd64-signed` `1:1.4+1` | `fwupd-efi` `1:1.4-1` (without epoch, before 1.6: `fwupd`) |
/// | `systemd-boot-efi-amd64-signed` `257.13+1~deb13u1` | `systemd` `257.13-1~deb13u1` |
///
/// Every other source is returned as it is.
pub fn vendor_source<'a>(source: &'a str, version: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
    match signed_from(source, version) {
        Some(name) => (name, Cow::Owned(unsigned_version(source, version))),
        None => (Cow::Borrowed(source), Cow::Borrowed(version)),
    }
}

fn signed_from<'a>(source: &'a str, version: &str) -> Option<Cow<'a, str>> {
    if let Some(rest) = source.strip_prefix("linux-signed-") {
        return match rest.rsplit_once('-') {
            None => is_architecture(rest).then_some(Cow::Borrowed("linux")),
            Some((series, architecture)) => {
                is_architecture(architecture).then(|| format!("linux-{series}").into())
            }
        };
    }
    let (stem, architecture) = source.strip_suffix("-signed")?.rsplit_once('-')?;
    if !is_architecture(architecture) {
        return None;
    }
    match stem {
        "grub-efi" => Some("grub2".into()),
        "shim-helpers" => Some("shim".into()),
        "fwupd" if version.contains(':') => Some("fwupd-efi".into()),
        "fwupd" => Some("fwupd".into()),
        "systemd-boot-efi" => Some("systemd".into()),
        _ => None,
    }
}

fn is_architecture(word: &str) -> bool {
    ARCHITECTURES.contains(&word)
}

fn unsigned_version(source: &str, version: &str) -> String {
    let counted = source.starts_with("grub-") || source.starts_with("shim-");
    let rest = if counted { version.strip_prefix("1+").unwrap_or(version) } else { version };
    // The hyphen became the first `+` with a digit after it: what follows `+` in an upstream version (`+dfsg`) and
    // in a later part of the revision (`+deb12u1`) begins with a letter.
    let hyphen =
        rest.as_bytes().windows(2).position(|pair| pair[0] == b'+' && pair[1].is_ascii_digit());
    match hyphen {
        Some(at) if !rest[..at].contains('-') => format!("{}-{}", &rest[..at], &rest[at + 1..]),
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signed_source_of_bookworm_and_trixie_maps_to_the_source_it_was_built_from() {
        for (source, version, vendor, vendor_version) in [
            ("linux-signed-amd64", "6.1.123+1", "linux", "6.1.123-1"),
            ("linux-signed-amd64", "6.12.9+1~bpo12+1", "linux", "6.12.9-1~bpo12+1"),
            ("linux-signed-i386", "6.1.192+2", "linux", "6.1.192-2"),
            ("linux-signed-6.12-arm64", "6.12.115+2~deb12u1", "linux-6.12", "6.12.115-2~deb12u1"),
            ("grub-efi-amd64-signed", "1+2.06+13+deb12u1", "grub2", "2.06-13+deb12u1"),
            ("grub-efi-ia32-signed", "1+2.02+dfsg1+20+deb10u4", "grub2", "2.02+dfsg1-20+deb10u4"),
            ("shim-helpers-arm64-signed", "1+16.1+2~deb12u1", "shim", "16.1-2~deb12u1"),
            ("fwupd-amd64-signed", "1:1.4+1", "fwupd-efi", "1:1.4-1"),
            ("fwupd-amd64-signed", "1.5.7+4", "fwupd", "1.5.7-4"),
            ("systemd-boot-efi-amd64-signed", "257.13+1~deb13u1", "systemd", "257.13-1~deb13u1"),
        ] {
            let (name, its) = vendor_source(source, version);
            assert_eq!((name.as_ref(), its.as_ref()), (vendor, vendor_version), "{source}");
        }
    }

    #[test]
    fn a_source_that_only_looks_signed_keeps_its_name_and_version() {
        for (source, version) in [
            ("shim-signed", "1.51~1+deb12u1"),
            ("python-signedjson", "1.1.1-2"),
            ("rust-unsigned-varint", "0.5.1-3"),
            ("linux", "6.1.123-1"),
            ("linux-signed-z80", "1+1"),
            ("nginx", "1.22.1-9+deb12u1"),
        ] {
            let (name, its) = vendor_source(source, version);
            assert_eq!((name.as_ref(), its.as_ref()), (source, version));
        }
    }
}
