//! What can be typed about reports.

use clap::Args;
use std::path::PathBuf;

/// Which report, and as what.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// First day or moment of the period: `2026-11-01`, `2026-11-01T06:00:00Z`. Default: 30 days before its end.
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Last day of the period, or the moment it ends at. Default: now.
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<String>,
    /// Only this policy's hosts.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Print one table as CSV: `compliance`, `overdue`, `trend`, `rollouts`, `exceptions`.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["html", "pdf"])]
    pub(crate) csv: Option<String>,
    /// Write all of it as one HTML document that needs no server.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write all of it as PDF; Chromium prints it, where that is installed.
    #[arg(long, value_name = "FILE")]
    pub(crate) pdf: Option<PathBuf>,
}
