//! What must hold for any bytes at all. The fuzz targets call it with bytes they make up; the tests of `fettle-vuln`
//! replay the corpus through it.

use fettle_core::advisory::AdvisoryStatus;
use fettle_core::root;
use fettle_vuln::exposure::{Catalogue, CatalogueInput};
use fettle_vuln::feed::debian_list::{self, List, Lists};
use fettle_vuln::feed::oval::OvalVendor;
use fettle_vuln::feed::updateinfo::RpmVendor;
use fettle_vuln::feed::{
    self, Feed, FeedError, MAX_ERRORS_KEPT, MAX_NAME, MAX_TEXT, MAX_VERSION, Parsed, Publisher,
};
use fettle_vuln::installed::{self, Installed};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The targets, each with a directory of its name in `corpus/`.
pub const TARGETS: [&str; 17] = [
    "apk_installed",
    "csaf_redhat",
    "cve",
    "debian_advisories",
    "debian_list",
    "debian_tracker",
    "epss",
    "cvss",
    "kev",
    "nvd",
    "osv",
    "oval",
    "rpm_database",
    "sbom",
    "secdb",
    "updateinfo",
    "vex",
];

/// Tries one target on these bytes.
///
/// # Panics
/// When something does not hold, or there is no such target.
pub fn try_target(target: &str, bytes: &[u8]) {
    let mut input = CatalogueInput::default();
    match target {
        "debian_tracker" => {
            input.advisories = records(Feed::DebianTracker, bytes, feed::debian::parse(bytes));
        }
        "debian_advisories" => {
            input.debian_advisories =
                records(Feed::DebianAdvisories, bytes, feed::dsa::parse(bytes));
        }
        "debian_list" => {
            let list =
                |list| records(Feed::DebianList(list), bytes, debian_list::parse(list, bytes));
            let lists = Lists { cve: list(List::Cve), dsa: list(List::Dsa), dla: list(List::Dla) };
            input.add_debian_lists(debian_list::resolve(&lists));
        }
        "kev" => input.kev = records(Feed::Kev, bytes, feed::kev::parse(bytes)),
        "epss" => {
            input.epss = records(Feed::Epss, bytes, feed::epss::parse(bytes));
            assert!(input.epss.iter().all(|e| (0.0..=1.0).contains(&e.probability)));
        }
        "cvss" => {
            input.cvss = records(Feed::Cvss, bytes, feed::cvss::parse(bytes));
            let bounds = 0.0..=10.0;
            assert!(
                input
                    .cvss
                    .iter()
                    .all(|c| bounds.contains(&c.score) && bounds.contains(&c.computed))
            );
        }
        "csaf_redhat" => {
            let parsed = feed::csaf::redhat::parse(bytes);
            input.add_osv(records(Feed::RedHatCsaf, bytes, parsed));
        }
        "cve" => input.add_cve(records(Feed::CveRecords, bytes, feed::cve::parse(bytes))),
        "nvd" => input.add_cve(records(Feed::Nvd, bytes, feed::cve::parse_nvd(bytes))),
        "secdb" => {
            input.advisories = records(Feed::AlpineSecdb, bytes, feed::secdb::parse(bytes));
        }
        "updateinfo" => {
            for vendor in RpmVendor::ALL {
                let parsed = feed::updateinfo::parse(vendor, bytes);
                input.add_osv(records(Feed::UpdateInfo(vendor), bytes, parsed));
            }
        }
        "oval" => {
            for vendor in OvalVendor::ALL {
                let parsed = feed::oval::parse(vendor, bytes);
                input.add_oval(records(Feed::Oval(vendor), bytes, parsed));
            }
        }
        "vex" => {
            input.vex = records(Feed::Vex, bytes, feed::vex::parse(bytes));
            for said in &input.vex {
                assert!(!said.products.is_empty() && !said.author.is_empty());
                assert!(said.expires.is_none_or(|until| until > said.issued));
            }
        }
        "osv" => {
            let publisher = publisher_in(bytes);
            let parsed = feed::osv::parse(publisher, bytes);
            input.add_osv(records(Feed::Osv(publisher), bytes, parsed));
        }
        "sbom" => {
            let Ok(read) = fettle_vuln::sbom::parse(bytes) else { return };
            let graphic =
                |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
            assert!(read.packages.iter().all(|p| graphic(&p.name) && graphic(&p.version)));
            assert!(read.languages.iter().all(|p| graphic(&p.name) && graphic(&p.version)));
            assert!(read.roots.iter().all(|root| root::is_name(&root.name)));
            let mut in_roots = read.roots.iter().flat_map(|root| &root.packages);
            assert!(in_roots.all(|p| graphic(&p.name) && graphic(&p.version)));
            return;
        }
        "apk_installed" => return sound(&installed::apk::parse(bytes)),
        "rpm_database" => {
            // A database, and one with what follows the last of these words as its log.
            let word = b"LOG OF IT";
            let at = bytes.windows(word.len()).rposition(|w| w == word);
            let (file, log) = match at {
                Some(at) => (&bytes[..at], Some(&bytes[at + word.len()..])),
                None => (bytes, None),
            };
            let mut packages = 0;
            let mut go_on = || {
                packages += 1;
                packages < 10_000
            };
            if let Ok(read) = installed::rpm::parse(file, log, &mut go_on) {
                sound(&read);
            }
            return;
        }
        other => panic!("there is no target {other}"),
    }
    for said in &input.advisories {
        assert!(!said.id.is_empty() && said.id.len() <= MAX_NAME, "{:?}", said.id);
        assert!(
            !said.source.is_empty() && said.source.len() <= 3 * MAX_NAME + 2,
            "{:?}",
            said.source
        );
        if let AdvisoryStatus::Fixed { version } = &said.status {
            assert!(!version.is_empty() && version.len() <= MAX_VERSION, "{version:?}");
        }
        if let AdvisoryStatus::Ranges { ranges } = &said.status {
            assert!(!ranges.is_empty());
            for range in ranges {
                let bounds = [Some(&range.introduced), range.fixed.as_ref(), range.last.as_ref()];
                let mut bounds = bounds.into_iter().flatten();
                assert!(bounds.all(|v| !v.is_empty() && v.len() <= MAX_VERSION), "{range}");
            }
        }
        assert!(!said.id.contains(char::is_control) && !said.release.contains(char::is_control));
    }
    // What one document says is one catalogue, whatever its order, and no change to itself.
    let mut turned = input.clone();
    turned.advisories.reverse();
    let (one, other) = (Catalogue::build(input), Catalogue::build(turned));
    let said = |c: &Catalogue| {
        let of = |release: &str| (release.to_owned(), c.statements_of(release).to_vec());
        c.releases().map(of).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(said(&one), said(&other));
    assert_eq!(one.sudden_changes(&other), []);
}

/// What a database lists can be told to others.
fn sound(read: &Installed) {
    assert!(read.packages.is_sorted() && read.packages.iter().all(installed::is_sound));
}

/// The publisher whose ecosystem stands first in the bytes.
fn publisher_in(bytes: &[u8]) -> Publisher {
    let text = String::from_utf8_lossy(bytes);
    let first =
        |p: &Publisher| p.ecosystems().iter().filter_map(|e| text.find(&format!("\"{e}"))).min();
    let found = Publisher::ALL.into_iter().filter_map(|p| Some((first(&p)?, p))).min();
    found.map_or(Publisher::Alpine, |(_, publisher)| publisher)
}

/// What a parser gave, held against the promises all of them make.
fn records<T: Debug>(feed: Feed, bytes: &[u8], result: Result<Parsed<T>, FeedError>) -> Vec<T> {
    let lines = bytes.iter().filter(|&&b| b == b'\n').count() + 1;
    match result {
        Ok(parsed) => {
            assert!(!parsed.records.is_empty(), "a document without a record was taken");
            assert!(parsed.errors.len() <= MAX_ERRORS_KEPT);
            assert!(parsed.errors_not_kept == 0 || parsed.errors.len() == MAX_ERRORS_KEPT);
            for error in &parsed.errors {
                assert!((1..=lines).contains(&error.line), "{error} of {lines} lines");
                assert!(error.what.len() <= MAX_TEXT && !error.what.is_empty(), "{error}");
                assert!(!error.to_string().contains(char::is_control), "{error}");
            }
            parsed.records
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains(&feed.to_string()), "{told}");
            assert!(told.len() <= 4 * MAX_TEXT && !told.contains(char::is_control), "{told}");
            if let FeedError::Truncated { line, .. } | FeedError::Malformed { line, .. } = error {
                assert!((1..=lines).contains(&line), "{told} of {lines} lines");
            }
            Vec::new()
        }
    }
}
