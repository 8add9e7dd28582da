//! The invariants, by number and name. Written against what was persisted and what is really installed, not
//! against how the core decides.
//!
//! | invariant | checked when |
//! |---|---|
//! | 1 budget | a grant is written (within its rollout), a grant is redeemed (over everything the server knows) |
//! | 2 order | a grant is written: every earlier wave has ended and its gate has passed |
//! | 3 gate | a gate is passed: bake, failures, share, a word from each patched host |
//! | 4 at most once | the package manager is started; a decision or its effects are made again |
//! | 5 one transaction per host | a grant is written or redeemed; a journal is written |
//! | 6 halt | a grant is written or redeemed; the host is touched without a redeemed grant |
//! | 7 resume | a halt is cleared |
//! | 9 terminal | any event changes a host that has ended |
//! | 10 window | a grant is redeemed, requests move forward |
//! | 12 generation | an assignment is given, an agent takes one |
//! | 13 way back first | the package manager is started |
//! | 14, 15 truth | a transaction ends: what is installed is what its end claims |
//! | 16 barred | a host was undone or quarantined: its version is barred in the same write or the next look; a plan is made |
//! | 16 recalled | a plan is made, a grant is written or redeemed: it brings nothing that was recalled before |
//! | 17 log | the log only grows |
//! | 18 nothing lost | a process restarts; an agent's acknowledged records; at rest, every end has arrived |
//! | 19 conservation | every host of the plan is in one state, all the time |
//! | 20 bounded | undos of a transaction, grants of a host |
//! | 26 one after another | a grant is written in a rolling wave: whoever was patched before it was watched |
//! | 27 served | an order about traffic is carried out: somebody has requests, nobody unproved is given any |
//! | 28 way back | a blue/green rollout that has halted is at rest; its other pool is touched |
//! | 29 one leads | an order about traffic is written |
//! | 30 ring 0 | a grant is written: a whole twin of each cohort has taken the very change, where the plan asks for that |
//! | 34 proved | a gate is passed: its hosts' last word is that they run what fixes the finding |
//! | 31 asked | a gate is passed: each check was truly answered, for this wave, after the bake, not long before |
//! | 32 word | a grant is written, a step of the traffic begins: somebody who did not start the rollout let its ring begin |
//! | 35 rest | a grant is written: the ring before has had its rest, and it is the ring's time |
//! | 33 red undone | an undo is asked for, and at rest: what a red gate undoes is what the policy says, and all of it |
//! | 22 approvals | a plan takes effect: enough principals who may, none its maker's, of its very digest |
//! | 12 parent | a plan takes effect: in the place of the one that it was made after |
//! | 36 planned | a plan is made: hosts, versions, waves, gates and budgets are what policy and fleet say; twice the same |
//! | 37 left alone | a plan is made: nothing in it is excluded, pinned, held, removed, or from a source not allowed |
//! | 38 accounted | a plan is made: every vulnerability that a host truly has is fixed by it, accepted, or held with a reason |
//! | 39 policy | a plan is made: no host without a policy or of several is in it, and who asks is told |
//! | 40 nothing to do | a plan is made, a cycle waits, a rollout begins: who does nothing says why |
//! | 41 as approved | the host is touched: by the very order that the plan has for it |
//! | 42 tried first | a plan is made: what nobody tried is tried by the fewest; canaries stand for most |
//! | 24 liveness | after the faults have stopped (8 follows from it) |

mod gates;
mod host;
mod plans;

pub(crate) use gates::OPERATORS_REASON;
pub(crate) use host::{journal, traffic};

use crate::Violation;
use crate::agent::Agent;
use crate::fleet::after;
use crate::policies::Law;
use crate::server::Store;
use fettle_core::plan::{HostPlan, Plan};
use fettle_core::policy::{HOSTS, PROOF};
use fettle_core::rollout::{
    HostState, MAX_GRANTS, Phase, Rollout, RolloutEvent, Says, TrafficState,
};
use fettle_core::testbed::Work;
use fettle_core::transaction::Outcome;
use fettle_core::{Digest, HostId, RolloutId, Timestamp};
use gates::red_hosts;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Collects what did not hold, and what came up.
pub(crate) struct Checker {
    seed: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) sometimes: BTreeMap<&'static str, u64>,
    /// Length of each log as last seen.
    logs: BTreeMap<RolloutId, usize>,
}

impl Checker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, violations: Vec::new(), sometimes: BTreeMap::new(), logs: BTreeMap::new() }
    }

    pub(crate) fn sometimes(&mut self, what: &'static str) {
        *self.sometimes.entry(what).or_insert(0) += 1;
    }

    pub(crate) fn violated(&mut self, at: Timestamp, invariant: &str, detail: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation {
                seed: self.seed,
                invariant: invariant.to_owned(),
                at,
                detail,
            });
        }
    }

    pub(super) fn must(
        &mut self,
        holds: bool,
        at: Timestamp,
        invariant: &str,
        detail: impl FnOnce() -> String,
    ) {
        if !holds {
            self.violated(at, invariant, detail());
        }
    }

    /// Events were persisted on top of `before`.
    pub(crate) fn written(
        &mut self,
        at: Timestamp,
        before: &Rollout,
        events: &[RolloutEvent],
        store: &Store,
    ) {
        let Some(row) = store.rollouts.get(&before.id) else { return };
        let known = self.logs.insert(before.id.clone(), row.events.len()).unwrap_or(1);
        self.must(row.events.len() == known + events.len(), at, "17 log", || {
            format!(
                "{}: {known} events and {} more are {}",
                before.id,
                events.len(),
                row.events.len()
            )
        });
        let mut state = before.clone();
        for event in events {
            let was = state.clone();
            if let Err(error) = state.apply(at, event) {
                return self.violated(at, "17 log", format!("{}: {error}", before.id));
            }
            self.event(at, &was, &state, event, store);
        }
        self.must(state == row.state, at, "18 nothing lost", || {
            format!("{}: kept another state", before.id)
        });
        self.must(state.hosts.keys().eq(state.plan.hosts.keys()), at, "19 conservation", || {
            format!("{}: hosts appear or vanish", before.id)
        });
        let in_states: u32 = state.counts().values().sum();
        self.must(in_states as usize == state.plan.hosts.len(), at, "19 conservation", || {
            format!("{:?}", state.counts())
        });
    }

    fn event(
        &mut self,
        at: Timestamp,
        was: &Rollout,
        state: &Rollout,
        event: &RolloutEvent,
        store: &Store,
    ) {
        self.terminal(at, was, state, event);
        if matches!(was.phase, Phase::Halted { .. }) && state.phase == Phase::Running {
            self.must(matches!(event, RolloutEvent::Resumed { .. }), at, "7 resume", || {
                format!("cleared by {event:?}")
            });
        }
        match event {
            RolloutEvent::Tested { .. } => self.sometimes("ring 0 passed"),
            RolloutEvent::Granted { host, generation, .. } => {
                if was.plan.testbed.as_ref().is_some_and(|rule| rule.required) {
                    // Whoever was never started and never will be asks for no test.
                    let may_start = |(id, _): &(&HostId, &HostPlan)| {
                        !matches!(was.hosts[*id].state, HostState::Cancelled { .. })
                    };
                    let works = was.plan.hosts.iter().filter(may_start).map(|(_, h)| Work::of(h));
                    let unproved = works.filter(|work| !store.proved.contains(work)).count();
                    self.must(unproved == 0, at, "30 ring 0", || {
                        format!("{host} starts, and {unproved} works were proved on no twin")
                    });
                }
                self.running(at, was, host);
                self.order(at, was, host);
                self.exercised(was, host);
                self.unbarred(was, host, store);
                self.let_begin(at, was, host);
                self.rested(at, was, host);
                let earlier = was.hosts[host].highest_generation();
                self.must(*generation > earlier, at, "12 generation", || {
                    format!("{host}: {generation} after {earlier}")
                });
                self.must(state.hosts[host].grants <= MAX_GRANTS, at, "20 bounded", || {
                    format!("{host}: grants")
                });
                self.alone(at, was, host, store, |run| run.at_work() || run.undo_at_work());
                self.unrecalled(at, was, host, store);
                let works = |other: &HostId| {
                    was.hosts.get(other).is_some_and(|run| {
                        run.at_work()
                            || run.undo_at_work()
                            || matches!(run.state, HostState::Quarantined { .. })
                    })
                };
                self.room(at, "1 budget", &was.plan, host, works, store);
                if was.plan.waves[was.wave as usize].rolling {
                    let at_once = |other: &HostId| works(other) || unwatched(was, other, store);
                    self.room(at, "26 one after another", &was.plan, host, at_once, store);
                }
            }
            RolloutEvent::Redeemed { host } => {
                self.running(at, was, host);
                self.alone(at, was, host, store, |run| {
                    run.state == HostState::Redeemed || run.undo_at_work()
                });
                self.unrecalled(at, was, host, store);
                let silent_after = was.plan.waves[was.wave as usize].gate.silent_after_seconds;
                let disrupted = |other: &HostId| {
                    store.hosts.contains_key(other) && store.disrupted(other, at, silent_after)
                };
                self.room(at, "1 budget", &was.plan, host, disrupted, store);
                let law = store.texts.get(&was.plan.policy_digest);
                let urgent = was.plan.hosts[host].ignore_windows;
                let law = law.filter(|_| !urgent && store.hosts.contains_key(host));
                let closed = law.is_some_and(|law| law.is_closed(at));
                self.must(!closed, at, "10 window", || {
                    format!("{host} redeemed outside its window")
                });
                let closes_at = law.and_then(|law| law.closes_at(at));
                self.no_blackout(at, was, store);
                let needs = store.foretold.get(host).copied().unwrap_or(0);
                let fits = closes_at.is_none_or(|closes_at| after(at, needs) <= closes_at);
                self.must(fits, at, "10 window", || {
                    format!("{host} needs {needs} s, and its window closes at {closes_at:?}")
                });
            }
            RolloutEvent::GatePassed { wave, judged, .. } => {
                self.gate(at, was, *wave, store);
                self.asked(at, was, *wave, judged, store);
                let next = was.plan.waves.get(*wave as usize + 1);
                if next.is_some_and(|next| next.traffic.is_some()) {
                    self.let_step(at, was, wave + 1);
                }
            }
            RolloutEvent::WaveApproved { wave, .. } => {
                let who = store.words.get(&(was.id.clone(), *wave));
                self.must(who.is_some_and(|w| *w != was.created_by), at, "32 word", || {
                    format!("wave {wave} of {} begins by {who:?}", was.id)
                });
            }
            RolloutEvent::UndoAsked { host, reason, .. } if reason != OPERATORS_REASON => {
                let may = red_hosts(was).contains(host);
                self.must(may, at, "33 red undone", || {
                    format!("{host} of {} is undone, and no policy says so", was.id)
                });
            }
            RolloutEvent::TrafficAsked { host, share, .. } => {
                let before = store.leads_before(&was.id);
                self.must(before.is_none(), at, "29 one leads", || {
                    format!("{} while {before:?} leads", was.id)
                });
                let law = store.texts.get(&was.plan.policy_digest);
                let any = was.plan.hosts.values().any(|host| host.ignore_windows);
                let urgent = was.plan.hosts.get(host).map_or(any, |host| host.ignore_windows);
                let closed = law.is_some_and(|law| law.is_closed(at)) && !urgent;
                let back = !matches!(was.phase, Phase::Running);
                self.must(back || !closed, at, "10 window", || {
                    format!("the requests of {host} move outside its window")
                });
                if matches!(was.phase, Phase::Halted { .. } | Phase::Aborted { .. }) && *share > 0 {
                    self.sometimes("traffic turned back");
                }
            }
            RolloutEvent::Silent { .. } => self.sometimes("silent host"),
            RolloutEvent::GrantExpired { .. } => self.sometimes("grant expired"),
            RolloutEvent::Cancelled { hold, .. } => {
                self.sometimes(if hold.code() == "host-changed" {
                    "host changed"
                } else {
                    "host cancelled"
                });
            }
            RolloutEvent::Halted { hold, judged } => {
                for bad in judged.iter().filter(|j| j.says == Says::Fails) {
                    match bad.check.as_str() {
                        HOSTS => {}
                        PROOF => self.sometimes("proof failed"),
                        _ => self.sometimes("check failed"),
                    }
                }
                let wave = was.wave;
                let open =
                    was.hosts.values().any(|run| run.wave == wave && !run.state.is_terminal());
                self.sometimes(if open { "halt in mid-wave" } else { "halt after a wave" });
                match hold.code() {
                    "gate-failed" => self.sometimes("gate failed"),
                    "recalled" => self.sometimes("recalled"),
                    _ => {}
                }
            }
            RolloutEvent::Ended { host, outcome } => {
                let undo = was.hosts[host].undo_at_work();
                match outcome {
                    Outcome::Undone { .. } if undo => self.sometimes("undone on request"),
                    Outcome::Undone { .. } => self.sometimes("automatic undo"),
                    Outcome::Quarantined { .. } => self.sometimes("quarantined host"),
                    Outcome::Refused { fault } if fault.is_not_now() => self.sometimes("not now"),
                    _ => {}
                }
            }
            // A bar may be a decision of its own, but nothing may come between the end and it.
            RolloutEvent::Barred { versions, cohorts, .. } => {
                let kept = |(package, version): &(String, String), cohort: &Digest| {
                    store.barred.contains_key(&(package.clone(), version.clone(), *cohort))
                };
                let known = versions.iter().all(|v| cohorts.iter().all(|c| kept(v, c)));
                self.must(known, at, "16 barred", || format!("{versions:?} not kept"));
            }
            _ => {}
        }
        if !matches!(event, RolloutEvent::Ended { .. } | RolloutEvent::Barred { .. }) {
            for (id, run) in &state.hosts {
                let bad = match run.state {
                    HostState::Undone { .. } => true,
                    HostState::Quarantined { .. } => !run.silent,
                    _ => false,
                };
                let changes = state
                    .plan
                    .hosts
                    .get(id)
                    .map(|h| h.order.changes.as_slice())
                    .unwrap_or_default();
                let barred =
                    changes.iter().all(|c| state.barred.contains(&(c.name.clone(), c.to.clone())));
                self.must(!bad || barred, at, "16 barred", || {
                    format!("{id} is {}, not barred", run.state.word())
                });
            }
        }
    }

    /// No day is closed, by the text of the plan or by the one in force.
    fn no_blackout(&mut self, at: Timestamp, was: &Rollout, store: &Store) {
        let texts = [store.texts.get(&was.plan.policy_digest), store.in_force(&was.plan.policy)];
        let today = at.to_zoned(TimeZone::UTC).date();
        let closed =
            |law: &&Law| law.policy.blackouts.iter().any(|b| b.from <= today && today <= b.to);
        let closed = texts.into_iter().flatten().find(closed);
        self.must(closed.is_none(), at, "10 window", || {
            format!("{} goes on in a blackout", was.id)
        });
    }

    fn unrecalled(&mut self, at: Timestamp, was: &Rollout, host: &HostId, store: &Store) {
        for change in &was.plan.hosts[host].order.changes {
            let recalled =
                store.recalls.iter().any(|r| r.package == change.name && r.version == change.to);
            self.must(!recalled, at, "16 recalled", || {
                format!("{host} is to get {} {}, which is recalled", change.name, change.to)
            });
        }
    }

    fn terminal(&mut self, at: Timestamp, was: &Rollout, state: &Rollout, event: &RolloutEvent) {
        for (id, run) in &state.hosts {
            let earlier = &was.hosts[id];
            if !earlier.state.is_terminal() || earlier.state == run.state {
                continue;
            }
            let evidence = earlier.silent && matches!(event, RolloutEvent::Ended { .. });
            let may = (evidence || earlier.undo_at_work()) && run.state.is_terminal();
            self.must(may, at, "9 terminal", || {
                format!("{id}: {:?} became {:?}", earlier.state, run.state)
            });
        }
    }

    fn running(&mut self, at: Timestamp, was: &Rollout, host: &HostId) {
        self.must(was.phase == Phase::Running, at, "6 halt", || {
            format!("{host} started while {}", was.phase.word())
        });
    }

    fn order(&mut self, at: Timestamp, was: &Rollout, host: &HostId) {
        let mine = was.hosts[host].wave;
        for run in was.hosts.values().filter(|run| run.wave < mine) {
            let passed = was.gates.contains_key(&run.wave);
            self.must(passed && run.state.is_terminal(), at, "2 order", || {
                format!("{host} before wave {}", run.wave)
            });
        }
    }

    fn alone(
        &mut self,
        at: Timestamp,
        was: &Rollout,
        host: &HostId,
        store: &Store,
        works: impl Fn(&fettle_core::rollout::HostRun) -> bool,
    ) {
        for (id, row) in store.rollouts.iter().filter(|(id, _)| **id != was.id) {
            let busy = row.state.hosts.get(host).is_some_and(&works);
            self.must(!busy, at, "5 one transaction per host", || {
                format!("{host}: {} and {id}", was.id)
            });
        }
    }

    fn room(
        &mut self,
        at: Timestamp,
        invariant: &str,
        plan: &Plan,
        host: &HostId,
        disrupted: impl Fn(&HostId) -> bool,
        store: &Store,
    ) {
        for budget in plan.budgets.iter().filter(|b| b.hosts.contains(host)) {
            let row = |id: &HostId| store.hosts.get(id);
            let asks = !budget.services.is_empty();
            let unwell = |id: &HostId| asks && row(id).is_some_and(|row| row.unwell);
            let others = budget.hosts.iter().filter(|other| *other != host);
            let others = others.filter(|other| disrupted(other) || unwell(other)).count();
            let limit = match budget.min_healthy {
                Some(least) => {
                    let there = budget.hosts.iter().filter(|id| row(id).is_some()).count();
                    (budget.max_unavailable as usize).min(there.saturating_sub(least as usize))
                }
                None => budget.max_unavailable as usize,
            };
            if others > 0 && budget.hosts.iter().any(unwell) {
                self.sometimes("starts beside an unwell host");
            }
            self.must(others < limit, at, invariant, || {
                format!("{host} is one too many: {others} of {limit} in {}", budget.name)
            });
        }
    }

    /// A blue/green rollout that has halted or was aborted before its last step had baked: the requests are where they
    /// were before it.
    pub(crate) fn way_back(
        &mut self,
        at: Timestamp,
        store: &Store,
        agents: &BTreeMap<HostId, Agent>,
    ) {
        for row in store.rollouts.values() {
            let state = &row.state;
            let stopped = matches!(state.phase, Phase::Halted { .. } | Phase::Aborted { .. });
            let Some(pools) = state.plan.pools.as_ref().filter(|_| stopped) else { continue };
            // Whoever led the traffic last answers for where it is.
            let later = store
                .rollouts
                .values()
                .any(|other| other.state.id > state.id && !other.state.traffic.is_empty());
            if later || !state.way_back_stands() || state.traffic.is_empty() {
                continue;
            }
            let share = |id: &&HostId| agents.get(*id).is_some_and(|a| a.share > 0);
            let there = |id: &&HostId| store.hosts.contains_key(*id);
            // Who could not be told is known: its order failed. Whoever left, or is quarantined, takes nothing back.
            let told = |id: &&HostId| {
                state.traffic.get(*id).is_some_and(|run| run.state == TrafficState::Set)
            };
            let able = |id: &&HostId| store.hosts.get(*id).is_some_and(|row| !row.quarantined);
            let all = || pools.serving.hosts.keys().filter(told).filter(able);
            let back = all().next().is_none() || all().any(|id| share(&id));
            self.must(back, at, "28 way back", || format!("{}: nobody serves", state.id));
            if all().next().is_none() {
                continue;
            }
            let left = pools.idle.hosts.keys().filter(there).filter(told).find(|id| share(id));
            self.must(left.is_none(), at, "28 way back", || {
                format!("{} is {}, and {left:?} still has requests", state.id, state.phase.word())
            });
        }
    }
}

/// Patched, and not seen to be well since: it bakes, or has not spoken after its bake.
fn unwatched(was: &Rollout, host: &HostId, store: &Store) -> bool {
    let Some(run) = was.hosts.get(host).filter(|run| run.state == HostState::Patched) else {
        return false;
    };
    // What an operator's resume excused asks for no word. Its bake has another check: the clock.
    let excused = was.excused_wave == Some(run.wave);
    let bake = was.plan.waves[run.wave as usize].gate.bake_seconds;
    let baked = run.ended_at.map(|at| after(at, bake));
    let spoke = store
        .hosts
        .get(host)
        .is_none_or(|row| row.last_seen > run.ended_at && row.last_seen >= baked);
    !excused && !spoke
}
