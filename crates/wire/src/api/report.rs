//! What a period was like.

use fettle_core::report::schedule::Schedule;
use fettle_core::report::{ExceptionLine, Owed, RolloutSummary, RolloutTotals};
use fettle_core::{Hold, Timestamp};
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
    /// A report that the server makes by itself.
    pub struct ScheduleRow {
        /// Its name.
        pub name: String,
        /// When, of which period, as what, where to; of the webhook's address without what may be secret in it.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        pub schedule: Schedule,
        /// The server's directory that its reports are kept in. `null`: none is kept.
        pub directory: Option<String>,
        /// When it was set.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub set_at: Timestamp,
        /// Who set it.
        pub set_by: String,
        /// The newest report. `null`: none was made.
        pub last: Option<ReportRun>,
        /// When the next is due. `null`: not within a year.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub next_at: Option<Timestamp>,
        /// What stands in the way: of the next report, of a format of the last one, of its way to the webhook.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        pub holds: Vec<Hold>,
    }

    /// A report that was made on a schedule.
    pub struct ReportRun {
        /// When it was due.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub due: Timestamp,
        /// When it was made.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub made_at: Timestamp,
        /// So many that were due before it were not made, because no server was there: it stands for them.
        pub missed: u32,
        /// First moment of its period.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub from: Timestamp,
        /// The moment after its last.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub to: Timestamp,
        /// Its files, below the server's directory of reports.
        pub files: Vec<String>,
        /// Has the webhook taken it? `null`: it goes to none.
        pub arrived: Option<bool>,
    }

    /// What is sent to a webhook and has not arrived.
    pub struct DeliveryRow {
        /// The message's id (`webhook-id`).
        pub id: String,
        /// Type of the message: `report.made`.
        pub kind: String,
        /// What it is about: the name of the schedule.
        pub subject: String,
        /// Where it goes, without what may be secret in the address.
        pub to: String,
        /// Size of its body.
        pub bytes: u64,
        /// When it was made.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
        pub made_at: Timestamp,
        /// Times it was tried.
        pub tries: u32,
        /// When it is tried again. `null`: it is dead, and waits for a person.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub next_at: Option<Timestamp>,
        /// Since when it is dead.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
        pub dead_at: Option<Timestamp>,
        /// Why the last try failed.
        pub error: Option<String>,
    }
}

dto! {
    /// The key that evidence packs are signed with.
    pub struct EvidenceKey {
        /// Ed25519, 32 bytes in base64.
        pub key: String,
    }
}
