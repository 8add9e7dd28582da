//! Feeds: bytes in, the last good one kept.

use super::{Answer, Asked, Asking, At, Failure, Failures, Upload, look};
use crate::access::Who;
use crate::feeds::{self as taken, Given, MAX_UPLOAD};
use crate::views;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{FeedRow, Page};
use serde::Deserialize;
use std::borrow::Cow;
use utoipa::IntoParams;

/// All feeds.
#[utoipa::path(get, path = "/feeds", tag = "feeds", responses((status = 200, body = Page<FeedRow>), Failures))]
pub(super) async fn list(app: Asked) -> Answer<Page<FeedRow>> {
    look(&app, |_, view| {
        let items = views::feed_rows(view)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// Load the data that goes with Fettle.
#[utoipa::path(post, path = "/feeds/bundled", tag = "feeds", responses((status = 200, body = Page<FeedRow>), Failures))]
pub(super) async fn import_bundled(app: Asked, who: Who) -> Answer<Page<FeedRow>> {
    app.blocking(move |app| taken::import(app, &who.actor(), taken::bundled()?)).await?;
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    list(app).await
}

/// What is known of the bytes.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Day the vendor gives it, `2026-11-20`. Default: today.
    #[serde(default)]
    date: String,
    /// Where it came from, in words.
    #[serde(default)]
    origin: String,
    /// Take it even if it changed suddenly: lost half, tripled, or says something else of a quarter.
    #[serde(default)]
    force: bool,
}

/// Import a feed: the vendor's file as it is, plain, gzip, Zstandard, or a ZIP archive of OSV records.
#[utoipa::path(
    post, path = "/feeds/{name}", tag = "feeds",
    params(("name" = String, Path, description = "`debian-tracker`, `debian-advisories`, `kev`, `epss`, `cvss`, or `osv-VENDOR`: almalinux, alpine, chainguard, debian, redhat, rocky, suse, ubuntu"), ImportQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FeedRow), Failures)
)]
pub(super) async fn import(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Asking(query): Asking<ImportQuery>,
    bytes: Upload<MAX_UPLOAD>,
) -> Answer<FeedRow> {
    let feed = taken::named(&name)?;
    if !query.date.is_empty() && query.date.parse::<jiff::civil::Date>().is_err() {
        let message = format!("`{}` is no date", query.date);
        return Err(Failure(Problem::new(
            ProblemKind::Usage,
            "bad-query",
            message,
            "write it as 2026-11-20",
        )));
    }
    let origin =
        if query.origin.is_empty() { format!("given by {}", who.name) } else { query.origin };
    let origin: String = origin.chars().filter(|c| !c.is_control()).take(500).collect();
    app.blocking(move |app| {
        let given = Given {
            feed,
            bytes: Cow::Owned(bytes.0),
            date: query.date,
            origin,
            force: query.force,
        };
        taken::import(app, &who.actor(), vec![given])
    })
    .await?;
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    look(&app, move |_, view| {
        let row = views::feed_rows(view)?.into_iter().find(|f| f.name == name);
        row.ok_or_else(|| fettle_store::StoreError::Missing { what: "feed", name }.into())
    })
    .await
}
