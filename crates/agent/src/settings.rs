//! Where the agent keeps and finds things, and how often it looks.

use std::path::PathBuf;
use std::time::Duration;

/// Everything of the agent that an installation may want elsewhere. [`Settings::default`] is what ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Root of the host's file system. Anything but `/` is for tests and for looking at a clone.
    pub root: PathBuf,
    /// State that must survive a reboot: identity, ledger, journals, preimages. Mode 0700.
    pub state_dir: PathBuf,
    /// What the administrator writes: `tests.d`, `probes.d`.
    pub config_dir: PathBuf,
    /// State that must not survive a reboot: locks, caches.
    pub runtime_dir: PathBuf,
    /// A full inventory is taken this often even if nothing seems to have changed.
    pub full_inventory_every: Duration,
    /// A package manager that has not come further for so long, nor said a word, is told of.
    pub quiet_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            state_dir: PathBuf::from("/var/lib/fettle-agent"),
            config_dir: PathBuf::from("/etc/fettle"),
            runtime_dir: PathBuf::from("/run/fettle-agent"),
            full_inventory_every: Duration::from_secs(15 * 60),
            quiet_after: Duration::from_secs(5 * 60),
        }
    }
}

impl Settings {
    /// Key, certificate, authority and server address of an enrolled host.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }
    /// One directory a transaction.
    pub fn transactions_dir(&self) -> PathBuf {
        self.state_dir.join("transactions")
    }
    /// The highest assignment ever accepted.
    pub fn ledger_path(&self) -> PathBuf {
        self.state_dir.join("ledger")
    }
    /// While it is there, nothing is started on the host, whoever orders it.
    pub fn stop_path(&self) -> PathBuf {
        self.config_dir.join("STOP")
    }
    /// While it is there, rehearsals have the host's network: some scripts of packages fail without.
    pub fn online_path(&self) -> PathBuf {
        self.config_dir.join("rehearse-online")
    }
    /// What a host without a server must still reach after a change, where its administrator says so.
    pub fn peer_path(&self) -> PathBuf {
        self.config_dir.join("peer")
    }
    /// Whose signatures under plans are asked for.
    pub fn plan_keys_path(&self) -> PathBuf {
        self.state_dir.join("plan-keys")
    }
    /// There, the host is a worker: it builds twins and tests changes on them.
    pub fn testbed_config(&self) -> PathBuf {
        self.config_dir.join("testbed")
    }
    /// Held by the one agent that may act on this host.
    pub fn lock_path(&self) -> PathBuf {
        self.state_dir.join("lock")
    }
    /// Held by the one process that carries out a transaction.
    pub fn turn_path(&self) -> PathBuf {
        self.state_dir.join("turn")
    }
    /// A path of the host, below [`Settings::root`].
    pub fn host(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
