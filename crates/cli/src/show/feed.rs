//! Feeds for people.

use crate::output::{ago, hint, line, now, print, table};
use fettle_wire::api::FeedRow;

/// A length of time in its largest whole unit: `3h`, `2d`.
fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let unit = units.into_iter().find(|(_, size)| seconds >= 2 * size);
    unit.map_or_else(|| format!("{seconds}s"), |(unit, size)| format!("{}{unit}", seconds / size))
}

/// Feeds, how they stand and how old they are.
pub(crate) fn list(rows: &[FeedRow]) {
    let mut out =
        table(&["FEED", "STANDING", "AGE", "RECORDS", "UNREADABLE", "DATE", "IMPORTED", "ORIGIN"]);
    for row in rows {
        out.add_row(vec![
            row.name.clone(),
            row.standing.word().to_owned(),
            row.age_seconds.map_or_else(String::new, span),
            row.records.to_string(),
            row.errors.to_string(),
            row.date.clone(),
            row.imported_at.map_or_else(|| "never".into(), |at| ago(at, now())),
            row.origin.clone(),
        ]);
    }
    print(&out);
    for row in rows {
        if let Some(error) = &row.last_error {
            let when = row.failed_at.map_or_else(String::new, |at| format!(" {}", ago(at, now())));
            let kept =
                if row.records > 0 { "the one before is in force" } else { "nothing is in force" };
            line(&format!(
                "{}: the last look or import{when} went wrong, {kept}: {error}",
                row.name
            ));
            if row.source.is_some() && row.held.is_none() {
                hint(&format!("fettle feed sync {}", row.name));
            }
        }
        if let Some(held) = &row.held {
            line(&format!("{}: waits for a person, from {}: {}", row.name, held.origin, held.code));
            hint(&format!("fettle feed accept {} --digest {}", row.name, held.digest.hex()));
        }
    }
}

/// Where feeds are fetched from.
pub(crate) fn sources(rows: &[FeedRow]) {
    let mut out = table(&["FEED", "EVERY", "STALE AFTER", "LAST LOOK", "NEXT", "SET BY", "FROM"]);
    for row in rows {
        let Some(source) = &row.source else { continue };
        let time = |at: Option<_>| at.map_or_else(|| "never".into(), |at| ago(at, now()));
        out.add_row(vec![
            row.name.clone(),
            span(source.every_seconds),
            span(row.stale_after_seconds),
            time(source.tried_at),
            time(source.next_at),
            source.added_by.clone(),
            source.urls.join("\n"),
        ]);
    }
    print(&out);
    if !rows.iter().any(|row| row.source.is_some()) {
        line("no feed is fetched by the server itself");
        hint("fettle feed source add debian-tracker --url https://…");
    }
}
