//! The overview for a screen on a wall: read from across the room, with nothing to click.

use super::layout::View;
use super::mark::{self, RUN_STATES};
use super::{chart, lanes, overview, words};
use fettle_core::rollout::HostState;
use fettle_wire::api::{Overview, RolloutDetail, RolloutHost};
use maud::{Markup, html};

/// Hosts of a rollout that are shown by name: those at work and those that went wrong.
const NAMED: usize = 24;

/// The four answers, and each rollout under way with its waves as bars and its hosts at work as cells.
pub fn wall(view: &View<'_>, it: &Overview, rollouts: &[RolloutDetail]) -> Markup {
    view.screen(
        "Wall",
        html! {
            h1.verdict { (overview::verdict(it)) }
            (overview::old_data(it))
            (overview::answers(it))
            @for rollout in rollouts { (under_way(view, rollout)) }
            @if it.rollouts.len() > rollouts.len() {
                p.quiet { "And " (words::counted((it.rollouts.len() - rollouts.len()) as u64, "other rollout")) "." }
            }
            @if rollouts.is_empty() && !it.trend.is_empty() {
                section {
                    div.head { h2 { "Exposure over the last 30 days" } }
                    (chart::columns("Findings not proved gone", "findings not proved gone", &it.trend, Some(&chart::of_class)))
                }
            }
        },
    )
}

fn under_way(view: &View<'_>, it: &RolloutDetail) -> Markup {
    let row = &it.row;
    let is_told = |host: &&RolloutHost| {
        matches!(host.run.state, HostState::Granted | HostState::Redeemed)
            || host.run.state.is_failure()
    };
    let told: Vec<&RolloutHost> = it.hosts.iter().filter(is_told).take(NAMED).collect();
    html! {
        section {
            div.head { h2 {
                a href={ "/rollouts/" (row.id) } { (row.id) } " · " (row.policy) " "
                (mark::phase(&row.phase).badge(words::phase(&row.phase)))
            } }
            @if let Some(why) = words::phase_reason(&row.phase) { p.lead { (why) } }
            div.waves {
                @for (index, wave) in (0u32..).zip(&it.waves) {
                    @let counts = lanes::counts(it, index);
                    div.wave.current[index == row.wave && row.ended_at.is_none()] {
                        b { "Wave " (index + 1) " " span.ring { (wave.ring) } }
                        (lanes::bar(&counts))
                        span.note { @if wave.traffic.is_some() { "a step of the traffic" } @else { (lanes::told(&counts)) } }
                    }
                }
            }
            @if !told.is_empty() { ul.cells { @for host in told { (lanes::cell(view, host)) } } }
            ul.legend { @for word in RUN_STATES {
                @let n = row.hosts_by_state.get(word).copied().unwrap_or(0);
                @if n > 0 { li { (mark::run_state(word).word(word)) " " b { (words::number(n)) } } }
            } }
        }
    }
}
