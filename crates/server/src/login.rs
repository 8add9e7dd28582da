//! Logging in with a name and a password: slowed down where it fails again and again, the same for names that nobody has,
//! and never so that strangers keep somebody out.

use crate::access::disabled;
use crate::app::{App, now};
use crate::passwords;
use crate::session::{self, Came};
use crate::trust::{hex, random};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fettle_core::login::{
    FORGOTTEN, FREE_HERE, OF_ACCOUNT, OF_ADDRESS, OF_BROWSER, OF_NETWORK, Pace, Way, lately, wait,
};
use fettle_core::operator::check_name;
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_store::accounts::Password;
use fettle_store::sessions::Session;
use fettle_store::{accounts, operators};
use jiff::SignedDuration;
use ring::hmac;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The cookie that marks a browser in which somebody has logged in.
const KNOWN: &str = "fettle-known";
const KNOWN_SECURE: &str = "__Host-fettle-known";
/// A mark is good for so long, in seconds.
const KNOWN_FOR: i64 = 180 * 86_400;
/// Tries of one kind that are kept: more than any pace has free, and so many that more change nothing about the wait.
const KEPT: usize = OF_NETWORK.free + 16;
/// Where too many strangers are in before somebody, those are through by then, in seconds.
const QUEUE_LASTS: i64 = 5;
/// Accounts, addresses and browsers of which tries are kept.
const MOST: usize = 20_000;

/// What tries are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    /// Against an account, whoever tries.
    Account(String),
    /// Against an account from one network. Nobody waits for it: as long as it has few, nobody waits for the account either.
    Here(String, String),
    /// From an address.
    Address(String),
    /// From a whole network of addresses.
    Network(String),
    /// From all browsers that are known for this account.
    Browser(String),
    /// By all who have logged in to this account, and are asked once more.
    Asked(String),
}

impl Counted {
    fn pace(&self) -> Option<Pace> {
        match self {
            Self::Account(_) => Some(OF_ACCOUNT),
            Self::Here(..) => None,
            Self::Address(_) => Some(OF_ADDRESS),
            Self::Network(_) => Some(OF_NETWORK),
            Self::Browser(_) | Self::Asked(_) => Some(OF_BROWSER),
        }
    }

    /// From where somebody comes.
    pub(crate) fn from_where(came: &Came) -> Vec<Self> {
        let network = (came.network != came.address).then(|| Self::Network(came.network.clone()));
        [Self::Address(came.address.clone())].into_iter().chain(network).collect()
    }

    /// A try against an account by whom it does not know.
    fn by_stranger(name: &str, came: &Came) -> Vec<Self> {
        let mut by = Self::from_where(came);
        if !name.is_empty() {
            by.push(Self::Account(name.to_owned()));
            by.push(Self::Here(name.to_owned(), came.network.clone()));
        }
        by
    }
}

/// Tries that failed lately, in memory: a server that starts anew has seen none.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<Counted, Vec<Timestamp>>>);

impl Throttle {
    fn tries(&self) -> MutexGuard<'_, HashMap<Counted, Vec<Timestamp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May one more be tried? It counts as failed until somebody says otherwise, so that many at once are many.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn begin(&self, by: &[Counted], at: Timestamp) -> Result<(), SignedDuration> {
        let mut tries = self.tries();
        let few = |it: &Counted| tries.get(it).is_none_or(|failed| lately(failed, at) < FREE_HERE);
        let spared = by.iter().any(|it| matches!(it, Counted::Here(..)) && few(it));
        let asked = by.iter().filter(|it| !(spared && matches!(it, Counted::Account(_))));
        let left = asked.filter_map(|it| wait(it.pace()?, tries.get(it)?, at)).max();
        if let Some(left) = left {
            return Err(left);
        }
        for it in by {
            if tries.len() >= MOST && !tries.contains_key(it) {
                make_room(&mut tries, at);
            }
            let failed = tries.entry(it.clone()).or_default();
            failed.push(at);
            if failed.len() > KEPT {
                failed.remove(0);
            }
        }
        Ok(())
    }

    /// The try that began then was never judged: it is as if it had not been made.
    pub(crate) fn not_heard(&self, by: &[Counted], at: Timestamp) {
        let mut tries = self.tries();
        for it in by {
            let Some(failed) = tries.get_mut(it) else { continue };
            forget_one(failed, at);
            if failed.is_empty() {
                tries.remove(it);
            }
        }
    }

    /// The try that began then did not fail.
    pub(crate) fn succeeded(&self, by: &[Counted], at: Timestamp) {
        let mut tries = self.tries();
        for it in by {
            let Some(failed) = tries.get_mut(it) else { continue };
            match it {
                // Whoever knows one password may still be guessing another.
                Counted::Address(_) | Counted::Network(_) => forget_one(failed, at),
                Counted::Account(_)
                | Counted::Here(..)
                | Counted::Browser(_)
                | Counted::Asked(_) => failed.clear(),
            }
            if failed.is_empty() {
                tries.remove(it);
            }
        }
    }
}

fn forget_one(failed: &mut Vec<Timestamp>, at: Timestamp) {
    if let Some(this) = failed.iter().rposition(|one| *one == at) {
        failed.remove(this);
    }
}

/// What is forgotten anyway goes; else what was tried longest ago.
fn make_room(tries: &mut HashMap<Counted, Vec<Timestamp>>, at: Timestamp) {
    let since = at.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
    tries.retain(|_, failed| failed.last().is_some_and(|last| *last > since));
    if tries.len() >= MOST {
        let oldest = tries.iter().min_by_key(|(_, failed)| failed.last().copied());
        if let Some(oldest) = oldest.map(|(it, _)| it.clone()) {
            tries.remove(&oldest);
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(crate) enum Denied {
    /// Too many tries failed lately.
    Wait(SignedDuration),
    /// Anything else.
    Not(Problem),
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Not(problem)
    }
}

impl Denied {
    /// Seconds to wait, where that is what it is.
    pub(crate) fn seconds(&self) -> Option<i64> {
        match self {
            Self::Wait(left) => Some(left.as_secs() + i64::from(left.subsec_nanos() > 0)),
            Self::Not(problem) if problem.code == "too-many-tries" => Some(QUEUE_LASTS),
            Self::Not(_) => None,
        }
    }

    pub(crate) fn problem(self) -> Problem {
        let seconds = self.seconds().unwrap_or_default();
        match self {
            Self::Wait(_) => {
                let message =
                    format!("too many tries failed lately: the next is heard in {seconds} s");
                let hint = "wait that long and try again; who has forgotten the password asks an admin: `fettle account password NAME`";
                Problem::new(ProblemKind::Unavailable, "too-many-tries", message, hint)
            }
            Self::Not(problem) => problem,
        }
    }

    /// The answer, with when to come back.
    pub(crate) fn told(&self, response: Response) -> Response {
        come_back(self.seconds(), response)
    }
}

/// Adds to an answer in how many seconds to come back, where that is so.
fn come_back(seconds: Option<i64>, mut response: Response) -> Response {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let seconds = self.seconds();
        come_back(seconds, crate::api::Failure(self.problem()).into_response())
    }
}

fn wrong() -> Problem {
    let message = "name and password do not belong together";
    let hint = "try again; who has forgotten it asks an admin: `fettle account password NAME`";
    Problem::new(ProblemKind::Forbidden, "wrong-password", message, hint)
}

/// Somebody who is let in.
pub(crate) struct LetIn {
    /// The cookies of the answer.
    pub(crate) cookies: Vec<String>,
}

/// What an account's password was found to be.
struct Verified {
    password: Password,
    /// The same, hashed anew: it was hashed with other parameters.
    anew: Option<String>,
}

/// The password of a name, as it is kept; of a name that nobody has, none.
async fn kept_of(app: &Arc<App>, name: &str) -> Result<Option<Password>, Problem> {
    let asked = name.to_owned();
    app.blocking(move |app| {
        app.store.read::<_, Problem>(|view| Ok(accounts::password(view, &asked)?))
    })
    .await
}

/// Verifies a password, which takes as long where there is none to verify it by. A try that could not be judged is not
/// counted. Strangers wait for each other, and nobody who is known waits for them.
async fn verify(
    app: &Arc<App>,
    kept: Option<Password>,
    given: String,
    by: &[Counted],
    at: Timestamp,
) -> Result<Option<Verified>, Problem> {
    let known = by.iter().any(|it| matches!(it, Counted::Browser(_) | Counted::Asked(_)));
    let work = move || {
        let good = passwords::verify(kept.as_ref().map(|it| it.phc.as_str()), &given)?;
        let Some(password) = kept.filter(|_| good) else { return Ok(None) };
        let anew = passwords::is_outdated(&password.phc).then(|| passwords::hash(&given));
        Ok(Some(Verified { password, anew: anew.transpose()? }))
    };
    let verified =
        if known { app.hashing(work).await } else { app.hashing_for_strangers(work).await };
    verified.inspect_err(|_| app.throttle.not_heard(by, at))
}

/// Lets somebody in by name and password.
pub(crate) async fn by_password(
    app: &Arc<App>,
    came: &Came,
    headers: &HeaderMap,
    name: &str,
    given: String,
) -> Result<LetIn, Denied> {
    // What cannot be a name is looked up like one, and not kept as one: people type passwords into the wrong field.
    let name = name.trim().to_ascii_lowercase();
    let name = if check_name(&name).is_ok() { name } else { String::new() };
    let kept = kept_of(app, &name).await?;
    let known = kept.as_ref().is_some_and(|it| is_known(app, headers, &name, it.set_at));
    let by = match known {
        true => vec![Counted::Browser(name.clone())],
        false => Counted::by_stranger(&name, came),
    };
    let at = now();
    app.throttle.begin(&by, at).map_err(Denied::Wait)?;
    let Some(Verified { password, anew }) = verify(app, kept, given, &by, at).await? else {
        // Beside the answer: that something is written down for names that are there must not be told by the time.
        tokio::spawn(note(app.clone(), came.address.clone(), name));
        return Err(wrong().into());
    };
    app.throttle.succeeded(&by, at);
    let (cookie, session) =
        session::fresh(came, &name, Way::Password, session::mark_set(password.set_at))?;
    let mark = mark(app, came.secure, &name, password.set_at)?;
    app.blocking(move |app| {
        app.store.write::<_, Problem>(&format!("operator:{name}"), at, |tx| {
            let person = operators::get(tx, &name)?;
            if let Some(since) = person.and_then(|person| person.disabled_since(at)) {
                return Err(disabled(&name, since));
            }
            if let Some(anew) = anew {
                accounts::rehashed(tx, &name, &password, &anew)?;
            }
            session::begin(app, tx, &session)
        })
    })
    .await?;
    Ok(LetIn { cookies: vec![cookie, mark] })
}

/// Lets somebody in who has shown a token.
pub(crate) async fn by_token(
    app: &Arc<App>,
    came: &Came,
    who: &crate::access::Who,
    token: &[u8],
) -> Result<LetIn, Denied> {
    let (cookie, session) = session::fresh(came, &who.principal, who.way, session::mark(token))?;
    begin(app, session).await?;
    // The browser is not marked as known: a token that leaked would leave a mark that outlives it.
    Ok(LetIn { cookies: vec![cookie] })
}

/// Begins a session.
pub(crate) async fn begin(app: &Arc<App>, session: Session) -> Result<(), Problem> {
    app.blocking(move |app| {
        let actor = format!("operator:{}", session.principal);
        app.store.write::<_, Problem>(&actor, now(), |tx| session::begin(app, tx, &session))
    })
    .await
}

/// Verifies the password of somebody who is logged in, and is to show that it is them. No stranger can make these tries; they
/// are counted by the account, since who found a token begins as many sessions as they like.
pub(crate) async fn still_them(
    app: &Arc<App>,
    name: &str,
    given: String,
) -> Result<Password, Denied> {
    let (at, by) = (now(), [Counted::Asked(name.to_owned())]);
    app.throttle.begin(&by, at).map_err(Denied::Wait)?;
    let kept = kept_of(app, name).await?;
    let Some(verified) = verify(app, kept, given, &by, at).await? else {
        return Err(wrong().into());
    };
    app.throttle.succeeded(&by, at);
    Ok(verified.password)
}

/// Writes down that somebody did not get into an account that is there. A name that nobody has is not kept: it may be a
/// password in the wrong field.
async fn note(app: Arc<App>, address: String, name: String) {
    tracing::warn!(address, "a log-in was refused");
    if name.is_empty() {
        return;
    }
    let noted = app.blocking(move |app| {
        let there =
            app.store.read::<_, Problem>(|view| Ok(operators::get(view, &name)?.is_some()))?;
        // Made-up names spend nothing, so that they keep nothing out.
        if !there || !app.refused_log_ins.allow() {
            return Ok(());
        }
        app.store.write::<_, Problem>("server", now(), |tx| {
            tx.record("session.refused", &name, serde_json::json!({ "address": address }));
            Ok(())
        })
    });
    if let Err(error) = noted.await {
        tracing::error!(code = error.code, "a refusal is not in the ledger: {error}");
    }
}

fn tag(app: &App, nonce: &str, name: &str, set_at: Timestamp) -> hmac::Tag {
    let of = session::mark_set(set_at);
    hmac::sign(&app.trust.session_key, format!("known.{nonce}.{of}.{name}").as_bytes())
}

/// The `Set-Cookie` value that marks a browser as one in which this account was logged in by this very password.
fn mark(app: &App, secure: bool, name: &str, set_at: Timestamp) -> Result<String, Problem> {
    let nonce = hex(&random::<16>()?);
    let value = format!("{nonce}.{}", hex(tag(app, &nonce, name, set_at).as_ref()));
    let cookie = if secure { KNOWN_SECURE } else { KNOWN };
    Ok(session::cookie(cookie, &value, secure, KNOWN_FOR))
}

/// Does the browser have a mark for this account, by the password that it has now?
fn is_known(app: &App, headers: &HeaderMap, name: &str, set_at: Timestamp) -> bool {
    let value = [KNOWN_SECURE, KNOWN].iter().find_map(|it| session::value_of(headers, it));
    value.and_then(|value| value.split_once('.')).is_some_and(|(nonce, signed)| {
        let good = hex(tag(app, nonce, name, set_at).as_ref());
        nonce.len() == 32 && crate::trust::same_secret(good.as_bytes(), signed.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn account(name: &str) -> Counted {
        Counted::Account(name.to_owned())
    }

    #[test]
    fn whoever_fails_waits_and_who_gets_in_begins_anew() {
        let throttle = Throttle::default();
        let alice = [account("alice"), Counted::Address("192.0.2.1".into())];
        for _ in 0..5 {
            assert_eq!(throttle.begin(&alice, at(0)), Ok(()));
        }
        assert_eq!(throttle.begin(&alice, at(0)), Err(SignedDuration::from_secs(1)));
        // A try that was not heard does not count.
        assert_eq!(throttle.begin(&alice, at(1)), Ok(()));
        throttle.succeeded(&alice, at(1));
        assert_eq!(throttle.begin(&alice, at(1)), Ok(()));
    }

    #[test]
    fn strangers_do_not_slow_down_a_browser_that_is_known() {
        let throttle = Throttle::default();
        for second in 0..600 {
            let _ = throttle
                .begin(&[account("alice"), Counted::Address("192.0.2.1".into())], at(second));
        }
        assert!(throttle.begin(&[account("alice")], at(600)).is_err());
        assert_eq!(throttle.begin(&[Counted::Browser("hers".into())], at(600)), Ok(()));
        assert_eq!(
            throttle.begin(&[account("bob"), Counted::Address("192.0.2.2".into())], at(600)),
            Ok(())
        );
    }

    #[test]
    fn one_address_that_tries_many_names_waits_and_its_own_success_hides_nothing() {
        let throttle = Throttle::default();
        let from =
            |name: usize| [account(&format!("a{name}")), Counted::Address("192.0.2.1".into())];
        for name in 0..19 {
            assert_eq!(throttle.begin(&from(name), at(0)), Ok(()));
        }
        assert_eq!(throttle.begin(&from(99), at(0)), Ok(()));
        throttle.succeeded(&from(99), at(0));
        assert_eq!(throttle.begin(&from(20), at(0)), Ok(()));
        assert!(throttle.begin(&from(21), at(0)).is_err());
    }

    #[test]
    fn a_network_has_some_tries_of_its_own_whatever_others_spent() {
        let throttle = Throttle::default();
        let from = |n: usize| {
            let network = format!("192.0.2.{n}");
            [
                account("alice"),
                Counted::Address(network.clone()),
                Counted::Here("alice".into(), network),
            ]
        };
        for n in 0..40 {
            let _ = throttle.begin(&from(n % 4), at(0));
        }
        assert!(throttle.begin(&from(0), at(0)).is_err());
        for _ in 0..FREE_HERE {
            assert_eq!(throttle.begin(&from(9), at(1)), Ok(()));
        }
        assert!(throttle.begin(&from(9), at(1)).is_err(), "then it waits as everybody does");
    }

    #[test]
    fn a_try_that_nobody_judged_is_not_counted() {
        let throttle = Throttle::default();
        let alice = [
            account("alice"),
            Counted::Address("2001:db8:1:2::/64".into()),
            Counted::Network("2001:db8:1::/48".into()),
        ];
        for _ in 0..100 {
            assert_eq!(throttle.begin(&alice, at(0)), Ok(()));
            throttle.not_heard(&alice, at(0));
        }
        assert!(throttle.tries().is_empty());
    }

    #[test]
    fn one_network_of_many_addresses_waits_in_the_end() {
        let throttle = Throttle::default();
        let heard = (0..1000).filter(|n| {
            let by = [
                account(&n.to_string()),
                Counted::Address(n.to_string()),
                Counted::Network("2001:db8:1::/48".into()),
            ];
            throttle.begin(&by, at(0)).is_ok()
        });
        assert_eq!(heard.count(), 100);
    }

    #[test]
    fn a_flood_of_names_fills_no_memory() {
        let throttle = Throttle::default();
        for n in 0..MOST + 50 {
            throttle.begin(&[account(&n.to_string())], at(0)).unwrap();
        }
        assert_eq!(throttle.tries().len(), MOST);
        throttle.begin(&[account("late")], at(1000)).unwrap();
        assert_eq!(throttle.tries().len(), 1);
    }
}
