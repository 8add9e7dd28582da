//! What can be typed about feeds.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Feeds.
#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// Import vulnerability data. What cannot be read is refused; the data before stays in force.
    Import {
        /// `debian-tracker`, `debian-advisories`, `kev`, `epss`, `cvss`, or a vendor's OSV records:
        /// `osv-almalinux`, `osv-alpine`, `osv-chainguard` (and Wolfi), `osv-debian`, `osv-redhat`, `osv-rocky`,
        /// `osv-suse`, `osv-ubuntu`; its OVAL definitions: `oval-almalinux`, `oval-debian`, `oval-oracle`, `oval-redhat`,
        /// `oval-suse`, `oval-ubuntu`; or another of docs/sources.md.
        #[arg(required_unless_present = "bundled", conflicts_with = "bundled", requires = "file")]
        name: Option<String>,
        /// The vendor's file: plain, gzip, Zstandard or bzip2; of OSV records one a line, or a ZIP archive of them.
        file: Option<PathBuf>,
        /// The data that comes with Fettle.
        #[arg(long)]
        bundled: bool,
        /// Take it even if it changed suddenly: lost half, tripled, or says something else of a quarter.
        #[arg(long, conflicts_with = "bundled")]
        force: bool,
        /// Of which day the data is, as 2026-11-20. Default: the day that stands in it (KEV, EPSS), or today.
        #[arg(long, conflicts_with = "bundled")]
        date: Option<jiff::civil::Date>,
    },
    /// All feeds: how they stand, how old they are, what went wrong, what waits for a person.
    List,
    /// Look at the sources of feeds now, and take in what is new.
    Sync {
        /// Only this one. Default: all that have a source.
        name: Option<String>,
    },
    /// Where the server fetches feeds from by itself.
    #[command(subcommand)]
    Source(Source),
    /// All feeds in one signed file, for networks that the vendors cannot be reached from.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Take in what was fetched, changed too suddenly, and waits for a person's word.
    Accept {
        /// `debian-tracker`.
        name: String,
        /// Digest of what you saw: refused when another waits by now.
        #[arg(long)]
        digest: Option<String>,
    },
}

/// Sources.
#[derive(Debug, Subcommand)]
pub(crate) enum Source {
    /// Say where a feed is fetched from. In place of what was said before.
    Add(AddSource),
    /// The feeds that are fetched, and when next.
    List,
    /// Fetch a feed no more. What is in force stays; what came from there and waits is forgotten.
    Remove {
        /// `debian-tracker`.
        name: String,
    },
}

/// Where from, and how.
#[derive(Debug, Args)]
pub(crate) struct AddSource {
    /// `debian-tracker`.
    pub(crate) name: String,
    /// The vendor's address; mirrors behind it, tried in this order. `https://…`, `http://…`, or `file:///…` for a file
    /// on the server, or a directory there with files `NAME.…`, of which the newest counts.
    #[arg(long = "url", required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// How often it is looked at.
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub(crate) every: String,
    /// From which age on it is stale.
    #[arg(long, default_value = "2d", value_name = "TIME")]
    pub(crate) stale_after: String,
    /// Beside each address, with `.sha256` at its end, stands the digest; without it the file is refused.
    #[arg(long)]
    pub(crate) sha256: bool,
    /// Another host that an address may redirect to; may be given several times.
    #[arg(long = "redirect-to", value_name = "HOST")]
    pub(crate) redirect_hosts: Vec<String>,
    /// A file on the server: certificate authorities (PEM) to believe in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<String>,
    /// A file on the server with `USER:PASSWORD` or a bearer token; sent to the addresses' own hosts only.
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<String>,
    /// Refuse a larger file, in MiB as it travels.
    #[arg(long, default_value_t = 128, value_name = "MIB")]
    pub(crate) max_size: u64,
}

/// Bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Write all feeds in force, with dates, origins and digests, into a file that the server signs.
    Export {
        /// A file that is not there yet.
        file: PathBuf,
    },
    /// Take in a bundle: all of it, or nothing. What is older than what is in force is refused.
    Import {
        /// The bundle.
        file: PathBuf,
        /// The key that it must be signed with, in place of the one that `trust` pinned.
        #[arg(long)]
        key: Option<String>,
        /// Take it even if it is older than what is in force, or changes suddenly.
        #[arg(long)]
        force: bool,
    },
    /// The key that this server signs bundles with, and the one that it believes.
    Key,
    /// Pin the key that bundles given to this server must be signed with.
    Trust {
        /// As `key` prints it on the server that makes them.
        key: String,
    },
}
