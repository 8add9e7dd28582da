//! `cargo xtask sim`: many seeds of the simulator.

use crate::figures::write_json;
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

/// The product's own rollout code under random events.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Write the summary as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Sim {
    pub(crate) fn run(self) -> Result<()> {
        let summary = fettle_sim::campaign(self.from..self.from + self.seeds);
        println!("{}", serde_json::to_string_pretty(&summary)?);
        write_json(&summary, self.json.as_deref())?;
        if !summary.violations.is_empty() {
            bail!(
                "{} invariants were broken; replay a seed with --from SEED --seeds 1",
                summary.violations.len()
            );
        }
        Ok(())
    }
}
