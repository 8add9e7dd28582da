//! The overview: are we exposed, are we late, what moves, what is stuck and why.

use super::chart::{self, Part};
use super::finding::table;
use super::layout::{View, command, empty, encoded, scroll, section};
use super::mark::{self, HOST_STATES};
use super::words;
use super::{feed, planning, recall, rollout};
use fettle_core::feed::FeedStanding;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::rollout::Phase;
use fettle_wire::api::Overview;
use maud::{Markup, html};

/// The fleet on one screen.
pub fn overview(view: &View<'_>, it: &Overview) -> Markup {
    let body = if it.hosts == 0 { first_steps(it) } else { fleet(view, it) };
    view.page("Overview", body)
}

fn state(it: &Overview, word: &str) -> u64 {
    it.hosts_by_state.get(word).copied().unwrap_or(0)
}

fn fleet(view: &View<'_>, it: &Overview) -> Markup {
    html! {
        h1.verdict { (verdict(it)) }
        (planning::emergencies(view, &it.emergencies))
        (old_data(it))
        (answers(it))
        div.pair {
            (section("Open findings by severity", Some(("/findings?state=open", "All open findings")), html! { (chart::stacked(
                "Open findings by severity",
                "findings",
                &Severity::ALL.map(|s| Part {
                    label: s.word().to_owned(),
                    mark: mark::severity(s),
                    count: it.open_by_severity.get(s.word()).copied().unwrap_or(0),
                    href: format!("/findings?state=open&severity={}", s.word()),
                }),
            )) (findings_by_state(it)) }))
            (section("Hosts by state", Some(("/hosts", "All hosts")), chart::bars(
                "Hosts by state",
                "hosts",
                &HOST_STATES
                    .iter()
                    .filter(|(word, _)| state(it, word) > 0 || matches!(*word, "exposed" | "up-to-date"))
                    .map(|(word, _)| Part {
                        label: mark::spoken(word),
                        mark: mark::host_state(word),
                        count: state(it, word),
                        href: format!("/hosts?state={word}"),
                    })
                    .collect::<Vec<_>>(),
            )))
        }
        (section("Exposure over the last 30 days", Some(("/reports", "The report of these days")), html! {
            @if it.trend.is_empty() { p.quiet { "It is being counted; this page shows it as soon as that is done." } }
            @else { (chart::columns("Findings not proved gone", "findings not proved gone", &it.trend, Some(&chart::of_class))) }
        }))
        div.pair {
            (section("Owed, by class", Some(("/cves?fixable=true", "All with a fix")), owed(it)))
            (section("Late, by ring", Some(("/findings?due=soon", "All due within a day")), late_by_ring(it)))
        }
        (section("Rollouts under way", Some(("/rollouts", "All rollouts")), html! {
            @if it.rollouts.is_empty() {
                p.quiet { "Nothing moves. A rollout begins with a plan: " code { "fettle plan make POLICY" } "." }
            } @else {
                (rollout::table(view, &it.rollouts))
            }
        }))
        @if !it.recalls.is_empty() {
            (section("Recalled versions", Some(("/recalls", "All recalls")), recall::table(view, &it.recalls)))
        }
        (section("Done by themselves", Some(("/policies", "All policies")), planning::cycles(view, &it.cycles)))
        (section("When hosts may be changed", Some(("/policies", "All policies")), windows(view, it)))
        (section("Worst open findings", Some(("/findings?state=open", "All open findings")), html! {
            @if it.worst.is_empty() {
                p.quiet { "None: no host runs code that has a known, fixable vulnerability." }
            } @else {
                (table(view, &it.worst, true))
            }
        }))
        (section("Vulnerability data", Some(("/feeds", "All feeds")), feed::table(view, &it.feeds)))
        p.quiet { "For a screen on a wall: " a href="/wall" { "the same, to be read from across the room" } "." }
    }
}

/// Exposed, late, moving, stuck.
pub(crate) fn answers(it: &Overview) -> Markup {
    html! { div.answers { (exposed(it)) (late(it)) (moving(it)) (stuck(it)) } }
}

/// The one sentence someone who has ten seconds should read.
pub(crate) fn verdict(it: &Overview) -> String {
    let hosts = words::counted(it.hosts, "host");
    let exposed = state(it, "exposed");
    let stuck = state(it, "quarantined");
    let be = |n: u64| if n == 1 { "is" } else { "are" };
    let mut text = if exposed > 0 && it.open_kev > 0 {
        let of_them =
            format!("{} {} known to be exploited", words::number(it.open_kev), be(it.open_kev));
        format!(
            "{} of {hosts} {} exposed; of the open vulnerabilities {of_them}.",
            words::number(exposed),
            be(exposed)
        )
    } else if exposed > 0 {
        format!(
            "{} of {hosts} {} exposed to vulnerabilities that have a fix.",
            words::number(exposed),
            be(exposed)
        )
    } else if it.open_cves > 0 {
        format!(
            "{} open on hosts that need attention.",
            words::counted(it.open_cves, "vulnerability")
        )
    } else if it.hosts == 1 {
        "The one host has no open vulnerability that has a fix.".to_owned()
    } else {
        format!("None of {hosts} has an open vulnerability that has a fix.")
    };
    if stuck > 0 {
        text.push_str(&format!(" {} {} quarantined.", words::counted(stuck, "host"), be(stuck)));
    }
    text
}

/// What every figure here rests on is not what the vendors say today.
pub(crate) fn old_data(it: &Overview) -> Markup {
    let named = |standing: FeedStanding| -> Vec<&str> {
        it.feeds.iter().filter(|f| f.standing == standing).map(|f| f.name.as_str()).collect()
    };
    let (stale, failed) = (named(FeedStanding::Stale), named(FeedStanding::Failed));
    let held: Vec<&str> =
        it.feeds.iter().filter(|f| f.held.is_some()).map(|f| f.name.as_str()).collect();
    html! {
        @if !stale.is_empty() || !failed.is_empty() || !held.is_empty() {
            div.notice.warn { p {
                @if !stale.is_empty() { strong.bad { "Stale data: " (stale.join(", ")) ". " } }
                @if !failed.is_empty() { strong.warn { "Could not be renewed: " (failed.join(", ")) ". " } }
                @if !held.is_empty() { strong.warn { "Waits for a person: " (held.join(", ")) ". " } }
                a href="/feeds" { "Feeds" }
            } }
        }
    }
}

/// One question, its figure as a link, and a line.
fn answer(
    question: &str,
    tone: &str,
    figure: Markup,
    href: &str,
    unit: &str,
    line: Markup,
) -> Markup {
    html! {
        div.answer.(tone) {
            h2 { (question) }
            a.figure href=(href) { b { (figure) } span { (unit) } }
            p { (line) }
        }
    }
}

fn exposed(it: &Overview) -> Markup {
    let open: u64 = it.open_by_severity.values().sum();
    let line = html! {
        @if open == 0 {
            "No fix is waiting to be installed."
        } @else {
            a href="/findings?state=open" { (words::counted(open, "open finding")) }
            " on "
            a href="/hosts?state=exposed" { (words::counted(state(it, "exposed"), "host")) }
            @if it.open_kev > 0 { ", " strong.bad { (words::number(it.open_kev)) " known to be exploited" } }
            "."
        }
    };
    let tone = if it.open_kev > 0 {
        "bad"
    } else if open > 0 {
        "warn"
    } else {
        "good"
    };
    let unit = if it.open_cves == 1 { "vulnerability" } else { "vulnerabilities" };
    answer(
        "Exposed?",
        tone,
        html! { (words::number(it.open_cves)) },
        "/findings?state=open",
        unit,
        line,
    )
}

fn late(it: &Overview) -> Markup {
    let line = html! {
        @match (it.overdue, it.due_soon) {
            (0, 0) => { "Nothing is due within a day." },
            (_, 0) => { "Nothing more is due within a day." },
            (_, n) => { a href="/findings?due=soon" { (words::number(n)) " more due within a day" } "." },
        }
    };
    let tone = if it.overdue > 0 {
        "bad"
    } else if it.due_soon > 0 {
        "warn"
    } else {
        "good"
    };
    answer(
        "Late?",
        tone,
        html! { (words::number(it.overdue)) },
        "/findings?due=overdue",
        "overdue",
        line,
    )
}

fn moving(it: &Overview) -> Markup {
    let running: Vec<_> = it.rollouts.iter().filter(|r| r.phase == Phase::Running).collect();
    let at_work: u64 = running
        .iter()
        .flat_map(|r| ["granted", "redeemed"].iter().filter_map(|w| r.hosts_by_state.get(*w)))
        .sum();
    let line = html! {
        @if let Some(first) = running.first() {
            (words::counted(at_work, "host")) " at work in "
            a href={ "/rollouts/" (first.id) } { (first.id) }
            ", wave " (first.wave + 1) " of " (first.waves)
            @if running.len() > 1 { " and " (words::counted(running.len() as u64 - 1, "other")) }
            "."
        } @else {
            "No rollout is running."
        }
    };
    let tone = if running.is_empty() { "rest" } else { "work" };
    let unit = if running.len() == 1 { "rollout runs" } else { "rollouts run" };
    answer(
        "Moving?",
        tone,
        html! { (words::number(running.len() as u64)) },
        "/rollouts",
        unit,
        line,
    )
}

fn stuck(it: &Overview) -> Markup {
    let stopped: Vec<_> =
        it.rollouts.iter().filter(|r| words::phase_reason(&r.phase).is_some()).collect();
    let hosts: Vec<(&str, u64)> =
        ["quarantined", "silent", "not-judged", "no-policy", "no-inventory"]
            .into_iter()
            .map(|word| (word, state(it, word)))
            .filter(|(_, n)| *n > 0)
            .collect();
    let total = stopped.len() as u64 + hosts.iter().map(|(_, n)| n).sum::<u64>();
    let line = html! {
        @if total == 0 { "Nothing waits for a person." }
        @if let Some(first) = stopped.first() {
            a href={ "/rollouts/" (first.id) } { (first.id) " " (words::phase(&first.phase)) }
            @if let Some(why) = words::phase_reason(&first.phase) { ": " (why) }
            @if stopped.len() > 1 { " (and " (stopped.len() - 1) " more)" }
            ". "
        }
        @for (i, (word, n)) in hosts.iter().enumerate() {
            @if i > 0 { ", " }
            a href={ "/hosts?state=" (word) } { (words::counted(*n, "host")) " " (stuck_word(word)) }
        }
        @if !hosts.is_empty() { "." }
    };
    let grave = !stopped.is_empty() || state(it, "quarantined") > 0;
    let tone = if grave {
        "bad"
    } else if total > 0 {
        "warn"
    } else {
        "good"
    };
    let href = if stopped.is_empty() {
        hosts.first().map_or("/hosts".to_owned(), |(w, _)| format!("/hosts?state={w}"))
    } else {
        "/rollouts".to_owned()
    };
    answer("Stuck?", tone, html! { (words::number(total)) }, &href, "waiting for a person", line)
}

/// How a state reads behind a number of hosts.
fn stuck_word(state: &str) -> &str {
    match state {
        "no-policy" => "without a policy",
        "not-judged" => "without vulnerability data",
        "no-inventory" => "without an inventory",
        other => other,
    }
}

/// Open findings by the class that a policy puts them in: a class has a deadline.
fn owed(it: &Overview) -> Markup {
    let part = |(class, n): (&String, &u64)| Part {
        label: if class.is_empty() { "no class".to_owned() } else { class.clone() },
        mark: mark::finding_state(fettle_core::finding::FindingState::Open),
        count: *n,
        href: chart::of_class(class),
    };
    let mut parts: Vec<Part> = it.open_by_class.iter().map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.count));
    html! {
        @if parts.is_empty() { p.quiet { "No fix is waiting to be installed." } }
        @else { (chart::bars("Open findings by class", "findings", &parts)) }
    }
}

fn late_by_ring(it: &Overview) -> Markup {
    html! {
        @if it.late.is_empty() {
            p.quiet { "Nothing is overdue, and nothing is due within a day." }
        } @else {
            (scroll(html! { table {
                thead { tr { th scope="col" { "Policy · ring" } th.n scope="col" { "Overdue" } th.n scope="col" { "Due within a day" } } }
                tbody { @for row in &it.late {
                    @let hosts = format!("/hosts?policy={}&ring={}&sort=-overdue", encoded(&row.policy), encoded(&row.ring));
                    tr {
                        td.name { a href=(hosts) { (row.policy) @if !row.ring.is_empty() { " · " (row.ring) } } }
                        td.n { @if row.overdue > 0 { strong.bad { (words::number(row.overdue)) } } @else { span.quiet { "0" } } }
                        td.n { (words::number(row.due_soon)) }
                    }
                } }
            } }))
        }
    }
}

fn windows(view: &View<'_>, it: &Overview) -> Markup {
    html! {
        @if it.windows.is_empty() {
            p.quiet { "No policy is in force, so nothing is changed anywhere." }
        } @else {
            (scroll(html! { table {
                thead { tr { th scope="col" { "Policy" } th.n scope="col" { "Hosts" } th scope="col" { "Now" } th scope="col" { "Opens" } th scope="col" { "Closes" } } }
                tbody { @for row in &it.windows { tr {
                    td.name { a href={ "/policies/" (encoded(&row.policy)) } { (row.policy) } }
                    td.n { a href={ "/hosts?policy=" (encoded(&row.policy)) } { (words::number(row.hosts)) } }
                    td { @match &row.hold { None => { (mark::host_state("up-to-date").word("may be changed")) }, Some(hold) => { (hold) } } }
                    td { @match (row.opens_at, &row.hold) { (Some(at), _) => (view.ago(at)), (None, None) => { span.quiet { "open" } }, (None, Some(_)) => { "not within a year" } } }
                    td { @match row.closes_at { Some(at) => (view.ago(at)), None => { span.quiet { "not within a year" } } } }
                } } }
            } }))
        }
    }
}

fn findings_by_state(it: &Overview) -> Markup {
    chart::bars(
        "Findings by state",
        "findings",
        &FindingState::ALL
            .iter()
            .map(|s| Part {
                label: mark::spoken(s.word()),
                mark: mark::finding_state(*s),
                count: it.findings_by_state.get(s.word()).copied().unwrap_or(0),
                href: format!("/findings?state={}", s.word()),
            })
            .collect::<Vec<_>>(),
    )
}

/// What an empty server shows: the way to the first host.
fn first_steps(it: &Overview) -> Markup {
    let fed = it.feeds.iter().any(|f| f.records > 0);
    html! {
        h1.verdict { "No host has joined yet." }
        ol.steps {
            li.done[fed] {
                h2 { "Load vulnerability data" }
                @if fed { p { "Done: " (words::counted(it.feeds.iter().map(|f| f.records).sum(), "record")) " held." } }
                @else { (command("fettle feed import --bundled")) }
            }
            li {
                h2 { "Make a token for a host" }
                p { "It works once, and gives the host its labels." }
                (command("fettle token create --label env=prod --label ring=canary --ttl 1h"))
            }
            li {
                h2 { "Enrol the host" }
                p { "On the host, as root. Its key is made there and stays there." }
                (command("fettle-agent enroll --server https://THIS-SERVER:8441 --token fettle1.…\nsystemctl enable --now fettle-agent"))
            }
            li {
                h2 { "Say what is owed" }
                (command("fettle policy check my-policy.toml && fettle policy apply my-policy.toml"))
            }
        }
        @if it.feeds.is_empty() { (empty("No vulnerability data is loaded.", html! { p { "Without it no host can be judged." } })) }
    }
}
