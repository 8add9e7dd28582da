//! What answers look like as tables.

pub(crate) mod account;
pub(crate) mod feed;
pub(crate) mod finding;
pub(crate) mod host;
pub(crate) mod operator;
pub(crate) mod package;
pub(crate) mod plan;
pub(crate) mod plan_report;
pub(crate) mod planning;
pub(crate) mod policy;
pub(crate) mod recall;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod schedule;
pub(crate) mod testbed;
