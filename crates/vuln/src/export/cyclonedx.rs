//! CycloneDX 1.6 (ECMA-424, <https://cyclonedx.org/docs/1.6/json/>): what a host has, as components, and what was found on it,
//! as vulnerabilities with an analysis each, which is what makes it a VEX document.
//!
//! | state | `analysis.state` | `analysis.response` |
//! |---|---|---|
//! | open | `exploitable` | `update` |
//! | no fix yet | `exploitable` | `can_not_fix` |
//! | pending restart, pending reboot | `exploitable` | `update` |
//! | accepted | `exploitable` | `will_not_fix` |
//! | not affected | `not_affected` | |
//! | fixed | `resolved` | |
//!
//! A root on the host (a container, a machine, a chroot) is a component of type `container` that holds components of its own.
//! Every component is named by its package URL, every statement by these. The serial number is made of what the document
//! says: the same again is the same document.

use super::{Subject, common_severity, moment, not_looked_at, reasons, sentence};
use crate::exposure::Rules;
use crate::feed::purl::Purl;
use fettle_core::Digest;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::Inventory;
use fettle_core::root;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the document is written by.
pub(super) const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";

/// The whole document.
pub fn cyclonedx(subject: &Subject<'_>) -> Value {
    let inventory = subject.inventory;
    let (mut listed, mut called) = components(None, inventory);
    for root in &inventory.roots {
        let id = root.id();
        let (within, of_root) = components(Some(&id), &root.inventory());
        let mut it = json!({
            "type": "container", "bom-ref": id, "name": root.name, "description": root.called(),
            "properties": [property("root", root.kind.word())], "components": within,
        });
        if !root.image.is_empty() {
            it["version"] = json!(root.image);
        }
        if let Some(told) = it["properties"].as_array_mut() {
            told.push(property("running", if root.running { "true" } else { "false" }));
            told.extend(root.gaps.iter().map(|gap| property("not-known", gap)));
        }
        listed.push(it);
        called.extend(of_root);
    }

    let mut vulnerabilities: Vec<Value> = Vec::with_capacity(subject.findings.len());
    for (finding, why) in subject.findings {
        let mut affects: BTreeMap<String, &str> = BTreeMap::new();
        for binary in &finding.binaries {
            let its = (finding.source.clone(), binary.clone());
            for (reference, version) in called.get(&its).into_iter().flatten() {
                affects.insert(reference.clone(), version);
            }
        }
        let mut told = vulnerability(finding, &reasons(why), &affects);
        if let Some(properties) = told["properties"].as_array_mut() {
            let names = not_looked_at(inventory).iter();
            properties.extend(names.map(|name| property("not-looked-at", &name.replace('_', "-"))));
        }
        vulnerabilities.push(told);
    }
    let body = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": moment(subject.at),
            "tools": {"components": [
                {"type": "application", "name": subject.tool, "version": subject.version}
            ]},
            "component": {"type": "device", "bom-ref": "host", "name": subject.name},
            "properties": inventory.gaps.iter().map(|gap| property("not-known", gap)).collect::<Vec<_>>(),
        },
        "components": listed,
        "vulnerabilities": vulnerabilities,
    });
    let mut document = Map::new();
    document.insert("$schema".into(), json!(SCHEMA));
    document.insert("serialNumber".into(), json!(serial(&Digest::of_json(&body))));
    if let Value::Object(fields) = body {
        document.extend(fields);
    }
    Value::Object(document)
}

/// What findings call a package (source, and name or place) → references of components, with their versions.
type Called = BTreeMap<(String, String), Vec<(String, String)>>;

/// The components of one system: a host without its roots, or a root, whose components are referred to with its name
/// before theirs.
fn components(root: Option<&str>, inventory: &Inventory) -> (Vec<Value>, Called) {
    let os = &inventory.os;
    let reference = |text: &str| root.map_or_else(|| text.to_owned(), |id| format!("{id}#{text}"));
    let named =
        |source: &str| root.map_or_else(|| source.to_owned(), |id| root::subject(id, source));
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    let mut called = Called::new();
    let rules = Rules::of(os);
    for package in &inventory.packages {
        let purl = Purl::of_package(os, package).to_string();
        let source = rules.subject(package).0;
        let mut properties = vec![property("source", &package.source)];
        properties.push(property("source-version", &package.source_version));
        if inventory.in_use.contains(&package.name) {
            properties.push(property("in-use", "true"));
        }
        if inventory.exposed.contains(&package.name) {
            properties.push(property("exposed", "true"));
        }
        components.insert(
            purl.clone(),
            json!({
                "type": "library", "bom-ref": reference(&purl), "name": package.name,
                "version": package.version, "purl": purl, "properties": properties,
            }),
        );
        for subject in std::iter::once(source.into_owned())
            .chain(rules.beside(package).map(|(subject, _)| subject))
        {
            let its = called.entry((named(&subject), package.name.clone())).or_default();
            its.push((reference(&purl), package.version.clone()));
        }
    }
    for package in &inventory.languages {
        let purl = Purl::of_language(package).to_string();
        let (group, name) = match package.name.split_once([':', '/']) {
            Some((group, name)) => (group, name),
            None => ("", package.name.as_str()),
        };
        let place = json!({"location": package.location});
        let known = components.entry(purl.clone()).or_insert_with(|| {
            let mut it = json!({
                "type": "library", "bom-ref": reference(&purl), "name": name,
                "version": package.version, "purl": purl, "evidence": {"occurrences": []},
            });
            if !group.is_empty() {
                it["group"] = json!(group);
            }
            it
        });
        if let Some(places) = known["evidence"]["occurrences"].as_array_mut() {
            places.push(place);
        }
        let its = called.entry((named(&package.subject()), package.location.clone())).or_default();
        its.push((reference(&purl), package.version.clone()));
    }
    let mut listed = vec![json!({
        "type": "operating-system", "bom-ref": reference("os"), "name": os.id,
        "version": os.version, "description": os.pretty,
    })];
    listed.extend(components.into_values());
    (listed, called)
}

/// A property of Fettle's own.
pub(super) fn property(name: &str, value: &str) -> Value {
    json!({"name": format!("fettle:{name}"), "value": value})
}

/// What is said of a finding in this state, and in which words.
pub(super) fn analysis(state: FindingState, detail: &str) -> Value {
    let (state, response) = match state {
        FindingState::Open | FindingState::PendingRestart | FindingState::PendingReboot => {
            ("exploitable", Some("update"))
        }
        FindingState::NoFixYet => ("exploitable", Some("can_not_fix")),
        FindingState::Accepted => ("exploitable", Some("will_not_fix")),
        FindingState::NotAffected => ("not_affected", None),
        FindingState::Fixed => ("resolved", None),
    };
    let mut analysis = json!({"state": state, "detail": detail});
    if let Some(response) = response {
        analysis["response"] = json!([response]);
    }
    analysis
}

/// A component, in this version, that something is said of.
pub(super) fn affected(reference: &str, version: &str, state: FindingState) -> Value {
    let status = match state {
        FindingState::NotAffected | FindingState::Fixed => "unaffected",
        _ => "affected",
    };
    json!({"ref": reference, "versions": [{"version": version, "status": status}]})
}

/// How bad it is.
pub(super) fn rating(finding: &Finding) -> Value {
    let mut rating = json!({"severity": common_severity(finding.severity())});
    if let (Some(score), Some(vector)) = (finding.ranking.cvss, &finding.ranking.cvss_vector) {
        // A float's nearest decimals are more than its one.
        rating["score"] = json!((f64::from(score) * 10.0).round() / 10.0);
        rating["vector"] = json!(vector);
        rating["method"] = json!(match vector.get(..8) {
            Some("CVSS:4.0") => "CVSSv4",
            Some("CVSS:3.1") => "CVSSv31",
            Some("CVSS:3.0") => "CVSSv3",
            _ => "CVSSv2",
        });
    }
    rating
}

fn vulnerability(finding: &Finding, detail: &str, affects: &BTreeMap<String, &str>) -> Value {
    let affects: Vec<Value> =
        affects.iter().map(|(purl, version)| affected(purl, version, finding.state)).collect();
    let mut properties = vec![property("state", finding.state.word())];
    properties.push(property("source", &finding.source));
    properties.push(property("installed", &finding.installed));
    if let Some(fixed) = &finding.fixed_version {
        properties.push(property("fixed-version", fixed));
    }
    for (name, holds) in [
        ("offered", finding.offered),
        ("in-use", finding.in_use),
        ("exposed", finding.exposed),
        ("known-exploited", finding.ranking.kev.is_some()),
    ] {
        if holds {
            properties.push(property(name, "true"));
        }
    }
    if let Some(epss) = finding.ranking.epss {
        properties.push(property("epss", &epss.to_string()));
    }
    let mut it = json!({
        "bom-ref": format!("{}@{}", finding.id, finding.source),
        "id": finding.id,
        "ratings": [rating(finding)],
        "description": sentence(finding),
        "analysis": analysis(finding.state, detail),
        "properties": properties,
    });
    if !affects.is_empty() {
        it["affects"] = json!(affects);
    }
    if let Some(day) = finding.ranking.published {
        it["published"] = json!(format!("{day}T00:00:00Z"));
    }
    it
}

/// A name for the document, made of what it says (RFC 9562, version 8).
pub(super) fn serial(digest: &Digest) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.0[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
