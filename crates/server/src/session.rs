//! Sessions of the web pages: a cookie the server signed, nothing kept.

use crate::app::{App, now};
use crate::trust::{hex, random};
use axum::http::{HeaderMap, header};
use fettle_core::{Digest, Problem};
use ring::hmac;

const COOKIE: &str = "fettle-session";
/// A session lasts a working day.
const SECONDS: i64 = 12 * 3600;

/// What the cookie says, before its signature.
fn claim(expires: i64, nonce: &str, token: &str, principal: &str) -> String {
    format!("{expires}.{nonce}.{token}.{principal}")
}

/// What a session remembers of the token it was begun with: it ends when there is another.
pub(crate) fn mark(token: &[u8]) -> String {
    mark_of(Digest::of(token))
}

/// As [`mark`], from the token's hash. Hashed once more: what is kept of a token does not leave the server.
pub(crate) fn mark_of(hash: Digest) -> String {
    Digest::of(&hash.0).short()
}

/// The `Set-Cookie` value of a new session of `principal`, who came with this token.
pub(crate) fn begin(app: &App, principal: &str, token: &[u8]) -> Result<String, Problem> {
    let expires = now().as_second() + SECONDS;
    let (nonce, token) = (hex(&random::<16>()?), mark(token));
    let claim = claim(expires, &nonce, &token, principal);
    let tag = hmac::sign(&app.trust.session_key, claim.as_bytes());
    let value = format!("{expires}.{nonce}.{}.{token}.{principal}", hex(tag.as_ref()));
    Ok(format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SECONDS}"))
}

/// The `Set-Cookie` value that ends a session in the browser.
pub(crate) fn end() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// What a session's cookie says, and this server signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// Whose session it is. Whether they still may anything is not in the cookie.
    pub(crate) principal: String,
    /// The [`mark`] of the token it was begun with.
    pub(crate) token: String,
}

/// The session of this request; `None`: it has none.
pub(crate) fn of(app: &App, headers: &HeaderMap) -> Option<Claimed> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let value = cookies
        .flat_map(|v| v.split(';'))
        .find_map(|c| c.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    // The name comes last: it may have dots in it.
    let mut parts = value.splitn(5, '.');
    let (expires, nonce, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let (token, principal) = (parts.next()?, parts.next()?);
    let expires: i64 = expires.parse().ok()?;
    let tag = unhex(tag)?;
    let claim = claim(expires, nonce, token, principal);
    hmac::verify(&app.trust.session_key, claim.as_bytes(), &tag).ok()?;
    (now().as_second() < expires)
        .then(|| Claimed { principal: principal.to_owned(), token: token.to_owned() })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2)
        || text.len() > 256
        || !text.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Slows down whoever guesses or insists: so many times a minute, over all who try.
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
    fn whoever_guesses_is_slowed_down_and_let_in_again_the_next_minute() {
        let tries = Tries::new(20);
        assert_eq!((0..100).filter(|_| tries.allow_at(7)).count(), 20);
        assert!(tries.allow_at(8));
    }

    #[test]
    fn odd_hexadecimal_is_no_signature() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        for bad in ["0", "zz", "é0", "+1"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
