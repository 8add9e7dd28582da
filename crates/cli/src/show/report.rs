//! A report on the terminal.

use crate::output::{hint, line, print, severity, table};
use fettle_core::report::Compliance;
use fettle_server::web::words;
use fettle_wire::api::Report;

/// Lines of a list that a terminal is shown.
const SHOWN: usize = 20;

/// All of it.
pub(crate) fn one(it: &Report) {
    let whose =
        it.policy.as_deref().map_or("the whole fleet".to_owned(), |p| format!("policy {p}"));
    line(&format!("{whose}, {} to {}", words::utc(it.from), words::utc(it.to)));
    line("");
    compliance(it);
    line("");
    overdue(it);
    line("");
    rollouts(it);
    line("");
    exceptions(it);
    line("");
    hint("fettle report --html FILE | --pdf FILE | --csv TABLE");
}

fn compliance(it: &Report) {
    let mut out = table(&[
        "POLICY",
        "CLASS",
        "IN TIME",
        "DONE",
        "LATE",
        "OVERDUE",
        "DUE",
        "NO FIX",
        "ACCEPTED",
        "HOSTS LATE",
        "MEDIAN",
        "9 OF 10",
        "LONGEST",
    ]);
    let or = |text: &str, none: &str| if text.is_empty() { none } else { text }.to_owned();
    let row = |policy: String, class: String, c: &Compliance| {
        vec![
            policy,
            class,
            words::share(c.in_time_permille),
            (c.in_time + c.fixed_undated).to_string(),
            c.late.to_string(),
            c.overdue.to_string(),
            (c.due + c.open_undated).to_string(),
            c.no_fix_yet.to_string(),
            c.accepted.to_string(),
            format!("{}/{}", c.hosts_late, c.hosts),
            words::took(&c.time_to_patch, |t| t.median_seconds),
            words::took(&c.time_to_patch, |t| t.p90_seconds),
            words::took(&c.time_to_patch, |t| t.worst_seconds),
        ]
    };
    for c in &it.owed.lines {
        out.add_row(row(or(&c.policy, "(none)"), or(&c.class, "(none)"), c));
    }
    out.add_row(row("all".to_owned(), String::new(), &it.owed.total));
    print(&out);
}

fn overdue(it: &Report) {
    if it.owed.overdue.is_empty() {
        line("nothing is overdue");
        return;
    }
    let mut out = table(&["OVERDUE", "SEVERITY", "IN", "OWED SINCE", "HOSTS", "LIKE", "WHY"]);
    for late in it.owed.overdue.iter().take(SHOWN) {
        out.add_row(vec![
            late.id.clone().into(),
            severity(late.severity),
            late.source.clone().into(),
            words::utc(late.deadline).into(),
            late.hosts.into(),
            late.example.clone().into(),
            late.why.clone().into(),
        ]);
    }
    print(&out);
    let more = it.owed.overdue.len().saturating_sub(SHOWN) as u64 + it.owed.overdue_left_out;
    if more > 0 {
        line(&format!("and {more} more: fettle report --csv overdue"));
    }
}

fn rollouts(it: &Report) {
    if it.rollouts.is_empty() {
        line("no rollout was under way");
        return;
    }
    let mut out = table(&[
        "ROLLOUT",
        "POLICY",
        "STARTED",
        "STATE",
        "HOSTS",
        "PATCHED",
        "UNDONE",
        "REFUSED",
        "QUARANTINED",
        "HARM KNOWN AFTER",
        "HALTED AFTER",
    ]);
    let span = |seconds: Option<u64>| seconds.map_or("-".to_owned(), words::seconds);
    for run in it.rollouts.iter().take(SHOWN) {
        out.add_row(vec![
            run.id.to_string(),
            run.policy.clone(),
            words::utc(run.started_at),
            run.phase.clone(),
            run.hosts.to_string(),
            run.patched.to_string(),
            run.undone.to_string(),
            run.refused.to_string(),
            run.quarantined.to_string(),
            span(run.detected_seconds),
            span(run.halted_seconds),
        ]);
    }
    print(&out);
    if it.rollouts.len() > SHOWN {
        line(&format!("and {} more: fettle report --csv rollouts", it.rollouts.len() - SHOWN));
    }
}

fn exceptions(it: &Report) {
    if it.exceptions.is_empty() {
        line("no policy excepts anything");
        return;
    }
    let mut out = table(&["EXCEPTION", "POLICY", "OWNER", "UNTIL", "STANDS", "FINDINGS", "WHY"]);
    for it in &it.exceptions {
        out.add_row(vec![
            format!("{} {}", it.kind.word(), it.what),
            it.policy.clone(),
            it.owner.clone(),
            words::utc(it.until),
            it.standing.word().to_owned(),
            it.findings.map(|n| n.to_string()).unwrap_or_default(),
            it.reason.clone(),
        ]);
    }
    print(&out);
}
