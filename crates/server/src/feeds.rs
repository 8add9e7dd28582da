//! Vendors' data: taken in, kept as given, and turned into the catalogue hosts are judged by.
//!
//! A feed that cannot be used is refused and its error kept beside the feed in force, which stays.

use crate::app::{App, now};
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::feed_sources::{self, HeldRecord, Validators};
use fettle_store::feeds::{self, NewFeed};
use fettle_store::{Tx, View};
use fettle_vuln::exposure::Catalogue;
use fettle_vuln::feed::{self, Feed, FeedError};
use fettle_vuln::snapshot::{self, Feeds, Manifest, SnapshotError};
use fettle_vuln::unpack::unpack;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

pub(crate) mod bundle;
mod fetch;
mod sync;

pub use fetch::FeedFetching;
pub(crate) use fetch::roots;
pub(crate) use sync::{Seen, Watched, When, accept, sync, sync_all, watch};

/// Largest feed the API takes, compressed or not, in bytes.
pub const MAX_UPLOAD: usize = 128 << 20;

/// The snapshot of real data that goes with the program: file name → bytes.
const BUNDLED: [(&str, &[u8]); 5] = [
    ("debian-tracker.json.zst", include_bytes!("../../../data/debian-tracker.json.zst")),
    ("debian-advisories.jsonl.zst", include_bytes!("../../../data/debian-advisories.jsonl.zst")),
    ("kev.json.zst", include_bytes!("../../../data/kev.json.zst")),
    ("epss.csv.zst", include_bytes!("../../../data/epss.csv.zst")),
    ("cvss.jsonl.zst", include_bytes!("../../../data/cvss.jsonl.zst")),
];
const MANIFEST: &str = include_str!("../../../data/SNAPSHOT.toml");

/// A feed as it is given to be taken in.
pub(crate) struct Given<'a> {
    pub(crate) feed: Feed,
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Day the vendor gives it; empty: the day that stands in it, or today.
    pub(crate) date: String,
    pub(crate) origin: String,
    /// Take it even if it changed suddenly.
    pub(crate) force: bool,
    pub(crate) way: Way,
    /// As of when it is known to be the vendor's word. `None`: by its date, and by how it came.
    pub(crate) confirmed_at: Option<Timestamp>,
}

/// How a feed came, and what is noted with it, in the same transaction.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Somebody gave it.
    Given,
    /// The server fetched it by itself.
    Fetched(Fetched),
    /// It waited for a person's word, and was given it.
    Accepted(Accepted),
}

/// A feed that the server fetched by itself.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// What the look set out from.
    pub(crate) seen: Seen,
    pub(crate) validators: Option<Validators>,
    /// When to look again.
    pub(crate) next_at: Timestamp,
    /// How often in a row looks have failed if this one does, and when to look again then.
    pub(crate) otherwise: (u32, Timestamp),
}

/// A feed that waited for a person's word.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// What the word is about.
    pub(crate) digest: Digest,
    pub(crate) validators: Option<Validators>,
    /// When it was fetched: nobody has confirmed it since.
    pub(crate) fetched_at: Timestamp,
}

impl Way {
    /// Is what it was decided on still so? Looked at in the transaction that writes it down.
    fn still(&self, tx: &Tx<'_>, name: &str) -> Result<(), Problem> {
        match self {
            Self::Given => Ok(()),
            Self::Fetched(fetched) => fetched.seen.still(tx, name),
            Self::Accepted(it) => {
                let held = feed_sources::held(tx)?.into_iter().find(|held| held.name == name);
                let held = held.ok_or_else(|| sync::nothing_held(name))?;
                sync::same_held(held.digest, it.digest)
            }
        }
    }

    /// What is noted beside a feed that was taken in.
    fn note(&self, tx: &mut Tx<'_>, name: &str) -> Result<(), Problem> {
        match self {
            Self::Given => {}
            Self::Fetched(it) => {
                feed_sources::confirmed(tx, name, it.next_at, it.validators.as_ref(), true)?;
            }
            Self::Accepted(it) => {
                feed_sources::accepted(tx, name, it.fetched_at, it.validators.as_ref())?;
            }
        }
        Ok(())
    }
}

/// The feed of that name.
pub(crate) fn named(name: &str) -> Result<Feed, Problem> {
    Feed::from_word(name).ok_or_else(|| {
        let names: Vec<_> = Feed::ALL.iter().map(|f| f.word()).collect();
        Problem::new(
            ProblemKind::NotFound,
            "no-such-feed",
            format!("there is no feed `{name}`"),
            format!(
                "the feeds are {}, and `bundled` for the data that goes with Fettle",
                names.join(", ")
            ),
        )
    })
}

/// What the origin of bundled data begins with.
pub(crate) const BUNDLED_ORIGIN: &str = "bundled with Fettle";

/// The bundled snapshot.
pub(crate) fn bundled() -> Result<Vec<Given<'static>>, Problem> {
    let broken = |e: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::Internal,
            "bundle",
            format!("the bundled data: {e}"),
            "this is a defect of this build",
        )
    };
    let manifest = Manifest::parse(MANIFEST).map_err(|e| broken(&e))?;
    manifest
        .file
        .iter()
        .map(|file| {
            let found = BUNDLED.iter().find(|(name, _)| *name == file.name);
            let (_, bytes) = found.ok_or_else(|| broken(&format!("{} is not in it", file.name)))?;
            file.verify(bytes).map_err(|e| broken(&e))?;
            Ok(Given {
                feed: file.feed,
                bytes: Cow::Borrowed(*bytes),
                date: file.as_of.to_string(),
                origin: format!(
                    "{BUNDLED_ORIGIN}: {}",
                    file.origin.split_whitespace().collect::<Vec<_>>().join(" ")
                ),
                force: false,
                way: Way::Given,
                confirmed_at: None,
            })
        })
        .collect()
}

/// Takes feeds in, all or none, and puts the catalogue made with them in force.
pub(crate) fn import(app: &App, actor: &str, given: Vec<Given<'_>>) -> Result<(), Problem> {
    // One after another: each is measured by what the one before put in force.
    let _alone = app.importing.lock().unwrap_or_else(PoisonError::into_inner);
    match try_import(app, actor, &given) {
        Ok(()) => {
            for g in &given {
                app.events.tell("feed", g.feed.word());
            }
            Ok(())
        }
        Err(Refusal { feed, sudden, problem }) => {
            if let Some(feed) = feed {
                let at_fault = given.iter().find(|g| g.feed == feed);
                app.store.write::<_, Problem>(actor, now(), |tx| {
                    match at_fault.map(|g| (g, &g.way)) {
                        Some((g, Way::Fetched(fetched))) => {
                            fetched.seen.still(tx, feed.word())?;
                            note_refused(tx, g, fetched, sudden, &problem)
                        }
                        _ => Ok(feeds::refuse(tx, feed.word(), &problem.message)?),
                    }
                })?;
                app.events.tell("feed", feed.word());
            }
            Err(problem)
        }
    }
}

/// What was fetched is not taken: where it can be read and changed too suddenly, it waits for a person.
fn note_refused(
    tx: &mut Tx<'_>,
    given: &Given<'_>,
    fetched: &Fetched,
    sudden: bool,
    problem: &Problem,
) -> Result<(), Problem> {
    let name = given.feed.word();
    // The vendor's word is there, and a person's is waited for: that is no failure to be made good soon.
    let (failures, next_at) = if sudden { (0, fetched.next_at) } else { fetched.otherwise };
    feed_sources::failed(tx, name, next_at, failures, &problem.message)?;
    if sudden {
        let held = HeldRecord {
            name: name.to_owned(),
            digest: Digest::of(&given.bytes),
            date: given.date.clone(),
            origin: given.origin.clone(),
            code: problem.code.clone(),
            reason: problem.message.clone(),
            held_at: tx.now(),
        };
        feed_sources::hold(tx, &held, &given.bytes, fetched.validators.as_ref())?;
    }
    Ok(())
}

struct Refusal {
    /// Whose fault it is; `None`: the server's own.
    feed: Option<Feed>,
    /// It can be read, and changed too suddenly.
    sudden: bool,
    problem: Problem,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { feed: None, sudden: false, problem }
    }
}

fn refused(feed: Feed, code: &str, why: impl std::fmt::Display, hint: &str) -> Refusal {
    let problem = Problem::new(ProblemKind::BadInput, code, why, hint);
    Refusal { feed: Some(feed), sudden: false, problem }
}

fn try_import(app: &App, actor: &str, given: &[Given<'_>]) -> Result<(), Refusal> {
    let mut fresh = BTreeMap::new();
    for g in given {
        let bytes = unpack(&g.bytes).map_err(|why| {
            let hint = "fetch it again; the one before stays in force";
            refused(
                g.feed,
                "feed-not-unpacked",
                format!("the {} cannot be unpacked: {why}", g.feed),
                hint,
            )
        })?;
        fresh.insert(g.feed, bytes);
    }
    let (held, known) = app.store.read::<_, Problem>(|view| {
        let mut held = BTreeMap::new();
        for feed in Feed::ALL.into_iter().filter(|f| !fresh.contains_key(f)) {
            if let Some(bytes) = feeds::body(view, feed.word())? {
                held.insert(feed, bytes);
            }
        }
        Ok((held, feeds::all(view)?))
    })?;
    let mut set = Feeds::default();
    for (feed, bytes) in &held {
        // It was unpacked when it was taken in.
        if let Ok(bytes) = unpack(bytes) {
            fresh.entry(*feed).or_insert(bytes);
        }
    }
    set.bytes = fresh.iter().map(|(feed, bytes)| (*feed, bytes.as_ref())).collect();
    set.as_of =
        known.iter().filter_map(|k| Some((named(&k.name).ok()?, k.date.parse().ok()?))).collect();
    let today = now().to_zoned(jiff::tz::TimeZone::UTC).date();
    for g in given {
        let own = || feed::date_of(g.feed, set.bytes.get(&g.feed)?).filter(|day| *day <= today);
        set.as_of.insert(g.feed, g.date.parse().ok().or_else(own).unwrap_or(today));
    }
    let (catalogue, outcomes) = read_set(&set, given)?;
    for g in given.iter().filter(|g| !g.force) {
        let records = outcomes.get(&g.feed).map_or(0, |o| o.0);
        let before = known.iter().find(|k| k.name == g.feed.word()).map_or(0, |k| k.records);
        sudden_count(g.feed, before, records)?;
    }
    if let Some(new) = &catalogue {
        let is_first = |feed: Feed| !known.iter().any(|k| k.name == feed.word() && k.records > 0);
        for sudden in app.catalogue().sudden_changes(new) {
            let brought_it = |g: &&Given<'_>| {
                !g.force && sudden.is_by(g.feed) && (sudden.is_of_a_first() || !is_first(g.feed))
            };
            if let Some(g) = given.iter().find(brought_it) {
                return Err(too_sudden(g.feed, sudden.code(), &sudden));
            }
        }
    }
    app.store.write::<_, Problem>(actor, now(), |tx| {
        for g in given {
            let (records, errors) = outcomes.get(&g.feed).copied().unwrap_or_default();
            let date = set.as_of.get(&g.feed).map(ToString::to_string).unwrap_or_default();
            let new = NewFeed {
                name: g.feed.word(),
                body: &g.bytes,
                records,
                errors,
                date: &date,
                origin: &g.origin,
                confirmed_at: g.confirmed_at,
            };
            g.way.still(tx, g.feed.word())?;
            feeds::take_in(tx, &new)?;
            g.way.note(tx, g.feed.word())?;
        }
        Ok(())
    })?;
    match catalogue {
        Some(catalogue) => Ok(put_in_force(app, actor, catalogue)?),
        None => Ok(()),
    }
}

/// Vendors' data in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct InForce {
    /// What hosts are judged by.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Name and digest of each feed that was in force when it was made: the same text, the same catalogue.
    pub(crate) feeds: String,
}

impl InForce {
    fn of(view: &View<'_>, catalogue: Catalogue) -> Result<Self, Problem> {
        let feeds =
            feeds::digests(view)?.into_iter().map(|(name, digest)| format!("{name}={digest}"));
        Ok(Self { catalogue: Arc::new(catalogue), feeds: feeds.collect::<Vec<_>>().join(" ") })
    }
}

/// Puts what was made of the feeds that the store has into force.
fn put_in_force(app: &App, actor: &str, catalogue: Catalogue) -> Result<(), Problem> {
    let in_force = app.store.read(|view| InForce::of(view, catalogue))?;
    // Within a write, of nothing: whoever reports meanwhile is judged by what was in force before, and is written down before
    // all hosts are judged by this, or is judged by this.
    let alone = app.store.write::<_, Problem>(actor, now(), |_| {
        app.set_in_force(in_force.clone());
        Ok(())
    });
    // The store has it already.
    alone.inspect_err(|_| app.set_in_force(in_force))
}

/// A feed that lost half of what it had, or has many times as much, is cut off or poisoned until a person says otherwise.
fn sudden_count(feed: Feed, before: u64, records: u64) -> Result<(), Refusal> {
    if before <= 100 {
        return Ok(());
    }
    let code = if records * 2 < before {
        "feed-shrunk"
    } else if records > before * 3 {
        "feed-grew"
    } else {
        return Ok(());
    };
    Err(too_sudden(feed, code, &format!("it has {records} records, the one in force has {before}")))
}

/// A feed that can be read and changed too suddenly.
fn too_sudden(feed: Feed, code: &str, why: &dyn std::fmt::Display) -> Refusal {
    let hint = format!(
        "check its source; if it is right, import it again with --force, or take what was fetched: `fettle feed accept {}`",
        feed.word()
    );
    Refusal { sudden: true, ..refused(feed, code, format!("the {feed} is held: {why}"), &hint) }
}

type Outcomes = BTreeMap<Feed, (u64, u64)>;

/// Parses a set. Where none says who is affected there is no catalogue yet, but what ranks is checked all the same.
fn read_set(
    set: &Feeds<'_>,
    given: &[Given<'_>],
) -> Result<(Option<Catalogue>, Outcomes), Refusal> {
    let at_fault = |feed: Feed, e: &dyn std::fmt::Display| {
        refused(feed, "bad-feed", e, "the one before stays in force; check the file and its source")
    };
    if set.say_who_is_affected() {
        return match snapshot::load(set) {
            Ok(loaded) => {
                let outcomes =
                    loaded.feeds.iter().map(|f| (f.feed, (f.records as u64, f.rejected as u64)));
                let outcomes = outcomes.collect();
                Ok((Some(loaded.catalogue), outcomes))
            }
            Err(SnapshotError::Feed(e)) if given.iter().any(|g| g.feed == e.feed()) => {
                Err(at_fault(e.feed(), &e))
            }
            // Those held could be read when they were taken in: the server's matter.
            Err(e) => Err(Refusal {
                feed: None,
                sudden: false,
                problem: Problem::new(
                    ProblemKind::Internal,
                    "feed-in-force",
                    format!("a feed in force cannot be read any more: {e}"),
                    "import all feeds again: `fettle feed import --bundled`",
                ),
            }),
        };
    }
    let mut outcomes = Outcomes::new();
    for g in given {
        let Some(bytes) = set.bytes.get(&g.feed) else { continue };
        outcomes.insert(g.feed, count(g.feed, bytes).map_err(|e| at_fault(g.feed, &e))?);
    }
    Ok((None, outcomes))
}

fn count(feed: Feed, bytes: &[u8]) -> Result<(u64, u64), FeedError> {
    let (records, rejected) = feed::count(feed, bytes)?;
    Ok((records as u64, rejected as u64))
}

/// Builds the catalogue from the feeds in force, at the start. One that cannot be read any more is left out.
pub(crate) fn load(app: &App) -> Result<(), Problem> {
    let (bodies, known) = app.store.read::<_, Problem>(|view| {
        let mut bodies = BTreeMap::new();
        for feed in Feed::ALL {
            if let Some(bytes) = feeds::body(view, feed.word())? {
                bodies.insert(feed, bytes);
            }
        }
        Ok((bodies, feeds::all(view)?))
    })?;
    let mut unpacked = BTreeMap::new();
    for (feed, bytes) in &bodies {
        match unpack(bytes) {
            Ok(bytes) => {
                unpacked.insert(*feed, bytes);
            }
            Err(error) => {
                tracing::error!(feed = feed.word(), error, "a feed in force cannot be unpacked")
            }
        }
    }
    let mut set = Feeds {
        bytes: unpacked.iter().map(|(feed, bytes)| (*feed, bytes.as_ref())).collect(),
        as_of: known
            .iter()
            .filter_map(|k| Some((named(&k.name).ok()?, k.date.parse().ok()?)))
            .collect(),
    };
    // Each turn leaves out one feed that cannot be read any more, so there are few.
    while set.say_who_is_affected() {
        match snapshot::load(&set) {
            Ok(loaded) => {
                // Nothing takes feeds in before the server is up: the store has what was read.
                app.set_in_force(app.store.read(|view| InForce::of(view, loaded.catalogue))?);
                return Ok(());
            }
            Err(SnapshotError::Feed(error)) if set.bytes.remove(&error.feed()).is_some() => {
                tracing::error!(%error, "a feed in force cannot be read: it is left out");
            }
            Err(error) => {
                tracing::error!(%error, "the feeds in force cannot be read");
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_snapshot_is_the_one_its_manifest_describes() {
        let given = bundled().unwrap();
        assert_eq!(given.len(), BUNDLED.len());
    }
}
