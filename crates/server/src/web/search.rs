//! What a search found.

use super::layout::{View, empty, encoded, section};
use super::words;
use fettle_wire::api::{Found, Hit};
use maud::{Markup, html};

/// Kinds in their order: word, heading, and the list behind it.
const KINDS: [(&str, &str, Option<&str>); 6] = [
    ("host", "Hosts", Some("/hosts?q=")),
    ("package", "Packages", Some("/packages?q=")),
    ("cve", "CVEs", Some("/cves?q=")),
    ("policy", "Policies", None),
    ("plan", "Plans", None),
    ("rollout", "Rollouts", None),
];

/// Everything whose name has the text in it, by kind.
pub fn search(view: &View<'_>, it: &Found) -> Markup {
    let total: u64 = it.totals.values().sum();
    view.page(
        "Search",
        html! {
            div.title {
                h1 { "Search" }
                p.lead {
                    @if it.q.is_empty() { "Type a name, or a part of one, into the box above." }
                    @else if total == 0 { "Nothing is called “" (it.q) "”." }
                    @else { (words::counted(total, "match")) " for “" (it.q) "”." }
                }
            }
            @if total == 0 {
                (empty("What can be found", html! {
                    p { "Hosts, packages, CVEs, policies, plans and rollouts, by a part of their name. Whatever is called exactly as you typed opens at once." }
                    p { kbd { "/" } " goes to the box from anywhere; the arrow keys go through what was found." }
                }))
            }
            div.hits {
                @for (kind, heading, list) in KINDS {
                    @let hits: Vec<&Hit> = it.hits.iter().filter(|h| h.kind == kind).collect();
                    @let all = it.totals.get(kind).copied().unwrap_or(0);
                    @if !hits.is_empty() {
                        @let href = list.map(|list| format!("{list}{}", encoded(&it.q)));
                        @let more = format!("All {}", words::number(all));
                        (section(heading, href.as_deref().map(|href| (href, more.as_str())), html! {
                            ul.found { @for hit in hits { li { a href=(hit.path) { (hit.name) } " " span.quiet { (hit.about) } } } }
                        }))
                    }
                }
            }
        },
    )
}
