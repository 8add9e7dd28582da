//! When hosts may be changed: windows that recur, in local time, and blackout days.
//!
//! What happens where a clock is changed, by definition and by test:
//! - A start that does not exist (the clock jumps over it) opens at the first instant after the jump.
//! - A start that exists twice opens once, the first time.
//! - The duration is elapsed time: a change of the clock while the window is open moves its end on the clock, not
//!   its length.
//! - A blackout day lasts from its first instant to the first of the next day, in the time zone of the first
//!   window (UTC without windows).

use super::{Blackout, Policy, Window};
use crate::{Hold, Timestamp, later};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span};
use std::sync::OnceLock;

/// Openings further away than this are not looked for.
const HORIZON_DAYS: i32 = 366;

/// May a host be changed now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowState {
    /// `None`: yes. Else [`Hold::WindowClosed`] or [`Hold::Blackout`].
    pub hold: Option<Hold>,
    /// When it is no longer so. `None`: not within a year, or not open now.
    pub closes_at: Option<Timestamp>,
}

impl WindowState {
    /// The same where a newer text of the policy is in force. A plan goes by the text that it was made and approved by; but a
    /// blackout that was declared since holds its hosts as well: what is in force now may hold back, and never lets more
    /// through.
    #[must_use]
    pub fn held_by(self, in_force: &Policy, now: Timestamp) -> Self {
        if self.hold.is_some() {
            return self;
        }
        let newer = in_force.window_for(now, true);
        let closes = self.closes_at.into_iter().chain(newer.closes_at);
        let closes_at = closes.min().filter(|_| newer.hold.is_none());
        Self { hold: newer.hold, closes_at }
    }
}

/// The time zone of that IANA name, from the data compiled in: equal input gives equal windows on every machine.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    static BUNDLED: OnceLock<TimeZoneDatabase> = OnceLock::new();
    let bundled = BUNDLED.get_or_init(TimeZoneDatabase::bundled);
    if name == "UTC" { Some(TimeZone::UTC) } else { bundled.get(name).ok() }
}

/// Every known IANA name.
pub(super) fn zone_names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|n| n.as_str().to_owned()).collect()
}

/// The instant at which a clock in that zone first shows `local` or, where it jumps over it, the instant of the jump.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // By the clock that is yet to come this is an instant before the jump, nearer to it than any other.
            let before_jump = after.to_timestamp(local).ok()?;
            zone.following(before_jump).next().map(|jump| jump.timestamp())
        }
    }
}

/// A span of time: from, to (exclusive).
type Opening = (Timestamp, Timestamp);

impl Window {
    /// The time zone it is written in. `None`: it is not known here, and the window never opens.
    pub fn zone(&self) -> Option<TimeZone> {
        zone(&self.time_zone)
    }

    /// The opening that begins on that local day, if the window opens on it.
    fn on(&self, zone: &TimeZone, day: Date) -> Option<Opening> {
        let base = day.checked_sub(Span::new().days(i64::from(self.after_days))).ok()?;
        let weekday = base.weekday().to_monday_one_offset() as u8;
        let opens = match &self.recurrence {
            Some(rule) => rule.matches(base),
            None => self.days.is_empty() || self.days.contains(&weekday),
        };
        if !opens {
            return None;
        }
        let (hour, minute) =
            (i8::try_from(self.start_minute / 60).ok()?, (self.start_minute % 60) as i8);
        let from = instant(zone, day.to_datetime(Time::new(hour, minute, 0, 0).ok()?))?;
        Some((from, later(from, self.duration_seconds)))
    }
}

impl Window {
    /// The last opening's start, at `at` or before. `None`: not within a year.
    pub(crate) fn last_start(&self, at: Timestamp) -> Option<Timestamp> {
        let zone = zone(&self.time_zone)?;
        let today = zone.to_datetime(at).date();
        // From tomorrow back: an opening may be moved by a change of the clock, or by where midnight is.
        (-1..=i64::from(HORIZON_DAYS)).find_map(|n| {
            let day = today.checked_sub(Span::new().days(n)).ok()?;
            self.on(&zone, day).map(|(from, _)| from).filter(|from| *from <= at)
        })
    }

    /// The first opening's start after `at`. `None`: not within a year.
    pub(crate) fn next_start(&self, at: Timestamp) -> Option<Timestamp> {
        let zone = zone(&self.time_zone)?;
        days(&zone, at, -1, i64::from(HORIZON_DAYS))
            .find_map(|day| self.on(&zone, day).map(|(from, _)| from).filter(|from| *from > at))
    }
}

/// A policy's calendar with its zones looked up. A window whose zone is not known never opens.
struct Calendar<'a> {
    windows: Vec<(&'a Window, TimeZone)>,
    always: bool,
    blackouts: &'a [Blackout],
    blackout_zone: TimeZone,
}

impl Calendar<'_> {
    /// The latest end among the openings of which `at` is part.
    fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        let ends = self.windows.iter().flat_map(|(window, zone)| {
            // One day more on each side: an opening may be moved by a change of the clock.
            let back = i64::try_from(window.duration_seconds / 86_400).unwrap_or(0).min(31) + 2;
            days(zone, at, -back, 1).filter_map(move |day| window.on(zone, day))
        });
        ends.filter(|(from, to)| *from <= at && at < *to).map(|(_, to)| to).max()
    }

    /// The first opening that begins after `at`.
    fn next_start(&self, at: Timestamp) -> Option<Timestamp> {
        self.windows.iter().filter_map(|(window, _)| window.next_start(at)).min()
    }

    /// The blackout of which `at` is part, with its end; where several follow each other, the end of the last.
    fn blackout(&self, at: Timestamp) -> Option<(&Blackout, Timestamp)> {
        let (first, mut end) = self
            .blackout_spans()
            .find(|(_, (from, to))| *from <= at && at < *to)
            .map(|(b, s)| (b, s.1))?;
        // Each round takes at least one more blackout in.
        while let Some(later) = self
            .blackout_spans()
            .filter(|(_, (from, to))| *from <= end && end < *to)
            .map(|(_, s)| s.1)
            .max()
        {
            end = later;
        }
        Some((first, end))
    }

    fn blackout_spans(&self) -> impl Iterator<Item = (&Blackout, Opening)> {
        self.blackouts.iter().map(|b| {
            let begin = |day: Date| instant(&self.blackout_zone, day.at(0, 0, 0, 0));
            let from = begin(b.from).unwrap_or(Timestamp::MIN);
            let to = b.to.tomorrow().ok().and_then(begin).unwrap_or(Timestamp::MAX);
            (b, (from, to))
        })
    }
}

/// Local days around `at`, from so many days before it to so many after.
fn days(zone: &TimeZone, at: Timestamp, from: i64, to: i64) -> impl Iterator<Item = Date> {
    let today = zone.to_datetime(at).date();
    (from..=to).filter_map(move |n| today.checked_add(Span::new().days(n)).ok())
}

impl Policy {
    fn calendar_for(&self, ignore_windows: bool) -> Calendar<'_> {
        Calendar {
            windows: self.windows.iter().filter_map(|w| Some((w, zone(&w.time_zone)?))).collect(),
            always: ignore_windows || self.windows.is_empty(),
            blackouts: &self.blackouts,
            blackout_zone: self
                .windows
                .first()
                .and_then(|w| zone(&w.time_zone))
                .unwrap_or(TimeZone::UTC),
        }
    }

    /// May hosts of this policy be changed at `now`, until when, and if not, when next?
    pub fn window_at(&self, now: Timestamp) -> WindowState {
        self.window_for(now, false)
    }

    /// The same, for a host whose plan ignores closed windows ([`crate::plan::Work::ignore_windows`]).
    /// Blackouts hold it all the same.
    pub fn window_for(&self, now: Timestamp, ignore_windows: bool) -> WindowState {
        let calendar = self.calendar_for(ignore_windows);
        if let Some((blackout, until)) = calendar.blackout(now) {
            return WindowState {
                hold: Some(Hold::Blackout { reason: blackout.reason.clone(), until }),
                closes_at: None,
            };
        }
        if !calendar.always && calendar.open_until(now).is_none() {
            return WindowState {
                hold: Some(Hold::WindowClosed { opens_at: calendar.opens(now) }),
                closes_at: None,
            };
        }
        WindowState { hold: None, closes_at: calendar.closes(now) }
    }

    /// The next times at which hosts of this policy may be changed, from `now` on, at most `count`: from, and to
    /// (exclusive; `None`: for more than a year).
    pub fn openings(&self, now: Timestamp, count: usize) -> Vec<(Timestamp, Option<Timestamp>)> {
        let mut found = Vec::new();
        let mut at = Some(now);
        while let Some(from) = at.and_then(|at| self.next_opening(at))
            && found.len() < count
        {
            let to = self.window_at(from).closes_at;
            found.push((from, to));
            at = to;
        }
        found
    }

    /// When hosts of this policy may be changed next: `now` where they may be now, `None` where they may not be
    /// within a year.
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.next_opening_for(now, false)
    }

    /// The same, for a host whose plan ignores closed windows ([`crate::plan::Work::ignore_windows`]).
    pub fn next_opening_for(&self, now: Timestamp, ignore_windows: bool) -> Option<Timestamp> {
        self.calendar_for(ignore_windows).opens(now)
    }
}

impl Calendar<'_> {
    /// The first instant from `now` on that is in a window and in no blackout.
    fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let horizon = now
            .checked_add(SignedDuration::from_hours(24 * i64::from(HORIZON_DAYS)))
            .unwrap_or(Timestamp::MAX);
        let mut at = now;
        while at <= horizon {
            if let Some((_, until)) = self.blackout(at) {
                at = until;
            } else if self.always || self.open_until(at).is_some() {
                return Some(at);
            } else {
                at = self.next_start(at)?;
            }
        }
        None
    }

    /// The first instant after `now`, which is open, that is not.
    fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        let horizon = now
            .checked_add(SignedDuration::from_hours(24 * i64::from(HORIZON_DAYS)))
            .unwrap_or(Timestamp::MAX);
        let blackout =
            self.blackout_spans().map(|(_, (from, _))| from).filter(|from| *from > now).min();
        let mut end = if self.always { Timestamp::MAX } else { now };
        while end <= horizon
            && let Some(later) = self.open_until(end)
        {
            end = later;
        }
        let end = blackout.map_or(end, |b| b.min(end));
        (end <= horizon).then_some(end)
    }
}

#[cfg(test)]
mod tests;
