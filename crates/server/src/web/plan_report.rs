//! A plan as it is put before those who approve it: what it costs and when, who tries it first, what is left.

use super::layout::{View, section};
use super::words;
use fettle_core::plan::{PlanReport, WaveLine};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Rows of a table that a page shows.
const SHOWN: usize = 50;

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
                div.scroll { table {
                    thead { tr { th { "Likely to restart" } th.n { "Hosts" } th.n { "In one wave" } } }
                    tbody { @for unit in it.restarts.iter().take(SHOWN) { tr { td { (unit.unit) } td.n { (unit.hosts) } td.n { (unit.at_once) } } } }
                } }
                @if it.restarts.len() > SHOWN { p.quiet { (it.restarts.len() - SHOWN) " more units." } }
            }
            @if !it.budgets.is_empty() {
                div.scroll { table {
                    thead { tr { th { "Budget" } th.n { "Hosts" } th.n { "Changed" } th.n { "At once at most" } th.n { "In one wave" } } }
                    tbody { @for budget in &it.budgets { tr {
                        td { (budget.name) } td.n { (budget.members) } td.n { (budget.hosts) } td.n { (budget.limit) } td.n { (budget.in_a_wave) }
                    } } }
                } }
            }
            p.quiet { "Not known here: " (it.unknown.join("; ")) "." }
        },
    )
}

/// When each wave may begin, and whom it stands for.
pub(super) fn coverage(view: &View<'_>, it: &PlanReport) -> Markup {
    html! {
        (section("Timetable and coverage", None, html! {
            div.scroll { table {
                thead { tr { th.n { "Wave" } th { "Ring" } th { "Begins at the earliest" } th.n { "Hosts" } th { "Roles" } th.n { "Cohorts" } th { "Tried by a wave before" } th { "New here" } } }
                tbody { @for (n, wave) in it.waves.iter().enumerate() { tr {
                    td.n { (n + 1) }
                    td { (wave.ring) }
                    td { @match wave.earliest { Some(at) => { (view.ago(at)) }, None => { "no window within a year" } } }
                    td.n { (wave.hosts) }
                    td { (roles(&wave.roles)) }
                    td.n { (wave.cohorts) }
                    td { (tried(wave)) }
                    td { @if wave.new_changes == 0 { span.quiet { "nothing" } } @else { (words::counted(wave.new_changes, "change")) " on " (words::counted(wave.new_hosts, "host")) } }
                } } }
            } }
        }))
        (section("Cohorts", None, html! {
            div.scroll { table {
                thead { tr { th { "Cohort" } th.n { "Hosts" } th { "Roles" } th.n { "Changes" } th.n { "Fixes" } th { "Tried first" } th.n { "Last wave" } th.n { "Due" } } }
                tbody { @for line in it.cohorts.iter().take(SHOWN) { tr {
                    td.ver title=(line.cohort) { (line.cohort.short()) }
                    td.n { (line.hosts) }
                    td { (roles(&line.roles)) }
                    td.n { (line.changes) } td.n { (line.fixes) }
                    td { "in wave " (line.first_wave + 1) " on " (line.tried_on.join(", ")) @if line.reboots > 0 { " " span.tag { "reboot" } } }
                    td.n { (line.last_wave + 1) }
                    td.n { (view.ago_or(line.due, "–")) }
                } } }
            } }
            @if it.cohorts.len() > SHOWN { p.quiet { (it.cohorts.len() - SHOWN) " smaller ones." } }
        }))
    }
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
pub(super) fn held(it: &PlanReport) -> Markup {
    html! { @if !it.held.is_empty() {
        (section("Left undone, by reason", None, html! {
            div.scroll { table {
                thead { tr { th { "Reason" } th.n { "Hosts" } th.n { "Packages" } th.n { "Vulnerabilities" } th { "For example" } } }
                tbody { @for line in &it.held { tr {
                    td { (line.reasons.join(" ← ")) }
                    td.n { (line.hosts) }
                    td.n { @if line.packages == 0 { "whole hosts" } @else { (line.packages) } }
                    td.n { (line.findings) }
                    td { (line.example) span.quiet { " (" (line.names.join(", ")) @if line.hosts > line.names.len() as u64 { ", …" } ")" } }
                } } }
            } }
        }))
    } }
}
