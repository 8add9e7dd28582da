//! What can be typed about evidence packs.

use clap::Subcommand;
use std::path::PathBuf;

/// Evidence packs.
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Write what happened in a period into a signed archive for an auditor.
    Export {
        /// Where to.
        file: PathBuf,
        /// First day or moment of the period: `2026-11-01`, `2026-11-01T06:00:00Z`. Default: 30 days before its end.
        #[arg(long, value_name = "WHEN")]
        from: Option<String>,
        /// Last day of the period, or the moment it ends at. Default: now.
        #[arg(long, value_name = "WHEN")]
        to: Option<String>,
    },
    /// Check a pack: needs no server and no token, only the key.
    Verify {
        /// The pack.
        file: PathBuf,
        /// The key of the server that made it, as `fettle evidence key` prints it there.
        #[arg(long)]
        key: String,
    },
    /// Print the key that this server signs packs with.
    Key,
}
