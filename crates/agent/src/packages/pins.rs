//! The administrator's preferences: which versions of which packages (`apt_preferences(5)`).

use crate::settings::Settings;
use crate::transaction::glob;
use fettle_core::inventory::Package;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// A stanza that names packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Names, or globs of names.
    packages: Vec<String>,
    /// `version 1.22.*`, `release o=Acme`, `origin packages.example.org`.
    pin: String,
    priority: i64,
}

/// Every stanza in force on the host, in the order in which apt reads them.
pub fn read(settings: &Settings) -> Vec<Pin> {
    files(settings, "/etc/apt/preferences", "/etc/apt/preferences.d")
        .into_iter()
        // apt reads names without an ending and those that end in .pref.
        .filter(|file| file.extension().is_none_or(|ending| ending == "pref"))
        .flat_map(|file| parse(&fs::read_to_string(file).unwrap_or_default()))
        .collect()
}

/// What the stanzas say of packages that are installed: name → pins that name it.
pub fn of_installed(settings: &Settings, packages: &[Package]) -> BTreeMap<String, String> {
    let pins = read(settings);
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for name in packages.iter().map(|p| &p.name) {
        let says: Vec<String> =
            pins.iter().filter(|pin| pin.names(name)).map(Pin::to_string).collect();
        if !says.is_empty() {
            out.insert(name.clone(), says.join("; "));
        }
    }
    out
}

/// The files of a directory, in the order of their names, after `first`.
pub(crate) fn files(settings: &Settings, first: &str, directory: &str) -> Vec<PathBuf> {
    let mut more: Vec<PathBuf> = fs::read_dir(settings.host(directory))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    more.sort();
    more.insert(0, settings.host(first));
    more
}

fn parse(text: &str) -> Vec<Pin> {
    let mut out = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let line = |l: &&str| {
                l.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            stanza.lines().find(line).map(|l| l[name.len()..].trim().to_owned())
        };
        if let (Some(packages), Some(pin), Some(priority)) =
            (field("Package:"), field("Pin:"), field("Pin-Priority:"))
            && let Ok(priority) = priority.parse()
        {
            let packages = packages.split_whitespace().map(str::to_owned).collect();
            out.push(Pin { packages, pin, priority });
        }
    }
    out
}

impl Pin {
    /// Does it name the package, and not everything? Sources (`src:`) and regular expressions are left out.
    pub fn names(&self, package: &str) -> bool {
        self.packages.iter().any(|pattern| {
            let bare = pattern
                .split_once(':')
                .filter(|(n, _)| *n != "src")
                .map_or(pattern.as_str(), |(n, _)| n);
            bare != "*" && !pattern.starts_with('/') && glob(bare, package)
        })
    }

    /// Does it keep this version from being installed? `None`: it speaks of no version.
    pub fn forbids(&self, version: &str) -> Option<bool> {
        let wanted = self.pin.strip_prefix("version ")?;
        let is_it = glob(wanted.trim(), version);
        Some((is_it && self.priority < 0) || (!is_it && self.priority > 0))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin: {}, priority {}", self.pin, self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_of_a_version_forbids_the_others_and_one_below_nought_forbids_its_own() {
        let pins = parse(
            "Package: nginx*\nPin: version 1.22.*\nPin-Priority: 1001\n\n\
             package: openssl libssl3:amd64\npin: version 3.0.99*\npin-priority: -1\n\n\
             Package: curl\nPin: release o=Acme\nPin-Priority: 990\n\n\
             Package: vim\nPin: version 9\nPin-Priority: high\n",
        );
        let cases = [
            ("nginx-core", "1.24", Some(true)),
            ("nginx", "1.22.1-9", Some(false)),
            ("libssl3", "3.0.99-1", Some(true)),
            ("openssl", "3.0.17", Some(false)),
            ("curl", "8", None),
        ];
        for (package, version, forbids) in cases {
            let pin = pins.iter().find(|pin| pin.names(package)).unwrap();
            assert_eq!(pin.forbids(version), forbids, "{package} {version}: {pin}");
        }
        assert!(!pins.iter().any(|pin| pin.names("vim")), "no number is no priority");
    }

    #[test]
    fn what_everything_is_pinned_to_is_said_of_no_package() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { root: dir.path().to_owned(), ..Settings::default() };
        fs::create_dir_all(dir.path().join("etc/apt/preferences.d")).unwrap();
        let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
        write("etc/apt/preferences", "Package: *\nPin: release a=stable\nPin-Priority: 900\n");
        write(
            "etc/apt/preferences.d/acme",
            "Package: acme-*\nPin: version 1.0\nPin-Priority: 1001\n",
        );
        write(
            "etc/apt/preferences.d/old.disabled",
            "Package: vim\nPin: version 1\nPin-Priority: 1\n",
        );
        let package = |name: &str| Package {
            name: name.into(),
            architecture: "amd64".into(),
            version: "1.0".into(),
            source: name.into(),
            source_version: "1.0".into(),
            healthy: true,
            module: String::new(),
        };
        let said = of_installed(&settings, &["acme-web", "bash", "vim"].map(package));
        let acme = ("acme-web".to_owned(), "Pin: version 1.0, priority 1001".to_owned());
        assert_eq!(said, BTreeMap::from([acme]));
    }
}
