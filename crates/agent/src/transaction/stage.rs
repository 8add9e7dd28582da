//! Stage: new and old archives on disk, verified, before anything changes.

use super::preflight::packages;
use super::{StepResult, Transaction, io_fault};
use crate::durable;
use crate::packages::Provenance;
use fettle_core::Shared;
use fettle_core::assignment::PackageChange;
use fettle_core::transaction::StepFacts;

/// Name of the file that keeps which old archives were made from what is installed.
pub(super) const REBUILT: &str = "rebuilt.json";

/// Runs the step. What is there and right already is kept.
///
/// # Errors
/// When a new archive cannot be had as the plan names it. An old one that cannot be had is a note: the way
/// back is the preimage, the old archives are the rung before it.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    for directory in [
        tx.directory.join("archives"),
        tx.new_archives(),
        tx.new_archives().join("partial"),
        tx.old_archives(),
    ] {
        durable::create_directory(&directory)
            .map_err(io_fault("create the archives' directory"))?;
    }
    let new = tx.driver.download(tx.changes(), &tx.new_archives()).map_err(packages)?;
    let bytes: u64 = new.iter().map(|a| a.size).sum();
    facts.notes.push(format!("{} new archives, {bytes} bytes, verified", new.len()));
    let (mut rebuilt, mut missing) = (Vec::new(), Vec::new());
    let installed: Vec<Shared<PackageChange>> =
        tx.changes().iter().filter(|c| !c.from.is_empty()).cloned().collect();
    let old = tx.driver.fetch_old(&installed, &tx.old_archives()).map_err(packages)?;
    for (change, archive) in installed.iter().zip(old) {
        match archive {
            Ok(archive) if archive.provenance == Provenance::Rebuilt => {
                rebuilt.push(change.name.clone())
            }
            Ok(_) => {}
            Err(e) => missing.push(format!("{}: {e}", change.name)),
        }
    }
    tx.keep(REBUILT, &rebuilt)?;
    if !rebuilt.is_empty() {
        facts.notes.push(format!("rebuilt from what is installed: {}", rebuilt.join(", ")));
    }
    facts.notes.extend(
        missing.iter().map(|m| format!("no old archive, the preimage is the way back: {m}")),
    );
    let sync = std::fs::File::open(&tx.directory).and_then(|d| Ok(rustix::fs::syncfs(d)?));
    sync.map_err(io_fault("make the archives durable"))?;
    Ok(facts)
}
