//! Odd versions and odd words of vendors, one by one.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::FindingState;
use fettle_core::inventory::Inventory;
use fettle_vuln::exposure::Catalogue;
use fettle_vuln::exposure::CatalogueInput;
use fettle_vuln::feed::purl::Purl;
use support::*;

/// State of the only statement about a source at this version, `None` where it is not affected.
fn state(fixed: &str, installed: &str) -> Option<FindingState> {
    let catalogue = catalogue(&[("p", "CVE-1", fixed, "")]);
    judge(&catalogue, &with(&[package("p", installed)])).findings.first().map(|f| f.state)
}

#[test]
fn a_local_rebuild_counts_as_the_version_it_was_built_from() {
    assert_eq!(state("1.2-3", "1.2-3+local1"), None);
    assert_eq!(state("1.2-4", "1.2-3+local1"), Some(FindingState::Open));
    assert_eq!(
        state("1.2-3+deb12u1", "1.2-3+local1"),
        None,
        "`l` sorts after `d`: dpkg's word, not a guess"
    );
    assert_eq!(state("1.2-3", "1.2-3~local1"), Some(FindingState::Open));
}

#[test]
fn a_binary_rebuilt_without_a_change_of_its_source_counts_by_its_source() {
    let catalogue = catalogue(&[("p", "CVE-1", "1.2-3", "")]);
    let host = |binary: &str, source: &str| with(&[built("libp", binary, "p", source)]);
    assert_eq!(judge(&catalogue, &host("1.2-3+b4", "1.2-3")).findings, []);
    // Though the binary's own version is above the fix.
    assert_eq!(judge(&catalogue, &host("1.2-3+b4", "1.2-2")).findings.len(), 1);
}

#[test]
fn an_update_of_a_stable_release_is_below_the_version_it_was_taken_from() {
    assert_eq!(state("2.0-1", "2.0-1~deb12u1"), Some(FindingState::Open));
    assert_eq!(state("2.0-1~deb12u1", "2.0-1"), None);
    assert_eq!(state("2.0-1~deb12u2", "2.0-1~deb12u1"), Some(FindingState::Open));
    assert_eq!(state("2.0-1+deb12u1", "2.0-1"), Some(FindingState::Open));
    assert_eq!(state("2.0-1~bpo12+1", "2.0-1~deb12u1"), None);
}

#[test]
fn a_version_that_was_taken_back_counts_by_what_it_says_it_is() {
    // libxml2 in trixie: 2.12.7 by number, 2.9.14 in truth.
    let really = "2.12.7+dfsg+really2.9.14-2.1+deb13u1";
    assert_eq!(state(really, "2.12.7+dfsg+really2.9.14-2.1"), Some(FindingState::Open));
    assert_eq!(state(really, "2.12.7+dfsg-3"), Some(FindingState::Open));
    assert_eq!(state(really, really), None);
}

#[test]
fn an_epoch_in_a_file_name_is_an_epoch() {
    let purl = Purl::parse("pkg:deb/debian/perl@1%3a5.36.0-7%2bdeb12u1?arch=amd64").unwrap();
    assert_eq!(purl.full_version(), "1:5.36.0-7+deb12u1");
    assert_eq!(state("1:5.36.0-7+deb12u2", &purl.full_version()), Some(FindingState::Open));
    assert_eq!(state("5.36.0-7+deb12u2", &purl.full_version()), None, "any epoch is above none");
    assert_eq!(state("1:0.9-1", "2.0-1"), Some(FindingState::Open));
}

#[test]
fn each_of_debians_words_without_a_fix_gives_its_state_and_is_explained() {
    for (word, urgency, expected, told) in [
        ("<end-of-life>", "end-of-life", Some(FindingState::NoFixYet), "no longer supported"),
        ("<no-dsa> Minor issue", "", Some(FindingState::NoFixYet), "no advisory planned"),
        ("<postponed>", "", Some(FindingState::NoFixYet), "postponed to a later update"),
        ("<ignored>", "", Some(FindingState::NoFixYet), "will not be fixed"),
        ("0", "", None, ""),
        ("?", "", None, ""),
    ] {
        let catalogue = catalogue(&[("p", "CVE-1", word, urgency)]);
        let host = with(&[package("p", "1.0-1")]);
        let judgement = judge(&catalogue, &host);
        assert_eq!(judgement.findings.first().map(|f| f.state), expected, "{word}");
        assert_eq!(judgement.doubts.len(), usize::from(word == "?"));
        if let Some(finding) = judgement.findings.first() {
            let text: String =
                catalogue.explain(finding, &host).reasons.into_iter().map(|r| r.text).collect();
            assert!(text.contains(told), "{word}: {text}");
        }
    }
}

/// An Ubuntu 20.04 host with one package.
fn focal(version: &str) -> Inventory {
    Inventory { os: os("ubuntu", "20.04", "focal"), ..with(&[package("p", version)]) }
}

fn with_pro(own: Option<&str>, pro: &str) -> Catalogue {
    let mut advisories = vec![
        advisory("ubuntu-pro:20.04", ("p", "CVE-1", pro, "")),
        advisory("ubuntu:20.04", ("q", "CVE-9", "1", "")),
    ];
    advisories.extend(own.map(|status| advisory("ubuntu:20.04", ("p", "CVE-1", status, ""))));
    let one = Catalogue::build(CatalogueInput {
        advisories: advisories.clone(),
        ..CatalogueInput::default()
    });
    advisories.reverse();
    let other = Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() });
    assert_eq!(one.statements_of("ubuntu:20.04"), other.statements_of("ubuntu:20.04"));
    one
}

#[test]
fn what_ubuntu_fixes_for_subscribers_alone_is_open_for_all_and_fixed_where_it_is_installed() {
    for own in [None, Some("")] {
        let catalogue = with_pro(own, "1.0-1ubuntu2+esm1");
        let mut host = focal("1.0-1ubuntu2");
        let found = judge(&catalogue, &host).findings;
        assert_eq!(
            (found[0].state, found[0].fixed_version.as_deref()),
            (FindingState::NoFixYet, None)
        );
        // Attached: its own sources offer the fix.
        host.upgrades =
            vec![upgrade("p", "1.0-1ubuntu2", "1.0-1ubuntu2+esm1", "1.0-1ubuntu2+esm1")];
        let found = judge(&catalogue, &host).findings;
        assert_eq!((found[0].state, found[0].offered), (FindingState::Open, true));
        assert_eq!(found[0].fixed_version.as_deref(), Some("1.0-1ubuntu2+esm1"));
        assert_eq!(judge(&catalogue, &focal("1.0-1ubuntu2+esm1")).findings, []);
    }
    let catalogue = with_pro(None, "1.0-1ubuntu2+esm1");
    let host = focal("1.0-1ubuntu2");
    let found = judge(&catalogue, &host).findings;
    let told: String =
        catalogue.explain(&found[0], &host).reasons.into_iter().map(|r| r.text).collect();
    assert!(
        told.contains("attached to Ubuntu Pro") && told.contains("1.0-1ubuntu2+esm1"),
        "{told}"
    );
}

#[test]
fn a_fix_for_everybody_counts_before_one_for_subscribers() {
    let catalogue = with_pro(Some("1.0-1ubuntu3"), "1.0-1ubuntu2+esm1");
    let found = judge(&catalogue, &focal("1.0-1ubuntu2")).findings;
    assert_eq!(
        (found[0].state, found[0].fixed_version.as_deref()),
        (FindingState::Open, Some("1.0-1ubuntu3"))
    );
    // What is open for subscribers too is open for everybody.
    let catalogue = with_pro(None, "");
    assert_eq!(judge(&catalogue, &focal("1.0-1ubuntu2")).findings[0].state, FindingState::NoFixYet);
    let catalogue = with_pro(None, "0");
    assert_eq!(judge(&catalogue, &focal("1.0-1ubuntu2")).findings, []);
}
