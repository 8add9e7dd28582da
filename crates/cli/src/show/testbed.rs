//! Ring 0: tests on twins, and what they cover of a plan.

use crate::output::{ago, hint, line, now, print, table};
use fettle_core::testbed::{TestState, Verdict};
use fettle_wire::api::{Page, PlanTests, TestRow};

/// Packages named, the others counted.
const NAMED: usize = 10;

/// The newest tests.
pub(crate) fn list(page: &Page<TestRow>) {
    if page.items.is_empty() {
        line("nothing was tested on a twin yet");
        hint("fettle testbed run PLAN");
        return;
    }
    let mut out =
        table(&["TEST", "PLAN", "COHORT", "TWIN OF", "WORKER", "STATE", "MIRRORED", "ASKED"]);
    let now = now();
    for row in &page.items {
        out.add_row(vec![
            row.number.to_string(),
            row.plan.to_string(),
            row.work.cohort.short(),
            row.like.clone(),
            row.worker.clone().unwrap_or_else(|| "–".to_owned()),
            row.state.word().to_owned(),
            mirrored(&row.state),
            ago(row.asked_at, now),
        ]);
    }
    print(&out);
}

fn mirrored(state: &TestState) -> String {
    match state {
        TestState::Ended { report, .. } if report.mirror.wanted > 0 => {
            format!("{} of {}", report.mirror.exact, report.mirror.wanted)
        }
        _ => "–".to_owned(),
    }
}

/// How much of a plan is covered.
pub(crate) fn coverage(it: &PlanTests) {
    line(&format!(
        "plan {}: {} of {} cohorts tested, {} of {} hosts covered ({} %){}",
        it.plan,
        it.cohorts_tested,
        it.cohorts,
        it.hosts_covered,
        it.hosts,
        it.percent,
        if it.required { "; its policy requires all" } else { "" }
    ));
    let mut out = table(&["COHORT", "HOSTS", "CHANGES", "TWIN OF", "MIRRORED", "TEST"]);
    for work in &it.works {
        out.add_row(vec![
            work.work.cohort.short(),
            work.hosts.len().to_string(),
            work.changes.to_string(),
            work.like.clone(),
            work.mirrored_percent.map_or_else(|| "–".to_owned(), |p| format!("{p} %")),
            work.standing.to_string(),
        ]);
    }
    print(&out);
    for test in &it.tests {
        if let TestState::Ended { report, .. } = &test.state {
            line(&format!("test {}, a twin of {}:", test.number, test.like));
            left_open(report);
        }
    }
    match &it.hold {
        Some(hold) => line(&format!("waits: {hold}")),
        None if it.required => line("ring 0 has passed"),
        None => {}
    }
}

/// One test.
pub(crate) fn one(row: &TestRow) {
    line(&format!(
        "test {} of plan {}, a twin of {}, asked for by {} at {}",
        row.number, row.plan, row.like, row.asked_by, row.asked_at
    ));
    line(&format!("  cohort  {}", row.work.cohort));
    line(&format!("  changes {}", row.work.changes));
    let report = match &row.state {
        TestState::Waiting { why } => return line(&format!("  {why}")),
        TestState::Running { worker, since } => {
            return line(&format!("  being tested on {worker} since {since}"));
        }
        TestState::Ended { report, .. } => report,
    };
    match &report.verdict {
        Verdict::Passed => line("  passed: patched and verified, undone, and every file as it was"),
        Verdict::Failed { phase, reason } => {
            line(&format!("  failed in {}: {reason}", phase.word()))
        }
        Verdict::NotTested { message, hint, .. } => {
            line(&format!("  not tested: {message}"));
            line(&format!("  → {hint}"));
        }
    }
    let times: Vec<String> = report
        .times
        .iter()
        .map(|(phase, ms)| format!("{} {:.1} s", phase.word(), *ms as f64 / 1000.0))
        .collect();
    if !times.is_empty() {
        line(&format!("  took {}", times.join(", ")));
    }
    if let Some(files) = report.delta_files {
        line(&format!(
            "  the change touched {files} files; {} compared before and after",
            report.compared
        ));
    }
    if !report.restarted.is_empty() {
        line(&format!("  restarted {}", report.restarted.join(", ")));
    }
    left_open(report);
}

fn left_open(report: &fettle_core::testbed::TestReport) {
    let mirror = &report.mirror;
    if mirror.wanted > 0 {
        line(&format!(
            "  {} of {} packages mirrored exactly ({} %){}",
            mirror.exact,
            mirror.wanted,
            mirror.percent(),
            if mirror.same_cohort { ", and not one more" } else { "" }
        ));
    }
    for other in mirror.other.iter().take(NAMED) {
        line(&format!("  could not mirror: {other}"));
    }
    if mirror.other.len() > NAMED {
        line(&format!("  and {} more", mirror.other.len() - NAMED));
    }
    for limit in &report.limits {
        line(&format!("  not shown: {limit}"));
    }
}
