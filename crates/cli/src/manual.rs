//! The manual, made from what can be typed.

use crate::args::Cli;
use crate::output::line;
use clap::CommandFactory as _;
use fettle_core::{Problem, ProblemKind};
use std::path::Path;

/// Writes `fettle.1` and a page for each command into a directory.
pub(crate) fn manual(directory: &Path) -> Result<(), Problem> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| {
        Problem::new(
            ProblemKind::Environment,
            "manual-not-written",
            format!("{}: {error}", directory.display()),
            "name a directory that you may write to",
        )
    })?;
    line(&format!("man {}/fettle.1", directory.display()));
    Ok(())
}
