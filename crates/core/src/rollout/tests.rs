//! A small fleet on a virtual clock, and each rule of a rollout as a sentence.

use super::*;
use crate::assignment::{ApplyOrder, Assignment, Order, PackageChange};
use crate::plan::{Budget, HostPlan, SCHEMA, Wave, Work};
use crate::policy::GateRule;
use crate::transaction::{Entry, Fault, TxEvent};

use std::sync::Arc;

mod blue_green;
mod decide;
mod gates;
mod operate;
mod performance;
mod random;
mod report;
mod ring0;
mod rolling;
mod room;
mod word;

const HOUR: i64 = 3600;

fn t0() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

pub(crate) fn gate() -> GateRule {
    GateRule { bake_seconds: 300, silent_after_seconds: 900, ..GateRule::default() }
}

/// One wave a slice; each host of the first wave in ring `canary`, of the others in `broad`.
pub(crate) fn plan(waves: &[&[&str]], gate: GateRule) -> Plan {
    let order = ApplyOrder {
        changes: vec![
            PackageChange {
                name: "nginx".into(),
                architecture: "amd64".into(),
                from: "1.0".into(),
                to: "1.1".into(),
                sha256: Digest::of(b"archive"),
                size: 1,
            }
            .into(),
        ],
        ..ApplyOrder::default()
    };
    let ring = |wave: usize| if wave == 0 { "canary" } else { "broad" }.to_owned();
    let hosts =
        waves.iter().enumerate().flat_map(|(w, ids)| ids.iter().map(move |id| (w, *id))).map(
            |(w, id)| {
                let host = HostPlan {
                    name: format!("name-of-{id}"),
                    cohort: Digest::of(b"cohort"),
                    ring: ring(w),
                    wave: w as u32,
                    work: Arc::new(Work {
                        order: order.clone(),
                        why: BTreeMap::new(),
                        restarts: vec![],
                        reboot_likely: false,
                        due: None,
                        ignore_windows: false,
                    }),
                };
                (HostId::from(id), host)
            },
        );
    let wave = |(w, ids): (usize, &&[&str])| Wave {
        ring: ring(w),
        hosts: ids.iter().map(|id| HostId::from(*id)).collect(),
        why: String::new(),
        gate: gate.clone(),
        soak_seconds: if w == 0 { 1000 } else { 0 },
        after_seconds: 0,
        rolling: false,
        traffic: None,
    };
    Plan {
        schema: SCHEMA,
        number: 1,
        parent: None,
        policy: "all".into(),
        policy_digest: Digest::of(b"policy"),
        made_at: t0(),
        seed: 0,
        hosts: hosts.collect(),
        waves: waves.iter().enumerate().map(wave).collect(),
        budgets: vec![],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![],
    }
}

fn budget(hosts: &[&str], max_unavailable: u32) -> Budget {
    Budget {
        name: "role=web".into(),
        hosts: hosts.iter().map(|h| HostId::from(*h)).collect(),
        max_unavailable,
        ..Budget::default()
    }
}

struct World {
    rollout: Rollout,
    seen: Observations,
    now: Timestamp,
    log: Vec<(Timestamp, RolloutEvent)>,
    /// Hosts whose agents say nothing.
    mute: Vec<HostId>,
    /// What the last look waited for.
    holds: Vec<Waiting>,
    wake_at: Option<Timestamp>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let id = RolloutId::from("ro-1");
        let first = Rollout::create(&id, plan, "alice");
        let rollout = Rollout::begin(&id, t0(), &first).unwrap();
        let of_budgets = rollout.plan.budgets.iter().flat_map(|b| b.hosts.iter());
        let observed = HostObservation {
            last_seen: Some(t0()),
            cohort: Some(Digest::of(b"cohort")),
            generation: 4,
            ..HostObservation::default()
        };
        let hosts =
            rollout.hosts.keys().chain(of_budgets).map(|h| (h.clone(), observed.clone())).collect();
        let seen = Observations { hosts, ..Observations::default() };
        Self {
            rollout,
            seen,
            now: t0(),
            log: vec![(t0(), first)],
            mute: vec![],
            holds: vec![],
            wake_at: None,
        }
    }

    fn host(&mut self, id: &str) -> &mut HostObservation {
        self.seen.hosts.get_mut(&HostId::from(id)).unwrap()
    }

    fn take(&mut self, event: &RolloutEvent) {
        self.rollout.apply(self.now, event).unwrap();
        for effect in effects(&self.rollout, self.now, event) {
            if let Effect::Assign(order) = effect {
                let host = self.seen.hosts.get_mut(&order.host).unwrap();
                assert!(order.generation > host.generation, "generations grow");
                host.generation = order.generation;
            }
        }
        self.log.push((self.now, event.clone()));
    }

    /// Decides until nothing follows; gives the words of what happened.
    fn look(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..20 {
            let decision = self.rollout.decide(self.now, &self.seen);
            self.look_quickly(&decision);
            self.holds = decision.holds;
            self.wake_at = decision.wake_at;
            if decision.events.is_empty() {
                return words;
            }
            for event in &decision.events {
                words.push(sentence(event));
                self.take(event);
            }
        }
        panic!("it never stands still: {words:?}");
    }

    /// Whoever only wants the events gets the same ones.
    fn look_quickly(&self, decision: &Decision) {
        let quick = self.rollout.next(self.now, &Sight::of(&self.rollout, self.seen.clone()));
        assert_eq!(quick.events, decision.events);
        let soon = |at: Timestamp| quick.wake_at.is_some_and(|quick| quick <= at);
        assert!(decision.wake_at.is_none_or(soon), "{:?} {:?}", quick.wake_at, decision.wake_at);
    }

    /// Time goes by; every agent that is not mute speaks.
    fn pass(&mut self, seconds: i64) -> Vec<String> {
        self.now += jiff::SignedDuration::from_secs(seconds);
        let (now, mute) = (self.now, self.mute.clone());
        for (_, host) in self.seen.hosts.iter_mut().filter(|(id, _)| !mute.contains(id)) {
            host.last_seen = Some(now);
        }
        self.look()
    }

    fn run(&self, id: &str) -> &HostRun {
        &self.rollout.hosts[&HostId::from(id)]
    }

    fn word(&self, id: &str) -> &'static str {
        self.run(id).state.word()
    }

    fn try_redeem(&mut self, id: &str) -> Result<(), Hold> {
        let run = self.run(id);
        let (assignment, generation) = (run.assignment.clone().unwrap(), run.generation.unwrap());
        let event =
            self.rollout.redeem(self.now, &id.into(), &assignment, generation, &self.seen)?;
        if let Some(event) = event {
            self.take(&event);
        }
        Ok(())
    }

    fn report(&mut self, id: &str, assignment: &AssignmentId, events: Vec<TxEvent>) -> Vec<String> {
        let entries: Vec<Entry> = events
            .into_iter()
            .enumerate()
            .map(|(i, event)| Entry { sequence: i as u64, at: self.now, event })
            .collect();
        let events = self.rollout.report(&id.into(), assignment, &entries);
        for event in &events {
            self.take(event);
        }
        assert_eq!(
            self.rollout.report(&id.into(), assignment, &entries),
            vec![],
            "sent again, it says nothing new"
        );
        let now = self.now;
        self.host(id).last_seen = Some(now);
        events.iter().map(sentence).collect()
    }

    /// The host's transaction ends so.
    fn ends(&mut self, id: &str, outcome: Outcome) -> Vec<String> {
        let assignment = self.run(id).assignment.clone().unwrap();
        self.report(id, &assignment, vec![TxEvent::Ended { outcome }])
    }

    /// Redeems and ends so.
    fn runs(&mut self, id: &str, outcome: Outcome) {
        self.try_redeem(id).unwrap();
        self.ends(id, outcome);
    }

    fn held(&self, id: &str) -> Option<&Hold> {
        self.holds
            .iter()
            .find(|w| w.host.as_ref().is_some_and(|h| h.as_str() == id))
            .map(|w| &w.hold)
    }

    fn waits_for(&self) -> Option<&Hold> {
        self.holds.iter().find(|w| w.host.is_none()).map(|w| &w.hold)
    }
}

fn sentence(event: &RolloutEvent) -> String {
    match event {
        RolloutEvent::Granted { host, .. }
        | RolloutEvent::GrantExpired { host }
        | RolloutEvent::Foretold { host, .. }
        | RolloutEvent::Redeemed { host }
        | RolloutEvent::Silent { host, .. }
        | RolloutEvent::UndoAsked { host, .. } => format!("{} {host}", event.word()),
        RolloutEvent::Stepped { host, step } => format!("{host} {}", step.word()),
        RolloutEvent::Ended { host, outcome } => format!("{host} {}", outcome.word()),
        RolloutEvent::Cancelled { host, hold } => format!("cancelled {host} {}", hold.code()),
        RolloutEvent::WaveEnded { wave } | RolloutEvent::GatePassed { wave, .. } => {
            format!("{} {wave}", event.word())
        }
        RolloutEvent::Halted { hold, .. } => format!("halted {}", hold.code()),
        other => other.word().to_owned(),
    }
}

fn undone() -> Outcome {
    Outcome::Undone { reason: "service-not-back".into() }
}
fn refused(code: &str) -> Outcome {
    Outcome::Refused {
        fault: Fault { code: code.into(), message: "no".into(), hint: "wait".into() },
    }
}
fn quarantined() -> Outcome {
    Outcome::Quarantined { reason: "disk".into() }
}
