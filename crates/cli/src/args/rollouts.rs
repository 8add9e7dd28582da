//! What can be typed about plans, rollouts and recalls.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Plans.
#[derive(Debug, Subcommand)]
pub(crate) enum Plan {
    /// Make a plan by a policy, now. It changes nothing until it is started.
    Make {
        /// Name of the policy.
        policy: String,
        /// Only this host (name or id); may be given several times.
        #[arg(long)]
        host: Vec<String>,
    },
    /// One plan: what changes, where and why, and what does not; who approved it.
    Show {
        /// Its number.
        number: u64,
    },
    /// What one plan does that another does not: hosts, packages, waves, reasons.
    Diff {
        /// Number of the one, or `latest`.
        from: String,
        /// Number of the other, or `latest`.
        #[arg(default_value = "latest")]
        to: String,
    },
    /// Approve a plan that somebody else made. Good for a day, unless its rollout starts.
    Approve {
        /// Its number.
        number: u64,
        /// The plan's digest as you saw it: refused when it is another.
        #[arg(long)]
        digest: Option<String>,
        /// In a few words; goes to the ledger.
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
    },
    /// Sign a plan with your own plan key, so that hosts carry it out.
    Sign {
        /// Its number.
        number: u64,
        /// Your key: the file that `fettle key new` wrote.
        #[arg(long)]
        key: PathBuf,
        /// The plan's digest as you saw it: refused when it is another.
        #[arg(long)]
        digest: Option<String>,
        /// For how long hosts may begin: `12h`, `7d`; at most 30 days.
        #[arg(long, default_value = crate::key::VALID, value_name = "TIME")]
        valid: String,
    },
    /// Take back your approval, as long as the rollout has not started.
    Withdraw {
        /// Its number.
        number: u64,
    },
}

/// Rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Start a plan.
    Start {
        /// Number of the plan.
        plan: u64,
        /// The plan's digest as you saw it: refused when it is another.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Follow a rollout to its end.
    Watch {
        /// `ro-1`.
        id: String,
    },
    /// Start no new host; those at work go on.
    Pause(Because),
    /// Go on after a pause or a halt.
    Resume(Because),
    /// Start no new host, ever.
    Abort(Because),
    /// Put patched hosts back as they were.
    Undo {
        #[command(flatten)]
        because: Because,
        /// Only this host (name or id); may be given several times. Default: every patched host.
        #[arg(long)]
        host: Vec<String>,
        /// Only the hosts of this wave, counted from 1.
        #[arg(long, conflicts_with = "host", value_parser = clap::value_parser!(u32).range(1..))]
        wave: Option<u32>,
    },
    /// Let the next ring begin, where the policy waits for somebody's word: not one's own rollout.
    Approve {
        /// `ro-1`.
        id: String,
        /// The wave that may begin, counted from 1.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        wave: u32,
        /// In a few words; goes to the ledger.
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
    },
    /// All rollouts.
    List,
    /// One rollout.
    Show {
        /// `ro-1`.
        id: String,
    },
}

/// Which rollout, and why.
#[derive(Debug, Args)]
pub(crate) struct Because {
    /// `ro-1`.
    pub(crate) id: String,
    /// Why; goes to the ledger.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// Recalls.
#[derive(Debug, Subcommand)]
pub(crate) enum Recall {
    /// Recall a version: no plan takes it, and a rollout that would still bring it is halted at once.
    Add {
        /// `openssl=3.0.15-1~deb12u1`; in the name, `*` and `?` stand for others.
        #[arg(value_name = "PACKAGE=VERSION")]
        what: String,
        /// Why; goes to the ledger, and to whoever is stopped by it.
        #[arg(long)]
        reason: String,
        /// Take it back as well from the hosts that a rollout has brought it to.
        #[arg(long)]
        undo: bool,
    },
    /// All recalls that stand.
    List,
    /// One recall: the rollouts it stopped, and the hosts that have the version.
    Show {
        /// As it was recalled.
        #[arg(value_name = "PACKAGE=VERSION")]
        what: String,
    },
    /// Lift a recall; what it halted stays halted until somebody resumes it.
    Lift {
        /// As it was recalled.
        #[arg(value_name = "PACKAGE=VERSION")]
        what: String,
        /// Why; goes to the ledger.
        #[arg(long)]
        reason: String,
    },
}
