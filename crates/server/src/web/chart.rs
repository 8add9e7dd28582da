//! Charts as SVG: no style attributes, positions in percent, so that they fit any width without scaling text.

use super::mark::Mark;
use super::words;
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
                    a href=(part.href) aria-label={ (words::number(part.count)) " " (part.label) } {
                        rect.seg.(part.mark.tone) x=(share(*at, end)) y="0" width=(share(part.count, end)) height="36" { title { (words::number(part.count)) " " (part.label) } }
                        @if part.count * 100 >= end * 6 {
                            text.(part.mark.tone) x=(share(at * 2 + part.count, end * 2)) y="23" text-anchor="middle" { (words::number(part.count)) }
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
            rect.track x="0" y="0" width="100%" height="10" rx="3" {}
            @for (mark, count) in parts {
                @if *count > 0 {
                    rect.seg.(mark.tone) x=(share(from, total)) y="0" width=(share(*count, total)) height="10" {}
                    @let () = from += count;
                }
            }
        }
    }
}

/// Height of the columns, in pixels.
const HIGH: u64 = 140;

/// One column a point, the overdue part of it told apart, on one axis; first and last point are named below.
pub(crate) fn columns(name: &str, unit: &str, points: &[TrendPoint]) -> Markup {
    let sum = |it: &TrendPoint| it.open.values().sum::<u64>();
    let top = ticks(points.iter().map(sum).max().unwrap_or(0)).last().copied().unwrap_or(1).max(1);
    let high = |n: u64| n * HIGH / top;
    let all = points.len() as u64;
    let told = |it: &TrendPoint| {
        let classes = it.open.iter().map(|(class, n)| {
            let class = if class.is_empty() { "no class" } else { class };
            format!("{class} {}", words::number(*n))
        });
        let classes: Vec<String> = classes.collect();
        let overdue = words::number(it.overdue);
        let open = words::number(sum(it));
        format!("{}: {open} {unit} ({}), {overdue} overdue", words::utc(it.at), classes.join(", "))
    };
    html! {
        figure.chart {
            figcaption.quiet { "Full height: " (words::number(top)) " " (unit) ". The lower part of a column is overdue." }
            svg.columns width="100%" height=(HIGH + 4) role="img" aria-label={
                (name) ": "
                @if let (Some(first), Some(last)) = (points.first(), points.last()) { "from " (told(first)) " to " (told(last)) }
            } {
                rect.track x="0" y="4" width="100%" height=(HIGH) {}
                @for (n, it) in (0..).zip(points) {
                    @let (open, late) = (high(sum(it)), high(it.overdue.min(sum(it))));
                    g {
                        title { (told(it)) }
                        rect.seg.work x=(share(n, all)) y=(HIGH + 4 - open) width=(share(1, all)) height=(open) {}
                        @if late > 0 { rect.seg.bad x=(share(n, all)) y=(HIGH + 4 - late) width=(share(1, all)) height=(late) {} }
                    }
                }
            }
            svg.axis width="100%" height="22" role="presentation" {
                @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                    text x="0" y="18" { (words::utc(first.at)) }
                    text x="100%" y="18" text-anchor="end" { (words::utc(last.at)) }
                }
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
}
