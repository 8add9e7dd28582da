//! The ledger: every decision and outcome, and whether the chain holds.

use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::words;
use fettle_core::Timestamp;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::LedgerVerified;
use maud::{Markup, html};

/// Characters of an entry's content that a row shows.
const SHOWN: usize = 160;

/// What is known of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSeen {
    /// How it stands: up to the newest entry.
    pub verified: LedgerVerified,
    /// When the whole was last looked through, the first entry to the last.
    pub whole_at: Timestamp,
    /// How many entries held then.
    pub whole_entries: u64,
}

/// A part of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct LedgerPart<'a> {
    /// Its entries, newest first.
    pub entries: &'a [LedgerEntry],
    /// The state of the chain, where it was verified.
    pub chain: Option<&'a ChainSeen>,
    /// What is searched for; empty: nothing.
    pub q: &'a str,
    /// The query of the part before this one in time.
    pub older: Option<&'a str>,
    /// The query of the part after it.
    pub newer: Option<&'a str>,
    /// What evidence is signed with.
    pub key: &'a str,
}

/// A part of the ledger, what is searched for in it, and the way to evidence.
pub fn ledger(view: &View<'_>, it: LedgerPart<'_>) -> Markup {
    let LedgerPart { entries, chain, q, older, newer, key } = it;
    view.page(
        "Ledger",
        html! {
            (title("Ledger", html! {
                "Every decision and outcome, append-only. Each entry's hash covers the one before it. "
                (view.token("q", "with", (!q.is_empty()).then_some(q)))
            }))
            @if let Some(chain) = chain { (state(view, chain)) }
            div.filters { form.narrow action="/ledger" method="get" role="search" aria-label="The ledger" {
                label { "Entries with " input name="q" value=(q) size="30" placeholder="alice, plan.approved, web-1 …" spellcheck="false" autocomplete="off"; }
                button { "Search" }
                @if !q.is_empty() { a.clear href="/ledger" { "Clear" } }
            } }
            @if entries.is_empty() {
                (empty(if q.is_empty() { "Nothing has been recorded here." } else { "No entry that was looked at has that in it." }, html! {
                    p { a href="/ledger" { "Newest entries" } }
                }))
            } @else {
                (scroll(html! { table.ledger {
                    thead { tr { th.n { "Entry" } th { "When" } th { "Who" } th { "What" } th { "About" } th.wide { "Content" } th { "Hash" } } }
                    tbody { @for it in entries { tr {
                        td.n { (it.index) }
                        td { (view.ago(it.at)) }
                        td { (asked(&it.actor)) }
                        td { (asked(&it.kind)) }
                        td { (asked(&it.subject)) }
                        td.wide.body { (start_of(&it.body.to_string())) }
                        td.ver title=(it.hash) { (it.hash.short()) }
                    } } }
                } }))
            }
            @if older.is_some() || newer.is_some() {
                nav.pages aria-label="Parts of the ledger" {
                    @if let Some(query) = newer { a rel="prev" href={ "/ledger" (query) } { "← Newer" } }
                    @if let Some(query) = older { a rel="next" href={ "/ledger" (query) } { @if q.is_empty() { "Older →" } @else { "Search further back →" } } }
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

/// How the chain stands, and up to where that was verified when.
fn state(view: &View<'_>, it: &ChainSeen) -> Markup {
    let LedgerVerified { entries, head, broken } = &it.verified;
    html! {
        @match broken {
            Some(broken) => {
                div.notice.bad { h2 { "The ledger does not hold together" } p { (broken) ". The first " (words::counted(*entries, "entry")) " hold." } }
            },
            None => {
                div.notice.good {
                    h2 { "The chain holds" }
                    p { (words::counted(*entries, "entry")) "; head " span.ver { (head) } ". Keep that hash elsewhere, and nobody can rewrite what came before it." }
                    p.quiet { "The whole was verified " (view.ago(it.whole_at)) ", up to entry " (it.whole_entries) "; what came after that, just now. All of it again: " code { "fettle audit verify" } "." }
                }
            },
        }
    }
}

/// A word, as a link to all entries that have it.
fn asked(word: &str) -> Markup {
    html! { @if !word.is_empty() { a.plain href={ "/ledger?q=" (encoded(word)) } { (word) } } }
}

fn start_of(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
