//! What a host decides for itself.

use super::fleet::*;
use crate::Hold;
use crate::plan::{AloneInput, AlonePlan, Asked, alone};

/// The plan of a host with an upgrade from a plain suite (bash) and one that is held, beside those of [`host`].
fn planned(asked: Asked<'_>, vulnerable: &[&str]) -> AlonePlan {
    let mut host = host("h", &[]);
    let i = inventory(&mut host);
    for name in ["bash", "held"] {
        i.packages.push(package(name, name, "1"));
        i.upgrades.push(upgrade(name, "1", "2"));
    }
    for u in i.upgrades.iter_mut().filter(|u| u.name == "bash") {
        u.origin = debian(false);
    }
    i.held.push("held".into());
    let findings: Vec<_> =
        vulnerable.iter().map(|p| finding("h", "CVE-1", p, &[p], Some("2")).clone()).collect();
    alone(AloneInput { inventory: i, findings: &findings, asked, now: at(NOW) })
}

fn changed(plan: &AlonePlan) -> Vec<&str> {
    plan.changes.iter().map(|c| c.name.as_str()).collect()
}

fn held(plan: &AlonePlan) -> Vec<(&str, Vec<&str>)> {
    plan.left_out
        .iter()
        .map(|h| (h.package.as_str(), h.reasons.iter().map(Hold::code).collect()))
        .collect()
}

#[test]
fn with_nothing_named_security_updates_are_taken_and_each_of_the_rest_has_its_reason() {
    let plan = planned(Asked::default(), &[]);
    assert_eq!(changed(&plan), ["libssl3", "nginx", "openssl"]);
    assert_eq!(held(&plan), [("held", vec!["package-held"]), ("bash", vec!["not-security"])]);
    assert!(plan.brought.is_empty());
    assert_eq!(plan.restarts, ["nginx.service"]);
    let plan = planned(Asked::default(), &["bash"]);
    assert_eq!(changed(&plan), ["bash", "libssl3", "nginx", "openssl"], "bash fixes something");
    assert_eq!(*plan.why["bash"], ["CVE-1"]);
}

#[test]
fn what_is_named_is_taken_with_the_binaries_of_its_source_and_nothing_else_is_told_of() {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let asked = names(&["openssl"]);
    let plan = planned(Asked { packages: &asked, ..Asked::default() }, &[]);
    assert_eq!(changed(&plan), ["libssl3", "openssl"], "a library and its program go together");
    assert_eq!(plan.brought, ["libssl3"]);
    assert!(plan.left_out.is_empty(), "{:?}", plan.left_out);

    let asked = names(&["bash:amd64", "held", "nginx:i386"]);
    let plan = planned(Asked { packages: &asked, ..Asked::default() }, &[]);
    assert_eq!(changed(&plan), ["bash"], "a plain suite will do where it was named");
    assert_eq!(held(&plan), [("held", vec!["package-held"])]);

    let security = Asked { packages: &asked, only_security: true, ..Asked::default() };
    let plan = planned(security, &[]);
    assert!(plan.changes.is_empty());
    assert_eq!(held(&plan), [("held", vec!["package-held"]), ("bash", vec!["not-security"])]);
}

#[test]
fn what_the_package_manager_needs_comes_along_and_is_told_as_such() {
    let (asked, along) = (["nginx".to_owned()], ["bash:amd64".to_owned()]);
    let asked = Asked { packages: &asked, along: &along, ..Asked::default() };
    let plan = planned(asked, &[]);
    assert_eq!(changed(&plan), ["bash", "nginx"]);
    assert_eq!(plan.brought, ["bash"]);
}

#[test]
fn a_finding_that_nothing_on_offer_fixes_is_told_beside_the_upgrades() {
    let plan = planned(Asked::default(), &["zlib"]);
    assert_eq!(changed(&plan), ["libssl3", "nginx", "openssl"]);
    let not_fixed: Vec<_> =
        plan.not_fixed.iter().map(|h| (h.package.as_str(), h.reasons[0].code())).collect();
    assert_eq!(not_fixed, [("zlib", "fix-not-offered")]);
    assert!(plan.left_out.iter().all(|l| l.package != "zlib"));
}

#[test]
fn a_kernel_among_the_changes_is_said_to_need_a_reboot() {
    assert!(!planned(Asked::default(), &[]).reboot_likely);
    let mut host = host("h", &[]);
    let i = inventory(&mut host);
    let name = "linux-image-6.1.0-30-amd64";
    i.packages.push(package(name, "linux-signed-amd64", "1"));
    i.upgrades.push(upgrade(name, "1", "2"));
    let (asked, now) = (Asked::default(), at(NOW));
    assert!(alone(AloneInput { inventory: i, findings: &[], asked, now }).reboot_likely);
}

#[test]
fn of_two_architectures_of_a_package_each_is_told_with_its_own_versions() {
    let mut host = host("h", &[]);
    let i = inventory(&mut host);
    let mut foreign = upgrade("nginx", "1", "2+b1");
    foreign.architecture = "i386".into();
    foreign.origin = debian(false);
    i.upgrades.push(foreign);
    i.held.push("nginx".into());
    let told = |asked: Asked<'_>, i: &crate::inventory::Inventory| {
        let plan = alone(AloneInput { inventory: i, findings: &[], asked, now: at(NOW) });
        let one =
            |l: &crate::plan::LeftOut| (l.architecture.clone(), l.to.clone(), l.reasons[0].code());
        plan.left_out.iter().filter(|l| l.package == "nginx").map(one).collect::<Vec<_>>()
    };
    let names = ["nginx".to_owned()];
    let named = Asked { packages: &names, ..Asked::default() };
    assert_eq!(
        told(named, i),
        [
            ("amd64".into(), "1.22.2".into(), "package-held"),
            ("i386".into(), "2+b1".into(), "package-held")
        ]
    );
    // The one is a security update, the other is none: both are told of.
    i.held.clear();
    i.packages.iter_mut().find(|p| p.name == "nginx").unwrap().source = String::new();
    let security = Asked { only_security: true, ..named };
    assert_eq!(told(security, i), [("i386".into(), "2+b1".into(), "not-security")]);
}

#[test]
fn what_the_changes_prove_gone_is_in_the_order_and_a_kernel_s_only_with_a_reboot() {
    let mut host = host("h", &[]);
    let i = inventory(&mut host);
    let name = "linux-image-6.1.0-30-amd64";
    i.packages.push(package(name, "linux-signed-amd64", "1"));
    i.upgrades.push(upgrade(name, "1", "2"));
    let findings = [
        finding("h", "CVE-1", "nginx", &["nginx"], Some("1.22.2")).clone(),
        finding("h", "CVE-2", "linux", &[name], Some("2")).clone(),
        finding("h", "CVE-3", "zlib", &["zlib1g"], Some("2")).clone(),
    ];
    let fixes = |may_reboot| {
        let asked = Asked { may_reboot, ..Asked::default() };
        alone(AloneInput { inventory: i, findings: &findings, asked, now: at(NOW) }).fixes
    };
    assert_eq!(fixes(false), ["CVE-1"]);
    assert_eq!(fixes(true), ["CVE-1", "CVE-2"]);
}

#[test]
fn what_was_not_named_is_no_fix_that_is_missing_from_the_sources() {
    let names = ["nginx".to_owned()];
    let plan = planned(Asked { packages: &names, ..Asked::default() }, &["bash", "zlib"]);
    assert_eq!(changed(&plan), ["nginx"]);
    let not_asked: Vec<_> = plan.not_asked.iter().collect();
    assert_eq!(not_asked, [(&"bash".to_owned(), &vec!["CVE-1".to_owned()])]);
    let not_fixed: Vec<&str> = plan.not_fixed.iter().map(|h| h.package.as_str()).collect();
    assert_eq!(not_fixed, ["zlib"], "no source offers it");
}
