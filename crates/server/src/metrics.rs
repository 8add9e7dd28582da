//! `/metrics` for Prometheus (OpenMetrics text). Labels are words of closed lists only, so their number is
//! bounded whatever hosts and operators call things.

use crate::app::App;
use crate::views;
use fettle_core::Problem;
use fettle_core::feed::FeedStanding;
use fettle_store::ledger;
use fettle_wire::api::FeedRow;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;

/// Counted as it happens; everything else is asked of the store when somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) checkins: Counter,
    pub(crate) redeems: Counter,
    pub(crate) agent_refusals: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severity {
    severity: String,
}
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: String,
}
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Feed {
    feed: String,
}
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standing {
    feed: String,
    standing: String,
}

/// How old each feed is, and how it stands.
fn feeds(registry: &mut Registry, rows: &[FeedRow]) {
    let ages = Family::<Feed, Gauge>::default();
    let limits = Family::<Feed, Gauge>::default();
    let success = Family::<Feed, Gauge>::default();
    let failure = Family::<Feed, Gauge>::default();
    let refused = Family::<Feed, Gauge>::default();
    let waiting = Family::<Feed, Gauge>::default();
    let standing = Family::<Standing, Gauge>::default();
    for feed in rows {
        let label = Feed { feed: feed.name.clone() };
        if let (Some(age), Some(at)) = (feed.age_seconds, feed.confirmed_at) {
            ages.get_or_create(&label).set(i64::try_from(age).unwrap_or(i64::MAX));
            success.get_or_create(&label).set(at.as_second());
        }
        if let Some(at) = feed.failed_at {
            failure.get_or_create(&label).set(at.as_second());
        }
        let limit = i64::try_from(feed.stale_after_seconds).unwrap_or(i64::MAX);
        limits.get_or_create(&label).set(limit);
        refused.get_or_create(&label).set(i64::from(feed.last_error.is_some()));
        waiting.get_or_create(&label).set(i64::from(feed.held.is_some()));
        for word in
            [FeedStanding::Absent, FeedStanding::Fresh, FeedStanding::Failed, FeedStanding::Stale]
        {
            let label = Standing { feed: feed.name.clone(), standing: word.word().to_owned() };
            standing.get_or_create(&label).set(i64::from(word == feed.standing));
        }
    }
    registry.register("feed_age_seconds", "Seconds since the vendor confirmed a feed", ages);
    registry.register("feed_stale_after_seconds", "Age from which a feed is stale", limits);
    registry.register("feed_last_success_timestamp_seconds", "When a feed was confirmed", success);
    registry.register(
        "feed_last_error_timestamp_seconds",
        "When the last look went wrong",
        failure,
    );
    registry.register("feed_refused", "1 if the last look or import went wrong", refused);
    registry.register("feed_held", "1 if a fetched feed waits for a person", waiting);
    registry.register("feed_standing", "1 for the state that a feed is in", standing);
}

/// The text, as of now.
pub(crate) fn text(app: &App) -> Result<String, Problem> {
    let (overview, rollouts, entries) = app.store.read::<_, Problem>(|view| {
        Ok((views::overview(app, view)?, views::rollouts(app, view)?, ledger::len(view)?))
    })?;
    let mut registry = Registry::with_prefix("fettle");

    let hosts = Family::<State, Gauge>::default();
    for (state, n) in &overview.hosts_by_state {
        hosts.get_or_create(&State { state: state.clone() }).set(*n as i64);
    }
    registry.register("hosts", "Hosts by state", hosts);

    let findings = Family::<State, Gauge>::default();
    for (state, n) in &overview.findings_by_state {
        findings.get_or_create(&State { state: state.clone() }).set(*n as i64);
    }
    registry.register("findings", "Findings by state", findings);

    let open = Family::<Severity, Gauge>::default();
    for (severity, n) in &overview.open_by_severity {
        open.get_or_create(&Severity { severity: severity.clone() }).set(*n as i64);
    }
    registry.register("open_findings", "Open findings by severity", open);

    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value as i64);
        registry.register(name, help, gauge);
    };
    gauge(&mut registry, "overdue_findings", "Open findings past their deadline", overview.overdue);
    gauge(
        &mut registry,
        "due_soon_findings",
        "Open findings due within 24 hours",
        overview.due_soon,
    );
    gauge(
        &mut registry,
        "open_kev_findings",
        "Open findings known to be exploited",
        overview.open_kev,
    );
    gauge(&mut registry, "ledger_entries", "Entries of the ledger", entries);

    let phases = Family::<Phase, Gauge>::default();
    let mut by_phase: BTreeMap<&str, i64> = BTreeMap::new();
    for rollout in &rollouts {
        *by_phase.entry(rollout.phase.word()).or_default() += 1;
    }
    for (phase, n) in by_phase {
        phases.get_or_create(&Phase { phase: phase.to_owned() }).set(n);
    }
    registry.register("rollouts", "Rollouts by phase", phases);

    feeds(&mut registry, &overview.feeds);

    registry.register("checkins", "Check-ins of agents", app.counters.checkins.clone());
    registry.register(
        "redeems",
        "Grants that agents asked to redeem",
        app.counters.redeems.clone(),
    );
    registry.register(
        "agent_refusals",
        "Calls of agents that were refused",
        app.counters.agent_refusals.clone(),
    );

    let mut out = String::new();
    text::encode(&mut out, &registry).map_err(|e| {
        let kind = fettle_core::ProblemKind::Internal;
        Problem::new(kind, "metrics", e, "this is a defect of Fettle: please report it")
    })?;
    Ok(out)
}
