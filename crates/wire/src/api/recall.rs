//! Recalls: versions that nobody is to get.

use fettle_core::recall::Recall;
use fettle_core::rollout::Phase;
use fettle_core::{HostId, RolloutId};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// A version that nobody is to get any more.
    pub struct MakeRecall {
        /// Binary package; `*` and `?` are globs.
        pub package: String,
        /// Exactly this version.
        pub version: String,
        /// Why; goes to the ledger, and to whoever is stopped by it.
        pub reason: String,
        /// Take it back as well from the hosts that a rollout has brought it to.
        #[serde(default)]
        pub undo: bool,
    }

    /// A recall in a list.
    pub struct RecallRow {
        /// What was recalled, by whom and why.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub recall: Recall,
        /// Hosts that have the version.
        pub hosts: u64,
        /// Hosts that are offered it.
        pub offered: u64,
    }

    /// A recall, with whom it concerns.
    pub struct RecallDetail {
        /// What was recalled.
        pub row: RecallRow,
        /// Hosts that have the version, by name.
        pub hosts: Vec<RecalledHost>,
        /// Rollouts that have it in their plan and have not ended.
        pub rollouts: Vec<RecalledRollout>,
    }

    /// A host that has a recalled version.
    pub struct RecalledHost {
        /// Id.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub host: HostId,
        /// Name.
        pub name: String,
        /// Its packages in that version.
        pub packages: Vec<String>,
        /// The rollout that brought it, and can take it back. `None`: it came in another way.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        pub rollout: Option<RolloutId>,
        /// It is being taken back.
        pub undoing: bool,
        /// Why it is not taken back, where that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub not_undone: Option<String>,
    }

    /// A rollout with a recalled version in its plan.
    pub struct RecalledRollout {
        /// Id.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub id: RolloutId,
        /// Where it stands.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub phase: Phase,
        /// Hosts that would still get the version.
        pub waiting: u64,
        /// Hosts that are getting it now: they had begun before it was recalled, and whoever has begun goes on to its end.
        /// Once they have it they can be undone.
        #[serde(default, skip_serializing_if = "is_none_of_them")]
        pub at_work: u64,
    }
}

fn is_none_of_them(hosts: &u64) -> bool {
    *hosts == 0
}
