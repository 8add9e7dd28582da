//! What has no agent: handed in as a bill of materials, judged and shown as a host, and left alone.

use crate::fleet::{CVE, Lab, NEW, OLD, plan};
use fettle_core::Hold;
use fettle_core::finding::FindingState;
use fettle_wire::api::{FindingRow, HostDetail, HostRow, Page, PlanDetail};
use serde_json::{Value, json};

/// An image with this version of openssl, as syft lists it.
fn cyclonedx(version: &str) -> Vec<u8> {
    let purl = format!(
        "pkg:deb/debian/libssl3@{version}?arch=amd64&distro=debian-12&upstream=openssl%40{version}"
    );
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6",
        "metadata": {"component": {"type": "container", "name": "example/shop", "version": "1"}},
        "components": [
            {"type": "operating-system", "name": "debian", "version": "12"},
            {"type": "library", "name": "libssl3", "version": version, "purl": purl},
            {"type": "library", "name": "without a purl", "version": "1"},
        ],
    });
    document.to_string().into_bytes()
}

fn spdx(version: &str) -> Vec<u8> {
    let purl = format!("pkg:deb/debian/openssl@{version}?arch=amd64");
    let reference = json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl});
    let document = json!({
        "spdxVersion": "SPDX-2.3", "name": "appliance",
        "packages": [{"name": "openssl", "versionInfo": version, "externalRefs": [reference]}],
    });
    document.to_string().into_bytes()
}

#[test]
fn an_image_is_judged_and_shown_as_a_host_that_has_no_agent_and_is_never_planned() {
    let lab = Lab::furnished();
    let agent = lab.host("web-1", "canary");
    let path = "/hosts/shop-image/sbom?labels=ring%3Dcanary,env%3Dprod";
    let detail: HostDetail = lab.post_bytes(path, &cyclonedx(OLD)).json();
    assert_eq!((detail.row.name.as_str(), detail.row.state.as_str()), ("shop-image", "exposed"));
    assert!(detail.row.listed_at.is_some() && detail.row.last_seen.is_none());
    assert_eq!(detail.row.labels["env"], "prod");
    assert!(matches!(&detail.holds[..], [Hold::NoAgent { .. }]), "{:?}", detail.holds);
    let gaps = detail.inventory.unwrap().gaps.join("; ");
    assert!(gaps.contains("only a bill of materials is known"), "{gaps}");
    assert!(gaps.contains("1 components without a package URL"), "{gaps}");

    // It stands in lists and searches beside the others.
    let hosts: Page<HostRow> = lab.get(&format!("/hosts?cve={CVE}"));
    let names: Vec<_> = hosts.items.iter().map(|h| (&h.name[..], h.listed_at.is_some())).collect();
    assert_eq!(names, [("shop-image", true), ("web-1", false)]);

    // The policy plans for the other one alone, and says why.
    let made: PlanDetail = plan(&lab);
    assert!(made.plan.hosts.contains_key(&agent.id));
    assert!(!made.plan.hosts.contains_key(&detail.row.id));
    let held: Vec<_> = made.plan.held().map(|held| held.to_held()).collect();
    let no_agent = |hold: &Hold| matches!(hold, Hold::NoAgent { .. });
    assert!(
        held.iter().any(|h| h.host == detail.row.id && h.reasons.iter().all(no_agent)),
        "{held:?}"
    );
    assert!(made.plan.budgets.iter().all(|budget| !budget.hosts.contains(&detail.row.id)));

    // Its next bill of materials takes the place of the one before.
    let id = detail.row.id;
    let detail: HostDetail = lab.post_bytes("/hosts/shop-image/sbom", &cyclonedx(NEW)).json();
    assert_eq!((&detail.row.id, detail.row.state.as_str()), (&id, "no-fix-yet"));
    assert_eq!(detail.row.labels["env"], "prod");
    let fixed: Page<FindingRow> = lab.get(&format!("/findings?state=fixed&id={CVE}"));
    assert_eq!(fixed.items.len(), 1);
    assert_eq!(fixed.items[0].finding.state, FindingState::Fixed);

    // And it leaves as any host does.
    assert_eq!(lab.call("DELETE", "/hosts/shop-image", b"").status, 204);
    let hosts: Page<HostRow> = lab.get("/hosts");
    assert_eq!(hosts.total, 1);
}

#[test]
fn a_system_that_the_document_does_not_name_can_be_told() {
    let lab = Lab::furnished();
    let (status, problem) = lab.refused("POST", "/hosts/box/sbom", &spdx(OLD));
    assert_eq!((status, problem.code.as_str()), (422, "sbom-without-system"));
    let detail: HostDetail = lab.post_bytes("/hosts/box/sbom?release=bookworm", &spdx(OLD)).json();
    assert_eq!(detail.row.state, "exposed");
    // What it was told is in the ledger, with who told it.
    let ledger: Page<Value> = lab.get("/ledger?limit=100");
    let said = ledger.items.iter().find(|entry| entry["kind"] == "host.listed").unwrap();
    assert_eq!(said["body"]["of"], "appliance");
}

#[test]
fn what_an_agent_tells_is_not_overwritten_and_what_is_no_bill_of_materials_is_refused() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let (status, problem) = lab.refused("POST", "/hosts/web-1/sbom", &cyclonedx(NEW));
    assert_eq!((status, problem.code.as_str()), (409, "host-enrolled"));
    for (name, body, code) in [
        ("box", &b"{}"[..], "sbom-unusable"),
        ("box", &b"not json"[..], "sbom-unusable"),
        ("box", br#"{"bomFormat":"CycloneDX","components":[]}"#, "sbom-unusable"),
        ("a%20b", &cyclonedx(NEW), "bad-host-name"),
        ("box", &b""[..], "sbom-unusable"),
    ] {
        let (status, problem) = lab.refused("POST", &format!("/hosts/{name}/sbom"), body);
        assert_eq!((status, problem.code.as_str()), (422, code), "{problem:?}");
    }
    let path = "/hosts/box/sbom?labels=nonsense";
    assert_eq!(lab.refused("POST", path, &cyclonedx(NEW)).1.code, "bad-label");
    let path = "/hosts/box/sbom?release=a%20b";
    assert_eq!(lab.refused("POST", path, &cyclonedx(NEW)).1.code, "bad-query");
    let hosts: Page<HostRow> = lab.get("/hosts");
    assert_eq!(hosts.total, 1);
}
