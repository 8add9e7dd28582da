//! Joining the fleet, and new certificates for those who have.

use crate::app::{App, now};
use crate::trust::{Peer, hex, random};
use fettle_core::{Digest, HostId, Problem, ProblemKind};
use fettle_store::{StoreError, hosts, tokens};
use fettle_wire::agent::{Enroll, Enrolled, Renew, Renewed};

/// Longest host name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

pub(super) fn enroll(app: &App, asked: &Enroll) -> Result<Enrolled, Problem> {
    let name = check_name(&asked.name)?;
    check_version(&asked.agent_version)?;
    let host = HostId(format!("h-{}", hex(&random::<8>()?)));
    let now = now();
    // The certificate is made first: if the request is bad, the token is still good.
    let certificate = app.trust.certify(&asked.csr, &host, now, app.options.certificate_seconds)?;
    let secret = Digest::of(asked.token.as_bytes());
    app.store.write::<_, Problem>(&format!("host:{host}"), now, |tx| {
        let labels = match tokens::take(tx, secret, &host)? {
            tokens::Used::Labels(labels) => labels,
            tokens::Used::Unknown => return Err(no_token("this token was not made here")),
            tokens::Used::Already { at } => return Err(no_token(format!("this token was used at {at}"))),
            tokens::Used::Expired { at } => return Err(no_token(format!("this token expired at {at}"))),
        };
        let new = hosts::NewHost { id: &host, name, labels: &labels, agent_version: &asked.agent_version };
        hosts::enrol(tx, &new).map_err(|e| match e {
            StoreError::Exists(message) => Problem::new(
                ProblemKind::Conflict,
                "host-enrolled",
                message,
                format!("if that machine is gone or was installed anew, retire it first: `fettle host retire {name} --confirm {name}`; the token is still good"),
            ),
            other => other.into(),
        })
    })?;
    app.events.tell("host", host.as_str());
    tracing::info!(%host, name, "enrolled");
    Ok(Enrolled {
        host,
        certificate,
        ca: app.trust.ca_pem().to_owned(),
        assignment_key: app.trust.signer.public_key(),
    })
}

pub(super) fn renew(
    app: &App,
    host: &HostId,
    peer: &Peer,
    asked: &Renew,
) -> Result<Renewed, Problem> {
    known(app, host)?;
    let certificate =
        app.trust.certify(&asked.csr, host, now(), app.options.certificate_seconds)?;
    app.store.write::<_, Problem>(&format!("host:{host}"), now(), |tx| {
        let late = peer.life.filter(|_| peer.is_late(now())).map(|(_, ended)| ended);
        let detail = late.map_or(serde_json::json!({}), |at| serde_json::json!({ "ended": at }));
        tx.record("host.renewed", host.as_str(), detail);
        Ok(())
    })?;
    Ok(Renewed { certificate })
}

/// The host, unless it was retired: then its certificate is worth nothing.
pub(super) fn known(app: &App, host: &HostId) -> Result<hosts::HostRecord, Problem> {
    let found = app.store.read::<_, Problem>(|view| Ok(hosts::get(view, host)?))?;
    found.ok_or_else(|| {
        Problem::new(
            ProblemKind::Forbidden,
            "not-enrolled",
            format!("host {host} is not of this fleet any more"),
            "enrol it again with a new token: `fettle token create`, `fettle-agent enroll`",
        )
    })
}

fn no_token(why: impl std::fmt::Display) -> Problem {
    let hint =
        "make a new one with `fettle token create`; each is good for one host and a short time";
    Problem::new(ProblemKind::Forbidden, "token-refused", why, hint)
}

/// Host names are shown, sorted and typed: letters, digits, `-`, `.` and `_` only.
pub(crate) fn check_name(name: &str) -> Result<&str, Problem> {
    let name = name.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(fits)
        && !name.starts_with(['-', '.'])
    {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
    Err(Problem::new(
        ProblemKind::BadInput,
        "bad-host-name",
        format!("`{shown}` is no host name"),
        format!(
            "letters, digits, `-`, `.` and `_`, at most {MAX_NAME}: set one with hostnamectl, or `fettle-agent enroll --name`"
        ),
    ))
}

/// A version is shown to people: short and plain.
pub(super) fn check_version(version: &str) -> Result<(), Problem> {
    if version.len() <= 64 && version.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::BadInput,
        "bad-agent-version",
        "the agent's version is no version",
        "upgrade the agent",
    ))
}
