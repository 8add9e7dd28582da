//! What the rollouts of a period came to.

use super::Period;
use crate::rollout::{Rollout, RolloutEvent};
use crate::transaction::Outcome;
use crate::{HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Its name.
    pub id: RolloutId,
    /// The policy whose plan it carries out.
    pub policy: String,
    /// Number of that plan.
    pub plan: u64,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Where it stands: the word of its phase.
    pub phase: String,
    /// Hosts of its plan.
    pub hosts: u64,
    /// Of those: patched and verified.
    pub patched: u64,
    /// Taken back, and verified to be as they were.
    pub undone: u64,
    /// Refused by the host before anything was touched.
    pub refused: u64,
    /// Neither: a person must come, or had to.
    pub quarantined: u64,
    /// Not started, and will not be.
    pub cancelled: u64,
    /// Still to come, or at work.
    pub unfinished: u64,
    /// Times it was halted.
    pub halts: u64,
    /// From the moment a host might be changed to the word that this very host had taken harm, in seconds: of the first
    /// such host. `None`: none had.
    pub detected_seconds: Option<u64>,
    /// From that word to the halt that followed, in seconds. `None`: it was not halted after it.
    pub halted_seconds: Option<u64>,
}

/// Sums over the rollouts of a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutTotals {
    /// How many.
    pub rollouts: u64,
    /// Of those: every host ended, and none was undone, refused or quarantined.
    pub clean: u64,
    /// Of those: halted at least once.
    pub halted: u64,
    /// Hosts patched.
    pub patched: u64,
    /// Hosts taken back.
    pub undone: u64,
    /// Hosts that refused.
    pub refused: u64,
    /// Hosts that were quarantined.
    pub quarantined: u64,
    /// Share of the hosts that were started and ended patched, in thousandths. `None`: none has ended.
    pub success_permille: Option<u32>,
}

impl RolloutTotals {
    /// Of these rollouts.
    pub fn of(all: &[RolloutSummary]) -> Self {
        let sum = |of: fn(&RolloutSummary) -> u64| all.iter().map(of).sum::<u64>();
        let bad = |it: &RolloutSummary| it.undone + it.refused + it.quarantined;
        let (patched, failed) = (sum(|it| it.patched), all.iter().map(bad).sum::<u64>());
        let ended = patched + failed;
        Self {
            rollouts: all.len() as u64,
            clean: all.iter().filter(|it| it.ended_at.is_some() && bad(it) == 0).count() as u64,
            halted: all.iter().filter(|it| it.halts > 0).count() as u64,
            patched,
            undone: sum(|it| it.undone),
            refused: sum(|it| it.refused),
            quarantined: sum(|it| it.quarantined),
            success_permille: (ended > 0)
                .then(|| u32::try_from(patched * 1000 / ended).unwrap_or(1000)),
        }
    }
}

/// One rollout in a few words, if it was under way in the period.
pub fn summarise(
    period: Period,
    state: &Rollout,
    events: &[(Timestamp, RolloutEvent)],
) -> Option<RolloutSummary> {
    let over_before = state.ended_at.is_some_and(|at| at < period.from);
    if over_before || state.created_at >= period.to {
        return None;
    }
    let counts = state.counts();
    let count = |word: &str| u64::from(counts.get(word).copied().unwrap_or(0));
    let (detected, halted) = first_harm(events);
    Some(RolloutSummary {
        id: state.id.clone(),
        policy: state.plan.policy.clone(),
        plan: state.plan.number,
        started_by: state.created_by.clone(),
        started_at: state.created_at,
        ended_at: state.ended_at,
        phase: state.phase.word().to_owned(),
        hosts: state.plan.hosts.len() as u64,
        patched: count("patched"),
        undone: count("undone"),
        refused: count("refused"),
        quarantined: count("quarantined"),
        cancelled: count("cancelled"),
        unfinished: count("pending") + count("granted") + count("redeemed"),
        halts: events.iter().filter(|(_, e)| matches!(e, RolloutEvent::Halted { .. })).count()
            as u64,
        detected_seconds: detected,
        halted_seconds: halted,
    })
}

/// How long the first harm took to be known, and how long it took then until the rollout stood.
fn first_harm(events: &[(Timestamp, RolloutEvent)]) -> (Option<u64>, Option<u64>) {
    let mut touched: BTreeMap<&HostId, Timestamp> = BTreeMap::new();
    // An undo that somebody asked for is an answer to harm and not its first sign.
    let mut asked: BTreeSet<&HostId> = BTreeSet::new();
    let mut known: Option<(Timestamp, u64)> = None;
    for (at, event) in events {
        match event {
            RolloutEvent::Redeemed { host } => drop(touched.insert(host, *at)),
            RolloutEvent::UndoAsked { host, .. } => drop(asked.insert(host)),
            RolloutEvent::Ended {
                host,
                outcome: Outcome::Undone { .. } | Outcome::Quarantined { .. },
            }
            | RolloutEvent::Silent { host, .. }
                if known.is_none() && !asked.contains(host) =>
            {
                known = touched.get(host).map(|since| (*at, seconds(*since, *at)));
            }
            RolloutEvent::Halted { .. } => {
                if let Some((since, took)) = known {
                    return (Some(took), Some(seconds(since, *at)));
                }
            }
            _ => {}
        }
    }
    (known.map(|(_, took)| took), None)
}

fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}
