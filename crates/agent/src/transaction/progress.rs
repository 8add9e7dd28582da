//! What the package manager is doing now, by its own word: apt's status lines (`APT::Status-Fd`, the file
//! `progress-reporting.md` of apt's documentation).

use super::detached::APPLY;
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// For so many minutes it has not come further, nor said a word. An agent before did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_minutes: Option<u64>,
    /// What runs meanwhile: the maintainer script, where one can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
}

impl Now {
    /// That it makes no progress, for people. `None`: it does.
    pub fn quiet(&self) -> Option<String> {
        let minutes = self.quiet_minutes?;
        let runs = self.runs.as_ref().map_or(String::new(), |runs| format!(", in {runs}"));
        Some(format!("no progress for {minutes} min{runs}"))
    }
}

impl std::fmt::Display for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} %  {}", self.percent, self.what)?;
        self.quiet().map_or(Ok(()), |quiet| write!(f, ": {quiet}"))
    }
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

/// Looks at a program that changes packages while it is waited for, and tells how far it is; also when it comes no
/// further, since a maintainer script that hangs is otherwise silent. What is to be done then the policy says
/// (`hung-after`), or a person.
pub(super) struct Watch<'a> {
    settings: &'a Settings,
    transaction: String,
    directory: &'a Path,
    /// What it says, besides its status lines.
    log: PathBuf,
    name: &'static str,
    /// Sizes of both, when they last grew, and that moment.
    grown: ((u64, u64), Instant),
    /// Minutes of silence that were told, and the most there were.
    told: u64,
    most: Option<Now>,
    /// What ran when it was last looked for, and after how many minutes that was.
    runs: (Option<u64>, Option<String>),
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        transaction: &str,
        directory: &'a Path,
        name: &'static str,
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        let transaction = transaction.to_owned();
        let grown = ((0, 0), Instant::now());
        let (told, most, runs) = (0, None, (None, None));
        Self { settings, transaction, directory, log, name, grown, told, most, runs }
    }

    /// Looks once, while it runs in `unit`.
    pub(super) fn look(&mut self, unit: &str) {
        let status = self.directory.join(FILE);
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        let sizes = (size(&status), size(&self.log));
        if sizes != self.grown.0 {
            self.grown = (sizes, Instant::now());
            self.told = 0;
        }
        let quiet = self.grown.1.elapsed();
        let quiet_minutes = (quiet >= self.settings.quiet_after).then_some(quiet.as_secs() / 60);
        // Status lines are of the change itself; what comes after it has none.
        let last = (self.name == APPLY).then(|| end_of(&status)).flatten();
        let Some((percent, what)) = last
            .as_deref()
            .and_then(last_line)
            .or_else(|| quiet_minutes.map(|_| (0.0, format!("dpkg ({})", self.name))))
        else {
            return;
        };
        // Looking through all processes is for once a minute, not for ten times a second.
        if quiet_minutes != self.runs.0 {
            self.runs = (quiet_minutes, quiet_minutes.and_then(|_| runs_in(unit)));
        }
        let runs = self.runs.1.clone();
        let transaction = self.transaction.clone();
        let now = Now { transaction, percent, what, quiet_minutes, runs };
        if let Some(minutes) = quiet_minutes
            && (self.told == 0 || minutes >= 2 * self.told)
        {
            // The log holds it once, and then ever more rarely.
            eprintln!("<4>{}: {now}", self.transaction);
            self.told = minutes.max(1);
        }
        if quiet_minutes > self.most.as_ref().and_then(|most| most.quiet_minutes) {
            self.most = Some(now.clone());
        }
        write(self.settings, now);
    }

    /// That it made no progress for long, and where, for the journal.
    pub(super) fn quiet(&self) -> Option<String> {
        self.most.as_ref().map(|now| format!("at {now}"))
    }
}

/// The maintainer script that runs in a unit, else its last process. Control groups tell, not names: a twin under test
/// on this host has scripts of its own.
fn runs_in(unit: &str) -> Option<String> {
    let mut found: Vec<(bool, u32, String)> = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if !group.lines().any(|line| line.ends_with(&format!("/{unit}"))) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|b| *b == 0)
            .map(String::from_utf8_lossy)
            .filter(|w| !w.is_empty())
            .collect();
        let script = words.iter().find(|word| word.starts_with("/var/lib/dpkg/"));
        let what = script.or(words.first()).map(ToString::to_string).unwrap_or_default();
        found.push((script.is_some(), pid, what));
    }
    let (_, pid, what) = found.into_iter().max_by_key(|(script, pid, _)| (*script, *pid))?;
    Some(format!("{what} (process {pid})"))
}

/// Tells what a transaction waits for, when the package manager's work is done.
pub(super) fn announce(settings: &Settings, transaction: &str, what: &str) {
    let transaction = transaction.to_owned();
    let what = what.to_owned();
    write(settings, Now { transaction, percent: 100.0, what, quiet_minutes: None, runs: None });
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
fn last_line(text: &str) -> Option<(f64, String)> {
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
        assert_eq!(last_line(LOG), Some((50.5, "Configuring libc6 (i386)".to_owned())));
        assert_eq!(
            last_line("pmstatus:a:12.5:Installing a: now\n"),
            Some((12.5, "Installing a: now".to_owned()))
        );
        assert_eq!(last_line("Reading package lists...\n"), None);
        assert_eq!(last_line(""), None);
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
        assert_eq!(last_line(&told), Some((50.0, "Unpacking a".to_owned())));
    }

    #[test]
    fn what_is_told_is_read_again_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { runtime_dir: dir.path().join("run"), ..Settings::default() };
        let mut watch = Watch::new(&settings, "tx-1", dir.path(), APPLY);
        watch.look("no.service");
        assert_eq!(current(&settings), None);
        fs::write(dir.path().join(FILE), "x\n".repeat(5000) + "pmstatus:a:10.0:Unpacking a\n")
            .unwrap();
        watch.look("no.service");
        let now = current(&settings).unwrap();
        assert_eq!((now.percent, now.what.as_str()), (10.0, "Unpacking a"));
        clear(&settings);
        assert_eq!(current(&settings), None);
    }

    #[test]
    fn a_package_manager_that_comes_no_further_is_told_of_and_one_that_goes_on_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { runtime_dir: dir.path().join("run"), ..Settings::default() };
        let mut watch = Watch::new(&settings, "tx-1", dir.path(), APPLY);
        fs::write(dir.path().join(FILE), "pmstatus:a:60.0:Configuring a\n").unwrap();
        watch.look("no.service");
        assert_eq!((current(&settings).unwrap().quiet(), watch.quiet()), (None, None));
        // As if it had grown that long ago, and not now.
        watch.grown.1 = watch.grown.1.checked_sub(settings.quiet_after).unwrap();
        watch.look("no.service");
        let said = "60 %  Configuring a: no progress for 5 min";
        assert_eq!(current(&settings).unwrap().to_string(), said);
        // It says a word again: that is progress, and what was is remembered.
        fs::write(dir.path().join("apply.log"), "still here\n").unwrap();
        watch.look("no.service");
        assert_eq!(current(&settings).unwrap().to_string(), "60 %  Configuring a");
        assert_eq!(watch.quiet(), Some(format!("at {said}")));
    }

    #[test]
    fn what_an_agent_before_told_is_still_read() {
        let old = r#"{"transaction":"tx-1","percent":10.0,"what":"Unpacking a"}"#;
        let now: Now = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&now).unwrap(), old);
    }
}
