//! A policy's windows as a calendar: a row a week, a cell a day, the hours of the day as a strip.

use super::layout::scroll;
use super::words;
use fettle_core::Timestamp;
use fettle_core::policy::{Opening, WindowCalendar, WindowDay};
use maud::{Markup, html};

/// The calendar. `now` marks today.
pub(crate) fn weeks(it: &WindowCalendar, now: Timestamp) -> Markup {
    html! {
        (scroll(html! { table.calendar {
            caption.hidden { "Hours at which hosts may be changed, by day, times of " (it.time_zone) }
            thead { tr { @for day in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] { th scope="col" { (day) } } } }
            tbody { @for week in it.days.chunks(7) { tr { @for day in week { (cell(it, day, now)) } } } }
        } }))
        p.quiet {
            "Times of " b { (it.time_zone) } ", where it is " (words::clock(now, &it.zone)) " now."
            @if !it.other_zones.is_empty() { " Windows of " (it.other_zones.join(", ")) " are shown by that clock too." }
        }
    }
}

fn cell(it: &WindowCalendar, day: &WindowDay, now: Timestamp) -> Markup {
    let is_today = day.begins <= now && now < day.ends;
    let class = match (is_today, day.ends <= now) {
        (true, _) => "today",
        (_, true) => "past",
        _ => "ahead",
    };
    // The first of a month names it.
    let date = if day.date.day() == 1 { "%-d %b" } else { "%-d" };
    html! {
        td.(class) {
            time datetime=(day.date) { (day.date.strftime(date)) @if is_today { span.hidden { ", today" } } }
            svg.hours width="100%" height="8" aria-hidden="true" {
                rect.track x="0" y="0" width="100%" height="8" rx="2" {}
                @for (from, to) in &day.open {
                    rect.seg.good x=(share(day, *from)) y="0" width=(width(day, *from, *to)) height="8" {}
                }
                @if day.blackout.is_some() { rect.seg.rest x="0" y="0" width="100%" height="8" rx="2" {} }
            }
            @if let Some(why) = &day.blackout { span.why { "Blackout: " (why) } }
            @for (from, to) in &day.open { span.open { (span(it, day, *from, *to)) } }
        }
    }
}

/// `Fri 27 Nov 22:00–02:00 UTC`: a time at which a host may be changed. Where it has begun, only until when.
pub(crate) fn opening(it: &Opening, now: Timestamp) -> Markup {
    let day = |at: Timestamp| at.strftime("%a %-d %b %H:%M").to_string();
    html! {
        @match *it {
            (from, Some(to)) if from <= now => { "until " time datetime=(words::rfc3339(to)) { (day(to)) " UTC" } },
            (from, Some(to)) => {
                time datetime=(words::rfc3339(from)) { (day(from)) } "–" time datetime=(words::rfc3339(to)) { (to.strftime("%H:%M")) " UTC" }
                " (for " (words::seconds((to.as_second() - from.as_second()).unsigned_abs())) ")"
            },
            (from, None) => { "from " time datetime=(words::rfc3339(from)) { (day(from)) " UTC" } " on" },
        }
    }
}

fn of_day(day: &WindowDay, at: Timestamp) -> f64 {
    let whole = day.ends.as_second() - day.begins.as_second();
    (at.as_second() - day.begins.as_second()) as f64 * 100.0 / whole.max(1) as f64
}

fn share(day: &WindowDay, at: Timestamp) -> String {
    format!("{:.1}%", of_day(day, at))
}

fn width(day: &WindowDay, from: Timestamp, to: Timestamp) -> String {
    format!("{:.1}%", of_day(day, to) - of_day(day, from))
}

/// `22:00–24:00`; the whole day is a word.
fn span(it: &WindowCalendar, day: &WindowDay, from: Timestamp, to: Timestamp) -> String {
    if from == day.begins && to == day.ends {
        return "all day".to_owned();
    }
    let end = if to == day.ends { "24:00".to_owned() } else { words::clock(to, &it.zone) };
    format!("{}–{end}", words::clock(from, &it.zone))
}
