//! Operators, tokens for hosts, the ledger.

use fettle_core::host::Labels;
use fettle_core::operator::Role;
use fettle_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// Make a one-time enrolment token.
    pub struct MakeToken {
        /// Labels that the host gets.
        #[serde(default)]
        pub labels: Labels,
        /// Seconds until it expires, 60 to 86,400.
        pub ttl_seconds: u64,
    }

    /// The token. It is shown once.
    pub struct TokenMade {
        /// Give this to `fettle-agent enroll`.
        pub token: String,
        /// When it expires.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub expires_at: Timestamp,
    }

    /// An operator.
    pub struct OperatorRow {
        /// Unique for ever.
        pub name: String,
        /// What they may do: `viewer`, `operator`, `approver`, `admin`.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub roles: BTreeSet<Role>,
        /// `good`, `expired`, `disabled` or `revoked`.
        pub state: String,
        /// When they were added.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub created_at: Timestamp,
        /// By whom.
        pub created_by: String,
        /// From when on their token is worth nothing.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub expires_at: Option<Timestamp>,
        /// Since when they may do nothing any more.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub revoked_at: Option<Timestamp>,
        /// Who revoked them.
        pub revoked_by: Option<String>,
    }

    /// Add an operator.
    pub struct AddOperator {
        /// Lower-case letters, digits, `.`, `_`, `@` and `-`; never had by another one.
        pub name: String,
        /// At least one of `viewer`, `operator`, `approver`, `admin`.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub roles: BTreeSet<Role>,
        /// Seconds until the token expires, 60 to 315,360,000 (ten years). Not given: it does not.
        pub expires_seconds: Option<u64>,
    }

    /// Give an operator a new token.
    pub struct RenewOperator {
        /// Seconds until it expires, 60 to 315,360,000 (ten years). Not given: it does not.
        pub expires_seconds: Option<u64>,
    }

    /// The operator and their token. It is shown once.
    pub struct OperatorAdded {
        /// As in the list.
        pub operator: OperatorRow,
        /// Give this to the person, and to nobody else.
        pub token: String,
    }

    /// The ledger holds together, or where it does not.
    pub struct LedgerVerified {
        /// Entries that hold.
        pub entries: u64,
        /// Hash of the last of them.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub head: Digest,
        /// What is broken, if anything.
        pub broken: Option<String>,
    }
}
