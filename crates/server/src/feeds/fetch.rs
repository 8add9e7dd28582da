//! One look at a feed's addresses: the first that gives it, in order. Bounded in every direction, because a vendor's
//! machine may do anything: say nothing, say it byte by byte, never end, or send somebody else's address.

mod connect;
mod exchange;
mod file;
mod proxy;
pub(crate) mod roots;

use fettle_core::feed::{FeedAddress, FeedSource};
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_store::feed_sources::Validators;
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long, how slow and how far.
#[derive(Debug, Clone)]
pub struct FeedFetching {
    /// Looking up a name, connecting to one address of it, and TLS take at most this each; all of it, with all
    /// addresses, three times as long.
    pub connect: Duration,
    /// The head of an answer comes within this.
    pub head: Duration,
    /// Between two pieces of a body passes at most this.
    pub silent: Duration,
    /// One address is given at most this, redirects and all.
    pub whole: Duration,
    /// After this the body must have come at [`FeedFetching::slowest`] on average.
    pub grace: Duration,
    /// Bytes a second.
    pub slowest: u64,
    /// Redirects that are followed.
    pub redirects: u32,
    /// Proxy variables by name, in lower case: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.
    pub proxies: BTreeMap<String, String>,
}

impl Default for FeedFetching {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            silent: Duration::from_secs(30),
            whole: Duration::from_secs(300),
            grace: Duration::from_secs(30),
            slowest: 4 << 10,
            redirects: 5,
            proxies: proxy::environment(),
        }
    }
}

/// Why an address did not give the feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Address(String),
    #[error("nothing answers: {0}")]
    Unreachable(String),
    #[error("no connection within {0} s")]
    ConnectLate(u64),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("no answer within {0} s")]
    HeadLate(u64),
    #[error("it fell silent for {seconds} s after {bytes} bytes")]
    Silent { seconds: u64, bytes: u64 },
    #[error("it is too slow: {bytes} bytes in {seconds} s")]
    TooSlow { seconds: u64, bytes: u64 },
    #[error("it was not there after {0} s")]
    TooLong(u64),
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    #[error("it is cut off after {bytes} bytes: {why}")]
    CutOff { bytes: u64, why: String },
    #[error("HTTP status {status}")]
    Status {
        status: u16,
        /// `Retry-After`, in seconds.
        patience: Option<u64>,
    },
    #[error("it says that nothing is new, and was not asked so")]
    NothingNewUnasked,
    #[error("it is a web page (HTML), not a feed: the page of a login, or of an error")]
    WebPage,
    #[error("it redirects to {0}, another host: allow it with --redirect-to HOST if it is right")]
    OtherHost(String),
    #[error("it redirects to {0}, without TLS")]
    LessSecure(String),
    #[error("it leads to {0}, an address of this network")]
    Private(String),
    #[error("it redirects more than {0} times")]
    RedirectLoop(u32),
    #[error("it redirects to nowhere: {0}")]
    NoLocation(String),
    #[error("its digest is {found}, beside it stands {told}")]
    OtherDigest { found: String, told: String },
    #[error("beside it is no digest: {0}")]
    NoDigest(String),
    #[error("{0}")]
    File(String),
    #[error("proxy {proxy}: {why}")]
    Proxy { proxy: String, why: String },
}

/// What one look gave, at the addresses it came to.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The vendor says that what is in force is the newest.
    NothingNew,
    /// All of it, from the address of that place.
    Whole(usize, Whole),
}

/// A feed as it was fetched.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    /// As people may see it.
    pub(crate) origin: String,
    pub(crate) validators: Option<Validators>,
    /// `Last-Modified`.
    pub(crate) date: Option<Date>,
}

/// No address gave it.
#[derive(Debug)]
pub(crate) struct Nowhere {
    /// Address, as people may see it, and why not; in the order in which they were asked.
    pub(crate) tried: Vec<(String, FetchError)>,
}

impl Nowhere {
    /// The least patience that all who asked for some ask for. `None`: one of them may be asked again sooner.
    pub(crate) fn patience(&self) -> Option<u64> {
        let each = self.tried.iter().map(|(_, error)| match error {
            FetchError::Status { patience, .. } => *patience,
            _ => None,
        });
        each.collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    pub(crate) fn problem(&self, name: &str) -> Problem {
        let each: Vec<String> =
            self.tried.iter().map(|(url, error)| format!("{url}: {error}")).collect();
        Problem::new(
            ProblemKind::Unavailable,
            "feed-not-fetched",
            format!("{name} could not be fetched: {}", each.join("; ")),
            "the one before stays in force; `fettle feed list` says when the next look is",
        )
    }
}

/// Looks at each address in turn, from the one of that place on, until one gives the feed. `known`: of what is in force, where "nothing is new" would
/// be believed.
pub(crate) async fn look(
    limits: &FeedFetching,
    name: &str,
    source: &FeedSource,
    known: Option<&Validators>,
    from: usize,
) -> Result<Looked, Nowhere> {
    let mut tried = Vec::new();
    for (place, url) in source.urls.iter().enumerate().skip(from) {
        let address = match FeedAddress::parse(url) {
            Ok(address) => address,
            Err(error) => {
                tried.push((error.to_string(), FetchError::Address(error.hint().to_owned())));
                continue;
            }
        };
        let known = known.filter(|known| known.url == *url);
        let one = one(limits, name, source, url, &address, known);
        let looked = match tokio::time::timeout(limits.whole, one).await {
            Ok(looked) => looked,
            Err(_) => Err(FetchError::TooLong(limits.whole.as_secs())),
        };
        match looked {
            Ok(None) => return Ok(Looked::NothingNew),
            Ok(Some(whole)) => return Ok(Looked::Whole(place, whole)),
            Err(error) => {
                tracing::warn!(feed = name, from = %address, %error, "a feed is not fetched");
                tried.push((address.to_string(), error));
            }
        }
    }
    Err(Nowhere { tried })
}

async fn one(
    limits: &FeedFetching,
    name: &str,
    source: &FeedSource,
    url: &str,
    address: &FeedAddress,
    known: Option<&Validators>,
) -> Result<Option<Whole>, FetchError> {
    let answer = match address {
        FeedAddress::File { path } => {
            file::read(name.to_owned(), path.clone(), source.max_bytes, known.cloned()).await?
        }
        FeedAddress::Http { .. } => {
            let ways = exchange::Ways::new(limits, source).await?;
            exchange::get(&ways, address, known, source.max_bytes).await?
        }
    };
    let Some(answer) = answer else { return Ok(None) };
    if is_web_page(&answer.bytes) {
        return Err(FetchError::WebPage);
    }
    if source.sha256 {
        let told = digest_beside(limits, source, address, answer.path.as_deref()).await?;
        let found = Digest::of(&answer.bytes);
        if found != told {
            return Err(FetchError::OtherDigest { found: found.hex(), told: told.hex() });
        }
    }
    let validators =
        (answer.etag.is_some() || answer.last_modified.is_some()).then(|| Validators {
            url: url.to_owned(),
            etag: answer.etag.clone(),
            last_modified: answer.last_modified.clone(),
        });
    let origin = answer.path.map_or_else(|| address.to_string(), |path| format!("file://{path}"));
    let date = answer.last_modified.as_deref().and_then(exchange::day);
    Ok(Some(Whole { bytes: answer.bytes, origin, validators, date }))
}

/// What an address gave.
struct Answer {
    bytes: Vec<u8>,
    etag: Option<String>,
    last_modified: Option<String>,
    /// The very file, where the address was a directory's.
    path: Option<String>,
}

/// Login pages and captive portals answer 200 to everything.
fn is_web_page(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let starts =
        |with: &[u8]| start.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    starts(b"<!doctype html") || starts(b"<html")
}

/// Text beside a feed is no longer than this, in bytes.
const MAX_BESIDE: u64 = 4096;

/// The digest in the file beside: 64 hexadecimal digits, alone or as `sha256sum(1)` writes them.
async fn digest_beside(
    limits: &FeedFetching,
    source: &FeedSource,
    address: &FeedAddress,
    path: Option<&str>,
) -> Result<Digest, FetchError> {
    let lacking = |why: &dyn std::fmt::Display| FetchError::NoDigest(why.to_string());
    let beside = match path {
        Some(path) => FeedAddress::File { path: path.to_owned() }.beside(".sha256"),
        None => address.beside(".sha256"),
    };
    let answer = match &beside {
        FeedAddress::File { path } => {
            file::read(String::new(), path.clone(), MAX_BESIDE, None).await
        }
        FeedAddress::Http { .. } => {
            let ways = exchange::Ways::new(limits, source).await?;
            exchange::get(&ways, &beside, None, MAX_BESIDE).await
        }
    };
    let answer = answer.map_err(|e| lacking(&format!("{beside}: {e}")))?;
    let bytes = answer.map(|a| a.bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(|e| lacking(&format!("{beside}: {e}")))
}
