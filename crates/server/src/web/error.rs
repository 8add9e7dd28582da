//! The page of an error's code, which problems link to, and the list of all.

use super::layout::View;
use fettle_wire::errors::{ErrorPage, all};
use maud::{Markup, html};

/// One code.
pub fn error(view: &View<'_>, it: &ErrorPage) -> Markup {
    view.page(
        it.code,
        html! {
            div.title { h1 { code { (it.code) } } p.lead { "What this code of an error means." } }
            @for paragraph in it.paragraphs() { p { (spans(&paragraph)) } }
            p.quiet { "On a terminal: " code { "fettle explain-error " (it.code) } ". " a href="/errors" { "All codes" } ", " a href="/" { "the overview" } }
        },
    )
}

/// All codes.
pub fn errors(view: &View<'_>) -> Markup {
    view.page(
        "Error codes",
        html! {
            div.title { h1 { "Error codes" } p.lead { "Each error, and each reason why something does not happen now, has one of these." } }
            ul { @for it in all() { li {
                a href={ "/errors/" (it.code) } { code { (it.code) } }
                @if let Some(first) = it.paragraphs().first() { " " (spans(first)) }
            } } }
        },
    )
}

/// Text with its `code`.
fn spans(text: &str) -> Markup {
    html! { @for (n, part) in text.split('`').enumerate() { @if n % 2 == 1 { code { (part) } } @else { (part) } } }
}
