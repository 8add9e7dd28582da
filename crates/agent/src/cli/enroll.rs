//! Joining a fleet, and judging orders by hand.

use super::{Words, need_root, usage};
use crate::identity::{self, Identity};
use crate::link::{Link, LinkError};
use crate::orders;
use crate::plan_keys;
use crate::settings::Settings;
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_wire::agent::{Enroll, Enrolled};
use fettle_wire::plan_key::PlanProof;
use fettle_wire::token::EnrolToken;

/// `enroll --server URL --token TOKEN`: key made here, certificate from the server, everything pinned by the token.
pub(super) fn run(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let server = words
        .option("--server")?
        .ok_or_else(|| usage("enroll wants --server https://NAME:8441".into()))?;
    let token =
        words.option("--token")?.ok_or_else(|| usage("enroll wants --token TOKEN".into()))?;
    let name = words.option("--name")?;
    let force = words.flag("--force");
    words.rest()?;
    need_root("enroll")?;
    let token: EnrolToken = token.parse().map_err(|e| {
        Problem::new(
            ProblemKind::Usage,
            "token-malformed",
            e,
            "copy the whole line that it printed",
        )
    })?;
    if let Some(identity) = identity::load(settings)?.filter(|_| !force) {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "already-enrolled",
            format!("this host is enrolled already, as {} at {}", identity.host, identity.server),
            "nothing to do; --force enrols it anew, as another host",
        ));
    }
    crate::durable::create_directory(&settings.state_dir).map_err(|e| {
        Problem::new(
            ProblemKind::Environment,
            "state-unusable",
            e,
            "is there space on the file system of /var/lib?",
        )
    })?;
    let name = name.unwrap_or_else(super::scan::own_name);
    let (key, csr) = identity::key_and_request(&name).map_err(|e| {
        Problem::new(
            ProblemKind::Environment,
            "no-key",
            format!("no key could be made: {e}"),
            "try again",
        )
    })?;
    let link = Link::pinned(&server, token.ca_pin).map_err(LinkError::problem)?;
    let body =
        Enroll { token: token.secret, csr, name, agent_version: env!("CARGO_PKG_VERSION").into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Problem::new(ProblemKind::Environment, "no-runtime", e, "are there file descriptors left?")
    })?;
    let enrolled: Enrolled =
        runtime.block_on(link.post("/agent/v1/enroll", &body)).map_err(LinkError::problem)?;
    let identity = Identity {
        host: enrolled.host,
        server,
        key,
        certificate: enrolled.certificate,
        ca: enrolled.ca,
        assignment_key: enrolled.assignment_key,
    };
    // The chain was pinned; what the answer names as authority must be that one too.
    Link::enrolled(&identity).map_err(LinkError::problem)?;
    identity::save(settings, &identity)?;
    out!("enrolled as {}", identity.host);
    out!("→ systemctl enable --now fettle-agent");
    Ok(())
}

/// `check-order FILE`: would this signed assignment be obeyed now? Starts nothing.
pub(super) fn check_order(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let proof = words.option("--proof")?;
    let file =
        words.at_most_one("file")?.ok_or_else(|| usage("check-order wants a file".into()))?;
    let bad = |e: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::BadInput,
            "order-malformed",
            format!("{file}: {e}"),
            "a signed assignment is JSON",
        )
    };
    let bytes = std::fs::read(&file).map_err(|e| bad(&e))?;
    let signed = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    let identity = identity::load(settings)?.ok_or_else(|| {
        Problem::new(
            ProblemKind::Refused,
            "not-enrolled",
            "this host obeys nobody: it is not enrolled",
            "fettle-agent enroll",
        )
    })?;
    let ledger = orders::read_ledger(settings).map_err(|e| {
        Problem::new(ProblemKind::Environment, "ledger-unreadable", e, "run as root")
    })?;
    let proof: Option<PlanProof> = match proof {
        Some(file) => {
            let bytes = std::fs::read(&file).map_err(|e| bad(&e))?;
            Some(serde_json::from_slice(&bytes).map_err(|e| bad(&e))?)
        }
        None => None,
    };
    let pinned = plan_keys::read(settings).map_err(|e| {
        Problem::new(ProblemKind::Environment, "plan-keys-unreadable", e, "run as root")
    })?;
    let by = orders::Signed::here(settings, pinned.as_ref(), proof.as_ref());
    let Identity { host, assignment_key, .. } = &identity;
    match orders::judge(&signed, host, assignment_key, by, ledger, Timestamp::now()) {
        Ok(accepted) => {
            out!(
                "would be obeyed: {} (generation {})",
                accepted.assignment.id,
                accepted.assignment.generation
            );
            Ok(())
        }
        Err(why) => Err(Problem::new(
            ProblemKind::Refused,
            "order-refused",
            format!("the assignment is refused: {why}"),
            "if the fleet's server sent it, look at the server's clock and backups before anything else",
        )),
    }
}
