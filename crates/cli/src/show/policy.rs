//! Policies and feeds.

use crate::output::{ago, line, now, print, table};
use fettle_wire::api::{FeedRow, Page, PolicyRow};

/// Policies in force.
pub(crate) fn list(page: &Page<PolicyRow>) {
    if page.items.is_empty() {
        line("no policy is in force: no host is owed anything");
        line("→ fettle policy apply examples/policies/web-production.toml");
        return;
    }
    let mut out = table(&["POLICY", "VERSION", "HOSTS", "APPLIED", "BY", "DESCRIPTION"]);
    for row in &page.items {
        out.add_row(vec![
            row.name.clone(),
            row.version.to_string(),
            row.hosts.to_string(),
            ago(row.applied_at, now()),
            row.applied_by.clone(),
            row.description.clone(),
        ]);
    }
    print(&out);
}

/// Feeds and how old they are.
pub(crate) fn feeds(rows: &[FeedRow]) {
    let mut out = table(&["FEED", "RECORDS", "UNREADABLE", "DATE", "IMPORTED", "ORIGIN"]);
    for row in rows {
        out.add_row(vec![
            row.name.clone(),
            row.records.to_string(),
            row.errors.to_string(),
            row.date.clone(),
            row.imported_at.map_or_else(|| "never".into(), |at| ago(at, now())),
            row.origin.clone(),
        ]);
    }
    print(&out);
    for row in rows {
        if let Some(error) = &row.last_error {
            line(&format!(
                "{}: the last import was refused, the one before is in force: {error}",
                row.name
            ));
        }
    }
}
