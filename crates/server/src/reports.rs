//! Reports: made when somebody asks or a schedule says so, from findings, rollouts and policies as they are kept. Nothing
//! of a report is kept in the database.

pub(crate) mod csv;
mod reasons;
pub(crate) mod schedules;

use crate::app::{App, now};
use crate::rollouts;
use fettle_core::finding::FindingState;
use fettle_core::policy::Policy;
use fettle_core::report::{
    Count, Period, RolloutSummary, RolloutTotals, Seen, TrendPoint, exceptions, summarise,
};
use fettle_core::{HostId, Problem, Timestamp};
use fettle_store::{StoreError, View, findings, rollouts as stored_rollouts};
use fettle_wire::api::Report;
use reasons::Reasons;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which report.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) policy: Option<String>,
}

/// A host as a report names it.
struct Of {
    name: String,
    policy: String,
    quarantined: Option<String>,
}

/// The report, made anew where anything has happened since it was made, or a minute has passed: going through all findings
/// of the fleet takes long, and whoever looks at a page looks again.
pub(crate) fn kept(app: &App, view: &View<'_>, wanted: &Wanted) -> Result<Arc<Report>, Problem> {
    app.reports.look(view, wanted, || report(app, view, wanted))
}

/// The report.
pub(crate) fn report(app: &App, view: &View<'_>, wanted: &Wanted) -> Result<Report, Problem> {
    let now = now();
    let period = Period::asked(wanted.from, wanted.to, now)?;
    let policies = app.policies();
    let only = wanted.policy.as_deref();
    if let Some(name) = only
        && !policies.records.iter().any(|p| p.name == name)
    {
        return Err(StoreError::Missing { what: "policy", name: name.to_owned() }.into());
    }
    let is_wanted = |policy: &str| only.is_none_or(|only| only == policy);
    let hosts = hosts(app)?;
    let mut reasons = Reasons::default();
    for policy in policies.records.iter().filter(|p| is_wanted(&p.name)) {
        reasons.learn(app, view, &policy.name)?;
    }
    let mut count = Count::new(period);
    let mut accepted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    findings::each_between(view, period.from, period.to, |dated| {
        let mark = &dated.mark;
        // A host that left after the fleet was looked at is in no report.
        let Some(host) = hosts.get(mark.host).filter(|host| is_wanted(&host.policy)) else {
            return;
        };
        if mark.state == FindingState::Accepted {
            let key = (host.policy.clone(), mark.id.to_owned(), mark.source.to_owned());
            *accepted.entry(key).or_default() += 1;
        }
        let seen = seen(host, &dated);
        let quarantined = host.quarantined.as_deref();
        count.take(&seen, || reasons.why(&seen, mark.host, dated.binaries, quarantined));
    })?;
    let rollouts = under_way(app, view, period, only)?;
    let excepting: Vec<&Policy> = policies.parsed.iter().filter(|p| is_wanted(&p.name)).collect();
    Ok(Report {
        made_at: now,
        from: period.from,
        to: period.to,
        policy: wanted.policy.clone(),
        owed: count.finish(),
        rollout_totals: RolloutTotals::of(&rollouts),
        rollouts,
        exceptions: exceptions(&excepting, &accepted, now),
    })
}

/// Exposure of the whole fleet over the 30 days before `now`.
pub(crate) fn exposure(
    app: &App,
    view: &View<'_>,
    now: Timestamp,
) -> Result<Vec<TrendPoint>, Problem> {
    let period = Period::asked(None, None, now)?;
    let hosts = hosts(app)?;
    let mut count = Count::new(period);
    findings::each_between(view, period.from, period.to, |dated| {
        if let Some(host) = hosts.get(dated.mark.host) {
            // Why something is late is not asked here.
            count.take(&seen(host, &dated), String::new);
        }
    })?;
    Ok(count.finish().trend)
}

fn seen<'a>(host: &'a Of, dated: &findings::Dated<'a>) -> Seen<'a> {
    let mark = &dated.mark;
    Seen {
        policy: &host.policy,
        class: mark.class,
        host: &host.name,
        id: mark.id,
        source: mark.source,
        severity: mark.severity,
        state: mark.state,
        first_seen: dated.first_seen,
        deadline: mark.deadline,
        fixed_at: mark.fixed_at,
        offered: dated.offered,
    }
}

fn hosts(app: &App) -> Result<HashMap<String, Of>, Problem> {
    app.fleet(|fleet| {
        let of = |(host, policy): (&fettle_core::host::Host, Option<&str>)| {
            let of = Of {
                name: host.name.clone(),
                policy: policy.unwrap_or_default().to_owned(),
                quarantined: host.quarantined.as_ref().map(|q| q.reason.clone()),
            };
            (host.id.as_str().to_owned(), of)
        };
        fleet.routed().map(of).collect()
    })
}

fn under_way(
    app: &App,
    view: &View<'_>,
    period: Period,
    only: Option<&str>,
) -> Result<Vec<RolloutSummary>, Problem> {
    let mut out = Vec::new();
    for line in stored_rollouts::between(view, period.from, period.to)? {
        let state = rollouts::load(app, view, &line.id)?;
        if only.is_some_and(|only| only != state.plan.policy) {
            continue;
        }
        let events = stored_rollouts::events_of_harm(view, &line.id)?;
        let events: Vec<_> = events.into_iter().map(|e| (e.at, e.event)).collect();
        out.extend(summarise(period, &state, &events));
    }
    Ok(out)
}
