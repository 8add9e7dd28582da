//! A rollout's waves as lanes, its hosts as cells, and the gate after each wave.

use super::chart;
use super::layout::{View, encoded};
use super::mark::{self, RUN_STATES};
use super::words::{self, StepState};
use fettle_core::Hold;
use fettle_core::plan::Wave;
use fettle_core::rollout::{HostState, Judged, Phase, RolloutEvent, Says};
use fettle_core::transaction::Step;
use fettle_wire::api::{RolloutDetail, RolloutHost, RolloutTraffic};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// States in which a host is over.
const OVER: [&str; 5] = ["patched", "undone", "refused", "quarantined", "cancelled"];
/// A wave of more hosts has a bar that says how far it is.
const MANY: u64 = 12;

/// How many hosts of a wave are in each state, by word. From the hosts themselves where nobody has counted.
pub(crate) fn counts(it: &RolloutDetail, wave: u32) -> BTreeMap<String, u64> {
    if let Some(lane) = it.lanes.get(wave as usize) {
        return lane.hosts_by_state.clone();
    }
    let mut out = BTreeMap::new();
    for host in it.hosts.iter().filter(|h| h.run.wave == wave) {
        *out.entry(host.run.state.word().to_owned()).or_default() += 1;
    }
    out
}

/// `850 pending, 50 patched`, in the order of a bar.
pub(crate) fn told(counts: &BTreeMap<String, u64>) -> String {
    let part = |word: &&str| {
        let n = counts.get(*word).filter(|n| **n > 0)?;
        Some(format!("{} {word}", words::number(*n)))
    };
    RUN_STATES.iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// How far a wave is, as a bar.
pub(crate) fn bar(counts: &BTreeMap<String, u64>) -> Markup {
    let parts: Vec<_> = RUN_STATES
        .iter()
        .map(|word| (mark::run_state(word), counts.get(*word).copied().unwrap_or(0)))
        .collect();
    chart::progress(&told(counts), &parts)
}

/// One wave.
pub(crate) fn lane(view: &View<'_>, it: &RolloutDetail, index: u32, wave: &Wave) -> Markup {
    let hosts: Vec<&RolloutHost> = it.hosts.iter().filter(|h| h.run.wave == index).collect();
    let counts = counts(it, index);
    let all: u64 = counts.values().sum();
    let ended: u64 = OVER.iter().filter_map(|word| counts.get(*word)).sum();
    let none_shown = hosts.is_empty();
    let mut unseen = counts.clone();
    for host in &hosts {
        if let Some(n) = unseen.get_mut(host.run.state.word()) {
            *n = n.saturating_sub(1);
        }
    }
    let current = index == it.row.wave && it.row.ended_at.is_none();
    html! {
        section.lane.current[current] {
            div.lane-head {
                h2 { "Wave " (index + 1) span.ring { (wave.ring) } }
                @if wave.traffic.is_some() { p.note { "a step of the traffic" } }
                @else {
                    p.note { (words::number(ended)) " of " (words::counted(all, "host")) " ended" }
                    @if all > MANY { (bar(&counts)) }
                }
                p.why { (wave.why) }
            }
            div {
                ul.cells {
                    @for host in hosts { (cell(view, host)) }
                    @if wave.traffic.is_some() && current { @for host in &it.traffic { (requests(host)) } }
                }
                @if unseen.values().any(|n| *n > 0) {
                    p.rest-of {
                        @if !none_shown { "And " (words::counted(unseen.values().sum(), "other")) ": " }
                        (told(&unseen)) ". Each by name: " code { "fettle rollout show " (it.row.id) }
                    }
                }
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

/// A host: where it stands, and what it is at.
pub(crate) fn cell(view: &View<'_>, it: &RolloutHost) -> Markup {
    let mark = mark::run_state(it.run.state.word());
    html! {
        li.cell.(mark.tone) {
            a.name href={ "/hosts/" (encoded(&it.name)) } { (it.name) }
            (mark.word(it.run.state.word()))
            // Before and after there is nothing that a strip would add.
            @if matches!(it.run.state, HostState::Granted | HostState::Redeemed) || it.run.state.is_failure() { (steps(it)) }
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

/// The nine steps as a strip: done, at work, failed, ahead. One path a state: a page may have many of these.
fn steps(it: &RolloutHost) -> Markup {
    let states = match &it.transaction {
        Some(progress) => words::steps(progress),
        None => Step::ALL.map(|step| (step, StepState::Ahead)),
    };
    let done = states.iter().filter(|(_, s)| *s == StepState::Finished).count();
    let boxes = |which: StepState| {
        let (top, high) = if which == StepState::Ahead { (3, 4) } else { (1, 8) };
        let places = (0..).zip(&states).filter(|(_, (_, state))| *state == which);
        places.map(|(n, _)| format!("M{} {top}h9v{high}h-9z", n * 10)).collect::<String>()
    };
    let classes = [
        ("finished", StepState::Finished),
        ("running", StepState::Running),
        ("failed", StepState::Failed),
        ("ahead", StepState::Ahead),
    ];
    html! {
        svg.strip viewBox="0 0 89 10" preserveAspectRatio="none" width="100%" height="10" role="img" aria-label={ (done) " of 9 steps done" } {
            @for (class, state) in classes {
                @let boxes = boxes(state);
                @if !boxes.is_empty() { path.(class) d=(boxes) {} }
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
        (mark::run_state("patched"), format!("passed at {} UTC", at.strftime("%H:%M:%S")))
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
                span.quiet title=(words::utc(evidence.asked_at)) { ", asked at " (evidence.asked_at.strftime("%H:%M:%S")) " UTC" }
            }
        }
    }
}
