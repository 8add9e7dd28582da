//! Plans of small fleets, by hand; and what must hold for any fleet.

mod alone;
mod approvals;
mod difference;
mod document;
pub(crate) mod fleet;
mod hosts;
mod order_tree;
mod properties;
mod report;
mod strategies;
mod waves;
