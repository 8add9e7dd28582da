//! Findings and vulnerabilities.

use crate::output::{ago, finding_state, hint, line, now, print, severity, table};
use fettle_wire::api::{CveDetail, FindingExplained, FindingRow, Page};

/// Findings, worst first.
pub(crate) fn list(page: &Page<FindingRow>) {
    rows(&page.items);
    if page.total > page.items.len() as u64 {
        line(&format!("{} of {}; more with --limit {}", page.items.len(), page.total, page.total));
    }
    match page.items.first() {
        Some(first) => {
            hint(&format!("fettle finding explain {} {}", first.host_name, first.finding.id))
        }
        None => line("no such findings"),
    }
}

fn rows(items: &[FindingRow]) {
    if items.is_empty() {
        return;
    }
    let mut out = table(&["FINDING", "SEVERITY", "HOST", "SOURCE", "STATE", "DUE", "WHY"]);
    let now = now();
    for row in items {
        out.add_row(vec![
            row.finding.id.clone().into(),
            severity(row.severity),
            row.host_name.clone().into(),
            row.finding.source.clone().into(),
            finding_state(row.finding.state),
            row.finding.deadline.map_or_else(|| "-".into(), |at| ago(at, now)).into(),
            row.reason.clone().into(),
        ]);
    }
    print(&out);
}

/// Why a finding is one.
pub(crate) fn explain(explained: &FindingExplained) {
    let finding = &explained.row.finding;
    line(&format!("{} on {}: {}", finding.id, explained.row.host_name, finding.state.word()));
    for reason in &explained.lines {
        line(&format!("  {reason}"));
    }
}

/// One vulnerability over the fleet.
pub(crate) fn cve(cve: &CveDetail) {
    let ranking = &cve.ranking;
    line(&format!("{}  {}", cve.id, cve.severity.word()));
    if let Some(score) = ranking.cvss {
        line(&format!("  CVSS {score:.1} {}", ranking.cvss_vector.as_deref().unwrap_or_default()));
    }
    if let Some(epss) = ranking.epss {
        line(&format!("  EPSS {:.2} % within 30 days", epss * 100.0));
    }
    if let Some(kev) = &ranking.kev {
        line(&format!("  known to be exploited since {}, due {}", kev.date_added, kev.due_date));
    }
    for advisory in &cve.advisories {
        let status = serde_json::to_string(&advisory.status).unwrap_or_default();
        line(&format!(
            "  {} {}: {status} ({})",
            advisory.release, advisory.source, advisory.evidence
        ));
    }
    let states: Vec<String> = cve.by_state.iter().map(|(word, n)| format!("{n} {word}")).collect();
    line(&format!(
        "  hosts: {}",
        if states.is_empty() { "none".into() } else { states.join(", ") }
    ));
    rows(&cve.findings);
}
