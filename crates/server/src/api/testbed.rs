//! Ring 0: tests on twins, and how much of a plan they cover.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, look};
use crate::access::Who;
use crate::testbed;
use axum::http::StatusCode;
use fettle_wire::api::{Page, PlanTests, RunTests, TestRow};
use serde::Deserialize;

/// Which tests.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TestQuery {
    /// Only those that were asked for by this plan.
    plan: Option<u64>,
    /// At most so many, 1 to 10,000. Default 100.
    limit: Option<u64>,
}

/// Tests on twins, newest first.
#[utoipa::path(
    get, path = "/tests", tag = "testbed", params(TestQuery),
    responses((status = 200, body = Page<TestRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(asked): Asking<TestQuery>) -> Answer<Page<TestRow>> {
    look(&app, move |app, view| {
        let limit = asked.limit.unwrap_or(100).clamp(1, 10_000);
        let items = testbed::rows(app, view, asked.plan, limit)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// One test.
#[utoipa::path(
    get, path = "/tests/{number}", tag = "testbed", params(("number" = u64, Path, description = "Its number")),
    responses((status = 200, body = TestRow), Failures)
)]
pub(super) async fn one(app: Asked, At(number): At<u64>) -> Answer<TestRow> {
    look(&app, move |app, view| testbed::one(app, view, number)).await
}

/// How much of a plan was tested on twins, and what was found.
#[utoipa::path(
    get, path = "/plans/{number}/tests", tag = "testbed", params(("number" = u64, Path, description = "The plan's number")),
    responses((status = 200, body = PlanTests), Failures)
)]
pub(super) async fn of_plan(app: Asked, At(number): At<u64>) -> Answer<PlanTests> {
    look(&app, move |app, view| testbed::plan_tests(app, view, number)).await
}

/// Have a twin of each cohort of a plan built and tested. What has a good test already is not tested again.
#[utoipa::path(
    post, path = "/plans/{number}/tests", tag = "testbed", params(("number" = u64, Path, description = "The plan's number")),
    request_body = RunTests, responses((status = 202, body = PlanTests), Failures)
)]
pub(super) async fn run(
    app: Asked,
    who: Who,
    At(number): At<u64>,
    Body(asked): Body<RunTests>,
) -> Result<(StatusCode, axum::Json<PlanTests>), Failure> {
    let tests =
        app.blocking(move |app| testbed::run(app, &who.actor(), number, asked.again)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(tests)))
}

/// Have a twin of one host built and tested with the change that its policy means for it now. What has a good test already
/// is not tested again. Where no plan of its policy means that change for it, one for this host alone is made and kept.
#[utoipa::path(
    post, path = "/hosts/{host}/tests", tag = "testbed",
    params(("host" = String, Path, description = "Its id or name")),
    request_body = RunTests, responses((status = 202, body = TestRow), Failures)
)]
pub(super) async fn run_host(
    app: Asked,
    who: Who,
    At(host): At<String>,
    Body(asked): Body<RunTests>,
) -> Result<(StatusCode, axum::Json<TestRow>), Failure> {
    let test = app
        .blocking(move |app| {
            testbed::run_host(app, (&who.actor(), &who.principal), &host, asked.again)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, axum::Json(test)))
}
