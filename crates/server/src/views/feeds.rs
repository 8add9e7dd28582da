//! Feeds: what is in force, where from, how old, and what waits.

use crate::app::now;
use fettle_core::feed::{STALE_AFTER_SECONDS, Upkeep};
use fettle_core::{Problem, Timestamp};
use fettle_store::View;
use fettle_store::feed_sources::{self, FetchRecord, HeldRecord, SourceRecord};
use fettle_store::feeds::{self, FeedRecord};
use fettle_vuln::feed::Feed;
use fettle_wire::api::{FeedHeldRow, FeedRow, FeedSourceRow};

/// All feeds, also those that were never given: of the vendors' own (`osv-…`) only those that were, or are fetched.
pub(crate) fn feed_rows(view: &View<'_>) -> Result<Vec<FeedRow>, Problem> {
    let known = feeds::all(view)?;
    let sources = feed_sources::sources(view)?;
    let fetches = feed_sources::fetches(view)?;
    let held = feed_sources::held(view)?;
    let at = now();
    let row = |feed: Feed| {
        let name = feed.word();
        let source = sources.iter().find(|s| s.name == name);
        let fetch = fetches.iter().find(|f| f.name == name);
        let known = known.iter().find(|k| k.name == name);
        let held = held.iter().find(|h| h.name == name).map(held_row);
        FeedRow { held, ..feed_row(name, known, source.map(|s| source_row(s, fetch)), source, at) }
    };
    let shown = |feed: &Feed| {
        feed.goes_with_fettle()
            || known.iter().any(|k| k.name == feed.word())
            || sources.iter().any(|s| s.name == feed.word())
    };
    Ok(Feed::ALL.into_iter().filter(shown).map(row).collect())
}

fn feed_row(
    name: &str,
    known: Option<&FeedRecord>,
    row: Option<FeedSourceRow>,
    source: Option<&SourceRecord>,
    at: Timestamp,
) -> FeedRow {
    let upkeep = Upkeep {
        confirmed_at: known.and_then(confirmed_at),
        watched: source.is_some(),
        failing: known.is_some_and(|k| k.last_error.is_some()),
        stale_after_seconds: source.map_or(STALE_AFTER_SECONDS, |s| s.source.stale_after_seconds),
    };
    FeedRow {
        name: name.to_owned(),
        records: known.map_or(0, |k| k.records),
        errors: known.map_or(0, |k| k.errors),
        date: known.map(|k| k.date.clone()).unwrap_or_default(),
        imported_at: known.and_then(|k| k.imported_at),
        origin: known.map(|k| k.origin.clone()).unwrap_or_default(),
        last_error: known.and_then(|k| k.last_error.clone()),
        failed_at: known.and_then(|k| k.failed_at),
        standing: upkeep.standing(at),
        confirmed_at: upkeep.confirmed_at,
        age_seconds: upkeep.age_seconds(at),
        stale_after_seconds: upkeep.stale_after_seconds,
        source: row,
        held: None,
    }
}

/// As of when what is in force is known to be the vendor's word. What a person imported is as old as its date, to the
/// end of that day; a date that is yet to come makes nothing younger than its import.
fn confirmed_at(known: &FeedRecord) -> Option<Timestamp> {
    let imported_at = known.imported_at?;
    if known.confirmed_at.is_some() {
        return known.confirmed_at;
    }
    let day: Option<jiff::civil::Date> = known.date.parse().ok();
    let end = day.and_then(|day| day.tomorrow().ok());
    let end = end.and_then(|day| jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
    Some(end.map_or(imported_at, |end| end.min(imported_at)))
}

fn source_row(it: &SourceRecord, fetch: Option<&FetchRecord>) -> FeedSourceRow {
    FeedSourceRow {
        urls: it.source.urls.iter().map(|url| feed_sources::shown(url)).collect(),
        every_seconds: it.source.every_seconds,
        added_by: it.added_by.clone(),
        added_at: it.added_at,
        tried_at: fetch.and_then(|f| f.tried_at),
        failures: fetch.map_or(0, |f| f.failures),
        next_at: fetch.map(|f| f.next_at),
    }
}

fn held_row(it: &HeldRecord) -> FeedHeldRow {
    FeedHeldRow {
        digest: it.digest,
        origin: it.origin.clone(),
        code: it.code.clone(),
        reason: it.reason.clone(),
        held_at: it.held_at,
    }
}
