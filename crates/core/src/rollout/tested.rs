//! Ring 0 of a rollout: no host is touched before a twin of each cohort was.

use super::{Decision, Observations, Rollout, RolloutEvent};
use crate::testbed::{TestbedRule, coverage};
use crate::{HostId, Timestamp};

impl Rollout {
    /// What the plan asks of the test environment, where it asks for something.
    fn asks_tests(&self) -> Option<&TestbedRule> {
        self.plan.testbed.as_ref().filter(|rule| rule.required)
    }

    /// The plan asks for tests, and has not been seen tested.
    pub fn awaits_tests(&self) -> bool {
        self.tested_at.is_none() && self.asks_tests().is_some()
    }

    /// Says that the plan is tested, or why it is not. Once said it stays so: a test that grows too old while the rollout
    /// is under way stops nobody.
    pub(super) fn await_tests(&self, now: Timestamp, seen: &Observations, decision: &mut Decision) {
        let Some(rule) = self.asks_tests() else { return };
        let mut covered = coverage(&self.plan, rule, &seen.tests, now);
        // Nobody will do what only hosts that have ended were to do: it needs no test, and may get none, for no twin is
        // made after a host that has left or changed.
        let may_start = |id: &HostId| self.hosts.get(id).is_some_and(|run| !run.is_over());
        covered.works.retain(|work| work.hosts.iter().any(may_start));
        match covered.hold() {
            Some(hold) => decision.wait(None, hold),
            None => decision.events.push(RolloutEvent::Tested { tests: covered.evidence() }),
        }
    }
}
