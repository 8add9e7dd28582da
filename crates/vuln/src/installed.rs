//! What is installed, as the databases of package managers say it that are not the host's own: of roots on a host. Bytes in,
//! packages out; total, and bounded, because whoever owns a container writes these bytes.

use crate::feed::MAX_VERSION;
use fettle_core::inventory::Package;

pub mod apk;
pub mod rpm;

/// Names longer than this are no package's.
const LONGEST: usize = 200;

/// Packages that are not read beyond this, of one root.
pub const MAX_PACKAGES: usize = 50_000;

/// What a database lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// By name and architecture.
    pub packages: Vec<Package>,
    /// Entries that name no package that could be judged.
    pub left_out: usize,
}

impl Installed {
    /// Takes a package where every part of it can be one.
    fn take(&mut self, package: Package) {
        if is_sound(&package) && self.packages.len() < MAX_PACKAGES {
            self.packages.push(package);
        } else {
            self.left_out += 1;
        }
    }

    fn sorted(mut self) -> Self {
        self.packages.sort();
        self.packages.dedup();
        self
    }
}

/// Can it be judged, told to others and shown? Its names and versions are of plain characters, and not longer than any is.
pub fn is_sound(package: &Package) -> bool {
    let plain =
        |text: &str, most: usize| text.len() <= most && text.chars().all(|c| c.is_ascii_graphic());
    let named = |text: &str, most: usize| !text.is_empty() && plain(text, most);
    // Two slashes stand between a root and a source.
    named(&package.name, LONGEST)
        && named(&package.source, LONGEST)
        && !package.source.contains("//")
        && named(&package.version, MAX_VERSION)
        && named(&package.source_version, MAX_VERSION)
        && plain(&package.architecture, LONGEST)
        && plain(&package.module, LONGEST)
}
