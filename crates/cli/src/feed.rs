//! `fettle feed`: vulnerability data, where it comes from, and what waits for a person.

use crate::args::feed::{AddSource, Bundle, Feed, Source};
use crate::client::escape;
use crate::commands::{Ask, seconds};
use crate::output::{hint, line};
use crate::show;
use fettle_core::feed::FeedSource;
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_wire::api::{BundleKeys, FeedRow, Page, SetFeedSource, TrustBundleKey};
use jiff::civil::Date;
use std::io::Write as _;
use std::path::Path;

pub(crate) fn run(ask: &Ask<'_>, feed: &Feed) -> Result<(), Problem> {
    match feed {
        Feed::List => ask.get("/feeds", |page: &Page<FeedRow>| show::feed::list(&page.items)),
        Feed::Import { name, file, bundled, force, date } => {
            import(ask, name.as_deref().filter(|_| !bundled), file.as_deref(), *force, *date)
        }
        Feed::Sync { name } => sync(ask, name.as_deref()),
        Feed::Source(Source::Add(asked)) => add(ask, asked),
        Feed::Source(Source::List) => {
            ask.get("/feeds", |page: &Page<FeedRow>| show::feed::sources(&page.items))
        }
        Feed::Source(Source::Remove { name }) => {
            ask.client()?.delete(&format!("/feeds/{}/source", escape(name)))?;
            ask.print(&serde_json::json!({ "removed": name }), |_| {
                line(&format!("{name} is fetched no more; what is in force stays"));
            })
        }
        Feed::Bundle(it) => bundle(ask, it),
        Feed::Accept { name, digest } => accept(ask, name, digest.as_deref()),
    }
}

fn import(
    ask: &Ask<'_>,
    name: Option<&str>,
    file: Option<&Path>,
    force: bool,
    date: Option<Date>,
) -> Result<(), Problem> {
    let client = ask.client()?;
    let (Some(name), Some(file)) = (name, file) else {
        let page: Page<FeedRow> =
            client.post_bytes("/feeds/bundled", "application/octet-stream", &[])?;
        return ask.print(&page, |page| show::feed::list(&page.items));
    };
    let bytes = std::fs::read(file).map_err(|error| {
        Problem::new(
            ProblemKind::BadInput,
            "feed-unreadable",
            format!("{} cannot be read: {error}", file.display()),
            "name the vendor's file",
        )
    })?;
    let force = force.then(|| "force=true".to_owned());
    let asked: Vec<String> =
        force.into_iter().chain(date.map(|day| format!("date={day}"))).collect();
    let asked = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
    let row: FeedRow = client.post_bytes(
        &format!("/feeds/{}{asked}", escape(name)),
        "application/octet-stream",
        &bytes,
    )?;
    ask.print(&row, |row| show::feed::list(std::slice::from_ref(row)))
}

/// All: what went wrong with some is told at the end, and by the exit code.
fn sync(ask: &Ask<'_>, name: Option<&str>) -> Result<(), Problem> {
    let path = name.map_or_else(
        || "/feeds/sync".to_owned(),
        |name| format!("/feeds/sync?name={}", escape(name)),
    );
    let page: Page<FeedRow> = ask.client()?.post_bytes(&path, "application/octet-stream", &[])?;
    let mut rows: Vec<FeedRow> = page.items;
    rows.retain(|row| row.source.is_some() && name.is_none_or(|name| row.name == name));
    if rows.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no-feed-source",
            "no feed has a source that the server could look at",
            "say where one comes from: fettle feed source add debian-tracker --url https://…",
        ));
    }
    ask.print(&rows, |rows| show::feed::list(rows))?;
    let failed: Vec<&str> =
        rows.iter().filter(|r| r.last_error.is_some()).map(|r| r.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {} feeds: {}", failed.len(), rows.len(), failed.join(", "));
    Err(Problem::new(
        ProblemKind::Unavailable,
        "feeds-not-synced",
        format!("the last look went wrong at {message}"),
        "what is in force stays; `fettle feed list` says what went wrong",
    ))
}

fn add(ask: &Ask<'_>, asked: &AddSource) -> Result<(), Problem> {
    let time = |option: &str, text: &str| {
        seconds(text).ok_or_else(|| {
            let message = format!("`{text}` is no duration");
            let hint = format!("write {option} 30m, 1h or 2d");
            Problem::new(ProblemKind::Usage, "duration", message, hint)
        })
    };
    let source = FeedSource {
        urls: asked.urls.clone(),
        every_seconds: time("--every", &asked.every)?,
        stale_after_seconds: time("--stale-after", &asked.stale_after)?,
        sha256: asked.sha256,
        redirect_hosts: asked.redirect_hosts.clone(),
        ca_file: asked.ca_file.clone(),
        credentials_file: asked.credentials_file.clone(),
        max_bytes: asked.max_size.saturating_mul(1 << 20),
    };
    // Before anything is sent: an address with a password in it goes nowhere.
    source.check()?;
    let path = format!("/feeds/{}/source", escape(&asked.name));
    let row: FeedRow = ask.client()?.put(&path, &SetFeedSource { source })?;
    ask.print(&row, |row| {
        show::feed::sources(std::slice::from_ref(row));
        hint(&format!("fettle feed sync {}", row.name));
    })
}

fn accept(ask: &Ask<'_>, name: &str, digest: Option<&str>) -> Result<(), Problem> {
    let query = match digest {
        Some(text) => {
            let digest: Digest = text.parse().map_err(|e| {
                Problem::new(ProblemKind::Usage, "digest", e, "`fettle feed list` prints it")
            })?;
            format!("?digest={}", digest.hex())
        }
        None => String::new(),
    };
    let path = format!("/feeds/{}/accept{query}", escape(name));
    let row: FeedRow = ask.client()?.post_bytes(&path, "application/octet-stream", &[])?;
    ask.print(&row, |row| show::feed::list(std::slice::from_ref(row)))
}

fn bundle(ask: &Ask<'_>, bundle: &Bundle) -> Result<(), Problem> {
    let unusable = |file: &Path, error: &std::io::Error| {
        let message = format!("{}: {error}", file.display());
        let hint = "name a file that can be read, or a new one in a directory you can write to";
        Problem::new(ProblemKind::BadInput, "bundle-file", message, hint)
    };
    match bundle {
        Bundle::Export { file } => {
            let bytes = ask.client()?.get_bytes("/feeds/bundle")?;
            let new = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
            let written =
                new.and_then(|mut new| new.write_all(&bytes).and_then(|()| new.sync_all()));
            written.map_err(|e| unusable(file, &e))?;
            ask.print(&serde_json::json!({ "file": file, "bytes": bytes.len() }), |_| {
                line(&format!("{} bytes in {}", bytes.len(), file.display()));
                let file = file.display();
                hint(&format!("on the other server: fettle feed bundle import {file}"));
            })
        }
        Bundle::Import { file, key, force } => {
            let bytes = std::fs::read(file).map_err(|e| unusable(file, &e))?;
            let mut path = format!("/feeds/bundle?force={force}");
            if let Some(key) = key {
                path.push_str(&format!("&key={}", escape(key)));
            }
            let page: Page<FeedRow> =
                ask.client()?.post_bytes(&path, "application/x-tar", &bytes)?;
            ask.print(&page, |page| show::feed::list(&page.items))
        }
        Bundle::Key => ask.get("/feeds/bundle/key", keys),
        Bundle::Trust { key } => {
            let body = TrustBundleKey { key: key.clone() };
            ask.print(&ask.client()?.put::<BundleKeys>("/feeds/bundle/key", &body)?, keys)
        }
    }
}

fn keys(it: &BundleKeys) {
    line(&format!("signs with  {}", it.own));
    line(&format!(
        "believes    {}",
        it.trusted.as_deref().unwrap_or("none: no bundle is taken in")
    ));
    hint(&format!("on a server that is to believe this one: fettle feed bundle trust {}", it.own));
}
