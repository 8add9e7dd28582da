//! A plan as it is put before those who approve it: what it costs and when, who tries it first, what is left.

use super::layout::{Span, View, scroll, section};
use super::plan_parts::{Shown, cut};
use super::words;
use fettle_core::plan::{PlanReport, WaveLine};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a table that a page shows.
const SHOWN: usize = 20;
/// So many packages of a rule are named.
const FEW: usize = 6;

/// What it fixes, by when, and what that costs.
pub(super) fn effects(view: &View<'_>, it: &PlanReport) -> Markup {
    let due = &it.deadlines;
    section(
        "What it does to the fleet",
        None,
        html! {
            p {
                @if let Some(most) = it.fixes.first() {
                    (words::counted(it.fixes.len() as u64, "vulnerability")) " fixed; on most hosts " a href={ "/cves/" (most.finding) } { (most.finding) } " (" (words::counted(most.hosts, "host")) "). "
                } @else { "No known vulnerability is fixed. " }
                "Deadlines: " (words::counted(due.kept, "host")) " in time"
                @if let Some(first) = due.first { ", the first " (view.ago(first)) }
                @if due.missed > 0 { "; " b { (due.missed) " owed before their wave may begin" } }
                @if due.late > 0 { "; " b { (due.late) " late already" } }
                @if due.without > 0 { "; " (due.without) " owe nothing by a date" }
                "."
            }
            @if it.reboots > 0 { p { (words::counted(it.reboots, "host")) " likely to reboot, at most " (it.reboots_at_once) " in one wave." } }
            @if !it.restarts.is_empty() {
                (scroll(html! { table {
                    thead { tr { th { "Likely to restart" } th.n { "Hosts" } th.n { "In one wave" } } }
                    tbody { @for unit in it.restarts.iter().take(SHOWN) { tr { td { (unit.unit) } td.n { (unit.hosts) } td.n { (unit.at_once) } } } }
                } }))
                @if it.restarts.len() > SHOWN { p.quiet { (it.restarts.len() - SHOWN) " more units." } }
            }
            @if !it.risks.is_empty() {
                (scroll(html! { table {
                    thead { tr { th { "Risk" } th { "Packages" } th.n { "Hosts" } th { "Hence at least" } } }
                    tbody { @for risk in it.risks.iter().take(SHOWN) { tr {
                        td { (risk.name) } td { (few(&risk.packages)) } td.n { (risk.hosts) } td { (risk.asks) }
                    } } }
                } }))
            }
            @if !it.budgets.is_empty() {
                (scroll(html! { table {
                    thead { tr { th { "Budget" } th.n { "Hosts" } th.n { "Changed" } th.n { "At once at most" } th.n { "In one wave" } } }
                    tbody { @for budget in it.budgets.iter().take(SHOWN) { tr {
                        td { (budget.name) } td.n { (budget.members) } td.n { (budget.hosts) } td.n { (budget.limit) } td.n { (budget.in_a_wave) }
                    } } }
                } }))
                @if it.budgets.len() > SHOWN { p.quiet { (it.budgets.len() - SHOWN) " more budgets." } }
            }
            (groups(it))
            (needed_by(it))
            (space(it))
            @if !it.unknown.is_empty() { p.quiet { "Not known here: " (it.unknown.join("; ")) "." } }
        },
    )
}

/// The first of them, and how many more there are.
fn few(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(FEW).map(String::as_str).collect();
    match names.len().saturating_sub(FEW) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Hosts that stand in for each other.
fn groups(it: &PlanReport) -> Markup {
    html! { @if !it.groups.is_empty() {
        (scroll(html! { table {
            thead { tr { th { "Hosts for" } th.n { "Hosts" } th.n { "Changed" } th.n { "At once" } th { "Restarts on them" } } }
            tbody { @for group in it.groups.iter().take(SHOWN) { tr {
                td { (group.role) }
                td.n { (group.members) } td.n { (group.hosts) }
                td.n { (group.at_once) @if group.is_whole() { " " b { "all of them" } } @else if !group.has_budget { " " span.quiet { "no budget" } } }
                td { (units(&group.restarts)) }
            } } }
        } }))
    } }
}

fn units(of: &[(String, u64)]) -> String {
    const FEW: usize = 5;
    let mut all: Vec<String> =
        of.iter().take(FEW).map(|(unit, hosts)| format!("{unit} on {hosts}")).collect();
    if of.len() > FEW {
        all.push(format!("{} more", of.len() - FEW));
    }
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

/// Who needs what changes.
fn needed_by(it: &PlanReport) -> Markup {
    html! { @if let Some(all) = it.needed_by.as_ref().filter(|all| !all.is_empty()) {
        (scroll(html! { table {
            thead { tr { th { "Changed package" } th.n { "Hosts" } th.n { "Needed by" } th { "For example" } th { "Of these in use" } } }
            tbody { @for line in all.iter().take(SHOWN) { tr {
                td { a href={ "/packages/" (line.package) } { (line.package) } }
                td.n { (line.hosts) } td.n { (words::counted(line.dependents, "package")) }
                td { (line.names.join(", ")) @if line.dependents > line.names.len() as u64 { ", …" } }
                td { @if line.in_use.is_empty() { "–" } @else { (line.in_use.join(", ")) } }
            } } }
        } }))
        @if all.len() > SHOWN { p.quiet { (all.len() - SHOWN) " more packages." } }
    } }
}

/// Hosts that may refuse.
fn space(it: &PlanReport) -> Markup {
    html! { @if !it.space.short.is_empty() {
        p { b { (words::counted(it.space.short.len() as u64, "host")) " may have too little room" } " and would refuse before anything is changed:" }
        (scroll(html! { table {
            thead { tr { th { "Host" } th.n { "Wave" } th { "File system" } th.n { "Free" } th.n { "May need" } } }
            tbody { @for line in it.space.short.iter().take(SHOWN) { tr {
                td { a href={ "/hosts/" (line.name) } { (line.name) } }
                td.n { (line.wave + 1) } td { (line.mount) }
                td.n { (amount(line.free, &line.of)) } td.n { (amount(line.needs, &line.of)) }
            } } }
        } }))
        @if it.space.short.len() > SHOWN { p.quiet { (it.space.short.len() - SHOWN) " more hosts." } }
    } }
}

fn amount(of: u64, what: &str) -> String {
    if what == "bytes" { words::bytes(of) } else { format!("{of} {what}") }
}

/// How long a wave may be at work, and what that is learned from.
fn lasts(wave: &WaveLine) -> Markup {
    html! { @match (wave.lasts_seconds, wave.takes) {
        (Some(seconds), Some(takes)) => {
            "about " (words::seconds(seconds))
            span.quiet { " (a host " (words::seconds(takes.usual_seconds)) " to " (words::seconds(takes.long_seconds)) ", learned from " (words::counted(takes.learned_from, "change")) @if takes.same_change { " of this very kind" } ")" }
        }
        _ if wave.hosts == 0 => "–",
        _ => span.quiet { "unknown" },
    } }
}

/// When each wave may begin, and whom it stands for.
pub(super) fn timetable(view: &View<'_>, it: &PlanReport, span: Span) -> Shown {
    let rows = scroll(html! { table {
        thead { tr { th.n { "Wave" } th { "Ring" } th { "Begins at the earliest" } th { "Lasts" } th.n { "Hosts" } th { "Roles" } th.n { "Cohorts" } th { "Tried by a wave before" } th { "New here" } } }
        tbody { @for (n, wave) in cut(it.waves.iter().enumerate(), span) { tr {
            td.n { (n + 1) }
            td { (wave.ring) }
            td { @match wave.earliest { Some(at) => { (view.ago(at)) }, None => { "no window within a year" } } }
            td { (lasts(wave)) }
            td.n { (wave.hosts) }
            td { (roles(&wave.roles)) }
            td.n { (wave.cohorts) }
            td { (tried(wave)) }
            td { @if wave.new_changes == 0 { span.quiet { "nothing" } } @else { (words::counted(wave.new_changes, "change")) " on " (words::counted(wave.new_hosts, "host")) } }
        } } }
    } });
    Shown { rows, total: it.waves.len() }
}

/// What is changed alike, and who tries it first.
pub(super) fn cohorts(view: &View<'_>, it: &PlanReport, span: Span) -> Shown {
    let rows = scroll(html! { table {
        thead { tr { th { "Cohort" } th.n { "Hosts" } th { "Roles" } th.n { "Changes" } th.n { "Fixes" } th { "Tried first" } th.n { "Last wave" } th.n { "Due" } } }
        tbody { @for line in cut(&it.cohorts, span) { tr {
            td.ver title=(line.cohort) { (line.cohort.short()) }
            td.n { (line.hosts) }
            td { (roles(&line.roles)) }
            td.n { (line.changes) } td.n { (line.fixes) }
            td { "in wave " (line.first_wave + 1) " on " (line.tried_on.join(", ")) @if line.reboots > 0 { " " span.tag { "reboot" } } }
            td.n { (line.last_wave + 1) }
            td.n { (view.ago_or(line.due, "–")) }
        } } }
    } });
    Shown { rows, total: it.cohorts.len() }
}

fn tried(wave: &WaveLine) -> Markup {
    html! {
        @if wave.cohorts == 0 { span.quiet { "–" } }
        @else { (wave.tried_cohorts) " of " (words::counted(wave.cohorts, "cohort")) " (" (wave.tried_hosts) " of " (words::counted(wave.hosts, "host")) ")" }
    }
}

fn roles(of: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = of.iter().map(|(role, hosts)| format!("{hosts} {role}")).collect();
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

/// What is left, by reason.
pub(super) fn reasons(it: &PlanReport, span: Span) -> Shown {
    let rows = scroll(html! { table {
        thead { tr { th { "Reason" } th.n { "Hosts" } th.n { "Packages" } th.n { "Vulnerabilities" } th { "For example" } } }
        tbody { @for line in cut(&it.held, span) { tr {
            td { (line.reasons.join(" ← ")) }
            td.n { (line.hosts) }
            td.n { @if line.packages == 0 { "whole hosts" } @else { (line.packages) } }
            td.n { (line.findings) }
            td { (line.example) span.quiet { " (" (line.names.join(", ")) @if line.hosts > line.names.len() as u64 { ", …" } ")" } }
        } } }
    } });
    Shown { rows, total: it.held.len() }
}
