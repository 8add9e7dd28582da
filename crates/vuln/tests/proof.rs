//! What is gone from a host, what only seems to be, and what a vendor took back.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::HostId;
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::FindingState::*;
use fettle_core::inventory::{Inventory, Kernel};
use fettle_vuln::exposure::{Coverage, HostView, Topic, Withdrawal};
use std::collections::BTreeMap;
use support::*;

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
