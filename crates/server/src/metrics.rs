//! `/metrics` for Prometheus (OpenMetrics text). Labels are words of closed lists only, so their number is
//! bounded whatever hosts and operators call things.

use crate::app::{App, now};
use crate::views;
use fettle_core::Problem;
use fettle_store::ledger;
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

    let ages = Family::<Feed, Gauge>::default();
    let refused = Family::<Feed, Gauge>::default();
    for feed in &overview.feeds {
        let label = Feed { feed: feed.name.clone() };
        if let Some(at) = feed.imported_at {
            ages.get_or_create(&label).set(now().duration_since(at).as_secs());
        }
        refused.get_or_create(&label).set(i64::from(feed.last_error.is_some()));
    }
    registry.register("feed_age_seconds", "Seconds since a feed was imported", ages);
    registry.register("feed_refused", "1 if the last import of a feed was refused", refused);

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
