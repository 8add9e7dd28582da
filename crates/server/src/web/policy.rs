//! Policies: the list, and one policy's text.

use super::layout::{View, command, empty, encoded, section, title};
use super::{planning, words};
use fettle_core::operator::Role;
use fettle_wire::api::{CycleRow, PolicyRow};
use maud::{Markup, html};

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
                div.scroll { table {
                    thead { tr { th { "Policy" } th { "What for" } th.n { "Hosts" } th.n { "Version" } th { "Applied" } th { "Digest" } } }
                    tbody { @for it in rows { tr {
                        td.name { a href={ "/policies/" (encoded(&it.name)) } { (it.name) } }
                        td { (it.description) }
                        td.n { (words::number(it.hosts)) }
                        td.n { (it.version) }
                        td { (view.ago(it.applied_at)) " " span.quiet { "by " (it.applied_by) } }
                        td.ver { (it.digest.short()) }
                    } } }
                } }
            }
        },
    )
}

/// One policy with its text and, where it has one, its cycle.
pub fn policy(view: &View<'_>, it: &PolicyRow, cycle: Option<&CycleRow>) -> Markup {
    view.page(
        &it.name,
        html! {
            div.title {
                h1 { (it.name) }
                p.lead {
                    (it.description) @if !it.description.is_empty() && !it.description.ends_with('.') { "." }
                    " It selects " (words::counted(it.hosts, "host")) ". Version " (it.version) ", applied by " (it.applied_by) " " (view.ago(it.applied_at)) "."
                }
            }
            @if view.may(Role::Operator) {
                form.start action="/plans" method="post" {
                    input type="hidden" name="policy" value=(it.name);
                    button.primary { "Make a plan" }
                    span.note { "Decides the exact change for its hosts as they are now. Nothing is changed by it." }
                }
            }
            @if let Some(cycle) = cycle { (section("Cycle", None, planning::cycle(view, cycle))) }
            (section("Text", None, html! {
                pre.toml { @for (n, line) in it.text.lines().enumerate() { span.ln { (n + 1) } (toml(line)) "\n" } }
                p.quiet { "Digest " span.ver { (it.digest) } ". Change the file, then " code { "fettle policy apply FILE" } "." }
            }))
        },
    )
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
