//! Figures for people (a table) and for machines (`--json FILE`).

use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::Path;

/// One figure of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// The figure.
    pub(crate) value: f64,
    /// `ms`, `KiB`, `ratio`, ...
    pub(crate) unit: String,
    /// What it should be at most; for a ratio, measured against the peer in the same run.
    pub(crate) bar: Option<f64>,
    /// Is it?
    pub(crate) holds: bool,
}

impl Figure {
    /// A figure that should be at most `bar`.
    pub(crate) fn at_most(name: &str, value: f64, unit: &str, bar: f64) -> Self {
        Self { name: name.into(), value, unit: unit.into(), bar: Some(bar), holds: value <= bar }
    }
    /// A figure without a bar.
    pub(crate) fn plain(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.into(), bar: None, holds: true }
    }
}

/// Prints the table, and writes the JSON where asked.
pub(crate) fn publish(figures: &[Figure], json: Option<&Path>) -> Result<()> {
    let width = figures.iter().map(|f| f.name.len()).max().unwrap_or(0);
    for f in figures {
        let bar = f.bar.map_or(String::new(), |b| {
            format!("  (bar {b} {}, {})", f.unit, if f.holds { "holds" } else { "MISSED" })
        });
        println!("{:width$}  {:>12.3} {}{bar}", f.name, f.value, f.unit);
    }
    write_json(&figures, json)
}

/// Writes a value as JSON where asked.
pub(crate) fn write_json(value: &impl Serialize, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, serde_json::to_vec_pretty(value)?)
        .with_context(|| format!("writing {}", file.display()))
}
