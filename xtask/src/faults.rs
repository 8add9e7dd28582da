//! `cargo xtask faults`: the fault battery on real hosts.

use crate::build::programs;
use crate::figures::write_json;
use crate::lab::{down, say};
use anyhow::{Result, bail};
use clap::Args;
use fettle_lab::faults::{Extent, battery, run};
use fettle_lab::{Lab, LabConfig};
use std::path::PathBuf;

/// Faults done to real hosts in the middle of real transactions.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Every row at every point, not only the short set. Takes hours.
    #[arg(long)]
    full: bool,
    /// Only these rows: `H3`, `H12a`.
    #[arg(long, value_delimiter = ',')]
    row: Vec<String>,
    /// Write the table as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Faults {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(reason) = fettle_lab::why_not() {
            bail!(
                "faults are done to real hosts, which cannot be booted here: {reason}\nnext: run it as root"
            );
        }
        let known = battery();
        if let Some(odd) = self.row.iter().find(|id| !known.iter().any(|r| r.id == **id)) {
            let all: Vec<&str> = known.iter().map(|r| r.id).collect();
            bail!("there is no row {odd}; there are {}", all.join(", "));
        }
        let wanted = |id: &str, short: bool| match self.row.is_empty() {
            true => self.full || short,
            false => self.row.iter().any(|r| r == id),
        };
        let rows: Vec<_> = known.into_iter().filter(|r| wanted(r.id, r.short)).collect();
        let extent = if self.full { Extent::Full } else { Extent::Short };
        let programs = programs("demo")?;
        let lab = Lab::open(LabConfig::from_env()?)?;
        lab.ensure_requirements(&say)?;
        down(&lab)?;
        let reports = run(&lab, &programs, &rows, extent, &say);
        // What went wrong first is told first.
        let left = down(&lab);
        let (reports, left) = (reports?, left?);
        write_json(&reports, self.json.as_deref())?;
        let bad: Vec<&str> =
            reports.iter().filter(|r| !r.holds()).map(|r| r.row.as_str()).collect();
        if !left.is_empty() {
            bail!("the lab left behind: {}", left.join(", "));
        }
        if !bad.is_empty() {
            bail!("not survived: {}", bad.join("; "));
        }
        println!("{} rows, all survived", reports.len());
        Ok(())
    }
}
