//! Feeds as they are published, and as they arrive when something went wrong.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::language::Ecosystem;
use fettle_vuln::feed::debian_list::List;
use fettle_vuln::feed::oval::OvalVendor;
use fettle_vuln::feed::updateinfo::RpmVendor;
use fettle_vuln::feed::{
    self, Feed, FeedError, MAX_ERRORS_KEPT, MAX_NAME, Parsed, Publisher, RecordError,
};
use fettle_vuln::snapshot::{Feeds, Manifest, SnapshotError, load};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::*;

const TRACKER: &str = r#"{
  "openssl": {
    "CVE-2024-5535": {
      "description": "SSL_select_next_proto \u2026", "scope": "remote", "debianbug": 1074487,
      "releases": {
        "bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.20-1~deb12u2"}, "urgency": "not yet assigned", "fixed_version": "3.0.15-1~deb12u1"},
        "trixie": {"status": "resolved", "repositories": {}, "urgency": "low", "fixed_version": "0"},
        "bullseye": {"status": "open", "repositories": {}, "urgency": "end-of-life"}
      }
    },
    "CVE-2023-1": {"releases": {
      "bookworm": {"status": "open", "nodsa": "Minor issue", "nodsa_reason": "", "urgency": "low"},
      "trixie": {"status": "open", "nodsa": "Too intrusive", "nodsa_reason": "ignored", "urgency": "low"},
      "bullseye": {"status": "open", "nodsa": "Next time", "nodsa_reason": "postponed", "urgency": "low"}
    }},
    "TEMP-0000000-A2EB44": {"releases": {
      "bookworm": {"status": "undetermined", "urgency": "not yet assigned"},
      "trixie": {"status": "open", "urgency": "unimportant"}
    }}
  }
}
"#;
const ADVISORIES: &str = "{\"id\":\"DSA-5764-1\",\"date\":\"2024-09-03\",\"cves\":[\"CVE-2024-5535\"],\"releases\":[{\"release\":\"bookworm\",\"package\":\"openssl\",\"fixed_version\":\"3.0.14-1~deb12u2\"}]}\n";
const KEV: &str = r#"{"title":"CISA Catalog","catalogVersion":"2026.08.07","count":1,"vulnerabilities":[
  {"cveID":"CVE-2024-3094","vendorProject":"x","dateAdded":"2024-04-01","dueDate":"2024-04-22","knownRansomwareCampaignUse":"Known","notes":""}]}"#;
const EPSS: &str = "#model_version:v4,score_date:2026-08-16T00:00:00+0000\ncve,epss,percentile\nCVE-2024-3094,0.84,0.99\nCVE-1999-0001,0.03351,0.87650\n";
const CVSS: &str = "{\"id\":\"CVE-2024-3094\",\"vector\":\"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H\",\"score\":10.0,\"issuer\":\"cna\"}\n";
const CVE_LIST: &str = "CVE-2024-5535 (Issue summary ...)\n\t{DSA-5764-1}\n\t- openssl 3.3.2-1 (low; bug #1074487)\n\t[bookworm] - openssl <no-dsa> (Minor issue)\nCVE-2023-32508\n\tRESERVED\n";
const DSA_LIST: &str = "[03 Sep 2024] DSA-5764-1 openssl - security update\n\t{CVE-2024-5535}\n\t[bookworm] - openssl 3.0.14-1~deb12u2\n";
const VEX: &str = r#"{"@context":"https://openvex.dev/ns/v0.2.0","@id":"urn:own:1","author":"Ops","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[
  {"vulnerability":{"name":"CVE-2024-5535"},"products":[{"@id":"pkg:deb/debian/openssl?arch=source"}],"status":"not_affected","justification":"vulnerable_code_not_in_execute_path"}]}"#;
const CVE_RECORD: &str = r#"{"cveMetadata":{"cveId":"CVE-2024-3094","state":"PUBLISHED"},"containers":{
 "cna":{"providerMetadata":{"shortName":"redhat"},"metrics":[{"cvssV3_1":{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H","baseScore":10.0}}]},
 "adp":[{"providerMetadata":{"shortName":"CISA-ADP"},"metrics":[{"other":{"type":"ssvc","content":{"options":[{"Exploitation":"poc"},{"Automatable":"yes"},{"Technical Impact":"total"}]}}}]}]}}"#;
const NVD: &str = r#"{"resultsPerPage":1,"vulnerabilities":[{"cve":{"id":"CVE-2024-3094","vulnStatus":"Analyzed","metrics":{
 "cvssMetricV31":[{"source":"nvd@nist.gov","type":"Primary","cvssData":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H","baseScore":10.0}}]}}}]}"#;
const SECDB: &str = r#"{"distroversion":"v3.19","reponame":"main","packages":[{"pkg":{"name":"curl",
 "secfixes":{"8.5.0-r0":["CVE-2023-46218","CVE-2023-46219 XSA-1"],"0":["CVE-2021-1"]}}}]}"#;
const REDHAT: &str = r#"{"document":{"category":"csaf_security_advisory","publisher":{"name":"Red Hat"},"tracking":{"id":"RHSA-2023:7207","current_release_date":"2023-11-14T17:00:58Z","initial_release_date":"2023-11-14T17:00:58Z"}},
"product_tree":{"branches":[{"category":"vendor","name":"Red Hat","branches":[
 {"category":"product_name","name":"BaseOS","product":{"product_id":"B","name":"BaseOS","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:8::baseos"}}},
 {"category":"product_version","name":"c-ares","product":{"product_id":"c-ares-0:1.13.0-9.el8_9.1.x86_64","name":"c","product_identification_helper":{"purl":"pkg:rpm/redhat/c-ares@1.13.0-9.el8_9.1?arch=x86_64"}}}]}],
 "relationships":[{"category":"default_component_of","full_product_name":{"product_id":"B:c","name":"c of B"},"product_reference":"c-ares-0:1.13.0-9.el8_9.1.x86_64","relates_to_product_reference":"B"}]},
"vulnerabilities":[{"cve":"CVE-2020-22217","product_status":{"fixed":["B:c"]}}]}"#;
const UPDATEINFO: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="x" type="security"><id>XSA-2023:1</id><issued date="2023-11-28 00:00:00"/><release>Fedora 38</release><severity>Important</severity>
<references><reference id="CVE-2023-44487" type="cve"/></references>
<pkglist><collection><name>n</name><package name="nodejs" version="18.18.2" release="6.el9_2" epoch="1" arch="x86_64" src="nodejs-18.18.2-6.el9_2.src.rpm"/></collection></pkglist></update></updates>"#;
const OSV: &str = "{\"id\":\"X-CVE-2024-1\",\"published\":\"2024-05-01T00:00:00Z\",\"affected\":[{\"package\":{\"ecosystem\":\"ECOSYSTEM_OF_IT\",\"name\":\"curl\"},\"ranges\":[{\"type\":\"ECOSYSTEM\",\"events\":[{\"introduced\":\"0\"},{\"fixed\":\"7.76.1\"}]}]}]}\n";

fn tracker(json: &str) -> Parsed<Advisory> {
    feed::debian::parse(json.as_bytes()).unwrap()
}

/// Parses as whatever feed it is, and forgets the records.
fn parse(feed: Feed, bytes: &[u8]) -> Result<(usize, Vec<RecordError>), FeedError> {
    fn outcome<T>(p: Parsed<T>) -> (usize, Vec<RecordError>) {
        (p.records.len(), p.errors)
    }
    match feed {
        Feed::DebianTracker => feed::debian::parse(bytes).map(outcome),
        Feed::DebianAdvisories => feed::dsa::parse(bytes).map(outcome),
        Feed::Kev => feed::kev::parse(bytes).map(outcome),
        Feed::Epss => feed::epss::parse(bytes).map(outcome),
        Feed::Cvss => feed::cvss::parse(bytes).map(outcome),
        Feed::CveRecords => feed::cve::parse(bytes).map(outcome),
        Feed::Nvd => feed::cve::parse_nvd(bytes).map(outcome),
        Feed::AlpineSecdb => feed::secdb::parse(bytes).map(outcome),
        Feed::RedHatCsaf => feed::csaf::redhat::parse(bytes).map(outcome),
        Feed::UpdateInfo(vendor) => feed::updateinfo::parse(vendor, bytes).map(outcome),
        Feed::Vex => feed::vex::parse(bytes).map(outcome),
        Feed::DebianList(list) => feed::debian_list::parse(list, bytes).map(outcome),
        Feed::Osv(publisher) => feed::osv::parse(publisher, bytes).map(outcome),
        Feed::Oval(vendor) => feed::oval::parse(vendor, bytes).map(outcome),
    }
}

fn sample(feed: Feed) -> String {
    match feed {
        Feed::DebianTracker => TRACKER.to_owned(),
        Feed::DebianAdvisories => ADVISORIES.to_owned(),
        Feed::Kev => KEV.to_owned(),
        Feed::Epss => EPSS.to_owned(),
        Feed::Cvss => CVSS.to_owned(),
        Feed::CveRecords => CVE_RECORD.to_owned(),
        Feed::Nvd => NVD.to_owned(),
        Feed::AlpineSecdb => SECDB.to_owned(),
        Feed::RedHatCsaf => REDHAT.to_owned(),
        Feed::UpdateInfo(RpmVendor::Amazon) => UPDATEINFO.replace("6.el9_2", "6.amzn2023.0.2"),
        Feed::UpdateInfo(_) => UPDATEINFO.to_owned(),
        Feed::Vex => VEX.to_owned(),
        Feed::DebianList(List::Cve) => CVE_LIST.to_owned(),
        Feed::DebianList(List::Dsa) => DSA_LIST.to_owned(),
        Feed::DebianList(List::Dla) => DSA_LIST.replace("DSA", "DLA"),
        Feed::Osv(publisher) => {
            let maven = publisher == Publisher::Language(Ecosystem::Maven);
            let named = if maven { OSV.replace("curl", "se.haxx:curl") } else { OSV.to_owned() };
            named.replace("ECOSYSTEM_OF_IT", ecosystem(publisher))
        }
        Feed::Oval(vendor) => definitions(vendor),
    }
}

fn definitions(vendor: OvalVendor) -> String {
    const REDHAT: &str = include_str!("../../../fuzz/corpus/oval/redhat.xml");
    let text = match vendor {
        OvalVendor::AlmaLinux => return REDHAT.replace("^redhat-release", "^almalinux-release"),
        OvalVendor::Debian => include_str!("../../../fuzz/corpus/oval/debian.xml"),
        OvalVendor::Oracle => include_str!("../../../fuzz/corpus/oval/oracle.xml"),
        OvalVendor::RedHat => REDHAT,
        OvalVendor::Suse => include_str!("../../../fuzz/corpus/oval/suse.xml"),
        OvalVendor::Ubuntu => include_str!("../../../fuzz/corpus/oval/ubuntu.xml"),
    };
    // The first of several documents, without the definitions that are there to be refused.
    let end = text.find("</oval_definitions>").unwrap();
    let refused =
        |d: &&str| ["USN-6561-1", "ELSA-2023-59", "OVMSA"].iter().any(|id| d.contains(id));
    let pieces: Vec<&str> = text[..end].split_inclusive("</definition>\n").collect();
    let kept: String = pieces.into_iter().filter(|d| !refused(d)).collect();
    format!("{kept}</oval_definitions>\n")
}

fn ecosystem(publisher: Publisher) -> &'static str {
    match publisher {
        Publisher::AlmaLinux => "AlmaLinux:9",
        Publisher::Alpine => "Alpine:v3.19",
        Publisher::Chainguard => "Wolfi",
        Publisher::Debian => "Debian:12",
        Publisher::RedHat => "Red Hat:enterprise_linux:9::baseos",
        Publisher::Rocky => "Rocky Linux:9",
        Publisher::Suse => "openSUSE:Leap 15.5",
        Publisher::Ubuntu => "Ubuntu:22.04:LTS",
        Publisher::Language(ecosystem) => ecosystem.osv(),
    }
}

#[test]
fn every_word_of_the_debian_tracker_becomes_its_status() {
    let parsed = tracker(TRACKER);
    assert_eq!(parsed.errors, []);
    let got: BTreeMap<(&str, &str), (&AdvisoryStatus, &str)> = parsed
        .records
        .iter()
        .map(|a| ((a.id.as_str(), a.release.as_str()), (&a.status, a.urgency.as_str())))
        .collect();
    let open = |reason: &str| AdvisoryStatus::Open { reason: reason.into(), elsewhere: None };
    let fixed = AdvisoryStatus::Fixed { version: "3.0.15-1~deb12u1".into() };
    for (id, release, status, urgency) in [
        ("CVE-2024-5535", "bookworm", fixed, "not yet assigned"),
        ("CVE-2024-5535", "trixie", AdvisoryStatus::NotAffected, "low"),
        ("CVE-2024-5535", "bullseye", open("<end-of-life>"), "end-of-life"),
        ("CVE-2023-1", "bookworm", open("<no-dsa> Minor issue"), "low"),
        ("CVE-2023-1", "trixie", open("<ignored> Too intrusive"), "low"),
        ("CVE-2023-1", "bullseye", open("<postponed> Next time"), "low"),
        ("TEMP-0000000-A2EB44", "bookworm", AdvisoryStatus::Undetermined, "not yet assigned"),
        ("TEMP-0000000-A2EB44", "trixie", open(""), "unimportant"),
    ] {
        assert_eq!(got[&(id, release)], (&status, urgency), "{id} {release}");
    }
    assert_eq!(got.len(), 8);
}

#[test]
fn the_trackers_own_export_with_all_its_fields_is_read_without_an_error() {
    let Some(path) = shared("debian-tracker/tracker-json.samples/vulnerablecode.debian.json")
    else {
        return;
    };
    let parsed = feed::debian::parse(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(parsed.errors, []);
    assert!(parsed.records.len() > 10, "{}", parsed.records.len());
}

#[test]
fn dates_exploits_and_scores_are_read_as_published() {
    let advisory = &feed::dsa::parse(ADVISORIES.as_bytes()).unwrap().records[0];
    assert_eq!(
        (advisory.id.as_str(), advisory.date.to_string().as_str()),
        ("DSA-5764-1", "2024-09-03")
    );
    let kev = &feed::kev::parse(KEV.as_bytes()).unwrap().records[0];
    assert_eq!(
        (kev.id.as_str(), kev.kev.due_date.to_string().as_str(), kev.kev.ransomware),
        ("CVE-2024-3094", "2024-04-22", true)
    );
    let epss = feed::epss::parse(EPSS.as_bytes()).unwrap().records;
    assert_eq!((epss[0].probability, epss[1].percentile), (0.84, 0.8765));
    let cvss = &feed::cvss::parse(CVSS.as_bytes()).unwrap().records[0];
    assert_eq!((cvss.version, cvss.score, cvss.computed), (31, 10.0, 10.0));
}

#[test]
fn the_issuers_score_is_kept_beside_what_its_vector_gives() {
    let line = CVSS.replace("10.0", "7.5");
    let cvss = &feed::cvss::parse(line.as_bytes()).unwrap().records[0];
    assert_eq!((cvss.score, cvss.computed), (7.5, 10.0));
    let line = CVSS.replace("10.0", "null");
    assert_eq!(feed::cvss::parse(line.as_bytes()).unwrap().records[0].score, 10.0);
}

#[test]
fn a_feed_cut_off_at_any_byte_is_refused_as_a_whole() {
    for feed in Feed::ALL {
        let whole = sample(feed);
        let whole = whole.trim_end();
        for end in 0..whole.len() {
            if !whole.is_char_boundary(end) {
                continue;
            }
            let cut = &whole.as_bytes()[..end];
            let whole_documents = matches!(
                feed,
                Feed::DebianTracker
                    | Feed::Kev
                    | Feed::Vex
                    | Feed::CveRecords
                    | Feed::Nvd
                    | Feed::AlpineSecdb
                    | Feed::RedHatCsaf
                    | Feed::UpdateInfo(_)
            );
            let lines = !whole_documents;
            match parse(feed, cut) {
                Err(FeedError::Truncated { feed: named, line, .. }) => {
                    assert_eq!(named, feed);
                    assert_eq!(line, 1 + cut.iter().filter(|&&b| b == b'\n').count());
                }
                Err(FeedError::Empty { .. }) => assert_eq!(end, 0),
                // Cut between two lines: nothing shows that more was to come.
                Err(FeedError::NothingUsable { .. }) | Ok(_) if lines && cut.ends_with(b"\n") => {}
                other => panic!("{feed} cut at {end}: {other:?}"),
            }
        }
        assert_eq!(parse(feed, sample(feed).as_bytes()).unwrap().1, []);
    }
}

#[test]
fn a_catalogue_with_fewer_entries_than_it_counts_is_cut_off() {
    let error = feed::kev::parse(KEV.replace("\"count\":1", "\"count\":2").as_bytes()).unwrap_err();
    assert!(matches!(error, FeedError::Truncated { .. }), "{error}");
    assert!(error.to_string().contains("1 entries where `count` says 2"), "{error}");
}

#[test]
fn what_is_no_such_feed_is_refused_with_line_and_column() {
    for feed in Feed::ALL {
        assert_eq!(parse(feed, b" \n\t "), Err(FeedError::Empty { feed }));
        let error = parse(feed, b"<!DOCTYPE html>\n<p>404</p>\n").unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&feed.to_string()) && told.contains("line 1"), "{told}");
        assert!(
            parse(feed, b"[]\n").is_err()
                && parse(feed, b"{}\n").is_err()
                && parse(feed, b"null\n").is_err()
        );
        assert!(parse(feed, b"\xff\xfe\x00\n").is_err());
    }
    let error = feed::debian::parse(b"{\n \"a\": {},\n ?}").unwrap_err();
    assert!(matches!(error, FeedError::Malformed { line: 3, column: 2, .. }), "{error:?}");
}

#[test]
fn one_bad_record_is_named_with_its_line_and_the_others_count() {
    for (from, to, place, what, left) in [
        (
            "\"3.0.15-1~deb12u1\"",
            "\"banana\"",
            "openssl CVE-2024-5535 bookworm",
            "does not start with a digit",
            7,
        ),
        (
            "\"3.0.15-1~deb12u1\"",
            "null",
            "openssl CVE-2024-5535 bookworm",
            "without `fixed_version`",
            7,
        ),
        ("\"3.0.15-1~deb12u1\"", "7", "openssl CVE-2024-5535 bookworm", "invalid type: integer", 7),
        (
            "\"status\": \"undetermined\"",
            "\"status\": \"perhaps\"",
            "openssl TEMP-0000000-A2EB44 bookworm",
            "unknown status \"perhaps\"",
            7,
        ),
        (
            "\"status\": \"undetermined\"",
            "\"state\": 1",
            "openssl TEMP-0000000-A2EB44 bookworm",
            "missing field `status`",
            7,
        ),
        (
            "\"CVE-2023-1\": {\"releases\"",
            "\"CVE-2023-1\": {\"realises\"",
            "openssl CVE-2023-1",
            "`releases` is missing",
            5,
        ),
        ("\"CVE-2023-1\"", "\"CVE 2023\"", "openssl CVE 2023", "holds ' '", 5),
        ("\"CVE-2023-1\"", "\"CVE\\u0000\"", "openssl CVE ", "holds '\\0'", 5),
        ("\"CVE-2023-1\"", "\"CVE-2024-5535\"", "openssl CVE-2024-5535", "named twice", 5),
        (
            "\"trixie\": {\"status\": \"open\", \"nodsa\"",
            "\"bookworm\": {\"status\": \"open\", \"nodsa\"",
            "openssl CVE-2023-1 bookworm",
            "named twice",
            7,
        ),
        (
            "\"trixie\": {\"status\": \"open\", \"nodsa\"",
            "\"\": {\"status\": \"open\", \"nodsa\"",
            "openssl CVE-2023-1",
            "is empty",
            7,
        ),
    ] {
        let broken = TRACKER.replacen(from, to, 1);
        assert_ne!(broken, TRACKER, "{from}");
        let parsed = tracker(&broken);
        let [error] = &parsed.errors[..] else { panic!("{from} → {to}: {:?}", parsed.errors) };
        assert_eq!(error.place.trim(), place.trim(), "{error}");
        assert!(error.what.contains(what), "{error}");
        let at = TRACKER[..TRACKER.find(from).unwrap()].lines().count();
        assert!(error.line == at || error.line == at + 1, "{error}: not line {at}");
        assert_eq!(parsed.records.len(), left, "{error}");
    }
}

#[test]
fn a_value_of_any_wrong_type_at_any_place_costs_at_most_its_own_record() {
    let whole: Value = serde_json::from_str(TRACKER).unwrap();
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while at < pointers.len() {
        if let Some(Value::Object(map)) = whole.pointer(&pointers[at]) {
            let inner: Vec<String> = map.keys().map(|k| format!("{}/{k}", pointers[at])).collect();
            pointers.extend(inner);
        }
        at += 1;
    }
    assert!(pointers.len() > 40);
    for pointer in pointers.iter().skip(1) {
        for wrong in [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!([]),
            json!([[{}]]),
            json!({}),
            json!(""),
            json!({"a": null}),
        ] {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = wrong.clone();
            match feed::debian::parse(broken.to_string().as_bytes()) {
                Ok(p) => assert!(p.records.len() + p.rejected() >= 5, "{pointer} = {wrong}: {p:?}"),
                Err(FeedError::NothingUsable { .. }) => assert_eq!(pointer, "/openssl", "{wrong}"),
                Err(other) => panic!("{pointer} = {wrong}: {other}"),
            }
        }
    }
}

#[test]
fn names_and_texts_without_end_are_bounded() {
    let huge = "a".repeat(10 << 20);
    for from in [
        "\"openssl\"",
        "\"CVE-2024-5535\"",
        "\"bookworm\"",
        "\"3.0.15-1~deb12u1\"",
        "\"Minor issue\"",
        "\"not yet assigned\"",
    ] {
        let broken = TRACKER.replacen(from, &format!("\"1{huge}\""), 1);
        let parsed = match feed::debian::parse(broken.as_bytes()) {
            Ok(parsed) => parsed,
            Err(FeedError::NothingUsable { first, .. }) => {
                assert!(first.len() < 3000);
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        for a in &parsed.records {
            assert!(
                a.id.len() <= MAX_NAME && a.source.len() <= MAX_NAME && a.release.len() <= MAX_NAME
            );
            assert!(a.urgency.len() <= 1000, "{from}");
            assert!(format!("{:?}", a.status).len() < 1200, "{from}");
        }
        assert!(
            parsed.errors.iter().all(|e| e.place.len() < 1100 && e.what.len() < 1100),
            "{from}"
        );
    }
}

#[test]
fn nesting_without_end_overflows_no_stack() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let parsed = tracker(&TRACKER.replacen("\"3.0.15-1~deb12u1\"", &deep, 1));
    assert_eq!((parsed.records.len(), parsed.rejected()), (7, 1));
    assert!(feed::kev::parse(deep.as_bytes()).is_err());
    assert!(feed::debian::parse(deep.as_bytes()).is_err());
    assert!(feed::cvss::parse(format!("{deep}\n").as_bytes()).is_err());
}

#[test]
fn a_million_bad_records_are_counted_but_not_kept() {
    let rows: String = (0..50_000).map(|i| format!("CVE-1-{i},2.0,0.1\n")).collect();
    let parsed =
        feed::epss::parse(format!("cve,epss,percentile\n{rows}CVE-1-1,0.1,0.1\n").as_bytes())
            .unwrap();
    assert_eq!(
        (parsed.records.len(), parsed.errors.len(), parsed.rejected()),
        (1, MAX_ERRORS_KEPT, 50_000)
    );
}

#[test]
fn epss_rows_that_are_no_scores_are_rejected_by_name() {
    for (row, what) in [
        ("CVE-1-1,0.1", "2 fields"),
        ("CVE-1-1,0.1,0.2,0.3", "4 fields"),
        ("CVE-1-1,NaN,0.2", "\"NaN\" is not a number from 0 to 1"),
        ("CVE-1-1,0.1,inf", "\"inf\" is not a number from 0 to 1"),
        ("CVE-1-1,-0.1,0.1", "\"-0.1\" is not a number"),
        ("<script>,0.1,0.1", "holds '<'"),
    ] {
        let parsed = feed::epss::parse(format!("{EPSS}{row}\n").as_bytes()).unwrap();
        assert_eq!((parsed.records.len(), parsed.errors[0].line), (2, 5));
        assert!(parsed.errors[0].what.contains(what), "{}", parsed.errors[0]);
    }
    let error = feed::epss::parse(b"id;score\nCVE-1-1;0.1\n").unwrap_err();
    assert!(matches!(error, FeedError::Malformed { line: 1, .. }), "{error}");
}

#[test]
fn vectors_give_the_score_of_their_specification() {
    let table = |name: &str| shared_text(&format!("cvss/{name}"));
    let mut count = 0;
    for name in ["generated.v2-base-exhaustive.tsv.zst", "generated.v31-base-exhaustive.tsv.zst"] {
        let Some(text) = table(name) else { return };
        for line in text.lines().filter(|l| l.contains("AV:")) {
            let (vector, rest) = line.split_once('\t').unwrap();
            let expected: f32 = rest.split('\t').next().unwrap().parse().unwrap();
            let (_, score) = feed::cvss::base_score(vector).unwrap();
            assert!((score - expected).abs() < 0.01, "{vector}: {score}, not {expected}");
            count += 1;
        }
    }
    let Some(text) = table("vectors_simple4.txt.zst") else { return };
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let (vector, rest) = line.split_once(" - ").unwrap();
        let expected: f32 =
            rest.trim_matches(['(', ')']).split(',').next().unwrap().trim().parse().unwrap();
        let (version, score) = feed::cvss::base_score(vector).unwrap();
        assert!(
            version == 40 && (score - expected).abs() < 0.01,
            "{vector}: {score}, not {expected}"
        );
        count += 1;
    }
    assert!(count > 3000, "{count}");
}

#[test]
fn the_snapshot_of_the_repository_is_whole_and_says_where_each_file_is_from() {
    let (manifest, loaded) = snapshot();
    let its_own = Feed::ALL.into_iter().filter(|feed| feed.goes_with_fettle());
    assert!(its_own.eq(manifest.as_of().into_keys()));
    for file in &manifest.file {
        assert!(!file.origin.is_empty() && !file.licence.is_empty(), "{}", file.name);
    }
    let count: BTreeMap<Feed, (usize, usize)> =
        loaded.feeds.iter().map(|f| (f.feed, (f.records, f.rejected))).collect();
    assert_eq!(count[&Feed::DebianTracker], (43_226, 0));
    assert_eq!(count[&Feed::Kev], (1662, 0));
    assert!(
        count[&Feed::Epss].0 > 20_000
            && count[&Feed::DebianAdvisories].0 > 2000
            && count[&Feed::Cvss].0 > 1000
    );
    assert_eq!(loaded.catalogue.releases().collect::<Vec<_>>(), ["bookworm", "bullseye", "trixie"]);
    let about = loaded.catalogue.statement("bookworm", "openssl", "CVE-2024-5535").unwrap();
    assert_eq!(about.fixed_version(), Some("3.0.15-1~deb12u1"));
    let dated = loaded.catalogue.ranking(about);
    assert!(dated.published.is_some() && dated.epss.is_some());
}

#[test]
fn a_set_of_feeds_without_statements_and_a_manifest_that_does_not_fit_are_refused() {
    assert!(matches!(load(&Feeds::default()), Err(SnapshotError::NothingSaysWho)));
    let bytes =
        BTreeMap::from([(Feed::DebianTracker, TRACKER.as_bytes()), (Feed::Kev, b"{".as_slice())]);
    let error = load(&Feeds { bytes, ..Feeds::default() }).unwrap_err();
    assert!(
        matches!(error, SnapshotError::Feed(FeedError::Truncated { feed: Feed::Kev, .. })),
        "{error}"
    );

    let file = "[[file]]\nname = \"k\"\nfeed = \"kev\"\nas_of = \"2026-08-07\"\norigin = \"o\"\nlicence = \"l\"\nsha256 = \"";
    let file = format!("{file}{}\"\n", "0".repeat(64));
    let manifest = Manifest::parse(&file).unwrap();
    assert!(matches!(manifest.file[0].verify(b"x"), Err(SnapshotError::Digest { .. })));
    assert_eq!(Manifest::parse(&format!("{file}{file}")), Err(SnapshotError::Twice(Feed::Kev)));
    for broken in [
        "file = 1",
        "[[file]]\nname = 1",
        &file.replace("2026-08-07", "2026-13-07"),
        &file.replace("kev", "horoscope"),
    ] {
        assert!(matches!(Manifest::parse(broken), Err(SnapshotError::Manifest(_))), "{broken}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_changed_anywhere_never_panic(which in 0..Feed::ALL.len(), at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let feed = Feed::ALL[which];
        let mut bytes = sample(feed).into_bytes();
        for (index, byte) in at {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = parse(feed, &bytes);
    }

    #[test]
    fn any_bytes_at_all_never_panic(which in 0..Feed::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Feed::ALL[which], &bytes);
    }
}

#[test]
fn more_repositories_of_alpine_than_are_read_are_told_of() {
    let many = SECDB.repeat(1001);
    let (_, errors) = parse(Feed::AlpineSecdb, many.as_bytes()).unwrap();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("more than 1000 documents"), "{}", errors[0]);
    assert!(parse(Feed::AlpineSecdb, SECDB.repeat(1000).as_bytes()).unwrap().1.is_empty());
}

#[test]
fn a_feed_given_under_the_name_of_another_is_told_to_be_of_another_format() {
    let kev = b"{\n  \"title\": \"x\",\n  \"catalogVersion\": \"2026.08.07\",\n  \"vulnerabilities\": []\n}\n";
    let epss = b"#model_version:v1,score_date:2026-08-16T00:00:00+0000\ncve,epss,percentile\nCVE-2024-1,0.1,0.1\n";
    for word in ["osv-almalinux", "debian-tracker", "cvss", "csaf-redhat"] {
        let feed = fettle_vuln::feed::Feed::from_word(word).unwrap();
        for (bytes, named) in [(&kev[..], "(kev)"), (&epss[..], "(epss)")] {
            let said = fettle_vuln::feed::count(feed, bytes).unwrap_err().to_string();
            assert!(said.contains("not this format") && said.contains(named), "{word}: {said}");
        }
    }
}
