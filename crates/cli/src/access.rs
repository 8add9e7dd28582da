//! Operators and approvals: who may do what, and who stands for which plan.

use crate::client::escape;
use crate::commands::{Ask, digest_of, seconds};
use crate::output::{ago, hint, line, note, now};
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{AddOperator, ApprovePlan, OperatorAdded, PlanDetail, RenewOperator};
use std::collections::BTreeSet;

/// Adds an operator, and shows the token, once.
pub(crate) fn add(
    ask: &Ask<'_>,
    name: &str,
    roles: BTreeSet<Role>,
    expires: Option<&str>,
) -> Result<(), Problem> {
    let expires_seconds = lifetime(expires)?;
    let asked = AddOperator { name: name.to_owned(), roles, expires_seconds };
    let added: OperatorAdded = ask.client()?.post("/operators", &asked)?;
    ask.print(&added, show_token)
}

/// Gives an operator a new token, and shows it, once.
pub(crate) fn renew(ask: &Ask<'_>, name: &str, expires: Option<&str>) -> Result<(), Problem> {
    let asked = RenewOperator { expires_seconds: lifetime(expires)? };
    let path = format!("/operators/{}/token", escape(name));
    let renewed: OperatorAdded = ask.client()?.post(&path, &asked)?;
    ask.print(&renewed, show_token)
}

fn lifetime(text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let message = format!("`{text}` is no duration");
    let wrong = || Problem::new(ProblemKind::Usage, "expires", message, "write 12h or 90d");
    seconds(text).map(Some).ok_or_else(wrong)
}

fn show_token(it: &OperatorAdded) {
    let name = &it.operator.name;
    line(&it.token);
    let until = match it.operator.expires_at {
        Some(at) => format!("it expires {}", ago(at, now())),
        None => "it does not expire".to_owned(),
    };
    note(&format!(
        "the token of {name}, shown this once; {until}. In a file that only {name} can read: fettle --token-file FILE host list"
    ));
}

/// Revokes an operator.
pub(crate) fn revoke(ask: &Ask<'_>, name: &str) -> Result<(), Problem> {
    ask.client()?.delete(&format!("/operators/{}", escape(name)))?;
    ask.print(&serde_json::json!({ "revoked": name }), |_| {
        line(&format!("{name} may do nothing from now on"));
        hint("fettle operator list");
    })
}

/// Approves a plan: as it was seen, or as it is now.
pub(crate) fn approve(
    ask: &Ask<'_>,
    number: u64,
    digest: Option<&str>,
    comment: &str,
) -> Result<(), Problem> {
    let client = ask.client()?;
    let digest = match digest_of(number, digest)? {
        Some(digest) => digest,
        None => client.get::<PlanDetail>(&format!("/plans/{number}"))?.digest,
    };
    let asked = ApprovePlan { digest, comment: comment.to_owned() };
    let detail: PlanDetail = client.post(&format!("/plans/{number}/approvals"), &asked)?;
    ask.print(&detail, |detail| {
        let verdict = &detail.approvals;
        line(&format!(
            "plan {number} ({}): {} of {} approvals given",
            detail.digest.short(),
            verdict.given,
            verdict.needed
        ));
        if verdict.is_enough() {
            hint(&format!("fettle rollout start {number}"));
        } else {
            hint(&format!("somebody else: fettle plan approve {number}"));
        }
    })
}

/// Takes back one's own approval.
pub(crate) fn withdraw(ask: &Ask<'_>, number: u64) -> Result<(), Problem> {
    ask.client()?.delete(&format!("/plans/{number}/approvals"))?;
    ask.print(&serde_json::json!({ "withdrawn": number }), |_| {
        line(&format!("your approval of plan {number} is taken back"));
        hint(&format!("fettle plan show {number}"));
    })
}
