//! Rollouts: events persisted together with everything that follows from them.
//!
//! What follows from an event (a signed assignment, a withdrawal, a barred version) are rows of the same
//! database, so they are written in the transaction of the event itself: a crash leaves both or none, and there
//! is nothing to redo at the next start. The agent fetches its assignment; nothing is ever pushed.

use crate::app::{App, now};
use crate::gates;
use crate::notices;
use crate::spans::{traced, within};
use crate::views::reach;
use fettle_core::plan::Work;
use fettle_core::plan::spent::{expected, with_way_back, work_key};
use fettle_core::policy::{Policy, Pool, WindowState};
use fettle_core::rollout::{
    Effect, HostObservation, HostRun, HostState, IllegalEvent, Leader, Observations, Phase,
    Rollout, RolloutEvent, Sight, effects,
};
use fettle_core::testbed::Tests;
use fettle_core::transaction::Outcome;
use fettle_core::{AssignmentId, HostId, Problem, ProblemKind, RolloutId};
use fettle_store::{StoreError, Tx, View, assignments, barred, hosts, policies, recalls, rollouts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// How often a change of a rollout is tried again when another event came between look and write.
const ATTEMPTS: u32 = 8;

/// Folded states by rollout, so that not every look folds all events again. What counts is the store: a state
/// that is behind it is brought up to it.
#[derive(Default)]
pub(crate) struct Known(Mutex<BTreeMap<RolloutId, Arc<Rollout>>>);

impl Known {
    fn get(&self, id: &RolloutId) -> Option<Arc<Rollout>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Called after the commit. Two writers may come here in either order: the newer state stays.
    pub(crate) fn put(&self, state: &Arc<Rollout>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&state.id).is_none_or(|k| k.version < state.version) {
            known.insert(state.id.clone(), state.clone());
        }
    }
}

/// The state of a rollout as the view has it.
pub(crate) fn load(app: &App, view: &View<'_>, id: &RolloutId) -> Result<Arc<Rollout>, Problem> {
    let line = rollouts::get(view, id)?;
    let known = app.rollouts.get(id);
    if let Some(known) = known.as_ref().filter(|k| k.version == line.version) {
        return Ok(known.clone());
    }
    // A read that began before the last commit sees less than what is known: fold what it sees.
    let behind = known.filter(|k| k.version < line.version);
    let after = behind.as_ref().map_or(0, |k| k.version);
    let events = rollouts::events(view, id, after)?;
    let state = match behind {
        Some(known) => {
            let mut state = Arc::unwrap_or_clone(known);
            events
                .iter()
                .try_for_each(|e| state.apply(e.at, &e.event))
                .map_err(|e| damaged(id, &e))?;
            Some(state)
        }
        None => Rollout::replay(id, events.iter().map(|e| (e.at, &e.event)))
            .map_err(|e| damaged(id, &e))?,
    };
    let state = Arc::new(
        state.ok_or_else(|| StoreError::Missing { what: "rollout", name: id.to_string() })?,
    );
    if state.version != line.version {
        return Err(
            StoreError::Document { what: "rollout", detail: format!("{id} lacks events") }.into()
        );
    }
    app.rollouts.put(&state);
    Ok(state)
}

fn damaged(id: &RolloutId, error: &IllegalEvent) -> Problem {
    StoreError::Document { what: "rollout", detail: format!("{id}: {error}") }.into()
}

/// An operator asked for something that does not fit the rollout's state.
pub(crate) fn not_now(error: &IllegalEvent) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "rollout-state",
        error.why.clone(),
        "look at it with `fettle rollout show ID`",
    )
}

/// Applies events, keeps them on the condition that nobody else's came first, and does what follows.
pub(crate) fn advance(
    app: &App,
    tx: &mut Tx<'_>,
    state: &Rollout,
    events: &[RolloutEvent],
) -> Result<Arc<Rollout>, Problem> {
    let at = tx.now();
    let mut next = state.clone();
    let mut follow = Vec::new();
    for event in events {
        next.apply(at, event).map_err(|e| not_now(&e))?;
        follow.extend(effects(&next, at, event));
    }
    rollouts::append(tx, &next, events)?;
    for effect in follow {
        match effect {
            Effect::Assign(assignment) => {
                let signed = app.trust.signer.sign(&assignment);
                assignments::insert(tx, &assignment, &signed)?;
            }
            Effect::Withdraw(id) => assignments::withdraw(tx, &id)?,
            Effect::Bar { versions, cohorts, reason } => {
                barred::bar(tx, &next.id, &versions, &cohorts, &reason)?
            }
        }
    }
    for event in events {
        if let RolloutEvent::Ended { host, outcome: Outcome::Quarantined { reason } } = event {
            hosts::set_quarantine(tx, host, Some(reason))?;
        }
    }
    notices::queue(app, tx, &next, events)?;
    Ok(Arc::new(next))
}

/// After the commit: the state is known, whoever watches is told, and the driver looks again.
pub(crate) fn settled(app: &App, state: &Arc<Rollout>) {
    app.rollouts.put(state);
    app.events.tell("rollout", state.id.as_str());
    app.drive.notify_one();
    app.planning.notify_one();
    app.deliver.notify_one();
}

/// What somebody wants changed in a rollout: looked at and written in one transaction, and looked at anew when another
/// event came between.
pub(crate) fn amend(
    app: &App,
    actor: &str,
    id: &RolloutId,
    mut change: impl FnMut(&View<'_>, &Rollout) -> Result<Vec<RolloutEvent>, Problem>,
) -> Result<Arc<Rollout>, Problem> {
    let mut left = ATTEMPTS;
    let state = loop {
        let done = app.store.write::<_, Problem>(actor, now(), |tx| {
            let state = load(app, tx, id)?;
            let events = change(tx, &state)?;
            if events.is_empty() { Ok(state) } else { advance(app, tx, &state, &events) }
        });
        match done {
            Err(problem) if problem.code == "changed-meanwhile" && left > 0 => left -= 1,
            done => break done?,
        }
    };
    settled(app, &state);
    Ok(state)
}

/// The fleet as a rollout sees it: the hosts of its plan and of its budgets.
pub(crate) fn observe(
    app: &App,
    view: &View<'_>,
    state: &Rollout,
) -> Result<Observations, Problem> {
    let policy = plan_policy(view, state)?;
    let mut busy: BTreeMap<HostId, RolloutId> = BTreeMap::new();
    for (host, rollout) in assignments::at_work(view)? {
        if rollout != state.id {
            busy.insert(host, rollout);
        }
    }
    let budgeted = state.plan.budgets.iter().flat_map(|b| &b.hosts);
    let pooled = state.plan.pools.iter().flat_map(|p| p.hosts());
    let ids: BTreeSet<&HostId> = state.plan.hosts.keys().chain(budgeted).chain(pooled).collect();
    let now = now();
    let mut seen = Observations {
        listening_since: Some(app.started_at),
        pools_busy: leads_before(app, view, state)?,
        recalls: recalls::all(view)?,
        tests: match state.awaits_tests() {
            true => crate::testbed::tests_of(app, view, &state.plan)?,
            false => Tests::new(),
        },
        gate: app.gates.of(&state.id),
        ..Observations::default()
    };
    if let Some(proof) = gates::proof(view, state, now)? {
        seen.gate.insert(proof.check.clone(), proof);
    }
    let of_hosts = gates::host_tests::evidence(app, state, now);
    for evidence in of_hosts.chain(gates::measured::evidence(app, state, now)) {
        seen.gate.insert(evidence.check.clone(), evidence);
    }
    let in_force = policy_in_force(app, view, state)?;
    let window = |ignore: bool| {
        let mut window = match &policy {
            Some(policy) => policy.window_for(now, ignore),
            None => WindowState { hold: None, closes_at: None },
        };
        if let Some(in_force) = &in_force {
            window = window.held_by(in_force, now);
        }
        (window.hold, window.closes_at)
    };
    // One or the other counts for each host.
    let (usual, urgent) = (window(false), window(true));
    // Hosts of a pool that have nothing to do are led with the others.
    let is_urgent = state.plan.hosts.values().any(|host| host.ignore_windows);
    let mut takes = Takes::default();
    let mut pulses = hosts::pulses(view, &ids)?;
    let mut down = reach::down(app, view, &state.plan.budgets, &pulses)?;
    for id in ids {
        let Some(pulse) = pulses.remove(id) else { continue };
        let planned = state.plan.hosts.get(id);
        let ignore_windows = planned.map_or(is_urgent, |host| host.ignore_windows);
        let (window, closes_at) = if ignore_windows { urgent.clone() } else { usual.clone() };
        // Who has begun is not asked, nor who has foretold it; and where nothing closes, it may take as long as it likes.
        let waits = |run: &HostRun| run.state == HostState::Pending && run.foretold.is_none();
        let waits = closes_at.is_some() && state.hosts.get(id).is_some_and(waits);
        let takes_seconds = match planned.filter(|_| waits) {
            Some(planned) => takes.of(app, view, &planned.work)?,
            None => 0,
        };
        seen.hosts.insert(
            id.clone(),
            HostObservation {
                last_seen: app.last_seen(id, pulse.last_seen),
                cohort: pulse.cohort,
                generation: pulse.generation,
                quarantined: pulse.quarantined,
                busy: busy.remove(id),
                window,
                closes_at,
                takes_seconds,
                down: down.remove(id).unwrap_or_default(),
            },
        );
    }
    Ok(seen)
}

/// The rollout that was created before this one, has not ended, and leads the traffic of some of the same hosts.
fn leads_before(app: &App, view: &View<'_>, state: &Rollout) -> Result<Option<Leader>, Problem> {
    if state.plan.pools.is_none() {
        return Ok(None);
    }
    for line in rollouts::unfinished(view)? {
        if line.id == state.id {
            break;
        }
        let other = load(app, view, &line.id)?;
        if other.ended_at.is_none() && other.leads_with(state) {
            return Ok(Some(Leader { rollout: line.id, phase: other.phase.word() }));
        }
    }
    Ok(None)
}

/// Blue/green: the pool that the policy's rollouts have left the traffic with. `None`: none of them has led it.
pub(crate) fn serving(app: &App, view: &View<'_>, policy: &str) -> Result<Option<Pool>, Problem> {
    for line in rollouts::all(view)? {
        let state = load(app, view, &line.id)?;
        let Some(pools) = state.plan.pools.as_ref().filter(|_| state.plan.policy == policy) else {
            continue;
        };
        if state.traffic.is_empty() {
            continue;
        }
        // Anywhere between the two, the pool that had it is the one that is not being tried.
        let past = state.phase == Phase::Done || !state.way_back_stands();
        let there = state.traffic_aim() == Some(100) && past;
        let name = if there { &pools.idle.name } else { &pools.serving.name };
        return Ok([Pool::Blue, Pool::Green].into_iter().find(|pool| pool.word() == name));
    }
    Ok(None)
}

/// The policy text the plan was made by: a later change of the policy does not change a rollout.
fn plan_policy(view: &View<'_>, state: &Rollout) -> Result<Option<Policy>, Problem> {
    let record = policies::by_digest(view, &state.plan.policy, state.plan.policy_digest)?;
    record.map(|r| crate::policies::parse(&r.text)).transpose()
}

/// The policy of that name as it is in force, where that is another text than the plan's. One that cannot be read is no
/// leave to go on.
fn policy_in_force(app: &App, view: &View<'_>, state: &Rollout) -> Result<Option<Policy>, Problem> {
    let record = match policies::get(view, &state.plan.policy) {
        Err(StoreError::Missing { .. }) => return Ok(None),
        record => record?,
    };
    if record.digest == state.plan.policy_digest {
        return Ok(None);
    }
    let known = app.policies();
    let known = known.parsed.iter().find(|policy| policy.digest == record.digest);
    known.map_or_else(|| crate::policies::parse(&record.text), |it| Ok(it.clone())).map(Some)
}

/// How long each work of a plan may take by what was learned, once for all hosts that have it.
#[derive(Default)]
struct Takes(BTreeMap<*const Work, u64>);

impl Takes {
    /// In seconds, from the grant to the end of a way back; 0: nothing was learned yet.
    fn of(&mut self, app: &App, view: &View<'_>, work: &Arc<Work>) -> Result<u64, Problem> {
        if let Some(known) = self.0.get(&Arc::as_ptr(work)) {
            return Ok(*known);
        }
        let (spent, changes) = (reach::spent_lately(app, view)?, &work.order.changes);
        let expected = expected(&spent, changes.len() as u64, work_key(changes));
        let seconds = expected.map_or(0, |it| with_way_back(it.long_seconds));
        self.0.insert(Arc::as_ptr(work), seconds);
        Ok(seconds)
    }
}

/// A decision says one thing at a time; this many in a row are more than any plan needs.
const MOST_IN_A_ROW: usize = 10_000;

/// The events without the orders that can never be written, since the host holds their number already; and whether a host
/// was marked for that. The others of a rollout do not wait for one whose numbers make no sense.
fn writable(
    app: &App,
    tx: &mut Tx<'_>,
    mut events: Vec<RolloutEvent>,
) -> Result<(Vec<RolloutEvent>, bool), Problem> {
    let (mut taken, mut marked) = (BTreeSet::new(), false);
    for event in &events {
        let Some((host, assignment, generation)) = ordered(event) else { continue };
        let by = assignments::by_generation(tx, host, generation)?;
        if let Some(by) = by.filter(|by| by != assignment) {
            let reason = format!(
                "no order for it can be written: its generation {generation} is held by {by} already"
            );
            if hosts::set_quarantine(tx, host, Some(&reason))? {
                notices::marked(app, tx, host, &reason)?;
                marked = true;
            }
            taken.insert(host.clone());
        }
    }
    events.retain(|event| ordered(event).is_none_or(|(host, ..)| !taken.contains(host)));
    Ok((events, marked))
}

/// The order that an event gives.
fn ordered(event: &RolloutEvent) -> Option<(&HostId, &AssignmentId, u64)> {
    match event {
        RolloutEvent::Granted { host, assignment, generation, .. }
        | RolloutEvent::UndoAsked { host, assignment, generation, .. }
        | RolloutEvent::TrafficAsked { host, assignment, generation, .. } => {
            Some((host, assignment, *generation))
        }
        _ => None,
    }
}

/// Drives one rollout as far as it goes now. Gives when to look again even if nothing happens. Killed anywhere
/// and run again, it goes on where the store stands.
pub(crate) fn drive(app: &App, id: &RolloutId) -> Result<Option<fettle_core::Timestamp>, Problem> {
    let mut left = ATTEMPTS;
    for _ in 0..MOST_IN_A_ROW {
        let span = traced!("decide", rollout = %id, events = tracing::field::Empty);
        let (state, decision) = within(span, || {
            app.store.read::<_, Problem>(|view| {
                let state = load(app, view, id)?;
                let sight = Sight::of(&state, observe(app, view, &state)?);
                let decision = state.next(now(), &sight);
                tracing::Span::current().record("events", decision.events.len());
                Ok((state, decision))
            })
        })?;
        if decision.events.is_empty() {
            return Ok(decision.wake_at);
        }
        let written = app.store.write::<_, Problem>("server", now(), |tx| {
            let (events, marked) = writable(app, tx, decision.events.clone())?;
            let next = if marked || events.is_empty() {
                None
            } else {
                Some(advance(app, tx, &state, &events)?)
            };
            Ok((next, events, marked))
        });
        match written {
            Ok((Some(next), events, _)) => {
                left = ATTEMPTS;
                for event in &events {
                    tracing::info!(rollout = %id, event = event.word(), "decided");
                }
                app.rollouts.put(&next);
                app.events.tell("rollout", id.as_str());
                app.deliver.notify_one();
            }
            // Decided anew, without those who were marked.
            Ok((None, _, true)) => {
                app.events.tell("rollout", id.as_str());
                app.deliver.notify_one();
            }
            // Nobody is left who could be told anything.
            Ok((None, _, false)) => return Ok(decision.wake_at),
            // A report came first: look at what it changed.
            Err(problem) if problem.code == "changed-meanwhile" && left > 0 => left -= 1,
            Err(problem) => return Err(problem),
        }
    }
    Ok(None)
}

/// The unfinished rollouts that have this host in their plan, and where it stands there.
pub(crate) fn of_host(
    app: &App,
    view: &View<'_>,
    host: &HostId,
) -> Result<Vec<Arc<Rollout>>, Problem> {
    let mut out = Vec::new();
    for line in rollouts::unfinished(view)? {
        let state = load(app, view, &line.id)?;
        if state.hosts.contains_key(host) || state.plan.pools.as_ref().is_some_and(|p| p.has(host))
        {
            out.push(state);
        }
    }
    Ok(out)
}
