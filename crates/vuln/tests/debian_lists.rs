//! The Debian tracker's own text files against what others make of the same lines: the tracker's JSON, and another
//! project's converter.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::finding::FindingState;
use fettle_core::version::deb;
use fettle_vuln::feed::debian_list::{self, List, Lists, RELEASES, resolve};
use fettle_vuln::feed::{Feed, debian};
use fettle_vuln::snapshot::{Feeds, load};
use serde_json::Value;
use std::collections::BTreeMap;
use support::*;

/// Source, vulnerability, release.
type Place = (String, String, String);

fn by_place(statements: &[Advisory]) -> BTreeMap<Place, &Advisory> {
    let place = |a: &Advisory| (a.source.clone(), a.id.clone(), a.release.clone());
    statements.iter().map(|a| (place(a), a)).collect()
}

/// The first version that is not affected.
fn unaffected_from(status: &AdvisoryStatus) -> Option<&str> {
    match status {
        AdvisoryStatus::Fixed { version } => Some(version),
        AdvisoryStatus::Open { elsewhere, .. } => elsewhere.as_deref(),
        _ => None,
    }
}

/// The shared sample holds entries of all three files, one below the other.
fn sample() -> Option<[String; 3]> {
    let path = shared("debian-tracker/CVE-DSA-DLA.list.real-sample.txt")?;
    let text = std::fs::read_to_string(path).unwrap();
    let mut parts = [const { String::new() }; 3];
    let mut part = 0;
    for line in text.lines() {
        match line {
            l if l.starts_with("CVE-") => part = 0,
            l if l.contains("] DLA-") => part = 2,
            l if l.starts_with('[') => part = 1,
            _ => {}
        }
        parts[part].push_str(line);
        parts[part].push('\n');
    }
    Some(parts)
}

fn read([cve, dsa, dla]: &[String; 3]) -> Lists<'_> {
    let entries = |list, text: &'_ String| {
        let parsed = debian_list::parse(list, text.as_bytes()).unwrap();
        // Static, because the closure borrows from its argument only.
        assert_eq!(parsed.errors, [], "{list:?}");
        parsed.records.len()
    };
    assert!(entries(List::Cve, cve) + entries(List::Dsa, dsa) + entries(List::Dla, dla) >= 29);
    Lists {
        cve: debian_list::parse(List::Cve, cve.as_bytes()).unwrap().records,
        dsa: debian_list::parse(List::Dsa, dsa.as_bytes()).unwrap().records,
        dla: debian_list::parse(List::Dla, dla.as_bytes()).unwrap().records,
    }
}

#[test]
fn real_entries_with_nearly_every_tag_come_to_what_another_converter_makes_of_them() {
    let (Some(parts), Some(path)) = (sample(), shared("golden/vuls-data-update-testdata.tar.zst"))
    else {
        return;
    };
    let resolved = resolve(&read(&parts));
    let ours = by_place(&resolved.statements);
    let archive = unzstd(&path);
    let golden = tar(&archive)
        .into_iter()
        .filter(|(name, _)| name.contains("extract/debian/tracker/salsa/testdata/golden/data/"));
    let mut compared = 0;
    for (name, file) in golden {
        let json: Value = serde_json::from_slice(file).unwrap();
        let id = json["id"].as_str().unwrap();
        for detection in json["detections"].as_array().into_iter().flatten() {
            let release = match detection["ecosystem"].as_str().unwrap() {
                "debian:11" => "bullseye",
                "debian:12" => "bookworm",
                "debian:13" => "trixie",
                "debian:sid" => "sid",
                // Releases that the tracker does not follow any more.
                _ => continue,
            };
            for criterion in
                detection["conditions"][0]["criteria"]["criterions"].as_array().unwrap()
            {
                let version = &criterion["version"];
                let source = version["package"]["source"]["name"].as_str().unwrap();
                let place = (source.to_owned(), id.to_owned(), release.to_owned());
                let status = &ours.get(&place).unwrap_or_else(|| panic!("{place:?} {name}")).status;
                let class = version["fix_status"]["class"].as_str().unwrap();
                match (class, status) {
                    ("fixed", _) => assert_eq!(
                        unaffected_from(status),
                        version["affected"]["range"][0]["lt"].as_str(),
                        "{place:?}"
                    ),
                    ("unfixed", AdvisoryStatus::Open { .. })
                    | ("not-affected", AdvisoryStatus::NotAffected)
                    | ("unknown", AdvisoryStatus::Undetermined) => {}
                    other => panic!("{place:?}: {other:?}"),
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 34, "criteria of followed releases in the other converter's output");
}

#[test]
fn every_advisory_of_twenty_six_years_is_read_and_its_fixes_are_those_of_the_trackers_json() {
    let (Some(dsa), Some(dla)) = (
        shared_text("debian-tracker/DSA.list.to-2026-08-21.zst"),
        shared_text("debian-tracker/DLA.list.to-2026-08-21.zst"),
    ) else {
        return;
    };
    let mut lists = Lists::default();
    for (list, text, entries) in
        [(List::Dsa, &dsa, &mut lists.dsa), (List::Dla, &dla, &mut lists.dla)]
    {
        let parsed = debian_list::parse(list, text.as_bytes()).unwrap();
        println!("{list:?}: {} entries, {} left out", parsed.records.len(), parsed.rejected());
        for error in &parsed.errors {
            println!("  {error}");
        }
        assert!(parsed.rejected() <= 12, "{}", parsed.rejected());
        *entries = parsed.records;
    }
    assert!(lists.dsa.len() + lists.dla.len() >= 11_000);
    let resolved = resolve(&lists);
    let ours = by_place(&resolved.statements);

    // The JSON's rows that come from advisories and nothing else.
    let json = unzstd(&shared("debian-tracker/tracker-assembled.json.zst").unwrap());
    let json = debian::parse(&json).unwrap().records;
    let json = by_place(&json);
    let rows = shared_text("debian-tracker/tracker-assembled.provenance.tsv.zst").unwrap();
    let (mut equal, mut differ) = (0, Vec::new());
    for row in rows.lines().skip(1).map(|r| r.split('\t').collect::<Vec<_>>()) {
        if row[6] != "advisory" {
            continue;
        }
        let place = (row[0].to_owned(), row[1].to_owned(), row[2].to_owned());
        let theirs = &json[&place].status;
        match ours.get(&place) {
            Some(a) if a.status == *theirs => equal += 1,
            other => differ.push(format!("{place:?}: {theirs:?}, the lists say {other:?}")),
        }
    }
    println!("{equal} equal, {} differ", differ.len());
    for line in differ.iter().take(20) {
        println!("  {line}");
    }
    assert!(equal > 10_000, "{equal}");
    assert_eq!(differ, Vec::<String>::new());
}

#[test]
fn text_and_json_of_one_tracker_give_the_same_findings_whatever_is_installed() {
    let text = "CVE-2024-1 (fixed everywhere)\n\t- zlib 1:1.3-1 (low)\n\t[bookworm] - zlib 1:1.2.13-2\n\
        CVE-2024-2 (open)\n\t- zlib <unfixed>\n\t[bookworm] - zlib <no-dsa> (Minor issue)\n\
        CVE-2024-3 (never)\n\t- zlib 1:1.3-1\n\t[bookworm] - zlib <not-affected> (Later code)\n\
        CVE-2024-4 (nobody knows)\n\t- zlib <undetermined>\n\
        CVE-2024-5 (no support)\n\t- zlib 1:1.3-1\n\t[bookworm] - zlib <end-of-life> (see DSA 1)\n\
        CVE-2024-6 (left)\n\t- zlib <removed> (unimportant)\n\t[bookworm] - zlib <ignored> (Too old)\n";
    let json = r#"{"zlib": {
        "CVE-2024-1": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1:1.2.13-2", "urgency": "low"}}},
        "CVE-2024-2": {"releases": {"bookworm": {"status": "open", "nodsa": "Minor issue", "nodsa_reason": "", "urgency": "not yet assigned"}}},
        "CVE-2024-3": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0", "urgency": "not yet assigned"}}},
        "CVE-2024-4": {"releases": {"bookworm": {"status": "undetermined", "urgency": "not yet assigned"}}},
        "CVE-2024-5": {"releases": {"bookworm": {"status": "open", "urgency": "end-of-life"}}},
        "CVE-2024-6": {"releases": {"bookworm": {"status": "open", "nodsa": "Too old", "nodsa_reason": "ignored", "urgency": "unimportant"}}}
    }}"#;
    let of = |feed: Feed, bytes: &[u8]| {
        let bytes = BTreeMap::from([(feed, bytes)]);
        load(&Feeds { bytes, ..Feeds::default() }).unwrap().catalogue
    };
    let by_text = of(Feed::DebianList(List::Cve), text.as_bytes());
    let by_json = of(Feed::DebianTracker, json.as_bytes());
    for version in ["1:1.2.13-1", "1:1.2.13-2", "1:1.2.13-2+b1", "1:1.3-1", "2:0"] {
        let host = with(&[package("zlib", version)]);
        let (text, json) = (judge(&by_text, &host), judge(&by_json, &host));
        assert_eq!(text.findings, json.findings, "{version}");
        assert_eq!(text.doubts, json.doubts, "{version}");
        assert!(text.findings.len() >= 3);
    }
}

#[test]
fn a_fix_in_unstable_alone_is_none_until_it_is_offered_and_whoever_has_it_is_safe() {
    let text = "CVE-2024-1 (x)\n\t- flask 3.1.3-1\n\t[bookworm] - flask <no-dsa> (Minor issue)\n";
    let bytes = BTreeMap::from([(Feed::DebianList(List::Cve), text.as_bytes())]);
    let catalogue = load(&Feeds { bytes, ..Feeds::default() }).unwrap().catalogue;
    let mut host = with(&[package("flask", "2.2.2-3")]);
    let found = judge(&catalogue, &host).findings;
    assert_eq!((found[0].state, found[0].fixed_version.as_deref()), (FindingState::NoFixYet, None));
    let told = serde_json::to_string(&catalogue.explain(&found[0], &host)).unwrap();
    assert!(
        told.contains("no advisory planned")
            && told.contains("outside bookworm it is fixed from 3.1.3-1 on"),
        "{told}"
    );
    // Backports of the host's own choice.
    host.upgrades = vec![upgrade("flask", "2.2.2-3", "3.1.3-1~bpo12+1", "3.1.3-1~bpo12+1")];
    assert_eq!(judge(&catalogue, &host).findings[0].state, FindingState::NoFixYet, "~bpo is below");
    host.upgrades = vec![upgrade("flask", "2.2.2-3", "3.1.3-2", "3.1.3-2")];
    let found = judge(&catalogue, &host).findings;
    assert_eq!(
        (found[0].state, found[0].fixed_version.as_deref()),
        (FindingState::Open, Some("3.1.3-1"))
    );
    let safe = with(&[package("flask", "3.1.3-1")]);
    assert_eq!(judge(&catalogue, &safe).findings, []);
    // And one that was upgraded is proved fixed, not withdrawn.
    let after = judge_after(&catalogue, &safe, &found);
    assert_eq!((after.findings[0].state, after.withdrawn.len()), (FindingState::Fixed, 0));
}

#[test]
fn advisories_alone_date_fixes_and_speak_of_no_host_and_the_json_keeps_its_releases() {
    let dsa = "[03 Sep 2024] DSA-5764-1 openssl - security update\n\t{CVE-2024-5535}\n\t[bookworm] - openssl 3.0.14-1~deb12u2\n";
    let cve = "CVE-2024-5535 (x)\n\t- openssl 3.3.2-1\nCVE-2024-9 (y)\n\t- openssl 3.4-1\n";
    let json = r#"{"openssl": {"CVE-2024-5535": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.14-1~deb12u2", "urgency": "low"}}}}}"#;
    let (dsa, cve, json) = (
        (Feed::DebianList(List::Dsa), dsa.as_bytes()),
        (Feed::DebianList(List::Cve), cve.as_bytes()),
        (Feed::DebianTracker, json.as_bytes()),
    );
    let of = |parts: &[(Feed, &'static [u8])]| {
        let bytes = parts.iter().copied().collect();
        load(&Feeds { bytes, ..Feeds::default() })
    };
    let leak = |(feed, bytes): (Feed, &[u8])| (feed, &*bytes.to_vec().leak());
    let (dsa, cve, json) = (leak(dsa), leak(cve), leak(json));
    assert!(of(&[dsa]).is_err(), "advisories alone do not know what is open");
    let all = of(&[dsa, cve, json]).unwrap().catalogue;
    let about = all.statement("bookworm", "openssl", "CVE-2024-5535").unwrap();
    assert_eq!(about.evidence.as_ref(), debian::EVIDENCE);
    assert_eq!(about.publication.as_ref().unwrap().advisory.as_ref(), "DSA-5764-1");
    assert!(all.statement("bookworm", "openssl", "CVE-2024-9").is_none());
    assert!(all.statement("trixie", "openssl", "CVE-2024-9").is_some());
    let lists = of(&[dsa, cve]).unwrap().catalogue;
    let about = lists.statement("bookworm", "openssl", "CVE-2024-5535").unwrap();
    assert_eq!(about.fixed_version(), Some("3.0.14-1~deb12u2"));
    assert_eq!(RELEASES.len(), 5);
    assert!(deb::compare_lenient("3.0.14-1~deb12u2", "3.0.14-1").is_lt());
}
