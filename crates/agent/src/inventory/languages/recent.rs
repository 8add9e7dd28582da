//! The last look, kept for a while: on a host with many files looking takes seconds, and is then not done again for every
//! inventory, plan and proof.
//!
//! What a look found is used for [`SHARE`] times as long as it took, so that looking takes at most a hundredth of the time:
//! where it is over in a moment nothing told is older than a few moments, and after ten seconds of looking the next look is a
//! quarter of an hour later. What is gone by then is not told any more.

use super::{Candidate, Limits, walk};
use crate::durable;
use crate::settings::Settings;
use fettle_core::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How much longer than a look took it stands.
const SHARE: i32 = 100;

/// A look at a host's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Look {
    /// When it began.
    at: Timestamp,
    took: SignedDuration,
    pub(super) found: Vec<Candidate>,
    pub(super) gaps: Vec<String>,
}

impl Look {
    /// Whether it still stands. One from the future is of a clock that was wrong, and does not.
    fn stands(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        !age.is_negative() && age < self.took.saturating_mul(SHARE)
    }
}

/// Where the last look is kept. A clone or a twin has files of its own, and keeps none.
pub(super) fn place(settings: &Settings) -> Option<PathBuf> {
    (settings.root == Path::new("/")).then(|| settings.runtime_dir.join("languages.json"))
}

/// Looks now, and keeps what was found.
pub(super) fn anew(settings: &Settings, limits: Limits, place: Option<&Path>) -> Look {
    let at = Timestamp::now();
    let (found, gaps) = walk::all(settings, limits);
    let look = Look { at, took: Timestamp::now().duration_since(at), found, gaps };
    if let (Some(file), Ok(text)) = (place, serde_json::to_vec(&look)) {
        // Where it cannot be kept, the next one looks again.
        let directory = file.parent().unwrap_or(Path::new("/"));
        let _ = std::fs::create_dir_all(directory).and_then(|()| durable::replace(file, &text));
    }
    look
}

/// The last look while it stands, otherwise a new one.
pub(super) fn last(settings: &Settings, limits: Limits, place: Option<&Path>) -> Look {
    let text = place.and_then(|file| std::fs::read(file).ok());
    let kept = text.and_then(|text| serde_json::from_slice::<Look>(&text).ok());
    let Some(mut look) = kept.filter(|look| look.stands(Timestamp::now())) else {
        return anew(settings, limits, place);
    };
    look.found.retain(|it| settings.host(&it.file.to_string_lossy()).is_file());
    look
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: SignedDuration = SignedDuration::from_secs(10);

    fn look(at: Timestamp, took: SignedDuration) -> Look {
        Look { at, took, found: Vec::new(), gaps: Vec::new() }
    }

    #[test]
    fn a_look_stands_a_hundred_times_as_long_as_it_took() {
        let at = Timestamp::UNIX_EPOCH;
        let long = look(at, LONG);
        for (after, stands) in [(-1, false), (0, true), (999, true), (1000, false)] {
            assert_eq!(long.stands(at + SignedDuration::from_secs(after)), stands, "{after} s");
        }
        assert!(!look(at, SignedDuration::ZERO).stands(at));
    }

    #[test]
    fn the_last_look_is_told_without_what_is_gone_until_it_is_too_old_or_broken() {
        let (host, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = Settings { root: host.path().to_owned(), ..Settings::default() };
        let site = host.path().join("opt/site-packages");
        let install = |name: &str| {
            let metadata = site.join(format!("{name}-1.dist-info/METADATA"));
            fs::create_dir_all(metadata.parent().unwrap()).unwrap();
            fs::write(metadata, format!("Name: {name}\nVersion: 1\n\n")).unwrap();
        };
        let kept = run.path().join("below/languages.json");
        let names =
            |look: Look| look.found.into_iter().map(|it| it.package.name).collect::<Vec<_>>();
        let last = || names(super::last(&settings, Limits::default(), Some(&kept)));
        let keep = |look: &Look| fs::write(&kept, serde_json::to_vec(look).unwrap()).unwrap();

        install("old");
        install("stays");
        assert_eq!(last(), ["old", "stays"], "nothing was kept, so it is looked");
        // As if that had taken long.
        let text = fs::read(&kept).unwrap();
        let mut long: Look = serde_json::from_slice(&text).unwrap();
        long.took = LONG;
        keep(&long);
        fs::remove_dir_all(site.join("old-1.dist-info")).unwrap();
        install("new");
        assert_eq!(last(), ["stays"]);
        let now = names(anew(&settings, Limits::default(), Some(&kept)));
        assert_eq!(now, ["new", "stays"], "who wants to know now is told now");

        long.at = Timestamp::now() - LONG * SHARE;
        keep(&long);
        assert_eq!(last(), ["new", "stays"]);
        fs::write(&kept, "{").unwrap();
        assert_eq!(last(), ["new", "stays"]);
    }

    #[test]
    fn only_what_runs_keeps_its_looks() {
        let clone = Settings { root: "/clone".into(), ..Settings::default() };
        assert_eq!(place(&clone), None);
        assert!(place(&Settings::default()).is_some());
    }
}
