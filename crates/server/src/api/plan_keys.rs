//! Plan keys, and what operators sign with them.

use super::{Answer, Asked, At, Body, Failure, Failures, look};
use crate::access::Who;
use crate::app::now;
use crate::{plan_keys, views};
use axum::http::StatusCode;
use fettle_core::Problem;
use fettle_store::{View, plans};
use fettle_wire::api::{PlanDetail, PlanKeys};
use fettle_wire::plan_key::{SignedKeySet, SignedPlan};

/// The plan keys in force: whose signatures hosts ask for, and how many.
#[utoipa::path(
    get, path = "/plan-keys", tag = "plans", responses((status = 200, body = PlanKeys), Failures)
)]
pub(super) async fn show(app: Asked) -> Answer<PlanKeys> {
    look(&app, |_, view| told(view)).await
}

fn told(view: &View<'_>) -> Result<PlanKeys, Problem> {
    Ok(match plan_keys::in_force(view)? {
        Some((set, signed)) => PlanKeys {
            version: set.version,
            threshold: set.threshold,
            label: set.label(),
            keys: set.keys,
            signed: Some(signed),
        },
        None => PlanKeys {
            version: 0,
            threshold: 0,
            label: "none: hosts ask for no signature".to_owned(),
            keys: Vec::new(),
            signed: None,
        },
    })
}

/// Put the next set of plan keys in force. Hosts take it when enough keys of the set before have signed it.
#[utoipa::path(
    post, path = "/plan-keys", tag = "plans", request_body = Object,
    responses((status = 201, body = PlanKeys), Failures)
)]
pub(super) async fn publish(
    app: Asked,
    who: Who,
    Body(signed): Body<SignedKeySet>,
) -> Result<(StatusCode, axum::Json<PlanKeys>), Failure> {
    let keys = app
        .blocking(move |app| {
            app.store
                .write::<_, Problem>(&who.actor(), now(), |tx| plan_keys::publish(tx, &signed))?;
            app.planning.notify_one();
            app.store.read(told)
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(keys)))
}

/// Hand in what an operator signed of a plan. By the same key again, it is renewed.
#[utoipa::path(
    post, path = "/plans/{number}/signatures", tag = "plans", request_body = Object,
    params(("number" = u64, Path, description = "Its number")),
    responses((status = 201, body = PlanDetail), Failures)
)]
pub(super) async fn sign(
    app: Asked,
    who: Who,
    At(number): At<u64>,
    Body(signed): Body<SignedPlan>,
) -> Result<(StatusCode, axum::Json<PlanDetail>), Failure> {
    let detail = app
        .blocking(move |app| {
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                let plan = plans::get(tx, number)?;
                plan_keys::sign(tx, &plan, &signed)
            })?;
            app.events.tell("plan", &number.to_string());
            app.planning.notify_one();
            app.store.read(|view| views::plan(app, view, number))
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(detail)))
}
