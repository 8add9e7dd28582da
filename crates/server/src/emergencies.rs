//! What cannot wait: seen as soon as an advisory, an inventory or a word makes it call, planned at once for exactly the
//! hosts that it calls on, and started where the policy says so and the approvals are there.

use crate::api::{plan_by, start_in};
use crate::app::{App, now};
use crate::cycles::{heard_from, plan_standing};
use crate::policies::Policies;
use crate::rollouts;
use crate::tasks::complain;
use fettle_core::cycle::PlanStanding;
use fettle_core::emergency::{
    Calls, Declared, EmergencyPlan, EmergencyState, covers, is_news, may_start, wait_until,
};
use fettle_core::finding::Finding;
use fettle_core::policy::Policy;
use fettle_core::{Digest, Hold, HostId, Problem, ProblemKind, Timestamp};
use fettle_store::{View, emergencies, plans};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};

/// What calls is planned anew after so many seconds even if it calls as before: a host that was silent or busy then may
/// be there now.
const AGAIN_SECONDS: i64 = 60;
/// Plans before that are looked at.
const BEFORE: u32 = 50;

/// What called when it was last looked at, by policy. Lost with the process: the next one looks at everything.
#[derive(Debug, Default)]
pub(crate) struct Alert {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    calls: Digest,
    /// The first and the last change that was not planned for yet.
    pending: Option<(Timestamp, Timestamp)>,
    planned_at: Option<Timestamp>,
}

/// Declared emergencies that hold now.
pub(crate) fn declared_now(view: &View<'_>) -> Result<Vec<Declared>, Problem> {
    let at = now();
    Ok(emergencies::declared(view)?.into_iter().filter(|it| at < it.until).collect())
}

/// What calls now, by policy.
pub(crate) fn calls(
    app: &App,
    in_force: &Policies,
    declared: &[Declared],
) -> Result<BTreeMap<String, Calls>, Problem> {
    let classes = in_force.parsed.iter().map(|policy| {
        let urgent = policy.classes.iter().filter(|class| class.emergency);
        (policy.name.as_str(), urgent.map(|class| class.name.as_str()).collect())
    });
    let classes: BTreeMap<&str, BTreeSet<&str>> = classes.collect();
    let declared = declared.iter().map(|it| it.finding.as_str()).collect();
    app.fleet(|fleet| fleet.calls(&classes, &declared))
}

/// Plans for what calls, and starts what may start. Gives when to look again.
pub(crate) fn look(app: &App, alert: &mut Alert) -> Result<Option<Timestamp>, Problem> {
    // A host that could not speak since the start would seem silent, and be left out.
    if now() < heard_from(app) {
        return Ok(Some(heard_from(app)));
    }
    let in_force = app.policies();
    let declared = app.store.read(declared_now)?;
    let mut calling = calls(app, &in_force, &declared)?;
    let mut wake = None;
    for policy in &in_force.parsed {
        let calls = calling.remove(&policy.name).unwrap_or_default();
        match look_at(app, alert, policy, &declared, &calls) {
            Ok(at) => wake = wake.into_iter().chain(at).min(),
            Err(problem) => {
                complain(&format!("the emergency of {} is not planned", policy.name), &problem);
            }
        }
    }
    alert.known.retain(|name, _| in_force.parsed.iter().any(|policy| policy.name == *name));
    Ok(wake)
}

fn look_at(
    app: &App,
    alert: &mut Alert,
    policy: &Policy,
    declared: &[Declared],
    calls: &Calls,
) -> Result<Option<Timestamp>, Problem> {
    let at = now();
    stand(app, policy)?;
    if calls.is_empty() {
        alert.known.remove(&policy.name);
        return Ok(None);
    }
    // A vulnerability that is declared once more is a call once more.
    let mark = Digest::of_json(&(calls, declared.iter().map(|it| it.at).collect::<Vec<_>>()));
    let known = alert.known.entry(policy.name.clone()).or_insert(Known {
        calls: Digest([0; 32]),
        pending: None,
        planned_at: None,
    });
    if known.calls != mark {
        known.calls = mark;
        known.pending = Some((known.pending.map_or(at, |(first, _)| first), at));
    }
    let again = |from: Timestamp| {
        from.checked_add(SignedDuration::from_secs(AGAIN_SECONDS)).unwrap_or(Timestamp::MAX)
    };
    let called_at = match (known.pending, known.planned_at) {
        (Some((first, last)), _) => {
            if let Some(until) = wait_until(first, last, at) {
                return Ok(Some(until));
            }
            first
        }
        (None, Some(planned_at)) if at < again(planned_at) => return Ok(Some(again(planned_at))),
        (None, _) => at,
    };
    plan(app, policy, calls, called_at)?;
    known.pending = None;
    known.planned_at = Some(at);
    // One that may start at once does.
    stand(app, policy)?;
    Ok(Some(again(at)))
}

/// Makes the plan, if it has anything that no plan before it has.
fn plan(app: &App, policy: &Policy, calls: &Calls, called_at: Timestamp) -> Result<(), Problem> {
    let urgent = policy.in_emergency();
    let only = calls.keys().cloned().collect();
    let (plan, before) = app.store.read::<_, Problem>(|view| {
        let called = |host: &HostId, finding: &Finding| {
            calls.get(host).is_some_and(|ids| ids.contains(&finding.id))
        };
        let plan = plan_by(app, view, &urgent, Some(&only), &called)?;
        Ok((plan, emergencies::plans(view, Some(&policy.name), BEFORE)?))
    })?;
    let covers = covers(&plan);
    if !is_news(&covers, &before) {
        return Ok(());
    }
    let findings =
        calls.iter().filter(|(host, _)| covers.contains_key(*host)).flat_map(|(_, ids)| ids);
    let open = before.first().filter(|plan| plan.state == EmergencyState::Open);
    let it = EmergencyPlan {
        plan: plan.number,
        policy: policy.name.clone(),
        at: now(),
        findings: findings.cloned().collect(),
        covers,
        called_at,
        replaces: open.map(|plan| plan.plan),
        state: EmergencyState::Open,
    };
    app.store.write::<_, Problem>("server", now(), |tx| {
        plans::insert(tx, &plan, "server")?;
        Ok(emergencies::insert(tx, &it)?)
    })?;
    let named = it.findings.iter().cloned().collect::<Vec<_>>().join(" ");
    tracing::warn!(
        policy = it.policy,
        plan = it.plan,
        hosts = it.covers.len(),
        findings = named,
        "emergency"
    );
    app.events.tell("plan", &it.plan.to_string());
    app.events.tell("emergency", &it.policy);
    Ok(())
}

/// What the newest emergency plan of a policy waits for. `None`: nothing more of it is waited for.
pub(crate) fn waits_for(
    view: &View<'_>,
    policy: Option<&Policy>,
    it: &EmergencyPlan,
) -> Result<Option<Hold>, Problem> {
    if it.state != EmergencyState::Open {
        return Ok(None);
    }
    Ok(match plan_standing(view, it.plan)? {
        PlanStanding::Lacking(hold) => Some(hold),
        PlanStanding::Approved => {
            let start = policy.map_or_else(Default::default, |p| p.emergency_start);
            may_start(start, it.plan, None).err()
        }
        PlanStanding::Started(_) | PlanStanding::Overtaken => None,
    })
}

/// Notes where the newest emergency plan stands by now, and starts it if it may start.
fn stand(app: &App, policy: &Policy) -> Result<(), Problem> {
    let newest = app.store.read::<_, Problem>(|view| {
        let newest = emergencies::plans(view, Some(&policy.name), 1)?.into_iter().next();
        let Some(it) = newest.filter(|it| it.state == EmergencyState::Open) else {
            return Ok(None);
        };
        let standing = plan_standing(view, it.plan)?;
        Ok(Some((it, standing)))
    })?;
    let Some((mut it, standing)) = newest else { return Ok(()) };
    let lacking = match &standing {
        PlanStanding::Lacking(hold) => Some(hold),
        PlanStanding::Approved => None,
        PlanStanding::Started(rollout) => {
            it.state = EmergencyState::Started { rollout: rollout.clone() };
            return keep(app, &it);
        }
        PlanStanding::Overtaken => {
            it.state = EmergencyState::Overtaken;
            return keep(app, &it);
        }
    };
    if may_start(policy.emergency_start, it.plan, lacking).is_err() {
        return Ok(());
    }
    let started = app.store.write::<_, Problem>("server", now(), |tx| {
        let state = start_in(tx, plans::get(tx, it.plan)?, ("server", "server"))?;
        it.state = EmergencyState::Started { rollout: state.id.clone() };
        emergencies::set(tx, &it)?;
        Ok(state)
    });
    match started {
        Ok(state) => {
            tracing::warn!(policy = policy.name, plan = it.plan, rollout = %state.id, "emergency: started");
            rollouts::settled(app, &state);
            app.events.tell("emergency", &policy.name);
            Ok(())
        }
        // Somebody else started it, or another plan took effect: the next look tells.
        Err(problem) if problem.kind == ProblemKind::Conflict => Ok(()),
        Err(problem) => Err(problem),
    }
}

fn keep(app: &App, it: &EmergencyPlan) -> Result<(), Problem> {
    app.store.write::<_, Problem>("server", now(), |tx| Ok(emergencies::set(tx, it)?))?;
    app.events.tell("emergency", &it.policy);
    Ok(())
}
