//! Rollouts.

use crate::output::{ago, hint, line, now, print, state, table};
use crate::watch::doing;
use fettle_core::rollout::Phase;
use fettle_wire::api::{Page, RolloutDetail, RolloutRow};

/// The phase's word.
fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused { .. } => "paused",
        Phase::Halted { .. } => "halted",
        Phase::Aborted { .. } => "aborted",
        Phase::Done => "done",
    }
}

/// All rollouts.
pub(crate) fn list(page: &Page<RolloutRow>) {
    if page.items.is_empty() {
        line("no rollouts yet");
        hint("fettle plan make POLICY, then fettle rollout start NUMBER");
        return;
    }
    let mut out = table(&["ROLLOUT", "PHASE", "POLICY", "PLAN", "WAVE", "HOSTS", "STARTED", "BY"]);
    for row in &page.items {
        let hosts: Vec<String> =
            row.hosts_by_state.iter().map(|(word, n)| format!("{n} {word}")).collect();
        out.add_row(vec![
            row.id.to_string().into(),
            state(phase(&row.phase)),
            row.policy.clone().into(),
            row.plan.into(),
            format!("{} of {}", (row.wave + 1).min(row.waves), row.waves).into(),
            hosts.join(", ").into(),
            ago(row.created_at, now()).into(),
            row.created_by.clone().into(),
        ]);
    }
    print(&out);
}

/// One rollout.
pub(crate) fn one(detail: &RolloutDetail) {
    let row = &detail.row;
    line(&format!(
        "rollout {} of plan {} by policy `{}`: {}, wave {} of {}",
        row.id,
        row.plan,
        row.policy,
        phase(&row.phase),
        (row.wave + 1).min(row.waves),
        row.waves
    ));
    match &row.phase {
        Phase::Halted { hold } => line(&format!("  halted: {hold}")),
        Phase::Paused { by, reason } | Phase::Aborted { by, reason } => {
            line(&format!("  by {by}: {reason}"))
        }
        Phase::Running | Phase::Done => {}
    }
    for waiting in &detail.waiting {
        let host = waiting.host.as_ref().and_then(|id| detail.hosts.iter().find(|h| h.id == *id));
        let who = host.map_or(String::new(), |h| format!("{}: ", h.name));
        line(&format!("  waits: {who}{}", waiting.hold));
    }
    if !detail.gate.is_empty() {
        let mut out = table(&["CHECK", "KIND", "SAYS", "SINCE", "WHY"]);
        for it in &detail.gate {
            out.add_row(vec![
                it.check.clone().into(),
                it.kind.clone().into(),
                state(it.says.word()),
                it.since.map_or("-".to_owned(), |at| ago(at, now())).into(),
                it.why.clone().into(),
            ]);
        }
        print(&out);
    }
    if !detail.traffic.is_empty() {
        let mut out = table(&["HOST", "POOL", "TRAFFIC", "STATE"]);
        for it in &detail.traffic {
            let share = it.share.map_or("-".to_owned(), |share| format!("{share} %"));
            let row = [it.name.clone(), it.pool.clone(), share, it.state.clone()];
            out.add_row(row.to_vec());
        }
        print(&out);
    }
    let mut out = table(&["HOST", "WAVE", "STATE", "NOW", "STEPS"]);
    for host in &detail.hosts {
        let steps: Vec<String> = fettle_core::transaction::Step::ALL
            .iter()
            .filter_map(|step| host.steps.get(step.word()).map(|f| (step.word(), f.milliseconds)))
            .map(|(word, ms)| format!("{word} {:.1} s", ms as f64 / 1000.0))
            .collect();
        out.add_row(vec![
            host.name.clone().into(),
            (host.run.wave + 1).into(),
            state(host.run.state.word()),
            doing(host).into(),
            steps.join(", ").into(),
        ]);
    }
    print(&out);
}
