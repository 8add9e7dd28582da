//! The simulated server: a store of versioned rows, and what handlers do in one transaction each.

use crate::Sabotage;
use crate::fleet::after;
use crate::gates::{self, Given, Said, Told, TrulyMeasured, TrulyRan};
use crate::packages::{Holding, Kinds};
use crate::policies::Law;
use crate::upstream::Feed;
use fettle_core::assignment::{Assignment, Order, Probe};
use fettle_core::cycle::CycleRun;
use fettle_core::finding::Finding;
use fettle_core::host::Labels;
use fettle_core::inventory::Inventory;
use fettle_core::plan::Plan;
use fettle_core::plan::approval::Approval;
use fettle_core::policy::{Pool, WindowState};
use fettle_core::recall::Recall;
use fettle_core::rollout::{
    Effect, GateEvidence, HostAsk, HostObservation, HostRan, HostState, IllegalEvent, Leader,
    Observations, Phase, Rollout, RolloutEvent, Sample, effects,
};
use fettle_core::testbed::{Tests, Verdict, Work};
use fettle_core::transaction::{Entry, Outcome, TxEvent};
use fettle_core::{AssignmentId, Digest, Hold, HostId, RolloutId, Shared, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A host's row.
#[derive(Debug, Clone)]
pub(crate) struct HostRow {
    pub(crate) labels: Labels,
    pub(crate) enrolled_at: Timestamp,
    pub(crate) last_seen: Option<Timestamp>,
    /// What it last said of its packages.
    pub(crate) holding: Option<Holding>,
    pub(crate) inventory: Option<Arc<Inventory>>,
    pub(crate) cohort: Option<Digest>,
    pub(crate) generation: u64,
    pub(crate) quarantined: bool,
    /// [`SERVICE`](crate::fleet::SERVICE) is not active.
    pub(crate) unwell: bool,
}

/// A plan's row.
#[derive(Debug, Clone)]
pub(crate) struct PlanRow {
    pub(crate) plan: Arc<Plan>,
    pub(crate) digest: Digest,
    /// The principal who made it.
    pub(crate) made_by: String,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) rollout: Option<RolloutId>,
}

/// An assignment's row.
#[derive(Debug, Clone)]
pub(crate) struct AssignmentRow {
    pub(crate) assignment: Assignment,
    /// Neither withdrawn nor ended.
    pub(crate) stands: bool,
}

/// A rollout's rows: the events are what is kept, the state is the fold of them.
#[derive(Debug, Clone)]
pub(crate) struct RolloutRow {
    pub(crate) events: Vec<(Timestamp, RolloutEvent)>,
    pub(crate) state: Rollout,
}

impl RolloutRow {
    /// May anything follow from looking at it?
    pub(crate) fn is_to_be_looked_at(&self) -> bool {
        !self.state.is_settled() || self.state.hosts.values().any(|run| run.silent)
    }
}

/// When hosts of a policy may be changed: asked for with each look, and the same for long.
type Windows = BTreeMap<(Digest, Digest, bool), (Timestamp, Timestamp, WindowState)>;

/// What survives a crash of every server process.
#[derive(Debug)]
pub(crate) struct Store {
    /// Policies in force.
    pub(crate) laws: Vec<Law>,
    /// Every edition that ever was in force, by its digest.
    pub(crate) texts: BTreeMap<Digest, Law>,
    /// The vendor's words in force.
    pub(crate) feed: Feed,
    pub(crate) kinds: Kinds,
    /// What is found on hosts that hold the same, by the feed in force and without exceptions.
    found: RefCell<BTreeMap<Holding, Findings>>,
    windows: RefCell<Windows>,
    pub(crate) plans: BTreeMap<u64, PlanRow>,
    /// Policy → digest of the plan that took effect last.
    pub(crate) current: BTreeMap<String, Digest>,
    /// Policy → the newest run of its cycle.
    pub(crate) cycles: BTreeMap<String, CycleRun>,
    pub(crate) started: u64,
    pub(crate) hosts: BTreeMap<HostId, HostRow>,
    pub(crate) rollouts: BTreeMap<RolloutId, RolloutRow>,
    pub(crate) assignments: BTreeMap<AssignmentId, AssignmentRow>,
    /// Host and generation are unique, as an index of the database sees to.
    pub(crate) generations: BTreeSet<(HostId, u64)>,
    pub(crate) journals: BTreeMap<AssignmentId, Vec<Entry>>,
    /// (package, version, cohort) → why.
    pub(crate) barred: BTreeMap<(String, String, Digest), String>,
    /// The newest test of each work.
    pub(crate) tests: Tests,
    /// Works of which a whole twin has taken the change and its undo at some time: for the checker, not for the core.
    pub(crate) proved: BTreeSet<Work>,
    pub(crate) recalls: Vec<Recall>,
    /// How long each host truly said last that its change takes: for the checker.
    pub(crate) foretold: BTreeMap<HostId, u64>,
    /// What evaluators said last: in the memory of the processes, so gone with any crash.
    pub(crate) evidence: BTreeMap<(RolloutId, String), GateEvidence>,
    /// All that was ever truly said: for the checker.
    pub(crate) given: Vec<Given>,
    /// What each host said last of the tests that it is asked to run: in the memory of the processes as well.
    pub(crate) said: BTreeMap<HostId, BTreeMap<String, HostRan>>,
    /// All tests that truly ran: for the checker.
    pub(crate) ran: Vec<TrulyRan>,
    /// What hosts told last that they measured: in the memory of the processes as well.
    pub(crate) measured: BTreeMap<(RolloutId, HostId), Vec<Sample>>,
    /// All that was ever truly measured: for the checker.
    pub(crate) truly_measured: Vec<TrulyMeasured>,
    /// Whose word it truly was that let a wave begin: for the checker.
    pub(crate) words: BTreeMap<(RolloutId, u32), String>,
}

/// Why a write came to nothing.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// Somebody else's events came first.
    Stale,
    /// The generation was given to this host before, by another rollout.
    GenerationTaken,
    /// The event does not fit the state.
    Illegal(IllegalEvent),
}

/// What the plan does not have for the host.
fn swap_order(effect: &mut Effect) {
    if let Effect::Assign(assignment) = effect
        && let Order::Apply(order) = &mut assignment.order
    {
        order.changes.truncate(1);
        order.probes.push(Probe::Command { name: "extra".to_owned() });
    }
}

/// The findings of a host, kept once.
pub(crate) type Findings = Arc<[Shared<Finding>]>;

impl Store {
    pub(crate) fn new(laws: Vec<Law>, feed: Feed) -> Self {
        Self {
            texts: laws.iter().map(|law| (law.policy.digest, law.clone())).collect(),
            laws,
            feed,
            kinds: Kinds::default(),
            found: RefCell::default(),
            windows: RefCell::default(),
            plans: BTreeMap::new(),
            current: BTreeMap::new(),
            cycles: BTreeMap::new(),
            started: 0,
            hosts: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            assignments: BTreeMap::new(),
            generations: BTreeSet::new(),
            journals: BTreeMap::new(),
            barred: BTreeMap::new(),
            tests: Tests::new(),
            proved: BTreeSet::new(),
            recalls: Vec::new(),
            foretold: BTreeMap::new(),
            evidence: BTreeMap::new(),
            given: Vec::new(),
            said: BTreeMap::new(),
            ran: Vec::new(),
            measured: BTreeMap::new(),
            truly_measured: Vec::new(),
            words: BTreeMap::new(),
        }
    }

    /// What is found on a host that holds that, by the feed in force.
    pub(crate) fn found(&self, holding: &Holding) -> Findings {
        let mut known = self.found.borrow_mut();
        let new = || match self.kinds.known(holding) {
            Some(inventory) => {
                self.feed.judge(inventory, &[]).into_iter().map(Into::into).collect()
            }
            None => Arc::from([]),
        };
        known.entry(*holding).or_insert_with(new).clone()
    }

    /// The vendor's words are read anew.
    pub(crate) fn import(&mut self, feed: Feed) {
        self.feed = feed;
        self.found.borrow_mut().clear();
    }

    /// The text that is in force of a policy.
    pub(crate) fn in_force(&self, policy: &str) -> Option<&Law> {
        self.laws.iter().find(|law| law.policy.name == policy)
    }

    /// May hosts of this plan be changed now? By the text it was made by; what is in force now may hold them as well.
    fn window(&self, plan: &Plan, ignore: bool, now: Timestamp) -> WindowState {
        let open = WindowState { hold: None, closes_at: None };
        let Some(text) = self.texts.get(&plan.policy_digest) else { return open };
        let newer =
            self.in_force(&plan.policy).filter(|law| law.policy.digest != plan.policy_digest);
        let key =
            (plan.policy_digest, newer.map_or(plan.policy_digest, |law| law.policy.digest), ignore);
        let mut windows = self.windows.borrow_mut();
        if let Some((from, until, state)) = windows.get(&key)
            && *from <= now
            && now < *until
        {
            return state.clone();
        }
        let mut state = text.policy.window_for(now, ignore);
        if let Some(newer) = newer {
            state = state.held_by(&newer.policy, now);
        }
        let until = match &state.hold {
            Some(Hold::WindowClosed { opens_at }) => *opens_at,
            Some(Hold::Blackout { until, .. }) => Some(*until),
            _ => state.closes_at,
        };
        // A blackout that has not begun closes an open window, and `closes_at` says when.
        windows.insert(key, (now, until.unwrap_or(Timestamp::MAX), state.clone()));
        state
    }

    /// Blue/green: the pool that the policy's rollouts have left the traffic with.
    pub(crate) fn serving(&self, policy: &str) -> Option<Pool> {
        for row in self.rollouts.values().rev() {
            let state = &row.state;
            let Some(pools) = state.plan.pools.as_ref().filter(|_| state.plan.policy == policy)
            else {
                continue;
            };
            if state.traffic.is_empty() {
                continue;
            }
            let past = state.phase == Phase::Done || !state.way_back_stands();
            let there = state.traffic_aim() == Some(100) && past;
            let name = if there { &pools.idle.name } else { &pools.serving.name };
            return [Pool::Blue, Pool::Green].into_iter().find(|pool| pool.word() == name);
        }
        None
    }

    /// Hosts that a rollout still wants something of.
    pub(crate) fn busy(&self) -> BTreeMap<HostId, RolloutId> {
        let mut busy = BTreeMap::new();
        for (id, row) in self.rollouts.iter().filter(|(_, row)| !row.state.is_settled()) {
            busy.extend(row.state.hosts.open().map(|(host, _)| (host.clone(), id.clone())));
        }
        busy
    }

    /// One transaction: events appended on the condition that the rollout has not moved on since `version`,
    /// and their effects, all or nothing.
    pub(crate) fn write(
        &mut self,
        at: Timestamp,
        id: &RolloutId,
        version: u64,
        events: &[RolloutEvent],
        sabotage: Option<Sabotage>,
    ) -> Result<(), NotWritten> {
        let Some(row) = self.rollouts.get(id) else { return Err(NotWritten::Stale) };
        let mut kept = row.events.len();
        let mut next = row.state.clone();
        if next.version != version {
            if sabotage != Some(Sabotage::AcceptStale) {
                return Err(NotWritten::Stale);
            }
            // The unconditional write: what the stale executor knew, and its events on top.
            kept = version as usize;
            let known = row.events[..kept].iter().map(|(at, e)| (*at, e));
            next = Rollout::replay(id, known).ok().flatten().ok_or(NotWritten::Stale)?;
        }
        let mut follow = Vec::new();
        for event in events {
            next.apply(at, event).map_err(NotWritten::Illegal)?;
            follow.extend(effects(&next, at, event));
        }
        let lax = matches!(
            sabotage,
            Some(Sabotage::DoubleGrant | Sabotage::AcceptStale | Sabotage::IgnoreGenerations)
        );
        for effect in &follow {
            if let Effect::Assign(a) = effect
                && !lax
                && self.generations.contains(&(a.host.clone(), a.generation))
            {
                return Err(NotWritten::GenerationTaken);
            }
        }
        if sabotage == Some(Sabotage::SwapOrders) {
            follow.iter_mut().for_each(swap_order);
        }
        follow.iter().for_each(|effect| self.follow(effect));
        for event in events {
            if let RolloutEvent::Ended { host, outcome: Outcome::Quarantined { .. } } = event
                && let Some(row) = self.hosts.get_mut(host)
            {
                row.quarantined = true;
            }
        }
        if let Some(row) = self.rollouts.get_mut(id) {
            row.events.truncate(kept);
            row.events.extend(events.iter().map(|e| (at, e.clone())));
            row.state = next;
        }
        Ok(())
    }

    /// Harmless to do again.
    pub(crate) fn follow(&mut self, effect: &Effect) {
        match effect {
            Effect::Assign(assignment) => {
                self.generations.insert((assignment.host.clone(), assignment.generation));
                if let Some(host) = self.hosts.get_mut(&assignment.host) {
                    host.generation = host.generation.max(assignment.generation);
                }
                let row = AssignmentRow { assignment: (**assignment).clone(), stands: true };
                self.assignments.entry(assignment.id.clone()).or_insert(row);
            }
            Effect::Withdraw(id) => {
                if let Some(row) = self.assignments.get_mut(id) {
                    row.stands = false;
                }
            }
            Effect::Bar { versions, cohorts, reason } => {
                for ((package, version), cohort) in
                    versions.iter().flat_map(|v| cohorts.iter().map(move |c| (v, c)))
                {
                    let key = (package.clone(), version.clone(), *cohort);
                    self.barred.entry(key).or_insert_with(|| reason.clone());
                }
            }
        }
    }

    /// The fleet as this rollout sees it, as the server's handlers gather it.
    pub(crate) fn observe(
        &self,
        now: Timestamp,
        rollout: &RolloutId,
        listening_since: Option<Timestamp>,
        sabotage: Option<Sabotage>,
    ) -> Observations {
        let mut busy: BTreeMap<&HostId, &RolloutId> = BTreeMap::new();
        for (id, row) in self.rollouts.iter().filter(|(id, _)| *id != rollout) {
            let at_work = |host: &&HostId| row.state.standing_assignment(host).is_some();
            let known = row.state.hosts.keys().chain(row.state.traffic.keys());
            busy.extend(known.filter(at_work).map(|host| (host, id)));
        }
        if sabotage == Some(Sabotage::DoubleGrant) {
            busy.clear();
        }
        let plan = self.rollouts.get(rollout).map(|row| &row.state.plan);
        let open = WindowState { hold: None, closes_at: None };
        let window = |ignore| match plan {
            Some(plan) if sabotage != Some(Sabotage::IgnoreWindows) => {
                self.window(plan, ignore, now)
            }
            _ => open.clone(),
        };
        let (usual, urgent) = (window(false), window(true));
        let any_urgent = plan.is_some_and(|plan| plan.hosts.values().any(|h| h.ignore_windows));
        let hosts = self.hosts.iter().map(|(id, row)| {
            let planned = plan.and_then(|plan| plan.hosts.get(id));
            let ignore = planned.map_or(any_urgent, |host| host.ignore_windows);
            let WindowState { hold: window, closes_at } =
                if ignore { urgent.clone() } else { usual.clone() };
            let down = row.unwell && sabotage != Some(Sabotage::ForgetHealth);
            let seen = HostObservation {
                last_seen: row.last_seen,
                cohort: row.cohort,
                generation: row.generation,
                quarantined: row.quarantined,
                busy: busy.get(id).map(|r| (*r).clone()),
                window,
                closes_at,
                // Nothing was learned of others: what a host foretells itself counts.
                takes_seconds: 0,
                down: down.then(|| crate::fleet::SERVICE.to_owned()).into_iter().collect(),
            };
            (id.clone(), seen)
        });
        let pools_busy = if sabotage == Some(Sabotage::LeadTogether) {
            None
        } else {
            let leads = self.leads_before(rollout).and_then(|id| self.rollouts.get(id));
            leads.map(|row| Leader { rollout: row.state.id.clone(), phase: row.state.phase.word() })
        };
        let tests = if sabotage == Some(Sabotage::SkipTests) {
            let plan = self.rollouts.get(rollout).map(|row| &row.state.plan);
            let works = plan.into_iter().flat_map(|plan| plan.hosts.values().map(Work::of));
            works.map(|work| (work, crate::twins::ended(now, Verdict::Passed, 10))).collect()
        } else {
            self.tests.clone()
        };
        let recalls = if sabotage == Some(Sabotage::ForgetRecalls) {
            Vec::new()
        } else {
            self.recalls.clone()
        };
        let said = self.evidence.iter().filter(|((id, _), _)| id == rollout);
        let mut gate: BTreeMap<String, GateEvidence> =
            said.map(|((_, check), evidence)| (check.clone(), evidence.clone())).collect();
        let row = self.rollouts.get(rollout);
        if let Some(proof) = row.and_then(|row| gates::proof(self, &row.state, now)) {
            gate.insert(proof.check.clone(), proof);
        }
        if let Some(row) = row {
            let ran = gates::ran(self, &row.state, now);
            let measured = gates::measured(self, &row.state, now);
            let of_hosts = ran.into_iter().chain(measured);
            gate.extend(of_hosts.map(|evidence| (evidence.check.clone(), evidence)));
        }
        let mut seen = Observations {
            hosts: hosts.collect(),
            listening_since,
            pools_busy,
            tests,
            recalls,
            gate,
        };
        match (sabotage, row) {
            (Some(Sabotage::TrustSilence), Some(row)) => gates::make_up(&row.state, &mut seen, now),
            (Some(Sabotage::TrustTheOld), Some(row)) => gates::restamp(&row.state, &mut seen, now),
            _ => {}
        }
        seen
    }

    /// The rollout before this one that leads the same traffic and has not ended.
    pub(crate) fn leads_before(&self, rollout: &RolloutId) -> Option<&RolloutId> {
        let own = &self.rollouts.get(rollout)?.state;
        let leads = |row: &RolloutRow| row.state.ended_at.is_none() && row.state.leads_with(own);
        // They are named in the order in which they were created.
        self.rollouts.iter().find(|(id, row)| *id < rollout && leads(row)).map(|(id, _)| id)
    }

    /// Takes journal records that follow those it has; gives how many it has.
    pub(crate) fn take_report(&mut self, assignment: &AssignmentId, entries: &[Entry]) -> u64 {
        let journal = self.journals.entry(assignment.clone()).or_default();
        for entry in entries {
            if entry.sequence == journal.len() as u64 {
                journal.push(entry.clone());
            }
        }
        let ended = journal.iter().any(|e| matches!(e.event, TxEvent::Ended { .. }));
        let count = journal.len() as u64;
        if ended && let Some(row) = self.assignments.get_mut(assignment) {
            row.stands = false;
        }
        count
    }

    /// What the gates ask of a host now, and what it says of that.
    pub(crate) fn ask(&mut self, host: &HostId, said: Vec<Said>, now: Timestamp) -> Vec<HostAsk> {
        let rows = self.rollouts.values();
        let asks: Vec<HostAsk> = rows.flat_map(|row| row.state.asks_of(host, now)).collect();
        let ago = |seconds: i64| now - jiff::SignedDuration::from_secs(seconds);
        let asked = said.into_iter().filter(|said| asks.iter().any(|ask| ask.ask == said.ask));
        let heard = asked.map(|said| {
            let (began_at, ended_at) = (ago(said.began_ago), ago(said.ended_ago));
            (said.ask, HostRan { began_at, ended_at, came: said.came })
        });
        self.said.insert(host.clone(), heard.collect());
        asks
    }

    /// Takes what a host told that it measured; gives of which rollouts somebody looks at that, each with the time from
    /// which its wave is changed.
    pub(crate) fn measure(
        &mut self,
        host: &HostId,
        told: Vec<Told>,
    ) -> Vec<(RolloutId, Timestamp)> {
        for Told { rollout, samples } in told {
            self.measured.insert((rollout, host.clone()), samples);
        }
        let looked = |(id, row): (&RolloutId, &RolloutRow)| {
            let mut measures = row.state.measures().into_iter();
            let of_it = measures.any(|m| m.patched.contains(&host) || m.controls.contains(&host));
            of_it.then_some((id.clone(), row.state.changing_since()?))
        };
        self.rollouts.iter().filter_map(looked).collect()
    }

    /// The newest assignment of a host that stands.
    pub(crate) fn assignment_of(&self, host: &HostId) -> Option<&Assignment> {
        let of_host =
            self.assignments.values().filter(|row| row.stands && row.assignment.host == *host);
        of_host.map(|row| &row.assignment).max_by_key(|a| a.generation)
    }

    /// Folds every rollout anew from what was kept.
    pub(crate) fn refold(&self) -> BTreeMap<RolloutId, Option<Rollout>> {
        let fold = |(id, row): (&RolloutId, &RolloutRow)| {
            let events = row.events.iter().map(|(at, e)| (*at, e));
            (id.clone(), Rollout::replay(id, events).ok().flatten())
        };
        self.rollouts.iter().map(fold).collect()
    }

    /// Hosts that cannot do their work, or may not, by what the server knows: for the checker, not for the core.
    pub(crate) fn disrupted(&self, host: &HostId, now: Timestamp, silent_after: u64) -> bool {
        let by_rollout =
            self.rollouts.values().filter_map(|row| row.state.hosts.get(host)).any(|run| {
                run.undo_at_work() || matches!(run.state, HostState::Redeemed) || run.silent
            });
        let by_itself = self.hosts.get(host).is_some_and(|row| {
            row.quarantined || row.last_seen.is_none_or(|at| after(at, silent_after) < now)
        });
        by_rollout || by_itself
    }

    /// Every rollout has ended, or halted with nobody at work; and every host of the fleet that fell silent has
    /// said how it ended.
    pub(crate) fn at_rest(&self) -> bool {
        self.rollouts.values().all(|row| {
            let halted = matches!(row.state.phase, Phase::Halted { .. });
            let still = row.state.hosts.iter().all(|(id, run)| {
                let waits = halted && run.state == HostState::Pending;
                (waits || run.is_over()) && !(run.silent && self.hosts.contains_key(id))
            });
            let moving = row
                .state
                .traffic
                .keys()
                .any(|id| self.hosts.contains_key(id) && row.state.traffic_moves(id));
            still && !moving && (row.state.ended_at.is_some() || halted)
        })
    }
}
