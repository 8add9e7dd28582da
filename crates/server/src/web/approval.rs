//! The approvals of a plan: who gave one, why one does not count, and the form for who may.

use super::layout::{View, scroll, section as part};
use super::words;
use fettle_core::operator::Role;
use fettle_core::plan::approval::{Approval, Stage};
use fettle_wire::api::PlanDetail;
use maud::{Markup, html};

/// The section of a plan's page.
pub(crate) fn section(view: &View<'_>, it: &PlanDetail) -> Markup {
    let verdict = &it.approvals;
    part(
        "Approvals",
        None,
        html! { div.approvals {
            p {
                b { (verdict.given) " of " (words::counted(u64::from(verdict.needed), "approval")) } " given. "
                span.quiet { "Each by somebody else, none by " (it.made_by) " who made the plan; for digest " span.ver { (it.digest.short()) } " only; good for a day unless the rollout starts." }
            }
            @if verdict.counted.is_empty() && verdict.discounted.is_empty() { p.quiet { "Nobody has approved it." } }
            @else {
                (scroll(html! { table {
                    thead { tr { th { "Who" } th { "When" } th { "Counts" } th { "Comment" } } }
                    tbody {
                        @for a in &verdict.counted { (row(view, a, html! { "yes" @if verdict.stage == Stage::Open { ", until " (words::utc(a.until())) } })) }
                        @for d in &verdict.discounted { (row(view, &d.approval, html! { "no: " (d.discount) })) }
                    }
                } }))
            }
            @if verdict.stage == Stage::Open { (forms(view, it)) }
        } },
    )
}

fn row(view: &View<'_>, it: &Approval, counts: Markup) -> Markup {
    html! { tr { td.name { (it.by) } td { (view.ago(it.at)) } td { (counts) } td { @if it.comment.is_empty() { span.quiet { "–" } } @else { (it.comment) } } } }
}

/// What who looks can do: approve, take back, or read what is lacking.
fn forms(view: &View<'_>, it: &PlanDetail) -> Markup {
    let name = view.user.map_or("", |user| user.name);
    let mut all =
        it.approvals.counted.iter().chain(it.approvals.discounted.iter().map(|d| &d.approval));
    let mine = all.any(|a| a.by == name);
    html! {
        @if !view.may(Role::Approver) { p.quiet { "Approving needs the role approver, which you do not have." } }
        @else if let Err(why) = it.approvals.takes(&it.made_by, name) { p.quiet { "You cannot approve it: " (why) "." } }
        @else {
            form.start action={ "/plans/" (it.number) "/approve" } method="post" {
                input type="hidden" name="digest" value=(it.digest);
                label.hidden for="comment" { "Comment" }
                input #comment type="text" name="comment" maxlength="500" placeholder="Comment, for the ledger" autocomplete="off";
                button.primary { @if mine { "Approve again" } @else { "Approve this plan" } }
                span.note { "As " (name) ". The same: " code { "fettle plan approve " (it.number) } }
            }
        }
        @if mine {
            form.start action={ "/plans/" (it.number) "/withdraw" } method="post" {
                button { "Take back my approval" }
                span.note { code { "fettle plan withdraw " (it.number) } }
            }
        }
    }
}
