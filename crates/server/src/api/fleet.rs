//! Hosts, findings, tokens, the ledger.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, Part, look};
use crate::access::Who;
use crate::app::now;
use crate::trust::random;
use crate::views;
use axum::http::StatusCode;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_store::findings::Filter;
use fettle_store::{hosts as stored_hosts, tokens};
use fettle_wire::api::{
    Because, CveDetail, FINDING_STATES, FindingExplained, FindingRow, HostDetail, HostRow,
    LedgerVerified, MakeToken, Overview, Page, TokenMade,
};
use fettle_wire::token::EnrolToken;
use serde::Deserialize;
use utoipa::IntoParams;

/// The fleet on one screen.
#[utoipa::path(get, path = "/overview", tag = "fleet", responses((status = 200, body = Overview), Failures))]
pub(super) async fn overview(app: Asked) -> Answer<Overview> {
    look(&app, views::overview).await
}

/// All hosts, by name.
#[utoipa::path(get, path = "/hosts", tag = "fleet", params(Part), responses((status = 200, body = Page<HostRow>), Failures))]
pub(super) async fn hosts(app: Asked, Asking(part): Asking<Part>) -> Answer<Page<HostRow>> {
    look(&app, move |app, view| Ok(part.of(views::hosts(app, view)?))).await
}

/// One host, whole.
#[utoipa::path(
    get, path = "/hosts/{host}", tag = "fleet", params(("host" = String, Path, description = "Id or name")),
    responses((status = 200, body = HostDetail), Failures)
)]
pub(super) async fn host(app: Asked, At(host): At<String>) -> Answer<HostDetail> {
    look(&app, move |app, view| views::host(app, view, &host)).await
}

/// The host leaves the fleet: its certificate is worth nothing from now on.
#[utoipa::path(
    delete, path = "/hosts/{host}", tag = "fleet", params(("host" = String, Path, description = "Id or name")),
    responses((status = 204, description = "It has left"), Failures)
)]
pub(super) async fn retire_host(
    app: Asked,
    who: Who,
    At(host): At<String>,
) -> Result<StatusCode, Failure> {
    let id = app
        .blocking(move |app| {
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                let id = stored_hosts::find(tx, &host)?.host.id;
                stored_hosts::retire(tx, &id)?;
                Ok(id)
            })
        })
        .await?;
    app.forget(&id);
    app.events.tell("host", id.as_str());
    app.drive.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// A person has looked after a quarantined host: it counts again.
#[utoipa::path(
    post, path = "/hosts/{host}/release", tag = "fleet", params(("host" = String, Path, description = "Id or name")),
    request_body = Because, responses((status = 200, body = HostDetail), Failures)
)]
pub(super) async fn release_host(
    app: Asked,
    who: Who,
    At(host): At<String>,
    Body(because): Body<Because>,
) -> Answer<HostDetail> {
    let detail = app
        .blocking(move |app| {
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                let found = stored_hosts::find(tx, &host)?.host;
                if found.quarantined.is_none() {
                    let hint = "look at it with `fettle host show`";
                    let message = format!("host {} is not quarantined", found.name);
                    return Err(Problem::new(
                        ProblemKind::Conflict,
                        "not-quarantined",
                        message,
                        hint,
                    ));
                }
                stored_hosts::set_quarantine(tx, &found.id, None)?;
                app.sessions.forget(&found.id);
                tx.record(
                    "host.looked-after",
                    found.id.as_str(),
                    serde_json::json!({ "reason": because.reason }),
                );
                Ok(())
            })?;
            app.store.read(|view| views::host(app, view, &host))
        })
        .await?;
    app.events.tell("host", detail.row.id.as_str());
    app.drive.notify_one();
    Ok(axum::Json(detail))
}

/// Which findings. What is not given does not narrow.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindingQuery {
    /// Host, by id or name.
    pub(crate) host: Option<String>,
    /// Vulnerability: `CVE-2024-5535`.
    pub(crate) id: Option<String>,
    /// State word: `open`.
    pub(crate) state: Option<String>,
    /// Severity word: `critical`.
    pub(crate) severity: Option<String>,
    /// `overdue`: open past its deadline; `soon`: that, or within a day.
    pub(crate) due: Option<String>,
    /// At most so many, 1 to 100,000. Default 100.
    pub(crate) limit: Option<u64>,
    /// Leave out so many first.
    pub(crate) offset: Option<u64>,
}

impl FindingQuery {
    /// The store's filter.
    pub(crate) fn filter(&self, view: &fettle_store::View<'_>) -> Result<Filter, Problem> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let wrong = |what: &str, word: &str, words: &[&str]| {
            let message = format!("`{word}` is no {what}");
            Problem::new(
                ProblemKind::Usage,
                "bad-query",
                message,
                format!("write one of {}", words.join(", ")),
            )
        };
        let state = given(&self.state).map(|word| {
            let found = FINDING_STATES.into_iter().find(|s| s.word() == word);
            found.ok_or_else(|| wrong("state", &word, &FINDING_STATES.map(FindingState::word)))
        });
        let severity = given(&self.severity).map(|word| {
            let found = SEVERITIES.into_iter().find(|s| s.word() == word);
            found.ok_or_else(|| wrong("severity", &word, &SEVERITIES.map(Severity::word)))
        });
        let due = given(&self.due).map(|word| match word.as_str() {
            "overdue" => Ok(now()),
            "soon" => Ok(now() + views::SOON),
            _ => Err(wrong("due", &word, &["overdue", "soon"])),
        });
        let host = given(&self.host).map(|host| stored_hosts::find(view, &host).map(|r| r.host.id));
        Ok(Filter {
            host: host.transpose()?,
            id: given(&self.id),
            state: state.transpose()?,
            severity: severity.transpose()?,
            due_before: due.transpose()?,
        })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.unwrap_or(100).clamp(1, 100_000)
    }
}

const SEVERITIES: [Severity; 5] =
    [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Negligible];

/// Findings, worst first.
#[utoipa::path(
    get, path = "/findings", tag = "findings", params(FindingQuery),
    responses((status = 200, body = Page<FindingRow>), Failures)
)]
pub(super) async fn findings(
    app: Asked,
    Asking(query): Asking<FindingQuery>,
) -> Answer<Page<FindingRow>> {
    look(&app, move |_, view| {
        let filter = query.filter(view)?;
        views::findings(view, &filter, query.limit(), query.offset.unwrap_or(0))
    })
    .await
}

/// A finding with its reasons.
#[utoipa::path(
    get, path = "/findings/{host}/{id}/{source}", tag = "findings",
    params(
        ("host" = String, Path, description = "Id or name"),
        ("id" = String, Path, description = "Vulnerability"),
        ("source" = String, Path, description = "Source package")
    ),
    responses((status = 200, body = FindingExplained), Failures)
)]
pub(super) async fn finding(
    app: Asked,
    At((host, id, source)): At<(String, String, String)>,
) -> Answer<FindingExplained> {
    look(&app, move |app, view| views::explain(app, view, &host, &id, &source)).await
}

/// One vulnerability over the fleet.
#[utoipa::path(
    get, path = "/cves/{id}", tag = "findings", params(("id" = String, Path, description = "Vulnerability")),
    responses((status = 200, body = CveDetail), Failures)
)]
pub(super) async fn cve(app: Asked, At(id): At<String>) -> Answer<CveDetail> {
    look(&app, move |app, view| views::cve(app, view, &id)).await
}

/// Make a one-time enrolment token.
#[utoipa::path(
    post, path = "/tokens", tag = "fleet", request_body = MakeToken,
    responses((status = 201, body = TokenMade), Failures)
)]
pub(super) async fn make_token(
    app: Asked,
    who: Who,
    Body(asked): Body<MakeToken>,
) -> Result<(StatusCode, axum::Json<TokenMade>), Failure> {
    let made = app
        .blocking(move |app| {
            if !(60..=86_400).contains(&asked.ttl_seconds) {
                let message = format!("a token cannot live for {} s", asked.ttl_seconds);
                return Err(Problem::new(
                    ProblemKind::BadInput,
                    "bad-ttl",
                    message,
                    "give 60 to 86,400 seconds",
                ));
            }
            for (key, value) in &asked.labels {
                fettle_core::host::parse_label(&format!("{key}={value}")).map_err(|e| {
                    Problem::new(ProblemKind::BadInput, "bad-label", e, "for example ring=canary")
                })?;
            }
            let secret = crate::trust::hex(&random::<16>()?);
            let expires_at = now() + jiff::SignedDuration::from_secs(asked.ttl_seconds as i64);
            app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
                Ok(tokens::insert(tx, Digest::of(secret.as_bytes()), &asked.labels, expires_at)?)
            })?;
            let token = EnrolToken { secret, ca_pin: app.trust.pin() };
            Ok(TokenMade { token: token.to_string(), expires_at })
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Which part of the ledger.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LedgerQuery {
    /// Only entries after this index.
    #[serde(default)]
    after: u64,
    /// At most so many, 1 to 10,000. Default 1,000.
    limit: Option<u64>,
}

/// The ledger's entries, oldest first.
#[utoipa::path(
    get, path = "/ledger", tag = "ledger", params(LedgerQuery),
    responses((status = 200, body = Page<Object>), Failures)
)]
pub(super) async fn ledger(
    app: Asked,
    Asking(query): Asking<LedgerQuery>,
) -> Answer<Page<fettle_core::ledger::LedgerEntry>> {
    let limit = query.limit.unwrap_or(1000).clamp(1, 10_000);
    look(&app, move |_, view| views::ledger_page(view, query.after, limit)).await
}

/// Does the ledger hold together?
#[utoipa::path(get, path = "/ledger/verify", tag = "ledger", responses((status = 200, body = LedgerVerified), Failures))]
pub(super) async fn verify_ledger(app: Asked) -> Answer<LedgerVerified> {
    look(&app, |_, view| views::ledger_verified(view)).await
}
