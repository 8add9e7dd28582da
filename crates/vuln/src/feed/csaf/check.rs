//! The standard's mandatory tests (CSAF 2.0, section 6.1) of the parts that are read here. A document that breaks one does
//! not mean what it says, and is refused as a whole.

use super::{About, Document, Vulnerability};
use crate::feed::purl::Purl;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A test that a document does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Number of the test: `6.1.1`.
    pub test: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (CSAF 2.0, test {})", self.what, self.test)
    }
}

/// The states that say the same, by the standard's four groups (6.1.6).
const GROUPS: [(&str, &[&str]); 4] = [
    ("affected", &["first_affected", "known_affected", "last_affected"]),
    ("not affected", &["known_not_affected"]),
    ("fixed", &["first_fixed", "fixed"]),
    ("under investigation", &["under_investigation"]),
];

/// Flags that justify `known_not_affected` (6.1.33).
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "inline_mitigations_already_exist",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_not_present",
];

/// Holds a document against the tests; the first that it breaks.
///
/// # Errors
/// [`Broken`].
pub fn check(document: &Document<'_>) -> Result<(), Broken> {
    let broken = |test, what: String| Err(Broken { test, what });
    let placed = document.products().map_err(|what| Broken { test: "schema", what })?;
    let mut defined: BTreeSet<&str> = BTreeSet::new();
    let tree = &document.product_tree;
    let made = tree.relationships.iter().map(|r| r.full_product_name.product_id.as_ref());
    for id in placed.iter().map(|p| p.product.product_id.as_ref()).chain(made) {
        if !defined.insert(id) {
            return broken("6.1.2", format!("product {id:?} is defined twice"));
        }
    }
    for purl in placed
        .iter()
        .filter_map(|p| p.product.product_identification_helper.as_ref()?.purl.as_deref())
    {
        Purl::parse(purl).map_err(|what| Broken { test: "6.1.13", what })?;
    }
    relationships(document)?;
    let mut groups: BTreeSet<&str> = BTreeSet::new();
    for group in &tree.product_groups {
        if !groups.insert(&group.group_id) {
            return broken("6.1.5", format!("group {:?} is defined twice", group.group_id));
        }
    }
    let known = |id: &str| match defined.contains(id) {
        true => Ok(()),
        false => broken("6.1.1", format!("product {id:?} is nowhere defined")),
    };
    let grouped = tree.product_groups.iter().flat_map(|g| &g.product_ids);
    for id in grouped {
        known(id)?;
    }
    for made in &tree.relationships {
        known(&made.product_reference)?;
        known(&made.relates_to_product_reference)?;
    }
    let mut cves: BTreeSet<&str> = BTreeSet::new();
    for vulnerability in &document.vulnerabilities {
        if let Some(cve) = &vulnerability.cve
            && !cves.insert(cve)
        {
            return broken("6.1.23", format!("{cve} stands in two items"));
        }
        let status = vulnerability.product_status.iter().flat_map(BTreeMap::values).flatten();
        for id in status {
            known(id)?;
        }
        for id in vulnerability.scores.iter().flat_map(|s| &s.products) {
            known(id)?;
        }
        let about = [&vulnerability.flags, &vulnerability.threats, &vulnerability.remediations];
        for about in about.into_iter().flatten() {
            for id in &about.product_ids {
                known(id)?;
            }
            if let Some(id) = about.group_ids.iter().find(|id| !groups.contains(&***id)) {
                return broken("6.1.4", format!("group {id:?} is nowhere defined"));
            }
        }
        contradictions(vulnerability)?;
        references(document, vulnerability)?;
    }
    if document.document.category == "csaf_vex" {
        vex(document)?;
    }
    if matches!(document.document.category.as_ref(), "csaf_vex" | "csaf_security_advisory") {
        profile(document)?;
    }
    Ok(())
}

/// 6.1.3: no product is made of itself.
fn relationships(document: &Document<'_>) -> Result<(), Broken> {
    let parts: BTreeMap<&str, [&str; 2]> = document
        .product_tree
        .relationships
        .iter()
        .map(|r| {
            let whole: &str = &r.full_product_name.product_id;
            let parts: [&str; 2] = [&r.product_reference, &r.relates_to_product_reference];
            (whole, parts)
        })
        .collect();
    let mut sound: BTreeSet<&str> = BTreeSet::new();
    for &start in parts.keys() {
        // Depth first, with what is being looked at on the way: `(product, its parts that are still to be seen)`.
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((at, next)) = way.pop() {
            let Some(part) = parts.get(at).and_then(|p| p.get(next)).copied() else {
                sound.insert(at);
                continue;
            };
            way.push((at, next + 1));
            if way.iter().any(|(on_way, _)| *on_way == part) {
                let what = format!("product {part:?} is made of itself");
                return Err(Broken { test: "6.1.3", what });
            }
            if parts.contains_key(part) && !sound.contains(part) {
                way.push((part, 0));
            }
        }
    }
    Ok(())
}

/// 6.1.6: a product is not in two groups of states.
fn contradictions(vulnerability: &Vulnerability<'_>) -> Result<(), Broken> {
    let Some(status) = &vulnerability.product_status else { return Ok(()) };
    let mut said: BTreeMap<&str, &str> = BTreeMap::new();
    for (group, states) in GROUPS {
        for id in states.iter().filter_map(|s| status.get(*s)).flatten() {
            if let Some(other) = said.insert(id, group).filter(|other| *other != group) {
                let what = format!("product {id:?} is both {other} and {group}");
                return Err(Broken { test: "6.1.6", what });
            }
        }
    }
    Ok(())
}

/// 6.1.29, 6.1.32, 6.1.33: flags and remediations name products, and no product has two justifications.
fn references(document: &Document<'_>, vulnerability: &Vulnerability<'_>) -> Result<(), Broken> {
    let nowhere = |about: &&About<'_>| about.product_ids.is_empty() && about.group_ids.is_empty();
    if vulnerability.remediations.iter().any(|r| nowhere(&r)) {
        let what = "a remediation names no product".to_owned();
        return Err(Broken { test: "6.1.29", what });
    }
    if vulnerability.flags.iter().any(|f| nowhere(&f)) {
        return Err(Broken { test: "6.1.32", what: "a flag names no product".to_owned() });
    }
    let mut justified: BTreeMap<&str, &str> = BTreeMap::new();
    for flag in &vulnerability.flags {
        let Some(label) = flag.label.as_deref().filter(|l| JUSTIFICATIONS.contains(l)) else {
            continue;
        };
        for id in document.about(flag) {
            if justified.insert(id, label).is_some_and(|other| other != label) {
                let what = format!("product {id:?} has two justifications");
                return Err(Broken { test: "6.1.33", what });
            }
        }
    }
    Ok(())
}

/// 6.1.27.4 and .11: what every profile asks for that speaks of vulnerabilities in products.
fn profile(document: &Document<'_>) -> Result<(), Broken> {
    let tree = &document.product_tree;
    if document.vulnerabilities.is_empty() {
        return Err(Broken { test: "6.1.27.11", what: "it names no vulnerability".to_owned() });
    }
    if tree.branches.is_empty()
        && tree.full_product_names.is_empty()
        && tree.relationships.is_empty()
    {
        return Err(Broken { test: "6.1.27.4", what: "it names no product".to_owned() });
    }
    Ok(())
}

/// 6.1.27.7 to .10: what the profile VEX asks for.
fn vex(document: &Document<'_>) -> Result<(), Broken> {
    let broken = |test, what: String| Err(Broken { test, what });
    for vulnerability in &document.vulnerabilities {
        let first = vulnerability.ids.first().map(|id| &id.text);
        let name = vulnerability.cve.as_ref().or(first);
        let states = ["fixed", "known_affected", "known_not_affected", "under_investigation"];
        let listed = |state: &str| -> BTreeSet<&str> {
            let status = vulnerability.product_status.as_ref();
            let list = status.and_then(|s| s.get(state));
            list.into_iter().flatten().map(AsRef::as_ref).collect()
        };
        let silent = states.iter().all(|s| listed(s).is_empty());
        // Without a name there is nothing to say what is missing of, unless that is seen already.
        if name.is_none() && !(silent && vulnerability.product_status.is_some()) {
            return broken("6.1.27.8", "a vulnerability has neither a CVE nor another name".into());
        }
        let name = name.map_or("a vulnerability", AsRef::as_ref);
        if silent {
            let states = states.join(", ");
            return broken("6.1.27.7", format!("{name} names no product in any of {states}"));
        }
        let of = |about: &About<'_>, category: &str| about.category.as_deref() == Some(category);
        let impact: BTreeSet<&str> = vulnerability
            .flags
            .iter()
            .chain(vulnerability.threats.iter().filter(|t| of(t, "impact")))
            .flat_map(|a| document.about(a))
            .collect();
        if let Some(id) = listed("known_not_affected").difference(&impact).next() {
            return broken(
                "6.1.27.9",
                format!("{name} does not say why product {id:?} is not affected"),
            );
        }
        let action: BTreeSet<&str> =
            vulnerability.remediations.iter().flat_map(|a| document.about(a)).collect();
        if let Some(id) = listed("known_affected").difference(&action).next() {
            return broken(
                "6.1.27.10",
                format!("{name} does not say what to do about product {id:?}"),
            );
        }
    }
    Ok(())
}
