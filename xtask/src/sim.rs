//! `cargo xtask sim`: many seeds of the simulator, with fleets of any size.

use crate::figures::write_json;
use anyhow::{Result, bail};
use clap::Args;
use fettle_sim::{Options, campaign_with};
use std::path::PathBuf;

/// The product's own planner, rollout and transaction code under random events.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Hosts in each fleet at first; three to eight, as the seed says, where nothing is given. Thousands take minutes a
    /// seed.
    #[arg(long)]
    hosts: Option<usize>,
    /// Write the summary as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Sim {
    pub(crate) fn run(self) -> Result<()> {
        let options = Options { hosts: self.hosts, ..Options::default() };
        let summary = campaign_with(self.from..self.from + self.seeds, &options);
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
