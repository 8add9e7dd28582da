//! Whether new data may be believed unseen: what changed from one catalogue to the next, release by release, source
//! package by source package, and in what ranks.
//!
//! Vendors change a little every day. A feed that takes back half of what it said, says many times as much, or says
//! something else about a good part of what it spoke of before is cut off, mixed up or poisoned until a person has
//! looked: `fixed at 0` everywhere would make every finding vanish, `fixed at 9999` would make every host late. A quarter
//! of a release is much: five packages that are everywhere are a few hundredths of it, so each is looked at by itself. And
//! what only ranks decides what is done first: everything critical is nothing critical.

use super::catalogue::{Catalogue, Statement, Vulnerability};
use crate::feed::Feed;
use fettle_core::advisory::{AdvisoryStatus, Ranking};
use fettle_core::finding::Severity;
use std::cmp::Ordering;
use std::fmt;

/// Fewer statements than this about a release change as they like.
const SPEAKS_FROM: usize = 100;
/// A release with this many times as many statements as before is held.
const GREW: usize = 3;
/// A release with less than one in this many of the statements it had is held.
const SHRANK: usize = 2;
/// More than one in this many statements with another word is held; of a release's severities and of all scores as well, where
/// they go the same way.
const REWORDED: usize = 4;
/// Fewer statements than this about a source package are cleared as the vendor likes. `sudo` has 17 in Debian 12.
const PACKAGE_FROM: usize = 10;
/// Fewer scores than this change as they like.
const SCORES_FROM: usize = 50;
/// More than one score in this many at the maximum is held. Of NVD's, one in a hundred is.
const AT_MAXIMUM: usize = 4;
/// More new entries than this on the list of what is exploited, and half as many again as were on it, are held. In a
/// usual month there are 20, about all software of the world.
const NEWLY_EXPLOITED: usize = 25;
/// Fewer than this on the list of what is exploited are taken off as one likes.
const EXPLOITED_FROM: usize = 20;
/// More than one probability of exploitation in this many that leaps is held. In half a year one in 200 does.
const LEAPT: usize = 20;
/// By this much a probability leaps.
const LEAP: f32 = 0.25;
/// A probability from here on is a high one, and below [`LOW`] a low one.
const HIGH: f32 = 0.5;
const LOW: f32 = 0.1;
/// So many examples are named.
const EXAMPLES: usize = 3;

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
    /// Source packages of which more than half of the statements that called something affected do so no more, or of
    /// fewer versions.
    Cleared {
        /// Which release.
        release: String,
        /// Name, statements that called something affected, and those of them that were cleared; the most first.
        packages: Vec<(String, usize, usize)>,
    },
    /// The vendor's own word of severity went one way in more than a quarter of the statements about a release.
    Severity {
        /// Which release.
        release: String,
        /// Statements that both have.
        both: usize,
        /// Of these, those that went this way.
        changed: usize,
        /// Up, or down?
        raised: bool,
        /// Some of them.
        examples: Vec<String>,
    },
    /// More than a quarter of the CVSS scores went into another band, the same way.
    Scores {
        /// Vulnerabilities that both score.
        both: usize,
        /// Of these, those that went this way.
        changed: usize,
        /// Up, or down?
        raised: bool,
        /// Some of them.
        examples: Vec<String>,
    },
    /// More than a quarter of the CVSS scores are 10.0, and were not before.
    Maximum {
        /// Vulnerabilities with a score.
        all: usize,
        /// Of these, those with 10.0.
        maximum: usize,
        /// Some of them.
        examples: Vec<String>,
    },
    /// Many more, or less than half as many, of the vulnerabilities that vendors speak of are called exploited.
    Exploited {
        /// Called so in force.
        before: usize,
        /// Called so in the new set.
        after: usize,
        /// Some that were not, or are not any more.
        examples: Vec<String>,
    },
    /// Probabilities of exploitation leap up together, or most high ones become low ones.
    Probabilities {
        /// Those that both have; where they fell: the high ones of them.
        both: usize,
        /// Of these, those that leapt.
        changed: usize,
        /// Up, or down?
        raised: bool,
        /// Some of them.
        examples: Vec<String>,
    },
}

impl Sudden {
    /// Its code in problems.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Shrunk { .. } => "feed-shrunk",
            Self::Grew { .. } => "feed-grew",
            Self::Reworded { .. } => "feed-reworded",
            Self::Cleared { .. } => "feed-cleared",
            Self::Severity { .. }
            | Self::Scores { .. }
            | Self::Maximum { .. }
            | Self::Exploited { .. }
            | Self::Probabilities { .. } => "feed-reranked",
        }
    }

    /// Can it be this feed that brought it?
    pub fn is_by(&self, feed: Feed) -> bool {
        match self {
            Self::Scores { .. } | Self::Maximum { .. } => {
                matches!(feed, Feed::Cvss | Feed::CveRecords | Feed::Nvd)
            }
            Self::Exploited { .. } => feed == Feed::Kev,
            Self::Probabilities { .. } => feed == Feed::Epss,
            _ => feed.says_who_is_affected(),
        }
    }

    /// Does it say something of a feed that was never there before? What others said before is no measure for the words of
    /// another speaker, but a score of 10.0 everywhere is nobody's word.
    pub fn is_of_a_first(&self) -> bool {
        !matches!(self, Self::Scores { .. })
    }
}

impl fmt::Display for Sudden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |raised: &bool| if *raised { "raises" } else { "lowers" };
        match self {
            Self::Shrunk { release, before, after } | Self::Grew { release, before, after } => {
                write!(f, "of {release} it makes {after} statements, {before} are in force")
            }
            Self::Reworded { release, both, changed, cleared } => write!(
                f,
                "of {release} it says something else than before in {changed} of {both} statements, {cleared} of \
                 them not affected any more"
            ),
            Self::Cleared { release, packages } => {
                let told = |(name, all, cleared): &(String, usize, usize)| {
                    format!("{name} ({cleared} of {all} statements)")
                };
                let told: Vec<_> = packages.iter().take(2 * EXAMPLES).map(told).collect();
                let more = packages.len() - told.len();
                write!(f, "of {release} it takes back what made {}", told.join(", "))?;
                if more > 0 {
                    write!(f, " and {more} more packages")?;
                }
                write!(f, " vulnerable: not affected, fixed by an older version, or nothing said")
            }
            Self::Severity { release, both, changed, raised, examples } => write!(
                f,
                "of {release} it {} the severity of {changed} of {both} statements: {}",
                way(raised),
                examples.join(", ")
            ),
            Self::Scores { both, changed, raised, examples } => write!(
                f,
                "it {} the CVSS score of {changed} of {both} vulnerabilities: {}",
                way(raised),
                examples.join(", ")
            ),
            Self::Maximum { all, maximum, examples } => write!(
                f,
                "it gives {maximum} of {all} vulnerabilities the highest CVSS score there is: {}",
                examples.join(", ")
            ),
            Self::Exploited { before, after, examples } => write!(
                f,
                "of the vulnerabilities that vendors speak of it calls {after} exploited, {before} are in force: {} \
                 {}",
                if after > before { "new are" } else { "gone are" },
                examples.join(", ")
            ),
            Self::Probabilities { both, changed, raised: true, examples } => write!(
                f,
                "it raises the probability of exploitation of {changed} of {both} vulnerabilities by more than {LEAP}: {}",
                examples.join(", ")
            ),
            Self::Probabilities { both, changed, raised: false, examples } => write!(
                f,
                "of {both} vulnerabilities with a high probability of exploitation it makes {changed} low: {}",
                examples.join(", ")
            ),
        }
    }
}

impl Catalogue {
    /// The sudden changes from this catalogue to another: by release, then those of what ranks. Releases that are new are
    /// not judged.
    pub fn sudden_changes(&self, new: &Self) -> Vec<Sudden> {
        let mut found: Vec<Sudden> = self
            .releases()
            .flat_map(|release| {
                of_release(release, self.statements_of(release), new.statements_of(release))
            })
            .collect();
        found.extend(of_ranks(self.vulnerabilities(), new.vulnerabilities()));
        found
    }
}

/// What of a release changed suddenly; the first that is found, because the others follow from it.
fn of_release(release: &str, old: &[Statement], new: &[Statement]) -> Option<Sudden> {
    let (before, after) = (old.len(), new.len());
    let release = release.to_owned();
    if before >= SPEAKS_FROM {
        if after * SHRANK < before {
            return Some(Sudden::Shrunk { release, before, after });
        }
        if after > before * GREW {
            return Some(Sudden::Grew { release, before, after });
        }
        let (mut both, mut changed, mut cleared) = (0, 0, 0);
        let mut severities = Ways::default();
        for (was, is) in in_both(old, new, about) {
            both += 1;
            if was.status != is.status {
                changed += 1;
                cleared += usize::from(is.is_never_affected());
            }
            severities.note(by_vendor(was).cmp(&by_vendor(is)), || {
                format!("{} in {} ({} → {})", is.id, is.source, word(was), word(is))
            });
        }
        if changed * REWORDED > both {
            return Some(Sudden::Reworded { release, both, changed, cleared });
        }
        if let Some((raised, changed, examples)) = severities.beyond(both, REWORDED) {
            return Some(Sudden::Severity { release, both, changed, raised, examples });
        }
    }
    let packages = cleared_packages(old, new);
    (!packages.is_empty()).then_some(Sudden::Cleared { release, packages })
}

/// The source packages of which most of what called something affected is taken back: name, statements, taken back.
fn cleared_packages(old: &[Statement], new: &[Statement]) -> Vec<(String, usize, usize)> {
    let mut found: Vec<(String, usize, usize)> = Vec::new();
    for was in old.chunk_by(|a, b| a.source == b.source) {
        let source = &was[0].source;
        let affects = was.iter().filter(|s| affects(s)).count();
        if affects < PACKAGE_FROM {
            continue;
        }
        let start = new.partition_point(|s| s.source < *source);
        let end = new.partition_point(|s| s.source <= *source);
        let is = &new[start..end];
        // Vendors take whole packages out of a release, and nothing is said of them any more. None of those that have many
        // vulnerabilities goes that way unnoticed.
        if is.is_empty() && affects < SPEAKS_FROM {
            continue;
        }
        let kept = in_both(was, is, about).filter(|(was, is)| affects_of(was, is)).count();
        let cleared = affects - kept;
        if cleared * 2 > affects {
            found.push((source.to_string(), affects, cleared));
        }
    }
    found.sort_by_key(|(_, _, cleared)| std::cmp::Reverse(*cleared));
    found
}

/// Does it call any version affected?
fn affects(statement: &Statement) -> bool {
    use AdvisoryStatus::{Fixed, Open, Ranges};
    matches!(statement.status, Fixed { .. } | Open { .. } | Ranges { .. })
}

/// Did a statement call versions affected, and does it still, no fewer of them?
fn affects_of(was: &Statement, is: &Statement) -> bool {
    let is_lowered = matches!(
        (&was.status, &is.status),
        (AdvisoryStatus::Fixed { .. }, AdvisoryStatus::Fixed { .. })
    ) && is.fixed_key < was.fixed_key;
    affects(was) && affects(is) && !is_lowered
}

/// How bad the vendor calls it, whatever others say.
fn by_vendor(statement: &Statement) -> Severity {
    Severity::judge(&Ranking::default(), &statement.urgency)
}

fn word(statement: &Statement) -> &str {
    if statement.urgency.is_empty() { "no word" } else { &statement.urgency }
}

/// What of scores, of probabilities and of the list of what is exploited changed suddenly, each by itself. Only what vendors
/// spoke of before and speak of now is looked at.
fn of_ranks(old: &[Vulnerability], new: &[Vulnerability]) -> Vec<Sudden> {
    let mut found = Vec::new();
    let (mut scored, mut scores) = (0, Ways::default());
    let (mut maximum_before, mut scored_before) = (0, 0);
    let (mut maximum, mut scored_now, mut highest) = (0, 0, Vec::new());
    let (mut likely, mut leaps) = (0, Ways::default());
    let (mut high, mut fallen) = (0, Ways::default());
    let (mut exploited, mut exploited_now, mut listed) = (0, 0, Ways::default());
    for (was, is) in in_both(old, new, |v| v.id.as_ref()) {
        let score = |v: &Vulnerability| v.cvss.as_ref().map(|c| c.score);
        if let (Some(before), Some(now)) = (score(was), score(is)) {
            scored += 1;
            let told = || format!("{} ({before:.1} → {now:.1})", is.id);
            scores.note(band(before).cmp(&band(now)), told);
        }
        if let Some(before) = score(was) {
            scored_before += 1;
            maximum_before += usize::from(before >= 10.0);
        }
        if let Some(now) = score(is) {
            scored_now += 1;
            if now >= 10.0 {
                maximum += 1;
                if highest.len() < EXAMPLES {
                    highest.push(is.id.to_string());
                }
            }
        }
        if let (Some(before), Some(now)) = (was.epss, is.epss) {
            let told = || format!("{} ({before} → {now})", is.id);
            likely += 1;
            if now - before > LEAP {
                leaps.note(Ordering::Less, told);
            }
            if before >= HIGH {
                high += 1;
                if now < LOW {
                    fallen.note(Ordering::Greater, told);
                }
            }
        }
        exploited += usize::from(was.kev.is_some());
        exploited_now += usize::from(is.kev.is_some());
        listed.note(was.kev.is_some().cmp(&is.kev.is_some()), || is.id.to_string());
    }
    if scored >= SCORES_FROM
        && let Some((raised, changed, examples)) = scores.beyond(scored, REWORDED)
    {
        found.push(Sudden::Scores { both: scored, changed, raised, examples });
    }
    let was_so = maximum_before * AT_MAXIMUM > scored_before;
    if scored_now >= SCORES_FROM && maximum * AT_MAXIMUM > scored_now && !was_so {
        found.push(Sudden::Maximum { all: scored_now, maximum, examples: highest });
    }
    let (before, after) = (exploited, exploited_now);
    let many = before > 0 && after > before + before / 2 + NEWLY_EXPLOITED;
    let few = before >= EXPLOITED_FROM && after * SHRANK < before;
    if many || few {
        let examples = if many { listed.up.1 } else { listed.down.1 };
        found.push(Sudden::Exploited { before, after, examples });
    }
    if likely >= SCORES_FROM
        && let Some((raised, changed, examples)) = leaps.beyond(likely, LEAPT)
    {
        found.push(Sudden::Probabilities { both: likely, changed, raised, examples });
    } else if high >= EXPLOITED_FROM
        && let Some((raised, changed, examples)) = fallen.beyond(high, SHRANK)
    {
        found.push(Sudden::Probabilities { both: high, changed, raised, examples });
    }
    found
}

fn band(score: f32) -> Severity {
    Severity::judge(&Ranking { cvss: Some(score), ..Ranking::default() }, "")
}

/// How many went up and how many down, with some of each.
#[derive(Default)]
struct Ways {
    up: (usize, Vec<String>),
    down: (usize, Vec<String>),
}

impl Ways {
    /// Notes how what was stands to what is.
    fn note(&mut self, was_to_is: Ordering, told: impl FnOnce() -> String) {
        let (count, examples) = match was_to_is {
            Ordering::Equal => return,
            Ordering::Less => &mut self.up,
            Ordering::Greater => &mut self.down,
        };
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(told());
        }
    }

    /// Where more than one in so many of all went one way: up?, how many, and some.
    fn beyond(self, all: usize, one_in: usize) -> Option<(bool, usize, Vec<String>)> {
        let ways = [(true, self.up), (false, self.down)];
        let found = ways.into_iter().find(|(_, (count, _))| count * one_in > all);
        found.map(|(raised, (count, examples))| (raised, count, examples))
    }
}

fn about(statement: &Statement) -> (&str, &str) {
    (&statement.source, &statement.id)
}

/// Pairs about the same thing, of two lists sorted by it.
fn in_both<'c, T, K: Ord + 'c>(
    old: &'c [T],
    new: &'c [T],
    about: impl Fn(&'c T) -> K + 'c,
) -> impl Iterator<Item = (&'c T, &'c T)> {
    let mut rest = new;
    old.iter().filter_map(move |was| {
        let key = about(was);
        let skip = rest.iter().take_while(|is| about(is) < key).count();
        rest = &rest[skip..];
        rest.first().filter(|is| about(is) == key).map(|is| (was, is))
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
            source: format!("source-{:02}", n % 40),
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
        let sudden =
            |after: &Catalogue| before.sudden_changes(after).first().map(ToString::to_string);
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
        assert_eq!(few.sudden_changes(&catalogue("trixie", 9000, |_| fixed("1-1"))), []);
    }
}
