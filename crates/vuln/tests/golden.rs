//! Whole hosts against an outside oracle: the pairs on which trivy and debsecan agree, kernel images on top.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::inventory::{Inventory, Kernel};
use fettle_core::version::deb;
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage, KernelCoverage};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use support::*;

type Pairs = BTreeSet<(String, String, String, String)>;

fn tracker() -> Option<Catalogue> {
    let bytes = unzstd(&shared("debian-tracker/tracker-assembled.json.zst")?);
    let advisories = fettle_vuln::feed::debian::parse(&bytes).unwrap().records;
    Some(Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() }))
}

fn expected(host: &str) -> Option<Pairs> {
    let text = shared_text(&format!("golden/{host}.expected.tsv.zst"))?;
    let row = |line: &str| {
        let f: Vec<&str> = line.split('\t').collect();
        (f[0].to_owned(), f[1].to_owned(), f[2].to_owned(), f[3].to_owned())
    };
    Some(text.lines().skip(1).map(row).collect())
}

/// Findings as (CVE, binary, its version, fixed version).
fn found(catalogue: &Catalogue, inventory: &Inventory) -> Pairs {
    let versions: BTreeMap<&str, &str> =
        inventory.packages.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
    let judgement = judge(catalogue, inventory);
    let mut pairs = Pairs::new();
    for f in &judgement.findings {
        for b in &f.binaries {
            let version = versions.get(b.as_str()).copied().unwrap_or_default();
            pairs.insert((
                f.id.clone(),
                b.clone(),
                version.to_owned(),
                f.fixed_version.clone().unwrap_or_default(),
            ));
        }
    }
    pairs
}

fn differences(ours: &Pairs, theirs: &Pairs) -> Vec<String> {
    let missed = theirs.difference(ours).map(|p| format!("missed {p:?}"));
    let extra = ours.difference(theirs).map(|p| format!("extra {p:?}"));
    missed.chain(extra).collect()
}

#[test]
fn a_server_gives_the_pairs_of_trivy_and_debsecan_and_its_running_kernel_on_top() {
    let (Some(catalogue), Some(theirs)) = (tracker(), expected("debian_12")) else { return };
    let status = shared_text("golden/debian_12.dpkg-status.zst").unwrap();
    let mut host = with(&dpkg_status(&status));
    let in_container = found(&catalogue, &host);
    assert_eq!(differences(&in_container, &theirs), Vec::<String>::new());
    assert_eq!(theirs.len(), 1457);

    host.kernel = Kernel {
        running: "6.1.0-29-amd64".into(),
        running_version: "6.1.123-1".into(),
        from_package: true,
        installed: BTreeMap::new(),
    };
    let on_top: Pairs = found(&catalogue, &host).difference(&theirs).cloned().collect();
    assert!(on_top.iter().all(|(_, binary, ..)| binary == "linux-image-6.1.0-29-amd64"));
    assert_eq!(on_top.len(), kernel_reference("6.1.123-1"), "by the tracker's own text and dpkg");
    assert_eq!(on_top.len(), 4542);
}

/// How many CVEs of source `linux` in bookworm are fixed above a version, or not at all: from the JSON as it
/// stands, compared by dpkg.
fn kernel_reference(version: &str) -> usize {
    let bytes = unzstd(&shared("debian-tracker/tracker-assembled.json.zst").unwrap());
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let mut count = 0;
    let mut higher: BTreeMap<String, bool> = BTreeMap::new();
    for entry in json["linux"].as_object().unwrap().values() {
        let release = &entry["releases"]["bookworm"];
        match (release["status"].as_str(), release["fixed_version"].as_str()) {
            (Some("open"), _) => count += 1,
            (Some("resolved"), Some(fixed)) if fixed != "0" => {
                let ask = || {
                    Command::new("dpkg")
                        .args(["--compare-versions", version, "lt", fixed])
                        .status()
                        .unwrap()
                        .success()
                };
                count += usize::from(*higher.entry(fixed.to_owned()).or_insert_with(ask));
            }
            _ => {}
        }
    }
    count
}

#[test]
fn a_build_machine_with_750_packages_gives_the_pairs_of_trivy_and_debsecan() {
    let (Some(catalogue), Some(theirs)) = (tracker(), expected("builder-bookworm")) else { return };
    let status = shared_text("golden/builder-bookworm.dpkg-status.zst").unwrap();
    let host = with(&dpkg_status(&status));
    assert_eq!(differences(&found(&catalogue, &host), &theirs), Vec::<String>::new());
    assert_eq!(theirs.len(), 5810);
    let coverage = judge(&catalogue, &host).coverage;
    assert!(
        matches!(coverage, Coverage::Release { kernel: KernelCoverage::NotThisHosts, .. }),
        "{coverage:?}"
    );
}

#[test]
fn thirty_thousand_real_version_pairs_compare_as_libapt_compared_them() {
    let Some(text) = shared_text("version-compare/debian-real-version-pairs.tsv.zst") else {
        return;
    };
    let mut count = 0;
    for line in text.lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        // Lenient: some of these never were well-formed (`kernel-image-2.4.17-ia64`), and libapt compares them too.
        let ours = deb::compare_lenient(f[1], f[2]);
        assert_eq!((ours as i8).to_string(), f[3], "{line}");
        assert_eq!(deb::key_lenient(f[1]).cmp(&deb::key_lenient(f[2])), ours, "{line}");
        count += 1;
    }
    assert!(count >= 29_000, "only {count} pairs in the file");
}
