//! Bills of materials that others made: CycloneDX (1.2 to 1.7) and SPDX (2.2, 2.3), both as JSON. Of each component its package
//! URL counts and nothing else: what has none, or one of a kind that nothing is known of, is counted and left out.
//!
//! The system is told by a component of type `operating-system`, or by `distro` in the package URLs. The source of a package
//! of a distribution stands in `upstream` (syft), in properties (trivy, Fettle), or is taken for the package itself.

use crate::exposure::ONLY_PACKAGES_GAP;
use crate::feed::purl::Purl;
use crate::feed::{MAX_NAME, MAX_VERSION, clean_text, debian_codename, debian_number};
use crate::installed::is_sound;
use crate::installed::rpm::{epochs_of_sources, source_of_file};
use fettle_core::inventory::{Inventory, Os, Package};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::root::{self, Root, RootKind};
use fettle_core::version::Scheme;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Larger documents are refused unread: 256 MiB.
pub const MAX_SBOM_BYTES: usize = 256 << 20;
/// More components are not read.
pub const MAX_COMPONENTS: usize = 500_000;

/// What a bill of materials lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sbom {
    /// What it is of, as it says.
    pub name: String,
    /// The system, as far as it says. `id` is empty where it does not.
    pub os: Os,
    /// Packages of the distribution, by name.
    pub packages: Vec<Package>,
    /// Packages of languages.
    pub languages: Vec<LanguagePackage>,
    /// Containers that are listed with what they hold.
    pub roots: Vec<Root>,
    /// Components without a package URL that can be used.
    pub left_out: usize,
    /// Packages of distributions of which it does not tell the source: they are taken for their own.
    pub guessed_sources: usize,
}

/// A release as it is typed: `bookworm`, `12` (Debian's), `almalinux:9`.
pub fn system(release: &str) -> Os {
    let pretty = format!("{release}, as told");
    let (id, named) = release.split_once(':').unwrap_or(("debian", release));
    let mut os = Os { id: id.into(), version: String::new(), codename: String::new(), pretty };
    if id == "debian" && !named.starts_with(|c: char| c.is_ascii_digit()) {
        os.codename = named.into();
        os.version = debian_number(named).unwrap_or_default().into();
    } else {
        os.version = named.into();
        if id == "debian" {
            os.codename = debian_codename(named).unwrap_or_default().into();
        }
    }
    os
}

impl Sbom {
    /// What of it could not be judged, or not for certain, in words.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.left_out > 0 {
            let n = self.left_out;
            gaps.push(format!("{n} components without a package URL that can be judged"));
        }
        if self.guessed_sources > 0 {
            let n = self.guessed_sources;
            gaps.push(format!(
                "the source of {n} packages: it tells none (`upstream` in the package URL), so each was judged by its own name; \
                 what is built from a source of another name is not found so"
            ));
        }
        gaps
    }

    /// What is known of a system by its bill of materials alone, with everything else as a gap.
    pub fn into_inventory(self, os: Os) -> Inventory {
        let mut gaps = vec![format!("{ONLY_PACKAGES_GAP}: only a bill of materials is known")];
        gaps.extend(self.gaps());
        let architecture = self.packages.iter().map(|p| p.architecture.as_str());
        let architecture = architecture.filter(|a| !["", "all", "noarch"].contains(a)).max();
        Inventory {
            schema: 1,
            os,
            architecture: architecture.unwrap_or_default().to_owned(),
            packages: self.packages.into_iter().map(Into::into).collect(),
            languages: self.languages,
            roots: self.roots,
            gaps,
            ..Inventory::default()
        }
    }
}

/// Why a document is no bill of materials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// Too many bytes.
    #[error("it has {0} bytes, more than the {MAX_SBOM_BYTES} that are read")]
    TooLarge(usize),
    /// Not JSON, or not of that form.
    #[error("it is malformed at line {line}, column {column}: {what}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// JSON of another kind.
    #[error("it is neither CycloneDX (`bomFormat`) nor SPDX 2 (`spdxVersion`) in JSON")]
    Unknown,
    /// Too many components.
    #[error("it lists more than {MAX_COMPONENTS} components")]
    TooMany,
}

type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, rename = "bomFormat")]
    bom_format: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    components: Vec<Component<'a>>,
    #[serde(borrow, rename = "spdxVersion")]
    spdx_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    packages: Vec<SpdxPackage<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    component: Option<Component<'a>>,
}

#[derive(Deserialize)]
struct Component<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    version: Text<'a>,
    #[serde(borrow)]
    purl: Option<Text<'a>>,
    #[serde(borrow, default)]
    properties: Vec<Property<'a>>,
    #[serde(borrow)]
    evidence: Option<Evidence<'a>>,
    #[serde(borrow, default)]
    components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
struct Property<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    value: Text<'a>,
}

#[derive(Deserialize)]
struct Evidence<'a> {
    #[serde(borrow, default)]
    occurrences: Vec<Occurrence<'a>>,
}

#[derive(Deserialize)]
struct Occurrence<'a> {
    #[serde(borrow, default)]
    location: Text<'a>,
}

#[derive(Deserialize)]
struct SpdxPackage<'a> {
    #[serde(borrow, default, rename = "externalRefs")]
    references: Vec<SpdxReference<'a>>,
}

#[derive(Deserialize)]
struct SpdxReference<'a> {
    #[serde(borrow, default, rename = "referenceType")]
    kind: Text<'a>,
    #[serde(borrow, default, rename = "referenceLocator")]
    locator: Text<'a>,
}

/// Reads a bill of materials.
///
/// # Errors
/// [`SbomError`] where the document as a whole cannot be used.
pub fn parse(bytes: &[u8]) -> Result<Sbom, SbomError> {
    if bytes.len() > MAX_SBOM_BYTES {
        return Err(SbomError::TooLarge(bytes.len()));
    }
    let document: Document<'_> = serde_json::from_slice(bytes).map_err(|e| {
        let what = clean_text(&e.to_string());
        SbomError::Malformed { line: e.line(), column: e.column(), what }
    })?;
    let mut sbom = Sbom::default();
    let mut count = 0;
    if document.bom_format.as_deref() == Some("CycloneDX") {
        let whole = document.metadata.and_then(|m| m.component);
        if let Some(whole) = &whole {
            sbom.name = clean_text(&whole.name);
            sbom.system(whole);
        }
        sbom.components(&document.components, &mut count)?;
    } else if document.spdx_version.is_some_and(|v| v.starts_with("SPDX-2.")) {
        sbom.name = clean_text(&document.name);
        for package in &document.packages {
            count += 1;
            if count > MAX_COMPONENTS {
                return Err(SbomError::TooMany);
            }
            match package.references.iter().find(|r| r.kind == "purl") {
                Some(reference) => sbom.component(&reference.locator, &[], None),
                None => sbom.left_out += 1,
            }
        }
    } else {
        return Err(SbomError::Unknown);
    }
    sbom.complete();
    Ok(sbom)
}

impl Sbom {
    fn components(&mut self, listed: &[Component<'_>], count: &mut usize) -> Result<(), SbomError> {
        for component in listed {
            *count += 1;
            if *count > MAX_COMPONENTS {
                return Err(SbomError::TooMany);
            }
            // What stands in a container is not what stands beside it.
            if component.kind == "container" && !component.components.is_empty() {
                self.roots(component, count)?;
                continue;
            }
            match &component.purl {
                _ if component.kind == "operating-system" => self.system(component),
                Some(purl) => {
                    let places = component.evidence.as_ref().map_or(&[][..], |e| &e.occurrences);
                    let place = places.first().map(|o| o.location.as_ref());
                    self.component(purl, &component.properties, place);
                }
                None => self.left_out += 1,
            }
            self.components(&component.components, count)?;
        }
        Ok(())
    }

    /// A container with what it holds.
    fn roots(&mut self, component: &Component<'_>, count: &mut usize) -> Result<(), SbomError> {
        let mut within = Self::default();
        within.components(&component.components, count)?;
        within.complete();
        let told = |name: &str| component.properties.iter().find(|p| p.name == name);
        let kind = told("fettle:root").and_then(|p| RootKind::from_word(&p.value));
        let name = clean_text(&component.name);
        self.left_out += within.left_out;
        self.guessed_sources += within.guessed_sources;
        // Containers in containers are listed beside them.
        self.roots.append(&mut within.roots);
        if !root::is_name(&name) || within.os.id.is_empty() {
            self.left_out += within.packages.len() + 1;
            return Ok(());
        }
        let gap = (!within.languages.is_empty())
            .then(|| format!("{} packages of languages", within.languages.len()));
        self.roots.push(Root {
            kind: kind.unwrap_or(RootKind::Container),
            name,
            image: clean_text(&component.version),
            location: String::new(),
            running: told("fettle:running").is_some_and(|p| p.value == "true"),
            architecture: within.architecture(),
            os: within.os,
            packages: within.packages.into_iter().map(Into::into).collect(),
            gaps: gap.into_iter().collect(),
        });
        Ok(())
    }

    /// The architecture of most packages.
    fn architecture(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for package in &self.packages {
            if !matches!(package.architecture.as_str(), "" | "all" | "noarch") {
                *counts.entry(&package.architecture).or_default() += 1;
            }
        }
        let most = counts.into_iter().max_by_key(|(name, n)| (*n, std::cmp::Reverse(*name)));
        most.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    /// Fills in what follows from the rest, and brings it into order.
    fn complete(&mut self) {
        if self.os.id == "debian" && self.os.codename.is_empty() {
            let number = self.os.version.split('.').next().unwrap_or_default();
            self.os.codename = debian_codename(number).unwrap_or_default().to_owned();
        }
        if Scheme::of_os(&self.os.id) == Some(Scheme::Rpm) {
            epochs_of_sources(&mut self.packages);
        }
        if self.os.pretty.is_empty() {
            self.os.pretty = format!("{} {}", self.os.id, self.os.version).trim().to_owned();
        }
        self.packages.sort();
        self.packages.dedup();
        self.languages.sort();
        self.languages.dedup();
        self.roots.sort();
        self.roots.dedup_by(|b, a| (a.kind, &a.name) == (b.kind, &b.name));
    }

    /// What a component says of the system.
    fn system(&mut self, component: &Component<'_>) {
        let short = component.name.len() <= MAX_NAME && component.version.len() <= MAX_VERSION;
        if component.kind == "operating-system" && self.os.id.is_empty() && short {
            self.os.id = system_id(&clean_text(&component.name));
            self.os.version = system_version(&clean_text(&component.version));
        }
    }

    fn component(&mut self, purl: &str, properties: &[Property<'_>], place: Option<&str>) {
        let Ok(it) = Purl::parse(purl) else {
            self.left_out += 1;
            return;
        };
        let graphic = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if !graphic(&it.name) || !graphic(&it.version) {
            self.left_out += 1;
            return;
        }
        if let Some(ecosystem) = Ecosystem::from_word(&it.kind) {
            let name = match (it.namespace.as_str(), ecosystem) {
                ("", _) => it.name.clone(),
                (group, Ecosystem::Maven) => format!("{group}:{}", it.name),
                (scope, _) => format!("{scope}/{}", it.name),
            };
            // A group or scope may hold what a name may not.
            if !graphic(&name) {
                self.left_out += 1;
                return;
            }
            let location = clean_text(place.unwrap_or(purl));
            self.languages.push(LanguagePackage { ecosystem, name, version: it.version, location });
            return;
        }
        if !["deb", "rpm", "apk"].contains(&it.kind.as_str()) {
            self.left_out += 1;
            return;
        }
        // What properties say of the source, anybody may have written.
        let (package, guessed) = package(&it, properties);
        if !is_sound(&package) {
            self.left_out += 1;
            return;
        }
        self.distro(&it);
        self.guessed_sources += usize::from(guessed);
        self.packages.push(package);
    }

    /// What the package URL of a distribution's package says of the system: `debian-12`, `ubuntu-22.04`, `bookworm`.
    fn distro(&mut self, purl: &Purl) {
        if !self.os.id.is_empty() {
            return;
        }
        self.os.id = system_id(&clean_text(&purl.namespace));
        let distro = purl.qualifier("distro");
        match distro.rsplit_once('-') {
            Some((id, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                self.os.id = system_id(&clean_text(id));
                self.os.version = system_version(&clean_text(version));
            }
            _ if distro.starts_with(|c: char| c.is_ascii_digit()) => {
                self.os.version = system_version(&clean_text(distro));
            }
            _ => self.os.codename = clean_text(distro),
        }
    }
}

/// `ID` of `os-release(5)` of a system that others call otherwise: trivy has words of its own.
fn system_id(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "redhat" => "rhel",
        "amazon" => "amzn",
        "oracle" => "ol",
        "alma" => "almalinux",
        "suse linux enterprise server" => "sles",
        "opensuse.leap" => "opensuse-leap",
        "opensuse.tumbleweed" => "opensuse-tumbleweed",
        _ => return name,
    }
    .to_owned()
}

/// Without what people are told beside it: `2 (Karoo)`.
fn system_version(version: &str) -> String {
    version.split(' ').next().unwrap_or_default().to_owned()
}

/// A package of a distribution, with its source; and whether that is a guess.
fn package(purl: &Purl, properties: &[Property<'_>]) -> (Package, bool) {
    let version = purl.full_version();
    let told = |names: &[&str]| {
        let found = properties.iter().find(|p| names.contains(&p.name.as_ref()));
        found.map(|p| clean_text(&p.value)).filter(|v| !v.is_empty() && v.len() <= MAX_VERSION)
    };
    let upstream = purl.qualifier("upstream");
    // `openssl@3.0.11-1`, of rpm the file `openssl-3.0.7-24.el9.src.rpm`.
    let (name, its) = match source_of_file(upstream).filter(|_| purl.kind == "rpm") {
        Some((name, its)) => match version.split_once(':') {
            Some((epoch, _)) => (name, format!("{epoch}:{its}")),
            None => (name, its.to_owned()),
        },
        None => {
            let (name, its) = upstream.split_once('@').unwrap_or((upstream, ""));
            (name, its.to_owned())
        }
    };
    let source = told(&["fettle:source", "aquasecurity:trivy:SrcName"])
        .or_else(|| Some(clean_text(name)).filter(|n| !n.is_empty()));
    let guessed = source.is_none();
    let source = source.unwrap_or_else(|| purl.name.clone());
    let trivy = || {
        let version = told(&["aquasecurity:trivy:SrcVersion"])?;
        let release =
            told(&["aquasecurity:trivy:SrcRelease"]).map_or(String::new(), |r| format!("-{r}"));
        let epoch =
            told(&["aquasecurity:trivy:SrcEpoch"]).map_or(String::new(), |e| format!("{e}:"));
        Some(format!("{epoch}{version}{release}"))
    };
    let source_version = told(&["fettle:source-version"])
        .or_else(trivy)
        .or_else(|| Some(clean_text(&its)).filter(|v| !v.is_empty()))
        .unwrap_or_else(|| match purl.kind.as_str() {
            "deb" => without_rebuild(&version).to_owned(),
            _ => version.clone(),
        });
    let package = Package {
        name: purl.name.clone(),
        architecture: clean_text(purl.qualifier("arch")),
        version,
        source,
        source_version,
        healthy: true,
        module: clean_text(purl.qualifier("rpmmod")),
    };
    (package, guessed)
}

/// Debian's rebuilds (`+b1`) are in the binary's version only.
fn without_rebuild(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((source, number)) if is_number(number) => source,
        _ => version,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
