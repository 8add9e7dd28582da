//! Containers on a host: told by its agent, judged apart, and never taken for what a patch of the host mends.

use crate::fleet::{CVE, Lab, NEW, OLD};
use fettle_core::Hold;
use fettle_core::finding::FindingState;
use fettle_core::root::{Root, RootKind};
use fettle_wire::api::{FindingExplained, FindingRow, HostDetail, HostRow, Page, PlanDetail};
use serde_json::Value;

/// A patched host with a container that is not.
fn with_container() -> (Lab, crate::fleet::Agent) {
    let lab = Lab::furnished();
    let mut host = lab.host("web-1", "canary");
    host.inventory = crate::fleet::inventory(NEW);
    let old = crate::fleet::inventory(OLD);
    host.inventory.roots.push(Root {
        kind: RootKind::Docker,
        name: "shop".into(),
        image: "example/shop:1".into(),
        location: String::new(),
        running: true,
        os: old.os,
        architecture: "amd64".into(),
        packages: old.packages,
        gaps: vec!["3 entries of its database name no package".into()],
    });
    host.checkin(&lab);
    (lab, host)
}

#[test]
fn what_is_in_a_container_is_a_finding_of_its_own_that_a_patch_of_the_host_does_not_mend() {
    let (lab, mut host) = with_container();
    let open: Page<FindingRow> = lab.get(&format!("/findings?state=open&id={CVE}"));
    let [row] = &open.items[..] else { panic!("{open:?}") };
    assert_eq!((row.finding.root(), row.finding.package()), (Some("docker:shop"), "openssl"));
    assert!(row.reason.contains("in container shop, fixed in"), "{}", row.reason);
    assert!(row.reason.ends_with("rebuild the image, and start the container anew from it"));
    // The host's own was mended by the change from OLD to NEW, and says so beside it.
    let fixed: Page<FindingRow> = lab.get(&format!("/findings?state=fixed&id={CVE}"));
    assert_eq!(fixed.items.len(), 1);
    assert_eq!(fixed.items[0].finding.root(), None);

    let why: FindingExplained =
        lab.get(&format!("/findings/web-1/{CVE}/docker%3Ashop%2F%2Fopenssl"));
    let text = why.lines.join("\n");
    assert!(text.contains("In container shop of image example/shop:1"), "{text}");
    assert!(text.contains("No plan of the host reaches into it: rebuild the image"), "{text}");

    // A plan has nothing to do on the host, and says what is to be done elsewhere.
    let plan: PlanDetail = crate::fleet::plan(&lab);
    assert!(plan.plan.hosts.is_empty(), "{:?}", plan.plan.hosts);
    let inside = |hold: &Hold| matches!(hold, Hold::InRoot { root, image, .. } if root == "docker:shop" && image == "example/shop:1");
    let held: Vec<_> = plan.plan.held().map(|held| held.to_held()).collect();
    assert!(held.iter().any(|held| held.reasons.iter().any(inside)), "{held:?}");

    // Gone with its container.
    host.inventory.roots.clear();
    host.checkin(&lab);
    let fixed: Page<FindingRow> = lab.get(&format!("/findings?state=fixed&id={CVE}"));
    assert_eq!(fixed.items.len(), 2);
    let hosts: Page<HostRow> = lab.get(&format!("/hosts?cve={CVE}"));
    assert_eq!(hosts.total, 0);
}

#[test]
fn host_bill_of_materials_and_page_show_the_container() {
    let (lab, _) = with_container();
    let host: HostDetail = lab.get("/hosts/web-1");
    let root = &host.inventory.unwrap().roots[0];
    assert_eq!((root.id().as_str(), root.packages.len()), ("docker:shop", 2));
    assert!(host.findings.iter().any(|row| row.finding.root() == Some("docker:shop")));
    let sbom: Value = lab.get("/hosts/web-1/sbom");
    let container =
        sbom["components"].as_array().unwrap().iter().find(|c| c["type"] == "container");
    let container = container.unwrap();
    assert_eq!(
        (&container["name"], &container["version"]),
        (&"shop".into(), &"example/shop:1".into())
    );
    assert_eq!(container["components"].as_array().unwrap().len(), 3);
    assert_eq!(
        host.row.open,
        host.findings.iter().filter(|row| row.finding.state == FindingState::Open).count() as u64
    );
}

#[test]
fn the_bill_of_materials_of_a_group_has_each_component_once_with_the_hosts_that_have_it() {
    let (lab, _) = with_container();
    for name in ["db-1", "db-2"] {
        let mut host = lab.host(name, "broad");
        host.inventory = crate::fleet::inventory(OLD);
        host.checkin(&lab);
    }
    let told = |of: &Value| {
        let all = of["properties"].as_array().unwrap().iter();
        let hosts = all.filter(|p| p["name"] == "fettle:hosts").map(|p| p["value"].clone());
        hosts.collect::<Vec<_>>()
    };
    let all: Value = lab.get("/sbom");
    assert_eq!(told(&all["metadata"]["component"]), ["3"]);
    let openssl = |bill: &Value| {
        let components = bill["components"].as_array().unwrap().iter();
        let found = components.filter(|c| c["name"] == "openssl");
        found.map(|c| told(c)[0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(openssl(&all).iter().map(|n| n.parse::<u8>().unwrap()).sum::<u8>(), 4);
    let some: Value = lab.get("/sbom?select=ring%3Dbroad");
    assert_eq!(
        (openssl(&some), &some["metadata"]["component"]["name"]),
        (vec!["2".to_owned()], &"ring=broad".into())
    );
    let open = some["vulnerabilities"].as_array().unwrap().iter().find(|v| v["id"] == CVE).unwrap();
    assert_eq!((told(open), &open["analysis"]["state"]), (vec!["2".into()], &"exploitable".into()));
    let none: Value = lab.get("/sbom?select=ring%3Dnowhere");
    assert_eq!(none["components"].as_array().unwrap().len(), 0);
    let (status, problem) = lab.refused("GET", "/sbom?select=ring", b"");
    assert_eq!((status, problem.code.as_str()), (400, "bad-query"));
}

#[test]
fn a_root_with_a_name_or_packages_beyond_reason_is_refused() {
    let (lab, mut host) = with_container();
    for name in ["", "a/b", "a b", "a\u{202e}", &"x".repeat(200)] {
        host.inventory.roots[0].name = name.to_owned();
        let error = host.try_checkin(&lab).unwrap_err();
        assert!(error.to_string().contains("a root with the name"), "{error}");
    }
    host.inventory.roots[0].name = "shop".into();
    host.inventory.roots[0].packages[0].version = "1 2".into();
    assert!(host.try_checkin(&lab).is_err());
}
