//! Two plans side by side: what the one does that the other does not.

use super::layout::{View, scroll, section, title};
use super::words;
use fettle_core::plan::{Brings, PlanDiff, ReasonMove, SomeHosts};
use maud::{Markup, html};

/// Rows of a table that a page shows.
const SHOWN: usize = 200;

/// The difference of two plans.
pub fn plan_diff(view: &View<'_>, it: &PlanDiff) -> Markup {
    let plan = |number: u64| html! { a href={ "/plans/" (number) } { "plan " (number) } };
    let lead = html! { "What " (plan(it.to)) " does that " (plan(it.from)) " does not." };
    view.page(
        &format!("Plan {} against plan {}", it.to, it.from),
        html! {
            (title(&format!("Plan {} against plan {}", it.to, it.from), lead))
            @if it.is_empty() { p { "They do the same." } }
            @else {
                (rules(it))
                (section("Hosts", None, html! { dl {
                    dt { "Only in plan " (it.to) } dd { (hosts(&it.hosts_in)) }
                    dt { "Only in plan " (it.from) } dd { (hosts(&it.hosts_out)) }
                    dt { "By other rules" } dd { (hosts(&it.rules)) }
                } }))
                @if !it.packages.is_empty() { (section("Packages", None, packages(it))) }
                @if !it.waves.is_empty() { (section("Other waves", None, waves(it))) }
                @if !it.held_in.is_empty() { (section("Left undone now", None, reasons(&it.held_in))) }
                @if !it.held_out.is_empty() { (section("No longer left undone, or for another reason", None, reasons(&it.held_out))) }
            }
        },
    )
}

fn rules(it: &PlanDiff) -> Markup {
    html! {
        @if let Some((from, to)) = &it.policies { p { "Policy " (from) " → " (to) "." } }
        @if let Some((from, to)) = &it.policy_texts { p { "The policy's text is another one: " span.ver { (from.short()) } " → " span.ver { (to.short()) } "." } }
        @if let Some((from, to)) = it.approvals { p { "Approvals needed: " (from) " → " (to) "." } }
        @if let Some((from, to)) = it.wave_counts { p { "Waves: " (from) " → " (to) "." } }
        @for besides in &it.besides { p { (besides) "." } }
        @if !it.wave_rules.is_empty() { p { "Other gates or rests: wave " (it.wave_rules.iter().map(|n| (n + 1).to_string()).collect::<Vec<_>>().join(", ")) "." } }
        @for (name, from, to) in &it.budgets { p { "Budget " (name) ": " (limit(*from)) " → " (limit(*to)) " at once." } }
    }
}

fn limit(at_once: Option<u32>) -> String {
    at_once.map_or_else(|| "none".to_owned(), |n| n.to_string())
}

fn hosts(some: &SomeHosts) -> Markup {
    html! {
        @if some.count == 0 { span.quiet { "none" } }
        @else { (words::counted(some.count, "host")) span.quiet { " (" (some.names.join(", ")) @if some.count > some.names.len() as u64 { ", …" } ")" } }
    }
}

fn packages(it: &PlanDiff) -> Markup {
    let side = |brings: &Option<Brings>, other: &Option<Brings>| {
        let same = |b: &Brings| other.as_ref().is_some_and(|o| o.version == b.version);
        html! { @match brings {
            None => { span.quiet { "left alone" } },
            Some(b) => { (b.version) @if same(b) { " " span.quiet { "archive " (b.sha256.short()) } } },
        } }
    };
    html! {
        (scroll(html! { table {
            thead { tr { th { "Package" } th { "Plan " (it.from) } th { "Plan " (it.to) } th { "Hosts" } } }
            tbody { @for line in it.packages.iter().take(SHOWN) { tr {
                td { span.pkg { (line.package) } " " span.quiet { (line.architecture) } }
                td.ver { (side(&line.from, &line.to)) }
                td.ver { (side(&line.to, &line.from)) }
                td { (hosts(&line.hosts)) }
            } } }
        } }))
        @if it.packages.len() > SHOWN { p.quiet { (it.packages.len() - SHOWN) " more: " code { "fettle plan diff " (it.from) " " (it.to) } } }
    }
}

fn waves(it: &PlanDiff) -> Markup {
    let place = |(ring, wave): &(String, u32)| format!("wave {}, ring {ring}", wave + 1);
    html! { (scroll(html! { table {
        thead { tr { th { "Plan " (it.from) } th { "Plan " (it.to) } th { "Hosts" } } }
        tbody { @for line in it.waves.iter().take(SHOWN) { tr {
            td { (place(&line.from)) } td { (place(&line.to)) } td { (hosts(&line.hosts)) }
        } } }
    } })) }
}

fn reasons(lines: &[ReasonMove]) -> Markup {
    html! { (scroll(html! { table {
        thead { tr { th { "What" } th { "Why" } th { "Hosts" } } }
        tbody { @for line in lines.iter().take(SHOWN) { tr {
            td { @if line.package.is_empty() { "the whole host" } @else { span.pkg { (line.package) } } }
            td { (line.example) }
            td { (hosts(&line.hosts)) }
        } } }
    } })) }
}
