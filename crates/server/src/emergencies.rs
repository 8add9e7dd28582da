//! What cannot wait: seen as soon as an advisory, an inventory or a word makes it call, planned at once for exactly the
//! hosts that it calls on, and started where the policy says so and the approvals are there.

use crate::api::{keep_plan, plan_by, start_in, told_plan};
use crate::app::{App, now};
use crate::backup;
use crate::cycles::{heard_from, plan_standing};
use crate::policies::Policies;
use crate::rollouts;
use crate::tasks::complain;
use fettle_core::cycle::PlanStanding;
use fettle_core::emergency::{
    Calls, Declared, EmergencyPlan, EmergencyState, again_after, covered_before, covers, declarers,
    declarers_of_older, is_news, may_start, wait_until,
};
use fettle_core::finding::Finding;
use fettle_core::policy::Policy;
use fettle_core::{Digest, Hold, HostId, Problem, ProblemKind, Timestamp};
use fettle_store::{View, emergencies, plans, rollouts as stored};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Looks since the last one that gave a plan.
    without_news: u32,
    /// Why a plan might be another, though what calls is the same: hosts that are silent, rollouts that are under way.
    around: Digest,
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
    stand(app, policy, declared)?;
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
        without_news: 0,
        around: Digest([0; 32]),
    });
    if known.calls != mark {
        known.calls = mark;
        known.pending = Some((known.pending.map_or(at, |(first, _)| first), at));
    }
    let around = around(app, calls)?;
    if known.around != around {
        known.around = around;
        known.without_news = 0;
    }
    let pause = again_after(known.without_news);
    let again = |from: Timestamp| from.checked_add(pause).unwrap_or(Timestamp::MAX);
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
    let news = plan(app, policy, declared, calls, called_at)?;
    known.pending = None;
    known.planned_at = Some(at);
    known.without_news = if news { 0 } else { known.without_news.saturating_add(1) };
    let pause = again_after(known.without_news);
    // One that may start at once does.
    stand(app, policy, declared)?;
    Ok(at.checked_add(pause).ok())
}

/// What is around what calls: when it changes, a host that could not be planned for may be there now.
fn around(app: &App, calls: &Calls) -> Result<Digest, Problem> {
    let silent = app.fleet(|fleet| fleet.silent(app))?;
    let silent: Vec<&HostId> = silent.iter().filter(|host| calls.contains_key(*host)).collect();
    let under_way = app.store.read::<_, Problem>(|view| Ok(stored::unfinished(view)?))?;
    let under_way: Vec<_> = under_way.into_iter().map(|line| line.id).collect();
    Ok(Digest::of_json(&(silent, under_way)))
}

/// Makes the plan, if it has anything that no plan before it has. Gives whether it has.
fn plan(
    app: &App,
    policy: &Policy,
    declared: &[Declared],
    calls: &Calls,
    called_at: Timestamp,
) -> Result<bool, Problem> {
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
    if !is_news(&covers, &covered_before(&plan), &before) {
        return Ok(false);
    }
    let findings =
        calls.iter().filter(|(host, _)| covers.contains_key(*host)).flat_map(|(_, ids)| ids);
    let findings: BTreeSet<String> = findings.cloned().collect();
    let declared_by = declarers(declared, &findings);
    let open = before.first().filter(|plan| plan.state == EmergencyState::Open);
    let it = EmergencyPlan {
        plan: plan.number,
        policy: policy.name.clone(),
        at: now(),
        findings,
        declared_by,
        covers,
        called_at,
        replaces: open.map(|plan| plan.plan),
        state: EmergencyState::Open,
    };
    app.store.write::<_, Problem>("server", now(), |tx| {
        keep_plan(app, tx, &plan, at_word_of(&it))?;
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
    told_plan(app, it.plan);
    app.events.tell("emergency", &it.policy);
    Ok(true)
}

/// The principal at whose word the plan was made and its rollout is started: whoever declared what it is for is not the
/// one who approves it. Of several the first; the others are kept with the plan.
fn at_word_of(it: &EmergencyPlan) -> &str {
    it.declared_by.first().map_or("server", String::as_str)
}

/// What the newest emergency plan of a policy waits for. `None`: nothing more of it is waited for.
pub(crate) fn waits_for(
    view: &View<'_>,
    policy: Option<&Policy>,
    it: &EmergencyPlan,
) -> Result<Option<Hold>, Problem> {
    match &it.state {
        EmergencyState::Open => {}
        EmergencyState::Started { rollout } => {
            let busy = || Hold::PolicyBusy { rollout: rollout.clone() };
            return Ok((!stored::get(view, rollout)?.finished).then(busy));
        }
        EmergencyState::Overtaken => return Ok(None),
    }
    Ok(match plan_standing(view, it.plan)? {
        PlanStanding::Lacking(hold) => Some(hold),
        PlanStanding::Approved => {
            let start = policy.map_or_else(Default::default, |p| p.emergency_start);
            may_start(start, it.plan, None, backup::held(view)?.as_ref()).err()
        }
        PlanStanding::Started(_) | PlanStanding::Overtaken => None,
    })
}

/// Notes where the newest emergency plan stands by now, and starts it if it may start.
fn stand(app: &App, policy: &Policy, declared: &[Declared]) -> Result<(), Problem> {
    let newest = app.store.read::<_, Problem>(|view| {
        let newest = emergencies::plans(view, Some(&policy.name), 1)?.into_iter().next();
        let Some(it) = newest.filter(|it| it.state == EmergencyState::Open) else {
            return Ok(None);
        };
        let standing = plan_standing(view, it.plan)?;
        Ok(Some((it, standing, backup::held(view)?)))
    })?;
    let Some((mut it, standing, restored)) = newest else { return Ok(()) };
    // Kept by an older server, without those at whose word it was made: none of them may approve it.
    let older = declarers_of_older(&it, declared);
    if !older.is_empty() {
        it.declared_by = older;
        keep(app, &it)?;
        // Where it stands is looked at anew: an approval may be theirs.
        return stand(app, policy, declared);
    }
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
    if may_start(policy.emergency_start, it.plan, lacking, restored.as_ref()).is_err() {
        return Ok(());
    }
    let started = app.store.write::<_, Problem>("server", now(), |tx| {
        let state = start_in(tx, plans::get(tx, it.plan)?, ("server", at_word_of(&it)))?;
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
