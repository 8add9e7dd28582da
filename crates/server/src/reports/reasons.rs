//! Why something that is owed is not done: from the newest plan of each policy, and from the rollout that carries it out.

use super::HostId;
use crate::app::App;
use crate::rollouts;
use fettle_core::Problem;
use fettle_core::plan::Plan;
use fettle_core::report::Seen;
use fettle_core::rollout::Rollout;
use fettle_store::{View, plans, rollouts as stored_rollouts};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The newest plan of a policy, as it answers for what is late.
struct Planned {
    plan: Plan,
    rollout: Option<Arc<Rollout>>,
    /// By host: which of the plan's groups of held hosts it is in.
    held: HashMap<HostId, Vec<usize>>,
    /// By group: why each vulnerability stays open. Empty key: the whole host.
    groups: Vec<HashMap<String, String>>,
}

/// What the newest plans say.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<String, Planned>);

impl Reasons {
    /// Reads the newest plan of a policy, if there is one.
    pub(super) fn learn(
        &mut self,
        app: &App,
        view: &View<'_>,
        policy: &str,
    ) -> Result<(), Problem> {
        let Some(number) = plans::newest_of(view, policy)? else { return Ok(()) };
        let plan = plans::get(view, number)?;
        let rollout = stored_rollouts::of_plan(view, number)?;
        let rollout = rollout.map(|id| rollouts::load(app, view, &id)).transpose()?;
        self.0.insert(policy.to_owned(), Planned::new(plan, rollout));
        Ok(())
    }

    /// What stands in the way of a fix that is owed and open. `quarantined`: why the host is.
    pub(super) fn why(&self, seen: &Seen<'_>, host: &str, quarantined: Option<&str>) -> String {
        if let Some(reason) = quarantined {
            return format!("the host is quarantined: {reason}");
        }
        if seen.policy.is_empty() {
            return "no policy covers the host".to_owned();
        }
        if !seen.offered {
            return "no source of the host offers the fix".to_owned();
        }
        let Some(planned) = self.0.get(seen.policy) else {
            return format!("nothing was planned: fettle plan make {}", seen.policy);
        };
        planned.why(&HostId::from(host), seen.id)
    }
}

impl Planned {
    fn new(plan: Plan, rollout: Option<Arc<Rollout>>) -> Self {
        let mut held: HashMap<HostId, Vec<usize>> = HashMap::new();
        let mut groups = Vec::with_capacity(plan.held.len());
        for (n, group) in plan.held.iter().enumerate() {
            for host in group.hosts.keys() {
                held.entry(host.clone()).or_default().push(n);
            }
            let mut why = HashMap::new();
            for what in &group.what {
                // The nearest reason comes first.
                let Some(reason) = what.reasons.first() else { continue };
                if what.package.is_empty() {
                    why.insert(String::new(), reason.to_string());
                }
                for finding in &what.findings {
                    why.entry(finding.clone()).or_insert_with(|| reason.to_string());
                }
            }
            groups.push(why);
        }
        Self { plan, rollout, held, groups }
    }

    fn why(&self, host: &HostId, finding: &str) -> String {
        let plan = self.plan.number;
        let brings = |host: &fettle_core::plan::HostPlan| {
            host.why.values().any(|fixes| fixes.iter().any(|fixed| fixed == finding))
        };
        if self.plan.hosts.get(host).is_some_and(brings) {
            return match &self.rollout {
                None => format!("plan {plan} brings it and waits to be started"),
                Some(rollout) => {
                    let state = rollout.hosts.get(host).map_or("gone", |run| run.state.word());
                    let phase = rollout.phase.word();
                    format!("plan {plan} brings it; {} is {phase}, the host {state}", rollout.id)
                }
            };
        }
        let groups = self.held.get(host).into_iter().flatten().map(|n| &self.groups[*n]);
        let mut groups = groups.filter_map(|why| why.get(finding).or_else(|| why.get("")));
        match groups.next() {
            Some(reason) => reason.clone(),
            None => {
                format!("came after plan {plan}: fettle plan make {}", self.plan.policy)
            }
        }
    }
}
