//! All packages of one host, searched and in parts.

use super::layout::{Span, View, empty, encoded, scroll, title};
use super::words;
use maud::{Markup, html};

/// A package as a host has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPackage {
    /// What it is called; what no package manager put there with its ecosystem before it.
    pub name: String,
    /// Installed version.
    pub version: String,
    /// Source package, or where it lies.
    pub from: String,
    /// The version that is offered, where one is.
    pub offered: Option<String>,
    /// The administrator holds it.
    pub held: bool,
    /// It is installed as it should be.
    pub healthy: bool,
}

/// Some packages of a host.
#[derive(Debug, Clone, Default)]
pub struct HostPackages {
    /// What the host is called.
    pub host: String,
    /// How many it has in all.
    pub all: u64,
    /// How many have what is searched for.
    pub total: u64,
    /// The part that is shown.
    pub items: Vec<HostPackage>,
}

/// The packages of a host with `q` in their name, source or place.
pub fn host_packages(view: &View<'_>, it: &HostPackages, q: &str, span: Span) -> Markup {
    let home = format!("/hosts/{}", encoded(&it.host));
    view.page(
        &format!("Packages of {}", it.host),
        html! {
            (title(&format!("Packages of {}", it.host), html! {
                (words::counted(it.total, "package"))
                @if q.is_empty() { "." } @else { " of " (words::number(it.all)) " " (view.token("q", "with", Some(q))) }
                " " a href=(home) { "The host" } "."
            }))
            div.filters { form.narrow action={ (home) "/packages" } method="get" role="search" aria-label="Packages of this host" {
                label { "Name, source or place " input name="q" value=(q) size="24" spellcheck="false" autocomplete="off"; }
                button { "Search" }
                @if !q.is_empty() { a.clear href={ (home) "/packages" } { "Clear" } }
            } }
            @if it.items.is_empty() {
                (empty("No package of the host matches.", html! { p { a href={ (home) "/packages" } { "All its packages" } } }))
            } @else {
                (scroll(html! { table {
                    thead { tr { th scope="col" { "Package" } th scope="col" { "Installed" } th scope="col" { "Offered" } th.wide scope="col" { "Source, or where" } } }
                    tbody { @for p in &it.items { tr {
                        td { a.pkg href={ "/packages/" (encoded(&p.name)) } { (p.name) } @if p.held { " " span.tag { "held" } } @if !p.healthy { " " strong.bad { "broken" } } }
                        td.ver { (p.version) }
                        td.ver { @if let Some(offered) = &p.offered { (offered) } @else { span.quiet { "–" } } }
                        td.wide.ver { (p.from) }
                    } } }
                } }))
                (view.pages(span, it.items.len(), it.total))
            }
        },
    )
}
