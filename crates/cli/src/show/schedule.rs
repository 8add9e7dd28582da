//! Reports on a schedule, and messages that webhooks did not take.

use crate::output::{ago, hint, line, now, print, table};
use fettle_server::web::words;
use fettle_wire::api::{DeliveryRow, Page, ScheduleRow};

/// All schedules.
pub(crate) fn list(page: &Page<ScheduleRow>) {
    if page.items.is_empty() {
        line("no report is made on a schedule");
        hint("fettle schedule set monthly --recurrence 'FREQ=MONTHLY;BYMONTHDAY=1' --keep 24");
        return;
    }
    let mut out = table(&["NAME", "WHEN", "OF", "AS", "LAST", "NEXT", "WHERE TO"]);
    for row in &page.items {
        let it = &row.schedule;
        let formats: Vec<&str> = it.formats.iter().map(|format| format.word()).collect();
        out.add_row([
            row.name.clone(),
            format!("{}\n{} {}", it.recurrence, it.at.strftime("%H:%M"), it.time_zone),
            format!("{}\n{}", it.covers, it.policy.as_deref().unwrap_or("the whole fleet")),
            formats.join(", "),
            row.last.as_ref().map_or_else(|| "none yet".into(), |run| ago(run.made_at, now())),
            row.next_at.map_or_else(|| "not within a year".into(), words::utc),
            where_to(row).join("\n"),
        ]);
    }
    print(&out);
    page.items.iter().for_each(holds);
}

fn where_to(row: &ScheduleRow) -> Vec<String> {
    row.directory.iter().chain(&row.schedule.webhook).cloned().collect()
}

fn holds(row: &ScheduleRow) {
    for hold in row.holds.iter().filter(|hold| hold.code() != "not-due") {
        line(&format!("{}: {}: {hold}", row.name, hold.code()));
    }
}

/// One schedule.
pub(crate) fn one(row: &ScheduleRow) {
    let it = &row.schedule;
    line(&format!(
        "{}: {} at {} {}, of {}, to {}",
        row.name,
        it.recurrence,
        it.at.strftime("%H:%M"),
        it.time_zone,
        it.covers,
        where_to(row).join(" and ")
    ));
    if let Some(run) = &row.last {
        line(&format!(
            "the last: {} to {}, made {}",
            words::utc(run.from),
            words::utc(run.to),
            ago(run.made_at, now())
        ));
        run.files.iter().for_each(|file| line(&format!("  {file}")));
        if run.missed > 0 {
            line(&format!("  it stands for {} more that no server was there for", run.missed));
        }
    }
    match row.next_at {
        Some(at) => line(&format!("the next: {}", words::utc(at))),
        None => line("the next: not within a year"),
    }
    holds(row);
}

/// What has not arrived.
pub(crate) fn deliveries(page: &Page<DeliveryRow>) {
    let Some(first) = page.items.first() else {
        line("whatever was sent to a webhook has arrived");
        return;
    };
    let mut out =
        table(&["MESSAGE", "TYPE", "ABOUT", "TO", "MADE", "TRIES", "NEXT TRY", "WHY NOT"]);
    for row in &page.items {
        out.add_row([
            row.id.clone(),
            row.kind.clone(),
            row.subject.clone(),
            row.to.clone(),
            ago(row.made_at, now()),
            row.tries.to_string(),
            row.next_at.map_or_else(|| "none: dead".into(), |at| ago(at, now())),
            row.error.clone().unwrap_or_default(),
        ]);
    }
    print(&out);
    hint(&format!("fettle webhook resend {}", first.id));
}
