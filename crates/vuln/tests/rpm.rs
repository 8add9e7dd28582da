//! Vendors of rpm packages, and Alpine: real documents, and hosts judged by them.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::finding::FindingState;
use fettle_core::inventory::{Inventory, Os};
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage};
use fettle_vuln::feed::csaf::redhat;
use fettle_vuln::feed::osv::OsvRecord;
use fettle_vuln::feed::updateinfo::{self, RpmVendor};
use fettle_vuln::feed::{Feed, cve, secdb};
use fettle_vuln::snapshot::{Feeds, load};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::*;

fn archive() -> Option<Vec<u8>> {
    Some(unzstd(&shared("golden/vuls-data-update-testdata.tar.zst")?))
}

fn rows(records: &[OsvRecord]) -> BTreeSet<(String, String, String, String)> {
    let statements = records.iter().flat_map(|r| &r.statements);
    statements.map(row).collect()
}

fn row(a: &Advisory) -> (String, String, String, String) {
    let status = match &a.status {
        AdvisoryStatus::Fixed { version } => version.clone(),
        AdvisoryStatus::NotAffected => "never".to_owned(),
        AdvisoryStatus::Undetermined => "undetermined".to_owned(),
        AdvisoryStatus::Open { .. } => "open".to_owned(),
        AdvisoryStatus::Ranges { .. } => "ranges".to_owned(),
    };
    (a.id.clone(), a.release.clone(), a.source.clone(), status)
}

#[test]
fn updateinfo_as_repositories_publish_it_equals_what_another_project_reads_of_it() {
    let Some(archive) = archive() else { return };
    let files = tar(&archive);
    let mut compared = 0;
    for (vendor, directory) in [(RpmVendor::AlmaLinux, "alma"), (RpmVendor::Rocky, "rocky")] {
        let mut documents = Vec::new();
        for (name, file) in &files {
            let of_vendor =
                name.contains(&format!("fetch/{directory}/updateinfo/testdata/fixtures/happy"));
            if of_vendor && name.ends_with("updateinfo.xml.gz") {
                documents.extend(unpacked("gzip", file));
                documents.push(b'\n');
            }
        }
        let parsed = updateinfo::parse(vendor, &documents).unwrap();
        for error in &parsed.errors {
            println!("{error}");
        }
        let ours = rows(&parsed.records);
        // The reference: straight from the other project's JSON of the same documents.
        let golden = format!("fetch/{directory}/updateinfo/testdata/golden/happy");
        for (name, file) in
            files.iter().filter(|(n, _)| n.contains(&golden) && n.contains("/updateinfo/"))
        {
            let Ok(json) = serde_json::from_slice::<Value>(file) else { continue };
            if json["type"] != "security" {
                continue;
            }
            println!("{name}");
            let text = json.to_string();
            let cves: BTreeSet<String> = text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .filter(|w| w.starts_with("CVE-") && w.len() > 10)
                .map(str::to_owned)
                .collect();
            let mut packages = Vec::new();
            collect(&json, &mut packages);
            assert!(!cves.is_empty() && !packages.is_empty(), "{json}");
            for package in packages {
                let of = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
                let (release, version) = (of("release"), of("version"));
                if release.contains("module") {
                    continue;
                }
                let epoch = match of("epoch").as_str() {
                    "" | "0" => String::new(),
                    epoch => format!("{epoch}:"),
                };
                let number = &release[release.find(".el").unwrap() + 3..][..1];
                let name = match vendor {
                    RpmVendor::Rocky => {
                        of("src").split(&format!("-{version}-")).next().unwrap().to_owned()
                    }
                    _ => of("name"),
                };
                for cve in &cves {
                    let row = (
                        cve.clone(),
                        format!("{}:{number}", vendor.os()),
                        name.clone(),
                        format!("{epoch}{version}-{release}"),
                    );
                    assert!(ours.contains(&row), "{row:?} is not among {ours:?}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 4, "{compared}");
}

/// Every object with a name, version and release, at any depth.
fn collect<'v>(json: &'v Value, found: &mut Vec<&'v Value>) {
    match json {
        Value::Object(map) => {
            if map.contains_key("name")
                && map.contains_key("version")
                && map.contains_key("release")
            {
                found.push(json);
            }
            map.values().for_each(|v| collect(v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, found)),
        _ => {}
    }
}

#[test]
fn amazons_and_fedoras_real_documents_are_read_or_named() {
    let Some(archive) = archive() else { return };
    let mut told = Vec::new();
    for (name, file) in tar(&archive) {
        let (vendor, text) = match name.rsplit('.').next() {
            Some("gz") if name.contains("fetch/amazon/testdata/fixtures/updateinfo_") => {
                (RpmVendor::Amazon, unpacked("gzip", file))
            }
            Some("xz") if name.contains("fetch/fedora/updateinfo") => {
                (RpmVendor::Fedora, unpacked("xz", file))
            }
            Some("zst") if name.contains("fetch/fedora/updateinfo") => {
                (RpmVendor::Fedora, unpacked("zstd", file))
            }
            _ => continue,
        };
        let short = name.rsplit('/').next().unwrap();
        told.push(match updateinfo::parse(vendor, &text) {
            Ok(parsed) => format!(
                "{short}: {} updates, releases {:?}, {} named",
                parsed.records.len(),
                rows(&parsed.records).iter().map(|r| r.1.clone()).collect::<BTreeSet<_>>(),
                parsed.rejected()
            ),
            Err(e) => format!("{short}: {e}"),
        });
    }
    told.sort();
    println!("{told:#?}");
    let has = |file: &str, what: &str| {
        assert!(
            told.iter().any(|t| t.starts_with(file) && t.contains(what)),
            "{file} {what}: {told:#?}"
        );
    };
    has("updateinfo_1.", "amzn:2018");
    has("updateinfo_2.", "amzn:2\"");
    // Cut down to updates without packages by whoever made the archive.
    has("updateinfo_2022.", "holds no usable record");
    has("updateinfo_2023.", "amzn:2023");
    has("updateinfo_2_kernel-5.15.", "amzn:2\"");
    has("updateinfo_2023_kernel-livepatch.", "has versions of its own");
    has("updateinfo_invalid_xml.", "Amazon Linux updateinfo feed is");
}

#[test]
fn red_hats_documents_say_of_rhel_what_another_project_reads_of_them() {
    let Some(archive) = archive() else { return };
    let files = tar(&archive);
    let (mut documents, mut named) = (0, Vec::new());
    let (mut all, mut given) = (Vec::new(), BTreeSet::new());
    for (name, file) in &files {
        let fixture = name.contains("extract/redhat/csaf/testdata/fixtures/csaf/")
            || name.contains("extract/redhat/vex/v1/testdata/fixtures/vex/");
        if !fixture || !name.ends_with(".json") {
            continue;
        }
        documents += 1;
        given.insert(name.rsplit('/').next().unwrap());
        match redhat::parse(file) {
            Ok(parsed) => {
                named.extend(parsed.errors.iter().map(|e| format!("{name}: {e}")));
                all.extend(parsed.records);
            }
            Err(e) => named.push(format!("{name}: {e}")),
        }
    }
    println!("{documents} documents, {} with statements; named: {named:#?}", all.len());
    assert!(documents >= 15 && all.len() >= 8, "{documents} {}", all.len());
    let ours = rows(&all);
    // The reference: which packages of which version the other project's output names for RHEL itself.
    let mut compared = BTreeSet::new();
    let golden = [
        "extract/redhat/csaf/testdata/golden/data/",
        "extract/redhat/vex/v1/testdata/golden/data/",
    ];
    for (name, file) in files.iter().filter(|(n, _)| golden.iter().any(|g| n.contains(g))) {
        // Some of its documents are not in the archive, and Satellite is no release of a host.
        if !given.contains(name.rsplit('/').next().unwrap()) {
            continue;
        }
        let json: Value = serde_json::from_slice(file).unwrap();
        for detection in json["detections"].as_array().into_iter().flatten() {
            let Some(number) =
                detection["ecosystem"].as_str().and_then(|e| e.strip_prefix("redhat:"))
            else {
                continue;
            };
            for condition in detection["conditions"].as_array().into_iter().flatten() {
                // `…:8::baseos` and the like; extended support has releases of its own here.
                let text = condition.to_string();
                if text.contains("rhel_eus")
                    || text.contains("rhel_aus")
                    || text.contains("rhel_e4s")
                    || text.contains("rhel_tus")
                {
                    continue;
                }
                let mut criteria = Vec::new();
                fixed_in(&condition["criteria"], &mut criteria);
                for (package, module, version) in criteria {
                    if ["sat", "pc"].iter().any(|of| version.ends_with(of)) {
                        continue;
                    }
                    compared.insert((number.to_owned(), package, module, version, name.clone()));
                }
            }
        }
    }
    let mut missed = Vec::new();
    for (number, package, module, version, name) in &compared {
        let package = match module.as_str() {
            "" => package.clone(),
            module => format!("{module}/{package}"),
        };
        let found = ours.iter().any(|(_, release, source, status)| {
            // Extended support has releases of its own here.
            let its = release.rsplit(':').next().and_then(|r| r.split('.').next());
            release.starts_with("rhel")
                && its == Some(number.split('.').next().unwrap())
                && *source == package
                && status == version.trim_start_matches("0:")
        });
        if !found && !package.ends_with("-debuginfo") && !package.ends_with("-debugsource") {
            missed.push(format!("{number} {package} {version} ({name})"));
        }
    }
    println!(
        "{} of the other project's fixed packages, {} missed: {missed:#?}",
        compared.len(),
        missed.len()
    );
    assert!(compared.len() >= 300, "{}", compared.len());
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Package, `module:stream`, fixed version.
fn fixed_in(criteria: &Value, found: &mut Vec<(String, String, String)>) {
    for inner in criteria["criterias"].as_array().into_iter().flatten() {
        fixed_in(inner, found);
    }
    for criterion in criteria["criterions"].as_array().into_iter().flatten() {
        let version = &criterion["version"];
        let binary = &version["package"]["binary"];
        let (Some(name), Some(fixed)) =
            (binary["name"].as_str(), version["affected"]["fixed"][0].as_str())
        else {
            continue;
        };
        let (module, package) = name.split_once("::").unwrap_or(("", name));
        found.push((package.to_owned(), module.to_owned(), fixed.to_owned()));
    }
}

#[test]
fn alpines_database_is_read_as_published() {
    let Some(archive) = archive() else { return };
    let mut text = Vec::new();
    let mut pairs = 0;
    for (name, file) in tar(&archive) {
        if name.contains("fetch/alpine/secdb/testdata/fixtures/") && name.ends_with(".json") {
            let json: Value = serde_json::from_slice(file).unwrap();
            for package in json["packages"].as_array().unwrap() {
                let fixes = package["pkg"]["secfixes"].as_object().unwrap();
                pairs += fixes.values().map(|ids| ids.as_array().unwrap().len()).sum::<usize>();
            }
            text.extend(file);
            text.push(b'\n');
        }
    }
    let parsed = secdb::parse(&text).unwrap();
    for error in &parsed.errors {
        println!("{error}");
    }
    println!("{} statements of {pairs} entries", parsed.records.len());
    assert!(parsed.records.len() >= pairs && parsed.rejected() == 0);
    assert!(parsed.records.iter().any(|a| a.release == "alpine:3.16" && a.source == "advancecomp"));
    let never = parsed.records.iter().filter(|a| a.status == AdvisoryStatus::NotAffected).count();
    println!("{never} never affected");
}

#[test]
fn a_module_counts_within_its_stream_alone_and_without_one_is_said_not_to_be_judged() {
    let update = |stream: &str, version: &str| {
        format!(
            "<updates><update type=\"security\"><id>ALSA-2023:{stream}</id><severity>Important</severity>\
             <references><reference id=\"CVE-2023-1{stream}00\" type=\"cve\"/></references><pkglist><collection>\
             <module name=\"nodejs\" stream=\"{stream}\"/><package name=\"nodejs\" version=\"{version}\" \
             release=\"1.module_el9.1.0+16+91bc168f\" epoch=\"1\"/></collection></pkglist></update></updates>\n"
        )
    };
    let text = format!("{}{}", update("18", "18.18.2"), update("20", "20.9.0"));
    let bytes = BTreeMap::from([(Feed::UpdateInfo(RpmVendor::AlmaLinux), text.as_bytes())]);
    let catalogue = load(&Feeds { bytes, ..Feeds::default() }).unwrap().catalogue;
    let host = |module: &str, version: &str| {
        let version = format!("1:{version}-1.module_el9.1.0+16+91bc168f");
        let mut package = package("nodejs", &version);
        package.module = module.into();
        Inventory { os: os("almalinux", "9.4", ""), ..with(&[package]) }
    };
    for (module, version, expected) in [
        ("nodejs:18", "18.16.0", vec!["CVE-2023-11800"]),
        ("nodejs:18", "18.18.2", vec![]),
        // Below the fix of stream 20 in number, and not affected by it.
        ("nodejs:20", "20.9.0", vec![]),
        ("nodejs:20", "20.8.0", vec!["CVE-2023-12000"]),
        ("nodejs:16", "16.1.0", vec![]),
    ] {
        let judgement = judge(&catalogue, &host(module, version));
        let found: Vec<&str> = judgement.findings.iter().map(|f| f.id.as_str()).collect();
        assert_eq!(found, expected, "{module} {version}");
        assert!(
            matches!(&judgement.coverage, Coverage::Release { odd_versions, .. } if odd_versions.is_empty())
        );
    }
    let unknown = judge(&catalogue, &host("", "18.16.0"));
    assert_eq!(unknown.findings, []);
    assert!(
        matches!(&unknown.coverage, Coverage::Release { odd_versions, .. } if odd_versions.len() == 1)
    );
    // Without a module the package is another one, whatever its number.
    let plain =
        Inventory { os: os("almalinux", "9.4", ""), ..with(&[package("nodejs", "1:16.0-1.el9")]) };
    assert_eq!(judge(&catalogue, &plain).findings, []);
}

#[test]
fn a_statement_of_each_source_is_explained_with_its_document_and_its_day() {
    let update = "<updates><update type=\"security\"><id>ALAS2023-2023-001</id><issued date=\"2023-02-17\"/><severity>Important</severity>\
        <references><reference id=\"CVE-2022-24903\" type=\"cve\"/></references><pkglist><collection short=\"amazon-linux-2023\">\
        <package name=\"rsyslog\" version=\"8.2204.0\" release=\"3.amzn2023.0.2\" epoch=\"0\" arch=\"x86_64\"/></collection></pkglist></update></updates>";
    let feed = Feed::UpdateInfo(RpmVendor::Amazon);
    let bytes = BTreeMap::from([(feed, update.as_bytes())]);
    let as_of = BTreeMap::from([(feed, "2026-11-01".parse().unwrap())]);
    let catalogue = load(&Feeds { bytes, as_of }).unwrap().catalogue;
    let os = Os { id: "amzn".into(), version: "2023".into(), ..Os::default() };
    let host = Inventory {
        os,
        ..with(&[built("rsyslog", "8.2102.0-1.amzn2023", "rsyslog", "8.2102.0-1.amzn2023")])
    };
    let found = judge(&catalogue, &host).findings;
    assert_eq!(found.len(), 1);
    let told: String =
        catalogue.explain(&found[0], &host).reasons.into_iter().map(|r| r.text + "\n").collect();
    for part in [
        "updateinfo ALAS2023-2023-001, as of 2026-11-01: rsyslog is fixed in amzn:2023 from 8.2204.0-3.amzn2023.0.2 on",
        "The fix came out as ALAS2023-2023-001 on 2023-02-17",
        "about this very package",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

fn fact<'c>(all: &'c [cve::CveFacts], id: &str) -> &'c cve::CveFacts {
    all.iter().find(|f| f.id == id).unwrap()
}

#[test]
fn real_cve_records_give_the_scores_and_decisions_that_were_read_from_them_before() {
    let (Some(records), Some(rows)) = (
        shared_text("vulnrichment/cve5-sample-1in60.jsonl.zst"),
        shared_text("vulnrichment/vulnrichment-cvss-ssvc.tsv.zst"),
    ) else {
        return;
    };
    let parsed = cve::parse(records.as_bytes()).unwrap();
    println!(
        "{} records, {} named: {:#?}",
        parsed.records.len(),
        parsed.rejected(),
        &parsed.errors[..parsed.errors.len().min(5)]
    );
    assert!(parsed.records.len() > 700 && parsed.rejected() * 100 <= parsed.records.len());
    let known: BTreeMap<&str, &cve::CveFacts> =
        parsed.records.iter().map(|f| (f.id.as_str(), f)).collect();
    let (mut scores, mut decisions) = (0, 0);
    for row in rows.lines().skip(1) {
        let f: Vec<&str> = row.split('\t').collect();
        let Some(facts) = known.get(f[0]) else { continue };
        if !f[5].is_empty() {
            let found = facts.scores.iter().any(|s| {
                s.vector == f[5]
                    && s.issuer == f[3]
                    && (s.score - f[6].parse::<f32>().unwrap()).abs() < 0.01
            });
            assert!(found, "{row}: {:?}", facts.scores);
            scores += 1;
        }
        if !f[8].is_empty() {
            let ssvc = facts.ssvc.unwrap();
            assert_eq!(ssvc.exploitation.word(), f[8].to_ascii_lowercase(), "{row}");
            assert_eq!(
                (ssvc.automatable, ssvc.total),
                (f[9].eq_ignore_ascii_case("yes"), f[10].eq_ignore_ascii_case("total")),
                "{row}"
            );
            decisions += 1;
        }
    }
    println!("{scores} scores and {decisions} decisions compared");
    assert!(scores > 500 && decisions > 500, "{scores} {decisions}");
}

#[test]
fn nvds_pages_and_single_vulnerabilities_give_their_scores_with_whoever_issued_them() {
    let Some(archive) = archive() else { return };
    let mut text = Vec::new();
    let mut expected = BTreeSet::new();
    for (name, file) in tar(&archive) {
        if name.contains("fetch/nvd/api/cve/testdata/golden/") && name.ends_with(".json") {
            let json: Value = serde_json::from_slice(file).unwrap();
            for (kind, list) in json["metrics"].as_object().into_iter().flatten() {
                if !kind.starts_with("cvssMetric") {
                    continue;
                }
                for metric in list.as_array().unwrap() {
                    let vector = metric["cvssData"]["vectorString"].as_str().unwrap();
                    expected.insert((json["id"].as_str().unwrap().to_owned(), vector.to_owned()));
                }
            }
            text.extend(file);
        }
    }
    let parsed = cve::parse_nvd(&text).unwrap();
    let found: BTreeSet<(String, String)> = parsed
        .records
        .iter()
        .flat_map(|f| f.scores.iter().map(|s| (f.id.clone(), s.vector.clone())))
        .collect();
    println!(
        "{} vectors of {} vulnerabilities, {} named",
        found.len(),
        parsed.records.len(),
        parsed.rejected()
    );
    assert_eq!(found, expected);
    assert!(expected.len() >= 5);
    let first = &parsed.records.iter().find(|f| !f.scores.is_empty()).unwrap();
    assert!(fact(&parsed.records, &first.id).scores[0].issuer.starts_with("nvd"));
}

#[test]
fn a_decision_of_cisa_and_an_issuers_score_are_explained() {
    let record = r#"{"cveMetadata":{"cveId":"CVE-2024-1","state":"PUBLISHED"},"containers":{
        "cna":{"metrics":[{"cvssV3_1":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H","baseScore":7.5}}]},
        "adp":[{"providerMetadata":{"shortName":"CISA-ADP"},"metrics":[{"other":{"type":"ssvc","content":{"options":[{"Exploitation":"active"},{"Automatable":"no"},{"Technical Impact":"partial"}]}}}]}]}}"#;
    let mut input = CatalogueInput {
        advisories: vec![advisory("bookworm", ("curl", "CVE-2024-1", "2-1", ""))],
        ..CatalogueInput::default()
    };
    input.add_cve(cve::parse(record.as_bytes()).unwrap().records);
    let catalogue = Catalogue::build(input);
    let host = with(&[package("curl", "1-1")]);
    let found = judge(&catalogue, &host).findings;
    let told: String =
        catalogue.explain(&found[0], &host).reasons.into_iter().map(|r| r.text + "\n").collect();
    for part in [
        "SSVC (CISA): exploitation active, automatable no, technical impact partial.",
        "CVSS 3.1: 7.5, issued by cna",
        "By its own vector it would be 10.0",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_red_hat_names_by_its_source_alone_is_about_all_that_is_built_from_it() {
    let platform = |cpe: &str| {
        json!({"category": "product_name", "name": cpe, "product": {"product_id": "E", "name": cpe,
            "product_identification_helper": {"cpe": cpe}}})
    };
    let source = |name: &str| {
        json!({"category": "product_version", "name": name, "product": {"product_id": name, "name": name,
            "product_identification_helper": {"purl": format!("pkg:rpm/redhat/{name}?arch=src")}}})
    };
    let part = |name: &str| {
        json!({"category": "default_component_of", "product_reference": name, "relates_to_product_reference": "E",
            "full_product_name": {"product_id": format!("E:{name}"), "name": name}})
    };
    let page = json!({
        "document": {"category": "csaf_vex", "publisher": {"name": "Red Hat"}, "tracking": {
            "id": "CVE-2024-1", "current_release_date": "2024-01-01", "initial_release_date": "2024-01-01"}},
        "product_tree": {
            "branches": [platform("cpe:/o:redhat:enterprise_linux:9"), source("krb5"), source("edk2")],
            "relationships": [part("krb5"), part("edk2")]},
        "vulnerabilities": [{"cve": "CVE-2024-1", "product_status": {
            "known_affected": ["E:krb5"], "under_investigation": ["E:edk2"]}}]
    });
    let text = page.to_string();
    let bytes = BTreeMap::from([(Feed::RedHatCsaf, text.as_bytes())]);
    let catalogue = load(&Feeds { bytes, ..Feeds::default() }).unwrap().catalogue;
    // Neither of the two sources has a package of its own name.
    let mut host = with(&[
        built("krb5-libs", "1.21.1-1.el9", "krb5", "1.21.1-1.el9"),
        built("edk2-ovmf", "20230524-4.el9", "edk2", "20230524-4.el9"),
        built("openssl-libs", "1:3.0.7-27.el9", "openssl", "1:3.0.7-27.el9"),
    ]);
    host.os = os("rhel", "9.4", "");
    let found = judge(&catalogue, &host);
    assert_eq!(states(&found), [("CVE-2024-1", FindingState::NoFixYet)]);
    let finding = &found.findings[0];
    assert_eq!(
        (&finding.source[..], &finding.binaries.join(" ")[..]),
        ("source/krb5", "krb5-libs")
    );
    assert_eq!(found.doubts.iter().map(|d| &d.source[..]).collect::<Vec<_>>(), ["source/edk2"]);
    let told = format!("{:?}", catalogue.explain(finding, &host));
    assert!(told.contains("krb5-libs: built from source package source/krb5"), "{told}");
}
