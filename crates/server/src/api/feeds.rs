//! Feeds: bytes in, the last good one kept.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Upload, look};
use crate::access::Who;
use crate::app::now;
use crate::feeds::{self as taken, Given, MAX_UPLOAD, Way, bundle};
use crate::views;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use fettle_core::{Problem, ProblemKind};
use fettle_store::feed_sources;
use fettle_wire::api::{BundleKeys, FeedRow, Page, SetFeedSource, TrustBundleKey};
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
    /// Day the vendor gives it, `2026-11-20`. Default: the day that stands in it (KEV, EPSS), or today.
    #[serde(default)]
    date: String,
    /// Where it came from, in words.
    #[serde(default)]
    origin: String,
    /// Take it even if it changed suddenly: lost half, tripled, or says something else of a quarter.
    #[serde(default)]
    force: bool,
}

/// Import a feed: the vendor's file as it is, plain, gzip, Zstandard, bzip2, or a ZIP archive of OSV records.
#[utoipa::path(
    post, path = "/feeds/{name}", tag = "feeds",
    params(("name" = String, Path, description = "`debian-tracker`, `debian-advisories`, `kev`, `epss`, `cvss`, or `osv-VENDOR`: almalinux, alpine, chainguard, debian, redhat, rocky, suse, ubuntu; or `oval-VENDOR`: almalinux, debian, oracle, redhat, suse, ubuntu"), ImportQuery),
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
            way: Way::Given,
            confirmed_at: None,
        };
        taken::import(app, &who.actor(), vec![given])
    })
    .await?;
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    row_of(&app, name).await
}

async fn row_of(app: &Asked, name: String) -> Answer<FeedRow> {
    look(app, move |_, view| {
        let row = views::feed_rows(view)?.into_iter().find(|f| f.name == name);
        row.ok_or_else(|| fettle_store::StoreError::Missing { what: "feed", name }.into())
    })
    .await
}

/// Which feed.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncQuery {
    /// Only this one. Default: all that the server fetches.
    name: Option<String>,
}

/// Look at the sources of feeds now, and take in what is new. What went wrong with one of several stands beside it in the
/// answer.
#[utoipa::path(
    post, path = "/feeds/sync", tag = "feeds", params(SyncQuery),
    responses((status = 200, body = Page<FeedRow>), Failures)
)]
pub(super) async fn sync(
    app: Asked,
    who: Who,
    Asking(query): Asking<SyncQuery>,
) -> Answer<Page<FeedRow>> {
    match query.name {
        Some(name) => {
            let feed = taken::named(&name)?;
            taken::sync(&app, who.actor(), feed, taken::When::Now).await?;
        }
        None => taken::sync_all(&app, &who.actor()).await?,
    }
    list(app).await
}

/// Say where a feed is fetched from. The server looks there at once, and then again and again.
#[utoipa::path(
    put, path = "/feeds/{name}/source", tag = "feeds",
    params(("name" = String, Path, description = "As in the list")),
    request_body = SetFeedSource, responses((status = 200, body = FeedRow), Failures)
)]
pub(super) async fn set_source(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Body(asked): Body<SetFeedSource>,
) -> Answer<FeedRow> {
    let feed = taken::named(&name)?;
    asked.source.check()?;
    app.blocking(move |app| {
        app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            Ok(feed_sources::set(tx, feed.word(), &asked.source)?)
        })
    })
    .await?;
    app.events.tell("feed", &name);
    app.watched.wake.notify_one();
    row_of(&app, name).await
}

/// Fetch a feed no more. What is in force stays; what came from there and waits for a person's word is forgotten.
#[utoipa::path(
    delete, path = "/feeds/{name}/source", tag = "feeds",
    params(("name" = String, Path, description = "As in the list")),
    responses((status = 204, description = "It is fetched no more"), Failures)
)]
pub(super) async fn remove_source(
    app: Asked,
    who: Who,
    At(name): At<String>,
) -> Result<StatusCode, Failure> {
    let feed = taken::named(&name)?;
    app.blocking(move |app| {
        app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            Ok(feed_sources::remove(tx, feed.word())?)
        })
    })
    .await?;
    app.events.tell("feed", &name);
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be accepted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AcceptQuery {
    /// Digest of what was seen: refused when another waits by now.
    digest: Option<String>,
}

/// Take in what was fetched, changed too suddenly, and waits for a person's word.
#[utoipa::path(
    post, path = "/feeds/{name}/accept", tag = "feeds",
    params(("name" = String, Path, description = "As in the list"), AcceptQuery),
    responses((status = 200, body = FeedRow), Failures)
)]
pub(super) async fn accept(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Asking(query): Asking<AcceptQuery>,
) -> Answer<FeedRow> {
    let feed = taken::named(&name)?;
    let seen = query.digest.map(|text| text.parse()).transpose();
    let seen = seen.map_err(|e| {
        Problem::new(ProblemKind::Usage, "bad-digest", e, "`fettle feed list` prints it")
    })?;
    app.blocking(move |app| taken::accept(app, &who.actor(), feed, seen)).await?;
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    row_of(&app, name).await
}

/// All feeds in force with their dates, origins and digests, in one file that this server signs.
#[utoipa::path(
    get, path = "/feeds/bundle", tag = "feeds",
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar"), Failures)
)]
pub(super) async fn export_bundle(app: Asked, _: Who) -> Result<Response, Failure> {
    let bytes = app.blocking(bundle::export).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], bytes).into_response())
}

/// On what terms a bundle is taken in.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BundleQuery {
    /// The key it must be signed with (base64), in place of the pinned one.
    key: Option<String>,
    /// Take it even if it is older than what is in force, or changes suddenly.
    #[serde(default)]
    force: bool,
}

/// Take in a bundle: all of it, or nothing.
#[utoipa::path(
    post, path = "/feeds/bundle", tag = "feeds", params(BundleQuery),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, body = Page<FeedRow>), Failures)
)]
pub(super) async fn import_bundle(
    app: Asked,
    who: Who,
    Asking(query): Asking<BundleQuery>,
    bytes: Upload<{ bundle::MAX_BUNDLE }>,
) -> Answer<Page<FeedRow>> {
    app.blocking(move |app| {
        // A `+` of base64 comes as a space from whoever did not encode it.
        let key = query.key.map(|key| key.replace(' ', "+"));
        bundle::take_in(app, &who.actor(), &bytes.0, key.as_deref(), query.force)
    })
    .await?;
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    list(app).await
}

/// The keys of bundles: the one this server signs with, and the one it believes.
#[utoipa::path(
    get, path = "/feeds/bundle/key", tag = "feeds",
    responses((status = 200, body = BundleKeys), Failures)
)]
pub(super) async fn bundle_keys(app: Asked) -> Answer<BundleKeys> {
    look(&app, |app, _| {
        Ok(BundleKeys { own: bundle::own_key(app), trusted: bundle::pinned_key(app)? })
    })
    .await
}

/// Pin the key that bundles given to this server must be signed with.
#[utoipa::path(
    put, path = "/feeds/bundle/key", tag = "feeds", request_body = TrustBundleKey,
    responses((status = 200, body = BundleKeys), Failures)
)]
pub(super) async fn trust_bundle_key(
    app: Asked,
    who: Who,
    Body(asked): Body<TrustBundleKey>,
) -> Answer<BundleKeys> {
    app.blocking(move |app| bundle::pin(app, &who.actor(), asked.key.trim())).await?;
    bundle_keys(app).await
}
