//! Policies: text in, versions kept.

use super::{Answer, Asked, Asking, At, Failures, Part, Upload, look};
use crate::access::Who;
use crate::app::now;
use crate::{policies as in_force, views};
use fettle_core::policy::{Explained, MAX_POLICY_BYTES, Policy, PolicyDiff, choose, with_next};
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_store::{StoreError, hosts, policies as stored};
use fettle_wire::api::{Page, PolicyRow, PolicyVersion};

/// Policies in force, by name.
#[utoipa::path(
    get, path = "/policies", tag = "policies", params(Part),
    responses((status = 200, body = Page<PolicyRow>), Failures)
)]
pub(super) async fn list(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<PolicyRow>> {
    look(&app, move |app, _| Ok(part.of(views::policies(app)?))).await
}

/// One policy in force.
#[utoipa::path(
    get, path = "/policies/{name}", tag = "policies", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = PolicyRow), Failures)
)]
pub(super) async fn one(app: Asked, At(name): At<String>) -> Answer<PolicyRow> {
    look(&app, move |app, _| views::policy(app, &name)).await
}

/// Every version of a policy that was ever applied, newest first, with who and when.
#[utoipa::path(
    get, path = "/policies/{name}/versions", tag = "policies",
    params(("name" = String, Path, description = "Its name"), Part),
    responses((status = 200, body = Page<PolicyVersion>), Failures)
)]
pub(super) async fn versions(
    app: Asked,
    At(name): At<String>,
    Asking(part): Asking<Part>,
) -> Answer<Page<PolicyVersion>> {
    look(&app, move |_, view| Ok(part.of(views::policy_versions(view, &name)?))).await
}

/// What a policy would change against the one of its name in force: settings, hosts, windows, deadlines. Nothing is
/// applied.
#[utoipa::path(
    post, path = "/policy-diffs", tag = "policies",
    request_body(content = String, content_type = "application/toml", description = "The policy's TOML text"),
    responses((status = 200, body = Object), Failures)
)]
pub(super) async fn diff(app: Asked, text: Upload<MAX_POLICY_BYTES>) -> Answer<PolicyDiff> {
    look(&app, move |app, view| views::policy_diff(app, view, &read(text)?.1)).await
}

/// Which policy counts for a host and why; what it owes, by when and by which rule; what stands in the way now.
#[utoipa::path(
    get, path = "/hosts/{host}/policy", tag = "policies",
    params(("host" = String, Path, description = "Name or id")),
    responses((status = 200, body = Object), Failures)
)]
pub(super) async fn explain(app: Asked, At(host): At<String>) -> Answer<Explained> {
    look(&app, move |app, view| views::explained(app, view, &host)).await
}

/// On what condition a policy is applied.
#[derive(Debug, Clone, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Condition {
    /// Only while the text in force has this digest; `none`: only while no policy of that name is in force.
    #[serde(rename = "if")]
    in_force: Option<String>,
}

impl Condition {
    fn digest(&self) -> Result<Option<Option<Digest>>, Problem> {
        let Some(text) = &self.in_force else { return Ok(None) };
        if text == "none" {
            return Ok(Some(None));
        }
        let digest = text.parse().map_err(|e| {
            let hint = "`fettle policy history NAME` prints the digests";
            Problem::new(ProblemKind::Usage, "bad-digest", e, hint)
        });
        digest.map(|digest| Some(Some(digest)))
    }
}

fn read(text: Upload<MAX_POLICY_BYTES>) -> Result<(String, Policy), Problem> {
    let text = String::from_utf8(text.0).map_err(|e| {
        let message =
            format!("the policy is no text: byte {} is not UTF-8", e.utf8_error().valid_up_to());
        Problem::new(ProblemKind::BadInput, "bad-policy", message, "save it as UTF-8")
    })?;
    let policy = in_force::parse(&text)?;
    Ok((text, policy))
}

/// Put a policy in force. The same text again changes nothing.
#[utoipa::path(
    post, path = "/policies", tag = "policies", params(Condition),
    request_body(content = String, content_type = "application/toml", description = "The policy's TOML text"),
    responses((status = 200, body = PolicyRow), Failures)
)]
pub(super) async fn apply(
    app: Asked,
    who: Who,
    Asking(condition): Asking<Condition>,
    text: Upload<MAX_POLICY_BYTES>,
) -> Answer<PolicyRow> {
    let condition = condition.digest()?;
    let name = app
        .blocking(move |app| {
            let (text, policy) = read(text)?;
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                let all = with_next(&app.policies().parsed, &policy);
                for record in hosts::all(tx)? {
                    choose(&all, &record.host).map_err(|e| {
                        let hint = "give one of them a higher priority, or narrow what it selects";
                        Problem::new(ProblemKind::BadInput, "policy-ambiguous", e, hint)
                    })?;
                }
                stored::apply(tx, &policy.name, policy.digest, &text, condition).map_err(
                    |error| match error {
                        StoreError::Conflict(message) => {
                            let hint = "`fettle policy diff FILE` compares with what is in force";
                            Problem::new(ProblemKind::Conflict, "policy-changed", message, hint)
                        }
                        other => other.into(),
                    },
                )?;
                Ok(())
            })?;
            in_force::load(app)?;
            Ok(policy.name)
        })
        .await?;
    app.events.tell("policy", &name);
    // A blackout holds rollouts under way too, or lets go of them.
    app.drive.notify_one();
    let asked = app.ask_judging();
    app.wait_judged(asked).await;
    look(&app, move |app, _| views::policy(app, &name)).await
}
