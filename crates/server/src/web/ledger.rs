//! The ledger: every decision and outcome, and whether the chain holds.

use super::layout::{View, command, empty, section, title};
use super::words;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::LedgerVerified;
use maud::{Markup, html};

/// Characters of an entry's content that a row shows.
const SHOWN: usize = 160;

/// Entries, newest first, with the state of the chain where it was verified.
///
/// `older` and `newer` are `after` values for the query of the neighbouring pages; `key` is what evidence is signed with.
pub fn ledger(
    view: &View<'_>,
    entries: &[LedgerEntry],
    verified: Option<&LedgerVerified>,
    older: Option<u64>,
    newer: Option<u64>,
    key: &str,
) -> Markup {
    view.page(
        "Ledger",
        html! {
            (title("Ledger", html! { "Every decision and outcome, append-only. Each entry's hash covers the one before it." }))
            @match verified {
                Some(LedgerVerified { broken: Some(broken), entries, .. }) => {
                    div.notice.bad { h2 { "The ledger does not hold together" } p { (broken) ". The first " (words::counted(*entries, "entry")) " hold." } }
                },
                Some(it) => {
                    div.notice.good { h2 { "The chain holds" } p { (words::counted(it.entries, "entry")) "; head " span.ver { (it.head) } ". Keep that hash elsewhere, and nobody can rewrite what came before it." } }
                },
                None => {},
            }
            @if entries.is_empty() {
                (empty("Nothing has been recorded here.", html! { p { a href="/ledger" { "Newest entries" } } }))
            } @else {
                div.scroll { table.ledger {
                    thead { tr { th.n { "Entry" } th { "When" } th { "Who" } th { "What" } th { "About" } th.wide { "Content" } th { "Hash" } } }
                    tbody { @for it in entries { tr {
                        td.n { (it.index) }
                        td { (view.ago(it.at)) }
                        td { (it.actor) }
                        td { (it.kind) }
                        td { (it.subject) }
                        td.wide.body { (start_of(&it.body.to_string())) }
                        td.ver title=(it.hash) { (it.hash.short()) }
                    } } }
                } }
                @if older.is_some() || newer.is_some() {
                    nav.pages aria-label="Parts of the ledger" {
                        @if let Some(after) = newer { a rel="prev" href={ "/ledger?after=" (after) } { "← Newer" } }
                        @if let Some(after) = older { a rel="next" href={ "/ledger?after=" (after) } { "Older →" } }
                    }
                }
            }
            p.quiet { "Verify it offline:" }
            (command("fettle audit export > ledger.jsonl\nfettle audit verify --file ledger.jsonl"))
            (section("Evidence of a period", None, html! {
                p { "What was decided, ordered, done and proved, in one signed archive that an auditor verifies without this server. Without dates, of the last 30 days." }
                form.start action="/api/v1/evidence" method="get" {
                    label { "From " input type="date" name="from"; }
                    label { "To " input type="date" name="to"; }
                    button.primary { "Export the evidence" }
                }
                p.quiet { "Signed with " span.ver { (key) } ". Give the auditor that key by another way than the archive:" }
                (command(&format!("fettle evidence verify fettle-evidence.tar.gz --key {key}")))
            }))
        },
    )
}

fn start_of(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
