//! Findings, as lists and pages show them.

use crate::app::{App, now};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::Host;
use fettle_core::language::Ecosystem;
use fettle_core::policy::{Acceptance, Selector};
use fettle_core::{HostId, Problem, ProblemKind, root};
use fettle_store::findings::{self as stored, Filter};
use fettle_store::{Store, StoreError, View, hosts};
use fettle_vuln::export::{FleetBill, Member, Subject, cyclonedx};
use fettle_wire::api::{CveDetail, FindingExplained, FindingRow, Page};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A part of the findings that pass the filter, worst first.
pub(crate) fn findings(
    app: &App,
    view: &View<'_>,
    filter: &Filter,
    limit: u64,
    offset: u64,
) -> Result<Page<FindingRow>, Problem> {
    let (total, places) = app.fleet(|fleet| fleet.findings(filter, limit, offset))?;
    let mut items = Vec::with_capacity(places.len());
    for at in places {
        // One that was withdrawn between the two looks is gone.
        if let Some(record) = stored::get(view, &at.host, &at.id, &at.source)? {
            items.push(finding_row(at.host_name, record.finding));
        }
    }
    Ok(Page { total, items })
}

/// A finding in a list.
fn finding_row(host_name: String, finding: Finding) -> FindingRow {
    FindingRow { host_name, severity: finding.severity(), reason: reason(&finding), finding }
}

/// One line: why it counts, and what to do.
fn reason(finding: &Finding) -> String {
    let fixed = finding.fixed_version.as_deref().unwrap_or_default();
    let what = match finding.state {
        FindingState::Open if let Some(id) = finding.root() => {
            format!("in {}, fixed in {fixed}: {}", root::called(id, ""), root::remedy(id))
        }
        FindingState::Open if finding.offered => format!("upgrade {} to {fixed}", finding.source),
        FindingState::Open => format!("fixed in {fixed}, which no source of the host offers"),
        FindingState::NoFixYet => "the vendor has no fix yet".to_owned(),
        FindingState::PendingRestart => {
            "fixed on disk; a process still runs the old code: restart it".to_owned()
        }
        FindingState::PendingReboot => {
            "fixed on disk; the old kernel still runs: reboot".to_owned()
        }
        FindingState::Accepted => "accepted".to_owned(),
        FindingState::NotAffected => return "not affected, by your own statement".to_owned(),
        FindingState::Fixed => return "proved gone, on disk and in memory".to_owned(),
    };
    let mut why = Vec::new();
    if let Some(kev) = &finding.ranking.kev {
        why.push(
            if kev.ransomware { "exploited, by ransomware too" } else { "known to be exploited" }
                .to_owned(),
        );
    }
    if finding.exposed {
        why.push("reachable from the network".to_owned());
    } else if finding.in_use {
        why.push("in use".to_owned());
    }
    if let Some(epss) = finding.ranking.epss.filter(|e| *e >= 0.1) {
        why.push(format!("{:.0} % likely to be exploited within 30 days", epss * 100.0));
    }
    if let Some(cvss) = finding.ranking.cvss {
        why.push(format!("CVSS {cvss:.1}"));
    }
    if why.is_empty() { what } else { format!("{}: {what}", why.join(", ")) }
}

fn missing(id: &str) -> Problem {
    StoreError::Missing { what: "finding", name: id.to_owned() }.into()
}

/// A finding with its reasons.
pub(crate) fn explain(
    app: &App,
    view: &View<'_>,
    id_or_name: &str,
    id: &str,
    source: &str,
) -> Result<FindingExplained, Problem> {
    let host = hosts::find(view, id_or_name)?.host;
    let record = stored::of_host(view, &host.id)?
        .remove(&(id.to_owned(), source.to_owned()))
        .ok_or_else(|| missing(&format!("{id} in {source} on {}", host.name)))?;
    let mut lines = Vec::new();
    if let Some(inventory) = hosts::inventory(view, &host.id)? {
        let names = [host.name.as_str(), host.id.as_str()];
        let explained = app.catalogue().explain_named(&record.finding, &names, &inventory);
        lines.push(explained.headline);
        lines.extend(explained.reasons.into_iter().map(|r| r.text));
    }
    let finding = &record.finding;
    match (finding.class.as_str(), finding.deadline) {
        ("", _) => {
            lines.push("No policy's class covers it, so nothing is owed by a date.".to_owned())
        }
        (class, Some(by)) => {
            lines.push(format!("The host's policy calls it `{class}` and owes the fix by {by}."))
        }
        (class, None) => {
            lines.push(format!("The host's policy calls it `{class}`, without a deadline."))
        }
    }
    let policies = app.policies();
    let of_finding = |a: &&Acceptance| a.is_about(&finding.id, &finding.source);
    for a in policies.of(&host).iter().flat_map(|p| p.acceptances.iter().filter(of_finding)) {
        let unless = if a.even_if_exploited { "" } else { ", and it is not known to be exploited" };
        let holds = match finding.state == FindingState::Accepted {
            true => "holds",
            false => "no longer holds",
        };
        lines.push(format!(
            "{} accepts it until {}, while EPSS is below {}{unless}: {}. That {holds}.",
            a.owner, a.until, a.epss_below, a.reason
        ));
    }
    lines.push(format!(
        "First seen on this host {}; {} since {}.",
        record.first_seen,
        finding.state.word(),
        record.since
    ));
    Ok(FindingExplained { row: finding_row(host.name, record.finding), lines })
}

/// What a host has and what was found on it, as CycloneDX.
pub(crate) fn sbom(app: &App, view: &View<'_>, id_or_name: &str) -> Result<Value, Problem> {
    let host = hosts::find(view, id_or_name)?.host;
    let inventory = hosts::inventory(view, &host.id)?.ok_or_else(|| {
        let message = format!("{} has not reported what is installed there", host.name);
        let hint = format!("fettle host show {}", host.name);
        Problem::new(ProblemKind::NotFound, "no-inventory", message, hint)
    })?;
    let catalogue = app.catalogue();
    let names = [host.name.as_str(), host.id.as_str()];
    let explained = stored::of_host(view, &host.id)?.into_values().map(|record| {
        let why = catalogue.explain_named(&record.finding, &names, &inventory).reasons;
        (record.finding, why)
    });
    let findings: Vec<_> = explained.collect();
    Ok(cyclonedx(&Subject {
        name: &host.name,
        inventory: &inventory,
        findings: &findings,
        read_from: None,
        at: now(),
        tool: "fettle",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Hosts of which one look at the database reads what they have.
const READ_AT_ONCE: usize = 50;

/// What the hosts have that a selector means, or all of them, and what was found there. An inventory at a time is in memory,
/// and each host is as it is when its turn comes; whoever is gone by then is left out.
pub(crate) fn fleet_bill(app: &App, select: Option<&Selector>) -> Result<FleetBill, Problem> {
    let meant: Vec<HostId> = app.fleet(|fleet| {
        let is_meant = |host: &&Host| select.is_none_or(|select| select.matches(host));
        let all = fleet.routed().map(|(host, _)| host).filter(is_meant);
        all.map(|host| host.id.clone()).collect()
    })?;
    let mut bill = FleetBill::default();
    by_and_by(&app.store, &meant, READ_AT_ONCE, |view, id| {
        let Some(record) = hosts::get(view, id)? else { return Ok(()) };
        let inventory = hosts::inventory(view, id)?;
        let findings: Vec<Finding> =
            stored::of_host(view, id)?.into_values().map(|record| record.finding).collect();
        bill.add(&Member {
            id: id.as_str(),
            name: &record.host.name,
            inventory: inventory.as_ref(),
            findings: &findings,
        });
        Ok(())
    })?;
    Ok(bill)
}

/// Looks at each of these hosts, at most so many in one look at the database. One look at all of them would take minutes in a
/// large fleet, and as long as it lasts the database's log (WAL) cannot be folded back into it, and grows.
fn by_and_by(
    store: &Store,
    hosts: &[HostId],
    at_once: usize,
    mut look: impl FnMut(&View<'_>, &HostId) -> Result<(), Problem>,
) -> Result<(), Problem> {
    for some in hosts.chunks(at_once.max(1)) {
        store.read::<_, Problem>(|view| some.iter().try_for_each(|id| look(view, id)))?;
    }
    Ok(())
}

/// Findings that the page of a vulnerability names.
const FINDINGS: u64 = 1000;

/// One vulnerability over the fleet. `shown`: at most so many findings.
pub(crate) fn cve(app: &App, view: &View<'_>, id: &str, shown: u64) -> Result<CveDetail, Problem> {
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    let found = findings(app, view, &filter, shown.min(FINDINGS), 0)?.items;
    let (row, fixed, by_state, releases) = app.fleet(|fleet| {
        let tally = fleet.tally(now());
        let it = fleet.cve(&tally, id);
        let by_state: BTreeMap<String, u64> = FindingState::ALL
            .into_iter()
            .map(|s| (s.word().to_owned(), it.map_or(0, |it| it.count(s))))
            .filter(|(_, n)| *n > 0)
            .collect();
        let releases: BTreeSet<String> = fleet.releases().into_iter().map(str::to_owned).collect();
        let fixed = it.and_then(crate::fleet::CveTally::fixed_between);
        (fleet.cve_row_of(&tally, id), fixed, by_state, releases)
    })?;
    let catalogue = app.catalogue();
    let said: Vec<_> = catalogue.statements_about(id).collect();
    if said.is_empty() && found.is_empty() {
        return Err(StoreError::Missing { what: "vulnerability", name: id.to_owned() }.into());
    }
    let ranking = found.first().map(|r| r.finding.ranking.clone());
    let ranking =
        ranking.or_else(|| said.first().map(|s| catalogue.ranking(s))).unwrap_or_default();
    let worst = row.as_ref().map(|r| r.severity);
    let severity = worst.or_else(|| said.iter().map(|s| s.severity).max());
    let severity = severity.unwrap_or_else(|| fettle_core::finding::Severity::judge(&ranking, ""));
    let is_here =
        |release: &str| releases.contains(release) || Ecosystem::from_word(release).is_some();
    let here = said.iter().filter(|s| is_here(s.release.as_ref()));
    let advisories = here
        .map(|s| fettle_core::advisory::Advisory {
            id: s.id.to_string(),
            source: s.source.to_string(),
            release: s.release.to_string(),
            status: s.status.clone(),
            urgency: s.urgency.to_string(),
            evidence: s.evidence.to_string(),
        })
        .collect();
    Ok(CveDetail {
        id: id.to_owned(),
        severity,
        ranking,
        advisories,
        findings: found,
        fleet: row,
        first_fixed: fixed.map(|(first, _)| first),
        last_fixed: fixed.map(|(_, last)| last),
        by_state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_store::settings;

    #[test]
    fn what_is_read_by_and_by_sees_between_two_looks_what_was_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("fettle.db")).unwrap();
        let ids: Vec<HostId> = (1..=5).map(|n| HostId(format!("h{n}"))).collect();
        let mut seen = Vec::new();
        by_and_by(&store, &ids, 2, |view, id| {
            seen.push(settings::get(view, "last")?.unwrap_or_default());
            store.write::<_, Problem>("server", now(), |tx| Ok(settings::set(tx, "last", &id.0)?))
        })
        .unwrap();
        // Two of them are of one look, and nobody who writes waits for it.
        assert_eq!(seen, ["", "", "h2", "h2", "h4"]);
    }
}
