//! One change of one host: its steps, how long each took, what it found.

use super::layout::{View, encoded, scroll};
use super::mark;
use super::words::{self, StepState};
use fettle_core::assignment::{ApplyOrder, Order};
use fettle_core::transaction::{Outcome, Progress, StepFacts};
use maud::{Markup, html};

/// Paths and packages that a list names before it says how many more there are.
const NAMED: usize = 30;

/// A transaction as a card: the outcome in its head, the steps below.
pub(crate) fn card(view: &View<'_>, it: &Progress) -> Markup {
    let outcome = it.outcome.as_ref().map(|o| o.word());
    let longest = it.finished.values().map(|f| f.milliseconds).max().unwrap_or(0).max(1);
    let rollout = it.assignment.rollout.as_str();
    html! {
        details.card id={ "t-" (it.id) } open[it.outcome.is_none() || outcome != Some("patched")] {
            summary {
                @match outcome {
                    Some(word) => (mark::run_state(word).word(word)),
                    None => (mark::run_state("redeemed").word("at work")),
                }
                span { (what(&it.assignment.order)) }
                span.quiet {
                    @if rollout == "local" { "started on the host" } @else { (rollout) }
                    ", " (view.ago(it.begun_at))
                    @if let Some(ended) = it.ended_at {
                        ", took " (words::seconds((ended.as_second() - it.begun_at.as_second()).max(0).unsigned_abs()))
                    }
                }
            }
            // Not in the head: that opens and shuts the card.
            @if rollout != "local" { p.note { "In rollout " a href={ "/rollouts/" (encoded(rollout)) } { (rollout) } "." } }
            @if let Some(why) = it.outcome.as_ref().and_then(words::outcome_reason) { p.why-ended { (why) } }
            @if let Some((step, fault)) = &it.failed {
                p.fault { strong { (step.word()) " failed: " } (fault.message) @if !fault.hint.is_empty() { br; "→ " (fault.hint) } }
            }
            @if let Order::Apply(apply) = &it.assignment.order && !apply.changes.is_empty() { (packages(it, apply)) }
            (scroll(html! { table.txsteps {
                thead { tr { th { "Step" } th.n { "Took" } th.bar-col { span.hidden { "As a bar" } } th { "What it found" } } }
                tbody {
                    @for (step, state) in words::steps(it) {
                        @let facts = it.finished.get(&step);
                        tr.ahead[state == StepState::Ahead] {
                            td { (pip(state).shape()) (step.word()) }
                            td.n { @if let Some(f) = facts { (words::milliseconds(f.milliseconds)) } @else if state == StepState::Running { "…" } }
                            td.bar-col {
                                @if let Some(f) = facts {
                                    svg.progress width="100%" height="8" aria-hidden="true" {
                                        rect.seg.work x="0" y="0" height="8" rx="2" width=(format!("{:.1}%", (f.milliseconds as f64 * 100.0 / longest as f64).max(1.0))) {}
                                    }
                                }
                            }
                            td { @if let Some(f) = facts { (found(f)) } }
                        }
                    }
                }
            } }))
            @if let Some((reason, facts)) = &it.undo {
                div.undo {
                    p { strong { "Undone because: " } (reason) }
                    @if let Some(f) = facts {
                        p {
                            (words::counted(f.files_restored, "file")) " restored in " (words::milliseconds(f.milliseconds))
                            @if f.differing.is_empty() { "; every one is as it was, by hash." }
                            @else { "; " strong.bad { (words::counted(f.differing.len() as u64, "file")) " still differ: " } (named(&f.differing)) }
                        }
                        @if !f.kept.is_empty() { p { "Changed by somebody else since, and kept: " (named(&f.kept)) } }
                        @if !f.set_aside.is_empty() { p { "As no rehearsal had shown them; put back, and copies are set aside on the host: " (named(&f.set_aside)) } }
                        @if !f.notes.is_empty() { ul.notes { @for note in &f.notes { li { (note) } } } }
                    } @else {
                        p { "The undo is at work." }
                    }
                }
            }
        }
    }
}

/// Transactions with a line each.
pub(crate) fn lines(view: &View<'_>, rows: &[Progress]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Outcome" } th { "What" } th { "Began" } th { "Rollout" } th.wide { "Why" } } }
            tbody { @for it in rows { tr {
                @let rollout = it.assignment.rollout.as_str();
                td { @match &it.outcome { Some(outcome) => (mark::run_state(outcome.word()).word(outcome.word())), None => (mark::run_state("redeemed").word("at work")) } }
                td { (what(&it.assignment.order)) }
                td { (view.ago(it.begun_at)) }
                td { @if rollout == "local" { span.quiet { "on the host" } } @else { a href={ "/rollouts/" (encoded(rollout)) } { (rollout) } } }
                td.wide.why { (it.outcome.as_ref().and_then(words::outcome_reason).unwrap_or_default()) }
            } } }
        } }))
    }
}

/// Packages before and after. Where the change did not stay, what was before is what is there.
fn packages(it: &Progress, apply: &ApplyOrder) -> Markup {
    let stayed = !matches!(it.outcome, Some(Outcome::Undone { .. } | Outcome::Refused { .. }));
    html! {
        details.inner id={ "p-" (it.id) } open[apply.changes.len() <= NAMED / 3] {
            summary { "Packages before and after " b { (words::number(apply.changes.len() as u64)) } @if !stayed { " " span.quiet { "(not kept: it is as before)" } } }
            (scroll(html! { table {
                thead { tr { th { "Package" } th { "Before" } th { "After" } } }
                tbody { @for c in apply.changes.iter().take(NAMED) { tr {
                    td { a.pkg href={ "/packages/" (encoded(&c.name)) } { (c.name) } }
                    td.ver { @if c.from.is_empty() { "not installed" } @else { (c.from) } }
                    td.ver { @if stayed { (c.to) } @else { del { (c.to) } } }
                } } }
            } }))
            @if apply.changes.len() > NAMED { p.quiet { (words::number((apply.changes.len() - NAMED) as u64)) " more." } }
            @if !apply.fixes.is_empty() {
                p.note {
                    "For " @for (n, id) in apply.fixes.iter().enumerate().take(NAMED) { @if n > 0 { ", " } a href={ "/cves/" (encoded(id)) } { (id) } }
                    @if apply.fixes.len() > NAMED { " and " (words::number((apply.fixes.len() - NAMED) as u64)) " more" } "."
                }
            }
        }
    }
}

fn what(order: &Order) -> String {
    match order {
        Order::Apply(apply) => {
            let packages = words::counted(apply.changes.len() as u64, "package");
            if apply.fixes.is_empty() {
                packages
            } else {
                format!("{packages}, {}", words::counted(apply.fixes.len() as u64, "fix"))
            }
        }
        Order::Undo { assignment, .. } => format!("undo of {assignment}"),
        Order::Traffic { share } => format!("{share} % of its traffic"),
        Order::Test(test) => format!("test on a twin of {}", test.like),
    }
}

/// How a step's mark looks.
pub(crate) fn pip(state: StepState) -> mark::Mark {
    match state {
        StepState::Ahead => mark::run_state("pending"),
        StepState::Running => mark::run_state("redeemed"),
        StepState::Finished => mark::run_state("patched"),
        StepState::Failed => mark::run_state("quarantined"),
    }
}

fn named(list: &[String]) -> Markup {
    html! {
        span.ver { (list[..list.len().min(NAMED)].join(", ")) }
        @if list.len() > NAMED { " and " (words::number((list.len() - NAMED) as u64)) " more" }
    }
}

/// What a step found, figures first, notes on demand.
pub(crate) fn found(it: &StepFacts) -> Markup {
    let mut figures: Vec<String> = Vec::new();
    if let Some(files) = it.delta_files {
        figures.push(words::counted(files, "file") + " will change");
    }
    if let Some(size) = it.delta_bytes {
        figures.push(words::bytes(size));
    }
    if let Some(size) = it.preimage_bytes {
        figures.push(format!("preimage of {}", words::bytes(size)));
    }
    if !it.restarted.is_empty() {
        figures.push(format!("restarted {}", it.restarted.join(", ")));
    }
    if !it.spared.is_empty() {
        figures.push(format!("spared {}", it.spared.join(", ")));
    }
    html! {
        @if figures.is_empty() && it.notes.len() == 1 {
            (it.notes[0])
        } @else {
            (figures.join(", "))
            @if !it.notes.is_empty() {
                @if it.notes.len() <= 2 {
                    @for note in &it.notes { div.note { (note) } }
                } @else {
                    details { summary { (words::counted(it.notes.len() as u64, "note")) } ul.notes { @for note in &it.notes { li { (note) } } } }
                }
            }
        }
        @if !it.unforeseen.is_empty() { div.note { strong.warn { "Not foreseen by the rehearsal: " } (named(&it.unforeseen)) } }
    }
}
