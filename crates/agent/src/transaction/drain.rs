//! Drain: out of the load balancer, by the operator's own program on this host; undrain: back into it.

use super::{StepResult, Transaction, fault, io_fault};
use crate::command::{self, command};
use fettle_core::transaction::{Fault, StepFacts};
use std::time::Duration;

/// A hook may take so long.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs `hooks.d/drain`, where there is one. Draining twice must be harmless.
///
/// # Errors
/// When the hook fails: nothing was touched yet.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    match hook(tx, "drain")? {
        None => facts.notes.push("no hooks.d/drain: nothing to drain".into()),
        Some(said) => facts.notes.push(format!("drained: {said}")),
    }
    Ok(facts)
}

/// Runs `hooks.d/undrain`, where there is one. `None`: there is none.
///
/// # Errors
/// When the hook fails.
pub fn undo(tx: &Transaction<'_>) -> Result<Option<String>, Fault> {
    hook(tx, "undrain")
}

fn hook(tx: &Transaction<'_>, name: &str) -> Result<Option<String>, Fault> {
    let path = tx.settings.config_dir.join("hooks.d").join(name);
    if !path.is_file() {
        return Ok(None);
    }
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
