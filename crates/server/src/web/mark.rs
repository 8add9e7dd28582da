//! Marks: each state has a shape and a colour, so that it can be told without seeing colours.
//!
//! The shapes are symbols of one sprite at the top of the document; a mark is a reference of a few bytes,
//! followed by the state's word.

use fettle_core::feed::FeedStanding;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::rollout::{HostState, Phase};
use maud::{Markup, html};

/// How a state looks: a symbol of the sprite and a tone of the palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Name of the symbol.
    pub(crate) shape: &'static str,
    /// Name of the tone: a CSS class.
    pub(crate) tone: &'static str,
}

const fn mark(shape: &'static str, tone: &'static str) -> Mark {
    Mark { shape, tone }
}

/// Host states in the order in which they call for attention, with what they mean.
pub(crate) const HOST_STATES: [(&str, &str); 10] = [
    ("quarantined", "neither patched nor as it was: a person must come"),
    ("exposed", "a fix exists and is not installed"),
    ("pending-restart", "fixed on disk, old code still runs"),
    ("pending-reboot", "fixed on disk, the old kernel still runs"),
    ("silent", "the agent has not spoken for too long"),
    ("no-inventory", "has not reported what it runs"),
    ("not-judged", "no vulnerability data for its release: nothing is known"),
    ("no-policy", "no policy selects it"),
    ("no-fix-yet", "affected, and the vendor has no fix"),
    ("up-to-date", "nothing is owed"),
];

pub(crate) fn host_state(word: &str) -> Mark {
    match word {
        "up-to-date" => mark("tick", "good"),
        "exposed" => mark("triangle", "bad"),
        "pending-restart" => mark("half", "warn"),
        "pending-reboot" => mark("power", "warn"),
        "no-fix-yet" => mark("ring", "rest"),
        "quarantined" => mark("cross", "bad"),
        "silent" => mark("dashed", "warn"),
        "no-policy" => mark("dash", "rest"),
        _ => mark("question", "rest"),
    }
}

pub(crate) fn severity(severity: Severity) -> Mark {
    match severity {
        Severity::Critical => mark("diamond", "critical"),
        Severity::High => mark("triangle", "high"),
        Severity::Medium => mark("square", "medium"),
        Severity::Low => mark("disc", "low"),
        Severity::Negligible => mark("dot", "negligible"),
    }
}

pub(crate) fn finding_state(state: FindingState) -> Mark {
    match state {
        FindingState::Open => mark("triangle", "bad"),
        FindingState::NoFixYet => mark("ring", "rest"),
        FindingState::PendingRestart => mark("half", "warn"),
        FindingState::PendingReboot => mark("power", "warn"),
        FindingState::Accepted | FindingState::NotAffected => mark("dash", "rest"),
        FindingState::Fixed => mark("tick", "good"),
    }
}

pub(crate) fn feed_standing(standing: FeedStanding) -> Mark {
    match standing {
        FeedStanding::Fresh => mark("tick", "good"),
        FeedStanding::Failed => mark("half", "warn"),
        FeedStanding::Stale => mark("cross", "bad"),
        FeedStanding::Absent => mark("dash", "rest"),
    }
}

pub(crate) fn phase(phase: &Phase) -> Mark {
    match phase {
        Phase::Running => mark("play", "work"),
        Phase::Paused { .. } => mark("pause", "warn"),
        Phase::Halted { .. } => mark("cross", "bad"),
        Phase::Aborted { .. } => mark("square", "rest"),
        Phase::Done => mark("tick", "good"),
    }
}

/// By the word of a [`HostState`].
pub(crate) fn run_state(word: &str) -> Mark {
    match word {
        "pending" => mark("ring", "rest"),
        "granted" => mark("half", "work"),
        "redeemed" => mark("play", "work"),
        "patched" => mark("tick", "good"),
        "undone" => mark("back", "warn"),
        "refused" => mark("bar", "warn"),
        "quarantined" => mark("cross", "bad"),
        _ => mark("dash", "rest"),
    }
}

/// Host states of a rollout, in the order of a progress bar.
pub(crate) const RUN_STATES: [&str; 8] =
    ["patched", "redeemed", "granted", "pending", "undone", "refused", "quarantined", "cancelled"];

/// Why a host of a rollout ended as it did.
pub(crate) fn run_reason(state: &HostState) -> Option<String> {
    match state {
        HostState::Undone { reason }
        | HostState::Refused { reason, .. }
        | HostState::Quarantined { reason } => Some(reason.clone()),
        HostState::Cancelled { hold } => Some(hold.to_string()),
        _ => None,
    }
}

/// A state word as people read it: `pending-restart` → `pending restart`.
pub(crate) fn spoken(word: &str) -> String {
    word.replace('-', " ")
}

impl Mark {
    /// The shape alone, for places where the word stands beside it.
    pub(crate) fn shape(self) -> Markup {
        html! { svg.mark.(self.tone) aria-hidden="true" { use href={ "#m-" (self.shape) } {} } }
    }
    /// Shape and word.
    pub(crate) fn word(self, word: &str) -> Markup {
        html! { span.state.(self.tone) { (self.shape()) (spoken(word)) } }
    }
    /// Shape and word in a box, for titles.
    pub(crate) fn badge(self, word: &str) -> Markup {
        html! { span.badge.(self.tone) { (self.shape()) (spoken(word)) } }
    }
}

/// The symbols. 16 × 16 units each; filled or stroked with the colour of their tone.
pub(crate) fn sprite() -> Markup {
    html! {
        svg.sprite aria-hidden="true" width="0" height="0" {
            symbol #m-disc viewBox="0 0 16 16" { circle.f cx="8" cy="8" r="5.5" {} }
            symbol #m-dot viewBox="0 0 16 16" { circle.f cx="8" cy="8" r="3" {} }
            symbol #m-ring viewBox="0 0 16 16" { circle.s cx="8" cy="8" r="5" {} }
            symbol #m-dashed viewBox="0 0 16 16" { circle.s cx="8" cy="8" r="5" stroke-dasharray="2.6 2.6" {} }
            symbol #m-half viewBox="0 0 16 16" { circle.s cx="8" cy="8" r="5" {} path.f d="M8 3a5 5 0 0 1 0 10z" {} }
            symbol #m-power viewBox="0 0 16 16" { path.s d="M5 4.2a5.2 5.2 0 1 0 6 0M8 2v5.5" {} }
            symbol #m-triangle viewBox="0 0 16 16" { path.f d="M8 2.2 14.4 13.4H1.6z" {} }
            symbol #m-square viewBox="0 0 16 16" { rect.f x="3" y="3" width="10" height="10" rx="1" {} }
            symbol #m-diamond viewBox="0 0 16 16" { path.f d="M8 1.2 14.8 8 8 14.8 1.2 8z" {} }
            symbol #m-tick viewBox="0 0 16 16" { circle.f cx="8" cy="8" r="6.5" {} path.k d="m5 8.3 2.2 2.2L11.2 6" {} }
            symbol #m-cross viewBox="0 0 16 16" { rect.f x="2" y="2" width="12" height="12" rx="2" {} path.k d="m5.5 5.5 5 5m0-5-5 5" {} }
            symbol #m-dash viewBox="0 0 16 16" { path.s d="M3.5 8h9" {} }
            symbol #m-bar viewBox="0 0 16 16" { circle.f cx="8" cy="8" r="6.5" {} path.k d="M4.8 8h6.4" {} }
            symbol #m-back viewBox="0 0 16 16" { path.s d="M3.2 6.5h6.3a3.3 3.3 0 0 1 0 6.6H6.5M6.3 3.2 3 6.5l3.3 3.3" {} }
            symbol #m-play viewBox="0 0 16 16" { path.f d="M4 2.5 13.5 8 4 13.5z" {} }
            symbol #m-pause viewBox="0 0 16 16" { path.f d="M3.5 3h3.2v10H3.5zM9.3 3h3.2v10H9.3z" {} }
            symbol #m-question viewBox="0 0 16 16" { circle.s cx="8" cy="8" r="5.6" {} path.s d="M6.4 6.6c0-2.3 3.3-2.1 3.2 0-.1 1.2-1.6 1.2-1.6 2.5M8 10.9v.4" {} }
        }
    }
}
