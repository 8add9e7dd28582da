//! What of an inventory decides about exposure: per source package of the vendor, which versions are installed,
//! which kernel runs, what is offered, in use, exposed, stale.

use super::vendor::{Rules, scheme_for};
use super::{KernelCoverage, LANGUAGES_GAP, MEMORY_GAPS, PACKAGES_GAP};
use fettle_core::inventory::{Inventory, Package};
use fettle_core::version::Scheme;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A version with its byte key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Keyed {
    /// Plain comparison is the version order.
    pub(super) key: Box<[u8]>,
    /// As written.
    pub(super) text: Arc<str>,
}

impl Keyed {
    pub(super) fn new(scheme: Scheme, text: &str) -> Self {
        Self { key: scheme.key(text).into(), text: text.into() }
    }
}

/// Installed binaries of one version of a source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    /// Version of the source package.
    pub(super) version: Keyed,
    /// Names, sorted. Of packages of languages the places where they lie.
    pub(super) binaries: Vec<Arc<str>>,
    /// A process maps a file of one of them.
    pub(super) in_use: bool,
    /// Such a process listens beyond loopback.
    pub(super) exposed: bool,
}

/// The kernel that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RunningKernel {
    /// Version of its source package.
    pub(super) version: Keyed,
    /// Its package: `linux-image-6.1.0-28-amd64`.
    pub(super) binary: Arc<str>,
    /// The newest installed image of the same source, well installed.
    pub(super) newest: Option<Keyed>,
}

/// Everything on a host that decides about one source package. Hosts with equal facts share one copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SourceFacts {
    /// The vendor's name for the source package.
    pub(super) source: Arc<str>,
    /// Installed versions, lowest first. Kernel images are not among them.
    pub(super) groups: Vec<Group>,
    /// Only for the source of the running kernel.
    pub(super) kernel: Option<RunningKernel>,
    /// The highest version that the host's own sources offer for any installed binary.
    pub(super) offered: Option<Keyed>,
    /// A process still maps replaced files of one of the binaries.
    pub(super) stale: bool,
}

impl SourceFacts {
    /// All installed binaries; the running kernel's image first.
    pub(super) fn binaries(&self) -> impl Iterator<Item = &Arc<str>> {
        self.kernel.iter().map(|k| &k.binary).chain(self.groups.iter().flat_map(|g| &g.binaries))
    }

    /// Is this version installed or running?
    pub(super) fn has_version(&self, scheme: Scheme, text: &str) -> bool {
        let key = scheme_for(scheme, &self.source).key(text);
        self.groups.iter().any(|g| *g.version.key == *key)
            || self.kernel.as_ref().is_some_and(|k| *k.version.key == *key)
    }
}

/// A whole host.
#[derive(Debug, Clone)]
pub(super) struct HostFacts {
    /// Whose order the host's versions have.
    pub(super) scheme: Scheme,
    /// By source name.
    pub(super) sources: Vec<Arc<SourceFacts>>,
    pub(super) kernel: KernelCoverage,
    /// `name version` of packages whose version is not well-formed, and of those of a module.
    pub(super) odd_versions: Vec<String>,
    /// Binary packages of which a process maps replaced files.
    pub(super) stale_packages: BTreeSet<Arc<str>>,
    /// Could processes be looked at?
    pub(super) memory_known: bool,
    /// Could the package database be read?
    pub(super) packages_known: bool,
    /// Could packages of languages be looked for everywhere?
    pub(super) languages_known: bool,
    /// What the host says it could not find out.
    pub(super) gaps: Vec<String>,
}

/// Is this binary a kernel image (or a metapackage for one)?
pub(super) fn is_kernel_image(binary: &str) -> bool {
    binary.starts_with("linux-image-")
}

/// Is there a gap that begins with one of these?
pub(super) fn has_gap(inventory: &Inventory, beginnings: &[&str]) -> bool {
    inventory.gaps.iter().any(|gap| beginnings.iter().any(|b| gap.starts_with(b)))
}

fn is_kernel_package(package: &Package, source: &str) -> bool {
    is_kernel_image(&package.name) && (source == "linux" || source.starts_with("linux-"))
}

#[derive(Default)]
struct Building<'a> {
    groups: BTreeMap<Keyed, BTreeSet<&'a str>>,
    offered: Option<Keyed>,
    images: Vec<(&'a str, Keyed, bool)>,
    kernel: Option<RunningKernel>,
    stale: bool,
}

impl HostFacts {
    /// Reads an inventory.
    pub(super) fn read(inventory: &Inventory) -> Self {
        let names = |list: &[String]| -> BTreeSet<Arc<str>> {
            list.iter().map(|n| n.as_str().into()).collect()
        };
        let (in_use, exposed) = (names(&inventory.in_use), names(&inventory.exposed));
        let stale_packages: BTreeSet<Arc<str>> =
            inventory.stale.iter().flat_map(|p| &p.packages).map(|n| n.as_str().into()).collect();

        let mut building: BTreeMap<Arc<str>, Building<'_>> = BTreeMap::new();
        let mut source_of: BTreeMap<&str, (Arc<str>, &Package)> = BTreeMap::new();
        let mut odd_versions = BTreeSet::new();
        let rules = Rules::of(&inventory.os);
        for package in &inventory.packages {
            if rules.is_of_unknown_stream(package) {
                odd_versions.insert(format!("{} {}", package.name, package.version));
                continue;
            }
            let (source, version) = rules.subject(package);
            if rules.scheme.check(&version).is_err() {
                odd_versions.insert(format!("{} {}", package.name, package.source_version));
            }
            let version = Keyed::new(rules.scheme, &version);
            let name: Arc<str> = source.as_ref().into();
            let entry = building.entry(name.clone()).or_default();
            if is_kernel_package(package, &source) {
                entry.images.push((&package.name, version, package.healthy));
            } else {
                entry.groups.entry(version).or_default().insert(&package.name);
            }
            entry.stale |= stale_packages.contains(package.name.as_str());
            source_of.insert(&package.name, (name, package));
        }
        for package in &inventory.languages {
            let scheme = package.ecosystem.scheme();
            if scheme.check(&package.version).is_err() {
                odd_versions.insert(format!("{} {}", package.subject(), package.version));
            }
            let entry = building.entry(package.subject().into()).or_default();
            let version = Keyed::new(scheme, &package.version);
            entry.groups.entry(version).or_default().insert(&package.location);
        }
        for upgrade in &inventory.upgrades {
            let Some((name, package)) = source_of.get(upgrade.name.as_str()) else { continue };
            let offered = rules.offered(package, &upgrade.to, &upgrade.source_version);
            let offered = Keyed::new(rules.scheme, &offered);
            if let Some(entry) = building.get_mut(name) {
                entry.offered = entry.offered.take().max(Some(offered));
            }
        }
        let kernel = running_kernel(inventory, rules.scheme, &mut building);

        let sources = building
            .into_iter()
            .map(|(source, b)| SourceFacts {
                source,
                groups: b
                    .groups
                    .into_iter()
                    .map(|(version, binaries)| Group {
                        version,
                        in_use: binaries.iter().any(|&n| in_use.contains(n)),
                        exposed: binaries.iter().any(|&n| exposed.contains(n)),
                        binaries: binaries.into_iter().map(Arc::from).collect(),
                    })
                    .collect(),
                kernel: b.kernel,
                offered: b.offered,
                stale: b.stale,
            })
            .map(Arc::new)
            .collect();
        Self {
            scheme: rules.scheme,
            sources,
            kernel,
            odd_versions: odd_versions.into_iter().collect(),
            stale_packages,
            memory_known: !has_gap(inventory, &MEMORY_GAPS),
            packages_known: !inventory.packages.is_empty() && !has_gap(inventory, &[PACKAGES_GAP]),
            languages_known: !has_gap(inventory, &[LANGUAGES_GAP]),
            gaps: inventory.gaps.clone(),
        }
    }

    /// The facts about one source package.
    pub(super) fn source(&self, name: &str) -> Option<&SourceFacts> {
        let found = self.sources.binary_search_by(|s| s.source.as_ref().cmp(name)).ok()?;
        Some(self.sources[found].as_ref())
    }

    /// May a finding that is fixed on disk still be in some process's memory?
    pub(super) fn may_be_in_memory<'a>(
        &self,
        mut binaries: impl Iterator<Item = &'a Arc<str>>,
    ) -> bool {
        !self.memory_known || binaries.any(|b| self.stale_packages.contains(b))
    }
}

/// Finds the source and version of the running kernel and notes it there.
fn running_kernel(
    inventory: &Inventory,
    scheme: Scheme,
    building: &mut BTreeMap<Arc<str>, Building<'_>>,
) -> KernelCoverage {
    let kernel = &inventory.kernel;
    if !kernel.from_package {
        return KernelCoverage::NotThisHosts;
    }
    let unknown = KernelCoverage::Unknown { running: kernel.running.clone() };
    let image = format!("linux-image-{}", kernel.running);
    let unsigned = format!("{image}-unsigned");
    let installed = building.iter().find_map(|(source, b)| {
        let (name, version, _) =
            b.images.iter().find(|(name, ..)| *name == image || *name == unsigned)?;
        Some((source.clone(), (*name).to_owned(), version.clone()))
    });
    // What the kernel says of itself comes first: a later build may be installed under the same name.
    let told = Some(kernel.running_version.trim())
        .filter(|v| scheme.check(v).is_ok())
        .map(|v| Keyed::new(scheme, v));
    let (source, binary, version) = match (installed, told) {
        (Some((source, binary, on_disk)), told) => (source, binary, told.unwrap_or(on_disk)),
        // Its package was removed while it runs. Debian's kernels are built from `linux` unless an image of
        // another source is the only one there.
        (None, Some(told)) => {
            let with_images: Vec<&Arc<str>> = building
                .iter()
                .filter(|(_, b)| !b.images.is_empty())
                .map(|(name, _)| name)
                .collect();
            let source = match with_images[..] {
                [only] => only.clone(),
                _ => "linux".into(),
            };
            (source, image, told)
        }
        (None, None) => return unknown,
    };
    let entry = building.entry(source.clone()).or_default();
    let newest =
        entry.images.iter().filter(|(_, _, healthy)| *healthy).map(|(_, v, _)| v).max().cloned();
    let coverage =
        KernelCoverage::Running { source: source.to_string(), version: version.text.to_string() };
    entry.kernel = Some(RunningKernel { version, binary: binary.as_str().into(), newest });
    coverage
}
