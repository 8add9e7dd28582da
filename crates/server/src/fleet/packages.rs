//! Packages over the fleet: who has which version, and who is offered which.

use super::numbered::Numbered;
use super::words::Words;
use super::{Fleet, Tally};
use fettle_core::HostId;
use fettle_core::recall::Recall;
use fettle_core::version::Scheme;
use fettle_store::hosts::InventoryBrief;
use fettle_wire::api::{PackageDetail, PackageRow, PackageVersion, Page};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Package and version, by number.
type Pair = (u32, u32);

/// The packages of a host; hosts of the same packages share them.
#[derive(Debug)]
pub(super) struct Held {
    list: Arc<List>,
    /// The number of the list.
    pub(super) number: u32,
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct List {
    /// Sorted.
    installed: Box<[Pair]>,
    /// Sorted.
    offered: Box<[Pair]>,
}

impl List {
    /// Is the package there, in that version if one is given?
    fn has(&self, package: u32, version: Option<u32>) -> bool {
        match version {
            Some(version) => self.installed.binary_search(&(package, version)).is_ok(),
            None => has(&self.installed, package),
        }
    }
    fn is_offered(&self, package: u32) -> bool {
        has(&self.offered, package)
    }
}

fn has(pairs: &[Pair], package: u32) -> bool {
    pairs.get(pairs.partition_point(|p| p.0 < package)).is_some_and(|p| p.0 == package)
}

/// All packages of the fleet, counted.
#[derive(Debug, Default)]
pub(super) struct Software {
    names: Words,
    versions: Words,
    sources: Words,
    lists: Numbered<Arc<List>, Arc<List>>,
    /// By number of the package.
    packages: Vec<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// Number of its source package.
    source: u32,
    scheme: Option<Scheme>,
    /// Hosts that have it in some version.
    hosts: u64,
    /// Hosts that are offered some version.
    upgradable: u64,
    /// Hosts by number of the installed version.
    installed: BTreeMap<u32, u64>,
    /// Hosts by number of the offered version.
    offered: BTreeMap<u32, u64>,
}

impl Software {
    /// Takes what one host has.
    pub(super) fn take(&mut self, brief: &InventoryBrief<'_>, scheme: Option<Scheme>) -> Held {
        let mut installed = Vec::with_capacity(brief.packages.len());
        for it in &brief.packages {
            let package = self.package(&it.name);
            let source = self.sources.number(&it.source);
            let counted = &mut self.packages[package as usize];
            (counted.source, counted.scheme) = (source, scheme.or(counted.scheme));
            installed.push((package, self.versions.number(&it.version)));
        }
        for it in &brief.languages {
            let name = it.ecosystem.subject(&it.name);
            let package = self.package(&name);
            let source = self.sources.number(&name);
            let counted = &mut self.packages[package as usize];
            (counted.source, counted.scheme) = (source, Some(it.ecosystem.scheme()));
            installed.push((package, self.versions.number(&it.version)));
        }
        let mut offered = Vec::with_capacity(brief.upgrades.len());
        for it in &brief.upgrades {
            offered.push((self.package(&it.name), self.versions.number(&it.to)));
        }
        for pairs in [&mut installed, &mut offered] {
            pairs.sort_unstable();
            // Two architectures of one version are one.
            pairs.dedup();
        }
        let list = Arc::new(List { installed: installed.into(), offered: offered.into() });
        self.count(&list, |n| *n += 1);
        let number = self.lists.take(list.clone(), || list.clone());
        Held { list: self.lists.get(number).cloned().unwrap_or(list), number }
    }

    /// A host has them no more.
    pub(super) fn give_back(&mut self, held: Held) {
        self.count(&held.list, |n| *n -= 1);
        self.lists.give_back(held.number);
    }

    /// Of each list, by number: is the package in it, in that version if one is given?
    pub(super) fn having(&self, package: u32, version: Option<u32>) -> Vec<bool> {
        self.lists.hold(|list| list.has(package, version))
    }

    fn package(&mut self, name: &str) -> u32 {
        let number = self.names.number(name);
        if number as usize == self.packages.len() {
            self.packages.push(Counted::default());
        }
        number
    }

    fn count(&mut self, list: &List, change: impl Fn(&mut u64)) {
        let mut last = None;
        for (package, version) in &list.installed {
            let counted = &mut self.packages[*package as usize];
            step(&mut counted.installed, *version, &change);
            if last.replace(*package) != Some(*package) {
                change(&mut counted.hosts);
            }
        }
        last = None;
        for (package, version) in &list.offered {
            let counted = &mut self.packages[*package as usize];
            step(&mut counted.offered, *version, &change);
            if last.replace(*package) != Some(*package) {
                change(&mut counted.upgradable);
            }
        }
    }
}

/// Changes one count; one that falls to nothing is forgotten.
fn step(counts: &mut BTreeMap<u32, u64>, version: u32, change: &impl Fn(&mut u64)) {
    let count = counts.entry(version).or_default();
    change(count);
    if *count == 0 {
        counts.remove(&version);
    }
}

/// What a list of packages is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageSort {
    Name,
    Hosts,
    Versions,
    Exposed,
    Upgradable,
}

impl Fleet {
    /// The numbers of `NAME` or `NAME=VERSION`. `Err`: nobody has that.
    pub(super) fn package_of(&self, text: &str) -> Result<(u32, Option<u32>), ()> {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let package = self.software.names.find(name).ok_or(())?;
        let version = version.map(|v| self.software.versions.find(v).ok_or(())).transpose()?;
        Ok((package, version))
    }

    /// Does any host have it?
    pub(super) fn has_package(&self, name: &str) -> bool {
        let number = self.software.names.find(name);
        number.is_some_and(|n| self.software.packages[n as usize].hosts > 0)
    }

    /// Hosts that have a version that was recalled, with their names and the packages that are in it.
    pub(crate) fn with_version(&self, recall: &Recall) -> Vec<(HostId, String, Vec<String>)> {
        let pairs = self.recalled(recall);
        if pairs.is_empty() {
            return Vec::new();
        }
        let of_host = |known: &super::Known| {
            let installed = &known.held.as_ref()?.1.list.installed;
            let have = pairs.iter().filter(|pair| installed.binary_search(pair).is_ok());
            let names: Vec<String> =
                have.map(|(package, _)| self.software.names.text(*package).to_owned()).collect();
            let host = &known.record.host;
            (!names.is_empty()).then(|| (host.id.clone(), host.name.clone(), names))
        };
        self.hosts.iter().flatten().filter_map(of_host).collect()
    }

    /// How many hosts are offered a version that was recalled.
    pub(crate) fn offered_version(&self, recall: &Recall) -> u64 {
        let pairs = self.recalled(recall);
        let is_offered = |known: &&super::Known| {
            let offered = known.held.as_ref().map(|held| &held.1.list.offered);
            offered.is_some_and(|o| pairs.iter().any(|pair| o.binary_search(pair).is_ok()))
        };
        self.hosts.iter().flatten().filter(is_offered).count() as u64
    }

    /// Packages of the fleet that the recall names, with the number of its version.
    fn recalled(&self, recall: &Recall) -> Vec<Pair> {
        let Some(version) = self.software.versions.find(&recall.version) else {
            return Vec::new();
        };
        let names = self.software.names.all();
        let hit = names.filter(|(_, name)| recall.hits(name, &recall.version));
        hit.map(|(package, _)| (package, version)).collect()
    }

    fn package_row(&self, package: u32, tally: &Tally) -> Option<PackageRow> {
        let it = self.software.packages.get(package as usize).filter(|p| p.hosts > 0)?;
        let source = self.software.sources.text(it.source);
        Some(PackageRow {
            name: self.software.names.text(package).to_owned(),
            source: source.to_owned(),
            hosts: it.hosts,
            versions: it.installed.len() as u64,
            exposed: self.sources.find(source).map_or(0, |s| tally.exposed_by(s)),
            upgradable: it.upgradable,
        })
    }

    /// Installed packages whose name or source has `q` in it.
    pub(crate) fn packages(
        &self,
        tally: &Tally,
        q: &str,
        only_exposed: bool,
        (sort, down): (PackageSort, bool),
        limit: u64,
        offset: u64,
    ) -> Page<PackageRow> {
        let rows = self.software.names.all().filter_map(|(n, _)| self.package_row(n, tally));
        let mut rows: Vec<PackageRow> = rows
            .filter(|r| r.name.contains(q) || r.source.contains(q))
            .filter(|r| !only_exposed || r.exposed > 0)
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let number = |r: &PackageRow| match sort {
            PackageSort::Name => 0,
            PackageSort::Hosts => r.hosts,
            PackageSort::Versions => r.versions,
            PackageSort::Exposed => r.exposed,
            PackageSort::Upgradable => r.upgradable,
        };
        match (sort, down) {
            (PackageSort::Name, true) => rows.reverse(),
            (_, true) => rows.sort_by_key(|r| Reverse(number(r))),
            (_, false) => rows.sort_by_key(number),
        }
        let total = rows.len() as u64;
        let items = rows.into_iter().skip(offset as usize).take(limit as usize).collect();
        Page { total, items }
    }

    /// One package: its versions, newest first, with who has and who is offered each.
    pub(crate) fn package(&self, tally: &Tally, name: &str) -> Option<PackageDetail> {
        let number = self.software.names.find(name)?;
        let row = self.package_row(number, tally)?;
        let it = self.software.packages.get(number as usize)?;
        let all: BTreeSet<u32> = it.installed.keys().chain(it.offered.keys()).copied().collect();
        // Of those who have a version, who is offered another?
        let mut moving: BTreeMap<u32, u64> = BTreeMap::new();
        for (list, hosts) in self.software.lists.each() {
            if !list.is_offered(number) {
                continue;
            }
            let from = list.installed.partition_point(|p| p.0 < number);
            for (_, version) in list.installed[from..].iter().take_while(|p| p.0 == number) {
                *moving.entry(*version).or_default() += hosts;
            }
        }
        let count = |of: &BTreeMap<u32, u64>, version: &u32| of.get(version).copied().unwrap_or(0);
        let mut versions: Vec<PackageVersion> = all
            .iter()
            .map(|version| PackageVersion {
                version: self.software.versions.text(*version).to_owned(),
                hosts: count(&it.installed, version),
                upgradable: count(&moving, version),
                offered: count(&it.offered, version),
            })
            .collect();
        let scheme = it.scheme.unwrap_or(Scheme::Deb);
        versions.sort_by(|a, b| scheme.compare_lenient(&b.version, &a.version));
        let mut cves = match self.sources.find(&row.source) {
            Some(source) => tally.of_source(source).map(|id| self.cve_row(tally, id)).collect(),
            None => Vec::new(),
        };
        super::tally::worst_first(&mut cves);
        Some(PackageDetail { row, versions, cves })
    }
}
