//! One host judged: matching, states, and why.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::{Finding, FindingState::*, Severity};
use fettle_core::inventory::Inventory;
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage};
use fettle_vuln::feed::cvss::CvssScore;
use support::*;

fn ids(catalogue: &Catalogue, inventory: &Inventory) -> Vec<String> {
    judge(catalogue, inventory).findings.iter().map(|f| f.id.clone()).collect()
}

#[test]
fn a_version_below_the_fix_is_open_the_fix_and_above_are_not() {
    let catalogue = catalogue(&[("nginx", "CVE-1", "1.22.1-9+deb12u2", "")]);
    for (version, affected) in [
        ("1.22.1-9", true),
        ("1.22.1-9+deb12u1", true),
        ("1.22.1-9+deb12u2~bpo1", true),
        ("1.22.1-9+deb12u2", false),
        ("1.22.1-9+deb12u10", false),
        ("1:1.0-1", false),
    ] {
        let found = judge(&catalogue, &with(&[package("nginx", version)]));
        assert_eq!(
            states(&found),
            if affected { vec![("CVE-1", Open)] } else { vec![] },
            "{version}"
        );
    }
}

#[test]
fn a_binary_counts_by_the_name_and_version_of_its_source_never_by_its_own() {
    let catalogue = catalogue(&[
        ("openssl", "CVE-1", "3.0.15-1", ""),
        ("samba", "CVE-2", "2:4.17.12+dfsg-0", ""),
    ]);
    // Named unlike its source.
    let found = judge(&catalogue, &with(&[built("libssl3", "3.0.14-1", "openssl", "3.0.14-1")]));
    assert_eq!(
        (found.findings[0].source.as_str(), found.findings[0].binaries.as_slice()),
        ("openssl", &["libssl3".to_owned()][..])
    );
    // A package that happens to be called like the source, built from another one.
    assert_eq!(
        ids(&catalogue, &with(&[built("openssl", "1.0-1", "openssl-wrapper", "1.0-1")])),
        [""; 0]
    );
    // samba's ldb: its own version is far below samba's fix, its source's is not; and the other way round.
    assert_eq!(
        ids(
            &catalogue,
            &with(&[built("libldb2", "2:2.6.2+samba4.17.12", "samba", "2:4.17.12+dfsg-0+deb12u1")])
        ),
        [""; 0]
    );
    assert_eq!(
        ids(&catalogue, &with(&[built("libldb2", "2:9.9.9", "samba", "2:4.17.11+dfsg-0")])),
        ["CVE-2"]
    );
}

#[test]
fn a_rebuild_of_the_binary_alone_changes_nothing() {
    let catalogue = catalogue(&[("zlib", "CVE-1", "1:1.2.13.dfsg-1+b0", "")]);
    // +b1 sorts above the fix, but it is the same source version.
    let found = judge(
        &catalogue,
        &with(&[built("zlib1g", "1:1.2.13.dfsg-1+b1", "zlib", "1:1.2.13.dfsg-1")]),
    );
    assert_eq!(states(&found), [("CVE-1", Open)]);
    assert_eq!(found.findings[0].installed, "1:1.2.13.dfsg-1");
}

#[test]
fn every_word_of_the_vendor_gives_its_state() {
    let catalogue = catalogue(&[
        ("p", "CVE-1-never", "0", ""),
        ("p", "CVE-2-open", "", ""),
        ("p", "CVE-3-eol", "<end-of-life>", "end-of-life"),
        ("p", "CVE-4-nodsa", "<no-dsa> Minor issue", "low"),
        ("p", "CVE-5-unimportant", "", "unimportant"),
        ("p", "CVE-6-undecided", "?", ""),
        ("p", "CVE-7-fixed-unimportant", "2-1", "unimportant"),
    ]);
    let found = judge(&catalogue, &with(&[package("p", "1-1")]));
    assert_eq!(
        states(&found),
        [
            ("CVE-2-open", NoFixYet),
            ("CVE-3-eol", NoFixYet),
            ("CVE-4-nodsa", NoFixYet),
            ("CVE-5-unimportant", NoFixYet),
            ("CVE-7-fixed-unimportant", Open)
        ]
    );
    let severity = |id: &str| found.findings.iter().find(|f| f.id == id).unwrap().severity();
    assert_eq!(
        (severity("CVE-5-unimportant"), severity("CVE-4-nodsa"), severity("CVE-2-open")),
        (Severity::Negligible, Severity::Low, Severity::Medium)
    );
    assert_eq!(found.doubts.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["CVE-6-undecided"]);
    assert!(
        found
            .findings
            .iter()
            .filter(|f| f.state == NoFixYet)
            .all(|f| f.fixed_version.is_none() && !f.offered)
    );
}

#[test]
fn of_two_versions_of_a_source_only_the_affected_one_is_named() {
    let catalogue = catalogue(&[("ssl", "CVE-1", "3-2", "")]);
    let found = judge(
        &catalogue,
        &with(&[
            built("a", "9", "ssl", "3-1"),
            built("b", "1", "ssl", "3-2"),
            built("c", "9", "ssl", "2-1"),
        ]),
    );
    let f = &found.findings[0];
    assert_eq!(
        (f.installed.as_str(), f.binaries.join(" ").as_str(), f.state),
        ("2-1", "a c", Open)
    );
}

#[test]
fn of_two_statements_about_the_same_thing_the_worse_one_counts_in_any_order() {
    for (one, other, worse) in [
        ("2-1", "3-1", Some("3-1")),
        ("0", "2-1", Some("2-1")),
        ("3-1", "", None),
        ("?", "2-1", Some("2-1")),
    ] {
        for pair in [[one, other], [other, one]] {
            let c = catalogue(&[("p", "CVE-1", pair[0], ""), ("p", "CVE-1", pair[1], "")]);
            assert_eq!(c.len(), 1);
            assert_eq!(
                c.statement("bookworm", "p", "CVE-1").unwrap().fixed_version(),
                worse,
                "{pair:?}"
            );
        }
    }
}

#[test]
fn an_upgrade_counts_as_offered_only_where_its_source_version_reaches_the_fix() {
    let catalogue =
        catalogue(&[("openssl", "CVE-1", "3.0.15-1", ""), ("openssl", "CVE-2", "3.0.17-1", "")]);
    let mut host = with(&[built("libssl3", "3.0.14-1", "openssl", "3.0.14-1")]);
    let offered = |host: &Inventory| {
        judge(&catalogue, host).findings.iter().map(|f| f.offered).collect::<Vec<_>>()
    };
    assert_eq!(offered(&host), [false, false]);
    host.upgrades = vec![upgrade("libssl3", "3.0.14-1", "3.0.16-1", "3.0.16-1")];
    assert_eq!(offered(&host), [true, false]);
    // The binary's own new version means nothing; another package's upgrade neither.
    host.upgrades =
        vec![upgrade("libssl3", "3.0.14-1", "9", "3.0.14-2"), upgrade("nginx", "1", "4", "4")];
    assert_eq!(offered(&host), [false, false]);
}

#[test]
fn in_use_and_exposed_come_from_the_affected_binaries_alone() {
    let catalogue = catalogue(&[("ssl", "CVE-1", "3-2", "")]);
    let mut host = with(&[built("old", "1", "ssl", "3-1"), built("new", "1", "ssl", "3-2")]);
    host.in_use = vec!["new".into()];
    host.exposed = vec!["new".into()];
    let flags = |host: &Inventory| {
        judge(&catalogue, host).findings.iter().map(|f| (f.in_use, f.exposed)).collect::<Vec<_>>()
    };
    assert_eq!(flags(&host), [(false, false)]);
    host.in_use.push("old".into());
    assert_eq!(flags(&host), [(true, false)]);
    host.exposed.push("old".into());
    assert_eq!(flags(&host), [(true, true)]);
}

#[test]
fn an_exception_covers_what_is_vulnerable_and_only_where_it_says() {
    let catalogue =
        catalogue(&[("a", "CVE-1", "2-1", ""), ("b", "CVE-1", "", ""), ("a", "CVE-2", "2-1", "")]);
    let host = with(&[package("a", "1-1"), package("b", "1-1")]);
    let see = |e| {
        let j = judge_with(&catalogue, &host, &[], &[e]);
        j.findings
            .iter()
            .map(|f| (f.source.clone(), f.id.clone(), f.state))
            .filter(|f| f.2 == Accepted)
            .map(|f| f.0 + " " + &f.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(see(exception("CVE-1", None)), ["a CVE-1", "b CVE-1"]);
    assert_eq!(see(exception("CVE-1", Some("b"))), ["b CVE-1"]);
    // Accepted before, patched now: proved like any other.
    let accepted = judge_with(&catalogue, &host, &[], &[exception("CVE-2", None)]).findings;
    let patched = with(&[package("a", "2-1"), package("b", "1-1")]);
    let after = judge_with(&catalogue, &patched, &accepted, &[exception("CVE-2", None)]);
    assert!(after.findings.iter().any(|f| f.id == "CVE-2" && f.state == Fixed));
}

#[test]
fn a_release_without_data_is_said_so_with_what_to_do() {
    let catalogue = catalogue(&[("p", "CVE-1", "", "")]);
    for (id, version, codename) in [
        ("ubuntu", "24.04", "noble"),
        ("debian", "14", "forky"),
        ("raspbian", "12", "bookworm"),
        ("alpine", "3.19", ""),
        ("", "", ""),
    ] {
        let found = judge(
            &catalogue,
            &Inventory { os: os(id, version, codename), ..with(&[package("p", "1-1")]) },
        );
        let Coverage::UnknownRelease { known, .. } = &found.coverage else {
            panic!("{id} {codename}: {:?}", found.coverage)
        };
        assert_eq!(known, &["bookworm"]);
        let told = found.coverage.warning().unwrap();
        assert!(told.contains("fettle feed import") && told.contains("bookworm"), "{told}");
        assert_eq!(states(&found), []);
    }
    assert_eq!(judge(&catalogue, &with(&[package("q", "1")])).coverage.warning(), None);
}

#[test]
fn a_version_that_is_not_well_formed_is_judged_leniently_and_named() {
    let found = judge(&catalogue(&[("p", "CVE-1", "2-1", "")]), &with(&[package("p", "1_odd")]));
    assert_eq!(states(&found), [("CVE-1", Open)]);
    assert!(
        matches!(found.coverage, Coverage::Release { odd_versions, .. } if odd_versions == ["p 1_odd"])
    );
}

#[test]
fn the_highest_cvss_version_ranks_and_its_issuers_score_is_shown() {
    let score = |vector: &str, score: f32, issuer: &str| CvssScore {
        id: "CVE-1".into(),
        version: if vector.starts_with("CVSS:4") { 40 } else { 31 },
        vector: vector.into(),
        score,
        computed: 5.0,
        issuer: issuer.into(),
    };
    let three = score("CVSS:3.1/a", 9.9, "cna");
    let three_adp = score("CVSS:3.1/b", 10.0, "adp:CISA-ADP");
    let four = score("CVSS:4.0/a", 2.0, "adp:CISA-ADP");
    let best = |cvss: Vec<CvssScore>| {
        let input = CatalogueInput {
            advisories: vec![advisory("bookworm", ("p", "CVE-1", "", ""))],
            cvss,
            ..CatalogueInput::default()
        };
        Catalogue::build(input).cvss("CVE-1").unwrap().vector.clone()
    };
    assert_eq!(best(vec![three.clone(), four.clone()]), "CVSS:4.0/a");
    assert_eq!(best(vec![four, three.clone()]), "CVSS:4.0/a");
    assert_eq!(best(vec![three_adp.clone(), three.clone()]), "CVSS:3.1/a");
    assert_eq!(best(vec![three, three_adp]), "CVSS:3.1/a");
}

#[test]
fn judging_twice_gives_the_same_and_shuffled_input_too() {
    let (_, loaded) = snapshot();
    let mut host = with(&[
        built("libssl3", "3.0.9-1", "openssl", "3.0.9-1"),
        package("curl", "7.88.1-10"),
        package("nginx", "1.22.1-9"),
    ]);
    host.upgrades = vec![upgrade("curl", "7.88.1-10", "7.88.1-10+deb12u14", "7.88.1-10+deb12u14")];
    let one = judge(&loaded.catalogue, &host);
    assert!(one.findings.len() > 50);
    host.packages.reverse();
    assert_eq!(judge(&loaded.catalogue, &host), one);
}

#[test]
fn an_explanation_says_who_said_it_when_what_was_compared_how_bad_and_what_to_do() {
    let (_, loaded) = snapshot();
    let mut host = with(&[
        built("libssl3", "3.0.14-1~deb12u1", "openssl", "3.0.14-1~deb12u1"),
        built("openssl", "3.0.14-1~deb12u1", "openssl", "3.0.14-1~deb12u1"),
    ]);
    host.in_use = vec!["libssl3".into()];
    host.exposed = vec!["libssl3".into()];
    host.upgrades =
        vec![upgrade("libssl3", "3.0.14-1~deb12u1", "3.0.22-1~deb12u2", "3.0.22-1~deb12u2")];
    let found = judge(&loaded.catalogue, &host);
    let finding: &Finding = found.findings.iter().find(|f| f.id == "CVE-2024-5535").unwrap();
    let explained = loaded.catalogue.explain(finding, &host);
    insta::assert_json_snapshot!(explained);
    host.upgrades.clear();
    let finding = Finding { offered: false, ..finding.clone() };
    let remedy = |f: &Finding, host: &Inventory| {
        loaded.catalogue.explain(f, host).reasons.pop().unwrap().text
    };
    assert!(remedy(&finding, &host).contains("not offered by the host's own sources"));
    host.held = vec!["libssl3".into()];
    assert!(remedy(&finding, &host).contains("apt-mark unhold"));
}
