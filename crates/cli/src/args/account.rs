//! What can be typed about accounts.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use fettle_core::operator::Role;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What somebody may do.
#[derive(Debug, Args)]
pub(crate) struct Roles {
    /// What they may do; several with commas.
    #[arg(
        long, required = true, value_delimiter = ',', value_name = "ROLE",
        value_parser = PossibleValuesParser::new(Role::ALL.map(Role::word)).try_map(|word| word.parse::<Role>())
    )]
    role: Vec<Role>,
}

impl Roles {
    /// Each once.
    pub(crate) fn all(&self) -> BTreeSet<Role> {
        self.role.iter().copied().collect()
    }
}

/// The first account of a new server.
#[derive(Debug, Args)]
pub(crate) struct SetUp {
    /// The name of the first admin.
    pub(crate) name: String,
    /// File with the set-up secret, which the server keeps until then; `-`: it is the first line of standard input.
    #[arg(long, default_value = "/var/lib/fettle/setup.secret", value_name = "FILE")]
    pub(crate) secret_file: PathBuf,
    /// Read the password from standard input, one line, in place of asking.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// Accounts: people who come by a name and a password, and how they come.
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Add somebody. Their password is asked for twice, without being shown.
    Add {
        /// Their name; nobody else has or had it.
        name: String,
        #[command(flatten)]
        roles: Roles,
        /// Read the password from standard input, one line, in place of asking.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set or change a password: somebody's, or without a name one's own. All their sessions end.
    Password {
        /// Whose; without it one's own, and the one until now is asked for first.
        name: Option<String>,
        /// Read from standard input, a line each, in place of asking: one's own until now, then the new one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// All accounts: what they may do, how they come, when they last did.
    List,
    /// One's own account, and its sessions.
    Show,
    /// End all one's own sessions of the web pages.
    LogOut,
    /// Somebody may do nothing until they are enabled again: neither password nor token is good, and their sessions end.
    Disable {
        /// Their name.
        name: String,
    },
    /// Somebody who was disabled may again what their roles say.
    Enable {
        /// Their name.
        name: String,
    },
}
