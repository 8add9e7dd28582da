//! Sessions of the web pages: a cookie with a random number, of which the store keeps the hash. So each can be listed, and
//! ended, one by one and all at once.

use crate::access::Who;
use crate::app::{App, now};
use crate::listener::Caller;
use crate::trust::{hex, random};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use fettle_core::login::{SESSION_LONGEST, Way, session_end};
use fettle_core::operator::{Operator, Standing};
use fettle_core::{Digest, Problem, Timestamp};
use fettle_store::sessions::Session;
use fettle_store::{Tx, View, accounts, operators, sessions};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// The cookie, where the page came by plain HTTP: from this very machine.
const PLAIN: &str = "fettle-session";
/// The cookie, where it came by TLS. Browsers take one of such a name only from the host itself, with `Secure` and for all
/// paths: no neighbour and no plain answer can plant it.
const SECURE: &str = "__Host-fettle-session";
/// A session's use is written down at most so often, in seconds.
const SEEN_EVERY: i64 = 60;

/// What a session remembers of the token it was begun with: it ends when there is another.
pub(crate) fn mark(token: &[u8]) -> String {
    mark_of(Digest::of(token))
}

/// As [`mark`], from the token's hash. Hashed once more, so that it is worth nothing elsewhere.
pub(crate) fn mark_of(hash: Digest) -> String {
    Digest::of(&hash.0).short()
}

/// As [`mark`], of a password.
pub(crate) fn mark_set(set_at: Timestamp) -> String {
    set_at.as_microsecond().to_string()
}

/// How a request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    /// From where, as far as can be told.
    pub(crate) address: String,
    /// The whole network that this address is of, as one is given it.
    pub(crate) network: String,
    /// From this machine, and through no proxy.
    pub(crate) local: bool,
    /// The browser spoke TLS.
    pub(crate) secure: bool,
    /// What the browser says that it is.
    browser: String,
}

impl Came {
    pub(crate) fn of(headers: &HeaderMap, caller: Option<Caller>) -> Self {
        let text = |name: &str| headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        let peer = caller.map(|Caller(address)| address.ip().to_canonical());
        // Only this machine can connect at all: whoever speaks for another is a proxy here, and the last word of the list
        // is the one that it added itself.
        let last = |name: &str| {
            let value = text(name).next_back()?.rsplit(',').next()?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let forwarded = last("x-forwarded-for");
        let named = forwarded.as_deref().and_then(|it| it.parse::<IpAddr>().ok()).or(peer);
        let proxied = forwarded.is_some()
            || headers.contains_key("forwarded")
            || headers.contains_key("x-forwarded-host");
        let https = last("x-forwarded-proto").is_some_and(|it| it.eq_ignore_ascii_case("https"));
        let origin = text("origin").next_back().is_some_and(|it| it.starts_with("https://"));
        let browser = text("user-agent").next_back().unwrap_or_default();
        Self {
            address: named.map_or_else(|| "unknown".to_owned(), |it| network(it, 4)),
            network: named.map_or_else(|| "unknown".to_owned(), |it| network(it, 3)),
            local: peer.is_some_and(|peer| peer.is_loopback()) && !proxied,
            secure: https || origin,
            browser: browser.chars().filter(|c| !c.is_control()).take(200).collect(),
        }
    }
}

/// Does the browser speak TLS, as far as its proxy and its cookies say?
pub(crate) fn is_secure(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all("x-forwarded-proto").iter().filter_map(|v| v.to_str().ok());
    let last = said.next_back().and_then(|it| it.rsplit(',').next()).unwrap_or_default();
    last.trim().eq_ignore_ascii_case("https") || value_of(headers, SECURE).is_some()
}

/// An address as tries are counted by it: of IPv6 everybody has at least 2^64, and whoever wants it 2^80; so many `parts`
/// of 16 bits are told apart.
fn network(address: IpAddr, parts: usize) -> String {
    match address.to_canonical() {
        IpAddr::V4(it) => it.to_string(),
        IpAddr::V6(it) if it.is_loopback() => it.to_string(),
        IpAddr::V6(it) => {
            let told: Vec<_> =
                it.segments().iter().take(parts).map(|part| format!("{part:x}")).collect();
            format!("{}::/{}", told.join(":"), 16 * parts)
        }
    }
}

impl FromRequestParts<Arc<App>> for Came {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, parts.extensions.get::<Caller>().copied()))
    }
}

/// A new session: the `Set-Cookie` value, and the row that makes it good.
pub(crate) fn fresh(
    came: &Came,
    principal: &str,
    way: Way,
    credential: String,
) -> Result<(String, Session), Problem> {
    let value = hex(&random::<32>()?);
    let (at, seconds) = (now(), SESSION_LONGEST.as_secs());
    let session = Session {
        id: Digest::of(value.as_bytes()),
        principal: principal.to_owned(),
        way,
        credential,
        secure: came.secure,
        began_at: at,
        seen_at: at,
        address: came.address.clone(),
        browser: came.browser.clone(),
    };
    let name = if came.secure { SECURE } else { PLAIN };
    Ok((cookie(name, &value, came.secure, seconds), session))
}

/// A `Set-Cookie` value.
pub(crate) fn cookie(name: &str, value: &str, secure: bool, seconds: i64) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// The `Set-Cookie` values that end a session in the browser.
pub(crate) fn gone(came: &Came) -> Vec<String> {
    let secure = came.secure.then(|| cookie(SECURE, "", true, 0));
    [cookie(PLAIN, "", false, 0)].into_iter().chain(secure).collect()
}

/// The answer with a cookie.
pub(crate) fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // Invariant: the cookie is hexadecimal digits, dots and attributes.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// The value of a cookie.
pub(crate) fn value_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    cookies.flat_map(|v| v.split(';')).find_map(|c| c.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The session that a request names, and whether by the cookie for TLS. That one counts where both come.
fn named(headers: &HeaderMap) -> Option<(Digest, bool)> {
    let secure = value_of(headers, SECURE).map(|value| (value, true));
    let (value, secure) = secure.or_else(|| value_of(headers, PLAIN).map(|v| (v, false)))?;
    (value.len() == 64).then(|| (Digest::of(value.as_bytes()), secure))
}

/// Who comes with this session; `None`: it is none, or one that has ended.
pub(crate) async fn by_session(
    app: &Arc<App>,
    headers: &HeaderMap,
) -> Result<Option<Who>, Problem> {
    let Some((id, secure)) = named(headers) else { return Ok(None) };
    let at = now();
    let found = app
        .blocking(move |app| {
            app.store.read::<_, Problem>(|view| {
                let Some(session) = sessions::get(view, id)? else { return Ok(None) };
                if session.secure != secure || session_end(session.began_at, session.seen_at) <= at
                {
                    return Ok(None);
                }
                let who = whose(app, view, &session, at)?;
                Ok(who.map(|who| (session, who)))
            })
        })
        .await?;
    let Some((session, who)) = found else { return Ok(None) };
    if at.duration_since(session.seen_at).as_secs() >= SEEN_EVERY {
        let seen = app.blocking(move |app| {
            app.store.write::<_, Problem>("server", now(), |tx| Ok(sessions::seen(tx, id)?))
        });
        // A full disk ends sessions early and keeps nobody from looking.
        if let Err(problem) = seen.await {
            tracing::warn!(code = problem.code, "a session's use is not written down: {problem}");
        }
    }
    Ok(Some(who))
}

/// Whose session it is, if what it was begun with is still good.
fn whose(
    app: &App,
    view: &View<'_>,
    session: &Session,
    at: Timestamp,
) -> Result<Option<Who>, Problem> {
    let name = &session.principal;
    let same = |mark: Option<String>| mark.as_ref() == Some(&session.credential);
    let operator = match session.way {
        Way::ServerToken if same(Some(mark(app.trust.operator_token.as_bytes()))) => {
            Some(Operator::bootstrap())
        }
        Way::Token if same(operators::token_hash(view, name)?.map(mark_of)) => {
            operators::with_token(view, name)?
        }
        Way::Password if same(accounts::password(view, name)?.map(|it| mark_set(it.set_at))) => {
            operators::get(view, name)?
        }
        Way::ServerToken | Way::Token | Way::Password => None,
    };
    let good = |it: &Operator| it.standing(at) == Standing::Good && it.disabled_since(at).is_none();
    let latest = session.began_at.checked_add(SESSION_LONGEST).unwrap_or(Timestamp::MAX);
    Ok(operator.filter(good).map(|it| {
        let until = it.expires_at.map_or(latest, |expires| expires.min(latest));
        Who { session: Some(session.id), until: Some(until), ..Who::is(it, session.way) }
    }))
}

/// Begins a session, unless what it is begun with has changed since it was looked at.
pub(crate) fn begin(app: &App, tx: &mut Tx<'_>, it: &Session) -> Result<(), Problem> {
    if whose(app, tx, it, tx.now())?.is_none() {
        let message = "what you came with was changed a moment ago";
        let hint = "log in again";
        let kind = fettle_core::ProblemKind::Conflict;
        return Err(Problem::new(kind, "changed-meanwhile", message, hint));
    }
    Ok(sessions::begin(tx, it)?)
}

/// Slows down whoever insists: so many times a minute, over all who try.
#[derive(Debug)]
pub(crate) struct Tries {
    a_minute: u32,
    tried: std::sync::Mutex<(i64, u32)>,
}

impl Tries {
    pub(crate) fn new(a_minute: u32) -> Self {
        Self { a_minute, tried: std::sync::Mutex::default() }
    }

    pub(crate) fn allow(&self) -> bool {
        self.allow_at(now().as_second() / 60)
    }

    fn allow_at(&self, minute: i64) -> bool {
        let mut tries = self.tried.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tries.0 != minute {
            *tries = (minute, 0);
        }
        tries.1 += 1;
        tries.1 <= self.a_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_insists_is_slowed_down_and_heard_again_the_next_minute() {
        let tries = Tries::new(20);
        assert_eq!((0..100).filter(|_| tries.allow_at(7)).count(), 20);
        assert!(tries.allow_at(8));
    }

    fn came(headers: &[(&'static str, &'static str)], from: &str) -> Came {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Came::of(&map, Some(Caller(from.parse().unwrap())))
    }

    #[test]
    fn a_proxy_says_for_whom_it_speaks_and_only_its_own_word_counts() {
        let here = "127.0.0.1:5000";
        let plain = came(&[], here);
        assert_eq!((plain.address.as_str(), plain.local, plain.secure), ("127.0.0.1", true, false));
        let it = came(
            &[("x-forwarded-for", "10.9.9.9, 192.0.2.7"), ("x-forwarded-proto", "https")],
            here,
        );
        assert_eq!((it.address.as_str(), it.local, it.secure), ("192.0.2.7", false, true));
        // Two neighbours in one network are counted as one.
        for one in ["2001:db8:1:2::5", "2001:db8:1:2:ffff::1"] {
            let it = came(&[("x-forwarded-for", one)], "[::1]:5000");
            assert_eq!(it.address, "2001:db8:1:2::/64");
            assert_eq!(it.network, "2001:db8:1::/48");
        }
        assert_eq!(came(&[("x-forwarded-for", "nonsense")], here).address, "127.0.0.1");
        assert!(came(&[("origin", "https://fettle.example.net")], here).secure);
        assert!(!came(&[("origin", "http://localhost")], here).secure);
    }

    #[test]
    fn by_tls_the_cookie_is_the_hosts_own_and_by_plain_http_it_says_nothing_it_cannot_keep() {
        let by = |secure| Came { secure, ..came(&[], "127.0.0.1:5000") };
        let (cookie, _) = fresh(&by(true), "alice", Way::Password, String::new()).unwrap();
        assert!(
            cookie.starts_with("__Host-fettle-session=") && cookie.ends_with("; Secure"),
            "{cookie}"
        );
        for attribute in ["Path=/", "HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Domain"));
        let (cookie, session) = fresh(&by(false), "alice", Way::Password, String::new()).unwrap();
        assert!(cookie.starts_with("fettle-session=") && !cookie.contains("Secure"), "{cookie}");
        let value = cookie.split([';', '=']).nth(1).unwrap();
        assert_eq!((value.len(), Digest::of(value.as_bytes())), (64, session.id));
    }
}
