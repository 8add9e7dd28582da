//! Hosts, as lists and pages show them.

use crate::app::{App, now};
use fettle_core::finding::FindingState;
use fettle_core::host::Host;
use fettle_core::transaction::Progress;
use fettle_core::{Hold, Problem};
use fettle_store::hosts::HostRecord;
use fettle_store::{View, findings, hosts as stored, transactions};
use fettle_vuln::exposure::HostView;
use fettle_wire::api::{HostDetail, HostRow};
use std::collections::BTreeMap;

/// How many transactions a host's page shows.
const TRANSACTIONS: u64 = 50;
/// How many findings.
const FINDINGS: u64 = 10_000;

type Counts = BTreeMap<String, u64>;

/// All hosts, by name.
pub(crate) fn hosts(app: &App, view: &View<'_>) -> Result<Vec<HostRow>, Problem> {
    let mut counts = findings::by_host(view)?;
    let rows = stored::all(view)?
        .into_iter()
        .map(|record| {
            let counts = counts.remove(&record.host.id).unwrap_or_default();
            row(app, record, &counts)
        })
        .collect();
    Ok(rows)
}

fn row(app: &App, record: HostRecord, counts: &Counts) -> HostRow {
    let policies = app.policies();
    let policy = policies.of(&record.host);
    let n = |state: FindingState| counts.get(state.word()).copied().unwrap_or(0);
    let state = state(app, &record, &n, policy.is_some());
    let host = record.host;
    let inventory = host.inventory.as_ref();
    HostRow {
        os: inventory.map(|i| i.os.pretty.clone()).unwrap_or_default(),
        kernel: inventory.map(|i| i.kernel.running.clone()).unwrap_or_default(),
        state: state.to_owned(),
        cohort: record.cohort.map(|c| c.short()).unwrap_or_default(),
        policy: policy.map(|p| p.name.clone()),
        ring: policy.and_then(|p| p.stage_of(&host)).map(str::to_owned),
        open: n(FindingState::Open),
        no_fix: n(FindingState::NoFixYet),
        pending: n(FindingState::PendingRestart) + n(FindingState::PendingReboot),
        fixed: n(FindingState::Fixed),
        upgrades: record.upgrades,
        last_seen: app.last_seen(&host.id, host.last_seen),
        id: host.id,
        name: host.name,
        labels: host.labels,
    }
}

/// One word for a host: what needs a person first.
fn state(
    app: &App,
    record: &HostRecord,
    n: &dyn Fn(FindingState) -> u64,
    has_policy: bool,
) -> &'static str {
    let host = &record.host;
    match () {
        () if host.quarantined.is_some() => "quarantined",
        () if app.is_silent(host) => "silent",
        () if host.inventory.is_none() => "no-inventory",
        () if !is_judged(app, host) => "not-judged",
        () if n(FindingState::Open) > 0 => "exposed",
        () if n(FindingState::PendingReboot) > 0 => "pending-reboot",
        () if n(FindingState::PendingRestart) > 0 => "pending-restart",
        () if !has_policy => "no-policy",
        () if n(FindingState::NoFixYet) > 0 => "no-fix-yet",
        () => "up-to-date",
    }
}

/// Is there vulnerability data for what the host runs?
fn is_judged(app: &App, host: &Host) -> bool {
    host.inventory.as_ref().is_some_and(|inventory| app.catalogue().knows(&inventory.os))
}

/// One host, whole.
pub(crate) fn host(app: &App, view: &View<'_>, id_or_name: &str) -> Result<HostDetail, Problem> {
    let record = stored::find(view, id_or_name)?;
    let id = record.host.id.clone();
    let mut inventory = stored::inventory(view, &id)?;
    let mut counts = Counts::new();
    let filter = findings::Filter { host: Some(id.clone()), ..Default::default() };
    let found = super::findings(view, &filter, FINDINGS, 0)?.items;
    for row in &found {
        *counts.entry(row.finding.state.word().to_owned()).or_default() += 1;
    }
    if let Some(inventory) = &mut inventory {
        // Without data for its release, no findings would look like health.
        let nothing = BTreeMap::new();
        let by =
            HostView { host: &id, inventory, previous: &[], ran_before: &nothing, accepted: &[] };
        let warning = app.catalogue().judge(&by).coverage.warning();
        inventory.gaps.extend(warning);
    }
    let mut journals = Vec::new();
    for journal in transactions::of_host(view, &id, TRANSACTIONS)? {
        journals.extend(Progress::fold(&journal.entries).ok().flatten());
    }
    let holds = holds(app, view, &record)?;
    let quarantined =
        record.host.quarantined.as_ref().map(|q| format!("{} (since {})", q.reason, q.since));
    Ok(HostDetail {
        row: row(app, record, &counts),
        inventory,
        findings: found,
        transactions: journals,
        holds,
        quarantined,
    })
}

/// Everything that stops progress on the host now.
fn holds(app: &App, view: &View<'_>, record: &HostRecord) -> Result<Vec<Hold>, Problem> {
    let host = &record.host;
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
    for state in crate::rollouts::of_host(app, view, &host.id)? {
        let decision = crate::rollouts::decide(app, view, &state)?;
        let pending = state.hosts.get(&host.id).is_some_and(|run| !run.is_over());
        let about = |on: &Option<fettle_core::HostId>| match on {
            Some(id) => *id == host.id,
            None => pending,
        };
        holds.extend(decision.holds.into_iter().filter(|w| about(&w.host)).map(|w| w.hold));
    }
    holds.dedup();
    Ok(holds)
}
