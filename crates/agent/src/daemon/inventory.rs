//! When to take the inventory, and the child that takes it.
//!
//! The daemon never holds an inventory: the child writes its JSON to a file and ends, the daemon reads the file
//! for its digest, and once more when the server wants it. That is what keeps an idle agent small.

use crate::command::command;
use crate::packages::{apt, index};
use crate::settings::Settings;
use fettle_core::{Digest, Timestamp};
use jiff::SignedDuration;
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
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/os-release",
    "/etc/systemd/system",
    "/run/systemd/units",
    "/run/reboot-required",
];

/// Where nobody has asked the package sources for so long, the agent does, so that what a vendor publishes is seen
/// within a day on a host whose own timer is off.
const ASK_AFTER: SignedDuration = SignedDuration::from_hours(20);
/// After that went wrong it is tried again so much later.
const ASK_AGAIN: Duration = Duration::from_secs(3600);
/// Sources that do not answer are given up after.
const ASK_PATIENCE: Duration = Duration::from_secs(900);
/// The administrator's word, in the configuration directory, that the agent asks for no package lists.
const ASK_NEVER: &str = "no-apt-update";

/// Watches the host and keeps its inventory in a file.
pub(super) struct Watch {
    file: PathBuf,
    root: PathBuf,
    every: Duration,
    seen: Option<(Vec<Option<SystemTime>>, Instant)>,
    digest: Option<Digest>,
    was_busy: bool,
    /// When the package sources were last asked from here.
    asked: Option<Instant>,
    settings: Settings,
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
            asked: None,
            settings: settings.clone(),
        }
    }

    /// Takes the inventory anew if something changed, and gives its digest. Not in the middle of a transaction:
    /// what is half done is nobody's inventory.
    pub(super) async fn refresh(&mut self, busy: bool) -> Option<Digest> {
        if busy {
            self.was_busy = true;
            return self.digest;
        }
        self.ask_sources();
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

    /// Starts `apt-get update`, where that is due, and does not wait for it: a host with slow sources still answers its
    /// server. It writes nothing but apt's own lists, and those are watched.
    fn ask_sources(&mut self) {
        let settings = &self.settings;
        let wanted = settings.host("usr/bin/apt-get").exists()
            && !settings.config_dir.join(ASK_NEVER).exists();
        let last = index::asked(&settings.host(index::LISTS));
        if !wanted || !is_due(last, self.asked.map(|at| at.elapsed()), Timestamp::now()) {
            return;
        }
        self.asked = Some(Instant::now());
        let mut update = tokio::process::Command::from(command("apt-get"));
        update.args(["update", "-q"]).args(apt::caches(settings));
        update.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        tokio::spawn(async move {
            match tokio::time::timeout(ASK_PATIENCE, update.status()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => eprintln!("<4>apt-get update ended with {status}"),
                Ok(Err(error)) => eprintln!("<4>apt-get update cannot be run: {error}"),
                Err(_) => eprintln!("<4>the sources did not answer within {ASK_PATIENCE:?}"),
            }
        });
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

/// Is it time to ask the sources? `last`: when apt asked them, whoever had it do so. `tried`: how long ago that was done
/// from here.
fn is_due(last: Option<Timestamp>, tried: Option<Duration>, now: Timestamp) -> bool {
    last.is_none_or(|last| now.duration_since(last) > ASK_AFTER)
        && tried.is_none_or(|ago| ago > ASK_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_asked_when_nobody_did_for_a_day_and_not_all_the_time_when_that_fails() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let hours = |h| Some(now - SignedDuration::from_hours(h));
        let ago = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        for (last, tried, due) in [
            (hours(1), None, false),
            (hours(21), None, true),
            (None, None, true),
            (hours(21), ago(30), false),
            (hours(21), ago(61), true),
            // Its clock was set back.
            (hours(-5), None, false),
        ] {
            assert_eq!(is_due(last, tried, now), due, "{last:?} {tried:?}");
        }
    }
}
