use super::super::{OsvRecord, parse};
use crate::feed::{Parsed, Publisher};
use fettle_core::advisory::{AdvisoryStatus, VersionRange};
use fettle_core::language::Ecosystem;
use serde_json::{Value, json};

fn record(ecosystem: &str, name: &str, events: Value) -> Value {
    json!({
        "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2021-1"], "related": ["CVE-2021-9"],
        "published": "2021-12-10T00:40:56Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }],
        "database_specific": {"severity": "CRITICAL", "cwe_ids": ["CWE-20"]},
    })
}

fn read(ecosystem: Ecosystem, record: &Value) -> Parsed<OsvRecord> {
    parse(Publisher::Language(ecosystem), format!("{record}\n{record}\n").as_bytes()).unwrap()
}

/// The ranges of the first statement, in words; or why there is none.
fn said(ecosystem: Ecosystem, record: &Value) -> String {
    let filler = record_of(ecosystem);
    let text = format!("{filler}\n{record}\n");
    let parsed = parse(Publisher::Language(ecosystem), text.as_bytes()).unwrap();
    match parsed.records.get(1).map(|r| &r.statements[0].status) {
        Some(AdvisoryStatus::Ranges { ranges }) => {
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        Some(other) => format!("{other:?}"),
        None => {
            parsed.errors.first().map_or("nothing".to_owned(), |e| format!("refused: {}", e.what))
        }
    }
}

fn record_of(ecosystem: Ecosystem) -> Value {
    let name = if ecosystem == Ecosystem::Maven { "g:a" } else { "a" };
    record(ecosystem.osv(), name, json!([{"introduced": "0"}]))
}

#[test]
fn a_record_says_who_is_affected_how_bad_and_since_when() {
    let made = record("PyPI", "Zope.Interface", json!([{"introduced": "0"}, {"fixed": "5.0"}]));
    let parsed = read(Ecosystem::Pypi, &made);
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let it = &parsed.records[0];
    assert_eq!(it.statements.len(), 1, "what is near is not meant");
    let statement = &it.statements[0];
    assert_eq!(
        (statement.id.as_str(), statement.source.as_str(), statement.release.as_str()),
        ("CVE-2021-1", "pypi/zope-interface", "pypi")
    );
    assert_eq!(statement.urgency, "critical");
    assert_eq!(statement.evidence, "OSV record GHSA-aaaa-bbbb-cccc");
    let range = VersionRange { introduced: "0".into(), fixed: Some("5.0".into()), last: None };
    assert_eq!(statement.status, AdvisoryStatus::Ranges { ranges: vec![range] });
    assert_eq!((it.scores[0].score, it.scores[0].issuer.as_str()), (10.0, "GitHub"));
    let published = it.publication().unwrap();
    assert_eq!(
        (published.id.as_str(), published.date.to_string().as_str()),
        ("GHSA-aaaa-bbbb-cccc", "2021-12-10")
    );
}

#[test]
fn events_are_read_by_their_versions_and_not_by_their_order() {
    for (ecosystem, events, expected) in [
        (Ecosystem::Npm, json!([{"introduced": "0"}]), "all versions"),
        (Ecosystem::Npm, json!([{"introduced": "1.0.0"}]), "from 1.0.0 on"),
        (Ecosystem::Npm, json!([{"introduced": "0"}, {"last_affected": "1.2.3"}]), "up to 1.2.3"),
        (
            Ecosystem::Npm,
            json!([{"fixed": "2.0.0"}, {"introduced": "1.0.0"}]),
            "from 1.0.0 to below 2.0.0",
        ),
        (
            Ecosystem::Gem,
            json!([{"introduced": "5.0.0"}, {"fixed": "5.2.4.3"}, {"introduced": "6.0.0"}, {"fixed": "6.0.3.1"}]),
            "from 5.0.0 to below 5.2.4.3, from 6.0.0 to below 6.0.3.1",
        ),
        // 10 after 9, and a pre-release before its release.
        (
            Ecosystem::Cargo,
            json!([{"introduced": "9.0.0"}, {"fixed": "10.0.0-rc.1"}]),
            "from 9.0.0 to below 10.0.0-rc.1",
        ),
        (
            Ecosystem::Maven,
            json!([{"fixed": "2.3.1"}, {"introduced": "2.0-beta9"}]),
            "from 2.0-beta9 to below 2.3.1",
        ),
    ] {
        let name = if ecosystem == Ecosystem::Maven { "g:a" } else { "a" };
        assert_eq!(said(ecosystem, &record(ecosystem.osv(), name, events)), expected);
    }
}

#[test]
fn versions_named_one_by_one_count_beside_the_ranges() {
    let mut made = record("PyPI", "a", json!([{"introduced": "0"}, {"fixed": "1.5"}]));
    made["affected"][0]["versions"] = json!(["1.0", "1.4.9", "2.0", "2.1"]);
    assert_eq!(said(Ecosystem::Pypi, &made), "below 1.5, 2.0, 2.1");
    made["affected"][0]["ranges"] =
        json!([{"type": "GIT", "repo": "x", "events": [{"introduced": "0"}]}]);
    assert_eq!(said(Ecosystem::Pypi, &made), "1.0, 1.4.9, 2.0, 2.1");
    let many: Vec<String> = (0..3000).map(|n| format!("1.{n}")).collect();
    made["affected"][0]["versions"] = json!(many);
    assert_eq!(said(Ecosystem::Pypi, &made), "refused: more than 2000 ranges and versions");
}

#[test]
fn what_cannot_be_understood_or_is_another_ecosystem_is_refused_by_name() {
    let plain = || json!([{"introduced": "0"}, {"fixed": "1.0"}]);
    for (ecosystem, made, expected) in [
        (
            Ecosystem::Pypi,
            record("npm", "a", plain()),
            "this feed does not speak for npm: it does for PyPI",
        ),
        (
            Ecosystem::Pypi,
            record("Debian:12", "a", plain()),
            "this feed does not speak for Debian: it does for PyPI",
        ),
        (
            Ecosystem::Maven,
            record("Maven", "a", plain()),
            "the package name is no `group:artifact`",
        ),
        (Ecosystem::Npm, record("npm", "a b", plain()), "the package name holds ' '"),
        (Ecosystem::Npm, record("npm", &"a".repeat(300), plain()), "a package name of 300 bytes"),
        (
            Ecosystem::Pypi,
            record("PyPI", "a", json!([{"introduced": "0"}, {"fixed": "x"}])),
            "`fixed`: version `x` has no release",
        ),
        (
            Ecosystem::Npm,
            record("npm", "a", json!([{"fixed": "1.0.0"}])),
            "a range without `introduced`",
        ),
        (
            Ecosystem::Npm,
            record("npm", "a", json!([{"introduced": "0", "fixed": "1.0.0"}])),
            "an event that is not one",
        ),
        (
            Ecosystem::Npm,
            record("npm", "a", json!([{"introduced": "1 0"}])),
            "`introduced` is no version",
        ),
    ] {
        let got = said(ecosystem, &made);
        assert!(got.starts_with(&format!("refused: {expected}")), "{got}");
    }
    let mut withdrawn = record("npm", "a", plain());
    withdrawn["withdrawn"] = json!("2022-01-01T00:00:00Z");
    assert_eq!(said(Ecosystem::Npm, &withdrawn), "nothing");
    let mut unmaintained = record("crates.io", "a", plain());
    unmaintained["affected"][0]["database_specific"] =
        json!({"informational": "unmaintained", "categories": []});
    assert_eq!(said(Ecosystem::Cargo, &unmaintained), "nothing");
    unmaintained["affected"][0]["database_specific"] = json!({"informational": "unsound"});
    assert_eq!(said(Ecosystem::Cargo, &unmaintained), "below 1.0");
}

#[test]
fn malicious_packages_count_under_their_own_name_and_are_critical() {
    let mut made = record("npm", "a", json!([{"introduced": "0"}]));
    made["id"] = json!("MAL-2024-1234");
    made["aliases"] = json!([]);
    made["database_specific"] = json!({"malicious-packages-origins": []});
    let parsed = read(Ecosystem::Npm, &made);
    let statement = &parsed.records[0].statements[0];
    assert_eq!((statement.id.as_str(), statement.urgency.as_str()), ("MAL-2024-1234", "critical"));
}
