//! One host judged: matching, kernels, states, and why.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::HostId;
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::{Finding, FindingState::*, Severity};
use fettle_core::inventory::{Inventory, Kernel};
use fettle_vuln::exposure::{
    Catalogue, CatalogueInput, Coverage, HostView, KernelCoverage, Topic, Withdrawal,
};
use fettle_vuln::feed::cvss::CvssScore;
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
fn image(release: &str, version: &str) -> fettle_core::inventory::Package {
    let name = format!("linux-image-{release}");
    built(&name, version, "linux-signed-amd64", &version.replacen('-', "+", 1))
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
fn what_is_fixed_on_disk_stays_pending_until_no_process_maps_the_old_files_and_is_proved_then() {
    let catalogue = catalogue(&[("openssl", "CVE-1", "3.0.15-1", "")]);
    let before = judge(&catalogue, &with(&[built("libssl3", "3.0.14-1", "openssl", "3.0.14-1")]));
    let mut host = with(&[built("libssl3", "3.0.15-1", "openssl", "3.0.15-1")]);
    // Never known as open: no finding.
    assert_eq!(states(&judge(&catalogue, &host)), []);
    host.stale = vec![stale("nginx", "libssl3")];
    let pending = judge_after(&catalogue, &host, &before.findings);
    assert_eq!(states(&pending), [("CVE-1", PendingRestart)]);
    assert_eq!(
        (pending.findings[0].installed.as_str(), pending.findings[0].in_use),
        ("3.0.15-1", true)
    );
    let why = catalogue.explain(&pending.findings[0], &host);
    assert!(
        why.reasons
            .iter()
            .any(|r| r.topic == Topic::Running && r.text.contains("nginx (pid 42, nginx.service)")),
        "{why:?}"
    );
    // Another package's stale process holds nothing up.
    host.stale = vec![stale("cron", "libpam0g")];
    let fixed = judge_after(&catalogue, &host, &pending.findings);
    assert_eq!(states(&fixed), [("CVE-1", Fixed)]);
    // Once proved it stays so, also while a later update waits for its restart.
    host.stale = vec![stale("nginx", "libssl3")];
    assert_eq!(states(&judge_after(&catalogue, &host, &fixed.findings)), [("CVE-1", Fixed)]);
    // A downgrade opens it again.
    let down = with(&[built("libssl3", "3.0.14-1", "openssl", "3.0.14-1")]);
    assert_eq!(states(&judge_after(&catalogue, &down, &fixed.findings)), [("CVE-1", Open)]);
}

#[test]
fn processes_that_could_not_be_looked_at_prove_nothing() {
    let catalogue = catalogue(&[("p", "CVE-1", "2-1", "")]);
    let before = judge(&catalogue, &with(&[package("p", "1-1")]));
    let mut host = with(&[package("p", "2-1")]);
    let mut pending = before;
    for gap in [
        "files that processes map: permission denied",
        "processes: 3 could not be looked at (run as root)",
    ] {
        host.gaps = vec![gap.into()];
        pending = judge_after(&catalogue, &host, &pending.findings);
        assert_eq!(states(&pending), [("CVE-1", PendingRestart)], "{gap}");
        let why = catalogue.explain(&pending.findings[0], &host);
        assert!(why.reasons.iter().any(|r| r.text.contains(gap)), "{why:?}");
    }
    host.gaps = vec!["listeners: not readable".into()];
    assert_eq!(states(&judge_after(&catalogue, &host, &pending.findings)), [("CVE-1", Fixed)]);
}

#[test]
fn a_removed_package_is_fixed_once_no_process_holds_it() {
    let catalogue = catalogue(&[("p", "CVE-1", "", "")]);
    let before = judge(&catalogue, &with(&[package("p", "1-1")]));
    let mut host = with(&[package("q", "1-1")]);
    host.stale = vec![stale("p", "p")];
    let pending = judge_after(&catalogue, &host, &before.findings);
    assert_eq!(states(&pending), [("CVE-1", PendingRestart)]);
    host.stale.clear();
    assert_eq!(states(&judge_after(&catalogue, &host, &pending.findings)), [("CVE-1", Fixed)]);
}

#[test]
fn a_host_that_cannot_say_what_it_has_keeps_its_findings_and_is_never_proved_fixed() {
    let catalogue = catalogue(&[
        ("p", "CVE-1", "2-1", ""),
        ("p", "CVE-2", "", ""),
        ("linux", "CVE-3", "6.1.120-1", ""),
    ]);
    let mut host = with(&[package("p", "1-1"), image("6.1.0-28-amd64", "6.1.119-1")]);
    host.kernel = running("6.1.0-28-amd64", "6.1.119-1");
    let before = judge_with(&catalogue, &host, &[], &[exception("CVE-2", None)]);
    for gaps in
        [vec![], vec!["installed packages: /var/lib/dpkg/status: input/output error".to_owned()]]
    {
        let blind = Inventory { gaps: gaps.clone(), ..bookworm() };
        let found = judge_with(&catalogue, &blind, &before.findings, &[exception("CVE-2", None)]);
        assert_eq!(
            found.coverage,
            Coverage::NoPackages { release: "bookworm".into(), gaps: gaps.clone() }
        );
        assert!(
            found
                .coverage
                .warning()
                .unwrap()
                .contains(gaps.first().map_or("did not say why", String::as_str))
        );
        assert_eq!((states(&found), found.withdrawn.len()), (states(&before), 0));
        // The exception ends meanwhile: what it covered shows again.
        let shown = judge_after(&catalogue, &blind, &found.findings);
        assert_eq!(states(&shown), [("CVE-3", Open), ("CVE-1", Open), ("CVE-2", NoFixYet)]);
        let patched = with(&[package("p", "2-1")]);
        assert_eq!(judge_after(&catalogue, &patched, &found.findings).findings[0].state, Fixed);
    }
}

#[test]
fn a_host_that_came_after_its_upgrade_is_pending_where_the_version_that_ran_is_known() {
    let catalogue = catalogue(&[
        ("ssl", "CVE-1", "2-1", ""),
        ("ssl", "CVE-2", "1-1", ""),
        ("ssl", "CVE-3", "3-1", ""),
    ]);
    let mut host = with(&[built("libssl", "2-1", "ssl", "2-1")]);
    host.stale = vec![stale("nginx", "libssl")];
    let id = HostId::new("h");
    let ran = BTreeMap::from([("ssl".to_owned(), "1-1".to_owned())]);
    let see = |inventory: &Inventory| {
        let j = catalogue.judge(&HostView {
            host: &id,
            inventory,
            previous: &[],
            ran_before: &ran,
            accepted: &[],
        });
        j.findings.iter().map(|f| (f.id.clone(), f.state)).collect::<Vec<_>>()
    };
    assert_eq!(see(&host), [("CVE-1".to_owned(), PendingRestart), ("CVE-3".to_owned(), Open)]);
    host.stale.clear();
    assert_eq!(see(&host), [("CVE-3".to_owned(), Open)]);
}

#[test]
fn a_statement_that_goes_or_changes_never_counts_as_a_fix() {
    let host = with(&[package("p", "1-1")]);
    let before =
        judge(&catalogue(&[("p", "CVE-1", "2-1", ""), ("p", "CVE-2", "", "")]), &host).findings;
    let after = |statements: &[(&str, &str, &str, &str)], host: &Inventory| {
        let j = judge_after(&catalogue(statements), host, &before);
        assert!(j.findings.iter().all(|f| f.state != Fixed), "{:?}", j.findings);
        j.withdrawn.into_iter().map(|w| (w.id, w.why)).collect::<Vec<_>>()
    };
    let changed = |now: AdvisoryStatus| Withdrawal::StatementChanged { now };
    let fixed_in = |v: &str| AdvisoryStatus::Fixed { version: v.into() };
    assert_eq!(
        after(&[("q", "CVE-9", "", "")], &host),
        [("CVE-1".into(), Withdrawal::StatementGone), ("CVE-2".into(), Withdrawal::StatementGone)]
    );
    assert_eq!(
        after(&[("p", "CVE-1", "0", ""), ("p", "CVE-2", "?", "")], &host),
        [
            ("CVE-1".into(), changed(AdvisoryStatus::NotAffected)),
            ("CVE-2".into(), changed(AdvisoryStatus::Undetermined))
        ]
    );
    // The fix moved below what has been installed all along.
    assert_eq!(
        after(&[("p", "CVE-1", "1-1", ""), ("p", "CVE-2", "1-0", "")], &host),
        [("CVE-1".into(), changed(fixed_in("1-1"))), ("CVE-2".into(), changed(fixed_in("1-0")))]
    );
    let elsewhere = Inventory { os: os("ubuntu", "24.04", "noble"), ..host };
    assert_eq!(
        after(&[("p", "CVE-1", "2-1", "")], &elsewhere),
        [("CVE-1".into(), Withdrawal::NotCovered), ("CVE-2".into(), Withdrawal::NotCovered)]
    );
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
