//! A report of a period: on the site, and as a document of its own for those who do not log in.

use super::chart;
use super::layout::{View, command, empty, encoded, scroll, section};
use super::words;
use fettle_core::finding::Severity;
use fettle_core::report::{Compliance, ExceptionKind, Owed, Standing};
use fettle_wire::api::Report;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::fmt::Display;

/// Rows of the list of what is overdue that a page shows.
const SHOWN: usize = 50;

/// The page. `policies`: those it can be narrowed to.
pub fn report(view: &View<'_>, it: &Report, policies: &[String]) -> Markup {
    let day = |at: fettle_core::Timestamp| at.to_string().chars().take(10).collect::<String>();
    let query = |more: &str| {
        let policy = it.policy.as_deref().map(|p| format!("&policy={}", encoded(p)));
        format!("?from={}&to={}{}{more}", it.from, it.to, policy.unwrap_or_default())
    };
    view.page(
        "Report",
        html! {
            div.title {
                h1 { "Report" }
                p.lead { (period(it)) }
            }
            form.start method="get" action="/reports" {
                label { "From " input type="date" name="from" value=(day(it.from)); }
                label { "To " input type="date" name="to" value=(day(it.to)); }
                label { "Policy " select name="policy" {
                    option value="" { "all" }
                    @for name in policies { option value=(name) selected[it.policy.as_ref() == Some(name)] { (name) } }
                } }
                button { "Show" }
            }
            (body(it, Some(view), SHOWN))
            (section("Take it along", None, html! {
                p {
                    "For a spreadsheet: "
                    @for table in crate::reports::csv::TABLES {
                        a href={ "/reports.csv" (query(&format!("&table={table}"))) } { (table) } " "
                    }
                    "as CSV. For a mail or an archive: " a href={ "/reports.html" (query("")) } { "one page of its own" }
                    ", which a browser prints to PDF."
                }
                (command("fettle report --html report.html"))
            }))
        },
    )
}

/// A document that needs no server: its style is in it, and it links to nothing.
pub fn document(it: &Report) -> Markup {
    let style = include_str!("assets/style.css");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Patching, " (words::utc(it.from)) " to " (words::utc(it.to)) }
                // Nothing but our own style sheet, which is part of the program.
                style { (PreEscaped(style)) }
            }
            body {
                (super::mark::sprite())
                main #main {
                    div.title { h1 { "Patching" } p.lead { (period(it)) } }
                    (body(it, None, usize::MAX))
                }
            }
        }
    }
}

fn period(it: &Report) -> Markup {
    html! {
        @match &it.policy { Some(policy) => { "Hosts of the policy " b { (policy) } }, None => { "The whole fleet" } }
        ", from " (words::utc(it.from)) " to " (words::utc(it.to)) ", made " (words::utc(it.made_at)) "."
    }
}

/// `view`: there is a site behind it, to link to.
fn body(it: &Report, view: Option<&View<'_>>, most: usize) -> Markup {
    let total = &it.owed.total;
    html! {
        p.figures {
            (figure(words::share(total.in_time_permille), "of what was owed done in time"))
            (figure(words::number(total.overdue), "overdue"))
            (figure(words::number(total.hosts_late), "hosts late"))
            (figure(words::took(&total.time_to_patch, |t| t.median_seconds), "median time to patch"))
            (figure(words::took(&total.time_to_patch, |t| t.p90_seconds), "for nine of ten"))
            (figure(words::share(it.rollout_totals.success_permille), "of hosts patched at the first go"))
        }
        (section("Compliance", None, compliance(&it.owed)))
        (section("Exposure over time", None, trend(&it.owed, view)))
        (section("Overdue, and why", None, overdue(&it.owed, view, most)))
        (section("Rollouts", None, rollouts(it, view)))
        (section("Exceptions", None, exceptions(it)))
    }
}

fn trend(owed: &Owed, view: Option<&View<'_>>) -> Markup {
    let href = |class: &str| chart::of_class(class);
    let href: Option<&dyn Fn(&str) -> String> = view.map(|_| &href as _);
    chart::columns("Findings not proved gone", "findings", &owed.trend, href)
}

fn figure(value: impl Display, what: &str) -> Markup {
    html! { span { b { (value) } (what) } " " }
}

fn compliance(owed: &Owed) -> Markup {
    if owed.lines.is_empty() {
        return empty(
            "Nothing was found in this period.",
            html! { p { "Findings come from vulnerability data and from hosts' inventories:" } (command("fettle feed list")) },
        );
    }
    let line = |it: &Compliance, name: Markup| {
        html! { tr {
            (name)
            td.n { (words::share(it.in_time_permille)) }
            td.n { (words::number(it.in_time)) }
            td.n { (words::number(it.late)) }
            td.n { @if it.overdue > 0 { strong.bad { (words::number(it.overdue)) } } @else { span.quiet { "0" } } }
            td.n { (words::number(it.due)) }
            td.n { (words::number(it.fixed_undated)) " / " (words::number(it.open_undated)) }
            td.n { (words::number(it.no_fix_yet)) }
            td.n { (words::number(it.accepted)) }
            td.n { (words::number(it.hosts_late)) " / " (words::number(it.hosts)) }
            td.n { div.spans {
                span { "median" } (words::took(&it.time_to_patch, |t| t.median_seconds))
                span { "nine of ten" } (words::took(&it.time_to_patch, |t| t.p90_seconds))
                span { "longest" } (words::took(&it.time_to_patch, |t| t.worst_seconds))
            } }
        } }
    };
    html! {
        (scroll(html! { table {
            thead { tr {
                th { "Policy" } th { "Class" } th.n { "In time" } th.n { "Done in time" } th.n { "Done late" } th.n { "Overdue" } th.n { "Due later" }
                th.n { "No date: done / open" } th.n { "No fix yet" } th.n { "Accepted" } th.n { "Hosts late / all" } th.n { "Time to patch" }
            } }
            tbody {
                @for it in &owed.lines { (line(it, html! {
                    td.name { @if it.policy.is_empty() { span.quiet { "no policy" } } @else { (it.policy) } }
                    td { @if it.class.is_empty() { span.quiet { "no class" } } @else { (it.class) } }
                })) }
                (line(&owed.total, html! { td.name { b { "All" } } td {} }))
            }
        } }))
        p.quiet { "In time: done by its deadline, of what was done late or in time in the period or is overdue at its end. Times count from the first sight of a finding on a host to the proof that it is gone, on disk and in memory." }
    }
}

fn overdue(owed: &Owed, view: Option<&View<'_>>, most: usize) -> Markup {
    if owed.overdue.is_empty() {
        return html! { p { "Nothing is overdue." } };
    }
    let left = owed.overdue.len().saturating_sub(most) as u64 + owed.overdue_left_out;
    html! {
        (scroll(html! { table {
            thead { tr { th { "Vulnerability" } th { "Severity" } th { "In" } th { "Policy" } th { "Class" } th { "Owed since" } th.n { "Hosts" } th.wide { "What stands in the way" } } }
            tbody { @for it in owed.overdue.iter().take(most) { tr {
                td.name { (link(view, &format!("/cves/{}", encoded(&it.id)), &it.id)) }
                td { (severity(it.severity)) }
                td.pkg { (it.source) }
                td { (it.policy) }
                td { (it.class) }
                td { (words::utc(it.deadline)) }
                td.n { (words::number(it.hosts)) div.note { (it.example) @if it.hosts > 1 { ", …" } } }
                td.wide { (it.why) }
            } } }
        } }))
        @if left > 0 { p.quiet { (words::counted(left, "more line")) ", in " code { "fettle report --csv overdue" } "." } }
    }
}

fn severity(it: Severity) -> Markup {
    super::mark::severity(it).badge(it.word())
}

/// A link where there is a site behind it, else the text.
fn link(view: Option<&View<'_>>, href: &str, text: impl Display) -> Markup {
    html! { @if view.is_some() { a href=(href) { (text) } } @else { (text) } }
}

fn rollouts(it: &Report, view: Option<&View<'_>>) -> Markup {
    if it.rollouts.is_empty() {
        return html! { p { "No rollout was under way." } };
    }
    let totals = &it.rollout_totals;
    let span = |seconds: Option<u64>| seconds.map_or("–".to_owned(), words::seconds);
    html! {
        p {
            (words::counted(totals.rollouts, "rollout")) ", " (totals.clean) " of them without a fault, " (totals.halted) " halted; "
            (words::counted(totals.patched, "host")) " patched, " (totals.undone) " taken back, " (totals.refused) " refused, " (totals.quarantined) " quarantined."
        }
        (scroll(html! { table {
            thead { tr { th { "Rollout" } th { "Policy" } th { "Started" } th { "State" } th.n { "Hosts" } th.n { "Patched" } th.n { "Taken back" } th.n { "Refused" } th.n { "Quarantined" } th.n { "Not started" } th.n { "Harm known after" } th.n { "Halted after" } } }
            tbody { @for run in &it.rollouts { tr {
                td.name { (link(view, &format!("/rollouts/{}", encoded(run.id.as_str())), &run.id)) }
                td { (run.policy) }
                td { (words::utc(run.started_at)) div.note { "by " (run.started_by) } }
                td { (run.phase) }
                td.n { (run.hosts) }
                td.n { (run.patched) }
                td.n { (run.undone) }
                td.n { (run.refused) }
                td.n { (run.quarantined) }
                td.n { (run.cancelled + run.unfinished) }
                td.n { (span(run.detected_seconds)) }
                td.n { (span(run.halted_seconds)) }
            } } }
        } }))
    }
}

fn exceptions(it: &Report) -> Markup {
    if it.exceptions.is_empty() {
        return html! { p { "No policy excepts anything." } };
    }
    html! {
        (scroll(html! { table {
            thead { tr { th { "Until" } th { "Stands" } th { "What" } th { "Policy" } th { "Owner" } th.n { "Findings" } th.wide { "Why" } } }
            tbody { @for line in &it.exceptions { tr {
                td { (words::utc(line.until)) }
                td { @match line.standing {
                    Standing::Ended => { strong.bad { "ended" } },
                    Standing::Ending => { strong { "ends soon" } },
                    Standing::Stands => { "stands" },
                } }
                td.name { (line.what) div.note { @match line.kind {
                    ExceptionKind::Acceptance => { "accepted" },
                    ExceptionKind::Exclusion => { "left alone" },
                    ExceptionKind::Pin => { "kept at a version" },
                } } }
                td { (line.policy) }
                td { (line.owner) }
                td.n { @if let Some(n) = line.findings { (words::number(n)) } }
                td.wide { (line.reason) }
            } } }
        } }))
    }
}
