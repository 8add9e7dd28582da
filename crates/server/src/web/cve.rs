//! Vulnerabilities over the fleet: the list, and one of them.

use super::chart::{self, Part};
use super::finding::{self, ranks};
use super::layout::{Span, View, chip, empty, encoded, scroll, section, title};
use super::mark;
use super::words;
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::{FindingState, Severity};
use fettle_wire::api::{CveDetail, CveRow, Page};
use maud::{Markup, html};

/// The filters in force and the order, as the query of `/cves` says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CveFilter<'a> {
    /// Text in the id or a source package.
    pub q: Option<&'a str>,
    /// Class of a policy.
    pub class: Option<&'a str>,
    /// Severity word.
    pub severity: Option<&'a str>,
    /// State word.
    pub state: Option<&'a str>,
    /// Known to be exploited.
    pub kev: bool,
    /// A fix exists that some host lacks.
    pub fixable: bool,
    /// Past a deadline somewhere.
    pub overdue: bool,
    /// Sort word, `-` before it for the largest first.
    pub sort: Option<&'a str>,
}

/// Findings that the page of one vulnerability names; the rest is a link away.
const SHOWN: usize = 50;

/// Vulnerabilities that some host has or had. `classes`: those that policies put any into.
pub fn cves(
    view: &View<'_>,
    page: &Page<CveRow>,
    classes: &[String],
    filter: CveFilter<'_>,
    span: Span,
) -> Markup {
    let filtered = CveFilter { sort: None, ..filter } != CveFilter::default();
    let to = |key, value| view.with(&[(key, value), ("offset", None)]);
    let flag = |on: bool, key: &'static str, value: &'static str| to(key, (!on).then_some(value));
    view.page(
        "CVEs",
        html! {
            (title("CVEs", html! {
                (words::counted(page.total, "vulnerability"))
                @if filtered { ", " } @else { " that a host of this fleet has or had, worst first where nothing else is asked." }
                (view.token("q", "named", filter.q))
                (view.token("class", "class", filter.class))
                (view.token("severity", "severity", filter.severity))
                (view.token("state", "somewhere", filter.state.map(mark::spoken).as_deref()))
                (view.token("kev", "known to be", filter.kev.then_some("exploited")))
                (view.token("fixable", "with a", filter.fixable.then_some("fix to install")))
                (view.token("due", "somewhere", filter.overdue.then_some("overdue")))
            }))
            div.filters {
                div.choice role="group" aria-label="Only" {
                    span.name { "Only" }
                    (chip(&flag(filter.kev, "kev", "true"), filter.kev, html! { "exploited" }))
                    (chip(&flag(filter.fixable, "fixable", "true"), filter.fixable, html! { "fix to install" }))
                    (chip(&flag(filter.overdue, "due", "overdue"), filter.overdue, html! { "overdue" }))
                }
                div.choice role="group" aria-label="Severity" {
                    span.name { "Severity" }
                    (chip(&to("severity", None), filter.severity.is_none(), html! { "any" }))
                    @for s in Severity::ALL {
                        (chip(&to("severity", Some(s.word())), filter.severity == Some(s.word()), html! { (mark::severity(s).shape()) (s.word()) }))
                    }
                }
                div.choice role="group" aria-label="State" {
                    span.name { "State" }
                    (chip(&to("state", None), filter.state.is_none(), html! { "any" }))
                    @for s in FindingState::ALL {
                        (chip(&to("state", Some(s.word())), filter.state == Some(s.word()), html! { (mark::finding_state(s).shape()) (mark::spoken(s.word())) }))
                    }
                }
                @if !classes.is_empty() {
                    div.choice role="group" aria-label="Class" {
                        span.name { "Class" }
                        (chip(&to("class", None), filter.class.is_none(), html! { "any" }))
                        @for class in classes {
                            (chip(&to("class", Some(class)), filter.class == Some(class), html! { (class) }))
                        }
                    }
                }
                form.narrow action="/cves" method="get" {
                    @for (key, value) in [
                        ("severity", filter.severity), ("state", filter.state), ("class", filter.class), ("sort", filter.sort),
                        ("kev", filter.kev.then_some("true")), ("fixable", filter.fixable.then_some("true")), ("due", filter.overdue.then_some("overdue")),
                    ] {
                        @if let Some(value) = value { input type="hidden" name=(key) value=(value); }
                    }
                    label { "Id or source " input name="q" value=[filter.q] size="20" spellcheck="false"; }
                    button { "Filter" }
                    @if filtered { a.clear href="/cves" { "Clear" } }
                }
            }
            @if !page.items.is_empty() {
                (table(view, &page.items, Some(filter.sort)))
                (view.pages(span, page.items.len(), page.total))
            } @else if filtered {
                (empty("Nothing matches.", html! { p { a href="/cves" { "Show all" } } }))
            } @else {
                (empty("No host has or had a known vulnerability.", html! {
                    p { "Or there is no vulnerability data yet: " a href="/feeds" { "look at the feeds" } "." }
                }))
            }
        },
    )
}

/// Vulnerabilities as a table. With `sort` its headings sort the list.
pub(crate) fn table(view: &View<'_>, rows: &[CveRow], sort: Option<Option<&str>>) -> Markup {
    let heading = |word: &str, text: &str, down: bool| match sort {
        Some(sort) => view.sortable(sort.or(Some("-rank")), word, text, down),
        None => html! { th.n[down] scope="col" { (text) } },
    };
    html! {
        (scroll(html! { table.cves {
            thead { tr {
                th scope="col" { "Severity" }
                (heading("id", "Vulnerability", false))
                th scope="col" { "Source packages" }
                (heading("hosts", "Hosts not fixed", true))
                th.n scope="col" { "Reachable" }
                th.n scope="col" { "Open" }
                (heading("overdue", "Overdue", true))
                th.n scope="col" { "No fix" } th.n scope="col" { "Pending" } th.n scope="col" { "Fixed" }
                (heading("epss", "EPSS", true))
                (heading("cvss", "CVSS", true))
            } }
            tbody { @for row in rows { tr {
                td { (mark::severity(row.severity).word(row.severity.word())) }
                td.id {
                    a href={ "/cves/" (encoded(&row.id)) } { (row.id) }
                    @if row.kev { " " span.tag.kev title="On CISA's list of vulnerabilities known to be exploited" { "exploited" } }
                }
                td.pkg { (row.sources.join(", ")) }
                td.n { @if row.hosts > 0 { a href={ "/hosts?cve=" (encoded(&row.id)) } { (words::number(row.hosts)) } } @else { span.quiet { "0" } } }
                td.n { (plain(row.reachable)) }
                td.n { (figure(row, row.open, "state=open")) }
                td.n { @if row.overdue > 0 { strong.bad { (figure(row, row.overdue, "due=overdue")) } } @else { (plain(0)) } }
                td.n { (figure(row, row.no_fix, "state=no-fix-yet")) }
                td.n { (plain(row.pending)) }
                td.n { (figure(row, row.fixed, "state=fixed")) }
                td.n { @match row.epss { Some(p) => (words::percent(p)), None => { span.quiet { "–" } } } }
                td.n { @match row.cvss { Some(score) => (format!("{score:.1}")), None => { span.quiet { "–" } } } }
            } } }
        } }))
    }
}

fn plain(n: u64) -> Markup {
    html! { @if n > 0 { (words::number(n)) } @else { span.quiet { "0" } } }
}

fn figure(row: &CveRow, n: u64, which: &str) -> Markup {
    html! {
        @if n > 0 { a href={ "/findings?id=" (encoded(&row.id)) "&" (which) } { (words::number(n)) } }
        @else { (plain(0)) }
    }
}

/// Who has it, who had it, and what the vendor says.
pub fn cve(view: &View<'_>, it: &CveDetail) -> Markup {
    let none = Vec::new();
    let (hosts, fixed, all) = it
        .fleet
        .as_ref()
        .map_or((0, 0, 0), |row| (row.hosts, row.fixed, it.by_state.values().sum()));
    view.page(
        &it.id,
        html! {
            div.title {
                h1 { (it.id) }
                p.lead {
                    (mark::severity(it.severity).badge(it.severity.word())) " "
                    @if it.ranking.kev.is_some() { span.tag.kev { "exploited" } " " }
                    @if all == 0 { "No host of this fleet has or had it." }
                    @else if hosts == 0 { "Proved gone everywhere: " (words::counted(fixed, "finding")) " fixed." }
                    @else {
                        a href={ "/hosts?cve=" (encoded(&it.id)) } { (words::counted(hosts, "host")) } " not fixed, "
                        (words::number(fixed)) " proved gone."
                    }
                }
            }
            @if let Some(row) = &it.fleet { (answers(view, it, row)) }
            div.pair {
                (section("Where it stands", None, chart::stacked(
                    "Findings by state",
                    "findings",
                    &FindingState::ALL.map(|s| Part {
                        label: mark::spoken(s.word()),
                        mark: mark::finding_state(s),
                        count: it.by_state.get(s.word()).copied().unwrap_or(0),
                        href: format!("/findings?id={}&state={}", encoded(&it.id), s.word()),
                    }),
                )))
                (section("How it ranks", None, html! { dl.facts {
                    (ranks(&it.ranking))
                    @let classes = it.fleet.as_ref().map_or(&none, |row| &row.classes);
                    @if !classes.is_empty() { dt { "Class" } dd { (classes.join(", ")) } }
                } }))
            }
            (section("Hosts", Some((&format!("/findings?id={}", encoded(&it.id)), "All findings")), html! {
                @if it.findings.is_empty() {
                    (empty("No host has it.", html! { p { "Either it does not concern what is installed here, or the hosts' release was never affected." } }))
                } @else {
                    (finding::table(view, &it.findings[..it.findings.len().min(SHOWN)], true))
                    @if all > SHOWN as u64 {
                        p.quiet { a href={ "/findings?id=" (encoded(&it.id)) } { (words::number(all - SHOWN as u64)) " more" } }
                    }
                }
            }))
            (section("The vendor's word", None, html! {
                @if it.advisories.is_empty() {
                    p.quiet { "The vendor says nothing of it for the releases that hosts here run." }
                } @else {
                    (scroll(html! {
                        table {
                            thead { tr { th scope="col" { "Source package" } th scope="col" { "Release" } th scope="col" { "Status" } th scope="col" { "Urgency" } th scope="col" { "Read in" } } }
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
                    }))
                }
            }))
        },
    )
}

/// Exposed, late, gone: three figures, each a link to the list behind it.
fn answers(view: &View<'_>, it: &CveDetail, row: &CveRow) -> Markup {
    let to = |which: &str| format!("/findings?id={}&{which}", encoded(&it.id));
    let tone = |bad: bool, warn: bool| match (bad, warn) {
        (true, _) => "bad",
        (_, true) => "warn",
        _ => "good",
    };
    html! {
        div.answers {
            div.answer.(tone(row.open > 0, row.hosts > 0)) {
                h2 { "Exposed?" }
                a.figure href={ "/hosts?cve=" (encoded(&it.id)) } { b { (words::number(row.hosts)) } span { @if row.hosts == 1 { "host" } @else { "hosts" } } }
                p {
                    @if row.hosts == 0 { "No host runs vulnerable code." }
                    @else if row.reachable == 0 { "On none of them does a process that listens beyond loopback run it." }
                    @else { "On " strong.bad { (words::number(row.reachable)) } " a process that listens beyond loopback runs it." }
                }
            }
            div.answer.(tone(row.overdue > 0, row.open > 0)) {
                h2 { "Late?" }
                a.figure href=(to("due=overdue")) { b { (words::number(row.overdue)) } span { "overdue" } }
                p {
                    @if row.open == 0 { "No fix waits to be installed." }
                    @else { a href=(to("state=open")) { (words::counted(row.open, "finding")) } " with a fix to install." }
                }
            }
            div.answer.(tone(false, row.no_fix + row.pending > 0)) {
                h2 { "Waiting?" }
                a.figure href=(to("state=no-fix-yet")) { b { (words::number(row.no_fix)) } span { "without a fix" } }
                p { (words::number(row.pending)) " fixed on disk only; " (words::number(row.accepted)) " accepted by a policy." }
            }
            div.answer.good {
                h2 { "Proved gone?" }
                a.figure href=(to("state=fixed")) { b { (words::number(row.fixed)) } span { "on disk and in memory" } }
                p {
                    @match (it.first_fixed, it.last_fixed) {
                        (Some(first), Some(last)) if first == last => { "Fixed " (view.ago(last)) "." },
                        (Some(first), Some(last)) => { "First " (view.ago(first)) ", last " (view.ago(last)) "." },
                        _ => { "Nowhere yet." },
                    }
                }
            }
        }
    }
}

/// So many ranges of versions are shown of a statement.
const RANGES: usize = 8;

fn status(status: &AdvisoryStatus) -> Markup {
    html! {
        @match status {
            AdvisoryStatus::Fixed { version } => { "fixed in " span.ver { (version) } },
            AdvisoryStatus::Open { reason, elsewhere } => {
                "affected, no fix" @if !reason.is_empty() { " " span.quiet { (reason) } }
                @if let Some(version) = elsewhere { " " span.quiet { "(elsewhere in " span.ver { (version) } ")" } }
            },
            AdvisoryStatus::Ranges { ranges } => {
                "affected: "
                @for (at, range) in ranges.iter().take(RANGES).enumerate() { @if at > 0 { ", " } span.ver { (range) } }
                @if ranges.len() > RANGES { " " span.quiet { "and " (ranges.len() - RANGES) " more" } }
            },
            AdvisoryStatus::NotAffected => { "never affected" },
            AdvisoryStatus::Undetermined => { "not decided" },
        }
    }
}
