//! The vendors' indexes as apt has verified and kept them: when each was made, until when it is good, and when apt last
//! asked for them.

use fettle_core::Timestamp;
use jiff::SignedDuration;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Where apt keeps them.
pub const LISTS: &str = "/var/lib/apt/lists";
/// Lists that nobody has asked for anew for so long are told: what came out since is not known on this host.
const OLD: SignedDuration = SignedDuration::from_hours(72);
/// The head of a Release file, before its sums, in bytes.
const HEAD: u64 = 16 << 10;

/// The `Release` file of one suite (Debian repository format, "Release" files).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// `Label:`.
    pub label: String,
    /// `Suite:`.
    pub suite: String,
    /// `Date:`: when it was made.
    pub made: Option<Timestamp>,
    /// `Valid-Until:`: not to be used after. Suites that never change have none.
    pub until: Option<Timestamp>,
}

/// All indexes of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    /// By label and suite.
    pub releases: Vec<Release>,
    /// When apt last asked its sources; `None`: never, or that cannot be told.
    pub asked: Option<Timestamp>,
}

/// Reads what lies in `lists` (`/var/lib/apt/lists`). What cannot be read is left out.
pub fn read(lists: &Path) -> Indexes {
    let mut releases: Vec<Release> = fs::read_dir(lists)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| {
            let name = e.file_name();
            let name = name.as_encoded_bytes();
            name.ends_with(b"_InRelease") || name.ends_with(b"_Release")
        })
        .filter_map(|e| {
            let mut head = Vec::new();
            fs::File::open(e.path()).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
            Some(release(&String::from_utf8_lossy(&head)))
        })
        .collect();
    releases.sort_by(|a, b| (&a.label, &a.suite).cmp(&(&b.label, &b.suite)));
    Indexes { releases, asked: asked(lists) }
}

/// When apt last asked its sources; `None`: never, or that cannot be told.
pub fn asked(lists: &Path) -> Option<Timestamp> {
    // Every fetch goes through this directory, also one that finds nothing new.
    let at = fs::metadata(lists.join("partial")).and_then(|m| m.modified()).ok()?;
    Timestamp::try_from(at).ok()
}

fn release(text: &str) -> Release {
    let field = |name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    Release {
        label: field("Label").unwrap_or_default().to_owned(),
        suite: field("Suite").unwrap_or_default().to_owned(),
        made: field("Date").and_then(date),
        until: field("Valid-Until").and_then(date),
    }
}

/// `Sat, 16 May 2026 09:31:05 UTC`, as RFC 2822 but for the zone's name.
fn date(value: &str) -> Option<Timestamp> {
    let value = value.strip_suffix("UTC").map_or(value.to_owned(), |v| format!("{v}+0000"));
    Some(jiff::fmt::rfc2822::parse(&value).ok()?.timestamp())
}

impl Release {
    /// Must it no longer be used?
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until < now)
    }

    /// Is it the one that apt calls `Label:Version/Suite`?
    fn is_called(&self, name: &str) -> bool {
        let (label, rest) = name.split_once(':').unwrap_or(("", name));
        label == self.label && rest.rsplit('/').next() == Some(self.suite.as_str())
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the index of {} {}", self.label, self.suite)?;
        self.until.map_or(Ok(()), |until| write!(f, " was good until {until}"))
    }
}

impl Indexes {
    /// When the newest was made.
    pub fn newest(&self) -> Option<Timestamp> {
        self.releases.iter().filter_map(|r| r.made).max()
    }

    /// The expired index that a version comes from, if no other one offers it. `releases` as apt's simulation prints
    /// them: `Debian:12.8/stable, Debian-Security:12/stable-security`.
    pub fn expired(&self, releases: &str, now: Timestamp) -> Option<&Release> {
        let mut expired = None;
        for name in releases.split(", ") {
            match self.releases.iter().find(|r| r.is_called(name)) {
                Some(release) if release.is_expired(now) => expired = Some(release),
                _ => return None,
            }
        }
        expired
    }

    /// What of it somebody should know: an index that has expired hides what came out since, and so do lists that
    /// nobody fetches. The words change only when the host does.
    pub fn gaps(&self, now: Timestamp) -> Vec<String> {
        let expired = self.releases.iter().filter(|r| r.is_expired(now));
        let mut gaps: Vec<String> = expired
            .map(|r| format!("package lists: {r}: its mirror is stale, or held back by somebody"))
            .collect();
        if let Some(asked) = self.asked.filter(|asked| now.duration_since(*asked) > OLD) {
            gaps.push(format!(
                "package lists: last asked for on {}: what came out since is not known here (see apt-daily.timer)",
                asked.strftime("%F")
            ));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn indexes() -> Indexes {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        put(
            "deb.example_dists_stable-security_InRelease",
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian-Security\n\
             Suite: stable-security\nDate: Sat, 16 May 2026 09:31:05 UTC\nValid-Until: Sat, 23 May 2026 09:31:05 UTC\n\
             SHA256:\n 00 1 main/binary-amd64/Packages\n",
        );
        put(
            "deb.example_dists_stable_Release",
            "Label: Debian\nSuite: stable\nDate: Sat, 10 Jan 2026 10:00:00 UTC\n",
        );
        put("deb.example_dists_stable_main_binary-amd64_Packages", "Package: x\nLabel: y\n");
        read(directory.path())
    }

    #[test]
    fn each_suite_has_its_dates_and_other_files_are_none() {
        let found = indexes();
        let until: Vec<_> = found.releases.iter().map(|r| (r.label.as_str(), r.until)).collect();
        let expected = [("Debian", None), ("Debian-Security", Some(at("2026-05-23T09:31:05Z")))];
        assert_eq!(until, expected);
        assert_eq!(found.newest(), Some(at("2026-05-16T09:31:05Z")));
        assert_eq!(found.asked, None);
        assert_eq!(release("Label: x\nDate: not a date\n").made, None);
        assert_eq!(read(Path::new("/no/such/place")), Indexes::default());
    }

    #[test]
    fn a_version_is_held_back_only_when_every_index_that_offers_it_has_expired() {
        let found = indexes();
        let (before, after) = (at("2026-05-20T00:00:00Z"), at("2026-05-24T00:00:00Z"));
        let security = "Debian-Security:12/stable-security";
        let both = "Debian:12.8/stable, Debian-Security:12/stable-security";
        for (releases, now, expected) in [
            (security, before, false),
            (security, after, true),
            (both, after, false),
            ("Debian:12.8/stable", after, false),
            ("Acme:1/stable", after, false),
            ("", after, false),
        ] {
            assert_eq!(found.expired(releases, now).is_some(), expected, "{releases} {now}");
        }
    }

    #[test]
    fn what_is_stale_is_told_with_its_day() {
        let mut found = indexes();
        assert!(found.gaps(at("2026-05-20T00:00:00Z")).is_empty());
        let gaps = found.gaps(at("2026-05-24T00:00:00Z"));
        assert_eq!(
            gaps,
            [
                "package lists: the index of Debian-Security stable-security was good until 2026-05-23T09:31:05Z: \
              its mirror is stale, or held back by somebody"
            ]
        );
        found.asked = Some(at("2026-05-16T10:00:00Z"));
        assert!(found.gaps(at("2026-05-19T09:00:00Z")).is_empty());
        let gaps = found.gaps(at("2026-05-19T11:00:00Z"));
        assert!(gaps[0].contains("last asked for on 2026-05-16"), "{gaps:?}");
    }
}
