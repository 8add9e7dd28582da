//! Hosts of other vendors than Debian: what statements are about, and whose version order counts.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::Shared;
use fettle_core::finding::FindingState::*;
use fettle_core::finding::Severity;
use fettle_core::inventory::{Inventory, Kernel, Os, Package};
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage};
use fettle_vuln::feed::updateinfo::{self, RpmVendor};
use fettle_vuln::feed::{Publisher, debian, osv};
use support::*;

#[test]
fn a_host_is_judged_by_its_own_package_managers_order_and_by_what_its_vendor_speaks_of() {
    let speak = |release: &str, package: &str, fixed: &str| {
        catalogue_of(vec![advisory(release, (package, "CVE-1", fixed, ""))])
    };
    let host = |os: Os, packages: &[Shared<Package>]| Inventory { os, ..with(packages) };
    // To rpm a caret is after the end, to dpkg it is no version at all; AlmaLinux speaks of binaries, Rocky of sources.
    let packages = [built("openssl-libs", "1:3.0.7^2-1.el9", "openssl", "1:3.0.7^2-1.el9")];
    let (alma, rocky) = (os("almalinux", "9.4", ""), os("rocky", "9.4", ""));
    let found = |catalogue: &Catalogue, os: &Os| {
        judge(catalogue, &host(os.clone(), &packages)).findings.len()
    };
    assert_eq!(found(&speak("almalinux:9", "openssl-libs", "1:3.0.7^3-1.el9"), &alma), 1);
    assert_eq!(found(&speak("almalinux:9", "openssl-libs", "1:3.0.7-1.el9"), &alma), 0);
    assert_eq!(found(&speak("almalinux:9", "openssl", "1:3.0.7^3-1.el9"), &alma), 0);
    assert_eq!(found(&speak("rocky:9", "openssl", "1:3.0.7^3-1.el9"), &rocky), 1);
    assert_eq!(found(&speak("rocky:9", "openssl-libs", "1:3.0.7^3-1.el9"), &rocky), 0);

    // To apk a number with a leading zero is low.
    let alpine = host(os("alpine", "3.19.1", ""), &[built("libx", "1.02-r0", "x", "1.02-r0")]);
    assert_eq!(judge(&speak("alpine:3.19", "x", "1.1-r0"), &alpine).findings.len(), 1);
    assert_eq!(judge(&speak("alpine:3.19", "x", "1.01-r0"), &alpine).findings.len(), 0);
    let catalogue = speak("alpine:3.19", "x", "1.1-r0");
    let finding = &judge(&catalogue, &alpine).findings[0];
    let told = format!("{:?}", catalogue.explain(finding, &alpine));
    assert!(told.contains("In apk's order 1.02-r0 is lower than"), "{told}");
    assert!(told.contains("apk policy"), "{told}");
}

#[test]
fn packages_of_a_module_are_not_judged_by_the_statements_about_others_and_it_is_said() {
    let catalogue = catalogue_of(vec![advisory(
        "almalinux:9",
        ("nodejs", "CVE-1", "1:20.0.0-1.module_el9.1.0+16+91bc168f", ""),
    )]);
    let mut host = with(&[package("nodejs", "1:18.12.1-1.module_el9.1.0+16+91bc168f")]);
    host.os = os("almalinux", "9.4", "");
    let judgement = judge(&catalogue, &host);
    assert_eq!(judgement.findings, []);
    let Coverage::Release { odd_versions, .. } = &judgement.coverage else {
        panic!("{:?}", judgement.coverage)
    };
    assert_eq!(odd_versions, &["nodejs 1:18.12.1-1.module_el9.1.0+16+91bc168f"]);
}

#[test]
fn ubuntus_signed_kernels_count_as_the_source_they_were_built_from() {
    let catalogue =
        catalogue_of(vec![advisory("ubuntu:22.04", ("linux-hwe-6.5", "CVE-1", "6.5.0-15.15", ""))]);
    let image = "linux-image-6.5.0-14-generic";
    let mut host = with(&[built(image, "6.5.0-14.14", "linux-signed-hwe-6.5", "6.5.0-14.14")]);
    host.os = os("ubuntu", "22.04", "jammy");
    host.kernel =
        Kernel { running: "6.5.0-14-generic".into(), from_package: true, ..Kernel::default() };
    let found = judge(&catalogue, &host).findings;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].source.as_str(), &found[0].binaries[0][..]), ("linux-hwe-6.5", image));
}

#[test]
fn an_unsigned_kernel_of_ubuntu_is_known_by_the_name_ubuntu_gives_it() {
    let catalogue =
        catalogue_of(vec![advisory("ubuntu:22.04", ("linux-oracle", "CVE-1", "5.15.0-60.66", ""))]);
    let image = "linux-image-unsigned-5.15.0-50-oracle";
    let mut host = with(&[built(image, "5.15.0-50.56", "linux-oracle", "5.15.0-50.56")]);
    host.os = os("ubuntu", "22.04", "jammy");
    // Ubuntu's kernels do not tell their package's version.
    host.kernel =
        Kernel { running: "5.15.0-50-oracle".into(), from_package: true, ..Kernel::default() };
    let found = judge(&catalogue, &host);
    assert_eq!(states(&found), [("CVE-1", Open)]);
    assert_eq!(found.findings[0].binaries, [image]);
    assert_eq!(found.coverage.warning(), None);
}

#[test]
fn modules_of_a_kernel_that_does_not_run_any_more_leave_nothing_open() {
    let catalogue =
        catalogue_of(vec![advisory("ubuntu:22.04", ("linux", "CVE-1", "5.15.0-92.102", ""))]);
    let kernel = |abi: &str, version: &str| {
        [
            built(&format!("linux-image-{abi}-generic"), version, "linux-signed", version),
            built(&format!("linux-modules-{abi}-generic"), version, "linux", version),
        ]
    };
    let (old, new) = (kernel("5.15.0-91", "5.15.0-91.101"), kernel("5.15.0-92", "5.15.0-92.102"));
    let mut host = with(&[&old[..], &new[1..]].concat());
    host.os = os("ubuntu", "22.04", "jammy");
    host.kernel =
        Kernel { running: "5.15.0-91-generic".into(), from_package: true, ..Kernel::default() };
    let before = judge(&catalogue, &host);
    assert_eq!(states(&before), [("CVE-1", Open)], "modules alone do not boot");
    host.packages = with(&[old, new].concat()).packages;
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", PendingReboot)]);
    // Rebooted, the old ones stay on disk.
    host.kernel.running = "5.15.0-92-generic".into();
    assert_eq!(states(&judge_after(&catalogue, &host, &before.findings)), [("CVE-1", Fixed)]);
    assert_eq!(states(&judge(&catalogue, &host)), []);
}

#[test]
fn a_host_is_known_by_what_its_vendor_calls_its_release() {
    for (os, release) in [
        // What rolls has no number of its own yet, and packages that no release has.
        (os("alpine", "3.22.0_alpha20250108", ""), "alpine:edge"),
        // Images without a shell, and old releases, tell no codename.
        (os("debian", "12", ""), "bookworm"),
    ] {
        let catalogue = catalogue_of(vec![advisory(release, ("curl", "CVE-1", "9", ""))]);
        let host = Inventory { os, ..with(&[package("curl", "8")]) };
        assert_eq!(states(&judge(&catalogue, &host)), [("CVE-1", Open)], "{release}");
    }
}

#[test]
fn a_version_before_the_first_affected_one_is_not_affected_of_a_kernel_the_one_that_runs() {
    let record = |package: &str, events: &str| {
        format!(
            r#"{{"id":"DEBIAN-CVE-2024-1","upstream":["CVE-2024-1"],"affected":[{{"package":{{"ecosystem":"Debian:12","name":"{package}"}},"ranges":[{{"type":"ECOSYSTEM","events":[{events}]}}]}}]}}"#
        ) + "\n"
    };
    let catalogue = |package: &str, events: &str| {
        let mut input = CatalogueInput::default();
        input.add_osv(
            osv::parse(Publisher::Debian, record(package, events).as_bytes()).unwrap().records,
        );
        Catalogue::build(input)
    };
    let until = r#"{"introduced":"8.4-1"},{"fixed":"8.6-1"}"#;
    let last = r#"{"introduced":"8.4-1"},{"last_affected":"8.6-1"}"#;
    for (events, version, expected) in [
        (until, "8.3-9", None),
        (until, "8.4-1", Some(Open)),
        (until, "8.6-1~deb12u1", Some(Open)),
        (until, "8.6-1", None),
        (last, "8.6-1", Some(NoFixYet)),
        (last, "8.6-1+b1", None),
    ] {
        let found = judge(&catalogue("curl", events), &with(&[package("curl", version)]));
        assert_eq!(found.findings.first().map(|f| f.state), expected, "{version}");
    }
    let mut host = with(&[package("curl", "8.5-1")]);
    host.upgrades = vec![upgrade("curl", "8.5-1", "8.6-1", "8.6-1")];
    assert!(judge(&catalogue("curl", until), &host).findings[0].offered);

    let catalogue = catalogue("linux", r#"{"introduced":"6.1.80-1"},{"fixed":"6.1.90-1"}"#);
    let image = |release: &str, version: &str| {
        built(&format!("linux-image-{release}-amd64"), version, "linux", version)
    };
    let (old, new) = (image("6.1.0-18", "6.1.82-1"), image("6.1.0-20", "6.1.90-1"));
    let mut host = with(std::slice::from_ref(&old));
    host.kernel = Kernel {
        running: "6.1.0-18-amd64".into(),
        running_version: "6.1.82-1".into(),
        from_package: true,
        ..Kernel::default()
    };
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-2024-1", Open)]);
    host.packages = with(&[old, new]).packages;
    assert_eq!(states(&judge(&catalogue, &host)), [("CVE-2024-1", PendingReboot)]);
    (host.kernel.running, host.kernel.running_version) =
        ("6.1.0-13-amd64".into(), "6.1.55-1".into());
    assert_eq!(states(&judge(&catalogue, &host)), [], "from before it was introduced");
}

#[test]
fn several_records_about_one_package_come_to_what_any_of_them_calls_affected() {
    let record = |id: &str, events: &str| {
        format!(
            r#"{{"id":"{id}","upstream":["CVE-2024-1"],"affected":[{{"package":{{"ecosystem":"Debian:12","name":"curl"}},"ranges":[{{"type":"ECOSYSTEM","events":[{events}]}}]}}]}}"#
        ) + "\n"
    };
    let text = record("DSA-1-1", r#"{"introduced":"0"},{"fixed":"7-1"}"#)
        + &record("DEBIAN-CVE-2024-1", r#"{"introduced":"8-1"},{"fixed":"8-5"}"#);
    let mut input = CatalogueInput::default();
    input.add_osv(osv::parse(Publisher::Debian, text.as_bytes()).unwrap().records);
    let catalogue = Catalogue::build(input);
    for (version, expected) in [("6-1", 1), ("7-1", 0), ("8-1", 1), ("8-5", 0)] {
        let found = judge(&catalogue, &with(&[package("curl", version)])).findings;
        assert_eq!(found.len(), expected, "{version}");
    }
}

#[test]
fn what_is_fixed_for_those_who_pay_for_longer_support_alone_is_affected_for_the_others() {
    for (pocket, own) in [
        ("sles-ltss:15.3", os("sles", "15.3", "")),
        ("sles-server-ltss-extended-security:15.3", os("sles", "15.3", "")),
        ("rhel-els:7", os("rhel", "7.9", "")),
    ] {
        let catalogue = catalogue_of(vec![advisory(pocket, ("curl", "CVE-1", "7.66.0-2", ""))]);
        let host =
            |version: &str| Inventory { os: own.clone(), ..with(&[package("curl", version)]) };
        assert_eq!(
            states(&judge(&catalogue, &host("7.66.0-1"))),
            [("CVE-1", NoFixYet)],
            "{pocket}"
        );
        assert_eq!(states(&judge(&catalogue, &host("7.66.0-2"))), [], "{pocket}");
        let mut attached = host("7.66.0-1");
        attached.upgrades = vec![upgrade("curl", "7.66.0-1", "7.66.0-2", "7.66.0-2")];
        let found = judge(&catalogue, &attached);
        assert_eq!(states(&found), [("CVE-1", Open)], "{pocket}");
        let told = format!("{:?}", catalogue.explain(&found.findings[0], &attached));
        assert!(told.contains("the fix is for hosts with"), "{told}");
    }
}

#[test]
fn a_fix_of_one_of_oracles_kernels_is_none_of_the_others_that_are_called_alike() {
    let update = |id: &str, version: &str, release: &str| {
        format!(
            "<updates><update type=\"security\"><id>{id}</id><severity>Important</severity><references>\
             <reference id=\"CVE-2024-1\" type=\"cve\"/></references><pkglist><collection><package name=\"kernel-uek\" \
             version=\"{version}\" release=\"{release}\" epoch=\"0\"/></collection></pkglist></update></updates>\n"
        )
    };
    let text = update("ELSA-2024-1", "5.4.17", "2136.330.7.1.el8uek")
        + &update("ELSA-2024-2", "5.15.0", "206.153.7.1.el8uek");
    let records = updateinfo::parse(RpmVendor::Oracle, text.as_bytes()).unwrap().records;
    let mut input = CatalogueInput::default();
    input.add_osv(records);
    let catalogue = Catalogue::build(input);
    for (version, expected) in [
        ("5.4.17-2136.330.7.1.el8uek", None),
        ("5.4.17-2136.329.3.el8uek", Some("5.4.17-2136.330.7.1.el8uek")),
        ("5.15.0-0.30.19.el8uek", Some("5.15.0-206.153.7.1.el8uek")),
        ("5.15.0-206.153.7.1.el8uek", None),
    ] {
        let host =
            Inventory { os: os("ol", "8.10", ""), ..with(&[package("kernel-uek", version)]) };
        let found = judge(&catalogue, &host).findings;
        let fix = found.first().map(|f| f.fixed_version.as_deref().unwrap_or_default());
        assert_eq!(fix, expected, "{version}");
    }
}

#[test]
fn a_kernel_that_rocky_builds_for_clouds_does_not_make_the_distributions_own_late() {
    let text = r#"{"id":"RXSA-2024:5101","summary":"Important: kernel security update","related":["CVE-2024-1"],"affected":[{"package":{"ecosystem":"Rocky Linux:8","name":"kernel"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0:4.18.0-553.16.1.el8_10.cloud.0.1"}]}]}]}
"#;
    let mut input = CatalogueInput::default();
    input.add_osv(osv::parse(Publisher::Rocky, text.as_bytes()).unwrap().records);
    let catalogue = Catalogue::build(input);
    for (version, expected) in [
        ("4.18.0-553.16.1.el8_10", 0),
        ("4.18.0-553.16.1.el8_10.cloud.0.1", 0),
        ("4.18.0-553.8.1.el8_10", 1),
        ("4.18.0-553.8.1.el8_10.cloud.0.1", 1),
    ] {
        let host = Inventory {
            os: os("rocky", "8.10", ""),
            ..with(&[built("kernel-core", version, "kernel", version)])
        };
        assert_eq!(judge(&catalogue, &host).findings.len(), expected, "{version}");
    }
}

#[test]
fn an_advisory_in_osv_dates_its_fix_and_its_severity_is_the_vendors_word() {
    let text = r#"{"id":"ALSA-2024:1","published":"2024-05-01T00:00:00Z","summary":"Important: curl security update","related":["CVE-2024-1"],"affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"libcurl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"7.76.1-29.el9"}]}]}]}
"#;
    let mut input = CatalogueInput::default();
    input.add_osv(osv::parse(Publisher::AlmaLinux, text.as_bytes()).unwrap().records);
    let catalogue = Catalogue::build(input);
    let mut host = with(&[built("libcurl", "7.76.1-26.el9", "curl", "7.76.1-26.el9")]);
    host.os = os("almalinux", "9.4", "");
    let finding = &judge(&catalogue, &host).findings[0];
    assert_eq!(finding.ranking.published.unwrap().to_string(), "2024-05-01");
    assert_eq!(finding.severity(), Severity::High);
    let told = format!("{:?}", catalogue.explain(finding, &host));
    for part in [
        "OSV record ALSA-2024:1: libcurl is fixed in almalinux:9 from 7.76.1-29.el9 on. Its urgency: important.",
        "The fix came out as ALSA-2024:1 on 2024-05-01.",
        "libcurl 7.76.1-26.el9: the vendor's statement is about this very package.",
        "In rpm's order 7.76.1-26.el9 is lower than the fixed version 7.76.1-29.el9.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn the_trackers_word_on_a_release_stays_the_only_one() {
    let text = r#"{"id":"DEBIAN-CVE-2024-1","upstream":["CVE-2024-1"],"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]},{"package":{"ecosystem":"Debian:13","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}
"#;
    let mut tracker = advisory("bookworm", ("curl", "CVE-2024-2", "8-1", ""));
    tracker.evidence = debian::EVIDENCE.into();
    let mut input = CatalogueInput { advisories: vec![tracker], ..CatalogueInput::default() };
    // Twice, as where one vendor's records come in several documents.
    input.add_osv(osv::parse(Publisher::Debian, text.as_bytes()).unwrap().records);
    input.add_osv(osv::parse(Publisher::Debian, text.as_bytes()).unwrap().records);
    let catalogue = Catalogue::build(input);
    let said = |release| catalogue.statement(release, "curl", "CVE-2024-1").is_some();
    assert_eq!((said("bookworm"), said("trixie"), catalogue.len()), (false, true, 2));
}
