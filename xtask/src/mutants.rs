//! `cargo xtask mutants guards`: each guard of rollouts and assignments switched off in turn. A guard that can go
//! without the checker's noticing is not a guard.

use crate::figures::write_json;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use fettle_sim::{Options, Sabotage, run};
use serde::Serialize;
use std::path::PathBuf;

/// Switch guards off in turn, and see that it is noticed.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Which kind of mutants.
    #[arg(value_enum, default_value_t = Kind::Guards)]
    kind: Kind,
    /// Seeds tried for each before it counts as a survivor.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// The guards of rollouts and assignments, in the simulator.
    Guards,
}

/// The result; the figures for machines.
#[derive(Debug, Serialize)]
struct Score {
    total: usize,
    killed: usize,
    /// Guards that can go without being missed. Empty is the aim.
    survivors: Vec<String>,
    kills: Vec<Kill>,
}

/// How a mutant was noticed.
#[derive(Debug, Serialize)]
struct Kill {
    guard: Sabotage,
    invariant: String,
    seed: u64,
}

impl Mutants {
    pub(crate) fn run(self) -> Result<()> {
        let Kind::Guards = self.kind;
        let mut score =
            Score { total: Sabotage::ALL.len(), killed: 0, survivors: vec![], kills: vec![] };
        for guard in Sabotage::ALL {
            let options = Options { sabotage: Some(guard), ..Options::default() };
            match (0..self.seeds).find_map(|seed| run(seed, &options).violations.pop()) {
                Some(found) => {
                    println!(
                        "killed    {:<20} by invariant {} at seed {}",
                        format!("{guard:?}"),
                        found.invariant,
                        found.seed
                    );
                    score.killed += 1;
                    score.kills.push(Kill { guard, invariant: found.invariant, seed: found.seed });
                }
                None => {
                    println!("SURVIVED  {guard:?} ({} seeds)", self.seeds);
                    score.survivors.push(format!("{guard:?}"));
                }
            }
        }
        println!("{} of {} killed", score.killed, score.total);
        write_json(&score, self.json.as_deref())?;
        if !score.survivors.is_empty() {
            bail!("guards that nothing misses: {}", score.survivors.join(", "));
        }
        Ok(())
    }
}
