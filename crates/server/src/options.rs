//! What the server can be told.

use crate::feeds::FeedFetching;
use crate::notices::Recipient;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How a server runs. [`Default`] is what `fettle server` does without options.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where database and keys are.
    pub data_dir: PathBuf,
    /// Where backups are made: looked at, never written to.
    pub backups_dir: PathBuf,
    /// API and web pages; plain HTTP, so on a loopback address only.
    pub operator: SocketAddr,
    /// Agents; mTLS.
    pub agents: SocketAddr,
    /// Names and addresses, besides `localhost` and the machine's own name, that agents may know the server by.
    pub names: Vec<String>,
    /// An idle agent comes back after this many seconds, spread by a quarter.
    pub checkin_idle_seconds: u32,
    /// An agent at work in a rollout comes back after this many seconds.
    pub checkin_busy_seconds: u32,
    /// A host unheard for longer is shown as silent.
    pub silent_after_seconds: u64,
    /// Life of a host's certificate, in seconds; it is renewed after two thirds.
    pub certificate_seconds: u64,
    /// A host whose certificate ended no longer ago gets a new one by it, in seconds. Who is away for longer is enrolled anew.
    pub renewal_grace_seconds: u64,
    /// Load the bundled vulnerability data where no feed was ever imported.
    pub bundled_feeds: bool,
    /// How feeds are fetched.
    pub feeds: FeedFetching,
    /// Findings proved gone are forgotten after this many days.
    pub keep_fixed_days: u32,
    /// What gates ask of others is asked so often, in seconds.
    pub ask_gates_seconds: u32,
    /// Where reports on a schedule are kept. `None`: in `reports` beside the database.
    pub reports_dir: Option<PathBuf>,
    /// Who is told as soon as a rollout halts or ends, or a host needs a person.
    pub notify: Vec<Recipient>,
    /// What a webhook did not take is sent again after each of these, and then no more. As Standard Webhooks proposes.
    pub webhook_retries: Vec<Duration>,
    /// Print where the server can be reached once it is.
    pub announce: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/fettle"),
            backups_dir: PathBuf::from("/var/backups/fettle"),
            operator: SocketAddr::from((Ipv4Addr::LOCALHOST, 8440)),
            agents: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8441)),
            names: Vec::new(),
            checkin_idle_seconds: 60,
            checkin_busy_seconds: 1,
            silent_after_seconds: 900,
            certificate_seconds: 7 * 86_400,
            renewal_grace_seconds: 180 * 86_400,
            bundled_feeds: true,
            feeds: FeedFetching::default(),
            keep_fixed_days: 400,
            ask_gates_seconds: 10,
            reports_dir: None,
            notify: Vec::new(),
            webhook_retries: [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
                .map(Duration::from_secs)
                .into(),
            announce: true,
        }
    }
}

impl ServerOptions {
    /// Where reports on a schedule are kept.
    pub fn reports_dir(&self) -> PathBuf {
        self.reports_dir.clone().unwrap_or_else(|| self.data_dir.join("reports"))
    }
}
