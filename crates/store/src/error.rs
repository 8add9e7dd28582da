//! What can go wrong with the database, and what to do about it.

use fettle_core::{Problem, ProblemKind};
use std::path::PathBuf;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process or a long transaction holds the database.
    #[error(
        "the database is locked: another program has been writing to it for more than {waited_seconds} s"
    )]
    Locked {
        /// How long was waited.
        waited_seconds: u64,
    },
    /// Another server has taken the database since.
    #[error("another server has taken this database over (term {term}; this one had term {mine})")]
    Superseded {
        /// The term of this server.
        mine: u64,
        /// The term in force.
        term: u64,
    },
    /// The file or its directory cannot be written.
    #[error("the database cannot be written: {detail}")]
    ReadOnly {
        /// SQLite's words.
        detail: String,
    },
    /// No space left.
    #[error("the disk with the database is full")]
    Full,
    /// The file does not hold together.
    #[error("the database is damaged: {detail}")]
    Corrupt {
        /// What SQLite found.
        detail: String,
    },
    /// The file cannot be opened.
    #[error("the database {} cannot be opened: {detail}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// Written by a later version of Fettle.
    #[error("the database has schema {found}, this program knows schemas up to {known}")]
    NewerSchema {
        /// In the file.
        found: u32,
        /// In this program.
        known: u32,
    },
    /// SQLite older than 3.51.3 has a race in its WAL that corrupts.
    #[error("SQLite {found} is too old: 3.51.3 or newer is needed")]
    OldSqlite {
        /// The version linked.
        found: String,
    },
    /// The state changed meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The host has an order with that generation already: this one cannot be written, however often it is tried.
    #[error("host {host} has generation {generation} already, by assignment {by}")]
    GenerationTaken {
        /// Which host.
        host: String,
        /// The number that is taken.
        generation: u64,
        /// By what.
        by: String,
    },
    /// The thing is already there.
    #[error("{0}")]
    Exists(String),
    /// The thing named is not there.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// `host`, `rollout`, ...
        what: &'static str,
        /// As asked for.
        name: String,
    },
    /// A stored document cannot be read.
    #[error("the stored {what} cannot be read: {detail}")]
    Document {
        /// Which sort.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// A write that leaves no trace in the ledger: a defect of Fettle.
    #[error("a change was about to be made without a ledger entry")]
    Unrecorded,
    /// Anything else SQLite says.
    #[error("database: {0}")]
    Sql(rusqlite::Error),
}

/// How long a writer waits for another one, in seconds.
pub(crate) const BUSY_SECONDS: u64 = 5;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
                Self::Locked { waited_seconds: BUSY_SECONDS }
            }
            Some(Code::ReadOnly | Code::PermissionDenied) => Self::ReadOnly { detail },
            Some(Code::DiskFull) => Self::Full,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => Self::Corrupt { detail },
            _ => Self::Sql(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        use ProblemKind as Kind;
        let (kind, code, hint) = match &error {
            StoreError::Locked { .. } => (
                Kind::Unavailable,
                "database-locked",
                "end the program that holds it (`fuser DATA/fettle.db` names it) and try again",
            ),
            StoreError::Superseded { .. } => (
                Kind::Unavailable,
                "superseded",
                "nothing was written; ask the other server, and see to it that only one is started with this data directory",
            ),
            StoreError::ReadOnly { .. } => (
                Kind::Environment,
                "database-read-only",
                "give the user that runs `fettle server` write permission on the data directory and on everything in it",
            ),
            StoreError::Full => (
                Kind::Environment,
                "database-full",
                "free space on the disk with the data directory: nothing was lost, no host is started until then",
            ),
            StoreError::Corrupt { .. } => (
                Kind::Environment,
                "database-damaged",
                "stop the server, keep the damaged file, and put the latest backup in its place",
            ),
            StoreError::Open { .. } => (
                Kind::Environment,
                "database-open",
                "check that the data directory exists and belongs to this user",
            ),
            StoreError::NewerSchema { .. } => (
                Kind::Environment,
                "database-newer",
                "run the newer version of fettle that wrote it",
            ),
            StoreError::OldSqlite { .. } => {
                (Kind::Environment, "sqlite-old", "use a build of fettle with its own SQLite")
            }
            StoreError::Conflict(_) => {
                (Kind::Conflict, "changed-meanwhile", "look at it again and repeat the command")
            }
            StoreError::GenerationTaken { .. } => (
                Kind::Conflict,
                "generation-taken",
                "the host has told of a generation that no order had: look at it, and enrol it anew",
            ),
            StoreError::Exists(_) => (Kind::Conflict, "already-there", "choose another name"),
            StoreError::Missing { .. } => {
                (Kind::NotFound, "not-found", "list what is there and check the spelling")
            }
            StoreError::Document { .. } | StoreError::Unrecorded | StoreError::Sql(_) => (
                Kind::Internal,
                "database",
                "this is a defect of Fettle: please report it with the server's log",
            ),
        };
        Problem::new(kind, code, &error, hint)
    }
}
