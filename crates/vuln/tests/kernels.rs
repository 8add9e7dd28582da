//! Kernels: what runs counts, and what only looks like one does not.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::finding::FindingState::*;
use fettle_core::inventory::{Inventory, Kernel};
use fettle_vuln::exposure::{Catalogue, Coverage, KernelCoverage, Withdrawal};
use std::collections::BTreeMap;
use support::*;

fn ids(catalogue: &Catalogue, inventory: &Inventory) -> Vec<String> {
    judge(catalogue, inventory).findings.iter().map(|f| f.id.clone()).collect()
}

fn running(release: &str, version: &str) -> Kernel {
    Kernel {
        running: release.into(),
        running_version: version.into(),
        from_package: true,
        installed: BTreeMap::new(),
    }
}

/// An image package as Debian signs it: version `6.1.119-1` comes from source version `6.1.119+1`.
fn image(release: &str, version: &str) -> fettle_core::Shared<fettle_core::inventory::Package> {
    let name = format!("linux-image-{release}");
    built(&name, version, "linux-signed-amd64", &version.replacen('-', "+", 1))
}

#[test]
fn a_signed_kernel_is_judged_as_the_kernel_source_by_what_runs() {
    let catalogue = catalogue(&[
        ("linux", "CVE-1", "6.1.120-1", ""),
        ("linux", "CVE-2", "6.1.100-1", ""),
        ("linux", "CVE-3", "", ""),
    ]);
    let mut host =
        with(&[image("6.1.0-28-amd64", "6.1.119-1"), image("6.1.0-20-amd64", "6.1.90-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    let found = judge(&catalogue, &host);
    // CVE-2 is in the old image, which does not run.
    assert_eq!(states(&found), [("CVE-1", Open), ("CVE-3", NoFixYet)]);
    let f = &found.findings[0];
    assert_eq!(
        (f.source.as_str(), f.installed.as_str(), f.binaries.join(" ").as_str(), f.in_use),
        ("linux", "6.1.119-1", "linux-image-6.1.0-28-amd64", true)
    );
    // Rebooted into the old one.
    host.kernel = running("6.1.0-20-amd64", "");
    assert_eq!(
        states(&judge(&catalogue, &host)),
        [("CVE-1", Open), ("CVE-2", PendingReboot), ("CVE-3", NoFixYet)]
    );
}

#[test]
fn a_fixed_kernel_that_is_installed_and_does_not_run_makes_it_a_pending_reboot() {
    let catalogue = catalogue(&[("linux", "CVE-1", "6.1.120-1", "")]);
    let mut host =
        with(&[image("6.1.0-28-amd64", "6.1.119-1"), image("6.1.0-29-amd64", "6.1.123-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    let before = judge(&catalogue, &host);
    assert_eq!(states(&before), [("CVE-1", PendingReboot)]);
    // Half-installed, it would not boot.
    host.packages[1].healthy = false;
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", Open)]);
    host.packages[1].healthy = true;
    host.kernel = running("6.1.0-29-amd64", "6.1.123-1");
    assert_eq!(states(&judge_after(&catalogue, &host, &before.findings)), [("CVE-1", Fixed)]);
    // Same package name, newer build on disk: what the kernel says of itself counts.
    let mut host = with(&[image("6.1.0-28-amd64", "6.1.123-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", PendingReboot)]);
}

#[test]
fn a_container_answers_for_no_kernel_but_for_everything_else_built_from_its_source() {
    let catalogue = catalogue(&[("linux", "CVE-1", "6.1.120-1", "")]);
    let mut host = with(&[image("6.1.0-28-amd64", "6.1.119-1")]);
    host.kernel = Kernel { from_package: false, ..running("6.1.0-28-amd64", "6.1.119-1") };
    let found = judge(&catalogue, &host);
    assert_eq!(states(&found), []);
    assert!(matches!(
        found.coverage,
        Coverage::Release { kernel: KernelCoverage::NotThisHosts, .. }
    ));
    host.packages.push(built("linux-libc-dev", "6.1.119-1", "linux", "6.1.119-1"));
    let found = judge(&catalogue, &host);
    assert_eq!(found.findings[0].binaries, ["linux-libc-dev"]);
    assert!(!found.findings[0].in_use);
    let lines = catalogue.explain(&found.findings[0], &host);
    assert!(lines.reasons.iter().any(|r| r.text.contains("headers or tools")), "{lines:?}");
}

#[test]
fn a_kernel_whose_version_cannot_be_told_is_reported_never_guessed() {
    let catalogue = catalogue(&[("linux", "CVE-1", "6.1.120-1", "")]);
    let mut host = with(&[image("6.1.0-28-amd64", "6.1.119-1")]);
    host.kernel = running("6.9-mine", "");
    let found = judge(&catalogue, &host);
    assert_eq!(states(&found), []);
    assert_eq!(
        found.coverage,
        Coverage::Release {
            release: "bookworm".into(),
            kernel: KernelCoverage::Unknown { running: "6.9-mine".into() },
            odd_versions: vec![]
        }
    );
    assert!(found.coverage.warning().unwrap().contains("6.9-mine"));
    // Its package was removed while it runs: it still tells its version.
    host.kernel = running("6.1.0-10-amd64", "6.1.37-1");
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", Open)]);
}

#[test]
fn a_kernel_upgrade_by_its_metapackage_counts_as_offered() {
    let catalogue = catalogue(&[("linux", "CVE-1", "6.1.120-1", "")]);
    let mut host = with(&[image("6.1.0-28-amd64", "6.1.119-1"), image("amd64", "6.1.119-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    host.upgrades = vec![upgrade("linux-image-amd64", "6.1.119-1", "6.1.123-1", "6.1.123+1")];
    assert!(judge(&catalogue, &host).findings[0].offered);
    host.upgrades = vec![upgrade("linux-image-amd64", "6.1.119-1", "6.1.119-2", "6.1.119+2")];
    assert!(!judge(&catalogue, &host).findings[0].offered);
}

#[test]
fn a_package_that_is_only_called_like_a_kernel_image_is_judged_as_any_other() {
    let catalogue = catalogue(&[("mykernel", "CVE-1", "2-1", "")]);
    let host = with(&[built("linux-image-mine", "1-1", "mykernel", "1-1")]);
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", Open)]);
}

#[test]
fn other_signed_packages_are_judged_by_the_source_they_were_built_from() {
    let catalogue = catalogue(&[("grub2", "CVE-1", "2.06-13+deb12u1", "")]);
    let signed = |v: &str| with(&[built("grub-efi-amd64-signed", v, "grub-efi-amd64-signed", v)]);
    assert_eq!(ids(&catalogue, &signed("1+2.06+13")), ["CVE-1"]);
    assert_eq!(ids(&catalogue, &signed("1+2.06+13+deb12u1")), [""; 0]);
}

#[test]
fn a_kernel_finding_is_not_proved_fixed_by_losing_sight_of_the_kernel() {
    let catalogue = catalogue(&[("linux", "CVE-1", "6.1.120-1", "")]);
    let mut host = with(&[image("6.1.0-28-amd64", "6.1.119-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    let before = judge(&catalogue, &host).findings;
    host.kernel.from_package = false;
    let after = judge_after(&catalogue, &host, &before);
    assert_eq!((after.findings.len(), &after.withdrawn[0].why), (0, &Withdrawal::KernelNotJudged));
}
