//! What can be typed about plan keys.

use clap::Subcommand;
use std::path::PathBuf;

/// Plan keys: what operators sign plans with, and hosts ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key of your own, in a file that only you can read. The server never gets it.
    New {
        /// The file; it must not be there yet.
        file: PathBuf,
    },
    /// The public part of a key: what goes into a set.
    Show {
        /// The file that `new` wrote.
        file: PathBuf,
    },
    /// The plan keys in force.
    List,
    /// Write the next set of plan keys, for others to sign.
    Propose {
        /// So many of the keys must sign a plan.
        #[arg(long)]
        threshold: u32,
        /// A key of the set, `NAME=PUBLIC`; once for each.
        #[arg(long = "key", required = true, value_name = "NAME=PUBLIC")]
        keys: Vec<String>,
        /// Where to write it.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a proposed set: as one of its keys, or of the set before it.
    Sign {
        /// What `propose` wrote; the signature is added to it.
        set: PathBuf,
        /// Your key.
        #[arg(long)]
        key: PathBuf,
    },
    /// Put a signed set in force. Hosts take it over with their next check-in.
    Publish {
        /// The set.
        set: PathBuf,
    },
}
