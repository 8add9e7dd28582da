//! What somebody wants to know of a plan before they approve it, and what differs between two.

use crate::output::{line, print, table};
use fettle_core::plan::{Brings, PlanDiff, PlanReport, ReasonMove, SomeHosts, WaveLine};
use std::collections::BTreeMap;

/// Rows of a table that a terminal shows; `-o json` has them all.
const SHOWN: usize = 30;

/// When each wave may begin, whom it stands for, and which cohorts there are.
pub(crate) fn coverage(it: &PlanReport) {
    if it.waves.is_empty() {
        return;
    }
    line("\ntimetable, and what each wave is good for:");
    let mut out =
        table(&["WAVE", "RING", "EARLIEST", "LASTS", "HOSTS", "ROLES", "TRIED BEFORE", "NEW"]);
    for (n, wave) in it.waves.iter().enumerate() {
        let earliest = wave.earliest.map(|at| at.to_string());
        out.add_row(vec![
            (n + 1).to_string(),
            wave.ring.clone(),
            earliest.unwrap_or_else(|| "no window within a year".to_owned()),
            lasts(wave),
            wave.hosts.to_string(),
            roles(&wave.roles),
            tried(wave),
            match wave.new_changes {
                0 => "nothing".to_owned(),
                n => format!("{n} changes on {} hosts", wave.new_hosts),
            },
        ]);
    }
    print(&out);
    line("\ncohorts (hosts with the very same packages):");
    let mut out = table(&["COHORT", "HOSTS", "ROLES", "CHANGES", "FIXES", "TRIED FIRST", "DUE"]);
    for cohort in it.cohorts.iter().take(SHOWN) {
        let on = cohort.tried_on.join(", ");
        out.add_row(vec![
            cohort.cohort.short(),
            cohort.hosts.to_string(),
            roles(&cohort.roles),
            cohort.changes.to_string(),
            cohort.fixes.to_string(),
            format!("in wave {} on {on}", cohort.first_wave + 1),
            cohort.due.map_or_else(|| "–".to_owned(), |at| at.to_string()),
        ]);
    }
    print(&out);
    more(it.cohorts.len(), "cohorts");
}

fn tried(wave: &WaveLine) -> String {
    match wave.cohorts {
        0 => "–".to_owned(),
        n => format!(
            "{} of {n} cohorts ({} of {} hosts)",
            wave.tried_cohorts, wave.tried_hosts, wave.hosts
        ),
    }
}

fn roles(of: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = of.iter().map(|(role, hosts)| format!("{hosts} {role}")).collect();
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

fn more(all: usize, what: &str) {
    if all > SHOWN {
        line(&format!("  {} more {what}: -o json", all - SHOWN));
    }
}

/// Deadlines, restarts, reboots, budgets, and what nobody can say.
pub(crate) fn effects(it: &PlanReport) {
    let due = &it.deadlines;
    let mut told = vec![format!("{} hosts in time", due.kept)];
    if let Some(first) = due.first {
        told.push(format!("the first by {first}"));
    }
    if due.missed > 0 {
        told.push(format!("{} OWED BEFORE THEIR WAVE MAY BEGIN", due.missed));
    }
    if due.late > 0 {
        told.push(format!("{} late already", due.late));
    }
    if due.without > 0 {
        told.push(format!("{} owe nothing by a date", due.without));
    }
    line(&format!("\ndeadlines: {}", told.join("; ")));
    if it.reboots > 0 {
        line(&format!("reboots: {} hosts, at most {} in one wave", it.reboots, it.reboots_at_once));
    }
    if !it.restarts.is_empty() {
        let unit = |u: &fettle_core::plan::Restarted| {
            format!("{} on {} (at most {} in one wave)", u.unit, u.hosts, u.at_once)
        };
        let units: Vec<String> = it.restarts.iter().map(unit).collect();
        line(&format!("likely to restart: {}", super::plan::some(&units)));
    }
    for risk in &it.risks {
        let packages: Vec<String> = risk.packages.iter().cloned().collect();
        line(&format!(
            "risk `{}`: {} on {} hosts, hence {}",
            risk.name,
            super::plan::some(&packages),
            risk.hosts,
            risk.asks
        ));
    }
    for budget in &it.budgets {
        line(&format!(
            "budget `{}`: changes {} of {} hosts, {} in one wave; at most {} disrupted at once",
            budget.name, budget.hosts, budget.members, budget.in_a_wave, budget.limit
        ));
    }
    groups(it);
    for needed in it.needed_by.iter().flatten().take(FEW) {
        let rest = needed.dependents.saturating_sub(needed.names.len() as u64);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let in_use = match needed.in_use.as_slice() {
            [] => String::new(),
            some => format!("; in use: {}", some.join(", ")),
        };
        line(&format!(
            "`{}` changes on {} hosts; needed by {}{rest}{in_use}",
            needed.package,
            needed.hosts,
            needed.names.join(", ")
        ));
    }
    if let Some(more) = it.needed_by.as_ref().and_then(|all| all.len().checked_sub(FEW))
        && more > 0
    {
        line(&format!("  {more} more changed packages that others need: -o json"));
    }
    space(it);
    for what in &it.unknown {
        line(&format!("not known here: {what}"));
    }
}

/// Packages that others need, as a terminal shows them.
const FEW: usize = 10;

/// Hosts that stand in for each other.
fn groups(it: &PlanReport) {
    for group in &it.groups {
        let whole = match (group.is_whole(), group.has_budget) {
            (true, _) => " - ALL OF THEM AT ONCE",
            (false, true) => "",
            (false, false) => " (no budget counts them)",
        };
        let unit = |(unit, hosts): &(String, u64)| format!("{unit} on {hosts}");
        let units: Vec<String> = group.restarts.iter().map(unit).collect();
        let restarts = match units.as_slice() {
            [] => String::new(),
            some => format!("; likely to restart: {}", super::plan::some(some)),
        };
        line(&format!(
            "hosts for `{}`: changes {} of {}, {} at once{whole}{restarts}",
            group.role, group.hosts, group.members, group.at_once
        ));
    }
}

/// Hosts that may refuse for lack of room.
fn space(it: &PlanReport) {
    if it.space.short.is_empty() {
        return;
    }
    line("\nhosts that may have too little room, and would refuse:");
    let mut out = table(&["HOST", "WAVE", "FILE SYSTEM", "FREE", "MAY NEED"]);
    let amount = |of: u64, what: &str| match what {
        "bytes" => format!("{} MiB", of >> 20),
        other => format!("{of} {other}"),
    };
    for short in it.space.short.iter().take(SHOWN) {
        out.add_row(vec![
            short.name.clone(),
            (short.wave + 1).to_string(),
            short.mount.clone(),
            amount(short.free, &short.of),
            amount(short.needs, &short.of),
        ]);
    }
    print(&out);
    more(it.space.short.len(), "hosts");
}

/// How long a wave may be at work, and what that is learned from.
fn lasts(wave: &WaveLine) -> String {
    match (wave.lasts_seconds, wave.takes) {
        (Some(seconds), Some(takes)) => format!(
            "about {} s (a host {} to {} s, by {} changes)",
            seconds, takes.usual_seconds, takes.long_seconds, takes.learned_from
        ),
        _ if wave.hosts == 0 => "–".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// What is left undone, a line a reason.
pub(crate) fn held(it: &PlanReport) {
    if it.held.is_empty() {
        return;
    }
    line("\nnot in this plan, and why:");
    for held in &it.held {
        let what = match held.packages {
            0 => "whole hosts".to_owned(),
            1 => "1 package".to_owned(),
            n => format!("{n} packages"),
        };
        let open = match held.findings {
            0 => String::new(),
            1 => ", 1 vulnerability stays open".to_owned(),
            n => format!(", {n} vulnerabilities stay open"),
        };
        let rest = held.hosts.saturating_sub(held.names.len() as u64);
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        line(&format!(
            "  {}: {} hosts, {what}{open}  ({}{rest})",
            held.reasons.join(" ← "),
            held.hosts,
            held.names.join(", ")
        ));
        line(&format!("    {}", held.example));
    }
}

/// What one plan does that another does not.
pub(crate) fn diff(it: &PlanDiff) {
    if it.is_empty() {
        return line(&format!("plans {} and {} do the same", it.from, it.to));
    }
    line(&format!("what plan {} does that plan {} does not:", it.to, it.from));
    if let Some((from, to)) = &it.policies {
        line(&format!("  policy `{from}` → `{to}`"));
    }
    if let Some((from, to)) = &it.policy_texts {
        line(&format!("  the policy's text {} → {}", from.short(), to.short()));
    }
    if let Some((from, to)) = it.approvals {
        line(&format!("  approvals needed {from} → {to}"));
    }
    if let Some((from, to)) = it.wave_counts {
        line(&format!("  waves {from} → {to}"));
    }
    for besides in &it.besides {
        line(&format!("  {besides}"));
    }
    if !it.wave_rules.is_empty() {
        let waves: Vec<String> = it.wave_rules.iter().map(|n| (n + 1).to_string()).collect();
        line(&format!("  other gates or rests: wave {}", waves.join(", ")));
    }
    let limit = |n: Option<u32>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    for (name, from, to) in &it.budgets {
        line(&format!("  budget `{name}` {} → {} at once", limit(*from), limit(*to)));
    }
    for (what, hosts) in [
        ("+ hosts", &it.hosts_in),
        ("- hosts", &it.hosts_out),
        ("~ the same packages by other rules on", &it.rules),
    ] {
        if hosts.count > 0 {
            line(&format!("  {what} {}", told(hosts)));
        }
    }
    for moved in &it.waves {
        line(&format!(
            "  ~ wave {} ({}) → wave {} ({}): {}",
            moved.from.1 + 1,
            moved.from.0,
            moved.to.1 + 1,
            moved.to.0,
            told(&moved.hosts)
        ));
    }
    if !it.packages.is_empty() {
        line("");
        let mut out = table(&["PACKAGE", "FROM", "TO", "HOSTS"]);
        for line in it.packages.iter().take(SHOWN) {
            out.add_row(vec![
                line.package.clone(),
                brings(line.from.as_ref(), line.to.as_ref()),
                brings(line.to.as_ref(), line.from.as_ref()),
                told(&line.hosts),
            ]);
        }
        print(&out);
        more(it.packages.len(), "packages");
    }
    reasons("left undone now", &it.held_in);
    reasons("no longer left undone, or for another reason", &it.held_out);
}

/// A version; where both are the same, the archive tells them apart.
fn brings(of: Option<&Brings>, other: Option<&Brings>) -> String {
    match (of, other) {
        (None, _) => "left alone".to_owned(),
        (Some(of), Some(other)) if of.version == other.version => {
            format!("{} (archive {})", of.version, of.sha256.short())
        }
        (Some(of), _) => of.version.clone(),
    }
}

fn told(some: &SomeHosts) -> String {
    let rest = some.count.saturating_sub(some.names.len() as u64);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}: {}{more}", some.count, some.names.join(", "))
}

fn reasons(title: &str, lines: &[ReasonMove]) {
    if lines.is_empty() {
        return;
    }
    line(&format!("\n{title}:"));
    for it in lines.iter().take(SHOWN) {
        let what = if it.package.is_empty() { "the whole host" } else { &it.package };
        line(&format!("  {what}: {}  ({})", it.example, told(&it.hosts)));
    }
    more(lines.len(), "reasons");
}
