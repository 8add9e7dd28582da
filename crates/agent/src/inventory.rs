//! What the host reports about itself. Each part is read on its own; a part that cannot be read becomes a gap,
//! told in words, and the rest still stands.

use crate::packages::{index, pins};
use crate::settings::Settings;
use fettle_core::Timestamp;
use fettle_core::inventory::{Inventory, Os, Package};
use fettle_vuln::exposure::PACKAGES_GAP;
use std::io;

mod configuration;
mod dependents;
mod distant;
pub mod dpkg;
mod filesystems;
pub mod kernel;
pub mod languages;
mod os;
pub mod processes;
pub mod roots;
pub mod sockets;
pub mod units;
pub mod upgrades;

pub use languages::Age;

/// What this system calls itself.
///
/// # Errors
/// When no `os-release` can be read.
pub fn system(settings: &Settings) -> io::Result<Os> {
    os::read(settings)
}

/// An inventory of packages and nothing else.
pub fn of_packages(os: Os, packages: Vec<Package>, gap: &str) -> Inventory {
    Inventory {
        schema: 1,
        architecture: kernel::architecture(&packages),
        os,
        packages: packages.into_iter().map(Into::into).collect(),
        gaps: vec![gap.to_owned()],
        ..Inventory::default()
    }
}

/// Takes the whole inventory. Sorted throughout: a host that did not change gives the same bytes again. `age`: of what
/// takes long to look for, the packages of languages.
pub fn collect(settings: &Settings, age: Age) -> Inventory {
    let mut gaps = Vec::new();
    let os = or_gap(os::read(settings), "operating system", &mut gaps);
    let database = or_gap(dpkg::database(settings), PACKAGES_GAP, &mut gaps);
    if database.unmerged > 0 {
        gaps.push(format!(
            "dpkg was interrupted: {} records of its journal are not merged yet (run `dpkg --configure -a`)",
            database.unmerged
        ));
    }
    if let Some(package) = &database.cut_at {
        // What is missing behind it is no package that was removed.
        gaps.push(format!(
            "{PACKAGES_GAP}: dpkg's status file ends within the record of {package}: it is cut off (see \
             /var/backups/dpkg.status.* for older ones)"
        ));
    }
    let architecture = kernel::architecture(&database.packages);
    let kernel = or_gap(kernel::read(settings, &database.packages), "kernel", &mut gaps);
    let services = or_gap(units::services(), "services", &mut gaps);
    let listeners = or_gap(sockets::listeners(), "listening sockets", &mut gaps);
    let mapped = or_gap(processes::survey(settings), "files that processes map", &mut gaps);
    gaps.extend(mapped.gaps);
    let languages = languages::installed(settings, languages::Limits::default(), age);
    gaps.extend(languages.gaps);
    let roots = roots::installed(settings, roots::Limits::default());
    gaps.extend(roots.gaps);
    let upgrades = or_gap(
        upgrades::offered(settings, &database, &architecture),
        "pending upgrades",
        &mut gaps,
    );
    gaps.extend(upgrades.gaps);
    let pinned = pins::of_installed(settings, &database.packages);
    gaps.extend(index::read(&settings.host(index::LISTS)).gaps(Timestamp::now()));
    let upgraded = upgrades.upgrades.iter().map(|upgrade| upgrade.name.as_str()).collect();
    let dependents =
        or_gap(dependents::of(settings, &upgraded).map(Some), "dependencies", &mut gaps);
    let filesystems = filesystems::read(settings);
    let mut reboot_needed = kernel::reboot_needed(settings, &kernel);
    reboot_needed.sort();
    reboot_needed.dedup();
    let configuration = configuration::digests(settings, &mut gaps);
    gaps.sort();
    gaps.dedup();
    Inventory {
        schema: 1,
        os,
        architecture,
        boot_id: or_gap(kernel::boot_id(), "boot id", &mut gaps),
        kernel,
        packages: database.packages.into_iter().map(Into::into).collect(),
        languages: languages.packages,
        roots: roots.roots,
        upgrades: upgrades.upgrades.into_iter().map(Into::into).collect(),
        services,
        listeners,
        stale: mapped.stale,
        in_use: mapped.in_use,
        exposed: mapped.exposed,
        reboot_needed,
        configuration,
        held: database.held,
        pinned,
        gaps,
        filesystems,
        dependents,
    }
}

/// The value, or its empty form and a gap.
fn or_gap<T: Empty>(read: io::Result<T>, what: &str, gaps: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        gaps.push(format!("{what}: {error}"));
        T::empty()
    })
}

/// What stands for "could not be read" (and is told as a gap).
trait Empty {
    fn empty() -> Self;
}
impl<T: Default> Empty for T {
    fn empty() -> Self {
        T::default()
    }
}
