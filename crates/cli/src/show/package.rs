//! Packages over the fleet, and what a search found.

use crate::output::{hint, line, print, severity, table};
use fettle_wire::api::{Found, PackageDetail, PackageRow, Page};

/// Packages.
pub(crate) fn list(page: &Page<PackageRow>) {
    if page.items.is_empty() {
        line("no package matches");
        hint("fettle package list");
        return;
    }
    let mut out =
        table(&["PACKAGE", "SOURCE", "HOSTS", "VERSIONS", "EXPOSED HOSTS", "UPGRADE OFFERED"]);
    for it in &page.items {
        out.add_row(vec![
            it.name.clone(),
            it.source.clone(),
            it.hosts.to_string(),
            it.versions.to_string(),
            it.exposed.to_string(),
            it.upgradable.to_string(),
        ]);
    }
    print(&out);
    if page.total > page.items.len() as u64 {
        line(&format!("{} of {} packages", page.items.len(), page.total));
    }
    hint(&format!("fettle package show {}", page.items[0].name));
}

/// One package.
pub(crate) fn one(it: &PackageDetail) {
    let row = &it.row;
    line(&format!("{} (source {}) on {} hosts", row.name, row.source, row.hosts));
    let mut out = table(&["VERSION", "HOSTS", "OFFERED ANOTHER", "OFFERED TO"]);
    for v in &it.versions {
        let row = [v.version.clone(), v.hosts.to_string()];
        out.add_row(row.into_iter().chain([v.upgradable.to_string(), v.offered.to_string()]));
    }
    print(&out);
    if !it.cves.is_empty() {
        line("");
        let mut out = table(&["SEVERITY", "VULNERABILITY", "HOSTS NOT FIXED", "OPEN", "FIXED"]);
        for cve in it.cves.iter().take(20) {
            out.add_row(vec![
                severity(cve.severity),
                cve.id.clone().into(),
                cve.hosts.into(),
                cve.open.into(),
                cve.fixed.into(),
            ]);
        }
        print(&out);
    }
    hint(&format!("fettle host list --package {}", row.name));
}

/// What a search found.
pub(crate) fn found(it: &Found) {
    if it.hits.is_empty() {
        line(&format!("nothing is called `{}`", it.q));
        hint("a part of the name will do: of a host, package, CVE, policy, plan or rollout");
        return;
    }
    let mut out = table(&["KIND", "NAME", "ABOUT"]);
    for hit in &it.hits {
        out.add_row([&hit.kind, &hit.name, &hit.about]);
    }
    print(&out);
    for (kind, total) in &it.totals {
        let shown = it.hits.iter().filter(|h| h.kind == *kind).count() as u64;
        if *total > shown {
            line(&format!("{} more of kind {kind}", total - shown));
        }
    }
}
