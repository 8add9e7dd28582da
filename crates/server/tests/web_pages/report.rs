//! A report of a bad month, with names and reasons that would like to be markup.

use super::{HOSTILE, HOSTILE_ATTRIBUTE, ago, now};
use fettle_core::RolloutId;
use fettle_core::finding::Severity;
use fettle_core::report::{
    Compliance, ExceptionKind, ExceptionLine, OverdueLine, Owed, RolloutSummary, RolloutTotals,
    Standing, TimeToPatch, TrendPoint,
};
use fettle_wire::api::Report;

const DAY: i64 = 86_400;

pub(crate) fn month() -> Report {
    let line = |policy: &str, class: &str, late: u64| Compliance {
        policy: policy.into(),
        class: class.into(),
        hosts: 120,
        hosts_late: late,
        in_time: 1000,
        late: 10,
        overdue: late * 2,
        due: 55,
        fixed_undated: 3,
        open_undated: 4,
        no_fix_yet: 70,
        accepted: 1,
        in_time_permille: Some(970),
        time_to_patch: TimeToPatch {
            fixed: 1010,
            median_seconds: 9000,
            p90_seconds: 90_000,
            worst_seconds: 900_000,
        },
    };
    let overdue = |n: u64, why: &str| OverdueLine {
        policy: "web".into(),
        class: "critical".into(),
        id: format!("CVE-2026-{n}"),
        source: "openssl".into(),
        severity: Severity::High,
        deadline: ago(3 * DAY),
        hosts: n,
        example: HOSTILE.into(),
        why: why.into(),
    };
    let rollout = RolloutSummary {
        id: RolloutId("ro-7".into()),
        policy: "web".into(),
        plan: 9,
        started_by: HOSTILE.into(),
        started_at: ago(2 * DAY),
        ended_at: None,
        phase: "halted".into(),
        hosts: 40,
        patched: 20,
        undone: 2,
        refused: 1,
        quarantined: 1,
        cancelled: 0,
        unfinished: 16,
        halts: 1,
        detected_seconds: Some(42),
        halted_seconds: Some(1),
    };
    let exception = |standing, kind, findings| ExceptionLine {
        policy: "web".into(),
        kind,
        what: "CVE-2026-1 in gcc-12".into(),
        owner: HOSTILE_ATTRIBUTE.into(),
        reason: HOSTILE.into(),
        until: ago(-DAY),
        standing,
        findings,
    };
    Report {
        made_at: now(),
        from: ago(30 * DAY),
        to: now(),
        policy: Some("web".into()),
        owed: Owed {
            total: line("", "", 12),
            lines: vec![line("web", "critical", 12), line("web", "", 0), line("", "", 0)],
            overdue: vec![overdue(12, "budget `web` is used up"), overdue(1, HOSTILE)],
            overdue_left_out: 3,
            trend: exposure(),
        },
        rollout_totals: RolloutTotals::of(std::slice::from_ref(&rollout)),
        rollouts: vec![rollout],
        exceptions: vec![
            exception(Standing::Ended, ExceptionKind::Acceptance, Some(3)),
            exception(Standing::Ending, ExceptionKind::Exclusion, None),
            exception(Standing::Stands, ExceptionKind::Acceptance, Some(0)),
        ],
    }
}

/// Of a fleet that has nothing yet.
pub(crate) fn month_empty() -> Report {
    Report {
        policy: None,
        owed: Owed::default(),
        rollout_totals: RolloutTotals::default(),
        rollouts: vec![],
        exceptions: vec![],
        ..month()
    }
}

/// Thirty days in which one thing came up and went away, and the rest goes slowly.
pub(crate) fn exposure() -> Vec<TrendPoint> {
    let point = |day: i64| {
        let critical = if (12..19).contains(&day) { 64 - 8 * (day as u64 - 12) } else { 12 };
        let open = [("critical", critical), ("standard", 90 + day as u64 * 3), ("", 7)];
        TrendPoint {
            at: ago((30 - day) * DAY),
            open: open.map(|(class, n)| (class.to_owned(), n)).into(),
            overdue: if day > 14 { (day as u64 - 14) * 2 } else { 0 },
            overdue_by_class: Default::default(),
        }
    };
    (0..=30).map(point).collect()
}
