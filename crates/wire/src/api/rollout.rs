//! Rollouts: started, led, watched.

use fettle_core::plan::approval::Approval;
use fettle_core::rollout::{HostRun, Judged, Phase, RolloutEvent, Waiting};
use fettle_core::transaction::{Progress, StepFacts};
use fettle_core::{Digest, HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// Start a rollout.
    pub struct StartRollout {
        /// Plan number.
        pub plan: u64,
        /// The plan's digest as it was seen: refused when it is another.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        pub digest: Option<Digest>,
    }

    /// Why an operator does something.
    pub struct Because {
        /// In a few words; goes to the ledger.
        #[serde(default)]
        pub reason: String,
        /// For `undo`: only these hosts (ids or names); empty: every patched host of the rollout.
        #[serde(default)]
        pub hosts: Vec<String>,
        /// For `undo`: only the hosts of this wave, counted from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub wave: Option<u32>,
    }

    /// Let the next wave of a rollout begin.
    pub struct ApproveWave {
        /// Which wave may begin, counted from 0.
        pub wave: u32,
        /// In a few words; goes to the ledger.
        #[serde(default)]
        pub comment: String,
    }

    /// A rollout in a list.
    pub struct RolloutRow {
        /// Id.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub id: RolloutId,
        /// Policy.
        pub policy: String,
        /// Plan number.
        pub plan: u64,
        /// Where it stands.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub phase: Phase,
        /// Wave at work, counted from 0.
        pub wave: u32,
        /// Waves in all.
        pub waves: u32,
        /// Hosts by state word.
        pub hosts_by_state: BTreeMap<String, u64>,
        /// When it was started.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub created_at: Timestamp,
        /// By whom.
        pub created_by: String,
        /// When it ended.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub ended_at: Option<Timestamp>,
    }

    /// A rollout, whole.
    pub struct RolloutDetail {
        /// As in the list.
        pub row: RolloutRow,
        /// The approvals that counted when it was started.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub approvals: Vec<Approval>,
        /// Its waves with their rings and hosts.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub waves: Vec<fettle_core::plan::Wave>,
        /// How many hosts of each wave are in each state, by state word.
        #[serde(default)]
        pub wave_counts: Vec<BTreeMap<String, u64>>,
        /// Its hosts.
        pub hosts: Vec<RolloutHost>,
        /// Blue/green: the hosts of both pools, and what they have of the traffic.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub traffic: Vec<RolloutTraffic>,
        /// What it waits for, and why.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub waiting: Vec<Waiting>,
        /// What the gate at work makes of what it asks, as it stands. Empty: it asks nothing, or it has not come to that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub gate: Vec<Judged>,
        /// Its events, oldest first, with their times. At most the last 500.
        pub events: Vec<RolloutEventRow>,
    }

    /// A host of a pool, and what it has of the traffic.
    pub struct RolloutTraffic {
        /// What people call the host.
        pub name: String,
        /// `blue`, `green`.
        pub pool: String,
        /// Percent of its weight that it was last told to take. `None`: it was told nothing yet.
        pub share: Option<u32>,
        /// What came of that: `asked`, `set`, `failed`. Empty: nothing was asked.
        pub state: String,
    }

    /// One host of a rollout.
    pub struct RolloutHost {
        /// Id.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub id: HostId,
        /// Name.
        pub name: String,
        /// Where it stands.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub run: HostRun,
        /// Its transaction, as far as reported.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub transaction: Option<Progress>,
        /// What the steps found: step word → facts.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub steps: BTreeMap<String, StepFacts>,
    }

    /// An event with its time.
    pub struct RolloutEventRow {
        /// 1, 2, 3, ...
        pub version: u64,
        /// When.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub at: Timestamp,
        /// What.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub event: RolloutEvent,
    }
}
