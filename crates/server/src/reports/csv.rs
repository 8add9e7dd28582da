//! The tables of a report as comma-separated values: RFC 4180, UTF-8, times as RFC 3339, durations in seconds.

use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_wire::api::Report;
use std::fmt::Write as _;

/// The tables, as queries and command lines name them.
pub(crate) const TABLES: [&str; 5] = ["compliance", "overdue", "trend", "rollouts", "exceptions"];

/// Is there such a table? Asked before a report is made for it.
pub(crate) fn known(name: &str) -> Result<(), Problem> {
    if TABLES.contains(&name) { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> Problem {
    let message = format!("a report has no table `{name}`");
    let hint = format!("write one of {}", TABLES.join(", "));
    Problem::new(ProblemKind::Usage, "bad-query", message, hint)
}

/// One table of a report.
pub(crate) fn table(report: &Report, name: &str) -> Result<String, Problem> {
    let rows: Vec<Vec<String>> = match name {
        "compliance" => compliance(report),
        "overdue" => overdue(report),
        "trend" => trend(report),
        "rollouts" => rollouts(report),
        "exceptions" => exceptions(report),
        other => return Err(unknown(other)),
    };
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escape(cell)).collect();
        // A String takes everything.
        let _ = write!(out, "{}\r\n", cells.join(","));
    }
    Ok(out)
}

/// RFC 4180 section 2, rules 5 to 7. A cell that a spreadsheet would run as a formula gets an apostrophe before it: names
/// and reasons are written by people and hosts.
fn escape(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !cell.contains([',', '"', '\n', '\r']) {
        return cell.to_owned();
    }
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn permille(share: Option<u32>) -> String {
    share.map(|n| format!("{}.{}", n / 10, n % 10)).unwrap_or_default()
}

fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn compliance(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "policy",
        "class",
        "hosts",
        "hosts_late",
        "in_time",
        "late",
        "overdue",
        "due",
        "fixed_undated",
        "open_undated",
        "no_fix_yet",
        "accepted",
        "in_time_percent",
        "median_seconds",
        "p90_seconds",
        "worst_seconds",
    ])];
    rows.extend(report.owed.lines.iter().map(|it| {
        let time = &it.time_to_patch;
        let mut row = vec![it.policy.clone(), it.class.clone()];
        row.extend(
            [
                it.hosts,
                it.hosts_late,
                it.in_time,
                it.late,
                it.overdue,
                it.due,
                it.fixed_undated,
                it.open_undated,
                it.no_fix_yet,
                it.accepted,
            ]
            .map(|n| n.to_string()),
        );
        row.push(permille(it.in_time_permille));
        let times = [time.median_seconds, time.p90_seconds, time.worst_seconds];
        row.extend(times.map(|n| if time.fixed == 0 { String::new() } else { n.to_string() }));
        row
    }));
    rows
}

fn overdue(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "policy", "class", "id", "source", "severity", "deadline", "hosts", "example", "why",
    ])];
    rows.extend(report.owed.overdue.iter().map(|it| {
        vec![
            it.policy.clone(),
            it.class.clone(),
            it.id.clone(),
            it.source.clone(),
            it.severity.word().to_owned(),
            it.deadline.to_string(),
            it.hosts.to_string(),
            it.example.clone(),
            it.why.clone(),
        ]
    }));
    rows
}

fn trend(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["at", "class", "open", "overdue"])];
    for point in &report.owed.trend {
        // Each row is of its class alone: whoever sums a column counts nothing twice.
        rows.extend(point.open.iter().map(|(class, open)| {
            let overdue = point.overdue_by_class.get(class).copied().unwrap_or(0);
            vec![point.at.to_string(), class.clone(), open.to_string(), overdue.to_string()]
        }));
    }
    rows
}

fn rollouts(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "id",
        "policy",
        "plan",
        "started_by",
        "started_at",
        "ended_at",
        "phase",
        "hosts",
        "patched",
        "undone",
        "refused",
        "quarantined",
        "cancelled",
        "unfinished",
        "halts",
        "detected_seconds",
        "halted_seconds",
    ])];
    rows.extend(report.rollouts.iter().map(|it| {
        let ended: Option<Timestamp> = it.ended_at;
        let mut row = vec![
            it.id.to_string(),
            it.policy.clone(),
            it.plan.to_string(),
            it.started_by.clone(),
            it.started_at.to_string(),
            maybe(ended),
            it.phase.clone(),
        ];
        row.extend(
            [
                it.hosts,
                it.patched,
                it.undone,
                it.refused,
                it.quarantined,
                it.cancelled,
                it.unfinished,
                it.halts,
            ]
            .map(|n| n.to_string()),
        );
        row.extend([it.detected_seconds, it.halted_seconds].map(maybe));
        row
    }));
    rows
}

fn exceptions(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&[
        "policy", "kind", "what", "owner", "reason", "until", "standing", "findings",
    ])];
    rows.extend(report.exceptions.iter().map(|it| {
        vec![
            it.policy.clone(),
            it.kind.word().to_owned(),
            it.what.clone(),
            it.owner.clone(),
            it.reason.clone(),
            it.until.to_string(),
            it.standing.word().to_owned(),
            maybe(it.findings),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::{escape, trend};
    use fettle_core::report::{Owed, TrendPoint};
    use fettle_wire::api::Report;
    use std::collections::BTreeMap;

    #[test]
    fn whoever_sums_a_column_of_the_trend_counts_nothing_twice() {
        let counts = |all: &[(&str, u64)]| -> BTreeMap<String, u64> {
            all.iter().map(|(class, n)| ((*class).to_owned(), *n)).collect()
        };
        let point = TrendPoint {
            at: fettle_core::Timestamp::UNIX_EPOCH,
            open: counts(&[("", 5), ("all", 7), ("critical", 3)]),
            overdue: 5,
            overdue_by_class: counts(&[("all", 4), ("critical", 1)]),
        };
        let report = Report {
            made_at: point.at,
            from: point.at,
            to: point.at,
            policy: None,
            owed: Owed { trend: vec![point], ..Owed::default() },
            rollout_totals: Default::default(),
            rollouts: vec![],
            exceptions: vec![],
        };
        let rows = trend(&report);
        assert_eq!(rows[0], ["at", "class", "open", "overdue"]);
        let sum = |n: usize| rows[1..].iter().map(|r| r[n].parse::<u64>().unwrap()).sum::<u64>();
        assert_eq!((rows.len(), sum(2), sum(3)), (4, 15, 5));
    }

    #[test]
    fn cells_are_quoted_where_they_must_be_and_never_run_as_formulas() {
        let table = [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("@sum", "\"'@sum\""),
            ("-1", "\"'-1\""),
            ("", ""),
        ];
        for (cell, written) in table {
            assert_eq!(escape(cell), written);
        }
    }
}
