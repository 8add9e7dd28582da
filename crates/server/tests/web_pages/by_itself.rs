//! What the server does by itself beside patching, with the worst that people may have called it.

use super::*;
use fettle_core::policy::Recurrence;
use fettle_core::report::schedule::{Format, Schedule};
use fettle_wire::api::{DeliveryRow, ReportRun, SavedViewRow, ScheduleRow};

fn schedule(keep: Option<u32>, webhook: Option<&str>, policy: Option<&str>) -> Schedule {
    Schedule {
        recurrence: Recurrence::parse("FREQ=MONTHLY;BYMONTHDAY=1").unwrap(),
        at: "06:00".parse().unwrap(),
        time_zone: "Europe/Berlin".into(),
        covers: "last-month".parse().unwrap(),
        policy: policy.map(str::to_owned),
        formats: [Format::Html, Format::Pdf].into(),
        keep,
        webhook: webhook.map(str::to_owned),
    }
}

/// One that went well and one that did not.
pub(crate) fn schedules() -> Vec<ScheduleRow> {
    let run = |arrived| ReportRun {
        due: ago(90_000),
        made_at: ago(89_990),
        missed: 2,
        from: ago(86_400 * 31),
        to: ago(86_400),
        files: vec!["monthly/20261101T050000Z/report.html".into()],
        arrived,
    };
    let row = |name: &str, schedule, arrived, holds| ScheduleRow {
        name: name.into(),
        schedule,
        directory: Some("/var/lib/fettle/reports/monthly".into()),
        set_at: ago(86_400 * 40),
        set_by: HOSTILE.into(),
        last: Some(run(arrived)),
        next_at: Some(ago(-86_400 * 3)),
        holds,
    };
    let not_due = Hold::NotDue { at: Some(ago(-86_400 * 3)) };
    let not_delivered = Hold::NotDelivered {
        delivery: "msg_0123456789abcdef0123456789abcdef".into(),
        to: "https://chat.example.org/…".into(),
        tries: 10,
        why: HOSTILE.into(),
        again_at: None,
    };
    let no_pdf =
        Hold::FormatNotMade { format: "pdf".into(), why: "no Chromium is installed".into() };
    let to = Some("https://chat.example.org/…");
    vec![
        row("monthly", schedule(Some(24), None, None), None, vec![not_due.clone(), no_pdf]),
        row(
            "web-weekly",
            schedule(Some(2), to, Some(HOSTILE)),
            Some(false),
            vec![not_due, not_delivered],
        ),
        ScheduleRow {
            last: None,
            next_at: None,
            ..row("new", schedule(None, to, None), None, vec![])
        },
    ]
}

/// One that is tried again, and a dead letter.
pub(crate) fn deliveries() -> Vec<DeliveryRow> {
    let row = |id: &str, tries, next_at: Option<Timestamp>| DeliveryRow {
        id: id.into(),
        kind: "report.made".into(),
        subject: "web-weekly".into(),
        to: "https://chat.example.org/…".into(),
        bytes: 48_211,
        made_at: ago(8000),
        tries,
        next_at,
        dead_at: next_at.is_none().then(|| ago(60)),
        error: (tries > 0).then(|| HOSTILE.to_owned()),
    };
    vec![
        row("msg_0123456789abcdef0123456789abcdef", 10, None),
        row("msg_fedcba9876543210fedcba9876543210", 0, Some(ago(-300))),
    ]
}

/// One of one's own and one that somebody shares.
pub(crate) fn saved_views() -> Vec<SavedViewRow> {
    let row = |name: &str, owner: &str, query: &str, shared| SavedViewRow {
        name: name.into(),
        owner: owner.into(),
        mine: owner == "admin",
        query: query.into(),
        shared,
        saved_at: ago(86_400),
    };
    vec![
        row("Exposed web servers", "admin", "state=exposed&label=role%3Dweb", false),
        row(HOSTILE, "olga", "sort=-overdue", true),
    ]
}
