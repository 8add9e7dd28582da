//! Rollouts, as lists and pages show them.

use crate::app::App;
use fettle_core::rollout::{HostRun, HostState, Rollout, RolloutEvent, Waiting};
use fettle_core::transaction::Progress;
use fettle_core::{Hold, HostId, Problem, RolloutId};
use fettle_store::{View, rollouts as stored, transactions};
use fettle_wire::api::{
    RolloutDetail, RolloutEventRow, RolloutHost, RolloutLane, RolloutRow, RolloutTraffic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many events a rollout's page shows: the last ones.
const EVENTS: u64 = 500;

/// All rollouts, newest first.
pub(crate) fn rollouts(app: &App, view: &View<'_>) -> Result<Vec<RolloutRow>, Problem> {
    stored::all(view)?
        .iter()
        .map(|line| Ok(rollout_row(&*crate::rollouts::load(app, view, &line.id)?)))
        .collect()
}

/// A rollout in a list.
pub(crate) fn rollout_row(state: &Rollout) -> RolloutRow {
    RolloutRow {
        id: state.id.clone(),
        policy: state.plan.policy.clone(),
        plan: state.plan.number,
        phase: state.phase.clone(),
        wave: state.wave,
        waves: state.plan.waves.len() as u32,
        hosts_by_state: state
            .counts()
            .into_iter()
            .map(|(word, n)| (word.to_owned(), u64::from(n)))
            .collect(),
        created_at: state.created_at,
        created_by: state.created_by.clone(),
        ended_at: state.ended_at,
    }
}

/// Which hosts of a rollout are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HostsShown {
    /// All of them.
    #[default]
    All,
    /// Those at work, and those that ended in another way than patched.
    Moving,
}

impl HostsShown {
    fn shows(self, run: &HostRun) -> bool {
        match (self, &run.state) {
            (Self::All, _) => true,
            (Self::Moving, HostState::Pending | HostState::Cancelled { .. }) => false,
            (Self::Moving, HostState::Patched) => run.undo_at_work(),
            (Self::Moving, _) => true,
        }
    }
}

/// A rollout, with these hosts.
pub(crate) fn rollout(
    app: &App,
    view: &View<'_>,
    id: &RolloutId,
    shown: HostsShown,
) -> Result<RolloutDetail, Problem> {
    let state = crate::rollouts::load(app, view, id)?;
    let seen = crate::rollouts::observe(app, view, &state)?;
    let at = crate::app::now();
    let decision = state.decide(at, &seen);
    let mut hosts = Vec::new();
    for (host, run) in state.hosts.iter().filter(|(_, run)| shown.shows(run)) {
        let journal = match &run.assignment {
            Some(assignment) => transactions::of_assignment(view, host, assignment)?,
            None => None,
        };
        let transaction = journal.and_then(|j| Progress::fold(&j.entries).ok().flatten());
        let steps = transaction.iter().flat_map(|t| &t.finished);
        let steps: BTreeMap<_, _> =
            steps.map(|(step, facts)| (step.word().to_owned(), facts.clone())).collect();
        hosts.push(RolloutHost {
            id: host.clone(),
            name: state.plan.hosts.get(host).map_or_else(|| host.to_string(), |h| h.name.clone()),
            run: run.clone(),
            transaction,
            steps,
        });
    }
    hosts.sort_by(|a, b| (a.run.wave, &a.name).cmp(&(b.run.wave, &b.name)));
    let events = stored::events(view, id, state.version.saturating_sub(EVENTS))?;
    // Few hosts refuse anything, and a rollout may have many hosts.
    let refused: BTreeMap<HostId, Hold> = (app.refused().iter())
        .filter(|(host, it)| {
            it.stands && state.standing_assignment(host) == Some(&it.order.assignment)
        })
        .map(|(host, it)| (host.clone(), Hold::OrderRefused { why: it.order.why.clone() }))
        .collect();
    let refused = refused.into_iter().map(|(host, hold)| Waiting { host: Some(host), hold });
    let mut waiting: Vec<Waiting> = refused.chain(decision.holds).collect();
    let mut waves = state.plan.waves.clone();
    if shown != HostsShown::All {
        let are_shown: BTreeSet<&HostId> = hosts.iter().map(|host| &host.id).collect();
        waiting.retain(|it| it.host.as_ref().is_none_or(|id| are_shown.contains(id)));
        waves.iter_mut().for_each(|wave| wave.hosts.clear());
    }
    Ok(RolloutDetail {
        row: rollout_row(&state),
        approvals: state.approvals.clone(),
        waves,
        lanes: lanes(&state),
        hosts,
        traffic: traffic(&state),
        waiting,
        gate: state.judgements(at, &seen),
        events: events
            .into_iter()
            .map(|e| RolloutEventRow { version: e.version, at: e.at, event: without_plan(e.event) })
            .collect(),
    })
}

/// How far each wave is.
fn lanes(state: &Rollout) -> Vec<RolloutLane> {
    let waves = state.plan.waves.iter();
    let mut out: Vec<RolloutLane> = waves
        .enumerate()
        .map(|(number, _)| RolloutLane {
            hosts_by_state: BTreeMap::new(),
            begins: state.begins(number as u32),
            passed_at: state.gates.get(&(number as u32)).copied(),
        })
        .collect();
    for (_, run) in &state.hosts {
        if let Some(lane) = out.get_mut(run.wave as usize) {
            *lane.hosts_by_state.entry(run.state.word().to_owned()).or_default() += 1;
        }
    }
    out
}

fn traffic(state: &Rollout) -> Vec<RolloutTraffic> {
    let pools = state.plan.pools.iter().flat_map(|p| [&p.serving, &p.idle]);
    let all = pools.flat_map(|pool| pool.hosts.iter().map(move |(id, host)| (pool, id, host)));
    all.map(|(pool, id, host)| {
        let told = state.traffic.get(id);
        RolloutTraffic {
            name: host.name.clone(),
            pool: pool.name.clone(),
            share: told.map(|run| run.share),
            state: told.map_or_else(String::new, |run| run.state.word().to_owned()),
        }
    })
    .collect()
}

/// The plan has a route of its own: the event that says that it was started need not carry every host of it.
fn without_plan(event: RolloutEvent) -> RolloutEvent {
    match event {
        RolloutEvent::Created { by, mut plan, approvals, principal } => {
            let shown = Arc::make_mut(&mut plan);
            shown.hosts.clear();
            shown.held.clear();
            RolloutEvent::Created { by, plan, approvals, principal }
        }
        other => other,
    }
}
