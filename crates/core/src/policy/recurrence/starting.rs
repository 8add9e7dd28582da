//! What a rule counts from its first day: every so-manieth day, week, month or year, so many times, until a day.

use super::{DAYS, Recurrence, RecurrenceError, short, wrong};
use jiff::Span;
use jiff::civil::{Date, Weekday};

/// Largest `INTERVAL` and `COUNT`.
const MOST: u32 = 1000;
/// Years after the first day in which `COUNT` days are looked for.
const MAX_YEARS: i64 = 100;

/// A first day, and which of the days, weeks, months or years after it are in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Starting {
    first: Date,
    every: Every,
    /// 1: all of them.
    interval: u32,
}

/// What is counted: RFC 5545's `FREQ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Every {
    Day,
    /// It begins on that day of the week (`WKST`).
    Week(Weekday),
    Month,
    Year,
}

impl Starting {
    /// Is the day not before the first, in a day, week, month or year that is in turn?
    pub(super) fn in_turn(&self, day: Date) -> bool {
        if day < self.first {
            return false;
        }
        let between = |from: Date, to: Date| i64::from(from.until(to).map_or(0, |s| s.get_days()));
        let passed = match self.every {
            Every::Day => between(self.first, day),
            Every::Week(begins) => between(week_of(self.first, begins), week_of(day, begins)) / 7,
            Every::Month => {
                let months = |of: Date| i64::from(of.year()) * 12 + i64::from(of.month());
                months(day) - months(self.first)
            }
            Every::Year => i64::from(day.year()) - i64::from(self.first.year()),
        };
        passed % i64::from(self.interval) == 0
    }
}

/// The first day of the week that the day is in.
fn week_of(day: Date, begins: Weekday) -> Date {
    let back = i64::from(begins.until(day.weekday()));
    // Invariant: only in the first week of the calendar is there no such day.
    day.checked_sub(Span::new().days(back)).unwrap_or(day)
}

/// The parts of a rule that count, as they are read.
#[derive(Default)]
pub(super) struct Counted {
    first: Option<Date>,
    until: Option<Date>,
    interval: Option<u32>,
    count: Option<u32>,
    week_begins: Option<Weekday>,
}

impl Counted {
    /// Reads one of them.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<(), RecurrenceError> {
        let number = || match value.parse().ok().filter(|n| (1..=MOST).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => wrong(
                format!("`{name}={}` is no number of times", short(value)),
                format!("it is from 1 to {MOST}"),
            ),
        };
        match name {
            "DTSTART" => self.first = Some(date(name, value)?),
            "UNTIL" => self.until = Some(date(name, value)?),
            "INTERVAL" => self.interval = number()?,
            "COUNT" => self.count = number()?,
            _ => match DAYS.iter().find(|(word, _)| *word == value) {
                Some((_, day)) => self.week_begins = Some(*day),
                None => {
                    let message = format!("`WKST={}` is no day of the week", short(value));
                    return wrong(message, "write MO, TU, WE, TH, FR, SA or SU");
                }
            },
        }
        Ok(())
    }

    /// The rule with them.
    pub(super) fn apply(
        self,
        mut rule: Recurrence,
        frequency: &str,
    ) -> Result<Recurrence, RecurrenceError> {
        let interval = self.interval.unwrap_or(1);
        rule.last = self.until;
        let Some(first) = self.first else {
            let counts = [("INTERVAL", interval > 1), ("COUNT", self.count.is_some())];
            return match counts.into_iter().find(|(_, there)| *there) {
                Some((name, _)) => wrong(
                    format!("`{name}` counts from a first day, and the rule has none"),
                    "write it before: DTSTART=20270102;FREQ=WEEKLY;INTERVAL=2;BYDAY=SA",
                ),
                None => Ok(rule),
            };
        };
        if self.count.is_some() && self.until.is_some() {
            return wrong("the rule has COUNT and UNTIL", "take one of them away");
        }
        if self.until.is_some_and(|until| until < first) {
            return wrong("the rule ends before it begins", "write an UNTIL not before DTSTART");
        }
        let every = match frequency {
            "DAILY" => Every::Day,
            "WEEKLY" => Every::Week(self.week_begins.unwrap_or(Weekday::Monday)),
            "MONTHLY" => Every::Month,
            _ => Every::Year,
        };
        rule.starting = Some(Starting { first, every, interval });
        // RFC 5545 leaves open what a first day means that is none of the days.
        if !rule.matches(first) {
            // Where its month or year is none of them, what is in turn would depend on it all the same.
            let next = days_from(first).find(|day| rule.in_month(*day));
            let hint = match next {
                Some(day) => format!("write the first of them: DTSTART={}", day.strftime("%Y%m%d")),
                None => {
                    "write another BYDAY, BYMONTHDAY or BYMONTH: there is no such day".to_owned()
                }
            };
            return wrong(format!("DTSTART, {first}, is none of the days of the rule"), hint);
        }
        if let Some(count) = self.count {
            // Where they do not all come within so many years, nobody will see the last of them.
            rule.last = days_from(first).filter(|day| rule.matches(*day)).nth(count as usize - 1);
        }
        Ok(rule)
    }
}

/// That day and those after it.
fn days_from(first: Date) -> impl Iterator<Item = Date> {
    let end = first.checked_add(Span::new().years(MAX_YEARS)).unwrap_or(Date::MAX);
    first.series(Span::new().days(1)).take_while(move |day| *day <= end)
}

/// `20270102`.
fn date(name: &str, value: &str) -> Result<Date, RecurrenceError> {
    let digits = value.len() == 8 && value.bytes().all(|b| b.is_ascii_digit());
    match Date::strptime("%Y%m%d", value).ok().filter(|_| digits) {
        Some(date) => Ok(date),
        None => wrong(
            format!("`{name}={}` is no day", short(value)),
            "write year, month and day, without an hour: 20270102",
        ),
    }
}
