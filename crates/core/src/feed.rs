//! Where a feed is fetched from, when again, and how old what is in force may become. Pure: the server does the
//! fetching, and tells what came of it.

mod address;
mod standing;

pub use address::{AddressError, FeedAddress, embedded, is_public};
pub use standing::{FeedStanding, Upkeep};

use crate::{Problem, ProblemKind, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Mirrors of one feed at most.
pub const MAX_URLS: usize = 8;
/// Largest feed that is fetched where nothing else is said, in bytes.
pub const MAX_BYTES: u64 = 128 << 20;
/// A feed that nobody fetches is stale when its data are older than this, in seconds: somebody should get it again.
pub const STALE_AFTER_SECONDS: u64 = 7 * 86_400;
/// "Not modified" is believed for so long; then the whole feed is fetched once more. A mirror that always says so would
/// otherwise hide every change.
pub const CONDITIONAL_SECONDS: i64 = 86_400;
/// A vendor that asks for patience (`Retry-After`) is given at most this, in seconds.
const MAX_PATIENCE: u64 = 86_400;
/// First pause after a failure, in seconds. It doubles with each further one, up to the feed's interval.
const FIRST_PAUSE: u64 = 60;

/// Where a feed comes from, and how often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedSource {
    /// Addresses of the same feed, tried in this order: `https://…`, `http://…`, `file:///…`.
    pub urls: Vec<String>,
    /// Seconds between two looks; a tenth of it is spread.
    #[serde(default = "hour")]
    pub every_seconds: u64,
    /// What is in force and was not confirmed for longer than this is stale, in seconds.
    #[serde(default = "two_days")]
    pub stale_after_seconds: u64,
    /// Beside each address with `.sha256` at its end stands the digest of the file; without it the file is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sha256: bool,
    /// Other hosts that an address may redirect to. Its own host always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_hosts: Vec<String>,
    /// A file on the server with the certificate authorities to believe (PEM) in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// A file on the server with `USER:PASSWORD` or a bearer token, sent to the addresses' own hosts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<String>,
    /// Larger files are refused, in bytes, as they travel.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
}

fn hour() -> u64 {
    3600
}

fn two_days() -> u64 {
    2 * 86_400
}

fn max_bytes() -> u64 {
    MAX_BYTES
}

impl FeedSource {
    /// One address, everything else as it is without a word about it.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            every_seconds: hour(),
            stale_after_seconds: two_days(),
            sha256: false,
            redirect_hosts: Vec::new(),
            ca_file: None,
            credentials_file: None,
            max_bytes: MAX_BYTES,
        }
    }

    /// Can it be used?
    ///
    /// # Errors
    /// The first thing wrong with it, and what to write instead.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |message: String, hint: &str| {
            Err(Problem::new(ProblemKind::BadInput, "bad-feed-source", message, hint))
        };
        if self.urls.is_empty() || self.urls.len() > MAX_URLS {
            return wrong(
                format!("a feed has 1 to {MAX_URLS} addresses, not {}", self.urls.len()),
                "give the vendor's address, then its mirrors: --url URL --url MIRROR",
            );
        }
        for url in &self.urls {
            if let Err(error) = FeedAddress::parse(url) {
                return wrong(error.to_string(), error.hint());
            }
        }
        if !(60..=30 * 86_400).contains(&self.every_seconds) {
            return wrong(
                format!("a feed cannot be looked at every {} s", self.every_seconds),
                "from one minute to 30 days: --every 1h",
            );
        }
        if self.stale_after_seconds < self.every_seconds {
            return wrong(
                format!(
                    "it would be stale after {} s, before the next look after {} s",
                    self.stale_after_seconds, self.every_seconds
                ),
                "make --stale-after several times as long as --every",
            );
        }
        for host in &self.redirect_hosts {
            if FeedAddress::parse(&format!("https://{host}/")).is_err() || host.contains('/') {
                let shown: String = host.chars().take(60).collect();
                return wrong(
                    format!("`{shown}` is no host to be redirected to"),
                    "write its name alone: downloads.example.org",
                );
            }
        }
        for file in self.ca_file.iter().chain(&self.credentials_file) {
            if !file.starts_with('/') {
                return wrong(
                    format!("`{file}` is no absolute path"),
                    "the server reads the file: write its whole path there",
                );
            }
        }
        if !(1..=MAX_BYTES).contains(&self.max_bytes) {
            return wrong(
                format!("a feed cannot have at most {} bytes", self.max_bytes),
                "from 1 to 134217728 (128 MiB)",
            );
        }
        Ok(())
    }

    /// When to look again after a look that told something, be it that nothing is new.
    pub fn next_look(&self, now: Timestamp, seed: u64) -> Timestamp {
        later(now, spread(self.every_seconds, seed))
    }

    /// When to try again after so many failures in a row, where the vendor asks for that much patience.
    pub fn next_try(
        &self,
        now: Timestamp,
        failures: u32,
        patience: Option<u64>,
        seed: u64,
    ) -> Timestamp {
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let pause = spread(doubled.min(self.every_seconds), seed);
        later(now, pause.max(patience.unwrap_or(0).min(MAX_PATIENCE)))
    }
}

/// So many seconds, a tenth less or more: servers that were started together do not ask together.
fn spread(seconds: u64, seed: u64) -> u64 {
    // The finaliser of SplitMix64: neighbouring seeds give distant numbers.
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let tenth = seconds / 10;
    seconds - tenth + x % (2 * tenth + 1)
}

fn later(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
