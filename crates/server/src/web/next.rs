//! What would be done next on a host, when, and what of it is held: what a plan made now would say.

use super::layout::{View, encoded, scroll, section};
use super::{calendar, mark, words};
use fettle_core::plan::Held;
use fettle_core::policy::Explained;
use maud::{Markup, html};

/// Rows of a table that a page shows.
const SHOWN: usize = 60;

/// The section of a host's page.
pub(crate) fn section_of(view: &View<'_>, it: &Explained) -> Markup {
    section(
        "What would be done next",
        None,
        html! {
            @if it.policy.is_none() {
                p.quiet { "Nothing: no policy counts for it, so nothing is owed and nothing is ever changed." }
            } @else {
                (summary(view, it))
                @if !it.changes.is_empty() { (changes(it)) }
                @if !it.held.is_empty() { (held(&it.held)) }
            }
        },
    )
}

fn summary(view: &View<'_>, it: &Explained) -> Markup {
    let now = it.openings.first().is_some_and(|(from, _)| *from <= view.now);
    html! {
        dl.facts {
            dt { "A plan made now" }
            dd {
                @if it.changes.is_empty() { "would change nothing." }
                @else {
                    "would change " b { (words::counted(it.changes.len() as u64, "package")) }
                    @if !it.fixes.is_empty() { ", which fixes " b { (words::counted(it.fixes.len() as u64, "vulnerability")) } }
                    "."
                }
            }
            @if !it.changes.is_empty() {
                dt { "Then restarts" }
                dd {
                    @if it.reboot_likely { "the host, probably" @if !it.restarts.is_empty() { "; before that " } }
                    @if !it.restarts.is_empty() { (it.restarts.join(", ")) }
                    @if it.restarts.is_empty() && !it.reboot_likely { span.quiet { "nothing that is known" } }
                }
            }
            dt { "It may be changed" }
            dd {
                @if it.openings.is_empty() { "at no time within a year." }
                @else if now && it.openings[0].1.is_none() { "at any time." }
                @else {
                    @if now { (mark::host_state("up-to-date").word("now")) "; " }
                    @for (n, opening) in it.openings.iter().enumerate() {
                        @if n > 0 { "; " }
                        (calendar::opening(opening, view.now))
                    }
                    "."
                }
            }
            @if let Some(first) = it.owed.iter().find(|owed| owed.deadline.is_some()) {
                dt { "Owed first" }
                dd {
                    a href={ "/cves/" (encoded(&first.finding)) } { (first.finding) } " in " (first.source) ", class " (first.class) ", "
                    @let late = first.deadline < Some(view.now);
                    @if late { strong.bad { "was due " (view.ago_or(first.deadline, "")) } } @else { "due " (view.ago_or(first.deadline, "")) }
                    "; " (words::counted(it.owed.len() as u64, "finding")) " in all."
                }
            }
            @if it.approvals > 0 { dt { "Asks for" } dd { (words::counted(u64::from(it.approvals), "approval")) " by somebody else than who makes the plan." } }
            dt { "On the command line" } dd { code { "fettle policy explain " (it.name) } }
        }
    }
}

fn changes(it: &Explained) -> Markup {
    html! {
        details id="n-changes" open[it.changes.len() <= 12] {
            summary { "Packages it would change " b { (words::number(it.changes.len() as u64)) } }
            (scroll(html! { table {
                thead { tr { th { "Package" } th { "Now" } th { "Then" } th.n { "Size" } } }
                tbody { @for c in it.changes.iter().take(SHOWN) { tr {
                    td { a.pkg href={ "/packages/" (encoded(&c.name)) } { (c.name) } }
                    td.ver { @if c.from.is_empty() { "not installed" } @else { (c.from) } }
                    td.ver { (c.to) }
                    td.n { (words::bytes(c.size)) }
                } } }
            } }))
            @if it.changes.len() > SHOWN { p.quiet { (words::number((it.changes.len() - SHOWN) as u64)) " more: " code { "fettle policy explain " (it.name) } } }
        }
    }
}

/// What is left out, with the whole chain of reasons.
fn held(rows: &[Held]) -> Markup {
    html! {
        details id="n-held" open[rows.len() <= 6] {
            summary { (mark::run_state("refused").shape()) "What it would leave out, and why " b { (words::number(rows.len() as u64)) } }
            (scroll(html! { table {
                thead { tr { th { "Package" } th { "Why" } } }
                tbody { @for row in rows.iter().take(SHOWN) { tr {
                    td { a.pkg href={ "/packages/" (encoded(&row.package)) } { (row.package) } }
                    td { ul.chain { @for hold in &row.reasons { li { a.tag href={ "/errors/" (hold.code()) } { (hold.code()) } " " (hold) } } } }
                } } }
            } }))
            @if rows.len() > SHOWN { p.quiet { (words::number((rows.len() - SHOWN) as u64)) " more." } }
        }
    }
}
