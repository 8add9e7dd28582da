//! What the package manager is doing now, by its own word: apt's status lines (`APT::Status-Fd`, the file
//! `progress-reporting.md` of apt's documentation).

use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// Name of the file that holds the status lines.
const FILE: &str = "apply-progress";
/// So much of the end is looked at, in bytes: a status line is far shorter.
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

/// A file for the status lines, in a transaction's directory; apt inherits it. It must be a descriptor of its own:
/// apt closes it for dpkg, and a dpkg without standard output would write what it says into the next file that it
/// opens, which is its lock.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn descriptor(directory: &Path) -> io::Result<fs::File> {
    let file = fs::File::options().create(true).append(true).open(directory.join(FILE))?;
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    Ok(file)
}

/// Options that make apt write its status lines to it.
pub(super) fn options(descriptor: &fs::File) -> [String; 2] {
    ["-o".to_owned(), format!("APT::Status-Fd={}", descriptor.as_raw_fd())]
}

/// Reads the last status line, and tells it to whoever looks.
pub(super) fn tell(settings: &Settings, transaction: &str, directory: &Path) {
    let Some((percent, what)) = end_of(&directory.join(FILE)).as_deref().and_then(last) else {
        return;
    };
    write(settings, Now { transaction: transaction.to_owned(), percent, what });
}

/// Tells what a transaction waits for, when the package manager's work is done.
pub(super) fn announce(settings: &Settings, transaction: &str, what: &str) {
    let transaction = transaction.to_owned();
    write(settings, Now { transaction, percent: 100.0, what: what.to_owned() });
}

fn write(settings: &Settings, now: Now) {
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

fn end_of(file: &Path) -> Option<String> {
    let mut file = fs::File::open(file).ok()?;
    let size = i64::try_from(file.metadata().ok()?.len()).ok()?;
    file.seek(SeekFrom::End(-size.min(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last whole status line: `pmstatus:PACKAGE:PERCENT:DESCRIPTION`.
fn last(text: &str) -> Option<(f64, String)> {
    let whole = text.rfind('\n').map(|end| &text[..end])?;
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
    fn a_program_that_is_started_inherits_the_descriptor_and_its_standard_output_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = descriptor(dir.path()).unwrap();
        assert!(file.as_raw_fd() > 2);
        let script = format!("echo pmstatus:a:50.0:Unpacking a >&{}; echo said", file.as_raw_fd());
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.stdout, b"said\n");
        assert_eq!(options(&file)[1], format!("APT::Status-Fd={}", file.as_raw_fd()));
        let told = end_of(&dir.path().join(FILE)).unwrap();
        assert_eq!(last(&told), Some((50.0, "Unpacking a".to_owned())));
    }

    #[test]
    fn what_is_told_is_read_again_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { runtime_dir: dir.path().join("run"), ..Settings::default() };
        tell(&settings, "tx-1", dir.path());
        assert_eq!(current(&settings), None);
        fs::write(dir.path().join(FILE), "x\n".repeat(5000) + "pmstatus:a:10.0:Unpacking a\n")
            .unwrap();
        tell(&settings, "tx-1", dir.path());
        let now = current(&settings).unwrap();
        assert_eq!((now.percent, now.what.as_str()), (10.0, "Unpacking a"));
        clear(&settings);
        assert_eq!(current(&settings), None);
    }
}
