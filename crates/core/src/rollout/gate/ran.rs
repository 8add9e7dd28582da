//! Tests that the wave's own hosts run, each from its own list, after it was patched and after the bake.

use super::ask::{Finding, Gate, few, found, nothing};
use super::evidence::{
    Answer, Came, EVIDENCE_STANDS_SECONDS, GateEvidence, HostAsk, HostRan, Says,
};
use super::later;
use crate::policy::{CheckKind, CheckRule, HostTest};
use crate::rollout::{Observations, Rollout};
use crate::{HostId, Timestamp};
use std::collections::BTreeMap;

/// A host runs so many of its tests at once.
pub const TESTS_AT_ONCE: usize = 4;
/// A test may take so long on its host, in seconds.
const TEST_TAKES: u64 = 60;

/// So long counts what a host said of one of so many tests: where they are more than a host runs at once, the next run
/// of each comes that much later.
fn stands(tests: usize) -> u64 {
    let turns = tests.div_ceil(TESTS_AT_ONCE).saturating_sub(1) as u64;
    EVIDENCE_STANDS_SECONDS + turns * TEST_TAKES
}

impl Rollout {
    /// What the gate at work asks of this host: nothing before the bake is over, and nothing of a host that was not
    /// patched.
    pub fn asks_of(&self, host: &HostId, now: Timestamp) -> Vec<HostAsk> {
        let asked =
            |(_, ask, hosts): (String, HostAsk, Vec<&HostId>)| hosts.contains(&host).then_some(ask);
        // Most of the fleet, most of the time: spared the look at the whole wave.
        if self.hosts.get(host).is_none_or(|run| run.wave != self.wave) {
            return Vec::new();
        }
        self.asks_of_hosts(now).into_iter().filter_map(asked).collect()
    }

    /// What the gate at work makes its hosts run: check, what each is asked, and the patched hosts of the wave.
    pub fn asks_of_hosts(&self, now: Timestamp) -> Vec<(String, HostAsk, Vec<&HostId>)> {
        let Some((wave, _, until)) = self.asking().filter(|(_, _, until)| now >= *until) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for check in &wave.gate.checks {
            let CheckKind::Host { test, .. } = &check.asks else { continue };
            // Another gate, or this one after a host's late end: what ran before is no answer to it.
            let (id, wave, until) = (&self.id, self.wave, until.as_microsecond());
            let ask =
                HostAsk { ask: format!("{id}/{wave}/{until}/{}", check.name), test: test.clone() };
            let hosts = self.patched_in(self.wave).map(|(id, _)| id).collect();
            out.push((check.name.clone(), ask, hosts));
        }
        out
    }

    /// Enough of the wave's patched hosts have run it since the bake ended, not too long ago, and well. Too many that
    /// came out badly fail; whoever lacks it or says nothing is waited for.
    pub(super) fn judge_ran(
        &self,
        test: &HostTest,
        min_percent: u32,
        gate: &Gate,
        evidence: Option<&GateEvidence>,
        seen: &Observations,
    ) -> Finding {
        let none = BTreeMap::new();
        let answers = match evidence.map(|e| &e.answer) {
            Some(Answer::Ran { hosts }) => hosts,
            _ => &none,
        };
        let checks = self.plan.waves.get(gate.wave as usize).map_or(&[][..], |w| &w.gate.checks);
        let is_run = |check: &&CheckRule| matches!(check.asks, CheckKind::Host { .. });
        let stands = stands(checks.iter().filter(is_run).count());
        let (mut all, mut well) = (0_u64, 0_u64);
        let (mut bad, mut badly, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        // Who has left the fleet says nothing either way.
        for (id, run) in self.patched_in(gate.wave).filter(|(id, _)| seen.hosts.contains_key(*id)) {
            all += 1;
            let name = self.name_of(id);
            let counts = |ran: &&HostRan| {
                ran.began_at >= gate.until.max(run.ended_at.unwrap_or(gate.until))
                    && ran.ended_at >= ran.began_at
                    && ran.ended_at <= gate.now
                    && later(ran.ended_at, stands) >= gate.now
            };
            match answers.get(id).filter(counts).map(|ran| &ran.came) {
                Some(Came::Well) => well += 1,
                Some(Came::Badly { said }) => {
                    bad.push(id.clone());
                    badly.push(format!("{test} came out badly on {name}: {said}"));
                }
                Some(Came::Lacks { why }) => missing.push(format!("{name}: {why}")),
                None => missing.push(format!("{name} has not answered since the bake ended")),
            }
        }
        if all == 0 {
            return nothing("not a single patched host that could run it", gate.until);
        }
        let needed = u64::from(min_percent);
        let enough = |of: u64| of * 100 >= all * needed;
        let share = format!("{well} of {all} host(s) ran {test} well, {needed} percent are needed");
        if !enough(all - bad.len() as u64) {
            return Finding { bad, ..found(Says::Fails, few(&badly)) };
        }
        if enough(well) {
            let why = if badly.is_empty() { share } else { format!("{share}; {}", few(&badly)) };
            return found(Says::Passes, why);
        }
        nothing(format!("{share}; {}", few(&missing)), gate.until)
    }
}
