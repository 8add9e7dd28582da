//! `[cycle]`: when a policy's plan is made by the server, and who starts it.

use super::super::{CycleRule, CycleStart, CycleWhen};
use super::Errors;
use super::read::recurring_days;
use super::section::{Keys, Section};

pub(super) const CYCLE: Keys = &[
    ("days", "[\"tue\"]"),
    ("rrule", "\"FREQ=MONTHLY;BYDAY=2TU\""),
    ("after-days", "1"),
    ("at", "\"06:00\""),
    ("time-zone", "\"Europe/Berlin\""),
    ("catch-up", "\"12h\""),
    ("start", "\"propose\""),
    ("when", "\"owed\""),
];

/// Where nothing is said: half a day late is better than not at all, and still before the next day's.
const CATCH_UP: u64 = 12 * 3600;

pub(super) fn cycle(e: &mut Errors<'_>, s: &Section<'_, '_>) -> CycleRule {
    s.needs(e, &["at", "time-zone"]);
    let (days, recurrence) = recurring_days(e, s, "the cycle comes due");
    let starts = [("propose", CycleStart::Propose), ("automatic", CycleStart::Automatic)];
    let whens = [("owed", CycleWhen::Owed), ("offered", CycleWhen::Offered)];
    CycleRule {
        days,
        recurrence,
        after_days: s.count(e, "after-days", 0..=27).and_then(|n| n.try_into().ok()).unwrap_or(0),
        at_minute: s.time_of_day(e, "at").unwrap_or(0),
        time_zone: s.time_zone(e, "time-zone").unwrap_or_default(),
        catch_up_seconds: s.duration(e, "catch-up", 60..=7 * 86_400).unwrap_or(CATCH_UP),
        start: s.word(e, "start", &starts).unwrap_or_default(),
        when: s.word(e, "when", &whens).unwrap_or_default(),
    }
}
