//! What is wrong with a server, and what to do.

use fettle_core::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, and somebody should look.
    Odd,
    /// Something is not done until somebody acts.
    Bad,
}

dto! {
    /// One thing that was looked at.
    pub struct Symptom {
        /// How bad it is.
        pub level: Level,
        /// What was looked at: `data`, `disk`, `database`, `ledger`, `certificates`, `clock`, `listeners`, `feeds`,
        /// `hosts`, `rollouts`, `backups`.
        pub part: String,
        /// What was found.
        pub what: String,
        /// What to do. Empty where it is good.
        pub hint: String,
    }

    /// What a look at the server found, the worst first.
    pub struct Health {
        /// When it looked.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub at: Timestamp,
        /// Everything that was looked at.
        pub symptoms: Vec<Symptom>,
    }
}
