//! CSAF 2.0, profile VEX.

use super::{Outcome, PackageSelector, Selector, VexStatement, VexStatus, checked, moment};
use crate::feed::csaf::{Document, Placed, Vulnerability, check};
use crate::feed::document::record_error;
use crate::feed::purl::Purl;
use crate::feed::{check_package, clean_text};
use std::collections::BTreeMap;

/// Reads one document.
pub(super) fn read(raw: &str) -> Result<Vec<Outcome>, String> {
    let document: Document<'_> = serde_json::from_str(raw).map_err(|e| record_error(&e))?;
    if document.document.category != "csaf_vex" {
        return Err(format!(
            "category {:?}: one's own statements come as `csaf_vex`",
            clean_text(&document.document.category)
        ));
    }
    check(&document).map_err(|e| e.to_string())?;
    let issued = moment(&document.document.tracking.current_release_date)?;
    let selectors = selectors(&document)?;
    let mut outcomes = Vec::new();
    for vulnerability in &document.vulnerabilities {
        let name = vulnerability.cve.as_ref().or(vulnerability.ids.first().map(|id| &id.text));
        let name = name.map_or("", AsRef::as_ref);
        for (status, state) in [
            (VexStatus::NotAffected, "known_not_affected"),
            (VexStatus::Affected, "known_affected"),
            (VexStatus::Fixed, "fixed"),
            (VexStatus::UnderInvestigation, "under_investigation"),
        ] {
            let listed = vulnerability.product_status.as_ref().and_then(|s| s.get(state));
            for product in listed.into_iter().flatten() {
                let said = statement(&document, vulnerability, product, status);
                let unknown = Err("the product is nowhere defined".to_owned());
                let selector = selectors.get(&**product).unwrap_or(&unknown);
                outcomes.push(match (said, selector) {
                    (Ok((justification, words, expires)), Ok(selector)) => checked(VexStatement {
                        id: name.to_owned(),
                        issued,
                        status,
                        justification,
                        words,
                        author: clean_text(&document.document.publisher.name),
                        document: clean_text(&document.document.tracking.id),
                        expires,
                        products: vec![selector.clone()],
                    }),
                    (Err(what), _) => Err((name.to_owned(), what)),
                    (_, Err(what)) => Err((format!("{name} {product}"), what.clone())),
                });
            }
        }
    }
    Ok(outcomes)
}

type Said = (String, String, Option<fettle_core::Timestamp>);

/// Justification, words and expiry of what is said of one product.
fn statement(
    document: &Document<'_>,
    vulnerability: &Vulnerability<'_>,
    product: &str,
    status: VexStatus,
) -> Result<Said, String> {
    let flag = vulnerability.flags.iter().find(|f| document.about(f).any(|id| id == product));
    let justification = flag.and_then(|f| f.label.as_deref()).unwrap_or_default();
    let impact = vulnerability.threats.iter().filter(|t| t.category.as_deref() == Some("impact"));
    let told = match status {
        VexStatus::NotAffected => impact.collect::<Vec<_>>(),
        _ => vulnerability.remediations.iter().collect(),
    };
    let words: Vec<&str> = told
        .into_iter()
        .filter(|t| document.about(t).any(|id| id == product))
        .filter_map(|t| t.details.as_deref())
        .collect();
    let expires = vulnerability.notes.iter().find(|n| n.title.as_deref() == Some("expires"));
    let expires = expires.map(|n| moment(n.text.trim())).transpose()?;
    Ok((clean_text(justification), clean_text(&words.join(" ")), expires))
}

type Selectors<'d> = BTreeMap<&'d str, Result<Selector, String>>;

/// What each product of the document means. That one is a part of another says nothing to a host, which knows its packages
/// only: the part counts.
fn selectors<'d>(document: &'d Document<'_>) -> Result<Selectors<'d>, String> {
    let mut selectors = Selectors::new();
    for placed in document.products()? {
        let package = package(&placed);
        let selector = package.map(|package| Selector { host: None, package: Some(package) });
        selectors.insert(&placed.product.product_id, selector);
    }
    let made = &document.product_tree.relationships;
    // A part may itself be made of parts; the checks have seen that none is made of itself.
    for _ in 0..made.len() {
        let mut more = false;
        for relationship in made {
            let id: &str = &relationship.full_product_name.product_id;
            let own = relationship.full_product_name.product_identification_helper.as_ref();
            let own = own.and_then(|h| h.purl.as_deref());
            let selector = match own {
                Some(purl) => Some(Purl::parse(purl).map(|purl| Selector {
                    host: None,
                    package: Some(PackageSelector::Purl(purl)),
                })),
                None => selectors.get(&*relationship.product_reference).cloned(),
            };
            if let Some(selector) = selector
                && !selectors.contains_key(id)
            {
                selectors.insert(id, selector);
                more = true;
            }
        }
        if !more {
            break;
        }
    }
    Ok(selectors)
}

fn package(placed: &Placed<'_, '_>) -> Result<PackageSelector, String> {
    let helper = placed.product.product_identification_helper.as_ref();
    if let Some(purl) = helper.and_then(|h| h.purl.as_deref()) {
        return Purl::parse(purl).map(PackageSelector::Purl);
    }
    let name = placed.branch("product_name").unwrap_or(&placed.product.name);
    check_package("package", name).map_err(|e| {
        format!("the product has no package URL, and what it is called is no package: {e}")
    })?;
    if placed.branch("product_version_range").is_some() {
        return Err("the product is a range of versions: name each version, or none".to_owned());
    }
    let version = placed.branch("product_version").unwrap_or_default();
    Ok(PackageSelector::Name { name: name.to_owned(), version: version.to_owned() })
}
