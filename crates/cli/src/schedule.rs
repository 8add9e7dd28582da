//! Reports on a schedule, and messages that webhooks did not take.

use crate::args::report::{Schedule, SetSchedule, Webhook};
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{hint, line};
use crate::show;
use fettle_core::policy::Recurrence;
use fettle_core::report::schedule::Schedule as Body;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{DeliveryRow, Page, ScheduleRow};

/// Runs one about schedules.
pub(crate) fn run(ask: &Ask<'_>, it: &Schedule) -> Result<(), Problem> {
    match it {
        Schedule::List => {
            ask.get("/report-schedules", |page: &Page<ScheduleRow>| show::schedule::list(page))
        }
        Schedule::Set(asked) => {
            let path = format!("/report-schedules/{}", escape(&asked.name));
            let row: ScheduleRow = ask.client()?.put(&path, &body(asked)?)?;
            ask.print(&row, show::schedule::one)
        }
        Schedule::Run { name } => {
            let path = format!("/report-schedules/{}/run", escape(name));
            let row: ScheduleRow =
                ask.client()?.post_bytes(&path, "application/octet-stream", &[])?;
            ask.print(&row, show::schedule::one)
        }
        Schedule::Remove { name } => {
            ask.client()?.delete(&format!("/report-schedules/{}", escape(name)))?;
            ask.print(&serde_json::json!({ "removed": name }), |_| {
                line(&format!("{name} makes no report any more; what was written stays"));
            })
        }
    }
}

fn body(it: &SetSchedule) -> Result<Body, Problem> {
    let bad = |message: String, hint: &str| {
        Problem::new(ProblemKind::Usage, "bad-schedule", message, hint)
    };
    let at = it.at.parse().map_err(|_| {
        bad(format!("`{}` is no time of the day", it.at), "write it as in --at 06:00")
    })?;
    let formats = it.format.iter().map(|format| format.parse());
    Ok(Body {
        recurrence: Recurrence::parse(&it.recurrence).map_err(|e| {
            let hint = if e.is_time { "say at what time of the day: --at 06:00" } else { &e.hint };
            bad(e.message, hint)
        })?,
        at,
        time_zone: it.time_zone.clone(),
        covers: it.covers.parse().map_err(|message| bad(message, "as in --covers last-month"))?,
        policy: it.policy.clone(),
        formats: formats
            .collect::<Result<_, _>>()
            .map_err(|message| bad(message, "as in --format html,csv"))?,
        keep: it.keep,
        webhook: it.webhook.clone(),
    })
}

/// Runs one about messages.
pub(crate) fn webhook(ask: &Ask<'_>, it: &Webhook) -> Result<(), Problem> {
    let all = || ask.client()?.get::<Page<DeliveryRow>>("/deliveries");
    let resend = |id: &str| {
        let path = format!("/deliveries/{}/resend", escape(id));
        ask.client()?.post_bytes::<DeliveryRow>(&path, "application/octet-stream", &[])
    };
    match it {
        Webhook::List => ask.print(&all()?, show::schedule::deliveries),
        Webhook::Dead => ask.print(&dead(all()?), show::schedule::deliveries),
        Webhook::Resend { id } => {
            let ids = match id {
                Some(id) => vec![id.clone()],
                None => dead(all()?).items.into_iter().map(|row| row.id).collect(),
            };
            let items = ids.iter().map(|id| resend(id)).collect::<Result<Vec<_>, _>>()?;
            let page = Page { total: items.len() as u64, items };
            ask.print(&page, |page| {
                line(&format!("{} sent again", page.total));
                hint("fettle webhook list");
            })
        }
        Webhook::Drop { id } => {
            ask.client()?.delete(&format!("/deliveries/{}", escape(id)))?;
            ask.print(&serde_json::json!({ "dropped": id }), |_| line(&format!("{id} is gone")))
        }
    }
}

fn dead(page: Page<DeliveryRow>) -> Page<DeliveryRow> {
    let items: Vec<_> = page.items.into_iter().filter(|row| row.next_at.is_none()).collect();
    Page { total: items.len() as u64, items }
}
