//! Store → values of the API. API, pages and metrics are all made from these.

mod feeds;
mod findings;
pub(crate) mod grounds;
mod hosts;
mod planning;
mod policies;
pub(crate) mod reach;
mod rollouts;
mod search;

pub(crate) use feeds::feed_rows;
pub(crate) use findings::{cve, explain, findings, fleet_bill, sbom};
pub(crate) use hosts::{host, host_packages};
pub(crate) use planning::{cycle_row, cycle_rows, emergencies};
pub(crate) use policies::{
    explained, next, policies, policy, policy_calendar, policy_diff, policy_stages,
    policy_versions, policy_versions_between,
};
pub(crate) use rollouts::{
    HostsShown, RolloutStanding, rollout, rollout_row, rollout_shown, rollouts, wall,
};
pub(crate) use search::search;

use crate::app::{App, now};
use crate::fleet::{HostFilter, HostSort};
use fettle_core::finding::FindingState;
use fettle_core::operator::{BOOTSTRAP, Operator, Standing};
use fettle_core::plan::approval::{
    ApprovalInput, ApprovalVerdict, Discount, Discounted, Stage, judge,
};
use fettle_core::plan::{Plan, PlanDiff, ROLE, ReportInput, diff, report};
use fettle_core::policy::Policy;
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::{
    StoreError, View, approvals as stored_approvals, emergencies as stored_emergencies,
    findings as stored_findings, hosts as stored_hosts, ledger, operators as stored_operators,
    plans, policies as stored_policies,
};
use fettle_wire::api::{
    LateRow, LedgerVerified, OperatorRow, Overview, PackageDetail, Page, PlanDetail, WindowRow,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is owed within this time is owed soon.
pub(crate) const SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// How many findings the overview names.
const WORST: u64 = 10;

/// The fleet on one screen.
pub(crate) fn overview(app: &App, view: &View<'_>) -> Result<Overview, Problem> {
    let at = now();
    let (hosts, hosts_by_state, totals) = app.fleet(|fleet| {
        let all = HostFilter::default();
        let found = fleet.hosts(app, &all, (HostSort::Name, false), 0, 0);
        (fleet.len() as u64, found.by_state, fleet.tally(at))
    })?;
    let open = stored_findings::Filter { state: Some(FindingState::Open), ..Default::default() };
    let worst = findings(app, view, &open, WORST, 0)?.items;
    let mut unfinished = Vec::new();
    for line in fettle_store::rollouts::unfinished(view)?.iter().rev() {
        unfinished.push(rollout_row(&*crate::rollouts::load(app, view, &line.id)?));
    }
    let feeds = feed_rows(view)?;
    let by_state = hosts_by_state.clone();
    Ok(Overview {
        at,
        hosts,
        hosts_by_state,
        findings_by_state: totals.by_state(),
        open_by_severity: totals.open_by_severity(),
        overdue: totals.overdue,
        due_soon: totals.due_soon,
        open_cves: totals.open_ids,
        open_kev: totals.open_kev,
        open_by_class: totals.open_by_class.clone(),
        trend: app.trend.look(),
        late: late(&totals),
        windows: windows(app, at)?,
        cycles: cycle_rows(app, view)?,
        emergencies: emergencies(app, view)?,
        rollouts: unfinished,
        no_data: Some(grounds::missing(app, &feeds, hosts, &by_state)?),
        feeds,
        worst,
        recalls: crate::recalls::rows(app, view)?,
    })
}

/// Where something is late, the most overdue first.
fn late(totals: &crate::fleet::Tally) -> Vec<LateRow> {
    let row = |((policy, ring), (overdue, due_soon)): (&(String, String), &(u64, u64))| LateRow {
        policy: policy.clone(),
        ring: ring.clone(),
        overdue: *overdue,
        due_soon: *due_soon,
    };
    let mut rows: Vec<LateRow> = totals.late_by_ring.iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.overdue, row.due_soon)));
    rows
}

/// When the hosts of each policy may be changed, the next to open first.
fn windows(app: &App, at: Timestamp) -> Result<Vec<WindowRow>, Problem> {
    let in_force = app.policies();
    let rows = app.fleet(|fleet| {
        let hosts = fleet.by_policy();
        let row = |policy: &Policy| {
            let state = policy.window_at(at);
            // A window that is closed has its next opening; one that is open has begun.
            let next = policy.openings(at, 1).first().copied();
            let opens_at = state.hold.as_ref().and(next.map(|(from, _)| from));
            WindowRow {
                policy: policy.name.clone(),
                hosts: hosts.get(policy.name.as_str()).copied().unwrap_or(0),
                opens_at,
                closes_at: state.closes_at.or(opens_at.and(next.and_then(|(_, to)| to))),
                hold: state.hold,
            }
        };
        let mut rows: Vec<WindowRow> = in_force.parsed.iter().map(row).collect();
        rows.sort_by_key(|row| (row.hold.is_some(), row.opens_at.unwrap_or(Timestamp::MAX)));
        rows
    })?;
    Ok(rows)
}

/// One package over the fleet.
pub(crate) fn package(app: &App, name: &str) -> Result<PackageDetail, Problem> {
    let found = app.fleet(|fleet| fleet.package(&fleet.tally(now()), name))?;
    found.ok_or_else(|| StoreError::Missing { what: "package", name: name.to_owned() }.into())
}

/// A plan, with its report.
pub(crate) fn plan(app: &App, view: &View<'_>, number: u64) -> Result<PlanDetail, Problem> {
    let mut detail = plan_line(view, number)?;
    let plan = &detail.plan;
    let record = stored_policies::by_digest(view, &plan.policy, plan.policy_digest)?;
    let policy = record.map(|r| crate::policies::parse(&r.text)).transpose()?;
    let roles = stored_hosts::labelled(view, ROLE)?;
    let filesystems = stored_hosts::filesystems(view, |id| plan.hosts.contains_key(id))?;
    let (needs, spent) = (reach::needs(app, view, plan)?, reach::spent(app, view)?);
    let input = ReportInput {
        plan,
        policy: policy.as_ref(),
        roles: &roles,
        needs: &needs,
        filesystems: &filesystems,
        spent: &spent,
        now: now(),
    };
    detail.report = Some(report(input));
    Ok(detail)
}

/// What one plan does that another does not. Each is a number, or `latest`.
pub(crate) fn plan_diff(view: &View<'_>, from: &str, to: &str) -> Result<PlanDiff, Problem> {
    let number = |text: &str| match (text, text.parse::<u64>()) {
        (_, Ok(number)) => Ok(number),
        ("latest", _) => {
            let latest = plans::latest(view, 1)?;
            let missing = || StoreError::Missing { what: "plan", name: text.to_owned() };
            Ok::<u64, Problem>(latest.first().ok_or_else(missing)?.number)
        }
        _ => Err(Problem::new(
            ProblemKind::BadInput,
            "no-plan-number",
            format!("`{text}` is no plan"),
            "write a plan's number, or `latest`",
        )),
    };
    Ok(diff(&plans::get(view, number(from)?)?, &plans::get(view, number(to)?)?))
}

/// A plan in a list, without its report.
pub(crate) fn plan_line(view: &View<'_>, number: u64) -> Result<PlanDetail, Problem> {
    let plan = plans::get(view, number)?;
    let made_by = plans::maker(view, number)?;
    let started = plans::started_at(view, number)?;
    let stage = Stage::of(&plan, plans::current(view, &plan.policy)?, started);
    let digest = plan.digest();
    let approvals = judged_as(view, &plan, digest, stage, now())?;
    Ok(PlanDetail {
        number,
        digest,
        made_by,
        approvals,
        signing: crate::plan_keys::standing(view, number, digest, now())?,
        plan,
        report: None,
        tests: None,
    })
}

/// A plan, and how much of it was tested on twins; as it was a moment ago where nothing has happened since.
pub(crate) fn plan_tested(
    app: &App,
    view: &View<'_>,
    number: u64,
) -> Result<Arc<PlanDetail>, Problem> {
    app.plans.look(view, &number, || {
        let detail = plan(app, view, number)?;
        let tests = crate::testbed::tests_of_plan(app, view, &detail.plan)?;
        Ok(PlanDetail { tests: Some(tests), ..detail })
    })
}

/// How a plan stands with its approvals.
pub(crate) fn judged(
    view: &View<'_>,
    plan: &Plan,
    stage: Stage,
    now: Timestamp,
) -> Result<ApprovalVerdict, Problem> {
    judged_as(view, plan, plan.digest(), stage, now)
}

/// The same of a plan whose digest is known: to find it out, all of the plan is written down.
fn judged_as(
    view: &View<'_>,
    plan: &Plan,
    digest: Digest,
    stage: Stage,
    now: Timestamp,
) -> Result<ApprovalVerdict, Problem> {
    let approvals = stored_approvals::of_plan(view, plan.number)?;
    let mut operators: BTreeMap<String, Operator> = BTreeMap::new();
    for approval in &approvals {
        if let Some(known) = operator(view, &approval.by)? {
            operators.insert(approval.by.clone(), known);
        }
    }
    let verdict = judge(&ApprovalInput {
        digest,
        made_by: &plans::maker(view, plan.number)?,
        needed: plan.approvals_needed,
        stage,
        approvals: &approvals,
        operators: &operators,
        now,
    });
    Ok(without(verdict, &stored_emergencies::declarers(view, plan.number)?))
}

/// The verdict without the approvals of those at whose word the plan was made.
fn without(verdict: ApprovalVerdict, declarers: &BTreeSet<String>) -> ApprovalVerdict {
    let ApprovalVerdict { counted, mut discounted, .. } = verdict;
    let (own, counted): (Vec<_>, Vec<_>) =
        counted.into_iter().partition(|approval| declarers.contains(&approval.by));
    let own = own.into_iter().map(|approval| Discounted { approval, discount: Discount::OwnPlan });
    discounted.extend(own);
    let given = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    ApprovalVerdict { given, counted, discounted, ..verdict }
}

fn operator(view: &View<'_>, principal: &str) -> Result<Option<Operator>, Problem> {
    if principal == BOOTSTRAP {
        return Ok(Some(Operator::bootstrap()));
    }
    Ok(stored_operators::get(view, principal)?)
}

/// An operator, as the API shows it. Who is disabled is that before anything that only time does.
pub(crate) fn operator_row(it: Operator, at: Timestamp) -> OperatorRow {
    let state = match it.standing(at) {
        Standing::Revoked { .. } => "revoked",
        _ if it.disabled_since(at).is_some() => "disabled",
        Standing::Good => "good",
        Standing::Expired { .. } => "expired",
    };
    OperatorRow {
        name: it.name,
        roles: it.roles,
        state: state.to_owned(),
        created_at: it.created_at,
        created_by: it.created_by,
        expires_at: it.expires_at,
        revoked_at: it.revoked_at,
        revoked_by: it.revoked_by,
    }
}

/// The ledger's entries after `after`, oldest first.
pub(crate) fn ledger_page(
    view: &View<'_>,
    after: u64,
    limit: u64,
) -> Result<Page<fettle_core::ledger::LedgerEntry>, Problem> {
    Ok(Page { total: ledger::len(view)?, items: ledger::after(view, after, limit)? })
}

/// Does the ledger hold together?
pub(crate) fn ledger_verified(view: &View<'_>) -> Result<LedgerVerified, Problem> {
    let verified = ledger::verify(view)?;
    Ok(LedgerVerified { entries: verified.entries, head: verified.head, broken: verified.broken })
}

/// The newest plans first.
pub(crate) fn plans(view: &View<'_>, limit: u64, offset: u64) -> Result<Page<PlanDetail>, Problem> {
    let total = plans::next_number(view)? - 1;
    let lines = plans::latest(view, limit.saturating_add(offset))?;
    let items = lines.iter().skip(offset as usize).map(|line| plan_line(view, line.number));
    Ok(Page { total, items: items.collect::<Result<_, _>>()? })
}
