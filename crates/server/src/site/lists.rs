//! The lists, and the search: all of what they show is in the URL.

use super::{Visit, refusal, show};
use crate::api::{CveQuery, FindingQuery, HostQuery, PackageQuery, SearchQuery, given};
use crate::app::App;
use crate::saved_views;
use crate::views;
use crate::web::Span;
use crate::web::pages::{self, CveFilter, FindingFilter, HostFilter, PackageFilter, PlanPart};
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use fettle_core::Problem;
use fettle_store::View as Stored;
use serde::Deserialize;

/// Rows of a list on one page: with a hundred, that of hosts weighs more than the 150 kB that a page may.
const ROWS: u64 = 80;
/// Longest list on one page, where somebody asks for more.
const MOST: u64 = 200;

fn span(limit: Option<u64>, offset: Option<u64>) -> Span {
    Span { offset: offset.unwrap_or(0), limit: limit.unwrap_or(ROWS).clamp(1, MOST) }
}

pub(super) async fn hosts(visit: Visit, Query(query): Query<HostQuery>) -> Response {
    let span = span(query.limit, query.offset);
    let asked = query.clone();
    let account = visit.who.principal.clone();
    let look = move |app: &App, stored: &Stored<'_>| {
        let (filter, sort) = (asked.filter()?, asked.sort()?);
        let found = app.fleet(|fleet| fleet.hosts(app, &filter, sort, span.limit, span.offset))?;
        Ok((found, saved_views::rows(stored, &account)?))
    };
    show(visit, look, |view, (found, saved)| {
        let filter = HostFilter {
            state: given(&query.state),
            label: given(&query.label),
            q: given(&query.q),
            select: given(&query.select),
            policy: given(&query.policy),
            ring: given(&query.ring),
            package: given(&query.package),
            cve: given(&query.cve),
            sort: given(&query.sort),
        };
        pages::hosts(view, &found.page, &found.by_state, saved, filter, span)
    })
    .await
}

pub(super) async fn findings(visit: Visit, Query(query): Query<FindingQuery>) -> Response {
    let span = span(query.limit, query.offset);
    let asked = query.clone();
    let look = move |app: &App, stored: &Stored<'_>| {
        let filter = asked.filter(stored)?;
        views::findings(app, stored, &filter, span.limit, span.offset)
    };
    show(visit, look, |view, page| {
        let filter = FindingFilter {
            host: given(&query.host),
            id: given(&query.id),
            state: given(&query.state),
            severity: given(&query.severity),
            due: given(&query.due),
        };
        pages::findings(view, page, filter, span)
    })
    .await
}

pub(super) async fn packages(visit: Visit, Query(mut query): Query<PackageQuery>) -> Response {
    let span = span(query.limit, query.offset);
    query.limit = Some(span.limit);
    let asked = query.clone();
    show(
        visit,
        move |app, _| asked.look(app),
        |view, page| {
            let filter = PackageFilter {
                q: given(&query.q),
                exposed: query.exposed.unwrap_or(false),
                sort: given(&query.sort),
            };
            pages::packages(view, page, filter, span)
        },
    )
    .await
}

pub(super) async fn host_packages(
    visit: Visit,
    Path(host): Path<String>,
    Query(query): Query<PackageQuery>,
) -> Response {
    let span = span(query.limit, query.offset);
    let q = given(&query.q).unwrap_or_default().to_owned();
    let asked = q.clone();
    let look =
        move |_: &App, stored: &Stored<'_>| views::host_packages(stored, &host, &asked, span);
    show(visit, look, |view, it| pages::host_packages(view, it, &q, span)).await
}

pub(super) async fn cves(visit: Visit, Query(mut query): Query<CveQuery>) -> Response {
    let span = span(query.limit, query.offset);
    query.limit = Some(span.limit);
    let asked = query.clone();
    let look = move |app: &App, _: &Stored<'_>| {
        let page = asked.look(app)?;
        let classes: Vec<String> =
            app.fleet(|fleet| fleet.classes().into_iter().map(str::to_owned).collect())?;
        Ok((page, classes))
    };
    show(visit, look, |view, (page, classes)| {
        let filter = CveFilter {
            q: given(&query.q),
            class: given(&query.class),
            severity: given(&query.severity),
            state: given(&query.state),
            kev: query.kev.unwrap_or(false),
            fixable: query.fixable.unwrap_or(false),
            overdue: given(&query.due).is_some(),
            sort: given(&query.sort),
        };
        pages::cves(view, page, classes, filter, span)
    })
    .await
}

/// Which part of a plan's table.
#[derive(Debug, Deserialize)]
pub(super) struct PartQuery {
    limit: Option<u64>,
    offset: Option<u64>,
}

pub(super) async fn plan_part(
    visit: Visit,
    Path(number): Path<u64>,
    Query(query): Query<PartQuery>,
    part: PlanPart,
) -> Response {
    let span = span(query.limit, query.offset);
    let look = move |app: &App, stored: &Stored<'_>| views::plan_tested(app, stored, number);
    show(visit, look, |view, it| pages::plan_part(view, it, part, span)).await
}

/// Leads to what is called exactly so, or shows what has the text in its name.
pub(super) async fn search(visit: Visit, Query(query): Query<SearchQuery>) -> Response {
    let app = visit.app.clone();
    let found = app.blocking(move |app| {
        app.store.read::<_, Problem>(|stored| views::search(app, stored, &query.q))
    });
    match found.await {
        Ok(found) => match &found.exact {
            Some(path) => Redirect::to(path).into_response(),
            None => show(visit, |_, _| Ok(found), pages::search).await,
        },
        Err(problem) => refusal(&visit.uri, Some(&visit.who), problem),
    }
}
