//! What can be typed about cycles and emergencies.

use clap::Subcommand;

/// Cycles.
#[derive(Debug, Subcommand)]
pub(crate) enum Cycle {
    /// The cycles of all policies: when they come due, what they wait for, what the last one came to.
    List,
    /// One policy's cycle, with what it did.
    Show {
        /// Name of the policy.
        policy: String,
    },
    /// A cycle whose rollout went wrong may go on: somebody has looked after it.
    Resume {
        /// Name of the policy.
        policy: String,
        /// What was found and done; goes to the ledger.
        #[arg(long)]
        reason: String,
    },
    /// A server that comes from a backup may start cycles and emergency plans by itself again: its hosts have reported,
    /// and what was recalled since the backup is recalled anew.
    Release {
        /// What was looked at; goes to the ledger.
        #[arg(long)]
        reason: String,
    },
}

/// Emergencies.
#[derive(Debug, Subcommand)]
pub(crate) enum Emergency {
    /// What cannot wait: what calls, what was declared, which plans were made for it.
    List,
    /// Declare that a vulnerability cannot wait: the server plans at once for the hosts that have it open.
    Declare {
        /// `CVE-2024-3094`.
        finding: String,
        /// Why; goes to the ledger.
        #[arg(long)]
        reason: String,
        /// How long it holds: `12h`, `3d`.
        #[arg(long = "for", default_value = "3d", value_name = "TIME")]
        time: String,
    },
    /// It is an emergency no more. Plans that were made for it stay.
    End {
        /// `CVE-2024-3094`.
        finding: String,
        /// Why; goes to the ledger.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}
