//! Days that recur, as iCalendar writes them: the recurrence rules of RFC 5545, section 3.3.10, as far as they say which
//! *days* are meant. `FREQ=MONTHLY;BYDAY=2SA` is every second Saturday of a month,
//! `FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1` every last working day.
//!
//! What counts from a first day (`INTERVAL`, `COUNT`) needs to be told which: `DTSTART`, a property beside the rule in
//! iCalendar, stands within it here: `DTSTART=20270102;FREQ=WEEKLY;INTERVAL=2;BYDAY=SA` is every other Saturday.

mod starting;

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};
use starting::Starting;
use std::fmt;

/// Which days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recurrence {
    text: String,
    /// Months, 1 to 12. Empty: all.
    months: Vec<i8>,
    /// Days of the month from its beginning (1 to 31) or end (-1 to -31). Empty: all.
    month_days: Vec<i8>,
    /// Days of the week; with a number the so-manieth of its month, from its beginning or end. Empty: all.
    week_days: Vec<(Option<i8>, Weekday)>,
    /// Which of the days of a month that all of these leave, from the first or the last. Empty: all.
    positions: Vec<i8>,
    /// The first day, and what is counted from it. `None`: it has always been so and always will be.
    starting: Option<Starting>,
    /// The last day on which it can be one (`UNTIL`, or where `COUNT` ends).
    last: Option<Date>,
}

/// Why a rule is none, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub struct RecurrenceError {
    /// What is wrong.
    pub message: String,
    /// What to write instead, in a window.
    pub hint: String,
    /// It says a time of the day, which stands beside the rule: in a window's `start`, elsewhere under another name.
    pub is_time: bool,
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, RecurrenceError> {
    Err(RecurrenceError { message: message.into(), hint: hint.into(), is_time: false })
}

/// A part that says a time of the day.
fn a_time<T>(message: impl Into<String>) -> Result<T, RecurrenceError> {
    let hint = "write `start = \"22:00\"`".to_owned();
    Err(RecurrenceError { message: message.into(), hint, is_time: true })
}

const FREQUENCIES: [&str; 4] = ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"];
const DAYS: [(&str, Weekday); 7] = [
    ("MO", Weekday::Monday),
    ("TU", Weekday::Tuesday),
    ("WE", Weekday::Wednesday),
    ("TH", Weekday::Thursday),
    ("FR", Weekday::Friday),
    ("SA", Weekday::Saturday),
    ("SU", Weekday::Sunday),
];

impl Recurrence {
    /// Reads a rule.
    ///
    /// # Errors
    /// A part that is not known, that needs a day to begin at, or that RFC 5545 does not allow with this `FREQ`.
    pub fn parse(text: &str) -> Result<Self, RecurrenceError> {
        let upper = text.trim().to_ascii_uppercase();
        let mut rule = Self {
            text: upper.clone(),
            months: Vec::new(),
            month_days: Vec::new(),
            week_days: Vec::new(),
            positions: Vec::new(),
            starting: None,
            last: None,
        };
        let mut counted = starting::Counted::default();
        let mut frequency = None;
        let mut seen = Vec::new();
        for part in upper.split(';').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return wrong(
                    format!("`{}` is no part of a rule", short(part)),
                    "write `FREQ=MONTHLY;BYDAY=2SA`",
                );
            };
            if seen.contains(&name) {
                return wrong(
                    format!("`{}` stands twice", short(name)),
                    "put its values into one, with commas",
                );
            }
            seen.push(name);
            match name {
                "FREQ" => {
                    frequency = FREQUENCIES.iter().position(|f| *f == value);
                    if frequency.is_none() {
                        return wrong(
                            format!("`FREQ={}` is not known", short(value)),
                            "FREQ is DAILY, WEEKLY, MONTHLY or YEARLY",
                        );
                    }
                }
                "BYMONTH" => rule.months = numbers(name, value, 1..=12, false)?,
                "BYMONTHDAY" => rule.month_days = numbers(name, value, 1..=31, true)?,
                "BYSETPOS" => rule.positions = numbers(name, value, 1..=31, true)?,
                "BYDAY" => {
                    rule.week_days = value.split(',').map(week_day).collect::<Result<_, _>>()?
                }
                "DTSTART" | "UNTIL" | "INTERVAL" | "COUNT" | "WKST" => counted.read(name, value)?,
                "BYWEEKNO" | "BYYEARDAY" => {
                    return wrong(
                        format!(
                            "`{name}` counts the weeks or days of a year, which no rule goes by here"
                        ),
                        "say which days of a month are meant: BYMONTH, BYMONTHDAY, BYDAY, BYSETPOS",
                    );
                }
                "BYHOUR" | "BYMINUTE" | "BYSECOND" => {
                    return a_time(format!(
                        "`{name}` says a time of the day, which stands beside the rule"
                    ));
                }
                _ => {
                    return wrong(
                        format!("a rule has no part `{}`", short(name)),
                        "its parts are FREQ, BYMONTH, BYMONTHDAY, BYDAY, BYSETPOS, and DTSTART, INTERVAL, COUNT, UNTIL, WKST",
                    );
                }
            }
        }
        let frequency = frequency.map(|f| FREQUENCIES[f]);
        counted.apply(rule.check(frequency)?, frequency.unwrap_or_default())
    }

    /// What RFC 5545 allows together, and what says nothing.
    fn check(self, frequency: Option<&str>) -> Result<Self, RecurrenceError> {
        let Some(frequency) = frequency else {
            return wrong("the rule has no FREQ", "write `FREQ=MONTHLY;BYDAY=2SA`");
        };
        let no_days = self.week_days.is_empty() && self.month_days.is_empty();
        let monthly = matches!(frequency, "MONTHLY" | "YEARLY");
        if frequency != "DAILY" && no_days {
            let which = if monthly { "BYDAY=2SA or BYMONTHDAY=1" } else { "BYDAY=SA,SU" };
            return wrong("the rule does not say on which days", format!("add {which}"));
        }
        if frequency == "YEARLY" && self.months.is_empty() {
            return wrong("the rule does not say in which months", "add BYMONTH=1,7");
        }
        if frequency == "WEEKLY" && !self.month_days.is_empty() {
            return wrong("BYMONTHDAY does not go with FREQ=WEEKLY", "write FREQ=MONTHLY");
        }
        if !monthly && self.week_days.iter().any(|(n, _)| n.is_some()) {
            return wrong(
                format!("a numbered day of the week does not go with FREQ={frequency}"),
                "write FREQ=MONTHLY",
            );
        }
        if frequency != "MONTHLY" && !self.positions.is_empty() {
            return wrong(
                format!("BYSETPOS does not go with FREQ={frequency} here"),
                "write FREQ=MONTHLY, with BYMONTH where only some months are meant",
            );
        }
        Ok(self)
    }

    /// Is this one of the days?
    pub fn matches(&self, day: Date) -> bool {
        let ended = self.last.is_some_and(|last| day > last);
        !ended && self.starting.as_ref().is_none_or(|it| it.in_turn(day)) && self.in_month(day)
    }

    /// The same by what the rule says of months and weeks, wherever it begins and ends.
    fn in_month(&self, day: Date) -> bool {
        if !self.in_set(day) {
            return false;
        }
        if self.positions.is_empty() {
            return true;
        }
        let first = day.first_of_month();
        let days = |from: Date, to: Date| {
            from.series(jiff::Span::new().days(1))
                .take_while(move |d| *d <= to)
                .filter(|d| self.in_set(*d))
                .count()
        };
        let from_first = i8::try_from(days(first, day)).unwrap_or(i8::MAX);
        let from_last = i8::try_from(days(day, day.last_of_month())).unwrap_or(i8::MAX);
        self.positions.iter().any(|p| *p == from_first || *p == -from_last)
    }

    fn in_set(&self, day: Date) -> bool {
        let back = day.day() - day.days_in_month() - 1;
        let in_month = self.months.is_empty() || self.months.contains(&day.month());
        let on_day = self.month_days.is_empty()
            || self.month_days.iter().any(|d| *d == day.day() || *d == back);
        let on_week_day = self.week_days.is_empty()
            || self.week_days.iter().any(|(n, weekday)| {
                *weekday == day.weekday()
                    && n.is_none_or(|n| n == (day.day() - 1) / 7 + 1 || n == (back + 1) / 7 - 1)
            });
        in_month && on_day && on_week_day
    }
}

/// `2SA`, `-1FR`, `MO`.
fn week_day(text: &str) -> Result<(Option<i8>, Weekday), RecurrenceError> {
    let (number, name) = text.split_at(text.len().saturating_sub(2).min(text.len()));
    let day = DAYS.iter().find(|(n, _)| *n == name).map(|(_, day)| *day);
    let number = match number {
        "" => Some(None),
        number => number.parse().ok().filter(|n: &i8| (1..=5).contains(&n.abs())).map(Some),
    };
    match (number, day) {
        (Some(number), Some(day)) => Ok((number, day)),
        _ => wrong(
            format!("`{}` is no day of the week", short(text)),
            "write MO, TU, WE, TH, FR, SA, SU, with a number for one of a month: 2SA, -1FR",
        ),
    }
}

fn numbers(
    name: &str,
    value: &str,
    range: std::ops::RangeInclusive<i8>,
    from_the_end: bool,
) -> Result<Vec<i8>, RecurrenceError> {
    let number = |text: &str| {
        let good =
            |n: &i8| range.contains(n) || from_the_end && range.contains(&n.saturating_neg());
        text.parse().ok().filter(good).map_or_else(
            || {
                let (low, high) = (range.start(), range.end());
                let end = if from_the_end {
                    format!(", or -{low} to -{high} from the end")
                } else {
                    String::new()
                };
                wrong(
                    format!("`{}` is no {name}", short(text)),
                    format!("it is from {low} to {high}{end}"),
                )
            },
            Ok,
        )
    };
    value.split(',').map(number).collect()
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Recurrence {
    type Error = RecurrenceError;
    fn try_from(text: String) -> Result<Self, RecurrenceError> {
        Self::parse(&text)
    }
}

impl From<Recurrence> for String {
    fn from(rule: Recurrence) -> Self {
        rule.text
    }
}

#[cfg(test)]
mod tests;
