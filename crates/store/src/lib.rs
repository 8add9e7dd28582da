//! The only crate with SQL: everything the server must not forget, in one SQLite file.
//!
//! A synchronous layer. [`Store::write`] runs one whole transaction; the functions of the table modules
//! ([`hosts`], [`rollouts`], ...) take a [`Tx`] where they change something and a [`View`] where they only
//! look. Whatever changes by decision leaves its entry in the hash-chained ledger *in the same
//! transaction*: a write that changed rows and recorded nothing is refused at commit.

mod cohorts;
mod copy;
mod error;
mod examine;
mod migrations;
mod store;
mod tables;
mod view;

pub use copy::copy;
pub use error::StoreError;
pub use examine::{Examined, examine, look_at};
pub use store::{Store, StoreOptions};
pub use tables::{
    accounts, approvals, assignments, barred, cycles, deliveries, emergencies, feed_sources, feeds,
    findings, hosts, judged, ledger, operators, plan_keys, planning, plans, policies, recalls,
    report_schedules, rollouts, saved_views, sessions, settings, summaries, tests, tokens,
    transactions,
};
pub use view::{Tx, View};
