//! Reports on a schedule: when one is due, of which period, and what stands in the way.
//!
//! Pure: [`decide`] looks at the schedule, at what became of it so far and at *now*, and says what comes next. A run is
//! kept under its schedule's name and the time it came due, so that a server that is killed anywhere makes none twice.

use super::Period;
use crate::policy::{Recurrence, Window, check_address, zone};
use crate::{Hold, Problem, ProblemKind, Timestamp, later};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Longest name, in characters.
const MAX_NAME: usize = 64;
/// Most runs that a directory keeps.
const MAX_KEEP: u32 = 1000;
/// Longest period, in days.
const MAX_DAYS: u32 = 366;
/// Times that came due unseen are counted up to this.
const MOST_MISSED: u32 = 1000;
/// What failed is tried again after so many seconds, twice as many each time, and not less often than hourly.
const AGAIN_SECONDS: u64 = 60;
const AGAIN_MOST_SECONDS: u64 = 3600;

/// As what a report is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One document that needs no server.
    Html,
    /// A file for each table (RFC 4180).
    Csv,
    /// As the API gives it.
    Json,
    /// The document, printed by Chromium where it is installed.
    Pdf,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Html, Self::Csv, Self::Json, Self::Pdf];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Pdf => "pdf",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|it| it.word() == text);
        known.ok_or_else(|| format!("`{text}` is no format; write html, csv, json or pdf"))
    }
}

/// Which period a report is of, seen from the day that it is due on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Covers {
    /// The calendar month before, in the schedule's time zone.
    LastMonth,
    /// Monday to Sunday of the week before (ISO 8601), in the schedule's time zone.
    LastWeek,
    /// The so many days before, to the moment that it is due.
    Days(u32),
}

impl fmt::Display for Covers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastMonth => f.write_str("last-month"),
            Self::LastWeek => f.write_str("last-week"),
            Self::Days(n) => write!(f, "{n}d"),
        }
    }
}

impl std::str::FromStr for Covers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|n| n.parse().ok());
        match (text, days) {
            ("last-month", _) => Ok(Self::LastMonth),
            ("last-week", _) => Ok(Self::LastWeek),
            (_, Some(n)) if (1..=MAX_DAYS).contains(&n) => Ok(Self::Days(n)),
            _ => Err(format!(
                "`{text}` is no period; write last-month, last-week, or 1d to {MAX_DAYS}d"
            )),
        }
    }
}

impl TryFrom<String> for Covers {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Covers> for String {
    fn from(it: Covers) -> Self {
        it.to_string()
    }
}

/// A report that the server makes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// On which days: a recurrence rule (RFC 5545, section 3.3.10), as windows have it.
    pub recurrence: Recurrence,
    /// At what time of the day.
    pub at: Time,
    /// IANA name: `Europe/Berlin`.
    pub time_zone: String,
    /// Of which period.
    pub covers: Covers,
    /// Only this policy's hosts. `None`: the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// As what.
    pub formats: BTreeSet<Format>,
    /// The newest so many are kept in the server's directory of reports. `None`: none is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Where each is sent, signed. `None`: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

fn bad(message: impl fmt::Display, hint: impl fmt::Display) -> Problem {
    Problem::new(ProblemKind::BadInput, "bad-schedule", message, hint)
}

/// Is it a name that a schedule can have? It is the name of a directory too.
///
/// # Errors
/// [`ProblemKind::BadInput`].
pub fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') {
        return Ok(());
    }
    let short: String = name.chars().take(MAX_NAME).collect();
    Err(bad(
        format!("`{short}` cannot be the name of a schedule"),
        "use lower-case letters, digits and `-`, at most 64, as in `monthly`",
    ))
}

impl Schedule {
    /// Does it say something that can be done?
    ///
    /// # Errors
    /// [`ProblemKind::BadInput`] says what not, and what to write.
    pub fn check(&self) -> Result<(), Problem> {
        if zone(&self.time_zone).is_none() {
            let short: String = self.time_zone.chars().take(64).collect();
            return Err(bad(
                format!("`{short}` is no time zone"),
                "write an IANA name, as in `Europe/Berlin` or `UTC`",
            ));
        }
        if self.formats.is_empty() {
            return Err(bad("the schedule names no format", "write html, csv, json or pdf"));
        }
        if self.keep.is_some_and(|n| !(1..=MAX_KEEP).contains(&n)) {
            return Err(bad(
                "the directory keeps at least one report",
                format!("write a number from 1 to {MAX_KEEP}, as in --keep 12"),
            ));
        }
        if let Some(url) = &self.webhook {
            check_address(url).map_err(|(message, _)| {
                bad(
                    message.replace("`url`", "the webhook's address"),
                    "write it as in https://reports.example.org/fettle",
                )
            })?;
        }
        if self.keep.is_none() && self.webhook.is_none() {
            return Err(bad(
                "the schedule does not say where its reports go",
                "say how many the server's directory keeps (--keep 12), or name a webhook (--webhook URL), or both",
            ));
        }
        Ok(())
    }

    fn window(&self) -> Window {
        let minute = i64::from(self.at.hour()) * 60 + i64::from(self.at.minute());
        Window {
            days: Vec::new(),
            recurrence: Some(self.recurrence.clone()),
            after_days: 0,
            // Of a time of the day, so not negative.
            start_minute: u32::try_from(minute).unwrap_or(0),
            duration_seconds: 60,
            time_zone: self.time_zone.clone(),
        }
    }

    /// When it is due next after `at`. `None`: not within a year.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        self.window().next_start(at)
    }

    /// The newest time it came due since, and how many before that nobody saw.
    fn due(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, u32)> {
        let window = self.window();
        let due = window.last_start(now).filter(|due| *due > since)?;
        let mut missed = 0;
        let mut at = window.next_start(since);
        while let Some(earlier) = at.filter(|at| *at < due)
            && missed < MOST_MISSED
        {
            missed += 1;
            at = window.next_start(earlier);
        }
        Some((due, missed))
    }

    /// The period of the report that is due then.
    pub fn period(&self, due: Timestamp) -> Period {
        let zone = zone(&self.time_zone).unwrap_or(TimeZone::UTC);
        let today = zone.to_datetime(due).date();
        let begin =
            |day: Date| zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible().unwrap_or(due);
        let back = |day: Date, by: Span| day.checked_sub(by).unwrap_or(day);
        let days = match self.covers {
            Covers::LastMonth => {
                let first = today.first_of_month();
                (back(first, 1.month()), first)
            }
            Covers::LastWeek => {
                let monday = back(today, i64::from(today.weekday().to_monday_zero_offset()).days());
                (back(monday, 1.week()), monday)
            }
            Covers::Days(n) => {
                let seconds = i64::from(n) * super::DAY;
                let length = jiff::SignedDuration::from_secs(seconds);
                let from = due.saturating_sub(length).unwrap_or(Timestamp::MIN);
                return Period { from, to: due };
            }
        };
        Period { from: begin(days.0), to: begin(days.1) }
    }
}

/// A run that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was due: with the schedule's name, its key.
    pub due: Timestamp,
    /// When it was made.
    pub made_at: Timestamp,
    /// How many that were due before it were passed over, because nobody was there to make them.
    pub missed: u32,
    /// Its period.
    pub period: Period,
    /// Files below the server's directory of reports.
    pub files: Vec<String>,
    /// The delivery to the webhook.
    pub delivery: Option<String>,
    /// What was left out of it, and why.
    pub left_out: Vec<Hold>,
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trying {
    /// The run that is tried.
    pub due: Timestamp,
    /// Times it was tried.
    pub tries: u32,
    /// Why the last did not work.
    pub why: String,
    /// When it is tried again.
    pub again_at: Timestamp,
}

/// What became of a schedule so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest run.
    #[serde(default)]
    pub last: Option<Run>,
    /// The run that is due and could not be made.
    #[serde(default)]
    pub trying: Option<Trying>,
}

impl State {
    /// The run could not be made: it is tried again later.
    pub fn failed(&mut self, due: Timestamp, why: String, now: Timestamp) {
        let before = self.trying.as_ref().filter(|it| it.due == due).map_or(0, |it| it.tries);
        let wait = AGAIN_SECONDS.saturating_mul(1 << before.min(16)).min(AGAIN_MOST_SECONDS);
        self.trying = Some(Trying { due, tries: before + 1, why, again_at: later(now, wait) });
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait {
        /// Why.
        hold: Hold,
        /// When to look again. `None`: when something changes.
        until: Option<Timestamp>,
    },
    /// Make the report that was due then; so many before it were missed, and are made up for by this one.
    Make {
        /// When it was due.
        due: Timestamp,
        /// How many were missed before it.
        missed: u32,
    },
}

/// What comes next for a schedule that was set at `since`. `restored`: the server comes from a backup, and nobody has
/// let it do things by itself yet.
pub fn decide(
    schedule: &Schedule,
    since: Timestamp,
    state: &State,
    restored: Option<Hold>,
    now: Timestamp,
) -> Step {
    let last = state.last.as_ref().map(|run| run.due);
    let since = last.map_or(since, |last| last.max(since));
    let Some((due, missed)) = schedule.due(since, now) else {
        let next = schedule.next(now);
        return Step::Wait { hold: Hold::NotDue { at: next }, until: next };
    };
    if let Some(hold) = restored {
        return Step::Wait { hold, until: None };
    }
    match &state.trying {
        Some(it) if it.due == due && it.again_at > now => Step::Wait {
            hold: Hold::ReportNotMade {
                why: it.why.clone(),
                tries: it.tries,
                again_at: it.again_at,
            },
            until: Some(it.again_at),
        },
        _ => Step::Make { due, missed },
    }
}

#[cfg(test)]
mod tests;
