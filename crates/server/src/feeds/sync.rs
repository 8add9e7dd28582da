//! Feeds that the server fetches by itself: each when its time has come, in a task of its own.
//!
//! What a look gave is written in one transaction, so that a crash at any point leaves the feed before in force and the
//! look to be done again. A vendor's machine that hangs holds up nobody but the next look at its own feed.

use super::fetch::{self, Looked, Whole};
use super::{Accepted, Fetched, Given, Way, import, named};
use crate::app::{App, now};
use crate::spans::{ended, traced};
use crate::tasks::complain;
use fettle_core::feed::CONDITIONAL_SECONDS;
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::feed_sources::{self, FetchRecord, SourceRecord, Validators};
use fettle_store::{StoreError, Tx, View, feeds};
use fettle_vuln::feed::Feed;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Turn, Notify};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The loop looks at the clock so often even if nothing wakes it: somebody may have set it.
const LOOK: Duration = Duration::from_secs(30);
/// So often a look is taken again because somebody came between.
const LOOKS: u32 = 5;
/// Somebody came between a look and what was to be written down of it.
const MOVED: &str = "feed-moved";
/// A look that is not written down (the store is busy or full) is done again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// Feeds that are fetched.
#[derive(Default)]
pub(crate) struct Watched {
    /// Wakes the loop: a source is new, gone or another.
    pub(crate) wake: Notify,
    /// One look at a time for each feed.
    turns: Mutex<BTreeMap<Feed, Arc<Turn<()>>>>,
}

impl Watched {
    fn turn(&self, feed: Feed) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(feed).or_default().clone()
    }
}

/// What one look at a feed's source came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// Other data is in force now.
    Taken,
    /// What is in force is the newest.
    Confirmed,
    /// Somebody else has just looked.
    NotDue,
}

/// When to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// A person asks.
    Now,
    /// Its time has come, unless somebody has looked meanwhile.
    Due,
}

/// What is known before a look.
struct Before {
    source: SourceRecord,
    fetch: Option<FetchRecord>,
    seen: Seen,
    /// Digest of what waits for a person.
    held: Option<Digest>,
}

/// What a look sets out from. What it gives is written down only where that is still so: it neither confirms bytes that
/// somebody imported meanwhile, nor speaks for a source that is another by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Digest of what is in force.
    in_force: Option<String>,
    /// When the source was set.
    added_at: Timestamp,
}

impl Seen {
    fn of(view: &View<'_>, source: &SourceRecord) -> Result<Self, Problem> {
        let mut all = feeds::digests(view)?.into_iter();
        let in_force = all.find_map(|(name, digest)| (name == source.name).then_some(digest));
        Ok(Self { in_force, added_at: source.added_at })
    }

    /// Is it still so?
    pub(super) fn still(&self, view: &View<'_>, name: &str) -> Result<(), Problem> {
        let source = feed_sources::get(view, name)?;
        if let Some(source) = source
            && Self::of(view, &source)? == *self
        {
            return Ok(());
        }
        let message =
            format!("another {name} was taken in, or its source was changed, during the look");
        let hint = format!("look again: `fettle feed sync {name}`");
        Err(Problem::new(ProblemKind::Conflict, MOVED, message, hint))
    }
}

/// Is what waits what somebody's word is about?
pub(super) fn same_held(held: Digest, meant: Digest) -> Result<(), Problem> {
    if held == meant {
        return Ok(());
    }
    let message = format!("what waits now is {}, not {}", held.short(), meant.short());
    let hint = "look again: `fettle feed list`";
    Err(Problem::new(ProblemKind::Conflict, "other-feed-held", message, hint))
}

pub(super) fn nothing_held(name: &str) -> Problem {
    let hint = "`fettle feed list` shows what waits";
    let message = format!("nothing of {name} waits for anybody's word");
    Problem::new(ProblemKind::NotFound, "nothing-held", message, hint)
}

fn before(app: &App, name: &str) -> Result<Before, Problem> {
    app.store.read::<_, Problem>(|view| {
        let source = feed_sources::get(view, name)?.ok_or_else(|| no_source(name))?;
        Ok(Before {
            seen: Seen::of(view, &source)?,
            source,
            fetch: feed_sources::fetches(view)?.into_iter().find(|f| f.name == name),
            held: feed_sources::held(view)?.into_iter().find(|h| h.name == name).map(|h| h.digest),
        })
    })
}

fn no_source(name: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "no-feed-source",
        format!("the server does not know where to fetch {name} from"),
        format!("say where: `fettle feed source add {name} --url https://…`"),
    )
}

/// Looks at a feed's source, and takes in what is new.
pub(crate) async fn sync(
    app: &Arc<App>,
    actor: String,
    feed: Feed,
    when: When,
) -> Result<Synced, Problem> {
    let turn = app.watched.turn(feed);
    let _turn = turn.lock().await;
    let span = traced!("sync-feed", feed = feed.word());
    let looks = async {
        for _ in 1..LOOKS {
            match look_once(app, &actor, feed, when).await {
                Err(problem) if problem.code == MOVED => {}
                looked => return looked,
            }
        }
        look_once(app, &actor, feed, when).await
    };
    let out = looks.instrument(span.clone()).await;
    ended(&span, &out);
    out
}

async fn look_once(app: &Arc<App>, actor: &str, feed: Feed, when: When) -> Result<Synced, Problem> {
    let name = feed.word();
    let known = app.blocking(move |app| before(app, name)).await?;
    if when == When::Due && known.fetch.as_ref().is_some_and(|f| f.next_at > now()) {
        return Ok(Synced::NotDue);
    }
    let trusted = validators(&known, now());
    let known = Arc::new(known);
    let mut from = 0;
    loop {
        let (limits, source) = (&app.options.feeds, &known.source.source);
        let looked = fetch::look(limits, name, source, trusted.as_ref(), from).await;
        let (actor, known) = (actor.to_owned(), known.clone());
        let settled = app.blocking(move |app| settle(app, &actor, feed, &known, looked)).await?;
        match settled {
            Settled::Confirmed => return Ok(Synced::Confirmed),
            Settled::Taken => break,
            // It was reached, and what it gave is none: another mirror may have it whole.
            Settled::Unusable(place) => from = place + 1,
        }
    }
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    Ok(Synced::Taken)
}

/// What one look came to, once it is written down.
enum Settled {
    Taken,
    Confirmed,
    /// The address of that place gave something that cannot be used, and there are others.
    Unusable(usize),
}

/// By what "nothing is new" is believed. `None`: all of it is asked for.
fn validators(known: &Before, now: Timestamp) -> Option<Validators> {
    let fetch = known.fetch.as_ref()?;
    // With nothing in force there is nothing to be confirmed, and what waits is not what is in force.
    if known.seen.in_force.is_none() || known.held.is_some() {
        return None;
    }
    let age = now.duration_since(fetch.whole_at?).as_secs();
    fetch.validators.clone().filter(|_| (0..CONDITIONAL_SECONDS).contains(&age))
}

/// Writes down what a look gave.
fn settle(
    app: &App,
    actor: &str,
    feed: Feed,
    known: &Before,
    looked: Result<Looked, fetch::Nowhere>,
) -> Result<Settled, Problem> {
    let name = feed.word();
    let source = &known.source.source;
    let next_at = source.next_look(now(), seed(name));
    let failures = known.fetch.as_ref().map_or(0, |f| f.failures).saturating_add(1);
    let again_at = |patience| source.next_try(now(), failures, patience, seed(name));
    let note = |change: &dyn Fn(&mut Tx<'_>) -> Result<(), StoreError>| {
        app.store.write::<_, Problem>(actor, now(), |tx| {
            known.seen.still(tx, name)?;
            Ok(change(tx)?)
        })?;
        app.events.tell("feed", name);
        Ok::<(), Problem>(())
    };
    let (place, whole) = match looked {
        Ok(Looked::NothingNew) => {
            let kept = known.fetch.as_ref().and_then(|f| f.validators.clone());
            note(&|tx| feed_sources::confirmed(tx, name, next_at, kept.as_ref(), false))?;
            return Ok(Settled::Confirmed);
        }
        Ok(Looked::Whole(place, whole)) => (place, whole),
        Err(nowhere) => {
            let next_at = again_at(nowhere.patience());
            let problem = nowhere.problem(name);
            note(&|tx| feed_sources::failed(tx, name, next_at, failures, &problem.message))?;
            return Err(problem);
        }
    };
    let Whole { bytes, origin, validators, date } = whole;
    let digest = Digest::of(&bytes);
    if known.seen.in_force.as_deref() == Some(&digest.to_string()) {
        note(&|tx| feed_sources::confirmed(tx, name, next_at, validators.as_ref(), true))?;
        return Ok(Settled::Confirmed);
    }
    if known.held == Some(digest) {
        // The same as waits already: nothing new to tell, and the person is not there yet.
        let held = app.store.read::<_, Problem>(|view| Ok(feed_sources::held(view)?))?;
        let reason = held.into_iter().find(|h| h.name == name).map(|h| h.reason);
        let reason = reason.unwrap_or_else(|| "it is held".to_owned());
        note(&|tx| feed_sources::failed(tx, name, next_at, 0, &reason))?;
        let hint = format!("look at it, then `fettle feed accept {name}`");
        return Err(Problem::new(ProblemKind::Refused, "feed-held", reason, hint));
    }
    let given = Given {
        feed,
        bytes: Cow::Owned(bytes),
        date: date.map_or_else(String::new, |date| date.to_string()),
        origin,
        force: false,
        way: Way::Fetched(Fetched {
            seen: known.seen.clone(),
            validators,
            next_at,
            otherwise: (failures, again_at(None)),
        }),
        confirmed_at: None,
    };
    match import(app, actor, vec![given]) {
        Ok(()) => Ok(Settled::Taken),
        Err(problem) if is_unusable(&problem) && place + 1 < source.urls.len() => {
            complain(
                &format!("{} gave no {name}", feed_sources::shown(&source.urls[place])),
                &problem,
            );
            Ok(Settled::Unusable(place))
        }
        Err(problem) => Err(problem),
    }
}

/// Was it refused for what it is, not for how much it changed?
fn is_unusable(problem: &Problem) -> bool {
    matches!(problem.code.as_str(), "bad-feed" | "feed-not-unpacked")
}

/// Spreads looks: another for each feed and each second.
fn seed(name: &str) -> u64 {
    let Digest(bytes) = Digest::of(format!("{name} {}", now().as_microsecond()).as_bytes());
    bytes.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Looks at every source now. What went wrong is noted beside each feed.
pub(crate) async fn sync_all(app: &Arc<App>, actor: &str) -> Result<(), Problem> {
    let sources = app.blocking(|app| app.store.read(feed_sources::sources).map_err(Problem::from));
    let mut looks = JoinSet::new();
    for record in sources.await? {
        let Ok(feed) = named(&record.name) else { continue };
        let (app, actor) = (app.clone(), actor.to_owned());
        looks.spawn(async move { sync(&app, actor, feed, When::Now).await });
    }
    // Each has told what it came to.
    while looks.join_next().await.is_some() {}
    Ok(())
}

/// Takes in what waits for a person's word.
pub(crate) fn accept(
    app: &App,
    actor: &str,
    feed: Feed,
    seen: Option<Digest>,
) -> Result<(), Problem> {
    let name = feed.word();
    let (held, body) = app.store.read::<_, Problem>(|view| {
        let held = feed_sources::held(view)?.into_iter().find(|h| h.name == name);
        Ok((held, feed_sources::held_body(view, name)?))
    })?;
    let (Some(held), Some((bytes, validators))) = (held, body) else {
        return Err(nothing_held(name));
    };
    same_held(held.digest, seen.unwrap_or(held.digest))?;
    let accepted = Accepted { digest: held.digest, validators, fetched_at: held.held_at };
    let given = Given {
        feed,
        bytes: Cow::Owned(bytes),
        date: held.date,
        origin: held.origin,
        force: true,
        way: Way::Accepted(accepted),
        confirmed_at: Some(held.held_at),
    };
    import(app, actor, vec![given])
}

/// Looks at each feed when its time has come.
pub(crate) async fn watch(app: Arc<App>) -> std::convert::Infallible {
    let mut looks: JoinSet<Feed> = JoinSet::new();
    let mut at_work: Vec<Feed> = Vec::new();
    loop {
        let due =
            app.blocking(|app| app.store.read::<_, Problem>(|v| Ok(feed_sources::fetches(v)?)));
        let mut pause = LOOK;
        match due.await {
            Ok(fetches) => {
                for fetch in fetches {
                    let Some(feed) = Feed::from_word(&fetch.name) else { continue };
                    if at_work.contains(&feed) {
                        continue;
                    }
                    let left = fetch.next_at.duration_since(now());
                    if left.is_positive() {
                        pause = pause.min(Duration::try_from(left).unwrap_or(LOOK));
                        continue;
                    }
                    at_work.push(feed);
                    let app = app.clone();
                    looks.spawn(async move {
                        look(&app, feed).await;
                        feed
                    });
                }
            }
            Err(problem) => complain("feeds are not looked after", &problem),
        }
        tokio::select! {
            () = tokio::time::sleep(pause.max(Duration::from_millis(50))) => {}
            () = app.watched.wake.notified() => {}
            Some(done) = looks.join_next() => match done {
                Ok(feed) => at_work.retain(|other| *other != feed),
                // Which one it was is not told: all that are at work still keep their turns.
                Err(_) => at_work.clear(),
            }
        }
    }
}

async fn look(app: &Arc<App>, feed: Feed) {
    match sync(app, "server".to_owned(), feed, When::Due).await {
        Ok(Synced::NotDue) => {}
        Ok(synced) => tracing::info!(feed = feed.word(), ?synced, "looked at a feed"),
        Err(problem) => {
            complain(&format!("{} is not taken", feed.word()), &problem);
            // Where even that could not be written down, the time to look has not moved.
            let noted = app.blocking(move |app| {
                let all = app.store.read::<_, Problem>(|v| Ok(feed_sources::fetches(v)?))?;
                Ok(all.into_iter().find(|f| f.name == feed.word()).map(|f| f.next_at))
            });
            if !matches!(noted.await, Ok(Some(next_at)) if next_at > now()) {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::feed::FeedSource;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn seen(in_force: Option<&[u8]>) -> Seen {
        Seen { in_force: in_force.map(|bytes| Digest::of(bytes).to_string()), added_at: at(0) }
    }

    fn known() -> Before {
        let validators = Validators {
            url: "https://a/".into(),
            etag: Some("\"1\"".into()),
            last_modified: None,
        };
        Before {
            source: SourceRecord {
                name: "kev".into(),
                source: FeedSource::at("https://a/"),
                added_at: at(0),
                added_by: "operator:alice".into(),
            },
            fetch: Some(FetchRecord {
                name: "kev".into(),
                tried_at: Some(at(0)),
                failures: 0,
                next_at: at(0),
                validators: Some(validators),
                whole_at: Some(at(0)),
            }),
            seen: seen(Some(b"x")),
            held: None,
        }
    }

    #[test]
    fn a_mirror_that_always_says_nothing_is_new_is_believed_for_a_day() {
        assert!(validators(&known(), at(CONDITIONAL_SECONDS - 1)).is_some());
        assert_eq!(validators(&known(), at(CONDITIONAL_SECONDS)), None);
        assert_eq!(validators(&known(), at(-1)), None, "the clock was set back");
    }

    #[test]
    fn nothing_new_is_asked_for_only_where_there_is_something_in_force_and_nothing_waits() {
        assert_eq!(validators(&Before { seen: seen(None), ..known() }, at(1)), None);
        assert_eq!(validators(&Before { held: Some(Digest::of(b"y")), ..known() }, at(1)), None);
        assert_eq!(validators(&Before { fetch: None, ..known() }, at(1)), None);
    }
}
