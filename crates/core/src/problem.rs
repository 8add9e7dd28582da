//! The one error type that crosses a boundary to a person or a program: CLI, API, web.
//!
//! Inside the rooms each operation has a precise enum; at the boundary it becomes a [`Problem`] with a
//! kind (which decides exit code and HTTP status) and a hint (what to do next).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What sort of thing went wrong. Decides the exit code and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A defect of Fettle itself.
    Internal,
    /// The command or request was not understood.
    Usage,
    /// The thing named does not exist.
    NotFound,
    /// The state changed meanwhile, or the thing is already there.
    Conflict,
    /// A policy, feed, inventory or other document is malformed.
    BadInput,
    /// Who asks is not known, or may not do this.
    Forbidden,
    /// A guard said no: a transaction refused, a rollout halted, an assignment not believed.
    Refused,
    /// Something needed is not there right now: server not reachable, database locked, port taken.
    Unavailable,
    /// The machine lacks something: root, space, a program.
    Environment,
    /// What was asked cannot be said: the data for it are missing or too old. Never to be taken for "nothing is wrong".
    NoData,
}

impl ProblemKind {
    /// Process exit code. 0 is success, 2 is what command-line parsers use for usage.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::BadInput => 5,
            Self::Forbidden => 6,
            Self::Refused => 7,
            Self::Unavailable => 8,
            Self::Environment => 9,
            Self::NoData => 10,
        }
    }

    /// HTTP status code (RFC 9110) of the API's answer.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Internal => 500,
            Self::Usage => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::BadInput => 422,
            Self::Forbidden => 403,
            Self::Refused => 409,
            Self::Unavailable => 503,
            Self::Environment => 507,
            Self::NoData => 503,
        }
    }
}

/// An error for people and programs: what failed, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Decides exit code and HTTP status.
    pub kind: ProblemKind,
    /// A stable word for programs and for the documentation page: `policy-unknown-key`.
    pub code: String,
    /// What failed and where, in one sentence without a full stop.
    pub message: String,
    /// What to do next: best of all, a command to type.
    pub hint: String,
}

impl Problem {
    /// A problem of `kind` with its code (one of [`crate::code::CODES`]), message and hint.
    pub fn new(
        kind: ProblemKind,
        code: &str,
        message: impl fmt::Display,
        hint: impl fmt::Display,
    ) -> Self {
        debug_assert!(
            crate::code::is_known(code),
            "`{code}` is no code of core::code: add it, and its page"
        );
        Self { kind, code: code.to_owned(), message: message.to_string(), hint: hint.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Problem {}
