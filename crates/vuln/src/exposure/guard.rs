//! Whether new data may be believed unseen: what changed from one catalogue to the next, release by release.
//!
//! Vendors change a little every day. A feed that takes back half of what it said, says many times as much, or says
//! something else about a good part of what it spoke of before is cut off, mixed up or poisoned until a person has
//! looked: `fixed at 0` everywhere would make every finding vanish, `fixed at 9999` would make every host late.

use super::catalogue::{Catalogue, Statement};
use std::fmt;

/// Fewer statements than this about a release change as they like.
const SPEAKS_FROM: usize = 100;
/// A release with this many times as many statements as before is held.
const GREW: usize = 3;
/// A release with less than one in this many of the statements it had is held.
const SHRANK: usize = 2;
/// More than one in this many statements with another word is held.
const REWORDED: usize = 4;

/// Why a set of feeds is held for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sudden {
    /// Less than half of the statements about a release are left.
    Shrunk {
        /// Which release.
        release: String,
        /// Statements in force.
        before: usize,
        /// Statements in the new set.
        after: usize,
    },
    /// More than three times as many.
    Grew {
        /// Which release.
        release: String,
        /// Statements in force.
        before: usize,
        /// Statements in the new set.
        after: usize,
    },
    /// More than a quarter of what both speak of has another status or fixed version.
    Reworded {
        /// Which release.
        release: String,
        /// Statements that both have.
        both: usize,
        /// Of these, those with another word.
        changed: usize,
        /// Of these, those that are said to be not affected now.
        cleared: usize,
    },
}

impl Sudden {
    /// Its code in problems.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Shrunk { .. } => "feed-shrunk",
            Self::Grew { .. } => "feed-grew",
            Self::Reworded { .. } => "feed-reworded",
        }
    }
}

impl fmt::Display for Sudden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrunk { release, before, after } | Self::Grew { release, before, after } => {
                write!(f, "of {release} it makes {after} statements, {before} are in force")
            }
            Self::Reworded { release, both, changed, cleared } => write!(
                f,
                "of {release} it says something else than before in {changed} of {both} statements, {cleared} of \
                 them not affected any more"
            ),
        }
    }
}

impl Catalogue {
    /// The first sudden change from this catalogue to another, by release. Releases that are new are not judged.
    pub fn sudden_change(&self, new: &Self) -> Option<Sudden> {
        self.releases().find_map(|release| {
            let (old, new) = (self.statements_of(release), new.statements_of(release));
            let (before, after) = (old.len(), new.len());
            if before < SPEAKS_FROM {
                return None;
            }
            let release = release.to_owned();
            if after * SHRANK < before {
                return Some(Sudden::Shrunk { release, before, after });
            }
            if after > before * GREW {
                return Some(Sudden::Grew { release, before, after });
            }
            let (mut both, mut changed, mut cleared) = (0, 0, 0);
            for (was, is) in in_both(old, new) {
                both += 1;
                if was.status != is.status {
                    changed += 1;
                    cleared += usize::from(is.is_never_affected());
                }
            }
            (changed * REWORDED > both).then_some(Sudden::Reworded {
                release,
                both,
                changed,
                cleared,
            })
        })
    }
}

/// Pairs about the same vulnerability of the same source, of two lists sorted by these.
fn in_both<'c>(
    old: &'c [Statement],
    new: &'c [Statement],
) -> impl Iterator<Item = (&'c Statement, &'c Statement)> {
    fn about(statement: &Statement) -> (&str, &str) {
        (&statement.source, &statement.id)
    }
    let mut rest = new;
    old.iter().filter_map(move |was| {
        let skip = rest.iter().take_while(|is| about(is) < about(was)).count();
        rest = &rest[skip..];
        rest.first().filter(|is| about(is) == about(was)).map(|is| (was, is))
    })
}

#[cfg(test)]
mod tests {
    use super::super::CatalogueInput;
    use super::*;
    use fettle_core::advisory::{Advisory, AdvisoryStatus};

    fn catalogue(
        release: &str,
        count: usize,
        status: impl Fn(usize) -> AdvisoryStatus,
    ) -> Catalogue {
        let advisory = |n: usize| Advisory {
            id: format!("CVE-2024-{n}"),
            source: format!("source-{}", n % 7),
            release: release.to_owned(),
            status: status(n),
            urgency: String::new(),
            evidence: "test".to_owned(),
        };
        let advisories = (0..count).map(advisory).collect();
        Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() })
    }

    fn fixed(version: &str) -> AdvisoryStatus {
        AdvisoryStatus::Fixed { version: version.to_owned() }
    }

    #[test]
    fn ordinary_news_pass_and_sudden_changes_are_named_with_their_figures() {
        let before = catalogue("bookworm", 200, |_| fixed("1-1"));
        let sudden = |after: &Catalogue| before.sudden_change(after).map(|s| s.to_string());
        let some = |count: usize, word: AdvisoryStatus| {
            catalogue("bookworm", 200, move |n| if n < count { word.clone() } else { fixed("1-1") })
        };
        assert_eq!(sudden(&before), None);
        assert_eq!(sudden(&some(50, fixed("9999"))), None, "a quarter may change");
        assert_eq!(
            sudden(&some(51, AdvisoryStatus::NotAffected)).unwrap(),
            "of bookworm it says something else than before in 51 of 200 statements, 51 of them not affected any more"
        );
        assert!(sudden(&some(51, fixed("9999"))).unwrap().contains("51 of 200 statements, 0 of"));
        assert_eq!(sudden(&catalogue("bookworm", 100, |_| fixed("1-1"))), None);
        assert_eq!(
            sudden(&catalogue("bookworm", 99, |_| fixed("1-1"))).unwrap(),
            "of bookworm it makes 99 statements, 200 are in force"
        );
        assert_eq!(sudden(&catalogue("bookworm", 600, |_| fixed("1-1"))), None);
        assert!(sudden(&catalogue("bookworm", 601, |_| fixed("1-1"))).is_some());
        // A release that is gone altogether has shrunk; one that is new has not grown.
        assert!(sudden(&catalogue("trixie", 500, |_| fixed("1-1"))).unwrap().contains("makes 0"));
        let few = catalogue("bookworm", 99, |_| fixed("1-1"));
        assert_eq!(few.sudden_change(&catalogue("trixie", 9000, |_| fixed("1-1"))), None);
    }
}
