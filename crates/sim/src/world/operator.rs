//! Operators, and faults that come by chance.

use super::{Happening, World};
use crate::Sabotage;
use crate::packages::PACKAGES;
use fettle_core::recall::Recall;
use fettle_core::rollout::{HostState, Phase, RolloutEvent};
use fettle_core::transaction::Next;
use fettle_core::{Hold, HostId, RolloutId};

impl World {
    /// Once a minute everything that may go wrong by itself gets its chance.
    pub(super) fn tick(&mut self) {
        self.due(60, Happening::Tick);
        self.let_begin();
        self.cycles();
        if self.healed {
            return;
        }
        if self.random.permille(self.faults.operator) {
            self.chance(Self::operate);
        }
        if self.random.permille(self.faults.host_down) {
            self.chance(Self::host_goes_down);
        }
        if self.random.permille(self.faults.server_crash) {
            self.chance(|w| {
                let process = w.random.between(0, 1) as usize;
                let up = w.processes[process].up;
                if up {
                    w.crash_process(process);
                }
                up
            });
        }
        if self.random.permille(self.faults.drift) {
            self.chance(Self::drift);
        }
        if self.random.permille(self.faults.leave) {
            self.chance(Self::leave);
        }
        if self.random.permille(self.faults.service) {
            self.chance(Self::service_stops);
        }
        if self.random.permille(self.faults.news) {
            self.chance(|w| {
                w.news();
                true
            });
        }
        if self.random.permille(self.faults.join) {
            self.chance(Self::join);
        }
        if self.random.permille(self.faults.clock) {
            self.chance(Self::clock_steps);
        }
        if self.random.permille(self.faults.edit) {
            self.chance(Self::edit_policy);
        }
        self.services_come_back();
    }

    fn chance(&mut self, act: impl FnOnce(&mut Self) -> bool) {
        self.report.actions += 1;
        self.report.skipped += u64::from(!act(self));
    }

    pub(super) fn some_host(&mut self) -> Option<HostId> {
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        self.random.pick(&hosts).cloned()
    }

    fn host_goes_down(&mut self) -> bool {
        let Some(host) = self.some_host().filter(|h| self.agents.get(h).is_some_and(|a| a.up))
        else {
            return false;
        };
        let seconds = self.random.between(60, 10_800);
        self.take_down(&host, seconds);
        true
    }

    /// An administrator changes packages by hand.
    fn drift(&mut self) -> bool {
        self.drifts += 1;
        let Some(host) = self.some_host() else { return false };
        let at = self.random.between(0, PACKAGES.len() as u64 - 1) as usize;
        let roll = self.random.between(0, 3);
        let Some(agent) = self.agents.get_mut(&host).filter(|a| a.next() == Next::Nothing) else {
            return false;
        };
        match roll {
            // Held, or no longer.
            0 => agent.held ^= 1 << at,
            1 => agent.installed = agent.installed.by_hand(at, self.drifts),
            _ => agent.installed = agent.installed.back(at),
        }
        self.tell(|_| format!("{host} drifts"));
        true
    }

    fn clock_steps(&mut self) -> bool {
        let steps = [-366 * 86_400, -7200, -90, 0, 0, 90, 7200, 366 * 86_400];
        let skew = *self.random.pick(&steps).unwrap_or(&0);
        let Some(host) = self.some_host() else { return false };
        let Some(agent) = self.agents.get_mut(&host) else { return false };
        let steps = agent.skew != skew;
        agent.skew = skew;
        self.tell(|_| format!("the clock of {host} is off by {skew} s"));
        if steps {
            self.checker.sometimes("clock stepped");
        }
        steps
    }

    fn service_stops(&mut self) -> bool {
        let Some(host) = self.some_host() else { return false };
        let Some(row) = self.store.hosts.get_mut(&host) else { return false };
        row.unwell = true;
        self.tell(|_| format!("the service of {host} stops"));
        self.signal();
        true
    }

    /// Somebody sees to each within some ten minutes.
    fn services_come_back(&mut self) {
        let ill = self.store.hosts.iter().filter(|(_, row)| row.unwell);
        for host in ill.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            if !self.random.permille(100) {
                continue;
            }
            if let Some(row) = self.store.hosts.get_mut(&host) {
                row.unwell = false;
            }
            self.tell(|_| format!("the service of {host} is back"));
            self.signal();
        }
    }

    fn leave(&mut self) -> bool {
        let Some(host) = self.some_host() else { return false };
        self.tell(|_| format!("{host} leaves the fleet"));
        self.store.hosts.remove(&host).is_some()
    }

    /// Where a rollout waits for somebody's word, its starter tries, and sooner or later somebody else says it.
    fn let_begin(&mut self) {
        let ids: Vec<RolloutId> = self.store.rollouts.keys().cloned().collect();
        for id in ids {
            let Some(row) = self.store.rollouts.get(&id) else { continue };
            let state = row.state.clone();
            let says = |by: &str| {
                let one = |wave| Some((wave, state.approve_wave(wave, by, by, "looks good").ok()?));
                (state.wave..=state.wave + 1).find_map(one)
            };
            let starter = state.created_by.clone();
            if says(&starter).is_some() {
                self.checker.violated(self.now, "32 word", format!("{id} took its starter's word"));
            }
            let Some((wave, event)) = says("bob") else { continue };
            let forged = self.sabotaged(Sabotage::ApproveOwn);
            if !forged && !self.healed && !self.random.permille(150) {
                continue;
            }
            let speaker = if forged { starter.as_str() } else { "bob" };
            self.store.words.insert((id.clone(), wave), speaker.to_owned());
            if self.write(&id, state.version, &[event], speaker) {
                self.checker.sometimes("ring let begin");
                self.signal();
            }
        }
    }

    /// An operator does what the moment suggests; now and then something that does not fit.
    fn operate(&mut self) -> bool {
        let ids: Vec<RolloutId> = self.store.rollouts.keys().cloned().collect();
        let Some(id) = self.random.pick(&ids).cloned() else { return false };
        let Some(row) = self.store.rollouts.get(&id) else { return false };
        let state = &row.state;
        let roll = self.random.between(0, 99);
        match (&state.phase, roll) {
            (Phase::Halted { hold: Hold::Recalled { .. } }, 41..=60) => {
                self.store.recalls.clear();
                return true;
            }
            (_, 97..=99) => return self.recall(&id),
            _ => {}
        }
        let events: Vec<RolloutEvent> = match (&state.phase, roll) {
            (_, 0..=1) => state.abort("alice", "enough").into_iter().collect(),
            (_, 2..=3) => state.pause("alice", "lunch").into_iter().collect(),
            (Phase::Paused { .. }, _) => state.resume("alice", "back").into_iter().collect(),
            (Phase::Halted { .. }, 4..=40) => {
                state.resume("alice", "looked at it").into_iter().collect()
            }
            (_, 4..=60) => state.pause("alice", "lunch").into_iter().collect(),
            _ => {
                let patched = |(id, run): (&HostId, &fettle_core::rollout::HostRun)| {
                    (run.state == HostState::Patched && !run.undo_at_work()).then(|| id.clone())
                };
                let mut hosts: Vec<HostId> = state.hosts.iter().filter_map(patched).collect();
                if !roll.is_multiple_of(3) {
                    hosts.truncate(1);
                }
                let seen = self.store.observe(self.now, &id, None, None);
                state.undo(&hosts, crate::check::OPERATORS_REASON, &seen).unwrap_or_default()
            }
        };
        let version = state.version;
        if events.is_empty() {
            return false;
        }
        if matches!(
            (&state.phase, &events[0]),
            (Phase::Halted { .. }, RolloutEvent::Resumed { .. })
        ) {
            self.checker.sometimes("halt resumed");
        }
        let written = self.write(&id, version, &events, "operator");
        self.signal();
        written
    }

    /// The vendor withdraws what this rollout brings.
    fn recall(&mut self, id: &RolloutId) -> bool {
        let plan = self.store.rollouts.get(id).map(|row| &row.state.plan);
        let change = plan.and_then(|plan| plan.hosts.values().next()?.order.changes.first());
        let Some(change) = change else { return false };
        self.store.recalls.push(Recall {
            package: change.name.clone(),
            version: change.to.clone(),
            reason: "eats file systems".to_owned(),
            by: "alice".to_owned(),
            at: self.now,
            undo: false,
        });
        self.signal();
        true
    }

    pub(super) fn resume_paused(&mut self) {
        let ids: Vec<RolloutId> = self.store.rollouts.keys().cloned().collect();
        for id in ids {
            let Some(row) = self.store.rollouts.get(&id) else { continue };
            if matches!(row.state.phase, Phase::Paused { .. })
                && let Ok(event) = row.state.resume("alice", "going on")
            {
                let version = row.state.version;
                self.write(&id, version, &[event], "operator");
            }
        }
        self.signal();
    }

    /// A host that was quarantined keeps its place in the budget, so a budget may stay full until a person
    /// comes: here the operator aborts.
    pub(super) fn abort_what_a_full_budget_stops(&mut self) {
        let ids: Vec<RolloutId> = self.store.rollouts.keys().cloned().collect();
        for id in ids {
            let Some(row) = self.store.rollouts.get(&id) else { continue };
            let seen = self.store.observe(self.now, &id, None, None);
            let holds = row.state.decide(self.now, &seen).holds;
            // Nor does a rollout whose pools another one holds ever go on while that one stands halted.
            let full = |w: &fettle_core::rollout::Waiting| {
                matches!(w.hold, Hold::BudgetUsed { .. })
                    || (w.host.is_none() && matches!(w.hold, Hold::TrafficLed { .. }))
            };
            if row.state.ended_at.is_none()
                && holds.iter().any(full)
                && let Ok(event) = row.state.abort("alice", "the budget stays full")
            {
                let version = row.state.version;
                self.checker.sometimes("aborted on a full budget");
                self.write(&id, version, &[event], "operator");
            }
        }
        self.signal();
    }
}
