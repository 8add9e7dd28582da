//! A search over everything that has a name.

use crate::app::{App, now};
use crate::fleet::{CveFilter, CveSort, HostFilter, HostSort, PackageSort};
use crate::web::{encoded as escape, words};
use fettle_core::Problem;
use fettle_store::{View, plans};
use fettle_wire::api::{Found, Hit};
use std::collections::BTreeMap;

/// Of each kind at most so many.
const SHOWN: u64 = 8;
/// Plans and rollouts that are looked through: the newest.
const RECENT: u64 = 500;

/// What has `q` in its name, and the one thing that is called exactly so.
pub(crate) fn search(app: &App, view: &View<'_>, q: &str) -> Result<Found, Problem> {
    let q = q.trim();
    let mut out = Found { q: q.to_owned(), exact: None, hits: Vec::new(), totals: BTreeMap::new() };
    if q.is_empty() {
        return Ok(out);
    }
    let small = q.to_lowercase();
    let (exact, mut kinds) = in_memory(app, q, &small)?;
    out.exact = exact;
    kinds.push(policies(app, &small));
    kinds.push(plans_of(view, &small)?);
    kinds.push(rollouts_of(app, view, &small)?);
    // Where two kinds share a name, the first wins: hosts, packages, vulnerabilities, ...
    for (kind, total, hits) in kinds {
        let same = |hit: &&Hit| hit.name.to_lowercase() == small;
        if out.exact.is_none() {
            out.exact = hits.iter().find(same).map(|hit| hit.path.clone());
        }
        out.totals.insert(kind.to_owned(), total);
        out.hits.extend(hits.into_iter().take(SHOWN as usize));
    }
    if out.exact.is_none() && is_known_vulnerability(app, q) {
        out.exact = Some(format!("/cves/{}", escape(&q.to_uppercase())));
    }
    Ok(out)
}

/// A kind, how many there are, and the first few.
type Kind = (&'static str, u64, Vec<Hit>);

fn hit(kind: &str, name: String, about: String, path: String) -> Hit {
    Hit { kind: kind.to_owned(), name, about, path }
}

/// Hosts, packages and vulnerabilities, and the page of the one that is called exactly so.
fn in_memory(app: &App, typed: &str, q: &str) -> Result<(Option<String>, Vec<Kind>), Problem> {
    app.fleet(|fleet| {
        let filter = HostFilter { q: Some(q.to_owned()), ..HostFilter::default() };
        let hosts = fleet.hosts(app, &filter, (HostSort::Name, false), SHOWN, 0).page;
        let host = |row: fettle_wire::api::HostRow| {
            let about = match row.os.is_empty() {
                true => row.state.replace('-', " "),
                false => format!("{}, {}", row.state.replace('-', " "), row.os),
            };
            let path = format!("/hosts/{}", escape(&row.name));
            hit("host", row.name, about, path)
        };
        let tally = fleet.tally(now());
        let by_name = (PackageSort::Name, false);
        let packages = fleet.packages(&tally, q, false, by_name, SHOWN, 0);
        let package = |row: fettle_wire::api::PackageRow| {
            let (on, versions) =
                (words::counted(row.hosts, "host"), words::counted(row.versions, "version"));
            let path = format!("/packages/{}", escape(&row.name));
            hit("package", row.name, format!("on {on} in {versions}"), path)
        };
        let filter = CveFilter { q: q.to_owned(), ..CveFilter::default() };
        let cves = fleet.cves(&tally, &filter, (CveSort::Rank, true), SHOWN, 0);
        let cve = |row: fettle_wire::api::CveRow| {
            let on = words::counted(row.hosts, "host");
            let about =
                format!("{}, {}: {on} not fixed", row.severity.word(), row.sources.join(", "));
            let path = format!("/cves/{}", escape(&row.id));
            hit("cve", row.id, about, path)
        };
        let exact = [typed, q].iter().find_map(|name| fleet.page_of(&tally, name));
        let kinds = vec![
            ("host", hosts.total, hosts.items.into_iter().map(host).collect()),
            ("package", packages.total, packages.items.into_iter().map(package).collect()),
            ("cve", cves.total, cves.items.into_iter().map(cve).collect()),
        ];
        (exact, kinds)
    })
}

fn policies(app: &App, q: &str) -> Kind {
    let in_force = app.policies();
    let named = in_force
        .parsed
        .iter()
        .filter(|p| p.name.to_lowercase().contains(q) || p.description.to_lowercase().contains(q));
    let hits: Vec<Hit> = named
        .map(|p| {
            let path = format!("/policies/{}", escape(&p.name));
            hit("policy", p.name.clone(), p.description.clone(), path)
        })
        .collect();
    ("policy", hits.len() as u64, hits)
}

/// `plan 12`, `12`, or a text in the policy's name.
fn plans_of(view: &View<'_>, q: &str) -> Result<Kind, Problem> {
    let mut hits = Vec::new();
    for line in plans::latest(view, RECENT)? {
        let name = format!("plan {}", line.number);
        if name == q || line.number.to_string() == q || line.policy.to_lowercase().contains(q) {
            let about = format!("by policy {}", line.policy);
            hits.push(hit("plan", name, about, format!("/plans/{}", line.number)));
        }
    }
    Ok(("plan", hits.len() as u64, hits))
}

fn rollouts_of(app: &App, view: &View<'_>, q: &str) -> Result<Kind, Problem> {
    let mut hits = Vec::new();
    for row in super::rollouts(app, view)?.into_iter().take(RECENT as usize) {
        let id = row.id.to_string();
        if id.to_lowercase().contains(q) || row.policy.to_lowercase().contains(q) {
            let phase = words::phase(&row.phase);
            let about = format!("plan {} by policy {}: {phase}", row.plan, row.policy);
            let path = format!("/rollouts/{}", escape(&id));
            hits.push(hit("rollout", id, about, path));
        }
    }
    Ok(("rollout", hits.len() as u64, hits))
}

/// No host has it, and the vendors' data know it all the same.
fn is_known_vulnerability(app: &App, q: &str) -> bool {
    app.catalogue().statements_about(&q.to_uppercase()).next().is_some()
}
