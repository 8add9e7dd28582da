//! Hosts: what their journals say and what is really installed there (4, 5, 13, 14, 15, 18, 20, 27).

use super::Checker;
use crate::agent::{Agent, Transaction};
use crate::server::Store;
use fettle_core::assignment::Order;
use fettle_core::rollout::{HostState, RolloutEvent};
use fettle_core::transaction::{Outcome, Progress, Step, TxEvent, UNDO_ATTEMPTS};
use fettle_core::{HostId, Timestamp};
use std::collections::BTreeMap;

impl Checker {
    /// Everything is at rest and every record acknowledged: the server's word on each host is the host's own.
    pub(crate) fn evidence_arrived(
        &mut self,
        at: Timestamp,
        store: &Store,
        agents: &BTreeMap<HostId, Agent>,
    ) {
        for row in store.rollouts.values() {
            for (id, run) in row.state.hosts.iter().filter(|(id, _)| store.hosts.contains_key(id)) {
                let outcome =
                    |assignment| agents.get(id)?.transactions.get(assignment).and_then(end_of);
                let undo = run
                    .undo
                    .as_ref()
                    .and_then(|u| outcome(&u.assignment))
                    .filter(|o| o.word() != "refused");
                let Some(end) = undo.or_else(|| outcome(run.assignment.as_ref()?)) else {
                    continue;
                };
                let agree = end.word() == run.state.word() || end.word() == "refused";
                self.must(agree, at, "18 nothing lost", || {
                    format!(
                        "{id} of {} ended {}, the server says {}",
                        row.state.id,
                        end.word(),
                        run.state.word()
                    )
                });
            }
        }
    }
}

fn end_of(tx: &Transaction) -> Option<Outcome> {
    Progress::fold(&tx.journal).ok().flatten()?.outcome
}

/// A journal record was written on a host.
pub(crate) fn journal(
    checker: &mut Checker,
    at: Timestamp,
    agent: &Agent,
    event: &TxEvent,
    store: &Store,
) {
    let host = &agent.host;
    let Some(tx) = agent.transaction() else { return };
    let Some(progress) = agent.progress() else {
        return checker.violated(
            at,
            "18 nothing lost",
            format!("{host}: the journal does not fold"),
        );
    };
    checker.must(tx.applies <= 1, at, "4 at most once", || {
        format!("{host} ran the package manager {} times", tx.applies)
    });
    checker.must(progress.undo_attempts <= UNDO_ATTEMPTS, at, "20 bounded", || {
        format!("{host}: undos")
    });
    let unfinished = |tx: &&Transaction| {
        !matches!(tx.journal.last().map(|e| &e.event), Some(TxEvent::Ended { .. }))
    };
    let open = agent.transactions.values().filter(unfinished).count();
    checker.must(open <= 1, at, "5 one transaction per host", || format!("{host} has {open} open"));
    match event {
        TxEvent::Started { step: step @ (Step::Snapshot | Step::Apply) }
            if agent.traffic().is_none() =>
        {
            checker.must(redeemed(store, &progress), at, "6 halt", || {
                format!("{host} began {} of {} unredeemed", step.word(), progress.assignment.id)
            });
            let way_back = *step == Step::Snapshot
                || [Step::Stage, Step::Rehearse, Step::Snapshot]
                    .iter()
                    .all(|s| progress.finished.contains_key(s));
            checker.must(way_back, at, "13 way back first", || host.to_string());
            as_approved(checker, at, store, &progress);
        }
        TxEvent::Ended { outcome } => {
            let (name, must_be) = match outcome {
                Outcome::Patched => ("15 patched is true", agent.target()),
                Outcome::Undone { .. } => ("14 undone is true", agent.preimage()),
                Outcome::Refused { .. } => ("14 refused is true", Some(tx.before)),
                Outcome::Quarantined { .. } | Outcome::Switched => return,
            };
            checker.must(must_be.as_ref() == Some(&agent.installed), at, name, || {
                format!("{host} has {:?}, not {must_be:?}", agent.installed)
            });
        }
        _ => {}
    }
}

/// What is carried out is the very order that the plan has for this host, of a plan that was started.
fn as_approved(checker: &mut Checker, at: Timestamp, store: &Store, progress: &Progress) {
    let it = &progress.assignment;
    let Order::Apply(order) = &it.order else { return };
    let mut rows = store.plans.values();
    let row = rows.find(|row| row.digest == it.plan && row.rollout.as_ref() == Some(&it.rollout));
    let planned = row.and_then(|row| row.plan.hosts.get(&it.host));
    checker.must(planned.is_some_and(|host| host.order == *order), at, "41 as approved", || {
        format!("{} carries out what plan {} does not have for it", it.host, it.plan.short())
    });
}

/// What a host has of the traffic may have changed.
pub(crate) fn traffic(
    checker: &mut Checker,
    at: Timestamp,
    host: &HostId,
    agents: &BTreeMap<HostId, Agent>,
    store: &Store,
) {
    let Some(agent) = agents.get(host).filter(|a| a.traffic().is_some()) else { return };
    let pools = agent.progress().and_then(|progress| {
        store.rollouts.get(&progress.assignment.rollout)?.state.plan.pools.as_ref()
    });
    let in_pool = |id: &HostId| pools.is_none_or(|pools| pools.has(id));
    let served = agents.iter().any(|(id, agent)| agent.share > 0 && in_pool(id));
    checker.must(served, at, "27 served", || format!("{host} was the last that had requests"));
    let given = agent.traffic().is_some_and(|share| share > 0);
    let Some(progress) = agent.progress().filter(|_| given) else { return };
    let Some(row) = store.rollouts.get(&progress.assignment.rollout) else { return };
    let idle = row.state.plan.pools.as_ref().is_some_and(|p| p.idle.hosts.contains_key(host));
    let run = row.state.hosts.get(host).filter(|_| idle);
    let proved = run.is_none_or(|run| run.state == HostState::Patched);
    checker.must(proved, at, "27 served", || {
        format!("{host} has requests, and is {}", run.map_or("", |r| r.state.word()))
    });
}

/// The log holds a redeemed grant of this very assignment.
fn redeemed(store: &Store, progress: &Progress) -> bool {
    let order = &progress.assignment;
    let Some(row) = store.rollouts.get(&order.rollout) else { return false };
    let mut holds = false;
    for (_, event) in &row.events {
        match event {
            RolloutEvent::Granted { host, assignment, .. } if *host == order.host => {
                holds = *assignment == order.id
            }
            RolloutEvent::Redeemed { host } if *host == order.host && holds => return true,
            _ => {}
        }
    }
    false
}
