//! What a watched rollout looks like on a terminal: one picture that fits it, however many hosts there are. Pure.

use super::doing;
use crate::output::{ago, shape};
use comfy_table::Color;
use console::{Style, StyledObject, pad_str, truncate_str};
use fettle_core::Timestamp;
use fettle_core::rollout::{HostState, Phase};
use fettle_wire::api::{RolloutDetail, RolloutHost, RolloutLane};

/// States in the order in which a lane shows them: what is over, what is at work, what is ahead.
const STATES: [&str; 8] =
    ["patched", "undone", "refused", "quarantined", "redeemed", "granted", "pending", "cancelled"];
/// Widest lane, in cells.
const MAX_CELLS: usize = 60;
/// So much of a line is for what stands beside a lane.
const BESIDE: usize = 56;

/// The picture, line by line, no line wider than `width` and not more than `height` lines. Colours are the terminal's.
pub(super) fn frame(
    it: &RolloutDetail,
    now: Timestamp,
    width: usize,
    height: usize,
) -> Vec<String> {
    let mut head = vec![title(it, now), counts(it), String::new()];
    let cells = width.saturating_sub(BESIDE).clamp(10, MAX_CELLS);
    let lanes = lanes(it, now, cells, height.saturating_sub(10).max(4));
    let waits = waits(it, now);
    let (at_work, wrong) = moving(it, now);
    // Lanes and reasons come first; hosts share what is left of the screen, those that went wrong before the others.
    let fixed = head.len() + lanes.len() + waits.len() + 3;
    let mut room = height.saturating_sub(fixed);
    head.extend(lanes);
    head.extend(section("went wrong", wrong, &mut room));
    head.extend(section("at work", at_work, &mut room));
    head.extend(waits);
    head.truncate(height);
    head.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
}

fn title(it: &RolloutDetail, now: Timestamp) -> String {
    let row = &it.row;
    let word = row.phase.word();
    let color = shape(word).1;
    let since = it.row.ended_at.unwrap_or(now).as_second() - row.created_at.as_second();
    format!(
        "{} {} of plan {} by policy `{}`: {}, wave {} of {}, {}",
        paint(shape(word).0, color),
        Style::new().bold().apply_to(&row.id),
        row.plan,
        row.policy,
        paint(word, color),
        (row.wave + 1).min(row.waves),
        row.waves,
        lasting(since)
    )
}

/// How many hosts are in which state, all waves together.
fn counts(it: &RolloutDetail) -> String {
    let of = |state: &str| it.row.hosts_by_state.get(state).copied().unwrap_or(0);
    let all: u64 = it.row.hosts_by_state.values().sum();
    let known = STATES.into_iter().filter(|state| of(state) > 0).map(|state| {
        let (mark, color) = shape(state);
        format!("{} {} {state}", paint(mark, color), of(state))
    });
    let percent = (of("patched") * 100).checked_div(all).unwrap_or(100);
    format!("  {percent} % of {all} patched   {}", known.collect::<Vec<_>>().join("  "))
}

/// A line for each wave; of very many those around the one at work.
fn lanes(it: &RolloutDetail, now: Timestamp, cells: usize, room: usize) -> Vec<String> {
    let current = it.row.wave as usize;
    let all = it.lanes.len();
    let first = current.saturating_sub(room / 3).min(all.saturating_sub(room));
    let last = (first + room).min(all);
    let largest = it.lanes.iter().map(size).max().unwrap_or(0);
    // Small waves need no wide lanes.
    let cells = cells.min(usize::try_from(largest).unwrap_or(cells).max(4));
    let mut out = Vec::new();
    if first > 0 {
        out.push(format!("    … {first} wave(s) before"));
    }
    for (number, (lane, wave)) in it.lanes.iter().zip(&it.waves).enumerate() {
        if !(first..last).contains(&number) {
            continue;
        }
        let here = number == current && it.row.ended_at.is_none();
        let mark = if here { paint('▶', Color::Blue).to_string() } else { " ".to_owned() };
        let name = pad_str(&wave.ring, 12, console::Alignment::Left, Some("…")).into_owned();
        let patched = lane.hosts_by_state.get("patched").copied().unwrap_or(0);
        let share = match wave.traffic {
            Some(share) => format!("{share} % of the requests"),
            None => format!("{patched} of {}", size(lane)),
        };
        let strip = strip(lane, cells, largest);
        out.push(format!(
            "{mark} {:>3} {name} {strip}  {share:<16}{}",
            number + 1,
            beside(lane, now)
        ));
    }
    if last < all {
        out.push(format!("    … {} wave(s) after", all - last));
    }
    out.push(String::new());
    out
}

fn size(lane: &RolloutLane) -> u64 {
    lane.hosts_by_state.values().sum()
}

fn beside(lane: &RolloutLane, now: Timestamp) -> String {
    match (lane.passed_at, lane.begins.filter(|at| *at > now)) {
        (Some(at), _) => format!("gate passed {}", ago(at, now)),
        (None, Some(at)) => format!("begins {}, or later", ago(at, now)),
        (None, None) => String::new(),
    }
}

/// A cell for a host where they fit; else as long as the largest wave lets it be, each state with its share, and none of
/// them invisible.
fn strip(lane: &RolloutLane, cells: usize, largest: u64) -> String {
    let of = |state: &str| lane.hosts_by_state.get(state).copied().unwrap_or(0) as usize;
    let all = size(lane) as usize;
    let length = if largest as usize <= cells {
        all
    } else {
        (all * cells).div_ceil(largest.max(1) as usize).clamp(usize::from(all > 0), cells)
    };
    let mut parts: Vec<(&str, usize)> = STATES
        .into_iter()
        .filter(|state| of(state) > 0)
        .map(|state| {
            (state, if all <= length { of(state) } else { (of(state) * length / all).max(1) })
        })
        .collect();
    // What rounding gave or took is the largest part's.
    let sum: usize = parts.iter().map(|(_, n)| n).sum();
    if let Some((_, most)) = parts.iter_mut().max_by_key(|(state, _)| of(state)) {
        *most = (*most + length).saturating_sub(sum).max(1);
    }
    let drawn: usize = parts.iter().map(|(_, n)| n).sum();
    let strip: String = parts
        .into_iter()
        .map(|(state, n)| {
            let (mark, color) = shape(state);
            paint(mark.to_string().repeat(n), color).to_string()
        })
        .collect();
    strip + &" ".repeat(cells.saturating_sub(drawn))
}

/// Hosts at work, and those that ended badly, the newest first.
fn moving(it: &RolloutDetail, now: Timestamp) -> (Vec<String>, Vec<String>) {
    let (mut at_work, mut wrong): (Vec<&RolloutHost>, Vec<&RolloutHost>) = (vec![], vec![]);
    for host in &it.hosts {
        match host.run.state {
            HostState::Granted | HostState::Redeemed => at_work.push(host),
            HostState::Undone { .. }
            | HostState::Refused { .. }
            | HostState::Quarantined { .. } => {
                wrong.push(host);
            }
            _ if host.run.undo_at_work() => at_work.push(host),
            _ => {}
        }
    }
    wrong.sort_by_key(|host| std::cmp::Reverse(host.run.ended_at));
    // Who is at work for longest comes first.
    at_work.sort_by_key(|host| host.run.granted_at);
    let one = |host: &&RolloutHost| {
        let word = host.run.state.word();
        let (mark, color) = shape(word);
        let name = pad_str(&host.name, 24, console::Alignment::Left, Some("…")).into_owned();
        let when = host.run.ended_at.or(host.run.granted_at);
        let when = when.map_or_else(String::new, |at| ago(at, now));
        let silent = if host.run.silent { "silent: " } else { "" };
        let doing = doing(host);
        format!("  {} {name} {word:<12}{when:>12}  {silent}{doing}", paint(mark, color))
    };
    (at_work.iter().map(one).collect(), wrong.iter().map(one).collect())
}

/// What it waits for.
fn waits(it: &RolloutDetail, now: Timestamp) -> Vec<String> {
    let mut out: Vec<String> = it
        .waiting
        .iter()
        .filter(|waiting| waiting.host.is_none())
        .map(|waiting| format!("  waits: {}", waiting.hold))
        .collect();
    for judged in &it.gate {
        let (mark, color) = shape(judged.says.word());
        let since = judged.since.map_or_else(String::new, |at| format!(" ({})", ago(at, now)));
        let mark = paint(mark, color);
        out.push(format!(
            "  {mark} {} {}: {}{since}",
            judged.check,
            judged.says.word(),
            judged.why
        ));
    }
    out.dedup();
    if let Phase::Halted { hold } = &it.row.phase {
        out.insert(0, format!("  {}", paint(format!("halted: {hold}"), Color::Red)));
    }
    out
}

/// A heading with as many lines as there is room for.
fn section(title: &str, lines: Vec<String>, room: &mut usize) -> Vec<String> {
    if lines.is_empty() || *room < 3 {
        return Vec::new();
    }
    let all = lines.len();
    let fit = if all + 2 <= *room { all } else { *room - 3 };
    let mut out = vec![Style::new().bold().apply_to(format!("{title} ({all})")).to_string()];
    out.extend(lines.into_iter().take(fit));
    if fit < all {
        out.push(format!("  … and {} more", all - fit));
    }
    out.push(String::new());
    *room = room.saturating_sub(out.len());
    out
}

/// `1:05:09`.
fn lasting(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{seconds:02}")
}

/// In the colour that tables have for it.
fn paint<D>(text: D, color: Color) -> StyledObject<D> {
    let style = Style::new();
    match color {
        Color::Green => style.green(),
        Color::Red => style.red(),
        Color::Yellow => style.yellow(),
        Color::Blue => style.blue(),
        Color::Magenta => style.magenta(),
        Color::Cyan => style.cyan(),
        _ => style.dim(),
    }
    .apply_to(text)
}

#[cfg(test)]
mod tests;
