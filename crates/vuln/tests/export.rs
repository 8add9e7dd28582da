//! What is written for other programs says what was found, and names it as others do.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::Inventory;
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::root::{Root, RootKind};
use fettle_vuln::export::{FleetBill, Member, Subject, cyclonedx, sarif};
use fettle_vuln::exposure::ONLY_PACKAGES_GAP;
use fettle_vuln::exposure::Reason;
use fettle_vuln::feed::purl::Purl;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::*;

fn host() -> Inventory {
    Inventory {
        packages: vec![
            built("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1"),
            package("openssl", "3.0.11-1"),
            package("perl", "1:5.36.0-7"),
            package("zlib1g", "1.2.13-1"),
        ]
        .into(),
        languages: vec![
            LanguagePackage {
                ecosystem: Ecosystem::Maven,
                name: "org.apache.logging.log4j:log4j-core".into(),
                version: "2.14.1".into(),
                location: "/opt/my app/app.jar!/lib/log4j.jar".into(),
            },
            LanguagePackage {
                ecosystem: Ecosystem::Npm,
                name: "@babel/core".into(),
                version: "7.0.0".into(),
                location: "/usr/local/lib/node_modules/@babel/core".into(),
            },
        ],
        gaps: vec!["services: no systemd".into()],
        in_use: vec!["libssl3".into()],
        ..bookworm()
    }
}

/// One finding in each state, with its reasons.
fn found(host: &Inventory) -> Vec<(Finding, Vec<Reason>)> {
    let catalogue = catalogue(&[
        ("openssl", "CVE-2024-1", "3.0.15-1", "high"),
        ("openssl", "CVE-2024-2", "<no-dsa> Minor", "low"),
        ("perl", "CVE-2024-3", "1:5.36.0-8", "unimportant"),
        ("zlib1g", "CVE-2024-4", "1.3-1", ""),
    ]);
    let mut accepted = exception("CVE-2024-3", None);
    accepted.verdict = fettle_vuln::exposure::Verdict::NotAffected;
    let judgement = judge_with(&catalogue, host, &[], &[accepted, exception("CVE-2024-4", None)]);
    let mut findings = judgement.findings;
    let log4j = Finding {
        id: "CVE-2021-44228".into(),
        source: "maven/org.apache.logging.log4j:log4j-core".into(),
        binaries: vec!["/opt/my app/app.jar!/lib/log4j.jar".into()],
        fixed_version: Some("2.15.0".into()),
        ..findings[0].clone()
    };
    let gone =
        Finding { id: "CVE-2023-9".into(), state: FindingState::Fixed, ..findings[0].clone() };
    findings.extend([log4j, gone]);
    findings[0].ranking.cvss = Some(9.8);
    findings[0].ranking.cvss_vector = Some("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H".into());
    findings
        .into_iter()
        .map(|f| {
            let why = catalogue.explain(&f, host).reasons;
            (f, why)
        })
        .collect()
}

fn written(write: fn(&Subject<'_>) -> Value) -> Value {
    let host = host();
    let findings = found(&host);
    let states: BTreeSet<FindingState> = findings.iter().map(|(f, _)| f.state).collect();
    assert_eq!(states.len(), 5, "{states:?}");
    write(&Subject {
        name: "web-1",
        inventory: &host,
        findings: &findings,
        read_from: None,
        at: "2026-11-29T12:00:00.5Z".parse().unwrap(),
        tool: "fettle-agent",
        version: "0.1.0",
    })
}

#[test]
fn cyclonedx_names_every_component_by_its_package_url_and_every_finding_with_its_analysis() {
    let it = written(cyclonedx);
    assert_eq!((&it["bomFormat"], &it["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    assert_eq!(it["metadata"]["timestamp"], "2026-11-29T12:00:00Z");
    let components = it["components"].as_array().unwrap();
    let purls: Vec<&str> = components.iter().filter_map(|c| c["purl"].as_str()).collect();
    assert_eq!(
        purls,
        [
            "pkg:deb/debian/libssl3@3.0.11-1%2Bb1?arch=amd64&distro=debian-12",
            "pkg:deb/debian/openssl@3.0.11-1?arch=amd64&distro=debian-12",
            "pkg:deb/debian/perl@1%3A5.36.0-7?arch=amd64&distro=debian-12",
            "pkg:deb/debian/zlib1g@1.2.13-1?arch=amd64&distro=debian-12",
            "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
            "pkg:npm/%40babel/core@7.0.0",
        ]
    );
    for purl in &purls {
        Purl::parse(purl).unwrap();
    }
    let refs: BTreeSet<&str> = components.iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
    assert_eq!(refs.len(), components.len());
    let vulnerabilities = it["vulnerabilities"].as_array().unwrap();
    let said: Vec<(&str, &str, Value)> = vulnerabilities
        .iter()
        .map(|v| {
            let response = v["analysis"]["response"][0].clone();
            (v["id"].as_str().unwrap(), v["analysis"]["state"].as_str().unwrap(), response)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("CVE-2024-1", "exploitable", json!("update")),
            ("CVE-2024-2", "exploitable", json!("can_not_fix")),
            ("CVE-2024-3", "not_affected", Value::Null),
            ("CVE-2024-4", "exploitable", json!("will_not_fix")),
            ("CVE-2021-44228", "exploitable", json!("update")),
            ("CVE-2023-9", "resolved", Value::Null),
        ]
    );
    for vulnerability in vulnerabilities {
        assert!(vulnerability["analysis"]["detail"].as_str().unwrap().len() > 20);
        for affected in vulnerability["affects"].as_array().unwrap() {
            assert!(refs.contains(affected["ref"].as_str().unwrap()), "{affected}");
        }
    }
    let openssl = &vulnerabilities[0];
    let affected: Vec<&str> =
        openssl["affects"].as_array().unwrap().iter().map(|a| a["ref"].as_str().unwrap()).collect();
    assert_eq!(affected, [purls[0], purls[1]]);
    assert_eq!(
        openssl["ratings"],
        json!([{"severity": "critical", "score": 9.8, "method": "CVSSv31",
                "vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}])
    );
    assert_eq!(vulnerabilities[4]["affects"][0]["ref"], purls[4]);
    assert_eq!(it, written(cyclonedx), "the same again is the same document");
    let serial = it["serialNumber"].as_str().unwrap();
    assert!(serial.starts_with("urn:uuid:") && serial.len() == 45 && serial.as_bytes()[23] == b'8');
}

/// Two hosts alike, a third that is patched and has a container of the first kind, and one that has told nothing.
fn of_a_fleet() -> Value {
    let old = host();
    let found_on = |host: &Inventory, root: Option<&str>| -> Vec<Finding> {
        let named = |f: Finding| match root {
            Some(id) => Finding { source: fettle_core::root::subject(id, &f.source), ..f },
            None => f,
        };
        found(host).into_iter().map(|(finding, _)| named(finding)).collect()
    };
    let mut new = host();
    new.packages[1] = package("openssl", "3.0.15-1");
    new.languages.remove(0);
    new.roots.push(Root {
        kind: RootKind::Docker,
        name: "shop".into(),
        image: "example/shop:1".into(),
        location: String::new(),
        running: true,
        os: old.os.clone(),
        architecture: "amd64".into(),
        packages: old.packages.clone(),
        gaps: vec![],
    });
    let of_old = found_on(&old, None);
    let mut of_new = found_on(&old, Some("docker:shop"));
    let of_debian = |f: &Finding| !f.package().starts_with("maven");
    of_new.retain(of_debian);
    // Its own, in the same state as that of its container: it is one host all the same.
    of_new.push(of_old.iter().find(|f| f.id == "CVE-2024-4").unwrap().clone());
    let mut bill = FleetBill::default();
    for (id, name, inventory, findings) in [
        ("h-1", "web-1", Some(&old), &of_old),
        ("h-2", "web-2", Some(&old), &of_old),
        ("h-3", "db-1", Some(&new), &of_new),
        ("h-4", "mute", None, &vec![]),
    ] {
        bill.add(&Member { id, name, inventory, findings });
    }
    let mut written = Vec::new();
    let at = "2026-11-29T12:00:00.5Z".parse().unwrap();
    bill.write("env=prod", at, ("fettle", "0.1.0"), &mut written).unwrap();
    let read = fettle_vuln::sbom::parse(&written).unwrap();
    assert!(read.packages.iter().any(|p| p.name == "openssl" && p.version == "3.0.15-1"));
    serde_json::from_slice(&written).unwrap()
}

/// What of a document is not as CycloneDX 1.6 has it.
fn against_the_schema(document: &Value) -> Result<(), String> {
    const BASE: &str = "http://cyclonedx.org/schema";
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.enable_format_assertions();
    for (name, text) in [
        ("bom-1.6.schema.json", include_str!("cyclonedx/bom-1.6.SNAPSHOT.schema.json")),
        ("spdx.SNAPSHOT.schema.json", include_str!("cyclonedx/spdx.SNAPSHOT.schema.json")),
        ("jsf-0.82.SNAPSHOT.schema.json", include_str!("cyclonedx/jsf-0.82.SNAPSHOT.schema.json")),
    ] {
        let mut schema: Value = serde_json::from_str(text).unwrap();
        // Each is found by the name that the others call it.
        schema["$id"] = json!(format!("{BASE}/{name}"));
        compiler.add_resource(&format!("{BASE}/{name}"), schema).unwrap();
    }
    let bom = compiler.compile(&format!("{BASE}/bom-1.6.schema.json"), &mut schemas).unwrap();
    schemas.validate(document, bom).map_err(|wrong| format!("{wrong:#}"))
}

#[test]
fn bills_of_a_host_and_of_a_fleet_are_as_the_schema_of_cyclonedx_has_them() {
    for document in [written(cyclonedx), of_a_fleet()] {
        against_the_schema(&document).unwrap();
        // The schema is strict enough to tell.
        for (at, wrong) in [
            ("/components/0/type", json!("thing")),
            ("/vulnerabilities/0/analysis/state", json!("open")),
            ("/serialNumber", json!("1")),
            ("/metadata/timestamp", json!("yesterday")),
        ] {
            let mut spoilt = document.clone();
            *spoilt.pointer_mut(at).unwrap() = wrong;
            assert!(against_the_schema(&spoilt).is_err(), "{at}");
        }
    }
}

fn told<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = of["properties"].as_array().unwrap().iter();
    all.find(|p| p["name"] == format!("fettle:{name}"))?["value"].as_str()
}

#[test]
fn of_a_fleet_each_component_is_listed_once_and_the_hosts_that_have_it_can_be_counted() {
    let it = of_a_fleet();
    assert_eq!((&it["bomFormat"], &it["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    let whole = &it["metadata"]["component"];
    assert_eq!((&whole["name"], told(whole, "hosts")), (&json!("env=prod"), Some("4")));
    assert_eq!(it["metadata"]["properties"][0]["value"], "mute has not told what it has");
    let components = it["components"].as_array().unwrap();
    let by_ref: BTreeMap<&str, &Value> =
        components.iter().map(|c| (c["bom-ref"].as_str().unwrap(), c)).collect();
    assert_eq!(by_ref.len(), components.len(), "each once");
    let graph: BTreeMap<&str, Vec<&str>> = it["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let on = d["dependsOn"].as_array().unwrap().iter().map(|r| r.as_str().unwrap());
            (d["ref"].as_str().unwrap(), on.collect())
        })
        .collect();
    assert_eq!(graph["fleet"], ["host:h-1", "host:h-2", "host:h-3", "host:h-4"]);
    for (of, on) in &graph {
        assert!(*of == "fleet" || by_ref.contains_key(of), "{of}");
        assert!(on.iter().all(|it| by_ref.contains_key(it)), "{on:?}");
    }
    // What a component says of how many hosts have it is what the graph says.
    let mut has: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for host in &graph["fleet"] {
        let mut left = graph[host].clone();
        while let Some(next) = left.pop() {
            has.entry(next).or_default().insert(host);
            left.extend(graph.get(next).into_iter().flatten());
        }
    }
    for (reference, component) in by_ref.iter().filter(|(_, c)| c["type"] != "device") {
        let hosts = has[reference].len().to_string();
        assert_eq!(told(component, "hosts"), Some(hosts.as_str()), "{reference}");
    }
    let openssl =
        |version: &str| format!("pkg:deb/debian/openssl@{version}?arch=amd64&distro=debian-12");
    assert_eq!(has[openssl("3.0.11-1").as_str()].len(), 3, "of the third, its container");
    assert_eq!(has[openssl("3.0.15-1").as_str()].len(), 1);
    assert_eq!(has["pkg:npm/%40babel/core@7.0.0"].len(), 3);
    assert_eq!(has["pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"].len(), 2);
    assert_eq!(graph["host:h-1"][0], graph["host:h-2"][0], "they are of one cohort");
    assert!(graph.contains_key("host:h-3/docker:shop"));
}

#[test]
fn of_a_fleet_each_statement_is_made_once_with_the_components_and_how_many_hosts_it_is_about() {
    let it = of_a_fleet();
    let refs: BTreeSet<&str> =
        it["components"].as_array().unwrap().iter().filter_map(|c| c["bom-ref"].as_str()).collect();
    let statements = it["vulnerabilities"].as_array().unwrap();
    let own: BTreeSet<&str> = statements.iter().map(|v| v["bom-ref"].as_str().unwrap()).collect();
    assert_eq!(own.len(), statements.len());
    let said: Vec<(&str, &str, &str)> = statements
        .iter()
        .map(|v| {
            let state = v["analysis"]["state"].as_str().unwrap();
            (v["id"].as_str().unwrap(), state, told(v, "hosts").unwrap())
        })
        .collect();
    assert_eq!(
        said,
        [
            ("CVE-2021-44228", "exploitable", "2"),
            ("CVE-2023-9", "resolved", "3"),
            ("CVE-2024-1", "exploitable", "3"),
            ("CVE-2024-2", "exploitable", "3"),
            ("CVE-2024-3", "not_affected", "3"),
            ("CVE-2024-4", "exploitable", "3"),
        ]
    );
    for statement in statements {
        let affects = statement["affects"].as_array().unwrap();
        assert!(!affects.is_empty(), "{statement}");
        for affected in affects {
            assert!(refs.contains(affected["ref"].as_str().unwrap()), "{affected}");
        }
    }
    assert_eq!(statements[2]["analysis"]["detail"], "On 3 hosts: open");
    assert_eq!(it, of_a_fleet(), "the same again is the same document");
}

#[test]
fn sarif_has_one_rule_for_each_vulnerability_and_one_result_for_each_finding_that_is_not_gone() {
    let it = written(sarif);
    assert_eq!(it["version"], "2.1.0");
    let run = &it["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (5, 5));
    let mut prints = BTreeSet::new();
    for result in results {
        let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(prints.insert(result["partialFingerprints"]["findingHash/v1"].as_str().unwrap()));
        assert!(!result["locations"].as_array().unwrap().is_empty(), "{result}");
    }
    let of = |id: &str| results.iter().find(|r| r["ruleId"] == id).unwrap();
    assert_eq!(of("CVE-2024-1")["level"], "error");
    assert_eq!(of("CVE-2024-3")["level"], "note");
    assert_eq!(of("CVE-2024-3")["suppressions"][0]["status"], "accepted");
    assert_eq!(of("CVE-2024-1")["suppressions"], json!([]));
    let places = of("CVE-2021-44228")["locations"].clone();
    assert_eq!(
        places[0]["physicalLocation"]["artifactLocation"]["uri"],
        "file:///opt/my%20app/app.jar"
    );
    assert_eq!(
        places[0]["logicalLocations"][0]["fullyQualifiedName"],
        "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"
    );
    let first = rules.iter().find(|r| r["id"] == "CVE-2024-1").unwrap();
    assert_eq!(first["properties"]["security-severity"], "9.8");
    let notes = &run["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notes[0]["message"]["text"], "not known: services: no systemd");
}

#[test]
fn of_a_file_that_lists_packages_use_and_offer_are_not_looked_at_and_the_place_is_that_file() {
    let mut host = host();
    host.in_use.clear();
    host.exposed.clear();
    host.upgrades.clear();
    host.gaps = vec![format!("{ONLY_PACKAGES_GAP}: only a file is known")];
    let findings = found(&host);
    let subject = Subject {
        name: "local",
        inventory: &host,
        findings: &findings,
        read_from: Some("image/status"),
        at: "2026-11-29T12:00:00Z".parse().unwrap(),
        tool: "fettle-agent",
        version: "0.1.0",
    };
    let told = sarif(&subject);
    let results = told["runs"][0]["results"].as_array().unwrap();
    let open = results.iter().find(|r| r["properties"]["state"] == "open").unwrap();
    let text = open["message"]["text"].as_str().unwrap();
    assert!(
        text.contains("What runs was not looked at") && text.contains("was not looked at."),
        "{text}"
    );
    assert!(
        !text.contains("no running process was seen") && !text.contains("not offered by"),
        "{text}"
    );
    assert!(open["properties"]["offered"].is_null() && open["properties"]["inUse"].is_null());
    assert_eq!(open["properties"]["notLookedAt"], json!(["offered", "inUse", "exposed"]));
    let place = &open["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "image/status");
    let vex = cyclonedx(&subject);
    let properties = vex["vulnerabilities"][0]["properties"].as_array().unwrap();
    let unknown = properties.iter().filter(|p| p["name"] == "fettle:not-looked-at");
    let unknown: Vec<&str> = unknown.map(|p| p["value"].as_str().unwrap()).collect();
    assert_eq!(unknown, ["offered", "in-use", "exposed"]);
}
