//! The package sources that twins are built from: the worker's own, asked by apt from outside of any root.

use super::{Places, Stopped};
use crate::command::{self, command};
use fettle_core::assignment::PackageChange;
use fettle_core::testbed::{TestOrder, TwinPackage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Sources that do not answer are given up after.
const PATIENCE: Duration = Duration::from_secs(900);

/// Files of sources for a release: the administrator's for that release, else the worker's own.
pub(super) fn files(places: &Places, release: &str) -> Result<Vec<PathBuf>, Stopped> {
    let own = places.config.join("sources").join(release);
    let directories = match own.is_dir() {
        true => vec![own],
        false => vec![PathBuf::from("/etc/apt"), PathBuf::from("/etc/apt/sources.list.d")],
    };
    let found =
        directories.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let is_source = |path: &PathBuf| {
        let named = path.extension().is_some_and(|e| e == "list" || e == "sources");
        named && fs::read_to_string(path).is_ok_and(|text| names_a_source(&text))
    };
    let mut files: Vec<PathBuf> = found.map(|entry| entry.path()).filter(is_source).collect();
    files.sort();
    if files.is_empty() {
        return Err(Stopped::new(
            "no-sources",
            format!("the worker has no package sources for {release}"),
            "put them into /etc/fettle/testbed/sources/RELEASE/ on the worker",
        ));
    }
    Ok(files)
}

/// Is there more in the file than comments?
fn names_a_source(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

/// apt, with everything of its own below `root` but the worker's settings (its proxies, its authorities).
fn apt(program: &str, root: &Path) -> Command {
    let mut apt = command(program);
    apt.arg("-o").arg(format!("Dir={}/", root.display()));
    apt.arg("-o").arg(format!("Dir::State::status={}/var/lib/dpkg/status", root.display()));
    apt.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
    apt.args(["-o", "Acquire::Retries=3", "-o", "quiet=1"]);
    apt
}

pub(super) fn update(root: &Path) -> Result<(), Stopped> {
    let said = command::run(apt("apt-get", root).arg("update"), Some(PATIENCE))
        .map_err(Stopped::io("run apt-get below", root))?;
    if said.success() {
        return Ok(());
    }
    Err(Stopped::new(
        "sources-silent",
        format!("the worker's package sources cannot be read: {}", said.tail(3)),
        "on the worker: apt-get update",
    ))
}

/// Every version that the sources offer, of these packages: (name, version).
pub(super) fn offered(
    places: &Places,
    release: &str,
    packages: &[TwinPackage],
) -> Result<BTreeSet<(String, String)>, Stopped> {
    let scout = places.state.join("scout").join(release);
    for part in [
        "etc/apt/sources.list.d",
        "etc/apt/preferences.d",
        "etc/apt/apt.conf.d",
        "etc/apt/trusted.gpg.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
    ] {
        let part = scout.join(part);
        fs::create_dir_all(&part).map_err(Stopped::io("make", &part))?;
    }
    let status = scout.join("var/lib/dpkg/status");
    fs::write(&status, "").map_err(Stopped::io("write", &status))?;
    copy_sources(places, release, &scout)?;
    update(&scout)?;
    let names: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let said =
        command::run(apt("apt-cache", &scout).args(["madison", "--"]).args(names), Some(PATIENCE))
            .map_err(Stopped::io("run apt-cache below", &scout))?;
    Ok(parse_madison(&said.text))
}

/// `name | version | source`, a line each.
fn parse_madison(text: &str) -> BTreeSet<(String, String)> {
    let line = |line: &str| {
        let mut parts = line.split('|').map(str::trim);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    text.lines().filter_map(line).filter(|(_, version)| !version.is_empty()).collect()
}

/// Puts the sources, and the keys that vouch for them, below a root.
pub(super) fn copy_sources(places: &Places, release: &str, root: &Path) -> Result<(), Stopped> {
    let list = root.join("etc/apt/sources.list.d");
    let _ = fs::remove_dir_all(&list);
    open_directory(&list)?;
    let _ = fs::remove_file(root.join("etc/apt/sources.list"));
    for file in files(places, release)? {
        let name = file.file_name().unwrap_or_default();
        let to = list.join(name);
        fs::copy(&file, &to).map_err(Stopped::io("write", &to))?;
    }
    for keys in ["etc/apt/trusted.gpg.d", "etc/apt/keyrings", "usr/share/keyrings"] {
        let to = root.join(keys);
        open_directory(&to)?;
        for entry in fs::read_dir(Path::new("/").join(keys)).into_iter().flatten().flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_file() {
                fs::copy(entry.path(), &to).map_err(Stopped::io("write", &to))?;
            }
        }
    }
    Ok(())
}

/// Makes a directory that everybody may look into, whatever this process usually gives.
fn open_directory(path: &Path) -> Result<(), Stopped> {
    let made = fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.map_err(Stopped::io("make", path))
}

/// Puts archives where apt below `root` looks: of packages (`name=version`) with what they need.
pub(super) fn download(root: &Path, packages: &[String]) -> Result<bool, Stopped> {
    let partial = root.join("var/cache/apt/archives/partial");
    fs::create_dir_all(&partial).map_err(Stopped::io("make", &partial))?;
    let mut install = apt("apt-get", root);
    install.args(["install", "--download-only", "-y", "--allow-downgrades"]);
    install
        .args(["-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=1", "--"])
        .args(packages);
    let said = command::run(&mut install, Some(PATIENCE))
        .map_err(Stopped::io("run apt-get below", root))?;
    Ok(said.success())
}

/// What the twin needs of the sources, put where apt in it looks: their lists as they are now, and the archives of the
/// change and of its way back. In it nothing can be fetched any more.
pub(super) fn fetch(twin: &Path, order: &TestOrder) -> Result<(), Stopped> {
    update(twin)?;
    let cache = twin.join("var/cache/apt/archives");
    fs::create_dir_all(&cache).map_err(Stopped::io("make", &cache))?;
    let exact =
        |c: &PackageChange, version: &str| format!("{}:{}={version}", c.name, c.architecture);
    let changes = &order.order.changes;
    let new: Vec<String> = changes.iter().map(|c| exact(c, &c.to)).collect();
    let mut download = apt("apt-get", twin);
    download.current_dir(&cache).args(["download", "--"]).args(&new);
    let said = command::run(&mut download, Some(PATIENCE))
        .map_err(Stopped::io("run apt-get below", twin))?;
    if !said.success() {
        return Err(Stopped::new(
            "not-offered",
            format!("the worker's package sources do not have the change: {}", said.tail(3)),
            "give the worker the sources that its hosts have",
        ));
    }
    // Where one of these is gone, the twin rebuilds it from what is installed, as its host would.
    for change in changes.iter().filter(|c| !c.from.is_empty()) {
        let mut download = apt("apt-get", twin);
        download.current_dir(&cache).args(["download", "--"]).arg(exact(change, &change.from));
        let _ = command::run(&mut download, Some(PATIENCE));
    }
    Ok(())
}

/// What mmdebstrap is to install: each package in exactly its version where the sources have that, else in the one that
/// they have; what they do not know at all is left out.
pub(super) fn include(
    packages: &[TwinPackage],
    architecture: &str,
    offered: &BTreeSet<(String, String)>,
    exact_only: bool,
) -> Vec<String> {
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in offered {
        known.entry(name).or_default().insert(version);
    }
    let own = packages.iter().filter(|p| p.architecture == architecture || p.architecture == "all");
    own.filter_map(|package| {
        let versions = known.get(package.name.as_str())?;
        match versions.contains(package.version.as_str()) {
            true => Some(format!("{}={}", package.name, package.version)),
            false => (!exact_only).then(|| package.name.clone()),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, architecture: &str, version: &str) -> TwinPackage {
        TwinPackage {
            name: name.into(),
            architecture: architecture.into(),
            version: version.into(),
        }
    }

    #[test]
    fn a_package_is_asked_for_exactly_where_the_sources_have_it_so() {
        let text = "     nginx | 1.22.1-9+deb12u2 | http://d.example/debian bookworm/main amd64 Packages\n     \
                    nginx | 1.22.1-9 | http://d.example/debian bookworm/main amd64 Packages\n      \
                    less | 590-2.1 | http://d.example/debian bookworm/main amd64 Packages\n";
        let offered = parse_madison(text);
        assert_eq!(offered.len(), 3);
        let packages = [
            package("nginx", "amd64", "1.22.1-9"),
            package("less", "amd64", "590-2"),
            package("acme", "all", "1.0"),
            package("nginx", "i386", "1.22.1-9"),
        ];
        assert_eq!(include(&packages, "amd64", &offered, false), ["nginx=1.22.1-9", "less"]);
        assert_eq!(include(&packages, "amd64", &offered, true), ["nginx=1.22.1-9"]);
    }

    #[test]
    fn a_file_of_comments_names_no_source() {
        assert!(!names_a_source("# moved to sources.list.d\n\n"));
        assert!(names_a_source("# old\ndeb http://d.example/debian bookworm main\n"));
    }
}
