//! Plans: the list, and one plan as a report that can be read before it is started.

use super::layout::{Span, View, command, empty, encoded, scroll, section, title};
use super::plan_parts::{HEAD, PlanPart, table};
use super::{approval, plan_report, signing, testbed, words};
use crate::plan_keys;
use fettle_core::operator::Role;
use fettle_core::plan::Plan;
use fettle_core::plan::approval::Stage;
use fettle_wire::api::{Page, PlanDetail};
use maud::{Markup, html};

/// Plans, newest first.
pub fn plans(view: &View<'_>, page: &Page<PlanDetail>) -> Markup {
    view.page(
        "Plans",
        html! {
            (title("Plans", html! { (words::counted(page.total, "plan")) ": the exact change decided for a set of hosts, newest first." }))
            @if page.items.is_empty() {
                (empty("No plan has been made.", html! {
                    p { "A plan is made by a policy, and changes nothing until it is started:" }
                    (command("fettle plan make POLICY"))
                    p { a href="/policies" { "Look at the policies" } }
                }))
            } @else {
                (scroll(html! { table {
                    thead { tr { th { "Plan" } th { "Policy" } th.n { "Hosts" } th.n { "Waves" } th.n { "Changes" } th.n { "Fixes" } th.n { "Held" } th { "Digest" } th { "Made" } } }
                    tbody { @for it in &page.items { tr {
                        td.name { a href={ "/plans/" (it.number) } { "plan " (it.number) } }
                        td { a href={ "/policies/" (encoded(&it.plan.policy)) } { (it.plan.policy) } }
                        td.n { (it.plan.hosts.len()) } td.n { (it.plan.waves.len()) }
                        td.n { (it.plan.changes().len()) } td.n { (it.plan.fixes().len()) } td.n { (it.plan.held_count()) }
                        td.ver { (it.digest.short()) }
                        td { (view.ago(it.plan.made_at)) }
                    } } }
                } }))
            }
        },
    )
}

/// One plan: what, where, when, why, and why not the rest.
pub fn plan(view: &View<'_>, it: &PlanDetail) -> Markup {
    let plan = &it.plan;
    let reboots = plan.hosts.values().filter(|h| h.reboot_likely).count();
    view.page(
        &format!("Plan {}", it.number),
        html! {
            div.title {
                h1 { "Plan " (it.number) }
                p.lead {
                    "By policy " a href={ "/policies/" (encoded(&plan.policy)) } { (plan.policy) }
                    ", made by " (it.made_by) " " (view.ago(plan.made_at)) ", digest " span.ver title=(it.digest) { (it.digest.short()) }
                    ". A plan changes nothing until it is started."
                }
            }
            ul.figures {
                (figure(plan.hosts.len(), "host", "to change"))
                (figure(plan.waves.len(), "wave", ""))
                (figure(plan.changes().len(), "package change", ""))
                (figure(plan.fixes().len(), "vulnerability", "fixed"))
                (figure(plan.held_count(), "thing", "held"))
                @if reboots > 0 { (figure(reboots, "host", "likely to reboot")) }
            }
            @if plan.hosts.is_empty() {
                div.notice.rest { h2 { "Nothing to do" } p { "No host of the policy is owed a change now. What is held, and why, is below." } }
            } @else {
                (stage(view, it))
                @if plan.approvals_needed > 0 { (approval::section(view, it)) }
                @if let Some(signing) = &it.signing { (signing::section(view, it.number, signing)) }
                @if let Some(report) = &it.report { (plan_report::effects(view, report)) }
                @if let Some(tests) = &it.tests { (testbed::of_plan(view, tests)) }
                (head(view, it, PlanPart::Waves))
                (budgets(plan))
                @if it.report.is_some() { (head(view, it, PlanPart::Timetable)) (head(view, it, PlanPart::Cohorts)) }
                (head(view, it, PlanPart::Changes))
                (head(view, it, PlanPart::Hosts))
            }
            @if it.report.as_ref().is_some_and(|report| !report.held.is_empty()) { (head(view, it, PlanPart::Reasons)) }
            (head(view, it, PlanPart::Held))
        },
    )
}

/// The head of a table, with the way to all of it where there is more.
fn head(view: &View<'_>, it: &PlanDetail, part: PlanPart) -> Markup {
    let shown = table(view, it, part, HEAD);
    let (to, all) = (part.path(it.number), format!("All {}", words::number(shown.total as u64)));
    let more = (shown.total as u64 > HEAD.limit).then_some((to.as_str(), all.as_str()));
    section(part.heading(), more, shown.rows)
}

/// One table of a plan, a part of it at a time.
pub fn plan_part(view: &View<'_>, it: &PlanDetail, part: PlanPart, span: Span) -> Markup {
    let heading = part.heading();
    let shown = table(view, it, part, span);
    let rows = (shown.total as u64).saturating_sub(span.offset).min(span.limit);
    view.page(
        &format!("Plan {}: {heading}", it.number),
        html! {
            (title(heading, html! { "Of " a href={ "/plans/" (it.number) } { "plan " (it.number) } ", by policy " a href={ "/policies/" (encoded(&it.plan.policy)) } { (it.plan.policy) } "." }))
            (shown.rows)
            (view.pages(span, rows as usize, shown.total as u64))
        },
    )
}

/// What can be done with the plan now, or why nothing can.
fn stage(view: &View<'_>, it: &PlanDetail) -> Markup {
    html! {
        @match it.approvals.stage {
            Stage::Started { at } => { div.notice.rest { h2 { "Its rollout was started " (view.ago(at)) } p { a href="/rollouts" { "To the rollouts" } } } },
            Stage::Superseded => {
                div.notice.rest {
                    h2 { "Overtaken" }
                    p { "Another plan of the policy took effect since this one was made: it can be neither approved nor started. Make a new one: " code { "fettle plan make " (it.plan.policy) } }
                }
            },
            Stage::Open => @match it.approvals.hold().or_else(|| plan_keys::hold(it.signing.as_ref())) {
                Some(hold) => { div.notice.warn { h2 { "Cannot start yet: " (hold) } } },
                None if view.may(Role::Operator) => {
                    form.start action="/rollouts" method="post" {
                        input type="hidden" name="plan" value=(it.number);
                        input type="hidden" name="digest" value=(it.digest);
                        button.primary { "Start the rollout" }
                        span.note { "Begins with wave 1, " (it.plan.waves.first().map_or("", |w| w.ring.as_str())) ". The same: " code { "fettle rollout start " (it.number) } }
                    }
                },
                None => { p.quiet { "It may be started by someone with the role operator." } },
            },
        }
    }
}

/// A number that stands out, with what it counts.
fn figure(n: usize, of: &str, rest: &str) -> Markup {
    let told = words::counted(n as u64, of);
    let (number, word) = told.split_once(' ').unwrap_or((&told, ""));
    html! { li { b { (number) } (word) " " (rest) } }
}

/// How much of the fleet may be away at once.
fn budgets(plan: &Plan) -> Markup {
    let most = HEAD.limit as usize;
    html! {
        @if !plan.budgets.is_empty() {
            p.quiet {
                "Never more at once: "
                @for (i, b) in plan.budgets.iter().take(most).enumerate() { @if i > 0 { "; " } (b.max_unavailable) " of " (b.hosts.len()) " of " b { (b.name) } @if let Some(well) = b.min_healthy { ", " (well) " of them well" } }
                @if plan.budgets.len() > most { "; " (plan.budgets.len() - most) " more" }
                "."
            }
        }
    }
}
