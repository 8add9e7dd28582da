//! What policies do by themselves: each step decided by [`fettle_core::cycle`].

use super::World;
use fettle_core::cycle::{
    CycleInput, CycleOutcome, CycleRun, CycleSeen, CycleState, CycleStep, PlanStanding,
    RolloutStanding, decide, planned, started,
};
use fettle_core::plan::approval::Stage;
use fettle_core::rollout::Phase;
use fettle_core::{Hold, RolloutId, Timestamp};

/// A run takes few steps before it waits for something.
const MOST_STEPS: usize = 20;

impl World {
    /// Every policy's cycle is looked at, where something may have come due.
    pub(super) fn cycles(&mut self) {
        let Some(process) = self.processes.iter().position(|p| p.up) else { return };
        let waits = |run: &CycleRun| !run.state.is_over();
        let news = self.now >= self.cycles_wake;
        // What waits is asked again every five minutes.
        let again = self.now.as_second() / 60 % 5 == 0 && self.store.cycles.values().any(waits);
        if self.healed || !(news || again) {
            return;
        }
        let mut wake = Timestamp::MAX;
        let policies: Vec<String> =
            self.store.laws.iter().map(|law| law.policy.name.clone()).collect();
        for policy in policies {
            for step in 0..=MOST_STEPS {
                let Some((step_due, next)) = self.next_step(process, &policy) else { break };
                wake = next.into_iter().chain([wake]).min().unwrap_or(wake);
                let Some(step_due) = step_due else { break };
                if step == MOST_STEPS {
                    let detail = format!("the cycle of {policy} runs in a circle: {step_due:?}");
                    return self.checker.violated(self.now, "24 liveness", detail);
                }
                self.take_step(&policy, step_due);
            }
        }
        self.cycles_wake = wake;
    }

    fn next_step(
        &mut self,
        process: usize,
        policy: &str,
    ) -> Option<(Option<CycleStep>, Option<Timestamp>)> {
        let law = self.store.in_force(policy)?;
        let rule = law.policy.cycle.clone()?;
        let blackout = law.policy.window_for(self.now, true).hold;
        let last = self.store.cycles.get(policy).cloned();
        let (plan, rollout) = match last.as_ref().map(|run| &run.state) {
            Some(CycleState::Planned { plan }) => (self.plan_standing(*plan), None),
            Some(CycleState::Started { rollout, .. }) => (None, self.rollout_standing(rollout)),
            _ => (None, None),
        };
        let (owed, offered) = self.owed(policy);
        let failed = match last.as_ref().map(|run| &run.state) {
            Some(CycleState::Ended {
                outcome: CycleOutcome::Failed { rollout, reason }, ..
            }) => Some((rollout.clone(), reason.clone())),
            _ => None,
        };
        let seen = CycleSeen {
            owed,
            offered,
            under_way: self.under_way(policy),
            blackout: blackout.filter(|hold| matches!(hold, Hold::Blackout { .. })),
            stale_feeds: Vec::new(),
            unheard: self.unheard(process),
            failed,
            restored: None,
            plan,
            rollout,
        };
        let input = CycleInput {
            rule: &rule,
            since: crate::fleet::start(),
            last: last.as_ref(),
            seen: &seen,
            now: self.now,
        };
        let decision = decide(&input);
        // What does nothing says why: an end with its outcome, or holds.
        let waits = last.as_ref().is_some_and(|run| !run.state.is_over());
        if decision.step.is_none() && waits && decision.holds.is_empty() {
            let held = matches!(last.as_ref().map(|run| &run.state),
                Some(CycleState::Held { holds }) if !holds.is_empty());
            if !held {
                let detail = format!("the cycle of {policy} waits and does not say why: {last:?}");
                self.checker.violated(self.now, "40 nothing to do", detail);
            }
        }
        Some((decision.step, decision.next_due))
    }

    fn take_step(&mut self, policy: &str, step: CycleStep) {
        let now = self.now;
        match step {
            CycleStep::Keep(run) => self.keep_run(policy, run),
            CycleStep::MakePlan(run) => {
                let rule = self.store.in_force(policy).and_then(|law| law.policy.cycle.clone());
                let Some((number, rule)) = self.make_plan(policy, "server").zip(rule) else {
                    return;
                };
                let empty =
                    self.store.plans.get(&number).is_none_or(|row| row.plan.hosts.is_empty());
                self.keep_run(policy, planned(&run, &rule, number, empty, now));
            }
            CycleStep::Start { run, plan } => match self.start_plan(plan, "server") {
                Some(id) => self.keep_run(policy, started(&run, plan, id)),
                None => {
                    let detail = format!("the cycle of {policy} may start plan {plan}, and cannot");
                    self.checker.violated(now, "22 approvals", detail);
                }
            },
        }
    }

    fn keep_run(&mut self, policy: &str, run: CycleRun) {
        self.tell(|_| format!("cycle of {policy}: {}", run.state));
        self.checker.sometimes(match &run.state {
            CycleState::Held { .. } => "cycle held",
            CycleState::Planned { .. } => "cycle planned",
            CycleState::Started { .. } => "cycle started",
            CycleState::Ended { outcome, .. } => match outcome {
                CycleOutcome::NothingOwed => "cycle owed nothing",
                CycleOutcome::AllHeld { .. } => "cycle held in all",
                CycleOutcome::Done { .. } => "cycle done",
                _ => "cycle ended otherwise",
            },
        });
        self.store.cycles.insert(policy.to_owned(), run);
    }

    fn plan_standing(&self, number: u64) -> Option<PlanStanding> {
        let row = self.store.plans.get(&number)?;
        if let Some(rollout) = &row.rollout {
            return Some(PlanStanding::Started(rollout.clone()));
        }
        let verdict = self.store.approvals(row, self.now);
        Some(match verdict.stage {
            Stage::Superseded => PlanStanding::Overtaken,
            _ => verdict.hold().map_or(PlanStanding::Approved, PlanStanding::Lacking),
        })
    }

    fn rollout_standing(&self, rollout: &RolloutId) -> Option<RolloutStanding> {
        let state = &self.store.rollouts.get(rollout)?.state;
        Some(match (&state.phase, state.ended_at) {
            (Phase::Done, _) => RolloutStanding::Done,
            (Phase::Aborted { by, .. }, Some(_)) => {
                RolloutStanding::Failed(format!("aborted by {by}"))
            }
            _ => RolloutStanding::UnderWay,
        })
    }
}
