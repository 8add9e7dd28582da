//! Drain: out of the load balancers, before anything changes; undrain: back into them. Balancers that are known by
//! themselves (`balancer`), then the operator's own program on this host.

use super::balancer::{self, Place};
use super::{StepResult, Transaction, fault, io_fault, preflight};
use crate::command::{self, command};
use crate::trusted;
use fettle_core::transaction::{Fault, StepFacts};
use std::time::Duration;

/// A hook may take so long.
const DEADLINE: Duration = Duration::from_secs(300);
/// Where this transaction took the host out, as text: written before it does. Others took it out elsewhere, and want
/// it out.
const FILE: &str = "drained.json";

/// Takes the host out of its balancers, and runs `hooks.d/drain`, where there is one. Draining twice is harmless.
///
/// # Errors
/// When a balancer does not do it, or has nobody else to send requests to, or the hook fails: nothing was touched yet.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    let mut ours: Vec<String> = tx.kept(FILE).unwrap_or_default();
    let places = places(tx)?;
    for place in &places {
        let name = place.to_string();
        let seen = place.look().map_err(|e| unwilling(place, "drain", &e))?;
        if !ours.contains(&name) {
            if seen.is_out() {
                facts.notes.push(format!("{name} was out already ({}), and stays so", seen.status));
                continue;
            }
            if !seen.others {
                return Err(last_server(&name));
            }
            ours.push(name.clone());
            tx.keep(FILE, &ours)?;
        }
        let left = place.drain().map_err(|e| unwilling(place, "drain", &e))?;
        facts.notes.push(match left {
            0 => format!("drained: {name}"),
            left => format!("drained: {name}; {left} requests had not ended, and may be cut off"),
        });
    }
    match hook(tx, "drain")? {
        None if places.is_empty() => {
            facts.notes.push("no balancers.d and no hooks.d/drain: nothing to drain".into());
        }
        None => {}
        Some(said) => facts.notes.push(format!("drained: {said}")),
    }
    Ok(facts)
}

/// Back into the balancers that [`run`] took it out of, and `hooks.d/undrain`, where there is one. `None`: nothing was to
/// be done.
///
/// # Errors
/// When a balancer does not find the host well, or the hook fails.
pub fn undo(tx: &Transaction<'_>) -> Result<Option<String>, Fault> {
    let mut said = Vec::new();
    let ours: Vec<String> = tx.kept(FILE).unwrap_or_default();
    if !ours.is_empty() {
        let places = places(tx)?;
        for name in ours {
            match places.iter().find(|place| place.to_string() == name) {
                Some(place) => {
                    place.ready().map_err(|e| unwilling(place, "undrain", &e))?;
                    said.push(name);
                }
                None => said.push(format!("{name} is in balancers.d no more: put it back by hand")),
            }
        }
    }
    said.extend(hook(tx, "undrain")?);
    Ok(Some(said.join(", ")).filter(|said| !said.is_empty()))
}

/// Blue/green: so much of the traffic in every balancer, in percent of the host's weight there; 0: out of them. It is a
/// state, so doing it again changes nothing.
///
/// # Errors
/// When this host names no balancer, a balancer does not do it or does not find the host well, or nobody else would get
/// the requests.
pub fn switch(tx: &Transaction<'_>, share: u32) -> StepResult {
    let mut facts = StepFacts::default();
    let places = places(tx)?;
    if places.is_empty() {
        return Err(fault(
            "no-balancer",
            "this host names no balancer of its own, so its traffic cannot be set",
            "write a file in /etc/fettle/balancers.d, see docs/balancers.md",
        ));
    }
    for place in &places {
        if share > 0 {
            place.weigh(share).map_err(|e| unwilling(place, "weigh", &e))?;
            place.ready().map_err(|e| unwilling(place, "undrain", &e))?;
            facts.notes.push(format!("{place} has {share} % of its weight"));
            continue;
        }
        let seen = place.look().map_err(|e| unwilling(place, "drain", &e))?;
        // The server has seen to it that others serve; this is for the day on which it is wrong.
        if !seen.is_out() && !seen.others {
            return Err(last_server(&place.to_string()));
        }
        let left = place.drain().map_err(|e| unwilling(place, "drain", &e))?;
        facts.notes.push(match left {
            0 => format!("{place} gets no requests"),
            left => format!("{place} gets no new requests; {left} had not ended"),
        });
    }
    Ok(facts)
}

fn last_server(place: &str) -> Fault {
    fault(
        "last-server",
        format!("{place}: no other server of its backend is up"),
        "bring another one up first, or take the line out of balancers.d if that is meant",
    )
}

fn places(tx: &Transaction<'_>) -> Result<Vec<Place>, Fault> {
    balancer::places(&tx.settings.config_dir)
        .map_err(|e| fault("balancer", e, "mend the file, or remove it"))
}

fn unwilling(place: &Place, what: &str, error: &std::io::Error) -> Fault {
    fault(
        "balancer",
        format!("cannot {what} {place}: {error}"),
        "see that the balancer runs, and that it can be reached from here: HAProxy by a stats socket with `level admin`, another by its program in hooks.d",
    )
}

fn hook(tx: &Transaction<'_>, name: &str) -> Result<Option<String>, Fault> {
    let path = tx.settings.config_dir.join("hooks.d").join(name);
    if !path.is_file() {
        return Ok(None);
    }
    // Preflight has looked; what is as root may be changed by root since.
    trusted::program(&path).map_err(preflight::untrusted)?;
    let mut program = command(&path.to_string_lossy());
    program.env("FETTLE_TRANSACTION", tx.id().as_str());
    let output = command::run(&mut program, Some(DEADLINE)).map_err(io_fault("run a hook"))?;
    if output.success() {
        return Ok(Some(output.tail(1)));
    }
    Err(fault(
        "hook-failed",
        format!("{} failed ({}): {}", path.display(), output.ending(), output.tail(3)),
        "mend the hook, or remove it",
    ))
}
