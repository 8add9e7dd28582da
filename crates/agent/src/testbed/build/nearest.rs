//! The root of a cohort out of one that is nearly the same: hosts go from cohort to cohort by a few packages.

use super::{PATIENCE, Places, Stopped, copy, finish, in_unit, sources};
use crate::command;
use crate::inventory::dpkg;
use crate::settings::Settings;
use fettle_core::testbed::{TestOrder, TwinPackage};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// More packages than this that differ are not worth it.
const MOST: usize = 60;

/// What a root has and the order does not want, or the reverse.
struct Difference {
    root: PathBuf,
    missing: Vec<TwinPackage>,
    extra: Vec<String>,
}

impl Difference {
    fn len(&self) -> usize {
        self.missing.len() + self.extra.len()
    }
}

/// Makes the root at `new` from the nearest that is kept. `false`: there is none near enough, or it would not become that.
pub(super) fn make(
    places: &Places,
    new: &Path,
    order: &TestOrder,
    offered: &BTreeSet<(String, String)>,
) -> Result<bool, Stopped> {
    let entries = fs::read_dir(places.roots()).into_iter().flatten().flatten();
    let near = entries
        .map(|entry| entry.path())
        .filter(|root| root.extension().is_none() && release(root) == order.os.codename)
        .filter_map(|root| difference(root, &order.packages))
        .filter(|difference| difference.len() <= MOST)
        .min_by_key(Difference::len);
    let Some(near) = near else { return Ok(false) };
    super::super::remove(new);
    copy(&near.root, new)?;
    finish(places, new, &order.os.codename)?;
    sources::update(new)?;
    let install = sources::include(&near.missing, &order.architecture, offered, false);
    let installed = install.is_empty()
        || sources::download(new, &install)?
            && inside(new, &["install", "--no-download"], &install)?;
    let made = installed && (near.extra.is_empty() || inside(new, &["purge"], &near.extra)?);
    if made {
        let archives = new.join("var/cache/apt/archives");
        for entry in fs::read_dir(&archives).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "deb") {
                let _ = fs::remove_file(entry.path());
            }
        }
    } else {
        super::super::remove(new);
    }
    Ok(made)
}

/// Has apt in the root do something, without a network.
fn inside(root: &Path, what: &[&str], packages: &[String]) -> Result<bool, Stopped> {
    let mut run = in_unit();
    run.args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe"])
        .args(["--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .args(["--setenv=DEBIAN_FRONTEND=noninteractive"])
        .arg(format!("--directory={}", root.display()))
        .args(["--", "apt-get", "-y", "-q", "--allow-downgrades", "--allow-change-held-packages"])
        .args(["-o", "APT::Install-Recommends=false", "-o", "Dpkg::Use-Pty=0"])
        .args(["-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Options::=--force-confnew"])
        .args(what)
        .arg("--")
        .args(packages);
    let said = command::run(&mut run, Some(PATIENCE)).map_err(Stopped::io("change", root))?;
    if said.timed_out {
        // Who waited for it is gone; what it does is not.
        super::stop();
    }
    Ok(said.success())
}

/// What an order wants and a root has not. A root that cannot be read lacks everything.
pub(super) fn lacks(root: &Path, wanted: &[TwinPackage]) -> Vec<TwinPackage> {
    difference(root.to_owned(), wanted).map_or_else(|| wanted.to_vec(), |found| found.missing)
}

/// `VERSION_CODENAME` of a root.
fn release(root: &Path) -> String {
    let text = fs::read_to_string(root.join("usr/lib/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

fn difference(root: PathBuf, wanted: &[TwinPackage]) -> Option<Difference> {
    let settings = Settings { root: root.clone(), ..Settings::default() };
    let has: BTreeSet<TwinPackage> =
        dpkg::database(&settings).ok()?.packages.iter().map(TwinPackage::from).collect();
    let named: BTreeSet<(&str, &str)> =
        wanted.iter().map(|p| (p.name.as_str(), p.architecture.as_str())).collect();
    let missing = wanted.iter().filter(|p| !has.contains(p)).cloned().collect();
    let extra = has
        .iter()
        .filter(|p| !named.contains(&(p.name.as_str(), p.architecture.as_str())))
        .map(|p| p.name.clone())
        .collect();
    Some(Difference { root, missing, extra })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_in_a_root_and_what_is_too_much_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let dpkg = dir.path().join("var/lib/dpkg");
        fs::create_dir_all(&dpkg).unwrap();
        let package = |name: &str, version: &str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
            )
        };
        let status = ["less", "nginx", "nano"].map(|name| package(name, "1.0")).concat();
        fs::write(dpkg.join("status"), status).unwrap();
        let wanted = |name: &str, version: &str| TwinPackage {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
        };
        let wanted = [wanted("less", "1.0"), wanted("nginx", "1.1"), wanted("curl", "1.0")];
        let lacking: Vec<String> = lacks(dir.path(), &wanted).into_iter().map(|p| p.name).collect();
        assert_eq!(lacking, ["nginx", "curl"]);
        assert_eq!(lacks(&dir.path().join("none"), &wanted).len(), 3);
        let found = difference(dir.path().to_owned(), &wanted).unwrap();
        let missing: Vec<&str> = found.missing.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            (missing, found.extra.as_slice()),
            (vec!["nginx", "curl"], &["nano".to_owned()][..])
        );
    }
}
