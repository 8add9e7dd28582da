//! Plans of small fleets, by hand; and what must hold for any fleet.

mod alone;
mod approvals;
pub(crate) mod fleet;
mod hosts;
mod properties;
mod strategies;
mod waves;
