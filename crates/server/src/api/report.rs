//! Reports: what a period was like, as JSON, as CSV, as a document.

use super::{Answer, Asked, Asking, Failure, Failures, given};
use crate::app::App;
use crate::reports::{self, Wanted, csv};
use crate::web::pages;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_store::View;
use fettle_wire::api::Report;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which report.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// First moment of the period: `2026-11-01`, `2026-11-01T00:00:00Z`. Default: 30 days before its end.
    pub(crate) from: Option<String>,
    /// The moment after its last; of a day, the day is part of it. Default: now.
    pub(crate) to: Option<String>,
    /// Only this policy's hosts.
    pub(crate) policy: Option<String>,
}

/// Which table of a report.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TableQuery {
    /// `compliance`, `overdue`, `trend`, `rollouts` or `exceptions`. Default: `compliance`.
    pub(crate) table: Option<String>,
}

impl ReportQuery {
    /// As the report wants it.
    pub(crate) fn wanted(&self) -> Result<Wanted, Problem> {
        Ok(Wanted {
            from: given(&self.from).map(|text| moment("from", text, 0)).transpose()?,
            to: given(&self.to).map(|text| moment("to", text, 1)).transpose()?,
            policy: given(&self.policy).map(str::to_owned),
        })
    }
}

/// A moment, or a day's beginning in UTC; `days` later where it is a day.
fn moment(name: &str, text: &str, days: i64) -> Result<Timestamp, Problem> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let day = text.parse::<jiff::civil::Date>().ok();
    let day = day.and_then(|day| day.checked_add(jiff::Span::new().days(days)).ok());
    let at = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    at.map(|at| at.timestamp()).ok_or_else(|| {
        Problem::new(
            ProblemKind::Usage,
            "bad-query",
            format!("`{text}` is no moment for `{name}`"),
            "write a day as in 2026-11-01, or a moment as in 2026-11-01T00:00:00Z",
        )
    })
}

/// Compliance, times, what is overdue and why, exposure over time, rollouts, exceptions.
#[utoipa::path(
    get, path = "/report", tag = "report", params(ReportQuery),
    responses((status = 200, body = Report), Failures)
)]
pub(super) async fn report(app: Asked, Asking(query): Asking<ReportQuery>) -> Answer<Report> {
    let wanted = query.wanted()?;
    let made = move |app: &App| app.store.read(|view| reports::report(app, view, &wanted));
    Ok(axum::Json(app.reporting(made).await?))
}

/// One table of it for a spreadsheet (RFC 4180).
#[utoipa::path(
    get, path = "/report.csv", tag = "report", params(ReportQuery, TableQuery),
    responses((status = 200, body = String, content_type = "text/csv"), Failures)
)]
pub(super) async fn as_csv(
    app: Asked,
    Asking(query): Asking<ReportQuery>,
    Asking(table): Asking<TableQuery>,
) -> Result<Response, Failure> {
    let made = move |app: &App| app.store.read(|view| made_csv(app, view, &query, &table));
    Ok(file(CSV, "fettle-report.csv", app.reporting(made).await?))
}

/// All of it as one HTML document that needs no server.
#[utoipa::path(
    get, path = "/report.html", tag = "report", params(ReportQuery),
    responses((status = 200, body = String, content_type = "text/html"), Failures)
)]
pub(super) async fn as_html(
    app: Asked,
    Asking(query): Asking<ReportQuery>,
) -> Result<Response, Failure> {
    let made = move |app: &App| app.store.read(|view| made_html(app, view, &query));
    Ok(file(HTML, "fettle-report.html", app.reporting(made).await?))
}

pub(crate) const CSV: &str = "text/csv; charset=utf-8; header=present";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// One table as CSV.
pub(crate) fn made_csv(
    app: &App,
    view: &View<'_>,
    query: &ReportQuery,
    table: &TableQuery,
) -> Result<String, Problem> {
    let name = given(&table.table).unwrap_or(csv::TABLES[0]);
    csv::known(name)?;
    csv::table(&reports::report(app, view, &query.wanted()?)?, name)
}

/// The document.
pub(crate) fn made_html(
    app: &App,
    view: &View<'_>,
    query: &ReportQuery,
) -> Result<String, Problem> {
    let report = reports::report(app, view, &query.wanted()?)?;
    Ok(pages::report_document(&report).into_string())
}

/// A file to keep: a browser does not render it here, where its own style would be refused.
pub(crate) fn file(kind: &'static str, name: &str, text: String) -> Response {
    let keep = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, keep)], text)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc_and_the_last_one_is_part_of_the_period() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let query = |from: &str, to: &str| {
            let (from, to) = (Some(from.to_owned()), Some(to.to_owned()));
            ReportQuery { from, to, policy: Some(" ".to_owned()) }.wanted()
        };
        let days = query("2026-10-01", "2026-10-31").unwrap();
        assert_eq!(days.from, Some(at("2026-10-01T00:00:00Z")));
        assert_eq!(days.to, Some(at("2026-11-01T00:00:00Z")));
        assert_eq!(days.policy, None);
        let moments = query("2026-10-01T02:00:00+02:00", "2026-10-31T12:30:00Z").unwrap();
        assert_eq!(moments.from, Some(at("2026-10-01T00:00:00Z")));
        assert_eq!(moments.to, Some(at("2026-10-31T12:30:00Z")));
        for bad in ["yesterday", "2026-13-01", "2026-02-30", "9999-99-99"] {
            assert_eq!(query(bad, "2026-10-31").unwrap_err().code, "bad-query", "{bad}");
        }
    }
}
