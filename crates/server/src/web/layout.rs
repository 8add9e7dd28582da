//! What every page shares: the head, the bar at the top, titles, times and the parts that lists are made of.

use super::{mark, words};
use fettle_core::Timestamp;
use fettle_core::operator::{Role, listed};
use maud::{DOCTYPE, Markup, html};
use std::collections::BTreeSet;

/// The value of `Content-Security-Policy` that all pages keep to: nothing inline, nothing from elsewhere.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Under which circumstances a page is made.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The time the page states, and that relative times count from.
    pub now: Timestamp,
    /// Path and query of the request: marks the place in the navigation.
    pub path: &'a str,
    /// The last news told before what the page shows was read: it listens from there on. `None`: it says what stays so.
    pub news: Option<u64>,
    /// Who is logged in; `None` leaves out navigation and search.
    pub user: Option<User<'a>>,
}

/// Who is logged in.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// Whom the token speaks for.
    pub name: &'a str,
    /// What they may do.
    pub roles: &'a BTreeSet<Role>,
}

/// Which part of a list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Items left out before the first.
    pub offset: u64,
    /// Items on a page.
    pub limit: u64,
}

/// The places of the bar: path, name, and the key that leads there after `g`.
pub(crate) const PLACES: [(&str, &str, &str); 11] = [
    ("/", "Overview", "o"),
    ("/hosts", "Hosts", "h"),
    ("/packages", "Packages", "p"),
    ("/cves", "CVEs", "c"),
    ("/findings", "Findings", "f"),
    ("/plans", "Plans", "l"),
    ("/rollouts", "Rollouts", "r"),
    ("/policies", "Policies", "y"),
    ("/reports", "Reports", "t"),
    ("/feeds", "Feeds", "e"),
    ("/ledger", "Ledger", "g"),
];

impl View<'_> {
    /// A whole document around `main`.
    pub(crate) fn page(&self, title: &str, main: Markup) -> Markup {
        self.document(title, None, html! { (self.bar()) (self.main(main)) })
    }

    /// A document for a screen that nobody sits at: larger, without the bar.
    pub(crate) fn screen(&self, title: &str, main: Markup) -> Markup {
        self.document(title, Some("wall"), self.main(main))
    }

    fn document(&self, title: &str, class: Option<&str>, body: Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" class=[class] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Fettle" }
                    link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href="/assets/style.css";
                    @if self.user.is_some() { script src="/assets/live.js" defer {} }
                }
                body { (mark::sprite()) a.skip href="#main" { "Skip to the page" } (body) }
            }
        }
    }

    /// The bar at the top: places, search, who is logged in.
    fn bar(&self) -> Markup {
        let path = self.path.split('?').next().unwrap_or_default();
        let here = |at: &str| match at {
            "/" => path == "/",
            at => path == at || path.starts_with(&format!("{at}/")),
        };
        // What was searched for stays in the box.
        let searched = self.searched();
        html! {
            header.bar {
                a.brand href="/" {
                    svg viewBox="0 0 24 24" aria-hidden="true" {
                        rect.tile x="1" y="1" width="22" height="22" rx="6" {}
                        path.check d="m6.5 12.6 3.7 3.7 7.3-8.2" {}
                    }
                    "Fettle"
                }
                @if let Some(user) = self.user {
                    nav aria-label="Places" {
                        @for (at, name, key) in PLACES {
                            @if at != "/ledger" || self.may(Role::Auditor) {
                                a href=(at) aria-current=[here(at).then_some("page")] data-key=(key) { (name) }
                            }
                        }
                    }
                    form.search role="search" aria-label="Everything" action="/search" method="get" {
                        label.hidden for="q" { "Search hosts, packages, CVEs, policies, plans and rollouts" }
                        input #q type="search" name="q" value=[searched] placeholder="Search everything" autocomplete="off" spellcheck="false";
                        kbd aria-hidden="true" { "/" }
                    }
                    form.logout action="/logout" method="post" { a.who href="/account" aria-current=[here("/account").then_some("page")] title=(listed(user.roles)) { (user.name) } button { "Log out" } }
                }
            }
        }
    }

    fn main(&self, main: Markup) -> Markup {
        html! {
            main #main tabindex="-1" data-news=[self.news] {
                (main)
                footer.made {
                    p {
                        "As of " time datetime=(words::rfc3339(self.now)) { (words::utc(self.now)) }
                        @if self.user.is_some() { span #live hidden { } }
                    }
                    p { "Fettle " (env!("CARGO_PKG_VERSION")) @if self.user.is_some() { " · " a href="/settings#keys" { "Keys" } " · " a href="/settings" { "Settings" } " · " a href="/api/v1/openapi.json" { "API" } } }
                }
            }
        }
    }

    /// May who is logged in do what needs this role?
    pub(crate) fn may(&self, needs: Role) -> bool {
        self.user.is_some_and(|user| needs.is_given_by(user.roles))
    }

    /// `3 min ago`, with the exact time on demand.
    pub(crate) fn ago(&self, at: Timestamp) -> Markup {
        html! {
            time datetime=(words::rfc3339(at)) title=(words::utc(at)) data-relative { (words::relative(at, self.now)) }
        }
    }

    /// As [`View::ago`], or a word where it never happened.
    pub(crate) fn ago_or(&self, at: Option<Timestamp>, never: &str) -> Markup {
        match at {
            Some(at) => self.ago(at),
            None => html! { span.quiet { (never) } },
        }
    }

    /// The path with other query parameters: `None` takes one away. Others stay as they are.
    pub(crate) fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        let mut parts: Vec<String> = query
            .split('&')
            .filter(|part| !part.is_empty())
            .filter(|part| {
                let key = part.split('=').next().unwrap_or_default();
                !changes.iter().any(|(changed, _)| *changed == key)
            })
            .map(str::to_owned)
            .collect();
        parts.extend(
            changes
                .iter()
                .filter_map(|(key, value)| value.map(|v| format!("{key}={}", encoded(v)))),
        );
        if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
    }

    /// The query as it is kept of a list: without what is empty, and without which part is shown.
    pub(crate) fn query(&self) -> String {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let part = |part: &&str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            !value.is_empty() && !matches!(key, "limit" | "offset")
        };
        query.split('&').filter(part).collect::<Vec<_>>().join("&")
    }

    /// What was searched for, on the page of a search.
    fn searched(&self) -> Option<String> {
        let (path, query) = self.path.split_once('?')?;
        let q = query.split('&').find_map(|part| part.strip_prefix("q="));
        q.filter(|_| path == "/search").map(decoded)
    }

    /// A heading of a column that the list can be sorted by. The first click sorts largest first where `down` says so.
    pub(crate) fn sortable(
        &self,
        sorted: Option<&str>,
        word: &str,
        heading: &str,
        down: bool,
    ) -> Markup {
        let (now, is_down) =
            match sorted.map(|s| s.strip_prefix('-').map_or((s, false), |s| (s, true))) {
                Some((now, is_down)) if now == word => (true, is_down),
                _ => (false, !down),
            };
        let next = if is_down { word.to_owned() } else { format!("-{word}") };
        let order = now.then_some(if is_down { "descending" } else { "ascending" });
        let numeric = down;
        html! {
            th.n[numeric] scope="col" aria-sort=[order] {
                a.sort href=(self.with(&[("sort", Some(&next)), ("offset", None)])) {
                    (heading)
                    @if now { span.dir aria-hidden="true" { @if is_down { " ↓" } @else { " ↑" } } }
                }
            }
        }
    }

    /// A filter in force, as a link that takes it away.
    pub(crate) fn token(&self, key: &str, name: &str, value: Option<&str>) -> Markup {
        html! {
            @if let Some(value) = value {
                a.token href=(self.with(&[(key, None), ("offset", None)])) title={ "Without " (name) } {
                    (name) " " b { (value) } span aria-hidden="true" { " ×" } span.hidden { ", take away" }
                }
            }
        }
    }

    /// `1–50 of 183`, and the ways to the other parts.
    pub(crate) fn pages(&self, span: Span, shown: usize, total: u64) -> Markup {
        let first = span.offset + 1;
        let last = span.offset + shown as u64;
        let offset = |o: u64| self.with(&[("offset", (o > 0).then(|| o.to_string()).as_deref())]);
        html! {
            @if total > shown as u64 || span.offset > 0 {
                nav.pages aria-label="Parts of the list" {
                    @if span.offset > 0 {
                        a rel="prev" href=(offset(span.offset.saturating_sub(span.limit))) { "← Previous" }
                    }
                    span { (words::number(first)) "–" (words::number(last)) " of " (words::number(total)) }
                    @if last < total { a rel="next" href=(offset(last)) { "Next →" } }
                }
            }
        }
    }
}

/// The title of a page, with a line below.
pub(crate) fn title(text: &str, lead: Markup) -> Markup {
    html! { div.title { h1 { (text) } p.lead { (lead) } } }
}

/// A section with its heading and an optional link to the whole list.
pub(crate) fn section(heading: &str, more: Option<(&str, &str)>, body: Markup) -> Markup {
    html! {
        section {
            div.head { h2 { (heading) } @if let Some((href, text)) = more { a.more href=(href) { (text) } } }
            (body)
        }
    }
}

/// A table that may be wider than its place: it is scrolled sideways, by the arrow keys too once one has come to it.
pub(crate) fn scroll(table: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label="Table" { (table) } }
}

/// What stands where a list is empty: what it would show, and what to do first.
pub(crate) fn empty(what: &str, todo: Markup) -> Markup {
    html! { div.empty { p { strong { (what) } } div.todo { (todo) } } }
}

/// A command to type.
pub(crate) fn command(line: &str) -> Markup {
    html! { pre.command { code { (line) } } }
}

/// A filter as a link that looks pressed when it is in force.
pub(crate) fn chip(href: &str, pressed: bool, body: Markup) -> Markup {
    html! { a.chip href=(href) aria-current=[pressed.then_some("true")] { (body) } }
}

/// Percent-encodes everything but RFC 3986's unreserved characters, for one path segment or query value.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The text of a query's value.
fn decoded(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        let rest = bytes.as_slice();
        let hex = |n: usize| rest.get(n).and_then(|b| char::from(*b).to_digit(16));
        match (*byte, hex(0), hex(1)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes.nth(1);
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_other_parameters_and_encodes_its_own() {
        let view = View {
            now: Timestamp::UNIX_EPOCH,
            path: "/findings?state=open&offset=50",
            news: None,
            user: None,
        };
        assert_eq!(view.with(&[("offset", None)]), "/findings?state=open");
        assert_eq!(
            view.with(&[("host", Some("a b&c")), ("offset", None)]),
            "/findings?state=open&host=a%20b%26c"
        );
        let plain = View { path: "/hosts", ..view };
        assert_eq!(plain.with(&[("offset", None)]), "/hosts");
    }

    #[test]
    fn what_was_searched_for_stays_in_the_box() {
        let roles = BTreeSet::from([Role::Viewer]);
        let user = Some(User { name: "vera", roles: &roles });
        let html = |path| {
            let view = View { now: Timestamp::UNIX_EPOCH, path, news: None, user };
            view.page("x", html! {}).into_string()
        };
        assert!(html("/search?q=a%22b+%C3%A9%2").contains("name=\"q\" value=\"a&quot;b é%2\""));
        assert!(!html("/hosts?q=web").contains("value=\"web\""));
    }

    #[test]
    fn a_heading_sorts_by_its_column_and_the_second_click_the_other_way() {
        let view = View {
            now: Timestamp::UNIX_EPOCH,
            path: "/hosts?q=a&offset=100",
            news: None,
            user: None,
        };
        let html = |sorted, down| view.sortable(sorted, "open", "Open", down).into_string();
        assert!(html(None, true).contains("href=\"/hosts?q=a&amp;sort=-open\""));
        assert!(html(None, false).contains("href=\"/hosts?q=a&amp;sort=open\""));
        let down = html(Some("-open"), true);
        assert!(down.contains("sort=open\"") && down.contains("aria-sort=\"descending\""));
        assert!(html(Some("open"), true).contains("aria-sort=\"ascending\""));
        assert!(!html(Some("name"), true).contains("aria-sort"));
    }

    #[test]
    fn only_the_place_at_hand_is_marked_in_the_navigation() {
        for (path, place) in [
            ("/", "/"),
            ("/hosts/web-1", "/hosts"),
            ("/findings?state=open", "/findings"),
            ("/cves/CVE-1", "/cves"),
            ("/packages/openssl", "/packages"),
        ] {
            let roles = BTreeSet::from([Role::Viewer]);
            let user = Some(User { name: "vera", roles: &roles });
            let view = View { now: Timestamp::UNIX_EPOCH, path, news: None, user };
            let html = view.page("x", html! {}).into_string();
            assert_eq!(html.matches("aria-current").count(), 1, "{path}");
            assert!(html.contains(&format!("href=\"{place}\" aria-current=\"page\"")), "{path}");
        }
    }
}
