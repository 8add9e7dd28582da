//! When to take the inventory, and the child that takes it.
//!
//! The daemon never holds an inventory: the child writes its JSON to a file and ends, the daemon reads the file
//! for its digest, and once more when the server wants it. That is what keeps an idle agent small.

use crate::settings::Settings;
use fettle_core::Digest;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// What changes when packages, their sources, configuration or running services do. Modification times are cheap.
const WATCHED: &[&str] = &[
    "/var/lib/dpkg/status",
    "/var/lib/dpkg/updates",
    "/var/lib/apt/lists",
    "/var/lib/apt/extended_states",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/preferences.d",
    "/etc/os-release",
    "/etc/systemd/system",
    "/run/systemd/units",
    "/run/reboot-required",
];

/// Watches the host and keeps its inventory in a file.
pub(super) struct Watch {
    file: PathBuf,
    root: PathBuf,
    every: Duration,
    seen: Option<(Vec<Option<SystemTime>>, Instant)>,
    digest: Option<Digest>,
    was_busy: bool,
}

impl Watch {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            file: settings.runtime_dir.join("inventory.json"),
            root: settings.root.clone(),
            every: settings.full_inventory_every,
            seen: None,
            digest: None,
            was_busy: false,
        }
    }

    /// Takes the inventory anew if something changed, and gives its digest. Not in the middle of a transaction:
    /// what is half done is nobody's inventory.
    pub(super) async fn refresh(&mut self, busy: bool) -> Option<Digest> {
        if busy {
            self.was_busy = true;
            return self.digest;
        }
        let now = self.times();
        let fresh =
            self.seen.as_ref().is_some_and(|(then, at)| *then == now && at.elapsed() < self.every);
        if fresh && !self.was_busy {
            return self.digest;
        }
        match self.take().await {
            Ok(digest) => {
                // The times from before: a change during the look is seen the next time.
                self.seen = Some((now, Instant::now()));
                self.digest = Some(digest);
                self.was_busy = false;
            }
            Err(error) => eprintln!("<4>the inventory could not be taken: {error}"),
        }
        self.digest
    }

    /// The inventory's JSON.
    pub(super) fn text(&self) -> Option<Box<RawValue>> {
        RawValue::from_string(std::fs::read_to_string(&self.file).ok()?).ok()
    }

    async fn take(&self) -> std::io::Result<Digest> {
        let new = self.file.with_extension("new");
        std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new("/run")))?;
        let output = std::fs::File::create(&new)?;
        let status = tokio::process::Command::new("/proc/self/exe")
            .args(["inventory", "--compact"])
            .stdin(Stdio::null())
            .stdout(output)
            .kill_on_drop(true)
            .status()
            .await?;
        if !status.success() {
            return Err(std::io::Error::other(format!(
                "fettle-agent inventory ended with {status}"
            )));
        }
        std::fs::rename(&new, &self.file)?;
        Ok(Digest::of(&std::fs::read(&self.file)?))
    }

    fn times(&self) -> Vec<Option<SystemTime>> {
        let time = |path: &&str| {
            let path = self.root.join(path.trim_start_matches('/'));
            std::fs::metadata(path).and_then(|m| m.modified()).ok()
        };
        WATCHED.iter().map(time).collect()
    }
}
