//! Accounts: people with a password, and their sessions.

use fettle_core::Timestamp;
use fettle_core::login::Way;
use fettle_core::operator::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A password on its way. It is printed nowhere, not even where everything is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

dto! {
    /// An operator, and how they come.
    pub struct AccountRow {
        /// Unique for ever.
        pub name: String,
        /// What they may do: `viewer`, `auditor`, `operator`, `approver`, `admin`.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub roles: BTreeSet<Role>,
        /// `good`, `disabled` or `revoked`.
        pub state: String,
        /// Since when they are disabled or revoked.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub state_since: Option<Timestamp>,
        /// Who disabled or revoked them.
        pub state_by: Option<String>,
        /// When their password was set. Not there: they have none.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub password_set_at: Option<Timestamp>,
        /// Do they have a token?
        pub has_token: bool,
        /// From when on the token is worth nothing.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub token_expires_at: Option<Timestamp>,
        /// When they last logged in to the web pages.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub last_log_in_at: Option<Timestamp>,
        /// Sessions that have not ended.
        pub sessions: u64,
        /// When they were added.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub created_at: Timestamp,
        /// By whom.
        pub created_by: String,
    }

    /// Add somebody who comes by a password.
    pub struct AddAccount {
        /// Lower-case letters, digits, `.`, `_`, `@` and `-`; never had by another one.
        pub name: String,
        /// At least one of `viewer`, `auditor`, `operator`, `approver`, `admin`.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub roles: BTreeSet<Role>,
        /// 12 to 256 characters.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub password: Secret,
    }

    /// Make the first account: an admin's.
    pub struct SetUp {
        /// What the server keeps in `setup.secret` in its data directory.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub secret: Secret,
        /// Lower-case letters, digits, `.`, `_`, `@` and `-`.
        pub name: String,
        /// 12 to 256 characters.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub password: Secret,
    }

    /// Give somebody a password.
    pub struct SetPassword {
        /// 12 to 256 characters.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub password: Secret,
    }

    /// Change one's own password.
    pub struct ChangePassword {
        /// The one until now.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub current: Secret,
        /// 12 to 256 characters.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
        pub new: Secret,
    }

    /// A session of the web pages.
    pub struct SessionRow {
        /// How it was begun: `password`, `token` or `server-token`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub way: Way,
        /// When.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub began_at: Timestamp,
        /// When it was last used, to a minute.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub seen_at: Timestamp,
        /// When it ends, unless it is used before.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub ends_at: Timestamp,
        /// From where.
        pub address: String,
        /// What the browser says that it is.
        pub browser: String,
        /// It is the one that asks.
        pub this: bool,
    }

    /// Who asks, and how they come.
    pub struct OwnAccount {
        /// The principal. The holder of the server's own token is `admin`.
        pub name: String,
        /// What they may do.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        pub roles: BTreeSet<Role>,
        /// As the list of accounts has them; the holder of the server's own token is not in it.
        pub account: Option<AccountRow>,
        /// Their sessions, the newest first.
        pub sessions: Vec<SessionRow>,
    }
}
