//! Policies, what one would change, and which one counts for a host.

use super::hosts::waiting;
use crate::app::{App, now};
use crate::policies::{self, Policies};
use crate::web::pages::PolicyVersions;
use fettle_core::host::Host;
use fettle_core::policy::{
    self, DiffInput, ExplainInput, Explained, Known, Policy, PolicyDiff, Pool, Strategy,
    WindowCalendar, is_touched, with_next,
};
use fettle_core::{HostId, Problem};
use fettle_store::policies::{self as stored, PolicyRecord};
use fettle_store::{StoreError, View, findings as stored_findings, hosts as stored_hosts};
use fettle_wire::api::{PolicyRow, PolicyVersion};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Policies in force.
pub(crate) fn policies(app: &App) -> Result<Vec<PolicyRow>, Problem> {
    let in_force = app.policies();
    let hosts: BTreeMap<String, u64> = app.fleet(|fleet| {
        fleet.by_policy().into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
    })?;
    let row = |record: &PolicyRecord| {
        let parsed = in_force.parsed.iter().find(|p| p.name == record.name);
        let unread = in_force.unread.iter().find(|(name, _)| *name == record.name);
        let hosts = hosts.get(record.name.as_str()).copied().unwrap_or(0);
        let row = policy_row(record, parsed.map_or("", |p| &p.description), hosts);
        PolicyRow { unread: unread.map(|(_, why)| why.clone()), ..row }
    };
    Ok(in_force.records.iter().map(row).collect())
}

fn policy_row(record: &PolicyRecord, description: &str, hosts: u64) -> PolicyRow {
    PolicyRow {
        name: record.name.clone(),
        version: record.version,
        description: description.to_owned(),
        digest: record.digest,
        applied_at: record.applied_at,
        applied_by: record.applied_by.clone(),
        hosts,
        unread: None,
        text: record.text.clone(),
    }
}

/// One policy in force.
pub(crate) fn policy(app: &App, name: &str) -> Result<PolicyRow, Problem> {
    let found = policies(app)?.into_iter().find(|p| p.name == name);
    found.ok_or_else(|| StoreError::Missing { what: "policy", name: name.to_owned() }.into())
}

/// Every version of a policy, newest first.
pub(crate) fn policy_versions(view: &View<'_>, name: &str) -> Result<Vec<PolicyVersion>, Problem> {
    let rows = stored::history(view, name)?.into_iter().enumerate();
    let row = |(n, record): (usize, PolicyRecord)| PolicyVersion {
        version: record.version,
        digest: record.digest,
        applied_at: record.applied_at,
        applied_by: record.applied_by,
        in_force: n == 0,
        text: record.text,
    };
    Ok(rows.map(row).collect())
}

/// Weeks that a policy's calendar shows.
const WEEKS: u8 = 5;

/// A policy's windows, where its text is understood.
pub(crate) fn policy_calendar(app: &App, name: &str) -> Option<WindowCalendar> {
    let in_force = app.policies();
    let policy = in_force.parsed.iter().find(|p| p.name == name)?;
    Some(policy.window_calendar(now(), WEEKS))
}

/// How many hosts each ring or pool of a policy has, in their order; those in none last, under the empty word.
pub(crate) fn policy_stages(app: &App, name: &str) -> Result<Vec<(String, u64)>, Problem> {
    let mut counts = app.fleet(|fleet| fleet.by_stage(name))?;
    let in_force = app.policies();
    let policy = in_force.parsed.iter().find(|p| p.name == name);
    let mut take = |stage: &str| (stage.to_owned(), counts.remove(stage).unwrap_or(0));
    let mut rows: Vec<_> = match policy.map(|p| &p.strategy) {
        Some(Strategy::BlueGreen { .. }) => {
            [Pool::Blue, Pool::Green].map(|pool| take(pool.word())).into()
        }
        Some(Strategy::Rings) => {
            policy.iter().flat_map(|p| &p.rings).map(|ring| take(&ring.name)).collect()
        }
        _ => Vec::new(),
    };
    rows.extend(counts.into_iter().filter(|(_, n)| *n > 0));
    Ok(rows)
}

/// Two versions of a policy, and which settings differ.
pub(crate) fn policy_versions_between(
    view: &View<'_>,
    name: &str,
    from: u64,
    to: u64,
) -> Result<PolicyVersions, Problem> {
    let all = policy_versions(view, name)?;
    let version = |wanted: u64| {
        let found = all.iter().find(|v| v.version == wanted).cloned();
        let missing = || format!("{name}, version {wanted}");
        found.ok_or_else(|| StoreError::Missing { what: "policy", name: missing() })
    };
    let (from, to) = (version(from)?, version(to)?);
    // It was understood when it was applied, maybe by another version of Fettle.
    let parsed = |v: &PolicyVersion| {
        policies::parse(&v.text).map_err(|p| format!("version {}: {p}", v.version))
    };
    let settings = parsed(&from).and_then(|a| Ok(policy::settings(&a, &parsed(&to)?)));
    Ok(PolicyVersions { name: name.to_owned(), from, to, settings })
}

/// What a policy would change if it were applied now.
pub(crate) fn policy_diff(
    app: &App,
    view: &View<'_>,
    next: &Policy,
) -> Result<PolicyDiff, Problem> {
    let in_force: &Policies = &app.policies();
    let after = with_next(&in_force.parsed, next);
    let fleet: Vec<Host> = stored_hosts::all(view)?.into_iter().map(|r| r.host).collect();
    let mut findings: BTreeMap<HostId, Vec<Known>> = BTreeMap::new();
    for host in fleet.iter().filter(|h| is_touched(&in_force.parsed, &after, next, h)) {
        findings.insert(host.id.clone(), known(view, &host.id)?);
    }
    let diff = policy::diff(DiffInput {
        in_force: &in_force.parsed,
        next,
        fleet: &fleet,
        findings: &findings,
        now: now(),
    });
    // One that cannot be read any more is in force all the same: its successor follows it.
    let record = in_force.records.iter().find(|record| record.name == next.name);
    Ok(PolicyDiff { from: record.map(|record| record.digest), ..diff })
}

/// What a host is exposed to, and since when that is known.
fn known(view: &View<'_>, host: &HostId) -> Result<Vec<Known>, Problem> {
    let all = stored_findings::of_host(view, host)?.into_values();
    let one = |r: stored_findings::FindingRecord| {
        let first_seen = r.counts_from();
        Known { finding: r.finding, first_seen }
    };
    Ok(all.map(one).filter(|k| k.finding.state.is_vulnerable()).collect())
}

/// Which policy counts for a host and why, and what follows.
pub(crate) fn explained(
    app: &App,
    view: &View<'_>,
    id_or_name: &str,
) -> Result<Explained, Problem> {
    let fleet: Vec<Host> = stored_hosts::all(view)?.into_iter().map(|r| r.host).collect();
    explained_among(app, view, id_or_name, &fleet)
}

/// What would be done next on a host, and what of it is held: as [`explained`], without what its budgets count, for
/// which the whole fleet would be looked through.
pub(crate) fn next(app: &App, view: &View<'_>, id_or_name: &str) -> Result<Explained, Problem> {
    explained_among(app, view, id_or_name, &[])
}

fn explained_among(
    app: &App,
    view: &View<'_>,
    id_or_name: &str,
    fleet: &[Host],
) -> Result<Explained, Problem> {
    let mut host = stored_hosts::find(view, id_or_name)?.host;
    host.inventory = stored_hosts::inventory(view, &host.id)?.map(Arc::new);
    host.last_seen = app.last_seen(&host.id, host.last_seen);
    let in_force = app.policies();
    let rollouts = crate::rollouts::of_host(app, view, &host.id)?;
    let at_work = |state: &&std::sync::Arc<fettle_core::rollout::Rollout>| {
        state.hosts.get(&host.id).is_some_and(|run| !run.is_over())
    };
    let serving = match in_force.of(&host) {
        Some(policy) => crate::rollouts::serving(app, view, &policy.name)?,
        None => None,
    };
    Ok(policy::explain(ExplainInput {
        host: &host,
        policies: &in_force.parsed,
        fleet,
        findings: &known(view, &host.id)?,
        barred: &crate::api::barred_now(view)?,
        recalls: &fettle_store::recalls::all(view)?,
        busy: rollouts.iter().find(at_work).map(|state| &state.id),
        waiting: &waiting(app, view, &host.id)?,
        serving,
        silent_after_seconds: app.options.silent_after_seconds,
        now: now(),
    }))
}
