//! Plans: made, tested on twins, approved.

use crate::plan_key::{PlanKey, SignedKeySet};
use fettle_core::plan::approval::ApprovalVerdict;
use fettle_core::plan::{Plan, PlanReport};
use fettle_core::testbed::{Covered, TestState, Work};
use fettle_core::{Digest, Hold, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

dto! {
    /// Make a plan by a policy, now.
    pub struct MakePlan {
        /// Policy name.
        pub policy: String,
        /// Only these hosts (ids or names); empty: all of the policy.
        #[serde(default)]
        pub hosts: Vec<String>,
    }

    /// A plan.
    pub struct PlanDetail {
        /// Its number.
        pub number: u64,
        /// Its digest.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub digest: Digest,
        /// Who made it: `admin` for the server's own token, whatever name its holder gave.
        pub made_by: String,
        /// How many approvals it needs, who gave one, and why one does not count.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub approvals: ApprovalVerdict,
        /// Everything in it, with what is held and why.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub plan: Plan,
        /// Ring 0: how much of it was tested on twins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tests: Option<PlanTests>,
        /// How it stands with the signatures that hosts ask for. `None`: they ask for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub signing: Option<PlanSigning>,
        /// What somebody wants to know of it before they approve it. Not in lists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub report: Option<PlanReport>,
    }

    /// How a plan stands with operators' signatures.
    pub struct PlanSigning {
        /// Version of the plan keys in force.
        pub version: u64,
        /// `2 of 3`; where one key is enough, that this is weaker.
        pub label: String,
        /// Signatures that hold.
        pub given: u32,
        /// Signatures that hosts ask for.
        pub needed: u32,
        /// Each, by key.
        pub signatures: Vec<PlanSignatureRow>,
    }

    /// What one operator signed of a plan.
    pub struct PlanSignatureRow {
        /// Whose key it is.
        pub name: String,
        /// The public key, base64.
        pub key: String,
        /// When it was signed.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub signed_at: Timestamp,
        /// No host begins after.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub expires_at: Timestamp,
        /// Why it does not count.
        pub not: Option<String>,
    }

    /// The plan keys in force.
    pub struct PlanKeys {
        /// Its version; 0: there is none, and hosts ask for no signature.
        pub version: u64,
        /// So many of them must have signed a plan.
        pub threshold: u32,
        /// `2 of 3`; where one key is enough, that this is weaker.
        pub label: String,
        /// The keys.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub keys: Vec<PlanKey>,
        /// As it was signed: what hosts follow, and what `fettle-agent keys pin` reads.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub signed: Option<SignedKeySet>,
    }

    /// How much of a plan was tested on twins.
    pub struct PlanTests {
        /// The plan's number.
        pub plan: u64,
        /// Its policy requires it: no host is touched before.
        pub required: bool,
        /// Works of the plan: these changes, on hosts of that cohort.
        pub cohorts: u32,
        /// Of those, with a good test.
        pub cohorts_tested: u32,
        /// Hosts of the plan.
        pub hosts: u32,
        /// Of those, of a cohort with a good test.
        pub hosts_covered: u32,
        /// Share of the hosts that is covered, in percent: 100 means all.
        pub percent: u32,
        /// Why the first host may not be touched, where tests are required. `None`: each work has a good test.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
        pub hold: Option<Hold>,
        /// Each work, the one with the most hosts first.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub works: Vec<Covered>,
        /// The newest test of each.
        pub tests: Vec<TestRow>,
    }

    /// A test on a twin.
    pub struct TestRow {
        /// 1, 2, 3, ...
        pub number: u64,
        /// What is tested.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub work: Work,
        /// The plan that it was asked for.
        pub plan: u64,
        /// What people call the host that the twin is made after.
        pub like: String,
        /// When it was asked for.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub asked_at: Timestamp,
        /// By whom: `server` where a policy asked for it.
        pub asked_by: String,
        /// The worker that was told.
        pub worker: Option<String>,
        /// Where it stands, and what came of it.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub state: TestState,
    }

    /// Have a plan's cohorts, or one host, tested on twins.
    pub struct RunTests {
        /// Also those whose last test did not end well.
        #[serde(default)]
        pub again: bool,
    }

    /// Approve a plan that somebody else made.
    pub struct ApprovePlan {
        /// The plan's digest as it was seen: refused when it is another.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub digest: Digest,
        /// In a few words; goes to the ledger.
        #[serde(default)]
        pub comment: String,
    }
}
