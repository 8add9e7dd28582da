//! Findings, as lists and pages show them.

use crate::app::App;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::policy::Acceptance;
use fettle_core::{HostId, Problem};
use fettle_store::findings::{self as stored, Filter};
use fettle_store::{StoreError, View, hosts};
use fettle_wire::api::{CveDetail, FindingExplained, FindingRow, Page};
use std::collections::{BTreeMap, BTreeSet};

/// A part of the findings that pass the filter, worst first.
pub(crate) fn findings(
    view: &View<'_>,
    filter: &Filter,
    limit: u64,
    offset: u64,
) -> Result<Page<FindingRow>, Problem> {
    let (total, records) = stored::list(view, filter, limit, offset)?;
    let mut names: BTreeMap<HostId, String> = BTreeMap::new();
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let finding = record.finding;
        let name = match names.get(&finding.host) {
            Some(name) => name.clone(),
            None => {
                let found = hosts::get(view, &finding.host)?;
                let name = found.map_or_else(|| finding.host.to_string(), |r| r.host.name);
                names.insert(finding.host.clone(), name.clone());
                name
            }
        };
        items.push(finding_row(name, finding));
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
        let explained = app.catalogue().explain(&record.finding, &inventory);
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
    let of_finding = |a: &&Acceptance| {
        a.finding == finding.id && a.source.as_ref().is_none_or(|s| *s == finding.source)
    };
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

/// One vulnerability over the fleet.
pub(crate) fn cve(app: &App, view: &View<'_>, id: &str) -> Result<CveDetail, Problem> {
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    let found = findings(view, &filter, 100_000, 0)?.items;
    let releases: BTreeSet<String> = hosts::all(view)?
        .into_iter()
        .filter_map(|r| r.host.inventory.map(|i| i.os.codename))
        .collect();
    let catalogue = app.catalogue();
    let said: Vec<_> = catalogue.statements_about(id).collect();
    if said.is_empty() && found.is_empty() {
        return Err(StoreError::Missing { what: "vulnerability", name: id.to_owned() }.into());
    }
    let mut by_state: BTreeMap<String, u64> = BTreeMap::new();
    for row in &found {
        *by_state.entry(row.finding.state.word().to_owned()).or_default() += 1;
    }
    let ranking = found.first().map(|r| r.finding.ranking.clone());
    let ranking =
        ranking.or_else(|| said.first().map(|s| catalogue.ranking(s))).unwrap_or_default();
    let worst = found.iter().map(|r| r.severity).max();
    let severity = worst.or_else(|| said.iter().map(|s| s.severity).max());
    let severity = severity.unwrap_or_else(|| fettle_core::finding::Severity::judge(&ranking, ""));
    let here = said.iter().filter(|s| releases.contains(s.release.as_ref()));
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
    Ok(CveDetail { id: id.to_owned(), severity, ranking, advisories, findings: found, by_state })
}
