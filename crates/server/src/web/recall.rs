//! Recalls: versions that nobody is to get, and who has them.

use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::{mark, words};
use fettle_core::operator::Role;
use fettle_wire::api::{RecallDetail, RecallRow};
use maud::{Markup, html};

fn path(row: &RecallRow) -> String {
    format!("/recalls/{}/{}", encoded(&row.recall.package), encoded(&row.recall.version))
}

/// All recalls, and the form that makes one. `package` and `version` are filled in already.
pub fn recalls(view: &View<'_>, rows: &[RecallRow], package: &str, version: &str) -> Markup {
    view.page(
        "Recalled versions",
        html! {
            (title("Recalled versions", html! {
                "Versions that no host is to get: no plan takes them, and a rollout that would still bring one is halted."
            }))
            @if rows.is_empty() {
                (empty("Nothing is recalled.", html! { p { "When a vendor withdraws a version, or you have seen what it does:" } (command("fettle recall add PACKAGE=VERSION --reason WHY")) }))
            } @else { (table(view, rows)) }
            (section("Recall a version", None, form(view, package, version)))
        },
    )
}

/// Recalls as a table.
pub(crate) fn table(view: &View<'_>, rows: &[RecallRow]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Package" } th { "Version" } th.n { "Hosts that have it" } th.n { "Offered to" } th { "Recalled" } th.wide { "Why" } } }
            tbody { @for row in rows { tr {
                td.name { a href=(path(row)) { (row.recall.package) } }
                td.ver { (row.recall.version) }
                td.n { @if row.hosts > 0 { strong.bad { (words::number(row.hosts)) } } @else { span.quiet { "0" } } }
                td.n { (words::number(row.offered)) }
                td { (view.ago(row.recall.at)) " by " (row.recall.by) }
                td.wide { (row.recall.reason) }
            } } }
        } }))
    }
}

fn form(view: &View<'_>, package: &str, version: &str) -> Markup {
    html! {
        @if view.may(Role::Operator) {
            form.start action="/recalls" method="post" {
                label { "Package " input type="text" name="package" value=(package) required maxlength="500" size="24" spellcheck="false" autocomplete="off"; }
                label { "Version " input type="text" name="version" value=(version) required maxlength="500" size="20" spellcheck="false" autocomplete="off"; }
                label { "Why " input type="text" name="reason" required maxlength="500" size="32" autocomplete="off"; }
                label { input type="checkbox" name="undo" value="true"; " take it back where a rollout brought it" }
                button.primary { "Recall this version" }
                span.note { "In the name, " code { "*" } " and " code { "?" } " stand for others. Binaries of one source are kept in step: one of them is enough. The same: " code { "fettle recall add PACKAGE=VERSION --reason WHY" } }
            }
        } @else { p.quiet { "Recalling needs the role operator, which you do not have." } }
    }
}

/// One recall.
pub fn recall(view: &View<'_>, it: &RecallDetail) -> Markup {
    let recall = &it.row.recall;
    view.page(
        &format!("{} {} is recalled", recall.package, recall.version),
        html! {
            div.title {
                h1 { (recall.package) " " span.ver { (recall.version) } }
                p.lead {
                    "Recalled " (view.ago(recall.at)) " by " (recall.by) ": " (recall.reason) ". "
                    @if it.row.hosts > 0 { strong.bad { (words::counted(it.row.hosts, "host")) } " with it, " } @else { "No host has it, " }
                    (words::counted(it.row.offered, "host")) " with an offer of it."
                }
            }
            (section("Rollouts with it in their plan", None, html! {
                @if it.rollouts.is_empty() { p.quiet { "None that has not ended." } }
                @else { (scroll(html! { table {
                    thead { tr { th { "Rollout" } th { "State" } th.n { "Hosts that would still get it" } } }
                    tbody { @for rollout in &it.rollouts { tr {
                        td.name { a href={ "/rollouts/" (encoded(rollout.id.as_str())) } { (rollout.id) } }
                        td { (mark::phase(&rollout.phase).badge(rollout.phase.word())) @if let Some(hold) = rollout.phase.hold() { div.note { (hold) } } }
                        td.n {
                            (words::number(rollout.waiting))
                            @if rollout.at_work > 0 { div.note { (words::counted(rollout.at_work, "host")) " getting it now: whoever has begun goes on, and can be undone then" } }
                        }
                    } } }
                } })) }
            }))
            (section("Hosts that have it", None, html! {
                @if it.hosts.is_empty() { p.quiet { "None." } }
                @else { (scroll(html! { table {
                    thead { tr { th { "Host" } th { "Packages" } th { "Brought by" } th { "Way back" } } }
                    tbody { @for host in &it.hosts { tr {
                        td.name { a href={ "/hosts/" (encoded(host.host.as_str())) } { (host.name) } }
                        td.pkg { (host.packages.join(", ")) }
                        td { @match &host.rollout {
                            Some(id) => a href={ "/rollouts/" (encoded(id.as_str())) } { (id) },
                            None => span.quiet { "no rollout of Fettle's" },
                        } }
                        td {
                            @if host.undoing { "is being taken back" }
                            @else if let Some(why) = &host.not_undone { (why) }
                            @else if let Some(id) = &host.rollout { code { "fettle rollout undo " (id) " --host " (host.name) } }
                            @else { span.quiet { "a later version, once it is offered" } }
                        }
                    } } }
                } })) }
            }))
            (section("Lift the recall", None, html! {
                @if view.may(Role::Approver) {
                    form.start action="/recalls/lift" method="post" {
                        input type="hidden" name="package" value=(recall.package);
                        input type="hidden" name="version" value=(recall.version);
                        label { "Why " input type="text" name="reason" required maxlength="500" size="32" autocomplete="off"; }
                        button { "Lift it" }
                        span.note { "Plans may take it again; what it halted stays halted until somebody resumes it." }
                    }
                } @else { p.quiet { "Lifting needs the role approver, which you do not have." } }
            }))
        },
    )
}
