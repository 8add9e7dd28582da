//! When hosts may be changed, laid out by local days: what people read as a calendar.

use super::{Policy, zone};
use crate::Timestamp;
use jiff::Span;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A policy's windows, day by day, in whole weeks from Monday to Sunday.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowCalendar {
    /// IANA name of the zone whose days these are: that of the first window, UTC without windows.
    pub time_zone: String,
    /// The same, looked up.
    pub zone: TimeZone,
    /// Zones of further windows: their openings are here too, by the clock of the first.
    pub other_zones: Vec<String>,
    /// The days, in order; the first is the Monday of the week in which it is now.
    pub days: Vec<WindowDay>,
}

/// One local day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowDay {
    /// Which.
    pub date: Date,
    /// Its first instant.
    pub begins: Timestamp,
    /// The first instant of the next one: where a clock is changed the day has not 24 hours.
    pub ends: Timestamp,
    /// When hosts may be changed on it: from, and to (exclusive).
    pub open: Vec<(Timestamp, Timestamp)>,
    /// Why nothing is changed on it.
    pub blackout: Option<String>,
}

impl Policy {
    /// Its windows over so many weeks, from the Monday before `now` on.
    pub fn window_calendar(&self, now: Timestamp, weeks: u8) -> WindowCalendar {
        let first = self.windows.first();
        let known = first.and_then(|w| Some((w.time_zone.clone(), zone(&w.time_zone)?)));
        let (time_zone, zone) = known.unwrap_or_else(|| ("UTC".to_owned(), TimeZone::UTC));
        let mut other_zones: Vec<String> =
            self.windows.iter().map(|w| w.time_zone.clone()).collect();
        other_zones.retain(|other| *other != time_zone);
        other_zones.sort();
        other_zones.dedup();
        let today = zone.to_datetime(now).date();
        let back = i64::from(today.weekday().to_monday_zero_offset());
        let day = |n: i64| {
            let date = today.checked_add(Span::new().days(n - back)).ok()?;
            let begins =
                |date: Date| zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible().ok();
            Some((date, begins(date)?, begins(date.tomorrow().ok()?)?))
        };
        let days: Vec<_> = (0..i64::from(weeks) * 7).filter_map(day).collect();
        let open = match (days.first(), days.last()) {
            (Some((_, from, _)), Some((_, _, to))) => self.open_between(*from, *to),
            _ => Vec::new(),
        };
        let days = days.into_iter().map(|(date, begins, ends)| {
            let part = |(from, to): &(Timestamp, Timestamp)| {
                let (from, to) = ((*from).max(begins), (*to).min(ends));
                (from < to).then_some((from, to))
            };
            let blackout = self.blackouts.iter().find(|b| b.from <= date && date <= b.to);
            WindowDay {
                date,
                begins,
                ends,
                open: open.iter().filter_map(part).collect(),
                blackout: blackout.map(|b| b.reason.clone()),
            }
        });
        WindowCalendar { time_zone, other_zones, days: days.collect(), zone: zone.clone() }
    }

    /// Everything between two instants at which hosts may be changed.
    fn open_between(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let mut out = Vec::new();
        let mut at = Some(from);
        while let Some(opens) = at.and_then(|at| self.next_opening(at)).filter(|opens| *opens < to)
        {
            let closes = self.window_at(opens).closes_at.map_or(to, |closes| closes.min(to));
            out.push((opens, closes));
            // What closes at once would be found for ever.
            at = (opens < closes && closes < to).then_some(closes);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(sections: &str) -> Policy {
        let text = format!(
            "[policy]\nname = \"p\"\nselect = \"all\"\n[[ring]]\nname = \"all\"\n{sections}"
        );
        Policy::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn nights(zone: &str) -> String {
        format!(
            "[[window]]\ndays = [\"fri\", \"sat\"]\nstart = \"22:00\"\nduration = \"4h\"\ntime-zone = \"{zone}\"\n"
        )
    }

    /// `Fr 27: 22:00-24:00`, a line a day that has something.
    fn told(it: &WindowCalendar) -> Vec<String> {
        let day = |day: &WindowDay| {
            let clock = |at: Timestamp| match at == day.ends {
                true => "24:00".to_owned(),
                false => at.to_zoned(it.zone.clone()).strftime("%H:%M").to_string(),
            };
            let parts: Vec<String> =
                day.open.iter().map(|(a, b)| format!("{}-{}", clock(*a), clock(*b))).collect();
            let all = parts.into_iter().chain(day.blackout.clone()).collect::<Vec<_>>().join(" ");
            (!all.is_empty()).then(|| format!("{} {all}", day.date.strftime("%a %d")))
        };
        it.days.iter().filter_map(day).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_is_told_on_both_of_its_days_by_the_clock_of_the_window() {
        let it = policy(&nights("Europe/Berlin")).window_calendar(at("2026-11-25T12:00:00Z"), 1);
        assert_eq!((it.days.len(), it.time_zone.as_str()), (7, "Europe/Berlin"));
        assert_eq!(it.days[0].date.to_string(), "2026-11-23", "it begins on Monday");
        let expected =
            ["Fri 27 22:00-24:00", "Sat 28 00:00-02:00 22:00-24:00", "Sun 29 00:00-02:00"];
        assert_eq!(told(&it), expected);
    }

    #[test]
    fn what_has_passed_this_week_is_still_told() {
        let it = policy(&nights("UTC")).window_calendar(at("2026-11-29T12:00:00Z"), 1);
        assert_eq!(told(&it)[0], "Fri 27 22:00-24:00");
    }

    #[test]
    fn a_blackout_says_why_and_nothing_is_open_on_its_days() {
        let text = nights("UTC")
            + "[[blackout]]\nfrom = 2026-11-28\nto = 2026-11-28\nreason = \"sales\"\n";
        let it = policy(&text).window_calendar(at("2026-11-25T12:00:00Z"), 1);
        assert_eq!(told(&it), ["Fri 27 22:00-24:00", "Sat 28 sales", "Sun 29 00:00-02:00"]);
    }

    #[test]
    fn without_windows_every_day_is_open_and_a_day_on_which_the_clock_changes_is_longer() {
        let it = policy("").window_calendar(at("2026-11-25T12:00:00Z"), 5);
        assert_eq!((it.days.len(), it.time_zone.as_str()), (35, "UTC"));
        assert!(it.days.iter().all(|day| day.open == [(day.begins, day.ends)]));
        let autumn =
            policy(&nights("Europe/Berlin")).window_calendar(at("2026-10-25T12:00:00Z"), 1);
        let sunday = &autumn.days[6];
        assert_eq!(sunday.ends.duration_since(sunday.begins).as_hours(), 25);
    }

    #[test]
    fn windows_of_several_zones_are_told_by_the_first_ones_clock() {
        let text = nights("UTC") + &nights("America/New_York");
        let it = policy(&text).window_calendar(at("2026-11-25T12:00:00Z"), 1);
        assert_eq!(it.other_zones, ["America/New_York"]);
        assert_eq!(told(&it)[1], "Sat 28 00:00-02:00 03:00-07:00 22:00-24:00");
    }
}
