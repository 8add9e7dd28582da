//! Hosts, findings, tokens, the ledger.

use super::{Answer, Asked, Asking, At, Body, Failure, Failures, look};
use crate::access::Who;
use crate::app::{App, now};
use crate::fleet::{CveFilter, CveSort, HostFilter, HostSort, PackageSort};
use crate::trust::random;
use crate::views;
use axum::http::StatusCode;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_store::findings::Filter;
use fettle_store::{hosts as stored_hosts, tokens};
use fettle_wire::api::{
    Because, CveDetail, CveRow, FindingExplained, FindingRow, Found, HostDetail, HostRow,
    LedgerVerified, MakeToken, Overview, PackageDetail, PackageRow, Page, TokenMade,
};
use fettle_wire::token::EnrolToken;
use serde::Deserialize;
use utoipa::IntoParams;

/// The fleet on one screen.
#[utoipa::path(get, path = "/overview", tag = "fleet", responses((status = 200, body = Overview), Failures))]
pub(super) async fn overview(app: Asked) -> Answer<Overview> {
    look(&app, views::overview).await
}

/// Which hosts, in which order. What is not given does not narrow.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HostQuery {
    /// Text in the name.
    pub(crate) q: Option<String>,
    /// State word: `exposed`.
    pub(crate) state: Option<String>,
    /// `key=value`.
    pub(crate) label: Option<String>,
    /// A selector over labels and facts, as policies have them: `env=prod and os.codename=bookworm`.
    pub(crate) select: Option<String>,
    /// Policy that governs it.
    pub(crate) policy: Option<String>,
    /// Ring of that policy.
    pub(crate) ring: Option<String>,
    /// Installed package: `openssl`, or `openssl=3.0.14-1` for that version.
    pub(crate) package: Option<String>,
    /// A vulnerability that it still runs: `CVE-2024-5535`.
    pub(crate) cve: Option<String>,
    /// `name`, `state`, `open`, `overdue`, `pending`, `no-fix`, `fixed`, `upgrades` or `seen`; `-open` for the largest first.
    pub(crate) sort: Option<String>,
    /// At most so many, 1 to 100,000. Default 100.
    pub(crate) limit: Option<u64>,
    /// Leave out so many first.
    pub(crate) offset: Option<u64>,
}

/// What was typed, if anything was.
pub(crate) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|t| !t.is_empty())
}

/// A word of a query that has to be one of a few.
pub(crate) fn one_of<T: Copy>(what: &str, word: &str, all: &[(&str, T)]) -> Result<T, Problem> {
    let found = all.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(known, _)| *known).collect();
        let hint = format!("write one of {}", words.join(", "));
        Problem::new(ProblemKind::Usage, "bad-query", format!("`{word}` is no {what}"), hint)
    })
}

/// A sort word, `-` before it for the largest first. `default` where none was given.
pub(crate) fn sorted_by<T: Copy>(
    text: &Option<String>,
    default: (T, bool),
    all: &[(&str, T)],
) -> Result<(T, bool), Problem> {
    let Some(text) = given(text) else { return Ok(default) };
    let (word, down) = text.strip_prefix('-').map_or((text, false), |word| (word, true));
    Ok((one_of("order", word, all)?, down))
}

/// At most so many of a list, 1 to 100,000; 100 where nothing is said.
pub(crate) fn limited(limit: Option<u64>) -> u64 {
    limit.unwrap_or(100).clamp(1, 100_000)
}

impl HostQuery {
    pub(crate) fn filter(&self) -> Result<HostFilter, Problem> {
        let own = |text: &Option<String>| given(text).map(str::to_owned);
        let label = given(&self.label).map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        });
        Ok(HostFilter {
            q: given(&self.q).map(str::to_lowercase),
            state: own(&self.state).map(HostFilter::checked_state).transpose()?,
            select: given(&self.select).map(HostFilter::checked_select).transpose()?,
            label,
            policy: own(&self.policy),
            ring: own(&self.ring),
            package: own(&self.package),
            cve: given(&self.cve).map(str::to_uppercase),
        })
    }

    pub(crate) fn sort(&self) -> Result<(HostSort, bool), Problem> {
        sorted_by(&self.sort, (HostSort::Name, false), &HostSort::WORDS)
    }
}

/// Hosts, by name where no other order is asked for.
#[utoipa::path(get, path = "/hosts", tag = "fleet", params(HostQuery), responses((status = 200, body = Page<HostRow>), Failures))]
pub(super) async fn hosts(app: Asked, Asking(query): Asking<HostQuery>) -> Answer<Page<HostRow>> {
    look(&app, move |app, _| {
        let (filter, sort) = (query.filter()?, query.sort()?);
        let (limit, offset) = (limited(query.limit), query.offset.unwrap_or(0));
        app.fleet(|fleet| fleet.hosts(app, &filter, sort, limit, offset).page)
    })
    .await
}

/// Which packages, in which order.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PackageQuery {
    /// Text in the name or the source package.
    pub(crate) q: Option<String>,
    /// `true`: only those with an open finding on some host.
    pub(crate) exposed: Option<bool>,
    /// `name`, `hosts`, `versions`, `exposed` or `upgradable`; `-hosts` for the largest first.
    pub(crate) sort: Option<String>,
    /// At most so many, 1 to 100,000. Default 100.
    pub(crate) limit: Option<u64>,
    /// Leave out so many first.
    pub(crate) offset: Option<u64>,
}

impl PackageQuery {
    pub(crate) fn look(&self, app: &App) -> Result<Page<PackageRow>, Problem> {
        let q = given(&self.q).unwrap_or_default().to_lowercase();
        let sort = sorted_by(&self.sort, (PackageSort::Name, false), &PACKAGE_SORTS)?;
        let (limit, offset) = (limited(self.limit), self.offset.unwrap_or(0));
        let exposed = self.exposed.unwrap_or(false);
        app.fleet(|fleet| {
            let tally = fleet.tally(now());
            fleet.packages(&tally, &q, exposed, sort, limit, offset)
        })
    }
}

const PACKAGE_SORTS: [(&str, PackageSort); 5] = [
    ("name", PackageSort::Name),
    ("hosts", PackageSort::Hosts),
    ("versions", PackageSort::Versions),
    ("exposed", PackageSort::Exposed),
    ("upgradable", PackageSort::Upgradable),
];

/// Installed packages, counted over the fleet.
#[utoipa::path(get, path = "/packages", tag = "fleet", params(PackageQuery), responses((status = 200, body = Page<PackageRow>), Failures))]
pub(super) async fn packages(
    app: Asked,
    Asking(query): Asking<PackageQuery>,
) -> Answer<Page<PackageRow>> {
    look(&app, move |app, _| query.look(app)).await
}

/// One package over the fleet: its versions, who is offered another, and what is wrong with it.
#[utoipa::path(
    get, path = "/packages/{name}", tag = "fleet", params(("name" = String, Path, description = "Binary name")),
    responses((status = 200, body = PackageDetail), Failures)
)]
pub(super) async fn package(app: Asked, At(name): At<String>) -> Answer<PackageDetail> {
    look(&app, move |app, _| views::package(app, &name)).await
}

/// One host, whole.
#[utoipa::path(
    get, path = "/hosts/{host}", tag = "fleet", params(("host" = String, Path, description = "Id or name")),
    responses((status = 200, body = HostDetail), Failures)
)]
pub(super) async fn host(app: Asked, At(host): At<String>) -> Answer<HostDetail> {
    look(&app, move |app, view| views::host(app, view, &host)).await
}

/// What a host has and what was found on it: CycloneDX 1.6, an SBOM that carries VEX.
#[utoipa::path(
    get, path = "/hosts/{host}/sbom", tag = "fleet", params(("host" = String, Path, description = "Id or name")),
    responses((status = 200, body = Object, description = "CycloneDX 1.6"), Failures)
)]
pub(super) async fn sbom(app: Asked, At(host): At<String>) -> Answer<serde_json::Value> {
    look(&app, move |app, view| views::sbom(app, view, &host)).await
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
            let found = FindingState::ALL.into_iter().find(|s| s.word() == word);
            found.ok_or_else(|| wrong("state", &word, &FindingState::ALL.map(FindingState::word)))
        });
        let severity = given(&self.severity).map(|word| {
            let found = Severity::ALL.into_iter().find(|s| s.word() == word);
            found.ok_or_else(|| wrong("severity", &word, &Severity::ALL.map(Severity::word)))
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

/// Findings, worst first.
#[utoipa::path(
    get, path = "/findings", tag = "findings", params(FindingQuery),
    responses((status = 200, body = Page<FindingRow>), Failures)
)]
pub(super) async fn findings(
    app: Asked,
    Asking(query): Asking<FindingQuery>,
) -> Answer<Page<FindingRow>> {
    look(&app, move |app, view| {
        let filter = query.filter(view)?;
        views::findings(app, view, &filter, query.limit(), query.offset.unwrap_or(0))
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

/// Which vulnerabilities, in which order. What is not given does not narrow.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CveQuery {
    /// Text in the id or a source package.
    pub(crate) q: Option<String>,
    /// Class of a policy.
    pub(crate) class: Option<String>,
    /// Severity word: `critical`.
    pub(crate) severity: Option<String>,
    /// State word that a finding of it is in: `open`.
    pub(crate) state: Option<String>,
    /// `true`: only those known to be exploited.
    pub(crate) kev: Option<bool>,
    /// `true`: only those with a fix that some host lacks.
    pub(crate) fixable: Option<bool>,
    /// `overdue`: only those past a deadline somewhere.
    pub(crate) due: Option<String>,
    /// `rank`, `id`, `hosts`, `overdue`, `epss` or `cvss`; `-hosts` for the largest first. Default `-rank`: worst first.
    pub(crate) sort: Option<String>,
    /// At most so many, 1 to 100,000. Default 100.
    pub(crate) limit: Option<u64>,
    /// Leave out so many first.
    pub(crate) offset: Option<u64>,
}

impl CveQuery {
    pub(crate) fn look(&self, app: &App) -> Result<Page<CveRow>, Problem> {
        let states = FindingState::ALL.map(|s| (s.word(), s));
        let severities = Severity::ALL.map(|s| (s.word(), s));
        let filter = CveFilter {
            q: given(&self.q).unwrap_or_default().to_lowercase(),
            class: given(&self.class).map(str::to_owned),
            severity: given(&self.severity)
                .map(|word| one_of("severity", word, &severities))
                .transpose()?,
            state: given(&self.state).map(|word| one_of("state", word, &states)).transpose()?,
            kev: self.kev.unwrap_or(false),
            fixable: self.fixable.unwrap_or(false),
            overdue: given(&self.due)
                .map(|word| one_of("due", word, &[("overdue", true)]))
                .transpose()?
                .unwrap_or(false),
        };
        let sort = sorted_by(&self.sort, (CveSort::Rank, true), &CVE_SORTS)?;
        let (limit, offset) = (limited(self.limit), self.offset.unwrap_or(0));
        app.fleet(|fleet| fleet.cves(&fleet.tally(now()), &filter, sort, limit, offset))
    }
}

const CVE_SORTS: [(&str, CveSort); 6] = [
    ("rank", CveSort::Rank),
    ("id", CveSort::Id),
    ("hosts", CveSort::Hosts),
    ("overdue", CveSort::Overdue),
    ("epss", CveSort::Epss),
    ("cvss", CveSort::Cvss),
];

/// Vulnerabilities that some host has or had, worst first.
#[utoipa::path(get, path = "/cves", tag = "findings", params(CveQuery), responses((status = 200, body = Page<CveRow>), Failures))]
pub(super) async fn cves(app: Asked, Asking(query): Asking<CveQuery>) -> Answer<Page<CveRow>> {
    look(&app, move |app, _| query.look(app)).await
}

/// What is searched for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Text: a name or a part of one.
    #[serde(default)]
    pub(crate) q: String,
}

/// Hosts, packages, vulnerabilities, policies, plans and rollouts by name or a part of it.
#[utoipa::path(get, path = "/search", tag = "fleet", params(SearchQuery), responses((status = 200, body = Found), Failures))]
pub(super) async fn search(app: Asked, Asking(query): Asking<SearchQuery>) -> Answer<Found> {
    look(&app, move |app, view| views::search(app, view, &query.q)).await
}

/// One vulnerability over the fleet.
#[utoipa::path(
    get, path = "/cves/{id}", tag = "findings", params(("id" = String, Path, description = "Vulnerability")),
    responses((status = 200, body = CveDetail), Failures)
)]
pub(super) async fn cve(app: Asked, At(id): At<String>) -> Answer<CveDetail> {
    look(&app, move |app, view| views::cve(app, view, &id, u64::MAX)).await
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
    Ok(axum::Json(app.blocking(|app| app.chain.whole(app)).await?))
}
