//! What policies do by themselves: cycles and emergencies.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::now;
use crate::{backup, cycles, views};
use fettle_core::emergency::Declared;
use fettle_core::recall::{MAX_TEXT as MAX_REASON, check_reason};
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_store::emergencies as stored;
use fettle_wire::api::{Because, CycleRow, DeclareEmergency, Emergencies, Page};
use jiff::SignedDuration;
use serde::Deserialize;

/// An emergency holds from a minute to 30 days.
const LIVES: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// Longest name of a vulnerability, in bytes.
const MAX_FINDING: usize = 128;

/// The cycles of all policies in force: when they come due, how they stand, what they did.
#[utoipa::path(
    get, path = "/cycles", tag = "cycles", params(Part),
    responses((status = 200, body = Page<CycleRow>), Failures)
)]
pub(super) async fn cycles(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<CycleRow>> {
    look(&app, move |app, view| Ok(part.of(views::cycle_rows(app, view)?))).await
}

/// Say that a cycle may go on after its rollout went wrong and somebody has looked after it.
#[utoipa::path(
    post, path = "/cycles/{name}/resume", tag = "cycles", request_body = Because,
    params(("name" = String, Path, description = "Its policy")),
    responses((status = 200, body = CycleRow), Failures)
)]
pub(super) async fn resume(
    app: Asked,
    who: Who,
    At(policy): At<String>,
    Body(why): Body<Because>,
) -> Answer<CycleRow> {
    let reason = reason(&why.reason)?;
    let row = app
        .blocking(move |app| {
            app.store.read(|view| views::cycle_row(app, view, &policy))?;
            cycles::resume(app, &who.actor(), &policy, &reason)?;
            app.store.read(|view| views::cycle_row(app, view, &policy))
        })
        .await?;
    Ok(axum::Json(row))
}

/// Let a server that comes from a backup start rollouts by itself again: somebody has seen that its hosts have reported,
/// and has recalled anew what was recalled since the backup.
#[utoipa::path(
    post, path = "/cycles/release", tag = "cycles", request_body = Because,
    responses((status = 200, body = Page<CycleRow>), Failures)
)]
pub(super) async fn release(
    app: Asked,
    who: Who,
    Body(why): Body<Because>,
) -> Answer<Page<CycleRow>> {
    let reason = reason(&why.reason)?;
    app.blocking(move |app| backup::release(app, &who.actor(), &reason)).await?;
    look(&app, |app, view| {
        let items = views::cycle_rows(app, view)?;
        Ok(Page { total: items.len() as u64, items })
    })
    .await
}

/// What cannot wait: declared, calling, planned.
#[utoipa::path(
    get, path = "/emergencies", tag = "emergencies",
    responses((status = 200, body = Emergencies), Failures)
)]
pub(super) async fn emergencies(app: Asked) -> Answer<Emergencies> {
    look(&app, views::emergencies).await
}

/// Declare that a vulnerability cannot wait. The server plans for the hosts that have it open, at once.
#[utoipa::path(
    post, path = "/emergencies", tag = "emergencies", request_body = DeclareEmergency,
    responses((status = 200, body = Emergencies), Failures)
)]
pub(super) async fn declare(
    app: Asked,
    who: Who,
    Body(asked): Body<DeclareEmergency>,
) -> Answer<Emergencies> {
    let reason = reason(&asked.reason)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
    let finding = asked.finding.trim().to_owned();
    if finding.is_empty() || finding.len() > MAX_FINDING || !finding.chars().all(fits) {
        let shown: String = finding.chars().take(60).collect();
        return Err(bad(
            format!("`{shown}` is no vulnerability's name"),
            "for example CVE-2024-3094",
        ));
    }
    if !LIVES.contains(&asked.seconds) {
        let message = format!("an emergency cannot hold for {} s", asked.seconds);
        return Err(bad(message, "from a minute to 30 days: `--for 3d`"));
    }
    let seconds = i64::try_from(asked.seconds).unwrap_or(i64::MAX);
    app.blocking(move |app| {
        let at = now();
        let until = at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let (by, principal) = (who.name.clone(), who.principal.clone());
        let it = Declared { finding, reason, by, principal, at, until };
        app.store.write::<_, Problem>(&who.actor(), at, |tx| Ok(stored::declare(tx, &it)?))?;
        app.events.tell("emergency", &it.finding);
        app.planning.notify_one();
        Ok(())
    })
    .await?;
    emergencies(app).await
}

/// Why.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EndQuery {
    /// Why; goes to the ledger.
    #[serde(default)]
    reason: String,
}

/// It is an emergency no more. Plans that were made for it stay.
#[utoipa::path(
    delete, path = "/emergencies/{id}", tag = "emergencies",
    params(("id" = String, Path, description = "`CVE-2024-3094`"), EndQuery),
    responses((status = 200, body = Emergencies), Failures)
)]
pub(super) async fn end(
    app: Asked,
    who: Who,
    At(finding): At<String>,
    Asking(query): Asking<EndQuery>,
) -> Answer<Emergencies> {
    app.blocking(move |app| {
        let reason: String = query.reason.chars().take(MAX_REASON).collect();
        app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
            Ok(stored::end(tx, &finding, &reason)?)
        })?;
        app.events.tell("emergency", &finding);
        Ok(())
    })
    .await?;
    emergencies(app).await
}

/// A reason as somebody gave it.
pub(crate) fn reason(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    check_reason(text).map_err(|_| {
        let message = format!("a reason is one line of 1 to {MAX_REASON} characters");
        let hint = "say why in a few words: --reason \"…\"";
        Problem::new(ProblemKind::BadInput, "bad-reason", message, hint)
    })?;
    Ok(text.to_owned())
}

fn bad(message: String, hint: &str) -> Failure {
    Failure(Problem::new(ProblemKind::BadInput, "bad-body", message, hint))
}
