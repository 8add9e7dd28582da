//! Feeds: the vulnerability data held, how old it is, where it is fetched from, and what waits for a person.

use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::{mark, words};
use fettle_core::operator::Role;
use fettle_wire::api::{FeedHeldRow, FeedRow, FeedSourceRow};
use maud::{Markup, html};

/// Feeds.
pub fn feeds(view: &View<'_>, rows: &[FeedRow]) -> Markup {
    let fetched: Vec<(&FeedRow, &FeedSourceRow)> =
        rows.iter().filter_map(|row| Some((row, row.source.as_ref()?))).collect();
    view.page(
        "Feeds",
        html! {
            (title("Feeds", html! { "The vulnerability data that hosts are judged by. The vendor's own statements decide; CVSS, EPSS and KEV only rank." }))
            @for row in rows { @if let Some(held) = &row.held { (waiting(view, row, held)) } }
            (table(view, rows))
            (section("Fetched by the server", None, html! {
                @if fetched.is_empty() {
                    p.quiet { "No feed is fetched by itself: what is in force grows old until somebody imports it again." }
                    (command("fettle feed source add debian-tracker --url https://…"))
                } @else {
                    (sources(view, &fetched))
                    @if view.may(Role::Operator) {
                        form.start action="/feeds/sync" method="post" {
                            button { "Look at all of them now" }
                            span.note { code { "fettle feed sync" } }
                        }
                    }
                }
            }))
            (section("Import newer data", None, html! {
                p { "A feed that cannot be read is refused, and the one before stays in force." }
                (command("fettle feed import debian-tracker tracker.json\nfettle feed import --bundled"))
            }))
        },
    )
}

/// What changed too suddenly, with the word that takes it in.
fn waiting(view: &View<'_>, row: &FeedRow, held: &FeedHeldRow) -> Markup {
    section(
        &format!("{} waits for a person", row.name),
        None,
        html! {
            p { strong.bad { (held.reason) } "." }
            p.quiet { "Fetched " (view.ago(held.held_at)) " from " (held.origin) ", digest " span.ver { (held.digest.short()) } ". The one before stays in force." }
            @if view.may(Role::Operator) {
                form.start action={ "/feeds/" (encoded(&row.name)) "/accept" } method="post" {
                    input type="hidden" name="digest" value=(held.digest);
                    button.primary { "Take it in" }
                    span.note { code { "fettle feed accept " (row.name) } }
                }
            }
        },
    )
}

fn sources(view: &View<'_>, fetched: &[(&FeedRow, &FeedSourceRow)]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Feed" } th { "Every" } th { "Stale after" } th { "Last look" } th { "Next" } th.wide { "From" } } }
            tbody { @for (row, it) in fetched { tr {
                td.name { (row.name) }
                td { (words::seconds(it.every_seconds)) }
                td { (words::seconds(row.stale_after_seconds)) }
                td { (view.ago_or(it.tried_at, "never")) @if it.failures > 0 { div.note.warn { (words::counted(u64::from(it.failures), "failure")) " in a row" } } }
                td { (view.ago_or(it.next_at, "never")) }
                td.wide { @for url in &it.urls { div { (url) } } div.note { "set by " (it.added_by) " " (view.ago(it.added_at)) } }
            } } }
        } }))
    }
}

/// Feeds as a table.
pub(crate) fn table(view: &View<'_>, rows: &[FeedRow]) -> Markup {
    html! {
        @if rows.is_empty() {
            (empty("No vulnerability data is loaded.", html! { p { "Without it no host can be judged. Load what comes with Fettle:" } (command("fettle feed import --bundled")) }))
        } @else {
            (scroll(html! { table {
                thead { tr { th { "Feed" } th { "Stands" } th.n { "Records" } th { "Date" } th { "Confirmed" } th.wide { "From" } } }
                tbody { @for it in rows { tr {
                    td.name {
                        (it.name)
                        @if let Some(error) = &it.last_error { div.note { strong.bad { "Last look or import refused: " } (error) } }
                        @if it.held.is_some() { div.note { a href="/feeds" { "One waits for a person" } } }
                    }
                    td { (mark::feed_standing(it.standing).word(it.standing.word())) }
                    td.n { (words::number(it.records)) @if it.errors > 0 { div.note.warn { (words::number(it.errors)) " unreadable" } } }
                    td.ver { (it.date) }
                    td { (view.ago_or(it.confirmed_at, "never")) }
                    td.wide { (it.origin) }
                } } }
            } }))
        }
    }
}
