//! OSV's ecosystems, as releases ([`crate::exposure::release_name`]).

/// Debian's releases by number.
const DEBIAN: [(&str, &str); 14] = [
    ("3.0", "woody"),
    ("3.1", "sarge"),
    ("4.0", "etch"),
    ("5.0", "lenny"),
    ("6.0", "squeeze"),
    ("7", "wheezy"),
    ("8", "jessie"),
    ("9", "stretch"),
    ("10", "buster"),
    ("11", "bullseye"),
    ("12", "bookworm"),
    ("13", "trixie"),
    ("14", "forky"),
    ("15", "duke"),
];

/// Debian's codename of a release by its number.
pub(crate) fn debian_codename(number: &str) -> Option<&'static str> {
    DEBIAN.iter().find(|(known, _)| *known == number).map(|(_, codename)| *codename)
}

/// The number of a Debian release, by its codename.
pub(crate) fn debian_number(codename: &str) -> Option<&'static str> {
    DEBIAN.iter().find(|(_, known)| *known == codename).map(|(number, _)| *number)
}

/// The release that an ecosystem is.
///
/// | ecosystem | release |
/// |---|---|
/// | `Debian:12` | `bookworm` |
/// | `Ubuntu:22.04:LTS`, `Ubuntu:25.10` | `ubuntu:22.04`, `ubuntu:25.10` |
/// | `Ubuntu:Pro:FIPS:20.04:LTS` | `ubuntu-pro-fips:20.04` |
/// | `AlmaLinux:9`, `Rocky Linux:9` | `almalinux:9`, `rocky:9` |
/// | `Red Hat:enterprise_linux:9::baseos` | `rhel:9` |
/// | `Red Hat:rhel_eus:9.2::appstream` | `rhel-eus:9.2` |
/// | `Alpine:v3.19` | `alpine:3.19` |
/// | `Wolfi`, `Chainguard` | `wolfi`, `chainguard` |
/// | `SUSE:Linux Enterprise Server 15 SP5`, `SUSE:Linux Enterprise Module for Basesystem 15 SP5` | `sles:15.5` |
/// | `SUSE:Linux Enterprise Server 15 SP3-LTSS`, `SUSE:Package Hub 12` | `sles-ltss:15.3`, `sles-package-hub:12` |
/// | `openSUSE:Leap 15.5`, `openSUSE:Tumbleweed` | `opensuse-leap:15.5`, `opensuse-tumbleweed` |
pub(super) fn release(ecosystem: &str) -> Result<String, String> {
    let shown = || ecosystem.chars().take(60).collect::<String>();
    let parts: Vec<&str> = ecosystem.split(':').collect();
    let named = |vendor: &str, version: &str| {
        let good = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        };
        if good(vendor) && good(version) && ecosystem.len() <= super::super::MAX_NAME {
            return Ok(format!("{vendor}:{version}"));
        }
        Err(format!("ecosystem {:?} names no release", shown()))
    };
    match parts[..] {
        ["Debian", number] => match DEBIAN.iter().find(|(n, _)| *n == number) {
            Some((_, codename)) => Ok((*codename).to_owned()),
            None => Err(format!("ecosystem {:?} is no release of Debian that is known", shown())),
        },
        ["Ubuntu", ref rest @ ..] => {
            let rest = rest.strip_suffix(&["LTS"]).unwrap_or(rest);
            let Some((version, variants)) = rest.split_last() else { return named("ubuntu", "") };
            let variants = variants.iter().map(|v| format!("-{}", v.to_ascii_lowercase()));
            named(&format!("ubuntu{}", variants.collect::<String>()), version)
        }
        ["AlmaLinux", version] => named("almalinux", version),
        ["Rocky Linux", version] => named("rocky", version),
        // From 10 on with the minor release; hosts go by the major one.
        ["Red Hat", "enterprise_linux", version, ..] => {
            named("rhel", version.split('.').next().unwrap_or(version))
        }
        ["Red Hat", product, version, ..] => {
            let product = product.replace('_', "-");
            named(&format!("rhel-{}", product.trim_start_matches("rhel-")), version)
        }
        ["Alpine", version] => named("alpine", version.trim_start_matches('v')),
        ["SUSE", product] => {
            let (vendor, version) = suse(product);
            named(&vendor, &version)
        }
        ["openSUSE", "Tumbleweed"] => Ok("opensuse-tumbleweed".to_owned()),
        ["openSUSE", product] => match product.strip_prefix("Leap ") {
            Some(version) => named("opensuse-leap", version),
            None => named("opensuse", ""),
        },
        ["Wolfi"] => Ok("wolfi".to_owned()),
        ["Chainguard"] => Ok("chainguard".to_owned()),
        _ => Err(format!("ecosystem {:?} is none that is read here", shown())),
    }
}

/// A product of SUSE: its version is the first word that is a number, with the service pack behind a dot. A host that
/// has a server's modules has their packages at the versions of its service pack.
fn suse(product: &str) -> (String, String) {
    let words: Vec<&str> = product.split(' ').collect();
    let at = words.iter().position(|w| w.starts_with(|c: char| c.is_ascii_digit()));
    let (name, rest) = words.split_at(at.unwrap_or(words.len()));
    let mut version = rest.first().copied().unwrap_or_default().to_owned();
    let mut variant = String::new();
    for word in rest.iter().skip(1) {
        let (pack, more) = word.split_once('-').unwrap_or((word, ""));
        match pack.strip_prefix("SP") {
            Some(number) => version = format!("{version}.{number}"),
            None => variant = format!("{variant}-{pack}"),
        }
        if !more.is_empty() {
            variant = format!("{variant}-{more}");
        }
    }
    let name = match name {
        ["Linux", "Enterprise", "Server"] | ["Linux", "Enterprise", "Module", ..] => String::new(),
        ["Linux", "Enterprise", rest @ ..] | rest => format!("-{}", rest.join("-")),
    };
    (format!("sles{name}{variant}").to_ascii_lowercase(), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ecosystem_that_is_read_has_its_release_and_others_are_refused_by_name() {
        for (ecosystem, expected) in [
            ("Debian:12", "bookworm"),
            ("Debian:6.0", "squeeze"),
            ("Ubuntu:22.04:LTS", "ubuntu:22.04"),
            ("Ubuntu:25.10", "ubuntu:25.10"),
            ("Ubuntu:Pro:20.04:LTS", "ubuntu-pro:20.04"),
            ("Ubuntu:Pro:FIPS-updates:20.04:LTS", "ubuntu-pro-fips-updates:20.04"),
            ("AlmaLinux:9", "almalinux:9"),
            ("Rocky Linux:10", "rocky:10"),
            ("Red Hat:enterprise_linux:9::baseos", "rhel:9"),
            ("Red Hat:enterprise_linux:10.0", "rhel:10"),
            ("Red Hat:rhel_eus:9.2::appstream", "rhel-eus:9.2"),
            ("Red Hat:ocp_tools:4.15::el9", "rhel-ocp-tools:4.15"),
            ("Alpine:v3.19", "alpine:3.19"),
            ("Alpine:edge", "alpine:edge"),
            ("SUSE:Linux Enterprise Server 12", "sles:12"),
            ("SUSE:Linux Enterprise Server 15 SP5", "sles:15.5"),
            ("SUSE:Linux Enterprise Module for Basesystem 15 SP5", "sles:15.5"),
            ("SUSE:Linux Enterprise Server 15 SP3-LTSS", "sles-ltss:15.3"),
            ("SUSE:Linux Enterprise Desktop 12 SP1", "sles-desktop:12.1"),
            ("SUSE:Package Hub 12", "sles-package-hub:12"),
            ("SUSE:Linux Enterprise Micro 5.5", "sles-micro:5.5"),
            ("SUSE:Linux Micro 6.0", "sles-linux-micro:6.0"),
            (
                "SUSE:Linux Enterprise Server LTSS Extended Security 12 SP5",
                "sles-server-ltss-extended-security:12.5",
            ),
            ("openSUSE:Leap 15.5", "opensuse-leap:15.5"),
            ("openSUSE:Tumbleweed", "opensuse-tumbleweed"),
            ("Wolfi", "wolfi"),
            ("Chainguard", "chainguard"),
        ] {
            assert_eq!(release(ecosystem).as_deref(), Ok(expected));
        }
        let long = format!("Rocky Linux:{}", "9".repeat(200));
        for ecosystem in [
            "",
            "npm",
            "Debian",
            "Debian:99",
            "Ubuntu",
            "Ubuntu:LTS",
            "AlmaLinux:",
            "Alpine:v 3",
            "SUSE:x",
            "openSUSE:x",
            &long,
        ] {
            assert!(release(ecosystem).unwrap_err().starts_with("ecosystem "), "{ecosystem}");
        }
    }
}
