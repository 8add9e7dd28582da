//! What must hold before the next wave starts. A gate fails closed: no data never passes.

use super::{HostState, Observations, Rollout};
use crate::{Hold, HostId, Timestamp};

/// What the gate of the wave at work says.
pub(super) enum Verdict {
    /// Go on.
    Passes,
    /// Not yet; `wake` is when to ask again even if nothing happens.
    Waits { hold: Hold, wake: Option<Timestamp> },
    /// No: halt.
    Fails(Hold),
}

/// How a patched host of a rolling wave is doing.
pub(super) enum Watch {
    /// It bakes until then.
    Until(Timestamp),
    /// It has baked, and has not spoken since. It is silent from then on.
    Mute(Option<Timestamp>),
    /// What its patch did to it.
    Failed(String),
    /// It does well: its place is free.
    Well,
}

impl Rollout {
    /// Looks after one host of a rolling wave, where no gate waits for the others. `None`: there is nothing to watch,
    /// or a gate watches it. A host that has spoken after its bake has done well for good. In a wave that an
    /// operator's resume excused, the bake alone counts.
    pub(super) fn watch(&self, id: &HostId, now: Timestamp, seen: &Observations) -> Option<Watch> {
        let run = self.hosts.get(id).filter(|run| run.state == HostState::Patched)?;
        let wave = self.plan.waves.get(run.wave as usize).filter(|wave| wave.rolling)?;
        let host = seen.hosts.get(id)?;
        let until = run.ended_at.map_or(now, |at| later(at, wave.gate.bake_seconds));
        let name = self.name_of(id);
        if self.excused_wave == Some(run.wave) {
            return Some(if now < until { Watch::Until(until) } else { Watch::Well });
        }
        Some(if host.quarantined {
            Watch::Failed(format!("host {name} was quarantined after it was patched"))
        } else if host.last_seen > run.ended_at && host.last_seen.is_some_and(|at| at >= until) {
            Watch::Well
        } else if self.is_silent(host.last_seen, now, seen) {
            Watch::Failed(format!("host {name} fell silent after it was patched"))
        } else if now < until {
            Watch::Until(until)
        } else {
            let heard = host.last_seen.max(seen.listening_since);
            let silent = wave.gate.silent_after_seconds.saturating_add(1);
            Watch::Mute(heard.map(|at| later(at, silent)))
        })
    }

    /// Judges the gate after the wave at work, all of whose hosts have ended at `ended_at`.
    ///
    /// In order: the bake has elapsed; the patched share of the hosts that were started is enough (hosts that
    /// were cancelled do not count, but a wave without a single patched host is no evidence and fails); each
    /// patched host has spoken since it ended and is not silent or quarantined now. A patched host that has
    /// left the fleet says nothing either way. In a wave that an operator's resume excused, the bake alone
    /// counts.
    pub(super) fn judge_gate(
        &self,
        ended_at: Timestamp,
        now: Timestamp,
        seen: &Observations,
    ) -> Verdict {
        let number = self.wave;
        let Some(wave) = self.plan.waves.get(number as usize).filter(|w| !w.hosts.is_empty())
        else {
            return Verdict::Passes;
        };
        let runs = || wave.hosts.iter().filter_map(|id| Some((id, self.hosts.get(id)?)));
        // The true end of a host that had fallen silent may come after the wave's: it has to bake as well.
        let last = runs()
            .filter(|(_, r)| r.state == HostState::Patched)
            .filter_map(|(_, r)| r.ended_at)
            .max();
        let until = later(last.map_or(ended_at, |at| at.max(ended_at)), wave.gate.bake_seconds);
        if now < until {
            return Verdict::Waits { hold: Hold::Bake { wave: number, until }, wake: Some(until) };
        }
        if self.excused_wave == Some(number) {
            return Verdict::Passes;
        }
        let fails = |reason: String| Verdict::Fails(Hold::GateFailed { wave: number, reason });
        let started =
            runs().filter(|(_, r)| !matches!(r.state, HostState::Cancelled { .. })).count() as u64;
        let patched = runs().filter(|(_, r)| r.state == HostState::Patched).count() as u64;
        let needed = u64::from(wave.gate.min_success_percent);
        if patched * 100 < started * needed {
            return fails(format!(
                "{patched} of {started} hosts are patched and verified, {needed} percent are needed"
            ));
        }
        let mut witnesses = 0;
        let mut mute: Vec<&HostId> = Vec::new();
        for (id, run) in runs().filter(|(_, r)| r.state == HostState::Patched) {
            let Some(host) = seen.hosts.get(id) else { continue };
            if host.quarantined {
                return fails(format!(
                    "host {} was quarantined after it was patched",
                    self.name_of(id)
                ));
            }
            if self.is_silent(host.last_seen, now, seen) {
                return fails(format!(
                    "host {} fell silent after it was patched",
                    self.name_of(id)
                ));
            }
            if host.last_seen > run.ended_at && !self.is_unheard(host.last_seen, now) {
                witnesses += 1;
            } else {
                mute.push(id);
            }
        }
        if let Some(first) = mute.first() {
            let what = format!(
                "a word from {} host(s) since they were patched, first of them {}",
                mute.len(),
                self.name_of(first)
            );
            // Whoever stays mute becomes silent: look again then.
            let wake = mute
                .iter()
                .filter_map(|id| seen.hosts.get(id)?.last_seen.max(seen.listening_since))
                .min()
                .map(|at| later(at, wave.gate.silent_after_seconds.saturating_add(1)));
            return Verdict::Waits { hold: Hold::NoData { what }, wake };
        }
        if witnesses == 0 {
            return Verdict::Fails(Hold::NoData {
                what: format!(
                    "a single patched host in wave {number}: every host was cancelled or has left"
                ),
            });
        }
        Verdict::Passes
    }

    pub(super) fn name_of<'a>(&'a self, host: &'a HostId) -> &'a str {
        let member = || self.plan.pools.as_ref().and_then(|pools| pools.member(host));
        let planned = self.plan.hosts.get(host).map(|h| h.name.as_str());
        planned.or_else(|| member().map(|m| m.name.as_str())).unwrap_or(host.as_str())
    }
}

/// `at` and so many seconds; the end of time where that is beyond it.
pub(super) fn later(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
