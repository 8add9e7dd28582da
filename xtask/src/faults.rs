//! `cargo xtask faults`: the fault battery on real hosts, and on servers with real hosts.

use crate::build::programs;
use crate::figures::write_json;
use crate::lab::{say, within};
use anyhow::{Result, bail};
use clap::Args;
use fettle_lab::faults::{Extent, battery, run, run_servers, server_battery};
use std::path::PathBuf;

/// Faults done to real hosts in the middle of real transactions.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Every row at every point, not only the short set. Takes hours.
    #[arg(long)]
    full: bool,
    /// Only these rows: `H3`, `H12a`, `S1`.
    #[arg(long, value_delimiter = ',')]
    row: Vec<String>,
    /// Only points whose names hold one of these texts: `apply:`, to try again what did not survive.
    #[arg(long, value_delimiter = ',')]
    point: Vec<String>,
    /// Write the table as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Faults {
    pub(crate) fn run(self) -> Result<()> {
        let (known, of_server) = (battery(), server_battery());
        let ids: Vec<&str> =
            known.iter().map(|r| r.id).chain(of_server.iter().map(|r| r.id)).collect();
        if let Some(odd) = self.row.iter().find(|id| !ids.contains(&id.as_str())) {
            bail!("there is no row {odd}; there are {}", ids.join(", "));
        }
        let wanted = |id: &str, short: bool| match self.row.is_empty() {
            true => self.full || short,
            false => self.row.iter().any(|r| r == id),
        };
        let rows: Vec<_> = known.into_iter().filter(|r| wanted(r.id, r.short)).collect();
        let of_server: Vec<_> = of_server.into_iter().filter(|r| wanted(r.id, false)).collect();
        let extent = if self.full { Extent::Full } else { Extent::Short };
        let programs = programs("demo")?;
        let (reports, of_server) = within(|lab| {
            let of_server = run_servers(lab, &programs, &of_server, extent, &say)?;
            let reports = match rows.is_empty() {
                true => Vec::new(),
                false => run(lab, &programs, &rows, extent, &self.point, &say)?,
            };
            write_json(&(&reports, &of_server), self.json.as_deref())?;
            Ok((reports, of_server))
        })?;
        let bad = reports.iter().filter(|r| !r.holds()).map(|r| r.row.as_str());
        let bad: Vec<&str> =
            bad.chain(of_server.iter().filter(|r| !r.holds()).map(|r| r.row.as_str())).collect();
        if !bad.is_empty() {
            bail!("not survived: {}", bad.join("; "));
        }
        println!("{} rows, all survived", reports.len() + of_server.len());
        Ok(())
    }
}
