//! Plans: the list, and one plan as a report that can be read before it is started.

use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::{approval, plan_report, signing, testbed, words};
use crate::plan_keys;
use fettle_core::operator::Role;
use fettle_core::plan::approval::Stage;
use fettle_core::plan::{NotDone, Plan};
use fettle_wire::api::{Page, PlanDetail};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Changes, hosts and held things that a page shows.
const SHOWN: usize = 300;
/// Hosts named in a wave.
const IN_A_WAVE: usize = 20;
/// Vulnerabilities named in one cell.
const NAMED: usize = 6;

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
                (section("Waves", None, waves(plan)))
                @if let Some(report) = &it.report { (plan_report::coverage(view, report)) }
                (section("Changes", None, changes(plan)))
                (section("Hosts", None, hosts(view, plan)))
            }
            @if let Some(report) = &it.report { (plan_report::held(report)) }
            (section("Not done, and why", None, held(plan)))
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

fn waves(plan: &Plan) -> Markup {
    let name =
        |id| plan.hosts.get(id).map_or("", |h: &fettle_core::plan::HostPlan| h.name.as_str());
    html! {
        (scroll(html! { table {
            thead { tr { th.n { "Wave" } th { "Ring" } th { "Hosts" } th { "Why these" } th { "Gate before the next" } } }
            tbody { @for (i, wave) in plan.waves.iter().enumerate() { tr {
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
        @if !plan.budgets.is_empty() {
            p.quiet {
                "Never more at once: "
                @for (i, b) in plan.budgets.iter().enumerate() { @if i > 0 { "; " } (b.max_unavailable) " of " (b.hosts.len()) " of " b { (b.name) } @if let Some(well) = b.min_healthy { ", " (well) " of them well" } }
                "."
            }
        }
    }
}

fn changes(plan: &Plan) -> Markup {
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
    html! {
        (scroll(html! { table {
            thead { tr { th { "Package" } th { "From" } th { "To" } th.n { "Hosts" } th { "Fixes" } } }
            tbody { @for ((name, from, to), hosts) in all.iter().take(SHOWN) { tr {
                td { span.pkg { (name) } }
                td.ver { @if from.is_empty() { "new" } @else { (from) } }
                td.ver { (to) }
                td.n { (hosts) }
                td { (vulnerabilities(fixes.get(name).map_or(&[], Vec::as_slice))) }
            } } }
        } }))
        @if all.len() > SHOWN { p.quiet { (all.len() - SHOWN) " more: " code { "fettle plan show " (plan.number) } } }
    }
}

fn vulnerabilities(ids: &[&str]) -> Markup {
    html! {
        @if ids.is_empty() { span.quiet { "no known vulnerability" } }
        @for (i, id) in ids.iter().take(NAMED).enumerate() { @if i > 0 { ", " } a href={ "/cves/" (encoded(id)) } { (id) } }
        @if ids.len() > NAMED { span.quiet { " and " (ids.len() - NAMED) " more" } }
    }
}

fn hosts(view: &View<'_>, plan: &Plan) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Host" } th.n { "Wave" } th { "Ring" } th.n { "Packages" } th.n { "Fixes" } th { "Likely to restart" } th.n { "Due" } } }
            tbody { @for it in plan.hosts.values().take(SHOWN) { tr {
                td.name { a href={ "/hosts/" (encoded(&it.name)) } { (it.name) } }
                td.n { (it.wave + 1) }
                td { (it.ring) }
                td.n { (it.order.changes.len()) }
                td.n { (it.order.fixes.len()) }
                td { @if it.restarts.is_empty() { span.quiet { "nothing" } } @else { (it.restarts.join(", ")) } @if it.reboot_likely { " " span.tag { "reboot" } } }
                td.n { (view.ago_or(it.due, "–")) }
            } } }
        } }))
        @if plan.hosts.len() > SHOWN { p.quiet { (plan.hosts.len() - SHOWN) " more." } }
    }
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

fn held(plan: &Plan) -> Markup {
    let groups = grouped(plan);
    html! {
        @if groups.is_empty() { p.quiet { "Nothing is held." } }
        @else {
            (scroll(html! { table {
                thead { tr { th { "What" } th { "Hosts" } th { "Why, nearest reason first" } th { "Stays open" } } }
                tbody { @for (what, hosts) in groups.iter().take(SHOWN) { tr {
                    td { @if what.package.is_empty() { "the whole host" } @else { span.pkg { (what.package) } } }
                    td { @for (i, name) in hosts.iter().take(NAMED).enumerate() { @if i > 0 { ", " } a href={ "/hosts/" (encoded(name)) } { (name) } } @if hosts.len() > NAMED { span.quiet { " and " (hosts.len() - NAMED) " more" } } }
                    td { ol.chain { @for hold in &what.reasons { li { (hold) } } } }
                    td { @if what.findings.is_empty() { span.quiet { "–" } } @else { (vulnerabilities(&what.findings.iter().map(String::as_str).collect::<Vec<_>>())) } }
                } } }
            } }))
            @if groups.len() > SHOWN { p.quiet { (groups.len() - SHOWN) " more: " code { "fettle plan show " (plan.number) } } }
        }
    }
}
