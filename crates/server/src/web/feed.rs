//! Feeds: the vulnerability data held, and how old it is.

use super::layout::{View, command, empty, section, title};
use super::{mark, words};
use fettle_wire::api::FeedRow;
use maud::{Markup, html};

/// Feeds.
pub fn feeds(view: &View<'_>, rows: &[FeedRow]) -> Markup {
    view.page(
        "Feeds",
        html! {
            (title("Feeds", html! { "The vulnerability data that hosts are judged by. The vendor's own statements decide; CVSS, EPSS and KEV only rank." }))
            (table(view, rows))
            (section("Import newer data", None, html! {
                p { "A feed that cannot be read is refused, and the one before stays in force." }
                (command("fettle feed import debian-tracker tracker.json\nfettle feed import --bundled"))
            }))
        },
    )
}

/// Feeds as a table.
pub(crate) fn table(view: &View<'_>, rows: &[FeedRow]) -> Markup {
    html! {
        @if rows.is_empty() {
            (empty("No vulnerability data is loaded.", html! { p { "Without it no host can be judged. Load what comes with Fettle:" } (command("fettle feed import --bundled")) }))
        } @else {
            div.scroll { table {
                thead { tr { th { "Feed" } th.n { "Records" } th { "Date" } th { "Imported" } th.wide { "From" } } }
                tbody { @for it in rows { tr {
                    td {
                        @if it.last_error.is_some() { (mark::host_state("silent").shape()) } @else { (mark::host_state("up-to-date").shape()) }
                        (it.name)
                        @if let Some(error) = &it.last_error { div.note { strong.bad { "Last import refused: " } (error) } }
                    }
                    td.n { (words::number(it.records)) @if it.errors > 0 { div.note.warn { (words::number(it.errors)) " unreadable" } } }
                    td.ver { (it.date) }
                    td { (view.ago_or(it.imported_at, "never")) }
                    td.wide { (it.origin) }
                } } }
            } }
        }
    }
}
