//! The compact form judges as the catalogue it was made of, and a broken one is refused.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::HostId;
use fettle_core::advisory::{Advisory, AdvisoryStatus, VersionRange};
use fettle_core::inventory::{Inventory, Kernel};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_vuln::compact::{self, Head, PREFIX, Section, Unusable};
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Coverage, HostView, Judgement, KernelCoverage,
};
use fettle_vuln::feed::vex::{self, VexStatement};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

/// Judges by the file, as a program does that reads only the parts it needs.
fn by_file(file: &[u8], view: &HostView<'_>) -> Result<(Judgement, Catalogue), Unusable> {
    let head = Head::parse(file)?;
    let part = |extent: &compact::Extent| {
        let bytes = &file[extent.offset as usize..(extent.offset + extent.length) as usize];
        extent.verify(bytes).map(|()| bytes)
    };
    let own: Vec<VexStatement> = serde_json::from_slice(part(&head.own)?).unwrap();
    let mut sections = Vec::new();
    for release in compact::releases(view) {
        if let Some((release, extent)) = head.releases.get_key_value(&release) {
            sections.push((release.as_str(), Section::open(part(extent)?)?));
        }
    }
    compact::judge(&sections, &head, own, view)
}

fn view<'a>(
    host: &'a HostId,
    inventory: &'a Inventory,
    none: &'a BTreeMap<String, String>,
) -> HostView<'a> {
    HostView { host, inventory, previous: &[], ran_before: none, accepted: &[] }
}

#[test]
fn a_real_host_is_judged_and_explained_alike_by_the_file_and_by_the_whole_snapshot() {
    let (_, loaded) = snapshot();
    let catalogue = loaded.catalogue;
    let file = catalogue.compact("stamp");
    println!("{} statements, {} bytes", catalogue.len(), file.len());
    let head = Head::parse(&file).unwrap();
    assert_eq!((head.stamp.as_str(), &head.as_of), ("stamp", catalogue.as_of()));
    let Some(status) = shared_text("golden/builder-bookworm.dpkg-status.zst") else { return };
    let mut host = with(&dpkg_status(&status));
    let (id, none) = (HostId::new("h"), BTreeMap::new());
    for kernel in [false, true] {
        host.kernel = Kernel {
            running: "6.1.0-29-amd64".into(),
            running_version: "6.1.123-1".into(),
            from_package: kernel,
            ..Kernel::default()
        };
        let whole = catalogue.judge(&view(&id, &host, &none));
        let (part, its) = by_file(&file, &view(&id, &host, &none)).unwrap();
        assert_eq!(part, whole);
        assert!(whole.findings.len() > 500);
        for finding in whole.findings.iter().step_by(50) {
            assert_eq!(its.explain(finding, &host), catalogue.explain(finding, &host));
        }
        let running = matches!(
            &whole.coverage,
            Coverage::Release { kernel: KernelCoverage::Running { .. }, .. }
        );
        assert_eq!(running, kernel);
        // And with a history, which may be taken back.
        let mut previous = whole.findings;
        previous.iter_mut().step_by(3).for_each(|f| f.installed = "0".into());
        let mut healed = host.clone();
        healed.packages.retain(|p| p.source != "openssl");
        let after = HostView { previous: &previous, ..view(&id, &healed, &none) };
        assert_eq!(by_file(&file, &after).unwrap().0, catalogue.judge(&after));
    }
}

#[test]
fn a_file_with_any_byte_changed_or_cut_is_refused_or_gives_no_wrong_word() {
    let catalogue = small(&[(0, 0, 3), (1, 1, 6), (2, 2, 2), (0, 3, 5)]);
    let file = catalogue.compact("of these");
    let host = with(&[package("p", "1-1"), package("q", "2-1")]);
    let (id, none) = (HostId::new("h"), BTreeMap::new());
    let good = by_file(&file, &view(&id, &host, &none)).unwrap().0;
    assert_eq!(good, catalogue.judge(&view(&id, &host, &none)));
    let releases = Head::parse(&file).unwrap().releases;
    let is_unread = |at: &usize| {
        let others = releases.iter().filter(|(name, _)| *name != "bookworm");
        others
            .map(|(_, e)| e.offset as usize..(e.offset + e.length) as usize)
            .any(|r| r.contains(at))
    };
    for at in 0..file.len() {
        let mut broken = file.clone();
        broken[at] ^= 0x41;
        match by_file(&broken, &view(&id, &host, &none)) {
            Ok((judgement, _)) => {
                assert!(is_unread(&at), "byte {at} changed, and nobody saw it");
                assert_eq!(judgement, good);
            }
            Err(why) => assert!(!is_unread(&at), "byte {at}: {why}"),
        }
    }
    assert_eq!(
        Head::length(b"fettleVD\x03\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0"),
        Err(Unusable::Layout(3))
    );
    assert_eq!(Head::length(&[0; PREFIX]), Err(Unusable::Magic));
    for end in 0..PREFIX {
        assert!(Head::parse(&file[..end]).is_err());
    }
}

const SOURCES: [&str; 3] = ["p", "q", "linux"];
const STATUSES: [&str; 7] = ["0", "?", "", "1-2", "2-1", "3-1", "^2-1"];
const VERSIONS: [&str; 4] = ["1-1", "1-2", "2-1", "3-1"];

/// A statement about a package of a language: of one CVE that a source of Debian may have, too.
fn ranges(id: &str) -> Advisory {
    let range = |introduced: &str, fixed: Option<&str>| VersionRange {
        introduced: introduced.into(),
        fixed: fixed.map(Into::into),
        last: None,
    };
    let ranges =
        vec![range("0", Some("1.5")), range("2.0", if id == "CVE-7" { None } else { Some("2.2") })];
    Advisory {
        status: AdvisoryStatus::Ranges { ranges },
        ..advisory("pypi", ("pypi/x", id, "", "high"))
    }
}

fn small(statements: &[(usize, usize, usize)]) -> Catalogue {
    let said = |&(source, id, status): &(usize, usize, usize)| {
        advisory("bookworm", (SOURCES[source], &format!("CVE-{id}"), STATUSES[status], "low"))
    };
    let own = r#"{"author":"a","timestamp":"2026-01-01","statements":[{"vulnerability":"CVE-1","products":["p"],"status":"fixed"}]}"#;
    Catalogue::build(CatalogueInput {
        advisories: statements
            .iter()
            .map(said)
            .chain([advisory("trixie", ("p", "CVE-9", "", "")), ranges("CVE-1"), ranges("CVE-7")])
            .collect(),
        vex: vex::parse(own.as_bytes()).unwrap().records,
        ..CatalogueInput::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_said_and_installed_the_file_judges_as_the_catalogue(
        statements in prop::collection::vec((0..3usize, 0..5usize, 0..STATUSES.len()), 1..12),
        installed in prop::collection::vec(prop::option::of(0..VERSIONS.len()), 3),
        before in prop::collection::vec(prop::option::of(0..VERSIONS.len()), 3),
        offered in prop::option::of(0..VERSIONS.len()),
        languages in prop::collection::vec(0..4usize, 0..3),
        languages_before in prop::collection::vec(0..4usize, 0..3),
    ) {
        let catalogue = small(&statements);
        let of = |versions: &[Option<usize>], languages: &[usize]| {
            let packages: Vec<_> = SOURCES.iter().zip(versions).filter_map(|(s, v)| Some(package(s, VERSIONS[(*v)?]))).collect();
            let mut host = with(&packages);
            host.languages = languages.iter().enumerate().map(|(at, v)| LanguagePackage {
                ecosystem: Ecosystem::Pypi,
                name: "X".into(),
                version: ["1.0", "1.5", "2.1", "3.0"][*v].into(),
                location: format!("/opt/{at}"),
            }).collect();
            if let Some(to) = offered {
                host.upgrades = vec![upgrade("p", "1-1", VERSIONS[to], VERSIONS[to])];
            }
            host
        };
        let file = catalogue.compact("");
        prop_assume!(Head::parse(&file).unwrap().releases.contains_key("bookworm"));
        let (id, none) = (HostId::new("h"), BTreeMap::new());
        let (earlier, now) = (of(&before, &languages_before), of(&installed, &languages));
        let previous = catalogue.judge(&view(&id, &earlier, &none)).findings;
        for previous in [&[][..], &previous] {
            let view = HostView { previous, ..view(&id, &now, &none) };
            let (judgement, its) = by_file(&file, &view).unwrap();
            prop_assert_eq!(&judgement, &catalogue.judge(&view));
            prop_assert_eq!(its.own(), catalogue.own());
        }
    }
}
