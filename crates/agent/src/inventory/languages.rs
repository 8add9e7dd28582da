//! Packages of programming languages that are installed for the whole host beside the package manager: by pip, npm, gem,
//! `cargo install`, or as jar files.
//!
//! Only metadata is read, and nothing is run: what installers wrote beside what they installed. What a package of the
//! distribution owns is left out, because the distribution's own advisories judge it. Looking is bounded in files, bytes and
//! time; where a bound is met, that is a gap, and the rest is not taken for gone.
//!
//! | ecosystem | what is read | where |
//! |---|---|---|
//! | PyPI | `*.dist-info/METADATA`, `*.egg-info` | `dist-packages` and `site-packages` of `/usr/lib/python*`, of root's own |
//! | npm | `package.json` below `node_modules` | `/usr/lib/node_modules` |
//! | RubyGems | `specifications/*.gemspec` | `/var/lib/gems`, `/usr/lib/ruby/gems` |
//! | crates.io | `.crates2.json` | `.cargo` in root's home |
//! | Maven | `META-INF/maven/…/pom.properties` in jar, war and ear files, and in those inside of them | `/usr/share/java`, Tomcat's directories |
//!
//! and all of them anywhere below `/usr/local`, `/opt` and `/srv`.

use super::dpkg::Owners;
use crate::settings::Settings;
use fettle_core::language::LanguagePackage;
use fettle_vuln::exposure::LANGUAGES_GAP;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

mod archive;
mod metadata;
mod recent;
mod walk;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names in directories.
    pub entries: usize,
    /// Packages that are listed.
    pub packages: usize,
    /// Bytes of one file of metadata.
    pub metadata: u64,
    /// Bytes of one archive inside of another.
    pub inner_archive: u64,
    /// All of it together.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 300_000,
            packages: 20_000,
            metadata: 1 << 20,
            inner_archive: 64 << 20,
            time: Duration::from_secs(10),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// By ecosystem, name, version and place.
    pub packages: Vec<LanguagePackage>,
    /// Where looking ended early, in words.
    pub gaps: Vec<String>,
}

/// How old what is told may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is looked at now: for somebody who asks.
    Now,
    /// The last look does, for a hundred times as long as it took: for what is asked often.
    Recent,
}

/// A package, and the file on this host that says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Candidate {
    package: LanguagePackage,
    /// As the host calls it.
    file: PathBuf,
}

/// Looks for them.
pub fn installed(settings: &Settings, limits: Limits, age: Age) -> Found {
    let place = recent::place(settings);
    let look = match age {
        Age::Now => recent::anew(settings, limits, place.as_deref()),
        Age::Recent => recent::last(settings, limits, place.as_deref()),
    };
    let recent::Look { found: candidates, mut gaps, .. } = look;
    let wanted = candidates.iter().map(|c| c.file.as_os_str().as_bytes());
    let owners = match Owners::find(settings, wanted) {
        Ok(owners) => owners,
        // Without dpkg nothing is dpkg's; where its lists cannot be read, what it owns would be counted twice.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Owners::default(),
        Err(e) => {
            gaps.push(format!("{LANGUAGES_GAP}: what the package manager owns: {e}"));
            return Found { packages: Vec::new(), gaps };
        }
    };
    let is_own = |c: &Candidate| owners.of(c.file.as_os_str().as_bytes()).is_empty();
    let mut packages: Vec<LanguagePackage> =
        candidates.into_iter().filter(is_own).map(|c| c.package).collect();
    packages.sort();
    packages.dedup();
    if packages.len() > limits.packages {
        gaps.push(format!(
            "{LANGUAGES_GAP}: {} are installed, and the first {} listed",
            packages.len(),
            limits.packages
        ));
        packages.truncate(limits.packages);
    }
    Found { packages, gaps }
}

#[cfg(test)]
mod tests;
