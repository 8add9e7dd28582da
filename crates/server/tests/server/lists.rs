//! Lists, counts and searches out of the fleet in memory: filters, orders, and that they say what the store says.

use crate::fleet::{CVE, Lab, NEW, OLD};
use fettle_core::Timestamp;
use fettle_core::finding::{FindingState, Severity};
use fettle_store::findings::{self, Filter};
use fettle_store::{Store, StoreOptions};
use fettle_wire::api::{
    CveDetail, CveRow, FindingRow, Found, HostRow, Overview, PackageDetail, PackageRow, Page,
};

/// Three hosts: two that are exposed, in two rings, and one with the fix.
fn three() -> Lab {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    lab.host("db-1", "broad");
    let mut patched = lab.host("web-2", "broad");
    patched.inventory = crate::fleet::inventory(NEW);
    patched.checkin(&lab);
    lab
}

fn names(lab: &Lab, query: &str) -> Vec<String> {
    let page: Page<HostRow> = lab.get(&format!("/hosts?{query}"));
    assert!(page.total >= page.items.len() as u64);
    page.items.into_iter().map(|row| row.name).collect()
}

#[test]
fn hosts_are_filtered_by_name_state_label_fact_policy_package_and_vulnerability() {
    let lab = three();
    for (query, expected) in [
        ("", vec!["db-1", "web-1", "web-2"]),
        ("q=WEB", vec!["web-1", "web-2"]),
        ("state=exposed", vec!["db-1", "web-1"]),
        ("state=no-fix-yet", vec!["web-2"]),
        ("label=ring%3Dcanary", vec!["web-1"]),
        ("label=ring%3Dcan", vec![]),
        ("select=ring%3Dbroad%20and%20not%20host.name%3Ddb-*", vec!["web-2"]),
        ("select=os.codename%3Dbookworm", vec!["db-1", "web-1", "web-2"]),
        ("select=os.codename%3Dtrixie", vec![]),
        ("select=host.package%20in%20(nginx,openssl)%20and%20ring%3Dcanary", vec!["web-1"]),
        ("select=host.package%3Demacs", vec![]),
        (&format!("select=host.package.openssl%20%3C%20{NEW}"), vec!["db-1", "web-1"]),
        (&format!("select=host.package.openssl%20%3E%3D%20{NEW}"), vec!["web-2"]),
        ("policy=web&ring=broad", vec!["db-1", "web-2"]),
        ("policy=other", vec![]),
        ("package=openssl", vec!["db-1", "web-1", "web-2"]),
        (&format!("package=openssl%3D{OLD}"), vec!["db-1", "web-1"]),
        ("package=openssl%3D9", vec![]),
        ("package=emacs", vec![]),
        (&format!("cve={CVE}"), vec!["db-1", "web-1"]),
        ("cve=cve-2024-0001", vec!["db-1", "web-1", "web-2"]),
        ("cve=CVE-1999-0001", vec![]),
        (&format!("cve={CVE}&q=web&state=exposed"), vec!["web-1"]),
        ("sort=-name", vec!["web-2", "web-1", "db-1"]),
        ("sort=-open", vec!["db-1", "web-1", "web-2"]),
        ("sort=open", vec!["web-2", "db-1", "web-1"]),
        ("sort=-upgrades&limit=1&offset=1", vec!["web-1"]),
        ("sort=state", vec!["db-1", "web-1", "web-2"]),
    ] {
        assert_eq!(names(&lab, query), expected, "{query}");
    }
    let page: Page<HostRow> = lab.get("/hosts?limit=1&offset=2");
    assert_eq!((page.total, page.items.len()), (3, 1));
    for (query, says) in [
        ("state=rosy", "no state of a host"),
        ("select=env%3D", "the selector does not read"),
        ("sort=-colour", "no order"),
    ] {
        let (status, problem) = lab.refused("GET", &format!("/hosts?{query}"), b"");
        assert_eq!(status, 400, "{problem:?}");
        assert!(problem.message.contains(says) && !problem.hint.is_empty(), "{problem:?}");
    }
}

#[test]
fn a_list_shows_every_change_that_was_committed_before_it() {
    let lab = Lab::furnished();
    assert_eq!(names(&lab, ""), Vec::<String>::new());
    let mut host = lab.host("web-1", "canary");
    assert_eq!(names(&lab, "state=exposed"), ["web-1"]);
    host.inventory = crate::fleet::inventory(NEW);
    host.checkin(&lab);
    assert_eq!(names(&lab, "state=exposed"), Vec::<String>::new());
    assert_eq!(names(&lab, &format!("package=openssl%3D{NEW}")), ["web-1"]);
    assert_eq!(names(&lab, &format!("package=openssl%3D{OLD}")), Vec::<String>::new());
    let packages: Page<PackageRow> = lab.get("/packages?q=openssl");
    let row = |name: &str| packages.items.iter().find(|r| r.name == name).unwrap().clone();
    let openssl = row("openssl");
    assert_eq!((openssl.hosts, openssl.versions, openssl.exposed), (1, 1, 0));
    // Another policy selects it no more.
    let elsewhere = crate::fleet::POLICY.replace("select = \"all\"", "select = \"env=none\"");
    lab.post_bytes("/policies", elsewhere.as_bytes());
    assert_eq!(names(&lab, "policy=web"), Vec::<String>::new());
    assert_eq!(lab.call("DELETE", "/hosts/web-1", b"").status, 204);
    assert_eq!(names(&lab, ""), Vec::<String>::new());
    let packages: Page<PackageRow> = lab.get("/packages");
    assert_eq!(packages.total, 0, "nobody has any package any more");
    let cves: Page<CveRow> = lab.get("/cves");
    assert_eq!(cves.total, 0);
}

#[test]
fn a_package_says_who_has_which_version_who_is_offered_another_and_what_is_wrong_with_it() {
    let lab = three();
    let page: Page<PackageRow> = lab.get("/packages?sort=-hosts");
    assert_eq!(page.total, 2);
    let it: PackageDetail = lab.get("/packages/libssl3");
    assert_eq!((it.row.source.as_str(), it.row.hosts, it.row.versions), ("openssl", 3, 2));
    assert_eq!((it.row.exposed, it.row.upgradable), (2, 2));
    let versions: Vec<_> = it
        .versions
        .iter()
        .map(|v| (v.version.as_str(), v.hosts, v.upgradable, v.offered))
        .collect();
    assert_eq!(versions, [(NEW, 1, 0, 2), (OLD, 2, 2, 0)], "newest first");
    let cves: Vec<_> = it.cves.iter().map(|c| (c.id.as_str(), c.hosts, c.open)).collect();
    assert_eq!(cves, [(CVE, 2, 2), ("CVE-2024-0001", 3, 0)]);
    assert_eq!(lab.refused("GET", "/packages/emacs", b"").0, 404);
}

#[test]
fn a_vulnerability_is_counted_over_the_fleet_and_found_by_what_it_is() {
    let lab = three();
    let ids = |query: &str| -> Vec<String> {
        let page: Page<CveRow> = lab.get(&format!("/cves?{query}"));
        page.items.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(""), [CVE, "CVE-2024-0001"], "what can be fixed first");
    assert_eq!(ids("fixable=true"), [CVE]);
    assert_eq!(ids("state=fixed"), [CVE]);
    assert_eq!(ids("state=no-fix-yet"), ["CVE-2024-0001"]);
    assert_eq!(ids("severity=low"), ["CVE-2024-0001"]);
    assert_eq!(ids("class=all").len(), 2);
    assert_eq!(ids("class=none"), Vec::<String>::new());
    assert_eq!(ids("kev=true"), Vec::<String>::new());
    assert_eq!(ids("q=openssl&sort=id"), ["CVE-2024-0001", CVE]);
    assert_eq!(ids("sort=-hosts"), ["CVE-2024-0001", CVE]);
    let it: CveDetail = lab.get(&format!("/cves/{CVE}"));
    let row = it.fleet.unwrap();
    assert_eq!((row.hosts, row.open, row.fixed, row.reachable), (2, 2, 1, 2));
    assert_eq!(row.sources, ["openssl"]);
    assert!(it.first_fixed.is_some() && it.first_fixed == it.last_fixed);
    assert_eq!(it.findings.len(), 3);
    assert_eq!(it.findings[2].finding.state, FindingState::Fixed, "what is left to do first");
}

#[test]
fn a_search_finds_by_a_part_of_the_name_and_knows_what_is_called_exactly_so() {
    let lab = three();
    let found = |q: &str| -> Found { lab.get(&format!("/search?q={q}")) };
    let web = found("we");
    assert_eq!(web.exact, None);
    assert_eq!((web.totals["host"], web.totals["policy"], web.totals["package"]), (2, 1, 0));
    assert!(web.hits.iter().any(|h| h.kind == "host" && h.path == "/hosts/web-2"));
    assert_eq!(found("Web-1").exact.as_deref(), Some("/hosts/web-1"));
    assert_eq!(found("openssl").exact.as_deref(), Some("/packages/openssl"));
    assert_eq!(found("cve-2024-5535").exact.as_deref(), Some("/cves/CVE-2024-5535"));
    assert!(found("zzz").hits.is_empty() && found("").hits.is_empty());
}

#[test]
fn counts_and_orders_of_the_memory_are_those_of_the_store() {
    let lab = three();
    let overview: Overview = lab.get("/overview");
    let all: Page<FindingRow> = lab.get("/findings?limit=1000");
    let open: Page<FindingRow> = lab.get("/findings?state=open&severity=medium");
    // The same file, read by the store's own queries.
    let options = StoreOptions { check: false, ..StoreOptions::default() };
    let store = Store::open_with(&lab.data().join("fettle.db"), options).unwrap();
    let (now, soon) = (Timestamp::now(), Timestamp::now() + jiff::SignedDuration::from_hours(24));
    let totals = store.read(|view| findings::totals(view, now, soon)).unwrap();
    assert_eq!(overview.findings_by_state, totals.by_state);
    assert_eq!(overview.open_by_severity, totals.open_by_severity);
    assert_eq!((overview.overdue, overview.due_soon), (totals.overdue, totals.due_soon));
    assert_eq!((overview.open_cves, overview.open_kev), (totals.open_ids, totals.open_kev));
    assert_eq!(overview.open_by_class, [("all".to_owned(), 2)].into());
    let listed =
        |filter: &Filter| store.read(|view| findings::list(view, filter, 1000, 0)).unwrap();
    let key = |f: &fettle_core::finding::Finding| (f.id.clone(), f.host.clone(), f.state);
    let (total, records) = listed(&Filter::default());
    assert_eq!((all.total, all.items.len() as u64), (total, total));
    let mut mine: Vec<_> = all.items.iter().map(|row| key(&row.finding)).collect();
    let mut theirs: Vec<_> = records.iter().map(|record| key(&record.finding)).collect();
    let ids = |keys: &[(String, _, FindingState)]| -> Vec<(String, bool)> {
        keys.iter().map(|k| (k.0.clone(), k.2 == FindingState::Fixed)).collect()
    };
    assert_eq!(ids(&mine), ids(&theirs), "worst first");
    mine.sort();
    theirs.sort();
    assert_eq!(mine, theirs);
    let narrow = Filter {
        state: Some(FindingState::Open),
        severity: Some(Severity::Medium),
        ..Filter::default()
    };
    assert_eq!(open.total, listed(&narrow).0);
}
