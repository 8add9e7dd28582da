//! What operators signed of a plan, with keys that the server does not have.

use super::layout::{View, scroll, section as part};
use super::words;
use fettle_wire::api::{PlanSignatureRow, PlanSigning};
use maud::{Markup, html};

/// The section of a plan's page. It has no form: whoever signs does it where their key is.
pub(crate) fn section(view: &View<'_>, number: u64, it: &PlanSigning) -> Markup {
    part(
        "Operators' signatures",
        None,
        html! {
            p {
                b { (it.given) " of " (words::counted(u64::from(it.needed), "signature")) } " given. "
                span.quiet { "Hosts ask for them before they change anything: plan keys of version " (it.version) ", " (it.label) ". To sign: " }
                code { "fettle plan sign " (number) " --key KEYFILE" }
            }
            @if it.signatures.is_empty() { p.quiet { "Nobody has signed it." } }
            @else {
                (scroll(html! { table {
                    thead { tr { th { "Whose key" } th { "When" } th { "Counts" } } }
                    tbody { @for signature in &it.signatures { (row(view, signature)) } }
                } }))
            }
        },
    )
}

fn row(view: &View<'_>, it: &PlanSignatureRow) -> Markup {
    html! { tr {
        td.name { (it.name) }
        td { (view.ago(it.signed_at)) }
        td { @match &it.not { Some(why) => { "no: " (why) } None => { "yes, until " (words::utc(it.expires_at)) } } }
    } }
}
