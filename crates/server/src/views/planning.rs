//! Cycles and emergencies, as lists and pages show them.

use crate::app::{App, now};
use crate::{cycles, emergencies};
use fettle_core::Problem;
use fettle_store::{StoreError, View, cycles as stored_cycles, emergencies as stored};
use fettle_wire::api::{CallRow, CycleRow, Emergencies, EmergencyPlanRow};

/// Runs that are shown of each cycle.
const RUNS: u32 = 10;
/// Emergency plans that are shown.
const PLANS: u32 = 20;

/// The cycles of all policies in force, by policy.
pub(crate) fn cycle_rows(app: &App, view: &View<'_>) -> Result<Vec<CycleRow>, Problem> {
    let in_force = app.policies();
    let owed = cycles::owed(app)?;
    let with_cycle = in_force.parsed.iter().filter_map(|p| Some((p, p.cycle.as_ref()?)));
    with_cycle
        .map(|(policy, rule)| {
            let it = cycles::standing(app, view, &in_force, &owed, policy, rule)?;
            Ok(CycleRow {
                policy: policy.name.clone(),
                start: rule.start,
                next_due: it.decision.next_due,
                holds: it.decision.holds,
                failed: it.failed.map(|(rollout, reason)| format!("{rollout}: {reason}")),
                runs: stored_cycles::latest(view, &policy.name, RUNS)?,
            })
        })
        .collect()
}

/// The cycle of one policy.
pub(crate) fn cycle_row(app: &App, view: &View<'_>, policy: &str) -> Result<CycleRow, Problem> {
    let found = cycle_rows(app, view)?.into_iter().find(|row| row.policy == policy);
    found.ok_or_else(|| {
        StoreError::Missing { what: "policy with a [cycle]", name: policy.to_owned() }.into()
    })
}

/// What cannot wait.
pub(crate) fn emergencies(app: &App, view: &View<'_>) -> Result<Emergencies, Problem> {
    let in_force = app.policies();
    let at = now();
    let mut declared = stored::declared(view)?;
    declared.retain(|it| at < it.until);
    let calling = emergencies::calls(app, &in_force, &declared)?;
    let calling = calling.into_iter().map(|(policy, calls)| CallRow {
        policy,
        hosts: calls.len() as u64,
        findings: calls.into_values().flatten().collect(),
    });
    let plans = stored::plans(view, None, PLANS)?.into_iter().map(|plan| {
        let policy = in_force.parsed.iter().find(|p| p.name == plan.policy);
        let waiting = emergencies::waits_for(view, policy, &plan)?;
        Ok::<_, Problem>(EmergencyPlanRow { plan, waiting })
    });
    let plans = plans.collect::<Result<_, _>>()?;
    Ok(Emergencies { declared, calling: calling.collect(), plans })
}
