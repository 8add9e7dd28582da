//! One module for each group of tables: the operations on it, in the words of the product.

pub mod accounts;
pub mod approvals;
pub mod assignments;
pub mod barred;
pub mod cycles;
pub mod deliveries;
pub mod emergencies;
pub mod feed_sources;
pub mod feeds;
pub mod findings;
pub mod hosts;
pub mod ledger;
pub mod operators;
pub mod plan_keys;
pub mod plans;
pub mod policies;
pub mod recalls;
pub mod report_schedules;
pub mod rollouts;
pub mod saved_views;
pub mod sessions;
pub mod settings;
pub mod summaries;
pub mod tests;
pub mod tokens;
pub mod transactions;
