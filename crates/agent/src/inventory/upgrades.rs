//! What the host's own sources offer: asked of apt itself, which knows pins, priorities and holds, and filled from its
//! signed index with hash, size and source. Nothing is fetched here: that is the host's own timer's, or the agent's at
//! its leisure.

use super::dpkg::{self, Database};
use crate::command::command;
use crate::packages::{ResolvedChange, apt, simulation};
use crate::settings::Settings;
use fettle_core::Digest;
use fettle_core::inventory::{Origin, Upgrade};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Packages asked of `apt-cache show` in one call.
const BATCH: usize = 200;

/// What is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// By name and architecture.
    pub upgrades: Vec<Upgrade>,
    /// What could not be found out.
    pub gaps: Vec<String>,
}

/// Asks apt what a full upgrade would do. Holds are left out of account, so that a held package's upgrade is still
/// known (and shown as held).
///
/// # Errors
/// When apt cannot be run or fails.
pub fn offered(
    settings: &Settings,
    database: &Database,
    architecture: &str,
) -> io::Result<Offered> {
    if !settings.host("usr/bin/apt-get").exists() {
        return Ok(Offered {
            upgrades: Vec::new(),
            gaps: vec!["pending upgrades: this host has no apt-get".into()],
        });
    }
    let caches = apt::caches(settings);
    let simulate = ["--simulate", "--ignore-hold", "-o", "Debug::NoLocking=1", "dist-upgrade"];
    let simulated = run("apt-get", &caches, &simulate)?;
    let steps = simulation::parse(&simulated, architecture).map_err(io::Error::other)?;
    let (changes, removals): (Vec<_>, Vec<_>) = steps.into_iter().partition(|s| !s.to.is_empty());
    let removed: BTreeSet<&str> = removals.iter().map(|s| s.name.as_str()).collect();
    if changes.is_empty() {
        return Ok(Offered::default());
    }
    let origins = origins(&run("apt-cache", &caches, &["policy"])?);
    let records = records(&changes, &caches)?;
    let installed: BTreeSet<(&str, &str)> =
        database.packages.iter().map(|p| (p.name.as_str(), p.architecture.as_str())).collect();
    let added: BTreeSet<&str> = changes
        .iter()
        .filter(|c| !installed.contains(&(c.name.as_str(), c.architecture.as_str())))
        .map(|c| c.name.as_str())
        .collect();
    let mut offered = Offered::default();
    let mut explained = BTreeSet::new();
    for change in &changes {
        let Some(record) =
            records.get(&(change.name.clone(), change.to.clone(), change.architecture.clone()))
        else {
            offered.gaps.push(format!(
                "pending upgrades: the index has no record of {} {}",
                change.name, change.to
            ));
            continue;
        };
        let named = |field: &str, among: &BTreeSet<&str>| -> Vec<String> {
            names_in(record.relations.get(field).map_or("", String::as_str))
                .filter(|n| among.contains(n))
                .map(str::to_owned)
                .collect()
        };
        let mut brings = [named("Depends", &added), named("Pre-Depends", &added)].concat();
        brings.retain(|n| *n != change.name);
        let mut removes = [named("Breaks", &removed), named("Conflicts", &removed)].concat();
        for list in [&mut brings, &mut removes] {
            list.sort();
            list.dedup();
        }
        explained.extend(removes.iter().cloned());
        offered.upgrades.push(Upgrade {
            name: change.name.clone(),
            architecture: change.architecture.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            origin: origin(&change.releases, &origins),
            sha256: record.sha256,
            size: record.size,
            source_version: record.source_version.clone(),
            brings,
            removes,
        });
    }
    for package in removed.iter().filter(|p| !explained.contains(**p)) {
        offered.gaps.push(format!("pending upgrades: a full upgrade would remove {package}"));
    }
    offered.upgrades.sort();
    Ok(offered)
}

fn run(program: &str, caches: &[String], arguments: &[&str]) -> io::Result<String> {
    let output = command(program)
        .args(caches)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "{program} {}: {}",
            output.status,
            said.lines().next().unwrap_or_default()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the index says of one version.
struct Record {
    sha256: Digest,
    size: u64,
    source_version: String,
    relations: BTreeMap<String, String>,
}

type Records = BTreeMap<(String, String, String), Record>;

fn records(changes: &[ResolvedChange], caches: &[String]) -> io::Result<Records> {
    let mut found = Records::new();
    for batch in changes.chunks(BATCH) {
        let names: Vec<String> =
            batch.iter().map(|c| format!("{}:{}={}", c.name, c.architecture, c.to)).collect();
        let mut arguments = vec!["show", "--"];
        arguments.extend(names.iter().map(String::as_str));
        let text = run("apt-cache", caches, &arguments)?;
        for paragraph in dpkg::paragraphs(text.as_bytes()) {
            let field = |name: &str| paragraph.text(name).unwrap_or_default();
            let (Ok(sha256), Ok(size)) = (field("SHA256").parse(), field("Size").parse()) else {
                continue;
            };
            let version = field("Version");
            let relations =
                ["Depends", "Pre-Depends", "Breaks", "Conflicts"].map(|f| (f.to_owned(), field(f)));
            let record = Record {
                sha256,
                size,
                source_version: source_version(&field("Source"), &version),
                relations: relations.into(),
            };
            found.entry((field("Package"), version, field("Architecture"))).or_insert(record);
        }
    }
    Ok(found)
}

/// `Source: NAME (VERSION)` names a version only where it is another than the binary's.
fn source_version(source: &str, version: &str) -> String {
    source.split_once('(').and_then(|(_, v)| v.strip_suffix(')')).unwrap_or(version).to_owned()
}

/// Package names of a relation field: `libc6 (>= 2.36), foo | bar:any` gives libc6, foo, bar.
pub(super) fn names_in(relation: &str) -> impl Iterator<Item = &str> {
    relation
        .split([',', '|'])
        .filter_map(|part| part.trim().split([' ', ':', '(']).next())
        .filter(|n| !n.is_empty())
}

/// `(label, suite)` → origin, from `apt-cache policy`: `release v=12,o=Debian,a=stable,n=bookworm,l=Debian,c=main`.
fn origins(policy: &str) -> BTreeMap<(String, String), Origin> {
    let mut found = BTreeMap::new();
    for line in policy.lines().filter_map(|l| l.trim().strip_prefix("release ")) {
        let fields: BTreeMap<&str, &str> =
            line.split(',').filter_map(|f| f.split_once('=')).collect();
        let field = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
        let origin = Origin {
            origin: field("o"),
            label: field("l"),
            suite: field("a"),
            codename: field("n"),
        };
        found.insert((origin.label.clone(), origin.suite.clone()), origin);
    }
    found
}

/// The first release that offers the version; a security suite wins, since that is why it is urgent.
fn origin(releases: &str, known: &BTreeMap<(String, String), Origin>) -> Origin {
    let all: Vec<Origin> = releases
        .split(", ")
        .map(|release| {
            let (label, rest) = release.split_once(':').unwrap_or(("", release));
            let suite = rest.rsplit('/').next().unwrap_or(rest);
            let key = (label.to_owned(), suite.to_owned());
            known.get(&key).cloned().unwrap_or_else(|| Origin {
                origin: String::new(),
                label: key.0,
                suite: key.1,
                codename: String::new(),
            })
        })
        .collect();
    let security = all.iter().find(|o| o.is_security());
    security.or(all.first()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_that_of_the_security_suite_where_several_offer_the_version() {
        let policy = "Package files:\n 500 x\n     release v=12,o=Debian,a=oldstable,n=bookworm,l=Debian,c=main,b=amd64\n \
                      500 y\n     release v=12,o=Debian,a=oldstable-security,n=bookworm-security,l=Debian-Security,c=main,b=amd64\n";
        let found = origin(
            "Debian:12.8/oldstable, Debian-Security:12/oldstable-security",
            &origins(policy),
        );
        assert_eq!(
            (found.origin.as_str(), found.codename.as_str()),
            ("Debian", "bookworm-security")
        );
        assert!(found.is_security());
    }

    #[test]
    fn relations_name_packages_without_versions_and_architectures() {
        let names: Vec<_> = names_in("libc6 (>= 2.36), foo | bar:any, baz").collect();
        assert_eq!(names, ["libc6", "foo", "bar", "baz"]);
        assert_eq!(source_version("openssl (3.0.15-1)", "3.0.15-1+b1"), "3.0.15-1");
        assert_eq!(source_version("", "1.0"), "1.0");
    }
}
