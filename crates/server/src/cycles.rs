//! What policies do by themselves: each step decided by [`fettle_core::cycle`], and kept with what follows from it.
//!
//! A plan and the run that it is for, a rollout and the run that started it, are written in one transaction under the
//! key of the run. A server that is killed between any two of them decides the same again; of two, one loses cleanly.

use crate::api::{keep_plan, plan_by, start_in, told_plan};
use crate::app::{App, now};
use crate::fleet::Owed;
use crate::plan_keys;
use crate::policies::Policies;
use crate::rollouts;
use crate::views;
use fettle_core::cycle::{
    CycleDecision, CycleInput, CycleRun, CycleSeen, CycleState, CycleStep, PlanStanding,
    RolloutStanding, decide, planned, started,
};
use fettle_core::plan::approval::Stage;
use fettle_core::policy::{CycleRule, Policy};
use fettle_core::rollout::Phase;
use fettle_core::{Hold, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_store::{View, cycles, plans, rollouts as stored};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// A run takes few steps before it waits for something; more in a row is a defect.
const MOST_STEPS: usize = 20;

/// One policy's cycle as it stands.
pub(crate) struct Standing {
    pub(crate) decision: CycleDecision,
    pub(crate) last: Option<CycleRun>,
    pub(crate) failed: Option<(RolloutId, String)>,
}

/// Takes every step that is to be taken now. Gives when something comes due next.
pub(crate) fn look(app: &App) -> Option<Timestamp> {
    let in_force = app.policies();
    if in_force.parsed.iter().all(|policy| policy.cycle.is_none()) {
        return None;
    }
    let owed = match owed(app) {
        Ok(owed) => owed,
        Err(problem) => {
            crate::tasks::complain("cycles stand", &problem);
            return None;
        }
    };
    let mut wake: Option<Timestamp> = None;
    for policy in &in_force.parsed {
        let Some(rule) = &policy.cycle else { continue };
        match steps(app, &in_force, &owed, policy, rule) {
            Ok(next) => wake = wake.into_iter().chain(next).min(),
            // The others go on.
            Err(problem) => {
                crate::tasks::complain(&format!("the cycle of {} stands", policy.name), &problem);
            }
        }
    }
    wake
}

/// What the hosts of each policy owe: one look at the whole fleet for all cycles.
pub(crate) fn owed(app: &App) -> Result<BTreeMap<String, Owed>, Problem> {
    app.fleet(|fleet| fleet.owed_by_policy())
}

fn steps(
    app: &App,
    in_force: &Policies,
    owed: &BTreeMap<String, Owed>,
    policy: &Policy,
    rule: &CycleRule,
) -> Result<Option<Timestamp>, Problem> {
    for _ in 0..MOST_STEPS {
        let it = app.store.read(|view| standing(app, view, in_force, owed, policy, rule))?;
        let Some(step) = it.decision.step else { return Ok(it.decision.next_due) };
        match take(app, policy, rule, it.last.as_ref(), step) {
            Ok(()) => app.events.tell("cycle", &policy.name),
            // Another server, or an operator, came first: look at what they did.
            Err(problem) if problem.kind == ProblemKind::Conflict => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(None)
}

/// How a policy's cycle stands, and what comes next.
pub(crate) fn standing(
    app: &App,
    view: &View<'_>,
    in_force: &Policies,
    owed: &BTreeMap<String, Owed>,
    policy: &Policy,
    rule: &CycleRule,
) -> Result<Standing, Problem> {
    let last = cycles::latest(view, &policy.name, 1)?.into_iter().next();
    let owed = owed.get(policy.name.as_str()).copied().unwrap_or_default();
    let seen = observe(app, view, policy, owed, last.as_ref())?;
    let record = in_force.records.iter().find(|r| r.name == policy.name);
    let input = CycleInput {
        rule,
        since: record.map_or(Timestamp::MAX, |r| r.applied_at),
        last: last.as_ref(),
        seen: &seen,
        now: now(),
    };
    let decision = decide(&input);
    Ok(Standing { decision, last, failed: seen.failed })
}

fn take(
    app: &App,
    policy: &Policy,
    rule: &CycleRule,
    last: Option<&CycleRun>,
    step: CycleStep,
) -> Result<(), Problem> {
    let name = policy.name.as_str();
    match step {
        CycleStep::Keep(run) => {
            app.store.write::<_, Problem>("server", now(), |tx| {
                Ok(cycles::put(tx, name, last, &run)?)
            })?;
            tracing::info!(policy = name, due = %run.due, state = %run.state, "cycle");
        }
        CycleStep::MakePlan(run) => {
            let plan = app.store.read(|view| plan_by(app, view, policy, None, &|_, _| true))?;
            let run = planned(&run, rule, plan.number, plan.hosts.is_empty(), now());
            app.store.write::<_, Problem>("server", now(), |tx| {
                keep_plan(app, tx, &plan, "server")?;
                Ok(cycles::put(tx, name, last, &run)?)
            })?;
            told_plan(app, plan.number);
            tracing::info!(policy = name, due = %run.due, plan = plan.number, "cycle: plan made");
        }
        CycleStep::Start { run, plan } => {
            let state = app.store.write::<_, Problem>("server", now(), |tx| {
                let plan = plans::get(tx, plan)?;
                let number = plan.number;
                let state = start_in(tx, plan, ("server", "server"))?;
                cycles::put(tx, name, last, &started(&run, number, state.id.clone()))?;
                Ok(state)
            })?;
            tracing::info!(policy = name, due = %run.due, rollout = %state.id, "cycle: started");
            rollouts::settled(app, &state);
        }
    }
    Ok(())
}

/// From when on a host that has not spoken since the server's start is silent: each has had its turn, twice.
pub(crate) fn heard_from(app: &App) -> Timestamp {
    let seconds = i64::from(app.options.checkin_idle_seconds) * 2 + 5;
    app.started_at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn observe(
    app: &App,
    view: &View<'_>,
    policy: &Policy,
    owed: Owed,
    last: Option<&CycleRun>,
) -> Result<CycleSeen, Problem> {
    let blackout = policy.window_for(now(), true).hold;
    let (plan, rollout) = match last.map(|run| &run.state) {
        Some(CycleState::Planned { plan }) => (Some(plan_standing(view, *plan)?), None),
        Some(CycleState::Started { rollout, .. }) => {
            (None, Some(rollout_standing(app, view, rollout)?))
        }
        _ => (None, None),
    };
    Ok(CycleSeen {
        owed: owed.open,
        offered: owed.offered,
        under_way: under_way(app, view, &policy.name)?,
        blackout: blackout.filter(|hold| matches!(hold, Hold::Blackout { .. })),
        stale_feeds: stale_feeds(app, view, &policy.name)?,
        unheard: unheard(app),
        failed: cycles::failed(view, &policy.name)?,
        restored: crate::backup::held(view)?,
        plan,
        rollout,
    })
}

/// What has to be known before anything begins by itself.
fn unheard(app: &App) -> Option<Hold> {
    if let Err(problem) = app.policies().all_read() {
        return Some(Hold::NoData { what: problem.message });
    }
    let from = heard_from(app);
    let what = || format!("hosts are heard again after the server's start, until {from}");
    (now() < from).then(|| Hold::NoData { what: what() })
}

/// The oldest rollout of the policy that has not ended.
fn under_way(app: &App, view: &View<'_>, policy: &str) -> Result<Option<RolloutId>, Problem> {
    for line in stored::unfinished(view)? {
        if rollouts::load(app, view, &line.id)?.plan.policy == policy {
            return Ok(Some(line.id));
        }
    }
    Ok(None)
}

/// How a plan that the server made stands.
pub(crate) fn plan_standing(view: &View<'_>, plan: u64) -> Result<PlanStanding, Problem> {
    let detail = views::plan_line(view, plan)?;
    let (verdict, signing) = (detail.approvals, detail.signing);
    Ok(match verdict.stage {
        Stage::Started { .. } => match stored::of_plan(view, plan)? {
            Some(rollout) => PlanStanding::Started(rollout),
            None => PlanStanding::Lacking(Hold::NoData { what: format!("rollout of plan {plan}") }),
        },
        Stage::Superseded => PlanStanding::Overtaken,
        Stage::Open => verdict
            .hold()
            .or_else(|| plan_keys::hold(signing.as_ref()))
            .map_or(PlanStanding::Approved, PlanStanding::Lacking),
    })
}

fn rollout_standing(
    app: &App,
    view: &View<'_>,
    rollout: &RolloutId,
) -> Result<RolloutStanding, Problem> {
    let state = rollouts::load(app, view, rollout)?;
    Ok(match (&state.phase, state.ended_at) {
        (Phase::Done, _) => RolloutStanding::Done,
        (Phase::Aborted { by, reason }, Some(_)) => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            RolloutStanding::Failed(format!("aborted by {by}{why}"))
        }
        _ => RolloutStanding::UnderWay,
    })
}

/// Feeds without which it is not known what the policy's hosts owe.
fn stale_feeds(app: &App, view: &View<'_>, policy: &str) -> Result<Vec<String>, Problem> {
    let systems = app.fleet(|fleet| fleet.systems_of(policy))?;
    Ok(views::grounds::stale(&views::feed_rows(view)?, &systems).into_iter().collect())
}

/// A person has looked after what went wrong.
pub(crate) fn resume(app: &App, actor: &str, policy: &str, reason: &str) -> Result<(), Problem> {
    app.store
        .write::<_, Problem>(actor, now(), |tx| Ok(cycles::pardon(tx, policy, reason)?))
        .map_err(|mut problem| {
            if problem.kind == ProblemKind::NotFound {
                problem.hint = "`fettle cycle list` shows how cycles stand".to_owned();
            }
            problem
        })?;
    app.events.tell("cycle", policy);
    app.planning.notify_one();
    Ok(())
}
