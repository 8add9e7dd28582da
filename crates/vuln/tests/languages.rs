//! Packages of languages: judged by OSV, each by its own ecosystem's order, beside the distribution's.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::inventory::Inventory;
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::version::Scheme;
use fettle_core::{HostId, Timestamp};
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Exception, FleetIndex, HostView, Withdrawal,
};
use fettle_vuln::feed::{Feed, Publisher, osv, vex};
use fettle_vuln::snapshot::{Feeds, load};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use support::*;

fn package(ecosystem: Ecosystem, name: &str, version: &str, location: &str) -> LanguagePackage {
    LanguagePackage {
        ecosystem,
        name: name.into(),
        version: version.into(),
        location: location.into(),
    }
}

fn with_languages(languages: Vec<LanguagePackage>) -> Inventory {
    Inventory {
        languages,
        packages: vec![support::package("openssl", "3.0.11-1")].into(),
        ..bookworm()
    }
}

/// A record of one package, in the form GitHub publishes.
fn record(id: &str, cve: &str, ecosystem: Ecosystem, name: &str, ranges: &[Value]) -> String {
    let affected: Vec<Value> = ranges
        .iter()
        .map(|events| {
            json!({
                "package": {"ecosystem": ecosystem.osv(), "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            })
        })
        .collect();
    let record = json!({
        "id": id, "aliases": [cve], "published": "2021-12-10T00:40:56Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"}],
        "affected": affected, "database_specific": {"severity": "CRITICAL"},
    });
    format!("{record}\n")
}

/// What GitHub's record of Log4Shell names.
fn log4shell() -> String {
    record(
        "GHSA-jfh8-c2jp-5v3q",
        "CVE-2021-44228",
        Ecosystem::Maven,
        "org.apache.logging.log4j:log4j-core",
        &[
            json!([{"introduced": "2.13.0"}, {"fixed": "2.15.0"}]),
            json!([{"introduced": "0"}, {"fixed": "2.3.1"}]),
            json!([{"introduced": "2.4"}, {"fixed": "2.12.2"}]),
        ],
    )
}

fn catalogue_of_osv(ecosystem: Ecosystem, text: &str) -> Catalogue {
    let mut input = CatalogueInput {
        advisories: vec![advisory("bookworm", ("openssl", "CVE-2024-1", "3.0.15-1", "high"))],
        ..CatalogueInput::default()
    };
    let parsed = osv::parse(Publisher::Language(ecosystem), text.as_bytes()).unwrap();
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    input.add_osv(parsed.records);
    Catalogue::build(input)
}

fn of_languages(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|f| f.source.contains('/')).collect()
}

#[test]
fn each_line_of_log4j_has_the_fix_of_its_own_line() {
    let catalogue = catalogue_of_osv(Ecosystem::Maven, &log4shell());
    let name = "org.apache.logging.log4j:log4j-core";
    for (version, fixed) in [
        ("2.0-beta9", Some("2.3.1")),
        ("2.3", Some("2.3.1")),
        ("2.3.1", None),
        ("2.3.2", None),
        ("2.4", Some("2.12.2")),
        ("2.12.1", Some("2.12.2")),
        ("2.12.4", None),
        ("2.13.0", Some("2.15.0")),
        ("2.14.1", Some("2.15.0")),
        ("2.15.0-rc1", Some("2.15.0")),
        ("2.15.0", None),
        ("2.17.1", None),
    ] {
        let jar =
            package(Ecosystem::Maven, name, version, "/opt/app/app.jar!/BOOT-INF/lib/log4j.jar");
        let host = with_languages(vec![jar]);
        let judgement = judge(&catalogue, &host);
        let found = of_languages(&judgement.findings);
        assert_eq!(found.first().map(|f| f.fixed_version.as_deref()), fixed.map(Some), "{version}");
        if let [finding] = found[..] {
            assert_eq!(finding.state, FindingState::Open);
            assert_eq!(finding.severity(), Severity::Critical);
            assert_eq!(finding.ranking.cvss, Some(10.0));
            assert_eq!(finding.ranking.published.unwrap().to_string(), "2021-12-10");
            assert!(!finding.offered);
            assert_eq!(finding.binaries, ["/opt/app/app.jar!/BOOT-INF/lib/log4j.jar"]);
        }
        // The distribution's own stay what they are.
        assert!(judgement.findings.iter().any(|f| f.source == "openssl"));
    }
}

#[test]
fn several_versions_of_one_package_are_one_finding_about_those_that_are_affected() {
    let catalogue = catalogue_of_osv(Ecosystem::Maven, &log4shell());
    let name = "org.apache.logging.log4j:log4j-core";
    let jar = |version: &str, place: &str| package(Ecosystem::Maven, name, version, place);
    let host = with_languages(vec![
        jar("2.17.1", "/opt/c.jar"),
        jar("2.14.1", "/opt/b.jar"),
        jar("2.3.2", "/opt/d.jar"),
        jar("2.12.1", "/opt/a.jar"),
    ]);
    let judgement = judge(&catalogue, &host);
    let [finding] = of_languages(&judgement.findings)[..] else { panic!() };
    assert_eq!(finding.installed, "2.12.1");
    assert_eq!(finding.fixed_version.as_deref(), Some("2.12.2"));
    assert_eq!(finding.binaries, ["/opt/a.jar", "/opt/b.jar"]);
    let lines: Vec<String> =
        catalogue.explain(finding, &host).reasons.into_iter().map(|r| r.text).collect();
    let text = lines.join("\n");
    for part in [
        "OSV record GHSA-jfh8-c2jp-5v3q: maven/org.apache.logging.log4j:log4j-core is affected below 2.3.1, \
         from 2.13.0 to below 2.15.0, from 2.4 to below 2.12.2.",
        "Installed: 2.12.1 in /opt/a.jar, 2.14.1 in /opt/b.jar.",
        "In Maven's order the next version without it is 2.12.2.",
        "The fix came out as GHSA-jfh8-c2jp-5v3q on 2021-12-10.",
        "What runs does not show which packages of languages it has loaded",
        "No plan brings it: it was not installed by the package manager.",
    ] {
        assert!(text.contains(part), "{part}\n--\n{text}");
    }
}

#[test]
fn two_records_of_one_vulnerability_count_together_whatever_their_order() {
    let github = record(
        "GHSA-x",
        "CVE-2018-18074",
        Ecosystem::Pypi,
        "Requests",
        &[json!([{"introduced": "0"}, {"fixed": "2.20.0"}])],
    );
    let pypa = record(
        "PYSEC-2018-28",
        "CVE-2018-18074",
        Ecosystem::Pypi,
        "requests",
        &[
            json!([{"introduced": "0"}, {"fixed": "2.19.0"}]),
            json!([{"introduced": "3.0"}, {"fixed": "3.1"}]),
        ],
    );
    for text in [format!("{github}{pypa}"), format!("{pypa}{github}")] {
        let catalogue = catalogue_of_osv(Ecosystem::Pypi, &text);
        let fixed = |version: &str| {
            let host =
                with_languages(vec![package(Ecosystem::Pypi, "requests", version, "/opt/r")]);
            of_languages(&judge(&catalogue, &host).findings)
                .first()
                .map(|f| f.fixed_version.clone().unwrap())
        };
        // Out of one range, and still in another.
        assert_eq!(fixed("2.18"), Some("2.20.0".into()));
        assert_eq!(fixed("2.19.5"), Some("2.20.0".into()));
        assert_eq!(fixed("2.20.0"), None);
        assert_eq!(fixed("3.0.1"), Some("3.1".into()));
        let said = catalogue.statement("pypi", "pypi/requests", "CVE-2018-18074").unwrap();
        assert_eq!(said.evidence.as_ref(), "OSV record GHSA-x, PYSEC-2018-28");
    }
}

#[test]
fn one_that_was_upgraded_or_removed_is_fixed_and_one_that_could_not_be_looked_for_stays() {
    let catalogue = catalogue_of_osv(
        Ecosystem::Npm,
        &record(
            "GHSA-y",
            "CVE-2021-23337",
            Ecosystem::Npm,
            "lodash",
            &[json!([{"introduced": "0"}, {"fixed": "4.17.21"}])],
        ),
    );
    let host = |versions: &[&str]| {
        let of =
            |v: &&str| package(Ecosystem::Npm, "lodash", v, "/usr/local/lib/node_modules/lodash");
        with_languages(versions.iter().map(of).collect())
    };
    let before = judge(&catalogue, &host(&["4.17.20"])).findings;
    assert_eq!(of_languages(&before)[0].state, FindingState::Open);
    for (now, installed) in [(host(&["4.17.21"]), "4.17.21"), (host(&[]), "")] {
        let judgement = judge_after(&catalogue, &now, &before);
        let found = of_languages(&judgement.findings);
        assert_eq!((found[0].state, found[0].installed.as_str()), (FindingState::Fixed, installed));
        assert!(judgement.withdrawn.is_empty());
    }
    let mut unseen = host(&[]);
    unseen.gaps =
        vec!["packages of languages: looking took more than 10 s; the rest is not listed".into()];
    let judgement = judge_after(&catalogue, &unseen, &before);
    let found = of_languages(&judgement.findings);
    assert_eq!((found[0].state, found[0].installed.as_str()), (FindingState::Open, "4.17.20"));
    // The vendor takes it back: nobody fixed anything.
    let other = catalogue_of_osv(
        Ecosystem::Npm,
        &record(
            "GHSA-y",
            "CVE-2021-23337",
            Ecosystem::Npm,
            "lodash",
            &[json!([{"introduced": "0"}, {"fixed": "4.17.20"}])],
        ),
    );
    let judgement = judge_after(&other, &host(&["4.17.20"]), &before);
    assert!(of_languages(&judgement.findings).is_empty());
    assert!(matches!(judgement.withdrawn[0].why, Withdrawal::StatementChanged { .. }));
}

#[test]
fn one_that_waits_for_a_restart_waits_until_it_is_proved_whatever_is_reported_meanwhile() {
    let lodash =
        |ranges: Value| record("GHSA-y", "CVE-2021-23337", Ecosystem::Npm, "lodash", &[ranges]);
    for (ranges, patched) in [
        (json!([{"introduced": "0"}, {"fixed": "4.17.21"}]), "4.17.21"),
        // No fix is named: another version is out of the range all the same.
        (json!([{"introduced": "0"}, {"last_affected": "4.17.20"}]), "5.0.0"),
    ] {
        let catalogue = catalogue_of_osv(Ecosystem::Npm, &lodash(ranges));
        let host = |version: &str, gaps: &[&str]| Inventory {
            gaps: gaps.iter().map(|gap| (*gap).to_owned()).collect(),
            ..with_languages(vec![package(Ecosystem::Npm, "lodash", version, "/opt/lodash")])
        };
        let mut findings = judge(&catalogue, &host("4.17.20", &[])).findings;
        for _ in 0..3 {
            let judgement =
                judge_after(&catalogue, &host(patched, &["processes: not readable"]), &findings);
            assert_eq!(judgement.withdrawn, []);
            findings = judgement.findings;
            assert_eq!(of_languages(&findings)[0].state, FindingState::PendingRestart);
        }
        let judgement = judge_after(&catalogue, &host(patched, &[]), &findings);
        assert_eq!(of_languages(&judgement.findings)[0].state, FindingState::Fixed);
    }
}

#[test]
fn the_fleet_knows_what_the_single_host_knows_and_a_language_is_no_release_of_a_system() {
    let catalogue = Arc::new(catalogue_of_osv(Ecosystem::Maven, &log4shell()));
    let name = "org.apache.logging.log4j:log4j-core";
    let mut fleet = FleetIndex::new(catalogue.clone());
    let none = BTreeMap::new();
    for (at, version) in ["2.14.1", "2.14.1", "2.17.1"].iter().enumerate() {
        let host = HostId::new(format!("h{at}"));
        let inventory =
            with_languages(vec![package(Ecosystem::Maven, name, version, "/opt/a.jar")]);
        let view = HostView {
            host: &host,
            inventory: &inventory,
            previous: &[],
            ran_before: &none,
            accepted: &[],
        };
        fleet.set_host(&view);
        assert_eq!(fleet.findings_of(&host).unwrap(), catalogue.judge(&view).findings);
    }
    assert_eq!(fleet.who_has("CVE-2021-44228").len(), 2);
    assert_eq!(fleet.findings_about("CVE-2021-44228").len(), 2);
    let worst = fleet.worst(10);
    let it = worst.iter().find(|w| w.id == "CVE-2021-44228").unwrap();
    assert_eq!((it.hosts, it.fixable_now), (2, 0));
    // A system that nothing is known of is not told to be a Maven.
    let unknown = Inventory { os: os("gentoo", "1", ""), ..bookworm() };
    let warning = judge(&catalogue, &unknown).coverage.warning().unwrap();
    assert!(warning.contains("Data is loaded for bookworm;"), "{warning}");
}

#[test]
fn ones_own_statements_reach_packages_of_languages() {
    let catalogue = |products: &str| {
        let own = format!(
            r#"{{"author":"a","timestamp":"2026-01-01","statements":[{{"vulnerability":"CVE-2021-44228",
            "products":["{products}"],"status":"not_affected","justification":"vulnerable_code_not_in_execute_path"}}]}}"#
        );
        let mut input = CatalogueInput {
            vex: vex::parse(own.as_bytes()).unwrap().records,
            advisories: vec![advisory("bookworm", ("openssl", "CVE-2024-1", "3.0.15-1", "high"))],
            ..CatalogueInput::default()
        };
        let language = Publisher::Language(Ecosystem::Maven);
        input.add_osv(osv::parse(language, log4shell().as_bytes()).unwrap().records);
        Catalogue::build(input)
    };
    let name = "org.apache.logging.log4j:log4j-core";
    let host = with_languages(vec![package(Ecosystem::Maven, name, "2.14.1", "/opt/a.jar")]);
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    for (product, counts) in [
        ("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", true),
        ("pkg:maven/org.apache.logging.log4j/log4j-core", true),
        ("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.0", false),
        ("pkg:maven/org.apache.logging.log4j/log4j-api", false),
        ("pkg:npm/log4j-core", false),
        ("pkg:deb/debian/openssl", false),
    ] {
        let catalogue = catalogue(product);
        let accepted: Vec<Exception> = catalogue.ruled_out(&["h1"], &host, now);
        let judgement = judge_with(&catalogue, &host, &[], &accepted);
        let state = of_languages(&judgement.findings)[0].state;
        assert_eq!(state == FindingState::NotAffected, counts, "{product}");
    }
}

#[test]
fn a_feed_of_a_language_alone_is_a_set_of_feeds_and_says_what_it_read() {
    let text = log4shell();
    let bytes = [(Feed::Osv(Publisher::Language(Ecosystem::Maven)), text.as_bytes())].into();
    let loaded = load(&Feeds { bytes, as_of: BTreeMap::new() }).unwrap();
    assert_eq!(loaded.feeds[0].records, 1);
    assert_eq!(loaded.catalogue.releases().collect::<Vec<_>>(), ["maven"]);
}

/// The evaluation as the OSV schema writes it down, slow and obvious: sort the events, then let each speak.
fn is_vulnerable(scheme: Scheme, version: &str, ranges: &[Vec<(&str, &str)>]) -> bool {
    let at_least = |bound: &str| bound == "0" || scheme.compare_lenient(version, bound).is_ge();
    ranges.iter().any(|events| {
        let mut sorted = events.clone();
        sorted.sort_by(|a, b| match (a.1, b.1) {
            ("0", "0") => std::cmp::Ordering::Equal,
            ("0", _) => std::cmp::Ordering::Less,
            (_, "0") => std::cmp::Ordering::Greater,
            (a, b) => scheme.compare_lenient(a, b),
        });
        let mut vulnerable = false;
        for (kind, bound) in sorted {
            match kind {
                "introduced" if at_least(bound) => vulnerable = true,
                "fixed" if at_least(bound) => vulnerable = false,
                "last_affected"
                    if at_least(bound) && scheme.compare_lenient(version, bound).is_ne() =>
                {
                    vulnerable = false;
                }
                _ => {}
            }
        }
        vulnerable
    })
}

#[test]
fn packages_of_a_language_without_its_data_are_told_as_not_known() {
    let catalogue = catalogue_of_osv(
        Ecosystem::Npm,
        &record("GHSA-z", "CVE-2021-1", Ecosystem::Npm, "a", &[json!([{"introduced": "0"}])]),
    );
    let host = with_languages(vec![
        package(Ecosystem::Npm, "a", "1.0.0", "/opt/x"),
        package(Ecosystem::Pypi, "jinja2", "2.0", "/opt/y"),
        package(Ecosystem::Pypi, "flask", "2.0", "/opt/z"),
    ]);
    let told = judge(&catalogue, &host).languages;
    let unknown: Vec<_> = told.keys().copied().collect();
    assert_eq!(unknown, [Ecosystem::Pypi]);
    let warning = told[&Ecosystem::Pypi].warning().unwrap();
    assert!(
        warning.contains("osv-pypi") && warning.contains("of 2 that are installed"),
        "{warning}"
    );
}

/// Versions in no order, each of every scheme.
const VERSIONS: [&str; 9] =
    ["0", "1.0.0", "1.2.0", "1.10.0", "2.0.0", "2.0.1", "3.0.0", "10.0.0", "11.0.0"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_published_a_host_is_affected_as_the_schema_evaluates_it(
        // Events of one range: starts and ends in turn, as publishers write them.
        places in prop::collection::vec(prop::sample::subsequence((0..VERSIONS.len()).collect::<Vec<_>>(), 1..6), 1..3),
        last in any::<bool>(),
        which in 0..Ecosystem::ALL.len(),
        installed in 1..VERSIONS.len(),
    ) {
        let ecosystem = Ecosystem::ALL[which];
        let end = if last { "last_affected" } else { "fixed" };
        let of = |places: &Vec<usize>| -> Vec<(&str, &str)> {
            places.iter().enumerate().map(|(n, &p)| (if n % 2 == 0 { "introduced" } else { end }, VERSIONS[p])).collect()
        };
        let ranges: Vec<Vec<(&str, &str)>> = places.iter().map(of).collect();
        let events: Vec<Value> = ranges.iter().map(|events| {
            let mut list: Vec<Value> = events.iter().map(|(kind, version)| json!({*kind: version})).collect();
            list.reverse();
            json!(list)
        }).collect();
        let name = if ecosystem == Ecosystem::Maven { "g:a" } else { "a" };
        let catalogue = catalogue_of_osv(ecosystem, &record("GHSA-z", "CVE-2021-1", ecosystem, name, &events));
        let version = VERSIONS[installed];
        let host = with_languages(vec![package(ecosystem, name, version, "/opt/x")]);
        let judgement = judge(&catalogue, &host);
        let found = of_languages(&judgement.findings);
        prop_assert_eq!(found.len() == 1, is_vulnerable(ecosystem.scheme(), version, &ranges), "{} {:?}", version, ranges);
        // A fix that is named is none of the affected versions.
        if let Some(fixed) = found.first().and_then(|f| f.fixed_version.as_deref()) {
            prop_assert!(!is_vulnerable(ecosystem.scheme(), fixed, &ranges), "{} {:?}", fixed, ranges);
        }
    }
}
