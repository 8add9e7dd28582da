//! HTTP/1.1: one question, its redirects, one answer within bounds.

use super::connect::{Place, Reach, connect};
use super::{Answer, FeedFetching, FetchError, proxy, roots};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fettle_core::feed::{FeedAddress, FeedSource};
use fettle_store::feed_sources::Validators;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::civil::Date;
use rustls::ClientConfig;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// By which ways a source is reached.
pub(super) struct Ways<'a> {
    limits: &'a FeedFetching,
    source: &'a FeedSource,
    tls: Arc<ClientConfig>,
    /// `Authorization`, marked as secret.
    authorization: Option<HeaderValue>,
}

impl<'a> Ways<'a> {
    /// Reads the files that the source names.
    pub(super) async fn new(
        limits: &'a FeedFetching,
        source: &'a FeedSource,
    ) -> Result<Self, FetchError> {
        let (ca, credentials) = (source.ca_file.clone(), source.credentials_file.clone());
        let read = tokio::task::spawn_blocking(move || {
            let authorization = credentials.map(|file| credentials_of(&file)).transpose()?;
            Ok((roots::tls(ca.as_deref())?, authorization))
        });
        let read = read.await.unwrap_or_else(|e| Err(FetchError::File(e.to_string())));
        let (tls, authorization) = read?;
        Ok(Self { limits, source, tls, authorization })
    }
}

/// `USER:PASSWORD` as Basic (RFC 7617), anything without a colon as a bearer token (RFC 6750).
fn credentials_of(file: &str) -> Result<HeaderValue, FetchError> {
    let cannot = |why: &dyn std::fmt::Display| {
        FetchError::File(format!("the credentials in {file} cannot be used: {why}"))
    };
    let text = std::fs::read_to_string(file).map_err(|e| cannot(&e))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(cannot(&"there are none"));
    }
    let value = match text.contains(':') {
        true => format!("Basic {}", BASE64.encode(text)),
        false => format!("Bearer {text}"),
    };
    // Its error does not repeat the value.
    let mut value = HeaderValue::from_str(&value).map_err(|e| cannot(&e))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks for an address and follows where it leads, as far as it may. `None`: nothing is new.
pub(super) async fn get(
    ways: &Ways<'_>,
    address: &FeedAddress,
    known: Option<&Validators>,
    most: u64,
) -> Result<Option<Answer>, FetchError> {
    let mut at = address.clone();
    let mut reach = Reach::Any;
    for _ in 0..=ways.limits.redirects {
        let (found, mut driver, response) = ask(ways, address, &at, &reach, known).await?;
        let status = response.status().as_u16();
        match status {
            200 => {
                let answer = whole(ways.limits, response, most).await;
                driver.shutdown().await;
                return answer.map(Some);
            }
            304 if known.is_some() => return Ok(None),
            304 => return Err(FetchError::NothingNewUnasked),
            301 | 302 | 303 | 307 | 308 => {
                let location = text(response.headers(), header::LOCATION);
                let location =
                    location.ok_or_else(|| FetchError::NoLocation("no Location".to_owned()))?;
                let next = at.join(&location).map_err(|e| FetchError::NoLocation(e.to_string()))?;
                reach = may_follow(ways, address, &at, &next, reach.within_host(found))?;
                at = next;
            }
            status => {
                let patience = patience(response.headers());
                return Err(FetchError::Status { status, patience });
            }
        }
    }
    Err(FetchError::RedirectLoop(ways.limits.redirects))
}

/// May a redirect be followed, and which addresses may it lead to? `within_host`: where it stays on the host it is from.
fn may_follow(
    ways: &Ways<'_>,
    first: &FeedAddress,
    from: &FeedAddress,
    to: &FeedAddress,
    within_host: Reach,
) -> Result<Reach, FetchError> {
    let (FeedAddress::Http { tls: was, .. }, FeedAddress::Http { tls: is, host, port, .. }) =
        (from, to)
    else {
        return Err(FetchError::NoLocation(to.to_string()));
    };
    if *was && !*is {
        return Err(FetchError::LessSecure(to.to_string()));
    }
    let same = to.authority() == from.authority() && was == is;
    let secured = host_of(from) == Some(host) && !*was && *is && *port == 443;
    if same || secured {
        return Ok(within_host);
    }
    let named = |h: &String| h.eq_ignore_ascii_case(host);
    let allowed = host_of(first) == Some(host) || ways.source.redirect_hosts.iter().any(named);
    if allowed { Ok(Reach::Public) } else { Err(FetchError::OtherHost(to.authority())) }
}

fn host_of(address: &FeedAddress) -> Option<&String> {
    match address {
        FeedAddress::Http { host, .. } => Some(host),
        FeedAddress::File { .. } => None,
    }
}

type Asked = (Option<IpAddr>, JoinSet<()>, Response<Incoming>);

/// One request, up to the head of its answer. The connection lives as long as the set that drives it.
async fn ask(
    ways: &Ways<'_>,
    first: &FeedAddress,
    at: &FeedAddress,
    reach: &Reach,
    known: Option<&Validators>,
) -> Result<Asked, FetchError> {
    let FeedAddress::Http { tls, host, port, target } = at else {
        return Err(FetchError::NoLocation(at.to_string()));
    };
    let place = Place { tls: *tls, host, port: *port };
    let proxy = proxy::for_host(&ways.limits.proxies, *tls, host)?;
    let (stream, found) = connect(ways.limits, &place, reach, proxy.as_ref(), &ways.tls).await?;
    let late = || FetchError::HeadLate(ways.limits.head.as_secs());
    let asked = async {
        let lost = |e: hyper::Error| FetchError::Unreachable(broken(&e));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // How it ended, the answer's body says.
            let _ = connection.await;
        });
        // A proxy that is asked and not tunnelled through gets the whole address.
        let uri = match &proxy {
            Some(_) if !*tls => format!("http://{}{target}", at.authority()),
            _ => target.clone(),
        };
        let mut request = Request::get(uri)
            .header(header::HOST, at.authority())
            .header(header::USER_AGENT, concat!("fettle/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        // Unpacked it is what it says it is; a digest beside it is of the file as it stands.
        let packed = if ways.source.sha256 { "identity" } else { "gzip, identity" };
        request = request.header(header::ACCEPT_ENCODING, packed);
        if let Some(known) = known {
            for (name, value) in [
                (header::IF_NONE_MATCH, &known.etag),
                (header::IF_MODIFIED_SINCE, &known.last_modified),
            ] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
        }
        if let Some(value) =
            ways.authorization.as_ref().filter(|_| at.authority() == first.authority())
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(value) = proxy.as_ref().filter(|_| !*tls).and_then(|p| p.authorization.as_ref())
        {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|e| FetchError::Address(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok((driver, response))
    };
    let asked = tokio::time::timeout(ways.limits.head, asked).await.map_err(|_| late())?;
    let (driver, response) = asked?;
    Ok((found, driver, response))
}

/// What hyper says, with what is behind it.
fn broken(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
    }
}

/// The body, as long as it comes steadily and stays within `most` bytes.
async fn whole(
    limits: &FeedFetching,
    response: Response<Incoming>,
    most: u64,
) -> Result<Answer, FetchError> {
    let headers = response.headers();
    let etag = text(headers, header::ETAG).filter(|etag| etag.len() <= 512);
    let last_modified = text(headers, header::LAST_MODIFIED).filter(|at| at.len() <= 64);
    let told = text(headers, header::CONTENT_LENGTH).and_then(|n| n.parse::<u64>().ok());
    if told.is_some_and(|told| told > most) {
        return Err(FetchError::TooLarge(most));
    }
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    let begun = Instant::now();
    loop {
        let got = bytes.len() as u64;
        let frame = tokio::time::timeout(limits.silent, body.frame()).await;
        let frame = frame
            .map_err(|_| FetchError::Silent { seconds: limits.silent.as_secs(), bytes: got })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| FetchError::CutOff { bytes: got, why: broken(&e) })?;
        let Ok(data) = frame.into_data() else { continue };
        if got + data.len() as u64 > most {
            return Err(FetchError::TooLarge(most));
        }
        bytes.extend_from_slice(&data);
        let took = begun.elapsed();
        let least = took.as_millis() * u128::from(limits.slowest) / 1000;
        if took > limits.grace && (bytes.len() as u128) < least {
            return Err(FetchError::TooSlow { seconds: took.as_secs(), bytes: bytes.len() as u64 });
        }
    }
    Ok(Answer { bytes, etag, last_modified, path: None })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn patience(headers: &HeaderMap) -> Option<u64> {
    let text = text(headers, header::RETRY_AFTER)?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let until = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    u64::try_from(until.duration_since(crate::app::now()).as_secs()).ok()
}

/// The day of a date as HTTP writes it (RFC 9110, section 5.6.7).
pub(super) fn day(text: &str) -> Option<Date> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date())
}
