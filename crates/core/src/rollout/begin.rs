//! The first event of a rollout, and what its plan must be for it.

use super::roster::Derived;
use super::state::illegal;
use super::{HostRun, IllegalEvent, Phase, Rollout, RolloutEvent};
use crate::plan::Plan;
use crate::plan::approval::Approval;
use crate::{Digest, RolloutId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Rollout {
    /// The first event of a rollout whose plan needs no approval.
    pub fn create(id: &RolloutId, plan: impl Into<Arc<Plan>>, by: &str) -> RolloutEvent {
        Self::create_approved(id, plan, (by, ""), Vec::new())
    }

    /// The first event of a rollout, with the approvals that counted. `starter`: by name, and the one whom their token
    /// speaks for.
    pub fn create_approved(
        _id: &RolloutId,
        plan: impl Into<Arc<Plan>>,
        (by, principal): (&str, &str),
        approvals: Vec<Approval>,
    ) -> RolloutEvent {
        RolloutEvent::Created {
            by: by.to_owned(),
            plan: plan.into(),
            approvals,
            principal: principal.to_owned(),
        }
    }

    /// Folds the first event.
    ///
    /// # Errors
    /// When the event is not [`RolloutEvent::Created`], its plan's waves and hosts do not agree, or it carries fewer
    /// approvals of this very plan than the plan needs.
    pub fn begin(
        id: &RolloutId,
        at: Timestamp,
        event: &RolloutEvent,
    ) -> Result<Self, IllegalEvent> {
        let RolloutEvent::Created { by, plan, approvals, principal } = event else {
            return Err(illegal(event, "a rollout begins with `created`"));
        };
        check_waves(plan).map_err(|why| illegal(event, &why))?;
        let plan_digest = plan.digest();
        check_approvals(plan.approvals_needed, plan_digest, approvals)
            .map_err(|why| illegal(event, &why))?;
        let hosts =
            plan.hosts.iter().map(|(id, host)| (id.clone(), HostRun::pending(host.wave))).collect();
        let rollout = Self {
            id: id.clone(),
            plan_digest,
            plan: plan.clone(),
            created_at: at,
            created_by: by.clone(),
            started_by: principal.clone(),
            approvals: approvals.clone(),
            version: 1,
            phase: Phase::Running,
            wave: 0,
            wave_ended_at: None,
            wave_not_before: None,
            hosts,
            shares_from: None,
            traffic: BTreeMap::new(),
            failures: 0,
            pardoned: 0,
            excused_wave: None,
            barred: BTreeSet::new(),
            tested_at: None,
            gates: BTreeMap::new(),
            approved: BTreeMap::new(),
            faulted: BTreeSet::new(),
            ended_at: None,
            roster: Derived::default(),
        };
        // Once, for all copies to come.
        rollout.roster();
        Ok(rollout)
    }
}

/// Whoever decides to start has judged the approvals; that they are there, distinct and of this plan, is seen here
/// again, so that no other way in can leave them out.
fn check_approvals(needed: u32, plan: Digest, approvals: &[Approval]) -> Result<(), String> {
    let of_this = approvals.iter().filter(|a| a.digest == plan);
    let given = of_this.map(|a| a.by.as_str()).collect::<BTreeSet<_>>().len();
    if given < needed as usize {
        return Err(format!("it carries {given} approvals of its plan, which needs {needed}"));
    }
    Ok(())
}

/// Every host of the plan stands in exactly one wave, the one it names.
fn check_waves(plan: &Plan) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (number, wave) in plan.waves.iter().enumerate() {
        for id in &wave.hosts {
            let host = plan
                .hosts
                .get(id)
                .ok_or_else(|| format!("wave {number} names host {id}, which the plan lacks"))?;
            if host.wave as usize != number || !seen.insert(id) {
                return Err(format!(
                    "host {id} stands in wave {number}, but belongs to wave {} once",
                    host.wave
                ));
            }
        }
    }
    match plan.hosts.keys().find(|id| !seen.contains(id)) {
        Some(id) => Err(format!("host {id} stands in no wave")),
        None => Ok(()),
    }
}
