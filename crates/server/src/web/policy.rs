//! Policies: the list, and one policy with whom it covers, when, and its versions.

use super::chart::Part;
use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::mark::{self, Mark};
use super::{calendar, chart, planning, words};
use fettle_core::operator::Role;
use fettle_core::policy::WindowCalendar;
use fettle_wire::api::{CycleRow, PolicyRow, PolicyVersion};
use maud::{Markup, html};

/// Versions that a policy's page shows.
const VERSIONS: usize = 20;

/// Policies in force.
pub fn policies(view: &View<'_>, rows: &[PolicyRow]) -> Markup {
    view.page(
        "Policies",
        html! {
            (title("Policies", html! { (words::counted(rows.len() as u64, "policy")) " in force: what is owed to which hosts, by when, by which route." }))
            @if rows.is_empty() {
                (empty("No policy is in force.", html! {
                    p { "Without one nothing is ever changed. Policies are files, kept in git; check one, then apply it:" }
                    (command("fettle policy check my-policy.toml\nfettle policy apply my-policy.toml"))
                }))
            } @else {
                (scroll(html! { table {
                    thead { tr { th { "Policy" } th { "What for" } th.n { "Hosts" } th.n { "Version" } th { "Applied" } th { "Digest" } } }
                    tbody { @for it in rows { tr {
                        td.name { a href={ "/policies/" (encoded(&it.name)) } { (it.name) } }
                        td {
                            (it.description)
                            @if let Some(why) = &it.unread {
                                (mark::run_state("quarantined").word("cannot be read")) " " (why)
                                ". Nothing is planned until it is corrected."
                            }
                        }
                        td.n { (words::number(it.hosts)) }
                        td.n { (it.version) }
                        td { (view.ago(it.applied_at)) " " span.quiet { "by " (it.applied_by) } }
                        td.ver { (it.digest.short()) }
                    } } }
                } }))
            }
        },
    )
}

/// What stands around a policy's text.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicyAround<'a> {
    /// What it does by itself.
    pub cycle: Option<&'a CycleRow>,
    /// Its windows. `None`: its text is not understood today.
    pub calendar: Option<&'a WindowCalendar>,
    /// Its rings or pools with how many hosts each has, in order; hosts in none under the empty word.
    pub stages: &'a [(String, u64)],
    /// Its versions, newest first.
    pub versions: &'a [PolicyVersion],
}

/// One policy: whom it covers, when they may be changed, what it does by itself, its text and how that came to be.
pub fn policy(view: &View<'_>, it: &PolicyRow, around: PolicyAround<'_>) -> Markup {
    view.page(
        &it.name,
        html! {
            div.title {
                h1 { (it.name) }
                p.lead {
                    (it.description) @if !it.description.is_empty() && !it.description.ends_with('.') { "." }
                    " It selects " a href={ "/hosts?policy=" (encoded(&it.name)) } { (words::counted(it.hosts, "host")) }
                    ". Version " (it.version) ", applied by " (it.applied_by) " " (view.ago(it.applied_at)) "."
                }
            }
            @if view.may(Role::Operator) {
                form.start action="/plans" method="post" {
                    input type="hidden" name="policy" value=(it.name);
                    button.primary { "Make a plan" }
                    span.note { "Decides the exact change for its hosts as they are now. Nothing is changed by it." }
                }
            }
            @if !around.stages.is_empty() { (section("Whom it covers", None, stages(it, around.stages))) }
            @if let Some(calendar) = around.calendar { (section("When its hosts may be changed", None, calendar::weeks(calendar, view.now))) }
            @if let Some(cycle) = around.cycle { (section("Cycle", None, planning::cycle(view, cycle))) }
            @if !around.versions.is_empty() { (section("Versions", None, versions(view, it, around.versions))) }
            (section("Text", None, html! {
                pre.toml tabindex="0" { @for (n, line) in it.text.lines().enumerate() { span.ln { (n + 1) } (toml(line)) "\n" } }
                p.quiet { "Digest " span.ver { (it.digest) } ". Change the file, then " code { "fettle policy apply FILE" } "." }
            }))
        },
    )
}

fn stages(it: &PolicyRow, rows: &[(String, u64)]) -> Markup {
    let parts: Vec<Part> = rows
        .iter()
        .map(|(stage, count)| {
            let all = format!("/hosts?policy={}", encoded(&it.name));
            // What no ring takes is found among all: there is no word to ask for it by.
            let (label, href) = match stage.as_str() {
                "" => ("in no ring or pool".to_owned(), all),
                stage => (stage.to_owned(), format!("{all}&ring={}", encoded(stage))),
            };
            let shape = if stage.is_empty() { "dashed" } else { "disc" };
            let mark = Mark { shape, tone: if stage.is_empty() { "warn" } else { "work" } };
            Part { label, mark, count: *count, href }
        })
        .collect();
    chart::bars("Hosts by ring or pool", "hosts", &parts)
}

fn versions(view: &View<'_>, it: &PolicyRow, rows: &[PolicyVersion]) -> Markup {
    let against = |row: &PolicyVersion, other: &PolicyVersion, text: Markup| {
        html! { a href={ "/policies/" (encoded(&it.name)) "/diff/" (other.version) "/" (row.version) } { (text) } }
    };
    html! {
        (scroll(html! { table {
            thead { tr { th.n { "Version" } th { "Applied" } th { "By" } th { "Digest" } th { "What it changed" } th { "Against today's" } } }
            tbody { @for (n, row) in rows.iter().enumerate().take(VERSIONS) { tr {
                td.n { (row.version) }
                td { (view.ago(row.applied_at)) @if row.in_force { " " (mark::run_state("patched").word("in force")) } }
                td { (row.applied_by) }
                td.ver { (row.digest.short()) }
                td { @match rows.get(n + 1) { Some(before) => (against(row, before, html! { "against version " (before.version) })), None => { span.quiet { "the first" } } } }
                td { @if n > 0 { (against(&rows[0], row, html! { "what changed since" })) } }
            } } }
        } }))
        @if rows.len() > VERSIONS { p.quiet { (words::number((rows.len() - VERSIONS) as u64)) " older: " code { "fettle policy history " (it.name) } } }
    }
}

/// A line of TOML with comments and table headings set apart.
fn toml(line: &str) -> Markup {
    let trimmed = line.trim_start();
    html! {
        @if trimmed.starts_with('#') { span.c { (line) } }
        @else if trimmed.starts_with('[') { b { (line) } }
        @else { (line) }
    }
}
