//! The ledger's page: its newest entries, older ones, and those in which a text stands.

use super::{ROWS, Visit, refusal, show};
use crate::app::App;
use crate::evidence;
use crate::web::encoded;
use crate::web::pages::{self, ChainSeen, LedgerPart};
use axum::extract::Query;
use axum::response::Response;
use fettle_core::Problem;
use fettle_core::ledger::LedgerEntry;
use fettle_store::{View as Stored, ledger as stored};
use serde::Deserialize;

/// Entries that a search looks through at once; it goes on from there when asked to.
const SEARCHED: u64 = 200_000;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct LedgerQuery {
    after: Option<u64>,
    /// What is searched for.
    #[serde(default)]
    q: String,
    /// Only entries before this one.
    before: Option<u64>,
}

/// What the page is made from.
struct Found {
    entries: Vec<LedgerEntry>,
    older: Option<String>,
    newer: Option<String>,
    key: String,
}

pub(super) async fn page(visit: Visit, Query(query): Query<LedgerQuery>) -> Response {
    let q = query.q.trim().to_owned();
    let asked = q.clone();
    let newest = q.is_empty() && query.after.is_none();
    let app = visit.app.clone();
    let chain = match newest {
        true => app.blocking(|app| app.chain.look(app)).await,
        false => Ok(None),
    };
    let chain: Option<ChainSeen> = match chain {
        Ok(chain) => chain,
        Err(problem) => return refusal(&visit.uri, Some(&visit.who), problem),
    };
    let look = move |app: &App, view: &Stored<'_>| match asked.is_empty() {
        true => part(app, view, query.after),
        false => search(app, view, &asked, query.before),
    };
    show(visit, look, |view, it| {
        let part = LedgerPart {
            entries: &it.entries,
            chain: chain.as_ref(),
            q: &q,
            older: it.older.as_deref(),
            newer: it.newer.as_deref(),
            key: &it.key,
        };
        pages::ledger(view, part)
    })
    .await
}

fn part(app: &App, view: &Stored<'_>, after: Option<u64>) -> Result<Found, Problem> {
    let len = stored::len(view)?;
    let from = after.unwrap_or(len.saturating_sub(ROWS));
    let mut entries = stored::after(view, from, ROWS)?;
    entries.reverse();
    let query = |after: u64| format!("?after={after}");
    Ok(Found {
        entries,
        older: (from > 0).then(|| query(from.saturating_sub(ROWS))),
        newer: (from + ROWS < len).then(|| query(from + ROWS)),
        key: evidence::own_key(app),
    })
}

fn search(app: &App, view: &Stored<'_>, q: &str, before: Option<u64>) -> Result<Found, Problem> {
    let end = stored::len(view)? + 1;
    let before = before.unwrap_or(end).min(end);
    let entries = stored::search(view, q, before, SEARCHED, ROWS)?;
    // Where as many were found as fit, it goes on below the last of them, else below what was looked through.
    let full = entries.len() as u64 == ROWS;
    let reached = match entries.last() {
        Some(last) if full => last.index,
        _ => before.saturating_sub(SEARCHED),
    };
    let query = |before: u64| format!("?q={}&before={before}", encoded(q));
    Ok(Found {
        entries,
        older: (reached > 1).then(|| query(reached)),
        newer: (before < end).then(|| format!("?q={}", encoded(q))),
        key: evidence::own_key(app),
    })
}
