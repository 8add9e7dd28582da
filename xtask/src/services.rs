//! `cargo xtask services`: real software, patched and taken back while a client talks to it.

use crate::build::programs;
use crate::figures::write_json;
use crate::lab::{say, within};
use anyhow::{Result, bail};
use clap::Args;
use fettle_lab::services;
use std::path::PathBuf;

/// Real software on real hosts, patched and taken back under a client's eyes.
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Only these: `nginx`, `postgresql`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write the table as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Services {
    pub(crate) fn run(self) -> Result<()> {
        let known = services::names();
        if let Some(odd) = self.only.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("there is no {odd}; there are {}", known.join(", "));
        }
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|o| o == name);
        let programs = programs("demo")?;
        let table = within(|lab| {
            let table = services::run(lab, &programs, wanted, &say)?;
            write_json(&table, self.json.as_deref())?;
            Ok(table)
        })?;
        let bad: Vec<&str> =
            table.iter().filter(|p| !p.wrong.is_empty()).map(|p| p.name.as_str()).collect();
        if !bad.is_empty() {
            bail!("not as it should be: {}", bad.join(", "));
        }
        let refused = table.iter().filter(|p| p.refused.is_some()).count();
        println!(
            "{} patched and taken back, {refused} refused rightly, no file differs",
            table.len() - refused
        );
        Ok(())
    }
}
