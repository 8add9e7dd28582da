//! Which installed packages need those that have an upgrade.

use super::dpkg;
use super::upgrades::names_in;
use crate::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Name → installed packages whose `Depends` or `Pre-Depends` name it, as an alternative too. What somebody needs by a
/// name that the package only `Provides` is not counted.
///
/// # Errors
/// When dpkg's status file cannot be read.
pub(super) fn of(
    settings: &Settings,
    names: &BTreeSet<&str>,
) -> io::Result<BTreeMap<String, Vec<String>>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(among(&std::fs::read(settings.host("var/lib/dpkg/status"))?, names))
}

fn among(status: &[u8], names: &BTreeSet<&str>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for paragraph in dpkg::paragraphs(status) {
        let installed = paragraph.text("Status").is_some_and(|s| s.ends_with(" installed"));
        let Some(package) = paragraph.text("Package").filter(|_| installed) else { continue };
        for field in ["Depends", "Pre-Depends"] {
            let needs = paragraph.text(field).unwrap_or_default();
            for name in names_in(&needs).filter(|n| names.contains(n) && *n != package) {
                found.entry(name.to_owned()).or_default().insert(package.clone());
            }
        }
    }
    found.into_iter().map(|(name, by)| (name, by.into_iter().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_package_is_told_by_name_and_only_what_is_installed_counts() {
        let status = "Package: nginx\nStatus: install ok installed\nDepends: libc6 (>= 2.34), libssl3 (>= 3.0.0),\n iproute2\n\n\
                      Package: curl\nStatus: hold ok installed\nPre-Depends: libc6 | musl, libcurl4:any (= 7)\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nDepends: libssl3\n\n\
                      Package: libssl3\nStatus: install ok installed\nDepends: libc6, libssl3\n";
        let found = among(status.as_bytes(), &BTreeSet::from(["libssl3", "libc6", "libcurl4"]));
        let of = |name: &str| found.get(name).map(|by| by.join(" ")).unwrap_or_default();
        assert_eq!(of("libc6"), "curl libssl3 nginx");
        assert_eq!((of("libssl3"), of("libcurl4")), ("nginx".into(), "curl".into()));
        assert_eq!(found.len(), 3);
    }
}
