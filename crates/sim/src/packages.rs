//! What software there is, what a host has of it, and what it says of that.

use crate::upstream::Upstream;
use fettle_core::inventory::{Inventory, Kernel, Listener, Origin, Os, Package, Service, Upgrade};
use fettle_core::{Digest, Shared};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Source packages.
pub(crate) const SOURCES: [&str; 5] = ["curl", "nginx", "openssl", "php", "vim"];

/// Binary packages, by name, each with the place of its source.
pub(crate) const PACKAGES: [(&str, usize); 7] = [
    ("curl", 0),
    ("libssl3", 2),
    ("nginx", 1),
    ("nginx-common", 1),
    ("openssl", 2),
    ("php-fpm", 3),
    ("vim", 4),
];

/// Some releases of nginx bring it to hosts that lack it.
pub(crate) const BROUGHT: usize = 3;
/// Some releases would remove it.
pub(crate) const REMOVED: usize = 6;

/// Versions of the sources, by place.
pub(crate) type Offered = [u16; SOURCES.len()];

/// Numbers from here on are an administrator's own builds.
const BY_HAND: u16 = 1000;

/// A version as it is written.
pub(crate) fn version(number: u16) -> String {
    match number.checked_sub(BY_HAND) {
        Some(by_hand) => format!("3.{by_hand}-1"),
        None => format!("1.{number}-1"),
    }
}

/// The number of a version: they order alike.
pub(crate) fn number(version: &str) -> Option<u16> {
    let (major, rest) = version.strip_suffix("-1")?.split_once('.')?;
    let minor: u16 = rest.parse().ok()?;
    Some(if major == "3" { BY_HAND + minor } else { minor })
}

/// The place of a binary package.
pub(crate) fn place(name: &str) -> Option<usize> {
    PACKAGES.iter().position(|(known, _)| *known == name)
}

/// How the package database of a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    Whole,
    /// The package manager was cut off.
    Half,
    Broken,
}

/// What is installed on a host: a version each, 0 where the package is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Installed {
    pub(crate) versions: [u16; PACKAGES.len()],
    pub(crate) health: Health,
}

/// Everything that a host says of its packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holding {
    pub(crate) installed: Installed,
    /// What its sources offer.
    pub(crate) offered: Offered,
    /// Packages that its administrator holds: a bit each.
    pub(crate) held: u8,
}

impl Installed {
    pub(crate) fn is(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// An administrator goes back to the release before.
    pub(crate) fn back(mut self, at: usize) -> Self {
        if self.versions[at] > 1 {
            self.versions[at] -= 1;
        }
        self
    }

    /// An administrator builds a package by hand.
    pub(crate) fn by_hand(mut self, at: usize, build: u16) -> Self {
        self.versions[at] = BY_HAND + build;
        self
    }
}

impl Holding {
    /// Does its administrator hold a package that is there?
    pub(crate) fn holds(&self, at: usize) -> bool {
        self.held & (1 << at) != 0 && self.installed.versions[at] > 0
    }
}

/// Inventories and cohorts, each made once.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    inventories: BTreeMap<Holding, Arc<Inventory>>,
    cohorts: BTreeMap<Installed, Digest>,
}

impl Kinds {
    pub(crate) fn of(
        &mut self,
        holding: &Holding,
        upstream: &Upstream,
    ) -> (Arc<Inventory>, Digest) {
        let new = || Arc::new(inventory(holding, upstream));
        let inventory = self.inventories.entry(*holding).or_insert_with(new).clone();
        let of = || inventory.cohort();
        let cohort = *self.cohorts.entry(holding.installed).or_insert_with(of);
        (inventory, cohort)
    }

    /// The inventory of a host that said that once.
    pub(crate) fn known(&self, holding: &Holding) -> Option<&Inventory> {
        self.inventories.get(holding).map(|inventory| &**inventory)
    }
}

fn origin(security: bool) -> Origin {
    let (label, suite) = if security {
        ("Debian-Security", "stable-security")
    } else {
        ("Debian", "stable-updates")
    };
    Origin {
        origin: "Debian".to_owned(),
        label: label.to_owned(),
        suite: suite.to_owned(),
        codename: String::new(),
    }
}

/// Upgrades that such a host is offered.
fn upgrades(holding: &Holding, upstream: &Upstream) -> Vec<Shared<Upgrade>> {
    let has = |at: usize| holding.installed.versions[at] > 0;
    let mut out: Vec<Shared<Upgrade>> = Vec::new();
    if holding.installed.health != Health::Whole {
        return out;
    }
    for (at, (name, source)) in PACKAGES.iter().enumerate() {
        let (from, to) = (holding.installed.versions[at], holding.offered[*source]);
        let release = upstream.release(*source, to);
        // Who has nginx and not what it brings is offered that as well, as a new package.
        let new = at == BROUGHT && from == 0 && release.brings && has(2);
        if from >= to || (from == 0 && !new) {
            continue;
        }
        let brings = *source == PACKAGES[BROUGHT].1 && at != BROUGHT && release.brings;
        let brings = brings && !has(BROUGHT);
        let removes = release.removes && has(REMOVED) && *source != PACKAGES[REMOVED].1;
        let named = |on: bool, at: usize| {
            on.then(|| PACKAGES[at].0.to_owned()).into_iter().collect::<Vec<_>>()
        };
        let upgrade = Upgrade {
            name: (*name).to_owned(),
            architecture: "amd64".to_owned(),
            from: if from == 0 { String::new() } else { version(from) },
            to: version(to),
            origin: origin(release.security),
            sha256: Digest([u8::try_from(to % 251).unwrap_or(0); 32]),
            size: 1,
            source_version: version(to),
            brings: named(brings, BROUGHT),
            removes: named(removes, REMOVED),
        };
        out.push(upgrade.into());
    }
    out
}

fn inventory(holding: &Holding, upstream: &Upstream) -> Inventory {
    let versions = holding.installed.versions;
    let package = |(at, (name, source)): (usize, &(&str, usize))| {
        (versions[at] > 0).then(|| {
            Shared::from(Package {
                name: (*name).to_owned(),
                architecture: "amd64".to_owned(),
                version: version(versions[at]),
                source: SOURCES[*source].to_owned(),
                source_version: version(versions[at]),
                healthy: holding.installed.health == Health::Whole,
                module: String::new(),
            })
        })
    };
    let unit = |at: usize| format!("{}.service", PACKAGES[at].0);
    let serves = || [2, 5].into_iter().filter(|at| versions[*at] > 0);
    let named = |places: &[usize]| -> Vec<String> {
        let there = places.iter().filter(|at| versions[**at] > 0);
        there.map(|at| PACKAGES[*at].0.to_owned()).collect()
    };
    Inventory {
        schema: 1,
        os: Os {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            codename: "bookworm".to_owned(),
            pretty: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        },
        architecture: "amd64".to_owned(),
        kernel: Kernel { running: "6.1.0-28-amd64".to_owned(), ..Kernel::default() },
        packages: PACKAGES.iter().enumerate().filter_map(package).collect::<Vec<_>>().into(),
        upgrades: upgrades(holding, upstream),
        services: serves()
            .map(|at| Service {
                unit: unit(at),
                active: "active".to_owned(),
                sub: "running".to_owned(),
                enabled: "enabled".to_owned(),
            })
            .collect(),
        listeners: serves()
            .map(|at| Listener {
                protocol: "tcp".to_owned(),
                address: "0.0.0.0".to_owned(),
                port: 80 + u16::try_from(at).unwrap_or(0),
                process: PACKAGES[at].0.to_owned(),
                unit: unit(at),
            })
            .collect(),
        in_use: named(&[1, 2, 5]),
        exposed: named(&[2]),
        held: (0..PACKAGES.len())
            .filter(|at| holding.holds(*at))
            .map(|at| PACKAGES[at].0.to_owned())
            .collect(),
        ..Inventory::default()
    }
}
