//! Two versions of a policy side by side: which settings differ, and which lines.

use super::layout::{View, encoded, scroll, section, title};
use super::words;
use fettle_core::policy::Setting;
use fettle_wire::api::PolicyVersion;
use maud::{Markup, html};

/// Two versions of a policy.
#[derive(Debug, Clone)]
pub struct PolicyVersions {
    /// Its name.
    pub name: String,
    /// The one that is compared with.
    pub from: PolicyVersion,
    /// The other.
    pub to: PolicyVersion,
    /// Settings that differ. `Err`: one of the texts is not understood today, and why.
    pub settings: Result<Vec<Setting>, String>,
}

/// Unchanged lines that are shown around a change.
const AROUND: usize = 3;
/// Texts with more differing lines than this, multiplied, are not compared line by line.
const MOST: usize = 4_000_000;

/// What the one version says that the other does not.
pub fn policy_diff(view: &View<'_>, it: &PolicyVersions) -> Markup {
    let heading = format!("{}: version {} against {}", it.name, it.to.version, it.from.version);
    let version = |v: &PolicyVersion| {
        html! {
            "Version " (v.version) ", " span.ver title=(v.digest) { (v.digest.short()) } ", applied by " (v.applied_by) " " (view.ago(v.applied_at))
            @if v.in_force { ", " strong { "in force" } }
            "."
        }
    };
    view.page(
        &heading,
        html! {
            (title(&heading, html! { "Policy " a href={ "/policies/" (encoded(&it.name)) } { (it.name) } ". " (version(&it.to)) " " (version(&it.from)) }))
            (section("Settings", None, settings(it)))
            (section("Text", None, text(&it.from.text, &it.to.text)))
        },
    )
}

fn settings(it: &PolicyVersions) -> Markup {
    let value = |of: &Option<String>| {
        html! { @match of { Some(text) => { (text) }, None => { span.quiet { "not there" } } } }
    };
    html! {
        @match &it.settings {
            Err(why) => { p { "Cannot be compared setting by setting: " (why) } },
            Ok(rows) if rows.is_empty() => { p.quiet { "No setting differs: only the text does." } },
            Ok(rows) => { (scroll(html! { table {
                thead { tr { th { "Setting" } th { "Version " (it.from.version) } th { "Version " (it.to.version) } } }
                tbody { @for row in rows { tr {
                    td.name { (row.what) }
                    td.ver { (value(&row.from)) }
                    td.ver { (value(&row.to)) }
                } } }
            } })) },
        }
    }
}

/// A line of the one text, of the other, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Gone(&'a str),
    New(&'a str),
}

fn text(from: &str, to: &str) -> Markup {
    let lines = lines(from, to);
    let is_near = |n: usize| {
        let near = &lines[n.saturating_sub(AROUND)..(n + AROUND + 1).min(lines.len())];
        near.iter().any(|line| !matches!(line, Line::Both(_)))
    };
    let shown: Vec<bool> = (0..lines.len()).map(is_near).collect();
    html! {
        @if !shown.contains(&true) { p.quiet { "Both have exactly the same text." } }
        @else {
            pre.toml.diff tabindex="0" {
                @for (n, line) in lines.iter().enumerate() {
                    @if shown[n] {
                        @match line {
                            Line::Both(text) => { span { "  " (text) "\n" } },
                            Line::Gone(text) => { del { "- " (text) "\n" } },
                            Line::New(text) => { ins { "+ " (text) "\n" } },
                        }
                    } @else if n == 0 || shown[n - 1] { span.c { "  …\n" } }
                }
            }
            p.quiet { (words::counted(lines.iter().filter(|l| matches!(l, Line::New(_))).count() as u64, "line")) " new, " (lines.iter().filter(|l| matches!(l, Line::Gone(_))).count()) " gone." }
        }
    }
}

/// The lines of two texts, in an order that keeps those of each: as many as can be are of both.
fn lines<'a>(from: &'a str, to: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[same..], &new[same..]);
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[..a.len() - tail], &b[..b.len() - tail]);
    let mut out: Vec<Line<'_>> = old[..same].iter().map(|line| Line::Both(line)).collect();
    middle(a, b, &mut out);
    out.extend(old[old.len() - tail..].iter().map(|line| Line::Both(line)));
    out
}

/// Of what is not the same at both ends: the longest common sequence of lines, by the table of its lengths.
fn middle<'a>(a: &[&'a str], b: &[&'a str], out: &mut Vec<Line<'a>>) {
    let wide = b.len() + 1;
    let fits = (a.len() + 1).saturating_mul(wide) <= MOST;
    let mut longest = vec![0u32; if fits { (a.len() + 1) * wide } else { 0 }];
    if fits {
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                longest[i * wide + j] = match a[i] == b[j] {
                    true => longest[(i + 1) * wide + j + 1] + 1,
                    false => longest[(i + 1) * wide + j].max(longest[i * wide + j + 1]),
                };
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            out.push(Line::Both(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if !fits || longest[(i + 1) * wide + j] >= longest[i * wide + j + 1] {
            out.push(Line::Gone(a[i]));
            i += 1;
        } else {
            out.push(Line::New(b[j]));
            j += 1;
        }
    }
    out.extend(a[i..].iter().map(|line| Line::Gone(line)));
    out.extend(b[j..].iter().map(|line| Line::New(line)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(from: &str, to: &str) -> String {
        let line = |line: &Line<'_>| match line {
            Line::Both(text) => format!(" {text}"),
            Line::Gone(text) => format!("-{text}"),
            Line::New(text) => format!("+{text}"),
        };
        lines(from, to).iter().map(line).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn lines_that_both_texts_have_stay_and_the_others_are_gone_or_new() {
        assert_eq!(told("a\nb\nc", "a\nb\nc"), " a| b| c");
        assert_eq!(told("a\nb\nc\nd", "a\nx\nc\nd\ne"), " a|-b|+x| c| d|+e");
        assert_eq!(told("", "a"), "+a");
        assert_eq!(told("a\na", "a"), " a|-a");
        assert_eq!(told("b\na", "a\nb"), "-b| a|+b");
    }

    #[test]
    fn each_text_can_be_read_off_the_lines() {
        let (from, to) = ("k\nl\nm\nn\no\np", "m\nk\nl\np\nq\no");
        let lines = lines(from, to);
        let of = |ours: fn(&Line<'_>) -> bool| {
            let text = |line: &Line<'_>| match line {
                Line::Both(text) | Line::Gone(text) | Line::New(text) => (*text).to_owned(),
            };
            let kept = lines.iter().filter(|line| ours(line)).map(text);
            kept.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(of(|line| !matches!(line, Line::New(_))), from);
        assert_eq!(of(|line| !matches!(line, Line::Gone(_))), to);
    }
}
