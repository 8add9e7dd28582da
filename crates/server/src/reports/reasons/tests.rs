//! What plans say of what is late, by table.

use super::*;
use fettle_core::assignment::ApplyOrder;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::plan::{HeldHosts, HostPlan, NotDone, SCHEMA};
use fettle_core::{Digest, Hold, Timestamp};

/// Packages with the vulnerabilities they fix, or that stay open.
type Packages<'a> = &'a [(&'a str, &'a [&'a str])];

/// A plan that brings the hosts these packages, and holds those on them.
fn plan(number: u64, hosts: &[&str], brings: Packages<'_>, holds: Packages<'_>) -> Planned {
    let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let work = Arc::new(Work {
        order: ApplyOrder::default(),
        why: brings
            .iter()
            .map(|(package, ids)| ((*package).to_owned().into(), owned(ids).into()))
            .collect(),
        restarts: vec![],
        reboot_likely: false,
        due: None,
        ignore_windows: false,
    });
    let host = |name: &&str| {
        let work = work.clone();
        let it = HostPlan {
            name: (*name).to_owned(),
            cohort: Digest::of(b"c"),
            ring: "all".into(),
            wave: 0,
            work,
        };
        (HostId::from(*name), it)
    };
    let what = holds.iter().map(|(package, ids)| {
        let reasons = vec![Hold::PackageHeld { package: (*package).to_owned() }];
        NotDone { package: (*package).to_owned(), reasons, findings: owned(ids) }.into()
    });
    let named = |name: &&str| (HostId::from(*name), (*name).to_owned());
    let held = HeldHosts { hosts: hosts.iter().map(named).collect(), what: what.collect() };
    let plan = Plan {
        schema: SCHEMA,
        number,
        parent: None,
        policy: "web".into(),
        policy_digest: Digest::of(b"p"),
        made_at: Timestamp::UNIX_EPOCH,
        seed: 1,
        hosts: hosts.iter().filter(|_| !brings.is_empty()).map(host).collect(),
        waves: vec![],
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![held],
    };
    Planned::new(plan, None)
}

fn seen<'a>(id: &'a str, source: &'a str) -> Seen<'a> {
    Seen {
        policy: "web",
        class: "all",
        host: "a",
        id,
        source,
        severity: Severity::High,
        state: FindingState::Open,
        first_seen: Timestamp::UNIX_EPOCH,
        deadline: None,
        fixed_at: None,
        offered: true,
    }
}

fn reasons(newest: Option<Planned>, emergencies: Vec<Planned>) -> Reasons {
    Reasons([("web".to_owned(), Of { newest, emergencies })].into())
}

fn held(package: &str) -> String {
    Hold::PackageHeld { package: package.to_owned() }.to_string()
}

#[test]
fn a_vulnerability_of_two_sources_is_answered_by_the_packages_of_each() {
    let brings: Packages<'_> = &[("libssl3", &["CVE-1", "CVE-2"]), ("zlib1g", &["CVE-3"])];
    let holds: Packages<'_> = &[("nodejs", &["CVE-1"]), ("rustc", &["CVE-3"])];
    let reasons = reasons(Some(plan(11, &["a"], brings, holds)), vec![]);
    let brought = "plan 11 brings it and waits to be started".to_owned();
    for (id, source, binaries, why) in [
        ("CVE-1", "openssl", r#"["libssl3","openssl"]"#, brought.clone()),
        ("CVE-1", "nodejs", r#"["nodejs"]"#, held("nodejs")),
        ("CVE-2", "openssl", r#"["libssl3"]"#, brought.clone()),
        // Held as a source package.
        ("CVE-3", "rustc", r#"["libstd-rust"]"#, held("rustc")),
        // Whose package is whose is not known: what is held is not called under way.
        ("CVE-1", "linux", "", held("nodejs")),
        ("CVE-2", "linux", r#"["linux-image-6.1"]"#, brought),
        ("CVE-9", "x", "[]", "came after plan 11: fettle plan make web".to_owned()),
    ] {
        assert_eq!(reasons.why(&seen(id, source), "a", binaries, None), why, "{id} {source}");
    }
}

#[test]
fn an_emergency_plan_answers_for_its_own_hosts_and_for_what_called_and_no_other_plan_is_forgotten()
{
    let newest = || plan(11, &["a", "b"], &[("libssl3", &["CVE-1"])], &[("nginx", &["CVE-2"])]);
    let urgent = || plan(12, &["a"], &[("xz-utils", &["CVE-3"])], &[("nginx", &["CVE-4"])]);
    let of = |reasons: &Reasons, id, host| reasons.why(&seen(id, "s"), host, "[]", None);
    let both = reasons(Some(newest()), vec![urgent()]);
    for (id, host, why) in [
        ("CVE-1", "a", "plan 11 brings it and waits to be started".to_owned()),
        ("CVE-2", "a", held("nginx")),
        ("CVE-3", "a", "plan 12 brings it and waits to be started".to_owned()),
        ("CVE-3", "b", "came after plan 11: fettle plan make web".to_owned()),
        ("CVE-4", "a", held("nginx")),
    ] {
        assert_eq!(of(&both, id, host), why, "{id} on {host}");
    }
    let alone = reasons(None, vec![urgent()]);
    assert_eq!(of(&alone, "CVE-3", "a"), "plan 12 brings it and waits to be started");
    assert_eq!(of(&alone, "CVE-1", "a"), "nothing was planned: fettle plan make web");
}

#[test]
fn a_host_that_is_left_alone_is_so_for_what_the_plan_does_not_name_too() {
    let whole = plan(11, &["a"], &[], &[("", &["CVE-1"])]);
    let reasons = reasons(Some(whole), vec![]);
    for id in ["CVE-1", "CVE-2"] {
        assert_eq!(reasons.why(&seen(id, "s"), "a", "[]", None), held(""), "{id}");
    }
}
