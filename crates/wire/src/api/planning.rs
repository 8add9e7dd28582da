//! What policies do by themselves: cycles at their time, emergencies at once.

use fettle_core::cycle::CycleRun;
use fettle_core::emergency::{Declared, EmergencyPlan};
use fettle_core::policy::CycleStart;
use fettle_core::{Hold, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// The cycle of a policy.
    pub struct CycleRow {
        /// Its policy.
        pub policy: String,
        /// Who starts the rollout: `propose` (a person) or `automatic` (the server, once it is approved).
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub start: CycleStart,
        /// When it comes due next. `null`: not within a year.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub next_due: Option<Timestamp>,
        /// What the run at hand waits for. Empty: no run is at hand.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub holds: Vec<Hold>,
        /// What went wrong, where nobody has said yet that it may go on.
        pub failed: Option<String>,
        /// The newest runs, newest first, each with how it stands or ended.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub runs: Vec<CycleRun>,
    }

    /// What cannot wait.
    pub struct Emergencies {
        /// Vulnerabilities that operators declared emergencies.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub declared: Vec<Declared>,
        /// What calls now, by policy: open findings of an emergency class, or declared ones.
        pub calling: Vec<CallRow>,
        /// The plans that were made for what called, newest first.
        pub plans: Vec<EmergencyPlanRow>,
    }

    /// What calls on the hosts of a policy.
    pub struct CallRow {
        /// Which policy.
        pub policy: String,
        /// On how many hosts.
        pub hosts: u64,
        /// What.
        pub findings: BTreeSet<String>,
    }

    /// A plan that was made because something could not wait.
    pub struct EmergencyPlanRow {
        /// What it is for, and where it stands.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        #[serde(flatten)]
        pub plan: EmergencyPlan,
        /// What it waits for. `null`: nothing more of it is waited for.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub waiting: Option<Hold>,
    }

    /// Declare that a vulnerability cannot wait.
    pub struct DeclareEmergency {
        /// `CVE-2024-3094`.
        pub finding: String,
        /// Why; goes to the ledger.
        pub reason: String,
        /// For how many seconds it holds, 60 to 2,592,000 (30 days).
        pub seconds: u64,
    }
}

/// Nothing.
#[allow(clippy::derivable_impls)]
impl Default for Emergencies {
    fn default() -> Self {
        Self { declared: Vec::new(), calling: Vec::new(), plans: Vec::new() }
    }
}
