//! One's own statements (VEX) about a host: which of them say something of what it has installed.
//!
//! A statement rules a vulnerability out for a source package where it, together with the others, covers every installed
//! binary of that source. Of several about one binary the newest counts; of two as new as each other the worse. What covers
//! only some of the binaries changes nothing, and [`Catalogue::explain`] says so.

use super::catalogue::Catalogue;
use super::facts::is_kernel_image;
use super::vendor::{Rules, release_name};
use super::{Exception, Verdict};
use crate::feed::purl::Purl;
use crate::feed::vex::{PackageSelector, Selector, VexStatement};
use fettle_core::Timestamp;
use fettle_core::inventory::{Inventory, Package};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::root::subject;
use std::collections::{BTreeMap, BTreeSet};

impl Catalogue {
    /// What one's own statements that hold now rule out on a host: to be handed in with
    /// [`HostView::accepted`](super::HostView::accepted). `names`: all that a statement may call the host by, which is what
    /// people call it, and its identity.
    pub fn ruled_out(
        &self,
        names: &[&str],
        inventory: &Inventory,
        now: Timestamp,
    ) -> Vec<Exception> {
        let holds = |s: &&VexStatement| s.expires.is_none_or(|until| until > now);
        let mut ruled_out = Vec::new();
        for statements in self.own().chunk_by(|a, b| a.id == b.id) {
            let holding: Vec<&VexStatement> = statements.iter().filter(holds).collect();
            if !holding.iter().any(|s| s.status.rules_out()) {
                continue;
            }
            for (source, covered) in newest(&holding, names, inventory) {
                let Some(last) = ruling(&covered) else { continue };
                ruled_out.push(Exception {
                    id: last.id.clone(),
                    source: Some(source),
                    owner: last.author.clone(),
                    reason: last.words.clone(),
                    until: last.expires.unwrap_or(Timestamp::MAX),
                    verdict: Verdict::NotAffected,
                });
            }
        }
        for root in &inventory.roots {
            let id = root.id();
            let names: Vec<&str> = names.iter().copied().chain([id.as_str()]).collect();
            let its = self.ruled_out(&names, &root.inventory(), now).into_iter();
            ruled_out.extend(its.map(|exception| {
                let source = exception.source.map(|source| subject(&id, &source));
                Exception { source, ..exception }
            }));
        }
        ruled_out
    }

    /// How many of one's own statements have ended by now: when that changes, hosts are judged anew.
    pub fn ended_statements(&self, now: Timestamp) -> usize {
        self.own().iter().filter(|s| s.expires.is_some_and(|until| until <= now)).count()
    }

    /// One's own statements about a vulnerability in a source package of a host, newest last, whether or not they hold; and
    /// the installed binaries each is about.
    pub(super) fn own_about<'c>(
        &'c self,
        id: &str,
        source: &str,
        names: &[&str],
        inventory: &Inventory,
    ) -> Vec<(&'c VexStatement, BTreeSet<String>)> {
        let rules = Rules::of(&inventory.os);
        let installed: Vec<&Package> = inventory
            .packages
            .iter()
            .map(|p| &**p)
            .filter(|p| rules.is_subject(p, source))
            .collect();
        let about = self.own().iter().filter(|s| s.id == id);
        let of = about.map(|statement| {
            let fits =
                |p: &&&Package| statement.products.iter().any(|s| selects(s, names, inventory, p));
            let mut binaries: BTreeSet<String> =
                installed.iter().filter(fits).map(|p| p.name.clone()).collect();
            let of_language = inventory.languages.iter().filter(|p| {
                p.subject() == source
                    && statement.products.iter().any(|s| selects_language(s, names, p))
            });
            binaries.extend(of_language.map(|p| p.location.clone()));
            (statement, binaries)
        });
        of.filter(|(_, binaries): &(_, BTreeSet<String>)| !binaries.is_empty()).collect()
    }
}

/// Source → the newest statement about each of its installed binaries. Only sources that some statement is about.
fn newest<'s>(
    statements: &[&'s VexStatement],
    names: &[&str],
    inventory: &Inventory,
) -> BTreeMap<String, Vec<Option<&'s VexStatement>>> {
    let rules = Rules::of(&inventory.os);
    let mut by_source: BTreeMap<String, Vec<Option<&VexStatement>>> = BTreeMap::new();
    for package in &inventory.packages {
        let fits = |s: &&&VexStatement| {
            s.products.iter().any(|selector| selects(selector, names, inventory, package))
        };
        let newest = statements.iter().filter(fits).max_by_key(|s| (s.issued, s.status)).copied();
        by_source.entry(rules.subject(package).0.into_owned()).or_default().push(newest);
        if let Some((beside, _)) = rules.beside(package) {
            by_source.entry(beside).or_default().push(newest);
        }
    }
    for package in &inventory.languages {
        let fits = |s: &&&VexStatement| {
            s.products.iter().any(|selector| selects_language(selector, names, package))
        };
        let newest = statements.iter().filter(fits).max_by_key(|s| (s.issued, s.status)).copied();
        by_source.entry(package.subject()).or_default().push(newest);
    }
    by_source.retain(|_, found| found.iter().any(Option::is_some));
    by_source
}

/// The newest of these, where all of them rule out.
fn ruling<'s>(covered: &[Option<&'s VexStatement>]) -> Option<&'s VexStatement> {
    let all: Option<Vec<&VexStatement>> = covered.iter().copied().collect();
    let all = all?;
    all.iter().all(|s| s.status.rules_out()).then(|| all.into_iter().max_by_key(|s| s.issued))?
}

/// Is this package of this host what a statement is about?
fn selects(selector: &Selector, names: &[&str], inventory: &Inventory, package: &Package) -> bool {
    let is_host = |pattern: &str| names.iter().any(|name| fits(pattern, name));
    let on_host = selector.host.as_deref().is_none_or(is_host);
    on_host
        && match &selector.package {
            None => true,
            Some(PackageSelector::Name { name, version }) => {
                let scheme = Rules::of(&inventory.os).scheme;
                let at =
                    |own: &str| version.is_empty() || scheme.compare_lenient(own, version).is_eq();
                (*name == package.name && at(&package.version))
                    || (*name == package.source && at(&package.source_version))
            }
            Some(PackageSelector::Purl(purl)) => is_package(purl, inventory, package),
        }
}

/// Is this package of a language, on the host with these names, what a statement is about?
fn selects_language(selector: &Selector, names: &[&str], package: &LanguagePackage) -> bool {
    let is_host = |pattern: &str| names.iter().any(|name| fits(pattern, name));
    let ecosystem = package.ecosystem;
    let scheme = ecosystem.scheme();
    let at = |version: &str| {
        version.is_empty() || scheme.compare_lenient(&package.version, version).is_eq()
    };
    selector.host.as_deref().is_none_or(is_host)
        && match &selector.package {
            None => true,
            Some(PackageSelector::Name { name, version }) => {
                let called = [package.name.clone(), package.subject()];
                called.contains(name) && at(version)
            }
            Some(PackageSelector::Purl(purl)) => {
                let name = match (purl.namespace.as_str(), ecosystem) {
                    ("", _) => purl.name.clone(),
                    (group, Ecosystem::Maven) => format!("{group}:{}", purl.name),
                    (scope, _) => format!("{scope}/{}", purl.name),
                };
                purl.kind == ecosystem.word()
                    && ecosystem.canonical(&name) == ecosystem.canonical(&package.name)
                    && at(&purl.version)
            }
        }
}

fn is_package(purl: &Purl, inventory: &Inventory, package: &Package) -> bool {
    let rules = Rules::of(&inventory.os);
    let os = &inventory.os;
    let Some(kind) = Purl::kind_of(os) else { return false };
    let vendor = match purl.namespace.as_str() {
        "" => true,
        "redhat" => os.id == "rhel",
        "amazon" => os.id == "amzn",
        "oracle" | "oraclelinux" => os.id == "ol",
        "suse" => os.id.starts_with("sle"),
        "opensuse" => os.id.starts_with("opensuse"),
        "archlinux" => os.id == "arch",
        other => os.id == other,
    };
    let release = || match purl.qualifier("distro") {
        "" => true,
        distro => {
            let numbered = format!("{}-{}", os.id, os.version);
            let major = os.version.split('.').next().unwrap_or_default();
            // Ubuntu writes `esm-infra/jammy`.
            let name = distro.rsplit('/').next().unwrap_or(distro);
            [os.codename.as_str(), os.version.as_str(), &numbered, &release_name(os)]
                .contains(&name)
                || name == format!("{}-{major}", os.id)
        }
    };
    if purl.kind != kind || !vendor || !release() {
        return false;
    }
    let version = purl.full_version();
    let at = |own: &str| version.is_empty() || rules.scheme.compare_lenient(own, &version).is_eq();
    let by_source = || {
        let (subject, its) = rules.subject(package);
        (purl.name == package.source && at(&package.source_version))
            || (purl.name == subject && at(&its))
    };
    match purl.qualifier("arch") {
        "source" | "src" => by_source(),
        "" => by_source() || (purl.name == package.name && at(&package.version)),
        arch => {
            let same =
                arch == package.architecture || package.architecture == "all" || arch == "all";
            purl.name == package.name && same && at(&package.version)
        }
    }
}

/// Does a text fit a pattern in which `*` stands for anything?
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Would the binaries of a finding be covered by these?
pub(super) fn covers_all(binaries: &[String], covered: &BTreeSet<String>) -> bool {
    binaries.iter().filter(|b| !is_kernel_image(b)).all(|b| covered.contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_everything_else_for_itself() {
        for (pattern, text, expected) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-*", "web-10", true),
            ("*", "", true),
            ("*-1", "web-1", true),
            ("*-1", "web-10", false),
            ("w*b*1", "web-1", true),
            ("w*b*1", "w1", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
