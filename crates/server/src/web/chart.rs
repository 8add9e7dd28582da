//! Charts as SVG: no style attributes, positions in percent, so that they fit any width without scaling text.

use super::layout::encoded;
use super::mark::{self, Mark};
use super::words;
use fettle_core::Timestamp;
use fettle_core::finding::Severity;
use fettle_core::report::TrendPoint;
use maud::{Markup, html};

/// One part of a chart, which is a link to the list behind it.
pub(crate) struct Part {
    /// What it is called.
    pub(crate) label: String,
    /// How it looks.
    pub(crate) mark: Mark,
    /// How many.
    pub(crate) count: u64,
    /// The list behind it.
    pub(crate) href: String,
}

/// Three to six round steps from 0 that cover `max`: the axis.
fn ticks(max: u64) -> Vec<u64> {
    let max = max.max(1);
    let mut step = 1;
    'found: loop {
        for factor in [1, 2, 5] {
            if max.div_ceil(step * factor) <= 5 {
                step *= factor;
                break 'found;
            }
        }
        step *= 10;
    }
    (0..=max.div_ceil(step)).map(|n| n * step).collect()
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64)
}

/// The axis below a chart: lines, numbers, and what is counted.
fn axis(ticks: &[u64], unit: &str) -> Markup {
    let end = ticks.last().copied().unwrap_or(1);
    html! {
        svg.axis width="100%" height="22" role="presentation" {
            @for (i, tick) in ticks.iter().enumerate() {
                @let anchor = if i == 0 { "start" } else if *tick == end { "end" } else { "middle" };
                line x1=(share(*tick, end)) x2=(share(*tick, end)) y1="0" y2="5" {}
                text x=(share(*tick, end)) y="18" text-anchor=(anchor) {
                    (words::number(*tick)) @if *tick == end { " " (unit) }
                }
            }
        }
    }
}

/// One bar of several parts, its axis, and a legend whose entries are links.
pub(crate) fn stacked(name: &str, unit: &str, parts: &[Part]) -> Markup {
    let total: u64 = parts.iter().map(|p| p.count).sum();
    let ticks = ticks(total);
    let end = ticks.last().copied().unwrap_or(1);
    let mut from = 0;
    let placed: Vec<(&Part, u64)> = parts
        .iter()
        .filter(|p| p.count > 0)
        .map(|p| {
            let at = from;
            from += p.count;
            (p, at)
        })
        .collect();
    html! {
        figure.chart {
            // Not a picture: its parts are links.
            svg.stack width="100%" height="36" role="group" aria-label={ (name) ": " (words::number(total)) " " (unit) } {
                rect.track x="0" y="0" width="100%" height="36" rx="4" {}
                @for (part, at) in &placed {
                    a href=(part.href) {
                        // The link's name.
                        title { (words::number(part.count)) " " (part.label) }
                        rect.seg.(part.mark.tone) x=(share(*at, end)) y="0" width=(share(part.count, end)) height="36" {}
                        @if part.count * 100 >= end * 6 {
                            // It is in that name.
                            text.(part.mark.tone) x=(share(at * 2 + part.count, end * 2)) y="23" text-anchor="middle" aria-hidden="true" { (words::number(part.count)) }
                        }
                    }
                }
            }
            (axis(&ticks, unit))
            ul.legend {
                @for part in parts {
                    li.none[part.count == 0] {
                        a href=(part.href) { (part.mark.shape()) (part.label) " " b { (words::number(part.count)) } }
                    }
                }
            }
        }
    }
}

/// One bar a row, on one axis.
pub(crate) fn bars(name: &str, unit: &str, parts: &[Part]) -> Markup {
    let ticks = ticks(parts.iter().map(|p| p.count).max().unwrap_or(0));
    let end = ticks.last().copied().unwrap_or(1);
    html! {
        figure.chart.bars aria-label=(name) {
            @for part in parts {
                a.row.none[part.count == 0] href=(part.href) {
                    span.label { (part.mark.shape()) (part.label) }
                    svg width="100%" height="18" aria-hidden="true" {
                        rect.track x="0" y="3" width="100%" height="12" rx="3" {}
                        @if part.count > 0 { rect.seg.(part.mark.tone) x="0" y="3" width=(share(part.count, end)) height="12" rx="3" {} }
                    }
                    b.count { (words::number(part.count)) }
                }
            }
            div.row.foot { span.label {} (axis(&ticks, unit)) span.count {} }
        }
    }
}

/// A thin bar of parts without axis, for a row of a table: how far something is.
pub(crate) fn progress(name: &str, parts: &[(Mark, u64)]) -> Markup {
    let total: u64 = parts.iter().map(|(_, n)| n).sum();
    let mut from = 0;
    html! {
        svg.progress width="100%" height="10" role="img" aria-label=(name) {
            rect.track x="0" y="0" width="100%" height="100%" rx="3" {}
            @for (mark, count) in parts {
                @if *count > 0 {
                    rect.seg.(mark.tone) x=(share(from, total)) y="0" width=(share(*count, total)) height="100%" {}
                    @let () = from += count;
                }
            }
        }
    }
}

/// Height of the columns, in pixels.
const HIGH: u64 = 160;
/// Room above the columns and below them, in pixels: half a line of the axis.
const ROOM: u64 = 7;

/// The classes of all points, as they are stacked from below: those that are called like a severity first, by it, then the
/// others by name; what has no class is on top.
fn classes(points: &[TrendPoint]) -> Vec<(&str, Mark)> {
    let mut names: Vec<&str> =
        points.iter().flat_map(|point| point.open.keys().map(String::as_str)).collect();
    let known = |name: &str| Severity::ALL.iter().find(|s| s.word() == name);
    names.sort_by_key(|name| {
        let rank = Severity::ALL.iter().position(|s| s.word() == *name);
        (name.is_empty(), rank.unwrap_or(Severity::ALL.len()), *name)
    });
    names.dedup();
    let mut others = [("disc", "work"), ("square", "low"), ("half", "medium")].iter().cycle();
    let mut mark = |name: &str| match (known(name), name) {
        (Some(severity), _) => mark::severity(*severity),
        (None, "") => mark::run_state("pending"),
        // It never ends: it goes round.
        (None, _) => {
            let (shape, tone) = others.next().copied().unwrap_or(("disc", "work"));
            Mark { shape, tone }
        }
    };
    names.into_iter().map(|name| (name, mark(name))).collect()
}

/// The list of what is owed in a class; empty: in none.
pub(crate) fn of_class(class: &str) -> String {
    match class {
        "" => "/cves?fixable=true".to_owned(),
        class => format!("/cves?fixable=true&class={}", encoded(class)),
    }
}

/// One column a point, its classes stacked; a line across it says how much of it is overdue. `href` leads to what a class
/// has now, where there is a site behind the page.
pub(crate) fn columns(
    name: &str,
    unit: &str,
    points: &[TrendPoint],
    href: Option<&dyn Fn(&str) -> String>,
) -> Markup {
    let sum = |it: &TrendPoint| it.open.values().sum::<u64>();
    let ticks = ticks(points.iter().map(sum).max().unwrap_or(0));
    let top = ticks.last().copied().unwrap_or(1).max(1);
    // From the ground up, in pixels: what is there is seen.
    let high = |n: u64| if n == 0 { 0 } else { (n * HIGH / top).max(1) };
    let all = points.len() as u64;
    let classes = classes(points);
    let word =
        |class: &str| if class.is_empty() { "no class".to_owned() } else { class.to_owned() };
    let told = |it: &TrendPoint| {
        let parts = classes.iter().filter_map(|(class, _)| Some((class, it.open.get(*class)?)));
        let parts: Vec<String> =
            parts.map(|(class, n)| format!("{} {}", word(class), words::number(*n))).collect();
        let (overdue, open) = (words::number(it.overdue), words::number(sum(it)));
        format!("{}: {open} {unit} ({}), {overdue} overdue", words::utc(it.at), parts.join(", "))
    };
    let stacked = |it: &TrendPoint| {
        let mut below = 0;
        let part = |(class, mark): &(&str, Mark)| {
            let n = it.open.get(*class).copied().unwrap_or(0);
            let (from, to) = (high(below), high(below + n));
            below += n;
            (n > 0).then_some((*mark, from, to))
        };
        classes.iter().filter_map(part).collect::<Vec<_>>()
    };
    let day = |at: Timestamp| at.strftime("%-d %b").to_string();
    html! {
        figure.chart.trend {
            div.plot {
                svg.scale width="100%" height=(HIGH + 2 * ROOM) role="presentation" {
                    @for tick in &ticks { text x="100%" y=(HIGH + ROOM + 4 - tick * HIGH / top) text-anchor="end" { (words::number(*tick)) } }
                }
                svg.columns width="100%" height=(HIGH + 2 * ROOM) role="img" aria-label={
                    (name) ": "
                    @if let (Some(first), Some(last)) = (points.first(), points.last()) { "from " (told(first)) " to " (told(last)) }
                } {
                    @for tick in &ticks { @let y = HIGH + ROOM - tick * HIGH / top; line.grid x1="0" x2="100%" y1=(y) y2=(y) {} }
                    @for (n, it) in (0..).zip(points) {
                        g {
                            title { (told(it)) }
                            rect.touch x=(share(n, all)) y=(ROOM) width=(share(1, all)) height=(HIGH) {}
                            @for (mark, from, to) in stacked(it) {
                                rect.seg.(mark.tone) x=(share(n, all)) y=(HIGH + ROOM - to) width=(share(1, all)) height=(to - from) {}
                            }
                            @if it.overdue > 0 {
                                rect.overdue x=(share(n, all)) y=(HIGH + ROOM - high(it.overdue.min(sum(it))).max(2)) width=(share(1, all)) height="2" {}
                            }
                        }
                    }
                }
                span {}
                svg.axis width="100%" height="22" role="presentation" {
                    @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                        text x="0" y="18" { (day(first.at)) }
                        @if let Some(middle) = points.get(points.len() / 2).filter(|_| all > 4) { text x="50%" y="18" text-anchor="middle" { (day(middle.at)) } }
                        text x="100%" y="18" text-anchor="end" { (day(last.at)) ", " (last.at.strftime("%H:%M")) " UTC" }
                    }
                }
            }
            ul.legend {
                @for (class, mark) in &classes {
                    @let now = points.last().and_then(|it| it.open.get(*class)).copied().unwrap_or(0);
                    @let entry = html! { (mark.shape()) (word(class)) " " b { (words::number(now)) } };
                    li { @match href { Some(href) => { a href=(href(class)) { (entry) } }, None => { (entry) } } }
                }
                @if let Some(last) = points.last() { li { span.late-line aria-hidden="true" {} "overdue " b { (words::number(last.overdue)) } } }
                li.quiet { (unit) ", at the end" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_steps_that_cover_the_largest_value() {
        assert_eq!(ticks(0), [0, 1]);
        assert_eq!(ticks(4), [0, 1, 2, 3, 4]);
        assert_eq!(ticks(7), [0, 2, 4, 6, 8]);
        assert_eq!(ticks(183), [0, 50, 100, 150, 200]);
        assert_eq!(ticks(100_000), [0, 20_000, 40_000, 60_000, 80_000, 100_000]);
    }

    #[test]
    fn the_parts_of_a_stacked_bar_follow_each_other_and_empty_ones_stay_in_the_legend() {
        let part = |label: &str, count| Part {
            label: label.into(),
            mark: Mark { shape: "disc", tone: "low" },
            count,
            href: "/x".into(),
        };
        let html =
            stacked("open", "findings", &[part("a", 5), part("b", 0), part("c", 5)]).into_string();
        assert!(html.contains("x=\"0.00%\" y=\"0\" width=\"50.00%\""), "{html}");
        assert!(html.contains("x=\"50.00%\" y=\"0\" width=\"50.00%\""), "{html}");
        assert_eq!(html.matches("<rect class=\"seg").count(), 2);
        assert_eq!(html.matches("</li>").count(), 3);
    }

    #[test]
    fn a_column_is_stacked_from_the_worst_class_up_and_what_is_there_is_seen() {
        let at = |n: i64| Timestamp::from_second(n * 86_400).unwrap();
        let open = |all: &[(&str, u64)]| all.iter().map(|(c, n)| ((*c).to_owned(), *n)).collect();
        let points = [
            TrendPoint {
                at: at(1),
                open: open(&[("", 1), ("all", 1000), ("critical", 1)]),
                overdue: 1,
                overdue_by_class: Default::default(),
            },
            TrendPoint {
                at: at(2),
                open: open(&[("all", 1)]),
                overdue: 0,
                overdue_by_class: Default::default(),
            },
        ];
        let names: Vec<&str> = classes(&points).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["critical", "all", ""]);
        let html = columns("x", "findings", &points, None).into_string();
        // One of a thousand is a pixel high, at the ground.
        assert!(
            html.contains(
                "<rect class=\"seg critical\" x=\"0.00%\" y=\"166\" width=\"50.00%\" height=\"1\">"
            ),
            "{html}"
        );
        assert_eq!(html.matches("class=\"seg").count(), 4, "{html}");
        assert_eq!(html.matches("rect class=\"overdue\"").count(), 1);
        assert!(
            html.contains("1,002 findings (critical 1, all 1,000, no class 1), 1 overdue"),
            "{html}"
        );
        assert!(!html.contains("<a "), "a document of its own links to nothing");
    }

    #[test]
    fn a_trend_without_a_point_is_an_empty_chart() {
        assert!(columns("x", "findings", &[], None).into_string().contains("</figure>"));
    }
}
