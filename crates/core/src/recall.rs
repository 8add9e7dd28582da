//! A version that nobody is to get any more, whatever their cohort: the vendor has withdrawn it, or somebody has seen what
//! it does. It stands until a person lifts it.
//!
//! A bar ([`crate::plan::Barred`]) is what a rollout learns by itself, for the cohorts it went over. A recall is somebody's
//! word, for every host: no plan takes the version, a rollout that would still bring it to a host is halted, and a host
//! that asks whether its grant stands is told no.

use crate::assignment::PackageChange;
use crate::policy::glob;
use crate::{Hold, Shared, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest package pattern, version and reason, in characters.
pub const MAX_TEXT: usize = 500;

/// A version that is recalled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recall {
    /// Binary package; `*` and `?` are globs (`linux-image-*`).
    pub package: String,
    /// Exactly this version, as the package manager writes it.
    pub version: String,
    /// Why.
    pub reason: String,
    /// Who recalled it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whoever a rollout has given it to is taken back; who was at work when it was recalled, when that has ended.
    #[serde(default)]
    pub undo: bool,
}

/// Why a recall cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecall {
    /// No `=` between package and version.
    #[error("`{0}` names no version")]
    NoVersion(String),
    /// Nothing can be called so.
    #[error(
        "`{0}` is no package name: letters, digits, `+`, `-`, `.`, `_`, and the globs `*` and `?`"
    )]
    Package(String),
    /// It would stop every package of that version.
    #[error("`{0}` is every package there is: name the one that is meant")]
    Everything(String),
    /// Nothing can have that version.
    #[error("`{0}` is no version: letters, digits and `.`, `+`, `-`, `~`, `:`, `^`, `_`")]
    Version(String),
    /// A recall without a reason is not understood by whoever finds it.
    #[error("a recall says why, in one line of at most {MAX_TEXT} characters")]
    Reason,
}

/// Reads `PACKAGE=VERSION`.
///
/// # Errors
/// [`BadRecall`] where one of the two cannot be what it stands for.
pub fn parse_version(text: &str) -> Result<(String, String), BadRecall> {
    let (package, version) =
        text.split_once('=').ok_or_else(|| BadRecall::NoVersion(text.to_owned()))?;
    check(package, version)?;
    Ok((package.to_owned(), version.to_owned()))
}

/// Could there be such a package in such a version?
///
/// # Errors
/// [`BadRecall`] where not.
pub fn check(package: &str, version: &str) -> Result<(), BadRecall> {
    let named = |c: char| c.is_ascii_alphanumeric() || "+-._*?".contains(c);
    if package.is_empty() || package.len() > MAX_TEXT || !package.chars().all(named) {
        return Err(BadRecall::Package(package.to_owned()));
    }
    if package.chars().all(|c| "*?".contains(c)) {
        return Err(BadRecall::Everything(package.to_owned()));
    }
    let numbered = |c: char| c.is_ascii_alphanumeric() || ".+-~:^_".contains(c);
    if version.is_empty() || version.len() > MAX_TEXT || !version.chars().all(numbered) {
        return Err(BadRecall::Version(version.to_owned()));
    }
    Ok(())
}

/// Is it one line that says something?
///
/// # Errors
/// [`BadRecall::Reason`] where not.
pub fn check_reason(reason: &str) -> Result<(), BadRecall> {
    let says = !reason.trim().is_empty() && reason.chars().count() <= MAX_TEXT;
    if says && !reason.chars().any(char::is_control) { Ok(()) } else { Err(BadRecall::Reason) }
}

impl Recall {
    /// Is this version of this binary package recalled?
    pub fn hits(&self, package: &str, version: &str) -> bool {
        self.version == version && glob::matches(&self.package, package)
    }

    /// Why the package is not taken.
    pub fn hold(&self, package: &str) -> Hold {
        Hold::Recalled {
            package: package.to_owned(),
            version: self.version.clone(),
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// The first of these changes that brings a recalled version, as the hold that stops it.
pub fn stops(recalls: &[Recall], changes: &[Shared<PackageChange>]) -> Option<Hold> {
    // Few are recalled, and mostly none: the changes are gone through only where there is something to find.
    recalls.iter().find_map(|recall| {
        let change = changes.iter().find(|c| recall.hits(&c.name, &c.to))?;
        Some(recall.hold(&change.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recalled_is_named_by_package_and_version() {
        let good = [
            ("openssl=3.0.15-1~deb12u1", ("openssl", "3.0.15-1~deb12u1")),
            ("linux-image-*=6.1.64-1", ("linux-image-*", "6.1.64-1")),
            ("libstdc++6=1:12.2.0-14+b1", ("libstdc++6", "1:12.2.0-14+b1")),
        ];
        for (text, (package, version)) in good {
            assert_eq!(parse_version(text), Ok((package.to_owned(), version.to_owned())), "{text}");
        }
        for text in
            ["openssl", "=1", "openssl=", "*=1", "?*=1", "a b=1", "a=1 2", "a=1;rm", "a=1=2", "ä=1"]
        {
            assert!(parse_version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert!(check_reason("eats file systems").is_ok());
        for bad in ["", "  ", "two\nlines", &"x".repeat(501)] {
            assert_eq!(check_reason(bad), Err(BadRecall::Reason), "{bad:?}");
        }
    }

    #[test]
    fn a_recall_hits_its_version_of_the_packages_it_names_and_nothing_else() {
        let recall = Recall {
            package: "linux-image-*".into(),
            version: "6.1.64-1".into(),
            reason: "eats ext4".into(),
            by: "alice".into(),
            at: Timestamp::UNIX_EPOCH,
            undo: false,
        };
        let change = |name: &str, to: &str| -> Shared<PackageChange> {
            PackageChange {
                name: name.into(),
                architecture: "amd64".into(),
                from: "6.1.55-1".into(),
                to: to.into(),
                sha256: crate::Digest([0; 32]),
                size: 1,
            }
            .into()
        };
        let recalls = [recall];
        assert_eq!(stops(&recalls, &[change("openssl", "6.1.64-1")]), None);
        assert_eq!(stops(&recalls, &[change("linux-image-6.1.0-14-amd64", "6.1.66-1")]), None);
        let changes = [change("openssl", "3"), change("linux-image-6.1.0-14-amd64", "6.1.64-1")];
        let hold = stops(&recalls, &changes).unwrap();
        assert_eq!(
            hold.to_string(),
            "linux-image-6.1.0-14-amd64 6.1.64-1 is recalled by alice: eats ext4"
        );
        assert_eq!(stops(&[], &changes), None);
    }
}
