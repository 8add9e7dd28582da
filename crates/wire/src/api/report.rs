//! What a period was like.

use fettle_core::Timestamp;
use fettle_core::report::{ExceptionLine, Owed, RolloutSummary, RolloutTotals};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// A report of a period.
    pub struct Report {
        /// When it was made.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub made_at: Timestamp,
        /// First moment of the period.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub from: Timestamp,
        /// The moment after its last.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub to: Timestamp,
        /// Only this policy's hosts. `null`: the whole fleet.
        pub policy: Option<String>,
        /// What is owed and what was done: compliance by policy and class, times, what is overdue and why, the trend.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub owed: Owed,
        /// Sums over the rollouts.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub rollout_totals: RolloutTotals,
        /// Rollouts that were under way in the period, newest first.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub rollouts: Vec<RolloutSummary>,
        /// What policies except, what has ended or ends soonest first.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub exceptions: Vec<ExceptionLine>,
    }
}

dto! {
    /// The key that evidence packs are signed with.
    pub struct EvidenceKey {
        /// Ed25519, 32 bytes in base64.
        pub key: String,
    }
}
