//! Hosts: the list, and one host with what it runs, what it owes and what was done to it.

use super::finding;
use super::layout::{Span, View, chip, command, empty, encoded, scroll, section, title};
use super::mark::{self, HOST_STATES};
use super::{next, transaction, words};
use fettle_core::finding::FindingState;
use fettle_core::host::Labels;
use fettle_core::inventory::Inventory;
use fettle_core::operator::Role;
use fettle_core::policy::Explained;
use fettle_core::root::Root;
use fettle_wire::api::{FindingRow, HostDetail, HostRow, Page, SavedViewRow};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// The filters in force and the order, as the query of `/hosts` says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostFilter<'a> {
    /// State word.
    pub state: Option<&'a str>,
    /// `key=value`.
    pub label: Option<&'a str>,
    /// Text in the name.
    pub q: Option<&'a str>,
    /// A selector over labels and facts.
    pub select: Option<&'a str>,
    /// Policy that governs it.
    pub policy: Option<&'a str>,
    /// Ring of that policy.
    pub ring: Option<&'a str>,
    /// `NAME` or `NAME=VERSION` of a package.
    pub package: Option<&'a str>,
    /// A vulnerability.
    pub cve: Option<&'a str>,
    /// Sort word, `-` before it for the largest first.
    pub sort: Option<&'a str>,
}

/// Findings that something can be done about now, as far as a host's page shows them; the rest is a link away.
const SHOWN: usize = 20;
/// Findings of one other state.
const OTHERS: usize = 8;
/// Transactions that a host's page shows with every step; older ones have a line each.
const CARDS: usize = 4;
/// How many of these.
const LINES: usize = 15;
/// Packages that a host's page shows.
const PACKAGES: usize = 100;
/// Rows of any other list of the inventory.
const ROWS: usize = 25;

/// Saved views as links, and the form that saves the one at hand.
fn views(view: &View<'_>, saved: &[SavedViewRow], filtered: bool) -> Markup {
    let query = view.query();
    html! {
        @if !saved.is_empty() || filtered {
            div.filters {
                @if !saved.is_empty() {
                    div.choice role="group" aria-label="Saved views" {
                        span.name { "Saved views" }
                        @for it in saved {
                            (chip(&format!("/hosts?{}", it.query), it.query == query, html! { (it.name) @if !it.mine { " " span.quiet { "by " (it.owner) } } }))
                        }
                    }
                }
                @if filtered && !saved.iter().any(|it| it.query == query) {
                    form.narrow action="/views" method="post" {
                        input type="hidden" name="query" value=(query);
                        label { "Save this view as " input name="name" required maxlength="60" size="20" autocomplete="off"; }
                        @if view.may(Role::Operator) { label { input type="checkbox" name="shared" value="true"; " for everybody" } }
                        button { "Save" }
                    }
                }
            }
        }
    }
}

/// Hosts. `by_state`: how many of each state pass all other filters; `saved`: the views that this account sees.
pub fn hosts(
    view: &View<'_>,
    page: &Page<HostRow>,
    by_state: &BTreeMap<String, u64>,
    saved: &[SavedViewRow],
    filter: HostFilter<'_>,
    span: Span,
) -> Markup {
    let filtered = HostFilter { sort: None, ..filter } != HostFilter::default();
    let all: u64 = by_state.values().sum();
    view.page(
        "Hosts",
        html! {
            (title("Hosts", html! {
                (words::counted(page.total, "host"))
                @if filtered { " with " } @else { "." }
                (view.token("q", "name", filter.q))
                (view.token("label", "label", filter.label))
                (view.token("select", "selector", filter.select))
                (view.token("policy", "policy", filter.policy))
                (view.token("ring", "ring", filter.ring))
                (view.token("package", "package", filter.package))
                (view.token("cve", "vulnerable to", filter.cve))
                (view.token("state", "state", filter.state.map(mark::spoken).as_deref()))
            }))
            div.filters {
                div.choice role="group" aria-label="State" {
                    span.name { "State" }
                    (chip(&view.with(&[("state", None), ("offset", None)]), filter.state.is_none(), html! { "any " b { (words::number(all)) } }))
                    @for (word, _) in HOST_STATES {
                        @let n = by_state.get(word).copied().unwrap_or(0);
                        @if n > 0 || filter.state == Some(word) {
                            (chip(&view.with(&[("state", Some(word)), ("offset", None)]), filter.state == Some(word), html! {
                                (mark::host_state(word).shape()) (mark::spoken(word)) " " b { (words::number(n)) }
                            }))
                        }
                    }
                }
                form.narrow action="/hosts" method="get" {
                    @for (key, value) in [("state", filter.state), ("policy", filter.policy), ("ring", filter.ring), ("sort", filter.sort)] {
                        @if let Some(value) = value { input type="hidden" name=(key) value=(value); }
                    }
                    label { "Name " input name="q" value=[filter.q] size="12" spellcheck="false"; }
                    label { "Label " input name="label" value=[filter.label] size="12" placeholder="role=web" spellcheck="false"; }
                    label { "Package " input name="package" value=[filter.package] size="16" placeholder="openssl=3.0.14-1" spellcheck="false"; }
                    label { "CVE " input name="cve" value=[filter.cve] size="14" spellcheck="false"; }
                    label { "Selector " input name="select" value=[filter.select] size="24" placeholder="env=prod and os.version=12" spellcheck="false"; }
                    button { "Filter" }
                    @if filtered { a.clear href="/hosts" { "Clear" } }
                }
            }
            (views(view, saved, filtered))
            @if !page.items.is_empty() {
                (table(view, &page.items, filter.sort.or(Some("name"))))
                (view.pages(span, page.items.len(), page.total))
            } @else if filtered {
                (empty("No host matches.", html! { p { a href="/hosts" { "Show all hosts" } } }))
            } @else {
                (empty("No host has joined yet.", html! {
                    p { "Make a token, and give it to the host’s agent:" }
                    (command("fettle token create --label ring=canary --ttl 1h"))
                    (command("fettle-agent enroll --server https://THIS-SERVER:8441 --token fettle1.…"))
                }))
            }
        },
    )
}

fn table(view: &View<'_>, rows: &[HostRow], sort: Option<&str>) -> Markup {
    html! {
        (scroll(html! {
            table.hosts {
                thead {
                    tr {
                        (view.sortable(sort, "name", "Host", false))
                        (view.sortable(sort, "state", "State", false))
                        th scope="col" { "Policy · ring" }
                        (view.sortable(sort, "open", "Open", true))
                        (view.sortable(sort, "overdue", "Overdue", true))
                        (view.sortable(sort, "pending", "Pending", true))
                        (view.sortable(sort, "no-fix", "No fix", true))
                        (view.sortable(sort, "fixed", "Fixed", true))
                        (view.sortable(sort, "upgrades", "Upgrades", true))
                        th.wide scope="col" { "Labels" } th.wide scope="col" { "System" }
                        (view.sortable(sort, "seen", "Last seen", true))
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            td.name { a href={ "/hosts/" (encoded(&row.name)) } { (row.name) } }
                            td { (mark::host_state(&row.state).word(&row.state)) }
                            td { (route(row)) }
                            td.n { (figure(row.open, &row.name, "state=open")) }
                            td.n { @if row.overdue > 0 { strong.bad { (figure(row.overdue, &row.name, "due=overdue")) } } @else { (figure(0, &row.name, "")) } }
                            td.n { (figure(row.pending, &row.name, if row.state == "pending-reboot" { "state=pending-reboot" } else { "state=pending-restart" })) }
                            td.n { (figure(row.no_fix, &row.name, "state=no-fix-yet")) }
                            td.n { (figure(row.fixed, &row.name, "state=fixed")) }
                            td.n { (words::number(row.upgrades)) }
                            td.wide { (labels(&row.labels)) }
                            td.wide { (row.os) " " span.ver { (row.kernel) } }
                            td.n { @if row.listed_at.is_some() { "no agent" } @else { (view.ago_or(row.last_seen, "never")) } }
                        }
                    }
                }
            }
        }))
    }
}

fn figure(n: u64, host: &str, which: &str) -> Markup {
    html! {
        @if n == 0 { span.quiet { "0" } }
        @else { a href={ "/findings?host=" (encoded(host)) "&" (which) } { (words::number(n)) } }
    }
}

fn route(row: &HostRow) -> Markup {
    html! {
        @match &row.policy {
            Some(policy) => {
                a href={ "/policies/" (encoded(policy)) } { (policy) }
                @if let Some(ring) = &row.ring { " · " (ring) }
            },
            None => { span.quiet { "no policy" } },
        }
    }
}

fn labels(labels: &Labels) -> Markup {
    html! {
        @for (key, value) in labels {
            a.label href={ "/hosts?label=" (encoded(key)) "%3D" (encoded(value)) } { (key) "=" (value) } " "
        }
    }
}

/// One host, whole. `next`: what a plan made now would do with it.
pub fn host(view: &View<'_>, it: &HostDetail, next: Option<&Explained>) -> Markup {
    let row = &it.row;
    let meaning =
        HOST_STATES.iter().find(|(word, _)| *word == row.state).map_or("", |(_, meaning)| meaning);
    view.page(
        &row.name,
        html! {
            div.title {
                h1 { (row.name) }
                p.lead { (mark::host_state(&row.state).badge(&row.state)) " " (meaning) "." }
            }
            @if let Some(reason) = &it.quarantined {
                div.notice.bad {
                    h2 { "Quarantined" }
                    p { (reason) }
                    p { "Nothing more is done to this host until a person has looked at it. Its journal is in " code { "/var/lib/fettle-agent/transactions" } "; " code { "fettle-agent status" } " on the host says what is left to do." }
                }
            }
            @if !it.holds.is_empty() {
                div.notice.warn {
                    h2 { "What holds it" }
                    ul { @for hold in &it.holds { li { (hold) } } }
                }
            }
            dl.facts.wide-facts {
                dt { "System" } dd { (row.os) }
                dt { "Kernel" } dd { span.ver { (row.kernel) } }
                dt { "Policy · ring" } dd { (route(row)) }
                dt { "Labels" } dd { @if row.labels.is_empty() { span.quiet { "none" } } @else { (labels(&row.labels)) } }
                @let tags = it.inventory.as_ref().map(|it| fettle_core::policy::tags::of(it)).unwrap_or_default();
                @if !tags.is_empty() {
                    dt { "Tags" }
                    dd title="What its running services show it to be" {
                        @for tag in tags { a.label href={ "/hosts?select=host.tag=" (tag) } { (tag) } " " }
                    }
                }
                dt { "Cohort" } dd { span.ver title="Hosts of one cohort have identical packages" { (row.cohort) } }
                @if row.listed_at.is_some() {
                    dt { "No agent" } dd { "bill of materials of " (view.ago_or(row.listed_at, "")) }
                } @else {
                    dt { "Last seen" } dd { (view.ago_or(row.last_seen, "never")) }
                }
                dt { "Id" } dd { span.ver { (row.id) } }
            }
            @if let Some(next) = next { (next::section_of(view, next)) }
            (findings(view, it))
            (section("Transactions", None, html! {
                @if it.transactions.is_empty() {
                    p.quiet { "Nothing has been done to this host yet." }
                } @else {
                    @for progress in it.transactions.iter().take(CARDS) { (transaction::card(view, progress)) }
                    @if it.transactions.len() > CARDS {
                        details id="t-older" {
                            summary { "Older " b { (words::number((it.transactions.len() - CARDS) as u64)) } }
                            @let older = &it.transactions[CARDS..];
                            (transaction::lines(view, &older[..older.len().min(LINES)]))
                            @if older.len() > LINES { p.quiet { (words::number((older.len() - LINES) as u64)) " or more before: " code { "fettle audit export" } "." } }
                        }
                    }
                }
            }))
            @match &it.inventory {
                Some(inventory) => (self::inventory(&row.name, inventory)),
                None => (section("Inventory", None, empty("The host has not reported what it runs.", html! {
                    p { "Its agent sends the inventory at the first check-in. On the host:" }
                    (command("systemctl status fettle-agent"))
                }))),
            }
        },
    )
}

fn findings(view: &View<'_>, it: &HostDetail) -> Markup {
    let of = |states: &[FindingState]| -> Vec<FindingRow> {
        it.findings.iter().filter(|f| states.contains(&f.finding.state)).cloned().collect()
    };
    let act = of(&[FindingState::Open, FindingState::PendingRestart, FindingState::PendingReboot]);
    let all = format!("/findings?host={}", encoded(&it.row.name));
    let rest = [
        ("No fix yet", FindingState::NoFixYet),
        ("Accepted", FindingState::Accepted),
        ("Not affected, by your own statement", FindingState::NotAffected),
        ("Fixed", FindingState::Fixed),
    ];
    section(
        "Findings",
        Some((&all, "All of this host")),
        html! {
            @if act.is_empty() {
                p.quiet { "None that can be fixed now." }
            } @else {
                (finding::table(view, &act[..act.len().min(SHOWN)], false))
                @if act.len() > SHOWN { p.quiet { a href={ (all) "&state=open" } { (words::number((act.len() - SHOWN) as u64)) " more" } } }
            }
            @for (name, state) in rest {
                @let rows = of(&[state]);
                @if !rows.is_empty() {
                    details id={ "f-" (state.word()) } {
                        summary { (mark::finding_state(state).shape()) (name) " " b { (words::number(rows.len() as u64)) } }
                        (finding::table(view, &rows[..rows.len().min(OTHERS)], false))
                        @if rows.len() > OTHERS {
                            p.quiet { a href={ (all) "&state=" (state.word()) } { (words::number((rows.len() - OTHERS) as u64)) " more" } }
                        }
                    }
                }
            }
        },
    )
}

fn inventory(host: &str, it: &Inventory) -> Markup {
    let packages = format!("/hosts/{}/packages", encoded(host));
    let all = it.packages.len() + it.languages.len();
    let failed = it.services.iter().filter(|s| s.active == "failed").count();
    // What has failed is what is looked for.
    let mut services: Vec<_> = it.services.iter().collect();
    services.sort_by_key(|s| s.active != "failed");
    let more = format!("All {}", words::counted(all as u64, "package"));
    section(
        "Inventory",
        Some((&packages, &more)),
        html! {
            @if !it.gaps.is_empty() {
                div.notice.warn { h2 { "What the agent could not find out" } ul { @for gap in &it.gaps { li { (gap) } } } }
            }
            @if !it.reboot_needed.is_empty() {
                div.notice.warn { h2 { "Needs a reboot" } ul { @for why in &it.reboot_needed { li { (why) } } } }
            }
            @if !it.stale.is_empty() {
                details open id="i-stale" {
                    summary { (mark::host_state("pending-restart").shape()) "Processes that still run replaced files " b { (it.stale.len()) } }
                    (scroll(html! { table {
                        thead { tr { th { "Process" } th { "Unit" } th { "Packages" } th.wide { "Files" } } }
                        tbody { @for p in it.stale.iter().take(ROWS) { tr {
                            td { (p.process) " " span.quiet { (p.pid) } }
                            td { (p.unit) }
                            td { (p.packages.join(", ")) }
                            td.wide.ver { (p.files.join(" ")) }
                        } } }
                    } }))
                    (left_out(it.stale.len(), ROWS))
                }
            }
            details id="i-upgrades" {
                summary { "Upgrades offered " b { (words::number(it.upgrades.len() as u64)) } }
                (scroll(html! { table {
                    thead { tr { th { "Package" } th { "Installed" } th { "Offered" } th { "From" } th.n { "Size" } } }
                    tbody { @for u in it.upgrades.iter().take(ROWS) { tr {
                        td { a.pkg href={ "/packages/" (encoded(&u.name)) } { (u.name) } @if it.held.contains(&u.name) { " " span.tag { "held" } } }
                        td.ver { @if u.from.is_empty() { "new" } @else { (u.from) } }
                        td.ver { (u.to) }
                        td { (u.origin.label) @if u.origin.is_security() { " " span.tag { "security" } } }
                        td.n { (words::bytes(u.size)) }
                    } } }
                } }))
                (left_out(it.upgrades.len(), ROWS))
            }
            details id="i-services" {
                summary {
                    "Services " b { (words::number(it.services.len() as u64)) }
                    @if failed > 0 { ", " strong.bad { (failed) " failed" } }
                }
                (scroll(html! { table {
                    thead { tr { th { "Unit" } th { "State" } th { "At boot" } } }
                    tbody { @for s in services.iter().take(ROWS) { tr {
                        td { (s.unit) }
                        td { @if s.active == "failed" { strong.bad { "failed" } } @else { (s.active) } " " span.quiet { (s.sub) } }
                        td { (s.enabled) }
                    } } }
                } }))
                (left_out(services.len(), ROWS))
            }
            details id="i-listeners" {
                summary { "Listening sockets " b { (words::number(it.listeners.len() as u64)) } }
                (scroll(html! { table {
                    thead { tr { th { "Address" } th { "Protocol" } th { "Process" } th { "Unit" } } }
                    tbody { @for l in it.listeners.iter().take(ROWS) { tr {
                        td.ver { (l.address) ":" (l.port) @if l.is_loopback() { " " span.tag { "loopback" } } }
                        td { (l.protocol) } td { (l.process) } td { (l.unit) }
                    } } }
                } }))
                (left_out(it.listeners.len(), ROWS))
            }
            details id="i-packages" {
                summary { "Packages " b { (words::number(it.packages.len() as u64)) } }
                ul.packages {
                    @for p in it.packages.iter().take(PACKAGES) {
                        li { a.pkg href={ "/packages/" (encoded(&p.name)) } { (p.name) } " " span.ver { (p.version) } @if !p.healthy { " " strong.bad { "broken" } } }
                    }
                }
                @if it.packages.len() > PACKAGES { p.quiet { a href=(packages) { (words::number((it.packages.len() - PACKAGES) as u64)) " more" } } }
            }
            @if !it.roots.is_empty() { (roots(&it.roots)) }
            @if !it.languages.is_empty() {
                details id="i-languages" {
                    summary { "Packages of languages " b { (words::number(it.languages.len() as u64)) } }
                    (scroll(html! { table {
                        thead { tr { th { "Package" } th { "From" } th { "Installed" } th.wide { "Where" } } }
                        tbody { @for p in it.languages.iter().take(ROWS) { tr {
                            td { a.pkg href={ "/packages/" (encoded(&p.subject())) } { (p.name) } }
                            td { (p.ecosystem) }
                            td.ver { (p.version) }
                            td.wide.ver { (p.location) }
                        } } }
                    } }))
                    @if it.languages.len() > ROWS { p.quiet { a href=(packages) { (words::number((it.languages.len() - ROWS) as u64)) " more" } } }
                }
            }
        },
    )
}

/// What a list of the inventory does not show.
fn left_out(all: usize, shown: usize) -> Markup {
    html! {
        @if all > shown {
            p.quiet { (words::number((all - shown) as u64)) " more: " code { "fettle -o json host show NAME" } " lists them all." }
        }
    }
}

/// Other roots on the host: what each is, and what is not known of it.
fn roots(roots: &[Root]) -> Markup {
    html! {
        details id="i-roots" {
            summary { "Other roots " b { (words::number(roots.len() as u64)) } }
            (scroll(html! { table {
                thead { tr { th { "Root" } th { "Image" } th { "System" } th.n { "Packages" } th { "Runs" } th.wide { "Not known" } } }
                tbody { @for root in roots.iter().take(ROWS) { tr {
                    td.pkg { (root.id()) }
                    td.ver { (root.image) }
                    td { (root.os.pretty) }
                    td.n { (words::number(root.packages.len() as u64)) }
                    td { @if root.running { "yes" } @else { span.quiet { "no" } } }
                    td.wide.why { (root.gaps.join("; ")) }
                } } }
            } }))
        }
    }
}
