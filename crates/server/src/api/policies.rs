//! Policies: text in, versions kept.

use super::{Answer, Asked, Asking, At, Failures, Part, Upload, look};
use crate::access::Who;
use crate::app::now;
use crate::{policies as in_force, views};
use fettle_core::policy::{MAX_POLICY_BYTES, choose};
use fettle_core::{Problem, ProblemKind};
use fettle_store::{hosts, policies as stored};
use fettle_wire::api::{Page, PolicyRow};

/// Policies in force, by name.
#[utoipa::path(
    get, path = "/policies", tag = "policies", params(Part),
    responses((status = 200, body = Page<PolicyRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<PolicyRow>> {
    look(&app, move |app, view| Ok(part.of(views::policies(app, view)?))).await
}

/// One policy in force.
#[utoipa::path(
    get, path = "/policies/{name}", tag = "policies", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = PolicyRow), Failures)
)]
pub(super) async fn one(app: Asked, At(name): At<String>) -> Answer<PolicyRow> {
    look(&app, move |app, view| views::policy(app, view, &name)).await
}

/// Put a policy in force. The same text again changes nothing.
#[utoipa::path(
    post, path = "/policies", tag = "policies",
    request_body(content = String, content_type = "application/toml", description = "The policy's TOML text"),
    responses((status = 200, body = PolicyRow), Failures)
)]
pub(super) async fn apply(
    app: Asked,
    who: Who,
    text: Upload<MAX_POLICY_BYTES>,
) -> Answer<PolicyRow> {
    let name = app
        .blocking(move |app| {
            let text = String::from_utf8(text.0).map_err(|e| {
                let message = format!(
                    "the policy is no text: byte {} is not UTF-8",
                    e.utf8_error().valid_up_to()
                );
                Problem::new(ProblemKind::BadInput, "bad-policy", message, "save it as UTF-8")
            })?;
            let policy = in_force::parse(&text)?;
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                let mut all = app.policies().parsed.clone();
                all.retain(|p| p.name != policy.name);
                all.push(policy.clone());
                for record in hosts::all(tx)? {
                    choose(&all, &record.host).map_err(|e| {
                        let hint = "give one of them a higher priority, or narrow what it selects";
                        Problem::new(ProblemKind::BadInput, "policy-ambiguous", e, hint)
                    })?;
                }
                stored::apply(tx, &policy.name, policy.digest, &text)?;
                Ok(())
            })?;
            in_force::load(app)?;
            Ok(policy.name)
        })
        .await?;
    app.events.tell("policy", &name);
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    look(&app, move |app, view| views::policy(app, view, &name)).await
}
