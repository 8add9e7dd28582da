//! Cycles and emergencies for people.

use crate::output::{ago, hint, line, now, print, table};
use fettle_core::Hold;
use fettle_core::cycle::{CycleOutcome, CycleState};
use fettle_core::emergency::EmergencyState;
use fettle_core::policy::CycleStart;
use fettle_wire::api::{CycleRow, Emergencies};

fn next(row: &CycleRow) -> String {
    row.next_due.map_or_else(|| "not within a year".into(), |at| ago(at, now()))
}

fn starts(row: &CycleRow) -> &'static str {
    match row.start {
        CycleStart::Propose => "a person",
        CycleStart::Automatic => "by itself, once approved",
    }
}

/// What the run at hand waits for.
fn waits(row: &CycleRow) -> String {
    if row.holds.is_empty() {
        return "its time".to_owned();
    }
    row.holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// All cycles.
pub(crate) fn cycles(rows: &[CycleRow]) {
    let mut out = table(&["POLICY", "NEXT", "STARTS", "WAITS FOR", "LAST"]);
    for row in rows {
        let last = row.runs.first().map_or_else(
            || "has not come due yet".to_owned(),
            |run| format!("{}: {}", ago(run.due, now()), run.state),
        );
        out.add_row(vec![row.policy.clone(), next(row), starts(row).into(), waits(row), last]);
    }
    print(&out);
    if rows.is_empty() {
        line("no policy in force has a [cycle]: plans are made when somebody asks for one");
    }
    next_steps(rows);
}

/// What to type next, for each cycle that waits for somebody.
fn next_steps(rows: &[CycleRow]) {
    let holds = || rows.iter().flat_map(|row| &row.holds);
    if holds().any(|hold| matches!(hold, Hold::Restored { .. })) {
        hint("fettle cycle release --reason …");
    }
    for row in rows {
        match row.runs.first().map(|run| &run.state) {
            Some(CycleState::Planned { plan }) => hint(&match row.holds.first() {
                Some(Hold::NotApproved { .. }) => format!("fettle plan approve {plan}"),
                Some(Hold::NotStarted { .. }) => format!("fettle rollout start {plan}"),
                _ => format!("fettle plan show {plan}"),
            }),
            Some(CycleState::Started { rollout, .. }) => {
                hint(&format!("fettle rollout watch {rollout}"));
            }
            Some(CycleState::Ended { outcome: CycleOutcome::Proposed { plan }, .. }) => {
                hint(&format!("fettle plan show {plan}"));
            }
            _ => {}
        }
    }
    failures(rows);
}

fn failures(rows: &[CycleRow]) {
    for row in rows {
        if let Some(failed) = &row.failed {
            line(&format!("{}: went wrong, and goes on at your word: {failed}", row.policy));
            hint(&format!("fettle cycle resume {} --reason …", row.policy));
        }
    }
}

/// One cycle, with what it did.
pub(crate) fn cycle(row: &CycleRow) {
    line(&format!("cycle of {}: comes due {}, started {}", row.policy, next(row), starts(row)));
    line(&format!("waits for {}", waits(row)));
    let mut out = table(&["CAME DUE", "PASSED OVER", "WHAT CAME OF IT"]);
    for run in &row.runs {
        out.add_row(vec![
            ago(run.due, now()),
            if run.skipped == 0 { String::new() } else { run.skipped.to_string() },
            run.state.to_string(),
        ]);
    }
    print(&out);
    next_steps(std::slice::from_ref(row));
}

/// What cannot wait.
pub(crate) fn emergencies(it: &Emergencies) {
    if it.calling.is_empty() {
        line("nothing calls: no host has an open finding that cannot wait");
    }
    for call in &it.calling {
        let findings: Vec<&str> = call.findings.iter().map(String::as_str).collect();
        line(&format!("{} hosts of {}: {}", call.hosts, call.policy, findings.join(" ")));
    }
    for declared in &it.declared {
        line(&format!(
            "declared by {}, ends {}: {}, {}",
            declared.by,
            ago(declared.until, now()),
            declared.finding,
            declared.reason
        ));
    }
    if it.plans.is_empty() {
        return;
    }
    let mut out = table(&["PLAN", "POLICY", "MADE", "HOSTS", "FINDINGS", "STANDS"]);
    for row in &it.plans {
        let plan = &row.plan;
        let stands = match (&plan.state, &row.waiting) {
            (EmergencyState::Started { rollout }, Some(_)) => {
                format!("rollout {rollout} is under way")
            }
            (_, Some(hold)) => hold.to_string(),
            (EmergencyState::Open, None) => "open".to_owned(),
            (EmergencyState::Started { rollout }, None) => format!("rollout {rollout}"),
            (EmergencyState::Overtaken, None) => "overtaken by another plan".to_owned(),
        };
        let findings: Vec<&str> = plan.findings.iter().map(String::as_str).collect();
        out.add_row(vec![
            plan.plan.to_string(),
            plan.policy.clone(),
            ago(plan.at, now()),
            plan.covers.len().to_string(),
            findings.join(" "),
            stands,
        ]);
    }
    print(&out);
    for row in &it.plans {
        let plan = row.plan.plan;
        match (&row.plan.state, &row.waiting) {
            (EmergencyState::Started { rollout }, Some(_)) => {
                hint(&format!("fettle rollout watch {rollout}"));
            }
            (_, Some(Hold::NotApproved { .. })) => hint(&format!("fettle plan approve {plan}")),
            (_, Some(Hold::NotStarted { .. })) => hint(&format!("fettle rollout start {plan}")),
            (_, Some(Hold::Restored { .. })) => hint("fettle cycle release --reason …"),
            (_, Some(_)) => hint(&format!("fettle plan show {plan}")),
            (_, None) => {}
        }
    }
}
