//! Findings: the list with its filters, and one finding with its reasons.

use super::layout::{Span, View, chip, command, empty, encoded, scroll, section, title};
use super::mark;
use super::words;
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_wire::api::{FindingExplained, FindingRow, Page};
use maud::{Markup, html};

/// The filters in force, as the query of `/findings` says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FindingFilter<'a> {
    /// Name or id of a host.
    pub host: Option<&'a str>,
    /// A vulnerability.
    pub id: Option<&'a str>,
    /// State word.
    pub state: Option<&'a str>,
    /// Severity word.
    pub severity: Option<&'a str>,
    /// `overdue` or `soon`.
    pub due: Option<&'a str>,
}

/// Findings, worst first.
pub fn findings(
    view: &View<'_>,
    page: &Page<FindingRow>,
    filter: FindingFilter<'_>,
    span: Span,
) -> Markup {
    let filtered = filter != FindingFilter::default();
    view.page(
        "Findings",
        html! {
            (title("Findings", html! {
                (words::counted(page.total, "finding"))
                @if let Some(host) = filter.host { " on " a href={ "/hosts/" (encoded(host)) } { (host) } }
                @match filter.due { Some("overdue") => " overdue", Some(_) => " due within a day", None => "" }
                @if let Some(id) = filter.id { " of " a href={ "/cves/" (encoded(id)) } { (id) } }
                ", worst first: a vulnerability on a host, judged by the vendor's own data."
            }))
            div.filters {
                (choice("State", "state", view, filter.state, &FindingState::ALL.map(|s| (s.word(), mark::finding_state(s)))))
                (choice("Severity", "severity", view, filter.severity, &Severity::ALL.map(|s| (s.word(), mark::severity(s)))))
                form.narrow action="/findings" method="get" {
                    @if let Some(state) = filter.state { input type="hidden" name="state" value=(state); }
                    @if let Some(severity) = filter.severity { input type="hidden" name="severity" value=(severity); }
                    @if let Some(due) = filter.due { input type="hidden" name="due" value=(due); }
                    label { "Host " input name="host" value=[filter.host] size="14" spellcheck="false"; }
                    label { "CVE " input name="id" value=[filter.id] size="16" spellcheck="false"; }
                    button { "Filter" }
                    @if filtered { a.clear href="/findings" { "Clear" } }
                }
            }
            @if !page.items.is_empty() {
                (table(view, &page.items, filter.host.is_none()))
                (view.pages(span, page.items.len(), page.total))
            } @else if filtered {
                (empty("Nothing matches.", html! { p { a href="/findings" { "Show all findings" } } }))
            } @else {
                (empty("No findings.", html! {
                    p { "Either no host runs anything known to be vulnerable, or there is no vulnerability data yet. " a href="/feeds" { "Look at the feeds" } ", or load the data that comes with Fettle:" }
                    (command("fettle feed import --bundled"))
                }))
            }
        },
    )
}

fn choice(
    name: &str,
    key: &str,
    view: &View<'_>,
    chosen: Option<&str>,
    all: &[(&str, mark::Mark)],
) -> Markup {
    html! {
        div.choice role="group" aria-label=(name) {
            span.name { (name) }
            (chip(&view.with(&[(key, None), ("offset", None)]), chosen.is_none(), html! { "any" }))
            @for (word, mark) in all {
                (chip(&view.with(&[(key, Some(word)), ("offset", None)]), chosen == Some(word), html! { (mark.shape()) (mark::spoken(word)) }))
            }
        }
    }
}

/// Findings as a table. Without `hosts` the host's column is left out.
pub(crate) fn table(view: &View<'_>, rows: &[FindingRow], hosts: bool) -> Markup {
    html! {
        (scroll(html! {
            table.findings {
                thead {
                    tr {
                        th { "Severity" } th { "Vulnerability" }
                        @if hosts { th { "Host" } }
                        th { "Package" } th { "State" } th.wide { "Why, and what to do" } th.n { "Due" }
                    }
                }
                tbody { @for row in rows { (line(view, row, hosts)) } }
            }
        }))
    }
}

fn line(view: &View<'_>, row: &FindingRow, hosts: bool) -> Markup {
    let it = &row.finding;
    html! {
        tr {
            td { (mark::severity(row.severity).word(row.severity.word())) }
            td.id {
                a href=(href(row)) { (it.id) }
                @if it.ranking.kev.is_some() { " " span.tag.kev title="On CISA's list of vulnerabilities known to be exploited" { "exploited" } }
                @if it.exposed { " " span.tag title="A process that listens beyond loopback maps it" { "exposed" } }
            }
            @if hosts { td.name { a href={ "/hosts/" (encoded(&row.host_name)) } { (row.host_name) } } }
            td { span.pkg { (it.source) } " " span.ver { (it.installed) } }
            td { (mark::finding_state(it.state).word(it.state.word())) }
            td.wide.why { (row.reason) }
            td.n { (due(view, it)) }
        }
    }
}

/// The page of the finding.
pub(crate) fn href(row: &FindingRow) -> String {
    let it = &row.finding;
    format!("/findings/{}/{}/{}", encoded(&row.host_name), encoded(&it.id), encoded(&it.source))
}

fn due(view: &View<'_>, it: &Finding) -> Markup {
    let counts = it.state != FindingState::Fixed;
    html! {
        @match it.deadline {
            Some(at) if counts => {
                @if at < view.now { strong.bad { "due " (view.ago(at)) } } @else { (view.ago(at)) }
            },
            _ => { span.quiet { "–" } },
        }
    }
}

/// A finding with its reasons.
pub fn finding(view: &View<'_>, it: &FindingExplained) -> Markup {
    let (row, finding) = (&it.row, &it.row.finding);
    let ranking = &finding.ranking;
    view.page(
        &format!("{} on {}", finding.id, row.host_name),
        html! {
            div.title {
                h1 {
                    a href={ "/cves/" (encoded(&finding.id)) } { (finding.id) } " on "
                    a href={ "/hosts/" (encoded(&row.host_name)) } { (row.host_name) }
                }
                p.lead {
                    (mark::severity(row.severity).badge(row.severity.word())) " "
                    (mark::finding_state(finding.state).badge(finding.state.word())) " "
                    (row.reason)
                }
            }
            (section("Why", None, html! { ol.reasons { @for line in &it.lines { li { (line) } } } }))
            div.pair {
                (section("The package", None, html! {
                    dl.facts {
                        dt { "Source package" } dd { span.pkg { (finding.source) } }
                        dt { "Installed" } dd { span.ver { (finding.installed) } }
                        dt { "Fixed in" } dd {
                            @match &finding.fixed_version {
                                Some(version) => { span.ver { (version) } },
                                None => { span.quiet { "the vendor has no fix for this release" } },
                            }
                        }
                        dt { "Offered" } dd { @if finding.offered { "yes, by the host's own sources" } @else if finding.root().is_some() { "what is in another root, the host's sources do not offer" } @else { "not by any source of the host" } }
                        dt { "Packages" } dd { @for (i, binary) in finding.binaries.iter().enumerate() { @if i > 0 { ", " } span.pkg { (binary) } } }
                        @if let Some(id) = finding.root() { dt { "Where" } dd { (fettle_core::root::called(id, "")) ": " (fettle_core::root::remedy(id)) } }
                        dt { "In use" } dd { @if finding.in_use { "yes: a process maps its files" } @else if finding.root().is_some() { "not looked at" } @else { "no process maps its files" } }
                        dt { "Exposed" } dd { @if finding.root().is_some() { "not looked at" } @else if finding.exposed { "yes: such a process listens beyond loopback" } @else { "no" } }
                    }
                }))
                (section("How it ranks", None, html! {
                    dl.facts {
                        (ranks(ranking))
                        dt { "Vendor's urgency" } dd { @if finding.urgency.is_empty() { span.quiet { "none given" } } @else { (finding.urgency) } }
                        dt { "Class" } dd { @if finding.class.is_empty() { span.quiet { "no policy rates it" } } @else { (finding.class) } }
                        dt { "Due" } dd { (due(view, finding)) @if let Some(at) = finding.deadline { " " span.quiet { "(" (words::utc(at)) ")" } } }
                    }
                }))
            }
        },
    )
}

/// CVSS, EPSS, KEV and date, as terms of a list of facts.
pub(crate) fn ranks(ranking: &fettle_core::advisory::Ranking) -> Markup {
    html! {
        dt { "CVSS" } dd {
            @match ranking.cvss {
                Some(score) => { b { (format!("{score:.1}")) } @if let Some(vector) = &ranking.cvss_vector { " " span.ver { (vector) } } },
                None => { span.quiet { "no score" } },
            }
        }
        dt { "EPSS" } dd {
            @match ranking.epss {
                Some(p) => { b { (words::percent(p)) } " likely to be exploited within 30 days" },
                None => { span.quiet { "no estimate" } },
            }
        }
        dt { "Known to be exploited" } dd {
            @match &ranking.kev {
                Some(kev) => {
                    strong.bad { "yes" } ", since " (kev.date_added) @if kev.ransomware { ", by ransomware too" }
                    "; US agencies had to act by " (kev.due_date)
                },
                None => { "not on CISA's list" },
            }
        }
        dt { "Published" } dd {
            @match ranking.published { Some(date) => { (date) }, None => { span.quiet { "no date" } } }
        }
    }
}
