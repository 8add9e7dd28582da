//! Ring 0 on a plan's page: which cohorts were tested on a twin, and what that leaves open.

use super::layout::{Span, View, encoded, scroll, section};
use super::plan_parts::{HEAD, PlanPart, Shown, cut};
use super::words;
use fettle_core::operator::Role;
use fettle_core::testbed::{Covered, Standing, TestReport, TestState};
use fettle_wire::api::{PlanTests, TestRow};
use maud::{Markup, html};

/// Packages named in one cell.
const NAMED: usize = 4;

/// The section. Nothing for a plan that asks for no test and has none.
pub(crate) fn of_plan(view: &View<'_>, it: &PlanTests) -> Markup {
    if it.works.is_empty() || (!it.required && it.tests.is_empty() && !view.may(Role::Operator)) {
        return html! {};
    }
    let shown = cohorts(it, HEAD);
    let to = PlanPart::Tests.path(it.plan);
    let all = format!("All {}", words::number(shown.total as u64));
    section(
        PlanPart::Tests.heading(),
        (shown.total as u64 > HEAD.limit).then_some((to.as_str(), all.as_str())),
        html! {
            p {
                b { (it.cohorts_tested) " of " (words::counted(it.cohorts.into(), "cohort")) }
                " took this very change on a twin, and gave it back: "
                b { (it.hosts_covered) " of " (words::counted(it.hosts.into(), "host")) }
                " covered (" (it.percent) " %)."
                @if it.required { " Its policy requires all of them before the first host is touched." }
                @else { " Its policy does not require it." }
            }
            (shown.rows)
            @if view.may(Role::Operator) && it.works.iter().any(|w| !w.is_good()) {
                form.start action={ "/plans/" (it.plan) "/tests" } method="post" {
                    button { "Test on twins" }
                    span.note { "The same: " code { "fettle testbed run " (it.plan) } }
                }
            }
        },
    )
}

/// Each cohort with how it stands.
pub(super) fn cohorts(it: &PlanTests, span: Span) -> Shown {
    let rows = scroll(html! { table {
        thead { tr { th { "Cohort" } th.n { "Hosts" } th.n { "Changes" } th { "Twin of" } th { "Test" } th.n { "Mirrored" } th { "Not shown by it" } } }
        tbody { @for work in cut(&it.works, span) { (row(it, work)) } }
    } });
    Shown { rows, total: it.works.len() }
}

fn row(it: &PlanTests, work: &Covered) -> Markup {
    let test = it.tests.iter().find(|t| t.work == work.work);
    let report = test.and_then(report);
    html! {
        tr {
            td.ver title=(work.work.cohort) { (work.work.cohort.short()) }
            td.n { (work.hosts.len()) }
            td.n { (work.changes) }
            td.name { a href={ "/hosts/" (encoded(&work.like)) } { (work.like) } }
            td { span.tag { (word(&work.standing)) } " " (work.standing) }
            td.n { @match report { Some(r) if r.mirror.wanted > 0 => { (r.mirror.exact) " of " (r.mirror.wanted) }, _ => { "–" } } }
            td { @match report { Some(report) => { (left_open(report)) }, None => { span.quiet { "–" } } } }
        }
    }
}

fn report(test: &TestRow) -> Option<&TestReport> {
    match &test.state {
        TestState::Ended { report, .. } => Some(report),
        _ => None,
    }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Good { .. } => "good",
        Standing::Failed { .. } => "failed",
        Standing::Inconclusive { .. } => "inconclusive",
        Standing::Old { .. } => "too old",
        Standing::Open { .. } => "under way",
        Standing::Untested => "untested",
    }
}

/// What could not be mirrored, and what no container shows.
fn left_open(report: &TestReport) -> Markup {
    let other = &report.mirror.other;
    html! {
        ul.chain {
            @if !other.is_empty() {
                li {
                    "could not mirror "
                    @for (i, one) in other.iter().take(NAMED).enumerate() { @if i > 0 { ", " } (one) }
                    @if other.len() > NAMED { " and " (other.len() - NAMED) " more" }
                }
            }
            @for limit in &report.limits { li { (limit) } }
        }
    }
}
