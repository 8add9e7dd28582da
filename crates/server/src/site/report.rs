//! The report of a period: all of what it shows is in the URL.

use super::{Visit, html, refusal, view};
use crate::api::report::{CSV, HTML, ReportQuery, TableQuery, file, made_csv, made_html};
use crate::app::App;
use crate::reports;
use crate::web::pages;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Response;
use fettle_core::Problem;
use fettle_store::View as Stored;

pub(super) async fn page(visit: Visit, Query(query): Query<ReportQuery>) -> Response {
    let look = move |app: &App, stored: &Stored<'_>| {
        let names = app.policies().records.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        Ok((reports::kept(app, stored, &query.wanted()?)?, names))
    };
    let Visit { app, who, uri, news } = visit;
    match app.reporting(move |app| app.store.read(|stored| look(app, stored))).await {
        Ok((report, names)) => {
            html(StatusCode::OK, pages::report(&view(&uri, &who, news), &report, &names))
        }
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}

pub(super) async fn as_csv(
    visit: Visit,
    Query(query): Query<ReportQuery>,
    Query(table): Query<TableQuery>,
) -> Response {
    let made = move |app: &App, stored: &Stored<'_>| made_csv(app, stored, &query, &table);
    kept(visit, CSV, "fettle-report.csv", made).await
}

pub(super) async fn as_html(visit: Visit, Query(query): Query<ReportQuery>) -> Response {
    let made = move |app: &App, stored: &Stored<'_>| made_html(app, stored, &query);
    kept(visit, HTML, "fettle-report.html", made).await
}

async fn kept(
    visit: Visit,
    kind: &'static str,
    name: &str,
    made: impl FnOnce(&App, &Stored<'_>) -> Result<String, Problem> + Send + 'static,
) -> Response {
    let Visit { app, who, uri, .. } = visit;
    match app.reporting(move |app| app.store.read(|stored| made(app, stored))).await {
        Ok(text) => file(kind, name, text),
        Err(problem) => refusal(&uri, Some(&who), problem),
    }
}
