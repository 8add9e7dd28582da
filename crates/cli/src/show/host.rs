//! Hosts.

use crate::output::{ago, hint, line, now, print, state, table};
use fettle_core::Timestamp;
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::transaction::Progress;
use fettle_wire::api::{HostDetail, HostRow, Page};

/// Hosts. `narrowed`: not all were asked for.
pub(crate) fn list(page: &Page<HostRow>, narrowed: bool) {
    if page.items.is_empty() && narrowed {
        line("no host matches");
        hint("fettle host list");
        return;
    }
    if page.items.is_empty() {
        line("no hosts yet");
        hint("fettle token create --label ring=canary, then `fettle-agent enroll` on the host");
        return;
    }
    let mut out = table(&[
        "HOST", "STATE", "RING", "OPEN", "OVERDUE", "NO FIX", "PENDING", "FIXED", "UPGRADES",
        "SEEN", "SYSTEM",
    ]);
    let now = now();
    for host in &page.items {
        out.add_row(vec![
            host.name.clone().into(),
            state(&host.state),
            host.ring.clone().unwrap_or_else(|| "-".into()).into(),
            host.open.into(),
            host.overdue.into(),
            host.no_fix.into(),
            host.pending.into(),
            host.fixed.into(),
            host.upgrades.into(),
            seen(host, now).into(),
            host.os.clone().into(),
        ]);
    }
    print(&out);
    if page.total > page.items.len() as u64 {
        line(&format!("{} of {} hosts", page.items.len(), page.total));
    }
}

fn seen(host: &HostRow, now: Timestamp) -> String {
    match (host.listed_at, host.last_seen) {
        (Some(_), _) => "no agent".into(),
        (None, Some(at)) => ago(at, now),
        (None, None) => "never".into(),
    }
}

/// One host.
pub(crate) fn one(host: &HostDetail) {
    let row = &host.row;
    let now = now();
    let labels: Vec<String> = row.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    line(&format!("{} ({})", row.name, row.id));
    line(&format!("  state     {}", row.state));
    if let Some(at) = row.listed_at {
        line(&format!("  NO AGENT  known by a bill of materials of {}", ago(at, now)));
    }
    if let Some(reason) = &host.quarantined {
        line(&format!("  QUARANTINED: {reason}"));
    }
    line(&format!("  system    {}, kernel {}", row.os, row.kernel));
    line(&format!("  labels    {}", labels.join(" ")));
    let tags = host.inventory.as_ref().map(|it| fettle_core::policy::tags::of(it));
    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
        line(&format!("  tags      {}", tags.join(" ")));
    }
    line(&format!("  policy    {}", row.policy.as_deref().unwrap_or("none selects it")));
    line(&format!("  cohort    {}", row.cohort));
    line(&format!(
        "  findings  {} open, {} without a fix, {} pending, {} proved gone",
        row.open, row.no_fix, row.pending, row.fixed
    ));
    if let Some(inventory) = &host.inventory {
        line(&format!(
            "  inventory {} packages, {} upgrades offered, {} listeners, {} stale processes",
            inventory.packages.len(),
            inventory.upgrades.len(),
            inventory.listeners.len(),
            inventory.stale.len()
        ));
        if !inventory.languages.is_empty() {
            line(&format!("  languages {}", languages(&inventory.languages)));
        }
        for root in &inventory.roots {
            line(&format!(
                "  root      {}, {}, {} packages{}",
                root.called(),
                root.os.pretty,
                root.packages.len(),
                if root.running { ", runs" } else { "" }
            ));
            for gap in &root.gaps {
                line(&format!("    not known: {gap}"));
            }
        }
        for gap in &inventory.gaps {
            line(&format!("  not known: {gap}"));
        }
    }
    for hold in &host.holds {
        line(&format!("  held: {hold}"));
    }
    for transaction in &host.transactions {
        line(&describe(transaction, now));
    }
    hint(&format!("fettle finding list --host {}", row.name));
}

/// How many packages of which ecosystem.
fn languages(packages: &[LanguagePackage]) -> String {
    let of = |ecosystem: Ecosystem| {
        let count = packages.iter().filter(|p| p.ecosystem == ecosystem).count();
        (count > 0).then(|| format!("{count} of {ecosystem}"))
    };
    let counts: Vec<String> = Ecosystem::ALL.into_iter().filter_map(of).collect();
    counts.join(", ")
}

fn describe(transaction: &Progress, now: fettle_core::Timestamp) -> String {
    let end = transaction.outcome.as_ref().map_or("under way", |o| o.word());
    let steps: Vec<String> = transaction
        .finished
        .iter()
        .map(|(step, facts)| format!("{} {:.1} s", step.word(), facts.milliseconds as f64 / 1000.0))
        .collect();
    format!("  {} {end}, {}: {}", transaction.id, ago(transaction.begun_at, now), steps.join(", "))
}
