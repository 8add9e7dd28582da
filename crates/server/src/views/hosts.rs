//! Hosts, as lists and pages show them.

use crate::app::{App, now};
use crate::web::Span;
use crate::web::pages::{HostPackage, HostPackages};
use fettle_core::transaction::Progress;
use fettle_core::{Hold, HostId, Problem};
use fettle_store::hosts::HostRecord;
use fettle_store::{StoreError, View, findings, hosts as stored, transactions};
use fettle_vuln::exposure::{Coverage, HostView};
use fettle_wire::api::HostDetail;
use std::collections::BTreeMap;

/// How many transactions a host's page shows.
const TRANSACTIONS: u64 = 50;
/// How many findings.
const FINDINGS: u64 = 10_000;

/// One host, whole.
pub(crate) fn host(app: &App, view: &View<'_>, id_or_name: &str) -> Result<HostDetail, Problem> {
    let record = stored::find(view, id_or_name)?;
    let id = record.host.id.clone();
    let mut inventory = stored::inventory(view, &id)?;
    let filter = findings::Filter { host: Some(id.clone()), ..Default::default() };
    let found = super::findings(app, view, &filter, FINDINGS, 0)?.items;
    if let Some(inventory) = &mut inventory {
        // Without data for its release, no findings would look like health.
        let nothing = BTreeMap::new();
        let by =
            HostView { host: &id, inventory, previous: &[], ran_before: &nothing, accepted: &[] };
        let judged = app.catalogue().judge(&by);
        inventory.gaps.extend(judged.coverage.warning());
        inventory.gaps.extend(judged.languages.values().filter_map(Coverage::warning));
        for root in &mut inventory.roots {
            root.gaps.extend(judged.roots.get(&root.id()).and_then(Coverage::warning));
        }
    }
    let mut journals = Vec::new();
    for journal in transactions::of_host(view, &id, TRANSACTIONS)? {
        journals.extend(Progress::fold(&journal.entries).ok().flatten());
    }
    let holds = holds(app, view, &record)?;
    let quarantined =
        record.host.quarantined.as_ref().map(|q| format!("{} (since {})", q.reason, q.since));
    // Between the two looks it may have left.
    let row = app.fleet(|fleet| fleet.host(app, &id))?;
    let row = row.ok_or(StoreError::Missing { what: "host", name: id_or_name.to_owned() })?;
    Ok(HostDetail { row, inventory, findings: found, transactions: journals, holds, quarantined })
}

/// The packages of a host that have `q` in their name, source or place, by name.
pub(crate) fn host_packages(
    view: &View<'_>,
    id_or_name: &str,
    q: &str,
    span: Span,
) -> Result<HostPackages, Problem> {
    let host = stored::find(view, id_or_name)?.host;
    let inventory = stored::inventory(view, &host.id)?.unwrap_or_default();
    let offered: BTreeMap<&str, &str> =
        inventory.upgrades.iter().map(|u| (u.name.as_str(), u.to.as_str())).collect();
    let installed = inventory.packages.iter().map(|p| HostPackage {
        name: p.name.clone(),
        version: p.version.clone(),
        from: p.source.clone(),
        offered: offered.get(p.name.as_str()).map(|to| (*to).to_owned()),
        held: inventory.held.contains(&p.name),
        healthy: p.healthy,
    });
    let beside = inventory.languages.iter().map(|p| HostPackage {
        name: p.subject(),
        version: p.version.clone(),
        from: p.location.clone(),
        offered: None,
        held: false,
        healthy: true,
    });
    let all = (inventory.packages.len() + inventory.languages.len()) as u64;
    let q = q.to_lowercase();
    let mut found: Vec<HostPackage> = installed.chain(beside).collect();
    found.retain(|p| p.name.to_lowercase().contains(&q) || p.from.to_lowercase().contains(&q));
    found.sort();
    let total = found.len() as u64;
    let first = usize::try_from(span.offset).unwrap_or(usize::MAX);
    let items = found.into_iter().skip(first).take(span.limit as usize).collect();
    Ok(HostPackages { host: host.name, all, total, items })
}

/// Everything that stops progress on the host now.
fn holds(app: &App, view: &View<'_>, record: &HostRecord) -> Result<Vec<Hold>, Problem> {
    let host = &record.host;
    if let Some(listed) = &host.listed {
        return Ok(vec![Hold::NoAgent { listed_at: listed.at }]);
    }
    let mut holds = Vec::new();
    if let Some(quarantine) = &host.quarantined {
        holds.push(Hold::Quarantined { reason: quarantine.reason.clone() });
    }
    if app.is_silent(host) {
        holds.push(Hold::HostSilent { last_seen: app.last_seen(&host.id, host.last_seen) });
    }
    if host.inventory.is_none() {
        holds.push(Hold::NoInventory);
    }
    match app.policies().of(host) {
        None => holds.push(Hold::NoPolicy),
        Some(policy) => {
            if policy.stage_of(host).is_none() {
                holds.push(Hold::NoRing);
            }
            holds.extend(policy.window_at(now()).hold);
        }
    }
    holds.extend(waiting(app, view, &host.id)?);
    holds.dedup();
    Ok(holds)
}

/// What rollouts wait for on the host.
pub(super) fn waiting(app: &App, view: &View<'_>, host: &HostId) -> Result<Vec<Hold>, Problem> {
    let mut holds = Vec::new();
    for state in crate::rollouts::of_host(app, view, host)? {
        let looked = super::rollouts::look(app, view, &state)?;
        let pending = state.hosts.get(host).is_some_and(|run| !run.is_over());
        let about = |on: &Option<HostId>| match on {
            Some(id) => id == host,
            None => pending,
        };
        let here = looked.waiting.iter().filter(|waiting| about(&waiting.host));
        holds.extend(here.map(|waiting| waiting.hold.clone()));
    }
    Ok(holds)
}
