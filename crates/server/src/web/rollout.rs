//! Rollouts: the list, and one rollout with its waves, what it waits for, what went wrong and what can be done.

use super::layout::{View, command, empty, encoded, scroll, section, title};
use super::mark;
use super::{lanes, transaction, words};
use fettle_core::operator::Role;
use fettle_core::rollout::{Phase, RolloutEvent};
use fettle_core::{Hold, HostId, Timestamp};
use fettle_wire::api::{Page, RolloutDetail, RolloutHost, RolloutRow};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Hosts that went wrong and are shown with all their steps.
const WHOLE: usize = 4;

/// Rollouts, newest first.
pub fn rollouts(view: &View<'_>, page: &Page<RolloutRow>) -> Markup {
    view.page(
        "Rollouts",
        html! {
            (title("Rollouts", html! { (words::counted(page.total, "rollout")) ": plans carried out in waves, newest first." }))
            @if page.items.is_empty() {
                (empty("No rollout has been started.", html! {
                    p { "A rollout carries out a plan. Make one, read it, start it:" }
                    (command("fettle plan make POLICY\nfettle plan show 1\nfettle rollout start 1"))
                }))
            } @else {
                (table(view, &page.items))
            }
        },
    )
}

/// Rollouts as a table.
pub(crate) fn table(view: &View<'_>, rows: &[RolloutRow]) -> Markup {
    html! {
        (scroll(html! {
            table.rollouts {
                thead { tr { th { "Rollout" } th { "Phase" } th.bar-col { "Hosts" } th.n { "Wave" } th { "Policy · plan" } th { "Started" } } }
                tbody {
                    @for row in rows {
                        tr {
                            td.name { a href={ "/rollouts/" (encoded(row.id.as_str())) } { (row.id) } }
                            td {
                                (mark::phase(&row.phase).word(words::phase(&row.phase)))
                                @if let Some(why) = words::phase_reason(&row.phase) { div.note { (why) } }
                            }
                            td.bar-col { (progress(row)) }
                            td.n { (row.wave + 1) " of " (row.waves) }
                            td { a href={ "/policies/" (encoded(&row.policy)) } { (row.policy) } " · " a href={ "/plans/" (row.plan) } { "plan " (row.plan) } }
                            td { (view.ago(row.created_at)) " " span.quiet { "by " (row.created_by) } }
                        }
                    }
                }
            }
        }))
    }
}

fn progress(row: &RolloutRow) -> Markup {
    let told = lanes::told(&row.hosts_by_state);
    html! { (lanes::bar(&row.hosts_by_state)) div.note { @if told.is_empty() { "no hosts" } @else { (told) } } }
}

/// One rollout. `names`: what people call hosts that are told of and not among those shown.
pub fn rollout(view: &View<'_>, it: &RolloutDetail, names: &BTreeMap<HostId, String>) -> Markup {
    let row = &it.row;
    let name = |id: &HostId| {
        let shown = || it.hosts.iter().find(|h| h.id == *id).map(|h| h.name.clone());
        names.get(id).cloned().or_else(shown).unwrap_or_else(|| id.to_string())
    };
    let troubled: Vec<&RolloutHost> =
        it.hosts.iter().filter(|h| h.run.state.is_failure()).collect();
    view.page(
        &format!("Rollout {}", row.id),
        html! {
            div.title {
                h1 { "Rollout " (row.id) }
                p.lead {
                    (mark::phase(&row.phase).badge(words::phase(&row.phase))) " "
                    "Policy " a href={ "/policies/" (encoded(&row.policy)) } { (row.policy) }
                    ", " a href={ "/plans/" (row.plan) } { "plan " (row.plan) }
                    ", started by " (row.created_by) " " (view.ago(row.created_at))
                    @for (i, a) in it.approvals.iter().enumerate() {
                        @if i == 0 { ", approved by " } @else { " and " } (a.by) " " (view.ago(a.at))
                    }
                    @if let Some(ended) = row.ended_at {
                        ", took " (words::seconds((ended.as_second() - row.created_at.as_second()).max(0).unsigned_abs()))
                    }
                    "."
                }
                (progress(row))
            }
            (notice(&row.phase, &troubled))
            div.lanes {
                @for (index, wave) in (0u32..).zip(&it.waves) { (lanes::lane(view, it, index, wave)) }
            }
            @if !it.waiting.is_empty() && row.phase != Phase::Done {
                (section("What it waits for", None, html! {
                    ul.waiting { @for w in &it.waiting { li data-due=[ends(&w.hold).map(words::rfc3339)] { a.tag href={ "/errors/" (w.hold.code()) } { (w.hold.code()) } " " (words::waiting(w, &name)) } } }
                }))
            }
            @if view.may(Role::Approver) && let Some((wave, ring, not)) = waits_for_word(it) {
                (approval(it, wave, ring, not))
            }
            @if view.may(Role::Operator) { (controls(it)) }
            @if !troubled.is_empty() { (section("What went wrong", None, wrong(view, &troubled))) }
            (section("What happened", Some(("/wall", "On a wall screen")), html! {
                ol.log reversed {
                    @for e in it.events.iter().rev().filter(|e| !matches!(e.event, RolloutEvent::Created { .. })) {
                        li.(weight(&e.event)) { (when(e.at)) span { (words::event(&e.event, &name)) } }
                    }
                    // The first event is as large as the plan, and may not be among those that are told.
                    li.plain { (when(row.created_at)) span {
                        "started by " (row.created_by) ": plan " (row.plan) ", " (words::counted(row.hosts_by_state.values().sum(), "host")) " in " (words::counted(u64::from(row.waves), "wave"))
                    } }
                }
                p.quiet { "Times are UTC. " @if it.events.first().is_some_and(|e| e.version > 2) { "Older events: " code { "fettle audit export" } "." } }
            }))
        },
    )
}

fn when(at: Timestamp) -> Markup {
    html! { time datetime=(words::rfc3339(at)) title=(words::utc(at)) { (at.strftime("%H:%M:%S")) } }
}

/// Hosts that went wrong: the first ones with their steps, the others with the reason.
fn wrong(view: &View<'_>, troubled: &[&RolloutHost]) -> Markup {
    let (first, others) = troubled.split_at(troubled.len().min(WHOLE));
    html! {
        @for host in first {
            h3 { a href={ "/hosts/" (encoded(&host.name)) } { (host.name) } }
            @match &host.transaction {
                Some(progress) => (transaction::card(view, progress)),
                None => { p { (mark::run_reason(&host.run.state).unwrap_or_default()) } },
            }
        }
        @if !others.is_empty() {
            ul.found { @for host in others {
                li { a href={ "/hosts/" (encoded(&host.name)) } { (host.name) } " " (mark::run_state(host.run.state.word()).word(host.run.state.word())) " " span.quiet { (mark::run_reason(&host.run.state).unwrap_or_default()) } }
            } }
        }
    }
}

/// How loud an event is in the log.
fn weight(event: &RolloutEvent) -> &'static str {
    match event {
        RolloutEvent::Stepped { .. }
        | RolloutEvent::Granted { .. }
        | RolloutEvent::Redeemed { .. } => "soft",
        RolloutEvent::Halted { .. }
        | RolloutEvent::Silent { .. }
        | RolloutEvent::Aborted { .. } => "loud",
        RolloutEvent::Ended { outcome, .. } if words::outcome_reason(outcome).is_some() => "loud",
        _ => "plain",
    }
}

fn notice(phase: &Phase, troubled: &[&RolloutHost]) -> Markup {
    html! {
        @match phase {
            Phase::Halted { hold } => {
                div.notice.bad {
                    h2 { "Halted: " (hold) }
                    p {
                        "No new host starts. Hosts at work end by themselves"
                        @if !troubled.is_empty() { "; what went wrong is below" }
                        ". Resume it when the cause is gone, or abort it."
                    }
                }
            },
            Phase::Paused { by, reason } => {
                div.notice.warn { h2 { "Paused by " (by) @if !reason.is_empty() { ": " (reason) } } p { "Hosts at work go on, no new one starts." } }
            },
            Phase::Aborted { by, reason } => {
                div.notice.rest { h2 { "Aborted by " (by) @if !reason.is_empty() { ": " (reason) } } p { "No new host starts, ever. Patched hosts stay patched until they are undone." } }
            },
            Phase::Running | Phase::Done => {},
        }
    }
}

/// The wave that waits for somebody's word.
fn waits_for_word(it: &RolloutDetail) -> Option<(u32, &str, &str)> {
    it.waiting.iter().find_map(|w| match &w.hold {
        Hold::WaveNotApproved { wave, ring, not, .. } => Some((*wave, ring.as_str(), not.as_str())),
        _ => None,
    })
}

/// When time alone ends it, and the page is to be looked at again: nothing happens then that would be told.
fn ends(hold: &Hold) -> Option<Timestamp> {
    match hold {
        Hold::WindowClosed { opens_at } => *opens_at,
        Hold::Blackout { until, .. }
        | Hold::RingNotYet { until, .. }
        | Hold::Soak { until, .. }
        | Hold::Bake { until, .. } => Some(*until),
        _ => None,
    }
}

/// Lets the next ring begin.
fn approval(it: &RolloutDetail, wave: u32, ring: &str, not: &str) -> Markup {
    let action = format!("/rollouts/{}/approve", encoded(it.row.id.as_str()));
    section(
        "Let the next ring begin",
        None,
        html! {
            form.control action=(action) method="post" {
                p { "Wave " (wave + 1) ", ring " b { (ring) } ", begins when somebody other than " (not) " says so." }
                input type="hidden" name="wave" value=(wave);
                label { "Comment, for the ledger " input name="comment" maxlength="200" autocomplete="off"; }
                button.approve { "Let wave " (wave + 1) " begin" }
            }
        },
    )
}

/// What an operator can do now, each with its reason.
fn controls(it: &RolloutDetail) -> Markup {
    let patched = it.row.hosts_by_state.get("patched").copied().unwrap_or(0);
    let verbs: &[(&str, &str, &str)] = match it.row.phase {
        Phase::Running => &[
            ("pause", "Pause", "Hosts at work go on, no new one starts."),
            ("abort", "Abort", "No new host starts, ever. Patched hosts stay patched."),
        ],
        Phase::Paused { .. } | Phase::Halted { .. } => &[
            ("resume", "Resume", "Goes on where it stopped. Failures so far stay counted."),
            ("abort", "Abort", "No new host starts, ever. Patched hosts stay patched."),
        ],
        Phase::Aborted { .. } | Phase::Done => &[],
    };
    html! {
        @if !verbs.is_empty() || patched > 0 {
            (section("Do something about it", None, html! {
                div.controls {
                    @for (verb, name, meaning) in verbs {
                        (control(it, verb, name, meaning))
                    }
                    @if patched > 0 {
                        (undo(it, patched))
                    }
                }
            }))
        }
    }
}

/// Puts back all patched hosts, those of a wave, or one.
fn undo(it: &RolloutDetail, patched: u64) -> Markup {
    let action = format!("/rollouts/{}/undo", encoded(it.row.id.as_str()));
    let of = |wave: u32| {
        it.hosts.iter().filter(move |h| h.run.wave == wave && h.run.state.word() == "patched")
    };
    let of_wave = |wave: u32| lanes::counts(it, wave).get("patched").copied().unwrap_or(0);
    html! {
        details.control id="do-undo" {
            summary { "Undo " (words::counted(patched, "patched host")) }
            form action=(action) method="post" {
                p { "Patched hosts are put back as they were, byte for byte." }
                @if patched > 1 {
                    label { "Which "
                        select name="what" {
                            option value="" { "every patched host" }
                            @for wave in 0..it.row.waves {
                                @let hosts = of_wave(wave);
                                @if hosts > 0 && hosts < patched {
                                    option value={ "wave " (wave) } { "wave " (wave + 1) ": " (words::counted(hosts, "host")) }
                                }
                            }
                            @for host in (0..it.row.waves).flat_map(of).take(200) {
                                option value={ "host " (host.id) } { (host.name) }
                            }
                        }
                    }
                }
                label { "Reason, for the ledger " input name="reason" required maxlength="200" autocomplete="off"; }
                button.undo { "Undo" }
            }
        }
    }
}

fn control(it: &RolloutDetail, verb: &str, name: &str, meaning: &str) -> Markup {
    let action = format!("/rollouts/{}/{verb}", encoded(it.row.id.as_str()));
    html! {
        details.control id={ "do-" (verb) } {
            summary { (name) }
            form action=(action) method="post" {
                p { (meaning) }
                label { "Reason, for the ledger " input name="reason" required maxlength="200" autocomplete="off"; }
                button.(verb) { (name) }
            }
        }
    }
}
