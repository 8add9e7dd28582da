//! Red Hat's security advisories (`RHSA-…`, profile `csaf_security_advisory`) and its pages of vulnerabilities (`CVE-…`,
//! profile `csaf_vex`), as <https://security.access.redhat.com/data/csaf/v2/> has them. A file holds one document or
//! several, one after the other.
//!
//! A product is a package as a component of a platform. The platform's CPE is the release
//! (`cpe:/o:redhat:enterprise_linux:9::baseos` is `rhel:9`, `cpe:/a:redhat:rhel_eus:9.2::appstream` is `rhel-eus:9.2`), the
//! package's URL its name and version; a module's stands in its `rpmmod`, or behind the product's name. Platforms that no
//! host reports itself as (Satellite, OpenShift, containers, …) and packages that are no rpm say nothing here.
//!
//! | state | here |
//! |---|---|
//! | `fixed` | fixed from the package's version on |
//! | `known_affected` | open, with what the remediation says (`Will not fix`, `Out of support scope`) |
//! | `known_not_affected` | not affected |
//! | `under_investigation` | undetermined |
//!
//! What has no fix yet is named in one of two ways: by source (`krb5.src`) with each package that is built from it, or by
//! source alone. In the second way of writing it stands under `source/krb5`, and is about all that is built from it. In the
//! first the packages count; a source stands for the package of its own name, where the document says nothing of that one.

use super::{Document, Product, Relationship};
use crate::exposure::source_subject;
use crate::feed::cvss::{CvssScore, base_score};
use crate::feed::document::{Document as Whole, record_error};
use crate::feed::osv::{MAX_STATEMENTS, OsvRecord};
use crate::feed::purl::Purl;
use crate::feed::{
    Feed, FeedError, MAX_VERSION, Parsed, check_package, check_vulnerability, clean_text,
};
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::rpm;
use jiff::civil::Date;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// What [`Advisory::evidence`] begins with.
pub const EVIDENCE: &str = "Red Hat CSAF";
/// Issuer of the scores.
const ISSUER: &str = "Red Hat";
/// More documents are not read from one file.
const MAX_DOCUMENTS: usize = 1_000_000;

/// Parses the documents. A record is a document.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no JSON, is cut off, or holds nothing usable.
pub fn parse(bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    parse_at_most(MAX_DOCUMENTS, bytes)
}

fn parse_at_most(most: usize, bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    let mut document = Whole::open(Feed::RedHatCsaf, bytes)?;
    document.text()?;
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    for number in 1.. {
        let raw = match documents.next() {
            None => break,
            Some(Err(e)) => return Err(document.json_error(&e)),
            Some(Ok(raw)) => raw.get(),
        };
        if number > most {
            let what = format!("more than {most} documents: this and what follows is not read");
            document.reject(raw, || format!("document {number}"), what);
            break;
        }
        let read = serde_json::from_str::<Document<'_>>(raw).map_err(|e| record_error(&e));
        let place = read
            .as_ref()
            .map_or_else(|_| format!("document {number}"), |d| clean_text(&d.document.tracking.id));
        match read.and_then(|d| record(&d)) {
            Err(what) => document.reject(raw, || place, what),
            Ok((record, left_out)) => {
                for (package, what) in left_out {
                    document.reject(raw, || format!("{place} {package}"), what);
                }
                if !record.statements.is_empty() {
                    document.keep(record);
                }
            }
        }
    }
    document.close()
}

/// Products that are left out, and why.
type LeftOut = Vec<(String, String)>;

/// A package on a platform: release, package as statements know it, version (empty: any).
struct Place {
    release: String,
    package: String,
    version: String,
    /// It is the source that the package is built from.
    is_source: bool,
}

fn record(document: &Document<'_>) -> Result<(OsvRecord, LeftOut), String> {
    let head = &document.document;
    if !matches!(head.category.as_ref(), "csaf_vex" | "csaf_security_advisory") {
        return Err(format!("category {:?} says nothing of packages", clean_text(&head.category)));
    }
    check_vulnerability(&head.tracking.id.replace(':', "-"))?;
    let mut left_out = LeftOut::new();
    let places = places(document, &mut left_out)?;
    let mut statements = BTreeMap::new();
    let mut scores = Vec::new();
    for vulnerability in &document.vulnerabilities {
        let Some(id) = vulnerability.cve.as_deref() else { continue };
        check_vulnerability(id)?;
        for score in vulnerability.scores.iter().filter_map(|s| s.cvss_v3.as_ref()) {
            if let Ok((version, computed)) = base_score(&score.vector)
                && (0.0..=10.0).contains(&score.score)
            {
                scores.push(CvssScore {
                    id: id.to_owned(),
                    version,
                    vector: score.vector.to_string(),
                    score: score.score,
                    computed,
                    issuer: ISSUER.to_owned(),
                });
            }
        }
        let impact = vulnerability.threats.iter().find(|t| t.category.as_deref() == Some("impact"));
        let impact = impact.and_then(|t| t.details.as_deref());
        let impact = impact.or(head.aggregate_severity.as_ref().map(|s| s.text.as_ref()));
        let urgency = clean_text(impact.unwrap_or_default()).to_ascii_lowercase();
        let why = reasons(document, vulnerability);
        let (mut named, mut of_sources) = (BTreeSet::new(), Vec::new());
        // Releases of which the document names packages that have no version, beside their sources.
        let mut by_package = BTreeSet::new();
        for (state, products) in vulnerability.product_status.iter().flatten() {
            for product in products {
                let Some(Place { release, package, version, is_source }) = places.get(&**product)
                else {
                    continue;
                };
                let status = match state.as_ref() {
                    "fixed" | "known_not_affected" if *is_source => continue,
                    "fixed" if version.is_empty() => {
                        left_out
                            .push((clean_text(product), "`fixed` without a version".to_owned()));
                        continue;
                    }
                    "fixed" => AdvisoryStatus::Fixed { version: version.clone() },
                    "known_affected" => AdvisoryStatus::Open {
                        reason: why.get(&**product).cloned().unwrap_or_default(),
                        elsewhere: None,
                    },
                    "known_not_affected" => AdvisoryStatus::NotAffected,
                    "under_investigation" => AdvisoryStatus::Undetermined,
                    _ => continue,
                };
                match is_source {
                    false => {
                        named.insert((id, release, package));
                        if version.is_empty() {
                            by_package.insert(release);
                        }
                        let key = (id.to_owned(), release, package.clone(), status);
                        statements.insert(key, urgency.clone());
                    }
                    true => of_sources.push((id, release, package, status)),
                }
            }
        }
        for (id, release, package, status) in of_sources {
            let subject = match by_package.contains(release) {
                true if named.contains(&(id, release, package)) => continue,
                true => package.clone(),
                false => of_source(package),
            };
            statements.insert((id.to_owned(), release, subject, status), urgency.clone());
        }
        if statements.len() > MAX_STATEMENTS {
            return Err(format!("it makes more than {MAX_STATEMENTS} statements"));
        }
    }
    scores.sort_by(|a, b| (&a.id, &a.vector).cmp(&(&b.id, &b.vector)));
    scores.dedup();
    let evidence = format!("{EVIDENCE} {}", head.tracking.id);
    let statements =
        statements.into_iter().map(|((id, release, source, status), urgency)| Advisory {
            id,
            source,
            release: release.clone(),
            status,
            urgency,
            evidence: evidence.clone(),
        });
    let day = head.tracking.initial_release_date.get(..10);
    let published: Option<Date> = day.and_then(|day| day.parse().ok());
    let record = OsvRecord {
        id: head.tracking.id.to_string(),
        published,
        statements: statements.collect(),
        scores,
    };
    left_out.dedup();
    left_out.truncate(5);
    Ok((record, left_out))
}

/// What statements about all that is built from a source are kept under: `source/krb5`, `redis:6/source/redis`.
fn of_source(package: &str) -> String {
    match package.split_once('/') {
        Some((stream, name)) => format!("{stream}/{}", source_subject(name)),
        None => source_subject(package),
    }
}

/// Product → why it has no fix.
fn reasons<'d>(
    document: &'d Document<'_>,
    vulnerability: &'d super::Vulnerability<'_>,
) -> BTreeMap<&'d str, String> {
    let mut why = BTreeMap::new();
    for remediation in &vulnerability.remediations {
        if matches!(remediation.category.as_deref(), Some("none_available" | "no_fix_planned")) {
            let said = clean_text(remediation.details.as_deref().unwrap_or_default());
            why.extend(document.about(remediation).map(|id| (id, said.clone())));
        }
    }
    why
}

/// Product → the package it is, on hosts' platforms alone.
fn places<'d>(
    document: &'d Document<'_>,
    left_out: &mut LeftOut,
) -> Result<BTreeMap<&'d str, Place>, String> {
    let products: BTreeMap<&str, &Product<'_>> = document
        .products()?
        .into_iter()
        .map(|p| (p.product.product_id.as_ref(), p.product))
        .collect();
    let release_of = |id: &str| {
        let helper = products.get(id)?.product_identification_helper.as_ref()?;
        release(helper.cpe.as_deref()?)
    };
    let relationships = &document.product_tree.relationships;
    let by_id: BTreeMap<&str, &Relationship<'_>> = relationships
        .iter()
        .map(|made| (made.full_product_name.product_id.as_ref(), made))
        .collect();
    let wholes: BTreeSet<&str> =
        relationships.iter().map(|made| made.relates_to_product_reference.as_ref()).collect();
    let mut places = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for made in relationships {
        let (id, mut whole): (&str, &str) =
            (&made.full_product_name.product_id, &made.relates_to_product_reference);
        // Older documents have a module on the platform, and its packages on that.
        let mut module = None;
        if let Some(on) = by_id.get(whole) {
            module = Some(on.product_reference.as_ref());
            whole = &on.relates_to_product_reference;
        }
        let Some(release) = release_of(whole) else { continue };
        let part: &str = &made.product_reference;
        let helper = |id: &str| products.get(id)?.product_identification_helper.as_ref();
        let package = match helper(part).and_then(|h| h.purl.as_deref()) {
            Some(purl) => by_purl(purl, part, module),
            // The module itself is no package.
            None if wholes.contains(id) => Ok(None),
            None => by_name(part, module),
        };
        match package {
            Ok(Some(Package { name, version, is_source })) => {
                places.insert(id, Place { release, package: name, version, is_source });
            }
            Ok(None) => {}
            Err(what) if seen.insert(part) => left_out.push((clean_text(part), what)),
            Err(_) => {}
        }
    }
    Ok(places)
}

/// The release that a platform is, where a host can be of it.
fn release(cpe: &str) -> Option<String> {
    let fields: Vec<&str> = cpe.strip_prefix("cpe:/")?.split(':').collect();
    let [_, "redhat", product, version, ..] = fields[..] else { return None };
    let version = version.trim();
    if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    match product {
        // From 10 on with the minor release (`enterprise_linux:10.0`); hosts go by the major one.
        "enterprise_linux" => Some(format!("rhel:{}", version.split('.').next()?)),
        "rhel_aus"
        | "rhel_e4s"
        | "rhel_els"
        | "rhel_eus"
        | "rhel_tus"
        | "rhel_mission_critical"
        | "rhel_eus_long_life" => Some(format!(
            "rhel-{}:{version}",
            product.trim_start_matches("rhel_").replace('_', "-")
        )),
        _ => None,
    }
}

/// A package, as statements know it.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    is_source: bool,
}

/// `libxml2.src`, `python36.src::python36:3.6`.
fn names_source(product: &str) -> bool {
    product.split("::").next().is_some_and(|product| product.ends_with(".src"))
}

/// `within`: the module that the product stands in, where the document says so by its relationships.
fn by_purl(purl: &str, product: &str, within: Option<&str>) -> Result<Option<Package>, String> {
    let purl = Purl::parse(purl)?;
    if purl.kind != "rpm" {
        return Ok(None);
    }
    let is_source = purl.qualifier("arch") == "src" || names_source(product);
    // `redis:6:8100020250113142203:489197e6`: module, stream, build.
    let mut module = purl.qualifier("rpmmod").split(':');
    let module = match (module.next(), module.next()) {
        (Some(module), Some(stream)) if !module.is_empty() => Some(format!("{module}:{stream}")),
        _ => product.rsplit_once("::").map(|(_, module)| module).or(within).map(str::to_owned),
    };
    package(&purl.name, &purl.full_version(), module.as_deref(), is_source)
}

/// `libxml2-0:2.9.7-13.el8_6.4.x86_64`, `libxml2`, `redis:6/redis`, with `::redis:6` behind it where it is of a module.
fn by_name(product: &str, within: Option<&str>) -> Result<Option<Package>, String> {
    let (product, module) = match product.split_once("::") {
        Some((product, module)) => (product, Some(module)),
        None => (product, within),
    };
    if product.ends_with("-container") {
        return Ok(None);
    }
    let is_source = names_source(product);
    let (module, product) = match product.split_once('/') {
        Some((module, package)) if module.contains(':') => (Some(module), package),
        // A container's name has its repository in front.
        Some(_) => return Ok(None),
        None => (module, product),
    };
    let Some((rest, _architecture)) = product.rsplit_once('.').filter(|_| product.contains(':'))
    else {
        let product = product.strip_suffix(".src").unwrap_or(product);
        return package(product, "", module, is_source);
    };
    let parts = rest.rsplit_once('-').and_then(|(r, release)| Some((r.rsplit_once('-')?, release)));
    match parts {
        Some(((name, version), release)) => {
            let version = version.strip_prefix("0:").unwrap_or(version);
            package(name, &format!("{version}-{release}"), module, is_source)
        }
        None => package(product, "", module, is_source),
    }
}

fn package(
    name: &str,
    version: &str,
    module: Option<&str>,
    is_source: bool,
) -> Result<Option<Package>, String> {
    // Vendors' statements about these are about the packages that they belong to.
    if name.ends_with("-debuginfo") || name.ends_with("-debugsource") {
        return Ok(None);
    }
    check_package("package", name)?;
    if version.len() > MAX_VERSION {
        return Err(format!("the version has {} bytes, more than {MAX_VERSION}", version.len()));
    }
    if !version.is_empty() {
        rpm::Version::parse(version).map_err(|e| e.to_string())?;
    }
    let name = match module {
        None if crate::exposure::is_modular(version) => {
            return Err(format!("{version} is of a module, and nothing names its stream"));
        }
        None => name.to_owned(),
        Some(module) => {
            module.split(':').try_for_each(|part| check_package("module", part))?;
            let mut parts = module.split(':');
            match (parts.next(), parts.next()) {
                (Some(module), Some(stream)) => format!("{module}:{stream}/{name}"),
                _ => return Err(format!("module {:?} names no stream", clean_text(module))),
            }
        }
    };
    Ok(Some(Package { name, version: version.to_owned(), is_source }))
}

#[cfg(test)]
mod tests;
