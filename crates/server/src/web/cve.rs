//! One vulnerability over the fleet.

use super::chart::{self, Part};
use super::finding::{ranks, table};
use super::layout::{View, empty, encoded, section};
use super::{mark, words};
use fettle_core::advisory::AdvisoryStatus;
use fettle_wire::api::{CveDetail, FINDING_STATES};
use maud::{Markup, html};

/// Who has it, who had it, and what the vendor says.
pub fn cve(view: &View<'_>, it: &CveDetail) -> Markup {
    let vulnerable = it.findings.iter().filter(|f| f.finding.state.is_vulnerable()).count() as u64;
    let fixed = it.findings.len() as u64 - vulnerable;
    view.page(
        &it.id,
        html! {
            div.title {
                h1 { (it.id) }
                p.lead {
                    (mark::severity(it.severity).badge(it.severity.word())) " "
                    @if it.ranking.kev.is_some() { span.tag.kev { "exploited" } " " }
                    @if it.findings.is_empty() { "No host of this fleet has or had it." }
                    @else if vulnerable == 0 { "Proved gone everywhere: " (words::counted(fixed, "finding")) " fixed." }
                    @else { (words::counted(vulnerable, "finding")) " not fixed, " (words::number(fixed)) " proved gone." }
                }
            }
            div.pair {
                (section("Where it stands", None, chart::stacked(
                    "Findings by state",
                    "findings",
                    &FINDING_STATES.map(|s| Part {
                        label: mark::spoken(s.word()),
                        mark: mark::finding_state(s),
                        count: it.by_state.get(s.word()).copied().unwrap_or(0),
                        href: format!("/findings?id={}&state={}", encoded(&it.id), s.word()),
                    }),
                )))
                (section("How it ranks", None, html! { dl.facts { (ranks(&it.ranking)) } }))
            }
            (section("Hosts", None, html! {
                @if it.findings.is_empty() {
                    (empty("No host has it.", html! { p { "Either it does not concern what is installed here, or the hosts' release was never affected." } }))
                } @else {
                    (table(view, &it.findings, true))
                }
            }))
            (section("The vendor's word", None, html! {
                @if it.advisories.is_empty() {
                    p.quiet { "The vendor says nothing of it for the releases that hosts here run." }
                } @else {
                    div.scroll {
                        table {
                            thead { tr { th { "Source package" } th { "Release" } th { "Status" } th { "Urgency" } th { "Read in" } } }
                            tbody {
                                @for a in &it.advisories {
                                    tr {
                                        td { span.pkg { (a.source) } }
                                        td { (a.release) }
                                        td { (status(&a.status)) }
                                        td { (a.urgency) }
                                        td.quiet { (a.evidence) }
                                    }
                                }
                            }
                        }
                    }
                }
            }))
        },
    )
}

fn status(status: &AdvisoryStatus) -> Markup {
    html! {
        @match status {
            AdvisoryStatus::Fixed { version } => { "fixed in " span.ver { (version) } },
            AdvisoryStatus::Open { reason } => { "affected, no fix" @if !reason.is_empty() { " " span.quiet { (reason) } } },
            AdvisoryStatus::NotAffected => { "never affected" },
            AdvisoryStatus::Undetermined => { "not decided" },
        }
    }
}
