//! Rollouts: the list, and one rollout with waves as lanes and hosts as cells.

use super::layout::{View, command, empty, encoded, section, title};
use super::mark::{self, RUN_STATES};
use super::words::{self, StepState};
use super::{chart, transaction};
use fettle_core::operator::Role;
use fettle_core::plan::Wave;
use fettle_core::rollout::{Judged, Phase, RolloutEvent, Says};
use fettle_core::transaction::Step;
use fettle_core::{Hold, HostId, Timestamp};
use fettle_wire::api::{Page, RolloutDetail, RolloutHost, RolloutRow, RolloutTraffic};
use maud::{Markup, html};

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
        div.scroll {
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
        }
    }
}

fn progress(row: &RolloutRow) -> Markup {
    let parts: Vec<(mark::Mark, u64)> = RUN_STATES
        .iter()
        .map(|word| (mark::run_state(word), row.hosts_by_state.get(*word).copied().unwrap_or(0)))
        .collect();
    let told = told(row);
    html! { (chart::progress(&told, &parts)) div.note { (told) } }
}

/// `2 patched, 1 redeemed, 1 pending`.
fn told(row: &RolloutRow) -> String {
    let parts: Vec<String> = RUN_STATES
        .iter()
        .filter_map(|word| {
            row.hosts_by_state.get(*word).filter(|n| **n > 0).map(|n| format!("{n} {word}"))
        })
        .collect();
    if parts.is_empty() { "no hosts".to_owned() } else { parts.join(", ") }
}

/// One rollout, whole.
pub fn rollout(view: &View<'_>, it: &RolloutDetail) -> Markup {
    let row = &it.row;
    let name = |id: &HostId| {
        it.hosts.iter().find(|h| h.id == *id).map_or_else(|| id.to_string(), |h| h.name.clone())
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
                @for (index, wave) in (0u32..).zip(&it.waves) { (lane(view, it, index, wave)) }
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
            @if !troubled.is_empty() {
                (section("What went wrong", None, html! {
                    @for host in &troubled {
                        h3 { a href={ "/hosts/" (encoded(&host.name)) } { (host.name) } }
                        @match &host.transaction {
                            Some(progress) => (transaction::card(view, progress)),
                            None => { p { (mark::run_reason(&host.run.state).unwrap_or_default()) } },
                        }
                    }
                }))
            }
            (section("What happened", None, html! {
                ol.log reversed {
                    @for e in it.events.iter().rev() {
                        li.(weight(&e.event)) {
                            time datetime=(words::rfc3339(e.at)) title=(words::utc(e.at)) { (e.at.strftime("%H:%M:%S")) }
                            span { (words::event(&e.event, &name)) }
                        }
                    }
                }
            }))
        },
    )
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

fn lane(view: &View<'_>, it: &RolloutDetail, index: u32, wave: &Wave) -> Markup {
    let hosts: Vec<&RolloutHost> =
        wave.hosts.iter().filter_map(|id| it.hosts.iter().find(|h| h.id == *id)).collect();
    let ended = hosts.iter().filter(|h| h.run.state.is_terminal()).count();
    let current = index == it.row.wave && it.row.ended_at.is_none();
    html! {
        section.lane.current[current] {
            div.lane-head {
                h2 { "Wave " (index + 1) span.ring { (wave.ring) } }
                @if wave.traffic.is_some() { p.note { "a step of the traffic" } }
                @else { p.note { (ended) " of " (words::counted(hosts.len() as u64, "host")) " ended" } }
                p.why { (wave.why) }
            }
            ul.cells {
                @for host in hosts { (cell(view, host)) }
                @if wave.traffic.is_some() && current { @for host in &it.traffic { (requests(host)) } }
            }
            (gate(it, index, wave))
        }
    }
}

/// A host of a pool, and what it has of the traffic now.
fn requests(it: &RolloutTraffic) -> Markup {
    let mark = mark::run_state(match it.state.as_str() {
        "asked" => "redeemed",
        "set" => "patched",
        "failed" => "quarantined",
        _ => "pending",
    });
    html! {
        li.cell.(mark.tone) {
            a.name href={ "/hosts/" (encoded(&it.name)) } { (it.name) }
            (mark.word(&it.pool))
            p.note {
                @match it.share {
                    None => { "not asked yet" }
                    Some(0) => { "no requests" }
                    Some(share) => { (share) " % of its weight" }
                }
                @if !it.state.is_empty() { ": " (it.state) }
            }
        }
    }
}

fn cell(view: &View<'_>, it: &RolloutHost) -> Markup {
    let mark = mark::run_state(it.run.state.word());
    html! {
        li.cell.(mark.tone) {
            a.name href={ "/hosts/" (encoded(&it.name)) } { (it.name) }
            (mark.word(it.run.state.word()))
            (steps(it))
            p.note {
                @if let Some(why) = mark::run_reason(&it.run.state) { (why) }
                @else if it.run.undo_asked.is_some() && !it.run.state.is_failure() { "undo asked for" }
                @else if let Some(at) = it.run.ended_at { (view.ago(at)) }
                @else if let Some(step) = it.run.step { (step.word()) }
                @else { "not started" }
            }
        }
    }
}

/// The nine steps as a strip: done, at work, failed, ahead.
fn steps(it: &RolloutHost) -> Markup {
    let states = match &it.transaction {
        Some(progress) => words::steps(progress),
        None => Step::ALL.map(|step| (step, StepState::Ahead)),
    };
    let done = states.iter().filter(|(_, s)| *s == StepState::Finished).count();
    html! {
        svg.strip width="100%" height="10" role="img" aria-label={ (done) " of 9 steps done" } {
            @for (i, (step, state)) in states.iter().enumerate() {
                @let class = match state {
                    StepState::Ahead => "ahead",
                    StepState::Running => "running",
                    StepState::Finished => "finished",
                    StepState::Failed => "failed",
                };
                rect.(class) x=(format!("{:.2}%", i as f64 * 11.25)) y=(if *state == StepState::Ahead { "3" } else { "1" }) width="10%" height=(if *state == StepState::Ahead { "4" } else { "8" }) rx="1.5" {
                    title { (step.word()) }
                }
            }
        }
    }
}

/// The gate after a wave: what must hold, and how it stands.
fn gate(it: &RolloutDetail, index: u32, wave: &Wave) -> Markup {
    let passed = it.events.iter().find_map(|e| match &e.event {
        RolloutEvent::GatePassed { wave, .. } if *wave == index => Some(e.at),
        _ => None,
    });
    let failed = match &it.row.phase {
        Phase::Halted { hold } if it.row.wave == index => Some(hold),
        _ => None,
    };
    let holding = it.waiting.iter().filter(|w| w.host.is_none()).find_map(|w| match &w.hold {
        hold @ (Hold::Bake { wave, .. }
        | Hold::WaveRunning { wave, .. }
        | Hold::CheckWaits { wave, .. })
            if *wave == index =>
        {
            Some(hold)
        }
        hold @ Hold::WaveNotApproved { wave, .. } if *wave == index + 1 => Some(hold),
        _ => None,
    });
    let (mark, text) = if let Some(hold) = failed {
        let why = match hold {
            Hold::GateFailed { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        (mark::run_state("quarantined"), format!("shut: {why}"))
    } else if let Some(at) = passed {
        (mark::run_state("patched"), format!("passed at {}", at.strftime("%H:%M:%S")))
    } else if it.row.wave > index || it.row.phase == Phase::Done {
        (mark::run_state("patched"), "passed".to_owned())
    } else if let Some(hold) = holding {
        (mark::run_state("granted"), format!("waits: {hold}"))
    } else {
        (mark::run_state("pending"), "not reached".to_owned())
    };
    html! {
        div.gate {
            p { (mark.shape()) b { "Gate" } " " (text) }
            @let judged = judged(it, index);
            @if !judged.is_empty() {
                ul.waiting { @for j in judged { (check(j)) } }
            }
            p.note {
                @if wave.rolling { "watch each host " (words::seconds(wave.gate.bake_seconds)) " before the next takes its place" }
                @else { "watch " (words::seconds(wave.gate.bake_seconds)) ", " (wave.gate.min_success_percent) " % patched" }
                ", at most " (words::counted(u64::from(wave.gate.max_failures), "failure"))
                @if wave.soak_seconds > 0 { ", then rest " (words::seconds(wave.soak_seconds)) }
                @if wave.after_seconds > 0 {
                    ", begins " (words::seconds(wave.after_seconds)) " after the rollout or later"
                }
            }
        }
    }
}

/// What the gate after a wave was judged by: as it stands, or as its event has kept it.
fn judged(it: &RolloutDetail, index: u32) -> &[Judged] {
    let kept = it.events.iter().rev().find_map(|e| match &e.event {
        RolloutEvent::GatePassed { wave, judged, .. } if *wave == index => Some(&judged[..]),
        RolloutEvent::Halted { judged, .. } if it.row.wave == index && !judged.is_empty() => {
            Some(&judged[..])
        }
        _ => None,
    });
    if it.row.wave == index && it.row.phase == Phase::Running {
        return &it.gate;
    }
    kept.unwrap_or_default()
}

/// One thing a gate asks, and what it made of the answer.
fn check(it: &Judged) -> Markup {
    let mark = mark::run_state(match it.says {
        Says::Passes => "patched",
        Says::Waits => "granted",
        Says::Fails => "quarantined",
    });
    html! {
        li {
            (mark.word(it.says.word())) " " b { (it.check) }
            @if it.kind != it.check { " " span.quiet { (it.kind) } }
            ": " (it.why)
            @if let Some(evidence) = &it.evidence {
                span.quiet title=(words::utc(evidence.asked_at)) { ", asked at " (evidence.asked_at.strftime("%H:%M:%S")) }
            }
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
    let patched = it.hosts.iter().filter(|h| h.run.state.word() == "patched").count();
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
fn undo(it: &RolloutDetail, patched: usize) -> Markup {
    let action = format!("/rollouts/{}/undo", encoded(it.row.id.as_str()));
    let of = |wave: u32| {
        it.hosts.iter().filter(move |h| h.run.wave == wave && h.run.state.word() == "patched")
    };
    html! {
        details.control id="do-undo" {
            summary { "Undo " (words::counted(patched as u64, "patched host")) }
            form action=(action) method="post" {
                p { "Patched hosts are put back as they were, byte for byte." }
                @if patched > 1 {
                    label { "Which "
                        select name="what" {
                            option value="" { "every patched host" }
                            @for wave in 0..it.row.waves {
                                @let hosts = of(wave).count() as u64;
                                @if hosts > 0 && hosts < patched as u64 {
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
