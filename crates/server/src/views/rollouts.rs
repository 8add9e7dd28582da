//! Rollouts, as lists and pages show them.

use crate::app::App;
use fettle_core::plan::Wave;
use fettle_core::rollout::{HostRun, HostState, Judged, Rollout, RolloutEvent, Waiting};
use fettle_core::transaction::Progress;
use fettle_core::{Hold, HostId, Problem, RolloutId, Timestamp};
use fettle_store::{View, rollouts as stored, transactions};
use fettle_wire::api::{
    Overview, RolloutDetail, RolloutEventRow, RolloutHost, RolloutLane, RolloutRow, RolloutTraffic,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many events of a rollout are told: the last ones.
const EVENTS: u64 = 500;
/// How many its page shows.
const EVENTS_SHOWN: u64 = 100;
/// A rollout of at most so many hosts is shown with all of them.
const SHOWN: usize = 60;
/// How many reasons to wait its page shows.
const WAITING_SHOWN: usize = 30;
/// How many hosts of its pools.
const TRAFFIC_SHOWN: usize = 60;

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

/// How a rollout stands: what takes going through all its hosts.
pub(crate) struct RolloutStanding {
    /// What it waits for.
    pub(super) waiting: Vec<Waiting>,
    /// How the gate after its wave stands.
    gate: Vec<Judged>,
    /// How far each wave is.
    lanes: Vec<RolloutLane>,
    /// The hosts that a page shows.
    shown: Vec<HostId>,
}

/// How the rollout stands now, or stood a second ago where nothing has happened since.
pub(super) fn look(
    app: &App,
    view: &View<'_>,
    state: &Rollout,
) -> Result<Arc<RolloutStanding>, Problem> {
    app.standing.look(view, &state.id, || {
        let seen = crate::rollouts::observe(app, view, state)?;
        let at = crate::app::now();
        Ok(RolloutStanding {
            waiting: state.decide(at, &seen).holds,
            gate: state.judgements(at, &seen),
            lanes: lanes(state),
            shown: chosen(state).into_iter().cloned().collect(),
        })
    })
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
    let all = state.hosts.iter();
    let hosts: Vec<&HostId> =
        all.filter(|(_, run)| shown.shows(run)).map(|(host, _)| host).collect();
    if shown == HostsShown::All {
        let after = state.version.saturating_sub(EVENTS);
        return detail(app, view, &state, &hosts, state.plan.waves.clone(), after);
    }
    // Who watches a rollout of thousands of hosts asks for it again and again.
    let waves = state.plan.waves.iter().map(without_hosts).collect();
    let after = state.version.saturating_sub(EVENTS_SHOWN).max(1);
    let mut it = detail(app, view, &state, &hosts, waves, after)?;
    let are_shown: BTreeSet<&HostId> = hosts.into_iter().collect();
    it.waiting.retain(|waiting| waiting.host.as_ref().is_none_or(|id| are_shown.contains(id)));
    Ok(it)
}

/// A rollout as its page shows it: of a large one only the hosts that tell something, and its last events. With what people
/// call the hosts that these are about.
pub(crate) fn rollout_shown(
    app: &App,
    view: &View<'_>,
    id: &RolloutId,
) -> Result<(RolloutDetail, BTreeMap<HostId, String>), Problem> {
    let state = crate::rollouts::load(app, view, id)?;
    let standing = look(app, view, &state)?;
    let chosen: Vec<&HostId> = standing.shown.iter().collect();
    // Nobody asks a page for the hosts of a wave, which may be many: they are counted.
    let waves = state.plan.waves.iter().map(without_hosts).collect();
    // The first event is as large as the plan: what it says the page knows.
    let after = state.version.saturating_sub(EVENTS_SHOWN).max(1);
    let mut it = detail(app, view, &state, &chosen, waves, after)?;
    it.waiting.truncate(WAITING_SHOWN);
    it.traffic.truncate(TRAFFIC_SHOWN);
    let told = it.events.iter().filter_map(|e| e.event.host());
    let told = told.chain(it.waiting.iter().flat_map(|w| {
        let in_the_way: &[HostId] = match &w.hold {
            Hold::BudgetUsed { disrupted, .. } => disrupted,
            _ => &[],
        };
        w.host.iter().chain(in_the_way)
    }));
    let name = |host: &HostId| Some((host.clone(), state.plan.hosts.get(host)?.name.clone()));
    let names = told.filter_map(name).collect();
    Ok((it, names))
}

/// Rollouts that a wall screen shows.
const ON_THE_WALL: usize = 4;

/// The overview for a screen on a wall, with the rollouts under way.
pub(crate) fn wall(app: &App, view: &View<'_>) -> Result<(Overview, Vec<RolloutDetail>), Problem> {
    let overview = super::overview(app, view)?;
    let under_way = overview.rollouts.iter().take(ON_THE_WALL);
    let details = under_way.map(|row| Ok(rollout_shown(app, view, &row.id)?.0));
    let details = details.collect::<Result<_, Problem>>()?;
    Ok((overview, details))
}

fn without_hosts(wave: &Wave) -> Wave {
    Wave {
        ring: wave.ring.clone(),
        hosts: Vec::new(),
        why: wave.why.clone(),
        gate: wave.gate.clone(),
        soak_seconds: wave.soak_seconds,
        after_seconds: wave.after_seconds,
        rolling: wave.rolling,
        traffic: wave.traffic,
    }
}

/// How much a host of a rollout tells to whoever looks: less is more.
fn rank(run: &HostRun) -> (u8, Reverse<Option<Timestamp>>) {
    let class = match &run.state {
        state if state.is_failure() => 0,
        HostState::Redeemed => 1,
        HostState::Granted => 2,
        _ if run.undo_asked.is_some() => 2,
        state if state.is_terminal() && run.ended_at.is_some() => 3,
        HostState::Pending => 4,
        _ => 5,
    };
    (class, Reverse(run.ended_at))
}

/// The hosts that a page shows: all of a small rollout; of a large one those of each wave that tell most, and more of the
/// wave at work than of others.
fn chosen(state: &Rollout) -> Vec<&HostId> {
    let all = state.hosts.iter();
    if state.hosts.len() <= SHOWN {
        return all.map(|(host, _)| host).collect();
    }
    let others = (SHOWN / 2 / state.plan.waves.len().max(1)).max(1);
    let mut best: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    for (host, run) in all {
        let most = if run.wave == state.wave { SHOWN / 2 } else { others };
        let best = best.entry(run.wave).or_default();
        best.insert((rank(run), host));
        if best.len() > most {
            best.pop_last();
        }
    }
    best.into_values().flatten().map(|(_, host)| host).collect()
}

/// How far each wave is.
fn lanes(state: &Rollout) -> Vec<RolloutLane> {
    let mut out = vec![BTreeMap::<&str, u64>::new(); state.plan.waves.len()];
    for (_, run) in state.hosts.iter() {
        if let Some(counts) = out.get_mut(run.wave as usize) {
            *counts.entry(run.state.word()).or_default() += 1;
        }
    }
    let owned = |counts: BTreeMap<&str, u64>| {
        counts.into_iter().map(|(word, n)| (word.to_owned(), n)).collect()
    };
    let lane = |(wave, counts)| RolloutLane {
        hosts_by_state: owned(counts),
        begins: state.begins(wave),
        passed_at: state.gates.get(&wave).copied(),
    };
    (0..).zip(out).map(lane).collect()
}

/// The rollout with these of its hosts and its events after a version.
fn detail(
    app: &App,
    view: &View<'_>,
    state: &Rollout,
    shown: &[&HostId],
    waves: Vec<Wave>,
    after: u64,
) -> Result<RolloutDetail, Problem> {
    let standing = look(app, view, state)?;
    let mut hosts = Vec::new();
    for host in shown {
        let Some(run) = state.hosts.get(host) else { continue };
        let journal = match &run.assignment {
            Some(assignment) => transactions::of_assignment(view, host, assignment)?,
            None => None,
        };
        let transaction = journal.and_then(|j| Progress::fold(&j.entries).ok().flatten());
        let steps = transaction.iter().flat_map(|t| &t.finished);
        let steps: BTreeMap<_, _> =
            steps.map(|(step, facts)| (step.word().to_owned(), facts.clone())).collect();
        hosts.push(RolloutHost {
            id: (*host).clone(),
            name: state.plan.hosts.get(host).map_or_else(|| host.to_string(), |h| h.name.clone()),
            run: run.clone(),
            transaction,
            steps,
        });
    }
    hosts.sort_by(|a, b| (a.run.wave, &a.name).cmp(&(b.run.wave, &b.name)));
    let events = stored::events(view, &state.id, after)?;
    // Few hosts refuse anything, and a rollout may have many hosts.
    let refused: BTreeMap<HostId, Hold> = (app.refused().iter())
        .filter(|(host, it)| {
            it.stands && state.standing_assignment(host) == Some(&it.order.assignment)
        })
        .map(|(host, it)| (host.clone(), Hold::OrderRefused { why: it.order.why.clone() }))
        .collect();
    let refused = refused.into_iter().map(|(host, hold)| Waiting { host: Some(host), hold });
    Ok(RolloutDetail {
        row: rollout_row(state),
        approvals: state.approvals.clone(),
        waves,
        lanes: standing.lanes.clone(),
        hosts,
        traffic: traffic(state),
        waiting: refused.chain(standing.waiting.iter().cloned()).collect(),
        gate: standing.gate.clone(),
        events: events
            .into_iter()
            .map(|e| RolloutEventRow { version: e.version, at: e.at, event: without_plan(e.event) })
            .collect(),
    })
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
