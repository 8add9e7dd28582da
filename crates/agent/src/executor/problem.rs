//! What a person or a program is told when a transaction could not be carried on.

use super::ExecutorError;
use crate::journal::JournalError;
use fettle_core::{Problem, ProblemKind};
use std::io::ErrorKind;

impl From<ExecutorError> for Problem {
    fn from(error: ExecutorError) -> Self {
        use ExecutorError::{Busy, Illegal, Journal, Lost, OtherContent, State, Unfinished};
        use JournalError::{InUse, Io, Record, Version};
        use ProblemKind::{Environment, Internal, Refused};
        const LOOK: &str = "fettle-agent status";
        const TAKE_UP: &str = "fettle-agent resume";
        let (kind, code, hint) = match &error {
            Busy { .. } | Journal(InUse(_)) => (Refused, "busy", LOOK),
            Unfinished(_) => (Refused, "unfinished", TAKE_UP),
            OtherContent(_) => (Refused, "other-content", LOOK),
            Lost(_) | Illegal { .. } => (Refused, "journal-lost", LOOK),
            Journal(Version { .. }) => (Refused, "journal-newer", LOOK),
            Journal(Record { .. }) => (Internal, "journal-io", TAKE_UP),
            Journal(Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                (Environment, "journal-io", "free some space, then fettle-agent resume")
            }
            Journal(Io { .. }) => {
                (Environment, "journal-io", "look at dmesg, then fettle-agent resume")
            }
            State { .. } => (Environment, "state-unusable", LOOK),
        };
        Self::new(kind, code, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::TransactionId;
    use fettle_core::transaction::IllegalEntry;
    use std::io;
    use std::path::PathBuf;

    #[test]
    fn each_reason_why_a_transaction_cannot_be_carried_on_has_a_code_and_says_what_to_type() {
        let id = || TransactionId::new("tx-1");
        let path = || PathBuf::from("/var/lib/fettle-agent/transactions/tx-1/journal");
        let io =
            |kind| JournalError::Io { what: "write", path: path(), source: io::Error::from(kind) };
        let record = <serde_json::Error as serde::de::Error>::custom("no");
        let all: [(ExecutorError, &str, &str, u8); 11] = [
            (ExecutorError::Busy { process: 4 }, "busy", "status", 7),
            (JournalError::InUse(path()).into(), "busy", "status", 7),
            (ExecutorError::Unfinished(id()), "unfinished", "resume", 7),
            (ExecutorError::OtherContent(id()), "other-content", "status", 7),
            (ExecutorError::Lost(id()), "journal-lost", "status", 7),
            (
                ExecutorError::Illegal {
                    id: id(),
                    source: IllegalEntry::Gap { expected: 1, found: 2 },
                },
                "journal-lost",
                "status",
                7,
            ),
            (
                JournalError::Version { path: path(), found: "2".into() }.into(),
                "journal-newer",
                "status",
                7,
            ),
            (
                JournalError::Record { path: path(), source: record }.into(),
                "journal-io",
                "resume",
                1,
            ),
            (io(ErrorKind::StorageFull).into(), "journal-io", "free some space", 9),
            (io(ErrorKind::ReadOnlyFilesystem).into(), "journal-io", "dmesg", 9),
            (
                ExecutorError::State { path: path(), source: ErrorKind::PermissionDenied.into() },
                "state-unusable",
                "status",
                9,
            ),
        ];
        for (error, code, hint, exit) in all {
            let problem = Problem::from(error);
            assert_eq!(problem.code, code, "{problem}");
            assert!(problem.hint.contains(hint), "{problem}: {}", problem.hint);
            assert_eq!(problem.kind.exit_code(), exit, "{problem}");
        }
    }
}
