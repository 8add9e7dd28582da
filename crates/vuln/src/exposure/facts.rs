//! What of an inventory decides about exposure: per source package of the vendor, which versions are installed,
//! which kernel runs, what is offered, in use, exposed, stale.

use super::vendor::{Rules, scheme_for};
use super::{KernelCoverage, LANGUAGES_GAP, MEMORY_GAPS, PACKAGES_GAP};
use fettle_core::inventory::{Inventory, Package};
use fettle_core::language::Ecosystem;
use fettle_core::version::Scheme;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    pub(super) kernel: Option<Box<RunningKernel>>,
    /// The highest version that the host's own sources offer for any installed binary.
    pub(super) offered: Option<Keyed>,
    /// A process still maps replaced files of one of the binaries.
    pub(super) stale: bool,
    /// `name version` of its packages whose version is not well-formed. Follows from the rest.
    pub(super) odd: Vec<Arc<str>>,
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
    /// By source name.
    pub(super) sources: Vec<Arc<SourceFacts>>,
    /// What is true of all of them.
    pub(super) system: SystemFacts,
}

/// What of a host decides about more than one of its source packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SystemFacts {
    /// Whose order the host's versions have.
    pub(super) scheme: Scheme,
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

/// Is it code of a kernel, which counts while that kernel runs: an image, or the modules that Ubuntu packs beside it? Each
/// release of a kernel has packages of its own, and old ones stay beside new ones.
pub(super) fn is_kernel_package(package: &Package, source: &str) -> bool {
    (is_kernel_image(&package.name) || package.name.starts_with("linux-modules-"))
        && (source == "linux" || source.starts_with("linux-"))
}

/// What an inventory says of one source package, as it stands there. Nothing is copied and no version made a key of: many
/// hosts say the same, and [`Told::says`] finds the facts that were made of it before.
#[derive(Debug)]
pub(super) struct Told<'a> {
    source: Cow<'a, str>,
    scheme: Scheme,
    /// Version and name of each package that is no kernel image, in the order of names; of packages of languages the place.
    packages: Vec<(Cow<'a, str>, &'a str, Use)>,
    /// Kernel images and their modules: name, version, well installed.
    images: Vec<(&'a str, Cow<'a, str>, bool)>,
    /// Versions on offer, each once.
    offered: Vec<Cow<'a, str>>,
    kernel: Option<Box<RunningKernel>>,
    stale: bool,
}

/// What runs of a package.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    in_use: bool,
    exposed: bool,
}

/// Facts that were made before of the same words; `None` where there are none.
pub(super) trait Known {
    fn known(&mut self, told: &Told<'_>) -> Option<Arc<SourceFacts>>;
}

/// Knows none.
pub(super) struct Nothing;

impl Known for Nothing {
    fn known(&mut self, _: &Told<'_>) -> Option<Arc<SourceFacts>> {
        None
    }
}

impl<'a> Told<'a> {
    fn of(source: Cow<'a, str>, scheme: Scheme) -> Self {
        Self {
            source,
            scheme,
            packages: Vec::new(),
            images: Vec::new(),
            offered: Vec::new(),
            kernel: None,
            stale: false,
        }
    }

    /// One of several architectures counts once.
    fn package(&mut self, version: Cow<'a, str>, name: &'a str, uses: Use) {
        if let Some((known, its, _)) = self.packages.last()
            && *its == name
            && *known == version
        {
            return;
        }
        self.packages.push((version, name, uses));
    }

    /// One of several binaries counts once.
    fn offer(&mut self, version: Cow<'a, str>) {
        if !self.offered.contains(&version) {
            self.offered.push(version);
        }
    }

    /// The source package.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// A number that is the same for the same words. Others may have it too.
    pub(super) fn number(&self) -> u64 {
        number(
            &self.source,
            self.packages.iter().map(|(version, name, _)| (version.as_ref(), *name)),
        )
    }

    /// The same of facts: what [`Told::number`] is of the words they were made of.
    pub(super) fn number_of(facts: &SourceFacts) -> u64 {
        let packages = facts
            .groups
            .iter()
            .flat_map(|group| group.binaries.iter().map(|name| (&*group.version.text, &**name)));
        number(&facts.source, packages)
    }

    /// Are these the facts that would be made of it?
    pub(super) fn says(&self, facts: &SourceFacts) -> bool {
        let (source, kernel) = (self.source.as_ref(), &self.kernel);
        if *source != *facts.source || *kernel != facts.kernel || self.stale != facts.stale {
            return false;
        }
        // Several versions on offer are rare, and which is the highest takes their keys.
        let offered = match (&self.offered[..], &facts.offered) {
            ([], None) => true,
            ([only], Some(known)) => *only == *known.text,
            _ => false,
        };
        let (mut count, mut same) = (0, offered);
        for group in &facts.groups {
            count += group.binaries.len();
            let mut names = group.binaries.iter();
            let (mut in_use, mut exposed) = (false, false);
            for (_, name, its) in self.packages.iter().filter(|(v, ..)| **v == *group.version.text)
            {
                same = same && names.next().is_some_and(|known| **known == **name);
                in_use |= its.in_use;
                exposed |= its.exposed;
            }
            same = same && names.next().is_none();
            same = same && (in_use, exposed) == (group.in_use, group.exposed);
        }
        same && count == self.packages.len()
    }

    fn facts(self) -> SourceFacts {
        let mut groups: BTreeMap<Keyed, (BTreeSet<&str>, Use)> = BTreeMap::new();
        let mut odd = BTreeSet::new();
        let mut keyed: BTreeMap<&str, Keyed> = BTreeMap::new();
        for (version, name, its) in &self.packages {
            let key =
                keyed.entry(version.as_ref()).or_insert_with(|| Keyed::new(self.scheme, version));
            if self.scheme.check(version).is_err() {
                let called = if Ecosystem::of_subject(&self.source).is_some() {
                    &*self.source
                } else {
                    *name
                };
                odd.insert(Arc::from(format!("{called} {version}")));
            }
            let (names, uses) = groups.entry(key.clone()).or_default();
            names.insert(*name);
            uses.in_use |= its.in_use;
            uses.exposed |= its.exposed;
        }
        for (name, version, _) in &self.images {
            if self.scheme.check(version).is_err() {
                odd.insert(format!("{name} {version}").into());
            }
        }
        let group = |(version, (names, uses)): (Keyed, (BTreeSet<&str>, Use))| Group {
            version,
            in_use: uses.in_use,
            exposed: uses.exposed,
            binaries: names.into_iter().map(Arc::from).collect(),
        };
        SourceFacts {
            groups: groups.into_iter().map(group).collect(),
            kernel: self.kernel,
            offered: self.offered.iter().map(|v| Keyed::new(self.scheme, v)).max(),
            stale: self.stale,
            odd: odd.into_iter().collect(),
            source: self.source.as_ref().into(),
        }
    }
}

/// A number for a source with versions and names of its packages, whatever their order.
fn number<'a>(source: &str, packages: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let of_package = |(version, name)| {
        let mut one = Number::default();
        one.text(version);
        one.text(name);
        one.0
    };
    let mut number = Number::default();
    number.text(source);
    number.word(packages.map(of_package).fold(0, u64::wrapping_add));
    number.0
}

/// Mixes words into a number: quick, and good enough where what has the same number is compared.
#[derive(Default)]
struct Number(u64);

impl Number {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 29;
    }

    fn text(&mut self, text: &str) {
        let mut words = text.as_bytes().chunks_exact(8);
        for word in &mut words {
            // Invariant: so many there are in each.
            self.word(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let mut last = [0; 8];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (text.len() as u64) << 56);
    }
}

/// Looks names up in a list that is nearly always sorted, as the names are that are looked up.
struct Listed<'a> {
    names: Cow<'a, [String]>,
}

impl<'a> Listed<'a> {
    fn new(names: &'a [String]) -> Self {
        if names.is_sorted() {
            return Self { names: Cow::Borrowed(names) };
        }
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        Self { names: Cow::Owned(sorted) }
    }

    fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }
}

impl HostFacts {
    /// Reads an inventory.
    pub(super) fn read(inventory: &Inventory) -> Self {
        Self::read_some(inventory, &mut Nothing, |_| true, |_| true)
    }

    /// Reads of an inventory the packages and the packages of languages at these places, with what is known of others. Right
    /// where of each source package all or none are read, and all kernel images, and all of `linux`.
    pub(super) fn read_some(
        inventory: &Inventory,
        known: &mut impl Known,
        wants_package: impl Fn(usize) -> bool,
        wants_language: impl Fn(usize) -> bool,
    ) -> Self {
        let (in_use, exposed) = (Listed::new(&inventory.in_use), Listed::new(&inventory.exposed));
        let uses = |name: &str| Use { in_use: in_use.has(name), exposed: exposed.has(name) };
        let stale_packages: BTreeSet<Arc<str>> =
            inventory.stale.iter().flat_map(|p| &p.packages).map(|n| n.as_str().into()).collect();

        let mut told: Vec<Told<'_>> = Vec::new();
        // Only looked up, never walked: its order would be no order.
        let mut places: HashMap<Cow<'_, str>, usize> = HashMap::new();
        let mut source_of: HashMap<&str, (usize, &Package)> = HashMap::new();
        let mut beside: HashMap<&str, usize> = HashMap::new();
        let mut odd_versions = BTreeSet::new();
        let rules = Rules::of(&inventory.os);
        for (at, package) in inventory.packages.iter().enumerate() {
            if rules.is_of_unknown_stream(package) {
                odd_versions.insert(format!("{} {}", package.name, package.version));
                continue;
            }
            if !wants_package(at) {
                continue;
            }
            let (source, version) = rules.subject(package);
            let is_kernel = is_kernel_package(package, &source);
            let at = *places.entry(source.clone()).or_insert_with(|| {
                told.push(Told::of(source, rules.scheme));
                told.len() - 1
            });
            let entry = &mut told[at];
            if is_kernel {
                entry.images.push((&package.name, version, package.healthy));
            } else {
                entry.package(version, &package.name, uses(&package.name));
            }
            entry.stale |=
                !stale_packages.is_empty() && stale_packages.contains(package.name.as_str());
            if !inventory.upgrades.is_empty() {
                source_of.insert(&package.name, (at, package));
            }
            if let Some((subject, version)) = rules.beside(package) {
                let subject = Cow::from(subject);
                let at = *places.entry(subject.clone()).or_insert_with(|| {
                    told.push(Told::of(subject, rules.scheme));
                    told.len() - 1
                });
                told[at].package(version.into(), &package.name, uses(&package.name));
                told[at].stale |= stale_packages.contains(package.name.as_str());
                beside.insert(&package.name, at);
            }
        }
        let languages = inventory.languages.iter().enumerate();
        for (_, package) in languages.filter(|(at, _)| wants_language(*at)) {
            let source = Cow::from(package.subject());
            let at = *places.entry(source.clone()).or_insert_with(|| {
                told.push(Told::of(source, package.ecosystem.scheme()));
                told.len() - 1
            });
            let version = Cow::from(package.version.as_str());
            told[at].package(version, &package.location, uses(&package.location));
        }
        for upgrade in &inventory.upgrades {
            let Some((at, package)) = source_of.get(upgrade.name.as_str()) else { continue };
            let offered = rules.offered(package, &upgrade.to, &upgrade.source_version);
            told[*at].offer(offered);
            if let Some(at) = beside.get(upgrade.name.as_str()) {
                told[*at].offer(rules.offered_beside(upgrade).into());
            }
        }
        let kernel = running_kernel(inventory, rules.scheme, &mut told);
        told.sort_by(|a, b| a.source.cmp(&b.source));
        let mut sources = Vec::with_capacity(told.len());
        for told in told {
            let facts = known.known(&told).unwrap_or_else(|| Arc::new(told.facts()));
            odd_versions.extend(facts.odd.iter().map(|odd| odd.to_string()));
            sources.push(facts);
        }
        let system = SystemFacts {
            scheme: rules.scheme,
            kernel,
            odd_versions: odd_versions.into_iter().collect(),
            stale_packages,
            memory_known: !has_gap(inventory, &MEMORY_GAPS),
            packages_known: !inventory.packages.is_empty() && !has_gap(inventory, &[PACKAGES_GAP]),
            languages_known: !has_gap(inventory, &[LANGUAGES_GAP]),
            gaps: inventory.gaps.clone(),
        };
        Self { sources, system }
    }

    /// The facts about one source package.
    pub(super) fn source(&self, name: &str) -> Option<&SourceFacts> {
        let found = self.sources.binary_search_by(|s| s.source.as_ref().cmp(name)).ok()?;
        Some(self.sources[found].as_ref())
    }
}

impl SystemFacts {
    /// Of a system that could list its packages, or not, and knows everything else.
    pub(super) fn of_packages(scheme: Scheme, packages_known: bool) -> Self {
        Self {
            scheme,
            kernel: KernelCoverage::NotThisHosts,
            odd_versions: Vec::new(),
            stale_packages: BTreeSet::new(),
            memory_known: true,
            packages_known,
            languages_known: true,
            gaps: Vec::new(),
        }
    }

    /// Does it say the same about what becomes of findings?
    pub(super) fn decides_as(&self, other: &Self) -> bool {
        let of = |s: &Self| (s.scheme, s.memory_known, s.packages_known, s.languages_known);
        of(self) == of(other) && self.stale_packages == other.stale_packages
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
fn running_kernel<'a>(
    inventory: &'a Inventory,
    scheme: Scheme,
    told: &mut Vec<Told<'a>>,
) -> KernelCoverage {
    let kernel = &inventory.kernel;
    if !kernel.from_package {
        return KernelCoverage::NotThisHosts;
    }
    let unknown = KernelCoverage::Unknown { running: kernel.running.clone() };
    let image = format!("linux-image-{}", kernel.running);
    // Debian's name for it, and Ubuntu's.
    let unsigned =
        [format!("{image}-unsigned"), format!("linux-image-unsigned-{}", kernel.running)];
    // Of several sources with such an image the first by name.
    let mut with_images: Vec<&Told<'_>> = told.iter().filter(|t| !t.images.is_empty()).collect();
    with_images.sort_by(|a, b| a.source.cmp(&b.source));
    let installed = with_images.iter().find_map(|told| {
        let (name, version, _) = told
            .images
            .iter()
            .find(|(name, ..)| *name == image || unsigned.iter().any(|u| u == name))?;
        Some((told.source.clone(), (*name).to_owned(), Keyed::new(scheme, version)))
    });
    // What the kernel says of itself comes first: a later build may be installed under the same name.
    let said = Some(kernel.running_version.trim())
        .filter(|v| scheme.check(v).is_ok())
        .map(|v| Keyed::new(scheme, v));
    let (source, binary, version) = match (installed, said) {
        (Some((source, binary, on_disk)), said) => (source, binary, said.unwrap_or(on_disk)),
        // Its package was removed while it runs. Debian's kernels are built from `linux` unless an image of
        // another source is the only one there.
        (None, Some(said)) => {
            let source = match with_images[..] {
                [only] => only.source.clone(),
                _ => "linux".into(),
            };
            (source, image, said)
        }
        (None, None) => return unknown,
    };
    let at = told.iter().position(|told| told.source == source).unwrap_or_else(|| {
        told.push(Told::of(source, scheme));
        told.len() - 1
    });
    let entry = &mut told[at];
    // Modules alone do not boot.
    let healthy =
        entry.images.iter().filter(|(name, _, healthy)| *healthy && is_kernel_image(name));
    let newest = healthy.map(|(_, v, _)| Keyed::new(scheme, v)).max();
    let coverage = KernelCoverage::Running {
        source: entry.source.to_string(),
        version: version.text.to_string(),
    };
    entry.kernel =
        Some(Box::new(RunningKernel { version, binary: binary.as_str().into(), newest }));
    coverage
}
