//! Reports on a schedule, and what webhooks did not take.

use super::{Answer, Asked, At, Body, Failure, Failures, look};
use crate::access::Who;
use crate::reports::schedules;
use crate::webhooks;
use axum::http::StatusCode;
use fettle_core::report::schedule::Schedule;
use fettle_wire::api::{DeliveryRow, Page, ScheduleRow};

/// Reports that the server makes by itself: the last, the next, and what stands in the way.
#[utoipa::path(get, path = "/report-schedules", tag = "report", responses((status = 200, body = Page<ScheduleRow>), Failures))]
pub(super) async fn list(app: Asked) -> Answer<Page<ScheduleRow>> {
    look(&app, |app, view| {
        let items = schedules::rows(app, view)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// Have a report made by itself. The body: `recurrence` (a rule as in RFC 5545, 3.3.10), `at` (`06:00`), `time_zone` (IANA),
/// `covers` (`last-month`, `last-week`, `30d`), `formats` (of `html`, `csv`, `json`, `pdf`), and `keep` (how many the
/// server's directory keeps) or `webhook` (an address), or both; `policy` where it is not for the whole fleet.
#[utoipa::path(
    put, path = "/report-schedules/{name}", tag = "report",
    params(("name" = String, Path, description = "Lower-case letters, digits and `-`")),
    request_body = Object, responses((status = 200, body = ScheduleRow), Failures)
)]
pub(super) async fn set(
    app: Asked,
    who: Who,
    At(name): At<String>,
    Body(asked): Body<Schedule>,
) -> Answer<ScheduleRow> {
    let set = app.blocking(move |app| schedules::set(app, &who.actor(), &name, &asked)).await?;
    Ok(axum::Json(set))
}

/// No more reports by that name. What was written and sent stays.
#[utoipa::path(
    delete, path = "/report-schedules/{name}", tag = "report",
    params(("name" = String, Path, description = "As in the list")),
    responses((status = 204, description = "It makes none any more"), Failures)
)]
pub(super) async fn remove(
    app: Asked,
    who: Who,
    At(name): At<String>,
) -> Result<StatusCode, Failure> {
    app.blocking(move |app| schedules::remove(app, &who.actor(), &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make one now, of the period that one due now is of: written and sent as the schedule says.
#[utoipa::path(
    post, path = "/report-schedules/{name}/run", tag = "report",
    params(("name" = String, Path, description = "As in the list")),
    responses((status = 200, body = ScheduleRow), Failures)
)]
pub(super) async fn run(app: Asked, _: Who, At(name): At<String>) -> Answer<ScheduleRow> {
    Ok(axum::Json(schedules::run_now(&app, name).await?))
}

/// What is sent to webhooks and has not arrived: what is tried again, and what is dead.
#[utoipa::path(get, path = "/deliveries", tag = "webhooks", responses((status = 200, body = Page<DeliveryRow>), Failures))]
pub(super) async fn deliveries(app: Asked) -> Answer<Page<DeliveryRow>> {
    look(&app, |_, view| {
        let items = webhooks::rows(view)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// Send it again, at once and with all its tries.
#[utoipa::path(
    post, path = "/deliveries/{id}/resend", tag = "webhooks",
    params(("id" = String, Path, description = "As in the list")),
    responses((status = 200, body = DeliveryRow), Failures)
)]
pub(super) async fn resend(app: Asked, who: Who, At(id): At<String>) -> Answer<DeliveryRow> {
    let row = app.blocking(move |app| webhooks::resend(app, &who.actor(), &id)).await?;
    Ok(axum::Json(row))
}

/// Let it go: nobody is sent it any more.
#[utoipa::path(
    delete, path = "/deliveries/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "As in the list")),
    responses((status = 204, description = "It is gone"), Failures)
)]
pub(super) async fn drop_it(
    app: Asked,
    who: Who,
    At(id): At<String>,
) -> Result<StatusCode, Failure> {
    app.blocking(move |app| webhooks::drop_it(app, &who.actor(), &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
