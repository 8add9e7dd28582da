//! Feeds: what is in force, where it is fetched from, and what waits for a person.

use fettle_core::feed::{FeedSource, FeedStanding};
use fettle_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// A feed.
    pub struct FeedRow {
        /// `debian-tracker`, `debian-advisories`, `kev`, `epss`, `cvss`, `osv-almalinux`.
        pub name: String,
        /// Records held.
        pub records: u64,
        /// Records that could not be read.
        pub errors: u64,
        /// Date the vendor gives it, or of the snapshot.
        pub date: String,
        /// When it was imported.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub imported_at: Option<Timestamp>,
        /// Where it came from, in words.
        pub origin: String,
        /// Why the last look or import went wrong; the one before is still in force. `null`: it went well.
        pub last_error: Option<String>,
        /// When that was.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        #[serde(default)]
        pub failed_at: Option<Timestamp>,
        /// `fresh`, `failed` (young enough, but the last look went wrong), `stale` (not confirmed for longer than its
        /// limit, or never), `absent` (nothing is in force, and nobody asked for anything).
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        #[serde(default = "absent")]
        pub standing: FeedStanding,
        /// As of when what is in force is known to be the vendor's word: when the vendor last gave or confirmed it;
        /// where a person imported it, its date.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        #[serde(default)]
        pub confirmed_at: Option<Timestamp>,
        /// Seconds since then.
        #[serde(default)]
        pub age_seconds: Option<u64>,
        /// So many seconds after that it is stale.
        #[serde(default)]
        pub stale_after_seconds: u64,
        /// Where the server fetches it by itself.
        #[serde(default)]
        pub source: Option<FeedSourceRow>,
        /// What was fetched and waits for a person: it changed too suddenly to be taken unseen.
        #[serde(default)]
        pub held: Option<FeedHeldRow>,
    }

    /// Where a feed is fetched from, and what came of it.
    pub struct FeedSourceRow {
        /// Addresses, without what may be secret in them, in the order in which they are tried.
        pub urls: Vec<String>,
        /// Seconds between two looks, about.
        pub every_seconds: u64,
        /// Who set it.
        pub added_by: String,
        /// When.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub added_at: Timestamp,
        /// The last look, whatever it gave.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub tried_at: Option<Timestamp>,
        /// Looks that failed since one that did not.
        pub failures: u32,
        /// When the next look is.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub next_at: Option<Timestamp>,
    }

    /// What waits for a person's word.
    pub struct FeedHeldRow {
        /// Of its bytes; to be given with the word.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub digest: Digest,
        /// Where it came from.
        pub origin: String,
        /// `feed-shrunk`, `feed-grew`, `feed-reworded`, `feed-cleared` or `feed-reranked`.
        pub code: String,
        /// Why it was not taken.
        pub reason: String,
        /// Since when.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub held_at: Timestamp,
    }

    /// The keys of bundles, Ed25519, base64.
    pub struct BundleKeys {
        /// The one that this server signs with.
        pub own: String,
        /// The one that a bundle given to this server must be signed with. `null`: none is pinned.
        pub trusted: Option<String>,
    }

    /// Pin the key that bundles must be signed with.
    pub struct TrustBundleKey {
        /// Ed25519, base64: `own` of the server that makes them.
        pub key: String,
    }

    /// Where a feed is to be fetched from.
    pub struct SetFeedSource {
        /// Addresses, interval, limits; what is not given is as it is without a word about it.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        #[serde(flatten)]
        pub source: FeedSource,
    }
}

fn absent() -> FeedStanding {
    FeedStanding::Absent
}
