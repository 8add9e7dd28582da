//! Packages over the fleet: who has which version, and who is offered another.

use super::chart::{self, Part};
use super::cve;
use super::layout::{Span, View, chip, empty, encoded, scroll, section, title};
use super::mark::Mark;
use super::words;
use fettle_wire::api::{PackageDetail, PackageRow, Page};
use maud::{Markup, html};

/// The filters in force and the order, as the query of `/packages` says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackageFilter<'a> {
    /// Text in the name or source.
    pub q: Option<&'a str>,
    /// Only those with an open finding.
    pub exposed: bool,
    /// Sort word, `-` before it for the largest first.
    pub sort: Option<&'a str>,
}

/// Versions that a chart shows; the table below has them all.
const CHARTED: usize = 8;
/// Vulnerabilities that the page of a package names.
const CVES: usize = 50;

/// Installed packages.
pub fn packages(
    view: &View<'_>,
    page: &Page<PackageRow>,
    filter: PackageFilter<'_>,
    span: Span,
) -> Markup {
    let filtered = filter.q.is_some() || filter.exposed;
    let sort = filter.sort.or(Some("name"));
    view.page(
        "Packages",
        html! {
            (title("Packages", html! {
                (words::counted(page.total, "package")) " installed in the fleet"
                @if filtered { ", " } @else { "." }
                (view.token("q", "named", filter.q))
                (view.token("exposed", "with an", filter.exposed.then_some("open finding")))
            }))
            div.filters {
                div.choice role="group" aria-label="Exposure" {
                    span.name { "Exposure" }
                    (chip(&view.with(&[("exposed", None), ("offset", None)]), !filter.exposed, html! { "any" }))
                    (chip(&view.with(&[("exposed", Some("true")), ("offset", None)]), filter.exposed, html! { (EXPOSED.shape()) "with an open finding" }))
                }
                form.narrow action="/packages" method="get" {
                    @if filter.exposed { input type="hidden" name="exposed" value="true"; }
                    @if let Some(sort) = filter.sort { input type="hidden" name="sort" value=(sort); }
                    label { "Name or source " input name="q" value=[filter.q] size="20" spellcheck="false"; }
                    button { "Filter" }
                    @if filtered { a.clear href="/packages" { "Clear" } }
                }
            }
            @if !page.items.is_empty() {
                (scroll(html! { table {
                    thead { tr {
                        (view.sortable(sort, "name", "Package", false))
                        th scope="col" { "Source" }
                        (view.sortable(sort, "hosts", "Hosts", true))
                        (view.sortable(sort, "versions", "Versions", true))
                        (view.sortable(sort, "exposed", "Exposed hosts", true))
                        (view.sortable(sort, "upgradable", "Upgrade offered", true))
                    } }
                    tbody { @for row in &page.items { tr {
                        td.name { a href={ "/packages/" (encoded(&row.name)) } { (row.name) } }
                        td.quiet { (row.source) }
                        td.n { a href={ "/hosts?package=" (encoded(&row.name)) } { (words::number(row.hosts)) } }
                        td.n { (words::number(row.versions)) }
                        td.n { @if row.exposed > 0 { strong.bad { (words::number(row.exposed)) } } @else { span.quiet { "0" } } }
                        td.n { @if row.upgradable > 0 { (words::number(row.upgradable)) } @else { span.quiet { "0" } } }
                    } } }
                } }))
                (view.pages(span, page.items.len(), page.total))
            } @else if filtered {
                (empty("No package matches.", html! { p { a href="/packages" { "Show all packages" } } }))
            } @else {
                (empty("No host has reported its packages yet.", html! { p { a href="/hosts" { "Look at the hosts" } } }))
            }
        },
    )
}

const EXPOSED: Mark = Mark { shape: "triangle", tone: "bad" };
const NEWEST: Mark = Mark { shape: "tick", tone: "good" };
const OLDER: Mark = Mark { shape: "disc", tone: "low" };

/// One package.
pub fn package(view: &View<'_>, it: &PackageDetail) -> Markup {
    let row = &it.row;
    let installed: Vec<_> = it.versions.iter().filter(|v| v.hosts > 0).collect();
    let hosts =
        |version: &str| format!("/hosts?package={}%3D{}", encoded(&row.name), encoded(version));
    view.page(
        &row.name,
        html! {
            div.title {
                h1 { (row.name) }
                p.lead {
                    "On " a href={ "/hosts?package=" (encoded(&row.name)) } { (words::counted(row.hosts, "host")) }
                    " in " (words::counted(row.versions, "version"))
                    @if row.source != row.name { ", built from " span.pkg { (row.source) } }
                    ". "
                    @if row.exposed > 0 { strong.bad { (words::counted(row.exposed, "host")) } " with an open finding in it. " }
                    @else { "No host has an open finding in it. " }
                    @if row.upgradable > 0 { (words::counted(row.upgradable, "host")) " with an upgrade on offer." }
                }
            }
            (section("Versions installed", None, chart::bars(
                "Hosts by installed version",
                "hosts",
                &installed.iter().enumerate().take(CHARTED).map(|(n, v)| Part {
                    label: v.version.clone(),
                    mark: if n == 0 && v.upgradable == 0 { NEWEST } else { OLDER },
                    count: v.hosts,
                    href: hosts(&v.version),
                }).collect::<Vec<_>>(),
            )))
            (section("Every version", None, html! {
                (scroll(html! { table {
                    thead { tr {
                        th scope="col" { "Version" }
                        th.n scope="col" { "Hosts" }
                        th.n scope="col" { "Of those, offered another" }
                        th.n scope="col" { "Offered to" }
                    } }
                    tbody { @for v in &it.versions { tr {
                        td.ver { (v.version) @if v.hosts == 0 { " " span.tag { "not installed anywhere" } } }
                        td.n { @if v.hosts > 0 { a href=(hosts(&v.version)) { (words::number(v.hosts)) } } @else { span.quiet { "0" } } }
                        td.n { @if v.upgradable > 0 { (words::number(v.upgradable)) } @else { span.quiet { "0" } } }
                        td.n { @if v.offered > 0 { (words::counted(v.offered, "host")) } @else { span.quiet { "–" } } }
                    } } }
                } }))
                p { a href={ "/recalls?package=" (encoded(&row.name)) } { "Recall a version" } span.quiet { ": no host is to get it any more." } }
            }))
            (section(&format!("Vulnerabilities of {}", row.source), Some((&format!("/cves?q={}", encoded(&row.source)), "All")), html! {
                @if it.cves.is_empty() {
                    p.quiet { "None is known on any host." }
                } @else {
                    (cve::table(view, &it.cves[..it.cves.len().min(CVES)], None))
                    @if it.cves.len() > CVES { p.quiet { (words::number((it.cves.len() - CVES) as u64)) " more." } }
                }
            }))
        },
    )
}
