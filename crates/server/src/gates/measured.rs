//! Probes that hosts ask again and again for gates that compare what they find: on every host of a policy that has such
//! a gate, so that what was usual is known before anything is changed; told only while a gate looks at it.

use crate::app::App;
use fettle_core::assignment::Probe;
use fettle_core::host::Host;
use fettle_core::policy::{CheckKind, GateRule};
use fettle_core::rollout::{Answer, GateEvidence, HostState, Rollout, Sample};
use fettle_core::{Digest, HostId, Timestamp};
use fettle_wire::agent::{MOST_WATCHES, MeasuredReport, Watch};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// As many samples of one probe are kept of a host: more than an agent keeps.
const MOST_SAMPLES: usize = 500;

/// The samples of one probe of a host, by the numbers that the host gave them.
type Series = BTreeMap<u64, Sample>;

/// What hosts measured, while a gate looks at it. In memory only: hosts tell it again.
#[derive(Default)]
pub(crate) struct Samples(Mutex<BTreeMap<HostId, BTreeMap<String, Series>>>);

/// A probe's name between server and agent: the same probe of several checks is asked once.
fn id_of(probe: &Probe) -> String {
    Digest::of_json(probe)
        .to_string()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(24)
        .collect()
}

fn probes(gate: &GateRule) -> impl Iterator<Item = &Probe> {
    gate.checks.iter().filter_map(|check| match &check.asks {
        CheckKind::Performance(rule) => Some(&rule.probe),
        _ => None,
    })
}

/// The probes that the policy in force has a host measure, rollout or not.
pub(crate) fn usual(app: &App, host: &Host) -> Vec<Probe> {
    let policies = app.policies();
    // Choosing is work, and most fleets measure nothing.
    if !policies.parsed.iter().any(|p| probes(&p.gate).next().is_some()) {
        return Vec::new();
    }
    policies.of(host).map(|p| probes(&p.gate).cloned().collect()).unwrap_or_default()
}

/// What this host is to measure, and whether it is to tell of it.
pub(crate) fn watches(host: &HostId, usual: Vec<Probe>, rollouts: &[Arc<Rollout>]) -> Vec<Watch> {
    let mut out: BTreeMap<String, Watch> = BTreeMap::new();
    let mut add = |probe: &Probe, mark: Option<Timestamp>, send: bool| {
        let id = id_of(probe);
        let new =
            || Watch { id: id.clone(), probe: probe.clone(), mark: None, send: false, after: None };
        let watch = out.entry(id.clone()).or_insert_with(new);
        watch.mark = watch.mark.max(mark);
        watch.send |= send;
    };
    usual.iter().for_each(|probe| add(probe, None, false));
    for rollout in rollouts {
        let Some(run) = rollout.hosts.get(host) else { continue };
        let mark = match run.state {
            HostState::Pending => rollout.changing_since(),
            _ => run.granted_at,
        };
        let gates: BTreeSet<usize> = [rollout.wave as usize, run.wave as usize].into();
        for wave in gates.into_iter().filter_map(|n| rollout.plan.waves.get(n)) {
            probes(&wave.gate).for_each(|probe| add(probe, mark, false));
        }
        for measured in rollout.measures() {
            if measured.patched.contains(&host) || measured.controls.contains(&host) {
                add(&measured.rule.probe, mark, true);
            }
        }
    }
    most_wanted(out.into_values().collect())
}

/// As many as an agent takes: what a gate looks at, before what the host's rollouts will look at, before what the policy in
/// force may look at one day.
fn most_wanted(mut all: Vec<Watch>) -> Vec<Watch> {
    all.sort_by_key(|watch| (!watch.send, watch.mark.is_none()));
    all.truncate(MOST_WATCHES);
    all
}

impl Samples {
    /// Keeps what a host measured, as far as somebody looks at it. `clock`: what the host's clock said when it spoke.
    pub(crate) fn heard(
        &self,
        host: &HostId,
        watches: &[Watch],
        told: Vec<MeasuredReport>,
        clock: Option<i64>,
        now: Timestamp,
    ) {
        let wanted: BTreeSet<&str> =
            watches.iter().filter(|w| w.send).map(|w| w.id.as_str()).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() {
            all.remove(host);
            return;
        }
        let of_host = all.entry(host.clone()).or_default();
        of_host.retain(|id, _| wanted.contains(id.as_str()));
        let Some(clock) = clock else { return };
        for report in told.into_iter().filter(|report| wanted.contains(report.id.as_str())) {
            let series = of_host.entry(report.id).or_default();
            let newest = report.samples.iter().map(|(number, ..)| *number).max();
            if series.last_key_value().is_some_and(|(known, _)| newest < Some(*known)) {
                // The host has begun to count anew.
                series.clear();
            }
            for (number, at, microseconds) in report.samples {
                // By the server's clock, whatever the host's says.
                let ago = SignedDuration::from_millis(clock.saturating_sub(at));
                if let Ok(when) = now.checked_sub(ago) {
                    series.insert(number, Sample { at: when, microseconds });
                }
            }
            while series.len() > MOST_SAMPLES {
                series.pop_first();
            }
        }
    }

    /// A host is to tell what it has measured since what is known.
    pub(crate) fn ask_for_the_rest(&self, host: &HostId, watches: &mut [Watch]) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |id: &str| all.get(host)?.get(id)?.last_key_value().map(|(number, _)| *number);
        for watch in watches.iter_mut().filter(|watch| watch.send) {
            watch.after = last(&watch.id);
        }
    }

    /// Forgets hosts that no gate can ask for.
    pub(super) fn only(&self, hosts: &BTreeSet<&HostId>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|host, _| hosts.contains(host));
    }

    fn of(&self, host: &HostId, id: &str) -> Option<Vec<Sample>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(all.get(host)?.get(id)?.values().copied().collect())
    }
}

/// What the hosts that a gate compares have measured, for each check that compares.
pub(crate) fn evidence(
    app: &App,
    state: &Rollout,
    now: Timestamp,
) -> impl Iterator<Item = GateEvidence> {
    state.measures().into_iter().map(move |measured| {
        let id = id_of(&measured.rule.probe);
        let said = |host: &&HostId| Some(((*host).clone(), app.gates.samples.of(host, &id)?));
        let hosts = measured.patched.iter().chain(&measured.controls).filter_map(said).collect();
        let (check, answer) = (measured.check.to_owned(), Answer::Measured { hosts });
        GateEvidence { check, wave: state.wave, asked_at: now, answer }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(id: &str, mark: Option<Timestamp>, send: bool) -> Watch {
        let probe = Probe::Tcp { address: "127.0.0.1:1".into() };
        Watch { id: id.into(), probe, mark, send, after: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn what_a_gate_looks_at_is_never_what_is_left_out() {
        let mut all: Vec<Watch> =
            (0..MOST_WATCHES).map(|n| watch(&format!("a{n}"), None, false)).collect();
        all.push(watch("y", Some(at(0)), false));
        all.push(watch("z", Some(at(0)), true));
        let found = most_wanted(all);
        assert_eq!(found.len(), MOST_WATCHES);
        assert_eq!((found[0].id.as_str(), found[1].id.as_str()), ("z", "y"));
    }

    #[test]
    fn what_a_host_told_is_kept_by_number_until_it_counts_anew_or_nobody_looks() {
        let (samples, host) = (Samples::default(), HostId::from("h"));
        let mut wanted = [watch("w", None, true)];
        let mut tell = |told: &[(u64, i64)], now: i64| {
            let told = told.iter().map(|(number, at)| (*number, *at, Some(1))).collect();
            let told = vec![MeasuredReport { id: "w".into(), samples: told }];
            samples.heard(&host, &wanted, told, Some(now * 1000), at(now));
            samples.ask_for_the_rest(&host, &mut wanted);
            let seen = samples.of(&host, "w").unwrap();
            (seen.iter().map(|s| s.at).collect::<Vec<_>>(), wanted[0].after)
        };
        assert_eq!(tell(&[(3, 90_000), (4, 100_000)], 100), (vec![at(90), at(100)], Some(4)));
        // The same once more, its answer was lost, and one more; its clock was set back by half.
        let back = tell(&[(4, 100_000), (5, 50_000)], 50);
        assert_eq!(back, (vec![at(90), at(100), at(50)], Some(5)));
        // It has lost what it kept.
        assert_eq!(tell(&[(0, 60_000)], 60), (vec![at(60)], Some(0)));
        samples.only(&BTreeSet::from([&host]));
        assert!(samples.of(&host, "w").is_some());
        samples.only(&BTreeSet::new());
        assert!(samples.of(&host, "w").is_none());
    }
}
