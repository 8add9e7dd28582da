//! What the package manager is doing now, by its own word: apt's status lines (`APT::Status-Fd`, the file
//! `progress-reporting.md` of apt's documentation), which it writes into the same log as everything else.

use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Options that make apt write its status lines to standard output.
pub(super) const OPTIONS: [&str; 2] = ["-o", "APT::Status-Fd=1"];
/// So much of the end of a log is looked at, in bytes: a status line is far shorter.
const TAIL: i64 = 4096;

/// How far apply has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// Which transaction.
    pub transaction: String,
    /// Percent of the package manager's work.
    pub percent: f64,
    /// `Unpacking libssl3 (amd64)`.
    pub what: String,
}

/// Where it is told: not durable, gone with the boot.
fn file(settings: &Settings) -> std::path::PathBuf {
    settings.runtime_dir.join("progress.json")
}

/// Reads the end of the log, and tells it to whoever looks. A log without a status line tells nothing.
pub(super) fn tell(settings: &Settings, transaction: &str, log: &Path) {
    let Some((percent, what)) = end_of(log).as_deref().and_then(last) else { return };
    let now = Now { transaction: transaction.to_owned(), percent, what };
    if current(settings).as_ref() == Some(&now) {
        return;
    }
    // Nobody's safety depends on it: what cannot be written is not told.
    let new = file(settings).with_extension("new");
    let _ = fs::create_dir_all(&settings.runtime_dir);
    if let Ok(text) = serde_json::to_vec(&now)
        && fs::write(&new, text).is_ok()
    {
        let _ = fs::rename(&new, file(settings));
    }
}

/// Nothing is being done any more.
pub(super) fn clear(settings: &Settings) {
    let _ = fs::remove_file(file(settings));
}

/// What is being done now. `None`: nothing that tells of itself.
pub fn current(settings: &Settings) -> Option<Now> {
    serde_json::from_slice(&fs::read(file(settings)).ok()?).ok()
}

fn end_of(log: &Path) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    let size = i64::try_from(file.metadata().ok()?.len()).ok()?;
    file.seek(SeekFrom::End(-size.min(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last whole status line: `pmstatus:PACKAGE:PERCENT:DESCRIPTION`.
fn last(log: &str) -> Option<(f64, String)> {
    let whole = log.rfind('\n').map(|end| &log[..end])?;
    whole.lines().rev().find_map(|line| {
        let (_, rest) = line.strip_prefix("pmstatus:")?.split_once(':')?;
        // A package of a foreign architecture has a colon in its name.
        let (percent, what) = rest.split_once(':')?;
        let (percent, what) = match percent.parse() {
            Ok(percent) => (percent, what),
            Err(_) => {
                let (percent, what) = what.split_once(':')?;
                (percent.parse().ok()?, what)
            }
        };
        Some((percent, what.to_owned()))
    })
}

/// A log without the status lines: what a person wants to read.
pub(super) fn without(log: &str) -> String {
    let status = ["pmstatus:", "pmerror:", "pmconffile:", "dlstatus:"];
    let kept = log.lines().filter(|l| !status.iter().any(|s| l.starts_with(s)));
    kept.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "Preparing to unpack .../libssl3.deb ...\npmstatus:libssl3:25.0:Unpacking libssl3 (amd64)\n\
        Unpacking libssl3 ...\npmstatus:libc6:i386:50.5:Configuring libc6 (i386)\npmstatus:zlib1g:99";

    #[test]
    fn the_last_whole_status_line_tells_how_far_it_is() {
        assert_eq!(last(LOG), Some((50.5, "Configuring libc6 (i386)".to_owned())));
        assert_eq!(
            last("pmstatus:a:12.5:Installing a: now\n"),
            Some((12.5, "Installing a: now".to_owned()))
        );
        assert_eq!(last("Reading package lists...\n"), None);
        assert_eq!(last(""), None);
    }

    #[test]
    fn a_person_reads_the_log_without_status_lines() {
        assert_eq!(without(LOG), "Preparing to unpack .../libssl3.deb ...\nUnpacking libssl3 ...");
    }

    #[test]
    fn what_is_told_is_read_again_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { runtime_dir: dir.path().join("run"), ..Settings::default() };
        let log = dir.path().join("apply.log");
        tell(&settings, "tx-1", &log);
        assert_eq!(current(&settings), None);
        fs::write(&log, "x\n".repeat(5000) + "pmstatus:a:10.0:Unpacking a\n").unwrap();
        tell(&settings, "tx-1", &log);
        let now = current(&settings).unwrap();
        assert_eq!((now.percent, now.what.as_str()), (10.0, "Unpacking a"));
        clear(&settings);
        assert_eq!(current(&settings), None);
    }
}
