//! SARIF 2.1.0 (OASIS, <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>): one rule for each vulnerability, one
//! result for each finding. What is accepted or ruled out is there with a suppression; what is gone is not there.

use super::{Subject, moment, not_looked_at, reasons, sentence};
use crate::exposure::Reason;
use crate::feed::purl::Purl;
use fettle_core::Digest;
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::language::Ecosystem;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The whole document.
pub fn sarif(subject: &Subject<'_>) -> Value {
    let told = || subject.findings.iter().filter(|(f, _)| f.state != FindingState::Fixed);
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for (finding, _) in told() {
        let worst = rules.entry(&finding.id).or_insert(finding);
        if worst.severity() < finding.severity() {
            *worst = finding;
        }
    }
    let places: BTreeMap<&str, usize> =
        rules.keys().enumerate().map(|(at, id)| (*id, at)).collect();
    let listed: Vec<Value> = rules.iter().map(|(id, finding)| rule(id, finding)).collect();
    let results: Vec<Value> = told()
        .map(|(finding, why)| result(subject, finding, why, places[finding.id.as_str()]))
        .collect();
    let notes: Vec<Value> = subject
        .inventory
        .gaps
        .iter()
        .map(|gap| json!({"level": "warning", "message": {"text": format!("not known: {gap}")}}))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": subject.tool, "semanticVersion": subject.version, "rules": listed,
            }},
            "invocations": [{
                "executionSuccessful": true, "endTimeUtc": moment(subject.at), "machine": subject.name,
                "toolExecutionNotifications": notes,
            }],
            "results": results,
        }],
    })
}

fn rule(id: &str, finding: &Finding) -> Value {
    // Programs that order by this number want one even where nobody gave a score.
    let score = match (finding.severity(), finding.ranking.cvss) {
        (_, Some(score)) => f64::from(score),
        (Severity::Critical, None) => 9.0,
        (Severity::High, None) => 7.0,
        (Severity::Medium, None) => 4.0,
        (Severity::Low, None) => 0.1,
        (Severity::Negligible, None) => 0.0,
    };
    let mut tags = vec!["security", "vulnerability", finding.severity().word()];
    if finding.ranking.kev.is_some() {
        tags.push("known-exploited");
    }
    json!({
        "id": id,
        "shortDescription": {"text": format!("{id} ({})", finding.severity().word())},
        "defaultConfiguration": {"level": level(finding.severity())},
        "properties": {"security-severity": format!("{score:.1}"), "tags": tags},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Negligible => "note",
    }
}

fn result(subject: &Subject<'_>, finding: &Finding, why: &[Reason], rule: usize) -> Value {
    let print = Digest::of_json(&(subject.name, &finding.id, &finding.source)).hex();
    let mut it = json!({
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": level(finding.severity()),
        "message": {"text": format!("{}\n{}", sentence(finding), reasons(why))},
        "locations": locations(subject, finding),
        "partialFingerprints": {"findingHash/v1": print},
        "properties": {
            "state": finding.state.word(), "source": finding.source, "installed": finding.installed,
            "fixedVersion": finding.fixed_version, "offered": finding.offered,
            "inUse": finding.in_use, "exposed": finding.exposed,
        },
    });
    if !not_looked_at(subject.inventory).is_empty() {
        for name in ["offered", "inUse", "exposed"] {
            it["properties"][name] = Value::Null;
        }
        it["properties"]["notLookedAt"] = json!(["offered", "inUse", "exposed"]);
    }
    let suppressed = match finding.state {
        FindingState::Accepted => Some("accepted, with an end"),
        FindingState::NotAffected => Some("not affected, by own statement"),
        _ => None,
    };
    // Where one result has suppressions, those without must say that they have none (section 3.27.23).
    it["suppressions"] = match suppressed {
        Some(why) => json!([{"kind": "external", "status": "accepted", "justification": why}]),
        None => json!([]),
    };
    it
}

/// Where it is: the file that says what is installed, and the package by its URL.
fn locations(subject: &Subject<'_>, finding: &Finding) -> Vec<Value> {
    let at = |file: &str, name: &str, purl: String| {
        // A path that does not begin at the root is relative, and so is its URL.
        let scheme = if file.starts_with('/') { "file://" } else { "" };
        json!({
            "physicalLocation": {"artifactLocation": {"uri": format!("{scheme}{}", encoded(file))}},
            "logicalLocations": [{"name": name, "fullyQualifiedName": purl, "kind": "package"}],
        })
    };
    let inventory = subject.inventory;
    if Ecosystem::of_subject(&finding.source).is_some() {
        let its = inventory
            .languages
            .iter()
            .filter(|p| finding.binaries.contains(&p.location) && p.subject() == finding.source);
        return its
            .map(|p| {
                at(
                    subject
                        .read_from
                        .unwrap_or_else(|| p.location.split('!').next().unwrap_or_default()),
                    &p.name,
                    Purl::of_language(p).to_string(),
                )
            })
            .collect();
    }
    let database = match (subject.read_from, Purl::kind_of(&inventory.os)) {
        (Some(file), _) => file,
        (None, Some("rpm")) => "/var/lib/rpm",
        (None, Some("apk")) => "/lib/apk/db/installed",
        (None, _) => "/var/lib/dpkg/status",
    };
    let its = inventory.packages.iter().filter(|p| finding.binaries.contains(&p.name));
    its.map(|p| at(database, &p.name, Purl::of_package(&inventory.os, p).to_string())).collect()
}

/// A path in a URL (RFC 3986, section 3.3).
fn encoded(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::with_capacity(path.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/@:+=,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // What goes into a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
