//! Plans: made from the fleet as it is now, kept for ever.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::{App, now};
use crate::spans::{traced, within};
use crate::views;
use axum::http::StatusCode;
use fettle_core::finding::Finding;
use fettle_core::host::Host;
use fettle_core::plan::{Alike, Barred, Plan, PlanDiff, PlanInput, make as make_plan};
use fettle_core::policy::Policy;
use fettle_core::{HostId, Problem, ProblemKind, RolloutId};
use fettle_store::{StoreError, Tx, View, barred, hosts, planning, plans as stored, recalls};
use fettle_wire::api::{MakePlan, Page, PlanDetail};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Two made at once: one loses and is made anew.
pub(crate) const ATTEMPTS: u32 = 5;

/// The newest plans first.
#[utoipa::path(
    get, path = "/plans", tag = "plans", params(Part),
    responses((status = 200, body = Page<PlanDetail>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<PlanDetail>> {
    look(&app, move |_, view| views::plans(view, part.limit(), part.offset)).await
}

/// A plan, with what it does not do and why.
#[utoipa::path(
    get, path = "/plans/{number}", tag = "plans", params(("number" = u64, Path, description = "Its number")),
    responses((status = 200, body = PlanDetail), Failures)
)]
pub(super) async fn one(app: Asked, At(number): At<u64>) -> Answer<Arc<PlanDetail>> {
    look(&app, move |app, view| views::plan_tested(app, view, number)).await
}

/// What one plan does that another does not: hosts, packages, waves, reasons. Each is a number, or `latest`.
#[utoipa::path(
    get, path = "/plans/{number}/diff/{to}", tag = "plans",
    params(
        ("number" = String, Path, description = "Number of the one, or `latest`"),
        ("to" = String, Path, description = "Number of the other, or `latest`"),
    ),
    responses((status = 200, body = Object), Failures)
)]
pub(super) async fn diff(app: Asked, At((from, to)): At<(String, String)>) -> Answer<PlanDiff> {
    look(&app, move |_, view| views::plan_diff(view, &from, &to)).await
}

/// Make a plan by a policy, now. Nothing happens by it until a rollout is started.
#[utoipa::path(
    post, path = "/plans", tag = "plans", request_body = MakePlan,
    responses((status = 201, body = PlanDetail), Failures)
)]
pub(super) async fn make(
    app: Asked,
    who: Who,
    Body(asked): Body<MakePlan>,
) -> Result<(StatusCode, axum::Json<Arc<PlanDetail>>), Failure> {
    let detail = app.blocking(move |app| make_now(app, &who, &asked)).await?;
    Ok((StatusCode::CREATED, axum::Json(detail)))
}

/// Makes a plan and keeps it.
pub(crate) fn make_now(app: &App, who: &Who, asked: &MakePlan) -> Result<Arc<PlanDetail>, Problem> {
    for _ in 0..ATTEMPTS {
        let plan = app.store.read(|view| plan_now(app, view, asked))?;
        let kept = app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            keep_plan(app, tx, &plan, &who.principal)
        });
        match kept {
            Ok(()) => {
                told_plan(app, plan.number);
                return app.store.read(|view| views::plan_tested(app, view, plan.number));
            }
            Err(problem) if problem.kind == ProblemKind::Conflict => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(StoreError::Conflict("other plans are made faster than this one could be kept".into())
        .into())
}

/// Keeps a plan, whoever made it, and asks for the tests on twins that its policy requires. `maker`: the principal at
/// whose word it was made.
pub(crate) fn keep_plan(
    app: &App,
    tx: &mut Tx<'_>,
    plan: &Plan,
    maker: &str,
) -> Result<(), Problem> {
    stored::insert(tx, plan, maker)?;
    match plan.testbed.as_ref().is_some_and(|rule| rule.required) {
        true => crate::testbed::ask(app, tx, plan, false),
        false => Ok(()),
    }
}

/// Tells that a plan was kept, once that is committed.
pub(crate) fn told_plan(app: &App, number: u64) {
    app.test.notify_one();
    app.events.tell("plan", &number.to_string());
}

/// The plan that would be made now.
pub(crate) fn plan_now(app: &App, view: &View<'_>, asked: &MakePlan) -> Result<Plan, Problem> {
    let policies = app.policies();
    policies.all_read()?;
    let policy = policies.parsed.iter().find(|p| p.name == asked.policy);
    let policy = policy.ok_or_else(|| {
        let names: Vec<_> = policies.parsed.iter().map(|p| p.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "there is none yet: `fettle policy apply FILE`".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Problem::new(
            ProblemKind::NotFound,
            "no-such-policy",
            format!("there is no policy `{}`", asked.policy),
            hint,
        )
    })?;
    let mut only = BTreeSet::new();
    for host in &asked.hosts {
        only.insert(hosts::find(view, host)?.host.id);
    }
    plan_by(app, view, policy, (!asked.hosts.is_empty()).then_some(&only), &|_, _| true)
}

/// Makes a plan by a policy, for those hosts or for all that it governs, from those of their findings that `counts`.
pub(crate) fn plan_by(
    app: &App,
    view: &View<'_>,
    policy: &Policy,
    only: Option<&BTreeSet<HostId>>,
    counts: &dyn Fn(&HostId, &Finding) -> bool,
) -> Result<Plan, Problem> {
    within(traced!("plan", policy = policy.name.as_str()), || {
        planned(app, view, policy, only, counts)
    })
}

fn planned(
    app: &App,
    view: &View<'_>,
    policy: &Policy,
    only: Option<&BTreeSet<HostId>>,
    counts: &dyn Fn(&HostId, &Finding) -> bool,
) -> Result<Plan, Problem> {
    let policies = app.policies();
    policies.all_read()?;
    let fleet: Vec<Host> = planning::fleet(view, &mut Alike::default())?
        .into_iter()
        .map(|mut host| {
            host.last_seen = app.last_seen(&host.id, host.last_seen);
            host
        })
        .collect();
    // What others are exposed to, no plan by this policy looks at.
    let asked = |host: &&Host| {
        only.is_none_or(|only| only.contains(&host.id)) && policy.select.matches(host)
    };
    let asked = fleet.iter().filter(asked).map(|host| &host.id).collect();
    let found = planning::findings(view, &asked, counts)?;
    let barred = barred_now(view)?;
    let recalls = recalls::all(view)?;
    let busy = busy(app, view)?;
    let number = stored::next_number(view)?;
    Ok(make_plan(PlanInput {
        number,
        parent: stored::current(view, &policy.name)?,
        policy,
        policies: &policies.parsed,
        fleet: &fleet,
        only,
        findings: &found,
        barred: &barred,
        recalls: &recalls,
        busy: &busy,
        serving: crate::rollouts::serving(app, view, &policy.name)?,
        silent_after_seconds: app.options.silent_after_seconds,
        now: now(),
        seed: number,
    }))
}

/// Versions that are not to be given.
pub(crate) fn barred_now(view: &View<'_>) -> Result<Vec<Barred>, Problem> {
    let barred = |b: barred::BarredRecord| Barred {
        package: b.package,
        version: b.version,
        cohort: b.cohort,
        reason: b.reason,
    };
    Ok(barred::all(view)?.into_iter().map(barred).collect())
}

/// Hosts that a rollout still wants something of.
fn busy(app: &App, view: &View<'_>) -> Result<BTreeMap<HostId, RolloutId>, Problem> {
    let mut busy = BTreeMap::new();
    for line in fettle_store::rollouts::unfinished(view)? {
        let state = crate::rollouts::load(app, view, &line.id)?;
        for (host, _) in state.hosts.open() {
            busy.insert(host.clone(), line.id.clone());
        }
    }
    Ok(busy)
}
