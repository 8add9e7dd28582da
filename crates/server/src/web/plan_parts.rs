//! The tables of a plan. Its page shows the head of each; where there is more, a page of its own has all of it, part by
//! part: no page grows with the fleet.

use super::layout::{Span, View, encoded, scroll};
use super::{plan_report, testbed, words};
use fettle_core::plan::{HostPlan, NotDone, Plan};
use fettle_wire::api::PlanDetail;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// What the plan's own page shows of each.
pub(super) const HEAD: Span = Span { offset: 0, limit: 20 };
/// Hosts named in a wave.
const IN_A_WAVE: usize = 5;
/// Vulnerabilities named in one cell.
const NAMED: usize = 4;

/// A table of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanPart {
    /// Its waves.
    Waves,
    /// When each wave may begin, and whom it stands for.
    Timetable,
    /// Its cohorts.
    Cohorts,
    /// What was tried on twins.
    Tests,
    /// Its package changes.
    Changes,
    /// Its hosts.
    Hosts,
    /// What is left undone, by reason.
    Reasons,
    /// What is left undone, thing by thing.
    Held,
}

impl PlanPart {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Waves,
        Self::Timetable,
        Self::Cohorts,
        Self::Tests,
        Self::Changes,
        Self::Hosts,
        Self::Reasons,
        Self::Held,
    ];

    /// The last part of its page's path.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waves => "waves",
            Self::Timetable => "timetable",
            Self::Cohorts => "cohorts",
            Self::Tests => "tests",
            Self::Changes => "changes",
            Self::Hosts => "hosts",
            Self::Reasons => "reasons",
            Self::Held => "held",
        }
    }

    pub(super) fn path(self, plan: u64) -> String {
        format!("/plans/{plan}/{}", self.word())
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Waves => "Waves",
            Self::Timetable => "Timetable and coverage",
            Self::Cohorts => "Cohorts",
            Self::Tests => "Test environment",
            Self::Changes => "Changes",
            Self::Hosts => "Hosts",
            Self::Reasons => "Left undone, by reason",
            Self::Held => "Not done, and why",
        }
    }
}

/// A part of a table, and how many rows the whole has.
pub(super) struct Shown {
    pub(super) rows: Markup,
    pub(super) total: usize,
}

impl Shown {
    pub(super) fn none(why: &str) -> Self {
        Self { rows: html! { p.quiet { (why) } }, total: 0 }
    }
}

/// Those that stand in this part.
pub(super) fn cut<T>(all: impl IntoIterator<Item = T>, span: Span) -> impl Iterator<Item = T> {
    let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    all.into_iter().skip(whole(span.offset)).take(whole(span.limit))
}

pub(super) fn table(view: &View<'_>, it: &PlanDetail, part: PlanPart, span: Span) -> Shown {
    let unknown = || Shown::none("Not known of this plan.");
    let (report, tests) = (it.report.as_ref(), it.tests.as_ref());
    match part {
        PlanPart::Waves => waves(&it.plan, span),
        PlanPart::Timetable => {
            report.map_or_else(unknown, |report| plan_report::timetable(view, report, span))
        }
        PlanPart::Cohorts => {
            report.map_or_else(unknown, |report| plan_report::cohorts(view, report, span))
        }
        PlanPart::Tests => tests.map_or_else(unknown, |tests| testbed::cohorts(tests, span)),
        PlanPart::Changes => changes(&it.plan, span),
        PlanPart::Hosts => hosts(view, &it.plan, span),
        PlanPart::Reasons => {
            report.map_or_else(unknown, |report| plan_report::reasons(report, span))
        }
        PlanPart::Held => held(&it.plan, span),
    }
}

fn waves(plan: &Plan, span: Span) -> Shown {
    let name = |id| plan.hosts.get(id).map_or("", |h: &HostPlan| h.name.as_str());
    let all = plan.waves.iter().enumerate();
    let rows = html! {
        (scroll(html! { table {
            thead { tr { th.n { "Wave" } th { "Ring" } th { "Hosts" } th { "Why these" } th { "Gate before the next" } } }
            tbody { @for (i, wave) in cut(all, span) { tr {
                td.n { (i + 1) }
                td { (wave.ring) }
                td {
                    @for (j, host) in wave.hosts.iter().take(IN_A_WAVE).enumerate() { @if j > 0 { ", " } a href={ "/hosts/" (encoded(name(host))) } { (name(host)) } }
                    @if wave.hosts.len() > IN_A_WAVE { span.quiet { " and " (wave.hosts.len() - IN_A_WAVE) " more" } }
                }
                td { (wave.why) }
                td {
                    @if wave.rolling { "none: each host is watched for " (words::seconds(wave.gate.bake_seconds)) " before the next takes its place; at most " }
                    @else { "watched for " (words::seconds(wave.gate.bake_seconds)) ", " (wave.gate.min_success_percent) " % patched, at most " }
                    (words::counted(u64::from(wave.gate.max_failures), "failure"))
                    @if wave.soak_seconds > 0 { ", then a rest of " (words::seconds(wave.soak_seconds)) }
                    @if wave.after_seconds > 0 {
                        ", begins " (words::seconds(wave.after_seconds)) " after the rollout or later"
                    }
                }
            } } }
        } }))
    };
    Shown { rows, total: plan.waves.len() }
}

fn changes(plan: &Plan, span: Span) -> Shown {
    let mut fixes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (work, _) in plan.works() {
        for (package, ids) in &work.why {
            let entry = fixes.entry(package.as_str()).or_default();
            entry.extend(
                ids.iter().map(String::as_str).filter(|id| !entry.contains(id)).collect::<Vec<_>>(),
            );
        }
    }
    let all = plan.changes();
    let rows = html! {
        (scroll(html! { table {
            thead { tr { th { "Package" } th { "From" } th { "To" } th.n { "Hosts" } th { "Fixes" } } }
            tbody { @for ((name, from, to), hosts) in cut(&all, span) { tr {
                td { span.pkg { (name) } }
                td.ver { @if from.is_empty() { "new" } @else { (from) } }
                td.ver { (to) }
                td.n { (hosts) }
                td { (vulnerabilities(fixes.get(name).map_or(&[], Vec::as_slice))) }
            } } }
        } }))
    };
    Shown { rows, total: all.len() }
}

fn vulnerabilities(ids: &[&str]) -> Markup {
    html! {
        @if ids.is_empty() { span.quiet { "no known vulnerability" } }
        @for (i, id) in ids.iter().take(NAMED).enumerate() { @if i > 0 { ", " } a href={ "/cves/" (encoded(id)) } { (id) } }
        @if ids.len() > NAMED { span.quiet { " and " (ids.len() - NAMED) " more" } }
    }
}

/// The first of them, and how many more there are.
fn few(names: &[String]) -> String {
    let first = names.get(..NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn hosts(view: &View<'_>, plan: &Plan, span: Span) -> Shown {
    let rows = html! {
        (scroll(html! { table {
            thead { tr { th { "Host" } th.n { "Wave" } th { "Ring" } th.n { "Packages" } th.n { "Fixes" } th { "Likely to restart" } th.n { "Due" } } }
            tbody { @for it in cut(plan.hosts.values(), span) { tr {
                td.name { a href={ "/hosts/" (encoded(&it.name)) } { (it.name) } }
                td.n { (it.wave + 1) }
                td { (it.ring) }
                td.n { (it.order.changes.len()) }
                td.n { (it.order.fixes.len()) }
                td { @if it.restarts.is_empty() { span.quiet { "nothing" } } @else { (few(&it.restarts)) } @if it.reboot_likely { " " span.tag { "reboot" } } }
                td.n { (view.ago_or(it.due, "–")) }
            } } }
        } }))
    };
    Shown { rows, total: plan.hosts.len() }
}

/// Each thing that is not done once, with the hosts it is not done on; what concerns most hosts first.
fn grouped(plan: &Plan) -> Vec<(&NotDone, Vec<&str>)> {
    let mut groups: BTreeMap<&NotDone, Vec<&str>> = BTreeMap::new();
    for group in &plan.held {
        for what in &group.what {
            groups.entry(what).or_default().extend(group.hosts.values().map(String::as_str));
        }
    }
    let mut out: Vec<_> = groups.into_iter().collect();
    out.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
    out
}

fn held(plan: &Plan, span: Span) -> Shown {
    let groups = grouped(plan);
    if groups.is_empty() {
        return Shown::none("Nothing is held.");
    }
    let rows = html! {
            (scroll(html! { table {
                thead { tr { th { "What" } th { "Hosts" } th { "Why, nearest reason first" } th { "Stays open" } } }
                tbody { @for (what, hosts) in cut(&groups, span) { tr {
                    td { @if what.package.is_empty() { "the whole host" } @else { span.pkg { (what.package) } } }
                    td { @for (i, name) in hosts.iter().take(NAMED).enumerate() { @if i > 0 { ", " } a href={ "/hosts/" (encoded(name)) } { (name) } } @if hosts.len() > NAMED { span.quiet { " and " (hosts.len() - NAMED) " more" } } }
                    td { ol.chain { @for hold in &what.reasons { li { (hold) } } } }
                    td { @if what.findings.is_empty() { span.quiet { "–" } } @else { (vulnerabilities(&what.findings.iter().map(String::as_str).collect::<Vec<_>>())) } }
                } } }
            } }))
    };
    Shown { rows, total: groups.len() }
}
